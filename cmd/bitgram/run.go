package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
)

// errDiffer: runs that have to be equal are not.
var errDiffer = errors.New("two runs differ")

// errProgramExit: the program says that it failed.
var errProgramExit = errors.New("the program failed")

// runOptions are the flags of run.
type runOptions struct {
	input, output, seed, memory    string
	maxOutput, maxState            string
	checkpoint, resume             string
	at                             uint64
	env                            []string
	time                           uint32
	fuel, epochs                   uint64
	compare, interpreter, cacheOff bool
}

// runSummary is what run ends with.
type runSummary struct {
	Program    string `json:"program"`
	Fuel       uint64 `json:"fuel"`
	Epochs     uint64 `json:"epochs"`
	StateRoot  string `json:"state_root"`
	OutputSize uint64 `json:"output_bytes"`
	OutputHash string `json:"output_sha256"`
	Done       bool   `json:"done"`
	Exit       uint32 `json:"exit"`
	Checkpoint string `json:"checkpoint,omitempty"`
	// Compared is how many runs gave the same, where that was asked for.
	Compared int `json:"compared,omitempty"`
}

// runSync is one line of what a run shows.
type runSync struct {
	Epoch      uint64   `json:"epoch"`
	Fuel       uint64   `json:"fuel"`
	StateRoot  string   `json:"state_root"`
	StateSize  int      `json:"state_bytes"`
	OutputSize uint64   `json:"output_bytes"`
	Events     []string `json:"events,omitempty"`
}

func (a *app) runCommand() *cobra.Command {
	l := sandbox.DefaultLimits()
	var o runOptions
	c := &cobra.Command{
		Use:   "run PROGRAM [ARGS]",
		Short: "Run a program here, exactly as nodes would",
		Long: "Runs a WASM program (a WASI command from any toolchain) with the given arguments, metered and\n" +
			"deterministic: the same fuel, state roots and output as on every node. Its standard output is the\n" +
			"output; what it writes to standard error is shown. No files, no network, no environment and no\n" +
			"time of day but what the flags give it.\n\n" +
			"Flags of the program's own go behind --. A checkpoint is taken up with the same program,\n" +
			"arguments and flags; the figures at the end are those of the whole run.",
		Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return a.runProgram(c.Context(), args, &o) },
	}
	f := c.Flags()
	f.BoolVar(&o.compare, "compare", false, "run it twice, and once more interpreted, and compare all of it")
	f.Uint64Var(&o.at, "checkpoint-at", 0, "stop at this sync event, counted from 1, and write a checkpoint")
	f.StringVar(&o.checkpoint, "checkpoint", "", "where to (default PROGRAM.EVENT.checkpoint, here)")
	f.StringVar(&o.resume, "resume", "", "go on from this checkpoint")
	f.StringVarP(&o.input, "input", "i", "", "file that the program can read; - is standard input")
	f.StringVarP(&o.output, "output", "o", "", "write the output to this file")
	f.StringVar(&o.seed, "seed", "", "what its random numbers follow from: any text, or 64 hex digits")
	f.StringArrayVar(&o.env, "env", nil, "variable of its environment, NAME=VALUE")
	f.Uint32Var(&o.time, "time", 0, "seconds since 1970 at which its clock begins")
	f.StringVar(&o.memory, "memory", humanize.IBytes(l.Memory), "memory that it may have")
	f.Uint64Var(&o.fuel, "fuel", l.Fuel, "fuel of an epoch")
	f.Uint64Var(&o.epochs, "epochs", l.Epochs, "how many epochs it may have")
	f.StringVar(&o.maxOutput, "max-output", humanize.IBytes(l.Output), "how much it may put out")
	f.StringVar(&o.maxState, "max-state", humanize.IBytes(l.State), "how large a state it may hand to sync")
	f.BoolVar(&o.interpreter, "interpreter", false, "interpret it instead of compiling it")
	f.BoolVar(&o.cacheOff, "no-cache", false, "keep nothing of what was compiled")
	return c
}

