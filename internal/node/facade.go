package node

import (
	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/node/coins"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/node/directory"
)

// What users of a node name is of its rooms.
type (
	Letter    = delivery.Letter
	Estimate  = delivery.Estimate
	Advertise = directory.Advertise
)

// Errors of rooms.
var (
	ErrEmpty     = delivery.ErrEmpty
	ErrNoMessage = delivery.ErrNoMessage
	ErrUnread    = delivery.ErrUnread
	ErrAmbiguous = delivery.ErrAmbiguous
	ErrNoNames   = directory.ErrNoNames
	ErrOutbid    = directory.ErrOutbid
	ErrStands    = directory.ErrStands
	ErrNoAddress = directory.ErrNoAddress
	ErrHintLost  = directory.ErrHintLost
	ErrSyncing   = coins.ErrSyncing
)

// TLD is the one whose hints are seeds of the DHT.
const TLD = directory.TLD

// HintScript is the output script of a hint; see directory.HintScript.
func HintScript(h blockname.Hint) ([]byte, error) { return directory.HintScript(h) }
