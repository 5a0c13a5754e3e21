package directory

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// TLD is the one whose hints are seeds of the DHT.
const TLD = "bitgram"

const (
	// maxHinted is the number of entries on the chain that are tried as seeds:
	// those that burned most, and maxRandom around a place drawn by this node,
	// so that nobody can buy all of them.
	maxHinted, maxRandom = 48, 16
	// seekers is the number of concurrent tries.
	seekers = 8
	// seekEvery is the first interval at which a node that is not in the DHT
	// retries failed hints.
	seekEvery = 2 * time.Second
	// seekAgain is how long a success or failure is remembered.
	seekAgain = 30 * time.Minute
	// maxTried is the maximum number of hints of one network (choose.Prefix) to
	// try in a round, maxProven the maximum to use; neither applies on regtest.
	maxTried, maxProven = 16, 2
)

// hints are the seeds on the chain that have proven to be what their hints say.
type hints struct {
	place string // in the DHT, hex, drawn at the start
	mu    sync.Mutex
	seeds []string // proven, in the order of candidates
	tried map[blockname.Hint]tried
	news  chan struct{} // there are others than before
	ready chan struct{} // closed when all were tried once
}

type tried struct {
	at    time.Time
	seed  string // empty where it failed
	fails int    // one after the other
}

func newHints() hints {
	var place [32]byte
	_, _ = rand.Read(place[:]) // never fails (crypto/rand)
	return hints{place: hex.EncodeToString(place[:]), tried: map[blockname.Hint]tried{}, news: make(chan struct{}, 1), ready: make(chan struct{})}
}

// hinted returns the proven seeds on the chain.
func (d *Directory) hinted() []string {
	d.hints.mu.Lock()
	defer d.hints.mu.Unlock()
	return slices.Clone(d.hints.seeds)
}

// tell records the result of a try, and which seeds may be used; h.mu is not
// held.
func (h *hints) tell(hint blockname.Hint, t tried, order []blockname.Hint, regtest bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tried[hint] = t
	h.choose(order, regtest)
}

// choose selects the seeds among the proven ones, in the order of hints; h.mu
// is held.
func (h *hints) choose(order []blockname.Hint, regtest bool) {
	use := quota{limit: maxProven, of: map[string]int{}, off: regtest}
	var seeds []string
	for _, hint := range order {
		if s := h.tried[hint].seed; s != "" && !slices.Contains(seeds, s) && use.take(choose.Prefix(s)) {
			seeds = append(seeds, s)
		}
	}
	if slices.Equal(seeds, h.seeds) {
		return
	}
	h.seeds = seeds
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// seek tries the hints on the chain with every block that is read, and until
// the node is in the DHT.
func (d *Directory) seek(ctx context.Context) {
	first := true
	for wait := seekEvery; ; wait = min(2*wait, seekAgain) {
		at, tip := d.cfg.Names.Read()
		if d.tryHints(ctx) {
			wait = seekEvery
		}
		if d.host != nil && d.Joined() && d.host.Known() == 0 {
			// The node seemed to be the first of its network, but is not.
			if err := errors.Join(d.host.Bootstrap(ctx), d.calls.Bootstrap(ctx)); err != nil {
				d.cfg.Log.Debug("not in the DHT", "err", err)
			}
		}
		if tip && first {
			first = false
			close(d.hints.ready)
		}
		next, cancel := context.WithTimeout(ctx, wait)
		_ = d.cfg.Names.Wait(next, at+1)
		cancel()
		if ctx.Err() != nil {
			return
		}
	}
}

// candidates returns the hints to try, alternating between the largest burn
// left and the one closest to a place drawn by this node.
func (d *Directory) candidates(ctx context.Context) (list []blockname.Hint) {
	var sources [2][]blockname.Entry
	if err := d.cfg.Names.View(ctx, func(r blockname.Reader) (err error) {
		if sources[0], err = blockname.Largest(r, TLD, maxHinted); err != nil {
			return err
		}
		sources[1], err = blockname.Closest(r, TLD, d.hints.place, maxRandom)
		return err
	}); err != nil {
		d.cfg.Log.Debug("no hints read", "err", err)
		return nil
	}
	var bids [2][]blockname.Hint
	for i, entries := range sources {
		for _, e := range entries {
			for _, b := range e {
				bids[i] = append(bids[i], b.Hint)
			}
		}
	}
	known := map[blockname.Hint]bool{}
	for i := 0; len(bids[0])+len(bids[1]) > 0; i = 1 - i {
		for len(bids[i]) > 0 {
			h := bids[i][0]
			bids[i] = bids[i][1:]
			if !known[h] {
				known[h] = true
				list = append(list, h)
				break
			}
		}
	}
	return list
}

// due returns when to try a hint again: after half an hour, or, if it failed and
// the node knows no peer, sooner, with growing delays.
func (t tried) due(lone bool) time.Time {
	wait := seekAgain
	if t.seed == "" && lone {
		wait = min(seekEvery<<min(t.fails, 10), seekAgain)
	}
	return t.at.Add(wait)
}

// tryHints asks some of the candidates that are due for their peer ID; more
// says that others are left. A hint costs little and may name anyone's address.
// So only a limited number per network is asked in a round, in an unpredictable
// order, and only a limited number of the proven ones is used.
func (d *Directory) tryHints(ctx context.Context) (more bool) {
	list := d.candidates(ctx)
	h, regtest := &d.hints, d.cfg.Network == wire.Regtest
	now := time.Now()
	lone := d.calls.Known() == 0 || d.host != nil && d.host.Known() == 0
	h.mu.Lock()
	standing := map[blockname.Hint]tried{}
	var due []blockname.Hint
	for _, hint := range list {
		old, known := h.tried[hint]
		if known {
			standing[hint] = old
		}
		if !known || now.After(old.due(lone)) {
			due = append(due, hint)
		}
	}
	h.tried = maps.Clone(standing)
	h.choose(list, regtest)
	h.mu.Unlock()
	mrand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	quota := quota{limit: maxTried, of: map[string]int{}, off: regtest}
	var left atomic.Bool
	var wg sync.WaitGroup
	places := make(chan struct{}, seekers)
	for _, hint := range due {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			seed, err := d.prove(ctx, hint, &quota)
			switch {
			case ctx.Err() != nil:
			case errors.Is(err, errQuota):
				left.Store(true)
			case err != nil:
				d.cfg.Log.Debug("a hint does not work", "dht", hint.DHT, "err", err)
				h.tell(hint, tried{at: now, fails: standing[hint].fails + 1}, list, regtest)
			default:
				h.tell(hint, tried{at: now, seed: seed}, list, regtest)
			}
		})
	}
	wg.Wait()
	return left.Load()
}

