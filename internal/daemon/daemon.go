// Package daemon runs a home: it takes the home's lock, decrypts the seed, connects
// to a chain, opens the node and serves the API, and stops all of it in order.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/bitcoind"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/web"
	"github.com/bitgram/bitgram/wire"
)

// Config configures a daemon.
type Config struct {
	Home home.Home
	// Passphrase is called if the seed is encrypted.
	Passphrase func() (string, error)
	Chain      Chain
	// Policy makes the daemon an agent, which listens on Listen; nil for none.
	Policy *deal.Policy
	// Banking makes it a payee of penny banks, which also listens on Listen; nil
	// for none.
	Banking *banking.Policy
	// Hints is the first block that is read for names and seeds; nil to read none.
	Hints *wire.Height
	// Advertise keeps the agent's own hint on the chain; nil for none.
	Advertise *directory.Advertise
	// MaxMessage is the largest message that is fetched for the home, in bytes.
	MaxMessage uint64
	Listen     []string
	// Gap is the number of unused addresses that the wallet watches; see
	// wallet.New.
	Gap int
	// RescanFrom, if set, is the height from which the chain is read again for the
	// wallet. A home that has read nothing yet begins there.
	RescanFrom *wire.Height
	// Seeds are multiaddrs with peer IDs through which to join the DHT.
	Seeds []string
	// Backup is the file of a backup that is kept current: it is rewritten every
	// BackupEvery if something has changed. Empty for none.
	Backup      string
	BackupEvery time.Duration
	// API is the loopback address, with port, on which the API listens.
	API     string
	Version string
	// Ready is called once the daemon answers requests.
	Ready func(url string, n *node.Node)
	Log   *slog.Logger
}

// ErrNotLoopback: Config.API is not a loopback address.
var ErrNotLoopback = errors.New("the API listens on loopback only")

// Run runs a home until ctx ends or the node fails. It returns home.ErrInUse if
// another daemon runs on the home, home.ErrPassphrase, ErrNotLoopback, ErrNoChain,
// and what the chain, the node and the API return.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := loopback(cfg.API); err != nil {
		return err
	}
	lock, err := cfg.Home.Lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if lock.Note != "" {
		cfg.Log.Warn(lock.Note)
	}
	// What an earlier daemon left is outdated or incomplete.
	if err := errors.Join(cfg.Home.Unpublish(), cfg.Home.Sweep(cfg.Backup)); err != nil {
		return err
	}
	keys, seed, err := open(cfg)
	if err != nil {
		return err
	}
	backend, closeChain, err := cfg.Chain.open(cfg.Home.Dir, keys.Network, cfg.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeChain()) }()
	token, err := cfg.Home.Token()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", cfg.API)
	if err != nil {
		return fmt.Errorf("--api: cannot listen: %w", err)
	}
	backup := func(ctx context.Context, w io.Writer, snapshot func(context.Context, string) error) error {
		return cfg.Home.Backup(ctx, w, seed, snapshot)
	}
	wc := web.Config{Backup: backup, Version: cfg.Version, Network: keys.Network, Token: token, Log: cfg.Log}
	if h, ok := backend.(chain.HealthChecker); ok {
		wc.Health = h.Health
		if err := fit(ctx, h, cfg.Log); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	if a, ok := backend.(chain.Adviser); ok {
		wc.Advise = a.Advise
		advise(ctx, a, cfg.Log)
	}
	if err := readable(ctx, backend, cfg.RescanFrom); err != nil {
		return errors.Join(err, l.Close())
	}
	server := web.New(wc)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	served := make(chan error, 1)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		err := server.Serve(serving, l)
		if err != nil {
			cancel(err)
		}
		served <- err
	}()
	defer func() {
		stop()
		err = errors.Join(err, <-served, cfg.Home.Unpublish())
	}()
	url := "http://" + l.Addr().String()
	if err := cfg.Home.Publish(url); err != nil {
		return err
	}
	keeper := &keeper{path: cfg.Backup, every: cfg.BackupEvery, log: cfg.Log, saved: -1}
	var secure func(context.Context) error
	if cfg.Backup != "" {
		secure = keeper.update
	}
	var begun atomic.Bool // the home began at RescanFrom
	born := func(ctx context.Context) (wire.Height, error) {
		if cfg.RescanFrom != nil {
			begun.Store(true)
			return *cfg.RescanFrom, nil
		}
		return birthday(ctx, backend, keys)
	}
	n, err := node.Open(node.Config{Secure: secure, Gap: cfg.Gap, Dir: cfg.Home.Dir, Network: keys.Network, Seed: seed, Chain: backend, Policy: cfg.Policy, Banking: cfg.Banking, MaxMessage: cfg.MaxMessage, Hints: cfg.Hints, Advertise: cfg.Advertise, Listen: cfg.Listen,
		Seeds: cfg.Seeds, Birthday: born, Observe: server.Observe, Tip: server.Tip, Progress: server.Progress, Log: cfg.Log})
	if err != nil {
		return err
	}
	keeper.commits, keeper.write = n.Commits, func(ctx context.Context, w io.Writer) error { return backup(ctx, w, n.Snapshot) }
	n.Start()
	server.Attach(n)
	if cfg.Backup != "" {
		keeper.start(ctx)
	}
	defer func() {
		cancel(nil)
		keeper.wait()
		server.Attach(nil)
		failed := n.Close()
		if err = errors.Join(err, failed); cfg.Backup != "" && failed == nil { // a damaged database must not replace a good backup
			keeper.finish(func(ctx context.Context, w io.Writer) error {
				return backup(ctx, w, func(ctx context.Context, path string) error { return node.SnapshotClosed(ctx, cfg.Home.Dir, path) })
			})
		}
	}()
	if cfg.RescanFrom != nil {
		rescanned := make(chan struct{})
		go func() {
			defer close(rescanned)
			if n.Coins.Synced(ctx) == nil && begun.Load() {
				return
			}
			if err := n.Coins.Rescan(ctx, *cfg.RescanFrom); err != nil && ctx.Err() == nil {
				cfg.Log.Error("the chain is not rescanned: coins may be missing from the balance", "err", err)
			}
		}()
		defer func() { cancel(nil); <-rescanned }()
	}
	if err := cfg.Chain.fund(ctx, backend, n, cfg.Log); err != nil {
		return err
	}
	cfg.Log.Info("running", "home", cfg.Home.Dir, "network", string(keys.Network), "address", n.Address(), "agent", cfg.Policy != nil, "api", url)
	if cfg.Ready != nil {
		cfg.Ready(url, n)
	}
	select {
	case <-ctx.Done():
	case <-n.Ended(): // Close says why
	}
	cfg.Log.Info("stopping")
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%w: %q: %w", ErrNotLoopback, addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%w: %q; to reach it from elsewhere, run a proxy in front of it", ErrNotLoopback, addr)
	}
	return nil
}

