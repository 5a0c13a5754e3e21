package node

import (
	"context"
	"sync/atomic"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// moving is a chain whose estimate moves, and which may carry broadcasts nowhere.
type moving struct {
	chain.Backend
	rate atomic.Int64
	hold atomic.Bool
}

func (m *moving) FeeRate(context.Context, int) (wire.SatPerKVB, error) {
	return wire.SatPerKVB(m.rate.Load()), nil
}

func (m *moving) Broadcast(ctx context.Context, tx *btcwire.MsgTx) error {
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
	to.cfg.Banking = &Banking{Policy: taking}
	to.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	to.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id, err := from.node.OpenBank(t.Context(), BankTerms{Peer: to.peer(), Value: 10_000, Rungs: 14, PerRung: 100, Blocks: 90, MaxFee: 10_000})
	must(t, err)
	w.settle()
	w.mine(3)
	w.pay(from, id, 1400)
	m.hold.Store(true)
	must(t, to.node.CloseBank(t.Context(), payeeRef(id)))
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
