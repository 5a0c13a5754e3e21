package store

import (
	"bytes"
	"compress/flate"
	"database/sql"
	_ "embed" // for words
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"modernc.org/sqlite"

	"github.com/bitgram/bitgram/internal/engine"
)

// A patch is a small change of a contract's state, in a row of its own: a penny
// that a bank accepts writes 60 bytes instead of the whole state. Patches are
// collected during a transaction and written by its end in one statement, and
// they are not in savepoints: an update that only patches writes nothing else,
// so it is undone by forgetting its patches.

// base is a contract's state as it is stored, without and with its patch.
type base struct {
	seq   int64 // of the contract's row
	state []byte
	patch engine.Patch
	done  bool
}

// maxBases is the maximum number of states that the writer remembers to
// compare patches with. Beyond it, it starts again from the database.
const maxBases = 1 << 14

// patched is a patch that is not written yet.
type patched struct {
	seq   int64
	patch engine.Patch
}

// patchHead is the length of At and Cut in a row: 4 bytes each.
const patchHead = 8

func encodePatch(p engine.Patch) []byte {
	b := make([]byte, patchHead, patchHead+len(p.With))
	binary.BigEndian.PutUint32(b, uint32(p.At))
	binary.BigEndian.PutUint32(b[4:], uint32(p.Cut))
	return append(b, p.With...)
}

// errPatch means that a patch does not fit its state.
var errPatch = fmt.Errorf("%w: a patch does not fit its contract", ErrCorrupt)

// decodePatch decodes a row's patch; NULL, if there is no row, is the zero
// Patch.
func decodePatch(b []byte) (p engine.Patch, err error) {
	if b == nil {
		return p, nil
	}
	if len(b) < patchHead {
		return p, errPatch
	}
	return engine.Patch{At: int(binary.BigEndian.Uint32(b)), Cut: int(binary.BigEndian.Uint32(b[4:])), With: b[patchHead:]}, nil
}

// The column done says whether a contract is done, and whether its state is
// compressed: what is done is kept for a long time and seldom read.
const (
	notDone    = 0
	isDone     = 1
	compressed = 2 // done, and the state is in the form of DEFLATE, as earlier versions wrote it
	shortened  = 3 // the same, with words as the preset dictionary
)

// words is what states have in common: encodings of typical ones that are done,
// with zeros for what differs. It must never change, because states cannot be read
// without it.
//
//go:embed words.bin
var words []byte

// maxState is the maximum size of a compressed state.
const maxState = 16 << 20

// pack returns what is written of a state, and the column done.
func pack(state []byte, done bool) ([]byte, int) {
	if !done {
		return state, notDone
	}
	var b bytes.Buffer
	w, err := flate.NewWriterDict(&b, flate.BestCompression, words)
	if err == nil {
		_, err = w.Write(state)
	}
	if err != nil || w.Close() != nil || b.Len() >= len(state) || len(state) > maxState {
		return state, isDone
	}
	return b.Bytes(), shortened
}

// unpack returns a state as it was saved, with its row's patch.
func unpack(state, row []byte, done int) ([]byte, error) {
	if done == compressed || done == shortened {
		var dict []byte
		if done == shortened {
			dict = words
		}
		var err error
		if state, err = io.ReadAll(io.LimitReader(flate.NewReaderDict(bytes.NewReader(state), dict), maxState+1)); err != nil || len(state) > maxState {
			return nil, fmt.Errorf("%w: a compressed state: %v", ErrCorrupt, err)
		}
	}
	if row == nil {
		return state, nil
	}
	p, err := decodePatch(row)
	if err != nil {
		return nil, err
	}
	if state = p.Of(state); state == nil {
		return nil, errPatch
	}
	return state, nil
}

