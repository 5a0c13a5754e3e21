package wasm

import "github.com/tetratelabs/wazero/experimental"

// arena is the memory of one instance. It reserves all that the job allows at
// once, so growing copies nothing and cannot fail half way.
type arena struct{ all []byte }

var (
	_ experimental.MemoryAllocator = (*arena)(nil)
	_ experimental.LinearMemory    = (*arena)(nil)
)

// Allocate returns the arena, which is already reserved.
func (a *arena) Allocate(_, _ uint64) experimental.LinearMemory { return a }

// Reallocate returns its first size bytes, or nil beyond its end.
func (a *arena) Reallocate(size uint64) []byte {
	if size > uint64(len(a.all)) {
		return nil
	}
	return a.all[:size:size]
}

func (a *arena) Free() {
	if a.all != nil {
		release(a.all)
		a.all = nil
	}
}
