package conform

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/wire"
)

// ChainHarness is a backend under test, with hooks that change its chain. Each
// hook returns when the backend itself shows the result.
type ChainHarness struct {
	chain.Backend
	// Mine mines n blocks with what the mempool holds.
	Mine func(n int)
	// Fund pays amount to script, in the mempool.
	Fund func(script []byte, amount wire.Sat) wire.Outpoint
	// Reorg replaces the last depth blocks by at least one more, with the same
	// transactions.
	Reorg func(depth int)
	// Close stops the node.
	Close func()
	// FullRBF: the node replaces a transaction that did not signal it, too.
	FullRBF bool
}

// patience is how long a signal may take on a busy machine.
const patience = 2 * time.Minute

// Key is a test's single key, for coins that it spends itself.
var Key = func() *btcec.PrivateKey {
	k, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{0x42}, 32))
	return k
}()

// KeyScript is the P2TR script of Key.
func KeyScript(tb testing.TB) []byte {
	s, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(Key.PubKey()))
	Must(tb, err)
	return s
}

// Spend is a signed transaction of one input of Key's, worth value, that pays
// everything but fee back to Key.
func Spend(tb testing.TB, at wire.Outpoint, value, fee wire.Sat) *btcwire.MsgTx {
	tb.Helper()
	tx := btcwire.NewMsgTx(2)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: btcwire.OutPoint{Hash: chainhash.Hash(at.Txid), Index: at.Vout}, Sequence: 0xffffffff})
	tx.AddTxOut(btcwire.NewTxOut(int64(value-fee), KeyScript(tb)))
	SignInput(tb, tx, value)
	return tx
}

// SignInput signs the single input of tx, a coin of Key's.
func SignInput(tb testing.TB, tx *btcwire.MsgTx, value wire.Sat) {
	tb.Helper()
	script := KeyScript(tb)
	prev := txscript.NewCannedPrevOutputFetcher(script, int64(value))
	sig, err := txscript.RawTxInTaprootSignature(tx, txscript.NewTxSigHashes(tx, prev), 0, int64(value), script, nil, txscript.SigHashDefault, Key)
	Must(tb, err)
	tx.TxIn[0].Witness = btcwire.TxWitness{sig}
}

// Must ends the test where err is not nil.
func Must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// WantErr reports an error that is not want.
func WantErr(tb testing.TB, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("got error %v, want %v", err, want)
	}
}

// Backend runs the suite of chain.Backend, or the named parts of it. open
// starts a new chain.
func Backend(t *testing.T, open func(t *testing.T) *ChainHarness, parts ...string) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *ChainHarness)
	}{
		{"Agreement", backendAgreement},
		{"NotFound", backendNotFound},
		{"Broadcast", backendBroadcast},
		{"Output", backendOutput},
		{"Refusals", backendRefusals},
		{"Watch", backendWatch},
		{"Reorg", backendReorg},
		{"Cancelled", backendCancelled},
		{"Load", backendLoad},
	} {
		if len(parts) > 0 && !slices.Contains(parts, c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			t.Cleanup(h.Close)
			c.run(t, h)
		})
	}
}

func tip(t *testing.T, h *ChainHarness) chain.BlockRef {
	t.Helper()
	ref, err := h.Tip(t.Context())
	Must(t, err)
	return ref
}

// checkChain walks from the tip to the genesis block.
func checkChain(t *testing.T, h *ChainHarness) {
	t.Helper()
	ref := tip(t, h)
	want := ref.Hash
	for height := ref.Height; ; height-- {
		hash, err := h.HashAt(t.Context(), height)
		Must(t, err)
		if hash != want {
			t.Fatalf("block %d is %v, its successor says %v", height, hash, want)
		}
		b, at, err := h.Block(t.Context(), hash)
		Must(t, err)
		if b.BlockHash() != hash || at != height {
			t.Fatalf("block %v at %d came as %v at %d", hash, height, b.BlockHash(), at)
		}
		if want = b.Header.PrevBlock; height == 0 {
			break
		}
	}
	if genesis := h.Params().GenesisBlock.Header; want != genesis.PrevBlock {
		t.Error("the chain does not begin with the network's genesis block")
	}
}

