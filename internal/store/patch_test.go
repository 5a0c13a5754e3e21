package store

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// kept is a contract as the model of these tests has it.
type kept struct {
	base  []byte
	patch engine.Patch
}

func nth(n int) engine.Ref { return engine.Ref{Kind: kind, ID: wire.Hash{byte(n)}} }

func compareKept(t *testing.T, s *Store, want map[engine.Ref]kept) {
	t.Helper()
	conform.Must(t, s.View(t.Context(), func(tx engine.Tx) error {
		n := 0
		if err := tx.Each(kind, true, func(r engine.Ref, state []byte) error {
			n++
			k := want[r]
			if w := k.patch.Of(k.base); !bytes.Equal(state, w) {
				t.Errorf("%v: %x, want %x", r, state, w)
			}
			return nil
		}); err != nil {
			return err
		}
		if n != len(want) {
			t.Errorf("%d contracts, want %d", n, len(want))
		}
		return nil
	}))
}

// TestPatchGroup: updates that share a commit patch, save, read and fail in any
// order; what is there afterwards is what those that were acknowledged wrote.
func TestPatchGroup(t *testing.T) {
	s, path := openTest(t)
	random := tier.NewSample(t).Rand()
	model := map[engine.Ref]kept{}
	no := errors.New("no")
	for range tier.Pick(200, 1000, 10_000) {
		var group []*update
		next := maps.Clone(model)
		for range 1 + random.IntN(4) {
			group = append(group, &update{f: func(tx engine.Tx) error {
				was := maps.Clone(next)
				for range random.IntN(4) {
					r := nth(random.IntN(4))
					k, there := next[r]
					switch random.IntN(9) {
					case 0:
						k = kept{base: append(make([]byte, random.IntN(100)), byte(random.Uint32()), 1)}
						conform.Must(t, tx.Save(r, k.base, contract.Interest{Txids: []wire.Hash{{1}}, Done: random.IntN(2) == 0}))
						next[r] = k
					case 1:
						conform.Must(t, tx.Save(r, nil, contract.Interest{Forget: true}))
						delete(next, r)
					case 2:
						conform.Must(t, tx.Put("x", []byte{1}, []byte{2}))
					case 3:
						state, err := tx.State(r)
						if there != (err == nil) || there && !bytes.Equal(state, k.patch.Of(k.base)) {
							t.Fatalf("%x, %v, want %x", state, err, k.patch.Of(k.base))
						}
					case 4:
						state := []byte{9, byte(random.Uint32())}
						ok, err := tx.Replace(r, k.patch.Of(k.base), state)
						if err != nil || ok != there {
							t.Fatal(ok, err)
						} else if ok {
							next[r] = kept{base: state}
						}
					default:
						is := engine.Patch{At: random.IntN(2), Cut: 1, With: binary.BigEndian.AppendUint32(nil, random.Uint32())}
						ok, err := tx.Patch(r, k.base, k.patch, is)
						if err != nil || ok != there {
							t.Fatal(ok, err)
						} else if ok {
							next[r] = kept{k.base, is}
						}
					}
				}
				if random.IntN(3) == 0 {
					next = was
					return no
				}
				return nil
			}})
		}
		s.commit(group)
		for _, u := range group {
			if u.err != nil && !errors.Is(u.err, no) {
				t.Fatal(u.err)
			}
		}
		model = next
		compareKept(t, s, model)
	}
	conform.Must(t, s.Close())
	again, err := Open(path)
	conform.Must(t, err)
	defer again.Close()
	compareKept(t, again, model)
}

