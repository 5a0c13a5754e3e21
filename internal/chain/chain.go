// Package chain defines what Bitgram needs from a Bitcoin node: blocks in
// order, broadcasting, a fee rate, and notification of a new tip. Its backends
// are devchain (embedded regtest) and bitcoind (a node's JSON-RPC). One
// conformance suite (internal/testing/conform) tests them all.
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

// BlockRef identifies a block.
type BlockRef struct {
	Hash   chainhash.Hash
	Height wire.Height
}

func (b BlockRef) String() string { return fmt.Sprintf("%d:%s", b.Height, b.Hash) }

// Errors that a Backend wraps. Any other error means that the node or the
// connection to it failed; try again later.
var (
	// ErrNotFound means that the block was never seen, or was pruned.
	ErrNotFound = errors.New("no such block")
	// ErrPruned wraps ErrNotFound: the node had the block and pruned it.
	ErrPruned = fmt.Errorf("%w: pruned", ErrNotFound)
	// ErrRejected means that consensus or policy refuses the transaction,
	// permanently as long as the chain and the mempool do not change. The text
	// says why.
	ErrRejected = errors.New("transaction rejected")
	// ErrConflict wraps ErrRejected: an input does not exist (yet), or is spent
	// by another transaction in a block or in the mempool.
	ErrConflict = fmt.Errorf("%w: input missing or spent", ErrRejected)
	// ErrFeeTooLow wraps ErrRejected: a higher fee would be accepted.
	ErrFeeTooLow = fmt.Errorf("%w: fee too low", ErrRejected)
	// ErrReplacement wraps ErrFeeTooLow: an unconfirmed transaction spends one of
	// the inputs, and the fee does not suffice to replace it (BIP125).
	ErrReplacement = fmt.Errorf("%w: it does not replace an unconfirmed transaction", ErrFeeTooLow)
	// ErrNoData wraps ErrRejected: the node does not relay transactions with an
	// OP_RETURN output, or only with shorter ones. Fundings of messages and hints
	// have one of at most DataScript bytes.
	ErrNoData = fmt.Errorf("%w: the Bitcoin node does not relay OP_RETURN outputs (-datacarrier, -datacarriersize)", ErrRejected)
)

// DataScript is the size in bytes of the longest OP_RETURN script that Bitgram
// makes, a hint of 80 bytes: the -datacarriersize that a node needs, and Bitcoin
// Core's default before v30.
const DataScript = 83

// Errors of an external node. Each may be temporary; try again later.
var (
	// ErrUnavailable means that the node cannot be reached, or gives no
	// meaningful answer.
	ErrUnavailable = errors.New("the Bitcoin node is not available")
	// ErrCredentials means that the node refuses user, password or cookie.
	ErrCredentials = errors.New("the Bitcoin node refuses the credentials")
	// ErrWrongNetwork means that the node's genesis block is not that of
	// Params.
	ErrWrongNetwork = errors.New("the Bitcoin node is on another network")
	// ErrSyncing means that the node is starting, or is far behind the network.
	// Tip then returns it, so that no caller takes an old height for the tip.
	ErrSyncing = errors.New("the Bitcoin node is still syncing")
	// ErrBehind means that the node has said for long that it lacks blocks, and gets
	// none: it knows headers without their blocks, or stays in its initial download
	// though its last block is new. Only Health returns it, as a warning: the tip
	// that the node has counts, so that deadlines are met.
	ErrBehind = errors.New("the Bitcoin node says that it lacks blocks, and does not get them")
	// ErrStalled means that the tip is much older than usual. Only Health
	// returns it, as a warning: the node, or the network, may have stopped.
	ErrStalled = errors.New("the Bitcoin node has seen no new block for long")
	// ErrZMQ means that the configured ZMQ publisher does not publish blocks. They
	// are noticed by polling. Only Advise returns it.
	ErrZMQ = errors.New("the ZMQ publisher publishes no blocks")
)

// Fees contains the fee policy of a node as it is now, in satoshi per 1,000 vB. A
// rate that the node does not state is 0.
type Fees struct {
	Relay     wire.SatPerKVB // the minimum rate that it relays: Bitcoin Core's minrelaytxfee
	Mempool   wire.SatPerKVB // the minimum rate that its mempool accepts; it rises while the mempool is full: mempoolminfee
	Increment wire.SatPerKVB // what a replacement must add for its own size: incrementalrelayfee
}

// Least returns the minimum rate that the node accepts now, or 0 if it states
// none.
func (f Fees) Least() wire.SatPerKVB { return max(f.Relay, f.Mempool) }

