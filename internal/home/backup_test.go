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
	h := At(filepath.Join(t.TempDir(), "a [home*")) // no pattern
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
		_, err := to.Restore(bytes.NewReader(raw), func(k *Keys) ([]byte, *Keys, error) {
			e, err := k.Open(pass)
			return e, k, err
		},
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

// TestRestoreCut: a restore that was cut off anywhere is done again, and no
// other identity is put beside its database meanwhile.
func TestRestoreCut(t *testing.T) {
	entropy, seed := bytes.Repeat([]byte{9}, 32), bytes.Repeat([]byte{8}, 64)
	h := At(t.TempDir())
	k, err := NewKeys(wire.Regtest, "bgrt1x", 5, entropy, "pass")
	must(t, err)
	must(t, h.Save(k))
	must(t, os.Mkdir(filepath.Join(h.Dir, "incoming"), 0o700))
	must(t, os.WriteFile(filepath.Join(h.Dir, "incoming", "ab.eml"), []byte("letter"), 0o600))
	var out bytes.Buffer
	must(t, h.Backup(t.Context(), &out, seed, func(_ context.Context, path string) error { return os.WriteFile(path, []byte("database"), 0o600) }))
	restore := func(h Home) error {
		_, err := h.Restore(bytes.NewReader(out.Bytes()), func(k *Keys) ([]byte, *Keys, error) {
			n, err := NewKeys(k.Network, k.Address, k.Created, entropy, "new") // by the words
			return entropy, n, err
		}, func([]byte) ([]byte, error) { return seed, nil }, func(string) error { return nil })
		return err
	}
	whole := At(filepath.Join(t.TempDir(), "home"))
	must(t, restore(whole))
	for name, there := range map[string][]string{
		"begun": {fileRestoring}, "mail": {fileRestoring, "incoming/ab.eml"}, "database": {fileRestoring, "incoming/ab.eml", backupDB},
		"logs": {backupDB + "-wal", backupDB + "-shm"}, "all of it, and logs": {fileRestoring, "incoming/ab.eml", backupDB, backupDB + "-wal"},
	} {
		cut := At(t.TempDir())
		must(t, os.Mkdir(filepath.Join(cut.Dir, "incoming"), 0o700))
		for _, f := range there {
			must(t, os.WriteFile(filepath.Join(cut.Dir, f), []byte("half"), 0o600))
		}
		if _, err := os.Lstat(filepath.Join(cut.Dir, backupDB)); err == nil {
			want(t, cut.Save(k), ErrExists)
		}
		must(t, restore(cut))
		list, err := os.ReadDir(cut.Dir)
		must(t, err)
		if len(list) != 3 {
			t.Errorf("%s: %v", name, list)
		}
		for name, content := range map[string]string{backupDB: "database", "incoming/ab.eml": "letter"} {
			if got, err := os.ReadFile(filepath.Join(cut.Dir, name)); err != nil || string(got) != content {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		got, err := cut.Keys()
		must(t, err)
		if _, err := got.Open("new"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want(t, restore(cut), ErrExists)
	}
	// What is not a restore's is not touched.
	for _, name := range []string{backupDB, "incoming/cd.eml"} {
		other := At(t.TempDir())
		must(t, os.Mkdir(filepath.Join(other.Dir, "incoming"), 0o700))
		must(t, os.WriteFile(filepath.Join(other.Dir, name), []byte("mine"), 0o600))
		want(t, restore(other), ErrExists)
		if got, err := os.ReadFile(filepath.Join(other.Dir, name)); err != nil || string(got) != "mine" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestSweep: what killed processes left is deleted, and nothing else.
func TestSweep(t *testing.T) {
	h, out := At(filepath.Join(t.TempDir(), "a [home")), t.TempDir()
	must(t, h.Make())
	mine := filepath.Join(out, "kept")
	for _, dir := range []string{".backup-1", ".restore-2"} {
		must(t, os.MkdirAll(filepath.Join(h.Dir, dir), 0o700))
		must(t, os.WriteFile(filepath.Join(h.Dir, dir, backupDB), []byte("all of it"), 0o600))
	}
	for _, path := range []string{h.path(".keys.json-3"), h.path(".api.json-4"), h.path(".restoring"), filepath.Join(out, ".kept-5"), filepath.Join(out, ".other-6"), filepath.Join(out, ".kept-two-7"), mine, h.path("keys.json")} {
		must(t, os.WriteFile(path, nil, 0o600))
	}
	must(t, h.Sweep(mine))
	for dir, want := range map[string]string{h.Dir: "keys.json", out: ".kept-two-7 .other-6 kept"} {
		list, err := os.ReadDir(dir)
		must(t, err)
		var names []string
		for _, e := range list {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("left: %s, not %s", got, want)
		}
	}
}