func backendAgreement(t *testing.T, h *ChainHarness) {
	checkChain(t, h)
	before := tip(t, h).Height
	h.Mine(3)
	if got := tip(t, h).Height; got != before+3 {
		t.Errorf("height %d after 3 blocks on %d", got, before)
	}
	checkChain(t, h)
	rate, err := h.FeeRate(t.Context(), 6)
	Must(t, err)
	if rate < 1000 {
		t.Errorf("fee rate %d is below what nodes relay", rate)
	}
	if fees, err := h.Fees(t.Context()); err != nil || fees.Relay <= 0 || fees.Least() > rate {
		t.Errorf("fee policy %+v with an estimate of %d, %v", fees, rate, err)
	}
	// A caller may modify a block.
	b, _, err := h.Block(t.Context(), tip(t, h).Hash)
	Must(t, err)
	b.Transactions[0].TxOut[0].Value++
	checkChain(t, h)
	if again, _, err := h.Block(t.Context(), tip(t, h).Hash); err != nil || again.Transactions[0].TxHash() == b.Transactions[0].TxHash() {
		t.Errorf("a block that a caller changed stays changed (%v)", err)
	}
}

func backendNotFound(t *testing.T, h *ChainHarness) {
	top := tip(t, h).Height
	for _, height := range []wire.Height{top + 1, top + 1000, wire.MaxHeight, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		_, err := h.HashAt(t.Context(), height)
		WantErr(t, err, chain.ErrNotFound)
	}
	_, _, err := h.Block(t.Context(), chainhash.Hash{1})
	WantErr(t, err, chain.ErrNotFound)
}

func backendBroadcast(t *testing.T, h *ChainHarness) {
	ctx := t.Context()
	const value = 100_000
	coin := h.Fund(KeyScript(t), value)
	h.Mine(1)
	tx := Spend(t, coin, value, 1000)
	Must(t, h.Broadcast(ctx, tx))
	Must(t, h.Broadcast(ctx, tx)) // known: no error
	child := Spend(t, wire.Outpoint{Txid: wire.Hash(tx.TxHash())}, value-1000, 1000)
	Must(t, h.Broadcast(ctx, child)) // of an unconfirmed parent
	h.Mine(1)
	b, _, err := h.Block(ctx, tip(t, h).Hash)
	Must(t, err)
	if len(b.Transactions) != 3 || b.Transactions[1].TxHash() != tx.TxHash() || b.Transactions[2].TxHash() != child.TxHash() {
		t.Errorf("block holds %d transactions, want the coinbase, the spend and its child", len(b.Transactions))
	}
	if !bytes.Equal(b.Transactions[1].TxIn[0].Witness[0], tx.TxIn[0].Witness[0]) {
		t.Error("the block lost a witness")
	}
	Must(t, h.Broadcast(ctx, child)) // confirmed, unspent: no error
	h.Mine(2)
	Must(t, h.Broadcast(ctx, child))

	// A burn: Bitcoin Core's RPC refuses it unless the caller says how much.
	const burn = 12_345
	coin = wire.Outpoint{Txid: wire.Hash(child.TxHash())}
	tx = btcwire.NewMsgTx(2)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: btcwire.OutPoint{Hash: chainhash.Hash(coin.Txid)}, Sequence: 0xffffffff})
	tx.AddTxOut(btcwire.NewTxOut(value-2000-1000-burn, KeyScript(t)))
	tx.AddTxOut(btcwire.NewTxOut(burn, []byte{txscript.OP_RETURN, 2, 'b', 'g'}))
	SignInput(t, tx, value-2000)
	Must(t, h.Broadcast(ctx, tx))
	h.Mine(1)
	b, _, err = h.Block(ctx, tip(t, h).Hash)
	Must(t, err)
	if len(b.Transactions) != 2 || b.Transactions[1].TxHash() != tx.TxHash() {
		t.Errorf("block holds %d transactions, want the coinbase and the burn", len(b.Transactions))
	}
}

