// Package banking implements the node's penny banks. As payer it opens them,
// streams pennies and pays through bankers; as payee it accepts pennies,
// closes, and forwards payments if it is a banker itself.
package banking

import (
	"context"
	"log/slog"
	"sync"
	"time"

	btcwire "github.com/btcsuite/btcd/wire/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/share"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Engine is what the room needs of the engine.
type Engine interface {
	Position() chain.BlockRef
	FeeRate() wire.SatPerKVB
	Fees() chain.Fees
	State(context.Context, engine.Ref) (any, error)
	StateIn(engine.Tx, engine.Ref) (any, error)
	Create(context.Context, engine.Creation) error
	CreateWith(context.Context, func(engine.Tx) (engine.Creation, error)) error
	CreateAndTell(context.Context, []engine.Creation, []engine.Delivery) ([]any, error)
	Tell(context.Context, engine.Ref, engine.Event) (any, error)
	TellWith(context.Context, engine.Ref, engine.Event, func(engine.Tx) error) (any, error)
	TellAll(context.Context, []engine.Delivery) ([]any, error)
	TellEach(context.Context, []engine.Delivery) ([]engine.Told, error)
}

// Coins funds banks; *coins.Coins does.
type Coins interface {
	share.Coins
	Lock(tx engine.Tx, ref engine.Ref, amount wire.Sat, weight int64) (*wallet.Picked, *wallet.Short, error)
	Unlock(engine.Tx, engine.Ref) error
	Wake(engine.Kind, engine.Event)
	NextWaiting(engine.Tx) ([]engine.Delivery, error)
	Prove(ctx context.Context, at wire.Outpoint, digest wire.Hash) (wire.Signature, error)
	Fund(ctx context.Context, ref engine.Ref, tx, use []byte, until wire.Height) (why string, err error)
	Broadcast(context.Context, *btcwire.MsgTx) (why string, tooLow bool, err error)
	Bump(ctx context.Context, txid wire.Hash, fee wallet.Fee) (*btcwire.MsgTx, error)
	Cancel(ctx context.Context, txid wire.Hash, fee wallet.Fee) (*btcwire.MsgTx, error)
	// Ready refuses a peer while the chain is being caught up with; Synced waits
	// longer, for the user.
	Ready(context.Context) error
	Synced(context.Context) error
}

// Chain says where the chain ends; a chain.Backend does.
type Chain interface {
	Tip(context.Context) (chain.BlockRef, error)
}

// Caller asks payees and bankers; a *p2p.Host does.
type Caller interface {
	BankTerms(ctx context.Context, to wire.Peer, req *wire.BankRequest) (*wire.BankQuote, error)
	OpenBank(ctx context.Context, to wire.Peer, o *wire.BankOpen) error
	BankState(ctx context.Context, to wire.Peer, as *p2p.Payer) (wire.BankState, error)
	Pennies(ctx context.Context, to wire.Peer, as *p2p.Payer, f func(*p2p.PennyStream) error) error
	Lost(ctx context.Context, to wire.Peer, as *p2p.Payer) error
	AskClose(ctx context.Context, to wire.Peer, as *p2p.Payer, unused wire.Msat) (*wire.CloseOffer, error)
	SignClose(ctx context.Context, to wire.Peer, as *p2p.Payer, c *wire.CloseSign) (*wire.CloseDone, error)
	Pair(ctx context.Context, to wire.Peer, as *p2p.Payer, r *wire.PairRequest) (*wire.PairOpened, error)
	Transfer(ctx context.Context, to wire.Peer, as *p2p.Payer, t *wire.Transfer, note *wire.Note) (*wire.TransferAck, error)
	Route(ctx context.Context, to wire.Peer, as *p2p.Payer, r *wire.RouteRequest) (*wire.Route, error)
}

// Host is where payers ask this node; a *p2p.Host is one.
type Host interface{ Public() []string }

// Config configures a Banks.
type Config struct {
	Network  wire.Network
	Identity wire.Secret
	Self     wire.Key // of Identity
	Policy   *Policy  // nil for a payer only
	Store    engine.Store
	Engine   Engine
	Coins    Coins
	Chain    Chain
	Calls    Caller
	Log      *slog.Logger
}

// Banks is the node's penny banks, and its payments over them.
type Banks struct {
	cfg     Config
	host    Host // nil for a payer only
	margins bank.Margins
	closes  *share.Sharing[bank.Payee, contract.BankClose]
	refunds *share.Sharing[bank.Payer, contract.BankRefund]

	mu        sync.Mutex
	locks     map[wire.Hash]chan struct{} // one stream per bank, one step per relay
	users     map[wire.Hash]int
	door      *door                 // for banks that are not funded
	making    sync.Mutex            // while a bank gets a place
	wrong     map[bank.ID]time.Time // when a false penny came
	counters  map[bank.ID]*counter  // of the banks with open streams
	byPeer    byPeer
	pruning   pruning
	purses    *sized[bank.ID, *penny.Purse]
	papers    *sized[string, *bank.Paper]
	proofs    *lru.Cache[wire.Hash, wire.Signature] // as payer, by what they sign
	payerKeys *lru.Cache[bank.ID, wire.Key]         // as payee
	admitted  *lru.Cache[admission, struct{}]       // as payee
	declined  *lru.Cache[bank.ID, *rate.Limiter]    // as banker: limits each payer's refused routes
	reserves  *lru.Cache[bank.ID, toldReserve]      // of bankers, with our banks
	mute      *lru.Cache[engine.Ref, int]           // of payments: how often in a row their first hop did not answer
	answers   answers                               // as banker
}

// New returns a room.
func New(cfg Config) *Banks {
	b := &Banks{cfg: cfg, margins: bank.MarginsFor(cfg.Network), closes: closing(&cfg), refunds: refunding(&cfg),
		locks: map[wire.Hash]chan struct{}{}, users: map[wire.Hash]int{}, wrong: map[bank.ID]time.Time{}, counters: map[bank.ID]*counter{}, door: newDoor(cfg.Policy)}
	// A purse of a million pennies takes 64 kB and a tenth of a second to make, a
	// paper up to 86 kB.
	const purses, papers, proofs = 128 << 20, 64 << 20, 4096
	b.purses = newSized[bank.ID](purses, (*penny.Purse).Size)
	b.papers = newSized[string](papers, func(p *bank.Paper) int {
		return len(p.Terms.Locks)*len([20]byte{}) + len(p.Sigs)*len(wire.Signature{}) + 1024
	})
	b.proofs, _ = lru.New[wire.Hash, wire.Signature](proofs) // fails for sizes below 1
	b.payerKeys, _ = lru.New[bank.ID, wire.Key](proofs)
	b.admitted, _ = lru.New[admission, struct{}](proofs)
	b.declined, _ = lru.New[bank.ID, *rate.Limiter](proofs)
	b.reserves, _ = lru.New[bank.ID, toldReserve](proofs)
	b.mute, _ = lru.New[engine.Ref, int](proofs)
	cfg.Coins.Wake(bank.KindPayer, bank.CoinsFreed{})
	return b
}

// Listen sets the host of a payee. It must be called before a reverse bank is
// requested.
func (b *Banks) Listen(host Host) { b.host = host }

// Machines are those of payer, payee, payments and relays.
func (b *Banks) Machines() []engine.Machine {
	p := engine.MachineOf[bank.Payer](bank.KindPayer, bank.Machines)
	p.Executor, p.Account, p.Observe, p.Hot = payer{b}, b.refunds.Account, b.byPeer.observe, true
	y := engine.MachineOf[bank.Payee](bank.KindPayee, bank.Machines)
	y.Executor, y.Account, y.Hot = payee{b}, b.closes.Account, true
	s := engine.MachineOf[bank.Sending](bank.KindSending, bank.Machines)
	s.Executor, s.Hot = sending{b}, true
	r := engine.MachineOf[bank.Relay](bank.KindRelay, bank.Machines)
	r.Executor, r.Hot = relay{}, true
	return []engine.Machine{p, y, s, r}
}

// Restored returns the event for a contract of a home restored from a backup.
// The blocks since the backup are reported only later. Without a node to ask
// for the height, waiting times start at the first of those blocks.
func (b *Banks) Restored(ctx context.Context, _ engine.Ref) (engine.Event, error) {
	var ev bank.Restored
	if tip, err := b.cfg.Chain.Tip(ctx); err == nil {
		ev.Height = tip.Height
	}
	return ev, nil
}
