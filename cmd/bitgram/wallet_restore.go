package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) walletRestore() *cobra.Command {
	var file string
	var words, open bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a home out of a backup",
		Long: "Makes the home that --home names out of a backup. What was under way then goes on, as far as it is\n" +
			"safe: messages that were not paid for yet are given up, since they may have been sent since, and\n" +
			"quotes are void. What was done after the backup was made is found on the chain where it left a\n" +
			"trace there: coins, and received messages. Do not run the old home again.\n\n" +
			"The backup is opened by the passphrase that its home had. With --words it is opened by the 24 words\n" +
			"instead, from standard input, and the new home gets a new passphrase.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.at()
			if err != nil {
				return err
			}
			f, _, err := openInput(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			release, err := a.lock(h)
			if err != nil {
				return err
			}
			defer release()
			keys, err := h.Restore(f, func(k *home.Keys) ([]byte, *home.Keys, error) {
				if words {
					return a.byWords(k, file, open)
				}
				pass := ""
				if k.Encrypted() {
					if pass, err = a.passphrase(file, "Passphrase of the home in the backup", false); err != nil {
						return nil, nil, err
					}
				}
				entropy, err := k.Open(pass)
				return entropy, k, err
			}, func(entropy []byte) ([]byte, error) {
				seed, _, err := node.Identity(wire.Network(a.network), entropy)
				return seed, err
			}, func(db string) error { return node.MarkRestored(c.Context(), db) })
			if err != nil {
				return err
			}
			id, err := identity(keys)
			if err != nil {
				return err
			}
			a.print.summary(struct {
				api.Identity
				Home string `json:"home"`
			}{id, h.Dir}, func(w io.Writer) { fmt.Fprintf(w, "Restored %s to %s.\n\nNext: bitgram up\n", id.Address, h.Dir) })
			return nil
		},
	}
	c.Flags().StringVar(&file, "passphrase-file", "", "read the passphrase from the first line of this file (or set BITGRAM_PASSPHRASE)")
	c.Flags().BoolVar(&words, "words", false, "read the 24 words from standard input instead, and set a new passphrase")
	c.Flags().BoolVar(&open, "no-passphrase", false, "with --words, leave the seed on the disk as it is, for whoever reads the disk")
	return c
}

// byWords opens a backup for who has its words and not its passphrase, which is
// why the key file is sealed anew.
func (a *app) byWords(k *home.Keys, file string, open bool) ([]byte, *home.Keys, error) {
	if a.tty() {
		fmt.Fprintln(a.err, "The words, in one line:")
	}
	line, err := firstLine(a.in)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errInput, err)
	}
	entropy, err := wallet.Entropy(line)
	if err != nil {
		return nil, nil, err
	}
	if _, address, err := node.Identity(k.Network, entropy); err != nil {
		return nil, nil, err
	} else if address != k.Address {
		return nil, nil, fmt.Errorf("%w: these are the words of %s, and the backup is of %s", home.ErrPassphrase, address, k.Address)
	}
	pass, err := a.newPassphrase(file, open)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := home.NewKeys(k.Network, k.Address, k.Created, entropy, pass)
	return entropy, sealed, err
}
