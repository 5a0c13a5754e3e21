package main

import (
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankShow() *cobra.Command {
	return a.simple("show ID", "Show a bank", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		b, err := client.Bank(c.Context(), args[0])
		return a.oneBank(b, err)
	})
}
