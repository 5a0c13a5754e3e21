package penny

import "math"

// Purse returns a chain's pennies in descending order, from its secret start.
// It stores about 2·√N of them, so a penny costs two hashes on average.
type Purse struct {
	pence Pence
	step  uint32
	marks []Secret // of the numbers i·step
	from  uint32   // the number of the first in part
	part  []Secret // those of a step
}

// NewPurse walks the chain once.
func NewPurse(p Pence) *Purse {
	u, _ := NewPurseWith(p, nil)
	return u
}

// NewPurseWith walks the chain once and also returns the pennies with the given
// numbers, which must be ascending and at most N.
func NewPurseWith(p Pence, seqs []uint32) (*Purse, []Penny) {
	step := max(uint32(math.Sqrt(float64(p.N))), 1)
	u := &Purse{pence: p, step: step, marks: make([]Secret, 0, p.N/step+1)}
	found := make([]Penny, 0, len(seqs))
	at := Penny{Secret: p.P0}
	for next := uint64(0); ; next += uint64(step) { // past the last mark it may exceed 32 bits
		end := min(next, uint64(p.N))
		for ; len(seqs) > 0 && uint64(seqs[0]) <= end; seqs = seqs[1:] {
			at = p.Forward(at, seqs[0])
			found = append(found, at)
		}
		if next > uint64(p.N) {
			return u, found
		}
		at = p.Forward(at, uint32(next))
		u.marks = append(u.marks, at.Secret)
	}
}

// Size returns the most memory that the purse takes, in bytes.
func (u *Purse) Size() int { return (cap(u.marks) + int(u.step) + 8) * len(Secret{}) }

// At returns the penny with number seq, at most N.
func (u *Purse) At(seq uint32) Penny {
	if seq < u.from || seq >= u.from+uint32(len(u.part)) {
		u.from = seq / u.step * u.step
		at := Penny{u.from, u.marks[seq/u.step]}
		u.part = append(u.part[:0], at.Secret)
		for range min(u.step-1, u.pence.N-at.Seq) {
			at = u.pence.Forward(at, at.Seq+1)
			u.part = append(u.part, at.Secret)
		}
	}
	return Penny{seq, u.part[seq-u.from]}
}
