package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// world is a home's members over a mempool that keeps BIP125, in blocks that
// confirm what pays enough.
type world struct {
	t       *testing.T
	r       *rand.Rand
	market  Market
	limit   int
	next    uint64
	members map[wire.Outpoint]*Member
	pool    map[wire.Hash]*pooled
	spent   map[wire.Outpoint]bool
	hidden  map[wire.Outpoint]wire.Height // members that are not in the list up to a height, as while a reorg has taken their funding
	counts  map[string]int
	surge   func() // called once between the next plan and its broadcasts, which may be refused then
}

type pooled struct {
	sent   *contract.Sent
	weight int64
	inputs []wire.Outpoint
}

func (w *world) outpoint() wire.Outpoint {
	w.next++
	var o wire.Outpoint
	binary.BigEndian.PutUint64(o.Txid[:], w.next*0x9e3779b97f4a7c15) // spread, so that the order is none
	o.Vout = uint32(w.next % 3)
	return o
}

// transaction has exactly the weight of its members.
func (w *world) transaction(list []*Member, fee wire.Sat) *contract.Sent {
	tx := btcwire.NewMsgTx(contract.TxVersion)
	total := -fee
	tx.AddTxOut(btcwire.NewTxOut(0, make([]byte, 34)))
	for _, m := range list {
		in := &btcwire.TxIn{PreviousOutPoint: contract.OutPoint(m.At), Sequence: contract.Sequence}
		rest := m.Weight - 164 - 1
		if m.Outputs > 0 {
			rest -= contract.P2TROutputWeight
			tx.AddTxOut(btcwire.NewTxOut(330, make([]byte, 34)))
		}
		for rest > 0 { // items of up to 100 bytes with their lengths
			n := min(rest, 101)
			if rest-n == 1 {
				n--
			}
			in.Witness = append(in.Witness, make([]byte, n-1))
			rest -= n
		}
		tx.AddTxIn(in)
		total += m.Value
	}
	tx.TxOut[0].Value = int64(total)
	return contract.NewSent(tx, fee, w.market.Tip)
}

// accept puts a transaction into the mempool by the rules of BIP125 and Bitcoin
// Core; the reason where they forbid it.
func (w *world) accept(s *contract.Sent) error {
	k := read(s)
	size := contract.VSize(k.weight)
	if s.Fee < w.market.Relay.Fee(size) {
		return fmt.Errorf("%v for %d vB does not relay", s.Fee, size)
	}
	if slices.ContainsFunc(k.inputs, func(o wire.Outpoint) bool { return w.spent[o] }) {
		return errors.New("an input is spent")
	}
	var conflicts []*pooled
	for _, old := range w.pool {
		if old.sent.Txid != s.Txid && slices.ContainsFunc(old.inputs, func(o wire.Outpoint) bool { return slices.Contains(k.inputs, o) }) {
			conflicts = append(conflicts, old)
		}
	}
	var paid wire.Sat
	for _, old := range conflicts {
		paid += old.sent.Fee
		if int64(s.Fee)*contract.VSize(old.weight) <= int64(old.sent.Fee)*size {
			return fmt.Errorf("%v for %d vB replaces %v for %d vB", s.Fee, size, old.sent.Fee, contract.VSize(old.weight))
		}
	}
	if len(conflicts) > 0 && s.Fee < paid+w.market.Increment.Fee(size) {
		return fmt.Errorf("%v for %d vB replaces %v in fees", s.Fee, size, paid)
	}
	for _, old := range conflicts {
		delete(w.pool, old.sent.Txid)
	}
	w.pool[s.Txid] = &pooled{s, k.weight, k.inputs}
	return nil
}

// spend confirms the spend of outputs: what else spends them leaves the mempool,
// and cannot confirm.
func (w *world) spend(list []wire.Outpoint) {
	killed := map[wire.Hash]bool{}
	for _, o := range list {
		delete(w.members, o)
		w.spent[o] = true
		maps.DeleteFunc(w.pool, func(id wire.Hash, p *pooled) bool {
			if slices.Contains(p.inputs, o) {
				killed[id] = true
			}
			return killed[id]
		})
	}
	for _, m := range w.members {
		if m.In != nil && killed[m.In.Txid] {
			m.In = m.In.Lost()
		}
	}
}

