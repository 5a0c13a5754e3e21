package p2p

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bitgram/bitgram/internal/testing/packets"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

// world is a test and the network of its hosts: simulated packets under a clock
// that jumps when nobody has anything to do, or real sockets.
type world struct {
	*testing.T
	net *packets.Net // nil for real sockets
}

// inWorld runs f over simulated packets, where every time limit is exact however
// slow the machine is; and in the nightly tier over TCP as well.
func inWorld(t *testing.T, f func(t world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := packets.New(1)
		t.Cleanup(func() { // after its hosts
			n.Close()
			time.Sleep(time.Hour) // for those that still sleep: the clock stops with this function
		})
		f(world{t, n})
	})
	if tier.Nightly {
		t.Run("over TCP", func(t *testing.T) { f(world{t, nil}) })
	}
}

// addrs replaces addresses to listen on by those of the simulated network.
func (w world) addrs(listen []string, ip string) (list []string) {
	for range listen {
		list = append(list, fmt.Sprintf("/ip4/%s/udp/4001/quic-v1", ip))
	}
	return list
}

// quick are limits for tests in which somebody waits for them.
func (w world) quick() Limits {
	l := Limits{Frame: 300 * time.Millisecond, MinRate: 1 << 20, Streams: 64}
	if w.net == nil {
		l.Frame = 3 * time.Second // a machine may be slow
	}
	return l
}

// within fails the test if more than limit has passed since a moment; over real
// sockets it allows a minute more.
func (w world) within(start time.Time, limit time.Duration, what string) {
	w.Helper()
	if w.net == nil {
		limit += time.Minute
	}
	if took := time.Since(start); took > limit {
		w.Errorf("%s: took %v", what, took)
	}
}

// silent returns the address of something that accepts and never speaks.
func (w world) silent() string {
	w.Helper()
	if w.net != nil {
		return fmt.Sprintf("/ip4/%s/udp/4001/quic-v1", w.net.NewIP())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(w, err)
	w.Cleanup(func() { _ = l.Close() })
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port)
}
