package job

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// standard is a job of the default size.
func standard(t testing.TB, epochs uint32) *deal {
	return newDeal(t, "standard", 4, 3, 2, 1, epochs, 4)
}

// seeds runs something with seeds from 1 to n in the nightly tier, with half of them
// in the full and a quarter in the short one.
func seeds(n uint64, f func(seed uint64, r *rand.Rand)) {
	for seed := range tier.Pick(n/4, n/2, n) {
		f(seed+1, rand.New(rand.NewPCG(seed, 2)))
	}
}

// TestAllHonest: over a network that loses and repeats everybody agrees on every
// epoch, and holds every penny in the end.
func TestAllHonest(t *testing.T) {
	t.Parallel()
	d := standard(t, 12)
	for seed := range tier.Pick[uint64](3, 6, 6) {
		l := newLab(t, seed, d)
		l.lose, l.twice = int(seed)*4, 10
		l.ends = 9
		l.start()
		l.play(2000, l.finished)
		if !l.finished() || len(l.certs) != 9 || len(l.proofs) > 0 || l.paused > 0 {
			t.Fatalf("seed %d: proofs %v\n%v", seed, l.proofs, l)
		}
	}
}

// TestPaidEqualsCommitted: whoever lies, sometimes or always, is paid for exactly
// the epochs in which it committed to what the quorum has; its state is never
// certified, nobody else is convicted, and the others are paid and finish. The lab
// checks every certificate (lab.certified).
func TestPaidEqualsCommitted(t *testing.T) {
	t.Parallel()
	d := standard(t, 10)
	named := 0
	seeds(10, func(seed uint64, r *rand.Rand) {
		l := newLab(t, seed, d)
		l.lose = r.IntN(11)
		liar, from, every := r.IntN(5), 1+r.Uint32N(6), 1+r.Uint32N(3)
		l.peers[liar].lies = func(e uint32) bool { return e >= from && e%every == 0 }
		l.start()
		l.play(3000, l.finished)
		if !l.finished() || slices.ContainsFunc(l.proofs, func(c Culprit) bool { return c != Culprit{Party: uint8(liar)} }) {
			t.Fatalf("seed %d: proofs %v\n%v", seed, l.proofs, l)
		}
		named += len(l.proofs)
	})
	if named == 0 {
		t.Error("no liar is named by the certificates")
	}
}

// TestOneCertPerEpoch: with one equivocator, two machines with its key that say
// different things to different parties, hide what they say, and lie, there is one
// certificate of each epoch, over views, losses and new attempts; proofs name the
// equivocator and nobody else. (lab.certified compares; TestModel walks at random
// through the states of one epoch.)
func TestOneCertPerEpoch(t *testing.T) {
	t.Parallel()
	d := standard(t, 6)
	proofs, paused, epochs := 0, 0, 0
	seeds(14, func(seed uint64, r *rand.Rand) {
		l := newLab(t, seed, d)
		l.lose, l.twice = r.IntN(16), 10
		evil := uint8(r.IntN(4))
		l.double(evil)
		l.start()
		l.play(400, l.finished)
		for _, p := range l.proofs {
			if p.Buyer || p.Party != evil {
				t.Fatalf("seed %d: a proof against %v", seed, p)
			}
		}
		proofs, paused, epochs = proofs+len(l.proofs), paused+l.paused, epochs+len(l.certs)
	})
	t.Logf("%d epochs, %d proofs, %d pauses", epochs, proofs, paused)
	if proofs == 0 || epochs == 0 {
		t.Error("nothing happened")
	}
}

