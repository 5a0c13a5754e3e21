package bank_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/ledger"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// town is a world of four: a pays c, and b and d are bankers.
type town struct {
	*world
	a, b, c, d *house
}

// small is the ladder of most stories.
var small = penny.Ladder{Value: 20_000, Rungs: 3, PerRung: 10}

// shortMargins make a short life, in which two blocks decide nothing.
func shortMargins() bank.Margins {
	m := bank.MarginsFor(wire.Regtest)
	m.MinLife, m.Stop, m.Bump, m.Close, m.Patience, m.Final, m.ValidFor, m.Again = 30, 20, 14, 6, 8, 3, 12, 6
	return m
}

const shortLife = 34

func newTown(t testing.TB, c *crash) *town { return newTownOn(t, ledger.New(), c, 1) }

func newTownOn(t testing.TB, l blockchain, c *crash, seed uint64) *town {
	w := &town{world: newWorldOn(t, l, seed)}
	w.margins = shortMargins()
	w.a, w.b = w.house("a", 100_000, 100_000, 100_000), w.house("b", 100_000, 100_000, 100_000)
	w.c, w.d = w.house("c", 100_000), w.house("d", 100_000)
	w.b.fees, w.d.fees = &wire.Fees{Base: 100, PPM: 10_000}, &wire.Fees{Base: 50}
	w.crash = c
	return w
}

// drop replaces the blocks from the one of a transaction on, without it.
func (w *world) drop(txid wire.Hash) {
	for depth := 1; depth < int(w.tip()); depth++ {
		for _, tx := range w.block(w.tip() - wire.Height(depth-1)).Transactions {
			if contract.Txid(tx) == txid {
				w.reorg(depth, txid)
				return
			}
		}
	}
	w.t.Fatal("no such transaction in the chain")
}

// until mines until something is so.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	for range 60 {
		if done() {
			return
		}
		w.mine(1)
	}
	w.t.Fatalf("never %s\n%s", what, strings.Join(w.log, "\n"))
}

// end mines until nothing happens any more.
func (w *town) end() { w.mine(shortLife + 16) }

