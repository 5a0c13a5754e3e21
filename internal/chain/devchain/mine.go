package devchain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/mining"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/wire"
)

// Mine mines n blocks with the content of the mempool; their coinbases pay to
// script. The blocks are durable when it returns; one sync serves all n.
func (c *Chain) Mine(ctx context.Context, n int, script []byte) (refs []chain.BlockRef, err error) {
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	defer c.tell()
	for range n {
		if err := c.check(ctx); err != nil {
			return refs, errors.Join(err, c.sync())
		}
		t, err := c.gen.NewBlockTemplate(nil)
		if err != nil {
			return refs, errors.Join(err, c.sync())
		}
		cb := t.Block.Transactions[0]
		cb.TxOut[0].PkScript = script
		ref, err := c.submit(t.Block, t.Height)
		if err != nil {
			return refs, errors.Join(err, c.sync())
		}
		refs = append(refs, ref)
	}
	return refs, c.sync()
}

// MineWith mines one block on the tip with exactly txs, without the mempool and
// its policy, so only consensus is checked.
func (c *Chain) MineWith(ctx context.Context, script []byte, txs ...*btcwire.MsgTx) (chain.BlockRef, error) {
	if err := c.begin(ctx); err != nil {
		return chain.BlockRef{}, err
	}
	defer c.mu.Unlock()
	defer c.tell()
	ref, err := c.extend(c.bc.BestSnapshot().Hash, script, txs)
	return ref, errors.Join(err, c.sync())
}

// MineEvery mines a block every interval until ctx ends.
func (c *Chain) MineEvery(ctx context.Context, interval time.Duration, script []byte) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		if _, err := c.Mine(ctx, 1, script); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// Reorg replaces the last depth blocks by depth+1 others. The new blocks
// contain the old ones' transactions, except those listed in without and their
// descendants; these, and nothing else, are also removed from the mempool.
func (c *Chain) Reorg(ctx context.Context, depth int, script []byte, without ...wire.Hash) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	defer c.tell()
	tip := c.bc.BestSnapshot()
	if depth < 1 || int32(depth) > tip.Height {
		return fmt.Errorf("reorg of %d blocks on a chain of %d", depth, tip.Height)
	}
	parent, err := c.bc.BlockHashByHeight(tip.Height - int32(depth))
	if err != nil {
		return err
	}
	gone := map[chainhash.Hash]bool{}
	for _, id := range without {
		gone[chainhash.Hash(id)] = true
	}
	at := *parent
	for i := 1; i <= depth; i++ {
		b, err := c.bc.BlockByHeight(tip.Height - int32(depth) + int32(i))
		if err != nil {
			return err
		}
		var keep []*btcwire.MsgTx
		for _, tx := range b.MsgBlock().Transactions[1:] {
			if gone[tx.TxHash()] || slices.ContainsFunc(tx.TxIn, func(in *btcwire.TxIn) bool { return gone[in.PreviousOutPoint.Hash] }) {
				gone[tx.TxHash()] = true
				continue
			}
			keep = append(keep, tx)
		}
		ref, err := c.extend(at, script, keep)
		if err != nil {
			return errors.Join(err, c.sync())
		}
		at = ref.Hash
	}
	if _, err = c.extend(at, script, nil); err != nil {
		return errors.Join(err, c.sync())
	}
	for id := range gone {
		if tx, err := c.pool.FetchTransaction(&id); err == nil {
			c.pool.RemoveTransaction(tx, true)
		}
	}
	return c.sync()
}

