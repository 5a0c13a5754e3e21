package deal_test

import (
	"flag"
	"os"
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// TestMain has the property tests try fewer cases outside the nightly tier, unless
// -rapid.checks says how many; with -short a fifth of them.
func TestMain(m *testing.M) {
	if !tier.Nightly {
		if err := flag.Set("rapid.checks", "25"); err != nil {
			panic(err)
		}
	}
	flag.Parse()
	os.Exit(m.Run())
}
