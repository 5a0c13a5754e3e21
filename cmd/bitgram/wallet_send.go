package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletSend() *cobra.Command {
	var fee feeFlags
	c := a.simple("send ADDRESS SATOSHI", "Pay a bitcoin address", cobra.ExactArgs(2), func(c *cobra.Command, client *api.Client, args []string) error {
		amount, err := satoshi(args[1])
		if err != nil {
			return err
		}
		f, err := fee.fee()
		if err != nil {
			return err
		}
		p, err := client.Pay(c.Context(), args[0], amount, f)
		return a.paid(p, maybe(c.Context(), err))
	})
	c.Example = "  bitgram wallet send ADDRESS 20_000\n  bitgram wallet send ADDRESS 20000 --rate 2.5"
	fee.add(c.Flags())
	return c
}

func (a *app) paid(p api.Payment, err error) error {
	if err != nil {
		return err
	}
	a.print.summary(p, func(w io.Writer) { fmt.Fprintln(w, p.Txid) })
	return nil
}
