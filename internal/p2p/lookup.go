package p2p

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"

	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/wire"
)

// Numbers of a lookup.
const (
	// paths is the number of disjoint paths: each starts from different peers,
	// and no peer is asked by two paths, so that a liar misleads only one
	// (S/Kademlia, Baumgart and Mies 2007).
	paths = 3
	// alpha is the number of peers that a path asks at a time, not counting
	// those that have been silent for slow; in total at most maxFlying, each
	// watched by a goroutine.
	alpha     = 3
	slow      = 700 * time.Millisecond
	maxFlying = 2 * 4 * alpha
	// walkTime is when a walk ends with the peers found so far.
	walkTime = 6 * time.Second
	// blame is by how much the failed peers that one peer named may outnumber
	// those that answered before its other peers are ignored.
	blame = 5
	// maxFound is the maximum number of peers in a lookup's result.
	maxFound = 64
	// perPrefix is the maximum number of peers of one network prefix in a
	// result, on public networks.
	perPrefix = 3
)

// Found is an active provider: it answered a moment ago.
type Found struct {
	Ad wire.Advertisement
	// Compute is on what terms it computes; nil if it does not, or did not say.
	Compute *wire.ComputeOffer
	// Addrs are its multiaddrs; the first is the one at which it was reached.
	Addrs []string
	// Prefix is the network from which it was reached (choose.Prefix).
	Prefix string
}

// distance is Kademlia's distance.
func distance(a, b [32]byte) (d [32]byte) {
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
	return d
}

// place returns the place of a peer or key: the DHT measures between SHA256
// hashes.
func place[T ~string](id T) [32]byte { return sha256.Sum256([]byte(id)) }

// Place returns the place of an agent, comparable with those of locators
// (PlaceOf).
func Place(agent wire.Key) ([32]byte, error) {
	id, err := PeerID(agent)
	return place(id), err
}

// PlaceOf returns the place of a locator.
func PlaceOf(l wire.Locator) [32]byte { return sha256.Sum256(l[:]) }

// Nearer compares the distances of two places to a third.
func Nearer(at, a, b [32]byte) int {
	x, y := distance(a, at), distance(b, at)
	return bytes.Compare(x[:], y[:])
}

// nearness returns the number of leading bits that two places share.
func nearness(a, b [32]byte) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 256
}

// Nearest returns active providers near a key, the nearest first: the Width
// nearest, and some from a subtree beside the key's place. If an attacker has
// crowded the place with its own peers, or if wide is set, it also returns
// others from all around the place, so that identities ground next to a key do
// not keep honest agents out of the result. The key itself is never sent. It
// returns ErrUnreachable if no peer answers.
func (s *Host) Nearest(ctx context.Context, key []byte, wide bool) ([]Found, error) {
	d := s.dir
	at, expected := place(string(key)), d.expected()
	lists := d.around(ctx, at, expected, 1)
	if len(lists[0]) == 0 {
		return nil, fmt.Errorf("%w: no peer of the DHT", ErrUnreachable)
	}
	if wide || crowded(at, lists[0][:min(len(lists[0]), Width)], expected) {
		lists = append(lists[:1], d.around(ctx, at, expected, rings)[1:]...)
	}
	found := d.active(ctx, merge(lists, at))
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: no active provider", ErrUnreachable)
	}
	return found, nil
}

// expected estimates, rounded down, how many bits the Width-th nearest peer to
// any place shares with it, from the node's routing table: half of the network
// shares no bit with this host, a quarter one, and so on. The first bucket that
// is not full contains all peers there are.
func (d *directory) expected() int {
	rt := d.kad.RoutingTable()
	self := place(d.h.ID())
	var count [257]int
	for _, p := range rt.ListPeers() {
		count[nearness(self, place(p))]++
	}
	full := 0
	for count[full] >= Width {
		full++
	}
	deeper := 0
	for _, n := range count[full:] {
		deeper += n
	}
	// The network has about deeper·2^full peers.
	return max(0, full+int(math.Floor(math.Log2(float64(max(deeper, 1))/Width))))
}

// crowded reports whether peers are nearer to a place than chance allows. Of
// random peers, the 20 nearest share three bits more than expected at one place
// in ten million, the 10 nearest four bits more at one in 3,000.
func crowded(at [32]byte, near []peer.ID, expected int) bool {
	over := func(n, bits int) bool { return len(near) >= n && nearness(at, place(near[n-1])) >= expected+bits }
	return over(Width, 3) || over(Width/2, 4)
}

// rings is the number of subtrees around a place that a wide lookup visits.
const rings = 7

// around looks up a place and n subtrees beside it, concurrently. Each lookup
// uses a key of its own that shares no more bits with the place than needed. So
// a peer that is asked learns about 16 bits of the place, and an attacker that
// crowds the place is far from every subtree. The first list is that of the
// place itself.
func (d *directory) around(ctx context.Context, at [32]byte, expected, n int) [][]peer.ID {
	first := max(0, expected-1)
	if n > 1 {
		first = max(0, expected-2)
	}
	lists := make([][]peer.ID, n+1)
	var wg sync.WaitGroup
	wg.Go(func() { lists[0], _ = d.walk(ctx, at, proxy(at, expected+6, false), d.find) }) // what one misses another finds
	for i := range n {
		wg.Go(func() {
			lists[i+1], _ = d.walk(ctx, at, proxy(at, first+i, true), d.find)
		})
	}
	wg.Wait()
	return lists
}

