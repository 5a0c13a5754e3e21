package node

import (
	"errors"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// TestLateFunding: a bank whose funding confirms long after the payee wanted it is
// open all the same, and meanwhile it takes no place of others.
func TestLateFunding(t *testing.T) {
	w := emptyTown(t)
	from := w.home("payer", nil)
	m := &moving{Backend: from.cfg.Chain}
	m.rate.Store(2000)
	from.cfg.Chain = m
	from.start()
	to := w.payee("payee", nil)
	w.mine(1)
	w.fund(from, 1_000_000)
	m.hold.Store(true)
	id, err := from.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 200_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000})
	must(t, err)
	w.settle()
	late := int(bank.MarginsFor(wire.Regtest).ValidFor) * 3
	w.mine(late)
	if y := w.payeeOf(to, id); !y.Late(y.Tip+wire.Height(late)) || y.Lapsed() {
		t.Errorf("the payee's bank is %s", y.State())
	}
	m.hold.Store(false)
	w.mine(8)
	if p := w.payer(from, id); p.State() != bank.StateOpen {
		t.Fatalf("%s, %s", p.State(), p.Failure)
	}
	w.pay(from, id, 10)
	if y := w.payeeOf(to, id); y.Count() != 10 {
		t.Errorf("the payee has %d pennies", y.Count())
	}
}

// TestForgottenBank: a payer sends no pennies to a payee that does not know the
// bank, because its funding came too late even for the payee's patience.
func TestForgottenBank(t *testing.T) {
	w := emptyTown(t)
	from := w.home("payer", nil)
	m := &moving{Backend: from.cfg.Chain}
	m.rate.Store(2000)
	from.cfg.Chain = m
	from.start()
	to := w.payee("payee", nil)
	w.mine(1)
	w.fund(from, 1_000_000)
	m.hold.Store(true)
	id, err := from.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 200_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000})
	must(t, err)
	w.settle()
	w.mine(int(bank.MarginsFor(wire.Regtest).ValidFor) + 1)
	_, err = to.node.Engine().Tell(t.Context(), payeeRef(id), bank.Evicted{})
	must(t, err)
	m.hold.Store(false)
	w.mine(8)
	if _, err := from.node.Banks.PayPennies(t.Context(), id, 10, banking.Streaming{}); err == nil {
		t.Error("paid")
	}
	p := w.payer(from, id)
	if err := p.Spendable(); err == nil || p.State() != bank.StateStopped {
		t.Errorf("%s: %v", p.State(), err)
	}
}

// TestBankCancelled: a bank whose funding is not confirmed can be cancelled: its
// coins come back, and it ends as cancelled.
func TestBankCancelled(t *testing.T) {
	w := emptyTown(t)
	from := w.home("payer", nil)
	from.start()
	to := w.payee("payee", nil)
	w.mine(1)
	w.fund(from, 1_000_000)
	id, err := from.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 200_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000})
	must(t, err)
	w.settle()
	must(t, from.node.Banks.BumpBank(t.Context(), payerRef(id), wallet.Fee{}))
	if err := from.node.Banks.CancelBank(t.Context(), id); err == nil {
		t.Error("a funding whose child is out is cancelled")
	}
	w.mine(8)
	w.pay(from, id, 1) // it was only bumped
	if err := from.node.Banks.CancelBank(t.Context(), id); err == nil {
		t.Error("an open bank is cancelled")
	}
	before, err := from.node.Coins.Balance(t.Context())
	must(t, err)
	if id, err = from.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 200_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000}); err != nil {
		t.Fatal(err)
	}
	w.settle()
	must(t, from.node.Banks.CancelBank(t.Context(), id))
	w.mine(8)
	p := w.payer(from, id)
	after, err := from.node.Coins.Balance(t.Context())
	must(t, err)
	if p.State() != bank.StateFailed || p.FailedBy != "cancelled" || before.Confirmed-after.Confirmed > 5000 {
		t.Errorf("%s by %q: %v, %v before", p.State(), p.FailedBy, after.Confirmed, before.Confirmed)
	}
}

// TestBumpClose: a user can raise the fee of a close, within half of what it
// brings, without waiting for a block.
func TestBumpClose(t *testing.T) {
	w, to, s, ids := closing(t, 1)
	must(t, to.node.Banks.CloseBank(t.Context(), payeeRef(ids[0])))
	w.settle()
	was := w.payeeOf(to, ids[0]).Alone
	must(t, to.node.Banks.BumpBank(t.Context(), payeeRef(ids[0]), wallet.Fee{Rate: 15_000}))
	w.settle()
	y := w.payeeOf(to, ids[0])
	if rate := y.Alone.Rate(); rate < 15_000 || was.Rate() >= 15_000 {
		t.Errorf("%d after %d", rate, was.Rate())
	}
	s.mu.Lock()
	sent := len(s.sent)
	s.mu.Unlock()
	if sent < 2 {
		t.Error("it is not out")
	}
	if err := to.node.Banks.BumpBank(t.Context(), payeeRef(ids[0]), wallet.Fee{Rate: 10_000_000}); !errors.Is(err, wallet.ErrFee) {
		t.Errorf("above the ceiling: %v", err)
	}
	must(t, to.node.Banks.BumpBank(t.Context(), payeeRef(ids[0]), wallet.Fee{Rate: 10_000_000, Max: 1_000_000}))
	w.settle()
	if y = w.payeeOf(to, ids[0]); y.Alone.Fee > y.Ladder.Share(14)/2 {
		t.Errorf("%v of %v", y.Alone.Fee, y.Ladder.Share(14))
	}
	w.mine(2)
	if y = w.payeeOf(to, ids[0]); y.Spend == nil || y.Spend.Rung != 14 {
		t.Errorf("it is %s", y.State())
	}
	if err := to.node.Banks.BumpBank(t.Context(), payeeRef(ids[0]), wallet.Fee{}); err == nil {
		t.Error("a confirmed close is bumped")
	}
}

// TestNotEnough: a payment for which the banks with its payee have too little left
// says so, and not that there is no way.
func TestNotEnough(t *testing.T) {
	w := emptyTown(t)
	from := w.home("payer", nil)
	from.start()
	to := w.payee("payee", nil)
	w.mine(1)
	w.fund(from, 1_000_000)
	w.opened(from, to, 60_000, 14, 100)
	w.opened(from, to, 60_000, 14, 100)
	_, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: 130_000_000})
	if !errors.Is(err, bank.ErrEmpty) {
		t.Errorf("%v", err)
	}
}
