package bank

import "github.com/bitgram/bitgram/internal/contract"

// Effects is the codec for this package's effects.
var Effects = contract.EffectsOf[Effect](AskTerms{}, LockCoins{}, UnlockCoins{}, Prepare{}, Offer{}, Publish{}, Stream{}, Sync{},
	AskClose{}, SignClose{}, RefundDue{}, DropPaper{}, KeepPaper{}, CloseDue{}, Broadcast{}, SendStep{})

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
