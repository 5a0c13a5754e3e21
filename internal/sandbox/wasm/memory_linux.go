package wasm

import "golang.org/x/sys/unix"

// populate has b's pages made at once, which costs less than a fault for each.
// A kernel that cannot do it makes them as they are touched.
func populate(b []byte) { _ = unix.Madvise(b, unix.MADV_POPULATE_WRITE) }
