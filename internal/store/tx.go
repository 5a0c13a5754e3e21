package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// keepBlocks is how many reported blocks are stored for reorgs: more than any
// reorg that the contracts survive.
const keepBlocks = 2016

type tx struct {
	ctx context.Context
	tx  *sql.Tx
	all compiled
	own map[string]*sql.Stmt // all statements that this transaction has used

	// Of a transaction that writes; s is nil for a view.
	s       *Store
	shared  bool      // by several updates, each in a savepoint
	open    bool      // the current update has begun to write
	dead    error     // the whole transaction has failed
	pending []patched // not written yet
	mark    int       // those of earlier updates
}

// compiled contains statements that every connection compiles once, because
// SQLite takes longer to compile one than to run it.
type compiled map[string]*sql.Stmt

func compile(db *sql.DB) (compiled, error) {
	c := compiled{}
	for _, q := range []string{sqlSavepoint, sqlRelease, sqlState, sqlSave, sqlReplace, sqlRepack, sqlBase, sqlPatch, sqlPatches, sqlUnpatch, sqlForget, sqlWatched, sqlWatch, sqlUnwatch, sqlAddEffect, sqlDropEffect,
		sqlPosition, sqlGet, sqlPut, sqlDelete} {
		s, err := db.Prepare(q)
		if err != nil {
			return nil, err
		}
		c[q] = s
	}
	return c, nil
}

// Frequent statements. None of them runs while its own rows are being read.
const (
	sqlSavepoint = "SAVEPOINT u"
	sqlRelease   = "RELEASE u"
	sqlState     = "SELECT state, bytes, done FROM contract LEFT JOIN patch ON contract = seq WHERE kind = ? AND id = ?"
	sqlSave      = `INSERT INTO contract (kind, id, state, wake, top, done) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (kind, id) DO UPDATE SET state = excluded.state, wake = excluded.wake, top = excluded.top, done = excluded.done
		RETURNING seq`
	sqlReplace    = "UPDATE contract SET state = ? WHERE seq = ?"
	sqlRepack     = "UPDATE contract SET state = ?, done = ? WHERE seq = ?"
	sqlForget     = "DELETE FROM contract WHERE kind = ? AND id = ?"
	sqlWatched    = "SELECT key FROM watch WHERE contract = ?"
	sqlWatch      = "INSERT INTO watch (key, contract) VALUES (?, ?)"
	sqlUnwatch    = "DELETE FROM watch WHERE key = ? AND contract = ?"
	sqlAddEffect  = "INSERT INTO effect (kind, ref, name, body) VALUES (?, ?, ?, ?)"
	sqlDropEffect = "DELETE FROM effect WHERE id = ?"
	sqlPosition   = "SELECT height, hash FROM block ORDER BY height DESC LIMIT 1"
	sqlGet        = "SELECT value FROM kv WHERE bucket = ? AND key = ?"
	sqlPut        = "INSERT INTO kv (bucket, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
	sqlDelete     = "DELETE FROM kv WHERE bucket = ? AND key = ?"
)

// newTx returns a transaction of s, or a view if s is nil.
func newTx(ctx context.Context, t *sql.Tx, all compiled, s *Store) *tx {
	return &tx{ctx: ctx, tx: t, all: all, own: make(map[string]*sql.Stmt, len(all)), s: s}
}

// stmt returns a compiled statement for this transaction, or nil.
func (t *tx) stmt(q string) *sql.Stmt {
	s := t.own[q]
	if from := t.all[q]; s == nil && from != nil {
		s = t.tx.StmtContext(t.ctx, from)
		t.own[q] = s
	}
	return s
}

func (t *tx) run(q string, args ...any) (sql.Result, error) {
	if s := t.stmt(q); s != nil {
		return s.ExecContext(t.ctx, args...)
	}
	return t.tx.ExecContext(t.ctx, q, args...)
}

// exec runs a statement that writes.
func (t *tx) exec(q string, args ...any) error {
	if err := t.begin(); err != nil {
		return err
	}
	_, err := t.run(q, args...)
	return err
}

// row returns the single row of a compiled query.
func (t *tx) row(q string, args ...any) *sql.Row { return t.stmt(q).QueryRowContext(t.ctx, args...) }

// blob replaces nil, which would become SQL's NULL, by an empty slice.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// State implements engine.Tx.
func (t *tx) State(ref engine.Ref) (state []byte, err error) {
	if t.s != nil {
		if b := t.s.bases[ref]; b != nil {
			return b.patch.Of(b.state), nil
		}
	}
	if err := t.settle(); err != nil {
		return nil, err
	}
	var row []byte
	var done int
	err = t.row(sqlState, string(ref.Kind), ref.ID[:]).Scan(&state, &row, &done)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, engine.ErrNoContract
	}
	if err != nil {
		return nil, err
	}
	return unpack(state, row, done)
}

