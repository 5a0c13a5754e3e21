package delivery

import (
	"context"
	"log/slog"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/wire"
)

// pool is a mempool that holds a competitor's spends of some outputs, and asks of a
// replacement what Bitcoin Core asks.
type pool struct {
	Coins
	taken   map[wire.Outpoint]bool
	by      map[wire.Outpoint]*btcwire.MsgTx
	fees    map[*btcwire.MsgTx]wire.Sat
	values  map[wire.Outpoint]wire.Sat
	stiff   bool // it refuses every replacement
	refused int
	sent    int
}

func (p *pool) Broadcast(_ context.Context, tx *btcwire.MsgTx) (why string, tooLow bool, err error) {
	p.sent++
	fee := -wire.Sat(tx.TxOut[0].Value)
	for _, in := range tx.TxIn {
		fee += p.values[contract.OutpointOf(in.PreviousOutPoint)]
	}
	size := contract.VSize(contract.Weight(tx))
	for _, in := range tx.TxIn {
		at := contract.OutpointOf(in.PreviousOutPoint)
		old := p.by[at]
		switch {
		case p.taken[at]:
			p.refused++
			return "insufficient fee: a claim", false, nil
		case old == nil || old.TxHash() == tx.TxHash():
		case p.stiff || fee < p.fees[old]+wire.SatPerKVB(1000).Fee(size):
			p.refused++
			return "insufficient fee", false, nil
		}
	}
	for _, in := range tx.TxIn {
		p.by[contract.OutpointOf(in.PreviousOutPoint)] = tx
	}
	p.fees[tx] = fee
	return "", false, nil
}

// gathering is a Delivery with outputs to gather, and a mempool.
type gathering struct {
	*pool
	t      *testing.T
	d      *Delivery
	list   map[wire.Outpoint]contract.Refund
	script []byte
	market batch.Market
}

// newGathering returns one with n outputs.
func newGathering(t *testing.T, n int, value wire.Sat, estimate wire.SatPerKVB) *gathering {
	p := &pool{taken: map[wire.Outpoint]bool{}, by: map[wire.Outpoint]*btcwire.MsgTx{}, fees: map[*btcwire.MsgTx]wire.Sat{}, values: map[wire.Outpoint]wire.Sat{}}
	g := &gathering{pool: p, t: t, list: map[wire.Outpoint]contract.Refund{},
		market: batch.Market{Tip: 200, Estimate: estimate, Relay: 1000, Increment: 1000}}
	g.restart()
	for range n {
		g.add(value)
	}
	return g
}

// restart forgets what is not stored.
func (g *gathering) restart() {
	g.d = &Delivery{cfg: Config{Coins: g.pool, Log: slog.New(slog.DiscardHandler), Margins: deal.MarginsFor(wire.Mainnet)}}
}

// add adds an output of a message.
func (g *gathering) add(value wire.Sat) wire.Outpoint {
	g.t.Helper()
	i := byte(len(g.values))
	key := wire.Secret{31: 7}
	priv, err := key.PrivKey()
	if err != nil {
		g.t.Fatal(err)
	}
	pub := wire.XOnly(priv.PubKey())
	g.script = append([]byte{0x51, 0x20}, pub[:]...)
	out, err := contract.NewOutput(wire.Frozen{Blinding: wire.Secret{31: i + 1}, Expiry: 100, RefundKey: pub,
		Claims: []wire.ClaimLeaf{{ReleaseHash: wire.Hash{i}, SenderKey: pub, ClaimKey: pub}}})
	if err != nil {
		g.t.Fatal(err)
	}
	at := wire.Outpoint{Txid: wire.Hash{i + 1}}
	g.list[at] = contract.Refund{Output: out, At: at, Value: value, Key: key}
	g.values[at] = value
	return at
}

// day gathers a day later.
func (g *gathering) day() {
	g.t.Helper()
	g.sent, g.refused = 0, 0
	g.market.Tip += 144
	if err := g.d.takeAllBack(g.t.Context(), g.market, g.list, g.script); err != nil {
		g.t.Fatal(err)
	}
}

// txs returns the transactions in the mempool.
func (g *gathering) txs() map[*btcwire.MsgTx]bool {
	all := map[*btcwire.MsgTx]bool{}
	for _, tx := range g.by {
		all[tx] = true
	}
	return all
}

// lose empties the mempool.
func (g *gathering) lose() { clear(g.by) }

