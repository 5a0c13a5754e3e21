package p2p

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	"github.com/multiformats/go-multiaddr"

	"github.com/bitgram/bitgram/internal/testing/ports"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// city is a network of DHT hosts in memory: real hosts and a real DHT, but
// streams without sockets.
type city struct {
	t     *testing.T
	net   mocknet.Mocknet
	rand  *rand.Rand
	hosts []*member // the providers that are alive
	all   []*member // and the clients
	made  uint32
	where func(i uint32) string        // the IP address of the i-th host, on a public network; nil for regtest
	ahead func(i uint32) time.Duration // of the true time is the i-th host; nil for none
}

type member struct {
	*Host
	key    wire.Key
	secret wire.Secret
	honest bool
}

// inCity runs f in a city of its own. Its clock jumps when no host has anything
// to do (testing/synctest): a timeout means that a peer is silent, never that
// the machine is slow.
func inCity(t *testing.T, f func(*city)) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		c := &city{t: t, net: mocknet.New(), rand: rand.New(rand.NewPCG(seed, 0))}
		defer func() {
			for _, m := range slices.Clone(c.all) {
				c.kill(m)
			}
			_ = c.net.Close()
		}()
		f(c)
	})
}

// fresh is a secret nobody else in the test has.
func (c *city) fresh() (s wire.Secret) {
	for i := range 4 {
		binary.BigEndian.PutUint64(s[8*i:], c.rand.Uint64())
	}
	s[0] = 1
	return s
}

func (c *city) seeds() (list []string) {
	for _, i := range c.rand.Perm(len(c.hosts))[:min(3, len(c.hosts))] {
		list = append(list, c.hosts[i].Seed()...)
	}
	return list
}

// open makes a host: a provider that advertises itself, or a client.
func (c *city) open(s wire.Secret, serve bool) *member {
	c.t.Helper()
	seeds := c.seeds()
	priv, err := s.PrivKey()
	must(c.t, err)
	key, err := crypto.UnmarshalSecp256k1PrivateKey(priv.Serialize())
	must(c.t, err)
	c.made++
	ip := c.made
	network, addr := wire.Regtest, fmt.Sprintf("/ip4/10.%d.%d.1/tcp/4001", ip>>8, ip&255)
	if c.where != nil {
		network, addr = wire.Mainnet, fmt.Sprintf("/ip4/%s/tcp/4001", c.where(ip))
	}
	h, err := c.net.AddPeer(key, multiaddr.StringCast(addr))
	must(c.t, err)
	for _, m := range c.all {
		_, err := c.net.LinkPeers(h.ID(), m.ID())
		must(c.t, err)
	}
	now := time.Now
	if c.ahead != nil {
		now = func() time.Time { return time.Now().Add(c.ahead(ip)) }
	}
	host, err := wrap(h, Config{DHT: &DHT{Network: network, Serve: serve, Seeds: func() []string { return seeds }, Now: now}}, c.where == nil)
	must(c.t, err)
	m := &member{Host: host, key: keyOf(s), secret: s, honest: true}
	c.all = append(c.all, m)
	if serve {
		ad := advertisement(s, addr, 1)
		ad.Record.Expires = now().Add(recordLife).Unix()
		ad.Sig, err = wire.Sign(s, ad.Digest(network))
		must(c.t, err)
		host.Offer(ad)
	}
	return m
}

// kill ends a host. The network in memory would go on to deliver to it.
func (c *city) kill(m *member) {
	c.t.Helper()
	is := func(o *member) bool { return o == m }
	c.hosts, c.all = slices.DeleteFunc(c.hosts, is), slices.DeleteFunc(c.all, is)
	for _, o := range c.all {
		must(c.t, c.net.UnlinkPeers(m.ID(), o.ID()))
		must(c.t, c.net.DisconnectPeers(m.ID(), o.ID()))
	}
	must(c.t, m.Close())
	synctest.Wait() // what it was answering ends too
}

// settle has hosts enter the DHT, some at a time.
func (c *city) settle(list []*member) {
	c.t.Helper()
	places := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for _, m := range list {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if err := m.Bootstrap(c.t.Context()); err != nil {
				c.t.Errorf("bootstrap: %v", err)
			}
		})
	}
	wg.Wait()
}

func (c *city) grow(n int) {
	c.t.Helper()
	var list []*member
	for range n {
		m := c.open(c.fresh(), true)
		list = append(list, m)
		c.hosts = append(c.hosts, m)
	}
	c.settle(list)
}

// nearest are the peer IDs of the live providers nearest to a key.
func (c *city) nearest(key []byte) (list []peer.ID) {
	for _, m := range c.hosts {
		list = append(list, m.ID())
	}
	byDistance(list, place(string(key)))
	return list
}

func advertisement(s wire.Secret, addr string, seq uint64) *wire.Advertisement {
	ad := &wire.Advertisement{Agent: keyOf(s), Services: wire.Delivery, Rate: 20_000_000, Limits: wire.Limits{Size: 1 << 30, Blocks: 1008},
		Record: wire.Record{Seq: seq, Expires: time.Now().Unix() + 3600, Addrs: []string{addr}}}
	sig, err := wire.Sign(s, ad.Digest(wire.Regtest))
	if err != nil {
		panic(err)
	}
	ad.Sig = sig
	return ad
}

