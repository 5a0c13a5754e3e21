package node

import (
	"cmp"
	"context"
	"fmt"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/disk"
)

// executor carries out what the machines of agents and banks ask for.
type executor Node

// Commit implements engine.Executor: coins are locked and freed in the very
// transaction that asks for it.
func (x *executor) Commit(tx engine.Tx, ref engine.Ref, e engine.Effect) (engine.Event, bool, error) {
	if e, ok := e.(bank.Effect); ok {
		ev, done, err := x.commitBank(tx, ref, e)
		if ev == nil {
			return nil, done, err // no interface around a nil one
		}
		return ev, done, err
	}
	return nil, false, nil
}

// Do implements engine.Executor.
func (x *executor) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	switch e := e.(type) {
	case bank.Effect:
		return x.doBank(ctx, ref, e)
	case deal.ClaimDue:
		return func(tx engine.Tx) ([]engine.Delivery, error) { return (*agent)(x).buildClaims(tx, ref, e) }, nil
	case deal.DropPayload:
		return func(tx engine.Tx) ([]engine.Delivery, error) { return nil, x.unlist(tx, ref, e) }, disk.Remove(x.files.Path(dirCopies, ref.ID, ""))
	case deal.Broadcast:
		tx, err := contract.ReadTx(e.Tx)
		if err != nil {
			return nil, err
		}
		why, err := x.Broadcast(ctx, tx)
		if err != nil || ctx.Err() != nil {
			return nil, cmp.Or(err, ctx.Err())
		}
		return engine.Answer(ref, deal.Broadcasted{Err: why}), nil
	}
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// unlist takes a dropped copy out of the index.
func (x *executor) unlist(tx engine.Tx, ref engine.Ref, drop deal.DropPayload) error {
	if err := tx.Delete(bucketCopies, ref.ID[:]); err != nil {
		return err
	}
	return tx.Delete(bucketFind, append(drop.Find[:], ref.ID[:]...))
}
