package node

import (
	"cmp"
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

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// executor carries out what the machines ask for.
type executor Node

// quoteTimeout is how long candidates have for a quote or a proof.
const quoteTimeout = 10 * time.Second

// Commit implements engine.Executor: coins are locked and freed in the very
// transaction that asks for it.
func (x *executor) Commit(tx engine.Tx, ref engine.Ref, e engine.Effect) (engine.Event, bool, error) {
	switch e := e.(type) {
	case bank.Effect:
		ev, done, err := x.commitBank(tx, ref, e)
		if ev == nil {
			return nil, done, err // no interface around a nil one
		}
		return ev, done, err
	case deal.LockCoins:
		p, short, err := x.lockCoins(tx, ref, e.Amount, contract.FundingWeight(0, e.Frozen, false))
		switch {
		case err != nil:
			return nil, true, err
		case short != nil:
			return deal.NoCoins{Need: short.Need, Have: short.Have, Soon: short.Soon}, true, nil
		}
		return deal.CoinsLocked{Inputs: p.Inputs, Change: p.Change, ChangeScript: p.ChangeScript, Fee: p.Fee}, true, nil
	case deal.UnlockCoins:
		return nil, true, x.unlockCoins(tx, ref)
	}
	return nil, false, nil
}

// lockCoins picks and locks coins for a contract; short is not nil where they do
// not suffice, and the contract waits for more.
func (x *executor) lockCoins(tx engine.Tx, ref engine.Ref, amount wire.Sat, weight int64) (p *wallet.Picked, short *wallet.Short, err error) {
	at, _, err := tx.Position()
	if err != nil {
		return nil, nil, err
	}
	p, err = x.wallet.Lock(tx, ref.ID[:], amount, weight, x.engine.FeeRate(), at.Height)
	if errors.As(err, &short) {
		return nil, short, tx.Put(bucketWaiting, ref.ID[:], []byte(ref.Kind))
	}
	if err != nil {
		return nil, nil, err
	}
	return p, nil, tx.Delete(bucketWaiting, ref.ID[:])
}

func (x *executor) unlockCoins(tx engine.Tx, ref engine.Ref) error {
	return errors.Join(x.wallet.Unlock(tx, ref.ID[:]), tx.Delete(bucketWaiting, ref.ID[:]))
}

// Do implements engine.Executor.
func (x *executor) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	if b, ok := e.(bank.Effect); ok {
		return x.doBank(ctx, ref, b)
	}
	if due, ok := e.(deal.ClaimDue); ok {
		return func(tx engine.Tx) ([]engine.Delivery, error) { return (*agent)(x).buildClaims(tx, ref, due) }, nil
	}
	if drop, ok := e.(deal.DropPayload); ok {
		return func(tx engine.Tx) ([]engine.Delivery, error) {
			if ref.Kind == deal.KindSender {
				return nextWaiting(tx) // it may have given its coins back
			}
			return nil, x.unlist(tx, ref, drop)
		}, x.drop(ref)
	}
	if ask, ok := e.(deal.AskQuotes); ok {
		return x.askQuotes(ctx, ref, ask)
	}
	if _, ok := e.(deal.DropMessage); ok {
		return func(engine.Tx) ([]engine.Delivery, error) { return nil, nil }, remove(x.files.path(dirIncoming, ref.ID, ".eml"))
	}
	if p, ok := e.(deal.Publish); ok {
		ev, err := x.publish(ctx, ref, p)
		if err != nil || ctx.Err() != nil {
			return nil, cmp.Or(err, ctx.Err())
		}
		return func(tx engine.Tx) ([]engine.Delivery, error) {
			next, err := nextWaiting(tx)
			return append([]engine.Delivery{{Ref: ref, Event: ev}}, next...), err
		}, nil
	}
	ev, err := x.answer(ctx, ref, e)
	if errors.Is(err, os.ErrNotExist) {
		if x.over(ctx, ref) {
			return nil, nil // its files are gone because it ended meanwhile
		}
		if _, ok := e.(deal.Open); ok {
			ev, err = deal.Restored{}, nil // somebody deleted the copy: it is fetched again
		}
	}
	if err != nil || ctx.Err() != nil {
		// What a cancelled context cut short proves nothing: it is done again.
		return nil, cmp.Or(err, ctx.Err())
	}
	return func(engine.Tx) ([]engine.Delivery, error) {
		if ev == nil {
			return nil, nil
		}
		return []engine.Delivery{{Ref: ref, Event: ev}}, nil
	}, nil
}

