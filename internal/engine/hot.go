package engine

import (
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/bitgram/bitgram/internal/contract"
)

// hotState is the encoding of a state as last written, and the decoded state.
type hotState struct {
	raw   []byte
	state any
	in    contract.Interest // written together with raw
}

// hotStates caches the last states of hot machines. A cached state is used only
// if the store still has the same bytes, so states that were rolled back,
// restored or written elsewhere do no harm.
type hotStates struct{ *lru.Cache[Ref, *hotState] }

// maxHot is the number of cached states, maxHotSize the maximum size of each.
const (
	maxHot     = 512
	maxHotSize = 4 << 10
)

func newHotStates() hotStates {
	c, _ := lru.New[Ref, *hotState](maxHot) // fails for sizes below 1
	return hotStates{c}
}

func (c hotStates) put(m *Machine, ref Ref, h *hotState) {
	if m.Hot && len(h.raw) <= maxHotSize && !h.in.Forget {
		c.Add(ref, h)
	} else {
		c.Remove(ref)
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
	raw, again, err := m.encode(ref, next)
	if err != nil {
		return nil, nil, false, nil
	}
	if ok, err := b.tx.Replace(ref, h.raw, raw); !ok || err != nil {
		return nil, nil, false, err
	}
	b.e.hot.put(m, ref, &hotState{raw, again, in})
	return next, effects, true, b.changed(m, Change{Ref: ref, Before: h.state, State: next, Event: ev})
}

func sameInterest(a, b *contract.Interest) bool {
	return a.Wake == b.Wake && a.Top == b.Top && a.Done == b.Done && a.Forget == b.Forget &&
		slices.Equal(a.Txids, b.Txids) && slices.Equal(a.Outpoints, b.Outpoints)
}
