package sandbox

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/blake3"
)

// Header is the header of a state; spec/runtime.md §5 specifies its bytes.
type Header struct {
	Program, Job Digest
	Epoch        uint64
	Done         bool
	Exit         uint32
	Fuel, Total  uint64 // of this epoch, of all
	Clock        uint64 // nanoseconds since the job's time
	OutputSize   uint64
	OutputSHA256 [32]byte
	Notices      uint64 // how many there were
	NoticeChain  Digest
	StateSize    uint32 // bytes handed to sync
	MemoryPages  uint32
	// Depth and Frames are the position of a suspended program: the depth of its
	// calls, and FramesDigest of its frames. Both are zero for any other program.
	Depth   uint64
	Frames  Digest
	Globals []uint64
}

// FramesDigest is the digest of a suspended program's frames, as asyncify wrote them.
func FramesDigest(frames []byte) Digest { return blake3.Sum256(frames) }

// stateMagic is the beginning of a header, with its version.
const stateMagic = "bgstate\x02"

// headerSize is a header's without its globals.
const headerSize = len(stateMagic) + 2*32 + 8 + 1 + 4 + 2*8 + 8 + 8 + 32 + 8 + 32 + 4 + 4 + 8 + 32 + 4

// maxGlobals limits the size of a header.
const maxGlobals = 1 << 14

// Encode returns the header's only encoding.
func (s *Header) Encode() []byte {
	b := append(make([]byte, 0, headerSize+8*len(s.Globals)), stateMagic...)
	u64 := func(v uint64) { b = binary.BigEndian.AppendUint64(b, v) }
	u32 := func(v uint32) { b = binary.BigEndian.AppendUint32(b, v) }
	b = append(append(b, s.Program[:]...), s.Job[:]...)
	u64(s.Epoch)
	done := byte(0)
	if s.Done {
		done = 1
	}
	b = append(b, done)
	u32(s.Exit)
	u64(s.Fuel)
	u64(s.Total)
	u64(s.Clock)
	u64(s.OutputSize)
	b = append(b, s.OutputSHA256[:]...)
	u64(s.Notices)
	b = append(b, s.NoticeChain[:]...)
	u32(s.StateSize)
	u32(s.MemoryPages)
	u64(s.Depth)
	b = append(b, s.Frames[:]...)
	u32(uint32(len(s.Globals)))
	for _, g := range s.Globals {
		u64(g)
	}
	return b
}

// DecodeHeader decodes exactly what Encode returned; errors wrap ErrCheckpoint.
func DecodeHeader(b []byte) (*Header, error) {
	if len(b) < headerSize || len(b) > headerSize+8*maxGlobals || (len(b)-headerSize)%8 != 0 || string(b[:len(stateMagic)]) != stateMagic {
		return nil, fmt.Errorf("%w: %d bytes are not the header of a state", ErrCheckpoint, len(b))
	}
	b = b[len(stateMagic):]
	take := func(n int) []byte { p := b[:n]; b = b[n:]; return p }
	u64 := func() uint64 { return binary.BigEndian.Uint64(take(8)) }
	u32 := func() uint32 { return binary.BigEndian.Uint32(take(4)) }
	s := &Header{}
	copy(s.Program[:], take(32))
	copy(s.Job[:], take(32))
	s.Epoch = u64()
	done := take(1)[0]
	s.Done = done == 1
	s.Exit = u32()
	s.Fuel = u64()
	s.Total = u64()
	s.Clock = u64()
	s.OutputSize = u64()
	copy(s.OutputSHA256[:], take(32))
	s.Notices = u64()
	copy(s.NoticeChain[:], take(32))
	s.StateSize = u32()
	s.MemoryPages = u32()
	s.Depth = u64()
	copy(s.Frames[:], take(32))
	n := u32()
	if done > 1 || int(n) != len(b)/8 {
		return nil, fmt.Errorf("%w: a state's header with %d globals in %d bytes", ErrCheckpoint, n, len(b))
	}
	for range n {
		s.Globals = append(s.Globals, u64())
	}
	return s, nil
}

// Part is one of the two trees of a state.
type Part uint8

const (
	Memory Part = iota // the program's memory as it was at the event
	State              // what it handed to sync
)

