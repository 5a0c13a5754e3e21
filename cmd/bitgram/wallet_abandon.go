package main

import (
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletAbandon() *cobra.Command {
	return a.simple("abandon TXID", "Take back a payment that no node has accepted yet", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		return a.paid(client.Abandon(c.Context(), args[0]))
	})
}
