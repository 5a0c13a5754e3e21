package job

import (
	"errors"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// TestFarNonsense: a proposer that signs nonsense for a view far ahead is not heard
// there; the other proposers are.
func TestFarNonsense(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	l := newLab(t, 1, d)
	l.start()
	v := Vote{Epoch: 1, View: 1<<20 + 2, Round: VoteSet, Party: 3, Value: wire.Hash{1}}
	v.Sig, _ = sign(d.keys[3], v.digest(&d.terms))
	for i := range 3 {
		must(t, l.step(i, Received{From: 3, Msg: &Proposal{Vote: v}}))
	}
	l.play(3000, l.finished)
	if len(l.certs) != 4 {
		t.Errorf("%d certificates of 4\n%v", len(l.certs), l)
	}
}

// TestVerdictWithoutSet: a verdict that comes while no set can be frozen ends nothing:
// when the votes arrive again, the epochs are agreed on.
func TestVerdictWithoutSet(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	l := newLab(t, 1, d)
	up := false
	for i := range 4 {
		l.peers[i].filter = func(m Message) bool { _, ok := m.(*Vote); return ok && !up }
	}
	l.start()
	l.play(3000, func() bool {
		if !up && !slices.ContainsFunc(l.peers[:4], func(p *peer) bool { return p.node.Stages[0].View <= 2 }) {
			up = true
			v := &Verdict{Epoch: 1, Attempt: 1, State: l.rootOf(1), Party: 4}
			v.Sig, _ = sign(d.keys[4], v.digest(&d.terms))
			for i := range 4 {
				must(t, l.step(i, Received{From: 4, Msg: v}))
			}
		}
		return l.finished()
	})
	if !up || len(l.certs) != 4 {
		t.Errorf("%d certificates of 4\n%v", len(l.certs), l)
	}
}

// mesh connects machines, some of which are nil: dead.
type mesh struct {
	t     *testing.T
	nodes []*Node
	drop  func(from int, m Message) bool
	to    func(from, to int, m Message) bool // drops, too
	queue []parcel
}

func (w *mesh) do(i int, ev Event) {
	w.t.Helper()
	n, out, err := w.nodes[i].Step(ev)
	if err != nil {
		return // a message that changes nothing
	}
	*w.nodes[i] = n
	send := func(to int, m Message) {
		if to != i && to < len(w.nodes) && w.nodes[to] != nil && (w.drop == nil || !w.drop(i, m)) && (w.to == nil || !w.to(i, to, m)) {
			w.queue = append(w.queue, parcel{from: i, to: to, msg: m})
		}
	}
	for _, e := range out {
		switch e := e.(type) {
		case Broadcast:
			for to := range w.nodes {
				send(to, e.Msg)
			}
		case Send:
			send(int(e.To), e.Msg)
		}
	}
}

// play lets ticks pass; at is called before each. Whoever is to run epoch 1 again does.
func (w *mesh) play(ticks int, at func(tick int)) {
	for tick := range ticks {
		at(tick)
		for len(w.queue) > 0 {
			x := w.queue[0]
			w.queue = w.queue[1:]
			w.do(x.to, Received{From: uint8(x.from), Msg: x.msg})
		}
		for i, n := range w.nodes {
			if n != nil {
				w.do(i, Tick{})
			}
		}
	}
}

var state1 = wire.Hash(secretOf("state 1"))

// call delivers the buyer's verdict to all, and has them run again when they are asked.
func (w *mesh) call(d *deal) {
	for i, n := range w.nodes {
		if n != nil {
			v := &Verdict{Epoch: 1, Attempt: 1, State: state1, Buyer: true}
			v.Sig, _ = sign(d.buyer, v.digest(&d.terms))
			w.do(i, Received{From: uint8(i+1) % uint8(len(w.nodes)), Msg: v})
		}
	}
}

func (w *mesh) rerun() {
	for i, n := range w.nodes {
		if n != nil && n.Running == 1 {
			w.do(i, Ran{Epoch: 1, Turn: n.Turn, State: state1, Salt: secretOf("again %d %d", i, n.Turn)})
		}
	}
}

// TestVerdictBesideLock: a node is locked on a certificate, of which the others do not
// know; a verdict that nobody needed does not part them.
func TestVerdictBesideLock(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	list, _ := ready(t, d, [][]uint8{{1, 2}, {0, 2}, {0, 1}, {}}) // the fourth is dead
	called := false
	w := &mesh{t: t, nodes: []*Node{&list[0], &list[1], &list[2]}}
	w.drop = func(from int, m Message) bool {
		_, opened := m.(*Opened)
		return from == 0 && !called && list[0].Frozen != nil && list[1].Frozen != nil && list[2].Frozen != nil && !opened
	}
	w.play(400, func(int) {
		if !called && list[0].Stages[1].Lock != nil && list[1].Stages[1].View > 2 && list[2].Stages[1].View > 2 {
			called = true
			w.call(d)
		}
		w.rerun()
	})
	for i := range 3 {
		if !called || list[i].cur() != 2 {
			t.Errorf("node %d is at epoch %d, attempt %d; called %v", i, list[i].cur(), list[i].Attempt, called)
		}
	}
}

// TestFrozenOutsideSet: a node that has frozen a set in which it is not tells the others
// what it signed until they have frozen it too: their commits are the first, and paid.
func TestFrozenOutsideSet(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	list, c := ready(t, d, [][]uint8{{}, {2, 3}, {1, 3}, {}})
	slow, err := NewNode(d.terms, 0, d.keys[0])
	must(t, err)
	hear := func(ev Event) {
		t.Helper()
		slow, _, err = slow.Step(ev)
		must(t, err)
	}
	for _, ev := range d.opening(t) {
		hear(ev)
	}
	for _, j := range []uint8{1, 2, 3} {
		hear(Received{From: j, Msg: c[j]})
	}
	w := &mesh{t: t, nodes: []*Node{&slow, &list[1], &list[2]}} // the fourth is dead
	now, frozen := 0, -1
	w.drop = func(from int, m Message) bool {
		v, ok := m.(*Vote)
		return from == 0 && ok && v.Round == LockSet && (frozen < 0 || now <= frozen)
	}
	w.play(300, func(tick int) {
		now = tick
		if frozen < 0 && slow.Frozen != nil {
			frozen = tick
		}
		switch {
		case tick == 40:
			w.do(0, Ran{Epoch: slow.Running, Turn: slow.Turn, State: state1, Salt: secretOf("salt 0")})
		case tick == 100:
			w.call(d) // the fourth is dead, and its commit opens to nothing
		case tick > 100:
			w.rerun()
		}
	})
	for i, n := range w.nodes {
		if n.Last == nil || !slices.Equal(n.Last.Body.Paid, []uint32{0, 1, 1, 0, 0}) {
			t.Errorf("node %d: frozen at tick %d, paid %+v", i, frozen, n.Last)
		}
	}
}

// TestOnlyMembersCertify: a standby and two members sign a result under a roster of
// their own choice, and convict nobody by it.
func TestOnlyMembersCertify(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	terms := &x.d.terms
	opening := Opening{Commit: *x.c[0], Reveal: Reveal{Epoch: 1, Party: 0, State: state1, Salt: secretOf("salt 0")}}
	b := *terms.before(nil)
	b.Epoch, b.State, b.Prev = 1, wire.Hash{9}, terms.prev(nil)
	for _, c := range []struct {
		roster  []uint8
		signers []uint8
		proves  bool
	}{{[]uint8{1, 2, 3, 4}, []uint8{2, 3, 4}, false}, {[]uint8{0, 1, 2, 3}, []uint8{2, 3, 4}, false}, {[]uint8{0, 1, 2, 3}, []uint8{1, 2, 3}, true}} {
		b.Roster = c.roster
		proof := &FalseState{Certificate: Certificate{Body: b, Signed: x.quorum(LockCert, 0, b.digest(terms), c.signers...)}, Opening: opening}
		who, err := proof.Against(terms)
		if proves := err == nil; proves != c.proves || proves && who.Party != 0 || !proves && !errors.Is(err, ErrNoProof) {
			t.Errorf("roster %v, signed by %v: %+v, %v", c.roster, c.signers, who, err)
		}
	}
}

// TestFirstSetIsSigned: a first set of which a commit is not signed, or of another
// attempt, is not taken from anybody.
func TestFirstSetIsSigned(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	content, value := x.set(0, 1, 2, 3)
	frozen := x.quorum(LockSet, 0, value, 1, 2, 3)
	opened := Reveal{Epoch: 1, Party: 3, State: state1, Salt: secretOf("salt 3")}
	for name, change := range map[string]func([]Commit){
		"not signed":      func(set []Commit) { set[3].Sig = wire.Signature{} },
		"another attempt": func(set []Commit) { set[2].Attempt = 7 },
		"":                func([]Commit) {},
	} {
		n := x.nodes[0]
		n.Attempt = 1
		set := slices.Clone(content.Set)
		change(set)
		next, _, err := n.Step(Received{From: 3, Msg: &Opened{Set: set, Frozen: frozen, Reveal: opened}})
		if taken := err == nil && next.First != nil; taken != (name == "") {
			t.Errorf("%s: taken %v, %v", name, taken, err)
		}
	}
}
