package node

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// ended waits until a payment ends, paid or not.
func (w *town) ended(h *home, id wire.Hash) *bank.Sending {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if s := w.sending(h, id); s.Ended {
			return s
		}
		if time.Now().After(end) {
			w.t.Fatal("the payment does not end")
		}
	}
}

// useless makes a payer believe that a bank's payee accepts no more.
func (w *town) useless(h *home, id bank.ID) {
	w.t.Helper()
	_, err := h.node.engine.Tell(w.t.Context(), payerRef(id), bank.Streamed{Count: w.payer(h, id).Acked, Why: "not now"})
	must(w.t, err)
}

// TestRestoredLegs: a payment over two banks, whose payer is made anew of a backup
// from the middle of it, pays no step again: neither what the second bank was paid
// as planned, nor what it was paid because the first became useless, even if the
// second is closed since.
func TestRestoredLegs(t *testing.T) {
	tier.NotShort(t)
	for _, how := range []string{"planned", "rerouted", "closed"} {
		rerouted := how != "planned"
		w, from, banker, to, first, _ := road(t, nil)
		second := w.opened(from, banker, 90_000, 126, 10)
		w.fund(banker, 1_000_000)
		w.opened(banker, to, 90_000, 126, 10)
		amount := wire.Msat(120_000_000)
		if rerouted {
			amount = 60_000_000
		}
		o, err := from.node.Banks.PlanPayment(t.Context(), banking.Payment{To: to.node.Key(), Amount: amount, MaxFee: 1_000_000})
		must(t, err)
		if legs := o.Legs(); rerouted != (len(legs) == 1) {
			t.Fatalf("%+v", legs)
		}
		if o.Bank != first {
			first, second = second, first
		}
		at := 2 * o.Step // of the total, with the step under way at the time of the backup
		if !rerouted {
			at = o.More[0].From // the first bank's last
		}
		var saved string
		var over atomic.Bool
		must(t, banker.node.Close())
		banker.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks {
			return &watched{Banks: b, step: func(tr *wire.Transfer) error {
				if tr.Bank != first || tr.Total < at || over.Load() {
					return nil
				}
				if saved == "" {
					saved = from.save("old")
				}
				over.Store(true)
				if rerouted {
					return wire.Refuse(wire.NoRoute, "not now")
				}
				return nil
			}}
		}
		banker.start()
		id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: amount, MaxFee: 1_000_000, Reference: "117"})
		must(t, err)
		if rerouted {
			if s := w.ended(from, id); s.Acked != s.Asked || s.Asked != at-o.Step {
				t.Fatalf("%s, step %d: %s", s.State(), s.Index, s.Why)
			}
			w.useless(from, first)
			must(t, from.node.Banks.ResumePayment(t.Context(), id))
		}
		w.paid(from, id)
		held := func() (n [2]uint32, used wire.Msat) {
			for i, b := range []bank.ID{first, second} {
				y := w.payeeOf(banker, b)
				n[i], used = y.Count(), used+y.Assigned
			}
			return n, used
		}
		pennies, used := held()
		if how == "closed" {
			must(t, from.node.Banks.CloseBank(t.Context(), payerRef(second)))
			w.settle()
			w.mine(2)
			if p := w.payer(from, second); p.Spend == nil {
				t.Fatalf("it is %s: %s", p.State(), p.Failure)
			}
		}
		from.lose(saved)
		for range 2 {
			must(t, from.node.Banks.ResumePayment(t.Context(), id))
			if s := w.ended(from, id); s.Done() || s.Why == "" {
				t.Fatalf("%s: %s", how, s.State())
			}
			if now, usedNow := held(); now != pennies || usedNow != used {
				t.Fatalf("%s: the banker has %v pennies and used %v, and had %v and %v: %s", how, now, usedNow, pennies, used, w.sending(from, id).Why)
			}
		}
		if got := w.assigned(to); got != amount {
			t.Errorf("the payee counts %v", got)
		}
	}
}

