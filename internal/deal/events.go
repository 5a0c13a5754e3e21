package deal

import (
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Event is an event of a deal. The set of types is closed.
type Event interface{ event() }

// Effect is an action requested by a deal. The set of types is closed; Effects
// encodes and decodes them.
type Effect interface{ effect() }

// Events of every role.
type (
	// Connected reports a block that joined the active chain.
	Connected struct{ contract.Block }
	// Disconnected reports a block that left the active chain.
	Disconnected struct{ contract.Undo }
	// Broadcasted is the result of Broadcast and Publish. Err is empty, or the
	// reason why the network refuses the transaction. All agents' deals that share
	// a claim get it.
	Broadcasted struct {
		Err  string
		Txid wire.Hash // of Broadcast's
		// TooLow says that the fee is under the minimum: no deal is the reason. For
		// a funding it says that the node's minimum has risen above its rate, so it
		// is not signed.
		TooLow bool
		Own    bool // this deal broadcast it
	}
	// Restored says that the home was restored from a backup, so actions since
	// the backup are unknown. CopyHere says whether an agent's sealed copy is
	// on disk.
	Restored struct{ CopyHere bool }
	// Discarded says that the user wants to remove the message.
	Discarded struct{}
)

// Events of the sender.
type (
	// Quoted contains the candidates' answers.
	Quoted struct {
		Height wire.Height
		Quotes []wire.Quote
		Why    []string // reasons of those that gave no quote, for people
	}
	// CopiesSealed contains the hash of each leg's sealed copy, in the order of
	// the legs.
	CopiesSealed struct{ Hashes []wire.Hash }
	// CoinsLocked contains the coins that will fund the message. Change is the
	// value of the change output, or 0 for none.
	CoinsLocked struct {
		Inputs       []wire.Outpoint
		Change       wire.Sat
		ChangeScript []byte
		Fee          wire.Sat
	}
	// NoCoins says that the wallet cannot pay Need. Soon is its balance once
	// all locked and unconfirmed coins are available again.
	NoCoins struct{ Need, Have, Soon wire.Sat }
	// Placed says that an agent holds its copy.
	Placed struct {
		Height  wire.Height
		Receipt wire.Receipt
	}
	// NotPlaced says that an agent does not hold its copy.
	NotPlaced struct {
		Agent wire.Key
		Why   string
	}
	// AckArrived contains the recipient's sealed acknowledgement, received from
	// an agent.
	AckArrived struct {
		Agent wire.Key
		Blob  []byte
	}
	// NothingNew is the result of Poll if there is no acknowledgement.
	NothingNew struct{}
	// CoinsFreed says that more coins may be available now.
	CoinsFreed struct{}
	// Cancelled says that the user cancels the message, before anything is
	// paid.
	Cancelled struct{}
)

// Effects of the sender.
type (
	// AskQuotes asks every candidate, each in its own session (SessionFor), for
	// storage counted from the tip. Its result is Quoted.
	AskQuotes struct {
		Seed       wire.Secret
		E          wire.Key
		Size       uint64
		Shape      wire.Shape
		Blocks     uint32 // of storage
		Slack      uint32
		Candidates []Candidate
	}
	// SealCopies computes the hash of each leg's sealed copy. Its result is
	// CopiesSealed.
	SealCopies struct {
		Ephemeral wire.Secret
		Key       wire.MessageKey
		Legs      []SealFor
	}
	// SealFor is one leg of SealCopies.
	SealFor struct{ Agent, Point wire.Key }
	// LockCoins selects coins for a funding with this many frozen outputs of
	// Amount in total, and locks them for this contract until UnlockCoins. Its
	// result is CoinsLocked or NoCoins.
	LockCoins struct {
		Amount wire.Sat
		Frozen int // number of frozen outputs
	}
	// UnlockCoins unlocks the coins of this contract.
	UnlockCoins struct{}
	// Place gives an agent its package and copy. Its result is Placed or
	// NotPlaced.
	Place struct {
		Candidate Candidate
		Ephemeral wire.Secret
		Package   wire.Package
	}
	// Publish signs the funding and broadcasts it. Its result is Broadcasted.
	Publish struct {
		Tx       []byte
		RefundTo []byte // an address that is marked as used from now on
		// Until is the height from which it is too late: a funding that no node
		// has accepted by then is not published.
		Until wire.Height
	}
	// Broadcast broadcasts a signed transaction. Its result is Broadcasted.
	Broadcast struct{ Tx []byte }
	// Gather takes back together what this and other messages have left, if that
	// is worth its fee. It has no result: the chain shows it.
	Gather struct{}
	// Poll asks an agent for the acknowledgement. Its result is AckArrived or
	// NothingNew.
	Poll struct {
		Candidate Candidate
		Request   wire.StatusRequest
	}
	// DropPayload deletes the sender's spooled payload, the recipient's copies,
	// or the agent's copy, with its entry under Find.
	DropPayload struct{ Find wire.Hash }
	// DropMessage deletes a message that was read.
	DropMessage struct{}
)

// Events of the agent. NewAgent creates it with its quote.
type (
	// Offered contains a package whose sealed copy, with the given hash and
	// size, is stored.
	Offered struct {
		Height   wire.Height
		Package  wire.Package
		CopyHash wire.Hash
		Size     uint64
		// Checked is CheckPackage's result for the package. If it is nil, or of
		// another package, the machine checks the package itself.
		Checked *Checked
	}
	// Released contains σ.
	Released struct {
		Height wire.Height
		Sigma  wire.Secret
	}
	// Acked contains the recipient's sealed acknowledgement.
	Acked struct {
		MAC  wire.Hash
		Blob []byte
	}
	// ClaimBuilt says that a claim of this deal, perhaps with others, is built.
	// One of the deals broadcasts it.
	ClaimBuilt struct {
		Sent      contract.Sent
		Broadcast bool
	}
	// ClaimFailed says that no claim could be built. It is tried again at the
	// next block, or with Pause, if it is not worth its fee, after a day.
	ClaimFailed struct {
		Why   string
		Pause bool
	}
)

// Effects of the agent.
type (
	// ClaimDue requests that a claim be built and broadcast, in one transaction
	// with those of all other deals that are ready. The result, for all of
	// them, is ClaimBuilt or ClaimFailed.
	ClaimDue struct{}
)

// Events of the recipient. NewRecipient creates it.
type (
	// Located contains the proofs of agents that hold the message. Their
	// signatures over the channel are already verified.
	Located struct {
		Height wire.Height
		Found  []Located1
		Wide   bool // as Locate asked
	}
	// Located1 is one agent's proof.
	Located1 struct {
		Candidate Candidate
		Proof     wire.Proof
	}
	// Fetched says that a copy is stored and that its size and hash are right.
	Fetched struct {
		Height wire.Height
		Agent  wire.Key
	}
	// NotFetched says that it is not.
	NotFetched struct {
		Height wire.Height
		Agent  wire.Key
		Why    string
		Wrong  bool // the copy is not the one in the leaf: do not ask again
	}
	// Revealed contains an agent's answer to σ.
	Revealed struct {
		Agent wire.Key
		Tau   wire.Secret
	}
	// NotRevealed says that the agent gave another answer, or none.
	NotRevealed struct {
		Agent wire.Key
		Code  wire.Code // OK if there was no answer
		Why   string
	}
	// Opened says that the message is decrypted and its signature verified.
	Opened struct {
		Sender wire.Key
		Size   uint64
	}
	// NotOpened says that the copy was the one in the leaf, but does not open.
	NotOpened struct{ Why string }
	// AckLeft is the result of LeaveAck.
	AckLeft struct{ OK bool }
)

// Effects of the recipient.
type (
	// Locate asks the agents near L. With Wide it also asks those around, and
	// those that publish in the DHT that they hold the message. Its result is
	// Located.
	Locate struct {
		Locator wire.Locator
		E       wire.Key
		Wide    bool
	}
	// Fetch proves to the agent that the recipient asks, and downloads the
	// copy. Its result is Fetched or NotFetched.
	Fetch struct {
		Candidate Candidate
		Outpoint  wire.Outpoint
		Leaf      wire.Leaf
		FetchKey  wire.Secret
	}
	// Release sends σ to the agent. Its result is Revealed or NotRevealed.
	Release struct {
		Candidate Candidate
		Point     wire.Key
		Sigma     wire.Secret
	}
	// Open unseals and decrypts the copy. Its result is Opened or NotOpened.
	Open struct {
		Leaf wire.Leaf
		E    wire.Key
		Tau  wire.Secret
	}
	// LeaveAck signs an acknowledgement and leaves it with the agent that
	// served the copy. Its result is AckLeft.
	LeaveAck struct {
		Candidate Candidate
		E         wire.Key
		Root      wire.Hash
		Leaf      wire.Leaf
		FetchKey  wire.Secret
	}
)

func (Connected) event()    {}
func (Disconnected) event() {}
func (Broadcasted) event()  {}
func (Quoted) event()       {}
func (CopiesSealed) event() {}
func (CoinsLocked) event()  {}
func (NoCoins) event()      {}
func (Placed) event()       {}
func (NotPlaced) event()    {}
func (AckArrived) event()   {}
func (NothingNew) event()   {}
func (CoinsFreed) event()   {}
func (Cancelled) event()    {}
func (Discarded) event()    {}
func (Restored) event()     {}
func (Offered) event()      {}
func (Released) event()     {}
func (Acked) event()        {}
func (ClaimBuilt) event()   {}
func (ClaimFailed) event()  {}
func (Located) event()      {}
func (Fetched) event()      {}
func (NotFetched) event()   {}
func (Revealed) event()     {}
func (NotRevealed) event()  {}
func (Opened) event()       {}
func (NotOpened) event()    {}
func (AckLeft) event()      {}

func (AskQuotes) effect()   {}
func (SealCopies) effect()  {}
func (LockCoins) effect()   {}
func (UnlockCoins) effect() {}
func (Place) effect()       {}
func (Publish) effect()     {}
func (Broadcast) effect()   {}
func (Poll) effect()        {}
func (Gather) effect()      {}
func (DropPayload) effect() {}
func (DropMessage) effect() {}
func (ClaimDue) effect()    {}
func (Locate) effect()      {}
func (Fetch) effect()       {}
func (Release) effect()     {}
func (Open) effect()        {}
func (LeaveAck) effect()    {}
