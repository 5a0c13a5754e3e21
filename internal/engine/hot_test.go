package engine_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

type noExecutor struct{}

func (noExecutor) Commit(engine.Tx, engine.Ref, engine.Effect) ([]engine.Delivery, bool, error) {
	return nil, true, nil
}

func (noExecutor) Do(context.Context, engine.Ref, engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	return nil, errors.New("nothing to do")
}

// musts returns a function that ends the test if there is an error.
func musts(t *testing.T) func(error) {
	return func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func opened(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "db"))
	musts(t)(err)
	t.Cleanup(func() { s.Close() })
	return s
}

// hundred is a bank that is to pay a hundred pennies.
func hundred(t *testing.T, ref engine.Ref) bank.Payer {
	t.Helper()
	p, _, err := bank.NewPayer(ref.ID, bank.Terms{Value: 1000, Rungs: 2, PerRung: 100, Margins: bank.MarginsFor(wire.Regtest)})
	musts(t)(err)
	p.Target = 100
	return p
}

// TestHotStates: a remembered state counts only while it is the one that is
// stored: not after a rollback, and not where somebody else has written another.
func TestHotStates(t *testing.T) {
	ctx, must := t.Context(), musts(t)
	s := opened(t)
	accounted := 0
	e := engine.New(engine.Config{Store: s})
	m := engine.MachineOf[bank.Payer](bank.KindPayer, bank.Machines)
	m.Executor, m.Hot = noExecutor{}, true
	m.Account = func(engine.Tx, engine.Change) error { accounted++; return nil }
	e.Register(m)
	ref := engine.Ref{Kind: bank.KindPayer, ID: wire.Hash{1}}
	p := hundred(t, ref)
	must(e.Create(ctx, engine.Creation{Ref: ref, State: p}))
	stored := func() (p bank.Payer) {
		t.Helper()
		state, err := e.State(ctx, ref)
		must(err)
		return state.(bank.Payer)
	}
	tell := func(count uint32, more error) {
		t.Helper()
		_, err := e.TellWith(ctx, ref, bank.Streamed{Count: count}, func(engine.Tx) error { return more })
		if !errors.Is(err, more) {
			t.Fatal(err)
		}
	}
	for n := range uint32(5) {
		tell(n, nil)
		if got := stored().Acked; got != n {
			t.Errorf("%d, not %d", got, n)
		}
	}
	failed := errors.New("failed")
	tell(50, failed)
	tell(5, nil)
	if got := stored().Acked; got != 5 {
		t.Errorf("after a rollback: %d", got)
	}
	other := stored()
	other.Target, other.Acked = 200, 150
	raw, err := wire.Marshal(other)
	must(err)
	must(s.Update(ctx, func(tx engine.Tx) error {
		return tx.Save(ref, raw, contract.Interest{Txids: []wire.Hash{{7}}})
	}))
	tell(160, nil)
	if got := stored(); got.Acked != 160 || got.Target != 200 {
		t.Errorf("of another's state: %d of %d", got.Acked, got.Target)
	}
	must(s.View(ctx, func(tx engine.Tx) error {
		if refs, err := tx.Watching([]wire.Hash{{7}}, nil, 0); err != nil || len(refs) > 0 {
			t.Errorf("what another's state watched is still watched: %v, %v", refs, err)
		}
		return nil
	}))
	// Twice in one transaction, and one that the machine refuses.
	list := []engine.Delivery{{Ref: ref, Event: bank.Streamed{Count: 161}}, {Ref: ref, Event: bank.Streamed{Count: 162}}}
	if _, err := e.TellAll(ctx, list); err != nil || stored().Acked != 162 {
		t.Errorf("%d, %v", stored().Acked, err)
	}
	if _, err := e.Tell(ctx, ref, bank.Ordered{Pennies: 1}); !errors.Is(err, bank.ErrNotOpen) {
		t.Errorf("an order of a bank that is not open: %v", err)
	}
	if accounted != 11 {
		t.Errorf("%d changes accounted for, not 11", accounted)
	}
}

