package contract

import (
	"bytes"

	"github.com/bitgram/bitgram/wire"
)

// Sent is a transaction that was built to be broadcast, with the data needed to
// bump its fee. It is not changed once it is stored.
type Sent struct {
	Tx     []byte // with witnesses
	Txid   wire.Hash
	Fee    wire.Sat
	Height wire.Height // tip when it was built
	// Before is the transaction that it replaces, until the network has accepted
	// the replacement: if it is refused, Before can still confirm.
	Before *Sent `cbor:",omitempty"`
	// Gone means that it cannot confirm: the network refused it, or one of its
	// inputs is spent otherwise. Only its fee rate and its address still count.
	Gone bool `cbor:",omitempty"`
	// Low means that it was refused because of its fee, so no input is at fault, or
	// that it is Gone and this member is not worth its fee without others.
	Low bool `cbor:",omitempty"`
}

// NewSent records a signed transaction.
func NewSent(tx Tx, fee wire.Sat, h wire.Height) *Sent {
	var b bytes.Buffer
	_ = tx.Serialize(&b) // a bytes.Buffer does not fail
	return &Sent{Tx: b.Bytes(), Txid: Txid(tx), Fee: fee, Height: h}
}

// Spends reports whether s spends exactly the same outputs as tx.
func (s *Sent) Spends(tx Tx) bool {
	old, err := ReadTx(s.Tx)
	if err != nil || len(old.TxIn) != len(tx.TxIn) {
		return false
	}
	for _, in := range tx.TxIn {
		if Spends(old, OutpointOf(in.PreviousOutPoint)) < 0 {
			return false
		}
	}
	return true
}

// Live reports whether s may still confirm.
func (s *Sent) Live() bool { return s != nil && !s.Gone }

// Rate returns the rate that s pays, or 0 if it is nil.
func (s *Sent) Rate() wire.SatPerKVB {
	if s == nil {
		return 0
	}
	tx, err := ReadTx(s.Tx)
	if err != nil {
		return 0
	}
	return wire.SatPerKVB(int64(s.Fee) * 1000 / VSize(Weight(tx)))
}

// Lost returns s with Gone set.
func (s *Sent) Lost() *Sent {
	if s == nil || s.Gone {
		return s
	}
	lost := *s
	lost.Gone, lost.Before = true, nil
	return &lost
}

// Told returns the transaction that counts once the network has accepted or
// refused a broadcast of txid: s itself; after a refusal, the one that s was to
// replace; or, if there is none, s with Gone set. low says that the refusal was
// because of the fee. again reports whether the result must be broadcast, and
// plan whether its members must be planned again, because one of them may be the
// reason for the refusal. One that is Gone becomes Low too if low.
func (s *Sent) Told(txid wire.Hash, refused, low bool) (next *Sent, again, plan bool) {
	switch {
	case s == nil || s.Txid != txid:
		return s, false, false
	case !refused && s.Before == nil && !s.Gone:
		return s, false, false
	case !refused:
		ok := *s
		ok.Before, ok.Gone, ok.Low = nil, false, false
		return &ok, false, false
	case s.Before != nil:
		return s.Before, true, false
	case s.Gone && (!low || s.Low):
		return s, false, false
	}
	lost := *s
	lost.Gone, lost.Low = true, low
	tx, err := ReadTx(s.Tx)
	return &lost, false, !low && err == nil && len(tx.TxIn) > 1
}
