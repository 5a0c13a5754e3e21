package directory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// maxRoster is the maximum number of agents that a node remembers.
const maxRoster = 512

// bucketRoster remembers agents: key → advertisement. They are seeds of the DHT
// after a restart.
const bucketRoster = "dht/agents"

// roster contains the agents that a node has met in lookups.
type roster struct {
	mu    sync.Mutex
	list  map[wire.Key]*Met
	dirty bool
}

// Met is an agent that the node has met, and where it lies in the DHT.
type Met struct {
	p2p.Found
	Place [32]byte
	at    time.Time // when it last answered
}

// note remembers agents that have just answered.
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
		r.list[f.Ad.Agent], r.dirty = &Met{Found: f, Place: place, at: now}, true
	}
}

func (r *roster) all() (list []*Met) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.list {
		list = append(list, m)
	}
	return list
}

// seeds returns the configured seeds, and the node's own agent.
func (d *Directory) seeds() []string {
	list := slices.Clone(d.cfg.Seeds)
	if own := d.own.Load(); own != nil {
		list = append(list, *own...)
	}
	return list
}

// maxRemembered is how many agents of the roster are offered as seeds at once.
const maxRemembered = 16

// remembered are some agents of the roster, as seeds.
func (d *Directory) remembered() (list []string) {
	all := d.roster.all() // in random order
	for _, m := range all[:min(len(all), maxRemembered)] {
		if id, err := p2p.PeerID(m.Ad.Agent); err == nil && len(m.Addrs) > 0 {
			list = append(list, fmt.Sprintf("%s/p2p/%s", m.Addrs[0], id))
		}
	}
	return list
}

// load reads what was remembered.
func (d *Directory) load(ctx context.Context) error {
	d.roster.list = map[wire.Key]*Met{}
	return d.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Scan(bucketRoster, nil, 0, func(_, raw []byte) error {
			var ad wire.Advertisement
			if err := wire.Unmarshal(raw, &ad); err != nil || ad.Check() != nil {
				return nil // only a memory
			}
			d.roster.note([]p2p.Found{{Ad: ad, Addrs: ad.Record.Addrs, Prefix: choose.Prefix(ad.Record.Addrs[0])}}, time.Time{})
			return nil
		})
	})
}

// Save remembers the agents that were met, for the next start.
func (d *Directory) Save(ctx context.Context) error {
	d.roster.mu.Lock()
	dirty := d.roster.dirty
	d.roster.dirty = false
	d.roster.mu.Unlock()
	if !dirty {
		return nil
	}
	list := d.roster.all()
	return d.cfg.Store.Update(ctx, func(tx engine.Tx) error {
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

// Roster are the agents that the node has met, by key.
func (d *Directory) Roster() (list []wire.Advertisement) {
	for _, m := range d.roster.all() {
		list = append(list, m.Ad)
	}
	slices.SortFunc(list, func(a, b wire.Advertisement) int { return bytes.Compare(a.Agent[:], b.Agent[:]) })
	return list
}

// Met are the agents that the node has met, with their places, in random order.
func (d *Directory) Met() []*Met { return d.roster.all() }
