package penny

import "math/big"

// Work thaws pence: it tries secrets for a missing penny until their chain leads
// to a known one. That is for short secrets; ForgeWork and ThawWork tell what
// others take.
//
// It walks forward from the missing penny. Backwards, one penny after the other,
// takes the square of their number: most of what is found hashes to the known
// penny and is not of the chain, and each such branch has to be walked to its end.
type Work struct {
	chain      Chain
	known      Penny
	down       uint32
	next, step uint64 // the secret to be tried, as a number
	hashes     uint64
}

// maxWorkSize is the longest secret that is tried, bytes; a count of longer ones
// would not fit, and nobody lives to see it end.
const maxWorkSize = 7

// NewWork seeks the penny of number down, below a known one.
func NewWork(c Chain, known Penny, down uint32) *Work {
	return &Work{chain: c, known: known, down: down, step: 1}
}

// Split shares fresh work among n that may run side by side.
func (w *Work) Split(n int) []*Work {
	list := make([]*Work, max(n, 1))
	for i := range list {
		part := *w
		part.next, part.step = uint64(i), uint64(len(list))
		list[i] = &part
	}
	return list
}

// Search tries secrets for about so many hashes, one at least, until one leads to
// the known penny: ok. Several do, about one more for each step between them; of
// p₀ only the ID tells which is right. done: all were tried, or none can be.
func (w *Work) Search(hashes uint64) (found Penny, ok, done bool) {
	if w.chain.Size < 1 || w.chain.Size > maxWorkSize || w.down >= w.known.Seq || w.known.Seq > MaxSeq {
		return Penny{}, false, true
	}
	space := uint64(1) << (8 * w.chain.Size)
	steps := uint64(w.known.Seq - w.down)
	for left := max(hashes/steps, 1); left > 0 && w.next < space && !ok; left-- {
		p := Penny{Seq: w.down}
		for i, n := 0, w.next; i < w.chain.Size; i, n = i+1, n>>8 {
			p.Secret[i] = byte(n)
		}
		if w.chain.Forward(p, w.known.Seq) == w.known {
			found, ok = p, true
		}
		w.next += w.step
		w.hashes += steps
	}
	return found, ok, w.next >= space
}

// Hashes is how many were made.
func (w *Work) Hashes() uint64 { return w.hashes }

// ForgeWork is about how many hashes it takes to come upon pennies that verify,
// where secrets have so many bits: from 0.4 times as many for one penny to twice
// as many for thousands. It hardly depends on their number: each hash of a walk
// may fall into the chain, and one that does has all the rest of it. So the work
// of pennies does not add up, and a bank is worth no more than one of them.
func ForgeWork(bits int) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(max(bits, 0))) }

// ThawWork is how many hashes it takes to try all p₀ of so many pennies, as
// whoever wants the one of an ID must; on average it comes after half.
func ThawWork(bits int, pennies uint32) *big.Int {
	return new(big.Int).Lsh(big.NewInt(int64(pennies)), uint(max(bits, 0)))
}
