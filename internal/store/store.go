// Package store stores a home's contracts, effects, wallet and chain position
// in one SQLite database (modernc.org/sqlite, WAL, synchronous=FULL).
//
// Concurrent updates share one commit: an update that finds no writer becomes
// the writer. It takes all waiting updates, runs each in a savepoint, commits
// once, and only then answers all of them.
package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	"modernc.org/sqlite" // and its driver named "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/bitgram/bitgram/internal/engine"
)

//go:embed schema.sql
var schema string

//go:embed schema2.sql
var schemaPatch string

// schemaVersion is stored in user_version. A database with a newer version is
// refused; an older one is migrated.
const schemaVersion = 2

// ErrNewer means that a newer version of Bitgram wrote the database.
var ErrNewer = errors.New("this home was written by a newer version of bitgram: upgrade bitgram, or use another home")

// Errors of the store.
var (
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("store is closed")
	// ErrCorrupt means that the file is not a database, or a damaged one.
	ErrCorrupt = errors.New("the database is damaged: restore it from a copy")
	// errGroup means that the transaction shared by a group of updates failed
	// because of another update.
	errGroup = errors.New("the shared transaction failed")
)

// readers is the number of concurrent views.
const readers = 4

// checkpoint is the number of pages in the log after which it is copied to the
// database and overwritten from its beginning. Until then each sync also allocates
// blocks for a file that grows, which takes up to twice as long, so this is a
// quarter of SQLite's default.
const checkpoint = 256

// maxGroup is the maximum number of updates that share a commit.
const maxGroup = 256

// Store implements engine.Store.
type Store struct {
	write *sql.DB // one connection, used by the current writer
	read  *sql.DB
	// The statements of each.
	writing, reading compiled

	queue chan *update
	lead  chan struct{} // full while an update is the writer
	quit  chan struct{}
	done  chan struct{} // closed when no more updates can write
	once  sync.Once

	broken chan struct{} // closed by the first ErrCorrupt
	breaks sync.Once

	commits atomic.Int64

	bases map[engine.Ref]*base // as of the transaction in progress; of the writer
}

type update struct {
	f     func(engine.Tx) error
	err   error
	panic *Panic
	done  chan struct{}
}

// Panic is the value with which Update panics, in its caller's goroutine, if
// the update's function panicked in the writer's goroutine. Other updates are
// not affected.
type Panic struct {
	Value any
	Stack []byte // the function's
}

func (p *Panic) String() string { return fmt.Sprintf("%v\n\n%s", p.Value, p.Stack) }

// Error makes the runtime print a Panic as text.
func (p *Panic) Error() string { return p.String() }

var _ engine.Store = (*Store)(nil)

// Open opens or creates the database at path.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// SQLite creates its other files with this file's mode. They contain
	// secrets.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	dsn := func(extra string) string {
		u := url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)" +
			"&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)&_pragma=temp_store(MEMORY)" + fmt.Sprintf("&_pragma=wal_autocheckpoint(%d)", checkpoint) + extra}
		return u.String()
	}
	write, err := sql.Open("sqlite", dsn("&_txlock=immediate"))
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	if err := migrate(write); err != nil {
		write.Close()
		return nil, fmt.Errorf("%s: %w", path, meaning(err))
	}
	read, err := sql.Open("sqlite", dsn("&_pragma=query_only(ON)"))
	if err != nil {
		write.Close()
		return nil, err
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers) // opening a connection costs more than a read
	writing, err := compile(write)
	reading, rerr := compile(read)
	if err = errors.Join(err, rerr); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, meaning(err)), write.Close(), read.Close())
	}
	s := &Store{write: write, read: read, writing: writing, reading: reading, queue: make(chan *update, maxGroup), lead: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), broken: make(chan struct{}),
		bases: map[engine.Ref]*base{}}
	return s, nil
}

func migrate(db *sql.DB) error {
	var v int
	if err := db.QueryRow("PRAGMA user_version").Scan(&v); err != nil {
		return err
	}
	if v > schemaVersion {
		return ErrNewer
	}
	if v == schemaVersion {
		return nil
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, step := range []string{schema, schemaPatch}[v:] {
		if _, err := tx.Exec(step); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return err
	}
	return tx.Commit()
}

// meaning wraps SQLite errors that callers handle: ErrCorrupt, and
// syscall.ENOSPC if the disk is full.
func meaning(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		case sqlite3.SQLITE_FULL:
			return fmt.Errorf("%w: %w", syscall.ENOSPC, err)
		}
	}
	return err
}

// Damaged is closed when any read or write has returned ErrCorrupt. The
// database is then not usable any more.
func (s *Store) Damaged() <-chan struct{} { return s.broken }

// noted is meaning, and closes Damaged if needed.
func (s *Store) noted(err error) error {
	if err = meaning(err); errors.Is(err, ErrCorrupt) {
		s.breaks.Do(func() { close(s.broken) })
	}
	return err
}

