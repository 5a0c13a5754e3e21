package job

import (
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// KindClose is the kind of Closing, as it is written in a home's database.
const KindClose = "job-close"

// CloseMachines is what the engine needs to run a Closing.
var CloseMachines = contract.Package[CloseEvent, CloseEffect]{Effects: CloseEffects, Class: ClassOfClose,
	Connected:    func(b contract.Block) CloseEvent { return Connected{Block: b} },
	Disconnected: func(u contract.Undo) CloseEvent { return Disconnected{Undo: u} }}

// CloseEffects is the codec for the effects of a close.
var CloseEffects = contract.EffectsOf[CloseEffect](StopBank{}, SendFinal{}, Finished{}, PayoutDue{}, SendPayout{})

// ClassOfClose returns e's class.
func ClassOfClose(e CloseEffect) contract.Class {
	if _, ok := e.(SendFinal); ok {
		return contract.Message
	}
	return contract.Local
}

// CloseEvent is an event of a Closing. The set of types is closed.
type CloseEvent interface{ closeEvent() }

// CloseEffect is an action requested by a Closing. The set of types is closed.
// Messages may be lost, repeated and reordered; every other effect is carried out at
// least once, however late.
type CloseEffect interface{ closeEffect() }

// BuyerSide is the index of the buyer among the sides of a close. Parties have theirs.
const BuyerSide = 0xff

// Events of a close.
type (
	// Stopped is the result of StopBank: what this party's bank holds, now that it
	// takes no more pennies. Sig is the payer's signature of the rung that the pennies
	// reach, Rung that rung's penny; both are zero if they reach none.
	Stopped struct {
		Held   uint32
		Secret [wire.PennySize]byte // of the last penny; zero if none is held
		Rung   [wire.PennySize]byte
		Sig    wire.Signature
	}
	// FinalReceived contains a message. From is the side at the other end of the
	// channel.
	FinalReceived struct {
		From uint8
		Msg  FinalMessage
	}
	// Again says that the user closes once more what was not closed.
	Again struct{}
	// PayoutBuilt says that a transaction is built that takes this party's part.
	PayoutBuilt struct{ Sent contract.Sent }
	// PayoutFailed says that none could be built, because it is not worth its fee; it
	// is tried again some blocks later.
	PayoutFailed struct{}
)

// Effects of a close.
type (
	// StopBank stops the party's bank (bank.Leaving), in the transaction that requests
	// it. Its result is Stopped, in that transaction too.
	StopBank struct{}
	// SendFinal sends a message to a side.
	SendFinal struct {
		To  uint8
		Msg FinalMessage
	}
	// Finished contains a final transaction with all signatures, for this side's
	// banks; it is broadcast.
	Finished struct{ Sent contract.Sent }
	// PayoutDue requests a transaction that spends this party's part of the final
	// transaction, at Rate or more, with a fee of at least MinFee. Its result is
	// PayoutBuilt or PayoutFailed.
	PayoutDue struct {
		At     wire.Outpoint
		Value  wire.Sat
		MinFee wire.Sat
	}
	// SendPayout broadcasts it.
	SendPayout struct{ Tx []byte }
)

func (Connected) closeEvent()     {}
func (Disconnected) closeEvent()  {}
func (Tick) closeEvent()          {}
func (Restored) closeEvent()      {}
func (Stopped) closeEvent()       {}
func (FinalReceived) closeEvent() {}
func (Again) closeEvent()         {}
func (PayoutBuilt) closeEvent()   {}
func (PayoutFailed) closeEvent()  {}

func (StopBank) closeEffect()   {}
func (SendFinal) closeEffect()  {}
func (Finished) closeEffect()   {}
func (PayoutDue) closeEffect()  {}
func (SendPayout) closeEffect() {}

type finalForm struct {
	To  uint8
	Msg Letter
}

// MarshalCBOR and UnmarshalCBOR are called by package wire.
func (s SendFinal) MarshalCBOR() ([]byte, error) {
	l, err := NewFinalLetter(s.Msg)
	if err != nil {
		return nil, err
	}
	return wire.Marshal(finalForm{s.To, *l})
}

func (s *SendFinal) UnmarshalCBOR(raw []byte) (err error) {
	var f finalForm
	if err := wire.Unmarshal(raw, &f); err != nil {
		return err
	}
	s.To = f.To
	s.Msg, err = f.Msg.Final()
	return err
}

// FinalMessage is a message between the sides of a close. The set of types is closed.
// It counts only on the channel of its sender, which is authenticated, so it has no
// signature of its own.
type FinalMessage interface {
	wire.Limited
	final()
}

// finals are the kinds of messages; their order never changes.
var finals = []func() FinalMessage{
	func() FinalMessage { return new(FinalCall) }, func() FinalMessage { return new(FinalOffer) },
	func() FinalMessage { return new(FinalList) }, func() FinalMessage { return new(FinalShare) },
}

// NewFinalLetter encodes a message of a close.
func NewFinalLetter(m FinalMessage) (*Letter, error) { return seal(finals, m) }

// Final decodes a message of a close and checks its fields. Errors wrap
// wire.ErrMalformed.
func (l *Letter) Final() (FinalMessage, error) { return open(finals, l) }

// FinalCall is the buyer's: it asks a party to stop and to say what its bank holds.
type FinalCall struct {
	_ struct{} `cbor:",toarray"`
}

// FinalOffer says how many pennies a party's bank holds, at the most that it will ever
// accept. The secret of the last one proves it.
type FinalOffer struct {
	_      struct{} `cbor:",toarray"`
	Held   uint32
	Secret [wire.PennySize]byte
}

// FinalPaid is one bank in a list.
type FinalPaid struct {
	_     struct{} `cbor:",toarray"`
	Party uint8
	Paid  uint32 // pennies
}

// FinalList proposes a final transaction: which banks it closes, by party, for how
// many pennies, and the rate of its fee. From the buyer it is one with the buyer.
type FinalList struct {
	_     struct{} `cbor:",toarray"`
	Round uint8
	Rate  wire.SatPerKVB
	Banks []FinalPaid
}

// FinalShare is what a party contributes to the listed transaction.
type FinalShare struct {
	_    struct{}  `cbor:",toarray"`
	List wire.Hash // H[job-final](job ‖ u8 side of the proposer ‖ encoding of the list)
	Sig  contract.FinalSig
}

func (*FinalCall) final()  {}
func (*FinalOffer) final() {}
func (*FinalList) final()  {}
func (*FinalShare) final() {}

// MaxSize implements wire.Limited.
func (*FinalCall) MaxSize() int  { return 4 }
func (*FinalOffer) MaxSize() int { return 32 }
func (*FinalList) MaxSize() int  { return 16 + 8*MaxParties }
func (*FinalShare) MaxSize() int { return 192 }

// Check implements wire.Limited.
func (*FinalCall) Check() error { return nil }

// Check implements wire.Limited.
func (o *FinalOffer) Check() error {
	if o.Held > MaxEpochs {
		return bad("%d pennies", o.Held)
	}
	return nil
}

// Check implements wire.Limited.
func (l *FinalList) Check() error {
	if l.Round >= closeRounds || len(l.Banks) < 1 || len(l.Banks) > MaxParties || l.Rate < 1 || l.Rate > contract.MaxFinalRate {
		return bad("round %d: %d banks at %d sat/kvB", l.Round, len(l.Banks), l.Rate)
	}
	for i, b := range l.Banks {
		if b.Party >= MaxParties || b.Paid > MaxEpochs || i > 0 && b.Party <= l.Banks[i-1].Party {
			return bad("bank %d of party %d with %d pennies", i, b.Party, b.Paid)
		}
	}
	return nil
}

// Check implements wire.Limited.
func (*FinalShare) Check() error { return nil }

// digest identifies the list of a proposer.
func (l *FinalList) digest(t *Terms, from uint8) wire.Hash {
	b, err := wire.Marshal(l)
	if err != nil {
		panic(err) // fails only for types that cannot be encoded; ours can
	}
	return wire.Tagged("job-final", t.job(), u8(from), b)
}
