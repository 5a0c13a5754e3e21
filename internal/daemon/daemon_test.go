package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/wire"
)

// headers is a node that pruned all its blocks: one every ten minutes.
type headers struct {
	chain.Backend
	tip wire.Height
	t   *testing.T
}

const interval = 600

func (h headers) Tip(context.Context) (chain.BlockRef, error) {
	return chain.BlockRef{Height: h.tip}, nil
}

func (h headers) HashAt(_ context.Context, at wire.Height) (chainhash.Hash, error) {
	return chainhash.Hash{byte(at), byte(at >> 8), byte(at >> 16)}, nil
}

func (h headers) Block(context.Context, chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error) {
	h.t.Error("a block was asked for")
	return nil, 0, errors.New("pruned")
}

func (h headers) Header(_ context.Context, at chainhash.Hash) (*btcwire.BlockHeader, error) {
	n := int64(at[0]) | int64(at[1])<<8 | int64(at[2])<<16
	return &btcwire.BlockHeader{Timestamp: time.Unix(n*interval, 0)}, nil
}

// TestBirthday: a new home begins at the last block that is surely older, also if
// a clock that was ahead dated it, and no block before it is asked for.
func TestBirthday(t *testing.T) {
	for _, created := range []int64{1, 3 * 3600, 1_000_000, 400_000 * interval, 500_000 * interval, 900_000 * interval} {
		got, err := birthday(t.Context(), headers{tip: 500_000, t: t}, &home.Keys{Network: wire.Mainnet, Created: created})
		if err != nil {
			t.Fatal(err)
		}
		want := max((min(created, 500_000*interval)-int64(early/time.Second)-1)/interval, 0)
		if int64(got) != want {
			t.Errorf("created %d: from %d, not %d", created, got, want)
		}
	}
}

// pruned is a node that has pruned all blocks below first.
type pruned struct {
	headers
	first wire.Height
}

func (p pruned) First(context.Context) (wire.Height, error) { return p.first, nil }

// TestPrunedWords: restored words, which may have been used in any block, are not
// taken for unused because the node has pruned the blocks.
func TestPrunedWords(t *testing.T) {
	words := &home.Keys{Network: wire.Mainnet}
	if _, err := birthday(t.Context(), pruned{headers{tip: 500_000, t: t}, 400_000}, words); !errors.Is(err, chain.ErrPruned) {
		t.Errorf("a pruned node: %v", err)
	}
	if at, err := birthday(t.Context(), pruned{headers{tip: 500_000, t: t}, 0}, words); err != nil || at != 0 {
		t.Errorf("a node with all blocks: from %d, %v", at, err)
	}
	for from, want := range map[wire.Height]error{399_999: chain.ErrPruned, 400_000: nil} {
		if err := readable(t.Context(), pruned{headers{tip: 500_000, t: t}, 400_000}, &from); !errors.Is(err, want) {
			t.Errorf("a rescan from %d: %v", from, err)
		}
	}
}
