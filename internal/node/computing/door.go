package computing

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

var (
	errNoJob   = wire.Refuse(wire.Unknown, "no such job")
	errNotYour = wire.Refuse(wire.Unknown, "no such job") // a stranger must not learn whether there is
)

func refuseBad(err error) error { return wire.Refuse(wire.BadRequest, "%w", err) }

// decode decodes a request, or refuses it.
func decode[T any, M interface {
	*T
	wire.Limited
}](b []byte) (M, error) {
	m := M(new(T))
	if err := wire.UnmarshalPeer(b, m); err != nil {
		return nil, refuseBad(err)
	}
	return m, nil
}

// Call implements p2p.Jobs.
func (c *Computing) Call(ctx context.Context, from p2p.Caller, kind uint8, body []byte) ([]byte, error) {
	if !c.Works() {
		return nil, wire.Refuse(wire.Unknown, "this node works for no jobs")
	}
	if err := c.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	if kind == CallSheets {
		s, err := decode[Sheets](body)
		if err != nil {
			return nil, err
		}
		return nil, c.deal(ctx, s)
	}
	s, err := decode[Signed](body)
	if err != nil {
		return nil, err
	}
	digest := CallDigest(s.Job, kind, c.cfg.Self, s.Body)
	if kind == CallOffer {
		o, err := decode[Offer](s.Body)
		if err != nil {
			return nil, err
		}
		if o.Terms.ID() != s.Job || o.Terms.Buyer.Verify(digest, s.Sig) != nil {
			return nil, wire.Refuse(wire.BadRequest, "not signed by the job's buyer")
		}
		return nil, c.accept(ctx, o)
	}
	n, r, err := c.job(ctx, s.Job)
	if err != nil {
		return nil, err
	}
	buyer := n.Terms.Buyer.Verify(digest, s.Sig) == nil
	member := slices.ContainsFunc(r.Peers, func(p wire.Peer) bool {
		id, err := p2p.PeerID(p.Key)
		return err == nil && id == from.Peer
	})
	if !buyer && !member {
		return nil, errNotYour
	}
	if kind == CallVerdict {
		if !buyer {
			return nil, errNotYour
		}
		v, err := decode[job.Verdict](s.Body)
		if err != nil {
			return nil, err
		}
		return nil, c.judge(s.Job, v)
	}
	a, err := decode[Ask](s.Body)
	if err != nil {
		return nil, err
	}
	var out wire.Limited
	switch {
	case kind == CallRead && (buyer || a.Part <= PartPrefix):
		out, err = c.read(s.Job, n, r, a, from)
	case kind == CallStatus && buyer:
		out, err = c.status(ctx, s.Job, n, a.Epoch)
	case kind == CallProofs && buyer:
		p := new(Proofs)
		out = p
		err = c.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
			p.List, err = proofsIn(tx, s.Job)
			return err
		})
		for size := 0; len(p.List) > 0; { // as many as fit
			size = 0
			for i := range p.List {
				size += len(p.List[i].Body) + 16
			}
			if size+64 <= p.MaxSize() {
				break
			}
			p.List = p.List[:len(p.List)-1]
		}
	default:
		err = wire.Refuse(wire.BadRequest, "no request of kind %d", kind)
	}
	if err != nil {
		return nil, err
	}
	return wire.Marshal(out)
}

// job returns a job of this node, which is not pruned.
func (c *Computing) job(ctx context.Context, id wire.Hash) (n job.Node, r *record, err error) {
	err = c.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
		r, err = recordIn(tx, id)
		return err
	})
	if err == nil && r == nil {
		err = errNoJob
	}
	if err != nil {
		return n, nil, err
	}
	s, err := c.cfg.Engine.State(ctx, refOf(id))
	if errors.Is(err, engine.ErrNoContract) {
		return n, nil, errNoJob
	}
	if err != nil {
		return n, nil, err
	}
	return s.(job.Node), r, nil
}

