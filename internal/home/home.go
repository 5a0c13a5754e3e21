// Package home is a home directory on disk, apart from what a node keeps in its
// database: the encrypted seed, the configuration, the lock that admits one
// daemon, and where that daemon's API listens.
package home

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The files of a home, beside the node's own.
const (
	fileKeys  = "keys.json"
	fileLock  = "lock"
	fileToken = "api.token"
	fileAPI   = "api.json"
	// fileRestoring is there while a restore puts files in their places.
	fileRestoring = ".restoring"
)

// FileConfig is the configuration, which the commands read.
const FileConfig = "config.toml"

// WriteConfig writes a configuration where there is none.
func (h Home) WriteConfig(raw []byte) error {
	if _, err := os.Lstat(h.path(FileConfig)); err == nil {
		return nil
	}
	return writeFile(h.path(FileConfig), raw)
}

// Errors of a home.
var (
	// ErrNone: the directory holds no identity.
	ErrNone = errors.New("no identity in this home")
	// ErrExists: it holds one already.
	ErrExists = errors.New("this home has an identity already")
	// ErrInUse: a daemon runs on the home.
	ErrInUse = errors.New("a daemon is running on this home")
	// ErrNoDaemon: none does.
	ErrNoDaemon = errors.New("no daemon is running on this home")
	// ErrPassphrase: the seed cannot be decrypted with it.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrOpen: others can read the directory, and it may be meant so.
	ErrOpen = errors.New("others can read this directory, and it holds other things than a home")
	// ErrDamaged: a file of the home is not what Bitgram wrote.
	ErrDamaged = errors.New("damaged")
	// ErrNewer: the home was written by a newer version.
	ErrNewer = errors.New("this home was written by a newer version of bitgram")
)

// Home is a home directory. The zero value is not usable; make it with At.
type Home struct{ Dir string }

// At is the home under dir, which need not exist yet.
func At(dir string) Home { return Home{dir} }

func (h Home) path(name string) string { return filepath.Join(h.Dir, name) }

// Make creates the directory, for its owner only.
func (h Home) Make() error { return os.MkdirAll(h.Dir, 0o700) }

// Lock is held by the one daemon of a home; the kernel frees it however the
// process ends.
type Lock struct {
	f *os.File
	// Note tells the user what was found wrong and mended; empty for nothing.
	Note string
}