// send broadcasts a transaction again: if it is refused, it is gone.
func (w *world) send(s *contract.Sent) (gone bool) {
	if w.pool[s.Txid] != nil || w.accept(s) == nil {
		return false
	}
	for _, m := range w.members {
		if m.In != nil && m.In.Txid == s.Txid {
			m.In, _, _ = m.In.Told(s.Txid, true, false)
		}
	}
	w.counts["gone"]++
	return true
}

func (w *world) add() {
	m := &Member{At: w.outpoint(), Weight: 300 + w.r.Int64N(700), Value: wire.Sat(w.r.Int64N([]int64{600, 5_000, 100_000, 50_000_000}[w.r.IntN(4)])) + 1,
		Alone: w.r.IntN(8) == 0, Outputs: w.r.IntN(2)}
	m.Weight += int64(m.Outputs) * contract.P2TROutputWeight
	if w.r.IntN(3) > 0 {
		m.From = w.market.Tip + wire.Height(w.r.Uint32N(40))
		m.To = m.From + wire.Height(w.r.Uint32N(30))
	}
	if w.r.IntN(10) == 0 {
		size := contract.VSize(weigh([]Member{*m}))
		if fee := min(wire.Sat(w.r.Int64N(20))*wire.Sat(size), m.Value/2); fee >= w.market.Relay.Fee(size) {
			m.Rival = w.transaction([]*Member{m}, fee)
			if w.accept(m.Rival) != nil {
				m.Rival = nil
			}
		}
	}
	w.members[m.At] = m
}

func (w *world) list() (list []Member) {
	for _, o := range slices.SortedFunc(maps.Keys(w.members), compare) {
		if w.hidden[o] < w.market.Tip {
			list = append(list, *w.members[o])
		}
	}
	return list
}

// step plans, checks the plan, and carries it out. It returns how many
// transactions were built or turned out to be gone.
func (w *world) step() (built int) {
	w.t.Helper()
	list := w.list()
	plan := Make(w.market, w.limit, list)
	mixed := slices.Clone(list)
	w.r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	if again := Make(w.market, w.limit, mixed); !reflect.DeepEqual(plan, again) {
		w.t.Fatalf("another order, another plan:\n%+v\n%+v", plan, again)
	}
	w.check(list, plan)
	surge := w.surge
	if w.surge = nil; surge != nil {
		surge()
	}
	for i := range plan.Txs {
		t := &plan.Txs[i]
		if t.Again != nil {
			w.counts["sent again"]++
			if w.send(t.Again) {
				built++
			}
			continue
		}
		var members []*Member
		for _, o := range t.Members {
			members = append(members, w.members[o])
		}
		sent := w.transaction(members, t.Fee)
		if got := read(sent).weight; got != t.Weight {
			w.t.Fatalf("a transaction of %d WU, planned %d", got, t.Weight)
		}
		if err := w.accept(sent); err != nil && surge != nil {
			for _, m := range members {
				if m.In = t.Replaces; m.In == nil {
					m.In, _, _ = sent.Told(sent.Txid, true, true)
				}
			}
			w.counts["refused: the fee"]++
			continue
		} else if err != nil {
			w.t.Fatalf("height %d, estimate %d: %v (replaces %v)", w.market.Tip, w.market.Estimate, err, t.Replaces != nil)
		}
		for _, m := range members {
			m.In = sent
		}
		built++
		if w.counts["built"]++; t.Replaces != nil {
			w.counts["replaced"]++
		}
		w.counts[fmt.Sprint("members to ", 1<<(bitsOf(len(members))))]++
	}
	for _, l := range plan.Left {
		w.counts["left: "+l.Why.Error()]++
	}
	return built
}

func bitsOf(n int) (b int) {
	for ; 1<<b < n; b++ {
	}
	return b
}

// ceiling is the most that a transaction may pay, as spec/batch.md states it.
func (w *world) ceiling(list []Member, vsize int64, replaces bool) wire.Sat {
	estimate := min(max(w.market.Estimate, w.market.Relay), MaxRate)
	var total wire.Sat
	rival, urgent := false, false
	for _, m := range list {
		total += m.Value
		rival = rival || m.Rival != nil
		urgent = urgent || m.To > 0 && w.market.Tip >= m.From
	}
	limit := max(estimate.Fee(vsize), min((10*estimate).Fee(vsize), total/2))
	if rival || replaces {
		limit = max(limit, total/2)
	}
	if rival && urgent {
		limit = total
	}
	return min(limit, total-contract.Dust, MaxRate.Fee(vsize))
}