// base returns a contract's state for the writer, or nil if there is none.
func (t *tx) base(ref engine.Ref) (*base, error) {
	if b := t.s.bases[ref]; b != nil {
		return b, nil
	}
	if err := t.settle(); err != nil {
		return nil, err
	}
	b := new(base)
	var row []byte
	var done int
	err := t.row(sqlBase, string(ref.Kind), ref.ID[:]).Scan(&b.seq, &b.state, &row, &done)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	b.done = done != notDone
	if err == nil {
		b.state, err = unpack(b.state, nil, done)
	}
	if err == nil {
		b.patch, err = decodePatch(row)
	}
	if err != nil {
		return nil, err
	}
	t.s.remember(ref, b)
	return b, nil
}

func (s *Store) remember(ref engine.Ref, b *base) {
	if len(s.bases) >= maxBases {
		clear(s.bases)
	}
	s.bases[ref] = b
}

// Patch implements engine.Tx.
func (t *tx) Patch(ref engine.Ref, state []byte, was, is engine.Patch) (bool, error) {
	if t.s == nil {
		return false, errReadOnly
	}
	b, err := t.base(ref)
	if b == nil || err != nil || !b.patch.Equal(was) || !bytes.Equal(b.state, state) || !is.Fits(state) {
		return false, err
	}
	t.s.remember(ref, &base{b.seq, b.state, is, b.done})
	t.pending = append(t.pending, patched{b.seq, is})
	return true, nil
}

// errReadOnly means that a view is written to.
var errReadOnly = errors.New("a view cannot be written to")

// settle writes the pending patches, so that statements see them.
func (t *tx) settle() error {
	if len(t.pending) == 0 {
		return nil
	}
	if err := t.begin(); err != nil {
		return err
	}
	return t.flush(len(t.pending))
}

// begin opens the update's savepoint before its first statement that writes,
// if other updates share the transaction. Their patches are written before,
// because a rollback must not undo them.
func (t *tx) begin() error {
	if t.s == nil || t.open {
		return nil
	}
	if t.dead != nil {
		return t.dead
	}
	if t.dead = t.flush(t.mark); t.dead != nil {
		return t.dead
	}
	if t.shared {
		if _, t.dead = t.run(sqlSavepoint); t.dead != nil {
			return t.dead
		}
	}
	t.open = true
	return nil
}

// flush writes the first n pending patches, of each contract the last.
func (t *tx) flush(n int) error {
	if n == 0 {
		return nil
	}
	last := make(map[int64]int, n)
	for i, p := range t.pending[:n] {
		last[p.seq] = i
	}
	args := make([]any, 0, 2*patchRows)
	for i, p := range t.pending[:n] {
		if last[p.seq] == i {
			args = append(args, p.seq, encodePatch(p.patch))
		}
		if len(args) == cap(args) {
			if _, err := t.run(sqlPatches, args...); err != nil {
				return err
			}
			args = args[:0]
		}
	}
	for ; len(args) > 0; args = args[2:] {
		if _, err := t.run(sqlPatch, args[:2]...); err != nil {
			return err
		}
	}
	t.pending, t.mark = append(t.pending[:0], t.pending[n:]...), max(t.mark-n, 0)
	return nil
}

// patchRows is the number of patches in a statement.
const patchRows = 16

const (
	sqlPatchInto = "INSERT INTO patch (contract, bytes) VALUES "
	sqlPatchOver = " ON CONFLICT DO UPDATE SET bytes = excluded.bytes"
	sqlPatch     = sqlPatchInto + "(?, ?)" + sqlPatchOver
	sqlUnpatch   = "DELETE FROM patch WHERE contract = ?"
	sqlBase      = "SELECT seq, state, bytes, done FROM contract LEFT JOIN patch ON contract = seq WHERE kind = ? AND id = ?"
)

var sqlPatches = sqlPatchInto + strings.TrimSuffix(strings.Repeat("(?, ?), ", patchRows), ", ") + sqlPatchOver

// lost reports whether an error may have ended the whole transaction.
func lost(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e)
}
