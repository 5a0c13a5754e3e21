package computing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/wire"
)

// program runs a job's program as the machine's state demands.
type program struct {
	party *party
	work  *work
	again time.Time // not before, after a failure of this machine

	// Of the work in progress, or of the next.
	loaded  sandbox.Program
	params  *sandbox.Job
	refused *sandbox.Failure // no machine runs this program
	run     sandbox.Run
	at      uint32 // the epoch whose state run has
	root    wire.Hash
}

// work is one epoch being run.
type work struct {
	task
	turn uint32 // judging for an epoch that is run for a verdict
	ran  *job.Ran
}

// judging is the turn of an epoch that a referee runs.
const judging = fetched - 1

// judges reports whether the machine waits for the epoch that it judges.
func judges(n *job.Node) bool {
	return n.On && !n.Muted && !n.Over() && n.Running == 0 && !n.Member() && n.Judging == certified(n)+1 && n.Judged == nil && n.Funded()
}

// demand returns the epoch that the machine wants to be run, and its turn; 0 for none.
func demand(n *job.Node) (epoch, turn uint32) {
	switch {
	case n.Muted:
		return 0, 0
	case judges(n):
		return n.Judging, judging
	}
	return n.Running, n.Turn
}

// result returns the result of an epoch that has been run, once.
func (g *program) result() job.Event {
	w := g.work
	if w == nil || !w.over() {
		return nil
	}
	g.work = nil
	if w.err != nil {
		g.again = w.retry(g.party, slog.LevelWarn, "an epoch cannot be run here, will retry")
		return nil
	}
	if w.turn == judging {
		return job.Judged{Epoch: w.epoch, State: w.ran.State, Outcome: w.ran.Outcome}
	}
	return *w.ran
}

// follow starts and cancels runs, and keeps what is needed of their results.
func (g *program) follow(ctx context.Context, n *job.Node) error {
	e, turn := demand(n)
	if turn == judging && wantsState(n) {
		e = 0 // once its state is here
	}
	wanted := e != 0 && g.party.seedBlock() != wire.Hash{}
	if w := g.work; w != nil && (!wanted || w.epoch != e || w.turn != turn) {
		w.stop()
		g.work = nil
	}
	if err := g.party.states.follow(n); err != nil {
		return err
	}
	g.party.output.Store(g.party.states.outputSize())
	if n.Over() && g.work == nil {
		g.close()
	}
	if !wanted || g.work != nil || time.Now().Before(g.again) {
		return nil
	}
	w := &work{task: task{epoch: e}, turn: turn}
	g.work = w
	before := before(n, e)
	terms := n.Terms
	w.start(ctx, g.party, func(ctx context.Context) (err error) {
		w.ran, err = g.execute(ctx, &terms, w.epoch, w.turn, before)
		return err
	})
	return nil
}

// before returns the state that an epoch begins with; nil if it is not known, because
// the epoch was certified before it was run.
func before(n *job.Node, epoch uint32) *wire.Hash {
	if epoch == 1 {
		return &wire.Hash{}
	}
	if n.Last != nil && n.Last.Body.Epoch == epoch-1 {
		return &n.Last.Body.State
	}
	for i := range n.Results {
		if n.Results[i].Epoch == epoch-1 {
			return &n.Results[i].State
		}
	}
	return nil
}

// limits are those of the job.
func (g *program) limits() *sandbox.Limits {
	f := &g.party.record.File
	return &sandbox.Limits{Memory: f.Memory, Fuel: f.Fuel, Epochs: f.Epochs, Output: f.Output, State: f.State, Notices: f.Notices}
}

// close ends the program.
func (g *program) close() {
	if w := g.work; w != nil {
		w.stop()
		g.work = nil
	}
	g.reset()
	if g.loaded != nil {
		if err := g.loaded.Close(); err != nil {
			g.party.room.cfg.Log.Warn("a program does not close", "err", err)
		}
		g.loaded = nil
	}
}

// reset ends the run.
func (g *program) reset() {
	if g.run != nil {
		if err := g.run.Close(); err != nil {
			g.party.room.cfg.Log.Warn("a run does not close", "err", err)
		}
		g.run = nil
	}
}

// execute runs an epoch. Its result is durable when it returns; if it is already, it is
// not run again.
func (g *program) execute(ctx context.Context, t *job.Terms, e, turn uint32, before *wire.Hash) (*job.Ran, error) {
	s := &g.party.states
	h, err := s.get(e)
	if err != nil {
		return nil, err
	}
	if h == nil || h.Turn != turn || before != nil && h.Before != *before {
		if h, err = g.step(ctx, t, e, turn, before); err != nil {
			return nil, err
		}
	}
	ran := &job.Ran{Epoch: e, Turn: turn, State: h.Root, Outcome: h.Outcome}
	_, err = rand.Read(ran.Salt[:])
	return ran, err
}

