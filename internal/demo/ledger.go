package demo

import (
	"context"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/wire"
)

func txid(h wire.Hash) string { return chainhash.Hash(h).String() }

// Party is a line of the ledger, in satoshi.
type Party struct {
	Name     string   `json:"party"`
	Received wire.Sat `json:"received_sat"` // from the faucet
	Holds    wire.Sat `json:"holds_sat"`
	Change   wire.Sat `json:"change_sat"`
}

// Books are a story's books, computed from the chain and the parties' wallets.
type Books struct {
	Fees     wire.Sat `json:"fees_sat"`
	Balanced bool     `json:"balanced"`
	Ledger   []Party  `json:"ledger"`

	unspent map[wire.Outpoint]*btcwire.TxOut
}

// readChain sums the fees of a story's transactions, each of which must be on
// the chain, and finds the unspent outputs that belong to no wallet.
func (w *world) readChain(ctx context.Context, ids ...wire.Hash) (*Books, error) {
	b := &Books{unspent: map[wire.Outpoint]*btcwire.TxOut{}}
	want := map[wire.Hash]bool{}
	for _, id := range ids {
		want[id] = true
	}
	tip, err := w.chain.Tip(ctx)
	if err != nil {
		return nil, err
	}
	for h := wire.Height(1); h <= tip.Height; h++ {
		hash, err := w.chain.HashAt(ctx, h)
		if err != nil {
			return nil, err
		}
		block, _, err := w.chain.Block(ctx, hash)
		if err != nil {
			return nil, err
		}
		for _, t := range block.Transactions {
			id := contract.Txid(t)
			fee := wire.Sat(0)
			for n, o := range t.TxOut {
				b.unspent[wire.Outpoint{Txid: id, Vout: uint32(n)}] = o
				fee -= wire.Sat(o.Value)
			}
			for _, in := range t.TxIn {
				at := contract.OutpointOf(in.PreviousOutPoint)
				if o := b.unspent[at]; o != nil {
					fee += wire.Sat(o.Value)
				}
				delete(b.unspent, at)
			}
			if want[id] {
				b.Fees += fee
				delete(want, id)
			}
		}
	}
	if len(want) != 0 {
		return nil, fmt.Errorf("%d of the story's transactions are not on the chain", len(want))
	}
	return b, nil
}

// line adds a party, and returns what it has gained.
func (b *Books) line(name string, from, holds wire.Sat) wire.Sat {
	b.Ledger = append(b.Ledger, Party{Name: name, Received: from, Holds: holds, Change: holds - from})
	return holds - from
}

// wallet adds a party with the content of its wallet.
func (b *Books) wallet(ctx context.Context, name string, n *node.Node, from wire.Sat) (wire.Sat, error) {
	have, err := n.Coins.Balance(ctx)
	return b.line(name, from, have.Confirmed+have.Locked+have.Pending), err
}

// balance adds the miners and checks that every satoshi is accounted for.
func (b *Books) balance() {
	b.line("miners", 0, b.Fees)
	var sum wire.Sat
	for _, p := range b.Ledger {
		sum += p.Change
	}
	b.Balanced = sum == 0
}

// account closes the books of a message.
func (w *message) account(ctx context.Context, s *deal.Sender, res *Result) error {
	ids := []wire.Hash{s.Txid}
	for i, f := range s.Spends {
		ids = append(ids, f.Txid)
		id := txid(f.Txid)
		list := &res.RefundTxids
		if f.Claim >= 0 {
			list = &res.ClaimTxids
		} else if f.Claim != -1 {
			return fmt.Errorf("output %d was spent by no leaf of ours in %s", i, id)
		}
		if !slices.Contains(*list, id) {
			*list = append(*list, id)
		}
	}
	b, err := w.readChain(ctx, ids...)
	if err != nil {
		return err
	}
	spent, err := b.wallet(ctx, "sender", w.sender, purse)
	if err != nil {
		return err
	}
	res.SenderSpent = -spent
	if !w.opt.Scenario.absent {
		if _, err := b.wallet(ctx, "recipient", w.recipient, 0); err != nil {
			return err
		}
	}
	for _, a := range w.agents {
		if a.isDead() { // its books are in its files
			if err := a.revive(); err != nil {
				return err
			}
		}
		c, err := b.wallet(ctx, a.name, a.node, 0)
		if err != nil {
			return err
		}
		res.AgentsEarned += c
	}
	b.balance()
	res.Books = *b
	return nil
}
