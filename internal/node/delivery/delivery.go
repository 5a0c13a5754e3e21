// Package delivery sends and receives the user's messages. It chooses agents,
// carries out the effects of the machines of sender and recipient, and finds
// the user's messages on the chain.
package delivery

import (
	"cmp"
	"context"
	"io"
	"log/slog"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Engine is the part of the engine that the room needs.
type Engine interface {
	Position() chain.BlockRef
	FeeRate() wire.SatPerKVB
	Fees() chain.Fees
	State(context.Context, engine.Ref) (any, error)
	Tell(context.Context, engine.Ref, engine.Event) (any, error)
	CreateWith(context.Context, func(engine.Tx) (engine.Creation, error)) error
}

// Coins pays for messages; *coins.Coins does.
type Coins interface {
	Lock(tx engine.Tx, ref engine.Ref, amount wire.Sat, weight int64) (*wallet.Picked, *wallet.Short, error)
	Unlock(engine.Tx, engine.Ref) error
	Wake(engine.Kind, engine.Event)
	NextWaiting(engine.Tx) ([]engine.Delivery, error)
	PeekScript(tx engine.Tx, branch uint32) ([]byte, error)
	Publish(ctx context.Context, ref engine.Ref, tx, use []byte, until wire.Height, wants func(engine.Tx) (bool, error)) (why string, low bool, err error)
	Signed(tx engine.Tx, funding []byte) (bool, error)
	FeeRate(context.Context) wire.SatPerKVB
	Broadcast(context.Context, *btcwire.MsgTx) (why string, tooLow bool, err error)
}

// Directory finds agents; a *directory.Directory does.
type Directory interface {
	WaitNetwork(context.Context) error
	Nearest(ctx context.Context, l wire.Locator, wide bool) ([]p2p.Found, error)
	Met() []*directory.Met
}

// Caller asks agents; a *p2p.Host does.
type Caller interface {
	Quote(ctx context.Context, to wire.Peer, req *wire.QuoteRequest) (*wire.Quote, error)
	Store(ctx context.Context, to wire.Peer, p *wire.Package, body io.Reader) (*wire.Receipt, error)
	Status(ctx context.Context, to wire.Peer, req *wire.StatusRequest) (*wire.Status, error)
	Ask(ctx context.Context, to wire.Peer, fetchKey wire.Secret) ([]wire.Proof, error)
	Fetch(ctx context.Context, to wire.Peer, fetchKey wire.Secret, at wire.Outpoint, leaf *wire.Leaf, w io.Writer) error
	Release(ctx context.Context, to wire.Peer, point wire.Key, sigma wire.Secret) (wire.Secret, error)
	Acknowledge(ctx context.Context, to wire.Peer, a *wire.Acknowledge) error
	Holding(ctx context.Context, owner wire.Key) (*wire.Holding, error)
}

// The directories of messages in a home.
const (
	dirOutgoing = "outgoing" // payloads of messages sent, by message key
	dirIncoming = "incoming" // sealed copies fetched, and messages read
)

// Dirs are the directories in a home that the room needs.
var Dirs = []string{dirOutgoing, dirIncoming}

// Config configures a Delivery.
type Config struct {
	Network   wire.Network
	Identity  wire.Secret
	Self      wire.Key // of Identity
	Margins   deal.Margins
	Store     engine.Store
	Files     *disk.Files // with Dirs
	Engine    Engine
	Coins     Coins
	Directory Directory
	Calls     Caller
	// MaxMessage is the largest sealed copy that is fetched, in bytes; 0 means
	// no limit except the format's.
	MaxMessage uint64
	// Progress, if set, reports how many of total bytes some long work has
	// done. It is called often and from any goroutine.
	Progress func(what string, done, total uint64)
	Log      *slog.Logger
}

// Delivery sends and receives messages. It follows the chain.
type Delivery struct {
	cfg      Config
	scanner  *seal.Scanner
	gathered gathered
}

// New returns a room. It deletes files of messages that belong to no contract.
func New(ctx context.Context, cfg Config) (*Delivery, error) {
	scanner, err := seal.NewScanner(cfg.Identity)
	if err != nil {
		return nil, err
	}
	cfg.Coins.Wake(deal.KindSender, deal.CoinsFreed{})
	d := &Delivery{cfg: cfg, scanner: scanner}
	return d, cfg.Store.View(ctx, func(tx engine.Tx) error {
		return cfg.Files.Sweep(dirOutgoing, cfg.Log, func(name string) (bool, error) {
			s, err := engine.Named[deal.Sender](tx, deal.KindSender, name)
			return s != nil && !s.Interest().Done, err
		})
	})
}

// Machines returns the machines of sender and recipient.
func (d *Delivery) Machines() []engine.Machine {
	s := engine.MachineOf[deal.Sender](deal.KindSender, deal.Machines)
	s.Executor = sender{d}
	r := engine.MachineOf[deal.Recipient](deal.KindRecipient, deal.Machines)
	r.Executor = recipient{d}
	return []engine.Machine{s, r}
}

// Restored returns the event for a contract of a home restored from a backup.
func (d *Delivery) Restored(context.Context, engine.Ref) (engine.Event, error) {
	return deal.Restored{}, nil
}

// answered ends an effect with the resulting event. If the context was
// cancelled, the result proves nothing, and the effect is carried out again.
func answered(ctx context.Context, ref engine.Ref, ev deal.Event, err error) (func(engine.Tx) ([]engine.Delivery, error), error) {
	if err != nil || ctx.Err() != nil {
		return nil, cmp.Or(err, ctx.Err())
	}
	return engine.Answer(ref, ev), nil
}

func senderRef(k wire.MessageKey) engine.Ref {
	return engine.Ref{Kind: deal.KindSender, ID: wire.Hash(k)}
}

// recipientRef identifies a received message by its funding, which has one
// marker.
func recipientRef(txid wire.Hash) engine.Ref {
	return engine.Ref{Kind: deal.KindRecipient, ID: txid}
}

// message returns the path of a message that was read.
func (d *Delivery) message(ref engine.Ref) string {
	return d.cfg.Files.Path(dirIncoming, ref.ID, ".eml")
}
