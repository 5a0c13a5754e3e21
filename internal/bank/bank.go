// Package bank implements the life of a penny bank as two state machines, Payer
// and Payee, and a payment through bankers as two more, Sending and Relay
// (spec/bank.md, spec/machines.md).
//
// Each machine is a plain value with a pure Step, as in package deal. The large
// part of a bank, its locks and signatures, is not part of a state. It is a
// Paper, which the effect KeepPaper stores once; events carry the parts of it
// that a transition needs.
package bank

import (
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Margins are the waiting times of a network, in blocks before the refund
// height T or as confirmations (spec/bank.md §6). Both sides use the same
// margins.
type Margins struct {
	Conf      uint32   // confirmations before pennies are accepted
	ConfLarge uint32   // the same, above LargeSat
	LargeSat  wire.Sat // value above which ConfLarge applies
	MinLife   uint32   // minimum blocks to T that a payee accepts
	MaxLife   uint32   // and at most
	Stop      uint32   // from T−Stop no penny is accepted and the payee closes
	Bump      uint32   // from T−Bump the close is fee-bumped in every block
	Close     uint32   // at T−Close it should have confirmed
	Patience  uint32   // blocks that a payee waits for the payer's signature of a close
	Final     uint32   // confirmations after which nothing is undone
	ValidFor  uint32   // blocks within which an offered bank must be funded
	Again     uint32   // blocks until an uneconomic transaction is tried again

	BlocksPerDay uint32
}

// MarginsFor returns the margins of network n. Regtest uses mainnet's waiting
// times divided by twelve and a day divided by fourteen, as for messages.
func MarginsFor(n wire.Network) Margins {
	m := Margins{Conf: 3, ConfLarge: 6, LargeSat: 100_000, MinLife: 1008, MaxLife: 2 * 52560, Stop: 576, Bump: 504, Close: 432, Patience: 3,
		Final: 6, ValidFor: 144, Again: 144, BlocksPerDay: 144}
	if n == wire.Regtest {
		m.MinLife, m.Stop, m.Bump, m.Close, m.ValidFor, m.Again, m.BlocksPerDay = 84, 48, 42, 36, 12, 12, 10
	}
	return m
}

// MaxReorg is the deepest reorg that the protocol answers for.
const MaxReorg = 6

// Deep is the confirmations after which a bank is done and pruned: no reorg that
// the protocol answers for can undo what has them.
func (m Margins) Deep() uint32 { return max(m.Final, MaxReorg+1) }

// ConfFor returns the confirmations required before pennies of a bank with this
// value are accepted.
func (m Margins) ConfFor(value wire.Sat) uint32 {
	if value > m.LargeSat {
		return m.ConfLarge
	}
	return m.Conf
}

// before returns t−n, or 0 if that is negative.
func before(t wire.Height, n uint32) wire.Height {
	if uint64(t) < uint64(n) {
		return 0
	}
	return t - wire.Height(n)
}

// Errors of the machines.
var (
	ErrWrongPhase = errors.New("not in this state")
	ErrNoFunds    = errors.New("not enough money")
	ErrFee        = errors.New("the funding's fee is above the cap")
	ErrRefused    = errors.New("the payee does not accept this bank")
	ErrRejected   = errors.New("the network refuses the funding")
	ErrCancelled  = errors.New("cancelled")
	ErrRestored   = errors.New("it may have been opened after the backup was made")
	ErrNotOpen    = errors.New("the bank is not open")
	ErrEmpty      = errors.New("not enough pennies left in this bank")
	ErrBadOffer   = errors.New("bad offer to close")
	ErrTooSmall   = errors.New("the bank is too small")
	ErrBadBank    = errors.New("bad bank")
	ErrUnacked    = errors.New("a step through this banker is not acknowledged")
	ErrTooEarly   = errors.New("too early for that")
	ErrStopped    = errors.New("the payment has ended")
	ErrBadAck     = errors.New("false acknowledgement")
	ErrOrder      = errors.New("no such payment")
	ErrNoRung     = errors.New("no rung is reached")
)

// Peer is the other side of a bank: its identity and its addresses.
type Peer = wire.Peer

// Paper is the large part of a bank, which never changes: the terms of its
// output and, on the payee's side, the payer's signatures.
type Paper struct {
	Terms wire.BankTerms
	Sigs  wire.RungSigs
}

// ladder returns the ladder of the terms.
func ladder(t *wire.BankTerms) penny.Ladder {
	return penny.Ladder{Value: t.Value, Rungs: uint32(len(t.Locks)), PerRung: t.PerRung}
}

// ID identifies a bank. The payer draws it at random.
type ID = wire.Hash

// Ours contains the parts of the terms that both machines store, and what the
// chain showed of the bank.
type Ours struct {
	Payer   wire.Key // in the scripts
	Payee   wire.Key
	Expiry  wire.Height
	Ladder  penny.Ladder
	Nonce   penny.Nonce
	At      wire.Outpoint // of the bank's output
	Conf    uint32        // confirmations before pennies are accepted
	Margins Margins

	Confirmed *contract.Fact
	Funded    bool // was confirmed once
	Spend     *SpendFact
	Tip       wire.Height // last block reported
}

// SpendFact is the confirmed spend of a bank.
type SpendFact struct {
	contract.Fact
	contract.BankSpend
	Vin     uint32 // the input's index; in a close also that of the payer's change
	Foreign bool   // through no leaf of ours: impossible unless a signature is broken
}

// Chain returns the parameters of the bank's hash chain.
func (o *Ours) Chain() penny.Chain { return penny.Chain{Nonce: o.Nonce, Size: wire.PennySize} }

// parties returns the keys by which a spend is recognised.
func (o *Ours) parties() *contract.BankParties {
	return &contract.BankParties{Payer: o.Payer, Payee: o.Payee, Expiry: o.Expiry, Ladder: o.Ladder}
}

// Depth returns the funding's confirmations.
func (o *Ours) Depth() uint32 { return o.Confirmed.Depth(o.Tip) }

// Stopping reports whether T is so close that no penny is accepted any more.
func (o *Ours) Stopping() bool { return o.Tip >= before(o.Expiry, o.Margins.Stop) }

// see processes a block that joins the chain.
func (o *Ours) see(b contract.Block) (funding contract.Tx) {
	o.Tip = max(o.Tip, b.Height)
	for _, tx := range b.Txs {
		if contract.Txid(tx) == o.At.Txid {
			o.Confirmed, o.Funded = &contract.Fact{Height: b.Height, Txid: o.At.Txid}, true
			funding = tx
		}
		if n := contract.Spends(tx, o.At); n >= 0 {
			f := &SpendFact{Fact: contract.Fact{Height: b.Height, Txid: contract.Txid(tx)}, Vin: uint32(n)}
			var err error
			if f.BankSpend, err = o.parties().ReadSpend(tx, n); err != nil {
				f.Foreign = true
			}
			o.Spend = f
		}
	}
	return funding
}

// unsee processes a block that leaves the chain.
func (o *Ours) unsee(u contract.Undo) {
	if o.Confirmed != nil && o.Confirmed.Height >= u.Height {
		o.Confirmed = nil
	}
	if o.Spend != nil && o.Spend.Height >= u.Height {
		o.Spend = nil
	}
	if o.Tip >= u.Height {
		o.Tip = u.Height - 1
	}
}

// Closed returns the confirmed spend of the bank, or nil.
func (o *Ours) Closed() *contract.Fact {
	if o.Spend == nil {
		return nil
	}
	return &o.Spend.Fact
}

// Buried reports whether the spend of the bank is final.
func (o *Ours) Buried() bool { return o.Spend.buried(o) }

func (f *SpendFact) buried(o *Ours) bool { return f != nil && f.Depth(o.Tip) >= o.Margins.Final }

// deep reports whether no reorg that the protocol answers for can undo the spend.
func (f *SpendFact) deep(o *Ours) bool { return f != nil && f.Depth(o.Tip) >= o.Margins.Deep() }

// Paid returns the payee's part in a cooperative close for a count of pennies,
// in whole satoshi. The payer gets the rest of the value.
func (o *Ours) Paid(count uint32) wire.Sat { return o.Ladder.Paid(count).Whole() }

// CloseWeight returns the weight of a transaction in which a payee closes one
// bank alone, at its deepest rung.
func CloseWeight(rungs uint32) int64 {
	return contract.TxOverheadWeight + 2*contract.P2TROutputWeight + contract.RungInputWeight(0, int(rungs))
}

// CloseCost returns the payee's fee for closing a bank alone at a rate.
func CloseCost(rungs uint32, rate wire.SatPerKVB) wire.Sat {
	return rate.Fee(contract.VSize(CloseWeight(rungs)))
}

// Small compares a bank's value with its closing cost at twice the rate. It
// returns an error that wraps ErrTooSmall if even the last rung would leave
// dust, and a warning if the value is below 20 closing costs.
func Small(l penny.Ladder, rate wire.SatPerKVB) (warning string, err error) {
	cost := CloseCost(l.Rungs, 2*rate)
	switch top := l.Share(l.Rungs); {
	case top-cost < contract.Dust:
		return "", fmt.Errorf("%w: closing it costs up to %v of %v", ErrTooSmall, cost, top)
	case l.Value < 20*cost:
		return fmt.Sprintf("closing costs up to %v, more than a twentieth of the bank", cost), nil
	}
	return "", nil
}

// TogetherCost returns the fee of a cooperative close at a rate.
func TogetherCost(rungs uint32, rate wire.SatPerKVB) wire.Sat {
	return rate.Fee(contract.VSize(contract.TxOverheadWeight + 2*contract.P2TROutputWeight + contract.TogetherInputWeight(int(rungs))))
}
