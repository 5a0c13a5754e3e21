package job

import (
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
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
