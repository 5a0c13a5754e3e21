package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

var must, wantErr = conform.Must, conform.WantErr

const (
	overTCP  = "/ip4/127.0.0.1/tcp/0"
	overQUIC = "/ip4/127.0.0.1/udp/0/quic-v1"
)

func secret(n byte) wire.Secret { return wire.Secret{31: n} }

func keyOf(s wire.Secret) wire.Key {
	k, err := s.PrivKey()
	if err != nil {
		panic(err)
	}
	return wire.XOnly(k.PubKey())
}

// service answers from functions; what a test does not set must not be asked.
type service struct {
	quote   func(*wire.QuoteRequest) (*wire.Quote, error)
	store   func(*wire.Package, func() (io.Reader, error)) (*wire.Receipt, error)
	proofs  func(a *wire.Ask, self, from peer.ID) ([]wire.Proof, error)
	copy    func(t *wire.Token, nonce wire.Hash, self, from peer.ID) (io.ReadCloser, uint64, error)
	release func(*wire.Release) (*wire.Reveal, error)
	ack     func(*wire.Acknowledge) error
	status  func(*wire.StatusRequest) (*wire.Status, error)
	calls   atomic.Int32
}

func (s *service) Quote(_ context.Context, _ Caller, q *wire.QuoteRequest) (*wire.Quote, error) {
	s.calls.Add(1)
	return s.quote(q)
}
func (s *service) Store(_ context.Context, p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
	s.calls.Add(1)
	return s.store(p, proceed)
}
func (s *service) Proofs(_ context.Context, a *wire.Ask, self, from peer.ID) ([]wire.Proof, error) {
	s.calls.Add(1)
	return s.proofs(a, self, from)
}
func (s *service) Copy(_ context.Context, t *wire.Token, nonce wire.Hash, self, from peer.ID) (io.ReadCloser, uint64, error) {
	s.calls.Add(1)
	return s.copy(t, nonce, self, from)
}
func (s *service) Release(_ context.Context, r *wire.Release) (*wire.Reveal, error) {
	s.calls.Add(1)
	return s.release(r)
}
func (s *service) Acknowledge(_ context.Context, a *wire.Acknowledge) error {
	s.calls.Add(1)
	return s.ack(a)
}
func (s *service) Status(_ context.Context, r *wire.StatusRequest) (*wire.Status, error) {
	s.calls.Add(1)
	return s.status(r)
}

