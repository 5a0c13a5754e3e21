package job

import "slices"

// A party on the bench is a referee. It sees the frozen set of an epoch and what the
// members open. If no quorum of that can agree any more, it runs the epoch itself, once,
// and calls for another attempt. If too little is opened, it calls without running
// anything: members follow only if they are stuck, too.

// referees reports whether this party is a referee of the current epoch.
func (n *Node) referees() bool {
	return n.On && !n.Muted && !n.Over() && n.Funded() && slices.Contains(n.before().Bench, n.Me)
}

// witnessed takes a member's opening, of this attempt or a later one: a quorum has
// frozen its set, so the epoch has come there.
func (s *step) witnessed(o *Opened) error {
	switch a := o.Reveal.Attempt; {
	case a < s.Attempt || a >= MaxAttempts:
		return nil
	case a > s.Attempt:
		s.Attempt = a
		s.fresh()
	}
	return s.opened(o)
}

// parted reports whether what was opened proves that no quorum will agree in this
// attempt, whatever is opened yet.
func (n *Node) parted() bool {
	var list []Reveal
	for _, r := range n.Reveals {
		if r != nil {
			list = append(list, *r)
		}
	}
	most := 0
	for i := range list {
		most = max(most, agreeing(list, &list[i]))
	}
	return n.Frozen != nil && most+len(n.Set)-len(list) < int(n.Terms.Q)
}

// referee does what a referee has to do now.
func (s *step) referee() {
	e := s.cur()
	switch {
	case !s.referees() || s.Frozen == nil || s.agree() || s.Attempt+1 >= MaxAttempts || s.Ruling != nil && s.Ruling.Attempt > s.Attempt:
	case s.parted() && s.Judged != nil:
		s.rule(Result{State: s.Judged.State, Outcome: s.Judged.Outcome})
	case s.parted() && s.Judging != e:
		s.Judging = e
		s.do(Judge{Epoch: e, Before: s.before().State})
	case !s.parted() && s.Stages[1].Since >= stuckTicks:
		at := slices.IndexFunc(s.Reveals, func(r *Reveal) bool { return r != nil })
		if at >= 0 {
			s.rule(Result{State: s.Reveals[at].State, Outcome: s.Reveals[at].Outcome})
		}
	}
}

// rule calls for the next attempt. It is repeated at ticks until there is a certificate.
func (s *step) rule(r Result) {
	v := &Verdict{Epoch: s.cur(), Attempt: s.Attempt + 1, State: r.State, Outcome: r.Outcome, Party: s.Me}
	v.Sig, _ = s.sign(v.digest(&s.Terms)) // the key was checked
	s.Ruling = v
	s.do(Broadcast{v})
}
