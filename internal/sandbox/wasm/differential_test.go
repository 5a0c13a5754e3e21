package wasm_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/testing/modules"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

var (
	differTime = flag.Duration("differ.time", 0, "for how long TestDifferential generates programs; 0: a few seconds")
	differSeed = flag.Uint64("differ.seed", 0, "seed of TestDifferential's first program; 0 chooses one nightly, and 1 elsewhere")
)

// bothEngines returns a compiler and an interpreter that keep nothing on the disk.
func bothEngines(t testing.TB) (list []sandbox.Runner) {
	t.Helper()
	for _, interpreter := range []bool{false, true} {
		e, err := wasm.New(t.Context(), wasm.Config{Interpreter: interpreter})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		list = append(list, e)
	}
	return list
}

// outcome is all that two engines must agree on: each event with its root, fuel
// and output, and how the program ended.
func outcome(t testing.TB, e sandbox.Runner, bin []byte, job *sandbox.Job) (string, error) {
	t.Helper()
	p, err := e.Load(t.Context(), bytes.NewReader(bin))
	if err != nil {
		return "", err
	}
	defer p.Close()
	run, err := p.Start(t.Context(), job, nil)
	if err != nil {
		return "", err
	}
	defer run.Close()
	var s strings.Builder
	for {
		ev, err := run.Next(t.Context())
		var failed *sandbox.Failure
		switch {
		case errors.As(err, &failed):
			fmt.Fprintln(&s, err)
			return s.String(), nil
		case err != nil:
			return "", err
		}
		fmt.Fprintf(&s, "%s %x\n", line(ev), ev.Output)
		if ev.Done {
			return s.String(), nil
		}
	}
}

// both returns the two engines' outcomes.
func both(t testing.TB, engines []sandbox.Runner, bin []byte, job *sandbox.Job) (outcomes [2]string) {
	t.Helper()
	for i, e := range engines {
		s, err := outcome(t, e, bin, job)
		if err != nil {
			s = "not run: " + err.Error()
		}
		outcomes[i] = s
	}
	return outcomes
}

func generatedJob() *sandbox.Job {
	job := hostileJob()
	job.Limits.Fuel = 1_000_000
	return job
}

// TestDifferential: generated programs have the same events, fuel, roots and
// failures in compiler and interpreter. A program that has not is reduced to the
// statements that matter and kept in a file. In CI it runs for a minute, on the same
// programs each time; nightly for an hour, on others each time (-differ.time).
func TestDifferential(t *testing.T) {
	if tier.Race {
		t.Skip("the race detector sees nothing of compiled code, and makes the interpreter slow")
	}
	limit := tier.Pick(time.Second, 4*time.Second, 20*time.Second)
	if *differTime > 0 {
		limit = *differTime
	}
	seed := *differSeed
	switch {
	case seed != 0:
	case tier.Nightly || *differTime > 10*time.Minute:
		seed = uint64(time.Now().UnixNano())
	default:
		seed = 1
	}
	t.Logf("programs from -differ.seed=%d on, %s", seed, runtime.GOARCH)
	engines, job := bothEngines(t), generatedJob()
	failed, bad, n := 0, 0, 0
	for began := time.Now(); n == 0 || time.Since(began) < limit; n++ {
		p := modules.New(rand.New(rand.NewPCG(seed+uint64(n), 0)))
		bin := p.Bytes()
		out := both(t, engines, bin, job)
		if strings.HasPrefix(out[0], "not run") {
			t.Errorf("-differ.seed=%d: %s", seed+uint64(n), out[0])
		}
		if !strings.Contains(out[0], "done true") {
			failed++
		}
		if out[0] == out[1] {
			continue
		}
		differ := func(p *modules.Program) bool {
			out := both(t, engines, p.Bytes(), job)
			return out[0] != out[1]
		}
		p = p.Minimise(differ)
		out = both(t, engines, p.Bytes(), job)
		path := filepath.Join(os.TempDir(), fmt.Sprintf("differs-%d.wasm", seed+uint64(n)))
		if err := os.WriteFile(path, p.Bytes(), 0o600); err != nil {
			t.Error(err)
		}
		t.Errorf("-differ.seed=%d: compiled %s\ninterpreted %s\n%d statements, in %s", seed+uint64(n), out[0], out[1], p.Statements(), path)
		if bad++; bad == 5 {
			break
		}
	}
	t.Logf("%d programs, %d of them fail", n, failed)
	if failed > n/2 && n > 50 {
		t.Errorf("%d of %d programs fail: too few are compared to their end", failed, n)
	}
}

// TestDiffered: the programs that once had two outcomes, as TestDifferential and a
// reducer left them, have one.
func TestDiffered(t *testing.T) {
	files, err := filepath.Glob("testdata/differed/*.wasm")
	if err != nil || len(files) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	engines := bothEngines(t)
	for _, path := range files {
		bin, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if out := both(t, engines, bin, generatedJob()); out[0] != out[1] || !strings.Contains(out[0], "done true") {
			t.Errorf("%s: compiled %s\ninterpreted %s", path, out[0], out[1])
		}
	}
}

// TestSelects: each select of floats and vectors takes the operand that it must,
// bit for bit, in blocks and behind dead code.
func TestSelects(t *testing.T) {
	m, want := selects()
	for i, e := range bothEngines(t) {
		out, err := outcome(t, e, m.bytes(), hostileJob())
		if err != nil {
			t.Fatal(err)
		}
		if hex := fmt.Sprintf("%x", want); !strings.Contains(out, hex) {
			t.Errorf("engine %d: %s, want %s", i, out, hex)
		}
	}
}

// selects returns a program of selects and its output.
func selects() (m moduleSpec, output string) {
	var code, want strings.Builder
	n := 0
	for _, k := range []struct {
		typ         byte
		load, store string
		size        int
	}{{'f', "\x2a\x00", "\x38\x00", 4}, {'d', "\x2b\x00", "\x39\x00", 8}, {'v', "\xfd\x00\x00", "\xfd\x0b\x00", 16}} {
		for condition := range 3 {
			for form := range 4 {
				c := i32(condition)
				a, b := i32(0)+k.load+leb(0), i32(0)+k.load+leb(16)
				get := a + b + c + "\x1b"
				switch form {
				case 1:
					get = a + b + c + "\x1c\x01" + modules.Types[k.typ]
				case 2: // the condition from a block that another path leaves
					get = a + b + "\x02\x7f" + c + "\x0c\x00\x1a\x00\x0b\x1b"
				case 3: // in both arms
					arm := a + b + c + "\x1b"
					get = c + "\x04" + modules.Types[k.typ] + arm + "\x05" + arm + "\x0b"
				}
				code.WriteString(i32(16*n) + get + k.store + leb(4096))
				from := 16
				if condition != 0 {
					from = 0
				}
				want.WriteString(selectData[from:from+k.size] + strings.Repeat("\x00", 16-k.size))
				n++
			}
		}
	}
	return moduleSpec{types: []string{"ii:"}, imports: [][3]string{imported(bitgramMod, "output", 1)}, pages: [2]int{1, 1},
		funcs: []fn{{code: code.String() + i32(4096) + i32(16*n) + "\x10\x00"}}, data: []string{selectData}}, want.String()
}

// Two signalling NaNs with payloads, for each width.
const selectData = "\x01\x02\xa3\x7f\x05\x06\xf7\x7f\x09\x0a\x0b\x0c\x0d\x0e\xff\xff" + "\x11\x12\xa3\xff\x15\x16\xf7\xff\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"