func newHost(t testing.TB, cfg Config) *Host {
	t.Helper()
	if w, ok := t.(world); ok && w.net != nil {
		ip := w.net.NewIP()
		cfg.Listen, cfg.Transports = w.addrs(cfg.Listen, ip), w.net.Transports(ip)
	}
	h, err := New(cfg)
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

// pair is an agent with key 1 and a caller.
func pair(t testing.TB, addr string, s Service, l Limits) (agent, caller *Host, to wire.Peer) {
	t.Helper()
	agent = newHost(t, Config{Identity: secret(1), Listen: []string{addr}, Serve: s, Limits: l})
	caller = newHost(t, Config{Limits: l})
	return agent, caller, wire.Peer{Key: keyOf(secret(1)), Addrs: agent.Addrs()}
}

// rogue is an agent with key 1 that answers a protocol as f likes.
func rogue(t world, id protocol.ID, f func(network.Stream)) (caller *Host, to wire.Peer) {
	t.Helper()
	agent, caller, to := pair(t, overTCP, nil, t.quick())
	agent.h.SetStreamHandler(id, func(st network.Stream) {
		defer st.Close()
		f(st)
	})
	return caller, to
}

// raw opens a stream to an agent without any of the caller's manners.
func raw(t testing.TB, caller, agent *Host, id protocol.ID) network.Stream {
	t.Helper()
	caller.h.Peerstore().AddAddrs(agent.ID(), agent.h.Addrs(), peerstore.PermanentAddrTTL)
	st, err := caller.h.NewStream(t.Context(), agent.ID(), id)
	must(t, err)
	_ = st.SetDeadline(time.Now().Add(time.Minute))
	return st
}

var frozen = wire.Frozen{Expiry: 500, RefundKey: keyOf(secret(3)), Claims: []wire.ClaimLeaf{{SenderKey: keyOf(secret(4)), ClaimKey: keyOf(secret(5))}}}

func section(size int) wire.Section {
	return wire.Section{Count: 1, Leaf: wire.Leaf{Agent: keyOf(secret(1)), Size: uint64(size), Point: keyOf(secret(6)), CopyHash: wire.Hash{1}}}
}

func pack(size int) *wire.Package {
	return &wire.Package{Session: wire.Hash{2}, Funding: []byte("tx"), Frozen: frozen, Section: section(size), FetchKey: secret(9),
		Grant: wire.Grant{Owner: keyOf(secret(1)), Agent: keyOf(secret(1))}}
}

func receipt(p *wire.Package, by wire.Secret) *wire.Receipt {
	r := &wire.Receipt{Agent: keyOf(by), Package: p.Digest()}
	sig, err := wire.Sign(by, r.Digest())
	if err != nil {
		panic(err)
	}
	r.Sig = sig
	return r
}

// proof is signed by a key for a channel.
func proof(by wire.Secret, leaf wire.Section, nonce wire.Hash, agent, client peer.ID) wire.Proof {
	p := wire.Proof{Outpoint: wire.Outpoint{Txid: wire.Hash{8}, Vout: 1}, Frozen: frozen, Section: leaf}
	sig, err := wire.Sign(by, wire.ProofDigest(nonce, []byte(agent), []byte(client), p.Outpoint, leaf.Leaf.Point))
	if err != nil {
		panic(err)
	}
	p.Sig = sig
	return p
}

var request = wire.QuoteRequest{Session: wire.Hash{1}, E: keyOf(secret(2)), Size: 10, StoreUntil: 100, Expiry: 200}

func refusal(c wire.Code) error { return &wire.Refusal{Code: c, Err: errors.New("because")} }

func TestRoundTrips(t *testing.T) {
	for _, addr := range []string{overTCP, overQUIC} {
		t.Run(strings.Split(addr, "/")[3], func(t *testing.T) {
			content := bytes.Repeat([]byte("sealed"), 50_000)
			quote := wire.Quote{Agent: keyOf(secret(1)), E: request.E, Point: keyOf(secret(6)), ClaimKey: keyOf(secret(5)), Size: 10, From: 1, StoreUntil: 100, Expiry: 200, ValidUntil: 50, Value: 1000}
			s := &service{
				quote: func(q *wire.QuoteRequest) (*wire.Quote, error) {
					if *q != request {
						t.Errorf("request came as %+v", q)
					}
					return &quote, nil
				},
				store: func(p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
					body, err := proceed()
					must(t, err)
					got, err := io.ReadAll(body)
					if err != nil || !bytes.Equal(got, content) {
						t.Errorf("body of %d bytes, %v", len(got), err)
					}
					return receipt(p, secret(1)), nil
				},
				proofs: func(a *wire.Ask, self, from peer.ID) ([]wire.Proof, error) {
					return []wire.Proof{proof(secret(1), section(len(content)), a.Nonce, self, from)}, nil
				},
				copy: func(tok *wire.Token, nonce wire.Hash, self, from peer.ID) (io.ReadCloser, uint64, error) {
					if want := wire.TokenMAC(secret(9), nonce, []byte(self), []byte(from), wire.Outpoint{Txid: wire.Hash{8}, Vout: 1}, tok.Point); tok.MAC != want {
						t.Error("the token is not for this channel")
					}
					return io.NopCloser(bytes.NewReader(content)), uint64(len(content)), nil
				},
				release: func(r *wire.Release) (*wire.Reveal, error) {
					if r.Sigma != secret(77) {
						t.Error("another σ")
					}
					return &wire.Reveal{Tau: secret(78)}, nil
				},
				ack:    func(a *wire.Acknowledge) error { return nil },
				status: func(*wire.StatusRequest) (*wire.Status, error) { return &wire.Status{State: 3, Ack: []byte("a")}, nil },
			}
			_, caller, to := pair(t, addr, s, DefaultLimits)
			ctx := t.Context()
			q, err := caller.Quote(ctx, to, &request)
			if err != nil || *q != quote {
				t.Errorf("quote %+v, %v", q, err)
			}
			p := pack(len(content))
			r, err := caller.Store(ctx, to, p, bytes.NewReader(content))
			if err != nil || r.Package != p.Digest() {
				t.Errorf("receipt %+v, %v", r, err)
			}
			proofs, err := caller.Ask(ctx, to, secret(9))
			if err != nil || len(proofs) != 1 {
				t.Errorf("%d proofs, %v", len(proofs), err)
			}
			var got bytes.Buffer
			if err := fetch(ctx, caller, to, len(content), &got); err != nil || !bytes.Equal(got.Bytes(), content) {
				t.Errorf("fetched %d bytes, %v", got.Len(), err)
			}
			tau, err := caller.Release(ctx, to, keyOf(secret(6)), secret(77))
			if err != nil || tau != secret(78) {
				t.Errorf("release: %v", err)
			}
			must(t, caller.Acknowledge(ctx, to, &wire.Acknowledge{Blob: []byte("x")}))
			st, err := caller.Status(ctx, to, &wire.StatusRequest{})
			if err != nil || st.State != 3 || string(st.Ack) != "a" {
				t.Errorf("status %+v, %v", st, err)
			}
		})
	}
}

// fetched is where the copies that tests fetch are said to be frozen.
var fetched = wire.Outpoint{Txid: wire.Hash{8}, Vout: 1}

func fetch(ctx context.Context, caller *Host, to wire.Peer, size int, w io.Writer) error {
	leaf := section(size).Leaf
	return caller.Fetch(ctx, to, secret(9), fetched, &leaf, w)
}

func wantRefused(t testing.TB, err error, code wire.Code) {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || r.Code != code {
		t.Errorf("got %v, want refusal %v", err, code)
	}
}

// TestRefusals: each code arrives with its text; an agent's own trouble is not
// told.
func TestRefusals(t *testing.T) { inWorld(t, refusals) }

func refusals(t world) {
	var answer error
	s := &service{
		quote:   func(*wire.QuoteRequest) (*wire.Quote, error) { return nil, answer },
		store:   func(*wire.Package, func() (io.Reader, error)) (*wire.Receipt, error) { return nil, answer },
		proofs:  func(*wire.Ask, peer.ID, peer.ID) ([]wire.Proof, error) { return nil, answer },
		release: func(*wire.Release) (*wire.Reveal, error) { return nil, answer },
		ack:     func(*wire.Acknowledge) error { return answer },
		status:  func(*wire.StatusRequest) (*wire.Status, error) { return nil, answer },
	}
	_, caller, to := pair(t, overTCP, s, DefaultLimits)
	ctx := t.Context()
	ask := map[string]func() error{
		"quote":   func() error { _, err := caller.Quote(ctx, to, &request); return err },
		"store":   func() error { _, err := caller.Store(ctx, to, pack(5), strings.NewReader("12345")); return err },
		"ask":     func() error { _, err := caller.Ask(ctx, to, secret(9)); return err },
		"fetch":   func() error { return fetch(ctx, caller, to, 5, io.Discard) },
		"release": func() error { _, err := caller.Release(ctx, to, wire.Key{}, secret(1)); return err },
		"ack":     func() error { return caller.Acknowledge(ctx, to, &wire.Acknowledge{Blob: []byte("x")}) },
		"status":  func() error { _, err := caller.Status(ctx, to, &wire.StatusRequest{}); return err },
	}
	for code := wire.BadRequest; code <= wire.Internal; code++ {
		answer = fmt.Errorf("wrapped: %w", refusal(code))
		for _, f := range ask {
			wantRefused(t, f(), code)
		}
	}
	answer = &wire.Refusal{Code: wire.Full, Err: errors.New(strings.Repeat("é", 500))}
	wantRefused(t, ask["quote"](), wire.Full)
	answer = fmt.Errorf("write /home/agent: %w", syscall.ENOSPC)
	for name, f := range ask {
		err := f()
		wantRefused(t, err, wire.Full)
		if strings.Contains(fmt.Sprint(err), "/home") {
			t.Errorf("%s tells where the agent's files are: %v", name, err)
		}
	}
	answer = errors.New("password of the database")
	for name, f := range ask {
		err := f()
		wantRefused(t, err, wire.Internal)
		if strings.Contains(fmt.Sprint(err), "password") {
			t.Errorf("%s tells the agent's own trouble: %v", name, err)
		}
	}
}

// TestStalledCaller: whoever connects and does not go on is dropped in time,
// also one that sends a little now and then.
func TestStalledCaller(t *testing.T) { inWorld(t, stalledCaller) }

func stalledCaller(t world) {
	s, quick := &service{}, t.quick()
	agent, caller, _ := pair(t, overTCP, s, quick)
	for _, id := range []protocol.ID{protoQuote, protoStore, protoFetch, protoRelease, protoAck, protoStatus} {
		st := raw(t, caller, agent, id)
		done := make(chan struct{})
		defer func() { <-done }()
		go func() {
			defer close(done)
			start := time.Now()
			go func() {
				for _, b := range []byte{0, 0, 0, 60, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1} {
					if _, err := st.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(quick.Frame / 6)
				}
			}()
			_, err := st.Read(make([]byte, 1))
			if err == nil {
				t.Errorf("%s: answered", id)
			}
			t.within(start, 3*quick.Frame/2, string(id))
		}()
	}
	// One that sends nothing at all, not even the protocol's name.
	st := raw(t, caller, agent, protoQuote)
	_, err := st.Read(make([]byte, 1))
	if err == nil {
		t.Error("answer to nothing")
	}
	t.Cleanup(func() {
		if n := s.calls.Load(); n != 0 {
			t.Errorf("%d requests served that never came", n)
		}
	})
}

// TestStalledBody: an upload that pauses is dropped long before its total time
// is over, one that trickles when it is.
func TestStalledBody(t *testing.T) { inWorld(t, stalledBody) }

func stalledBody(t world) {
	quick := t.quick()
	result := make(chan error, 1)
	s := &service{store: func(p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
		body, err := proceed()
		if err == nil {
			_, err = io.Copy(io.Discard, body)
		}
		result <- err
		return nil, err
	}}
	agent, caller, _ := pair(t, overTCP, s, quick)
	start := func(size int) network.Stream {
		st := raw(t, caller, agent, protoStore)
		must(t, wire.WriteFrame(st, pack(size)))
		must(t, answer(st, nil))
		return st
	}
	dropped := func(name string, within time.Duration) {
		t.Helper()
		select {
		case err := <-result:
			if err == nil {
				t.Errorf("%s: taken for a whole copy", name)
			}
		case <-time.After(map[bool]time.Duration{true: within, false: time.Minute}[t.net != nil]):
			t.Errorf("%s: not dropped", name)
		}
	}
	st := start(1 << 30) // may take a quarter of an hour
	_, _ = st.Write([]byte("abc"))
	dropped("pause", 3*quick.Frame)

	slow := start(100)
	go func() {
		for {
			if _, err := slow.Write([]byte("a")); err != nil {
				return
			}
			time.Sleep(quick.Frame / 6)
		}
	}()
	dropped("trickle", 4*quick.Frame)

	st = start(100)
	_, _ = st.Write([]byte("half"))
	must(t, st.CloseWrite())
	dropped("closed in the middle", quick.Frame/2)

	st = start(100)
	_, _ = st.Write([]byte("half"))
	must(t, st.Reset())
	dropped("reset in the middle", quick.Frame/2)
}

// TestSizes: frames beyond the limit of their message never reach the service,
// bytes beyond a body neither.
func TestSizes(t *testing.T) {
	s := &service{store: func(p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
		body, err := proceed()
		if err != nil {
			return nil, err
		}
		got, err := io.ReadAll(body)
		if err != nil || string(got) != "12345" {
			t.Errorf("body %q, %v", got, err)
		}
		return receipt(p, secret(1)), nil
	}}
	agent, caller, _ := pair(t, overTCP, s, DefaultLimits)
	for _, id := range []protocol.ID{protoQuote, protoStore, protoFetch, protoRelease, protoAck, protoStatus} {
		for _, n := range []uint32{1<<32 - 1, wire.MaxFunding + 4097} {
			st := raw(t, caller, agent, id)
			_, _ = st.Write(binary.BigEndian.AppendUint32(nil, n))
			_, _ = st.Write(make([]byte, 1000))
			if _, err := st.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: a frame of %d bytes is answered", id, n)
			}
		}
		st := raw(t, caller, agent, id)
		_, _ = st.Write([]byte{0, 0, 0, 3, 0xff, 0xff, 0xff})
		if _, err := st.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: garbage is answered", id)
		}
	}
	if n := s.calls.Load(); n != 0 {
		t.Errorf("%d requests served", n)
	}
	st := raw(t, caller, agent, protoStore)
	for range 3 { // one request after another
		must(t, wire.WriteFrame(st, pack(5)))
		must(t, answer(st, nil))
		_, err := st.Write([]byte("12345"))
		must(t, err)
		must(t, answer(st, new(wire.Receipt)))
	}
}

