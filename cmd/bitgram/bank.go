package main

import "github.com/spf13/cobra"

func (a *app) bankCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bank",
		Short: "Penny banks: payments that cost one hash",
		Args:  usage(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.classicCommand())
	c.AddCommand(a.bankBenchCommand())
	return c
}
