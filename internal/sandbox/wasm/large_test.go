//go:build nightly

package wasm_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// TestLarge: a Go program of 25 MB, as large as interpreters and servers written in
// Go are, is loaded and runs to its end, the same in both engines and on a second
// run.
func TestLarge(t *testing.T) {
	t.Parallel()
	bin := goGuest(t, "internal/sandbox/wasm/testdata/large")
	if len(bin) < 20<<20 {
		t.Errorf("it has only %d bytes", len(bin))
	}
	job := &sandbox.Job{Args: []string{"large"}, Limits: sandbox.DefaultLimits()}
	p := load(t, newEngine(t, false), bin)
	first := follow(t, p, job, nil, forever)
	for _, want := range []string{"42 of [Answer Number Sum Total], int", "200 OK <p", "[149 137 1850] 20800 22528", "true CN=large 6342", "jpeg (0,0)-(64,64)", "[50 100 150 200 250 300 350 400]", " more\n"} {
		if !strings.Contains(string(first.output), want) {
			t.Errorf("it puts out %q, wanted %q in it", first.output, want)
		}
	}
	if again := follow(t, p, job, nil, forever); !slices.Equal(first.Lines, again.Lines) {
		t.Error(differ(first.Lines, again.Lines))
	}
	if i := follow(t, load(t, newEngine(t, true), bin), job, nil, forever); !slices.Equal(first.Lines, i.Lines) {
		t.Error(differ(first.Lines, i.Lines))
	}
}
