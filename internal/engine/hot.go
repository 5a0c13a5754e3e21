package engine

import (
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/bitgram/bitgram/internal/contract"
)

// hotState is a state as it was last written, with what it reads back as.
type hotState struct {
	raw   []byte
	state any
	in    contract.Interest // written together with raw
}

// hotStates remember the last states of hot machines. A state counts only where the
// store still has the very bytes, so that what was rolled back, restored or written
// by others is no danger.
type hotStates struct{ *lru.Cache[Ref, *hotState] }

// maxHot bounds how many are remembered, and maxHotSize how long each is.
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

// stepHot steps a contract by its remembered state. ok is false where there is
// none, or it does not do: nothing has happened then.
func (b *batch) stepHot(m *Machine, ref Ref, ev Event) (next any, effects []Effect, ok bool, err error) {
	h, ok := b.e.hot.Get(ref)
	if !ok {
		return nil, nil, false, nil
	}
	next, effects, err = m.step(h.state, ev)
	if err != nil {
		return nil, nil, false, nil // it may be another state by now
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
