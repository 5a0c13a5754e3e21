package bank_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/ledger"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// The likely mistakes, and the tests for each:
//
// 1. Two banks of equal change in one close: contract.TestBatchKeepsPairs,
// TestBankPackageValid.
//
// 2. A rung's signature used elsewhere: contract.TestRungSignature.
//
// 3. Change in 128 bits: penny.TestLadder; V − 330 < G:
// contract.TestNewBankRefuses, TestPayeeRefuses; dust only in a batch:
// contract.TestBankUneconomic.
//
// 4. One wrong h_g: TestRungLockChecked; the funding replaced or reorged:
// TestFunding; a backup restored: TestRestore, TestModel.
//
// 5. A penny after a close: TestCloseStopsAcceptance; a pinned one:
// TestPinnedClose, contract.TestBankPackageValid.
//
// 6. A penny short of every rung: TestBankerForwardsClosable.

// codeOf is the code of a refusal; OK for none.
func codeOf(t testing.TB, err error) wire.Code {
	t.Helper()
	var r *wire.Refusal
	if err != nil && !errors.As(err, &r) {
		t.Fatalf("not a refusal: %v", err)
	}
	if r == nil {
		return wire.OK
	}
	return r.Code
}

// TestMonotoneRungs: what a payee holds only grows, by whatever is sent in whatever
// order: pennies that repeat or are out of order, jumps over several rungs and
// beyond MaxJump, pennies of another bank, of another number, and made up. Each is
// refused by its own code, and changes nothing.
func TestMonotoneRungs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	a, c := w.house("a", 100_000, 100_000), w.house("c")
	l := penny.Ladder{Value: 50_000, Rungs: 5, PerRung: 30_000}
	id, other := a.opened(c, l, 100), a.opened(c, small, 100)
	pence := bank.Pence(a.payer(id).Root, l.N())
	purse := penny.NewPurse(pence)
	opened := c.payee(id)
	if code := codeOf(t, c.paid(id, purse.At(l.N()-wire.MaxJump-1))); code != wire.TooBig {
		t.Errorf("a jump of one too many: %v", code)
	}
	if err := c.paid(id, purse.At(l.N()-wire.MaxJump)); err != nil {
		t.Errorf("the longest jump: %v", err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		c.states[ref{payee, id}] = opened
		for range rapid.IntRange(1, 12).Draw(rt, "pennies") {
			before := c.payee(id)
			count := before.Count() + rapid.Uint32Range(0, 40_000).Draw(rt, "more")
			if rapid.Bool().Draw(rt, "any") {
				count = rapid.Uint32Range(0, l.N()).Draw(rt, "count")
			}
			count = min(count, l.N())
			p := purse.At(l.N() - count)
			want := wire.OK
			how := rapid.IntRange(0, 7).Draw(rt, "how")
			switch how {
			case 0:
				p.Secret[rapid.IntRange(0, wire.PennySize-1).Draw(rt, "byte")] ^= 1
				want = wire.WrongSecret
			case 1:
				p.Secret = a.penny(other, min(count, small.N())).Secret
				want = wire.WrongSecret
			case 2: // of another number
				p = purse.At(p.Seq - min(p.Seq, 1))
				if p.Seq++; count == l.N() || p.Seq >= l.N() {
					continue
				}
				want = wire.WrongSecret
			}
			switch jump := int64(l.N()-p.Seq) - int64(before.Count()); {
			case jump <= 0:
				want = wire.BadRequest
			case jump > wire.MaxJump:
				want = wire.TooBig
			}
			err := c.paid(id, p)
			if code := codeOf(t, err); code != want {
				rt.Fatalf("%d pennies after %d, way %d: %v", count, before.Count(), how, err)
			}
			after := c.payee(id)
			if want == wire.OK && after.Count() != count || want != wire.OK && after.Count() != before.Count() || after.Rung() < before.Rung() {
				rt.Fatalf("%d pennies after %d: it holds %d", count, before.Count(), after.Count())
			}
			for g := uint32(1); g <= after.Rung(); g += 2 { // each rung that it counts can be closed
				if contract.Lock(after.Secret(g)) != c.papers[ref{payee, id}].Terms.Locks[g-1] {
					rt.Fatalf("rung %d of %d does not open", g, after.Rung())
				}
			}
		}
	})
	if code := codeOf(t, c.paid(other, penny.Penny{Seq: wire.MaxJump})); code != wire.BadRequest {
		t.Errorf("a number above all: %v", code)
	}
}

