package wasm_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

const bitgramMod, wasiMod = "bitgram", "wasi_snapshot_preview1"

// hostile is a program that tries something, and what has to come of it.
type hostile struct {
	name string
	m    moduleSpec
	want error
	says string
}

// endless wraps code into a loop without an end.
func endless(code string) string { return "\x03\x40" + code + "\x0c\x00\x0b" }

func hostiles() (list []hostile) {
	add := func(name string, want error, says string, m moduleSpec) {
		if m.pages == [2]int{} {
			m.pages = [2]int{1, 100}
		}
		list = append(list, hostile{name, m, want, says})
	}
	main := func(code string) moduleSpec { return moduleSpec{funcs: []fn{{code: code}}} }
	calls := func(module, name, sig, code string) moduleSpec {
		return moduleSpec{types: []string{sig}, imports: [][3]string{imported(module, name, 1)}, funcs: []fn{{code: code}}}
	}
	rep := strings.Repeat

	// Endless work.
	add("loop", sandbox.ErrFuel, "", main(endless("")))
	add("loop of a br_if", sandbox.ErrFuel, "", main("\x03\x40"+i32(1)+"\x0d\x00\x0b"))
	add("loop of a br_table", sandbox.ErrFuel, "", main("\x03\x40"+i32(5)+"\x0e\x03\x00\x00\x00\x00\x0b"))
	add("loop in a loop", sandbox.ErrFuel, "", main(endless(endless("\x01"))))
	add("loop out of an if", sandbox.ErrFuel, "", main("\x03\x40"+i32(1)+"\x04\x40\x0c\x01\x05\x0c\x01\x0b\x0b"))
	add("start function", sandbox.ErrFuel, "", moduleSpec{funcs: []fn{{}, {code: endless("")}}, start: 1})
	add("calls in a loop", sandbox.ErrFuel, "", moduleSpec{funcs: []fn{{code: endless("\x10\x01")}, {}}})
	doubling := moduleSpec{}
	for i := range 60 {
		doubling.funcs = append(doubling.funcs, fn{code: rep("\x10"+leb(i+1), 2)})
	}
	doubling.funcs = append(doubling.funcs, fn{})
	add("calls that double", sandbox.ErrFuel, "", doubling)
	add("memory.fill", sandbox.ErrFuel, "", main(endless(i32(0)+i32(7)+i32(65536)+"\xfc\x0b\x00")))
	add("memory.copy", sandbox.ErrFuel, "", main(endless(i32(0)+i32(0)+i32(65536)+"\xfc\x0a\x00\x00")))
	add("memory.fill of nothing", sandbox.ErrFuel, "", main(endless(i32(0)+i32(7)+i32(0)+"\xfc\x0b\x00")))
	add("memory.grow", sandbox.ErrFuel, "", main(endless(i32(1)+"\x40\x00\x1a")))
	add("memory.grow by nothing", sandbox.ErrFuel, "", main(endless(i32(0)+"\x40\x00\x1a")))
	add("memory.grow by all", sandbox.ErrFuel, "", main(endless(i32(-1)+"\x40\x00\x1a")))
	add("yields", sandbox.ErrFuel, "", calls(wasiMod, "sched_yield", ":i", endless("\x10\x00\x1a")))
	add("clocks", sandbox.ErrFuel, "", calls(wasiMod, "clock_time_get", "ili:i", endless(i32(1)+"\x42\x00"+i32(0)+"\x10\x00\x1a")))
	add("random numbers", sandbox.ErrFuel, "", calls(wasiMod, "random_get", "ii:i", endless(i32(0)+i32(65536)+"\x10\x00\x1a")))
	add("writes of nothing", sandbox.ErrFuel, "", calls(wasiMod, "fd_write", "iiii:i", endless(i32(1)+i32(0)+i32(0)+i32(0)+"\x10\x00\x1a")))
	add("writes to the log", sandbox.ErrFuel, "", calls(wasiMod, "fd_write", "iiii:i",
		i32(0)+i32(8)+"\x36\x02\x00"+i32(4)+i32(60000)+"\x36\x02\x00"+endless(i32(2)+i32(0)+i32(1)+i32(0)+"\x10\x00\x1a")))
	add("sleeps", sandbox.ErrFuel, "", calls(wasiMod, "poll_oneoff", "iiii:i",
		i32(24)+"\x42\x7f\x37\x03\x00"+endless(i32(0)+i32(1000)+i32(1)+i32(2000)+"\x10\x00\x1a")))
	add("reads an input that is empty", sandbox.ErrFuel, "", calls(bitgramMod, "input", "lii:i", endless("\x42\x00"+i32(0)+i32(100)+"\x10\x00\x1a")))

	// Deep calls, with frames of many kinds.
	add("recursion", sandbox.ErrDepth, "", main("\x10\x00"))
	add("recursion through a table", sandbox.ErrDepth, "", moduleSpec{funcs: []fn{{code: i32(0) + "\x11\x00\x00"}}, tables: [][2]int{{1, 1}}, elements: []int{0}})
	add("two that call each other", sandbox.ErrDepth, "", moduleSpec{funcs: []fn{{code: "\x10\x01"}, {code: "\x10\x00"}}})
	for name, f := range fatFrames() {
		add("recursion with "+name, sandbox.ErrDepth, "", moduleSpec{types: f.types, funcs: f.funcs})
	}

	// What the host is asked for.
	add("sync from nowhere", sandbox.ErrCall, "sync of 100 bytes at 4294967280", calls(bitgramMod, "sync", "ii:", i32(-16)+i32(100)+"\x10\x00"))
	add("output from nowhere", sandbox.ErrCall, "outside of its memory", calls(bitgramMod, "output", "ii:", i32(0)+i32(-1)+"\x10\x00"))
	add("output without end", sandbox.ErrOutput, "", calls(bitgramMod, "output", "ii:", endless(i32(0)+i32(65536)+"\x10\x00")))
	add("events without end", sandbox.ErrNotices, "", calls(bitgramMod, "event", "ii:", endless(i32(0)+i32(0)+"\x10\x00")))
	add("sync without end", sandbox.ErrEpochs, "", calls(bitgramMod, "sync", "ii:", i32(0)+i32(0)+"\x10\x00"))
	add("sync of all memory", sandbox.ErrState, "", calls(bitgramMod, "sync", "ii:", i32(0)+i32(65536)+"\x10\x00"))

	// Crashes.
	add("unreachable", sandbox.ErrTrap, "unreachable", main("\x00"))
	add("division by zero", sandbox.ErrTrap, "divide by zero", main(i32(1)+i32(0)+"\x6d\x1a"))
	add("out of bounds", sandbox.ErrTrap, "out of bounds", main(i32(-4)+"\x28\x02\x00\x1a"))
	add("data out of bounds", sandbox.ErrTrap, "out of bounds", moduleSpec{funcs: []fn{{}}, data: []string{rep("x", 70000)}})
	add("a null function", sandbox.ErrTrap, "", moduleSpec{funcs: []fn{{code: i32(0) + "\x11\x00\x00"}}, tables: [][2]int{{1, 1}}})
	return list
}

