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
	differSeed = flag.Uint64("differ.seed", 0, "seed of TestDifferential's first program; 0 chooses one")
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
// statements that matter and kept in a file. In CI it runs for a minute, nightly for
// an hour (-differ.time).
func TestDifferential(t *testing.T) {
	if tier.Race {
		t.Skip("the race detector sees nothing of compiled code, and makes the interpreter slow")
	}
	limit := tier.Pick(time.Second, 4*time.Second, 20*time.Second)
	if *differTime > 0 {
		limit = *differTime
	}
	seed := *differSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
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
