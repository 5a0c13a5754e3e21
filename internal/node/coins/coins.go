// Package coins manages the node's money: its wallet inside the engine's
// transactions, payments and fundings, which are stored before they are
// broadcast, and the contracts that wait for coins.
package coins

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// Engine is what the room needs of the engine: where the chain is, and what
// transactions pay.
type Engine interface {
	Position() chain.BlockRef
	FeeRate() wire.SatPerKVB
	Trouble() error
	WaitSynced(context.Context) error
	WaitHeight(context.Context, wire.Height) error
}

// Chain is what the room needs of a Bitcoin node; a chain.Backend is one.
type Chain interface {
	Params() *chaincfg.Params
	Broadcast(context.Context, *btcwire.MsgTx) error
	FeeRate(ctx context.Context, target int) (wire.SatPerKVB, error)
	Fees(context.Context) (chain.Fees, error)
	HashAt(context.Context, wire.Height) (chainhash.Hash, error)
	Block(context.Context, chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error)
}

// Wallet is what the room needs of a wallet. It keeps its coins in the engine's
// transactions; *wallet.Wallet is one.
type Wallet interface {
	// Init makes it watch its first addresses.
	Init(wallet.Tx) error
	// Connect processes the transactions of a block, Disconnect undoes it.
	Connect(tx wallet.Tx, txs []*btcwire.MsgTx, height wire.Height) error
	Disconnect(tx wallet.Tx, height wire.Height) error
	Balance(tx wallet.Tx, tip wire.Height) (wallet.Balance, error)
	// Rescan processes a block that Connect may have processed before.
	Rescan(tx wallet.Tx, txs []*btcwire.MsgTx, height, tip wire.Height) error
	// NewScript returns a new address, or the oldest unpaid one again if a
	// restored wallet would not find a later one; PeekScript one that is marked as used
	// only by UseScript, or by Sign of a transaction that pays it.
	NewScript(tx wallet.Tx, branch uint32) (script []byte, again bool, err error)
	PeekScript(tx wallet.Tx, branch uint32) ([]byte, error)
	UseScript(tx wallet.Tx, script []byte) error
	Address(script []byte) (string, error)
	// Lock selects coins for a holder and locks them until Unlock. It returns a
	// *wallet.Short if they do not suffice.
	Lock(tx wallet.Tx, holder []byte, amount wire.Sat, weight int64, rate wire.SatPerKVB, tip wire.Height) (*wallet.Picked, error)
	Unlock(tx wallet.Tx, holder []byte) error
	// Sign signs own coins and marks them as spent; Forget frees them if no
	// node accepted the transaction. Sign returns wallet.ErrUnknownTx if an
	// input is not a coin of the wallet.
	Sign(tx wallet.Tx, t *btcwire.MsgTx, fixed bool) error
	// Prove signs a digest, never a transaction's, with a coin's key.
	Prove(tx wallet.Tx, at wire.Outpoint, digest wire.Hash) (wire.Signature, error)
	Forget(tx wallet.Tx, txid wire.Hash) error
	// IsOut reports whether a transaction was Accepted.
	IsOut(tx wallet.Tx, txid wire.Hash) (bool, error)
	// Accepted makes the change of a transaction that the network has accepted
	// spendable.
	Accepted(tx wallet.Tx, txid wire.Hash) error
	// Abandon abandons a payment that no node has accepted.
	Abandon(tx wallet.Tx, txid wire.Hash) error
	// Burn pays an amount, possibly 0, to an unspendable script.
	Burn(tx wallet.Tx, script []byte, amount wire.Sat, rate wire.SatPerKVB, tip wire.Height) (*btcwire.MsgTx, error)
	// Send pays an amount, Bump replaces a payment by one that pays more.
	Send(tx wallet.Tx, script []byte, amount wire.Sat, rate wire.SatPerKVB, tip wire.Height) (*btcwire.MsgTx, error)
	Bump(tx wallet.Tx, txid wire.Hash, rate, increment wire.SatPerKVB) (*btcwire.MsgTx, error)
	// Cancel takes back the coins of an unconfirmed transaction, also a fixed one.
	Cancel(tx wallet.Tx, txid wire.Hash, rate, increment wire.SatPerKVB) (*btcwire.MsgTx, error)
	// Cost returns the fee and size of an own transaction, and what it pays to
	// others, or ErrUnknownTx.
	Cost(tx wallet.Tx, txid wire.Hash) (fee, paid wire.Sat, size int64, err error)
	// CheckFee returns wallet.ErrFee if the fee of an own transaction is above
	// the ceiling.
	CheckFee(tx wallet.Tx, txid wire.Hash, fee wallet.Fee, estimate wire.SatPerKVB) error
	// History lists confirmed transactions; Unconfirmed the own ones that can
	// still confirm.
	History(tx wallet.Tx) ([]wallet.Record, error)
	Unconfirmed(tx wallet.Tx) ([]*btcwire.MsgTx, error)
}