// fatFrames call themselves with more and more in each frame.
func fatFrames() map[string]moduleSpec {
	rep := strings.Repeat
	one := func(f fn) moduleSpec { return moduleSpec{funcs: []fn{f}} }
	get := func(n int) (s string) {
		for i := range n {
			s += "\x20" + leb(i)
		}
		return s
	}
	live := func(n int, typ byte, load, store string) moduleSpec {
		code := ""
		for i := range n {
			code += i32(i*16) + load + "\x21" + leb(i)
		}
		code += "\x10\x00"
		for i := range n {
			code += i32(i*16) + "\x20" + leb(i) + store
		}
		return one(fn{locals: []group{{n, typ}}, code: code})
	}
	again := ""
	for i := range 400 {
		again += i32(i*4) + "\x28\x02\x00\x21\x00" + "\x20\x01\x04\x40\x10\x00\x0b" + i32(i*4) + "\x20\x00\x36\x02\x00"
	}
	return map[string]moduleSpec{
		"a tall stack":     one(fn{code: rep(i32(4)+"\x28\x02\x00", 2000) + "\x10\x00" + rep("\x6a", 1999) + "\x1a"}),
		"locals":           live(500, 0x7e, "\x29\x03\x00", "\x37\x03\x00"),
		"vectors":          live(500, 0x7b, "\xfd\x00\x04\x00", "\xfd\x0b\x04\x00"),
		"a local set anew": one(fn{locals: []group{{1, 0x7f}, {1, 0x7f}}, code: i32(1) + "\x21\x01" + again + "\x10\x00"}),
		"many parameters":  {types: []string{rep("l", 200) + ":"}, funcs: []fn{{code: rep("\x42\x01", 200) + "\x10\x01"}, {typ: 1, code: get(200) + "\x10\x01"}}},
		"many results":     {types: []string{":" + rep("l", 200)}, funcs: []fn{{code: "\x10\x01" + rep("\x1a", 200)}, {typ: 1, code: "\x10\x01"}}},
	}
}

