package names

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

var must = conform.Must

var anyone = []byte{txscript.OP_TRUE}

// lab is a chain on which anybody burns coins for hints.
type lab struct {
	t     *testing.T
	chain *devchain.Chain
	rand  *rand.Rand
	coin  btcwire.OutPoint
	value int64
}

func newLab(t *testing.T, seed uint64) *lab {
	c, err := devchain.Open(filepath.Join(t.TempDir(), "chain"))
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	l := &lab{t: t, chain: c, rand: rand.New(rand.NewPCG(seed, 1))}
	refs, err := c.Mine(t.Context(), 101, anyone)
	must(t, err)
	b, _, err := c.Block(t.Context(), refs[0].Hash)
	must(t, err)
	l.coin, l.value = btcwire.OutPoint{Hash: b.Transactions[0].TxHash()}, b.Transactions[0].TxOut[0].Value
	return l
}

// burn makes a transaction with hints, each with its value.
func (l *lab) burn(hints map[string]int64) *btcwire.MsgTx {
	tx := btcwire.NewMsgTx(2)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: l.coin, Sequence: btcwire.MaxTxInSequenceNum})
	rest := l.value
	for text, value := range hints {
		script, err := txscript.NullDataScript([]byte(text))
		must(l.t, err)
		tx.AddTxOut(btcwire.NewTxOut(value, script))
		rest -= value
	}
	tx.AddTxOut(btcwire.NewTxOut(rest, anyone))
	l.coin, l.value = btcwire.OutPoint{Hash: tx.TxHash(), Index: uint32(len(tx.TxOut) - 1)}, rest
	return tx
}

// some are hints of few names, so that they meet.
func (l *lab) some() map[string]int64 {
	list := map[string]int64{}
	for range l.rand.IntN(4) {
		text := []string{
			fmt.Sprintf("*!a%d.test7f00000%d", l.rand.IntN(3), l.rand.IntN(9)),
			fmt.Sprintf("*#bitgram.a%d7f00000%d0fa1", l.rand.IntN(3), l.rand.IntN(9)),
			fmt.Sprintf("*@bitgram.b%d/dns4/x%d.example.org/tcp/4001", l.rand.IntN(2), l.rand.IntN(2)),
			"*!UPPER.test7f000001",
		}[l.rand.IntN(4)]
		list[text] = int64(l.rand.IntN(4))
	}
	return list
}

func (l *lab) mine(n int) {
	for range n {
		_, err := l.chain.MineWith(l.t.Context(), anyone, l.burn(l.some()))
		must(l.t, err)
	}
}

// reference reads the active chain anew.
func (l *lab) reference(from wire.Height) map[string]string {
	index := map[string]string{}
	tip, err := l.chain.Tip(l.t.Context())
	must(l.t, err)
	for h := from; h <= tip.Height; h++ {
		hash, err := l.chain.HashAt(l.t.Context(), h)
		must(l.t, err)
		b, _, err := l.chain.Block(l.t.Context(), hash)
		must(l.t, err)
		changes, _, err := blockname.Apply(func(key []byte) ([]byte, error) {
			if v, ok := index[string(key)]; ok {
				return []byte(v), nil
			}
			return nil, nil
		}, h, blockname.Scan(b.Transactions))
		must(l.t, err)
		for _, c := range changes {
			if index[string(c.Key)] = string(c.Value); c.Value == nil {
				delete(index, string(c.Key))
			}
		}
	}
	return index
}

