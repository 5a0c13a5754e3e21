package job

import (
	"errors"
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Candidate is a node that may become a party, and the value of the bank that it
// would be paid from.
type Candidate struct {
	Peer  wire.Peer
	Value wire.Sat
}

// BuyerMargins are waiting times of a network, in blocks.
type BuyerMargins struct {
	Final    uint32 // confirmations after which nothing is undone
	Deep     uint32 // after which no reorg that the protocol answers for undoes anything
	ValidFor uint32 // blocks within which an offered bank must be funded
}

// Order is what the user ordered. It never changes.
type Order struct {
	File       wire.Hash
	N, Q, T    uint8 // as in Terms
	Standbys   uint8
	Ahead      uint32
	Patience   uint8
	Epochs     uint32
	Window     uint32
	Candidates []Candidate // in the order in which they are asked
	Stop       wire.Height // as in Terms
	Expiry     wire.Height // T of the banks
	MaxFee     wire.Sat    // of the funding
	Sample     uint32      // epochs that are run again at each inspection
	Margins    BuyerMargins
	Created    int64 // Unix time, for people
}

// Limits of an order.
const (
	MaxCandidates = 64
	MaxSample     = 64
)

// Check returns ErrTerms if no job can be made of the order.
func (o *Order) Check() error {
	p := int(o.N) + int(o.Standbys)
	switch {
	case p > MaxParties || len(o.Candidates) < p || len(o.Candidates) > MaxCandidates:
		return fmt.Errorf("%w: %d candidates for %d parties", ErrTerms, len(o.Candidates), p)
	case o.Sample < 1 || o.Sample > MaxSample:
		return fmt.Errorf("%w: %d epochs are inspected at a time, of 1 to %d", ErrTerms, o.Sample, MaxSample)
	case o.Stop >= o.Expiry || o.MaxFee < 0 || o.Margins.Final < 1 || o.Margins.Deep < o.Margins.Final:
		return fmt.Errorf("%w: it stops at %d, its banks expire at %d", ErrTerms, o.Stop, o.Expiry)
	case o.Epochs < 1 || o.Epochs > MaxEpochs:
		return fmt.Errorf("%w: %d epochs", ErrTerms, o.Epochs)
	}
	var sum wire.Sat
	for i := range o.Candidates {
		l := o.ladder(o.Candidates[i].Value)
		if err := l.Check(); err != nil {
			return fmt.Errorf("%w: candidate %d: %w", ErrTerms, i, err)
		}
		if sum += l.Value; sum > wire.MaxSat {
			return fmt.Errorf("%w: %v in banks", ErrTerms, sum)
		}
	}
	return nil
}

// ladder returns the ladder of a bank of the job.
func (o *Order) ladder(value wire.Sat) penny.Ladder {
	rungs, per := contract.FinalRungs(o.Epochs)
	return penny.Ladder{Value: value, Rungs: rungs, PerRung: per}
}

// BuyerPhase is the phase of a job's funding, as its buyer knows it.
type BuyerPhase uint8

// The phases of Buyer. What the chain decides is a fact of it, not a phase.
const (
	BuyerAsking     BuyerPhase = iota // candidates are asked for their terms
	BuyerFunding                      // coins are selected
	BuyerBuilding                     // banks and funding are built
	BuyerOffering                     // the parties verify bank and job
	BuyerOpening                      // the banks become contracts
	BuyerPublishing                   // the funding is signed and may have been sent
	BuyerPublished                    // broadcast; from here on only the chain counts
	BuyerFailed                       // given up before anything was paid
)

// Seat is a party to be, by index.
type Seat struct {
	Candidate uint32    // its index in the order
	Bank      wire.Hash // id of its bank, different in every attempt
	Payee     wire.Key  // zero until it has quoted
	Key       wire.Key
	Conf      uint32
	Accepted  bool
}

// Buyer is the buyer's side of a job: its money, the deals, and its inspections.
// Step never modifies its receiver.
type Buyer struct {
	ID    wire.Hash // of the contract
	Order Order
	Key   wire.Secret // signs windows and verdicts
	Seed  wire.Secret // of deals and samples
	Phase BuyerPhase
	Tries uint32 // banks named so far
	Next  uint32 // the next candidate
	Seats []Seat
	Said  []string // why candidates were replaced, for people

	Waiting      bool // for coins
	Locked       wire.Sat
	Inputs       []wire.Outpoint
	Change       wire.Sat
	ChangeScript []byte
	Fee          wire.Sat

	Banks   []wire.BankTerms
	Keys    []wire.Secret // the payer's, by bank
	Funding []byte        // without witnesses
	Terms   Terms
	Since   wire.Height // the lowest at which a party accepted

	Confirmed *contract.Fact
	Conflict  *contract.Fact   // another transaction that took an input
	Spent     []*contract.Fact // by bank
	Tip       wire.Height
	Withdrawn bool

	Seen    *Certificate // the highest known
	Checked *Certificate // the highest up to which it was inspected
	Looking *Certificate // up to which it is being inspected
	False   *FalseEpoch
	Dealt   []uint32   // by bank: its pennies are dealt up to this one
	Stored  [][]uint32 // by holder and bank: shares of these that it has stored
	Busy    []bool     // by holder: it is being supplied
	Stalled []bool     // by holder: its last answer brought nothing more
	Calls   []uint32   // by party: 1 + the attempt at Epoch that it is stuck in
	Stuck   uint32     // the epoch of Calls
	Judging uint32     // 1 + the attempt at it that is refereed, or 0
	Verdict *Verdict   // the last

	Ending   bool // no more is dealt: cancelled, or over
	Closing  bool // the close has begun
	FailedBy string
	Failure  string
}

// Errors of the buyer.
var (
	ErrPhase     = errors.New("not in this state")
	ErrRefused   = errors.New("not enough candidates take part")
	ErrNoFunds   = errors.New("not enough money")
	ErrFee       = errors.New("the funding's fee is above the cap")
	ErrRejected  = errors.New("the network refuses the funding")
	ErrCancelled = errors.New("cancelled")
	ErrTooEarly  = errors.New("too early for that")
	ErrBackup    = errors.New("it may have been funded after the backup was made")
)

// NewBuyer starts to buy a job. Errors wrap ErrTerms.
func NewBuyer(id wire.Hash, o Order, key, seed wire.Secret) (Buyer, []BuyerEffect, error) {
	b := Buyer{ID: id, Order: o, Key: key, Seed: seed}
	if err := o.Check(); err != nil {
		return b, nil, err
	}
	if _, err := key.PrivKey(); err != nil {
		return b, nil, err
	}
	p := int(o.N) + int(o.Standbys)
	// The terms that do not depend on the parties are checked before anyone is asked.
	probe := o.terms()
	for i := range p {
		k, err := wire.Secret(wire.Tagged("job-probe", seed[:], u8(uint8(i)))).PrivKey()
		if err != nil {
			return b, nil, err
		}
		l := o.ladder(o.Candidates[i].Value)
		probe.Parties = append(probe.Parties, Party{Key: wire.XOnly(k.PubKey()), Pennies: l.N()})
	}
	own, _ := key.PrivKey() // checked
	probe.Buyer, probe.Depth = wire.XOnly(own.PubKey()), 1
	if err := probe.Check(); err != nil {
		return b, nil, err
	}
	b.Next = uint32(p)
	b.Seats = make([]Seat, p)
	s := &buying{Buyer: &b}
	for i := range b.Seats {
		b.Seats[i].Candidate = uint32(i)
		s.ask(i)
	}
	return b, s.out, nil
}

// terms returns the terms without parties, funding and depth.
func (o *Order) terms() Terms {
	return Terms{File: o.File, Stop: o.Stop, N: o.N, Q: o.Q, T: o.T, Ahead: o.Ahead, Patience: o.Patience, Epochs: o.Epochs, Window: o.Window}
}

// BankDigest is what the terms of a job contain of a bank: H[job-bank](encoding of
// its terms).
func BankDigest(t *wire.BankTerms) wire.Hash {
	b, err := wire.Marshal(t)
	if err != nil {
		panic(err) // fails only for types that cannot be encoded; ours can
	}
	return wire.Tagged("job-bank", b)
}

// buying collects the effects of a transition.
type buying struct {
	*Buyer
	out []BuyerEffect
}

func (s *buying) do(e ...BuyerEffect) { s.out = append(s.out, e...) }

// Step is the transition function. An error changes nothing.
func (b Buyer) Step(ev BuyerEvent) (Buyer, []BuyerEffect, error) {
	next := b.clone()
	s := &buying{Buyer: &next}
	if err := s.event(ev); err != nil {
		return b, nil, err
	}
	s.advance()
	return next, s.out, nil
}

// clone copies every list into which a step writes. Data behind pointers are never
// modified.
func (b Buyer) clone() Buyer {
	b.Seats, b.Said, b.Spent = slices.Clone(b.Seats), slices.Clone(b.Said), slices.Clone(b.Spent)
	b.Dealt, b.Busy, b.Calls = slices.Clone(b.Dealt), slices.Clone(b.Busy), slices.Clone(b.Calls)
	b.Stalled = slices.Clone(b.Stalled)
	b.Stored = slices.Clone(b.Stored)
	return b
}

func (s *buying) event(ev BuyerEvent) error {
	switch ev := ev.(type) {
	case Quoted:
		s.quoted(ev)
	case NotQuoted:
		if i := s.seat(ev.Bank); i >= 0 && s.Phase == BuyerAsking {
			s.replace(i, ev.Why)
		}
	case CoinsLocked:
		return s.locked(ev)
	case NoCoins:
		if s.Phase != BuyerFunding {
			return nil
		}
		if s.Waiting = ev.Need <= ev.Soon; !s.Waiting { // each block asks again
			s.fail("funds", fmt.Errorf("%w: %v needed, %v there", ErrNoFunds, ev.Need, ev.Have))
		}
	case CoinsFreed:
		if s.Phase == BuyerFunding && s.Waiting {
			s.lock()
		}
	case Built:
		return s.built(ev)
	case Accepted:
		s.accepted(ev)
	case NotAccepted:
		if i := s.seat(ev.Bank); i >= 0 && s.Phase == BuyerOffering {
			s.replace(i, ev.Why)
		}
	case BanksOpened:
		if s.Phase == BuyerOpening {
			s.Phase = BuyerPublishing
			valid := s.Order.Margins.ValidFor
			s.do(Fund{Tx: s.Funding, Until: s.Since + wire.Height(valid) - wire.Height(min(s.Terms.Depth, valid/2))})
		}
	case FundingSent:
		switch {
		case s.Phase != BuyerPublishing:
		case ev.Err != "":
			s.fail("rejected", fmt.Errorf("%w: %s", ErrRejected, ev.Err))
		default:
			s.Phase = BuyerPublished
		}
	case Cancelled:
		return s.cancelled()
	case Withdrawn:
		if s.Phase != BuyerPublishing && s.Phase != BuyerPublished || s.Confirmed != nil {
			return fmt.Errorf("%w: its funding cannot be withdrawn", ErrPhase)
		}
		s.Withdrawn = true
	case Restored:
		s.restored()
	case Certified:
		clear(s.Stalled)
		return s.certified(&ev.Cert)
	case Inspected:
		s.inspected(ev)
	case Supplied:
		return s.supplied(ev)
	case Stuck:
		s.stuckAt(ev)
	case Refereed:
		return s.refereed(ev)
	case Connected:
		s.connected(ev.Block)
	case Disconnected:
		s.disconnected(ev.Undo)
	default:
		return fmt.Errorf("%w: %T to a buyer", ErrPhase, ev)
	}
	return nil
}

// seat returns the index of the seat with this bank, or −1.
func (b *Buyer) seat(bank wire.Hash) int {
	return slices.IndexFunc(b.Seats, func(s Seat) bool { return s.Bank == bank })
}

// ask names a new bank for a seat and asks its candidate for terms. No id is used
// twice, so no answer to an earlier attempt counts, and no payee's key occurs in two
// fundings.
func (s *buying) ask(i int) {
	s.Tries++
	x := &s.Seats[i]
	*x = Seat{Candidate: x.Candidate, Bank: wire.Tagged("job-bank-id", s.ID[:], u32(s.Tries))}
	c := &s.Order.Candidates[x.Candidate]
	l := s.Order.ladder(c.Value)
	s.do(Ask{Peer: c.Peer, Request: wire.BankRequest{Bank: x.Bank, Value: l.Value, Rungs: l.Rungs, PerRung: l.PerRung, Expiry: s.Order.Expiry}})
}

// replace gives a seat to the next candidate. If the banks are built, everything
// that follows from the old one is built again: all are asked for new terms.
func (s *buying) replace(i int, why string) {
	s.Said = append(s.Said, fmt.Sprintf("candidate %d: %s", s.Seats[i].Candidate, wire.Clean(why)))
	if int(s.Next) >= len(s.Order.Candidates) {
		s.fail("refused", fmt.Errorf("%w: %s", ErrRefused, s.Said[len(s.Said)-1]))
		return
	}
	s.Seats[i].Candidate = s.Next
	s.Next++
	if s.Phase == BuyerAsking {
		s.ask(i)
		return
	}
	s.Phase, s.Banks, s.Keys, s.Funding, s.Terms, s.Since = BuyerAsking, nil, nil, nil, Terms{}, 0
	for i := range s.Seats {
		s.ask(i)
	}
}

func (s *buying) quoted(ev Quoted) {
	i := s.seat(ev.Bank)
	if s.Phase != BuyerAsking || i < 0 || s.Seats[i].Conf > 0 {
		return
	}
	x := &s.Seats[i]
	_, err := ev.Payee.Point()
	_, err2 := ev.Key.Point()
	own, _ := s.Key.PrivKey() // checked
	if err != nil || err2 != nil || ev.Conf == 0 || ev.Conf > wire.MaxBankConf || ev.Key == wire.XOnly(own.PubKey()) ||
		slices.ContainsFunc(s.Seats, func(o Seat) bool { return o.Key == ev.Key || o.Payee == ev.Payee }) {
		s.replace(i, fmt.Sprintf("%d confirmations, or its key is bad or another party's", ev.Conf))
		return
	}
	x.Payee, x.Key, x.Conf = ev.Payee, ev.Key, ev.Conf
	s.Tip = max(s.Tip, ev.Height)
	if slices.ContainsFunc(s.Seats, func(o Seat) bool { return o.Conf == 0 }) {
		return
	}
	if s.Locked == s.total() { // of an earlier attempt
		s.build()
		return
	}
	if s.Locked > 0 {
		s.Locked, s.Inputs = 0, nil
		s.do(UnlockCoins{})
	}
	s.Phase = BuyerFunding
	s.lock()
}

// total returns the value of all banks.
func (b *Buyer) total() (sum wire.Sat) {
	for i := range b.Seats {
		sum += b.Value(uint8(i))
	}
	return sum
}

// Value returns the value of a party's bank.
func (b *Buyer) Value(party uint8) wire.Sat {
	return b.Order.Candidates[b.Seats[party].Candidate].Value
}

// Ladder returns the ladder of a party's bank.
func (b *Buyer) Ladder(party uint8) penny.Ladder { return b.Order.ladder(b.Value(party)) }

func (s *buying) lock() { s.do(LockCoins{Amount: s.total(), Banks: uint8(len(s.Seats))}) }

func (s *buying) locked(ev CoinsLocked) error {
	if s.Phase != BuyerFunding {
		return nil
	}
	s.Waiting = false
	if ev.Fee > s.Order.MaxFee {
		s.fail("fee", fmt.Errorf("%w: %v, the cap is %v", ErrFee, ev.Fee, s.Order.MaxFee))
		return nil
	}
	if len(ev.Inputs) == 0 {
		return fmt.Errorf("%w: no inputs", ErrPhase)
	}
	s.Locked, s.Inputs, s.Change, s.ChangeScript, s.Fee = s.total(), ev.Inputs, ev.Change, ev.ChangeScript, ev.Fee
	s.build()
	return nil
}

func (s *buying) build() {
	s.Phase = BuyerBuilding
	s.do(Build{First: s.Seats[0].Bank})
}

// built computes the terms and offers each party its bank and the job.
func (s *buying) built(ev Built) error {
	if s.Phase != BuyerBuilding || ev.First != s.Seats[0].Bank {
		return nil
	}
	if len(ev.Banks) != len(s.Seats) || len(ev.Keys) != len(s.Seats) {
		return fmt.Errorf("%w: %d banks built", ErrPhase, len(ev.Banks))
	}
	tx, err := contract.DecodeTx(ev.Funding)
	if err != nil {
		return err
	}
	own, _ := s.Key.PrivKey() // checked
	t := s.Order.terms()
	t.Funding, t.Buyer = contract.Txid(tx), wire.XOnly(own.PubKey())
	for i := range ev.Banks {
		x, k := &s.Seats[i], &ev.Banks[i]
		l := s.Ladder(uint8(i))
		if k.Payee != x.Payee || k.Value != l.Value || k.Expiry != s.Order.Expiry {
			return fmt.Errorf("%w: bank %d is another's", ErrPhase, i)
		}
		t.Depth = max(t.Depth, x.Conf)
		t.Parties = append(t.Parties, Party{Key: x.Key, Bank: BankDigest(k), Nonce: k.Nonce, Pennies: l.N(), Last: k.Last})
	}
	if err := t.Check(); err != nil {
		return err
	}
	s.Banks, s.Keys, s.Funding, s.Terms, s.Phase = ev.Banks, ev.Keys, ev.Funding, t, BuyerOffering
	for i := range s.Seats {
		s.do(Offer{Seat: uint8(i), Bank: s.Seats[i].Bank})
	}
	return nil
}

func (s *buying) accepted(ev Accepted) {
	i := s.seat(ev.Bank)
	if s.Phase != BuyerOffering || i < 0 {
		return
	}
	s.Seats[i].Accepted = true
	if s.Since == 0 || ev.Height < s.Since {
		s.Since = ev.Height
	}
	if slices.ContainsFunc(s.Seats, func(o Seat) bool { return !o.Accepted }) {
		return
	}
	s.Phase = BuyerOpening
	s.begin()
	s.do(OpenBanks{})
}

// begin makes the lists of a job that may run.
func (s *buying) begin() {
	p := len(s.Seats)
	s.Dealt, s.Busy, s.Stalled, s.Calls, s.Spent, s.Stored = make([]uint32, p), make([]bool, p), make([]bool, p), make([]uint32, p), make([]*contract.Fact, p), make([][]uint32, p)
	for h := range s.Stored {
		s.Stored[h] = make([]uint32, p)
	}
}

// cancelled ends the job. Up to the funding nothing is paid; after it the parties
// are paid what is certified, in the close.
func (s *buying) cancelled() error {
	switch {
	case s.Phase < BuyerOpening:
		s.fail("cancelled", ErrCancelled)
	case s.Phase == BuyerFailed || s.finished():
		return fmt.Errorf("%w: the job is over", ErrPhase)
	case s.Confirmed == nil:
		return fmt.Errorf("%w: its funding is signed and may have been sent, and is not confirmed", ErrTooEarly)
	case s.Ending && s.False == nil: // for the second time: without waiting for an inspection
		s.Closing = true
		s.do(BeginClose{})
	}
	s.Ending = true
	return nil
}

func (s *buying) fail(by string, err error) {
	if s.Phase < BuyerOpening && by != "restored" {
		s.Funding, s.Terms = nil, Terms{} // never signed: nothing to watch for
	}
	s.Phase, s.Waiting, s.Locked, s.FailedBy, s.Failure = BuyerFailed, false, 0, by, wire.Clean(err.Error())
	s.do(UnlockCoins{})
}

// restored gives up a job that may have been funded since the backup, but watches
// for its funding. A funded job goes on: all that it deals and signs follows from its
// state, and is the same again.
func (s *buying) restored() {
	for h := range s.Busy {
		s.Busy[h] = false
	}
	if s.Phase < BuyerOpening {
		s.fail("restored", ErrBackup)
	}
}

// sent reports whether the funding was built and may have been signed.
func (b *Buyer) sent() bool {
	return len(b.Funding) > 0 && b.Phase >= BuyerOpening
}

func (s *buying) connected(b contract.Block) {
	s.Tip = max(s.Tip, b.Height)
	clear(s.Stalled)
	if s.Phase == BuyerFunding && s.Waiting {
		s.lock()
		return
	}
	if !s.sent() {
		return
	}
	for _, tx := range b.Txs {
		id := contract.Txid(tx)
		fact := &contract.Fact{Height: b.Height, Txid: id}
		if id == s.Terms.Funding {
			s.Confirmed = fact
			if s.Phase == BuyerFailed { // it was out after all
				s.reopen()
			}
		} else if slices.ContainsFunc(s.Inputs, func(o wire.Outpoint) bool { return contract.Spends(tx, o) >= 0 }) {
			s.Conflict = fact
		}
		for i := range s.Spent {
			if contract.Spends(tx, s.Terms.Bank(uint8(i))) >= 0 {
				s.Spent[i] = fact
			}
		}
	}
	if s.Phase == BuyerPublished && s.Confirmed == nil && s.Conflict.Depth(s.Tip) >= s.Order.Margins.Final {
		by, why := "rejected", fmt.Errorf("%w: its coins were spent otherwise", ErrRejected)
		if s.Withdrawn {
			by, why = "cancelled", ErrCancelled
		}
		s.fail(by, why)
	}
}

// reopen resumes a job that was given up and whose funding is in the chain. Its
// banks become contracts, so that they are refunded.
func (s *buying) reopen() {
	if s.Spent == nil { // restored from before
		s.begin()
	}
	s.Phase, s.FailedBy, s.Failure = BuyerPublished, "", ""
	s.do(OpenBanks{})
}

func (s *buying) disconnected(u contract.Undo) {
	for _, f := range append([]**contract.Fact{&s.Confirmed, &s.Conflict}, pointers(s.Spent)...) {
		if *f != nil && (*f).Height >= u.Height {
			*f = nil
		}
	}
	if s.Tip >= u.Height {
		s.Tip = u.Height - 1
	}
}

func pointers[T any](list []T) (p []*T) {
	for i := range list {
		p = append(p, &list[i])
	}
	return p
}

// finished reports whether every bank is spent for good.
func (b *Buyer) finished() bool {
	return len(b.Spent) > 0 && !slices.ContainsFunc(b.Spent, func(f *contract.Fact) bool { return f.Depth(b.Tip) < b.Order.Margins.Deep })
}

// Interest returns the blocks that the buyer must be told of.
func (b Buyer) Interest() contract.Interest {
	in := contract.Interest{Top: b.Tip}
	m := b.Order.Margins
	switch {
	case b.Phase == BuyerFunding && b.Waiting:
		in.Wake = 1
		return in
	case !b.sent():
		in.Done = b.Phase == BuyerFailed
		return in
	}
	in.Txids = []wire.Hash{b.Terms.Funding}
	for i := range b.Terms.Parties {
		in.Outpoints = append(in.Outpoints, b.Terms.Bank(uint8(i)))
	}
	if b.Confirmed == nil {
		in.Outpoints = append(in.Outpoints, b.Inputs...)
	}
	end := b.Order.Expiry + wire.Height(m.Deep)
	switch {
	case b.Confirmed == nil && b.Conflict != nil:
		in.Wake = b.Conflict.Height + wire.Height(m.Final) - 1
		if in.Wake <= b.Tip {
			in.Wake = b.Conflict.Height + wire.Height(m.Deep) - 1
		}
		in.Done = b.Conflict.Depth(b.Tip) >= m.Deep
	case b.Confirmed == nil:
		in.Wake = end
		in.Done = b.Tip >= end // a funding that nobody ever saw
	case !slices.Contains(b.Spent, nil):
		in.Wake = 1
		in.Done = b.finished()
	case b.Tip < b.Order.Stop:
		in.Wake = b.Order.Stop
	default:
		in.Wake = b.Order.Expiry
	}
	return in
}
