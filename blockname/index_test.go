package blockname

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// bucket is a database.
type bucket map[string]string

func (b bucket) Get(key []byte) ([]byte, error) {
	if v, ok := b[string(key)]; ok {
		return []byte(v), nil
	}
	return nil, nil
}

func (b bucket) Scan(prefix []byte, limit int, f func(key, value []byte) error) error {
	keys := slices.Sorted(maps.Keys(b))
	i, _ := slices.BinarySearch(keys, string(prefix))
	for ; i < len(keys) && limit > 0 && strings.HasPrefix(keys[i], string(prefix)); i, limit = i+1, limit-1 {
		if err := f([]byte(keys[i]), []byte(b[keys[i]])); err != nil {
			return err
		}
	}
	return nil
}

func (b bucket) put(changes []Change) {
	for _, c := range changes {
		if c.Value == nil {
			delete(b, string(c.Key))
		} else {
			b[string(c.Key)] = string(c.Value)
		}
	}
}

// chain is an index with the undo of its blocks.
type chain struct {
	t      interface{ Fatal(...any) }
	index  bucket
	blocks []Block
	undo   [][]byte
}

func (c *chain) connect(b Block) []Change {
	changes, undo, err := Apply(c.index.Get, wire.Height(len(c.blocks)), b)
	if err != nil {
		c.t.Fatal(err)
	}
	if (len(changes) == 0) != (len(undo) == 0) {
		c.t.Fatal("changes without undo, or undo without changes")
	}
	c.index.put(changes)
	c.blocks, c.undo = append(c.blocks, b), append(c.undo, undo)
	return changes
}

func (c *chain) disconnect() {
	last := len(c.blocks) - 1
	changes, err := Revert(c.undo[last])
	if err != nil {
		c.t.Fatal(err)
	}
	c.index.put(changes)
	c.blocks, c.undo = c.blocks[:last], c.undo[:last]
}

// slowEntry computes the entry of a key from the list of all blocks, literally
// by the rules.
func slowEntry(blocks []Block, key string) (e Entry) {
	type sum struct {
		Bid
		reached int // when it came to its sum
	}
	var kept []sum
	now := 0
	for height, b := range blocks {
		for _, f := range b.Hints {
			now++
			if string(f.Hint.Key()) != key {
				continue
			}
			one := sum{Bid{f.Hint, f.Value, wire.Height(height), f.Out}, now}
			if f.Hint.Kind != TLD && f.Hint.Kind != Seed {
				if len(kept) == 0 || kept[0].Burned < f.Value {
					kept = []sum{one}
				}
				continue
			}
			known := false
			for i := range kept {
				if kept[i].Hint == f.Hint {
					known = true
					if f.Value > 0 {
						kept[i].Burned += f.Value
						kept[i].reached = now
					}
				}
			}
			if known {
				continue
			}
			kept = append(kept, one)
			if len(kept) > MaxBids {
				// The newest bid is dropped, unless it burned more than
				// another.
				worst := len(kept) - 1
				for i, s := range kept {
					if s.Burned < kept[worst].Burned || (s.Burned == kept[worst].Burned && s.reached > kept[worst].reached) {
						worst = i
					}
				}
				kept = slices.Delete(kept, worst, worst+1)
			}
		}
	}
	slices.SortFunc(kept, func(a, b sum) int {
		if a.Burned != b.Burned {
			return int(b.Burned - a.Burned)
		}
		return a.reached - b.reached
	})
	for _, s := range kept {
		e = append(e, s.Bid)
	}
	return e
}

// slowIndex is the whole index from the list of all blocks.
func slowIndex(blocks []Block) bucket {
	want := bucket{}
	for _, b := range blocks {
		for _, f := range b.Hints {
			key := string(f.Hint.Key())
			if _, ok := want[key]; ok {
				continue
			}
			e := slowEntry(blocks, key)
			value, err := e.encode()
			if err != nil {
				panic(err)
			}
			want[key] = string(value)
			if f.Hint.Kind == TLD || f.Hint.Kind == Seed {
				want[fmt.Sprintf("$%s\x00%s%c%s", f.Hint.Name, u64(^uint64(e[0].Burned)), f.Hint.Kind, f.Hint.DHT)] = "\x01"
			}
		}
	}
	return want
}

func u64(n uint64) string {
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (56 - 8*i))
	}
	return string(b[:])
}

