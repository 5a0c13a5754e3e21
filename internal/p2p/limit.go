package p2p

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	subnets "github.com/libp2p/go-libp2p/x/rate"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"
)

// Limits are the time limits and quotas of a Host.
type Limits struct {
	// Frame limits a dial, each exchange of frames, and each pause in a body.
	Frame time.Duration
	// MinRate is the minimum rate of a body, in bytes per second.
	MinRate uint64
	// Streams is the maximum number of concurrent requests at a server: a
	// quarter of it per peer, half of it per network. Further requests get
	// Busy.
	Streams int
	// Rate is the number of requests per second that a server accepts from one
	// peer, with a burst of Burst; from one network (a /24 of IPv4, a /56 of
	// IPv6) four times as many. 0 means no limit. Further requests get Busy.
	Rate  float64
	Burst int
}

// DefaultLimits are the limits on public networks.
var DefaultLimits = Limits{Frame: 15 * time.Second, MinRate: 16 << 10, Streams: 1024, Rate: 200, Burst: 1000}

// perNetwork is the rate of a network, as a multiple of a peer's.
const perNetwork = 4

// maxConns is the maximum number of connections of a server. From maxConns −
// 100 on, idle ones are closed.
const maxConns = 2048

// openShare is the number of streams that may be open for each concurrent
// request, because most wait for their next request.
const openShare = 4

// laneShare is the number of lanes of pennies that may be open for each
// concurrent request, and laneRate the rate at which they may be opened, as a
// multiple of that of requests: a lane costs a look-up, and a payer may have
// thousands of banks with one payee.
const laneShare, laneRate = 16, 5

// bulkShare is the part of concurrent requests that may be about blobs, so those
// that take hours leave room for others.
const bulkShare = 8

// resources returns the library's limits on connections, streams and memory,
// with room for maxConns and more streams than a guard allows.
func resources() ([]libp2p.Option, error) {
	scaled := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaled)
	limits := rcmgr.PartialLimitConfig{
		System:              rcmgr.ResourceLimits{Conns: 2 * maxConns, ConnsInbound: maxConns, StreamsInbound: 8 * maxConns, Streams: 16 * maxConns, FD: 2 * maxConns},
		ProtocolDefault:     rcmgr.ResourceLimits{StreamsInbound: 8 * maxConns, Streams: 8 * maxConns},
		ProtocolPeerDefault: rcmgr.ResourceLimits{StreamsInbound: maxConns, Streams: maxConns},
		PeerDefault:         rcmgr.ResourceLimits{StreamsInbound: maxConns, Streams: maxConns},
		Transient:           rcmgr.ResourceLimits{Conns: maxConns / 4, ConnsInbound: maxConns / 4},
	}.Build(scaled.AutoScale())
	resources, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits), rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(maxConns-200, maxConns-100)
	return []libp2p.Option{libp2p.ResourceManager(resources), libp2p.ConnectionManager(conns)}, err
}

// guard decides which requests a server accepts.
type guard struct {
	limit Limits
	// local means that all hosts are in one network, so networks have no
	// shares.
	local bool

	mu     sync.Mutex
	busy   int // requests that are served now
	byPeer map[peer.ID]int
	byNet  map[netip.Prefix]int

	peers *lru.Cache[peer.ID, *rate.Limiter] // of the peers that asked last
	nets  subnets.SubnetLimiter
}

func newGuard(l Limits, local bool) (*guard, error) {
	const remembered = 10_000
	peers, err := lru.New[peer.ID, *rate.Limiter](remembered)
	if err != nil {
		return nil, err
	}
	each := subnets.Limit{RPS: perNetwork * l.Rate, Burst: perNetwork * l.Burst}
	return &guard{limit: l, local: local, byPeer: map[peer.ID]int{}, byNet: map[netip.Prefix]int{}, peers: peers, nets: subnets.SubnetLimiter{
		IPv4SubnetLimits: []subnets.SubnetLimit{{PrefixLength: v4Prefix, Limit: each}},
		IPv6SubnetLimits: []subnets.SubnetLimit{{PrefixLength: v6Prefix, Limit: each}},
		GracePeriod:      time.Minute,
	}}, nil
}

// The networks that have shares.
const (
	v4Prefix = 24
	v6Prefix = 56
)

// ipOf returns the address behind a connection, or the zero Addr.
func ipOf(c network.Conn) netip.Addr {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// networkOf returns the network of an address that has a share, or the zero
// Prefix.
func networkOf(a netip.Addr) netip.Prefix {
	bits := v6Prefix
	if a.Is4() {
		bits = v4Prefix
	}
	p, _ := a.Prefix(bits)
	return p
}

// enter reserves a slot for a request. ok is false if the caller can have none
// now.
func (g *guard) enter(c network.Conn) (leave func(), ok bool) {
	p, ip := c.RemotePeer(), ipOf(c)
	net := networkOf(ip)
	if !g.take(p, net) {
		return nil, false
	}
	leave = func() { g.leave(p, net) }
	if g.limit.Rate > 0 && !g.allow(p, ip) {
		leave()
		return nil, false
	}
	return leave, true
}

func (g *guard) take(p peer.ID, net netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy >= g.limit.Streams || g.byPeer[p] >= max(1, g.limit.Streams/4) || !g.local && g.byNet[net] >= max(1, g.limit.Streams/2) {
		return false
	}
	g.busy++
	g.byPeer[p]++
	g.byNet[net]++
	return true
}

func (g *guard) leave(p peer.ID, net netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy--
	if g.byPeer[p]--; g.byPeer[p] == 0 {
		delete(g.byPeer, p)
	}
	if g.byNet[net]--; g.byNet[net] == 0 {
		delete(g.byNet, net)
	}
}

// allow reports whether a peer and its network are within their rates.
func (g *guard) allow(p peer.ID, ip netip.Addr) bool {
	one, ok := g.peers.Get(p)
	if !ok {
		one = rate.NewLimiter(rate.Limit(g.limit.Rate), g.limit.Burst)
		if first, ok, _ := g.peers.PeekOrAdd(p, one); ok {
			one = first
		}
	}
	if !one.Allow() {
		return false
	}
	return g.local || g.nets.Allow(ip, time.Now())
}

// body returns the time limit of a body of size bytes.
func (l Limits) body(size uint64) time.Duration {
	return 2*l.Frame + time.Duration(float64(size)/float64(l.MinRate)*float64(time.Second))
}

// paced is a stream during a body. It must end in time and never pause for
// long, so a stalled peer is dropped early.
type paced struct {
	network.Stream
	pause time.Duration
	end   time.Time

	mu      sync.Mutex
	stopped bool
}

// errStopped means that the other side has stopped reading.
var errStopped = errors.New("stopped")

// stop ends a blocked write, and all later ones.
func (p *paced) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	_ = p.SetWriteDeadline(time.Now())
}

func (l Limits) pace(st network.Stream, size uint64) *paced {
	return &paced{Stream: st, pause: l.Frame, end: time.Now().Add(l.body(size))}
}

func (p *paced) renew() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return errStopped
	}
	next := time.Now().Add(p.pause)
	if next.After(p.end) {
		next = p.end
	}
	return p.SetDeadline(next)
}

func (p *paced) Read(b []byte) (int, error) {
	if err := p.renew(); err != nil {
		return 0, err
	}
	return p.Stream.Read(b)
}

func (p *paced) Write(b []byte) (int, error) {
	if err := p.renew(); err != nil {
		return 0, err
	}
	return p.Stream.Write(b)
}
