package devchain

import (
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

// miner is a script that anybody may be paid to in these tests.
var miner = []byte{0x51}

func open(tb testing.TB, dir string) *Chain {
	tb.Helper()
	c, err := Open(dir)
	conform.Must(tb, err)
	tb.Cleanup(func() { c.Close() })
	return c
}

func mine(tb testing.TB, c *Chain, n int) []chain.BlockRef {
	tb.Helper()
	refs, err := c.Mine(tb.Context(), n, miner)
	conform.Must(tb, err)
	return refs
}

func fund(tb testing.TB, c *Chain, amount wire.Sat) wire.Outpoint {
	tb.Helper()
	o, err := c.Faucet(tb.Context(), conform.KeyScript(tb), amount)
	conform.Must(tb, err)
	return o
}

// active is the chain's hashes by height.
func active(tb testing.TB, c *Chain) (list []chainhash.Hash) {
	tb.Helper()
	tip, err := c.Tip(tb.Context())
	conform.Must(tb, err)
	for h := wire.Height(0); h <= tip.Height; h++ {
		hash, err := c.HashAt(tb.Context(), h)
		conform.Must(tb, err)
		b, at, err := c.Block(tb.Context(), hash)
		conform.Must(tb, err)
		if at != h || b.BlockHash() != hash || (h > 0 && b.Header.PrevBlock != list[h-1]) {
			tb.Fatalf("block %v at %d does not fit", hash, h)
		}
		list = append(list, hash)
	}
	return list
}

func inMempool(c *Chain, tx *btcwire.MsgTx) bool {
	for _, t := range c.Mempool() {
		if t.TxHash() == tx.TxHash() {
			return true
		}
	}
	return false
}
