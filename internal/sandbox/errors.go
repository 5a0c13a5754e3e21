package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"
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
	// ErrLost means that the process in which the program ran ended, stalled or
	// sent something invalid. It is never the program's failure: the epoch can be
	// repeated from the last checkpoint.
	ErrLost = errors.New("the program's process was lost")
	// ErrHostMemory means that the process took more memory than this machine
	// allows it. It comes with ErrLost.
	ErrHostMemory = errors.New("more memory than this machine allows")
	// ErrHostTime means that a step took longer than this machine allows. It comes
	// with ErrLost.
	ErrHostTime = errors.New("longer than this machine allows")
)

// Reasons why a program fails. Each is wrapped in a *Failure; Start also
// returns ErrMemory directly, and Load ErrProgram (see Refused).
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

// FailureKind is why a program failed, as a failure's root has it (spec/runtime.md
// §8). A number is never given a new meaning.
type FailureKind uint8

// The kinds of failure.
const (
	FailedProgram FailureKind = iota + 1
	FailedFuel
	FailedEpochs
	FailedMemory
	FailedOutput
	FailedState
	FailedNotices
	FailedDepth
	FailedTrap
	FailedCall
	FailedSuspend
)

// failureKinds has the error of each kind.
var failureKinds = [...]error{
	FailedProgram: ErrProgram, FailedFuel: ErrFuel, FailedEpochs: ErrEpochs, FailedMemory: ErrMemory, FailedOutput: ErrOutput,
	FailedState: ErrState, FailedNotices: ErrNotices, FailedDepth: ErrDepth, FailedTrap: ErrTrap, FailedCall: ErrCall, FailedSuspend: ErrSuspend,
}

// Err returns the error of the kind; nil if there is no such kind.
func (k FailureKind) Err() error {
	if int(k) < len(failureKinds) {
		return failureKinds[k]
	}
	return nil
}

func (k FailureKind) String() string {
	if err := k.Err(); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("failure of kind %d", uint8(k))
}

// kindOf returns the kind of an error; 0 if it is not a program's failure.
func kindOf(err error) FailureKind {
	for k, reason := range failureKinds {
		if reason != nil && errors.Is(err, reason) {
			return FailureKind(k)
		}
	}
	return 0
}

// Failure says how a program failed. All but the text of Err and Trace is the same
// on every machine, and bound by Root.
type Failure struct {
	Program, Job Digest
	// Epoch is the epoch in which it failed.
	Epoch uint64
	// Before is the root of the state with which that epoch began: of the last
	// event; zeros in the first epoch.
	Before Digest
	Kind   FailureKind
	// Err wraps the error of the kind.
	Err error
	// Trace is the stack trace, for the developer; it differs between engines.
	Trace string
}

// Fail returns the failure of a program in the epoch that began with the state
// before. ok is false if err is none of a program's failures.
func Fail(program, job Digest, epoch uint64, before Digest, err error) (f *Failure, ok bool) {
	kind := kindOf(err)
	if kind == 0 {
		return nil, false
	}
	return &Failure{Program: program, Job: job, Epoch: epoch, Before: before, Kind: kind, Err: err}, true
}

// Refused returns the failure that an error of Load, or of Start from the
// beginning, means for a job: the first epoch's, because every machine refuses
// this program or its first memory. ok is false if the error is the machine's.
func Refused(program, job Digest, err error) (f *Failure, ok bool) {
	if !errors.Is(err, ErrProgram) && !errors.Is(err, ErrMemory) {
		return nil, false
	}
	return Fail(program, job, 1, Digest{}, err)
}

func (f *Failure) Error() string { return fmt.Sprintf("epoch %d: %v", f.Epoch, f.Err) }

func (f *Failure) Unwrap() error { return f.Err }

// Root returns the root on which machines agree in place of a state's: D[` failure`]
// of spec/runtime.md §8.
func (f *Failure) Root() (d Digest) {
	h := failureHasher.Clone()
	_, _ = h.Write(f.Program[:])
	_, _ = h.Write(f.Job[:])
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, f.Epoch))
	_, _ = h.Write([]byte{byte(f.Kind)})
	_, _ = h.Write(f.Before[:])
	h.Sum(d[:0])
	return d
}

var failureHasher = blake3.NewDeriveKey("bitgram state failure")
