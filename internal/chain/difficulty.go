package chain

import (
	"context"
	"math/big"

	"github.com/btcsuite/btcd/blockchain"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// Mining contains a block's target and subsidy, from which the price of work in
// satoshi follows.
type Mining struct {
	Height  wire.Height
	Bits    uint32 // the header's nBits
	Subsidy wire.Sat
}

// Target returns the target that the block's hash must not exceed.
func (m Mining) Target() *big.Int { return blockchain.CompactToBig(m.Bits) }

// MiningAt returns the tip's. On test networks its difficulty may be the
// minimum, if a block came late.
func MiningAt(ctx context.Context, b Backend) (m Mining, err error) {
	tip, err := b.Tip(ctx)
	if err != nil {
		return m, err
	}
	var header *btcwire.BlockHeader
	if r, ok := b.(HeaderReader); ok {
		header, err = r.Header(ctx, tip.Hash)
	} else {
		var block *btcwire.MsgBlock
		if block, _, err = b.Block(ctx, tip.Hash); err == nil {
			header = &block.Header
		}
	}
	if err != nil {
		return m, err
	}
	return Mining{tip.Height, header.Bits, wire.Sat(blockchain.CalcBlockSubsidy(int32(tip.Height), b.Params()))}, nil
}
