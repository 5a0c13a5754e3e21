package directory

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// bucketSeq stores the last sequence number published.
const bucketSeq = "dht/seq"

// How long published records are valid, and when they are published again.
const (
	recordLife   = 24 * time.Hour
	publishEvery = recordLife / 3
	// sampleEvery is how often a node looks up a random place, to know the
	// agents of more than one neighbourhood.
	sampleEvery = 10 * time.Minute
	// joinRetry is how long a node waits after it found no way into the DHT.
	joinRetry, lastJoinRetry = 500 * time.Millisecond, time.Minute
	// Patience limits a lookup and, before it, the wait for the DHT.
	Patience = 20 * time.Second
)

// tend keeps the node in the DHT until ctx ends: an agent publishes its
// advertisement and holdings, and every node looks up random places from time
// to time.
func (d *Directory) tend(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	publish, sample := time.NewTicker(publishEvery), time.NewTicker(sampleEvery)
	defer publish.Stop()
	defer sample.Stop()
	again := time.NewTimer(0) // when something must be published
	defer again.Stop()
	fail := joinRetry
	for {
		select {
		case <-ctx.Done():
			return
		case <-publish.C:
			d.published.clear()
			again.Reset(0)
		case <-d.published.news:
			again.Reset(0)
		case <-sample.C:
			if d.moved() {
				d.published.clear()
				again.Reset(0)
			}
			running.Go(func() {
				if _, err := d.sample(ctx); err != nil {
					d.cfg.Log.Debug("no look around", "err", err)
				}
				if err := d.Save(ctx); err != nil && ctx.Err() == nil {
					d.cfg.Log.Warn("agents not remembered", "err", err)
				}
			})
		case <-again.C:
			if !d.serves() {
				continue
			}
			if err := d.publish(ctx); err != nil && ctx.Err() == nil {
				d.cfg.Log.Debug("cannot publish, will retry", "err", err, "in", fail)
				again.Reset(fail)
				fail = min(2*fail, lastJoinRetry)
				continue
			}
			fail = joinRetry
		}
	}
}

// moved reports whether the agent's addresses differ from those last published.
func (d *Directory) moved() bool {
	if !d.serves() {
		return false
	}
	p := &d.published
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.Equal(p.addrs, d.host.Public())
}

// join joins the DHT, with as many retries as needed. A node that knows no peer
// waits for hints on the chain.
func (d *Directory) join(ctx context.Context) {
	if d.cfg.Names != nil && len(d.cfg.Seeds)+len(d.remembered()) == 0 {
		select {
		case <-d.hints.ready:
		case <-d.hints.news:
		case <-ctx.Done():
			return
		}
	}
	for wait := joinRetry; ; wait = min(2*wait, lastJoinRetry) {
		var err error
		switch {
		case d.host != nil:
			err = d.host.Bootstrap(ctx)
		case d.cfg.Names != nil && len(d.seeds())+len(d.remembered())+len(d.hinted()) == 0:
			err = fmt.Errorf("%w: no seed, and none on the chain", p2p.ErrUnreachable)
		}
		if err = errors.Join(err, d.calls.Bootstrap(ctx)); err == nil {
			close(d.joined)
			return
		}
		d.cfg.Log.Debug("cannot join the DHT, will retry", "err", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-d.hints.news:
		case <-ctx.Done():
			return
		}
	}
}

// offer answers with a new advertisement from now on. It may return
// ErrNoAddress.
func (d *Directory) offer(ctx context.Context) (*wire.Advertisement, error) {
	ad, err := d.advertisement(ctx)
	if err != nil {
		return ad, err
	}
	if c := d.cfg.Offer.Compute; c != nil {
		o := &wire.ComputeOffer{Agent: d.cfg.Self, Rate: c.Rate, Limits: c.Limits, Expires: ad.Record.Expires}
		if o.Sig, err = wire.Sign(d.cfg.Identity, o.Digest(d.cfg.Network)); err != nil {
			return nil, err
		}
		if err := o.Check(); err != nil {
			return nil, err
		}
		d.host.OfferCompute(o)
	}
	d.host.Offer(ad)
	return ad, nil
}

// WaitNetwork returns when the node is in the DHT, or with an error that wraps
// p2p.ErrUnreachable when ctx ends first.
func (d *Directory) WaitNetwork(ctx context.Context) error {
	select {
	case <-d.joined:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: no way into the DHT: %w", p2p.ErrUnreachable, ctx.Err())
	}
}

// published is what an agent has published since the last round.
type published struct {
	mu    sync.Mutex
	ad    bool
	addrs []string          // the published addresses
	holds map[wire.Key]bool // by point
	news  chan struct{}
}

func (p *published) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ad, p.holds = false, map[wire.Key]bool{}
}

