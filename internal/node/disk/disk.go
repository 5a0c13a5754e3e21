// Package disk manages the files of a home. Each file is written atomically and
// durably, and strangers' data never use the space that the database needs.
package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrFull means that the requested space would fill the disk.
var ErrFull = errors.New("not enough space on the disk")

// Files manages the files below a home's directory. Every file's content is
// verified against a hash or signature when it is read.
type Files struct {
	dir      string
	mu       sync.Mutex
	promised uint64 // to what is being written; some of it is on the disk already
}

// partialDir contains files that are being written; it is emptied at every
// start.
const partialDir = "partial"

// Open creates missing directories with the given names below dir, and deletes
// partial files.
func Open(dir string, names ...string) (*Files, error) {
	if err := os.RemoveAll(filepath.Join(dir, partialDir)); err != nil {
		return nil, err
	}
	for _, d := range append(names, partialDir) {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	return &Files{dir: dir}, nil
}

// Path is the path of a file in one of the directories.
func (f *Files) Path(dir string, id fmt.Stringer, ext string) string {
	return filepath.Join(f.dir, dir, id.String()+ext)
}

// Write writes a file with fill; it appears under path complete and durable, or
// not at all.
func (f *Files) Write(path string, fill func(*os.File) error) (err error) {
	tmp, err := f.Create()
	if err != nil {
		return err
	}
	defer tmp.Discard()
	if err := fill(tmp.File); err != nil {
		return err
	}
	return tmp.Keep(path)
}

// Partial is a file that is being written.
type Partial struct {
	*os.File
	kept bool
}

// Create creates a file without a name. It must be ended with Keep or Discard.
func (f *Files) Create() (*Partial, error) {
	t, err := os.CreateTemp(filepath.Join(f.dir, partialDir), "")
	if err != nil {
		return nil, err
	}
	return &Partial{File: t}, nil
}

// Continue opens the file under path, or creates it, to write at its end. Unlike
// those of Create it survives a restart. It must be ended with Keep, Discard or
// Pause.
func (f *Files) Continue(path string) (*Partial, error) {
	t, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &Partial{File: t}, nil
}

// Pause ends the writing for now; Continue goes on with the file.
func (p *Partial) Pause() error {
	p.kept = true
	return errors.Join(p.Sync(), p.Close())
}

// Keep makes the file durable under path.
func (p *Partial) Keep(path string) error {
	if err := p.Sync(); err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		return err
	}
	if err := os.Rename(p.Name(), path); err != nil {
		return err
	}
	p.kept = true
	return syncDir(filepath.Dir(path))
}

// Discard removes the file unless it was kept.
func (p *Partial) Discard() {
	if !p.kept {
		_ = p.Close()
		_ = os.Remove(p.Name())
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Remove deletes a file that may be gone already.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Sweep deletes the files of a directory that belong to no state, because
// something was interrupted between writing the file and the state. If wanted
// fails, it keeps the file and logs the reason.
func (f *Files) Sweep(dir string, log *slog.Logger, wanted func(name string) (bool, error)) error {
	list, err := os.ReadDir(filepath.Join(f.dir, dir))
	if err != nil {
		return err
	}
	for _, e := range list {
		known, err := wanted(e.Name())
		if err != nil { // what cannot be read keeps its file, and keeps no other from starting
			log.Error("a contract cannot be read", "file", filepath.Join(dir, e.Name()), "err", err)
			continue
		}
		if known {
			continue
		}
		if err := Remove(filepath.Join(f.dir, dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// reserved returns how much of a disk with total bytes is reserved for the
// database: strangers' data must not keep claims and refunds from being
// written.
func reserved(total uint64) uint64 { return min(1<<30, total/20) }

// Reserve reserves bytes of the disk for a file until give is called, or
// returns ErrFull.
func (f *Files) Reserve(bytes uint64) (give func(), err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(f.dir, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", f.dir, err)
	}
	block := uint64(st.Bsize)
	free, keep := uint64(st.Bavail)*block, reserved(uint64(st.Blocks)*block)
	f.mu.Lock()
	defer f.mu.Unlock()
	if free < keep || bytes > free-keep || f.promised > free-keep-bytes {
		return nil, fmt.Errorf("%w: %d bytes are needed, %d are free, of which %d are reserved", ErrFull, bytes, free, keep)
	}
	f.promised += bytes
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.promised -= bytes
	}, nil
}
