package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// TestHoldings: the agents of a message, and nobody else, are found in the DHT
// by what its recipient knows from the chain alone.
func TestHoldings(t *testing.T) {
	tier.NotShort(t)
	w := newTown(t, 5)
	w.fund(w.homes["sender"], 1_000_000)
	ref := w.send([]byte("held"), wire.PerAgent)
	w.mine(1)
	state, err := w.homes["sender"].node.Engine().State(t.Context(), ref)
	must(t, err)
	s := state.(deal.Sender)
	e, err := s.Terms.E()
	must(t, err)
	n := w.homes["recipient"].node
	sec, err := seal.FromRecipient(n.identity, e)
	must(t, err)
	want := map[wire.Key]bool{}
	for _, l := range s.Legs {
		want[l.Candidate.Agent] = true
	}
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var mu sync.Mutex
		got := map[wire.Key]bool{}
		(*executor)(n).holders(t.Context(), sec, func(c deal.Candidate) {
			mu.Lock()
			defer mu.Unlock()
			got[c.Agent] = true
		})
		if len(got) == len(want) {
			for k := range got {
				if !want[k] {
					t.Errorf("%v holds nothing", k)
				}
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d agents are found", len(got), len(want))
		}
	}
}

// TestCrowdedPlace: while the recipient is away, somebody grinds more
// identities next to the message than a lookup returns. It is delivered all the
// same.
func TestCrowdedPlace(t *testing.T) {
	tier.NotShort(t)
	w := newTown(t, 3)
	const purse = 1_000_000
	w.fund(w.homes["sender"], purse)
	r := w.homes["recipient"]
	to := r.node.Key()
	must(t, r.node.Close())
	delete(w.homes, "recipient")
	body := []byte("found in the crowd")
	ref, err := w.homes["sender"].node.Send(t.Context(), Letter{To: to, Body: bytes.NewReader(body), Agents: 3, MaxCost: 100_000, Blocks: 24})
	must(t, err)
	w.settle()
	state, err := w.homes["sender"].node.Engine().State(t.Context(), ref)
	must(t, err)
	at := p2p.PlaceOf(state.(deal.Sender).Terms.Key.Locator())
	for range p2p.Width + 2 {
		id := grind(t, at)
		h, err := p2p.New(p2p.Config{Identity: id, Listen: []string{"/ip4/127.0.0.1/tcp/0"},
			DHT: &p2p.DHT{Network: wire.Regtest, Serve: true, Seeds: func() []string { return w.seeds }}})
		must(t, err)
		defer h.Close()
		priv, err := id.PrivKey()
		must(t, err)
		ad := &wire.Advertisement{Agent: wire.XOnly(priv.PubKey()), Services: wire.Delivery, Limits: wire.Limits{Size: 1 << 30, Blocks: 1008},
			Record: wire.Record{Expires: time.Now().Unix() + 3600, Addrs: h.Addrs()}}
		ad.Sig, err = wire.Sign(id, ad.Digest(wire.Regtest))
		must(t, err)
		h.Offer(ad)
		must(t, h.Bootstrap(t.Context()))
	}
	w.homes["recipient"] = r
	r.open()
	s := w.follow(ref)
	if s.State() != "delivered" {
		t.Errorf("%s: %s", s.State(), s.Failure)
	}
	if got := w.read(); !bytes.Equal(got, body) {
		t.Errorf("read %q", got)
	}
	w.balanced(purse)
}

// grind makes an identity whose place shares seven bits with at.
func grind(t *testing.T, at [32]byte) (s wire.Secret) {
	for {
		for i := range 4 {
			binary.BigEndian.PutUint64(s[8*i:], rand.Uint64())
		}
		priv, err := s.PrivKey()
		if err != nil {
			continue
		}
		place, err := p2p.Place(wire.XOnly(priv.PubKey()))
		must(t, err)
		if place[0]>>1 == at[0]>>1 {
			return s
		}
	}
}

// bare is a node that has met nobody.
func bare(t *testing.T) *home {
	w := newTown(t, 1)
	return w.homes["sender"]
}

func someAgents(n int, rate func(i int) wire.Psat) (list []p2p.Found) {
	for i := range n {
		var s wire.Secret
		binary.BigEndian.PutUint32(s[:], uint32(i+1))
		priv, err := s.PrivKey()
		if err != nil {
			panic(err)
		}
		list = append(list, p2p.Found{Ad: wire.Advertisement{Agent: wire.XOnly(priv.PubKey()), Services: wire.Delivery, Rate: rate(i),
			Limits: wire.Limits{Size: 1 << 20, Blocks: 100}, Record: wire.Record{Expires: time.Now().Unix() + 3600, Addrs: []string{"/ip4/1.2.3.4/tcp/1"}}},
			Addrs: []string{"/ip4/1.2.3.4/tcp/1"}, Prefix: "ip4/1.2"})
	}
	return list
}

