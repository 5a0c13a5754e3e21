package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) nameScan() *cobra.Command {
	return a.simple("scan", "How far the chain was read for hints", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		s, err := client.Names(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(s, func(w io.Writer) {
			fmt.Fprintf(w, "%d hints as of block %d", s.Hints, s.Height)
			if !s.Synced {
				fmt.Fprint(w, ", reading on")
			}
			fmt.Fprintln(w, ".")
		})
		return nil
	})
}
