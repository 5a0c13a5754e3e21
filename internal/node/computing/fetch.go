package computing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/wire"
)

// fetcher gets the certified state from other parties. While it works, the program does
// not, so it uses the program to verify what it gets.
type fetcher struct {
	party *party
	work  *fetching
	again time.Time
	liars [job.MaxParties]bool // gave something else than was certified
}

// fetching is the fetch of one state.
type fetching struct {
	task
	state wire.Hash
}

// result returns what was fetched, once.
func (f *fetcher) result() *job.Loaded {
	w := f.work
	if w == nil || !w.over() {
		return nil
	}
	f.work = nil
	if w.err != nil {
		f.again = w.retry(f.party, slog.LevelInfo, "no party gives a certified state yet")
		return nil
	}
	return &job.Loaded{Epoch: w.epoch, State: w.state}
}

// wantsState reports whether the machine needs the last certified state from others.
func wantsState(n *job.Node) bool {
	return n.Last != nil && n.Base < n.Last.Body.Epoch && (judges(n) || n.On && !n.Muted && n.Member() && !n.Over() && n.Running == 0 && n.Funded())
}

// cancel ends a fetch of what is no longer needed.
func (f *fetcher) cancel(n *job.Node) {
	if w := f.work; w != nil && (!wantsState(n) || w.epoch != n.Last.Body.Epoch) {
		f.stop()
	}
}

func (f *fetcher) stop() {
	if w := f.work; w != nil {
		w.stop()
		f.work = nil
	}
}

// follow starts a fetch if one is needed.
func (f *fetcher) follow(ctx context.Context, n *job.Node) error {
	if !wantsState(n) || f.work != nil || time.Now().Before(f.again) {
		return nil
	}
	w := &fetching{task: task{epoch: n.Last.Body.Epoch}, state: n.Last.Body.State}
	f.work = w
	terms := n.Terms
	w.start(ctx, f.party, func(ctx context.Context) error { return f.fetch(ctx, &terms, w) })
	return nil
}

// fetch asks the parties, in any order, until one gives the state.
func (f *fetcher) fetch(ctx context.Context, t *job.Terms, w *fetching) error {
	g := &f.party.program
	if h, err := f.party.states.get(w.epoch); err != nil {
		return err
	} else if h != nil && h.Root == w.state && h.Outcome == job.Running {
		return nil // it was fetched before a crash
	}
	list := f.party.others()
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	last := errNoState
	for _, from := range list {
		if f.liars[from] {
			continue
		}
		err := f.from(ctx, t, w, from)
		switch {
		case err == nil || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case errors.Is(err, errLie):
			f.liars[from] = true
			f.party.room.cfg.Log.Warn("a party gave another state than the certified one", "job", f.party.id, "party", from, "err", err)
		}
		g.reset()
		last = err
	}
	return last
}

// errLie means that a party gave something else than was certified.
var errLie = errors.New("not what was certified")

// from fetches the state from one party, verifies it, and stores it.
func (f *fetcher) from(ctx context.Context, t *job.Terms, w *fetching, from uint8) error {
	c, g, s := f.party.room, &f.party.program, &f.party.states
	most := uint64(g.limits().MaxCheckpoint())
	give, err := c.cfg.Files.Reserve(most)
	if err != nil {
		return err
	}
	defer give()
	tmp, err := c.cfg.Files.Create()
	if err != nil {
		return err
	}
	defer tmp.Discard()
	ask := Ask{Epoch: w.epoch, State: w.state, Part: PartState}
	block, err := f.read(ctx, from, ask, most, tmp)
	if err != nil {
		return err
	}
	if was := f.party.seedBlock(); block != was {
		// The state proves the block, because it binds the seed. Another one was in
		// the chain when this node looked, or it did not look yet.
		f.party.useBlock(block)
		g.close()
		g.params, g.refused = nil, nil
		defer func() {
			if g.run == nil { // not proved
				f.party.useBlock(was)
				g.close()
				g.params, g.refused = nil, nil
				return
			}
			if err := f.party.setBlock(ctx, block); err != nil {
				c.cfg.Log.Error("a job's block is not stored", "job", f.party.id, "err", err)
			}
		}()
	}
	if err := g.load(ctx, t); err != nil {
		return err
	}
	if g.loaded == nil {
		return errUnreachable
	}
	h, err := f.verify(ctx, w, tmp)
	if err != nil {
		return err
	}
	at := s.outputSize()
	if at < h.OutputSize {
		add, err := c.cfg.Files.Create()
		if err != nil {
			return err
		}
		defer add.Discard()
		ask.Part, ask.From = PartPrefix, at
		if _, err := f.read(ctx, from, ask, h.OutputSize, add); err != nil {
			g.reset()
			return err
		}
		if _, err := add.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := s.extend(add, at, h.OutputSize, h.OutputSHA256); errors.Is(err, errOutput) {
			g.reset()
			return fmt.Errorf("%w: %w", errLie, err)
		} else if err != nil {
			g.reset()
			return err
		}
	}
	head := &epoch{Epoch: w.epoch, Turn: fetched, Root: w.state, Total: h.OutputSize}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return s.write(c.cfg.Files, head, nil, func(to io.Writer) error {
		_, err := io.Copy(to, tmp)
		return err
	})
}

