package job

import (
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// TestMessagesMayBeLost: whatever kind of message is lost for some ticks, to anybody,
// also by a crash between the commit and the sending, is said again: all finish, hold
// what they earned, and have given one another every share that was due.
func TestMessagesMayBeLost(t *testing.T) {
	t.Parallel()
	for _, e := range []Effect{Broadcast{}, Send{}, GiveShare{}} {
		if ClassOf(e) != contract.Message {
			t.Errorf("%T is stored", e)
		}
	}
	kinds := map[string]func(Message) bool{
		"commits": func(m Message) bool { _, ok := m.(*Commit); return ok }, "votes": func(m Message) bool { _, ok := m.(*Vote); return ok },
		"proposals": func(m Message) bool { _, ok := m.(*Proposal); return ok }, "changes": func(m Message) bool { _, ok := m.(*Change); return ok },
		"openings": func(m Message) bool { _, ok := m.(*Opened); return ok }, "certificates": func(m Message) bool { _, ok := m.(*Certificate); return ok },
		"shares": func(m Message) bool { _, ok := m.(*Give); return ok }, "statuses": func(m Message) bool { _, ok := m.(*Status); return ok },
	}
	for name, lost := range kinds {
		d := standard(t, 8)
		l := newLab(t, 1, d)
		for _, p := range l.peers {
			p.filter = func(m Message) bool { return l.ticks%12 < 9 && lost(m) && l.rng.IntN(4) > 0 }
		}
		l.start()
		l.play(2000, func() bool {
			if !l.finished() {
				return false
			}
			for i := range 4 { // the others' next penny waits for nobody
				for j := range 4 {
					if p := l.peers[i].node; i != j && p.Gave[j] < p.before().Paid[j]-1 {
						return false
					}
				}
			}
			return true
		})
		if !l.finished() || len(l.certs) != 8 || len(l.proofs) > 0 {
			t.Errorf("%s: proofs %v\n%v", name, l.proofs, l)
		}
	}
}

// TestLostShareIsAskedFor: a node that misses a share, although it has the penny, asks
// for it in every tick and whenever its giver asks for something: until then it gives
// that party nothing, which may need it.
func TestLostShareIsAskedFor(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	n := x.nodes[0]
	statuses := func(out []Effect) (to []uint8) {
		for _, e := range out {
			if s, ok := e.(Send); ok {
				if m, ok := s.Msg.(*Status); ok && m.Got == 0 {
					to = append(to, s.To)
				}
			}
		}
		return to
	}
	for _, due := range []uint32{0, 1} {
		n.Due = []uint32{0, 0, due, 0, 0}
		_, out, err := n.Step(Tick{})
		must(t, err)
		if got := statuses(out); len(got) != int(due) || due == 1 && got[0] != 2 {
			t.Errorf("due %d: in a tick it asks %v", due, got)
		}
		_, out, err = n.Step(Received{From: 2, Msg: &Status{}})
		must(t, err)
		if got := statuses(out); len(got) != int(due) || due == 1 && got[0] != 2 {
			t.Errorf("due %d: it answers %v", due, got)
		}
	}
}

// TestUnsignedShare: a wrong share without a signature convicts nobody, and its giver is
// asked to sign from then on; another who passes one on causes nothing. Signed, it
// convicts.
func TestUnsignedShare(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	list := x.d.window(t, 0, 1)
	n := x.nodes[0]
	hear := func(from uint8, signed, wrong bool) (out []Effect, err error) {
		e := GiveShare{To: 0, K: 1, Signed: signed}
		g, err := e.Give(&x.d.terms, &list[3][0], x.d.keys[3])
		must(t, err)
		if (g.Sig == wire.Signature{}) == signed {
			t.Fatal("signed:", !signed)
		}
		if wrong {
			g.Share.Share[3] ^= 1
			if signed {
				g.Sig, _ = sign(x.d.keys[3], g.digest(&x.d.terms))
			}
		}
		next, out, err := n.Step(Received{From: from, Msg: g})
		if err == nil {
			n = next
		}
		return out, err
	}
	if out, err := hear(2, false, true); err == nil || len(out) > 0 || len(n.Doubted) > 0 {
		t.Error("who passes on a wrong share raises doubts about another", out)
	}
	out, err := hear(3, false, true)
	if must(t, err); len(out) != 1 || out[0].(Send).Msg.(*Status).Flags&statusSign == 0 || n.Cheats[3] || n.Got[3] != 0 {
		t.Errorf("%+v", out)
	}
	if _, err = hear(3, false, true); err == nil {
		t.Error("asked again at once")
	}
	// Who is asked signs, and a right share is right.
	giver := x.nodes[3]
	giver.Gave = []uint32{1, 0, 0, 0, 0}
	_, effects, err := giver.Step(Received{From: 0, Msg: &Status{Flags: statusSign}})
	if must(t, err); len(effects) != 1 || effects[0] != (GiveShare{To: 0, K: 1, Signed: true}) {
		t.Errorf("%+v", effects)
	}
	convicted := n
	if out, err = hear(3, true, true); err != nil || len(out) != 1 || !n.Cheats[3] {
		t.Errorf("a signed false share convicts nobody: %v, %v", out, err)
	} else if c, err := out[0].(Publish).Proof.Against(&x.d.terms); err != nil || c != (Culprit{Party: 3}) {
		t.Errorf("%v, %v", c, err)
	}
	n = convicted
	if _, err = hear(3, false, false); err != nil || n.Got[3] != 1 {
		t.Error("a right share is refused", err)
	}
}
