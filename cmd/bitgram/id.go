package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) idCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "id",
		Short: "Show this home's address",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			h, k, err := a.keys()
			if err != nil {
				return err
			}
			// A running daemon is asked; the key file says the same.
			client, err := api.Dial(h)
			var id api.Identity
			if err == nil {
				id, err = client.ID(c.Context())
			}
			if err != nil {
				if id, err = identity(k); err != nil {
					return err
				}
			}
			a.print.summary(id, func(w io.Writer) { fmt.Fprintln(w, id.Address) })
			return nil
		},
	}
}