// TestRungLockChecked: with one wrong h_g, the payee accepts pennies up to the
// rung below, one by one and by jumps over the wrong one, then stops, and
// closes at g−1 on the chain.
func TestRungLockChecked(t *testing.T) {
	t.Parallel()
	for wrong := uint32(1); wrong <= small.Rungs; wrong++ {
		for _, jump := range []uint32{1, 7, 10, 25, 30} {
			w := newTown(t, nil)
			w.a.falseLock = wrong
			id := w.a.opened(w.c, small, shortLife)
			taken := uint32(0)
			for n := jump; n <= small.N(); n += jump {
				if err := w.a.pays(id, jump); err != nil {
					break
				}
				y := w.c.payee(id)
				if n/small.PerRung < wrong && y.Count() != n {
					t.Fatalf("it holds %d of %d pennies", y.Count(), n)
				}
				taken = y.Count()
			}
			y := w.c.payee(id)
			if y.Rung() != wrong-1 || y.Stop != bank.StopLock && y.Count() >= wrong*small.PerRung || taken > wrong*small.PerRung {
				t.Errorf("wrong lock at %d, jumps of %d: rung %d, %d pennies, stopped: %v", wrong, jump, y.Rung(), taken, y.Stop)
			}
			if codeOf(t, w.c.try(delivery{ref{payee, id}, bank.Passed{Amount: 1}})) != wire.Closed && y.Stop == bank.StopLock {
				t.Error("it gives credit after that")
			}
			w.end()
			switch y = w.c.payee(id); {
			case y.Spend == nil:
				t.Error("not spent")
			case wrong > 1 && y.Spend.Rung != wrong-1:
				t.Errorf("wrong lock at %d: closed at %d", wrong, y.Spend.Rung)
			}
		}
	}
}

// got is what a house has on the chain.
func (h *house) got() wire.Sat {
	holds, _ := h.holdings()
	return holds[string(h.script)]
}

// TestPayeeLoss: if the payer vanishes at any count of pennies, after the fee
// rate has doubled, with a refused penny or with jumps, the payee gets on the
// chain everything that it gave credit for, less one rung and its closing cost
// at twice the fee rate of the opening.
func TestPayeeLoss(t *testing.T) {
	t.Parallel()
	worst := wire.Sat(0)
	for count := uint32(0); count <= small.N(); count += 1 + count%3 {
		w := newTown(t, nil)
		had := w.c.got()
		id := w.a.opened(w.c, small, shortLife)
		if count > 0 {
			must(t, w.a.pays(id, count))
		}
		credit := small.Paid(count)
		if credit > 0 {
			w.c.must(ref{payee, id}, bank.Passed{Amount: credit})
		}
		w.a.away = true
		w.rate *= 2
		w.mine(shortLife + 6)
		w.a.away = false
		w.settle()
		w.mine(12)
		loss := credit.Sat() - (w.c.got() - had)
		bound := small.Share(1) + 1 + bank.CloseCost(small.Rungs, 2*1000)
		if worst = max(worst, loss); loss > bound {
			t.Errorf("%d pennies: %v lost, at most %v may be", count, loss, bound)
		}
		if left := w.unaccounted(); left != 0 {
			t.Errorf("%v are not accounted for", left)
		}
	}
	t.Logf("at worst %v", worst)
}

// TestPayerLoss: whatever the payee does, the payer gets back everything except
// the worth of its pennies, rounded up to a satoshi, and the fees of its
// transactions. Pennies are sent only by its own order.
func TestPayerLoss(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(w *town, id bank.ID){
		"vanishes":        func(w *town, id bank.ID) { w.c.away = true },
		"wants too much":  func(w *town, id bank.ID) { w.c.cheaper = 100; must(t, w.a.closes(payer, id)) },
		"offers too much": func(w *town, id bank.ID) { w.c.cheaper = -100; must(t, w.a.closes(payer, id)) },
		"closes":          func(w *town, id bank.ID) { must(t, w.c.closes(payee, id)) },
		"closes by both":  func(w *town, id bank.ID) { must(t, w.a.closes(payer, id)) },
		"sends nothing": func(w *town, id bank.ID) {
			w.blind = func(*btcwire.MsgTx) bool { return true }
			must(t, w.a.closes(payer, id))
			w.mine(3)
			w.c.away, w.blind = true, nil
		},
	} {
		for _, count := range []uint32{0, 1, 9, 10, 19, 30} {
			w := newTown(t, nil)
			had := w.a.got()
			id := w.a.opened(w.c, small, shortLife)
			if count > 0 {
				must(t, w.a.pays(id, count))
			}
			bad(w, id)
			w.end()
			fees := 3 * w.rate.Fee(250) // funding, refund and change
			bound := small.Paid(count).Sat() + 1 + fees
			if count == small.N() {
				bound += contract.Dust // too little to bring back alone
			}
			if loss := had - w.a.got(); loss > bound {
				t.Errorf("%s, %d pennies: the payer lost %v of at most %v", name, count, loss, bound)
			}
		}
	}
}

