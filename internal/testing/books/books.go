// Package books reads from a chain what the parties of a test have paid to
// miners, so that every satoshi can be accounted for.
package books

import (
	"testing"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/wire"
)

// Fees returns the sum of the fees of all transactions on the chain, without the
// first one, which is the faucet's own.
func Fees(t testing.TB, c chain.Backend) (fees wire.Sat) {
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
	values := map[wire.Outpoint]wire.Sat{}
	began := false
	for h := wire.Height(1); h <= tip.Height; h++ {
		hash, err := c.HashAt(ctx, h)
		must(err)
		b, _, err := c.Block(ctx, hash)
		must(err)
		for i, tx := range b.Transactions {
			fee := wire.Sat(0)
			for n, o := range tx.TxOut {
				values[wire.Outpoint{Txid: wire.Hash(tx.TxHash()), Vout: uint32(n)}] = wire.Sat(o.Value)
				fee -= wire.Sat(o.Value)
			}
			for _, in := range tx.TxIn {
				fee += values[wire.Outpoint{Txid: wire.Hash(in.PreviousOutPoint.Hash), Vout: in.PreviousOutPoint.Index}]
			}
			if i == 0 { // it takes the fees and makes the subsidy
				continue
			}
			if began {
				fees += fee
			}
			began = true
		}
	}
	return fees
}
