package seal

import (
	"bytes"
	"fmt"
	"math/bits"
)

// The plaintext of a payload is a sequence of chunks of ChunkSize bytes; the
// last may be shorter:
//
//	each chunk  count(3, big-endian) ‖ content(count) ‖ zeros
//	the last    count(3) ‖ content(count) ‖ zeros ‖ sender(32) ‖ signature(64)
//
// Content fills the chunks from the front. The total size depends only on the
// body's size (plainSize), so a body has exactly one framing.
const (
	countSize   = 3
	trailerSize = 32 + signatureSize
	fullCount   = ChunkSize - countSize               // content of a full chunk
	lastCount   = ChunkSize - countSize - trailerSize // the same, in the last
	minPlain    = 512

	// MaxBody is the largest body, 4 GiB.
	MaxBody = 4 << 30
)

// padme rounds n up as in Nikitin et al., "Reducing Metadata Leakage from
// Encrypted Files and Communication with PURBs" (2019), §4: only the top
// ⌊log₂⌊log₂ n⌋⌋+1 bits below the leading bit may be set. This adds less than
// 12 % and leaks O(log log n) bits of the size.
func padme(n uint64) uint64 {
	if n < 2 {
		return n
	}
	e := bits.Len64(n) - 1
	s := bits.Len64(uint64(e)) // ⌊log₂ e⌋ + 1, and 0 for e = 0, not reached
	if s >= e {
		return n
	}
	mask := uint64(1)<<(e-s) - 1
	return (n + mask) &^ mask
}

// plainSize returns the number of plaintext bytes that frame a body of
// 1..MaxBody bytes. If padding reaches into another chunk, that chunk has at
// least 2,048 bytes (Padmé's step at 64 KiB and above), so the trailer never
// spans two chunks.
func plainSize(body uint64) uint64 {
	n := body / fullCount * ChunkSize
	if r := body % fullCount; r <= lastCount {
		n += countSize + r + trailerSize
	} else { // the rest fits a chunk, but not beside the trailer
		n += ChunkSize + countSize + trailerSize
	}
	return max(minPlain, padme(n))
}

// chunks returns the number of chunks for n bytes of plaintext.
func chunks(n uint64) uint64 { return (n + ChunkSize - 1) / ChunkSize }

// putCount writes the count at the head of a chunk.
func putCount(chunk []byte, n int) {
	chunk[0], chunk[1], chunk[2] = byte(n>>16), byte(n>>8), byte(n)
}

// unframer checks that a sequence of chunks has the canonical form.
type unframer struct {
	body  uint64 // content so far
	total uint64 // plaintext so far
	ended bool   // a chunk was not full: no more content may come
}

// chunk processes the next chunk and returns its content and, for the last one,
// the trailer.
func (u *unframer) chunk(plain []byte, last bool) (content, trailer []byte, err error) {
	rest := plain
	if last {
		if len(rest) < countSize+trailerSize {
			return nil, nil, fmt.Errorf("%w: no room for the trailer", ErrCorrupt)
		}
		rest, trailer = rest[:len(rest)-trailerSize], rest[len(rest)-trailerSize:]
	}
	// The three bytes of count exist, because chunks before the last are full.
	count := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
	rest = rest[countSize:]
	if count > len(rest) || u.ended && count != 0 {
		return nil, nil, fmt.Errorf("%w: content count", ErrCorrupt)
	}
	content, rest = rest[:count], rest[count:]
	if !zero(rest) {
		return nil, nil, fmt.Errorf("%w: padding is not zero", ErrCorrupt)
	}
	u.body += uint64(count)
	u.total += uint64(len(plain))
	u.ended = u.ended || last || count < fullCount
	if u.body > MaxBody {
		return nil, nil, ErrTooLarge
	}
	// Once the body's size is known, so is the plaintext's.
	if u.ended {
		want := plainSize(u.body)
		if u.body == 0 || u.total > want || last != (u.total == want) {
			return nil, nil, fmt.Errorf("%w: padded size", ErrCorrupt)
		}
	}
	return content, trailer, nil
}

var zeros [4096]byte

// zero reports whether b is all zeros.
func zero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
