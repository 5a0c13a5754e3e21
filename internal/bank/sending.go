package bank

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// MaxHops is the maximum number of hops of a payment, including the final
// payee.
const MaxHops = wire.MaxHops

// Order is a payment as ordered by its user. Only Rerouted changes it: the legs
// that are not paid yet, and a smaller step.
type Order struct {
	Payee   wire.Key        // the final one
	Bankers []wire.RouteHop // of the first leg, in order; none if its bank is with the payee
	Bank    ID              // of the first leg: the bank with the first hop
	Total   wire.Msat       // that the payee gets
	Step    wire.Msat       // part of Total in each step; a leg's last step is the rest
	MaxFee  wire.Msat       // of all bankers and steps
	Memo    string          // for people
	Created int64           // Unix time, for people
	// Text is what the payee is told; the payment's id commits to it. Payments
	// of older versions have none.
	Text *wire.NoteText `cbor:",omitempty"`
	// More are the legs after the first, in order, if one bank has too little left.
	More []Leg `cbor:",omitempty"`
}

// Leg is the part of a payment that one bank pays. The steps' numbers and totals
// continue from leg to leg.
type Leg struct {
	From    wire.Msat // of the payment's total: where the leg begins
	Bank    ID        // with the first hop
	Bankers []wire.RouteHop
}

// Leg returns the leg whose step begins at a part of the total, and where that leg
// ends.
func (o *Order) Leg(at wire.Msat) (l Leg, end wire.Msat) {
	l = Leg{Bank: o.Bank, Bankers: o.Bankers}
	for _, next := range o.More {
		if next.From > at {
			return l, next.From
		}
		l = next
	}
	return l, o.Total
}

// Legs returns all legs.
func (o *Order) Legs() []Leg {
	return append([]Leg{{Bank: o.Bank, Bankers: o.Bankers}}, o.More...)
}

// Reroute replaces the legs of what is not paid yet, from the first new leg on.
func (o Order) Reroute(legs []Leg) Order {
	keep := slices.DeleteFunc(o.Legs(), func(l Leg) bool { return l.From >= legs[0].From })
	all := append(keep, legs...)
	o.Bank, o.Bankers, o.More = all[0].Bank, all[0].Bankers, all[1:]
	return o
}

// check returns ErrOrder if there is no such payment.
func (o *Order) check() error {
	if o.Total == 0 || o.Total > wire.MaxSat.Msat() || o.Step == 0 || o.Total/o.Step+wire.Msat(len(o.More)) >= math.MaxUint32 {
		return fmt.Errorf("%w: %v in steps of %v", ErrOrder, o.Total, o.Step)
	}
	from := wire.Msat(0)
	for i, l := range o.Legs() {
		if len(l.Bankers) >= MaxHops || i > 0 && l.From <= from || l.From >= o.Total {
			return fmt.Errorf("%w: from %v on over %d bankers", ErrOrder, l.From, len(l.Bankers))
		}
		from = l.From
	}
	return nil
}

// Sending is one of our payments: a sequence of steps, each acknowledged by the
// final payee before the next.
type Sending struct {
	ID    wire.Hash
	Order Order
	Index uint32    // of the last step, from 1; 0 before the first
	Asked wire.Msat // of Total, with that step
	Acked wire.Msat // of Total, acknowledged
	Fees  wire.Msat // for the steps so far
	Ack   wire.TransferAck
	// Ended means that no further step follows, because of the user or a
	// refusal. An unacknowledged step remains so, and blocks other steps
	// through its bank.
	Ended bool
	// Unsure means that the home was restored from a backup, and the banks that
	// pay may have steps that we do not know of. Only Sure clears it.
	Unsure bool
	Why    string
}

