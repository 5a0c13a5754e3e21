package bank_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

const maxReorg = bank.MaxReorg

// TestReorgUndo: blocks that come and go again leave no trace but what cannot be
// unlearnt: from every state that the stories reach, up to six further blocks are
// connected, with every transaction that could be in them, and taken back; and up to
// six of the blocks that led to it are taken back and connected again (invariant
// ReorgUndo for banks).
func TestReorgUndo(t *testing.T) {
	t.Parallel()
	seen, reorgs, covered := map[[32]byte]bool{}, 0, map[string]int{}
	for _, s := range stories {
		w := newTown(t, nil)
		w.reached = func(h *house, r ref, state any) {
			switch state.(type) {
			case bank.Payer, bank.Payee:
			default:
				return
			}
			raw := encoded(t, state)
			if id := sha256.Sum256(raw); seen[id] {
				return
			} else {
				seen[id] = true
			}
			in := interest(state)
			if in.Forget {
				return
			}
			same := func(what string, got any, d int) {
				if a, b := encoded(t, lasting(state)), encoded(t, lasting(got)); !bytes.Equal(a, b) {
					t.Fatalf("%s, %v %s: %s %d blocks:\n%+v\n%+v", s.name, r, stateOf(state), what, d, state, got)
				}
				reorgs++
				covered[r.String()+" "+stateOf(state)]++
			}
			// Blocks that come, and go again.
			for kind, tx := range next(w, h, r, state) {
				now := state
				for d := wire.Height(1); d <= maxReorg; d++ {
					b := contract.Block{Height: in.Top + d, FeeRate: 1000}
					if d == 1 && tx != nil {
						b.Txs = []*btcwire.MsgTx{tx}
					}
					now, _ = one(t, now, bank.Connected{Block: b})
					back := now
					for u := in.Top + d; u > in.Top; u-- {
						back, _ = one(t, back, bank.Disconnected{Undo: contract.Undo{Height: u}})
					}
					same("with "+kind, back, int(d))
				}
			}
			// Blocks that go, and come again.
			now := state
			for d := wire.Height(1); d <= maxReorg && in.Top > d && h.knows(in.Top) && h.knows(in.Top+1-d); d++ {
				now, _ = one(t, now, bank.Disconnected{Undo: contract.Undo{Height: in.Top + 1 - d}})
				again := now
				for u := in.Top + 1 - d; u <= in.Top; u++ {
					again, _ = one(t, again, bank.Connected{Block: contract.Block{Height: u, FeeRate: 1000, Txs: w.block(u).Transactions}})
				}
				same("without", again, int(d))
			}
		}
		s.play(w)
	}
	for _, what := range []string{"Payer opening", "Payer open", "Payer stopped", "Payer closing", "Payer closed", "Payer refunded", "Payer failed",
		"Payee opening", "Payee open", "Payee stopped", "Payee closing", "Payee closed", "Payee refunded"} {
		if covered[what] == 0 {
			t.Errorf("not covered: %s", what)
		}
	}
	t.Logf("%d states, %d reorgs", len(seen), reorgs)
}

// knows reports whether a block that the house was told is still there.
func (h *house) knows(n wire.Height) bool {
	return n <= h.position() && n <= h.tip() && h.told[n] == h.hashAt(n)
}

func one(t *testing.T, s any, ev bank.Event) (any, []bank.Effect) {
	next, effects, err := step(s, ev)
	must(t, err)
	return next, effects
}

// next are the transactions that a block may bring to a bank, by what they are.
func next(w *town, h *house, r ref, state any) map[string]*btcwire.MsgTx {
	list := map[string]*btcwire.MsgTx{"nothing": nil}
	spend := func(what string, at wire.Outpoint, n uint32) {
		tx := btcwire.NewMsgTx(contract.TxVersion)
		op := contract.OutPoint(at)
		op.Index += n
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: op, Witness: btcwire.TxWitness{{1}, {2}}})
		tx.AddTxOut(btcwire.NewTxOut(1000, h.script))
		list[what] = tx
	}
	switch s := state.(type) {
	case bank.Payer:
		if s.Phase >= bank.PayerPublishing && s.Confirmed == nil && s.Phase != bank.PayerFailed {
			tx, err := contract.DecodeTx(s.Funding)
			must(w.t, err)
			list["its funding"] = tx
			spend("another with its coin", s.Inputs[0], 0)
		}
		if s.Confirmed != nil && s.Spend == nil {
			spend("a strange spend", s.At, 0)
			if tx, _, err := contract.BuildBankRefund([]contract.BankRefund{s.Back(h.bank(r))}, h.script, 1000, 0); err == nil && s.Tip >= s.Expiry {
				list["the refund"] = tx
			}
		}
		if s.Spend != nil && s.Returned == nil && s.Spend.Change > 0 {
			spend("a spend of the change", wire.Outpoint{Txid: s.Spend.Txid}, s.Spend.Vin)
		}
	case bank.Payee:
		if s.Confirmed != nil && s.Spend == nil {
			spend("a strange spend", s.At, 0)
			if s.Rung() > 0 {
				paper := h.papers[r]
				c, err := s.Closing(&paper)
				must(w.t, err)
				if tx, _, err := contract.BuildClose([]contract.BankClose{c}, nil, h.script, 1000, 0); err == nil {
					list["a close"] = tx
				}
			}
			if s.Joined != nil {
				tx, err := contract.ReadTx(s.Joined.Tx)
				must(w.t, err)
				list["the close by both"] = tx
			}
		}
	}
	return list
}

// lasting is a state without what a reorg does not take back: that the funding was
// confirmed once, and its witnesses; that taking pennies has stopped, and since
// when; that a bank that was given up is not. Nor does it bring back what is pruned
// of a bank whose end remains.
func lasting(s any) any {
	switch s := s.(type) {
	case bank.Payer:
		if s.Phase == bank.PayerFailed && s.At != (wire.Outpoint{}) {
			s.Phase = bank.PayerPublished
		}
		s.Funded, s.FailedBy, s.Failure = false, "", ""
		if value, change := s.Change(); s.Returned != nil || s.Spend != nil && (!change || value == 0) || s.Conflict != nil && s.Confirmed == nil {
			s.Inputs, s.Funding, s.Refund = nil, nil, nil
		}
		return s
	case bank.Payee:
		s.Funded, s.FundingTx, s.Stop, s.StopAt, s.JoinedAt = false, nil, 0, 0, 0
		if s.Spend != nil {
			s.Key, s.Offer, s.Joined, s.Alone = wire.Secret{}, nil, nil, nil
		}
		return s
	}
	return s
}
