package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// commitBank carries out what banks want of the store alone.
func (x *executor) commitBank(tx engine.Tx, ref engine.Ref, e bank.Effect) (bank.Event, bool, error) {
	switch e := e.(type) {
	case bank.LockCoins:
		p, short, err := x.lockCoins(tx, ref, e.Amount, contract.BankFundingWeight)
		if err != nil {
			return nil, true, err
		}
		if short != nil {
			return bank.NoCoins{Need: short.Need, Have: short.Have, Soon: short.Soon}, true, nil
		}
		at, _, err := tx.Position()
		if err != nil {
			return nil, true, err
		}
		return bank.CoinsLocked{Height: at.Height, Inputs: p.Inputs, Change: p.Change, ChangeScript: p.ChangeScript, Fee: p.Fee,
			Root: bankRoot(x.identity, ref.ID, p.Inputs[0])}, true, nil
	case bank.UnlockCoins:
		return nil, true, x.unlockCoins(tx, ref)
	case bank.KeepPaper:
		return nil, true, keepPaper(tx, ref, &e.Paper)
	case bank.DropPaper:
		return nil, true, tx.Delete(bucketPaper, paperKey(ref))
	}
	return nil, false, nil
}

// bankRoot is the secret of all of a bank's: it is bound to the first outpoint
// that funds it, so that no two banks ever share a chain, whatever was restored; and
// to the bank's id, so that two payees of whom one refuses see two keys.
func bankRoot(identity wire.Secret, id bank.ID, first wire.Outpoint) wire.Secret {
	return wire.Secret(wire.Tagged("bank-root", identity[:], id[:], first.Bytes()))
}

// doBank carries out a bank's effect.
func (x *executor) doBank(ctx context.Context, ref engine.Ref, e bank.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	switch e := e.(type) {
	case bank.CloseDue:
		return func(tx engine.Tx) ([]engine.Delivery, error) { return x.buildCloses(tx, ref, e) }, nil
	case bank.RefundDue:
		return func(tx engine.Tx) ([]engine.Delivery, error) { return x.buildRefunds(tx, ref, e) }, nil
	case bank.Publish:
		refused, err := x.publishTx(ctx, ref, e.Tx, nil, e.Until)
		if err != nil || ctx.Err() != nil {
			return nil, cmp.Or(err, ctx.Err())
		}
		return func(tx engine.Tx) ([]engine.Delivery, error) {
			next, err := nextWaiting(tx)
			return append([]engine.Delivery{{Ref: ref, Event: bank.Broadcasted{Err: refused}}}, next...), err
		}, nil
	case bank.Prepare:
		terms, _, tx, purse, err := bank.Build(&e)
		if err != nil {
			return nil, err
		}
		x.banks.purses.Add(ref.ID, purse) // the first payment needs not walk the chain again
		ev := bank.Prepared{Funding: contract.EncodeTx(tx), At: wire.Outpoint{Txid: contract.Txid(tx)}}
		return func(tx engine.Tx) ([]engine.Delivery, error) {
			return []engine.Delivery{{Ref: ref, Event: ev}}, keepPaper(tx, ref, &bank.Paper{Terms: terms})
		}, nil
	case bank.Broadcast:
		return x.broadcastBank(ctx, ref, e)
	case bank.SendStep:
		return x.sendStep(ctx, ref)
	case bank.Stream:
		return nil, x.streamPennies(ctx, ref)
	}
	ev, err := x.askBank(ctx, ref, e)
	if err != nil || ctx.Err() != nil {
		return nil, cmp.Or(err, ctx.Err())
	}
	return func(engine.Tx) ([]engine.Delivery, error) {
		if ev == nil {
			return nil, nil
		}
		return []engine.Delivery{{Ref: ref, Event: ev}}, nil
	}, nil
}

// streamPennies sends what was ordered; where the payee is away it is tried again.
func (x *executor) streamPennies(ctx context.Context, ref engine.Ref) error {
	unlock, err := x.banks.lock(ctx, ref.ID)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := (*Node)(x).stream(ctx, ref.ID, Streaming{Window: defaultWindow})
	var refused *p2p.Refused
	if err != nil && (p.PayeeWhy != "" || p.Spend != nil || p.Buried()) || errors.Is(err, bank.ErrBadBank) || errors.Is(err, ErrNoBank) ||
		errors.As(err, &refused) && refused.Code == wire.Unknown {
		x.log.Warn("the payee takes no pennies", "bank", ref, "err", err)
		return nil
	}
	return err
}

