package devchain

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/mempool"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

// TestPolicy: a chain with a policy refuses, replaces, evicts and mines as its
// node's settings say, and its estimate lags behind the market.
func TestPolicy(t *testing.T) {
	const value = 100_000
	p := Policy{Relay: 100, Increment: 1000, Market: 500, Lag: 2}
	c, err := Open(t.TempDir(), WithPolicy(p))
	conform.Must(t, err)
	defer c.Close()
	at := fund(t, c, value)
	mine(t, c, 1)
	spend := func(fee wire.Sat) *btcwire.MsgTx {
		tx := conform.Spend(t, at, value, fee)
		tx.TxIn[0].Sequence = 0xfffffffd // it can be replaced
		conform.SignInput(t, tx, value)
		return tx
	}
	size := mempool.GetTxVirtualSize(btcutil.NewTx(spend(0)))
	send := func(what string, fee wire.Sat, want error) *btcwire.MsgTx {
		t.Helper()
		tx := spend(fee)
		if err := c.TestAccept(t.Context(), tx); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Fatalf("%s: tested: %v", what, err)
		}
		if err := c.Broadcast(t.Context(), tx); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Fatalf("%s: %v", what, err)
		}
		if want == nil != inMempool(c, tx) {
			t.Fatalf("%s: in the mempool: %v", what, want != nil)
		}
		return tx
	}
	low := wire.SatPerKVB(100).Fee(size)
	send("under the least rate", low-1, chain.ErrFeeTooLow)
	send("dust", value-329, chain.ErrRejected)
	first := send("the least rate", low, nil)
	send("a replacement that does not pay for its relay", low+wire.SatPerKVB(1000).Fee(size)-1, chain.ErrFeeTooLow)
	mine(t, c, 1)
	if !inMempool(c, first) {
		t.Fatal("mined under the market's rate")
	}
	full := p
	full.Full = 400
	conform.Must(t, c.SetPolicy(t.Context(), full))
	if inMempool(c, first) {
		t.Fatal("a full mempool keeps what pays least")
	}
	if fees, err := c.Fees(t.Context()); err != nil || fees != (chain.Fees{Relay: 100, Mempool: 400, Increment: 1000}) || fees.Least() != 400 {
		t.Fatalf("%+v, %v", fees, err)
	}
	conform.Must(t, c.SetPolicy(t.Context(), p))
	first = send("the least rate again", low, nil)
	second := send("a replacement", low+wire.SatPerKVB(1000).Fee(size), nil)
	if inMempool(c, first) {
		t.Fatal("both are in the mempool")
	}
	p.Market = 5000
	conform.Must(t, c.SetPolicy(t.Context(), p))
	for i, want := range []wire.SatPerKVB{500, 500, 5000} {
		if got, err := c.FeeRate(t.Context(), 6); err != nil || got != want {
			t.Errorf("%d blocks later: %d, %v", i, got, err)
		}
		mine(t, c, 1)
	}
	if !inMempool(c, second) {
		t.Fatal("mined under the market's rate")
	}
	third := send("at the market's rate", wire.SatPerKVB(5000).Fee(size), nil)
	mine(t, c, 1)
	if inMempool(c, third) {
		t.Fatal("not mined at the market's rate")
	}
}