// Serves records a message that this agent serves from now on.
func (d *Directory) Serves(point wire.Key) {
	p := &d.published
	p.mu.Lock()
	known := p.holds[point]
	p.mu.Unlock()
	if known {
		return
	}
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// publish publishes what an agent offers and holds, as far as it is not
// published yet. One failure does not stop the rest.
func (d *Directory) publish(ctx context.Context) error {
	p := &d.published
	p.mu.Lock()
	done := p.ad
	p.mu.Unlock()
	var errs []error
	if !done {
		ad, err := d.offer(ctx)
		if err != nil {
			d.cfg.Log.Warn("cannot advertise", "err", err)
			return err
		}
		err = d.host.Advertise(ctx, ad)
		p.mu.Lock()
		p.ad, p.addrs = err == nil, ad.Record.Addrs
		p.mu.Unlock()
		errs = append(errs, err)
	}
	due := map[wire.Key]wire.Grant{}
	if err := d.cfg.Offer.Served(ctx, func(point wire.Key, g wire.Grant) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.holds[point] {
			due[point] = g
		}
	}); err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	places := make(chan struct{}, 4)
	for point, g := range due {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			err := d.announce(ctx, g)
			mu.Lock()
			defer mu.Unlock()
			if errs = append(errs, err); err == nil {
				p.mu.Lock()
				p.holds[point] = true
				p.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// announce publishes that the message of a grant is held.
func (d *Directory) announce(ctx context.Context, g wire.Grant) error {
	rec, err := d.record(ctx)
	if err != nil {
		return err
	}
	h := &wire.Holding{Grant: g, Record: rec}
	if h.Sig, err = wire.Sign(d.cfg.Identity, h.Digest(d.cfg.Network)); err != nil {
		return err
	}
	return d.host.Announce(ctx, h)
}

// advertisement is what the agent offers now.
func (d *Directory) advertisement(ctx context.Context) (*wire.Advertisement, error) {
	rec, err := d.record(ctx)
	if err != nil {
		return nil, err
	}
	o := d.cfg.Offer
	services := o.Services
	if o.Compute != nil {
		services |= wire.Compute
	}
	ad := &wire.Advertisement{Agent: d.cfg.Self, Services: services, Rate: o.Rate, Limits: o.Limits, Record: rec}
	ad.Sig, err = wire.Sign(d.cfg.Identity, ad.Digest(d.cfg.Network))
	return ad, errors.Join(err, ad.Check())
}

// ErrNoAddress means that an agent has no address that others on its network
// would dial.
var ErrNoAddress = errors.New("no address that others can reach")

// record returns a new record: its sequence number is stored before it is
// signed, and increases even if the clock went back.
func (d *Directory) record(ctx context.Context) (rec wire.Record, err error) {
	now := time.Now()
	rec = wire.Record{Expires: now.Add(recordLife).Unix(), Addrs: d.host.Public()}
	if len(rec.Addrs) == 0 {
		return rec, fmt.Errorf("%w: it listens at %v", ErrNoAddress, d.host.Addrs())
	}
	err = d.cfg.Store.Update(ctx, func(tx engine.Tx) error {
		raw, err := tx.Get(bucketSeq, []byte{0})
		if err != nil {
			return err
		}
		if len(raw) == 8 {
			rec.Seq = binary.BigEndian.Uint64(raw) + 1
		}
		rec.Seq = max(rec.Seq, uint64(now.UnixMilli()))
		return tx.Put(bucketSeq, []byte{0}, binary.BigEndian.AppendUint64(nil, rec.Seq))
	})
	return rec, err
}

// sample looks up a random place.
func (d *Directory) sample(ctx context.Context) ([]p2p.Found, error) {
	var key [8]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	return d.Nearest(ctx, key, false)
}

// Nearest looks up the agents near a locator that deliver, and remembers them.
// With wide it also returns those around.
func (d *Directory) Nearest(ctx context.Context, l wire.Locator, wide bool) ([]p2p.Found, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if err := d.WaitNetwork(ctx); err != nil {
		return nil, err
	}
	found, err := d.calls.Nearest(ctx, l[:], wide)
	found = slices.DeleteFunc(found, func(f p2p.Found) bool { return f.Ad.Agent == d.cfg.Self || f.Ad.Services&wire.Delivery == 0 })
	d.roster.note(found, time.Now())
	return found, err
}

// Candidates looks up nodes that compute: at random places of the DHT, at most
// places of them, until enough are found. It returns those that answered, each once,
// and an error only if there are none.
func (d *Directory) Candidates(ctx context.Context, enough, places int) (list []p2p.Found, err error) {
	seen := map[wire.Key]bool{d.cfg.Self: true}
	for try := 0; try < places && len(list) < enough; try++ {
		var target [8]byte
		_, _ = rand.Read(target[:]) // never fails (crypto/rand)
		found, lost := d.Closest(ctx, target[:])
		if lost != nil {
			err = lost
			if ctx.Err() != nil {
				break
			}
			continue
		}
		for _, f := range found {
			if !seen[f.Ad.Agent] && f.Compute != nil {
				seen[f.Ad.Agent] = true
				list = append(list, f)
			}
		}
	}
	if len(list) == 0 && err == nil {
		err = p2p.ErrNotFound
	}
	if len(list) > 0 {
		err = nil
	}
	return list, err
}

// Joined reports whether the node is in the DHT.
func (d *Directory) Joined() bool {
	select {
	case <-d.joined:
		return true
	default:
		return false
	}
}

// Known is how many peers of the DHT the node knows.
func (d *Directory) Known() int { return d.calls.Known() }

// serves reports whether the node is an agent.
func (d *Directory) serves() bool { return d.cfg.Offer != nil }

// FindAgent asks the DHT what an agent offers: p2p.ErrNotFound.
func (d *Directory) FindAgent(ctx context.Context, agent wire.Key) (*wire.Advertisement, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if err := d.WaitNetwork(ctx); err != nil {
		return nil, err
	}
	return d.calls.Advertisement(ctx, agent)
}

// Closest returns active agents near a target, the closest first, or
// p2p.ErrUnreachable if none answers.
func (d *Directory) Closest(ctx context.Context, target []byte) ([]p2p.Found, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if err := d.WaitNetwork(ctx); err != nil {
		return nil, err
	}
	found, err := d.calls.Nearest(ctx, target, false)
	d.roster.note(slices.DeleteFunc(slices.Clone(found), func(f p2p.Found) bool { return f.Ad.Agent == d.cfg.Self }), time.Now())
	return found, err
}
