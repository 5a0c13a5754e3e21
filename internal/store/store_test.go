package store

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// kind is of the contracts here; a store knows nothing of what it means.
const kind engine.Kind = "a"

func TestConformance(t *testing.T) {
	root, n := t.TempDir(), 0
	conform.Store(t, func() *conform.StoreHarness {
		n++
		path := filepath.Join(root, fmt.Sprint(n), "home.db")
		s, err := Open(path)
		conform.Must(t, err)
		return &conform.StoreHarness{
			Store: s,
			Close: func() { s.Close() },
			Reopen: func() engine.Store {
				conform.Must(t, s.Close())
				s, err = Open(path)
				conform.Must(t, err)
				return s
			},
		}
	})
}

func openTest(tb testing.TB) (*Store, string) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "dir with space", "a?b%20#.db")
	s, err := Open(path)
	conform.Must(tb, err)
	tb.Cleanup(func() { s.Close() })
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("the database is elsewhere: %v", err)
	}
	return s, path
}

// childPath makes the test binary a child that updates that database until it
// is killed.
const childPath = "BITGRAM_TEST_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		fmt.Println("error", updateUntilKilled(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const childWriters = 8

// updateUntilKilled runs numbered updates, each of a contract, an effect and
// two keys, from several writers, and prints a number once it is acknowledged.
func updateUntilKilled(path string) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	fmt.Println("open")
	errs := make(chan error)
	var out sync.Mutex
	for w := range uint32(childWriters) {
		go func() {
			for {
				var n uint32
				if err := s.Update(context.Background(), func(tx engine.Tx) error {
					last, err := tx.Get("last", []byte{byte(w)})
					if err != nil {
						return err
					}
					n = w
					if last != nil {
						n = binary.BigEndian.Uint32(last) + childWriters
					}
					id := binary.BigEndian.AppendUint32(nil, n)
					if err := tx.Put("n", id, id); err != nil {
						return err
					}
					ref := engine.Ref{Kind: kind, ID: wire.Hash{28: id[0], 29: id[1], 30: id[2], 31: id[3]}}
					if err := tx.Save(ref, id, contract.Interest{Wake: 1}); err != nil {
						return err
					}
					if _, err := tx.AddEffect(ref, "x", id); err != nil {
						return err
					}
					return tx.Put("last", []byte{byte(w)}, id)
				}); err != nil {
					errs <- err
					return
				}
				out.Lock()
				fmt.Println(n)
				out.Unlock()
			}
		}()
	}
	return <-errs
}

