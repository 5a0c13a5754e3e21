package job

import (
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// KindNode is the kind of this package's machine, as it is written in a home's
// database.
const KindNode = "job-node"

// Machines is what the engine needs to run it.
var Machines = contract.Package[Event, Effect]{Effects: Effects, Class: ClassOf,
	Connected:    func(b contract.Block) Event { return Connected{Block: b} },
	Disconnected: func(u contract.Undo) Event { return Disconnected{Undo: u} }}

// Effects is the codec for this package's effects.
var Effects = contract.EffectsOf[Effect](Broadcast{}, Send{}, Run{}, Cancel{}, Fetch{}, GiveShare{}, Earned{}, KeepCert{}, SendCerts{}, Pause{}, Publish{}, Judge{})

// ClassOf returns e's class.
func ClassOf(e Effect) contract.Class {
	switch e.(type) {
	case Broadcast, Send, GiveShare, SendCerts:
		return contract.Message // sent again at ticks
	case Run, Fetch, Judge:
		return contract.Transfer
	}
	return contract.Local
}

// Letter is any message between parties: the kind of a message, and its encoding.
type Letter struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	Body []byte
}

// messages are the kinds of messages; their order never changes.
var messages = []func() Message{
	func() Message { return new(Commit) }, func() Message { return new(Vote) }, func() Message { return new(Proposal) },
	func() Message { return new(Change) }, func() Message { return new(Opened) }, func() Message { return new(Certificate) },
	func() Message { return new(Verdict) }, func() Message { return new(Status) }, func() Message { return new(Give) },
}

// proofs are the kinds of proofs; their order never changes.
var proofs = []func() Proof{
	func() Proof { return new(BadShare) }, func() Proof { return new(FalseDeal) }, func() Proof { return new(TwoWindows) }, func() Proof { return new(TwoVotes) },
	func() Proof { return new(TwoCommits) }, func() Proof { return new(TwoOpenings) }, func() Proof { return new(FalseState) },
}

// MaxSize implements wire.Limited.
func (*Letter) MaxSize() int { return 16 + new(Proposal).MaxSize() }

// Check implements wire.Limited.
func (l *Letter) Check() error {
	if int(l.Kind) >= len(messages) || len(l.Body) > messages[l.Kind]().MaxSize() {
		return bad("%d bytes of kind %d", len(l.Body), l.Kind)
	}
	return nil
}

// seal encodes one of a closed set of types with its kind.
func seal[T any](kinds []func() T, m T) (*Letter, error) {
	name := fmt.Sprintf("%T", m)
	for i, empty := range kinds {
		if fmt.Sprintf("%T", empty()) == name {
			b, err := wire.Marshal(m)
			return &Letter{Kind: uint8(i), Body: b}, err
		}
	}
	return nil, bad("%s is not of the set", name)
}

// open decodes what seal encoded, and checks its fields.
func open[T wire.Limited](kinds []func() T, l *Letter) (m T, err error) {
	if int(l.Kind) >= len(kinds) {
		return m, bad("kind %d", l.Kind)
	}
	m = kinds[l.Kind]()
	if len(l.Body) > m.MaxSize() {
		return m, bad("%d bytes of kind %d", len(l.Body), l.Kind)
	}
	if err := wire.Unmarshal(l.Body, m); err != nil {
		return m, err
	}
	return m, m.Check()
}

// NewLetter encodes a message.
func NewLetter(m Message) (*Letter, error) { return seal(messages, m) }

// Message decodes the message and checks its fields. Errors wrap wire.ErrMalformed.
func (l *Letter) Message() (Message, error) { return open(messages, l) }

// NewProofLetter encodes a proof.
func NewProofLetter(p Proof) (*Letter, error) { return seal(proofs, p) }

// Proof decodes a proof and checks its fields. Errors wrap wire.ErrMalformed.
func (l *Letter) Proof() (Proof, error) { return open(proofs, l) }

// The store's forms of the effects that contain a message or a proof.
type (
	sendForm struct {
		To  uint8
		Msg Letter
	}
	letterForm struct{ Letter Letter }
)

// MarshalCBOR and UnmarshalCBOR are called by package wire.
func (b Broadcast) MarshalCBOR() ([]byte, error) {
	l, err := NewLetter(b.Msg)
	if err != nil {
		return nil, err
	}
	return wire.Marshal(letterForm{*l})
}

func (b *Broadcast) UnmarshalCBOR(raw []byte) (err error) {
	var f letterForm
	if err := wire.Unmarshal(raw, &f); err != nil {
		return err
	}
	b.Msg, err = f.Letter.Message()
	return err
}

func (s Send) MarshalCBOR() ([]byte, error) {
	l, err := NewLetter(s.Msg)
	if err != nil {
		return nil, err
	}
	return wire.Marshal(sendForm{s.To, *l})
}

func (s *Send) UnmarshalCBOR(raw []byte) (err error) {
	var f sendForm
	if err := wire.Unmarshal(raw, &f); err != nil {
		return err
	}
	s.To = f.To
	s.Msg, err = f.Msg.Message()
	return err
}

func (p Publish) MarshalCBOR() ([]byte, error) {
	l, err := NewProofLetter(p.Proof)
	if err != nil {
		return nil, err
	}
	return wire.Marshal(letterForm{*l})
}

func (p *Publish) UnmarshalCBOR(raw []byte) (err error) {
	var f letterForm
	if err := wire.Unmarshal(raw, &f); err != nil {
		return err
	}
	p.Proof, err = f.Letter.Proof()
	return err
}
