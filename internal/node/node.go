// Package node puts a home together: store, wallet, engine, network and files,
// in the roles of sender, recipient and, where it has a policy, agent.
package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/names"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Config is what a Node is made of.
type Config struct {
	Dir     string // the home; everything that the node keeps is below it
	Network wire.Network
	Seed    []byte // BIP39 seed: identity and coins
	Chain   chain.Backend
	// Policy makes the node an agent; nil for sender and recipient only.
	Policy *deal.Policy
	// Banking makes the node a payee of penny banks, which listens too; nil for a
	// payer only.
	Banking *Banking
	// MaxMessage is the largest sealed copy that is fetched for this home, in
	// bytes; 0 for no limit but the format's.
	MaxMessage uint64
	// Listen are an agent's or payee's multiaddrs.
	Listen []string
	// Seeds are multiaddrs with peer IDs by which the DHT is entered.
	Seeds []string
	// Hints, where set, is the first block that is read for hints: names, and
	// seeds of the DHT.
	Hints *wire.Height
	// Advertise, where set, puts an agent's own hint on the chain, and again where
	// its address changes or somebody takes its place. It needs Hints.
	Advertise *Advertise
	// Birthday finds the height from which a new home follows the chain; the
	// whole chain where it is nil.
	Birthday func(context.Context) (wire.Height, error)
	// Secure, where set, is called before a funding is signed: what it takes to
	// get its money back has to be in a backup when it returns nil.
	Secure func(context.Context) error
	// Observe sees every change of a contract; see engine.Config.
	Observe func(engine.Change)
	// Tip, where set, is told of the chain's position after new blocks.
	Tip func(chain.BlockRef)
	// Progress, where set, is told how many of total bytes some long work has
	// done; it is called often and from any goroutine.
	Progress func(what string, done, total uint64)
	// Serve and ServeBanks, where set, stand between the network and the service of
	// the agent, or of the payee of banks.
	Serve      func(p2p.Service) p2p.Service
	ServeBanks func(p2p.Banks) p2p.Banks
	// Host makes the node's libp2p hosts; p2p.New where it is nil.
	Host func(p2p.Config) (*p2p.Host, error)
	// Intercept, where set, stands between the engine and what carries effects
	// out: to stop a node in the middle of one.
	Intercept func(engine.Executor) engine.Executor
	Log       *slog.Logger
}

// Wallet is what a node needs of a wallet. It keeps its coins in the engine's
// transactions; *wallet.Wallet is one.
type Wallet interface {
	// Init makes it watch its first addresses.
	Init(wallet.Tx) error
	// Connect takes in the transactions of a block, Disconnect takes them back.
	Connect(tx wallet.Tx, txs []*btcwire.MsgTx, height wire.Height) error
	Disconnect(tx wallet.Tx, height wire.Height) error
	Balance(tx wallet.Tx, tip wire.Height) (wallet.Balance, error)
	// NewScript is a fresh address; PeekScript one that counts as used only
	// from UseScript on, or from Sign of something that pays it.
	NewScript(tx wallet.Tx, branch uint32) ([]byte, error)
	PeekScript(tx wallet.Tx, branch uint32) ([]byte, error)
	UseScript(tx wallet.Tx, script []byte) error
	Address(script []byte) (string, error)
	// Lock picks coins for a holder and keeps them for it until Unlock; a
	// *wallet.Short where they do not suffice.
	Lock(tx wallet.Tx, holder []byte, amount wire.Sat, weight int64, rate wire.SatPerKVB, tip wire.Height) (*wallet.Picked, error)
	Unlock(tx wallet.Tx, holder []byte) error
	// Sign signs own coins and remembers them as spent; Forget frees them
	// where nobody took the transaction. wallet.ErrUnknownTx where an input is
	// no coin of the wallet.
	Sign(tx wallet.Tx, t *btcwire.MsgTx, fixed bool) error
	Forget(tx wallet.Tx, txid wire.Hash) error
	// IsOut reports whether a transaction was Accepted.
	IsOut(tx wallet.Tx, txid wire.Hash) (bool, error)
	// Accepted makes the change of a transaction spendable that the network
	// has.
	Accepted(tx wallet.Tx, txid wire.Hash) error
	// Abandon takes back a payment that no node has taken.
	Abandon(tx wallet.Tx, txid wire.Hash) error
	// Burn pays an amount, 0 too, to a script that nobody can spend.
	Burn(tx wallet.Tx, script []byte, amount wire.Sat, rate wire.SatPerKVB, tip wire.Height) (*btcwire.MsgTx, error)
	// Send pays an amount, Bump replaces a payment by one that pays more.
	Send(tx wallet.Tx, script []byte, amount wire.Sat, rate wire.SatPerKVB, tip wire.Height) (*btcwire.MsgTx, error)
	Bump(tx wallet.Tx, txid wire.Hash, rate wire.SatPerKVB) (*btcwire.MsgTx, error)
	// History lists confirmed transactions; Unconfirmed the own ones that can
	// still confirm.
	History(tx wallet.Tx) ([]wallet.Record, error)
	Unconfirmed(tx wallet.Tx) ([]*btcwire.MsgTx, error)
}