func (w *world) check(list []Member, plan Plan) {
	w.t.Helper()
	left := map[wire.Outpoint]Member{}
	for _, m := range list {
		left[m.At] = m
	}
	for _, l := range plan.Left {
		if _, ok := left[l.At]; !ok || l.Why == nil {
			w.t.Fatalf("%v is left twice, placed and left, or for no reason", l.At)
		}
		delete(left, l.At)
	}
	for _, t := range plan.Txs {
		size := contract.VSize(t.Weight)
		var members []Member
		var total wire.Sat
		for _, o := range t.Members {
			m, ok := left[o]
			if !ok {
				w.t.Fatalf("%v is in two transactions", o)
			}
			delete(left, o)
			members = append(members, m)
			total += m.Value
		}
		if t.Again != nil {
			if k := read(t.Again); len(k.inputs) < len(members) || t.Fee != t.Again.Fee || t.Weight != k.weight {
				w.t.Fatalf("%d members of %d inputs are sent again", len(members), len(k.inputs))
			}
			continue
		}
		switch limit := w.ceiling(members, size, t.Replaces != nil); {
		case len(members) > w.limit || t.Weight > MaxWeight:
			w.t.Fatalf("%d members, %d WU", len(members), t.Weight)
		case t.Fee > limit:
			w.t.Fatalf("a fee of %v, the ceiling is %v (%d members of %v, %d vB, estimate %d)", t.Fee, limit, len(members), total, size, w.market.Estimate)
		case total-t.Fee < contract.Dust:
			w.t.Fatalf("%v of %v leave dust", t.Fee, total)
		}
		// The first could leave, or no other is much poorer.
		slices.SortFunc(members, denser)
		if rich, poor := &members[0], &members[len(members)-1]; t.Replaces == nil && apart(rich, poor) && part(poor.Value, t.Weight, poor.Weight) > rich.Value/2 {
			w.t.Fatalf("one of %v and one of %v in a transaction of %d WU", rich.Value, poor.Value, t.Weight)
		}
		for _, m := range members {
			if int64(m.Value)*t.Weight <= int64(t.Fee)*m.Weight && int64(m.Value) < 1<<31 {
				w.t.Fatalf("a member of %v and %d WU in a transaction of %v for %d WU", m.Value, m.Weight, t.Fee, t.Weight)
			}
			estimate := min(max(w.market.Estimate, w.market.Relay), MaxRate)
			if cost := part(t.Fee, m.Weight, t.Weight); t.Fee > estimate.Fee(size) && m.Rival == nil && cost > m.Value/2 {
				w.t.Fatalf("a member of %v pays %v, above the estimate", m.Value, cost)
			}
			if len(members) > 1 && (m.Alone || m.Rival != nil) {
				w.t.Fatal("one that goes alone has company")
			}
		}
	}
	if len(left) > 0 {
		w.t.Fatalf("%d members are forgotten", len(left))
	}
}

// lose plans once more without one member of a transaction that is out: the
// others' rate does not fall, but to the ceiling.
func (w *world) lose() {
	var shared []*pooled
	for _, p := range w.pool {
		if len(p.inputs) > 1 {
			shared = append(shared, p)
		}
	}
	if len(shared) == 0 {
		return
	}
	slices.SortFunc(shared, func(a, b *pooled) int { return compare(a.inputs[0], b.inputs[0]) })
	old := shared[w.r.IntN(len(shared))]
	w.spend(old.inputs[:1])
	for _, t := range Make(w.market, w.limit, w.list()).Txs {
		if t.Again != nil || !slices.Contains(old.inputs, t.Members[0]) {
			continue
		}
		var members []Member
		for _, o := range t.Members {
			members = append(members, *w.members[o])
		}
		size := contract.VSize(t.Weight)
		if floor := part(old.sent.Fee, size, contract.VSize(old.weight)); t.Fee < min(floor, w.ceiling(members, size, false)) {
			w.t.Fatalf("%v for %d vB after a loss, before %v for %d vB", t.Fee, size, old.sent.Fee, contract.VSize(old.weight))
		}
		w.counts["after a loss"]++
	}
}

