package web

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

func showEntry(e blockname.Entry) (list []api.Bid) {
	for _, b := range e {
		list = append(list, api.Bid{Hint: api.HintOf(b.Hint), Burned: b.Burned, Height: uint32(b.Height), Out: fmt.Sprintf("%s:%d", displayed(b.Out.Txid), b.Out.Vout)})
	}
	return list
}

func (s *Server) nameRoutes(to huma.API) {
	on(s, to, "GET", "/names", "How far the chain has been read for hints", func(ctx context.Context, n *node.Node, _ *none) (v api.Scan, err error) {
		if n.Directory.Names() == nil {
			return v, directory.ErrNoNames
		}
		h, tip := n.Directory.Names().Read()
		v = api.Scan{Height: uint32(h), Synced: tip, Malformed: n.Directory.Names().Malformed()}
		v.Hints, err = n.Directory.Names().Count(ctx)
		return v, err
	})
	on(s, to, "GET", "/names/list", "List hints by kind and prefix", func(ctx context.Context, n *node.Node, in *struct {
		Kind  string `query:"kind" enum:"host,domain,tld,authority,seed" default:"host"`
		From  string `query:"prefix" maxLength:"253" doc:"first characters of the names"`
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}) (list api.Names, err error) {
		list.Names = []api.Bid{}
		if n.Directory.Names() == nil {
			return list, directory.ErrNoNames
		}
		for _, k := range kinds {
			if k.String() != in.Kind {
				continue
			}
			err = n.Directory.Names().View(ctx, func(r blockname.Reader) error {
				return r.Scan(append([]byte{byte(k)}, in.From...), in.Limit, func(key, value []byte) error {
					e, err := blockname.DecodeEntry(key, value)
					list.Names = append(list.Names, showEntry(e)...)
					return err
				})
			})
		}
		return list, err
	})
	on(s, to, "GET", "/names/resolve/{name}", "Resolve a name", func(ctx context.Context, n *node.Node, in *struct {
		Name   string `path:"name" maxLength:"253"`
		Agents int    `query:"agents" minimum:"0" maximum:"20" default:"8" doc:"most agents to return"`
		Above  bool   `query:"above" doc:"also return domain hints of the name's parent domains"`
	}) (api.Answer, error) {
		return s.resolve(ctx, n, in.Name, in.Agents, in.Above)
	})
	type hinted struct {
		Hint string `query:"hint" required:"true" maxLength:"80" doc:"text of the hint on the chain"`
	}
	on(s, to, "GET", "/names/offer", "How much a hint must burn", func(ctx context.Context, n *node.Node, in *hinted) (api.Offer, error) {
		o, _, err := s.offer(ctx, n, in.Hint)
		return o, err
	})
	on(s, to, "POST", "/names", "Register a hint", func(ctx context.Context, n *node.Node, in *struct {
		Hint string `query:"hint" required:"true" maxLength:"80" doc:"text of the hint on the chain"`
		Burn int64  `query:"burn_sat" minimum:"0"`
		Rate int64  `query:"rate_sat_per_kvb" minimum:"0" maximum:"10000000" doc:"fee rate; 0 for the node's estimate"`
		Max  int64  `query:"max_fee_sat" minimum:"0" doc:"maximum fee, and permission to pay it; 0 for the default ceiling"`
	}) (api.Offer, error) {
		o, h, err := s.offer(ctx, n, in.Hint)
		if err != nil {
			return o, err
		}
		t, err := n.Directory.Register(ctx, h, wire.Sat(in.Burn), wallet.Fee{Rate: wire.SatPerKVB(in.Rate), Max: wire.Sat(in.Max)})
		if err != nil {
			return o, err
		}
		o.Txid, o.Burned = t.TxHash().String(), wire.Sat(in.Burn)
		return o, nil
	})
}

var kinds = []blockname.Kind{blockname.Host, blockname.Domain, blockname.TLD, blockname.Authority, blockname.Seed}

func (s *Server) offer(ctx context.Context, n *node.Node, text string) (o api.Offer, h blockname.Hint, err error) {
	if h, err = blockname.Parse([]byte(text)); err != nil {
		return o, h, err
	}
	e, needed, err := n.Directory.Entry(ctx, h)
	return api.Offer{Hint: api.HintOf(h), Needed: needed, Now: showEntry(e)}, h, err
}

// resolve finds the hints of a name, with above also those of its parent domains,
// and the closest agents of a name under .bitgram.
func (s *Server) resolve(ctx context.Context, n *node.Node, name string, agents int, above bool) (a api.Answer, err error) {
	a = api.Answer{Name: name, Names: []api.Bid{}, Agents: []api.Agent{}}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	label, rest := strings.CutSuffix(name, "."+directory.TLD)
	under := rest || name == directory.TLD
	if err := blockname.CheckName(name); err != nil && !under {
		return a, err
	}
	if n.Directory.Names() == nil && !under {
		return a, directory.ErrNoNames
	}
	if n.Directory.Names() != nil {
		if err := n.Directory.Names().View(ctx, func(r blockname.Reader) error {
			for _, k := range []blockname.Kind{blockname.Host, blockname.Domain, blockname.Authority} {
				e, err := blockname.Lookup(r, k, name, "")
				if err != nil {
					return err
				}
				a.Names = append(a.Names, showEntry(e)...)
			}
			if _, domain, ok := strings.Cut(name, "."); ok {
				for ; above && strings.Contains(domain, "."); _, domain, _ = strings.Cut(domain, ".") {
					if len(domain) > blockname.MaxSize {
						continue // too long for a hint
					}
					e, err := blockname.Lookup(r, blockname.Domain, domain, "")
					if err != nil {
						return err
					}
					a.Names = append(a.Names, showEntry(e)...)
				}
				return nil
			}
			list, err := blockname.Largest(r, name, maxSeeds)
			for _, e := range list {
				a.Names = append(a.Names, showEntry(e)...)
			}
			return err
		}); err != nil {
			return a, err
		}
	}
	if !under || agents == 0 {
		return a, nil
	}
	found, err := n.Directory.Closest(ctx, target(s.cfg.Network, label))
	if errors.Is(err, p2p.ErrUnreachable) && len(a.Names) > 0 {
		err = nil // the seeds help in this case
	}
	for _, f := range found[:min(len(found), agents)] {
		g := s.agent(f.Ad)
		g.Addrs = f.Addrs
		a.Agents = append(a.Agents, g)
	}
	return a, err
}

// maxSeeds is the number of a TLD's seeds in an answer.
const maxSeeds = 16

// target returns the DHT place near which agents are looked up: the name, or for a
// key the key's own place, so that an agent under its own key comes first. A key
// may be an address, an npub or hex, in labels of any length.
func target(network wire.Network, label string) []byte {
	if key, err := wire.ParseRecipient(network, strings.ReplaceAll(label, ".", "")); err == nil {
		if id, err := p2p.PeerID(key); err == nil {
			return []byte(id)
		}
	}
	return []byte(label)
}
