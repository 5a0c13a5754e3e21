// Package devchain is a regtest chain in this process: btcd's consensus,
// mempool and miner, with no listening socket. Its policy is that of a node
// on mainnet: standard transactions only.
//
// btcd's own block store is not kill-safe, so every block goes first to a
// journal that is synced before anybody is told of the block (journal.go). On
// Open whatever the store lacks is replayed, and a store that cannot be opened
// is built anew. Side branches are in the journal too, in the order in which
// they came, so the best chain after a restart is the one before it.
package devchain

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/database"
	_ "github.com/btcsuite/btcd/database/ffldb" // the block store
	"github.com/btcsuite/btcd/mempool"
	"github.com/btcsuite/btcd/mining"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/wire"
)

const (
	relayFee  wire.SatPerKVB = 1000 // Bitcoin Core's default until v29
	feeRate   wire.SatPerKVB = 2000 // what FeeRate estimates
	utxoCache                = 8 << 20
)

// ErrClosed: the chain is closed.
var ErrClosed = errors.New("chain is closed")

// Chain is a regtest chain. It implements chain.Backend and is safe for
// concurrent use.
type Chain struct {
	mu      sync.Mutex // one change of the chain or the mempool at a time
	params  *chaincfg.Params
	lock    *os.File
	journal *journal
	db      database.DB
	bc      *blockchain.BlockChain
	pool    *mempool.TxPool
	gen     *mining.BlkTmplGenerator
	nonce   uint64
	purse   []btcwire.OutPoint // the faucet's change
	closed  bool

	news   sync.Mutex
	subs   map[chan struct{}]bool
	ending chan struct{}
}

var _ chain.Backend = (*Chain)(nil)

// Open opens or creates the chain under dir. One process at a time can have it
// open.
func Open(dir string) (c *Chain, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	params := chaincfg.RegressionNetParams // a copy: the global is everybody's
	c = &Chain{params: &params, subs: map[chan struct{}]bool{}, ending: make(chan struct{})}
	if c.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.shut()
		}
	}()
	var blocks []*btcutil.Block
	if c.journal, blocks, err = openJournal(filepath.Join(dir, "blocks.journal")); err != nil {
		return nil, err
	}
	store := filepath.Join(dir, "store")
	if err = c.load(store, blocks); err != nil {
		// The journal is what counts; the store is made anew.
		if c.db != nil {
			c.db.Close()
			c.db = nil
		}
		if err = os.RemoveAll(store); err != nil {
			return nil, err
		}
		if err = c.load(store, blocks); err != nil {
			return nil, fmt.Errorf("chain in %s: %w", dir, err)
		}
	}
	return c, nil
}

