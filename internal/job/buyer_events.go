package job

import (
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// KindBuyer is the kind of Buyer, as it is written in a home's database.
const KindBuyer = "job-buyer"

// BuyerMachines is what the engine needs to run a Buyer.
var BuyerMachines = contract.Package[BuyerEvent, BuyerEffect]{Effects: BuyerEffects, Class: ClassOfBuyer,
	Connected:    func(b contract.Block) BuyerEvent { return Connected{Block: b} },
	Disconnected: func(u contract.Undo) BuyerEvent { return Disconnected{Undo: u} }}

// BuyerEffects is the codec for the buyer's effects.
var BuyerEffects = contract.EffectsOf[BuyerEffect](Ask{}, LockCoins{}, UnlockCoins{}, Build{}, Offer{}, OpenBanks{}, Fund{}, Supply{}, Inspect{}, Referee{}, Call{},
	KeepCert{}, BeginClose{})

// ClassOfBuyer returns e's class.
func ClassOfBuyer(e BuyerEffect) contract.Class {
	switch e.(type) {
	case Ask, Call:
		return contract.Request
	case Build, Offer, Supply, Inspect, Referee:
		return contract.Transfer
	}
	return contract.Local
}

// BuyerEvent is an event of a Buyer. The set of types is closed.
type BuyerEvent interface{ buyerEvent() }

// BuyerEffect is an action requested by a Buyer. The set of types is closed. Each is
// carried out at least once, however late; an answer to one that no longer counts
// changes nothing.
type BuyerEffect interface{ buyerEffect() }

// Events of the buyer. Bank identifies the seat that an answer is about.
type (
	// Quoted contains a party's terms: the payee's key and the confirmations of
	// its bank, and its key in the job.
	Quoted struct {
		Bank       wire.Hash
		Height     wire.Height
		Payee, Key wire.Key
		Conf       uint32
	}
	// NotQuoted says that a candidate does not take part, or does not answer in
	// time.
	NotQuoted struct {
		Bank wire.Hash
		Why  string
	}
	// CoinsLocked contains the coins of the funding.
	CoinsLocked struct {
		Inputs       []wire.Outpoint
		Change       wire.Sat
		ChangeScript []byte
		Fee          wire.Sat
	}
	// NoCoins says that the wallet cannot pay Need. Soon is its balance once all
	// locked and unconfirmed coins are available again.
	NoCoins struct{ Need, Have, Soon wire.Sat }
	// CoinsFreed says that more coins may be available now.
	CoinsFreed struct{}
	// Built is the result of Build. Keys are the payer's secret keys in the banks'
	// scripts. The funding has no witnesses.
	Built struct {
		First   wire.Hash // id of the first bank, which tells one attempt from another
		Banks   []wire.BankTerms
		Keys    []wire.Secret
		Funding []byte
	}
	// Accepted says that a party has verified and stored its bank and the job.
	Accepted struct {
		Bank   wire.Hash
		Height wire.Height
	}
	// NotAccepted says that a party refused the bank or the job, or does not answer in
	// time.
	NotAccepted struct {
		Bank wire.Hash
		Why  string
	}
	// BanksOpened says that every bank is a contract of its own.
	BanksOpened struct{}
	// FundingSent is the result of Fund. Err is empty, or the reason why the network
	// refuses the funding. The banks are told in the same transaction.
	FundingSent struct{ Err string }
	// Cancelled says that the user cancels the job. Before the funding, nothing was
	// paid; after it, what is paid stays paid, and the rest comes back.
	Cancelled struct{}
	// Withdrawn says that a transaction that takes back the coins of the unconfirmed
	// funding is on its way. If the funding confirms first, the job runs after all.
	Withdrawn struct{}
	// Certified contains a certificate. Those that change the roster come in order.
	Certified struct{ Cert Certificate }
	// Inspected is the result of Inspect: all sampled epochs have the certified
	// states, or False is one that has another.
	Inspected struct {
		To    uint32
		False *FalseEpoch
	}
	// Supplied says which pennies' shares a holder has stored, by bank: those up to
	// Upto.
	Supplied struct {
		Holder uint8
		Upto   []uint32
	}
	// Stuck says that a party finds no quorum for an epoch in this attempt.
	Stuck struct {
		From           uint8
		Epoch, Attempt uint32
	}
	// Refereed is the result of Referee.
	Refereed struct {
		Epoch, Attempt uint32
		State          wire.Hash
		Outcome        Outcome
	}
)

// Effects of the buyer. An executor reads what it needs from the Buyer's state.
type (
	// Ask asks a candidate for the terms of a bank, and for its key in the job. Its
	// result is Quoted or NotQuoted.
	Ask struct {
		Peer    wire.Peer
		Request wire.BankRequest
	}
	// LockCoins selects coins for a funding of this many banks and locks them. Its
	// result is CoinsLocked or NoCoins.
	LockCoins struct {
		Amount wire.Sat
		Banks  uint8
	}
	// UnlockCoins unlocks the coins of this contract.
	UnlockCoins struct{}
	// Build computes the banks of all seats and their one funding. Its result is
	// Built.
	Build struct{ First wire.Hash }
	// Offer gives a party its bank, and the job. Its result is Accepted or
	// NotAccepted.
	Offer struct {
		Seat uint8
		Bank wire.Hash
	}
	// OpenBanks makes every bank a contract of its own, so that it is refunded,
	// closed and pruned like any bank. Its result is BanksOpened.
	OpenBanks struct{}
	// Fund signs the funding and broadcasts it. Its result is FundingSent.
	Fund struct {
		Tx    []byte
		Until wire.Height // from here on it is too late to publish it
	}
	// Supply gives a holder the sheets that it lacks of the windows that are dealt
	// (Buyer.Window). Its result is Supplied.
	Supply struct{ Holder uint8 }
	// Inspect runs these epochs again, each from the certified state before it. Its
	// result is Inspected. While a state is not to be had, there is none.
	Inspect struct {
		To     uint32
		Epochs []uint32
	}
	// Referee runs an epoch from the last certified state. Its result is Refereed.
	Referee struct{ Epoch, Attempt uint32 }
	// Call sends a verdict to all parties.
	Call struct{ Verdict Verdict }
	// BeginClose creates the buyer's Closing, or tells it to try again.
	BeginClose struct{}
)

// FalseEpoch is a certified epoch whose state is another when it is run again.
type FalseEpoch struct {
	Epoch     uint32
	Certified wire.Hash
	State     wire.Hash // what the buyer's machine got
	Outcome   Outcome
	Signers   []uint8 // of the certificate
}

func (Connected) buyerEvent()    {}
func (Disconnected) buyerEvent() {}
func (Restored) buyerEvent()     {}
func (Quoted) buyerEvent()       {}
func (NotQuoted) buyerEvent()    {}
func (CoinsLocked) buyerEvent()  {}
func (NoCoins) buyerEvent()      {}
func (CoinsFreed) buyerEvent()   {}
func (Built) buyerEvent()        {}
func (Accepted) buyerEvent()     {}
func (NotAccepted) buyerEvent()  {}
func (BanksOpened) buyerEvent()  {}
func (FundingSent) buyerEvent()  {}
func (Cancelled) buyerEvent()    {}
func (Withdrawn) buyerEvent()    {}
func (Certified) buyerEvent()    {}
func (Inspected) buyerEvent()    {}
func (Supplied) buyerEvent()     {}
func (Stuck) buyerEvent()        {}
func (Refereed) buyerEvent()     {}

func (Ask) buyerEffect()         {}
func (LockCoins) buyerEffect()   {}
func (UnlockCoins) buyerEffect() {}
func (Build) buyerEffect()       {}
func (Offer) buyerEffect()       {}
func (OpenBanks) buyerEffect()   {}
func (Fund) buyerEffect()        {}
func (Supply) buyerEffect()      {}
func (Inspect) buyerEffect()     {}
func (Referee) buyerEffect()     {}
func (Call) buyerEffect()        {}
func (KeepCert) buyerEffect()    {}
func (BeginClose) buyerEffect()  {}
