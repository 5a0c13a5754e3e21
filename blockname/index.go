package blockname

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/wire"
)

// ErrValue means that a Found has an impossible value. Scan never returns one.
var ErrValue = errors.New("value out of range")

// Change is a key and its new value. A nil Value deletes the key.
type Change struct {
	Key, Value []byte
}

// Apply returns the changes to the index by the hints of the block at height,
// and an undo record for Revert. get reads the index as the previous block left
// it, and returns nil for a missing key. Apply does not modify what get
// returns, and wraps its errors. No key occurs twice; keys are in order, those
// of entries before those of ranks. A block that changes nothing has no changes
// and no undo.
//
// A host, domain or authority entry (kind, name) belongs to the hint that
// burned most: a larger value replaces the bid, an equal or smaller one does
// not. Values do not add up, not even those of the same hint.
//
// In a TLD or seed entry (kind, TLD, DHT prefix), the values of hints with the
// same text add up to one bid. The larger sum comes first; of equal sums, the
// first to reach it. At most MaxBids bids are kept. A new one must then burn
// more, in one output, than the sum of the last bid, which is forgotten. Other
// keys do not change, however much was burned: no burn buys the whole TLD.
//
// Hints are applied in the order of their transactions and outputs. 0 is a
// valid value. A sum is capped at wire.MaxSat. The result depends only on the
// blocks of the chain.
func Apply(get func(key []byte) ([]byte, error), height wire.Height, block Block) (changes []Change, undo []byte, err error) {
	type touched struct {
		old   []byte
		was   []byte // the old rank
		entry Entry
	}
	entries := map[string]*touched{}
	var keys []string
	var room [2 + MaxSize]byte
	for i := range block.Hints {
		f := &block.Hints[i]
		if f.Value < 0 || f.Value > wire.MaxSat {
			return nil, nil, fmt.Errorf("%w: %d in %x:%d", ErrValue, int64(f.Value), f.Out.Txid, f.Out.Vout)
		}
		key := appendKey(room[:0], f.Hint.Kind, f.Hint.Name, f.Hint.DHT)
		t := entries[string(key)]
		if t == nil {
			t = &touched{}
			name := string(key)
			if t.old, err = get([]byte(name)); err != nil {
				return nil, nil, fmt.Errorf("blockname index: %w", err)
			}
			if t.entry, err = DecodeEntry(key, t.old); err != nil {
				return nil, nil, fmt.Errorf("entry %q: %w", name, err)
			}
			t.was = t.entry.rank()
			entries[name] = t
			keys = append(keys, name)
		}
		t.entry = t.entry.add(f, height)
	}
	slices.Sort(keys)
	var ranks, oldRanks []Change
	for _, name := range keys {
		t := entries[name]
		now, err := t.entry.encode()
		if err != nil {
			return nil, nil, err
		}
		if bytes.Equal(now, t.old) {
			continue
		}
		key := []byte(name)
		changes = append(changes, Change{key, now})
		undo = appendChange(undo, Change{key, t.old})
		if rank := t.entry.rank(); !bytes.Equal(rank, t.was) {
			if t.was != nil {
				ranks = append(ranks, Change{t.was, nil})
				oldRanks = append(oldRanks, Change{t.was, rankValue})
			}
			ranks = append(ranks, Change{rank, rankValue})
			oldRanks = append(oldRanks, Change{rank, nil})
		}
	}
	byKey := func(a, b Change) int { return bytes.Compare(a.Key, b.Key) }
	slices.SortFunc(ranks, byKey)
	slices.SortFunc(oldRanks, byKey)
	for _, c := range oldRanks {
		undo = appendChange(undo, c)
	}
	return append(changes, ranks...), undo, nil
}

// appendChange appends u8 length ‖ key ‖ u16 length ‖ value; a length of 0
// means a nil value. The values of an index are never empty and are shorter
// than 2¹⁶.
func appendChange(b []byte, c Change) []byte {
	b = append(append(b, byte(len(c.Key))), c.Key...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(c.Value))), c.Value...)
}

// Revert returns the changes that restore the index to its state before the
// Apply that returned undo, byte for byte. The index must be in the state that
// Apply left, so blocks must be reverted in reverse order. It returns
// ErrCorrupt if Apply cannot have returned undo.
func Revert(undo []byte) (changes []Change, err error) {
	for len(undo) > 0 {
		n := int(undo[0])
		if n == 0 || len(undo) < 1+n+2 {
			return nil, fmt.Errorf("%w: undo", ErrCorrupt)
		}
		c := Change{Key: undo[1 : 1+n : 1+n]}
		size := int(binary.BigEndian.Uint16(undo[1+n:]))
		undo = undo[1+n+2:]
		if size > len(undo) {
			return nil, fmt.Errorf("%w: undo", ErrCorrupt)
		}
		if size > 0 {
			c.Value = undo[:size:size]
		}
		undo = undo[size:]
		changes = append(changes, c)
	}
	return changes, nil
}
