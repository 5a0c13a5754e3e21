package job

import (
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// TestReorgUndoOfMoney: in the tales, a block that is undone and comes again changes
// nothing: at every height, each machine of a job's money that hears of a block, of its
// undoing and of the block again is in the state that the block alone leaves.
func TestReorgUndoOfMoney(t *testing.T) {
	t.Parallel()
	tried := 0
	for i, s := range tales {
		if tier.Short() && i%5 != 0 {
			continue
		}
		m := newMarket(t, uint64(i), 12, 4, s.candidates)
		m.undo = true
		s.play(m)
		tried += m.undone
	}
	if tried == 0 {
		t.Error("nothing is undone")
	}
	t.Logf("%d blocks undone", tried)
}

// lasting is what of a state does not follow from the moment at which it was told.
func lasting(state any) any {
	switch x := state.(type) {
	case Buyer:
		return x
	case Closing:
		x.Wait, x.Payout, x.Rate = 0, nil, 0
		return x
	}
	return nil
}

// TestDealsAreRepeated: a buyer whose home is restored from a copy of any moment after
// the funding deals the same windows as before, to the last share, so that no party
// has two roots of one window (no TwoWindows); and its verdicts are the same.
func TestDealsAreRepeated(t *testing.T) {
	t.Parallel()
	m := newMarket(t, 9, 12, 2, 5)
	m.start()
	m.until("running", m.running)
	var copies [][]byte
	for range 10 {
		b := m.job()
		raw, err := wire.Marshal(&b)
		must(t, err)
		copies = append(copies, raw)
		m.epochs(1)
	}
	roots := len(m.roots)
	if roots < 20 {
		t.Fatalf("%d windows", roots)
	}
	for n, raw := range copies {
		var b Buyer
		must(t, wire.Unmarshal(raw, &b))
		b, _, err := b.Step(Restored{})
		must(t, err)
		// It catches up by the last certificate and deals on; every holder lost its sheets.
		b, effects, err := b.Step(Certified{Cert: *m.cert})
		must(t, err)
		for len(effects) > 0 {
			e := effects[0]
			effects = effects[1:]
			if x, ok := e.(Inspect); ok {
				next, more, err := b.Step(Inspected{To: x.To})
				must(t, err)
				b, effects = next, append(effects, more...)
			}
		}
		m.bound(&b)
		for _, s := range m.shops[1:] {
			s.windows = map[uint8]uint32{}
			s.supplied(m.buyer(), &b, s.job.party) // fails if a root differs
		}
		if len(m.roots) < roots {
			t.Errorf("copy %d deals less", n)
		}
		purse := m.buyer().purse(&b, 0)
		secret := func(k uint32) (x [wire.PennySize]byte) {
			p := purse.At(b.Terms.Parties[0].Pennies - k).Secret
			copy(x[:], p[:])
			return x
		}
		one, err := b.Deals(0, 1, secret)
		must(t, err)
		two, err := b.Deals(0, 1, secret)
		must(t, err)
		if !same(one[1], two[1]) {
			t.Error("two deals of one window differ")
		}
		if _, err := b.Deals(0, b.Dealt[0]+1, secret); err == nil {
			t.Error("a window is computed that is not dealt")
		}
	}
}

// TestRefereeOneAttemptAtATime: the buyer runs a stuck epoch once parties say so of
// which one is honest; a single party makes it skip no attempt.
func TestRefereeOneAttemptAtATime(t *testing.T) {
	t.Parallel()
	m := newMarket(t, 3, 12, 4, 5)
	m.ran(2)
	r := place{KindBuyer, m.id}
	say := func(from uint8, epoch, attempt uint32) {
		m.buyer().must(r, Stuck{From: from, Epoch: epoch, Attempt: attempt})
		m.settle()
	}
	say(0, 3, 0)
	say(0, 3, MaxAttempts-2)
	say(4, 3, 0) // a standby knows nothing
	say(1, 5, 0)
	if len(m.told) != 0 {
		t.Fatalf("%+v", m.told)
	}
	say(1, 3, 0)
	if len(m.told) != 1 || m.told[0].Attempt != 1 || m.told[0].Epoch != 3 || m.told[0].State != stateAt(3) {
		t.Fatalf("%+v", m.told)
	}
	b := m.job()
	if v := m.told[0]; !v.Buyer || verify(b.Terms.Buyer, v.digest(&b.Terms), v.Sig) != nil {
		t.Error("not the buyer's signature")
	}
	say(2, 3, 0) // it has not heard: again the same
	if len(m.told) != 2 || m.told[1] != m.told[0] {
		t.Fatalf("%+v", m.told)
	}
	say(1, 3, 1) // party 0 said more already
	if len(m.told) != 3 || m.told[2].Attempt != 2 {
		t.Fatalf("%+v", m.told)
	}
}

// TestSampleIsSecret: which epochs are run again follows from the buyer's secret and
// the range, and every epoch may be among them.
func TestSampleIsSecret(t *testing.T) {
	t.Parallel()
	m := newMarket(t, 4, 12, 4, 5)
	m.start()
	b := m.job()
	hit := map[uint32]int{}
	for n := range 400 {
		b.Seed = secretOf("seed %d", n)
		list := b.sample(10, 30)
		if len(list) != 2 || list[0] == list[1] || !slices.Equal(list, b.sample(10, 30)) {
			t.Fatal(list)
		}
		for _, e := range list {
			hit[e]++
		}
	}
	for e := uint32(11); e <= 30; e++ {
		if hit[e] < 10 {
			t.Errorf("epoch %d is chosen %d times of 400", e, hit[e])
		}
	}
	if len(hit) != 20 || !slices.Equal(b.sample(3, 5), []uint32{4, 5}) || !slices.Equal(b.sample(3, 4), []uint32{4}) {
		t.Error("epochs outside of the range, or not all of a short one")
	}
}

// TestTiedBank: a job's bank pays for nothing else. Its payer orders no pennies from
// it, and its pennies give no credit for payments; a close by both gives none of them
// back, whatever the payer says that it has not used.
func TestTiedBank(t *testing.T) {
	t.Parallel()
	m := newMarket(t, 6, 12, 4, 5)
	m.ran(8)
	b := m.job()
	p := m.buyer().states[place{bank.KindPayer, b.Seats[0].Bank}].(bank.Payer)
	if p.State() != bank.StateOpen {
		t.Fatal(p.State())
	}
	for _, ev := range []bank.Event{bank.Ordered{Pennies: 1}, bank.Assigned{ID: wire.Hash{1}, Amount: 1000}} {
		if _, _, err := p.Step(ev); err == nil {
			t.Errorf("%T from a job's bank", ev)
		}
	}
	y := m.shops[1].states[place{bank.KindPayee, b.Seats[0].Bank}].(bank.Payee)
	if y.Count() != 8 || y.Credit(false, 0) != 0 {
		t.Errorf("%d pennies, a credit of %v", y.Count(), y.Credit(false, 0))
	}
	if _, _, err := y.Step(bank.Passed{Amount: 1}); err == nil {
		t.Error("a payment from the credit of a job's bank")
	}
	y, _, err := y.Step(bank.CloseAsked{Fee: 200, Unused: 1 << 40})
	must(t, err)
	if o := y.Offered(); o.Payer != y.Ladder.Value-y.Paid(8) {
		t.Errorf("%v back to the payer", o.Payer)
	}
}

// TestCloseStopsAcceptance: who took part in a close accepts no more pennies, also if
// the final transaction never comes; and later closes alone with those it had.
func TestCloseStopsAcceptance(t *testing.T) {
	t.Parallel()
	m := newMarket(t, 8, 12, 4, 5)
	m.ran(8)
	m.shops[1].leave(false)
	m.settle()
	b := m.job()
	m.shops[1].earn(m, &b, 9)
	r := place{bank.KindPayee, b.Seats[0].Bank}
	if y := m.shops[1].states[r].(bank.Payee); y.Count() != 8 || y.Stop == bank.NotStopped {
		t.Errorf("%d pennies, stop %v", y.Count(), y.Stop)
	}
	m.mine(int(m.margins.Patience) + 2)
	if y := m.shops[1].states[r].(bank.Payee); y.Spend == nil || y.Spend.Rung != 8 {
		t.Errorf("not closed alone: %+v", y.Spend)
	}
}

// TestListsAreVerified: a party signs no list in which its own part is less than its
// pennies, or whose fee is beyond its bound, from the buyer or from a party.
func TestListsAreVerified(t *testing.T) {
	t.Parallel()
	m := newMarket(t, 7, 12, 4, 5)
	m.ranWithout(8)
	m.shops[2].leave(true)
	c := *m.closingOf(m.shops[2])
	c.Offers = slices.Clone(c.Offers)
	for i := range uint8(4) {
		if c.Offers[i] == nil {
			c.Offers[i] = &FinalOffer{Held: 8}
		}
	}
	all := func(paid, mine uint32) (list []FinalPaid) {
		for i := range uint8(4) {
			list = append(list, FinalPaid{Party: i, Paid: paid})
		}
		list[1].Paid = mine
		return list
	}
	for what, x := range map[string]struct {
		from uint8
		list FinalList
		ok   bool
	}{
		"right":                       {BuyerSide, FinalList{Rate: 1000, Banks: all(8, 8)}, true},
		"more than it has":            {BuyerSide, FinalList{Rate: 1000, Banks: all(8, 9)}, true},
		"a penny less":                {BuyerSide, FinalList{Rate: 1000, Banks: all(8, 7)}, false},
		"too high a rate":             {BuyerSide, FinalList{Rate: 2001, Banks: all(8, 8)}, false},
		"twice the rate":              {BuyerSide, FinalList{Rate: 2000, Banks: all(8, 8)}, true},
		"too low a rate":              {BuyerSide, FinalList{Rate: 499, Banks: all(8, 8)}, false},
		"without this party":          {BuyerSide, FinalList{Rate: 1000, Banks: all(8, 8)[:1]}, false},
		"of a party":                  {0, FinalList{Rate: 1000, Banks: all(8, 8)}, true},
		"of a party, more than it is": {0, FinalList{Rate: 1000, Banks: all(8, 9)}, false},
		"of a party, a penny less":    {0, FinalList{Rate: 1000, Banks: all(8, 7)}, false},
	} {
		next, effects, err := c.Step(FinalReceived{From: x.from, Msg: &x.list})
		signed := slices.ContainsFunc(effects, func(e CloseEffect) bool {
			s, ok := e.(SendFinal)
			if !ok {
				return false
			}
			_, ok = s.Msg.(*FinalShare)
			return ok
		})
		// What it signs is in the state that is stored before the share leaves.
		stored := next.Over
		if x.from != BuyerSide {
			stored = next.List != nil && next.Shares[next.Me] != nil
		}
		if signed != x.ok || (err == nil) != x.ok || stored != x.ok {
			t.Errorf("%s: signed %v, stored %v: %v", what, signed, stored, err)
		}
	}
	// A second list of the same round is not signed.
	next, _, err := c.Step(FinalReceived{From: 0, Msg: &FinalList{Rate: 1000, Banks: all(8, 8)}})
	must(t, err)
	if _, effects, _ := next.Step(FinalReceived{From: 3, Msg: &FinalList{Rate: 1001, Banks: all(8, 8)}}); len(effects) > 0 {
		t.Errorf("%v", effects)
	}
}

// TestOrder: an order of which no job can be made is refused before anyone is asked.
func TestOrder(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(o *Order){
		"too few candidates":  func(o *Order) { o.Candidates = o.Candidates[:4] },
		"too many candidates": func(o *Order) { o.Candidates = slices.Repeat(o.Candidates, 20) },
		"nine parties":        func(o *Order) { o.Standbys = 5; o.Candidates = slices.Repeat(o.Candidates, 3) },
		"nothing inspected":   func(o *Order) { o.Sample = 0 },
		"a stop after expiry": func(o *Order) { o.Stop = o.Expiry },
		"no quorum":           func(o *Order) { o.Q = 2 },
		"no epochs":           func(o *Order) { o.Epochs = 0 },
		"more epochs than N":  func(o *Order) { o.Epochs = MaxEpochs + 1 },
		"a bank of dust":      func(o *Order) { o.Candidates = slices.Clone(o.Candidates); o.Candidates[2].Value = 331 },
		"a bank of all money": func(o *Order) { o.Candidates = slices.Clone(o.Candidates); o.Candidates[2].Value = wire.MaxSat },
		"shares that are one": func(o *Order) { o.T = 1 },
	} {
		m := newMarket(t, 2, 12, 4, 5)
		change(&m.order)
		if _, _, err := NewBuyer(m.id, m.order, secretOf("a"), secretOf("b")); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// TestProgress: what is spent, at risk and still there adds up to the banks at every
// moment.
func TestProgress(t *testing.T) {
	t.Parallel()
	m := newMarket(t, 10, 12, 4, 5)
	m.start()
	m.until("running", m.running)
	for n := range uint32(10) {
		b := m.job()
		p := b.Progress()
		if p.Epochs != n || p.Inspected != n || p.Paid[0] != n || p.Paid[4] != 0 {
			t.Fatalf("%+v after %d epochs", p, n)
		}
		total := b.total().Msat()
		if p.Spend+p.Back != total || p.Risk > p.Back {
			t.Errorf("%v spent, %v back of %v, %v at risk", p.Spend, p.Back, total, p.Risk)
		}
		var risk wire.Msat
		for i, d := range b.Dealt {
			l := b.Ladder(uint8(i))
			risk += l.Paid(d) - l.Paid(p.Paid[i])
		}
		if p.Risk != risk || n == 0 && risk == 0 {
			t.Errorf("%v at risk, %v are dealt and not certified", p.Risk, risk)
		}
		m.epochs(1)
	}
}
