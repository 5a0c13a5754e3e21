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

// Stored reports what an agent stores for strangers, and its earnings.
type Stored struct {
	_        struct{} `cbor:",toarray"`
	Quotes   int64    `json:"quotes"`         // given, not used
	Messages int64    `json:"messages"`       // held now
	Bytes    uint64   `json:"bytes"`          // of them, on the disk
	Unpaid   uint64   `json:"unfunded_bytes"` // of copies whose funding is not confirmed
	Claims   int64    `json:"claims"`         // that are final
	Earned   wire.Sat `json:"earned_sat"`     // by them, before fees
	Pending  wire.Sat `json:"pending_sat"`    // claimed or claimable, not final
}

// of returns what one deal counts.
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

// weight returns the disk usage of a package: its copy, its funding in the
// state, and some overhead.
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

// delta returns what a change of an agent's deal adds; ok is false for other
// changes.
func delta(c engine.Change) (d Stored, ok bool) {
	if after, is := c.State.(deal.Agent); is {
		d, ok = of(&after), true
		if before, is := c.Before.(deal.Agent); is {
			d.sub(of(&before))
		}
	}
	return d, ok
}

// bucketSums stores the agent's sums, so that it need not read its deals at the
// start.
const bucketSums = "agent/sums"

// account updates the sums in the transaction that changes the deal.
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

// load limits what strangers can make an agent store: it has the sums, what is
// being received, and the shares of peers and networks in what is not paid for.
type load struct {
	mu      sync.Mutex
	sums    Stored
	uploads map[wire.Key]bool
	// askers maps the points of unpaid deals to the callers that requested
	// them; owed contains each caller's total, only Quotes and Unpaid. Both
	// start empty with the daemon.
	askers map[wire.Key]p2p.Caller
	owed   map[p2p.Caller]Stored
}

// The maximum shares of a peer and of a network in what an agent stores without
// pay.
const (
	peerShare    = 8
	networkShare = 2
)

// shares returns the accounts to which a caller's use is charged.
func shares(c p2p.Caller) map[p2p.Caller]uint64 {
	list := map[p2p.Caller]uint64{{Peer: c.Peer}: peerShare}
	if c.Network != "" {
		list[p2p.Caller{Network: c.Network}] = networkShare
	}
	return list
}

// charge charges what is requested under a point to its caller, from its
// contract's first change on.
func (l *load) charge(point wire.Key, c p2p.Caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.askers == nil {
		l.askers, l.owed = map[wire.Key]p2p.Caller{}, map[p2p.Caller]Stored{}
	}
	l.askers[point] = c
}

// forget undoes charge.
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

// maxQuotes is the maximum number of unused quotes. Each uses about 700 bytes
// until it is no longer valid.
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

// quote refuses if too many quotes are outstanding, in total or for the caller.
func (l *load) quote(c p2p.Caller) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sums.Quotes >= maxQuotes {
		return refuse(wire.Full, "too many unused quotes")
	}
	for who, share := range shares(c) {
		if l.owed[who].Quotes >= int64(maxQuotes/share) {
			return refuse(wire.Full, "too many unused quotes of yours")
		}
	}
	return nil
}

// upload allows one upload at a time under a point.
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

// reserve reserves room for a copy while it is received; free releases it, and
// the deal then counts itself.
func (l *load) reserve(point wire.Key, size uint64, p *deal.Policy) (free func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.sums
	switch {
	case p.MaxStored > 0 && (size > p.MaxStored || s.Bytes > p.MaxStored-size):
		return nil, refuse(wire.Full, "no room for this copy")
	case p.MaxUnfunded > 0 && (size > p.MaxUnfunded || s.Unpaid > p.MaxUnfunded-size):
		return nil, refuse(wire.Full, "too many bytes are stored and not paid for")
	}
	c, known := l.askers[point]
	if known && p.MaxUnfunded > 0 {
		for who, share := range shares(c) {
			// A first message may have any size.
			if owed := l.owed[who].Unpaid; owed > 0 && owed+size > p.MaxUnfunded/share {
				return nil, refuse(wire.Full, "too many of your bytes are stored and not paid for")
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

// Audit checks that the sums, in the database and in memory, match the deals,
// and that the index of claimable deals contains exactly those that can be
// claimed.
func (a *Agent) Audit(ctx context.Context) error {
	var want, kept Stored
	var errs []error
	if err := a.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
		wrong, err := a.claims.Indexed(tx, func(see func(engine.Ref, deal.Agent) error) error {
			return tx.Each(deal.KindAgent, true, func(ref engine.Ref, raw []byte) error {
				var s deal.Agent
				if err := wire.Unmarshal(raw, &s); err != nil {
					return err
				}
				want.add(of(&s))
				return see(ref, s)
			})
		})
		if err != nil {
			return err
		}
		errs = append(errs, wrong...)
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
