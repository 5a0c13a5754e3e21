package wire_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/wire"
)

// TestFees compares a banker's fee, Base plus PPM millionths rounded up, with
// big integers. A fee above all money is capped at MaxSat.
func TestFees(t *testing.T) {
	number := rapid.OneOf(rapid.Uint64Range(0, 2_000_000), rapid.Uint64(), rapid.Custom(func(t *rapid.T) uint64 {
		return uint64(1)<<rapid.IntRange(0, 63).Draw(t, "power") + uint64(rapid.IntRange(-2, 2).Draw(t, "off"))
	}), rapid.SampledFrom([]uint64{0, 1, math.MaxUint64, uint64(wire.MaxSat.Msat()), uint64(wire.MaxSat.Msat()) + 1, math.MaxUint64 - 999_999}))
	rapid.Check(t, func(t *rapid.T) {
		amount, f := number.Draw(t, "amount"), wire.Fees{Base: wire.Msat(number.Draw(t, "base")), PPM: rapid.Uint32().Draw(t, "ppm")}
		want := new(big.Int).Mul(new(big.Int).SetUint64(amount), big.NewInt(int64(f.PPM)))
		want.Add(want, big.NewInt(999_999)).Quo(want, big.NewInt(1_000_000)).Add(want, new(big.Int).SetUint64(uint64(f.Base)))
		if most := new(big.Int).SetUint64(uint64(wire.MaxSat.Msat())); want.Cmp(most) > 0 {
			want = most
		}
		if got := f.Of(wire.Msat(amount)); new(big.Int).SetUint64(uint64(got)).Cmp(want) != 0 {
			t.Fatalf("%+v of %d: %d, not %v", f, amount, uint64(got), want)
		}
	})
}