// Events of a payment.
type (
	// StepPaid says that the credit of step Index is assigned at the bank; or,
	// if that is unknown after a restore, that the first hop has the step.
	StepPaid struct{ Index uint32 }
	// Sure says that no bank of ours has a step that we do not know of.
	Sure struct{}
	// StepAcked contains the final payee's acknowledgement.
	StepAcked struct {
		Ack      wire.TransferAck
		Verified VerifiedAck // of Ack; the zero value if it is not verified yet
	}
	// StepRefused says that a banker or the payee refuses the step permanently.
	// Back means that the first hop proved that its credit is unchanged, so
	// step Index counts as not requested.
	StepRefused struct {
		Why   string
		Back  bool
		Index uint32 // 0: the last
		// Again means that with Back the payment continues, because the first hop
		// was asked for its reserve long ago.
		Again bool
	}
	// Rerouted changes the legs from the next step on, because the bank of the next
	// step cannot pay it. The first leg begins there. Step, if not 0, is the part of
	// the total in each further step; it can only become smaller.
	Rerouted struct {
		Legs []Leg
		Step wire.Msat
	}
	// Ended says that the user ends the payment after the current step.
	Ended struct{ Why string }
	// Resumed says that the user resumes the payment.
	Resumed struct{}
)

// SendStep assigns the next step's credit, unless Asked was assigned before,
// streams its pennies, and sends the step to the first hop. Its result is
// StepAcked or StepRefused.
type SendStep struct{}

func (StepPaid) event()    {}
func (Sure) event()        {}
func (StepAcked) event()   {}
func (StepRefused) event() {}
func (Rerouted) event()    {}
func (Ended) event()       {}
func (Resumed) event()     {}
func (SendStep) effect()   {}

// NewSending starts a payment.
func NewSending(id wire.Hash, o Order) (Sending, []Effect, error) {
	s := Sending{ID: id, Order: o}
	if err := o.check(); err != nil {
		return s, nil, err
	}
	s.Order.Step = min(o.Step, o.Total)
	if err := s.affordable(); err != nil {
		return s, nil, err
	}
	return s, []Effect{SendStep{}}, nil
}

// affordable returns ErrFee if the bankers' fees exceed the cap.
func (s *Sending) affordable() error {
	if fees := s.AllFees(); fees > s.Order.MaxFee {
		return fmt.Errorf("%w: the bankers' fees are %v, the cap is %v", ErrFee, fees, s.Order.MaxFee)
	}
	return nil
}

// next returns the leg and the amount of the step after asked.
func (s *Sending) next(asked wire.Msat) (Leg, wire.Msat) {
	l, end := s.Order.Leg(asked)
	return l, min(s.Order.Step, end-asked)
}

// Amounts returns each hop's credit, the first hop's first, for a step of which
// the payee gets step.
func (l *Leg) Amounts(step wire.Msat) []wire.Msat {
	list := make([]wire.Msat, len(l.Bankers)+1)
	list[len(l.Bankers)] = step
	for i := len(l.Bankers) - 1; i >= 0; i-- {
		list[i] = list[i+1] + l.Bankers[i].Fees.Of(list[i+1])
	}
	return list
}

// Fee returns the bankers' fees for a step. Each banker's is at most wire.MaxSat.
func (l *Leg) Fee(step wire.Msat) wire.Msat { return l.Amounts(step)[0] - step }

// Fees returns the bankers' fees for an amount in such steps, at most wire.MaxSat.
func (l *Leg) Fees(amount, step wire.Msat) wire.Msat {
	step = min(step, amount)
	whole, rest := amount/step, amount%step
	fees := l.Fee(step)
	if fees > 0 && whole > wire.Msat(wire.MaxSat)*1000/fees {
		return wire.MaxSat.Msat()
	}
	fees *= whole
	if rest > 0 {
		fees += l.Fee(rest)
	}
	return min(fees, wire.MaxSat.Msat())
}

// Most returns the largest amount that can be paid in such steps with a credit,
// including fees.
func (l *Leg) Most(credit, step wire.Msat) wire.Msat {
	if len(l.Bankers) == 0 {
		return credit
	}
	each := l.Amounts(step)[0]
	whole, rest := credit/each, credit%each
	// The last step is the largest that the rest covers.
	last := sort.Search(int(min(step, rest)), func(n int) bool { return l.Amounts(wire.Msat(n) + 1)[0] > rest })
	return whole*step + wire.Msat(last)
}

