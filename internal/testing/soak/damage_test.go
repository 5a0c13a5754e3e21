package soak

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

// TestDamagedDatabase: with whichever page overwritten, a daemon either works,
// where the page is not used, or ends and says that the database is damaged.
func TestDamagedDatabase(t *testing.T) {
	tier.NotShort(t)
	t.Parallel()
	w := newTown(t, 4, 0, 0, "alice")
	alice := w.users[0]
	w.up()
	w.fund(alice, 100, 10_000)
	alice.stop(5 * time.Second)
	path := filepath.Join(alice.home.Dir, "bitgram.db")
	whole, err := os.ReadFile(path)
	must(t, err)
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		t.Fatalf("%d bytes are in the log of a database that was closed", wal.Size())
	}
	const page = 4096
	pages := len(whole) / page
	t.Logf("%d pages", pages)
	noticed := 0
	for i := range tier.Pick(0, 3, 8) {
		n := i // the first ones, and then any
		if i >= tier.Pick(0, 1, 4) {
			n = w.rand.IntN(pages)
		}
		bad := bytes.Clone(whole)
		for j := range page {
			bad[n*page+j] ^= byte(w.rand.Uint32())
		}
		must(t, os.WriteFile(path, bad, 0o600))
		for _, ext := range []string{"-wal", "-shm"} {
			_ = os.Remove(path + ext)
		}
		must(t, os.Truncate(alice.log, 0))
		alice.start()
		w.call("mine", url.Values{"blocks": {"1"}})
		before := noticed
		w.until(20*time.Second, func() error {
			select {
			case <-alice.ended:
				if code, log := alice.wait(0), tail(alice.log); code != 1 || !strings.Contains(log, "damaged") || !strings.Contains(log, "hint: restore") {
					t.Errorf("page %d: exit code %d:\n%s", n, code, log)
				}
				noticed++
				return nil
			default:
			}
			c, err := api.Dial(alice.home)
			if err != nil {
				return err
			}
			st, err := c.Status(t.Context())
			if err == nil && !st.Chain.Synced {
				err = fmt.Errorf("page %d: it runs, and does not follow the chain: %+v\n%s", n, st.Chain, tail(alice.log))
			}
			return err
		})
		if noticed == before {
			t.Logf("page %d: it works", n)
			alice.stop(5 * time.Second)
		}
	}
	t.Logf("noticed %d", noticed)
	must(t, os.WriteFile(path, whole, 0o600))
	alice.start()
	w.ready(alice)
}

// damagedCopies: a copy that is not what the agent was given is noticed by
// the recipient, who turns to another agent.
func damagedCopies(t *testing.T) {
	t.Parallel()
	w := newTown(t, 5, 300*time.Millisecond, 3, "alice", "bob")
	w.up()
	alice, bob := w.users[0], w.users[1]
	w.fund(alice, 1, 1_000_000)
	bob.stop(5 * time.Second)
	var letters []*letter
	for range 4 {
		l := w.letter(alice, bob, 100_000)
		l.days = 5
		must(t, w.post(t.Context(), l))
		letters = append(letters, l)
	}
	w.until(time.Minute, func() error {
		list, _, err := alice.client().List(t.Context(), "sent", 10)
		for _, m := range list {
			if m.State != "stored" {
				err = fmt.Errorf("%+v", m)
			}
		}
		return err
	})
	flipped := 0
	for _, a := range w.agents[:2] {
		copies, err := filepath.Glob(filepath.Join(a.home.Dir, "copies", "*"))
		must(t, err)
		for _, path := range copies {
			raw, err := os.ReadFile(path)
			must(t, err)
			switch raw[len(raw)/2] ^= 1; flipped % 3 {
			case 1:
				raw = raw[:len(raw)/2] // cut short
			case 2:
				raw = nil
			}
			must(t, os.WriteFile(path, raw, 0o600))
			flipped++
		}
	}
	if flipped != 2*len(letters) {
		t.Fatalf("%d copies", flipped)
	}
	bob.start()
	w.ready(bob)
	if n := w.settle(time.Minute, letters); n != len(letters) {
		t.Errorf("%d of %d were delivered", n, len(letters))
	}
}