// Node is one party.
type Node struct {
	cfg      Config
	identity wire.Secret
	self     wire.Key
	margins  deal.Margins
	store    *store.Store
	wallet   Wallet
	engine   *engine.Engine
	host     *p2p.Host // an agent's, under its identity; nil for others
	calls    *p2p.Host // calls others, under a key of no meaning
	scanner  *seal.Scanner
	files    files
	load     load
	space    space
	looked   looked
	banks    *banks
	log      *slog.Logger

	own       atomic.Pointer[[]string] // the own agent's seeds, once it listens
	roster    roster
	joined    chan struct{} // closed once the node is in the DHT
	published published
	names     *names.Index // nil where no hints are read
	hints     hints

	stop    context.CancelFunc
	running sync.WaitGroup
	ended   chan struct{}
	err     error // why it ended
}

// Ended is closed when the node has stopped: by Close, or because it cannot go
// on, and then Close says why.
func (n *Node) Ended() <-chan struct{} { return n.ended }

// Open opens the home and starts to listen; Start makes it run.
func Open(cfg Config) (n *Node, err error) {
	n = &Node{cfg: cfg, margins: deal.MarginsFor(cfg.Network), log: cfg.Log, joined: make(chan struct{}), ended: make(chan struct{}), banks: newBanks(cfg.Network)}
	n.published.news = make(chan struct{}, 1)
	n.published.clear()
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.identity, err = wallet.IdentityKey(cfg.Seed); err != nil {
		return nil, err
	}
	priv, err := n.identity.PrivKey()
	if err != nil {
		return nil, err
	}
	n.self = wire.XOnly(priv.PubKey())
	if n.scanner, err = seal.NewScanner(n.identity); err != nil {
		return nil, err
	}
	if n.wallet, err = wallet.New(cfg.Seed, cfg.Chain.Params()); err != nil {
		return nil, err
	}
	if n.files, err = openFiles(cfg.Dir); err != nil {
		return nil, err
	}
	db, err := store.Open(filepath.Join(cfg.Dir, fileDB))
	if err != nil {
		return nil, err
	}
	n.store = db
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close()) // n is nil by now
		}
	}()
	ctx := context.Background()
	if err := n.store.Update(ctx, func(tx engine.Tx) error { return n.wallet.Init(tx) }); err != nil {
		return nil, err
	}
	if err := n.load.read(ctx, n.store); err != nil {
		return nil, err
	}
	if err := n.loadRoster(ctx); err != nil {
		return nil, err
	}
	if err := n.sweep(ctx); err != nil {
		return nil, err
	}
	n.engine = engine.New(engine.Config{Store: n.store, Chain: cfg.Chain, Birthday: cfg.Birthday, Observe: cfg.Observe, Log: n.log})
	n.engine.Register(n.machines()...)
	n.engine.Follow((*follower)(n))
	if err := n.restored(ctx); err != nil {
		return nil, err
	}
	n.hints = newHints()
	if cfg.Hints != nil {
		n.names = names.New(names.Config{Store: n.store, Chain: cfg.Chain, From: *cfg.Hints, Log: n.log})
	}
	if cfg.Host == nil {
		cfg.Host = p2p.New
	}
	if n.calls, err = cfg.Host(p2p.Config{Log: n.log, DHT: n.dht(false)}); err != nil {
		return nil, err
	}
	if cfg.Policy == nil && cfg.Banking == nil {
		return n, nil
	}
	host := p2p.Config{Identity: n.identity, Listen: cfg.Listen, Log: n.log, DHT: n.dht(cfg.Policy != nil)}
	if cfg.Policy != nil {
		host.Serve = (*agent)(n)
		if cfg.Serve != nil {
			host.Serve = cfg.Serve(host.Serve)
		}
	}
	if cfg.Banking != nil {
		host.Banks = (*payee)(n)
		if cfg.ServeBanks != nil {
			host.Banks = cfg.ServeBanks(host.Banks)
		}
	}
	if n.host, err = cfg.Host(host); err != nil {
		return nil, errors.Join(err, n.calls.Close())
	}
	if cfg.Policy == nil {
		return n, nil
	}
	own := n.host.Seed()
	n.own.Store(&own)
	// On offer from the first moment, whoever asks.
	if _, err := n.offer(ctx); errors.Is(err, ErrNoAddress) {
		n.log.Warn("nobody will find this agent", "err", err)
	} else if err != nil {
		return nil, errors.Join(err, n.calls.Close(), n.host.Close())
	}
	return n, nil
}

func (n *Node) dht(serve bool) *p2p.DHT {
	return &p2p.DHT{Network: n.cfg.Network, Serve: serve, Hinted: n.hinted, Remembered: n.remembered, Seeds: n.seeds}
}