// accept checks an offer and creates this node's part in the job. The same offer again
// changes nothing.
func (c *Computing) accept(ctx context.Context, o *Offer) error {
	id := o.Terms.ID()
	c.making.Lock()
	defer c.making.Unlock()
	if _, _, err := c.job(ctx, id); !errors.Is(err, errNoJob) {
		return err // it is here, or it cannot be read
	}
	f := new(job.File)
	if err := wire.Unmarshal(o.File, f); err != nil {
		return refuseBad(err)
	}
	if err := f.Check(); err != nil {
		return refuseBad(err)
	}
	if f.Digest() != o.Terms.File {
		return wire.Refuse(wire.BadRequest, "the job file is not that of the terms")
	}
	if o.Peers[o.Party].Key != c.cfg.Self {
		return wire.Refuse(wire.BadRequest, "party %d is another node", o.Party)
	}
	y, terms, err := c.cfg.Banks.PayeeBank(ctx, o.Bank)
	if errors.Is(err, engine.ErrNoContract) {
		return wire.Refuse(wire.Unknown, "no such bank")
	}
	if err != nil {
		return err
	}
	if err := c.Takes(&o.Terms, f, o.Party, &y, &terms); err != nil {
		return err
	}
	if err := c.blobs(f); err != nil {
		return err
	}
	n, err := job.NewNode(o.Terms, o.Party, job.PartyKey(c.cfg.Identity, o.Bank))
	if err != nil {
		return refuseBad(err)
	}
	n.Chain.Tip = c.cfg.Engine.Position().Height
	// A bank pays for one job, also if that one has made room for others.
	if err := c.cfg.Store.View(ctx, func(tx engine.Tx) error { return unused(tx, o.Bank, id) }); err != nil {
		return err
	}
	if err := c.room(ctx); err != nil {
		return err
	}
	// First the bank, so that no penny of the job ever counts as credit. One that is
	// tied and has no job, after a crash, pays for the same job once it is offered again.
	if _, err := c.cfg.Engine.Tell(ctx, engine.Ref{Kind: bank.KindPayee, ID: o.Bank}, bank.Tied{}); err != nil {
		return err
	}
	r := &record{File: *f, Bank: o.Bank, Pennies: o.Terms.Parties[o.Party].Pennies, Peers: o.Peers, At: time.Now().UnixNano()}
	if err := os.MkdirAll(c.dir(id), 0o700); err != nil {
		return err
	}
	if err := c.cfg.Engine.CreateWith(ctx, func(tx engine.Tx) (engine.Creation, error) {
		err := unused(tx, o.Bank, id)
		if err == nil {
			err = errors.Join(r.keep(tx, id), tx.Put(bucketBank, o.Bank[:], id[:]), c.hold(tx, id, f, y.Expiry))
		}
		return engine.Creation{Ref: refOf(id), State: n}, err
	}); errors.Is(err, engine.ErrExists) {
		return wire.Refuse(wire.Closed, "this job was given up")
	} else if err != nil {
		return err
	}
	c.cfg.Log.Info("a job is accepted", "job", id, "party", o.Party, "epochs", o.Terms.Epochs)
	c.start(newParty(c, id, r))
	return nil
}

// unused refuses a bank that pays, or was to pay, for a job.
func unused(tx engine.Tx, bank, id wire.Hash) error {
	switch old, err := tx.Get(bucketBank, bank[:]); {
	case err != nil || old == nil:
		return err
	case wire.Hash(old) == id:
		return wire.Refuse(wire.Closed, "this job was given up")
	}
	return wire.Refuse(wire.BadRequest, "the bank pays for another job")
}

