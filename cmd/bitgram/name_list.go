package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) nameList() *cobra.Command {
	var kind string
	var limit int
	c := a.simple("list [PREFIX]", "List hints on the chain, by kind and name", cobra.MaximumNArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		prefix := ""
		if len(args) == 1 {
			prefix = args[0]
		}
		list, err := client.ListNames(c.Context(), kind, prefix, limit)
		if err != nil {
			return err
		}
		a.print.summary(api.Names{Names: list}, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "No hints.")
			}
			printBids(w, list)
		})
		return nil
	})
	c.Flags().StringVar(&kind, "kind", "host", "kind of hint: host, domain, tld, authority or seed")
	c.Flags().IntVar(&limit, "limit", 100, "number of names to show, at most 1,000")
	return c
}
