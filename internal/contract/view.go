package contract

import (
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// Block describes a block that joins the active chain to a contract. It
// contains only the transactions that the contract watches for.
type Block struct {
	Height  wire.Height
	FeeRate wire.SatPerKVB // the node's estimate for the next few blocks
	// Increment is what the node requires of a replacement for its own size, or 0 if
	// that is not known.
	Increment wire.SatPerKVB
	Txs       []*btcwire.MsgTx
}

// Undo says that the block at Height leaves the active chain. Everything learnt
// from that height on is void.
type Undo struct{ Height wire.Height }

// Interest says which blocks a contract must be told of. It is derived from the
// contract's state.
type Interest struct {
	Txids     []wire.Hash     // report when one of these confirms
	Outpoints []wire.Outpoint // report when one of these is spent
	// Wake is the next height whose block must be reported even if nothing
	// watched is in it, or 0.
	Wake wire.Height
	// Top is the highest block that the state knows of. A reorg below it must
	// be reported.
	Top wire.Height
	// Done means that nothing can happen any more.
	Done bool
	// Forget means that, in addition, nothing important ever happened: the
	// record can be removed.
	Forget bool
}

// Fact is an event that a block showed. A reorg withdraws it.
type Fact struct {
	Height wire.Height
	Txid   wire.Hash
}

// Depth returns the number of confirmations at tip: 1 in the tip itself, 0 if
// the fact is nil or above tip.
func (f *Fact) Depth(tip wire.Height) uint32 {
	if f == nil || tip < f.Height {
		return 0
	}
	return uint32(tip-f.Height) + 1
}

// Spends returns the index of tx's input that spends o, or -1.
func Spends(tx *btcwire.MsgTx, o wire.Outpoint) int {
	at := OutPoint(o)
	for i, in := range tx.TxIn {
		if in.PreviousOutPoint == at {
			return i
		}
	}
	return -1
}

// Tx is btcd's transaction type.
type Tx = *btcwire.MsgTx

// Txid is tx's id in internal byte order.
func Txid(tx Tx) wire.Hash { return wire.Hash(tx.TxHash()) }