// stories are lives of banks, each up to the point from which blocks alone finish
// it.
var stories = []struct {
	name string
	play func(*town)
	from int // the first effect at which TestCrashEquivalence strikes
}{
	{"together", func(w *town) {
		id := w.a.opened(w.c, small, shortLife)
		w.pay(w.a, id, 3)
		w.pay(w.a, id, 14)
		w.closed(w.a, payer, id)
		w.end()
	}, 0},
	{"alone", func(w *town) {
		id := w.a.opened(w.c, small, shortLife)
		w.pay(w.a, id, 25)
		w.closed(w.c, payee, id)
		w.end()
	}, 0},
	{"the payer vanishes", func(w *town) {
		id := w.a.opened(w.c, small, shortLife)
		w.pay(w.a, id, 29)
		w.end()
	}, 0},
	{"nothing is paid", func(w *town) {
		id := w.a.opened(w.c, small, shortLife)
		w.pay(w.a, id, 9)
		w.closed(w.c, payee, id)
		w.end()
	}, 0},
	{"refused", func(w *town) {
		w.c.policy.MinValue = 30_000
		w.a.opens(w.c, small, shortLife)
		w.end()
	}, 0},
	{"the network refuses the funding", func(w *town) {
		w.refuse = func(tx *btcwire.MsgTx) bool { return len(tx.TxIn[0].Witness) == 1 }
		w.a.opens(w.c, small, shortLife)
		w.end()
	}, 0},
	{"no coins", func(w *town) {
		big := small
		big.Value = 90_000
		for range 4 { // the last waits for coins that are locked, and come back
			w.a.opens(w.c, big, shortLife)
		}
		w.end()
	}, 8},
	{"a pair and a batch", func(w *town) {
		there, back, more := w.a.opens(w.c, small, shortLife), w.c.opens(w.a, small, shortLife), w.b.opens(w.c, small, shortLife)
		w.pay(w.a, there, 25)
		w.pay(w.c, back, 10)
		w.pay(w.b, more, 30)
		w.end() // c closes two of them together
	}, 8},
	{"not signed", func(w *town) {
		w.a.noSign = true
		id := w.a.opened(w.c, small, shortLife)
		w.pay(w.a, id, 22)
		w.closed(w.a, payer, id)
		w.end()
	}, 0},
	{"pinned", func(w *town) {
		w.blind = func(tx *btcwire.MsgTx) bool { return len(tx.TxIn[0].Witness) == 4 } // by both
		id := w.a.opened(w.c, small, shortLife)
		w.pay(w.a, id, 22)
		w.closed(w.a, payer, id)
		w.end()
	}, 0},
	{"reorg of the funding", func(w *town) {
		id := w.a.opened(w.c, small, shortLife)
		w.pay(w.a, id, 12)
		w.drop(w.a.payer(id).At.Txid)
		w.end()
	}, 0},
	{"reorg of the close", func(w *town) {
		id := w.a.opened(w.c, small, shortLife)
		w.pay(w.a, id, 12)
		w.closed(w.c, payee, id)
		w.until("closed", func() bool { p := w.a.payer(id); return p.Spend != nil })
		w.drop(w.a.payer(id).Spend.Txid)
		w.end()
	}, 0},
	{"an offer of too much", func(w *town) {
		w.c.cheaper = 5
		id := w.a.opened(w.c, small, shortLife)
		w.pay(w.a, id, 12)
		w.closed(w.a, payer, id)
		w.end()
	}, 0},
	{"over two bankers", func(w *town) {
		first, second, third := w.route()
		w.sends(w.a, bank.Order{Payee: w.c.key, Bankers: w.bankers(w.b, w.d), Bank: first, Total: 3_500_000, Step: 1_000_000, MaxFee: 200_000})
		_, _ = second, third
		w.end()
	}, 13},
	{"straight", func(w *town) {
		first, _, _ := w.route()
		id := w.sends(w.a, bank.Order{Payee: w.b.key, Bank: first, Total: 5_000_000, Step: 2_000_000})
		w.a.must(ref{sending, id}, bank.Connected{})
		w.closed(w.a, payer, first)
		w.end()
	}, 13},
	{"a thief", func(w *town) {
		first, _, _ := w.route()
		w.d.steals = true
		w.sends(w.a, bank.Order{Payee: w.c.key, Bankers: w.bankers(w.b, w.d), Bank: first, Total: 3_500_000, Step: 1_000_000, MaxFee: 200_000})
		w.sends(w.a, bank.Order{Payee: w.b.key, Bank: first, Total: 1_000_000, Step: 1_000_000})
		w.end()
	}, 13},
	{"two banks", func(w *town) {
		first, second := w.opens2(w.a, w.c)
		id := w.sends(w.a, bank.Order{Payee: w.c.key, Bank: first, Total: 33_000_000, Step: 10_000_000, More: []bank.Leg{{From: 18_000_000, Bank: second}}})
		w.until("paid", func() bool { s := w.a.sending(id); return s.Done() })
		w.closed(w.c, payee, first)
		w.end()
	}, 8},
	{"two banks with a banker that has two", func(w *town) {
		first, second := w.opens2(w.a, w.b)
		w.opens2(w.b, w.c)
		o := bank.Order{Payee: w.c.key, Bankers: w.bankers(w.b), Bank: first, Total: 25_000_000, Step: 4_000_000, MaxFee: 400_000}
		p := w.a.payer(first)
		o.More = []bank.Leg{{From: o.Legs()[0].Most(p.Closable(w.b.reserve(first)), o.Step), Bank: second, Bankers: o.Bankers}}
		w.sends(w.a, o)
		w.end()
	}, 20},
	{"the bank is empty, and another is not", func(w *town) {
		first, _ := w.opens2(w.a, w.c)
		w.pay(w.a, first, 20)
		w.sends(w.a, bank.Order{Payee: w.c.key, Bank: first, Total: 12_000_000, Step: 3_000_000})
		w.end()
	}, 8},
	{"no way", func(w *town) {
		first, _, _ := w.route()
		id := w.sends(w.a, bank.Order{Payee: w.a.key, Bankers: w.bankers(w.b, w.d), Bank: first, Total: 3_500_000, Step: 1_000_000, MaxFee: 200_000})
		w.settle()
		_ = w.a.try(delivery{ref{sending, id}, bank.Resumed{}})
		w.end()
	}, 13},
}

