package bitcoind

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// keptBytes is the total size of the blocks that are kept; the newest is always
// kept.
const keptBytes = 16 << 20

// blocks keeps the last blocks, encoded, because each caller gets its own. Callers that ask for a block while it is being
// fetched wait for it.
type blocks struct {
	mu    sync.Mutex
	list  []*kept // oldest first
	bytes int     // of all
}

type kept struct {
	hash   chainhash.Hash
	done   chan struct{} // closed when the rest is set
	raw    []byte
	height wire.Height
	err    error
}

// get returns a block, if need be by fetch, which verifies it.
func (l *blocks) get(ctx context.Context, at chainhash.Hash, fetch func() (*btcwire.MsgBlock, []byte, wire.Height, error)) (*btcwire.MsgBlock, wire.Height, error) {
	for {
		l.mu.Lock()
		k := l.find(at)
		mine := k == nil
		if mine {
			k = &kept{hash: at, done: make(chan struct{})}
			l.list = append(l.list, k)
		}
		l.mu.Unlock()
		if mine {
			b, raw, height, err := fetch()
			l.add(k, raw, height, err)
			return b, height, err
		}
		select {
		case <-k.done:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		if k.err == nil {
			b := new(btcwire.MsgBlock)
			return b, k.height, b.Deserialize(bytes.NewReader(k.raw))
		}
		// It was another caller's failure, perhaps of its context.
	}
}

func (l *blocks) find(at chainhash.Hash) *kept {
	for _, k := range l.list {
		if k.hash == at {
			return k
		}
	}
	return nil
}

// add completes a block that was fetched, or removes one that could not be.
func (l *blocks) add(k *kept, raw []byte, height wire.Height, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.raw, k.height, k.err = raw, height, err
	close(k.done)
	l.bytes += len(raw)
	l.list = slices.DeleteFunc(l.list, func(o *kept) bool {
		if o == k || o.raw == nil || l.bytes <= keptBytes { // those without bytes are being fetched
			return o == k && err != nil
		}
		l.bytes -= len(o.raw)
		return true
	})
}
