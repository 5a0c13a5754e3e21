package bank

import (
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Stop is the reason why a payee accepts no more pennies.
type Stop uint8

// The reasons. They are permanent.
const (
	NotStopped   Stop = iota
	StopOwner         // its owner closes it
	StopPayer         // the payer asked for a cooperative close
	StopLock          // a rung's penny does not open the rung's lock
	StopExpiry        // T is near
	StopRestored      // the home was restored: it may have closed the bank before
)

var stopWhy = []string{"", "its owner closes it", "both sides close it", "a penny does not open its rung's lock",
	"its expiry is near", "the payee was restored from a backup"}

func (s Stop) String() string {
	if int(s) < len(stopWhy) {
		return stopWhy[s]
	}
	return fmt.Sprintf("stop %d", uint8(s))
}

// Policy says which banks a payee accepts.
type Policy struct {
	MinValue wire.Sat
	MaxRungs uint32
	MaxRung  wire.Sat // of one rung, the most that pennies can be worth without being closable; 0: any
	MaxBanks int      // of all payers, not counting finished ones
}

// Payee is the payee's side of a bank.
type Payee struct {
	Ours
	Bank       ID
	Key        wire.Secret // of Payee
	ValidUntil wire.Height // after it, an unfunded bank takes no place: Late
	Known      penny.Penny // the lowest penny that it holds; p_N at the start
	Assigned   wire.Msat   // of the paid amount: forwarded, received by payments, or charged by the owner
	Stop       Stop
	StopAt     wire.Height    // the first block after the stop, or 0
	Offer      *CloseAsked    // the offer for a cooperative close
	Joined     *contract.Sent // the cooperative close, with both signatures
	JoinedAt   wire.Height    // the first block after that, or 0
	Alone      *contract.Sent // the rung close of this bank, perhaps with others
	Solo       bool           // closed alone: written by older versions after a batch was refused
	NextTry    wire.Height    // an uneconomic close is not tried before this height
	Least      wire.SatPerKVB `cbor:",omitempty"` // the rate that the owner wants for a close; 0 leaves it to the estimate
	Wanted     bool           `cbor:",omitempty"` // the owner has ordered a close, or a fee for it
	Gone       bool           `cbor:",omitempty"` // it was never funded, and others need the room
	Tied       bool           `cbor:",omitempty"` // it pays for a job: its pennies do not count as credit
	FundingTx  []byte         // of earlier versions; the next block moves it to KeepFunding
}

// NewPayee verifies a bank that a payer offers, byte for byte: its output in
// the funding, the ladder, and all signatures (spec/bank.md §4). Errors are
// *wire.Refusal.
func NewPayee(o *wire.BankOpen, key wire.Secret, p Policy, m Margins, tip wire.Height, rate wire.SatPerKVB) (Payee, []Effect, error) {
	if err := o.Check(); err != nil {
		return Payee{}, nil, wire.Refuse(wire.BadRequest, "%w", err)
	}
	req := wire.BankRequest{Bank: o.Bank, Value: o.Terms.Value, Rungs: uint32(len(o.Terms.Locks)), PerRung: o.Terms.PerRung, Expiry: o.Terms.Expiry}
	if err := Takes(&req, p, m, tip, rate); err != nil {
		return Payee{}, nil, err
	}
	priv, err := key.PrivKey()
	if err != nil {
		return Payee{}, nil, err
	}
	if wire.XOnly(priv.PubKey()) != o.Terms.Payee {
		return Payee{}, nil, wire.Refuse(wire.BadRequest, "%w: for another payee", ErrBadBank)
	}
	b, err := contract.NewBank(o.Terms)
	if err != nil {
		return Payee{}, nil, wire.Refuse(wire.BadRequest, "%w: %w", ErrBadBank, err)
	}
	tx, err := contract.DecodeTx(o.Funding)
	if err == nil {
		err = b.In(tx, o.Vout)
	}
	if err != nil {
		return Payee{}, nil, wire.Refuse(wire.BadRequest, "%w: %w", ErrBadBank, err)
	}
	at := wire.Outpoint{Txid: contract.Txid(tx), Vout: o.Vout}
	if err := b.VerifyRungs(at, o.Sigs); err != nil {
		return Payee{}, nil, wire.Refuse(wire.BadRequest, "%w: %w", ErrBadBank, err)
	}
	t := &o.Terms
	y := Payee{Bank: o.Bank, Key: key, Known: b.Last(), ValidUntil: tip + wire.Height(m.ValidFor)}
	y.Ours = Ours{Payer: t.Payer, Payee: t.Payee, Expiry: t.Expiry, Ladder: ladder(t), Nonce: t.Nonce, At: at, Conf: m.ConfFor(t.Value), Margins: m, Tip: tip}
	return y, []Effect{KeepPaper{Paper: Paper{Terms: *t, Sigs: o.Sigs}}}, nil
}

// maxPerRung limits the hashes needed to recompute a rung's penny.
const maxPerRung = 1 << 18

// Takes returns nil if the payee accepts this bank, or a *wire.Refusal with the
// reason.
func Takes(r *wire.BankRequest, p Policy, m Margins, tip wire.Height, rate wire.SatPerKVB) error {
	l := penny.Ladder{Value: r.Value, Rungs: r.Rungs, PerRung: r.PerRung}
	if err := l.Check(); err != nil {
		return wire.Refuse(wire.BadRequest, "%w", err)
	}
	switch {
	case r.Value < p.MinValue:
		return wire.Refuse(wire.TooBig, "a bank of %v, this payee requires at least %v", r.Value, p.MinValue)
	case p.MaxRung > 0 && l.Paid(r.PerRung) > p.MaxRung.Msat():
		return wire.Refuse(wire.TooBig, "a rung of %v, this payee accepts at most %v: open it with more rungs", l.Paid(r.PerRung), p.MaxRung)
	case r.PerRung > maxPerRung:
		return wire.Refuse(wire.TooBig, "%d pennies per rung, at most %d are accepted", r.PerRung, maxPerRung)
	case r.Rungs > p.MaxRungs:
		return wire.Refuse(wire.TooBig, "%d rungs, this payee accepts at most %d", r.Rungs, p.MaxRungs)
	case r.Expiry < tip+wire.Height(m.MinLife):
		return wire.Refuse(wire.TooLate, "the bank ends at %d, %d blocks ahead; this payee requires at least %d", r.Expiry, max(int64(r.Expiry)-int64(tip), 0), m.MinLife)
	case r.Expiry > tip+wire.Height(m.MaxLife):
		return wire.Refuse(wire.TooLong, "the bank ends at %d, this payee accepts at most %d blocks", r.Expiry, m.MaxLife)
	}
	if _, err := Small(l, rate); err != nil {
		return wire.Refuse(wire.BadRequest, "%w", err)
	}
	return nil
}

// Count returns the number of pennies that the payee holds.
func (y *Payee) Count() uint32 { return y.Ladder.N() - y.Known.Seq }

// Rung returns the highest rung at which it could close.
func (y *Payee) Rung() uint32 { return y.Ladder.Rung(y.Count()) }

// Secret returns the penny's secret of a rung that is reached.
func (y *Payee) Secret(g uint32) []byte {
	c := y.Chain()
	s := c.Forward(y.Known, y.Ladder.Seq(g)).Secret
	return append([]byte(nil), s[:c.Size]...)
}

// Taking returns nil if pennies are accepted, or a *wire.Refusal with the
// reason.
func (y *Payee) Taking() error {
	switch {
	case y.Spend != nil:
		return wire.Refuse(wire.Spent, "the bank is %s", y.Spend.state())
	case y.Stop != NotStopped:
		return wire.Refuse(wire.Closed, "%v", y.Stop)
	case y.Stopping():
		return wire.Refuse(wire.Closed, "%v", StopExpiry)
	case y.Depth() < y.Conf:
		return wire.Refuse(wire.NotConfirmed, "%d of %d confirmations", y.Depth(), y.Conf)
	}
	return nil
}

// Step is the payee's transition function. If the payer caused the error, it is
// a *wire.Refusal.
func (y Payee) Step(ev Event) (Payee, []Effect, error) {
	switch ev := ev.(type) {
	case Paid:
		return y.paid(ev)
	case Passed:
		return y.passed(ev)
	case CloseAsked:
		return y.closeAsked(ev)
	case CloseSigned:
		if y.Offer == nil || y.Joined != nil || y.Spend != nil || y.Tip >= y.Expiry || y.Alone.Live() {
			return y, nil, nil
		}
		y.Joined = &ev.Sent
		return y, []Effect{Broadcast{Tx: ev.Sent.Tx}}, nil
	case Tied:
		if !y.Tied && (y.Count() > 0 || y.Assigned > 0 || y.Stop != NotStopped || y.Spend != nil) {
			return y, nil, wire.Refuse(wire.BadRequest, "the bank has paid for something else, or takes no pennies")
		}
		y.Tied = true
		return y, nil, nil
	case Leaving:
		if y.Stop == StopRestored {
			y.Stop = NotStopped // a restored bank takes pennies; from here on none
		}
		if y.Spend == nil {
			y.stop(StopPayer)
		}
		return y, nil, nil
	case FinalSigned:
		if y.Stop == NotStopped || y.Spend != nil || y.Tip >= y.Expiry || y.Alone.Live() {
			return y, nil, nil
		}
		y.Joined = &ev.Sent
		return y, []Effect{Broadcast{Tx: ev.Sent.Tx}}, nil
	case CloseWanted:
		if y.Confirmed == nil || y.Spend != nil {
			return y, nil, fmt.Errorf("%w: it is %s", ErrNotOpen, y.State())
		}
		y.stop(StopOwner)
		y.NextTry, y.Wanted = 0, true
		if y.Closable() {
			return y, []Effect{CloseDue{}}, nil
		}
		return y, nil, nil
	case CloseBuilt:
		if !y.Closable() || y.Stop == NotStopped {
			return y, nil, nil
		}
		y.Alone, y.NextTry = &ev.Sent, 0
		if ev.Broadcast {
			return y, []Effect{Broadcast{Tx: ev.Sent.Tx}}, nil
		}
		return y, nil, nil
	case CloseFailed:
		if ev.Pause {
			y.NextTry = y.Tip + 1
			if bump := before(y.Expiry, y.Margins.Bump); y.Tip < bump {
				y.NextTry = min(y.Tip+wire.Height(y.Margins.Again), bump)
			}
		}
		return y, nil, nil
	case Broadcasted:
		return y.broadcasted(ev)
	case Restored:
		// Actions since the backup are unknown: a close may have been sent.
		// Pennies are still accepted, but give no credit.
		if y.Spend == nil && y.Stop == NotStopped {
			y.stop(StopRestored)
			y.StopAt = ev.Height
		}
		return y, nil, nil
	case Bumped:
		if !y.Closable() || y.Stop == NotStopped {
			return y, nil, fmt.Errorf("%w: it is %s, and no close of it is due", ErrTooEarly, y.State())
		}
		y.Least, y.NextTry, y.Wanted = ev.Rate, 0, true
		return y, []Effect{CloseDue{}}, nil
	case Evicted:
		if y.Funded {
			return y, nil, fmt.Errorf("%w: it is funded", ErrWrongPhase)
		}
		y.Gone = true
		return y, []Effect{DropPaper{}}, nil
	case Pruned:
		if y.over() {
			y = y.line()
		}
		return y, nil, nil
	case Lost:
		if y.Spend == nil {
			y.stop(StopRestored)
		}
		return y, nil, nil
	case Connected:
		return y.connected(ev)
	case Disconnected:
		y.unsee(ev.Undo)
		return y, nil, nil
	}
	return y, nil, fmt.Errorf("%w: %T to a payee", ErrWrongPhase, ev)
}

// broadcasted hears what the network said to a close. If it was refused, the one
// that it replaces counts again; if there is none, another member may be the
// reason, and the closes are planned again.
func (y Payee) broadcasted(ev Broadcasted) (Payee, []Effect, error) {
	if y.Spend != nil {
		return y, nil, nil
	}
	next, again, plan := y.Alone.Told(ev.Txid, ev.Err != "", ev.TooLow)
	y.Alone = next
	switch {
	case ev.Own && again:
		return y, []Effect{Broadcast{Tx: next.Tx}}, nil
	case ev.Own && plan && y.Ready():
		return y, []Effect{CloseDue{}}, nil
	}
	return y, nil, nil // the next block tries again
}

// IsLate reports whether no close is out at a height at which one should have
// been broadcast long ago.
func (y *Payee) IsLate(tip wire.Height) bool {
	return y.Closable() && !y.Alone.Live() && y.Joined == nil && y.NextTry == 0 && tip >= before(y.Expiry, y.Margins.Bump)
}

// Ready reports whether a close is due and not paused.
func (y *Payee) Ready() bool { return y.Due() && y.Tip >= y.NextTry }

// stop ends the acceptance of pennies; the first reason is kept. Waiting times
// start at the next block, because Tip, the last block reported, may be days
// old.
func (y *Payee) stop(why Stop) {
	if y.Stop == NotStopped {
		y.Stop, y.StopAt = why, 0
	}
}

// Accept verifies a penny against the lowest one held: it must hash to it in at
// most wire.MaxJump steps, and open the lock of each rung that it reaches.
// locks are those of the rungs above Rung. It returns the highest rung with a
// correct lock, which is less than the rung reached if a lock is false
// (invariant RungLockChecked), and the penny that counts. The error is a
// *wire.Refusal.
func (y *Payee) Accept(p penny.Penny, locks [][20]byte) (good uint32, at penny.Penny, err error) {
	c := y.Chain()
	if p.Seq >= y.Known.Seq {
		return 0, at, wire.Refuse(wire.BadRequest, "%w", penny.ErrSpent)
	}
	if y.Known.Seq-p.Seq > wire.MaxJump {
		return 0, at, wire.Refuse(wire.TooBig, "%d pennies at once, at most %d are accepted", y.Known.Seq-p.Seq, wire.MaxJump)
	}
	from, to := y.Rung(), y.Ladder.Rung(y.Ladder.N()-p.Seq)
	if len(locks) != int(to-from) {
		return 0, at, fmt.Errorf("%w: %d locks for %d rungs", ErrWrongPhase, len(locks), to-from)
	}
	good = to
	walk := p
	for g := to; g > from; g-- {
		walk = c.Forward(walk, y.Ladder.Seq(g))
		if contract.Lock(walk.Secret[:c.Size]) != locks[g-from-1] {
			good = g - 1 // the rungs above are useless too
			at = penny.Penny{}
		} else if good == g && at == (penny.Penny{}) {
			at = walk
		}
	}
	if c.Forward(walk, y.Known.Seq) != y.Known {
		return 0, at, wire.Refuse(wire.WrongSecret, "%w", penny.ErrFalse)
	}
	switch {
	case good == to:
		at = p
	case good == from:
		at = y.Known
	}
	return good, at, nil
}

// paid accepts a penny. If it reaches a rung with a false lock, only the
// pennies below that rung count, and the payee stops.
func (y Payee) paid(ev Paid) (Payee, []Effect, error) {
	was := y
	y.Tip = max(y.Tip, ev.Height)
	over := y.Spend != nil || y.Offer != nil || y.Joined != nil || y.Alone != nil || y.Tip >= y.Expiry
	if err := y.Taking(); err != nil && (y.Stop != StopRestored || over) {
		return was, nil, err
	}
	good, at, err := y.Accept(ev.Penny, ev.Locks)
	if err != nil {
		return was, nil, err
	}
	y.Known = at
	if good < y.Ladder.Rung(y.Ladder.N()-ev.Penny.Seq) {
		y.stop(StopLock)
		if y.Closable() {
			return y, []Effect{CloseDue{}}, nil
		}
	}
	return y, nil, nil
}

// Credit returns the paid and unused amount. For a banker it counts only what
// it could close on the chain now, less its reserve (invariant
// BankerForwardsClosable). A bank that pays for a job gives none.
func (y *Payee) Credit(banker bool, reserve wire.Sat) wire.Msat {
	if y.Tied {
		return 0
	}
	paid := y.Ladder.Paid(y.Count())
	if banker {
		paid = max(y.Ladder.Share(y.Rung())-reserve, 0).Msat()
	}
	return paid - min(paid, y.Assigned)
}

func (y Payee) passed(ev Passed) (Payee, []Effect, error) {
	if err := y.Taking(); err != nil {
		return y, nil, err
	}
	if credit := y.Credit(ev.Banker, ev.Reserve); ev.Amount > credit {
		return y, nil, wire.Refuse(wire.NoCredit, "%v requested, the credit is %v", ev.Amount, credit)
	}
	y.Assigned += ev.Amount
	return y, nil, nil
}

// closeAsked offers the payer a cooperative close. From here on no penny is
// accepted (invariant CloseStopsAcceptance).
func (y Payee) closeAsked(ev CloseAsked) (Payee, []Effect, error) {
	switch {
	case y.Spend != nil:
		return y, nil, wire.Refuse(wire.Spent, "the bank is %s", y.Spend.state())
	case y.Confirmed == nil:
		return y, nil, wire.Refuse(wire.NotConfirmed, "its funding has no confirmation")
	case y.Alone.Live():
		return y, nil, wire.Refuse(wire.Closed, "the payee closes it alone")
	case y.Offer != nil:
		return y, nil, nil // again: the same offer
	case y.Tip >= y.Expiry:
		return y, nil, wire.Refuse(wire.TooLate, "it expired at %d: the payer can refund it", y.Expiry)
	}
	share := y.Paid(y.Count())
	// The fee and the payee's output are paid from its share.
	paid, keeps := y.Ladder.Paid(y.Count()), max(y.Assigned, (ev.Fee+contract.Dust).Msat())
	ev.Unused = min(ev.Unused, paid-min(paid, keeps))
	if y.Stop == StopRestored || y.Tied {
		ev.Unused = 0 // what was forwarded since the backup is unknown; a job's pennies are earned
	}
	if share-ev.Fee < contract.Dust {
		return y, nil, wire.Refuse(wire.Closed, "its pennies are worth %v, the close costs %v; it expires at %d", share, ev.Fee, y.Expiry)
	}
	y.stop(StopPayer)
	y.Offer = &ev
	return y, nil, nil
}

// Offered returns the offer for a cooperative close as the payer gets it.
func (y *Payee) Offered() CloseOffered {
	paid := y.Ladder.Paid(y.Count())
	return CloseOffered{Count: y.Count(), Payer: y.Ladder.Value - (paid - min(paid, y.Offer.Unused)).Whole(), Fee: y.Offer.Fee, Script: y.Offer.Script}
}

// Together builds the offered close, unsigned.
func (o *CloseOffered) Together(b *contract.Bank, at wire.Outpoint) (contract.Tx, error) {
	l := b.Ladder()
	return b.Together(at, reach(&l, o.Count), o.Payer, o.Script, o.Fee)
}

// Closable reports whether the bank can be closed alone and no close is
// confirmed.
func (y *Payee) Closable() bool {
	return y.Confirmed != nil && y.Spend == nil && y.Rung() > 0
}

// Due reports whether the payee must close alone now. An offered cooperative
// close has some blocks to be signed, a signed one some blocks to confirm.
func (y *Payee) Due() bool {
	switch {
	case !y.Closable() || y.Stop == NotStopped:
		return false
	case y.Tip >= before(y.Expiry, y.Margins.Stop) || y.Alone != nil:
		return true
	case y.Joined != nil:
		return y.since(y.JoinedAt, y.Margins.Final)
	case y.Stop == StopPayer:
		return y.since(y.StopAt, y.Margins.Patience)
	case y.Stop == StopRestored && !y.Wanted:
		return y.since(y.StopAt, y.Margins.Again) // time for the payer to send again what it has paid since
	}
	return true
}

// since reports whether at least n blocks have followed the block at h.
func (y *Payee) since(h wire.Height, n uint32) bool { return h > 0 && y.Tip >= h+wire.Height(n) }

func (y Payee) connected(ev Connected) (Payee, []Effect, error) {
	var effects []Effect
	if tx := y.see(ev.Block); tx != nil {
		y.FundingTx = contract.NewSent(tx, 0, 0).Tx
	}
	if len(y.FundingTx) > 0 {
		effects, y.FundingTx = append(effects, KeepFunding{Tx: y.FundingTx}), nil
	}
	if y.Confirmed != nil && y.Stopping() {
		y.stop(StopExpiry)
	}
	if y.Stop != NotStopped && y.StopAt == 0 {
		y.StopAt = y.Tip
	}
	if y.Joined != nil && y.JoinedAt == 0 {
		y.JoinedAt = y.Tip
	}
	if y.Lapsed() {
		return y, []Effect{DropPaper{}}, nil
	}
	if y.Interest().Done {
		if y.over() {
			y = y.line()
		}
		return y, []Effect{DropPaper{}, Prune{}}, nil
	}
	if y.Spend == nil && y.Confirmed == nil && y.Funded {
		effects = append(effects, Rebroadcast{})
	}
	if y.Joined != nil && len(y.Joined.Tx) > 0 && y.Spend == nil && !y.Alone.Live() {
		effects = append(effects, Broadcast{Tx: y.Joined.Tx})
	}
	if y.Ready() {
		effects = append(effects, CloseDue{})
	}
	return y, effects, nil
}

// lateDays is how long the terms of a bank are kept whose funding is late. They
// are small, and without them its payer's money would be locked until T.
const lateDays = 28

// lapses returns the height after which an unfunded bank is removed.
func (y *Payee) lapses() wire.Height {
	return max(y.ValidUntil, min(y.ValidUntil+wire.Height(lateDays*y.Margins.BlocksPerDay), before(y.Expiry, y.Margins.Stop)))
}

// Late reports whether the bank's funding is late. Such a bank is kept, but it
// takes no place of others.
func (y *Payee) Late(tip wire.Height) bool { return !y.Funded && tip > y.ValidUntil }

// Lapsed reports whether the bank was never funded and is too old to be
// accepted, or has made room for others.
func (y *Payee) Lapsed() bool { return !y.Funded && (y.Gone || y.Tip > y.lapses()) }

// ends returns the height from which the payee no longer waits for the refund of a
// bank of which it earned nothing.
func (y *Payee) ends() wire.Height { return y.Expiry + wire.Height(y.Margins.Stop) }

// expired reports whether only the payer can still take the bank: T has passed, and
// no close is out, because there is none or none is worth its fee.
func (y *Payee) expired() bool {
	return y.Confirmed != nil && y.Spend == nil && y.Tip >= y.Expiry+wire.Height(y.Margins.Final) && !y.Alone.Live() && y.Joined == nil
}

// State returns the displayed state.
func (y *Payee) State() string {
	switch {
	case y.Spend != nil:
		return y.Spend.state()
	case y.expired():
		return StateExpired
	case y.Lapsed():
		return StateFailed
	case y.Alone != nil || y.Joined != nil:
		return StateClosing
	case y.Stop != NotStopped || y.Confirmed != nil && y.Stopping():
		return StateStopped
	case y.Depth() < y.Conf:
		return StateOpening
	}
	return StateOpen
}

// Interest implements the engine's view of the contract.
func (y Payee) Interest() contract.Interest {
	in := contract.Interest{Top: y.Tip, Txids: []wire.Hash{y.At.Txid}, Outpoints: []wire.Outpoint{y.At}}
	final := wire.Height(y.Margins.Final)
	switch {
	case y.Lapsed():
		in.Done, in.Forget = true, true // unfunded banks must not fill the disk
	case y.Spend != nil:
		in.Wake = y.Spend.Height + final - 1
		in.Done = y.Spend.deep(&y.Ours)
	case y.Confirmed == nil && y.Funded:
		in.Wake = 1
		in.Done = y.Tip >= y.Expiry+wire.Height(y.Margins.Deep()) // a reorg dropped it for good
	case y.Confirmed == nil:
		in.Wake = y.lapses() + 1
	case y.Joined != nil && y.Alone == nil:
		in.Wake = 1 // also without a rung: then only the cooperative close pays
	case y.Closable() && y.Stop != NotStopped:
		in.Wake = max(y.NextTry, 1)
	case y.Rung() == 0 && y.Tip >= y.Expiry:
		// Nothing was earned. The payer's refund still ends it as refunded, if it
		// comes within a reasonable time.
		in.Wake = y.ends()
		in.Done = y.Tip >= in.Wake
	case y.Depth() < y.Conf:
		in.Wake = y.Confirmed.Height + wire.Height(y.Conf) - 1
	case !y.Stopping():
		in.Wake = before(y.Expiry, y.Margins.Stop)
	default:
		in.Wake = y.Expiry + final
	}
	return in
}

// Join verifies the payer's signature of an offered close and adds the payee's,
// for CloseSigned. If the signature is false, the error is a *wire.Refusal.
func (y *Payee) Join(paper *Paper, sig wire.Signature) (*contract.Sent, error) {
	switch {
	case y.Offer == nil:
		return nil, wire.Refuse(wire.BadRequest, "nothing was offered")
	case y.Alone.Live():
		return nil, wire.Refuse(wire.Closed, "the payee closes it alone")
	case y.Tip >= y.Expiry:
		return nil, wire.Refuse(wire.TooLate, "the bank ended at %d", y.Expiry)
	}
	b, err := contract.NewBank(paper.Terms)
	if err != nil {
		return nil, err
	}
	o := y.Offered()
	tx, err := o.Together(b, y.At)
	if err != nil {
		return nil, err
	}
	digest, err := b.TogetherDigest(tx)
	if err != nil {
		return nil, err
	}
	if y.Payer.Verify(digest, sig) != nil {
		return nil, wire.Refuse(wire.WrongSecret, "not the payer's signature of this close")
	}
	own, err := b.SignTogether(tx, y.Key)
	if err != nil {
		return nil, err
	}
	b.Join(tx, sig, own)
	return contract.NewSent(tx, o.Fee, y.Tip), nil
}

// Closing returns the input of a rung close of this bank.
func (y *Payee) Closing(paper *Paper) (contract.BankClose, error) {
	g := y.Rung()
	if g == 0 || int(g) > len(paper.Sigs) {
		return contract.BankClose{}, errors.New("no rung to close at")
	}
	b, err := contract.NewBank(paper.Terms)
	return contract.BankClose{Bank: b, At: y.At, Rung: g, Sig: paper.Sigs[g-1], Secret: y.Secret(g), Payee: y.Key}, err
}

// Part implements engine.Light: a penny changes nothing else, as long as it
// reaches no rung.
func (y Payee) Part() any { return y.Known }

// Light implements engine.Light.
func (y Payee) Light(before Payee, ev Event) bool {
	_, ok := ev.(Paid)
	return ok && y.Ours == before.Ours && y.Stop == before.Stop && y.StopAt == before.StopAt && y.Rung() == before.Rung()
}
