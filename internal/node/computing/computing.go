// Package computing works for strangers' jobs (spec/job.md): it accepts offers, runs
// programs, agrees with the other parties over streams of letters, and passes the
// pennies that it earns to the node's banks.
package computing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Policy says which jobs a node works for.
type Policy struct {
	// Price is the least that an epoch's penny must be worth for each 10⁹ units of
	// fuel that the job allows the epoch.
	Price wire.Psat
	// Jobs is the maximum number of jobs at once. Of jobs that are not funded yet,
	// the oldest makes room.
	Jobs int
	// The largest limits of a job: memory, input, state and output in bytes, and
	// the number of epochs.
	Memory, Input, State, Output uint64
	Epochs                       uint32
	// Tick is the unit of the agreement's waiting times; 0 means DefaultTick.
	Tick time.Duration
}

// DefaultTick is long enough for a message and its answer.
const DefaultTick = 100 * time.Millisecond

// Engine is what the room needs of the engine.
type Engine interface {
	Position() chain.BlockRef
	State(context.Context, engine.Ref) (any, error)
	CreateWith(context.Context, func(engine.Tx) (engine.Creation, error)) error
	Tell(context.Context, engine.Ref, engine.Event) (any, error)
	TellWith(context.Context, engine.Ref, engine.Event, func(engine.Tx) error) (any, error)
}

// Coins refuses peers while the chain is being caught up with.
type Coins interface{ Ready(context.Context) error }

// Banks are the node's banks as payee.
type Banks interface {
	PayeeBank(ctx context.Context, id bank.ID) (bank.Payee, wire.BankTerms, error)
	Earned(tx engine.Tx, id bank.ID, p penny.Penny) ([]engine.Delivery, error)
}

// Blobs has the programs and inputs of jobs, by BLAKE3 digest; *blobs.Blobs is that.
// What a job holds stays until it is released.
type Blobs interface {
	Open(digest wire.Hash) (f *os.File, size uint64, err error)
	Hold(tx engine.Tx, digest, holder wire.Hash, until wire.Height) error
	Release(tx engine.Tx, holder wire.Hash) error
}

// Chain is the blocks of the active chain; a chain.Backend.
type Chain interface {
	HashAt(ctx context.Context, h wire.Height) (chainhash.Hash, error)
}

// Host carries letters and asks other nodes; a *p2p.Host under this node's identity.
type Host interface {
	Link(to wire.Peer, jobs int) error
	Letter(to wire.Key, job wire.Hash, body []byte) error
	JobCall(ctx context.Context, to wire.Peer, kind uint8, body []byte) ([]byte, error)
}

// Config configures a Computing.
type Config struct {
	Identity wire.Secret
	Self     wire.Key // of Identity
	Policy   *Policy  // nil for a node that works for no jobs
	Runner   sandbox.Runner
	Blobs    Blobs
	Store    engine.Store
	Files    *disk.Files // with Dirs
	Dir      string      // the home
	Engine   Engine
	Coins    Coins
	Banks    Banks
	Chain    Chain
	Log      *slog.Logger
}

// dirJobs contains a directory for each job.
const dirJobs = "jobs"

// Dirs are the directories of this room.
var Dirs = []string{dirJobs}

// Computing is the node's part in jobs. It is a p2p.Jobs.
type Computing struct {
	cfg  Config
	host Host

	making sync.Mutex // while a job gets a place

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	wg      sync.WaitGroup
	parties map[wire.Hash]*party
	common  map[wire.Key]*common
}

// common is how many jobs there are in common with another node.
type common struct {
	wire.Peer
	jobs int
}

// New returns a room.
func New(cfg Config) *Computing {
	return &Computing{cfg: cfg, parties: map[wire.Hash]*party{}, common: map[wire.Key]*common{}}
}

// Listen sets the host, before Run.
func (c *Computing) Listen(h Host) { c.host = h }

// Works reports whether the node works for jobs.
func (c *Computing) Works() bool {
	return c.cfg.Policy != nil && c.cfg.Runner != nil && c.cfg.Blobs != nil && c.host != nil
}

func refOf(id wire.Hash) engine.Ref { return engine.Ref{Kind: job.KindNode, ID: id} }

// Machines is that of a party.
func (c *Computing) Machines() []engine.Machine {
	m := engine.MachineOf[job.Node](job.KindNode, job.Machines)
	m.Executor, m.Send, m.Observe, m.Hot = executor{c}, c.send, c.observe, true
	return []engine.Machine{m}
}

