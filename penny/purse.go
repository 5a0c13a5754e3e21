package penny

import "math"

// Purse gives a chain's pennies from the highest down, from their secret end. It
// keeps twice the square root of N of them, so that a penny costs two hashes on
// average.
type Purse struct {
	pence Pence
	step  uint32
	marks []Secret // of the numbers i·step
	from  uint32   // the number of the first in part
	part  []Secret // those of a step
}

// NewPurse walks the chain once.
func NewPurse(p Pence) *Purse {
	step := max(uint32(math.Sqrt(float64(p.N))), 1)
	u := &Purse{pence: p, step: step, marks: make([]Secret, 0, p.N/step+1)}
	at := Penny{Secret: p.P0}
	for {
		u.marks = append(u.marks, at.Secret)
		if p.N-at.Seq < step {
			return u
		}
		at = p.Forward(at, at.Seq+step)
	}
}

// At is the penny of a number up to N.
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
