package bank_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// TestOutcome: what each side would get is said as it is, in figures and in words.
func TestOutcome(t *testing.T) {
	const rate = wire.SatPerKVB(1000)
	ladder := penny.Ladder{Value: 100_330, Rungs: 10, PerRung: 10} // 10,000 sat a rung
	open := bank.Ours{Ladder: ladder, Expiry: 500, Confirmed: &contract.Fact{Height: 10}, Funded: true, Tip: 19, Margins: bank.MarginsFor(wire.Regtest)}
	fee := bank.CloseCost(10, rate)
	with := func(change func(*bank.Ours)) bank.Ours {
		o := open
		change(&o)
		return o
	}
	spent := func(s contract.BankSpend) bank.Ours {
		return with(func(o *bank.Ours) { o.Spend = &bank.SpendFact{Fact: contract.Fact{Height: 15}, BankSpend: s} })
	}
	for name, c := range map[string]struct {
		of           bank.Ours
		count        uint32
		rate         wire.SatPerKVB
		payee, payer wire.Sat
		between      wire.Msat
		says         string
	}{
		"not confirmed":          {with(func(o *bank.Ours) { o.Confirmed, o.Funded = nil, false }), 0, rate, 0, 100_330, 0, "not confirmed"},
		"the funding was undone": {with(func(o *bank.Ours) { o.Confirmed = nil }), 25, rate, 0, 100_330, 25_000_000, "reorg"},
		"no rung":                {open, 9, rate, 0, 100_330, 9_000_000, "no rung is reached"},
		"a rung":                 {open, 20, rate, 20_000 - fee, 80_330, 0, "rung 2 of 10"},
		"between two rungs":      {open, 25, rate, 20_000 - fee, 80_330, 5_000_000, "between two rungs"},
		"closing costs more":     {open, 15, 100_000, 0, 100_330, 15_000_000, "only together"},
		"refunded":               {spent(contract.BankSpend{}), 25, rate, 0, 100_330, 0, "refunded in full"},
		"closed":                 {spent(contract.BankSpend{Rung: 2, Change: 80_330}), 25, rate, 20_000, 80_330, 0, "is closed"},
		"closed with others":     {spent(contract.BankSpend{Together: true, Joint: true}), 25, rate, 25_000, 75_330, 0, "other banks of its job"},
	} {
		out := c.of.Outcome(c.count, c.rate)
		if out.Payee != c.payee || out.Payer != c.payer || out.Between != c.between || !strings.Contains(out.Text, c.says) {
			t.Errorf("%s: %+v", name, out)
		}
	}
	payee, payer, both, ok := open.Together(25, rate)
	if !ok || both != bank.TogetherCost(10, rate) || payee != 25_000-both || payer != 75_330 {
		t.Errorf("together: %v, %v, %v, %v", payee, payer, both, ok)
	}
	if _, _, _, ok := open.Together(0, rate); ok {
		t.Error("a payee without pennies pays for a close")
	}
	if closed := spent(contract.BankSpend{Rung: 2}); closed.Closed() == nil || closed.Buried() || open.Closed() != nil || open.Buried() {
		t.Error("Closed, Buried")
	}
	closed := spent(contract.BankSpend{Rung: 2})
	closed.Tip = 15 + wire.Height(closed.Margins.Final) - 1
	if !closed.Buried() {
		t.Error("a close with its confirmations is not buried")
	}
}

