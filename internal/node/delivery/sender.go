package delivery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// sender carries out the effects of the sender's machine.
type sender struct{ *Delivery }

// Commit implements engine.Executor. It locks and unlocks coins in the
// transaction that requests it.
func (d sender) Commit(tx engine.Tx, ref engine.Ref, e engine.Effect) ([]engine.Delivery, bool, error) {
	switch e := e.(type) {
	case deal.LockCoins:
		p, short, err := d.cfg.Coins.Lock(tx, ref, e.Amount, contract.FundingWeight(0, e.Frozen, false))
		switch {
		case err != nil:
			return nil, true, err
		case short != nil:
			return engine.To(ref, deal.NoCoins{Need: short.Need, Have: short.Have, Soon: short.Soon}), true, nil
		}
		return engine.To(ref, deal.CoinsLocked{Inputs: p.Inputs, Change: p.Change, ChangeScript: p.ChangeScript, Fee: p.Fee}), true, nil
	case deal.UnlockCoins:
		return nil, true, d.cfg.Coins.Unlock(tx, ref)
	}
	return nil, false, nil
}

// Do implements engine.Executor.
func (d sender) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	switch e := e.(type) {
	case deal.AskQuotes:
		return d.askQuotes(ctx, ref, e)
	case deal.Publish:
		return d.publish(ctx, ref, e)
	case deal.Gather:
		return nil, d.gather(ctx, ref)
	case deal.DropPayload: // it may have unlocked coins
		return d.cfg.Coins.NextWaiting, disk.Remove(d.cfg.Files.Path(dirOutgoing, ref.ID, ""))
	}
	ev, err := d.answer(ctx, ref, e)
	if errors.Is(err, os.ErrNotExist) && d.over(ctx, ref) {
		return nil, nil // its files are deleted because it has ended meanwhile
	}
	return answered(ctx, ref, ev, err)
}