// TestPayerRefusesOffers: the payer never signs an offer for a cooperative
// close that gives the payee too much, cannot be built, or names more pennies
// than exist.
func TestPayerRefusesOffers(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	w.blind = func(*btcwire.MsgTx) bool { return false }
	id := w.a.opened(w.c, small, shortLife)
	must(t, w.a.pays(id, 15))
	p := w.a.payer(id)
	p.Stopped = true
	fair := small.Value - small.Paid(15).Whole()
	for what, o := range map[string]bank.CloseOffered{
		"a satoshi less":   {Count: 15, Payer: fair - 1, Fee: 200},
		"more pennies":     {Count: small.N() + 1, Payer: fair, Fee: 200},
		"far more":         {Count: 1<<32 - 1, Payer: wire.MaxSat, Fee: 200},
		"more than all":    {Count: 15, Payer: small.Value + 1, Fee: 200},
		"all the money":    {Count: 15, Payer: wire.MaxSat, Fee: wire.MaxSat},
		"no fee to pay":    {Count: 15, Payer: fair, Fee: -1},
		"a negative share": {Count: 15, Payer: -1 << 63, Fee: 200},
		"a huge fee":       {Count: 15, Payer: fair, Fee: 1<<63 - 1},
		"dust is left":     {Count: 15, Payer: fair, Fee: small.Paid(15).Whole() - 329},
	} {
		next, effects, err := p.Step(o)
		if err != nil || len(effects) > 0 || next.Failure == "" || next.Target != p.Target {
			t.Errorf("%s: %v, %v, %q", what, effects, err, next.Failure)
		}
	}
	if _, effects, err := p.Step(bank.CloseOffered{Count: 15, Payer: fair, Fee: 200, Script: w.c.script}); err != nil || len(effects) != 1 {
		t.Errorf("a fair offer: %v, %v", effects, err)
	}
}

// TestCloseStopsAcceptance: after a close was offered, signed, broadcast or
// confirmed, by either side, no penny is accepted and no credit given, and each
// refusal has its code.
func TestCloseStopsAcceptance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(w *town, id bank.ID)
		code wire.Code
	}{
		"offered":         {func(w *town, id bank.ID) { w.a.noSign = true; must(t, w.a.closes(payer, id)) }, wire.Closed},
		"signed":          {func(w *town, id bank.ID) { must(t, w.a.closes(payer, id)) }, wire.Closed},
		"by both":         {func(w *town, id bank.ID) { must(t, w.a.closes(payer, id)); w.mine(1) }, wire.Spent},
		"broadcast":       {func(w *town, id bank.ID) { must(t, w.c.closes(payee, id)) }, wire.Closed},
		"alone":           {func(w *town, id bank.ID) { must(t, w.c.closes(payee, id)); w.mine(1) }, wire.Spent},
		"near the end":    {func(w *town, id bank.ID) { w.mineTo(w.a.payer(id).Expiry - 20) }, wire.Closed},
		"after a restore": {func(w *town, id bank.ID) { w.c.must(ref{payee, id}, bank.Restored{}); must(t, w.c.closes(payee, id)) }, wire.Closed},
		"a restore, then an offer": {func(w *town, id bank.ID) {
			w.a.noSign = true
			w.c.must(ref{payee, id}, bank.Restored{})
			must(t, w.a.closes(payer, id))
		}, wire.Closed},
	} {
		w := newTown(t, nil)
		id := w.a.opened(w.c, small, shortLife)
		must(t, w.a.pays(id, 12))
		c.do(w, id)
		before := w.c.payee(id)
		if code := codeOf(t, w.c.paid(id, w.a.penny(id, 13))); code != c.code {
			t.Errorf("%s: a penny: %v", name, code)
		}
		if code := codeOf(t, w.c.try(delivery{ref{payee, id}, bank.Passed{Amount: 1}})); code != c.code {
			t.Errorf("%s: credit: %v", name, code)
		}
		if y := w.c.payee(id); y.Count() != before.Count() || y.Assigned != before.Assigned {
			t.Errorf("%s: it took one", name)
		}
		p := w.a.payer(id)
		if err := p.Spendable(); (name != "broadcast" && name != "after a restore" && name != "a restore, then an offer") && !errors.Is(err, bank.ErrNotOpen) {
			t.Errorf("%s: the payer would pay on: %v", name, err)
		}
	}
}

