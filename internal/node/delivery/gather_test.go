package delivery

import (
	"context"
	"log/slog"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// pool is a mempool that holds a competitor's spends of some outputs, and asks of a
// replacement what Bitcoin Core asks.
type pool struct {
	Coins
	t       *testing.T
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

// TestTakeBack: refunds that are gathered follow package batch. A claim that
// competes for one output holds up that one only; a refund that is out is sent
// again, and not torn apart; it is replaced when the rate is worth it, and a refused
// replacement gives way to it.
func TestTakeBack(t *testing.T) {
	const n = 32
	ctx := t.Context()
	p := &pool{t: t, taken: map[wire.Outpoint]bool{}, by: map[wire.Outpoint]*btcwire.MsgTx{}, fees: map[*btcwire.MsgTx]wire.Sat{}, values: map[wire.Outpoint]wire.Sat{}}
	d := &Delivery{cfg: Config{Coins: p, Log: slog.New(slog.DiscardHandler)}}
	key := wire.Secret{31: 7}
	priv, err := key.PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	pub := wire.XOnly(priv.PubKey())
	list := map[wire.Outpoint]contract.Refund{}
	var odd wire.Outpoint
	for i := range byte(n) {
		out, err := contract.NewOutput(wire.Frozen{Blinding: wire.Secret{31: i + 1}, Expiry: 100, RefundKey: pub,
			Claims: []wire.ClaimLeaf{{ReleaseHash: wire.Hash{i}, SenderKey: pub, ClaimKey: pub}}})
		if err != nil {
			t.Fatal(err)
		}
		at := wire.Outpoint{Txid: wire.Hash{i + 1}}
		odd = at
		list[at] = contract.Refund{Output: out, At: at, Value: 800, Key: key}
		p.values[at] = 800
	}
	script := append([]byte{0x51, 0x20}, pub[:]...)
	market := batch.Market{Tip: 200, Estimate: 1000, Relay: 1000, Increment: 1000}
	rounds := func() {
		t.Helper()
		p.sent, p.refused = 0, 0
		for i := 0; ; i++ {
			again, err := d.takeBack(ctx, market, list, script)
			if err != nil {
				t.Fatal(err)
			}
			if !again {
				return
			}
			if i >= gatherRounds {
				t.Fatal("it goes on and on")
			}
		}
	}
	p.taken[odd] = true
	rounds()
	if len(p.by) != n-1 || p.by[odd] != nil {
		t.Errorf("%d of %d outputs are taken back beside a claim", len(p.by), n)
	}
	if p.refused > 8 {
		t.Errorf("%d refusals", p.refused)
	}
	// The claim wins; the next day the refunds are still out.
	delete(list, odd)
	delete(p.taken, odd)
	market.Tip += 144
	txs := func() map[*btcwire.MsgTx]bool {
		all := map[*btcwire.MsgTx]bool{}
		for _, tx := range p.by {
			all[tx] = true
		}
		return all
	}
	before := len(txs())
	rounds()
	if p.refused != 0 || p.sent != before || len(txs()) != before {
		t.Errorf("the next day: %d sent, %d refused, %d transactions, %d before", p.sent, p.refused, len(txs()), before)
	}
	// The rate rises.
	market.Tip, market.Estimate = market.Tip+144, 2500
	p.stiff = true
	rounds()
	if p.refused != before || len(txs()) != before || len(p.by) != n-1 {
		t.Errorf("replacements that are refused: %d refused, %d transactions, %d before", p.refused, len(txs()), before)
	}
	p.stiff = false
	market.Tip += 144
	rounds()
	for tx := range txs() {
		if rate := int64(p.fees[tx]) * 1000 / contract.VSize(contract.Weight(tx)); rate < 2400 || p.refused != 0 {
			t.Errorf("a refund pays %d sat/kvB; %d refused", rate, p.refused)
		}
	}
	// What is not worth its fee stays.
	d.gathered.in, p.by = nil, map[wire.Outpoint]*btcwire.MsgTx{}
	market.Estimate = 20_000
	if rounds(); p.sent != 0 {
		t.Errorf("%d refunds that are not worth their fee", p.sent)
	}
}
