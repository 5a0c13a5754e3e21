package node

import (
	"context"
	"sync"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
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
func (n *Node) Stored(ctx context.Context) (s Stored, err error) {
	err = n.store.View(ctx, func(tx engine.Tx) error {
		s, err = sums(tx)
		return err
	})
	return s, err
}

// load bounds what strangers make an agent keep, so that none of it grows beyond
// what the operator allows: the sums, and what is being received.
type load struct {
	mu      sync.Mutex
	sums    Stored
	uploads map[wire.Key]bool
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
	}
}

// read takes the sums of a home.
func (l *load) read(ctx context.Context, s engine.Store) error {
	return s.View(ctx, func(tx engine.Tx) (err error) {
		l.sums, err = sums(tx)
		return err
	})
}

// quote refuses when too many quotes are out.
func (l *load) quote() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sums.Quotes >= maxQuotes {
		return refuse(wire.Busy, "too many quotes are out")
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
func (l *load) reserve(size uint64, p *deal.Policy) (free func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.sums
	switch {
	case p.MaxStored > 0 && (size > p.MaxStored || s.Bytes > p.MaxStored-size):
		return nil, refuse(wire.Full, "no room for this copy")
	case p.MaxUnfunded > 0 && (size > p.MaxUnfunded || s.Unpaid > p.MaxUnfunded-size):
		return nil, refuse(wire.Full, "too much is stored that nobody paid for yet")
	}
	s.Bytes, s.Unpaid = s.Bytes+size, s.Unpaid+size
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.Bytes, s.Unpaid = s.Bytes-size, s.Unpaid-size
	}, nil
}

// Plant writes an agent's deal with its small copy as if a peer had brought it:
// for benchmarks of agents that hold very many.
func Plant(tx engine.Tx, a deal.Agent, small []byte) error {
	raw, err := wire.Marshal(&a)
	if err != nil {
		return err
	}
	point, find := a.Quote.Point, wire.FindKey(a.Package.FetchKey)
	if err := account(tx, engine.Change{State: a}); err != nil {
		return err
	}
	if err := tx.Put(bucketCopies, point[:], small); err != nil {
		return err
	}
	if err := tx.Put(bucketFind, append(find[:], point[:]...), []byte{}); err != nil {
		return err
	}
	return tx.Save(agentRef(point), raw, a.Interest())
}
