package banking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/share"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// payer carries out the effects of the payer's machine.
type payer struct{ *Banks }

// Commit implements engine.Executor. It locks and unlocks coins, and stores
// papers, in the transaction that requests it.
func (x payer) Commit(tx engine.Tx, ref engine.Ref, e engine.Effect) ([]engine.Delivery, bool, error) {
	switch e := e.(type) {
	case bank.LockCoins:
		p, short, err := x.cfg.Coins.Lock(tx, ref, e.Amount, contract.BankFundingWeight)
		if err != nil {
			return nil, true, err
		}
		if short != nil {
			return engine.To(ref, bank.NoCoins{Need: short.Need, Have: short.Have, Soon: short.Soon}), true, nil
		}
		at, _, err := tx.Position()
		if err != nil {
			return nil, true, err
		}
		return engine.To(ref, bank.CoinsLocked{Height: at.Height, Inputs: p.Inputs, Change: p.Change, ChangeScript: p.ChangeScript, Fee: p.Fee,
			Root: bankRoot(x.cfg.Identity, ref.ID, p.Inputs[0])}), true, nil
	case bank.UnlockCoins:
		return nil, true, x.cfg.Coins.Unlock(tx, ref)
	}
	return commitPaper(tx, ref, e)
}

// commitPaper carries out the effects that concern papers.
func commitPaper(tx engine.Tx, ref engine.Ref, e engine.Effect) ([]engine.Delivery, bool, error) {
	switch e := e.(type) {
	case bank.KeepPaper:
		return nil, true, keepPaper(tx, ref, &e.Paper)
	case bank.DropPaper:
		if err := dropPlace(tx, ref); err != nil {
			return nil, true, err
		}
		if err := tx.Delete(bucketFunding, paperKey(ref)); err != nil {
			return nil, true, err
		}
		return nil, true, tx.Delete(bucketPaper, paperKey(ref))
	case bank.KeepFunding:
		if err := dropPlace(tx, ref); err != nil {
			return nil, true, err
		}
		return nil, true, tx.Put(bucketFunding, paperKey(ref), e.Tx)
	}
	return nil, false, nil
}

// dropPlace forgets the place of a bank that is funded or forgotten.
func dropPlace(tx engine.Tx, ref engine.Ref) error {
	if ref.Kind != bank.KindPayee {
		return nil
	}
	return tx.Delete(bucketPlace, ref.ID[:])
}

// Do implements engine.Executor.
func (x payer) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	switch e := e.(type) {
	case bank.RefundDue:
		return func(tx engine.Tx) ([]engine.Delivery, error) {
			return x.refunds.Due(tx, ref, func(m *share.Member[bank.Payer]) (contract.BankRefund, batch.Member, error) { return x.refundOf(tx, m) })
		}, nil
	case bank.Broadcast:
		return x.refunds.Broadcast(ctx, x.cfg.Coins, ref, e.Tx)
	case bank.Publish:
		return x.publish(ctx, ref, e)
	case bank.Prepare:
		return x.prepare(ref, e)
	case bank.Stream:
		return nil, x.streamPennies(ctx, ref)
	case bank.Prune:
		return nil, x.prune(ctx)
	}
	ev, err := x.ask(ctx, ref, e)
	return answered(ctx, ref, ev, err)
}

// payee carries out the effects of the payee's machine.
type payee struct{ *Banks }

// Commit implements engine.Executor. It stores papers in the transaction that
// requests it.
func (payee) Commit(tx engine.Tx, ref engine.Ref, e engine.Effect) ([]engine.Delivery, bool, error) {
	return commitPaper(tx, ref, e)
}

