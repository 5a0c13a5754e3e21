package job

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Waiting times of a close, in ticks.
const (
	offerTicks = 3 // for offers
	shareTicks = 3 // for a list, or for the shares of its banks
	callTicks  = 8 // for the buyer's lists, before the parties close without it
)

// closeRounds is how often a final transaction is tried: once, and once more with
// those who answered.
const closeRounds = 2

// payoutBlocks are the blocks after which a payout that does not confirm is built
// again with a higher fee.
const payoutBlocks = 6

// Closing is one side of the close of a job's banks in one transaction (spec/job.md
// §7): the buyer with all parties, or the parties among themselves. Every list that a
// side signs is a valid way to close its bank, and it may close it alone all the same:
// whichever confirms first counts. Step never modifies its receiver.
type Closing struct {
	Terms  Terms
	Me     uint8 // a party, or BuyerSide
	Banks  []wire.BankTerms
	Keys   []wire.Secret // the payer's, by bank; of a party, its payee key alone
	Paid   []uint32      // by party: certified pennies
	Deep   uint32        // confirmations that no reorg undoes
	Rate   wire.SatPerKVB
	Called bool // the buyer called

	Own      *Stopped      // of a party
	Offers   []*FinalOffer // by party
	Absent   []bool        // by party: did not answer in time
	Spoiled  []bool        // by party: sent a false penny or signature
	Round    uint8
	List     *FinalList // of this round: for a party, without the buyer
	From     uint8      // its proposer
	Shares   []*contract.FinalSig
	Ticks    uint32
	Answered []bool // this tick, by party; the buyer is the last
	Over     bool
	Sent     *contract.Sent // the complete transaction

	Tip    wire.Height
	Spent  []*contract.Fact // by bank
	At     wire.Outpoint    // the payee's output, once the final transaction is in a block
	Value  wire.Sat
	Taken  *contract.Fact
	Payout *contract.Sent
	Wait   wire.Height // a payout that was not worth its fee is not tried before
}

// CloseTerms are what a close is created with.
type CloseTerms struct {
	Terms  Terms
	Me     uint8
	Banks  []wire.BankTerms
	Keys   []wire.Secret
	Paid   []uint32 // by party: counters of the last certificate that this side knows, and the buyer has inspected
	Deep   uint32
	Rate   wire.SatPerKVB
	Tip    wire.Height
	Called bool             // the buyer's FinalCall is why
	Spent  []*contract.Fact // by bank, as far as it is known; or nil
}

// NewClosing begins a close. A party's bank is stopped in the same transaction, so
// what it offers stays true (invariant CloseStopsAcceptance). Errors wrap ErrTerms.
func NewClosing(x CloseTerms) (Closing, []CloseEffect, error) {
	p := len(x.Terms.Parties)
	c := Closing{Terms: x.Terms, Me: x.Me, Banks: x.Banks, Keys: x.Keys, Paid: x.Paid, Deep: x.Deep, Rate: x.Rate, Tip: x.Tip, Called: x.Called,
		Offers: make([]*FinalOffer, p), Absent: make([]bool, p), Spoiled: make([]bool, p), Shares: make([]*contract.FinalSig, p), Answered: make([]bool, p+1),
		Spent: make([]*contract.Fact, p)}
	if err := x.Terms.Check(); err != nil {
		return c, nil, err
	}
	want := 1
	if x.Me == BuyerSide {
		want = p
	} else if int(x.Me) >= p {
		return c, nil, fmt.Errorf("%w: no party %d", ErrTerms, x.Me)
	}
	if len(x.Banks) != p || len(x.Paid) != p || len(x.Keys) != want {
		return c, nil, fmt.Errorf("%w: %d banks, %d counters, %d keys of %d parties", ErrTerms, len(x.Banks), len(x.Paid), len(x.Keys), p)
	}
	for i := range x.Banks {
		if BankDigest(&x.Banks[i]) != x.Terms.Parties[i].Bank {
			return c, nil, fmt.Errorf("%w: another bank of party %d", ErrTerms, i)
		}
	}
	copy(c.Spent, x.Spent)
	s := &closing{Closing: &c}
	if x.Me != BuyerSide {
		return c, []CloseEffect{StopBank{}}, nil
	}
	s.speak()
	return c, s.out, nil
}

// closing collects the effects of a transition.
type closing struct {
	*Closing
	out []CloseEffect
}

