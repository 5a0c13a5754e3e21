package wallet

import (
	"context"
	"errors"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

// try is send where it may fail.
func (h *home) try(amount wire.Sat) (t *btcwire.MsgTx, err error) {
	err = h.store.Update(context.Background(), func(tx engine.Tx) error {
		t, err = h.Send(tx, miner2, amount, rate, h.tip())
		return err
	})
	return t, err
}

// miner2 is nobody's script that is standard.
var miner2 = append([]byte{0x51, 0x20}, make([]byte, 31)...)

func init() { miner2 = append(miner2, 2) }

func (h *home) accept(t *btcwire.MsgTx) {
	h.Helper()
	must(h, h.broadcast(t))
	h.do(func(tx Tx) error { return h.Accepted(tx, contract.Txid(t)) })
}

// TestChange: change that the network has is spent before a block has it, as
// far as nodes relay such chains; a block frees the rest. After a reorg that
// drops all of it, it is broadcast again in an order that nodes take.
func TestChange(t *testing.T) {
	h := newHome(t, nil)
	h.fund(10_000_000)
	h.mine(1)
	first, err := h.try(10_000)
	must(t, err)
	if _, err := h.try(10_000); !errors.Is(err, ErrNoFunds) {
		t.Fatalf("change that the network does not have is spent: %v", err)
	}
	h.accept(first)
	sent := []*btcwire.MsgTx{first}
	for {
		next, err := h.try(10_000)
		var short *Short
		if errors.As(err, &short) {
			if short.Soon < short.Need {
				t.Errorf("soon %v of %v: no use to wait", short.Soon, short.Need)
			}
			break
		}
		must(t, err)
		h.accept(next)
		sent = append(sent, next)
	}
	if len(sent) != maxAncestors {
		t.Errorf("a chain of %d, want %d", len(sent), maxAncestors)
	}
	if b := h.funds(); b.Confirmed != 0 || b.Change == 0 {
		t.Errorf("balance %+v", b)
	}
	h.mine(1)
	if b := h.funds(); b.Change != 0 || b.Confirmed == 0 || b.Pending != 0 {
		t.Errorf("balance after a block %+v", b)
	}
	next, err := h.try(10_000)
	must(t, err)
	h.accept(next)
	h.mine(1)
	h.reorg(2, contract.Txid(first)) // and all that stands on it
	again := h.unconfirmed()
	if len(again) != len(sent)+1 {
		t.Fatalf("%d of %d wait", len(again), len(sent)+1)
	}
	must(t, h.store.View(context.Background(), func(tx engine.Tx) error {
		list, err := h.Unconfirmed(tx)
		for _, tx := range list {
			must(t, h.broadcast(tx))
		}
		return err
	}))
	h.mine(1)
	if n := len(h.unconfirmed()); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

// TestChild: what must not be replaced is bumped by a child, and what stands on
// a transaction that pays too little pays for that too.
func TestChild(t *testing.T) {
	h := newHome(t, nil)
	h.fund(1_000_000)
	h.mine(1)
	var fixed *btcwire.MsgTx
	h.do(func(x Tx) error {
		p, err := h.pick(x, 20_000, contract.FundingWeight(0, 1, false), 1000, h.tip())
		must(t, err)
		fixed = btcwire.NewMsgTx(2)
		fixed.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(p.Inputs[0]), Sequence: contract.Sequence})
		fixed.AddTxOut(btcwire.NewTxOut(20_000, conform.KeyScript(t)))
		fixed.AddTxOut(btcwire.NewTxOut(int64(p.Change), p.ChangeScript))
		return h.Sign(x, fixed, true)
	})
	h.accept(fixed)
	pays := func(txs ...*btcwire.MsgTx) (rate float64) {
		var fee wire.Sat
		var size int64
		for _, tx := range txs {
			h.do(func(x Tx) error {
				s, _, err := h.sent(x, contract.Txid(tx))
				fee, size = fee+s.Fee, size+vsize(tx)
				return err
			})
		}
		return float64(fee) / float64(size)
	}
	bump := func(old *btcwire.MsgTx, r wire.SatPerKVB) (tx *btcwire.MsgTx, err error) {
		h.do(func(x Tx) error { tx, err = h.Bump(x, contract.Txid(old), r, 1000); return nil })
		return
	}
	child, err := bump(fixed, 20_000)
	must(t, err)
	h.accept(child)
	if got := pays(fixed, child); got < 20 || got > 20.2 {
		t.Errorf("parent and child pay %.2f sat/vB", got)
	}
	_, err = bump(fixed, 30_000)
	wantErr(t, err, ErrNotBumpable) // its child can be
	again, err := bump(child, 60_000)
	must(t, err)
	h.accept(again)
	if h.waits(child) || !h.waits(again) || !h.waits(fixed) {
		t.Error("the child was not replaced")
	}
	h.mine(1)
	if b := h.funds(); b.Pending != 0 || b.Change != 0 || b.Confirmed != wire.Sat(again.TxOut[0].Value) {
		t.Errorf("balance %+v", b)
	}

	// A payment from the change of one that pays less.
	var low, next *btcwire.MsgTx
	h.do(func(x Tx) (err error) { low, err = h.Send(x, conform.KeyScript(t), 10_000, 1000, h.tip()); return err })
	h.accept(low)
	h.do(func(x Tx) (err error) { next, err = h.Send(x, conform.KeyScript(t), 10_000, 9000, h.tip()); return err })
	h.accept(next)
	if got := pays(low, next); got < 9 || got > 9.2 {
		t.Errorf("the two pay %.2f sat/vB", got)
	}
	// And of one that pays more, no less.
	h.do(func(x Tx) (err error) { next, err = h.Send(x, conform.KeyScript(t), 10_000, 2000, h.tip()); return err })
	h.accept(next)
	if got := pays(next); got < 2 || got > 2.1 {
		t.Errorf("it pays %.2f sat/vB", got)
	}
	// No change, no child.
	var whole *btcwire.MsgTx
	h.do(func(x Tx) error {
		whole = btcwire.NewMsgTx(2)
		whole.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(wire.Outpoint{Txid: contract.Txid(next), Vout: 1}), Sequence: contract.Sequence})
		whole.AddTxOut(btcwire.NewTxOut(900_000, conform.KeyScript(t)))
		return h.Sign(x, whole, true)
	})
	_, err = bump(whole, 90_000)
	wantErr(t, err, ErrNotBumpable)
}

