package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/names"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// TLD is the one whose hints are seeds of the DHT.
const TLD = "bitgram"

const (
	// maxHinted is how many entries of the chain are tried as seeds: those that
	// burned most, and maxRandom around a place drawn by this node, so that nobody
	// buys all of them.
	maxHinted, maxRandom = 48, 16
	// seekers is how many are tried at a time.
	seekers = 8
	// seekEvery is how often those that failed are tried again, at first, by a
	// node that is not in the DHT.
	seekEvery = 2 * time.Second
	// seekAgain is how long what was proven, or failed, is believed.
	seekAgain = 30 * time.Minute
)

// hints are the seeds of the DHT that stand on the chain and have proved to be
// what their hint says.
type hints struct {
	place string // in the DHT, hex, drawn at the start
	mu    sync.Mutex
	seeds []string // the larger burn first
	tried map[blockname.Hint]tried
	news  chan struct{} // there are others than before
	ready chan struct{} // closed when all were tried once
}

type tried struct {
	at   time.Time
	seed string // empty where it failed
}

func newHints() hints {
	var place [32]byte
	_, _ = rand.Read(place[:]) // never fails (crypto/rand)
	return hints{place: hex.EncodeToString(place[:]), tried: map[blockname.Hint]tried{}, news: make(chan struct{}, 1), ready: make(chan struct{})}
}

// hinted are the ways into the DHT that stand on the chain.
func (n *Node) hinted() []string {
	n.hints.mu.Lock()
	defer n.hints.mu.Unlock()
	return slices.Clone(n.hints.seeds)
}

// seek tries the hints of the chain with every block that is read, and until the
// node is in the DHT.
func (n *Node) seek(ctx context.Context) {
	first := true
	for wait := seekEvery; ; wait = min(2*wait, seekAgain) {
		at, tip := n.names.Read()
		n.tryHints(ctx)
		if n.host != nil && n.Joined() && n.host.Known() == 0 {
			// The first of its network, as it seemed, is not any more.
			if err := errors.Join(n.host.Bootstrap(ctx), n.calls.Bootstrap(ctx)); err != nil {
				n.log.Debug("not in the DHT", "err", err)
			}
		}
		if tip && first {
			first = false
			close(n.hints.ready)
		}
		next, cancel := context.WithTimeout(ctx, wait)
		_ = n.names.Wait(next, at+1)
		cancel()
		if ctx.Err() != nil {
			return
		}
	}
}

// candidates are the hints of the chain's seeds, those that burned most first; of
// one network not more than two, but on regtest.
func (n *Node) candidates(ctx context.Context) (list []blockname.Hint) {
	var entries []blockname.Entry
	if err := n.names.View(ctx, func(r blockname.Reader) (err error) {
		if entries, err = blockname.Largest(r, TLD, maxHinted); err != nil {
			return err
		}
		more, err := blockname.Closest(r, TLD, n.hints.place, maxRandom)
		for _, e := range more {
			if !slices.ContainsFunc(entries, func(o blockname.Entry) bool { return o[0].Hint == e[0].Hint }) {
				entries = append(entries, e)
			}
		}
		return err
	}); err != nil {
		n.log.Debug("no hints read", "err", err)
		return nil
	}
	perNet := map[string]int{}
	for _, e := range entries {
		for _, b := range e {
			if addr := b.Hint.Addr; addr.IsValid() && n.cfg.Network != wire.Regtest {
				net := choose.Prefix("/ip4/" + addr.Addr().String())
				if perNet[net]++; perNet[net] > 2 {
					continue
				}
			}
			list = append(list, b.Hint)
		}
	}
	return list
}

