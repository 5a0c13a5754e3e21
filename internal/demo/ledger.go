package demo

import (
	"context"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/wire"
)

func txid(h wire.Hash) string { return chainhash.Hash(h).String() }

// account adds up every party's coins and the fees of the message's
// transactions, each read back from the chain.
func (w *world) account(ctx context.Context, s *deal.Sender, res *Result) error {
	for i, f := range s.Spends {
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
	want := map[wire.Hash]bool{s.Txid: true}
	for _, f := range s.Spends {
		want[f.Txid] = true
	}
	values := map[wire.Outpoint]wire.Sat{}
	tip, err := w.chain.Tip(ctx)
	if err != nil {
		return err
	}
	for h := wire.Height(1); h <= tip.Height; h++ {
		hash, err := w.chain.HashAt(ctx, h)
		if err != nil {
			return err
		}
		b, _, err := w.chain.Block(ctx, hash)
		if err != nil {
			return err
		}
		for _, t := range b.Transactions {
			id := contract.Txid(t)
			fee := wire.Sat(0)
			for n, o := range t.TxOut {
				values[wire.Outpoint{Txid: id, Vout: uint32(n)}] = wire.Sat(o.Value)
				fee -= wire.Sat(o.Value)
			}
			for _, in := range t.TxIn {
				fee += values[contract.OutpointOf(in.PreviousOutPoint)]
			}
			if want[id] {
				res.Fees += fee
				delete(want, id)
			}
		}
	}
	if len(want) != 0 {
		return fmt.Errorf("%d of the message's transactions are not on the chain", len(want))
	}
	add := func(name string, n *node.Node, from wire.Sat) (wire.Sat, error) {
		b, err := n.Balance(ctx)
		if err != nil {
			return 0, err
		}
		holds := b.Confirmed + b.Locked + b.Pending
		res.Ledger = append(res.Ledger, Party{Name: name, Received: from, Holds: holds, Change: holds - from})
		return holds - from, nil
	}
	spent, err := add("sender", w.sender, purse)
	if err != nil {
		return err
	}
	res.SenderSpent = -spent
	total := spent
	if !w.opt.Scenario.absent {
		c, err := add("recipient", w.recipient, 0)
		if err != nil {
			return err
		}
		total += c
	}
	for _, a := range w.agents {
		if a.isDead() { // its books are in its files
			if err := a.revive(); err != nil {
				return err
			}
		}
		c, err := add(a.name, a.node, 0)
		if err != nil {
			return err
		}
		res.AgentsEarned += c
		total += c
	}
	res.Ledger = append(res.Ledger, Party{Name: "miners", Holds: res.Fees, Change: res.Fees})
	res.Balanced = total+res.Fees == 0
	return nil
}
