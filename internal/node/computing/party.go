package computing

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/wire"
)

// party is this node's part in one job while the node runs. One goroutine, run,
// steps the machine and does what its state demands. Others only leave something for
// it.
type party struct {
	room   *Computing
	id     wire.Hash
	record *record
	me     uint8
	wake   chan struct{} // something is left for run
	output atomic.Uint64 // bytes of certified output that are stored
	steps  atomic.Uint64 // of the machine, committed
	gone   context.CancelFunc

	mu    sync.Mutex
	seed  wire.Hash  // the block of the job's seed; zeros before it is known
	box   *job.Inbox // nil before run has read the machine
	due   bool       // the box has something for the machine
	heard bool       // something came since the last tick
	owed  []func()   // what must be sent after a commit
	fault [job.MaxParties]faults

	// Of run only.
	states  states // with requests
	program program
	fetcher fetcher
	linked  bool
	now     job.Node // the machine after the step that made steps equal to at
	at      uint64
	quiet   int // ticks since something happened
	seen    progress
}

// maxOwed is the number of messages that wait for a commit.
const maxOwed = 4096

// faults counts what a party sent and the machine refused. A party that sends much of
// it is not heard for a while.
type faults struct {
	n     int
	since time.Time
}

const (
	maxFaults  = 100
	faultsTime = 10 * time.Second
)

func newParty(c *Computing, id wire.Hash, r *record) *party {
	p := &party{room: c, id: id, record: r, seed: r.Block, wake: make(chan struct{}, 1)}
	p.me = uint8(slices.IndexFunc(r.Peers, func(o wire.Peer) bool { return o.Key == c.cfg.Self }))
	p.states.dir, p.program.party, p.fetcher.party = c.dir(id), p, p
	return p
}

func (p *party) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// letter takes a letter from a peer; see p2p.Jobs. It runs in the goroutine that
// reads the peer's stream, so what it takes to verify costs nobody else's time.
func (p *party) letter(from wire.Key, body []byte) error {
	i := slices.IndexFunc(p.record.Peers, func(o wire.Peer) bool { return o.Key == from })
	if i < 0 {
		return errStranger
	}
	p.mu.Lock()
	f := &p.fault[i]
	if time.Since(f.since) > faultsTime {
		*f = faults{since: time.Now()}
	}
	deaf := f.n > maxFaults
	p.mu.Unlock()
	if deaf {
		return fmt.Errorf("%w: too much of it was refused", job.ErrMessage)
	}
	l := new(job.Letter)
	if err := wire.UnmarshalPeer(body, l); err != nil {
		return err
	}
	m, err := l.Message()
	if err != nil {
		return err
	}
	if err := p.add(job.Received{From: uint8(i), Msg: m}); err != nil {
		p.room.cfg.Log.Debug("a letter is refused", "job", p.id, "party", i, "err", err)
		if errors.Is(err, job.ErrMessage) {
			p.mu.Lock()
			f.n++
			p.mu.Unlock()
		}
	}
	return nil
}

// add takes a message for the machine. The error says why it changes nothing.
func (p *party) add(r job.Received) error {
	p.mu.Lock()
	box := p.box
	p.heard = true
	p.mu.Unlock()
	if box == nil {
		return nil // it comes again
	}
	due, err := box.Add(r)
	if due {
		p.mu.Lock()
		p.due = true
		p.mu.Unlock()
		p.poke()
	}
	return err
}

// owe leaves something to be sent.
func (p *party) owe(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.owed) < maxOwed {
		p.owed = append(p.owed, f)
	}
	p.poke()
}

// send carries out a message effect. It must not block.
func (p *party) send(e engine.Effect) {
	switch e := e.(type) {
	case job.Broadcast:
		p.post(e.Msg, p.others()...)
	case job.Send:
		p.post(e.Msg, e.To)
	case job.GiveShare:
		p.owe(func() { p.give(e) })
	case job.SendCerts:
		p.owe(func() { p.sendCerts(e) })
	}
}

