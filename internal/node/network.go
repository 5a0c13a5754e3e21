package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// How long what an agent publishes is valid, and when it publishes again.
const (
	recordLife   = 24 * time.Hour
	publishEvery = recordLife / 3
	// sampleEvery is how often a node looks around in the DHT, to know the
	// agents of more than one neighbourhood.
	sampleEvery = 10 * time.Minute
	// joinRetry is how long a node waits after it found no way into the DHT.
	joinRetry, lastJoinRetry = 500 * time.Millisecond, time.Minute
	// lookupPatience bounds a lookup and, before it, the wait for the DHT.
	lookupPatience = 20 * time.Second
)

// maxRoster bounds the agents that a node remembers.
const maxRoster = 512

// bucketRoster remembers agents: key → advertisement. They are seeds of the DHT
// after a restart. bucketSeq keeps the last sequence number published.
const (
	bucketRoster = "dht/agents"
	bucketSeq    = "dht/seq"
)

// roster is the agents that a node has met in lookups.
type roster struct {
	mu    sync.Mutex
	list  map[wire.Key]*met
	dirty bool
}

// met is an agent, where it lies in the DHT, and when it last answered.
type met struct {
	p2p.Found
	place [32]byte
	at    time.Time
}

// note remembers agents that answered just now.
func (r *roster) note(found []p2p.Found, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range found {
		place, err := p2p.Place(f.Ad.Agent)
		if err != nil {
			continue
		}
		if _, known := r.list[f.Ad.Agent]; !known && len(r.list) >= maxRoster {
			oldest := f.Ad.Agent
			for k, m := range r.list {
				if o := r.list[oldest]; o == nil || m.at.Before(o.at) {
					oldest = k
				}
			}
			delete(r.list, oldest)
		}
		r.list[f.Ad.Agent], r.dirty = &met{Found: f, place: place, at: now}, true
	}
}

func (r *roster) all() (list []*met) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.list {
		list = append(list, m)
	}
	return list
}

// seeds are the configured ways into the DHT, and the own agent.
func (n *Node) seeds() []string {
	list := slices.Clone(n.cfg.Seeds)
	if own := n.own.Load(); own != nil {
		list = append(list, *own...)
	}
	return list
}

// maxRemembered is how many agents of the roster are offered as seeds at once.
const maxRemembered = 16

// remembered are some agents of the roster, as seeds.
func (n *Node) remembered() (list []string) {
	all := n.roster.all() // in random order
	for _, m := range all[:min(len(all), maxRemembered)] {
		if id, err := p2p.PeerID(m.Ad.Agent); err == nil && len(m.Addrs) > 0 {
			list = append(list, fmt.Sprintf("%s/p2p/%s", m.Addrs[0], id))
		}
	}
	return list
}

// loadRoster reads what was remembered.
func (n *Node) loadRoster(ctx context.Context) error {
	n.roster.list = map[wire.Key]*met{}
	return n.store.View(ctx, func(tx engine.Tx) error {
		return tx.Scan(bucketRoster, nil, 0, func(_, raw []byte) error {
			var ad wire.Advertisement
			if err := wire.Unmarshal(raw, &ad); err != nil || ad.Check() != nil {
				return nil // only a memory
			}
			n.roster.note([]p2p.Found{{Ad: ad, Addrs: ad.Record.Addrs, Prefix: choose.Prefix(ad.Record.Addrs[0])}}, time.Time{})
			return nil
		})
	})
}

func (n *Node) saveRoster(ctx context.Context) error {
	n.roster.mu.Lock()
	dirty := n.roster.dirty
	n.roster.dirty = false
	n.roster.mu.Unlock()
	if !dirty {
		return nil
	}
	list := n.roster.all()
	return n.store.Update(ctx, func(tx engine.Tx) error {
		var old [][]byte
		if err := tx.Scan(bucketRoster, nil, 0, func(key, _ []byte) error {
			old = append(old, bytes.Clone(key))
			return nil
		}); err != nil {
			return err
		}
		for _, key := range old {
			if err := tx.Delete(bucketRoster, key); err != nil {
				return err
			}
		}
		for _, m := range list {
			raw, err := wire.Marshal(&m.Ad)
			if err != nil {
				return err
			}
			if err := tx.Put(bucketRoster, m.Ad.Agent[:], raw); err != nil {
				return err
			}
		}
		return nil
	})
}

