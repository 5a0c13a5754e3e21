package job

import (
	"slices"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// TestLockNotLeftBehind: a node is locked on a certificate by the votes of a liar that
// says nothing more. Another lacks the liar's opening: it is stuck, and a verdict is
// there. It does not leave: the others are not stuck, and what they pass on brings it
// to the certificate.
func TestLockNotLeftBehind(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	// The third is slow: it has no result, and nobody has its commit.
	list, c := ready(t, x.d, [][]uint8{{1, 3}, {0, 3}, {}, {}})
	x.c = c
	slow, err := NewNode(x.d.terms, 2, x.d.keys[2])
	must(t, err)
	for _, ev := range x.d.opening(t) {
		slow, _, err = slow.Step(ev)
		must(t, err)
	}
	nodes := []*Node{&list[0], &list[1], &slow}
	liar := Reveal{Epoch: 1, Party: 3, State: state1, Salt: secretOf("salt 3")}
	late := true
	w := &mesh{t: t, nodes: nodes}
	// What has the liar's opening does not reach the slow one, as long as the network is
	// against it.
	w.to = func(_, to int, m Message) bool {
		if to != 2 || !late {
			return false
		}
		switch m := m.(type) {
		case *Opened:
			return m.Reveal.Party == 3
		case *Proposal:
			return m.Vote.Round == VoteCert
		case *Vote:
			return m.Round >= VoteCert
		case *Change:
			return m.Stage == 1
		}
		return false
	}
	lied, called := false, false
	w.play(200, func(tick int) {
		for i := range 2 {
			if n := nodes[i]; n.Frozen != nil && n.Reveals[3] == nil && n.cur() == 1 {
				w.do(i, Received{From: 3, Msg: &Opened{Set: n.Set, Frozen: *n.Frozen, Reveal: liar}})
			}
		}
		if p := nodes[0].Stages[1].Proposal; p != nil && !lied {
			lied = true
			w.do(0, Received{From: 3, Msg: x.vote(3, VoteCert, p.Vote.View, p.Vote.Value)})
		}
		if slow.Paused && !called {
			called = true
			v := &Verdict{Epoch: 1, Attempt: 1, State: state1, Party: 4}
			v.Sig, _ = sign(x.d.keys[4], v.digest(&x.d.terms))
			for i := range 3 {
				w.do(i, Received{From: 3, Msg: v})
			}
			if slow.Attempt != 0 {
				t.Error("it leaves the others, one of which is locked")
			}
		}
		if tick == 60 {
			late = false
		}
	})
	if !lied || !called {
		t.Fatal("nothing happened", lied, called)
	}
	for i, n := range nodes {
		if n.cur() != 2 || n.Last.Body.Attempt != 0 {
			t.Errorf("node %d is at epoch %d, attempt %d, locked %v", i, n.cur(), n.Attempt, n.Stages[1].Lock != nil)
		}
	}
}

// TestDeadStandby: a party that was replaced because it died is not seated again when
// another dies, until it shows life.
func TestDeadStandby(t *testing.T) {
	t.Parallel()
	d := standard(t, 16)
	d.set(func(t *Terms) { t.Window = 16 })
	l := newLab(t, 1, d)
	l.away = true
	l.start()
	at := func(n int) func() bool { return func() bool { return len(l.certs) >= n } }
	l.play(3000, at(2))
	l.peers[2].dead = true
	l.play(3000, at(6))
	if b := l.certs[6].Body; slices.Contains(b.Next, 2) {
		t.Fatal(b)
	}
	for range silent { // its last words are forgotten
		l.tick()
	}
	l.peers[0].dead = true
	l.play(3000, at(12))
	if b := l.certs[12].Body; slices.Contains(b.Next, 2) || !slices.Contains(b.Next, 0) {
		t.Fatalf("the dead replace one another: roster %v, bench %v, missed %v", b.Next, b.Bench, b.Missed)
	}
	l.revive(2)
	l.play(3000, at(16))
	if b := l.certs[16].Body; !slices.Contains(b.Next, 2) || slices.Contains(b.Next, 0) || len(l.proofs) > 0 {
		t.Errorf("roster %v, bench %v, proofs %v", b.Next, b.Bench, l.proofs)
	}
}

// TestRestoredStandby: a standby that was restored from a backup signs nothing, though
// it gives shares and is heard: it is not seated.
func TestRestoredStandby(t *testing.T) {
	t.Parallel()
	d := standard(t, 12)
	l := newLab(t, 1, d)
	l.away = true
	l.start()
	l.play(3000, func() bool { return len(l.certs) >= 2 })
	must(t, l.step(4, Restored{}))
	for range 2 * silent {
		l.tick()
	}
	l.play(3000, func() bool { return len(l.certs) >= 4 })
	l.peers[0].dead = true
	l.play(3000, func() bool { return len(l.certs) == 12 })
	if len(l.certs) != 12 || slices.Contains(l.certs[12].Body.Next, 4) {
		t.Errorf("%v\n%v", l.chain()[len(l.certs)-1].Body, l)
	}
}

// TestLifeNeedsAnHonestWitness: a liar alone neither seats a dead standby nor keeps a
// live one away.
func TestLifeNeedsAnHonestWitness(t *testing.T) {
	t.Parallel()
	d := newDeal(t, "life", 4, 3, 2, 2, 4, 4)
	known := &Certificate{Body: *d.terms.before(nil)}
	known.Body.Missed = []uint8{0, 0, 0, 5, 0, 0}
	known.Body.Epoch = 1
	for _, x := range []struct {
		seen  [3]uint8
		seats uint8
	}{
		{[3]uint8{0, 0, 0}, 3},
		{[3]uint8{1 << 4, 0, 0}, 3},
		{[3]uint8{1 << 4, 1 << 5, 1 << 5}, 5}, // the first is dead, and one lies for it
		{[3]uint8{0, 1<<4 | 1<<5, 1 << 4}, 4}, // one hides both
		{[3]uint8{1<<4 | 1<<5, 1<<4 | 1<<5, 1<<4 | 1<<5}, 4},
	} {
		c := &Content{}
		for p := range uint8(3) {
			c.Set = append(c.Set, Commit{Epoch: 2, Party: p, Seen: x.seen[p]})
			c.Reveals = append(c.Reveals, Reveal{Epoch: 2, Party: p, State: state1})
		}
		b, ok := d.terms.body(known, 0, wire.Hash{}, c)
		if !ok || b.Next[3] != x.seats || len(b.Bench) != 2 {
			t.Errorf("%v: roster %v, bench %v", x.seen, b.Next, b.Bench)
		}
		if known.Body.Bench[0] != 4 || known.Body.Bench[1] != 5 {
			t.Fatal("the certificate before was modified")
		}
	}
}

// TestReferee: a party on the bench runs an epoch on which no quorum agrees, once, and
// calls for attempts; it runs nothing while a quorum can agree, nor for what is not
// proven, and says what it was told if too little was opened.
func TestReferee(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	// Two lie in the first attempt at epoch 2.
	l := newLab(t, 1, d)
	l.away = true
	for i := range 2 {
		l.peers[i].lies = func(e uint32) bool { return e == 2 && l.peers[i].node.Attempt == 0 }
	}
	l.liarsMayBePaid = true
	l.start()
	l.play(3000, func() bool { return len(l.certs) == 4 })
	if len(l.certs) != 4 || l.judged != 1 || l.certs[2].Body.Attempt != 1 {
		t.Errorf("run %d times\n%v", l.judged, l)
	}
	// Nobody lies; one liar, whom three outvote.
	for lies := range 2 {
		l = newLab(t, 2, d)
		l.lose = 10
		if lies == 1 {
			l.peers[0].lies = func(uint32) bool { return true }
		}
		l.start()
		l.play(3000, l.finished)
		if !l.finished() || l.judged > 0 {
			t.Errorf("%d lie: run %d times\n%v", lies, l.judged, l)
		}
	}

	x := newTable(t)
	referee, err := NewNode(d.terms, 4, d.keys[4])
	must(t, err)
	for _, ev := range append(x.d.opening(t), Tick{}) {
		referee, _, err = referee.Step(ev)
		must(t, err)
	}
	content, a := x.set(0, 1, 2, 3)
	frozen := x.quorum(LockSet, 0, a, 0, 1, 2)
	commits := content.Set
	for p := range uint8(2) { // these two open to something else
		commits[p].Hash = commitment(&d.terms, 1, wire.Hash{}, wire.Hash{9}, Running, secretOf("salt %d", p), p)
		commits[p].Sig, _ = sign(d.keys[p], commits[p].digest(&d.terms))
	}
	frozen = x.quorum(LockSet, 0, setValue(&d.terms, 1, 0, commits), 0, 1, 2)
	opened := func(p uint8) *Opened {
		state := state1
		if p < 2 {
			state = wire.Hash{9}
		}
		return &Opened{Set: commits, Frozen: frozen, Reveal: Reveal{Epoch: 1, Party: p, State: state, Salt: secretOf("salt %d", p)}}
	}
	hear := func(n Node, ev Event) (Node, []Effect) {
		next, out, err := n.Step(ev)
		if err != nil {
			return n, nil
		}
		return next, out
	}
	asks := func(out []Effect) bool {
		return slices.ContainsFunc(out, func(e Effect) bool { _, ok := e.(Judge); return ok })
	}
	// What no quorum has frozen, or opens nothing, is no reason.
	n := referee
	for p := range uint8(4) {
		o := *opened(p)
		o.Frozen.Sigs = o.Frozen.Sigs[:2]
		var out []Effect
		if n, out = hear(n, Received{From: p, Msg: &o}); len(out) > 0 || n.Frozen != nil {
			t.Error("a set that is not frozen is a reason")
		}
		o = *opened(p)
		o.Reveal.State[3]++
		if n, out = hear(n, Received{From: p, Msg: &o}); asks(out) {
			t.Error("what opens nothing is a reason")
		}
	}
	// Two and one may still agree with the fourth; two and two never.
	var out []Effect
	for p := range uint8(4) {
		n, out = hear(n, Received{From: p, Msg: opened(p)})
		if asks(out) != (p == 3) {
			t.Errorf("after %d openings: %v", p+1, out)
		}
	}
	n, out = hear(n, Judged{Epoch: 1, State: state1})
	if v := said[*Verdict](out); len(v) != 1 || v[0].State != state1 || v[0].Attempt != 1 || v[0].Party != 4 {
		t.Errorf("no verdict: %v", out)
	}
	if _, out = hear(n, Judged{Epoch: 1, State: state1}); len(out) > 0 {
		t.Error("two verdicts")
	}
	if n, out = hear(n, Tick{}); len(said[*Verdict](out)) != 1 {
		t.Error("the verdict is not repeated")
	}
	// Again in the next attempt: it knows the result.
	second := []Commit(nil)
	for p := range uint8(4) {
		o := opened(p)
		c := Commit{Epoch: 1, Attempt: 1, Party: p, Hash: commitment(&d.terms, 1, wire.Hash{}, o.Reveal.State, Running, o.Reveal.Salt, p)}
		c.Sig, _ = sign(d.keys[p], c.digest(&d.terms))
		second = append(second, c)
	}
	q := Quorum{Value: setValue(&d.terms, 1, 1, second)}
	vote := Vote{Epoch: 1, Attempt: 1, Round: LockSet, Value: q.Value}
	for p := range uint8(3) {
		sig, err := sign(d.keys[p], vote.digest(&d.terms))
		must(t, err)
		q.Sigs = append(q.Sigs, Signer{Party: p, Sig: sig})
	}
	for p := range uint8(4) {
		r := opened(p).Reveal
		r.Attempt = 1
		n, out = hear(n, Received{From: p, Msg: &Opened{Set: second, Frozen: q, Reveal: r}})
		if asks(out) {
			t.Error("it runs an epoch twice")
		}
	}
	if v := said[*Verdict](out); len(v) != 1 || v[0].Attempt != 2 {
		t.Errorf("no second verdict: %v", out)
	}
	// Too little is opened.
	n = referee
	for p := range uint8(2) {
		n, _ = hear(n, Received{From: p, Msg: opened(p)})
	}
	for range stuckTicks {
		n, out = hear(n, Tick{})
	}
	if v := said[*Verdict](out); len(v) != 1 || asks(out) {
		t.Errorf("%v", out)
	}
}
