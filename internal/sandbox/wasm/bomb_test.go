package wasm_test

import (
	"bytes"
	"errors"
	"fmt"
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
	// Blocks that carry as many values as they can.
	carry := strings.Repeat("i", 256)
	carrying := func(code string) func() []byte {
		return func() []byte {
			return moduleSpec{types: []string{carry + ":" + carry}, funcs: []fn{{code: rep(i32(1), 256) + code + rep("\x1a", 256)}}, pages: onePage}.bytes()
		}
	}
	selects := func(typ byte, n int) func() []byte {
		return one(func() fn {
			return fn{locals: []group{{1, typ}}, code: "\x20\x00" + rep("\x20\x00"+i32(0)+"\x1b", n) + "\x1a"}
		})
	}
	return map[string]func() []byte{
		"ifs that carry values":    carrying(rep(rep(i32(1)+"\x04\x01", 4000)+rep("\x0b", 4000), 20)),
		"blocks that carry values": carrying(rep("\x02\x01", 4000) + rep("\x0b", 4000)),
		"branches with values":     carrying("\x02\x01" + rep(i32(0)+"\x0d\x00", 100_000) + "\x0b"),
		"a br_table with values":   carrying("\x02\x01\x02\x01" + i32(0) + "\x0e" + leb(60_000) + rep("\x00\x01", 30_000) + "\x00\x0b\x0b"),
		"loops that carry values":  carrying(rep("\x03\x01"+i32(0)+"\x0d\x00\x0b", 10_000)),
		"values carried in many functions": func() []byte {
			f := fn{code: rep(i32(1), 256) + rep("\x02\x01"+i32(0)+"\x0d\x00\x0b", 100) + rep("\x1a", 256)}
			return moduleSpec{types: []string{carry + ":" + carry}, funcs: slices.Repeat([]fn{f}, 400), pages: onePage}.bytes()
		},
		"loops in a row": code(func() string { return rep("\x03\x40"+i32(0)+"\x0d\x00\x0b", 30_000) }),
		"as many paths among locals as are allowed": one(func() fn { return blocks(110, 5000) }),
		"as many loops among locals as are allowed": one(func() fn { return loops(120, 1000) }),
		"deep ifs":                code(func() string { return rep(rep(i32(1)+"\x04\x40", 4000)+rep("\x0b", 4000), 20) }),
		"very deep blocks":        code(func() string { return rep("\x02\x40"+i32(0)+"\x0d\x00", 16_000) + rep("\x0b", 16_000) }),
		"branches to one label":   code(func() string { return "\x02\x40" + rep(i32(0)+"\x0d\x00", 100_000) + "\x0b" }),
		"returns from everywhere": code(func() string { return rep(i32(0)+"\x04\x40\x0f\x0b", 60_000) }),
		"all types": func() []byte {
			all := make([]string, 1<<16-1)
			for i := range all {
				all[i] = rep("d", i%256) + ":" + rep("l", 255-i/256)
			}
			return moduleSpec{types: all, funcs: []fn{{}}, pages: onePage}.bytes()
		},
		"types of functions that are used": func() []byte {
			m := moduleSpec{pages: onePage, funcs: []fn{{}}}
			for i := range 500 {
				m.types = append(m.types, rep("d", i%256)+":"+rep("l", 255-i/256))
				m.funcs = append(m.funcs, fn{typ: i + 1, code: "\x00"})
			}
			return m.bytes()
		},
		"elements": func() []byte {
			segment := "\x00\x41\x00\x0b" + leb(1<<20) + rep("\x00", 1<<20)
			return moduleSpec{funcs: []fn{{}}, pages: onePage, tables: [][2]int{{1 << 20, 1 << 20}}, raw9: rep(segment, 20), n9: 20}.bytes()
		},
		"as many elements as are allowed": func() []byte {
			segment := "\x00\x41\x00\x0b" + leb(1<<17) + rep("\x00", 1<<17)
			return moduleSpec{funcs: []fn{{}}, pages: onePage, tables: [][2]int{{1 << 20, 1 << 20}}, raw9: rep(segment, 2), n9: 2}.bytes()
		},
		"globals": func() []byte {
			return moduleSpec{funcs: []fn{{}}, pages: onePage, globals: slices.Repeat([]string{"\x7e\x01\x42\x00\x0b"}, 1<<14)}.bytes()
		},
		"exports": func() []byte {
			var all []string
			for i := range 60_000 {
				all = append(all, sized(fmt.Sprint(i))+"\x00\x00")
			}
			return moduleSpec{funcs: []fn{{}}, pages: onePage, exports: all}.bytes()
		},
		"segments of data": func() []byte {
			return moduleSpec{funcs: []fn{{}}, pages: onePage, data: slices.Repeat([]string{""}, 1<<17)}.bytes()
		},
		"nops":                    code(func() string { return rep("\x01", 1<<20-2) }),
		"more nops":               code(func() string { return rep("\x01", 1<<20) }),
		"a long sum":              code(func() string { return i32(1) + rep(i32(3)+"\x6a", 100_000) + "\x1a" }),
		"a tall stack":            code(func() string { return rep(i32(3), 300_000) + rep("\x1a", 300_000) }),
		"many loads on the stack": code(func() string { return rep(i32(0)+"\x28\x02\x00", 100_000) + rep("\x6a", 99_999) + "\x1a" }),
		"loads":                   code(func() string { return rep(i32(0)+"\x28\x02\x00\x1a", 210_000) }),
		"more loads":              code(func() string { return rep(i32(0)+"\x28\x02\x00\x1a", 340_000) }),
		"chained loads": one(func() fn {
			return fn{locals: []group{{1, 0x7f}}, code: "\x20\x00" + rep("\x28\x02\x00", 690_000) + "\x1a"}
		}),
		"stores": code(func() string { return rep(i32(0)+i32(0)+"\x36\x02\x00", 290_000) }),
		"divisions": one(func() fn {
			return fn{locals: []group{{1, 0x7e}}, code: "\x20\x00" + rep("\x20\x00\x7f", 500_000) + "\x1a"}
		}),
		"truncations": code(func() string { return "\x44" + rep("\x00", 8) + rep("\xaa\xb7", 500_000) + "\x1a" }),
		"vectors' lanes": one(func() fn {
			return fn{locals: []group{{1, 0x7b}}, code: rep(i32(0)+"\x20\x00\xfd\x54\x00\x00\x00\x1a", 200_000)}
		}),
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
		"selects of integers":         selects(0x7e, 349_000),
		"selects of floats":           selects(0x7c, 300_000),
		"selects of vectors":          selects(0x7b, 349_000),
		"copysigns": one(func() fn {
			return fn{locals: []group{{1, 0x7c}}, code: "\x20\x00" + rep("\x20\x00\xa6", 260_000) + "\x1a"}
		}),
		"bitselects": one(func() fn {
			return fn{locals: []group{{1, 0x7b}}, code: "\x20\x00" + rep("\x20\x00\x20\x00\xfd\x52", 310_000) + "\x1a"}
		}),
		"conversions of vectors":  code(func() string { return "\xfd\x0c" + rep("\x00", 16) + rep("\xfd\xff\x01", 460_000) + "\x1a" }),
		"square roots":            code(func() string { return "\x44" + rep("\x00", 8) + rep("\x9f\xbd\xbf", 349_000) + "\x1a" }),
		"square roots of vectors": code(func() string { return "\xfd\x0c" + rep("\x00", 16) + rep("\xfd\xef\x01", 400_000) + "\x1a" }),
		"too many square roots":   code(func() string { return "\xfd\x0c" + rep("\x00", 16) + rep("\xfd\xef\x01", 690_000) + "\x1a" }),
		"fills":                   code(func() string { return rep(i32(0)+i32(0)+i32(0)+"\xfc\x0b\x00", 4000) }),
		"more fills":              code(func() string { return rep(i32(0)+i32(0)+i32(0)+"\xfc\x0b\x00", 200_000) }),
		"copies":                  code(func() string { return rep(i32(0)+i32(0)+i32(0)+"\xfc\x0a\x00\x00", 8000) }),
		"more copies":             code(func() string { return rep(i32(0)+i32(0)+i32(0)+"\xfc\x0a\x00\x00", 180_000) }),
		"conversions":             code(func() string { return "\x44" + rep("\x00", 8) + rep("\xb6\xbb", 100_000) + "\x1a" }),
		"a name for everything many times": func() []byte {
			return moduleSpec{funcs: []fn{{}}, pages: onePage, sections: []string{"\x00" + sized(sized("name")+rep("\x01"+sized("\x01\x00"+sized(rep("a", 190))), 10_000))}}.bytes()
		},
	}
}

