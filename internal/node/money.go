package node

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// NewAddress is a fresh bitcoin address of the wallet, with its script.
func (n *Node) NewAddress(ctx context.Context) (addr string, script []byte, err error) {
	err = n.store.Update(ctx, func(tx engine.Tx) error {
		script, err = n.wallet.NewScript(tx, wallet.External)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	addr, err = n.wallet.Address(script)
	return addr, script, err
}

// Balance is the wallet's balance.
func (n *Node) Balance(ctx context.Context) (b wallet.Balance, err error) {
	err = n.store.View(ctx, func(tx engine.Tx) error {
		at, _, err := tx.Position()
		if err != nil {
			return err
		}
		b, err = n.wallet.Balance(tx, at.Height)
		return err
	})
	return b, err
}

// Pay sends an amount to a bitcoin address at a rate, or at the node's estimate
// where rate is 0. The payment is kept before it is broadcast. Where the network
// refuses it, its coins are free again.
func (n *Node) Pay(ctx context.Context, to string, amount wire.Sat, rate wire.SatPerKVB) (*btcwire.MsgTx, error) {
	script, err := wallet.ParseAddress(to, n.cfg.Chain.Params())
	if err != nil {
		return nil, err
	}
	if rate == 0 {
		rate = n.engine.FeeRate()
	}
	return n.pay(ctx, func(tx engine.Tx) (*btcwire.MsgTx, error) {
		at, _, err := tx.Position()
		if err != nil {
			return nil, err
		}
		return n.wallet.Send(tx, script, amount, rate, at.Height)
	})
}

// Bump replaces an unconfirmed payment by one that pays rate, or twice the
// node's estimate where rate is 0.
func (n *Node) Bump(ctx context.Context, txid wire.Hash, rate wire.SatPerKVB) (*btcwire.MsgTx, error) {
	if rate == 0 {
		rate = 2 * n.engine.FeeRate()
	}
	return n.pay(ctx, func(tx engine.Tx) (*btcwire.MsgTx, error) { return n.wallet.Bump(tx, txid, rate) })
}

// Abandon takes back a payment that no node has taken: one that was made while
// the node was away, and that it refuses now. wallet.ErrOut, wallet.ErrUnknownTx.
func (n *Node) Abandon(ctx context.Context, txid wire.Hash) error {
	return n.store.Update(ctx, func(tx engine.Tx) error { return n.wallet.Abandon(tx, txid) })
}

// pay keeps a transaction of the wallet, and then broadcasts it.
func (n *Node) pay(ctx context.Context, build func(engine.Tx) (*btcwire.MsgTx, error)) (t *btcwire.MsgTx, err error) {
	if err := n.Synced(ctx); err != nil {
		return nil, err
	}
	if err := n.store.Update(ctx, func(tx engine.Tx) error {
		t, err = build(tx)
		return err
	}); err != nil {
		return nil, err
	}
	// It is kept: whoever asked may be gone, and must not take it for undone.
	ctx = context.WithoutCancel(ctx)
	if err := n.broadcast(ctx, t); errors.Is(err, chain.ErrRejected) {
		err = fmt.Errorf("the network refuses the payment: %w", err)
		return nil, errors.Join(err, n.store.Update(ctx, func(tx engine.Tx) error { return n.wallet.Forget(tx, contract.Txid(t)) }))
	} else if err != nil {
		n.log.Warn("payment kept, and not broadcast yet", "txid", contract.Txid(t), "err", err)
		return t, nil
	}
	return t, n.accepted(ctx, t)
}

// broadcast gives the network a transaction of the wallet. A node that misses
// what it stands on may have lost its mempool: it gets all that the wallet has
// unconfirmed, and then that transaction once more.
func (n *Node) broadcast(ctx context.Context, t *btcwire.MsgTx) error {
	err := n.cfg.Chain.Broadcast(ctx, t)
	if !errors.Is(err, chain.ErrConflict) {
		return err
	}
	if err := n.rebroadcast(ctx); err != nil {
		n.log.Debug("not broadcast again", "err", err)
	}
	return n.cfg.Chain.Broadcast(ctx, t)
}

func (n *Node) accepted(ctx context.Context, t *btcwire.MsgTx) error {
	return n.store.Update(ctx, func(tx engine.Tx) error { return n.wallet.Accepted(tx, contract.Txid(t)) })
}

// syncWait is how long a command waits for the chain to be read.
const syncWait = 20 * time.Second

// ErrSyncing: the chain is not read to its tip yet.
var ErrSyncing = errors.New("still catching up with the chain")

// Synced waits until the chain is read to its tip: ErrSyncing, or
// syscall.ENOSPC where there is no room to go on.
func (n *Node) Synced(ctx context.Context) error {
	if err := n.engine.Trouble(); errors.Is(err, syscall.ENOSPC) {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, syncWait)
	defer cancel()
	if err := n.engine.WaitSynced(wait); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: at block %d", errors.Join(ErrSyncing, n.engine.Trouble()), n.engine.Position().Height)
	}
	return nil
}

// History lists the wallet's confirmed transactions by height, and its own ones
// that are not confirmed.
func (n *Node) History(ctx context.Context) (list []wallet.Record, err error) {
	err = n.store.View(ctx, func(tx engine.Tx) error {
		if list, err = n.wallet.History(tx); err != nil {
			return err
		}
		txs, err := n.wallet.Unconfirmed(tx)
		for _, t := range txs {
			out, err := n.wallet.IsOut(tx, contract.Txid(t))
			if err != nil {
				return err
			}
			list = append(list, wallet.Record{Txid: contract.Txid(t), Kept: !out})
		}
		return err
	})
	return list, err
}

// watchBlocks does what is due with every block and belongs to no contract.
func (n *Node) watchBlocks(ctx context.Context) {
	for {
		h := n.engine.Position().Height
		if n.engine.WaitSynced(ctx) != nil {
			return
		}
		if err := n.rebroadcast(ctx); err != nil && ctx.Err() == nil {
			n.log.Debug("not broadcast again", "err", err)
		}
		if n.cfg.Tip != nil {
			n.cfg.Tip(n.engine.Position())
		}
		if n.engine.WaitHeight(ctx, h+1) != nil {
			return
		}
	}
}

// rebroadcast sends again what the wallet paid and no block has.
func (n *Node) rebroadcast(ctx context.Context) error {
	var txs []*btcwire.MsgTx
	if err := n.store.View(ctx, func(tx engine.Tx) (err error) {
		txs, err = n.wallet.Unconfirmed(tx)
		return err
	}); err != nil {
		return err
	}
	var errs []error
	for _, t := range txs {
		err := n.cfg.Chain.Broadcast(ctx, t)
		if err == nil {
			err = n.accepted(ctx, t)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