func hostileJob() *sandbox.Job {
	l := sandbox.DefaultLimits()
	l.Memory, l.Fuel, l.Epochs, l.Output, l.State, l.Notices = 50*sandbox.PageSize, 30_000_000, 5, 1<<20, 1000, 1<<16
	return &sandbox.Job{Args: []string{"x"}, Limits: l}
}

// TestHostile: whatever a program tries ends it with the error that says so,
// in both engines at the same point.
func TestHostile(t *testing.T) {
	t.Parallel()
	engines := []sandbox.Runner{newEngine(t, false)}
	if !tier.Race { // the race detector makes the interpreter far too slow
		engines = append(engines, newEngine(t, true))
	}
	for _, h := range hostiles() {
		t.Run(h.name, func(t *testing.T) {
			bin := h.m.bytes()
			var ends []string
			var roots []sandbox.Digest
			for _, e := range engines {
				began := time.Now()
				end := hostileRun(t, e, bin, h.want)
				if took := time.Since(began); took > 2*time.Minute {
					t.Errorf("it took %v", took)
				}
				var f *sandbox.Failure
				if !errors.As(end, &f) || !errors.Is(end, h.want) || !strings.Contains(end.Error(), h.says) {
					t.Fatalf("it ends with %v, wanted %v: %s", end, h.want, h.says)
				}
				if f.Kind.Err() == nil || !errors.Is(h.want, f.Kind.Err()) {
					t.Errorf("its kind is %v", f.Kind)
				}
				ends, roots = append(ends, end.Error()), append(roots, f.Root())
			}
			if ends[0] != ends[len(ends)-1] {
				t.Errorf("compiled %s; interpreted %s", ends[0], ends[len(ends)-1])
			}
			if roots[0] != roots[len(roots)-1] {
				t.Errorf("compiled its root is %v; interpreted %v", roots[0], roots[len(roots)-1])
			}
		})
	}
}

// hostileRun is what a program ends with.
func hostileRun(t *testing.T, e sandbox.Runner, bin []byte, want error) error {
	p, err := e.Load(t.Context(), bytes.NewReader(bin))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	job := hostileJob()
	if errors.Is(want, sandbox.ErrDepth) {
		job.Limits.Fuel = 1_000_000_000
	}
	run, err := p.Start(t.Context(), job, nil)
	if err != nil {
		return err
	}
	defer run.Close()
	for {
		if ev, err := run.Next(t.Context()); err != nil {
			return err
		} else if ev.Done {
			return fmt.Errorf("exit %d", ev.Exit)
		}
	}
}

