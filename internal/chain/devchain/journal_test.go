package devchain

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/internal/testing/conform"
)

const journalName = "blocks.journal"

// closedChain makes a chain of n blocks with a payment in the last, closes it
// and returns its directory, journal and hashes.
func closedChain(t *testing.T, n int) (dir string, raw []byte, list []chainhash.Hash) {
	t.Helper()
	dir = t.TempDir()
	c := open(t, dir)
	mine(t, c, n)
	list = active(t, c)
	conform.Must(t, c.Close())
	raw, err := os.ReadFile(filepath.Join(dir, journalName))
	conform.Must(t, err)
	return dir, raw, list
}

// lastRecord is the offset of a journal's last record.
func lastRecord(raw []byte) (at int) {
	for next := 0; next < len(raw); {
		at = next
		next += recordHead + int(binary.BigEndian.Uint32(raw[at:]))
	}
	return at
}

// TestTorn cuts the journal at every byte of its last record, and flips bits
// in it: the decoder returns the blocks before. A few of the cuts go through
// Open, with a store that knows of the lost block.
func TestTorn(t *testing.T) {
	dir, raw, list := closedChain(t, 4)
	last := lastRecord(raw)
	path := filepath.Join(dir, journalName)
	check := func(name string, damaged []byte, want int) {
		t.Helper()
		blocks, good, err := readJournal(bytes.NewReader(damaged))
		if err != nil || len(blocks) != want || (want == 3 && good != int64(last)) {
			t.Fatalf("%s: %d blocks to %d, %v", name, len(blocks), good, err)
		}
	}
	reopen := func(damaged []byte, want int) {
		t.Helper()
		conform.Must(t, os.WriteFile(path, damaged, 0o600))
		c := open(t, dir)
		if got := active(t, c); got[len(got)-1] != list[want] {
			t.Fatalf("tip at height %d, want %d", len(got)-1, want)
		}
		if now, err := os.Stat(path); err != nil || now.Size() != int64(last) {
			t.Errorf("the torn record is still there (%v)", err)
		}
		// What comes next is readable behind the cut.
		next := mine(t, c, 1)
		conform.Must(t, c.Close())
		c = open(t, dir)
		if got := active(t, c); got[len(got)-1] != next[0].Hash {
			t.Fatal("the block after the cut is lost")
		}
		conform.Must(t, c.Close())
	}
	for cut := last; cut < len(raw); cut++ {
		check(fmt.Sprint("cut at ", cut), raw[:cut], 3)
	}
	for i := last; i < len(raw); i++ {
		damaged := bytes.Clone(raw)
		damaged[i] ^= 1 << (i % 8)
		check(fmt.Sprint("flip at ", i), damaged, 3)
	}
	check("zeros behind", append(bytes.Clone(raw), make([]byte, 100)...), 4)
	reopen(raw[:last], 3)
	reopen(raw[:last+5], 3)
	reopen(raw[:len(raw)-1], 3)
	damaged := bytes.Clone(raw)
	damaged[len(raw)-20] ^= 4
	reopen(damaged, 3)
}

// TestStoreLost: the store is but a cache of the journal.
func TestStoreLost(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, store string){
		"deleted": func(t *testing.T, store string) { conform.Must(t, os.RemoveAll(store)) },
		"empty": func(t *testing.T, store string) {
			conform.Must(t, os.RemoveAll(store))
			conform.Must(t, os.Mkdir(store, 0o700))
		},
		"file": func(t *testing.T, store string) {
			conform.Must(t, os.RemoveAll(store))
			conform.Must(t, os.WriteFile(store, []byte("x"), 0o600))
		},
		"truncated": func(t *testing.T, store string) {
			eachFile(t, store, func(path string, raw []byte) []byte { return raw[:len(raw)/2] })
		},
		"garbled": func(t *testing.T, store string) {
			eachFile(t, store, func(path string, raw []byte) []byte {
				r := rand.New(rand.NewPCG(1, uint64(len(raw))))
				for i := range raw {
					if r.IntN(20) == 0 {
						raw[i] ^= byte(1 + r.IntN(255))
					}
				}
				return raw
			})
		},
		"without metadata": func(t *testing.T, store string) { conform.Must(t, os.RemoveAll(filepath.Join(store, "metadata"))) },
		"without blocks": func(t *testing.T, store string) {
			files, err := filepath.Glob(filepath.Join(store, "*.fdb"))
			conform.Must(t, err)
			if len(files) == 0 {
				t.Fatal("no block files")
			}
			for _, f := range files {
				conform.Must(t, os.Remove(f))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _, list := closedChain(t, 8)
			damage(t, filepath.Join(dir, "store"))
			c := open(t, dir)
			if got := active(t, c); got[len(got)-1] != list[8] {
				t.Errorf("tip at height %d", len(got)-1)
			}
			fund(t, c, 1000)
			mine(t, c, 1)
		})
	}
}

