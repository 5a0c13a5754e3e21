package job

import (
	"slices"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// chain returns the certificates of a run, in order.
func (l *lab) chain() (list []Certificate) {
	for e := uint32(1); l.certs[e] != nil; e++ {
		list = append(list, *l.certs[e])
	}
	return list
}

// TestStandbyTheft: a standby that is never paid is dealt one window, however long
// the job runs.
func TestStandbyTheft(t *testing.T) {
	t.Parallel()
	epochs := tier.Pick[uint32](12, 40, 40)
	d := standard(t, epochs)
	l := newLab(t, 1, d)
	l.start()
	l.play(6000, l.finished)
	if !l.finished() {
		t.Fatal(l)
	}
	for i, p := range l.peers {
		if p.node.Dealt[4] != d.terms.Window || p.node.Dealt[(i+1)%4] != epochs {
			t.Errorf("party %d is dealt %v", i, p.node.Dealt)
		}
	}
}

// TestLiarNamed: two that open garbage in the first attempt of every epoch, and copy
// in the next, are paid nothing and named.
func TestLiarNamed(t *testing.T) {
	t.Parallel()
	d := standard(t, 8)
	l := newLab(t, 1, d)
	l.liarsMayBePaid = true // what lies says changes with the attempt; counted below
	for i := range 2 {
		l.peers[i].lies = func(e uint32) bool { n := &l.peers[i].node; return n.Attempt == 0 || e > n.cur() }
	}
	l.start()
	l.play(6000, func() bool { return len(l.certs) == 8 })
	list := l.chain()
	if len(list) == 0 || l.paused == 0 {
		t.Fatal(l)
	}
	last := list[len(list)-1].Body
	if last.Paid[0] > 0 || last.Paid[1] > 0 || last.Paid[2] == 0 {
		t.Errorf("paid %v after %d epochs", last.Paid, len(list))
	}
	for i := range uint8(5) {
		if slices.Contains(l.proofs, Culprit{Party: i}) != (i < 2) {
			t.Errorf("party %d: proofs %v", i, l.proofs)
		}
	}
	t.Logf("%d epochs, %d pauses, paid %v, proofs %v", len(list), l.paused, last.Paid, l.proofs)
}

// TestRushingProposerHarmless: a party that proposes at once where it may, and one
// that in addition never opens, or only where it is not needed, stops nobody: all
// honest parties finish and hold what they earned, and who withholds is not paid.
func TestRushingProposerHarmless(t *testing.T) {
	t.Parallel()
	const evil = 1
	for what, filter := range map[string]func(l *lab, m Message) bool{
		"rushes": nil,
		"never opens": func(l *lab, m Message) bool {
			switch x := m.(type) {
			case *Opened:
				return x.Reveal.Party == evil
			case *Proposal:
				return x.Vote.Round == VoteCert
			case *Change:
				return x.Stage == 1
			}
			return false
		},
		"opens if not needed": func(l *lab, m Message) bool {
			needed := len(l.peers[evil].node.Set) == int(l.deal.terms.Q)
			switch x := m.(type) {
			case *Opened:
				return needed && x.Reveal.Party == evil
			case *Proposal:
				return needed && x.Vote.Round == VoteCert
			}
			return false
		},
	} {
		epochs := tier.Pick[uint32](10, 40, 200)
		d := standard(t, epochs)
		for seed := range tier.Pick[uint64](1, 2, 10) {
			l := newLab(t, seed, d)
			l.away, l.trusting = true, true
			l.peers[evil].rush = true
			if filter != nil {
				l.peers[evil].filter = func(m Message) bool { return filter(l, m) }
			}
			l.start()
			over := func() bool {
				for i, p := range l.peers {
					if i != evil && (!p.node.Over() || p.node.Held < p.node.Paid()) {
						return false
					}
				}
				return true
			}
			l.play(20000, over)
			if !over() || len(l.proofs) > 0 {
				t.Fatalf("%s, seed %d: proofs %v\n%v", what, seed, l.proofs, l)
			}
			b := l.certs[epochs].Body
			for i := range uint8(4) {
				if i != evil && b.Paid[i] < epochs*9/10 {
					t.Errorf("%s, seed %d: paid %v of %d", what, seed, b.Paid, epochs)
				}
			}
			if what == "never opens" && b.Paid[evil] > 0 {
				t.Errorf("%s: paid %v", what, b.Paid)
			}
			t.Logf("%s, seed %d: paid %v of %d, paused %d, roster %v", what, seed, b.Paid, epochs, l.paused, b.Next)
		}
	}
}

// TestVerdictSplit: a verdict that only two of four stuck nodes get reaches all of
// them, and one by a standby for a later attempt than the next is ignored.
func TestVerdictSplit(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"to 0 and 1 only", "attempt 15"} {
		d := standard(t, 6)
		l := newLab(t, 1, d)
		for i := range 2 {
			l.peers[i].lies = func(e uint32) bool { return e == 2 && l.peers[i].node.Attempt == 0 }
		}
		l.mute = true
		l.start()
		l.play(3000, func() bool {
			for i := range 4 {
				if !l.peers[i].node.Paused {
					return false
				}
			}
			return true
		})
		say := func(attempt uint32, to ...int) {
			v := &Verdict{Epoch: 2, Attempt: attempt, State: l.rootOf(2), Party: 4}
			v.Sig, _ = sign(d.keys[4], v.digest(&d.terms))
			for _, i := range to {
				must(t, l.step(i, Received{From: 4, Msg: v}))
			}
		}
		if how == "attempt 15" {
			say(15, 0, 1, 2, 3)
			for i := range 4 {
				if l.peers[i].node.Attempt != 0 || l.peers[i].node.Called != nil {
					t.Error("a standby burns all attempts at once")
				}
			}
		}
		say(1, 0, 1)
		l.mute = false
		l.play(l.ticks+2000, func() bool { return len(l.certs) == 6 })
		if len(l.certs) != 6 || l.certs[2].Body.Attempt != 1 {
			t.Errorf("%s:\n%v", how, l)
		}
	}
}

