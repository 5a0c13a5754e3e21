package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// recipient carries out the effects of the recipient's machine.
type recipient struct{ *Delivery }

// Commit implements engine.Executor. No effect of a recipient needs only the
// store.
func (recipient) Commit(engine.Tx, engine.Ref, engine.Effect) ([]engine.Delivery, bool, error) {
	return nil, false, nil
}

// Do implements engine.Executor.
func (d recipient) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	switch e.(type) {
	case deal.DropMessage:
		return engine.Answer(ref, nil), disk.Remove(d.message(ref))
	case deal.DropPayload: // a message that was read stays
		list, err := filepath.Glob(d.cfg.Files.Path(dirIncoming, ref.ID, ".*.sealed"))
		for _, path := range list {
			err = errors.Join(err, disk.Remove(path))
		}
		return engine.Answer(ref, nil), err
	}
	ev, err := d.answer(ctx, ref, e)
	if errors.Is(err, os.ErrNotExist) {
		if d.over(ctx, ref) {
			return nil, nil // its files are deleted because it has ended meanwhile
		}
		if _, ok := e.(deal.Open); ok {
			ev, err = deal.Restored{}, nil // the copy was deleted: fetch it again
		}
	}
	return answered(ctx, ref, ev, err)
}

func (d recipient) answer(ctx context.Context, ref engine.Ref, e engine.Effect) (deal.Event, error) {
	switch e := e.(type) {
	case deal.Locate:
		return d.locate(ctx, e)
	case deal.Fetch:
		return d.fetch(ctx, ref, e)
	case deal.Release:
		return d.release(ctx, e)
	case deal.Open:
		return d.open(ref, e)
	case deal.LeaveAck:
		return d.leaveAck(ctx, e)
	}
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// over reports whether a message no longer needs the file that an effect did
// not find: it has ended or, after a restore, started again.
func (d recipient) over(ctx context.Context, ref engine.Ref) bool {
	state, err := d.cfg.Engine.State(ctx, ref)
	if r, ok := state.(deal.Recipient); ok {
		return r.Phase != deal.RecipientOpening
	}
	return errors.Is(err, engine.ErrNoContract)
}

// release sends σ to an agent and returns its answer for τ.
func (d *Delivery) release(ctx context.Context, e deal.Release) (deal.Event, error) {
	tau, err := d.handOver(ctx, e)
	if err == nil {
		return deal.Revealed{Agent: e.Candidate.Agent, Tau: tau}, nil
	}
	var refused *p2p.Refused
	ev := deal.NotRevealed{Agent: e.Candidate.Agent, Why: err.Error()}
	if errors.As(err, &refused) {
		ev.Code = refused.Code
	}
	return ev, nil
}

// leaveAck leaves the sealed acknowledgement with an agent.
func (d *Delivery) leaveAck(ctx context.Context, e deal.LeaveAck) (deal.Event, error) {
	sec, err := seal.FromRecipient(d.cfg.Identity, e.E)
	if err != nil {
		return nil, err
	}
	blob, err := seal.SealAck(sec.AckKey(e.Candidate.Agent), d.cfg.Identity, e.E, e.Root, e.Leaf.Hash())
	if err != nil {
		return nil, err
	}
	err = d.cfg.Calls.Acknowledge(ctx, e.Candidate.Peer(), &wire.Acknowledge{Point: e.Leaf.Point, MAC: wire.AckMAC(e.FetchKey, e.Leaf.Point, blob), Blob: blob})
	return deal.AckLeft{OK: err == nil}, nil
}

// handOver tries more than once if the network fails, because the machine asks
// again only at the next block, ten minutes later.
func (d *Delivery) handOver(ctx context.Context, e deal.Release) (tau wire.Secret, err error) {
	for wait := 250 * time.Millisecond; wait <= time.Second; wait *= 2 {
		if tau, err = d.cfg.Calls.Release(ctx, e.Candidate.Peer(), e.Point, e.Sigma); !errors.Is(err, p2p.ErrUnreachable) {
			return tau, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return tau, ctx.Err()
		}
	}
	return tau, err
}

// locate asks the agents near L. If the search is wide, it also asks those
// around, and those that published that they hold the message.
func (d *Delivery) locate(ctx context.Context, e deal.Locate) (deal.Event, error) {
	sec, err := seal.FromRecipient(d.cfg.Identity, e.E)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var list []deal.Candidate
	add := func(c deal.Candidate) {
		mu.Lock()
		defer mu.Unlock()
		if !slices.ContainsFunc(list, func(o deal.Candidate) bool { return o.Agent == c.Agent }) {
			list = append(list, c)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		near, err := d.cfg.Directory.Nearest(ctx, e.Locator, e.Wide)
		if err != nil {
			d.cfg.Log.Debug("no agent near the locator", "err", err)
		}
		for _, f := range near {
			add(deal.Candidate{Agent: f.Ad.Agent, Addrs: f.Addrs, Prefix: f.Prefix})
		}
	})
	if e.Wide {
		wg.Go(func() { d.Holders(ctx, sec, add) })
	}
	wg.Wait()
	var found []deal.Located1
	d.each(ctx, list, func(ctx context.Context, c deal.Candidate) {
		proofs, err := d.cfg.Calls.Ask(ctx, c.Peer(), sec.FetchKey(c.Agent))
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, p := range proofs {
			found = append(found, deal.Located1{Candidate: c, Proof: p})
		}
	})
	return deal.Located{Height: d.cfg.Engine.Position().Height, Found: found, Wide: e.Wide}, nil
}

// Holders finds the agents that published that they hold a message.
func (d *Delivery) Holders(ctx context.Context, sec *seal.Secrets, add func(deal.Candidate)) {
	ctx, cancel := context.WithTimeout(ctx, directory.Patience)
	defer cancel()
	if d.cfg.Directory.WaitNetwork(ctx) != nil {
		return
	}
	var wg sync.WaitGroup
	places := make(chan struct{}, 4)
	for i := range uint8(wire.MaxAgents) {
		owner, err := sec.HoldingKey(i).PrivKey()
		if err != nil {
			return
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			h, err := d.cfg.Calls.Holding(ctx, wire.XOnly(owner.PubKey()))
			if err != nil {
				return // few messages have this many agents
			}
			add(deal.Candidate{Agent: h.Grant.Agent, Addrs: h.Record.Addrs})
		})
	}
	wg.Wait()
}

