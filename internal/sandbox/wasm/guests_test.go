package wasm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
)

// root is the module's, from this package's directory.
const root = "../../.."

// need skips the test where a tool is missing; in CI that fails.
func need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		_, err := exec.LookPath(tool)
		if err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed: .ci/run has to", tool)
		}
		t.Skipf("%s is not installed", tool)
	}
}

// once keeps what was built, by name, for all tests of the process.
var once sync.Map

func built(t testing.TB, name string, build func(out string) *exec.Cmd) []byte {
	t.Helper()
	type result struct {
		bin []byte
		err error
	}
	f, _ := once.LoadOrStore(name, sync.OnceValue(func() (r result) {
		dir, err := os.MkdirTemp("", "bitgram-guest-")
		if err != nil {
			return result{nil, err}
		}
		defer os.RemoveAll(dir)
		out := filepath.Join(dir, "program.wasm")
		if said, err := build(out).CombinedOutput(); err != nil {
			return result{nil, fmt.Errorf("%w: %s", err, said)}
		}
		r.bin, r.err = os.ReadFile(out)
		return r
	}))
	r := f.(func() result)()
	if r.err != nil {
		t.Fatalf("%s: %v", name, r.err)
	}
	return r.bin
}

// goGuest builds a package of this module for wasip1.
func goGuest(t testing.TB, dir string) []byte {
	return built(t, "go:"+dir, func(out string) *exec.Cmd {
		c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./"+dir)
		c.Dir = root
		c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
		return c
	})
}

// cGuest compiles C for WASI.
func cGuest(t testing.TB, source string, flags ...string) []byte {
	need(t, "clang", "wasm-ld")
	return built(t, "c:"+source+strings.Join(flags, " "), func(out string) *exec.Cmd {
		args := append([]string{"--target=wasm32-wasi", "-O2", "-I", root + "/guest/c", "-o", out, source}, flags...)
		return exec.Command("clang", args...)
	})
}

// rustGuest compiles Rust for WASI with Debian's compiler, which is not always
// the first in the path.
func rustGuest(t testing.TB, source string) []byte {
	need(t, "/usr/bin/rustc", "wasm-ld")
	return built(t, "rust:"+source, func(out string) *exec.Cmd {
		return exec.Command("/usr/bin/rustc", "--target", "wasm32-wasi", "-O", "-o", out, source)
	})
}

// asyncified puts a module through asyncify.
func asyncified(t testing.TB, name string, bin []byte) []byte {
	need(t, "wasm-opt")
	return built(t, "asyncify:"+name, func(out string) *exec.Cmd {
		c := exec.Command("wasm-opt", "-O1", "--asyncify", "-o", out, "-")
		c.Stdin = bytes.NewReader(bin)
		return c
	})
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

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
