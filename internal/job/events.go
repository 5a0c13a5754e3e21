package job

import (
	"github.com/bitgram/bitgram/wire"
)

// Event is what happens to a node's part in a job. The set is closed.
type Event interface{ event() }

// Effect is what the machine wants done. The set is closed. Messages may be lost,
// repeated and reordered; all else is done, perhaps twice, however late.
type Effect interface{ effect() }

// Events.
type (
	// Started: the job's trigger is deep enough.
	Started struct{}
	// Ran answers Run: the epoch ended with that state. Salt is fresh and random.
	Ran struct {
		Epoch, Turn uint32
		State       wire.Hash // root of the sync event
		Done        bool      // the program ended
		Salt        wire.Secret
	}
	// DealtTo: a window was dealt to this party, verified (Dealt.Verify), and is
	// kept. Windows come in order.
	DealtTo struct{ Window Window }
	// Received brings a message. From is the party at the other end of the channel.
	Received struct {
		From uint8
		Msg  Message
	}
	// Tick: some time has passed, long enough for a message to go round.
	Tick struct{}
	// Loaded answers Fetch: the state of a certified epoch is here, and its root is
	// the certificate's.
	Loaded struct {
		Epoch uint32
		State wire.Hash
	}
	// Released: the buyer, online, pays directly.
	Released struct {
		K      uint32
		Secret [wire.PennySize]byte
	}
	// WrittenOff: the owner gives up being paid for that many epochs, which it was
	// away in or too late for, and works on.
	WrittenOff struct{ Epochs uint32 }
	// Restored: the home was made of a backup. What was signed since is not known,
	// so nothing is signed any more; shares still go both ways.
	Restored struct{}
)

// Effects.
type (
	// Broadcast sends a message to all other parties, and Send to one.
	Broadcast struct{ Msg Message }
	Send      struct {
		To  uint8
		Msg Message
	}
	// Run runs one epoch, from the state of the one before: of a certified one as
	// it was certified. An earlier Run of another turn is void. Answered by Ran.
	Run struct{ Epoch, Turn uint32 }
	// Fetch gets the state of a certified epoch from others. Answered by Loaded.
	Fetch struct {
		Epoch uint32
		State wire.Hash
	}
	// GiveShare gives a party the share of its k-th penny (NewGive), until it has it.
	GiveShare struct {
		To uint8
		K  uint32
	}
	// Earned: the node's k-th penny, for its bank.
	Earned struct {
		K      uint32
		Secret [wire.PennySize]byte
	}
	// KeepCert keeps a certificate.
	KeepCert struct{ Cert Certificate }
	// SendCerts sends a party what is kept from an epoch on: of those in a row that
	// have one roster the last will do.
	SendCerts struct {
		To   uint8
		From uint32
	}
	// Pause: no quorum agrees on the epoch. A referee runs it.
	Pause struct{ Epoch, Attempt uint32 }
	// Publish makes a proof known.
	Publish struct{ Proof Proof }
)

func (Started) event()    {}
func (Ran) event()        {}
func (DealtTo) event()    {}
func (Received) event()   {}
func (Tick) event()       {}
func (Loaded) event()     {}
func (Released) event()   {}
func (WrittenOff) event() {}
func (Restored) event()   {}

func (Broadcast) effect() {}
func (Send) effect()      {}
func (Run) effect()       {}
func (Fetch) effect()     {}
func (GiveShare) effect() {}
func (Earned) effect()    {}
func (KeepCert) effect()  {}
func (SendCerts) effect() {}
func (Pause) effect()     {}
func (Publish) effect()   {}
