package soak

import (
	"context"
	"math/rand/v2"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// TestKills kills processes at random moments of many transfers.
func TestKills(t *testing.T) {
	tier.NotShort(t)
	t.Parallel()
	run := *soakTime
	if run == 0 {
		run = tier.Pick(0, 3*time.Second, time.Minute)
	}
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-soak.seed %d -soak.time %v", seed, run)
	w := newTown(t, seed, 300*time.Millisecond, tier.Pick(0, 3, 5), "alice", "bob", "carol")
	w.up()
	alice, bob, carol := w.users[0], w.users[1], w.users[2]
	w.fund(alice, 30, 100_000)
	w.fund(carol, 2, 2_000_000) // who has to wait for its change, or to spend it unconfirmed
	var letters []*letter
	for end := time.Now().Add(run); time.Now().Before(end); {
		letters = append(letters, w.round(alice, bob, carol)...)
	}
	for _, p := range w.parties() {
		if !p.up() {
			p.start()
		}
	}
	if !w.chain.up() {
		w.chain.start()
	}
	w.up()
	delivered := w.settle(2*time.Minute, letters)
	w.balance(2 * time.Minute)
	t.Logf("%d letters, %d delivered", len(letters), delivered)
	if delivered < len(letters)/2 {
		t.Errorf("%d of %d letters were delivered", delivered, len(letters))
	}
	for _, p := range w.parties() {
		p.stop(5 * time.Second)
	}
}

// round sends some letters and kills, meanwhile, one or two processes, which
// are started again; sometimes blocks are replaced.
func (w *town) round(alice, bob, carol *party) (letters []*letter) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for range 1 + w.rand.IntN(3) {
		from := []*party{alice, carol}[w.rand.IntN(2)]
		letters = append(letters, w.letter(from, bob, 1+w.rand.IntN(200_000)))
	}
	procs := []*proc{w.chain}
	for _, p := range w.parties() {
		procs = append(procs, p.proc)
	}
	w.rand.Shuffle(len(procs), func(i, j int) { procs[i], procs[j] = procs[j], procs[i] })
	victims := procs[:1+w.rand.IntN(2)]
	var pauses []time.Duration
	for range 2 * len(victims) {
		pauses = append(pauses, time.Duration(w.rand.IntN(1500))*time.Millisecond)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		for _, l := range letters {
			if err := w.post(ctx, l); err != nil {
				w.did("%s does not send %s: %v", l.from.name, l.name, err)
			} else {
				w.did("%s sends %s, %d bytes: %s", l.from.name, l.name, len(l.body), l.ids[0])
			}
		}
	}()
	for i, p := range victims {
		time.Sleep(pauses[2*i])
		w.did("kill %s", p.name)
		p.kill()
	}
	for i, p := range victims {
		time.Sleep(pauses[2*i+1])
		w.did("start %s", p.name)
		p.start()
	}
	<-done
	if w.rand.IntN(4) == 0 {
		depth := 1 + w.rand.IntN(2) // less than secrets wait for
		w.did("reorg of %d blocks", depth)
		w.call("reorg", url.Values{"depth": {strconv.Itoa(depth)}})
	}
	return letters
}
