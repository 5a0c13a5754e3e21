package deal

import "github.com/bitgram/bitgram/internal/contract"

// Effects is the codec for this package's effects.
var Effects = contract.EffectsOf[Effect](AskQuotes{}, SealCopies{}, LockCoins{}, UnlockCoins{}, Place{}, Publish{}, Broadcast{},
	Poll{}, DropPayload{}, DropMessage{}, ClaimDue{}, Locate{}, Fetch{}, Release{}, Open{}, LeaveAck{})

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
