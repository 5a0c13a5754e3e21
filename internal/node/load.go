package node

import (
	"context"
	"sync"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// load counts what strangers made an agent keep, so that none of it grows
// beyond what the operator allows. It is derived from the contracts: Open adds
// them up, and every change moves it.
type load struct {
	mu       sync.Mutex
	quotes   int    // given, not used
	messages int    // whose copies are held
	unfunded uint64 // bytes of copies that nobody paid for yet
	stored   uint64 // bytes of all copies
	uploads  map[wire.Key]bool
}

// maxQuotes is how many unused quotes an agent keeps. Each takes some 700
// bytes until it is no longer valid.
const maxQuotes = 10_000

// weigh is what one deal counts for.
func weigh(a *deal.Agent) (quotes int, unfunded, stored uint64) {
	switch {
	case a.Package == nil && a.Phase() == deal.AgentQuoted:
		return 1, 0, 0
	case a.Package == nil || a.Dropped:
		return 0, 0, 0
	case !a.Funded:
		return 0, weight(a.Package), weight(a.Package)
	}
	return 0, 0, weight(a.Package)
}

// weight is what a package takes on the disk: its copy, its funding in the
// state, and some for the rest.
func weight(p *wire.Package) uint64 { return p.Section.Leaf.Size + 2*uint64(len(p.Funding)) + 8192 }

func (l *load) add(a *deal.Agent, sign int) {
	q, u, s := weigh(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if s > 0 {
		l.messages += sign
	}
	if sign < 0 {
		l.quotes, l.unfunded, l.stored = l.quotes-q, l.unfunded-u, l.stored-s
		return
	}
	l.quotes, l.unfunded, l.stored = l.quotes+q, l.unfunded+u, l.stored+s
}

// change follows a contract's change.
func (l *load) change(c engine.Change) {
	if before, ok := c.Before.(deal.Agent); ok {
		l.add(&before, -1)
	}
	if after, ok := c.State.(deal.Agent); ok {
		l.add(&after, 1)
	}
}

// read adds up what a home holds.
func (l *load) read(ctx context.Context, s engine.Store) error {
	return s.View(ctx, func(tx engine.Tx) error {
		return tx.Each(engine.KindAgent, false, func(_ engine.Ref, raw []byte) error {
			var a deal.Agent
			if err := wire.Unmarshal(raw, &a); err != nil {
				return err
			}
			l.add(&a, 1)
			return nil
		})
	})
}

// quote refuses when too many quotes are out.
func (l *load) quote() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quotes >= maxQuotes {
		return refuse(wire.Busy, "too many quotes are out")
	}
	return nil
}

// upload lets one upload at a time happen under a point.
func (l *load) upload(point wire.Key) (free func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uploads[point] {
		return nil, refuse(wire.Busy, "this copy is being stored")
	}
	if l.uploads == nil {
		l.uploads = map[wire.Key]bool{}
	}
	l.uploads[point] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.uploads, point)
	}, nil
}

// reserve takes room for a copy while it is received; free gives it back, and
// the deal counts for itself from then on.
func (l *load) reserve(size uint64, p *deal.Policy) (free func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case p.MaxStored > 0 && (size > p.MaxStored || l.stored > p.MaxStored-size):
		return nil, refuse(wire.Full, "no room for this copy")
	case p.MaxUnfunded > 0 && (size > p.MaxUnfunded || l.unfunded > p.MaxUnfunded-size):
		return nil, refuse(wire.Full, "too much is stored that nobody paid for yet")
	}
	l.stored, l.unfunded = l.stored+size, l.unfunded+size
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stored, l.unfunded = l.stored-size, l.unfunded-size
	}, nil
}
