package bank

import (
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Event is what happens to a bank or a payment. The set is closed.
type Event interface{ event() }

// Effect is what a machine wants done. The set is closed; Effects stores it.
type Effect interface{ effect() }

// Events of both sides.
type (
	// Connected tells of a block that joined the active chain.
	Connected struct{ contract.Block }
	// Disconnected tells of a block that left it.
	Disconnected struct{ contract.Undo }
	// Broadcasted answers Broadcast and Publish. Err is empty, or why the
	// network refuses the transaction, which all that share it are told.
	Broadcasted struct {
		Err  string
		Txid wire.Hash // of Broadcast's
	}
	// Restored: the home was made of a backup. What was done since is not known.
	// Height is the chain's, 0 where it is not known yet: the blocks since the
	// backup are told only now, and nobody could speak to us in them.
	Restored struct{ Height wire.Height }
)

// Events of the payer, which comes to life by NewPayer.
type (
	// Quoted brings the payee's key and terms.
	Quoted struct {
		Height wire.Height
		Payee  wire.Key
		Conf   uint32
	}
	// NotQuoted: the payee takes no such bank, or does not answer.
	NotQuoted struct{ Why string }
	// CoinsLocked brings the coins of the funding, and the secret that is derived
	// from the home's and the first of them.
	CoinsLocked struct {
		Height       wire.Height
		Inputs       []wire.Outpoint
		Change       wire.Sat
		ChangeScript []byte
		Fee          wire.Sat
		Root         wire.Secret
	}
	// NoCoins: the wallet cannot pay. Soon is what it has when all that is locked
	// or waits for a block is free again.
	NoCoins struct{ Need, Have, Soon wire.Sat }
	// CoinsFreed: coins that were not there may be there now.
	CoinsFreed struct{}
	// Prepared brings what Prepare built.
	Prepared struct {
		Funding []byte // without witnesses
		At      wire.Outpoint
	}
	// Accepted: the payee has verified the bank and keeps it.
	Accepted struct{ Height wire.Height }
	// NotAccepted: it does not.
	NotAccepted struct{ Why string }
	// Cancelled: the user wants it back, before anything is paid.
	Cancelled struct{}
	// Ordered: the user pays that many pennies more.
	Ordered struct{ Pennies uint32 }
	// Assigned: a step of a payment needs so much credit at the payee. A banker
	// counts only what it could close on the chain, less a reserve.
	Assigned struct {
		ID      wire.Hash // of the payment
		Index   uint32    // of its step
		Amount  wire.Msat
		Banker  bool
		Reserve wire.Sat
		Relayed bool // it is passed on for others: their steps don't wait for one another
	}
	// Acknowledged: the final payee has the step of a payment. An earlier step's,
	// which may come twice, says nothing of the one under way.
	Acknowledged struct {
		ID    wire.Hash
		Index uint32
	}
	// Unassigned: the payee refused the step, and shows that its credit is as it was.
	Unassigned struct {
		ID     wire.Hash
		Index  uint32
		Amount wire.Msat
	}
	// Streamed tells how many pennies the payee holds durably, as far as it said.
	// Why is why it takes no more, or empty.
	Streamed struct {
		Count uint32
		Why   string
	}
	// Synced tells, after a restore, how many pennies the payee has shown to hold.
	Synced struct{ Count uint32 }
	// CloseWanted: the user ends the bank.
	CloseWanted struct{}
	// CloseOffered brings the payee's offer for a close by both.
	CloseOffered struct {
		Count  uint32 // of the pennies that it shows to hold
		Payer  wire.Sat
		Fee    wire.Sat
		Script []byte
	}
	// CloseRefused: the payee makes no offer; it closes alone, or never.
	CloseRefused struct{ Why string }
	// CloseSent: it has our signature.
	CloseSent struct{ Txid wire.Hash }
	// RefundBuilt: a transaction that takes this bank, or its change, back, perhaps
	// with others, is built. One of them broadcasts it.
	RefundBuilt struct {
		Sent      contract.Sent
		Broadcast bool
	}
	// RefundFailed: it would not pay for its fee.
	RefundFailed struct{}
)

// Effects of the payer.
type (
	// AskTerms asks the payee. Answered by Quoted or NotQuoted.
	AskTerms struct {
		Peer    Peer
		Request wire.BankRequest
	}
	// LockCoins picks coins for the funding, and locks them for this contract.
	// Answered by CoinsLocked or NoCoins.
	LockCoins struct{ Amount wire.Sat }
	// UnlockCoins gives them back.
	UnlockCoins struct{}
	// Prepare makes the chain, the terms and the funding, and keeps the paper.
	// Answered by Prepared.
	Prepare struct {
		Root         wire.Secret
		Payee        wire.Key
		Expiry       wire.Height
		Ladder       penny.Ladder
		Inputs       []wire.Outpoint
		Change       wire.Sat
		ChangeScript []byte
	}
	// Offer signs all rungs and brings the bank to the payee. Answered by Accepted
	// or NotAccepted.
	Offer struct {
		Peer    Peer
		Root    wire.Secret
		Funding []byte
		At      wire.Outpoint
	}
	// Publish signs the funding and broadcasts it. Answered by Broadcasted.
	Publish struct {
		Tx []byte
		// Until is the height from which it is too late: a funding that no node has
		// accepted by then is not published any more.
		Until wire.Height
	}
	// Stream sends pennies up to the target. Answered by Streamed.
	Stream struct{}
	// Sync asks what the payee holds. Answered by Synced.
	Sync struct{}
	// AskClose asks for a close by both, and, by SignClose, ends it. Answered by
	// CloseOffered or CloseRefused.
	AskClose struct{}
	// SignClose gives the payee our signature of what it offered. Answered by
	// CloseSent or CloseRefused.
	SignClose struct {
		Offer CloseOffered
		Rung  uint32 // that the pennies reach into: the payer gets at least its change
	}
	// RefundDue asks that what can be taken back is, in one transaction with that
	// of every other bank. Answered by RefundBuilt to all of them, or RefundFailed.
	RefundDue struct{ Rate wire.SatPerKVB }
	// DropPaper deletes what KeepPaper or Prepare kept.
	DropPaper struct{}
)

// Events of the payee, which comes to life by NewPayee.
type (
	// Paid brings a penny. Locks are those of the rungs that it reaches, in order.
	Paid struct {
		Height wire.Height
		Penny  penny.Penny
		Locks  [][20]byte
	}
	// Passed uses credit: it is passed on, or counts as paid to this payee.
	Passed struct {
		Amount  wire.Msat
		Banker  bool
		Reserve wire.Sat
	}
	// CloseAsked: the payer wants to close by both.
	CloseAsked struct {
		Fee    wire.Sat
		Script []byte
	}
	// CloseSigned: the payer has signed what was offered; Sent is signed by both.
	CloseSigned struct{ Sent contract.Sent }
	// CloseBuilt: a close of this bank alone, perhaps with other banks, is built.
	// One of them broadcasts it.
	CloseBuilt struct {
		Sent      contract.Sent
		Broadcast bool
	}
	// CloseFailed: no close can be built that pays for its fee.
	CloseFailed struct{}
)

// Effects of the payee.
type (
	// KeepPaper keeps the bank's paper, in the commit that asks for it.
	KeepPaper struct{ Paper Paper }
	// CloseDue asks that the bank is closed without the payer, in one transaction
	// with every other that is due. Answered by CloseBuilt to all of them, or
	// CloseFailed.
	CloseDue struct {
		Rate wire.SatPerKVB
		// Urgent closes bump an earlier transaction.
		Urgent bool
	}
	// Broadcast broadcasts a signed transaction. Answered by Broadcasted.
	Broadcast struct{ Tx []byte }
)

func (Connected) event()    {}
func (Disconnected) event() {}
func (Broadcasted) event()  {}
func (Restored) event()     {}
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
func (SignClose) effect()   {}
func (RefundDue) effect()   {}
func (DropPaper) effect()   {}
func (KeepPaper) effect()   {}
func (CloseDue) effect()    {}
func (Broadcast) effect()   {}