// merge takes peers from each list in turn, the place's own list first, and
// sorts them.
func merge(lists [][]peer.ID, at [32]byte) (out []peer.ID) {
	out = slices.Clone(lists[0][:min(len(lists[0]), 2*Width)])
	for n := range Width {
		for _, l := range lists[1:] {
			if n < len(l) && len(out) < maxFound && !slices.Contains(out, l[n]) {
				out = append(out, l[n])
			}
		}
	}
	byDistance(out, at)
	return out
}

// proxy returns a random key whose place shares at least n bits with at, or
// exactly n. It costs about 2^n hashes, so n is limited.
func proxy(at [32]byte, n int, exactly bool) string {
	const most = 17 // 10 ms
	n = min(n, most)
	base := make([]byte, 12)
	_, _ = crand.Read(base[:8]) // never fails (crypto/rand)
	for i := uint32(0); ; i++ {
		binary.BigEndian.PutUint32(base[8:], i)
		if got := nearness(at, sha256.Sum256(base)); got == n || got > n && !exactly {
			return string(base)
		}
	}
}

func byDistance(list []peer.ID, at [32]byte) {
	slices.SortFunc(list, func(a, b peer.ID) int { return Nearer(at, place(a), place(b)) })
}

// active asks every peer for its advertisement, and returns those that answer
// in time.
func (d *directory) active(ctx context.Context, peers []peer.ID) []Found {
	list := make([]*Found, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			if p == d.h.ID() {
				if ad := d.ad.Load(); ad != nil {
					list[i] = &Found{Ad: *ad, Compute: d.compute.Load(), Addrs: ad.Record.Addrs, Prefix: choose.Prefix(ad.Record.Addrs[0])}
				}
				return
			}
			ad, offer, err := d.fetchAd(ctx, p)
			if err != nil {
				d.h.log.Debug("provider not active", "peer", p.String(), "err", err)
				return
			}
			addrs, prefix := d.reached(p, ad)
			list[i] = &Found{Ad: *ad, Compute: offer, Addrs: addrs, Prefix: prefix}
		})
	}
	wg.Wait()
	var found []Found
	group := map[string]int{}
	for _, f := range list {
		if f == nil || !d.h.local && group[f.Prefix] >= perPrefix {
			continue
		}
		group[f.Prefix]++
		found = append(found, *f)
	}
	return found
}

// reached returns the addresses that a peer advertises, in canonical form,
// first the one at which we reached it, and the network prefix of its
// connection, which nobody can claim falsely.
func (d *directory) reached(p peer.ID, ad *wire.Advertisement) (list []string, prefix string) {
	for _, a := range d.h.parse(ad.Record.Addrs) {
		list = append(list, a.String())
	}
	for _, c := range d.h.h.Network().ConnsToPeer(p) {
		at := c.RemoteMultiaddr().String()
		prefix = choose.Prefix(at)
		if c.Stat().Direction == network.DirOutbound && d.h.dials(c.RemoteMultiaddr()) {
			list = slices.DeleteFunc(list, func(a string) bool { return a == at })
			list = append([]string{at}, list...)
			break
		}
	}
	return list[:min(len(list), wire.MaxAddrs)], prefix
}

// finder asks one peer for the peers that it knows near target.
type finder func(ctx context.Context, p peer.ID, target string) ([]peer.ID, error)

// walk performs a lookup and returns the peers found near target that answered,
// the nearest first. It ends after walkTime with the peers found so far, or
// returns ErrUnreachable if there are none.
func (d *directory) walk(ctx context.Context, at [32]byte, target string, ask finder) ([]peer.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, walkTime)
	defer cancel()
	w := &walk{d: d, target: target, at: place(target), ask: ask, asked: map[peer.ID]bool{d.h.ID(): true}, alive: map[peer.ID]bool{},
		dead: map[peer.ID]bool{}, named: map[peer.ID][]peer.ID{}, score: map[peer.ID]int{}}
	if d.cfg.Serve {
		w.alive[d.h.ID()] = true
	}
	var wg sync.WaitGroup
	for _, seeds := range w.start() {
		wg.Go(func() { w.path(ctx, seeds) })
	}
	wg.Wait()
	list := make([]peer.ID, 0, len(w.alive))
	heard := false
	for p := range w.alive {
		list = append(list, p)
		heard = heard || p != d.h.ID()
	}
	if heard { // otherwise our own connection is probably down
		for _, p := range w.gone {
			d.kad.RoutingTable().RemovePeer(p)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no peer of the DHT", ErrUnreachable)
	}
	byDistance(list, at)
	return list, nil
}

