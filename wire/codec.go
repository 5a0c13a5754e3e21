package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// Errors of the codec.
var (
	// ErrMalformed: the bytes are not the one encoding of a valid message.
	ErrMalformed = errors.New("malformed message")
	// ErrTooBig: a frame is larger than its message may be.
	ErrTooBig = errors.New("message too big")
)

// Encoding is core deterministic CBOR (RFC 8949 §4.2); decoding is strict and
// then compares with its own encoding, so that every value has one form.
var (
	encMode = func() cbor.EncMode {
		o := cbor.CoreDetEncOptions()
		// Null would be a second form of an empty string or list.
		o.NilContainers = cbor.NilContainerAsEmpty
		m, err := o.EncMode()
		if err != nil {
			panic(err)
		}
		return m
	}()
	decMode = newDecMode(1<<16, 1<<10)
	// frameMode reads what peers send. An element of one byte becomes a struct
	// of hundreds, so an array is refused for its length before it is made; no
	// message has more elements.
	frameMode = newDecMode(32, 16)
)

func newDecMode(elements, pairs int) cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   16,
		MaxArrayElements:  elements,
		MaxMapPairs:       pairs,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

// Marshal returns v's one encoding.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal reads into v the one encoding that Marshal gives, and refuses any
// other bytes with ErrMalformed.
func Unmarshal(b []byte, v any) error { return unmarshal(decMode, b, v) }

func unmarshal(mode cbor.DecMode, b []byte, v any) error {
	if err := mode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if !bytes.Equal(b, again) {
		return fmt.Errorf("%w: not the deterministic encoding", ErrMalformed)
	}
	return nil
}

// Limited is a message that knows its largest encoding and checks its fields.
type Limited interface {
	// MaxSize is the largest encoding in bytes.
	MaxSize() int
	// Check reports the first field that is out of range, wrapping
	// ErrMalformed.
	Check() error
}

// WriteFrame writes m as one frame: its length as 4 bytes big-endian, then its
// encoding. A message that is itself out of range is refused, not sent.
func WriteFrame(w io.Writer, m Limited) error {
	if err := m.Check(); err != nil {
		return err
	}
	b, err := Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > m.MaxSize() {
		return fmt.Errorf("%w: %d bytes of at most %d", ErrTooBig, len(b), m.MaxSize())
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

// ReadFrame reads one frame into m. The length is checked against m.MaxSize
// before anything is allocated, the fields by m.Check.
func ReadFrame(r io.Reader, m Limited) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(m.MaxSize()) {
		return fmt.Errorf("%w: %d bytes of at most %d", ErrTooBig, n, m.MaxSize())
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if err := unmarshal(frameMode, b, m); err != nil {
		return err
	}
	return m.Check()
}
