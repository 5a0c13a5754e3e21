package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-datastore"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio"
	"github.com/multiformats/go-base32"
	"github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

const someAddr = "/ip4/127.0.0.1/tcp/4001"

// provider is a host on loopback that serves the DHT and advertises itself.
func provider(t testing.TB, n byte, listen string, seeds ...string) *Host {
	t.Helper()
	h := newHost(t, Config{Identity: secret(n), Listen: []string{listen},
		DHT: &DHT{Network: wire.Regtest, Serve: true, Seeds: func() []string { return seeds }}})
	h.Offer(advertisement(secret(n), h.Addrs()[0], 1))
	return h
}

// member of the DHT that serves nobody.
func visitor(t testing.TB, seeds ...string) *Host {
	t.Helper()
	return newHost(t, Config{DHT: &DHT{Network: wire.Regtest, Seeds: func() []string { return seeds }}})
}

func holding(owner, agent wire.Secret, seq uint64, expires int64, addrs ...string) *wire.Holding {
	h := &wire.Holding{Grant: wire.Grant{Owner: keyOf(owner), Agent: keyOf(agent)}, Record: wire.Record{Seq: seq, Expires: expires, Addrs: addrs}}
	for _, s := range []struct {
		by  wire.Secret
		sig *wire.Signature
		of  func() wire.Hash
	}{{owner, &h.Grant.Sig, h.Grant.Digest}, {agent, &h.Sig, func() wire.Hash { return h.Digest(wire.Regtest) }}} {
		sig, err := wire.Sign(s.by, s.of())
		if err != nil {
			panic(err)
		}
		*s.sig = sig
	}
	return h
}

