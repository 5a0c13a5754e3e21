// Package books reads from a chain what the parties of a test hold and have paid to
// miners, so that every satoshi can be accounted for.
package books

import (
	"context"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/wire"
)

// Chain is the blocks that a test reads.
type Chain interface {
	Tip(context.Context) (chain.BlockRef, error)
	HashAt(context.Context, wire.Height) (chainhash.Hash, error)
	Block(context.Context, chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error)
}

// Holdings returns what each script holds unspent, and the fees of all transactions.
func Holdings(t testing.TB, c Chain) (byScript map[string]wire.Sat, fees wire.Sat) {
	t.Helper()
	byScript = map[string]wire.Sat{}
	outs := map[btcwire.OutPoint]*btcwire.TxOut{}
	each(t, c, func(i int, tx *btcwire.MsgTx) {
		fee := wire.Sat(0)
		for _, in := range tx.TxIn {
			if o := outs[in.PreviousOutPoint]; o != nil {
				byScript[string(o.PkScript)] -= wire.Sat(o.Value)
				fee += wire.Sat(o.Value)
			}
		}
		for n, o := range tx.TxOut {
			outs[btcwire.OutPoint{Hash: tx.TxHash(), Index: uint32(n)}] = o
			byScript[string(o.PkScript)] += wire.Sat(o.Value)
			fee -= wire.Sat(o.Value)
		}
		if i > 0 { // the first makes the subsidy
			fees += fee
		}
	})
	return byScript, fees
}

// each calls f with every transaction of the chain, and its place in its block.
func each(t testing.TB, c Chain, f func(i int, tx *btcwire.MsgTx)) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tip, err := c.Tip(ctx)
	must(err)
	for h := wire.Height(1); h <= tip.Height; h++ {
		hash, err := c.HashAt(ctx, h)
		must(err)
		b, _, err := c.Block(ctx, hash)
		must(err)
		for i, tx := range b.Transactions {
			f(i, tx)
		}
	}
}

// Fees returns the sum of the fees of all transactions on the chain, without the
// first one, which is the faucet's own.
func Fees(t testing.TB, c Chain) (fees wire.Sat) {
	t.Helper()
	values := map[btcwire.OutPoint]int64{}
	began := false
	each(t, c, func(i int, tx *btcwire.MsgTx) {
		fee := int64(0)
		for n, o := range tx.TxOut {
			values[btcwire.OutPoint{Hash: tx.TxHash(), Index: uint32(n)}] = o.Value
			fee -= o.Value
		}
		for _, in := range tx.TxIn {
			fee += values[in.PreviousOutPoint]
		}
		if i == 0 { // it takes the fees and makes the subsidy
			return
		}
		if began {
			fees += wire.Sat(fee)
		}
		began = true
	})
	return fees
}
