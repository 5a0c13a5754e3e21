package agent

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestQuotas: a peer, with however many addresses, and a network, with however
// many peers, have no more than their shares of what nobody has paid for; and
// have them again as soon as it is paid for or over.
func TestQuotas(t *testing.T) {
	const size = 100_000
	p := &deal.Policy{MaxUnfunded: 64 * size}
	l := &load{}
	caller := func(n byte, network string) p2p.Caller { return p2p.Caller{Peer: peer.ID([]byte{n}), Network: network} }
	states := map[wire.Key]deal.Agent{}
	// to moves a contract to a state.
	to := func(point wire.Key, next deal.Agent) {
		next.Quote.Point = point
		c := engine.Change{State: next}
		if old, ok := states[point]; ok {
			c.Before = old
		}
		l.change(c)
		states[point] = next
	}
	held := deal.Agent{Package: &wire.Package{Section: wire.Section{Leaf: wire.Leaf{Size: size - 8192}}}}
	points := byte(0)
	quote := func(c p2p.Caller) (point wire.Key, err error) {
		if err := l.quote(c); err != nil {
			return point, err
		}
		points++
		point = wire.Key{points, byte(len(states)), byte(len(states) >> 8)}
		l.charge(point, c)
		to(point, deal.Agent{})
		return point, nil
	}
	store := func(point wire.Key) error {
		free, err := l.reserve(point, size, p)
		if err != nil {
			return err
		}
		to(point, held)
		free()
		return nil
	}
	full := func(err error) bool {
		var r *wire.Refusal
		return errors.As(err, &r) && r.Code == wire.Full
	}
	// fill stores until it is refused.
	fill := func(next func() p2p.Caller) (n int) {
		for {
			point, err := quote(next())
			must(t, err)
			if err := store(point); err != nil {
				if !full(err) {
					t.Fatal(err)
				}
				return n
			}
			n++
		}
	}
	one := caller(1, "203.0.113.0/24")
	if n := fill(func() p2p.Caller { return one }); n != 64/peerShare {
		t.Errorf("a peer stored %d messages", n)
	}
	next := byte(2)
	fresh := func() p2p.Caller { next++; return caller(next, "203.0.113.0/24") }
	if n := fill(fresh); n != 64/networkShare-64/peerShare {
		t.Errorf("its network stored %d more", n)
	}
	if n := fill(func() p2p.Caller { next++; return caller(next, "198.51.100.0/24") }); n != 64/networkShare {
		t.Errorf("another network stored %d", n)
	}
	// Paid for, and over.
	paid := held
	paid.Funded = true
	for point := range states {
		to(point, paid)
	}
	if len(l.askers) != 0 || len(l.owed) != 0 || l.sums.Unpaid != 0 {
		t.Fatalf("%d askers and %d debtors are left, %d bytes unpaid", len(l.askers), len(l.owed), l.sums.Unpaid)
	}
	n := 0
	for ; ; n++ {
		if _, err := quote(one); err != nil {
			if !full(err) {
				t.Fatal(err)
			}
			break
		}
	}
	if n != maxQuotes/peerShare {
		t.Errorf("%d quotes to a peer", n)
	}
	if _, err := quote(fresh()); err != nil {
		t.Errorf("its neighbour: %v", err)
	}
}
