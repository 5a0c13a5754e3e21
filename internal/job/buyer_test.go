package job

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/testing/ledger"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// The engine can run the machines.
var (
	_ = engine.MachineOf[Buyer](KindBuyer, BuyerMachines)
	_ = engine.MachineOf[Closing](KindClose, CloseMachines)
)

// tale is one life of a job's money.
type tale struct {
	name       string
	candidates int
	play       func(m *market)
	check      func(t *testing.T, m *market)
}

// epochs lets the nodes agree on this many epochs, and the buyer look after each.
func (m *market) epochs(n int) {
	for range n {
		m.epoch(Running)
		m.look()
	}
}

// epoch lets the nodes agree on the next epoch, as soon as they can.
func (m *market) epoch(outcome Outcome) {
	for range 4 {
		if m.certify(outcome) {
			return
		}
		m.mine(1)
	}
	m.note("no epoch after %v", m.cert)
}

var refused = func() error { return errors.New("no") }

var tales = []tale{
	{"nothing is paid, and all is refunded", 5, func(m *market) {
		m.start()
		m.until("running", m.running)
		m.end()
	}, func(t *testing.T, m *market) { m.paid(t, 0, 0, 0, 0, 0) }},
	{"one refuses the terms, one the bank", 8, func(m *market) {
		m.shops[2].asks, m.shops[4].takes = refused, refused
		m.start()
		m.until("running", m.running)
		m.epochs(3)
		m.end()
	}, func(t *testing.T, m *market) {
		if b := m.job(); len(b.Said) != 2 {
			t.Errorf("%q", b.Said)
		}
	}},
	{"one does not answer, and nobody is left", 5, func(m *market) {
		m.shops[3].dead = true
		m.start()
		m.end()
	}, func(t *testing.T, m *market) { m.failed(t, "refused") }},
	{"one refuses its bank, and nobody is left", 5, func(m *market) {
		m.shops[5].takes = refused
		m.start()
		m.end()
	}, func(t *testing.T, m *market) { m.failed(t, "refused") }},
	{"no coins", 5, func(m *market) {
		m.buyer().coins[0].used = true
		m.start()
		m.end()
	}, func(t *testing.T, m *market) { m.failed(t, "funds") }},
	{"the coins come back", 5, func(m *market) {
		m.buyer().coins[0].locked = true
		m.start()
		m.mine(2)
		if !m.job().Waiting {
			m.t.Error("does not wait")
		}
		m.buyer().coins[0].locked = false
		m.until("running", m.running)
		m.end()
	}, func(t *testing.T, m *market) { m.paid(t, 0, 0, 0, 0, 0) }},
	{"the fee is above the cap", 5, func(m *market) {
		m.order.MaxFee = 10
		m.start()
		m.end()
	}, func(t *testing.T, m *market) { m.failed(t, "fee") }},
	{"the network refuses the funding", 5, func(m *market) {
		m.refuse = func(tx *btcwire.MsgTx) bool { return len(tx.TxOut) == 6 }
		m.start()
		m.end()
	}, func(t *testing.T, m *market) { m.failed(t, "rejected") }},
	{"the funding is spent otherwise", 5, func(m *market) {
		m.start()
		must(m.t, m.steal())
		m.end()
	}, func(t *testing.T, m *market) {
		if b := m.job(); b.FailedBy != "rejected" {
			t.Errorf("%q", b.FailedBy)
		}
	}},
	{"cancelled before", 5, func(m *market) {
		m.buyer().coins[0].locked = true
		m.start()
		m.buyer().must(place{KindBuyer, m.id}, Cancelled{})
		m.buyer().coins[0].locked = false
		m.end()
	}, func(t *testing.T, m *market) { m.failed(t, "cancelled") }},
	{"a reorg drops the funding, and it comes back", 5, func(m *market) {
		m.start()
		m.until("running", m.running)
		m.epochs(5)
		m.reorg(int(m.tip()-m.job().Confirmed.Height)+1, m.job().Terms.Funding)
		m.mine(1)
		m.resend()
		m.until("running", m.running)
		m.epochs(5)
		m.end()
	}, nil},
	{"closed with the buyer", 5, func(m *market) {
		m.ran(12)
		m.tick(3)
		m.end()
	}, func(t *testing.T, m *market) { m.closed(t, 5) }},
	{"cancelled, and letters get lost", 5, func(m *market) {
		m.lose = 40
		m.ran(7)
		m.buyer().must(place{KindBuyer, m.id}, Cancelled{})
		m.tick(12)
		m.end()
	}, nil},
	{"the program ends early", 5, func(m *market) {
		m.ran(4)
		m.epoch(Done)
		m.look()
		m.tick(12)
		m.end()
	}, func(t *testing.T, m *market) { m.closed(t, 5) }},
	{"closed with the buyer, and one is absent", 5, func(m *market) {
		m.ran(10)
		m.shops[2].noFinal = true
		m.buyer().must(place{KindBuyer, m.id}, Cancelled{})
		m.tick(12)
		m.end()
	}, func(t *testing.T, m *market) {
		m.closed(t, 4)
		if b := m.job(); b.Spent[1].Txid == b.Spent[0].Txid {
			t.Error("the absent one did not close alone")
		}
	}},
	{"closed with the buyer, and one spoils", 5, func(m *market) {
		m.shops[3].spoils = true
		m.ran(12)
		m.tick(12)
		m.end()
	}, func(t *testing.T, m *market) {
		m.closed(t, 4)
		if c := m.closing(); !c.Spoiled[2] || c.Spoiled[0] {
			t.Errorf("spoiled: %v", c.Spoiled)
		}
	}},
	{"closed with the buyer, and one claims too much", 5, func(m *market) {
		m.shops[1].wants = 2
		m.ran(9)
		m.buyer().must(place{KindBuyer, m.id}, Cancelled{})
		m.tick(12)
		m.end()
	}, func(t *testing.T, m *market) { m.closed(t, 4) }},
	{"two do not answer", 5, func(m *market) {
		m.ran(10)
		m.shops[2].noFinal, m.shops[3].noFinal = true, true
		m.buyer().must(place{KindBuyer, m.id}, Cancelled{})
		m.tick(12)
		m.end()
	}, func(t *testing.T, m *market) { m.closed(t, 3) }},
	{"closed without the buyer", 5, func(m *market) {
		m.ranWithout(10)
		m.leaveAll()
		m.tick(12)
		m.mine(2)
		m.buyer().away = false
		m.end()
	}, func(t *testing.T, m *market) { m.closed(t, 4) }},
	{"closed without the buyer, and the first is dead", 5, func(m *market) {
		m.ranWithout(10)
		m.shops[1].dead = true
		m.leaveAll()
		m.tick(12)
		m.mine(2)
		m.buyer().away, m.shops[1].dead = false, false
		m.end()
	}, func(t *testing.T, m *market) { m.closed(t, 3) }},
	{"closed without the buyer, and one spoils", 5, func(m *market) {
		m.ranWithout(10)
		m.shops[3].spoils = true
		m.leaveAll()
		m.tick(20)
		m.mine(2)
		m.buyer().away = false
		m.end()
	}, func(t *testing.T, m *market) { m.closed(t, 3) }},
	{"closed without the buyer, and letters get lost", 5, func(m *market) {
		m.ranWithout(10)
		m.lose = 30
		m.leaveAll()
		m.tick(30)
		m.mine(2)
		m.buyer().away = false
		m.end()
	}, nil},
	{"one closes alone in the meantime", 5, func(m *market) {
		m.ranWithout(10)
		r := place{bank.KindPayee, m.shops[2].job.bank}
		m.shops[2].must(r, bank.CloseWanted{})
		m.settle()
		m.leaveAll()
		m.tick(20)
		m.mine(2)
		m.buyer().away = false
		m.end()
	}, nil},
	{"a reorg drops the final transaction", 5, func(m *market) {
		m.ran(12)
		m.tick(3)
		m.until("closed", func() bool { return m.job().Spent[0] != nil })
		m.mine(2) // payouts
		m.reorg(int(m.tip()-m.job().Spent[0].Height)+1, m.job().Spent[0].Txid)
		m.tick(3)
		m.end()
	}, nil},
	{"a false epoch is found", 5, func(m *market) {
		m.lies = 2
		m.ran(12)
		m.tick(3)
		m.end()
	}, func(t *testing.T, m *market) {
		b := m.job()
		if b.FailedBy != "false" || b.False == nil || b.False.Epoch != 2 {
			t.Errorf("%q: %s", b.FailedBy, b.Failure)
		}
		for i, d := range b.Dealt {
			if d > 8 {
				t.Errorf("%d pennies of party %d are dealt", d, i)
			}
		}
	}},
	{"closed alone, without anybody's answer", 5, func(m *market) {
		m.ranWithout(11)
		m.mine(marketLife)
		m.buyer().away = false
		m.end()
	}, nil},
}

