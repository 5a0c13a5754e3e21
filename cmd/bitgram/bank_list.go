package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankList() *cobra.Command {
	return a.simple("list", "Your banks, and what each side would get if everything stopped now", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		list, err := client.Banks(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(struct {
			Banks []api.Bank `json:"banks"`
		}{list}, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "None.")
			}
			for i := range list {
				b := &list[i]
				whom := "from a payer"
				if b.Side == "payer" {
					whom = "to " + short(b.Peer)
				}
				fmt.Fprintf(w, "%s  %-8s  %s, %v of %v paid, ends at %d\n          %s\n", b.ID[:8], b.State, whom, b.PaidMsat, b.Value, b.Expiry, b.Stopped.Text)
			}
		})
		return nil
	})
}
