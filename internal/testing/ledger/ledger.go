// Package ledger is a chain in memory, for tests that play a story a thousand times:
// coins, scripts, both kinds of timelocks and replacement by fee as on devchain,
// and no work, policy or disk.
package ledger

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Ledger is the chain.
type Ledger struct {
	blocks []*btcwire.MsgBlock // by height
	hashes []chainhash.Hash
	coins  map[btcwire.OutPoint]*btcwire.TxOut
	since  map[btcwire.OutPoint]int // the height of each coin
	Pool   []*btcwire.MsgTx         // valid, and not in a block
	mined  uint32                   // blocks ever, for their hashes
}

// New returns a chain with one block.
func New() *Ledger {
	l := &Ledger{coins: map[btcwire.OutPoint]*btcwire.TxOut{}, since: map[btcwire.OutPoint]int{}}
	l.extend([]byte{txscript.OP_TRUE}, 0, nil)
	return l
}

func (l *Ledger) extend(script []byte, value wire.Sat, txs []*btcwire.MsgTx) chain.BlockRef {
	l.mined++
	h := btcwire.BlockHeader{Nonce: l.mined}
	if n := len(l.hashes); n > 0 {
		h.PrevBlock = l.hashes[n-1]
	}
	coinbase := btcwire.NewMsgTx(contract.TxVersion)
	coinbase.AddTxIn(&btcwire.TxIn{Sequence: l.mined})
	coinbase.AddTxOut(btcwire.NewTxOut(int64(value), script))
	b := &btcwire.MsgBlock{Header: h, Transactions: append([]*btcwire.MsgTx{coinbase}, txs...)}
	l.blocks, l.hashes = append(l.blocks, b), append(l.hashes, b.BlockHash())
	l.apply(b, len(l.blocks)-1)
	return l.tip()
}

func (l *Ledger) tip() chain.BlockRef {
	h := len(l.hashes) - 1
	return chain.BlockRef{Hash: l.hashes[h], Height: wire.Height(h)}
}

func (l *Ledger) apply(b *btcwire.MsgBlock, height int) {
	for _, tx := range b.Transactions {
		for _, in := range tx.TxIn {
			delete(l.coins, in.PreviousOutPoint)
		}
		for i, o := range tx.TxOut {
			at := btcwire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)}
			l.coins[at], l.since[at] = o, height
		}
	}
}

// fee checks tx against coins and scripts as if in the next block.
func (l *Ledger) fee(tx *btcwire.MsgTx) (fee int64, err error) {
	if int(tx.LockTime) >= len(l.blocks) {
		return 0, errors.New("not final")
	}
	prev := txscript.NewMultiPrevOutFetcher(nil)
	for _, in := range tx.TxIn {
		o := l.coins[in.PreviousOutPoint]
		for _, p := range l.Pool {
			if p.TxHash() == in.PreviousOutPoint.Hash && int(in.PreviousOutPoint.Index) < len(p.TxOut) {
				o = p.TxOut[in.PreviousOutPoint.Index]
			}
		}
		if o == nil {
			return 0, errors.New("missing inputs")
		}
		if in.Sequence < 1<<16 { // BIP68, in blocks
			if since, ok := l.since[in.PreviousOutPoint]; !ok || l.coins[in.PreviousOutPoint] == nil || len(l.blocks) < since+int(in.Sequence) {
				return 0, errors.New("not final")
			}
		}
		prev.AddPrevOut(in.PreviousOutPoint, o)
		fee += o.Value
	}
	for _, o := range tx.TxOut {
		fee -= o.Value
	}
	if _, ok := valid.Load(tx.WitnessHash()); ok {
		return fee, nil
	}
	hashes := txscript.NewTxSigHashes(tx, prev)
	for n, in := range tx.TxIn {
		o := prev.FetchPrevOutput(in.PreviousOutPoint)
		vm, err := txscript.NewEngine(o.PkScript, tx, n, txscript.StandardVerifyFlags, nil, hashes, o.Value, prev)
		if err == nil {
			err = vm.Execute()
		}
		if err != nil {
			return 0, err
		}
	}
	valid.Store(tx.WitnessHash(), true)
	return fee, nil
}

// valid are transactions whose scripts hold: runs of one story make the same ones.
var valid sync.Map

// Tip returns the last block.
func (l *Ledger) Tip(context.Context) (chain.BlockRef, error) {
	return l.tip(), nil
}