// job makes the job of the flags.
func (a *app) job(args []string, o *runOptions) (*sandbox.Job, error) {
	l := sandbox.DefaultLimits()
	l.Fuel, l.Epochs = o.fuel, o.epochs
	for _, f := range []struct {
		name, text string
		to         *uint64
	}{{"memory", o.memory, &l.Memory}, {"max-output", o.maxOutput, &l.Output}, {"max-state", o.maxState, &l.State}} {
		n, err := bytesOf(f.name, f.text)
		if err != nil {
			return nil, err
		}
		*f.to = n
	}
	j := &sandbox.Job{Args: append([]string{filepath.Base(args[0])}, args[1:]...), Env: o.env, Time: o.time, Limits: l}
	for _, e := range o.env {
		if i := strings.IndexByte(e, '='); i < 1 {
			return nil, fmt.Errorf("%w: --env %q is not NAME=VALUE", errUsage, e)
		}
	}
	if b, err := hex.DecodeString(o.seed); err == nil && len(b) == len(j.Seed) {
		copy(j.Seed[:], b)
	} else if o.seed != "" {
		j.Seed = sha256.Sum256([]byte(o.seed))
	}
	var err error
	if j.Input, err = a.readInput(o.input); err != nil {
		return nil, err
	}
	j.Log = a.err
	if terminal(a.err) {
		j.Log = &plainWriter{a.err}
	}
	return j, j.Check()
}

// plainWriter shows a stranger's text on a terminal.
type plainWriter struct{ w io.Writer }

func (p *plainWriter) Write(b []byte) (int, error) {
	var out []string
	for line := range strings.SplitSeq(string(b), "\n") {
		out = append(out, printable(strings.ReplaceAll(line, "\t", "    ")))
	}
	_, err := io.WriteString(p.w, strings.Join(out, "\n"))
	return len(b), err
}

const maxRunInput int64 = 1 << 32

func (a *app) readInput(path string) ([]byte, error) {
	switch path {
	case "":
		return nil, nil
	case "-":
		b, err := io.ReadAll(io.LimitReader(a.in, maxRunInput+1))
		if err == nil && int64(len(b)) > maxRunInput {
			err = fmt.Errorf("more than 4 GiB on standard input")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errInput, err)
		}
		return b, nil
	}
	f, size, err := openInput(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > uint64(maxRunInput) {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most 4 GiB are possible", errInput, path, size)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRunInput))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return b, nil
}

func (a *app) runProgram(ctx context.Context, args []string, o *runOptions) error {
	if o.at > 0 && o.checkpoint == "" {
		name := filepath.Base(args[0])
		o.checkpoint = fmt.Sprintf("%s.%d.checkpoint", strings.TrimSuffix(name, filepath.Ext(name)), o.at)
	}
	switch {
	case o.compare && (o.at > 0 || o.resume != ""):
		return fmt.Errorf("%w: --compare runs a program from beginning to end", errUsage)
	case o.at == 0 && o.checkpoint != "":
		return fmt.Errorf("%w: --checkpoint without --checkpoint-at", errUsage)
	}
	for _, path := range []string{o.output, o.checkpoint} {
		if err := checkOutput(path, false); err != nil {
			return err
		}
	}
	job, err := a.job(args, o)
	if err != nil {
		return err
	}
	image, _, err := openInput(args[0])
	if err != nil {
		return err
	}
	defer image.Close()
	bin, err := io.ReadAll(io.LimitReader(image, maxProgram))
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	if o.compare {
		return a.compareRuns(ctx, bin, job, o)
	}
	p, done, err := a.loadProgram(ctx, bin, wasm.Config{Interpreter: o.interpreter, CacheDir: a.cacheDir(o)})
	if err != nil {
		return err
	}
	defer done()
	s := &session{a: a, o: o}
	if err := s.run(ctx, p, job); err != nil {
		return err
	}
	return s.finish(1)
}

// maxProgram is above what any engine takes, so that the engine can refuse it.
const maxProgram = 1 << 30

// cacheDir is where compiled programs are kept: "" where there is no place.
func (a *app) cacheDir(o *runOptions) string {
	dir, err := os.UserCacheDir()
	if err != nil || o.cacheOff {
		return ""
	}
	dir = filepath.Join(dir, "bitgram", "wasm")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ""
	}
	return dir
}

