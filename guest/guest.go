//go:build wasip1

package guest

import (
	"errors"
	"io"
	"os"
	"unsafe"
)

//go:wasmimport bitgram sync
//go:noescape
func hostSync(ptr unsafe.Pointer, size uint32)

//go:wasmimport bitgram restore
//go:noescape
func hostRestore(ptr unsafe.Pointer, room uint32) int32

//go:wasmimport bitgram input
//go:noescape
func hostInput(from uint64, ptr unsafe.Pointer, room uint32) uint32

//go:wasmimport bitgram input_size
func hostInputSize() uint64

//go:wasmimport bitgram output
//go:noescape
func hostOutput(ptr unsafe.Pointer, size uint32)

//go:wasmimport bitgram random
//go:noescape
func hostRandom(ptr unsafe.Pointer, size uint32)

//go:wasmimport bitgram event
//go:noescape
func hostEvent(ptr unsafe.Pointer, size uint32)

//go:wasmimport bitgram epoch
func hostEpoch() uint64

func address(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// Sync ends the epoch with a state. It does not return, except in a program
// that was processed by asyncify; its memory is then part of the state.
func Sync(state []byte) {
	hostSync(address(state), uint32(len(state)))
}

// Restore returns the state with which the last epoch ended; ok is false in the
// first epoch.
func Restore() (state []byte, ok bool) {
	size := hostRestore(nil, 0)
	if size < 0 {
		return nil, false
	}
	state = make([]byte, size)
	hostRestore(address(state), uint32(size))
	return state, true
}

// Input returns a reader of the job's input.
func Input() *io.SectionReader {
	return io.NewSectionReader(inputReader{}, 0, int64(hostInputSize()))
}

type inputReader struct{}

func (inputReader) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, os.ErrInvalid
	}
	for n < len(b) {
		got := hostInput(uint64(off)+uint64(n), address(b[n:]), uint32(min(len(b)-n, 1<<30)))
		if got == 0 {
			return n, io.EOF
		}
		n += int(got)
	}
	return n, nil
}

// Output appends to the program's output, as os.Stdout does, with one host call
// for a write of any size.
var Output io.Writer = outputWriter{}

type outputWriter struct{}

func (outputWriter) Write(b []byte) (int, error) {
	hostOutput(address(b), uint32(len(b)))
	return len(b), nil
}

// Random is an endless stream of random numbers. Each epoch has its own stream,
// derived from the job's seed.
var Random io.Reader = randomReader{}

type randomReader struct{}

func (randomReader) Read(b []byte) (int, error) {
	hostRandom(address(b), uint32(len(b)))
	return len(b), nil
}

// errEvent is the error of Event for an event of the wrong size.
var errEvent = errors.New("guest: an event has from 1 to 65,536 bytes")

// Event announces something, such as progress or a request, to the process that
// runs the program. The nodes agree on the events and their order.
func Event(b []byte) error {
	if len(b) == 0 || len(b) > 65_536 {
		return errEvent
	}
	hostEvent(address(b), uint32(len(b)))
	return nil
}

// Epoch returns the number of this epoch, from 1.
func Epoch() uint64 { return hostEpoch() }
