package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/wallet"
)

func (a *app) walletAddress() *cobra.Command {
	return a.simple("address", "Show a new bitcoin address to receive money", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		address, err := client.NewAddress(c.Context())
		if err != nil {
			return err
		}
		if address.Again {
			fmt.Fprintf(a.err, "bitgram: this address was given before: %d addresses are unpaid, and the words alone would not find a later one\n", wallet.GapLimit)
		}
		a.print.summary(address, func(w io.Writer) { fmt.Fprintln(w, address.Address) })
		return nil
	})
}
