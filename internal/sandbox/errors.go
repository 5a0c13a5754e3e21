package sandbox

import (
	"errors"
	"fmt"
)

// Errors of loading and starting.
var (
	// ErrProgram: this engine cannot run that, and the message says what and
	// where.
	ErrProgram = errors.New("not a program that can be run")
	// ErrJob: the job's parameters or limits are not usable.
	ErrJob = errors.New("bad job")
	// ErrCheckpoint: the bytes are no checkpoint, are cut short or were changed.
	ErrCheckpoint = errors.New("damaged checkpoint")
	// ErrWrongProgram: the checkpoint is another program's.
	ErrWrongProgram = errors.New("checkpoint of another program")
	// ErrWrongJob: the checkpoint is of the same program with other arguments,
	// input, seed, time or limits.
	ErrWrongJob = errors.New("checkpoint of another job")
	// ErrNoState: there was no event yet, or no such page.
	ErrNoState = errors.New("no such state")
	// ErrStopped: the run was stopped from outside.
	ErrStopped = errors.New("stopped")
)

// What a program can fail of; each comes inside a *Failure, but for ErrMemory,
// which Start returns as well.
var (
	// ErrFuel: an epoch took all its fuel without a sync event.
	ErrFuel = errors.New("out of fuel")
	// ErrEpochs: the program goes on after its last epoch.
	ErrEpochs = errors.New("out of epochs")
	// ErrMemory: it needs more memory than it may have.
	ErrMemory = errors.New("out of memory")
	// ErrOutput: it puts out more than it may.
	ErrOutput = errors.New("too much output")
	// ErrState: it hands too large a state to sync.
	ErrState = errors.New("state too large")
	// ErrNotices: it announces too much in one epoch.
	ErrNotices = errors.New("too many events")
	// ErrDepth: its calls are nested too deep.
	ErrDepth = errors.New("calls nested too deep")
	// ErrTrap: it broke a rule of its engine, or ended itself so.
	ErrTrap = errors.New("the program crashed")
	// ErrCall: it called its host with what cannot be.
	ErrCall = errors.New("bad call to the host")
	// ErrSuspend: it could not be suspended at a sync event.
	ErrSuspend = errors.New("the program cannot be suspended")
)

// Failure is how a program failed: the same on every machine.
type Failure struct {
	// Epoch is the one in which it did.
	Epoch uint64
	// Err wraps one of the errors above.
	Err error
	// Trace is where it was, for its developer; not the same everywhere.
	Trace string
}

func (f *Failure) Error() string { return fmt.Sprintf("epoch %d: %v", f.Epoch, f.Err) }

func (f *Failure) Unwrap() error { return f.Err }