func (p *party) others() (list []uint8) {
	for i := range p.record.Peers {
		if uint8(i) != p.me {
			list = append(list, uint8(i))
		}
	}
	return list
}

// post sends a message to parties.
func (p *party) post(m job.Message, to ...uint8) {
	l, err := job.NewLetter(m)
	if err != nil {
		p.room.cfg.Log.Error("a message cannot be encoded", "err", err)
		return
	}
	body, err := wire.Marshal(l)
	if err != nil {
		p.room.cfg.Log.Error("a message cannot be encoded", "err", err)
		return
	}
	for _, i := range to {
		if err := p.room.host.Letter(p.record.Peers[i].Key, p.id, body); err != nil {
			p.room.cfg.Log.Error("a letter cannot be sent", "err", err)
		}
	}
}

// give sends a share that was dealt.
func (p *party) give(e job.GiveShare) {
	ctx := context.Background()
	n, err := p.state(ctx)
	if err != nil {
		return
	}
	first := (e.K-1)/n.Terms.Window*n.Terms.Window + 1
	var d *job.Dealt
	err = p.room.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
		d, err = sheetIn(tx, p.id, e.To, first, (e.K-first)/job.SheetSize)
		return err
	})
	if err == nil && d == nil {
		err = job.ErrShare // the machine gives only what is dealt
	}
	var g *job.Give
	if err == nil {
		g, err = e.Give(&n.Terms, d, n.Key)
	}
	if err != nil {
		p.room.cfg.Log.Error("a share cannot be given", "job", p.id, "penny", e.K, "of", e.To, "err", err)
		return
	}
	p.post(g, e.To)
}

// maxCertsSent is the number of certificates that are sent at once. Who needs more asks
// again.
const maxCertsSent = 16

func (p *party) sendCerts(e job.SendCerts) {
	var list []job.Certificate
	if err := p.room.cfg.Store.View(context.Background(), func(tx engine.Tx) (err error) {
		list, err = certsIn(tx, p.id, e.From, maxCertsSent)
		return err
	}); err != nil {
		p.room.cfg.Log.Error("certificates cannot be read", "job", p.id, "err", err)
		return
	}
	for i := range list {
		p.post(&list[i], e.To)
	}
}

func (p *party) state(ctx context.Context) (job.Node, error) {
	s, err := p.room.cfg.Engine.State(ctx, refOf(p.id))
	if err != nil {
		return job.Node{}, err
	}
	return s.(job.Node), nil
}

// machine is state for run, which mostly has it from its own last step.
func (p *party) machine(ctx context.Context) (job.Node, error) {
	at := p.steps.Load()
	if p.at == at && p.box != nil {
		return p.now, nil
	}
	n, err := p.state(ctx)
	if err == nil {
		p.committed(n, at)
	}
	return n, err
}

// committed takes note of the machine after a number of steps.
func (p *party) committed(n job.Node, steps uint64) {
	p.now, p.at = n, steps
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.box == nil {
		p.box = job.NewInbox(n)
	} else if p.due = p.box.Reset(n); p.due {
		p.poke()
	}
}

// tell steps the machine.
func (p *party) tell(ctx context.Context, ev job.Event) error {
	before := p.steps.Load()
	s, err := p.room.cfg.Engine.Tell(ctx, refOf(p.id), ev)
	if err == nil {
		p.committed(s.(job.Node), before+1) // unless others have stepped it meanwhile
	}
	return err
}

// run works for the job until ctx ends or the job is over and pruned.
func (p *party) run(ctx context.Context) {
	defer func() {
		p.fetcher.stop() // it uses the program
		p.program.close()
		if p.linked {
			p.room.link(p.record.Peers, -1)
		}
	}()
	timer := time.NewTimer(p.tick())
	defer timer.Stop()
	ticked := false
	for ctx.Err() == nil {
		err := p.step(ctx, ticked)
		if err == nil {
			err = p.follow(ctx)
		}
		switch {
		case errors.Is(err, errOver):
			return
		case err != nil && ctx.Err() == nil:
			p.room.cfg.Log.Warn("a job does not go on, will retry", "job", p.id, "err", err)
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
		}
		ticked = false
		select {
		case <-p.wake:
		case <-timer.C:
			ticked = true
			timer.Reset(p.tick())
		case <-ctx.Done():
		}
	}
}

