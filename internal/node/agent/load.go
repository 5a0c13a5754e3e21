package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// Stored is what an agent holds for strangers, and has earned.
type Stored struct {
	_        struct{} `cbor:",toarray"`
	Quotes   int64    `json:"quotes"`         // given, not used
	Messages int64    `json:"messages"`       // held now
	Bytes    uint64   `json:"bytes"`          // of them, on the disk
	Unpaid   uint64   `json:"unfunded_bytes"` // of those whose funding is not confirmed
	Claims   int64    `json:"claims"`         // that are final
	Earned   wire.Sat `json:"earned_sat"`     // by them, before fees
	Pending  wire.Sat `json:"pending_sat"`    // claimed or claimable, not final
}

// of is what one deal counts for.
func of(a *deal.Agent) (s Stored) {
	switch {
	case a.Package == nil && a.Phase() == deal.AgentQuoted:
		s.Quotes = 1
	case a.Package == nil || a.Dropped:
	default:
		s.Messages, s.Bytes = 1, weight(a.Package)
		if !a.Funded {
			s.Unpaid = s.Bytes
		}
	}
	switch phase := a.Phase(); {
	case phase == deal.AgentClaimed && a.Interest().Done:
		s.Claims, s.Earned = 1, a.Value
	case phase == deal.AgentClaimed || phase == deal.AgentReleased:
		s.Pending = a.Value
	}
	return s
}

// weight is what a package takes on the disk: its copy, its funding in the
// state, and some for the rest.
func weight(p *wire.Package) uint64 { return p.Section.Leaf.Size + 2*uint64(len(p.Funding)) + 8192 }

func (s *Stored) add(o Stored) {
	s.Quotes, s.Messages, s.Bytes, s.Unpaid = s.Quotes+o.Quotes, s.Messages+o.Messages, s.Bytes+o.Bytes, s.Unpaid+o.Unpaid
	s.Claims, s.Earned, s.Pending = s.Claims+o.Claims, s.Earned+o.Earned, s.Pending+o.Pending
}

// sub is add's inverse: unsigned sums wrap around and back.
func (s *Stored) sub(o Stored) {
	s.Quotes, s.Messages, s.Bytes, s.Unpaid = s.Quotes-o.Quotes, s.Messages-o.Messages, s.Bytes-o.Bytes, s.Unpaid-o.Unpaid
	s.Claims, s.Earned, s.Pending = s.Claims-o.Claims, s.Earned-o.Earned, s.Pending-o.Pending
}

// delta is what a change of an agent's deal adds; ok is false for others.
func delta(c engine.Change) (d Stored, ok bool) {
	if after, is := c.State.(deal.Agent); is {
		d, ok = of(&after), true
		if before, is := c.Before.(deal.Agent); is {
			d.sub(of(&before))
		}
	}
	return d, ok
}

// bucketSums keeps the agent's sums, so that none of its deals is read at the
// start.
const bucketSums = "agent/sums"

// account moves the sums in the transaction that moves the deal.
func account(tx engine.Tx, c engine.Change) error {
	d, ok := delta(c)
	if !ok || d == (Stored{}) {
		return nil
	}
	s, err := sums(tx)
	if err != nil {
		return err
	}
	s.add(d)
	raw, err := wire.Marshal(&s)
	if err != nil {
		return err
	}
	return tx.Put(bucketSums, []byte{0}, raw)
}

func sums(tx engine.Tx) (s Stored, err error) {
	raw, err := tx.Get(bucketSums, []byte{0})
	if err != nil || raw == nil {
		return s, err
	}
	return s, wire.Unmarshal(raw, &s)
}

// Stored reports on the agent.
func (a *Agent) Stored(ctx context.Context) (s Stored, err error) {
	err = a.cfg.Store.View(ctx, func(tx engine.Tx) error {
		s, err = sums(tx)
		return err
	})
	return s, err
}

// load bounds what strangers make an agent keep, so that none of it grows beyond
// what the operator allows: the sums, and what is being received; and of what
// nobody has paid for, the shares of peers and networks.
type load struct {
	mu      sync.Mutex
	sums    Stored
	uploads map[wire.Key]bool
	// askers are who asked for what is not paid for, by its point, and owed is
	// what each has so: only Quotes and Unpaid. They start anew with the daemon.
	askers map[wire.Key]p2p.Caller
	owed   map[p2p.Caller]Stored
}

// A peer has at most this part of what an agent keeps without pay, and a network
// that of several.
const (
	peerShare    = 8
	networkShare = 2
)

// shares are whose accounts a caller's debts are in.
func shares(c p2p.Caller) map[p2p.Caller]uint64 {
	list := map[p2p.Caller]uint64{{Peer: c.Peer}: peerShare}
	if c.Network != "" {
		list[p2p.Caller{Network: c.Network}] = networkShare
	}
	return list
}

