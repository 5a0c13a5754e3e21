package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) initCommand() *cobra.Command {
	var restore, open bool
	var file string
	c := &cobra.Command{
		Use:   "init",
		Short: "Create an identity and its wallet",
		Long: "Creates the home: a key for messages and a bitcoin wallet, both derived from 24 words. Write the words\n" +
			"down: they restore everything but messages, on any machine. On disk they are encrypted with a\n" +
			"passphrase.\n\n" +
			"--restore reads the 12 or 24 words of an earlier identity from standard input.",
		Example: "  bitgram init\n" +
			"  bitgram init --home /srv/bitgram --network signet\n" +
			"  bitgram init --restore <words.txt",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.at()
			if err != nil {
				return err
			}
			if _, err := h.Keys(); err == nil {
				return fmt.Errorf("%w: %s", home.ErrExists, h.Dir)
			} else if !errors.Is(err, home.ErrNone) {
				return err
			}
			entropy, created := make([]byte, 32), time.Now().Unix()
			_, _ = rand.Read(entropy) // never fails (crypto/rand)
			if restore {
				created = 0
				if a.tty() {
					fmt.Fprintln(a.err, "Enter the words on one line:")
				}
				words, err := firstLine(a.in)
				if err != nil {
					return fmt.Errorf("%w: %w", errInput, err)
				}
				if entropy, err = wallet.Entropy(words); err != nil {
					return err
				}
			}
			pass, err := a.newPassphrase(file, open)
			if err != nil {
				return err
			}
			network := wire.Network(a.network)
			_, address, err := node.Identity(network, entropy)
			if err != nil {
				return err
			}
			k, err := home.NewKeys(network, address, created, entropy, pass)
			if err != nil {
				return err
			}
			words, err := wallet.NewMnemonic(entropy)
			if err != nil {
				return err
			}
			release, err := a.lock(h)
			if err != nil {
				return err
			}
			defer release()
			if err := h.Save(k); err != nil {
				return err
			}
			if err := writeConfig(h); err != nil {
				return err
			}
			id, err := identity(k)
			if err != nil {
				return err
			}
			if restore {
				words = "" // the user has them
			}
			a.print.summary(struct {
				api.Identity
				Home     string `json:"home"`
				Mnemonic string `json:"mnemonic,omitempty"`
			}{id, h.Dir, words}, func(w io.Writer) {
				fmt.Fprintf(w, "Created %s.\n\nYour address, for others to write to:\n\n  %s\n", h.Dir, id.Address)
				if words != "" {
					fmt.Fprintf(w, "\nWrite these words down in this order, and keep them safe. As long as this home exists, 'bitgram wallet words' shows them again:\n\n  %s\n", words)
				}
				fmt.Fprintf(w, "\nNext: %s up\n", a.invocation())
			})
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&restore, "restore", false, "restore the identity from the words on standard input")
	f.BoolVar(&open, "no-passphrase", false, "store the seed unencrypted: anyone who reads the disk has the money")
	f.StringVar(&file, "passphrase-file", "", "read the passphrase from the first line of this file (or set BITGRAM_PASSPHRASE)")
	return c
}
