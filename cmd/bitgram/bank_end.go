package main

import (
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankEnd() *cobra.Command {
	return a.simple("end PAYMENT", "End a payment after its current step", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		v, err := client.EndPayment(c.Context(), args[0])
		return a.onePayment(v, err)
	})
}
