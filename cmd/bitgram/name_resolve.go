package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

// errNoName is returned for a name that has neither hints nor agents.
var errNoName = errors.New("no such name")

func (a *app) nameResolve() *cobra.Command {
	var agents int
	c := a.simple("resolve NAME", "Resolve a name: its hints, and for .bitgram the closest agents", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		v, err := client.Resolve(c.Context(), args[0], agents, false)
		if err != nil {
			return err
		}
		if len(v.Names)+len(v.Agents) == 0 {
			return fmt.Errorf("%w: %s", errNoName, args[0])
		}
		a.print.summary(v, func(w io.Writer) {
			printBids(w, v.Names)
			printAgents(w, v.Agents)
		})
		return nil
	})
	c.Flags().IntVar(&agents, "agents", 8, "number of agents to show, at most 20")
	return c
}
