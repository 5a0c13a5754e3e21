// Package node assembles a home's node: store, wallet, engine, network and
// files, in the roles of sender, recipient and, if it has a policy, agent.
package node

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/names"
	"github.com/bitgram/bitgram/internal/node/agent"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/node/coins"
	"github.com/bitgram/bitgram/internal/node/computing"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// Config configures a Node.
type Config struct {
	Dir     string // the home; all files of the node are below it
	Network wire.Network
	Seed    []byte // BIP39 seed: identity and coins
	Chain   chain.Backend
	// Policy makes the node an agent; nil for sender and recipient only.
	Policy *deal.Policy
	// Banking makes the node a payee of penny banks, which also listens; nil
	// for a payer only.
	Banking *banking.Policy
	// Computing makes the node work for jobs, which requires Banking, Runner and
	// Blobs; nil for one that works for none.
	Computing *computing.Policy
	Runner    sandbox.Runner  // closed by the caller, after the node
	Blobs     computing.Blobs // programs and inputs
	// MaxMessage is the largest sealed copy that is fetched for this home, in
	// bytes; 0 means no limit except the format's.
	MaxMessage uint64
	// Listen are an agent's or payee's multiaddrs.
	Listen []string
	// Seeds are multiaddrs with peer IDs through which to join the DHT.
	Seeds []string
	// Hints, if set, is the first block to read for hints: names, and seeds of
	// the DHT.
	Hints *wire.Height
	// Advertise, if set, puts an agent's own hint on the chain, and again if
	// its address changes or another bid takes its place. It requires Hints.
	Advertise *directory.Advertise
	// Gap is the number of unused addresses that the wallet watches on each
	// branch; at least wallet.GapLimit.
	Gap int
	// Birthday returns the height from which a new home follows the chain; nil
	// means from the beginning.
	Birthday func(context.Context) (wire.Height, error)
	// Secure, if set, is called before a funding is signed. When it returns
	// nil, a backup must contain everything needed to refund it.
	Secure func(context.Context) error
	// Observe sees every change of a contract; see engine.Config.
	Observe func(engine.Change)
	// Tip, if set, is called with the chain's position after new blocks.
	Tip func(chain.BlockRef)
	// Progress, if set, reports how many of total bytes some long work has
	// done. It is called often and from any goroutine.
	Progress func(what string, done, total uint64)
	// Serve and ServeBanks, if set, wrap the service of the agent, or of the
	// payee of banks.
	Serve      func(p2p.Service) p2p.Service
	ServeBanks func(p2p.Banks) p2p.Banks
	// Host creates the node's libp2p hosts; nil means p2p.New.
	Host func(p2p.Config) (*p2p.Host, error)
	// Intercept, if set, wraps the executor of effects, to stop a node in the
	// middle of one.
	Intercept func(engine.Executor) engine.Executor
	Log       *slog.Logger
}

// Node is one party, with its rooms and the parts that they share.
type Node struct {
	Coins     *coins.Coins
	Directory *directory.Directory
	Delivery  *delivery.Delivery
	Banks     *banking.Banks
	Computing *computing.Computing

	cfg      Config
	identity wire.Secret
	self     wire.Key
	margins  deal.Margins
	store    *store.Store
	wallet   coins.Wallet
	engine   *engine.Engine
	host     *p2p.Host // an agent's or payee's, under its identity; nil for others
	calls    *p2p.Host // calls others, under a random key
	files    *disk.Files
	agent    *agent.Agent // also for a node that is no longer an agent: its deals continue
	log      *slog.Logger

	stop    context.CancelFunc
	running sync.WaitGroup
	ended   chan struct{}
	err     error // why it ended
}

// Ended is closed when the node has stopped, by Close or because it cannot
// continue; Close then returns the reason.
func (n *Node) Ended() <-chan struct{} { return n.ended }

// Open opens the home and starts to listen; Start starts its work.
func Open(cfg Config) (n *Node, err error) {
	n = &Node{cfg: cfg, margins: deal.MarginsFor(cfg.Network), log: cfg.Log, ended: make(chan struct{})}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Host == nil {
		cfg.Host = p2p.New
	}
	if n.identity, err = wallet.IdentityKey(cfg.Seed); err != nil {
		return nil, err
	}
	priv, err := n.identity.PrivKey()
	if err != nil {
		return nil, err
	}
	n.self = wire.XOnly(priv.PubKey())
	if n.wallet, err = wallet.New(cfg.Seed, cfg.Chain.Params(), cfg.Gap); err != nil {
		return nil, err
	}
	if n.files, err = disk.Open(cfg.Dir, slices.Concat(agent.Dirs, delivery.Dirs, computing.Dirs)...); err != nil {
		return nil, err
	}
	if n.store, err = store.Open(filepath.Join(cfg.Dir, fileDB)); err != nil {
		return nil, err
	}
	if err := n.open(context.Background(), cfg); err != nil {
		for _, h := range []*p2p.Host{n.calls, n.host} {
			if h != nil {
				err = errors.Join(err, h.Close())
			}
		}
		return nil, errors.Join(err, n.store.Close())
	}
	return n, nil
}

