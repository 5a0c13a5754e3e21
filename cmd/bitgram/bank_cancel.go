package main

import (
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankCancel() *cobra.Command {
	return a.simple("cancel ID", "Take a bank back before its funding is confirmed", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		b, err := client.CancelBank(c.Context(), args[0])
		return a.oneBank(b, err)
	})
}
