package devchain

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

func TestConformance(t *testing.T) {
	conform.Backend(t, func(t *testing.T) *conform.ChainHarness {
		c := open(t, t.TempDir())
		return &conform.ChainHarness{
			Backend: c,
			Mine:    func(n int) { mine(t, c, n) },
			Fund: func(script []byte, a wire.Sat) wire.Outpoint {
				o, err := c.Faucet(t.Context(), script, a)
				conform.Must(t, err)
				return o
			},
			Reorg:   func(depth int) { conform.Must(t, c.Reorg(t.Context(), depth, miner)) },
			Close:   func() { c.Close() },
			FullRBF: true,
		}
	})
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	conform.Must(t, c.Close())
	conform.Must(t, c.Close())
	open(t, dir)
}

// TestUnusable: a chain that cannot be opened is an error, and its lock is free.
func TestUnusable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a [chain") // btcd's store takes its path for a pattern
	for range 2 {
		if c, err := Open(dir); err == nil || errors.Is(err, ErrLocked) {
			t.Errorf("%v, %v", c, err)
		}
	}
}

// TestParamsOwn: no chain writes to what another one, or anybody else, reads.
// The race detector sees it where two are opened at once.
func TestParamsOwn(t *testing.T) {
	var wg sync.WaitGroup
	for range 2 {
		dir := t.TempDir()
		wg.Go(func() {
			c, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			for i, d := range c.Params().Deployments {
				if g := chaincfg.RegressionNetParams.Deployments[i]; d.DeploymentStarter == g.DeploymentStarter || d.DeploymentEnder == g.DeploymentEnder {
					t.Errorf("deployment %d has everybody's clock", i)
				}
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestExport(t *testing.T) {
	c := open(t, t.TempDir())
	fund(t, c, 100_000)
	mine(t, c, 2)
	var out bytes.Buffer
	conform.Must(t, c.Export(&out))
	want := active(t, c)
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 10<<20)
	h := 0
	for lines.Scan() {
		h++
		if lines.Text() != strings.ToLower(lines.Text()) {
			t.Fatal("not in lower case")
		}
		raw, err := hex.DecodeString(lines.Text())
		conform.Must(t, err)
		b, err := btcutil.NewBlockFromBytes(raw)
		conform.Must(t, err)
		have, _, err := c.Block(t.Context(), want[h])
		conform.Must(t, err)
		again, err := btcutil.NewBlock(have).Bytes()
		conform.Must(t, err)
		if *b.Hash() != want[h] || !bytes.Equal(raw, again) {
			t.Fatalf("line %d is not block %d", h, h)
		}
	}
	if h != len(want)-1 {
		t.Errorf("%d lines for %d blocks", h, len(want)-1)
	}
}

// TestMempoolReorg: what a reorg takes out of the chain returns to the mempool,
// unless it was left out on purpose; then all that depends on it goes too.
func TestMempoolReorg(t *testing.T) {
	c := open(t, t.TempDir())
	ctx := t.Context()
	const value = 100_000
	a, b := fund(t, c, value), fund(t, c, value)
	mine(t, c, 1)
	tx := conform.Spend(t, a, value, 1000)
	child := conform.Spend(t, wire.Outpoint{Txid: wire.Hash(tx.TxHash())}, value-1000, 1000)
	grandchild := conform.Spend(t, wire.Outpoint{Txid: wire.Hash(child.TxHash())}, value-2000, 1000)
	other := conform.Spend(t, b, value, 1000)
	conform.Must(t, c.Broadcast(ctx, tx))
	mine(t, c, 1)
	conform.Must(t, c.Broadcast(ctx, child))
	conform.Must(t, c.Broadcast(ctx, other))
	mine(t, c, 1)
	conform.Must(t, c.Broadcast(ctx, grandchild))

	// Carried over: only the grandchild still waits.
	conform.Must(t, c.Reorg(ctx, 2, miner))
	if inMempool(c, tx) || inMempool(c, child) || inMempool(c, other) || !inMempool(c, grandchild) {
		t.Error("a reorg that keeps everything changed the mempool")
	}
	conform.Must(t, c.Reorg(ctx, 3, miner, wire.Hash(tx.TxHash())))
	if len(c.Mempool()) != 0 {
		t.Errorf("%d transactions wait, want none", len(c.Mempool()))
	}
	// The coin is free again, for another transaction too.
	conform.Must(t, c.TestAccept(ctx, conform.Spend(t, a, value, 3000)))
	conform.Must(t, c.Broadcast(ctx, tx))
	conform.Must(t, c.Broadcast(ctx, child))
	if !inMempool(c, tx) || !inMempool(c, child) {
		t.Error("left out once, refused for ever")
	}
	// A block with a conflict throws both out.
	if _, err := c.MineWith(ctx, miner, conform.Spend(t, a, value, 7000)); err != nil {
		t.Fatal(err)
	}
	if len(c.Mempool()) != 0 {
		t.Error("double spends stay in the mempool")
	}
	// An empty branch over a block returns its transactions to the mempool.
	mine(t, c, 1)
	tip, err := c.Tip(ctx)
	conform.Must(t, err)
	late := conform.Spend(t, wire.Outpoint{Txid: wire.Hash(other.TxHash())}, value-1000, 1000)
	conform.Must(t, c.Broadcast(ctx, late))
	mine(t, c, 1)
	c.mu.Lock()
	at := tip.Hash
	for range 2 {
		ref, err := c.extend(at, miner, nil)
		conform.Must(t, err)
		at = ref.Hash
	}
	conform.Must(t, c.sync())
	c.mu.Unlock()
	if now, _ := c.Tip(ctx); now.Hash != at {
		t.Fatal("the longer branch is not the active one")
	}
	if !inMempool(c, late) {
		t.Error("a transaction was lost in a reorg")
	}
	mine(t, c, 1)
	if inMempool(c, late) {
		t.Error("and is not mined again")
	}
}

func TestReorgRange(t *testing.T) {
	c := open(t, t.TempDir())
	mine(t, c, 3)
	for _, depth := range []int{-1, 0, 4} {
		if c.Reorg(t.Context(), depth, miner) == nil {
			t.Errorf("reorg of %d blocks", depth)
		}
	}
	conform.Must(t, c.Reorg(t.Context(), 3, miner))
	active(t, c)
}

// TestMineWith: consensus judges past the mempool's policy.
func TestMineWith(t *testing.T) {
	c := open(t, t.TempDir())
	coin := fund(t, c, 100_000)
	mine(t, c, 1)
	bad := conform.Spend(t, coin, 100_000, 1000)
	bad.TxIn[0].Witness[0][3] ^= 1
	before := active(t, c)
	_, err := c.MineWith(t.Context(), miner, bad)
	conform.WantErr(t, err, chain.ErrRejected)
	if len(active(t, c)) != len(before) {
		t.Error("a refused block moved the tip")
	}
	free := conform.Spend(t, coin, 100_000, 0)
	conform.WantErr(t, c.TestAccept(t.Context(), free), chain.ErrFeeTooLow)
	_, err = c.MineWith(t.Context(), miner, free)
	conform.Must(t, err)
}

// TestMany: blocks mined faster than a second each keep timestamps that
// consensus takes, by template and by hand.
func TestMany(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	mine(t, c, 2000)
	for range 100 {
		if _, err := c.MineWith(t.Context(), miner); err != nil {
			t.Fatal(err)
		}
	}
	conform.Must(t, c.Reorg(t.Context(), 30, miner))
	mine(t, c, 10)
	want := active(t, c)
	if len(want) != 1+2000+100+1+10 {
		t.Errorf("%d blocks", len(want))
	}
	tip, _, err := c.Block(t.Context(), want[len(want)-1])
	conform.Must(t, err)
	if ahead := time.Until(tip.Header.Timestamp); ahead > time.Hour {
		t.Errorf("the tip is %v in the future", ahead)
	}
	conform.Must(t, c.Close())
	if got := active(t, open(t, dir)); got[len(got)-1] != want[len(want)-1] {
		t.Error("another tip after a restart")
	}
}

func TestFaucet(t *testing.T) {
	c := open(t, t.TempDir())
	ctx := t.Context()
	seen := map[wire.Outpoint]bool{}
	// The first call finds no mature coin; many without a block between.
	for i := range 30 {
		o := fund(t, c, wire.Sat(10_000+i))
		if seen[o] {
			t.Fatal("the same output twice")
		}
		seen[o] = true
	}
	// At once, from many goroutines.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.Faucet(ctx, conform.KeyScript(t), 5000); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// More than any one coinbase ever had, and more than there is.
	o := fund(t, c, 120*100_000_000)
	mine(t, c, 1)
	conform.Must(t, c.Broadcast(ctx, conform.Spend(t, o, 120*100_000_000, 1000)))
	for _, amount := range []wire.Sat{-1, 0, wire.MaxSat + 1} {
		if _, err := c.Faucet(ctx, miner, amount); err == nil {
			t.Errorf("paid %v", amount)
		}
	}
	if tier.Short() || tier.Race {
		return
	}
	_, err := c.Faucet(ctx, miner, wire.MaxSat/10)
	conform.WantErr(t, err, ErrDry)
}

func TestMineEvery(t *testing.T) {
	c := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	news := c.Watch(ctx)
	done := make(chan error)
	go func() { done <- c.MineEvery(ctx, time.Millisecond, miner) }()
	<-news
	cancel()
	select {
	case err := <-done:
		conform.Must(t, err)
	case <-time.After(2 * time.Minute):
		t.Fatal("mines on after its context ended")
	}
	go func() { done <- c.MineEvery(t.Context(), time.Millisecond, miner) }()
	conform.Must(t, c.Close())
	conform.WantErr(t, <-done, ErrClosed)
}

// TestNoLeak: opening, watching and closing leaves no goroutine behind.
func TestNoLeak(t *testing.T) {
	run := func() {
		c, err := Open(t.TempDir())
		conform.Must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		for range 5 {
			c.Watch(ctx)
			c.Watch(t.Context())
		}
		mine(t, c, 2)
		cancel()
		conform.Must(t, c.Close())
	}
	run() // what btcd starts once for the process
	before := runtime.NumGoroutine()
	for range 5 {
		run()
	}
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestCloseUnderLoad: Close while others mine, read and broadcast gives errors,
// never a panic in a closed database.
func TestCloseUnderLoad(t *testing.T) {
	c := open(t, t.TempDir())
	coin := fund(t, c, 100_000)
	mine(t, c, 1)
	tip, err := c.Tip(t.Context())
	conform.Must(t, err)
	var wg sync.WaitGroup
	for _, f := range []func() error{
		func() error { _, err := c.Mine(t.Context(), 1, miner); return err },
		func() error { _, err := c.Tip(t.Context()); return err },
		func() error { _, err := c.HashAt(t.Context(), 1); return err },
		func() error { _, _, err := c.Block(t.Context(), tip.Hash); return err },
		func() error { return c.Broadcast(t.Context(), conform.Spend(t, coin, 100_000, 1000)) },
		func() error { return c.Reorg(t.Context(), 1, miner) },
		func() error { return c.Export(new(bytes.Buffer)) },
	} {
		wg.Go(func() {
			for {
				if err := f(); err != nil {
					conform.WantErr(t, err, ErrClosed)
					return
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	conform.Must(t, c.Close())
	wg.Wait()
}

// TestBroken: once the journal cannot be written, nothing that it may lack is
// shown, and the chain that is opened again is the journal's.
func TestBroken(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	want := mine(t, c, 5)
	// Writing fails, syncing would not.
	c.journal.f.Close()
	var err error
	c.journal.f, err = os.Open(filepath.Join(dir, journalName))
	conform.Must(t, err)
	_, err = c.Mine(t.Context(), 1, miner)
	conform.WantErr(t, err, ErrBroken)
	_, err = c.Tip(t.Context())
	conform.WantErr(t, err, ErrBroken)
	_, err = c.HashAt(t.Context(), 6)
	conform.WantErr(t, err, ErrBroken)
	_, err = c.Mine(t.Context(), 1, miner)
	conform.WantErr(t, err, ErrBroken)
	conform.WantErr(t, c.Reorg(t.Context(), 1, miner), ErrBroken)
	_, err = c.Faucet(t.Context(), miner, 1000)
	conform.WantErr(t, err, ErrBroken)
	conform.Must(t, c.Close())
	c = open(t, dir)
	if list := active(t, c); list[len(list)-1] != want[4].Hash || len(list) != 6 {
		t.Errorf("%d blocks after a failed write of block 6", len(list)-1)
	}
	mine(t, c, 2)
	conform.Must(t, c.Close())
	if list := active(t, open(t, dir)); len(list) != 8 {
		t.Errorf("%d blocks, want 7", len(list)-1)
	}
}
