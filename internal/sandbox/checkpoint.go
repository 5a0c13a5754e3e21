package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"

	"github.com/zeebo/blake3"
)

// Checkpoint is what a run goes on from: spec/runtime.md §6 has its bytes.
type Checkpoint struct {
	Header
	// State is what the program handed to sync.
	State []byte
	// MemoryRoot is that of the memory, which a portable checkpoint lacks.
	MemoryRoot Digest
	Output     *Output

	// Full: the program goes on where it was, with its memory and the frames of
	// its calls; else it begins anew with its state.
	Full   bool
	Memory []byte
	Stack  []byte
	Depth  uint64 // what the engine counts of them

	tree Tree // of a full one that was read: over Memory itself
}

const (
	checkpointMagic = "bgckpt\x01"
	checkpointFull  = 1
	maxStack        = 16 << 20
)

// Root is the root of the state that the checkpoint holds.
func (c *Checkpoint) Root() Digest {
	var t Tree
	state, _ := t.Update(c.State)
	return rootOf(c.Encode(), c.MemoryRoot, state)
}

// Write writes the checkpoint.
func (c *Checkpoint) Write(w io.Writer) error {
	h := blake3.New()
	out := io.MultiWriter(w, h)
	flags := byte(0)
	if c.Full {
		flags = checkpointFull
	}
	head := c.Encode()
	b := append([]byte(checkpointMagic), flags)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(head))), head...)
	b = append(append(b, c.Output.middle()...), c.MemoryRoot[:]...)
	parts := [][]byte{b, c.State}
	if c.Full {
		parts = append(parts, append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, c.Depth), uint32(len(c.Stack))), c.Stack...))
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

// ReadCheckpoint reads one of a program and a job. It reads no more than the
// job's limits allow, and believes nothing before the sum at the end is right.
// Errors wrap ErrCheckpoint, ErrWrongProgram or ErrWrongJob.
func ReadCheckpoint(r io.Reader, program Digest, job *Job) (*Checkpoint, error) {
	most := int64(len(checkpointMagic)+1+4+headerSize+8*maxGlobals+32+64+32) + int64(job.Limits.State) +
		8 + 4 + maxStack + int64(job.Limits.Pages())*(PageSize+1) + 32
	var buf bytes.Buffer
	if f, ok := r.(interface{ Stat() (fs.FileInfo, error) }); ok {
		if s, err := f.Stat(); err == nil && s.Size() <= most {
			buf.Grow(int(s.Size()) + bytes.MinRead)
		}
	}
	if _, err := buf.ReadFrom(io.LimitReader(r, most+1)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	raw := buf.Bytes()
	switch {
	case int64(len(raw)) > most:
		return nil, fmt.Errorf("%w: more than the %d bytes that the job's limits allow", ErrCheckpoint, most)
	case len(raw) < len(checkpointMagic)+1+4+32 || string(raw[:len(checkpointMagic)]) != checkpointMagic:
		return nil, fmt.Errorf("%w: it does not begin as one does", ErrCheckpoint)
	}
	body, sum := raw[:len(raw)-32], raw[len(raw)-32:]
	if got := blake3.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: its %d bytes do not have the sum that stands at their end", ErrCheckpoint, len(raw))
	}
	return decodeCheckpoint(body, program, job)
}

// part cuts a checkpoint into pieces; what is missing shows in err.
type parts struct {
	b   []byte
	err error
}

func (p *parts) take(what string, n uint64) []byte {
	if n > uint64(len(p.b)) {
		if p.err == nil {
			p.err = fmt.Errorf("%w: %d bytes of its %s, %d are left", ErrCheckpoint, n, what, len(p.b))
		}
		p.b = nil
		return nil
	}
	b := p.b[:n:n]
	p.b = p.b[n:]
	return b
}

func (p *parts) u32(what string) uint64 {
	b := p.take(what, 4)
	if b == nil {
		return 0
	}
	return uint64(binary.BigEndian.Uint32(b))
}

func decodeCheckpoint(body []byte, program Digest, job *Job) (*Checkpoint, error) {
	p := &parts{b: body[len(checkpointMagic):]}
	c := &Checkpoint{}
	flags := p.take("flags", 1)
	if p.err == nil && flags[0] > checkpointFull {
		return nil, fmt.Errorf("%w: flags %d, of a newer version", ErrCheckpoint, flags[0])
	}
	c.Full = flags[0] == checkpointFull
	head := p.take("header", p.u32("header"))
	if p.err != nil {
		return nil, p.err
	}
	h, err := DecodeHeader(head)
	if err != nil {
		return nil, err
	}
	c.Header = *h
	switch l := &job.Limits; {
	case h.Program != program:
		return nil, fmt.Errorf("%w: it is of program %v, this is %v", ErrWrongProgram, h.Program, program)
	case h.Job != job.Digest():
		return nil, fmt.Errorf("%w: the same program with other arguments, input, seed, time or limits", ErrWrongJob)
	case h.Done:
		return nil, fmt.Errorf("%w: of a program that had ended", ErrCheckpoint)
	case h.Epoch == 0 || h.Epoch > l.Epochs || h.Fuel > l.Fuel || h.Total < h.Fuel || h.Total/l.Fuel > h.Epoch || uint64(h.StateSize) > l.State || uint64(h.MemoryPages) > uint64(l.Pages()):
		return nil, fmt.Errorf("%w: it is beyond the job's limits", ErrCheckpoint)
	}
	middle := p.take("output", 32+h.OutputSize%64)
	copy(c.MemoryRoot[:], p.take("memory's root", 32))
	c.State = p.take("state", uint64(h.StateSize))
	if c.Full {
		if d := p.take("depth", 8); d != nil {
			c.Depth = binary.BigEndian.Uint64(d)
		}
		c.Stack = p.take("stack", p.u32("stack"))
		c.Memory = p.pages(int(h.MemoryPages))
	}
	if p.err == nil && len(p.b) > 0 {
		p.err = fmt.Errorf("%w: %d bytes too many", ErrCheckpoint, len(p.b))
	}
	if p.err != nil {
		return nil, p.err
	}
	if c.Output, err = resumeOutput(job.Limits.Output, h.OutputSize, middle); err != nil {
		return nil, err
	}
	if c.Output.Sum() != h.OutputSHA256 {
		return nil, fmt.Errorf("%w: its output has another hash", ErrCheckpoint)
	}
	if c.Full {
		if c.tree = treeOf(c.Memory); c.tree.root() != c.MemoryRoot {
			return nil, fmt.Errorf("%w: its memory has another root", ErrCheckpoint)
		}
	}
	return c, nil
}

// pages reads n pages, each with a byte in front: 0 is a page of zeros.
func (p *parts) pages(n int) []byte {
	b := make([]byte, n*PageSize)
	for i := range n {
		switch kind := p.take("memory", 1); {
		case p.err != nil:
			return nil
		case kind[0] == 1:
			copy(b[i*PageSize:], p.take("memory", PageSize))
		case kind[0] != 0:
			p.err = fmt.Errorf("%w: page %d of kind %d", ErrCheckpoint, i, kind[0])
			return nil
		}
	}
	return b
}