// TestRefused: what is not taken is refused by its name, and where it is.
func TestRefused(t *testing.T) {
	e := newEngine(t, false)
	main := func(code string) moduleSpec { return moduleSpec{funcs: []fn{{code: code}}, pages: onePage} }
	raw := func(s string) []byte { return []byte("\x00asm\x01\x00\x00\x00" + s) }
	one := "\x01\x04\x01\x60\x00\x00"
	for _, c := range []struct {
		name string
		bin  []byte
		want error
		says string
	}{
		{"nothing", nil, rewrite.ErrNotWASM, "does not begin"},
		{"text", []byte("(module)"), rewrite.ErrNotWASM, "does not begin"},
		{"half a header", []byte("\x00asm\x01\x00"), rewrite.ErrMalformed, "header"},
		{"a component", []byte("\x00asm\x0d\x00\x01\x00"), rewrite.ErrNotWASM, "component"},
		{"version 2", []byte("\x00asm\x02\x00\x00\x00"), rewrite.ErrNotWASM, "version"},
		{"too big", append(raw(""), make([]byte, rewrite.MaxModule)...), rewrite.ErrTooLarge, "at most 67108864"},
		{"no _start", raw(""), nil, "_start"},
		{"a library", raw(one + "\x03\x02\x01\x00" + section(7, []string{sized("_initialize") + "\x00\x00"}) + "\x0a\x04\x01\x02\x00\x0b"), nil, "_initialize"},
		{"no memory", moduleSpec{funcs: []fn{{}}}.bytes(), nil, "no memory"},
		{"_start with a parameter", moduleSpec{types: []string{"i:"}, funcs: []fn{{typ: 1}}, pages: onePage}.bytes(), nil, `"i:"`},
		{"a type error", main("\x6a").bytes(), nil, "function 0 (_start)"},
		{"another type error", main(i32(0) + "\x42\x00\x6a\x1a").bytes(), nil, "type mismatch"},

		{"unknown function", moduleSpec{imports: [][3]string{imported("env", "puts", 0)}, funcs: []fn{{}}, pages: onePage}.bytes(), rewrite.ErrImport, `"puts" of "env"`},
		{"unknown function of ours", moduleSpec{imports: [][3]string{imported(bitgramMod, "tick", 0)}, funcs: []fn{{}}, pages: onePage}.bytes(), rewrite.ErrImport, `"tick"`},
		{"many unknown imports", moduleSpec{imports: [][3]string{imported("env", "a", 0), imported("wasi_unstable", "b", 0), imported("env", "c", 0), imported(bitgramMod, "nothing", 0)}, funcs: []fn{{}}, pages: onePage}.bytes(),
			rewrite.ErrImport, `unknown import: function "a", function "c" of "env"; function "b" of "wasi_unstable"; function "nothing" of "bitgram"`},
		{"a memory and functions", moduleSpec{imports: [][3]string{imported("env", "a", 0), {"env", "memory", "\x02\x00\x01"}, {"env", "table", "\x01\x70\x00\x01"}, {"go", "g", "\x03\x7f\x00"}}, funcs: []fn{{}}, pages: onePage}.bytes(),
			rewrite.ErrImport, `memory "memory", table "table", function "a" of "env"; global "g" of "go": only functions`},
		{"wrong type", moduleSpec{imports: [][3]string{imported(bitgramMod, "sync", 0)}, funcs: []fn{{}}, pages: onePage}.bytes(), rewrite.ErrImport, `"ii:", the module expects ":"`},
		{"memory import", raw("\x02" + sized("\x01"+sized("env")+sized("memory")+"\x02\x00\x01")), rewrite.ErrImport, "memory"},
		{"table import", raw("\x02" + sized("\x01"+sized("env")+sized("t")+"\x01\x70\x00\x01")), rewrite.ErrImport, "table"},
		{"global import", raw("\x02" + sized("\x01"+sized("env")+sized("g")+"\x03\x7f\x00")), rewrite.ErrImport, "global"},

		{"shared memory", raw("\x05\x04\x01\x03\x01\x02"), rewrite.ErrRefused, "threads"},
		{"64-bit memory", raw("\x05\x03\x01\x04\x01"), rewrite.ErrRefused, "64-bit"},
		{"two memories", raw("\x05\x05\x02\x00\x01\x00\x01"), rewrite.ErrRefused, "second memory"},
		{"tags", raw("\x0d\x03\x01\x00\x00"), rewrite.ErrRefused, "exceptions leave"},
		{"struct type", raw("\x01\x04\x01\x5f\x00\x00"), rewrite.ErrRefused, "garbage collected"},
		{"mutable vector", raw("\x06" + sized("\x01\x7b\x01\xfd\x0c"+strings.Repeat("\x00", 16)+"\x0b")), rewrite.ErrRefused, "mutable v128"},
		{"mutable reference", raw("\x06" + sized("\x01\x70\x01\xd0\x70\x0b")), rewrite.ErrRefused, "mutable funcref"},
		{"our export", moduleSpec{funcs: []fn{{}}, pages: onePage, exports: []string{sized(rewrite.FuelExport) + "\x00\x00"}}.bytes(), rewrite.ErrRefused, "bitgram:fuel"},
		{"a huge table", moduleSpec{funcs: []fn{{}}, pages: onePage, tables: [][2]int{{10_000_000, 10_000_000}}}.bytes(), rewrite.ErrTooLarge, "10000000"},
		{"many tables", raw("\x04" + sized("\x7f"+strings.Repeat("\x70\x00\x01", 127))), rewrite.ErrTooLarge, "tables"},
		{"many locals", moduleSpec{funcs: []fn{{locals: []group{{1 << 30, 0x7f}, {1 << 30, 0x7f}}}}, pages: onePage}.bytes(), rewrite.ErrTooLarge, "locals"},
		{"deep blocks", main(strings.Repeat("\x02\x40", 20_000) + strings.Repeat("\x0b", 20_000)).bytes(), rewrite.ErrTooLarge, "nested"},

		{"table.set", main(i32(0) + "\xd0\x70\x26\x00").bytes(), rewrite.ErrRefused, "table.set at offset"},
		{"table.grow", main("\xd0\x70" + i32(0) + "\xfc\x0f\x00\x1a").bytes(), rewrite.ErrRefused, "table.grow"},
		{"table.fill", main("\xfc\x11\x00").bytes(), rewrite.ErrRefused, "table.fill"},
		{"table.copy", main("\xfc\x0e\x00\x00").bytes(), rewrite.ErrRefused, "table.copy"},
		{"table.init", main("\xfc\x0c\x00\x00").bytes(), rewrite.ErrRefused, "table.init"},
		{"elem.drop", main("\xfc\x0d\x00").bytes(), rewrite.ErrRefused, "elem.drop"},
		{"data.drop", main("\xfc\x09\x00").bytes(), rewrite.ErrRefused, "data.drop"},
		{"an atomic", main("\xfe\x00\x02\x00").bytes(), rewrite.ErrRefused, "threads"},
		{"try", main("\x06\x40\x0b").bytes(), rewrite.ErrRefused, "try"},
		{"throw", main("\x08\x00").bytes(), rewrite.ErrRefused, "throw"},
		{"a tail call", main("\x12\x00").bytes(), rewrite.ErrRefused, "return_call"},
		{"relaxed SIMD", main("\xfd\x85\x02").bytes(), rewrite.ErrRefused, "f32x4.relaxed_madd"},
		{"a GC instruction", main("\xfb\x00\x00").bytes(), rewrite.ErrRefused, "garbage"},
		{"call_ref", main("\x14\x00").bytes(), rewrite.ErrRefused, "call_ref"},
		{"no instruction", main("\xff").bytes(), rewrite.ErrMalformed, "0xff"},

		// What the rewriter adds is out of reach.
		{"the global of fuel", main("\x42\x7f\x24\x00").bytes(), rewrite.ErrMalformed, "global 0"},
		{"a local that is added", main("\x20\x00\x1a").bytes(), rewrite.ErrMalformed, "local 0"},
		{"the added function", main(i32(0) + "\x40\x00\x1a" + i32(0) + "\x10\x01\x1a").bytes(), rewrite.ErrMalformed, "function 1"},
		{"the block around a function", main("\x0c\x02").bytes(), rewrite.ErrMalformed, "label 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := e.Load(t.Context(), bytes.NewReader(c.bin))
			if err == nil {
				p.Close()
			}
			if !errors.Is(err, sandbox.ErrProgram) || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%v; wanted %v: %s", err, c.want, c.says)
			}
		})
	}
}

