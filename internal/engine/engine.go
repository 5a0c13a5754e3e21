// Package engine gives life to the pure machines: it loads a state,
// steps it, commits the new state with its effects and the chain position in
// one transaction, and only then carries the effects out. Whatever was asked
// for and not yet done when the process died is done at the next start, so
// recovery is the ordinary path.
//
// What it needs of the rest of the house it declares here: Store, Executor,
// Follower. It knows no database, no socket and no wallet.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Kind names a role's machine in the store.
type Kind string

// Ref names a contract.
type Ref struct {
	Kind Kind
	ID   wire.Hash
}

func (r Ref) String() string { return string(r.Kind) + " " + r.ID.String()[:16] }

// Errors of a Store.
var (
	// ErrNoContract: no contract under this Ref.
	ErrNoContract = errors.New("no such contract")
	// ErrAmbiguous: more than one contract's name begins with the given digits.
	ErrAmbiguous = errors.New("more than one message begins so")
	// ErrExists: Create found one.
	ErrExists = errors.New("contract exists")
)

// PendingEffect is an effect that was asked for and is not known to be done.
type PendingEffect struct {
	ID   int64
	Ref  Ref
	Name string
	Body []byte
}

// Store keeps contracts. Update runs f in one durable transaction: when it
// returns nil, everything f wrote survives a power cut; when f or the commit
// fails, nothing of it is there. Updates are serial: f sees all earlier ones.
type Store interface {
	Update(ctx context.Context, f func(Tx) error) error
	View(ctx context.Context, f func(Tx) error) error
}

// Tx is one transaction.
type Tx interface {
	// State is a contract's state, ErrNoContract.
	State(Ref) ([]byte, error)
	// Save writes a contract's state and replaces what it watches; with
	// in.Forget it removes all of it.
	Save(ref Ref, state []byte, in contract.Interest) error
	// Replace writes a contract's state over an old one, and leaves what it watches
	// as it is; false, and nothing is written, where the state is not old, byte for
	// byte.
	Replace(ref Ref, old, state []byte) (bool, error)
	// Each calls f for every contract of a kind, the finished ones only with
	// all, in order of creation.
	Each(kind Kind, all bool, f func(ref Ref, state []byte) error) error

	// AddEffect keeps an effect until DropEffect, and returns its number.
	AddEffect(ref Ref, name string, body []byte) (int64, error)
	DropEffect(id int64) error
	// Effects lists what is pending, oldest first.
	Effects() ([]PendingEffect, error)

	// Watching lists the contracts that watch any of these transactions, or
	// spends of these outpoints, or woke by height h; each once.
	Watching(txids []wire.Hash, spent []wire.Outpoint, h wire.Height) ([]Ref, error)
	// Above lists the contracts that know of a block at h or above.
	Above(h wire.Height) ([]Ref, error)

	// Position is the last block that was told; ok is false before the first.
	Position() (at chain.BlockRef, ok bool, err error)
	// Advance makes at the position; Retreat takes back the last Advance.
	Advance(at chain.BlockRef) error
	Retreat() error

	// Get, Put, Delete and Scan are a small ordered key-value face for what
	// shares the transaction, such as the wallet. Get of a missing key is nil;
	// Scan reads the first limit keys with a prefix, in order, all where it is 0.
	Get(bucket string, key []byte) ([]byte, error)
	Put(bucket string, key, value []byte) error
	Delete(bucket string, key []byte) error
	Scan(bucket string, prefix []byte, limit int, f func(key, value []byte) error) error
}

// Delivery is an event for a contract.
type Delivery struct {
	Ref   Ref
	Event Event
}

// Creation is a new contract.
type Creation struct {
	Ref     Ref
	State   any // of the machine of Ref.Kind
	Effects []Effect
}

// Follower is told of every block in order, in the transaction that advances
// the chain position, before the contracts are. What it creates is committed
// there too.
type Follower interface {
	Connect(tx Tx, block *Block) ([]Creation, error)
	Disconnect(tx Tx, height wire.Height) error
}

// Block is a block of the active chain.
type Block struct {
	Ref chain.BlockRef
	Txs []contract.Tx
}

// Change is what an observer sees after each commit.
type Change struct {
	Ref    Ref
	Before any // nil where the contract is new
	State  any // of the machine of Ref.Kind
	Event  Event
}

// Config is what an Engine is made of.
type Config struct {
	Store Store
	Chain chain.Backend
	// Birthday finds the height from which a new store follows the chain; the
	// whole chain where it is nil. It is asked once the node has a tip.
	Birthday func(context.Context) (wire.Height, error)
	// Observe is called after each commit by whoever committed; it must not
	// block and must not call the engine.
	Observe func(Change)
	Log     *slog.Logger
}

