package engine

import (
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/wire"
)

// machine is what every state value offers.
type machine[S any] interface {
	Step(deal.Event) (S, []deal.Effect, error)
	Interest() contract.Interest
}

func load[S machine[S]](raw []byte) (any, error) {
	var s S
	err := wire.Unmarshal(raw, &s)
	return s, err
}

func run[S machine[S]](s S, ev deal.Event) (any, []deal.Effect, error) {
	next, effects, err := s.Step(ev)
	return next, effects, err
}

// decode reads a stored state.
func decode(k Kind, raw []byte) (any, error) {
	switch k {
	case KindSender:
		return load[deal.Sender](raw)
	case KindAgent:
		return load[deal.Agent](raw)
	case KindRecipient:
		return load[deal.Recipient](raw)
	}
	return nil, fmt.Errorf("unknown kind of contract %q: written by a newer version?", k)
}

func step(state any, ev deal.Event) (any, []deal.Effect, error) {
	switch s := state.(type) {
	case deal.Sender:
		return run(s, ev)
	case deal.Agent:
		return run(s, ev)
	case deal.Recipient:
		return run(s, ev)
	}
	return nil, nil, fmt.Errorf("no machine for %T", state)
}

func interest(state any) contract.Interest {
	if s, ok := state.(interface{ Interest() contract.Interest }); ok {
		return s.Interest()
	}
	return contract.Interest{}
}
