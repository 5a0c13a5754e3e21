package job

import (
	"errors"
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// march plays a job on a clock: an epoch takes party i speed[i] ticks, and everything
// that is said within a tick arrives in it, in random order.
func (l *lab) march(speed []int, most int, stop func() bool) {
	running, left := make([]*task, len(l.peers)), make([]int, len(l.peers))
	for at := 0; at < most && !stop(); at++ {
		var late []task
		for len(l.wires)+len(l.queue) > 0 {
			i := l.rng.IntN(len(l.wires) + len(l.queue))
			if i < len(l.wires) {
				m := l.wires[i]
				l.wires[i] = l.wires[len(l.wires)-1]
				l.wires = l.wires[:len(l.wires)-1]
				if err := l.step(m.to, Received{From: l.peers[m.from].party, Msg: m.msg}); err != nil && !errors.Is(err, ErrEarly) {
					l.t.Fatal(err)
				}
				continue
			}
			i -= len(l.wires)
			k := l.queue[i]
			l.queue[i] = l.queue[len(l.queue)-1]
			l.queue = l.queue[:len(l.queue)-1]
			switch k.e.(type) {
			case Run:
				running[k.peer], left[k.peer] = &k, speed[k.peer]
			case Cancel:
				running[k.peer] = nil
			default:
				if !l.do(k) {
					late = append(late, k)
				}
			}
		}
		l.queue, l.gives = late, nil
		l.tick()
		for i, k := range running {
			if left[i]--; k != nil && left[i] <= 0 {
				running[i] = nil
				l.do(*k)
			}
		}
	}
}

// pace measures a job in which one honest node has half the speed of the others, and
// another proposes at once if rush is set: who is paid for how many epochs, and how
// often a node was left out of a set. Nobody halts.
func pace(t *testing.T, epochs uint32, rush bool) {
	d := newDeal(t, "pace", 4, 3, 2, 1, epochs, min(epochs, 512))
	l := newLab(t, 1, d)
	l.away, l.trusting = true, true
	l.peers[1].rush = rush
	l.start()
	l.march([]int{5, 5, 5, 10, 5}, int(epochs)*40, l.finished)
	if !l.finished() || len(l.proofs) > 0 {
		t.Fatalf("proofs %v\n%v", l.proofs, l)
	}
	b := l.certs[epochs].Body
	left := epochs - b.Paid[3]
	t.Logf("rush %v: paid %v of %d epochs; the node of half the speed is left out of %d; %d ticks, paused %d, roster %v", rush, b.Paid, epochs, left, l.ticks, l.paused, b.Next)
	if left > epochs/100 || b.Next[3] != 3 {
		t.Errorf("the slow node is left out of %d", left)
	}
	for _, p := range l.peers[:4] {
		if p.node.Held < epochs-left {
			t.Errorf("party %d holds %d", p.party, p.node.Held)
		}
	}
}

// TestNoExclusionOfSlow: an honest node of half the speed is in the sets, with and
// without a proposer that is in a hurry. The nightly tier plays 10,000 epochs.
func TestNoExclusionOfSlow(t *testing.T) {
	t.Parallel()
	for _, rush := range []bool{false, true} {
		pace(t, tier.Pick[uint32](10, 50, 10_000), rush)
	}
}
