package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID…",
		Short: "Delete messages",
		Long:  "Deletes received messages, or sent messages that are delivered, refunded or failed. This cannot be undone.",
		Args:  usage(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			gone := []string{}
			for _, id := range args {
				m, err := client.Delete(c.Context(), id)
				if err != nil {
					return err
				}
				gone = append(gone, m.ID)
			}
			a.print.summary(struct {
				Deleted []string `json:"deleted"`
			}{gone}, func(w io.Writer) {
				for _, id := range gone {
					fmt.Fprintln(w, "deleted", id)
				}
			})
			return nil
		},
	}
}