// Config configures a Coins.
type Config struct {
	Store  engine.Store
	Wallet Wallet
	Chain  Chain
	Engine Engine
	// Secure, if set, is called before a funding is signed. When it returns
	// nil, a backup must contain everything needed to refund it.
	Secure func(context.Context) error
	// Tip, if set, is told of the chain's position after new blocks.
	Tip func(chain.BlockRef)
	Log *slog.Logger
}

// Coins is the node's money.
type Coins struct {
	store  engine.Store
	wallet Wallet
	chain  Chain
	engine Engine
	secure func(context.Context) error
	tip    func(chain.BlockRef)
	log    *slog.Logger
	freed  map[engine.Kind]engine.Event

	mu     sync.Mutex
	rate   wire.SatPerKVB // the estimate when it was last asked for
	rateAt chain.BlockRef // the last block at that time
}

// New returns a home's money. Its caller must initialise the wallet.
func New(c Config) *Coins {
	return &Coins{store: c.Store, wallet: c.Wallet, chain: c.Chain, engine: c.Engine, secure: c.Secure, tip: c.Tip, log: c.Log,
		freed: map[engine.Kind]engine.Event{}}
}

// Connect implements engine.Follower: the wallet processes a block's
// transactions.
func (c *Coins) Connect(tx engine.Tx, b *engine.Block) ([]engine.Creation, error) {
	return nil, c.wallet.Connect(tx, b.Txs, b.Ref.Height)
}

// Disconnect implements engine.Follower.
func (c *Coins) Disconnect(tx engine.Tx, height wire.Height) error {
	return c.wallet.Disconnect(tx, height)
}

// NewAddress returns a new Bitcoin address of the wallet, with its script.
func (c *Coins) NewAddress(ctx context.Context) (addr string, script []byte, err error) {
	addr, script, _, err = c.Receive(ctx)
	return addr, script, err
}

// Receive is NewAddress. again means that the address was given away before:
// wallet.GapLimit addresses are unpaid, and the words alone would not find what is
// paid to a later one.
func (c *Coins) Receive(ctx context.Context) (addr string, script []byte, again bool, err error) {
	err = c.store.Update(ctx, func(tx engine.Tx) error {
		script, again, err = c.wallet.NewScript(tx, wallet.External)
		return err
	})
	if err != nil {
		return "", nil, false, err
	}
	addr, err = c.wallet.Address(script)
	return addr, script, again, err
}

// Prove proves that the wallet can spend a coin; see wallet.Prove.
func (c *Coins) Prove(ctx context.Context, at wire.Outpoint, digest wire.Hash) (sig wire.Signature, err error) {
	err = c.store.View(ctx, func(tx engine.Tx) error {
		sig, err = c.wallet.Prove(tx, at, digest)
		return err
	})
	return sig, err
}

// Balance is the wallet's balance.
func (c *Coins) Balance(ctx context.Context) (b wallet.Balance, err error) {
	err = c.store.View(ctx, func(tx engine.Tx) error {
		at, _, err := tx.Position()
		if err != nil {
			return err
		}
		b, err = c.wallet.Balance(tx, at.Height)
		return err
	})
	return b, err
}

