package engine

import (
	"fmt"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
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

// kind is how the engine works a machine: its states, events and effects as any.
type kind struct {
	decode       func(raw []byte) (any, error)
	step         func(state any, ev Event) (any, []Effect, error)
	connected    func(contract.Block) Event
	disconnected func(contract.Undo) Event
	encodeEffect func(Effect) (name string, body []byte, err error)
	decodeEffect func(name string, body []byte) (Effect, error)
	class        func(Effect) contract.Class
}

// kinds is every machine. Two packages of machines know nothing of one another.
var kinds = map[Kind]*kind{
	KindSender:    dealKind[deal.Sender](),
	KindAgent:     dealKind[deal.Agent](),
	KindRecipient: dealKind[deal.Recipient](),
	KindPayer:     bankKind[bank.Payer](),
	KindPayee:     bankKind[bank.Payee](),
	KindSending:   bankKind[bank.Sending](),
	KindRelay:     bankKind[bank.Relay](),
}

func bankKind[S machine[S, bank.Event, bank.Effect]]() *kind {
	return kindOf[S](bank.Effects, bank.ClassOf,
		func(b contract.Block) bank.Event { return bank.Connected{Block: b} },
		func(u contract.Undo) bank.Event { return bank.Disconnected{Undo: u} })
}

func dealKind[S machine[S, deal.Event, deal.Effect]]() *kind {
	return kindOf[S](deal.Effects, deal.ClassOf,
		func(b contract.Block) deal.Event { return deal.Connected{Block: b} },
		func(u contract.Undo) deal.Event { return deal.Disconnected{Undo: u} })
}

// machine is what every state value offers.
type machine[S, E, F any] interface {
	Step(E) (S, []F, error)
	Interest() contract.Interest
}

// kindOf makes a machine's types those of the engine.
func kindOf[S machine[S, E, F], E, F any](effects contract.Effects[F], class func(F) contract.Class,
	connected func(contract.Block) E, disconnected func(contract.Undo) E) *kind {
	return &kind{
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
		connected:    func(b contract.Block) Event { return connected(b) },
		disconnected: func(u contract.Undo) Event { return disconnected(u) },
		encodeEffect: func(f Effect) (string, []byte, error) { return effects.Encode(f.(F)) },
		decodeEffect: func(name string, body []byte) (Effect, error) { return effects.Decode(name, body) },
		class:        func(f Effect) contract.Class { return class(f.(F)) },
	}
}

// of finds a kind.
func of(k Kind) (*kind, error) {
	if found := kinds[k]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("unknown kind of contract %q: written by a newer version?", k)
}

// decode reads a stored state.
func decode(k Kind, raw []byte) (any, error) {
	found, err := of(k)
	if err != nil {
		return nil, err
	}
	return found.decode(raw)
}

func interest(state any) contract.Interest {
	if s, ok := state.(interface{ Interest() contract.Interest }); ok {
		return s.Interest()
	}
	return contract.Interest{}
}