// walk is the state of a lookup that its paths share.
type walk struct {
	d      *directory
	target string
	at     [32]byte // target's place
	ask    finder

	mu    sync.Mutex
	asked map[peer.ID]bool      // in some path
	alive map[peer.ID]bool      // they answered
	dead  map[peer.ID]bool      // they did not
	named map[peer.ID][]peer.ID // for each peer, those that named it
	gone  []peer.ID             // failed, but not because the walk ended
	score map[peer.ID]int       // of the peers that one named: failed less answered
}

// start deals the nearest peers of the routing table to the paths. Each path
// also starts with a seed of another kind, so that a poisoned table cannot
// mislead all of them; a host that knows few peers starts with more seeds.
func (w *walk) start() (seeds [paths][]peer.ID) {
	table := w.d.kad.RoutingTable()
	// Consider all of them, because the nearest may be gone.
	known := table.NearestPeers(kb.ConvertKey(w.target), table.Size())
	for i, p := range known {
		seeds[i%paths] = append(seeds[i%paths], p)
	}
	n := 1
	if len(known) < paths {
		n = paths
	}
	for i, list := range w.d.sources() {
		for j, s := range list[:min(n, len(list))] {
			w.d.h.h.Peerstore().AddAddrs(s.ID, s.Addrs, peerstore.TempAddrTTL)
			path := (i + j) % paths
			seeds[path] = append(seeds[path], s.ID)
		}
	}
	return seeds
}

// take claims a peer for one path, unless every peer that named it has named
// too many that do not answer.
func (w *walk) take(p peer.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked[p] || len(w.named[p]) > 0 && !slices.ContainsFunc(w.named[p], func(by peer.ID) bool { return w.score[by] < blame }) {
		return false
	}
	w.asked[p] = true
	return true
}

// tell records a peer's answer: the peers that it named. A failure after the
// end of the walk is not the peer's fault.
func (w *walk) tell(from peer.ID, peers []peer.ID, err error, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive[from], w.dead[from] = err == nil, err != nil
	if err != nil {
		delete(w.alive, from)
	}
	if err != nil && !ended {
		w.gone = append(w.gone, from)
	}
	w.blame(from, map[bool]int{true: -1, false: 1}[err == nil])
	for _, p := range peers {
		w.named[p] = append(w.named[p], from)
	}
}

func (w *walk) blame(p peer.ID, n int) {
	for _, by := range w.named[p] {
		w.score[by] += n
	}
}

// path asks ever nearer peers until the Width nearest that it knows have been
// asked.
func (w *walk) path(ctx context.Context, known []peer.ID) {
	type reply struct {
		from  peer.ID
		peers []peer.ID
		err   error
	}
	replies, late := make(chan reply), make(chan peer.ID)
	known = slices.Clone(known)
	waiting := map[peer.ID]bool{} // asked, and not silent for long yet
	for flying := 0; ; {
		w.mu.Lock()
		known = slices.DeleteFunc(known, func(p peer.ID) bool { return w.dead[p] })
		w.mu.Unlock()
		byDistance(known, w.at)
		near := known[:min(len(known), Width)]
		for i := 0; i < len(near) && len(waiting) < alpha && flying < maxFlying && ctx.Err() == nil; i++ {
			if p := near[i]; w.take(p) {
				flying++
				waiting[p] = true
				done := make(chan struct{})
				go func() {
					peers, err := w.ask(ctx, p, w.target)
					close(done)
					replies <- reply{p, peers, err}
				}()
				go func() {
					select {
					case <-time.After(slow):
						late <- p
					case <-done:
						late <- ""
					}
				}()
				flying++ // the watch
			}
		}
		if flying == 0 {
			return
		}
		select {
		case p := <-late:
			flying--
			if p != "" && waiting[p] {
				delete(waiting, p)
				w.mu.Lock()
				w.blame(p, 1) // as long as it is silent
				w.mu.Unlock()
			}
		case r := <-replies:
			flying--
			if !waiting[r.from] { // it was late
				w.mu.Lock()
				w.blame(r.from, -1)
				w.mu.Unlock()
			}
			delete(waiting, r.from)
			w.tell(r.from, r.peers, r.err, ctx.Err() != nil)
			for _, p := range r.peers {
				if !slices.Contains(known, p) {
					known = append(known, p)
				}
			}
		}
	}
}

// find is the finder for Kademlia's FIND_NODE.
func (d *directory) find(ctx context.Context, p peer.ID, target string) ([]peer.ID, error) {
	infos, err := d.ask.GetClosestPeers(ctx, p, peer.ID(target))
	if err != nil {
		return nil, err
	}
	return d.learn(infos), nil
}

// learn stores the addresses of peers that were named, for a while.
func (d *directory) learn(infos []*peer.AddrInfo) (list []peer.ID) {
	for _, i := range infos {
		if i.ID != d.h.ID() {
			d.h.h.Peerstore().AddAddrs(i.ID, i.Addrs, peerstore.TempAddrTTL)
			list = append(list, i.ID)
		}
	}
	return list
}