// defaultWindow is how many pennies are on their way at once.
const defaultWindow = 64

// askBank asks the other side of a bank.
func (x *executor) askBank(ctx context.Context, ref engine.Ref, e bank.Effect) (bank.Event, error) {
	height := x.engine.Position().Height
	switch e := e.(type) {
	case bank.AskTerms:
		q, err := x.calls.BankTerms(ctx, e.Peer, &e.Request)
		if err != nil {
			return bank.NotQuoted{Why: err.Error()}, nil
		}
		return bank.Quoted{Height: height, Payee: q.Payee, Conf: q.Conf}, nil
	case bank.Offer:
		return x.offerBank(ctx, ref, &e)
	}
	p, err := (*Node)(x).payer(ctx, ref.ID)
	if err != nil || p.Spend != nil {
		return nil, err
	}
	switch e := e.(type) {
	case bank.Sync:
		return x.syncBank(ctx, &p)
	case bank.AskClose:
		return x.askClose(ctx, &p)
	case bank.SignClose:
		return x.signClose(ctx, &p, &e)
	}
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// offerBank signs all rungs, which gives the same each time, and brings the bank to
// its payee.
func (x *executor) offerBank(ctx context.Context, ref engine.Ref, e *bank.Offer) (bank.Event, error) {
	paper, err := (*Node)(x).paper(ctx, ref, e.At)
	if err != nil {
		return nil, err
	}
	b, err := contract.NewBank(paper.Terms)
	if err != nil {
		return nil, err
	}
	sigs, err := b.SignRungs(e.At, bank.PayerKey(e.Root))
	if err != nil {
		return nil, err
	}
	open := &wire.BankOpen{Bank: ref.ID, Terms: paper.Terms, Funding: e.Funding, Vout: e.At.Vout, Sigs: sigs}
	if err := x.calls.OpenBank(ctx, e.Peer, open); err != nil {
		return bank.NotAccepted{Why: err.Error()}, nil
	}
	return bank.Accepted{Height: x.engine.Position().Height}, nil
}

// syncBank asks, after a restore, how many pennies have left.
func (x *executor) syncBank(ctx context.Context, p *bank.Payer) (bank.Event, error) {
	unlock, err := x.banks.lock(ctx, p.Bank)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := x.calls.BankState(ctx, p.Terms.Peer, p.Bank)
	if err != nil {
		return nil, err
	}
	count, err := countOf(p, (*Node)(x).purse(p), s.Known)
	if err != nil {
		x.log.Error("a bank stays closed to payments", "bank", p.Bank, "err", err)
		return nil, nil
	}
	return bank.Synced{Count: count}, nil
}

func (x *executor) askClose(ctx context.Context, p *bank.Payer) (bank.Event, error) {
	o, err := x.calls.AskClose(ctx, p.Terms.Peer, p.Bank)
	var refused *p2p.Refused
	switch {
	case errors.As(err, &refused) && refused.Code != wire.Busy && refused.Code != wire.Internal:
		return bank.CloseRefused{Why: err.Error()}, nil
	case err != nil:
		return nil, err
	}
	unlock, err := x.banks.lock(ctx, p.Bank)
	if err != nil {
		return nil, err
	}
	defer unlock()
	count, err := countOf(p, (*Node)(x).purse(p), o.Known)
	if err != nil {
		return bank.CloseRefused{Why: err.Error()}, nil
	}
	return bank.CloseOffered{Count: count, Payer: o.Payer, Fee: o.Fee, Script: o.Script}, nil
}

func (x *executor) signClose(ctx context.Context, p *bank.Payer, e *bank.SignClose) (bank.Event, error) {
	paper, err := (*Node)(x).paper(ctx, payerRef(p.Bank), p.At)
	if err != nil {
		return nil, err
	}
	b, err := contract.NewBank(paper.Terms)
	if err != nil {
		return nil, err
	}
	tx, err := e.Offer.Together(b, p.At)
	if err != nil {
		return bank.CloseRefused{Why: err.Error()}, nil
	}
	sig, err := b.SignTogether(tx, bank.PayerKey(p.Root))
	if err != nil {
		return nil, err
	}
	_, err = x.calls.SignClose(ctx, p.Terms.Peer, &wire.CloseSign{Bank: p.Bank, Sig: sig})
	var refused *p2p.Refused
	switch {
	case errors.As(err, &refused) && refused.Code != wire.Busy && refused.Code != wire.Internal:
		return bank.CloseRefused{Why: err.Error()}, nil
	case err != nil:
		return nil, err
	}
	return bank.CloseSent{Txid: contract.Txid(tx)}, nil
}

// broadcastBank sends a transaction, and tells all that share it where the network
// refuses it: one of them may be at fault, so that each goes alone from then on.
func (x *executor) broadcastBank(ctx context.Context, ref engine.Ref, e bank.Broadcast) (func(engine.Tx) ([]engine.Delivery, error), error) {
	t, err := contract.ReadTx(e.Tx)
	if err != nil {
		return nil, err
	}
	refused := x.cfg.Chain.Broadcast(ctx, t)
	why, err := refusal(refused)
	if err != nil {
		return nil, err
	}
	ev := bank.Broadcasted{Err: why, Txid: contract.Txid(t), TooLow: errors.Is(refused, chain.ErrFeeTooLow)}
	return func(tx engine.Tx) ([]engine.Delivery, error) {
		list := []engine.Delivery{{Ref: ref, Event: ev}}
		if why == "" {
			return list, nil
		}
		refs, err := closing.shared(tx, ev.Txid)
		if ref.Kind == engine.KindPayer {
			refs, err = refunding.shared(tx, ev.Txid)
		}
		for _, r := range refs {
			if r != ref {
				list = append(list, engine.Delivery{Ref: r, Event: ev})
			}
		}
		return list, err
	}, ctx.Err()
}

// buildCloses joins what is due into one close and tells every bank in it. A member
// whose part cannot be built is left out.
func (x *executor) buildCloses(tx engine.Tx, ref engine.Ref, due bank.CloseDue) ([]engine.Delivery, error) {
	raw, err := tx.State(ref)
	if err != nil {
		return nil, err
	}
	first := member[bank.Payee]{ref: ref}
	if err := wire.Unmarshal(raw, &first.state); err != nil {
		return nil, err
	}
	if !first.state.Closable() || first.state.Stop == bank.NotStopped {
		return nil, nil // closed meanwhile
	}
	if prev := first.state.Alone; prev != nil && !(*agent)(x).firstOf(prev.Txid, due.Urgent, ref, x.engine.Position().Height) {
		return nil, nil // another member was here first
	}
	group, err := closing.group(x, tx, first)
	if err != nil {
		return nil, err
	}
	var list []input[contract.BankClose]
	for i := range group {
		m, s := &group[i], &group[i].state
		c, err := x.closeOf(tx, m)
		if err != nil && m.ref == ref {
			return nil, err
		} else if err != nil {
			x.log.Error("a bank is left out of a close", "bank", m.ref, "err", err)
			continue
		}
		b := batch.Member{At: s.At, Value: s.Ladder.Share(c.Rung), Weight: contract.RungInputWeight(int(c.Rung)-1, int(s.Ladder.Rungs)) + contract.P2TROutputWeight,
			Outputs: 1, Alone: s.Solo, In: s.Alone, Rival: s.Joined}
		b.From, b.To = window(s.Expiry, s.Margins.Bump, s.Margins.Close)
		list = append(list, input[contract.BankClose]{b, m.ref, c})
	}
	return closing.join(x, tx, ref, list, due.Rate)
}

// closeOf is a member's input of a close, whose parts are right.
func (x *executor) closeOf(tx engine.Tx, m *member[bank.Payee]) (contract.BankClose, error) {
	paper, err := (*Node)(x).paperIn(tx, m.ref, m.state.At)
	if err != nil {
		return contract.BankClose{}, err
	}
	c, err := m.state.Closing(paper)
	if err == nil && !c.Bank.Opens(c.Rung, c.Secret) {
		err = fmt.Errorf("rung %d: %w", c.Rung, bank.ErrBadBank)
	}
	return c, err
}

// buildRefunds joins what can be taken back into one transaction and tells every
// bank in it. A member whose part cannot be built is left out.
func (x *executor) buildRefunds(tx engine.Tx, ref engine.Ref, due bank.RefundDue) ([]engine.Delivery, error) {
	raw, err := tx.State(ref)
	if err != nil {
		return nil, err
	}
	first := member[bank.Payer]{ref: ref}
	if err := wire.Unmarshal(raw, &first.state); err != nil {
		return nil, err
	}
	if !first.state.Refundable() {
		return nil, nil
	}
	if prev := first.state.Refund; prev != nil && !(*agent)(x).firstOf(prev.Txid, false, ref, x.engine.Position().Height) {
		return nil, nil // another member was here first
	}
	group, err := refunding.group(x, tx, first)
	if err != nil {
		return nil, err
	}
	var list []input[contract.BankRefund]
	for i := range group {
		m, s := &group[i], &group[i].state
		paper, err := (*Node)(x).paperIn(tx, m.ref, s.At)
		var b *contract.Bank
		if err == nil {
			b, err = contract.NewBank(paper.Terms)
		}
		if err != nil && m.ref == ref {
			return nil, err
		} else if err != nil {
			x.log.Error("a bank is left out of a refund", "bank", m.ref, "err", err)
			continue
		}
		r := s.Back(b)
		one := batch.Member{At: r.At, Value: s.Ladder.Value, Weight: contract.BankRefundInputWeight(s.Expiry, int(s.Ladder.Rungs)), Alone: s.Solo, In: s.Refund}
		if r.Change {
			one.Value, one.Weight = r.Value, contract.ChangeInputWeight()
		}
		list = append(list, input[contract.BankRefund]{one, m.ref, r})
	}
	return refunding.join(x, tx, ref, list, due.Rate)
}

// sendStep takes a payment's next step: its credit at the first hop, its pennies,
// and the word of the final payee.
func (x *executor) sendStep(ctx context.Context, ref engine.Ref) (func(engine.Tx) ([]engine.Delivery, error), error) {
	state, err := x.engine.State(ctx, ref)
	if err != nil {
		return nil, err
	}
	s := state.(bank.Sending)
	if s.Ended || s.Done() {
		return nil, nil
	}
	p, err := (*Node)(x).payer(ctx, s.Order.Bank)
	if err != nil {
		return nil, err
	}
	say := func(list ...engine.Delivery) (func(engine.Tx) ([]engine.Delivery, error), error) {
		return func(engine.Tx) ([]engine.Delivery, error) { return list, nil }, ctx.Err()
	}
	if !s.Waiting() && s.Unsure {
		return x.askUnsure(ctx, ref, &s, &p)
	}
	if !s.Waiting() {
		why, err := x.assignStep(ctx, &s, &p)
		if err != nil {
			return nil, err
		}
		if why != "" {
			return say(engine.Delivery{Ref: ref, Event: bank.StepRefused{Why: why}})
		}
		if state, err = x.engine.State(ctx, ref); err != nil {
			return nil, err
		}
		s = state.(bank.Sending)
	}
	if err := x.streamPennies(ctx, payerRef(s.Order.Bank)); err != nil {
		return nil, err
	}
	t := s.Transfer()
	ack, err := x.calls.Transfer(ctx, p.Terms.Peer, &t)
	var refused *p2p.Refused
	switch {
	case errors.As(err, &refused) && !slices.Contains([]wire.Code{wire.Busy, wire.Internal, wire.NotConfirmed}, refused.Code):
		return x.stepRefused(ctx, ref, &t, s.Order.Bank, err)
	case err != nil:
		return nil, err
	}
	if s.Order.Payee.Verify(wire.TransferDigest(s.ID, ack.Index, ack.Total, s.Order.Payee), ack.Sig) != nil || ack.Index != s.Index || ack.Total != s.Asked {
		return say(engine.Delivery{Ref: ref, Event: bank.StepRefused{Why: bank.ErrBadAck.Error(), Index: t.Index}})
	}
	return say(engine.Delivery{Ref: ref, Event: bank.StepAcked{Ack: *ack}},
		engine.Delivery{Ref: payerRef(s.Order.Bank), Event: bank.Acknowledged{ID: s.ID, Index: t.Index}})
}

// askUnsure asks, after a restore, for the word on the next step before anything is
// paid for it: the first hop may have it.
func (x *executor) askUnsure(ctx context.Context, ref engine.Ref, s *bank.Sending, p *bank.Payer) (func(engine.Tx) ([]engine.Delivery, error), error) {
	t := s.Next()
	ack, err := x.calls.Transfer(ctx, p.Terms.Peer, &t)
	list := []engine.Delivery{{Ref: ref, Event: bank.Sure{}}}
	var refused *p2p.Refused
	switch {
	case errors.As(err, &refused) && refused.Code == wire.NoCredit: // it is new to it
	case errors.As(err, &refused) && !slices.Contains([]wire.Code{wire.Busy, wire.Internal, wire.NotConfirmed}, refused.Code):
		list = []engine.Delivery{{Ref: ref, Event: bank.StepRefused{Why: "after a restore: " + err.Error()}}}
	case err != nil:
		return nil, err
	default:
		list = []engine.Delivery{{Ref: ref, Event: bank.StepPaid{Index: t.Index}}, {Ref: ref, Event: bank.StepAcked{Ack: *ack}},
			{Ref: payerRef(p.Bank), Event: bank.Acknowledged{ID: t.ID, Index: t.Index}}}
	}
	return func(engine.Tx) ([]engine.Delivery, error) { return list, ctx.Err() }, nil
}

// assignStep orders the pennies of a payment's next step, in the commit that counts
// it as asked. why is what speaks against it.
func (x *executor) assignStep(ctx context.Context, s *bank.Sending, p *bank.Payer) (why string, err error) {
	st, err := x.calls.BankState(ctx, p.Terms.Peer, p.Bank)
	if err != nil {
		return "", err
	}
	banker := len(s.Order.Bankers) > 0
	if most := x.mostReserve(p); banker && st.Reserve > most {
		return fmt.Sprintf("the banker keeps %v back for closing, more than %v", st.Reserve, most), nil
	}
	_, err = x.engine.TellAll(ctx, []engine.Delivery{
		{Ref: payerRef(p.Bank), Event: bank.Assigned{ID: s.ID, Index: s.Index + 1, Amount: s.Credit(), Banker: banker, Reserve: st.Reserve}},
		{Ref: sendingRef(s.ID), Event: bank.StepPaid{Index: s.Index + 1}}})
	if errors.Is(err, engine.ErrContract) {
		return err.Error(), nil
	}
	return "", err
}

// mostReserve is the largest reserve that a banker is believed to need for closing.
func (x *executor) mostReserve(p *bank.Payer) wire.Sat {
	return 2*bank.CloseCost(p.Ladder.Rungs, 2*x.engine.FeeRate()) + 1000
}

// stepRefused ends a payment whose step is refused. Where the first hop shows that
// all credit is there but what earlier steps took, the step counts as not asked.
func (x *executor) stepRefused(ctx context.Context, ref engine.Ref, t *wire.Transfer, id bank.ID, why error) (func(engine.Tx) ([]engine.Delivery, error), error) {
	p, err := (*Node)(x).payer(ctx, id)
	if err != nil {
		return nil, err
	}
	st, err := x.calls.BankState(ctx, p.Terms.Peer, p.Bank)
	if err != nil {
		return nil, err
	}
	unlock, err := x.banks.lock(ctx, p.Bank)
	if err != nil {
		return nil, err
	}
	count, err := countOf(&p, (*Node)(x).purse(&p), st.Known)
	unlock()
	if err != nil {
		return nil, err
	}
	paid := p.Ladder.Paid(count)
	if len(t.Hops) > 0 {
		paid = max(p.Ladder.Share(p.Ladder.Rung(count))-st.Reserve, 0).Msat()
	}
	before := p.Assigned - min(p.Assigned, t.Amount)
	back := p.Outstanding != nil && *p.Outstanding == t.ID && st.Reserve <= x.mostReserve(&p) && st.Credit >= paid-min(paid, before)
	list := []engine.Delivery{{Ref: ref, Event: bank.StepRefused{Why: why.Error(), Back: back, Index: t.Index}}}
	if back {
		list = append(list, engine.Delivery{Ref: payerRef(p.Bank), Event: bank.Unassigned{ID: t.ID, Index: t.Index, Amount: t.Amount}})
	}
	return func(engine.Tx) ([]engine.Delivery, error) { return list, ctx.Err() }, nil
}