// TestLocalTrouble: a copy that cannot be read, or is has not the size of its
// leaf, is not the agent's fault.
func TestLocalTrouble(t *testing.T) {
	s := &service{store: func(p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
		body, err := proceed()
		if err == nil {
			_, err = io.Copy(io.Discard, body)
		}
		if err != nil {
			return nil, err
		}
		return receipt(p, secret(1)), nil // a longer copy looks whole from here
	}}
	_, caller, to := pair(t, overTCP, s, DefaultLimits)
	bad := errors.New("disk")
	for _, body := range []io.Reader{strings.NewReader("1234"), strings.NewReader("123456"), iotest.ErrReader(bad), io.MultiReader(strings.NewReader("12"), iotest.ErrReader(bad))} {
		_, err := caller.Store(t.Context(), to, pack(5), body)
		if !errors.Is(err, errLocal) || errors.Is(err, ErrUnreachable) {
			t.Errorf("got %v, want a local error", err)
		}
	}
}

// TestRefusedBody: an agent that stops an upload is heard before its end.
func TestRefusedBody(t *testing.T) {
	for _, addr := range []string{overTCP, overQUIC} {
		s := &service{store: func(p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
			body, err := proceed()
			if err == nil {
				_, err = io.ReadFull(body, make([]byte, 10))
			}
			must(t, err)
			return nil, refusal(wire.Full)
		}}
		_, caller, to := pair(t, addr, s, DefaultLimits)
		const size = 1 << 30
		left := zeros(size)
		_, err := caller.Store(t.Context(), to, pack(size), &left)
		wantRefused(t, err, wire.Full)
		if left == 0 {
			t.Errorf("%s: heard after the whole body", addr)
		}
	}
}