// TestReroutedStaysSmall: a payment without bankers that has to go on over a banker
// risks a tenth of the rest there, not all of it.
func TestReroutedStaysSmall(t *testing.T) {
	tier.NotShort(t)
	w, from, _, to, _, _ := road(t, nil)
	id := w.opened(from, to, 60_000, 126, 10)
	f := func(tr *wire.Transfer) error {
		if tr.Bank == id {
			return wire.Refuse(wire.NoRoute, "not now")
		}
		return nil
	}
	must(t, to.node.Close())
	to.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks { return &watched{Banks: b, step: f} }
	to.start()
	const amount = wire.Msat(50_000_000)
	pay, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: amount, MaxFee: 1_000_000, Reference: "117"})
	must(t, err)
	if s := w.ended(from, pay); s.Asked != 0 || s.Order.Step != amount || len(s.Order.Bankers) > 0 {
		t.Fatalf("%s, %v: %+v", s.State(), s.Asked, s.Order)
	}
	w.useless(from, id)
	must(t, from.node.Banks.ResumePayment(t.Context(), pay))
	s := w.paid(from, pay)
	if s.Order.Step != amount/10 || s.Index != 10 || len(s.Order.Bankers) != 1 {
		t.Errorf("%d steps of %v over %+v", s.Index, s.Order.Step, s.Order.Legs())
	}
	w.receivedOnce(from, to, s, amount)
}

// TestPaymentsTakeTurns: a payment waits for a bank whose step of another payment
// is under way, and ends only if that one does not go on.
func TestPaymentsTakeTurns(t *testing.T) {
	tier.NotShort(t)
	w, from, banker, to, _, _ := road(t, nil)
	var hold atomic.Bool
	hold.Store(true)
	held := make(chan struct{}, 1)
	must(t, banker.node.Close())
	banker.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks {
		return &watched{Banks: b, step: func(*wire.Transfer) error {
			if !hold.Load() {
				return nil
			}
			select {
			case held <- struct{}{}:
			default:
			}
			return errors.New("a moment")
		}}
	}
	banker.start()
	pay := banking.Payment{To: to.node.Key(), Amount: 5_000_000, MaxFee: 1_000_000}
	one, err := from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	<-held
	two, err := from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	time.Sleep(500 * time.Millisecond)
	if s := w.sending(from, two); s.Ended || s.Asked != 0 {
		t.Fatalf("the second payment is %s: %s", s.State(), s.Why)
	}
	hold.Store(false)
	w.paid(from, one)
	w.paid(from, two)
	hold.Store(true)
	one, err = from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	for !w.sending(from, one).Waiting() {
		time.Sleep(time.Millisecond)
	}
	must(t, from.node.Banks.EndPayment(t.Context(), one))
	two, err = from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	if s := w.ended(from, two); s.Asked != 0 || s.State() != "ended" {
		t.Errorf("the second payment is %s: %s", s.State(), s.Why)
	}
}

// TestEndedStepIsFinished: a step that is paid for when its user ends the payment is
// requested until it is acknowledged, also after a restart, and no other follows.
func TestEndedStepIsFinished(t *testing.T) {
	tier.NotShort(t)
	for _, i := range tier.NewSample(t).Choose(2, 1) {
		restart := i == 1
		w, from, banker, to, first, second := road(t, nil)
		var hold atomic.Bool
		hold.Store(true)
		must(t, banker.node.Close())
		banker.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks {
			return &watched{Banks: b, step: func(*wire.Transfer) error {
				if hold.Load() {
					return wire.Refuse(wire.Busy, "a moment")
				}
				return nil
			}}
		}
		banker.start()
		id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: 5_000_000, MaxFee: 1_000_000})
		must(t, err)
		for !w.sending(from, id).Waiting() {
			time.Sleep(time.Millisecond)
		}
		must(t, from.node.Banks.EndPayment(t.Context(), id))
		time.Sleep(time.Second) // it is asked once more, in vain
		if restart {
			must(t, from.node.Close())
			from.start()
		}
		hold.Store(false)
		for end := time.Now().Add(time.Minute); w.sending(from, id).Waiting(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("restart %v: %s", restart, w.sending(from, id).State())
			}
		}
		w.settle()
		s := w.sending(from, id)
		if p := w.payer(from, first); s.State() != "ended" || s.Index != 1 || p.Outstanding != nil || w.payeeOf(to, second).Assigned != s.Acked {
			t.Errorf("restart %v: %s after step %d, outstanding %v", restart, s.State(), s.Index, p.Outstanding)
		}
		must(t, from.node.Banks.ResumePayment(t.Context(), id))
		if s := w.paid(from, id); w.payeeOf(to, second).Assigned != s.Order.Total {
			t.Errorf("the payee counts %v", w.payeeOf(to, second).Assigned)
		}
	}
}

