package node

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// thief is a banker that from a step on takes the credit, and passes nothing on.
type thief struct {
	p2p.Banks
	n     func() *Node
	from  uint32
	steps atomic.Int32 // that it stole
}

func (f *thief) Transfer(ctx context.Context, t *wire.Transfer, note *wire.Note) (*wire.TransferAck, error) {
	if t.Index < f.from {
		return f.Banks.Transfer(ctx, t, note)
	}
	f.steps.Add(1)
	n := f.n()
	_, _ = n.engine.Tell(ctx, payeeRef(t.Bank), bank.Passed{Amount: t.Amount, Banker: true})
	return nil, errors.New("thank you")
}

// road is payer – banker – payee, with a bank each.
func road(t *testing.T, steals *thief) (w *town, from, banker, to *home, first, second bank.ID) {
	w = emptyTown(t)
	fees := &wire.Fees{Base: 100, PPM: 1000}
	from, to = w.home("payer", nil), w.payee("payee", nil)
	banker = w.home("banker", nil)
	banker.cfg.Banking = &banking.Policy{Policy: taking, Fees: fees}
	banker.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	if steals != nil {
		steals.n = func() *Node { return banker.node }
		banker.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks {
			steals.Banks = b
			return steals
		}
	}
	banker.start()
	banker.cfg.Listen = banker.node.Addrs()
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	w.fund(banker, 1_000_000)
	first = w.opened(from, banker, 90_000, 126, 10)
	second = w.opened(banker, to, 90_000, 126, 10)
	return w, from, banker, to, first, second
}

func (w *town) sending(h *home, id wire.Hash) *bank.Sending {
	w.t.Helper()
	s, err := h.node.Engine().State(w.t.Context(), sendingRef(id))
	must(w.t, err)
	p := s.(bank.Sending)
	return &p
}

// TestBankerHoldsOneStep: a banker that steals has one step, beyond what the payer
// has deposited there anyway, and gets nothing more.
func TestBankerHoldsOneStep(t *testing.T) {
	tier.NotShort(t)
	f := &thief{from: 3}
	w, from, _, to, first, second := road(t, f)
	const step = wire.Msat(2_000_000)
	id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: 10 * step, Step: step, MaxFee: 1_000_000})
	must(t, err)
	for end := time.Now().Add(5 * time.Minute); f.steps.Load() < 3; time.Sleep(10 * time.Millisecond) { // it is asked again, and again
		if time.Now().After(end) {
			t.Fatal("the thief was not asked three times")
		}
	}
	s := w.sending(from, id)
	if s.Acked != 2*step || s.Asked != 3*step || s.State() != "paying" {
		t.Fatalf("%v acknowledged, %v asked, %s", s.Acked, s.Asked, s.State())
	}
	p := w.payer(from, first)
	reserve := bank.CloseCost(126, 2*from.node.Engine().FeeRate())
	rung := p.Ladder.Paid(p.Ladder.PerRung)
	if lost, most := p.Ladder.Paid(p.Target)-s.Acked, step+s.Fees+rung+reserve.Msat()+1000; lost > most {
		t.Errorf("the thief has %v of the payer's, more than a step, a rung and the reserve, %v", lost, most)
	}
	if y := w.payeeOf(to, second); y.Assigned != 2*step {
		t.Errorf("the payee counts %v", y.Assigned)
	}
	// No other payment goes through it: it waits, and ends if this one does.
	other, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: step, Step: step, MaxFee: 1_000_000})
	must(t, err)
	time.Sleep(300 * time.Millisecond)
	if s := w.sending(from, other); s.Asked != 0 {
		t.Errorf("a second payment: %s, %v asked", s.State(), s.Asked)
	}
	must(t, from.node.Banks.EndPayment(t.Context(), id))
	for end := time.Now().Add(5 * time.Minute); w.sending(from, other).State() == "paying"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a second payment does not end")
		}
	}
	if s := w.sending(from, other); s.Asked != 0 || s.State() != "ended" {
		t.Errorf("a second payment: %s, %v asked: %s", s.State(), s.Asked, s.Why)
	}
}

