package jury

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/packets"
	"github.com/bitgram/bitgram/wire"
)

var must, wantErr = conform.Must, conform.WantErr

var policy = Policy{Rate: 1_000_000_000_000, ValidFor: 6,
	Limits: wire.ComputeLimits{Memory: 64 << 20, Fuel: 2_000_000_000, Disk: 1 << 30, Epochs: 1000, Blocks: 144}}

func request() wire.ComputeRequest {
	return wire.ComputeRequest{Memory: 16 << 20, Fuel: 1_500_000_000, Program: 1 << 20, Output: 1 << 20, Epochs: 100, Blocks: 100}
}

func quoter(t testing.TB, n int) *Quoter {
	t.Helper()
	s := wire.Secret{30: byte(n), 31: 1}
	priv, err := s.PrivKey()
	must(t, err)
	return &Quoter{Identity: s, Self: wire.XOnly(priv.PubKey()), Policy: policy, Height: func() wire.Height { return 100 }}
}

// node is a quoter behind a host, on simulated packets.
func node(t testing.TB, net *packets.Net, n int, c p2p.Compute) p2p.Found {
	t.Helper()
	q := quoter(t, n)
	if c == nil {
		c = q
	}
	h := host(t, net, p2p.Config{Identity: q.Identity, Compute: c})
	return p2p.Found{Ad: wire.Advertisement{Agent: q.Self}, Addrs: h.Addrs(), Prefix: fmt.Sprint("ip4/1.", n)}
}

