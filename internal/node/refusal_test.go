package node

import (
	"context"
	"sync"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// stubborn refuses what spends certain outputs, as a node does whose mempool has
// another spend of them, and, if asked, every replacement.
type stubborn struct {
	chain.Backend
	mu      sync.Mutex
	spent   map[btcwire.OutPoint]bool
	replace bool
	rate    wire.SatPerKVB
	sent    []*btcwire.MsgTx
}

func (s *stubborn) FeeRate(context.Context, int) (wire.SatPerKVB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate, nil
}

func (s *stubborn) Broadcast(ctx context.Context, tx *btcwire.MsgTx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range tx.TxIn {
		if s.spent[in.PreviousOutPoint] {
			return chain.ErrConflict
		}
		for _, old := range s.sent {
			if s.replace && old.TxHash() != tx.TxHash() && contract.Spends(old, contract.OutpointOf(in.PreviousOutPoint)) >= 0 {
				return chain.ErrReplacement
			}
		}
	}
	s.sent = append(s.sent, tx)
	return s.Backend.Broadcast(ctx, tx)
}

// closing returns a payee of n banks with a penny of each rung, over a node that
// the test controls.
func closing(t *testing.T, n int) (w *town, to *home, s *stubborn, ids []bank.ID) {
	w = emptyTown(t, devchain.WithPolicy(devchain.Policy{Relay: 1000, Increment: 1000, Market: 1000}))
	from := w.home("payer", nil)
	from.start()
	s = &stubborn{Backend: w.chain, rate: 1000, spent: map[btcwire.OutPoint]bool{}}
	to = w.payeeOn("payee", s)
	to.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	for range n {
		ids = append(ids, w.opened(from, to, 50_000, 14, 100))
	}
	for _, id := range ids {
		w.pay(from, id, 1400)
	}
	return w, to, s, ids
}

// TestBatchWithABadMember: a close of several banks that is refused because of one
// of them is built anew in halves at once, so that the others confirm in the next
// block, and only the bad one waits.
func TestBatchWithABadMember(t *testing.T) {
	const banks = 6
	w, to, s, ids := closing(t, banks)
	s.mu.Lock()
	s.spent[contract.OutPoint(w.payeeOf(to, ids[2]).At)] = true
	s.mu.Unlock()
	closeTogether(t, to, ids...)
	w.settle()
	w.mine(2)
	for i, id := range ids {
		if y := w.payeeOf(to, id); (y.Spend != nil) != (i != 2) {
			t.Errorf("bank %d is %s", i, y.State())
		}
	}
	s.mu.Lock()
	clear(s.spent)
	s.mu.Unlock()
	w.mine(2)
	if y := w.payeeOf(to, ids[2]); y.Spend == nil {
		t.Errorf("the last bank is %s", y.State())
	}
}

// TestRefusedReplacement: a close whose replacement is refused is broadcast again,
// and when it confirms its banks are closed by it.
func TestRefusedReplacement(t *testing.T) {
	w, to, s, ids := closing(t, 2)
	closeTogether(t, to, ids...)
	w.settle()
	first := w.payeeOf(to, ids[0]).Alone
	s.mu.Lock()
	s.replace, s.rate = true, 5000
	s.mu.Unlock()
	must(t, w.chain.SetPolicy(t.Context(), devchain.Policy{Relay: 1000, Increment: 1000, Market: 3000})) // no block takes it
	w.mine(3)
	for _, id := range ids {
		y := w.payeeOf(to, id)
		if !y.Alone.Live() || y.Alone.Txid != first.Txid && y.Alone.Before == nil {
			t.Fatalf("%+v, at first %v", y.Alone, first.Txid)
		}
	}
	must(t, w.chain.SetPolicy(t.Context(), devchain.Policy{Relay: 1000, Increment: 1000, Market: 1000}))
	w.mine(2)
	for _, id := range ids {
		if y := w.payeeOf(to, id); y.Spend == nil || y.Spend.Txid != first.Txid {
			t.Errorf("%s by %+v, not %v", y.State(), y.Spend, first.Txid)
		}
	}
}

// TestRestsJoin: banks that are worth their fee only together, and stay apart because
// their close was refused, share one with each other and with a newer one later.
func TestRestsJoin(t *testing.T) {
	const rate = 20_000
	value := bank.CloseCost(14, rate) - 400 + 2*contract.Dust
	w, to, s, ids := closing(t, 0)
	from := w.homes["payer"]
	for range 3 {
		ids = append(ids, w.opened(from, to, value, 14, 10))
	}
	for _, id := range ids {
		w.pay(from, id, 140)
	}
	s.mu.Lock()
	s.rate = rate
	s.spent[contract.OutPoint(w.payeeOf(to, ids[1]).At)] = true
	s.mu.Unlock()
	w.mine(1)
	closeTogether(t, to, ids[:2]...)
	w.settle()
	must(t, to.node.Banks.CloseBank(t.Context(), payeeRef(ids[2])))
	w.settle()
	for i, id := range ids {
		if y := w.payeeOf(to, id); y.Alone.Live() || y.NextTry == 0 {
			t.Fatalf("bank %d alone: %+v, next at %d", i, y.Alone, y.NextTry)
		}
	}
	s.mu.Lock()
	clear(s.spent)
	s.mu.Unlock()
	w.mine(int(bank.MarginsFor(wire.Regtest).Again) + 2)
	for i, id := range ids {
		if y := w.payeeOf(to, id); y.Spend == nil || y.Spend.Txid != w.payeeOf(to, ids[0]).Spend.Txid {
			t.Errorf("bank %d is %s: %+v", i, y.State(), y.Alone)
		}
	}
}
