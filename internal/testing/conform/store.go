package conform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// StoreHarness is a store under test.
type StoreHarness struct {
	engine.Store
	// Close closes it; Reopen closes it and opens what it left.
	Close  func()
	Reopen func() engine.Store
}

// Store is the suite of engine.Store. open makes an empty one, which the
// caller of open closes.
func Store(t *testing.T, open func() *StoreHarness) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *StoreHarness)
	}{
		{"Serial", storeSerial},
		{"Atomic", storeAtomic},
		{"Panic", storePanic},
		{"Contracts", storeContracts},
		{"Each", storeEach},
		{"Watching", storeWatching},
		{"WakeTop", storeWakeTop},
		{"Effects", storeEffects},
		{"Position", storePosition},
		{"KV", storeKV},
		{"View", storeView},
		{"Cancelled", storeCancelled},
		{"Durable", storeDurable},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := open()
			defer h.Close()
			c.run(t, h)
		})
	}
	t.Run("Model", func(t *testing.T) {
		n := tier.Pick(3, 10, 25) // each makes a new store
		rapid.Check(t, func(r *rapid.T) {
			if n--; n >= 0 {
				storeModel(r, open())
			}
		})
	})
}

func update(t *testing.T, s engine.Store, f func(engine.Tx) error) {
	t.Helper()
	Must(t, s.Update(t.Context(), f))
}

// Kinds of contracts; a store knows nothing of what they mean.
const kindA, kindB, kindC engine.Kind = "a", "b", "c"

func ref(kind engine.Kind, n byte) engine.Ref { return engine.Ref{Kind: kind, ID: wire.Hash{n, 31: n}} }

func outpoint(n byte) wire.Outpoint { return wire.Outpoint{Txid: wire.Hash{n}, Vout: uint32(n)} }

var errWanted = errors.New("wanted by the test")

