package delivery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// neighbourhood chooses a message's place: the nonce ν whose agents are the
// best among those that the node knows. It returns the active agents there that
// accept the message; all of them are asked for a quote.
func (d *Delivery) neighbourhood(ctx context.Context, payload wire.Hash, size uint64, l *Letter) (nonce uint64, list []deal.Candidate, err error) {
	locator := func(nonce uint64) wire.Locator { return seal.MessageKey(payload, nonce).Locator() }
	if len(d.cfg.Directory.Met()) < l.Agents {
		_, _ = d.cfg.Directory.Nearest(ctx, locator(0), false) // what it finds counts
	}
	nonces := d.rank(locator, size, l)
	active, fit := 0, 0
	for try := range 4 {
		wide := try > 0
		if try > 1 {
			if active >= l.Agents {
				break // there are enough agents, but they do not accept it
			}
			// A new network may have more agents in a moment.
			select {
			case <-time.After(time.Duration(try) * 500 * time.Millisecond):
			case <-ctx.Done():
				return 0, nil, ctx.Err()
			}
		}
		for _, nonce := range nonces[:min(len(nonces), 3)] {
			var found []p2p.Found
			if found, err = d.cfg.Directory.Nearest(ctx, locator(nonce), wide); err != nil {
				continue // another place may be better off
			}
			fits := d.fitting(found, size, l)
			active, fit = max(active, len(found)), max(fit, len(fits))
			if offers := d.offers(fits, size, l); len(fits) >= l.Agents && d.affordable(offers, l) {
				for _, f := range fits {
					list = append(list, deal.Candidate{Agent: f.Ad.Agent, Addrs: f.Addrs, Prefix: f.Prefix})
				}
				return nonce, list, nil
			}
		}
	}
	if active == 0 && err != nil {
		return 0, nil, err
	}
	return 0, nil, fmt.Errorf("%w: of %d active agents near the message, %d accept %d bytes for %d blocks at a price under the cap; %d are needed",
		deal.ErrTooFewAgents, active, fit, size, l.Blocks, l.Agents)
}

// fitting returns the agents that accept a letter, by their advertisements, at
// a price under its cap.
func (d *Delivery) fitting(found []p2p.Found, size uint64, l *Letter) (list []p2p.Found) {
	for _, f := range found {
		price, err := d.price(&f, size, l)
		if err == nil && size <= f.Ad.Limits.Size && l.Blocks <= f.Ad.Limits.Blocks && price <= l.MaxCost {
			list = append(list, f)
		}
	}
	return list
}

func (d *Delivery) price(f *p2p.Found, size uint64, l *Letter) (wire.Sat, error) {
	price, err := wire.StoragePrice(f.Ad.Rate, size, l.Blocks, d.cfg.Margins.BlocksPerDay)
	return price.Sat(), err
}

func (d *Delivery) offers(fits []p2p.Found, size uint64, l *Letter) (list []choose.Offer) {
	for _, f := range fits {
		price, _ := d.price(&f, size, l) // it has one, or it would not fit
		list = append(list, choose.Offer{Agent: f.Ad.Agent, Value: price, Prefix: f.Prefix})
	}
	return list
}

// affordable reports whether some of the offers are under the letter's cap.
func (d *Delivery) affordable(offers []choose.Offer, l *Letter) bool {
	within := func(p []int) bool { return l.Shape == wire.OneOfMany || choose.Sum(offers, p) <= l.MaxCost }
	return within(choose.Pick(offers, l.Agents, wire.Hash{}, within))
}

// rank orders nonces by the prices of the agents around their locators, as far
// as the node has met them. If it knows no more than one neighbourhood, all
// nonces are equal.
func (d *Delivery) rank(locator func(uint64) wire.Locator, size uint64, l *Letter) []uint64 {
	all := d.cfg.Directory.Met()
	now := time.Now().Unix()
	all = slices.DeleteFunc(all, func(m *directory.Met) bool { return m.Ad.Record.Current(now) != nil })
	if len(all) <= p2p.Width {
		return []uint64{0}
	}
	type choice struct {
		nonce uint64
		cost  wire.Sat
	}
	var list []choice
	for nonce := range uint64(seal.MaxNonce + 1) {
		at := p2p.PlaceOf(locator(nonce))
		slices.SortFunc(all, func(a, b *directory.Met) int { return p2p.Nearer(at, a.Place, b.Place) })
		var near []p2p.Found
		for _, m := range all[:p2p.Width] {
			near = append(near, m.Found)
		}
		offers := d.offers(d.fitting(near, size, l), size, l)
		if best := choose.Pick(offers, l.Agents, wire.Hash{}, nil); len(best) == l.Agents {
			list = append(list, choice{nonce, choose.Sum(offers, best)})
		}
	}
	slices.SortStableFunc(list, func(a, b choice) int { return cmp.Compare(a.cost, b.cost) })
	nonces := make([]uint64, 0, len(list)+1)
	for _, c := range list {
		nonces = append(nonces, c.nonce)
	}
	if len(nonces) == 0 {
		nonces = append(nonces, 0) // the agents met are too expensive or too small; there may be others
	}
	return nonces
}
