package node

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// moving is a chain whose estimate moves, and which may carry broadcasts nowhere.
type moving struct {
	chain.Backend
	rate atomic.Int64
	hold atomic.Bool
	low  atomic.Bool // it refuses all fees as too low
}

func (m *moving) FeeRate(context.Context, int) (wire.SatPerKVB, error) {
	return wire.SatPerKVB(m.rate.Load()), nil
}

func (m *moving) Broadcast(ctx context.Context, tx *btcwire.MsgTx) error {
	if m.low.Load() {
		return chain.ErrFeeTooLow
	}
	if m.hold.Load() {
		return nil
	}
	return m.Backend.Broadcast(ctx, tx)
}

// TestCloseFee: a close that no block takes follows the estimate in the next
// block, stays while the estimate does, and near its deadline pays at most ten
// times the estimate or half of what it brings.
func TestCloseFee(t *testing.T) {
	w := emptyTown(t)
	from := w.home("payer", nil)
	from.start()
	to := w.home("payee", nil)
	m := &moving{Backend: to.cfg.Chain}
	m.rate.Store(1000)
	to.cfg.Chain = m
	to.cfg.Banking = &banking.Policy{Policy: taking}
	to.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	to.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id, err := from.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 10_000, Rungs: 14, PerRung: 100, Blocks: 90, MaxFee: 10_000})
	must(t, err)
	w.settle()
	w.mine(3)
	w.pay(from, id, 1400)
	m.hold.Store(true)
	must(t, to.node.Banks.CloseBank(t.Context(), payeeRef(id)))
	w.settle()
	y := w.payeeOf(to, id)
	share := y.Ladder.Share(14)
	size := contract.VSize(contract.TxOverheadWeight + 2*contract.P2TROutputWeight + contract.RungInputWeight(13, 14))
	fee := func() wire.Sat {
		y = w.payeeOf(to, id)
		return y.Alone.Fee
	}
	for _, rate := range []wire.SatPerKVB{1000, 2000, 5000, 5000, 2000} {
		m.rate.Store(int64(rate))
		want := fee()
		if rate.Fee(size) >= want+batch.Increment.Fee(size) {
			want = rate.Fee(size)
		}
		w.mine(1)
		if got := fee(); got != want {
			t.Fatalf("%v at an estimate of %d, not %v", got, rate, want)
		}
	}
	if tier.Short() {
		return
	}
	last, rose := fee(), 0
	for y.Tip < y.Expiry-1 {
		w.mine(1)
		got := fee()
		if got != last {
			rose++
		}
		if tip := y.Tip; got != last && tip < y.Expiry-wire.Height(y.Margins.Bump) || got > min(share/2, wire.SatPerKVB(20_000).Fee(size)) {
			t.Fatalf("%v, then %v of %v at T − %d", last, got, share, y.Expiry-tip)
		}
		last = got
	}
	if rose == 0 {
		t.Error("nothing rose near the deadline")
	}
	t.Logf("%v of %v, after %d replacements", last, share, rose)
}

// TestFeeTooLow: a close of two banks that is refused because of its fee is built
// anew for both in the next block: no member is at fault, and alone each would have
// to outbid the fee of both where an earlier one is in a mempool.
func TestFeeTooLow(t *testing.T) {
	w := emptyTown(t)
	from := w.home("payer", nil)
	from.start()
	to := w.home("payee", nil)
	m := &moving{Backend: to.cfg.Chain}
	m.rate.Store(1000)
	to.cfg.Chain = m
	to.cfg.Banking = &banking.Policy{Policy: taking}
	to.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	to.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	a, b := w.opened(from, to, 50_000, 14, 100), w.opened(from, to, 50_000, 14, 100)
	w.pay(from, a, 1400)
	w.pay(from, b, 1400)
	m.low.Store(true)
	must(t, to.node.Banks.CloseBank(t.Context(), payeeRef(a)))
	must(t, to.node.Banks.CloseBank(t.Context(), payeeRef(b)))
	w.settle()
	w.mine(2)
	m.low.Store(false)
	m.rate.Store(2000)
	w.mine(2)
	y, z := w.payeeOf(to, a), w.payeeOf(to, b)
	if y.Solo || z.Solo || y.Spend == nil || z.Spend == nil || y.Spend.Txid != z.Spend.Txid {
		t.Errorf("%+v, alone %v; %+v, alone %v", y.Spend, y.Solo, z.Spend, z.Solo)
	}
}

