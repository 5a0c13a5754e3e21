package penny

import (
	"fmt"
)

// SetSize is the number of pence offered, of which one is picked.
const SetSize = 100

// Offer is a set of pence with one nonce and length, given by their IDs and
// public ends.
type Offer struct {
	Chain
	N    uint32
	IDs  [SetSize]ID
	Last [SetSize]Secret
}

// NewOffer computes the offer of pence from their secret starts.
func NewOffer(c Chain, n uint32, p0 *[SetSize]Secret) *Offer {
	o := &Offer{Chain: c, N: n}
	for i := range p0 {
		s := (&Pence{c, n, p0[i]}).Sum()
		o.IDs[i], o.Last[i] = s.ID, s.Last.Secret
	}
	return o
}

// Open returns the answer to a pick: the secret starts of all pence except the
// picked one, which stays zero.
func Open(p0 *[SetSize]Secret, pick int) *[SetSize]Secret {
	opened := *p0
	opened[pick] = Secret{}
	return &opened
}

// FalseSetError means that one of the opened pence is not as offered. The offer
// is proof of it.
type FalseSetError struct {
	Index int
	What  string
}

func (e *FalseSetError) Error() string { return fmt.Sprintf("pence %d: %s", e.Index, e.What) }

// CheckOpened verifies the pence that were not picked, and that no pence are
// offered twice. It returns a *FalseSetError. An offerer of one false pence
// passes with probability 1/SetSize; the picked pence are never proven, so
// their worth must be bounded by work.
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
