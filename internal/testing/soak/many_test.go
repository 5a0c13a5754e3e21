//go:build nightly

package soak

import (
	"sync"
	"testing"
	"time"
)

// TestMany sends 200 messages at once through five agents.
func TestMany(t *testing.T) {
	t.Parallel()
	const n = 200
	w := newTown(t, 2, 500*time.Millisecond, 5, "alice", "bob", "carol", "dave")
	for _, a := range w.agents {
		a.args = append(a.args, "--quote-blocks", "60") // quotes outlast the rush
	}
	w.up()
	alice, bob, carol, dave := w.users[0], w.users[1], w.users[2], w.users[3]
	w.fund(alice, n/2, 100_000) // a coin for each message
	w.fund(carol, 3, 5_000_000) // who has to spend its change unconfirmed, and to wait for it
	var letters []*letter
	for i := range n {
		from, to, size := alice, bob, []int{1, 100, 5_000, 70_000}[i/4%4]
		if i%2 == 1 {
			from = carol
		}
		if i%4 >= 2 {
			to = dave
		}
		l := w.letter(from, to, size)
		l.days = 4
		letters = append(letters, l)
	}
	start := time.Now()
	var wg sync.WaitGroup
	for _, l := range letters {
		wg.Go(func() {
			if err := w.post(t.Context(), l); err != nil {
				w.did("%s does not send %s: %v", l.from.name, l.name, err)
			}
		})
	}
	wg.Wait()
	queued := time.Since(start)
	delivered := w.settle(3*time.Minute, letters)
	settled := time.Since(start)
	w.balance(2 * time.Minute)
	t.Logf("%d letters were queued in %v, settled in %v, %d of them delivered; the books balanced after %v", n, queued.Round(time.Millisecond),
		settled.Round(time.Millisecond), delivered, time.Since(start).Round(time.Millisecond))
	if delivered < n/2 {
		t.Errorf("%d of %d letters were delivered", delivered, n)
	}
	for _, p := range w.parties() {
		p.stop(5 * time.Second)
	}
}