// tick returns the time to the next tick. Ticks become longer while nothing happens,
// by the same law on every node, so that a program that runs for an hour costs no
// thousand steps of the agreement. Twice the time is never more than twice the ticks.
func (p *party) tick() time.Duration {
	t := p.room.cfg.Policy.Tick
	if t == 0 {
		t = DefaultTick
	}
	const even, most = 20, 20
	return t + t*time.Duration(min(max(p.quiet-even, 0), even*(most-1)))/even
}

// progress is what changes when something happens.
type progress struct {
	epoch, attempt, held, running uint32
	views                         [2]uint32
	dealt                         uint64
}

// step passes what has come to the machine. Messages that wait come with whatever
// else happens, in one commit.
func (p *party) step(ctx context.Context, ticked bool) error {
	n, err := p.machine(ctx)
	if err != nil {
		return err
	}
	var list []job.Event
	if ev := p.program.result(); ev != nil {
		list = append(list, ev)
	}
	if ev := p.fetcher.result(); ev != nil {
		list = append(list, *ev)
	}
	if ticked {
		p.quiet++
		p.mu.Lock()
		heard := p.heard
		p.heard = false
		p.mu.Unlock()
		// A machine that is done still answers, once in a tick.
		if !n.Idle() || n.On && heard {
			list = append(list, job.Tick{})
		}
	}
	p.mu.Lock()
	due := p.due
	p.mu.Unlock()
	if len(list) == 0 && due {
		list = append(list, nil)
	}
	for _, ev := range list {
		if err := p.tell(ctx, p.box.With(ev)); errors.Is(err, engine.ErrContract) {
			p.room.cfg.Log.Error("an event of a job is refused", "job", p.id, "event", fmt.Sprintf("%T", ev), "err", err)
			p.committed(p.now, p.at) // the inbox goes back to it
		} else if err != nil {
			return err
		}
	}
	p.mu.Lock()
	owed := p.owed
	p.owed = nil
	p.mu.Unlock()
	for _, f := range owed {
		f()
	}
	return nil
}

// certified returns the last certified epoch; 0 before the first.
func certified(n *job.Node) uint32 {
	if n.Last == nil {
		return 0
	}
	return n.Last.Body.Epoch
}

// errOver means that the job is over and pruned.
var errOver = errors.New("the job is over")

// follow does what the machine's state demands.
func (p *party) follow(ctx context.Context) error {
	n, err := p.machine(ctx)
	if err != nil {
		return err
	}
	now := progress{certified(&n), n.Attempt, n.Held, n.Running, [2]uint32{n.Stages[0].View, n.Stages[1].View}, 0}
	for _, d := range n.Dealt {
		now.dealt += uint64(d)
	}
	if now != p.seen {
		p.seen, p.quiet = now, 0
	}
	if n.On && !p.linked {
		p.linked = true
		p.room.link(p.record.Peers, 1)
	}
	over, err := p.bank(ctx, &n)
	if err != nil {
		return err
	}
	if over && n.Interest().Done {
		return errors.Join(p.room.prune(ctx, p.id, nil), errOver)
	}
	if err := p.block(ctx, &n); err != nil {
		return err
	}
	p.fetcher.cancel(&n)
	if err := p.program.follow(ctx, &n); err != nil {
		return err
	}
	return p.fetcher.follow(ctx, &n)
}

