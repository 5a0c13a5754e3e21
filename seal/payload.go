package seal

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/bitgram/bitgram/wire"
	"github.com/zeebo/blake3"
)

// The payload's header: magic and version. Only these bytes are accepted, so
// they need no authentication.
const (
	payloadMagic   = "bitgram"
	payloadVersion = 1
	headerSize     = len(payloadMagic) + 1
)

// MaxPayload is PayloadSize(MaxBody).
const MaxPayload = 4_363_141_128

// PayloadInfo tells about an encrypted payload P.
type PayloadInfo struct {
	Size uint64    // bytes of P
	Hash wire.Hash // BLAKE3 of P: hash(P) of the message key
	Body uint64    // bytes of the body
}

// Message tells about a decrypted message.
type Message struct {
	Sender wire.Key  // the identity whose signature was verified
	Size   uint64    // bytes of the body
	Hash   wire.Hash // BLAKE3 of the body
}

// PayloadSize is the exact size of the payload of a body of that many bytes, or
// 0 where there is none: an empty body or one over MaxBody.
func PayloadSize(body uint64) uint64 {
	if body == 0 || body > MaxBody {
		return 0
	}
	n := plainSize(body)
	return uint64(headerSize) + n + chunks(n)*tagSize
}

// messageDigest is what the sender signs: H[message](R ‖ E ‖ hash ‖ length).
func (s *Secrets) messageDigest(body wire.Hash, size uint64) wire.Hash {
	return wire.Tagged("message", s.r[:], s.e[:], body[:], binary.BigEndian.AppendUint64(nil, size))
}

// hashSum is the BLAKE3 digest that h has come to.
func hashSum(h *blake3.Hasher) (out wire.Hash) {
	h.Sum(out[:0])
	return out
}

// Encrypt writes the payload P of the body src to dst, signed inside by the
// identity sender, in one pass and constant memory.
//
// It is deterministic: e, the body and sender decide every byte. A second call
// on the same Secrets is ErrSpent, whatever became of the first. ErrEmpty is
// an empty body, ErrTooLarge one over MaxBody, wire.ErrBadKey an impossible
// sender; errors of dst and src are wrapped. After an error what was written
// is to be thrown away.
func (s *Secrets) Encrypt(dst io.Writer, src io.Reader, sender wire.Secret) (PayloadInfo, error) {
	priv, err := sender.PrivKey()
	if err != nil {
		return PayloadInfo{}, fmt.Errorf("sender secret: %w", err)
	}
	if err := unset(s.ss); err != nil {
		return PayloadInfo{}, err
	}
	if !s.spend() {
		return PayloadInfo{}, ErrSpent
	}
	var (
		st       = newStream(s.contentKey())
		whole    = blake3.New() // of P
		body     = blake3.New()
		info     PayloadInfo
		plainLen uint64
	)
	emit := func(b []byte) error {
		_, _ = whole.Write(b) // never fails
		info.Size += uint64(len(b))
		return write(dst, b)
	}
	// One chunk, sealed in place: the tag's room holds, while reading, the byte
	// by which we know that more content follows.
	var buf [ChunkSize + tagSize]byte
	chunk := func(count, n int, last bool) error {
		putCount(buf[:], count)
		plainLen += uint64(n)
		return emit(st.seal(buf[:], n, last))
	}
	take := func(count int) error {
		_, _ = body.Write(buf[countSize : countSize+count])
		if info.Body += uint64(count); info.Body > MaxBody {
			return ErrTooLarge
		}
		return nil
	}

	n, eof, err := fill(src, buf[countSize:ChunkSize+1])
	if err != nil {
		return PayloadInfo{}, err
	}
	if n == 0 {
		return PayloadInfo{}, ErrEmpty
	}
	if err := emit(append([]byte(payloadMagic), payloadVersion)); err != nil {
		return PayloadInfo{}, err
	}
	for !eof {
		next := buf[ChunkSize]
		if err := take(fullCount); err != nil {
			return PayloadInfo{}, err
		}
		if err := chunk(fullCount, ChunkSize, false); err != nil {
			return PayloadInfo{}, err
		}
		buf[countSize] = next
		n, eof, err = fill(src, buf[countSize+1:ChunkSize+1])
		if err != nil {
			return PayloadInfo{}, err
		}
		n++
	}
	// The rest fits one chunk, so the body's size is known, and the padding's.
	if err := take(n); err != nil {
		return PayloadInfo{}, err
	}
	clear(buf[countSize+n:])
	total := plainSize(info.Body)
	for total-plainLen > ChunkSize {
		if err := chunk(n, ChunkSize, false); err != nil {
			return PayloadInfo{}, err
		}
		clear(buf[:])
		n = 0
	}
	key := wire.XOnly(priv.PubKey())
	sig, err := sign(priv, s.messageDigest(hashSum(body), info.Body))
	if err != nil {
		return PayloadInfo{}, err
	}
	lastLen := int(total - plainLen)
	copy(buf[lastLen-trailerSize:], key[:])
	copy(buf[lastLen-signatureSize:], sig[:])
	if err := chunk(n, lastLen, true); err != nil {
		return PayloadInfo{}, err
	}
	info.Hash = hashSum(whole)
	return info, nil
}

// Decrypt writes the body of the payload src to dst, in one pass and constant
// memory, and returns who signed it.
//
// Chunks are written as they authenticate; only the end tells whether the
// message is whole and signed. Nothing written may be used before Decrypt
// returned nil.
//
// ErrCorrupt is a payload that was altered, cut, extended, not canonical or
// for someone else; ErrVersion one of another version; ErrSignature one whose
// sender did not sign it for this E and R; ErrTooLarge one over MaxBody. Errors
// of dst and src are wrapped.
func (s *Secrets) Decrypt(dst io.Writer, src io.Reader) (Message, error) {
	if err := unset(s.ss); err != nil {
		return Message{}, err
	}
	var head [headerSize]byte
	if n, _, err := fill(src, head[:]); err != nil {
		return Message{}, err
	} else if n < headerSize || string(head[:headerSize-1]) != payloadMagic {
		return Message{}, fmt.Errorf("%w: not a payload", ErrCorrupt)
	}
	if head[headerSize-1] != payloadVersion {
		return Message{}, fmt.Errorf("%w: payload version %d", ErrVersion, head[headerSize-1])
	}
	var (
		in   = newOpener(src, s.contentKey(), MaxPayload-uint64(headerSize))
		un   unframer
		body = blake3.New()
	)
	for {
		plain, last, err := in.next()
		if err != nil {
			return Message{}, err
		}
		content, trailer, err := un.chunk(plain, last)
		if err != nil {
			return Message{}, err
		}
		if len(content) > 0 {
			_, _ = body.Write(content) // never fails
			if err := write(dst, content); err != nil {
				return Message{}, err
			}
		}
		if !last {
			continue
		}
		m := Message{Sender: wire.Key(trailer[:32]), Size: un.body, Hash: hashSum(body)}
		if err := verify(m.Sender, s.messageDigest(m.Hash, m.Size), trailer[32:]); err != nil {
			return Message{}, err
		}
		return m, nil
	}
}
