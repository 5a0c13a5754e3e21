package delivery

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// gatherMost is the number of outputs that a gathering refund spends at most.
const gatherMost = 100

// gathered remembers the height at which the refunds were last gathered: many
// messages ask for it in the same block.
type gathered struct {
	mu sync.Mutex
	at wire.Height
}

// gather takes back together, to a script of the wallet, what messages have left
// because each alone is not worth the fee of a refund. The transactions are not
// stored: they pay this wallet, every one can be built again, and the chain shows
// which one confirmed.
func (d *Delivery) gather(ctx context.Context, ref engine.Ref) error {
	d.gathered.mu.Lock()
	defer d.gathered.mu.Unlock()
	tip := d.cfg.Engine.Position().Height
	if d.gathered.at == tip {
		return nil
	}
	var list []contract.Refund
	var script []byte
	if err := d.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(deal.KindSender, false, func(r engine.Ref, raw []byte) error {
			var s deal.Sender
			if err := wire.Unmarshal(raw, &s); err != nil {
				return err
			}
			if r == ref {
				script = s.Terms.RefundTo
			}
			if s.Left == 0 || s.Confirmed == nil {
				return nil
			}
			more, err := s.Unspent()
			list = append(list, more...)
			return err
		})
	}); err != nil {
		return err
	}
	if script == nil {
		return nil // it has ended
	}
	rate := d.cfg.Coins.FeeRate(ctx)
	// Those that pay for their own input, the most valuable first.
	list = slices.DeleteFunc(list, func(r contract.Refund) bool { return r.Value <= rate.Fee(contract.VSize(r.Weight())) })
	slices.SortFunc(list, func(a, b contract.Refund) int {
		return cmp.Or(cmp.Compare(b.Value, a.Value), slices.Compare(a.At.Bytes(), b.At.Bytes()))
	})
	for some := range slices.Chunk(list, gatherMost) {
		if err := d.takeBack(ctx, some, script, rate); err != nil {
			return err
		}
	}
	d.gathered.at = tip
	return nil
}

// takeBack refunds outputs in one transaction or, if the network refuses it, in
// one for each half: a claim that competes for one output must not hold up the
// others.
func (d *Delivery) takeBack(ctx context.Context, list []contract.Refund, script []byte, rate wire.SatPerKVB) error {
	tx, fee, err := contract.BuildRefund(list, script, rate, 0)
	if errors.Is(err, contract.ErrUneconomic) {
		return nil
	} else if err != nil {
		return err
	}
	why, tooLow, err := d.cfg.Coins.Broadcast(ctx, tx)
	switch {
	case err != nil:
		return err
	case why == "":
		d.cfg.Log.Info("refunds that were too small alone are gathered", "outputs", len(list), "fee", fee, "txid", tx.TxHash())
		return nil
	case tooLow || len(list) == 1:
		d.cfg.Log.Debug("a refund is refused", "outputs", len(list), "err", why)
		return nil
	}
	n := len(list) / 2
	return errors.Join(d.takeBack(ctx, list[:n], script, rate), d.takeBack(ctx, list[n:], script, rate))
}

// Rest returns the value of outputs of sent messages that are not worth the fee
// of a refund at the present rate.
func (d *Delivery) Rest(ctx context.Context) (sum wire.Sat, err error) {
	err = d.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(deal.KindSender, false, func(_ engine.Ref, raw []byte) error {
			var s deal.Sender
			if err := wire.Unmarshal(raw, &s); err != nil {
				return err
			}
			sum += s.Rest()
			return nil
		})
	})
	return sum, err
}
