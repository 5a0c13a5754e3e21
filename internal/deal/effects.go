package deal

import "github.com/bitgram/bitgram/internal/contract"

// The kinds of this package's machines, as they are written in a home's database.
const (
	KindSender    = "sender"
	KindAgent     = "agent"
	KindRecipient = "recipient"
)

// Machines is what these machines have in common, for the engine.
var Machines = contract.Package[Event, Effect]{Effects: Effects, Class: ClassOf,
	Connected:    func(b contract.Block) Event { return Connected{Block: b} },
	Disconnected: func(u contract.Undo) Event { return Disconnected{Undo: u} }}

// Effects is the codec for this package's effects.
var Effects = contract.EffectsOf[Effect](AskQuotes{}, SealCopies{}, LockCoins{}, UnlockCoins{}, Place{}, Publish{}, Broadcast{},
	Poll{}, DropPayload{}, DropMessage{}, ClaimDue{}, Locate{}, Fetch{}, Release{}, Open{}, LeaveAck{}, Gather{})

// ClassOf returns e's class.
func ClassOf(e Effect) contract.Class {
	switch e.(type) {
	case SealCopies, Place, Fetch, Open:
		return contract.Transfer
	case AskQuotes, Poll, Release, LeaveAck:
		return contract.Request
	case Locate:
		return contract.Search
	}
	return contract.Local
}
