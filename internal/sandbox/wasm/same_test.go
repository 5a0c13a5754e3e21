package wasm_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

// guest is one program of the corpus, with what it is run with.
type guest struct {
	name  string
	bin   func(testing.TB) []byte
	args  []string
	input func(testing.TB) []byte
	// output is what it has to end with.
	output string
	epochs int
}

func file(path string) func(testing.TB) []byte {
	return func(t testing.TB) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func goExample(name string) func(testing.TB) []byte {
	return func(t testing.TB) []byte { return goGuest(t, "guest/examples/"+name) }
}

// corpus are programs from three toolchains, ordinary ones and one that is
// suspended.
var corpus = []guest{
	{name: "primes", bin: goExample("primes"), args: []string{"1200000"}, output: "92938 primes below 1200000, the last of them 1199999\n", epochs: 2},
	{name: "wordcount", bin: goExample("wordcount"), args: []string{"3"}, input: words, epochs: 2, output: "60000 words, 9 different\n  12000 the\n   6000 12\n   6000 brown\n"},
	{name: "raytrace", bin: goExample("raytrace"), args: []string{"96"}, epochs: 3},
	{name: "digits", bin: goExample("digits"), input: file(root + "/guest/examples/digits/samples.txt"), epochs: 4},
	{name: "montecarlo", bin: goExample("montecarlo"), args: []string{"110000"}, output: "by formula 9.1218\n", epochs: 2},
	{name: "collatz", bin: func(t testing.TB) []byte { return cGuest(t, "guest/examples/c/collatz.c") }, args: []string{"140000"},
		output: "106239 has the longest sequence below 140000: 354 steps\n", epochs: 2},
	{name: "life", bin: func(t testing.TB) []byte { return rustGuest(t, "guest/examples/rust/life.rs") }, epochs: 5},
	{name: "suspended", bin: func(t testing.TB) []byte {
		return asyncified(t, cGuest(t, "internal/sandbox/wasm/testdata/suspend.c"))
	}, args: []string{"100000"}, epochs: 5},
}

// words is a text of more than two epochs.
func words(testing.TB) []byte {
	return bytes.Repeat([]byte("The quick brown fox, the lazy dog; l'été. Über 12 "), 6_000)
}

func (g *guest) job(t testing.TB) *sandbox.Job {
	l := sandbox.DefaultLimits()
	l.Memory, l.Fuel = 64<<20, 20_000_000_000
	j := &sandbox.Job{Args: append([]string{g.name}, g.args...), Seed: [32]byte{1, 2, 3}, Limits: l}
	if g.input != nil {
		j.Input = g.input(t)
	}
	return j
}

// trail is what a run leaves behind: a line for each event, and checkpoints.
type trail struct {
	Lines       []string
	output      []byte
	checkpoints [][]byte
}

func line(ev *sandbox.Event) string {
	return fmt.Sprintf("%d %v fuel %d/%d output %d %x state %x notices %q done %v exit %d", ev.Epoch, ev.Root, ev.Fuel, ev.TotalFuel,
		ev.OutputSize, ev.OutputSHA256, ev.State, ev.Notices, ev.Done, ev.Exit)
}

// follow runs to the end, or for n epochs.
func follow(t testing.TB, p sandbox.Program, job *sandbox.Job, from []byte, n int) (out trail) {
	t.Helper()
	var run sandbox.Run
	var err error
	if from == nil {
		run, err = p.Start(t.Context(), job, nil)
	} else {
		run, err = p.Start(t.Context(), job, bytes.NewReader(from))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	for range n {
		ev, err := run.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out.Lines = append(out.Lines, line(ev))
		out.output = append(out.output, ev.Output...)
		if ev.Done {
			break
		}
		var b bytes.Buffer
		if err := run.Checkpoint(&b); err != nil {
			t.Fatal(err)
		}
		out.checkpoints = append(out.checkpoints, b.Bytes())
	}
	return out
}

const forever = 1 << 30

// TestSame: a program gives the same roots, fuel and output in compiler and
// interpreter, on a second run, and when it is taken up by another process at
// every sync event. The full tier interprets one program in three, the nightly all.
func TestSame(t *testing.T) {
	t.Parallel()
	tier.NotShort(t)
	compiler, interpreter := newEngine(t, false), newEngine(t, true)
	sample := tier.NewSample(t)
	for _, g := range corpus {
		interpret := sample.Of(0, 3) && !tier.Race
		if tier.Race && g.name != "primes" && g.name != "suspended" {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			bin, job := g.bin(t), g.job(t)
			p := load(t, compiler, bin)
			first := follow(t, p, job, nil, forever)
			if len(first.Lines) != g.epochs {
				t.Errorf("%d epochs, wanted %d", len(first.Lines), g.epochs)
			}
			if !strings.Contains(string(first.output), g.output) {
				t.Errorf("it puts out %q, wanted %q", first.output, g.output)
			}
			if again := follow(t, p, job, nil, forever); !slices.Equal(again.Lines, first.Lines) {
				t.Errorf("the second run differs:\n%s", differ(first.Lines, again.Lines))
			}
			if interpret {
				i := follow(t, load(t, interpreter, bin), job, nil, forever)
				if !slices.Equal(i.Lines, first.Lines) {
					t.Errorf("the interpreter differs:\n%s", differ(first.Lines, i.Lines))
				}
			}
			elsewhere(t, bin, job, first)
		})
	}
}

func differ(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return a[i] + "\n" + b[i]
		}
	}
	return fmt.Sprintf("%d and %d events", len(a), len(b))
}

// elsewhere lets another process take up every checkpoint for one epoch.
func elsewhere(t *testing.T, bin []byte, job *sandbox.Job, first trail) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("program", bin)
	encoded, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	write("job", encoded)
	for i, c := range first.checkpoints {
		write(fmt.Sprint(i), c)
	}
	c := exec.Command(os.Args[0], "-test.run=^TestChild$", "-child="+dir, "-child.cache="+cacheDir())
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("the other process: %v: %s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "lines"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	if err := json.Unmarshal(raw, &lines); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(lines, first.Lines[1:]) {
		t.Errorf("taken up elsewhere it differs:\n%s", differ(first.Lines[1:], lines))
	}
}

var (
	childDir   = flag.String("child", "", "what TestSame's other process works on")
	childCache = flag.String("child.cache", "", "its cache")
)

// TestChild is the other process of TestSame; by itself it does nothing.
func TestChild(t *testing.T) {
	if *childDir == "" {
		return
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(*childDir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var job sandbox.Job
	if err := json.Unmarshal(read("job"), &job); err != nil {
		t.Fatal(err)
	}
	p := load(t, newEngine(t, false), read("program"))
	var lines []string
	for i := 0; ; i++ {
		if _, err := os.Stat(filepath.Join(*childDir, fmt.Sprint(i))); err != nil {
			break
		}
		lines = append(lines, follow(t, p, &job, read(fmt.Sprint(i)), 1).Lines...)
	}
	encoded, err := json.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*childDir, "lines"), encoded, 0o600); err != nil {
		t.Fatal(err)
	}
}