// TestModel: whatever comes, every plan keeps what check asks, does not depend on
// the order of its members, and a mempool that keeps BIP125 takes all that is built.
// Once the estimate stands still, so do the transactions.
func TestModel(t *testing.T) {
	s := tier.NewSample(t)
	for run := range tier.Pick(20, 60, 1000) {
		r := s.Rand()
		w := &world{t: t, r: r, limit: []int{1, 3, 50, 250}[r.IntN(4)], members: map[wire.Outpoint]*Member{}, pool: map[wire.Hash]*pooled{}, spent: map[wire.Outpoint]bool{}, hidden: map[wire.Outpoint]wire.Height{}, counts: map[string]int{}}
		w.market = Market{Tip: 100, Estimate: 1000, Relay: []wire.SatPerKVB{100, 1000, 5000}[r.IntN(3)], Increment: []wire.SatPerKVB{100, 1000, 3000}[r.IntN(3)]}
		for range r.IntN(60) {
			w.add()
		}
		for range 60 {
			w.market.Tip++
			switch r.IntN(6) {
			case 0:
				w.market.Estimate = []wire.SatPerKVB{1, 100, 1000, 2000, 50_000, 500_000, 2 * MaxRate}[r.IntN(7)]
			case 1:
				w.market.Estimate += w.market.Estimate/10 + 1
			case 2:
				w.market.Estimate -= w.market.Estimate / 10
			}
			for range r.IntN(3) {
				w.add()
			}
			if r.IntN(4) == 0 {
				w.lose()
			}
			if r.IntN(8) == 0 {
				for _, o := range slices.SortedFunc(maps.Keys(w.members), compare) {
					if r.IntN(4) > 0 {
						continue
					}
					w.hidden[o] = w.market.Tip + wire.Height(r.Uint32N(4))
					break
				}
			}
			w.step()
			if r.IntN(3) == 0 {
				for _, p := range slices.SortedFunc(maps.Values(w.pool), func(a, b *pooled) int { return compare(a.inputs[0], b.inputs[0]) }) {
					if r.IntN(3) == 0 && p.sent.Fee >= w.market.Estimate.Fee(contract.VSize(p.weight)) {
						w.spend(p.inputs)
					}
				}
			}
		}
		// No ratchet: past all deadlines, at a constant estimate.
		w.market.Tip += 100
		rounds := 0
		for ; w.step() > 0; w.market.Tip++ {
			if rounds++; rounds > 12 {
				t.Fatalf("run %d: still building after %d blocks at one estimate", run, rounds)
			}
		}
		fees := func() (m map[wire.Hash]wire.Sat) {
			m = map[wire.Hash]wire.Sat{}
			for id, p := range w.pool {
				m[id] = p.sent.Fee
			}
			return m
		}
		before := fees()
		for range 5 {
			w.market.Tip++
			w.step()
		}
		if !maps.Equal(before, fees()) {
			t.Fatalf("run %d: fees move at a constant estimate", run)
		}
		if run == 0 {
			t.Log(w.counts)
		}
	}
}

// TestRichMemberLeavesPoorBatch: if the estimate rises so far that the small
// members of a batch cannot bear it, the valuable one replaces the batch on its
// own, though the batch paid more than ten times the estimate for so small a
// transaction.
func TestRichMemberLeavesPoorBatch(t *testing.T) {
	const expiry = 1000
	var list []Member
	for i := range 250 {
		m := Member{At: wire.Outpoint{Txid: wire.Hash{1}, Vout: uint32(i)}, Value: 1051, Weight: contract.ClaimInputWeight(0, 1), From: expiry - 144, To: expiry}
		if i == 0 {
			m.Value = 1_000_000
		}
		list = append(list, m)
	}
	p := Make(Market{Tip: expiry - 200, Estimate: 2000}, 250, list)
	if len(p.Txs) != 1 || len(p.Txs[0].Members) != 250 {
		t.Fatalf("%d transactions", len(p.Txs))
	}
	w := &world{t: t, market: Market{Tip: expiry - 200}}
	var all []*Member
	for i := range list {
		all = append(all, &list[i])
	}
	sent := w.transaction(all, p.Txs[0].Fee)
	for i := range list {
		list[i].In = sent
	}
	p = Make(Market{Tip: expiry - 1, Estimate: 10_000}, 250, list)
	if len(p.Txs) != 1 || p.Txs[0].Again != nil || p.Txs[0].Replaces == nil || len(p.Txs[0].Members) != 1 || p.Txs[0].Members[0] != list[0].At {
		t.Fatalf("the valuable claim is not replaced: %+v", p.Txs)
	}
	if fee := p.Txs[0].Fee; fee <= sent.Fee || fee > 500_000 {
		t.Errorf("a fee of %v after %v", fee, sent.Fee)
	}
}

