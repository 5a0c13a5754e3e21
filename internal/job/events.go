package job

import (
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Event is an event of a node's part in a job. The set of types is closed.
type Event interface{ event() }

// Effect is an action requested by the machine. The set of types is closed.
// Messages (Broadcast, Send, GiveShare, SendCerts) may be lost, repeated and reordered; every
// other effect is carried out at least once, however late.
type Effect interface{ effect() }

// Events.
type (
	// Connected and Disconnected report blocks (Node.Interest). The job starts
	// when the funding has Terms.Depth confirmations.
	Connected    struct{ contract.Block }
	Disconnected struct{ contract.Undo }
	// Ended says that this party's bank takes no more pennies: a close is signed or
	// seen, or a rung's penny was false. It is final.
	Ended struct{}
	// Ran is the result of Run: the epoch ended with this state. Salt is fresh
	// and random.
	Ran struct {
		Epoch, Turn uint32
		State       wire.Hash // root of the sync event
		Outcome     Outcome
		Salt        wire.Secret
	}
	// DealtTo says that a window dealt to this party is verified (Dealt.Verify)
	// and stored. Windows come in order.
	DealtTo struct{ Window Window }
	// Received contains a message. From is the party at the other end of the
	// channel.
	Received struct {
		From uint8
		Msg  Message
	}
	// Tick says that some time has passed, long enough for a message and its
	// answer.
	Tick struct{}
	// Loaded is the result of Fetch: the state of a certified epoch is stored,
	// and its root is the certificate's.
	Loaded struct {
		Epoch uint32
		State wire.Hash
	}
	// Judged is the result of Judge.
	Judged struct {
		Epoch   uint32
		State   wire.Hash
		Outcome Outcome
	}
	// Released says that the buyer, online, pays directly.
	Released struct {
		K      uint32
		Secret [wire.PennySize]byte
	}
	// WrittenOff says that the owner gives up payment for this many epochs, for
	// which it was absent or too late, so that the node continues.
	WrittenOff struct{ Epochs uint32 }
	// Restored says that the home was restored from a backup. What it signed
	// since is unknown, so it signs nothing any more; shares are still given
	// and accepted.
	Restored struct{}
)

// Effects.
type (
	// Broadcast sends a message to all other parties; Send sends one to one
	// party.
	Broadcast struct{ Msg Message }
	Send      struct {
		To  uint8
		Msg Message
	}
	// Run runs one epoch from the state of the one before, which for a
	// certified epoch is the certified state. It cancels an earlier Run of
	// another turn. Its result is Ran.
	Run struct{ Epoch, Turn uint32 }
	// Cancel cancels the running epoch: there is no money for it.
	Cancel struct{}
	// Fetch gets the state of a certified epoch from other parties. Its result
	// is Loaded.
	Fetch struct {
		Epoch uint32
		State wire.Hash
	}
	// GiveShare sends a party the share of its k-th penny (GiveShare.Give). It is
	// requested again when the party says in a Status that it does not have it.
	GiveShare struct {
		To     uint8
		K      uint32
		Signed bool // the party asks for a signature
	}
	// Earned reports the node's k-th penny, for its bank.
	Earned struct {
		K      uint32
		Secret [wire.PennySize]byte
	}
	// KeepCert stores a certificate.
	KeepCert struct{ Cert Certificate }
	// SendCerts sends a party the stored certificates from an epoch on. Of
	// consecutive ones with the same roster, only the last is needed.
	SendCerts struct {
		To   uint8
		From uint32
	}
	// Judge runs an epoch for a verdict, from the certified state of the epoch before,
	// whose root is Before (zeros before the first); if that is not here, it is got from
	// other parties. A newer certificate ends it. Its result is Judged. It is requested
	// at most once for each epoch.
	Judge struct {
		Epoch  uint32
		Before wire.Hash
	}
	// Pause says that no quorum agrees on the epoch. A referee must run it.
	Pause struct{ Epoch, Attempt uint32 }
	// Publish publishes a proof.
	Publish struct{ Proof Proof }
)

func (Connected) event()    {}
func (Disconnected) event() {}
func (Ended) event()        {}
func (Ran) event()          {}
func (DealtTo) event()      {}
func (Received) event()     {}
func (Tick) event()         {}
func (Loaded) event()       {}
func (Judged) event()       {}
func (Released) event()     {}
func (WrittenOff) event()   {}
func (Restored) event()     {}

func (Broadcast) effect() {}
func (Send) effect()      {}
func (Run) effect()       {}
func (Cancel) effect()    {}
func (Fetch) effect()     {}
func (GiveShare) effect() {}
func (Earned) effect()    {}
func (KeepCert) effect()  {}
func (SendCerts) effect() {}
func (Judge) effect()     {}
func (Pause) effect()     {}
func (Publish) effect()   {}