// TestKill: what was acknowledged survives SIGKILL at any moment, and nothing
// is there by half.
func TestKill(t *testing.T) {
	tier.NotShort(t) // it starts processes
	const seed = 4
	random := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "home.db")
	told := map[uint32]bool{}
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childPath+"="+path)
		out, err := cmd.StdoutPipe()
		conform.Must(t, err)
		conform.Must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "open" {
			t.Fatalf("round %d: the child says %q", round, lines.Text())
		}
		// Killed some time after so many acknowledgements, however slow it is.
		after, later := 10+random.IntN(200), time.Duration(random.IntN(5_000))*time.Microsecond
		var kill *time.Timer
		var acked []uint32
		for lines.Scan() {
			var n uint32
			if k, err := fmt.Sscan(lines.Text(), &n); k != 1 {
				t.Errorf("round %d: %q, %v", round, lines.Text(), err)
			}
			if acked = append(acked, n); len(acked) == after {
				kill = time.AfterFunc(later, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		if kill == nil {
			t.Fatalf("round %d: the child ended after %d updates", round, len(acked))
		}
		kill.Stop()
		for _, n := range acked {
			told[n] = true
		}
		s, err := Open(path)
		if err != nil {
			t.Fatalf("round %d (seed %d): %v", round, seed, err)
		}
		conform.Must(t, s.View(t.Context(), func(tx engine.Tx) error {
			there := map[uint32]int{}
			conform.Must(t, tx.Scan("n", nil, 0, func(k, _ []byte) error { there[binary.BigEndian.Uint32(k)]++; return nil }))
			keys := len(there)
			for n := range told {
				if there[n] != 1 {
					t.Fatalf("round %d (seed %d): update %d was acknowledged and is lost", round, seed, n)
				}
			}
			conform.Must(t, tx.Each(kind, true, func(_ engine.Ref, state []byte) error {
				there[binary.BigEndian.Uint32(state)]++
				return nil
			}))
			effects, err := tx.Effects()
			conform.Must(t, err)
			for _, p := range effects {
				there[binary.BigEndian.Uint32(p.Body)]++
			}
			for n, parts := range there {
				if parts != 3 {
					t.Errorf("round %d (seed %d): %d of 3 parts of update %d", round, seed, parts, n)
				}
			}
			// Each writer's updates are there without a gap.
			sum := 0
			for w := range byte(childWriters) {
				if last, err := tx.Get("last", []byte{w}); err == nil && last != nil {
					sum += int(binary.BigEndian.Uint32(last))/childWriters + 1
				}
			}
			if sum != keys {
				t.Errorf("round %d: %d updates by the counters, %d by the keys", round, sum, keys)
			}
			return nil
		}))
		t.Logf("round %d: %d acknowledged", round, len(acked))
		conform.Must(t, s.Close())
	}
	if len(told) < 50 {
		t.Errorf("only %d updates in all: too few to mean anything", len(told))
	}
}

func TestNewer(t *testing.T) {
	s, path := openTest(t)
	if _, err := s.write.Exec(fmt.Sprintf("PRAGMA user_version = %d", schemaVersion+1)); err != nil {
		t.Fatal(err)
	}
	conform.Must(t, s.Close())
	_, err := Open(path)
	conform.WantErr(t, err, ErrNewer)
}

func TestCorrupt(t *testing.T) {
	s, path := openTest(t)
	for i := range 200 {
		conform.Must(t, s.Update(t.Context(), func(tx engine.Tx) error {
			return tx.Put("b", binary.BigEndian.AppendUint32(nil, uint32(i)), make([]byte, 200))
		}))
	}
	conform.Must(t, s.Close())
	good, err := os.ReadFile(path)
	conform.Must(t, err)
	reset := func(raw []byte) {
		for _, ext := range []string{"-wal", "-shm"} {
			_ = os.Remove(path + ext)
		}
		conform.Must(t, os.WriteFile(path, raw, 0o600))
	}
	reset([]byte("this is no database, but it is longer than the header of one would have to be........................"))
	_, err = Open(path)
	conform.WantErr(t, err, ErrCorrupt)

	// Whatever is hit: an error at the latest when it is read, never a panic.
	random := rand.New(rand.NewPCG(3, 0))
	failed := 0
	for range 40 {
		raw := append([]byte(nil), good...)
		for range 1 + random.IntN(40) {
			raw[random.IntN(len(raw))] ^= byte(1 + random.IntN(255))
		}
		if random.IntN(4) == 0 {
			raw = raw[:random.IntN(len(raw))]
		}
		reset(raw)
		s, err := Open(path)
		if err != nil {
			failed++
			continue
		}
		err = errors.Join(s.View(t.Context(), func(tx engine.Tx) error {
			_, _, err := tx.Position()
			return errors.Join(err, tx.Scan("b", nil, 0, func(_, _ []byte) error { return nil }))
		}), s.Update(t.Context(), func(tx engine.Tx) error { return tx.Put("b", []byte("x"), []byte("y")) }))
		if err != nil {
			failed++
		}
		s.Close()
	}
	if failed == 0 {
		t.Error("no damage was ever noticed")
	}
}

// TestGroup: updates that wait together share a commit.
func TestGroup(t *testing.T) {
	s, _ := openTest(t)
	gate, running := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	put := func(i int, wait bool) {
		wg.Go(func() {
			if err := s.Update(t.Context(), func(tx engine.Tx) error {
				if wait {
					close(running)
					<-gate
				}
				return tx.Put("b", binary.BigEndian.AppendUint32(nil, uint32(i)), []byte{1})
			}); err != nil {
				t.Error(err)
			}
		})
	}
	put(0, true)
	<-running
	before := s.commits.Load()
	const n = 100
	for i := range n {
		put(1+i, false)
	}
	for len(s.queue) < n {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	wg.Wait()
	if got := s.commits.Load() - before; got != 2 {
		t.Errorf("%d commits for 1 update and %d that waited for it, want 2", got, n)
	}
	// Nothing but failures: no commit at all.
	before = s.commits.Load()
	_ = s.Update(t.Context(), func(engine.Tx) error { return errors.New("no") })
	if s.commits.Load() != before {
		t.Error("a failed update commits")
	}
}

// TestWholeRollback: an update under which SQLite takes back the whole
// transaction takes its group-mates with it; none is acknowledged, none is
// there, and the store goes on.
func TestWholeRollback(t *testing.T) {
	s, _ := openTest(t)
	var group []*update
	for i := range 3 {
		group = append(group, &update{f: func(x engine.Tx) error {
			if i == 1 {
				if err := x.(*tx).exec("ROLLBACK"); err != nil {
					return err
				}
			}
			return x.Put("b", []byte{byte(i)}, []byte{1})
		}})
	}
	s.commit(group)
	for i, u := range group {
		if u.err == nil {
			t.Errorf("update %d is acknowledged", i)
		}
	}
	conform.Must(t, s.Update(t.Context(), func(tx engine.Tx) error { return tx.Put("b", []byte("after"), []byte{1}) }))
	conform.Must(t, s.View(t.Context(), func(tx engine.Tx) error {
		for i := range byte(3) {
			if v, _ := tx.Get("b", []byte{i}); v != nil && i != 1 {
				t.Errorf("update %d failed and is there", i)
			}
		}
		if v, _ := tx.Get("b", []byte("after")); v == nil {
			t.Error("the store does not go on")
		}
		return nil
	}))
}

// TestFull: what there is no room for is syscall.ENOSPC to all who share its
// commit, and none of it is there; with room the store goes on.
func TestFull(t *testing.T) {
	s, _ := openTest(t)
	var pages int
	conform.Must(t, s.write.QueryRow("PRAGMA page_count").Scan(&pages))
	limit := func(n int) {
		_, err := s.write.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", n))
		conform.Must(t, err)
	}
	limit(pages)
	var group []*update
	for i := range 3 {
		value := make([]byte, 1)
		if i == 1 {
			value = make([]byte, 100_000)
		}
		group = append(group, &update{f: func(x engine.Tx) error { return x.Put("b", []byte{byte(i)}, value) }})
	}
	s.commit(group)
	if !errors.Is(group[1].err, syscall.ENOSPC) {
		t.Errorf("without room: %v", group[1].err)
	}
	limit(pages + 1000)
	conform.Must(t, s.View(t.Context(), func(tx engine.Tx) error {
		for i, u := range group {
			if v, _ := tx.Get("b", []byte{byte(i)}); (v != nil) != (u.err == nil) {
				t.Errorf("update %d: %v, and %d bytes of it", i, u.err, len(v))
			}
		}
		return nil
	}))
	conform.Must(t, s.Update(t.Context(), group[1].f))
}

func TestClosed(t *testing.T) {
	s, _ := openTest(t)
	var wg sync.WaitGroup
	for i := range byte(20) {
		wg.Go(func() {
			for {
				if err := s.Update(t.Context(), func(tx engine.Tx) error { return tx.Put("b", []byte{i}, []byte{1}) }); err != nil {
					conform.WantErr(t, err, ErrClosed)
					return
				}
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	conform.Must(t, s.Close())
	wg.Wait()
	conform.WantErr(t, s.Update(t.Context(), func(engine.Tx) error { return nil }), ErrClosed)
	conform.Must(t, s.Close())
}

// TestPragmas: what durability rests on is set on the connection that writes.
func TestPragmas(t *testing.T) {
	s, _ := openTest(t)
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		for _, db := range []*sql.DB{s.write, s.read} {
			var got string
			conform.Must(t, db.QueryRow("PRAGMA "+name).Scan(&got))
			if got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			s, _ := openTest(b)
			state := make([]byte, 1024)
			var wg sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						ref := engine.Ref{Kind: kind, ID: wire.Hash{byte(w), byte(i), byte(i >> 8), byte(i >> 16)}}
						if err := s.Update(b.Context(), func(tx engine.Tx) error {
							return tx.Save(ref, state, contract.Interest{Txids: []wire.Hash{ref.ID}, Wake: 1})
						}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/float64(s.commits.Load()), "updates/commit")
		})
	}
}

// TestLogWraps: the log is overwritten from its beginning long before it has
// SQLite's default length, because a sync of a file that grows takes longer.
func TestLogWraps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := Open(path)
	conform.Must(t, err)
	defer s.Close()
	for n := range 1500 {
		conform.Must(t, s.Update(t.Context(), func(tx engine.Tx) error {
			return tx.Put("bucket", []byte("key"), []byte{byte(n), byte(n >> 8)})
		}))
	}
	info, err := os.Stat(path + "-wal")
	conform.Must(t, err)
	const most = 1200 << 10 // 256 pages with their heads, and what one update adds
	if info.Size() > most {
		t.Errorf("the log has %d bytes", info.Size())
	}
}

// TestReplaceOnePage: replacing the state of a contract that is not done writes its
// page alone, and no index.
func TestReplaceOnePage(t *testing.T) {
	s, path := openTest(t)
	ref := engine.Ref{Kind: kind, ID: wire.Hash{1}}
	update := func(f func(engine.Tx) error) int64 {
		t.Helper()
		conform.Must(t, s.Update(t.Context(), f))
		info, err := os.Stat(path + "-wal")
		conform.Must(t, err)
		return info.Size()
	}
	size := update(func(tx engine.Tx) error {
		return tx.Save(ref, []byte{0}, contract.Interest{Txids: []wire.Hash{{2}}, Wake: 5, Top: 4})
	})
	for n := range byte(5) {
		next := update(func(tx engine.Tx) error {
			if ok, err := tx.Replace(ref, []byte{n}, []byte{n + 1}); err != nil || !ok {
				return fmt.Errorf("not replaced: %v", err)
			}
			return nil
		})
		if page := int64(4096 + 24); next-size != page {
			t.Errorf("%d bytes, not those of one page", next-size)
		}
		size = next
	}
}
