package wallet

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/wire"
)

// Fee says what a payment may pay to miners.
type Fee struct {
	Rate wire.SatPerKVB // 0: the node's estimate at the moment
	Max  wire.Sat       // the maximum fee, whatever is paid; 0: the default ceiling
}

// The default ceiling on a payment's fee, which Fee.Max overrides: at most
// feeFree or, for larger amounts, amount/feeShare; and at a requested rate of at
// most rateFree or, if estimates are higher, rateMultiple times the estimate.
// Contracts have ceilings of their own: a message's and a bank's maximum cost,
// and those of package batch for claims, closes and refunds.
const (
	feeFree      wire.Sat       = 20_000
	feeShare                    = 2
	rateFree     wire.SatPerKVB = 100_000
	rateMultiple                = 10
)

// ErrFee means that a payment's fee is above the ceiling.
var ErrFee = errors.New("the fee is too high")

// Ceiling returns the default maximum fee of a payment of an amount.
func Ceiling(amount wire.Sat) wire.Sat { return max(feeFree, amount/feeShare) }

// CheckFee returns ErrFee if one of our own transactions pays a fee above the
// ceiling. estimate is the node's. For a child that pays for its parent, the
// parent's payments count.
func (w *Wallet) CheckFee(tx Tx, txid wire.Hash, f Fee, estimate wire.SatPerKVB) error {
	fee, paid, _, err := w.Cost(tx, txid)
	if err != nil {
		return err
	}
	most := cmp.Or(f.Max, Ceiling(paid))
	switch {
	case fee > most && f.Max > 0:
		return fmt.Errorf("%w: %v, and %v is allowed", ErrFee, fee, most)
	case fee > most:
		return fmt.Errorf("%w: %v to pay %v, and %v is allowed by default", ErrFee, fee, paid, most)
	}
	return f.CheckRate(estimate)
}

// CheckRate returns ErrFee if the rate is above what the node's estimate allows.
// Only a rate above wire.MaxFeeRate is refused if Max is set.
func (f Fee) CheckRate(estimate wire.SatPerKVB) error {
	limit := MaxRate(estimate)
	switch {
	case f.Rate > wire.MaxFeeRate:
		return fmt.Errorf("%w: %s, at most %s is possible", ErrFee, perVB(f.Rate), perVB(wire.MaxFeeRate))
	case f.Rate > limit && f.Max == 0:
		return fmt.Errorf("%w: %s; the node's estimate is %s, and %s is allowed by default", ErrFee, perVB(f.Rate), perVB(estimate), perVB(limit))
	}
	return nil
}

// MaxRate returns the highest rate that is paid by default.
func MaxRate(estimate wire.SatPerKVB) wire.SatPerKVB {
	return min(max(rateFree, rateMultiple*estimate), wire.MaxFeeRate)
}

// perVB prints a rate in the unit that people use.
func perVB(r wire.SatPerKVB) string { return fmt.Sprintf("%.4g sat/vB", float64(r)/1000) }

// Cost returns the fee of one of our own transactions, its size in vbytes, and
// what it and its unconfirmed ancestors of ours pay to others. It returns
// ErrUnknownTx for any other transaction.
func (w *Wallet) Cost(tx Tx, txid wire.Hash) (fee, paid wire.Sat, size int64, err error) {
	s, own, err := w.sent(tx, txid)
	if err != nil {
		return 0, 0, 0, err
	}
	if s == nil {
		return 0, 0, 0, ErrUnknownTx
	}
	on := map[wire.Hash]bool{}
	if err := w.ancestors(tx, txid, on); err != nil {
		return 0, 0, 0, err
	}
	for id := range on {
		_, t, err := w.sent(tx, id)
		if err != nil {
			return 0, 0, 0, err
		}
		if t == nil {
			continue
		}
		for _, o := range t.TxOut {
			known, err := tx.Get(bucketScript, o.PkScript)
			if err != nil {
				return 0, 0, 0, err
			}
			if known == nil {
				paid += wire.Sat(o.Value)
			}
		}
	}
	return s.Fee, paid, vsize(own), nil
}