// charge has what is asked for under a point count for who asks, from its
// contract's first change on.
func (l *load) charge(point wire.Key, c p2p.Caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.askers == nil {
		l.askers, l.owed = map[wire.Key]p2p.Caller{}, map[p2p.Caller]Stored{}
	}
	l.askers[point] = c
}

// forget takes charge back.
func (l *load) forget(point wire.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.askers, point)
}

// owe moves the accounts of a caller.
func (l *load) owe(c p2p.Caller, d Stored) {
	for who := range shares(c) {
		o := l.owed[who]
		o.Quotes, o.Unpaid = o.Quotes+d.Quotes, o.Unpaid+d.Unpaid
		if l.owed[who] = o; o == (Stored{}) {
			delete(l.owed, who)
		}
	}
}

// maxQuotes is how many unused quotes an agent keeps. Each takes some 700
// bytes until it is no longer valid.
const maxQuotes = 10_000

// change follows a contract's change.
func (l *load) change(c engine.Change) {
	if d, ok := delta(c); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.sums.add(d)
		after := c.State.(deal.Agent)
		if c, known := l.askers[after.Quote.Point]; known {
			l.owe(c, d)
			if now := of(&after); now.Quotes == 0 && now.Unpaid == 0 {
				delete(l.askers, after.Quote.Point)
			}
		}
	}
}

// read takes the sums of a home.
func (l *load) read(ctx context.Context, s engine.Store) error {
	return s.View(ctx, func(tx engine.Tx) (err error) {
		l.sums, err = sums(tx)
		return err
	})
}

// quote refuses when too many quotes are out, or too many that the caller asked
// for.
func (l *load) quote(c p2p.Caller) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sums.Quotes >= maxQuotes {
		return refuse(wire.Full, "too many quotes are out")
	}
	for who, share := range shares(c) {
		if l.owed[who].Quotes >= int64(maxQuotes/share) {
			return refuse(wire.Full, "too many of your quotes are not used")
		}
	}
	return nil
}

// upload lets one upload at a time happen under a point.
func (l *load) upload(point wire.Key) (free func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uploads[point] {
		return nil, refuse(wire.Busy, "this copy is being stored")
	}
	if l.uploads == nil {
		l.uploads = map[wire.Key]bool{}
	}
	l.uploads[point] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.uploads, point)
	}, nil
}

// reserve takes room for a copy while it is received; free gives it back, and
// the deal counts for itself from then on.
func (l *load) reserve(point wire.Key, size uint64, p *deal.Policy) (free func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.sums
	switch {
	case p.MaxStored > 0 && (size > p.MaxStored || s.Bytes > p.MaxStored-size):
		return nil, refuse(wire.Full, "no room for this copy")
	case p.MaxUnfunded > 0 && (size > p.MaxUnfunded || s.Unpaid > p.MaxUnfunded-size):
		return nil, refuse(wire.Full, "too much is stored that nobody paid for yet")
	}
	c, known := l.askers[point]
	if known && p.MaxUnfunded > 0 {
		for who, share := range shares(c) {
			// A first message may have any size.
			if owed := l.owed[who].Unpaid; owed > 0 && owed+size > p.MaxUnfunded/share {
				return nil, refuse(wire.Full, "too much of yours is stored and not paid for")
			}
		}
	}
	received := Stored{Bytes: size, Unpaid: size}
	s.add(received)
	if known {
		l.owe(c, received)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.sub(received)
		if known {
			var back Stored
			back.sub(received)
			l.owe(c, back)
		}
	}, nil
}

// Audit checks that the sums, in the database and in memory, are those of the deals,
// and that the index of what can be claimed has exactly those that can.
func (a *Agent) Audit(ctx context.Context) error {
	var want, kept Stored
	var errs []error
	if err := a.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
		claimable := map[string]bool{}
		if err := tx.Each(deal.KindAgent, true, func(ref engine.Ref, raw []byte) error {
			var s deal.Agent
			if err := wire.Unmarshal(raw, &s); err != nil {
				return err
			}
			want.add(of(&s))
			if k := a.claims.Key(ref, s); k != nil {
				claimable[string(k)] = true
			}
			return nil
		}); err != nil {
			return err
		}
		if err := tx.Scan(a.claims.Bucket, nil, 0, func(key, _ []byte) error {
			if !claimable[string(key)] {
				errs = append(errs, fmt.Errorf("it would claim %x", key))
			}
			delete(claimable, string(key))
			return nil
		}); err != nil {
			return err
		}
		if len(claimable) > 0 {
			errs = append(errs, fmt.Errorf("it misses %d claims", len(claimable)))
		}
		kept, err = sums(tx)
		return err
	}); err != nil {
		return err
	}
	a.load.mu.Lock()
	defer a.load.mu.Unlock()
	if kept != want || a.load.sums != want {
		errs = append(errs, fmt.Errorf("it counts %+v, remembers %+v, has %+v", kept, a.load.sums, want))
	}
	return errors.Join(errs...)
}