// Pay sends an amount to a Bitcoin address. The payment is stored before it is
// broadcast. If the network refuses it, its coins are freed. It returns
// wallet.ErrFee if the fee would be above the ceiling.
func (c *Coins) Pay(ctx context.Context, to string, amount wire.Sat, fee wallet.Fee) (*btcwire.MsgTx, error) {
	script, err := wallet.ParseAddress(to, c.chain.Params())
	if err != nil {
		return nil, err
	}
	return c.PayWith(ctx, fee, func(tx engine.Tx, rate wire.SatPerKVB) (*btcwire.MsgTx, error) {
		at, _, err := tx.Position()
		if err != nil {
			return nil, err
		}
		return c.wallet.Send(tx, script, amount, rate, at.Height)
	})
}

// Bump replaces an unconfirmed payment by one that pays the fee's rate, and at
// least as much more as nodes require of a replacement. It returns wallet.ErrFee if
// the new fee would be above the ceiling.
func (c *Coins) Bump(ctx context.Context, txid wire.Hash, fee wallet.Fee) (*btcwire.MsgTx, error) {
	increment := c.increment(ctx)
	return c.PayWith(ctx, fee, func(tx engine.Tx, rate wire.SatPerKVB) (*btcwire.MsgTx, error) {
		return c.wallet.Bump(tx, txid, rate, increment)
	})
}

// Cancel takes back the coins of an unconfirmed transaction, also of a funding; see
// wallet.Cancel.
func (c *Coins) Cancel(ctx context.Context, txid wire.Hash, fee wallet.Fee) (*btcwire.MsgTx, error) {
	increment := c.increment(ctx)
	return c.PayWith(ctx, fee, func(tx engine.Tx, rate wire.SatPerKVB) (*btcwire.MsgTx, error) {
		return c.wallet.Cancel(tx, txid, rate, increment)
	})
}

// Abandon abandons a payment that no node has accepted: one that was made while
// the node was unavailable and that it now refuses. It returns wallet.ErrOut or
// wallet.ErrUnknownTx otherwise.
func (c *Coins) Abandon(ctx context.Context, txid wire.Hash) error {
	return c.store.Update(ctx, func(tx engine.Tx) error { return c.wallet.Abandon(tx, txid) })
}

// PayWith stores the wallet's transaction that build returns for a rate, and then
// broadcasts it; see Pay. If the node refuses a payment at its own estimate as
// too low, because the rate has moved since, it is built once more.
func (c *Coins) PayWith(ctx context.Context, fee wallet.Fee, build func(engine.Tx, wire.SatPerKVB) (*btcwire.MsgTx, error)) (*btcwire.MsgTx, error) {
	if err := c.Synced(ctx); err != nil {
		return nil, err
	}
	t, err := c.payOnce(ctx, fee, build)
	if fee.Rate == 0 && errors.Is(err, chain.ErrFeeTooLow) && ctx.Err() == nil {
		return c.payOnce(ctx, fee, build)
	}
	return t, err
}

func (c *Coins) payOnce(ctx context.Context, fee wallet.Fee, build func(engine.Tx, wire.SatPerKVB) (*btcwire.MsgTx, error)) (t *btcwire.MsgTx, err error) {
	estimate := c.FeeRate(ctx)
	if err := c.store.Update(ctx, func(tx engine.Tx) error {
		if t, err = build(tx, cmp.Or(fee.Rate, estimate)); err != nil {
			return err
		}
		return c.wallet.CheckFee(tx, contract.Txid(t), fee, estimate)
	}); err != nil {
		return nil, err
	}
	// It is stored: the caller may be gone, but must not believe that it
	// failed.
	ctx = context.WithoutCancel(ctx)
	if err := c.broadcast(ctx, t); errors.Is(err, chain.ErrRejected) {
		err = fmt.Errorf("the network refuses the payment: %w", err)
		return nil, errors.Join(err, c.store.Update(ctx, func(tx engine.Tx) error { return c.wallet.Forget(tx, contract.Txid(t)) }))
	} else if err != nil {
		c.log.Warn("payment stored but not broadcast yet", "txid", contract.Txid(t), "err", err)
		return t, nil
	}
	return t, c.accepted(ctx, t)
}