// open creates the rooms in the order of their dependencies, and then listens.
func (n *Node) open(ctx context.Context, cfg Config) (err error) {
	if err := n.store.Update(ctx, func(tx engine.Tx) error { return n.wallet.Init(tx) }); err != nil {
		return err
	}
	n.engine = engine.New(engine.Config{Store: n.store, Chain: cfg.Chain, Birthday: cfg.Birthday, Observe: cfg.Observe, Log: n.log})
	n.Coins = coins.New(coins.Config{Store: n.store, Wallet: n.wallet, Chain: cfg.Chain, Engine: n.engine, Secure: cfg.Secure, Tip: cfg.Tip, Log: n.log})
	dir := directory.Config{Network: cfg.Network, Identity: n.identity, Self: n.self, Store: n.store, Coins: n.Coins, Engine: n.engine,
		Seeds: cfg.Seeds, Offer: n.offer(), Advertise: cfg.Advertise, BlocksPerDay: n.margins.BlocksPerDay, Log: n.log}
	if cfg.Hints != nil {
		dir.Names = names.New(names.Config{Store: n.store, Chain: cfg.Chain, From: *cfg.Hints, Log: n.log})
	}
	if n.Directory, err = directory.New(ctx, dir); err != nil {
		return err
	}
	if n.calls, err = cfg.Host(p2p.Config{Log: n.log, DHT: n.Directory.DHT(false)}); err != nil {
		return err
	}
	n.Directory.Call(n.calls)
	if n.Delivery, err = delivery.New(ctx, delivery.Config{Network: cfg.Network, Identity: n.identity, Self: n.self, Margins: n.margins,
		Store: n.store, Files: n.files, Engine: n.engine, Coins: n.Coins, Directory: n.Directory, Calls: n.calls,
		MaxMessage: cfg.MaxMessage, Progress: cfg.Progress, Log: n.log}); err != nil {
		return err
	}
	if n.agent, err = agent.New(ctx, agent.Config{Identity: n.identity, Self: n.self, Margins: n.margins, Policy: cfg.Policy, Store: n.store, Files: n.files,
		Engine: n.engine, Coins: n.Coins, Serves: n.Directory.Serves, Log: n.log}); err != nil {
		return err
	}
	n.Banks = banking.New(banking.Config{Network: cfg.Network, Identity: n.identity, Self: n.self, Policy: cfg.Banking, Store: n.store,
		Engine: n.engine, Coins: n.Coins, Chain: cfg.Chain, Calls: n.calls, Log: n.log})
	n.Computing = computing.New(computing.Config{Identity: n.identity, Self: n.self, Policy: cfg.Computing, Runner: cfg.Runner, Blobs: cfg.Blobs,
		Store: n.store, Files: n.files, Dir: cfg.Dir, Engine: n.engine, Coins: n.Coins, Banks: n.Banks, Chain: cfg.Chain, Log: n.log})
	for _, m := range n.machines() {
		if cfg.Intercept != nil {
			m.Executor = cfg.Intercept(m.Executor)
		}
		n.engine.Register(m.Machine)
	}
	n.engine.Follow(n.Coins, n.Delivery)
	if err := n.checkGeneration(ctx); err != nil {
		return err
	}
	if err := n.restored(ctx); err != nil {
		return err
	}
	return n.listen(ctx, cfg)
}

// listen makes the host of an agent or payee.
func (n *Node) listen(ctx context.Context, cfg Config) (err error) {
	if cfg.Policy == nil && cfg.Banking == nil {
		return nil
	}
	host := p2p.Config{Identity: n.identity, Listen: cfg.Listen, Log: n.log, DHT: n.Directory.DHT(cfg.Policy != nil)}
	if cfg.Policy != nil {
		host.Serve = n.agent
		if cfg.Serve != nil {
			host.Serve = cfg.Serve(host.Serve)
		}
	}
	if cfg.Banking != nil {
		host.Banks = &banking.Service{Banks: n.Banks}
		if cfg.ServeBanks != nil {
			host.Banks = cfg.ServeBanks(host.Banks)
		}
	}
	if cfg.Computing != nil && cfg.Banking != nil {
		host.Jobs = n.Computing
	}
	if n.host, err = cfg.Host(host); err != nil {
		return err
	}
	if host.Jobs != nil {
		n.Computing.Listen(n.host)
	}
	n.Banks.Listen(n.host)
	if err := n.Directory.Listen(ctx, n.host); errors.Is(err, directory.ErrNoAddress) {
		n.log.Warn("other nodes cannot find this agent", "err", err)
	} else if err != nil {
		return err
	}
	return nil
}