// TestDoneIsSmall: the state of what is done is compressed, and read as it was
// saved; what is not done, or not smaller for it, is not.
func TestDoneIsSmall(t *testing.T) {
	s, _ := openTest(t)
	long, short := bytes.Repeat([]byte("pennies "), 100), []byte{1}
	for i, c := range []struct {
		state []byte
		done  bool
		want  int
	}{{long, true, shortened}, {long, false, notDone}, {short, true, isDone}, {nil, true, isDone}} {
		conform.Must(t, s.Update(t.Context(), func(tx engine.Tx) error { return tx.Save(nth(i), c.state, contract.Interest{Done: c.done}) }))
		var size, done int
		id := nth(i).ID
		conform.Must(t, s.read.QueryRow("SELECT length(state), done FROM contract WHERE id = ?", id[:]).Scan(&size, &done))
		if done != c.want || done == shortened && size > 100 {
			t.Errorf("%d: %d bytes, done is %d", i, size, done)
		}
		conform.Must(t, s.View(t.Context(), func(tx engine.Tx) error {
			if got, err := tx.State(nth(i)); err != nil || !bytes.Equal(got, c.state) {
				t.Errorf("%d: %x, %v", i, got, err)
			}
			return nil
		}))
	}
	// As an earlier version wrote it, and replaced without Save.
	var old bytes.Buffer
	w, err := flate.NewWriter(&old, flate.BestCompression)
	conform.Must(t, err)
	_, err = w.Write(long)
	conform.Must(t, errors.Join(err, w.Close()))
	if _, err := s.write.Exec("UPDATE contract SET state = ?, done = ? WHERE done = ?", old.Bytes(), compressed, shortened); err != nil {
		t.Fatal(err)
	}
	longer := append(slices.Clone(long), long...)
	conform.Must(t, s.Update(t.Context(), func(tx engine.Tx) error {
		if got, err := tx.State(nth(0)); err != nil || !bytes.Equal(got, long) {
			t.Errorf("an earlier version's: %x, %v", got, err)
		}
		ok, err := tx.Replace(nth(0), long, longer)
		if !ok {
			t.Error("it is not replaced")
		}
		return err
	}))
	var size, done int
	id := nth(0).ID
	conform.Must(t, s.read.QueryRow("SELECT length(state), done FROM contract WHERE id = ?", id[:]).Scan(&size, &done))
	if done != shortened || size > 100 {
		t.Errorf("replaced: %d bytes, done is %d", size, done)
	}
	conform.Must(t, s.View(t.Context(), func(tx engine.Tx) error {
		if got, err := tx.State(nth(0)); err != nil || !bytes.Equal(got, longer) {
			t.Errorf("replaced: %x, %v", got, err)
		}
		return nil
	}))
	if _, err := s.write.Exec("UPDATE contract SET state = x'ff' WHERE done > 1"); err != nil {
		t.Fatal(err)
	}
	conform.WantErr(t, s.View(t.Context(), func(tx engine.Tx) error { _, err := tx.State(nth(0)); return err }), ErrCorrupt)
}

// TestWords: the words of compressed states are those with which they were written.
func TestWords(t *testing.T) {
	const want = "1e216769920a688b1abfdc1752465064af2eff670011a5110adebaa39bb1498c"
	if got := fmt.Sprintf("%x", sha256.Sum256(words)); got != want {
		t.Errorf("words.bin has the hash %s; states of before cannot be read", got)
	}
}

// TestPatchRefused: what a patch does not fit is not changed.
func TestPatchRefused(t *testing.T) {
	s, _ := openTest(t)
	base, one := []byte("penny 5."), engine.Patch{At: 6, Cut: 1, With: []byte("4")}
	conform.Must(t, s.Update(t.Context(), func(tx engine.Tx) error { return tx.Save(nth(1), base, contract.Interest{}) }))
	try := func(what string, want bool, r engine.Ref, state []byte, was, is engine.Patch) {
		t.Helper()
		conform.Must(t, s.Update(t.Context(), func(tx engine.Tx) error {
			if ok, err := tx.Patch(r, state, was, is); ok != want || err != nil {
				t.Errorf("%s: %v, %v", what, ok, err)
			}
			return nil
		}))
	}
	try("no contract", false, nth(2), base, engine.Patch{}, one)
	try("another state", false, nth(1), []byte("penny 6."), engine.Patch{}, one)
	try("a patch before the first", false, nth(1), base, one, one)
	try("beyond the end", false, nth(1), base, engine.Patch{}, engine.Patch{At: 8, Cut: 1})
	try("before the beginning", false, nth(1), base, engine.Patch{}, engine.Patch{At: -1, Cut: 1})
	try("the first", true, nth(1), base, engine.Patch{}, one)
	try("no patch before the second", false, nth(1), base, engine.Patch{}, engine.Patch{At: 6, Cut: 1, With: []byte("3")})
	try("the second", true, nth(1), base, one, engine.Patch{At: 6, Cut: 1, With: []byte("3")})
	compareKept(t, s, map[engine.Ref]kept{nth(1): {[]byte("penny 3."), engine.Patch{}}})
	conform.Must(t, s.View(t.Context(), func(tx engine.Tx) error {
		if ok, err := tx.Patch(nth(1), base, one, one); ok || err == nil {
			t.Error("a view is written to")
		}
		return nil
	}))
}