// Engine runs contracts. Make it with New, give it machines and followers, then
// call Run.
type Engine struct {
	cfg       Config
	machines  map[Kind]*Machine
	followers []Follower
	slots     map[contract.Class]chan struct{}
	hot       hotStates

	mu      sync.Mutex
	pending []PendingEffect // queued before Run, or while it has no room
	running map[int64]bool
	wake    chan struct{}
	rate    wire.SatPerKVB
	told    chan struct{} // closed and renewed at each new position
	at      chain.BlockRef
	synced  bool  // the position was the node's tip when last looked
	trouble error // of the last look at the node
}

// New returns an engine that knows no machine yet, and runs nothing.
func New(cfg Config) *Engine {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Change) {}
	}
	slots := map[contract.Class]chan struct{}{}
	for class, n := range parallel {
		slots[class] = make(chan struct{}, n)
	}
	return &Engine{cfg: cfg, machines: map[Kind]*Machine{}, slots: slots, hot: newHotStates(), running: map[int64]bool{},
		wake: make(chan struct{}, 1), told: make(chan struct{})}
}

// Follow adds followers, which are told of blocks in this order. It is called before
// Run.
func (e *Engine) Follow(list ...Follower) { e.followers = append(e.followers, list...) }

// Create starts a contract, durably. ErrExists where there is one already.
func (e *Engine) Create(ctx context.Context, c Creation) error {
	return e.update(ctx, func(b *batch) error { return b.create(c) })
}

// CreateWith starts the contract that make returns; make runs in the
// transaction.
func (e *Engine) CreateWith(ctx context.Context, make func(Tx) (Creation, error)) error {
	return e.update(ctx, func(b *batch) error {
		c, err := make(b.tx)
		if err != nil {
			return err
		}
		return b.create(c)
	})
}

// Tell steps a contract by ev and commits. It returns the new state. An error
// of Step leaves everything as it was.
func (e *Engine) Tell(ctx context.Context, ref Ref, ev Event) (state any, err error) {
	return e.TellWith(ctx, ref, ev, func(Tx) error { return nil })
}

// TellWith is Tell with more to be committed in the same transaction.
func (e *Engine) TellWith(ctx context.Context, ref Ref, ev Event, more func(Tx) error) (state any, err error) {
	err = e.update(ctx, func(b *batch) (err error) {
		if state, err = b.step(ref, ev); err != nil {
			return err
		}
		return more(b.tx)
	})
	return state, err
}

// TellAll steps several contracts in one transaction, in order, or none of them.
func (e *Engine) TellAll(ctx context.Context, list []Delivery) (states []any, err error) {
	return e.CreateAndTell(ctx, nil, list)
}

// CreateAndTell is Create, then TellAll, in one transaction.
func (e *Engine) CreateAndTell(ctx context.Context, create []Creation, list []Delivery) (states []any, err error) {
	err = e.update(ctx, func(b *batch) error {
		for _, c := range create {
			if err := b.create(c); err != nil {
				return err
			}
		}
		states = nil
		for _, d := range list {
			state, err := b.step(d.Ref, d.Event)
			if err != nil {
				return fmt.Errorf("%v: %w", d.Ref, err)
			}
			states = append(states, state)
		}
		return nil
	})
	return states, err
}

// State loads a contract's state.
func (e *Engine) State(ctx context.Context, ref Ref) (state any, err error) {
	err = e.cfg.Store.View(ctx, func(tx Tx) error {
		raw, err := tx.State(ref)
		if err != nil {
			return err
		}
		m, err := e.of(ref.Kind)
		if err != nil {
			return err
		}
		state, err = m.decode(raw)
		return err
	})
	return state, err
}

