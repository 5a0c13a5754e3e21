package penny

import (
	"fmt"
)

// SetSize is how many pence are offered, of which one is picked.
const SetSize = 100

// Offer is a set of pence of one nonce and length, by their IDs and public ends.
type Offer struct {
	Chain
	N    uint32
	IDs  [SetSize]ID
	Last [SetSize]Secret
}

// NewOffer is the offer of pence from their secret ends.
func NewOffer(c Chain, n uint32, p0 *[SetSize]Secret) *Offer {
	o := &Offer{Chain: c, N: n}
	for i := range p0 {
		s := (&Pence{c, n, p0[i]}).Sum()
		o.IDs[i], o.Last[i] = s.ID, s.Last.Secret
	}
	return o
}

// Open is the answer to a pick: the secret ends of all pence but that one, which
// stays zero.
func Open(p0 *[SetSize]Secret, pick int) *[SetSize]Secret {
	opened := *p0
	opened[pick] = Secret{}
	return &opened
}

// FalseSetError: one of the opened pence is not what was offered. The offer is
// proof of it.
type FalseSetError struct {
	Index int
	What  string
}

func (e *FalseSetError) Error() string { return fmt.Sprintf("pence %d: %s", e.Index, e.What) }

// CheckOpened checks the pence that were not picked, and that none is offered
// twice: *FalseSetError. Whoever makes one false passes with 1 in SetSize; a
// picked pence is never proved, which is why its worth is bounded by work.
func (o *Offer) CheckOpened(pick int, opened *[SetSize]Secret) error {
	if pick < 0 || pick >= SetSize {
		return fmt.Errorf("pick %d of %d pence", pick, SetSize)
	}
	seen := map[ID]bool{}
	for i, id := range o.IDs {
		if seen[id] {
			return &FalseSetError{i, "offered twice"}
		}
		seen[id] = true
		if i == pick {
			continue
		}
		switch s := (&Pence{o.Chain, o.N, opened[i]}).Sum(); {
		case s.ID != id:
			return &FalseSetError{i, "another ID"}
		case s.Last.Secret != o.Last[i]:
			return &FalseSetError{i, "another last penny"}
		}
	}
	return nil
}
