package computing

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// The room's part of the database: of each job its record; by bank the job; the
// certificates by job and epoch; the sheets by job, bank, window and index; the proofs
// by job and number.
const (
	bucketRecord = "job/record"
	bucketBank   = "job/bank"
	bucketCert   = "job/cert"
	bucketSheet  = "job/sheet"
	bucketProof  = "job/proof"
)

// record is what never changes of a job, and the block that its seed comes from.
type record struct {
	_       struct{} `cbor:",toarray"`
	File    job.File
	Bank    wire.Hash // this party's
	Pennies uint32    // of it
	Peers   []wire.Peer
	Block   wire.Hash // that contains the funding; zeros before the job starts
	At      int64     // Unix time of the offer, in nanoseconds
}

// recordIn returns a job's record; nil if there is none.
func recordIn(tx engine.Tx, id wire.Hash) (*record, error) {
	raw, err := tx.Get(bucketRecord, id[:])
	if raw == nil || err != nil {
		return nil, err
	}
	r := new(record)
	return r, wire.Unmarshal(raw, r)
}

func (r *record) keep(tx engine.Tx, id wire.Hash) error {
	raw, err := wire.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Put(bucketRecord, id[:], raw)
}

func pennySecret(s [wire.PennySize]byte) (p penny.Secret) {
	copy(p[:], s[:])
	return p
}

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func certKey(id wire.Hash, epoch uint32) []byte { return slices.Concat(id[:], u32(epoch)) }

// keepCert stores a certificate. The one before it is no longer needed if it did not
// change the roster. The epoch of the last is stored as epoch 0.
func keepCert(tx engine.Tx, id wire.Hash, c *job.Certificate) error {
	at, err := tx.Get(bucketCert, certKey(id, 0))
	if err != nil {
		return err
	}
	if len(at) == 4 {
		key := certKey(id, binary.BigEndian.Uint32(at))
		raw, err := tx.Get(bucketCert, key)
		if err != nil {
			return err
		}
		var old job.Certificate
		if err := wire.Unmarshal(raw, &old); err != nil {
			return err
		}
		switch b := &old.Body; {
		case b.Epoch >= c.Body.Epoch:
			return nil
		case slices.Equal(b.Roster, b.Next):
			if err := tx.Delete(bucketCert, key); err != nil {
				return err
			}
		}
	}
	raw, err := wire.Marshal(c)
	if err != nil {
		return err
	}
	if err := tx.Put(bucketCert, certKey(id, 0), u32(c.Body.Epoch)); err != nil {
		return err
	}
	return tx.Put(bucketCert, certKey(id, c.Body.Epoch), raw)
}

// certsIn returns stored certificates of epochs from on, in order; at most limit, or
// all if that is 0.
func certsIn(tx engine.Tx, id wire.Hash, from uint32, limit int) (list []job.Certificate, err error) {
	err = tx.Scan(bucketCert, id[:], 0, func(_, raw []byte) error {
		if len(raw) == 4 {
			return nil
		}
		var c job.Certificate
		if err := wire.Unmarshal(raw, &c); err != nil {
			return err
		}
		if c.Body.Epoch >= from && (limit == 0 || len(list) < limit) {
			list = append(list, c)
		}
		return nil
	})
	return list, err
}

// maxProofs is the maximum number of proofs that are stored of a job: one for each
// party, and one against the buyer.
const maxProofs = job.MaxParties + 1

func keepProof(tx engine.Tx, id wire.Hash, p job.Proof) error {
	l, err := job.NewProofLetter(p)
	if err != nil {
		return err
	}
	raw, err := wire.Marshal(l)
	if err != nil {
		return err
	}
	for n := range uint32(maxProofs) {
		key := slices.Concat(id[:], u32(n))
		old, err := tx.Get(bucketProof, key)
		if err != nil {
			return err
		}
		if old == nil {
			return tx.Put(bucketProof, key, raw)
		}
	}
	return nil
}

// proofsIn returns the proofs of a job.
func proofsIn(tx engine.Tx, id wire.Hash) (list []job.Letter, err error) {
	err = tx.Scan(bucketProof, id[:], 0, func(_, raw []byte) error {
		var l job.Letter
		if err := wire.Unmarshal(raw, &l); err != nil {
			return err
		}
		list = append(list, l)
		return nil
	})
	return list, err
}

func sheetKey(id wire.Hash, node uint8, first, sheet uint32) []byte {
	return slices.Concat(id[:], []byte{node}, u32(first), u32(sheet))
}

// sheetIn returns a sheet, or nil.
func sheetIn(tx engine.Tx, id wire.Hash, node uint8, first, sheet uint32) (*job.Dealt, error) {
	raw, err := tx.Get(bucketSheet, sheetKey(id, node, first, sheet))
	if raw == nil || err != nil {
		return nil, err
	}
	d := new(job.Dealt)
	return d, wire.Unmarshal(raw, d)
}

var errOtherWindow = wire.Refuse(wire.BadRequest, "another window of these pennies is here")

// keepSheet stores a verified sheet. whole reports whether all of its window are
// stored.
func keepSheet(tx engine.Tx, id wire.Hash, d *job.Dealt) (whole bool, err error) {
	w := &d.Window
	key := sheetKey(id, w.Node, w.First, d.Sheet)
	n := uint32(0)
	if err := tx.Scan(bucketSheet, slices.Concat(id[:], []byte{w.Node}, u32(w.First)), 0, func(k, raw []byte) error {
		if string(k) != string(key) {
			n++
		}
		if n > 1 {
			return nil
		}
		var o job.Dealt
		if err := wire.Unmarshal(raw, &o); err != nil {
			return err
		}
		if o.Window != *w {
			return errOtherWindow
		}
		return nil
	}); err != nil {
		return false, err
	}
	raw, err := wire.Marshal(d)
	if err != nil {
		return false, err
	}
	return n+1 == (w.Count+job.SheetSize-1)/job.SheetSize, tx.Put(bucketSheet, key, raw)
}

// forget deletes all that is stored of a job but its machine. If the job is not over, its
// bank pays for no other.
func forget(tx engine.Tx, id wire.Hash, over bool) error {
	r, err := recordIn(tx, id)
	if err != nil || r == nil {
		return err
	}
	list := []error{tx.Delete(bucketRecord, id[:])}
	if over {
		list = append(list, tx.Delete(bucketBank, r.Bank[:]))
	}
	for _, bucket := range []string{bucketCert, bucketSheet, bucketProof} {
		var keys [][]byte
		if err := tx.Scan(bucket, id[:], 0, func(k, _ []byte) error { keys = append(keys, slices.Clone(k)); return nil }); err != nil {
			return err
		}
		for _, k := range keys {
			list = append(list, tx.Delete(bucket, k))
		}
	}
	return errors.Join(list...)
}