// TestChangeGone: when a transaction is given up, or can confirm no more, so is
// all that stands on it, and what is free again is free.
func TestChangeGone(t *testing.T) {
	h := newHome(t, nil)
	h.fund(1_000_000)
	h.mine(1)
	full := h.funds()
	a, err := h.try(10_000)
	must(t, err)
	h.accept(a)
	b, err := h.try(10_000)
	must(t, err)
	// Its change is spoken for: no bump may take it away.
	h.do(func(tx Tx) error {
		_, err := h.Bump(tx, contract.Txid(a), 10*rate, 1000)
		wantErr(t, err, ErrNotBumpable)
		return nil
	})
	h.do(func(tx Tx) error { return h.Forget(tx, contract.Txid(b)) })
	h.do(func(tx Tx) error { _, err := h.Bump(tx, contract.Txid(a), 10*rate, 1000); return err })
	if b := h.funds(); b.Change != 0 {
		t.Errorf("the change of a replaced transaction counts: %+v", b)
	}

	// The same seed elsewhere spends the coin: a and its child are dead.
	h = newHome(t, nil)
	h.fund(1_000_000)
	h.mine(1)
	twin := newHome(t, h.chain)
	a, err = h.try(10_000)
	must(t, err)
	h.do(func(tx Tx) error { return h.Accepted(tx, contract.Txid(a)) })
	b, err = h.try(20_000)
	must(t, err)
	h.do(func(tx Tx) error { return h.Accepted(tx, contract.Txid(b)) })
	other, err := twin.try(30_000)
	must(t, err)
	must(t, h.broadcast(other))
	h.mine(1)
	if n := len(h.unconfirmed()); n != 0 {
		t.Errorf("%d wait that cannot confirm", n)
	}
	if got := h.funds(); got.Change != 0 || got.Pending != 0 || got.Confirmed == 0 || got.Confirmed >= full.Confirmed {
		t.Errorf("balance %+v", got)
	}
}