// loadMemory is the stated bound on what loading a module and starting it takes, in
// bytes: a fixed part for the largest function, and a part for each byte of the
// module, of which machine code is the largest.
func loadMemory(size int) uint64 { return 3<<29 + 40*uint64(size) }

// TestBombs: whatever module is loaded, the memory that is allocated for it is
// bounded, and it is refused with a reason if it would take more.
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
		if !sample.Of(0, 8) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			bin := all[name]()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			err := loadAndStart(t, e, bin)
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			t.Logf("%d KiB, %v, %d MiB allocated: %.250v", len(bin)>>10, took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20, err)
			var failed *sandbox.Failure
			if err != nil && !errors.As(err, &failed) && (!errors.Is(err, sandbox.ErrProgram) || !errors.Is(err, rewrite.ErrTooLarge)) {
				t.Errorf("refused with %v", err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > loadMemory(len(bin)) {
				t.Errorf("%d MiB are allocated, at most %d are stated", got>>20, loadMemory(len(bin))>>20)
			}
		})
	}
}

// loadAndStart loads a module and runs its first epoch.
func loadAndStart(t *testing.T, e *wasm.Engine, bin []byte) error {
	p, err := e.Load(t.Context(), bytes.NewReader(bin))
	if err != nil {
		return err
	}
	defer p.Close()
	run, err := p.Start(t.Context(), hostileJob(), nil)
	if err != nil {
		return err
	}
	defer run.Close()
	_, err = run.Next(t.Context())
	return err
}

