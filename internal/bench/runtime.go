package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
	"github.com/bitgram/bitgram/internal/testing/guests"
)

// runtimes measures the sandbox: programs against the same under bare wazero,
// states, checkpoints, starts, and what a fuel of each class takes.
func runtimes(ctx context.Context, w io.Writer) error {
	runtime.LockOSThread() // threadTime is one thread's
	defer runtime.UnlockOSThread()
	dir, err := os.MkdirTemp("", "bitgram-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, f := range []func(context.Context, io.Writer, string) error{kernels, weights, roots, checkpoints, starts, classes} {
		if err := f(ctx, w, dir); err != nil {
			return err
		}
	}
	return nil
}

// threadTime is what this thread has computed: others on the machine do not
// count.
func threadTime() time.Duration {
	const rusageThread = 1
	var r syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &r); err != nil {
		panic(err) // there is no other way for it to fail
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func timed(f func() error) (time.Duration, error) {
	began := threadTime()
	err := f()
	return threadTime() - began, err
}

// against is the built time over the bare one, of alternating runs.
func against(rounds int, bare, built func() error) (ratio float64, each time.Duration, err error) {
	var ratios []float64
	var times []time.Duration
	for i := range rounds + 1 {
		b, err1 := timed(bare)
		t, err2 := timed(built)
		if err := errors.Join(err1, err2); err != nil {
			return 0, 0, err
		}
		if i > 0 { // the first warms up
			ratios, times = append(ratios, t.Seconds()/b.Seconds()), append(times, t)
		}
	}
	return median(ratios), median(times), nil
}

// bareModule compiles a module for wazero alone.
func bareModule(ctx context.Context, bin []byte) (wazero.Runtime, wazero.CompiledModule, error) {
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		return nil, nil, err
	}
	m, err := rt.CompileModule(ctx, bin)
	return rt, m, err
}

// wasiImports are what kernels.c imports.
func wasiImports(_, name string) (rewrite.Signature, bool) {
	s, ok := map[string]rewrite.Signature{"proc_exit": "i:", "args_get": "ii:i", "args_sizes_get": "ii:i"}[name]
	return s, ok
}

// kernels compares single functions.
func kernels(ctx context.Context, w io.Writer, _ string) error {
	bin, err := guests.C("internal/sandbox/wasm/testdata/kernels.c")
	if err != nil {
		return err
	}
	m, err := rewrite.Rewrite(bin, wasiImports)
	if err != nil {
		return err
	}
	var mods []api.Module
	for _, b := range [][]byte{bin, m.Binary} {
		rt, compiled, err := bareModule(ctx, b)
		if err != nil {
			return err
		}
		defer rt.Close(ctx)
		mod, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
		if err != nil {
			return err
		}
		mods = append(mods, mod)
	}
	mods[1].ExportedGlobal(rewrite.FuelExport).(api.MutableGlobal).Set(1 << 62)
	mods[1].ExportedGlobal(rewrite.PagesExport).(api.MutableGlobal).Set(1 << 10)
	for _, k := range []struct {
		name, what string
		n          uint64
		wanted     string
	}{
		{"sha", "SHA-256", 60_000, "≤ 1.35"}, {"mati32", "product of matrices of integers", 6, "≤ 1.35"}, {"sort", "sort", 5, "≤ 1.35"},
		{"qsortlib", "sort by the C library's qsort", 8, "≤ 1.35"}, {"fib", "recursion", 33, ""}, {"sieve", "sieve", 3, "≤ 1.35"},
		{"matf64", "product of matrices of doubles", 6, "≤ 1.5"}, {"matf32", "product of matrices of floats", 6, "≤ 1.5"}, {"nbody", "two bodies", 1_000_000, "≤ 1.5"},
	} {
		var results [2][]uint64
		call := func(i int) func() error {
			return func() (err error) {
				results[i], err = mods[i].ExportedFunction(k.name).Call(ctx, k.n)
				return err
			}
		}
		r, each, err := against(15, call(0), call(1))
		if err != nil {
			return err
		}
		if !slices.Equal(results[0], results[1]) {
			return fmt.Errorf("%s: %v bare, %v rewritten", k.name, results[0], results[1])
		}
		row(w, k.what+", rewritten", fmt.Sprintf("%.2f of bare wazero, %.1f ms", r, each.Seconds()*1e3), k.wanted)
	}
	return nil
}

