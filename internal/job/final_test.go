package job

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// largestFinals are the largest messages of a close.
func largestFinals() []FinalMessage {
	list := &FinalList{Round: closeRounds - 1, Rate: contract.MaxFinalRate}
	for i := range MaxParties {
		list.Banks = append(list.Banks, FinalPaid{Party: uint8(i), Paid: MaxEpochs})
	}
	return []FinalMessage{&FinalCall{}, &FinalOffer{Held: MaxEpochs}, list, &FinalShare{}}
}

// TestFinalSizes: the largest message of every kind fits, its size is not stated much
// larger, and it is read back as it was, from a letter and from an effect.
func TestFinalSizes(t *testing.T) {
	t.Parallel()
	list := largestFinals()
	if len(list) != len(finals) {
		t.Fatal("not all kinds")
	}
	for _, m := range list {
		b, err := wire.Marshal(m)
		must(t, err)
		must(t, m.Check())
		l, err := NewFinalLetter(m)
		must(t, err)
		back, err := l.Final()
		must(t, err)
		t.Logf("%T: %d bytes of at most %d", m, len(b), m.MaxSize())
		if len(b) > m.MaxSize() || m.MaxSize() > 3*len(b)+64 || !same(m, back) {
			t.Errorf("%T: %d bytes, %d allowed", m, len(b), m.MaxSize())
		}
		if e := (SendFinal{To: 3, Msg: m}); !same(stored[CloseEffect](t, CloseEffects, e), e) {
			t.Errorf("%T: read back as another", m)
		}
	}
	for what, m := range map[string]FinalMessage{
		"more pennies than there are": &FinalOffer{Held: MaxEpochs + 1},
		"no banks":                    &FinalList{Rate: 1000},
		"a third round":               &FinalList{Round: closeRounds, Rate: 1000, Banks: []FinalPaid{{}}},
		"no fee":                      &FinalList{Banks: []FinalPaid{{}}},
		"an endless fee":              &FinalList{Rate: contract.MaxFinalRate + 1, Banks: []FinalPaid{{}}},
		"a bank twice":                &FinalList{Rate: 1000, Banks: []FinalPaid{{Party: 1}, {Party: 1}}},
		"nobody's bank":               &FinalList{Rate: 1000, Banks: []FinalPaid{{Party: MaxParties}}},
	} {
		if m.Check() == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// FuzzFinal: what a letter of a close decodes to has this one encoding, and a close
// takes it without a panic.
func FuzzFinal(f *testing.F) {
	for i, m := range largestFinals() {
		b, err := wire.Marshal(m)
		must(f, err)
		f.Add(uint8(i), uint8(i), b)
	}
	m := newMarket(f, 77, 12, 4, 5)
	m.ran(4)
	m.shops[1].leave(true)
	at := *m.closingOf(m.shops[1])
	f.Fuzz(func(t *testing.T, from, kind uint8, body []byte) {
		x, err := (&Letter{Kind: kind, Body: body}).Final()
		if err != nil {
			return
		}
		if b, err := wire.Marshal(x); err != nil || !bytes.Equal(b, body) {
			t.Error("another encoding", err)
		}
		next, _, err := at.Step(FinalReceived{From: from, Msg: x})
		if err == nil && next.Sent != nil {
			t.Error("it completes a transaction")
		}
	})
}

// TestPackageValidOfJobs: the funding, the final transactions with and without the
// buyer, the payouts and the refunds of jobs, as the machines build them, are accepted
// by btcd's policy when they are due, and confirm. With them it measures the use of
// the chain: 4 nodes and a standby that all earned have at most 1,200 vB closed with
// the buyer, and 1,600 without.
func TestPackageValidOfJobs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := devchain.Open(dir)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	for i, together := range []bool{true, false} {
		m := newMarketOn(t, c, 500+uint64(i), 12, 4, 5)
		m.all = true
		m.start()
		m.until("running", m.running)
		m.epochs(10)
		if together {
			m.buyer().must(place{KindBuyer, m.id}, Cancelled{})
		} else {
			m.buyer().away = true
			m.leaveAll()
		}
		m.tick(6)
		m.mine(3)
		m.buyer().away = false
		m.mine(3)
		b := m.job()
		var fundingSize, finalSize int64
		banks := 0
		for h := wire.Height(1); h <= m.tip(); h++ {
			for _, tx := range m.block(h).Transactions[1:] {
				if contract.Txid(tx) == b.Terms.Funding {
					fundingSize = contract.VSize(contract.Weight(tx))
				}
				n := 0
				for i := range b.Terms.Parties {
					if contract.Spends(tx, b.Terms.Bank(uint8(i))) >= 0 {
						n++
					}
				}
				if n > banks {
					banks, finalSize = n, contract.VSize(contract.Weight(tx))
				}
			}
		}
		most := int64(1600)
		if together {
			most = 1200
		}
		t.Logf("with the buyer %v: %d banks, funding %d + close %d = %d vB", together, banks, fundingSize, finalSize, fundingSize+finalSize)
		if banks != 5 || fundingSize == 0 || fundingSize+finalSize > most {
			t.Errorf("with the buyer %v: %d banks, %d vB, at most %d", together, banks, fundingSize+finalSize, most)
		}
		holds, _ := m.holdings()
		for i := range b.Terms.Parties {
			if holds[string(m.seller(&b, uint8(i)).script)] == 0 {
				t.Errorf("party %d has no payout: %v", i, m.log)
			}
		}
		if slices.ContainsFunc(m.log, func(s string) bool { return strings.Contains(s, "rejected") }) {
			t.Error(m.log)
		}
		m.mine(2 * marketLife) // refunds
		if out := m.outcome(); strings.Contains(out, "not done") {
			t.Error(out)
		}
	}
}