// fit returns an error if the Bitcoin node can never be used: it is on another
// network, or refuses the credentials. A node that is away or behind is only
// logged; the daemon waits for it.
func fit(ctx context.Context, h chain.HealthChecker, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := h.Health(ctx)
	if errors.Is(err, chain.ErrWrongNetwork) || errors.Is(err, chain.ErrCredentials) {
		return err
	}
	if err != nil {
		log.Warn("waiting for the Bitcoin node", "err", err)
	}
	return nil
}

// advise logs what is wrong with the Bitcoin node's settings, so that it is known
// before money moves.
func advise(ctx context.Context, a chain.Adviser, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, err := range a.Advise(ctx) {
		log.Warn("the Bitcoin node's settings will cause trouble", "err", err)
	}
}

// open decrypts the home's key file and returns it with the seed.
func open(cfg Config) (*home.Keys, []byte, error) {
	keys, err := cfg.Home.Keys()
	if err != nil {
		return nil, nil, err
	}
	pass := ""
	if keys.Encrypted() {
		if pass, err = cfg.Passphrase(); err != nil {
			return nil, nil, err
		}
	}
	entropy, err := keys.Open(pass)
	if err != nil {
		return nil, nil, err
	}
	seed, address, err := node.Identity(keys.Network, entropy)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the key file: %w", home.ErrDamaged, err)
	}
	if address != keys.Address {
		return nil, nil, fmt.Errorf("%w: the address in the key file is not that of its seed", home.ErrDamaged)
	}
	return keys, seed, nil
}

// readable returns chain.ErrPruned if the node has pruned blocks that a rescan
// must read. A node that does not answer is not waited for.
func readable(ctx context.Context, b chain.Backend, from *wire.Height) error {
	p, ok := b.(chain.Pruner)
	if !ok || from == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if first, err := p.First(ctx); err == nil && *from < first {
		return fmt.Errorf("%w: --rescan-from %d: the node has no block below %d", chain.ErrPruned, *from, first)
	}
	return nil
}

// early is how long before a home's creation its chain is read: the clock that
// dated it may have been a day or two ahead, and block times may be wrong by two
// hours.
const early = 51 * time.Hour

