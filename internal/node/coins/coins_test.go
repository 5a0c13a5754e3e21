package coins

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// bitcoin is a node, and the engine above it, that a test controls.
type bitcoin struct {
	Chain
	at     chain.BlockRef
	rate   wire.SatPerKVB
	fees   chain.Fees
	answer []error // to the next broadcasts; then nil
	sent   []*btcwire.MsgTx
}

func (b *bitcoin) Params() *chaincfg.Params                      { return &chaincfg.RegressionNetParams }
func (b *bitcoin) Position() chain.BlockRef                      { return b.at }
func (b *bitcoin) Trouble() error                                { return nil }
func (b *bitcoin) WaitSynced(context.Context) error              { return nil }
func (b *bitcoin) WaitHeight(context.Context, wire.Height) error { return nil }
func (b *bitcoin) Fees(context.Context) (chain.Fees, error)      { return b.fees, nil }
func (b *bitcoin) Broadcast(_ context.Context, tx *btcwire.MsgTx) error {
	b.sent = append(b.sent, tx)
	if len(b.answer) == 0 {
		return nil
	}
	err := b.answer[0]
	b.answer = b.answer[1:]
	return err
}

// asEngine is the bitcoin as the engine: the estimate of the last block.
type asEngine struct{ *bitcoin }

func (e asEngine) FeeRate() wire.SatPerKVB { return e.rate }

// asChain is it as the node: the estimate of the moment.
type asChain struct{ *bitcoin }

func (c asChain) FeeRate(context.Context, int) (wire.SatPerKVB, error) { return c.rate, nil }

// purse is a wallet with a confirmed coin of 100,000 sat.
func purse(t *testing.T) (*Coins, *bitcoin) {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "db"))
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	w, err := wallet.New(make([]byte, 64), &chaincfg.RegressionNetParams, 0)
	must(t, err)
	b := &bitcoin{at: chain.BlockRef{Hash: chainhash.Hash{1}, Height: 1}, rate: 1000, fees: chain.Fees{Relay: 1000, Increment: 1000}}
	c := New(Config{Store: s, Wallet: w, Chain: asChain{b}, Engine: asEngine{b}, Log: slog.New(slog.DiscardHandler)})
	must(t, s.Update(t.Context(), func(tx engine.Tx) error { return w.Init(tx) }))
	_, script, err := c.NewAddress(t.Context())
	must(t, err)
	pay := btcwire.NewMsgTx(2)
	pay.AddTxIn(&btcwire.TxIn{PreviousOutPoint: btcwire.OutPoint{Hash: chainhash.Hash{9}}})
	pay.AddTxOut(btcwire.NewTxOut(100_000, script))
	must(t, s.Update(t.Context(), func(tx engine.Tx) error {
		_, err := c.Connect(tx, &engine.Block{Ref: b.at, Txs: []*btcwire.MsgTx{btcwire.NewMsgTx(2), pay}}) // after a coinbase
		return errors.Join(err, tx.Advance(b.at))
	}))
	return c, b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func spendable(t *testing.T, c *Coins) wire.Sat {
	t.Helper()
	b, err := c.Balance(t.Context())
	must(t, err)
	return b.Spendable()
}

// payee is the address of somebody else.
var payee = func() string {
	w, err := wallet.New(bytes.Repeat([]byte{1}, 64), &chaincfg.RegressionNetParams, 0)
	if err != nil {
		panic(err)
	}
	addr, err := w.Address(append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...))
	if err != nil {
		panic(err)
	}
	return addr
}()