// over reports whether a contract needs no more what an effect found no file
// for: it has ended, or, after a restore, begun anew.
func (x *executor) over(ctx context.Context, ref engine.Ref) bool {
	state, err := x.engine.State(ctx, ref)
	switch s := state.(type) {
	case deal.Sender:
		return s.Phase == deal.SenderFailed
	case deal.Recipient:
		return s.Phase != deal.RecipientOpening
	}
	return errors.Is(err, engine.ErrNoContract)
}

func (x *executor) answer(ctx context.Context, ref engine.Ref, e engine.Effect) (deal.Event, error) {
	switch e := e.(type) {
	case deal.SealCopies:
		return x.sealCopies(ref, e)
	case deal.Place:
		return x.place(ctx, ref, e)
	case deal.Broadcast:
		tx, err := contract.ReadTx(e.Tx)
		if err != nil {
			return nil, err
		}
		return broadcasted(x.cfg.Chain.Broadcast(ctx, tx))
	case deal.Poll:
		s, err := x.calls.Status(ctx, e.Candidate.Peer(), &e.Request)
		if err != nil || len(s.Ack) == 0 {
			return deal.NothingNew{}, nil
		}
		return deal.AckArrived{Agent: e.Candidate.Agent, Blob: s.Ack}, nil
	case deal.Locate:
		return x.locate(ctx, e)
	case deal.Fetch:
		return x.fetch(ctx, ref, e)
	case deal.Release:
		tau, err := x.release(ctx, e)
		if err == nil {
			return deal.Revealed{Agent: e.Candidate.Agent, Tau: tau}, nil
		}
		var refused *p2p.Refused
		ev := deal.NotRevealed{Agent: e.Candidate.Agent, Why: err.Error()}
		if errors.As(err, &refused) {
			ev.Code = refused.Code
		}
		return ev, nil
	case deal.Open:
		return x.open(ref, e)
	case deal.LeaveAck:
		sec, err := seal.FromRecipient(x.identity, e.E)
		if err != nil {
			return nil, err
		}
		blob, err := seal.SealAck(sec.AckKey(e.Candidate.Agent), x.identity, e.E, e.Root, e.Leaf.Hash())
		if err != nil {
			return nil, err
		}
		err = x.calls.Acknowledge(ctx, e.Candidate.Peer(), &wire.Acknowledge{Point: e.Leaf.Point, MAC: wire.AckMAC(e.FetchKey, e.Leaf.Point, blob), Blob: blob})
		return deal.AckLeft{OK: err == nil}, nil
	}
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// bucketWaiting is the contracts that wait for coins: id → kind.
const bucketWaiting = "sender/waiting"

// nextWaiting wakes a contract that waits for coins: some may have become free.
// The rest asks at the next block.
func nextWaiting(tx engine.Tx) (list []engine.Delivery, err error) {
	var ref engine.Ref
	if err := tx.Scan(bucketWaiting, nil, 1, func(key, kind []byte) error {
		ref = engine.Ref{Kind: engine.Kind(kind), ID: wire.Hash(key)}
		return nil
	}); err != nil || ref == (engine.Ref{}) {
		return nil, err
	}
	if ref.Kind == "" {
		ref.Kind = deal.KindSender // written before banks waited too
	}
	var ev engine.Event = deal.CoinsFreed{}
	if ref.Kind == bank.KindPayer {
		ev = bank.CoinsFreed{}
	}
	return []engine.Delivery{{Ref: ref, Event: ev}}, tx.Delete(bucketWaiting, ref.ID[:])
}

// release asks more than once where the network fails: the next block, when it
// would be asked again, is ten minutes away.
func (x *executor) release(ctx context.Context, e deal.Release) (tau wire.Secret, err error) {
	for wait := 250 * time.Millisecond; wait <= time.Second; wait *= 2 {
		if tau, err = x.calls.Release(ctx, e.Candidate.Peer(), e.Point, e.Sigma); !errors.Is(err, p2p.ErrUnreachable) {
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

// unlist takes a dropped copy out of the index.
func (x *executor) unlist(tx engine.Tx, ref engine.Ref, drop deal.DropPayload) error {
	if ref.Kind != deal.KindAgent {
		return nil
	}
	if err := tx.Delete(bucketCopies, ref.ID[:]); err != nil {
		return err
	}
	return tx.Delete(bucketFind, append(drop.Find[:], ref.ID[:]...))
}

// bucketPoints remembers every point that an agent quoted to this sender.
const bucketPoints = "sender/points"

// askQuotes asks all candidates at once. A point that was ever quoted before
// is refused in the commit (invariant PointOnce).
func (x *executor) askQuotes(ctx context.Context, ref engine.Ref, ask deal.AskQuotes) (func(engine.Tx) ([]engine.Delivery, error), error) {
	tip := x.engine.Position().Height
	ev := deal.Quoted{Height: tip}
	var mu sync.Mutex
	x.each(ctx, ask.Candidates, func(ctx context.Context, c deal.Candidate) {
		until := tip + wire.Height(ask.Blocks)
		q, err := x.calls.Quote(ctx, c.Peer(), &wire.QuoteRequest{Session: deal.SessionFor(ask.Seed, c.Agent), E: ask.E, Size: ask.Size,
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
func (x *executor) each(ctx context.Context, list []deal.Candidate, f func(context.Context, deal.Candidate)) {
	ctx, cancel := context.WithTimeout(ctx, quoteTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range list {
		wg.Go(func() { f(ctx, c) })
	}
	wg.Wait()
}

// sealCopies computes the hash of every sealed copy. The copies themselves are
// made again while they are uploaded: they are never on this disk.
func (x *executor) sealCopies(ref engine.Ref, e deal.SealCopies) (deal.Event, error) {
	ev := deal.CopiesSealed{Hashes: make([]wire.Hash, len(e.Legs))}
	errs := make([]error, len(e.Legs))
	var wg sync.WaitGroup
	for i, l := range e.Legs {
		wg.Go(func() {
			var info seal.SealedInfo
			kappa, err := seal.SealKey(e.Ephemeral, l.Point, l.Agent, e.Key)
			if err == nil {
				var f *os.File
				if f, err = os.Open(x.files.path(dirOutgoing, ref.ID, "")); err == nil {
					defer f.Close()
					info, err = seal.SealTo(io.Discard, x.watched("sealing", f), kappa)
				}
			}
			ev.Hashes[i], errs[i] = info.Hash, err
		})
	}
	wg.Wait()
	return ev, errors.Join(errs...)
}

func (x *executor) place(ctx context.Context, ref engine.Ref, e deal.Place) (deal.Event, error) {
	leaf := &e.Package.Section.Leaf
	kappa, err := seal.SealKey(e.Ephemeral, leaf.Point, leaf.Agent, leaf.Key)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(x.files.path(dirOutgoing, ref.ID, ""))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := x.calls.Store(ctx, e.Candidate.Peer(), &e.Package, seal.SealReader(x.watched("storing", f), kappa))
	if err != nil {
		return deal.NotPlaced{Agent: e.Candidate.Agent, Why: err.Error()}, nil
	}
	return deal.Placed{Height: x.engine.Position().Height, Receipt: *r}, nil
}

// publish puts out a message's funding.
func (x *executor) publish(ctx context.Context, ref engine.Ref, e deal.Publish) (deal.Event, error) {
	why, err := x.publishTx(ctx, ref, e.Tx, e.RefundTo, e.Until)
	return deal.Broadcasted{Err: why}, err
}

// publishTx signs a funding, remembers it, and only then broadcasts it. use, where
// there is one, is an address that counts as used from then on. why tells why
// nobody takes it, or is empty.
func (x *executor) publishTx(ctx context.Context, ref engine.Ref, raw, use []byte, until wire.Height) (why string, err error) {
	tx, err := contract.DecodeTx(raw)
	if err != nil {
		return "", err
	}
	txid := contract.Txid(tx)
	if x.cfg.Secure != nil {
		if err := x.cfg.Secure(ctx); err != nil {
			return "", fmt.Errorf("no money moves before the backup is current: %w", err)
		}
	}
	late := x.engine.Position().Height >= until
	out := false
	err = x.store.Update(ctx, func(t engine.Tx) (err error) {
		if out, err = x.wallet.IsOut(t, txid); err != nil || late && !out {
			return err
		}
		if err := x.wallet.Unlock(t, ref.ID[:]); err != nil {
			return err
		}
		if len(use) > 0 {
			if err := x.wallet.UseScript(t, use); err != nil {
				return err
			}
		}
		return x.wallet.Sign(t, tx, true)
	})
	var refused error
	switch {
	case errors.Is(err, wallet.ErrUnknownTx):
		refused = err // a coin that a reorg took away
	case err != nil:
		return "", err
	case late && !out:
		refused = errLate
	default:
		if err = (*Node)(x).broadcast(ctx, tx); errors.Is(err, chain.ErrRejected) {
			refused = err
		} else if err != nil {
			return "", err
		}
	}
	switch {
	case refused == nil:
		return "", x.store.Update(ctx, func(t engine.Tx) error { return x.wallet.Accepted(t, txid) })
	case out:
		return "", nil // it was out once: the chain tells what becomes of it
	}
	// Nobody has it, as far as is known: its coins are free again.
	return refused.Error(), x.store.Update(ctx, func(t engine.Tx) error { return x.wallet.Forget(t, txid) })
}

// errLate: a funding can't confirm while those who wait for it still do.
var errLate = errors.New("it would confirm too late")

// broadcasted turns the node's answer into an event; a node that is not there
// is no answer.
func broadcasted(err error) (deal.Event, error) {
	why, err := refusal(err)
	if err != nil {
		return nil, err
	}
	return deal.Broadcasted{Err: why}, nil
}

// refusal is why a node refuses a transaction; a node that is not there is an
// error.
func refusal(err error) (why string, _ error) {
	if errors.Is(err, chain.ErrRejected) {
		return err.Error(), nil
	}
	return "", err
}

// watched is f, telling how far it is read.
func (x *executor) watched(what string, f *os.File) io.Reader {
	size := uint64(0)
	if s, err := f.Stat(); err == nil {
		size = uint64(s.Size())
	}
	return (*Node)(x).watched(what, f, size)
}

// drop deletes the files of a contract that needs them no more; a message that
// was read stays.
func (x *executor) drop(ref engine.Ref) error {
	switch ref.Kind {
	case deal.KindSender:
		return remove(x.files.path(dirOutgoing, ref.ID, ""))
	case deal.KindAgent:
		return remove(x.files.path(dirCopies, ref.ID, ""))
	default:
		list, err := filepath.Glob(x.files.path(dirIncoming, ref.ID, ".*.sealed"))
		for _, path := range list {
			err = errors.Join(err, remove(path))
		}
		return err
	}
}

// locate asks the agents near L, and, where it is wide, also those around it and
// those that published that they hold the message.
func (x *executor) locate(ctx context.Context, e deal.Locate) (deal.Event, error) {
	sec, err := seal.FromRecipient(x.identity, e.E)
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
		near, err := (*Node)(x).nearest(ctx, e.Locator, e.Wide)
		if err != nil {
			x.log.Debug("no agent near the locator", "err", err)
		}
		for _, f := range near {
			add(deal.Candidate{Agent: f.Ad.Agent, Addrs: f.Addrs, Prefix: f.Prefix})
		}
	})
	if e.Wide {
		wg.Go(func() { x.holders(ctx, sec, add) })
	}
	wg.Wait()
	var found []deal.Located1
	x.each(ctx, list, func(ctx context.Context, c deal.Candidate) {
		proofs, err := x.calls.Ask(ctx, c.Peer(), sec.FetchKey(c.Agent))
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, p := range proofs {
			found = append(found, deal.Located1{Candidate: c, Proof: p})
		}
	})
	return deal.Located{Height: x.engine.Position().Height, Found: found, Wide: e.Wide}, nil
}

// holders finds the agents that published that they hold a message.
func (x *executor) holders(ctx context.Context, sec *seal.Secrets, add func(deal.Candidate)) {
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	if (*Node)(x).WaitNetwork(ctx) != nil {
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
			h, err := x.calls.Holding(ctx, wire.XOnly(owner.PubKey()))
			if err != nil {
				return // few messages have so many agents
			}
			add(deal.Candidate{Agent: h.Grant.Agent, Addrs: h.Record.Addrs})
		})
	}
	wg.Wait()
}

func (x *executor) fetch(ctx context.Context, ref engine.Ref, e deal.Fetch) (deal.Event, error) {
	h := blake3.New()
	wrong := false
	height := x.engine.Position().Height
	if limit := x.cfg.MaxMessage; limit > 0 && e.Leaf.Size > limit {
		return deal.NotFetched{Height: height, Agent: e.Candidate.Agent, Why: fmt.Sprintf("it has %d bytes, and this inbox takes %d", e.Leaf.Size, limit)}, nil
	}
	// Opened, it is there twice for a moment.
	give, err := x.space.take(x.files.dir, 2*e.Leaf.Size)
	if errors.Is(err, errNoSpace) {
		x.log.Warn("a message is not fetched", "err", err)
		return deal.NotFetched{Height: height, Agent: e.Candidate.Agent, Why: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	defer give()
	err = x.files.write(x.sealed(ref, e.Leaf.Point), func(f *os.File) error {
		h.Reset()
		meter := (*Node)(x).watched("fetching", nil, e.Leaf.Size)
		if err := x.calls.Fetch(ctx, e.Candidate.Peer(), e.FetchKey, e.Outpoint, &e.Leaf, io.MultiWriter(f, h, meter)); err != nil {
			return err
		}
		var sum wire.Hash
		if h.Sum(sum[:0]); sum != e.Leaf.CopyHash {
			wrong = true
			return errors.New("the copy is not the one that the sender committed to")
		}
		return nil
	})
	height = x.engine.Position().Height
	if err == nil {
		return deal.Fetched{Height: height, Agent: e.Candidate.Agent}, nil
	}
	var local *os.PathError
	if errors.As(err, &local) {
		return nil, err // our own disk: tried again
	}
	return deal.NotFetched{Height: height, Agent: e.Candidate.Agent, Why: err.Error(), Wrong: wrong}, nil
}

// sealed is where the copy of one agent is kept: a recipient may hold several
// before τ of one of them comes.
func (x *executor) sealed(ref engine.Ref, point wire.Key) string {
	return x.files.path(dirIncoming, ref.ID, "."+point.String()+".sealed")
}

// open unseals and decrypts in one stream. Nothing appears under the message's
// name before its signature is right.
func (x *executor) open(ref engine.Ref, e deal.Open) (deal.Event, error) {
	sealed, err := os.Open(x.sealed(ref, e.Leaf.Point))
	if err != nil {
		return nil, err
	}
	defer sealed.Close()
	kappa, err := seal.UnsealKey(e.Tau, e.E, e.Leaf.Agent, e.Leaf.Key)
	if err != nil {
		return nil, err
	}
	sec, err := seal.FromRecipient(x.identity, e.E)
	if err != nil {
		return nil, err
	}
	var m seal.Message
	var bad error
	err = x.files.write(x.files.path(dirIncoming, ref.ID, ".eml"), func(f *os.File) error {
		pr, pw := io.Pipe()
		go func() {
			_, err := seal.Unseal(pw, x.watched("opening", sealed), kappa)
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
