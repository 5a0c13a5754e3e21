//go:build unix

package wasm_test

import (
	"io/fs"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bitgram/bitgram/internal/sandbox/wasm"
)

// TestFullDisk: a program runs although no file of the cache can be written to its
// end, and nothing of it is left.
func TestFullDisk(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	full := was
	full.Cur = 100
	dir := t.TempDir()
	e, err := wasm.New(t.Context(), wasm.Config{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	bin := moduleSpec{funcs: []fn{{}}, pages: onePage}.bytes()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	err = loadAndStart(t, e, bin)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Error(err)
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			t.Errorf("%s is left (%v)", path, err)
		}
		return nil
	})
	// With room again, it is kept.
	p := load2(t, e, bin)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "compiled-*", "*", "shell")); len(kept) != 1 {
		t.Errorf("%d programs are kept", len(kept))
	}
}