// TestFunding: no penny is accepted if the bank's funding has too few
// confirmations, was replaced, or was dropped by a reorg; pennies are accepted
// again when it is back.
func TestFunding(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	id := w.a.opens(w.c, small, shortLife)
	for depth := range w.margins.Conf {
		if code := codeOf(t, w.c.paid(id, w.a.penny(id, 1))); code != wire.NotConfirmed {
			t.Errorf("%d confirmations: %v", depth, code)
		}
		if err := w.a.pays(id, 1); !errors.Is(err, bank.ErrNotOpen) {
			t.Errorf("%d confirmations: the payer pays: %v", depth, err)
		}
		w.mine(1)
	}
	must(t, w.a.pays(id, 12))
	w.blind = func(tx *btcwire.MsgTx) bool { return contract.Txid(tx) == w.a.payer(id).At.Txid }
	w.drop(w.a.payer(id).At.Txid)
	if code := codeOf(t, w.c.paid(id, w.a.penny(id, 13))); code != wire.NotConfirmed {
		t.Errorf("after the reorg: %v", code)
	}
	if code := codeOf(t, w.c.try(delivery{ref{payee, id}, bank.Passed{Amount: 1}})); code != wire.NotConfirmed {
		t.Errorf("credit after the reorg: %v", code)
	}
	if y := w.c.payee(id); len(w.c.fundings[ref{payee, id}]) == 0 || len(y.FundingTx) > 0 || y.Interest().Wake != 1 {
		t.Error("the payee does not broadcast it again")
	}
	w.blind = nil
	w.mine(int(w.margins.Conf) + 1)
	if err := w.c.paid(id, w.a.penny(id, 13)); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	// For good: the coin goes elsewhere.
	w.drop(w.a.payer(id).At.Txid)
	l := w.chain.(*ledger.Ledger)
	l.Pool = nil
	double := btcwire.NewMsgTx(contract.TxVersion)
	double.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(w.a.payer(id).Inputs[0]), Sequence: contract.Sequence})
	double.AddTxOut(btcwire.NewTxOut(99_000, w.a.script))
	w.a.signCoins(double)
	_, err := l.MineWith(t.Context(), w.miner, double)
	must(t, err)
	w.settle()
	w.mine(int(w.margins.Deep()))
	if p := w.a.payer(id); p.State() != bank.StateFailed || !p.Interest().Done {
		t.Errorf("the payer: %s", p.State())
	}
	w.mine(shortLife)
	if y := w.c.payee(id); !y.Interest().Done {
		t.Error("the payee never ends")
	}
}

