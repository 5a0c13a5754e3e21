package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/wallet"
)

func (a *app) walletWords() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "words",
		Short: "Show the recovery words",
		Args:  usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, k, err := a.keys()
			if err != nil {
				return err
			}
			pass := ""
			if k.Encrypted() {
				if pass, err = a.passphrase(file, "Passphrase", false); err != nil {
					return err
				}
			}
			entropy, err := k.Open(pass)
			if err != nil {
				return err
			}
			words, err := wallet.NewMnemonic(entropy)
			if err != nil {
				return err
			}
			a.print.summary(struct {
				Mnemonic string `json:"mnemonic"`
			}{words}, func(w io.Writer) { fmt.Fprintln(w, words) })
			return nil
		},
	}
	c.Flags().StringVar(&file, "passphrase-file", "", "read the passphrase from the first line of this file (or set BITGRAM_PASSPHRASE)")
	return c
}
