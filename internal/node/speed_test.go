package node

import (
	"bytes"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/testing/tier"
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

// TestPaymentsLeaveALine: of payments over closed banks, a banker and a payee keep
// what is shown and what the payer may still ask for. A request that is repeated
// under its key, and a step that is repeated, are answered as before.
func TestPaymentsLeaveALine(t *testing.T) {
	tier.NotShort(t)
	w, from, banker, to, first, second := road(t, nil)
	pay := banking.Payment{To: to.node.Key(), Amount: 5_000_000, Step: 1_000_000, MaxFee: 1_000_000, Reference: "2026-117", Memo: "tea", Key: "tea of November"}
	id, err := from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	w.settle()
	relays := func(h *home) (list []bank.Relay) {
		must(t, h.node.Banks.Relays(t.Context(), func(r bank.Relay) error { list = append(list, r); return nil }))
		return list
	}
	for end := time.Now().Add(time.Minute); relays(banker)[0].Ack == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	was := map[*home][]bank.Relay{banker: relays(banker), to: relays(to)}
	last := was[to][0].Last
	receipt, err := from.node.Banks.Receipt(w.sending(from, id))
	must(t, err)
	must(t, from.node.Banks.CloseBank(t.Context(), payerRef(first)))
	must(t, banker.node.Banks.CloseBank(t.Context(), payerRef(second)))
	w.settle()
	w.mine(20)
	for h, list := range was {
		now := relays(h)
		if len(now) != 1 || len(list) != 1 {
			t.Fatalf("%d payments, then %d", len(list), len(now))
		}
		want := list[0]
		want.Over, want.Last = true, wire.Transfer{Hops: []wire.Hop{}}
		if h == to {
			want.Ack = nil
		}
		a, err := wire.Marshal(want)
		must(t, err)
		b, err := wire.Marshal(now[0])
		must(t, err)
		if !bytes.Equal(a, b) {
			t.Errorf("%+v\nis not %+v", now[0], want)
		}
	}
	// What is stored, in bytes.
	for _, h := range []*home{from, banker, to} {
		copied := filepath.Join(t.TempDir(), "copy")
		must(t, h.node.Snapshot(t.Context(), copied))
		db, err := sql.Open("sqlite", copied)
		must(t, err)
		rows, err := db.Query("SELECT kind, length(state) FROM contract")
		must(t, err)
		for rows.Next() {
			var kind string
			var size int
			must(t, rows.Scan(&kind, &size))
			if most := map[string]int{bank.KindPayer: 550, bank.KindPayee: 400, bank.KindRelay: 350, bank.KindSending: 350}[kind]; size > most {
				t.Errorf("%s: %d bytes, not at most %d", kind, size, most)
			}
		}
		must(t, errors.Join(rows.Err(), rows.Close(), db.Close()))
	}
	again, err := from.node.Banks.PayTo(t.Context(), pay)
	if err != nil || again != id {
		t.Errorf("the request, repeated: %v, %v, not %v", again, err, id)
	}
	if s := w.sending(from, id); !s.Done() || s.Acked != pay.Amount {
		t.Errorf("the payment is %s", s.State())
	}
	if r, err := from.node.Banks.Receipt(w.sending(from, id)); err != nil || *r != *receipt {
		t.Errorf("the receipt is %+v (%v), not %+v", r, err, receipt)
	}
	ack, err := service(to).Transfer(t.Context(), &last, &wire.Note{})
	if err != nil || ack.Index != last.Index || ack.Total != last.Total || to.node.Key().Verify(wire.TransferDigest(last.ID, ack.Index, ack.Total, to.node.Key()), ack.Sig) != nil {
		t.Errorf("the last step, repeated: %+v, %v", ack, err)
	}
	var refused *wire.Refusal
	next := last
	next.Index, next.Total = last.Index+1, last.Total+last.Amount
	if ack, err := service(to).Transfer(t.Context(), &next, &wire.Note{}); !errors.As(err, &refused) {
		t.Errorf("a further step: %+v, %v", ack, err)
	}
	if y := w.payeeOf(to, second); y.Assigned != pay.Amount || y.Alone != nil || y.Joined == nil || len(y.Joined.Tx) > 0 || y.Key != (wire.Secret{}) {
		t.Errorf("the payee's bank keeps %+v", y)
	}
}