func (s *closing) do(e ...CloseEffect) { s.out = append(s.out, e...) }

// Step is the transition function. An error changes nothing.
func (c Closing) Step(ev CloseEvent) (Closing, []CloseEffect, error) {
	next := c
	for _, l := range []*[]bool{&next.Absent, &next.Spoiled, &next.Answered} {
		*l = slices.Clone(*l)
	}
	next.Offers, next.Shares, next.Spent = slices.Clone(c.Offers), slices.Clone(c.Shares), slices.Clone(c.Spent)
	s := &closing{Closing: &next}
	if err := s.event(ev); err != nil {
		return c, nil, err
	}
	return next, s.out, nil
}

func (s *closing) event(ev CloseEvent) error {
	switch ev := ev.(type) {
	case Stopped:
		if s.Own == nil {
			s.Own = &ev
			s.Offers[s.Me] = &FinalOffer{Held: ev.Held, Secret: ev.Secret}
			s.speak()
		}
	case FinalReceived:
		return s.received(ev)
	case Tick:
		s.tick()
	case Again:
		if s.Over && (s.Sent == nil || s.beaten()) {
			s.Sent, s.Over, s.Round, s.List, s.Ticks = nil, false, 0, nil, 0
			clear(s.Absent)
			s.speak()
		}
	case Restored:
	case PayoutBuilt:
		if s.due() {
			s.Payout = &ev.Sent
			s.do(SendPayout{Tx: ev.Sent.Tx})
		}
	case PayoutFailed:
		s.Wait = s.Tip + payoutBlocks
	case Connected:
		s.connected(ev.Block)
	case Disconnected:
		s.disconnected(ev.Undo)
	default:
		return fmt.Errorf("%w: %T to a close", ErrPhase, ev)
	}
	return nil
}

// ready reports whether this side takes part in a transaction.
func (c *Closing) ready() bool { return c.Me == BuyerSide || c.Own != nil }

// buyer reports whether this is the buyer's side.
func (c *Closing) buyer() bool { return c.Me == BuyerSide }

// send sends a message to a side that is not this one.
func (s *closing) send(to uint8, m FinalMessage) {
	if to != s.Me {
		s.do(SendFinal{To: to, Msg: m})
	}
}

// speak says what the others need of this side now; what is lost is said again at the
// next tick.
func (s *closing) speak() {
	if s.Over || !s.ready() {
		return
	}
	if s.List == nil {
		for i := range s.Terms.Parties {
			switch {
			case !s.buyer():
				s.send(uint8(i), s.Offers[s.Me])
			case s.Offers[i] == nil:
				s.send(uint8(i), &FinalCall{})
			}
		}
		return
	}
	for _, b := range s.List.Banks {
		if s.From == s.Me && s.Shares[b.Party] == nil {
			s.send(b.Party, s.List)
		}
		if !s.buyer() {
			s.send(b.Party, s.share(s.List, s.From, *s.Shares[s.Me]))
		}
	}
}

func (s *closing) share(l *FinalList, from uint8, sig contract.FinalSig) *FinalShare {
	return &FinalShare{List: l.digest(&s.Terms, from), Sig: sig}
}

// usable reports whether a party can be in a list.
func (c *Closing) usable(i uint8) bool {
	return c.Offers[i] != nil && !c.Absent[i] && !c.Spoiled[i] && c.Spent[i] == nil && (c.buyer() || c.rung(i, c.Offers[i].Held) > 0)
}

// rung returns the rung that a number of pennies reaches.
func (c *Closing) rung(i uint8, held uint32) uint32 {
	return held / max(c.Banks[i].PerRung, 1)
}

// leader returns the party that proposes a list without the buyer: the lowest that
// can be in it, or BuyerSide if there is none.
func (c *Closing) leader() uint8 {
	for i := range c.Terms.Parties {
		if c.usable(uint8(i)) {
			return uint8(i)
		}
	}
	return BuyerSide
}

// patience returns the ticks that this side waits for offers.
func (c *Closing) patience() uint32 {
	if c.Called {
		return offerTicks + callTicks
	}
	return offerTicks
}

func (s *closing) tick() {
	clear(s.Answered)
	if s.Over || !s.ready() {
		return
	}
	s.Ticks++
	switch {
	case s.List != nil && s.Ticks >= shareTicks:
		s.next()
	case s.List == nil && s.Ticks >= s.patience():
		s.propose()
		if s.List == nil && !s.Over && s.Ticks >= s.patience()+shareTicks {
			if l := s.leader(); l != s.Me && l != BuyerSide {
				s.Absent[l] = true // it proposes nothing
			}
			s.Ticks = s.patience()
			s.propose()
		}
	}
	s.speak()
}

