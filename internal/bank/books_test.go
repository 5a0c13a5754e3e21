package bank_test

import (
	"math/big"
	"strings"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/ledger"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// account is what a clerk with pencil and paper keeps of a bank.
type account struct {
	from, to     *house
	id           bank.ID
	value        int64
	rungs, per   int64
	ordered      int64 // pennies
	closedByUser bool
}

// share is what the payee gets of a bank closed at a rung: value − 330 − what is
// left of it by the rungs above, each rounded down.
func (a *account) share(rung int64) wire.Sat {
	left := new(big.Int).Mul(big.NewInt(a.value-330), big.NewInt(a.rungs-rung))
	return wire.Sat(a.value - 330 - left.Quo(left, big.NewInt(a.rungs)).Int64())
}

// worth is what pennies are worth in a close by both.
func (a *account) worth(pennies int64) wire.Sat {
	w := new(big.Int).Mul(big.NewInt(a.value-330), big.NewInt(pennies))
	return wire.Sat(w.Quo(w, big.NewInt(a.rungs*a.per)).Int64())
}

// order is a payment of somebody's.
type order struct {
	h  *house
	id wire.Hash
}

// clerk plays a random life of several banks and keeps its own books.
type clerk struct {
	*town
	rt       rapid.TB
	draw     func(what string, lo, hi int) int
	accounts []*account
	orders   []order
}

func (k *clerk) play(ops int) {
	houses := []*house{k.a, k.b, k.c, k.d}
	k.mine(3) // no reorg takes the coins
	for range ops {
		op := k.draw("op", 0, 19)
		if op > 3 && len(k.accounts) == 0 {
			op = 0
		}
		var acc *account
		if len(k.accounts) > 0 {
			acc = k.accounts[k.draw("bank", 0, len(k.accounts)-1)]
		}
		switch {
		case op <= 3 && len(k.accounts) < 5:
			i := k.draw("from", 0, 3)
			j := (i + k.draw("to", 1, 3)) % 4
			l := penny.Ladder{Value: wire.Sat(k.draw("value", 4000, 30_000)), Rungs: uint32(k.draw("rungs", 1, 6)), PerRung: uint32(k.draw("per", 1, 9))}
			id := houses[i].opens(houses[j], l, shortLife+wire.Height(k.draw("blocks", 0, 6)))
			if p := houses[i].payer(id); p.Phase != bank.PayerFailed {
				if k.draw("wait", 0, 3) > 0 {
					k.mine(3)
				}
				k.accounts = append(k.accounts, &account{from: houses[i], to: houses[j], id: id, value: int64(l.Value), rungs: int64(l.Rungs), per: int64(l.PerRung)})
			}
		case op <= 4:
			k.mine(k.draw("blocks", 1, 4))
		case op <= 11:
			n := uint32(k.draw("pennies", 1, 12))
			if acc.from.pays(acc.id, n) == nil {
				acc.ordered += int64(n)
			}
		case op == 12:
			if acc.from.closes(payer, acc.id) == nil {
				acc.closedByUser = true
			}
		case op == 13:
			if acc.to.closes(payee, acc.id) == nil {
				acc.closedByUser = true
			}
		case op == 14:
			k.reorg(k.draw("depth", 1, 2))
		case op == 15: // somebody is away for some blocks
			h := houses[k.draw("who", 0, 3)]
			h.away = true
			k.mine(k.draw("blocks", 1, 3))
			h.away = false
			k.settle()
		case op == 16:
			k.rate = wire.SatPerKVB(k.draw("rate", 1000, 3000))
		case op == 17: // a payment, by banks that may lead there
			{
				from := acc.from
				hops, total := []wire.RouteHop(nil), wire.Msat(k.draw("total", 1, 3_000_000))
				to := acc.to
				if to.fees != nil && k.draw("over a banker", 0, 1) == 1 {
					hops, to = k.bankers(to), houses[k.draw("payee", 0, 3)]
				}
				if to == from {
					break
				}
				if id, err := from.pay1(bank.Order{Payee: to.key, Bankers: hops, Bank: acc.id, Total: total, Step: 1 + total/3, MaxFee: 1 << 40}); err == nil {
					k.orders = append(k.orders, order{from, id})
				}
			}
		case op == 18: // a banker turns thief, or repents
			h := []*house{k.b, k.d}[k.draw("which", 0, 1)]
			h.steals, h.skims, h.forges, h.silent = false, false, false, false
			*[]*bool{&h.steals, &h.skims, &h.forges, &h.silent, new(bool), new(bool)}[k.draw("how", 0, 5)] = true
		case op == 19:
			k.audit(acc)
		}
	}
	for _, h := range houses {
		h.steals, h.skims, h.forges, h.silent = false, false, false, false
	}
	k.mine(2*shortLife + 10)
	for _, a := range k.accounts {
		k.audit(a)
	}
	k.balance()
}

// audit holds one bank's books against one another.
func (k *clerk) audit(a *account) {
	p, y := a.from.payer(a.id), a.to.payee(a.id)
	if y.Bank != a.id { // never funded, and forgotten, or not yet
		if p.Target > 0 && p.Confirmed != nil {
			k.rt.Fatalf("the payee forgot a bank of %d pennies", p.Target)
		}
		return
	}
	relayed := len(k.orders) > 0 // payments order pennies too
	switch count := y.Count(); {
	case int64(p.Target) < a.ordered || !relayed && int64(p.Target) != a.ordered:
		k.rt.Fatalf("%d pennies ordered, the payer says %d", a.ordered, p.Target)
	case count > p.Target || p.Acked > count:
		k.rt.Fatalf("the payee holds %d of %d, the payer heard of %d", count, p.Target, p.Acked)
	case int64(y.Rung()) != int64(count)/a.per:
		k.rt.Fatalf("rung %d, %d pennies of %d", y.Rung(), count, a.per)
	case y.Assigned > p.Ladder.Paid(count):
		k.rt.Fatalf("credit for %v, of %v", y.Assigned, p.Ladder.Paid(count))
	case (p.Spend == nil) != (y.Spend == nil) || p.Spend != nil && (p.Spend.Rung != y.Spend.Rung || p.Spend.Change != y.Spend.Change || p.Spend.Txid != y.Spend.Txid):
		if p.Interest().Done || y.Interest().Done {
			return // one that is done sees no more
		}
		k.rt.Fatalf("one saw %+v, the other %+v", p.Spend, y.Spend)
	}
	s := y.Spend
	if s == nil {
		return
	}
	tx := k.onChain(s.Txid)
	if tx == nil {
		k.rt.Fatalf("the spend is not on the chain")
	}
	count := int64(y.Count())
	var change wire.Sat
	if s.Together || s.Rung > 0 {
		change = wire.Sat(tx.TxOut[s.Vin].Value)
	}
	switch {
	case s.Foreign:
		k.rt.Fatalf("a strange spend")
	case s.Together:
		if change != wire.Sat(a.value)-a.worth(count) {
			k.rt.Fatalf("by both, %d pennies: %v to the payer, not %v", count, change, wire.Sat(a.value)-a.worth(count))
		}
	case s.Rung > 0:
		if int64(s.Rung) != count/a.per || change != wire.Sat(a.value)-a.share(int64(s.Rung)) {
			k.rt.Fatalf("closed at %d with %d pennies: %v to the payer, not %v", s.Rung, count, change, wire.Sat(a.value)-a.share(count/a.per))
		}
	}
}

func (k *clerk) onChain(id wire.Hash) *btcwire.MsgTx {
	for h := k.tip(); h > 0; h-- {
		for _, tx := range k.block(h).Transactions {
			if contract.Txid(tx) == id {
				return tx
			}
		}
	}
	return nil
}

// balance counts every satoshi: what each house has is what it began with, less what
// it put into banks, and what came of them, and the fees of what it sent.
func (k *clerk) balance() {
	if left := k.unaccounted(); left != 0 {
		k.rt.Fatalf("%v are not accounted for", left)
	}
	want := map[*house]wire.Sat{}
	for _, h := range k.houses {
		for _, c := range h.coins {
			want[h] += c.value
		}
	}
	closed := map[wire.Hash]bool{}
	for _, a := range k.accounts {
		p := a.from.payer(a.id)
		funds := k.onChain(p.At.Txid)
		if funds == nil {
			continue
		}
		want[a.from] -= wire.Sat(a.value) + p.Fee
		s := p.Spend
		if s == nil {
			k.rt.Fatalf("a bank was never spent: %s\n%s", p.State(), strings.Join(k.log, "\n"))
		}
		tx := k.onChain(s.Txid)
		last := wire.Sat(tx.TxOut[len(tx.TxOut)-1].Value)
		owner := a.to
		if !s.Together && s.Rung == 0 {
			owner = a.from
		}
		if !closed[s.Txid] { // a batch pays once
			want[owner] += last
			closed[s.Txid] = true
		}
		if p.Returned != nil && !closed[p.Returned.Txid] {
			closed[p.Returned.Txid] = true
			want[a.from] += wire.Sat(k.onChain(p.Returned.Txid).TxOut[0].Value)
		}
		// What pays for a close comes out of its own banks' shares, at a rate that
		// is known: no more than twice the highest.
		if s.Rung > 0 && len(tx.TxIn) == 1 {
			if fee := a.share(int64(s.Rung)) - last; fee < 0 || fee > bank.CloseCost(uint32(a.rungs), 8*3000) && last > contract.Dust {
				k.rt.Fatalf("a close cost %v", fee)
			}
		}
	}
	for _, h := range k.houses {
		if got := h.got(); got != want[h] {
			k.rt.Fatalf("%s has %v, the clerk says %v\n%s", h.name, got, want[h], strings.Join(k.log, "\n"))
		}
	}
	// Payments: no more has left a bank than was acknowledged, but for one step.
	for _, o := range k.orders {
		s := o.h.sending(o.id)
		if s.Asked-s.Acked > s.Order.Step {
			k.rt.Fatalf("%v asked, %v acknowledged, in steps of %v", s.Asked, s.Acked, s.Order.Step)
		}
	}
}

// TestConservation: random long lives of several banks between four houses, pairs
// and batches among them, with payments over bankers that turn thieves, with
// absences, reorgs and changing fees. Every satoshi is accounted for in the end,
// both sides' books agree at every audit, and both agree with a clerk's.
func TestConservation(t *testing.T) {
	t.Parallel()
	states := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		k := &clerk{town: newTownOn(t, ledger.New(), nil, rapid.Uint64().Draw(rt, "seed")), rt: rt,
			draw: func(what string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(rt, what) }}
		k.play(rapid.IntRange(10, 60).Draw(rt, "ops"))
		for _, a := range k.accounts {
			p := a.from.payer(a.id)
			what := p.State()
			if p.Spend != nil && p.Spend.Together {
				what += " together"
			}
			states[what]++
		}
		for _, o := range k.orders {
			s := o.h.sending(o.id)
			states["payment "+s.State()]++
		}
	})
	t.Log(states)
}

// TestBooks: the same on the embedded chain, with its consensus and policy.
func TestBooks(t *testing.T) {
	t.Parallel()
	tier.NotShort(t)
	c, err := devchain.Open(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	w := newTownOn(t, c, nil, 11)
	w.mine(3)
	w.poured -= w.unaccounted() // the faucet's own fees
	k := &clerk{town: w, rt: t, draw: func(_ string, lo, hi int) int { return lo + w.rng.IntN(hi-lo+1) }}
	k.play(90)
	for _, a := range k.accounts {
		p := a.from.payer(a.id)
		t.Logf("%s: %d pennies, %s", a.from.name, p.Target, p.State())
	}
}
