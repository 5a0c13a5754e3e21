package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// forgetful loses its first answer to each step, after it has taken the step.
type forgetful struct {
	p2p.Banks
	mu    sync.Mutex
	steps map[uint32]bool
	lost  func(index uint32) // called when an answer is lost, if set
}

func (f *forgetful) Transfer(ctx context.Context, t *wire.Transfer, note *wire.Note) (*wire.TransferAck, error) {
	ack, err := f.Banks.Transfer(ctx, t, note)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || f.steps[t.Index] {
		return ack, err
	}
	if f.steps == nil {
		f.steps = map[uint32]bool{}
	}
	f.steps[t.Index] = true
	if f.lost != nil {
		f.lost(t.Index)
	}
	return nil, errors.New("lost")
}

// serve makes a payee or banker forgetful.
func (f *forgetful) serve(b p2p.Banks) p2p.Banks {
	f.Banks = b
	return f
}

// paid waits until a payment is paid.
func (w *town) paid(h *home, id wire.Hash) *bank.Sending {
	w.t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		s := w.sending(h, id)
		if s.Done() {
			return s
		}
		if time.Now().After(end) || s.Ended {
			w.t.Fatalf("%s, %v of %v: %s", s.State(), s.Acked, s.Order.Total, s.Why)
		}
	}
}

// receivedOnce requires that a payee has one payment of an amount, whose receipt
// the payer can show.
func (w *town) receivedOnce(from, to *home, s *bank.Sending, amount wire.Msat) {
	w.t.Helper()
	n := 0
	must(w.t, to.node.Banks.Received(w.t.Context(), func(r bank.Relay) error {
		n++
		if r.ID != s.ID || r.Total != amount || r.Passed != amount || r.Text == nil || r.Text.Reference != "117" {
			w.t.Errorf("received: %v, %v in all, %v credited, %+v", r.ID, r.Total, r.Passed, r.Text)
		}
		return nil
	}))
	if n != 1 {
		w.t.Errorf("%d payments received", n)
	}
	r, err := from.node.Banks.Receipt(s)
	must(w.t, err)
	if err := r.Verify(); err != nil || r.Total != amount {
		w.t.Errorf("a receipt for %v: %v", r.Total, err)
	}
}

// assigned returns what of a home's banks payments have used.
func (w *town) assigned(h *home) (sum wire.Msat) {
	w.t.Helper()
	must(w.t, h.node.Banks.Payees(w.t.Context(), func(y bank.Payee) error {
		sum += y.Assigned
		return nil
	}))
	return sum
}

// TestPaymentAddsUpBanks: a payment that no bank with its payee can pay alone takes
// several, as one payment with one key, one receipt, and one entry at its payee. A
// payer that is restarted in the middle of it, and answers that are lost, change
// nothing; more than all banks have is refused before anything is paid.
func TestPaymentAddsUpBanks(t *testing.T) {
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.home("payee", nil)
	f := &forgetful{}
	again := make(chan struct{}, 1)
	f.lost = func(index uint32) {
		if index == 2 {
			again <- struct{}{}
		}
	}
	to.cfg.Banking, to.cfg.Listen, to.cfg.ServeBanks = &banking.Policy{Policy: taking}, []string{"/ip4/127.0.0.1/tcp/0"}, f.serve
	to.start()
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	first, second := w.opened(from, to, 60_000, 126, 10), w.opened(from, to, 60_000, 126, 10)
	const amount = wire.Msat(70_000_000)
	pay := banking.Payment{To: to.node.Key(), Amount: amount, Step: 25_000_000, Reference: "117", Key: "once"}
	o, err := from.node.Banks.PlanPayment(t.Context(), pay)
	must(t, err)
	if legs := o.Legs(); len(legs) != 2 || legs[0].Bank == legs[1].Bank || legs[1].From < 50_000_000 {
		t.Fatalf("%+v", legs)
	}
	_, exposed, err := from.node.Banks.Exposed(t.Context(), o)
	must(t, err)
	p := w.payer(from, first)
	if exposed > 2*p.Ladder.Paid(1) {
		t.Errorf("%v exposed", exposed)
	}
	id, err := from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	<-again // the payee has two steps, the payer knows of one
	must(t, from.node.Close())
	from.start()
	if same, err := from.node.Banks.PayTo(t.Context(), pay); err != nil || same != id {
		t.Fatalf("the same key: %v, %v", same, err)
	}
	s := w.paid(from, id)
	if s.Index != 4 { // 25,000, 25,000 and what is left of one bank, and the rest
		t.Errorf("%d steps", s.Index)
	}
	w.receivedOnce(from, to, s, amount)
	if got := w.assigned(to); got != amount {
		t.Errorf("the payee counts %v", got)
	}
	one, two := w.payer(from, first), w.payer(from, second)
	if one.Assigned+two.Assigned != amount || one.Assigned == 0 || two.Assigned == 0 {
		t.Errorf("%v and %v are assigned", one.Assigned, two.Assigned)
	}
	if paid := one.Ladder.Paid(one.Target) + two.Ladder.Paid(two.Target); paid < amount || paid > amount+exposed {
		t.Errorf("%v of pennies for %v", paid, amount)
	}
	if same, err := from.node.Banks.PayTo(t.Context(), pay); err != nil || same != id {
		t.Errorf("the same key once more: %v, %v", same, err)
	}
	more := banking.Payment{To: to.node.Key(), Amount: one.Left() + two.Left() + 1}
	if _, err := from.node.Banks.PayTo(t.Context(), more); !errors.Is(err, bank.ErrEmpty) {
		t.Errorf("more than there is: %v", err)
	}
	more.Amount--
	id, err = from.node.Banks.PayTo(t.Context(), more)
	must(t, err)
	w.paid(from, id)
}

