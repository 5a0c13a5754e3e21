package node

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// moving is a chain whose estimate moves, and which may carry broadcasts nowhere.
type moving struct {
	chain.Backend
	rate atomic.Int64
	hold atomic.Bool
	low  atomic.Bool // it refuses all fees as too low
	// rises is the estimate from the next broadcast on, which is refused as too
	// low; 0: none.
	rises atomic.Int64
}

func (m *moving) FeeRate(context.Context, int) (wire.SatPerKVB, error) {
	return wire.SatPerKVB(m.rate.Load()), nil
}

func (m *moving) Broadcast(ctx context.Context, tx *btcwire.MsgTx) error {
	if r := m.rises.Swap(0); r > 0 {
		m.rate.Store(r)
		return chain.ErrFeeTooLow
	}
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
	m := &moving{Backend: w.chain}
	m.rate.Store(1000)
	to := w.payeeOn("payee", m)
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
	m := &moving{Backend: w.chain}
	m.rate.Store(1000)
	to := w.payeeOn("payee", m)
	to.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	a, b := w.opened(from, to, 50_000, 14, 100), w.opened(from, to, 50_000, 14, 100)
	w.pay(from, a, 1400)
	w.pay(from, b, 1400)
	m.low.Store(true)
	closeTogether(t, to, a, b)
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
	for _, i := range tier.NewSample(t).Choose(len(markets), 1) {
		c := markets[i]
		t.Run(c.name, func(t *testing.T) {
			w := newTown(t, 3, devchain.WithPolicy(c.Policy))
			sender, payer, payee := w.homes["sender"], w.home("payer", nil), w.payee("payee", nil)
			payer.start()
			const purse = 1_000_000
			w.fund(sender, 2*purse)
			addr, _, err := payer.node.Coins.NewAddress(t.Context())
			must(t, err)
			_, err = sender.node.Coins.Pay(t.Context(), addr, purse, wallet.Fee{})
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

// TestRateOfTheMoment: payments follow the estimate between two blocks, an absurd
// one is not believed, and a payment that was too low by then is built once more.
func TestRateOfTheMoment(t *testing.T) {
	w := emptyTown(t)
	h := w.home("payer", nil)
	m := &moving{Backend: h.cfg.Chain}
	m.rate.Store(1000)
	h.cfg.Chain = m
	h.start()
	w.mine(1)
	w.fund(h, 1_000_000)
	addr, _, err := h.node.Coins.NewAddress(t.Context())
	must(t, err)
	fee := func(tx *btcwire.MsgTx) (rate int64) {
		t.Helper()
		must(t, h.node.store.View(t.Context(), func(x engine.Tx) error {
			fee, _, size, err := h.node.wallet.(*wallet.Wallet).Cost(x, contract.Txid(tx))
			rate = int64(fee) * 1000 / size
			return err
		}))
		return rate
	}
	m.rate.Store(20_000) // no block since
	tx, err := h.node.Coins.Pay(t.Context(), addr, 100_000, wallet.Fee{})
	must(t, err)
	if got := fee(tx); got < 20_000 || got > 20_200 {
		t.Errorf("it pays %d sat/kvB", got)
	}
	bumped, err := h.node.Coins.Bump(t.Context(), contract.Txid(tx), wallet.Fee{})
	must(t, err)
	if got := fee(bumped); got < 21_000 || got > 21_200 {
		t.Errorf("bumped, it pays %d sat/kvB", got)
	}
	w.mine(1)
	m.rate.Store(1 << 40)
	if _, err := h.node.Coins.Pay(t.Context(), addr, 1000, wallet.Fee{}); !errors.Is(err, wallet.ErrFee) {
		t.Errorf("an absurd estimate: %v", err)
	}
	w.mine(1)
	if got := h.node.Engine().FeeRate(); got != chain.MaxEstimate {
		t.Errorf("the engine believes %d sat/kvB", got)
	}
	// The first of two tries is refused as too low; the rate is asked for again.
	m.rate.Store(2000)
	m.rises.Store(3000)
	if tx, err = h.node.Coins.Pay(t.Context(), addr, 100_000, wallet.Fee{}); err != nil {
		t.Fatal(err)
	}
	if got := fee(tx); got < 3000 || got > 3100 {
		t.Errorf("the second try pays %d sat/kvB", got)
	}
}

// filling is a chain whose node's mempool fills when it is asked for its policy.
type filling struct {
	chain.Backend
	fill atomic.Pointer[func()]
}

func (f *filling) Fees(ctx context.Context) (chain.Fees, error) {
	if fill := f.fill.Swap(nil); fill != nil {
		(*fill)()
	}
	return f.Backend.Fees(ctx)
}

// TestFeeRises: the node's minimum rises between the quotes and the funding. The
// funding is not signed; the message asks again and is paid for at the new rate.
func TestFeeRises(t *testing.T) {
	p := devchain.Policy{Relay: 100, Increment: 1000, Market: 1000}
	w := newTown(t, 3, devchain.WithPolicy(p))
	h := w.homes["sender"]
	w.fund(h, 1_000_000)
	must(t, h.node.Close())
	f := &filling{Backend: h.cfg.Chain}
	h.cfg.Chain = f
	h.open()
	must(t, h.node.Coins.Synced(t.Context()))
	fill := func() {
		p.Full, p.Market = 5000, 5000
		must(t, w.chain.SetPolicy(t.Context(), p))
	}
	f.fill.Store(&fill)
	ref := w.send([]byte("at last"), wire.PerAgent)
	state, err := h.node.Engine().State(t.Context(), ref)
	must(t, err)
	s := state.(deal.Sender)
	if s.Phase != deal.SenderPublished || s.Attempt != 1 {
		t.Fatalf("%v in attempt %d: %s", s.Phase, s.Attempt, s.Failure)
	}
	must(t, h.node.store.View(t.Context(), func(x engine.Tx) error {
		fee, _, size, err := h.node.wallet.(*wallet.Wallet).Cost(x, s.Txid)
		if fee < wire.SatPerKVB(5000).Fee(size) {
			t.Errorf("the funding pays %v for %d vB", fee, size)
		}
		return err
	}))
	w.mine(1)
	b, err := h.node.Coins.Balance(t.Context())
	must(t, err)
	if b.Locked != 0 || b.Pending != 0 {
		t.Errorf("%+v", b)
	}
}

// TestGather: outputs that nobody claimed and that are not worth a refund of their
// own end their message, are counted, and are taken back together.
func TestGather(t *testing.T) {
	p := devchain.Policy{Relay: 100, Increment: 1000, Market: 1000}
	w := newTown(t, 1, devchain.WithPolicy(p))
	h := w.homes["sender"]
	w.fund(h, 1_000_000)
	to := w.homes["recipient"].node.Key()
	send := func() engine.Ref {
		ref, err := h.node.Delivery.Send(t.Context(), delivery.Letter{To: to, Body: strings.NewReader("small"),
			Agents: 1, Shape: wire.PerAgent, MaxCost: 100_000, Blocks: 24})
		must(t, err)
		w.settle()
		return ref
	}
	state := func(ref engine.Ref) *deal.Sender {
		state, err := h.node.Engine().State(t.Context(), ref)
		must(t, err)
		s := state.(deal.Sender)
		return &s
	}
	rest := func() wire.Sat {
		sum, err := h.node.Delivery.Rest(t.Context())
		must(t, err)
		return sum
	}
	market := func(rate wire.SatPerKVB) {
		p.Market = rate
		must(t, w.chain.SetPolicy(t.Context(), p))
	}
	// expire mines until the message is over and its outputs are left.
	expire := func(ref engine.Ref) (s *deal.Sender) {
		for s = state(ref); s.Left == 0; s = state(ref) {
			if s.Tip > s.Frozen[0].Expiry+20 {
				t.Fatalf("nothing is left: %+v", s)
			}
			w.mine(1)
		}
		return s
	}
	first := send()
	must(t, w.homes["recipient"].node.Close()) // nobody fetches it
	delete(w.homes, "recipient")
	w.mine(8)
	market(4000)
	s := expire(first)
	if s.State() != "failed" || rest() != s.Values[0] || rest() == 0 {
		t.Fatalf("%s with %v left", s.State(), rest())
	}
	if _, _, err := s.Step(deal.Discarded{}); err != nil {
		t.Errorf("it cannot be deleted: %v", err)
	}
	// With what two more have left, it is worth the fee.
	market(1000)
	for range 20 { // the refund at the lower rate takes the first one
		if w.mine(1); state(first).State() == "refunded" {
			break
		}
	}
	if state(first).State() != "refunded" || rest() != 0 {
		t.Fatalf("at the lower rate: %s, %v left", state(first).State(), rest())
	}
	second, third := send(), send()
	w.mine(8)
	market(4000)
	expire(second)
	for range 20 {
		if w.mine(1); state(second).State() == "refunded" {
			break
		}
	}
	a, b := state(second), state(third)
	if a.State() != "refunded" || b.State() != "refunded" || a.Spends[0].Txid != b.Spends[0].Txid || rest() != 0 {
		t.Errorf("%s and %s, %v left", a.State(), b.State(), rest())
	}
}

// alone is a chain whose node accepts no packages.
type alone struct{ chain.Backend }

// TestBumpEvicted: a funding that fell out of the mempool, because the minimum
// rose, is bumped by a child that is sent with it. A node that accepts no packages
// is quoted with the true reason.
func TestBumpEvicted(t *testing.T) {
	p := devchain.Policy{Relay: 100, Increment: 1000, Market: 1000}
	w := newTown(t, 3, devchain.WithPolicy(p))
	h := w.homes["sender"]
	w.fund(h, 1_000_000)
	ref := w.send([]byte("stuck"), wire.PerAgent)
	sender := func() deal.Sender {
		s, err := h.node.Engine().State(t.Context(), ref)
		must(t, err)
		return s.(deal.Sender)
	}
	funding := sender().Txid
	p.Full, p.Market = 5000, 5000
	must(t, w.chain.SetPolicy(t.Context(), p))
	if len(w.chain.Mempool()) != 0 {
		t.Fatal("the funding is in the mempool")
	}
	must(t, h.node.Close())
	h.cfg.Chain = alone{w.chain}
	h.open()
	_, err := h.node.Coins.Bump(t.Context(), funding, wallet.Fee{})
	if !errors.Is(err, chain.ErrFeeTooLow) || !strings.Contains(err.Error(), chainhash.Hash(funding).String()) {
		t.Errorf("without packages: %v", err)
	}
	must(t, h.node.Close())
	h.cfg.Chain = w.chain
	h.open()
	must(t, h.node.Coins.Synced(t.Context()))
	_, err = h.node.Coins.Bump(t.Context(), funding, wallet.Fee{})
	must(t, err)
	w.mine(1)
	if sender().Confirmed == nil {
		t.Error("the funding is not confirmed")
	}
}
