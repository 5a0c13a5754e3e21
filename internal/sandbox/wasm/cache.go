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
	raw, err := os.ReadFile(c.path(id))
	if err != nil || len(raw) < 32 {
		return nil
	}
	if sum := blake3.Sum256(raw[32:]); !bytes.Equal(sum[:], raw[:32]) {
		return nil
	}
	var m rewrite.Module
	rest, err := cbor.UnmarshalFirst(raw[32:], &m)
	if err != nil {
		return nil
	}
	m.Binary = rest // not copied
	now := time.Now()
	_ = os.Chtimes(c.path(id), now, now) // what is used stays
	return &m
}

func (c *rewritten) store(id sandbox.Digest, m *rewrite.Module) {
	if c.dir == "" {
		return
	}
	c.wrote.Store(true)
	meta := *m
	meta.Binary = nil
	body, err := cbor.Marshal(meta)
	if err != nil {
		return
	}
	body = append(body, m.Binary...)
	sum := blake3.Sum256(body)
	path := c.path(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return
	}
	_, err = f.Write(append(sum[:], body...))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}

// prune removes the least recently used files until the cache is within its
// limit.
func (c *rewritten) prune(limit int64) {
	type entry struct {
		path string
		size int64
		used time.Time
	}
	var list []entry
	var total int64
	_ = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if s, err := d.Info(); err == nil {
			list = append(list, entry{path, s.Size(), s.ModTime()})
			total += s.Size()
		}
		return nil
	})
	slices.SortFunc(list, func(a, b entry) int { return a.used.Compare(b.used) })
	for _, e := range list {
		if total <= limit {
			return
		}
		if os.Remove(e.path) == nil {
			total -= e.size
		}
	}
}
