package job

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/wire"
)

// advance does everything that is possible now: it inspects what is certified, deals
// on from what was inspected, and closes what is over.
func (s *buying) advance() {
	if s.Phase != BuyerPublished {
		return
	}
	s.look()
	s.deal()
	if b := s.Terms.before(s.Checked); !s.Ending && s.False == nil && (b.Outcome != Running || b.Epoch >= s.Terms.Epochs) {
		s.Ending = true
	}
	// With the counters that were inspected; after a false epoch the buyer signs none.
	if s.Ending && !s.Closing && s.Looking == nil && s.False == nil {
		s.Closing = true
		s.do(BeginClose{})
	}
}

// Close returns the terms of the buyer's Closing. It pays what was inspected.
func (b *Buyer) Close(deep uint32, rate wire.SatPerKVB) CloseTerms {
	return CloseTerms{Terms: b.Terms, Me: BuyerSide, Banks: b.Banks, Keys: b.Keys, Paid: b.Terms.before(b.Checked).Paid, Deep: deep, Rate: rate, Tip: b.Tip, Spent: b.Spent}
}

// look inspects what is certified since the last inspection.
func (s *buying) look() {
	from := s.Terms.before(s.Checked).Epoch
	if s.Looking != nil || s.False != nil || s.Closing || s.Terms.before(s.Seen).Epoch <= from {
		return
	}
	s.Looking = s.Seen
	to := s.Seen.Body.Epoch
	s.do(Inspect{To: to, Epochs: s.sample(from, to)})
}

