package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"

	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/wire"
)

// Numbers of a lookup.
const (
	// paths is how many disjoint paths one takes: each starts from peers of
	// its own, and no peer is asked in two of them, so that a liar misleads
	// one (S/Kademlia, Baumgart and Mies 2007).
	paths = 3
	// alpha is how many peers a path asks at once.
	alpha = 3
	// maxFound bounds what a lookup returns.
	maxFound = 64
	// perPrefix is how many peers of one network prefix are returned, on
	// public networks.
	perPrefix = 3
)

// Found is an active provider: it answered a moment ago.
type Found struct {
	Ad wire.Advertisement
	// Addrs are multiaddrs of it, the one at which it was reached first.
	Addrs []string
}

// distance is Kademlia's.
func distance(a, b [32]byte) (d [32]byte) {
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
	return d
}

// place is where a peer or a key lies: the DHT measures between SHA256 hashes.
func place[T ~string](id T) [32]byte { return sha256.Sum256([]byte(id)) }

// Place is where an agent lies among the locators' places (PlaceOf).
func Place(agent wire.Key) ([32]byte, error) {
	id, err := PeerID(agent)
	return place(id), err
}

// PlaceOf is where a locator lies.
func PlaceOf(l wire.Locator) [32]byte { return sha256.Sum256(l[:]) }

// Nearer compares how near two places are to a third.
func Nearer(at, a, b [32]byte) int {
	x, y := distance(a, at), distance(b, at)
	return bytes.Compare(x[:], y[:])
}

// nearness is the number of leading bits that two places share.
func nearness(a, b [32]byte) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 256
}

// Nearest returns active providers near a key, the nearest first: usually the
// Width nearest; where somebody has crowded the key's place with peers of its
// own, or where wide is set, others from around it as well, so that honest ones
// are among them. ErrUnreachable where nobody answers.
func (s *Host) Nearest(ctx context.Context, key []byte, wide bool) ([]Found, error) {
	d := s.dir
	peers, err := d.walk(ctx, string(key))
	if err != nil {
		return nil, err
	}
	at, expected := place(string(key)), d.expected()
	near := peers[:min(len(peers), Width)]
	if wide || crowded(at, near, expected) {
		near = d.around(ctx, key, near, expected)
	}
	found := d.active(ctx, near)
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: no active provider", ErrUnreachable)
	}
	return found, nil
}

// expected is how many bits the width-th nearest peer of any place shares with
// it, from the own routing table: half of the network shares no bit with this
// host, a quarter one, and so on; the first bucket that is not full was filled
// with all there are.
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
	// The network has about deeper·2^full peers, and at least Width/2 of them
	// are this deep where the bucket before was full.
	if full > 0 {
		deeper = max(deeper, Width/2)
	}
	return max(0, full+bits.Len(uint(deeper/Width)))
}

// crowded reports whether peers lie nearer to a place than chance would put
// them: among peers at random, 20 share three bits more than expected in one
// place of 10^10, half of them four bits more in one of 10^5.
func crowded(at [32]byte, near []peer.ID, expected int) bool {
	over := func(n, bits int) bool { return len(near) >= n && nearness(at, place(near[n-1])) >= expected+bits }
	return over(Width, 3) || over(Width/2, 4)
}

// around looks up the subtrees that surround a place, each by a key of its own:
// whoever crowds the place itself is far from each of these.
func (d *directory) around(ctx context.Context, key []byte, near []peer.ID, expected int) []peer.ID {
	at := place(string(key))
	const rings = 7
	lists := make([][]peer.ID, rings)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			lists[i], _ = d.walk(ctx, beside(key, max(0, expected-2)+i)) // what one misses another finds
		})
	}
	wg.Wait()
	out := slices.Clone(near)
	for n := 0; n < Width; n++ {
		for _, l := range lists {
			if n < len(l) && !slices.Contains(out, l[n]) {
				out = append(out, l[n])
			}
		}
	}
	out = out[:min(len(out), maxFound)]
	byDistance(out, at)
	return out
}

// beside returns a key whose place shares exactly n bits with key's. It costs
// 2^(n+1) hashes, so n is bounded: no network has 2^20 hosts.
func beside(key []byte, n int) string {
	at := place(string(key))
	n = min(n, 18)
	for i := uint32(0); ; i++ {
		k := string(binary.BigEndian.AppendUint32(slices.Clone(key), i))
		if nearness(at, place(k)) == n {
			return k
		}
	}
}

func byDistance(list []peer.ID, at [32]byte) {
	slices.SortFunc(list, func(a, b peer.ID) int { return Nearer(at, place(a), place(b)) })
}

