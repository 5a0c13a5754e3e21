package contract

import (
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// Block is what a contract is told of a block that joins the active chain:
// only the transactions it watches for.
type Block struct {
	Height  wire.Height
	FeeRate wire.SatPerKVB // the node's estimate for the next few blocks
	Txs     []*btcwire.MsgTx
}

// Undo is what a contract is told when the block at Height leaves the active
// chain; all it learnt from that height on is void.
type Undo struct{ Height wire.Height }

// Interest is what a contract wants to hear of, derived from its state.
type Interest struct {
	Txids     []wire.Hash     // tell when one of these confirms
	Outpoints []wire.Outpoint // tell when one of these is spent
	// Wake is the next height at which a block is wanted though nothing
	// watched is in it; 0 for never.
	Wake wire.Height
	// Top is the highest block that the state knows of; a reorg below it is
	// told.
	Top wire.Height
	// Done: nothing can happen any more.
	Done bool
	// Forget: also nothing that ever mattered happened; the record goes.
	Forget bool
}

// Fact is something that a block showed; a reorg takes it back.
type Fact struct {
	Height wire.Height
	Txid   wire.Hash
}

// Depth is the number of confirmations at tip: 1 in the tip itself, 0 where
// the fact is not known or above tip.
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

// Tx is btcd's transaction.
type Tx = *btcwire.MsgTx

// Txid is tx's id in internal byte order.
func Txid(tx Tx) wire.Hash { return wire.Hash(tx.TxHash()) }
