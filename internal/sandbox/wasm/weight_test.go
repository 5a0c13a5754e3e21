//go:build nightly

package wasm_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/testing/guests"
)

// TestWeight: programs of weight run the same in both engines and on a second
// run, and put out what they ought to.
func TestWeight(t *testing.T) {
	t.Parallel()
	compiler, interpreter := newEngine(t, false), newEngine(t, true)
	for _, w := range guests.Weights {
		t.Run(w.Name, func(t *testing.T) {
			built, err := w.Build()
			bin := guestOf(t, built, err)
			c := map[string]struct{ arg, input, output string }{
				"sql":      {arg: "3000", output: "2572|56039|"},
				"js":       {input: weightScript, output: "k1=16 k2=9\n55\n"},
				"compress": {arg: "48", output: "level 13: 49152 to "},
			}[w.Name]
			job := &sandbox.Job{Args: []string{w.Name, c.arg}, Input: []byte(c.input), Limits: sandbox.DefaultLimits()}
			p := load(t, compiler, bin)
			first := follow(t, p, job, nil, forever)
			if !strings.Contains(string(first.output), c.output) {
				t.Errorf("it puts out %q, wanted %q", first.output, c.output)
			}
			if again := follow(t, p, job, nil, forever); !slices.Equal(first.Lines, again.Lines) {
				t.Error(differ(first.Lines, again.Lines))
			}
			if i := follow(t, load(t, interpreter, bin), job, nil, forever); !slices.Equal(first.Lines, i.Lines) {
				t.Error(differ(first.Lines, i.Lines))
			}
		})
	}
}

// weightScript is short: it is interpreted twice over.
const weightScript = `
var count = {};
"k1:5,k2:9,k1:11".replace(/(k\d):(\d+)/g, function (all, key, n) { count[key] = (count[key] || 0) + parseInt(n, 10); });
print(Object.keys(count).map(function (k) { return k + "=" + count[k]; }).join(" "));
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
print(fib(10));
for (var i = 0, x = 0.5; i < 2000; i++) x = Math.sin(x * 3.9) + Math.sqrt(i) % 0.3;
print(x);
`
