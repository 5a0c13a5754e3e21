package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/dnsd"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) nameCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "name",
		Short: "Names and seeds on the chain",
		Long: "Hints in OP_RETURN outputs say where a name, or a seed of a TLD's DHT, can be reached (blockname).\n" +
			"Whoever burned most under a name has it. The names under .bitgram lead to the closest active agents.",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.nameScan(), a.nameRegister(), a.nameResolve(), a.nameList(), a.nameDecode(), a.nameServe())
	return c
}

func (a *app) nameDecode() *cobra.Command {
	return &cobra.Command{
		Use:   "decode TEXT",
		Short: "Show what a hint says, offline",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			h, err := blockname.Parse([]byte(args[0]))
			if err != nil {
				return err
			}
			v := api.HintOf(h)
			a.print.summary(v, func(w io.Writer) { fmt.Fprintf(w, "%s\t%s\t%s\n", v.Kind, v.Name, where(&v)) })
			return nil
		},
	}
}

// where is what a hint leads to.
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

func (a *app) nameList() *cobra.Command {
	var kind string
	var limit int
	c := a.simple("list [PREFIX]", "Hints on the chain, by kind and name", cobra.MaximumNArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
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
				fmt.Fprintln(w, "None.")
			}
			printBids(w, list)
		})
		return nil
	})
	c.Flags().StringVar(&kind, "kind", "host", "host, domain, tld, authority or seed")
	c.Flags().IntVar(&limit, "limit", 100, "how many names at most, 1,000 in all")
	return c
}

// errNoName: nothing is known under a name.
var errNoName = errors.New("no such name")

