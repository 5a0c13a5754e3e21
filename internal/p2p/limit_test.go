package p2p

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/bitgram/bitgram/wire"
)

// conn is a connection of a peer at an address.
type conn struct {
	network.Conn
	peer peer.ID
	at   multiaddr.Multiaddr
}

func (c conn) RemotePeer() peer.ID                  { return c.peer }
func (c conn) RemoteMultiaddr() multiaddr.Multiaddr { return c.at }

func from(t *testing.T, n byte, ip string) conn {
	t.Helper()
	id, err := PeerID(keyOf(secret(n)))
	must(t, err)
	family := "ip4"
	if len(ip) > 15 {
		family = "ip6"
	}
	at, err := multiaddr.NewMultiaddr(fmt.Sprintf("/%s/%s/tcp/1", family, ip))
	must(t, err)
	return conn{peer: id, at: at}
}

// TestShares: a peer takes a quarter of the places at once, a network half, and
// whoever leaves makes room.
func TestShares(t *testing.T) {
	for _, family := range []struct{ net, other string }{
		{"203.0.113.%d", "198.51.100.7"},
		{"2001:db8:aaaa:bb00::%d", "2001:db8:aaaa:cc00::7"},
	} {
		g, err := newGuard(Limits{Streams: 16}, false)
		must(t, err)
		var leave []func()
		enter := func(c conn, want bool) {
			t.Helper()
			free, ok := g.enter(c)
			if ok != want {
				t.Fatalf("%s: taken %v, wanted %v", c.at, ok, want)
			}
			if ok {
				leave = append(leave, free)
			}
		}
		for range 4 {
			enter(from(t, 1, fmt.Sprintf(family.net, 1)), true)
		}
		enter(from(t, 1, fmt.Sprintf(family.net, 2)), false) // wherever it calls from
		enter(from(t, 1, family.other), false)
		for i := range 4 {
			enter(from(t, byte(2+i), fmt.Sprintf(family.net, 10+i)), true)
		}
		enter(from(t, 9, fmt.Sprintf(family.net, 99)), false)
		for i := range 8 {
			enter(from(t, byte(20+i/4), family.other), true)
		}
		leave[0]()
		enter(from(t, 9, fmt.Sprintf(family.net, 99)), true)
		for _, f := range leave[1:] {
			f()
		}
		if g.busy != 0 || len(g.byPeer) != 0 || len(g.byNet) != 0 {
			t.Fatalf("%d are busy, %d peers and %d networks remembered", g.busy, len(g.byPeer), len(g.byNet))
		}
	}
}

// TestRates: after a burst a peer gets no more than its rate, whatever it calls
// from, and neither does a network with however many peers; others do.
func TestRates(t *testing.T) {
	g, err := newGuard(Limits{Streams: 64, Rate: 1e-3, Burst: 5}, false)
	must(t, err)
	takes := func(c conn) bool {
		free, ok := g.enter(c)
		if ok {
			free()
		}
		return ok
	}
	for range 5 {
		if !takes(from(t, 1, "203.0.113.1")) {
			t.Fatal("refused within the burst")
		}
	}
	for _, ip := range []string{"203.0.113.1", "203.0.113.2", "198.51.100.1"} {
		if takes(from(t, 1, ip)) {
			t.Errorf("taken from %s beyond the burst", ip)
		}
	}
	n := 5
	for i := byte(2); i < 100; i++ { // a fresh key for each request
		if takes(from(t, i, fmt.Sprintf("203.0.113.%d", i))) {
			n++
		}
	}
	if n != 5*perNetwork {
		t.Errorf("%d requests of one network were taken, wanted %d", n, 5*perNetwork)
	}
	if !takes(from(t, 200, "198.51.100.1")) {
		t.Error("another network is refused")
	}
}

// TestBusyAgain: whoever is told Busy asks again by itself, for a while.
func TestBusyAgain(t *testing.T) { inWorld(t, busyAgain) }

func busyAgain(t world) {
	s := &service{status: func(*wire.StatusRequest) (*wire.Status, error) { return &wire.Status{State: 2}, nil }}
	_, caller, to := pair(t, overTCP, s, Limits{Frame: time.Minute, MinRate: 1 << 20, Streams: 64, Rate: 10, Burst: 1})
	for range 3 {
		_, err := caller.Status(t.Context(), to, &wire.StatusRequest{Point: keyOf(secret(6))})
		must(t, err)
	}
	if n := s.calls.Load(); n != 3 {
		t.Errorf("%d calls", n)
	}
}

// TestOverload: many more callers at once than an agent has places for are
// served one after another; none gets another answer than Busy, and most, who
// ask again, are served.
func TestOverload(t *testing.T) { inWorld(t, overload) }

func overload(t world) {
	var now, most atomic.Int32
	s := &service{status: func(*wire.StatusRequest) (*wire.Status, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(2 * time.Millisecond)
		return &wire.Status{}, nil
	}}
	l := DefaultLimits
	l.Streams = 8
	agent := newHost(t, Config{Identity: secret(1), Listen: []string{overTCP}, Serve: s, Limits: l})
	to := wire.Peer{Key: keyOf(secret(1)), Addrs: agent.Addrs()}
	var served, busy atomic.Int32
	var wg sync.WaitGroup
	const callers, each = 8, 60
	for range callers {
		h := newHost(t, Config{})
		for range each {
			wg.Go(func() {
				var r *Refused
				switch _, err := h.Status(t.Context(), to, &wire.StatusRequest{}); {
				case err == nil:
					served.Add(1)
				case errors.As(err, &r) && r.Code == wire.Busy:
					busy.Add(1)
				default:
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if most.Load() > int32(l.Streams) || served.Load() < callers*each/2 {
		t.Errorf("%d served, %d busy, %d at once", served.Load(), busy.Load(), most.Load())
	}
}