// verify starts the program from a checkpoint, and returns the header of its state if
// that is the certified one.
func (f *fetcher) verify(ctx context.Context, w *fetching, tmp *disk.Partial) (*sandbox.Header, error) {
	g := &f.party.program
	g.reset()
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	run, err := g.loaded.Start(ctx, g.params, tmp)
	if errors.Is(err, sandbox.ErrCheckpoint) || errors.Is(err, sandbox.ErrWrongProgram) || errors.Is(err, sandbox.ErrWrongJob) {
		return nil, fmt.Errorf("%w: %w", errLie, err)
	}
	if err != nil {
		return nil, err
	}
	g.run, g.at, g.root = run, w.epoch, wire.Hash(run.Root())
	if g.root != w.state {
		g.reset()
		return nil, errLie
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return sandbox.ReadHeader(tmp)
}

// fetchTime is how long a party has for a part.
const fetchTime = 10 * time.Minute

// read reads a part from a party, of at most most bytes.
func (f *fetcher) read(ctx context.Context, from uint8, ask Ask, most uint64, to io.Writer) (block wire.Hash, err error) {
	peer := f.party.record.Peers[from]
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	for total := uint64(0); ; {
		raw, err := wire.Marshal(&ask)
		if err != nil {
			return block, err
		}
		if raw, err = wire.Marshal(&Signed{Job: f.party.id, Body: raw}); err != nil {
			return block, err
		}
		if raw, err = f.party.room.host.JobCall(ctx, peer, CallRead, raw); err != nil {
			return block, err
		}
		c := new(Chunk)
		if err := wire.UnmarshalPeer(raw, c); err != nil {
			return block, fmt.Errorf("%w: %w", errLie, err)
		}
		// Every piece but the last is full, and all are of one whole: a party that gives a
		// byte at a time would keep this node from asking another.
		if c.Total > most || ask.From > c.Total || uint64(len(c.Data)) != min(c.Total-ask.From, maxChunk) || total != 0 && (c.Total != total || c.Block != block) {
			return block, fmt.Errorf("%w: %d bytes at %d of %d, at most %d are possible", errLie, len(c.Data), ask.From, c.Total, most)
		}
		total = c.Total
		if _, err := to.Write(c.Data); err != nil {
			return block, err
		}
		block = c.Block
		if ask.From += uint64(len(c.Data)); ask.From == c.Total {
			return block, nil
		}
	}
}

// read answers a request for a piece.
func (c *Computing) read(id wire.Hash, n job.Node, r *record, a *Ask, from p2p.Caller) (*Chunk, error) {
	p := c.party(id)
	if p == nil {
		return nil, errNoJob
	}
	asks := -1
	for i, o := range r.Peers {
		if peer, err := p2p.PeerID(o.Key); err == nil && peer == from.Peer {
			asks = i
		}
	}
	chunk, err := p.states.piece(&n, a, asks)
	if err == nil {
		chunk.Block = r.Block
	}
	return chunk, err
}