// next ends a round: who gave no share is named, and left out of the next.
func (s *closing) next() {
	for _, b := range s.List.Banks {
		if s.Shares[b.Party] == nil {
			s.Absent[b.Party] = true
		}
	}
	s.Round, s.List, s.Ticks = s.Round+1, nil, s.patience()
	if s.Round >= closeRounds {
		s.Over = true // each bank alone
		return
	}
	s.propose()
}

// propose proposes a list, if it is this side's turn.
func (s *closing) propose() {
	if !s.buyer() && s.leader() != s.Me {
		if s.leader() == BuyerSide {
			s.Over = true
		}
		return
	}
	l := &FinalList{Round: s.Round, Rate: s.Rate}
	for i, o := range s.Offers {
		if s.usable(uint8(i)) {
			paid := o.Held
			if s.buyer() {
				paid = max(paid, s.Paid[i])
			}
			l.Banks = append(l.Banks, FinalPaid{Party: uint8(i), Paid: paid})
		}
	}
	f := s.fit(l)
	if f == nil || !s.buyer() && !l.has(s.Me) {
		s.Over = true // nothing to close that is worth its fee
		return
	}
	s.begin(l, s.Me, f)
}

// fit removes banks whose payee could not pay its part of the fee, the poorest first,
// until the transaction can be built.
func (c *Closing) fit(l *FinalList) *contract.Final {
	for len(l.Banks) > 0 {
		f, err := c.build(l, c.buyer())
		if err == nil {
			free := c.free(l, f)
			if free < 0 {
				return f
			}
			l.Banks = slices.Delete(l.Banks, free, free+1)
			continue
		}
		if !errors.Is(err, contract.ErrUneconomic) {
			return nil
		}
		poorest, least := -1, wire.Sat(0)
		for n, b := range l.Banks {
			bank, err := contract.NewBank(c.Banks[b.Party])
			if err != nil {
				return nil
			}
			ladder := bank.Ladder()
			share := ladder.Share(ladder.Rung(b.Paid))
			if c.buyer() {
				share = ladder.Paid(b.Paid).Whole()
			}
			if share > 0 && (poorest < 0 || share < least) {
				poorest, least = n, share
			}
		}
		if poorest < 0 {
			return nil
		}
		l.Banks = slices.Delete(l.Banks, poorest, poorest+1)
	}
	return nil
}

// free returns the index of a bank that pays no fee, if a payee pays too much for the
// others, or −1.
func (c *Closing) free(l *FinalList, f *contract.Final) int {
	unfair, free := false, -1
	for n := range l.Banks {
		if f.Payout(n) == 0 {
			free = n
		} else {
			unfair = unfair || !c.fair(l, f, n)
		}
	}
	if !unfair {
		return -1
	}
	return free
}

// has reports whether a list contains a party's bank.
func (l *FinalList) has(p uint8) bool {
	return slices.ContainsFunc(l.Banks, func(b FinalPaid) bool { return b.Party == p })
}

// build computes the transaction of a list. Each payee is paid to its key in its
// bank's scripts, and pays an equal part of the fee.
func (c *Closing) build(l *FinalList, together bool) (*contract.Final, error) {
	var parts []contract.FinalPart
	for _, b := range l.Banks {
		if int(b.Party) >= len(c.Banks) {
			return nil, fmt.Errorf("%w: no party %d", contract.ErrFinal, b.Party)
		}
		bank, err := contract.NewBank(c.Banks[b.Party])
		if err != nil {
			return nil, err
		}
		parts = append(parts, contract.FinalPart{Bank: bank, At: c.Terms.Bank(b.Party), Paid: b.Paid, Payout: c.Banks[b.Party].Payee, PaysFee: true})
	}
	if together {
		return contract.NewFinalTogether(parts, l.Rate)
	}
	return contract.NewFinal(parts, l.Rate)
}

// begin makes a list this round's, and signs it.
func (s *closing) begin(l *FinalList, from uint8, f *contract.Final) {
	s.List, s.From, s.Round, s.Ticks = l, from, l.Round, 0
	s.Shares = make([]*contract.FinalSig, len(s.Terms.Parties))
	if !s.buyer() {
		sig, err := s.sign(l, f)
		if err != nil {
			s.List = nil
			return
		}
		s.Shares[s.Me] = sig
	}
	s.speak()
	s.complete(f)
}

