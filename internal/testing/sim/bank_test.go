package sim_test

import (
	"context"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/testing/sim"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// bankEffects are those of each party of bankStory.
var bankEffects = map[string][]string{
	"payer":  {"bank.AskTerms", "bank.Prepare", "bank.Offer", "bank.Publish", "bank.Stream", "bank.SendStep", "bank.AskClose", "bank.SignClose", "bank.RefundDue", "bank.Broadcast"},
	"banker": {"bank.Stream", "bank.RefundDue"}, // the rest is as the payer's
	"payee":  {"bank.CloseDue", "bank.Broadcast"},
}

// What is paid in bankStory.
const (
	bankPurse = wire.Sat(1_000_000) // each of payer's and banker's
	pennies   = 250
	paid      = wire.Msat(9_000_500)
)

func stateOf[S any](l *sim.Lab, h *sim.Home, kind engine.Kind, id wire.Hash) S {
	l.T.Helper()
	s, err := h.Node.Engine().State(context.Background(), engine.Ref{Kind: kind, ID: id})
	if err != nil {
		l.T.Fatal(err)
	}
	return s.(S)
}

// bankStory opens a bank from payer to banker and one from banker to payee, pays
// pennies and a payment over both, and ends all: the first by both sides, the
// second by its payee alone, and a third, from which nothing is paid, by its
// timelock.
func bankStory(l *sim.Lab, prepare func(), balanced bool) {
	ctx := context.Background()
	must := func(err error) {
		l.T.Helper()
		if err != nil {
			l.T.Fatal(err)
		}
	}
	l.Prepare(0)
	banker, payee := l.Banker("banker", &wire.Fees{Base: 10, PPM: 2000}), l.Banker("payee", nil)
	payer := l.Home("sender")
	payer.Name = "payer"
	prepare()
	for _, h := range []*sim.Home{payer, banker, payee} {
		h.Open()
	}
	l.Mine(1)
	l.Fund(payer, 2*bankPurse)
	addr, _, err := banker.Node.Coins.NewAddress(ctx)
	must(err)
	_, err = payer.Node.Coins.Pay(ctx, addr, bankPurse, wallet.Fee{})
	must(err)
	l.Mine(1)
	open := func(from, to *sim.Home) bank.ID {
		l.T.Helper()
		id, err := from.Node.Banks.OpenBank(ctx, banking.Terms{Peer: to.Peer(), Value: 90_000, Rungs: 20, PerRung: 100, Blocks: 200, MaxFee: 10_000})
		must(err)
		return id
	}
	first, second, third := open(payer, banker), open(banker, payee), open(payer, banker)
	l.Settle()
	l.Mine(4)
	if l.T.Failed() {
		return
	}
	if p := stateOf[bank.Payer](l, payer, bank.KindPayer, first); p.State() != bank.StateOpen {
		if balanced {
			l.T.Fatalf("the first bank is %s: %s", p.State(), p.Failure)
		}
		return // restored from before it was paid for
	}
	_, err = payer.Node.Engine().Tell(ctx, engine.Ref{Kind: bank.KindPayer, ID: first}, bank.Ordered{Pennies: pennies})
	must(err)
	l.Settle()
	pay, err := payer.Node.Banks.PayTo(ctx, banking.Payment{To: payee.Key(), Amount: paid, Step: 4_000_000, MaxFee: 1_000_000})
	must(err)
	l.Settle()
	if s := stateOf[bank.Sending](l, payer, bank.KindSending, pay); !s.Done() {
		l.T.Fatalf("the payment is %s: %s", s.State(), s.Why)
	}
	if y := stateOf[bank.Payee](l, payee, bank.KindPayee, second); y.Assigned != paid {
		l.T.Fatalf("the payee counts %v, not %v", y.Assigned, paid)
	}
	must(payer.Node.Banks.CloseBank(ctx, engine.Ref{Kind: bank.KindPayer, ID: first}))
	l.Settle()
	must(payee.Node.Banks.CloseBank(ctx, engine.Ref{Kind: bank.KindPayee, ID: second}))
	l.Settle()
	l.Mine(4)
	l.Skip(210)
	l.Mine(3)
	l.Skip(6)
	for id, want := range map[wire.Hash]string{first: bank.StateClosed, third: bank.StateRefunded} {
		if p := stateOf[bank.Payer](l, payer, bank.KindPayer, id); p.State() != want {
			l.T.Errorf("a bank of the payer's is %s, wanted %s", p.State(), want)
		}
	}
	if p := stateOf[bank.Payer](l, payer, bank.KindPayer, first); !p.Spend.Together {
		l.T.Errorf("the first bank was closed at rung %d, not by both", p.Spend.Rung)
	}
	if y := stateOf[bank.Payee](l, payee, bank.KindPayee, second); y.State() != bank.StateClosed || y.Spend.Rung == 0 {
		l.T.Errorf("the second bank is %s", y.State())
	}
	l.Balanced(2 * bankPurse)
}

// TestBankCrashEquivalence kills the parties of a bank at their effects, before
// the deed and after it: the end is that of the undisturbed run.
func TestBankCrashEquivalence(t *testing.T) {
	if !tier.Short() {
		t.Run("undisturbed", func(t *testing.T) {
			t.Parallel()
			sim.Run(t, 1, func(l *sim.Lab) { bankStory(l, func() {}, true) })
		})
	}
	crashes(t, bankEffects, 1, []string{"bank"}, tier.Pick(1, 2, 0), func(t *testing.T, _ string, points []point) (killed []point) {
		sim.Run(t, 1, func(l *sim.Lab) {
			var plans []*sim.Plan
			bankStory(l, func() {
				for _, p := range points {
					plan := &sim.Plan{Effect: p.effect, N: p.n, After: p.after}
					l.Home(p.who).Plan = plan
					plans = append(plans, plan)
				}
			}, true)
			for i, plan := range plans {
				if plan.Killed() {
					killed = append(killed, points[i])
				}
			}
		})
		return killed
	})
}