// HashAt returns the hash of a block by its height.
func (l *Ledger) HashAt(_ context.Context, h wire.Height) (chainhash.Hash, error) {
	if int(h) >= len(l.blocks) {
		return chainhash.Hash{}, chain.ErrNotFound
	}
	return l.hashes[h], nil
}

// Block returns a block and its height.
func (l *Ledger) Block(_ context.Context, hash chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error) {
	i := slices.Index(l.hashes, hash)
	if i < 0 {
		return nil, 0, chain.ErrNotFound
	}
	return l.blocks[i], wire.Height(i), nil
}

// Broadcast takes what is valid and, where it conflicts, pays more.
func (l *Ledger) Broadcast(_ context.Context, tx *btcwire.MsgTx) error {
	id := tx.TxHash()
	same := func(p *btcwire.MsgTx) bool { return p.TxHash() == id }
	for i := range tx.TxOut {
		if l.coins[btcwire.OutPoint{Hash: id, Index: uint32(i)}] != nil || slices.ContainsFunc(l.Pool, same) {
			return nil
		}
	}
	fee, err := l.fee(tx)
	if err != nil {
		return err
	}
	conflicts := func(p *btcwire.MsgTx) bool {
		return slices.ContainsFunc(tx.TxIn, func(in *btcwire.TxIn) bool { return contract.Spends(p, contract.OutpointOf(in.PreviousOutPoint)) >= 0 })
	}
	for _, p := range l.Pool {
		if other, err := l.fee(p); conflicts(p) && err == nil && other >= fee {
			return errors.New("pays less than what it replaces")
		}
	}
	l.Pool = append(slices.DeleteFunc(l.Pool, conflicts), tx)
	return nil
}

// Mine adds blocks with what is valid of the pool.
func (l *Ledger) Mine(_ context.Context, n int, script []byte) (refs []chain.BlockRef, err error) {
	for range n {
		var txs []*btcwire.MsgTx
		pool := l.Pool
		l.Pool = nil
		for _, tx := range pool {
			if _, err := l.fee(tx); err == nil {
				txs = append(txs, tx)
				l.Pool = txs // what follows may spend it
			}
		}
		l.Pool = nil
		refs = append(refs, l.extend(script, 0, txs))
	}
	return refs, nil
}

// MineWith adds a block of these transactions.
func (l *Ledger) MineWith(_ context.Context, script []byte, txs ...*btcwire.MsgTx) (chain.BlockRef, error) {
	return l.extend(script, 0, txs), nil
}

// Reorg is devchain's: depth+1 new blocks with the old ones' transactions, but
// for some and what spends them.
func (l *Ledger) Reorg(_ context.Context, depth int, script []byte, without ...wire.Hash) error {
	n := len(l.blocks) - depth
	old := slices.Clone(l.blocks[n:])
	l.blocks, l.hashes, l.coins = l.blocks[:n], l.hashes[:n], map[btcwire.OutPoint]*btcwire.TxOut{}
	l.since = map[btcwire.OutPoint]int{}
	for h, b := range l.blocks {
		l.apply(b, h)
	}
	gone := func(tx *btcwire.MsgTx) bool {
		return slices.Contains(without, contract.Txid(tx)) ||
			slices.ContainsFunc(tx.TxIn, func(in *btcwire.TxIn) bool { return slices.Contains(without, wire.Hash(in.PreviousOutPoint.Hash)) })
	}
	for _, b := range old {
		var keep []*btcwire.MsgTx
		for _, tx := range b.Transactions[1:] {
			if gone(tx) {
				without = append(without, contract.Txid(tx))
			} else {
				keep = append(keep, tx)
			}
		}
		l.extend(script, 0, keep)
	}
	l.extend(script, 0, nil)
	l.Pool = slices.DeleteFunc(l.Pool, gone)
	return nil
}

// Clone returns a ledger that goes on from here on its own.
func (l *Ledger) Clone() *Ledger {
	c := *l
	c.blocks, c.hashes, c.Pool, c.coins, c.since = slices.Clone(l.blocks), slices.Clone(l.hashes), slices.Clone(l.Pool), maps.Clone(l.coins), maps.Clone(l.since)
	return &c
}

// Faucet mines a coin.
func (l *Ledger) Faucet(_ context.Context, script []byte, amount wire.Sat) (wire.Outpoint, error) {
	l.extend(script, amount, nil)
	return wire.Outpoint{Txid: contract.Txid(l.blocks[len(l.blocks)-1].Transactions[0])}, nil
}