// ran plays a job up to this epoch; the buyer looks after each.
func (m *market) ran(epochs int) {
	m.start()
	m.until("running", m.running)
	m.epochs(epochs)
}

// ranWithout does, and then the buyer goes away.
func (m *market) ranWithout(epochs int) {
	m.ran(epochs)
	m.buyer().away = true
}

// leaveAll lets every node begin the close.
func (m *market) leaveAll() {
	for _, s := range m.shops[1:] {
		if s.up() {
			s.leave(false)
		}
	}
	m.settle()
}

// closing is the buyer's side of the close.
func (m *market) closing() Closing {
	return m.buyer().states[place{KindClose, m.id}].(Closing)
}

// closed checks that one transaction closed this many banks.
func (m *market) closed(t *testing.T, banks int) {
	t.Helper()
	most := 0
	for h := wire.Height(1); h <= m.tip(); h++ {
		for _, tx := range m.block(h).Transactions[1:] {
			n := 0
			b := m.job()
			for i := range b.Terms.Parties {
				if contract.Spends(tx, b.Terms.Bank(uint8(i))) >= 0 {
					n++
				}
			}
			if n > most && tx.LockTime == 0 {
				most = n
			}
		}
	}
	if most != banks {
		t.Errorf("a transaction closed %d banks, not %d\n%s", most, banks, strings.Join(m.log, "\n"))
	}
}

