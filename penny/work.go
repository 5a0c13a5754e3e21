package penny

import (
	"bytes"
	"crypto/sha256"
	"math/big"
)

// Work thaws pence: it finds missing pennies below a known one, by trying all
// secrets. That is for short ones; ExpectedWork tells what others take.
type Work struct {
	chain  Chain
	levels []level // from the known penny down, depth first
	hashes uint64
}

// level is a penny whose predecessors are sought.
type level struct {
	penny Penny
	next  uint64 // the secret to be tried, as a number
}

// NewWork begins below a penny.
func NewWork(c Chain, known Penny) *Work { return &Work{chain: c, levels: []level{{penny: known}}} }

// Search tries some more hashes and returns the pence that it came upon: chains
// from p₀ that lead to the known penny, N being its number. Several do, about one
// more for each step; only the ID tells which is right. done: all were tried.
func (w *Work) Search(hashes uint64) (found []Pence, done bool) {
	if w.chain.Size > 7 {
		return nil, true // beyond any work
	}
	top := w.levels[0].penny
	if top.Seq == 0 {
		return []Pence{{Chain: w.chain, P0: top.Secret}}, true
	}
	space := uint64(1) << (8 * w.chain.Size)
	for ; hashes > 0 && len(w.levels) > 0; hashes-- {
		l := &w.levels[len(w.levels)-1]
		if l.next == space {
			w.levels = w.levels[:len(w.levels)-1]
			continue
		}
		var s Secret
		for i, n := 0, l.next; i < w.chain.Size; i, n = i+1, n>>8 {
			s[i] = byte(n)
		}
		l.next++
		w.hashes++
		m := w.chain.message(&s)
		m.seq(l.penny.Seq)
		sum := sha256.Sum256(m.buf[:m.n])
		switch {
		case !bytes.Equal(sum[:w.chain.Size], l.penny.Secret[:w.chain.Size]):
		case l.penny.Seq == 1:
			found = append(found, Pence{Chain: w.chain, N: top.Seq, P0: s})
		default:
			w.levels = append(w.levels, level{penny: Penny{l.penny.Seq - 1, s}})
		}
	}
	return found, len(w.levels) == 0
}

// Hashes is how many were tried.
func (w *Work) Hashes() uint64 { return w.hashes }

// ExpectedWork is how many hashes it takes to find that many pennies with secrets
// of so many bits, one after the other.
func ExpectedWork(bits int, pennies uint32) *big.Int {
	return new(big.Int).Lsh(big.NewInt(int64(pennies)), uint(max(bits, 0)))
}
