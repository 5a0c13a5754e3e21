package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Event is what happens to a contract, and Effect what it wants done: values of
// the closed sets of its machine's package.
type (
	Event  any
	Effect any
)

// EffectsOf is a list of a package's effects as those of the engine.
func EffectsOf[F any](list []F) []Effect {
	effects := make([]Effect, len(list))
	for i, f := range list {
		effects[i] = f
	}
	return effects
}

// Executor carries out the effects of one machine. Both methods must be idempotent.
type Executor interface {
	// Commit carries out those effects that touch nothing but the store,
	// inside the transaction that asked for them. done is false for any other
	// effect; it is then kept, and given to Do after the commit.
	Commit(tx Tx, ref Ref, e Effect) (answer Event, done bool, err error)
	// Do carries an effect out. The function that it returns runs in the
	// transaction that marks the effect as done, and its deliveries are
	// stepped there. An error means: try again later.
	Do(ctx context.Context, ref Ref, e Effect) (func(Tx) ([]Delivery, error), error)
}

// Machine is how the engine works the contracts of one kind. MachineOf makes it of
// a state's type; whoever registers it adds what carries its effects out.
type Machine struct {
	// Kind is written in the store beside each contract, and never changes.
	Kind Kind
	// Executor carries out the machine's effects.
	Executor Executor
	// Hot is for a machine that is stepped thousands of times a second: its last
	// states are remembered. Its Step must change nothing that its receiver points
	// to, since what is remembered of a state is the state.
	Hot bool
	// Account, if set, is called in the transaction of every change.
	Account func(Tx, Change) error
	// Observe, if set, is called after the commit of every change; it must not
	// block and must not call the engine.
	Observe func(Change)

	decode       func(raw []byte) (any, error)
	step         func(state any, ev Event) (any, []Effect, error)
	interest     func(state any) contract.Interest
	connected    func(contract.Block) Event
	disconnected func(contract.Undo) Event
	encodeEffect func(Effect) (name string, body []byte, err error)
	decodeEffect func(name string, body []byte) (Effect, error)
	class        func(Effect) contract.Class
}

// State is what the states of a machine offer: a step, and what they want to hear
// of the chain.
type State[S, E, F any] interface {
	Step(E) (S, []F, error)
	Interest() contract.Interest
}

// MachineOf is the machine of states S, of a package with events E and effects F.
func MachineOf[S State[S, E, F], E, F any](kind Kind, p contract.Package[E, F]) Machine {
	return Machine{
		Kind: kind,
		decode: func(raw []byte) (any, error) {
			var s S
			err := wire.Unmarshal(raw, &s)
			return s, err
		},
		step: func(state any, ev Event) (any, []Effect, error) {
			e, ok := ev.(E)
			if !ok {
				return nil, nil, fmt.Errorf("%T is no event of %T", ev, state)
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
}

// Register adds machines. It is called before Run and before any contract is
// created or told; a kind that is registered twice, or without an Executor, is a
// mistake in the program, and panics.
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

// Answer ends an effect with an event for the contract that asked for it, or with
// none if ev is nil.
func Answer(ref Ref, ev Event) func(Tx) ([]Delivery, error) {
	return func(Tx) ([]Delivery, error) {
		if ev == nil {
			return nil, nil
		}
		return []Delivery{{Ref: ref, Event: ev}}, nil
	}
}

// Each calls f for every contract of a kind, the finished ones too, in order of
// creation, until f fails.
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

// Named reads the contract of a kind whose ID a file's name is, in hex; nil if the
// name is no ID, or there is no such contract.
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
	return s, wire.Unmarshal(raw, s)
}
