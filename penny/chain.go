package penny

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

const (
	// NonceSize is the length of a chain's nonce, bytes.
	NonceSize = 24
	// ClassicSize is the length of a secret in the classic form, in bytes.
	// Secrets up to this size are for study only, because they can be found by
	// brute force.
	ClassicSize = 5
	// MinSize and MaxSize are the limits of a secret's length in bytes if money
	// depends on it.
	MinSize, MaxSize = 16, sha256.Size
	// seqSize is the length of a sequence number on the wire, in bytes.
	seqSize = 3
	// MaxSeq is the largest sequence number, and so the maximum number of
	// pennies in a chain.
	MaxSeq = 1<<(8*seqSize) - 1
)

// Errors of this package.
var (
	// ErrMalformed means that the bytes are not a valid encoding.
	ErrMalformed = errors.New("malformed penny")
	// ErrFalse means that a penny does not hash to the known one.
	ErrFalse = errors.New("false penny")
	// ErrSpent means that a penny's number is not below the known one's: it is
	// repeated or out of order.
	ErrSpent = errors.New("penny was spent before")
)

// Nonce separates chains from each other.
type Nonce [NonceSize]byte

func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// Secret is the secret of a penny. Bytes beyond the chain's size are zero.
type Secret [MaxSize]byte

// Penny is one element of a chain. Pennies are spent in descending order: the
// highest is public, and each lower one is one more payment.
type Penny struct {
	Seq    uint32
	Secret Secret
}

// Chain contains what all pennies of a chain share:
//
//	pⱼ = SHA256(nonce ‖ seq₃(j) ‖ pⱼ₋₁)[0:size]
//
// with j in 3 bytes, big-endian.
type Chain struct {
	Nonce Nonce
	Size  int // of a secret, in bytes: 1 to ClassicSize, or MinSize to MaxSize
}

// Check returns an error if the size is not allowed.
func (c Chain) Check() error {
	if c.Size < 1 || c.Size > ClassicSize && c.Size < MinSize || c.Size > MaxSize {
		return fmt.Errorf("a penny's secret has 1 to %d bytes, or %d to %d, not %d", ClassicSize, MinSize, MaxSize, c.Size)
	}
	return nil
}

// Forward hashes p forward to the penny with number to, one hash per step. It
// returns p itself if p's number is not below to.
func (c *Chain) Forward(p Penny, to uint32) Penny {
	if p.Seq >= to || to > MaxSeq {
		return p
	}
	out := Penny{Seq: to}
	sum := c.walk(&p, to)
	copy(out.Secret[:c.Size], sum[:])
	return out
}

// walk hashes from a penny to a higher number, at most MaxSeq; only the first
// Size bytes of the sum count. A step should cost little more than its hash, so
// everything is written in place, in whole words.
func (c *Chain) walk(p *Penny, to uint32) (sum Secret) {
	const at = NonceSize + seqSize
	var buf [at + MaxSize]byte // nonce ‖ seq ‖ secret; bytes beyond the chain's size are ignored
	*(*Secret)(buf[at:]) = p.Secret
	*(*Nonce)(buf[:]) = c.Nonce
	message := buf[:at+c.Size]
	for j := p.Seq + 1; ; j++ {
		buf[NonceSize], buf[NonceSize+1], buf[NonceSize+2] = byte(j>>16), byte(j>>8), byte(j)
		sum = sha256.Sum256(message)
		if j >= to {
			return sum
		}
		*(*Secret)(buf[at:]) = sum
	}
}

// Verify verifies a penny against a known higher one. It returns ErrSpent or
// ErrFalse. It computes one hash per step between them and allocates nothing;
// the caller must limit the number of steps.
func (c *Chain) Verify(known, p Penny) error {
	if p.Seq >= known.Seq {
		return ErrSpent
	}
	if known.Seq > MaxSeq {
		return ErrFalse
	}
	if sum := c.walk(&p, known.Seq); !bytes.Equal(sum[:c.Size], known.Secret[:c.Size]) {
		return ErrFalse
	}
	return nil
}

// Encode appends a penny in its wire form: its number in 3 bytes and its
// secret, 8 bytes in the classic form.
func (c *Chain) Encode(b []byte, p Penny) []byte {
	return append(append(b, byte(p.Seq>>16), byte(p.Seq>>8), byte(p.Seq)), p.Secret[:c.Size]...)
}

// Decode parses what Encode wrote, or returns ErrMalformed.
func (c *Chain) Decode(b []byte) (p Penny, err error) {
	if len(b) != seqSize+c.Size {
		return p, fmt.Errorf("%w: %d bytes, not %d", ErrMalformed, len(b), seqSize+c.Size)
	}
	p.Seq = uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	copy(p.Secret[:], b[seqSize:])
	return p, nil
}