// TestTheRestConfirms: an attacker double-spends one of its members in every block.
// The others confirm within as many blocks as halves can be made, and no
// transaction of theirs pays a lower rate than the one before.
func TestTheRestConfirms(t *testing.T) {
	s := tier.NewSample(t)
	for range tier.Pick(4, 20, 300) {
		r := s.Rand()
		w := &world{t: t, r: r, limit: []int{50, 250}[r.IntN(2)], members: map[wire.Outpoint]*Member{}, pool: map[wire.Hash]*pooled{}, spent: map[wire.Outpoint]bool{}, counts: map[string]int{}}
		w.market = Market{Tip: 100, Estimate: 2000, Relay: 1000, Increment: 1000}
		urgent := r.IntN(2) == 0
		bad := map[wire.Outpoint]bool{}
		for range w.limit {
			m := &Member{At: w.outpoint(), Weight: contract.ClaimInputWeight(0, 1), Value: 3000 + wire.Sat(r.Int64N(3000))}
			if urgent {
				m.From, m.To = 100, 118
			}
			w.members[m.At] = m
			if r.IntN(3) == 0 {
				bad[m.At] = true
			}
		}
		rates := map[wire.Outpoint]float64{}
		blocks := 0
		for good := 1; good > 0; w.market.Tip++ {
			if blocks++; blocks > 10 {
				t.Fatalf("%d members are left after %d blocks", good, blocks)
			}
			w.step()
			w.rising(rates)
			w.attack(bad)
			for _, p := range slices.SortedFunc(maps.Values(w.pool), func(a, b *pooled) int { return compare(a.inputs[0], b.inputs[0]) }) {
				w.spend(p.inputs)
			}
			good = 0
			for o := range w.members {
				if !bad[o] {
					good++
				}
			}
		}
	}
}

// rising fails if a member's transaction pays a lower rate than its last one. rates are
// those of before.
func (w *world) rising(rates map[wire.Outpoint]float64) {
	w.t.Helper()
	for _, p := range w.pool {
		rate := float64(p.sent.Fee) / float64(contract.VSize(p.weight))
		for _, o := range p.inputs {
			if rate < rates[o]*0.999 {
				w.t.Fatalf("%.2f sat per vB after %.2f", rate, rates[o])
			}
			rates[o] = rate
		}
	}
}

// attack double-spends the bad member that hurts most: in the largest transaction.
func (w *world) attack(bad map[wire.Outpoint]bool) {
	var victims []wire.Outpoint
	for o := range bad {
		if w.members[o] != nil {
			victims = append(victims, o)
		}
	}
	if slices.SortFunc(victims, compare); len(victims) == 0 {
		return
	}
	size := func(o wire.Outpoint) int {
		if in := w.members[o].In; in != nil && w.pool[in.Txid] != nil {
			return len(w.pool[in.Txid].inputs)
		}
		return 0
	}
	w.spend([]wire.Outpoint{slices.MaxFunc(victims, func(a, b wire.Outpoint) int { return size(a) - size(b) })})
}