func (a *app) nameResolve() *cobra.Command {
	var agents int
	c := a.simple("resolve NAME", "What a name leads to: hints, and under .bitgram the closest active agents", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
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
	c.Flags().IntVar(&agents, "agents", 8, "how many agents at most, up to 20")
	return c
}

func (a *app) nameRegister() *cobra.Command {
	var burn int64
	var rate float64
	var dht, notary string
	var dry, wait bool
	c := a.simple("register NAME ADDR", "Put a hint on the chain", cobra.RangeArgs(1, 2), func(c *cobra.Command, client *api.Client, args []string) error {
		h, err := hintOf(args, dht, notary)
		if err != nil {
			return err
		}
		text, err := h.Encode()
		if err != nil {
			return err
		}
		kvb, err := perVB(rate)
		if err != nil {
			return err
		}
		if dry {
			o, err := client.OfferName(c.Context(), string(text))
			if err != nil {
				return err
			}
			a.print.summary(o, func(w io.Writer) {
				printBids(w, o.Now)
				fmt.Fprintf(w, "%s has to burn %v to stand first. Nothing was sent.\n", o.Text, o.Needed)
			})
			return nil
		}
		o, err := client.Register(c.Context(), string(text), burn, kvb)
		if err != nil {
			return maybe(c.Context(), err)
		}
		if wait {
			if o.Now, err = untilNamed(c.Context(), client, &o); err != nil {
				return err
			}
		}
		a.print.summary(o, func(w io.Writer) {
			fmt.Fprintf(w, "%s, burning %v: %s\n", o.Text, o.Burned, o.Txid)
			if wait {
				fmt.Fprintf(w, "It stands there as of block %d.\n", o.Now[0].Height)
			}
		})
		return nil
	})
	c.Long = "Puts a hint on the chain, in a transaction of this home's wallet:\n\n" +
		"  register NAME IPv4              the name's address\n" +
		"  register NAME.TLD IPv4:PORT     the name server of a domain\n" +
		"  register TLD IPv4:PORT --dht X  a seed of the TLD's DHT, or a multiaddr such as /ip6/…/tcp/4001\n" +
		"  register NAME --notary ID       an authority\n\n" +
		"Under a name the hint that burned most wins, of the address and the name servers that speak for it,\n" +
		"too; what is burned is gone. A hint that would not win its own place is refused before anything is\n" +
		"sent; --dry-run says how much it takes, and 'name resolve' what else there is."
	f := c.Flags()
	f.Int64Var(&burn, "burn", 0, "satoshi to burn")
	f.Float64Var(&rate, "rate", 0, "fee in satoshi per vbyte; 0 for the node's estimate")
	f.StringVar(&dht, "dht", "", "hex digits with which the SHA-256 of the seed's peer ID begins")
	f.StringVar(&notary, "notary", "", "8 hex digits")
	f.BoolVar(&wait, "wait", false, "return once it stands first")
	f.BoolVar(&dry, "dry-run", false, "say what stands there and what it takes, and send nothing")
	return c
}

// untilNamed waits until a hint that was paid for stands first, and returns its
// entry: node.ErrOutbid where it never will.
func untilNamed(ctx context.Context, client *api.Client, paid *api.Offer) ([]api.Bid, error) {
	sum := paid.Burned
	for _, b := range paid.Now {
		if b.Text == paid.Text && adds(b.Kind) {
			sum += b.Burned
		}
	}
	for {
		o, err := client.OfferName(ctx, paid.Text)
		switch {
		case ctx.Err() != nil:
			return nil, errNameGoesOn
		case err != nil:
			return nil, err
		case len(o.Now) > 0 && o.Now[0].Text == paid.Text && o.Now[0].Burned >= sum:
			return o.Now, nil
		case lost(o.Now, paid.Text, sum):
			return nil, fmt.Errorf("%w: %s has it now", node.ErrOutbid, o.Now[0].Text)
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return nil, errNameGoesOn
		}
	}
}

// adds: what is burned for the same hint of a kind adds up.
func adds(kind string) bool { return kind == blockname.TLD.String() || kind == blockname.Seed.String() }

// lost: a hint for which sum was burned is in the entry and not the first, or has
// no place in it.
func lost(now []api.Bid, hint string, sum wire.Sat) bool {
	for _, b := range now {
		if b.Text == hint {
			return now[0].Text != hint && b.Burned >= sum
		}
	}
	places := 1
	if len(now) > 0 && adds(now[0].Kind) {
		places = blockname.MaxBids
	}
	return len(now) >= places && now[places-1].Burned >= sum
}

// errNameGoesOn: the wait was interrupted, not the payment.
var errNameGoesOn = errors.New("interrupted while waiting for a block")

// hintOf is the hint of register's arguments.
func hintOf(args []string, dht, notary string) (h blockname.Hint, err error) {
	h = blockname.Hint{Name: args[0], DHT: dht}
	if notary != "" {
		id, err := hex.DecodeString(notary)
		if err != nil || len(id) != len(h.ID) || len(args) != 1 || dht != "" {
			return h, fmt.Errorf("%w: --notary takes 8 hex digits, and no address", errUsage)
		}
		h.Kind, h.ID = blockname.Authority, [4]byte(id)
		return h, nil
	}
	if len(args) != 2 {
		return h, fmt.Errorf("%w: an address is wanted", errUsage)
	}
	ip, noIP := netip.ParseAddr(args[1])
	at, noPort := netip.ParseAddrPort(args[1])
	switch {
	case strings.HasPrefix(args[1], "/"):
		h.Kind, h.Multiaddr = blockname.Seed, args[1]
	case dht != "" && noPort == nil:
		h.Kind, h.Addr = blockname.TLD, at
	case noPort == nil:
		h.Kind, h.Addr = blockname.Domain, at
	case noIP == nil:
		h.Kind, h.Addr = blockname.Host, netip.AddrPortFrom(ip, 0)
	default:
		return h, fmt.Errorf("%w: %q is neither an address nor one with a port", errUsage, args[1])
	}
	return h, nil
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

func (a *app) nameServe() *cobra.Command {
	var listen string
	var upstream []string
	var perSecond int
	c := a.simple("serve", "Answer DNS questions: ordinary names, hints, and agents under .bitgram", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		id, err := client.ID(c.Context())
		if err != nil {
			return err
		}
		s, err := dnsd.New(dnsd.Config{Source: source{client, id.Network}, Upstream: upstream, Private: id.Network == wire.Regtest, PerSecond: perSecond, Log: a.log()})
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return s.Serve(c.Context(), listen, func(at net.Addr) {
			a.print.line("serving", struct {
				Address string `json:"address"`
			}{at.String()}, func(w io.Writer) { fmt.Fprintf(w, "Answering on %s, UDP and TCP. Ctrl-C ends it.\n", at) })
		})
	})
	c.Long = "Answers DNS questions by UDP and TCP. Ordinary names go to --upstream; what does not exist there is\n" +
		"looked for among the hints on the chain. Names and keys under .bitgram never leave this machine: A,\n" +
		"AAAA, SRV and TXT tell the closest active agents and their rate.\n\n" +
		"  dig @127.0.0.1 -p 5300 alice.bitgram TXT"
	f := c.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:5300", "address and port")
	f.StringSliceVar(&upstream, "upstream", nil, "name servers for ordinary names, host:port; without one only hints are asked")
	f.IntVar(&perSecond, "per-second", 100, "questions that one network (/24, /56) may ask in a second; this machine may ask any number")
	return c
}

// source asks the daemon.
type source struct {
	client  *api.Client
	network wire.Network
}

func (s source) Agents(ctx context.Context, name string) (list []dnsd.Agent, err error) {
	v, err := s.client.Resolve(ctx, name, 8, false)
	if err != nil {
		return nil, err
	}
	for _, g := range v.Agents {
		key, err := wire.ParseRecipient(s.network, g.Key)
		if err != nil {
			continue
		}
		d := dnsd.Agent{Label: wire.EncodeAddress(s.network, key), Key: g.Key, Rate: uint64(g.Rate), Addrs: g.Addrs}
		for _, addr := range g.Addrs {
			// By wire's rules: "", ip4 or ip6, address, tcp or udp, port.
			if p := strings.Split(addr, "/"); len(p) >= 5 {
				if at, err := netip.ParseAddrPort(net.JoinHostPort(p[2], p[4])); err == nil {
					d.At = append(d.At, at)
				}
			}
		}
		list = append(list, d)
	}
	return list, nil
}

func (s source) Hints(ctx context.Context, name string) (list []dnsd.Hint, err error) {
	if blockname.CheckName(name) != nil {
		return nil, nil
	}
	v, err := s.client.Resolve(ctx, name, 0, true)
	if err != nil {
		return nil, err
	}
	var host []dnsd.Hint
	for _, b := range v.Names {
		h := dnsd.Hint{Name: b.Name, Burned: int64(b.Burned)}
		ip, err := netip.ParseAddr(b.IP)
		switch {
		case err != nil:
		case b.Kind == "host":
			h.Host = ip
			host = append(host, h)
		case b.Kind == "domain":
			h.Server = netip.AddrPortFrom(ip, b.Port)
			list = append(list, h)
		}
	}
	return append(list, host...), nil
}
