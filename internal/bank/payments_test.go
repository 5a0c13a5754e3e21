package bank_test

import (
	"errors"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/wire"
)

// pay1 starts a payment through bankers, over the bank with the first hop.
func (h *house) pay1(o bank.Order) (wire.Hash, error) {
	id := h.world.hash()
	s, effects, err := bank.NewSending(id, o)
	if err != nil {
		return id, err
	}
	h.create(ref{sending, id}, s, effects)
	h.settle()
	return id, nil
}

// reserve of a banker: its closing cost at twice the fee rate.
func (h *house) reserve(id bank.ID) wire.Sat {
	return bank.CloseCost(h.payee(id).Ladder.Rungs, 2*h.rate)
}

// sendStep takes a payment's next step.
func (h *house) sendStep(id wire.Hash) (answers []delivery, again bool) {
	self := ref{sending, id}
	s := h.sending(id)
	if s.Ended || s.Done() {
		return nil, false
	}
	bid := s.Current().Bank
	p := h.payer(bid)
	peer := h.find(p.Terms.Peer.Key)
	if peer == nil {
		return nil, true
	}
	banker := len(s.Current().Bankers) > 0
	if !s.Waiting() {
		var reserve wire.Sat
		if banker {
			reserve = peer.reserve(bid)
		}
		err := h.try(delivery{ref{payer, bid}, bank.Assigned{ID: id, Index: s.Index + 1, Amount: s.Credit(), Banker: banker, Reserve: reserve}},
			delivery{self, bank.StepPaid{Index: s.Index + 1}})
		if err != nil {
			if l, ok := h.otherWay(&s); ok && h.try(delivery{self, bank.Rerouted{Legs: []bank.Leg{l}}}) == nil {
				return nil, true
			}
			return []delivery{{self, bank.StepRefused{Why: err.Error()}}}, false
		}
		s = h.sending(id)
	}
	if h.stream(bid) == errAway {
		return nil, true
	}
	t := s.Transfer()
	must(h.t, t.Check())
	ack, err := peer.transfer(&t)
	var refused *wire.Refusal
	switch {
	case errors.As(err, &refused) && !slices.Contains([]wire.Code{wire.Busy, wire.NotConfirmed}, refused.Code):
		// Whether the credit is as it was shows in what is left of it.
		y, p := peer.payee(bid), h.payer(bid)
		left := p.Assigned - t.Amount
		paid := p.Ladder.Paid(y.Count())
		if banker {
			paid = max(p.Ladder.Share(y.Rung())-peer.reserve(bid), 0).Msat()
		}
		back := y.Credit(banker, peer.reserve(bid)) == paid-min(paid, left)
		if answers = []delivery{{self, bank.StepRefused{Why: err.Error(), Back: back, Index: t.Index}}}; back {
			answers = append(answers, delivery{ref{payer, bid}, bank.Unassigned{ID: id, Index: t.Index, Amount: t.Amount}})
		}
		return answers, false
	case err != nil:
		return nil, true
	}
	if s.Order.Payee.Verify(wire.TransferDigest(id, ack.Index, ack.Total, s.Order.Payee), ack.Sig) != nil || ack.Index != s.Index || ack.Total != s.Asked {
		return []delivery{{self, bank.StepRefused{Why: bank.ErrBadAck.Error(), Index: t.Index}}}, false
	}
	return []delivery{{self, bank.StepAcked{Ack: *ack}}, {ref{payer, bid}, bank.Acknowledged{ID: id, Index: t.Index}}}, false
}

// otherWay returns another bank of h with the same first hop, which can pay the
// rest of a payment.
func (h *house) otherWay(s *bank.Sending) (bank.Leg, bool) {
	l := s.Current()
	was := h.payer(l.Bank)
	peer := h.find(was.Terms.Peer.Key)
	for _, o := range h.order {
		p, ok := h.states[o].(bank.Payer)
		if !ok || o.id == l.Bank || p.Terms.Peer.Key != was.Terms.Peer.Key || p.Spendable() != nil || p.Outstanding != nil {
			continue
		}
		room, left := p.Left(), s.Order.Total-s.Asked
		if len(l.Bankers) > 0 {
			room = p.Closable(peer.reserve(o.id))
		}
		if room >= left+l.Fees(left, s.Order.Step) {
			return bank.Leg{From: s.Asked, Bank: o.id, Bankers: l.Bankers}, true
		}
	}
	return l, false
}