// genHint draws hints that often meet under one key.
func genHint(t *rapid.T) Hint {
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 6).Draw(t, "ip"))}), 53)
	name := rapid.SampledFrom([]string{"a.b", "a.bc", "x.a.b"}).Draw(t, "name")
	tld := rapid.SampledFrom([]string{"bitgram", "bitgra", "m"}).Draw(t, "tld")
	dht := rapid.SampledFrom([]string{"1", "10", "1f", "f0"}).Draw(t, "dht")
	switch kind := rapid.SampledFrom([]Kind{Host, Domain, Authority, TLD, TLD, Seed, Seed}).Draw(t, "kind"); kind {
	case Host:
		return Hint{Kind: kind, Name: name, Addr: netip.AddrPortFrom(at.Addr(), 0)}
	case Domain:
		return Hint{Kind: kind, Name: name, Addr: at}
	case Authority:
		return Hint{Kind: kind, Name: name, ID: at.Addr().As4()}
	case TLD:
		return Hint{Kind: kind, Name: tld, DHT: dht, Addr: at}
	default:
		return Hint{Kind: kind, Name: tld, DHT: dht, Multiaddr: fmt.Sprintf("/ip6/2001:db8::%x/tcp/4001", at.Addr().As4()[3])}
	}
}

func genBlock(t *rapid.T) (b Block) {
	for i := range rapid.IntRange(0, 12).Draw(t, "hints") {
		value := wire.Sat(rapid.IntRange(0, 5).Draw(t, "value"))
		if rapid.IntRange(0, 40).Draw(t, "rare") == 0 {
			value = wire.MaxSat / 1000
		}
		out := wire.Outpoint{Txid: wire.Hash{rapid.Byte().Draw(t, "tx")}, Vout: uint32(i)}
		b.Hints = append(b.Hints, Found{genHint(t), value, out})
	}
	return b
}

func diff(t *rapid.T, what string, got, want bucket) {
	if maps.Equal(got, want) {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("%s: %q is %q, want %q", what, k, got[k], want[k])
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: %q too many", what, k)
		}
	}
	t.FailNow()
}

// TestReorgUndo checks that Apply followed by Revert restores every byte, and
// that the index equals that of the slow reference, after any reorgs on the way
// (invariant ReorgUndo).
func TestReorgUndo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chain{t: t, index: bucket{}}
		var states []bucket // before each block
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			for range rapid.IntRange(0, 6).Draw(t, "depth") {
				if last := len(c.blocks) - 1; last >= 0 {
					c.disconnect()
					diff(t, "reverted", c.index, states[last])
					states = states[:last]
				}
			}
			for range rapid.IntRange(1, 4).Draw(t, "blocks") {
				states = append(states, maps.Clone(c.index))
				c.connect(genBlock(t))
			}
		}
		diff(t, "after reorgs", c.index, slowIndex(c.blocks))
		late := &chain{t: t, index: bucket{}}
		for _, b := range c.blocks {
			late.connect(b)
		}
		diff(t, "after an absence", late.index, c.index)
		for len(late.blocks) > 0 {
			late.disconnect()
		}
		diff(t, "all reverted", late.index, bucket{})
	})
}

func hintOf(t testing.TB, s string) Hint {
	t.Helper()
	h, err := Parse([]byte(s))
	if err != nil {
		t.Fatal(s, err)
	}
	return h
}

// burns makes a block of "value text" lines.
func burns(t testing.TB, lines ...string) (b Block) {
	t.Helper()
	for i, l := range lines {
		var value int64
		var text string
		if _, err := fmt.Sscan(l, &value, &text); err != nil {
			t.Fatal(err)
		}
		b.Hints = append(b.Hints, Found{hintOf(t, text), wire.Sat(value), wire.Outpoint{Vout: uint32(i)}})
	}
	return b
}

// show prints an entry as "burned text" of its bids.
func show(t testing.TB, r Reader, kind Kind, name, dht string) string {
	t.Helper()
	e, err := Lookup(r, kind, name, dht)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, b := range e {
		text, err := b.Hint.Encode()
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, fmt.Sprintf("%d %s", int64(b.Burned), text))
	}
	return strings.Join(s, ", ")
}