// TestGatherAfterRestart: refunds that are refused because an earlier one, which a
// restart has forgotten, is still in the mempool wait, and go out together once the
// mempool has lost it. None is worth its fee alone.
func TestGatherAfterRestart(t *testing.T) {
	for name, stays := range map[string]int{"lost at once": 0, "lost after days": 3} {
		t.Run(name, func(t *testing.T) {
			const n = 32
			g := newGathering(t, n, 400, 2000)
			g.day()
			if g.sent != 1 || g.refused != 0 || len(g.by) != n {
				t.Fatalf("%d sent, %d refused, %d outputs", g.sent, g.refused, len(g.by))
			}
			g.restart()
			g.market.Estimate = 1900
			g.day()
			if g.refused != 1 {
				t.Errorf("%d refusals after the restart", g.refused)
			}
			for range stays {
				g.day()
			}
			if len(g.by) != n || len(g.txs()) != 1 {
				t.Fatalf("%d outputs in %d transactions", len(g.by), len(g.txs()))
			}
			g.lose()
			g.day()
			if g.sent != 1 || g.refused != 0 || len(g.by) != n {
				t.Errorf("%d sent, %d refused, %d of %d outputs taken back", g.sent, g.refused, len(g.by), n)
			}
		})
	}
}

// TestGatherBesideClaim: a claim that competes for one output holds up that one, and
// those that cannot pay without it only until there are others.
func TestGatherBesideClaim(t *testing.T) {
	for name, wins := range map[string]bool{"the claim confirms": true, "the claim is dropped": false} {
		t.Run(name, func(t *testing.T) {
			const n = 32
			g := newGathering(t, n-1, 400, 2000)
			odd := g.add(400)
			g.taken[odd] = true
			g.day()
			g.day() // after a start, what is refused waits for a day
			out := len(g.by)
			if out < n-4 || out == n {
				t.Fatalf("%d of %d outputs are taken back beside a claim", out, n)
			}
			delete(g.taken, odd)
			if wins {
				delete(g.list, odd)
				g.add(400)
			}
			g.day()
			if g.sent == 0 || g.refused != 0 || len(g.by) != n {
				t.Errorf("%d sent, %d refused, %d of %d outputs taken back", g.sent, g.refused, len(g.by), n)
			}
		})
	}
}

// TestTakeBack: refunds that are gathered follow package batch. A claim that
// competes for one output holds up that one only, if the others can pay; a refund
// that is out is sent again, and not torn apart; it is replaced when the rate is worth
// it, and a refused replacement gives way to it.
func TestTakeBack(t *testing.T) {
	const n = 32
	g := newGathering(t, n-1, 800, 1000)
	odd := g.add(800)
	g.taken[odd] = true
	g.day()
	if g.sent != 1 || g.refused != 1 {
		t.Errorf("after the start: %d sent, %d refused", g.sent, g.refused)
	}
	g.day()
	if len(g.by) != n-1 || g.by[odd] != nil {
		t.Errorf("%d of %d outputs are taken back beside a claim", len(g.by), n)
	}
	if g.refused > 8 {
		t.Errorf("%d refusals", g.refused)
	}
	// The claim wins; the next day the refunds are still out.
	delete(g.list, odd)
	delete(g.taken, odd)
	before := len(g.txs())
	g.day()
	if g.refused != 0 || g.sent != before || len(g.txs()) != before {
		t.Errorf("the next day: %d sent, %d refused, %d transactions, %d before", g.sent, g.refused, len(g.txs()), before)
	}
	// The rate rises.
	g.market.Estimate = 2500
	g.stiff = true
	g.day()
	if g.refused != before || len(g.txs()) != before || len(g.by) != n-1 {
		t.Errorf("replacements that are refused: %d refused, %d transactions, %d before", g.refused, len(g.txs()), before)
	}
	g.stiff = false
	g.day()
	for tx := range g.txs() {
		if rate := int64(g.fees[tx]) * 1000 / contract.VSize(contract.Weight(tx)); rate < 2400 || g.refused != 0 {
			t.Errorf("a refund pays %d sat/kvB; %d refused", rate, g.refused)
		}
	}
	// A claim confirms of an output that shares a transaction, which is lost: the
	// others go out again, and the transactions beside it stay.
	for _, one := range g.list {
		tx := g.by[one.At]
		if len(tx.TxIn) < 4 {
			continue
		}
		for _, in := range tx.TxIn {
			delete(g.by, contract.OutpointOf(in.PreviousOutPoint))
		}
		delete(g.list, one.At)
		break
	}
	g.day()
	if g.refused != 0 || len(g.by) != n-2 || len(g.txs()) != before {
		t.Errorf("after a claim: %d refused, %d of %d outputs, %d transactions, %d before", g.refused, len(g.by), n-2, len(g.txs()), before)
	}
	// What is not worth its fee stays.
	g.lose()
	g.restart()
	g.market.Estimate = 20_000
	if g.day(); g.sent != 0 {
		t.Errorf("%d refunds that are not worth their fee", g.sent)
	}
}
