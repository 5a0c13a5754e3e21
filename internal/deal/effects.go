package deal

import (
	"fmt"
	"reflect"

	"github.com/bitgram/bitgram/wire"
)

// effectTypes names every effect as it is stored.
var effectTypes = map[string]reflect.Type{}

func init() {
	for _, e := range []Effect{AskQuotes{}, SealCopies{}, LockCoins{}, UnlockCoins{}, Place{}, Publish{}, Broadcast{},
		Poll{}, DropPayload{}, DropMessage{}, ClaimDue{}, Locate{}, Fetch{}, Release{}, Open{}, LeaveAck{}} {
		t := reflect.TypeOf(e)
		effectTypes[t.Name()] = t
	}
}

// EncodeEffect returns e's name and body for the store.
func EncodeEffect(e Effect) (name string, body []byte, err error) {
	body, err = wire.Marshal(e)
	return reflect.TypeOf(e).Name(), body, err
}

// DecodeEffect reads what EncodeEffect wrote.
func DecodeEffect(name string, body []byte) (Effect, error) {
	t, ok := effectTypes[name]
	if !ok {
		return nil, fmt.Errorf("unknown effect %q: written by a newer version?", name)
	}
	p := reflect.New(t)
	if err := wire.Unmarshal(body, p.Interface()); err != nil {
		return nil, fmt.Errorf("effect %s: %w", name, err)
	}
	return p.Elem().Interface().(Effect), nil
}

// Class says what an effect waits for.
type Class uint8

// The classes of effects.
const (
	Local    Class = iota // this home and its node: claims, refunds, files
	Request               // a peer's answer of a few bytes
	Transfer              // a body to or from a peer or a disk, of any size
	Search                // many peers' answers, looked for in the DHT
)

// ClassOf returns e's class.
func ClassOf(e Effect) Class {
	switch e.(type) {
	case SealCopies, Place, Fetch, Open:
		return Transfer
	case AskQuotes, Poll, Release, LeaveAck:
		return Request
	case Locate:
		return Search
	}
	return Local
}