// Close waits for running updates and closes the database.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.quit)
		s.lead <- struct{}{}
		for s.round() {
		}
		close(s.done)
	})
	<-s.done
	return errors.Join(s.read.Close(), s.write.Close())
}

// Commits returns the number of commits since the store was opened.
func (s *Store) Commits() int64 { return s.commits.Load() }

// Snapshot writes a consistent copy of the database to a new file at path,
// while updates continue.
func (s *Store) Snapshot(ctx context.Context, path string) error {
	// Use a connection of its own, because VACUUM cannot run in a transaction.
	c, err := s.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "PRAGMA query_only(OFF)"); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, "VACUUM INTO ?", path)
	_, back := c.ExecContext(context.WithoutCancel(ctx), "PRAGMA query_only(ON)")
	return errors.Join(err, back)
}

// Verify reads the whole database. It returns ErrCorrupt if it is damaged.
func (s *Store) Verify(ctx context.Context) error {
	var text string
	if err := s.read.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&text); err != nil {
		return s.noted(err)
	}
	if text != "ok" {
		return fmt.Errorf("%w: %s", ErrCorrupt, text)
	}
	return nil
}

// Update implements engine.Store.
func (s *Store) Update(ctx context.Context, f func(engine.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err // select picks any that is ready
	}
	u := &update{f: f, done: make(chan struct{})}
	select {
	case s.queue <- u:
	case <-s.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	// From here on the update may be committed even if the caller gives up, so
	// return the actual result.
	for waiting := true; waiting; {
		select {
		case <-u.done:
			waiting = false
		case s.lead <- struct{}{}:
			// Write the waiting updates, and our own with them, without
			// switching goroutines. The switch dominates the time of single
			// updates.
			s.round()
			<-s.lead
		case <-s.done:
			select {
			case <-u.done:
				waiting = false
			default:
				return ErrClosed
			}
		}
	}
	if u.panic != nil {
		panic(u.panic)
	}
	return u.err
}

// View implements engine.Store.
func (s *Store) View(ctx context.Context, f func(engine.Tx) error) error {
	t, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return s.noted(err)
	}
	defer t.Rollback()
	return s.noted(f(newTx(ctx, t, s.reading, nil)))
}

// round commits the waiting updates and reports whether there were any. The
// caller must be the writer.
func (s *Store) round() bool {
	var group []*update
	for len(group) < maxGroup {
		select {
		case u := <-s.queue:
			group = append(group, u)
			continue
		default:
		}
		break
	}
	if len(group) == 0 {
		return false
	}
	s.commit(group)
	for _, u := range group {
		close(u.done)
	}
	return true
}

// commit runs a group in one transaction. If the transaction itself fails, none
// of the group is committed and all fail.
func (s *Store) commit(group []*update) {
	ctx := context.Background()
	fail := func(err error) {
		for _, u := range group {
			if u.err == nil {
				u.err = s.noted(err)
			}
		}
	}
	t, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		fail(err)
		return
	}
	defer t.Rollback()
	shared, worked := newTx(ctx, t, s.writing, s), false
	shared.shared = len(group) > 1 // otherwise the transaction itself is rolled back
	for _, u := range group {
		alive, err := s.savepoint(shared, u)
		if u.err = s.noted(err); !alive {
			clear(s.bases)
			fail(fmt.Errorf("%w: %w", errGroup, u.err))
			return
		}
		worked = worked || u.err == nil
	}
	if !worked {
		return
	}
	s.commits.Add(1)
	err = shared.flush(len(shared.pending))
	if err == nil {
		err = t.Commit()
	}
	if err != nil {
		clear(s.bases)
		fail(err)
	}
}

// savepoint runs one update, in a savepoint if it writes and others share the
// transaction. alive is false if the transaction cannot go on: on some errors,
// such as a full disk, SQLite rolls back the whole transaction, and the next
// update would commit on its own.
func (s *Store) savepoint(t *tx, u *update) (alive bool, err error) {
	t.open, t.mark = false, len(t.pending)
	if err = run(u, t); err == nil && t.dead == nil {
		if t.open && t.shared {
			if _, err := t.run(sqlRelease); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	clear(s.bases) // some are of what is rolled back
	switch {
	case t.dead != nil:
		return false, errors.Join(err, t.dead)
	case !t.shared:
		return true, err // nothing is committed
	case !t.open:
		t.pending = t.pending[:t.mark]
		return !lost(err), err
	}
	if _, rerr := t.run("ROLLBACK TO u; RELEASE u"); rerr != nil {
		return false, errors.Join(err, rerr)
	}
	t.pending = t.pending[:t.mark]
	return true, err
}

// run calls the update's function and catches its panic.
func run(u *update, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			u.panic = &Panic{Value: p, Stack: debug.Stack()}
			err = u.panic
		}
	}()
	return u.f(t)
}
