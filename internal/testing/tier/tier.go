// Package tier reports the tier in which a test runs, so that each test can
// state once how much of itself belongs to each tier.
//
//	go test -short ./...           Short: one path per machine, no child processes
//	go test ./...                  Full: every invariant, on a sample chosen by a seed
//	go test -tags nightly ./...    Nightly: everything, all crash points, whole models
//
// The race detector is not a tier: Race reports whether it is on, only for
// tests that are too slow under it or cannot run under it.
//
// A test that belongs only to the nightly tier is in a file with the build tag
// nightly, because a skipped test fails in CI.
package tier

import (
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// Nightly reports whether the tests were built with the tag nightly: every
// case runs, and no sample is taken.
const Nightly = nightly

// Race reports whether the race detector is on.
const Race = race

var seed = flag.Uint64("tier.seed", 0, "seed of the samples that tests take; 0 chooses one and prints it")

// Short reports whether only the short tier runs.
func Short() bool { return testing.Short() && !Nightly }

// NotShort skips the test in the short tier.
func NotShort(t testing.TB) {
	t.Helper()
	if Short() {
		t.Skip("not in the short tier")
	}
}

// Pick returns the value for the tier that runs.
func Pick[T any](short, full, nightly T) T {
	switch {
	case Nightly:
		return nightly
	case Short():
		return short
	}
	return full
}

// Sample chooses which cases of a test run; in the nightly tier it chooses all.
type Sample struct {
	r *rand.Rand
}

// NewSample returns a sample with a seed of its own, which it logs, so that
// -tier.seed repeats the choice.
func NewSample(t testing.TB) *Sample {
	t.Helper()
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Log("sample chosen by -tier.seed=" + strconv.FormatUint(s, 10))
	return &Sample{rand.New(rand.NewPCG(s, 0))}
}

// Of reports whether a case belongs to a sample of about one in short cases in
// the short tier, and one in full in the full tier. 0 means none.
func (s *Sample) Of(short, full int) bool {
	n := Pick(short, full, 1)
	return n > 0 && s.r.IntN(n) == 0
}

// Choose returns k of n indices in order, chosen by the seed; all of them in the
// nightly tier.
func (s *Sample) Choose(n, k int) []int {
	if Nightly || k >= n {
		k = n
	}
	left := k
	var chosen []int
	for i := range n {
		if s.r.IntN(n-i) < left {
			chosen = append(chosen, i)
			left--
		}
	}
	return chosen
}

// Rand is the sample's source of chance, for tests that make their cases up.
func (s *Sample) Rand() *rand.Rand { return s.r }

// FewerCases runs a package's tests, as its TestMain. Outside the nightly tier
// its property tests try 25 cases, or 5 with -short, unless -rapid.checks says
// how many.
func FewerCases(m *testing.M) {
	if !Nightly {
		if err := flag.Set("rapid.checks", "25"); err != nil {
			panic(err)
		}
	}
	flag.Parse()
	os.Exit(m.Run())
}