func (d *Delivery) fetch(ctx context.Context, ref engine.Ref, e deal.Fetch) (deal.Event, error) {
	h := blake3.New()
	wrong := false
	height := d.cfg.Engine.Position().Height
	if limit := d.cfg.MaxMessage; limit > 0 && e.Leaf.Size > limit {
		return deal.NotFetched{Height: height, Agent: e.Candidate.Agent, Why: fmt.Sprintf("it has %d bytes, and this inbox takes %d", e.Leaf.Size, limit)}, nil
	}
	// While it is being opened, it is on the disk twice.
	give, err := d.cfg.Files.Reserve(2 * e.Leaf.Size)
	if errors.Is(err, disk.ErrFull) {
		d.cfg.Log.Warn("not fetching a message", "err", err)
		return deal.NotFetched{Height: height, Agent: e.Candidate.Agent, Why: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	defer give()
	err = d.cfg.Files.Write(d.sealed(ref, e.Leaf.Point), func(f *os.File) error {
		h.Reset()
		meter := d.watched("fetching", nil, e.Leaf.Size)
		if err := d.cfg.Calls.Fetch(ctx, e.Candidate.Peer(), e.FetchKey, e.Outpoint, &e.Leaf, io.MultiWriter(f, h, meter)); err != nil {
			return err
		}
		var sum wire.Hash
		if h.Sum(sum[:0]); sum != e.Leaf.CopyHash {
			wrong = true
			return errors.New("the copy is not the one that the sender committed to")
		}
		return nil
	})
	height = d.cfg.Engine.Position().Height
	if err == nil {
		return deal.Fetched{Height: height, Agent: e.Candidate.Agent}, nil
	}
	var local *os.PathError
	if errors.As(err, &local) {
		return nil, err // our own disk: tried again
	}
	return deal.NotFetched{Height: height, Agent: e.Candidate.Agent, Why: err.Error(), Wrong: wrong}, nil
}

// sealed returns the path of one agent's copy: a recipient may hold several
// before τ of one of them arrives.
func (d *Delivery) sealed(ref engine.Ref, point wire.Key) string {
	return d.cfg.Files.Path(dirIncoming, ref.ID, "."+point.String()+".sealed")
}

// open unseals and decrypts in one stream. The message appears under its name
// only after its signature was verified.
func (d *Delivery) open(ref engine.Ref, e deal.Open) (deal.Event, error) {
	sealed, err := os.Open(d.sealed(ref, e.Leaf.Point))
	if err != nil {
		return nil, err
	}
	defer sealed.Close()
	kappa, err := seal.UnsealKey(e.Tau, e.E, e.Leaf.Agent, e.Leaf.Key)
	if err != nil {
		return nil, err
	}
	sec, err := seal.FromRecipient(d.cfg.Identity, e.E)
	if err != nil {
		return nil, err
	}
	var m seal.Message
	var bad error
	err = d.cfg.Files.Write(d.message(ref), func(f *os.File) error {
		pr, pw := io.Pipe()
		go func() {
			_, err := seal.Unseal(pw, d.watchedFile("opening", sealed), kappa)
			pw.CloseWithError(err)
		}()
		h := blake3.New()
		m, err = sec.Decrypt(f, io.TeeReader(pr, h))
		pr.CloseWithError(err)
		if err == nil {
			err = seal.CheckKey(e.Leaf.Key, wire.Hash(h.Sum(nil)))
		}
		for _, e := range []error{seal.ErrCorrupt, seal.ErrSignature, seal.ErrVersion, seal.ErrTooLarge, seal.ErrKey} {
			if errors.Is(err, e) {
				bad = err
			}
		}
		return err
	})
	if bad != nil {
		return deal.NotOpened{Why: bad.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	return deal.Opened{Sender: m.Sender, Size: m.Size}, nil
}
