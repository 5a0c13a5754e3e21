//go:build bitcoind

package bitcoind

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/ports"
	"github.com/bitgram/bitgram/wire"
)

// core is a process of Bitcoin Core on regtest without peers, which listens on
// loopback only. The program is $BITCOIND, or else bitcoind in PATH.
type core struct{ *btcd }

func startCore(t *testing.T, args ...string) *core {
	t.Helper()
	program := os.Getenv("BITCOIND")
	if program == "" {
		program = "bitcoind"
	}
	dir := t.TempDir()
	at := ports.Free(t)
	cfg := Config{URL: fmt.Sprintf("http://127.0.0.1:%d", at), CookieFile: filepath.Join(dir, "regtest", ".cookie")}
	c := &core{btcd: &btcd{t: t}}
	startProcess(t, exec.Command(program, append([]string{"-regtest", "-datadir=" + dir, "-listen=0", "-connect=0", "-dnsseed=0", "-fixedseeds=0",
		"-acceptnonstdtxn=0", "-persistmempool=0", "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", fmt.Sprintf("-rpcport=%d", at), "-printtoconsole=0"}, args...)...), func() bool {
		if _, err := os.Stat(cfg.CookieFile); err != nil {
			return false
		}
		if c.client == nil {
			c.client = newClient(t, cfg)
		}
		return c.client.Health(t.Context()) == nil
	})
	return c
}

func (b *core) mine(n int) {
	b.t.Helper()
	conform.Must(b.t, b.client.call(b.t.Context(), nil, "generatetoaddress", n, minerAddress(b.t)))
}

// fund pays from the oldest coinbase that is not spent; Bitcoin Core counts the
// block that spends it as well.
func (b *core) fund(script []byte, amount wire.Sat) wire.Outpoint {
	b.t.Helper()
	ref, err := b.client.Tip(b.t.Context())
	conform.Must(b.t, err)
	if mature := wire.Height(b.client.params.CoinbaseMaturity) + b.spent + 1; ref.Height < mature {
		b.mine(int(mature-ref.Height) + 10)
	}
	return b.btcd.fund(script, amount)
}

func (b *core) reorg(depth int) {
	b.t.Helper()
	b.invalidate(depth)
	// To another script, or the block could be the one that is invalid now.
	conform.Must(b.t, b.client.call(b.t.Context(), nil, "generatetodescriptor", 1, "raw(51)#8lvh9jxk"))
	b.mine(depth)
}

// TestConformanceCore: the same suite as against the embedded chain and btcd.
func TestConformanceCore(t *testing.T) {
	conform.Backend(t, func(t *testing.T) *conform.ChainHarness {
		b := startCore(t)
		return &conform.ChainHarness{
			Backend: b.client,
			Mine:    b.mine,
			Fund:    b.fund,
			Reorg:   b.reorg,
			Close:   func() { b.client.Close() },
			FullRBF: true, // since version 28
		}
	})
}

// burn spends a new coin into an OP_RETURN output of this many satoshi.
func (b *core) burn(amount wire.Sat, data []byte) error {
	b.t.Helper()
	const value = 100_000
	coin := b.fund(conform.KeyScript(b.t), value)
	b.mine(1)
	script, err := txscript.NullDataScript(data)
	conform.Must(b.t, err)
	tx := conform.Spend(b.t, coin, value, amount+1000)
	tx.AddTxOut(btcwire.NewTxOut(int64(amount), script))
	conform.SignInput(b.t, tx, value)
	return b.client.Broadcast(b.t.Context(), tx)
}

// TestCoreBurns: Bitcoin Core refuses to burn unless the call says how much.
func TestCoreBurns(t *testing.T) {
	if err := startCore(t).burn(5000, make([]byte, 80)); err != nil {
		t.Error(err)
	}
}

// TestCoreNoData: a node that relays no OP_RETURN outputs says so.
func TestCoreNoData(t *testing.T) {
	if err := startCore(t, "-datacarrier=0").burn(0, []byte("hint")); !errors.Is(err, chain.ErrNoData) {
		t.Error(err)
	}
}

// reward is the coinbase of a block and its value.
func (b *core) reward(h wire.Height) (wire.Outpoint, wire.Sat) {
	b.t.Helper()
	hash, err := b.client.HashAt(b.t.Context(), h)
	conform.Must(b.t, err)
	block, _, err := b.client.Block(b.t.Context(), hash)
	conform.Must(b.t, err)
	coinbase := block.Transactions[0]
	return wire.Outpoint{Txid: wire.Hash(coinbase.TxHash())}, wire.Sat(coinbase.TxOut[0].Value)
}

// TestCorePackage: a transaction that fell out of a full mempool comes back with
// its child, and not otherwise.
func TestCorePackage(t *testing.T) {
	b := startCore(t, "-maxmempool=5")
	const fill = 80
	b.mine(int(b.client.params.CoinbaseMaturity) + fill)
	ctx := t.Context()
	coin, value := b.reward(1)
	parent := conform.Spend(t, coin, value, 25)
	conform.Must(t, b.client.Broadcast(ctx, parent))
	script, err := txscript.NewScriptBuilder(txscript.WithScriptAllocSize(1 << 17)).AddOp(txscript.OP_RETURN).AddFullData(make([]byte, 90_000)).Script()
	conform.Must(t, err)
	for h := wire.Height(2); b.client.holds(ctx, parent); h++ {
		if h > fill {
			t.Fatal("the mempool is not full")
		}
		coin, value := b.reward(h)
		tx := conform.Spend(t, coin, value, 100_000)
		tx.AddTxOut(btcwire.NewTxOut(0, script))
		conform.SignInput(t, tx, value)
		conform.Must(t, b.client.Broadcast(ctx, tx))
	}
	child := conform.Spend(t, wire.Outpoint{Txid: wire.Hash(parent.TxHash())}, value-25, 5000)
	conform.WantErr(t, b.client.Broadcast(ctx, child), chain.ErrConflict)
	conform.WantErr(t, b.client.Broadcast(ctx, parent), chain.ErrFeeTooLow)
	conform.Must(t, b.client.BroadcastPackage(ctx, []*btcwire.MsgTx{parent, child}))
	if !b.client.holds(ctx, parent) || !b.client.holds(ctx, child) {
		t.Error("the package is not in the mempool")
	}
	b.mine(1)
	if out, err := b.client.Output(ctx, wire.Outpoint{Txid: wire.Hash(child.TxHash())}); err != nil || out == nil {
		t.Errorf("the child is not mined: %v, %v", out, err)
	}
}
