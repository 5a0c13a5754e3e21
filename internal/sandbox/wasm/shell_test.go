package wasm_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
)

// TestCompiledIsKept: a program that was compiled before is started from what was
// kept, with the same result; and from the whole module if what was kept is missing,
// damaged, or not what wazero takes, because it would run a shell without code.
func TestCompiledIsKept(t *testing.T) {
	m := moduleSpec{types: []string{"ii:", ":i"}, imports: [][3]string{imported(bitgramMod, "output", 1)}, pages: onePage, data: []string{"text"},
		funcs: []fn{{code: i32(0) + "\x10\x02" + "\x10\x00"}, {typ: 2, code: i32(4)}}}
	bin := m.bytes()
	dir := t.TempDir()
	// run returns the event, and the files of the cache with what they are.
	run := func() (*sandbox.Event, map[string]fs.FileInfo) {
		t.Helper()
		e, err := wasm.New(t.Context(), wasm.Config{CacheDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		p, err := e.Load(t.Context(), bytes.NewReader(bin))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		r, err := p.Start(t.Context(), hostileJob(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ev, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]fs.FileInfo{}
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files[path], err = d.Info()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return ev, files
	}
	find := func(files map[string]fs.FileInfo, part string) string {
		t.Helper()
		for path := range files {
			if strings.Contains(path, part) {
				return path
			}
		}
		t.Fatalf("no %s among %v", part, files)
		return ""
	}
	first, files := run()
	if string(first.Output) != "text" || len(files) != 3 {
		t.Fatalf("%q, %d files", first.Output, len(files))
	}
	code, shell := find(files, "/code/"), find(files, "/shell")
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	age := func() { // what the cache writes anew is younger
		t.Helper()
		if err := os.Chtimes(code, old, old); err != nil {
			t.Fatal(err)
		}
	}
	same := func(what string, kept bool) {
		t.Helper()
		ev, files := run()
		if ev.Root != first.Root || string(ev.Output) != "text" {
			t.Errorf("%s: it ends with root %v and puts out %q", what, ev.Root, ev.Output)
		}
		if len(files) != 3 {
			t.Errorf("%s: %d files", what, len(files))
		}
		if now := files[code]; now == nil || kept != now.ModTime().Equal(old) {
			t.Errorf("%s: the code is the old one: %t, wanted %t", what, !kept, kept)
		}
	}
	age()
	same("untouched", true)
	write := func(path string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		age()
	}
	whole, err := os.ReadFile(code)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(whole)
	other[bytes.IndexByte(other, 'v')+1] ^= 1 // the version of wazero: it compiles the shell
	write(code, other)
	same("of another version", false)
	bad := bytes.Clone(whole)
	bad[len(bad)/2] ^= 1
	write(code, bad)
	same("damaged", false)
	// The offsets of the functions are in no checksum of wazero's: magic and length
	// of the version, the version, the number of functions, an offset for each.
	astray := bytes.Clone(whole)
	offsets := astray[7+int(astray[6])+4:]
	copy(offsets[:8], offsets[8:16])
	write(code, astray)
	same("with the offset of another function", false)
	// The code of the shell, which traps: wazero itself would take it.
	kept, err := os.ReadFile(shell)
	if err != nil {
		t.Fatal(err)
	}
	trapDir := t.TempDir()
	cache, err := wazero.NewCompilationCacheWithDir(trapDir)
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close(t.Context())
	rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	defer rt.Close(t.Context())
	if _, err := rt.CompileModule(t.Context(), kept[bytes.Index(kept, []byte("\x00asm")):]); err != nil {
		t.Fatal(err)
	}
	// wazero's own cache looks under the same name.
	traps, err := filepath.Glob(filepath.Join(trapDir, "*", filepath.Base(code)))
	if err != nil || len(traps) != 1 {
		t.Fatal(traps, err)
	}
	trap, err := os.ReadFile(traps[0])
	if err != nil {
		t.Fatal(err)
	}
	write(code, trap)
	same("with the code of the shell", false)
	write(code, whole[:len(whole)-1])
	same("cut off", false)
	write(code, nil)
	same("empty", false)
	if err := os.Remove(code); err != nil {
		t.Fatal(err)
	}
	same("missing", false)
	age()
	if err := os.Rename(code, filepath.Join(filepath.Dir(code), strings.Repeat("0", 64))); err != nil {
		t.Fatal(err)
	}
	same("under another name, as on another processor", false)
	write(shell, []byte("no shell"))
	same("with a damaged shell", false)
	age()
	same("untouched at last", true)
	// A file where the directory should be: nothing is kept.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if ev, _ := run(); ev.Root != first.Root {
		t.Errorf("without a cache it ends with root %v", ev.Root)
	}
}
