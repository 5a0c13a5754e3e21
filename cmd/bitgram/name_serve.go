package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/dnsd"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) nameServe() *cobra.Command {
	var listen string
	var upstream []string
	var perSecond int
	c := a.simple("serve", "Serve DNS: ordinary names, hints, and agents under .bitgram", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
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
			}{at.String()}, func(w io.Writer) { fmt.Fprintf(w, "Answering on %s, UDP and TCP. Ctrl-C stops it.\n", at) })
		})
	})
	c.Long = "Answers DNS questions over UDP and TCP. Ordinary names go to --upstream; names that do not exist there are\n" +
		"looked up among the hints on the chain. Questions for names and keys under .bitgram never leave this\n" +
		"machine: A, AAAA, SRV and TXT records give the closest active agents and their rate."
	c.Example = "  bitgram name serve --upstream 9.9.9.9:53\n" +
		"  dig @127.0.0.1 -p 5300 alice.bitgram TXT"
	f := c.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:5300", "address and port to listen on")
	f.StringSliceVar(&upstream, "upstream", nil, "name servers for ordinary names, as host:port (none: answer from hints only)")
	f.IntVar(&perSecond, "per-second", 100, "most questions per second from one network (/24, /56); this machine has no limit")
	return c
}

// source answers the DNS server from the daemon.
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