// TestValidators: under a name only what its owner signed for this network,
// for now, with an address that can be dialled; and the newer one stays.
func TestValidators(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	clock := func() time.Time { return now }
	local := &directory{h: &Host{local: true, log: slog.New(slog.DiscardHandler)}, cfg: DHT{Network: wire.Regtest, Now: clock}}
	open := &directory{h: &Host{log: slog.New(slog.DiscardHandler)}, cfg: DHT{Network: wire.Mainnet, Now: clock}}
	ad := func(net wire.Network, f func(*wire.Advertisement)) []byte {
		a := advertisement(secret(1), someAddr, 5)
		a.Record.Expires = now.Unix() + 60
		f(a)
		sig, err := wire.Sign(secret(1), a.Digest(net))
		must(t, err)
		a.Sig = sig
		raw, err := wire.Marshal(a)
		must(t, err)
		return raw
	}
	same := func(*wire.Advertisement) {}
	addrs := func(list ...string) func(*wire.Advertisement) {
		return func(a *wire.Advertisement) { a.Record.Addrs = list }
	}
	good := ad(wire.Regtest, same)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-3] ^= 1
	name := adKey(keyOf(secret(1)))
	for what, c := range map[string]struct {
		d    *directory
		name string
		raw  []byte
		ok   bool
	}{
		"right":                   {local, name, good, true},
		"another's name":          {local, adKey(keyOf(secret(2))), good, false},
		"no name":                 {local, "/bg-ad/", good, false},
		"name in capitals":        {local, strings.ToUpper(name), good, false},
		"name too long":           {local, name + "00", good, false},
		"a holding's name":        {local, holdingKey(keyOf(secret(1))), good, false},
		"wrong signature":         {local, name, flipped, false},
		"cut":                     {local, name, good[:len(good)-1], false},
		"with more behind":        {local, name, append(bytes.Clone(good), 0), false},
		"nothing":                 {local, name, nil, false},
		"too large":               {local, name, make([]byte, wire.MaxRecord+1), false},
		"another network's":       {local, name, ad(wire.Mainnet, same), false},
		"expired":                 {local, name, ad(wire.Regtest, func(a *wire.Advertisement) { a.Record.Expires = now.Unix() }), false},
		"for ever":                {local, name, ad(wire.Regtest, func(a *wire.Advertisement) { a.Record.Expires = 1 << 62 }), false},
		"absurd rate":             {local, name, ad(wire.Regtest, func(a *wire.Advertisement) { a.Rate = wire.MaxRate + 1 }), false},
		"no address at all":       {local, name, ad(wire.Regtest, addrs("nowhere")), false},
		"address by name":         {local, name, ad(wire.Regtest, addrs("/dns4/example.org/tcp/1")), false},
		"unspecified address":     {local, name, ad(wire.Regtest, addrs("/ip4/0.0.0.0/tcp/1")), false},
		"multicast":               {local, name, ad(wire.Regtest, addrs("/ip4/224.0.0.1/tcp/1")), false},
		"one bad address of two":  {local, name, ad(wire.Regtest, addrs("nowhere", someAddr)), true},
		"loopback, public":        {open, name, ad(wire.Mainnet, same), false},
		"private, public":         {open, name, ad(wire.Mainnet, addrs("/ip4/192.168.1.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip6/fd00::1/tcp/1")), false},
		"link-local, public":      {open, name, ad(wire.Mainnet, addrs("/ip4/169.254.1.1/tcp/1", "/ip6/fe80::1/tcp/1")), false},
		"public":                  {open, name, ad(wire.Mainnet, addrs("/ip4/1.2.3.4/udp/1/quic-v1")), true},
		"public through a relay":  {open, name, ad(wire.Mainnet, addrs("/ip4/1.2.3.4/tcp/1/p2p-circuit")), false},
		"websocket":               {open, name, ad(wire.Mainnet, addrs("/ip4/1.2.3.4/tcp/80/ws")), false},
		"no port":                 {open, name, ad(wire.Mainnet, addrs("/ip4/1.2.3.4")), false},
		"UDP alone":               {open, name, ad(wire.Mainnet, addrs("/ip4/1.2.3.4/udp/53")), false},
		"6to4":                    {open, name, ad(wire.Mainnet, addrs("/ip6/2002:7f00:1::/tcp/1")), false},
		"NAT64":                   {open, name, ad(wire.Mainnet, addrs("/ip6/64:ff9b::a00:1/tcp/1")), false},
		"IPv4 in IPv6":            {open, name, ad(wire.Mainnet, addrs("/ip6/::ffff:a00:1/tcp/1")), false},
		"public beside a private": {open, name, ad(wire.Mainnet, addrs("/ip4/10.0.0.1/tcp/1", "/ip6/2a00::1/tcp/1")), true},
	} {
		if err := (adValidator{c.d}).Validate(c.name, c.raw); (err == nil) != c.ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	older := ad(wire.Regtest, func(a *wire.Advertisement) { a.Record.Seq = 4 })
	for _, list := range [][][]byte{{good, older}, {older, good}, {flipped[:5], good}, {good}, {nil, older, good, good}} {
		i, err := adValidator{local}.Select(name, list)
		if err != nil || !bytes.Equal(list[i], good) {
			t.Errorf("of %d, %d is picked: %v", len(list), i, err)
		}
	}
	if _, err := (adValidator{local}).Select(name, [][]byte{nil, {1}}); err == nil {
		t.Error("one of none is picked")
	}

	hold := func(h *wire.Holding) []byte {
		raw, err := wire.Marshal(h)
		must(t, err)
		return raw
	}
	mine := holding(secret(7), secret(1), 1, now.Unix()+60, someAddr)
	forged := *mine
	forged.Grant.Agent = keyOf(secret(2)) // another takes the grant for itself
	sig, err := wire.Sign(secret(2), forged.Digest(wire.Regtest))
	must(t, err)
	forged.Sig = sig
	for what, c := range map[string]struct {
		name string
		raw  []byte
		ok   bool
	}{
		"right":            {holdingKey(keyOf(secret(7))), hold(mine), true},
		"another's name":   {holdingKey(keyOf(secret(8))), hold(mine), false},
		"the agent's name": {holdingKey(keyOf(secret(1))), hold(mine), false},
		"stolen grant":     {holdingKey(keyOf(secret(7))), hold(&forged), false},
		"expired":          {holdingKey(keyOf(secret(7))), hold(holding(secret(7), secret(1), 1, now.Unix(), someAddr)), false},
		"no address":       {holdingKey(keyOf(secret(7))), hold(holding(secret(7), secret(1), 1, now.Unix()+60, "x")), false},
	} {
		if err := (holdingValidator{local}).Validate(c.name, c.raw); (err == nil) != c.ok {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestValuesBounded: a flood of values never takes more than its room, keeps
// nothing that no validator saw, and never drives out what lies nearer; what has
// expired makes room for anything.
func TestValuesBounded(t *testing.T) {
	ctx := t.Context()
	now := time.Unix(1_800_000_000, 0)
	v := newValues(peer.ID("self"), 10, func() time.Time { return now })
	put := func(i int, expires int64, pad int) (datastore.Key, error) {
		s := secret(byte(i))
		s[1] = byte(i >> 8)
		ad := advertisement(s, someAddr, 1)
		ad.Record.Expires = expires
		value, err := wire.Marshal(ad)
		must(t, err)
		name := adKey(ad.Agent)
		rec := record.MakePutRecord(name, value)
		if pad > 0 {
			rec.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), make([]byte, pad)))
		}
		raw, err := proto.Marshal(rec)
		must(t, err)
		k := datastore.NewKey(base32.RawStdEncoding.EncodeToString([]byte(name)))
		return k, v.Put(ctx, k, raw)
	}
	const life = 1_800_000_060
	near, err := put(1, life, 3<<20)
	must(t, err)
	raw, err := v.Get(ctx, near)
	if err != nil || len(raw) > wire.MaxRecord {
		t.Errorf("%d bytes are kept, %v", len(raw), err)
	}
	full := 0
	for i := 2; i < 300; i++ {
		k, err := put(i, life, 0)
		if errors.Is(err, errFull) {
			full++
		} else {
			must(t, err)
			a, b := v.distance(k), v.distance(near)
			if bytes.Compare(a[:], b[:]) < 0 {
				near = k
			}
		}
		if len(v.held) > 10 {
			t.Fatal("over its room")
		}
		if _, err := v.Get(ctx, near); err != nil {
			t.Fatal("the nearest is driven out")
		}
	}
	if full < 100 {
		t.Errorf("only %d are refused", full)
	}
	now = time.Unix(life, 0)
	for i := 300; i < 310; i++ {
		if _, err := put(i, life+60, 0); err != nil {
			t.Errorf("no room where all has expired: %v", err)
		}
	}
	must(t, v.Put(ctx, near, raw)) // what is known always has room
	must(t, v.Delete(ctx, near))
	if _, err := v.Batch(ctx); err == nil {
		t.Error("a batch would pass the limit by")
	}
}

