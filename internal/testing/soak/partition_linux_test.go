package soak

import (
	"sync"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

func init() { stories["partition"] = partition }

// partition cuts half of the agents off, and then the others with the
// recipient, in the middle of many transfers over a slow network that loses
// packets.
func partition(t *testing.T) {
	t.Parallel()
	w := newTown(t, 8, 400*time.Millisecond, tier.Pick(0, 4, 6), "alice", "bob")
	n := newWires(w)
	w.up()
	alice, bob := w.users[0], w.users[1]
	w.fund(alice, 20, 100_000)
	n.weather(100*time.Millisecond, 50*time.Millisecond, 0.01)
	var letters []*letter
	var sending sync.WaitGroup
	send := func() {
		for range 5 {
			l := w.letter(alice, bob, 1+w.rand.IntN(100_000))
			letters = append(letters, l)
			sending.Go(func() {
				if err := w.post(t.Context(), l); err != nil {
					w.did("alice does not send %s: %v", l.name, err)
				} else {
					w.did("alice sends %s, %d bytes: %s", l.name, len(l.body), l.ids[0])
				}
			})
		}
	}
	send()
	time.Sleep(2 * time.Second)
	send()
	sending.Wait()
	w.did("half of the agents are cut off")
	half := len(w.agents) / 2
	n.part(w.agents[:half]...)
	send()
	time.Sleep(3 * time.Second)
	w.did("the others and bob are cut off")
	n.part(append([]*party{bob}, w.agents[half:]...)...)
	time.Sleep(2 * time.Second)
	w.did("all are joined")
	n.part()
	sending.Wait()
	delivered := w.settle(time.Minute, letters)
	w.balance(time.Minute)
	t.Logf("%d of %d letters were delivered; %d packets were lost; %v", delivered, len(letters), n.lost.Load(), time.Since(w.start).Round(time.Second))
	if delivered < len(letters)/2 {
		t.Errorf("%d of %d letters were delivered", delivered, len(letters))
	}
	for _, p := range w.parties() {
		p.stop(5 * time.Second)
	}
}
