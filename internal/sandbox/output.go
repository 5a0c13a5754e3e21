package sandbox

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
)

// Output is a program's output: the bytes of this epoch, and the size and hash
// of everything.
type Output struct {
	limit uint64
	size  uint64
	hash  hash.Hash
	epoch []byte
}

// NewOutput returns an empty output of at most limit bytes.
func NewOutput(limit uint64) *Output { return &Output{limit: limit, hash: sha256.New()} }

// Write appends to the output. If it exceeds the limit, nothing is appended and
// the error wraps ErrOutput.
func (o *Output) Write(b []byte) (int, error) {
	if uint64(len(b)) > o.limit-o.size {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrOutput, o.limit)
	}
	o.size += uint64(len(b))
	o.epoch = append(o.epoch, b...)
	return o.hash.Write(b)
}

// Size and Sum are those of all bytes so far.
func (o *Output) Size() uint64 { return o.size }

func (o *Output) Sum() (d [32]byte) {
	o.hash.Sum(d[:0])
	return d
}

// Mark is a position in the output; Back returns to it and discards this
// epoch's bytes.
type Mark struct {
	size   uint64
	middle []byte
}

func (o *Output) Mark() Mark { return Mark{o.size, o.middle()} }

func (o *Output) Back(m Mark) {
	was, err := resumeOutput(o.limit, m.size, m.middle)
	if err != nil {
		panic(err) // a mark is this output's own
	}
	*o = *was
}

// Take returns the bytes written since the last call.
func (o *Output) Take() []byte {
	b := o.epoch
	o.epoch = nil
	return b
}

// Layout of crypto/sha256's serialised state: a magic, eight words, the
// unfinished block, the length.
const (
	shaMagic = "sha\x03"
	shaSize  = len(shaMagic) + 32 + 64 + 8
)

// middle returns the state of SHA-256: its eight words and the unfinished
// block.
func (o *Output) middle() []byte {
	b, err := o.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || len(b) != shaSize || string(b[:len(shaMagic)]) != shaMagic {
		panic("crypto/sha256 keeps its state in another form") // TestOutput would fail
	}
	return b[len(shaMagic) : len(shaMagic)+32+int(o.size%64)]
}

// resumeOutput continues from a size and the result of middle at that point.
func resumeOutput(limit, size uint64, middle []byte) (*Output, error) {
	if size > limit || len(middle) != 32+int(size%64) {
		return nil, fmt.Errorf("%w: an output of %d bytes where %d are possible", ErrCheckpoint, size, limit)
	}
	b := append(append(make([]byte, 0, shaSize), shaMagic...), middle...)
	b = binary.BigEndian.AppendUint64(append(b, make([]byte, shaSize-8-len(b))...), size)
	o := NewOutput(limit)
	o.size = size
	if err := o.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return o, nil
}
