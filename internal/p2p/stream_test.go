package p2p

import (
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// TestKeptStreams: requests share a stream; one that the peer has given up costs
// no request, and none is kept twice.
func TestKeptStreams(t *testing.T) {
	for _, addr := range []string{overTCP, overQUIC} {
		s := &service{status: func(*wire.StatusRequest) (*wire.Status, error) { return &wire.Status{State: 1}, nil }}
		agent, caller, to := pair(t, addr, s, DefaultLimits)
		streams := func() (n int) {
			for _, c := range agent.h.Network().Conns() {
				for _, st := range c.GetStreams() {
					if st.Protocol() == protoStatus {
						n++
					}
				}
			}
			return n
		}
		ask := func() {
			t.Helper()
			_, err := caller.Status(t.Context(), to, &wire.StatusRequest{Point: keyOf(secret(6))})
			must(t, err)
		}
		for range 5 {
			ask()
		}
		if n := streams(); n != 1 {
			t.Errorf("%s: %d streams", addr, n)
		}
		for _, c := range agent.h.Network().Conns() {
			for _, st := range c.GetStreams() {
				_ = st.Reset()
			}
		}
		ask()
		must(t, caller.h.Network().ClosePeer(agent.ID()))
		ask()
		if n := s.calls.Load(); n != 7 {
			t.Errorf("%s: %d calls", addr, n)
		}
		caller.idle.mu.Lock()
		if n := caller.idle.n; n != 1 || len(caller.idle.list) != 1 {
			t.Errorf("%s: %d kept, of %d routes", addr, n, len(caller.idle.list))
		}
		caller.idle.mu.Unlock()
	}
}
