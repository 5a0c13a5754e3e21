package home

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// TestBackup: a home comes back whole, from its passphrase or its words; and a
// backup that is cut, changed or another's makes no home at all.
func TestBackup(t *testing.T) {
	entropy, seed := bytes.Repeat([]byte{9}, 32), bytes.Repeat([]byte{8}, 64)
	h := At(t.TempDir())
	k, err := NewKeys(wire.Regtest, "bgrt1x", 5, entropy, "pass")
	must(t, err)
	must(t, h.Save(k))
	must(t, h.WriteConfig([]byte("# config\n")))
	must(t, os.Mkdir(filepath.Join(h.Dir, "incoming"), 0o700))
	must(t, os.WriteFile(filepath.Join(h.Dir, "incoming", "ab.eml"), []byte("letter"), 0o600))
	must(t, os.WriteFile(filepath.Join(h.Dir, "incoming", "ab.sealed"), []byte("copy"), 0o600))
	db := bytes.Repeat([]byte("database"), 100_000)
	var out bytes.Buffer
	must(t, h.Backup(t.Context(), &out, seed, func(_ context.Context, path string) error { return os.WriteFile(path, db, 0o600) }))
	raw := out.Bytes()
	if bytes.Contains(raw, []byte("letter")) || bytes.Contains(raw, []byte("databasedata")) {
		t.Fatal("the backup is readable")
	}

	restore := func(raw []byte, pass string) (Home, error) {
		to := At(filepath.Join(t.TempDir(), "new"))
		_, err := to.Restore(bytes.NewReader(raw), func(k *Keys) ([]byte, error) { return k.Open(pass) },
			func(e []byte) ([]byte, error) {
				if !bytes.Equal(e, entropy) {
					t.Error("another entropy")
				}
				return seed, nil
			}, func(path string) error {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, db) {
					return errors.New("another database")
				}
				return nil
			})
		return to, err
	}
	to, err := restore(raw, "pass")
	must(t, err)
	for name, want := range map[string]string{"bitgram.db": string(db), "config.toml": "# config\n", "incoming/ab.eml": "letter"} {
		if got, err := os.ReadFile(filepath.Join(to.Dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	got, err := to.Keys()
	must(t, err)
	if *got != *k {
		t.Errorf("keys %+v", got)
	}
	if list, err := os.ReadDir(to.Dir); err != nil || len(list) != 4 {
		t.Errorf("in the new home: %v, %v", list, err)
	}
	_, err = to.Restore(bytes.NewReader(raw), nil, nil, nil)
	want(t, err, ErrExists)

	_, err = restore(raw, "wrong")
	want(t, err, ErrPassphrase)
	bad := map[string][]byte{"nothing": nil, "no head": raw[bytes.IndexByte(raw, '\n')+1:], "junk": []byte("{}\njunk"), "newer": []byte(strings.Replace(string(raw), `"bitgram_backup":1`, `"bitgram_backup":2`, 1))}
	for _, n := range []int{1, 100, len(raw) / 2, len(raw) - 70_000, len(raw) - 1} {
		bad["cut at "+string(rune('a'+len(bad)))] = raw[:n]
	}
	for _, at := range []int{bytes.IndexByte(raw, '\n') + 40, len(raw) / 2, len(raw) - 1} {
		c := bytes.Clone(raw)
		c[at] ^= 1
		bad["changed "+string(rune('a'+len(bad)))] = c
	}
	for name, raw := range bad {
		to, err := restore(raw, "pass")
		if !errors.Is(err, ErrBackup) && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range []string{fileKeys, backupDB} {
			if _, err := os.Stat(filepath.Join(to.Dir, f)); err == nil {
				t.Errorf("%s: %s is there", name, f)
			}
		}
	}
}
