package delivery

import (
	"context"
	"errors"
	"slices"
	"sync"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// gatherMost is the number of outputs that a gathering refund spends at most.
const gatherMost = 100

// gatherRounds limits how often refunds that were refused are planned again, in
// halves, at one height.
const gatherRounds = 8

// gathered is what is remembered of the refunds that were gathered since the start.
type gathered struct {
	mu   sync.Mutex
	any  bool        // they have been gathered
	next wire.Height // not before: many messages ask in the same block
	in   map[wire.Outpoint]*contract.Sent
}

// gather takes back together, to a script of the wallet, what messages have left
// because each alone is not worth the fee of a refund. Package batch plans the
// transactions. They are not stored: they pay this wallet, and the chain shows which
// one confirmed. After a restart, those in the mempool are unknown; until they leave
// it, others are refused that pay no more.
func (d *Delivery) gather(ctx context.Context, ref engine.Ref) error {
	d.gathered.mu.Lock()
	defer d.gathered.mu.Unlock()
	tip := d.cfg.Engine.Position().Height
	if tip < d.gathered.next {
		return nil
	}
	list := map[wire.Outpoint]contract.Refund{}
	var script []byte
	if err := d.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(deal.KindSender, false, func(r engine.Ref, raw []byte) error {
			var s deal.Sender
			if wire.Unmarshal(raw, &s) != nil {
				return nil // one that cannot be read does not hold up the others
			}
			if r == ref {
				script = s.Terms.RefundTo
			}
			if s.Left == 0 || s.Confirmed == nil {
				return nil
			}
			more, err := s.Unspent()
			for _, one := range more {
				list[one.At] = one
			}
			return err
		})
	}); err != nil {
		return err
	}
	if script == nil {
		return nil // it has ended
	}
	fees := d.cfg.Engine.Fees()
	market := batch.Market{Tip: tip, Estimate: d.cfg.Coins.FeeRate(ctx), Relay: fees.Least(), Increment: fees.Increment}
	return d.takeAllBack(ctx, market, list, script)
}

// takeAllBack refunds outputs in rounds, until nothing is refused. What is refused is
// halved only within the rounds of one height: the outputs cannot pay alone, so small
// parts of a transaction that cannot confirm would never go out. After a refusal the
// next rounds are a day later. In the first rounds since the start nothing is halved,
// because the competitor may be an earlier transaction of these outputs.
func (d *Delivery) takeAllBack(ctx context.Context, market batch.Market, list map[wire.Outpoint]contract.Refund, script []byte) error {
	for at, sent := range d.gathered.in {
		if !sent.Live() || !within(sent, list) { // it was refused, or another of its outputs is spent
			delete(d.gathered.in, at)
		}
	}
	wait := uint32(1)
	for range gatherRounds {
		again, err := d.takeBack(ctx, market, list, script)
		if err != nil {
			return err
		}
		if !again {
			break
		}
		if wait = d.cfg.Margins.BlocksPerDay; !d.gathered.any {
			break
		}
	}
	d.gathered.any, d.gathered.next = true, market.Tip+wire.Height(wait)
	return nil
}

// takeBack refunds outputs in as many transactions as the plan says. again reports
// that one was refused, perhaps because a claim competes for one of its outputs,
// and that the rest must be planned again.
func (d *Delivery) takeBack(ctx context.Context, market batch.Market, list map[wire.Outpoint]contract.Refund, script []byte) (again bool, err error) {
	var members []batch.Member
	in := map[wire.Outpoint]*contract.Sent{}
	for at, r := range list {
		in[at] = d.gathered.in[at]
		members = append(members, batch.Member{At: at, Value: r.Value, Weight: r.Weight(), In: in[at]})
	}
	d.gathered.in = in
	for _, t := range batch.Make(market, gatherMost, members).Txs {
		sent := t.Again
		if sent == nil {
			var refunds []contract.Refund
			for _, at := range t.Members {
				refunds = append(refunds, list[at])
			}
			tx, fee, err := contract.BuildRefund(refunds, script, 0, t.Fee)
			if errors.Is(err, contract.ErrUneconomic) {
				continue
			} else if err != nil {
				return false, err
			}
			sent = contract.NewSent(tx, fee, market.Tip)
			if t.Replaces != nil {
				before := *t.Replaces
				before.Before = nil
				sent.Before = &before
			}
		}
		for next := sent; next != nil; {
			tx, err := contract.ReadTx(next.Tx)
			if err != nil {
				return false, err
			}
			why, tooLow, err := d.cfg.Coins.Broadcast(ctx, tx)
			if err != nil {
				return false, err
			}
			if why == "" {
				d.cfg.Log.Info("refunds that were too small alone are gathered", "outputs", len(t.Members), "fee", next.Fee, "txid", tx.TxHash())
			} else {
				d.cfg.Log.Debug("a refund is refused", "outputs", len(t.Members), "err", why)
			}
			told, before, plan := next.Told(next.Txid, why != "", tooLow)
			for _, at := range t.Members {
				in[at] = told
			}
			again = again || plan
			if next = nil; before { // the one that it was to replace
				next = told
			}
		}
	}
	return again, nil
}

// within reports whether a transaction spends only outputs of the list.
func within(sent *contract.Sent, list map[wire.Outpoint]contract.Refund) bool {
	tx, err := contract.ReadTx(sent.Tx)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(tx.TxIn, func(i *btcwire.TxIn) bool {
		_, ok := list[contract.OutpointOf(i.PreviousOutPoint)]
		return !ok
	})
}

// Rest returns the value of outputs of sent messages that are not worth the fee
// of a refund at the present rate.
func (d *Delivery) Rest(ctx context.Context) (sum wire.Sat, err error) {
	err = d.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(deal.KindSender, false, func(_ engine.Ref, raw []byte) error {
			var s deal.Sender
			if wire.Unmarshal(raw, &s) != nil {
				return nil // the engine says which contracts cannot be read
			}
			sum += s.Rest()
			return nil
		})
	})
	return sum, err
}