// AllFees returns the bankers' fees for the whole payment: those of the steps so
// far, and of what follows. It is at most wire.MaxSat.
func (s *Sending) AllFees() wire.Msat {
	fees := s.Fees
	for at := s.Asked; at < s.Order.Total; {
		l, end := s.Order.Leg(at)
		fees = min(fees+l.Fees(end-at, s.Order.Step), wire.MaxSat.Msat())
		at = end
	}
	return fees
}

// Waiting reports whether a step is requested and not acknowledged.
func (s *Sending) Waiting() bool { return s.Acked < s.Asked }

// Done reports whether everything is acknowledged.
func (s *Sending) Done() bool { return s.Acked == s.Order.Total }

// Next returns the step after those requested.
func (s Sending) Next() wire.Transfer {
	_, step := s.next(s.Asked)
	s.Index, s.Asked, s.Acked = s.Index+1, s.Asked+step, s.Asked
	return s.Transfer()
}

// Transfer returns the current step, for the first hop.
func (s *Sending) Transfer() wire.Transfer {
	l, _ := s.Order.Leg(s.Acked)
	amounts := l.Amounts(s.Asked - s.Acked)
	t := wire.Transfer{ID: s.ID, Index: s.Index, Bank: l.Bank, Amount: amounts[0], Total: s.Asked}
	for i, a := range amounts[1:] {
		h := wire.Hop{Key: s.Order.Payee, Amount: a}
		if i+1 < len(l.Bankers) {
			h.Key = l.Bankers[i+1].Key
		}
		t.Hops = append(t.Hops, h)
	}
	return t
}

// Current returns the leg of the current step or, if none is requested, of the next
// one.
func (s *Sending) Current() Leg {
	l, _ := s.Order.Leg(s.Acked)
	return l
}

// Credit returns the credit that the next step needs at the first hop.
func (s *Sending) Credit() wire.Msat {
	l, step := s.next(s.Asked)
	return l.Amounts(step)[0]
}

// Step is the payment's transition function.
func (s Sending) Step(ev Event) (Sending, []Effect, error) {
	switch ev := ev.(type) {
	case StepPaid:
		if s.Waiting() || s.Done() || s.Ended || ev.Index != s.Index+1 {
			return s, nil, fmt.Errorf("%w: step %d is not due", ErrWrongPhase, ev.Index)
		}
		l, step := s.next(s.Asked)
		s.Fees += l.Fee(step)
		s.Index, s.Asked = s.Index+1, s.Asked+step
		return s, nil, nil
	case StepAcked:
		a := ev.Ack
		if !s.Waiting() || a.Index < s.Index {
			return s, nil, nil // once more
		}
		if a.Index != s.Index || a.Total != s.Asked || ev.Verified.check(s.ID, s.Order.Payee, a) != nil {
			return s, nil, fmt.Errorf("%w: step %d, %v in all", ErrBadAck, a.Index, a.Total)
		}
		s.Acked, s.Ack = s.Asked, a
		if s.Done() {
			s.Ended = true
		}
		if s.Ended {
			return s, nil, nil
		}
		return s, []Effect{SendStep{}}, nil
	case StepRefused:
		if ev.Index != 0 && ev.Index != s.Index {
			return s, nil, nil // an earlier step's, once more
		}
		back := ev.Back && s.Waiting()
		if l := s.Current(); back {
			s.Fees -= l.Fee(s.Asked - s.Acked)
			s.Index, s.Asked = s.Index-1, s.Acked
		}
		if back && ev.Again && !s.Ended {
			return s, []Effect{SendStep{}}, nil
		}
		s.Ended, s.Why = true, wire.Clean(ev.Why)
		return s, nil, nil
	case Rerouted:
		if s.Waiting() || s.Done() || s.Ended || len(ev.Legs) == 0 || ev.Legs[0].From != s.Asked {
			return s, nil, fmt.Errorf("%w: it is %s, at %v", ErrWrongPhase, s.State(), s.Asked)
		}
		next := s
		next.Order = s.Order.Reroute(ev.Legs)
		if ev.Step > 0 {
			next.Order.Step = min(s.Order.Step, ev.Step)
		}
		if err := cmp.Or(next.Order.check(), next.affordable()); err != nil {
			return s, nil, err
		}
		return next, nil, nil
	case Ended:
		s.Ended, s.Why = true, wire.Clean(ev.Why)
		return s, nil, nil
	case Resumed:
		if s.Done() || !s.Ended {
			return s, nil, fmt.Errorf("%w: it is %s", ErrStopped, s.State())
		}
		s.Ended, s.Why = false, ""
		return s, []Effect{SendStep{}}, nil
	case Restored:
		// Steps may have been paid since the backup, so ask before any is paid.
		if !s.Done() {
			s.Ended, s.Unsure, s.Why = true, true, wire.Clean(ErrRestored.Error())
		}
		return s, nil, nil
	case Sure:
		s.Unsure = false
		if s.Ended || s.Waiting() {
			return s, nil, nil
		}
		return s, []Effect{SendStep{}}, nil
	case Connected, Disconnected, Pruned:
		return s, nil, nil
	}
	return s, nil, fmt.Errorf("%w: %T to a payment", ErrWrongPhase, ev)
}

