// Package names maintains the index of blockname hints over the chain. It has
// its own chain position, because it starts at the first block that may contain
// hints, not at the home's birthday.
package names

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// The index in the database: entries and ranks under blockname's keys, and the
// blocks read, with their undo records, under the height in 8 bytes.
const (
	bucketIndex  = "names/index"
	bucketBlocks = "names/blocks"
	bucketUndo   = "names/undo"
)

// keepUndo is the number of blocks that can be undone: more than any reorg that
// contracts survive.
const keepUndo = 2016

// Config configures an Index.
type Config struct {
	Store engine.Store
	Chain chain.Backend
	// From is the first block to read.
	From wire.Height
	Log  *slog.Logger
}

// Index is the index of hints of a chain.
type Index struct {
	cfg       Config
	malformed atomic.Int64 // since the start

	mu   sync.Mutex
	at   wire.Height
	read chan struct{} // closed and replaced at every block, and at the tip
	tip  bool          // it was read to its end
}

// New returns an index; Follow fills it.
func New(cfg Config) *Index {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Index{cfg: cfg, read: make(chan struct{})}
}

// errTooDeep means that a reorg goes further back than the undo records.
var errTooDeep = errors.New("the chain was replaced too far back for the index of names")

func rowKey(h wire.Height) []byte { return binary.BigEndian.AppendUint64(nil, uint64(h)) }

// Position returns the last block read; ok is false before the first.
func Position(tx engine.Tx) (at chain.BlockRef, ok bool, err error) {
	raw, err := tx.Get(bucketBlocks, nil)
	if err != nil || raw == nil {
		return at, false, err
	}
	if len(raw) != 8 {
		return at, false, fmt.Errorf("position of the index of names: %d bytes", len(raw))
	}
	at.Height = wire.Height(binary.BigEndian.Uint64(raw))
	hash, err := tx.Get(bucketBlocks, raw)
	if err == nil && len(hash) != len(at.Hash) {
		err = fmt.Errorf("block %d of the index of names: %d bytes", at.Height, len(hash))
	}
	copy(at.Hash[:], hash)
	return at, err == nil, err
}

// retryAfter is how long Follow waits after the node's first error, and longest
// after many, or for news.
var retryAfter, longest = 100 * time.Millisecond, time.Minute

// Follow reads the chain until ctx ends. After an error of the node it retries
// later.
func (x *Index) Follow(ctx context.Context) {
	news := x.cfg.Chain.Watch(ctx)
	for wait := retryAfter; ; {
		err := x.catchUp(ctx)
		if errors.Is(err, errTooDeep) {
			x.cfg.Log.Warn("rebuilding the index of names", "err", err)
			if err = x.clear(ctx); err == nil {
				continue
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			level := slog.LevelDebug
			if errors.Is(err, chain.ErrPruned) && wait == retryAfter {
				level = slog.LevelWarn
			}
			x.cfg.Log.Log(ctx, level, "cannot read names, will retry", "err", err, "in", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			wait = min(2*wait, longest)
			continue
		}
		wait = retryAfter
		select {
		case <-ctx.Done():
			return
		case <-news:
		case <-time.After(longest):
		}
	}
}

// catchUp reads all new blocks.
func (x *Index) catchUp(ctx context.Context) error {
	// Do not ask for pruned blocks: the error would make the node look
	// unhealthy.
	var first wire.Height
	if p, ok := x.cfg.Chain.(chain.Pruner); ok {
		var err error
		if first, err = p.First(ctx); err != nil {
			return err
		}
	}
	for {
		var at chain.BlockRef
		var begun bool
		if err := x.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
			at, begun, err = Position(tx)
			return err
		}); err != nil {
			return err
		}
		tip, err := x.cfg.Chain.Tip(ctx)
		if err != nil {
			return err
		}
		next := x.cfg.From
		if begun {
			hash, err := x.cfg.Chain.HashAt(ctx, at.Height)
			if err != nil && !errors.Is(err, chain.ErrNotFound) {
				return err
			}
			if err != nil || hash != at.Hash {
				if err := x.disconnect(ctx, at); err != nil {
					return err
				}
				continue
			}
			next = at.Height + 1
		}
		if next < first {
			// After a gap the next block has no predecessor in the index; a
			// reorg below it rebuilds the index.
			x.cfg.Log.Warn("the Bitcoin node has pruned old blocks; their hints are unknown", "from", next, "to", first-1)
			next, begun = first, false
		}
		if next > tip.Height {
			x.told(at.Height, true)
			return nil
		}
		hash, err := x.cfg.Chain.HashAt(ctx, next)
		if errors.Is(err, chain.ErrNotFound) {
			continue // replaced meanwhile
		}
		if err != nil {
			return err
		}
		if err := x.connect(ctx, at, begun, chain.BlockRef{Hash: hash, Height: next}); err != nil {
			return err
		}
		x.told(next, false)
	}
}

