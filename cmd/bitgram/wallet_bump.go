package main

import (
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletBump() *cobra.Command {
	var fee feeFlags
	c := a.simple("bump TXID", "Raise the fee of an unconfirmed payment or funding", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		f, err := fee.fee()
		if err != nil {
			return err
		}
		p, err := client.Bump(c.Context(), args[0], f)
		return a.paid(p, maybe(c.Context(), err))
	})
	fee.add(c.Flags())
	return c
}
