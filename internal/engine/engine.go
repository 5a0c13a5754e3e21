// Package engine runs the pure machines. It loads a state, steps it, commits
// the new state with its effects and the chain position in one transaction, and
// only then carries out the effects. Effects that were pending when the process
// died are carried out at the next start, so recovery is the ordinary path.
//
// The package declares the interfaces that it needs: Store, Executor, Follower.
// It imports no database, socket or wallet.
package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Kind identifies a role's machine in the store.
type Kind string

// Ref identifies a contract.
type Ref struct {
	Kind Kind
	ID   wire.Hash
}

func (r Ref) String() string { return string(r.Kind) + " " + r.ID.String()[:16] }

// Errors of a Store.
var (
	// ErrNoContract means that there is no contract with this Ref.
	ErrNoContract = errors.New("no such contract")
	// ErrAmbiguous means that the given digits are the beginning of several
	// contracts' IDs.
	ErrAmbiguous = errors.New("more than one message begins so")
	// ErrExists means that Create found an existing contract.
	ErrExists = errors.New("contract exists")
)

// PendingEffect is an effect that was requested and is not known to be done.
type PendingEffect struct {
	ID   int64
	Ref  Ref
	Name string
	Body []byte
}

// Store stores contracts. Update runs f in one durable transaction: if it
// returns nil, everything that f wrote survives a power failure; if f or the
// commit fails, nothing is written. Updates are serial: f sees all earlier
// ones.
type Store interface {
	Update(ctx context.Context, f func(Tx) error) error
	View(ctx context.Context, f func(Tx) error) error
}

// Patch replaces Cut bytes of a state, from At on, by With. The zero Patch
// changes nothing.
type Patch struct {
	At, Cut int
	With    []byte
}

// Of returns the patched state, or nil if the patch does not fit it.
func (p Patch) Of(state []byte) []byte {
	if !p.Fits(state) {
		return nil
	}
	if p.Cut == 0 && len(p.With) == 0 {
		return state
	}
	return slices.Concat(state[:p.At], p.With, state[p.At+p.Cut:])
}

// Fits reports whether the patch is within a state.
func (p Patch) Fits(state []byte) bool {
	return p.At >= 0 && p.Cut >= 0 && p.At <= len(state) && p.Cut <= len(state)-p.At
}

// Equal reports whether two patches are the same.
func (p Patch) Equal(q Patch) bool {
	return p.At == q.At && p.Cut == q.Cut && bytes.Equal(p.With, q.With)
}

