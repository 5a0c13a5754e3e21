package job

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
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
		if !m.certify(Running) {
			m.note("no epoch after %v", m.cert)
			return
		}
		m.look()
	}
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
		m.steal()
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
	{"the nodes close alone", 5, func(m *market) {
		m.start()
		m.until("running", m.running)
		m.epochs(12)
		m.end()
	}, nil},
}

// steal spends the coins of the funding otherwise.
func (m *market) steal() {
	b := m.buyer()
	tx := btcwire.NewMsgTx(2)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(b.coins[0].at), Sequence: contract.Sequence})
	tx.AddTxOut(btcwire.NewTxOut(int64(b.coins[0].value-50_000), b.script))
	b.signCoins(tx)
	must(m.t, m.chain.Broadcast(m.t.Context(), tx))
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