// step runs an epoch and writes its file.
func (g *program) step(ctx context.Context, t *job.Terms, e, turn uint32, before *wire.Hash) (*epoch, error) {
	if err := g.load(ctx, t); err != nil {
		return nil, err
	}
	give, err := g.party.room.cfg.Files.Reserve(uint64(g.limits().MaxCheckpoint()))
	if err != nil {
		return nil, err
	}
	defer give()
	h := &epoch{Epoch: e, Turn: turn}
	var r *sandbox.Result
	if g.refused != nil {
		r = g.refused.Result()
	} else {
		if err := g.reach(ctx, e-1, before); err != nil {
			return nil, err
		}
		if g.refused != nil {
			r = g.refused.Result()
		}
	}
	if r == nil {
		h.Before = g.root
		if r, err = sandbox.Step(ctx, g.run); err != nil {
			g.reset()
			return nil, err
		}
	}
	h.Root = wire.Hash(r.Root)
	h.Outcome = job.Outcome(r.Status)
	var output []byte
	if r.Event != nil {
		output, h.Total = r.Event.Output, r.Event.OutputSize
	}
	if h.Outcome != job.Running {
		end, err := endOf(g.run, r)
		if err == nil {
			h.End, err = wire.Marshal(end)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := g.party.states.write(g.party.room.cfg.Files, h, output, func(w io.Writer) error {
		if h.Outcome != job.Running {
			return nil
		}
		return g.run.Checkpoint(w)
	}); err != nil {
		g.reset()
		return nil, err
	}
	g.at, g.root = e, h.Root
	if h.Outcome != job.Running {
		g.reset()
	}
	return h, nil
}

// load loads the program and its inputs.
func (g *program) load(ctx context.Context, t *job.Terms) error {
	if g.loaded != nil || g.refused != nil {
		return nil
	}
	c, r := &g.party.room.cfg, g.party.record
	input, err := readBlob(c.Blobs, r.File.Input, c.Policy.Input)
	if err != nil {
		return err
	}
	if g.params, err = t.Params(&r.File, input, g.party.seedBlock()); err != nil {
		return err
	}
	b, _, err := c.Blobs.Open(r.File.Program)
	if err != nil {
		return err
	}
	defer b.Close()
	program, err := c.Runner.Load(ctx, io.LimitReader(b, maxProgram))
	if f, ok := sandbox.Refused(sandbox.Digest(r.File.Program), g.params.Digest(), err); err != nil && ok {
		g.refused = f
		return nil
	}
	if err != nil {
		return err
	}
	if program.ID() != sandbox.Digest(r.File.Program) {
		return errors.Join(fmt.Errorf("%w: the blob is not the program", sandbox.ErrProgram), program.Close())
	}
	g.loaded = program
	return nil
}

// readBlob reads a blob into memory.
func readBlob(blobs Blobs, digest wire.Hash, most uint64) ([]byte, error) {
	if digest == nothing {
		return nil, nil
	}
	b, _, err := blobs.Open(digest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	raw, err := io.ReadAll(io.LimitReader(b, int64(most)+1))
	if err == nil && uint64(len(raw)) > most {
		err = fmt.Errorf("blob %v has more than %d bytes", digest, most)
	}
	return raw, err
}

// errUnreachable means that the program does not reach a state here that others have
// certified.
var errUnreachable = errors.New("the program does not reach the certified state on this machine")

// reach brings the run to the state after epoch e. want is its root; nil if it is not
// known.
func (g *program) reach(ctx context.Context, e uint32, want *wire.Hash) error {
	is := func(root wire.Hash) bool { return want == nil || root == *want }
	if g.run != nil && g.at == e && is(g.root) {
		return nil
	}
	g.reset()
	// From its checkpoint, or else from an earlier one, because a file may be lost.
	for from := e; ; from-- {
		if from > 0 {
			h, err := g.party.states.get(from)
			if err != nil {
				return err
			}
			if h == nil || h.Outcome != job.Running || from == e && !is(h.Root) {
				continue
			}
		}
		err := g.begin(ctx, from)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case from == 0 && err != nil || g.refused != nil:
			return err
		case err != nil:
			g.party.room.cfg.Log.Warn("a checkpoint cannot be used", "job", g.party.id, "epoch", from, "err", err)
			continue
		}
		for g.at < e {
			r, err := sandbox.Step(ctx, g.run)
			if err != nil {
				g.reset()
				return err
			}
			g.at, g.root = g.at+1, wire.Hash(r.Root)
			if r.Status != sandbox.Running {
				break
			}
		}
		if g.at == e && is(g.root) {
			return nil
		}
		g.reset()
		if from == 0 {
			return errUnreachable
		}
	}
}

// begin starts the run from the checkpoint of an epoch; of 0 from the beginning.
func (g *program) begin(ctx context.Context, e uint32) (err error) {
	if e == 0 {
		g.run, err = g.loaded.Start(ctx, g.params, nil)
		if f, ok := sandbox.Refused(sandbox.Digest(g.party.record.File.Program), g.params.Digest(), err); err != nil && ok {
			g.refused, err = f, nil
		}
		g.at, g.root = 0, wire.Hash{}
		return err
	}
	h, f, err := g.party.states.checkpoint(e)
	if err != nil {
		return err
	}
	defer f.Close()
	if g.run, err = g.loaded.Start(ctx, g.params, f); err != nil {
		g.run = nil
		return err
	}
	if g.at, g.root = e, wire.Hash(g.run.Root()); g.root != h.Root {
		g.reset()
		return fmt.Errorf("%w: of another state", sandbox.ErrCheckpoint)
	}
	return nil
}
