package sandbox

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
)

// Checkpoint is the state from which a run continues; spec/runtime.md §6
// specifies its bytes.
type Checkpoint struct {
	Header
	// State is the data that the program passed to sync.
	State []byte
	// MemoryRoot is the root of the memory, which a portable checkpoint does
	// not contain.
	MemoryRoot Digest
	Output     *Output

	// Full says that the program continues from its position, with its memory and
	// call frames. Otherwise it starts again with its state.
	Full   bool
	Memory []byte
	Stack  []byte
	Depth  uint64 // what the engine counts of them

	tree Tree // of a full checkpoint that was read: over Memory itself
}

const (
	checkpointMagic = "bgckpt\x02"
	// firstMagic begins a checkpoint of version 1.
	firstMagic     = "bgckpt\x01"
	checkpointFull = 1
	maxStack       = 16 << 20
)

// head returns the header, which binds the frames and their depth.
func (c *Checkpoint) head() *Header {
	h := c.Header
	h.Depth, h.Frames = 0, Digest{}
	if c.Full {
		h.Depth, h.Frames = c.Depth, FramesDigest(c.Stack)
	}
	return &h
}

// Root returns the root of the checkpoint's state.
func (c *Checkpoint) Root() Digest {
	var t Tree
	state, _ := t.Update(c.State)
	return rootOf(c.head().Encode(), c.MemoryRoot, state)
}

// Write writes the checkpoint.
func (c *Checkpoint) Write(w io.Writer) error {
	h := blake3.New()
	out := io.MultiWriter(w, h)
	flags := byte(0)
	if c.Full {
		flags = checkpointFull
	}
	head := c.head().Encode()
	b := append([]byte(checkpointMagic), flags)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(head))), head...)
	b = append(append(b, c.Output.middle()...), c.MemoryRoot[:]...)
	parts := [][]byte{b, c.State}
	if c.Full {
		parts = append(parts, append(binary.BigEndian.AppendUint32(nil, uint32(len(c.Stack))), c.Stack...))
		for i := range Pages(len(c.Memory)) {
			page := pageOf(c.Memory, i)
			if bytes.Equal(page, zeroPage[:]) {
				parts = append(parts, []byte{0})
			} else {
				parts = append(parts, []byte{1}, page)
			}
		}
	}
	for _, p := range parts {
		if _, err := out.Write(p); err != nil {
			return err
		}
	}
	_, err := w.Write(h.Sum(nil))
	return err
}

