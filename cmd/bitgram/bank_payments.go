package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankPayments() *cobra.Command {
	return a.simple("payments", "List payments to addresses", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		list, err := client.Payments(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(struct {
			Payments []api.BankPayment `json:"payments"`
		}{list}, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "No payments.")
			}
			for i := range list {
				printPayment(w, &list[i])
			}
		})
		return nil
	})
}