// steal spends the coins of the funding otherwise.
func (m *market) steal() error {
	b := m.buyer()
	tx := btcwire.NewMsgTx(2)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(b.coins[0].at), Sequence: contract.Sequence})
	tx.AddTxOut(btcwire.NewTxOut(int64(b.coins[0].value-50_000), b.script))
	b.signCoins(tx)
	return m.chain.Broadcast(m.t.Context(), tx)
}

// resend publishes the funding again, as a wallet does after a reorg.
func (m *market) resend() {
	tx, err := contract.DecodeTx(m.job().Funding)
	must(m.t, err)
	m.buyer().signCoins(tx)
	_ = m.buyer().broadcast(tx)
	m.mine(1)
}

// failed checks that a job failed for a reason and cost nothing.
func (m *market) failed(t *testing.T, by string) {
	t.Helper()
	b := m.job()
	if b.Phase != BuyerFailed || b.FailedBy != by {
		t.Errorf("phase %d, failed by %q: %s", b.Phase, b.FailedBy, b.Failure)
	}
	if _, fees := m.holdings(); fees != 0 {
		t.Errorf("it cost %v", fees)
	}
	for _, c := range m.buyer().coins {
		if c.locked {
			t.Error("coins stay locked")
		}
	}
}

// paid checks what the nodes earned in whole pennies of what was certified: at most
// that, and not less than the rung below, less fees.
func (m *market) paid(t *testing.T, count ...uint32) {
	t.Helper()
	holds, _ := m.holdings()
	b := m.job()
	for i, n := range count {
		l := b.Ladder(uint8(i))
		if got := holds[string(m.seller(&b, uint8(i)).script)]; got > l.Paid(n).Whole() {
			t.Errorf("party %d has %v for %d pennies, worth %v", i, got, n, l.Paid(n).Whole())
		}
	}
}

