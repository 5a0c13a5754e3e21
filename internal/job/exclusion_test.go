package job

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// ready is the nodes of a job that have run epoch 1 and have some of one another's
// commits: has[i] are the parties whose commits node i has, besides its own.
func ready(t *testing.T, d *deal, has [][]uint8) (nodes []Node, commits []*Commit) {
	t.Helper()
	for i := range has {
		n, err := NewNode(d.terms, uint8(i), d.keys[i])
		must(t, err)
		for _, ev := range append(d.opening(t), Ran{Epoch: 1, State: wire.Hash(secretOf("state 1")), Salt: secretOf("salt %d", i)}) {
			n, _, err = n.Step(ev)
			must(t, err)
		}
		nodes, commits = append(nodes, n), append(commits, n.Commits[i])
	}
	for i := range nodes {
		for _, j := range has[i] {
			var err error
			nodes[i], _, err = nodes[i].Step(Received{From: j, Msg: commits[j]})
			must(t, err)
		}
	}
	return nodes, commits
}

func (d *deal) propose(t *testing.T, by uint8, view uint32, changes []Change, set ...*Commit) *Proposal {
	t.Helper()
	p := &Proposal{Changes: changes}
	for _, c := range set {
		p.Content.Set = append(p.Content.Set, *c)
	}
	p.Vote = Vote{Epoch: 1, View: view, Party: by, Value: setValue(&d.terms, 1, 0, p.Content.Set)}
	p.Vote.Sig, _ = sign(d.keys[by], p.Vote.digest(&d.terms))
	return p
}

func said[M Message](effects []Effect) (list []M) {
	for _, e := range effects {
		if b, ok := e.(Broadcast); ok {
			if m, ok := b.Msg.(M); ok {
				list = append(list, m)
			}
		}
	}
	return list
}

// TestNoExclusion: a proposer that omits a commit is refused by everybody who holds
// it, with the commit, so that all hold it then; and by the party itself. Who does
// not hold it votes. A set that carries a lock passes all the same (protocol §9, 7).
func TestNoExclusion(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	// The proposer of view 0 of epoch 1 is party 1. Nobody but 0 and 3 has 3's commit.
	nodes, c := ready(t, d, [][]uint8{{1, 2, 3}, {0, 2}, {0, 1}, {0, 1, 2}})
	p := d.propose(t, 1, 0, nil, c[0], c[1], c[2])
	for _, i := range []int{0, 3} {
		next, effects, err := nodes[i].Step(Received{From: 1, Msg: p})
		must(t, err)
		if len(said[*Vote](effects)) > 0 || next.Stages[0].View != 1 {
			t.Errorf("party %d votes to exclude party 3", i)
		}
		if got := said[*Commit](effects); len(got) != 1 || *got[0] != *c[3] {
			t.Errorf("party %d refuses without the commit", i)
		}
		if got := said[*Change](effects); len(got) != 1 || got[0].View != 1 || len(got[0].Lock.Sigs) > 0 {
			t.Errorf("party %d changes %+v", i, got)
		}
	}
	// Who does not hold it gives it time to come, and votes then.
	voter, effects, err := nodes[2].Step(Received{From: 1, Msg: p})
	must(t, err)
	for range gatherTicks {
		if len(said[*Vote](effects)) > 0 {
			t.Fatal("a hurried proposer finds voters")
		}
		voter, effects, err = voter.Step(Tick{})
		must(t, err)
	}
	if got := said[*Vote](effects); len(got) != 1 || got[0].Value != p.Vote.Value {
		t.Fatal("who holds no more does not vote")
	}
	// It votes once in a view, also where it learns of the commit, and of another
	// proposal by the same party, which convicts that.
	voter, _, err = voter.Step(Received{From: 0, Msg: c[3]})
	must(t, err)
	other := d.propose(t, 1, 0, nil, c[0], c[1], c[2], c[3])
	voter, effects, err = voter.Step(Received{From: 1, Msg: other})
	must(t, err)
	if len(said[*Vote](effects)) > 0 || !voter.Cheats[1] || len(effects) != 1 {
		t.Error("a second proposal in one view")
	} else if who, err := effects[0].(Publish).Proof.Against(&d.terms); err != nil || who != (Culprit{Party: 1}) {
		t.Errorf("against %v, %v", who, err)
	}

	// 0, 1 and 2 lock the set without 3 in view 0; then view 1, of party 2, carries the
	// lock, and 3 and whoever holds its commit votes for it.
	lock := Quorum{Value: p.Vote.Value}
	v := Vote{Epoch: 1, Round: VoteSet, Value: lock.Value}
	for i := range uint8(3) {
		sig, err := sign(d.keys[i], v.digest(&d.terms))
		must(t, err)
		lock.Sigs = append(lock.Sigs, Signer{Party: i, Sig: sig})
	}
	change := func(party uint8, l Quorum) Change {
		c := Change{Epoch: 1, View: 1, Party: party, Lock: l}
		c.Sig, _ = sign(d.keys[party], c.digest(&d.terms))
		return c
	}
	locked := d.propose(t, 2, 1, []Change{change(1, lock), change(2, Quorum{}), change(3, Quorum{})}, c[0], c[1], c[2])
	for _, i := range []int{0, 3} {
		_, effects, err := nodes[i].Step(Received{From: 2, Msg: locked})
		must(t, err)
		if len(said[*Vote](effects)) != 1 {
			t.Errorf("party %d does not vote for a set that is locked", i)
		}
	}
	// Without the lock, with too few changes, with a made up one, or with another set
	// than the lock's, it does not pass.
	for what, bad := range map[string]*Proposal{
		"too few":     d.propose(t, 2, 1, locked.Changes[:2], c[0], c[1], c[2]),
		"one twice":   d.propose(t, 2, 1, []Change{locked.Changes[0], locked.Changes[0], locked.Changes[1]}, c[0], c[1], c[2]),
		"another set": d.propose(t, 2, 1, locked.Changes, c[0], c[1], c[2], c[3]),
		"a false lock": d.propose(t, 2, 1, []Change{change(1, Quorum{Value: lock.Value, Sigs: append(slices.Clone(lock.Sigs[:2]), Signer{Party: 3, Sig: lock.Sigs[2].Sig})}),
			locked.Changes[1], locked.Changes[2]}, c[0], c[1], c[2]),
		"not its turn": d.propose(t, 1, 1, locked.Changes, c[0], c[1], c[2]),
		"too small":    d.propose(t, 2, 1, locked.Changes, c[0], c[1]),
		"out of order": d.propose(t, 2, 1, locked.Changes, c[1], c[0], c[2]),
	} {
		next, effects, err := nodes[0].Step(Received{From: 2, Msg: bad})
		if err != nil || len(effects) > 0 || next.Stages[0].View > 0 {
			t.Errorf("%s: %v, %v", what, effects, err)
		}
		// It costs no more than once: even the right one comes too late.
		if what != "not its turn" {
			if _, effects, err := next.Step(Received{From: 2, Msg: locked}); err != nil || len(effects) > 0 {
				t.Errorf("%s: the proposer of nonsense is heard again: %v", what, err)
			}
		}
	}
	free := d.propose(t, 2, 1, []Change{change(0, Quorum{}), change(2, Quorum{}), change(3, Quorum{})}, c[0], c[1], c[2])
	if _, effects, err := nodes[3].Step(Received{From: 2, Msg: free}); err != nil || len(said[*Vote](effects)) > 0 {
		t.Error("excluded in view 1 without a lock", err)
	}
}

