package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// errDiffer is returned when two runs that must be equal differ.
var errDiffer = errors.New("two runs differ")

// errProgramExit is wrapped by exitError.
var errProgramExit = errors.New("the program failed")

// exitError is returned when the program ends with another exit code than 0, which
// becomes that of the command.
type exitError struct{ code uint32 }

func (e *exitError) Error() string { return fmt.Sprintf("%v: exit code %d", errProgramExit, e.code) }

func (e *exitError) Unwrap() error { return errProgramExit }

// runSummary is the summary of a run.
type runSummary struct {
	Program string `json:"program"`
	// Module is the SHA-256 of the program's file, to which published figures
	// belong.
	Module     string `json:"module_sha256"`
	Fuel       uint64 `json:"fuel"`
	Epochs     uint64 `json:"epochs"`
	StateRoot  string `json:"state_root"`
	OutputSize uint64 `json:"output_bytes"`
	OutputHash string `json:"output_sha256"`
	Done       bool   `json:"done"`
	Exit       uint32 `json:"exit"`
	Checkpoint string `json:"checkpoint,omitempty"`
	// Compared is the number of equal runs, if --compare was given.
	Compared int `json:"compared,omitempty"`
}

// runSync is one sync event as a line of JSON.
type runSync struct {
	Epoch      uint64   `json:"epoch"`
	Fuel       uint64   `json:"fuel"`
	StateRoot  string   `json:"state_root"`
	StateSize  int      `json:"state_bytes"`
	OutputSize uint64   `json:"output_bytes"`
	Events     []string `json:"events,omitempty"`
}

// session is a run and what is shown of it.
type session struct {
	a    *app
	o    *runOptions
	last *sandbox.Event
	sum  runSummary
	// events are those of the first run that others are compared with.
	events []*sandbox.Event
	// output is this run's output for a file that already holds before bytes of
	// an earlier run.
	output bytes.Buffer
	before uint64
}

// newSession returns a session for the program with this SHA-256.
func newSession(a *app, o *runOptions, module []byte) *session {
	return &session{a: a, o: o, sum: runSummary{Module: hex.EncodeToString(module)}}
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

// done checks how the program ended.
func (s *session) done() error {
	if s.o.at > 0 {
		return fmt.Errorf("%w: --checkpoint-at %d: the program ended after %s", errUsage, s.o.at, plural(s.last.Epoch-1, "sync event"))
	}
	return s.exit()
}

// exit is the error for the program's exit code.
func (s *session) exit() error {
	if s.last.Exit != 0 {
		return &exitError{s.last.Exit}
	}
	return nil
}

// next runs an epoch, and shows on a terminal that it is running.
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

// trace shows where a program crashed: at most 20 lines of its stack.
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

// show prints an event, and the output since the one before.
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

// finish writes the output file and the summary.
func (s *session) finish(runs int) error {
	ev := s.last
	if s.o.output != "" && ev.Exit == 0 {
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

// printSummary writes to standard error, because standard output is the program's.
func (s *session) printSummary(w io.Writer) {
	m := &s.sum
	fmt.Fprintf(w, "module   SHA-256 %s\nfuel     %s in %s\nroot     %s\noutput   %s, SHA-256 %s\n", m.Module, humanize.Comma(int64(m.Fuel)), plural(m.Epochs, "epoch"), m.StateRoot, plural(m.OutputSize, "byte"), m.OutputHash)
	if m.Compared > 1 {
		fmt.Fprintf(w, "compared %d runs, compiled and interpreted: equal at every sync event\n", m.Compared)
	}
	if m.Checkpoint != "" {
		fmt.Fprintf(w, "written  %s\n", m.Checkpoint)
	}
}

// writeOutput appends this run's output to what an earlier one left in the file,
// if the whole has the hash of the program's output.
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
			return fmt.Errorf("%w: %s does not hold the %d bytes of output from before the checkpoint", errInput, s.o.output, s.before)
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

// compareRuns runs a program twice compiled and once interpreted.
func (a *app) compareRuns(ctx context.Context, bin []byte, job *sandbox.Job, o *runOptions) error {
	sum := sha256.Sum256(bin)
	s := newSession(a, o, sum[:])
	var events []*sandbox.Event
	var failed *sandbox.Failure
	for n, how := range []string{"compiled", "compiled again", "interpreted"} {
		p, done, err := a.loadProgram(ctx, bytes.NewReader(bin), len(bin), job, o, n == 2)
		if err != nil {
			return err
		}
		if n == 0 {
			s.sum.Program = p.ID().String()
		} else {
			job.Log = nil // shown by the first run
		}
		f, err := s.compare(ctx, p, job, how, events, n == 0)
		done()
		switch {
		case err != nil:
			return err
		case n == 0:
			events, failed = s.events, f
			if f != nil {
				s.trace(f)
			}
		case (f == nil) != (failed == nil) || f != nil && (f.Error() != failed.Error() || f.Root() != failed.Root()):
			return fmt.Errorf("%w: %s, it ends with %q; the first run with %q", errDiffer, how, ended(f), ended(failed))
		}
	}
	if failed != nil {
		return fmt.Errorf("%w (3 runs, compiled and interpreted, are equal up to this failure)", failed)
	}
	return errors.Join(s.finish(3), s.exit())
}

// ended says how a run ended.
func ended(f *sandbox.Failure) string {
	if f == nil {
		return "success"
	}
	return f.Error()
}

// compare runs the program once. The first run is shown and kept; a later one must
// be equal to events at every event. How the program fails is a part of the result.
func (s *session) compare(ctx context.Context, p sandbox.Program, job *sandbox.Job, how string, events []*sandbox.Event, first bool) (*sandbox.Failure, error) {
	run, err := p.Start(ctx, job, nil)
	if err != nil {
		return nil, err
	}
	defer run.Close()
	for i := 0; ; i++ {
		ev, err := s.next(ctx, run)
		var failed *sandbox.Failure
		switch {
		case errors.As(err, &failed):
			if !first && i < len(events) {
				return nil, fmt.Errorf("%w: %s, it fails (%w); the first run %s", errDiffer, how, err, shown(events, i))
			}
			return failed, nil
		case err != nil:
			return nil, err
		case first:
			s.events, s.last = append(s.events, ev), ev
			if err := s.show(ev); err != nil {
				return nil, err
			}
		case i >= len(events) || !reflect.DeepEqual(events[i], ev):
			return nil, fmt.Errorf("%w: %s, it ends epoch %d with root %v and %d fuel; the first run %s", errDiffer, how, ev.Epoch, ev.Root, ev.Fuel, shown(events, i))
		}
		if ev.Done {
			return nil, nil
		}
	}
}

func shown(events []*sandbox.Event, i int) string {
	if i >= len(events) {
		return "had ended"
	}
	return fmt.Sprintf("had root %v and %d fuel", events[i].Root, events[i].Fuel)
}
