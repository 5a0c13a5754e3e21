package wire

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Sat is an amount of satoshi. On the wire it is never negative; differences in
// ledgers may be.
type Sat int64

// Msat is an amount in thousandths of a satoshi.
type Msat uint64

// Psat is an amount in 10⁻¹² satoshi, the unit of rates (psat per byte-day).
type Psat uint64

// MaxSat is the total number of satoshi that can ever exist.
const MaxSat Sat = 21_000_000 * 100_000_000

// Height is a block height.
type Height uint32

// SatPerKVB is a fee rate in satoshi per 1,000 virtual bytes.
type SatPerKVB int64

// MaxFeeRate is the ceiling on every fee rate. It is the rate above which
// Bitcoin Core's sendrawtransaction refuses a transaction by default (0.10
// BTC/kvB).
const MaxFeeRate SatPerKVB = 10_000_000

// Fee returns the fee of vsize virtual bytes at rate r, rounded up.
func (r SatPerKVB) Fee(vsize int64) Sat { return Sat((int64(r)*vsize + 999) / 1000) }

// String prints the amount with its unit.
func (s Sat) String() string { return fmt.Sprintf("%d sat", int64(s)) }

// ErrOverflow means that a price is out of the range of satoshi.
var ErrOverflow = errors.New("amount overflows")

// StoragePrice returns the price of storing size bytes for a number of blocks,
// at rate psat per byte-day, with perDay blocks in a day. The product has 128
// bits; it is rounded up to whole msat once, at the end (spec/delivery.md §3).
func StoragePrice(rate Psat, size uint64, blocks, perDay uint32) (Msat, error) {
	if perDay == 0 {
		return 0, errors.New("a day of zero blocks")
	}
	hi, byteBlocks := bits.Mul64(size, uint64(blocks))
	if hi != 0 {
		return 0, ErrOverflow
	}
	return price(rate, byteBlocks, uint64(perDay)*psatPerMsat) // < 2^62
}

const psatPerMsat = 1_000_000_000

// price returns rate × amount / div, rounded up to whole msat; div < 2^63.
func price(rate Psat, amount, div uint64) (Msat, error) {
	hi, lo := bits.Mul64(uint64(rate), amount)
	lo, carry := bits.Add64(lo, div-1, 0)
	hi += carry
	if hi >= div {
		return 0, ErrOverflow
	}
	q, _ := bits.Div64(hi, lo, div)
	if q > uint64(MaxSat)*1000 {
		return 0, ErrOverflow
	}
	return Msat(q), nil
}

// ComputePrice returns the price of an epoch of at most fuel units, at rate psat per
// 10⁹ units. The product has 128 bits; it is rounded up to whole msat (spec/wire.md §4).
func ComputePrice(rate Psat, fuel uint64) (Msat, error) {
	const unit = 1_000_000_000 // of fuel, in the rate
	return price(rate, fuel, unit*psatPerMsat)
}

// Msat converts s to thousandths, or returns 0 if s is negative.
func (s Sat) Msat() Msat { return 1000 * Msat(max(s, 0)) }

// String prints the amount in satoshi with its unit.
func (m Msat) String() string {
	if m%1000 == 0 {
		return fmt.Sprintf("%d sat", uint64(m/1000))
	}
	return fmt.Sprintf("%d.%03d sat", uint64(m/1000), uint64(m%1000))
}

// Whole rounds m down to whole satoshi.
func (m Msat) Whole() Sat { return Sat(m / 1000) }

// Sat rounds m up to whole satoshi.
func (m Msat) Sat() Sat {
	if m > math.MaxInt64 {
		return MaxSat + 1
	}
	return Sat((m + 999) / 1000)
}