// TestRestoredNodePaid: a node that was restored from a backup, also after the job's
// end, comes to hold all that it was paid.
func TestRestoredNodePaid(t *testing.T) {
	t.Parallel()
	for _, at := range tier.Pick([]int{30}, []int{5, 25, 30, 35}, []int{5, 10, 15, 20, 25, 30, 35}) {
		d := standard(t, 40)
		l := newLab(t, 1, d)
		l.start()
		l.play(6000, func() bool { return len(l.certs) >= at })
		backup := l.peers[1].node
		l.play(6000, l.finished)
		if !l.finished() {
			t.Fatal(l)
		}
		l.wires = nil
		paid := l.peers[1].node.Paid()
		l.peers[1].node = backup
		must(t, l.step(1, Restored{}))
		if at == 30 { // the last certificate comes first
			must(t, l.step(1, Received{From: 0, Msg: l.certs[40]}))
		}
		l.play(l.ticks+500, func() bool { return l.peers[1].node.Held == paid })
		if n := l.peers[1].node; n.Held != paid || len(l.proofs) > 0 {
			t.Errorf("backup at epoch %d: paid %d, held %d, proofs %v", at, paid, n.Held, l.proofs)
		}
	}
}

// TestFalseDealCost: shares that make no penny are tried once, and the largest job
// has few choices of them.
func TestFalseDealCost(t *testing.T) {
	t.Parallel()
	d := newDeal(t, "dos", 7, 7, MaxThreshold, 1, 4, 4)
	list := d.window(t, 1, 1)
	d.recommit(t, list, func() {
		for j := range list {
			if j != 1 {
				list[j][0].Shares[0][9] ^= byte(j + 1)
			}
		}
	})
	n, err := NewNode(d.terms, 1, d.keys[1])
	must(t, err)
	for _, ev := range d.begun() {
		n, _, err = n.Step(ev)
		must(t, err)
	}
	blamed := 0
	for _, j := range d.terms.others(1) {
		g, err := NewGive(&d.terms, &list[j][0], d.keys[j], 1)
		must(t, err)
		var effects []Effect
		n, effects, err = n.Step(Received{From: j, Msg: g})
		must(t, err)
		for _, e := range effects {
			if p, ok := e.(Publish); ok {
				if c, err := p.Proof.Against(&d.terms); err != nil || !c.Buyer {
					t.Error(c, err)
				}
				blamed++
			}
		}
	}
	if blamed != 1 || n.Held != 0 {
		t.Errorf("blamed %d times, held %d", blamed, n.Held)
	}
	begin := time.Now()
	for range 1000 {
		n, _, err = n.Step(Tick{})
		must(t, err)
	}
	if took := time.Since(begin); !tier.Race && took > 200*time.Millisecond {
		t.Errorf("1000 ticks afterwards take %v: it tries again", took)
	}
}

