package seal

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"github.com/bitgram/bitgram/wire"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// ChunkSize is the number of plaintext bytes of every chunk but the last.
	ChunkSize = 64 << 10

	// tagSize is what the AEAD adds to each chunk.
	tagSize = chacha20poly1305.Overhead
)

// stream is the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár
// 2015) as age uses it: ChaCha20-Poly1305 under a key that encrypts one stream
// only, with the nonce counter(11, big-endian) ‖ last(1).
type stream struct {
	aead  cipher.AEAD
	nonce [chacha20poly1305.NonceSize]byte
}

func newStream(key wire.Secret) stream {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic("seal: aead: " + err.Error()) // 32 bytes: can't happen
	}
	return stream{aead: aead}
}

// advance increments the counter. It cannot wrap: the size limits end a stream
// after fewer than 2¹⁷ chunks.
func (s *stream) advance() {
	for i := len(s.nonce) - 2; i >= 0; i-- {
		if s.nonce[i]++; s.nonce[i] != 0 {
			return
		}
	}
	panic("seal: stream counter wrapped")
}

// seal encrypts buf[:n] in place and returns it with its tag. buf has room.
func (s *stream) seal(buf []byte, n int, last bool) []byte {
	if last {
		s.nonce[len(s.nonce)-1] = 1
	}
	out := s.aead.Seal(buf[:0], s.nonce[:], buf[:n], nil)
	s.advance()
	return out
}

// open decrypts buf in place.
func (s *stream) open(buf []byte, last bool) ([]byte, error) {
	if last {
		s.nonce[len(s.nonce)-1] = 1
	}
	out, err := s.aead.Open(buf[:0], s.nonce[:], buf, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: chunk does not authenticate", ErrCorrupt)
	}
	s.advance()
	return out, nil
}

// opener reads a stream chunk by chunk. It reads one byte ahead, so the last
// flag follows from the end of the input and never from a second attempt.
type opener struct {
	stream
	src   io.Reader
	left  uint64 // bytes of src that may still come
	buf   [ChunkSize + tagSize + 1]byte
	carry int // 1 when buf[len-1] is the first byte of the next chunk
}

func newOpener(src io.Reader, key wire.Secret, limit uint64) *opener {
	return &opener{stream: newStream(key), src: src, left: limit}
}

// next returns the next chunk's plaintext, valid until the next call, and
// whether it was the last.
func (o *opener) next() (plain []byte, last bool, err error) {
	const whole = ChunkSize + tagSize
	o.buf[0] = o.buf[whole] // nothing, in the first chunk
	n, eof, err := fill(o.src, o.buf[o.carry:])
	if err != nil {
		return nil, false, err
	}
	if uint64(n) > o.left {
		return nil, false, ErrTooLarge
	}
	o.left -= uint64(n)
	n += o.carry
	last = eof
	if last && n <= tagSize {
		return nil, false, fmt.Errorf("%w: truncated", ErrCorrupt)
	}
	o.carry = 1
	plain, err = o.open(o.buf[:min(n, whole)], last)
	return plain, last, err
}

// fill reads until buf is full or src ends, and reports which. Unlike
// io.ReadFull, it never takes a source's own io.ErrUnexpectedEOF for the end: a
// truncated input is an error, not a shorter message.
func fill(src io.Reader, buf []byte) (n int, eof bool, err error) {
	for idle := 0; n < len(buf); {
		m, err := src.Read(buf[n:])
		if m < 0 || m > len(buf)-n {
			return n, false, errors.New("seal: reader returned a bad count")
		}
		n += m
		switch {
		case err == io.EOF:
			return n, n < len(buf), nil
		case err != nil:
			return n, false, fmt.Errorf("read: %w", err)
		case m > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return n, false, fmt.Errorf("read: %w", io.ErrNoProgress)
			}
		}
	}
	return n, false, nil
}

// write writes all of b to dst.
func write(dst io.Writer, b []byte) error {
	n, err := dst.Write(b)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