// Start lets the node run until Close.
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
	if n.names != nil {
		n.running.Go(func() { n.names.Follow(ctx) })
		n.running.Go(func() { n.seek(ctx) })
		if n.IsAgent() && n.cfg.Advertise != nil {
			n.running.Go(func() { n.advertise(ctx) })
		}
	}
	n.running.Go(func() { n.join(ctx) })
	n.running.Go(func() { n.tend(ctx) })
	n.running.Go(func() { n.watchBlocks(ctx) })
}

// Close stops the node; whatever it was doing goes on at the next Open.
func (n *Node) Close() error {
	if n.stop != nil {
		n.stop()
	}
	err := n.calls.Close()
	if n.host != nil {
		err = errors.Join(err, n.host.Close())
	}
	n.running.Wait()
	err = errors.Join(err, n.err, n.saveRoster(context.Background()))
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

// Seed is how others enter the DHT by this node; empty for one that is no agent.
func (n *Node) Seed() []string {
	if !n.IsAgent() {
		return nil
	}
	return n.host.Seed()
}

// Addrs are the multiaddrs on which an agent listens.
func (n *Node) Addrs() []string {
	if n.host == nil {
		return nil
	}
	return n.host.Addrs()
}

// Mining is what the chain's tip took and brought.
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

// sweep deletes files that no contract knows: something was cut off between the
// file and the state that names it.
func (n *Node) sweep(ctx context.Context) error {
	return n.store.View(ctx, func(tx engine.Tx) error {
		for dir, kind := range map[string]engine.Kind{dirCopies: deal.KindAgent, dirOutgoing: deal.KindSender} {
			list, err := os.ReadDir(filepath.Join(n.cfg.Dir, dir))
			if err != nil {
				return err
			}
			for _, f := range list {
				known, err := wanted(tx, kind, f.Name())
				if err != nil { // what cannot be read keeps its file, and keeps no other from starting
					n.log.Error("a contract cannot be read", "file", filepath.Join(dir, f.Name()), "err", err)
					continue
				}
				if known {
					continue
				}
				if err := remove(filepath.Join(n.cfg.Dir, dir, f.Name())); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// wanted reports whether a contract that is not over needs the file of a name.
func wanted(tx engine.Tx, kind engine.Kind, name string) (bool, error) {
	id, err := hex.DecodeString(name)
	if err != nil || len(id) != len(wire.Hash{}) {
		return false, nil
	}
	raw, err := tx.State(engine.Ref{Kind: kind, ID: wire.Hash(id)})
	if errors.Is(err, engine.ErrNoContract) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if kind == deal.KindSender {
		var s deal.Sender
		err := wire.Unmarshal(raw, &s)
		return err == nil && !s.Interest().Done, err
	}
	var a deal.Agent
	err = wire.Unmarshal(raw, &a)
	return err == nil && a.Package != nil && !a.Dropped, err
}

// files are the node's directories and how it writes below them.
type files struct{ dir string }

// The directories of a home. Nothing in them is read without being checked
// against a hash or a signature.
const (
	dirOutgoing = "outgoing" // payloads of messages sent, by message key
	dirCopies   = "copies"   // sealed copies held as an agent, by point
	dirIncoming = "incoming" // sealed copies fetched, and messages read
	dirPartial  = "partial"  // being written; emptied at every start
)

func openFiles(dir string) (files, error) {
	f := files{dir}
	if err := os.RemoveAll(filepath.Join(dir, dirPartial)); err != nil {
		return f, err
	}
	for _, d := range []string{dirOutgoing, dirCopies, dirIncoming, dirPartial} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (f files) path(dir string, id fmt.Stringer, ext string) string {
	return filepath.Join(f.dir, dir, id.String()+ext)
}

// write lets fill write a file that appears under path complete and durable,
// or not at all.
func (f files) write(path string, fill func(*os.File) error) (err error) {
	tmp, err := f.create()
	if err != nil {
		return err
	}
	defer tmp.discard()
	if err := fill(tmp.File); err != nil {
		return err
	}
	return tmp.keep(path)
}

// partial is a file that is being written.
type partial struct {
	*os.File
	kept bool
}

func (f files) create() (*partial, error) {
	t, err := os.CreateTemp(filepath.Join(f.dir, dirPartial), "")
	if err != nil {
		return nil, err
	}
	return &partial{File: t}, nil
}

// keep makes the file durable under path.
func (p *partial) keep(path string) error {
	if err := p.Sync(); err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		return err
	}
	if err := os.Rename(p.Name(), path); err != nil {
		return err
	}
	p.kept = true
	return syncDir(filepath.Dir(path))
}

// discard removes the file unless it was kept.
func (p *partial) discard() {
	if !p.kept {
		_ = p.Close()
		_ = os.Remove(p.Name())
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// remove deletes a file that may be gone already.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