// backendOutput: an output is found while it is unspent, also an unconfirmed one,
// and its absence is told from a failure.
func backendOutput(t *testing.T, h *ChainHarness) {
	r, ok := h.Backend.(chain.OutputReader)
	if !ok {
		t.Skip("no OutputReader")
	}
	ctx := t.Context()
	const value = 100_000
	coin := h.Fund(KeyScript(t), value)
	look := func(at wire.Outpoint, want wire.Sat) {
		t.Helper()
		out, err := r.Output(ctx, at)
		if want == 0 {
			WantErr(t, err, chain.ErrNoOutput)
			return
		}
		Must(t, err)
		if out.Value != int64(want) || !bytes.Equal(out.PkScript, KeyScript(t)) {
			t.Errorf("%v: %d sat to %x", at, out.Value, out.PkScript)
		}
	}
	h.Mine(1)
	look(coin, value)
	look(wire.Outpoint{Txid: coin.Txid, Vout: 1000}, 0)
	look(wire.Outpoint{Txid: wire.Hash{1, 2, 3}}, 0)
	tx := Spend(t, coin, value, 1000)
	Must(t, h.Broadcast(ctx, tx))
	look(wire.Outpoint{Txid: wire.Hash(tx.TxHash())}, value-1000)
	h.Mine(1)
	look(coin, 0)
	look(wire.Outpoint{Txid: wire.Hash(tx.TxHash())}, value-1000)
}

func backendRefusals(t *testing.T, h *ChainHarness) {
	ctx := t.Context()
	const value = 100_000
	coin := h.Fund(KeyScript(t), value)
	h.Mine(1)
	good := Spend(t, coin, value, 1000)
	refused := func(name string, tx *btcwire.MsgTx, want error, not ...error) {
		t.Helper()
		err := h.Broadcast(ctx, tx)
		WantErr(t, err, chain.ErrRejected)
		WantErr(t, err, want)
		for _, n := range not {
			if errors.Is(err, n) {
				t.Errorf("%s: %v is also %v", name, err, n)
			}
		}
	}
	edit := func(f func(*btcwire.MsgTx)) *btcwire.MsgTx {
		tx := good.Copy()
		f(tx)
		SignInput(t, tx, value)
		return tx
	}
	other := []error{chain.ErrConflict, chain.ErrFeeTooLow}
	refused("no fee", Spend(t, coin, value, 0), chain.ErrFeeTooLow, chain.ErrConflict)
	refused("missing input", Spend(t, wire.Outpoint{Txid: wire.Hash{7}}, value, 1000), chain.ErrConflict, chain.ErrFeeTooLow)
	refused("missing output", Spend(t, wire.Outpoint{Txid: coin.Txid, Vout: 9}, value, 1000), chain.ErrConflict, chain.ErrFeeTooLow)
	forged := good.Copy()
	forged.TxIn[0].Witness[0][40] ^= 1
	refused("wrong signature", forged, chain.ErrRejected, other...)
	refused("makes money", edit(func(tx *btcwire.MsgTx) { tx.TxOut[0].Value = value + 1 }), chain.ErrRejected, other...)
	refused("dust", edit(func(tx *btcwire.MsgTx) { tx.TxOut[0].Value = 200 }), chain.ErrRejected, other...)
	refused("version", edit(func(tx *btcwire.MsgTx) { tx.Version = 99 }), chain.ErrRejected, other...)
	refused("output script", edit(func(tx *btcwire.MsgTx) { tx.TxOut[0].PkScript = []byte{txscript.OP_TRUE, txscript.OP_DROP} }), chain.ErrRejected, other...)
	refused("not final", edit(func(tx *btcwire.MsgTx) {
		tx.LockTime, tx.TxIn[0].Sequence = uint32(tip(t, h).Height)+50, 0
	}), chain.ErrRejected, other...)

	Must(t, h.Broadcast(ctx, good))
	if h.FullRBF {
		Must(t, h.Broadcast(ctx, Spend(t, coin, value, 2000)))
	} else {
		refused("spent in the mempool", Spend(t, coin, value, 2000), chain.ErrConflict, chain.ErrFeeTooLow)
	}
	h.Mine(1)
	refused("spent in a block", Spend(t, coin, value, 3000), chain.ErrConflict, chain.ErrFeeTooLow)
}

func wait(t *testing.T, ch <-chan struct{}) (open bool) {
	t.Helper()
	select {
	case _, open = <-ch:
	case <-time.After(patience):
		t.Fatal("no signal")
	}
	return open
}

