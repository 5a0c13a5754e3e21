package main

import (
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankBump() *cobra.Command {
	var fee feeFlags
	c := a.simple("bump ID", "Raise the fee of a bank's unconfirmed funding, close or refund", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		f, err := fee.fee()
		if err != nil {
			return err
		}
		b, err := client.BumpBank(c.Context(), args[0], f)
		return a.oneBank(b, maybe(c.Context(), err))
	})
	c.Long = "Raise the fee of a bank's unconfirmed funding, close or refund. Without --rate it pays twice as much as before, and at least the node's estimate. A funding is bumped by a child that spends its change; a close or refund is replaced, together with the other banks in it, and pays at most half of what it brings."
	fee.add(c.Flags())
	return c
}
