package main

import (
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankResume() *cobra.Command {
	return a.simple("resume PAYMENT", "Resume a payment that ended before all was paid", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		v, err := client.ResumePayment(c.Context(), args[0])
		if err != nil {
			return err
		}
		return a.awaitPayment(c.Context(), client, v.ID)
	})
}