// TestHotPatches: a penny is written as a patch of its bank's state. What is
// stored is what the whole state would be: after every penny, after a rollback,
// after another's write, and for a store that is opened anew.
func TestHotPatches(t *testing.T) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "db")
	s, err := store.Open(path)
	must(err)
	defer func() { s.Close() }()
	e := engine.New(engine.Config{Store: s})
	m := engine.MachineOf[bank.Payee](bank.KindPayee, bank.Machines)
	m.Executor, m.Hot = noExecutor{}, true
	e.Register(m)
	const perRung = 50
	l := penny.Ladder{Value: 10_000, Rungs: 4, PerRung: perRung}
	chain := bank.Pence(wire.Secret{5}, l.N())
	purse := penny.NewPurse(chain)
	ref := engine.Ref{Kind: bank.KindPayee, ID: wire.Hash{1}}
	y := bank.Payee{Bank: ref.ID, Known: chain.Last()}
	y.Ours = bank.Ours{Expiry: 10_000, Ladder: l, Nonce: chain.Nonce, Conf: 1, Margins: bank.MarginsFor(wire.Regtest),
		Confirmed: &contract.Fact{Height: 10}, Funded: true, Tip: 20}
	must(e.Create(ctx, engine.Creation{Ref: ref, State: y}))
	raw := func(s engine.Store) (raw []byte) {
		t.Helper()
		must(s.View(ctx, func(tx engine.Tx) (err error) {
			raw, err = tx.State(ref)
			return err
		}))
		return raw
	}
	paid := func(count uint32) bank.Paid {
		p := bank.Paid{Height: 20, Penny: purse.At(l.N() - count)}
		for g := l.Rung(y.Count()) + 1; g <= l.Rung(count); g++ {
			at := purse.At(l.Seq(g))
			p.Locks = append(p.Locks, contract.Lock(at.Secret[:wire.PennySize]))
		}
		return p
	}
	check := func(count uint32) {
		t.Helper()
		y.Known = purse.At(l.N() - count)
		want, err := wire.Marshal(y)
		must(err)
		if got := raw(s); !bytes.Equal(got, want) {
			t.Fatalf("after %d pennies:\n%x\nnot\n%x", count, got, want)
		}
	}
	no := errors.New("no")
	for count := uint32(1); count < l.N(); count++ {
		if count%7 == 0 { // a rollback, of this and of its group
			if _, err := e.TellWith(ctx, ref, paid(count), func(engine.Tx) error { return no }); !errors.Is(err, no) {
				t.Fatal(err)
			}
			check(count - 1)
		}
		told, err := e.TellEach(ctx, []engine.Delivery{{Ref: ref, Event: paid(count)}, {Ref: engine.Ref{Kind: bank.KindPayee}, Event: paid(count)}, {Ref: ref, Event: paid(count)}})
		must(err)
		if told[0].Err != nil || !errors.Is(told[1].Err, engine.ErrNoContract) || !errors.Is(told[2].Err, engine.ErrContract) {
			t.Fatalf("%v, %v, %v", told[0].Err, told[1].Err, told[2].Err)
		}
		check(count)
		switch count % 20 {
		case 3:
			must(s.Close())
			s, err = store.Open(path)
			must(err)
			check(count)
			e = engine.New(engine.Config{Store: s})
			e.Register(m)
		case 9: // another's write
			y.Assigned++
			other, err := wire.Marshal(y)
			must(err)
			must(s.Update(ctx, func(tx engine.Tx) error { return tx.Save(ref, other, y.Interest()) }))
			check(count)
		case 15: // a step that is not light
			must(s.Update(ctx, func(engine.Tx) error { return nil }))
			_, err := e.Tell(ctx, ref, bank.Passed{Amount: 1000})
			must(err)
			y.Assigned += 1000
			check(count)
		}
	}
}

// views counts what is read outside of updates.
type views struct {
	engine.Store
	n int
}

func (v *views) View(ctx context.Context, f func(engine.Tx) error) error {
	v.n++
	return v.Store.View(ctx, f)
}

// TestStateCommitted: State returns the last committed state, not one that is
// still being written, or was rolled back; once the commit of a hot machine's
// state is known, it asks the store no more.
func TestStateCommitted(t *testing.T) {
	ctx, must := t.Context(), musts(t)
	s := opened(t)
	counted := &views{Store: s}
	e := engine.New(engine.Config{Store: counted})
	m := engine.MachineOf[bank.Payer](bank.KindPayer, bank.Machines)
	m.Executor, m.Hot = noExecutor{}, true
	e.Register(m)
	ref := engine.Ref{Kind: bank.KindPayer, ID: wire.Hash{1}}
	if _, err := e.State(ctx, ref); !errors.Is(err, engine.ErrNoContract) {
		t.Errorf("of no contract: %v", err)
	}
	p := hundred(t, ref)
	must(e.Create(ctx, engine.Creation{Ref: ref, State: p}))
	acked := func(reads int) uint32 {
		t.Helper()
		counted.n = 0
		state, err := e.State(ctx, ref)
		must(err)
		if counted.n != reads {
			t.Errorf("%d reads of the store, not %d", counted.n, reads)
		}
		return state.(bank.Payer).Acked
	}
	failed := errors.New("failed")
	for n := range uint32(3) {
		for _, end := range []error{failed, nil} {
			_, err := e.TellWith(ctx, ref, bank.Streamed{Count: n + 1}, func(tx engine.Tx) error {
				if got := acked(1); got != n {
					t.Errorf("before the commit: %d, not %d", got, n)
				}
				state, err := e.StateIn(tx, ref)
				must(err)
				if got := state.(bank.Payer).Acked; got != n+1 {
					t.Errorf("in the transaction: %d, not %d", got, n+1)
				}
				return end
			})
			if !errors.Is(err, end) {
				t.Fatal(err)
			}
			if end == nil {
				continue
			}
			if got := acked(1); got != n {
				t.Errorf("after a rollback: %d, not %d", got, n)
			}
		}
		if got := acked(0); got != n+1 {
			t.Errorf("after the commit: %d, not %d", got, n+1)
		}
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := e.State(over, ref); !errors.Is(err, context.Canceled) {
		t.Errorf("of a request that is over: %v", err)
	}
}