// sign returns what this party contributes to a transaction.
func (s *closing) sign(l *FinalList, f *contract.Final) (*contract.FinalSig, error) {
	at := slices.IndexFunc(l.Banks, func(b FinalPaid) bool { return b.Party == s.Me })
	sig := contract.FinalSig{}
	if !f.Together() {
		sig.Payer, sig.Secret = s.Own.Sig, s.Own.Rung
	}
	var err error
	sig.Payee, err = f.Sign(at, s.Keys[0])
	return &sig, err
}

// agreed verifies a list before this party signs it: its own part is exact, the rate
// is at most twice and at least half of its own estimate, and the transaction leaves
// it more than dust.
func (s *closing) agreed(l *FinalList, from uint8) (*contract.Final, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(l.Banks, func(b FinalPaid) bool { return b.Party == s.Me })
	if at < 0 {
		return nil, fmt.Errorf("%w: a list without this party", ErrMessage)
	}
	together := from == BuyerSide
	switch paid := l.Banks[at].Paid; {
	case together && paid < max(s.Paid[s.Me], s.Own.Held), !together && paid != s.Own.Held:
		return nil, fmt.Errorf("%w: a list with %d pennies for this party, not %d", ErrMessage, paid, s.Own.Held)
	case l.Rate > 2*s.Rate || 2*l.Rate < s.Rate:
		return nil, fmt.Errorf("%w: a fee rate of %d sat/kvB, here it is %d", ErrMessage, l.Rate, s.Rate)
	}
	f, err := s.build(l, together)
	if err == nil && !s.fair(l, f, at) {
		err = fmt.Errorf("%w: a list in which this party pays for the others", ErrMessage)
	}
	return f, err
}

// fair reports whether a payee pays at most twice what a transaction of its bank alone
// would cost it at the list's rate: banks that pay no fee must not be closed at its
// expense.
func (c *Closing) fair(l *FinalList, f *contract.Final, at int) bool {
	alone, err := c.build(&FinalList{Rate: l.Rate, Banks: l.Banks[at : at+1]}, f.Together())
	if err != nil {
		return true // alone it would get nothing
	}
	return alone.Payout(0)+alone.Fee()-f.Payout(at) <= 2*alone.Fee()
}

func (s *closing) received(ev FinalReceived) error {
	known := int(ev.From) < len(s.Terms.Parties) || ev.From == BuyerSide
	if !known || ev.From == s.Me || ev.Msg == nil {
		return fmt.Errorf("%w: from side %d", ErrMessage, ev.From)
	}
	if err := ev.Msg.Check(); err != nil {
		return err
	}
	if ev.From != BuyerSide && s.Spoiled[ev.From] {
		return fmt.Errorf("%w: of party %d, which has sent a false penny or signature", ErrMessage, ev.From)
	}
	switch m := ev.Msg.(type) {
	case *FinalCall:
		if ev.From != BuyerSide {
			return fmt.Errorf("%w: a call of party %d", ErrMessage, ev.From)
		}
		s.Called = true
		if s.Own != nil && s.once(BuyerSide) {
			s.send(BuyerSide, s.Offers[s.Me])
		}
	case *FinalOffer:
		return s.offered(ev.From, m)
	case *FinalList:
		return s.listed(ev.From, m)
	case *FinalShare:
		return s.shared(ev.From, m)
	}
	return nil
}

// once reports whether a side is answered for the first time in this tick.
func (s *closing) once(side uint8) bool {
	i := min(int(side), len(s.Answered)-1)
	first := !s.Answered[i]
	s.Answered[i] = true
	return first
}

// offered accepts a party's offer, or names a party whose penny is false.
func (s *closing) offered(from uint8, m *FinalOffer) error {
	if from == BuyerSide {
		return fmt.Errorf("%w: an offer of the buyer", ErrMessage)
	}
	if s.Offers[from] != nil {
		if !s.buyer() && !s.Over && !s.Answered[from] && s.Own != nil && s.List == nil {
			s.Answered[from] = true
			s.send(from, s.Offers[s.Me])
		}
		return nil
	}
	if m.Held > 0 && (m.Held > s.Terms.Parties[from].Pennies || !s.Terms.pays(from, m.Held, m.Secret, s.Terms.first(from))) {
		s.Spoiled[from] = true
		return nil
	}
	s.Offers[from] = m
	if !s.Called && !s.Over && s.List == nil && s.Round == 0 && s.ready() && !slices.Contains(s.Offers, nil) {
		s.propose()
	}
	return nil
}

