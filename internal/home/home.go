// Package home reads and writes a home directory, except for the node's database:
// the key file with the encrypted seed, the configuration, the lock that admits
// one daemon, the address of that daemon's API, and backups (spec/home.md).
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

// The files of a home, besides the node's.
const (
	fileKeys  = "keys.json"
	fileLock  = "lock"
	fileToken = "api.token"
	fileAPI   = "api.json"
	// fileRestoring exists while a restore moves files into place.
	fileRestoring = ".restoring"
)

// FileConfig is the name of the configuration file, which the commands read.
const FileConfig = "config.toml"

// WriteConfig writes the configuration file if there is none.
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
	// ErrExists: the directory holds an identity, or part of one.
	ErrExists = errors.New("this home has an identity already")
	// ErrInUse: a daemon runs on the home.
	ErrInUse = errors.New("a daemon is running on this home")
	// ErrNoDaemon: no daemon runs on the home, or it does not answer.
	ErrNoDaemon = errors.New("no daemon is running on this home")
	// ErrPassphrase: the seed cannot be decrypted with the passphrase.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrOpen: other users can read the directory, and it holds other files, so its
	// mode is not changed.
	ErrOpen = errors.New("other users can read this directory, and it holds other things than a home")
	// ErrDamaged: a file of the home is not as Bitgram wrote it.
	ErrDamaged = errors.New("damaged")
	// ErrNewer: a newer version of Bitgram wrote the home.
	ErrNewer = errors.New("this home was written by a newer version of bitgram")
)

// Home is a home directory. The zero value is not usable; use At.
type Home struct{ Dir string }

// At returns the home in dir, which need not exist yet.
func At(dir string) Home { return Home{dir} }

func (h Home) path(name string) string { return filepath.Join(h.Dir, name) }

// Make creates the directory, readable by its owner only.
func (h Home) Make() error { return os.MkdirAll(h.Dir, 0o700) }

// Lock is held by the daemon of a home. The kernel releases it when the process
// ends, even by a crash.
type Lock struct {
	f *os.File
	// Note tells the user what was wrong with the directory and has been fixed;
	// empty for nothing.
	Note string
}

// Lock takes the lock of the home. It returns ErrInUse if another process holds it
// and ErrOpen if the directory is not private and cannot be made so.
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
		// A command may hold it for a moment, to see if a daemon is running.
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

// shut makes the directory readable by its owner only, if it is a home or empty;
// note says so. The files in it have always been readable by their owner only.
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
	return fmt.Sprintf("other users could read %s (mode %#o); it is private to its owner now", h.Dir, s.Mode().Perm()), nil
}

// lockTries is how often the lock is tried, for half a second in total.
const lockTries = 10

// Release releases the lock.
func (l *Lock) Release() error { return l.f.Close() }

// locked reports whether a daemon holds the lock.
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

// Endpoint is the address of a daemon's API, and its process.
type Endpoint struct {
	URL string `json:"url"`
	PID int    `json:"pid"`
	// Token authorises requests to the API. It is in a separate file, api.token,
	// from which other programs can read it.
	Token string `json:"-"`
}

// Token returns the secret that authorises requests to the home's API, and creates
// it on the first call: a user who can read the home's files may use its daemon.
func (h Home) Token() (string, error) {
	raw, err := os.ReadFile(h.path(fileToken))
	if err == nil {
		if t := strings.TrimSpace(string(raw)); len(t) == 64 {
			return t, nil
		}
		return "", fmt.Errorf("%w: %s (delete it; the daemon creates a new one)", ErrDamaged, h.path(fileToken))
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	t := hex.EncodeToString(b[:])
	return t, writeFile(h.path(fileToken), []byte(t+"\n"))
}

// Publish writes the address of the daemon's API. The caller holds the lock.
func (h Home) Publish(url string) error {
	raw, err := json.Marshal(Endpoint{URL: url, PID: os.Getpid()})
	if err != nil {
		return err
	}
	return writeFile(h.path(fileAPI), append(raw, '\n'))
}

// Endpoint returns the address of the home's daemon, or ErrNoDaemon if none is
// running or it has not published its address yet. The address of a daemon that
// has died is ignored, so that the token is not sent to another program that now
// listens there.
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

// Unpublish removes the published address, at the daemon's start and end.
func (h Home) Unpublish() error {
	if err := os.Remove(h.path(fileAPI)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// WriteFile writes a file durably, over an earlier one. It appears whole or not at
// all, and is readable by its owner only. A killed process may leave a file named
// .NAME-* beside it.
func WriteFile(path string, fill func(io.Writer) error) error {
	return write(path, fill, os.Rename)
}

func writeFile(path string, data []byte) error {
	return WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// createFile writes a file that must not exist yet; else it returns fs.ErrExist.
func createFile(path string, data []byte) error {
	return write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}, func(from, to string) error {
		err := os.Link(from, to)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		// The file system has no links. Two processes at once could both get here.
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

// Sweep deletes temporary files that killed processes have left in the home, and
// beside file, which may be elsewhere. The caller holds the lock.
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

// sweep deletes what os.CreateTemp and os.MkdirTemp named with one of these
// prefixes: the prefix, then digits.
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

// readFile reads a file of at most limit bytes; a larger one is ErrDamaged.
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
