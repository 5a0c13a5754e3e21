package home

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/btcsuite/btcd/address/v2/bech32"
)

// backupHead is the first line of a backup, in JSON. After it comes a tar archive,
// encrypted with age (age-encryption.org/v1) to an X25519 key derived from the
// seed. The line holds the key file, so the passphrase or the words are needed to
// read the rest. The end of the archive is authenticated.
type backupHead struct {
	Backup int   `json:"bitgram_backup"`
	Keys   *Keys `json:"keys"`
}

const backupVersion = 1

// Names in the archive, besides received messages.
const (
	backupConfig = FileConfig
	backupDB     = "bitgram.db"
	backupMail   = dirIncoming + "/"
	dirIncoming  = "incoming"
)

// maxHead is the longest head that is read, in bytes.
const maxHead = 64 << 10

// ErrBackup: the file is not a backup, or is damaged.
var ErrBackup = errors.New("not a backup, or a damaged one")

// backupKey derives the X25519 identity to which a seed's backups are encrypted.
func backupKey(seed []byte) (*age.X25519Identity, error) {
	key, err := hkdf.Key(sha256.New, seed, nil, "bitgram/1/backup", 32)
	if err != nil {
		return nil, err
	}
	five, err := bech32.ConvertBits(key, 8, 5, true)
	if err != nil {
		return nil, err
	}
	text, err := bech32.Encode("age-secret-key-", five)
	if err != nil {
		return nil, err
	}
	return age.ParseX25519Identity(strings.ToUpper(text))
}

// Backup writes a backup of the home to w. snapshot writes a consistent copy of the
// database to a path.
func (h Home) Backup(ctx context.Context, w io.Writer, seed []byte, snapshot func(ctx context.Context, path string) error) error {
	keys, err := h.Keys()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(h.Dir, ".backup-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	db := filepath.Join(tmp, backupDB)
	if err := snapshot(ctx, db); err != nil {
		return err
	}
	head, err := json.Marshal(backupHead{backupVersion, keys})
	if err != nil {
		return err
	}
	if _, err := w.Write(append(head, '\n')); err != nil {
		return err
	}
	id, err := backupKey(seed)
	if err != nil {
		return err
	}
	sealed, err := age.Encrypt(w, id.Recipient())
	if err != nil {
		return err
	}
	out := tar.NewWriter(sealed)
	if err := addFile(out, backupDB, db); err != nil {
		return err
	}
	if err := addFile(out, backupConfig, h.path(FileConfig)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := os.ReadDir(h.path(dirIncoming))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !strings.HasSuffix(f.Name(), ".eml") {
			continue
		}
		if err := addFile(out, backupMail+f.Name(), h.path(backupMail+f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) { // deleted in the meantime
			return err
		}
	}
	return errors.Join(out.Close(), sealed.Close())
}

func addFile(out *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := f.Stat()
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: s.Size()}); err != nil {
		return err
	}
	_, err = io.CopyN(out, f, s.Size())
	return err
}

