//go:build unix

package wasm

import "golang.org/x/sys/unix"

// reserve returns zeros that take no memory before they are written; nil where
// the machine does not have the addresses.
func reserve(size int) []byte {
	if size == 0 {
		return nil
	}
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return b
}

func release(b []byte) { _ = unix.Munmap(b) }