// Takes returns nil if the node works for a job on these terms, or a *wire.Refusal
// with the reason. y and t are the bank that pays it.
func (c *Computing) Takes(terms *job.Terms, f *job.File, party uint8, y *bank.Payee, t *wire.BankTerms) error {
	p, me := c.cfg.Policy, &terms.Parties[party]
	n := y.Ladder.N()
	switch {
	case y.At != terms.Bank(party) || me.Bank != job.BankDigest(t) || me.Nonce != t.Nonce || me.Last != t.Last || me.Pennies != n:
		return wire.Refuse(wire.BadRequest, "the bank is not the one of the terms")
	case y.Stop != bank.NotStopped || y.Spend != nil:
		return wire.Refuse(wire.Closed, "the bank is %s", y.State())
	case terms.Depth < y.Conf:
		return wire.Refuse(wire.BadRequest, "the job starts at depth %d, this bank pays from depth %d on", terms.Depth, y.Conf)
	case terms.Stop+wire.Height(y.Margins.Stop) > y.Expiry:
		return wire.Refuse(wire.TooLate, "the job stops at %d, the bank must be closed from %d on", terms.Stop, y.Expiry-wire.Height(y.Margins.Stop))
	case terms.Stop <= c.cfg.Engine.Position().Height:
		return wire.Refuse(wire.TooLate, "the job stops at %d", terms.Stop)
	case terms.Epochs > p.Epochs || f.Memory > p.Memory || f.State > p.State || f.Output > p.Output:
		return wire.Refuse(wire.TooBig, "%d epochs, memory %d, state %d, output %d; this node accepts at most %d, %d, %d, %d", terms.Epochs, f.Memory, f.State, f.Output,
			p.Epochs, p.Memory, p.State, p.Output)
	case f.Epochs < uint64(terms.Epochs):
		return wire.Refuse(wire.BadRequest, "%d epochs are paid, the program may run for %d", terms.Epochs, f.Epochs)
	}
	// The price is of the fuel that an epoch may use.
	least, err := wire.ComputePrice(p.Price, f.Fuel)
	if err != nil {
		return wire.Refuse(wire.TooBig, "%d units of fuel: %w", f.Fuel, err)
	}
	if y.Ladder.Paid(1) < least {
		return wire.Refuse(wire.TooBig, "a penny of %v, this node requires %v for %d units of fuel", y.Ladder.Paid(1), least, f.Fuel)
	}
	return nil
}

// blobs refuses a job whose program or input is not here whole, or too large.
func (c *Computing) blobs(f *job.File) error {
	if f.Program == nothing {
		return wire.Refuse(wire.BadRequest, "the program is empty")
	}
	for digest, most := range map[wire.Hash]uint64{f.Input: c.cfg.Policy.Input, f.Program: maxProgram} {
		if digest == nothing {
			continue
		}
		b, size, err := c.cfg.Blobs.Open(digest)
		if err != nil {
			return wire.Refuse(wire.Unknown, "blob %v is not here", digest)
		}
		if err := b.Close(); err != nil {
			return err
		}
		if size > most {
			return wire.Refuse(wire.TooBig, "blob %v has %d bytes, at most %d are accepted", digest, size, most)
		}
	}
	return nil
}

// nothing is the digest of an empty blob, which nobody needs to send.
var nothing = wire.Hash(blake3.Sum256(nil))

// hold keeps the blobs of a job until its banks have ended.
func (c *Computing) hold(tx engine.Tx, id wire.Hash, f *job.File, until wire.Height) error {
	for _, digest := range []wire.Hash{f.Program, f.Input} {
		if digest == nothing {
			continue
		}
		if err := c.cfg.Blobs.Hold(tx, digest, id, until); err != nil {
			return err
		}
	}
	return nil
}

// maxProgram is the largest program in bytes.
const maxProgram = 64 << 20

