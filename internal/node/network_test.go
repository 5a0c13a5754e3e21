package node

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/node/delivery"
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
		n.Delivery.Holders(t.Context(), sec, func(c deal.Candidate) {
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
	ref, err := w.homes["sender"].node.Delivery.Send(t.Context(), delivery.Letter{To: to, Body: bytes.NewReader(body), Agents: 3, MaxCost: 100_000, Blocks: 24})
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