// tryHints asks those of the candidates that were not asked lately who they are.
func (n *Node) tryHints(ctx context.Context) {
	list := n.candidates(ctx)
	h := &n.hints
	now := time.Now()
	lone := n.calls.Known() == 0 || n.host != nil && n.host.Known() == 0
	results := make([]tried, len(list))
	var wg sync.WaitGroup
	places := make(chan struct{}, seekers)
	for i, hint := range list {
		h.mu.Lock()
		old, known := h.tried[hint]
		h.mu.Unlock()
		if results[i] = old; known && now.Sub(old.at) < seekAgain && (old.seed != "" || !lone) {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			seed, err := n.prove(ctx, hint)
			if err != nil {
				n.log.Debug("a hint leads nowhere", "dht", hint.DHT, "err", err)
			}
			results[i] = tried{now, seed}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return
	}
	var seeds []string
	fresh := map[blockname.Hint]tried{} // of those that stand there now
	for i, hint := range list {
		fresh[hint] = results[i]
		if s := results[i].seed; s != "" && !slices.Contains(seeds, s) {
			seeds = append(seeds, s)
		}
	}
	h.mu.Lock()
	changed := !slices.Equal(seeds, h.seeds)
	h.seeds, h.tried = seeds, fresh
	h.mu.Unlock()
	if changed {
		select {
		case h.news <- struct{}{}:
		default:
		}
	}
}

// prove asks who listens where a hint says, and returns a seed: a multiaddr with
// the peer ID, whose place begins as the hint says.
func (n *Node) prove(ctx context.Context, hint blockname.Hint) (seed string, err error) {
	addrs, err := hostsOf(ctx, hint)
	if err != nil {
		return "", err
	}
	for _, at := range addrs {
		var id peer.ID
		if id, err = n.calls.Probe(ctx, at); err != nil {
			continue
		}
		if !strings.HasPrefix(PlaceOf(id), hint.DHT) {
			err = p2p.ErrNotFound
			continue
		}
		return at.String() + "/p2p/" + id.String(), nil
	}
	return "", err
}

// PlaceOf is where a peer stands in the DHT, in hex: what a hint's dht is the
// beginning of.
func PlaceOf(id peer.ID) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// hostsOf is where a hint leads; a DNS name to two addresses at most.
func hostsOf(ctx context.Context, h blockname.Hint) ([]multiaddr.Multiaddr, error) {
	if h.Kind == blockname.TLD {
		at, err := manet.FromNetAddr(net.TCPAddrFromAddrPort(h.Addr))
		return []multiaddr.Multiaddr{at}, err
	}
	m, err := multiaddr.NewMultiaddr(h.Multiaddr)
	if err != nil {
		return nil, err
	}
	name, rest := multiaddr.SplitFirst(m)
	kind := map[int]string{multiaddr.P_DNS: "ip", multiaddr.P_DNS4: "ip4", multiaddr.P_DNS6: "ip6"}[name.Protocol().Code]
	if kind == "" {
		return []multiaddr.Multiaddr{m}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p2p.Alive)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, kind, name.Value())
	if err != nil {
		return nil, err
	}
	var list []multiaddr.Multiaddr
	for _, ip := range ips[:min(len(ips), 2)] {
		at, err := manet.FromIP(ip.Unmap().AsSlice())
		if err != nil {
			return nil, err
		}
		list = append(list, at.Encapsulate(rest))
	}
	return list, nil
}

// Errors of names.
var (
	// ErrNoNames: the node does not read hints.
	ErrNoNames = errors.New("this daemon does not read names")
	// ErrOutbid: a hint that burned as much or more stands under the name.
	ErrOutbid = errors.New("another hint burned more")
)

// Entry is what the chain says under a hint's key, and the least that the hint
// has to burn to stand first there: ErrNoNames.
func (n *Node) Entry(ctx context.Context, h blockname.Hint) (e blockname.Entry, needed wire.Sat, err error) {
	if n.names == nil {
		return nil, 0, ErrNoNames
	}
	err = n.names.View(ctx, func(r blockname.Reader) (err error) {
		e, err = blockname.Lookup(r, h.Kind, h.Name, h.DHT)
		return err
	})
	return e, e.Needed(h), err
}

// Names is the index of hints; nil where the node does not read them.
func (n *Node) Names() *names.Index { return n.names }

// HintScript is the output script of a hint; an error wraps
// blockname.ErrMalformed.
func HintScript(h blockname.Hint) ([]byte, error) {
	data, err := h.Encode()
	if err != nil {
		return nil, err
	}
	return txscript.NewScriptBuilder().AddOp(txscript.OP_RETURN).AddData(data).Script()
}

