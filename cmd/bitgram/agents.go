package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) agentsCommand() *cobra.Command {
	return a.simple("agents [KEY]", "List known agents, or show what one offers", cobra.MaximumNArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		list := []api.Agent{}
		if len(args) == 1 {
			g, err := client.Agent(c.Context(), args[0])
			if err != nil {
				return err
			}
			list = append(list, g)
		} else {
			all, err := client.Agents(c.Context())
			if err != nil {
				return err
			}
			list = append(list, all...)
		}
		a.print.summary(struct {
			Agents []api.Agent `json:"agents"`
		}{list}, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "No agents known yet.")
				return
			}
			printAgents(w, list)
		})
		return nil
	})
}

func printAgents(w io.Writer, list []api.Agent) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, g := range list {
		addr := ""
		if len(g.Addrs) > 0 {
			addr = g.Addrs[0]
		}
		fmt.Fprintf(t, "%s\t%g sat/MB-day\t%g days\t%s\n", g.Key, float64(g.Rate)/1e6, g.Days, printable(addr))
	}
	t.Flush()
}