// opens2 opens two small banks.
func (w *town) opens2(from, to *house) (first, second bank.ID) {
	first, second = from.opens(to, small, shortLife), from.opens(to, small, shortLife)
	w.until("open", func() bool {
		p, q := from.payer(first), from.payer(second)
		return p.Spendable() == nil && q.Spendable() == nil
	})
	return first, second
}

// route opens a bank from a to b, from b to d, and from d to c.
func (w *town) route() (first, second, third bank.ID) {
	l := penny.Ladder{Value: 20_000, Rungs: 5, PerRung: 20}
	first, second, third = w.a.opens(w.b, l, shortLife), w.b.opens(w.d, l, shortLife), w.d.opens(w.c, l, shortLife)
	w.until("open", func() bool {
		p, q, r := w.a.payer(first), w.b.payer(second), w.d.payer(third)
		return p.Spendable() == nil && q.Spendable() == nil && r.Spendable() == nil
	})
	return first, second, third
}

func (w *town) bankers(list ...*house) (hops []wire.RouteHop) {
	for _, h := range list {
		hops = append(hops, wire.RouteHop{Key: h.key, Fees: *h.fees})
	}
	return hops
}

// pay orders pennies, as soon as the house is up.
func (w *town) pay(h *house, id bank.ID, pennies uint32) {
	w.t.Helper()
	var p bank.Payer
	w.until("open", func() bool {
		p = h.payer(id)
		return !h.away && (p.Spendable() == nil || p.Phase == bank.PayerFailed)
	})
	if p.Phase == bank.PayerFailed {
		w.t.Fatal(p.Failure)
	}
	must(w.t, h.pays(id, pennies))
	w.until("taken", func() bool {
		p := h.payer(id)
		return !h.away && p.Acked == p.Target
	})
}

func (w *town) closed(h *house, kind int, id bank.ID) {
	w.t.Helper()
	w.until("up", func() bool { return !h.away })
	must(w.t, h.closes(kind, id))
}

func (w *town) sends(h *house, o bank.Order) wire.Hash {
	w.t.Helper()
	w.until("up", func() bool { return !h.away })
	id, err := h.pay1(o)
	must(w.t, err)
	return id
}

// crash says at which effect somebody goes down. A nil crash is none.
type crash struct {
	at    int // number of the effect
	after bool
	down  wire.Height // blocks

	n    int      // effects so far
	list []string // and what they were
	who  *house
	back wire.Height
}

// strikes reports whether h goes down over t.
func (c *crash) strikes(h *house, t task) bool {
	n := c.n
	c.n++
	c.list = append(c.list, t.String()+" "+strings.TrimPrefix(fmt.Sprintf("%T", t.e), "bank."))
	if n != c.at {
		return false
	}
	if c.after {
		h.do(t) // and the answer is lost
	}
	h.away, c.who, c.back = true, h, h.tip()+c.down
	return true
}

// revive brings back who has been down for long enough.
func (c *crash) revive(w *world) {
	if c == nil || c.who == nil || w.tip() < c.back {
		return
	}
	h := c.who
	c.who, h.away = nil, false
	h.follow()
}

// outcome is what matters of an end.
func (w *town) outcome() string {
	var lines []string
	for _, h := range w.houses {
		for _, r := range h.order {
			s := h.states[r]
			var b strings.Builder
			fmt.Fprintf(&b, "%s %v %s", h.name, r, stateOf(s))
			switch s := s.(type) {
			case bank.Payer:
				fmt.Fprintf(&b, " %d of %d, %s assigned", s.Acked, s.Target, s.Assigned)
				if s.Spend != nil {
					fmt.Fprintf(&b, ", rung %d, change %v, returned %v", s.Spend.Rung, s.Spend.Change, s.Returned != nil)
				}
			case bank.Payee:
				fmt.Fprintf(&b, " %d, %s assigned", s.Count(), s.Assigned)
			case bank.Sending:
				fmt.Fprintf(&b, " %v of %v, fees %v", s.Acked, s.Asked, s.Fees)
			case bank.Relay:
				fmt.Fprintf(&b, " %d, %v passed, fees %v", s.Index, s.Passed, s.Fees)
			}
			if _, ok := s.(bank.Relay); !ok && !interest(s).Done {
				b.WriteString(", not done")
			}
			lines = append(lines, b.String())
		}
	}
	slices.Sort(lines) // who was opened first is chance
	if left := w.unaccounted(); left != 0 {
		lines = append(lines, fmt.Sprintf("%v are not accounted for", left))
	}
	return strings.Join(lines, "\n")
}

