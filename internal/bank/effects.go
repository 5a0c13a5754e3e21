package bank

import "github.com/bitgram/bitgram/internal/contract"

// The kinds of this package's machines, as they are written in a home's database.
const (
	KindPayer   = "bank-payer" // of a penny bank
	KindPayee   = "bank-payee"
	KindSending = "payment" // through bankers, of ours
	KindRelay   = "relay"   // of others' payments, or received by them
)

// Machines is what these machines have in common, for the engine.
var Machines = contract.Package[Event, Effect]{Effects: Effects, Class: ClassOf,
	Connected:    func(b contract.Block) Event { return Connected{Block: b} },
	Disconnected: func(u contract.Undo) Event { return Disconnected{Undo: u} }}

// Effects is the codec for this package's effects.
var Effects = contract.EffectsOf[Effect](AskTerms{}, LockCoins{}, UnlockCoins{}, Prepare{}, Offer{}, Publish{}, Stream{}, Sync{},
	AskClose{}, SignClose{}, RefundDue{}, DropPaper{}, KeepPaper{}, CloseDue{}, Broadcast{}, SendStep{},
	KeepFunding{}, Rebroadcast{}, Prune{})

// ClassOf returns e's class.
func ClassOf(e Effect) contract.Class {
	switch e.(type) {
	case Prepare, Offer:
		return contract.Transfer
	case Stream, SendStep:
		return contract.Payment
	case AskTerms, Sync, AskClose, SignClose:
		return contract.Request
	}
	return contract.Local
}
