package contract_test

import (
	"testing"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// TestRefundNoRatchet: while the estimate stands still and nobody mines a bank's
// refund, it is sent again as it is, however large the bank. (It once rose by half
// in every block: its bytes were compared with virtual bytes.) Where the estimate
// rises, it is replaced at that rate, once.
func TestRefundNoRatchet(t *testing.T) {
	for _, rungs := range []uint32{1, 14, 126, 1022} {
		b := newBank(t, "ratchet", rungs, 2, 5_000_000, 1000)
		b.At = outpoint(1)
		back := contract.BankRefund{Bank: b.Bank, At: b.At, Payer: b.Payer}
		one := batch.Member{At: b.At, Value: 5_000_000, Weight: contract.BankRefundInputWeight(1000, int(rungs))}
		plan := func(tip wire.Height, rate wire.SatPerKVB) batch.Tx {
			t.Helper()
			p := batch.Make(batch.Market{Tip: tip, Estimate: rate}, 50, []batch.Member{one})
			if len(p.Txs) != 1 {
				t.Fatalf("%d rungs: %+v", rungs, p)
			}
			if built := p.Txs[0]; built.Again == nil {
				tx, fee, err := contract.BuildBankRefund([]contract.BankRefund{back}, home, 0, built.Fee)
				if err != nil || fee != built.Fee || weightOf(tx) != built.Weight {
					t.Fatalf("%d rungs: fee %v, weight %d for %+v: %v", rungs, fee, weightOf(tx), built, err)
				}
				if want := rate.Fee(contract.VSize(built.Weight)); fee != want {
					t.Fatalf("%d rungs: fee %v at %d, want %v", rungs, fee, rate, want)
				}
				one.In = contract.NewSent(tx, fee, tip)
			}
			return p.Txs[0]
		}
		plan(1000, 10_000)
		for tip := wire.Height(1001); tip < 1013; tip++ {
			if p := plan(tip, 10_000); p.Again == nil {
				t.Fatalf("%d rungs: replaced at a constant estimate: %+v", rungs, p)
			}
		}
		if p := plan(1013, 20_000); p.Replaces == nil {
			t.Errorf("%d rungs: does not follow the estimate: %+v", rungs, p)
		}
		if p := plan(1014, 20_000); p.Again == nil {
			t.Errorf("%d rungs: replaced twice: %+v", rungs, p)
		}
	}
}
