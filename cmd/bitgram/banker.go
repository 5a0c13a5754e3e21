package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankerCommand() *cobra.Command {
	return a.simple("banker", "What this home takes in penny banks, passes on and earns", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		b, err := client.Banker(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(b, func(w io.Writer) {
			switch {
			case !b.Payee:
				fmt.Fprintln(w, "This daemon takes no banks: start it with 'bitgram up --bank', or with --banker to pass payments on.")
				return
			case b.Banker:
				fmt.Fprintf(w, "A banker, for %v and %v %% of each step.\n", b.Base, float64(b.PPM)/10_000)
			default:
				fmt.Fprintln(w, "Takes banks, and passes nothing on.")
			}
			for _, r := range b.Reach {
				fmt.Fprintf(w, "Open a bank with it: bitgram bank open %s SATOSHI\n", r)
			}
			fmt.Fprintf(w, "%d banks open to it, %d of its own; %v held in pennies that are not settled.\n", b.Incoming, b.Outgoing, b.Held)
			fmt.Fprintf(w, "%d payments: %v taken, of which %v for this home; %v earned.\n", b.Payments, b.Passed, b.Received, b.Earned)
		})
		return nil
	})
}
