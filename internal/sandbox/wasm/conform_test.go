package wasm_test

import (
	"testing"

	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

func TestConformCompiler(t *testing.T) {
	tier.NotShort(t)
	conformEngine(t, false)
}

func TestConformInterpreter(t *testing.T) {
	tier.NotShort(t)
	if tier.Race {
		t.Skip("interpreted Go programs are slow under the race detector")
	}
	conformEngine(t, true)
}

func conformEngine(t *testing.T, interpreter bool) {
	t.Parallel()
	conform.Runner(t, newEngine(t, interpreter), goGuest(t, conform.RunnerProgram), goGuest(t, "guest/examples/primes"))
}