// broadcast broadcasts a transaction of the wallet. A node that lacks its
// inputs may have lost its mempool, so it gets all the wallet's unconfirmed
// transactions, and then this one again.
func (c *Coins) broadcast(ctx context.Context, t *btcwire.MsgTx) error {
	err := c.chain.Broadcast(ctx, t)
	if !errors.Is(err, chain.ErrConflict) {
		return err
	}
	low, err := c.resend(ctx, t.TxHash())
	if err != nil {
		c.log.Debug("not broadcast again", "err", err)
	}
	return c.above(ctx, t, low)
}

// low are transactions that the node refuses because their fee is too low, with
// its reasons.
type low map[chainhash.Hash]lowTx

type lowTx struct {
	tx  *btcwire.MsgTx
	why error
}

// above broadcasts a transaction. If the node lacks one that it spends because
// that one's fee is too low, both are sent together, so that this one pays for
// both.
func (c *Coins) above(ctx context.Context, t *btcwire.MsgTx, refused low) error {
	err := c.chain.Broadcast(ctx, t)
	if !errors.Is(err, chain.ErrConflict) {
		return err
	}
	var parents []*btcwire.MsgTx
	for _, in := range t.TxIn {
		if p, ok := refused[in.PreviousOutPoint.Hash]; ok && !slices.Contains(parents, p.tx) {
			parents = append(parents, p.tx)
		}
	}
	if len(parents) == 0 {
		return err
	}
	together := chain.ErrUnsupported
	if p, ok := c.chain.(chain.Packager); ok {
		if together = p.BroadcastPackage(ctx, append(slices.Clone(parents), t)); together == nil {
			for _, p := range parents {
				delete(refused, p.TxHash())
			}
			return nil
		}
		if !errors.Is(together, chain.ErrRejected) && !errors.Is(together, chain.ErrUnsupported) {
			return together // no answer: it may be accepted
		}
	}
	first := parents[0].TxHash()
	return fmt.Errorf("%w: the unconfirmed transaction %v, which it spends, is refused: %v; both together: %v", chain.ErrFeeTooLow, first, refused[first].why, together)
}

func (c *Coins) accepted(ctx context.Context, t *btcwire.MsgTx) error {
	return c.store.Update(ctx, func(tx engine.Tx) error { return c.wallet.Accepted(tx, contract.Txid(t)) })
}

// syncWait is how long a command waits for the chain to be read.
const syncWait = 20 * time.Second

// ErrSyncing means that the chain has not been read to its tip yet.
var ErrSyncing = errors.New("still catching up with the chain")

// Synced waits until the chain is read to its tip. It returns ErrSyncing, or
// syscall.ENOSPC if the disk is full.
func (c *Coins) Synced(ctx context.Context) error {
	if err := c.engine.Trouble(); errors.Is(err, syscall.ENOSPC) {
		return err
	}
	patience := syncWait
	if err := c.engine.Trouble(); errors.Is(err, chain.ErrUnavailable) || errors.Is(err, chain.ErrCredentials) || errors.Is(err, chain.ErrPruned) {
		patience = syncPatience // the user should know soon
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.engine.WaitSynced(wait); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: at block %d", errors.Join(ErrSyncing, c.engine.Trouble()), c.engine.Position().Height)
	}
	return nil
}

// History lists the wallet's confirmed transactions by height, and its own ones
// that are not confirmed.
func (c *Coins) History(ctx context.Context) (list []wallet.Record, err error) {
	err = c.store.View(ctx, func(tx engine.Tx) error {
		if list, err = c.wallet.History(tx); err != nil {
			return err
		}
		txs, err := c.wallet.Unconfirmed(tx)
		for _, t := range txs {
			out, err := c.wallet.IsOut(tx, contract.Txid(t))
			if err != nil {
				return err
			}
			list = append(list, wallet.Record{Txid: contract.Txid(t), Kept: !out})
		}
		return err
	})
	return list, err
}

