package wallet

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

// restored is a wallet of the same words, with a gap, that has read the chain.
func restored(t *testing.T, h *home, gap int) *home {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "home.db"))
	must(t, err)
	t.Cleanup(func() { s.Close() })
	w, err := New(seed, h.chain.Params(), gap)
	must(t, err)
	r := &home{t, w, s, h.chain}
	r.do(w.Init)
	r.sync()
	return r
}

// TestGap: whatever address is given away, the words alone find what is paid to
// it. Beyond the gap, the oldest unpaid address is given again.
func TestGap(t *testing.T) {
	h := newHome(t, nil)
	const amount = 50_000
	var paid wire.Sat
	var first []byte
	for round := range 3 {
		var script []byte
		for i := range 25 {
			var again bool
			h.do(func(tx Tx) (err error) { script, again, err = h.NewScript(tx, External); return err })
			if again != (i >= GapLimit) {
				t.Fatalf("round %d, address %d: given again: %v", round, i, again)
			}
			if i == 0 {
				first = script
			}
		}
		if !bytes.Equal(script, first) {
			t.Fatalf("round %d: not the oldest", round)
		}
		// The last one of the gap.
		h.do(func(tx Tx) (err error) {
			i, err := h.next(tx, External)
			if err != nil {
				return err
			}
			script, err = h.acct.script(path{External, i - 1})
			return err
		})
		_, err := h.chain.Faucet(t.Context(), script, amount)
		must(t, err)
		h.mine(1)
		paid += amount
	}
	for _, one := range []*home{h, restored(t, h, 0)} {
		if b := one.funds(); b.Confirmed != paid {
			t.Errorf("%v, not %v", b.Confirmed, paid)
		}
	}
	// After a reorg the gap counts from the payments that are left.
	h.do(func(tx Tx) error {
		at, _, err := tx.(engine.Tx).Position()
		must(t, err)
		must(t, h.Disconnect(tx, at.Height))
		i, err := h.paid(tx, External)
		if i != 2*GapLimit {
			t.Errorf("paid up to %d", i)
		}
		return err
	})
}

// TestRescan: coins beyond the gap are found by a wider one and a rescan; a second
// rescan, and one of what is known, change nothing; a reorg undoes what it found.
func TestRescan(t *testing.T) {
	h := newHome(t, nil)
	h.fund(1_000_000)
	h.mine(1)
	far, err := h.acct.script(path{External, 90})
	must(t, err)
	farther, err := h.acct.script(path{External, 150})
	must(t, err)
	for _, s := range [][]byte{far, farther} {
		_, err := h.chain.Faucet(t.Context(), s, 30_000)
		must(t, err)
		h.mine(1)
	}
	var pay = func() {
		h.do(func(tx Tx) error {
			p, err := h.Send(tx, conform.KeyScript(t), 10_000, rate, h.tip())
			if err == nil {
				err = h.chain.Broadcast(t.Context(), p)
			}
			return err
		})
		h.mine(1)
	}
	pay()
	want := h.funds().Confirmed + 60_000
	r := restored(t, h, 0)
	if b := r.funds(); b.Confirmed != want-60_000 {
		t.Fatalf("%v without a gap", b.Confirmed)
	}
	wide, err := New(seed, h.chain.Params(), 100)
	must(t, err)
	r.Wallet = wide
	r.do(wide.Init)
	for range 2 {
		r.rescan(0)
		if b := r.funds(); b.Confirmed != want {
			t.Fatalf("%v after the rescan, not %v", b.Confirmed, want)
		}
	}
	top := r.tip()
	for height := top; height > top-3; height-- {
		r.do(func(tx Tx) error { return r.Disconnect(tx, height) })
	}
	if b := r.funds(); b.Confirmed != 1_000_000 {
		t.Errorf("%v after the reorg", b.Confirmed)
	}
}

func (h *home) rescan(from wire.Height) {
	h.Helper()
	top := h.tip()
	for height := from; height <= top; height++ {
		hash, err := h.chain.HashAt(h.Context(), height)
		must(h, err)
		b, _, err := h.chain.Block(h.Context(), hash)
		must(h, err)
		h.do(func(tx Tx) error { return h.Rescan(tx, b.Transactions, height, top) })
	}
}
