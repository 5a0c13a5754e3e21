package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

// FuzzLoad: whatever is loaded and run ends, in both engines with the same
// event or failure.
func FuzzLoad(f *testing.F) {
	for _, h := range hostiles() {
		f.Add(h.m.bytes())
	}
	var engines []*wasm.Engine
	kinds := []bool{false, true}
	if tier.Race {
		kinds = kinds[:1]
	}
	for _, interpreter := range kinds {
		e, err := wasm.New(context.Background(), wasm.Config{Interpreter: interpreter})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { e.Close() })
		engines = append(engines, e)
	}
	f.Fuzz(func(t *testing.T, bin []byte) {
		if len(bin) > 1<<16 {
			return
		}
		var ends []string
		for _, e := range engines {
			ends = append(ends, fuzzRun(t, e, bin))
		}
		if ends[0] != ends[len(ends)-1] {
			t.Errorf("compiled %s\ninterpreted %s", ends[0], ends[len(ends)-1])
		}
	})
}

func fuzzRun(t *testing.T, e *wasm.Engine, bin []byte) string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := e.Load(ctx, bytes.NewReader(bin))
	if err != nil {
		if !errors.Is(err, sandbox.ErrProgram) {
			t.Fatal(err)
		}
		return "" // the engines word it differently
	}
	defer p.Close()
	job := hostileJob()
	job.Limits.Fuel = 3_000_000
	run, err := p.Start(ctx, job, nil)
	if err != nil {
		return err.Error()
	}
	defer run.Close()
	for {
		ev, err := run.Next(ctx)
		var failed *sandbox.Failure
		if err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		if err != nil {
			return err.Error()
		}
		if ev.Done {
			return line(ev)
		}
	}
}
