package contract_test

import (
	"errors"
	"slices"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// TestReadBankSpend: every rung is read correctly from a close, at any position
// in the transaction and with an annex, and so are a cooperative close and a
// refund. A spend through none of the leaves, or through one of another bank's,
// is reported.
func TestReadBankSpend(t *testing.T) {
	banks := []*pennyBank{newBank(t, "read 0", 1, 1, 5_000, 1000), newBank(t, "read 1", 2, 3, 400, 1001), newBank(t, "read 2", 14, 2, 9_999, 1002),
		newBank(t, "read 3", 126, 1, 1_000_000, 1003), newBank(t, "read 4", 62, 1, 392, 1004)}
	for i, b := range banks {
		b.sign(t, outpoint(i))
	}
	annex := append([]byte{0x50}, 1, 2, 3)
	read := func(b *pennyBank, tx *btcwire.MsgTx, n int, check func(contract.BankSpend, error)) {
		t.Helper()
		check(b.Parties().ReadSpend(tx, n))
		w := tx.TxIn[n].Witness
		tx.TxIn[n].Witness = append(slices.Clone(w), annex)
		check(b.Parties().ReadSpend(tx, n))
		tx.TxIn[n].Witness = w
	}
	// All rungs of all banks, five in each close.
	for g := uint32(1); g <= 126; g++ {
		var closes []contract.BankClose
		var in []*pennyBank
		for _, b := range banks {
			if g <= b.Ladder().Rungs {
				closes, in = append(closes, b.at(g)), append(in, b)
			}
		}
		tx, _, err := contract.BuildClose(closes, []contract.Coin{{At: outpoint(99), Out: btcwire.NewTxOut(100_000, home)}}, home, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		for n, b := range in {
			read(b, tx, n, func(sp contract.BankSpend, err error) {
				if err != nil || sp.Rung != g || sp.Together || sp.Change != b.Ladder().Change(g) || sp.Value != b.Terms().Value || !slices.Equal(sp.Secret, b.secret(g)) {
					t.Errorf("rung %d of %d: %+v, %v", g, b.Ladder().Rungs, sp, err)
				}
			})
			if other := in[(n+1)%len(in)]; other != b {
				read(other, tx, n, func(sp contract.BankSpend, err error) {
					if !errors.Is(err, contract.ErrNotOurs) {
						t.Errorf("another bank's rung %d: %+v, %v", g, sp, err)
					}
				})
			}
		}
		read(banks[0], tx, len(in), func(sp contract.BankSpend, err error) { // the coin
			if !errors.Is(err, contract.ErrNotOurs) {
				t.Errorf("a key's spend: %+v, %v", sp, err)
			}
		})
	}
	b := banks[2]
	both, err := b.Together(b.At, 3, b.Ladder().Change(3)+5, home, 100)
	if err != nil {
		t.Fatal(err)
	}
	b.Join(both, wire.Signature{1}, wire.Signature{2})
	read(b, both, 0, func(sp contract.BankSpend, err error) {
		if err != nil || !sp.Together || sp.Rung != 0 || sp.Change != b.Ladder().Change(3)+5 {
			t.Errorf("by both: %+v, %v", sp, err)
		}
	})
	back, _, err := contract.BuildBankRefund([]contract.BankRefund{{Bank: banks[0].Bank, At: banks[0].At, Payer: banks[0].Payer}, {Bank: b.Bank, At: b.At, Payer: b.Payer}}, home, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	read(b, back, 1, func(sp contract.BankSpend, err error) { // with fewer outputs than inputs
		if err != nil || sp.Together || sp.Rung != 0 || sp.Secret != nil {
			t.Errorf("a refund: %+v, %v", sp, err)
		}
	})
	tx := closeBanks(t, 0, nil, b.at(5))
	for what, change := range map[string]func(){
		"another change":   func() { tx.TxOut[0].Value++ },
		"no output":        func() { tx.TxOut = nil },
		"an argument more": func() { tx.TxIn[0].Witness = append(btcwire.TxWitness{{}}, tx.TxIn[0].Witness...) },
		"another penny":    func() { tx.TxIn[0].Witness[2] = b.secret(4) },
		"another expiry":   func() { tx.TxIn[0].Witness[3] = contract.RefundScript(1003, b.Terms().Payer) },
		"no witness":       func() { tx.TxIn[0].Witness = nil },
		"a signature":      func() { tx.TxIn[0].Witness = tx.TxIn[0].Witness[:1] },
		"an empty one":     func() { tx.TxIn[0].Witness = btcwire.TxWitness{{}, {}, {}} },
	} {
		tx = closeBanks(t, 0, nil, b.at(5))
		change()
		if sp, err := b.Parties().ReadSpend(tx, 0); !errors.Is(err, contract.ErrNotOurs) {
			t.Errorf("%s: %+v, %v", what, sp, err)
		}
	}
	// No witness causes a panic.
	rapid.Check(t, func(t *rapid.T) {
		p := contract.BankParties{Payer: b.Terms().Payer, Payee: b.Terms().Payee, Expiry: 1002, Ladder: penny.Ladder{Value: 9_999, Rungs: 14, PerRung: 2}}
		tx := btcwire.NewMsgTx(2)
		item := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 40), rapid.SampledFrom([][]byte{{0x50}, contract.TogetherScript(p.Payer, p.Payee),
			contract.RefundScript(1002, p.Payer), contract.RungScript(contract.Lock(b.secret(3)), p.Payer, p.Payee), b.secret(3)}))
		for range rapid.IntRange(1, 3).Draw(t, "inputs") {
			tx.AddTxIn(&btcwire.TxIn{Witness: rapid.SliceOfN(item, 0, 7).Draw(t, "witness")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "outputs") {
			tx.AddTxOut(btcwire.NewTxOut(rapid.Int64().Draw(t, "value"), nil))
		}
		n := rapid.IntRange(0, len(tx.TxIn)-1).Draw(t, "input")
		if sp, err := p.ReadSpend(tx, n); err == nil && sp.Rung > 14 {
			t.Fatalf("%+v", sp)
		}
	})
}
