package wasm

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// endless is a command that never ends: (func (export "_start") (loop br 0)), with
// a memory.
const endless = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06_start\x00\x00\x06memory\x02\x00\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b"

func begun(t *testing.T) *run {
	t.Helper()
	e, err := New(t.Context(), Config{Interpreter: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	p, err := e.Load(t.Context(), bytes.NewReader([]byte(endless)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	r, err := p.Start(t.Context(), &sandbox.Job{Limits: sandbox.DefaultLimits()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r.(*run)
}

// TestStopIsNotLeft: a context that ends when the program has just reached its sync
// event leaves nothing behind that would end its next epoch like a crash.
func TestStopIsNotLeft(t *testing.T) {
	r := begun(t)
	if err := r.instantiate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	end := r.inst.watch(ctx)
	cancel()
	for r.inst.stop.Get() == 0 {
		time.Sleep(time.Millisecond)
	}
	end()
	if left := r.inst.stop.Get(); left != 0 {
		t.Errorf("the next epoch begins with the stop at %d", left)
	}
}

// TestHostIsNotTheProgram: what goes wrong in the engine or the host is no result.
func TestHostIsNotTheProgram(t *testing.T) {
	r := begun(t)
	if err := r.instantiate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.inst.depth.Set(1)
	for _, c := range []struct {
		text string
		trap bool
	}{
		{"wasm error: unreachable\nwasm stack trace:\n\tx", true},
		{"wasm error: out of bounds memory access", true},
		{"wasm error: stack overflow\nwasm stack trace:\n\tx", false},
		{"runtime error: invalid memory address or nil pointer dereference (recovered by wazero)\nwasm stack trace:", false},
		{"no space left on device (recovered by wazero)", false},
		{"module closed with exit_code(1)", false},
	} {
		err := r.outcome(t.Context(), &host{}, errors.New(c.text))
		var f *sandbox.Failure
		if failed := errors.As(err, &f); failed != c.trap || err == nil {
			t.Errorf("%q becomes %v", c.text, err)
		} else if failed && (f.Kind != sandbox.FailedTrap || f.Epoch != 1) {
			t.Errorf("%q becomes %+v", c.text, f)
		}
	}
	if err := r.outcome(t.Context(), &host{}, &callError{errors.New("the disk is full")}); err == nil || errors.As(err, new(*sandbox.Failure)) {
		t.Errorf("a call that the host could not serve: %v", err)
	}
}

// TestStartBeyondFuel: a program whose memory costs more than the epoch has fails for
// that, and not for what its memory would have met (spec/runtime.md §8).
func TestStartBeyondFuel(t *testing.T) {
	const head = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x05\x03\x01\x00\x01\x07\x13\x02\x06_start\x00\x00\x06memory\x02\x00\x0a\x04\x01\x02\x00\x0b"
	bin := head + "\x0b\x09\x01\x00\x41\x80\x80\x04\x0b\x01x" // a byte at 65,536, behind a page
	e, err := New(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p, err := e.Load(t.Context(), bytes.NewReader([]byte(bin)))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for fuel, want := range map[uint64]sandbox.FailureKind{1: sandbox.FailedFuel, sandbox.DefaultLimits().Fuel: sandbox.FailedTrap} {
		job := &sandbox.Job{Limits: sandbox.DefaultLimits()}
		job.Limits.Fuel = fuel
		r, err := p.Start(t.Context(), job, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Next(t.Context())
		var f *sandbox.Failure
		if !errors.As(err, &f) || f.Kind != want {
			t.Errorf("with fuel %d: %v, wanted kind %d", fuel, err, want)
		}
		r.Close()
	}
}