// room makes room for one more job, or refuses it; making is held. A job whose
// funding was not seen, the oldest first, makes room.
func (c *Computing) room(ctx context.Context) error {
	c.mu.Lock()
	var idle []*party
	jobs := len(c.parties)
	for _, p := range c.parties {
		idle = append(idle, p)
	}
	c.mu.Unlock()
	if jobs < c.cfg.Policy.Jobs {
		return nil
	}
	slices.SortFunc(idle, func(a, b *party) int { return cmp.Compare(a.record.At, b.record.At) })
	for _, p := range idle {
		s, err := c.cfg.Engine.State(ctx, refOf(p.id))
		if err != nil {
			return err
		}
		if n := s.(job.Node); n.On || n.Chain.Funding != nil {
			continue
		}
		return c.prune(ctx, p.id, p)
	}
	return wire.Refuse(wire.Full, "%d jobs, at most %d are accepted", jobs, c.cfg.Policy.Jobs)
}

// deal stores sheets. Their machine is told once a window is whole.
func (c *Computing) deal(ctx context.Context, s *Sheets) error {
	n, _, err := c.job(ctx, s.Job)
	if err != nil {
		return err
	}
	for i := range s.List {
		d := &s.List[i]
		w := &d.Window
		if int(w.Node) >= len(n.Terms.Parties) || d.Holder != n.Me {
			return wire.Refuse(wire.BadRequest, "a sheet for party %d of party %d", d.Holder, w.Node)
		}
		switch next := n.Dealt[w.Node] + 1; {
		case w.First < next:
			continue // it is here
		case w.First > next:
			return wire.Refuse(wire.BadRequest, "a window from %d, the next is from %d", w.First, next)
		}
		// No honest buyer deals more (spec/job.md §2), and sheets take the disk.
		if b := n.Certified(); !job.MayDeal(&n.Terms, w.First, b.Paid[w.Node], slices.Contains(b.Next, w.Node)) {
			return wire.Refuse(wire.TooBig, "a window from %d, party %d has earned %d pennies", w.First, w.Node, b.Paid[w.Node])
		}
		if err := d.Verify(&n.Terms); err != nil {
			return refuseBad(err)
		}
		if err := c.keepSheet(ctx, s.Job, d); err != nil {
			return err
		}
		state, err := c.cfg.Engine.State(ctx, refOf(s.Job))
		if err != nil {
			return err
		}
		n = state.(job.Node)
	}
	return nil
}

// keepSheet stores a verified sheet, and with the last one of a window tells the
// machine, in one transaction.
func (c *Computing) keepSheet(ctx context.Context, id wire.Hash, d *job.Dealt) error {
	c.making.Lock()
	defer c.making.Unlock()
	whole := false
	if err := c.cfg.Store.Update(ctx, func(tx engine.Tx) (err error) {
		whole, err = keepSheet(tx, id, d)
		return err
	}); err != nil || !whole {
		return err
	}
	// The sheets are durable. If the node dies here, the buyer sends them again.
	_, err := c.cfg.Engine.Tell(ctx, refOf(id), job.DealtTo{Window: d.Window})
	return err
}

// judge passes the buyer's verdict to the machine.
func (c *Computing) judge(id wire.Hash, v *job.Verdict) error {
	p := c.party(id)
	if p == nil {
		return errNoJob
	}
	if !v.Buyer {
		return wire.Refuse(wire.BadRequest, "not the buyer's")
	}
	// It is signed, so it may come from any other party.
	return p.add(job.Received{From: (p.me + 1) % uint8(len(p.record.Peers)), Msg: v})
}

// status says where a job is, with certificates from an epoch on.
func (c *Computing) status(ctx context.Context, id wire.Hash, n job.Node, from uint32) (*Status, error) {
	s := &Status{Attempt: n.Attempt, Paused: n.Paused, Held: n.Held, Dealt: n.Dealt}
	if n.Last != nil {
		s.Epoch = n.Last.Body.Epoch
	}
	if p := c.party(id); p != nil {
		s.Output = p.output.Load()
	}
	err := c.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
		s.Certs, err = certsIn(tx, id, from, maxCerts)
		return err
	})
	return s, err
}
