package banking

import (
	"context"
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// PayeeBank returns a bank of this node as payee, and its terms. It returns
// engine.ErrNoContract or ErrNoBank if there is none.
func (b *Banks) PayeeBank(ctx context.Context, id bank.ID) (y bank.Payee, t wire.BankTerms, err error) {
	s, err := b.cfg.Engine.State(ctx, payeeRef(id))
	if err != nil {
		return y, t, err
	}
	y = s.(bank.Payee)
	paper, err := b.paper(ctx, payeeRef(id), y.At)
	if err != nil {
		return y, t, err
	}
	return y, paper.Terms, nil
}

// Earned returns the event with which a bank takes a penny that a job has earned, in
// the transaction that earns it; none if the bank holds it, is over, or is gone.
func (b *Banks) Earned(tx engine.Tx, id bank.ID, p penny.Penny) ([]engine.Delivery, error) {
	s, err := b.cfg.Engine.StateIn(tx, payeeRef(id))
	if errors.Is(err, engine.ErrNoContract) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	y := s.(bank.Payee)
	if p.Seq >= y.Known.Seq {
		return nil, nil
	}
	paper, err := b.paperIn(tx, payeeRef(id), y.At)
	if errors.Is(err, ErrNoBank) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	from, to := y.Rung(), y.Ladder.Rung(y.Ladder.N()-p.Seq)
	if int(to) > len(paper.Terms.Locks) {
		return nil, fmt.Errorf("bank %v: its paper has %d rungs", id, len(paper.Terms.Locks))
	}
	at, _, err := tx.Position()
	if err != nil {
		return nil, err
	}
	return engine.To(payeeRef(id), bank.Paid{Height: at.Height, Penny: p, Locks: paper.Terms.Locks[from:to]}), nil
}
