//go:build unix

package process_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/process"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/guests"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

// The test binary is its own child: its first argument says what it does then.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if f, ok := children[os.Args[1]]; ok {
			f(os.Args[2:])
			os.Exit(0)
		}
	}
	flag.Parse()
	os.Exit(m.Run())
}

// children are what a child does.
var children = map[string]func(args []string){
	// serve is an honest child, with a cache.
	"child-serve": func(args []string) {
		if err := process.Harden(); err != nil {
			fmt.Fprintln(os.Stderr, "not hardened:", err)
		}
		e, err := wasm.New(context.Background(), wasm.Config{CacheDir: args[0]})
		if err == nil {
			err = process.Serve(os.Stdin, os.Stdout, e)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	},
	// say answers to everything with the same bytes.
	"child-say": func(args []string) {
		go func() { _, _ = io.Copy(io.Discard, os.Stdin) }()
		b, _ := hex.DecodeString(args[0])
		for {
			if _, err := os.Stdout.Write(b); err != nil {
				return
			}
		}
	},
	// lie is honest until the program runs, and then says what it is told to.
	"child-lie": func(args []string) {
		lie, _ := hex.DecodeString(args[0])
		for {
			k, err := process.Follow(os.Stdin)
			if err != nil {
				return
			}
			if k != 'L' && k != 'J' {
				for range max(1, len(args)*1000-1000) { // a second argument: a thousand times
					_, _ = os.Stdout.Write(lie)
				}
				continue
			}
			_, _ = os.Stdout.WriteString(process.Answer())
		}
	},
	// trickle answers everything else with a byte at a time.
	"child-trickle": func([]string) {
		for {
			k, err := process.Follow(os.Stdin)
			if err != nil {
				return
			}
			for k != 'L' && k != 'J' {
				if _, err := os.Stdout.WriteString(process.Frame('D', "x")); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
			_, _ = os.Stdout.WriteString(process.Answer())
		}
	},
	"child-stall": func([]string) { select {} },
	"child-hog": func([]string) {
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = byte(i)
			}
			all = append(all, b)
			time.Sleep(time.Millisecond)
			runtime.KeepAlive(all)
		}
	},
	// look says what it has inherited.
	"child-look": func([]string) {
		list, _ := os.ReadDir("/proc/self/fd")
		var files []string
		for _, f := range list {
			if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && !strings.HasPrefix(to, "anon_inode") {
				files = append(files, f.Name()+" "+to)
			}
		}
		nice, _ := os.ReadFile("/proc/self/stat")
		panic(fmt.Sprintf("env %q, files %q, stat %s", os.Environ(), files, nice))
	},
	// interrupted runs an endless program until a signal comes.
	"interrupted": func(args []string) {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		p, err := process.New(process.Config{Command: self("child-serve", args[0])}).Load(ctx, bytes.NewReader([]byte(endless)))
		if err != nil {
			panic(err)
		}
		job := &sandbox.Job{Limits: sandbox.DefaultLimits()}
		job.Limits.Fuel = 1 << 50
		run, err := p.Start(ctx, job, nil)
		if err != nil {
			panic(err)
		}
		fmt.Println("started")
		_, err = run.Next(ctx)
		fmt.Println(errors.Is(err, sandbox.ErrStopped), errors.Is(run.Checkpoint(io.Discard), sandbox.ErrNoState), run.Close(), p.Close())
	},
	// parent runs an endless program in a child, whose number it prints.
	"parent": func(args []string) {
		if len(args) > 1 { // a child that reads nothing
			fmt.Println("started")
			_, err := process.New(process.Config{Command: self("child-stall")}).Load(context.Background(), strings.NewReader(endless))
			panic(err)
		}
		p, err := process.New(process.Config{Command: self("child-serve", args[0])}).Load(context.Background(), bytes.NewReader([]byte(endless)))
		if err != nil {
			panic(err)
		}
		job := &sandbox.Job{Limits: sandbox.DefaultLimits()}
		job.Limits.Fuel = 1 << 50
		run, err := p.Start(context.Background(), job, nil)
		if err != nil {
			panic(err)
		}
		fmt.Println("started")
		_, err = run.Next(context.Background())
		panic(err)
	},
}