// TestFailureCertified: a program that fails is agreed on, certified and paid, and
// nothing follows.
func TestFailureCertified(t *testing.T) {
	t.Parallel()
	d := standard(t, 12)
	l := newLab(t, 1, d)
	l.ends, l.fails = 7, true
	l.start()
	l.play(3000, l.finished)
	if !l.finished() || len(l.certs) != 7 || l.certs[7].Body.Outcome != Failed || len(l.proofs) > 0 {
		t.Fatal(l)
	}
	if b := l.certs[7].Body; b.Paid[0] != 7 || l.peers[0].node.Held != 7 {
		t.Errorf("paid %v", b.Paid)
	}
	after := *l.certs[7]
	after.Body.Epoch, after.Body.Prev = 8, d.terms.prev(l.certs[7])
	after.Body.Outcome = Running
	sealed := func(c *Certificate) {
		c.Signed = Quorum{Value: c.Body.digest(&d.terms)}
		v := Vote{Epoch: c.Body.Epoch, Round: LockCert, Value: c.Signed.Value}
		for p := range uint8(3) {
			sig, err := sign(d.keys[p], v.digest(&d.terms))
			must(t, err)
			c.Signed.Sigs = append(c.Signed.Sigs, Signer{Party: p, Sig: sig})
		}
	}
	sealed(&after)
	before := *l.certs[7]
	before.Body.Outcome = Running
	sealed(&before)
	if after.Verify(&d.terms, l.certs[7]) == nil {
		t.Error("an epoch follows a failure")
	}
	after.Body.Prev = d.terms.prev(&before)
	sealed(&after)
	must(t, after.Verify(&d.terms, &before)) // else it does
}

// TestNoMoneyNoWork: a node stops at once when its money is gone: the funding is
// reorged out, the banks' time is over, or its bank has ended. It goes on if the
// funding comes back, and never after a close (ReorgUndo, the machine's half).
func TestNoMoneyNoWork(t *testing.T) {
	t.Parallel()
	epochs := tier.Pick[uint32](12, 40, 40)
	d := standard(t, epochs)
	for what, c := range map[string]struct {
		gone, back Event
		again      bool
	}{
		"reorg":    {Disconnected{contract.Undo{Height: 100}}, Connected{contract.Block{Height: 100, Txs: []contract.Tx{d.funding()}}}, true},
		"too late": {Connected{contract.Block{Height: d.terms.Stop}}, Disconnected{contract.Undo{Height: d.terms.Stop}}, true},
		"ended":    {Ended{}, Connected{contract.Block{Height: 104}}, false},
		"closed":   {Connected{contract.Block{Height: 103, Txs: []contract.Tx{d.close(1)}}}, Disconnected{contract.Undo{Height: 103}}, false},
	} {
		l := newLab(t, 1, d)
		l.trusting = true
		l.start()
		l.play(3000, func() bool { return len(l.certs) >= 4 })
		at := l.peers[1].node.Counted
		must(t, l.step(1, c.gone))
		l.play(l.ticks+400, nil)
		if n := l.peers[1].node; n.Counted != at || n.Running != 0 || n.Funded() {
			t.Errorf("%s: worked to %d, then to %d", what, at, n.Counted)
		}
		if len(l.certs) != int(epochs) {
			t.Errorf("%s: %d epochs without it", what, len(l.certs))
		}
		must(t, l.step(1, c.back))
		must(t, l.step(1, Connected{contract.Block{Height: 105}}))
		if n := l.peers[1].node; n.Funded() != c.again {
			t.Errorf("%s: funded afterwards: %v", what, n.Funded())
		}
	}
	// Blocks that leave and come again change nothing.
	n, err := NewNode(d.terms, 1, d.keys[1])
	must(t, err)
	var list [][]byte
	for range 2 {
		for _, ev := range d.begun() {
			n, _, err = n.Step(ev)
			must(t, err)
		}
		b, err := wire.Marshal(&n)
		must(t, err)
		list = append(list, b)
		for h := wire.Height(102); h >= 100; h-- {
			n, _, err = n.Step(Disconnected{contract.Undo{Height: h}})
			must(t, err)
		}
		if n.Funded() || n.Chain.Funding != nil {
			t.Error("undone, and still funded")
		}
	}
	if string(list[0]) != string(list[1]) {
		t.Error("a reorg of the same blocks leaves another state")
	}
	if in := n.Interest(); in.Txids[0] != d.terms.Funding || in.Outpoints[0] != d.terms.Bank(1) || in.Wake == 0 || in.Done {
		t.Errorf("%+v", in)
	}
}
