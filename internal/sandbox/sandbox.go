// Package sandbox runs strangers' programs so that every machine gets the same
// result (spec/runtime.md). A Runner is one engine: it loads programs; a
// program is started for a job and runs from one sync event to the next. What
// an event commits to is the same wherever the program ran, however often it
// was put down and taken up again.
//
// The package itself has what engines share: jobs and their limits, the state
// and its root, checkpoints, errors. An engine for WASM is in package wasm
// below it.
package sandbox

import (
	"context"
	"encoding/hex"
	"io"
)

// Digest is a BLAKE3 hash of 32 bytes.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Runner is an engine. Its methods may be called from any goroutine.
type Runner interface {
	// Load reads a program, checks and prepares it. A program that the engine
	// does not take is an error that wraps ErrProgram.
	Load(ctx context.Context, image io.Reader) (Program, error)
	// Close frees what programs share. No program may be in use.
	Close() error
}

// Program is a loaded program. Any number of runs may be under way at once.
type Program interface {
	// ID is the BLAKE3 hash of the image's bytes.
	ID() Digest
	// Start prepares a run of the job from its beginning, or from a checkpoint
	// where from is not nil, of which it reads no more than the job's limits
	// allow. Nothing of the program runs before Next. Errors wrap ErrJob,
	// ErrCheckpoint, ErrWrongProgram, ErrWrongJob or ErrMemory; any other is
	// the machine's.
	Start(ctx context.Context, job *Job, from io.Reader) (Run, error)
	Close() error
}

// Run is one run of a job. Its methods are called one after another.
type Run interface {
	// Root is the root of the state that the run stands at: that of the last
	// event, or of the checkpoint that it was started from; zeros before the
	// first event.
	Root() Digest
	// Next runs one epoch: to the next sync event, or to the program's end. A
	// *Failure is the program's own and the same on every machine; any other
	// error is the machine's, of which one that wraps ErrStopped says that ctx
	// ended. After an error, and after an event with Done, the run is over.
	// The event belongs to the caller.
	Next(ctx context.Context) (*Event, error)
	// Checkpoint writes the state of the last event, from which Start goes on;
	// ErrNoState before the first.
	Checkpoint(w io.Writer) error
	// Prove shows one page of the state of the last event under its root.
	Prove(part Part, page uint32) (*Proof, error)
	Close() error
}

// Event is what an epoch ended with.
type Event struct {
	// Epoch counts from 1.
	Epoch uint64
	// State is what the program handed to sync; nil when it ended.
	State []byte
	// Root commits to everything that follows, and to the memory.
	Root Digest
	// Fuel is what this epoch took, TotalFuel what all did.
	Fuel, TotalFuel uint64
	// Output is what this epoch added to the output; OutputSize and
	// OutputSHA256 are of all of it.
	Output       []byte
	OutputSize   uint64
	OutputSHA256 [32]byte
	// Notices are what the program announced in this epoch (event).
	Notices [][]byte
	// Done: the program ended, with that exit code.
	Done bool
	Exit uint32
}