// extend mines a block on any parent. Its coinbase claims the subsidy only; the
// fees of txs are burned.
func (c *Chain) extend(parent chainhash.Hash, script []byte, txs []*btcwire.MsgTx) (chain.BlockRef, error) {
	prev, err := c.block(parent)
	if err != nil {
		return chain.BlockRef{}, err
	}
	height := prev.Height() + 1
	mtp, err := c.medianTime(parent)
	if err != nil {
		return chain.BlockRef{}, err
	}
	when := time.Unix(time.Now().Unix(), 0)
	if !when.After(mtp) {
		when = mtp.Add(time.Second)
	}
	cb := btcwire.NewMsgTx(1)
	cb.AddTxIn(&btcwire.TxIn{PreviousOutPoint: btcwire.OutPoint{Index: 0xffffffff}, Sequence: 0xffffffff})
	cb.AddTxOut(btcwire.NewTxOut(blockchain.CalcBlockSubsidy(height, c.params), script))
	all := []*btcutil.Tx{btcutil.NewTx(cb)}
	b := btcwire.NewMsgBlock(&btcwire.BlockHeader{Version: 0x20000000, PrevBlock: parent, Timestamp: when, Bits: c.params.PowLimitBits})
	for _, tx := range txs {
		all = append(all, btcutil.NewTx(tx))
	}
	mining.AddWitnessCommitment(all[0], all)
	b.Transactions = append(b.Transactions, cb)
	b.Transactions = append(b.Transactions, txs...)
	return c.submit(b, height)
}

// medianTime returns the median time of hash and its ten predecessors, which a
// successor's time must exceed. btcd's PastMedianTime includes the new header
// itself.
func (c *Chain) medianTime(hash chainhash.Hash) (time.Time, error) {
	var times []time.Time
	for len(times) < 11 {
		h, err := c.bc.HeaderByHash(&hash)
		if err != nil {
			return time.Time{}, err
		}
		times = append(times, h.Timestamp)
		if hash == *c.params.GenesisHash {
			break
		}
		hash = h.PrevBlock
	}
	slices.SortFunc(times, time.Time.Compare)
	return times[len(times)/2], nil
}

// submit sets the block's coinbase script and proof of work, writes it to the
// journal and submits it to consensus. The caller must sync the journal.
func (c *Chain) submit(b *btcwire.MsgBlock, height int32) (chain.BlockRef, error) {
	c.nonce++
	tag, err := txscript.NewScriptBuilder().AddInt64(int64(height)).AddInt64(int64(c.nonce)).
		AddInt64(time.Now().UnixNano() & 0xffffffff).Script()
	if err != nil {
		return chain.BlockRef{}, err
	}
	b.Transactions[0].TxIn[0].SignatureScript = tag
	var txs []*btcutil.Tx
	for _, tx := range b.Transactions {
		txs = append(txs, btcutil.NewTx(tx))
	}
	b.Header.MerkleRoot = blockchain.CalcMerkleRoot(txs, false)
	target := blockchain.CompactToBig(b.Header.Bits)
	for h := b.BlockHash(); blockchain.HashToBig(&h).Cmp(target) > 0; h = b.BlockHash() {
		b.Header.Nonce++
	}
	block := btcutil.NewBlock(b)
	block.SetHeight(height)
	// Consensus first, because an invalid block must not be in the journal. The
	// block is announced only after the sync, so a crash in between loses
	// nothing that was announced.
	if _, orphan, err := c.bc.ProcessBlock(block, blockchain.BFNone); err != nil {
		var rule blockchain.RuleError
		if errors.As(err, &rule) {
			return chain.BlockRef{}, fmt.Errorf("%w: %w", chain.ErrRejected, err)
		}
		return chain.BlockRef{}, err
	} else if orphan {
		return chain.BlockRef{}, fmt.Errorf("%w: block without a parent", chain.ErrRejected)
	}
	if err := c.journal.append(block); err != nil {
		return chain.BlockRef{}, c.fail(err)
	}
	return chain.BlockRef{Hash: *block.Hash(), Height: wire.Height(height)}, nil
}

// sync makes the submitted blocks durable.
func (c *Chain) sync() error {
	if c.broken != nil {
		return c.broken
	}
	if err := c.journal.sync(); err != nil {
		return c.fail(err)
	}
	return nil
}

// fail ends all work: consensus knows a block that the journal may lack, and
// after a failed sync the disk's content is unknown (fsync may report a loss
// only once).
func (c *Chain) fail(err error) error {
	c.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	return c.broken
}