// Restored returns the event for a job of a home restored from a backup.
func (c *Computing) Restored(context.Context, engine.Ref) (engine.Event, error) {
	return job.Restored{}, nil
}

// Run works for the jobs of the home until ctx ends.
func (c *Computing) Run(ctx context.Context) {
	if !c.Works() {
		return
	}
	var list []*party
	err := c.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(job.KindNode, false, func(ref engine.Ref, _ []byte) error {
			r, err := recordIn(tx, ref.ID)
			if err != nil {
				c.cfg.Log.Error("a job cannot be read", "job", ref, "err", err)
			}
			if err != nil || r == nil { // or it was given up
				return nil
			}
			list = append(list, newParty(c, ref.ID, r))
			return nil
		})
	})
	if err != nil && ctx.Err() == nil {
		c.cfg.Log.Error("the jobs cannot be read", "err", err)
	}
	c.sweep(ctx)
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
	for _, p := range list {
		c.start(p)
	}
	<-ctx.Done()
	c.wg.Wait()
}

// start runs a party of a job.
func (c *Computing) start(p *party) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || c.ctx.Err() != nil || c.parties[p.id] != nil {
		return
	}
	c.parties[p.id] = p
	ctx, cancel := context.WithCancel(c.ctx)
	p.gone = cancel
	c.wg.Go(func() {
		defer cancel()
		p.run(ctx)
		c.mu.Lock()
		if c.parties[p.id] == p {
			delete(c.parties, p.id)
		}
		c.mu.Unlock()
	})
}

func (c *Computing) party(id wire.Hash) *party {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parties[id]
}

// link adds jobs to what this node has in common with others.
func (c *Computing) link(peers []wire.Peer, jobs int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, to := range peers {
		if to.Key == c.cfg.Self {
			continue
		}
		k := c.common[to.Key]
		if k == nil {
			k = &common{}
			c.common[to.Key] = k
		}
		k.Peer, k.jobs = to, k.jobs+jobs
		if k.jobs == 0 {
			delete(c.common, to.Key)
		}
		if err := c.host.Link(to, k.jobs); err != nil {
			c.cfg.Log.Warn("a party of a job cannot be reached", "peer", to.Key, "err", err)
		}
	}
}

// Letter implements p2p.Jobs.
func (c *Computing) Letter(from wire.Key, id wire.Hash, body []byte) error {
	p := c.party(id)
	if p == nil {
		return fmt.Errorf("%w: no job %v", errStranger, id)
	}
	return p.letter(from, body)
}

// errStranger means that a peer is not a party of a job.
var errStranger = errors.New("not a party")

// send sends a machine's messages; see engine.Machine.
func (c *Computing) send(ref engine.Ref, e engine.Effect) {
	if p := c.party(ref.ID); p != nil {
		p.send(e)
	}
}

// observe wakes a party whose machine has changed.
func (c *Computing) observe(ch engine.Change) {
	if p := c.party(ch.Ref.ID); p != nil {
		p.steps.Add(1)
		p.poke()
	}
}

// executor carries out the effects of parties' machines. All of them need only the
// store, or are carried out as the machine's state demands (party.follow): what a
// state demands needs no record of its own.
type executor struct{ *Computing }

// Commit implements engine.Executor.
func (x executor) Commit(tx engine.Tx, ref engine.Ref, e engine.Effect) ([]engine.Delivery, bool, error) {
	switch e := e.(type) {
	case job.Run, job.Cancel, job.Fetch, job.Judge:
		return nil, true, nil
	case job.KeepCert:
		return nil, true, keepCert(tx, ref.ID, &e.Cert)
	case job.Publish:
		return nil, true, keepProof(tx, ref.ID, e.Proof)
	case job.Pause:
		x.cfg.Log.Warn("the parties of a job do not agree; a referee is needed", "job", ref, "epoch", e.Epoch, "attempt", e.Attempt)
		return nil, true, nil
	case job.Earned:
		r, err := recordIn(tx, ref.ID)
		if err != nil || r == nil {
			return nil, true, err
		}
		list, err := x.cfg.Banks.Earned(tx, r.Bank, penny.Penny{Seq: r.Pennies - e.K, Secret: pennySecret(e.Secret)})
		return list, true, err
	}
	return nil, false, nil
}

// Do implements engine.Executor: nothing is left for it.
func (executor) Do(_ context.Context, _ engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	return nil, fmt.Errorf("no way to carry out %T", e)
}
