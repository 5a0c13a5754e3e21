package engine_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// A machine that passes what it hears to another contract, and shouts it.
type (
	porter      struct{ Heard uint64 }
	porterEvent interface {
		hear(porter) (porter, []porterEffect)
	}
	heard   struct{ N uint64 }
	nothing struct {
		contract.Block
		contract.Undo
	}
	porterEffect interface{ isPorterEffect() }
	pass         struct{ N uint64 }
	shout        struct{ N uint64 }
)

func (pass) isPorterEffect()  {}
func (shout) isPorterEffect() {}

func (h heard) hear(p porter) (porter, []porterEffect) {
	p.Heard += h.N
	return p, []porterEffect{shout(h), pass(h), shout{p.Heard}}
}
func (nothing) hear(p porter) (porter, []porterEffect) { return p, nil }

func (p porter) Step(e porterEvent) (porter, []porterEffect, error) {
	next, effects := e.hear(p)
	return next, effects, nil
}
func (porter) Interest() contract.Interest { return contract.Interest{} }

var porters = contract.Package[porterEvent, porterEffect]{Effects: contract.EffectsOf[porterEffect](pass{}, shout{}),
	Class: func(e porterEffect) contract.Class {
		if _, ok := e.(shout); ok {
			return contract.Message
		}
		return contract.Local
	},
	Connected:    func(b contract.Block) porterEvent { return nothing{Block: b} },
	Disconnected: func(u contract.Undo) porterEvent { return nothing{Undo: u} }}

// carrier passes on in the same transaction.
type carrier struct {
	voice
	to  engine.Ref
	err error
}

func (c *carrier) Commit(_ engine.Tx, _ engine.Ref, e engine.Effect) ([]engine.Delivery, bool, error) {
	return engine.To(c.to, add{e.(pass).N}), true, c.err
}

// TestMessages: a message is sent once, after the commit, and never stored; an event
// for another contract is stepped in the transaction of its sender, which another's
// refusal does not undo.
func TestMessages(t *testing.T) {
	ctx := t.Context()
	s, err := store.Open(filepath.Join(t.TempDir(), "db"))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	defer s.Close()
	e := engine.New(engine.Config{Store: s})
	from, to := engine.Ref{Kind: "porter", ID: wire.Hash{1}}, engine.Ref{Kind: "counter", ID: wire.Hash{2}}
	var sent []uint64
	c := &carrier{to: to}
	var changes []engine.Kind
	m, n := engine.MachineOf[porter]("porter", porters), engine.MachineOf[counter]("counter", counters)
	m.Executor, n.Executor = c, &c.voice
	m.Observe = func(c engine.Change) { changes = append(changes, c.Ref.Kind) }
	n.Observe = m.Observe
	m.Send = func(ref engine.Ref, eff engine.Effect) {
		var p porter
		must(s.View(ctx, func(tx engine.Tx) error { // committed before
			raw, err := tx.State(ref)
			if err != nil {
				return err
			}
			return wire.Unmarshal(raw, &p)
		}))
		if p.Heard == 0 {
			t.Error("sent before the commit")
		}
		sent = append(sent, eff.(shout).N)
	}
	e.Register(m, n)
	must(e.Create(ctx, engine.Creation{Ref: from, State: porter{}}))
	must(e.Create(ctx, engine.Creation{Ref: to, State: counter{}}))
	changes = nil
	for _, n := range []uint64{3, 4} {
		_, err := e.Tell(ctx, from, heard{n})
		must(err)
	}
	if !slices.Equal(sent, []uint64{3, 3, 4, 7}) {
		t.Errorf("sent: %v", sent)
	}
	got, err := e.State(ctx, to)
	must(err)
	if got != (counter{Sum: 7, Said: 7}) {
		t.Errorf("delivered: %+v", got)
	}
	if !slices.Equal(changes, []engine.Kind{"porter", "counter", "counter", "porter", "counter", "counter"}) {
		t.Errorf("stepped: %v", changes)
	}
	must(s.View(ctx, func(tx engine.Tx) error {
		list, err := tx.Effects()
		if len(list) > 0 {
			t.Errorf("stored: %v", list)
		}
		return err
	}))

	// Nothing is sent by a step that is not committed.
	sent, c.err = nil, errors.New("the disk is full")
	if _, err := e.Tell(ctx, from, heard{5}); !errors.Is(err, c.err) {
		t.Errorf("%v", err)
	}
	// A contract that is not there refuses.
	c.err, c.to.ID = nil, wire.Hash{9}
	_, err = e.Tell(ctx, from, heard{6})
	must(err)
	if state, err := e.State(ctx, from); err != nil || state != (porter{13}) || !slices.Equal(sent, []uint64{6, 13}) {
		t.Errorf("%v, %v, sent %v", state, err, sent)
	}
	// Its own refusal undoes the step.
	c.to = engine.Ref{Kind: "porter", ID: from.ID}
	if _, err := e.Tell(ctx, from, heard{7}); err == nil || len(sent) != 2 {
		t.Errorf("%v, sent %v", err, sent)
	}
}