// Restore creates the home from a backup. It returns ErrExists if there is a home,
// or part of one, ErrPassphrase, ErrBackup or ErrNewer.
//
// open opens the key file of the backup, for example by asking for its passphrase,
// and returns the entropy with the key file for the home: the same one, or one
// under another passphrase. seedOf derives the seed from the entropy. check
// verifies the database and marks it as restored, before any file is in place.
//
// A restore that is interrupted can be repeated. The caller holds the lock.
func (h Home) Restore(r io.Reader, open func(*Keys) ([]byte, *Keys, error), seedOf func([]byte) ([]byte, error), check func(db string) error) (keys *Keys, err error) {
	if err := h.undoRestore(); err != nil {
		return nil, err
	}
	for _, name := range []string{fileKeys, backupDB} {
		if _, err := os.Lstat(h.path(name)); err == nil {
			return nil, fmt.Errorf("%w: %s", ErrExists, h.path(name))
		}
	}
	if err := os.Remove(h.path(dirIncoming)); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty one is removed
		return nil, fmt.Errorf("%w: %s", ErrExists, h.path(dirIncoming))
	}
	in := bufio.NewReaderSize(r, maxHead)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("%w: no head: %v", ErrBackup, err)
	}
	var head backupHead
	if err := json.Unmarshal(line, &head); err != nil || head.Keys == nil {
		return nil, fmt.Errorf("%w: no head", ErrBackup)
	}
	if head.Backup > backupVersion {
		return nil, fmt.Errorf("%w: the backup", ErrNewer)
	}
	if keys, err = head.Keys.check(); err != nil {
		return nil, err
	}
	e, keys, err := open(keys)
	if err != nil {
		return nil, err
	}
	seed, err := seedOf(e)
	if err != nil {
		return nil, err
	}
	id, err := backupKey(seed)
	if err != nil {
		return nil, err
	}
	opened, err := age.Decrypt(in, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBackup, err)
	}
	if err := h.Make(); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(h.Dir, ".restore-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := unpack(tmp, opened); err != nil {
		return nil, err
	}
	if err := check(filepath.Join(tmp, backupDB)); err != nil {
		return nil, fmt.Errorf("%w: its database: %w", ErrBackup, err)
	}
	if _, err := os.Lstat(filepath.Join(tmp, backupDB+"-wal")); err == nil {
		return nil, fmt.Errorf("%w: its database is incomplete on disk", ErrBackup)
	}
	// The key file comes last: only with it is the directory a home.
	if err := writeFile(h.path(fileRestoring), nil); err != nil {
		return nil, err
	}
	if err := h.removeLogs(); err != nil {
		return nil, err
	}
	for _, name := range []string{dirIncoming, backupConfig, backupDB} {
		from := filepath.Join(tmp, name)
		if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) && name != backupDB {
			continue
		}
		if err := os.Rename(from, h.path(name)); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(syncDir(h.path(dirIncoming)), syncDir(h.Dir)); err != nil {
		return nil, err
	}
	if err := h.save(keys); err != nil {
		return nil, err
	}
	return keys, os.Remove(h.path(fileRestoring))
}

// undoRestore removes what an interrupted restore has put in place.
func (h Home) undoRestore() error {
	if _, err := os.Lstat(h.path(fileRestoring)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := os.Lstat(h.path(fileKeys)); err == nil {
		return nil // the restore was complete
	}
	if err := errors.Join(os.RemoveAll(h.path(dirIncoming)), h.removeLogs()); err != nil {
		return err
	}
	for _, name := range []string{backupDB, fileRestoring} {
		if err := os.Remove(h.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeLogs removes files that SQLite would replay into another database.
func (h Home) removeLogs() error {
	for _, ext := range []string{"-wal", "-shm"} {
		if err := os.Remove(h.path(backupDB + ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unpack writes the archive's files to dir, and reads it to its authenticated end.
// It returns ErrBackup if the archive has other files than a backup.
func unpack(dir string, r io.Reader) error {
	if err := os.Mkdir(filepath.Join(dir, dirIncoming), 0o700); err != nil {
		return err
	}
	in := tar.NewReader(r)
	for {
		f, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %v", ErrBackup, err)
		}
		base, isMail := strings.CutPrefix(f.Name, backupMail)
		if f.Typeflag != tar.TypeReg || f.Name != backupDB && f.Name != backupConfig && (!isMail || base != filepath.Base(base) || !strings.HasSuffix(base, ".eml")) {
			return fmt.Errorf("%w: unexpected file %q", ErrBackup, f.Name)
		}
		out, err := os.OpenFile(filepath.Join(dir, f.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
			return fmt.Errorf("%w: %w", ErrBackup, err)
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // the data after the tar archive must be authentic, too
		return fmt.Errorf("%w: %v", ErrBackup, err)
	}
	return nil
}