// TestPinnedClose: a cooperative close that no miner includes is replaced by
// the rung close, which confirms before T−Close, at a higher fee; and one below
// the first rung is broadcast in every block for as long as needed.
func TestPinnedClose(t *testing.T) {
	t.Parallel()
	for _, wait := range []int{0, 4, 8, 10} {
		w := newTown(t, nil)
		pinned := true
		l := w.chain.(*ledger.Ledger)
		together := func(tx *btcwire.MsgTx) bool { return len(tx.TxIn[0].Witness) == 4 }
		w.blind = func(tx *btcwire.MsgTx) bool { return pinned && together(tx) && len(l.Pool) > 0 }
		id := w.a.opened(w.c, small, shortLife)
		must(t, w.a.pays(id, 25))
		w.mine(wait)
		if err := w.a.closes(payer, id); err != nil {
			t.Fatal(err)
		}
		y := w.c.payee(id)
		if y.Joined == nil {
			t.Fatal("not signed by both")
		}
		for w.tip() < y.Expiry-wire.Height(w.margins.Close) {
			if y = w.c.payee(id); y.Spend != nil {
				break
			}
			// The miners leave it in the pool, where it stands in the way.
			var kept []*btcwire.MsgTx
			for _, tx := range l.Pool {
				if together(tx) {
					kept = append(kept, tx)
				}
			}
			if len(kept) > 0 {
				l.Pool = nil
				w.mine(1)
				if len(l.Pool) == 0 {
					l.Pool = kept
				}
				w.settle()
				continue
			}
			w.mine(1)
		}
		if y = w.c.payee(id); y.Spend == nil || y.Spend.Rung != 2 || y.Spend.Height > y.Expiry-wire.Height(w.margins.Close) {
			t.Errorf("asked %d blocks after opening: %+v", wait, y.Spend)
		}
		if y.Alone == nil || y.Alone.Fee <= y.Joined.Fee {
			t.Errorf("the rung's close does not pay more")
		}
	}
	// Below a rung.
	w := newTown(t, nil)
	w.blind = func(tx *btcwire.MsgTx) bool { return len(tx.TxIn[0].Witness) == 4 }
	id := w.a.opened(w.c, small, shortLife)
	must(t, w.a.pays(id, 9))
	must(t, w.a.closes(payer, id))
	for w.tip() < w.a.payer(id).Expiry-2 {
		w.mine(1)
		if y := w.c.payee(id); y.Joined == nil || y.Interest().Wake > w.tip() || y.Interest().Done {
			t.Fatal("forgotten")
		}
	}
	w.blind = nil
	w.mine(3)
	if y := w.c.payee(id); y.Spend == nil || !y.Spend.Together {
		t.Error("never sent again")
	}
}

// TestPatience: a payer that asked for a close by both has Patience blocks to sign
// from the block after, however long ago the payee heard of a block; a signed one
// has Final blocks to confirm.
func TestPatience(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	a, c := w.house("a", 100_000), w.house("c")
	id := a.opened(c, small, 100)
	must(t, a.pays(id, 15))
	w.mine(20) // of none of which the payee hears
	a.noSign = true
	must(t, a.closes(payer, id))
	for range w.margins.Patience {
		w.mine(1)
		if y := c.payee(id); y.Alone != nil {
			t.Fatal("it closes alone at once")
		}
	}
	w.mine(1)
	if y := c.payee(id); y.Alone == nil {
		t.Error("it waits for ever")
	}
	id = func() bank.ID { a.pour(100_000); return a.opened(c, small, 100) }()
	a.noSign = false
	w.blind = func(tx *btcwire.MsgTx) bool { return len(tx.TxIn[0].Witness) == 4 }
	must(t, a.pays(id, 15))
	w.mine(20)
	must(t, a.closes(payer, id))
	w.mine(int(w.margins.Final))
	if y := c.payee(id); y.Alone != nil || y.Joined == nil {
		t.Error("it does not wait for the close by both")
	}
	w.mine(1)
	if y := c.payee(id); y.Alone == nil {
		t.Error("it waits for ever")
	}
}

// TestCloseFailed: a close that does not pay for its fee is tried again, and no
// later than T−Bump, whenever it failed.
func TestCloseFailed(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	w.margins.Again = 144
	id := w.a.opened(w.c, small, shortLife)
	must(t, w.a.pays(id, 10))
	w.rate = 100_000
	must(t, w.c.closes(payee, id))
	bump := w.a.payer(id).Expiry - wire.Height(w.margins.Bump)
	y := w.c.payee(id)
	if y.NextTry != bump || y.Interest().Wake != bump {
		t.Errorf("tried again at %d, of %d", y.NextTry, bump)
	}
	w.mineTo(bump - 1)
	w.rate = 1000
	w.mine(2)
	if y := w.c.payee(id); y.Spend == nil || y.Spend.Rung != 1 {
		t.Errorf("not closed: %s", y.State())
	}
}