// tend keeps the node in the DHT until ctx ends: an agent publishes what it
// offers and holds, and everybody looks around from time to time.
func (n *Node) tend(ctx context.Context) {
	publish, sample := time.NewTicker(publishEvery), time.NewTicker(sampleEvery)
	defer publish.Stop()
	defer sample.Stop()
	again := time.NewTimer(0) // when something is to be published
	defer again.Stop()
	fail := joinRetry
	for {
		select {
		case <-ctx.Done():
			return
		case <-publish.C:
			n.published.clear()
			again.Reset(0)
		case <-n.published.news:
			again.Reset(0)
		case <-sample.C:
			if n.moved() {
				n.published.clear()
				again.Reset(0)
			}
			n.running.Go(func() {
				if _, err := n.sample(ctx); err != nil {
					n.log.Debug("no look around", "err", err)
				}
				if err := n.saveRoster(ctx); err != nil && ctx.Err() == nil {
					n.log.Warn("agents not remembered", "err", err)
				}
			})
		case <-again.C:
			if !n.IsAgent() {
				continue
			}
			if err := n.publish(ctx); err != nil && ctx.Err() == nil {
				n.log.Debug("not published, will be tried again", "err", err, "in", fail)
				again.Reset(fail)
				fail = min(2*fail, lastJoinRetry)
				continue
			}
			fail = joinRetry
		}
	}
}

// moved reports whether the agent listens elsewhere than it last published.
func (n *Node) moved() bool {
	if !n.IsAgent() {
		return false
	}
	p := &n.published
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.Equal(p.addrs, n.host.Public())
}

// join enters the DHT, however often it takes. Who knows nobody waits for what
// the chain says.
func (n *Node) join(ctx context.Context) {
	if n.names != nil && len(n.cfg.Seeds)+len(n.remembered()) == 0 {
		select {
		case <-n.hints.ready:
		case <-n.hints.news:
		case <-ctx.Done():
			return
		}
	}
	for wait := joinRetry; ; wait = min(2*wait, lastJoinRetry) {
		var err error
		switch {
		case n.host != nil:
			err = n.host.Bootstrap(ctx)
		case n.names != nil && len(n.seeds())+len(n.remembered())+len(n.hinted()) == 0:
			err = fmt.Errorf("%w: no seed, and none on the chain", p2p.ErrUnreachable)
		}
		if err = errors.Join(err, n.calls.Bootstrap(ctx)); err == nil {
			close(n.joined)
			return
		}
		n.log.Debug("not in the DHT, will be tried again", "err", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-n.hints.news:
		case <-ctx.Done():
			return
		}
	}
}

// offer answers with a fresh advertisement from now on.
func (n *Node) offer(ctx context.Context) (*wire.Advertisement, error) {
	ad, err := n.advertisement(ctx)
	if err == nil {
		n.host.Offer(ad)
	}
	return ad, err
}

// WaitNetwork returns when the node is in the DHT, or with an error that wraps
// p2p.ErrUnreachable when ctx ends first.
func (n *Node) WaitNetwork(ctx context.Context) error {
	select {
	case <-n.joined:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: no way into the DHT: %w", p2p.ErrUnreachable, ctx.Err())
	}
}

// published is what an agent has published since the last round.
type published struct {
	mu    sync.Mutex
	ad    bool
	addrs []string          // that stand in it
	holds map[wire.Key]bool // by point
	news  chan struct{}
}

func (p *published) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ad, p.holds = false, map[wire.Key]bool{}
}