// load opens the block store and brings it up to the journal.
func (c *Chain) load(path string, blocks []*btcutil.Block) (err error) {
	// A store that a crash left half-written can make btcd panic.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("block store: %v", p)
		}
	}()
	if c.db, err = database.Open("ffldb", path, c.params.Net); err != nil {
		var de database.Error
		if !errors.As(err, &de) || de.ErrorCode != database.ErrDbDoesNotExist {
			return err
		}
		if c.db, err = database.Create("ffldb", path, c.params.Net); err != nil {
			return err
		}
	}
	sigs, hashes, clock := txscript.NewSigCache(10_000), txscript.NewHashCache(1_000), blockchain.NewMedianTime()
	if c.bc, err = blockchain.New(&blockchain.Config{DB: c.db, UtxoCacheMaxSize: utxoCache, ChainParams: c.params,
		TimeSource: clock, SigCache: sigs, HashCache: hashes}); err != nil {
		return err
	}
	c.pool = mempool.New(&mempool.Config{
		Policy: mempool.Policy{MaxTxVersion: 2, DisableRelayPriority: true, MaxOrphanTxs: 100, MaxOrphanTxSize: 100_000,
			MaxSigOpCostPerTx: blockchain.MaxBlockSigOpsCost / 4, MinRelayTxFee: btcutil.Amount(relayFee)},
		ChainParams:    c.params,
		FetchUtxoView:  c.bc.FetchUtxoView,
		BestHeight:     func() int32 { return c.bc.BestSnapshot().Height },
		MedianTimePast: func() time.Time { return c.bc.BestSnapshot().MedianTime },
		CalcSequenceLock: func(tx *btcutil.Tx, v *blockchain.UtxoViewpoint) (*blockchain.SequenceLock, error) {
			return c.bc.CalcSequenceLock(tx, v, true)
		},
		IsDeploymentActive: c.bc.IsDeploymentActive,
		SigCache:           sigs, HashCache: hashes,
	})
	c.gen = mining.NewBlkTmplGenerator(&mining.Policy{BlockMaxWeight: blockchain.MaxBlockWeight - 4000,
		BlockMaxSize: blockchain.MaxBlockBaseSize - 1000, TxMinFreeFee: btcutil.Amount(relayFee)},
		c.params, c.pool, c.bc, clock, sigs, hashes)
	for _, b := range blocks {
		have, err := c.bc.HaveBlock(b.Hash())
		if err != nil {
			return err
		}
		if have {
			continue
		}
		if _, orphan, err := c.bc.ProcessBlock(b, blockchain.BFNone); err != nil {
			return err
		} else if orphan {
			return fmt.Errorf("block %v has no parent", b.Hash())
		}
	}
	c.bc.Subscribe(c.notify)
	return nil
}

// notify keeps the mempool in step with the chain: btcd leaves that to whoever
// embeds it.
func (c *Chain) notify(n *blockchain.Notification) {
	b, ok := n.Data.(*btcutil.Block)
	if !ok {
		return
	}
	switch n.Type {
	case blockchain.NTBlockConnected:
		for _, tx := range b.Transactions()[1:] {
			c.pool.RemoveTransaction(tx, false)
			c.pool.RemoveDoubleSpends(tx)
		}
	case blockchain.NTBlockDisconnected:
		for _, tx := range b.Transactions()[1:] {
			if _, _, err := c.pool.MaybeAcceptTransaction(tx, false, false); err != nil {
				c.pool.RemoveTransaction(tx, true)
			}
		}
	}
}

// Close stops the chain. It may be called again.
func (c *Chain) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	close(c.ending)
	err := c.bc.FlushUtxoCache(blockchain.FlushRequired)
	return errors.Join(err, c.shut())
}

func (c *Chain) shut() (err error) {
	if c.db != nil {
		err = errors.Join(err, c.db.Close())
	}
	if c.journal != nil {
		err = errors.Join(err, c.journal.close())
	}
	return errors.Join(err, c.lock.Close())
}

// check is what every method begins with.
func (c *Chain) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-c.ending:
		return ErrClosed
	default:
		return nil
	}
}

// Params implements chain.Backend.
func (c *Chain) Params() *chaincfg.Params { return c.params }

// Tip implements chain.Backend.
func (c *Chain) Tip(ctx context.Context) (chain.BlockRef, error) {
	if err := c.check(ctx); err != nil {
		return chain.BlockRef{}, err
	}
	s := c.bc.BestSnapshot()
	return chain.BlockRef{Hash: s.Hash, Height: wire.Height(s.Height)}, nil
}

// HashAt implements chain.Backend.
func (c *Chain) HashAt(ctx context.Context, h wire.Height) (chainhash.Hash, error) {
	if err := c.check(ctx); err != nil {
		return chainhash.Hash{}, err
	}
	if h > wire.MaxHeight {
		return chainhash.Hash{}, chain.ErrNotFound
	}
	hash, err := c.bc.BlockHashByHeight(int32(h))
	if err != nil {
		return chainhash.Hash{}, fmt.Errorf("%w: height %d", chain.ErrNotFound, h)
	}
	return *hash, nil
}

// Block implements chain.Backend.
func (c *Chain) Block(ctx context.Context, hash chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error) {
	if err := c.check(ctx); err != nil {
		return nil, 0, err
	}
	b, err := c.block(hash)
	if err != nil {
		return nil, 0, err
	}
	return b.MsgBlock(), wire.Height(b.Height()), nil
}

