package engine_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// A machine that no other package knows: it counts, and asks for its sum to be said.
type (
	counter struct{ Sum, Said uint64 }

	countEvent interface {
		count(counter) (counter, []countEffect)
	}
	add   struct{ N uint64 }
	said  struct{ Sum uint64 }
	block struct{ contract.Block }
	undo  struct{ contract.Undo }

	countEffect interface{ isCountEffect() }
	say         struct{ Sum uint64 }
)

func (say) isCountEffect() {}

func (e add) count(c counter) (counter, []countEffect) {
	c.Sum += e.N
	return c, []countEffect{say{c.Sum}}
}
func (e said) count(c counter) (counter, []countEffect) { c.Said = e.Sum; return c, nil }
func (block) count(c counter) (counter, []countEffect)  { return c, nil }
func (undo) count(c counter) (counter, []countEffect)   { return c, nil }

func (c counter) Step(e countEvent) (counter, []countEffect, error) {
	c, effects := e.count(c)
	return c, effects, nil
}
func (c counter) Interest() contract.Interest { return contract.Interest{} }

var counters = contract.Package[countEvent, countEffect]{Effects: contract.EffectsOf[countEffect](say{}),
	Class:        func(countEffect) contract.Class { return contract.Local },
	Connected:    func(b contract.Block) countEvent { return block{b} },
	Disconnected: func(u contract.Undo) countEvent { return undo{u} }}

// voice says sums, in the transaction that asks for it.
type voice struct{ said []uint64 }

func (v *voice) Commit(_ engine.Tx, ref engine.Ref, e engine.Effect) ([]engine.Delivery, bool, error) {
	sum := e.(say).Sum
	v.said = append(v.said, sum)
	return engine.To(ref, said{sum}), true, nil
}

func (v *voice) Do(context.Context, engine.Ref, engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	return nil, errors.New("nothing to do")
}

// TestRegister: a kind that no package of this module knows is registered, and its
// effects come to its own executor alone; a kind that is not registered is refused,
// and stays as it is.
func TestRegister(t *testing.T) {
	ctx := t.Context()
	s, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e := engine.New(engine.Config{Store: s})
	var voices [2]voice
	var seen []engine.Kind
	for i, kind := range []engine.Kind{"left", "right"} {
		m := engine.MachineOf[counter](kind, counters)
		m.Executor = &voices[i]
		m.Observe = func(c engine.Change) { seen = append(seen, c.Ref.Kind) }
		e.Register(m)
	}
	left, right := engine.Ref{Kind: "left", ID: wire.Hash{1}}, engine.Ref{Kind: "right", ID: wire.Hash{1}}
	for _, ref := range []engine.Ref{left, right} {
		if err := e.Create(ctx, engine.Creation{Ref: ref, State: counter{}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := e.Tell(ctx, left, add{3}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := e.State(ctx, left); err != nil || got != (counter{Sum: 6, Said: 6}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := e.State(ctx, right); err != nil || got != (counter{}) {
		t.Errorf("of another kind: %+v, %v", got, err)
	}
	if len(voices[0].said) != 2 || len(voices[1].said) != 0 {
		t.Errorf("carried out: %v and %v", voices[0].said, voices[1].said)
	}
	if len(seen) != 6 { // two creations; two events with an answer each
		t.Errorf("observed: %v", seen)
	}

	if _, err := e.Tell(ctx, left, contract.Block{}); !errors.Is(err, engine.ErrContract) {
		t.Errorf("an event of no machine: %v", err)
	}
	newer := engine.Ref{Kind: "newer", ID: wire.Hash{1}}
	if err := e.Create(ctx, engine.Creation{Ref: newer, State: counter{}}); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("a kind that is not registered: %v", err)
	}
	if err := s.Update(ctx, func(tx engine.Tx) error { return tx.Save(newer, []byte{1}, contract.Interest{}) }); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Tell(ctx, newer, add{1}); !errors.Is(err, engine.ErrContract) {
		t.Errorf("a contract of a newer version: %v", err)
	}

	defer func() {
		if recover() == nil {
			t.Error("a kind is registered twice")
		}
	}()
	m := engine.MachineOf[counter]("left", counters)
	m.Executor = &voices[0]
	e.Register(m)
}
