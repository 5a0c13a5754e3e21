package p2p

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	kad "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"google.golang.org/protobuf/proto"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/wire"
)

// Numbers of the DHT (spec/dht.md).
const (
	// Width is Kademlia's k: the number of peers in a lookup's result, a bucket
	// and an answer.
	Width = 20
	// maxAnswer is the maximum size of an answer: Width peers with MaxAddrs
	// addresses and one value need less.
	maxAnswer = 32 << 10
	// enough is the number of servers that must accept a value, if there are
	// that many.
	enough = 3
	// Alive is the time within which a peer must answer. A peer that does not
	// is not active, and a lookup does not return it.
	Alive = 5 * time.Second
	// maxValues is the maximum number of values that a server stores for
	// others; each has at most wire.MaxRecord bytes.
	maxValues = 16384
)

// DHT configures a Host's part in the DHT of its network.
type DHT struct {
	Network wire.Network
	// Serve makes the host a server. Only active providers are servers.
	Serve bool
	// Hinted, Remembered and Seeds return multiaddrs with peer IDs through
	// which the host joins the DHT: those found on the chain, in the order in
	// which to ask them; some of those met in earlier lookups; and those
	// configured or compiled in. Each may be nil.
	Hinted, Remembered, Seeds func() []string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// directory is a Host's part in the DHT.
type directory struct {
	h   *Host
	cfg DHT
	kad *kad.IpfsDHT
	ask *pb.ProtocolMessenger
	ad  atomic.Pointer[wire.Advertisement]
	// compute follows the advertisement, if it has the service.
	compute atomic.Pointer[wire.ComputeOffer]
}

// protoAd asks a provider for its advertisement: nothing → Reply,
// Advertisement, and ComputeOffer if the provider computes.
const protoAd protocol.ID = "/bitgram/ad/1"

// The value namespaces.
const (
	nsAd      = "bg-ad"
	nsHolding = "bg-hold"
)

func adKey(agent wire.Key) string      { return "/" + nsAd + "/" + agent.String() }
func holdingKey(owner wire.Key) string { return "/" + nsHolding + "/" + owner.String() }

func joinDHT(h *Host, cfg DHT) (*directory, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &directory{h: h, cfg: cfg}
	mode := kad.ModeClient
	if cfg.Serve {
		mode = kad.ModeServer
		h.handle(protoAd, d.serveAd)
	}
	opts := []kad.Option{
		kad.ProtocolPrefix("/bitgram/" + protocol.ID(cfg.Network)),
		kad.Mode(mode),
		kad.BucketSize(Width),
		kad.Validator(record.NamespacedValidator{nsAd: adValidator{d}, nsHolding: holdingValidator{d}}),
		kad.MaxRecordAge(wire.MaxRecordLife * time.Second),
		// The library's provider records are unsigned and reveal their subject;
		// holdings replace them.
		kad.DisableProviders(),
		kad.ProviderStore(noProviders{}),
		kad.Datastore(newValues(h.h.ID(), maxValues, cfg.Now)),
		kad.BootstrapPeersFunc(func() []peer.AddrInfo { return slices.Concat(d.sources()...) }),
		kad.AddressFilter(h.reachable),
		kad.WithCustomMessageSender(func(hh host.Host, ids []protocol.ID) pb.MessageSenderWithDisconnect {
			return &sender{d: d, h: hh, ids: ids}
		}),
	}
	if !h.local {
		// One network prefix must fill neither a bucket nor the table.
		opts = append(opts, kad.RoutingTablePeerDiversityFilter(kad.NewRTPeerDiversityFilter(h.h, 2, 3)))
	}
	var err error
	if d.kad, err = kad.New(context.Background(), kadHost{h.h, h}, opts...); err != nil {
		return nil, err
	}
	if d.ask, err = pb.NewProtocolMessenger(d.kad.MessageSender()); err != nil {
		return nil, errors.Join(err, d.kad.Close())
	}
	return d, nil
}

// sources returns the seeds of each kind. Those found on the chain keep their
// order; the others are shuffled.
func (d *directory) sources() [][]peer.AddrInfo {
	list := [][]peer.AddrInfo{d.seeds(d.cfg.Hinted), d.seeds(d.cfg.Remembered), d.seeds(d.cfg.Seeds)}
	for _, s := range list[1:] {
		rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	}
	return list
}

// seeds parses seeds, one entry per peer; it skips invalid addresses.
func (d *directory) seeds(from func() []string) []peer.AddrInfo {
	if from == nil {
		return nil
	}
	var list []peer.AddrInfo
	for _, s := range from() {
		info, err := peer.AddrInfoFromString(s)
		if err != nil {
			d.h.log.Debug("seed skipped", "seed", s, "err", err)
			continue
		}
		if i := slices.IndexFunc(list, func(o peer.AddrInfo) bool { return o.ID == info.ID }); i >= 0 {
			list[i].Addrs = append(list[i].Addrs, info.Addrs...)
		} else if info.ID != d.h.ID() {
			list = append(list, *info)
		}
	}
	return list
}

// Bootstrap joins the DHT through some seeds of every kind, and makes the host
// known to its neighbours. It returns ErrUnreachable if no seed answers and no
// peer has found this host. A server without seeds is the first of its network.
func (s *Host) Bootstrap(ctx context.Context) error {
	sources := s.dir.sources()
	none := true
	var errs []error
	for {
		var group []peer.AddrInfo
		for i, list := range sources {
			n := min(2, len(list))
			group, sources[i] = append(group, list[:n]...), list[n:]
		}
		if len(group) == 0 {
			break
		}
		none = false
		err := s.connectAny(ctx, group)
		if err == nil {
			none = true
			break
		}
		errs = append(errs, err)
	}
	if !none && s.Known() == 0 { // and no peer has found this host either
		return fmt.Errorf("%w: none of the seeds of the DHT: %w", ErrUnreachable, errors.Join(errs...))
	}
	// A lookup of our own place finds the neighbours and makes the host known
	// to them.
	_, err := s.dir.walk(ctx, place(s.h.ID()), string(s.h.ID()), s.dir.find)
	return err
}

// connectAny dials all of the peers, and fails if none answers.
func (s *Host) connectAny(ctx context.Context, peers []peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(dialNow(ctx), s.limit.Frame)
	defer cancel()
	answers := make(chan error, len(peers))
	for _, p := range peers {
		go func() { answers <- s.h.Connect(ctx, p) }()
	}
	var errs []error
	for range peers {
		if err := <-answers; err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) < len(peers) {
		return nil
	}
	return errors.Join(errs...)
}

// Known returns the number of peers in the routing table.
func (s *Host) Known() int { return s.dir.kad.RoutingTable().Size() }

// Seed returns the host's own addresses, as seeds for others.
func (s *Host) Seed() (list []string) {
	for _, a := range s.h.Addrs() {
		list = append(list, fmt.Sprintf("%s/p2p/%s", a, s.h.ID()))
	}
	return list
}

// Offer sets the advertisement with which the host answers requests.
func (s *Host) Offer(ad *wire.Advertisement) { s.dir.ad.Store(ad) }

// OfferCompute sets what follows an advertisement with the service Compute.
func (s *Host) OfferCompute(o *wire.ComputeOffer) { s.dir.compute.Store(o) }

// Advertise offers ad, and publishes it in the DHT.
func (s *Host) Advertise(ctx context.Context, ad *wire.Advertisement) error {
	s.Offer(ad)
	return s.dir.put(ctx, adKey(ad.Agent), ad)
}

// Announce publishes a holding.
func (s *Host) Announce(ctx context.Context, h *wire.Holding) error {
	return s.dir.put(ctx, holdingKey(h.Grant.Owner), h)
}

// put stores a value with the servers nearest to its name.
func (d *directory) put(ctx context.Context, name string, m wire.Limited) error {
	if err := m.Check(); err != nil {
		return err
	}
	raw, err := wire.Marshal(m)
	if err != nil {
		return err
	}
	near, err := d.walk(ctx, place(name), name, d.find)
	if err != nil {
		return err
	}
	near = slices.DeleteFunc(near, func(p peer.ID) bool { return p == d.h.ID() })
	near = near[:min(len(near), Width)]
	took, errs := make(chan error, len(near)), []error(nil)
	for _, p := range near {
		go func() { took <- d.ask.PutValue(ctx, p, record.MakePutRecord(name, raw)) }()
	}
	n := 0
	for range near {
		if err := <-took; err != nil {
			errs = append(errs, err)
		} else {
			n++
		}
	}
	if n < min(enough, len(near)) || n == 0 {
		return errors.Join(append([]error{fmt.Errorf("%w: of %d servers of the DHT only %d accepted the value", ErrUnreachable, len(near), n)}, errs...)...)
	}
	return nil
}

// Advertisement finds an agent by its key.
func (s *Host) Advertisement(ctx context.Context, agent wire.Key) (*wire.Advertisement, error) {
	ad := new(wire.Advertisement)
	return ad, s.dir.get(ctx, adKey(agent), ad)
}

// Holding finds the agent that holds a message by the owner key of its grant.
func (s *Host) Holding(ctx context.Context, owner wire.Key) (*wire.Holding, error) {
	h := new(wire.Holding)
	return h, s.dir.get(ctx, holdingKey(owner), h)
}

// ErrNotFound means that the DHT has no such value.
var ErrNotFound = errors.New("not in the DHT")

// get looks up a value and returns the best one that any server on the way has.
func (d *directory) get(ctx context.Context, name string, m any) error {
	var mu sync.Mutex
	var best []byte
	v := d.kad.Validator
	_, err := d.walk(ctx, place(name), name, func(ctx context.Context, p peer.ID, target string) ([]peer.ID, error) {
		rec, infos, err := d.ask.GetValue(ctx, p, target)
		if err != nil {
			return nil, err
		}
		if raw := rec.GetValue(); rec != nil && v.Validate(name, raw) == nil {
			mu.Lock()
			defer mu.Unlock()
			if i, err := v.Select(name, [][]byte{raw, best}); best == nil || err == nil && i == 0 {
				best = raw
			}
		}
		return d.learn(infos), nil
	})
	mu.Lock()
	defer mu.Unlock()
	switch {
	case best != nil:
		return wire.Unmarshal(best, m) // validated already
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return ErrNotFound
}

func (d *directory) serveAd(_ context.Context, st network.Stream) error {
	ad := d.ad.Load()
	if ad == nil {
		return d.h.reply(st, nil, &wire.Refusal{Code: wire.Unknown, Err: errors.New("nothing on offer")})
	}
	if err := d.h.reply(st, ad, nil); err != nil {
		return err
	}
	if o := d.compute.Load(); o != nil && ad.Services&wire.Compute != 0 {
		return wire.WriteFrame(st, o)
	}
	return nil
}

// fetchAd asks a peer for its advertisement, and verifies that it is the peer's
// own. offer is nil if the peer does not compute, or does not say on what terms.
func (d *directory) fetchAd(ctx context.Context, p peer.ID) (ad *wire.Advertisement, offer *wire.ComputeOffer, err error) {
	ctx, cancel := context.WithTimeout(ctx, Alive)
	defer cancel()
	ad = new(wire.Advertisement)
	err = d.h.stream(ctx, p, protoAd, func(st network.Stream) error {
		if err := st.CloseWrite(); err != nil {
			return err
		}
		if err := answer(st, ad); err != nil {
			return err
		}
		if ad.Services&wire.Compute != 0 {
			if o := new(wire.ComputeOffer); wire.ReadFrame(st, o) == nil {
				offer = o
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if id, err := PeerID(ad.Agent); err != nil || id != p {
		return nil, nil, fmt.Errorf("%w: advertisement of another", wire.ErrMalformed)
	}
	if offer != nil && (offer.Agent != ad.Agent || offer.Verify(d.cfg.Network, d.cfg.Now().Unix()) != nil) {
		offer = nil
	}
	return ad, offer, d.verifyAd(ad)
}

// verifyAd checks what a validator can check: signature, lifetime, and that an
// address can be dialled.
func (d *directory) verifyAd(ad *wire.Advertisement) error {
	if err := ad.Verify(d.cfg.Network, d.cfg.Now().Unix()); err != nil {
		return err
	}
	return d.dialable(ad.Record.Addrs)
}

// dialable requires that at least one of the addresses may be dialled.
func (d *directory) dialable(addrs []string) error {
	if len(d.h.parse(addrs)) == 0 {
		return fmt.Errorf("%w: no address that can be dialled", wire.ErrMalformed)
	}
	return nil
}

// dials reports whether the host would dial an address that a peer announces:
// an IP address with TCP or QUIC and nothing else, and a public one unless on
// regtest. A DNS name would let a stranger choose later where we connect.
func (s *Host) dials(a multiaddr.Multiaddr) bool {
	parts := a.Protocols()
	codes := make([]int, len(parts))
	for i, p := range parts {
		codes[i] = p.Code
	}
	if len(codes) < 2 || codes[0] != multiaddr.P_IP4 && codes[0] != multiaddr.P_IP6 ||
		!slices.Equal(codes[1:], []int{multiaddr.P_TCP}) && !slices.Equal(codes[1:], []int{multiaddr.P_UDP, multiaddr.P_QUIC_V1}) {
		return false
	}
	ip, err := manet.ToIP(a)
	if err != nil || ip.IsUnspecified() || ip.IsMulticast() {
		return false
	}
	at, _ := netip.AddrFromSlice(ip)
	return s.local || choose.Public(at)
}

// parse parses multiaddrs and returns those that may be dialled.
func (s *Host) parse(addrs []string) (list []multiaddr.Multiaddr) {
	for _, a := range addrs {
		m, err := multiaddr.NewMultiaddr(a)
		if err != nil || !s.dials(m) {
			s.log.Debug("address skipped", "addr", a, "err", err)
			continue // another one may do
		}
		list = append(list, m)
	}
	return list
}

// sender sends the library's messages, each on a stream of its own, and limits
// the answers: size, time, number of peers, and their addresses.
type sender struct {
	d   *directory
	h   host.Host
	ids []protocol.ID
}

func (*sender) OnDisconnect(context.Context, peer.ID) {}

func (s *sender) SendRequest(ctx context.Context, p peer.ID, m *pb.Message) (*pb.Message, error) {
	return s.send(ctx, p, m, true)
}

func (s *sender) SendMessage(ctx context.Context, p peer.ID, m *pb.Message) error {
	_, err := s.send(ctx, p, m, false)
	return err
}

func (s *sender) send(ctx context.Context, p peer.ID, m *pb.Message, wait bool) (*pb.Message, error) {
	ctx, cancel := context.WithTimeout(dialNow(ctx), Alive)
	defer cancel()
	st, err := s.h.NewStream(ctx, p, s.ids...)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	reply, err := exchange(st, m, wait)
	if err != nil {
		_ = st.Reset()
		return nil, err
	}
	_ = st.Close()
	if reply == nil {
		return nil, nil
	}
	return reply, s.d.sanitise(reply)
}

// exchange writes m and, if wait is set, reads the answer.
func exchange(st io.ReadWriter, m *pb.Message, wait bool) (*pb.Message, error) {
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	if err := msgio.NewVarintWriter(st).WriteMsg(raw); err != nil || !wait {
		return nil, err
	}
	r := msgio.NewVarintReaderSize(st, maxAnswer)
	raw, err = r.ReadMsg()
	defer r.ReleaseMsg(raw)
	if err != nil {
		return nil, err
	}
	reply := new(pb.Message)
	return reply, proto.Unmarshal(raw, reply)
}

// sanitise rejects an answer with more peers than Kademlia returns, and removes
// addresses that must not be dialled.
func (d *directory) sanitise(m *pb.Message) error {
	// The peer whose ID was requested may be added to the Width.
	if len(m.CloserPeers) > Width+1 || len(m.ProviderPeers) > 0 {
		return fmt.Errorf("%w: answer with %d peers and %d providers", wire.ErrMalformed, len(m.CloserPeers), len(m.ProviderPeers))
	}
	m.CloserPeers = slices.DeleteFunc(m.CloserPeers, func(p *pb.Message_Peer) bool {
		if _, err := peer.IDFromBytes(p.Id); err != nil {
			return true
		}
		addrs := d.h.reachable(p.Addresses())
		p.Addrs = nil
		for _, a := range addrs {
			p.Addrs = append(p.Addrs, a.Bytes())
		}
		return len(p.Addrs) == 0
	})
	return nil
}

// keyIn reads the key at the end of a value's name.
func keyIn(name, ns string) (k wire.Key, err error) {
	text, ok := strings.CutPrefix(name, "/"+ns+"/")
	if !ok || len(text) != 64 || text != strings.ToLower(text) {
		return k, fmt.Errorf("%w: no name of a value", wire.ErrMalformed)
	}
	_, err = hex.Decode(k[:], []byte(text))
	return k, err
}

// CheckAddrs returns an error if a text is not a multiaddr, or contains a peer
// ID.
func CheckAddrs(addrs []string) error {
	for _, a := range addrs {
		m, err := multiaddr.NewMultiaddr(a)
		if err != nil {
			return fmt.Errorf("%q: %w", a, err)
		}
		if _, err := m.ValueForProtocol(multiaddr.P_P2P); err == nil {
			return fmt.Errorf("%q: without the peer ID, which follows from the key", a)
		}
	}
	return nil
}