func eachFile(t *testing.T, dir string, f func(string, []byte) []byte) {
	t.Helper()
	conform.Must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, f(path, raw), 0o600)
	}))
}

// TestReorgRestart: side branches are replayed in their order, by a store that
// has them and by a new one.
func TestReorgRestart(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	mine(t, c, 10)
	for depth := 1; depth <= 6; depth++ {
		conform.Must(t, c.Reorg(t.Context(), depth, miner))
		want := active(t, c)
		// A branch of the same height comes second and stays stale.
		c.mu.Lock()
		side, err := c.extend(want[len(want)-2], miner, nil)
		conform.Must(t, err)
		conform.Must(t, c.sync())
		c.mu.Unlock()
		conform.Must(t, c.Close())
		if depth%2 == 0 {
			conform.Must(t, os.RemoveAll(filepath.Join(dir, "store")))
		}
		c = open(t, dir)
		got := active(t, c)
		if len(got) != len(want) || got[len(got)-1] != want[len(want)-1] {
			t.Fatalf("depth %d: another chain after a restart", depth)
		}
		if _, h, err := c.Block(t.Context(), side.Hash); err != nil || h != side.Height {
			t.Errorf("stale block after a restart: height %d, %v", h, err)
		}
	}
}

// TestStoreAhead: a store with blocks that the journal never got, as a kill
// between the two leaves it, gives way to the journal.
func TestStoreAhead(t *testing.T) {
	dir, raw, list := closedChain(t, 6)
	at := len(raw)
	for range 3 {
		at = lastRecord(raw[:at])
	}
	conform.Must(t, os.WriteFile(filepath.Join(dir, journalName), raw[:at], 0o600))
	c := open(t, dir)
	if got := active(t, c); got[len(got)-1] != list[3] {
		t.Fatalf("tip at height %d, want 3", len(got)-1)
	}
	next := mine(t, c, 1)
	conform.Must(t, c.Close())
	conform.Must(t, os.RemoveAll(filepath.Join(dir, "store")))
	c = open(t, dir)
	if got := active(t, c); got[len(got)-1] != next[0].Hash {
		t.Fatal("the journal does not make the same chain")
	}
}

func record(b []byte) []byte {
	rec := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	rec = binary.BigEndian.AppendUint32(rec, crc32.Checksum(b, castagnoli))
	return append(rec, b...)
}

// FuzzJournal: whatever the decoder takes is what append writes, and it never
// asks for more memory than the bytes that are there justify.
func FuzzJournal(f *testing.F) {
	genesis, err := btcutil.NewBlock(chaincfg.RegressionNetParams.GenesisBlock).Bytes()
	conform.Must(f, err)
	one := record(genesis)
	for _, seed := range [][]byte{nil, one, append(bytes.Clone(one), one...), one[:len(one)-1], one[:5], append(bytes.Clone(one), 0),
		record(nil), record([]byte("x")), record(append(bytes.Clone(genesis), 7)), {0, 0x3d, 9, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 20)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		blocks, good, err := readJournal(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		var again []byte
		for _, b := range blocks {
			enc, err := b.Bytes()
			conform.Must(t, err)
			again = append(again, record(enc)...)
		}
		if good > int64(len(raw)) || !bytes.Equal(again, raw[:good]) {
			t.Fatalf("%d blocks of %d bytes encode to %d others", len(blocks), good, len(again))
		}
	})
}