// State returns the displayed state, also for scripts.
func (s *Sending) State() string {
	switch {
	case s.Done():
		return "paid"
	case s.Ended && s.Waiting():
		return "unacknowledged"
	case s.Ended:
		return "ended"
	}
	return "paying"
}

// Interest implements the engine's view of the contract.
func (s Sending) Interest() contract.Interest {
	return contract.Interest{Done: s.Ended && !s.Waiting()}
}

// Relay forwards one payment's steps on one bank, or receives them as its final
// payee, on whatever banks they come.
type Relay struct {
	ID     wire.Hash // of the payment
	In     ID        // the bank whose credit pays; at the final payee, the first step's
	Out    ID        // the bank on which it continues; zeros for the final payee
	Index  uint32
	Total  wire.Msat // of the payment, including the last step
	Passed wire.Msat // credited, in all
	Fees   wire.Msat // that we kept, in all
	Last   wire.Transfer
	Ack    *wire.TransferAck // of the last step, once received
	Text   *wire.NoteText    `cbor:",omitempty"` // what the payment is for, at its final payee
	Since  int64             `cbor:",omitempty"` // Unix time of the first step, and
	At     int64             `cbor:",omitempty"` // of the last one, for people
	Over   bool              `cbor:",omitempty"` // its bank is closed: Last is dropped, and Ack at the final payee
}

// Relayed contains a step whose credit is assigned in the same commit. The final
// payee has the text of the first step.
type Relayed struct {
	Step wire.Transfer
	Out  ID
	Text *wire.NoteText
	At   int64 // Unix time, for people
}

// Answered contains the final payee's acknowledgement of the last step.
type Answered struct {
	Ack      wire.TransferAck
	Verified VerifiedAck // of Ack; the zero value if it is not verified yet
}

// VerifiedAck is an acknowledgement with its payment and its payee, whose signature
// was verified. Only VerifyAck makes one, so a machine that gets it with an
// acknowledgement need not verify the signature once more.
type VerifiedAck struct {
	ok    bool
	id    wire.Hash
	payee wire.Key
	ack   wire.TransferAck
}

// VerifyAck verifies the signature of a payment's acknowledgement by its final
// payee. The error wraps wire.ErrBadSignature.
func VerifyAck(id wire.Hash, payee wire.Key, a wire.TransferAck) (v VerifiedAck, err error) {
	if err := payee.Verify(wire.TransferDigest(id, a.Index, a.Total, payee), a.Sig); err != nil {
		return v, err
	}
	return VerifiedAck{true, id, payee, a}, nil
}

// check returns nil if v was made from exactly these values; otherwise it verifies
// the signature.
func (v VerifiedAck) check(id wire.Hash, payee wire.Key, a wire.TransferAck) error {
	if v == (VerifiedAck{true, id, payee, a}) {
		return nil
	}
	_, err := VerifyAck(id, payee, a)
	return err
}

func (Relayed) event()  {}
func (Answered) event() {}

// RelayID identifies a payment on a bank, at a banker.
func RelayID(in ID, payment wire.Hash) wire.Hash { return wire.Tagged("relay", in[:], payment[:]) }

