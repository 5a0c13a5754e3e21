package deal

import (
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Event is what happens to a deal. The set is closed.
type Event interface{ event() }

// Effect is what a deal wants done. The set is closed; EncodeEffect and
// DecodeEffect store it.
type Effect interface{ effect() }

// Events of every role.
type (
	// Connected tells of a block that joined the active chain.
	Connected struct{ contract.Block }
	// Disconnected tells of a block that left it.
	Disconnected struct{ contract.Undo }
	// Broadcasted answers Broadcast and Publish. Err is empty, or why the
	// network refuses the transaction.
	Broadcasted struct{ Err string }
	// Restored: the home was made of a backup. What was done since it was made
	// is not known. CopyHere tells an agent that the sealed copy is here.
	Restored struct{ CopyHere bool }
	// Discarded: the user wants to see no more of the message.
	Discarded struct{}
)

// Events of the sender.
type (
	// Quoted brings what the candidates answered.
	Quoted struct {
		Height wire.Height
		Quotes []wire.Quote
		Why    []string // of those that gave none, for people
	}
	// CopiesSealed brings the hash of each leg's sealed copy, in leg order.
	CopiesSealed struct{ Hashes []wire.Hash }
	// CoinsLocked brings the coins that will fund the message. Change is what
	// comes back, 0 for no change output.
	CoinsLocked struct {
		Inputs       []wire.Outpoint
		Change       wire.Sat
		ChangeScript []byte
		Fee          wire.Sat
	}
	// NoCoins: the wallet cannot pay Need. Soon is what it has when all that is
	// locked or waits for a block is free again.
	NoCoins struct{ Need, Have, Soon wire.Sat }
	// Placed: an agent holds its copy.
	Placed struct {
		Height  wire.Height
		Receipt wire.Receipt
	}
	// NotPlaced: an agent does not.
	NotPlaced struct {
		Agent wire.Key
		Why   string
	}
	// AckArrived brings the recipient's sealed acknowledgement from an agent.
	AckArrived struct {
		Agent wire.Key
		Blob  []byte
	}
	// NothingNew answers Poll without an acknowledgement.
	NothingNew struct{}
	// CoinsFreed: coins that were not there may be there now.
	CoinsFreed struct{}
	// Cancelled: the user wants it back, before anything is paid.
	Cancelled struct{}
)

// Effects of the sender.
type (
	// AskQuotes asks every candidate, each in its own session (SessionFor) and
	// with storage counted from the tip. Answered by Quoted.
	AskQuotes struct {
		Seed       wire.Secret
		E          wire.Key
		Size       uint64
		Shape      wire.Shape
		Blocks     uint32 // of storage
		Slack      uint32
		Candidates []Candidate
	}
	// SealCopies computes the hash of each leg's sealed copy. Answered by
	// CopiesSealed.
	SealCopies struct {
		Ephemeral wire.Secret
		Key       wire.MessageKey
		Legs      []SealFor
	}
	// SealFor is one leg of SealCopies.
	SealFor struct{ Agent, Point wire.Key }
	// LockCoins picks coins for a funding with that many frozen outputs of
	// Amount in all, and locks them for this contract until it unlocks them.
	// Answered by CoinsLocked or NoCoins.
	LockCoins struct {
		Amount wire.Sat
		Frozen int // number of frozen outputs
	}
	// UnlockCoins gives the coins back.
	UnlockCoins struct{}
	// Place gives an agent its package and copy. Answered by Placed or
	// NotPlaced.
	Place struct {
		Candidate Candidate
		Ephemeral wire.Secret
		Package   wire.Package
	}
	// Publish signs the funding and broadcasts it. Answered by Broadcasted.
	Publish struct {
		Tx       []byte
		RefundTo []byte // an address that counts as used from now on
		// Until is the height from which it is too late: a funding that no node
		// has accepted by then is not published any more.
		Until wire.Height
	}
	// Broadcast broadcasts a signed transaction. Answered by Broadcasted.
	Broadcast struct{ Tx []byte }
	// Poll asks an agent for the acknowledgement. Answered by AckArrived or
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

// Events of the agent. Its quote comes to life by NewAgent.
type (
	// Offered brings a package whose sealed copy, of the given hash and size,
	// is stored.
	Offered struct {
		Height   wire.Height
		Package  wire.Package
		CopyHash wire.Hash
		Size     uint64
		// Checked is what CheckPackage said of the package; where it is nil, or of
		// another, the package is checked here.
		Checked *Checked
	}
	// Released brings σ.
	Released struct {
		Height wire.Height
		Sigma  wire.Secret
	}
	// Acked brings the recipient's sealed acknowledgement.
	Acked struct {
		MAC  wire.Hash
		Blob []byte
	}
	// ClaimBuilt: a claim of this deal, perhaps with others, is built. One of
	// them broadcasts it.
	ClaimBuilt struct {
		Sent      contract.Sent
		Broadcast bool
	}
	// ClaimFailed: no claim could be built; tried again at the next block.
	ClaimFailed struct{ Why string }
)

// Effects of the agent.
type (
	// ClaimDue asks that a claim is built and broadcast, in one transaction
	// with every other deal's that is ready. Answered by ClaimBuilt to all of
	// them, or ClaimFailed.
	ClaimDue struct {
		Rate wire.SatPerKVB
		// Urgent claims bump an earlier transaction.
		Urgent bool
	}
)

// Events of the recipient, which comes to life by NewRecipient.
type (
	// Located brings the proofs of agents that hold the message. Their
	// signatures over the channel are checked already.
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
	// Fetched: a copy is here and its size and hash are right.
	Fetched struct {
		Height wire.Height
		Agent  wire.Key
	}
	// NotFetched: it is not.
	NotFetched struct {
		Height wire.Height
		Agent  wire.Key
		Why    string
		Wrong  bool // the copy came and is not the one in the leaf: no use asking again
	}
	// Revealed brings an agent's answer to σ.
	Revealed struct {
		Agent wire.Key
		Tau   wire.Secret
	}
	// NotRevealed: the agent answered otherwise, or not at all.
	NotRevealed struct {
		Agent wire.Key
		Code  wire.Code // OK where nothing came back
		Why   string
	}
	// Opened: the message is decrypted, its signature right.
	Opened struct {
		Sender wire.Key
		Size   uint64
	}
	// NotOpened: the copy was the one promised, and yet it does not open.
	NotOpened struct{ Why string }
	// AckLeft answers LeaveAck.
	AckLeft struct{ OK bool }
)

// Effects of the recipient.
type (
	// Locate asks the agents near L; with Wide also those from around it, and
	// those that say in the DHT that they hold the message. Answered by
	// Located.
	Locate struct {
		Locator wire.Locator
		E       wire.Key
		Wide    bool
	}
	// Fetch proves to the agent that the recipient asks, and downloads the
	// copy. Answered by Fetched or NotFetched.
	Fetch struct {
		Candidate Candidate
		Outpoint  wire.Outpoint
		Leaf      wire.Leaf
		FetchKey  wire.Secret
	}
	// Release hands σ to the agent. Answered by Revealed or NotRevealed.
	Release struct {
		Candidate Candidate
		Point     wire.Key
		Sigma     wire.Secret
	}
	// Open unseals and decrypts the copy. Answered by Opened or NotOpened.
	Open struct {
		Leaf wire.Leaf
		E    wire.Key
		Tau  wire.Secret
	}
	// LeaveAck signs an acknowledgement and leaves it with the agent that
	// served. Answered by AckLeft.
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
func (DropPayload) effect() {}
func (DropMessage) effect() {}
func (ClaimDue) effect()    {}
func (Locate) effect()      {}
func (Fetch) effect()       {}
func (Release) effect()     {}
func (Open) effect()        {}
func (LeaveAck) effect()    {}