// Tx is one transaction.
type Tx interface {
	// State returns a contract's state, or ErrNoContract.
	State(Ref) ([]byte, error)
	// Save writes a contract's state and replaces what it watches. With
	// in.Forget it removes the contract.
	Save(ref Ref, state []byte, in contract.Interest) error
	// Replace writes a contract's state if its current state equals old, byte
	// for byte, and does not change what it watches. Otherwise it writes
	// nothing and returns false.
	Replace(ref Ref, old, state []byte) (bool, error)
	// Patch changes a few bytes of a contract's state: it becomes is.Of(base),
	// if base was last written with Save or Replace, and was with Patch since
	// then (the zero Patch if none was). Otherwise it writes nothing and returns
	// false. It costs far less than Replace; State and Each return the state
	// with its patch, and Save and Replace remove the patch.
	Patch(ref Ref, base []byte, was, is Patch) (bool, error)
	// Each calls f for every contract of a kind, in order of creation. Finished
	// ones are included only if all is set.
	Each(kind Kind, all bool, f func(ref Ref, state []byte) error) error

	// AddEffect stores an effect until DropEffect, and returns its number.
	AddEffect(ref Ref, name string, body []byte) (int64, error)
	DropEffect(id int64) error
	// Effects lists the pending effects, oldest first.
	Effects() ([]PendingEffect, error)

	// Watching lists, once each, the contracts that watch any of these
	// transactions or spends of these outpoints, or that wake by height h.
	Watching(txids []wire.Hash, spent []wire.Outpoint, h wire.Height) ([]Ref, error)
	// Above lists the contracts that know of a block at h or above.
	Above(h wire.Height) ([]Ref, error)

	// Position returns the last block reported; ok is false before the first.
	Position() (at chain.BlockRef, ok bool, err error)
	// Advance sets the position to at; Retreat undoes the last Advance.
	Advance(at chain.BlockRef) error
	Retreat() error

	// Get, Put, Delete and Scan are a small ordered key-value interface for
	// other users of the transaction, such as the wallet. Get returns nil for a
	// missing key. Scan calls f for the first limit keys with a prefix, in
	// order; 0 means no limit.
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
// the chain position, before the contracts are. The contracts that it returns
// are created in the same transaction.
type Follower interface {
	Connect(tx Tx, block *Block) ([]Creation, error)
	Disconnect(tx Tx, height wire.Height) error
}

// Block is a block of the active chain.
type Block struct {
	Ref chain.BlockRef
	Txs []contract.Tx
}

// Change is reported to an observer after each commit.
type Change struct {
	Ref    Ref
	Before any // nil if the contract is new
	State  any // of the machine of Ref.Kind
	Event  Event
}

// Config configures an Engine.
type Config struct {
	Store Store
	Chain chain.Backend
	// Birthday returns the height from which a new store follows the chain; nil
	// means from the beginning. It is called once the node has a tip.
	Birthday func(context.Context) (wire.Height, error)
	// Observe is called after each commit, in the committing goroutine. It must
	// not block and must not call the engine.
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
	pending []PendingEffect // queued before Run, or while there is no room
	running map[int64]bool
	wake    chan struct{}
	rate    wire.SatPerKVB
	fees    chain.Fees
	told    chan struct{} // closed and replaced at each new position
	at      chain.BlockRef
	synced  bool  // the position was the node's tip when last looked
	trouble error // the error of the last poll of the node
}

// New returns an engine without machines. Nothing runs before Run.
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

// Follow adds followers, which are told of blocks in this order. It must be
// called before Run.
func (e *Engine) Follow(list ...Follower) { e.followers = append(e.followers, list...) }

// Create starts a contract, durably. It returns ErrExists if the contract
// exists.
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

// Tell steps a contract with ev, commits, and returns the new state. An error
// of Step leaves everything unchanged.
func (e *Engine) Tell(ctx context.Context, ref Ref, ev Event) (state any, err error) {
	return e.TellWith(ctx, ref, ev, func(Tx) error { return nil })
}

// TellWith is Tell, and also commits what with writes in the same transaction.
func (e *Engine) TellWith(ctx context.Context, ref Ref, ev Event, more func(Tx) error) (state any, err error) {
	err = e.update(ctx, func(b *batch) (err error) {
		if state, err = b.step(ref, ev); err != nil {
			return err
		}
		return more(b.tx)
	})
	return state, err
}

// TellAll steps several contracts in one transaction, in order. If one fails,
// none is stepped.
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

// Told is one contract's answer to TellEach.
type Told struct {
	State any
	Err   error
}

// TellEach steps several contracts in one transaction. Unlike TellAll it leaves
// out those whose step fails. An error that is not a contract's own fails all.
func (e *Engine) TellEach(ctx context.Context, list []Delivery) ([]Told, error) {
	told := make([]Told, len(list))
	err := e.update(ctx, func(b *batch) error {
		for i, d := range list {
			state, err := b.step(d.Ref, d.Event)
			if err != nil && !own(err) && !errors.Is(err, ErrNoContract) {
				return fmt.Errorf("%v: %w", d.Ref, err)
			}
			told[i] = Told{state, err}
		}
		return nil
	})
	return told, err
}

// State returns a contract's state as of the last commit. The caller must not
// modify what it points to.
func (e *Engine) State(ctx context.Context, ref Ref) (state any, err error) {
	if h, ok := e.hot.Get(ref); ok && h.durable.Load() && ctx.Err() == nil {
		return h.state, nil
	}
	err = e.cfg.Store.View(ctx, func(tx Tx) error {
		state, err = e.StateIn(tx, ref)
		return err
	})
	return state, err
}

// StateIn returns a contract's state as of a transaction. The caller must not
// modify what it points to.
func (e *Engine) StateIn(tx Tx, ref Ref) (any, error) {
	raw, err := tx.State(ref)
	if err != nil {
		return nil, err
	}
	m, err := e.of(ref.Kind)
	if err != nil {
		return nil, &machineError{err}
	}
	if h, ok := e.hot.Get(ref); ok && bytes.Equal(h.patch.Of(h.raw), raw) {
		return h.state, nil
	}
	state, err := m.decode(raw)
	if err != nil {
		return nil, &machineError{err}
	}
	return state, nil
}

// Position returns the last block reported, as of this process's last commit.
func (e *Engine) Position() chain.BlockRef {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

// FeeRate returns the node's estimate as of the last block.
func (e *Engine) FeeRate() wire.SatPerKVB {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rate
}

// Fees returns the node's fee policy as of the last block.
func (e *Engine) Fees() chain.Fees {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fees
}

// WaitHeight returns when the engine has reported block h, or ctx ends.
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
	written []*hotState
	sends   []func() // messages, for after the commit
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
	for _, h := range b.written {
		h.durable.Store(true)
	}
	for _, c := range b.changes {
		if m := e.machines[c.Ref.Kind]; m.Observe != nil {
			m.Observe(c)
		}
		e.cfg.Observe(c)
	}
	for _, send := range b.sends {
		send()
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

// machineError is an error of one contract, as opposed to the store. It does
// not concern other contracts, and trying again would not help.
type machineError struct{ error }

func (m *machineError) Unwrap() error { return m.error }

// ErrContract means that the error concerns one contract only, whose state is
// unchanged.
var ErrContract = errors.New("a contract's own failure")

func (m *machineError) Is(target error) bool { return target == ErrContract }

// own reports whether err is one contract's own failure.
func own(err error) bool {
	var m *machineError
	return errors.As(err, &m)
}

// step loads, steps and stores one contract.
func (b *batch) step(ref Ref, ev Event) (any, error) {
	m, unknown := b.e.of(ref.Kind)
	if unknown == nil {
		if next, effects, ok, err := b.stepHot(m, ref, ev); err != nil {
			return nil, err
		} else if ok {
			return next, b.carry(m, ref, effects)
		}
	}
	state, err := b.e.StateIn(b.tx, ref)
	if err != nil {
		return nil, err
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
	b.cache(m, c.Ref, &hotState{raw: raw, state: again, in: in})
	return nil
}

// encode encodes a state and decodes it again, because a state that cannot be
// decoded must not be written: the contract would be lost.
func (m *Machine) encode(ref Ref, state any) (raw []byte, again any, err error) {
	if raw, err = wire.Marshal(state); err != nil {
		return nil, nil, err
	}
	if again, err = m.decode(raw); err != nil {
		return nil, nil, &machineError{fmt.Errorf("state of %v: %w", ref, err)}
	}
	return raw, again, nil
}

// changed records a change for after the commit, and calls Account.
func (b *batch) changed(m *Machine, c Change) error {
	b.changes = append(b.changes, c)
	if m.Account == nil {
		return nil
	}
	return m.Account(b.tx, c)
}

// carry stores effects for later, and carries out at once those that only need
// the store.
func (b *batch) carry(m *Machine, ref Ref, effects []Effect) error {
	for _, eff := range effects {
		if m.class(eff) == contract.Message {
			if m.Send == nil {
				return fmt.Errorf("%T: machines of kind %q send no messages", eff, m.Kind)
			}
			b.sends = append(b.sends, func() { m.Send(ref, eff) })
			continue
		}
		answers, done, err := m.Executor.Commit(b.tx, ref, eff)
		if err != nil {
			return fmt.Errorf("%T: %w", eff, err)
		}
		if done {
			if err := b.deliver(ref, answers); err != nil {
				return err
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

// deliver steps the answers that an effect of from has in its own transaction.
func (b *batch) deliver(from Ref, answers []Delivery) error {
	for _, d := range answers {
		_, err := b.step(d.Ref, d.Event)
		switch {
		case err == nil:
		case d.Ref == from:
			// No longer the machine's own error, which would leave the contract
			// unchanged: the step was made and must be rolled back.
			return fmt.Errorf("%T: %v", d.Event, err)
		case own(err) || errors.Is(err, ErrNoContract):
			b.e.cfg.Log.Error("delivery refused", "contract", d.Ref.String(), "event", fmt.Sprintf("%T", d.Event), "from", from.String(), "err", err)
		default:
			return err
		}
	}
	return nil
}

// queue passes effects to the workers.
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

// Run carries out effects pending from before, follows the chain, and carries
// out new effects until ctx ends. It returns when everything has stopped.
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

// The delays before an effect is retried that failed for a local reason, such
// as a node that does not answer.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// parallel is the number of concurrent effects of each class. Each class has
// its own slots, so a peer that is slow on purpose cannot delay a claim or a
// refund.
var parallel = map[contract.Class]int{contract.Local: 16, contract.Request: 64, contract.Transfer: 16, contract.Search: 4, contract.Payment: 64}

// execute carries out one effect, with as many retries as needed.
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
		// Effects use the current height and fee rate, so wait until the
		// position is the node's tip.
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
		e.cfg.Log.Warn("effect failed, will retry", "contract", p.Ref.String(), "effect", p.Name, "err", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// finish removes an effect and steps the resulting events, in one transaction.
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
				// A machine that refuses its own effect's result is a bug, but
				// repeating the effect would not help.
				e.cfg.Log.Error("answer refused", "contract", d.Ref.String(), "event", fmt.Sprintf("%T", d.Event), "err", err)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}

// WaitSynced returns when the position is the node's tip as of the last poll,
// or ctx ends. A party that is behind must not accept obligations that depend
// on a height.
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

// Synced reports whether the position is the node's tip as of the last poll.
func (e *Engine) Synced() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.synced
}

// Trouble returns why the chain cannot be followed at the moment, or nil.
func (e *Engine) Trouble() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trouble
}

// Idle reports whether no effect is waiting or running and the block at tip
// height h has been reported.
func (e *Engine) Idle(h wire.Height) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.pending) == 0 && len(e.running) == 0 && e.at.Height >= h
}
