// Package devchain is an embedded regtest chain: btcd's consensus, mempool and
// miner, without a listening socket. Its policy is that of a node on mainnet:
// standard transactions only.
//
// btcd's own block store does not survive a kill. So every block is first
// written to a journal, which is synced before the block is announced
// (journal.go). Open replays whatever the store lacks, and rebuilds a store
// that cannot be opened or whose tip is not the journal's. Side branches are in
// the journal too, in their order of arrival, so the best chain after a restart
// is the one before it.
package devchain

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// Errors of the chain itself.
var (
	// ErrClosed: the chain is closed.
	ErrClosed = errors.New("chain is closed")
	// ErrBroken means that the journal could not be written. What is in memory
	// may be lost at the next start, so all calls fail; open the chain again.
	ErrBroken = errors.New("the chain's journal cannot be written")
	// ErrDry means that the faucet cannot pay the amount, even with the
	// subsidies that can still be mined.
	ErrDry = errors.New("the faucet is dry")
)

// Chain is a regtest chain. It implements chain.Backend and is safe for
// concurrent use.
type Chain struct {
	// mu is held for writing during each change of the chain or the mempool,
	// until the journal is synced, so readers see durable blocks only.
	mu      sync.RWMutex
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
	broken  error // the reason why the journal can no longer be written
	policy  *Policy
	markets []market // in the order of their heights

	news   sync.Mutex
	subs   map[chan struct{}]bool
	ending chan struct{} // closed as soon as Close is called
	end    sync.Once
}

var _ chain.Backend = (*Chain)(nil)

// Option changes how Open opens a chain.
type Option func(*Chain)

