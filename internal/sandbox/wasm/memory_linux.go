package wasm

import "golang.org/x/sys/unix"

// populate allocates b's pages at once, which is cheaper than a page fault for
// each. A kernel without support allocates them as they are touched.
func populate(b []byte) { _ = unix.Madvise(b, unix.MADV_POPULATE_WRITE) }