// conserved checks invariant Conservation: every satoshi is with the buyer, the nodes
// or the miners; no node has more than its certified pennies are worth; and the buyer
// has lost no more than that, the funding's fee and those of its refunds.
func (m *market) conserved(t testing.TB) {
	t.Helper()
	holds, fees := m.holdings()
	sum := fees
	for _, s := range m.shops {
		sum += holds[string(s.script)]
	}
	if sum != m.poured {
		t.Errorf("Conservation: %v poured, %v with parties and miners (%v fees)\n%s", m.poured, sum, fees, strings.Join(m.log, "\n"))
	}
	b := m.job()
	if len(b.Terms.Parties) == 0 {
		return
	}
	body := b.Terms.before(m.cert)
	var earned wire.Sat
	for i := range b.Terms.Parties {
		l := b.Ladder(uint8(i))
		most := l.Paid(body.Paid[i]).Whole()
		earned += most
		if got := holds[string(m.seller(&b, uint8(i)).script)]; got > most {
			t.Errorf("Conservation: party %d has %v, its %d pennies are worth %v", i, got, body.Paid[i], most)
		}
	}
	if has := holds[string(m.buyer().script)]; has < m.poured-earned-fees {
		t.Errorf("Conservation: the buyer has %v of %v, paid %v, fees %v", has, m.poured, earned, fees)
	}
}

// TestConservation plays the tales.
func TestConservation(t *testing.T) {
	t.Parallel()
	for i, s := range tales {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			m := newMarket(t, uint64(i), 12, 4, s.candidates)
			s.play(m)
			m.conserved(t)
			if s.check != nil {
				s.check(t, m)
			}
			out := m.outcome()
			if strings.Contains(out, "not done") {
				t.Error("not done")
			}
			t.Log(out, fmt.Sprint(m.job().Said))
		})
	}
}

// play plays a tale.
func (s *tale) play1(t testing.TB, seed uint64, change func(*market)) *market {
	m := newMarket(t, seed, 12, 4, s.candidates)
	if change != nil {
		change(m)
	}
	s.play(m)
	return m
}

// TestCrashEquivalenceOfMoney: if a home goes down at any effect of the buyer, of a
// bank or of a close, before the effect is carried out or after it and before its
// answer is kept, and comes back, everything ends as it would have. If it comes back
// two blocks later, the close may be another one; then nobody's money is lost, and all
// machines finish.
//
// The nightly tier crashes at every effect; the others at a sample.
func TestCrashEquivalenceOfMoney(t *testing.T) {
	t.Parallel()
	sample := tier.NewSample(t)
	crashes, seen := 0, map[string]bool{}
	for i, s := range tales {
		if tier.Short() && i%6 != 0 {
			continue
		}
		calm := s.play1(t, uint64(i), func(m *market) { m.strike = &strike{at: -1} })
		want := calm.outcome()
		for at, what := range calm.strike.list {
			seen[strings.TrimPrefix(what[2:], "job.")] = true
			if !sample.Of(500, 250) {
				continue
			}
			for _, after := range []bool{false, true} {
				for _, down := range []wire.Height{0, 2} {
					crashes++
					m := s.play1(t, uint64(i), func(m *market) { m.strike = &strike{at: at, after: after, down: down} })
					got := m.outcome()
					if down == 0 && calm.lose == 0 && got != want {
						t.Errorf("%s: crash at effect %d (%s), after it %v:\n%s\nundisturbed:\n%s\n%s", s.name, at, what, after, got, want, strings.Join(m.log, "\n"))
					}
					m.conserved(t)
					if strings.Contains(got, "not ") {
						t.Errorf("%s: crash at effect %d (%s), after it %v, down for %d blocks:\n%s\n%s", s.name, at, what, after, down, got, strings.Join(m.log, "\n"))
					}
					if t.Failed() {
						return
					}
				}
			}
		}
	}
	for _, what := range []string{"Ask", "Build", "Offer", "OpenBanks", "Fund", "Supply", "Inspect", "BeginClose", "Finished", "PayoutDue", "SendPayout", "bank.RefundDue", "bank.CloseDue", "bank.Broadcast"} {
		if !seen[what] && !tier.Short() {
			t.Errorf("no tale has the effect %s", what)
		}
	}
	t.Logf("%d crashes", crashes)
}