func (a *app) loadProgram(ctx context.Context, bin []byte, c wasm.Config) (p sandbox.Program, done func(), err error) {
	e, err := wasm.New(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if p, err = e.Load(ctx, bytes.NewReader(bin)); err != nil {
		return nil, nil, errors.Join(err, e.Close())
	}
	return p, func() { _, _ = p.Close(), e.Close() }, nil
}

// session is one run that is shown.
type session struct {
	a    *app
	o    *runOptions
	last *sandbox.Event
	sum  runSummary
	// output is what goes to a file: that of this run, behind what the file
	// has of an earlier one.
	output bytes.Buffer
	before uint64
}

func (s *session) run(ctx context.Context, p sandbox.Program, job *sandbox.Job) error {
	s.sum.Program = p.ID().String()
	var from io.Reader
	if s.o.resume != "" {
		f, _, err := openInput(s.o.resume)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	run, err := p.Start(ctx, job, from)
	if err != nil {
		if from != nil {
			err = fmt.Errorf("%s: %w", s.o.resume, err)
		}
		return err
	}
	defer run.Close()
	for {
		ev, err := s.next(ctx, run)
		if err != nil {
			s.trace(err)
			return err
		}
		if s.last == nil {
			s.before = ev.OutputSize - uint64(len(ev.Output))
		}
		s.last = ev
		if err := s.show(ev); err != nil {
			return err
		}
		switch {
		case ev.Done:
			return s.done()
		case ev.Epoch == s.o.at:
			if err := writeWhole(s.o.checkpoint, run.Checkpoint); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			s.sum.Checkpoint = s.o.checkpoint
			return nil
		}
	}
}

// done: the program ended by itself.
func (s *session) done() error {
	if s.o.at > 0 {
		return fmt.Errorf("%w: the program ended after %d sync events, there was none with number %d", errUsage, s.last.Epoch-1, s.o.at)
	}
	if s.last.Exit != 0 {
		return fmt.Errorf("%w: it ended with exit code %d", errProgramExit, s.last.Exit)
	}
	return nil
}

// next runs an epoch, and shows on a terminal that it does.
func (s *session) next(ctx context.Context, run sandbox.Run) (*sandbox.Event, error) {
	epoch := uint64(1)
	if s.last != nil {
		epoch = s.last.Epoch + 1
	}
	began := time.Now()
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.a.print.working(fmt.Sprintf("epoch %d, %d s", epoch, int(time.Since(began).Seconds())))
			case <-stop:
				return
			}
		}
	}()
	ev, err := run.Next(ctx)
	close(stop)
	<-ended
	return ev, err
}

// trace shows where a program crashed.
func (s *session) trace(err error) {
	var f *sandbox.Failure
	if errors.As(err, &f) && f.Trace != "" && !s.a.json {
		lines := strings.SplitN(strings.TrimSpace(f.Trace), "\n", 21)
		if len(lines) > 20 {
			lines[20] = "\t…"
		}
		for _, l := range lines {
			fmt.Fprintf(s.a.err, "    %s\n", printable(strings.TrimSpace(l)))
		}
	}
}

// show prints an event, and its part of the output.
func (s *session) show(ev *sandbox.Event) error {
	if s.o.output != "" {
		s.output.Write(ev.Output)
	} else if !s.a.json {
		if err := s.a.showOutput(ev.Output); err != nil {
			return err
		}
	}
	line := runSync{Epoch: ev.Epoch, Fuel: ev.Fuel, StateRoot: ev.Root.String(), StateSize: len(ev.State), OutputSize: ev.OutputSize}
	for _, n := range ev.Notices {
		line.Events = append(line.Events, printable(string(n)))
	}
	if s.a.json {
		kind := "sync"
		if ev.Done {
			kind = "end"
		}
		s.a.print.line(kind, line, nil)
		return nil
	}
	for _, n := range line.Events {
		fmt.Fprintf(s.a.err, "event    %s\n", n)
	}
	if !ev.Done {
		fmt.Fprintf(s.a.err, "sync %-3d fuel %s, state %s, root %s\n", ev.Epoch, humanize.Comma(int64(ev.Fuel)), humanize.IBytes(uint64(len(ev.State))), line.StateRoot)
	}
	return nil
}

// showOutput writes a program's output where people may read it.
func (a *app) showOutput(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if terminal(a.out) {
		_, err := showText(a.out, bytes.NewReader(b))
		return err
	}
	if _, err := a.out.Write(b); err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}

