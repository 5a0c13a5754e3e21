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

func conformEngine(t *testing.T, interpreter bool) {
	t.Parallel()
	conform.Runner(t, newEngine(t, interpreter), goGuest(t, conform.RunnerProgram), goGuest(t, "guest/examples/primes"))
}
