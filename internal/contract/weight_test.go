package contract_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

func sha(b []byte) wire.Hash { return sha256.Sum256(b) }

// TestWeights compares every weight with transactions that were built and
// signed. At 1,000 sat/kvB the fee equals the vsize, so this also checks the
// builders' own sums.
func TestWeights(t *testing.T) {
	const rate = 1000
	t.Run("funding", func(t *testing.T) {
		for inputs := 1; inputs <= 3; inputs++ {
			for frozen := 1; frozen <= 3; frozen++ {
				for _, change := range []bool{false, true} {
					var ins []wire.Outpoint
					var outs []*btcwire.TxOut
					prev := txscript.NewMultiPrevOutFetcher(nil)
					for i := range inputs {
						ins = append(ins, outpoint(i))
						prev.AddPrevOut(contract.OutPoint(outpoint(i)), btcwire.NewTxOut(10_000, home))
					}
					for i := range frozen {
						outs = append(outs, newFrozen(t, fmt.Sprint("w", i), 1, 800_000).txOut(5000))
					}
					var rest *btcwire.TxOut
					if change {
						rest = btcwire.NewTxOut(1000, home)
					}
					tx, err := contract.Funding(ins, outs, marker(), rest)
					if err != nil {
						t.Fatal(err)
					}
					signHome(t, tx, prev)
					if got, want := weightOf(tx), contract.FundingWeight(inputs, frozen, change); got != want {
						t.Errorf("%d inputs, %d frozen, change %v: weight %d, computed %d", inputs, frozen, change, got, want)
					}
					if w := int64(tx.TxOut[frozen].SerializeSize() * 4); w != contract.MarkerOutputWeight {
						t.Errorf("marker output weighs %d", w)
					}
				}
			}
		}
		if v := contract.VSize(contract.FundingWeight(1, 3, true)); v > 335 {
			t.Errorf("funding of one message to three agents takes %d vB", v)
		}
	})

	t.Run("claim", func(t *testing.T) {
		// 252 and 253 are the two sides of the longer input count.
		o := newFrozen(t, "claims", 1, 800_000)
		c := o.claim(t, 0, outpoint(0), 10_000)
		for _, n := range []int{1, 2, 100, 252, 253} {
			var cs []contract.Claim
			for i := range n {
				c.At = outpoint(i)
				cs = append(cs, c)
			}
			tx, fee, err := contract.BuildClaim(cs, home, rate, 0)
			if err != nil {
				t.Fatal(err)
			}
			w := weightOf(tx)
			if want := contract.VSize(w); int64(fee) != want {
				t.Errorf("%d claims: fee for %d vB, size %d", n, fee, want)
			}
			computed := contract.TxOverheadWeight + int64(n)*contract.ClaimInputWeight(0, 1) + contract.P2TROutputWeight
			if n >= 253 {
				computed += 8
			}
			if w != computed {
				t.Errorf("%d claims: weight %d, computed %d", n, w, computed)
			}
			if per := float64(w) / 4 / float64(n); n == 100 && per > 135 {
				t.Errorf("a claim in a batch of 100 takes %.1f vB", per)
			}
			if n == 1 && contract.ClaimReserve(rate, 0, 1) != fee {
				t.Errorf("reserve %v for a fee of %v", contract.ClaimReserve(rate, 0, 1), fee)
			}
		}
	})

	t.Run("tree", func(t *testing.T) {
		for n := 1; n <= wire.MaxAgents; n++ {
			o := newFrozen(t, "tree", n, 800_000)
			for i := range n {
				tx, fee, err := contract.BuildClaim([]contract.Claim{o.claim(t, i, outpoint(0), 10_000)}, home, rate, 0)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := weightOf(tx), contract.TxOverheadWeight+contract.ClaimInputWeight(i, n)+contract.P2TROutputWeight; got != want {
					t.Errorf("claim %d of %d: weight %d, computed %d", i, n, got, want)
				}
				if r := contract.ClaimReserve(rate, i, n); r != fee {
					t.Errorf("claim %d of %d: reserve %v, fee %v", i, n, r, fee)
				}
			}
			tx, _, err := contract.BuildRefund([]contract.Refund{o.refund(outpoint(0), 10_000)}, home, rate, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := weightOf(tx), contract.TxOverheadWeight+contract.RefundInputWeight(800_000, n)+contract.P2TROutputWeight; got != want {
				t.Errorf("refund with %d claims: weight %d, computed %d", n, got, want)
			}
		}
	})

	t.Run("refund", func(t *testing.T) {
		// Heights at which the script number grows by a byte.
		for _, h := range []wire.Height{1, 16, 17, 127, 128, 32767, 32768, 8388607, 8388608, wire.MaxHeight} {
			o := newFrozen(t, "refund", 1, h)
			for _, n := range []int{1, 3} {
				var rs []contract.Refund
				for i := range n {
					rs = append(rs, o.refund(outpoint(i), 10_000))
				}
				tx, fee, err := contract.BuildRefund(rs, home, rate, 0)
				if err != nil {
					t.Fatal(err)
				}
				got := weightOf(tx)
				if want := contract.TxOverheadWeight + int64(n)*contract.RefundInputWeight(h, 1) + contract.P2TROutputWeight; got != want {
					t.Errorf("%d refunds at %d: weight %d, computed %d", n, h, got, want)
				}
				if int64(fee) != contract.VSize(got) {
					t.Errorf("%d refunds at %d: fee %v for %d vB", n, h, fee, contract.VSize(got))
				}
			}
		}
	})
}

// TestUneconomic finds the last value that is worth a claim or a refund; one
// satoshi less would leave dust.
func TestUneconomic(t *testing.T) {
	o := newFrozen(t, "dust", 1, 800_000)
	build := map[string]func(wire.Sat, wire.Sat) (*btcwire.MsgTx, wire.Sat, error){
		"claim": func(v, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
			return contract.BuildClaim([]contract.Claim{o.claim(t, 0, outpoint(0), v)}, home, 2000, minFee)
		},
		"refund": func(v, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
			return contract.BuildRefund([]contract.Refund{o.refund(outpoint(0), v)}, home, 2000, minFee)
		},
	}
	for name, f := range build {
		_, fee, err := f(100_000, 0)
		if err != nil {
			t.Fatal(name, err)
		}
		for _, minFee := range []wire.Sat{0, fee + 777} {
			want := max(fee, minFee)
			tx, got, err := f(want+contract.Dust, minFee)
			if err != nil || got != want || tx.TxOut[0].Value != int64(contract.Dust) {
				t.Errorf("%s at the limit: fee %v, %v", name, got, err)
			}
			if tx, _, err := f(want+contract.Dust-1, minFee); !errors.Is(err, contract.ErrUneconomic) || tx != nil {
				t.Errorf("%s one satoshi below: %v", name, err)
			}
		}
	}
	if _, _, err := contract.BuildClaim(nil, home, 2000, 0); err == nil {
		t.Error("a claim of nothing")
	}
}

// An output that holds no more than its reserve can be claimed alone, by any of
// its agents, and refunded alone, and what is left relays; with one satoshi less
// one of the two cannot.
func TestFrozenReserve(t *testing.T) {
	const expiry = 800_000
	for _, rate := range []wire.SatPerKVB{100, 1000, 2000, 50_000} {
		for _, n := range []int{1, 2, 3, wire.MaxAgents} {
			o := newFrozen(t, "reserve", n, expiry)
			spends := func(value wire.Sat, rate wire.SatPerKVB) (err error) {
				for i := range n {
					_, _, e := contract.BuildClaim([]contract.Claim{o.claim(t, i, outpoint(0), value)}, home, rate, 0)
					err = errors.Join(err, e)
				}
				_, _, e := contract.BuildRefund([]contract.Refund{o.refund(outpoint(0), value)}, home, rate, 0)
				return errors.Join(err, e)
			}
			value := contract.FrozenReserve(rate, expiry, n)
			if err := spends(value, rate); err != nil {
				t.Errorf("rate %d, %d claims, %v: %v", rate, n, value, err)
			}
			if err := spends(value-1, max(rate, contract.MinFeeRate)); !errors.Is(err, contract.ErrUneconomic) {
				t.Errorf("rate %d, %d claims: a reserve of %v holds more than is needed: %v", rate, n, value, err)
			}
		}
	}
}