// TestFreeBankFirst: a payment is planned over a bank that takes a step now, and not
// over one that waits for an acknowledgement, though that would order fewer pennies.
func TestFreeBankFirst(t *testing.T) {
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	one, two := w.opened(from, to, 60_000, 126, 10), w.opened(from, to, 60_000, 126, 10)
	plan := func(amount wire.Msat) *bank.Order {
		t.Helper()
		o, err := from.node.Banks.PlanPayment(t.Context(), banking.Payment{To: to.node.Key(), Amount: amount})
		must(t, err)
		return o
	}
	if plan(1_000_000).Bank != one {
		one, two = two, one
	}
	_, err := from.node.Engine().Tell(t.Context(), payerRef(one), bank.Assigned{ID: wire.Hash{1}, Index: 1, Amount: 5_000_000})
	must(t, err)
	w.settle()
	if o := plan(1_000_000); o.Bank != two {
		t.Error("it is planned over a bank that waits for an acknowledgement")
	}
	if o := plan(80_000_000); o.Bank != two || len(o.More) != 1 || o.More[0].Bank != one {
		t.Errorf("both together: %+v", o.Legs())
	}
}

// TestPrunedGoesOn: a payment whose first bank is closed and pruned at its payee
// goes on over the second.
func TestPrunedGoesOn(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.home("payee", nil)
	var first bank.ID
	var open atomic.Bool
	to.cfg.Banking, to.cfg.Listen = &banking.Policy{Policy: taking}, []string{"/ip4/127.0.0.1/tcp/0"}
	to.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks {
		return &watched{Banks: b, step: func(tr *wire.Transfer) error {
			if tr.Bank != first && !open.Load() {
				return wire.Refuse(wire.NoRoute, "not now")
			}
			return nil
		}}
	}
	to.start()
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	w.opened(from, to, 60_000, 126, 10)
	w.opened(from, to, 60_000, 126, 10)
	pay := banking.Payment{To: to.node.Key(), Amount: 100_000_000, Step: 10_000_000, Reference: "117"}
	o, err := from.node.Banks.PlanPayment(t.Context(), pay)
	must(t, err)
	first = o.Bank
	id, err := from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	if s := w.ended(from, id); s.Acked != o.More[0].From || s.Waiting() {
		t.Fatalf("%s, %v acknowledged: %s", s.State(), s.Acked, s.Why)
	}
	must(t, from.node.Banks.CloseBank(t.Context(), payerRef(first)))
	w.settle()
	w.mine(20)
	over := false
	must(t, to.node.Banks.Relays(t.Context(), func(r bank.Relay) error { over = r.Over; return nil }))
	if !over {
		t.Fatal("the payment is not pruned")
	}
	open.Store(true)
	must(t, from.node.Banks.ResumePayment(t.Context(), id))
	w.receivedOnce(from, to, w.paid(from, id), pay.Amount)
}

// TestFirstHopAway: a payment whose next bank's payee does not answer goes on over
// another bank, and waits if there is none.
func TestFirstHopAway(t *testing.T) {
	t.Parallel()
	tier.NotShort(t)
	w, from, banker, to, first, _ := road(t, nil)
	started := make(chan struct{}, 1)
	release := make(chan struct{})
	must(t, to.node.Close())
	to.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks {
		return &watched{Banks: b, step: func(tr *wire.Transfer) error {
			if tr.Index == 1 {
				select {
				case started <- struct{}{}:
				default:
				}
				<-release
			}
			return nil
		}}
	}
	to.start()
	direct := w.opened(from, to, 60_000, 126, 10)
	w.useless(from, direct)
	const amount = wire.Msat(5_000_000)
	id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: amount, Step: 1_000_000, MaxFee: 1_000_000, Reference: "117"})
	must(t, err)
	<-started
	must(t, from.node.Banks.EndPayment(t.Context(), id))
	close(release)
	for w.sending(from, id).Waiting() {
		time.Sleep(time.Millisecond)
	}
	must(t, banker.node.Close())
	delete(w.homes, "banker")
	must(t, from.node.Banks.ResumePayment(t.Context(), id))
	time.Sleep(2 * time.Second)
	if s := w.sending(from, id); s.Ended || s.Order.Bank != first {
		t.Fatalf("%s: %s", s.State(), s.Why)
	}
	_, err = from.node.engine.Tell(t.Context(), payerRef(direct), bank.Streamed{})
	must(t, err)
	s := w.paid(from, id)
	if s.Current().Bank != direct {
		t.Errorf("%+v", s.Order.Legs())
	}
	w.receivedOnce(from, to, s, amount)
}