// Open opens or creates the chain under dir. Only one process at a time can
// open it.
func Open(dir string, opts ...Option) (c *Chain, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	params := regtest()
	c = &Chain{params: &params, subs: map[chan struct{}]bool{}, ending: make(chan struct{})}
	for _, o := range opts {
		o(c)
	}
	if c.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	opened := c
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.shut()) // c is nil by now
		}
	}()
	var blocks []*btcutil.Block
	if c.journal, blocks, err = openJournal(filepath.Join(dir, "blocks.journal")); err != nil {
		return nil, err
	}
	store := filepath.Join(dir, "store")
	if err = c.load(store, blocks); err != nil {
		// The journal is authoritative; rebuild the store.
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

// regtest returns a copy of the network's parameters with deployments of its
// own, because btcd stores the clock of the last opened chain in the global
// ones.
func regtest() chaincfg.Params {
	p := chaincfg.RegressionNetParams
	for i := range p.Deployments {
		d := &p.Deployments[i]
		if s, ok := d.DeploymentStarter.(*chaincfg.MedianTimeDeploymentStarter); ok {
			d.DeploymentStarter = chaincfg.NewMedianTimeDeploymentStarter(s.StartTime())
		}
		if e, ok := d.DeploymentEnder.(*chaincfg.MedianTimeDeploymentEnder); ok {
			d.DeploymentEnder = chaincfg.NewMedianTimeDeploymentEnder(e.EndTime())
		}
	}
	return p
}

// load opens the block store and brings it up to date with the journal.
func (c *Chain) load(path string, blocks []*btcutil.Block) (err error) {
	// btcd can panic on a store that a crash left half-written.
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
	least := relayFee
	if c.policy != nil {
		least = 1 // the rest is the policy's
		c.markets = []market{{0, c.policy.Market}}
	}
	sigs, hashes, clock := txscript.NewSigCache(10_000), txscript.NewHashCache(1_000), blockchain.NewMedianTime()
	if c.bc, err = blockchain.New(&blockchain.Config{DB: c.db, UtxoCacheMaxSize: utxoCache, ChainParams: c.params,
		TimeSource: clock, SigCache: sigs, HashCache: hashes}); err != nil {
		return err
	}
	c.pool = mempool.New(&mempool.Config{
		Policy: mempool.Policy{MaxTxVersion: 2, DisableRelayPriority: true, MaxOrphanTxs: 100, MaxOrphanTxSize: 100_000,
			MaxSigOpCostPerTx: blockchain.MaxBlockSigOpsCost / 4, MinRelayTxFee: btcutil.Amount(least)},
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
		BlockMaxSize: blockchain.MaxBlockBaseSize - 1000, TxMinFreeFee: btcutil.Amount(least)},
		c.params, source{c.pool, c}, c.bc, clock, sigs, hashes)
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
	// The store may have blocks that the journal lacks (a crash between the
	// two), or contain a block that it has not connected. In both cases the
	// tips differ, and building on the store's would leave a gap in the
	// journal.
	if tip, want := c.bc.BestSnapshot().Hash, best(c.params, blocks); tip != want {
		return fmt.Errorf("block store is at %v, the journal at %v", tip, want)
	}
	c.bc.Subscribe(c.notify)
	return nil
}

// best returns the tip of the active chain of blocks in their order. On regtest
// all blocks have the same work, so it is the first of the highest.
func best(p *chaincfg.Params, blocks []*btcutil.Block) chainhash.Hash {
	tip, top := *p.GenesisHash, 0
	heights := map[chainhash.Hash]int{tip: 0}
	for _, b := range blocks {
		h := heights[b.MsgBlock().Header.PrevBlock] + 1
		heights[*b.Hash()] = h
		if h > top {
			tip, top = *b.Hash(), h
		}
	}
	return tip
}

// notify keeps the mempool consistent with the chain; btcd leaves this to its
// user.
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

// Close stops the chain. It may be called repeatedly.
func (c *Chain) Close() error {
	c.end.Do(func() { close(c.ending) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	var err error
	if c.broken == nil {
		err = c.bc.FlushUtxoCache(blockchain.FlushRequired)
	}
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

// check returns the reason why the chain cannot be used, or nil.
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

// begin takes the lock for a change; if it returns nil, the caller must unlock.
func (c *Chain) begin(ctx context.Context) error {
	c.mu.Lock()
	err := cmp.Or(c.check(ctx), c.broken)
	if err != nil {
		c.mu.Unlock()
	}
	return err
}

// look takes the lock for reading; if it returns nil, the caller must unlock.
func (c *Chain) look(ctx context.Context) error {
	c.mu.RLock()
	err := cmp.Or(c.check(ctx), c.broken)
	if err != nil {
		c.mu.RUnlock()
	}
	return err
}

// Params implements chain.Backend.
func (c *Chain) Params() *chaincfg.Params { return c.params }

// Tip implements chain.Backend.
func (c *Chain) Tip(ctx context.Context) (chain.BlockRef, error) {
	if err := c.look(ctx); err != nil {
		return chain.BlockRef{}, err
	}
	defer c.mu.RUnlock()
	s := c.bc.BestSnapshot()
	return chain.BlockRef{Hash: s.Hash, Height: wire.Height(s.Height)}, nil
}

// HashAt implements chain.Backend.
func (c *Chain) HashAt(ctx context.Context, h wire.Height) (chainhash.Hash, error) {
	if err := c.look(ctx); err != nil {
		return chainhash.Hash{}, err
	}
	defer c.mu.RUnlock()
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
	if err := c.look(ctx); err != nil {
		return nil, 0, err
	}
	defer c.mu.RUnlock()
	b, err := c.block(hash)
	if err != nil {
		return nil, 0, err
	}
	return b.MsgBlock(), wire.Height(b.Height()), nil
}

// block returns a block of any branch. btcd's BlockByHash knows only the active
// one, and the store has no heights, so read the height from the coinbase
// (BIP34).
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

// FeeRate implements chain.Backend. It is constant unless the chain has a policy.
func (c *Chain) FeeRate(ctx context.Context, _ int) (wire.SatPerKVB, error) {
	if err := c.look(ctx); err != nil {
		return 0, err
	}
	defer c.mu.RUnlock()
	if c.policy != nil {
		return c.estimate(), nil
	}
	return feeRate, nil
}

// Fees implements chain.Backend.
func (c *Chain) Fees(ctx context.Context) (chain.Fees, error) {
	if err := c.look(ctx); err != nil {
		return chain.Fees{}, err
	}
	defer c.mu.RUnlock()
	p := c.rules()
	return chain.Fees{Relay: p.Relay, Mempool: p.least(), Increment: p.Increment}, nil
}

// Broadcast implements chain.Backend.
func (c *Chain) Broadcast(ctx context.Context, tx *btcwire.MsgTx) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	return c.accept(tx)
}

// accept is Broadcast with the lock held.
func (c *Chain) accept(tx *btcwire.MsgTx) error {
	t := btcutil.NewTx(tx.Copy())
	if c.pool.HaveTransaction(t.Hash()) || c.confirmed(tx) {
		return nil
	}
	defer c.replaceable(t)()
	if err := c.policyError(t); err != nil {
		return err
	}
	_, err := c.pool.ProcessTransaction(t, false, false, 0)
	return refusal(err)
}

// Output implements chain.OutputReader.
func (c *Chain) Output(ctx context.Context, at wire.Outpoint) (*btcwire.TxOut, error) {
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	op := btcwire.OutPoint{Hash: chainhash.Hash(at.Txid), Index: at.Vout}
	if c.pool.CheckSpend(op) != nil {
		return nil, chain.ErrNoOutput
	}
	if e, err := c.bc.FetchUtxoEntry(op); err != nil {
		return nil, err
	} else if e != nil && !e.IsSpent() {
		return btcwire.NewTxOut(e.Amount(), e.PkScript()), nil
	}
	if t, err := c.pool.FetchTransaction(&op.Hash); err == nil && int(at.Vout) < len(t.MsgTx().TxOut) {
		return t.MsgTx().TxOut[at.Vout], nil
	}
	return nil, chain.ErrNoOutput
}

// confirmed reports whether the chain has an unspent output of tx.
func (c *Chain) confirmed(tx *btcwire.MsgTx) bool {
	hash := tx.TxHash()
	for i := range tx.TxOut {
		if e, err := c.bc.FetchUtxoEntry(btcwire.OutPoint{Hash: hash, Index: uint32(i)}); err == nil && e != nil && !e.IsSpent() {
			return true
		}
	}
	return false
}

// TestAccept returns what Broadcast would return, without broadcasting, like
// Bitcoin Core's testmempoolaccept.
func (c *Chain) TestAccept(ctx context.Context, tx *btcwire.MsgTx) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	t := btcutil.NewTx(tx.Copy())
	defer c.replaceable(t)()
	if err := c.policyError(t); err != nil {
		return err
	}
	r, err := c.pool.CheckMempoolAcceptance(t)
	if err == nil && len(r.MissingParents) > 0 {
		return fmt.Errorf("%w: %v", chain.ErrConflict, r.MissingParents)
	}
	return refusal(err)
}

// refusal converts btcd's errors to those of chain.Backend, by their codes.
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
			if strings.Contains(e.Description, "replacement transaction") { // btcd has one code for both
				return fmt.Errorf("%w: %s", chain.ErrReplacement, e.Description)
			}
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

// tell notifies the watchers.
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

// Mempool lists the unconfirmed transactions.
func (c *Chain) Mempool() (txs []*btcwire.MsgTx) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, d := range c.pool.TxDescs() {
		txs = append(txs, d.Tx.MsgTx().Copy())
	}
	return txs
}

// Export writes the active chain from height 1, one block in lower-case hex per
// line, as Bitcoin nodes accept it with submitblock.
func (c *Chain) Export(w io.Writer) error {
	if err := c.look(context.Background()); err != nil {
		return err
	}
	defer c.mu.RUnlock()
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

// faucetKey holds the faucet's coins. Regtest money has no value, so the key is
// the same everywhere. Commands that use no such chain must not wait for its public
// key.
var faucetKey = sync.OnceValue(func() *btcec.PrivateKey {
	k, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{0xfa}, 32))
	return k
})

