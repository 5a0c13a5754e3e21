package rewrite

import (
	"fmt"

	"github.com/zeebo/blake3"
)

// Numbers of sections.
const (
	codeSection      = 10
	dataSection      = 11
	dataCountSection = 12
)

// Shell returns the module with functions that do nothing but trap, and with a
// custom section that names the module it was made of. The segments of data are joined
// if no instruction can name one. Everything else is the same, so it is instantiated like
// the module, but takes far less time to decode and validate.
func (m *Module) Shell() (*Module, error) {
	r := &reader{b: m.Binary}
	out := append([]byte(nil), r.take(8)...)
	counted := false
	for !r.end() {
		id := r.byte()
		body := r.take(r.u32())
		counted = counted || id == dataCountSection
		if id == dataSection && !counted { // memory.init would need the count
			body = joined(body, m.MinPages)
		}
		if id == codeSection {
			n := (&reader{b: body}).u32()
			body = appendU32(nil, n)
			for range n {
				body = append(body, 3, 0, opUnreachable, opEnd)
			}
		}
		out = append(appendU32(append(out, id), uint32(len(body))), body...)
	}
	if r.err != nil {
		return nil, fmt.Errorf("its own output: %w", r.err)
	}
	sum := blake3.Sum256(m.Binary)
	name := append(appendName(nil, reserved+"code"), sum[:]...)
	shell := *m
	shell.Binary = append(appendU32(append(out, 0), uint32(len(name))), name...)
	return &shell, nil
}

// maxJoined is the end of the memory up to which joined works, in bytes.
const maxJoined = 64 << 20

// joined returns a data section that gives a new memory of that many pages the same
// content with few segments: a Go program has tens of thousands, of a few bytes each. It
// returns the section as it is if a segment is not at a constant place in the memory.
func joined(section []byte, pages uint32) []byte {
	size := min(uint64(pages)<<16, maxJoined)
	var memory []byte
	r := &reader{b: section}
	for range r.u32() {
		active, op := r.u32() == 0, r.byte()
		if !active || op != opI32Const {
			return section
		}
		at := uint32(r.signed(32))
		end := r.byte()
		data := r.take(r.u32())
		to := uint64(at) + uint64(len(data))
		if end != opEnd || r.err != nil || to > size {
			return section
		}
		if n := uint64(len(memory)); n < to {
			memory = append(memory, make([]byte, to-n)...)
		}
		copy(memory[at:], data)
	}
	if r.err != nil || !r.end() {
		return section
	}
	const gap = 64 // zeros that a segment contains rather than to end
	var out []byte
	n := uint32(0)
	for from := 0; ; n++ {
		for from < len(memory) && memory[from] == 0 {
			from++
		}
		if from == len(memory) {
			break
		}
		to := from
		for i := from; i < len(memory) && i-to <= gap; i++ {
			if memory[i] != 0 {
				to = i + 1
			}
		}
		out = append(appendS64(append(out, 0, opI32Const), int64(int32(from))), opEnd)
		out = append(appendU32(out, uint32(to-from)), memory[from:to]...)
		from = to
	}
	return append(appendU32(nil, n), out...)
}