// ConfirmTarget is the number of blocks within which our transactions should
// confirm.
const ConfirmTarget = 6

// MaxEstimate is the highest estimate that is believed. An urgent claim may pay
// ten times the estimate, which is then wire.MaxFeeRate. A
// payment may name a higher rate.
const MaxEstimate = wire.MaxFeeRate / 10

// Estimate returns the node's estimate for ConfirmTarget, at most MaxEstimate.
// Only a node that relays nothing below a higher rate gets more, up to
// wire.MaxFeeRate.
func Estimate(ctx context.Context, b interface {
	FeeRate(context.Context, int) (wire.SatPerKVB, error)
	Fees(context.Context) (Fees, error)
}) (wire.SatPerKVB, error) {
	rate, err := b.FeeRate(ctx, ConfirmTarget)
	if err != nil || rate <= MaxEstimate {
		return rate, err
	}
	fees, err := b.Fees(ctx)
	return min(max(MaxEstimate, fees.Least()), wire.MaxFeeRate), err
}

// Backend is Bitgram's interface to a Bitcoin node. It is safe for concurrent
// use. Every method respects its context.
type Backend interface {
	// Params returns the consensus parameters of the node's network.
	Params() *chaincfg.Params

	// Tip returns the active chain's last block.
	Tip(context.Context) (BlockRef, error)

	// HashAt returns the active chain's block hash at height h, or ErrNotFound
	// above the tip.
	HashAt(ctx context.Context, h wire.Height) (chainhash.Hash, error)

	// Block returns a block by hash, with its height, on the active chain or a
	// stale one, or ErrNotFound if the node does not have it.
	Block(ctx context.Context, hash chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error)

	// Broadcast sends tx to the node. It returns nil if the node already has
	// the transaction in its mempool, or in a block whose outputs are still
	// known. A refusal wraps ErrRejected (or ErrConflict, ErrFeeTooLow).
	Broadcast(ctx context.Context, tx *btcwire.MsgTx) error

	// FeeRate estimates the rate at which a transaction confirms within target
	// blocks. It is never below the node's relay minimum.
	FeeRate(ctx context.Context, target int) (wire.SatPerKVB, error)

	// Fees returns the node's fee policy. Unlike FeeRate, it adds no minimum of
	// its own.
	Fees(context.Context) (Fees, error)

	// Watch returns a channel that receives a value soon after each change of
	// tip, and when the node fails or recovers. It never blocks the node;
	// signals may be merged. The channel is closed when ctx ends or the backend
	// closes.
	Watch(ctx context.Context) <-chan struct{}
}

// ErrUnsupported means that the node has no such method.
var ErrUnsupported = errors.New("the Bitcoin node cannot do that")

// Packager is a Backend whose node may judge the fees of several transactions
// together.
type Packager interface {
	// BroadcastPackage sends a transaction, the last of the list, with the
	// unconfirmed ones that it spends, so that its fee counts for them too. It
	// returns ErrUnsupported, or errors as Broadcast does.
	BroadcastPackage(context.Context, []*btcwire.MsgTx) error
}

// OutputReader is a Backend that can look up an output.
type OutputReader interface {
	// Output returns an output that is unspent in the chain and in the mempool,
	// of a block or of the mempool itself, or ErrNoOutput.
	Output(context.Context, wire.Outpoint) (*btcwire.TxOut, error)
}

// ErrNoOutput means that the node knows no such output, or that it is spent.
var ErrNoOutput = errors.New("no such unspent output")

// HeaderReader is a Backend that can return headers alone, even of blocks that
// its node has pruned.
type HeaderReader interface {
	// Header returns a block's header by hash, or ErrNotFound.
	Header(context.Context, chainhash.Hash) (*btcwire.BlockHeader, error)
}

// Pruner is a Backend whose node may have pruned old blocks.
type Pruner interface {
	// First returns the first block that the node has, as far as it reports it.
	First(context.Context) (wire.Height, error)
}

// HealthChecker is a Backend whose node can be unhealthy while it answers.
type HealthChecker interface {
	// Health returns the most serious problem of the node, or nil. In this
	// order: ErrUnavailable or ErrCredentials, ErrWrongNetwork, ErrSyncing,
	// ErrPruned (a block that was requested is gone), ErrBehind, ErrStalled.
	Health(context.Context) error
}

// Adviser is a Backend that can tell which settings of a node that works will
// cause trouble later.
type Adviser interface {
	// Advise returns an error for each: ErrNoData, ErrZMQ. What the node does not
	// answer is not reported.
	Advise(context.Context) []error
}
