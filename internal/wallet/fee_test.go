package wallet

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

// TestCeiling: a fee that is high for the amount, or a rate that is high for the
// estimate, is refused unless the caller allows it; the ceiling on rates holds in
// any case.
func TestCeiling(t *testing.T) {
	h := newHome(t, nil)
	h.fund(10_000_000)
	h.mine(1)
	burn, err := txscript.NullDataScript([]byte("hint"))
	must(t, err)
	undo := errors.New("undone")
	pay := func(f Fee, build func(Tx) (*btcwire.MsgTx, error)) (got error) {
		if err := h.store.Update(t.Context(), func(tx engine.Tx) error {
			p, err := build(tx)
			if err != nil {
				return err
			}
			got = h.CheckFee(tx, contract.Txid(p), f, rate)
			return undo
		}); !errors.Is(err, undo) {
			t.Fatal(err)
		}
		return got
	}
	send := func(amount wire.Sat, f Fee) error {
		return pay(f, func(tx Tx) (*btcwire.MsgTx, error) {
			return h.Send(tx, conform.KeyScript(t), amount, f.Rate, h.tip())
		})
	}
	for _, c := range []struct {
		amount wire.Sat
		fee    Fee
		want   error
	}{
		{1000, Fee{Rate: 2000}, nil},
		{1000, Fee{Rate: 100_000}, nil}, // 15,400 sat
		{1000, Fee{Rate: 5_000_000}, ErrFee},
		{1000, Fee{Rate: 5_000_000, Max: 700_000}, ErrFee},
		{1000, Fee{Rate: 5_000_000, Max: 800_000}, nil},
		{5_000_000, Fee{Rate: 5_000_000}, ErrFee}, // a sixth of it, at 2,500 times the estimate
		{5_000_000, Fee{Rate: 5_000_000, Max: 800_000}, nil},
		{1000, Fee{Rate: 2000, Max: 100}, ErrFee},
		{1000, Fee{Rate: wire.MaxFeeRate + 1, Max: wire.MaxSat}, ErrFee},
	} {
		if err := send(c.amount, c.fee); !errors.Is(err, c.want) || err != nil && c.want == nil {
			t.Errorf("%v at %+v: %v", c.amount, c.fee, err)
		}
	}
	if err := pay(Fee{Rate: 1_000_000}, func(tx Tx) (*btcwire.MsgTx, error) { return h.Burn(tx, burn, 0, 1_000_000, h.tip()) }); !errors.Is(err, ErrFee) {
		t.Errorf("a hint for 150,000 sat: %v", err)
	}
	// A bump, by replacement and by a child.
	for _, fixed := range []bool{false, true} {
		var old *btcwire.MsgTx
		h.do(func(tx Tx) (err error) {
			old, err = h.Send(tx, conform.KeyScript(t), 100_000, 1000, h.tip())
			if err == nil && fixed {
				err = h.Sign(tx, old, true)
			}
			return err
		})
		h.accept(old)
		for r, want := range map[wire.SatPerKVB]error{100_000: nil, 150_000: nil, 600_000: ErrFee} {
			err := pay(Fee{}, func(tx Tx) (*btcwire.MsgTx, error) { return h.Bump(tx, contract.Txid(old), r, 1000) })
			if !errors.Is(err, want) || err != nil && want == nil {
				t.Errorf("bumped to %d (fixed: %v): %v", r, fixed, err)
			}
		}
		h.mine(1)
	}
}

// TestBumpPaysMore: a bump at a rate that the payment pays already still pays
// what nodes require of a replacement.
func TestBumpPaysMore(t *testing.T) {
	for _, fixed := range []bool{false, true} {
		h := newHome(t, nil)
		h.fund(1_000_000)
		h.mine(1)
		var old, next *btcwire.MsgTx
		h.do(func(tx Tx) (err error) {
			old, err = h.Send(tx, conform.KeyScript(t), 100_000, 3000, h.tip())
			if err == nil && fixed {
				err = h.Sign(tx, old, true)
			}
			return err
		})
		h.accept(old)
		h.do(func(tx Tx) (err error) { next, err = h.Bump(tx, contract.Txid(old), 2000, 1000); return err })
		h.accept(next)
		on := map[wire.Hash]bool{contract.Txid(next): true}
		if fixed {
			on[contract.Txid(old)] = true
		}
		h.do(func(tx Tx) error {
			fees, size := h.sum(tx, on)
			if got := int64(fees) * 1000 / size; got < 4000 || got > 4020 {
				t.Errorf("it pays %d sat/kvB (fixed: %v)", got, fixed)
			}
			return nil
		})
	}
}