// recordLife is how long what an agent publishes is valid.
const recordLife = 24 * time.Hour

func (c *city) key() []byte { return binary.BigEndian.AppendUint64(nil, c.rand.Uint64()) }

// TestLookup: of 200 hosts (five, in the full tier) a fifth dies and another
// fifth comes; lookups find the three that are truly nearest of those alive, in
// 99 of 100 cases.
func TestLookup(t *testing.T) { inCity(t, (*city).lookup) }

func (c *city) lookup() {
	n := tier.Pick(5, 5, 200)
	c.grow(n)
	client := c.open(c.fresh(), false)
	c.settle([]*member{client})
	right, total := 0, 0
	for range tier.Pick(1, 4, 4) {
		for range max(1, n/20) {
			c.kill(c.hosts[c.rand.IntN(len(c.hosts))])
		}
		c.grow(max(1, n/20))
		for range tier.Pick(10, 10, 50) {
			from := client
			if total%2 == 0 {
				from = c.hosts[c.rand.IntN(len(c.hosts))]
			}
			key := c.key()
			found, err := from.Nearest(c.t.Context(), key, false)
			must(c.t, err)
			want := c.nearest(key)
			total++
			ok := len(found) >= 3
			for j := 0; ok && j < 3; j++ {
				id, err := PeerID(found[j].Ad.Agent)
				ok = err == nil && id == want[j]
			}
			if ok {
				right++
			}
		}
	}
	if right < total*99/100 {
		c.t.Errorf("%d of %d lookups are right", right, total)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	c.t.Logf("%d hosts: heap %d MiB, from the system %d MiB, %d goroutines", len(c.hosts), m.HeapAlloc>>20, m.Sys>>20, runtime.NumGoroutine())
}

// TestClocks: hosts whose clocks are an hour ahead or behind find each other, and
// what the others publish.
func TestClocks(t *testing.T) { inCity(t, (*city).clocks) }

func (c *city) clocks() {
	c.ahead = func(i uint32) time.Duration { return time.Duration(int(i%3)-1) * time.Hour }
	c.grow(tier.Pick(3, 5, 9))
	client := c.open(c.fresh(), false)
	c.settle([]*member{client})
	owners := map[*member]wire.Secret{}
	for _, m := range c.hosts {
		must(c.t, m.Advertise(c.t.Context(), m.dir.ad.Load()))
		owners[m] = c.fresh()
		must(c.t, m.Announce(c.t.Context(), holding(owners[m], m.secret, 1, m.dir.cfg.Now().Add(recordLife).Unix(), m.Addrs()[0])))
	}
	for i, from := range c.all {
		found, err := from.Nearest(c.t.Context(), c.key(), true)
		must(c.t, err)
		if len(found) < len(c.hosts)-1 { // it does not find itself
			c.t.Errorf("host %d finds %d others", i, len(found))
		}
		for j, m := range c.hosts {
			if ad, err := from.Advertisement(c.t.Context(), m.key); err != nil || ad.Agent != m.key {
				c.t.Errorf("host %d looks for the advertisement of %d: %v", i, j, err)
			}
			if h, err := from.Holding(c.t.Context(), keyOf(owners[m])); err != nil || h.Grant.Agent != m.key {
				c.t.Errorf("host %d looks for the holding of %d: %v", i, j, err)
			}
		}
	}
}

// TestCrowded: twenty identities ground next to a key do not keep honest agents
// out of a lookup's answer, however near they are: far nearer than anybody, or
// just as near as the nearest.
func TestCrowded(t *testing.T) {
	tier.NotShort(t)
	inCity(t, (*city).crowded)
}

func (c *city) crowded() {
	// As many as a lookup returns hide nobody.
	n := tier.Pick(0, Width+5, 120)
	c.grow(n)
	client := c.open(c.fresh(), false)
	c.settle([]*member{client})
	keys, lookups := tier.Pick(0, 1, 5), tier.Pick(0, 4, 50)
	honest, hidden, kind := 0, 0, c.rand.IntN(2)
	for i := range keys {
		key := c.key()
		at := place(string(key))
		bits, nearest := 9, place(c.nearest(key)[0])
		if (i+kind)%2 == 0 {
			bits = 0
		}
		var liars []*member
		for len(liars) < 20 {
			s := c.fresh()
			id, err := PeerID(keyOf(s))
			must(c.t, err)
			if nearness(place(id), at) < bits || Nearer(at, place(id), nearest) > 0 {
				continue
			}
			m := c.open(s, true)
			m.honest = false
			liars = append(liars, m)
		}
		c.hosts = append(c.hosts, liars...)
		c.settle(liars)
		if peers, err := client.dir.walk(c.t.Context(), at, string(key), client.dir.find); err != nil {
			c.t.Error(err)
		} else if !slices.ContainsFunc(peers[:min(len(peers), Width)], func(p peer.ID) bool {
			return slices.ContainsFunc(c.hosts[:n], func(m *member) bool { return m.ID() == p })
		}) {
			hidden++
		}
		for range lookups / keys {
			from := client
			if c.rand.IntN(2) == 0 {
				from = c.hosts[c.rand.IntN(n)]
			}
			found, err := from.Nearest(c.t.Context(), key, false)
			must(c.t, err)
			good := 0
			for _, f := range found {
				if i := slices.IndexFunc(c.hosts, func(m *member) bool { return m.key == f.Ad.Agent }); i >= 0 && c.hosts[i].honest {
					good++
				}
			}
			if good >= 3 {
				honest++
			}
		}
		for _, m := range liars {
			c.kill(m)
		}
	}
	if hidden == 0 {
		c.t.Error("the attack hides nobody: the test shows nothing")
	}
	if honest < lookups*99/100 {
		c.t.Errorf("%d of %d lookups give three honest agents", honest, lookups)
	}
}

// TestDeadTable: all the peers near a key that a client knows die at once. Its
// next lookup there finds those that live, and forgets the dead it met: those
// that it need not ask, since who named them is blamed, a later one forgets.
func TestDeadTable(t *testing.T) {
	tier.NotShort(t)
	inCity(t, (*city).deadTable)
}

func (c *city) deadTable() {
	c.grow(tier.Pick(0, 2*Width, 60))
	client := c.open(c.fresh(), false)
	c.settle([]*member{client})
	key := c.key()
	table := client.dir.kad.RoutingTable()
	dead := table.NearestPeers(kb.ConvertKey(string(key)), Width)
	for _, m := range slices.Clone(c.hosts) {
		if slices.Contains(dead, m.ID()) {
			c.kill(m)
		}
	}
	gone := func(p peer.ID) bool { return table.Find(p) == "" }
	for try := 0; try == 0 || len(dead) > Width/2 && try < 4; try++ {
		peers, err := client.dir.walk(c.t.Context(), place(string(key)), string(key), client.dir.find)
		must(c.t, err)
		if want := c.nearest(key); len(peers) < 3 || !slices.Equal(peers[:3], want[:3]) {
			c.t.Errorf("%d peers found", len(peers))
		}
		dead = slices.DeleteFunc(dead, gone)
	}
	if len(dead) > Width/2 {
		c.t.Errorf("%d of the dead are still in the table", len(dead))
	}
}

// TestPrefixes: on a public network a lookup returns at most three agents of one
// network prefix, by where they are reached; who claims the others' prefixes
// takes nothing from them.
func TestPrefixes(t *testing.T) {
	tier.NotShort(t)
	inCity(t, (*city).prefixes)
}

func (c *city) prefixes() {
	const honest = 10
	c.where = func(i uint32) string {
		if i > honest && i <= 2*honest {
			return fmt.Sprintf("20.200.%d.1", i)
		}
		return fmt.Sprintf("20.%d.1.1", i)
	}
	c.grow(2 * honest)
	for _, liar := range c.hosts[honest:] {
		ad := *liar.dir.ad.Load()
		for _, victim := range c.hosts[:wire.MaxAddrs-1] {
			ad.Record.Addrs = append(ad.Record.Addrs, victim.Addrs()...)
		}
		sig, err := wire.Sign(liar.secret, ad.Digest(wire.Mainnet))
		must(c.t, err)
		ad.Sig = sig
		liar.Offer(&ad)
	}
	client := c.open(c.fresh(), false)
	c.settle([]*member{client})
	for range 10 {
		found, err := client.Nearest(c.t.Context(), c.key(), true)
		must(c.t, err)
		liars := 0
		for _, f := range found {
			if f.Prefix == "ip4/20.200" {
				liars++
			}
		}
		if liars > perPrefix || len(found)-liars < honest {
			c.t.Errorf("%d liars and %d honest agents of %d", liars, len(found)-liars, honest)
		}
	}
}

// TestSeedsComeBack: a seed that was down is dialled anew as soon as it is asked
// for again; and a server whose other seeds are all down is in the DHT once
// somebody has found it.
func TestSeedsComeBack(t *testing.T) {
	at := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", ports.Free(t))
	id, err := PeerID(keyOf(secret(1)))
	must(t, err)
	v, early := visitor(t, at+"/p2p/"+id.String()), provider(t, 2, "/ip4/127.0.0.1/tcp/0", at+"/p2p/"+id.String())
	for range 2 {
		for _, h := range []*Host{v, early} {
			if err := h.Bootstrap(t.Context()); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "refused") {
				t.Errorf("while the seed is down: %v", err)
			}
		}
	}
	must(t, visitor(t, early.Seed()...).Bootstrap(t.Context()))
	other := provider(t, 3, "/ip4/127.0.0.1/tcp/0", early.Seed()...)
	must(t, other.Bootstrap(t.Context()))
	eventually(t, func() bool { return early.Known() > 0 })
	if err := early.Bootstrap(t.Context()); err != nil {
		t.Errorf("a server that others have found: %v", err)
	}
	provider(t, 1, at)
	if err := v.Bootstrap(t.Context()); err != nil {
		t.Errorf("with the seed up again: %v", err)
	}
}
