package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) nameScan() *cobra.Command {
	return a.simple("scan", "Show how far the chain has been read for hints", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		s, err := client.Names(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(s, func(w io.Writer) {
			fmt.Fprintf(w, "%s as of block %d", plural(s.Hints, "hint"), s.Height)
			if !s.Synced {
				fmt.Fprint(w, ", still reading")
			}
			fmt.Fprintln(w, ".")
		})
		return nil
	})
}
