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
		Short: "Create a home from a backup",
		Long: "Creates the home that --home names from a backup. What was under way continues as far as it is safe:\n" +
			"messages that were not paid for yet are given up, because they may have been sent since, and quotes are\n" +
			"void. Coins and messages received after the backup are found on the chain. Do not run the old home\n" +
			"again.\n\n" +
			"The backup is opened with the passphrase of its home. With --words it is opened with the 24 words from\n" +
			"standard input instead, and the new home gets a new passphrase.",
		Example: "  bitgram --home ~/restored wallet restore backup.bitgram\n" +
			"  bitgram --home ~/restored wallet restore backup.bitgram --words <words.txt",
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
			}{id, h.Dir}, func(w io.Writer) {
				fmt.Fprintf(w, "Restored %s to %s.\n\nNext: %s up\n", id.Address, h.Dir, a.invocation())
			})
			return nil
		},
	}
	c.Flags().StringVar(&file, "passphrase-file", "", "read the passphrase from the first line of this file (or set BITGRAM_PASSPHRASE)")
	c.Flags().BoolVar(&words, "words", false, "open the backup with the 24 words from standard input, and set a new passphrase")
	c.Flags().BoolVar(&open, "no-passphrase", false, "with --words: store the seed unencrypted: anyone who reads the disk has the money")
	return c
}

// byWords opens a backup with its words, for a user who has lost the passphrase,
// and seals the key file under a new one.
func (a *app) byWords(k *home.Keys, file string, open bool) ([]byte, *home.Keys, error) {
	if a.tty() {
		fmt.Fprintln(a.err, "Enter the words on one line:")
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
		return nil, nil, fmt.Errorf("%w: these words belong to %s, but the backup is of %s", home.ErrPassphrase, address, k.Address)
	}
	pass, err := a.newPassphrase(file, open)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := home.NewKeys(k.Network, k.Address, k.Created, entropy, pass)
	return entropy, sealed, err
}
