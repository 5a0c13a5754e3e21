// Package packets is a network of simulated packets for libp2p hosts in one
// process: QUIC over connections that delay and lose packets as set. It needs
// no sockets, so hosts can run in a bubble of testing/synctest, where the clock
// jumps when all goroutines wait: timeouts cost no time, and none is caused by
// a slow machine.
package packets

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/marcopolo/simnet"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"
)

// Net carries packets between hosts. It belongs to the bubble that made it.
type Net struct {
	making sync.Mutex // of endpoints: simnet accepts one at a time
	sim    *simnet.Simnet

	mu      sync.Mutex
	rand    *rand.Rand
	latency time.Duration
	loss    float64
	cut     map[string]bool // IPs that are cut off
	pairs   map[[2]string]bool
	next    int
}

// New returns a network with a latency of 5 ms and no losses; later losses
// derive from the seed.
func New(seed uint64) *Net {
	n := &Net{rand: rand.New(rand.NewPCG(seed, 2)), latency: 5 * time.Millisecond, cut: map[string]bool{}, pairs: map[[2]string]bool{}}
	n.sim = &simnet.Simnet{LatencyFunc: n.delay, Logger: slog.New(slog.DiscardHandler)}
	n.sim.Start()
	return n
}

// Close ends it, once its hosts are closed.
func (n *Net) Close() { n.sim.Close() }

// Set sets the one-way latency and the part of packets that are lost, 0 to 1.
func (n *Net) Set(latency time.Duration, loss float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.latency, n.loss = latency, loss
}

// Cut disconnects addresses; Heal reconnects all.
func (n *Net) Cut(ips ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ip := range ips {
		n.cut[ip] = true
	}
}

// CutPair disconnects two addresses from one another.
func (n *Net) CutPair(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pairs[[2]string{a, b}], n.pairs[[2]string{b, a}] = true, true
}

// Heal ends every cut.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	clear(n.pairs)
}

func (n *Net) delay(*simnet.Packet) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.latency
}

// drops decides whether a packet is lost.
func (n *Net) drops(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[from] || n.cut[to] || n.pairs[[2]string{from, to}] || n.loss > 0 && n.rand.Float64() < n.loss
}

// NewIP returns a public address in a /16 of its own.
func (n *Net) NewIP() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	return fmt.Sprintf("%d.%d.1.1", 20+n.next/200, n.next%200)
}

// endpoint is a host's socket.
type endpoint struct {
	*simnet.SimConn
	net *Net
	ip  string
}

func (e endpoint) WriteTo(p []byte, to net.Addr) (int, error) {
	if udp, ok := to.(*net.UDPAddr); ok && e.net.drops(e.ip, udp.IP.String()) {
		return len(p), nil
	}
	return e.SimConn.WriteTo(p, to)
}

// source picks the one address that a host has.
type source struct{ ip net.IP }

func (s source) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) { return s.ip, nil }

// Transports returns the options that give a libp2p host QUIC over packets from
// ip (p2p.Config.Transports).
func (n *Net) Transports(ip string) []libp2p.Option {
	link := simnet.LinkSettings{BitsPerSecond: 100_000_000}
	var port atomic.Int32
	port.Store(30000)
	reuse := []quicreuse.Option{
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return source{net.ParseIP(ip)}, nil }),
		quicreuse.OverrideListenUDP(func(_ string, a *net.UDPAddr) (net.PacketConn, error) {
			addr := &net.UDPAddr{IP: net.ParseIP(ip), Port: a.Port}
			if addr.Port == 0 { // to dial from
				addr.Port = int(port.Add(1))
			}
			n.making.Lock()
			defer n.making.Unlock()
			return endpoint{n.sim.NewEndpoint(addr, simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link}), n, ip}, nil
		}),
	}
	return []libp2p.Option{
		libp2p.Transport(libp2pquic.NewTransport),
		libp2p.QUICReuse(func(l fx.Lifecycle, reset quic.StatelessResetKey, token quic.TokenGeneratorKey, opts ...quicreuse.Option) (*quicreuse.ConnManager, error) {
			m, err := quicreuse.NewConnManager(reset, token, opts...)
			if err == nil {
				l.Append(fx.StopHook(m.Close))
			}
			return m, err
		}, reuse...),
		// It would wait for something outside the bubble.
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	}
}
