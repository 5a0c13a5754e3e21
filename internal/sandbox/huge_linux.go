package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Huge asks for b to be allocated in huge pages, at its first use. A page fault for
// each small page takes longer than to fill it, above all in a virtual machine. It
// is only advice: a kernel without huge pages ignores it.
func Huge(b []byte) {
	const size = 2 << 20
	if len(b) < 2*size { // it may have none whole
		return
	}
	start := -uintptr(unsafe.Pointer(&b[0])) % size
	_ = unix.Madvise(b[start:start+(uintptr(len(b))-start)/size*size], unix.MADV_HUGEPAGE)
}