// transfer takes a step as a banker, or as its final payee.
func (h *house) transfer(t *wire.Transfer) (*wire.TransferAck, error) {
	if h.states[ref{payee, t.Bank}] == nil {
		return nil, wire.Refuse(wire.Unknown, "no such bank")
	}
	if err := t.Check(); err != nil {
		return nil, wire.Refuse(wire.BadRequest, "%w", err)
	}
	final := len(t.Hops) == 0
	rr := ref{relay, bank.RelayID(t.Bank, t.ID)}
	if final {
		rr.id = bank.ReceivedID(t.ID)
	}
	r, ok := h.states[rr].(bank.Relay)
	if !ok {
		r = bank.NewRelay(t.Bank, t.ID)
	}
	fresh, err := r.Fresh(t)
	if err != nil {
		return nil, err
	}
	if fresh {
		banker := h.fees != nil && !final
		var reserve wire.Sat
		if banker {
			reserve = h.reserve(t.Bank)
		}
		list := []delivery{{ref{payee, t.Bank}, bank.Passed{Amount: t.Amount, Banker: banker, Reserve: reserve}}}
		var out bank.ID
		if !final && h.steals {
			if h.try(list[0]) == nil {
				h.earned[t.Bank] += t.Amount
			}
			return nil, errAway
		}
		if !final {
			if h.fees == nil || t.Amount-t.Hops[0].Amount < h.fees.Of(t.Hops[0].Amount) {
				return nil, wire.Refuse(wire.BadRequest, "not for this fee")
			}
			next, amount := h.find(t.Hops[0].Key), t.Hops[0].Amount
			if next == nil {
				return nil, wire.Refuse(wire.Busy, "the next hop is away")
			}
			if h.skims {
				amount = 1
			}
			nextBanker := len(t.Hops) > 1
			for _, o := range h.order {
				p, ok := h.states[o].(bank.Payer)
				if !ok || p.Terms.Peer.Key != t.Hops[0].Key {
					continue
				}
				a := bank.Assigned{ID: t.ID, Index: t.Index, Amount: amount, Banker: nextBanker, Relayed: true}
				if nextBanker {
					a.Reserve = next.reserve(o.id)
				}
				if _, _, err := p.Step(a); err == nil {
					out = o.id
					list = append(list, delivery{o, a})
					break
				}
			}
			if out == (bank.ID{}) {
				return nil, wire.Refuse(wire.Unknown, "no way to the next hop")
			}
		}
		if !ok {
			h.order = append(h.order, rr)
			h.states[rr] = r
		}
		if err := h.try(append(list, delivery{rr, bank.Relayed{Step: *t, Out: out}})...); err != nil {
			return nil, err
		}
		r = h.states[rr].(bank.Relay)
		h.earned[t.Bank] += t.Amount
	}
	if r.Ack == nil {
		ack, err := h.passOn(&r, t)
		if err != nil {
			return nil, err
		}
		if err := h.try(delivery{rr, bank.Answered{Ack: *ack}}); err != nil {
			return nil, err
		}
		r = h.states[rr].(bank.Relay)
	}
	if h.silent {
		return nil, errAway
	}
	return r.Ack, nil
}

// passOn gets the final payee's word for a step that is assigned.
func (h *house) passOn(r *bank.Relay, t *wire.Transfer) (*wire.TransferAck, error) {
	ack := &wire.TransferAck{Index: t.Index, Total: t.Total}
	if len(t.Hops) == 0 || h.forges {
		k, err := h.secret.PrivKey()
		must(h.t, err)
		d := wire.TransferDigest(t.ID, t.Index, t.Total, h.key)
		sig, err := schnorr.Sign(k, d[:])
		must(h.t, err)
		copy(ack.Sig[:], sig.Serialize())
		return ack, nil
	}
	if err := h.stream(r.Out); err == errAway {
		return nil, wire.Refuse(wire.Busy, "the next hop is away")
	}
	next := h.find(t.Hops[0].Key)
	if next == nil {
		return nil, wire.Refuse(wire.Busy, "the next hop is away")
	}
	n := wire.Transfer{ID: t.ID, Index: t.Index, Bank: r.Out, Amount: t.Hops[0].Amount, Total: t.Total, Hops: t.Hops[1:]}
	if h.skims {
		n.Amount = 1
	}
	return next.transfer(&n)
}