func (d sender) answer(ctx context.Context, ref engine.Ref, e engine.Effect) (deal.Event, error) {
	switch e := e.(type) {
	case deal.SealCopies:
		return d.sealCopies(ref, e)
	case deal.Place:
		return d.place(ctx, ref, e)
	case deal.Broadcast:
		tx, err := contract.ReadTx(e.Tx)
		if err != nil {
			return nil, err
		}
		why, tooLow, err := d.cfg.Coins.Broadcast(ctx, tx)
		return deal.Broadcasted{Err: why, Txid: contract.Txid(tx), TooLow: tooLow}, err
	case deal.Poll:
		s, err := d.cfg.Calls.Status(ctx, e.Candidate.Peer(), &e.Request)
		if err != nil || len(s.Ack) == 0 {
			return deal.NothingNew{}, nil
		}
		return deal.AckArrived{Agent: e.Candidate.Agent, Blob: s.Ack}, nil
	}
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// over reports whether a message no longer needs the file that an effect did
// not find.
func (d sender) over(ctx context.Context, ref engine.Ref) bool {
	state, err := d.cfg.Engine.State(ctx, ref)
	if s, ok := state.(deal.Sender); ok {
		return s.Phase == deal.SenderFailed
	}
	return errors.Is(err, engine.ErrNoContract)
}

// publish publishes a message's funding. An effect may be carried out when its
// message already has another funding, or a second time beside the first. So
// whether the message still wants this funding is checked in the transaction
// that signs it, and in the one that reports the result.
func (d *Delivery) publish(ctx context.Context, ref engine.Ref, e deal.Publish) (func(engine.Tx) ([]engine.Delivery, error), error) {
	wants := func(tx engine.Tx) (bool, error) {
		var s deal.Sender
		raw, err := tx.State(ref)
		if err == nil {
			err = wire.Unmarshal(raw, &s)
		}
		return err == nil && (s.Phase == deal.SenderPublishing || s.Phase == deal.SenderPublished) && bytes.Equal(s.Funding, e.Tx), err
	}
	why, low, err := d.cfg.Coins.Publish(ctx, ref, e.Tx, e.RefundTo, e.Until, wants)
	if err != nil || ctx.Err() != nil {
		return nil, cmp.Or(err, ctx.Err())
	}
	return func(tx engine.Tx) ([]engine.Delivery, error) {
		next, err := d.cfg.Coins.NextWaiting(tx)
		if err != nil {
			return nil, err
		}
		wanted, err := wants(tx)
		if err == nil && low {
			var signed bool
			signed, err = d.cfg.Coins.Signed(tx, e.Tx)
			wanted = wanted && !signed
		}
		if err != nil || !wanted {
			return next, err
		}
		return append([]engine.Delivery{{Ref: ref, Event: deal.Broadcasted{Err: why, TooLow: low}}}, next...), nil
	}, nil
}

// quoteTimeout is the time for candidates to answer with a quote or a proof.
const quoteTimeout = 10 * time.Second

// bucketPoints stores every point that an agent quoted to this sender.
const bucketPoints = "sender/points"

// askQuotes asks all candidates at once. The commit refuses a point that was
// ever quoted before (invariant PointOnce).
func (d *Delivery) askQuotes(ctx context.Context, ref engine.Ref, ask deal.AskQuotes) (func(engine.Tx) ([]engine.Delivery, error), error) {
	tip := d.cfg.Engine.Position().Height
	ev := deal.Quoted{Height: tip}
	var mu sync.Mutex
	d.cfg.Coins.FeeRate(ctx) // the funding follows, at the rate of the moment
	d.each(ctx, ask.Candidates, func(ctx context.Context, c deal.Candidate) {
		until := tip + wire.Height(ask.Blocks)
		q, err := d.cfg.Calls.Quote(ctx, c.Peer(), &wire.QuoteRequest{Session: deal.SessionFor(ask.Seed, c.Agent), E: ask.E, Size: ask.Size,
			StoreUntil: until, Expiry: until + wire.Height(ask.Slack), Shape: ask.Shape})
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			ev.Why = append(ev.Why, fmt.Sprintf("%s: %v", c.Agent.String()[:8], err))
			return
		}
		ev.Quotes = append(ev.Quotes, *q)
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return func(tx engine.Tx) ([]engine.Delivery, error) {
		var fresh []wire.Quote
		for _, q := range ev.Quotes {
			used, err := tx.Get(bucketPoints, q.Point[:])
			if err != nil {
				return nil, err
			}
			if used != nil {
				ev.Why = append(ev.Why, fmt.Sprintf("%s: a point that it has quoted before", q.Agent.String()[:8]))
				continue
			}
			if err := tx.Put(bucketPoints, q.Point[:], ref.ID[:]); err != nil {
				return nil, err
			}
			fresh = append(fresh, q)
		}
		ev.Quotes = fresh
		return []engine.Delivery{{Ref: ref, Event: ev}}, nil
	}, nil
}

// each runs f for every candidate at once, with a common time limit.
func (d *Delivery) each(ctx context.Context, list []deal.Candidate, f func(context.Context, deal.Candidate)) {
	ctx, cancel := context.WithTimeout(ctx, quoteTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range list {
		wg.Go(func() { f(ctx, c) })
	}
	wg.Wait()
}

// sealCopies computes the hash of every sealed copy. The copies are sealed
// again while they are uploaded, and are never on this disk.
func (d *Delivery) sealCopies(ref engine.Ref, e deal.SealCopies) (deal.Event, error) {
	ev := deal.CopiesSealed{Hashes: make([]wire.Hash, len(e.Legs))}
	errs := make([]error, len(e.Legs))
	var wg sync.WaitGroup
	for i, l := range e.Legs {
		wg.Go(func() {
			var info seal.SealedInfo
			kappa, err := seal.SealKey(e.Ephemeral, l.Point, l.Agent, e.Key)
			if err == nil {
				var f *os.File
				if f, err = os.Open(d.cfg.Files.Path(dirOutgoing, ref.ID, "")); err == nil {
					defer f.Close()
					info, err = seal.SealTo(io.Discard, d.watchedFile("sealing", f), kappa)
				}
			}
			ev.Hashes[i], errs[i] = info.Hash, err
		})
	}
	wg.Wait()
	return ev, errors.Join(errs...)
}

func (d *Delivery) place(ctx context.Context, ref engine.Ref, e deal.Place) (deal.Event, error) {
	leaf := &e.Package.Section.Leaf
	kappa, err := seal.SealKey(e.Ephemeral, leaf.Point, leaf.Agent, leaf.Key)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(d.cfg.Files.Path(dirOutgoing, ref.ID, ""))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := d.cfg.Calls.Store(ctx, e.Candidate.Peer(), &e.Package, seal.SealReader(d.watchedFile("storing", f), kappa))
	if err != nil {
		return deal.NotPlaced{Agent: e.Candidate.Agent, Why: err.Error()}, nil
	}
	return deal.Placed{Height: d.cfg.Engine.Position().Height, Receipt: *r}, nil
}

// watchedFile is f, telling how far it is read.
func (d *Delivery) watchedFile(what string, f *os.File) io.Reader {
	size := uint64(0)
	if s, err := f.Stat(); err == nil {
		size = uint64(s.Size())
	}
	return d.watched(what, f, size)
}
