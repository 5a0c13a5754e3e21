package tier

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestOurs: what killed tests have left in memory is removed a day later, also if
// several test binaries start at once; a directory of another, or a link, is not
// used.
func TestOurs(t *testing.T) {
	parent := t.TempDir()
	dir, ok := ours(parent)
	if !ok || filepath.Dir(dir) != parent {
		t.Fatalf("%q, %v", dir, ok)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"old", "running"} {
		for _, sub := range []string{"a", "b", "c"} {
			must(os.MkdirAll(filepath.Join(dir, name, sub), 0o700))
			must(os.WriteFile(filepath.Join(dir, name, sub, "database"), make([]byte, 100), 0o600))
		}
	}
	before := time.Now().Add(-stale - time.Minute)
	must(os.Chtimes(filepath.Join(dir, "old"), before, before))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if again, ok := ours(parent); !ok || again != dir {
				t.Errorf("%q, %v", again, ok)
			}
		})
	}
	all.Wait()
	list, err := os.ReadDir(dir)
	must(err)
	if len(list) != 1 || list[0].Name() != "running" {
		t.Errorf("left: %v", list)
	}
	if _, err := os.Stat(filepath.Join(dir, "running", "c", "database")); err != nil {
		t.Error(err)
	}
	// Others can write to the parent.
	must(os.Chmod(dir, 0o770))
	if _, ok := ours(parent); ok {
		t.Error("a directory that others can write to is used")
	}
	must(os.Rename(dir, filepath.Join(parent, "else")))
	must(os.Chmod(filepath.Join(parent, "else"), 0o700))
	must(os.Symlink(filepath.Join(parent, "else"), dir))
	if _, ok := ours(parent); ok {
		t.Error("a link is used")
	}
}
