// Package chain is what Bitgram needs of a Bitcoin node: blocks in order,
// broadcasting, a fee rate, and news of a new tip. Its backends are devchain
// (embedded regtest) and bitcoind (a node's JSON-RPC), and later neutrino; one
// conformance suite (internal/testing/conform) holds them equal.
package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// BlockRef names a block.
type BlockRef struct {
	Hash   chainhash.Hash
	Height wire.Height
}

func (b BlockRef) String() string { return fmt.Sprintf("%d:%s", b.Height, b.Hash) }

// Errors that a Backend wraps. Any other error of a method is a failure of the
// node or of the way to it: try again later.
var (
	// ErrNotFound: no such block (never seen, or pruned).
	ErrNotFound = errors.New("no such block")
	// ErrPruned: also ErrNotFound; the node had the block and deleted it.
	ErrPruned = fmt.Errorf("%w: pruned", ErrNotFound)
	// ErrRejected: consensus or policy refuses the transaction, for good as
	// long as the chain and the mempool stay as they are. The text says why.
	ErrRejected = errors.New("transaction rejected")
	// ErrConflict: also ErrRejected; an input is spent by another transaction
	// in a block or in the mempool, or does not exist (yet).
	ErrConflict = fmt.Errorf("%w: input missing or spent", ErrRejected)
	// ErrFeeTooLow: also ErrRejected; a higher fee would pass.
	ErrFeeTooLow = fmt.Errorf("%w: fee too low", ErrRejected)
)

// Errors of a node that is somebody else's process. Each also heals when the
// node does: try again later.
var (
	// ErrUnavailable: the node cannot be reached, or answers nothing that makes
	// sense.
	ErrUnavailable = errors.New("the Bitcoin node is not available")
	// ErrCredentials: the node is there and refuses user, password or cookie.
	ErrCredentials = errors.New("the Bitcoin node refuses the credentials")
	// ErrWrongNetwork: the node's genesis block is not that of Params.
	ErrWrongNetwork = errors.New("the Bitcoin node is on another network")
	// ErrSyncing: the node starts, or reads blocks that others have long had.
	// Tip fails with it, so that nobody takes an old height for the tip.
	ErrSyncing = errors.New("the Bitcoin node is still syncing")
	// ErrStalled: the tip is much older than blocks are apart. A warning that
	// only Health gives: the node, or the network, may have stopped.
	ErrStalled = errors.New("the Bitcoin node has seen no new block for long")
)

// Backend is a Bitcoin node as Bitgram sees it. It is safe for concurrent use.
// Every method honours its context.
type Backend interface {
	// Params are the consensus parameters of the node's network.
	Params() *chaincfg.Params

	// Tip is the active chain's last block.
	Tip(context.Context) (BlockRef, error)

	// HashAt is the active chain's block hash at height h; ErrNotFound above
	// the tip.
	HashAt(ctx context.Context, h wire.Height) (chainhash.Hash, error)

	// Block is a whole block by hash, with its height, on the active chain or
	// a stale one; ErrNotFound when the node does not have it.
	Block(ctx context.Context, hash chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error)

	// Broadcast hands tx to the node. A transaction that the node already has
	// in its mempool or in a block whose outputs are still known is not an error.
	// A refusal wraps ErrRejected (or ErrConflict, ErrFeeTooLow).
	Broadcast(ctx context.Context, tx *btcwire.MsgTx) error

	// FeeRate estimates the rate at which a transaction confirms within target
	// blocks; never below the node's relay minimum.
	FeeRate(ctx context.Context, target int) (wire.SatPerKVB, error)

	// Watch returns a channel that receives, without ever blocking the node, a
	// value soon after each change of tip, and where the node fails or is back.
	// Signals may be merged. It is closed when ctx ends or the node closes.
	Watch(ctx context.Context) <-chan struct{}
}

// HeaderReader is a Backend that gives headers alone, also of blocks that its
// node has pruned.
type HeaderReader interface {
	// Header is a block's header by hash; ErrNotFound.
	Header(context.Context, chainhash.Hash) (*btcwire.BlockHeader, error)
}

// Pruner is a Backend whose node may have deleted old blocks.
type Pruner interface {
	// First is the first block that the node has, as far as it says.
	First(context.Context) (wire.Height, error)
}

// HealthChecker is a Backend whose node can be unwell while it answers.
type HealthChecker interface {
	// Health is the worst of what is wrong with the node, or nil. In this order:
	// ErrUnavailable or ErrCredentials, ErrWrongNetwork, ErrSyncing, ErrPruned
	// (a block that Block was asked for is gone and still is), ErrStalled.
	Health(context.Context) error
}