// weights compares whole programs.
func weights(ctx context.Context, w io.Writer, _ string) error {
	script, err := os.ReadFile(filepath.Join(guests.WeightDir, "script.js"))
	if err != nil {
		return err
	}
	for _, g := range guests.Weights {
		bin, err := g.Build()
		if err != nil {
			return err
		}
		args := []string{g.Name, map[string]string{"sql": "20000", "compress": "512"}[g.Name]}
		rt, compiled, err := bareModule(ctx, bin)
		if err != nil {
			return err
		}
		e, p, err := loadWASM(ctx, bin, "")
		if err != nil {
			return err
		}
		var out [2][]byte
		r, each, err := against(9, func() error {
			var b bytes.Buffer
			mod, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithArgs(args...).WithStdin(bytes.NewReader(script)).WithStdout(&b))
			if err != nil {
				return err
			}
			out[0] = b.Bytes()
			return mod.Close(ctx)
		}, func() error {
			ev, err := runOnce(ctx, p, &sandbox.Job{Args: args, Input: script, Limits: sandbox.DefaultLimits()})
			if err == nil {
				out[1] = ev.Output
			}
			return err
		})
		if err = errors.Join(err, rt.Close(ctx), e.Close()); err != nil {
			return err
		}
		if !bytes.Equal(out[0], out[1]) {
			return fmt.Errorf("%s puts out something else", g.Name)
		}
		what := map[string]string{"sql": "SQL engine (SQLite)", "js": "interpreter (Duktape)", "compress": "compressor (zstd)"}[g.Name]
		row(w, what+", whole program, with its state's root", fmt.Sprintf("%.2f of bare wazero, %.0f ms", r, each.Seconds()*1e3), "≤ 1.3")
	}
	return nil
}

func loadWASM(ctx context.Context, bin []byte, cache string) (*wasm.Engine, sandbox.Program, error) {
	e, err := wasm.New(ctx, wasm.Config{CacheDir: cache})
	if err != nil {
		return nil, nil, err
	}
	p, err := e.Load(ctx, bytes.NewReader(bin))
	return e, p, err
}

// runOnce runs to the first event.
func runOnce(ctx context.Context, p sandbox.Program, job *sandbox.Job) (*sandbox.Event, error) {
	run, err := p.Start(ctx, job, nil)
	if err != nil {
		return nil, err
	}
	defer run.Close()
	return run.Next(ctx)
}

// roots measures a state's root after some pages have changed.
func roots(_ context.Context, w io.Writer, _ string) error {
	const size = 16 << 20
	memory := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(memory)
	var s sandbox.Snapshot
	s.Set(sandbox.Header{}, memory, nil)
	pages := size / sandbox.PageSize
	var times []float64
	for round := range 21 {
		for i := range pages / 20 {
			memory[(i*20+round)%pages*sandbox.PageSize+round]++
		}
		began := time.Now()
		s.Set(sandbox.Header{Epoch: uint64(round)}, memory, nil)
		times = append(times, time.Since(began).Seconds()*1e3)
	}
	row(w, "root of a state of 16 MiB of which 5 % changed", fmt.Sprintf("%.1f ms", median(times)), "≤ 5 ms")
	return nil
}