// offer returns what the node advertises as an agent.
func (n *Node) offer() *directory.Offer {
	p := n.cfg.Policy
	if p == nil {
		return nil
	}
	o := &directory.Offer{Services: wire.Delivery, Rate: p.Rate, Limits: wire.Limits{Size: p.MaxSize, Blocks: p.MaxBlocks}, Served: func(ctx context.Context, f func(wire.Key, wire.Grant)) error { return n.agent.Served(ctx, f) }}
	if n.cfg.Banking != nil {
		o.Services |= wire.Banking
	}
	return o
}

// IsAgent reports whether the node serves others.
func (n *Node) IsAgent() bool { return n.cfg.Policy != nil }

// Start runs the node until Close.
func (n *Node) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	n.running.Go(func() {
		select {
		case <-n.store.Damaged():
			cancel()
		case <-ctx.Done():
		}
	})
	n.running.Go(func() {
		defer close(n.ended)
		n.err = n.engine.Run(ctx)
		if ctx.Err() != nil && errors.Is(n.err, context.Canceled) {
			n.err = nil // closed as soon as started
		}
		if n.err != nil {
			return
		}
		select {
		case <-n.store.Damaged():
			n.err = store.ErrCorrupt
		default:
		}
	})
	n.running.Go(func() { n.Directory.Run(ctx) })
	n.running.Go(func() { n.generations(ctx) })
	n.running.Go(func() { n.Coins.Watch(ctx) })
	n.running.Go(func() { n.Computing.Run(ctx) })
}

// Close stops the node. Unfinished work continues at the next Open.
func (n *Node) Close() error {
	if n.stop != nil {
		n.stop()
	}
	// First what serves: once the other is closed, a payment that passes through
	// would be refused for good, instead of waiting for this node's return.
	var err error
	if n.host != nil {
		err = n.host.Close()
	}
	err = errors.Join(err, n.calls.Close())
	n.running.Wait()
	if n.err == nil {
		err = errors.Join(err, n.Banks.Close(context.Background()))
	}
	err = errors.Join(err, n.err, n.Directory.Save(context.Background()))
	if n.err == nil {
		err = errors.Join(err, n.nextGeneration(context.Background()))
	}
	return errors.Join(err, n.store.Close())
}

// KeyOf is the identity's public key of a seed.
func KeyOf(seed []byte) (wire.Key, error) {
	identity, err := wallet.IdentityKey(seed)
	if err != nil {
		return wire.Key{}, err
	}
	priv, err := identity.PrivKey()
	if err != nil {
		return wire.Key{}, err
	}
	return wire.XOnly(priv.PubKey()), nil
}

// Key is the identity's public key.
func (n *Node) Key() wire.Key { return n.self }

// Address is the identity's address.
func (n *Node) Address() string { return wire.EncodeAddress(n.cfg.Network, n.self) }

// Seed returns the node's addresses as a seed of the DHT; empty if it is not an
// agent.
func (n *Node) Seed() []string {
	if !n.IsAgent() {
		return nil
	}
	return n.host.Seed()
}

// Addrs returns the multiaddrs on which an agent listens.
func (n *Node) Addrs() []string {
	if n.host == nil {
		return nil
	}
	return n.host.Addrs()
}

// Mining returns the target and subsidy of the chain's tip.
func (n *Node) Mining(ctx context.Context) (chain.Mining, error) {
	return chain.MiningAt(ctx, n.cfg.Chain)
}

// Engine is the node's engine.
func (n *Node) Engine() *engine.Engine { return n.engine }

// Identity derives an identity's key and address from the entropy of a BIP39
// mnemonic, and the seed.
func Identity(network wire.Network, entropy []byte) (seed []byte, address string, err error) {
	words, err := wallet.NewMnemonic(entropy)
	if err != nil {
		return nil, "", err
	}
	if seed, err = wallet.Seed(words, ""); err != nil {
		return nil, "", err
	}
	key, err := KeyOf(seed)
	return seed, wire.EncodeAddress(network, key), err
}

// machine is a kind of contract, and the event with which its room restores it
// in a home restored from a backup.
type machine struct {
	engine.Machine
	restored func(context.Context, engine.Ref) (engine.Event, error)
}

// machines are the kinds of contracts that the rooms have.
func (n *Node) machines() (list []machine) {
	for _, room := range []interface {
		Machines() []engine.Machine
		Restored(context.Context, engine.Ref) (engine.Event, error)
	}{n.Delivery, n.agent, n.Banks, n.Computing} {
		for _, m := range room.Machines() {
			list = append(list, machine{m, room.Restored})
		}
	}
	return list
}

// Stored reports on the agent.
func (n *Node) Stored(ctx context.Context) (agent.Stored, error) { return n.agent.Stored(ctx) }

// Banking returns the node's policy as a payee, or nil.
func (n *Node) Banking() *banking.Policy { return n.cfg.Banking }
