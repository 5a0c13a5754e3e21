package home

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

const childDir = "BITGRAM_TEST_LOCK"

// TestMain makes the test binary a child that holds a home's lock until it is
// killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		h := At(dir)
		if _, err := h.Lock(); err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		if err := h.Publish("http://127.0.0.1:1"); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("locked\n")
		time.Sleep(time.Minute)
	}
	// The cost of a real home would be most of what these tests cost.
	realCost, kdfCost = kdfCost, KDF{Name: "argon2id", Time: 1, Memory: 64, Threads: 1}
	os.Exit(m.Run())
}

// realCost is what deriving a key costs outside of these tests.
var realCost KDF

// TestCost: a home has RFC 9106's second recommended choice, and opens with it.
func TestCost(t *testing.T) {
	if want := (KDF{Name: "argon2id", Time: 3, Memory: 64 << 10, Threads: 4}); realCost != want {
		t.Errorf("%+v, wanted %+v", realCost, want)
	}
	defer func(cost KDF) { kdfCost = cost }(kdfCost)
	kdfCost = realCost
	k, err := NewKeys(wire.Regtest, "bgrt1x", 5, make([]byte, 32), "pass")
	must(t, err)
	if _, err := k.Open("pass"); err != nil || k.KDF.Memory != 64<<10 {
		t.Errorf("%+v, %v", k.KDF, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, is error) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Errorf("%v, want %v", err, is)
	}
}

// TestOneDaemon: the second one is refused, in another process too; when the
// first is killed, its lock is free, and what it published is not believed.
func TestOneDaemon(t *testing.T) {
	tier.NotShort(t) // it starts a process
	h := At(filepath.Join(t.TempDir(), "home"))
	_, err := h.Endpoint()
	want(t, err, ErrNoDaemon)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+h.Dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line := make([]byte, 7)
	if _, err := out.Read(line); err != nil || string(line) != "locked\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	_, err = h.Lock()
	want(t, err, ErrInUse)
	e, err := h.Endpoint()
	must(t, err)
	if e.PID != cmd.Process.Pid || e.URL != "http://127.0.0.1:1" || len(e.Token) != 64 {
		t.Errorf("endpoint %+v", e)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	_, err = h.Endpoint()
	want(t, err, ErrNoDaemon)
	l, err := h.Lock()
	must(t, err)
	must(t, l.Release())
	if s, err := os.Stat(filepath.Join(h.Dir, fileToken)); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("the token's mode: %v, %v", s.Mode(), err)
	}
}

func TestKeys(t *testing.T) {
	entropy := bytes.Repeat([]byte{7}, 32)
	for _, pass := range []string{"", "correct horse", strings.Repeat("ü", 500)} {
		h := At(t.TempDir())
		_, err := h.Keys()
		want(t, err, ErrNone)
		k, err := NewKeys(wire.Regtest, "bgrt1x", 5, entropy, pass)
		must(t, err)
		must(t, h.Save(k))
		want(t, h.Save(k), ErrExists)
		// Of two at once, one wins.
		race := At(filepath.Join(t.TempDir(), "new"))
		results := make(chan error, 4)
		for range 4 {
			go func() { results <- race.Save(k) }()
		}
		saved := 0
		for range 4 {
			if err := <-results; err == nil {
				saved++
			} else {
				want(t, err, ErrExists)
			}
		}
		if saved != 1 {
			t.Errorf("%d seeds were saved", saved)
		}
		k, err = h.Keys()
		must(t, err)
		if k.Encrypted() != (pass != "") || k.Created != 5 {
			t.Errorf("%+v", k)
		}
		got, err := k.Open(pass)
		must(t, err)
		if !bytes.Equal(got, entropy) {
			t.Error("another seed")
		}
		raw, err := os.ReadFile(filepath.Join(h.Dir, fileKeys))
		must(t, err)
		if pass != "" && bytes.Contains(raw, []byte(strings.Repeat("07", 8))) {
			t.Error("the seed is readable")
		}
		if s, err := os.Stat(filepath.Join(h.Dir, fileKeys)); err != nil || s.Mode().Perm() != 0o600 {
			t.Errorf("the key file's mode: %v, %v", s.Mode(), err)
		}
		if pass == "" {
			continue
		}
		_, err = k.Open("wrong")
		want(t, err, ErrPassphrase)
		// Whatever is changed in the file is noticed.
		for name, change := range map[string]func(*Keys){
			"address": func(k *Keys) { k.Address = "bgrt1y" }, "created": func(k *Keys) { k.Created = 0 },
			"network": func(k *Keys) { k.Network = wire.Mainnet }, "memory": func(k *Keys) { k.KDF.Memory = 8 },
			"sealed": func(k *Keys) { k.Sealed = "00" + k.Sealed[2:] },
		} {
			c := *k
			change(&c)
			if _, err := c.Open(pass); !errors.Is(err, ErrPassphrase) {
				t.Errorf("%s changed: %v", name, err)
			}
		}
		for name, change := range map[string]func(*Keys){
			"absurd memory": func(k *Keys) { k.KDF.Memory = 1 << 31 }, "absurd time": func(k *Keys) { k.KDF.Time = 1 << 30 },
			"no threads": func(k *Keys) { k.KDF.Threads = 0 }, "no salt": func(k *Keys) { k.KDF.Salt = "" },
			"other kdf": func(k *Keys) { k.KDF.Name = "md5" }, "nonce": func(k *Keys) { k.Nonce = "00" },
			"hex": func(k *Keys) { k.Sealed = "x" },
		} {
			c := *k
			change(&c)
			if _, err := c.Open(pass); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestParseKeys(t *testing.T) {
	k, err := NewKeys(wire.Regtest, "a", 0, make([]byte, 32), "")
	must(t, err)
	raw, err := json.Marshal(k)
	must(t, err)
	for text, is := range map[string]error{
		"": ErrDamaged, "{}": ErrDamaged, "[]": ErrDamaged, string(raw[:len(raw)/2]): ErrDamaged,
		strings.Replace(string(raw), `"version":1`, `"version":2`, 1): ErrNewer,
		strings.Replace(string(raw), `"regtest"`, `"moonnet"`, 1):     ErrDamaged,
	} {
		_, err := ParseKeys([]byte(text))
		want(t, err, is)
	}
}

// TestShut: a home is its owner's alone; a directory that is others' too, with
// what is in it, is not touched.
func TestShut(t *testing.T) {
	for name, c := range map[string]struct {
		mode   os.FileMode
		file   string
		is     error
		noted  bool
		wanted os.FileMode
	}{
		"empty":     {0o755, "", nil, true, 0o700},
		"home":      {0o750, fileKeys, nil, true, 0o700},
		"shut":      {0o700, "notes.txt", nil, false, 0o700},
		"others'":   {0o755, "notes.txt", ErrOpen, false, 0o755},
		"sticky":    {0o777 | os.ModeSticky, "notes.txt", ErrOpen, false, 0o777},
		"traversed": {0o711, fileKeys, nil, true, 0o700},
	} {
		h := At(filepath.Join(t.TempDir(), "home"))
		must(t, h.Make())
		if c.file != "" {
			must(t, os.WriteFile(h.path(c.file), nil, 0o600))
		}
		must(t, os.Chmod(h.Dir, c.mode))
		l, err := h.Lock()
		if !errors.Is(err, c.is) || err == nil && (l.Note != "") != c.noted {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
		if err == nil {
			must(t, l.Release())
		}
		if s, err := os.Stat(h.Dir); err != nil || s.Mode().Perm() != c.wanted {
			t.Errorf("%s: mode %v, %v", name, s.Mode(), err)
		}
	}
}