// Save implements engine.Tx.
func (t *tx) Save(ref engine.Ref, state []byte, in contract.Interest) error {
	if err := t.settle(); err != nil {
		return err
	}
	if err := t.begin(); err != nil {
		return err
	}
	delete(t.s.bases, ref)
	if in.Forget {
		return t.exec(sqlForget, string(ref.Kind), ref.ID[:]) // with its patch and what it watches
	}
	var seq int64
	written, done := pack(state, in.Done)
	if err := t.row(sqlSave, string(ref.Kind), ref.ID[:], blob(written), in.Wake, in.Top, done).Scan(&seq); err != nil {
		return err
	}
	if err := t.exec(sqlUnpatch, seq); err != nil {
		return err
	}
	want := map[string]bool{}
	if !in.Done {
		for _, id := range in.Txids {
			want[string(id[:])] = true
		}
		for _, o := range in.Outpoints {
			want[string(o.Bytes())] = true
		}
	}
	var gone [][]byte
	if err := t.rows(sqlWatched, []any{seq}, func(r *sql.Rows) error {
		var key []byte
		if err := r.Scan(&key); err != nil {
			return err
		}
		if want[string(key)] {
			delete(want, string(key))
		} else {
			gone = append(gone, key)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, key := range gone {
		if err := t.exec(sqlUnwatch, key, seq); err != nil {
			return err
		}
	}
	for key := range want {
		if err := t.exec(sqlWatch, []byte(key), seq); err != nil {
			return err
		}
	}
	return nil
}

// Replace implements engine.Tx.
func (t *tx) Replace(ref engine.Ref, old, state []byte) (bool, error) {
	b, err := t.base(ref)
	if b == nil || err != nil || !bytes.Equal(b.patch.Of(b.state), old) {
		return false, err
	}
	if err := t.settle(); err != nil {
		return false, err
	}
	delete(t.s.bases, ref)
	if len(b.patch.With) > 0 || b.patch.Cut > 0 {
		if err := t.exec(sqlUnpatch, b.seq); err != nil {
			return false, err
		}
	}
	if b.done {
		written, done := pack(state, true)
		err = t.exec(sqlRepack, blob(written), done, b.seq)
	} else {
		err = t.exec(sqlReplace, blob(state), b.seq) // no index contains the state
	}
	if err != nil {
		return false, err
	}
	t.s.remember(ref, &base{seq: b.seq, state: slices.Clone(state), done: b.done})
	return true, nil
}

// Each implements engine.Tx.
func (t *tx) Each(kind engine.Kind, all bool, f func(engine.Ref, []byte) error) error {
	if err := t.settle(); err != nil {
		return err
	}
	q := "SELECT id, state, bytes, done FROM contract LEFT JOIN patch ON contract = seq WHERE kind = ? AND done = 0 ORDER BY seq"
	if all {
		q = "SELECT id, state, bytes, done FROM contract LEFT JOIN patch ON contract = seq WHERE kind = ? ORDER BY seq"
	}
	return t.rows(q, []any{string(kind)}, func(r *sql.Rows) error {
		var id, state, row []byte
		var done int
		if err := r.Scan(&id, &state, &row, &done); err != nil {
			return err
		}
		state, err := unpack(state, row, done)
		if err != nil {
			return err
		}
		return f(engine.Ref{Kind: kind, ID: wire.Hash(id)}, state)
	})
}

// AddEffect implements engine.Tx.
func (t *tx) AddEffect(ref engine.Ref, name string, body []byte) (int64, error) {
	if err := t.begin(); err != nil {
		return 0, err
	}
	r, err := t.run(sqlAddEffect, string(ref.Kind), ref.ID[:], name, blob(body))
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// DropEffect implements engine.Tx.
func (t *tx) DropEffect(id int64) error { return t.exec(sqlDropEffect, id) }

// Effects implements engine.Tx.
func (t *tx) Effects() (list []engine.PendingEffect, err error) {
	err = t.rows("SELECT id, kind, ref, name, body FROM effect ORDER BY id", nil, func(r *sql.Rows) error {
		var p engine.PendingEffect
		var id []byte
		if err := r.Scan(&p.ID, &p.Ref.Kind, &id, &p.Name, &p.Body); err != nil {
			return err
		}
		p.Ref.ID = wire.Hash(id)
		list = append(list, p)
		return nil
	})
	return
}

// Watching implements engine.Tx.
func (t *tx) Watching(txids []wire.Hash, spent []wire.Outpoint, h wire.Height) (refs []engine.Ref, err error) {
	c := collector{tx: t, seen: map[int64]bool{}}
	stmt, err := t.tx.PrepareContext(t.ctx, "SELECT contract.seq, kind, id FROM watch JOIN contract ON seq = contract WHERE key = ?")
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	for _, id := range txids {
		if err := c.add(stmt.QueryContext(t.ctx, id[:])); err != nil {
			return nil, err
		}
	}
	for _, o := range spent {
		if err := c.add(stmt.QueryContext(t.ctx, o.Bytes())); err != nil {
			return nil, err
		}
	}
	err = c.add(t.tx.QueryContext(t.ctx, "SELECT seq, kind, id FROM contract WHERE wake > 0 AND wake <= ? AND done = 0 ORDER BY seq", h))
	return c.refs, err
}

// Above implements engine.Tx.
func (t *tx) Above(h wire.Height) ([]engine.Ref, error) {
	c := collector{tx: t, seen: map[int64]bool{}}
	err := c.add(t.tx.QueryContext(t.ctx, "SELECT seq, kind, id FROM contract WHERE top >= ? ORDER BY seq", h))
	return c.refs, err
}

// collector gathers contracts, each once.
type collector struct {
	tx   *tx
	seen map[int64]bool
	refs []engine.Ref
}

func (c *collector) add(rows *sql.Rows, err error) error {
	return each(rows, err, func(r *sql.Rows) error {
		var seq int64
		var ref engine.Ref
		var id []byte
		if err := r.Scan(&seq, &ref.Kind, &id); err != nil {
			return err
		}
		if !c.seen[seq] {
			c.seen[seq] = true
			ref.ID = wire.Hash(id)
			c.refs = append(c.refs, ref)
		}
		return nil
	})
}

// Position implements engine.Tx.
func (t *tx) Position() (at chain.BlockRef, ok bool, err error) {
	var hash []byte
	err = t.row(sqlPosition).Scan(&at.Height, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return at, false, nil
	}
	if err == nil {
		at.Hash = chainhash.Hash(hash)
	}
	return at, err == nil, err
}

// Advance implements engine.Tx.
func (t *tx) Advance(at chain.BlockRef) error {
	if err := t.exec("INSERT INTO block (height, hash) VALUES (?, ?)", at.Height, at.Hash[:]); err != nil {
		return err
	}
	return t.exec("DELETE FROM block WHERE height < ?", int64(at.Height)-keepBlocks)
}

// Retreat implements engine.Tx.
func (t *tx) Retreat() error {
	return t.exec("DELETE FROM block WHERE height = (SELECT max(height) FROM block)")
}

// Get implements engine.Tx.
func (t *tx) Get(bucket string, key []byte) (value []byte, err error) {
	err = t.row(sqlGet, bucket, blob(key)).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		value = blob(value) // the driver returns an empty value as nil, which means missing
	}
	return value, err
}

// Put implements engine.Tx.
func (t *tx) Put(bucket string, key, value []byte) error {
	return t.exec(sqlPut, bucket, blob(key), blob(value))
}

// Delete implements engine.Tx.
func (t *tx) Delete(bucket string, key []byte) error {
	return t.exec(sqlDelete, bucket, blob(key))
}

// Scan implements engine.Tx. f may write to the bucket, because the rows are
// read before f is called.
func (t *tx) Scan(bucket string, prefix []byte, limit int, f func(key, value []byte) error) error {
	type row struct{ k, v []byte }
	var found []row
	if err := t.rows("SELECT key, value FROM kv WHERE bucket = ? AND key >= ? ORDER BY key LIMIT ?", []any{bucket, blob(prefix), cmp.Or(limit, -1)}, func(r *sql.Rows) error {
		var x row
		if err := r.Scan(&x.k, &x.v); err != nil {
			return err
		}
		if !bytes.HasPrefix(x.k, prefix) {
			return errStop
		}
		found = append(found, x)
		return nil
	}); err != nil {
		return err
	}
	for _, x := range found {
		if err := f(x.k, x.v); err != nil {
			return err
		}
	}
	return nil
}

// errStop ends rows early without an error.
var errStop = errors.New("stop")

func (t *tx) rows(q string, args []any, f func(*sql.Rows) error) error {
	if s := t.stmt(q); s != nil {
		rows, err := s.QueryContext(t.ctx, args...)
		return each(rows, err, f)
	}
	rows, err := t.tx.QueryContext(t.ctx, q, args...)
	return each(rows, err, f)
}

func each(rows *sql.Rows, err error, f func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); errors.Is(err, errStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return rows.Err()
}
