package main

import (
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletBump() *cobra.Command {
	var rate float64
	c := a.simple("bump TXID", "Raise the fee of an unconfirmed payment or funding", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		kvb, err := perVB(rate)
		if err != nil {
			return err
		}
		p, err := client.Bump(c.Context(), args[0], kvb)
		return a.paid(p, maybe(c.Context(), err))
	})
	c.Flags().Float64Var(&rate, "rate", 0, "fee rate in sat/vB (0: twice the node's estimate)")
	return c
}