// TestTooLargeSaysWhy: a function that is refused for its size is named, with what to
// change; and no other function.
func TestTooLargeSaysWhy(t *testing.T) {
	tier.NotShort(t)
	all := bombs()
	for name, says := range map[string][]string{
		"branches with values":    {"function 0 (_start)", "values of blocks and branches: keep them in locals"},
		"loops in a row":          {"function 0 (_start)", "blocks, branches, calls and bulk operations: split it"},
		"many blocks with locals": {"function 0 (_start)", "among 500 locals: split it, or use fewer locals"},
		"elements":                {"element section", "use a smaller table"},
		"more fills":              {"function 0 (_start)", "blocks, branches, calls and bulk operations"},
		"more copies":             {"function 0 (_start)", "blocks, branches, calls and bulk operations"},
		"more loads":              {"function 0 (_start)", "340000 instructions that may trap", "loads", "split it"},
		"chained loads":           {"function 0 (_start)", "690000 instructions that may trap", "split it"},
		"stores":                  {"function 0 (_start)", "may trap"},
		"divisions":               {"function 0 (_start)", "may trap"},
		"truncations":             {"function 0 (_start)", "may trap"},
		"too many square roots":   {"function 0 (_start)", "690000 are", "NaN is made canonical: split it"},
		"all types":               {"type section", "parameters and results"},
	} {
		_, err := rewrite.Rewrite(all[name](), anyImport)
		if !errors.Is(err, rewrite.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		for _, part := range says {
			if !strings.Contains(fmt.Sprint(err), part) {
				t.Errorf("%s: %v; wanted %q", name, err, part)
			}
		}
	}
}
