package wasm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// fuelOf runs a program in both engines and returns what its first epoch takes.
func fuelOf(t *testing.T, engines []sandbox.Runner, m moduleSpec, job *sandbox.Job) (fuel uint64, failed error) {
	t.Helper()
	for i, e := range engines {
		p := load2(t, e, m.bytes())
		run, err := p.Start(t.Context(), job, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		ev, err := run.Next(t.Context())
		var f *sandbox.Failure
		switch {
		case err != nil && !errors.As(err, &f):
			t.Fatal(err)
		case err != nil:
			failed = err
		case i > 0 && ev.Fuel != fuel:
			t.Errorf("compiled %d, interpreted %d", fuel, ev.Fuel)
		default:
			fuel = ev.Fuel
		}
	}
	return fuel, failed
}

func load2(t *testing.T, e sandbox.Runner, bin []byte) sandbox.Program {
	t.Helper()
	p, err := e.Load(t.Context(), strings.NewReader(string(bin)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestAsyncifyCostsFuel: what a program's own asyncify functions do, and what runs on
// the way out of sync, takes fuel like everything else.
func TestAsyncifyCostsFuel(t *testing.T) {
	burn := i32(100_000_000) + "\x21\x00\x03\x40\x20\x00" + i32(1) + "\x6b\x22\x00\x0d\x00\x0b"
	local := []group{{1, 0x7f}}
	program := func(where string) moduleSpec {
		code := func(name, s string) string {
			if name == where {
				return burn + s
			}
			return s
		}
		export := func(name string, i int) string { return sized("asyncify_"+name) + "\x00" + leb(i) }
		unwinding := "\x23\x00\x04\x40" // if the state is 1
		return moduleSpec{
			types: []string{"ii:", "i:"}, imports: [][3]string{imported(bitgramMod, "sync", 1)}, pages: [2]int{4, 4}, globals: []string{"\x7f\x01\x41\x00\x0b"},
			funcs: []fn{
				{locals: local, code: i32(0) + i32(0) + "\x10\x00" + unwinding + code("on the way out", "") + "\x0f\x0b"},
				{typ: 2, locals: []group{{1, 0x7f}}, code: code("start_unwind", i32(1)+"\x24\x00")},
				{locals: local, code: code("stop_unwind", i32(0)+"\x24\x00")},
				{typ: 2, locals: []group{{1, 0x7f}}, code: code("start_rewind", i32(2)+"\x24\x00")},
				{locals: local, code: code("stop_rewind", i32(0)+"\x24\x00")},
			},
			exports: []string{export("start_unwind", 2), export("stop_unwind", 3), export("start_rewind", 4), export("stop_rewind", 5)},
		}
	}
	job, engines := hostileJob(), bothEngines(t)
	job.Limits.Fuel = 3_000_000
	if _, err := fuelOf(t, engines, program(""), job); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{"start_unwind", "on the way out", "stop_unwind", "start_rewind", "stop_rewind"} {
		for _, e := range engines {
			run, err := load2(t, e, program(where).bytes()).Start(t.Context(), job, nil)
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				var ev *sandbox.Event
				if ev, err = run.Next(t.Context()); err == nil && ev.Done {
					break
				}
			}
			if !errors.Is(err, sandbox.ErrFuel) {
				t.Errorf("%s: %v", where, err)
			}
			run.Close()
		}
	}
}

// TestFarMemory: loads and stores cost more in a large memory, from the start and
// when it grows, whatever loads them.
func TestFarMemory(t *testing.T) {
	job, engines := hostileJob(), bothEngines(t)
	job.Limits.Memory, job.Limits.Fuel = 64<<20, 1_000_000_000
	load := i32(0) + "\x28\x00\x00\x1a"
	vector := i32(0) + "\xfd\x00\x00\x00\x1a"
	main := func(pages int, code string) moduleSpec {
		return moduleSpec{pages: [2]int{pages, 1000}, funcs: []fn{{code: code}}}
	}
	grow := i32(60) + "\x40\x00\x1a"
	for _, c := range []struct {
		what, code  string
		times, more int // loads and stores, pages behind the start
	}{
		{"none", i32(0) + "\x1a", 0, 0}, {"a load", load, 1, 0}, {"a vector", vector, 1, 0}, {"a store", i32(0) + i32(0) + "\x3a\x00\x00", 1, 0},
		{"many loads", strings.Repeat(load, 50), 50, 0}, {"behind grow", grow + "\x03\x40" + load + i32(0) + "\x0d\x00\x0b", 1, 60},
		{"right behind grow", grow + load, 1, 60},
		{"behind a block with grow in it", "\x02\x40" + grow + "\x0b" + load, 1, 60},
		{"behind grow in the arm of an if", i32(1) + "\x04\x40" + grow + "\x0b" + load, 1, 60},
		{"behind grow in a loop that calls nothing else", "\x03\x40" + grow + "\x03\x40" + load + i32(0) + "\x0d\x00\x0b" + i32(0) + "\x0d\x00\x0b", 1, 60},
	} {
		small, err1 := fuelOf(t, engines, main(1, c.code), job)
		large, err2 := fuelOf(t, engines, main(100, c.code), job)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		more := uint64(c.times) * (rewrite.Far(uint32(100+c.more)) - rewrite.Far(uint32(1+c.more)))
		if got := large - small - 99*rewrite.PageCost; got != more {
			t.Errorf("%s: %d more in 100 pages than in one, wanted %d", c.what, got, more)
		}
	}
	if rewrite.Far(15) != 0 || rewrite.Far(16) != 1 || rewrite.Far(4096) != 96 {
		t.Error("a load costs one more for each MiB, at most 96")
	}
}

// TestFarMemoryOfCallers: loads and stores behind a call cost no less if the memory
// grows in it than if it was as large before, however deep the call and however the
// code behind it is nested.
func TestFarMemoryOfCallers(t *testing.T) {
	job, engines := hostileJob(), bothEngines(t)
	job.Limits.Memory, job.Limits.Fuel = 64<<20, 1_000_000_000
	loads := func(n int) string { return strings.Repeat(i32(0)+"\x28\x00\x00\x1a", n) }
	const deep = 200
	// Function 1 calls itself, deep times; the last call grows the memory by the
	// pages in the global.
	again := "\x20\x00" + i32(1) + "\x6b\x10\x01"
	body := func(call string) string {
		return "\x20\x00\x45\x04\x40\x23\x00\x40\x00\x1a\x05" + call + "\x0b"
	}
	nested := loads(200)
	for range 8 {
		nested = i32(1) + "\x04\x40" + nested + "\x0b" + loads(200)
	}
	within := again // outer charges are in force while it calls
	for range 8 {
		within = loads(10) + i32(1) + "\x04\x40" + within + "\x0b" + loads(200)
	}
	for _, c := range []struct{ what, code string }{
		{"a few", body(again + loads(20))}, {"many", body(again + loads(2000))}, {"in ifs", body(again + nested)}, {"behind ifs", body(within)},
		{"behind the if", body(again) + loads(2000)}, {"in a loop", "\x03\x40" + body(again+loads(500)) + i32(0) + "\x0d\x00\x0b"},
	} {
		total := func(pages, more int) uint64 {
			m := moduleSpec{types: []string{"i:"}, pages: [2]int{pages, 1000}, globals: []string{"\x7f\x01" + i32(more) + "\x0b"},
				funcs: []fn{{code: i32(deep) + "\x10\x01"}, {typ: 1, code: c.code}}}
			fuel, err := fuelOf(t, engines, m, job)
			if err != nil {
				t.Fatal(c.what, err)
			}
			return fuel
		}
		grown, large := total(1, 960), total(961, 0)
		// What was paid before the call at the old price was right.
		if before := uint64(deep) * 8 * 10 * rewrite.Far(961); c.what == "behind ifs" {
			large -= before
		}
		if grown < large || grown > large+large/2 {
			t.Errorf("%s: %d fuel if the memory grows in the deepest call, %d if it is as large before", c.what, grown, large)
		}
	}
}

// TestStartCosts: elements, globals and the instance itself are paid at each start.
func TestStartCosts(t *testing.T) {
	job, engines := hostileJob(), bothEngines(t)
	base := moduleSpec{pages: onePage, funcs: []fn{{}}, tables: [][2]int{{1000, 1000}}}
	with := base
	with.elements, with.globals = make([]int, 1000), []string{"\x7f\x01\x41\x00\x0b"}
	small, _ := fuelOf(t, engines, base, job)
	large, _ := fuelOf(t, engines, with, job)
	if small < rewrite.StartBase+rewrite.PageCost || large-small < 1000*128+64 {
		t.Errorf("%d, and %d with 1000 elements and a global", small, large)
	}
}

// TestRefFuncRefused: ref.func in code takes memory of the host at every execution.
func TestRefFuncRefused(t *testing.T) {
	m := moduleSpec{pages: onePage, funcs: []fn{{code: "\xd2\x00\x1a"}}}
	if _, err := rewrite.Rewrite(m.bytes(), anyImport); !errors.Is(err, rewrite.ErrRefused) || !strings.Contains(err.Error(), "ref.func at offset") {
		t.Error(err)
	}
}
