package seal

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/bitgram/bitgram/wire"
	"github.com/zeebo/blake3"
)

// The payload's header: magic and version. No other bytes are accepted, so the
// header needs no authentication.
const (
	payloadMagic   = "bitgram"
	payloadVersion = 1
	headerSize     = len(payloadMagic) + 1
)

// MaxPayload is PayloadSize(MaxBody).
const MaxPayload = 4_363_141_128

// PayloadInfo describes an encrypted payload P.
type PayloadInfo struct {
	Size uint64    // bytes of P
	Hash wire.Hash // BLAKE3 of P, the hash(P) of the message key
	Body uint64    // bytes of the body
}

// Message describes a decrypted message.
type Message struct {
	Sender wire.Key  // the identity whose signature was verified
	Size   uint64    // bytes of the body
	Hash   wire.Hash // BLAKE3 of the body
}

// PayloadSize returns the exact size of the payload for a body of that many
// bytes, or 0 if the body is empty or larger than MaxBody.
func PayloadSize(body uint64) uint64 {
	if body == 0 || body > MaxBody {
		return 0
	}
	n := plainSize(body)
	return uint64(headerSize) + n + chunks(n)*tagSize
}

// messageDigest returns what the sender signs: H[message](R ‖ E ‖ hash ‖
// length).
func (s *Secrets) messageDigest(body wire.Hash, size uint64) wire.Hash {
	return wire.Tagged("message", s.r[:], s.e[:], body[:], binary.BigEndian.AppendUint64(nil, size))
}

// hashSum returns the current BLAKE3 digest of h.
func hashSum(h *blake3.Hasher) (out wire.Hash) {
	h.Sum(out[:0])
	return out
}

// Encrypt writes the payload P of the body src to dst, signed inside by the
// identity sender, in one pass and constant memory.
//
// It is deterministic: e, the body and sender determine every byte. A second
// call on the same Secrets returns ErrSpent, even if the first failed. It
// returns ErrEmpty for an empty body, ErrTooLarge for one over MaxBody, and
// wire.ErrBadKey for an invalid sender; errors of dst and src are wrapped.
// After an error the output must be discarded.
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
	// One chunk is sealed in place. While reading, the first byte of the tag's
	// room holds the next byte of input, which shows that more content follows.
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
	// The rest fits one chunk, so the sizes of the body and of the padding are
	// known.
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
// Chunks are written as they authenticate, but only the end shows whether the
// message is complete and signed. The output must not be used before Decrypt
// has returned nil.
//
// It returns ErrCorrupt if the payload was altered, truncated, extended, is not
// canonical or is for someone else; ErrVersion if it has another version;
// ErrSignature if the sender did not sign it for this E and R; ErrTooLarge if
// the body is over MaxBody. Errors of dst and src are wrapped.
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