// listed signs a list: the buyer's at any time; one of a party if there is none yet in
// its round.
func (s *closing) listed(from uint8, l *FinalList) error {
	if s.buyer() || s.Own == nil {
		return nil
	}
	if from == BuyerSide {
		if !s.once(from) {
			return fmt.Errorf("%w: a list so soon after another", ErrEarly)
		}
		f, err := s.agreed(l, from)
		if err != nil {
			return err
		}
		sig, err := s.sign(l, f)
		if err != nil {
			return err
		}
		s.Over = true // the parties do not compete with it; the bank closes alone if it does not come
		s.send(from, s.share(l, from, *sig))
		return nil
	}
	if s.List != nil && s.From == from && l.digest(&s.Terms, from) == s.List.digest(&s.Terms, from) {
		if !s.Answered[from] {
			s.Answered[from] = true
			s.send(from, s.share(s.List, s.From, *s.Shares[s.Me]))
		}
		return nil
	}
	if s.Over || l.Round != s.Round || s.List != nil || !l.has(from) {
		return nil
	}
	// The leader proposes, and another only if it does not. What is offered is listed.
	if from != s.leader() && s.Ticks < s.patience()+shareTicks {
		return nil
	}
	for _, b := range l.Banks {
		if int(b.Party) < len(s.Offers) && s.Offers[b.Party] != nil && s.Offers[b.Party].Held != b.Paid {
			return fmt.Errorf("%w: %d pennies for party %d, which offers %d", ErrMessage, b.Paid, b.Party, s.Offers[b.Party].Held)
		}
	}
	f, err := s.agreed(l, from)
	if err != nil {
		return err
	}
	s.begin(l, from, f)
	return nil
}

// shared accepts what a party contributes, or names a party whose part is false.
func (s *closing) shared(from uint8, m *FinalShare) error {
	if s.List == nil || from == BuyerSide || m.List != s.List.digest(&s.Terms, s.From) {
		return nil
	}
	at := slices.IndexFunc(s.List.Banks, func(b FinalPaid) bool { return b.Party == from })
	if at < 0 {
		return nil
	}
	if s.Shares[from] != nil {
		if s.Over && !s.buyer() && !s.Answered[from] { // it may lack ours
			s.Answered[from] = true
			s.send(from, s.share(s.List, s.From, *s.Shares[s.Me]))
		}
		return nil
	}
	if s.Over {
		return nil
	}
	f, err := s.build(s.List, s.buyer())
	if err != nil {
		return err
	}
	if s.buyer() {
		m = &FinalShare{List: m.List, Sig: m.Sig}
		if m.Sig.Payer, err = f.Sign(at, s.Keys[from]); err != nil {
			return err
		}
	}
	if err := f.Verify(at, m.Sig); err != nil {
		s.Spoiled[from] = true
		return nil
	}
	s.Shares[from] = &m.Sig
	s.complete(f)
	return nil
}

// complete assembles the transaction once all shares are here.
func (s *closing) complete(f *contract.Final) {
	var sigs []contract.FinalSig
	for _, b := range s.List.Banks {
		if s.Shares[b.Party] == nil {
			return
		}
		sigs = append(sigs, *s.Shares[b.Party])
	}
	tx, err := f.Assemble(sigs)
	if err != nil {
		return // all were verified: impossible
	}
	s.Sent, s.Over = contract.NewSent(tx, f.Fee(), s.Tip), true
	s.do(Finished{Sent: *s.Sent})
}

// due reports whether this party's part of a final transaction can be taken.
func (c *Closing) due() bool { return c.Value > 0 && c.Taken == nil }

