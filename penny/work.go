package penny

import "math/big"

// Work thaws pence: it tries secrets for a missing penny until their chain
// leads to a known one. This is feasible for short secrets only; ForgeWork and
// ThawWork estimate the work for others.
//
// It walks forward from the missing penny. Walking backwards, one penny after
// the other, takes the square of their number: most secrets found hash to the
// known penny but are not on the chain, and each such branch must be followed
// to its end.
type Work struct {
	chain      Chain
	known      Penny
	down       uint32
	next, step uint64 // the next secret to try, as a number
	hashes     uint64
}

// maxWorkSize is the longest secret in bytes that is tried. A counter for
// longer ones would not fit, and the search would never end.
const maxWorkSize = 7

// NewWork starts a search for the penny with number down, below a known one.
func NewWork(c Chain, known Penny, down uint32) *Work {
	return &Work{chain: c, known: known, down: down, step: 1}
}

// Split divides a new search into n parts that may run concurrently.
func (w *Work) Split(n int) []*Work {
	list := make([]*Work, max(n, 1))
	for i := range list {
		part := *w
		part.next, part.step = uint64(i), uint64(len(list))
		list[i] = &part
	}
	return list
}

// Search tries secrets for about this many hashes, but at least one, until one
// leads to the known penny (ok). Several do, about one more for each step
// between them; for p₀ only the ID shows which is right. done means that all
// secrets were tried, or that none can be.
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

// Hashes returns the number of hashes computed so far.
func (w *Work) Hashes() uint64 { return w.hashes }

// ForgeWork returns the approximate number of hashes to find pennies that
// verify, for secrets of this many bits. The actual number is from 0.4 times
// this for one penny to twice this for thousands. It hardly depends on their
// number: each hash of a walk may hit the chain, and a walk that does yields
// all pennies from there. So the work of pennies does not add up, and a bank
// must not be worth more than the work of one.
func ForgeWork(bits int) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(max(bits, 0))) }

// ThawWork returns the number of hashes to try all p₀ of this many pennies, as
// needed to find the one of an ID. On average it is found after half of them.
func ThawWork(bits int, pennies uint32) *big.Int {
	return new(big.Int).Lsh(big.NewInt(int64(pennies)), uint(max(bits, 0)))
}
