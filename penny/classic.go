package penny

import (
	"crypto/sha256"
	"encoding/hex"

	"golang.org/x/crypto/ripemd160" //lint:ignore SA1019 OP_HASH160 has it
)

// ID identifies pence: the HASH160 of the last preimage of their digest.
type ID [ripemd160.Size]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Pence is a chain with its secret start p₀.
type Pence struct {
	Chain
	N  uint32 // its pennies; at most MaxSeq
	P0 Secret
}

// Last is p_N, which is public.
func (p *Pence) Last() Penny { return p.Forward(Penny{Secret: p.P0}, p.N) }

// Sum is the result of rolling up pence.
type Sum struct {
	Last     Penny
	Preimage []byte   // its HASH160 is the ID; it satisfies the hash lock of a script
	Digest   [32]byte // d_N, its SHA-256
	ID       ID
}

// Sum rolls up all pennies:
//
//	d₀ = SHA256(p₀)
//	dⱼ = SHA256(dⱼ₋₁ ‖ nonce ‖ seq₃(j) ‖ pⱼ₋₁)
//	ID = RIPEMD160(d_N)
func (p *Pence) Sum() Sum { return p.Steps(func(Penny, [32]byte) bool { return true }) }

// Steps computes Sum and calls step with each pⱼ and dⱼ on the way. If step
// returns false it stops, and the result is not valid.
func (p *Pence) Steps(step func(Penny, [32]byte) bool) Sum {
	out := Sum{Preimage: append([]byte(nil), p.P0[:p.Size]...)}
	out.Digest = sha256.Sum256(out.Preimage)
	out.Last.Secret = p.P0
	// The roll-up contains the message that is hashed to the next penny.
	m := p.message(&p.P0)
	var buf [sha256.Size + len(m.buf)]byte
	for j := uint32(1); ; j++ {
		if !step(out.Last, out.Digest) {
			return Sum{}
		}
		if j > p.N {
			break
		}
		m.seq(j)
		copy(buf[:], out.Digest[:])
		n := sha256.Size + copy(buf[sha256.Size:], m.buf[:m.n])
		if j == p.N {
			out.Preimage = append([]byte(nil), buf[:n]...)
		}
		out.Digest = sha256.Sum256(buf[:n])
		sum := sha256.Sum256(m.buf[:m.n])
		copy(m.buf[NonceSize+seqSize:m.n], sum[:])
		out.Last.Seq = j
		copy(out.Last.Secret[:], m.buf[NonceSize+seqSize:m.n])
	}
	h := ripemd160.New()
	_, _ = h.Write(out.Digest[:]) // never fails
	copy(out.ID[:], h.Sum(nil))
	return out
}

// message is the input of the hash that gives a penny.
type message struct {
	buf [NonceSize + seqSize + MaxSize]byte
	n   int
}

func (c *Chain) message(s *Secret) (m message) {
	copy(m.buf[:], c.Nonce[:])
	copy(m.buf[NonceSize+seqSize:], s[:c.Size])
	m.n = NonceSize + seqSize + c.Size
	return m
}

// seq sets the number of the penny to which the message hashes.
func (m *message) seq(j uint32) {
	m.buf[NonceSize], m.buf[NonceSize+1], m.buf[NonceSize+2] = byte(j>>16), byte(j>>8), byte(j)
}

// Global returns a penny's globally unique form: the ID and the penny, 28 bytes
// in the classic form.
func (c *Chain) Global(id ID, p Penny) []byte { return c.Encode(id[:], p) }
