package wasm

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// cacheLimit is the maximum size of the cache, in bytes.
const cacheLimit = 1 << 30

// rewritten caches rewritten modules beside wazero's cache of compiled ones. A
// cache that cannot be read or written acts as empty.
type rewritten struct {
	dir   string
	wrote atomic.Bool // it may have become too large
}

func (c *rewritten) path(id sandbox.Digest) string {
	return filepath.Join(c.dir, "modules-"+rewrite.Version, id.String())
}

// load returns the rewritten module of the program with this id, or nil if it
// is not cached or incomplete.
func (c *rewritten) load(id sandbox.Digest) *rewrite.Module {
	if c.dir == "" {
		return nil
	}
	m, _ := readModule(c.path(id))
	return m
}

func (c *rewritten) store(id sandbox.Digest, m *rewrite.Module) {
	if c.dir == "" {
		return
	}
	c.wrote.Store(true)
	if os.MkdirAll(filepath.Dir(c.path(id)), 0o700) == nil {
		_ = writeModule(c.path(id), m, nil)
	}
}

// stored is what a file of the cache has of a module besides its binary, which
// follows it.
type stored struct {
	rewrite.Module
	// Code is the BLAKE3 of the file of compiled code that belongs to a shell.
	Code []byte `cbor:",omitempty"`
}

// readModule returns a module that writeModule wrote, or nil, and the checksum of its
// compiled code.
func readModule(path string) (m *rewrite.Module, code []byte) {
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) < 32 {
		return nil, nil
	}
	if sum := blake3.Sum256(raw[32:]); !bytes.Equal(sum[:], raw[:32]) {
		return nil, nil
	}
	var s stored
	rest, err := cbor.UnmarshalFirst(raw[32:], &s)
	if err != nil {
		return nil, nil
	}
	s.Binary = rest // not copied
	used(path)
	return &s.Module, s.Code
}

// used keeps a file from being pruned early.
func used(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

// writeModule writes a module with the checksum of its compiled code, if it has one.
func writeModule(path string, m *rewrite.Module, code []byte) error {
	meta := stored{Module: *m, Code: code}
	meta.Binary = nil
	body, err := cbor.Marshal(meta)
	if err != nil {
		return err
	}
	body = append(body, m.Binary...)
	sum := blake3.Sum256(body)
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(sum[:], body...))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// prune removes the least recently used files, and programs with their compiled
// code, until the cache is within its limit.
func (c *rewritten) prune(limit int64) {
	type entry struct {
		path string
		size int64
		used time.Time
	}
	var list []entry
	var total int64
	add := func(to *entry, d fs.DirEntry) {
		if s, err := d.Info(); err == nil {
			to.size += s.Size()
			total += s.Size()
			if s.ModTime().After(to.used) {
				to.used = s.ModTime()
			}
		}
	}
	_ = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case d.IsDir() && isShellDir(path):
			e := entry{path: path}
			_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					add(&e, d)
				}
				return nil
			})
			list = append(list, e)
			return filepath.SkipDir
		case !d.IsDir():
			e := entry{path: path}
			add(&e, d)
			list = append(list, e)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b entry) int { return a.used.Compare(b.used) })
	for _, e := range list {
		if total <= limit {
			return
		}
		if os.RemoveAll(e.path) == nil {
			total -= e.size
		}
	}
}