// unaccounted is what the faucet gave and nobody has: not the houses, not the
// miners, not the banks that are open.
func (w *world) unaccounted() wire.Sat {
	holds, fees := w.holdings()
	total := fees
	banks := map[wire.Hash]bool{}
	for _, h := range w.houses {
		total += holds[string(h.script)]
		for _, r := range h.order {
			if p, ok := h.states[r].(bank.Payer); ok && !banks[p.Bank] && p.At != (wire.Outpoint{}) {
				banks[p.Bank] = true
				b := h.built(r)
				total += holds[string(b.PkScript())] + holds[string(b.Change(1).PkScript)]
			}
		}
	}
	return w.poured - total
}

// TestCrashEquivalence: whoever crashes at any effect, before it is carried out or
// after it and before its answer is kept, and comes back at once or two blocks
// later, everything ends as it would have; so it does where every effect is carried
// out twice and the first answer lost, and where effects are carried out in another
// order. On its return a party is told the blocks that it missed, and then carries
// out what was pending, as the engine does.
//
// The nightly tier crashes at every effect in all four ways. The others crash at a
// sample of the first 32 effects of a story, without those of an opening that other
// stories have, in two of the ways in turn.
func TestCrashEquivalence(t *testing.T) {
	t.Parallel()
	sample := tier.NewSample(t)
	crashes, seen := 0, map[string]bool{}
	for i, s := range stories {
		if tier.Short() && i%4 != 0 {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			run := func(c *crash, change func(*town)) (*town, string) {
				w := newTown(t, c)
				change(w)
				s.play(w)
				return w, w.outcome()
			}
			calm, want := run(&crash{at: -1}, func(*town) {})
			for _, what := range calm.crash.list {
				seen[what] = true
			}
			for what, change := range map[string]func(*town){
				"twice":       func(w *town) { w.twice = true },
				"other order": func(w *town) { w.shuffle = true },
				"both":        func(w *town) { w.twice, w.shuffle = true, true },
			} {
				if _, got := run(nil, change); got != want {
					t.Errorf("%s:\n%s\nundisturbed:\n%s", what, got, want)
				}
			}
			for at, what := range calm.crash.list {
				if chosen := sample.Of(8, 3); !chosen || !tier.Nightly && (s.from > at || at > 32) {
					continue
				}
				for _, after := range []bool{false, true} {
					for _, down := range []wire.Height{0, 2} {
						if !tier.Nightly && (at%2 == 0) == (after == (down == 0)) {
							continue
						}
						crashes++
						if w, got := run(&crash{at: at, after: after, down: down}, func(*town) {}); got != want {
							t.Errorf("crash at effect %d (%s), after it %v, down for %d blocks:\n%s\nundisturbed:\n%s\n%s",
								at, what, after, down, got, want, strings.Join(w.log, "\n"))
							return
						}
					}
				}
			}
			t.Logf("%d effects; it ends so:\n%s", len(calm.crash.list), want)
		})
	}
	for _, what := range []string{"Payer AskTerms", "Payer Prepare", "Payer Offer", "Payer Publish", "Payer Stream", "Payer AskClose", "Payer SignClose",
		"Payer RefundDue", "Payer Broadcast", "Payer DropPaper", "Payee CloseDue", "Payee Broadcast", "Sending SendStep"} {
		if !seen[what] && !tier.Short() {
			t.Errorf("no story has the effect %s", what)
		}
	}
	t.Logf("%d crashes", crashes)
}
