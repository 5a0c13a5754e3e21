package deal_test

import (
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/wire"
)

// claimant is a deal whose claim is due.
func claimant() deal.Agent {
	sigma := wire.Secret{1}
	a := deal.Agent{Margins: deal.MarginsFor(wire.Regtest), Package: &wire.Package{}, Sigma: &sigma, Confirmed: &contract.Fact{Height: 5}, Tip: 80}
	a.Quote.Expiry, a.ReleaseAt = 100, 70
	return a
}

// TestClaimRefused: a claim that is refused gives way to the one that it replaces,
// which can still confirm; a claim that shares its transaction and replaces none is
// planned anew, once, by the deal that broadcast it; and a fee that is too low is
// nobody's fault.
func TestClaimRefused(t *testing.T) {
	step := func(a deal.Agent, ev deal.Event) (deal.Agent, []deal.Effect) {
		a, effects, err := a.Step(ev)
		must(t, err)
		roundTrip(t, a)
		return a, effects
	}
	tx := func(n int, fee wire.Sat) contract.Sent {
		x := btcwire.NewMsgTx(contract.TxVersion)
		for i := range n {
			x.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(wire.Outpoint{Txid: wire.Hash{byte(i + 1)}})})
		}
		return *contract.NewSent(x, fee, wire.Height(fee))
	}
	one, two := tx(1, 100), tx(2, 200)
	a, effects := step(claimant(), deal.ClaimBuilt{Sent: one, Broadcast: true})
	if len(effects) != 1 || !a.Claim.Live() {
		t.Fatalf("%v", effects)
	}
	bump := two
	bump.Before = &one
	a, _ = step(a, deal.ClaimBuilt{Sent: bump, Broadcast: true})
	accepted, _ := step(a, deal.Broadcasted{Txid: bump.Txid, Own: true})
	if accepted.Claim.Txid != two.Txid || accepted.Claim.Before != nil {
		t.Errorf("accepted: %+v", accepted.Claim)
	}
	a, effects = step(a, deal.Broadcasted{Txid: bump.Txid, Err: "no", Own: true})
	if b, ok := effects[0].(deal.Broadcast); !ok || a.Claim.Txid != one.Txid || !a.Claim.Live() || string(b.Tx) != string(one.Tx) {
		t.Errorf("refused: %+v, %v", a.Claim, effects)
	}
	for _, c := range []struct {
		ev      deal.Broadcasted
		effects int
		live    bool
	}{
		{deal.Broadcasted{Txid: two.Txid, Err: "no", Own: true}, 1, false},
		{deal.Broadcasted{Txid: two.Txid, Err: "no"}, 0, false},
		{deal.Broadcasted{Txid: two.Txid, Err: "no", Own: true, TooLow: true}, 0, false},
		{deal.Broadcasted{Txid: one.Txid, Err: "no", Own: true}, 0, true}, // another one
	} {
		a, _ := step(claimant(), deal.ClaimBuilt{Sent: two})
		a, effects := step(a, c.ev)
		if len(effects) != c.effects || a.Claim.Live() != c.live {
			t.Errorf("%+v: %v, %+v", c.ev, effects, a.Claim)
		}
		again, effects := step(a, c.ev)
		if len(effects) != 0 || again.Claim.Live() != c.live {
			t.Errorf("%+v again: %v", c.ev, effects)
		}
	}
}

// TestWorthlessClaimEnds: a claim that is not worth its fee is tried once a day
// before its window, in every block within it, and no more once the sender can
// refund. A claim that is out does not end.
func TestWorthlessClaimEnds(t *testing.T) {
	m := deal.MarginsFor(wire.Regtest)
	try := func(tip wire.Height, a deal.Agent) deal.Agent {
		a.Tip = tip
		a, _, err := a.Step(deal.ClaimFailed{Why: "not worth its fee", Pause: true})
		must(t, err)
		return a
	}
	if a := try(70, claimant()); a.NextTry != 80 || a.Due() {
		t.Errorf("next at %d", a.NextTry)
	}
	if a := try(85, claimant()); a.NextTry != 100-wire.Height(m.Bump) {
		t.Errorf("next at %d", a.NextTry)
	}
	a := try(95, claimant())
	if a.Tip++; !a.Due() || a.Phase() != deal.AgentReleased {
		t.Errorf("%s, next at %d", a.Phase(), a.NextTry)
	}
	if a = try(100, a); a.Phase() != deal.AgentClosed || a.Due() {
		t.Errorf("%s at the end", a.Phase())
	}
	a.Claim = &contract.Sent{}
	if a.Phase() != deal.AgentReleased {
		t.Errorf("%s with a claim out", a.Phase())
	}
}