// faucetFee returns the fee of a faucet payment per input, well over what the
// mempool and blocks accept.
func (c *Chain) faucetFee() wire.Sat {
	fee := wire.Sat(1000)
	if c.policy != nil {
		fee = max(fee, max(c.policy.Market, c.policy.least()).Fee(400))
	}
	return fee
}

// Faucet pays amount to script from coins that the chain mines for itself, and
// returns the unconfirmed output. It returns ErrDry if they do not suffice.
func (c *Chain) Faucet(ctx context.Context, script []byte, amount wire.Sat) (wire.Outpoint, error) {
	if amount <= 0 || amount > wire.MaxSat {
		return wire.Outpoint{}, fmt.Errorf("faucet cannot pay %v", amount)
	}
	own, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(faucetKey().PubKey()))
	if err != nil {
		return wire.Outpoint{}, err
	}
	had := wire.Sat(-1)
	for {
		at, have, err := c.pay(ctx, own, script, amount)
		if err != nil {
			return wire.Outpoint{}, err
		}
		if at != nil {
			return *at, nil
		}
		// Mine as many blocks as one coin needs to mature. Regtest halves its
		// subsidy every 150 blocks: once that gains nothing, it never will.
		if have <= had {
			return wire.Outpoint{}, fmt.Errorf("%w: %v asked, %v there", ErrDry, amount, have)
		}
		had = have
		if _, err := c.Mine(ctx, int(c.params.CoinbaseMaturity)+1, own); err != nil {
			return wire.Outpoint{}, err
		}
	}
}