// TestRestore: what a backup does to either side (protocol §9, 4).
func TestRestore(t *testing.T) {
	t.Parallel()
	l := penny.Ladder{Value: 20_000, Rungs: 4, PerRung: 5}
	// Another bank of the same home has another chain, and the same coin the same.
	w := newTown(t, nil)
	first, second := w.a.opened(w.c, l, shortLife), w.a.opened(w.c, l, shortLife)
	p, q := w.a.payer(first), w.a.payer(second)
	if p.Root == q.Root || p.Nonce == q.Nonce || p.Payer == q.Payer || w.a.penny(first, 3) == w.a.penny(second, 3) {
		t.Error("two banks share a chain")
	}
	if w.a.root(p.Inputs[0]) != p.Root {
		t.Error("the root does not follow from the coin")
	}
	if code := codeOf(t, w.c.paid(second, w.a.penny(first, 3))); code != wire.WrongSecret {
		t.Errorf("the other bank's penny: %v", code)
	}

	// A payer asks first, learns what it has paid, and does not pay it again.
	old := w.a.payer(first)
	must(t, w.a.pays(first, 7))
	w.c.away = true
	w.a.states[ref{payer, first}] = old
	w.a.must(ref{payer, first}, bank.Restored{})
	w.settle()
	if err := w.a.pays(first, 1); !errors.Is(err, bank.ErrNotOpen) {
		t.Errorf("it pays before it has asked: %v", err)
	}
	w.c.away = false
	w.settle()
	if p := w.a.payer(first); p.Behind || p.Target != 7 || p.Assigned != l.Paid(7) {
		t.Errorf("behind %v, %d pennies, %v assigned", p.Behind, p.Target, p.Assigned)
	}
	must(t, w.a.pays(first, 1))
	if y := w.c.payee(first); y.Count() != 8 {
		t.Errorf("%d pennies", y.Count())
	}

	// One that was just being offered is given up, and asks all the same when its
	// funding turns out to be on the chain.
	var offering, failed bank.Payer
	w = newTown(t, nil)
	w.reached = func(h *house, r ref, s any) {
		if p, ok := s.(bank.Payer); ok && p.Phase == bank.PayerOffering {
			offering = p
		}
	}
	id := w.a.opened(w.c, l, shortLife)
	must(t, w.a.pays(id, 7))
	failed, effects, err := offering.Step(bank.Restored{})
	must(t, err)
	for _, e := range effects {
		if _, drops := e.(bank.DropPaper); drops {
			t.Error("it drops what its refund needs")
		}
	}
	if failed.State() != bank.StateFailed || failed.Interest().Done || len(failed.Interest().Txids) == 0 {
		t.Errorf("%s, done %v", failed.State(), failed.Interest().Done)
	}
	again, _, err := failed.Step(bank.Restored{}) // twice
	must(t, err)
	w.a.states[ref{payer, id}] = again
	for h := wire.Height(1); h <= w.tip(); h++ {
		ev := bank.Connected{Block: contract.Block{Height: h, Txs: w.block(h).Transactions}}
		if wants(interest(w.a.states[ref{payer, id}]), ev) {
			w.a.must(ref{payer, id}, ev)
		}
	}
	if p := w.a.payer(id); !p.Behind || p.Phase != bank.PayerPublished {
		t.Errorf("it is %s, and behind %v", p.State(), p.Behind)
	}
	w.settle()
	if p := w.a.payer(id); p.Behind || p.Target != 7 {
		t.Errorf("%d pennies", p.Target)
	}

	// A payee takes what its payer shows, gives no credit, and closes after a while
	// from the height at which it was restored.
	y := w.c.payee(id)
	must(t, w.a.pays(id, 5))
	w.c.states[ref{payee, id}] = y
	w.c.must(ref{payee, id}, bank.Restored{Height: w.tip()})
	if code := codeOf(t, w.c.try(delivery{ref{payee, id}, bank.Passed{Amount: 1}})); code != wire.Closed {
		t.Errorf("credit: %v", code)
	}
	if err := w.c.paid(id, w.a.penny(id, 12)); err != nil {
		t.Errorf("its pennies are not taken: %v", err)
	}
	w.mine(int(w.margins.Again) - 1)
	if y := w.c.payee(id); y.Alone != nil {
		t.Error("it closes at once")
	}
	// Its owner does not have to wait, whether he closes it or raises the fee.
	for _, ev := range []bank.Event{bank.CloseWanted{}, bank.Bumped{Rate: 5000}} {
		for _, why := range []bank.Event{bank.Restored{Height: w.tip()}, bank.Lost{}} {
			y := w.c.payee(id)
			y.Stop, y.StopAt = bank.NotStopped, 0
			y, _, err := y.Step(why)
			must(t, err)
			if y.Due() {
				t.Errorf("due at once after %T", why)
			}
			y, effects, err := y.Step(ev)
			must(t, err)
			if !y.Ready() || !slices.ContainsFunc(effects, func(e bank.Effect) bool { _, ok := e.(bank.CloseDue); return ok }) {
				t.Errorf("%T waits after %T: %v", ev, why, effects)
			}
			if y.Stop != bank.StopRestored || y.Taking() == nil {
				t.Errorf("%T after %T: %v, it gives credit", ev, why, y.Stop)
			}
		}
	}
	w.mine(2)
	if y := w.c.payee(id); y.Spend == nil || y.Spend.Rung != 2 {
		t.Errorf("it is %s", y.State())
	}
	// An old one: the blocks since are told all at once.
	y.Stop, y.Spend = bank.NotStopped, nil
	y, _, err = y.Step(bank.Restored{Height: y.Tip + 50})
	must(t, err)
	for h, last := y.Tip+1, y.Tip+3; h <= last; h++ {
		y, effects, err = y.Step(bank.Connected{Block: contract.Block{Height: h}})
		must(t, err)
		if len(effects) > 0 && y.Tip < before(y.Expiry, w.margins.Stop) {
			t.Error("it closes before anybody could speak to it")
		}
	}
}

