package sandbox

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
)

// PageSize is that of a state's pages, in bytes.
const PageSize = 64 << 10

// Job contains all inputs of a program. Two runs of one program with equal jobs
// are equal.
type Job struct {
	// Args are the arguments, starting with the program's name.
	Args []string
	// Env are environment variables, NAME=VALUE.
	Env []string
	// Input is the program's input.
	Input []byte
	// Seed is the seed of its random numbers.
	Seed [32]byte
	// Time is the start of its clock, in seconds since 1970. From there the
	// clock advances with the fuel, one nanosecond per unit.
	Time   uint32
	Limits Limits

	// Log receives the program's standard error, up to Limits.Log; nil discards
	// it. It is not part of the result.
	Log io.Writer
}

// Limits of a job. They are part of the job: a program can observe some of
// them, and fails if it exceeds any.
type Limits struct {
	Memory   uint64 // bytes; whole pages count
	Fuel     uint64 // of an epoch
	Epochs   uint64
	Output   uint64 // bytes, of all epochs
	State    uint64 // bytes handed to sync
	Notices  uint64 // bytes announced in an epoch, plus 64 for each event
	Log      uint64 // bytes of standard error kept in an epoch
	ArgBytes uint64 // of arguments and variables
}

// DefaultLimits returns the limits of `bitgram run`.
func DefaultLimits() Limits {
	return Limits{
		Memory: 256 << 20, Fuel: 100_000_000_000, Epochs: 1_000_000, Output: 64 << 20,
		State: 64 << 20, Notices: 1 << 20, Log: 1 << 20, ArgBytes: 64 << 10,
	}
}

// The largest limits that a job can have.
const (
	maxMemory = 2 << 30 // see rewrite.MaxPages
	maxFuel   = 1 << 62
	maxEpochs = 1 << 40
	maxOutput = 1 << 32
	maxState  = 1 << 31
	maxInput  = 1 << 32
	maxLog    = 1 << 30
	maxArgs   = 1 << 20
)

// Check returns an error that wraps ErrJob and names the field that is wrong.
func (j *Job) Check() error {
	l := &j.Limits
	for _, f := range []struct {
		name             string
		value, low, high uint64
	}{
		{"memory", l.Memory, PageSize, maxMemory}, {"fuel", l.Fuel, 1, maxFuel}, {"epochs", l.Epochs, 1, maxEpochs},
		{"output", l.Output, 0, maxOutput}, {"state", l.State, 0, maxState}, {"events", l.Notices, 0, maxLog},
		{"log", l.Log, 0, maxLog}, {"arguments", l.ArgBytes, 0, maxArgs}, {"input", uint64(len(j.Input)), 0, maxInput},
	} {
		if f.value < f.low || f.value > f.high {
			return fmt.Errorf("%w: %s is %d, must be from %d to %d", ErrJob, f.name, f.value, f.low, f.high)
		}
	}
	var size uint64
	for _, list := range [][]string{j.Args, j.Env} {
		for _, s := range list {
			for i := range len(s) {
				if s[i] == 0 {
					return fmt.Errorf("%w: an argument or variable with a zero byte", ErrJob)
				}
			}
			size += uint64(len(s)) + 1
		}
	}
	if size > l.ArgBytes {
		return fmt.Errorf("%w: arguments and variables of %d bytes, at most %d are possible", ErrJob, size, l.ArgBytes)
	}
	return nil
}

// Pages returns the maximum number of pages of the memory.
func (l *Limits) Pages() uint32 { return uint32(l.Memory / PageSize) }

// Digest returns the job's identifier: BLAKE3 with the context "bitgram job
// parameters" over u32 count and (u32 length ‖ bytes) of Args, the same of Env,
// BLAKE3(Input), Seed, u32 Time, and the limits by which a program can fail,
// u64 each.
func (j *Job) Digest() (d Digest) {
	h := blake3.NewDeriveKey("bitgram job parameters")
	var b []byte
	for _, list := range [][]string{j.Args, j.Env} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		for _, s := range list {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
		}
	}
	in := blake3.Sum256(j.Input)
	b = append(append(b, in[:]...), j.Seed[:]...)
	b = binary.BigEndian.AppendUint32(b, j.Time)
	l := &j.Limits
	for _, v := range []uint64{uint64(l.Pages()), l.Fuel, l.Epochs, l.Output, l.State, l.Notices} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	_, _ = h.Write(b)
	h.Sum(d[:0])
	return d
}
