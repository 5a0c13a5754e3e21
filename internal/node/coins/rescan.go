package coins

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// rescanTell is the number of blocks between two reports of a rescan.
const rescanTell = 10_000

// errMoved means that a block that was read may not be of the chain that the
// wallet follows.
var errMoved = errors.New("the chain changed while it was read")

// Rescan reads the chain again from a height up to the wallet's last block, for
// coins of addresses that the wallet has watched only since. It returns an error
// that wraps chain.ErrPruned if the node lacks a block.
func (c *Coins) Rescan(ctx context.Context, from wire.Height) error {
	if err := c.engine.WaitSynced(ctx); err != nil {
		return err
	}
	c.log.Info("rescanning the chain for the wallet", "from", from, "to", c.engine.Position().Height)
	for h := from; h <= c.engine.Position().Height; {
		err := c.rescan(ctx, h)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errMoved) || errors.Is(err, chain.ErrUnavailable) || errors.Is(err, chain.ErrSyncing):
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		case err != nil:
			return fmt.Errorf("block %d: %w", h, err)
		}
		if h++; h%rescanTell == 0 {
			c.log.Info("rescanning the chain for the wallet", "at", h)
		}
	}
	c.log.Info("the wallet is rescanned", "from", from)
	return nil
}

// rescan reads one block. The block must be an ancestor of the last block that
// the wallet knows.
func (c *Coins) rescan(ctx context.Context, h wire.Height) error {
	hash, err := c.chain.HashAt(ctx, h)
	if errors.Is(err, chain.ErrNotFound) {
		return errMoved
	} else if err != nil {
		return err
	}
	block, _, err := c.chain.Block(ctx, hash)
	if err != nil {
		return err
	}
	tip := c.engine.Position()
	if now, err := c.chain.HashAt(ctx, tip.Height); errors.Is(err, chain.ErrNotFound) || err == nil && now != tip.Hash {
		return errMoved
	} else if err != nil {
		return err
	}
	if now, err := c.chain.HashAt(ctx, h); err != nil || now != hash {
		return errMoved
	}
	return c.store.Update(ctx, func(tx engine.Tx) error {
		at, ok, err := tx.Position()
		if err != nil {
			return err
		}
		if !ok || at != tip || h > at.Height {
			return errMoved
		}
		return c.wallet.Rescan(tx, block.Transactions, h, at.Height)
	})
}