// Do implements engine.Executor.
func (x payee) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	switch e := e.(type) {
	case bank.CloseDue:
		x.warnLate(ctx, ref)
		return func(tx engine.Tx) ([]engine.Delivery, error) {
			return x.closes.Due(tx, ref, func(m *share.Member[bank.Payee]) (contract.BankClose, batch.Member, error) { return x.closeOf(tx, m) })
		}, nil
	case bank.Rebroadcast:
		return x.rebroadcast(ctx, ref)
	case bank.Prune:
		return nil, x.prune(ctx)
	case bank.Broadcast:
		return x.closes.Broadcast(ctx, x.cfg.Coins, ref, e.Tx)
	}
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// warnLate says that a close begins late: this home was away when it was due.
func (b *Banks) warnLate(ctx context.Context, ref engine.Ref) {
	y, err := b.payee(ctx, ref.ID)
	if tip := b.cfg.Engine.Position().Height; err == nil && y.IsLate(tip) {
		b.cfg.Log.Error("a bank is closed late, because this home was away: from its expiry on, its payer can take everything back",
			"bank", ref, "expiry", y.Expiry, "blocks", int64(y.Expiry)-int64(tip), "worth", y.Ladder.Share(y.Rung()))
	}
}

// sending carries out the effects of a payment's machine.
type sending struct{ *Banks }

// Commit implements engine.Executor. No effect of a payment needs only the
// store.
func (sending) Commit(engine.Tx, engine.Ref, engine.Effect) ([]engine.Delivery, bool, error) {
	return nil, false, nil
}

// Do implements engine.Executor.
func (x sending) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	if _, ok := e.(bank.SendStep); ok {
		return x.sendStep(ctx, ref)
	}
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// relay has no effects: the hop that forwards a step answers it.
type relay struct{}

// Commit implements engine.Executor.
func (relay) Commit(engine.Tx, engine.Ref, engine.Effect) ([]engine.Delivery, bool, error) {
	return nil, false, nil
}