// TestConservationAtRandom plays random tales: candidates refuse and die, letters get
// lost, homes crash and come back, blocks are replaced and the funding with them, the
// buyer cancels, goes away, or spends its coins otherwise, nodes close alone or spoil.
// In the end every satoshi is where it belongs, at every moment the deals are within
// their bound, and no window has two roots.
func TestConservationAtRandom(t *testing.T) {
	t.Parallel()
	ends := map[string]int{}
	for _, n := range tier.NewSample(t).Choose(2000, tier.Pick(3, 20, 2000)) {
		m := newMarket(t, uint64(1000+n), 12, 4, 5+n%4)
		m.wander()
		m.conserved(t)
		out := m.outcome()
		if strings.Contains(out, "not ") {
			t.Errorf("seed %d: %s", n, out)
		}
		if t.Failed() {
			t.Fatalf("seed %d\n%s", n, strings.Join(m.log, "\n"))
		}
		b := m.job()
		ends[fmt.Sprintf("phase %d %s, deals %v, final %v", b.Phase, b.FailedBy, len(b.Dealt) > 0 && b.Dealt[0] > 4, m.joint())]++
	}
	t.Log(ends)
}

// joint reports whether some transaction closed several banks.
func (m *market) joint() bool {
	b := m.job()
	for i := range b.Spent {
		for j := range i {
			if b.Spent[i] != nil && b.Spent[j] != nil && b.Spent[i].Txid == b.Spent[j].Txid {
				return true
			}
		}
	}
	return false
}

// wander does what comes to its mind.
func (m *market) wander() {
	rng := m.rng
	m.lose = rng.IntN(3) * 20
	for _, s := range m.shops[1:] {
		switch rng.IntN(14) {
		case 0:
			s.asks = refused
		case 1:
			s.takes = refused
		case 2:
			s.dead = true
		case 3:
			s.noFinal = true
		case 4:
			s.spoils = true
		case 5:
			s.wants = 1
		case 6:
			s.silent = true
		}
	}
	if rng.IntN(3) == 0 {
		m.strike = &strike{at: rng.IntN(120), after: rng.IntN(2) == 0, down: wire.Height(rng.IntN(4))}
	}
	m.start()
	stolen := false
	for range 60 {
		b := m.job()
		s := m.shops[1+rng.IntN(len(m.shops)-1)]
		switch rng.IntN(16) {
		case 0, 1, 2, 3:
			m.mine(1)
		case 4, 5, 6, 7, 8:
			m.certify(Running)
			m.settle()
		case 9, 10:
			m.look()
		case 11:
			m.tick(1 + rng.IntN(4))
		case 12:
			switch rng.IntN(5) {
			case 0:
				s.dead = !s.dead
			case 1:
				m.buyer().dead = !m.buyer().dead
			case 2:
				if s.up() && s.job != nil {
					s.leave(false)
				}
			case 3:
				if r := s.bankPlace(); s.up() && r.kind != "" {
					_ = s.tell(r, bank.CloseWanted{})
				}
			case 4:
				if m.buyer().up() {
					_ = m.buyer().tell(place{KindBuyer, m.id}, Restored{})
				}
			}
			m.settle()
		case 13:
			if depth := 1 + rng.IntN(2); m.tip() > wire.Height(depth)+2 {
				var without []wire.Hash
				if b.Confirmed != nil && rng.IntN(2) == 0 {
					without = append(without, b.Terms.Funding)
				}
				m.reorg(depth, without...)
			}
		case 14:
			if m.buyer().up() && rng.IntN(4) == 0 {
				_ = m.buyer().tell(place{KindBuyer, m.id}, Cancelled{})
				m.settle()
			}
		case 15:
			if b.Phase == BuyerPublished && b.Confirmed == nil && rng.IntN(8) == 0 {
				m.chain.(*ledger.Ledger).Pool = nil
				stolen = m.steal() == nil // the funding may be in a block that a buyer that is away has not seen
			}
		}
		if b = m.job(); !stolen && len(b.Funding) > 0 && b.Confirmed == nil && b.Phase == BuyerPublished {
			m.resend()
		}
	}
	for _, s := range m.shops {
		s.dead = false
	}
	m.lose = 0
	m.settle()
	if b := m.job(); !stolen && len(b.Funding) > 0 && b.Confirmed == nil && b.Phase == BuyerPublished {
		m.resend()
	}
	m.tick(2)
	m.end()
}

// bankPlace is the bank of a node in the job, if it has one.
func (s *shop) bankPlace() place {
	if s.job == nil {
		return place{}
	}
	return place{bank.KindPayee, s.job.bank}
}
