package bank

import (
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// PayerPhase is the phase of a bank's opening, as its payer knows it.
type PayerPhase uint8

// The phases of Payer.
const (
	PayerAsking     PayerPhase = iota // the payee is being asked for its terms
	PayerFunding                      // coins are picked
	PayerPreparing                    // chain, terms and funding are built
	PayerOffering                     // the payee is verifying the bank
	PayerPublishing                   // the funding is signed and may have been sent
	PayerPublished                    // broadcast; from here on only the chain counts
	PayerFailed                       // given up before anything was paid
)

// Terms are the terms of a bank. They never change.
type Terms struct {
	Peer    Peer
	Value   wire.Sat
	Rungs   uint32
	PerRung uint32      // pennies to a rung
	Expiry  wire.Height // T
	MaxFee  wire.Sat    // of the funding
	Memo    string      // for people
	Pair    ID          // the reverse bank, whose payee asked for this one; or zeros
	Created int64       // Unix time, for people
	Margins Margins
	Back    wire.Sat `cbor:",omitempty"` // value of the reverse bank to ask the payee for once this one is open; or 0
}

// Payer is the payer's side of a bank.
type Payer struct {
	Ours
	Bank    ID
	Terms   Terms
	Phase   PayerPhase
	Waiting bool        // for coins, while funding
	Root    wire.Secret // of the bank's keys, blinding and chain
	Inputs  []wire.Outpoint
	Funding []byte // without witnesses
	Fee     wire.Sat

	Target      uint32     // count of pennies that may have been sent: the ordered ones
	Acked       uint32     // count that the payee acknowledged
	Direct      uint32     `cbor:",omitempty"` // of Target: pennies ordered by the user, not as credit for payments
	Assigned    wire.Msat  // of the paid amount: assigned to steps of payments
	Outstanding *wire.Hash // our payment whose step is not acknowledged
	OutIndex    uint32     // that step's number
	Behind      bool       // restored: the payee must first say what it holds
	Rewound     bool       `cbor:",omitempty"` // it was open when the home was restored: it may have steps that payments do not know of
	Stopped     bool       // the user closes it
	PayeeWhy    string     // reason why the payee accepts no more
	CloseTxid   wire.Hash  // of the cooperative close, once signed

	Conflict *contract.Fact // another transaction that took an input
	Refund   *contract.Sent
	Solo     bool           // refunded alone: written by older versions after a batch was refused
	Returned *contract.Fact // the spend of the change
	// Asked means that the payee is asked for the reverse bank, Reverse is its id, and
	// NoReverse the reason if there is none.
	Asked     bool   `cbor:",omitempty"`
	Reverse   *ID    `cbor:",omitempty"`
	NoReverse string `cbor:",omitempty"`
	// Withdrawn means that the user takes the coins of the funding back.
	Withdrawn bool `cbor:",omitempty"`
	// Least is the rate that the user wants for a refund; 0 leaves it to the
	// estimate.
	Least   wire.SatPerKVB `cbor:",omitempty"`
	NextTry wire.Height    // an uneconomic refund is not tried before this height
	Tied    bool           `cbor:",omitempty"` // it pays for a job, and for nothing else

	FailedBy string // the name of the sentinel error: "funds", "fee", "refused", "rejected", "cancelled", "restored"
	Failure  string
}

// NewPayer starts to open a bank.
func NewPayer(id ID, t Terms) (Payer, []Effect, error) {
	p := Payer{Bank: id, Terms: t}
	p.Ladder = penny.Ladder{Value: t.Value, Rungs: t.Rungs, PerRung: t.PerRung}
	p.Margins, p.Expiry = t.Margins, t.Expiry
	if err := p.Ladder.Check(); err != nil {
		return p, nil, err
	}
	return p, []Effect{AskTerms{Peer: t.Peer, Request: wire.BankRequest{Bank: id, Value: t.Value, Rungs: t.Rungs, PerRung: t.PerRung, Expiry: t.Expiry}}}, nil
}

// A bank's secrets derive from its root, and the root from the home's seed and
// the funding's first input. So no counter must be stored, and no root repeats.

// PayerKey returns the secret of the payer's key in a bank's scripts.
func PayerKey(root wire.Secret) wire.Secret { return wire.Secret(wire.Tagged("bank-payer", root[:])) }

// Blinding returns the blinding of the internal key.
func Blinding(root wire.Secret) wire.Secret {
	return wire.Secret(wire.Tagged("bank-blinding", root[:]))
}

// Pence returns the chain of a bank of n pennies, with its secret start.
func Pence(root wire.Secret, n uint32) penny.Pence {
	p := penny.Pence{Chain: penny.Chain{Size: wire.PennySize}, N: n}
	nonce, p0 := wire.Tagged("bank-nonce", root[:]), wire.Tagged("bank-p0", root[:])
	copy(p.Nonce[:], nonce[:])
	copy(p.P0[:p.Size], p0[:])
	return p
}

// Build computes a bank's terms, its unsigned funding, and the purse of its
// pennies. The bank is output 0 of the funding. Build walks the whole chain.
func Build(e *Prepare) (wire.BankTerms, *contract.Bank, contract.Tx, *penny.Purse, error) {
	t := wire.BankTerms{Blinding: Blinding(e.Root), Expiry: e.Expiry, Payee: e.Payee, Value: e.Ladder.Value, PerRung: e.Ladder.PerRung}
	key, err := PayerKey(e.Root).PrivKey()
	if err != nil {
		return t, nil, nil, nil, err
	}
	t.Payer = wire.XOnly(key.PubKey())
	p := Pence(e.Root, e.Ladder.N())
	t.Nonce = p.Nonce
	seqs := make([]uint32, 0, e.Ladder.Rungs+1)
	for g := e.Ladder.Rungs; g >= 1; g-- {
		seqs = append(seqs, e.Ladder.Seq(g))
	}
	purse, list := penny.NewPurseWith(p, append(seqs, p.N))
	t.Locks = make(wire.Locks, e.Ladder.Rungs)
	for i := range t.Locks {
		t.Locks[i] = contract.Lock(list[len(t.Locks)-1-i].Secret[:p.Size])
	}
	copy(t.Last[:], list[len(t.Locks)].Secret[:])
	b, err := contract.NewBank(t)
	if err != nil {
		return t, nil, nil, nil, err
	}
	return t, b, b.Funding(e.Inputs, e.Change, e.ChangeScript), purse, nil
}

// Step is the payer's transition function.
func (p Payer) Step(ev Event) (Payer, []Effect, error) {
	switch ev := ev.(type) {
	case Quoted:
		return p.quoted(ev)
	case NotQuoted:
		if p.Phase != PayerAsking {
			return p, nil, nil
		}
		return p.fail("refused", fmt.Errorf("%w: %s", ErrRefused, ev.Why))
	case NoCoins:
		if p.Phase != PayerFunding {
			return p, nil, nil
		}
		if ev.Need <= ev.Soon {
			p.Waiting = true // each block asks again
			return p, nil, nil
		}
		return p.fail("funds", fmt.Errorf("%w: %v needed, %v there", ErrNoFunds, ev.Need, ev.Have))
	case CoinsFreed:
		if p.Phase == PayerFunding && p.Waiting {
			return p, []Effect{LockCoins{Amount: p.Terms.Value}}, nil
		}
		return p, nil, nil
	case CoinsLocked:
		return p.locked(ev)
	case Prepared:
		return p.prepared(ev)
	case Accepted:
		return p.accepted(ev)
	case NotAccepted:
		if p.Phase != PayerOffering {
			return p, nil, nil
		}
		return p.fail("refused", fmt.Errorf("%w: %s", ErrRefused, ev.Why))
	case Broadcasted:
		return p.broadcasted(ev)
	case Cancelled:
		if p.Phase >= PayerPublishing {
			return p, nil, fmt.Errorf("%w: its funding is signed and may have been sent", ErrTooEarly)
		}
		return p.fail("cancelled", ErrCancelled)
	case Withdrawn:
		if p.Phase < PayerPublishing || p.Confirmed != nil {
			return p, nil, fmt.Errorf("%w: it is %s", ErrWrongPhase, p.State())
		}
		p.Withdrawn = true
		return p, nil, nil
	case Bumped:
		if !p.Refundable() {
			return p, nil, fmt.Errorf("%w: nothing of it can be refunded now", ErrTooEarly)
		}
		p.Least, p.NextTry = ev.Rate, 0
		return p, []Effect{RefundDue{}}, nil
	case Restored:
		return p.restored()
	case Ordered:
		if err := p.Spendable(); err != nil {
			return p, nil, err
		}
		next, effects, err := p.order(uint64(p.Target) + uint64(ev.Pennies))
		if err == nil {
			next.Direct += ev.Pennies
		}
		return next, effects, err
	case Assigned:
		return p.assigned(ev)
	case Acknowledged:
		if p.outstanding(ev.ID, ev.Index) {
			p.Outstanding = nil
		}
		return p, nil, nil
	case Unassigned:
		if p.outstanding(ev.ID, ev.Index) && ev.Amount <= p.Assigned {
			p.Outstanding, p.Assigned = nil, p.Assigned-ev.Amount
		}
		return p, nil, nil
	case Streamed:
		p.Acked = max(p.Acked, min(ev.Count, p.Target))
		p.PayeeWhy = wire.Clean(ev.Why)
		return p, nil, nil
	case Synced:
		if ev.Count > p.Ladder.N() {
			return p, nil, fmt.Errorf("%w: %d pennies of %d", ErrBadBank, ev.Count, p.Ladder.N())
		}
		p.Behind = false
		p.Target, p.Acked = max(p.Target, ev.Count), max(p.Acked, ev.Count)
		p.Assigned, p.Direct = max(p.Assigned, p.Ladder.Paid(p.Target)), 0 // what was paid since the backup may be used
		return p, nil, nil
	case CloseWanted:
		if p.Confirmed == nil || p.Spend != nil {
			return p, nil, fmt.Errorf("%w: it is %s", ErrNotOpen, p.State())
		}
		p.Stopped, p.Failure = true, ""
		return p, []Effect{AskClose{}}, nil
	case CloseOffered:
		return p.closeOffered(ev)
	case CloseRefused:
		p.Failure = wire.Clean(ev.Why)
		return p, nil, nil
	case CloseSent:
		p.CloseTxid = ev.Txid
		return p, nil, nil
	case Paired:
		if p.NoReverse = wire.Clean(ev.Why); ev.Why == "" {
			p.Reverse = &ev.Bank
		}
		return p, nil, nil
	case RefundBuilt:
		if !p.Refundable() {
			return p, nil, nil
		}
		p.Refund, p.NextTry = &ev.Sent, 0
		if ev.Broadcast {
			return p, []Effect{Broadcast{Tx: ev.Sent.Tx}}, nil
		}
		return p, nil, nil
	case RefundFailed:
		if ev.Pause {
			p.NextTry = p.Tip + wire.Height(p.Margins.Again)
		}
		return p, nil, nil
	case Pruned:
		if p.over() {
			p = p.line()
		}
		return p, nil, nil
	case Connected:
		return p.connected(ev)
	case Disconnected:
		return p.disconnected(ev)
	}
	return p, nil, fmt.Errorf("%w: %T to a payer", ErrWrongPhase, ev)
}

func (p Payer) fail(by string, err error) (Payer, []Effect, error) {
	effects := []Effect{UnlockCoins{}}
	if p.Phase < PayerPublishing && by != "restored" {
		p.At, p.Funding = wire.Outpoint{}, nil // never signed: nothing to watch for
		effects = append(effects, DropPaper{})
	}
	p.Phase, p.FailedBy, p.Failure = PayerFailed, by, wire.Clean(err.Error())
	return p, effects, nil
}

func (p Payer) quoted(ev Quoted) (Payer, []Effect, error) {
	if p.Phase != PayerAsking {
		return p, nil, nil
	}
	if _, err := ev.Payee.Point(); err != nil || ev.Conf == 0 || ev.Conf > wire.MaxBankConf {
		return p.fail("refused", fmt.Errorf("%w: %d confirmations, key %v", ErrRefused, ev.Conf, ev.Payee))
	}
	p.Payee, p.Conf, p.Tip = ev.Payee, ev.Conf, max(p.Tip, ev.Height)
	p.Phase = PayerFunding
	return p, []Effect{LockCoins{Amount: p.Terms.Value}}, nil
}

func (p Payer) locked(ev CoinsLocked) (Payer, []Effect, error) {
	if p.Phase != PayerFunding {
		return p, nil, nil
	}
	p.Waiting = false
	if ev.Fee > p.Terms.MaxFee {
		return p.fail("fee", fmt.Errorf("%w: %v, the cap is %v", ErrFee, ev.Fee, p.Terms.MaxFee))
	}
	if len(ev.Inputs) == 0 {
		return p, nil, fmt.Errorf("%w: no inputs", ErrWrongPhase)
	}
	key, err := PayerKey(ev.Root).PrivKey()
	if err != nil {
		return p, nil, err
	}
	p.Payer, p.Root, p.Inputs, p.Fee = wire.XOnly(key.PubKey()), ev.Root, ev.Inputs, ev.Fee
	p.Nonce = Pence(ev.Root, 0).Nonce
	p.Phase = PayerPreparing
	return p, []Effect{Prepare{Root: ev.Root, Payee: p.Payee, Expiry: p.Expiry, Ladder: p.Ladder, Inputs: ev.Inputs,
		Change: ev.Change, ChangeScript: ev.ChangeScript}}, nil
}

func (p Payer) prepared(ev Prepared) (Payer, []Effect, error) {
	if p.Phase != PayerPreparing {
		return p, nil, nil
	}
	p.Funding, p.At, p.Phase = ev.Funding, ev.At, PayerOffering
	return p, []Effect{Offer{Peer: p.Terms.Peer, Root: p.Root, Funding: p.Funding, At: p.At}}, nil
}

func (p Payer) accepted(ev Accepted) (Payer, []Effect, error) {
	if p.Phase != PayerOffering {
		return p, nil, nil
	}
	p.Phase = PayerPublishing
	until := ev.Height + wire.Height(p.Margins.ValidFor) - wire.Height(min(p.Conf, p.Margins.ValidFor/2))
	return p, []Effect{Publish{Tx: p.Funding, Until: until}}, nil
}

func (p Payer) broadcasted(ev Broadcasted) (Payer, []Effect, error) {
	if p.Phase != PayerPublishing {
		return p.refundTold(ev)
	}
	if ev.Err != "" {
		return p.fail("rejected", fmt.Errorf("%w: %s", ErrRejected, ev.Err))
	}
	p.Phase = PayerPublished
	return p, nil, nil
}

// refundTold hears what the network said to a refund. If it was refused, the one
// that it replaces counts again; if there is none, another member may be the
// reason, and the refunds are planned again.
func (p Payer) refundTold(ev Broadcasted) (Payer, []Effect, error) {
	if !p.Refundable() {
		return p, nil, nil
	}
	next, again, plan := p.Refund.Told(ev.Txid, ev.Err != "", ev.TooLow)
	p.Refund = next
	switch {
	case ev.Own && again:
		return p, []Effect{Broadcast{Tx: next.Tx}}, nil
	case ev.Own && plan && p.Ready():
		return p, []Effect{RefundDue{}}, nil
	}
	return p, nil, nil // the next block tries again
}

// Ready reports whether a refund is due and not paused.
func (p *Payer) Ready() bool { return p.Refundable() && p.Tip >= p.NextTry }

// refundOf forgets a refund of another output than the one that is refundable
// now that the bank is spent.
func (p *Payer) refundOf(was wire.Outpoint) {
	at := p.back()
	if at == was || p.Refund == nil {
		return
	}
	if tx, err := contract.ReadTx(p.Refund.Tx); err != nil || contract.Spends(tx, at) < 0 {
		p.Refund, p.NextTry = nil, 0
	}
}

// back returns the outpoint of what is refundable now or later: the bank, or its
// change.
func (p *Payer) back() wire.Outpoint {
	if at, ok := p.change(); ok {
		return at
	}
	return p.At
}

// restored gives up a bank that may have been opened since the backup: with
// another first input it would be a different bank, and this one's coins may be
// spent. For an open bank it asks the payee how many pennies it holds.
func (p Payer) restored() (Payer, []Effect, error) {
	if p.Spend != nil {
		return p, nil, nil
	}
	p.Behind, p.Rewound = true, true // also if failed, because its funding may confirm after all
	switch {
	case p.Phase < PayerPublishing:
		return p.fail("restored", ErrRestored)
	case p.Phase == PayerFailed:
		return p, nil, nil
	}
	return p, []Effect{Sync{}}, nil
}

// Spendable returns nil if pennies can be ordered now, or the reason why not.
func (p *Payer) Spendable() error {
	switch {
	case p.Phase == PayerFailed:
		return fmt.Errorf("%w: it was given up: %s", ErrNotOpen, p.Failure)
	case p.Tied:
		return fmt.Errorf("%w: its pennies pay for a job", ErrNotOpen)
	case p.Spend != nil:
		return fmt.Errorf("%w: it is %s", ErrNotOpen, p.State())
	case p.Confirmed == nil || p.Depth() < p.Conf: // Conf is 0 before the payee has said it
		return fmt.Errorf("%w: its funding has %d of %d confirmations", ErrNotOpen, p.Depth(), p.Conf)
	case p.Behind:
		return fmt.Errorf("%w: restored from a backup; waiting for the payee to say how many pennies it holds", ErrNotOpen)
	case p.Stopped:
		return fmt.Errorf("%w: it is being closed", ErrNotOpen)
	case p.Stopping():
		return fmt.Errorf("%w: it expires at %d, and no penny is accepted from %d on", ErrNotOpen, p.Expiry, before(p.Expiry, p.Margins.Stop))
	case p.PayeeWhy != "":
		return fmt.Errorf("%w: the payee accepts no more: %s", ErrNotOpen, p.PayeeWhy)
	}
	return nil
}

// order sets the count of pennies that may be sent from now on.
func (p Payer) order(target uint64) (Payer, []Effect, error) {
	if target > uint64(p.Ladder.N()) {
		return p, nil, fmt.Errorf("%w: %d", ErrEmpty, p.Ladder.N()-p.Target)
	}
	if uint32(target) == p.Target && p.Acked == p.Target {
		return p, nil, nil
	}
	p.Target = uint32(target)
	return p, []Effect{Stream{}}, nil
}

// assigned raises the target so that the payee will have credit for a step. At
// most one step of our own payments is unacknowledged (invariant
// BankerHoldsOneStep).
func (p Payer) assigned(ev Assigned) (Payer, []Effect, error) {
	if err := p.Spendable(); err != nil {
		return p, nil, err
	}
	if p.Outstanding != nil {
		return p, nil, fmt.Errorf("%w: of payment %v", ErrUnacked, *p.Outstanding)
	}
	if ev.Amount == 0 || ev.Amount > p.Ladder.Value.Msat() || ev.Reserve < 0 || ev.Reserve > p.Ladder.Value {
		return p, nil, fmt.Errorf("%w: %v from a bank of %v", ErrEmpty, ev.Amount, p.Ladder.Value)
	}
	need := p.Used() + ev.Amount
	var count uint32
	var ok bool
	if ev.Banker {
		var g uint32
		g, ok = p.Ladder.RungFor(need + ev.Reserve.Msat())
		count = g * p.Ladder.PerRung
	} else {
		count, ok = p.Ladder.CountFor(need)
	}
	if !ok {
		return p, nil, fmt.Errorf("%w: %v of %v are assigned", ErrEmpty, p.Assigned, p.Ladder.Paid(p.Ladder.N()))
	}
	p.Assigned += ev.Amount
	if !ev.Relayed {
		p.Outstanding, p.OutIndex = &ev.ID, ev.Index
	}
	return p.order(uint64(max(p.Target, count)))
}

// outstanding reports whether a payment's step is the unacknowledged one.
func (p *Payer) outstanding(id wire.Hash, index uint32) bool {
	return p.Outstanding != nil && *p.Outstanding == id && p.OutIndex == index
}

// closeOffered checks that the offer gives the payee no more than its pennies
// are worth.
func (p Payer) closeOffered(ev CloseOffered) (Payer, []Effect, error) {
	if !p.Stopped || p.Spend != nil {
		return p, nil, nil
	}
	if ev.Count > p.Ladder.N() || ev.Payer < p.Ladder.Value-p.Paid(ev.Count) {
		p.Failure = wire.Clean(fmt.Sprintf("%v: %v to us for %d pennies", ErrBadOffer, ev.Payer, ev.Count))
		return p, nil, nil
	}
	if v := p.Ladder.Value; ev.Payer > v || ev.Fee < 0 || ev.Fee > v || v-ev.Payer-ev.Fee < contract.Dust {
		p.Failure = wire.Clean(fmt.Sprintf("%v: %v to us, a fee of %v, of %v", ErrBadOffer, ev.Payer, ev.Fee, v))
		return p, nil, nil
	}
	p.Target, p.Acked = max(p.Target, ev.Count), max(p.Acked, ev.Count)
	return p, []Effect{SignClose{Offer: ev, Rung: reach(&p.Ladder, ev.Count)}}, nil
}

// reach returns the rung that a count of pennies has begun.
func reach(l *penny.Ladder, count uint32) uint32 {
	return min((count+l.PerRung-1)/l.PerRung, l.Rungs)
}

// change returns the outpoint of the payer's change of a close, if there is
// one.
func (p *Payer) change() (at wire.Outpoint, ok bool) {
	if p.Spend == nil || p.Spend.Foreign || p.Spend.Rung == 0 && !p.Spend.Together || p.Spend.Joint && p.Spend.Vin != 0 {
		return at, false
	}
	return wire.Outpoint{Txid: p.Spend.Txid, Vout: p.Spend.Vin}, true
}

// Change returns the value of the payer's change of a close, if there is one.
func (p *Payer) Change() (value wire.Sat, ok bool) {
	if _, ok = p.change(); ok {
		value = p.Spend.Change
	}
	return value, ok
}

// Unused returns the credit for payments that is paid and not used. A banker's
// credit grows by whole rungs, so a payment through it leaves some.
func (p *Payer) Unused() wire.Msat {
	paid := p.Ladder.Paid(p.Target)
	return paid - min(paid, p.Used())
}

// Used returns what of the bank is not credit for further payments: what is
// assigned to payments, and what the user has paid to the payee directly.
func (p *Payer) Used() wire.Msat { return p.Assigned + p.Ladder.Paid(p.Direct) }

// Left returns what payments can still be assigned.
func (p *Payer) Left() wire.Msat {
	all := p.Ladder.Paid(p.Ladder.N())
	return all - min(all, p.Used())
}

// Closable returns what payments through a banker with this reserve can still be
// assigned.
func (p *Payer) Closable(reserve wire.Sat) wire.Msat {
	all := max(p.Ladder.Share(p.Ladder.Rungs)-reserve, 0).Msat()
	return all - min(all, p.Used())
}

// Exposed returns the credit that is unused once a payment's steps, of need in
// all, are assigned too, and each needs reserve beyond them at a banker.
func (p *Payer) Exposed(need wire.Msat, banker bool, reserve wire.Sat) wire.Msat {
	next := *p
	next.Assigned += need
	count, ok := p.Ladder.CountFor(next.Used())
	if banker {
		var g uint32
		g, ok = p.Ladder.RungFor(next.Used() + reserve.Msat())
		count = g * p.Ladder.PerRung
	}
	if !ok {
		count = p.Ladder.N()
	}
	next.Target = max(p.Target, count)
	return next.Unused()
}

// Refundable reports whether there is something to refund now.
func (p *Payer) Refundable() bool {
	if _, ok := p.change(); ok {
		return p.Returned == nil
	}
	return p.Spend == nil && p.Confirmed != nil && p.Tip >= p.Expiry
}

// Back returns the input for contract.BuildBankRefund of what is Refundable.
func (p *Payer) Back(b *contract.Bank) contract.BankRefund {
	r := contract.BankRefund{Bank: b, At: p.At, Payer: PayerKey(p.Root)}
	if at, ok := p.change(); ok {
		r.At, r.Value, r.Change = at, p.Spend.Change, true
	}
	return r
}

func (p Payer) connected(ev Connected) (Payer, []Effect, error) {
	var effects []Effect
	was := p.back()
	if p.At != (wire.Outpoint{}) {
		p.see(ev.Block)
		if p.Confirmed != nil && p.Phase == PayerFailed {
			p.Phase, p.FailedBy, p.Failure = PayerPublished, "", "" // it was out after all
			if p.Behind && p.Spend == nil {
				effects = append(effects, Sync{})
			}
		}
	}
	p.refundOf(was)
	p.Tip = max(p.Tip, ev.Height)
	change, closed := p.change()
	for _, tx := range ev.Txs {
		id := contract.Txid(tx)
		if closed && contract.Spends(tx, change) >= 0 {
			p.Returned = &contract.Fact{Height: ev.Height, Txid: id}
		}
		if id != p.At.Txid && slices.ContainsFunc(p.Inputs, func(o wire.Outpoint) bool { return contract.Spends(tx, o) >= 0 }) {
			p.Conflict = &contract.Fact{Height: ev.Height, Txid: id}
		}
	}
	if p.Terms.Back > 0 && !p.Asked && p.State() == StateOpen {
		p.Asked = true
		effects = append(effects, AskPair{Value: p.Terms.Back})
	}
	switch {
	case p.Phase == PayerFunding && p.Waiting:
		return p, []Effect{LockCoins{Amount: p.Terms.Value}}, nil
	case p.Phase == PayerPublished && p.Confirmed == nil && p.Conflict.Depth(p.Tip) >= p.Margins.Final:
		by, why := "rejected", fmt.Errorf("%w: its coins were spent otherwise", ErrRejected)
		if p.Withdrawn {
			by, why = "cancelled", ErrCancelled
		}
		return p.fail(by, why)
	case p.Ready():
		effects = append(effects, RefundDue{})
	case p.At != (wire.Outpoint{}) && p.Interest().Done:
		if p.over() {
			p = p.line()
		}
		effects = append(effects, DropPaper{}, Prune{})
	}
	return p, effects, nil
}

func (p Payer) disconnected(ev Disconnected) (Payer, []Effect, error) {
	p.unsee(ev.Undo)
	if p.Returned != nil && p.Returned.Height >= ev.Height {
		p.Returned = nil
	}
	if p.Conflict != nil && p.Conflict.Height >= ev.Height {
		p.Conflict = nil
	}
	return p, nil, nil
}

// The displayed states of a bank, also for scripts.
const (
	StateOpening  = "opening"  // negotiated or waiting for its confirmations
	StateOpen     = "open"     // pennies can be paid
	StateStopped  = "stopped"  // no penny is accepted any more; nothing is closed yet
	StateClosing  = "closing"  // a close is on its way
	StateClosed   = "closed"   // by the payee, or by both
	StateRefunded = "refunded" // by the payer, after the timelock
	StateExpired  = "expired"  // T has passed, and only the payer can still take it
	StateFailed   = "failed"   // never opened
)

// State returns the displayed state.
func (p *Payer) State() string {
	switch {
	case p.Phase == PayerFailed:
		return StateFailed
	case p.Spend != nil:
		return p.Spend.state()
	case p.CloseTxid != (wire.Hash{}):
		return StateClosing
	case p.Stopped || p.PayeeWhy != "" || p.Confirmed != nil && p.Stopping():
		return StateStopped
	case p.Depth() < p.Conf || p.Phase != PayerPublished:
		return StateOpening
	}
	return StateOpen
}

func (f *SpendFact) state() string {
	if f.Rung == 0 && !f.Together && !f.Foreign {
		return StateRefunded
	}
	return StateClosed
}

// Interest implements the engine's view of the contract.
func (p Payer) Interest() contract.Interest {
	in := contract.Interest{Top: p.Tip}
	if p.At != (wire.Outpoint{}) {
		in.Txids, in.Outpoints = []wire.Hash{p.At.Txid}, []wire.Outpoint{p.At}
	}
	if p.Confirmed == nil {
		in.Outpoints = append(in.Outpoints, p.Inputs...)
	}
	change, closed := p.change()
	if closed {
		in.Outpoints = append(in.Outpoints, change)
	}
	final, deep := wire.Height(p.Margins.Final), p.Margins.Deep()
	switch {
	case p.Phase == PayerFailed && p.At == (wire.Outpoint{}):
		in.Done = true
	case p.Phase == PayerFailed:
		in.Wake = p.Expiry + final
		if p.Conflict != nil {
			in.Wake = p.Conflict.Height + final
		}
		in.Done = p.Conflict.Depth(p.Tip) >= deep || p.Tip >= p.Expiry+wire.Height(deep)
	case p.Phase == PayerFunding && p.Waiting, p.Conflict != nil && p.Confirmed == nil:
		in.Wake = 1
	case closed && p.Returned != nil:
		in.Wake = p.Returned.Height + final - 1
		in.Done = p.Returned.Depth(p.Tip) >= deep && p.Spend.deep(&p.Ours)
	case p.Refundable():
		in.Wake = max(p.NextTry, 1)
	case p.Spend != nil:
		in.Wake = p.Spend.Height + final - 1
		in.Done = p.Spend.deep(&p.Ours)
	case p.Confirmed != nil && p.Depth() < p.Conf:
		in.Wake = p.Confirmed.Height + wire.Height(p.Conf) - 1
	case p.Tip < before(p.Expiry, p.Margins.Stop):
		in.Wake = before(p.Expiry, p.Margins.Stop)
	default:
		in.Wake = p.Expiry
	}
	return in
}