// Do implements engine.Executor.
func (relay) Do(_ context.Context, _ engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// publish publishes a bank's funding.
func (b *Banks) publish(ctx context.Context, ref engine.Ref, e bank.Publish) (func(engine.Tx) ([]engine.Delivery, error), error) {
	refused, err := b.cfg.Coins.Fund(ctx, ref, e.Tx, nil, e.Until)
	if err != nil || ctx.Err() != nil {
		return nil, cmp.Or(err, ctx.Err())
	}
	return func(tx engine.Tx) ([]engine.Delivery, error) {
		next, err := b.cfg.Coins.NextWaiting(tx)
		return append([]engine.Delivery{{Ref: ref, Event: bank.Broadcasted{Err: refused}}}, next...), err
	}, nil
}

// prepare computes a bank's output and funding.
func (b *Banks) prepare(ref engine.Ref, e bank.Prepare) (func(engine.Tx) ([]engine.Delivery, error), error) {
	terms, _, tx, purse, err := bank.Build(&e)
	if err != nil {
		return nil, err
	}
	b.purses.Add(ref.ID, purse) // so the first payment need not walk the chain again
	ev := bank.Prepared{Funding: contract.EncodeTx(tx), At: wire.Outpoint{Txid: contract.Txid(tx)}}
	return func(tx engine.Tx) ([]engine.Delivery, error) {
		return []engine.Delivery{{Ref: ref, Event: ev}}, keepPaper(tx, ref, &bank.Paper{Terms: terms})
	}, nil
}

// bankRoot returns the root of a bank's secrets. It depends on the first
// outpoint that funds the bank, so two banks never share a hash chain, even
// after a restore; and on the bank's id, so that if one payee refuses, the next
// one sees a different key.
func bankRoot(identity wire.Secret, id bank.ID, first wire.Outpoint) wire.Secret {
	return wire.Secret(wire.Tagged("bank-root", identity[:], id[:], first.Bytes()))
}

// streamPennies sends what was ordered; it retries if the payee is unavailable.
func (b *Banks) streamPennies(ctx context.Context, ref engine.Ref) error {
	unlock, err := b.lock(ctx, ref.ID)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := b.stream(ctx, ref.ID, Streaming{Window: defaultWindow})
	if err != nil && endsStream(&p, err) {
		b.cfg.Log.Warn("the payee accepts no pennies", "bank", ref, "err", err)
		return nil
	}
	return err
}

// defaultWindow is the number of pennies in flight.
const defaultWindow = 64

// answered ends an effect with the resulting event. If the context was
// cancelled, the result proves nothing, and the effect is carried out again.
func answered(ctx context.Context, ref engine.Ref, ev bank.Event, err error) (func(engine.Tx) ([]engine.Delivery, error), error) {
	if err != nil || ctx.Err() != nil {
		return nil, cmp.Or(err, ctx.Err())
	}
	return engine.Answer(ref, ev), nil
}

// ask asks the other side of a bank.
func (b *Banks) ask(ctx context.Context, ref engine.Ref, e engine.Effect) (bank.Event, error) {
	switch e := e.(type) {
	case bank.AskTerms:
		height := b.cfg.Engine.Position().Height
		q, err := b.cfg.Calls.BankTerms(ctx, e.Peer, &e.Request)
		if err != nil {
			return bank.NotQuoted{Why: err.Error()}, nil
		}
		return bank.Quoted{Height: height, Payee: q.Payee, Conf: q.Conf}, nil
	case bank.Offer:
		return b.offerBank(ctx, ref, &e)
	}
	p, err := b.payer(ctx, ref.ID)
	if err != nil || p.Spend != nil {
		return nil, err
	}
	switch e := e.(type) {
	case bank.Sync:
		return b.syncBank(ctx, &p)
	case bank.AskPair:
		return b.askPair(ctx, &p, e.Value)
	case bank.AskClose:
		return b.askClose(ctx, &p)
	case bank.SignClose:
		return b.signClose(ctx, &p, &e)
	}
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// offerBank signs all rungs, which is deterministic, and sends the bank to its
// payee.
func (b *Banks) offerBank(ctx context.Context, ref engine.Ref, e *bank.Offer) (bank.Event, error) {
	paper, err := b.paper(ctx, ref, e.At)
	if err != nil {
		return nil, err
	}
	built, err := contract.NewBank(paper.Terms)
	if err != nil {
		return nil, err
	}
	sigs, err := built.SignRungs(e.At, bank.PayerKey(e.Root))
	if err != nil {
		return nil, err
	}
	open := &wire.BankOpen{Bank: ref.ID, Terms: paper.Terms, Funding: e.Funding, Vout: e.At.Vout, Sigs: sigs}
	if open.Coin, err = b.proveCoin(ctx, open, e.At); err != nil {
		return nil, err
	}
	if err := b.cfg.Calls.OpenBank(ctx, e.Peer, open); err != nil {
		return bank.NotAccepted{Why: err.Error()}, nil
	}
	return bank.Accepted{Height: b.cfg.Engine.Position().Height}, nil
}

// syncBank asks, after a restore, how many pennies were sent.
func (b *Banks) syncBank(ctx context.Context, p *bank.Payer) (bank.Event, error) {
	unlock, err := b.lock(ctx, p.Bank)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := b.cfg.Calls.BankState(ctx, p.Terms.Peer, b.as(p))
	if err != nil {
		return nil, err
	}
	count, err := countOf(p, b.purse(p), s.Known)
	if err != nil {
		b.cfg.Log.Error("a bank stays closed to payments", "bank", p.Bank, "err", err)
		return nil, nil
	}
	return bank.Synced{Count: count}, nil
}

func (b *Banks) askClose(ctx context.Context, p *bank.Payer) (bank.Event, error) {
	o, err := b.cfg.Calls.AskClose(ctx, p.Terms.Peer, b.as(p), p.Unused())
	var refused *p2p.Refused
	switch {
	case errors.As(err, &refused) && refused.Code != wire.Busy && refused.Code != wire.Internal:
		return bank.CloseRefused{Why: err.Error()}, nil
	case err != nil:
		return nil, err
	}
	unlock, err := b.lock(ctx, p.Bank)
	if err != nil {
		return nil, err
	}
	defer unlock()
	count, err := countOf(p, b.purse(p), o.Known)
	if err != nil {
		return bank.CloseRefused{Why: err.Error()}, nil
	}
	return bank.CloseOffered{Count: count, Payer: o.Payer, Fee: o.Fee, Script: o.Script}, nil
}

func (b *Banks) signClose(ctx context.Context, p *bank.Payer, e *bank.SignClose) (bank.Event, error) {
	paper, err := b.paper(ctx, payerRef(p.Bank), p.At)
	if err != nil {
		return nil, err
	}
	built, err := contract.NewBank(paper.Terms)
	if err != nil {
		return nil, err
	}
	tx, err := e.Offer.Together(built, p.At)
	if err != nil {
		return bank.CloseRefused{Why: err.Error()}, nil
	}
	sig, err := built.SignTogether(tx, bank.PayerKey(p.Root))
	if err != nil {
		return nil, err
	}
	_, err = b.cfg.Calls.SignClose(ctx, p.Terms.Peer, b.as(p), &wire.CloseSign{Bank: p.Bank, Sig: sig})
	var refused *p2p.Refused
	switch {
	case errors.As(err, &refused) && refused.Code != wire.Busy && refused.Code != wire.Internal:
		return bank.CloseRefused{Why: err.Error()}, nil
	case err != nil:
		return nil, err
	}
	return bank.CloseSent{Txid: contract.Txid(tx)}, nil
}

// rebroadcast broadcasts a bank's stored funding.
func (x payee) rebroadcast(ctx context.Context, ref engine.Ref) (func(engine.Tx) ([]engine.Delivery, error), error) {
	var funding []byte
	if err := x.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
		funding, err = tx.Get(bucketFunding, paperKey(ref))
		return err
	}); err != nil || funding == nil {
		return nil, err
	}
	return x.closes.Broadcast(ctx, x.cfg.Coins, ref, funding)
}

