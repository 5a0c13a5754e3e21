//go:build unix

package wasm

import (
	"golang.org/x/sys/unix"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// reserve returns zeroed memory that is not allocated before it is written, or
// nil if the address space does not suffice.
func reserve(size int) []byte {
	if size == 0 {
		return nil
	}
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	sandbox.Huge(b)
	return b
}

func release(b []byte) { _ = unix.Munmap(b) }