// bank passes pennies on that the bank did not take when they were earned, and tells
// the machine if the bank takes no more. over is true once nothing can happen to the
// bank.
func (p *party) bank(ctx context.Context, n *job.Node) (over bool, err error) {
	s, err := p.room.cfg.Engine.State(ctx, engine.Ref{Kind: bank.KindPayee, ID: p.record.Bank})
	switch {
	case errors.Is(err, engine.ErrNoContract) && !n.Chain.Ended:
		return true, p.tell(ctx, job.Ended{})
	case errors.Is(err, engine.ErrNoContract):
		return true, nil
	case err != nil:
		return false, err
	}
	y := s.(bank.Payee)
	if y.At != n.Terms.Bank(n.Me) {
		return true, nil // the id is that of another bank now
	}
	ends := y.Spend != nil || y.Joined != nil || y.Offer != nil || y.Alone.Live() || y.Gone || y.Stop == bank.StopOwner || y.Stop == bank.StopPayer || y.Stop == bank.StopLock
	if ends && !n.Chain.Ended {
		if err := p.tell(ctx, job.Ended{}); err != nil {
			return false, err
		}
	}
	if n.Held > y.Count() && (y.Taking() == nil || y.Stop == bank.StopRestored) && !ends {
		var list []engine.Delivery
		if err := p.room.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
			list, err = p.room.cfg.Banks.Earned(tx, p.record.Bank, n.Known)
			return err
		}); err != nil {
			return false, err
		}
		for _, d := range list {
			if _, err := p.room.cfg.Engine.Tell(ctx, d.Ref, d.Event); err != nil && !errors.Is(err, engine.ErrContract) {
				return false, err
			}
		}
	}
	return y.Interest().Done, nil
}

// block stores the hash of the block that contains the funding, once the job starts.
func (p *party) block(ctx context.Context, n *job.Node) error {
	if p.seedBlock() != (wire.Hash{}) || !n.On || n.Chain.Funding == nil {
		return nil
	}
	h, err := p.room.cfg.Chain.HashAt(ctx, n.Chain.Funding.Height)
	if err != nil {
		return err
	}
	return p.setBlock(ctx, wire.Hash(h))
}

// seedBlock is the block of the job's seed, as far as this node knows.
func (p *party) seedBlock() wire.Hash {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seed
}

func (p *party) useBlock(h wire.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seed = h
}

// setBlock stores the block of the job's seed.
func (p *party) setBlock(ctx context.Context, h wire.Hash) error {
	r := *p.record
	r.Block = h
	if err := p.room.cfg.Store.Update(ctx, func(tx engine.Tx) error { return r.keep(tx, p.id) }); err != nil {
		return err
	}
	p.useBlock(h)
	return nil
}

// dir is a job's directory.
func (c *Computing) dir(id wire.Hash) string { return filepath.Join(c.cfg.Dir, dirJobs, id.String()) }

// prune deletes all that is stored of a job but its machine. A job that makes room for
// another is not over: evicted is its party, which ends.
func (c *Computing) prune(ctx context.Context, id wire.Hash, evicted *party) error {
	if evicted != nil {
		evicted.gone()
	}
	if err := c.cfg.Store.Update(ctx, func(tx engine.Tx) error {
		return errors.Join(c.cfg.Blobs.Release(tx, id), forget(tx, id, evicted == nil))
	}); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.parties, id)
	c.mu.Unlock()
	return os.RemoveAll(c.dir(id))
}

// sweep deletes the directories of jobs that are pruned.
func (c *Computing) sweep(ctx context.Context) {
	list, err := os.ReadDir(filepath.Join(c.cfg.Dir, dirJobs))
	if err != nil {
		c.cfg.Log.Error("the files of jobs cannot be read", "err", err)
		return
	}
	for _, e := range list {
		var r *record
		err := c.cfg.Store.View(ctx, func(tx engine.Tx) error {
			id, err := hex.DecodeString(e.Name())
			if err == nil && len(id) == len(wire.Hash{}) {
				r, err = recordIn(tx, wire.Hash(id))
			}
			return err
		})
		if err == nil && r == nil {
			err = os.RemoveAll(filepath.Join(c.cfg.Dir, dirJobs, e.Name()))
		}
		if err != nil {
			c.cfg.Log.Error("a job's files cannot be read", "job", e.Name(), "err", err)
		}
	}
}