// block reads a block of any branch. btcd's BlockByHash knows only the active
// one, and the store keeps no heights: BIP34 has it in the coinbase.
func (c *Chain) block(hash chainhash.Hash) (*btcutil.Block, error) {
	var raw []byte
	err := c.db.View(func(tx database.Tx) error {
		b, err := tx.FetchBlock(&hash)
		raw = slices.Clone(b) // only valid inside
		return err
	})
	var de database.Error
	if errors.As(err, &de) && de.ErrorCode == database.ErrBlockNotFound {
		return nil, fmt.Errorf("%w: %v", chain.ErrNotFound, hash)
	}
	if err != nil {
		return nil, err
	}
	b, err := btcutil.NewBlockFromBytes(raw)
	if err != nil {
		return nil, err
	}
	height := int32(0)
	if hash != *c.params.GenesisHash {
		if height, err = blockchain.ExtractCoinbaseHeight(b.Transactions()[0]); err != nil {
			return nil, err
		}
	}
	b.SetHeight(height)
	return b, nil
}

// FeeRate implements chain.Backend: a constant.
func (c *Chain) FeeRate(ctx context.Context, _ int) (wire.SatPerKVB, error) {
	return feeRate, c.check(ctx)
}

// Broadcast implements chain.Backend.
func (c *Chain) Broadcast(ctx context.Context, tx *btcwire.MsgTx) error {
	if err := c.check(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := btcutil.NewTx(tx.Copy())
	if c.pool.HaveTransaction(t.Hash()) || c.confirmed(tx) {
		return nil
	}
	_, err := c.pool.ProcessTransaction(t, false, false, 0)
	return refusal(err)
}

// confirmed reports whether the chain holds an unspent output of tx.
func (c *Chain) confirmed(tx *btcwire.MsgTx) bool {
	hash := tx.TxHash()
	for i := range tx.TxOut {
		if e, err := c.bc.FetchUtxoEntry(btcwire.OutPoint{Hash: hash, Index: uint32(i)}); err == nil && e != nil && !e.IsSpent() {
			return true
		}
	}
	return false
}

// TestAccept reports what Broadcast would, and changes nothing: Bitcoin Core's
// testmempoolaccept.
func (c *Chain) TestAccept(ctx context.Context, tx *btcwire.MsgTx) error {
	if err := c.check(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.pool.CheckMempoolAcceptance(btcutil.NewTx(tx.Copy()))
	if err == nil && len(r.MissingParents) > 0 {
		return fmt.Errorf("%w: %v", chain.ErrConflict, r.MissingParents)
	}
	return refusal(err)
}

// refusal turns btcd's errors into those of chain.Backend, by their codes.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	var rule mempool.RuleError
	if !errors.As(err, &rule) {
		return err
	}
	switch e := rule.Err.(type) {
	case mempool.TxRuleError:
		switch e.RejectCode {
		case btcwire.RejectDuplicate:
			return fmt.Errorf("%w: %s", chain.ErrConflict, e.Description)
		case btcwire.RejectInsufficientFee:
			return fmt.Errorf("%w: %s", chain.ErrFeeTooLow, e.Description)
		}
	case blockchain.RuleError:
		if e.ErrorCode == blockchain.ErrMissingTxOut {
			return fmt.Errorf("%w: %s", chain.ErrConflict, e.Description)
		}
	}
	return fmt.Errorf("%w: %v", chain.ErrRejected, rule.Err)
}

// Watch implements chain.Backend.
func (c *Chain) Watch(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	c.news.Lock()
	c.subs[ch] = true
	c.news.Unlock()
	go func() {
		select {
		case <-ctx.Done():
		case <-c.ending:
		}
		c.news.Lock()
		delete(c.subs, ch)
		close(ch)
		c.news.Unlock()
	}()
	return ch
}

// tell wakes whoever watches.
func (c *Chain) tell() {
	c.news.Lock()
	defer c.news.Unlock()
	for ch := range c.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Mempool lists the transactions that wait for a block.
func (c *Chain) Mempool() (txs []*btcwire.MsgTx) {
	for _, d := range c.pool.TxDescs() {
		txs = append(txs, d.Tx.MsgTx())
	}
	return txs
}

// Export writes the active chain from height 1, one block in lower-case hex a
// line, as any Bitcoin node takes it by submitblock.
func (c *Chain) Export(w io.Writer) error {
	tip := c.bc.BestSnapshot().Height
	for h := int32(1); h <= tip; h++ {
		b, err := c.bc.BlockByHeight(h)
		if err != nil {
			return err
		}
		raw, err := b.Bytes()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, hex.EncodeToString(raw)); err != nil {
			return err
		}
	}
	return nil
}

// faucetKey holds the faucet's coins. Regtest money is a toy: the key is the
// same everywhere.
var faucetKey = func() *btcec.PrivateKey {
	k, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{0xfa}, 32))
	return k
}()