// TestCoalitionBound: at every moment (the nightly tier looks after every step), what any coalition was dealt, with what honest
// parties gave it, makes no penny beyond the certified counter of its bank if the
// coalition is too small to deal to itself, and none beyond 2W above the counter that
// the buyer has seen if it is not, one window if the party was never paid. Runs have a
// liar, a party that gives nothing, and a standby that may be in the coalition.
func TestCoalitionBound(t *testing.T) {
	t.Parallel()
	seeds(8, func(seed uint64, r *rand.Rand) {
		d := standard(t, 40)
		l := newLab(t, seed, d)
		if liar := r.IntN(6); liar < 5 {
			l.peers[liar].lies = func(e uint32) bool { return e >= 3 }
			l.peers[(liar+1)%5].stingy = func(k uint32) bool { return k >= 5 }
		}
		taken, seated, steps := uint32(0), false, 0
		l.start()
		l.play(400, func() bool {
			if steps++; steps%tier.Pick(16, 8, 1) > 0 {
				return l.finished()
			}
			seen := d.terms.before(l.certs[l.looked])
			last := seen
			for e := l.looked + 1; l.certs[e] != nil; e++ {
				last = &l.certs[e].Body
			}
			seated = seated || slices.Contains(last.Next, 4)
			for i := range 5 {
				// What each party holds of this bank: the others' dealt windows.
				for c := 1; c < 1<<5; c++ {
					for _, k := range []uint32{last.Paid[i] + 1, seen.Paid[i] + 2*d.terms.Window + 1, d.terms.Window + 1} {
						n := 0
						for j := range 5 {
							gave := c>>i&1 == 1 && k <= l.gaveTo[[2]uint8{uint8(j), uint8(i)}]
							if j != i && (c>>j&1 == 1 && k <= l.peers[j].node.Dealt[i] || gave) {
								n++
							}
						}
						if n < int(d.terms.T) {
							continue // TestFewSharesSayNothing
						}
						members := bits.OnesCount(uint(c &^ (1 << i)))
						switch {
						case k > last.Paid[i] && members < int(d.terms.T):
							t.Fatalf("seed %d: coalition %05b makes penny %d of party %d, certified are %d", seed, c, k, i, last.Paid[i])
						case k > seen.Paid[i]+2*d.terms.Window:
							t.Fatalf("seed %d: coalition %05b makes penny %d of party %d, of which the buyer has seen %d", seed, c, k, i, seen.Paid[i])
						case i == 4 && !seated && k > d.terms.Window:
							t.Fatalf("seed %d: coalition %05b makes penny %d of the standby", seed, c, k)
						}
						taken = max(taken, k-last.Paid[i])
					}
				}
			}
			return l.finished()
		})
		if taken == 0 {
			t.Error("no coalition takes anything: the test is blind")
		}
	})
}

// TestNodeLoss: from any penny on, nobody gives a node its shares. It works for at
// most Ahead epochs more, whatever else it is told, and what it can't close is less
// than Ahead + the pennies to a rung; it resumes only after its arrears came.
func TestNodeLoss(t *testing.T) {
	t.Parallel()
	const perRung = 3
	for _, ahead := range []uint32{1, 2, 4} {
		for stop := uint32(1); stop <= 5; stop += tier.Pick[uint32](2, 1, 1) {
			d := standard(t, 16)
			d.set(func(t *Terms) { t.Ahead = ahead })
			l := newLab(t, uint64(stop), d)
			for i, p := range l.peers {
				if i != 1 {
					p.stingy = func(k uint32) bool { return k >= stop }
				}
			}
			l.start()
			l.play(120, nil)
			n := &l.peers[1].node
			if n.Held != stop-1 || n.Ran > n.Held+ahead {
				t.Fatalf("stop %d, ahead %d: ran %d, held %d", stop, ahead, n.Ran, n.Held)
			}
			if lost := n.Ran - n.Held/perRung*perRung; lost > ahead+perRung {
				t.Errorf("%d epochs are lost", lost)
			}
			// Certificates, ticks and messages don't bring it back to work.
			ran := n.Ran
			l.play(l.ticks+20, nil)
			if n.Ran != ran {
				t.Error("it works on without its arrears")
			}
			// One share short of a penny does not either, the penny does, and for one
			// epoch.
			if n.Ran == n.Held+ahead && !n.Over() {
				if err := l.step(1, Released{K: n.Held + 1}); !errors.Is(err, ErrCombine) {
					t.Errorf("a false penny: %v", err)
				}
				must(t, l.step(1, Released{K: n.Held + 1, Secret: d.secret(1, n.Held+1)}))
				l.play(l.ticks+20, nil)
				if n.Member() && n.Base >= n.before().Epoch && n.Ran > ran+1 || n.Ran > n.Held+ahead {
					t.Errorf("ran %d, then %d", ran, n.Ran)
				}
			}
		}
	}
}

