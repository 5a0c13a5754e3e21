package node

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
)

// TestGenerationUpgrade: an old copy of the database from before the home had
// generations is recognised once the home has one; the upgrade itself, and one that
// is interrupted, are not taken for one.
func TestGenerationUpgrade(t *testing.T) {
	w := emptyTown(t)
	h := w.home("home", nil)
	db, file := filepath.Join(h.cfg.Dir, fileDB), filepath.Join(h.cfg.Dir, fileGeneration)
	opened := func(what string, want bool) {
		t.Helper()
		var log bytes.Buffer
		h.cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		n, err := Open(h.cfg) // it does not start: nothing else is logged
		must(t, err)
		h.node = n
		must(t, n.Close())
		if got := bytes.Contains(log.Bytes(), []byte("old copy")); got != want {
			t.Errorf("%s: taken for an old copy: %v; the log says %q", what, got, log.String())
		}
	}
	// older takes the generation out of the database.
	older := func() {
		t.Helper()
		s, err := store.Open(db)
		must(t, err)
		must(t, s.Update(t.Context(), func(tx engine.Tx) error { return tx.Delete(bucketHome, keyGeneration) }))
		must(t, s.Close())
	}
	opened("a new home", false)
	older()
	must(t, os.Remove(file))
	copied, err := os.ReadFile(db)
	must(t, err)
	opened("the upgrade", false)
	opened("the next start", false)
	must(t, os.WriteFile(db, copied, 0o600))
	opened("a copy from before the upgrade", true)
	opened("the next start after it", false)
	older()
	opened("the same, with an empty generation", true)
	older()
	must(t, os.WriteFile(file, append(make([]byte, generationSize), bytes.Repeat([]byte{7}, generationSize)...), 0o600))
	opened("an upgrade that was interrupted", false)
	delete(w.homes, "home")
}
