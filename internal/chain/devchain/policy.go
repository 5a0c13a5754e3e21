package devchain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/mempool"
	"github.com/btcsuite/btcd/mining"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/wire"
)

// Policy is the fee policy of the chain's node and its miners, for a chain
// opened with WithPolicy. All rates are in satoshi per 1,000 vB.
type Policy struct {
	Relay     wire.SatPerKVB // the minimum relay rate: Bitcoin Core's -minrelaytxfee
	Increment wire.SatPerKVB // what a replacement must add for its own size: -incrementalrelayfee
	Full      wire.SatPerKVB // the minimum rate of a full mempool; 0 if it is not full
	Market    wire.SatPerKVB // the minimum rate that blocks include
	Lag       wire.Height    // blocks by which the estimate is behind the market
	// Data is the size in bytes of the longest OP_RETURN script that is relayed:
	// Bitcoin Core's -datacarriersize. 0 means 83; NoData means none, as
	// -datacarrier=0.
	Data   int
	NoData bool
}

// least returns the minimum rate that the mempool accepts: Core's
// mempoolminfee.
func (p *Policy) least() wire.SatPerKVB { return max(p.Relay, p.Full) }

// market is the minimum rate of blocks from a height on.
type market struct {
	from wire.Height
	rate wire.SatPerKVB
}

// WithPolicy sets the fee policy of the chain's node, as in Bitcoin Core: a
// transaction below the minimum rate is refused, and so is a replacement that
// does not pay for its own relay (BIP125, rule 4); outputs are dust at 3,000
// sat/kvB, whatever the minimum rate is; and blocks include nothing below the
// market's rate. Without it the mempool is btcd's, at 1 sat/vB, and the
// estimate a constant 2 sat/vB. With or without it, every unconfirmed transaction
// can be replaced, whether it signals that or not.
func WithPolicy(p Policy) Option { return func(c *Chain) { c.policy = &p } }

// SetPolicy changes the policy of a chain opened with one. Transactions below
// the new minimum rate leave the mempool.
func (c *Chain) SetPolicy(ctx context.Context, p Policy) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if c.policy == nil {
		return fmt.Errorf("the chain was opened without a policy")
	}
	c.policy = &p
	c.markets = append(c.markets, market{wire.Height(c.bc.BestSnapshot().Height), p.Market})
	for _, d := range c.pool.TxDescs() {
		if wire.Sat(d.Fee) < p.least().Fee(mempool.GetTxVirtualSize(d.Tx)) {
			c.pool.RemoveTransaction(d.Tx, true)
		}
	}
	return nil
}

// Policy returns the chain's policy, or the equivalent of a chain without one.
func (c *Chain) Policy() Policy {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.rules()
}

// rules is Policy with the lock held.
func (c *Chain) rules() Policy {
	if c.policy == nil {
		return Policy{Relay: relayFee, Increment: relayFee, Market: feeRate}
	}
	return *c.policy
}

// estimate returns the market's rate some blocks ago. The lock must be held.
func (c *Chain) estimate() wire.SatPerKVB {
	tip := wire.Height(c.bc.BestSnapshot().Height)
	rate := c.policy.Market
	for i, m := range c.markets {
		if i == 0 || m.from+c.policy.Lag <= tip {
			rate = m.rate
		}
	}
	return max(rate, c.policy.least())
}

// replaceable makes the unconfirmed transactions that t conflicts with signal
// that they can be replaced (BIP125), until restore is called. btcd's mempool
// replaces no other, and Bitcoin Core replaces all since version 28. btcd knows
// its transactions by the hashes that they had when they were accepted, so the
// sequence numbers serve only that rule meanwhile. The lock must be held for
// writing.
func (c *Chain) replaceable(t *btcutil.Tx) (restore func()) {
	var undo []func()
	for _, in := range t.MsgTx().TxIn {
		if other := c.pool.CheckSpend(in.PreviousOutPoint); other != nil {
			first := other.MsgTx().TxIn[0]
			old := first.Sequence
			first.Sequence = min(old, mempool.MaxRBFSequence)
			undo = append(undo, func() { first.Sequence = old })
		}
	}
	return func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
}