// TestMarkets: at rates from 0.1 to 50 sat/vB, on nodes that refuse what is under
// their minimum and replacements that do not pay for their relay, with a rate that
// doubles between quote and claim and an estimate that lags: the message is
// delivered and an agent paid, the sender and the payer get back what is theirs,
// and the payee closes alone.
func TestMarkets(t *testing.T) {
	tier.NotShort(t)
	for _, c := range markets {
		t.Run(c.name, func(t *testing.T) {
			w := newTown(t, 3, devchain.WithPolicy(c.Policy))
			sender, payer, payee := w.homes["sender"], w.home("payer", nil), w.payee("payee", nil)
			payer.start()
			const purse = 1_000_000
			w.fund(sender, 2*purse)
			addr, _, err := payer.node.Coins.NewAddress(t.Context())
			must(t, err)
			_, err = sender.node.Coins.Pay(t.Context(), addr, purse, 0)
			must(t, err)
			w.mine(1)
			open := func() bank.ID {
				id, err := payer.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: payee.peer(), Value: 200_000, Rungs: 14, PerRung: 100, Blocks: 90, MaxFee: 50_000})
				must(t, err)
				w.settle()
				return id
			}
			paid, unpaid := open(), open()
			body := []byte("whatever it costs")
			ref := w.send(body, wire.PerAgent)
			w.mine(int(bank.MarginsFor(wire.Regtest).ConfLarge) - 4) // funded, and not released yet
			after := c.Policy
			after.Market *= 2
			must(t, w.chain.SetPolicy(t.Context(), after))
			w.mine(4)
			w.pay(payer, paid, 700)
			must(t, payee.node.Banks.CloseBank(t.Context(), payeeRef(paid)))
			w.settle()
			var s deal.Sender
			for blocks := 0; ; blocks++ {
				state, err := sender.node.Engine().State(t.Context(), ref)
				must(t, err)
				s = state.(deal.Sender)
				p, q := w.payer(payer, paid), w.payer(payer, unpaid)
				if s.Interest().Done && p.Returned != nil && q.State() == bank.StateRefunded {
					t.Logf("over after %d blocks", blocks)
					break
				}
				if blocks > 150 {
					t.Fatalf("message %s, banks %s (change %v) and %s", s.State(), p.State(), p.Returned, q.State())
				}
				w.mine(1)
			}
			w.mine(int(deal.MarginsFor(wire.Regtest).Final))
			if got := w.read(); s.State() != "delivered" || !bytes.Equal(got, body) {
				t.Errorf("the message is %s: %q", s.State(), got)
			}
			earned := wire.Sat(0)
			for name, h := range w.homes {
				if h.cfg.Policy != nil {
					b, err := h.node.Coins.Balance(t.Context())
					must(t, err)
					earned += b.Confirmed
					t.Logf("%s has %v", name, b.Confirmed)
				}
			}
			if earned < contract.Dust {
				t.Errorf("the agents have %v", earned)
			}
			if y := w.payeeOf(payee, paid); y.Spend == nil || y.Spend.Rung != 7 {
				t.Errorf("the payee's bank is %s", y.State())
			}
			w.balanced(2 * purse)
		})
	}
}

// markets are rates at which a home has to work, and nodes as they are there.
var markets = []struct {
	name string
	devchain.Policy
}{
	{"0.1 sat per vB, Bitcoin Core 30", devchain.Policy{Relay: 100, Increment: 100, Market: 100, Lag: 2}},
	{"1 sat per vB, Bitcoin Core 29", devchain.Policy{Relay: 1000, Increment: 1000, Market: 1000, Lag: 2}},
	{"2 sat per vB", devchain.Policy{Relay: 1000, Increment: 1000, Market: 2000, Lag: 2}},
	{"50 sat per vB, a full mempool", devchain.Policy{Relay: 1000, Increment: 1000, Full: 20_000, Market: 50_000, Lag: 2}},
}

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
	to = w.home("payee", nil)
	s = &stubborn{Backend: to.cfg.Chain, rate: 1000, spent: map[btcwire.OutPoint]bool{}}
	to.cfg.Chain = s
	to.cfg.Banking = &banking.Policy{Policy: taking}
	to.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
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
	for _, id := range ids {
		must(t, to.node.Banks.CloseBank(t.Context(), payeeRef(id)))
	}
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
	for _, id := range ids {
		must(t, to.node.Banks.CloseBank(t.Context(), payeeRef(id)))
	}
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
