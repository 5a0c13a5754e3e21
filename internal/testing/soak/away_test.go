package soak

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// chainAway ends the Bitcoin node for a while, and then stalls it: everybody
// says so, and what is sent meanwhile waits and is delivered.
func chainAway(t *testing.T) {
	t.Parallel()
	w := newTown(t, 10, 300*time.Millisecond, 3, "alice", "bob")
	w.up()
	alice, bob := w.users[0], w.users[1]
	w.fund(alice, 10, 100_000)
	var letters []*letter
	send := func() {
		t.Helper()
		for range 2 {
			l := w.letter(alice, bob, 10_000)
			must(t, w.post(t.Context(), l))
			letters = append(letters, l)
		}
	}
	// An outage is seen by some, and ends.
	outage := func(name, says string, by []*party, end, back func()) {
		t.Helper()
		send()
		end()
		w.did("the chain %s", name)
		for _, p := range by {
			w.until(20*time.Second, func() error {
				st, err := p.client().Status(t.Context())
				if err == nil && (st.Chain.Synced || !strings.Contains(st.Chain.Error, says)) {
					err = fmt.Errorf("the chain %s, and %s says %+v", name, p.name, st.Chain)
				}
				return err
			})
		}
		if status, body := w.health(alice); status != 503 || !strings.Contains(body, says) {
			t.Errorf("the chain %s: the health is %d %s", name, status, body)
		}
		if out, code := alice.bitgram("status"); code != 0 || !strings.Contains(out, says) {
			t.Errorf("the chain %s: status, exit code %d\n%s", name, code, out)
		}
		send()
		back()
		w.did("the chain is back")
		for _, p := range w.parties() {
			w.ready(p)
		}
	}
	outage("is killed", "the Bitcoin node is not available: "+w.rpc, w.parties(), w.chain.kill, w.chain.start)
	outage("is stalled", "the Bitcoin node is not available: no answer", nil, // those who ask notice first
		func() { w.chain.signal(syscall.SIGSTOP) }, func() { w.chain.signal(syscall.SIGCONT) })
	if n := w.settle(time.Minute, letters); n != len(letters) {
		t.Errorf("%d of %d letters were delivered", n, len(letters))
	}
	w.balance(time.Minute)
	for _, p := range w.parties() {
		p.stop(5 * time.Second)
	}
}