// TestOneDeathFinishes: whichever node dies, and whenever, the others finish, with
// the standby in its place and the buyer away, and hold all that they earned.
func TestOneDeathFinishes(t *testing.T) {
	t.Parallel()
	d := standard(t, 8)
	deaths, paused := 0, 0
	for dies := range 4 {
		for after := 0; after < 900; after += tier.Pick(4, 2, 1) * 131 {
			l := newLab(t, 1, d)
			l.away = true
			l.start()
			l.play(3000, func() bool { return l.steps >= after || l.finished() })
			if l.finished() {
				continue
			}
			deaths++
			l.peers[dies].dead = true
			l.play(3000, l.finished)
			paused += l.paused
			if !l.finished() || len(l.proofs) > 0 {
				t.Fatalf("party %d dies after %d steps\n%v", dies, after, l)
			}
			if last := l.certs[d.terms.Epochs].Body; len(l.certs) > 0 && l.certs[d.terms.Epochs-1].Body.Missed[dies] > 1 && slices.Contains(last.Next, uint8(dies)) {
				t.Errorf("party %d is dead and on the roster %v", dies, last.Next)
			}
		}
	}
	t.Logf("%d deaths, %d times a referee was needed", deaths, paused)
}

// TestReturn: a dead node that returns takes the certificates that it missed, and
// its place only by a later one; a job has one certificate of each epoch, and at
// most n counters rise (protocol §9, 8).
func TestReturn(t *testing.T) {
	t.Parallel()
	d := standard(t, 16)
	l := newLab(t, 3, d)
	l.start()
	l.play(3000, func() bool { return len(l.certs) >= 3 })
	l.peers[2].dead = true
	l.play(3000, func() bool { return len(l.certs) >= 7 })
	if c := l.certs[7].Body; slices.Contains(c.Next, 2) || !slices.Contains(c.Bench, 2) {
		t.Fatalf("roster %v, bench %v", c.Next, c.Bench)
	}
	l.revive(2)
	// It has worked for epochs that it can't be paid for any more.
	l.peers[2].writtenOff = d.terms.Ahead
	must(t, l.step(2, WrittenOff{Epochs: d.terms.Ahead}))
	l.peers[0].dead = true
	l.play(3000, l.finished)
	if !l.finished() {
		t.Fatal(l)
	}
	if c := l.certs[16].Body; !slices.Contains(c.Next, 2) || slices.Contains(c.Next, 0) {
		t.Errorf("paid %v, roster %v\n%v", c.Paid, c.Next, l)
	}
	var chain []Certificate
	for e := uint32(1); e <= 16; e++ {
		chain = append(chain, *l.certs[e])
	}
	must(t, VerifyChain(&d.terms, chain))
}

// TestSharesInAJob: a giver of false shares is named, and a buyer that deals them,
// each by proofs that the machines publish themselves; all others are paid.
func TestSharesInAJob(t *testing.T) {
	t.Parallel()
	d := standard(t, 6)
	l := newLab(t, 1, d)
	l.peers[3].spoils = true
	l.start()
	l.play(2000, l.finished)
	if !l.finished() || len(l.proofs) == 0 {
		t.Fatal(l)
	}
	for _, p := range l.proofs {
		if p != (Culprit{Party: 3}) {
			t.Errorf("against %v", p)
		}
	}
	l = newLab(t, 2, d)
	for j := range 5 {
		if j != 1 {
			d.recommit(t, l.dealt[1][0], func() { l.dealt[1][0][j][0].Shares[2][4] ^= 1 << j })
		}
	}
	l.start()
	l.play(300, l.finished)
	if len(l.proofs) != 1 || !l.proofs[0].Buyer {
		t.Errorf("proofs %v", l.proofs)
	}
	if n := l.peers[1].node; n.Held != 2 || n.Ran > 2+n.Terms.Ahead {
		t.Errorf("held %d, ran %d", n.Held, n.Ran)
	}
}

