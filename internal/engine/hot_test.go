package engine_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

type noExecutor struct{}

func (noExecutor) Commit(engine.Tx, engine.Ref, engine.Effect) (engine.Event, bool, error) {
	return nil, true, nil
}

func (noExecutor) Do(context.Context, engine.Ref, engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	return nil, errors.New("nothing to do")
}

// TestHotStates: a remembered state counts only while it is the one that is
// stored: not after a rollback, and not where somebody else has written another.
func TestHotStates(t *testing.T) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Open(filepath.Join(t.TempDir(), "db"))
	must(err)
	defer s.Close()
	accounted := 0
	e := engine.New(engine.Config{Store: s})
	m := engine.MachineOf[bank.Payer](bank.KindPayer, bank.Machines)
	m.Executor, m.Hot = noExecutor{}, true
	m.Account = func(engine.Tx, engine.Change) error { accounted++; return nil }
	e.Register(m)
	ref := engine.Ref{Kind: bank.KindPayer, ID: wire.Hash{1}}
	p, _, err := bank.NewPayer(ref.ID, bank.Terms{Value: 1000, Rungs: 2, PerRung: 100, Margins: bank.MarginsFor(wire.Regtest)})
	must(err)
	p.Target = 100
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
