package contract_test

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// jobBanks are the banks of a job with 4 nodes and a standby, funded in one
// transaction with one coin and change, whose weight is returned.
func (g *ground) jobBanks(t testing.TB, name string, rungs, perRung uint32) ([]*pennyBank, int64) {
	t.Helper()
	const change = 10_000
	var banks []*pennyBank
	var list []*contract.Bank
	total := wire.Sat(change)
	for i := range 5 {
		b := newBank(t, fmt.Sprint(name, " ", i), rungs, perRung, 50_000, g.tip(t)+1000)
		banks, list, total = append(banks, b), append(list, b.Bank), total+50_000
	}
	weight := contract.BanksFundingWeight(1, 5, true)
	coin := total + wire.Sat(contract.VSize(weight))
	from, err := g.Faucet(t.Context(), home, coin)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := contract.FundBanks(list, []wire.Outpoint{from}, change, home)
	if err != nil {
		t.Fatal(err)
	}
	signHome(t, tx, txscript.NewCannedPrevOutputFetcher(home, int64(coin)))
	if got := weightOf(tx); got != weight {
		t.Errorf("funding: %d weight units, not %d", got, weight)
	}
	g.confirms(t, tx)
	for i, b := range banks {
		b.sign(t, wire.Outpoint{Txid: contract.Txid(tx), Vout: uint32(i)})
	}
	return banks, weight
}

// payoutKey is where node i has its share paid.
func payoutKey(i int) wire.Secret { return secret("payout %d", i) }

func (b *pennyBank) part(i int, paid uint32) contract.FinalPart {
	return contract.FinalPart{Bank: b.Bank, At: b.At, Paid: paid, Payout: public(payoutKey(i)), PaysFee: true}
}

// brings is what the bank's parties bring to f.
func (b *pennyBank) brings(t testing.TB, f *contract.Final, i int) (s contract.FinalSig) {
	t.Helper()
	var err error
	if s.Payee, err = f.Sign(i, b.Payee); err != nil {
		t.Fatal(err)
	}
	if f.Together() {
		if s.Payer, err = f.Sign(i, b.Payer); err != nil {
			t.Fatal(err)
		}
		return s
	}
	rung := b.Ladder().Rung(f.Part(i).Paid)
	s.Payer = b.Sigs[rung-1]
	copy(s.Secret[:], b.secret(rung))
	return s
}

