package engine

import (
	"bytes"
	"slices"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// hotState is the encoding of a state as last written, and the decoded state.
type hotState struct {
	raw   []byte // as last written as a whole
	patch Patch  // of it, since then
	state any
	in    contract.Interest // written together with raw
	part  Patch             // that part of raw which light steps replace; With is empty
	found bool              // part is known
	// durable is set once the state is committed. Each write caches another
	// hotState, so a durable one that is still cached is the last state.
	durable atomic.Bool
}

// hotStates caches the last states of hot machines. A step uses a cached state
// only if the store still has the same bytes, so states that were rolled back,
// restored or written elsewhere do no harm. State returns one without asking the
// store if its commit is known, because only the engine writes contracts.
type hotStates struct{ *lru.Cache[Ref, *hotState] }

// maxHot is the number of cached states, maxHotSize the maximum size of each.
const (
	maxHot     = 4096
	maxHotSize = 4 << 10
)

func newHotStates() hotStates {
	c, _ := lru.New[Ref, *hotState](maxHot) // fails for sizes below 1
	return hotStates{c}
}

// cache caches the state that was just written.
func (b *batch) cache(m *Machine, ref Ref, h *hotState) {
	if m.Hot && len(h.raw) <= maxHotSize && !h.in.Forget {
		b.e.hot.Add(ref, h)
		b.written = append(b.written, h)
	} else {
		b.e.hot.Remove(ref)
	}
}

// stepHot steps a contract from its cached state. ok is false if there is none,
// or it is out of date; nothing has happened then.
func (b *batch) stepHot(m *Machine, ref Ref, ev Event) (next any, effects []Effect, ok bool, err error) {
	h, ok := b.e.hot.Get(ref)
	if !ok {
		return nil, nil, false, nil
	}
	next, effects, err = m.step(h.state, ev)
	if err != nil {
		return nil, nil, false, nil // it may have changed meanwhile
	}
	in := m.interest(next)
	if !sameInterest(&in, &h.in) {
		return nil, nil, false, nil
	}
	written := b.patchHot(m, ref, h, next, ev)
	if written == nil {
		written, err = b.replaceHot(m, ref, h, next)
	}
	if written == nil || err != nil {
		return nil, nil, false, err
	}
	b.cache(m, ref, written)
	return next, effects, true, b.changed(m, Change{Ref: ref, Before: h.state, State: next, Event: ev})
}

// replaceHot writes the whole of a state. It returns nil if the state cannot be
// written, or the cached one is out of date.
func (b *batch) replaceHot(m *Machine, ref Ref, h *hotState, next any) (*hotState, error) {
	raw, again, err := m.encode(ref, next)
	if err != nil {
		return nil, nil
	}
	if ok, err := b.tx.Replace(ref, h.patch.Of(h.raw), raw); !ok || err != nil {
		return nil, err
	}
	return &hotState{raw: raw, state: again, in: h.in}, nil
}

// patchHot writes only the part of a state that a light step has changed. It
// returns nil if the step is not light, or the cached state is out of date.
func (b *batch) patchHot(m *Machine, ref Ref, h *hotState, next any, ev Event) *hotState {
	if m.light == nil || !m.light(h.state, next, ev) {
		return nil
	}
	part, found := h.part, h.found
	if !found {
		if part, found = m.find(h); !found {
			return nil
		}
	}
	with, err := wire.Marshal(m.part(next))
	if err != nil {
		return nil
	}
	is := Patch{At: part.At, Cut: part.Cut, With: with}
	if ok, err := b.tx.Patch(ref, h.raw, h.patch, is); !ok || err != nil {
		return nil // the next write returns the error
	}
	return &hotState{raw: h.raw, patch: is, state: next, in: h.in, part: part, found: true}
}

// find finds the part of an encoded state. Only a state that was written as a
// whole has its own part in it.
func (m *Machine) find(h *hotState) (Patch, bool) {
	part, err := wire.Marshal(m.part(h.state))
	at := bytes.Index(h.raw, part)
	if err != nil || at < 0 || at != bytes.LastIndex(h.raw, part) || len(h.patch.With) > 0 {
		return Patch{}, false
	}
	return Patch{At: at, Cut: len(part)}, true
}

func sameInterest(a, b *contract.Interest) bool {
	return a.Wake == b.Wake && a.Top == b.Top && a.Done == b.Done && a.Forget == b.Forget &&
		slices.Equal(a.Txids, b.Txids) && slices.Equal(a.Outpoints, b.Outpoints)
}
