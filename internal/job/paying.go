package job

import (
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/wire"
)

// give gives each party the share of its next certified penny, one at a time,
// and none before that party gave the shares of our pennies that were due at
// the last (spec/job.md §4). Shares of pennies that are not certified are never
// given (invariant CoalitionBound).
func (s *step) give() {
	b := s.before()
	for i := range s.Gave {
		p := uint8(i)
		for p != s.Me && s.Gave[p] < min(b.Paid[p], s.Dealt[p]) && s.Got[p] >= s.Due[p] {
			s.Gave[p]++
			s.Due[p] = min(b.Paid[s.Me], s.Got[p]+1)
			s.do(GiveShare{To: p, K: s.Gave[p]})
		}
	}
}

// given accepts a share of one of our pennies. Each party gives them in order.
func (s *step) given(from uint8, g *Give) error {
	if err := g.Check(); err != nil {
		return err
	}
	c := &g.Share
	if int(c.Holder) >= len(s.Terms.Parties) || c.Node != s.Me || c.Holder == s.Me {
		return fmt.Errorf("%w: party %d's share for party %d", ErrMessage, c.Holder, c.Node)
	}
	switch {
	case c.K <= s.Got[c.Holder]:
		return nil // again
	case c.K > s.Held+s.Terms.Ahead:
		return fmt.Errorf("%w: a share of penny %d, but %d are held", ErrEarly, c.K, s.Held)
	}
	// A right share needs no signature. A wrong one convicts its giver only with it:
	// who gives one without is asked to sign, and until then has given nothing.
	known := slices.Contains(s.Windows, g.Window)
	if err := g.right(&s.Terms, known, s.check); err != nil {
		switch {
		case g.Sig != wire.Signature{}:
			if err := g.signed(&s.Terms, s.check); err != nil {
				return err
			}
		case from == c.Holder && !slices.Contains(s.Doubted, from):
			s.Doubted = append(slices.Clone(s.Doubted), from)
			s.do(Send{To: from, Msg: s.status(from)})
			return nil
		default:
			return err
		}
		s.convict(c.Holder, &BadShare{Give: *g})
		return nil // the step is kept: the giver is known
	}
	if !known {
		if len(s.Windows) > 2 {
			s.Windows = slices.Clone(s.Windows[1:])
		}
		s.Windows = append(s.Windows, g.Window)
	}
	if c.K != s.Got[c.Holder]+1 {
		return fmt.Errorf("%w: a share of penny %d, but party %d gave %d", ErrEarly, c.K, c.Holder, s.Got[c.Holder])
	}
	s.Got[c.Holder] = c.K
	if c.K <= s.Held {
		return nil
	}
	for i := range s.Shares {
		if o := &s.Shares[i].Window; o.First == g.Window.First && o.Root != g.Window.Root {
			s.blame(&TwoWindows{A: *o, B: g.Window})
			break
		}
	}
	s.Shares = append(s.Shares, *g)
	return nil
}

// blame publishes a proof against the buyer, once.
func (s *step) blame(p Proof) {
	if !s.Cheat {
		s.Cheat = true
		s.do(Publish{p})
	}
}

// combine computes pennies from the shares held.
func (s *step) combine() {
	for {
		var window Window
		byRoot := map[wire.Hash][]Committed{}
		var roots []wire.Hash
		for i := range s.Shares {
			g := &s.Shares[i]
			if g.Share.K != s.Held+1 {
				continue
			}
			if byRoot[g.Window.Root] == nil {
				roots = append(roots, g.Window.Root)
			}
			byRoot[g.Window.Root] = append(byRoot[g.Window.Root], g.Share)
		}
		done := false
		for _, r := range roots {
			list := byRoot[r]
			if len(list) < int(s.Terms.T) || len(list) <= int(s.Tried) || done {
				continue
			}
			secret, bad, err := Combine(&s.Terms, list, s.Known)
			if bad != nil {
				for i := range s.Shares {
					if s.Shares[i].Window.Root == r {
						window = s.Shares[i].Window
					}
				}
				s.blame(&FalseDeal{Window: window, Shares: bad})
			}
			if err == nil {
				s.earned(s.Held+1, secret)
				done = true
			} else {
				s.Tried = uint8(len(list)) // nothing comes of these
			}
		}
		if !done {
			return
		}
	}
}

// earned stores one of our pennies.
func (s *step) earned(k uint32, secret [wire.PennySize]byte) {
	s.Held, s.Known, s.Tried = k, s.Terms.penny(k, s.Me, secret), 0
	// A penny makes up for one epoch that was certified without this node.
	b := s.before()
	ahead := max(s.Counted, b.Epoch) - b.Epoch // worked, and not yet certified
	if due := max(b.Paid[s.Me], k) - k; s.Ran > s.Forgiven+k+ahead+due {
		s.Forgiven++
	}
	s.do(Earned{K: k, Secret: secret})
	s.Shares = slices.DeleteFunc(s.Shares, func(g Give) bool { return g.Share.K <= k })
}

// released accepts the buyer's direct payment; one penny may pay for several.
func (s *step) released(ev Released) error {
	if ev.K <= s.Held {
		return nil
	}
	if ev.K-s.Held > wire.MaxJump || !s.Terms.pays(s.Me, ev.K, ev.Secret, s.Known) {
		return fmt.Errorf("%w: a false penny", ErrCombine)
	}
	s.earned(ev.K, ev.Secret)
	return nil
}
