package soak

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bitgram/bitgram/internal/api"
)

// disk is a small one, with a home on it.
type disk struct {
	t   *testing.T
	dir string
}

// small gives a party that does not run yet a disk of its own.
func (w *town) small(p *party, size int) *disk {
	w.t.Helper()
	dir := p.home.Dir
	if err := unix.Mount("bitgram", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); errors.Is(err, unix.EPERM) {
		w.t.Skip("only root can mount a disk")
	} else {
		must(w.t, err)
	}
	w.t.Cleanup(func() { must(w.t, unix.Unmount(dir, unix.MNT_DETACH)) })
	must(w.t, p.home.Save(p.keys))
	return &disk{w.t, dir}
}

// fill leaves that many bytes.
func (d *disk) fill(left int) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, "ballast"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(d.t, err)
	defer f.Close()
	for {
		take := min(d.free()-left, 1<<20)
		if take <= 0 {
			return
		}
		if _, err := f.Write(make([]byte, take)); err != nil && !errors.Is(err, unix.ENOSPC) {
			d.t.Fatal(err)
		}
	}
}

// fillAll leaves room for nothing, not even in the log of the database, which
// SQLite does not shrink while it is in use.
func (d *disk) fillAll() {
	d.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(d.dir, "bitgram.db")+"?_pragma=busy_timeout(10000)")
	must(d.t, err)
	defer db.Close()
	_, err = db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	must(d.t, err)
	d.fill(0)
}

// room takes away what fill has put there.
func (d *disk) room() {
	d.t.Helper()
	must(d.t, os.Remove(filepath.Join(d.dir, "ballast")))
}

func (d *disk) free() int {
	d.t.Helper()
	var s unix.Statfs_t
	must(d.t, unix.Statfs(d.dir, &s))
	return int(s.Bavail) * int(s.Bsize)
}

// held is how many bytes of the disk everything but the database and its log
// takes: those grow with each block, whatever else happens. It counts files
// that are removed and still open, too.
func (d *disk) held() int {
	d.t.Helper()
	var s unix.Statfs_t
	must(d.t, unix.Statfs(d.dir, &s))
	n := int(s.Blocks-s.Bfree) * int(s.Bsize)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		var st unix.Stat_t
		must(d.t, unix.Stat(filepath.Join(d.dir, "bitgram.db"+suffix), &st))
		n -= int(st.Blocks) * 512
	}
	return n
}

// full waits until a daemon says that it cannot go on.
func (w *town) full(p *party) {
	w.t.Helper()
	w.until(20*time.Second, func() error {
		st, err := p.client().Status(w.t.Context())
		if err == nil && !strings.Contains(st.Chain.Error, "no space left") {
			err = fmt.Errorf("%s does not say that its disk is full: %+v", p.name, st.Chain)
		}
		return err
	})
	if status, body := w.health(p); status != 503 || !strings.Contains(body, "no space left") {
		w.t.Errorf("the health of %s: %d %s", p.name, status, body)
	}
}

func init() { stories["full disk"] = fullDisk }

// fullDisk fills the disks of a sender and of an agent, with room for less
// than a message and with room for nothing at all.
func fullDisk(t *testing.T) {
	t.Parallel()
	w := newTown(t, 9, 300*time.Millisecond, 4, "alice", "bob")
	alice, bob, agent := w.users[0], w.users[1], w.agents[0]
	for _, a := range w.agents[1:] {
		a.args = append(a.args, "--rate", "200") // the first is much cheaper
	}
	const size = 24 << 20
	hers, its := w.small(alice, size), w.small(agent, size)
	w.up()
	w.fund(alice, 20, 100_000)
	bob.stop(5 * time.Second)
	var letters []*letter
	write := func(size, agents int) *letter {
		l := w.letter(alice, bob, size)
		l.days, l.agents = 3, agents
		letters = append(letters, l)
		return l
	}
	is := func(state string, some ...*letter) {
		t.Helper()
		w.until(20*time.Second, func() error {
			for _, l := range some {
				m, err := alice.client().Message(t.Context(), l.last())
				if err == nil && m.State != state {
					err = fmt.Errorf("%s is %s (%s), wanted %s", l.name, m.State, m.Failure, state)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}

	// What the agent alone holds before its disk is full.
	for _, size := range []int{1000, 100_000} {
		for with := false; !with; {
			if len(letters) > 10 {
				t.Fatal("the cheapest agent is not chosen")
			}
			l := write(size, 1)
			must(t, w.post(t.Context(), l))
			is("stored", l)
			m, err := alice.client().Message(t.Context(), l.ids[0])
			must(t, err)
			with = slices.Contains(m.Agents, agent.key().String())
		}
	}

	// A sender without room for the message.
	hers.fill(1 << 20)
	before := hers.held()
	l := write(3<<20, 3)
	fullError(t, w.post(t.Context(), l))
	file := filepath.Join(w.dir, "file")
	must(t, os.WriteFile(file, l.body, 0o600))
	out, code := alice.bitgram("send", bob.keys.Address, file)
	if code != 1 || !strings.Contains(out, "no space left") || !strings.Contains(out, "hint: free some space") {
		t.Errorf("send: exit code %d\n%s", code, out)
	}
	w.until(20*time.Second, func() error { // a block may come between two looks
		if after := hers.held(); after > before {
			return fmt.Errorf("%d bytes more are taken after what failed", after-before)
		}
		return nil
	})

	// With room for nothing, in the middle of something.
	hers.room()
	must(t, w.post(t.Context(), write(50_000, 3)))
	hers.fillAll()
	w.did("alice's disk is full")
	w.full(alice)
	for range 3 {
		fullError(t, w.post(t.Context(), write(1, 3)))
	}
	hers.room()
	w.did("alice's disk has room")
	w.ready(alice)

	// An agent without room for a copy.
	its.fill(1 << 20)
	w.did("the agent's disk has no room for a copy")
	l, other := write(3<<20, 4), write(2<<20, 3)
	must(t, w.post(t.Context(), l))
	must(t, w.post(t.Context(), other))
	is("stored", other)
	is("failed", l)
	if m, err := alice.client().Message(t.Context(), l.ids[0]); err != nil || m.FailedBy != "agents" || !strings.Contains(m.Failure, "full") {
		t.Errorf("without the agent's disk it fails by %+v, %v", m, err)
	}

	// And for nothing.
	its.fillAll()
	w.did("the agent's disk is full")
	w.full(agent)
	other = write(2000, 3)
	must(t, w.post(t.Context(), other))
	is("stored", other)
	its.room()
	w.did("the agent's disk has room")
	w.ready(agent)

	bob.start()
	w.ready(bob)
	if n := w.settle(time.Minute, letters); n != len(letters) {
		t.Errorf("%d of %d letters were delivered", n, len(letters))
	}
	w.balance(time.Minute)
	for _, p := range w.parties() {
		p.stop(5 * time.Second)
	}
}

// fullError is what a daemon says whose disk is full.
func fullError(t *testing.T, err error) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Status != 500 || e.Code != "disk_full" {
		t.Errorf("%+v, wanted disk_full", err)
	}
}
