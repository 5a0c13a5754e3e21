package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Event is an event of a contract, and Effect an action that it requests. Both
// are values of closed sets of types of the machine's package.
type (
	Event  any
	Effect any
)

// EffectsOf converts a list of a package's effects to the engine's type.
func EffectsOf[F any](list []F) []Effect {
	effects := make([]Effect, len(list))
	for i, f := range list {
		effects[i] = f
	}
	return effects
}

// Executor carries out the effects of one machine. Both methods must be idempotent.
type Executor interface {
	// Commit carries out effects that only need the store, inside the
	// transaction that requests them. done is false for any other effect, which
	// is then stored and passed to Do after the commit. The answers are stepped in
	// the same transaction. If the contract itself refuses one, that is an error;
	// if another contract refuses one, it is logged.
	Commit(tx Tx, ref Ref, e Effect) (answers []Delivery, done bool, err error)
	// Do carries out an effect. The function that it returns runs in the
	// transaction that removes the effect, and its deliveries are stepped
	// there. After an error the effect is retried.
	Do(ctx context.Context, ref Ref, e Effect) (func(Tx) ([]Delivery, error), error)
}

// Machine describes how the engine runs the contracts of one kind. MachineOf
// builds it from a state's type; the package that registers it adds the
// executor.
type Machine struct {
	// Kind is stored with each contract, and must never change.
	Kind Kind
	// Executor carries out the machine's effects.
	Executor Executor
	// Hot is set for machines that are stepped thousands of times a second:
	// their last states are cached. Step must then not modify anything that its
	// receiver points to, because the cached state is the same value.
	Hot bool
	// Send sends effects of class contract.Message. It is called once for each,
	// after the commit of the step that requests it, or never after a crash. It
	// must not block and must not call the engine. Messages of one step are in
	// order, those of different steps may not be.
	Send func(Ref, Effect)
	// Account, if set, is called in the transaction of every change.
	Account func(Tx, Change) error
	// Observe, if set, is called after the commit of every change; it must not
	// block and must not call the engine.
	Observe func(Change)

	decode       func(raw []byte) (any, error)
	light        func(before, after any, ev Event) bool // nil if no step is
	part         func(state any) any
	step         func(state any, ev Event) (any, []Effect, error)
	interest     func(state any) contract.Interest
	connected    func(contract.Block) Event
	disconnected func(contract.Undo) Event
	encodeEffect func(Effect) (name string, body []byte, err error)
	decodeEffect func(name string, body []byte) (Effect, error)
	class        func(Effect) contract.Class
}

// State is the interface of a machine's states: a step, and the blocks that
// they need.
type State[S, E, F any] interface {
	Step(E) (S, []F, error)
	Interest() contract.Interest
}

// Light is implemented by states of hot machines that a frequent event changes
// only in one small part, which is then written in place of the whole state.
type Light[S, E any] interface {
	// Light reports whether the step from before to this state, by an event,
	// has changed at most Part.
	Light(before S, ev E) bool
	// Part returns that part. Its encoding must occur once in the encoding of
	// the state.
	Part() any
}

// MachineOf returns the machine for states S, of a package with events E and
// effects F.
func MachineOf[S State[S, E, F], E, F any](kind Kind, p contract.Package[E, F]) Machine {
	m := Machine{
		Kind: kind,
		decode: func(raw []byte) (any, error) {
			var s S
			err := wire.Unmarshal(raw, &s)
			return s, err
		},
		step: func(state any, ev Event) (any, []Effect, error) {
			e, ok := ev.(E)
			if !ok {
				return nil, nil, fmt.Errorf("%T is not an event of %T", ev, state)
			}
			next, list, err := state.(S).Step(e)
			return next, EffectsOf(list), err
		},
		interest:     func(state any) contract.Interest { return state.(S).Interest() },
		connected:    func(b contract.Block) Event { return p.Connected(b) },
		disconnected: func(u contract.Undo) Event { return p.Disconnected(u) },
		encodeEffect: func(f Effect) (string, []byte, error) { return p.Effects.Encode(f.(F)) },
		decodeEffect: func(name string, body []byte) (Effect, error) { return p.Effects.Decode(name, body) },
		class:        func(f Effect) contract.Class { return p.Class(f.(F)) },
	}
	if _, ok := any(*new(S)).(Light[S, E]); ok {
		m.light = func(before, after any, ev Event) bool { return after.(Light[S, E]).Light(before.(S), ev.(E)) }
		m.part = func(state any) any { return state.(Light[S, E]).Part() }
	}
	return m
}

// Register adds machines. It must be called before Run and before any contract
// is created or told. It panics if a kind is registered twice or has no
// Executor, because that is a programming error.
func (e *Engine) Register(machines ...Machine) {
	for _, m := range machines {
		if e.machines[m.Kind] != nil || m.Executor == nil {
			panic(fmt.Sprintf("engine: kind %q is registered twice, or has no executor", m.Kind))
		}
		e.machines[m.Kind] = &m
	}
}

// of finds the machine of a kind.
func (e *Engine) of(k Kind) (*Machine, error) {
	if found := e.machines[k]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("unknown kind of contract %q: written by a newer version?", k)
}

// Answer returns the result of an effect: an event for the contract that
// requested it, or none if ev is nil.
func Answer(ref Ref, ev Event) func(Tx) ([]Delivery, error) {
	return func(Tx) ([]Delivery, error) {
		if ev == nil {
			return nil, nil
		}
		return To(ref, ev), nil
	}
}

// To is a list of one delivery.
func To(ref Ref, ev Event) []Delivery { return []Delivery{{Ref: ref, Event: ev}} }

// Each calls f for every contract of a kind, including finished ones, in order
// of creation, until f fails.
func Each[S any](ctx context.Context, s Store, kind Kind, f func(Ref, S) error) error {
	return s.View(ctx, func(tx Tx) error {
		return tx.Each(kind, true, func(ref Ref, raw []byte) error {
			var state S
			if err := wire.Unmarshal(raw, &state); err != nil {
				return fmt.Errorf("%s: %w", ref, err)
			}
			return f(ref, state)
		})
	})
}

// Named returns the contract of a kind whose ID is the file's name in hex; nil
// if the name is not an ID, or there is no such contract.
func Named[S any](tx Tx, kind Kind, name string) (*S, error) {
	id, err := hex.DecodeString(name)
	if err != nil || len(id) != len(wire.Hash{}) {
		return nil, nil
	}
	raw, err := tx.State(Ref{Kind: kind, ID: wire.Hash(id)})
	if errors.Is(err, ErrNoContract) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := new(S)
	if err := wire.Unmarshal(raw, s); err != nil {
		return nil, err
	}
	return s, nil
}