// ReceivedID identifies a payment at its final payee.
func ReceivedID(payment wire.Hash) wire.Hash { return wire.Tagged("received", payment[:]) }

// NewRelay returns a payment before its first step; in is the bank of that step.
func NewRelay(in ID, payment wire.Hash) Relay { return Relay{In: in, ID: payment} }

// Fresh reports whether a step is the next one; it returns false if it repeats
// the last one. For any other step it returns a *wire.Refusal. A banker does not
// see the steps that take another bank; the final payee sees all.
func (r *Relay) Fresh(t *wire.Transfer) (bool, error) {
	final := len(t.Hops) == 0
	switch {
	case t.ID != r.ID || !final && t.Bank != r.In:
		return false, wire.Refuse(wire.BadRequest, "for another bank or payment")
	case r.Over && r.repeats(t):
		return false, nil
	case r.Over && r.Out != (ID{}) && t.Index > r.Index: // at the final payee, it may go on over another bank
		return false, wire.Refuse(wire.Closed, "its bank is closed")
	case t.Index == r.Index && r.Index > 0:
		if wire.DigestOf("transfer-step", t) != wire.DigestOf("transfer-step", &r.Last) {
			return false, wire.Refuse(wire.BadRequest, "step %d differs from the one before", t.Index)
		}
		return false, nil
	case t.Index <= r.Index, final && t.Index != r.Index+1:
		return false, wire.Refuse(wire.BadRequest, "step %d after %d", t.Index, r.Index)
	case r.Index > 0 && r.Ack == nil && !r.Over:
		return false, wire.Refuse(wire.Busy, "step %d is not acknowledged yet", r.Index)
	case t.Total <= r.Total || t.Total-r.Total < last(t), (t.Total-r.Total == last(t)) != (t.Index == r.Index+1):
		// Otherwise the payee would acknowledge an amount that a banker kept.
		return false, wire.Refuse(wire.BadRequest, "a total of %v after %v, by step %d of %v after %d", t.Total, r.Total, t.Index, last(t), r.Index)
	}
	return true, nil
}

// last returns the final payee's amount of a step.
func last(t *wire.Transfer) wire.Msat {
	if n := len(t.Hops); n > 0 {
		return t.Hops[n-1].Amount
	}
	return t.Amount
}

// Step is the relay's transition function.
func (r Relay) Step(ev Event) (Relay, []Effect, error) {
	switch ev := ev.(type) {
	case Relayed:
		fresh, err := r.Fresh(&ev.Step)
		if err != nil {
			return r, nil, err
		}
		if !fresh {
			return r, nil, fmt.Errorf("%w: step %d twice", ErrWrongPhase, ev.Step.Index)
		}
		r.Over = false
		r.Index, r.Total, r.Out, r.Last, r.Ack = ev.Step.Index, ev.Step.Total, ev.Out, ev.Step, nil
		r.Passed += ev.Step.Amount
		if r.At = ev.At; r.Since == 0 {
			r.Since = ev.At
		}
		if ev.Text != nil {
			r.Text = ev.Text
		}
		if len(ev.Step.Hops) > 0 {
			r.Fees += ev.Step.Amount - ev.Step.Hops[0].Amount
		}
		return r, nil, nil
	case Answered:
		if r.Ack != nil || r.Over || ev.Ack.Index != r.Index || r.Index == 0 {
			return r, nil, nil
		}
		if n := len(r.Last.Hops); n > 0 {
			payee := r.Last.Hops[n-1].Key
			if ev.Ack.Total != r.Total || ev.Verified.check(r.ID, payee, ev.Ack) != nil {
				return r, nil, fmt.Errorf("%w: step %d, %v in all", ErrBadAck, ev.Ack.Index, ev.Ack.Total)
			}
		}
		r.Ack = &ev.Ack
		return r, nil, nil
	case Pruned:
		return r.line(), nil, nil
	case Connected, Disconnected, Restored:
		return r, nil, nil
	}
	return r, nil, fmt.Errorf("%w: %T to a relay", ErrWrongPhase, ev)
}

// Interest implements the engine's view of the contract: it watches nothing on
// the chain.
func (r Relay) Interest() contract.Interest { return contract.Interest{Done: r.Over} }
