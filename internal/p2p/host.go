// Package p2p sends the messages of delivery between libp2p hosts, with limits
// on the size and time of every frame and body (spec/wire.md). An agent's peer
// ID is its identity key, so the channel itself authenticates the agent.
// Senders and recipients use a fresh host key, so their identities do not
// appear on the wire.
package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"github.com/bitgram/bitgram/wire"
)

// Failures are returned as errors. The library's own log, which would go to
// standard error, says nothing else of importance.
func init() { gologshim.SetDefaultHandler(slog.DiscardHandler) }

// The protocols. A change of any message changes the version number.
const (
	protoQuote   protocol.ID = "/bitgram/quote/1"   // QuoteRequest → Reply, Quote
	protoStore   protocol.ID = "/bitgram/store/2"   // Package → Reply; body → Reply, Receipt
	protoFetch   protocol.ID = "/bitgram/fetch/1"   // Ask → Reply, Proofs; Token → Reply, body; more tokens
	protoRelease protocol.ID = "/bitgram/release/1" // Release → Reply, Reveal
	protoAck     protocol.ID = "/bitgram/ack/1"     // Acknowledge → Reply, Done
	protoStatus  protocol.ID = "/bitgram/status/1"  // StatusRequest → Reply, Status
)

// PeerID is the peer ID of an agent's key: libp2p's identity multihash of the
// compressed even-y point.
func PeerID(k wire.Key) (peer.ID, error) {
	pub, err := crypto.UnmarshalSecp256k1PublicKey(append([]byte{2}, k[:]...))
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(pub)
}

// Config configures a Host.
type Config struct {
	// Identity is an agent's key; the zero value means a fresh key, for a host
	// that only calls.
	Identity wire.Secret
	// Listen are multiaddrs; none for a host that only calls.
	Listen []string
	// Serve answers requests for delivery, Banks those for penny banks; both nil
	// for a host that only calls.
	Serve Service
	Banks Banks
	// Blobs keeps programs, inputs and checkpoints of jobs; nil for a host that
	// keeps none.
	Blobs Blobs
	// Compute answers requests for quotes of jobs; nil for a host that computes
	// nothing.
	Compute Compute
	// Jobs answers requests about jobs and takes the letters of their parties; nil
	// for a host that works for none.
	Jobs Jobs
	Log  *slog.Logger
	// Limits are the limits of the host; zero means DefaultLimits.
	Limits Limits
	// Transports replace TCP and QUIC over real sockets, and their limits, in
	// simulations.
	Transports []libp2p.Option
	// DHT is the host's part in the DHT; nil means none.
	DHT *DHT
}

// Host is a libp2p host that speaks delivery.
type Host struct {
	h     host.Host
	serve Service
	log   *slog.Logger
	limit Limits
	dir   *directory // nil without DHT
	local bool       // loopback and private addresses are dialled as well
	guard *guard     // of requests
	open  *guard     // of streams, most of which wait for one
	idle  idle
	lanes *guard // of pennies, on few streams
	bulk  *guard // of blobs' bodies, which take long
	lines lines
	links links // of jobs
}

// ErrListen means that a host cannot listen at its configured addresses.
var ErrListen = errors.New("the agent cannot listen")

// New starts a host.
func New(cfg Config) (*Host, error) {
	opts := cfg.Transports
	if opts == nil {
		room, err := resources()
		if err != nil {
			return nil, err
		}
		opts = append(room, libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(quic.NewTransport))
	}
	opts = append(slices.Clone(opts),
		libp2p.Security(noise.ID, noise.New),
		libp2p.UserAgent("bitgram/1"),
		libp2p.DisableMetrics(),
		libp2p.DisableRelay(),
	)
	if len(cfg.Listen) == 0 {
		opts = append(opts, libp2p.NoListenAddrs)
	} else {
		opts = append(opts, libp2p.ListenAddrStrings(cfg.Listen...))
	}
	if cfg.Identity != (wire.Secret{}) {
		priv, err := cfg.Identity.PrivKey()
		if err != nil {
			return nil, err
		}
		key, err := crypto.UnmarshalSecp256k1PrivateKey(priv.Serialize())
		if err != nil {
			return nil, err
		}
		opts = append(opts, libp2p.Identity(key))
	}
	local := cfg.DHT == nil || cfg.DHT.Network == wire.Regtest
	if !local {
		opts = append(opts, libp2p.ConnectionGater(publicOnly{}))
	}
	h, err := libp2p.New(opts...)
	if err != nil && len(cfg.Listen) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrListen, err)
	}
	if err != nil {
		return nil, err
	}
	s, err := wrap(h, cfg, local)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return s, nil
}

