// Package bank is the life of a penny bank as two state machines, Payer and
// Payee, and of a payment through bankers as two more, Sending and Relay
// (protocol §4, spec/bank.md).
//
// Each is a plain value with a pure Step, as in package deal. The large part of
// a bank, its locks and signatures, is no part of a state: it is a Paper, which
// is kept once by the effect KeepPaper; events bring what of it a transition
// needs.
package bank

import (
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Margins are the waiting times of a network, in blocks before the refund height
// T or as confirmations (protocol §4). Both sides of a network use the same.
type Margins struct {
	Conf      uint32   // confirmations before pennies are taken
	ConfLarge uint32   // the same, above LargeSat
	LargeSat  wire.Sat // value above which ConfLarge holds
	MinLife   uint32   // blocks to T that a payee wants to see at least
	MaxLife   uint32   // and at most
	Stop      uint32   // from T−Stop no penny is taken, and the close begins
	Bump      uint32   // from T−Bump the close is bumped in every block
	Close     uint32   // at T−Close it should have confirmed
	Patience  uint32   // blocks for which a payee waits for the payer's signature of a close
	Final     uint32   // confirmations after which nothing is undone
	ValidFor  uint32   // blocks within which an offered bank has to be funded
	Again     uint32   // blocks after which what does not pay for its fee is looked at again

	BlocksPerDay uint32
}

// MarginsFor returns the margins of network n. Regtest's are those of mainnet
// with the waiting times divided by twelve, and days by fourteen, as for messages.
func MarginsFor(n wire.Network) Margins {
	m := Margins{Conf: 3, ConfLarge: 6, LargeSat: 100_000, MinLife: 1008, MaxLife: 2 * 52560, Stop: 576, Bump: 504, Close: 432, Patience: 3,
		Final: 6, ValidFor: 144, Again: 144, BlocksPerDay: 144}
	if n == wire.Regtest {
		m.MinLife, m.Stop, m.Bump, m.Close, m.ValidFor, m.Again, m.BlocksPerDay = 84, 48, 42, 36, 12, 12, 10
	}
	return m
}

// ConfFor is the depth at which pennies are taken of a bank of a value.
func (m Margins) ConfFor(value wire.Sat) uint32 {
	if value > m.LargeSat {
		return m.ConfLarge
	}
	return m.Conf
}

// before is t−n, or 0 where that is negative.
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
	ErrRefused    = errors.New("the payee takes no such bank")
	ErrRejected   = errors.New("the network refuses the funding")
	ErrCancelled  = errors.New("cancelled")
	ErrRestored   = errors.New("it may have been opened after the backup was made")
	ErrNotOpen    = errors.New("the bank is not open")
	ErrEmpty      = errors.New("the bank has not so many pennies left")
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

// Peer is the other side of a bank: its identity and where to reach it.
type Peer = wire.Peer

// Paper is the large part of a bank, which never changes: what its output is made
// of, and on the payee's side the payer's signatures.
type Paper struct {
	Terms wire.BankTerms
	Sigs  wire.RungSigs
}

// ladder of the terms.
func ladder(t *wire.BankTerms) penny.Ladder {
	return penny.Ladder{Value: t.Value, Rungs: uint32(len(t.Locks)), PerRung: t.PerRung}
}

// ID names a bank: the payer draws it.
type ID = wire.Hash

// Ours are the parts of the terms that both machines keep, and what the chain
// showed of the bank.
type Ours struct {
	Payer   wire.Key // in the scripts
	Payee   wire.Key
	Expiry  wire.Height
	Ladder  penny.Ladder
	Nonce   penny.Nonce
	At      wire.Outpoint // of the bank's output
	Conf    uint32        // confirmations before pennies are taken
	Margins Margins

	Confirmed *contract.Fact
	Funded    bool // was confirmed once
	Spend     *SpendFact
	Tip       wire.Height // last block told
}

// SpendFact is the confirmed spend of a bank.
type SpendFact struct {
	contract.Fact
	contract.BankSpend
	Vin     uint32 // the input's index, and of a close the index of the payer's change
	Foreign bool   // by no leaf of ours: impossible, short of a broken signature
}

// Chain is that of the bank's pennies.
func (o *Ours) Chain() penny.Chain { return penny.Chain{Nonce: o.Nonce, Size: wire.PennySize} }

// parties are what a spend is recognised by.
func (o *Ours) parties() *contract.BankParties {
	return &contract.BankParties{Payer: o.Payer, Payee: o.Payee, Expiry: o.Expiry, Ladder: o.Ladder}
}

// Depth is the funding's confirmations.
func (o *Ours) Depth() uint32 { return o.Confirmed.Depth(o.Tip) }

// Stopping reports whether T is so near that no penny is taken any more.
func (o *Ours) Stopping() bool { return o.Tip >= before(o.Expiry, o.Margins.Stop) }

// see takes in a block.
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

// unsee takes back a block.
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

// Buried reports whether the bank's end is.
func (o *Ours) Buried() bool { return o.Spend.buried(o) }

func (f *SpendFact) buried(o *Ours) bool { return f != nil && f.Depth(o.Tip) >= o.Margins.Final }

// Paid is what a count of pennies is worth to the payee in a cooperative close,
// in whole satoshi; the payer gets the rest of the value.
func (o *Ours) Paid(count uint32) wire.Sat { return o.Ladder.Paid(count).Whole() }

// CloseWeight is the weight of a transaction in which a payee closes one bank
// alone, at its deepest rung.
func CloseWeight(rungs uint32) int64 {
	return contract.TxOverheadWeight + 2*contract.P2TROutputWeight + contract.RungInputWeight(0, int(rungs))
}

// CloseCost is what closing a bank alone costs its payee at a rate.
func CloseCost(rungs uint32, rate wire.SatPerKVB) wire.Sat {
	return rate.Fee(contract.VSize(CloseWeight(rungs)))
}

// Small tells how a bank's value relates to its closing cost at twice the rate: an
// error that wraps ErrTooSmall where even the last rung would leave dust, and
// below 20 closing costs a warning.
func Small(l penny.Ladder, rate wire.SatPerKVB) (warning string, err error) {
	cost := CloseCost(l.Rungs, 2*rate)
	switch top := l.Share(l.Rungs); {
	case top-cost < contract.Dust:
		return "", fmt.Errorf("%w: closing it costs up to %v, of %v", ErrTooSmall, cost, top)
	case l.Value < 20*cost:
		return fmt.Sprintf("closing costs up to %v, more than a twentieth of the bank", cost), nil
	}
	return "", nil
}

// TogetherCost is the fee of a close by both at a rate.
func TogetherCost(rungs uint32, rate wire.SatPerKVB) wire.Sat {
	return rate.Fee(contract.VSize(contract.TxOverheadWeight + 2*contract.P2TROutputWeight + contract.TogetherInputWeight(int(rungs))))
}
