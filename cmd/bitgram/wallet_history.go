package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletHistory() *cobra.Command {
	return a.simple("history", "List the wallet's transactions", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		list, err := client.History(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(struct {
			Transactions []api.Transaction `json:"transactions"`
		}{list}, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
			for _, r := range list {
				height, change := "unconfirmed", ""
				if r.Kept {
					height = "not accepted"
				}
				if r.Height != 0 {
					height, change = fmt.Sprint("block ", r.Height), fmt.Sprintf("%+d sat", int64(r.In-r.Out))
				}
				fmt.Fprintf(t, "%s\t%s\t  %s\t\n", height, change, r.Txid)
			}
			t.Flush()
		})
		return nil
	})
}
