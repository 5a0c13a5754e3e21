package wire_test

import (
	"errors"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/wire"
)

func with[T any](v *T, f func(*T)) *T {
	f(v)
	return v
}

// TestComputePrice compares the price with one in unlimited arithmetic.
func TestComputePrice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := wire.Psat(rapid.Uint64().Draw(t, "rate"))
		fuel := rapid.Uint64().Draw(t, "fuel")
		got, err := wire.ComputePrice(rate, fuel)
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil)
		want := new(big.Int).Mul(new(big.Int).SetUint64(uint64(rate)), new(big.Int).SetUint64(fuel))
		want, rest := want.QuoRem(want, unit, new(big.Int))
		if rest.Sign() > 0 {
			want.Add(want, big.NewInt(1))
		}
		switch {
		case want.Cmp(new(big.Int).SetUint64(uint64(wire.MaxSat.Msat()))) > 0:
			if !errors.Is(err, wire.ErrOverflow) {
				t.Fatalf("%v: %d, %v", want, got, err)
			}
		case err != nil || want.Uint64() != uint64(got):
			t.Fatalf("%v: %d, %v", want, got, err)
		}
	})
	for _, c := range []struct {
		rate wire.Psat
		fuel uint64
		want wire.Msat
	}{{0, 1 << 62, 0}, {1, 1, 1}, {1_000_000_000, 1_000_000_000, 1}, {1_000_000_000, 1_000_000_001, 2}, {wire.MaxRate, 1_000_000_000, 1_000_000}} {
		if got, err := wire.ComputePrice(c.rate, c.fuel); got != c.want || err != nil {
			t.Errorf("%d × %d: %d, %v", c.rate, c.fuel, got, err)
		}
	}
}

// TestComputeVerify: offers and quotes are verified in every field.
func TestComputeVerify(t *testing.T) {
	const now = 1_800_000_000
	o := *with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Expires = now + 60 })
	o.Sig = signed(1, o.Digest(wire.Regtest))
	if err := o.Verify(wire.Regtest, now); err != nil {
		t.Fatal(err)
	}
	if o.Verify(wire.Mainnet, now) == nil || o.Verify(wire.Regtest, now+60) == nil || o.Verify(wire.Regtest, now+60-wire.MaxRecordLife-1) == nil {
		t.Error("an offer of another network or time")
	}
	for name, f := range map[string]func(*wire.ComputeOffer){
		"agent": func(o *wire.ComputeOffer) { o.Agent = key(2) }, "rate": func(o *wire.ComputeOffer) { o.Rate++ },
		"memory": func(o *wire.ComputeOffer) { o.Limits.Memory++ }, "fuel": func(o *wire.ComputeOffer) { o.Limits.Fuel++ },
		"disk": func(o *wire.ComputeOffer) { o.Limits.Disk++ }, "epochs": func(o *wire.ComputeOffer) { o.Limits.Epochs++ },
		"blocks": func(o *wire.ComputeOffer) { o.Limits.Blocks++ }, "end": func(o *wire.ComputeOffer) { o.Expires++ },
	} {
		x := o
		f(&x)
		if err := x.Verify(wire.Regtest, now); !errors.Is(err, wire.ErrBadSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}

	r := minComputeRequest()
	q := wire.ComputeQuote{Agent: key(1), Party: key(2), Request: r.Digest(), Price: 5, ValidUntil: 100}
	q.Sig = signed(1, q.Digest())
	if err := q.Verify(key(1), r); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*wire.ComputeQuote, *wire.ComputeRequest){
		"agent": func(q *wire.ComputeQuote, _ *wire.ComputeRequest) { q.Agent = key(2) },
		"party": func(q *wire.ComputeQuote, _ *wire.ComputeRequest) { q.Party = key(3) },
		"price": func(q *wire.ComputeQuote, _ *wire.ComputeRequest) { q.Price++ },
		"end":   func(q *wire.ComputeQuote, _ *wire.ComputeRequest) { q.ValidUntil++ },
		"bank":  func(_ *wire.ComputeQuote, r *wire.ComputeRequest) { r.Bank[0]++ },
		"limit": func(_ *wire.ComputeQuote, r *wire.ComputeRequest) { r.State++ },
	} {
		x, y := q, *r
		f(&x, &y)
		if err := x.Verify(key(1), &y); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if m := maxComputeRequest(); m.Disk() < m.Program || m.Disk() > 1<<36 {
		t.Error(m.Disk())
	}
}