// pay builds and broadcasts a payment from the faucet's change and mature
// coinbases; it returns nil if these, have in total, do not suffice.
func (c *Chain) pay(ctx context.Context, own, script []byte, amount wire.Sat) (at *wire.Outpoint, have wire.Sat, err error) {
	if err := c.begin(ctx); err != nil {
		return nil, 0, err
	}
	defer c.mu.Unlock()
	tip := c.bc.BestSnapshot().Height
	coins := slices.Clone(c.purse)
	for h := int32(1); h <= tip-int32(c.params.CoinbaseMaturity)+1; h++ {
		b, err := c.bc.BlockByHeight(h)
		if err != nil {
			return nil, 0, err
		}
		if cb := b.MsgBlock().Transactions[0]; bytes.Equal(cb.TxOut[0].PkScript, own) {
			coins = append(coins, btcwire.OutPoint{Hash: cb.TxHash()})
		}
	}
	tx, prev := btcwire.NewMsgTx(2), txscript.NewMultiPrevOutFetcher(nil)
	need := amount + 1000 // and change well over dust
	for _, at := range coins {
		e, err := c.bc.FetchUtxoEntry(at)
		if err != nil {
			return nil, 0, err
		}
		if e == nil || e.IsSpent() || c.pool.CheckSpend(at) != nil {
			continue
		}
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: at, Sequence: 0xfffffffd})
		prev.AddPrevOut(at, btcwire.NewTxOut(e.Amount(), own))
		have += wire.Sat(e.Amount())
		if need += c.faucetFee(); have >= need {
			break
		}
	}
	if have < need || len(tx.TxIn) == 0 {
		return nil, have, nil
	}
	tx.AddTxOut(btcwire.NewTxOut(int64(amount), script))
	tx.AddTxOut(btcwire.NewTxOut(int64(have-amount-c.faucetFee()*wire.Sat(len(tx.TxIn))), own))
	hashes := txscript.NewTxSigHashes(tx, prev)
	for i, in := range tx.TxIn {
		sig, err := txscript.RawTxInTaprootSignature(tx, hashes, i, prev.FetchPrevOutput(in.PreviousOutPoint).Value, own, nil,
			txscript.SigHashDefault, faucetKey())
		if err != nil {
			return nil, have, err
		}
		in.Witness = btcwire.TxWitness{sig}
	}
	if err := c.accept(tx); err != nil {
		return nil, have, err
	}
	c.purse = append(c.purse, btcwire.OutPoint{Hash: tx.TxHash(), Index: 1})
	return &wire.Outpoint{Txid: wire.Hash(tx.TxHash()), Vout: 0}, have, nil
}
