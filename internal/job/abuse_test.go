package job

import (
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// TestRestoredBankLeaves: a bank takes no penny after Leaving, not even one of a restored
// home, which takes pennies otherwise.
func TestRestoredBankLeaves(t *testing.T) {
	m := newMarket(t, 8, 12, 4, 5)
	m.ran(8)
	b := m.job()
	r := place{bank.KindPayee, b.Seats[0].Bank}
	m.shops[1].must(r, bank.Restored{Height: m.tip()})
	m.shops[1].leave(false)
	m.settle()
	c := m.closingOf(m.shops[1])
	if c.Own == nil || c.Own.Held != 8 {
		t.Fatalf("%+v", c.Own)
	}
	m.shops[1].earn(m, &b, 9)
	if y := m.shops[1].states[r].(bank.Payee); y.Count() != 8 {
		t.Errorf("offered %d pennies for ever, bank now holds %d, stop %v", c.Own.Held, y.Count(), y.Stop)
	}
}

// TestNoCloseAfterFalse: after a false epoch a cancel begins no close, which would pay for
// it.
func TestNoCloseAfterFalse(t *testing.T) {
	m := newMarket(t, 31, 12, 4, 5)
	m.lies = 2
	m.ran(12)
	b := m.job()
	if b.False == nil {
		t.Fatal("not found")
	}
	_, effects, err := b.Step(Cancelled{})
	must(t, err)
	if slices.ContainsFunc(effects, func(e BuyerEffect) bool { _, ok := e.(BeginClose); return ok }) {
		t.Error("the buyer begins a close after a false epoch")
	}
}

// TestCancelPaysWhatIsInspected: a cancel waits until everything certified is inspected,
// and its close pays that: neither what a quorum made up, nor what was never dealt.
func TestCancelPaysWhatIsInspected(t *testing.T) {
	m := newMarket(t, 32, 12, 2, 5)
	m.start()
	m.until("running", m.running)
	b := m.job()
	tt := b.Terms
	tt.id = tt.ID()
	cert := (*Certificate)(nil)
	for e := uint32(1); e <= 12; e++ { // three of four sign anything
		before := tt.before(cert)
		body := Body{Epoch: e, Prev: tt.prev(cert), State: wire.Hash{byte(e)}, Paid: slices.Clone(before.Paid), Missed: make([]uint8, 5), Roster: before.Next, Next: before.Next, Bench: before.Bench}
		for p := range 3 {
			body.Paid[p]++
		}
		c := &Certificate{Body: body}
		c.Signed.Value = body.digest(&tt)
		v := Vote{Epoch: e, Round: LockCert, Value: c.Signed.Value}
		for p := range uint8(3) {
			sig, err := sign(m.seller(&b, p).partyKey(b.Seats[p].Bank), v.digest(&tt))
			must(t, err)
			c.Signed.Sigs = append(c.Signed.Sigs, Signer{Party: p, Sig: sig})
		}
		cert = c
		if e <= 11 {
			var err error
			b, _, err = b.Step(Certified{Cert: *c})
			must(t, err)
		}
	}
	b, effects, err := b.Step(Cancelled{})
	must(t, err)
	closes := slices.ContainsFunc(effects, func(e BuyerEffect) bool { _, ok := e.(BeginClose); return ok })
	if closes {
		t.Error("the close begins before an inspection")
	}
	if paid, checked := b.Close(1, 1000).Paid, tt.before(b.Checked).Paid; !slices.Equal(paid, checked) {
		t.Errorf("a close pays %v, inspected is %v", paid, checked)
	}
	wrong, effects, err := b.Step(Inspected{To: b.Looking.Body.Epoch, False: &FalseEpoch{Epoch: 1}})
	must(t, err)
	if wrong.False == nil || len(effects) > 0 {
		t.Errorf("a lie that is found then: %v", effects)
	}
	for b.Looking != nil && err == nil {
		b, effects, err = b.Step(Inspected{To: b.Looking.Body.Epoch})
	}
	must(t, err)
	if !slices.ContainsFunc(effects, func(e BuyerEffect) bool { _, ok := e.(BeginClose); return ok }) {
		t.Errorf("no close after the inspection: %v", effects)
	}
}

// TestBuyerListFee: a payee signs no list of the buyer in which it pays for closing banks
// that earn nothing.
func TestBuyerListFee(t *testing.T) {
	m := newMarket(t, 7, 12, 4, 5)
	m.ranWithout(8)
	m.shops[2].leave(true)
	c := *m.closingOf(m.shops[2])
	step := func(l *FinalList) bool {
		next, effects, _ := c.Step(FinalReceived{From: BuyerSide, Msg: l})
		return next.Over && len(effects) > 0
	}
	if !step(&FinalList{Rate: 1000, Banks: []FinalPaid{{Party: 0, Paid: 8}, {Party: 1, Paid: 8}, {Party: 2, Paid: 8}, {Party: 3, Paid: 8}, {Party: 4}}}) {
		t.Error("a fair list is not signed")
	}
	if step(&FinalList{Rate: 2000, Banks: []FinalPaid{{Party: 0}, {Party: 1, Paid: 8}, {Party: 2}, {Party: 3}, {Party: 4}}}) {
		t.Error("a list is signed in which one payee pays for the banks of all")
	}
}

// TestAgainAfterLoneClose: if one bank was closed alone, though the common transaction was
// complete, the buyer can close the others together.
func TestAgainAfterLoneClose(t *testing.T) {
	m := newMarket(t, 9, 12, 4, 5)
	m.ran(10)
	final := wire.Hash{}
	m.buyer().must(place{KindBuyer, m.id}, Cancelled{})
	m.tick(6)
	c := m.closing()
	if c.Sent == nil {
		t.Fatal("no final")
	}
	final = c.Sent.Txid
	// party 1 (shop 2) closes alone, with a higher fee: mined instead
	s := m.shops[2]
	y := s.states[s.bankPlace()].(bank.Payee)
	paper := s.papers[s.bankPlace()]
	k, err := y.Closing(&paper)
	must(t, err)
	tx, _, err := contract.BuildClose([]contract.BankClose{k}, nil, s.script, 6000, c.Sent.Fee+1000)
	must(t, err)
	must(t, m.chain.Broadcast(t.Context(), tx))
	m.mine(1)
	c = m.closing()
	if c.Spent[1] == nil || c.Spent[1].Txid == final {
		t.Fatalf("%+v", c.Spent[1])
	}
	m.buyer().must(place{KindClose, m.id}, Again{})
	m.tick(30)
	m.mine(2)
	c = m.closing()
	if c.Sent.Txid == final && c.Spent[0] == nil {
		t.Errorf("four banks are open, and the buyer's side is over for good: pending %v, interest %+v", c.pending(), c.Interest().Done)
	}
}

// TestSupplyEnds: a holder that stores nothing is not supplied again before the next block
// or certificate.
func TestSupplyEnds(t *testing.T) {
	m := newMarket(t, 13, 12, 4, 5)
	m.ran(1)
	b := m.job()
	n := 0
	for range 1000 {
		next, effects, err := b.Step(Supplied{Holder: 2, Upto: make([]uint32, 5)})
		must(t, err)
		b = next
		for _, e := range effects {
			if s, ok := e.(Supply); ok && s.Holder == 2 {
				n++
			}
		}
	}
	if n > 10 {
		t.Errorf("%d supplies in 1000 answers, with no block and no certificate between", n)
	}
}

// TestOnlyTheLeaderLists: lists of a party that does not lead do not end the close of the
// others.
func TestOnlyTheLeaderLists(t *testing.T) {
	for _, attack := range []bool{false, true} {
		m := newMarket(t, 11, 12, 4, 5)
		m.ranWithout(10)
		for _, s := range m.shops[1:5] {
			s.leave(false)
		}
		if attack {
			for i := range uint8(4) {
				l := &FinalList{Round: 1, Rate: 1000, Banks: []FinalPaid{{Party: i, Paid: 10}, {Party: 4, Paid: 12}}}
				b := m.job()
				s := m.seller(&b, i)
				_ = s.tell(place{KindClose, s.job.bank}, FinalReceived{From: 4, Msg: l})
			}
		}
		m.settle()
		m.tick(30)
		n := 0
		for _, s := range m.shops[1:5] {
			if c := m.closingOf(s); c != nil && c.Sent != nil {
				n++
			}
		}
		if n != 4 {
			t.Errorf("lists of another %v: %d have the common transaction", attack, n)
		}
	}
}

// TestPayoutEnds: a payout that is worth no fee is given up once no reorg matters.
func TestPayoutEnds(t *testing.T) {
	m := newMarket(t, 7, 12, 4, 5)
	m.ranWithout(10)
	m.leaveAll()
	m.tick(12)
	m.mine(1)
	c := *m.closingOf(m.shops[1])
	if !c.due() {
		t.Fatal("no payout")
	}
	for range 200 {
		next, effects, err := c.Step(Connected{Block: contract.Block{Height: c.Tip + 1}})
		must(t, err)
		c = next
		for _, e := range effects {
			if _, ok := e.(PayoutDue); ok {
				c, _, err = c.Step(PayoutFailed{})
				must(t, err)
			}
		}
	}
	if !c.Interest().Done {
		t.Errorf("long after the expiry it is woken by each block: %d", c.Interest().Wake)
	}
}