// TestBankerDies: a banker that dies costs time; it goes on from its files with the
// very step.
func TestBankerDies(t *testing.T) {
	tier.NotShort(t)
	w, from, banker, to, _, second := road(t, nil)
	must(t, banker.node.Close())
	id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: 5_000_000, Step: 2_000_000, MaxFee: 1_000_000})
	if !errors.Is(err, banking.ErrNoRoute) {
		t.Fatalf("%v, %v", id, err)
	}
	banker.start()
	if id, err = from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: 5_000_000, Step: 500_000, MaxFee: 1_000_000}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Minute); w.sending(from, id).Index < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no second step")
		}
	}
	must(t, banker.node.Close())
	banker.start()
	for end := time.Now().Add(5 * time.Minute); !w.sending(from, id).Done(); time.Sleep(10 * time.Millisecond) {
		if s := w.sending(from, id); time.Now().After(end) || s.Ended {
			t.Fatalf("%s: %s", s.State(), s.Why)
		}
	}
	if y := w.payeeOf(to, second); y.Assigned != 5_000_000 {
		t.Errorf("the payee counts %v", y.Assigned)
	}
}

// TestPayeeAway: a payee that does not answer costs no step: nothing is used for a
// hop that is not there.
func TestPayeeAway(t *testing.T) {
	tier.NotShort(t)
	w, from, banker, to, first, _ := road(t, nil)
	must(t, to.node.Close())
	delete(w.homes, "payee")
	key, err := KeyOf(to.cfg.Seed)
	must(t, err)
	id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: key, Amount: 2_000_000, Step: 1_000_000, MaxFee: 1_000_000})
	must(t, err)
	for end := time.Now().Add(5 * time.Minute); !w.sending(from, id).Ended; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not end")
		}
	}
	s, p := w.sending(from, id), w.payer(from, first)
	if s.Asked != 0 || p.Assigned != 0 || p.Outstanding != nil {
		t.Errorf("%v asked, %v assigned, outstanding %v: %s", s.Asked, p.Assigned, p.Outstanding, s.Why)
	}
	if y := w.payeeOf(banker, first); y.Assigned != 0 {
		t.Errorf("the banker used %v", y.Assigned)
	}
	to.start()
	w.homes["payee"] = to
	must(t, from.node.Banks.ResumePayment(t.Context(), id))
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		s := w.sending(from, id)
		if s.Done() {
			break
		}
		if time.Now().After(end) || s.Ended {
			t.Fatalf("%s: %s", s.State(), s.Why)
		}
	}
}

// TestUnusedComesBack: a small payment over a banker takes a whole rung; the close by
// both gives back what no payment has used, and no more: what the user paid directly
// is the banker's.
func TestUnusedComesBack(t *testing.T) {
	for _, direct := range []uint32{0, 40} {
		w, from, banker, to, first, _ := road(t, nil)
		if direct > 0 {
			w.pay(from, first, direct)
		}
		pay := banking.Payment{To: to.node.Key(), Amount: 10_000, MaxFee: 10_000}
		o, err := from.node.Banks.PlanPayment(t.Context(), pay)
		must(t, err)
		now, after, err := from.node.Banks.Exposed(t.Context(), o)
		must(t, err)
		id, err := from.node.Banks.PayTo(t.Context(), pay)
		must(t, err)
		for end := time.Now().Add(20 * time.Second); !w.sending(from, id).Ended; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the payment does not end")
			}
		}
		if s := w.sending(from, id); s.State() != "paid" {
			t.Fatal(s.State(), s.Why)
		}
		p := w.payer(from, first)
		unused, used := p.Unused(), min(p.Assigned+p.Ladder.Paid(direct), p.Ladder.Paid(p.Target))
		if now != 0 || direct == 0 && unused == 0 || unused > after || unused+used < p.Ladder.Paid(p.Target) {
			t.Errorf("%v unused of %v, %v before, at most %v planned", unused, p.Ladder.Paid(p.Target), now, after)
		}
		must(t, from.node.Banks.CloseBank(t.Context(), payerRef(first)))
		w.settle()
		w.mine(2)
		p = w.payer(from, first)
		y := w.payeeOf(banker, first)
		if p.Spend == nil || !p.Spend.Together {
			t.Fatalf("it is %s: %s", p.State(), p.Failure)
		}
		got := p.Ladder.Value - p.Spend.Change // the banker's, with the fee
		least, most := used.Whole(), max(used.Whole(), y.Offer.Fee+contract.Dust)+1
		if got < least || got > most {
			t.Errorf("%d direct: the banker has %v of %v, %v to %v are used", direct, got, p.Ladder.Paid(p.Target), least, most)
		}
	}
}