// Register burns an amount for a hint, at a rate as Pay's: ErrOutbid where that
// would not make it the first of its entry as of now, wallet.ErrNoFunds, or an
// error that wraps blockname.ErrMalformed.
func (n *Node) Register(ctx context.Context, h blockname.Hint, burn wire.Sat, rate wire.SatPerKVB) (*btcwire.MsgTx, error) {
	script, err := HintScript(h)
	if err != nil {
		return nil, err
	}
	if err := n.Synced(ctx); err != nil {
		return nil, err
	}
	_, needed, err := n.Entry(ctx, h)
	if err != nil {
		return nil, err
	}
	if burn < needed {
		return nil, fmt.Errorf("%w: burn %v or more", ErrOutbid, needed)
	}
	if rate == 0 {
		rate = n.engine.FeeRate()
	}
	return n.pay(ctx, func(tx engine.Tx) (*btcwire.MsgTx, error) {
		at, _, err := tx.Position()
		if err != nil {
			return nil, err
		}
		return n.wallet.Burn(tx, script, burn, rate, at.Height)
	})
}

// ownDHT is how many digits of its place an agent's hint has: enough to be its
// own, and the hint has no more bytes than the reference writes.
const ownDHT = 16

// Hint is the hint by which others find this agent, at its first TCP address that
// they can dial, or where it has none by QUIC: ErrNoAddress.
func (n *Node) Hint() (h blockname.Hint, err error) {
	if n.host == nil {
		return h, ErrNoAddress
	}
	id, err := p2p.PeerID(n.self)
	if err != nil {
		return h, err
	}
	name := blockname.Hint{Name: TLD, DHT: PlaceOf(id)[:ownDHT]}
	for _, a := range n.host.Public() {
		m, err := multiaddr.NewMultiaddr(a)
		if err != nil {
			continue
		}
		t, _ := manet.ToNetAddr(m) // none for QUIC
		tcp, ok := t.(*net.TCPAddr)
		if ok && tcp.IP.To4() != nil {
			at := tcp.AddrPort()
			name.Kind, name.Addr = blockname.TLD, netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
			return name, nil
		}
		seed := name
		seed.Kind, seed.Multiaddr = blockname.Seed, a
		// IPv4 by QUIC alone has no hint.
		if _, err := seed.Encode(); err == nil && (ok || h.Kind == 0) {
			h = seed
		}
	}
	if h.Kind == 0 {
		return h, ErrNoAddress
	}
	return h, nil
}

// advertise keeps the agent's own hint on the chain, the first at its place, until
// ctx ends.
func (n *Node) advertise(ctx context.Context) {
	var last error
	for at := wire.Height(0); n.names.Wait(ctx, at) == nil; {
		at, _ = n.names.Read()
		at++
		err := n.advertiseOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && (last == nil || err.Error() != last.Error()) {
			n.log.Warn("the agent's hint is not on the chain, and it cannot be put there", "err", err)
		}
		last = err
	}
}

// advertiseOnce puts the hint there unless it is, or is on its way.
func (n *Node) advertiseOnce(ctx context.Context) error {
	h, err := n.Hint()
	if err != nil {
		return err
	}
	e, needed, err := n.Entry(ctx, h)
	switch {
	case err != nil:
		return err
	case len(e) > 0 && e[0].Hint == h:
		return nil
	case needed > n.cfg.Advertise.MaxBurn:
		return fmt.Errorf("%w: %v for %s, and %v is the limit", ErrOutbid, needed, h.DHT, n.cfg.Advertise.MaxBurn)
	}
	waiting := false
	if err := n.store.View(ctx, func(tx engine.Tx) error {
		txid, err := tx.Get(bucketHome, keyAnnounced)
		if err != nil || txid == nil {
			return err
		}
		txs, err := n.wallet.Unconfirmed(tx)
		waiting = slices.ContainsFunc(txs, func(t *btcwire.MsgTx) bool { return bytes.Equal(txid, txidOf(t)) })
		return err
	}); err != nil || waiting {
		return err
	}
	t, err := n.Register(ctx, h, needed, 0)
	if err != nil {
		return err
	}
	n.log.Info("the agent's hint is on its way to the chain", "hint", h.DHT, "burned", needed, "txid", t.TxHash())
	return n.store.Update(ctx, func(tx engine.Tx) error { return tx.Put(bucketHome, keyAnnounced, txidOf(t)) })
}

// keyAnnounced has the transaction of the agent's last hint.
var keyAnnounced = []byte("announced")

func txidOf(t *btcwire.MsgTx) []byte {
	id := contract.Txid(t)
	return id[:]
}

// Advertise says that an agent keeps its own hint on the chain.
type Advertise struct {
	MaxBurn wire.Sat // what it burns at most, where others stand at its place
}
