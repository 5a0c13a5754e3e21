package chain

import (
	"context"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

type pruned struct {
	Backend // what is not asked for
	at      wire.Height
}

func (p pruned) Params() *chaincfg.Params              { return &chaincfg.MainNetParams }
func (p pruned) Tip(context.Context) (BlockRef, error) { return BlockRef{Height: p.at}, nil }
func (p pruned) Header(context.Context, chainhash.Hash) (*btcwire.BlockHeader, error) {
	return &btcwire.BlockHeader{Bits: 0x1d00ffff}, nil
}

// TestMiningAt: the header is enough, and the subsidy halves as it should.
func TestMiningAt(t *testing.T) {
	for at, want := range map[wire.Height]wire.Sat{0: 5_000_000_000, 209_999: 5_000_000_000, 210_000: 2_500_000_000,
		840_000: 312_500_000, 6_929_999: 1, 6_930_000: 0, 1<<31 - 1: 0} {
		m, err := MiningAt(t.Context(), pruned{at: at})
		if err != nil || m.Height != at || m.Bits != 0x1d00ffff || m.Subsidy != want {
			t.Errorf("block %d: %+v, %v", at, m, err)
		}
		if m.Target().Cmp(chaincfg.MainNetParams.PowLimit) > 0 || m.Target().BitLen() != 224 {
			t.Errorf("target %x", m.Target())
		}
	}
}
