package node

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// errNoSpace: what is asked for would use up the disk.
var errNoSpace = errors.New("not enough space on the disk")

// reserved is how much of a disk with total bytes is left to the database: what
// strangers send must not keep claims and refunds from being written.
func reserved(total uint64) uint64 { return min(1<<30, total/20) }

// space hands out the disk that the files are on.
type space struct {
	mu       sync.Mutex
	promised uint64 // to what is being written; some of it is on the disk already
}

// take takes bytes for a file below dir until give, or fails with errNoSpace.
func (s *space) take(dir string, bytes uint64) (give func(), err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	block := uint64(st.Bsize)
	free, keep := uint64(st.Bavail)*block, reserved(uint64(st.Blocks)*block)
	s.mu.Lock()
	defer s.mu.Unlock()
	if free < keep || bytes > free-keep || s.promised > free-keep-bytes {
		return nil, fmt.Errorf("%w: %d bytes are wanted, %d free, of which %d stay so", errNoSpace, bytes, free, keep)
	}
	s.promised += bytes
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.promised -= bytes
	}, nil
}