func TestLargerBurnWins(t *testing.T) {
	const one, two, three = "*!a.b01010101", "*!a.b02020202", "*!a.b03030303"
	c := &chain{t: t, index: bucket{}}
	for i, step := range []struct {
		lines []string
		want  string
	}{
		{[]string{"0 " + one}, "0 " + one},
		{[]string{"0 " + two}, "0 " + one},
		{[]string{"5 " + two, "5 " + one}, "5 " + two},
		{[]string{"3 " + one, "3 " + one}, "5 " + two},
		{[]string{"6 " + one, "8 " + three, "7 " + two}, "8 " + three},
		{[]string{"9 *.a.b020202020035", "9 *+a.b02020202"}, "8 " + three},
	} {
		c.connect(burns(t, step.lines...))
		if got := show(t, c.index, Host, "a.b", ""); got != step.want {
			t.Errorf("block %d: %s, want %s", i, got, step.want)
		}
	}
	if got := show(t, c.index, Domain, "a.b", ""); got != "9 *.a.b020202020035" {
		t.Error(got)
	}
	if got := show(t, c.index, Authority, "a.b", ""); got != "9 *+a.b02020202" {
		t.Error(got)
	}
	e, err := Lookup(c.index, Host, "a.b", "")
	if err != nil || e[0].Height != 4 || e[0].Out.Vout != 1 {
		t.Error(e, err)
	}
}

// TestBurnsAddUp checks that burns add up for one address, and that no burn
// affects another prefix or TLD.
func TestBurnsAddUp(t *testing.T) {
	at := func(i int) string { return fmt.Sprintf("*#bitgram.1a0%d0000000fa1", i) }
	c := &chain{t: t, index: bucket{}}
	for i, step := range []struct {
		lines []string
		want  string
	}{
		{[]string{"0 " + at(1)}, "0 " + at(1)},
		{[]string{"3 " + at(2), "3 " + at(1)}, "3 " + at(2) + ", 3 " + at(1)},
		{[]string{"1 " + at(1)}, "4 " + at(1) + ", 3 " + at(2)},
		{[]string{"0 " + at(2), "0 " + at(3), "0 " + at(4)}, "4 " + at(1) + ", 3 " + at(2) + ", 0 " + at(3) + ", 0 " + at(4)},
		{[]string{"0 " + at(5)}, "4 " + at(1) + ", 3 " + at(2) + ", 0 " + at(3) + ", 0 " + at(4)},
		{[]string{"1 " + at(5)}, "4 " + at(1) + ", 3 " + at(2) + ", 1 " + at(5) + ", 0 " + at(3)},
		{[]string{"1 " + at(4), "1 " + at(3)}, "4 " + at(1) + ", 3 " + at(2) + ", 1 " + at(5) + ", 1 " + at(4)},
		{[]string{"1000 *#bitgram.1b0a0000000fa1", "1000 *#bitgra.1a0a0000000fa1", "1000 *@bitgram.1a/ip6/::1/tcp/1"}, "4 " + at(1) + ", 3 " + at(2) + ", 1 " + at(5) + ", 1 " + at(4)},
	} {
		c.connect(burns(t, step.lines...))
		if got := show(t, c.index, TLD, "bitgram", "1a"); got != step.want {
			t.Errorf("block %d: %s, want %s", i, got, step.want)
		}
	}
}

// Sums are capped at all money that can exist, and such blocks can be reverted.
func TestSumsAreBounded(t *testing.T) {
	const one, two = "*#bitgram.1a010000000fa1", "*#bitgram.1a020000000fa1"
	c := &chain{t: t, index: bucket{}}
	c.connect(burns(t, "7 "+one))
	before := maps.Clone(c.index)
	line := fmt.Sprintf("%d ", int64(wire.MaxSat))
	c.connect(burns(t, line+one, line+one, line+two, line+two))
	if got := show(t, c.index, TLD, "bitgram", "1a"); got != line+one+", "+line+two {
		t.Error(got)
	}
	c.disconnect()
	if !maps.Equal(c.index, before) {
		t.Error("not undone")
	}
	for _, v := range []wire.Sat{-1, wire.MaxSat + 1} {
		b := Block{Hints: []Found{{Hint: hintOf(t, one), Value: v}}}
		if _, _, err := Apply(c.index.Get, 1, b); !errors.Is(err, ErrValue) {
			t.Errorf("%d: %v", int64(v), err)
		}
	}
}