func before(h wire.Height, n uint32) wire.Height { return h - wire.Height(n) }

// TestPayeeRefuses: what a payee does not open, each by its code.
func TestPayeeRefuses(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	var open wire.BankOpen
	w.crash = &crash{at: -1}
	id := w.a.opens(w.c, small, shortLife)
	p := w.a.payer(id)
	b := w.a.bank(ref{payer, id})
	sigs, err := b.SignRungs(p.At, bank.PayerKey(p.Root))
	must(t, err)
	good := wire.BankOpen{Bank: id, Terms: b.Terms(), Funding: p.Funding, Vout: 0, Sigs: sigs}
	try := func() error {
		_, _, err := bank.NewPayee(&open, w.c.payeeKey(id), w.c.policy, w.margins, w.tip(), w.rate)
		return err
	}
	if open = good; try() != nil {
		t.Fatal(try())
	}
	for what, c := range map[string]struct {
		change func()
		code   wire.Code
	}{
		"a signature":         {func() { open.Sigs = append(wire.RungSigs{}, sigs...); open.Sigs[1][40] ^= 1 }, wire.BadRequest},
		"signatures swapped":  {func() { open.Sigs = wire.RungSigs{sigs[1], sigs[0], sigs[2]} }, wire.BadRequest},
		"too few signatures":  {func() { open.Sigs = sigs[:2] }, wire.BadRequest},
		"another output":      {func() { open.Vout = 1 }, wire.BadRequest},
		"no output":           {func() { open.Vout = 1<<32 - 1 }, wire.BadRequest},
		"another lock":        {func() { open.Terms.Locks = append(wire.Locks{{1}}, open.Terms.Locks[1:]...) }, wire.BadRequest},
		"another blinding":    {func() { open.Terms.Blinding[7] ^= 1 }, wire.BadRequest},
		"another payer":       {func() { open.Terms.Payer = w.a.key }, wire.BadRequest},
		"another payee":       {func() { open.Terms.Payee = w.a.key }, wire.BadRequest},
		"another value":       {func() { open.Terms.Value++ }, wire.BadRequest},
		"another end":         {func() { open.Terms.Expiry++ }, wire.BadRequest},
		"too soon":            {func() { open.Terms.Expiry = w.tip() + 29 }, wire.TooLate},
		"in the past":         {func() { open.Terms.Expiry = 1 }, wire.TooLate},
		"too long":            {func() { open.Terms.Expiry = w.tip() + wire.Height(w.margins.MaxLife) + 1 }, wire.TooLong},
		"never":               {func() { open.Terms.Expiry = wire.MaxHeight }, wire.TooLong},
		"too small":           {func() { open.Terms.Value = 1999 }, wire.TooBig},
		"dust":                {func() { w.c.policy.MinValue = 1; open.Terms.Value = 800 }, wire.BadRequest},
		"no satoshi a rung":   {func() { w.c.policy.MinValue = 1; open.Terms.Value = 332 }, wire.BadRequest},
		"too many rungs":      {func() { w.c.policy.MaxRungs = 2 }, wire.TooBig},
		"too many pennies":    {func() { open.Terms.PerRung = 1 << 23 }, wire.BadRequest},
		"pennies that wrap":   {func() { open.Terms.PerRung = 1<<32 - 1 }, wire.BadRequest},
		"no pennies":          {func() { open.Terms.PerRung = 0 }, wire.BadRequest},
		"no funding":          {func() { open.Funding = nil }, wire.BadRequest},
		"half a funding":      {func() { open.Funding = open.Funding[:60] }, wire.BadRequest},
		"another transaction": {func() { open.Funding = append([]byte(nil), open.Funding...); open.Funding[10] ^= 1 }, wire.BadRequest},
	} {
		open = good
		policy := w.c.policy
		c.change()
		if err := try(); err == nil || codeOf(t, err) != c.code {
			t.Errorf("%s: %v", what, err)
		}
		w.c.policy = policy
	}
	if warn, err := bank.Small(penny.Ladder{Value: 5000, Rungs: 3, PerRung: 1}, 1000); warn == "" || err != nil {
		t.Errorf("a bank under 20 closing costs: %q, %v", warn, err)
	}
	if warn, err := bank.Small(small, 1000); warn != "" || err != nil {
		t.Errorf("%q, %v", warn, err)
	}
	// Never funded, it is forgotten with its paper.
	y, _, err := bank.NewPayee(&good, w.c.payeeKey(id), w.c.policy, w.margins, w.tip(), w.rate)
	must(t, err)
	wake := y.Interest().Wake
	y, effects, err := y.Step(bank.Connected{Block: contract.Block{Height: wake}})
	if in := y.Interest(); err != nil || !in.Forget || !in.Done || len(effects) != 1 || effects[0] != (bank.DropPaper{}) {
		t.Errorf("%+v, %v, %v", y.Interest(), effects, err)
	}
}

