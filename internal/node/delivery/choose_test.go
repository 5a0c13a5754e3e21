package delivery

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// met is a directory that knows agents, and looks for no others.
type met struct {
	Directory
	list []*directory.Met
}

func (m met) Met() []*directory.Met { return slices.Clone(m.list) }

// knowing is a room that has met agents.
func knowing(t *testing.T, agents []p2p.Found) *Delivery {
	t.Helper()
	var m met
	for _, f := range agents {
		place, err := p2p.Place(f.Ad.Agent)
		must(t, err)
		m.list = append(m.list, &directory.Met{Found: f, Place: place})
	}
	return &Delivery{cfg: Config{Directory: m, Margins: deal.MarginsFor(wire.Regtest)}}
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
	l := &Letter{Agents: 3, MaxCost: 1_000_000, Blocks: 24}
	locator := func(nonce uint64) wire.Locator { return seal.MessageKey(wire.Hash{1}, nonce).Locator() }
	n := knowing(t, someAgents(p2p.Width, func(int) wire.Psat { return 1 }))
	if got := n.rank(locator, 1000, l); !slices.Equal(got, []uint64{0}) {
		t.Errorf("one neighbourhood: %v", got)
	}
	agents := someAgents(120, func(i int) wire.Psat { return wire.Psat(1+i*i) * 1_000_000_000 })
	n = knowing(t, agents)
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
