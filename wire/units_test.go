package wire_test

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/wire"
)

// price computes StoragePrice with big integers; ok is false if the price
// exceeds all money that can exist.
func price(rate, size uint64, blocks, perDay uint32) (*big.Int, bool) {
	n := new(big.Int).SetUint64(rate)
	n.Mul(n, new(big.Int).SetUint64(size)).Mul(n, big.NewInt(int64(blocks)))
	div := new(big.Int).Mul(big.NewInt(int64(perDay)), big.NewInt(1_000_000_000))
	n.Add(n, new(big.Int).Sub(div, big.NewInt(1))).Div(n, div)
	return n, n.Cmp(big.NewInt(int64(wire.MaxSat)*1000)) <= 0
}

// TestStoragePrice checks that the price is rounded up once and exact if it is
// in range, and that the error is ErrOverflow otherwise.
func TestStoragePrice(t *testing.T) {
	// Small numbers, numbers near powers of two, and any number.
	number := func(top uint64) *rapid.Generator[uint64] {
		return rapid.OneOf(rapid.Uint64Range(0, min(top, 1000)), rapid.Uint64Range(0, top), rapid.Custom(func(t *rapid.T) uint64 {
			x := uint64(1)<<rapid.IntRange(0, 63).Draw(t, "power") + uint64(rapid.IntRange(-2, 2).Draw(t, "off"))
			return min(x, top)
		}))
	}
	check := func(t rapid.TB, rate, size uint64, blocks, perDay uint32) {
		got, err := wire.StoragePrice(wire.Psat(rate), size, blocks, perDay)
		if perDay == 0 {
			if err == nil {
				t.Fatal("a day of no blocks")
			}
			return
		}
		want, ok := price(rate, size, blocks, perDay)
		if byteBlocks := new(big.Int).Mul(new(big.Int).SetUint64(size), big.NewInt(int64(blocks))); !byteBlocks.IsUint64() {
			ok = false // no message nears it, whatever the rate
		}
		switch {
		case ok && (err != nil || want.Cmp(new(big.Int).SetUint64(uint64(got))) != 0):
			t.Fatalf("%d psat × %d B × %d/%d: %d, want %v (%v)", rate, size, blocks, perDay, got, want, err)
		case !ok && !errors.Is(err, wire.ErrOverflow):
			t.Fatalf("%d psat × %d B × %d/%d: %d, %v", rate, size, blocks, perDay, got, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		check(t, number(math.MaxUint64).Draw(t, "rate"), number(math.MaxUint64).Draw(t, "size"),
			uint32(number(math.MaxUint32).Draw(t, "blocks")), uint32(number(math.MaxUint32).Draw(t, "per day")))
	})
	m, s := uint64(math.MaxUint64), uint32(math.MaxUint32)
	for _, c := range []struct {
		rate, size     uint64
		blocks, perDay uint32
	}{
		{0, 0, 0, 1}, {m, m, s, s}, {m, m, s, 1}, {m, 1, 1, s}, {m, 1, s, s}, {m, m, 1, s}, {1, m, s, s}, {1, m, 1, 1}, {1, 1, 1, 144}, {1, 1, 1, 0},
		{1 << 63, 2_000_000_000, 1, 1}, {1 << 63, 1_999_999_999, 1, 1}, // the high word is the divisor, or one less
		{wire.MaxRate, wire.MaxPayload, wire.MaxStoreBlocks, 144},
		{uint64(wire.MaxSat) * 1000, 1_000_000_000, 1, 1}, {uint64(wire.MaxSat)*1000 + 1, 1_000_000_000, 1, 1},
	} {
		check(t, c.rate, c.size, c.blocks, c.perDay)
	}
	// 1,000 bytes for a day at 1 sat per byte-day.
	if p, err := wire.StoragePrice(1_000_000_000_000, 1000, 144, 144); err != nil || p != 1_000_000 || p.Sat() != 1000 {
		t.Error(p, err)
	}
}

func TestSat(t *testing.T) {
	for m, want := range map[wire.Msat]wire.Sat{0: 0, 1: 1, 999: 1, 1000: 1, 1001: 2, wire.Msat(wire.MaxSat) * 1000: wire.MaxSat,
		math.MaxInt64 + 1: wire.MaxSat + 1, math.MaxUint64: wire.MaxSat + 1} {
		if got := m.Sat(); got != want {
			t.Errorf("%d msat: %v, want %v", m, got, want)
		}
	}
	// Never a negative amount, never one below its parts.
	rapid.Check(t, func(t *rapid.T) {
		m := wire.Msat(rapid.Uint64().Draw(t, "msat"))
		if s := m.Sat(); s < 0 || (s <= wire.MaxSat && uint64(s)*1000 < uint64(m)) {
			t.Fatalf("%d msat: %v", m, s)
		}
	})
	for _, c := range []struct {
		rate  wire.SatPerKVB
		vsize int64
		want  wire.Sat
	}{{1000, 141, 141}, {1001, 141, 142}, {1, 1, 1}, {0, 100, 0}, {250, 4, 1}, {1000, 0, 0}} {
		if got := c.rate.Fee(c.vsize); got != c.want {
			t.Errorf("%d vB at %d: %v", c.vsize, c.rate, got)
		}
	}
	if s := wire.Sat(-5).String(); s != "-5 sat" {
		t.Error(s)
	}
}
