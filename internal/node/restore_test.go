package node

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// copied is a payee whose home was put back by copy after a payment of 20,000 sat,
// and once more as much. put replaces its directory.
func copied(t *testing.T, keep func(h *home) (put func())) (w *town, from, to *home, id bank.ID) {
	w = emptyTown(t)
	from, to = w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id = w.opened(from, to, 200_000, 14, 100)
	pay := func() {
		pid, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: 20_000_000})
		must(t, err)
		for end := time.Now().Add(20 * time.Second); !w.sending(from, pid).Ended; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("does not end")
			}
		}
	}
	pay()
	put := keep(to)
	pay()
	must(t, to.node.Close())
	put()
	to.start()
	w.settle()
	return w, from, to, id
}

// twice asks for a step whose credit was used before the copy was put back.
func (w *town) twice(to *home, id bank.ID) error {
	tr := &wire.Transfer{Index: 1, Bank: id, Amount: 20_000_000, Total: 20_000_000}
	_, err := service(to).Transfer(w.t.Context(), tr, w.noted(to, tr))
	return err
}

// TestOldDatabase: an old copy of the database gives no credit, although nobody
// marked it as a backup: the generation beside it differs, or is missing. The
// pennies since then are the payee's own once the payer shows them again.
func TestOldDatabase(t *testing.T) {
	for _, file := range []string{"kept", "missing"} {
		w, from, to, id := copied(t, func(h *home) func() {
			saved := h.save("old-" + file)
			return func() {
				if file == "missing" {
					must(t, os.RemoveAll(h.cfg.Dir))
					must(t, os.MkdirAll(h.cfg.Dir, 0o700))
				} else {
					for _, wal := range []string{"-wal", "-shm"} {
						_ = os.Remove(filepath.Join(h.cfg.Dir, fileDB) + wal)
					}
				}
				must(t, os.Rename(saved, filepath.Join(h.cfg.Dir, fileDB)))
			}
		})
		if y := w.payeeOf(to, id); y.Stop != bank.StopRestored || y.Ladder.Paid(y.Count()) >= 40_000_000 {
			t.Fatalf("file %s: %s, %v", file, y.State(), y.Stop)
		}
		_, err := from.node.Banks.PayPennies(t.Context(), id, 1, banking.Streaming{})
		if y := w.payeeOf(to, id); err == nil || y.Ladder.Paid(y.Count()) < 40_000_000 {
			t.Errorf("file %s: %v, the payee has %v", file, err, y.Ladder.Paid(y.Count()))
		}
		if err := w.twice(to, id); err == nil {
			t.Errorf("file %s: credit is used twice", file)
		}
	}
}

// TestOldDirectory: an old copy of the whole home does not know that it is one. As
// soon as a payer shows pennies that it acknowledged, the bank gives no credit, and
// the payee closes it.
func TestOldDirectory(t *testing.T) {
	w, from, to, id := copied(t, func(h *home) func() {
		must(t, h.node.Close())
		saved := filepath.Join(t.TempDir(), "home")
		must(t, os.CopyFS(saved, os.DirFS(h.cfg.Dir)))
		h.start()
		h.town.settle()
		return func() {
			must(t, os.RemoveAll(h.cfg.Dir))
			must(t, os.CopyFS(h.cfg.Dir, os.DirFS(saved)))
		}
	})
	if y := w.payeeOf(to, id); y.Stop != bank.NotStopped {
		t.Fatalf("it is not known yet: %v", y.Stop)
	}
	_, err := from.node.Banks.PayPennies(t.Context(), id, 1, banking.Streaming{})
	if y := w.payeeOf(to, id); err == nil || y.Stop != bank.StopRestored || y.Ladder.Paid(y.Count()) < 40_000_000 {
		t.Errorf("%v; %v, the payee has %v", err, y.Stop, y.Ladder.Paid(y.Count()))
	}
	if err := w.twice(to, id); err == nil {
		t.Error("credit is used twice")
	}
	w.mine(int(bank.MarginsFor(wire.Regtest).Again) + 3)
	if y := w.payeeOf(to, id); y.Spend == nil {
		t.Errorf("it is %s", y.State())
	}
}

// TestGeneration: a home opens after an end at any moment, and an older version's
// home without a generation gets one.
func TestGeneration(t *testing.T) {
	w := emptyTown(t)
	h := w.payee("payee", nil)
	n := h.node
	marked := func() bool {
		s := h.save("look")
		defer os.Remove(s)
		return isMarked(t, s)
	}
	must(t, n.nextGeneration(context.Background()))
	file, err := os.ReadFile(n.generationPath())
	must(t, err)
	must(t, n.nextGeneration(context.Background()))
	now, err := os.ReadFile(n.generationPath())
	must(t, err)
	// Interrupted before the database had the new one, and after.
	for _, first := range []bool{true, false} {
		marks := [][]byte{now, file}
		if first {
			slices.Reverse(marks)
		}
		must(t, os.WriteFile(n.generationPath(), bytes.Join(marks, nil), 0o600))
		must(t, n.checkGeneration(context.Background()))
		if marked() {
			t.Fatal("an interruption counts as an old copy")
		}
		if now, err = os.ReadFile(n.generationPath()); err != nil || len(now) != generationSize {
			t.Fatalf("%x, %v", now, err)
		}
	}
	must(t, os.WriteFile(n.generationPath(), file, 0o600))
	must(t, n.checkGeneration(context.Background()))
	if !marked() {
		t.Error("an old file counts as the right one")
	}
}

// isMarked reports whether a copy of a database is marked as restored.
func isMarked(t *testing.T, path string) (marked bool) {
	s, err := store.Open(path)
	must(t, err)
	defer s.Close()
	must(t, s.View(t.Context(), func(tx engine.Tx) error {
		v, err := tx.Get(bucketHome, keyRestored)
		marked = v != nil
		return err
	}))
	return marked
}
