// Package sandbox runs strangers' programs so that every machine gets the same
// result (spec/runtime.md). A Runner is an engine that loads programs. A
// program is started for a job and runs from one sync event to the next. The
// commitment of an event is the same on every machine, however often the
// program was suspended and resumed.
//
// This package has what engines share: jobs and their limits, the state and its
// root, checkpoints, errors. The package wasm below it is an engine for WASM.
package sandbox

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
)

// Digest is a BLAKE3 hash of 32 bytes.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns it in hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Runner is an engine. Its methods may be called from any goroutine.
type Runner interface {
	// Load reads, validates and prepares a program. If the engine cannot run
	// it, the error wraps ErrProgram.
	Load(ctx context.Context, image io.Reader) (Program, error)
	// Close frees resources shared by programs. Every program and run must be
	// closed before.
	Close() error
}

// Program is a loaded program. Any number of runs may be active at once.
type Program interface {
	// ID is the BLAKE3 hash of the image's bytes.
	ID() Digest
	// Start prepares a run of the job from its beginning or, if from is not
	// nil, from a checkpoint, of which it reads at most what the job's limits
	// allow. No code of the program runs before Next. Errors wrap ErrJob,
	// ErrCheckpoint, ErrWrongProgram, ErrWrongJob or ErrMemory; any other error
	// is the machine's.
	Start(ctx context.Context, job *Job, from io.Reader) (Run, error)
	// Close ends the program: it starts no other run. Runs that are open go on,
	// and what they use is freed when the last one is closed.
	Close() error
}

// Run is one run of a job. Its methods must not be called concurrently.
type Run interface {
	// Root returns the root of the current state: of the last event, or of the
	// checkpoint from which the run started; zeros before the first event.
	Root() Digest
	// Next runs one epoch: to the next sync event, or to the program's end. A
	// *Failure is the program's and the same on every machine. Any other error
	// is the machine's; it wraps ErrStopped if ctx ended, and ErrLost if the
	// process in which the program ran is gone. After an error, and
	// after an event with Done, the run is over. The event belongs to the
	// caller.
	Next(ctx context.Context) (*Event, error)
	// Checkpoint writes the state of the last event, from which Start can
	// continue. It returns ErrNoState before the first event.
	Checkpoint(w io.Writer) error
	// Prove returns a proof of one page of the last event's state.
	Prove(part Part, page uint32) (*Proof, error)
	// Close frees what the run uses. Every run must be closed.
	Close() error
}

// Event is the result of an epoch.
type Event struct {
	// Epoch counts from 1.
	Epoch uint64
	// State is the data passed to sync; nil if the program ended.
	State []byte
	// Root commits to all following fields, and to the memory.
	Root Digest
	// Fuel is the fuel used by this epoch, TotalFuel by all.
	Fuel, TotalFuel uint64
	// Output is the output of this epoch; OutputSize and OutputSHA256 cover the
	// whole output.
	Output       []byte
	OutputSize   uint64
	OutputSHA256 [32]byte
	// Notices are the events that the program announced in this epoch.
	Notices [][]byte
	// Done says that the program ended, with this exit code.
	Done bool
	Exit uint32
}

// Status says how far a run is.
type Status uint8

const (
	// Running means that another epoch follows.
	Running Status = iota
	// Done means that the program ended, with whatever exit code.
	Done
	// Failed means that it failed, which ends it as well.
	Failed
)

func (s Status) String() string { return [...]string{"running", "done", "failed"}[s] }

// Result is the outcome of an epoch, on which all machines agree: an event or a
// failure.
type Result struct {
	Status Status
	Epoch  uint64
	// Root is the event's or the failure's. It binds everything else in the result,
	// but for what only informs.
	Root Digest
	// Event is set unless the program failed, Failure only if it did.
	Event   *Event
	Failure *Failure
}

// Step runs one epoch. An error is the machine's: the epoch has no result yet.
func Step(ctx context.Context, run Run) (*Result, error) {
	ev, err := run.Next(ctx)
	var f *Failure
	switch {
	case errors.As(err, &f):
		return f.Result(), nil
	case err != nil:
		return nil, err
	}
	r := &Result{Status: Running, Epoch: ev.Epoch, Root: ev.Root, Event: ev}
	if ev.Done {
		r.Status = Done
	}
	return r, nil
}

// Result returns the result of the epoch that failed.
func (f *Failure) Result() *Result {
	return &Result{Status: Failed, Epoch: f.Epoch, Root: f.Root(), Failure: f}
}