// connect reads a block, whose predecessor must be the last block read.
func (x *Index) connect(ctx context.Context, last chain.BlockRef, begun bool, b chain.BlockRef) error {
	msg, _, err := x.cfg.Chain.Block(ctx, b.Hash)
	if err != nil {
		return err
	}
	if begun && msg.Header.PrevBlock != last.Hash {
		return nil // replaced meanwhile: the next round disconnects it
	}
	block := blockname.Scan(msg.Transactions)
	x.malformed.Add(int64(block.Malformed))
	return x.cfg.Store.Update(ctx, func(tx engine.Tx) error {
		changes, undo, err := blockname.Apply(func(key []byte) ([]byte, error) { return tx.Get(bucketIndex, key) }, b.Height, block)
		if err != nil {
			return err
		}
		if err := put(tx, changes); err != nil {
			return err
		}
		row := rowKey(b.Height)
		if err := tx.Put(bucketUndo, row, undo); err != nil {
			return err
		}
		if err := tx.Put(bucketBlocks, row, b.Hash[:]); err != nil {
			return err
		}
		if b.Height > keepUndo {
			old := rowKey(b.Height - keepUndo)
			if err := errors.Join(tx.Delete(bucketUndo, old), tx.Delete(bucketBlocks, old)); err != nil {
				return err
			}
		}
		return tx.Put(bucketBlocks, nil, row)
	})
}

// disconnect undoes the last block.
func (x *Index) disconnect(ctx context.Context, at chain.BlockRef) error {
	return x.cfg.Store.Update(ctx, func(tx engine.Tx) error {
		row := rowKey(at.Height)
		undo, err := tx.Get(bucketUndo, row)
		if err != nil {
			return err
		}
		if undo == nil {
			return errTooDeep
		}
		changes, err := blockname.Revert(undo)
		if err != nil {
			return err
		}
		if err := errors.Join(put(tx, changes), tx.Delete(bucketUndo, row), tx.Delete(bucketBlocks, row)); err != nil {
			return err
		}
		var before []byte
		if at.Height > 0 {
			if before, err = tx.Get(bucketBlocks, rowKey(at.Height-1)); err != nil {
				return err
			}
		}
		switch {
		case before != nil:
			return tx.Put(bucketBlocks, nil, rowKey(at.Height-1))
		case at.Height <= x.cfg.From:
			return tx.Delete(bucketBlocks, nil)
		}
		return errTooDeep
	})
}

// clear deletes the index, so that the chain is read from the beginning.
func (x *Index) clear(ctx context.Context) error {
	return x.cfg.Store.Update(ctx, func(tx engine.Tx) error {
		for _, bucket := range []string{bucketIndex, bucketUndo, bucketBlocks} {
			for more := true; more; {
				var keys [][]byte
				if err := tx.Scan(bucket, nil, clearAtOnce, func(key, _ []byte) error {
					keys = append(keys, bytes.Clone(key))
					return nil
				}); err != nil {
					return err
				}
				for _, key := range keys {
					if err := tx.Delete(bucket, key); err != nil {
						return err
					}
				}
				more = len(keys) == clearAtOnce
			}
		}
		return nil
	})
}

// clearAtOnce is the number of keys held in memory at once: the number of keys
// in the index depends on strangers' payments.
const clearAtOnce = 4096

// keyCount is the key of the number of entries, in bucketBlocks.
var keyCount = []byte("count")

func count(tx engine.Tx) (n uint64, err error) {
	raw, err := tx.Get(bucketBlocks, keyCount)
	if err != nil || raw == nil {
		return 0, err
	}
	if len(raw) != 8 {
		return 0, fmt.Errorf("count of the index of names: %d bytes", len(raw))
	}
	return binary.BigEndian.Uint64(raw), nil
}

func put(tx engine.Tx, changes []blockname.Change) error {
	if len(changes) == 0 {
		return nil
	}
	n, err := count(tx)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if blockname.IsEntry(c.Key) {
			old, err := tx.Get(bucketIndex, c.Key)
			if err != nil {
				return err
			}
			switch {
			case old == nil && c.Value != nil:
				n++
			case old != nil && c.Value == nil:
				n--
			}
		}
		if c.Value == nil {
			err = tx.Delete(bucketIndex, c.Key)
		} else {
			err = tx.Put(bucketIndex, c.Key, c.Value)
		}
		if err != nil {
			return err
		}
	}
	return tx.Put(bucketBlocks, keyCount, binary.BigEndian.AppendUint64(nil, n))
}

// told records how far the chain is read.
func (x *Index) told(h wire.Height, tip bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at, x.tip = h, tip
	close(x.read)
	x.read = make(chan struct{})
}

// Read returns the height of the last block read, and whether it was the
// chain's tip.
func (x *Index) Read() (h wire.Height, tip bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.at, x.tip
}

// Wait returns when the chain is read to its tip, at height h or above.
func (x *Index) Wait(ctx context.Context, h wire.Height) error {
	for {
		x.mu.Lock()
		done, next := x.tip && x.at >= h, x.read
		x.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Malformed returns the number of malformed hints since the start.
func (x *Index) Malformed() int64 { return x.malformed.Load() }

// Count returns the number of entries.
func (x *Index) Count(ctx context.Context) (n uint64, err error) {
	err = x.cfg.Store.View(ctx, func(tx engine.Tx) error {
		n, err = count(tx)
		return err
	})
	return n, err
}

// View calls f with a reader of the index.
func (x *Index) View(ctx context.Context, f func(blockname.Reader) error) error {
	return x.cfg.Store.View(ctx, func(tx engine.Tx) error { return f(In(tx)) })
}

// In returns a reader of the index in a transaction of its store.
func In(tx engine.Tx) blockname.Reader { return reader{tx} }

// reader implements blockname.Reader.
type reader struct{ tx engine.Tx }

func (r reader) Get(key []byte) ([]byte, error) { return r.tx.Get(bucketIndex, key) }

func (r reader) Scan(prefix []byte, limit int, f func(key, value []byte) error) error {
	return r.tx.Scan(bucketIndex, prefix, limit, f)
}
