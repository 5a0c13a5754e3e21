package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
)

func (a *app) bankClose() *cobra.Command {
	var dry, wait bool
	c := a.simple("close ID", "Close a bank: with the payee, or alone as its payee", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		ctx := c.Context()
		b, err := client.Bank(ctx, args[0])
		if err != nil {
			return err
		}
		if dry {
			a.print.summary(b, func(w io.Writer) { fmt.Fprintln(w, closeQuote(&b)) })
			return nil
		}
		a.print.event("bank", closeQuote(&b))
		if b, err = client.CloseBank(ctx, b.ID); err != nil {
			return maybe(ctx, err)
		}
		if b, err = a.awaitBank(ctx, client, b.ID, func(b api.Bank) bool {
			return b.State == bank.StateClosed || b.State == bank.StateRefunded || !wait && (b.State == bank.StateClosing || b.Why != "" && b.Side == "payer" || b.State == bank.StateStopped && b.Side == "payee")
		}); err != nil {
			return err
		}
		return a.oneBank(b, nil)
	})
	c.Flags().BoolVar(&dry, "dry-run", false, "show what each side would get and close nothing")
	c.Flags().BoolVar(&wait, "wait", false, "wait until the close is confirmed")
	return c
}

// closeQuote says what each side gets by a close.
func closeQuote(b *api.Bank) string {
	if t := b.Together; t != nil && b.Side == "payer" {
		return fmt.Sprintf("Both close: %v to the payee, after a fee of %v, and %v back here one block later. If the payee does not answer: %s", t.Payee, t.Fee, t.Payer, b.Stopped.Text)
	}
	return b.Stopped.Text
}