// zeros are so many bytes to read.
type zeros int64

func (z *zeros) Read(p []byte) (int, error) {
	if *z == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), int64(*z))
	*z -= zeros(n)
	return int(n), nil
}

// TestBusy: beyond its streams an agent says so, and serves again later.
func TestBusy(t *testing.T) { inWorld(t, busy) }

func busy(t world) {
	gate := make(chan struct{})
	s := &service{status: func(*wire.StatusRequest) (*wire.Status, error) { <-gate; return &wire.Status{}, nil }}
	l := DefaultLimits
	l.Streams = 12 // a quarter of it for one peer
	_, caller, to := pair(t, overTCP, s, l)
	var wg sync.WaitGroup
	for range l.Streams / 4 {
		wg.Go(func() {
			if _, err := caller.Status(t.Context(), to, &wire.StatusRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	for s.calls.Load() < int32(l.Streams/4) {
		time.Sleep(time.Millisecond)
	}
	var more sync.WaitGroup
	for range 5 {
		more.Go(func() {
			_, err := caller.Status(t.Context(), to, &wire.StatusRequest{})
			wantRefused(t, err, wire.Busy)
		})
	}
	more.Wait()
	close(gate)
	wg.Wait()
	_, err := caller.Status(t.Context(), to, &wire.StatusRequest{})
	must(t, err)
}

// TestIdentity: an address does not make an agent; only its key does.
func TestIdentity(t *testing.T) {
	for _, addr := range []string{overTCP, overQUIC} {
		s := &service{}
		agent, caller, _ := pair(t, addr, s, DefaultLimits)
		other := wire.Peer{Key: keyOf(secret(2)), Addrs: agent.Addrs()}
		_, err := caller.Quote(t.Context(), other, &request)
		wantErr(t, err, ErrUnreachable)
		_, err = caller.Release(t.Context(), other, wire.Key{}, secret(1))
		wantErr(t, err, ErrUnreachable)
		if s.calls.Load() != 0 {
			t.Error("served under another's name")
		}
		// The peer ID follows from the key.
		id, err := PeerID(keyOf(secret(1)))
		if err != nil || id != agent.ID() {
			t.Errorf("peer ID %v of an agent that is %v (%v)", id, agent.ID(), err)
		}
	}
	// A secret whose point is odd has the same peer ID as its negation.
	for n := byte(1); n < 10; n++ {
		id, err := PeerID(keyOf(secret(n)))
		must(t, err)
		if h := newHost(t, Config{Identity: secret(n)}); h.ID() != id {
			t.Errorf("key %d: host %v, peer ID %v", n, h.ID(), id)
		}
	}
}

// TestReceipts: only a receipt by this agent, for this package, counts.
func TestReceipts(t *testing.T) {
	other := pack(5)
	other.Session = wire.Hash{99}
	forged := receipt(pack(5), secret(1))
	forged.Sig[40] ^= 1
	renamed := receipt(pack(5), secret(2))
	renamed.Agent = keyOf(secret(1))
	for name, r := range map[string]*wire.Receipt{"another package": receipt(other, secret(1)), "another agent": receipt(pack(5), secret(2)), "forged": forged, "renamed": renamed} {
		s := &service{store: func(p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
			body, err := proceed()
			if err == nil {
				_, err = io.Copy(io.Discard, body)
			}
			return r, err
		}}
		_, caller, to := pair(t, overTCP, s, DefaultLimits)
		if _, err := caller.Store(t.Context(), to, pack(5), strings.NewReader("12345")); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("receipt by or for %s: %v", name, err)
		}
	}
}

// TestForeignProofs: proofs that were signed for another channel, as a relay
// between an honest agent and its victim gets them, are dropped.
func TestForeignProofs(t *testing.T) {
	honest := &service{proofs: func(a *wire.Ask, self, from peer.ID) ([]wire.Proof, error) {
		return []wire.Proof{proof(secret(1), section(5), a.Nonce, self, from)}, nil
	}}
	agent, _, to := pair(t, overTCP, honest, DefaultLimits)
	var relay *Host
	mallory := &service{proofs: func(a *wire.Ask, self, from peer.ID) ([]wire.Proof, error) {
		// Passes the very nonce on to the honest agent.
		st := raw(t, relay, agent, protoFetch)
		defer st.Reset()
		var list wire.Proofs
		must(t, wire.WriteFrame(st, a))
		must(t, answer(st, &list))
		relayed := list.Proofs[0]
		mine := section(5)
		mine.Leaf.Agent = keyOf(secret(2))
		renamed := relayed
		renamed.Section = mine
		stale := wire.Hash{1}
		return []wire.Proof{relayed, renamed, proof(secret(2), mine, stale, self, from), proof(secret(2), mine, a.Nonce, agent.ID(), from),
			proof(secret(2), mine, a.Nonce, self, agent.ID()), proof(secret(3), mine, a.Nonce, self, from)}, nil
	}}
	relay = newHost(t, Config{Identity: secret(2), Listen: []string{overTCP}, Serve: mallory, Limits: DefaultLimits})
	victim := newHost(t, Config{Limits: DefaultLimits})
	got, err := victim.Ask(t.Context(), wire.Peer{Key: keyOf(secret(2)), Addrs: relay.Addrs()}, secret(9))
	if err != nil || len(got) != 0 {
		t.Errorf("%d proofs pass, %v", len(got), err)
	}
	got, err = victim.Ask(t.Context(), to, secret(9))
	if err != nil || len(got) != 1 {
		t.Errorf("%d of the honest agent's, %v", len(got), err)
	}
}

// TestNoDisclosureBeforeProof: whatever an agent answers that is not a proof by
// the leaf's agent on this channel for this leaf, all it ever sees is one Ask.
func TestNoDisclosureBeforeProof(t *testing.T) {
	reply := func(list ...wire.Proof) func(st network.Stream, a *wire.Ask) {
		return func(st network.Stream, a *wire.Ask) {
			_ = wire.WriteFrame(st, &wire.Reply{})
			_ = wire.WriteFrame(st, &wire.Proofs{Proofs: list})
		}
	}
	edit := func(f func(*wire.Proof)) func(st network.Stream, a *wire.Ask) {
		return func(st network.Stream, a *wire.Ask) {
			p := proof(secret(1), section(5), a.Nonce, st.Conn().LocalPeer(), st.Conn().RemotePeer())
			f(&p)
			reply(p)(st, a)
		}
	}
	sign := func(f func(*wire.Proof)) func(st network.Stream, a *wire.Ask) {
		return func(st network.Stream, a *wire.Ask) {
			p := proof(secret(1), section(5), a.Nonce, st.Conn().LocalPeer(), st.Conn().RemotePeer())
			f(&p)
			sig, err := wire.Sign(secret(1), wire.ProofDigest(a.Nonce, []byte(st.Conn().LocalPeer()), []byte(st.Conn().RemotePeer()), p.Outpoint, p.Section.Leaf.Point))
			must(t, err)
			p.Sig = sig
			reply(p)(st, a)
		}
	}
	for name, behave := range map[string]func(network.Stream, *wire.Ask){
		"no proofs":        reply(),
		"refusal":          func(st network.Stream, _ *wire.Ask) { _ = wire.WriteFrame(st, &wire.Reply{Code: wire.Unknown}) },
		"ok and no more":   func(st network.Stream, _ *wire.Ask) { _ = wire.WriteFrame(st, &wire.Reply{}) },
		"garbage":          func(st network.Stream, _ *wire.Ask) { _, _ = st.Write([]byte{0, 0, 0, 2, 0xff, 0xff}) },
		"oversize":         func(st network.Stream, _ *wire.Ask) { _, _ = st.Write([]byte{0xff, 0xff, 0xff, 0xff}) },
		"unsigned":         edit(func(p *wire.Proof) { p.Sig = wire.Signature{} }),
		"wrong signature":  edit(func(p *wire.Proof) { p.Sig[3] ^= 1 }),
		"another's leaf":   edit(func(p *wire.Proof) { p.Section.Leaf.Agent = keyOf(secret(2)) }),
		"another outpoint": sign(func(p *wire.Proof) { p.Outpoint.Vout++ }),
		"another point":    sign(func(p *wire.Proof) { p.Section.Leaf.Point = keyOf(secret(7)) }),
		"another copy":     sign(func(p *wire.Proof) { p.Section.Leaf.CopyHash = wire.Hash{9} }),
		"another key":      sign(func(p *wire.Proof) { p.Section.Leaf.Key = wire.MessageKey{9} }),
		"another size":     sign(func(p *wire.Proof) { p.Section.Leaf.Size++ }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(t world) {
				seen := make(chan []byte, 1)
				caller, to := rogue(t, protoFetch, func(st network.Stream) {
					var all bytes.Buffer
					var ask wire.Ask
					err := wire.ReadFrame(io.TeeReader(st, &all), &ask)
					if err == nil {
						behave(st, &ask)
						// Left open: a reset that follows an end would swallow what
						// the caller had written before.
						_, _ = io.Copy(&all, st)
					}
					seen <- all.Bytes()
				})
				var got bytes.Buffer
				if err := fetch(t.Context(), caller, to, 5, &got); err == nil || got.Len() != 0 {
					t.Errorf("fetched %d bytes, %v", got.Len(), err)
				}
				bytesSeen := <-seen
				var ask wire.Ask
				rest := bytes.NewReader(bytesSeen)
				must(t, wire.ReadFrame(rest, &ask))
				if rest.Len() != 0 || ask.Find != wire.FindKey(secret(9)) {
					t.Errorf("the agent sees %d bytes more than one Ask", rest.Len())
				}
				leaf, fetchKey := section(5).Leaf, secret(9)
				for what, b := range map[string][]byte{"the point": leaf.Point[:], "the outpoint": fetched.Txid[:], "the fetch key": fetchKey[:], "the copy's hash": leaf.CopyHash[:], "the key": leaf.Key[8:]} {
					if bytes.Contains(bytesSeen, b) {
						t.Errorf("the agent sees %s", what)
					}
				}
			})
		})
	}
}

// TestBadAgents: an agent that stalls, breaks off or floods costs a bounded
// time, and a copy that is cut is an error.
func TestBadAgents(t *testing.T) {
	good := func(st network.Stream) {
		var ask wire.Ask
		_ = wire.ReadFrame(st, &ask)
		_ = wire.WriteFrame(st, &wire.Reply{})
		_ = wire.WriteFrame(st, &wire.Proofs{Proofs: []wire.Proof{proof(secret(1), section(5), ask.Nonce, st.Conn().LocalPeer(), st.Conn().RemotePeer())}})
		_ = wire.ReadFrame(st, new(wire.Token))
		_ = wire.WriteFrame(st, &wire.Reply{})
	}
	stall := func(st network.Stream) { _, _ = io.Copy(io.Discard, st); time.Sleep(20 * time.Second) }
	for name, c := range map[string]struct {
		behave func(network.Stream)
		want   error
		got    string
	}{
		"stalls":               {stall, ErrUnreachable, ""},
		"hangs up":             {func(network.Stream) {}, ErrUnreachable, ""},
		"resets":               {func(st network.Stream) { _ = st.Reset() }, ErrUnreachable, ""},
		"stalls in the body":   {func(st network.Stream) { good(st); _, _ = st.Write([]byte("12")); stall(st) }, ErrUnreachable, "12"},
		"hangs up in the body": {func(st network.Stream) { good(st); _, _ = st.Write([]byte("12")) }, ErrUnreachable, "12"},
		"sends more":           {func(st network.Stream) { good(st); _, _ = st.Write([]byte("1234567")) }, nil, "12345"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(t world) {
				caller, to := rogue(t, protoFetch, c.behave)
				var got bytes.Buffer
				start := time.Now()
				wantErr(t, fetch(t.Context(), caller, to, 5, &got), c.want)
				if got.String() != c.got {
					t.Errorf("got %q", got.String())
				}
				t.within(start, 3*t.quick().Frame, name)
			})
		})
	}
	t.Run("oversize answer", func(t *testing.T) {
		inWorld(t, func(t world) {
			caller, to := rogue(t, protoStatus, func(st network.Stream) {
				_ = wire.WriteFrame(st, &wire.Reply{})
				_, _ = st.Write([]byte{0, 1, 0, 0, 0})
			})
			_, err := caller.Status(t.Context(), to, &wire.StatusRequest{})
			wantErr(t, err, wire.ErrTooBig)
		})
	})
	t.Run("never speaks", func(t *testing.T) {
		inWorld(t, func(t world) {
			caller := newHost(t, Config{Limits: t.quick()})
			start := time.Now()
			_, err := caller.Quote(t.Context(), wire.Peer{Key: keyOf(secret(1)), Addrs: []string{t.silent()}}, &request)
			wantErr(t, err, ErrUnreachable)
			t.within(start, t.quick().Frame, "never speaks")
		})
	})
	t.Run("no such protocol", func(t *testing.T) {
		_, caller, to := pair(t, overTCP, nil, DefaultLimits)
		_, err := caller.Quote(t.Context(), to, &request)
		wantErr(t, err, ErrUnreachable)
	})
}

// TestCancel: a cancelled context ends a call that hangs.
func TestCancel(t *testing.T) { inWorld(t, cancel) }

func cancel(t world) {
	reached := make(chan struct{}, 1)
	l := DefaultLimits
	l.Frame = time.Hour
	agent, caller, to := pair(t, overTCP, nil, l)
	agent.h.SetStreamHandler(protoStatus, func(st network.Stream) { reached <- struct{}{}; _, _ = io.Copy(io.Discard, st) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	start := time.Now()
	_, err := caller.Status(ctx, to, &wire.StatusRequest{})
	wantErr(t, err, context.Canceled)
	wantErr(t, err, ErrUnreachable)
	t.within(start, time.Second, "a call that was cancelled")
}