// endless is (func (export "_start") (loop br 0)), with a memory.
const endless = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06_start\x00\x00\x06memory\x02\x00\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b"

func self(args ...string) []string {
	c, err := process.Self(args...)
	if err != nil {
		panic(err)
	}
	return c
}

func cache() string {
	dir := filepath.Join(guests.Cache(), "process-tests")
	_ = os.MkdirAll(dir, 0o700)
	return dir
}

func runner(change func(*process.Config)) *process.Runner {
	c := process.Config{Command: self("child-serve", cache())}
	if change != nil {
		change(&c)
	}
	return process.New(c)
}

func goGuest(t testing.TB, dir string) []byte {
	t.Helper()
	bin, err := guests.Go(dir)
	if errors.Is(err, guests.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func load(t testing.TB, r sandbox.Runner, bin []byte) sandbox.Program {
	t.Helper()
	p, err := r.Load(t.Context(), bytes.NewReader(bin))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func begin(t testing.TB, p sandbox.Program, job *sandbox.Job, from []byte) sandbox.Run {
	t.Helper()
	var r io.Reader
	if from != nil {
		r = bytes.NewReader(from)
	}
	run, err := p.Start(t.Context(), job, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run.Close() })
	return run
}

func countJob(n int) *sandbox.Job {
	l := sandbox.DefaultLimits()
	l.Memory, l.Fuel, l.Epochs = 64<<20, 2_000_000_000, 100
	return &sandbox.Job{Args: []string{"program", "count", fmt.Sprint(n)}, Seed: [32]byte{7}, Limits: l}
}

// roots runs to the end.
func roots(t testing.TB, run sandbox.Run) (list []sandbox.Digest) {
	t.Helper()
	for {
		ev, err := run.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if list = append(list, ev.Root); ev.Done {
			return list
		}
	}
}

// isLost: the error is the machine's, and no failure of the program's.
func isLost(t testing.TB, err error, also error) {
	t.Helper()
	if !errors.Is(err, sandbox.ErrLost) || also != nil && !errors.Is(err, also) || errors.As(err, new(*sandbox.Failure)) {
		t.Errorf("it ends with %v, wanted %v and %v", err, sandbox.ErrLost, also)
	}
	if _, ok := sandbox.Fail(sandbox.Digest{}, sandbox.Digest{}, 1, sandbox.Digest{}, err); ok {
		t.Errorf("%v can be taken for the program's failure", err)
	}
}

func TestConform(t *testing.T) {
	tier.NotShort(t)
	conform.Runner(t, runner(nil), goGuest(t, conform.RunnerProgram), goGuest(t, "guest/examples/primes"))
}

// TestSameAsInProcess: roots, events and checkpoints are those of the engine in this
// process.
func TestSameAsInProcess(t *testing.T) {
	tier.NotShort(t)
	bin := goGuest(t, conform.RunnerProgram)
	e, err := wasm.New(t.Context(), wasm.Config{CacheDir: cache()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	for _, args := range [][]string{{"count", "4"}, {"state", "200001"}, {"events", "5"}, {"world", "1"}, {"exit", "3"}, {"crash"}, {"deep", "10000000"}} {
		var said [2]bytes.Buffer
		var got [2][]string
		for i, r := range []sandbox.Runner{e, runner(nil)} {
			job := countJob(0)
			job.Args, job.Log = append([]string{"program"}, args...), &said[i]
			job.Limits.Epochs = 3
			run := begin(t, load(t, r, bin), job, nil)
			for {
				res, err := sandbox.Step(t.Context(), run)
				if err != nil {
					t.Fatal(err)
				}
				line := fmt.Sprintf("%v %v %v", res.Status, res.Root, res.Failure)
				if res.Event != nil {
					line += fmt.Sprintf(" %+v", *res.Event)
				}
				if res.Status == sandbox.Running {
					var b bytes.Buffer
					if err := run.Checkpoint(&b); err != nil {
						t.Fatal(err)
					}
					line += fmt.Sprintf(" %x", b.Bytes())
				}
				if got[i] = append(got[i], line); res.Status != sandbox.Running {
					break
				}
			}
		}
		if !slices.Equal(got[0], got[1]) || said[0].String() != said[1].String() {
			t.Errorf("%v: in this process\n%s%s\nin another\n%s%s", args, strings.Join(got[0], "\n"), &said[0], strings.Join(got[1], "\n"), &said[1])
		}
	}
}

// TestSuspended: a program that is suspended goes on in another child from each of its
// full checkpoints, to the roots of the engine in this process.
func TestSuspended(t *testing.T) {
	tier.NotShort(t)
	bin, err := guests.C("internal/sandbox/wasm/testdata/suspend.c")
	if err == nil {
		bin, err = guests.Asyncify(bin)
	}
	if errors.Is(err, guests.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	e, err := wasm.New(t.Context(), wasm.Config{CacheDir: cache()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	job := countJob(0)
	job.Args = []string{"suspend", "100000"}
	want := roots(t, begin(t, load(t, e, bin), job, nil))
	if len(want) < 3 {
		t.Fatalf("%d epochs", len(want))
	}
	p := load(t, runner(nil), bin)
	var from []byte
	for i, root := range want {
		run := begin(t, p, job, from)
		ev, err := run.Next(t.Context())
		if err != nil || ev.Root != root {
			t.Fatalf("epoch %d: %v, %v", i+1, ev, err)
		}
		if ev.Done {
			break
		}
		var b bytes.Buffer
		if err := run.Checkpoint(&b); err != nil {
			t.Fatal(err)
		}
		from = b.Bytes()
		run.Close()
	}
}

// TestChildKilled: a child that is killed is lost, which is no result; the run goes
// on from the last checkpoint in another child, to the same roots.
func TestChildKilled(t *testing.T) {
	tier.NotShort(t)
	p := load(t, runner(nil), goGuest(t, conform.RunnerProgram))
	want := roots(t, begin(t, p, countJob(5), nil))
	for _, middle := range []bool{false, true} {
		run := begin(t, p, countJob(5), nil)
		if _, err := run.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		var kept bytes.Buffer
		if err := run.Checkpoint(&kept); err != nil {
			t.Fatal(err)
		}
		if middle {
			time.AfterFunc(2*time.Millisecond, func() { process.Kill(run) })
			for {
				if _, err := run.Next(t.Context()); err != nil {
					isLost(t, err, nil)
					break
				} else if run.Root() == want[4] {
					t.Log("it had ended before it was killed")
					break
				}
			}
		} else {
			process.Kill(run)
			_, err := run.Next(t.Context())
			isLost(t, err, nil)
		}
		if err := run.Checkpoint(io.Discard); !middle || err != nil {
			isLost(t, err, nil)
		}
		if _, err := run.Next(t.Context()); err == nil {
			t.Error("it goes on")
		}
		if got := roots(t, begin(t, p, countJob(5), kept.Bytes())); !slices.Equal(got, want[1:]) {
			t.Errorf("resumed, its roots are %v, wanted %v", got, want[1:])
		}
	}
}

// TestKilledInALoop: an endless program's child that is killed is lost; its time is
// limited by the parent; and it is stopped when the caller wants, with its checkpoint.
func TestKilledInALoop(t *testing.T) {
	tier.NotShort(t)
	job := &sandbox.Job{Limits: sandbox.DefaultLimits()}
	job.Limits.Fuel = 1 << 50
	run := begin(t, load(t, runner(nil), []byte(endless)), job, nil)
	time.AfterFunc(100*time.Millisecond, func() { process.Kill(run) })
	_, err := run.Next(t.Context())
	isLost(t, err, nil)

	run = begin(t, load(t, runner(func(c *process.Config) { c.Epoch = 200 * time.Millisecond }), []byte(endless)), job, nil)
	_, err = run.Next(t.Context())
	isLost(t, err, sandbox.ErrHostTime)

	run = begin(t, load(t, runner(nil), []byte(endless)), job, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := run.Next(ctx); !errors.Is(err, sandbox.ErrStopped) || errors.As(err, new(*sandbox.Failure)) || errors.Is(err, sandbox.ErrLost) {
		t.Errorf("stopped, it ends with %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if err := run.Checkpoint(io.Discard); !errors.Is(err, sandbox.ErrNoState) {
		t.Errorf("its child is gone: %v", err)
	}
}

func say(s string) []string { return self("child-say", hex.EncodeToString([]byte(s))) }

// frame is one of the protocol's.
func frame(kind byte, body string) string {
	return string([]byte{kind, byte(len(body) >> 24), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}) + body
}

// TestHostileChild: whatever a child sends, or does not send, ends in ErrLost and
// takes neither memory nor time.
func TestHostileChild(t *testing.T) {
	tier.NotShort(t)
	for name, command := range map[string][]string{
		"garbage":        say("garbage and more of it"),
		"a huge frame":   say("R\xff\xff\xff\xff"),
		"no CBOR":        say(frame('R', "\xff\xff")),
		"an event early": say(frame('V', "\xa0")),
		"data":           say(frame('D', strings.Repeat("x", 1000))),
		"an unknown":     say(frame('?', "")),
		"silence":        self("child-stall"),
		"no program":     {"/nonexistent/program"},
	} {
		began := time.Now()
		r := process.New(process.Config{Command: command, Load: 300 * time.Millisecond, Stall: 300 * time.Millisecond})
		_, err := r.Load(t.Context(), strings.NewReader(endless))
		switch name {
		case "no program":
			if err == nil || errors.Is(err, sandbox.ErrProgram) {
				t.Errorf("%s: %v", name, err)
			}
		case "silence":
			isLost(t, err, sandbox.ErrHostTime)
		default:
			isLost(t, err, nil)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// TestLyingChild: what a child says of an epoch is bounded by the job's limits and by
// the events before, or it is lost.
func TestLyingChild(t *testing.T) {
	tier.NotShort(t)
	job := func() *sandbox.Job {
		l := sandbox.Limits{Memory: sandbox.PageSize, Fuel: 100, Epochs: 3, Output: 1000, State: 1 << 17, Notices: 500, Log: 10}
		return &sandbox.Job{Limits: l, Log: io.Discard}
	}
	event := func(change func(*process.Event)) string {
		e := process.Event{Epoch: 1, Fuel: 5, TotalFuel: 5}
		if change != nil {
			change(&e)
		}
		return e.Frame()
	}
	f, end := process.Frame, process.Frame('E', "")
	long := strings.Repeat("x", 1001)
	next := func(lie string) error {
		run := begin(t, load(t, process.New(process.Config{Command: self("child-lie", hex.EncodeToString([]byte(lie))), Stall: 300 * time.Millisecond, Epoch: time.Second}), []byte(endless)), job(), nil)
		ev, err := run.Next(t.Context())
		if err == nil {
			if ev.Epoch != 1 || len(ev.Output) > 1000 || len(ev.State) > 1<<17 {
				t.Errorf("%+v", ev)
			}
			_, err = run.Next(t.Context()) // the same again
		}
		return err
	}
	for name, lie := range map[string]string{
		"no such epoch":             event(func(e *process.Event) { e.Epoch = 0 }),
		"a later epoch":             event(func(e *process.Event) { e.Epoch = 2 }),
		"the same epoch twice":      event(nil) + end + end + end,
		"too much fuel":             event(func(e *process.Event) { e.Fuel, e.TotalFuel = 101, 101 }),
		"a wrong sum of fuel":       event(func(e *process.Event) { e.TotalFuel = 6 }),
		"too large a state":         event(func(e *process.Event) { e.StateSize = 1<<17 + 1 }),
		"an endless state":          event(func(e *process.Event) { e.StateSize = 1 << 63 }),
		"too much output":           event(func(e *process.Event) { e.OutputSize = 1001 }),
		"more output than it says":  event(func(e *process.Event) { e.OutputSize = 5 }) + end + f('D', long) + end + end,
		"less output than it says":  event(func(e *process.Event) { e.OutputSize = 5 }) + end + f('D', "four") + end + end,
		"too many events":           event(nil) + end + end + f('D', "\x00\x00\x03\xe9"+long) + end,
		"many events of nothing":    event(nil) + end + end + f('D', strings.Repeat("\x00\x00\x00\x00", 8)) + end,
		"half an event":             event(nil) + end + end + f('D', "\x00\x00\x00\x09four") + end,
		"a page behind the end":     event(func(e *process.Event) { e.StateSize = 4 }) + f('G', "\x00\x00\x00\x01four") + end + end + end,
		"a page far behind the end": event(func(e *process.Event) { e.StateSize = 4 }) + f('G', "\xff\xff\xff\xfffour") + end + end + end,
		"a page of another size":    event(func(e *process.Event) { e.StateSize = 4 }) + f('G', "\x00\x00\x00\x00fives") + end + end + end,
		"a page twice":              event(func(e *process.Event) { e.StateSize = 4 }) + f('G', "\x00\x00\x00\x00four") + f('G', "\x00\x00\x00\x00four") + end + end + end,
		"a page without a number":   event(func(e *process.Event) { e.StateSize = 4 }) + f('G', "") + end + end + end,
		"endless empty output":      event(nil) + end + f('D', ""),
		"an empty log":              f('O', ""),
		"a log beyond its limit":    strings.Repeat(f('O', "12345"), 3),
		"half an answer":            event(nil) + end,
		"nothing":                   "",
		"an answer without a word":  process.Answer(),
		"a failure of no kind":      process.Failed(99, 1),
		"another epoch's failure":   process.Failed(sandbox.FailedTrap, 2),
		"a proof":                   process.Proven(&sandbox.Proof{}),
	} {
		if err := next(lie); err == nil {
			t.Errorf("%s: it goes on", name)
		} else if isLost(t, err, nil); errors.Is(err, sandbox.ErrHostTime) != (name == "nothing" || name == "half an answer") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := next(process.Failed(sandbox.FailedTrap, 1)); !errors.Is(err, sandbox.ErrTrap) || !errors.As(err, new(*sandbox.Failure)) {
		t.Errorf("a failure: %v", err)
	}
	// A proof or a checkpoint that does not hold.
	run := begin(t, load(t, process.New(process.Config{Command: self("child-lie", hex.EncodeToString([]byte(process.Proven(&sandbox.Proof{}))))}), []byte(endless)), job(), nil)
	_, err := run.Prove(sandbox.Memory, 0)
	isLost(t, err, nil)
	run = begin(t, load(t, process.New(process.Config{Command: self("child-lie", hex.EncodeToString([]byte(f('D', strings.Repeat("x", 50000)))), "often")}), []byte(endless)), job(), nil)
	err = run.Checkpoint(io.Discard)
	if isLost(t, err, nil); errors.Is(err, sandbox.ErrHostTime) {
		t.Errorf("a checkpoint without an end: %v", err)
	}
	run = begin(t, load(t, process.New(process.Config{Command: self("child-lie", hex.EncodeToString([]byte(f('D', ""))), "often")}), []byte(endless)), job(), nil)
	isLost(t, run.Checkpoint(io.Discard), nil)
	// A little at a time, for ever.
	run = begin(t, load(t, process.New(process.Config{Command: self("child-trickle"), Stall: 300 * time.Millisecond}), []byte(endless)), job(), nil)
	isLost(t, run.Checkpoint(io.Discard), sandbox.ErrHostTime)
}

// TestStalledChild: a child that is stopped by a signal is lost after its time, and
// costs a caller who gives up no more than the grace.
func TestStalledChild(t *testing.T) {
	tier.NotShort(t)
	job := &sandbox.Job{Limits: sandbox.DefaultLimits()}
	job.Limits.Fuel = 1 << 50
	stalled := func(change func(*process.Config)) sandbox.Run {
		run := begin(t, load(t, runner(change), []byte(endless)), job, nil)
		time.AfterFunc(50*time.Millisecond, func() { process.Signal(run, syscall.SIGSTOP) })
		return run
	}
	_, err := stalled(func(c *process.Config) { c.Epoch = 300 * time.Millisecond }).Next(t.Context())
	isLost(t, err, sandbox.ErrHostTime)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := stalled(func(c *process.Config) { c.Grace = 300 * time.Millisecond }).Next(ctx); !errors.Is(err, sandbox.ErrStopped) {
		t.Errorf("it ends with %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	run := begin(t, load(t, runner(func(c *process.Config) { c.Stall = 300 * time.Millisecond }), []byte(endless)), job, nil)
	process.Signal(run, syscall.SIGSTOP)
	isLost(t, run.Checkpoint(io.Discard), sandbox.ErrHostTime)
}

// TestMemoryOfChild: a child that takes more than it may is ended, which is no failure
// of the program; a program that exceeds only its own limit has a result.
func TestMemoryOfChild(t *testing.T) {
	tier.NotShort(t)
	if !process.MeasuresMemory() {
		t.Skip("no child's memory is measured here")
	}
	_, err := process.New(process.Config{Command: self("child-hog"), Memory: 128 << 20}).Load(t.Context(), strings.NewReader(endless))
	isLost(t, err, sandbox.ErrHostMemory)

	bin := goGuest(t, conform.RunnerProgram)
	job := countJob(0)
	job.Args, job.Limits.Memory = []string{"program", "memory", "700000000"}, 1<<30
	job.Limits.Fuel = 100_000_000_000
	p := load(t, runner(func(c *process.Config) { c.Memory = 300 << 20 }), bin)
	_, err = begin(t, p, job, nil).Next(t.Context())
	isLost(t, err, sandbox.ErrHostMemory)
	job.Limits.Memory = 64 << 20
	if ev, err := begin(t, p, job, nil).Next(t.Context()); err != nil || !ev.Done || ev.Exit == 0 {
		t.Errorf("beyond its own limit: %+v, %v", ev, err)
	}
}

// TestNothingInherited: a child has its three files, no variables, its priority and
// a group of its own.
func TestNothingInherited(t *testing.T) {
	tier.NotShort(t)
	if !process.MeasuresMemory() {
		t.Skip("needs /proc")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	open, err := syscall.Dup(int(f.Fd())) // as one is that this process has inherited
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(open)
	t.Setenv("SECRET", "x")
	_, err = process.New(process.Config{Command: self("child-look"), Nice: 5}).Load(t.Context(), strings.NewReader(endless))
	isLost(t, err, nil)
	said := err.Error()
	if strings.Contains(said, "SECRET") || strings.Contains(said, "PATH=") || strings.Contains(said, "secret") || strings.Count(said, "pipe:") != 3 {
		t.Errorf("it has %s", said)
	}
	fields := strings.Fields(said[strings.Index(said, "stat "):])
	if pid, group, nice := fields[1], fields[5], fields[19]; group != pid || nice == "0" {
		t.Errorf("process %s is in group %s and has priority %s", pid, group, nice)
	}
}

// TestParentKilled: a child whose parent is killed is gone within a second, although
// it runs an endless program.
func TestParentKilled(t *testing.T) {
	tier.NotShort(t)
	if !process.MeasuresMemory() {
		t.Skip("needs /proc")
	}
	for _, args := range [][]string{{"parent", cache()}, {"parent", cache(), "stall"}} {
		parent := exec.Command(os.Args[0], args...)
		out, err := parent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := parent.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 8)
		if _, err := io.ReadFull(out, line); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		list := childrenOf(parent.Process.Pid)
		if len(list) != 1 {
			t.Fatalf("%d children", len(list))
		}
		if err := parent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = parent.Wait()
		for end := time.Now().Add(time.Second); alive(list[0]); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				_ = syscall.Kill(list[0], syscall.SIGKILL)
				t.Fatalf("the child goes on without its parent: %v", args)
			}
		}
	}
}

func stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

func alive(pid int) bool {
	s := stat(pid)
	return s != nil && s[0] != "Z"
}

func childrenOf(parent int) (list []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		var pid int
		_, _ = fmt.Sscan(filepath.Base(dir), &pid)
		if s := stat(pid); s != nil && s[1] == fmt.Sprint(parent) {
			list = append(list, pid)
		}
	}
	return list
}

// TestThreadEnds: a child outlives the thread on which it was asked for.
func TestThreadEnds(t *testing.T) {
	tier.NotShort(t)
	p := load(t, runner(nil), goGuest(t, conform.RunnerProgram))
	want := roots(t, begin(t, p, countJob(2), nil))
	var run sandbox.Run
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		run, err = p.Start(t.Context(), countJob(2), nil)
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	time.Sleep(100 * time.Millisecond)
	if got := roots(t, run); !slices.Equal(got, want) {
		t.Errorf("its roots are %v, wanted %v", got, want)
	}
}

// TestInterrupt: a signal from the terminal reaches the parent alone, which stops the
// program in good order.
func TestInterrupt(t *testing.T) {
	tier.NotShort(t)
	c := exec.Command(os.Args[0], "interrupted", cache())
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal signals the whole group
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 8)
	if _, err := io.ReadFull(out, line); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if err := syscall.Kill(-c.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	rest, _ := io.ReadAll(out)
	if err := c.Wait(); err != nil || string(rest) != "true true <nil> <nil>\n" {
		t.Errorf("it says %q and ends with %v", rest, err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestEndOfInput: a child whose standard input ends goes, in the middle of an endless
// program too: systems without a signal for a parent's death have nothing else.
func TestEndOfInput(t *testing.T) {
	tier.NotShort(t)
	job := &sandbox.Job{Limits: sandbox.DefaultLimits()}
	job.Limits.Fuel = 1 << 50
	// The second one makes its host allocate first: a collection would wait for it.
	wasteful := command(1, strings.Repeat(i32(0)+i32(sandbox.PageSize)+"\x10\x02", 400)+"\x03\x40\x0c\x00\x0b")
	for _, bin := range [][]byte{[]byte(endless), wasteful} {
		run := begin(t, load(t, runner(func(c *process.Config) { c.Epoch = 5 * time.Second }), bin), job, nil)
		began := time.Now()
		time.AfterFunc(500*time.Millisecond, func() { process.CloseInput(run) })
		_, err := run.Next(t.Context())
		isLost(t, err, nil)
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	}
}

// TestTwenty: twenty children at once do not disturb one another, and leave nothing.
func TestTwenty(t *testing.T) {
	tier.NotShort(t)
	p := load(t, runner(nil), goGuest(t, conform.RunnerProgram))
	want := roots(t, begin(t, p, countJob(3), nil))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			run, err := p.Start(t.Context(), countJob(3), nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer run.Close()
			for _, root := range want {
				ev, err := run.Next(t.Context())
				if err != nil || ev.Root != root {
					t.Errorf("%v, %v", ev, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestTexts: texts of any bytes and lengths, a program's and a job's, cross the pipe,
// and mean the same as in process.
func TestTexts(t *testing.T) {
	tier.NotShort(t)
	inProcess, err := wasm.New(t.Context(), wasm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inProcess.Close() })
	const unknown = 300 // each is named in the error, which is cut inside a letter
	for pad := range 2 {
		var imports strings.Builder
		for i := range unknown {
			imports.WriteString(name("m") + name(fmt.Sprintf("%03d", i)+strings.Repeat("x", pad)+strings.Repeat("é", 80)) + "\x00\x00")
		}
		last := leb(unknown)
		bin := "\x00asm\x01\x00\x00\x00" + section(1, "\x01\x60\x00\x00") + section(2, last+imports.String()) + section(3, "\x01\x00") +
			section(5, "\x01\x00\x01") + section(7, "\x01"+name("_start")+"\x00"+last) + section(10, "\x01\x02\x00\x0b")
		if _, err := runner(nil).Load(t.Context(), strings.NewReader(bin)); !errors.Is(err, sandbox.ErrProgram) {
			t.Errorf("a refused program: %v", err)
		}
	}
	ends := strings.Replace(endless, "\x03\x40\x0c\x00\x0b", "\x03\x40\x01\x01\x0b", 1)
	for _, arg := range []string{"\xff", strings.Repeat("x", 1<<20-8)} {
		var got []sandbox.Digest
		for _, r := range []sandbox.Runner{inProcess, runner(nil)} {
			p := load(t, r, []byte(ends))
			for _, args := range [][]string{{arg}, {"program"}} {
				job := countJob(1)
				job.Args, job.Limits.ArgBytes = args, 1<<20
				got = append(got, roots(t, begin(t, p, job, nil))...)
			}
		}
		if len(got) != 4 || !slices.Equal(got[:2], got[2:]) {
			t.Errorf("an argument of %d bytes: roots %v", len(arg), got)
		}
	}
}
