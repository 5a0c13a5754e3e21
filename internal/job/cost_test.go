package job

import (
	"fmt"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// cost is what a job costs each party for an epoch, on average.
type cost struct{ signed, verified, steps, state, sent float64 }

func (c cost) String() string {
	return fmt.Sprintf("%.1f signatures, %.1f verifications, %.1f steps with %.0f bytes of state, %.0f bytes sent", c.signed, c.verified, c.steps, c.state, c.sent)
}

// calm plays a job in which nothing goes wrong, on a network on which all messages take
// the same time, and a party takes what has arrived at once. An epoch's work takes
// longer than all that is said about it, a tick ten epochs. It returns what members and
// standbys pay for each epoch.
func calm(t testing.TB, d *deal, gather bool) (member, standby cost) {
	l := newLab(t, 1, d)
	l.gather, l.trusting, l.measures = gather, true, true
	l.start()
	sent := make([]int, len(l.peers))
	var first []int
	from := 0
	begin := func() {
		from = len(l.certs)
		for i, p := range l.peers {
			sent[i], p.bytes = 0, 0
			first = append(first, p.steps)
			if p.inbox != nil {
				p.inbox.memo.signed, p.inbox.memo.verified = 0, 0
			}
		}
	}
	for round, epochs := 0, 0; !l.finished(); round++ {
		if round > 1_000_000 {
			t.Fatal(l)
		}
		if len(l.wires) == 0 { // all have said what they have to say: the work ends
			epochs++
			if epochs == 3 {
				begin()
			}
			todo := l.queue
			l.queue = nil
			for _, k := range todo {
				l.do(k)
			}
			if epochs%10 == 0 || len(todo) == 0 {
				l.tick()
			}
			continue
		}
		todo := l.wires
		l.wires = nil
		for i, p := range l.peers {
			due := false
			for _, m := range todo {
				if m.to != i {
					continue
				}
				b, err := wire.Marshal(m.msg)
				must(t, err)
				sent[m.from] += len(b)
				if !gather {
					_ = l.step(i, Received{From: l.peers[m.from].party, Msg: m.msg})
					continue
				}
				p.inbox.Reset(p.node)
				now, _ := p.inbox.Add(Received{From: l.peers[m.from].party, Msg: m.msg})
				due = due || now
			}
			if due {
				must(t, l.step(i, Gathered{}))
			}
		}
		var now, later []task // the store's effects are done at once, and a Run takes its time
		for _, k := range l.queue {
			if _, ok := k.e.(Run); ok {
				later = append(later, k)
			} else {
				now = append(now, k)
			}
		}
		l.queue = later
		for _, k := range now {
			l.do(k)
		}
	}
	n := float64(int(d.terms.Epochs) - from)
	for i, p := range l.peers {
		c := cost{steps: float64(p.steps-first[i]) / n, state: float64(p.bytes) / n, sent: float64(sent[i]) / n}
		if p.inbox != nil {
			c.signed, c.verified = float64(p.inbox.memo.signed)/n, float64(p.inbox.memo.verified)/n
		}
		standby = c
		if i < int(d.terms.N) {
			k := float64(d.terms.N)
			member = cost{member.signed + c.signed/k, member.verified + c.verified/k, member.steps + c.steps/k, member.state + c.state/k, member.sent + c.sent/k}
		}
	}
	if len(l.proofs) > 0 || slices.Min(l.certs[d.terms.Epochs].Body.Paid[:d.terms.N]) != d.terms.Epochs {
		t.Fatalf("paid %v\n%v", l.certs[d.terms.Epochs].Body.Paid, l)
	}
	return member, standby
}

// TestEpochCost: what an ordinary epoch of four nodes and a standby costs.
func TestEpochCost(t *testing.T) {
	t.Parallel()
	d := standard(t, tier.Pick[uint32](23, 43, 103))
	d.set(func(t *Terms) { t.Window = t.Epochs })
	member, standby := calm(t, d, true)
	t.Logf("a member: %v\nthe standby: %v", member, standby)
	if member.signed > 5.1 || member.verified > 11.5 || (4*member.verified+standby.verified)/5 > 10 || member.steps > 8 || standby.steps > 1.5 {
		t.Error("an epoch costs too much")
	}
}

// BenchmarkEpoch is an ordinary epoch of four nodes and a standby: the time of all five,
// of which this laboratory is a part, and what each pays. It runs alone, because it puts
// back the signatures that the other tests remember.
func BenchmarkEpoch(b *testing.B) {
	for _, gather := range []bool{false, true} {
		b.Run(fmt.Sprintf("inbox=%v", gather), func(b *testing.B) {
			was, wasVerify := sign, verify
			sign, verify = wire.Sign, wire.Key.Verify
			defer func() { sign, verify = was, wasVerify }()
			d := standard(b, uint32(b.N)+5)
			d.set(func(t *Terms) { t.Window = t.Epochs })
			b.ResetTimer()
			member, standby := calm(b, d, gather)
			for name, c := range map[string]cost{"member": member, "standby": standby} {
				b.ReportMetric(c.signed, name+"-signed/op")
				b.ReportMetric(c.verified, name+"-verified/op")
				b.ReportMetric(c.steps, name+"-steps/op")
				b.ReportMetric(c.state, name+"-stateB/op")
				b.ReportMetric(c.sent, name+"-sentB/op")
			}
		})
	}
}