// ReadCheckpoint reads a checkpoint of a program and a job. It reads at most
// what the job's limits allow, page by page into place, and uses nothing before
// the checksum at the end is verified. Errors wrap ErrCheckpoint,
// ErrWrongProgram or ErrWrongJob.
func ReadCheckpoint(r io.Reader, program Digest, job *Job) (*Checkpoint, error) {
	// A small buffer, so that most of a page is read into its place.
	p := &parts{r: bufio.NewReaderSize(r, 4<<10), h: blake3.New()}
	c, err := p.checkpoint(program, job)
	switch {
	case errors.Is(err, ErrWrongProgram) || errors.Is(err, ErrWrongJob):
		// Find out whether it is only damaged.
		if sumErr := p.skip(job.Limits.MaxCheckpoint()); sumErr != nil {
			err = sumErr
		}
	case err == nil:
		err = p.end()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// MaxCheckpoint returns the maximum size of a checkpoint under these limits.
func (l *Limits) MaxCheckpoint() int64 {
	return int64(len(checkpointMagic)+1+4+headerSize+8*maxGlobals+32+64+32) + int64(l.State) + 4 + maxStack + int64(l.Pages())*(PageSize+1) + 32
}

// ReadHeader reads the header of a checkpoint, without verifying anything: for one that
// was read as a whole before. Errors wrap ErrCheckpoint.
func ReadHeader(r io.Reader) (*Header, error) {
	var head [len(checkpointMagic) + 1 + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || string(head[:len(checkpointMagic)]) != checkpointMagic {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrCheckpoint)
	}
	n := binary.BigEndian.Uint32(head[len(checkpointMagic)+1:])
	if n > uint32(headerSize+8*maxGlobals) {
		return nil, fmt.Errorf("%w: a header of %d bytes", ErrCheckpoint, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: it ends within its header (%w)", ErrCheckpoint, err)
	}
	return DecodeHeader(b)
}

// parts reads a checkpoint piece by piece and hashes it; the first error is
// kept.
type parts struct {
	r   *bufio.Reader
	h   *blake3.Hasher
	err error
}

// read fills b with the next part of the checkpoint.
func (p *parts) read(what string, b []byte) bool {
	if p.err != nil {
		return false
	}
	if _, err := io.ReadFull(p.r, b); err != nil {
		p.err = fmt.Errorf("%w: it ends within its %s (%w)", ErrCheckpoint, what, err)
		return false
	}
	_, _ = p.h.Write(b)
	return true
}

// take reads n bytes, at most most.
func (p *parts) take(what string, n, most uint64) []byte {
	if p.err == nil && n > most {
		p.err = fmt.Errorf("%w: %d bytes of its %s, at most %d are possible", ErrCheckpoint, n, what, most)
	}
	if p.err != nil {
		return nil
	}
	const step = 1 << 20 // allocate more only as data arrive
	b := make([]byte, 0, min(n, step))
	for uint64(len(b)) < n {
		k := min(n-uint64(len(b)), step)
		b = append(b, make([]byte, k)...)
		if !p.read(what, b[uint64(len(b))-k:]) {
			return nil
		}
	}
	return b
}

func (p *parts) u32(what string) uint64 {
	var b [4]byte
	p.read(what, b[:])
	return uint64(binary.BigEndian.Uint32(b[:]))
}

// end verifies the checksum, and that nothing follows.
func (p *parts) end() error {
	var sum [32]byte
	if _, err := io.ReadFull(p.r, sum[:]); err != nil {
		return fmt.Errorf("%w: it ends within its sum (%w)", ErrCheckpoint, err)
	}
	if !bytes.Equal(p.h.Sum(nil), sum[:]) {
		return errSum
	}
	if _, err := p.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows it", ErrCheckpoint)
	}
	return nil
}

var errSum = fmt.Errorf("%w: its bytes do not match the checksum at their end", ErrCheckpoint)

// skip reads the rest and verifies the checksum, without interpreting the
// content.
func (p *parts) skip(most int64) error {
	rest, err := io.ReadAll(io.LimitReader(p.r, most))
	if err != nil || len(rest) < 32 {
		return errSum
	}
	_, _ = p.h.Write(rest[:len(rest)-32])
	if !bytes.Equal(p.h.Sum(nil), rest[len(rest)-32:]) {
		return errSum
	}
	return nil
}

// checkpoint reads everything before the checksum.
func (p *parts) checkpoint(program Digest, job *Job) (*Checkpoint, error) {
	var head [len(checkpointMagic) + 1]byte
	if p.read("beginning", head[:]) && string(head[:len(checkpointMagic)]) == firstMagic {
		return nil, fmt.Errorf("%w: it was written by an older version, whose state roots do not cover a program's frames; run the program again from its start", ErrCheckpoint)
	}
	if p.err != nil || string(head[:len(checkpointMagic)]) != checkpointMagic {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrCheckpoint)
	}
	if head[len(head)-1] > checkpointFull {
		return nil, fmt.Errorf("%w: flags %d, of a newer version", ErrCheckpoint, head[len(head)-1])
	}
	c := &Checkpoint{Full: head[len(head)-1] == checkpointFull}
	header := p.take("header", p.u32("header"), uint64(headerSize+8*maxGlobals))
	if p.err != nil {
		return nil, p.err
	}
	h, err := DecodeHeader(header)
	if err != nil {
		return nil, err
	}
	c.Header = *h
	l := &job.Limits
	switch {
	case h.Program != program:
		return nil, fmt.Errorf("%w: it is of program %v, this is %v", ErrWrongProgram, h.Program, program)
	case h.Job != job.Digest():
		return nil, fmt.Errorf("%w: the same program with other arguments, input, seed, time or limits", ErrWrongJob)
	case h.Done:
		return nil, fmt.Errorf("%w: of a program that had ended", ErrCheckpoint)
	case h.Epoch == 0 || h.Epoch > l.Epochs || h.Fuel > l.Fuel || h.Total < h.Fuel || h.Total/l.Fuel > h.Epoch || uint64(h.StateSize) > l.State || uint64(h.MemoryPages) > uint64(l.Pages()):
		return nil, fmt.Errorf("%w: it is beyond the job's limits", ErrCheckpoint)
	}
	middle := p.take("output", 32+h.OutputSize%64, 96)
	p.read("memory's root", c.MemoryRoot[:])
	c.State = p.take("state", uint64(h.StateSize), l.State)
	if c.Full {
		c.Depth = h.Depth
		c.Stack = p.take("frames", p.u32("frames"), maxStack)
		c.Memory = p.pages(int(h.MemoryPages))
	}
	if p.err != nil {
		return nil, p.err
	}
	return c, c.check(middle, l)
}

// check verifies the fields that can be computed from others.
func (c *Checkpoint) check(middle []byte, l *Limits) (err error) {
	if c.Output, err = resumeOutput(l.Output, c.OutputSize, middle); err != nil {
		return err
	}
	if c.Output.Sum() != c.OutputSHA256 {
		return fmt.Errorf("%w: its output has another hash", ErrCheckpoint)
	}
	if h := c.head(); c.Header.Frames != h.Frames || c.Header.Depth != h.Depth {
		return fmt.Errorf("%w: its frames are not those of its header", ErrCheckpoint)
	}
	if c.Full {
		if c.tree = treeOf(c.Memory); c.tree.root() != c.MemoryRoot {
			return fmt.Errorf("%w: its memory has another root", ErrCheckpoint)
		}
	}
	return nil
}

// pages reads n pages, each preceded by a byte: 0 for a page of zeros, 1 for
// data.
func (p *parts) pages(n int) []byte {
	if p.err != nil {
		return nil
	}
	b := make([]byte, n*PageSize)
	Huge(b)
	for i := range n {
		var kind [1]byte
		switch page := pageOf(b, i); {
		case !p.read("memory", kind[:]):
			return nil
		case kind[0] == 1:
			if !p.read("memory", page) {
				return nil
			}
			if bytes.Equal(page, zeroPage[:]) {
				p.err = fmt.Errorf("%w: page %d is zeros but not marked as such", ErrCheckpoint, i)
			}
		case kind[0] != 0:
			p.err = fmt.Errorf("%w: page %d of kind %d", ErrCheckpoint, i, kind[0])
		}
	}
	return b
}
