package devchain

import (
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/mempool"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

// TestFullRBF: a transaction that did not signal it is replaced, with its
// descendants, by one that pays for that, and a refused replacement changes
// nothing, not even a byte of what it would have replaced.
func TestFullRBF(t *testing.T) {
	for name, opts := range map[string][]Option{"btcd's policy": nil, "a policy": {WithPolicy(Policy{Relay: 1000, Increment: 1000, Market: 1000})}} {
		t.Run(name, func(t *testing.T) {
			const value = 100_000
			ctx := t.Context()
			c, err := Open(t.TempDir(), opts...)
			conform.Must(t, err)
			defer c.Close()
			at := fund(t, c, value)
			mine(t, c, 1)
			tx := conform.Spend(t, at, value, 1000)
			child := conform.Spend(t, wire.Outpoint{Txid: wire.Hash(tx.TxHash())}, value-1000, 1000)
			conform.Must(t, c.Broadcast(ctx, tx))
			conform.Must(t, c.Broadcast(ctx, child))
			size := wire.Sat(mempool.GetTxVirtualSize(btcutil.NewTx(tx)))
			refused := conform.Spend(t, at, value, 2000+size-1)
			conform.WantErr(t, c.TestAccept(ctx, refused), chain.ErrReplacement)
			conform.WantErr(t, c.Broadcast(ctx, refused), chain.ErrReplacement)
			conform.WantErr(t, c.BroadcastPackage(ctx, []*btcwire.MsgTx{refused}), chain.ErrReplacement)
			for _, old := range []*btcwire.MsgTx{tx, child} {
				if old.TxIn[0].Sequence != btcwire.MaxTxInSequenceNum || !inMempool(c, old) {
					t.Fatal("a refused replacement changed what it conflicts with")
				}
			}
			last := conform.Spend(t, at, value, 2000+size)
			conform.Must(t, c.TestAccept(ctx, last))
			conform.Must(t, c.Broadcast(ctx, last))
			if inMempool(c, tx) || inMempool(c, child) || !inMempool(c, last) {
				t.Fatal("not replaced")
			}
			conform.WantErr(t, c.Broadcast(ctx, tx), chain.ErrReplacement)
			conform.WantErr(t, c.Broadcast(ctx, child), chain.ErrConflict)
			// As a package it replaces too.
			both := conform.Spend(t, at, value, 2000+3*size)
			conform.Must(t, c.BroadcastPackage(ctx, []*btcwire.MsgTx{both}))
			mine(t, c, 1)
			if len(c.Mempool()) != 0 || !c.confirmed(both) {
				t.Error("the last replacement is not mined")
			}
		})
	}
}