func openStore(t *testing.T) *store.Store {
	s, err := store.Open(filepath.Join(t.TempDir(), "db"))
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func content(t *testing.T, s engine.Store) map[string]string {
	all := map[string]string{}
	must(t, s.View(t.Context(), func(tx engine.Tx) error {
		return tx.Scan(bucketIndex, nil, 0, func(k, v []byte) error {
			all[string(k)] = string(bytes.Clone(v))
			return nil
		})
	}))
	return all
}

// TestFollow: after whatever reorgs and absences the index is that of the active
// chain.
func TestFollow(t *testing.T) {
	const from = 50
	l := newLab(t, 1)
	s := openStore(t)
	here := New(Config{Store: s, Chain: l.chain, From: from})
	for round := range 40 {
		switch l.rand.IntN(3) {
		case 0:
			l.mine(1 + l.rand.IntN(5))
		case 1:
			// The coins of blocks that are gone come back with their transactions.
			_, err := l.chain.Mine(t.Context(), 1, anyone)
			must(t, err)
		case 2:
			must(t, l.chain.Reorg(t.Context(), 1+l.rand.IntN(4), anyone))
		}
		if l.rand.IntN(3) == 0 {
			continue // away
		}
		must(t, here.catchUp(t.Context()))
		if got, want := content(t, s), l.reference(from); !maps.Equal(got, want) {
			t.Fatalf("round %d: %d keys, wanted %d", round, len(got), len(want))
		}
	}
	if len(content(t, s)) == 0 || here.Malformed() == 0 {
		t.Errorf("%d keys, %d malformed hints: nothing was tried", len(content(t, s)), here.Malformed())
	}
	late := openStore(t)
	must(t, New(Config{Store: late, Chain: l.chain, From: from}).catchUp(t.Context()))
	must(t, here.catchUp(t.Context()))
	if !maps.Equal(content(t, s), content(t, late)) {
		t.Error("another index after a long absence")
	}
}

// TestReorgUndo: taking back all blocks leaves nothing.
func TestReorgUndo(t *testing.T) {
	l := newLab(t, 2)
	l.mine(30)
	s := openStore(t)
	x := New(Config{Store: s, Chain: l.chain, From: 80})
	must(t, x.catchUp(t.Context()))
	if len(content(t, s)) < 5 {
		t.Fatalf("%d keys", len(content(t, s)))
	}
	for {
		var at chain.BlockRef
		var ok bool
		must(t, s.View(t.Context(), func(tx engine.Tx) (err error) {
			at, ok, err = Position(tx)
			return err
		}))
		if !ok {
			break
		}
		must(t, x.disconnect(t.Context(), at))
	}
	if left := content(t, s); len(left) != 0 {
		t.Errorf("%d keys are left", len(left))
	}
}

// flaky fails now and then.
type flaky struct {
	chain.Backend
	rand *rand.Rand
}

func (f flaky) Block(ctx context.Context, h chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error) {
	if f.rand.IntN(20) == 0 {
		return nil, 0, errors.New("no answer")
	}
	return f.Backend.Block(ctx, h)
}

// TestFollowing: it goes on by itself, also behind a node that fails, and says
// how far it is.
func TestFollowing(t *testing.T) {
	defer func(d time.Duration) { retryAfter = d }(retryAfter)
	retryAfter = time.Millisecond
	l := newLab(t, 3)
	s := openStore(t)
	x := New(Config{Store: s, Chain: flaky{l.chain, rand.New(rand.NewPCG(1, 1))}, From: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	var following sync.WaitGroup
	following.Go(func() { x.Follow(ctx) })
	for range 3 {
		l.mine(3)
		tip, err := l.chain.Tip(t.Context())
		must(t, err)
		must(t, x.Wait(ctx, tip.Height))
		if h, _ := x.Read(); h != tip.Height {
			t.Errorf("read to %d of %d", h, tip.Height)
		}
	}
	if !maps.Equal(content(t, s), l.reference(1)) {
		t.Error("another index")
	}
	// What would take a block back is lost, as after two thousand others.
	must(t, s.Update(t.Context(), func(tx engine.Tx) error {
		h, _ := x.Read()
		return tx.Delete(bucketUndo, rowKey(h-2))
	}))
	must(t, l.chain.Reorg(t.Context(), 4, anyone))
	tip, err := l.chain.Tip(t.Context())
	must(t, err)
	must(t, x.Wait(ctx, tip.Height))
	if !maps.Equal(content(t, s), l.reference(1)) {
		t.Error("another index after a deep reorg")
	}
	cancel()
	following.Wait()
}

// pruned is a node that has deleted its first blocks.
type pruned struct {
	chain.Backend
	t     *testing.T
	first wire.Height
}

func (p pruned) First(context.Context) (wire.Height, error) { return p.first, nil }

func (p pruned) Block(ctx context.Context, hash chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error) {
	b, h, err := p.Backend.Block(ctx, hash)
	if err == nil && h < p.first {
		p.t.Errorf("block %d was asked for", h)
	}
	return b, h, err
}

// TestPruned: blocks that the node does not have are left out, and not asked for.
func TestPruned(t *testing.T) {
	c, err := devchain.Open(t.TempDir())
	must(t, err)
	defer c.Close()
	_, err = c.Mine(t.Context(), 20, anyone)
	must(t, err)
	s, err := store.Open(filepath.Join(t.TempDir(), "db"))
	must(t, err)
	defer s.Close()
	p := pruned{c, t, 12}
	x := New(Config{Store: s, Chain: p})
	must(t, x.catchUp(t.Context()))
	if h, tip := x.Read(); h != 20 || !tip {
		t.Errorf("read to %d, %v", h, tip)
	}
	_, err = c.Mine(t.Context(), 20, anyone)
	must(t, err)
	p.first = 30
	x.cfg.Chain = p
	must(t, x.catchUp(t.Context()))
	if h, tip := x.Read(); h != 40 || !tip {
		t.Errorf("past a gap read to %d, %v", h, tip)
	}
	must(t, c.Reorg(t.Context(), 12, anyone))
	p.first = 25
	x.cfg.Chain = p
	if err := x.catchUp(t.Context()); !errors.Is(err, errTooDeep) {
		t.Errorf("a reorg to below a gap: %v", err)
	}
}
