package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankPayments() *cobra.Command {
	c := a.simple("payments [ID]", "List payments to addresses, or show a payment", cobra.MaximumNArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		if len(args) == 1 {
			v, err := client.Payment(c.Context(), args[0])
			return a.onePayment(v, err)
		}
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
	c.Long = "Lists the payments to addresses. With the ID of a payment (its first digits are enough), it shows that\n" +
		"payment; this also works for a payment of pennies from a bank, for 30 days."
	return c
}