// Position is the last block told, as of the last commit of this process.
func (e *Engine) Position() chain.BlockRef {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

// FeeRate is the node's estimate as of the last block.
func (e *Engine) FeeRate() wire.SatPerKVB {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rate
}

// WaitHeight returns when the engine has told block h, or ctx ends.
func (e *Engine) WaitHeight(ctx context.Context, h wire.Height) error {
	for {
		e.mu.Lock()
		at, told := e.at.Height, e.told
		e.mu.Unlock()
		if at >= h {
			return nil
		}
		select {
		case <-told:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// batch is one transaction's steps.
type batch struct {
	e       *Engine
	tx      Tx
	changes []Change
	effects []PendingEffect
}

// update runs f in a transaction and, after the commit, reports the changes
// and queues the effects.
func (e *Engine) update(ctx context.Context, f func(*batch) error) error {
	var b *batch
	err := e.cfg.Store.Update(ctx, func(tx Tx) error {
		b = &batch{e: e, tx: tx}
		return f(b)
	})
	if err != nil {
		return err
	}
	for _, c := range b.changes {
		if m := e.machines[c.Ref.Kind]; m.Observe != nil {
			m.Observe(c)
		}
		e.cfg.Observe(c)
	}
	e.queue(b.effects)
	return nil
}

func (b *batch) create(c Creation) error {
	if _, err := b.tx.State(c.Ref); err == nil {
		return fmt.Errorf("%w: %v", ErrExists, c.Ref)
	} else if !errors.Is(err, ErrNoContract) {
		return err
	}
	m, err := b.e.of(c.Ref.Kind)
	if err != nil {
		return err
	}
	if err := b.keep(m, Change{Ref: c.Ref, State: c.State}); err != nil {
		return err
	}
	return b.carry(m, c.Ref, c.Effects)
}

// machineError is a contract's own failure, apart from the store's: it concerns
// nobody else, and trying again would not mend it.
type machineError struct{ error }

func (m *machineError) Unwrap() error { return m.error }

// ErrContract: what failed concerns one contract alone, which is as it was.
var ErrContract = errors.New("a contract's own failure")

func (m *machineError) Is(target error) bool { return target == ErrContract }

// own reports whether err is one contract's own failure.
func own(err error) bool {
	var m *machineError
	return errors.As(err, &m)
}

// step loads, steps and keeps one contract.
func (b *batch) step(ref Ref, ev Event) (any, error) {
	m, unknown := b.e.of(ref.Kind)
	if unknown == nil {
		if next, effects, ok, err := b.stepHot(m, ref, ev); err != nil {
			return nil, err
		} else if ok {
			return next, b.carry(m, ref, effects)
		}
	}
	raw, err := b.tx.State(ref)
	if err != nil {
		return nil, err
	}
	if unknown != nil {
		return nil, &machineError{unknown}
	}
	state, err := m.decode(raw)
	if err != nil {
		return nil, &machineError{err}
	}
	next, effects, err := m.step(state, ev)
	if err != nil {
		return state, &machineError{err}
	}
	if err := b.keep(m, Change{Ref: ref, Before: state, State: next, Event: ev}); err != nil {
		return nil, err
	}
	return next, b.carry(m, ref, effects)
}

func (b *batch) keep(m *Machine, c Change) error {
	raw, again, err := m.encode(c.Ref, c.State)
	if err != nil {
		return err
	}
	if err := b.changed(m, c); err != nil {
		return err
	}
	in := m.interest(c.State)
	if err := b.tx.Save(c.Ref, raw, in); err != nil {
		return err
	}
	b.e.hot.put(m, c.Ref, &hotState{raw, again, in})
	return nil
}

// encode marshals a state, and reads it back: what cannot be read must not be
// written, since the contract would be lost.
func (m *Machine) encode(ref Ref, state any) (raw []byte, again any, err error) {
	if raw, err = wire.Marshal(state); err != nil {
		return nil, nil, err
	}
	if again, err = m.decode(raw); err != nil {
		return nil, nil, &machineError{fmt.Errorf("state of %v: %w", ref, err)}
	}
	return raw, again, nil
}

// changed notes a change for after the commit, and accounts for it.
func (b *batch) changed(m *Machine, c Change) error {
	b.changes = append(b.changes, c)
	if m.Account == nil {
		return nil
	}
	return m.Account(b.tx, c)
}

// carry keeps effects for later, and does at once those that need the store
// alone.
func (b *batch) carry(m *Machine, ref Ref, effects []Effect) error {
	for _, eff := range effects {
		answer, done, err := m.Executor.Commit(b.tx, ref, eff)
		if err != nil {
			return fmt.Errorf("%T: %w", eff, err)
		}
		if done {
			if answer != nil {
				if _, err := b.step(ref, answer); err != nil {
					// Not the machine's own failure any more, which would leave the
					// contract as it was: its step is taken, and must be taken back.
					return fmt.Errorf("%T: %v", answer, err)
				}
			}
			continue
		}
		name, body, err := m.encodeEffect(eff)
		if err != nil {
			return err
		}
		id, err := b.tx.AddEffect(ref, name, body)
		if err != nil {
			return err
		}
		b.effects = append(b.effects, PendingEffect{ID: id, Ref: ref, Name: name, Body: body})
	}
	return nil
}

// queue hands effects to the workers.
func (e *Engine) queue(effects []PendingEffect) {
	if len(effects) == 0 {
		return
	}
	e.mu.Lock()
	e.pending = append(e.pending, effects...)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run carries out what is pending from before, follows the chain and carries
// out new effects until ctx ends; it returns when all of it has stopped.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.cfg.Store.View(ctx, func(tx Tx) error {
		old, err := tx.Effects()
		if err != nil {
			return err
		}
		if at, ok, err := tx.Position(); err != nil {
			return err
		} else if ok {
			e.setPosition(at)
		}
		e.mu.Lock()
		known := map[int64]bool{}
		for _, p := range e.pending {
			known[p.ID] = true
		}
		for _, p := range old {
			if !known[p.ID] {
				e.pending = append(e.pending, p)
			}
		}
		e.mu.Unlock()
		return nil
	}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { e.work(ctx) })
	return e.follow(ctx)
}

// work starts effects as slots allow.
func (e *Engine) work(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		var batch []PendingEffect
		e.mu.Lock()
		for _, p := range e.pending {
			if !e.running[p.ID] {
				e.running[p.ID] = true
				batch = append(batch, p)
			}
		}
		e.pending = nil
		e.mu.Unlock()
		for _, p := range batch {
			wg.Go(func() { e.execute(ctx, p) })
		}
		select {
		case <-e.wake:
		case <-ctx.Done():
			return
		}
	}
}

// Backoff between tries of an effect that fails for a reason of its own, such
// as a node that does not answer.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// parallel is how many effects of each class run at once. Each class has its
// own places, so that no peer that is slow on purpose stands before a claim or
// a refund.
var parallel = map[contract.Class]int{contract.Local: 16, contract.Request: 64, contract.Transfer: 16, contract.Search: 4, contract.Payment: 64}

// execute carries one effect out, however often it takes.
func (e *Engine) execute(ctx context.Context, p PendingEffect) {
	defer func() {
		e.mu.Lock()
		delete(e.running, p.ID)
		e.mu.Unlock()
	}()
	m, err := e.of(p.Ref.Kind)
	var eff Effect
	if err == nil {
		eff, err = m.decodeEffect(p.Name, p.Body)
	}
	if err != nil {
		e.cfg.Log.Error("effect unreadable", "contract", p.Ref.String(), "err", err)
		return
	}
	slots := e.slots[m.class(eff)]
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		// It leans on heights and fees: they have to be those of the node's tip.
		if e.WaitSynced(ctx) != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		commit, err := m.Executor.Do(ctx, p.Ref, eff)
		<-slots
		if err == nil {
			err = e.finish(ctx, p, commit)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		e.cfg.Log.Warn("effect failed, will be tried again", "contract", p.Ref.String(), "effect", p.Name, "err", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// finish marks an effect done and steps what follows from it, together.
func (e *Engine) finish(ctx context.Context, p PendingEffect, commit func(Tx) ([]Delivery, error)) error {
	return e.update(ctx, func(b *batch) error {
		if err := b.tx.DropEffect(p.ID); err != nil {
			return err
		}
		if commit == nil {
			return nil
		}
		deliveries, err := commit(b.tx)
		if err != nil {
			return err
		}
		for _, d := range deliveries {
			if _, err := b.step(d.Ref, d.Event); own(err) || errors.Is(err, ErrNoContract) {
				// A machine that refuses its own effect's answer is a bug, but
				// repeating the effect would not mend it.
				e.cfg.Log.Error("answer refused", "contract", d.Ref.String(), "event", fmt.Sprintf("%T", d.Event), "err", err)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}

// WaitSynced returns when the position is the node's tip as last looked at, or
// ctx ends. A party that is behind must not take promises that depend on a
// height.
func (e *Engine) WaitSynced(ctx context.Context) error {
	for {
		e.mu.Lock()
		synced, told := e.synced, e.told
		e.mu.Unlock()
		if synced {
			return nil
		}
		select {
		case <-told:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Synced reports whether the position is the node's tip as last looked at.
func (e *Engine) Synced() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.synced
}

// Trouble is why the chain cannot be followed at the moment, or nil.
func (e *Engine) Trouble() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trouble
}

// Idle reports whether no effect is waiting or running and the last block of
// tip height h has been told.
func (e *Engine) Idle(h wire.Height) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.pending) == 0 && len(e.running) == 0 && e.at.Height >= h
}