// checkpoints measures full snapshots of a program that holds 16 MiB.
func checkpoints(ctx context.Context, w io.Writer, dir string) error {
	plain, err := guests.C("internal/sandbox/wasm/testdata/suspend.c")
	if err != nil {
		return err
	}
	bin, err := guests.Asyncify(plain)
	if err != nil {
		return err
	}
	heap := fmt.Sprint(16 << 20)
	e, p, err := loadWASM(ctx, bin, "")
	if err != nil {
		return err
	}
	defer e.Close()
	run, err := p.Start(ctx, &sandbox.Job{Args: []string{"suspend", heap}, Limits: sandbox.DefaultLimits()}, nil)
	if err != nil {
		return err
	}
	defer run.Close()
	if _, err := run.Next(ctx); err != nil {
		return err
	}
	var times []float64
	var size int64
	for range 15 {
		began := time.Now()
		f, err := os.Create(filepath.Join(dir, "full"))
		if err != nil {
			return err
		}
		err = run.Checkpoint(f)
		size, _ = f.Seek(0, io.SeekEnd)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		times = append(times, time.Since(began).Seconds()*1e3)
	}
	row(w, fmt.Sprintf("full checkpoint of a program with 16 MiB, written to a file (%d KiB)", size>>10), fmt.Sprintf("%.1f ms", median(times)), "≤ 40 ms")
	return resumed(ctx, w, dir, bin, heap)
}

// command builds the binary into dir and returns a function that runs a program with
// it, and returns the time to the first line of its output, and what it computes in
// all.
func command(ctx context.Context, dir, program string) (func(args ...string) (time.Duration, time.Duration, error), error) {
	bitgram := filepath.Join(dir, "bitgram")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bitgram, "./cmd/bitgram").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	return func(args ...string) (first, cpu time.Duration, err error) {
		c := exec.CommandContext(ctx, bitgram, append([]string{"run", "--json", program}, args...)...)
		c.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "home"))
		out, err := c.StdoutPipe()
		if err != nil {
			return 0, 0, err
		}
		began := time.Now()
		if err := c.Start(); err != nil {
			return 0, 0, err
		}
		lines := bufio.NewReader(out)
		line, err := lines.ReadString('\n')
		first = time.Since(began)
		if err == nil && !strings.Contains(line, `"fuel"`) {
			err = errors.New(line)
		}
		_, _ = io.Copy(io.Discard, lines)
		if err = errors.Join(err, c.Wait()); err != nil {
			return 0, 0, err
		}
		return first, c.ProcessState.UserTime() + c.ProcessState.SystemTime(), nil
	}, nil
}

// fastest runs a command several times and returns the shortest times, which others
// on the machine lengthen least.
func fastest(run func(args ...string) (time.Duration, time.Duration, error), args ...string) (first, cpu time.Duration, err error) {
	for i := range 16 {
		f, c, err := run(args...)
		if err != nil {
			return 0, 0, err
		}
		switch i {
		case 0: // fills the caches
		case 1:
			first, cpu = f, c
		default:
			first, cpu = min(first, f), min(cpu, c)
		}
	}
	return first, cpu, nil
}

// resumed measures the command that takes a full checkpoint up in a process of
// its own, up to the next sync event.
func resumed(ctx context.Context, w io.Writer, dir string, bin []byte, heap string) error {
	program := filepath.Join(dir, "suspend.wasm")
	if err := os.WriteFile(program, bin, 0o600); err != nil {
		return err
	}
	run, err := command(ctx, dir, program)
	if err != nil {
		return err
	}
	from := filepath.Join(dir, "first")
	if _, _, err := run("--checkpoint-at", "1", "--checkpoint", from, heap); err != nil {
		return err
	}
	first, cpu, err := fastest(run, "--resume", from, "--checkpoint-at", "2", "--checkpoint", filepath.Join(dir, "second"), heap)
	if err != nil {
		return err
	}
	row(w, "the same taken up by another process: from its start to the next sync event, shortest of 15", fmt.Sprintf("%.0f ms (%.0f ms of CPU, with the next checkpoint)", first.Seconds()*1e3, cpu.Seconds()*1e3), "≤ 100 ms")
	return nil
}

