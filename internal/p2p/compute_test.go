package p2p

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/bitgram/bitgram/wire"
)

// TestComputeOffers: a lookup returns who computes, and on what terms; a false offer
// takes nobody's place as an agent, and a version that does not know offers reads
// the advertisement of one that has one.
func TestComputeOffers(t *testing.T) { inCity(t, (*city).computeOffers) }

func (c *city) computeOffers() {
	c.grow(5)
	flag := func(m *member) {
		ad := *m.dir.ad.Load()
		ad.Services |= wire.Compute
		var err error
		ad.Sig, err = wire.Sign(m.secret, ad.Digest(wire.Regtest))
		must(c.t, err)
		m.Offer(&ad)
	}
	offer := func(m *member, by *member, expires time.Duration) *wire.ComputeOffer {
		o := &wire.ComputeOffer{Agent: m.key, Rate: 7, Expires: time.Now().Add(expires).Unix(),
			Limits: wire.ComputeLimits{Memory: 1 << 20, Fuel: 1, Disk: 1, Epochs: 1, Blocks: 1}}
		var err error
		o.Sig, err = wire.Sign(by.secret, o.Digest(wire.Regtest))
		must(c.t, err)
		return o
	}
	honest, silent, forger, thief, plain := c.hosts[0], c.hosts[1], c.hosts[2], c.hosts[3], c.hosts[4]
	for _, m := range []*member{honest, silent, forger, thief} {
		flag(m)
	}
	honest.OfferCompute(offer(honest, honest, time.Hour))
	forger.OfferCompute(offer(forger, thief, time.Hour)) // another's signature
	thief.OfferCompute(offer(honest, honest, time.Hour)) // another's offer
	plain.OfferCompute(offer(plain, plain, time.Hour))   // without the service
	client := c.open(c.fresh(), false)
	c.settle([]*member{client})
	check := func(want *member) {
		c.t.Helper()
		found, err := client.Nearest(c.t.Context(), c.key(), false)
		must(c.t, err)
		if len(found) != 5 {
			c.t.Fatalf("%d of 5 are active", len(found))
		}
		for _, f := range found {
			if (f.Compute != nil) != (want != nil && f.Ad.Agent == want.key) {
				c.t.Errorf("%s: %+v", f.Ad.Agent, f.Compute)
			}
		}
	}
	check(honest)
	honest.OfferCompute(offer(honest, honest, -time.Second))
	check(nil) // expired

	var ad wire.Advertisement
	must(c.t, client.stream(c.t.Context(), honest.ID(), protoAd, func(st network.Stream) error {
		if err := st.CloseWrite(); err != nil {
			return err
		}
		return answer(st, &ad)
	}))
	must(c.t, ad.Verify(wire.Regtest, time.Now().Unix()))
}

// quotes answers with a quote that f makes.
type quotes func(*wire.ComputeRequest) (*wire.ComputeQuote, error)

func (f quotes) Quote(_ context.Context, _ Caller, r *wire.ComputeRequest) (*wire.ComputeQuote, error) {
	return f(r)
}

// TestComputeQuote: the client verifies what it is quoted, and gets refusals with
// their reasons.
func TestComputeQuote(t *testing.T) {
	inWorld(t, func(t world) {
		var change func(*wire.ComputeQuote)
		var refuse error
		s := quotes(func(r *wire.ComputeRequest) (*wire.ComputeQuote, error) {
			q := &wire.ComputeQuote{Agent: keyOf(secret(1)), Party: keyOf(secret(5)), Request: r.Digest(), Price: 3, ValidUntil: 9}
			var err error
			q.Sig, err = wire.Sign(secret(1), q.Digest())
			if change != nil {
				change(q)
			}
			if refuse != nil {
				return nil, refuse
			}
			return q, err
		})
		node := newHost(t, Config{Identity: secret(1), Listen: []string{overTCP}, Compute: s, Limits: t.quick()})
		caller := newHost(t, Config{Limits: t.quick()})
		to := wire.Peer{Key: keyOf(secret(1)), Addrs: node.Addrs()}
		req := &wire.ComputeRequest{Memory: 1 << 20, Fuel: 1, Program: 1, Epochs: 1, Blocks: 1}
		q, err := caller.ComputeQuote(t.Context(), to, req)
		must(t, err)
		if q.Price != 3 {
			t.Errorf("%+v", q)
		}
		for name, f := range map[string]func(*wire.ComputeQuote){
			"price": func(q *wire.ComputeQuote) { q.Price++ }, "party": func(q *wire.ComputeQuote) { q.Party = keyOf(secret(6)) },
			"request": func(q *wire.ComputeQuote) { q.Request[3]++ }, "node": func(q *wire.ComputeQuote) { q.Agent = keyOf(secret(6)) },
		} {
			change = f
			if _, err := caller.ComputeQuote(t.Context(), to, req); err == nil {
				t.Errorf("another %s is accepted", name)
			}
		}
		change, refuse = nil, wire.Refuse(wire.TooBig, "at most 5 bytes")
		_, err = caller.ComputeQuote(t.Context(), to, req)
		wantErr(t, err, ErrRefused)
		if err.Error() != "refused: too big (at most 5 bytes)" {
			t.Error(err)
		}
	})
}
