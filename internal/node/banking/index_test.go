package banking

import (
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// TestSized: the caches hold thousands of small banks, and no more than their
// size of large ones.
func TestSized(t *testing.T) {
	s := newSized[int](1<<20, (*penny.Purse).Size)
	small, large := penny.NewPurse(bank.Pence(wire.Secret{1}, 100)), penny.NewPurse(bank.Pence(wire.Secret{1}, 1_000_000))
	for i := range 1000 {
		s.Add(i, small)
	}
	for i := range 1000 {
		if _, ok := s.Get(i); !ok {
			t.Fatalf("the purse of bank %d of 1000 is forgotten", i)
		}
	}
	for i := range 100 {
		s.Add(i, large)
		s.Add(i, large) // again
	}
	if s.held > s.max || s.cache.Len() > s.max/large.Size()+1000 {
		t.Errorf("%d of %d bytes in %d purses", s.held, s.max, s.cache.Len())
	}
	if _, ok := s.Get(99); !ok {
		t.Error("the last is forgotten")
	}
	if _, ok := s.Get(0); ok {
		t.Error("too much is remembered")
	}
}
