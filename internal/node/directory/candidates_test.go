package directory

import (
	"context"
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// lookups answers lookups with lists, one after another.
type lookups struct {
	Caller
	lists [][]p2p.Found
	asked int
}

func (l *lookups) Nearest(context.Context, []byte, bool) ([]p2p.Found, error) {
	if l.asked++; l.asked > len(l.lists) {
		return nil, p2p.ErrUnreachable
	}
	return l.lists[l.asked-1], nil
}

func (l *lookups) Probe(context.Context, multiaddr.Multiaddr) (peer.ID, error) { return "", nil }

// TestCandidates: nodes that compute, each once and without this one, from as many
// lookups as are needed.
func TestCandidates(t *testing.T) {
	d, done := open(t, t.TempDir())
	defer done()
	close(d.joined)
	all := someAgents(8, func(int) wire.Psat { return 1 })
	for i := range all {
		if i%2 == 0 {
			all[i].Compute = &wire.ComputeOffer{Rate: wire.Psat(i)}
		}
	}
	d.cfg.Self = all[0].Ad.Agent
	find := func(enough, places int, lists ...[]p2p.Found) ([]p2p.Found, int, error) {
		l := &lookups{lists: lists}
		d.calls = l
		found, err := d.Candidates(t.Context(), enough, places)
		return found, l.asked, err
	}
	found, asked, err := find(3, 5, all[:4], all[2:6], all)
	must(t, err)
	if len(found) != 3 || asked != 3 || found[0].Compute.Rate != 2 || found[1].Compute.Rate != 4 || found[2].Compute.Rate != 6 {
		t.Errorf("%d found by %d lookups", len(found), asked)
	}
	if found, asked, err = find(3, 2, all[:4], all[:4], all); err != nil || len(found) != 1 || asked != 2 {
		t.Errorf("%d found by %d lookups: %v", len(found), asked, err)
	}
	if found, _, err = find(9, 3, all[:3]); err != nil || len(found) != 1 { // the others fail
		t.Errorf("%d found: %v", len(found), err)
	}
	if _, _, err = find(1, 2, all[1:2], nil); !errors.Is(err, p2p.ErrNotFound) {
		t.Error(err)
	}
	if _, _, err = find(1, 2); !errors.Is(err, p2p.ErrUnreachable) {
		t.Error(err)
	}
}

// offered is the host of a node that offers something.
type offered struct {
	Host
	ad      *wire.Advertisement
	compute *wire.ComputeOffer
}

func (*offered) Public() []string                        { return []string{"/ip4/1.2.3.4/tcp/1"} }
func (*offered) Addrs() []string                         { return []string{"/ip4/1.2.3.4/tcp/1"} }
func (*offered) Seed() []string                          { return nil }
func (o *offered) Offer(ad *wire.Advertisement)          { o.ad = ad }
func (o *offered) OfferCompute(offer *wire.ComputeOffer) { o.compute = offer }

// TestOffersCompute: a node with a policy for computing advertises the service, with
// a signed offer; one without does neither.
func TestOffersCompute(t *testing.T) {
	d, done := open(t, t.TempDir())
	defer done()
	d.cfg.Identity = wire.Secret{31: 9}
	priv, err := d.cfg.Identity.PrivKey()
	must(t, err)
	d.cfg.Self = wire.XOnly(priv.PubKey())
	d.cfg.Offer = &Offer{Services: wire.Delivery, Rate: 5, Limits: wire.Limits{Size: 1, Blocks: 1}}
	h := new(offered)
	must(t, d.Listen(t.Context(), h))
	if h.compute != nil || h.ad.Services != wire.Delivery {
		t.Errorf("%+v", h.ad)
	}
	limits := wire.ComputeLimits{Memory: 1 << 20, Fuel: 10, Disk: 1, Epochs: 3, Blocks: 4}
	d.cfg.Offer.Compute = &Compute{Rate: 77, Limits: limits}
	must(t, d.Listen(t.Context(), h))
	now := h.ad.Record.Expires - 60
	must(t, h.ad.Verify(wire.Regtest, now))
	must(t, h.compute.Verify(wire.Regtest, now))
	if h.ad.Services != wire.Delivery|wire.Compute || h.compute.Agent != d.cfg.Self || h.compute.Rate != 77 || h.compute.Limits != limits {
		t.Errorf("%+v, %+v", h.ad, h.compute)
	}
	d.cfg.Offer.Compute.Limits.Epochs = 0
	if d.Listen(t.Context(), h) == nil {
		t.Error("a policy that nobody can read")
	}
}
