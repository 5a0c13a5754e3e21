package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankerCommand() *cobra.Command {
	return a.simple("banker", "Show what this home receives, forwards and earns", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		b, err := client.Banker(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(b, func(w io.Writer) {
			switch {
			case !b.Payee:
				fmt.Fprintln(w, "This daemon accepts no banks. Start it with 'bitgram up --bank' to accept them, or with --banker to forward payments as well.")
				return
			case b.Banker:
				fmt.Fprintf(w, "A banker: the fee is %v and %v %% of each step.\n", b.Base, float64(b.PPM)/10_000)
			default:
				fmt.Fprintln(w, "Accepts banks, and forwards no payments.")
			}
			for _, r := range b.Reach {
				fmt.Fprintf(w, "To open a bank with it: bitgram bank open %s SATOSHI\n", r)
			}
			fmt.Fprintf(w, "%s open to it, %d opened by it; %v held in pennies that are not settled.\n", plural(b.Incoming, "bank"), b.Outgoing, b.Held)
			fmt.Fprintf(w, "%s: %v received, of which %v for this home; %v earned.\n", plural(b.Payments, "payment"), b.Passed, b.Received, b.Earned)
		})
		return nil
	})
}