// TestPublish: what one publishes another finds; an older one does not replace
// it, and what is not there is ErrNotFound.
func TestPublish(t *testing.T) { inWorld(t, publish) }

func publish(t world) {
	first := provider(t, 1, overTCP)
	hosts := []*Host{first}
	for n := byte(2); n < 6; n++ {
		h := provider(t, n, []string{overTCP, overQUIC}[n%2], first.Seed()...)
		must(t, h.Bootstrap(t.Context()))
		hosts = append(hosts, h)
	}
	eventually(t, func() bool { return hosts[1].Known() >= 3 })
	client := visitor(t, hosts[3].Seed()...)
	must(t, client.Bootstrap(t.Context()))
	ad := advertisement(secret(2), hosts[1].Addrs()[0], 7)
	must(t, hosts[1].Advertise(t.Context(), ad))
	got, err := client.Advertisement(t.Context(), keyOf(secret(2)))
	if err != nil || got.Record.Seq != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	old := advertisement(secret(2), hosts[1].Addrs()[0], 6)
	if err := hosts[4].dir.put(t.Context(), adKey(old.Agent), old); err == nil {
		// The DHT takes it from nobody who knows the newer one.
		if got, err := client.Advertisement(t.Context(), keyOf(secret(2))); err != nil || got.Record.Seq != 7 {
			t.Errorf("the older one replaces the newer: %+v, %v", got, err)
		}
	}
	h := holding(secret(90), secret(3), 1, time.Now().Unix()+3600, hosts[2].Addrs()...)
	must(t, hosts[2].Announce(t.Context(), h))
	back, err := client.Holding(t.Context(), keyOf(secret(90)))
	if err != nil || back.Grant.Agent != keyOf(secret(3)) {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := client.Holding(t.Context(), keyOf(secret(91))); !errors.Is(err, ErrNotFound) {
		t.Errorf("what nobody published: %v", err)
	}
	// An agent that moved is found again by its advertisement.
	to := wire.Peer{Key: keyOf(secret(2)), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}
	mover := visitor(t, first.Seed()...)
	must(t, mover.Bootstrap(t.Context()))
	id, err := PeerID(to.Key)
	must(t, err)
	_ = mover.h.Network().ClosePeer(id)
	mover.h.Peerstore().ClearAddrs(id)
	if _, err := mover.Quote(t.Context(), to, &request); err == nil || mover.h.Network().Connectedness(id) != network.Connected {
		t.Errorf("not reached where it is now: %v", err) // reached, it offers no quotes
	}
}

// TestLiveness: an agent that is gone, or that accepts and never answers, is not
// returned, and costs a bounded time.
func TestLiveness(t *testing.T) { inWorld(t, liveness) }

func liveness(t world) {
	first := provider(t, 1, overTCP)
	var hosts []*Host
	for n := byte(2); n < 6; n++ {
		h := provider(t, n, overTCP, first.Seed()...)
		must(t, h.Bootstrap(t.Context()))
		hosts = append(hosts, h)
	}
	client := visitor(t, first.Seed()...)
	must(t, client.Bootstrap(t.Context()))
	eventually(t, func() bool {
		found, err := client.Nearest(t.Context(), []byte("somewhere"), false)
		return err == nil && len(found) == 5
	})
	must(t, hosts[0].Close())
	// One is there and mute, in the DHT and as an agent; one is mute as an agent
	// only; the advertisement of one has run out.
	mute := func(st network.Stream) { _, _ = io.Copy(io.Discard, st); time.Sleep(time.Minute) }
	hosts[1].h.SetStreamHandler("/bitgram/regtest/kad/1.0.0", mute)
	hosts[1].h.SetStreamHandler(protoAd, mute)
	hosts[2].h.SetStreamHandler(protoAd, mute)
	old := advertisement(secret(5), hosts[3].Addrs()[0], 2)
	old.Record.Expires = time.Now().Unix() - 1
	sig, err := wire.Sign(secret(5), old.Digest(wire.Regtest))
	must(t, err)
	old.Sig = sig
	hosts[3].Offer(old)
	start := time.Now()
	found, err := client.Nearest(t.Context(), []byte("somewhere"), false)
	must(t, err)
	if len(found) != 1 || found[0].Ad.Agent != keyOf(secret(1)) {
		t.Errorf("%d found", len(found))
	}
	t.within(start, walkTime+Alive, "a lookup")
}

// TestBadAnswers: what a DHT server may not answer is refused, whatever it is,
// and the lookup goes on without it.
func TestBadAnswers(t *testing.T) {
	// run has a liar, an honest provider and a client that knows both.
	run := func(name string, behave func(t world) func(network.Stream), f func(t world, client *Host)) {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t world) {
				good := provider(t, 1, overTCP)
				liar := provider(t, 2, overTCP, good.Seed()...)
				must(t, liar.Bootstrap(t.Context()))
				liar.h.SetStreamHandler("/bitgram/regtest/kad/1.0.0", behave(t))
				f(t, visitor(t, append(good.Seed(), liar.Seed()...)...))
			})
		})
	}
	peers := func(n int, addr string) (list []*pb.Message_Peer) {
		for i := range n {
			s := secret(byte(i%200 + 3))
			s[1] = byte(i / 200)
			id, err := PeerID(keyOf(s))
			must(t, err)
			p := &pb.Message_Peer{Id: []byte(id)}
			if addr != "" {
				p.Addrs = [][]byte{multiaddr.StringCast(addr).Bytes()}
			}
			list = append(list, p)
		}
		return list
	}
	answerWith := func(m *pb.Message) func(network.Stream) {
		return func(st network.Stream) {
			_, _ = msgio.NewVarintReaderSize(st, 1<<20).ReadMsg()
			raw, err := proto.Marshal(m)
			must(t, err)
			_ = msgio.NewVarintWriter(st).WriteMsg(raw)
			_ = st.Close()
		}
	}
	nobody := "/ip4/127.0.0.1/tcp/1"
	for name, behave := range map[string]func(network.Stream){
		"a thousand peers":       answerWith(&pb.Message{Type: pb.Message_FIND_NODE, CloserPeers: peers(1000, nobody)}),
		"one peer too many":      answerWith(&pb.Message{Type: pb.Message_FIND_NODE, CloserPeers: peers(Width+2, nobody)}),
		"providers":              answerWith(&pb.Message{Type: pb.Message_FIND_NODE, ProviderPeers: peers(1, nobody)}),
		"peers that are nowhere": answerWith(&pb.Message{Type: pb.Message_FIND_NODE, CloserPeers: peers(Width, nobody)}),
		"peers without address":  answerWith(&pb.Message{Type: pb.Message_FIND_NODE, CloserPeers: peers(Width, "")}),
		"peers that are no IDs":  answerWith(&pb.Message{Type: pb.Message_FIND_NODE, CloserPeers: []*pb.Message_Peer{{Id: []byte("x")}, {}}}),
		"garbage":                func(st network.Stream) { _, _ = st.Write([]byte{4, 0xff, 0xff, 0xff, 0xff}); _ = st.Close() },
		"a huge length": func(st network.Stream) {
			_, _ = st.Write([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
			_, _ = io.Copy(io.Discard, st)
		},
		"hangs up": func(st network.Stream) { _ = st.Reset() },
	} {
		run(name, func(world) func(network.Stream) { return behave }, func(t world, client *Host) {
			must(t, client.Bootstrap(t.Context()))
			start := time.Now()
			found, err := client.Nearest(t.Context(), []byte("somewhere"), true)
			must(t, err)
			if len(found) == 0 || len(found) > 2 {
				t.Errorf("%d found", len(found))
			}
			t.within(start, 2*Alive, name)
		})
	}
	run("peers that are silent, others for everybody who asks", func(t world) func(network.Stream) {
		silent := multiaddr.StringCast(t.silent()).Bytes()
		var n atomic.Int32
		return func(st network.Stream) {
			m := &pb.Message{Type: pb.Message_FIND_NODE}
			for range Width {
				s := secret(byte(n.Add(1)))
				s[1], s[2] = byte(n.Load()>>8), 1
				id, err := PeerID(keyOf(s))
				must(t, err)
				m.CloserPeers = append(m.CloserPeers, &pb.Message_Peer{Id: []byte(id), Addrs: [][]byte{silent}})
			}
			answerWith(m)(st)
		}
	}, func(t world, client *Host) {
		must(t, client.Bootstrap(t.Context()))
		for _, wide := range []bool{false, true} {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // what a node gives it
			found, err := client.Nearest(ctx, []byte("somewhere"), wide)
			cancel()
			if err != nil || !slices.ContainsFunc(found, func(f Found) bool { return f.Ad.Agent == keyOf(secret(1)) }) {
				t.Errorf("wide %v: %d found, %v", wide, len(found), err)
			}
		}
	})
	run("a byte a second", func(world) func(network.Stream) {
		return func(st network.Stream) {
			raw, _ := proto.Marshal(&pb.Message{Type: pb.Message_FIND_NODE, CloserPeers: peers(5, nobody)})
			for _, b := range append(binary.AppendUvarint(nil, uint64(len(raw))), raw...) {
				if _, err := st.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}
	}, func(t world, client *Host) {
		start := time.Now()
		must(t, client.Bootstrap(t.Context()))
		t.within(start, 2*Alive, "entering the DHT")
	})
}

// TestStrangersAtServer: what a server is sent that is no request ends the
// stream and nothing else.
func TestStrangersAtServer(t *testing.T) { inWorld(t, strangersAtServer) }

func strangersAtServer(t world) {
	server := provider(t, 1, overTCP)
	client := visitor(t, server.Seed()...)
	must(t, client.Bootstrap(t.Context()))
	send := func(m *pb.Message) error {
		_, err := client.dir.kad.MessageSender().SendRequest(t.Context(), server.ID(), m)
		return err
	}
	put := func(key string, value []byte) error {
		m := pb.NewMessage(pb.Message_PUT_VALUE, []byte(key), 0)
		m.Record = record.MakePutRecord(key, value)
		return send(m)
	}
	ad := advertisement(secret(9), someAddr, 3)
	raw, err := wire.Marshal(ad)
	must(t, err)
	must(t, put(adKey(ad.Agent), raw))
	older, err := wire.Marshal(advertisement(secret(9), someAddr, 2))
	must(t, err)
	for name, err := range map[string]error{
		"an older one":            put(adKey(ad.Agent), older),
		"another's":               put(adKey(keyOf(secret(3))), raw),
		"no namespace of ours":    put("/pk/"+string(client.ID()), []byte("x")),
		"provider records":        send(pb.NewMessage(pb.Message_ADD_PROVIDER, []byte("x"), 0)),
		"asking for providers":    send(pb.NewMessage(pb.Message_GET_PROVIDERS, []byte("x"), 0)),
		"a type that is not":      send(pb.NewMessage(99, []byte("x"), 0)),
		"no key":                  send(pb.NewMessage(pb.Message_FIND_NODE, nil, 0)),
		"value of nothing":        put(adKey(ad.Agent), nil),
		"a value too large":       put(adKey(ad.Agent), make([]byte, 100_000)),
		"a key that is too large": put("/bg-ad/"+strings.Repeat("a", 100_000), raw),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	// A length of four bytes is not believed.
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range 50 {
		st, err := client.h.NewStream(t.Context(), server.ID(), "/bitgram/regtest/kad/1.0.0")
		must(t, err)
		defer st.Reset()
		_, err = st.Write([]byte{0xff, 0xff, 0xff, 0x01}) // 4 MiB
		must(t, err)
	}
	time.Sleep(100 * time.Millisecond)
	if after := heap(); after > before+20<<20 {
		t.Errorf("50 streams of 4 bytes take %d MiB", (after-before)>>20)
	}
	// It still serves.
	if _, err := client.Nearest(t.Context(), []byte("x"), false); err != nil {
		t.Error(err)
	}
}

// TestManyAddresses: peers that name hundreds of addresses do not swell the
// answers of those who know them until nobody reads them.
func TestManyAddresses(t *testing.T) {
	tier.NotShort(t)
	inCity(t, (*city).manyAddresses)
}

func (c *city) manyAddresses() {
	c.grow(Width + 1)
	var extra []multiaddr.Multiaddr
	for i := range 300 {
		extra = append(extra, multiaddr.StringCast(fmt.Sprintf("/ip4/127.0.9.%d/tcp/%d", i%250+1, i/250+1)))
	}
	first := c.hosts[0]
	for _, m := range c.hosts[1:] {
		first.h.Peerstore().AddAddrs(m.ID(), extra, time.Hour)
	}
	if n := first.Known(); n < 15 {
		c.t.Fatalf("it knows %d", n)
	}
	client := c.open(c.fresh(), false)
	c.settle([]*member{client})
	named, err := client.dir.find(c.t.Context(), first.ID(), string(c.key()))
	if err != nil || len(named) < 15 {
		c.t.Errorf("%d are named, %v", len(named), err)
	}
}

// TestTown: hosts over real sockets find each other.
func TestTown(t *testing.T) {
	n := tier.Pick(3, 5, 60)
	first := provider(t, 1, overTCP)
	hosts := []*Host{first}
	for i := 2; i <= n; i++ {
		h := provider(t, byte(i), overTCP, first.Seed()...)
		must(t, h.Bootstrap(t.Context()))
		hosts = append(hosts, h)
	}
	client := visitor(t, hosts[n/2].Seed()...)
	must(t, client.Bootstrap(t.Context()))
	right, total := 0, tier.Pick(3, 10, 50)
	for i := range total {
		key := fmt.Appendf(nil, "key %d", i)
		found, err := client.Nearest(t.Context(), key, false)
		must(t, err)
		var ids []peer.ID
		for _, h := range hosts {
			ids = append(ids, h.ID())
		}
		byDistance(ids, place(string(key)))
		ok := len(found) >= 3
		for j := 0; ok && j < 3; j++ {
			id, err := PeerID(found[j].Ad.Agent)
			ok = err == nil && id == ids[j]
		}
		if ok {
			right++
		}
	}
	if right < total*99/100 {
		t.Errorf("%d of %d lookups are right", right, total)
	}
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never")
		}
	}
}

// TestPublicOnly: on a public network nobody makes a host dial what is inside
// its own.
func TestPublicOnly(t *testing.T) {
	agent := newHost(t, Config{Identity: secret(1), Listen: []string{overTCP}, Serve: &service{}})
	caller := newHost(t, Config{DHT: &DHT{Network: wire.Mainnet, Seeds: func() []string { return agent.Seed() }}})
	if _, err := caller.Quote(t.Context(), wire.Peer{Key: keyOf(secret(1)), Addrs: agent.Addrs()}, &request); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a candidate: %v", err)
	}
	if err := caller.Bootstrap(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a seed: %v", err)
	}
	caller.h.Peerstore().AddAddrs(agent.ID(), agent.h.Addrs(), time.Hour)
	if _, err := caller.h.NewStream(t.Context(), agent.ID(), protoQuote); err == nil {
		t.Error("an address that came some other way is dialled")
	}
}
