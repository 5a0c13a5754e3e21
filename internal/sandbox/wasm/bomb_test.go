package wasm_test

import (
	"bytes"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

var onePage = [2]int{1, 1}

// bombs make modules that take long or much to load.
func bombs() map[string]func() []byte {
	one := func(f func() fn) func() []byte {
		return func() []byte { return moduleSpec{types: []string{"i:"}, funcs: []fn{f()}, pages: onePage}.bytes() }
	}
	code := func(f func() string) func() []byte { return one(func() fn { return fn{code: f()} }) }
	many := func(n int, f func() fn) func() []byte {
		return func() []byte {
			return moduleSpec{funcs: slices.Repeat([]fn{f()}, n), pages: onePage}.bytes()
		}
	}
	rep := strings.Repeat
	// Locals that change in a loop in a loop …
	loops := func(depth, locals int) fn {
		set := ""
		for i := range locals {
			set += "\x20" + leb(i) + i32(1) + "\x6a\x21" + leb((i*7+3)%locals)
		}
		return fn{locals: []group{{locals, 0x7f}}, code: rep("\x03\x40", depth) + set + rep(i32(0)+"\x0d\x00\x0b", depth)}
	}
	blocks := func(n, locals int) fn {
		var s strings.Builder
		for i := range n {
			s.WriteString("\x02\x40\x20" + leb(i%locals) + "\x0d\x00" + i32(i) + "\x21" + leb((i*31)%locals) + "\x0b")
		}
		return fn{locals: []group{{locals, 0x7f}}, code: s.String()}
	}
	table := func(n, depth int) string {
		s := rep("\x02\x40", depth) + i32(0) + "\x0e" + leb(n)
		for i := range n + 1 {
			s += leb(i % depth)
		}
		return s + rep("\x0b", depth)
	}
	branches := func(depth, n int) string {
		return rep("\x02\x40", depth) + rep(i32(0)+"\x0d"+leb(depth-1), n) + rep("\x0b", depth)
	}
	return map[string]func() []byte{
		"nops":                        code(func() string { return rep("\x01", 1<<20-2) }),
		"more nops":                   code(func() string { return rep("\x01", 1<<20) }),
		"a long sum":                  code(func() string { return i32(1) + rep(i32(3)+"\x6a", 100_000) + "\x1a" }),
		"a tall stack":                code(func() string { return rep(i32(3), 300_000) + rep("\x1a", 300_000) }),
		"many loads on the stack":     code(func() string { return rep(i32(0)+"\x28\x02\x00", 100_000) + rep("\x6a", 99_999) + "\x1a" }),
		"all locals":                  many(200, func() fn { return fn{locals: []group{{10_000, 0x7f}}, code: ""} }),
		"loops around locals":         one(func() fn { return loops(200, 1000) }),
		"many loops around locals":    one(func() fn { return loops(1000, 2000) }),
		"many blocks with locals":     one(func() fn { return blocks(20_000, 500) }),
		"blocks with all locals":      one(func() fn { return blocks(60_000, 5000) }),
		"a wide br_table":             code(func() string { return table(25_000, 100) }),
		"many br_tables":              code(func() string { return rep(table(5000, 300), 40) }),
		"branches out of a deep nest": code(func() string { return branches(4000, 200_000) }),
		"many small functions":        many(15_000, func() fn { return fn{} }),
		"calls":                       many(2, func() fn { return fn{code: rep("\x10\x01", 400_000)} }),
		"conversions":                 code(func() string { return "\x44" + rep("\x00", 8) + rep("\xb6\xbb", 100_000) + "\x1a" }),
		"a name for everything many times": func() []byte {
			return moduleSpec{funcs: []fn{{}}, pages: onePage, sections: []string{"\x00" + sized(sized("name")+rep("\x01"+sized("\x01\x00"+sized(rep("a", 190))), 10_000))}}.bytes()
		},
	}
}

// TestBombs: whatever loading a module takes, it is bounded.
func TestBombs(t *testing.T) {
	tier.NotShort(t)
	if tier.Race {
		t.Skip("large modules are slow under the race detector")
	}
	// Without a cache: each is compiled.
	e, err := wasm.New(t.Context(), wasm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	sample, all := tier.NewSample(t), bombs()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !sample.Of(0, 5) {
			continue
		}
		bin := all[name]()
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			p, err := e.Load(t.Context(), bytes.NewReader(bin))
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			t.Logf("%d KiB, %v, %d MiB allocated: %v", len(bin)>>10, took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20, err)
			if err == nil {
				p.Close()
			} else if !errors.Is(err, sandbox.ErrProgram) || !errors.Is(err, rewrite.ErrTooLarge) {
				t.Errorf("refused with %v", err)
			}
			if took > 4*time.Minute || (after.TotalAlloc-before.TotalAlloc) > 1<<30 {
				t.Error("too much")
			}
		})
	}
}