// maxGroup is the maximum number of banks in one transaction: few enough that
// it replaces no more than 100 others (BIP125, rule 5) and that each member can
// store a copy.
const maxGroup = 50

// closing is how closes by the payee alone share transactions.
func closing(cfg *Config) *share.Sharing[bank.Payee, contract.BankClose] {
	return &share.Sharing[bank.Payee, contract.BankClose]{Engine: cfg.Engine, Coins: cfg.Coins, Log: cfg.Log,
		Kind: bank.KindPayee, Limit: maxGroup, Bucket: "bank/closable",
		Sent:  func(y *bank.Payee) *contract.Sent { return y.Alone },
		Spent: func(y *bank.Payee) *contract.Fact { return y.Closed() },
		Worth: func(y *bank.Payee) (wire.Sat, int64) { return y.Ladder.Share(y.Rung()), closeWeight(y, y.Rung()) },
		Solo:  func(y *bank.Payee) bool { return y.Solo },
		Open:  func(y *bank.Payee) bool { return y.Stop != bank.NotStopped && y.Closable() },
		Ready: (*bank.Payee).Ready,
		Build: func(list []contract.BankClose, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
			return contract.BuildClose(list, nil, script, rate, minFee)
		},
		Built:  func(s contract.Sent, b bool) engine.Event { return bank.CloseBuilt{Sent: s, Broadcast: b} },
		Failed: func(why error) engine.Event { return bank.CloseFailed{Pause: share.Paused(why)} },
		Told:   told,
	}
}

// refunding is how refunds share transactions.
func refunding(cfg *Config) *share.Sharing[bank.Payer, contract.BankRefund] {
	return &share.Sharing[bank.Payer, contract.BankRefund]{Engine: cfg.Engine, Coins: cfg.Coins, Log: cfg.Log,
		Kind: bank.KindPayer, Limit: maxGroup, Bucket: "bank/refundable",
		Sent:   func(p *bank.Payer) *contract.Sent { return p.Refund },
		Solo:   func(p *bank.Payer) bool { return p.Solo },
		Open:   (*bank.Payer).Refundable,
		Ready:  (*bank.Payer).Ready,
		Spent:  func(p *bank.Payer) *contract.Fact { return p.Closed() },
		Worth:  func(p *bank.Payer) (wire.Sat, int64) { return backWorth(p) },
		Build:  contract.BuildBankRefund,
		Built:  func(s contract.Sent, b bool) engine.Event { return bank.RefundBuilt{Sent: s, Broadcast: b} },
		Failed: func(why error) engine.Event { return bank.RefundFailed{Pause: share.Paused(why)} },
		Told:   told,
	}
}

