package banking

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// pruning prunes what came over banks that are done. Many banks are done in the
// same block: one look at all payments serves those of which it was asked before it
// began.
type pruning struct {
	asked atomic.Int64
	mu    sync.Mutex
	done  int64 // of asked
}

// maxPruned is the maximum number of contracts that are pruned in one commit.
const maxPruned = 256

// bucketPruned contains, under a key of one zero byte, the mark of a home that has
// pruned what earlier versions left.
const bucketPruned = "bank/pruned"

// prune carries out bank.Prune.
func (b *Banks) prune(ctx context.Context) error {
	asked := b.pruning.asked.Add(1)
	b.pruning.mu.Lock()
	defer b.pruning.mu.Unlock()
	if b.pruning.done >= asked {
		return nil
	}
	asked = b.pruning.asked.Load()
	var list []engine.Delivery
	marked := false
	if err := b.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
		if list, err = overRelays(tx); err != nil {
			return err
		}
		mark, err := tx.Get(bucketPruned, []byte{0})
		if marked = mark != nil; marked || err != nil {
			return err
		}
		old, err := oldBanks(tx)
		list = append(list, old...)
		return err
	}); err != nil {
		return err
	}
	for ; len(list) > 0; list = list[min(len(list), maxPruned):] {
		if _, err := b.cfg.Engine.TellEach(ctx, list[:min(len(list), maxPruned)]); err != nil {
			return err
		}
	}
	if !marked {
		if err := b.cfg.Store.Update(ctx, func(tx engine.Tx) error { return tx.Put(bucketPruned, []byte{0}, []byte{}) }); err != nil {
			return err
		}
	}
	b.pruning.done = asked
	return nil
}

// overRelays lists the payments, not pruned, that came over banks that are done.
func overRelays(tx engine.Tx) (list []engine.Delivery, err error) {
	over := map[bank.ID]bool{}
	err = tx.Each(bank.KindRelay, false, func(ref engine.Ref, raw []byte) error {
		var r bank.Relay
		if err := wire.Unmarshal(raw, &r); err != nil {
			return nil // the engine says so
		}
		if next, _, err := r.Step(bank.Pruned{}); err != nil || !next.Over {
			return nil
		}
		done, known := over[r.In]
		if !known {
			var y bank.Payee
			raw, err := tx.State(payeeRef(r.In))
			if err != nil && !errors.Is(err, engine.ErrNoContract) {
				return err
			}
			done = err == nil && wire.Unmarshal(raw, &y) == nil && y.Interest().Done
			over[r.In] = done
		}
		if done {
			list = append(list, engine.Delivery{Ref: ref, Event: bank.Pruned{}})
		}
		return nil
	})
	return list, err
}

// oldBanks lists the banks that may have been done before banks were pruned.
func oldBanks(tx engine.Tx) (list []engine.Delivery, err error) {
	for _, kind := range []engine.Kind{bank.KindPayer, bank.KindPayee} {
		live := map[engine.Ref]bool{}
		if err := tx.Each(kind, false, func(ref engine.Ref, _ []byte) error { live[ref] = true; return nil }); err != nil {
			return nil, err
		}
		if err := tx.Each(kind, true, func(ref engine.Ref, _ []byte) error {
			if !live[ref] {
				list = append(list, engine.Delivery{Ref: ref, Event: bank.Pruned{}})
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return list, nil
}