// Lock takes the home, or fails with ErrInUse; ErrOpen.
func (h Home) Lock() (*Lock, error) {
	if err := h.Make(); err != nil {
		return nil, err
	}
	note, err := h.shut()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(h.path(fileLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for try := range lockTries {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		// It may be a command that looks whether there is a daemon.
		time.Sleep(time.Duration(try) * 10 * time.Millisecond)
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = fmt.Errorf("%w: %s", ErrInUse, h.Dir)
		fallthrough
	case err != nil:
		f.Close()
		return nil, err
	}
	return &Lock{f, note}, nil
}

// shut takes the directory from all but its owner, where it is a home or was
// empty; note tells of it. The files in it are their owner's anyway, as long as
// nobody copies them about.
func (h Home) shut() (note string, err error) {
	s, err := os.Stat(h.Dir)
	if err != nil || s.Mode().Perm()&0o077 == 0 {
		return "", err
	}
	list, err := os.ReadDir(h.Dir)
	if err != nil {
		return "", err
	}
	own := len(list) == 0
	for _, f := range list {
		own = own || f.Name() == fileKeys || f.Name() == fileRestoring || f.Name() == fileLock
	}
	if !own {
		return "", fmt.Errorf("%w: %s", ErrOpen, h.Dir)
	}
	if err := os.Chmod(h.Dir, 0o700); err != nil {
		return "", err
	}
	return fmt.Sprintf("others could read %s (mode %#o); it is its owner's alone now", h.Dir, s.Mode().Perm()), nil
}

// lockTries is how often the lock is tried, for half a second in all.
const lockTries = 10

// Release lets the next daemon in.
func (l *Lock) Release() error { return l.f.Close() }

// locked reports whether a daemon holds the home.
func (h Home) locked() (bool, error) {
	f, err := os.Open(h.path(fileLock))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	return errors.Is(err, syscall.EWOULDBLOCK), nil
}

// Endpoint is where a daemon answers, and who it is.
type Endpoint struct {
	URL string `json:"url"`
	PID int    `json:"pid"`
	// Token admits to the API. It is kept in a file of its own, for programs
	// that read it from there.
	Token string `json:"-"`
}

// Token is the secret that admits to the home's API, made when it is first
// asked for: whoever can read the home's files may use its daemon.
func (h Home) Token() (string, error) {
	raw, err := os.ReadFile(h.path(fileToken))
	if err == nil {
		if t := strings.TrimSpace(string(raw)); len(t) == 64 {
			return t, nil
		}
		return "", fmt.Errorf("%w: %s (delete it; the daemon makes another)", ErrDamaged, h.path(fileToken))
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	t := hex.EncodeToString(b[:])
	return t, writeFile(h.path(fileToken), []byte(t+"\n"))
}

// Publish tells where the daemon answers. Only the holder of the lock may.
func (h Home) Publish(url string) error {
	raw, err := json.Marshal(Endpoint{URL: url, PID: os.Getpid()})
	if err != nil {
		return err
	}
	return writeFile(h.path(fileAPI), append(raw, '\n'))
}

// Endpoint finds the daemon of the home; ErrNoDaemon where none is running or
// it does not answer yet. What a dead daemon left behind is not believed, so
// that the token is told to nobody else who listens there now.
func (h Home) Endpoint() (e Endpoint, err error) {
	running, err := h.locked()
	if err != nil {
		return e, err
	}
	if !running {
		return e, fmt.Errorf("%w: %s", ErrNoDaemon, h.Dir)
	}
	raw, err := os.ReadFile(h.path(fileAPI))
	if errors.Is(err, os.ErrNotExist) {
		return e, fmt.Errorf("%w: it is still starting", ErrNoDaemon)
	}
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, fmt.Errorf("%w: %s", ErrDamaged, h.path(fileAPI))
	}
	e.Token, err = h.Token()
	return e, err
}

// Unpublish takes the endpoint away, at the daemon's start and end.
func (h Home) Unpublish() error {
	if err := os.Remove(h.path(fileAPI)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// WriteFile writes a file for its owner only that appears whole or not at all,
// durably, over an earlier one. What a killed process leaves is .NAME-*, beside
// it.
func WriteFile(path string, fill func(io.Writer) error) error {
	return write(path, fill, os.Rename)
}

func writeFile(path string, data []byte) error {
	return WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// createFile is writeFile for a file that must not be there: fs.ErrExist.
func createFile(path string, data []byte) error {
	return write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}, func(from, to string) error {
		err := os.Link(from, to)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		// A file system without links. Two at once are kept apart by nothing there.
		if _, err := os.Lstat(to); err == nil {
			return fs.ErrExist
		}
		return os.Rename(from, to)
	})
}

func write(path string, fill func(io.Writer) error, place func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	out := bufio.NewWriterSize(f, 64<<10)
	if err := errors.Join(fill(out), out.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Sweep deletes what killed processes left half done beside what they wrote: in
// the home, and for the file outside of it. Only the holder of the lock may.
func (h Home) Sweep(file string) error {
	names := []string{".backup-", ".restore-"}
	for _, name := range []string{fileKeys, fileToken, fileAPI, FileConfig} {
		names = append(names, "."+name+"-")
	}
	err := errors.Join(sweep(h.Dir, names...), os.RemoveAll(h.path(fileRestoring)))
	if file != "" {
		err = errors.Join(err, sweep(filepath.Dir(file), "."+filepath.Base(file)+"-"))
	}
	return err
}

// sweep deletes what os.CreateTemp and os.MkdirTemp have named so: a beginning,
// and digits.
func sweep(dir string, names ...string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range list {
		for _, name := range names {
			rest, ok := strings.CutPrefix(f.Name(), name)
			if ok && rest != "" && strings.Trim(rest, "0123456789") == "" {
				errs = append(errs, os.RemoveAll(filepath.Join(dir, f.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%w: %s is larger than %d bytes", ErrDamaged, path, limit)
	}
	return raw, err
}