// outcome is how a run ended, without what depends on salts and on the order of
// messages.
func (l *lab) outcome() string {
	var b bytes.Buffer
	for e := uint32(1); l.certs[e] != nil; e++ {
		x := l.certs[e].Body
		fmt.Fprintf(&b, "%d: %x paid %v, next %v, done %v\n", e, x.State[:4], x.Paid, x.Next, x.Outcome)
	}
	for _, p := range l.peers {
		fmt.Fprintf(&b, "party %d: held %d, worked %d, gave %v, got %v, earned %d\n", p.party, p.node.Held, p.node.Ran, p.node.Gave, p.node.Got, len(p.earned))
	}
	fmt.Fprintf(&b, "%v\n", l.proofs)
	return b.String()
}

// TestCrashEquivalence: whoever crashes at any step, before its messages leave, with all
// that waits in its inbox, and comes back with what was committed, everything that is done is done twice, and
// all ends as it would have: no party is framed, none is paid less (protocol §9, 8).
// The nightly tier crashes at every step, the others at a sample.
func TestCrashEquivalence(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	play := func(crash int, gather bool) *lab {
		l := newLab(t, 5, d)
		l.crash, l.ends, l.gather = crash, 3, gather
		l.start()
		l.play(1000, nil)
		return l
	}
	sample := tier.NewSample(t)
	for _, gather := range []bool{false, true} {
		calm := play(-1, gather)
		want, crashes := calm.outcome(), 0
		for at := 1; at < calm.steps; at++ {
			if !sample.Of(100, 15) {
				continue
			}
			crashes++
			if got := play(at, gather).outcome(); got != want {
				t.Fatalf("inbox %v, crash at step %d:\n%s\nundisturbed:\n%s", gather, at, got, want)
			}
		}
		t.Logf("inbox %v: %d crashes of %d steps; it ends so:\n%s", gather, crashes, calm.steps, want)
	}
}

// TestRestored: a node that was restored from a backup signs nothing any more,
// gives and takes shares, and is replaced.
func TestRestored(t *testing.T) {
	t.Parallel()
	d := standard(t, 12)
	l := newLab(t, 1, d)
	l.start()
	l.play(1000, func() bool { return len(l.certs) >= 2 })
	backup := l.peers[1].node
	l.play(1000, func() bool { return len(l.certs) >= 4 })
	l.peers[1].node = backup
	must(t, l.step(1, Restored{}))
	l.play(3000, l.finished)
	if !l.finished() || len(l.proofs) > 0 || slices.Contains(l.certs[12].Body.Next, 1) {
		t.Fatalf("proofs %v\n%v", l.proofs, l)
	}
}

// TestMismatch: where no quorum agrees the job pauses, and goes on from a new
// attempt that a referee calls for; nobody else can, and who is not paused stays.
func TestMismatch(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	l := newLab(t, 1, d)
	lied := map[int]int{}
	for i := range 2 {
		l.peers[i].lies = func(e uint32) bool { lied[i]++; return e == 2 && l.paused == 0 }
	}
	for i := range 2 { // what they run is judged in the first attempt only
		lies := l.peers[i].lies
		l.peers[i].lies = func(e uint32) bool { return l.paused == 0 && lies(e) }
	}
	l.start()
	l.play(2000, func() bool { return len(l.certs) == 4 })
	if len(l.certs) != 4 || l.paused == 0 || l.certs[2].Body.Attempt == 0 {
		t.Fatal(l)
	}
	// LiarNamed: what the two had opened first is not paid, and names them.
	if p := l.certs[2].Body.Paid; !slices.Equal(p, []uint32{1, 1, 2, 2, 0}) {
		t.Errorf("paid %v", p)
	}
	for i := range uint8(5) {
		if slices.Contains(l.proofs, Culprit{Party: i}) != (i < 2) {
			t.Errorf("party %d: proofs %v", i, l.proofs)
		}
	}
	n := l.peers[2].node
	v := &Verdict{Epoch: n.cur(), Attempt: 1, Party: 4}
	v.Sig, _ = sign(d.keys[4], v.digest(&d.terms))
	if next, _, err := n.Step(Received{From: 4, Msg: v}); err != nil || next.Attempt != n.Attempt {
		t.Error("a verdict while nothing is wrong", err)
	}
}
