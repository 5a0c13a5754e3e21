package node

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// advertiser is a town with an agent that has money, and somebody else.
func advertiser(t *testing.T) (w *town, agent, other *home) {
	w = emptyTown(t)
	genesis := wire.Height(0)
	w.hints = &genesis
	agent = w.openApart("agent", &deal.Policy{Rate: 20_000_000, MaxSize: 1 << 30, MaxBlocks: 1008, ValidFor: 12, Patience: 4, MaxStored: 1 << 30, MaxUnfunded: 1 << 28})
	other = w.openApart("other", nil)
	for _, h := range []*home{agent, other} {
		w.fund(h, 1_000_000)
	}
	return w, agent, other
}

// once is AdvertiseOnce when the wallet and the index have read the chain.
func (h *home) once() error {
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := h.node.Directory.AdvertiseOnce(h.town.t.Context(), 10_000); !errors.Is(err, directory.ErrApart) || time.Now().After(end) {
			return err
		}
	}
}

// hinting is how many unconfirmed transactions of the wallet pay for the hint.
func (h *home) hinting() (n int) {
	h.town.t.Helper()
	hint := hintOf(h.town.t, h)
	script, err := directory.HintScript(hint)
	must(h.town.t, err)
	must(h.town.t, h.node.store.View(h.town.t.Context(), func(tx engine.Tx) error {
		txs, err := h.node.wallet.Unconfirmed(tx)
		for _, t := range txs {
			for _, o := range t.TxOut {
				if string(o.PkScript) == string(script) {
					n++
				}
			}
		}
		return err
	}))
	return n
}

// TestAdvertiseOnce: an agent pays once for its hint, whatever becomes of the
// payment: it waits, is bumped, the home is closed, a block has it, a reorg takes
// it away.
func TestAdvertiseOnce(t *testing.T) {
	w, agent, _ := advertiser(t)
	balance := func() wire.Sat {
		b, err := agent.node.Coins.Balance(t.Context())
		must(t, err)
		return b.Confirmed + b.Pending
	}
	full := balance()
	must(t, agent.once())
	var txid wire.Hash
	must(t, agent.node.store.View(t.Context(), func(tx engine.Tx) error {
		txs, err := agent.node.wallet.Unconfirmed(tx)
		txid = contract.Txid(txs[0])
		return err
	}))
	must(t, agent.once())
	if n := agent.hinting(); n != 1 {
		t.Fatalf("%d payments", n)
	}
	_, err := agent.node.Coins.Bump(t.Context(), txid, wallet.Fee{Rate: 5_000})
	must(t, err)
	must(t, agent.once())
	if n := agent.hinting(); n != 1 {
		t.Fatalf("%d payments after a bump", n)
	}
	agent.cfg.Listen = agent.node.Addrs()
	must(t, agent.node.Close())
	agent.start()
	must(t, agent.once())
	if n := agent.hinting(); n != 1 {
		t.Fatalf("%d payments after a restart", n)
	}
	w.mine(1)
	must(t, agent.once())
	paid := full - balance()
	if n := agent.hinting(); n != 0 || paid <= 0 || paid > 5_000 {
		t.Fatalf("%d payments wait when one is confirmed, %v paid", n, paid)
	}
	if _, err := agent.node.Directory.Register(t.Context(), hintOf(t, agent), 0, wallet.Fee{}); !errors.Is(err, directory.ErrStands) {
		t.Errorf("registered again: %v", err)
	}
	must(t, w.chain.Reorg(t.Context(), 1, w.miner))
	w.mine(1)
	must(t, agent.once())
	if got := full - balance(); got != paid {
		t.Errorf("%v paid after a reorg, %v before", got, paid)
	}
}

// TestAdvertiseLimit: whoever outbids an agent again and again does not make it
// burn more than its operator allows.
func TestAdvertiseLimit(t *testing.T) {
	tier.NotShort(t)
	w, agent, other := advertiser(t)
	rival := hintOf(t, agent)
	rival.Addr = netip.MustParseAddrPort("127.0.0.1:1")
	bids := 0
	for round := range 20 {
		needed := wire.Sat(0)
		for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			_, err := other.node.Directory.Register(t.Context(), rival, needed, wallet.Fee{})
			if err == nil {
				break
			}
			var e blockname.Entry
			if e, needed, err = other.node.Directory.Entry(t.Context(), rival); err != nil || time.Now().After(end) {
				t.Fatalf("round %d: %v %v", round, e, err)
			}
			needed = max(needed, 1)
		}
		w.mine(1)
		err := agent.once()
		if errors.Is(err, directory.ErrOutbid) {
			if trouble := agent.node.Directory.HintTrouble(); !errors.Is(trouble, directory.ErrHintLost) || !errors.Is(trouble, directory.ErrOutbid) {
				t.Errorf("the hint is lost, and the node says %v", trouble)
			}
			break
		}
		must(t, err)
		must(t, agent.node.Directory.HintTrouble())
		bids++
		w.mine(int(deal.MarginsFor(wire.Regtest).BlocksPerDay))
	}
	e, _, err := agent.node.Directory.Entry(t.Context(), hintOf(t, agent))
	must(t, err)
	for _, b := range e {
		if b.Hint == hintOf(t, agent) && b.Burned > 10_000 {
			t.Errorf("%v burned", b.Burned)
		}
	}
	if bids < 5 || bids > 14 {
		t.Errorf("%d bids", bids)
	}
}