// TestCloseCost: the closing cost that reserves and warnings rest on is not less than
// that of any rung.
func TestCloseCost(t *testing.T) {
	t.Parallel()
	for rungs := 1; rungs <= wire.MaxRungs; rungs++ {
		for i := range rungs {
			if w := contract.TxOverheadWeight + 2*contract.P2TROutputWeight + contract.RungInputWeight(i, rungs); w > bank.CloseWeight(uint32(rungs)) {
				t.Fatalf("rung %d of %d: %d weight units", i+1, rungs, w)
			}
		}
	}
}

// TestEffects: every effect survives the form in which it is kept.
func TestEffects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 9)
	id, s := w.hash(), wire.Secret(w.hash())
	at := wire.Outpoint{Txid: id, Vout: 3}
	offer := bank.CloseOffered{Count: 7, Payer: 8, Fee: 9, Script: []byte{1, 2}}
	list := []bank.Effect{
		bank.AskTerms{Peer: bank.Peer{Key: wire.Key(id), Addrs: []string{"/ip4/1.2.3.4/tcp/5"}}, Request: wire.BankRequest{Bank: id, Value: 1, Rungs: 2, PerRung: 3, Expiry: 4}},
		bank.LockCoins{Amount: 5}, bank.UnlockCoins{}, bank.DropPaper{}, bank.Stream{}, bank.Sync{}, bank.AskClose{}, bank.SendStep{},
		bank.Prepare{Root: s, Payee: wire.Key(id), Expiry: 9, Ladder: small, Inputs: []wire.Outpoint{at}, Change: 4, ChangeScript: []byte{5}},
		bank.Offer{Peer: bank.Peer{Key: wire.Key(id)}, Root: s, Funding: []byte{1}, At: at},
		bank.Publish{Tx: []byte{1, 2}, Until: 7}, bank.SignClose{Offer: offer, Rung: 2}, bank.RefundDue{},
		bank.KeepPaper{Paper: bank.Paper{Terms: wire.BankTerms{Blinding: s, Expiry: 3, Value: 4, PerRung: 5, Locks: wire.Locks{{1}, {2}}}, Sigs: wire.RungSigs{{3}, {4}}}},
		bank.CloseDue{}, bank.Broadcast{Tx: []byte{9}}, bank.KeepFunding{Tx: []byte{8}}, bank.Rebroadcast{}, bank.Prune{}, bank.AskPair{Value: 6},
	}
	seen := map[string]bool{}
	for _, e := range list {
		name, body, err := bank.Effects.Encode(e)
		must(t, err)
		back, err := bank.Effects.Decode(name, body)
		must(t, err)
		_, again, err := bank.Effects.Encode(back)
		if err != nil || fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", e) || string(again) != string(body) {
			t.Errorf("%s: %+v, not %+v (%v)", name, back, e, err)
		}
		if _, err := bank.Effects.Decode(name, append(body, 0)); err == nil {
			t.Errorf("%s: a byte more", name)
		}
		seen[name] = true
	}
	for name := range bank.Effects {
		if !seen[name] {
			t.Errorf("%s is not tried", name)
		}
	}
}
