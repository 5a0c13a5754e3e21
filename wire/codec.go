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
	// ErrMalformed means that the bytes are not the canonical encoding of a
	// valid message.
	ErrMalformed = errors.New("malformed message")
	// ErrTooBig means that a frame exceeds the maximum size of its message.
	ErrTooBig = errors.New("message too big")
)

// The encoding is core deterministic CBOR (RFC 8949 §4.2). Decoding is strict
// and compares the input with its re-encoding, so every value has exactly one
// form.
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
	// frameMode decodes peers' messages. An element of one byte can become a
	// struct of hundreds, so an array with too many elements is rejected before
	// it is allocated. No message has more elements than this limit.
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

// Marshal returns the canonical encoding of v.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal decodes b into v. It returns an error that wraps ErrMalformed if b
// is not exactly what Marshal would produce.
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

// Limited is a message with a maximum size and a check of its fields.
type Limited interface {
	// MaxSize returns the maximum size of the encoding, in bytes.
	MaxSize() int
	// Check returns an error for the first field that is out of range. It wraps
	// ErrMalformed.
	Check() error
}

// WriteFrame writes m as one frame: its length as 4 bytes big-endian, then its
// encoding. It returns an error, and writes nothing, if a field of m is out of
// range.
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

// ReadFrame reads one frame into m. It checks the length against m.MaxSize
// before it allocates anything, and the fields with m.Check.
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