func final(t testing.TB, together bool, parts []contract.FinalPart, rate wire.SatPerKVB) *contract.Final {
	t.Helper()
	build := contract.NewFinal
	if together {
		build = contract.NewFinalTogether
	}
	f, err := build(parts, rate)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// signed builds, signs and assembles the final transaction of banks.
func signed(t testing.TB, together bool, banks []*pennyBank, parts []contract.FinalPart, rate wire.SatPerKVB) (*contract.Final, *btcwire.MsgTx) {
	t.Helper()
	f := final(t, together, parts, rate)
	var sigs []contract.FinalSig
	for i := range parts {
		sigs = append(sigs, banks[i].brings(t, f, i))
	}
	tx, err := f.Assemble(sigs)
	if err != nil {
		t.Fatal(err)
	}
	return f, tx
}

// TestFinalReachable: every non-empty subset of a job's five banks closes in a
// transaction that nodes relay and blocks include, with and without the buyer.
// A bank left out can be closed alone afterwards, and a refund returns to the
// buyer what it never paid.
func TestFinalReachable(t *testing.T) {
	g := regtest(t)
	banks, _ := g.jobBanks(t, "subsets", 8, 3)
	paid := []uint32{24, 7, 3, 12, 5}
	for subset := 1; subset < 1<<5; subset++ {
		for _, together := range []bool{false, true} {
			var in []*pennyBank
			var parts []contract.FinalPart
			for i, b := range banks {
				if subset>>i&1 == 1 {
					in, parts = append(in, b), append(parts, b.part(i, paid[i]))
				}
			}
			f, tx := signed(t, together, in, parts, 1500)
			g.accepts(t, tx)
			var out wire.Sat
			for _, o := range tx.TxOut {
				out += wire.Sat(o.Value)
			}
			if want := wire.Sat(bits.OnesCount(uint(subset)))*50_000 - f.Fee(); out != want {
				t.Errorf("subset %05b: %v come out, not %v", subset, out, want)
			}
			for i, b := range in {
				if sp, err := b.Parties().ReadSpend(tx, i); err != nil || sp.Together != together || !together && sp.Rung != b.Ladder().Rung(parts[i].Paid) {
					t.Errorf("subset %05b, bank %d: read %+v, %v", subset, i, sp, err)
				}
			}
		}
	}
	// Three of them; then the two others, each alone.
	f, tx := signed(t, false, banks[:3], []contract.FinalPart{banks[0].part(0, 24), banks[1].part(1, 7), banks[2].part(2, 3)}, 1000)
	g.confirms(t, tx)
	g.confirms(t, closeBanks(t, 3000, nil, banks[3].at(4)))
	g.confirms(t, closeBanks(t, 3000, nil, banks[4].at(1)))
	var payouts []contract.FinalPayout
	for i := range 3 {
		at, ok := f.PayoutAt(i)
		if !ok {
			t.Fatal("no payout", i)
		}
		payouts = append(payouts, contract.FinalPayout{Bank: banks[i].Bank, At: at, Value: f.Payout(i), Key: payoutKey(i)})
	}
	back, _, err := contract.BuildPayouts(payouts, home, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := weightOf(back), contract.TxOverheadWeight+contract.P2TROutputWeight+3*contract.ChangeInputWeight(); got != want {
		t.Errorf("payouts: %d weight units, not %d", got, want)
	}
	g.confirms(t, back)
}

// TestFinalSize: the total vsize of a job with 4 nodes and a standby, funding
// and close, all five paid, is at most 1,200 vB closed with the buyer and 1,600
// vB without. Both confirm; no output of either can be spent in the same block,
// and all can in the next.
func TestFinalSize(t *testing.T) {
	g := regtest(t)
	for _, epochs := range tier.Pick([]uint32{10}, []uint32{10, 100, 1000}, []uint32{10, 100, 1000}) {
		for _, together := range []bool{true, false} {
			rungs, perRung := contract.FinalRungs(epochs)
			banks, funding := g.jobBanks(t, fmt.Sprint("size ", epochs, together), rungs, perRung)
			var parts []contract.FinalPart
			for i, b := range banks {
				parts = append(parts, b.part(i, epochs-uint32(i)))
			}
			f, tx := signed(t, together, banks, parts, 1000)
			if got, want := f.Fee(), wire.SatPerKVB(1000).Fee(contract.VSize(weightOf(tx))); got != want {
				t.Errorf("a fee of %v, not %v", got, want)
			}
			vsize, most := contract.VSize(funding)+contract.VSize(weightOf(tx)), int64(1600)
			if together {
				most = 1200
			}
			t.Logf("%d epochs in %d rungs, with the buyer %v: funding %d + close %d = %d vB", epochs, rungs, together, contract.VSize(funding), contract.VSize(weightOf(tx)), vsize)
			if vsize > most {
				t.Errorf("%d vB, %d allowed", vsize, most)
			}
			var payouts []contract.FinalPayout
			for i, b := range banks {
				at, _ := f.PayoutAt(i)
				payouts = append(payouts, contract.FinalPayout{Bank: b.Bank, At: at, Value: f.Payout(i), Key: payoutKey(i)})
			}
			var refunds []contract.BankRefund
			for i, b := range banks[:len(tx.TxOut)-len(payouts)] {
				refunds = append(refunds, contract.BankRefund{Bank: b.Bank, At: wire.Outpoint{Txid: contract.Txid(tx), Vout: uint32(i)},
					Value: wire.Sat(tx.TxOut[i].Value), Change: true, Payer: b.Payer})
			}
			node, _, err := contract.BuildPayouts(payouts, home, 1000, 0)
			if err != nil {
				t.Fatal(err)
			}
			buyer, _, err := contract.BuildBankRefund(refunds, home, 1000, 0)
			if err != nil {
				t.Fatal(err)
			}
			g.accepts(t, tx)
			if err := g.Broadcast(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			for _, early := range []*btcwire.MsgTx{node, buyer} {
				if g.TestAccept(t.Context(), early) == nil {
					t.Error("an output of a final transaction is spent before it has a block")
				}
			}
			g.mine(t, 1)
			g.confirms(t, node)
			g.confirms(t, buyer)
		}
	}
}

// TestFinalRungs: the ladder of a job's bank has a penny for each epoch.
func TestFinalRungs(t *testing.T) {
	for epochs := uint32(1); epochs < 5000; epochs++ {
		rungs, per := contract.FinalRungs(epochs)
		if rungs > 64 || bits.OnesCount32(rungs) != 1 || rungs*per < epochs || rungs*(per-1) >= epochs {
			t.Fatalf("%d epochs: %d rungs of %d", epochs, rungs, per)
		}
	}
}

// TestFinalParts: an impossible final transaction is refused; all parties
// compute the same bytes; fees are divided to the satoshi.
func TestFinalParts(t *testing.T) {
	var banks []*pennyBank
	var parts []contract.FinalPart
	for i := range 3 {
		b := newBank(t, fmt.Sprint("parts ", i), 4, 5, 20_000, 1000)
		b.sign(t, outpoint(i))
		banks, parts = append(banks, b), append(parts, b.part(i, 10))
	}
	change := func(i int, f func(*contract.FinalPart)) []contract.FinalPart {
		list := slices.Clone(parts)
		f(&list[i])
		return list
	}
	for what, c := range map[string]struct {
		parts    []contract.FinalPart
		rate     wire.SatPerKVB
		together bool
		want     error
	}{
		"none":                {nil, 1000, false, contract.ErrFinal},
		"too many":            {slices.Repeat(parts, 6), 1000, false, contract.ErrFinal},
		"twice":               {change(1, func(p *contract.FinalPart) { p.At = outpoint(0) }), 1000, false, contract.ErrFinal},
		"no rung":             {change(1, func(p *contract.FinalPart) { p.Paid = 4 }), 1000, false, contract.ErrFinal},
		"more than there are": {change(1, func(p *contract.FinalPart) { p.Paid = 21 }), 1000, true, contract.ErrFinal},
		"a payout to nobody":  {change(1, func(p *contract.FinalPart) { p.Payout = wire.Key{31: 5} }), 1000, true, wire.ErrBadKey},
		"a negative rate":     {parts, -1, true, contract.ErrFinal},
		"an endless rate":     {parts, contract.MaxFinalRate + 1, true, contract.ErrFinal},
		"dust":                {parts, 60_000, false, contract.ErrUneconomic},
		"less than dust of pennies": {change(1, func(p *contract.FinalPart) {
			p.Paid, p.PaysFee = 0, true
			p.Bank = newBank(t, "poor", 4, 100, 20_000, 1000).Bank
			p.Paid = 1
		}),
			1000, true, contract.ErrUneconomic},
	} {
		build := contract.NewFinal
		if c.together {
			build = contract.NewFinalTogether
		}
		if _, err := build(c.parts, c.rate); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	nobody := slices.Clone(parts)
	for i := range nobody {
		nobody[i].PaysFee = false
	}
	if _, err := contract.NewFinal(nobody, 1000); !errors.Is(err, contract.ErrFinal) {
		t.Error("nobody pays:", err)
	}
	one := change(0, func(p *contract.FinalPart) { p.PaysFee = false })
	f := final(t, false, one, 1000)
	a, b, c := f.Payout(0), f.Payout(1), f.Payout(2)
	if full := banks[0].Ladder().Share(2); a != full || 2*full-b-c != f.Fee() || c-b > 1 || b > c {
		t.Errorf("payouts %v %v %v, fee %v", a, b, c, f.Fee())
	}
	if x, y := final(t, false, one, 1000), f; contract.Txid(x.Unsigned()) != contract.Txid(y.Unsigned()) {
		t.Error("the same list, other bytes")
	}
	// With the buyer, the bank of a payee without pennies is closed as well, at
	// no cost to it.
	idle := final(t, true, change(1, func(p *contract.FinalPart) { p.Paid = 0 }), 1000)
	if _, ok := idle.PayoutAt(1); ok || len(idle.Unsigned().TxOut) != 3 || idle.Payout(1) != 0 {
		t.Error("an output of nothing")
	}
	if _, err := contract.FundBanks([]*contract.Bank{banks[0].Bank, banks[0].Bank}, nil, 0, nil); err == nil {
		t.Error("one bank funded twice")
	}
}

// TestFinalSignatures: a false signature, penny or key identifies the bank that
// contributed it. No signature is valid for another subset, fee, rung, payout
// or order.
func TestFinalSignatures(t *testing.T) {
	var banks []*pennyBank
	var parts []contract.FinalPart
	prev := txscript.NewMultiPrevOutFetcher(nil)
	for i := range 3 {
		b := newBank(t, fmt.Sprint("sigs ", i), 4, 5, 20_000, 1000)
		b.sign(t, outpoint(i))
		banks, parts = append(banks, b), append(parts, b.part(i, 10))
		prev.AddPrevOut(contract.OutPoint(b.At), b.txOut())
	}
	for _, together := range []bool{false, true} {
		f := final(t, together, parts, 1000)
		good := banks[1].brings(t, f, 1)
		if err := f.Verify(1, good); err != nil {
			t.Fatal(err)
		}
		for what, change := range map[string]func(*contract.FinalSig){
			"payee":  func(s *contract.FinalSig) { s.Payee[3] ^= 1 },
			"payer":  func(s *contract.FinalSig) { s.Payer[3] ^= 1 },
			"penny":  func(s *contract.FinalSig) { s.Secret[3] ^= 1 },
			"zeroes": func(s *contract.FinalSig) { *s = contract.FinalSig{} },
		} {
			bad := good
			change(&bad)
			err := f.Verify(1, bad)
			if !errors.Is(err, contract.ErrFinalSignature) && !errors.Is(err, penny.ErrFalse) {
				t.Errorf("%s, together %v: %v", what, together, err)
			}
			sigs := []contract.FinalSig{banks[0].brings(t, f, 0), bad, banks[2].brings(t, f, 2)}
			if _, got := f.Assemble(sigs); got == nil || got.Error() != err.Error() {
				t.Errorf("%s: %v", what, got)
			}
		}
		if _, err := f.Sign(1, banks[0].Payee); !errors.Is(err, wire.ErrBadKey) {
			t.Error("another bank's key:", err)
		}
		for what, other := range map[string]*contract.Final{
			"fewer":        final(t, together, parts[:2], 1000),
			"another fee":  final(t, together, parts, 1001),
			"another rung": final(t, together, append(slices.Clone(parts[:2]), banks[2].part(2, 15)), 1000),
			"elsewhere":    final(t, together, append(slices.Clone(parts[:2]), banks[2].part(7, 10)), 1000),
			"another way":  final(t, !together, parts, 1000),
		} {
			if err := other.Verify(1, good); err == nil {
				t.Errorf("%s: the signature is good there too", what)
			}
		}
		var sigs []contract.FinalSig
		for i, b := range banks {
			sigs = append(sigs, b.brings(t, f, i))
		}
		tx, err := f.Assemble(sigs)
		if err != nil {
			t.Fatal(err)
		}
		for i := range banks {
			if err := execute(tx, i, prev); err != nil {
				t.Errorf("input %d: %v", i, err)
			}
		}
		if _, err := f.Assemble(sigs[:2]); !errors.Is(err, contract.ErrFinal) {
			t.Error(err)
		}
	}
	// Without the buyer's part, the buyer signs nothing.
	if _, err := final(t, false, parts, 1000).Sign(1, banks[1].Payer); !errors.Is(err, wire.ErrBadKey) {
		t.Error(err)
	}
}

// TestFinalKeepsPairs: without the buyer each change is at its bank's index. If
// one is moved, the transaction is invalid, whatever the payees sign.
func TestFinalKeepsPairs(t *testing.T) {
	g := regtest(t)
	banks, _ := g.jobBanks(t, "final pairs", 4, 1)
	_, tx := signed(t, false, banks[:2], []contract.FinalPart{banks[0].part(0, 1), banks[1].part(1, 2)}, 2000)
	swapped := tx.Copy()
	swapped.TxOut[0], swapped.TxOut[1] = swapped.TxOut[1], swapped.TxOut[0]
	g.refused(t, resign(t, swapped, banks...), badScript, "changes swapped")
	shared := tx.Copy()
	shared.TxOut = slices.Delete(shared.TxOut, 1, 2)
	g.refused(t, resign(t, shared, banks...), badScript, "a change left out")
	if err := g.TestAccept(context.Background(), tx); err != nil {
		t.Error(err)
	}
}
