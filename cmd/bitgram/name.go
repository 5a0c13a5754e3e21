package main

import (
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) nameCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "name",
		Short: "Look up and register names on the chain",
		Long: "A hint is an OP_RETURN output that says where a name, or a seed of a TLD's DHT, can be reached\n" +
			"(blockname). The hint that burned most has the name. Names under .bitgram lead to the closest active\n" +
			"agents.",
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.nameScan(), a.nameRegister(), a.nameResolve(), a.nameList(), a.nameDecode(), a.nameServe())
	return c
}

// where returns the address that a hint gives.
func where(h *api.Hint) string {
	at := h.IP
	if h.Port != 0 {
		at = netip.AddrPortFrom(netip.MustParseAddr(h.IP), h.Port).String()
	}
	switch {
	case h.Notary != "":
		at = "notary " + h.Notary
	case h.Addr != "":
		at = h.Addr
	}
	if h.DHT != "" {
		at += "  at " + h.DHT + "…"
	}
	return at
}

func printBids(w io.Writer, list []api.Bid) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range list {
		b := &list[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%v\tblock %d\n", b.Kind, b.Name, where(&b.Hint), b.Burned, b.Height)
	}
	t.Flush()
}
