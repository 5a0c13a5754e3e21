package contract_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// pennyBank is a bank with all its secrets.
type pennyBank struct {
	*contract.Bank
	Payer, Payee wire.Secret
	Purse        *penny.Purse
	Sigs         []wire.Signature
	At           wire.Outpoint
}

func newBank(t testing.TB, name string, rungs, perRung uint32, value wire.Sat, expiry wire.Height) *pennyBank {
	t.Helper()
	b := &pennyBank{Payer: secret("%s payer", name), Payee: secret("%s payee", name)}
	pence := penny.Pence{Chain: penny.Chain{Size: wire.PennySize}, N: rungs * perRung}
	nonce, p0 := secret("%s nonce", name), secret("%s p0", name)
	copy(pence.Nonce[:], nonce[:])
	copy(pence.P0[:wire.PennySize], p0[:])
	b.Purse = penny.NewPurse(pence)
	l := penny.Ladder{Value: value, Rungs: rungs, PerRung: perRung}
	terms := wire.BankTerms{Blinding: secret("%s blinding", name), Expiry: expiry, Payer: public(b.Payer), Payee: public(b.Payee),
		Value: value, Nonce: pence.Nonce, PerRung: perRung}
	last := pence.Last()
	copy(terms.Last[:], last.Secret[:])
	for g := uint32(1); g <= rungs; g++ {
		s := b.Purse.At(l.Seq(g)).Secret
		terms.Locks = append(terms.Locks, contract.Lock(s[:wire.PennySize]))
	}
	var err error
	if b.Bank, err = contract.NewBank(terms); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *pennyBank) sign(t testing.TB, at wire.Outpoint) {
	t.Helper()
	var err error
	if b.Sigs, err = b.SignRungs(at, b.Payer); err != nil {
		t.Fatal(err)
	}
	if err := b.VerifyRungs(at, b.Sigs); err != nil {
		t.Fatal(err)
	}
	b.At = at
}

func (b *pennyBank) secret(g uint32) []byte {
	s := b.Purse.At(b.Ladder().Seq(g)).Secret
	return clone(s[:wire.PennySize])
}

func (b *pennyBank) at(g uint32) contract.BankClose {
	return contract.BankClose{Bank: b.Bank, At: b.At, Rung: g, Sig: b.Sigs[g-1], Secret: b.secret(g), Payee: b.Payee}
}

func (b *pennyBank) txOut() *btcwire.TxOut {
	return btcwire.NewTxOut(int64(b.Terms().Value), b.PkScript())
}

// opened confirms banks in one funding.
func (g *ground) opened(t testing.TB, banks ...*pennyBank) {
	t.Helper()
	var outs []*btcwire.TxOut
	for _, b := range banks {
		outs = append(outs, b.txOut())
	}
	for i, at := range g.fund(t, outs...) {
		banks[i].sign(t, at)
	}
}