// TestPaymentAddsUpBankers: the same over a banker, with which the payer has two
// banks, and which has two with the payee. More than the payer's two have is refused
// before anything is paid.
func TestPaymentAddsUpBankers(t *testing.T) {
	tier.NotShort(t)
	w, from, banker, to, first, _ := road(t, nil)
	second := w.opened(from, banker, 90_000, 126, 10)
	w.fund(banker, 1_000_000)
	w.opened(banker, to, 90_000, 126, 10)
	f := &forgetful{}
	must(t, banker.node.Close())
	banker.cfg.ServeBanks = f.serve
	banker.start()
	const amount = wire.Msat(120_000_000)
	pay := banking.Payment{To: to.node.Key(), Amount: amount, MaxFee: 1_000_000, Reference: "117", Key: "once"}
	o, err := from.node.Banks.PlanPayment(t.Context(), pay)
	must(t, err)
	if legs := o.Legs(); len(legs) != 2 || len(legs[0].Bankers) != 1 || len(legs[1].Bankers) != 1 || legs[0].Bank == legs[1].Bank {
		t.Fatalf("%+v", legs)
	}
	id, err := from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	for end := time.Now().Add(time.Minute); w.sending(from, id).Index < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no third step")
		}
	}
	must(t, banker.node.Close())
	must(t, from.node.Close())
	from.start()
	banker.start()
	s := w.paid(from, id)
	w.receivedOnce(from, to, s, amount)
	if got := w.assigned(to); got != amount {
		t.Errorf("the payee counts %v", got)
	}
	if got := w.assigned(banker); got != amount+s.Fees {
		t.Errorf("the banker counts %v, the fees are %v", got, s.Fees)
	}
	one, two := w.payer(from, first), w.payer(from, second)
	if one.Assigned+two.Assigned != amount+s.Fees {
		t.Errorf("%v and %v are assigned", one.Assigned, two.Assigned)
	}
	if same, err := from.node.Banks.PayTo(t.Context(), pay); err != nil || same != id {
		t.Errorf("the same key once more: %v, %v", same, err)
	}
	if _, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: amount, MaxFee: 1_000_000}); !errors.Is(err, bank.ErrEmpty) {
		t.Errorf("more than there is: %v", err)
	}
}