// TestNeeded checks that the needed value makes a bid first, and one satoshi
// less does not.
func TestNeeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var blocks []Block
		for range rapid.IntRange(1, 6).Draw(t, "blocks") {
			blocks = append(blocks, genBlock(t))
		}
		h := genHint(t)
		e := slowEntry(blocks, string(h.Key()))
		need := e.Needed(h)
		leads := func(v wire.Sat) bool {
			return slices.Clone(e).add(&Found{Hint: h, Value: v}, 1)[0].Hint == h
		}
		if !leads(need) || (need > 0 && leads(need-1)) {
			t.Fatalf("%d is needed in %+v", int64(need), e)
		}
	})
}

// Errors of the database and of its content are returned.
func TestApplyErrors(t *testing.T) {
	b := burns(t, "1 *!a.b01010101")
	broken := errors.New("broken")
	if _, _, err := Apply(func([]byte) ([]byte, error) { return nil, broken }, 1, b); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, _, err := Apply(func([]byte) ([]byte, error) { return []byte{1}, nil }, 1, b); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	bad := Block{Hints: []Found{{Hint: Hint{Kind: Host}}}}
	if _, _, err := Apply(bucket{}.Get, 1, bad); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

// TestOneBurner checks that ten thousand hints of one burner, for one key or
// for as many, cost no more time and memory than ten thousand hints do.
func TestOneBurner(t *testing.T) {
	const n = 10_000
	same, other := Block{}, Block{}
	for i := range n {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
		same.Hints = append(same.Hints, Found{Hint: Hint{Kind: TLD, Name: "bitgram", DHT: "00", Addr: at}, Value: wire.Sat(i)})
		other.Hints = append(other.Hints, Found{Hint: Hint{Kind: TLD, Name: "bitgram", DHT: fmt.Sprintf("%04x", i), Addr: at}, Value: wire.Sat(i)})
	}
	c := &chain{t: t, index: bucket{}}
	start := time.Now()
	if changes := c.connect(same); len(changes) != 2 || len(c.undo[0]) > 1000 {
		t.Errorf("%d changes, %d bytes of undo", len(changes), len(c.undo[0]))
	}
	if changes := c.connect(other); len(changes) != 2*n {
		t.Errorf("%d changes", len(changes))
	}
	want := slices.Clone(other.Hints)
	slices.Reverse(want)
	for i, e := range must(Largest(c.index, "bitgram", n))(t) {
		if i > 0 && e[0].Hint != want[i-1].Hint {
			t.Fatalf("%+v is not the seed number %d", e, i)
		}
	}
	c.disconnect()
	c.disconnect()
	if len(c.index) != 0 {
		t.Error("not undone")
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("took %v", d)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestMemoryOfABlock measures the most expensive block: as many keys as fit in
// 1,000,000 bytes of outputs, each with a full entry of the longest hints.
func TestMemoryOfABlock(t *testing.T) {
	tier.NotShort(t)
	if tier.Race {
		t.Skip("the race detector allocates too")
	}
	// Value 8, length 1, OP_RETURN 1, push 1, hint.
	hint := func(i, size int) Hint {
		h := Hint{Kind: Seed, Name: "b", DHT: fmt.Sprintf("%04x", i)}
		h.Multiaddr = "/dns/" + strings.Repeat("a", max(1, size-len("*@b.0000/dns//tcp/1"))) + "/tcp/1"
		return h
	}
	n := 1_000_000 / (11 + len("*@b.0000/dns/a/tcp/1"))
	index := bucket{}
	var block Block
	for i := range n {
		var e Entry
		for j := range MaxBids {
			e = append(e, Bid{Hint: hint(i, MaxSize-j), Burned: 9})
		}
		value := must(e.encode())(t)
		index[string(e[0].Hint.Key())] = string(value)
		block.Hints = append(block.Hints, Found{Hint: hint(i, 0), Value: 10})
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	changes, undo, err := Apply(index.Get, 1, block)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	total := (after.TotalAlloc - before.TotalAlloc) >> 20
	t.Logf("%d hints, %d changes, %d MiB of undo, %d MiB allocated in all", n, len(changes), len(undo)>>20, total)
	if total > 300 || len(undo) > 32<<20 {
		t.Errorf("%d MiB, %d bytes of undo", total, len(undo))
	}
	if !bytes.HasPrefix(undo[1:], changes[0].Key) {
		t.Error("undo begins with another key")
	}
}
