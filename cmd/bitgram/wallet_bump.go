package main

import (
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletBump() *cobra.Command {
	var rate float64
	c := a.simple("bump TXID", "Raise the fee of a payment that does not confirm, or of a message's funding", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		kvb, err := perVB(rate)
		if err != nil {
			return err
		}
		p, err := client.Bump(c.Context(), args[0], kvb)
		return a.paid(p, maybe(c.Context(), err))
	})
	c.Flags().Float64Var(&rate, "rate", 0, "fee in satoshi per vbyte; 0 for twice the node's estimate")
	return c
}