// TestPaymentGoesOnElsewhere: if the bank of a payment's next step has become too
// small or was closed, the payment takes another, and ends with what was paid if
// there is none. It goes on once there is.
func TestPaymentGoesOnElsewhere(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.home("payee", nil)
	var f *forgetful
	var second bank.ID
	f = &forgetful{lost: func(index uint32) {
		if index == 1 { // the user empties the second bank meanwhile
			p := w.payer(from, second)
			if _, err := from.node.Banks.PayPennies(context.Background(), second, p.Ladder.N()-p.Target-2, banking.Streaming{Window: 64}); err != nil {
				t.Error(err)
			}
		}
	}}
	to.cfg.Banking, to.cfg.Listen, to.cfg.ServeBanks = &banking.Policy{Policy: taking}, []string{"/ip4/127.0.0.1/tcp/0"}, f.serve
	to.start()
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	w.opened(from, to, 60_000, 126, 10)
	w.opened(from, to, 60_000, 126, 10)
	const amount = wire.Msat(100_000_000)
	pay := banking.Payment{To: to.node.Key(), Amount: amount, Reference: "117"}
	o, err := from.node.Banks.PlanPayment(t.Context(), pay)
	must(t, err)
	if len(o.More) != 1 {
		t.Fatalf("%+v", o.Legs())
	}
	second = o.More[0].Bank
	id, err := from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	for end := time.Now().Add(time.Minute); !w.sending(from, id).Ended; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not end")
		}
	}
	s := w.sending(from, id)
	if s.State() != "ended" || s.Acked != o.More[0].From || s.Asked != s.Acked || s.Why == "" {
		t.Fatalf("%s, %v of %v: %s", s.State(), s.Acked, s.Order.Total, s.Why)
	}
	w.receivedOnce(from, to, s, s.Acked)
	w.opened(from, to, 60_000, 126, 10)
	must(t, from.node.Banks.ResumePayment(t.Context(), id))
	s = w.paid(from, id)
	w.receivedOnce(from, to, s, amount)
	if got := w.assigned(to); got != amount {
		t.Errorf("the payee counts %v", got)
	}
}

// watched is a banker's service whose steps a test sees before they are served, and
// may refuse.
type watched struct {
	p2p.Banks
	step    func(*wire.Transfer) error
	refused *atomic.Int32 // counts refusals for lack of credit, if set
}

func (s *watched) Transfer(ctx context.Context, t *wire.Transfer, note *wire.Note) (*wire.TransferAck, error) {
	if err := s.step(t); err != nil {
		return nil, err
	}
	ack, err := s.Banks.Transfer(ctx, t, note)
	var r *wire.Refusal
	if errors.As(err, &r) && r.Code == wire.NoCredit && s.refused != nil {
		s.refused.Add(1)
	}
	return ack, err
}

// TestAnswerNotStored: a banker that dies after it has passed on an answer and before
// it has stored it asks the next hop again, and the payment goes on.
func TestAnswerNotStored(t *testing.T) {
	tier.NotShort(t)
	w, from, banker, to, _, second := road(t, nil)
	third := make(chan struct{}, 1)
	var died atomic.Bool
	var payment wire.Hash
	var stored bank.Relay
	must(t, banker.node.Close())
	banker.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks {
		return &watched{Banks: b, step: func(tr *wire.Transfer) error {
			if tr.Index != 3 || died.Load() {
				return nil
			}
			select {
			case third <- struct{}{}:
			default:
			}
			return errors.New("dying")
		}}
	}
	banker.start()
	id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: 5_000_000, Step: 1_000_000, MaxFee: 1_000_000})
	must(t, err)
	payment = id
	<-third
	banker.kill()
	died.Store(true)
	banker.start()
	must(t, banker.node.Banks.Relays(t.Context(), func(r bank.Relay) error {
		if r.ID == payment {
			stored = r
		}
		return nil
	}))
	if stored.Index != 2 || stored.Ack != nil {
		t.Fatalf("step %d, its answer is stored: %v", stored.Index, stored.Ack != nil)
	}
	s := w.paid(from, id)
	if y := w.payeeOf(to, second); y.Assigned != 5_000_000 || s.Index != 5 {
		t.Errorf("the payee counts %v, in %d steps", y.Assigned, s.Index)
	}
	// The last answer is stored in time, although no step follows.
	for end := time.Now().Add(time.Minute); stored.Ack == nil || stored.Index != 5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("step %d, its answer is stored: %v", stored.Index, stored.Ack != nil)
		}
		state, err := banker.node.Engine().State(t.Context(), engine.Ref{Kind: bank.KindRelay, ID: bank.RelayID(stored.In, id)})
		must(t, err)
		stored = state.(bank.Relay)
	}
}

