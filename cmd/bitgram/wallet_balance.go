package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletBalance() *cobra.Command {
	return a.simple("balance", "Show the balance", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		b, err := client.Balance(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(b, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintf(t, "spendable\t%v\t\n", b.Spendable)
			if b.Locked != 0 {
				fmt.Fprintf(t, "reserved for messages\t%v\t\n", b.Locked)
			}
			if b.Pending != 0 {
				fmt.Fprintf(t, "pending\t%v\t\n", b.Pending)
			}
			if b.Immature != 0 {
				fmt.Fprintf(t, "mined, immature\t%v\t\n", b.Immature)
			}
			if b.Rest != 0 {
				fmt.Fprintf(t, "not worth a refund's fee\t%v\t\n", b.Rest)
			}
			t.Flush()
		})
		switch w := b.Warning; {
		case w == nil:
		case w.Code == api.CodePruned: // it never ends
			return &failure{w.Code, "money may be missing: " + w.Message}
		default:
			fmt.Fprintf(a.err, "bitgram: money may be missing: %s\n", printable(w.Message))
		}
		return nil
	})
}