// TestExposed: the credit that a payer risks is what is paid and not used; over a
// banker it grows by whole rungs beyond the reserve.
func TestExposed(t *testing.T) {
	p := bank.Payer{Ours: bank.Ours{Ladder: penny.Ladder{Value: 100_330, Rungs: 10, PerRung: 10}}}
	p.Target, p.Assigned = 30, 12_000_000
	for _, c := range []struct {
		need    wire.Msat
		banker  bool
		reserve wire.Sat
		want    wire.Msat
	}{
		{0, false, 0, 18_000_000},             // 30 pennies paid, 12 used
		{8_500_000, false, 0, 9_500_000},      // the same pennies, 20.5 used
		{20_000_000, false, 0, 0},             // 32 are paid then
		{20_500_000, false, 0, 500_000},       // 33
		{8_000_000, true, 500, 10_000_000},    // 20 used and 500 sat of reserve: rung 3
		{18_000_000, true, 500, 10_000_000},   // rung 4
		{90_000_000, false, 0, 0},             // more than there is
		{80_000_000, true, 10_000, 8_000_000}, // no rung beyond the last
	} {
		if got := p.Exposed(c.need, c.banker, c.reserve); got != c.want {
			t.Errorf("%v more, banker %v, reserve %v: %v are exposed, not %v", c.need, c.banker, c.reserve, got, c.want)
		}
	}
	if p.Unused() != 18_000_000 || p.Left() != 88_000_000 || p.Closable(10_000) != 78_000_000 {
		t.Errorf("unused %v, left %v, closable %v", p.Unused(), p.Left(), p.Closable(10_000))
	}
	p.Direct = 30 // the user's own pennies are no credit
	if p.Unused() != 0 {
		t.Errorf("%v of what was paid directly is credit", p.Unused())
	}
}

// TestReceipt: every field of a receipt counts.
func TestReceipt(t *testing.T) {
	key := wire.Secret(wire.Tagged("test", []byte("payee")))
	priv, err := key.PrivKey()
	must(t, err)
	text := wire.NoteText{Reference: "invoice 7", Memo: "tea"}
	text.Salt[0] = 9
	s := &bank.Sending{ID: wire.PaymentID(wire.Regtest, &text), Order: bank.Order{Payee: wire.XOnly(priv.PubKey()), Text: &text}}
	if _, err := bank.NewReceipt(wire.Regtest, s); !errors.Is(err, bank.ErrReceipt) {
		t.Errorf("without a signature: %v", err)
	}
	s.Ack.Index, s.Ack.Total = 3, 5_000_000
	s.Ack.Sig, err = wire.Sign(key, wire.TransferDigest(s.ID, 3, 5_000_000, s.Order.Payee))
	must(t, err)
	r, err := bank.NewReceipt(wire.Regtest, s)
	must(t, err)
	other := wire.XOnly(priv.PubKey())
	other[0] ^= 1
	for name, change := range map[string]func(*bank.Receipt){
		"network":          func(r *bank.Receipt) { r.Network = wire.Signet },
		"payment":          func(r *bank.Receipt) { r.Payment = hex.EncodeToString(make([]byte, 32)) },
		"a short payment":  func(r *bank.Receipt) { r.Payment = r.Payment[2:] },
		"a long payment":   func(r *bank.Receipt) { r.Payment += "00" },
		"payee":            func(r *bank.Receipt) { r.Payee = wire.EncodeAddress(wire.Regtest, other) },
		"no payee":         func(r *bank.Receipt) { r.Payee = "" },
		"total":            func(r *bank.Receipt) { r.Total++ },
		"step":             func(r *bank.Receipt) { r.Step++ },
		"salt":             func(r *bank.Receipt) { r.Salt = hex.EncodeToString(make([]byte, len(text.Salt))) },
		"reference":        func(r *bank.Receipt) { r.Reference += "0" },
		"memo":             func(r *bank.Receipt) { r.Memo = "" },
		"an endless memo":  func(r *bank.Receipt) { r.Memo = strings.Repeat("x", 1<<16) },
		"signature":        func(r *bank.Receipt) { r.Signature = strings.Repeat("1", 128) },
		"signature's size": func(r *bank.Receipt) { r.Signature = "no hex" },
	} {
		c := *r
		change(&c)
		if err := c.Verify(); !errors.Is(err, bank.ErrReceipt) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}