// closeOf is a member's input of a close, whose parts are right.
func (b *Banks) closeOf(tx engine.Tx, m *share.Member[bank.Payee]) (c contract.BankClose, plan batch.Member, err error) {
	s := &m.State
	paper, err := b.paperIn(tx, m.Ref, s.At)
	if err != nil {
		return c, plan, err
	}
	if c, err = s.Closing(paper); err != nil {
		return c, plan, err
	}
	if !c.Bank.Opens(c.Rung, c.Secret) {
		return c, plan, fmt.Errorf("rung %d: %w", c.Rung, bank.ErrBadBank)
	}
	plan = batch.Member{At: s.At, Value: s.Ladder.Share(c.Rung), Weight: closeWeight(s, c.Rung),
		Outputs: 1, Rival: s.Joined, Least: s.Least}
	plan.From, plan.To = share.Window(s.Expiry, s.Margins.Bump, s.Margins.Close)
	return c, plan, nil
}

// refundOf is a member's input of a refund.
func (b *Banks) refundOf(tx engine.Tx, m *share.Member[bank.Payer]) (r contract.BankRefund, plan batch.Member, err error) {
	s := &m.State
	paper, err := b.paperIn(tx, m.Ref, s.At)
	if err != nil {
		return r, plan, err
	}
	built, err := contract.NewBank(paper.Terms)
	if err != nil {
		return r, plan, err
	}
	r = s.Back(built)
	plan = batch.Member{At: r.At, Least: s.Least}
	plan.Value, plan.Weight = backWorth(s)
	return r, plan, nil
}

// told is the network's answer to a broadcast, as a bank hears it.
func told(a share.Answer) engine.Event {
	return bank.Broadcasted{Err: a.Err, Txid: a.Txid, TooLow: a.TooLow, Own: a.Own}
}

// closeWeight returns the weight of a bank's part of a rung close.
func closeWeight(y *bank.Payee, rung uint32) int64 {
	return contract.RungInputWeight(int(rung)-1, int(y.Ladder.Rungs)) + contract.P2TROutputWeight
}

// backWorth returns the value and the input's weight of what a payer can take back.
func backWorth(p *bank.Payer) (wire.Sat, int64) {
	if value, ok := p.Change(); ok {
		return value, contract.ChangeInputWeight()
	}
	return p.Ladder.Value, contract.BankRefundInputWeight(p.Expiry, int(p.Ladder.Rungs))
}

// sendStep makes a payment's next step: its credit at the first hop, its
// pennies, and the final payee's acknowledgement.
func (b *Banks) sendStep(ctx context.Context, ref engine.Ref) (func(engine.Tx) ([]engine.Delivery, error), error) {
	state, err := b.cfg.Engine.State(ctx, ref)
	if err != nil {
		return nil, err
	}
	s := state.(bank.Sending)
	// A step that is paid for is requested until there is an answer. If its user ends
	// the payment meanwhile, a failure of the first hop is one too: that hop knows of
	// the step, and a thief's would never end.
	if s.Done() || s.Ended && (!s.Waiting() || s.Unsure) {
		return nil, nil
	}
	say := func(list ...engine.Delivery) (func(engine.Tx) ([]engine.Delivery, error), error) {
		return func(engine.Tx) ([]engine.Delivery, error) { return list, nil }, ctx.Err()
	}
	if s.Unsure {
		why, err := b.elsewhere(ctx, &s)
		switch {
		case err != nil:
			return nil, err
		case why != nil && s.Waiting():
			t := s.Transfer()
			return b.stepRefused(ctx, ref, &t, false, why)
		case why != nil:
			return say(engine.Delivery{Ref: ref, Event: bank.StepRefused{Why: why.Error()}})
		case !s.Waiting():
			return b.askUnsure(ctx, ref, &s)
		}
	}
	asked := false // for the reserve, just now
	if !s.Waiting() {
		asked = true
		why, err := b.assignOrReroute(ctx, ref, &s)
		if err != nil {
			return nil, err
		}
		if why != "" {
			return say(engine.Delivery{Ref: ref, Event: bank.StepRefused{Why: why}})
		}
	}
	p, err := b.payer(ctx, s.Current().Bank)
	if err != nil {
		return nil, err
	}
	if p.Acked < p.Target {
		if err := b.streamPennies(ctx, payerRef(p.Bank)); err != nil {
			return nil, err
		}
	}
	t := s.Transfer()
	note, err := b.noteOf(&t, &s.Order)
	if err != nil {
		return nil, err
	}
	ack, err := b.cfg.Calls.Transfer(ctx, p.Terms.Peer, b.as(&p), &t, note)
	var refused *p2p.Refused
	switch {
	case errors.As(err, &refused) && !slices.Contains([]wire.Code{wire.Busy, wire.Internal, wire.NotConfirmed}, refused.Code):
		return b.stepRefused(ctx, ref, &t, !asked && refused.Code == wire.NoCredit, err)
	case s.Ended && (p.Spend != nil || errors.As(err, &refused) && refused.Code == wire.Internal):
		return nil, nil
	case err != nil:
		return nil, err
	}
	verified, err := bank.VerifyAck(s.ID, s.Order.Payee, *ack)
	if err != nil || ack.Index != s.Index || ack.Total != s.Asked {
		return say(engine.Delivery{Ref: ref, Event: bank.StepRefused{Why: bank.ErrBadAck.Error(), Index: t.Index}})
	}
	return func(tx engine.Tx) ([]engine.Delivery, error) {
		list := []engine.Delivery{{Ref: ref, Event: bank.StepAcked{Ack: *ack, Verified: verified}}, {Ref: payerRef(t.Bank), Event: bank.Acknowledged{ID: s.ID, Index: t.Index}}}
		next, err := b.assignNext(tx, ref, &t)
		return append(list, next...), err
	}, ctx.Err()
}