func (s *closing) connected(b contract.Block) {
	s.Tip = max(s.Tip, b.Height)
	if b.FeeRate > 0 {
		s.Rate = b.FeeRate
	}
	for _, tx := range b.Txs {
		fact := &contract.Fact{Height: b.Height, Txid: contract.Txid(tx)}
		for i := range s.Spent {
			if contract.Spends(tx, s.Terms.Bank(uint8(i))) >= 0 {
				s.Spent[i] = fact
				if uint8(i) == s.Me {
					s.found(tx)
				}
			}
		}
		if s.Value > 0 && contract.Spends(tx, s.At) >= 0 {
			s.Taken = fact
		}
	}
	switch {
	case s.due() && s.Payout != nil && (s.Tip < s.Payout.Height+payoutBlocks || s.Tip < s.Wait):
		s.do(SendPayout{Tx: s.Payout.Tx})
	case s.due() && s.Tip >= s.Wait:
		least := wire.Sat(0)
		if s.Payout != nil {
			least = s.Payout.Fee + s.Payout.Fee/4 + 1
		}
		s.do(PayoutDue{At: s.At, Value: s.Value, MinFee: least})
	case s.buyer() && s.pending():
		s.do(Finished{Sent: *s.Sent}) // again: nodes forget
	}
}

// pending reports whether the complete transaction can still confirm, and has not.
func (c *Closing) pending() bool {
	return c.Sent != nil && c.List != nil && !slices.ContainsFunc(c.List.Banks, func(b FinalPaid) bool { return c.Spent[b.Party] != nil })
}

// beaten reports whether the complete transaction can never confirm, because one of
// its banks was closed otherwise.
func (c *Closing) beaten() bool {
	return c.Sent != nil && c.List != nil && slices.ContainsFunc(c.List.Banks, func(b FinalPaid) bool {
		f := c.Spent[b.Party]
		return f != nil && f.Txid != c.Sent.Txid
	})
}

// found looks for this party's output in the transaction that spent its bank.
func (s *closing) found(tx contract.Tx) {
	s.At, s.Value, s.Taken, s.Payout = wire.Outpoint{}, 0, nil, nil
	bank, err := contract.NewBank(s.Banks[s.Me])
	if err != nil {
		return
	}
	script, err := bank.PayoutScript(s.Banks[s.Me].Payee)
	if err != nil {
		return
	}
	for n, o := range tx.TxOut {
		if bytes.Equal(o.PkScript, script) {
			s.At, s.Value = wire.Outpoint{Txid: contract.Txid(tx), Vout: uint32(n)}, wire.Sat(o.Value)
		}
	}
}

func (s *closing) disconnected(u contract.Undo) {
	for i, f := range s.Spent {
		if f != nil && f.Height >= u.Height {
			s.Spent[i] = nil
			if uint8(i) == s.Me {
				s.At, s.Value, s.Payout, s.Wait = wire.Outpoint{}, 0, nil, 0
			}
		}
	}
	if s.Taken != nil && s.Taken.Height >= u.Height {
		s.Taken = nil
	}
	if s.Tip >= u.Height {
		s.Tip = u.Height - 1
	}
}

// Payouts returns what a payout spends.
func (c *Closing) Payouts() (contract.FinalPayout, error) {
	if c.buyer() || !c.due() {
		return contract.FinalPayout{}, fmt.Errorf("%w: nothing to take", ErrPhase)
	}
	b, err := contract.NewBank(c.Banks[c.Me])
	return contract.FinalPayout{Bank: b, At: c.At, Value: c.Value, Key: c.Keys[0]}, err
}

// Interest returns the blocks that this side must be told of.
func (c Closing) Interest() contract.Interest {
	in := contract.Interest{Top: c.Tip}
	for i := range c.Terms.Parties {
		in.Outpoints = append(in.Outpoints, c.Terms.Bank(uint8(i)))
	}
	if c.Value > 0 {
		in.Outpoints = append(in.Outpoints, c.At)
	}
	mine := c.Spent
	if !c.buyer() {
		mine = c.Spent[c.Me : c.Me+1]
	}
	open := slices.Contains(mine, nil)
	switch {
	case c.due() && c.Wait > c.Tip && c.Tip >= c.Banks[0].Expiry+wire.Height(c.Deep):
		in.Done = true // its payout is not worth the fee of taking it
	case c.due(), c.buyer() && c.pending():
		in.Wake = 1
	case c.Taken != nil:
		in.Wake = c.Taken.Height + wire.Height(c.Deep) - 1
		in.Done = c.Taken.Depth(c.Tip) >= c.Deep
	case !open:
		in.Wake = 1
		in.Done = !slices.ContainsFunc(mine, func(f *contract.Fact) bool { return f.Depth(c.Tip) < c.Deep })
	default:
		in.Wake = c.Banks[0].Expiry
		in.Done = c.Tip >= c.Banks[0].Expiry+wire.Height(c.Deep)
	}
	return in
}