// TestPatchTorn: whatever part of SQLite's log reaches the disk, torn at any byte
// or damaged at any byte, the banks are as some commit left them, all of them as
// the same one; and a whole log has the last commit.
func TestPatchTorn(t *testing.T) {
	s, path := openTest(t)
	const contracts, commits = 5, 20
	base := []byte("penny 000.")
	conform.Must(t, s.Update(t.Context(), func(tx engine.Tx) error {
		for n := range contracts {
			conform.Must(t, tx.Save(nth(n), base, contract.Interest{}))
		}
		return nil
	}))
	var was engine.Patch
	for i := range commits {
		is := engine.Patch{At: 6, Cut: 3, With: fmt.Appendf(nil, "%03d", i+1)}
		conform.Must(t, s.Update(t.Context(), func(tx engine.Tx) error {
			for n := range contracts {
				if ok, err := tx.Patch(nth(n), base, was, is); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			return nil
		}))
		was = is
	}
	db, err := os.ReadFile(path)
	conform.Must(t, err)
	wal, err := os.ReadFile(path + "-wal")
	conform.Must(t, err)
	look := func(what string, wal []byte) (at string) {
		dir := t.TempDir()
		copied := filepath.Join(dir, "db")
		conform.Must(t, os.WriteFile(copied, db, 0o600))
		conform.Must(t, os.WriteFile(copied+"-wal", wal, 0o600))
		s, err := Open(copied)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer s.Close()
		n := 0
		conform.Must(t, s.View(t.Context(), func(tx engine.Tx) error {
			return tx.Each(kind, true, func(r engine.Ref, state []byte) error {
				if n++; n > 1 && string(state) != at {
					t.Errorf("%s: %s and %s", what, at, state)
				}
				at = string(state)
				return nil
			})
		}))
		if n != 0 && n != contracts {
			t.Errorf("%s: %d contracts", what, n)
		}
		return at
	}
	if got := look("the whole log", wal); got != fmt.Sprintf("penny %03d.", commits) {
		t.Errorf("the whole log: %s", got)
	}
	random := tier.NewSample(t).Rand()
	for range tier.Pick(20, 100, 2000) {
		n := random.IntN(len(wal))
		look(fmt.Sprintf("torn at byte %d", n), wal[:n])
		damaged := bytes.Clone(wal)
		damaged[n] ^= 1 << random.IntN(8)
		look(fmt.Sprintf("damaged at byte %d", n), damaged)
	}
}

// BenchmarkPatch measures what a penny costs of the writer, 50 in a commit.
func BenchmarkPatch(b *testing.B) {
	s, _ := openTest(b)
	base := make([]byte, 800)
	var was [50]engine.Patch
	conform.Must(b, s.Update(b.Context(), func(tx engine.Tx) error {
		for n := range was {
			conform.Must(b, tx.Save(nth(n), base, contract.Interest{}))
		}
		return nil
	}))
	for b.Loop() {
		conform.Must(b, s.Update(context.Background(), func(tx engine.Tx) error {
			for n := range was {
				is := engine.Patch{At: 700, Cut: 40, With: make([]byte, 40)}
				if ok, err := tx.Patch(nth(n), base, was[n], is); !ok {
					b.Fatal(err)
				}
				was[n] = is
			}
			return nil
		}))
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(len(was)), "µs/penny")
}
