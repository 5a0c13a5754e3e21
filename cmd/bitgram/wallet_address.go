package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletAddress() *cobra.Command {
	return a.simple("address", "Show a new bitcoin address to receive money", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		address, err := client.NewAddress(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(struct {
			Address string `json:"address"`
		}{address}, func(w io.Writer) { fmt.Fprintln(w, address) })
		return nil
	})
}