// birthday returns the height from which a new home follows the chain: that of the
// last block that is certainly older than the seed. It is a binary search. A home
// that claims to be younger than the tip was made by a clock ahead, so the tip's
// time counts. It returns chain.ErrPruned if the seed may be older than the first
// block that the node has.
func birthday(ctx context.Context, b chain.Backend, keys *home.Keys) (wire.Height, error) {
	if keys.Created == 0 {
		return 0, whole(ctx, b)
	}
	if keys.Network == wire.Regtest {
		return 0, nil
	}
	tip, err := b.Tip(ctx)
	if err != nil {
		return 0, err
	}
	last, err := b.HashAt(ctx, tip.Height)
	if err != nil {
		return 0, err
	}
	latest, err := timeOf(ctx, b, last)
	if err != nil {
		return 0, err
	}
	before := min(keys.Created, latest.Unix()) - int64(early/time.Second)
	low, high := wire.Height(0), tip.Height
	for low < high {
		mid := low + (high-low+1)/2
		hash, err := b.HashAt(ctx, mid)
		if err != nil {
			return 0, err
		}
		made, err := timeOf(ctx, b, hash)
		if err != nil && !errors.Is(err, chain.ErrNotFound) {
			return 0, err
		}
		if err != nil /* pruned: older than what is needed */ || made.Unix() < before {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low, nil
}

// whole returns chain.ErrPruned if the node has pruned the chain's beginning.
func whole(ctx context.Context, b chain.Backend) error {
	p, ok := b.(chain.Pruner)
	if !ok {
		return nil
	}
	first, err := p.First(ctx)
	if err == nil && first > 1 {
		err = fmt.Errorf("%w: restored words may have been used in any block, and the node has none below %d; if they were not used before a block that it has, give that one with --rescan-from", chain.ErrPruned, first)
	}
	return err
}

// timeOf returns the time of a block. If the node gives headers, the block itself
// is not read: it may be pruned, and a home does not need the blocks before its
// birthday.
func timeOf(ctx context.Context, b chain.Backend, hash chainhash.Hash) (time.Time, error) {
	if r, ok := b.(chain.HeaderReader); ok {
		h, err := r.Header(ctx, hash)
		if err != nil {
			return time.Time{}, err
		}
		return h.Timestamp, nil
	}
	block, _, err := b.Block(ctx, hash)
	if err != nil {
		return time.Time{}, err
	}
	return block.Header.Timestamp, nil
}

// Chain says which chain a daemon follows.
type Chain struct {
	// URL is a Bitcoin node's JSON-RPC; empty for an embedded regtest chain in the
	// home, on which a block is mined every Interval.
	URL, User, Password, Cookie, CA, ZMQ string
	Interval                             time.Duration
}

// ErrNoChain: the network has no embedded chain, and no usable Bitcoin node was
// given.
var ErrNoChain = errors.New("no Bitcoin node")

func (c Chain) open(dir string, n wire.Network, log *slog.Logger) (chain.Backend, func() error, error) {
	if c.URL != "" {
		b, err := bitcoind.New(bitcoind.Config{URL: c.URL, User: c.User, Password: c.Password, CookieFile: c.Cookie, CACert: c.CA, ZMQ: c.ZMQ, Network: n, Log: log})
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrNoChain, err)
		}
		return b, b.Close, nil
	}
	if n != wire.Regtest {
		return nil, nil, fmt.Errorf("%w: %s needs one", ErrNoChain, n)
	}
	dc, err := devchain.Open(filepath.Join(dir, "chain"))
	if err != nil {
		return nil, nil, err
	}
	return dc, dc.Close, nil
}

// mature is the number of confirmations after which a coinbase can be spent.
const mature = 100

// fund mines on the embedded chain, to the home's wallet, in the background.
func (c Chain) fund(ctx context.Context, b chain.Backend, n *node.Node, log *slog.Logger) error {
	dc, ok := b.(*devchain.Chain)
	if !ok {
		return nil
	}
	_, script, err := n.Coins.NewAddress(ctx)
	if err != nil {
		return err
	}
	tip, err := dc.Tip(ctx)
	if err != nil {
		return err
	}
	if tip.Height < mature {
		if _, err := dc.Mine(ctx, mature+1, script); err != nil {
			return err
		}
	}
	go func() {
		if err := dc.MineEvery(ctx, c.Interval, script); err != nil && ctx.Err() == nil {
			log.Error("the embedded chain has stopped: no more blocks are mined", "err", err)
		}
	}()
	return nil
}
