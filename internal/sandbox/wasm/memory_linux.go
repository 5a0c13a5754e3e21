package wasm

import "golang.org/x/sys/unix"

// prefer asks for large pages: each epoch touches a new memory, and a fault for
// every 4 KiB of it costs more than the zeros.
func prefer(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