// TestHostile: whatever stands in a message, a machine refuses it or goes on: it does
// not panic, and holds no more than it says. Real messages of a run, each with some
// bytes changed, are read, checked and given to the machines.
func TestHostile(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	l := newLab(t, 1, d)
	l.lose = 10
	l.start()
	rng := rand.New(rand.NewPCG(1, 9))
	var seen []Message
	l.play(300, func() bool {
		for _, w := range l.wires {
			if rng.IntN(20) == 0 {
				seen = append(seen, w.msg)
			}
		}
		return l.finished()
	})
	fresh := func(m Message) Message {
		switch m.(type) {
		case *Commit:
			return new(Commit)
		case *Vote:
			return new(Vote)
		case *Proposal:
			return new(Proposal)
		case *Change:
			return new(Change)
		case *Opened:
			return new(Opened)
		case *Certificate:
			return new(Certificate)
		case *Verdict:
			return new(Verdict)
		}
		return new(Status)
	}
	start, _ := ready(t, d, [][]uint8{{1, 2, 3}, {0, 2}, {0, 1}, {0, 1, 2}})
	for _, g := range l.gives {
		seen = append(seen, g)
	}
	messages := tier.Pick(1000, 3000, 6000)
	read, stepped := 0, 0
	for range messages {
		m := seen[rng.IntN(len(seen))]
		b, err := wire.Marshal(m)
		must(t, err)
		for range 1 + rng.IntN(3) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		x := fresh(m)
		if _, ok := m.(*Give); ok {
			x = new(Give)
		}
		if wire.Unmarshal(b, x) != nil {
			continue
		}
		read++
		_ = x.Check()
		for i := range start {
			n, _, err := start[i].Step(Received{From: uint8(rng.IntN(7)), Msg: x})
			if err == nil {
				stepped++
				if rng.IntN(4) == 0 && n.cur() == 1 {
					start[i] = n
				}
			}
		}
	}
	t.Logf("%d of %d were read, %d steps taken", read, messages, stepped)
	if read < messages/6 {
		t.Error("too few were read")
	}
}