// assignNext makes credit for the step after one that is acknowledged, in the same
// commit. It returns nothing if that needs a question first, or is not possible:
// then the next SendStep does it.
func (b *Banks) assignNext(tx engine.Tx, ref engine.Ref, t *wire.Transfer) ([]engine.Delivery, error) {
	state, err := b.cfg.Engine.StateIn(tx, ref)
	if err != nil {
		return nil, err
	}
	s := state.(bank.Sending)
	if !s.Waiting() || s.Index != t.Index || s.Asked == s.Order.Total || s.Ended {
		return nil, nil // it has changed meanwhile
	}
	s.Acked = s.Asked
	l := s.Current()
	if state, err = b.cfg.Engine.StateIn(tx, payerRef(l.Bank)); errors.Is(err, engine.ErrNoContract) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	p := state.(bank.Payer)
	a := bank.Assigned{ID: s.ID, Index: s.Index + 1, Amount: s.Credit(), Banker: len(l.Bankers) > 0}
	if a.Banker {
		told, ok := b.reserves.Get(p.Bank)
		if !ok || time.Since(told.at) > reserveTime || told.reserve > b.mostReserve(&p) {
			return nil, nil
		}
		a.Reserve = told.reserve
	}
	p, _, err = p.Step(bank.Acknowledged{ID: s.ID, Index: t.Index})
	if err == nil {
		_, _, err = p.Step(a)
	}
	if err != nil {
		return nil, nil
	}
	return []engine.Delivery{{Ref: payerRef(p.Bank), Event: a}, {Ref: ref, Event: bank.StepPaid{Index: a.Index}}}, nil
}

// reserveTime is how long a banker's reserve is taken as it was. If it has risen,
// the banker refuses the step, and is asked again.
const reserveTime = 10 * time.Second

// toldReserve is a banker's reserve and when it was told.
type toldReserve struct {
	reserve wire.Sat
	at      time.Time
}

