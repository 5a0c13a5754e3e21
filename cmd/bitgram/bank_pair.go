package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) bankPair() *cobra.Command {
	return a.simple("pair ID SATOSHI", "Ask the payee of a bank to open a reverse bank", cobra.ExactArgs(2), func(c *cobra.Command, client *api.Client, args []string) error {
		value, err := satoshi(args[1])
		if err != nil {
			return err
		}
		id, err := client.PairBank(c.Context(), args[0], wire.Sat(value))
		if err != nil {
			return maybe(c.Context(), err)
		}
		a.print.summary(struct {
			ID string `json:"bank_id"`
		}{id}, func(w io.Writer) {
			fmt.Fprintf(w, "The payee opens bank %s to you.\n", id)
		})
		return nil
	})
}