// wrap makes a Host of a libp2p host.
func wrap(h host.Host, cfg Config, local bool) (*Host, error) {
	limit := cfg.Limits
	if limit == (Limits{}) {
		limit = DefaultLimits
	}
	s := &Host{h: h, serve: cfg.Serve, log: cfg.Log, limit: limit, local: local}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.guard, err = newGuard(limit, local); err != nil {
		return nil, err
	}
	if s.open, err = newGuard(Limits{Streams: openShare * limit.Streams}, local); err != nil {
		return nil, err
	}
	if s.lanes, err = newGuard(Limits{Streams: laneShare * limit.Streams, Rate: laneRate * limit.Rate, Burst: laneRate * limit.Burst}, local); err != nil {
		return nil, err
	}
	if s.bulk, err = newGuard(Limits{Streams: max(4, limit.Streams/bulkShare)}, local); err != nil {
		return nil, err
	}
	if s.serve != nil {
		s.handle(protoQuote, s.serveQuote)
		s.handle(protoStore, s.serveStore)
		s.handle(protoFetch, s.serveFetch)
		s.handle(protoRelease, s.serveRelease)
		s.handle(protoAck, s.serveAck)
		s.handle(protoStatus, s.serveStatus)
	}
	if cfg.Banks != nil {
		s.handleBanks(cfg.Banks)
	}
	if cfg.Blobs != nil {
		s.handleBlobs(cfg.Blobs)
	}
	if cfg.Compute != nil {
		handle(s, protoComputeQuote, func(ctx context.Context, st network.Stream, req *wire.ComputeRequest) (*wire.ComputeQuote, error) {
			return cfg.Compute.Quote(ctx, s.caller(st), req)
		})
	}
	s.links.jobs, s.links.open = cfg.Jobs, map[peer.ID]*link{}
	s.links.ctx, s.links.stop = context.WithCancel(context.Background())
	if cfg.Jobs != nil {
		s.handleJobs(cfg.Jobs)
	}
	if cfg.DHT != nil {
		if s.dir, err = joinDHT(s, *cfg.DHT); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close ends every connection.
func (s *Host) Close() error {
	s.links.close()
	defer s.links.wg.Wait()
	if s.dir == nil {
		return s.h.Close()
	}
	return errors.Join(s.dir.kad.Close(), s.h.Close())
}

// ID is the host's peer ID.
func (s *Host) ID() peer.ID { return s.h.ID() }

// Addrs are the addresses that the host listens on, without its peer ID.
func (s *Host) Addrs() (list []string) {
	for _, a := range s.h.Addrs() {
		list = append(list, a.String())
	}
	return list
}

// Public returns the addresses that others would dial on this network, at most
// wire.MaxAddrs.
func (s *Host) Public() (list []string) {
	for _, a := range s.reachable(s.h.Addrs()) {
		list = append(list, a.String())
	}
	return list
}

// Refused is a peer's refusal.
type Refused struct {
	Code wire.Code
	Text string
}

// ErrRefused is matched by every *Refused.
var ErrRefused = errors.New("refused")

// Is makes errors.Is(err, ErrRefused) true.
func (r *Refused) Is(target error) bool { return target == ErrRefused }

func (r *Refused) Error() string {
	if r.Text == "" {
		return "refused: " + r.Code.String()
	}
	return fmt.Sprintf("refused: %s (%s)", r.Code, r.Text)
}

// ErrUnreachable means that the peer could not be dialled, or stopped
// answering.
var ErrUnreachable = errors.New("peer does not answer")

// call opens a stream to an agent and runs f on it. Whatever f does not turn
// into a *Refused or a decoding error is ErrUnreachable.
func (s *Host) call(ctx context.Context, to wire.Peer, id protocol.ID, f func(network.Stream) error) error {
	return s.reach(ctx, to, func(p peer.ID) error { return s.stream(ctx, p, id, f) })
}

// reach connects to a peer and runs f, again while the peer is busy.
func (s *Host) reach(ctx context.Context, to wire.Peer, f func(peer.ID) error) error {
	p, err := PeerID(to.Key)
	if err != nil {
		return err
	}
	err = s.connect(ctx, peer.AddrInfo{ID: p, Addrs: s.parse(to.Addrs)})
	if err != nil && s.dir != nil && ctx.Err() == nil {
		// The peer may have moved.
		if ad, lost := s.Advertisement(ctx, to.Key); lost == nil {
			err = s.connect(ctx, peer.AddrInfo{ID: p, Addrs: s.parse(ad.Record.Addrs)})
		}
	}
	if err != nil {
		return err
	}
	// A busy peer may be free in a moment, and f has disclosed nothing but its
	// request.
	for wait := busyRetry; ; wait *= 2 {
		err := f(p)
		var refused *Refused
		if !errors.As(err, &refused) || refused.Code != wire.Busy || wait > lastBusyRetry {
			return err
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return err
		}
	}
}

// A client that gets Busy retries with growing delays, for three seconds in
// total.
const (
	busyRetry     = 50 * time.Millisecond
	lastBusyRetry = 1600 * time.Millisecond
)

func (s *Host) connect(ctx context.Context, to peer.AddrInfo) error {
	patience := s.limit.Frame
	if end, ok := ctx.Deadline(); ok && s.dir != nil {
		patience = min(patience, time.Until(end)/3) // leave time to look up its current addresses
	}
	ctx, cancel := context.WithTimeout(dialNow(ctx), patience)
	defer cancel()
	if err := s.h.Connect(ctx, to); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return nil
}

// dialNow makes the library dial an address even if it failed a moment ago: a
// caller that retries has waited already, and a restarted process is back at
// once.
func dialNow(ctx context.Context) context.Context {
	return network.WithForceDirectDial(ctx, "asked again on purpose")
}

// errLocal marks failures on this side: a disk, a bad proof.
var errLocal = errors.New("local")

// answer reads a Reply and, when it is OK, the answer.
func answer(r io.Reader, m wire.Limited) error {
	var reply wire.Reply
	if err := wire.ReadFrame(r, &reply); err != nil {
		return err
	}
	if reply.Code != wire.OK {
		return &Refused{Code: reply.Code, Text: reply.Text}
	}
	if m == nil {
		return nil
	}
	return wire.ReadFrame(r, m)
}

// errRefused means that the caller got a refusal, and the stream ends.
var errRefused = errors.New("refused")

// reply writes OK and m, or the refusal for err (including a full disk) and
// returns errRefused then. For any other error it sends Internal, without the
// text.
func (s *Host) reply(st network.Stream, m wire.Limited, err error) error {
	if err != nil {
		var out wire.Reply
		out.Code, out.Text = s.refusal(err)
		_ = wire.WriteFrame(st, &out)
		return errRefused
	}
	var both bytes.Buffer // one packet
	if err := wire.WriteFrame(&both, &wire.Reply{}); err != nil {
		return err
	}
	if m != nil {
		if err := wire.WriteFrame(&both, m); err != nil {
			return err
		}
	}
	_, err = st.Write(both.Bytes())
	return err
}

// refusal returns what a peer is told of an error, which is logged unless the
// peer has caused it.
func (s *Host) refusal(err error) (wire.Code, string) {
	var refusal *wire.Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal.Code, clip(refusal.Err.Error())
	case errors.Is(err, syscall.ENOSPC):
		s.log.Warn("request refused", "err", err)
		return wire.Full, "the disk is full"
	}
	s.log.Error("request failed", "err", err)
	return wire.Internal, ""
}

// clip truncates text to the limit of a Reply, at a rune boundary.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?") // an error may quote any bytes
	const limit = 250
	if len(s) <= limit {
		return s
	}
	n := limit
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}
