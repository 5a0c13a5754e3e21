package wasm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

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

// cacheDir is shared by all engines, of this run and of later ones: it is in the
// user's cache, under a hash of this package's sources, so that no run finds what
// another version of the rewriter or the engine has made.
var cacheDir = sync.OnceValue(func() string {
	if *childCache != "" {
		return *childCache
	}
	h := sha256.New()
	for _, pattern := range []string{"*.go", "rewrite/*.go", root + "/go.sum"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			panic(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				panic(err)
			}
			if !strings.HasSuffix(name, "_test.go") {
				fmt.Fprintf(h, "%q %x", name, sha256.Sum256(text))
			}
		}
	}
	fmt.Fprint(h, runtime.Version(), runtime.GOARCH)
	parent := filepath.Join(guests.Cache(), "compiled")
	dir := filepath.Join(parent, hex.EncodeToString(h.Sum(nil)[:16]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now)
	if old, err := os.ReadDir(parent); err == nil {
		for _, d := range old { // of versions that nobody tests any more
			if s, err := d.Info(); err == nil && now.Sub(s.ModTime()) > 7*24*time.Hour {
				_ = os.RemoveAll(filepath.Join(parent, d.Name()))
			}
		}
	}
	return dir
})

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
