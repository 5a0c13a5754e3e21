package main

import (
	"github.com/spf13/cobra"
)

func (a *app) walletCommand() *cobra.Command {
	c := &cobra.Command{
		Use:                        "wallet",
		Short:                      "Receive, hold, send and back up bitcoin",
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.walletAddress(), a.walletBalance(), a.walletSend(), a.walletHistory(), a.walletBump(), a.walletAbandon(), a.walletBackup(), a.walletRestore(), a.walletWords())
	return c
}
