// Package directory implements the node's part in the DHT: joining it through
// configured seeds, remembered agents and hints on the chain; looking up
// agents; publishing an agent's records; and keeping the agent's own hint on
// the chain.
package directory

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	btcwire "github.com/btcsuite/btcd/wire/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/names"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// Coins pays for hints; *coins.Coins does.
type Coins interface {
	// PayWith keeps the transaction that build makes at a rate, and then
	// broadcasts it.
	PayWith(ctx context.Context, fee wallet.Fee, build func(engine.Tx, wire.SatPerKVB) (*btcwire.MsgTx, error)) (*btcwire.MsgTx, error)
	Burn(tx engine.Tx, script []byte, amount wire.Sat, rate wire.SatPerKVB) (*btcwire.MsgTx, error)
	Unconfirmed(engine.Tx) ([]*btcwire.MsgTx, error)
}

// Engine says whether the chain is read to its tip.
type Engine interface {
	Synced() bool
}

// Caller asks others; a *p2p.Host does.
type Caller interface {
	Bootstrap(context.Context) error
	Known() int
	Nearest(ctx context.Context, target []byte, wide bool) ([]p2p.Found, error)
	Advertisement(ctx context.Context, agent wire.Key) (*wire.Advertisement, error)
	Probe(context.Context, multiaddr.Multiaddr) (peer.ID, error)
}

// Host is where others ask this node; a *p2p.Host is one.
type Host interface {
	Bootstrap(context.Context) error
	Known() int
	Addrs() []string
	Public() []string
	Seed() []string
	Offer(*wire.Advertisement)
	OfferCompute(*wire.ComputeOffer)
	Advertise(context.Context, *wire.Advertisement) error
	Announce(context.Context, *wire.Holding) error
}

// Offer is what an agent offers.
type Offer struct {
	Services wire.Services
	Rate     wire.Psat
	Limits   wire.Limits
	// Compute is on what terms the node computes; nil if it does not.
	Compute *Compute
	// Served calls f for each message that the agent serves now.
	Served func(ctx context.Context, f func(point wire.Key, g wire.Grant)) error
}

// Compute is on what terms a node computes.
type Compute struct {
	Rate   wire.Psat // per 10⁹ units of fuel
	Limits wire.ComputeLimits
}

// Config is what a Directory is made of.
type Config struct {
	Network  wire.Network
	Identity wire.Secret
	Self     wire.Key // of Identity
	Store    engine.Store
	Coins    Coins
	Engine   Engine
	// Seeds are multiaddrs with peer IDs through which to join the DHT.
	Seeds []string
	// Names is the index of hints; nil if no hints are read.
	Names *names.Index
	// Offer is what the node offers as an agent; nil for others.
	Offer *Offer
	// Advertise, if set, keeps the agent's own hint on the chain. It requires
	// Names.
	Advertise *Advertise
	// BlocksPerDay is how many blocks are between two hints that are paid for.
	BlocksPerDay uint32
	Log          *slog.Logger
}

// Directory is the node's part in the DHT. Create it with New, set its hosts
// with Call and Listen, then call Run.
type Directory struct {
	cfg       Config
	calls     Caller
	host      Host                     // nil for a node that nobody asks
	own       atomic.Pointer[[]string] // the own agent's seeds, once it listens
	roster    roster
	joined    chan struct{} // closed once the node is in the DHT
	published published
	hints     hints
	hintLost  atomic.Pointer[error] // why the agent's own hint is not on the chain
}

// New returns a directory that remembers the agents that it met before.
func New(ctx context.Context, cfg Config) (*Directory, error) {
	d := &Directory{cfg: cfg, joined: make(chan struct{}), hints: newHints()}
	d.published.news = make(chan struct{}, 1)
	d.published.clear()
	return d, d.load(ctx)
}

// DHT returns the configuration of a host's part in the DHT.
func (d *Directory) DHT(serve bool) *p2p.DHT {
	return &p2p.DHT{Network: d.cfg.Network, Serve: serve, Hinted: d.hinted, Remembered: d.remembered, Seeds: d.seeds}
}

// Call sets the host for outgoing requests. It must be called before Run.
func (d *Directory) Call(calls Caller) { d.calls = calls }

// Listen sets the host for incoming requests, if the node has one, and starts
// to offer the agent. It must be called before Run.
func (d *Directory) Listen(ctx context.Context, host Host) error {
	d.host = host
	if !d.serves() {
		return nil
	}
	own := host.Seed()
	d.own.Store(&own)
	_, err := d.offer(ctx)
	return err
}

// Run keeps the node in the DHT, and an agent's hint on the chain, until ctx ends.
func (d *Directory) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	if d.cfg.Names != nil {
		running.Go(func() { d.cfg.Names.Follow(ctx) })
		running.Go(func() { d.seek(ctx) })
		if d.serves() && d.cfg.Advertise != nil {
			running.Go(func() { d.advertise(ctx) })
		}
	}
	running.Go(func() { d.join(ctx) })
	running.Go(func() { d.tend(ctx) })
}