// storeSerial: every update sees all earlier ones.
func storeSerial(t *testing.T, h *StoreHarness) {
	const writers, each = 16, 20
	key := []byte("n")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := h.Update(t.Context(), func(tx engine.Tx) error {
					old, err := tx.Get("count", key)
					if err != nil {
						return err
					}
					return tx.Put("count", key, append(old, 1))
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	update(t, h, func(tx engine.Tx) error {
		if v, _ := tx.Get("count", key); len(v) != writers*each {
			t.Errorf("%d of %d updates count", len(v), writers*each)
		}
		return nil
	})
}

// storeAtomic: a failed update leaves nothing, whatever the updates that share
// its commit do.
func storeAtomic(t *testing.T, h *StoreHarness) {
	var wg sync.WaitGroup
	const n = 60
	for i := range byte(n) {
		wg.Go(func() {
			err := h.Update(t.Context(), func(tx engine.Tx) error {
				Must(t, tx.Save(ref(kindA, i), []byte{i}, contract.Interest{Txids: []wire.Hash{{i}}, Wake: 5, Top: 5}))
				_, err := tx.AddEffect(ref(kindA, i), "x", []byte{i})
				Must(t, err)
				Must(t, tx.Put("b", []byte{i}, []byte{i}))
				if i%3 == 0 {
					return errWanted
				}
				return nil
			})
			if (i%3 == 0) != errors.Is(err, errWanted) {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	update(t, h, func(tx engine.Tx) error {
		for i := range byte(n) {
			_, err := tx.State(ref(kindA, i))
			v, _ := tx.Get("b", []byte{i})
			if want := i%3 != 0; (err == nil) != want || (v != nil) != want {
				t.Errorf("update %d: state %v, value %v", i, err, v)
			}
		}
		list, err := tx.Effects()
		Must(t, err)
		woken, err := tx.Watching(nil, nil, 5)
		Must(t, err)
		if len(list) != n-n/3 || len(woken) != n-n/3 {
			t.Errorf("%d effects and %d woken of %d updates", len(list), len(woken), n-n/3)
		}
		return nil
	})
}

// storePanic: a panic reaches the caller of Update, leaves nothing behind, and
// does not affect other updates.
func storePanic(t *testing.T, h *StoreHarness) {
	var wg sync.WaitGroup
	for i := range byte(20) {
		wg.Go(func() {
			defer func() {
				if p := recover(); (p != nil) != (i == 7) {
					t.Errorf("update %d: panic %v", i, p)
				}
			}()
			Must(t, h.Update(t.Context(), func(tx engine.Tx) error {
				Must(t, tx.Put("b", []byte{i}, []byte{1}))
				if i == 7 {
					panic("wanted by the test")
				}
				return nil
			}))
		})
	}
	wg.Wait()
	update(t, h, func(tx engine.Tx) error {
		for i := range byte(20) {
			if v, _ := tx.Get("b", []byte{i}); (v == nil) != (i == 7) {
				t.Errorf("update %d: %v", i, v)
			}
		}
		return nil
	})
}

func storeContracts(t *testing.T, h *StoreHarness) {
	a, b := ref(kindB, 1), ref(kindC, 1) // one ID, two kinds
	update(t, h, func(tx engine.Tx) error {
		_, err := tx.State(a)
		WantErr(t, err, engine.ErrNoContract)
		Must(t, tx.Save(a, []byte("one"), contract.Interest{Txids: []wire.Hash{{9}}}))
		Must(t, tx.Save(b, []byte("two"), contract.Interest{Txids: []wire.Hash{{9}}}))
		Must(t, tx.Save(a, []byte("three"), contract.Interest{Outpoints: []wire.Outpoint{outpoint(9)}}))
		got, err := tx.State(a)
		if err != nil || string(got) != "three" {
			t.Errorf("state %q, %v", got, err)
		}
		return nil
	})
	update(t, h, func(tx engine.Tx) error {
		refs, err := tx.Watching([]wire.Hash{{9}}, nil, 0)
		Must(t, err)
		if !slices.Equal(refs, []engine.Ref{b}) {
			t.Errorf("the txid is watched by %v: what a save leaves out stays watched", refs)
		}
		Must(t, tx.Save(b, nil, contract.Interest{Forget: true}))
		_, err = tx.State(b)
		WantErr(t, err, engine.ErrNoContract)
		Must(t, tx.Save(b, nil, contract.Interest{Forget: true})) // again
		if ok, err := tx.Replace(b, nil, []byte("six")); ok || err != nil {
			t.Errorf("what is gone was replaced: %v", err)
		}
		if ok, err := tx.Replace(a, []byte("two"), []byte("four")); ok || err != nil {
			t.Errorf("another state was replaced: %v", err)
		}
		if ok, err := tx.Replace(a, []byte("three"), []byte("five")); !ok || err != nil {
			t.Errorf("a state was not replaced: %v", err)
		}
		if got, err := tx.State(a); err != nil || string(got) != "five" {
			t.Errorf("state %q, %v", got, err)
		}
		refs, err = tx.Watching([]wire.Hash{{9}}, []wire.Outpoint{outpoint(9)}, 0)
		Must(t, err)
		if !slices.Equal(refs, []engine.Ref{a}) {
			t.Errorf("watched by %v, want %v alone", refs, a)
		}
		return nil
	})
}

func storeEach(t *testing.T, h *StoreHarness) {
	update(t, h, func(tx engine.Tx) error {
		for _, n := range []byte{5, 3, 9, 1} {
			Must(t, tx.Save(ref(kindA, n), []byte{n}, contract.Interest{Done: n == 9}))
			Must(t, tx.Save(ref(kindB, n), []byte{n}, contract.Interest{}))
		}
		// A later save changes nothing of the order of creation.
		return tx.Save(ref(kindA, 5), []byte{50}, contract.Interest{})
	})
	update(t, h, func(tx engine.Tx) error {
		for all, want := range map[bool]string{true: "\x32\x03\x09\x01", false: "\x32\x03\x01"} {
			var got []byte
			Must(t, tx.Each(kindA, all, func(r engine.Ref, state []byte) error {
				again, err := tx.State(r) // other queries may run meanwhile
				if err != nil || !bytes.Equal(again, state) || r.Kind != kindA {
					t.Errorf("%v: state %x or %x, %v", r, state, again, err)
				}
				got = append(got, state...)
				return nil
			}))
			if string(got) != want {
				t.Errorf("all %v: states %x, want %x", all, got, want)
			}
		}
		n := 0
		err := tx.Each(kindA, true, func(engine.Ref, []byte) error { n++; return errWanted })
		WantErr(t, err, errWanted)
		if n != 1 {
			t.Error("Each goes on after an error")
		}
		return nil
	})
}

func storeWatching(t *testing.T, h *StoreHarness) {
	a, b, c, d := ref(kindA, 1), ref(kindA, 2), ref(kindB, 3), ref(kindB, 4)
	update(t, h, func(tx engine.Tx) error {
		Must(t, tx.Save(a, []byte{1}, contract.Interest{Txids: []wire.Hash{{1}, {2}}, Outpoints: []wire.Outpoint{outpoint(1)}, Wake: 10}))
		Must(t, tx.Save(b, []byte{2}, contract.Interest{Outpoints: []wire.Outpoint{outpoint(1), outpoint(1)}}))
		Must(t, tx.Save(c, []byte{3}, contract.Interest{Txids: []wire.Hash{{1}, {1}}, Done: true}))
		return tx.Save(d, []byte{4}, contract.Interest{Txids: []wire.Hash{{5}}})
	})
	other := outpoint(1)
	other.Vout++
	for _, x := range []struct {
		txids []wire.Hash
		spent []wire.Outpoint
		h     wire.Height
		want  []engine.Ref
	}{
		{nil, nil, 9, nil},
		{[]wire.Hash{{1}, {2}}, []wire.Outpoint{outpoint(1)}, 10, []engine.Ref{a, b}}, // each once
		{nil, []wire.Outpoint{outpoint(1)}, 0, []engine.Ref{a, b}},
		{nil, []wire.Outpoint{other}, 0, nil},
		{[]wire.Hash{{5}, {77}}, nil, 0, []engine.Ref{d}},
		{[]wire.Hash{{5}}, nil, 11, []engine.Ref{a, d}},
	} {
		Must(t, h.View(t.Context(), func(tx engine.Tx) error {
			got, err := tx.Watching(x.txids, x.spent, x.h)
			Must(t, err)
			if !equalRefs(got, x.want) {
				t.Errorf("watching %v %v %d: %v, want %v", x.txids, x.spent, x.h, got, x.want)
			}
			return nil
		}))
	}
}

func equalRefs(a, b []engine.Ref) bool {
	key := func(r engine.Ref) string { return string(r.Kind) + string(r.ID[:]) }
	less := func(x, y engine.Ref) int { return bytes.Compare([]byte(key(x)), []byte(key(y))) }
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, less)
	slices.SortFunc(b, less)
	return slices.Equal(a, b)
}

func storeWakeTop(t *testing.T, h *StoreHarness) {
	a, b, c := ref(kindA, 1), ref(kindA, 2), ref(kindA, 3)
	update(t, h, func(tx engine.Tx) error {
		Must(t, tx.Save(a, []byte{1}, contract.Interest{Wake: 5, Top: 20}))
		Must(t, tx.Save(b, []byte{1}, contract.Interest{Wake: 6, Top: 21, Done: true}))
		return tx.Save(c, []byte{1}, contract.Interest{})
	})
	Must(t, h.View(t.Context(), func(tx engine.Tx) error {
		for h, want := range map[wire.Height][]engine.Ref{4: nil, 5: {a}, 6: {a}, 1 << 30: {a}} {
			if got, err := tx.Watching(nil, nil, h); err != nil || !equalRefs(got, want) {
				t.Errorf("woken by %d: %v, want %v (%v)", h, got, want, err)
			}
		}
		// A reorg reaches the finished too.
		for h, want := range map[wire.Height][]engine.Ref{1: {a, b}, 20: {a, b}, 21: {b}, 22: nil} {
			if got, err := tx.Above(h); err != nil || !equalRefs(got, want) {
				t.Errorf("above %d: %v, want %v (%v)", h, got, want, err)
			}
		}
		return nil
	}))
}

func storeEffects(t *testing.T, h *StoreHarness) {
	var ids []int64
	r := ref(kindA, 1)
	add := func(body string) {
		update(t, h, func(tx engine.Tx) error {
			id, err := tx.AddEffect(r, "name", []byte(body))
			ids = append(ids, id)
			return err
		})
	}
	add("a")
	add("")
	add("c")
	update(t, h, func(tx engine.Tx) error {
		Must(t, tx.DropEffect(ids[2]))
		Must(t, tx.DropEffect(ids[2]))
		// An effect outlives its contract: it may be what cleans up behind it.
		Must(t, tx.Save(r, []byte{1}, contract.Interest{}))
		return tx.Save(r, nil, contract.Interest{Forget: true})
	})
	add("d")
	if slices.Contains(ids[:3], ids[3]) {
		t.Errorf("number %d is given twice: %v", ids[3], ids)
	}
	s := h.Reopen()
	Must(t, s.View(t.Context(), func(tx engine.Tx) error {
		list, err := tx.Effects()
		Must(t, err)
		got := ""
		for _, p := range list {
			got += fmt.Sprintf("%d %v %s %q;", p.ID, p.Ref == r, p.Name, p.Body)
		}
		if want := fmt.Sprintf(`%d true name "a";%d true name "";%d true name "d";`, ids[0], ids[1], ids[3]); got != want {
			t.Errorf("effects %s, want %s", got, want)
		}
		return nil
	}))
}

func blockRef(h wire.Height, fork byte) chain.BlockRef {
	return chain.BlockRef{Height: h, Hash: chainhash.Hash{byte(h), fork, 31: 1}}
}

func storePosition(t *testing.T, h *StoreHarness) {
	at := func() (at chain.BlockRef, ok bool) {
		Must(t, h.View(t.Context(), func(tx engine.Tx) (err error) { at, ok, err = tx.Position(); return err }))
		return
	}
	if _, ok := at(); ok {
		t.Error("an empty store has a position")
	}
	update(t, h, func(tx engine.Tx) error {
		for i := range wire.Height(5) {
			Must(t, tx.Advance(blockRef(100+i, 0)))
		}
		Must(t, tx.Retreat())
		Must(t, tx.Retreat())
		return tx.Advance(blockRef(103, 1))
	})
	if got, ok := at(); !ok || got != blockRef(103, 1) {
		t.Errorf("position %v", got)
	}
	update(t, h, func(tx engine.Tx) error {
		for range 4 {
			Must(t, tx.Retreat())
		}
		return nil
	})
	if got, ok := at(); ok {
		t.Errorf("position %v after as many retreats as advances", got)
	}
}

func storeKV(t *testing.T, h *StoreHarness) {
	update(t, h, func(tx engine.Tx) error {
		for _, k := range []string{"b", "a", "ab", "a\x00", "a\xff", "a\xff\xff", "\xff", "\xff\xff", "\x00", ""} {
			Must(t, tx.Put("x", []byte(k), []byte("v"+k)))
		}
		Must(t, tx.Put("y", []byte("a"), []byte("other")))
		Must(t, tx.Put("x", []byte("gone"), []byte("1")))
		Must(t, tx.Delete("x", []byte("gone")))
		Must(t, tx.Delete("x", []byte("never")))
		Must(t, tx.Put("empty", []byte("k"), []byte{}))
		Must(t, tx.Put("empty", []byte("nil"), nil))
		Must(t, tx.Put("empty", nil, []byte("nil key")))
		return tx.Put("x", []byte("b"), []byte("vb"))
	})
	Must(t, h.View(t.Context(), func(tx engine.Tx) error {
		for _, k := range []string{"k", "nil"} {
			if v, err := tx.Get("empty", []byte(k)); err != nil || v == nil || len(v) != 0 {
				t.Errorf("an empty value is %v, %v: not to be told from none", v, err)
			}
		}
		if v, err := tx.Get("empty", nil); err != nil || string(v) != "nil key" {
			t.Errorf("value under the empty key %q, %v", v, err)
		}
		if v, err := tx.Get("x", []byte("gone")); v != nil || err != nil {
			t.Errorf("missing key gives %v, %v", v, err)
		}
		for _, c := range []struct {
			prefix []byte
			want   string
		}{
			{nil, `"" "\x00" "a" "a\x00" "ab" "a\xff" "a\xff\xff" "b" "\xff" "\xff\xff" `},
			{[]byte{}, `"" "\x00" "a" "a\x00" "ab" "a\xff" "a\xff\xff" "b" "\xff" "\xff\xff" `},
			{[]byte("a"), `"a" "a\x00" "ab" "a\xff" "a\xff\xff" `},
			{[]byte("a\xff"), `"a\xff" "a\xff\xff" `},
			{[]byte("\xff"), `"\xff" "\xff\xff" `},
			{[]byte("c"), ``},
		} {
			got := ""
			Must(t, tx.Scan("x", c.prefix, 0, func(k, v []byte) error {
				if string(v) != "v"+string(k) {
					t.Errorf("%q has %q", k, v)
				}
				got += fmt.Sprintf("%q ", k)
				return nil
			}))
			if got != c.want {
				t.Errorf("scan of %q: %s, want %s", c.prefix, got, c.want)
			}
		}
		for limit := 1; limit < 3; limit++ {
			n := 0
			Must(t, tx.Scan("x", nil, limit, func(_, _ []byte) error { n++; return nil }))
			if n != limit {
				t.Errorf("%d keys of the first %d", n, limit)
			}
		}
		WantErr(t, tx.Scan("x", nil, 0, func(_, _ []byte) error { return errWanted }), errWanted)
		return nil
	}))
	// The function may write to what it walks.
	update(t, h, func(tx engine.Tx) error {
		n := 0
		Must(t, tx.Scan("x", []byte("a"), 0, func(k, _ []byte) error {
			n++
			Must(t, tx.Put("x", append(slices.Clone(k), 'z'), nil))
			return tx.Delete("x", k)
		}))
		if n != 5 {
			t.Errorf("%d keys walked, want the 5 that were there", n)
		}
		return nil
	})
}

// storeView: a view sees one moment and cannot write.
func storeView(t *testing.T, h *StoreHarness) {
	key := []byte("k")
	update(t, h, func(tx engine.Tx) error { return tx.Put("b", key, []byte("old")) })
	Must(t, h.View(t.Context(), func(tx engine.Tx) error {
		first, err := tx.Get("b", key)
		Must(t, err)
		update(t, h, func(tx engine.Tx) error { return tx.Put("b", key, []byte("new")) })
		second, err := tx.Get("b", key)
		Must(t, err)
		if string(first) != "old" || string(second) != "old" {
			t.Errorf("one view reads %q, then %q", first, second)
		}
		return nil
	}))
	if err := h.View(t.Context(), func(tx engine.Tx) error { return tx.Put("b", key, []byte("viewed")) }); err == nil {
		t.Error("a view writes")
	}
	WantErr(t, h.View(t.Context(), func(engine.Tx) error { return errWanted }), errWanted)
	Must(t, h.View(t.Context(), func(tx engine.Tx) error {
		if v, _ := tx.Get("b", key); string(v) != "new" {
			t.Errorf("value %q after a refused write", v)
		}
		return nil
	}))
}

func storeCancelled(t *testing.T, h *StoreHarness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		err := h.Update(ctx, func(tx engine.Tx) error { return tx.Put("b", []byte("k"), []byte("v")) })
		WantErr(t, err, context.Canceled)
	}
	WantErr(t, h.View(ctx, func(engine.Tx) error { return nil }), context.Canceled)
	// One that is cancelled while it runs is there, or returns an error and is
	// not.
	ctx, cancel = context.WithCancel(t.Context())
	err := h.Update(ctx, func(tx engine.Tx) error { cancel(); return tx.Put("b", []byte("late"), []byte("v")) })
	Must(t, h.View(t.Context(), func(tx engine.Tx) error {
		if v, _ := tx.Get("b", []byte("k")); v != nil {
			t.Error("a cancelled update is there")
		}
		if v, _ := tx.Get("b", []byte("late")); (v != nil) != (err == nil) {
			t.Errorf("update says %v, the store has %q", err, v)
		}
		return nil
	}))
}

func storeDurable(t *testing.T, h *StoreHarness) {
	r := ref(kindA, 1)
	update(t, h, func(tx engine.Tx) error {
		Must(t, tx.Save(r, []byte("state"), contract.Interest{Txids: []wire.Hash{{1}}, Wake: 3, Top: 4}))
		Must(t, tx.Put("b", []byte("k"), []byte("v")))
		return tx.Advance(blockRef(7, 0))
	})
	s := h.Reopen()
	Must(t, s.View(t.Context(), func(tx engine.Tx) error {
		state, err := tx.State(r)
		if err != nil || string(state) != "state" {
			t.Errorf("state %q, %v", state, err)
		}
		if v, err := tx.Get("b", []byte("k")); err != nil || string(v) != "v" {
			t.Errorf("value %q, %v", v, err)
		}
		if at, ok, err := tx.Position(); err != nil || !ok || at != blockRef(7, 0) {
			t.Errorf("position %v, %v", at, err)
		}
		for _, list := range [][]engine.Ref{first(tx.Watching([]wire.Hash{{1}}, nil, 0)), first(tx.Watching(nil, nil, 3)), first(tx.Above(4))} {
			if !slices.Equal(list, []engine.Ref{r}) {
				t.Errorf("queries after a restart give %v", list)
			}
		}
		return nil
	}))
}

func first(refs []engine.Ref, _ error) []engine.Ref { return refs }

// model is the naive store.
type model struct {
	order   []engine.Ref
	state   map[engine.Ref][]byte // with its patch
	base    map[engine.Ref][]byte // without
	patch   map[engine.Ref]engine.Patch
	in      map[engine.Ref]contract.Interest
	effects []engine.PendingEffect
	blocks  []chain.BlockRef
	kv      map[string]map[string]string
}

func newModel() *model {
	return &model{state: map[engine.Ref][]byte{}, base: map[engine.Ref][]byte{}, patch: map[engine.Ref]engine.Patch{}, in: map[engine.Ref]contract.Interest{}, kv: map[string]map[string]string{}}
}

func (m *model) clone() *model {
	c := &model{order: slices.Clone(m.order), state: maps.Clone(m.state), base: maps.Clone(m.base), patch: maps.Clone(m.patch),
		in: maps.Clone(m.in), effects: slices.Clone(m.effects), blocks: slices.Clone(m.blocks), kv: map[string]map[string]string{}}
	for b, kv := range m.kv {
		c.kv[b] = maps.Clone(kv)
	}
	return c
}

// storeModel runs random transactions, some of which fail, on the store and on
// the model, and compares everything that can be asked.
func storeModel(r *rapid.T, h *StoreHarness) {
	defer h.Close()
	s := h.Store
	m := newModel()
	ctx := context.Background()
	small := rapid.ByteRange(0, 3)
	refs := rapid.Custom(func(r *rapid.T) engine.Ref {
		return ref(rapid.SampledFrom([]engine.Kind{kindA, kindB}).Draw(r, "kind"), small.Draw(r, "id"))
	})
	keys := rapid.SampledFrom([]string{"", "a", "aa", "ab", "a\xff", "b", "\xff"})
	heights := rapid.Map(rapid.ByteRange(0, 5), func(b byte) wire.Height { return wire.Height(b) })
	check := func(err error) {
		r.Helper()
		if err != nil {
			r.Fatal(err)
		}
	}
	for range rapid.IntRange(1, 8).Draw(r, "transactions") {
		next := m.clone()
		fails := rapid.IntRange(0, 3).Draw(r, "fails") == 0
		err := s.Update(ctx, func(tx engine.Tx) error {
			for range rapid.IntRange(0, 6).Draw(r, "steps") {
				switch rapid.IntRange(0, 9).Draw(r, "op") {
				case 0, 1:
					ref := refs.Draw(r, "ref")
					in := contract.Interest{Wake: heights.Draw(r, "wake"), Top: heights.Draw(r, "top"), Done: rapid.Bool().Draw(r, "done"),
						Forget: rapid.IntRange(0, 4).Draw(r, "forget") == 0}
					for range rapid.IntRange(0, 2).Draw(r, "watches") {
						in.Txids = append(in.Txids, wire.Hash{small.Draw(r, "txid")})
						in.Outpoints = append(in.Outpoints, outpoint(small.Draw(r, "outpoint")))
					}
					state := []byte{small.Draw(r, "state")}
					check(tx.Save(ref, state, in))
					next.base[ref] = state
					delete(next.patch, ref)
					if _, ok := next.state[ref]; in.Forget {
						delete(next.state, ref)
						delete(next.in, ref)
						next.order = slices.DeleteFunc(next.order, func(x engine.Ref) bool { return x == ref })
						break
					} else if !ok {
						next.order = append(next.order, ref)
					}
					next.state[ref], next.in[ref] = state, in
				case 8, 9:
					ref := refs.Draw(r, "ref")
					base, was := next.base[ref], next.patch[ref]
					if rapid.IntRange(0, 3).Draw(r, "other") == 0 {
						base = []byte{small.Draw(r, "base")}
					}
					if rapid.IntRange(0, 3).Draw(r, "other") == 0 {
						was = engine.Patch{With: []byte{small.Draw(r, "was")}}
					}
					is := engine.Patch{At: rapid.IntRange(0, 2).Draw(r, "at"), Cut: rapid.IntRange(0, 1).Draw(r, "cut"), With: []byte{small.Draw(r, "with"), 7}}
					ok, err := tx.Patch(ref, base, was, is)
					check(err)
					_, there := next.state[ref]
					if want := there && bytes.Equal(base, next.base[ref]) && was.Equal(next.patch[ref]) && is.At+is.Cut <= len(base); ok != want {
						r.Fatalf("patched: %v, want %v", ok, want)
					} else if ok {
						next.patch[ref], next.state[ref] = is, is.Of(base)
					}
				case 7:
					ref, old, state := refs.Draw(r, "ref"), []byte{small.Draw(r, "old")}, []byte{small.Draw(r, "state")}
					if rapid.Bool().Draw(r, "its own") {
						old = next.state[ref]
					}
					ok, err := tx.Replace(ref, old, state)
					check(err)
					if was, there := next.state[ref]; ok != (there && bytes.Equal(was, old)) {
						r.Fatalf("replaced: %v, the state was %x, not %x", ok, was, old)
					} else if ok {
						next.state[ref], next.base[ref] = state, state
						delete(next.patch, ref)
					}
				case 2:
					p := engine.PendingEffect{Ref: refs.Draw(r, "ref"), Name: keys.Draw(r, "name"), Body: []byte{small.Draw(r, "body")}}
					var err error
					p.ID, err = tx.AddEffect(p.Ref, p.Name, p.Body)
					check(err)
					next.effects = append(next.effects, p)
				case 3:
					if len(next.effects) > 0 {
						i := rapid.IntRange(0, len(next.effects)-1).Draw(r, "effect")
						check(tx.DropEffect(next.effects[i].ID))
						next.effects = slices.Delete(next.effects, i, i+1)
					}
				case 4:
					if n := len(next.blocks); n > 0 && rapid.Bool().Draw(r, "retreat") {
						check(tx.Retreat())
						next.blocks = next.blocks[:n-1]
					} else {
						at := blockRef(wire.Height(100+n), small.Draw(r, "fork"))
						check(tx.Advance(at))
						next.blocks = append(slices.Clip(next.blocks), at)
					}
				case 5:
					b, k, v := keys.Draw(r, "bucket"), keys.Draw(r, "key"), keys.Draw(r, "value")
					check(tx.Put(b, []byte(k), []byte(v)))
					if next.kv[b] == nil {
						next.kv[b] = map[string]string{}
					}
					next.kv[b][k] = v
				case 6:
					b, k := keys.Draw(r, "bucket"), keys.Draw(r, "key")
					check(tx.Delete(b, []byte(k)))
					delete(next.kv[b], k)
				}
			}
			next.compare(r, tx)
			if fails {
				return errWanted
			}
			return nil
		})
		if fails {
			if !errors.Is(err, errWanted) {
				r.Fatalf("a failing update says %v", err)
			}
		} else {
			check(err)
			m = next
		}
		check(s.View(ctx, func(tx engine.Tx) error { m.compare(r, tx); return nil }))
	}
	if rapid.IntRange(0, 4).Draw(r, "reopen") == 0 {
		s = h.Reopen()
		check(s.View(ctx, func(tx engine.Tx) error { m.compare(r, tx); return nil }))
	}
}

// compare asks tx everything.
func (m *model) compare(r *rapid.T, tx engine.Tx) {
	r.Helper()
	check := func(what string, ok bool, got, want any, err error) {
		r.Helper()
		if err != nil || !ok {
			r.Fatalf("%s: %v, want %v (%v)", what, got, want, err)
		}
	}
	for _, kind := range []engine.Kind{kindA, kindB} {
		for n := range byte(4) {
			state, err := tx.State(ref(kind, n))
			want, ok := m.state[ref(kind, n)]
			if !ok && errors.Is(err, engine.ErrNoContract) {
				continue
			}
			check("state", ok && bytes.Equal(state, want), state, want, err)
		}
		for _, all := range []bool{true, false} {
			var got, want []engine.Ref
			err := tx.Each(kind, all, func(x engine.Ref, state []byte) error {
				if !bytes.Equal(state, m.state[x]) {
					r.Fatalf("each: %x, want %x", state, m.state[x])
				}
				got = append(got, x)
				return nil
			})
			for _, x := range m.order {
				if x.Kind == kind && (all || !m.in[x].Done) {
					want = append(want, x)
				}
			}
			check("each", slices.Equal(got, want), got, want, err)
		}
	}
	list, err := tx.Effects()
	check("effects", slices.EqualFunc(list, m.effects, func(a, b engine.PendingEffect) bool {
		return a.ID == b.ID && a.Ref == b.Ref && a.Name == b.Name && bytes.Equal(a.Body, b.Body)
	}), list, m.effects, err)
	for n := range byte(4) {
		for h := range wire.Height(6) {
			got, err := tx.Watching([]wire.Hash{{n}}, []wire.Outpoint{outpoint(3 - n)}, h)
			var want, above []engine.Ref
			for ref, in := range m.in {
				if in.Top >= h {
					above = append(above, ref)
				}
				if !in.Done && (slices.Contains(in.Txids, wire.Hash{n}) || slices.Contains(in.Outpoints, outpoint(3-n)) || (in.Wake > 0 && in.Wake <= h)) {
					want = append(want, ref)
				}
			}
			check("watching", equalRefs(got, want), got, want, err)
			if h > 0 {
				got, err = tx.Above(h)
				check("above", equalRefs(got, above), got, above, err)
			}
		}
	}
	at, ok, err := tx.Position()
	if n := len(m.blocks); n == 0 {
		check("position", !ok, at, nil, err)
	} else {
		check("position", ok && at == m.blocks[n-1], at, m.blocks[n-1], err)
	}
	for _, b := range []string{"", "a", "aa", "b"} {
		for _, prefix := range []string{"", "a", "a\xff", "\xff"} {
			var got, want []string
			err := tx.Scan(b, []byte(prefix), 0, func(k, v []byte) error { got = append(got, string(k)+"="+string(v)); return nil })
			for _, k := range slices.Sorted(maps.Keys(m.kv[b])) {
				if bytes.HasPrefix([]byte(k), []byte(prefix)) {
					want = append(want, k+"="+m.kv[b][k])
				}
			}
			check("scan", slices.Equal(got, want), got, want, err)
		}
	}
}
