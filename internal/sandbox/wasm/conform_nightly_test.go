//go:build nightly

package wasm_test

import (
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// TestConformInterpreter: in the other tiers TestSame, TestHostile and TestSpec hold
// the interpreter against the compiler.
func TestConformInterpreter(t *testing.T) {
	if tier.Race {
		t.Skip("interpreted Go programs are slow under the race detector")
	}
	conformEngine(t, true)
}
