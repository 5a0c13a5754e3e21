package node

import (
	"errors"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// TestCharge: what a banker has charged of the pennies that its payer paid directly
// is no credit for payments, whatever the payer says; nothing is charged twice, nor
// what payments have used; and both sides count the same.
func TestCharge(t *testing.T) {
	tier.NotShort(t)
	w, from, banker, to, first, second := road(t, nil)
	p := w.payer(from, first)
	direct := 4 * p.Ladder.PerRung
	w.pay(from, first, direct)
	p = w.payer(from, first)
	worth := p.Ladder.Paid(direct)
	charge := func(amount wire.Msat, key string) error {
		return banker.node.Banks.Charge(t.Context(), first, amount, key)
	}
	must(t, charge(worth-1000, "a"))
	must(t, charge(worth-1000, "a"))
	for want, err := range map[error]error{banking.ErrKey: charge(worth, "a"), bank.ErrEmpty: charge(2000, "b"), bank.ErrOrder: charge(0, "c"),
		banking.ErrNoBank: banker.node.Banks.Charge(t.Context(), second, 1000, "")} {
		if !errors.Is(err, want) {
			t.Errorf("%v, not %v", err, want)
		}
	}
	must(t, charge(1000, ""))
	// The payer's own software would not do this.
	fees := *banker.cfg.Banking.Fees
	amount := p.Ladder.Paid(p.Ladder.PerRung)
	step := &wire.Transfer{Index: 1, Bank: first, Amount: amount + fees.Of(amount), Total: amount, Hops: []wire.Hop{{Key: to.node.Key(), Amount: amount}}}
	note := w.noted(to, step)
	if _, err := from.node.calls.Transfer(t.Context(), banker.peer(), payerAs(&p), step, note); refusal(err) != wire.NoCredit {
		t.Errorf("pennies that were charged pay for a payment: %v", err)
	}
	key := to.node.Key()
	send := func() wire.Hash {
		id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: key, Amount: 2_000_000, Step: 1_000_000, MaxFee: 1_000_000})
		must(t, err)
		return id
	}
	w.paid(from, send())
	p = w.payer(from, first)
	if y := w.payeeOf(banker, first); y.Assigned != p.Used() || p.Used() != p.Assigned+worth {
		t.Errorf("%v used at the banker, %v at the payer", y.Assigned, p.Used())
	}
	if err := charge(p.Unused()+1000, ""); !errors.Is(err, bank.ErrEmpty) {
		t.Errorf("a charge of what a payment has used: %v", err)
	}
	// A step that is refused counts as not requested, as without charges.
	must(t, to.node.Close())
	delete(w.homes, "payee")
	id := send()
	for end := time.Now().Add(time.Minute); !w.sending(from, id).Ended; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not end")
		}
	}
	now := w.payer(from, first)
	if s := w.sending(from, id); s.Asked != 0 || now.Assigned != p.Assigned || now.Outstanding != nil {
		t.Errorf("%v asked, %v assigned after %v, outstanding %v: %s", s.Asked, now.Assigned, p.Assigned, now.Outstanding, s.Why)
	}
}
