package penny

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"

	"github.com/bitgram/bitgram/wire"
)

// Dust is the minimum value of a P2TR output under Bitcoin Core's policy at its
// default dust relay fee. At a bank's last rung this much is left to the payer.
const Dust wire.Sat = 330

// MaxRungs is the maximum number of rungs of a bank: with the together and
// refund leaves they fill a tree of depth 10.
const MaxRungs = 1022

// Ladder divides a bank's pennies into rungs, and its value between the two
// sides at each. Rung g is reached when g·PerRung pennies are paid
// (spec/bank.md §2).
type Ladder struct {
	Value   wire.Sat // of the funding output
	Rungs   uint32   // G
	PerRung uint32   // pennies to a rung
}

// ErrLadder means that a ladder with these numbers is impossible.
var ErrLadder = errors.New("no such ladder")

// Check returns an error that wraps ErrLadder if a rung would be worth less
// than a satoshi or a number is out of range.
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

// N returns the number of pennies.
func (l Ladder) N() uint32 { return l.Rungs * l.PerRung }

// Seq returns the number of the penny at rung g, 1 ≤ g ≤ Rungs.
func (l Ladder) Seq(g uint32) uint32 { return l.N() - g*l.PerRung }

// Rung returns the highest rung reached with a count of paid pennies, or 0.
func (l Ladder) Rung(paid uint32) uint32 { return min(paid, l.N()) / l.PerRung }

// Change returns the payer's amount if the bank is closed at rung g:
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

// Share returns the payee's amount at rung g, before fees.
func (l Ladder) Share(g uint32) wire.Sat { return l.Value - l.Change(g) }

// Paid returns the worth of a count of pennies in msat, rounded down. It
// includes pennies above the last rung reached.
func (l Ladder) Paid(pennies uint32) wire.Msat {
	hi, lo := bits.Mul64(uint64(l.Value-Dust)*1000, uint64(min(pennies, l.N())))
	q, _ := bits.Div64(hi, lo, uint64(l.N()))
	return wire.Msat(q)
}

// CountFor returns the least count of pennies worth at least amount; ok is
// false if all pennies together are worth less.
func (l Ladder) CountFor(amount wire.Msat) (count uint32, ok bool) {
	n := uint32(sort.Search(int(l.N())+1, func(c int) bool { return l.Paid(uint32(c)) >= amount }))
	return n, n <= l.N()
}

// RungFor returns the lowest rung at which the payee gets at least amount,
// before fees; ok is false if even the last rung gives less.
func (l Ladder) RungFor(amount wire.Msat) (g uint32, ok bool) {
	n := uint32(sort.Search(int(l.Rungs)+1, func(g int) bool { return l.Share(uint32(g)).Msat() >= amount }))
	return n, n <= l.Rungs
}