// starts measures a Go program from the cache, and an endless loop.
func starts(ctx context.Context, w io.Writer, dir string) error {
	bin, err := guests.Go("guest/examples/primes")
	if err != nil {
		return err
	}
	program := filepath.Join(dir, "primes.wasm")
	if err := os.WriteFile(program, bin, 0o600); err != nil {
		return err
	}
	run, err := command(ctx, dir, program)
	if err != nil {
		return err
	}
	first, cpu, err := fastest(run, "10")
	if err != nil {
		return err
	}
	row(w, "a Go-built program of 2.5 MiB from the cache: `bitgram run`, from its start to the program's end, shortest of 15", fmt.Sprintf("%.0f ms (%.0f ms of CPU)", first.Seconds()*1e3, cpu.Seconds()*1e3), "≤ 90 ms")

	e, p, err := loadWASM(ctx, classModule("\x03\x40\x0c\x00\x0b", 0), "")
	if err != nil {
		return err
	}
	defer e.Close()
	job := &sandbox.Job{Limits: sandbox.DefaultLimits()}
	job.Limits.Fuel = 100_000_000
	var times []float64
	for range 5 {
		began := time.Now()
		if _, err := runOnce(ctx, p, job); !errors.Is(err, sandbox.ErrFuel) {
			return fmt.Errorf("an endless loop ended with %w", err)
		}
		times = append(times, time.Since(began).Seconds()*1e3)
	}
	row(w, "an endless loop of 100 M fuel", fmt.Sprintf("%.0f ms", median(times)), "< 200 ms")
	return nil
}

// classModule is a command with one function: its code, after n rounds of which
// it ends (0: the code is all there is). Locals 0 to 9 are two each of i32,
// i64, f32, f64 and v128; local 10 counts.
func classModule(code string, n int) []byte {
	leb := func(n int) string { return string(binary.AppendUvarint(nil, uint64(n))) }
	sized := func(s string) string { return leb(len(s)) + s }
	if n > 0 {
		const counter = "\x0a"
		// The counter is a constant below 2^27: four bytes of signed LEB.
		count := string([]byte{byte(n) | 0x80, byte(n>>7) | 0x80, byte(n>>14) | 0x80, byte(n >> 21)})
		code = "\x41" + count + "\x21" + counter + "\x03\x40" + code + "\x20" + counter + "\x41\x01\x6b\x22" + counter + "\x0d\x00\x0b"
	}
	body := "\x06\x02\x7f\x02\x7e\x02\x7d\x02\x7c\x02\x7b\x01\x7f" +
		"\x41\x07\x21\x01\x42\x07\x21\x03\x43\x00\x00\x80\x3f\x21\x05\x44\x00\x00\x00\x00\x00\x00\xf0\x3f\x21\x07" + code + "\x0b"
	return []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x05\x03\x01\x00\x11" +
		"\x07" + sized("\x02"+sized("_start")+"\x00\x00"+sized("memory")+"\x02\x00") + "\x0a" + sized("\x01"+sized(body)))
}