// TestPay: a payment is stored before it is broadcast. If the node is away it is
// kept and sent later; if it is refused, its coins are free again; if the fee is too
// low, it is built once more at the rate of the moment, unless its rate was given.
func TestPay(t *testing.T) {
	c, b := purse(t)
	b.answer = []error{chain.ErrUnavailable}
	_, err := c.Pay(t.Context(), payee, 10_000, wallet.Fee{})
	must(t, err)
	kept := func() (n int) {
		list, err := c.History(t.Context())
		must(t, err)
		for _, r := range list {
			if r.Kept {
				n++
			}
		}
		return n
	}
	if kept() != 1 {
		t.Errorf("%d payments are kept", kept())
	}
	must(t, c.rebroadcast(t.Context()))
	if kept() != 0 || len(b.sent) != 2 || b.sent[0].TxHash() != b.sent[1].TxHash() {
		t.Errorf("%d payments are kept, %d sent", kept(), len(b.sent))
	}

	c, b = purse(t)
	b.answer = []error{chain.ErrRejected}
	if _, err := c.Pay(t.Context(), payee, 10_000, wallet.Fee{}); !errors.Is(err, chain.ErrRejected) {
		t.Errorf("refused: %v", err)
	}
	if got := spendable(t, c); got != 100_000 {
		t.Errorf("%v after a refusal", got)
	}
	for _, given := range []wire.SatPerKVB{0, 1000} {
		c, b = purse(t)
		b.answer = []error{chain.ErrFeeTooLow}
		_, err := c.Pay(t.Context(), payee, 10_000, wallet.Fee{Rate: given})
		if (err == nil) != (given == 0) || given == 0 && len(b.sent) != 2 || given != 0 && spendable(t, c) != 100_000 {
			t.Errorf("rate %d: %v, %d sent", given, err, len(b.sent))
		}
	}
}

// TestPublish: a funding is signed only when the backup is current, its contract
// wants it, it is not late and the node's minimum allows its fee. Otherwise nothing
// is signed or sent.
func TestPublish(t *testing.T) {
	ref := engine.Ref{Kind: "sender", ID: wire.Hash{3}}
	yes := func(engine.Tx) (bool, error) { return true, nil }
	for _, one := range []struct {
		name    string
		change  func(*Coins, *bitcoin)
		wants   func(engine.Tx) (bool, error)
		until   wire.Height
		low     bool
		refused bool
		failed  bool
	}{
		{name: "published", until: 10},
		{name: "no backup", change: func(c *Coins, _ *bitcoin) {
			c.secure = func(context.Context) error { return errors.New("no backup") }
		}, until: 10, failed: true},
		{name: "unwanted", wants: func(engine.Tx) (bool, error) { return false, nil }, until: 10, refused: true},
		{name: "late", until: 1, refused: true},
		{name: "the minimum has risen", change: func(_ *Coins, b *bitcoin) { b.fees.Mempool = 50_000 }, until: 10, low: true, refused: true},
		{name: "refused", change: func(_ *Coins, b *bitcoin) { b.answer = []error{chain.ErrRejected} }, until: 10, refused: true},
	} {
		t.Run(one.name, func(t *testing.T) {
			c, b := purse(t)
			var funding *btcwire.MsgTx
			must(t, c.store.Update(t.Context(), func(tx engine.Tx) error {
				p, short, err := c.Lock(tx, ref, 20_000, contract.TxOverheadWeight+contract.P2TROutputWeight)
				if err != nil || short != nil {
					return errors.Join(err, errors.New("no coins"))
				}
				funding = btcwire.NewMsgTx(2)
				for _, in := range p.Inputs {
					funding.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(in), Sequence: contract.Sequence})
				}
				funding.AddTxOut(btcwire.NewTxOut(20_000, p.ChangeScript))
				funding.AddTxOut(btcwire.NewTxOut(int64(p.Change), p.ChangeScript))
				return nil
			}))
			if one.change != nil {
				one.change(c, b)
			}
			if one.wants == nil {
				one.wants = yes
			}
			raw := contract.NewSent(funding, 0, 0).Tx
			why, low, err := c.Publish(t.Context(), ref, raw, nil, one.until, one.wants)
			if (err != nil) != one.failed || (why != "") != one.refused || low != one.low {
				t.Errorf("%q, low %v, %v", why, low, err)
			}
			signed, err := false, error(nil)
			must(t, c.store.View(t.Context(), func(tx engine.Tx) error {
				signed, err = c.Signed(tx, raw)
				return err
			}))
			good := !one.failed && !one.refused
			if signed != good || good != (len(b.sent) == 1) && one.name != "refused" {
				t.Errorf("signed %v, %d sent", signed, len(b.sent))
			}
		})
	}
}