// quota limits the number per network.
type quota struct {
	mu    sync.Mutex
	limit int
	of    map[string]int
	off   bool
}

var errQuota = errors.New("enough of this network for now")

func (q *quota) take(network string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.off && q.of[network] >= q.limit {
		return false
	}
	q.of[network]++
	return true
}

// prove asks the host at a hint's address for its peer ID, and returns a seed:
// a multiaddr with a peer ID whose place begins with the hint's dht. It may
// return errQuota.
func (d *Directory) prove(ctx context.Context, hint blockname.Hint, q *quota) (seed string, err error) {
	addrs, err := hostsOf(ctx, hint, q)
	if err != nil {
		return "", err
	}
	for _, at := range addrs {
		if !q.take(choose.Prefix(at.String())) {
			err = cmp.Or(err, errQuota)
			continue
		}
		var id peer.ID
		if id, err = d.calls.Probe(ctx, at); err != nil {
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

// PlaceOf returns the place of a peer in the DHT, in hex; a hint's dht is a
// prefix of it.
func PlaceOf(id peer.ID) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// hostsOf returns a hint's addresses; a DNS name resolves to at most two. It
// returns errQuota if enough names of its domain were looked up.
func hostsOf(ctx context.Context, h blockname.Hint, q *quota) ([]multiaddr.Multiaddr, error) {
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
	if local(name.Value()) {
		return nil, fmt.Errorf("%s: not a public name", name.Value())
	}
	if !q.take(domainOf(name.Value())) {
		return nil, errQuota
	}
	ctx, cancel := context.WithTimeout(ctx, p2p.Alive)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, kind, strings.TrimSuffix(name.Value(), ".")+".")
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

// domainOf is the end of a DNS name, of two labels.
func domainOf(name string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	return strings.Join(labels[max(len(labels)-2, 0):], ".")
}

// local reports whether a name does not exist in the public DNS (RFC 6761,
// 6762, 8375): a stranger must not make us query the local network.
func local(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return !strings.Contains(name, ".") || slices.ContainsFunc([]string{".local", ".localhost", ".internal", ".home.arpa", ".lan", ".invalid", ".test", ".onion"},
		func(end string) bool { return strings.HasSuffix(name, end) })
}
