package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/testing/guests"
)

// root is the module's, from this package's directory.
const root = "../../.."

// guestOf is a program that was built, or the end of the test: a skip where a
// tool is missing, which CI takes for a failure.
func guestOf(t testing.TB, bin []byte, err error) []byte {
	t.Helper()
	if errors.Is(err, guests.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func goGuest(t testing.TB, dir string) []byte {
	bin, err := guests.Go(dir)
	return guestOf(t, bin, err)
}

func cGuest(t testing.TB, source string) []byte {
	bin, err := guests.C(source)
	return guestOf(t, bin, err)
}

func rustGuest(t testing.TB, source string) []byte {
	bin, err := guests.Rust(source)
	return guestOf(t, bin, err)
}

func asyncified(t testing.TB, bin []byte) []byte {
	bin, err := guests.Asyncify(bin)
	return guestOf(t, bin, err)
}

// cacheDir is shared by all engines of the process.
var cacheDir = sync.OnceValue(func() string {
	if *childCache != "" {
		return *childCache
	}
	dir, err := os.MkdirTemp("", "bitgram-cache-")
	if err != nil {
		panic(err)
	}
	return dir
})

func TestMain(m *testing.M) {
	code := m.Run()
	if *childCache == "" {
		os.RemoveAll(cacheDir())
	}
	os.Exit(code)
}

func newEngine(t testing.TB, interpreter bool) *wasm.Engine {
	t.Helper()
	e, err := wasm.New(context.Background(), wasm.Config{Interpreter: interpreter, CacheDir: cacheDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func load(t testing.TB, e *wasm.Engine, bin []byte) sandbox.Program {
	t.Helper()
	p, err := e.Load(context.Background(), bytes.NewReader(bin))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