func host(t testing.TB, net *packets.Net, cfg p2p.Config) *p2p.Host {
	t.Helper()
	ip := net.NewIP()
	cfg.Limits, cfg.Transports = p2p.Limits{Frame: 3 * time.Second, MinRate: 1, Streams: 64}, net.Transports(ip)
	if cfg.Compute != nil {
		cfg.Listen = []string{fmt.Sprintf("/ip4/%s/udp/4001/quic-v1", ip)}
	}
	h, err := p2p.New(cfg)
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

func bankOf(k wire.Key) wire.Hash { return wire.Tagged("test-bank", k[:]) }

// TestPartyKey: one key for a bank and an identity, the one that is quoted, and
// another for each other bank or identity.
func TestPartyKey(t *testing.T) {
	q := quoter(t, 1)
	secret, key, err := PartyKey(q.Identity, wire.Hash{1})
	must(t, err)
	if secret == q.Identity || key == q.Self {
		t.Error("the identity is the party's key")
	}
	r := request()
	r.Bank = wire.Hash{1}
	got, err := q.Quote(t.Context(), p2p.Caller{}, &r)
	must(t, err)
	if got.Party != key {
		t.Error("another key is quoted")
	}
	sig, err := wire.Sign(secret, wire.Hash{5})
	must(t, err)
	must(t, key.Verify(wire.Hash{5}, sig))
	_, other, err := PartyKey(q.Identity, wire.Hash{2})
	must(t, err)
	_, another, err := PartyKey(quoter(t, 2).Identity, wire.Hash{1})
	must(t, err)
	if other == key || another == key || other == another {
		t.Error("one key for two")
	}
}

// TestQuote: the price follows from rate and fuel, and each limit refuses with its
// reason.
func TestQuote(t *testing.T) {
	q := quoter(t, 1)
	must(t, q.Policy.Check())
	r := request()
	got, err := q.Quote(t.Context(), p2p.Caller{}, &r)
	must(t, err)
	must(t, got.Verify(q.Self, &r))
	must(t, got.Check())
	if got.Price != 1500 || got.ValidUntil != 106 { // 1 sat per 10⁹
		t.Errorf("%+v", got)
	}
	must(t, q.Keeps(got, &r))
	for name, x := range map[string]struct {
		f    func(*wire.ComputeRequest)
		code wire.Code
	}{
		"memory": {func(r *wire.ComputeRequest) { r.Memory = 64<<20 + 1 }, wire.TooBig},
		"fuel":   {func(r *wire.ComputeRequest) { r.Fuel = 2_000_000_001 }, wire.TooBig},
		"disk":   {func(r *wire.ComputeRequest) { r.Output = 1 << 30 }, wire.TooBig},
		"state":  {func(r *wire.ComputeRequest) { r.State = 1 << 30 }, wire.TooBig},
		"epochs": {func(r *wire.ComputeRequest) { r.Epochs = 1001 }, wire.TooLong},
		"blocks": {func(r *wire.ComputeRequest) { r.Blocks = 145 }, wire.TooLong},
	} {
		r := request()
		x.f(&r)
		var refusal *wire.Refusal
		if _, err := q.Quote(t.Context(), p2p.Caller{}, &r); !errors.As(err, &refusal) || refusal.Code != x.code {
			t.Errorf("%s: %v", name, err)
		}
		if err := q.Keeps(got, &r); err == nil {
			t.Errorf("%s: a quote for another request", name)
		}
	}
	late := *q
	late.Height = func() wire.Height { return 107 }
	var refusal *wire.Refusal
	if err := late.Keeps(got, &r); !errors.As(err, &refusal) || refusal.Code != wire.TooLate {
		t.Error(err)
	}
	other := quoter(t, 2)
	if err := other.Keeps(got, &r); err == nil {
		t.Error("another's quote is kept")
	}
	q.Ready = func(context.Context, *wire.ComputeRequest) error { return wire.Refuse(wire.Full, "no slot") }
	if _, err := q.Quote(t.Context(), p2p.Caller{}, &r); !errors.As(err, &refusal) || refusal.Code != wire.Full {
		t.Error(err)
	}
	bad := policy
	bad.ValidFor = 0
	if bad.Check() == nil {
		t.Error("quotes that are never valid")
	}
	bad = policy
	bad.Limits.Epochs = 0
	wantErr(t, bad.Check(), wire.ErrMalformed)
}

// false quotes: of another node, for another request, expired.
type falseCompute func(*wire.ComputeRequest) *wire.ComputeQuote

func (f falseCompute) Quote(_ context.Context, _ p2p.Caller, r *wire.ComputeRequest) (*wire.ComputeQuote, error) {
	return f(r), nil
}

type silentCompute struct{}

func (silentCompute) Quote(ctx context.Context, _ p2p.Caller, _ *wire.ComputeRequest) (*wire.ComputeQuote, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestAskAndDraw asks real hosts, liars among them, and draws among the honest.
func TestAskAndDraw(t *testing.T) { synctest.Test(t, askAndDraw) }

func askAndDraw(t *testing.T) {
	net := packets.New(1)
	t.Cleanup(func() { // after the hosts
		net.Close()
		time.Sleep(time.Hour) // for those that still sleep: the clock stops with this function
	})
	var found []p2p.Found
	for n := range 5 {
		found = append(found, node(t, net, n+1, nil))
	}
	lie := func(n int, f func(q *Quoter, r *wire.ComputeRequest, honest *wire.ComputeQuote)) {
		q := quoter(t, n)
		found = append(found, node(t, net, n, falseCompute(func(r *wire.ComputeRequest) *wire.ComputeQuote {
			honest, err := q.Quote(t.Context(), p2p.Caller{}, r)
			if err != nil {
				t.Error(err)
			}
			f(q, r, honest)
			return honest
		})))
	}
	lie(10, func(q *Quoter, _ *wire.ComputeRequest, h *wire.ComputeQuote) { h.Price++ })
	lie(11, func(q *Quoter, _ *wire.ComputeRequest, h *wire.ComputeQuote) {
		h.ValidUntil = 99
		h.Sig, _ = wire.Sign(q.Identity, h.Digest())
	})
	lie(12, func(q *Quoter, r *wire.ComputeRequest, h *wire.ComputeQuote) {
		h.Request[0]++
		h.Sig, _ = wire.Sign(q.Identity, h.Digest())
	})
	found = append(found, node(t, net, 13, silentCompute{}))
	caller := host(t, net, p2p.Config{})
	answers := Ask(t.Context(), caller, found, request(), bankOf, 100)
	for i, a := range answers {
		if (a.Err == nil) != (i < 5) || (a.Quote == nil) != (i >= 5) {
			t.Errorf("candidate %d: %v", i, a.Err)
		}
		if a.Request.Bank != bankOf(a.Found.Ad.Agent) {
			t.Errorf("candidate %d has another's bank", i)
		}
	}
	trusted := []wire.Key{found[2].Ad.Agent}
	parties, reserve, most, err := Draw(wire.Hash{1}, answers, trusted, 1500, 4)
	must(t, err)
	if len(parties) != 4 || len(reserve) != 1 || most != 1 || !parties[0].Trusted || parties[0].Found.Ad.Agent != trusted[0] || parties[1].Trusted {
		t.Errorf("%d parties, %d in reserve, most %d", len(parties), len(reserve), most)
	}
	if _, _, _, err := Draw(wire.Hash{1}, answers, nil, 1499, 4); !errors.Is(err, choose.ErrTooFew) {
		t.Error(err)
	}
	if _, _, _, err := Draw(wire.Hash{1}, answers, []wire.Key{found[6].Ad.Agent}, 1500, 4); !errors.Is(err, choose.ErrTrusted) {
		t.Error(err)
	}
}

// TestFitting: offers are read as the node itself would quote.
func TestFitting(t *testing.T) {
	r := request()
	list := []p2p.Found{{}, {Compute: &wire.ComputeOffer{Rate: policy.Rate, Limits: policy.Limits}}, {Compute: &wire.ComputeOffer{Rate: policy.Rate + policy.Rate/1000, Limits: policy.Limits}},
		{Compute: &wire.ComputeOffer{Rate: 1, Limits: wire.ComputeLimits{Memory: 1}}}}
	if got := Fitting(list, &r, 1500); len(got) != 1 || got[0].Compute != list[1].Compute {
		t.Errorf("%d fit", len(got))
	}
	if got := Fitting(list, &r, 1502); len(got) != 2 {
		t.Errorf("%d fit", len(got))
	}
}
