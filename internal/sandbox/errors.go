package sandbox

import (
	"errors"
	"fmt"
)

// Errors of loading and starting.
var (
	// ErrProgram means that this engine cannot run the program; the message
	// says what and where.
	ErrProgram = errors.New("not a program that can be run")
	// ErrJob means that the job's parameters or limits are invalid.
	ErrJob = errors.New("bad job")
	// ErrCheckpoint means that the bytes are not a checkpoint, or are truncated
	// or altered.
	ErrCheckpoint = errors.New("damaged checkpoint")
	// ErrWrongProgram means that the checkpoint belongs to another program.
	ErrWrongProgram = errors.New("checkpoint of another program")
	// ErrWrongJob means that the checkpoint belongs to the same program with
	// other arguments, input, seed, time or limits.
	ErrWrongJob = errors.New("checkpoint of another job")
	// ErrNoState means that there was no sync event yet, or that the page does
	// not exist.
	ErrNoState = errors.New("no such state")
	// ErrStopped means that the run was stopped by its caller.
	ErrStopped = errors.New("stopped")
)

// Reasons why a program fails. Each is wrapped in a *Failure; Start also
// returns ErrMemory directly.
var (
	// ErrFuel means that an epoch used all its fuel without a sync event.
	ErrFuel = errors.New("out of fuel")
	// ErrEpochs means that the program did not end after its last epoch.
	ErrEpochs = errors.New("out of epochs")
	// ErrMemory means that it needs more memory than allowed.
	ErrMemory = errors.New("out of memory")
	// ErrOutput means that its output exceeds the limit.
	ErrOutput = errors.New("too much output")
	// ErrState means that it passed too large a state to sync.
	ErrState = errors.New("state too large")
	// ErrNotices means that it announced too much in one epoch.
	ErrNotices = errors.New("too many events")
	// ErrDepth means that its calls are nested too deep.
	ErrDepth = errors.New("calls nested too deep")
	// ErrTrap means that the program trapped.
	ErrTrap = errors.New("the program crashed")
	// ErrCall means that it called its host with invalid arguments.
	ErrCall = errors.New("bad call to the host")
	// ErrSuspend means that it could not be suspended at a sync event.
	ErrSuspend = errors.New("the program cannot be suspended")
)

// Failure says how a program failed. It is the same on every machine.
type Failure struct {
	// Epoch is the epoch in which it failed.
	Epoch uint64
	// Err wraps one of the errors above.
	Err error
	// Trace is the stack trace, for the developer; it differs between engines.
	Trace string
}

func (f *Failure) Error() string { return fmt.Sprintf("epoch %d: %v", f.Epoch, f.Err) }

func (f *Failure) Unwrap() error { return f.Err }
