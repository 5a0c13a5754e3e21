package wallet

import (
	"context"
	"errors"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
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
		_, err := h.Bump(tx, contract.Txid(a), 10*rate)
		wantErr(t, err, ErrNotBumpable)
		return nil
	})
	h.do(func(tx Tx) error { return h.Forget(tx, contract.Txid(b)) })
	h.do(func(tx Tx) error { _, err := h.Bump(tx, contract.Txid(a), 10*rate); return err })
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