// Watch does the work of each block that belongs to no contract, until ctx
// ends.
func (c *Coins) Watch(ctx context.Context) {
	for {
		h := c.engine.Position().Height
		if c.engine.WaitSynced(ctx) != nil {
			return
		}
		if err := c.rebroadcast(ctx); err != nil && ctx.Err() == nil {
			c.log.Debug("not broadcast again", "err", err)
		}
		if c.tip != nil {
			c.tip(c.engine.Position())
		}
		if c.engine.WaitHeight(ctx, h+1) != nil {
			return
		}
	}
}

// rebroadcast broadcasts the wallet's unconfirmed payments again.
func (c *Coins) rebroadcast(ctx context.Context) error {
	_, err := c.resend(ctx, chainhash.Hash{})
	return err
}

// resend broadcasts the wallet's unconfirmed payments but one again, and returns
// those that the node refuses because their fee is too low.
func (c *Coins) resend(ctx context.Context, without chainhash.Hash) (low, error) {
	var txs []*btcwire.MsgTx
	if err := c.store.View(ctx, func(tx engine.Tx) (err error) {
		txs, err = c.wallet.Unconfirmed(tx)
		return err
	}); err != nil {
		return nil, err
	}
	refused := low{}
	var errs []error
	for _, t := range txs {
		if t.TxHash() == without {
			continue
		}
		err := c.above(ctx, t, refused)
		if err == nil {
			err = c.accepted(ctx, t)
		} else if errors.Is(err, chain.ErrFeeTooLow) && !errors.Is(err, chain.ErrReplacement) {
			refused[t.TxHash()] = lowTx{t, err}
		}
		errs = append(errs, err)
	}
	return refused, errors.Join(errs...)
}

// syncPatience is how long a request waits for the chain; a block or two are
// read much faster.
const syncPatience = 3 * time.Second

// Ready refuses a peer's request while the node is catching up with the chain:
// heights are out of date then, and so would be obligations that depend on
// them.
func (c *Coins) Ready(ctx context.Context) error {
	if err := c.engine.Trouble(); errors.Is(err, syscall.ENOSPC) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	if c.engine.WaitSynced(ctx) != nil {
		return wire.Refuse(wire.Busy, "catching up with the chain")
	}
	return nil
}

// skipAddresses is the number of addresses of each branch that a restored
// wallet skips, because they may have been given away since the backup. It is
// below the gap limit.
const skipAddresses = wallet.GapLimit / 2

// Restored skips addresses of a home restored from a backup.
func (c *Coins) Restored(tx engine.Tx) error {
	for range skipAddresses {
		for _, branch := range []uint32{wallet.External, wallet.Internal} {
			if _, _, err := c.wallet.NewScript(tx, branch); err != nil {
				return err
			}
		}
	}
	return nil
}

// PeekScript is an address that counts as used only from UseScript on, or once the
// wallet signs what pays it.
func (c *Coins) PeekScript(tx engine.Tx, branch uint32) ([]byte, error) {
	return c.wallet.PeekScript(tx, branch)
}

// UseScript has an address count as used.
func (c *Coins) UseScript(tx engine.Tx, script []byte) error { return c.wallet.UseScript(tx, script) }

// Burn makes a transaction of the wallet that pays an amount, 0 too, to a script
// that nobody can spend.
func (c *Coins) Burn(tx engine.Tx, script []byte, amount wire.Sat, rate wire.SatPerKVB) (*btcwire.MsgTx, error) {
	at, _, err := tx.Position()
	if err != nil {
		return nil, err
	}
	return c.wallet.Burn(tx, script, amount, rate, at.Height)
}

// Unconfirmed lists the wallet's own transactions that can still confirm.
func (c *Coins) Unconfirmed(tx engine.Tx) ([]*btcwire.MsgTx, error) { return c.wallet.Unconfirmed(tx) }