// finish writes the output's file and the summary.
func (s *session) finish(runs int) error {
	ev := s.last
	if s.o.output != "" {
		if err := s.writeOutput(); err != nil {
			return err
		}
	}
	s.sum.Fuel, s.sum.Epochs, s.sum.StateRoot = ev.TotalFuel, ev.Epoch, ev.Root.String()
	s.sum.OutputSize, s.sum.OutputHash = ev.OutputSize, hex.EncodeToString(ev.OutputSHA256[:])
	s.sum.Done, s.sum.Exit = ev.Done, ev.Exit
	if runs > 1 {
		s.sum.Compared = runs
	}
	if s.a.json {
		s.a.print.summary(s.sum, nil)
		return nil
	}
	s.printSummary(s.a.err)
	return nil
}

// printSummary writes to standard error: standard output is the program's.
func (s *session) printSummary(w io.Writer) {
	m := &s.sum
	fmt.Fprintf(w, "fuel     %s in %d epochs\nroot     %s\noutput   %d bytes, SHA-256 %s\n", humanize.Comma(int64(m.Fuel)), m.Epochs, m.StateRoot, m.OutputSize, m.OutputHash)
	if m.Compared > 1 {
		fmt.Fprintf(w, "compared %d runs, compiled and interpreted: the same at every sync event\n", m.Compared)
	}
	if m.Checkpoint != "" {
		fmt.Fprintf(w, "written  %s\n", m.Checkpoint)
	}
}

// writeOutput puts this run's output behind what an earlier one left in the
// file, when the whole is what the program put out.
func (s *session) writeOutput() error {
	whole := s.output.Bytes()
	if s.before > 0 {
		f, _, err := openInput(s.o.output)
		if err != nil {
			return err
		}
		first, err := io.ReadAll(io.LimitReader(f, int64(s.before)))
		f.Close()
		if err != nil {
			return fmt.Errorf("%w: %w", errInput, err)
		}
		if whole = append(first, whole...); sha256.Sum256(whole) != s.last.OutputSHA256 {
			return fmt.Errorf("%w: %s does not hold the %d bytes that the program had put out before the checkpoint", errInput, s.o.output, s.before)
		}
	}
	err := writeWhole(s.o.output, func(w io.Writer) error {
		_, err := w.Write(whole)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}

// compareRuns runs a program compiled, again, and interpreted.
func (a *app) compareRuns(ctx context.Context, bin []byte, job *sandbox.Job, o *runOptions) error {
	s := &session{a: a, o: o}
	var events []*sandbox.Event
	for n, how := range []string{"compiled", "compiled again", "interpreted"} {
		p, done, err := a.loadProgram(ctx, bin, wasm.Config{Interpreter: n == 2, CacheDir: a.cacheDir(o)})
		if err != nil {
			return err
		}
		if n == 0 {
			s.sum.Program = p.ID().String()
		} else {
			job.Log = nil // it was shown
		}
		err = s.compare(ctx, p, job, how, &events)
		done()
		if err != nil {
			return err
		}
	}
	return s.finish(3)
}

// compare runs once more: the first run is shown and kept, the others have to
// be equal to it, up to how it fails.
func (s *session) compare(ctx context.Context, p sandbox.Program, job *sandbox.Job, how string, events *[]*sandbox.Event) error {
	run, err := p.Start(ctx, job, nil)
	if err != nil {
		return err
	}
	defer run.Close()
	first := len(*events) == 0
	for i := 0; ; i++ {
		ev, err := s.next(ctx, run)
		if err != nil {
			s.trace(err)
			return err
		}
		if first {
			*events, s.last = append(*events, ev), ev
			if err := s.show(ev); err != nil {
				return err
			}
		} else if i >= len(*events) || !reflect.DeepEqual((*events)[i], ev) {
			return fmt.Errorf("%w: %s it ends epoch %d with root %v and %d fuel, the first time %s", errDiffer, how, ev.Epoch, ev.Root, ev.Fuel, shown(*events, i))
		}
		if ev.Done {
			if ev.Exit != 0 {
				return fmt.Errorf("%w: it ended with exit code %d", errProgramExit, ev.Exit)
			}
			return nil
		}
	}
}

func shown(events []*sandbox.Event, i int) string {
	if i >= len(events) {
		return "it had ended"
	}
	return fmt.Sprintf("with root %v and %d fuel", events[i].Root, events[i].Fuel)
}