// TestSpikeUnderAttack: the estimate rises tenfold between a plan and its broadcasts,
// with or without the node's minimum, while an attacker double-spends one member in
// every block. The others confirm in time, in blocks that take nothing under the
// estimate, also if that falls again, and no transaction of theirs pays a lower rate than the one before.
func TestSpikeUnderAttack(t *testing.T) {
	s := tier.NewSample(t)
	refused := 0
	for range tier.Pick(6, 30, 300) {
		r := s.Rand()
		w := &world{t: t, r: r, limit: 50, members: map[wire.Outpoint]*Member{}, pool: map[wire.Hash]*pooled{}, spent: map[wire.Outpoint]bool{}, counts: map[string]int{}}
		w.market = Market{Tip: 100, Estimate: 2000, Relay: 1000, Increment: 1000}
		urgent, full, at := r.IntN(2) == 0, r.IntN(2) == 0, 1+r.IntN(4)
		falls := !urgent && r.IntN(2) == 0 // inside a window, the ceiling falls with the estimate
		bad := map[wire.Outpoint]bool{}
		for range w.limit {
			// Their values never limit the rate.
			m := &Member{At: w.outpoint(), Weight: contract.ClaimInputWeight(0, 1), Value: 60_000 + wire.Sat(r.Int64N(40_000))}
			if urgent {
				m.From, m.To = 100, 118
			}
			w.members[m.At] = m
			if r.IntN(3) == 0 {
				bad[m.At] = true
			}
		}
		rates := map[wire.Outpoint]float64{}
		blocks := 0
		for good := 1; good > 0; w.market.Tip++ {
			if blocks++; blocks > 18 {
				t.Fatalf("%d members are left after %d blocks (urgent %v, full %v, in block %d)", good, blocks, urgent, full, at)
			}
			if blocks == at {
				w.surge = func() {
					w.market.Estimate *= 10
					if full {
						w.market.Relay *= 10
						maps.DeleteFunc(w.pool, func(_ wire.Hash, p *pooled) bool { return p.sent.Fee < w.market.Relay.Fee(contract.VSize(p.weight)) })
					}
				}
			}
			if falls && blocks == at+2 {
				w.market.Estimate, w.market.Relay = 2000, 1000
			}
			w.step()
			refused += w.counts["refused: the fee"]
			w.rising(rates)
			w.attack(bad)
			for _, p := range slices.SortedFunc(maps.Values(w.pool), func(a, b *pooled) int { return compare(a.inputs[0], b.inputs[0]) }) {
				if p.sent.Fee >= w.market.Estimate.Fee(contract.VSize(p.weight)) {
					w.spend(p.inputs)
				}
			}
			good = 0
			for o := range w.members {
				if !bad[o] {
					good++
				}
			}
		}
	}
	if refused == 0 {
		t.Error("no transaction was refused because of the spike")
	}
}

// TestRichIsNotHeldBack: if the estimate rises near a deadline, a member that is
// worth more than eight times its own fee pays the new rate in the same block,
// whatever members it shared a transaction with.
func TestRichIsNotHeldBack(t *testing.T) {
	s := tier.NewSample(t)
	held := 0
	for range tier.Pick(50, 300, 5000) {
		r := s.Rand()
		w := &world{t: t, r: r, limit: 250, members: map[wire.Outpoint]*Member{}, pool: map[wire.Hash]*pooled{}, spent: map[wire.Outpoint]bool{}, counts: map[string]int{}}
		w.market = Market{Tip: 90, Estimate: 1000 + wire.SatPerKVB(r.Int64N(20_000)), Relay: 1000, Increment: 1000}
		for range 1 + r.IntN(250) {
			m := &Member{At: w.outpoint(), Weight: contract.ClaimInputWeight(0, 1), Value: 500 + wire.Sat(r.Int64N(1500)), From: 100, To: 112}
			if r.IntN(20) == 0 {
				m.Value = wire.Sat(r.Int64N([]int64{10_000, 30_000, 1_000_000}[r.IntN(3)])) + 500
			}
			w.members[m.At] = m
		}
		w.step()
		w.market.Tip = 100
		w.market.Estimate += wire.SatPerKVB(r.Int64N(100_000))
		for range 12 { // what the valuable ones leave behind is refused once, then planned anew
			w.step()
		}
		for _, m := range w.members {
			rate := w.market.Estimate
			if need := rate.Fee(contract.VSize(weigh([]Member{*m}))); m.Value < 8*need+8*w.market.Increment.Fee(contract.VSize(m.Weight)) {
				continue
			}
			held++
			if k := read(m.In); k == nil || m.In.Gone || k.rate() < rate-w.market.Increment {
				t.Fatalf("one of %v: %+v at an estimate of %d", m.Value, k, rate)
			}
		}
	}
	if held == 0 {
		t.Error("no member was worth eight times its fee")
	}
}