// faucetFee is what a faucet payment pays, well over the relay minimum.
const faucetFee wire.Sat = 1000

// Faucet pays amount to script from coins that the chain mines for itself, and
// returns the output, unconfirmed.
func (c *Chain) Faucet(ctx context.Context, script []byte, amount wire.Sat) (wire.Outpoint, error) {
	own, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(faucetKey.PubKey()))
	if err != nil {
		return wire.Outpoint{}, err
	}
	for {
		tx, err := c.payFrom(own, script, amount)
		if err != nil {
			return wire.Outpoint{}, err
		}
		if tx == nil {
			// No mature coin: as many blocks as one needs to mature.
			if _, err := c.Mine(ctx, int(c.params.CoinbaseMaturity)+1, own); err != nil {
				return wire.Outpoint{}, err
			}
			continue
		}
		if err := c.Broadcast(ctx, tx); err != nil {
			return wire.Outpoint{}, err
		}
		c.mu.Lock()
		c.purse = append(c.purse, btcwire.OutPoint{Hash: tx.TxHash(), Index: 1})
		c.mu.Unlock()
		return wire.Outpoint{Txid: wire.Hash(tx.TxHash()), Vout: 0}, nil
	}
}

// payFrom builds a payment from the faucet's change or a mature coinbase of
// its own; nil where it has none that suffices.
func (c *Chain) payFrom(own, script []byte, amount wire.Sat) (*btcwire.MsgTx, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tip := c.bc.BestSnapshot().Height
	coins := slices.Clone(c.purse)
	for h := int32(1); h <= tip-int32(c.params.CoinbaseMaturity)+1; h++ {
		b, err := c.bc.BlockByHeight(h)
		if err != nil {
			return nil, err
		}
		if cb := b.MsgBlock().Transactions[0]; bytes.Equal(cb.TxOut[0].PkScript, own) {
			coins = append(coins, btcwire.OutPoint{Hash: cb.TxHash()})
		}
	}
	for _, at := range coins {
		e, err := c.bc.FetchUtxoEntry(at)
		if err != nil {
			return nil, err
		}
		if e == nil || e.IsSpent() || c.pool.CheckSpend(at) != nil || e.Amount() < int64(amount+faucetFee+1000) {
			continue
		}
		tx := btcwire.NewMsgTx(2)
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: at, Sequence: 0xfffffffd})
		tx.AddTxOut(btcwire.NewTxOut(int64(amount), script))
		tx.AddTxOut(btcwire.NewTxOut(e.Amount()-int64(amount+faucetFee), own))
		prev := txscript.NewCannedPrevOutputFetcher(own, e.Amount())
		sig, err := txscript.RawTxInTaprootSignature(tx, txscript.NewTxSigHashes(tx, prev), 0, e.Amount(), own, nil, txscript.SigHashDefault, faucetKey)
		if err != nil {
			return nil, err
		}
		tx.TxIn[0].Witness = btcwire.TxWitness{sig}
		return tx, nil
	}
	return nil, nil
}
