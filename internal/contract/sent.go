package contract

import (
	"bytes"

	"github.com/bitgram/bitgram/wire"
)

// Sent is a transaction that was broadcast, with the data needed to bump its
// fee.
type Sent struct {
	Tx     []byte // with witnesses
	Txid   wire.Hash
	Fee    wire.Sat
	Height wire.Height // tip when it was built
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
