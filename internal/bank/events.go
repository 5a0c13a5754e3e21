package bank

import (
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Event is an event of a bank or a payment. The set of types is closed.
type Event interface{ event() }

// Effect is an action requested by a machine. The set of types is closed;
// Effects encodes and decodes them.
type Effect interface{ effect() }

// Events of both sides.
type (
	// Connected reports a block that joined the active chain.
	Connected struct{ contract.Block }
	// Disconnected reports a block that left the active chain.
	Disconnected struct{ contract.Undo }
	// Broadcasted is the result of Broadcast and Publish. Err is empty, or the
	// reason why the network refuses the transaction; all banks that share the
	// transaction get it.
	Broadcasted struct {
		Err    string
		Txid   wire.Hash // of Broadcast's
		TooLow bool      // the fee is under the minimum: no bank is the reason
		Own    bool      // this bank broadcast it
	}
	// Paired is the result of AskPair: the reverse bank, or why there is none.
	Paired struct {
		Bank ID
		Why  string
	}
	// Restored says that the home was restored from a backup, so actions since
	// the backup are unknown. Height is the chain's height, or 0 if unknown.
	// The blocks since the backup are reported only now, and no peer could
	// reach us during them.
	Restored struct{ Height wire.Height }
)

// Events of the payer. NewPayer creates it.
type (
	// Quoted contains the payee's key and terms.
	Quoted struct {
		Height wire.Height
		Payee  wire.Key
		Conf   uint32
	}
	// NotQuoted says that the payee does not accept this bank, or does not
	// answer.
	NotQuoted struct{ Why string }
	// CoinsLocked contains the coins of the funding, and the root secret
	// derived from the home's secret and the first coin.
	CoinsLocked struct {
		Height       wire.Height
		Inputs       []wire.Outpoint
		Change       wire.Sat
		ChangeScript []byte
		Fee          wire.Sat
		Root         wire.Secret
	}
	// NoCoins says that the wallet cannot pay Need. Soon is its balance once
	// all locked and unconfirmed coins are available again.
	NoCoins struct{ Need, Have, Soon wire.Sat }
	// CoinsFreed says that more coins may be available now.
	CoinsFreed struct{}
	// Prepared contains the result of Prepare.
	Prepared struct {
		Funding []byte // without witnesses
		At      wire.Outpoint
	}
	// Accepted says that the payee has verified and stored the bank.
	Accepted struct{ Height wire.Height }
	// NotAccepted says that the payee has refused it.
	NotAccepted struct{ Why string }
	// Cancelled says that the user cancels the bank, before anything is paid.
	Cancelled struct{}
	// Withdrawn says that a transaction that takes back the coins of the
	// unconfirmed funding is on its way. If the funding confirms first, the bank is
	// open after all.
	Withdrawn struct{}
	// Bumped says that the user wants a close or a refund that pays at least this
	// rate.
	Bumped struct{ Rate wire.SatPerKVB }
	// Ordered says that the user pays this many more pennies.
	Ordered struct{ Pennies uint32 }
	// Assigned says that a step of a payment needs this much credit at the
	// payee. A banker counts only what it could close on the chain, less a
	// reserve.
	Assigned struct {
		ID      wire.Hash // of the payment
		Index   uint32    // of its step
		Amount  wire.Msat
		Banker  bool
		Reserve wire.Sat
		Relayed bool // forwarded for others: their steps do not wait for one another
	}
	// Acknowledged says that the final payee has a payment's step. An
	// acknowledgement of an earlier step, which may be repeated, says nothing
	// about the current one.
	Acknowledged struct {
		ID    wire.Hash
		Index uint32
	}
	// Unassigned says that the payee refused the step and proves that its
	// credit is unchanged.
	Unassigned struct {
		ID     wire.Hash
		Index  uint32
		Amount wire.Msat
	}
	// Streamed says how many pennies the payee has acknowledged. Why is the
	// reason why it accepts no more, or empty.
	Streamed struct {
		Count uint32
		Why   string
	}
	// Synced says how many pennies the payee proved to hold, after a restore.
	Synced struct{ Count uint32 }
	// CloseWanted says that the user closes the bank.
	CloseWanted struct{}
	// CloseOffered contains the payee's offer for a cooperative close.
	CloseOffered struct {
		Count  uint32 // of the pennies that it proves to hold
		Payer  wire.Sat
		Fee    wire.Sat
		Script []byte
	}
	// CloseRefused says that the payee makes no offer; it closes alone, or
	// never.
	CloseRefused struct{ Why string }
	// CloseSent says that the payee has our signature.
	CloseSent struct{ Txid wire.Hash }
	// RefundBuilt says that a transaction is built that refunds this bank, or
	// spends its change, perhaps with others. One of the banks broadcasts it.
	RefundBuilt struct {
		Sent      contract.Sent
		Broadcast bool
	}
	// RefundFailed says that no refund could be built. It is tried again at the
	// next block, or with Pause, if it is not worth its fee, Again blocks later.
	RefundFailed struct{ Pause bool }
)

// Effects of the payer.
type (
	// AskTerms asks the payee for its terms. Its result is Quoted or NotQuoted.
	AskTerms struct {
		Peer    Peer
		Request wire.BankRequest
	}
	// LockCoins selects coins for the funding and locks them for this contract.
	// Its result is CoinsLocked or NoCoins.
	LockCoins struct{ Amount wire.Sat }
	// UnlockCoins unlocks the coins of this contract.
	UnlockCoins struct{}
	// Prepare computes the chain, the terms and the funding, and stores the
	// paper. Its result is Prepared.
	Prepare struct {
		Root         wire.Secret
		Payee        wire.Key
		Expiry       wire.Height
		Ladder       penny.Ladder
		Inputs       []wire.Outpoint
		Change       wire.Sat
		ChangeScript []byte
	}
	// Offer signs all rungs and sends the bank to the payee. Its result is
	// Accepted or NotAccepted.
	Offer struct {
		Peer    Peer
		Root    wire.Secret
		Funding []byte
		At      wire.Outpoint
	}
	// Publish signs the funding and broadcasts it. Its result is Broadcasted.
	Publish struct {
		Tx []byte
		// Until is the height from which it is too late: a funding that no node
		// has accepted by then is not published.
		Until wire.Height
	}
	// Stream sends pennies up to the target. Its result is Streamed.
	Stream struct{}
	// Sync asks what the payee holds. Its result is Synced.
	Sync struct{}
	// AskPair asks for the reverse bank that was ordered with this one. Its result is
	// Paired.
	AskPair struct{ Value wire.Sat }
	// AskClose asks for a cooperative close, which SignClose completes. Its
	// result is CloseOffered or CloseRefused.
	AskClose struct{}
	// SignClose sends the payee our signature of its offer. Its result is
	// CloseSent or CloseRefused.
	SignClose struct {
		Offer CloseOffered
		Rung  uint32 // the rung begun by the pennies: the payer gets at least its change
	}
	// RefundDue requests that whatever can be refunded is, in one transaction
	// with all other banks'. The result, for all of them, is RefundBuilt or
	// RefundFailed.
	RefundDue struct{}
	// DropPaper deletes the paper stored by KeepPaper or Prepare, and the funding
	// stored by KeepFunding.
	DropPaper struct{}
)

// Events of the payee. NewPayee creates it.
type (
	// Paid contains a penny, and the locks of the rungs that it reaches, in
	// order.
	Paid struct {
		Height wire.Height
		Penny  penny.Penny
		Locks  [][20]byte
	}
	// Passed uses credit: to forward it, as paid to this payee by a payment, or
	// because its owner charges what was paid directly.
	Passed struct {
		Amount  wire.Msat
		Banker  bool
		Reserve wire.Sat
	}
	// Evicted says that others need the room of a bank without funding.
	Evicted struct{}
	// Tied says that the bank pays for a job. Its pennies do not count as credit for
	// payments, and none of them is given back in a close.
	Tied struct{}
	// Leaving says that the bank is about to be closed in one transaction with a
	// job's other banks. From here on no penny is accepted. Without FinalSigned, the
	// bank is closed alone some blocks later.
	Leaving struct{}
	// FinalSigned contains that transaction, with all signatures.
	FinalSigned struct{ Sent contract.Sent }
	// Lost says that the payer has acknowledgements of pennies that the payee does
	// not hold: the payee's home is an old copy.
	Lost struct{}
	// CloseAsked says that the payer asks for a cooperative close.
	CloseAsked struct {
		Fee    wire.Sat
		Script []byte
		// Unused is the credit that the payer says it has not used. In the offer,
		// it is what the payee gives back of the pennies.
		Unused wire.Msat `cbor:",omitempty"`
	}
	// CloseSigned says that the payer has signed the offer; Sent has both
	// signatures.
	CloseSigned struct{ Sent contract.Sent }
	// CloseBuilt says that a rung close of this bank, perhaps with other banks,
	// is built. One of the banks broadcasts it.
	CloseBuilt struct {
		Sent      contract.Sent
		Broadcast bool
	}
	// CloseFailed says that no close could be built. It is tried again at the next
	// block, or with Pause, if it is not worth its fee, Again blocks later.
	CloseFailed struct{ Pause bool }
)

// Effects of the payee.
type (
	// KeepPaper stores the bank's paper, in the commit that requests it.
	KeepPaper struct{ Paper Paper }
	// KeepFunding stores the confirmed funding, with witnesses, in the commit
	// that requests it. It may be hundreds of kilobytes.
	KeepFunding struct{ Tx []byte }
	// Rebroadcast broadcasts the stored funding, which a reorg has dropped. Its
	// result is Broadcasted.
	Rebroadcast struct{}
	// CloseDue requests that the bank be closed without the payer, in one
	// transaction with all others that are due. The result, for all of them, is
	// CloseBuilt or CloseFailed.
	CloseDue struct{}
	// Broadcast broadcasts a signed transaction. Its result is Broadcasted.
	Broadcast struct{ Tx []byte }
)

func (Connected) event()    {}
func (Disconnected) event() {}
func (Broadcasted) event()  {}
func (Restored) event()     {}
func (Paired) event()       {}
func (Lost) event()         {}
func (Tied) event()         {}
func (Leaving) event()      {}
func (FinalSigned) event()  {}
func (Withdrawn) event()    {}
func (Bumped) event()       {}
func (Evicted) event()      {}
func (Quoted) event()       {}
func (NotQuoted) event()    {}
func (CoinsLocked) event()  {}
func (NoCoins) event()      {}
func (CoinsFreed) event()   {}
func (Prepared) event()     {}
func (Accepted) event()     {}
func (NotAccepted) event()  {}
func (Cancelled) event()    {}
func (Ordered) event()      {}
func (Assigned) event()     {}
func (Acknowledged) event() {}
func (Unassigned) event()   {}
func (Streamed) event()     {}
func (Synced) event()       {}
func (CloseWanted) event()  {}
func (CloseOffered) event() {}
func (CloseRefused) event() {}
func (CloseSent) event()    {}
func (RefundBuilt) event()  {}
func (RefundFailed) event() {}
func (Paid) event()         {}
func (Passed) event()       {}
func (CloseAsked) event()   {}
func (CloseSigned) event()  {}
func (CloseBuilt) event()   {}
func (CloseFailed) event()  {}

func (AskTerms) effect()    {}
func (LockCoins) effect()   {}
func (UnlockCoins) effect() {}
func (Prepare) effect()     {}
func (Offer) effect()       {}
func (Publish) effect()     {}
func (Stream) effect()      {}
func (Sync) effect()        {}
func (AskClose) effect()    {}
func (AskPair) effect()     {}
func (SignClose) effect()   {}
func (RefundDue) effect()   {}
func (DropPaper) effect()   {}
func (KeepPaper) effect()   {}
func (KeepFunding) effect() {}
func (Rebroadcast) effect() {}
func (CloseDue) effect()    {}
func (Broadcast) effect()   {}
