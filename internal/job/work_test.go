package job

import (
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// maxMessage is what one message can cost at most, in verified signatures: a proposal
// for a later view, with changes that show locks, in a later attempt.
const maxMessage = 1 + MaxParties*(1+MaxParties) + 4*MaxParties

// TestWorkBounded: what a party with a valid key can make another do between two ticks,
// with a flood of messages of each type, signed rightly as far as it can, each
// different: signatures verified and made, and steps that the store has to commit. An
// honest party's messages get through all the same, at once or after the next tick.
func TestWorkBounded(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	terms := &x.d.terms
	const evil = 3
	sig := func(by int, h wire.Hash) (s wire.Signature) { s, _ = sign(x.d.keys[by], h); return s }
	content, a := x.set(0, 1, 2, 3)
	small, b := x.set(0, 1, 3)
	lock := x.quorum(VoteSet, 0, a, 1, 2, 3)
	frozen := x.quorum(LockSet, 0, a, 1, 2, 3)
	almost := x.quorum(LockSet, 0, a, 1, 2, 3)
	flood := map[string]func(i int) Message{
		"votes in rising views": func(i int) Message { return x.vote(evil, uint8(i)%4, uint32(i), wire.Hash{byte(i)}) },
		"votes of one view":     func(i int) Message { return x.vote(evil, VoteSet, 0, wire.Hash{byte(i), byte(i >> 8)}) },
		"votes without signature": func(i int) Message {
			return &Vote{Epoch: 1, View: uint32(i), Party: evil}
		},
		"commits": func(i int) Message {
			c := &Commit{Epoch: 1, Party: evil, Hash: wire.Hash{byte(i), byte(i >> 8)}}
			c.Sig = sig(evil, c.digest(terms))
			return c
		},
		"commits of later attempts": func(i int) Message {
			c := &Commit{Epoch: 1, Attempt: uint32(i + 1), Party: evil}
			c.Sig = sig(evil, c.digest(terms))
			return c
		},
		"early commits, unsigned": func(i int) Message { return &Commit{Epoch: 2, Party: evil, Hash: wire.Hash{byte(i)}} },
		"far proposals": func(i int) Message {
			return x.propose(evil, uint32(4*i+2), content, a)
		},
		"far proposals with changes": func(i int) Message {
			v := uint32(4*i + 2)
			bad := x.change(1, 0, v, Quorum{}, Content{})
			bad.Sig[9] ^= 1
			return x.propose(evil, v, small, b, x.change(evil, 0, v, lock, content), x.change(evil, 0, v, lock, content), bad)
		},
		"proposals of a certificate": func(i int) Message {
			c := content
			c.Frozen = almost
			c.Frozen.Sigs = slices.Clone(almost.Sigs)
			c.Frozen.Sigs[2].Sig[i%64] ^= byte(1 + i/64)
			return &Proposal{Vote: *x.vote(evil, VoteCert, uint32(4*i+2), wire.Hash{1}), Content: c}
		},
		"changes": func(i int) Message { return x.change(evil, 0, uint32(i+1), lock, content) },
		"changes with false locks": func(i int) Message {
			l := lock
			l.Sigs = slices.Clone(lock.Sigs)
			l.Sigs[2].Sig[i%64] ^= byte(1 + i/64)
			return x.change(evil, 0, uint32(i+1), l, content)
		},
		"openings of no frozen set": func(i int) Message {
			f := almost
			f.Sigs = slices.Clone(almost.Sigs)
			f.Sigs[2].Sig[i%64] ^= byte(1 + i/64)
			return &Opened{Set: content.Set, Frozen: f, Reveal: Reveal{Epoch: 1, Party: evil, State: state1}}
		},
		"openings that open nothing": func(i int) Message {
			return &Opened{Set: content.Set, Frozen: frozen, Reveal: Reveal{Epoch: 1, Party: evil, State: wire.Hash{byte(i)}}}
		},
		"false certificates": func(i int) Message {
			body := *terms.before(nil)
			body.Epoch, body.State, body.Roster = 1, wire.Hash{byte(i)}, body.Next
			q := x.quorum(LockCert, 0, body.digest(terms), 1, 2, evil)
			q.Sigs[2].Sig[i%64] ^= byte(1 + i/64)
			return &Certificate{Body: body, Signed: q}
		},
		"verdicts": func(i int) Message {
			v := &Verdict{Epoch: 1, Attempt: 1, State: wire.Hash{byte(i)}, Party: 4}
			v.Sig = sig(evil+i%2, v.digest(terms))
			return v
		},
		"statuses": func(i int) Message { return &Status{Epoch: uint32(i % 3), Attempt: uint32(i), Flags: uint8(i)} },
		"messages of far epochs": func(i int) Message {
			return &Vote{Epoch: uint32(i + 3), Party: evil}
		},
		"shares under false windows": func(i int) Message {
			return &Give{Window: Window{Node: 0, First: 1, Count: 4, Root: wire.Hash{byte(i)}}, Share: Committed{Holder: evil, Node: 0, K: 1}}
		},
		"signed false shares": func(i int) Message {
			g := &Give{Window: Window{Node: 0, First: 1, Count: 4, Root: wire.Hash{byte(i)}}, Share: Committed{Holder: evil, Node: 0, K: 1}}
			g.Sig = sig(evil, g.digest(terms))
			return g
		},
	}
	messages := tier.Pick(200, 200, 400) // more than the bound
	for name, message := range flood {
		n := x.nodes[0]
		in := NewInbox(n)
		commit := func(ev Event) {
			next, _, err := n.Step(ev)
			must(t, err)
			n = next
			in.Reset(n)
		}
		for second := range 2 {
			verified, signed, steps, dropped := in.memo.verified, in.memo.signed, 0, 0
			for i := range messages {
				due, err := in.Add(Received{From: evil, Msg: message(i + second*messages)})
				if err != nil {
					dropped++
				}
				if due {
					steps++
					commit(in.Take())
				}
			}
			verified, signed = in.memo.verified-verified, in.memo.signed-signed
			t.Logf("%d %s: %d verified, %d signed, %d steps, %d dropped", messages, name, verified, signed, steps, dropped)
			if verified > MaxWork+maxMessage || signed > 4 || steps > 4 {
				t.Errorf("%s: %d verified, %d signed, %d steps", name, verified, signed, steps)
			}
			commit(in.With(Tick{}))
		}
		// The others are heard: a set is frozen without the flooder.
		for _, m := range []Message{x.propose(1, n.Stages[0].View, content, a), x.vote(1, VoteSet, 0, a), x.vote(2, VoteSet, 0, a), x.vote(1, LockSet, 0, a), x.vote(2, LockSet, 0, a)} {
			from := uint8(1)
			if v, ok := m.(*Vote); ok {
				from = v.Party
			}
			if due, _ := in.Add(Received{From: from, Msg: m}); due {
				commit(in.Take())
			}
		}
		if n.Frozen == nil && n.Stages[0].View == 0 {
			t.Errorf("%s: the others are not heard", name)
		}
	}
}

// TestInboxKeepsItsPromise: what an inbox knows is verified is only what was: a false
// signature stays false, before and after the right one was seen, and for another key
// or digest.
func TestInboxKeepsItsPromise(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	m := newMemo()
	v := x.vote(1, VoteSet, 0, wire.Hash{1})
	key, digest := x.d.terms.Parties[1].Key, v.digest(&x.d.terms)
	for range 2 {
		bad := v.Sig
		bad[5] ^= 1
		if m.verify(key, digest, bad) == nil || m.verify(x.d.terms.Parties[2].Key, digest, v.Sig) == nil || m.verify(key, wire.Hash{2}, v.Sig) == nil {
			t.Error("a false signature is taken")
		}
		must(t, m.verify(key, digest, v.Sig))
	}
	was := m.verified
	must(t, m.verify(key, digest, v.Sig))
	s, err := m.sign(x.d.keys[1], key, wire.Hash{7})
	must(t, err)
	must(t, m.verify(key, wire.Hash{7}, s))
	again, err := m.sign(x.d.keys[1], key, wire.Hash{7})
	must(t, err)
	if m.verified != was || m.signed != 1 || again != s {
		t.Errorf("verified %d times, signed %d", m.verified-was, m.signed)
	}
	for i := range 4 * maxProven {
		m.keep(proven{key, wire.Hash{byte(i), byte(i >> 8)}, v.Sig})
	}
	if len(m.now)+len(m.old) > 2*maxProven {
		t.Errorf("it remembers %d", len(m.now)+len(m.old))
	}
}

// TestInboxIsDue: whatever a message makes the machine do, it is due: a proof, a
// certificate that a standby stores, a share that it gives. A penny alone is not, until
// the end.
func TestInboxIsDue(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	in := NewInbox(x.nodes[0])
	if due, err := in.Add(Received{From: 1, Msg: x.vote(3, VoteSet, 0, wire.Hash{1})}); due || err != nil {
		t.Error("a vote alone is due", err)
	}
	if due, err := in.Add(Received{From: 2, Msg: x.vote(3, VoteSet, 0, wire.Hash{2})}); !due || err != nil {
		t.Error("a proof is not due", err)
	}
	d := standard(t, 2)
	l := newLab(t, 1, d)
	l.start()
	l.play(1000, l.finished)
	standby, err := NewNode(d.terms, 4, d.keys[4])
	must(t, err)
	for _, ev := range d.opening(t) {
		standby, _, err = standby.Step(ev)
		must(t, err)
	}
	if due, err := NewInbox(standby).Add(Received{From: 1, Msg: l.certs[1]}); !due || err != nil {
		t.Error("a certificate is not due", err)
	}
}

// TestInboxEqualsMachine: whatever is gathered, in whatever portions, and with whatever
// comes between, a machine behind an inbox says what one without says, if nothing is
// lost: an inbox decides only when. Peers add at the same time as the machine steps.
func TestInboxEqualsMachine(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	c, a := x.set(0, 1, 2, 3)
	list := []Received{}
	for _, m := range []Message{x.vote(1, VoteSet, 0, a), x.propose(1, 0, c, a), x.vote(2, VoteSet, 0, a), x.vote(3, VoteSet, 0, a), x.vote(2, LockSet, 0, a), x.vote(1, LockSet, 0, a), x.vote(3, LockSet, 0, a)} {
		from := uint8(1)
		if v, ok := m.(*Vote); ok {
			from = v.Party
		}
		list = append(list, Received{From: from, Msg: m})
	}
	plain := x.nodes[0]
	var want []Effect
	for _, r := range list {
		next, out, err := plain.Step(r)
		must(t, err)
		plain, want = next, append(want, out...)
	}
	for _, concurrent := range []bool{false, true} {
		n, steps := x.nodes[0], 0
		var got []Effect
		in := NewInbox(n)
		commit := func(ev Event) {
			next, out, err := n.Step(ev)
			must(t, err)
			n, got, steps = next, append(got, out...), steps+1
			in.Reset(n)
		}
		if concurrent {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for _, r := range list {
					_, _ = in.Add(r)
				}
			}()
			for open := true; open; {
				select {
				case <-done:
					open = false
				default:
				}
				commit(in.Take())
			}
		} else {
			for _, r := range list {
				if due, err := in.Add(r); err != nil {
					t.Error(err)
				} else if due {
					commit(in.Take())
				}
			}
			if steps != 3 {
				t.Errorf("%d steps for a vote, a lock and an opening", steps)
			}
		}
		if len(got) != len(want) || n.Frozen == nil || n.Frozen.Value != plain.Frozen.Value || n.Reveals[0] == nil {
			t.Errorf("concurrent %v: says %v, not %v", concurrent, got, want)
		}
	}
}
