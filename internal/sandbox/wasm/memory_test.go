package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

// TestMemoryOfAJob: a job takes its memory once and little more, in each of its
// epochs, and every page of the last event can be proven.
func TestMemoryOfAJob(t *testing.T) {
	tier.NotShort(t)
	const pages = 4000
	fill := i32(64) + i32(7) + i32((pages-1)*sandbox.PageSize) + "\xfc\x0b\x00"
	m := moduleSpec{types: []string{"ii:", ":l"}, imports: [][3]string{imported(bitgramMod, "sync", 1), imported(bitgramMod, "epoch", 2)}, pages: [2]int{pages, pages},
		funcs: []fn{{code: fill + "\x10\x01\x42\x03\x53\x04\x40" + i32(0) + i32(8) + "\x10\x00\x0b"}}}
	job := hostileJob()
	job.Limits.Memory, job.Limits.Fuel = 256<<20, 10_000_000_000
	run, err := load2(t, newEngine(t, false), m.bytes()).Start(t.Context(), job, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before) // the memory itself is not on Go's heap
	epochs := 0
	for {
		ev, err := run.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		epochs++
		for _, page := range []uint32{0, 1, pages - 1} {
			proof, err := run.Prove(sandbox.Memory, page)
			if err != nil || !proof.Verify(ev.Root) {
				t.Fatalf("page %d: %v", page, err)
			}
		}
		if ev.Done {
			break
		}
	}
	runtime.ReadMemStats(&after)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(pages*sandbox.PageSize/5); epochs != 3 || got > most {
		t.Errorf("%d epochs allocate %d MiB besides the memory, at most %d are stated", epochs, got>>20, most>>20)
	}
}

// TestProofsOfTheEnd: the memory of a program that has ended can be proven until its
// run is closed, although no copy of it is kept if this was its only event.
func TestProofsOfTheEnd(t *testing.T) {
	m := moduleSpec{pages: [2]int{3, 3}, data: []string{"text"}, funcs: []fn{{code: i32(70000) + i32(7) + "\x3a\x00\x00"}}}
	run, err := load2(t, newEngine(t, false), m.bytes()).Start(t.Context(), hostileJob(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := run.Next(t.Context())
	if err != nil || !ev.Done {
		t.Fatal(ev, err)
	}
	for page, want := range []byte{'t', 0, 0} {
		p, err := run.Prove(sandbox.Memory, uint32(page))
		if err != nil || !p.Verify(ev.Root) || p.Data[0] != want || page == 1 && p.Data[70000-sandbox.PageSize] != 7 {
			t.Errorf("page %d: %v", page, err)
		}
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Prove(sandbox.Memory, 0); !errors.Is(err, sandbox.ErrNoState) {
		t.Errorf("after the run is closed: %v", err)
	}
}

// TestStandardFilesArePipes: a C library must not take them for a terminal.
func TestStandardFilesArePipes(t *testing.T) {
	code := ""
	for fd := range 3 {
		code += i32(fd) + i32(64*fd) + "\x10\x00\x1a" + i32(fd) + i32(256+64*fd) + "\x10\x01\x1a"
	}
	m := moduleSpec{types: []string{"ii:i", "ii:"}, imports: [][3]string{imported(wasiMod, "fd_fdstat_get", 1), imported(wasiMod, "fd_filestat_get", 1), imported(bitgramMod, "output", 2)},
		pages: onePage, data: []string{strings.Repeat("\xff", 512)}, funcs: []fn{{code: code + i32(0) + i32(512) + "\x10\x02"}}}
	run, err := load2(t, newEngine(t, false), m.bytes()).Start(t.Context(), hostileJob(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	ev, err := run.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for fd := range 3 {
		if a, b := ev.Output[64*fd], ev.Output[256+64*fd+16]; a != 0 || b != 0 {
			t.Errorf("file %d has the types %d and %d, a pipe has 0", fd, a, b)
		}
	}
}

// TestCacheIsBounded: what the cache holds beyond its limit is removed, the oldest
// first, when an engine that added to it is closed.
func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "modules-0", "old")
	if err := os.MkdirAll(filepath.Dir(old), 0o700); err != nil {
		t.Fatal(err)
	}
	e, err := wasm.New(context.Background(), wasm.Config{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(old, 1<<30); err != nil { // without blocks on the disk
		t.Fatal(err)
	}
	p, err := e.Load(t.Context(), bytes.NewReader(moduleSpec{funcs: []fn{{}}, pages: onePage}.bytes()))
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the cache holds more than 1 GiB")
	}
	kept, _ := filepath.Glob(filepath.Join(dir, "modules-*", "*"))
	if len(kept) != 1 {
		t.Errorf("%d modules are kept", len(kept))
	}
}