// TestRank: of the neighbourhoods that a nonce can reach the cheapest comes
// first, as counted here in another way.
func TestRank(t *testing.T) {
	n := bare(t).node
	l := &Letter{Agents: 3, MaxCost: 1_000_000, Blocks: 24}
	locator := func(nonce uint64) wire.Locator { return seal.MessageKey(wire.Hash{1}, nonce).Locator() }
	n.roster.note(someAgents(p2p.Width, func(int) wire.Psat { return 1 }), time.Now())
	if got := n.rank(locator, 1000, l); !slices.Equal(got, []uint64{0}) {
		t.Errorf("one neighbourhood: %v", got)
	}
	agents := someAgents(120, func(i int) wire.Psat { return wire.Psat(1+i*i) * 1_000_000_000 })
	n.roster.note(agents, time.Now())
	got := n.rank(locator, 1000, l)
	if len(got) < 200 {
		t.Fatalf("%d nonces", len(got))
	}
	cost := func(nonce uint64) wire.Sat {
		at := p2p.PlaceOf(locator(nonce))
		near := slices.Clone(agents)
		slices.SortFunc(near, func(a, b p2p.Found) int {
			x, err := p2p.Place(a.Ad.Agent)
			must(t, err)
			y, err := p2p.Place(b.Ad.Agent)
			must(t, err)
			return p2p.Nearer(at, x, y)
		})
		var prices []wire.Sat
		for _, f := range near[:p2p.Width] {
			p, err := wire.StoragePrice(f.Ad.Rate, 1000, 24, 144)
			must(t, err)
			prices = append(prices, p.Sat())
		}
		slices.Sort(prices)
		return prices[0] + prices[1] + prices[2]
	}
	for i := 1; i < len(got); i++ {
		if cost(got[i-1]) > cost(got[i]) {
			t.Fatalf("nonce %d at %v is before nonce %d at %v", got[i-1], cost(got[i-1]), got[i], cost(got[i]))
		}
	}
	if cost(got[0]) == cost(got[len(got)-1]) {
		t.Error("all are alike: the test shows nothing")
	}
	// What none of those met takes is still looked for.
	if got := n.rank(locator, 1<<21, l); !slices.Equal(got, []uint64{0}) {
		t.Errorf("too large for all: %v", got)
	}
	cheap := &Letter{Agents: 3, MaxCost: 10, Blocks: 24}
	fits := n.fitting(agents, 1000, cheap)
	for _, o := range n.offers(fits, 1000, cheap) {
		if o.Value > 10 {
			t.Errorf("an offer of %v above the cap", o.Value)
		}
	}
	if len(fits) == 0 || len(fits) == len(agents) {
		t.Errorf("%d of %d fit", len(fits), len(agents))
	}
	if fits := n.fitting(agents, 1000, &Letter{Agents: 3, MaxCost: 1_000_000, Blocks: 101}); len(fits) != 0 {
		t.Errorf("%d fit for too long", len(fits))
	}
	dear := []choose.Offer{{Value: 5}, {Value: 5}, {Value: 5}}
	if n.affordable(dear, cheap) || !n.affordable(dear, &Letter{Agents: 3, MaxCost: 15}) || !n.affordable(dear, &Letter{Agents: 3, MaxCost: 5, Shape: wire.OneOfMany}) {
		t.Error("15 sat are not what is affordable")
	}
}

// TestRoster: it is bounded, forgets who was met longest ago, and survives a
// restart.
func TestRoster(t *testing.T) {
	h := bare(t)
	n := h.node
	agents := someAgents(maxRoster+50, func(int) wire.Psat { return 1 })
	now := time.Now()
	for i, f := range agents {
		n.roster.note([]p2p.Found{f}, now.Add(time.Duration(i)*time.Second))
	}
	if got := len(n.roster.all()); got != maxRoster {
		t.Errorf("%d remembered", got)
	}
	for _, f := range agents[:50] {
		if n.roster.list[f.Ad.Agent] != nil {
			t.Error("an old one is remembered, a new one forgotten")
		}
	}
	must(t, n.Close())
	h.open()
	if got := len(h.node.roster.all()); got != maxRoster {
		t.Errorf("%d remembered after a restart", got)
	}
	if got := len(h.node.remembered()); got != maxRemembered {
		t.Errorf("%d remembered seeds after a restart", got)
	}
}

// TestSequence: sequence numbers grow, after a restart and after the clock went
// back too.
func TestSequence(t *testing.T) {
	w := newTown(t, 1)
	h := w.homes["agent-0"]
	last := uint64(0)
	next := func() {
		t.Helper()
		r, err := h.node.record(t.Context())
		must(t, err)
		if r.Seq <= last {
			t.Errorf("%d after %d", r.Seq, last)
		}
		last = r.Seq
	}
	next()
	next()
	future := uint64(time.Now().Add(time.Hour).UnixMilli())
	must(t, h.node.store.Update(context.Background(), func(tx engine.Tx) error {
		return tx.Put(bucketSeq, []byte{0}, binary.BigEndian.AppendUint64(nil, future))
	}))
	last = future
	must(t, h.node.Close())
	h.open()
	next()
}