// classes measures what a fuel takes where one class of instructions is most of
// the work, each in a chain in which it waits for the last.
func classes(ctx context.Context, w io.Writer, _ string) error {
	binop := func(local, op string) string {
		other := string([]byte{local[0] + 1})
		return "\x20" + local + "\x20" + other + op + "\x21" + local
	}
	unop := func(local, op string) string { return "\x20" + local + op + "\x21" + local }
	var worst float64
	var slowest string
	var each []float64
	for _, c := range []struct{ name, code string }{
		{"i32.add", binop("\x00", "\x6a")}, {"i64.mul", binop("\x02", "\x7e")}, {"i32.div_u", binop("\x00", "\x6e")}, {"i64.div_s", binop("\x02", "\x7f")}, {"i64.rem_u", binop("\x02", "\x82")},
		{"i64.shl", binop("\x02", "\x86")}, {"i64.popcnt", unop("\x02", "\x7b")}, {"i32.clz", unop("\x00", "\x67")},
		{"i32.load", "\x20\x00\x41\x00\x71\x28\x02\x00\x21\x00"}, {"i64.store", "\x41\x08\x20\x02\x37\x03\x00"}, {"load after store", "\x41\x08\x20\x02\x37\x03\x00\x41\x08\x29\x03\x00\x21\x02"},
		{"select", "\x20\x00\x20\x01\x20\x00\x1b\x21\x00"}, {"f64.add", binop("\x06", "\xa0")}, {"f64.mul", binop("\x06", "\xa2")}, {"f64.div", binop("\x06", "\xa3")}, {"f64.sqrt", unop("\x06", "\x9f")},
		{"f64.min", binop("\x06", "\xa4")}, {"f32.max", binop("\x04", "\x97")}, {"f64.nearest", unop("\x06", "\x9e")}, {"f64.floor", unop("\x06", "\x9c")}, {"f64.copysign", binop("\x06", "\xa6")}, {"f64.lt", "\x20\x06\x20\x07\x63\x21\x00"},
		{"i32.trunc_f64_s", "\x20\x07\xaa\x21\x00"}, {"i64.trunc_sat_f64_u", "\x20\x07\xfc\x07\x21\x02"}, {"f64.convert_i64_u", "\x20\x02\xba\x21\x06"}, {"f32.demote, promote", "\x20\x06\xb6\xbb\x21\x06"},
		{"f64.reinterpret", "\x20\x06\xbd\xbf\x21\x06"}, {"i32x4.add", binop("\x08", "\xfd\xae\x01")}, {"i64x2.mul", binop("\x08", "\xfd\xd5\x01")}, {"i8x16.shl", "\x20\x08\x20\x01\xfd\x6b\x21\x08"},
		{"i8x16.popcnt", unop("\x08", "\xfd\x62")}, {"i8x16.swizzle", binop("\x08", "\xfd\x0e")}, {"f32x4.mul", binop("\x08", "\xfd\xe6\x01")}, {"f64x2.div", binop("\x08", "\xfd\xf3\x01")}, {"f64x2.min", binop("\x08", "\xfd\xf4\x01")},
		{"f32x4.nearest", unop("\x08", "\xfd\x6a")}, {"i32x4.trunc_sat_f32x4_u", unop("\x08", "\xfd\xf9\x01")}, {"if", "\x20\x00\x04\x40\x05\x0b"}, {"br_if", "\x02\x40\x20\x00\x0d\x00\x0b"},
		{"br_table", "\x02\x40\x02\x40\x20\x00\x0e\x01\x00\x01\x0b\x0b"}, {"memory.grow of nothing", "\x41\x00\x40\x00\x1a"}, {"memory.fill of 1 KiB", "\x41\x00\x41\x00\x41\x80\x08\xfc\x0b\x00"}, {"memory.copy of nothing", "\x41\x00\x41\x00\x41\x00\xfc\x0a\x00\x00"},
		{"memory.fill of 512 KiB", "\x41\x00\x41\x00\x41\x80\x80\x20\xfc\x0b\x00"},
	} {
		rounds := 40_000
		if strings.HasPrefix(c.name, "memory.") {
			rounds = 2_000
		}
		if strings.HasSuffix(c.name, "512 KiB") {
			rounds = 20
		}
		e, p, err := loadWASM(ctx, classModule(strings.Repeat(c.code, 32), rounds), "")
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		var list []float64
		for range 5 {
			began := time.Now()
			ev, err := runOnce(ctx, p, &sandbox.Job{Limits: sandbox.DefaultLimits()})
			t := time.Since(began)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			list = append(list, t.Seconds()*1e9/float64(ev.Fuel))
		}
		per := slices.Min(list)
		each = append(each, per)
		if per > worst {
			worst, slowest = per, c.name
		}
		if err := e.Close(); err != nil {
			return err
		}
	}
	row(w, fmt.Sprintf("a fuel, over %d classes of instructions: median, and most (%s)", len(each), slowest), fmt.Sprintf("%.2f ns, %.2f ns", median(each), worst), "≤ 1.5 ns")
	return nil
}
