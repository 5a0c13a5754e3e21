package rewrite

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// segmentsOf encodes a data section of active segments at these places.
func segmentsOf(at []uint32, data [][]byte) []byte {
	out := appendU32(nil, uint32(len(at)))
	for i, a := range at {
		out = append(appendS64(append(out, 0, opI32Const), int64(int32(a))), opEnd)
		out = append(appendU32(out, uint32(len(data[i]))), data[i]...)
	}
	return out
}

// applied is a memory of that many pages after the segments of a section, and how many
// there are.
func applied(t *testing.T, section []byte, pages int) ([]byte, uint32) {
	t.Helper()
	memory := make([]byte, pages<<16)
	r := &reader{b: section}
	n := r.u32()
	for range n {
		if r.byte() != 0 || r.byte() != opI32Const {
			t.Fatal("no active segment")
		}
		at := uint32(r.signed(32))
		r.byte()
		data := r.take(r.u32())
		copy(memory[at:int(at)+len(data)], data)
	}
	if r.err != nil || !r.end() {
		t.Fatal(r.err)
	}
	return memory, n
}

// TestJoined: a memory has the same content after the joined segments, whatever their
// order and however they overlap.
func TestJoined(t *testing.T) {
	const pages = 2
	r := rand.New(rand.NewPCG(1, 0))
	for range 300 {
		var at []uint32
		var data [][]byte
		for range r.IntN(200) {
			d := make([]byte, r.IntN(100))
			if r.IntN(3) > 0 {
				for i := range d {
					d[i] = byte(r.IntN(3))
				}
			}
			a := r.IntN(pages<<16 - len(d) + 1)
			if r.IntN(2) == 0 {
				a = r.IntN(2000)
			}
			at, data = append(at, uint32(a)), append(data, d)
		}
		section := segmentsOf(at, data)
		want, before := applied(t, section, pages)
		got, after := applied(t, joined(section, pages), pages)
		if !bytes.Equal(got, want) || after > max(before, 1)*2 {
			t.Fatalf("%d segments become %d, the same content: %t", before, after, bytes.Equal(got, want))
		}
	}
	small := make([]byte, 10)
	var row []uint32
	var of [][]byte
	for i := range 1000 {
		row, of = append(row, uint32(20*i)), append(of, append([]byte{1}, small...))
	}
	if _, n := applied(t, joined(segmentsOf(row, of), pages), pages); n != 1 {
		t.Errorf("a row becomes %d segments", n)
	}
	for name, section := range map[string][]byte{
		"beyond the memory":      segmentsOf([]uint32{0, pages<<16 - 9}, [][]byte{small, small}),
		"empty beyond":           segmentsOf([]uint32{0, pages<<16 + 1}, [][]byte{small, nil}),
		"at a negative place":    segmentsOf([]uint32{1<<32 - 1}, [][]byte{small}),
		"passive":                {1, 1, 1, 'x'},
		"at a global's place":    {1, 0, opGlobalGet, 0, opEnd, 1, 'x'},
		"with more than a place": {1, 0, opI32Const, 1, opI32Const, 2, opI32Add, opEnd, 1, 'x'},
	} {
		if !bytes.Equal(joined(section, pages), section) {
			t.Errorf("%s: it is changed", name)
		}
	}
}