// TestTruncated: no module that is cut short, or has a byte changed, is loaded
// into anything but an error or another module.
func TestTruncated(t *testing.T) {
	whole := moduleSpec{types: []string{"ii:"}, imports: [][3]string{imported(bitgramMod, "sync", 1)}, pages: onePage,
		funcs: []fn{{code: i32(0) + i32(8) + "\x10\x00" + endless("\x01")}}, tables: [][2]int{{1, 1}}, elements: []int{1}, data: []string{"data"}}.bytes()
	// It may end between two sections.
	ends := map[int]bool{8: true}
	for at := 8; at < len(whole); ends[at] = true {
		at += 2 + int(whole[at+1])
	}
	for n := range whole {
		if _, err := rewrite.Rewrite(whole[:n], anyImport); err == nil && !ends[n] {
			t.Errorf("%d of %d bytes are taken", n, len(whole))
		}
	}
	e := newEngine(t, false)
	for n := 8; n < len(whole); n++ {
		for _, bit := range []byte{0x01, 0x10, 0x80} {
			b := bytes.Clone(whole)
			b[n] ^= bit
			if p, err := e.Load(t.Context(), bytes.NewReader(b)); err == nil {
				p.Close()
			} else if !errors.Is(err, sandbox.ErrProgram) {
				t.Errorf("byte %d: %v", n, err)
			}
		}
	}
}

func anyImport(module, name string) (rewrite.Signature, bool) {
	return "ii:", module == bitgramMod && name == "sync"
}

// TestLoopEnds: an endless loop of 100 M fuel is over soon.
func TestLoopEnds(t *testing.T) {
	p := load(t, newEngine(t, false), moduleSpec{funcs: []fn{{code: endless("")}}, pages: onePage}.bytes())
	job := hostileJob()
	job.Limits.Fuel = 100_000_000
	run, err := p.Start(t.Context(), job, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	began := time.Now()
	if _, err := run.Next(t.Context()); !errors.Is(err, sandbox.ErrFuel) {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}