// TestLastAnswerStored: a banker that is stopped just after it has passed on the last
// answer of a payment has stored it.
func TestLastAnswerStored(t *testing.T) {
	w, from, banker, to, first, _ := road(t, nil)
	id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: 1_000_000, Step: 1_000_000, MaxFee: 1_000_000})
	must(t, err)
	for !w.sending(from, id).Done() {
		time.Sleep(time.Millisecond)
	}
	must(t, banker.node.Close())
	banker.start()
	state, err := banker.node.Engine().State(t.Context(), engine.Ref{Kind: bank.KindRelay, ID: bank.RelayID(first, id)})
	must(t, err)
	if r := state.(bank.Relay); r.Ack == nil || r.Ack.Total != 1_000_000 {
		t.Errorf("step %d, its answer is stored: %v", r.Index, r.Ack != nil)
	}
}

// TestReserveRises: a banker whose reserve rises in the middle of a payment gets the
// credit that it wants, and the payment goes on.
func TestReserveRises(t *testing.T) {
	tier.NotShort(t)
	w, from, banker, to, first, second := road(t, nil)
	m := &moving{Backend: w.chain}
	m.rate.Store(1000)
	var raised atomic.Bool
	var refused atomic.Int32
	must(t, banker.node.Close())
	banker.cfg.Chain = m
	banker.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks {
		return &watched{Banks: b, refused: &refused, step: func(tr *wire.Transfer) error {
			if tr.Index == 3 && raised.CompareAndSwap(false, true) {
				m.rate.Store(2000)
				if _, err := w.chain.Mine(context.Background(), 1, w.miner); err != nil {
					return err
				}
				for banker.node.Engine().FeeRate() != 2000 {
					time.Sleep(time.Millisecond)
				}
			}
			return nil
		}}
	}
	banker.start()
	const amount = wire.Msat(5_000_000)
	id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: amount, Step: 1_000_000, MaxFee: 1_000_000})
	must(t, err)
	s := w.paid(from, id)
	if y, p := w.payeeOf(to, second), w.payer(from, first); y.Assigned != amount || p.Assigned != amount+s.Fees {
		t.Errorf("the payee counts %v, %v are assigned", y.Assigned, p.Assigned)
	}
	if n := refused.Load(); n != 1 {
		t.Errorf("refused %d times for lack of credit", n)
	}
}

// TestReceivedByOlder: a payment that an older version received in part, and stored
// for its bank, goes on as the same payment.
func TestReceivedByOlder(t *testing.T) {
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	in := w.opened(from, to, 60_000, 126, 10)
	w.pay(from, in, 10)
	id := wire.Hash{1}
	step := wire.Transfer{ID: id, Index: 1, Bank: in, Amount: 1000, Total: 1000}
	r, _, err := bank.NewRelay(in, id).Step(bank.Relayed{Step: step})
	must(t, err)
	r, _, err = r.Step(bank.Answered{Ack: wire.TransferAck{Index: 1, Total: 1000}})
	must(t, err)
	must(t, to.node.Engine().Create(t.Context(), engine.Creation{Ref: engine.Ref{Kind: bank.KindRelay, ID: bank.RelayID(in, id)}, State: r}))
	step.Index, step.Total = 2, 2000
	for range 2 {
		ack, err := service(to).Transfer(t.Context(), &step, &wire.Note{})
		must(t, err)
		if key := to.node.Key(); key.Verify(wire.TransferDigest(id, 2, 2000, key), ack.Sig) != nil {
			t.Error("not signed")
		}
	}
	n := 0
	must(t, to.node.Banks.Received(t.Context(), func(r bank.Relay) error {
		if n++; r.Total != 2000 || r.Index != 2 {
			t.Errorf("%v in %d steps", r.Total, r.Index)
		}
		return nil
	}))
	if y := w.payeeOf(to, in); n != 1 || y.Assigned != 1000 {
		t.Errorf("%d payments, %v counted since", n, y.Assigned)
	}
}