// change notices an agent's message that is served from now on.
func (p *published) change(c engine.Change) {
	after, ok := c.State.(deal.Agent)
	if !ok || !after.Serves() {
		return
	}
	p.mu.Lock()
	known := p.holds[after.Quote.Point]
	p.mu.Unlock()
	if known {
		return
	}
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// publish puts into the DHT what an agent offers and holds, as far as it is not
// there yet. What fails does not keep the rest from being published.
func (n *Node) publish(ctx context.Context) error {
	p := &n.published
	p.mu.Lock()
	done := p.ad
	p.mu.Unlock()
	var errs []error
	if !done {
		ad, err := n.offer(ctx)
		if err != nil {
			n.log.Warn("nothing is advertised", "err", err)
			return err
		}
		err = n.host.Advertise(ctx, ad)
		p.mu.Lock()
		p.ad, p.addrs = err == nil, ad.Record.Addrs
		p.mu.Unlock()
		errs = append(errs, err)
	}
	due := map[wire.Key]wire.Grant{}
	if err := n.store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(deal.KindAgent, false, func(_ engine.Ref, raw []byte) error {
			var a deal.Agent
			if err := wire.Unmarshal(raw, &a); err != nil {
				return nil // the engine tells of it
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if a.Serves() && !p.holds[a.Quote.Point] {
				due[a.Quote.Point] = a.Package.Grant
			}
			return nil
		})
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
			err := n.announce(ctx, g)
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
func (n *Node) announce(ctx context.Context, g wire.Grant) error {
	rec, err := n.record(ctx)
	if err != nil {
		return err
	}
	h := &wire.Holding{Grant: g, Record: rec}
	if h.Sig, err = wire.Sign(n.identity, h.Digest(n.cfg.Network)); err != nil {
		return err
	}
	return n.host.Announce(ctx, h)
}

// advertisement is what the agent offers now.
func (n *Node) advertisement(ctx context.Context) (*wire.Advertisement, error) {
	rec, err := n.record(ctx)
	if err != nil {
		return nil, err
	}
	p, services := n.cfg.Policy, wire.Delivery
	if n.cfg.Banking != nil {
		services |= wire.Banking
	}
	ad := &wire.Advertisement{Agent: n.self, Services: services, Rate: p.Rate, Limits: wire.Limits{Size: p.MaxSize, Blocks: p.MaxBlocks}, Record: rec}
	ad.Sig, err = wire.Sign(n.identity, ad.Digest(n.cfg.Network))
	return ad, errors.Join(err, ad.Check())
}

// ErrNoAddress: an agent listens at no address that others on its network would
// dial.
var ErrNoAddress = errors.New("no address that others can reach")

// record is fresh: its sequence number is kept before it is signed, and grows
// also where the clock went back.
func (n *Node) record(ctx context.Context) (rec wire.Record, err error) {
	now := time.Now()
	rec = wire.Record{Expires: now.Add(recordLife).Unix(), Addrs: n.host.Public()}
	if len(rec.Addrs) == 0 {
		return rec, fmt.Errorf("%w: it listens at %v", ErrNoAddress, n.host.Addrs())
	}
	err = n.store.Update(ctx, func(tx engine.Tx) error {
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
func (n *Node) sample(ctx context.Context) ([]p2p.Found, error) {
	var key [8]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	return n.nearest(ctx, key, false)
}

// nearest looks up the agents near a locator and remembers them.
func (n *Node) nearest(ctx context.Context, l wire.Locator, wide bool) ([]p2p.Found, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	if err := n.WaitNetwork(ctx); err != nil {
		return nil, err
	}
	found, err := n.calls.Nearest(ctx, l[:], wide)
	found = slices.DeleteFunc(found, func(f p2p.Found) bool { return f.Ad.Agent == n.self || f.Ad.Services&wire.Delivery == 0 })
	n.roster.note(found, time.Now())
	return found, err
}

// Joined reports whether the node is in the DHT.
func (n *Node) Joined() bool {
	select {
	case <-n.joined:
		return true
	default:
		return false
	}
}

// Known is how many peers of the DHT the node knows.
func (n *Node) Known() int { return n.calls.Known() }

// IsAgent reports whether the node serves others.
func (n *Node) IsAgent() bool { return n.cfg.Policy != nil }

// FindAgent asks the DHT what an agent offers: p2p.ErrNotFound.
func (n *Node) FindAgent(ctx context.Context, agent wire.Key) (*wire.Advertisement, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	if err := n.WaitNetwork(ctx); err != nil {
		return nil, err
	}
	return n.calls.Advertisement(ctx, agent)
}

// neighbourhood chooses where a message is kept: the nonce ν whose agents are
// best as far as the node knows, and of those that are active there the ones to
// ask for a quote: all that would take it.
func (n *Node) neighbourhood(ctx context.Context, payload wire.Hash, size uint64, l *Letter) (nonce uint64, list []deal.Candidate, err error) {
	locator := func(nonce uint64) wire.Locator { return seal.MessageKey(payload, nonce).Locator() }
	if len(n.roster.all()) < l.Agents {
		_, _ = n.nearest(ctx, locator(0), false) // what it finds counts
	}
	nonces := n.rank(locator, size, l)
	active, fit := 0, 0
	for try := range 4 {
		wide := try > 0
		if try > 1 {
			if active >= l.Agents {
				break // they are there, and do not take it
			}
			// A network that is just forming has more agents in a moment.
			select {
			case <-time.After(time.Duration(try) * 500 * time.Millisecond):
			case <-ctx.Done():
				return 0, nil, ctx.Err()
			}
		}
		for _, nonce := range nonces[:min(len(nonces), 3)] {
			var found []p2p.Found
			if found, err = n.nearest(ctx, locator(nonce), wide); err != nil {
				continue // another place may be better off
			}
			fits := n.fitting(found, size, l)
			active, fit = max(active, len(found)), max(fit, len(fits))
			if offers := n.offers(fits, size, l); len(fits) >= l.Agents && n.affordable(offers, l) {
				for _, f := range fits {
					list = append(list, deal.Candidate{Agent: f.Ad.Agent, Addrs: f.Addrs, Prefix: f.Prefix})
				}
				return nonce, list, nil
			}
		}
	}
	if active == 0 && err != nil {
		return 0, nil, err
	}
	return 0, nil, fmt.Errorf("%w: of %d active agents near the message, %d take %d bytes for %d blocks at a price under the cap; %d are wanted",
		deal.ErrTooFewAgents, active, fit, size, l.Blocks, l.Agents)
}

// fitting are those that take a letter, by their advertisements, at a price
// under its cap.
func (n *Node) fitting(found []p2p.Found, size uint64, l *Letter) (list []p2p.Found) {
	for _, f := range found {
		price, err := n.price(&f, size, l)
		if err == nil && size <= f.Ad.Limits.Size && l.Blocks <= f.Ad.Limits.Blocks && price <= l.MaxCost {
			list = append(list, f)
		}
	}
	return list
}

func (n *Node) price(f *p2p.Found, size uint64, l *Letter) (wire.Sat, error) {
	price, err := wire.StoragePrice(f.Ad.Rate, size, l.Blocks, n.margins.BlocksPerDay)
	return price.Sat(), err
}

func (n *Node) offers(fits []p2p.Found, size uint64, l *Letter) (list []choose.Offer) {
	for _, f := range fits {
		price, _ := n.price(&f, size, l) // it has one, or it would not fit
		list = append(list, choose.Offer{Agent: f.Ad.Agent, Value: price, Prefix: f.Prefix})
	}
	return list
}

// affordable reports whether some of the offers stay under the letter's cap.
func (n *Node) affordable(offers []choose.Offer, l *Letter) bool {
	within := func(p []int) bool { return l.Shape == wire.OneOfMany || choose.Sum(offers, p) <= l.MaxCost }
	return within(choose.Pick(offers, l.Agents, wire.Hash{}, within))
}

// rank orders nonces by what the agents around their locators would take, as
// far as the node has met them. Where it knows no more than one neighbourhood,
// they are all alike.
func (n *Node) rank(locator func(uint64) wire.Locator, size uint64, l *Letter) []uint64 {
	all := n.roster.all()
	now := time.Now().Unix()
	all = slices.DeleteFunc(all, func(m *met) bool { return m.Ad.Record.Current(now) != nil })
	if len(all) <= p2p.Width {
		return []uint64{0}
	}
	type choice struct {
		nonce uint64
		cost  wire.Sat
	}
	var list []choice
	for nonce := range uint64(seal.MaxNonce + 1) {
		at := p2p.PlaceOf(locator(nonce))
		slices.SortFunc(all, func(a, b *met) int { return p2p.Nearer(at, a.place, b.place) })
		var near []p2p.Found
		for _, m := range all[:p2p.Width] {
			near = append(near, m.Found)
		}
		offers := n.offers(n.fitting(near, size, l), size, l)
		if best := choose.Pick(offers, l.Agents, wire.Hash{}, nil); len(best) == l.Agents {
			list = append(list, choice{nonce, choose.Sum(offers, best)})
		}
	}
	slices.SortStableFunc(list, func(a, b choice) int { return cmp.Compare(a.cost, b.cost) })
	nonces := make([]uint64, 0, len(list)+1)
	for _, c := range list {
		nonces = append(nonces, c.nonce)
	}
	if len(nonces) == 0 {
		nonces = append(nonces, 0) // those met are too dear or too small: others may be there
	}
	return nonces
}

// Closest are active agents near a target, the closest first: p2p.ErrUnreachable
// where nobody answers.
func (n *Node) Closest(ctx context.Context, target []byte) ([]p2p.Found, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	if err := n.WaitNetwork(ctx); err != nil {
		return nil, err
	}
	found, err := n.calls.Nearest(ctx, target, false)
	n.roster.note(slices.DeleteFunc(slices.Clone(found), func(f p2p.Found) bool { return f.Ad.Agent == n.self }), time.Now())
	return found, err
}
