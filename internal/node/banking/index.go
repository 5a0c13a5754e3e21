package banking

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// byPeer are this node's banks as payer that are not done, by their payee: a
// payment looks at those with one peer, however many others there are. A bank's
// payee never changes.
type byPeer struct {
	mu    sync.Mutex
	built bool
	ids   map[wire.Key]map[bank.ID]bool
	gone  map[bank.ID]bool // done while the index was built
}

// observe takes note of a change after its commit.
func (x *byPeer) observe(c engine.Change) {
	p, ok := c.State.(bank.Payer)
	if !ok {
		return
	}
	if before, ok := c.Before.(bank.Payer); ok && before.Interest().Done == p.Interest().Done {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.set(&p)
}

// set adds or removes a bank; mu is held.
func (x *byPeer) set(p *bank.Payer) {
	peer := p.Terms.Peer.Key
	switch {
	case p.Interest().Done:
		delete(x.ids[peer], p.Bank)
		if !x.built {
			if x.gone == nil {
				x.gone = map[bank.ID]bool{}
			}
			x.gone[p.Bank] = true
		}
	case x.built || !x.gone[p.Bank]:
		if x.ids == nil {
			x.ids = map[wire.Key]map[bank.ID]bool{}
		}
		if x.ids[peer] == nil {
			x.ids[peer] = map[bank.ID]bool{}
		}
		x.ids[peer][p.Bank] = true
	}
}

// build reads the banks that were there before the daemon's start.
func (b *Banks) build(ctx context.Context) error {
	x := &b.byPeer
	x.mu.Lock()
	built := x.built
	x.mu.Unlock()
	if built {
		return nil
	}
	var list []bank.Payer
	if err := b.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(bank.KindPayer, false, func(_ engine.Ref, raw []byte) error {
			var p bank.Payer
			if err := wire.Unmarshal(raw, &p); err != nil {
				return err
			}
			list = append(list, p)
			return nil
		})
	}); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range list {
		x.set(&list[i])
	}
	x.built, x.gone = true, nil
	return nil
}

// peers returns the payees of this node's banks, in order of their keys.
func (b *Banks) peers(ctx context.Context) ([]wire.Key, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	b.byPeer.mu.Lock()
	defer b.byPeer.mu.Unlock()
	return slices.SortedFunc(maps.Keys(b.byPeer.ids), func(a, c wire.Key) int { return bytes.Compare(a[:], c[:]) }), nil
}

// banksWith returns this node's banks with a payee that are not done, in order
// of their ids.
func (b *Banks) banksWith(ctx context.Context, peer wire.Key) (list []bank.Payer, err error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	b.byPeer.mu.Lock()
	ids := slices.SortedFunc(maps.Keys(b.byPeer.ids[peer]), func(a, c bank.ID) int { return bytes.Compare(a[:], c[:]) })
	b.byPeer.mu.Unlock()
	for _, id := range ids {
		p, err := b.payer(ctx, id)
		if errors.Is(err, ErrNoBank) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// sized is a cache with a limit on the sum of sizes, so that one of thousands of
// small banks is as good as one of a few large ones.
type sized[K comparable, V any] struct {
	mu    sync.Mutex
	cache *lru.Cache[K, V]
	size  func(V) int
	max   int
	held  int
}

func newSized[K comparable, V any](max int, size func(V) int) *sized[K, V] {
	s := &sized[K, V]{size: size, max: max}
	const entries = 1 << 16
	s.cache, _ = lru.NewWithEvict(entries, func(_ K, v V) { s.held -= size(v) }) // fails for sizes below 1
	return s
}

// Get returns what is cached.
func (s *sized[K, V]) Get(k K) (V, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache.Get(k)
}

// Add caches v, in place of what was not used for the longest time.
func (s *sized[K, V]) Add(k K, v V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.Remove(k)
	s.held += s.size(v)
	s.cache.Add(k, v)
	for s.held > s.max && s.cache.Len() > 1 {
		s.cache.RemoveOldest()
	}
}
