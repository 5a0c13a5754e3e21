package coins

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// Lock selects and locks coins for a contract. short is not nil if they do not
// suffice; the contract then waits for more.
func (c *Coins) Lock(tx engine.Tx, ref engine.Ref, amount wire.Sat, weight int64) (p *wallet.Picked, short *wallet.Short, err error) {
	at, _, err := tx.Position()
	if err != nil {
		return nil, nil, err
	}
	p, err = c.wallet.Lock(tx, ref.ID[:], amount, weight, c.lastRate(), at.Height)
	if errors.As(err, &short) {
		return nil, short, tx.Put(bucketWaiting, ref.ID[:], []byte(ref.Kind))
	}
	if err != nil {
		return nil, nil, err
	}
	return p, nil, tx.Delete(bucketWaiting, ref.ID[:])
}

func (c *Coins) Unlock(tx engine.Tx, ref engine.Ref) error {
	return errors.Join(c.wallet.Unlock(tx, ref.ID[:]), tx.Delete(bucketWaiting, ref.ID[:]))
}

// bucketWaiting contains the contracts that wait for coins: id → kind.
const bucketWaiting = "sender/waiting"

// firstKind is the kind that waited before other kinds could; it is stored as
// "".
const firstKind engine.Kind = "sender"

// Wake sets the event for contracts of a kind that wait for coins, sent when
// some may have become free. It must be called before the engine runs.
func (c *Coins) Wake(kind engine.Kind, freed engine.Event) { c.freed[kind] = freed }

// NextWaiting wakes one contract that waits for coins, because some may have
// become free. The others ask at the next block.
func (c *Coins) NextWaiting(tx engine.Tx) (list []engine.Delivery, err error) {
	var ref engine.Ref
	if err := tx.Scan(bucketWaiting, nil, 1, func(key, kind []byte) error {
		ref = engine.Ref{Kind: engine.Kind(kind), ID: wire.Hash(key)}
		return nil
	}); err != nil || ref == (engine.Ref{}) {
		return nil, err
	}
	if ref.Kind == "" {
		ref.Kind = firstKind
	}
	return []engine.Delivery{{Ref: ref, Event: c.freed[ref.Kind]}}, tx.Delete(bucketWaiting, ref.ID[:])
}

// Fund is Publish without low.
func (c *Coins) Fund(ctx context.Context, ref engine.Ref, raw, use []byte, until wire.Height) (why string, err error) {
	why, _, err = c.Publish(ctx, ref, raw, use, until, func(engine.Tx) (bool, error) { return true, nil })
	return why, err
}

// errLow means that the node's minimum fee rate has risen above a funding's.
var errLow = fmt.Errorf("%w: the node's minimum has risen since its fee was set", chain.ErrFeeTooLow)

// Publish signs a funding, stores it, and only then broadcasts it. use, if set,
// is an address that is marked as used from then on. why is the reason if no node
// accepts it, or empty. low means that the reason is the fee and that nothing was
// signed, so that another funding may take its place. Nothing is done unless
// wants, which runs in the transaction that signs, returns true.
func (c *Coins) Publish(ctx context.Context, ref engine.Ref, raw, use []byte, until wire.Height, wants func(engine.Tx) (bool, error)) (why string, low bool, err error) {
	tx, err := contract.DecodeTx(raw)
	if err != nil {
		return "", false, err
	}
	txid := contract.Txid(tx)
	if c.secure != nil {
		if err := c.secure(ctx); err != nil {
			return "", false, fmt.Errorf("no money moves before the backup is current: %w", err)
		}
	}
	late := c.engine.Position().Height >= until
	out := false
	least := c.least(ctx)
	err = c.store.Update(ctx, func(t engine.Tx) (err error) {
		if ok, err := wants(t); err != nil || !ok {
			return cmp.Or(err, errUnwanted)
		}
		if out, err = c.wallet.IsOut(t, txid); err != nil || late && !out {
			return err
		}
		if err := c.wallet.Unlock(t, ref.ID[:]); err != nil {
			return err
		}
		if len(use) > 0 {
			if err := c.wallet.UseScript(t, use); err != nil {
				return err
			}
		}
		_, _, _, unsigned := c.wallet.Cost(t, txid)
		if err := c.wallet.Sign(t, tx, true); err != nil || unsigned == nil {
			return err
		}
		if fee, _, size, err := c.wallet.Cost(t, txid); err != nil || fee < least.Fee(size) {
			return cmp.Or(err, errLow) // not signed: the transaction of the store is undone
		}
		return nil
	})
	var refused error
	switch {
	case errors.Is(err, errUnwanted):
		return err.Error(), false, nil
	case errors.Is(err, errLow):
		return err.Error(), true, nil
	case errors.Is(err, wallet.ErrUnknownTx):
		refused = err // a coin that a reorg removed
	case err != nil:
		return "", false, err
	case late && !out:
		refused = errLate
	default:
		if err = c.broadcast(ctx, tx); errors.Is(err, chain.ErrRejected) {
			refused = err
		} else if err != nil {
			return "", false, err
		}
	}
	switch {
	case refused == nil:
		return "", false, c.store.Update(ctx, func(t engine.Tx) error { return c.wallet.Accepted(t, txid) })
	case out:
		return "", false, nil // it was accepted once: the chain shows its outcome
	}
	// As far as is known, no node has it: free its coins.
	return refused.Error(), false, c.store.Update(ctx, func(t engine.Tx) error { return c.wallet.Forget(t, txid) })
}

// errUnwanted means that a contract no longer wants its funding.
var errUnwanted = errors.New("it is no longer wanted")

// Signed reports whether the wallet has signed a funding.
func (c *Coins) Signed(tx engine.Tx, funding []byte) (bool, error) {
	t, err := contract.DecodeTx(funding)
	if err != nil {
		return false, err
	}
	_, _, _, err = c.wallet.Cost(tx, contract.Txid(t))
	if errors.Is(err, wallet.ErrUnknownTx) {
		return false, nil
	}
	return err == nil, err
}

// errLate means that a funding cannot confirm in time for the parties that wait
// for it.
var errLate = errors.New("it would confirm too late")

// Broadcast sends the network a transaction that is not a payment of the wallet.
// why is empty, or the network's reason to refuse it, and tooLow reports that its
// fee is the reason, and not a transaction that it would have to replace, which is
// one member's. A node that cannot be reached is an error.
func (c *Coins) Broadcast(ctx context.Context, t *btcwire.MsgTx) (why string, tooLow bool, err error) {
	err = c.chain.Broadcast(ctx, t)
	if errors.Is(err, chain.ErrRejected) {
		return err.Error(), errors.Is(err, chain.ErrFeeTooLow) && !errors.Is(err, chain.ErrReplacement), nil
	}
	return "", false, err
}
