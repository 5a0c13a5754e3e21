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
	// ClassicSize is the length of a secret in the classic form, bytes; shorter
	// ones are for study: they can be found by work.
	ClassicSize = 5
	// MinSize and MaxSize bound the length of a secret where money depends on
	// it, bytes.
	MinSize, MaxSize = 16, sha256.Size
	// seqSize is the length of a sequence number on the wire, bytes.
	seqSize = 3
	// MaxSeq is the largest sequence number: a chain has at most as many
	// pennies.
	MaxSeq = 1<<(8*seqSize) - 1
)

// Errors of this package.
var (
	// ErrMalformed: not the encoding of what it is said to be.
	ErrMalformed = errors.New("malformed penny")
	// ErrFalse: a penny that does not hash to the one that is known.
	ErrFalse = errors.New("false penny")
	// ErrSpent: a penny that is not below the one that is known: repeated, or
	// out of order.
	ErrSpent = errors.New("penny was spent before")
)

// Nonce keeps chains apart.
type Nonce [NonceSize]byte

func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// Secret is what a penny hides; beyond the chain's size it is zero.
type Secret [MaxSize]byte

// Penny is one of a chain. Spending goes down: the highest is public, and each
// lower one is one payment more.
type Penny struct {
	Seq    uint32
	Secret Secret
}

// Chain is what all pennies of a pence have in common:
//
//	pⱼ = SHA256(nonce ‖ seq₃(j) ‖ pⱼ₋₁)[0:size]
//
// with j in 3 bytes, big-endian.
type Chain struct {
	Nonce Nonce
	Size  int // of a secret, bytes: up to ClassicSize, or MinSize to MaxSize
}

// Check returns an error for a size that no chain has.
func (c Chain) Check() error {
	if c.Size < 1 || c.Size > ClassicSize && c.Size < MinSize || c.Size > MaxSize {
		return fmt.Errorf("a penny's secret has 1 to %d bytes, or %d to %d, not %d", ClassicSize, MinSize, MaxSize, c.Size)
	}
	return nil
}

// Forward is the penny that a lower one leads to, by one hash a step. p itself
// where its number is not below.
func (c *Chain) Forward(p Penny, to uint32) Penny {
	if p.Seq >= to || to > MaxSeq {
		return p
	}
	out := Penny{Seq: to}
	sum := c.walk(&p, to)
	copy(out.Secret[:c.Size], sum[:])
	return out
}

// walk hashes from a penny to a higher number of up to MaxSeq; of the sum the
// chain's size counts. One step has to cost little more than its hash, so that
// everything is written where it is hashed, in whole words.
func (c *Chain) walk(p *Penny, to uint32) (sum Secret) {
	const at = NonceSize + seqSize
	var buf [at + MaxSize]byte // nonce ‖ seq ‖ secret; beyond the chain's size it does not count
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

// Verify checks a penny against a higher one that is known: ErrSpent, ErrFalse.
// It takes as many hashes as there are steps between them, and no memory; the
// caller bounds the steps.
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

// Encode appends a penny as it stands on the wire: its number in 3 bytes and its
// secret, 8 bytes in the classic form.
func (c *Chain) Encode(b []byte, p Penny) []byte {
	return append(append(b, byte(p.Seq>>16), byte(p.Seq>>8), byte(p.Seq)), p.Secret[:c.Size]...)
}

// Decode reads what Encode wrote: ErrMalformed.
func (c *Chain) Decode(b []byte) (p Penny, err error) {
	if len(b) != seqSize+c.Size {
		return p, fmt.Errorf("%w: %d bytes, not %d", ErrMalformed, len(b), seqSize+c.Size)
	}
	p.Seq = uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	copy(p.Secret[:], b[seqSize:])
	return p, nil
}
