package contract

import (
	"fmt"
	"reflect"

	"github.com/bitgram/bitgram/wire"
)

// Class says what an effect waits for. Each class has its own slots in the
// engine.
type Class uint8

// The classes of effects.
const (
	Local    Class = iota // this home and its node: claims, refunds, files
	Request               // a peer's short answer
	Transfer              // a body to or from a peer or a disk, of any size
	Search                // answers of many peers, found through the DHT
	Payment               // a payee's acknowledgements, which may be slow
	Message               // a message that may be lost: it is sent once, after the commit, and not stored
)

// Effects is the codec for the effects of a package's machines. It maps the
// names of their types, a closed set, to the types.
type Effects[E any] map[string]reflect.Type

// EffectsOf returns the codec for a package's set of effects.
func EffectsOf[E any](set ...E) Effects[E] {
	c := Effects[E]{}
	for _, e := range set {
		t := reflect.TypeOf(e)
		c[t.Name()] = t
	}
	return c
}

// Encode returns e's name and body for the store.
func (c Effects[E]) Encode(e E) (name string, body []byte, err error) {
	body, err = wire.Marshal(e)
	return reflect.TypeOf(e).Name(), body, err
}

// Decode decodes what Encode returned.
func (c Effects[E]) Decode(name string, body []byte) (e E, err error) {
	t, ok := c[name]
	if !ok {
		return e, fmt.Errorf("unknown effect %q: written by a newer version?", name)
	}
	p := reflect.New(t)
	into := p.Interface()
	if t.NumField() == 0 {
		into = new(map[string]any) // an older version may have written fields that it no longer has
	}
	if err := wire.Unmarshal(body, into); err != nil {
		return e, fmt.Errorf("effect %s: %w", name, err)
	}
	return p.Elem().Interface().(E), nil
}

// Package is what the machines of one package have in common: events E, with those
// by which they hear of the chain, and effects F.
type Package[E, F any] struct {
	Effects      Effects[F]
	Class        func(F) Class
	Connected    func(Block) E
	Disconnected func(Undo) E
}