// policyError returns the reason why the policy refuses a transaction, or nil if
// it does not, or btcd finds another reason. The lock must be held.
func (c *Chain) policyError(t *btcutil.Tx) error {
	if c.policy == nil {
		return nil
	}
	for _, o := range t.MsgTx().TxOut {
		if len(o.PkScript) > 0 && o.PkScript[0] == txscript.OP_RETURN && (c.policy.NoData || len(o.PkScript) > cmp.Or(c.policy.Data, chain.DataScript)) {
			return fmt.Errorf("%w: an OP_RETURN script of %d bytes", chain.ErrNoData, len(o.PkScript))
		}
	}
	r, err := c.pool.CheckMempoolAcceptance(t)
	if err != nil || len(r.MissingParents) > 0 {
		return nil
	}
	for _, o := range t.MsgTx().TxOut {
		if !txscript.IsUnspendable(o.PkScript) && mempool.IsDust(o, btcutil.Amount(relayFee)) {
			return fmt.Errorf("%w: dust: an output of %d sat", chain.ErrRejected, o.Value)
		}
	}
	fee := wire.Sat(r.TxFee)
	if least := c.policy.least().Fee(r.TxSize); fee < least {
		return fmt.Errorf("%w: %v for %d vB, the minimum is %v", chain.ErrFeeTooLow, fee, r.TxSize, least)
	}
	if len(r.Conflicts) == 0 {
		return nil
	}
	needs := c.policy.Increment.Fee(r.TxSize)
	for _, d := range c.pool.TxDescs() {
		if r.Conflicts[*d.Tx.Hash()] != nil {
			needs += wire.Sat(d.Fee)
		}
	}
	if fee < needs {
		return fmt.Errorf("%w: a replacement of %v for %d vB, %v is needed", chain.ErrReplacement, fee, r.TxSize, needs)
	}
	return nil
}

// BroadcastPackage implements chain.Packager: the fees of the transactions that
// the mempool lacks count together.
func (c *Chain) BroadcastPackage(ctx context.Context, txs []*btcwire.MsgTx) (err error) {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	var fee wire.Sat
	var size int64
	var added []*btcutil.Tx
	defer func() {
		for _, t := range slices.Backward(added) {
			if err != nil {
				c.pool.RemoveTransaction(t, true)
			}
		}
	}()
	for _, tx := range txs {
		t := btcutil.NewTx(tx.Copy())
		if c.pool.HaveTransaction(t.Hash()) || c.confirmed(tx) {
			continue
		}
		r, err := c.enter(t)
		if err != nil {
			return err
		}
		added, fee, size = append(added, t), fee+wire.Sat(r.TxFee), size+r.TxSize
	}
	if c.policy != nil && fee < c.policy.least().Fee(size) {
		return fmt.Errorf("%w: %v for %d vB together, the minimum is %v", chain.ErrFeeTooLow, fee, size, c.policy.least().Fee(size))
	}
	return nil
}

// enter accepts a transaction of a package, whatever its fee.
func (c *Chain) enter(t *btcutil.Tx) (*mempool.MempoolAcceptResult, error) {
	defer c.replaceable(t)()
	if err := c.policyError(t); err != nil && (!errors.Is(err, chain.ErrFeeTooLow) || errors.Is(err, chain.ErrReplacement)) {
		return nil, err
	}
	r, err := c.pool.CheckMempoolAcceptance(t)
	if err != nil {
		return nil, refusal(err)
	}
	if len(r.MissingParents) > 0 {
		return nil, fmt.Errorf("%w: %v", chain.ErrConflict, r.MissingParents)
	}
	if _, err := c.pool.ProcessTransaction(t, false, false, 0); err != nil {
		return nil, refusal(err)
	}
	return r, nil
}

// source is the mempool as miners see it.
type source struct {
	*mempool.TxPool
	c *Chain
}

// MiningDescs leaves out transactions below the market's rate. A transaction pays
// for its unconfirmed ancestors too.
func (s source) MiningDescs() []*mining.TxDesc {
	list := s.TxPool.MiningDescs()
	if s.c.policy == nil {
		return list
	}
	at := map[chainhash.Hash]*mining.TxDesc{}
	for _, d := range list {
		at[*d.Tx.Hash()] = d
	}
	paid := map[chainhash.Hash]bool{}
	for _, d := range list {
		var fee wire.Sat
		var size int64
		seen := map[chainhash.Hash]bool{}
		for next := []*mining.TxDesc{d}; len(next) > 0; {
			one := next[0]
			next = next[1:]
			if seen[*one.Tx.Hash()] {
				continue
			}
			seen[*one.Tx.Hash()] = true
			fee, size = fee+wire.Sat(one.Fee), size+mempool.GetTxVirtualSize(one.Tx)
			for _, in := range one.Tx.MsgTx().TxIn {
				if parent := at[in.PreviousOutPoint.Hash]; parent != nil {
					next = append(next, parent)
				}
			}
		}
		if fee >= s.c.policy.Market.Fee(size) {
			maps.Copy(paid, seen)
		}
	}
	return slices.DeleteFunc(list, func(d *mining.TxDesc) bool { return !paid[*d.Tx.Hash()] })
}
