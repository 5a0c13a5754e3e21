package seal

import (
	"fmt"
	"io"

	"github.com/bitgram/bitgram/wire"
	"github.com/zeebo/blake3"
)

// MaxSealed is SealedSize(MaxPayload).
const MaxSealed = 4_364_206_360

// SealedInfo describes an agent's sealed copy.
type SealedInfo struct {
	Size uint64    // bytes
	Hash wire.Hash // BLAKE3 of the sealed bytes: cᵢ
}

// SealedSize returns the exact size of the sealed copy for a payload of that
// many bytes, or 0 if the payload is empty or larger than MaxPayload.
func SealedSize(payload uint64) uint64 {
	if payload == 0 || payload > MaxPayload {
		return 0
	}
	return payload + chunks(payload)*tagSize
}

// SealKey returns κ for agent, from the sender's e and the agent's point T. κ
// also commits to the message key K and so to the payload: no two payloads are
// sealed under one κ. Errors wrap wire.ErrBadKey.
func SealKey(e wire.Secret, T, agent wire.Key, K wire.MessageKey) (wire.Secret, error) {
	priv, err := e.PrivKey()
	if err != nil {
		return wire.Secret{}, fmt.Errorf("ephemeral secret: %w", err)
	}
	p, err := T.Point()
	if err != nil {
		return wire.Secret{}, fmt.Errorf("agent's point: %w", err)
	}
	return copyKey(ecdh(&priv.Key, p), wire.XOnly(priv.PubKey()), T, agent, K), nil
}

// UnsealKey returns κ for agent, from its revealed τ (of either parity) and E.
// The caller must first check that τ belongs to the leaf, that is, that τG has
// the x coordinate T. Errors wrap wire.ErrBadKey.
func UnsealKey(tau wire.Secret, E, agent wire.Key, K wire.MessageKey) (wire.Secret, error) {
	priv, err := tau.PrivKey()
	if err != nil {
		return wire.Secret{}, fmt.Errorf("agent's secret: %w", err)
	}
	p, err := E.Point()
	if err != nil {
		return wire.Secret{}, fmt.Errorf("ephemeral key: %w", err)
	}
	return copyKey(ecdh(&priv.Key, p), E, wire.XOnly(priv.PubKey()), agent, K), nil
}

func copyKey(x [32]byte, e, t, agent wire.Key, k wire.MessageKey) (kappa wire.Secret) {
	prk := extract("seal", x[:])
	expand(&prk, kappa[:], roleCopy, e[:], t[:], agent[:], k[:])
	return kappa
}

// sealer makes a sealed copy chunk by chunk, in place.
type sealer struct {
	stream
	src    io.Reader
	size   uint64 // of the payload so far
	carry  int    // 1 when next is the first byte of the next chunk
	next   byte
	buf    [ChunkSize + tagSize]byte
	ended  bool
	failed error
}

func newSealer(src io.Reader, kappa wire.Secret) *sealer {
	return &sealer{stream: newStream(kappa), src: src, failed: unset(kappa)}
}

// chunk returns the next sealed chunk, valid until the next call, or io.EOF
// after the last. Errors are permanent.
func (s *sealer) chunk() ([]byte, error) {
	if s.failed != nil {
		return nil, s.failed
	}
	if s.ended {
		return nil, io.EOF
	}
	s.buf[0] = s.next
	n, eof, err := fill(s.src, s.buf[s.carry:ChunkSize+1])
	s.size += uint64(n)
	n += s.carry
	switch {
	case err != nil:
	case n == 0:
		err = ErrEmpty
	case s.size > MaxPayload:
		err = ErrTooLarge
	}
	if err != nil {
		s.failed = err
		return nil, err
	}
	s.carry, s.next, s.ended = 1, s.buf[ChunkSize], eof
	return s.seal(s.buf[:], min(n, ChunkSize), eof), nil
}

// SealTo writes the copy of the payload src, sealed under kappa, to dst, in one
// pass and constant memory. It returns ErrEmpty for an empty payload,
// ErrTooLarge for one over MaxPayload, and wire.ErrBadKey for a kappa of zeros;
// errors of dst and src are wrapped.
func SealTo(dst io.Writer, src io.Reader, kappa wire.Secret) (SealedInfo, error) {
	var (
		s    = newSealer(src, kappa)
		h    = blake3.New()
		info SealedInfo
	)
	for {
		b, err := s.chunk()
		if err == io.EOF {
			info.Hash = hashSum(h)
			return info, nil
		}
		if err != nil {
			return SealedInfo{}, err
		}
		_, _ = h.Write(b) // never fails
		info.Size += uint64(len(b))
		if err := write(dst, b); err != nil {
			return SealedInfo{}, err
		}
	}
}

// SealReader returns a reader that seals src as it is read, like SealTo. Its
// errors are those of SealTo, and are permanent.
func SealReader(src io.Reader, kappa wire.Secret) io.Reader {
	return &sealReader{sealer: newSealer(src, kappa)}
}

type sealReader struct {
	sealer *sealer
	rest   []byte
}

func (r *sealReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.rest) == 0 {
		var err error
		if r.rest, err = r.sealer.chunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Format hides what is read from every verb of fmt.
func (*sealReader) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(sealed reader)")) }

// Unseal writes the payload of the sealed copy src to dst and returns its size,
// in one pass and constant memory. Chunks are written as they authenticate, so
// the payload is complete only if the error is nil. It returns ErrCorrupt if
// the copy was altered, truncated, extended or sealed under another key,
// ErrTooLarge if it is over MaxSealed, and wire.ErrBadKey if kappa is zero;
// errors of dst and src are wrapped.
func Unseal(dst io.Writer, src io.Reader, kappa wire.Secret) (uint64, error) {
	if err := unset(kappa); err != nil {
		return 0, err
	}
	var (
		in   = newOpener(src, kappa, MaxSealed)
		size uint64
	)
	for {
		plain, last, err := in.next()
		if err != nil {
			return 0, err
		}
		if err := write(dst, plain); err != nil {
			return 0, err
		}
		size += uint64(len(plain))
		if last {
			return size, nil
		}
	}
}
