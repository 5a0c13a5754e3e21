package node

import (
	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/agent"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/node/coins"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/node/directory"
)

// What users of a node name is of its rooms.
type (
	Letter    = delivery.Letter
	Estimate  = delivery.Estimate
	Advertise = directory.Advertise
	Stored    = agent.Stored
	Banking   = banking.Policy
	BankTerms = banking.Terms
	BankQuote = banking.Quote
	Payment   = banking.Payment
	Streaming = banking.Streaming
)

// Errors of rooms.
var (
	ErrEmpty     = delivery.ErrEmpty
	ErrNoMessage = delivery.ErrNoMessage
	ErrUnread    = delivery.ErrUnread
	ErrAmbiguous = engine.ErrAmbiguous
	ErrNoNames   = directory.ErrNoNames
	ErrOutbid    = directory.ErrOutbid
	ErrStands    = directory.ErrStands
	ErrNoAddress = directory.ErrNoAddress
	ErrHintLost  = directory.ErrHintLost
	ErrSyncing   = coins.ErrSyncing
	ErrNoBank    = banking.ErrNoBank
	ErrNoRoute   = banking.ErrNoRoute
	ErrNoPayee   = banking.ErrNoPayee
)

// TLD is the one whose hints are seeds of the DHT.
const TLD = directory.TLD

// HintScript is the output script of a hint; see directory.HintScript.
func HintScript(h blockname.Hint) ([]byte, error) { return directory.HintScript(h) }

// RefOf names the contract of a bank's state; see banking.RefOf.
func RefOf(state any) engine.Ref { return banking.RefOf(state) }
