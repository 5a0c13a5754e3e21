package node

import (
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// TestLargeFunding: the size of a bank's funding, with a witness of 390 kB here,
// is not in the bank's state, so it costs no penny anything.
func TestLargeFunding(t *testing.T) {
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 200_000, 14, 1000)
	// As an earlier version left it.
	y := w.payeeOf(to, id)
	must(t, to.node.store.Update(t.Context(), func(tx engine.Tx) error {
		y.FundingTx = make([]byte, 390_000)
		raw, err := wire.Marshal(y)
		must(t, err)
		in := y.Interest()
		in.Wake = 1
		return tx.Save(payeeRef(id), raw, in)
	}))
	w.mine(1)
	look := func() (state, funding int) {
		must(t, to.node.store.View(t.Context(), func(tx engine.Tx) error {
			raw, err := tx.State(payeeRef(id))
			state = len(raw)
			must(t, err)
			raw, err = tx.Get("bank/funding", append([]byte{'e'}, id[:]...))
			funding = len(raw)
			return err
		}))
		return state, funding
	}
	if state, funding := look(); state > 4096 || funding != 390_000 {
		t.Errorf("a state of %d bytes, a funding of %d", state, funding)
	}
	w.pay(from, id, 1001)
	must(t, to.node.Banks.CloseBank(t.Context(), payeeRef(id)))
	w.settle()
	w.mine(12)
	if s := w.payeeOf(to, id); !s.Buried() {
		t.Fatal(s.State())
	}
	if state, funding := look(); state > 4096 || funding != 0 {
		t.Errorf("after the close is final: a state of %d bytes, a funding of %d", state, funding)
	}
}

// TestBuriedLeavesALine: a bank whose close is final keeps no paper, on either
// side, and is still listed.
func TestBuriedLeavesALine(t *testing.T) {
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 5_000_000)
	papers := func(h *home) (n int) {
		must(t, h.node.store.View(t.Context(), func(tx engine.Tx) error {
			return tx.Scan(bucketPaper, nil, 0, func(_, _ []byte) error { n++; return nil })
		}))
		return n
	}
	var ids []bank.ID
	for _, who := range []engine.Kind{bank.KindPayee, bank.KindPayer} {
		id := w.opened(from, to, 200_000, 126, 10)
		ids = append(ids, id)
		w.pay(from, id, 1000)
		if papers(from) == 0 || papers(to) == 0 {
			t.Fatal("an open bank has no paper")
		}
		if who == bank.KindPayee {
			must(t, to.node.Banks.CloseBank(t.Context(), payeeRef(id)))
		} else {
			must(t, from.node.Banks.CloseBank(t.Context(), payerRef(id)))
		}
		w.settle()
		w.mine(20)
	}
	// The change of a close by the payee alone comes back to the payer later.
	w.mine(400)
	if a, b := papers(from), papers(to); a+b != 0 {
		t.Errorf("%d and %d papers of closed banks", a, b)
	}
	n := 0
	must(t, to.node.Banks.Payees(t.Context(), func(y bank.Payee) error { n++; return nil }))
	for _, id := range ids {
		if _, err := from.node.Banks.FindBank(t.Context(), id.String()); err != nil {
			t.Error(err)
		}
	}
	if n != len(ids) {
		t.Errorf("%d banks are listed", n)
	}
}