// rootOf returns the commitment to a whole state.
func rootOf(header []byte, memory, state Digest) (d Digest) {
	h := rootHasher()
	sum := blake3.Sum256(header)
	_, _ = h.Write(sum[:])
	_, _ = h.Write(memory[:])
	_, _ = h.Write(state[:])
	h.Sum(d[:0])
	return d
}

// Snapshot is a state with its trees, as stored by a run.
type Snapshot struct {
	Header
	root          Digest
	memory, state Tree
	roots         [2]Digest
	ready         bool
}

// Set stores a new state and returns its root. The arguments may be modified
// afterwards.
func (s *Snapshot) Set(h Header, memory, state []byte) Digest {
	h.MemoryPages, h.StateSize = uint32(Pages(len(memory))), uint32(len(state))
	s.Header, s.ready = h, true
	s.roots[Memory], _ = s.memory.Update(memory)
	s.roots[State], _ = s.state.Update(state)
	s.root = rootOf(h.Encode(), s.roots[Memory], s.roots[State])
	return s.root
}

// SetShared is Set for a memory that is not copied: it must stay as it is as long as
// it may be proven, until the next state is set or Forget is called.
func (s *Snapshot) SetShared(h Header, memory, state []byte) Digest {
	h.MemoryPages, h.StateSize = uint32(Pages(len(memory))), uint32(len(state))
	s.Header, s.ready = h, true
	s.roots[Memory] = s.memory.Share(memory)
	s.roots[State], _ = s.state.Update(state)
	s.root = rootOf(h.Encode(), s.roots[Memory], s.roots[State])
	return s.root
}

// Ready reports whether a state was set.
func (s *Snapshot) Ready() bool { return s.ready }

// Forget is called before a shared memory is freed: its pages can no longer be
// proven.
func (s *Snapshot) Forget() {
	if s.memory.shared {
		s.memory = Tree{}
	}
}

// Root returns the root of the state last set, or zeros.
func (s *Snapshot) Root() Digest { return s.root }

// Memory and State return the data last set.
func (s *Snapshot) Memory() []byte { return s.memory.data }
func (s *Snapshot) State() []byte  { return s.state.data }

// MemoryRoot returns the root of the memory last set.
func (s *Snapshot) MemoryRoot() Digest { return s.roots[Memory] }

// Restore sets the state from a checkpoint. Pages of a memory that the
// checkpoint does not contain cannot be proven before the next state.
func (s *Snapshot) Restore(c *Checkpoint) {
	s.Header, s.ready = c.Header, true
	s.roots[Memory] = c.MemoryRoot
	s.roots[State], _ = s.state.Update(c.State)
	if c.Full {
		s.memory = c.tree
	}
	s.root = rootOf(s.Encode(), s.roots[Memory], s.roots[State])
}

// Proof proves a page under a state's root.
type Proof struct {
	Header []byte
	Part   Part
	Page   uint32
	Data   []byte
	Path   []Digest
	// Other is the root of the other part.
	Other Digest
}

// Prove returns a proof. Errors wrap ErrNoState.
func (s *Snapshot) Prove(part Part, page uint32) (*Proof, error) {
	t := &s.memory
	if part == State {
		t = &s.state
	}
	switch {
	case !s.ready || part > State:
		return nil, ErrNoState
	case int64(page) >= int64(len(t.leaves)):
		return nil, fmt.Errorf("%w: page %d of %d", ErrNoState, page, len(t.leaves))
	}
	data := append([]byte(nil), pageOf(t.data, int(page))...)
	return &Proof{s.Encode(), part, page, data, t.path(int(page)), s.roots[1-part]}, nil
}

// Verify reports whether the proof is valid for root.
func (p *Proof) Verify(root Digest) bool {
	h, err := DecodeHeader(p.Header)
	if err != nil || p.Part > State {
		return false
	}
	pages, size := int64(h.MemoryPages), int64(h.MemoryPages)*PageSize
	if p.Part == State {
		pages, size = int64(Pages(int(h.StateSize))), int64(h.StateSize)
	}
	if int64(p.Page) >= pages || int64(len(p.Data)) != min(PageSize, size-int64(p.Page)*PageSize) {
		return false
	}
	d, ok := climbPath(leafOf(p.Data, leafHasher()), int(p.Page), int(pages), p.Path)
	if !ok {
		return false
	}
	if p.Part == State {
		return rootOf(p.Header, p.Other, d) == root
	}
	return rootOf(p.Header, d, p.Other) == root
}