func closeBanks(t testing.TB, rate wire.SatPerKVB, coins []contract.Coin, closes ...contract.BankClose) *btcwire.MsgTx {
	t.Helper()
	tx, _, err := contract.BuildClose(closes, coins, home, rate, 0)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// resign repeats the payee's signatures after its close was changed; the
// payer's signatures remain.
func resign(t testing.TB, tx *btcwire.MsgTx, banks ...*pennyBank) *btcwire.MsgTx {
	t.Helper()
	prev := txscript.NewMultiPrevOutFetcher(nil)
	for _, b := range banks {
		prev.AddPrevOut(contract.OutPoint(b.At), b.txOut())
	}
	for n, in := range tx.TxIn {
		for _, b := range banks {
			if in.PreviousOutPoint == contract.OutPoint(b.At) {
				w := in.Witness
				w[0] = signScript(t, tx, n, prev, w[len(w)-2], txscript.SigHashDefault, b.Payee)
			}
		}
	}
	return tx
}

// TestBankPackageValid: every transaction that a bank may need is accepted by
// policy and confirms when it is needed: closes alone, at the first and last
// rung, batched, replaced at a higher rung and fee with a coin for the fee;
// cooperative closes, refunds, and spends of the payer's changes. A cooperative
// close that no miner includes is replaced by the rung close, and a rung close
// is as valid after the expiry as before.
//
// It relies on these policies of Bitcoin Core: version 2; any number of tapleaf
// inputs under 400,000 weight units, with stack items of at most 80 bytes; P2TR
// outputs of 330 sat; replacement by fee (BIP125: sequence fffffffd signals it;
// a replacement pays more in total and per byte; an input that it adds is
// confirmed); and that a transaction that is not final in the next block is
// refused.
func TestBankPackageValid(t *testing.T) {
	g := regtest(t)
	from, err := g.Faucet(t.Context(), home, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	coin := contract.Coin{At: from, Out: btcwire.NewTxOut(20_000, home)}
	g.mine(t, 101) // the first coin needs a hundred confirmations
	expiry := g.tip(t) + 40
	a, b := newBank(t, "a", 126, 10, 100_000, expiry), newBank(t, "b", 126, 10, 100_000, expiry)
	c, d, e := newBank(t, "c", 1, 1, 5_000, expiry), newBank(t, "d", 1022, 1, 1_000_000, expiry), newBank(t, "e", 62, 3, 50_000, expiry)
	g.opened(t, a, b, c, d, e)
	for _, close := range []contract.BankClose{a.at(40), a.at(126), c.at(1), d.at(1), d.at(1022), e.at(31)} {
		tx := closeBanks(t, 1000, nil, close)
		g.accepts(t, tx)
		if sp, err := close.Bank.Parties().ReadSpend(tx, 0); err != nil || sp.Rung != close.Rung || !slices.Equal(sp.Secret, close.Secret) {
			t.Errorf("read %+v, %v", sp, err)
		}
	}
	// Both at one rung, whose changes are equal.
	both := closeBanks(t, 1000, nil, a.at(40), b.at(40))
	if both.TxOut[0].Value != both.TxOut[1].Value {
		t.Error("other changes")
	}
	g.accepts(t, both)
	// The change cannot be used to pin the close.
	first := closeBanks(t, 1000, nil, a.at(40))
	if err := g.Broadcast(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	change := func(b *pennyBank, tx *btcwire.MsgTx, n uint32) contract.BankRefund {
		return contract.BankRefund{Bank: b.Bank, At: wire.Outpoint{Txid: contract.Txid(tx), Vout: n}, Value: wire.Sat(tx.TxOut[n].Value), Change: true, Payer: b.Payer}
	}
	refund := func(list ...contract.BankRefund) *btcwire.MsgTx {
		tx, _, err := contract.BuildBankRefund(list, home, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	if g.TestAccept(t.Context(), refund(change(a, first, 0))) == nil {
		t.Error("the change is spent before its close has a block")
	}
	// Replaced by a close of more, at a higher rung, with a coin for the fee,
	// which has to be confirmed (BIP125, rule 2).
	more := closeBanks(t, 5000, []contract.Coin{coin}, a.at(41), b.at(126), c.at(1))
	signCoin(t, more, coin, a, b, c)
	if got, want := weightOf(more), contract.TxOverheadWeight+contract.P2TROutputWeight+contract.KeySpendInputWeight+3*contract.P2TROutputWeight+
		2*contract.RungInputWeight(40, 126)+contract.RungInputWeight(0, 1); got != want {
		t.Errorf("%d weight units, not %d", got, want)
	}
	g.confirms(t, more)
	g.confirms(t, refund(change(a, more, 0), change(c, more, 2)))
	// Together.
	tx, err := d.Together(d.At, 500, d.Ladder().Change(500)+1000, home, 1000)
	if err != nil {
		t.Fatal(err)
	}
	payer, err := d.SignTogether(tx, d.Payer)
	if err != nil {
		t.Fatal(err)
	}
	payee, err := d.SignTogether(tx, d.Payee)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := d.TogetherDigest(tx)
	if err != nil || d.Terms().Payer.Verify(digest, payer) != nil || d.Terms().Payee.Verify(digest, payee) != nil {
		t.Error("signatures of a cooperative close", err)
	}
	d.Join(tx, payer, payee)
	if got, want := weightOf(tx), contract.TxOverheadWeight+2*contract.P2TROutputWeight+contract.TogetherInputWeight(1022); got != want {
		t.Errorf("together: %d weight units, not %d", got, want)
	}
	g.confirms(t, tx)
	if sp, err := d.Parties().ReadSpend(tx, 0); err != nil || !sp.Together {
		t.Errorf("read %+v, %v", sp, err)
	}
	// A pinned cooperative close, replaced by the rung close.
	f := newBank(t, "f", 14, 10, 40_000, expiry)
	g.opened(t, f)
	pinned, err := f.Together(f.At, 7, f.Ladder().Change(7), home, 400)
	if err != nil {
		t.Fatal(err)
	}
	payer, _ = f.SignTogether(pinned, f.Payer)
	payee, _ = f.SignTogether(pinned, f.Payee)
	f.Join(pinned, payer, payee)
	if err := g.Broadcast(t.Context(), pinned); err != nil {
		t.Fatal(err)
	}
	low := contract.NewSent(pinned, 400, 0)
	rung, fee, err := contract.BuildClose([]contract.BankClose{f.at(7)}, nil, home, 1000, batch.Market{}.Outbid(low, contract.TxOverheadWeight+2*contract.P2TROutputWeight+contract.RungInputWeight(6, 14)))
	if err != nil || fee <= 400 {
		t.Fatal(fee, err)
	}
	g.confirms(t, rung)
	late := newBank(t, "late", 14, 10, 40_000, expiry)
	g.opened(t, late)
	// The timelock.
	back := refund(contract.BankRefund{Bank: e.Bank, At: e.At, Payer: e.Payer})
	g.refused(t, back, notFinal, "a refund at %d before %d", g.tip(t)+1, expiry)
	g.mineTo(t, expiry)
	g.confirms(t, back)
	g.accepts(t, refund(contract.BankRefund{Bank: late.Bank, At: late.At, Payer: late.Payer}))
	g.confirms(t, closeBanks(t, 1000, nil, late.at(14)))
	if sp, err := e.Parties().ReadSpend(back, 0); err != nil || sp.Together || sp.Rung != 0 {
		t.Errorf("read %+v, %v", sp, err)
	}
	if got, want := weightOf(back), contract.TxOverheadWeight+contract.P2TROutputWeight+contract.BankRefundInputWeight(expiry, 62); got != want {
		t.Errorf("refund: %d weight units, not %d", got, want)
	}
}

// signCoin signs the last input of a close, a coin of the wallet.
func signCoin(t testing.TB, tx *btcwire.MsgTx, coin contract.Coin, banks ...*pennyBank) {
	t.Helper()
	prev := txscript.NewMultiPrevOutFetcher(nil)
	prev.AddPrevOut(contract.OutPoint(coin.At), coin.Out)
	for _, b := range banks {
		prev.AddPrevOut(contract.OutPoint(b.At), b.txOut())
	}
	k, _ := wallet.PrivKey()
	sig, err := txscript.RawTxInTaprootSignature(tx, txscript.NewTxSigHashes(tx, prev), len(tx.TxIn)-1, coin.Out.Value, coin.Out.PkScript, nil, txscript.SigHashDefault, k)
	if err != nil {
		t.Fatal(err)
	}
	tx.TxIn[len(tx.TxIn)-1].Witness = btcwire.TxWitness{sig}
}

// TestBatchKeepsPairs: in a close of two banks each change is at the index of
// its bank. One output for both, swapped ones, and an added first input are
// refused.
func TestBatchKeepsPairs(t *testing.T) {
	g := regtest(t)
	a, b := newBank(t, "pair a", 14, 1, 20_000, g.tip(t)+1000), newBank(t, "pair b", 14, 1, 30_000, g.tip(t)+1000)
	g.opened(t, a, b)
	build := func(x, y uint32) *btcwire.MsgTx { return closeBanks(t, 2000, nil, a.at(x), b.at(y)) }
	swapped := build(5, 6)
	swapped.TxOut[0], swapped.TxOut[1] = swapped.TxOut[1], swapped.TxOut[0]
	g.refused(t, resign(t, swapped, a, b), badScript, "changes swapped")
	shared := build(14, 14) // both are 330
	shared.TxOut = slices.Delete(shared.TxOut, 1, 2)
	g.refused(t, resign(t, shared, a, b), badScript, "one output for both changes")
	less := build(5, 6)
	less.TxOut[0].Value--
	less.TxOut[2].Value++
	g.refused(t, resign(t, less, a, b), badScript, "a satoshi less for the payer")
	front := closeBanks(t, 2000, nil, a.at(5))
	front.TxIn = append([]*btcwire.TxIn{{PreviousOutPoint: contract.OutPoint(b.At), Sequence: contract.Sequence}}, front.TxIn...)
	front.TxIn[0].Witness = closeBanks(t, 2000, nil, b.at(5)).TxIn[0].Witness
	g.refused(t, resign(t, front, a, b), badScript, "an input in front")
	g.confirms(t, build(5, 6))
}

// TestRungSignature: a rung's signature is valid only for its rung, outpoint,
// sequence, locktime and leaf.
func TestRungSignature(t *testing.T) {
	g := regtest(t)
	a, b := newBank(t, "rung a", 14, 1, 20_000, g.tip(t)+1000), newBank(t, "rung b", 14, 1, 20_000, g.tip(t)+1000)
	g.opened(t, a, b)
	for what, change := range map[string]func(*btcwire.MsgTx){
		"the rung below": func(tx *btcwire.MsgTx) { tx.TxIn[0].Witness[1] = closeBanks(t, 2000, nil, a.at(6)).TxIn[0].Witness[1] },
		"a rung's penny": func(tx *btcwire.MsgTx) { tx.TxIn[0].Witness[2] = a.secret(4) },
		"another bank's": func(tx *btcwire.MsgTx) {
			tx.TxIn[0].Witness[1] = append(clone(b.Sigs[4][:]), byte(contract.RungHashType))
		},
		"a sequence":     func(tx *btcwire.MsgTx) { tx.TxIn[0].Sequence-- },
		"a locktime":     func(tx *btcwire.MsgTx) { tx.LockTime = 1 },
		"a version":      func(tx *btcwire.MsgTx) { tx.Version = 1 },
		"another change": func(tx *btcwire.MsgTx) { tx.TxOut[0].PkScript = home },
		"no change":      func(tx *btcwire.MsgTx) { tx.TxOut = tx.TxOut[1:] },
		"the together leaf": func(tx *btcwire.MsgTx) {
			plain, err := a.Together(a.At, 5, a.Ladder().Change(5), home, 1000)
			if err != nil {
				t.Fatal(err)
			}
			a.Join(plain, a.Sigs[4], wire.Signature{})
			w := plain.TxIn[0].Witness
			w[1] = append(w[1], byte(contract.RungHashType))
			tx.TxIn[0].Witness = w
		},
	} {
		tx := closeBanks(t, 2000, nil, a.at(5))
		change(tx)
		g.refused(t, resign(t, tx, a), badScript, "%s", what)
	}
	bad := slices.Clone(a.Sigs)
	bad[7][10] ^= 1
	if err := a.VerifyRungs(a.At, bad); !errors.Is(err, contract.ErrRungSignature) {
		t.Error(err)
	}
	if err := a.VerifyRungs(b.At, a.Sigs); !errors.Is(err, contract.ErrRungSignature) {
		t.Error(err)
	}
	if err := a.VerifyRungs(a.At, a.Sigs[:13]); !errors.Is(err, contract.ErrRungSignature) {
		t.Error(err)
	}
	if _, _, err := contract.BuildClose([]contract.BankClose{{Bank: a.Bank, At: a.At, Rung: 5, Sig: a.Sigs[4], Secret: a.secret(6), Payee: a.Payee}}, nil, home, 1000, 0); !errors.Is(err, penny.ErrFalse) {
		t.Error(err)
	}
}

// TestCloseSize measures the vsize of a lone close.
func TestCloseSize(t *testing.T) {
	for _, c := range []struct {
		rungs uint32
		most  int64
	}{{62, 255}, {126, 265}, {1022, 290}} {
		b := newBank(t, fmt.Sprint("size", c.rungs), c.rungs, 1, 1_000_000, 1000)
		b.sign(t, outpoint(1))
		tx := closeBanks(t, 1000, nil, b.at(c.rungs/2))
		if got := contract.VSize(weightOf(tx)); got > c.most {
			t.Errorf("%d rungs: %d vB", c.rungs, got)
		}
	}
}

// TestBankUneconomic: a close that is not worth its fee returns ErrUneconomic.
func TestBankUneconomic(t *testing.T) {
	b := newBank(t, "poor", 14, 1, 2_000, 1000)
	b.sign(t, outpoint(1))
	if _, _, err := contract.BuildClose([]contract.BankClose{b.at(1)}, nil, home, 1000, 0); !errors.Is(err, contract.ErrUneconomic) {
		t.Error(err)
	}
	// A bank that is dust alone counts in a batch (spec/bank.md §6).
	rich := newBank(t, "rich", 14, 1, 20_000, 1000)
	rich.sign(t, outpoint(2))
	alone, batch := closeBanks(t, 1000, nil, rich.at(14)), closeBanks(t, 1000, nil, rich.at(14), b.at(7))
	if more, cost := batch.TxOut[2].Value-alone.TxOut[1].Value, contract.VSize(contract.RungInputWeight(6, 14)+contract.P2TROutputWeight); more < int64(b.Ladder().Share(7))-cost-1 {
		t.Errorf("a poor bank brings %d", more)
	}
	for _, payer := range []wire.Sat{b.Ladder().Change(3) - 1, 2_001, 1_700} {
		if _, err := b.Together(b.At, 3, payer, home, 100); !errors.Is(err, contract.ErrUneconomic) {
			t.Errorf("%v to the payer: %v", payer, err)
		}
	}
}

// TestNewBankRefuses: invalid terms.
func TestNewBankRefuses(t *testing.T) {
	good := newBank(t, "terms", 14, 1, 20_000, 1000).Terms()
	for what, change := range map[string]func(*wire.BankTerms){
		"no expiry":      func(b *wire.BankTerms) { b.Expiry = 0 },
		"a time":         func(b *wire.BankTerms) { b.Expiry = 500_000_000 },
		"no rungs":       func(b *wire.BankTerms) { b.Locks = nil },
		"too many rungs": func(b *wire.BankTerms) { b.Locks = make([][20]byte, wire.MaxRungs+1) },
		"too little":     func(b *wire.BankTerms) { b.Value = 330 + 13 },
		"too much":       func(b *wire.BankTerms) { b.Value = wire.MaxSat + 1 },
		"no pennies":     func(b *wire.BankTerms) { b.PerRung = 0 },
		"too many":       func(b *wire.BankTerms) { b.PerRung = 1 << 24 },
		"no key":         func(b *wire.BankTerms) { b.Payee = wire.Key{} },
		"one key":        func(b *wire.BankTerms) { b.Payee = b.Payer },
		"no blinding":    func(b *wire.BankTerms) { b.Blinding = wire.Secret{} },
	} {
		b := good
		change(&b)
		if _, err := contract.NewBank(b); err == nil {
			t.Error(what)
		}
	}
	if _, err := contract.NewBank(good); err != nil {
		t.Error(err)
	}
}

// BenchmarkOpen measures the work of both sides of opening.
func BenchmarkOpen(b *testing.B) {
	for _, rungs := range []uint32{126, 1022} {
		b.Run(fmt.Sprint(rungs), func(b *testing.B) {
			for b.Loop() {
				bank := newBank(b, "open", rungs, 1000, 10_000_000, 1000)
				bank.sign(b, outpoint(1))
			}
			b.ReportMetric(float64(b.Elapsed()/time.Millisecond)/float64(b.N), "ms/bank")
		})
	}
}