// sample chooses the epochs after from, up to to, that are run again. The choice
// follows from the buyer's secret, so the nodes learn of it when they are asked for
// states, and their certificates are signed.
func (b *Buyer) sample(from, to uint32) (list []uint32) {
	n := to - from
	for i := uint32(0); len(list) < int(min(b.Order.Sample, n)); i++ {
		h := wire.Tagged("job-inspect", b.Terms.job(), b.Seed[:], u32(from), u32(to), u32(i))
		e := from + 1 + uint32(binary.BigEndian.Uint64(h[:8])%uint64(n)) // the bias is 2^-32
		if n <= b.Order.Sample {
			e = from + 1 + i
		}
		if !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	slices.Sort(list)
	return list
}

// certified accepts a certificate.
func (s *buying) certified(c *Certificate) error {
	if s.Phase != BuyerPublished {
		return fmt.Errorf("%w: its funding is not published", ErrPhase)
	}
	if c.Body.Epoch <= s.Terms.before(s.Seen).Epoch {
		return nil
	}
	if err := c.Verify(&s.Terms, s.Seen); err != nil {
		return err
	}
	s.Seen = c
	s.do(KeepCert{*c})
	return nil
}

// inspected hears what an inspection found. After a false epoch nothing is dealt any
// more: what is dealt already is the most that a coalition can take.
func (s *buying) inspected(ev Inspected) {
	if s.Looking == nil || ev.To != s.Looking.Body.Epoch {
		return
	}
	if f := ev.False; f != nil {
		s.Looking, s.False = nil, f
		s.FailedBy = "false"
		s.Failure = wire.Clean(fmt.Sprintf("epoch %d is certified with a state that this machine does not get; parties %v signed it. Nothing more is dealt; what is not paid comes back at block %d", f.Epoch, f.Signers, s.Order.Expiry))
		return
	}
	s.Checked, s.Looking = s.Looking, nil
}

// deal deals the windows that MayDeal allows, from the last certificate that was
// inspected (invariant CoalitionBound), and supplies the holders with them.
func (s *buying) deal() {
	if s.Ending || s.False != nil || s.Tip >= s.Terms.Stop {
		return
	}
	b := s.Terms.before(s.Checked)
	for i := range s.Dealt {
		for first := s.Dealt[i] + 1; first <= s.Terms.Epochs && MayDeal(&s.Terms, first, b.Paid[i], slices.Contains(b.Next, uint8(i))); first = s.Dealt[i] + 1 {
			s.Dealt[i] = first + s.Terms.count(first) - 1
		}
	}
	for h := range s.Busy {
		if !s.Busy[h] && !s.Stalled[h] && s.lacks(h) {
			s.Busy[h] = true
			s.do(Supply{Holder: uint8(h)})
		}
	}
}

// lacks reports whether a holder has not stored all that is dealt to it.
func (b *Buyer) lacks(holder int) bool {
	for i, d := range b.Dealt {
		if i != holder && b.Stored[holder][i] < d {
			return true
		}
	}
	return false
}

// supplied hears what a holder has stored. One that stored nothing more is not supplied
// again before the next block or certificate.
func (s *buying) supplied(ev Supplied) error {
	if int(ev.Holder) >= len(s.Stored) || len(ev.Upto) != len(s.Stored) {
		return fmt.Errorf("%w: party %d has shares of %d banks", ErrMessage, ev.Holder, len(ev.Upto))
	}
	s.Busy[ev.Holder] = false
	old := s.Stored[ev.Holder]
	s.Stalled[ev.Holder] = true
	s.Stored[ev.Holder] = slices.Clone(ev.Upto)
	for i, n := range ev.Upto {
		s.Stored[ev.Holder][i] = min(n, s.Dealt[i])
		s.Stalled[ev.Holder] = s.Stalled[ev.Holder] && s.Stored[ev.Holder][i] <= old[i]
	}
	return nil
}

// Windows returns the first pennies of the windows of a bank that a holder lacks, in
// order.
func (b *Buyer) Windows(holder, node uint8) (first []uint32) {
	if holder == node {
		return nil
	}
	for f := b.Stored[holder][node] + 1; f <= b.Dealt[node]; f += b.Terms.Window {
		first = append(first, f)
	}
	return first
}

// Deals computes the sheets of the window of a bank that starts at first, by holder.
// It returns ErrDeal if the window is not dealt. What it returns follows from the
// terms and secrets alone, so a buyer never signs two roots for one window, before or
// after a crash, or with a restored home. secret returns the bank's pennies by count.
func (b *Buyer) Deals(node uint8, first uint32, secret func(k uint32) [wire.PennySize]byte) ([][]Dealt, error) {
	if int(node) >= len(b.Dealt) || first > b.Dealt[node] {
		return nil, fmt.Errorf("%w: party %d from %d is not dealt", ErrDeal, node, first)
	}
	t := b.Terms
	t.id = t.ID()
	return Deal(&t, b.Key, b.Seed, node, first, secret)
}

// stuckAt hears that a party is stuck. The buyer runs the epoch once parties say so
// of which at least one is honest, so that nobody makes it skip attempts.
func (s *buying) stuckAt(ev Stuck) {
	b := s.Terms.before(s.Seen)
	if s.Phase != BuyerPublished || s.Ending || s.False != nil || ev.Epoch != b.Epoch+1 || ev.Attempt+1 >= MaxAttempts || !slices.Contains(b.Next, ev.From) {
		return
	}
	if s.Stuck != ev.Epoch {
		s.Stuck, s.Judging, s.Verdict = ev.Epoch, 0, nil
		clear(s.Calls)
	}
	s.Calls[ev.From] = max(s.Calls[ev.From], ev.Attempt+1)
	var list []uint32
	for _, p := range b.Next {
		list = append(list, s.Calls[p])
	}
	slices.Sort(list)
	sure := list[len(list)-1-int(s.Terms.N-s.Terms.Q)] // at least one honest party is in this attempt
	switch {
	case sure > s.Judging:
		s.Judging, s.Verdict = sure, nil
		s.do(Referee{Epoch: s.Stuck, Attempt: sure - 1})
	case s.Verdict != nil && s.Verdict.Attempt > ev.Attempt:
		s.do(Call{*s.Verdict}) // again
	}
}

// refereed calls for the next attempt.
func (s *buying) refereed(ev Refereed) error {
	if ev.Epoch != s.Stuck || ev.Attempt+1 != s.Judging || s.Verdict != nil {
		return nil
	}
	v := &Verdict{Epoch: ev.Epoch, Attempt: ev.Attempt + 1, State: ev.State, Outcome: ev.Outcome, Buyer: true}
	if err := v.Check(); err != nil {
		return err
	}
	var err error
	if v.Sig, err = sign(s.Key, v.digest(&s.Terms)); err != nil {
		return err
	}
	s.Verdict = v
	s.do(Call{*v})
	return nil
}

// Progress is how far a job is, and what of its money is gone or at risk.
type Progress struct {
	Epochs    uint32 // certified
	Inspected uint32 // up to this epoch, samples were run again
	Outcome   Outcome
	Paid      []uint32  // by party: its certified pennies
	Spend     wire.Msat // what they are worth
	// Risk is the most that can still be lost: what is dealt, and not certified.
	Risk wire.Msat
	// Back is what returns to the buyer if nothing more is certified or taken.
	Back wire.Msat
}

// Progress returns the job's progress. Before the funding is published, nothing is
// spent or at risk.
func (b *Buyer) Progress() Progress {
	body := b.Terms.before(b.Seen)
	p := Progress{Epochs: body.Epoch, Inspected: b.Terms.before(b.Checked).Epoch, Outcome: body.Outcome, Paid: slices.Clone(body.Paid)}
	for i, d := range b.Dealt {
		l := b.Ladder(uint8(i))
		paid := l.Paid(body.Paid[i])
		p.Spend += paid
		p.Back += l.Value.Msat() - paid
		if b.Spent[i] == nil {
			p.Risk += l.Paid(max(d, body.Paid[i])) - paid
		}
	}
	return p
}