func backendWatch(t *testing.T, h *ChainHarness) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, b := h.Watch(ctx), h.Watch(t.Context())
	h.Mine(1)
	if !wait(t, a) || !wait(t, b) {
		t.Fatal("closed instead of a signal")
	}
	// If nobody reads, the node continues, and one signal is left for all.
	h.Mine(20)
	h.Reorg(2)
	if !wait(t, a) || !wait(t, b) {
		t.Fatal("closed instead of a signal")
	}
	cancel()
	for wait(t, a) { // a signal may still be in front of the end
	}
	h.Mine(1)
	if !wait(t, b) {
		t.Fatal("the end of one watcher ended another")
	}
	h.Close()
	for wait(t, b) {
	}
	for wait(t, h.Watch(t.Context())) { // of a closed node: ends at once
	}
	if _, err := h.Tip(t.Context()); err == nil {
		t.Error("a closed node tells a tip")
	}
}

func backendReorg(t *testing.T, h *ChainHarness) {
	ctx := t.Context()
	const value = 100_000
	coin := h.Fund(KeyScript(t), value)
	h.Mine(4)
	top := tip(t, h)
	tx := Spend(t, coin, value, 1000)
	Must(t, h.Broadcast(ctx, tx))
	h.Mine(1)
	old := map[wire.Height]chainhash.Hash{}
	for height := wire.Height(0); height <= top.Height+1; height++ {
		hash, err := h.HashAt(ctx, height)
		Must(t, err)
		old[height] = hash
	}
	h.Reorg(3)
	now := tip(t, h)
	if now.Height <= top.Height+1 {
		t.Fatalf("a reorg from %d led to %d", top.Height+1, now.Height)
	}
	for height, was := range old {
		hash, err := h.HashAt(ctx, height)
		Must(t, err)
		if same := hash == was; same != (height <= top.Height-2) {
			t.Errorf("height %d of %d: same block after a reorg of 3: %v", height, top.Height+1, same)
		}
		b, at, err := h.Block(ctx, was) // stale ones too
		Must(t, err)
		if at != height || b.BlockHash() != was {
			t.Errorf("block %v of height %d came as %v of %d", was, height, b.BlockHash(), at)
		}
	}
	checkChain(t, h)
	// The transaction is in the new branch, or waits for a block.
	h.Mine(1)
	Must(t, h.Broadcast(ctx, tx))
	err := h.Broadcast(ctx, Spend(t, coin, value, 5000))
	WantErr(t, err, chain.ErrConflict)
}

func backendCancelled(t *testing.T, h *ChainHarness) {
	coin := h.Fund(KeyScript(t), 100_000)
	h.Mine(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Tip(ctx)
	WantErr(t, err, context.Canceled)
	_, err = h.HashAt(ctx, 0)
	WantErr(t, err, context.Canceled)
	_, _, err = h.Block(ctx, *h.Params().GenesisHash)
	WantErr(t, err, context.Canceled)
	_, err = h.FeeRate(ctx, 6)
	WantErr(t, err, context.Canceled)
	WantErr(t, h.Broadcast(ctx, Spend(t, coin, 100_000, 1000)), context.Canceled)
	for wait(t, h.Watch(ctx)) {
	}
	// What was cancelled did not happen.
	Must(t, h.Broadcast(t.Context(), Spend(t, coin, 100_000, 2000)))
}

// backendLoad reads, watches and broadcasts while blocks come and go.
func backendLoad(t *testing.T, h *ChainHarness) {
	const n, value = 8, 50_000
	var coins []wire.Outpoint
	for range n {
		coins = append(coins, h.Fund(KeyScript(t), value))
	}
	h.Mine(3)
	ctx, cancel := context.WithCancel(t.Context())
	var sent, wg sync.WaitGroup
	for i := range n {
		news := h.Watch(ctx)
		sent.Add(1)
		wg.Go(func() {
			if err := h.Broadcast(ctx, Spend(t, coins[i], value, 1000)); err != nil {
				t.Errorf("broadcast %d: %v", i, err)
			}
			sent.Done()
			for range news {
				ref, err := h.Tip(ctx)
				if err != nil {
					continue // the end
				}
				b, at, err := h.Block(ctx, ref.Hash)
				if ctx.Err() == nil && (err != nil || at != ref.Height || b.BlockHash() != ref.Hash) {
					t.Errorf("tip %v: block at %d, %v", ref, at, err)
				}
			}
		})
	}
	for range 10 {
		h.Mine(2)
		h.Reorg(1)
	}
	sent.Wait() // blocks may be faster than what goes through a socket
	cancel()
	wg.Wait()
	h.Mine(1)
	checkChain(t, h)
}
