package share

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// TestFirstOf: one contract of a transaction looks after it in a block, whatever
// the others ask.
func TestFirstOf(t *testing.T) {
	var l looked
	txid := wire.Hash{7}
	one, two := engine.Ref{Kind: "x", ID: wire.Hash{1}}, engine.Ref{Kind: "x", ID: wire.Hash{2}}
	for i, c := range []struct {
		ref  engine.Ref
		tip  wire.Height
		want bool
	}{{one, 10, true}, {two, 10, false}, {one, 10, true}, {two, 11, true}, {one, 11, false}, {two, 11, true}} {
		if got := l.firstOf(txid, c.ref, c.tip); got != c.want {
			t.Errorf("%d: first of its batch: %v", i, got)
		}
	}
	l.leave(one, 11)
	if !l.isLeft(one, 11) || l.isLeft(two, 11) || l.isLeft(one, 12) {
		t.Error("what was left out")
	}
}

// thing is a contract for tests, and tableTx a store of things.
type thing struct {
	Value  wire.Sat
	Paused bool
	Closed bool
	Sent   *contract.Sent `cbor:",omitempty"`
}

type tableTx struct {
	engine.Tx
	states map[engine.Ref][]byte
	index  map[string][][]byte // sorted keys by bucket
	reads  int
}

func (t *tableTx) State(ref engine.Ref) ([]byte, error) {
	t.reads++
	return t.states[ref], nil
}

func (t *tableTx) Put(bucket string, key, _ []byte) error {
	if i, ok := slices.BinarySearchFunc(t.index[bucket], key, bytes.Compare); !ok {
		t.index[bucket] = slices.Insert(t.index[bucket], i, slices.Clone(key))
	}
	return nil
}

func (t *tableTx) Delete(bucket string, key []byte) error {
	if i, ok := slices.BinarySearchFunc(t.index[bucket], key, bytes.Compare); ok {
		t.index[bucket] = slices.Delete(t.index[bucket], i, i+1)
	}
	return nil
}

func (t *tableTx) Scan(bucket string, prefix []byte, limit int, f func(key, value []byte) error) error {
	n := 0
	for _, key := range t.index[bucket] {
		if !bytes.HasPrefix(key, prefix) {
			continue
		}
		if n++; limit > 0 && n > limit {
			return nil
		}
		if err := f(key, nil); err != nil {
			return err
		}
	}
	return nil
}

func sharing() *Sharing[thing, int] {
	return &Sharing[thing, int]{Kind: "thing", Limit: 100, Bucket: "things", Log: slog.New(slog.DiscardHandler),
		Sent:  func(t *thing) *contract.Sent { return t.Sent },
		Spent: func(*thing) *contract.Fact { return nil },
		Worth: func(t *thing) (wire.Sat, int64) { return t.Value, 400 },
		Solo:  func(*thing) bool { return false },
		Open:  func(t *thing) bool { return !t.Closed },
		Ready: func(t *thing) bool { return !t.Closed && !t.Paused },
	}
}

// set changes a thing as the engine does.
func (t *tableTx) set(tb testing.TB, h *Sharing[thing, int], i int, now any) engine.Ref {
	tb.Helper()
	ref := engine.Ref{Kind: h.Kind, ID: wire.Hash{0: byte(i), 1: byte(i >> 8), 2: byte(i >> 16)}}
	c := engine.Change{Ref: ref, State: now}
	if raw, ok := t.states[ref]; ok {
		var before thing
		if err := wire.Unmarshal(raw, &before); err != nil {
			tb.Fatal(err)
		}
		c.Before = before
	}
	raw, err := wire.Marshal(now)
	if err != nil {
		tb.Fatal(err)
	}
	t.states[ref] = raw
	if err := h.Account(t, c); err != nil {
		tb.Fatal(err)
	}
	return ref
}

// paused returns a store with n paused things that are worth more than all others.
func paused(tb testing.TB, h *Sharing[thing, int], n int) *tableTx {
	t := &tableTx{states: map[engine.Ref][]byte{}, index: map[string][][]byte{}}
	for i := range n {
		t.set(tb, h, i, thing{Value: 1_000_000})
		t.set(tb, h, i, thing{Value: 1_000_000, Paused: true})
	}
	return t
}

// TestPausedCost: what a plan reads does not depend on how many contracts are
// paused; they return to the index when they are ready again, and the places that
// an older version gave them are found.
func TestPausedCost(t *testing.T) {
	h := sharing()
	const n = 2000
	tx := paused(t, h, n)
	first := tx.set(t, h, n, thing{Value: 500})
	for i := range 10 {
		tx.set(t, h, n+1+i, thing{Value: 500})
	}
	group := func() int {
		t.Helper()
		tx.reads = 0
		list, err := h.Group(tx, Member[thing]{Ref: first, State: thing{Value: 500}})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if got := group(); got != 11 || tx.reads > 2*h.Limit {
		t.Errorf("%d members, %d contracts are read", got, tx.reads)
	}
	for i := range 5 {
		tx.set(t, h, i, thing{Value: 1_000_000})
	}
	if got := group(); got != 16 {
		t.Errorf("%d members, want those that are ready again too", got)
	}
	// Of an older version: a paused one in the index, which then ends.
	key := append(order(1_000_000, 400), make([]byte, 32)...)
	key[8], key[9] = 10, 0
	if err := tx.Put(h.waiting(), key, nil); err != nil {
		t.Fatal(err)
	}
	if got := group(); got != 16 {
		t.Errorf("%d members with an old entry", got)
	}
	tx.set(t, h, 10, thing{Closed: true})
	errs, err := h.Indexed(tx, func(f func(engine.Ref, thing) error) error {
		for ref, raw := range tx.states {
			var s thing
			if err := errors.Join(wire.Unmarshal(raw, &s), f(ref, s)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(errs) > 0 {
		t.Errorf("the index: %v, %v", errs, err)
	}
}

// BenchmarkGroup measures the choice of members for a plan, beside paused
// contracts.
func BenchmarkGroup(b *testing.B) {
	for _, n := range []int{0, 1000, 10_000} {
		b.Run(fmt.Sprintf("%d paused", n), func(b *testing.B) {
			h := sharing()
			tx := paused(b, h, n)
			first := tx.set(b, h, n, thing{Value: 500})
			for i := range 10 {
				tx.set(b, h, n+1+i, thing{Value: 500})
			}
			for b.Loop() {
				if list, err := h.Group(tx, Member[thing]{Ref: first, State: thing{Value: 500}}); err != nil || len(list) != 11 {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}
