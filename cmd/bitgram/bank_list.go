package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankList() *cobra.Command {
	return a.simple("list", "List your banks, and what each side would get now", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		list, err := client.Banks(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(struct {
			Banks []api.Bank `json:"banks"`
		}{list}, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "No banks.")
			}
			for i := range list {
				b := &list[i]
				whom := "from a payer"
				if b.Side == "payer" {
					whom = "to " + short(b.Peer)
				}
				paid := fmt.Sprintf("%v of %v paid", b.PaidMsat, b.Value)
				if b.Unused > 0 {
					paid += fmt.Sprintf(" (%v of it unused credit)", b.Unused)
				}
				fmt.Fprintf(w, "%s  %-8s  %s, %s, expires at block %d\n          %s\n", b.ID[:8], b.State, whom, paid, b.Expiry, b.Stopped.Text)
			}
		})
		return nil
	})
}
