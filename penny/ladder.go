package penny

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"

	"github.com/bitgram/bitgram/wire"
)

// Dust is the least that a taproot output may have under Bitcoin Core's policy
// at its default dust relay fee; a bank's last rung leaves it to the payer.
const Dust wire.Sat = 330

// MaxRungs is how many rungs a bank has at most: with together and refund they
// fill a tree of depth 10.
const MaxRungs = 1022

// Ladder is how a bank's pennies are cut into rungs, and its value shared at
// each. Rung g holds when g·PerRung pennies were paid.
type Ladder struct {
	Value   wire.Sat // of the funding output
	Rungs   uint32   // G
	PerRung uint32   // pennies to a rung
}

// ErrLadder: a ladder that cannot be built.
var ErrLadder = errors.New("no such ladder")

// Check returns an error that wraps ErrLadder where a rung would not be worth a
// satoshi, or the numbers are out of range.
func (l Ladder) Check() error {
	switch {
	case l.Rungs < 1 || l.Rungs > MaxRungs:
		return fmt.Errorf("%w: %d rungs, of 1 to %d", ErrLadder, l.Rungs, MaxRungs)
	case l.PerRung < 1 || uint64(l.PerRung)*uint64(l.Rungs) > MaxSeq:
		return fmt.Errorf("%w: %d rungs of %d pennies, of up to %d pennies", ErrLadder, l.Rungs, l.PerRung, MaxSeq)
	case l.Value > wire.MaxSat || l.Value < Dust+wire.Sat(l.Rungs):
		return fmt.Errorf("%w: %v for %d rungs, of which each takes a satoshi, and %v stay with the payer", ErrLadder, l.Value, l.Rungs, Dust)
	}
	return nil
}

// N is how many pennies there are.
func (l Ladder) N() uint32 { return l.Rungs * l.PerRung }

// Seq is the number of the penny of rung g, of 1 to Rungs.
func (l Ladder) Seq(g uint32) uint32 { return l.N() - g*l.PerRung }

// Rung is the highest rung that a count of paid pennies reaches; 0 for none.
func (l Ladder) Rung(paid uint32) uint32 { return min(paid, l.N()) / l.PerRung }

// Change is what the payer gets where the bank is closed at rung g:
//
//	330 + (V−330)·(G−g)/G
//
// rounded down.
func (l Ladder) Change(g uint32) wire.Sat {
	g = min(g, l.Rungs)
	hi, lo := bits.Mul64(uint64(l.Value-Dust), uint64(l.Rungs-g))
	q, _ := bits.Div64(hi, lo, uint64(l.Rungs))
	return Dust + wire.Sat(q)
}

// Share is what the payee gets at rung g, before fees.
func (l Ladder) Share(g uint32) wire.Sat { return l.Value - l.Change(g) }

// Paid is what a count of pennies is worth, in thousandths of a satoshi, rounded
// down: also what no rung holds yet.
func (l Ladder) Paid(pennies uint32) wire.Msat {
	hi, lo := bits.Mul64(uint64(l.Value-Dust)*1000, uint64(min(pennies, l.N())))
	q, _ := bits.Div64(hi, lo, uint64(l.N()))
	return wire.Msat(q)
}

// CountFor is the least count of pennies that are worth an amount; ok is false
// where all are not.
func (l Ladder) CountFor(amount wire.Msat) (count uint32, ok bool) {
	n := uint32(sort.Search(int(l.N())+1, func(c int) bool { return l.Paid(uint32(c)) >= amount }))
	return n, n <= l.N()
}

// RungFor is the lowest rung at which the payee gets an amount, before fees; ok is
// false where it is more than at the last.
func (l Ladder) RungFor(amount wire.Msat) (g uint32, ok bool) {
	n := uint32(sort.Search(int(l.Rungs)+1, func(g int) bool { return l.Share(uint32(g)).Msat() >= amount }))
	return n, n <= l.Rungs
}
