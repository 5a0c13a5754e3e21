package disk

import (
	"errors"
	"os"
	"testing"
)

// TestSpace: files take turns on a disk, and never all of it.
func TestSpace(t *testing.T) {
	s := &Files{dir: t.TempDir()}
	if _, err := s.Reserve(1 << 62); !errors.Is(err, ErrFull) {
		t.Errorf("more than there is: %v", err)
	}
	if _, err := (&Files{dir: s.dir + "/none"}).Reserve(1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nowhere: %v", err)
	}
	// Two that fit one by one, and not together.
	low, high := uint64(0), uint64(1<<62)
	for high-low > 1<<28 {
		mid := low + (high-low)/2
		if give, err := s.Reserve(mid); err == nil {
			low = mid
			give()
		} else {
			high = mid
		}
	}
	if low < 1<<30 {
		t.Skipf("only %d bytes are free here", low)
	}
	first, err := s.Reserve(low / 3 * 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reserve(low / 3 * 2); !errors.Is(err, ErrFull) {
		t.Errorf("two thirds twice: %v", err)
	}
	first()
	second, err := s.Reserve(low / 3 * 2)
	if err != nil {
		t.Fatal(err)
	}
	second()
	if s.promised != 0 {
		t.Errorf("%d bytes are still promised", s.promised)
	}
	for total, want := range map[uint64]uint64{64 << 20: 3355443, 10 << 30: 536870912, 1 << 40: 1 << 30} {
		if got := reserved(total); got != want {
			t.Errorf("of %d, %d stay free", total, got)
		}
	}
}
