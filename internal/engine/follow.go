package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// follow reports blocks one by one, disconnects first, until ctx ends. Errors
// are retried later, or at the node's next signal.
func (e *Engine) follow(ctx context.Context) error {
	news := e.cfg.Chain.Watch(ctx)
	wait := firstRetry
	for {
		err := e.catchUp(ctx)
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			e.mu.Lock()
			e.synced, e.trouble = false, err
			e.mu.Unlock()
			e.cfg.Log.Warn("cannot follow the chain, will retry", "err", err, "in", wait)
			again = time.After(wait)
			wait = min(2*wait, lastRetry)
		default:
			wait = firstRetry
		}
		select {
		case <-again:
		case _, ok := <-news:
			if !ok {
				news = nil
				if ctx.Err() == nil {
					return errors.New("the chain backend has closed")
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// catchUp brings the position to the node's tip. The engine counts as not
// synced while the node does not answer.
func (e *Engine) catchUp(ctx context.Context) error {
	e.mu.Lock()
	e.synced = false
	e.mu.Unlock()
	for {
		tip, err := e.cfg.Chain.Tip(ctx)
		if err != nil {
			return err
		}
		at, ok, err := e.position(ctx)
		if err != nil {
			return err
		}
		if !ok {
			// A new store starts at its birthday; earlier blocks are not
			// reported.
			start := wire.Height(0)
			if e.cfg.Birthday != nil {
				if start, err = e.cfg.Birthday(ctx); err != nil {
					return err
				}
				start = min(start, tip.Height)
			}
			hash, err := e.cfg.Chain.HashAt(ctx, start)
			if err != nil {
				return err
			}
			at = chain.BlockRef{Hash: hash, Height: start}
			if err := e.cfg.Store.Update(ctx, func(tx Tx) error { return tx.Advance(at) }); err != nil {
				return err
			}
			e.setPosition(at)
			continue
		}
		if at == tip {
			return e.caughtUp(ctx, at)
		}
		hash, err := e.cfg.Chain.HashAt(ctx, at.Height)
		switch {
		case errors.Is(err, chain.ErrNotFound) || (err == nil && hash != at.Hash):
			if err := e.disconnect(ctx, at); err != nil {
				return err
			}
		case err != nil:
			return err
		case at.Height >= tip.Height:
			return nil // the tip changed meanwhile: another signal will follow
		default:
			if err := e.connect(ctx, at); err != nil {
				return err
			}
		}
	}
}

// caughtUp updates the fee estimate and releases everything that waits for the
// tip.
func (e *Engine) caughtUp(ctx context.Context, at chain.BlockRef) error {
	rate, err := e.estimate(ctx)
	if err != nil {
		return err
	}
	fees, err := e.cfg.Chain.Fees(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.rate, e.fees, e.synced, e.trouble = rate, fees, true, nil
	e.mu.Unlock()
	e.setPosition(at)
	return nil
}

// estimate returns the fee estimate, or the last one if the node gives none now:
// deadlines do not wait for it.
func (e *Engine) estimate(ctx context.Context) (wire.SatPerKVB, error) {
	rate, err := chain.Estimate(ctx, e.cfg.Chain)
	if last := e.FeeRate(); err != nil && last > 0 && ctx.Err() == nil {
		e.cfg.Log.Warn("the Bitcoin node gives no fee estimate: the last one counts", "err", err, "rate", last)
		return last, nil
	}
	return rate, err
}

func (e *Engine) position(ctx context.Context) (at chain.BlockRef, ok bool, err error) {
	err = e.cfg.Store.View(ctx, func(tx Tx) error {
		at, ok, err = tx.Position()
		return err
	})
	return
}

func (e *Engine) setPosition(at chain.BlockRef) {
	e.mu.Lock()
	e.at = at
	close(e.told)
	e.told = make(chan struct{})
	e.mu.Unlock()
}

// connect reports the block after at.
func (e *Engine) connect(ctx context.Context, at chain.BlockRef) error {
	hash, err := e.cfg.Chain.HashAt(ctx, at.Height+1)
	if err != nil {
		return err
	}
	raw, _, err := e.cfg.Chain.Block(ctx, hash)
	if err != nil {
		return err
	}
	if raw.Header.PrevBlock != chainhash.Hash(at.Hash) {
		return errors.New("the chain changed while it was read")
	}
	rate, err := e.estimate(ctx)
	if err != nil {
		return err
	}
	increment := e.Fees().Increment // as of the last time at the tip
	block := &Block{Ref: chain.BlockRef{Hash: hash, Height: at.Height + 1}, Txs: raw.Transactions}
	var txids []wire.Hash
	var spent []wire.Outpoint
	for _, tx := range block.Txs {
		txids = append(txids, contract.Txid(tx))
		for _, in := range tx.TxIn {
			spent = append(spent, contract.OutpointOf(in.PreviousOutPoint))
		}
	}
	err = e.update(ctx, func(b *batch) error {
		for _, f := range e.followers {
			created, err := f.Connect(b.tx, block)
			if err != nil {
				return err
			}
			for _, c := range created {
				if err := b.create(c); err != nil && !errors.Is(err, ErrExists) {
					return err
				}
			}
		}
		refs, err := b.tx.Watching(txids, spent, block.Ref.Height)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			told := contract.Block{Height: block.Ref.Height, FeeRate: rate, Increment: increment}
			m, err := b.e.of(ref.Kind)
			if err == nil {
				told.Txs, err = b.relevant(m, ref, block, txids)
			} else {
				err = &machineError{err}
			}
			if own(err) {
				e.cfg.Log.Error("contract unreadable", "contract", ref.String(), "err", err)
				continue
			} else if err != nil {
				return err
			}
			if err := b.tell(ref, m.connected(told)); err != nil {
				return err
			}
		}
		return b.tx.Advance(block.Ref)
	})
	if err == nil {
		e.setPosition(block.Ref)
	}
	return err
}

// relevant returns the block's transactions that a contract watches.
func (b *batch) relevant(m *Machine, ref Ref, block *Block, txids []wire.Hash) (txs []contract.Tx, err error) {
	state, err := b.e.StateIn(b.tx, ref)
	if err != nil {
		return nil, err
	}
	want := m.interest(state)
	for i, tx := range block.Txs {
		hit := false
		for _, id := range want.Txids {
			hit = hit || id == txids[i]
		}
		for _, o := range want.Outpoints {
			hit = hit || contract.Spends(tx, o) >= 0
		}
		if hit {
			txs = append(txs, tx)
		}
	}
	return txs, nil
}

// tell steps a contract with a chain event. A contract whose step fails must
// not stop the chain for the others: the error is logged and the contract is
// left unchanged.
func (b *batch) tell(ref Ref, ev Event) error {
	_, err := b.step(ref, ev)
	if own(err) {
		b.e.cfg.Log.Error("contract cannot process a block", "contract", ref.String(), "err", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%v: %w", ref, err)
	}
	return nil
}

// disconnect undoes the block at.
func (e *Engine) disconnect(ctx context.Context, at chain.BlockRef) error {
	err := e.update(ctx, func(b *batch) error {
		refs, err := b.tx.Above(at.Height)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			m, err := e.of(ref.Kind)
			if err != nil {
				return err
			}
			if err := b.tell(ref, m.disconnected(contract.Undo{Height: at.Height})); err != nil {
				return err
			}
		}
		for _, f := range e.followers {
			if err := f.Disconnect(b.tx, at.Height); err != nil {
				return err
			}
		}
		if err := b.tx.Retreat(); err != nil {
			return err
		}
		var ok bool
		if at, ok, err = b.tx.Position(); err == nil && !ok {
			err = errors.New("the reorg is deeper than the stored history of the chain")
		}
		return err
	})
	if err == nil {
		e.setPosition(at)
	}
	return err
}