// elsewhere asks, after a restore, whether a payment's step was paid over another
// bank since the backup: the payment may have been rerouted. It returns nil if the
// step's own bank has it, or no bank of ours does. A payee that does not answer is
// asked again.
func (b *Banks) elsewhere(ctx context.Context, s *bank.Sending) (why, err error) {
	t := s.Transfer()
	if !s.Waiting() {
		t = s.Next()
	}
	own, err := b.payer(ctx, t.Bank)
	if err != nil {
		return nil, err
	}
	if why, err = b.hasStep(ctx, s, &t, &own); why != nil || err != nil {
		return nil, err
	}
	var list []bank.Payer
	if err := b.Payers(ctx, func(p bank.Payer) error {
		open := p.Spend == nil && (p.Behind || p.Target > 0)
		if p.Bank != t.Bank && p.Confirmed != nil && (open || p.Rewound) {
			list = append(list, p)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for i := range list {
		why, err := b.hasStep(ctx, s, &t, &list[i])
		if err != nil {
			return nil, err
		}
		if why != nil {
			return fmt.Errorf("after a restore: bank %v has this step or a later one: %w", list[i].Bank, why), nil
		}
	}
	return nil, nil
}

// hasStep returns a refusal if a bank's payee has a payment's step, or a later one.
// It asks for a step of more than the bank's value, which is never accepted.
func (b *Banks) hasStep(ctx context.Context, s *bank.Sending, t *wire.Transfer, p *bank.Payer) (why, err error) {
	step := t.Total - s.Acked
	probe := wire.Transfer{ID: t.ID, Index: t.Index, Bank: p.Bank, Amount: p.Ladder.Value.Msat() + step, Total: t.Total}
	if final := p.Terms.Peer.Key == s.Order.Payee; final {
		probe.Total = s.Acked + probe.Amount
	} else {
		probe.Hops = []wire.Hop{{Key: s.Order.Payee, Amount: step}}
	}
	note, err := b.noteOf(&probe, &s.Order)
	if err != nil {
		return nil, err
	}
	_, err = b.cfg.Calls.Transfer(ctx, p.Terms.Peer, b.as(p), &probe, note)
	var refused *p2p.Refused
	if !errors.As(err, &refused) {
		return nil, cmp.Or(err, bank.ErrBadAck)
	}
	switch refused.Code {
	case wire.Busy, wire.Internal, wire.NotConfirmed:
		return nil, err
	case wire.NoCredit, wire.NoRoute, wire.Unknown, wire.Spent, wire.Closed: // a step that it has is refused otherwise
		return nil, nil
	}
	return err, nil
}

// askUnsure asks, after a restore, for the acknowledgement of the next step
// before anything is paid for it, because the first hop may have it, or the credit
// for it.
func (b *Banks) askUnsure(ctx context.Context, ref engine.Ref, s *bank.Sending) (func(engine.Tx) ([]engine.Delivery, error), error) {
	t := s.Next()
	p, err := b.payer(ctx, t.Bank)
	if err != nil {
		return nil, err
	}
	note, err := b.noteOf(&t, &s.Order)
	if err != nil {
		return nil, err
	}
	ack, err := b.cfg.Calls.Transfer(ctx, p.Terms.Peer, b.as(&p), &t, note)
	list := []engine.Delivery{{Ref: ref, Event: bank.Sure{}}}
	var refused *p2p.Refused
	switch {
	case errors.As(err, &refused) && slices.Contains([]wire.Code{wire.NoCredit, wire.Spent, wire.Closed}, refused.Code): // it is new to it
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

// assignOrReroute makes credit for a payment's next step, on another way if the
// planned one has not enough. why is the reason if there is none.
func (b *Banks) assignOrReroute(ctx context.Context, ref engine.Ref, s *bank.Sending) (why string, err error) {
	why, err = b.assignStep(ctx, ref, s)
	mute := errors.Is(err, errMute) && b.tries(ref) >= muteTries
	if !mute && (err != nil || why == "") {
		return why, err
	}
	other, rerr := b.replan(ctx, s, mute)
	if rerr != nil || other == nil {
		return why, cmp.Or(err, rerr) // a hop that does not answer is asked again
	}
	state, terr := b.cfg.Engine.Tell(ctx, ref, *other)
	if errors.Is(terr, engine.ErrContract) {
		return why, err // the fees, or it has ended
	}
	if terr != nil {
		return "", terr
	}
	*s = state.(bank.Sending)
	return b.assignStep(ctx, ref, s)
}

// errMute means that the first hop did not answer, so nothing was assigned.
var errMute = errors.New("the first hop does not answer")

// muteTries is how often a first hop is asked before a payment takes another way.
const muteTries = 3

// tries counts how often in a row a payment's first hop did not answer.
func (b *Banks) tries(ref engine.Ref) int {
	n, _ := b.mute.Get(ref)
	b.mute.Add(ref, n+1)
	return n + 1
}

// assignStep orders the pennies of a payment's next step, in the commit that
// records it as requested. why is the reason if that is not possible.
func (b *Banks) assignStep(ctx context.Context, ref engine.Ref, s *bank.Sending) (why string, err error) {
	l := s.Current()
	p, err := b.payer(ctx, l.Bank)
	if err == nil {
		err = p.Spendable()
	}
	if errors.Is(err, ErrNoBank) || errors.Is(err, bank.ErrNotOpen) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	st, err := b.cfg.Calls.BankState(ctx, p.Terms.Peer, b.as(&p))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errMute, err)
	}
	b.mute.Remove(ref)
	banker := len(l.Bankers) > 0
	b.reserves.Add(p.Bank, toldReserve{st.Reserve, time.Now()})
	if most := b.mostReserve(&p); banker && st.Reserve > most {
		return fmt.Sprintf("the banker's reserve for closing is %v, at most %v is accepted", st.Reserve, most), nil
	}
	states, err := b.cfg.Engine.TellAll(ctx, []engine.Delivery{
		{Ref: payerRef(p.Bank), Event: bank.Assigned{ID: s.ID, Index: s.Index + 1, Amount: s.Credit(), Banker: banker, Reserve: st.Reserve}},
		{Ref: ref, Event: bank.StepPaid{Index: s.Index + 1}}})
	if errors.Is(err, bank.ErrUnacked) {
		running, rerr := b.outstandingRuns(ctx, p.Bank)
		if rerr != nil || running {
			return "", cmp.Or(rerr, err)
		}
	}
	if errors.Is(err, engine.ErrContract) && !errors.Is(err, bank.ErrWrongPhase) {
		return err.Error(), nil
	}
	if err != nil { // also if the payment has changed meanwhile
		return "", err
	}
	*s = states[1].(bank.Sending)
	return "", nil
}

// outstandingRuns reports whether the payment whose step a bank waits for goes on,
// so that the bank will be free again.
func (b *Banks) outstandingRuns(ctx context.Context, id bank.ID) (bool, error) {
	p, err := b.payer(ctx, id)
	if err != nil || p.Outstanding == nil {
		return err == nil, err
	}
	state, err := b.cfg.Engine.State(ctx, sendingRef(*p.Outstanding))
	if errors.Is(err, engine.ErrNoContract) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	other := state.(bank.Sending)
	return !other.Ended, nil
}

// mostReserve returns the largest reserve for closing that is accepted from a
// banker.
func (b *Banks) mostReserve(p *bank.Payer) wire.Sat {
	return 2*bank.CloseCost(p.Ladder.Rungs, 2*b.cfg.Engine.FeeRate()) + 1000
}

// stepRefused ends a payment whose step is refused. If the first hop proves
// that its credit is unchanged except for earlier steps, the step counts as not
// requested; then, with again, the payment continues.
func (b *Banks) stepRefused(ctx context.Context, ref engine.Ref, t *wire.Transfer, again bool, why error) (func(engine.Tx) ([]engine.Delivery, error), error) {
	p, err := b.payer(ctx, t.Bank)
	if err != nil {
		return nil, err
	}
	st, err := b.cfg.Calls.BankState(ctx, p.Terms.Peer, b.as(&p))
	if err != nil {
		return nil, err
	}
	unlock, err := b.lock(ctx, p.Bank)
	if err != nil {
		return nil, err
	}
	count, err := countOf(&p, b.purse(&p), st.Known)
	unlock()
	if err != nil {
		return nil, err
	}
	paid := p.Ladder.Paid(count)
	if len(t.Hops) > 0 {
		paid = max(p.Ladder.Share(p.Ladder.Rung(count))-st.Reserve, 0).Msat()
	}
	// What the user paid directly, the payee may have charged.
	before := p.Used() - min(p.Used(), t.Amount)
	back := p.Outstanding != nil && *p.Outstanding == t.ID && st.Reserve <= b.mostReserve(&p) && st.Credit >= paid-min(paid, before)
	list := []engine.Delivery{{Ref: ref, Event: bank.StepRefused{Why: why.Error(), Back: back, Index: t.Index, Again: again}}}
	if back {
		list = append(list, engine.Delivery{Ref: payerRef(p.Bank), Event: bank.Unassigned{ID: t.ID, Index: t.Index, Amount: t.Amount}})
	}
	return func(engine.Tx) ([]engine.Delivery, error) { return list, ctx.Err() }, nil
}