// active asks every peer for its advertisement, and keeps those that answer in
// time.
func (d *directory) active(ctx context.Context, peers []peer.ID) []Found {
	list := make([]*Found, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			if p == d.h.ID() {
				if ad := d.ad.Load(); ad != nil {
					list[i] = &Found{Ad: *ad, Addrs: ad.Record.Addrs}
				}
				return
			}
			ad, err := d.fetchAd(ctx, p)
			if err != nil {
				d.h.log.Debug("provider not active", "peer", p.String(), "err", err)
				return
			}
			list[i] = &Found{Ad: *ad, Addrs: d.addrs(p, ad)}
		})
	}
	wg.Wait()
	var found []Found
	group := map[string]int{}
	for _, f := range list {
		if f == nil {
			continue
		}
		most := 0
		for _, p := range choose.Prefixes(f.Addrs) {
			group[p]++
			most = max(most, group[p])
		}
		if d.local || most <= perPrefix {
			found = append(found, *f)
		}
	}
	return found
}

// addrs are those that a peer advertises, in canonical form, the one at which it
// is connected first.
func (d *directory) addrs(p peer.ID, ad *wire.Advertisement) (list []string) {
	for _, a := range d.h.parse(ad.Record.Addrs) {
		list = append(list, a.String())
	}
	for _, c := range d.h.h.Network().ConnsToPeer(p) {
		if i := slices.Index(list, c.RemoteMultiaddr().String()); i > 0 {
			list[0], list[i] = list[i], list[0]
		}
	}
	return list
}

// walk is a lookup: the peers nearest to target that answered, the nearest
// first.
func (d *directory) walk(ctx context.Context, target string) ([]peer.ID, error) {
	w := &walk{d: d, target: target, at: place(target), asked: map[peer.ID]bool{d.h.ID(): true}, alive: map[peer.ID]bool{}}
	if d.cfg.Serve {
		w.alive[d.h.ID()] = true
	}
	var wg sync.WaitGroup
	for _, seeds := range w.start() {
		wg.Go(func() { w.path(ctx, seeds) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	list := make([]peer.ID, 0, len(w.alive))
	for p := range w.alive {
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no peer of the DHT", ErrUnreachable)
	}
	byDistance(list, w.at)
	return list, nil
}

// walk is the state of a lookup that its paths share.
type walk struct {
	d      *directory
	target string
	at     [32]byte

	mu    sync.Mutex
	asked map[peer.ID]bool // in some path
	alive map[peer.ID]bool // they answered
}

// start deals the nearest peers of the routing table to the paths, and one seed
// to each, so that a poisoned table misleads none.
func (w *walk) start() (seeds [paths][]peer.ID) {
	known := w.d.kad.RoutingTable().NearestPeers(kb.ConvertKey(w.target), Width)
	for i, p := range known {
		seeds[i%paths] = append(seeds[i%paths], p)
	}
	extra := w.d.seeds()
	first := rand.IntN(paths)
	for i, s := range extra[:min(len(extra), paths)] {
		w.d.h.h.Peerstore().AddAddrs(s.ID, s.Addrs, peerstore.TempAddrTTL)
		n := (first + i) % paths
		seeds[n] = append(seeds[n], s.ID)
	}
	return seeds
}

// take claims a peer for one path.
func (w *walk) take(p peer.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked[p] {
		return false
	}
	w.asked[p] = true
	return true
}

// path asks ever nearer peers until the Width nearest that it knows of are
// asked.
func (w *walk) path(ctx context.Context, known []peer.ID) {
	type reply struct {
		from  peer.ID
		peers []peer.ID
		err   error
	}
	replies := make(chan reply)
	dead := map[peer.ID]bool{}
	known = slices.Clone(known)
	for flying := 0; ; {
		byDistance(known, w.at)
		near := known[:min(len(known), Width)]
		for i := 0; i < len(near) && flying < alpha && ctx.Err() == nil; i++ {
			if p := near[i]; w.take(p) {
				flying++
				go func() {
					peers, err := w.d.find(ctx, p, w.target)
					replies <- reply{p, peers, err}
				}()
			}
		}
		if flying == 0 {
			return
		}
		r := <-replies
		flying--
		if r.err != nil {
			dead[r.from] = true
		}
		w.mu.Lock()
		if r.err == nil {
			w.alive[r.from] = true
		}
		w.mu.Unlock()
		for _, p := range r.peers {
			if !slices.Contains(known, p) {
				known = append(known, p)
			}
		}
		known = slices.DeleteFunc(known, func(p peer.ID) bool { return dead[p] })
	}
}

// find asks one peer for those that it knows near target.
func (d *directory) find(ctx context.Context, p peer.ID, target string) ([]peer.ID, error) {
	infos, err := d.ask.GetClosestPeers(ctx, p, peer.ID(target))
	if err != nil {
		return nil, err
	}
	var list []peer.ID
	for _, i := range infos {
		if i.ID != d.h.ID() {
			d.h.h.Peerstore().AddAddrs(i.ID, i.Addrs, peerstore.TempAddrTTL)
			list = append(list, i.ID)
		}
	}
	return list, nil
}
