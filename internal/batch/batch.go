// Package batch decides how to spend the outputs that the home can spend on its
// own: claims, closes and refunds (spec/batch.md). It decides which of them
// share a transaction, the transaction's fee, and whether an earlier one is
// broadcast again, replaced or rebuilt.
//
// The package is pure. Its result depends only on the members, the estimate and
// the height, not on the order of the members or on how often it is called.
// Package contract builds and signs the transactions.
package batch

import (
	"bytes"
	"cmp"
	"errors"
	"math/bits"
	"slices"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// The policy constants. RATIONALE.md has the reasons.
const (
	// Multiple limits the fee rate at a member's deadline to this multiple of
	// the estimate.
	Multiple = 10
	// Share limits a fee above the estimate to the value divided by it.
	Share = 2
	// MaxRate is the ceiling on every fee rate.
	MaxRate = wire.MaxFeeRate
	// MaxWeight is the largest standard transaction, in weight units.
	MaxWeight = 400_000
	// Relay and Increment are used for a node that does not state its own: the
	// least rate that any release of Bitcoin Core relays by default, and the
	// largest increment that any of them asks of a replacement.
	Relay     wire.SatPerKVB = 100
	Increment wire.SatPerKVB = 1000
	// Apart limits how different the members of a transaction can be: one with
	// more than Apart times the value per weight of another shares with it only if
	// it could leave the transaction on its own. Otherwise a rate that the poorer
	// members cannot bear would hold it back.
	Apart = 4
)

// Reasons why a member is in no transaction.
var (
	// ErrUneconomic means that at the current rate the member's input costs
	// more than its value, or that the transaction's output would be dust.
	ErrUneconomic = contract.ErrUneconomic
	// ErrOutbid means that the member is in another transaction, which cannot
	// be replaced within the ceiling.
	ErrOutbid = errors.New("the transaction that it would replace pays too much")
	// ErrReplaced means that the other members of its transaction are rebuilt
	// at a rate that it cannot bear. It is planned again once that is known.
	ErrReplaced = errors.New("its transaction continues without it")
	// ErrTooLarge means that it does not fit a standard transaction.
	ErrTooLarge = errors.New("larger than a standard transaction")
)

// Market contains the current fee estimate and relay policy.
type Market struct {
	Tip       wire.Height
	Estimate  wire.SatPerKVB // for confirmation soon
	Relay     wire.SatPerKVB // the minimum relay rate; 0 means Relay
	Increment wire.SatPerKVB // what a replacement must add for its own size (BIP125, rule 4); 0 means Increment
}

// Member is an output to be spent.
type Member struct {
	At      wire.Outpoint
	Value   wire.Sat // its value before fees; for a bank's close, the payee's share
	Weight  int64    // of its input, and of the output that belongs to it
	Outputs int      // number of outputs that belong to it, 0 or 1
	// From and To are the window in which its fee rate rises: it is the
	// estimate up to From, and the ceiling from To on. Both are 0 for a member
	// without a deadline.
	From, To wire.Height
	Alone    bool // it shares no transaction
	// In is the transaction that it is in, or nil. If it is Gone, it cannot
	// confirm, and only its rate and its address count; if it is also Low, only its
	// address, and the member counts as in none.
	In *contract.Sent
	// Least is the least rate that its owner wants, up to half of its value, or 0.
	Least wire.SatPerKVB
	// Rival is an unconfirmed transaction through another leaf that also spends
	// it, or nil. Its fee must be outbid; such a member is not batched.
	Rival *contract.Sent
}

// Tx is a transaction of a plan.
type Tx struct {
	Members []wire.Outpoint // its inputs, in order
	Weight  int64           // including the one output for the rest
	Fee     wire.Sat
	// Again is the earlier transaction if it is broadcast again unchanged;
	// otherwise a new one is built.
	Again *contract.Sent
	// Replaces is the earlier transaction of the same members, or of these and
	// some that cannot bear the new rate. It can still confirm.
	Replaces *contract.Sent
	// Pays is the earlier transaction to whose address this one pays, or nil if it
	// needs a fresh one.
	Pays *contract.Sent
}

// Left is a member that is in no transaction of the plan.
type Left struct {
	At  wire.Outpoint
	Why error
}

// Plan is the plan for the members: each is in one transaction or left out.
type Plan struct {
	Txs  []Tx
	Left []Left
}

// Make plans the members. Members that are in the same earlier transaction are
// planned together, and so are those that are in none. list must contain all
// members of an earlier transaction that can still be spent. If one of its
// inputs is missing, the transaction may still confirm unless it is Gone. At most
// limit members share a transaction.
func Make(m Market, limit int, list []Member) Plan {
	m.Relay, m.Increment = cmp.Or(m.Relay, Relay), cmp.Or(m.Increment, Increment)
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Member) int { return compare(a.At, b.At) })
	list = slices.CompactFunc(list, func(a, b Member) bool { return a.At == b.At })
	p := planner{Market: m, limit: max(limit, 1)}
	groups := map[wire.Hash][]Member{}
	for _, one := range list {
		switch {
		case contract.TxOverheadWeight+contract.P2TROutputWeight+one.Weight > MaxWeight:
			p.leave(ErrTooLarge, one)
		case one.Alone || one.Rival != nil:
			p.group([]Member{one})
		case one.In == nil || one.In.Low:
			groups[wire.Hash{}] = append(groups[wire.Hash{}], one)
		default:
			groups[one.In.Txid] = append(groups[one.In.Txid], one)
		}
	}
	for _, g := range groups {
		p.group(g)
	}
	slices.SortFunc(p.Txs, func(a, b Tx) int { return compare(a.Members[0], b.Members[0]) })
	slices.SortFunc(p.Left, func(a, b Left) int { return compare(a.At, b.At) })
	return p.Plan
}

func compare(a, b wire.Outpoint) int {
	return cmp.Or(bytes.Compare(a.Txid[:], b.Txid[:]), cmp.Compare(a.Vout, b.Vout))
}

type planner struct {
	Market
	Plan
	limit int
}

func (p *planner) leave(why error, list ...Member) {
	for _, m := range list {
		p.Left = append(p.Left, Left{m.At, why})
	}
}

// group plans members that are in the same transaction, or in none.
func (p *planner) group(g []Member) {
	old := read(g[0].In)
	if old != nil && old.sent.Low {
		old = nil
	}
	if old != nil && !slices.ContainsFunc(g, func(m Member) bool { return m.In.Gone }) {
		p.live(g, old)
		return
	}
	limit := p.limit
	if old != nil {
		// A member was, or may be, the reason why the transaction cannot confirm.
		// Halves find a bad one in few steps, and one that is spent in each block
		// delays only the half that it is in.
		limit = min(limit, (len(old.inputs)+1)/2)
	}
	heirs := map[wire.Hash]wire.Outpoint{} // of the addresses of what is gone: the first member of each
	for _, m := range g {
		if _, ok := heirs[in(&m)]; !ok && m.In != nil {
			if k := read(m.In); k != nil && (len(g) > 1 || k.inputs[0] == m.At) {
				heirs[in(&m)] = m.At
			}
		}
	}
	// Urgent members must not raise the fee of the others.
	var calm, urgent []Member
	for _, m := range g {
		if p.urgent(&m) {
			urgent = append(urgent, m)
		} else {
			calm = append(calm, m)
		}
	}
	for _, list := range [][]Member{urgent, calm} {
		// Densest first: if they do not fit one transaction, those with the
		// most value for their weight share one.
		slices.SortStableFunc(list, denser)
		for len(list) > 0 {
			n := p.share(list, limit)
			take, fee, why := p.price(list[:n], bid{floor: old})
			if len(take) == 0 {
				p.leave(why, list...)
				break
			}
			p.build(take, fee, nil)
			for _, m := range take {
				if heir, ok := heirs[in(&m)]; ok && heir == m.At {
					p.Txs[len(p.Txs)-1].Pays = m.In
					break
				}
			}
			list = list[len(take):]
		}
	}
}

// in returns the txid of a member's transaction, or zeros.
func in(m *Member) (txid wire.Hash) {
	if m.In != nil {
		txid = m.In.Txid
	}
	return txid
}

// live plans the members of a transaction that can still confirm: it is
// broadcast again until a replacement is due that nodes accept.
func (p *planner) live(g []Member, old *known) {
	again := Tx{Weight: old.weight, Fee: old.sent.Fee, Again: old.sent}
	for _, m := range g {
		again.Members = append(again.Members, m.At)
	}
	slices.SortStableFunc(g, denser)
	least := wire.SatPerKVB(0)
	for i := range g {
		least = max(least, g[i].Least)
	}
	asked := least > old.rate()                                       // its owner wants more than it pays
	if !asked && old.sent.Height >= p.Tip || old.sent.Before != nil { // it is new, or nobody has answered yet
		p.Txs = append(p.Txs, again)
		return
	}
	g, rest := g[:p.fit(g, p.limit)], g[p.fit(g, p.limit):]
	take, fee, _ := p.price(g, bid{})
	if len(take) == 0 || !old.slower(fee, weigh(take)) {
		p.Txs = append(p.Txs, again)
		return
	}
	if fee < p.outbids(take, old) {
		// The rate has risen by less than a replacement costs. Near the
		// deadline, or if the rate has doubled, pay it anyway; otherwise wait
		// until the rate is worth it.
		b := bid{outbid: old, within: true}
		switch {
		case asked, slices.ContainsFunc(g, func(m Member) bool { return p.urgent(&m) }):
			b.within = false
		case 2*old.rate() > p.estimate():
			p.Txs = append(p.Txs, again)
			return
		}
		if take, fee, _ = p.price(g, b); len(take) == 0 {
			p.Txs = append(p.Txs, again)
			return
		}
	}
	p.build(take, fee, old.sent)
	p.leave(ErrReplaced, g[len(take):]...)
	p.leave(ErrReplaced, rest...)
}

func (p *planner) build(list []Member, fee wire.Sat, old *contract.Sent) {
	t := Tx{Weight: weigh(list), Fee: fee, Replaces: old, Pays: old}
	for _, m := range list {
		t.Members = append(t.Members, m.At)
	}
	slices.SortFunc(t.Members, compare)
	p.Txs = append(p.Txs, t)
}

// bid is the minimum that a fee must reach in addition to the estimate.
type bid struct {
	floor  *known // a dead transaction whose rate the fee must not fall below, within the ceiling
	outbid *known // a live one that it replaces
	within bool   // outbid it only within the ceiling, not with up to the Share of the value
}

// price computes the fee of the longest prefix of list, densest first, in which
// every member pays for its own weight. If there is none, it returns nil and
// the reason.
func (p *planner) price(list []Member, b bid) (take []Member, fee wire.Sat, why error) {
	why = ErrUneconomic
	for n := len(list); n > 0; n-- {
		fee, why = p.fee(list[:n], b)
		if why != nil {
			continue
		}
		if p.bears(&list[n-1], fee, weigh(list[:n])) {
			return list[:n], fee, nil
		}
		why = ErrUneconomic
	}
	return nil, 0, why
}

// bears reports whether m pays for its own weight in a transaction with this
// fee and weight: with less than its value, and with at most its Share of it if
// the fee is above the estimate for the sake of others.
func (p *planner) bears(m *Member, fee wire.Sat, weight int64) bool {
	cost := part(fee, m.Weight, weight)
	if fee > p.estimate().Fee(contract.VSize(weight)) && m.Rival == nil {
		return cost <= m.Value/Share
	}
	return cost < m.Value
}

// estimate returns the node's estimate, at least the relay minimum and at most
// MaxRate.
func (p *planner) estimate() wire.SatPerKVB { return min(max(p.Estimate, p.Relay), MaxRate) }

// fee returns the fee of one transaction of list. This is the only place with
// the fee policy (spec/batch.md).
func (p *planner) fee(list []Member, b bid) (wire.Sat, error) {
	var total wire.Sat
	estimate := p.estimate()
	wanted, urgent, own := estimate, false, wire.SatPerKVB(0)
	for i := range list {
		total += list[i].Value
		wanted = max(wanted, p.risen(&list[i], estimate))
		urgent = urgent || p.urgent(&list[i])
		own = max(own, min(list[i].Least, MaxRate))
	}
	size := contract.VSize(weigh(list))
	least, most := p.Relay.Fee(size), min(total-contract.Dust, MaxRate.Fee(size))
	fee := estimate.Fee(size)
	ceiling := min(max(fee, min((Multiple*estimate).Fee(size), total/Share, most)), MaxRate.Fee(size))
	ceiling = max(ceiling, min(own.Fee(size), total/Share, most))
	fee = min(max(fee, wanted.Fee(size), own.Fee(size)), ceiling)
	if b.floor != nil {
		fee = min(max(fee, part(b.floor.sent.Fee, size, contract.VSize(b.floor.weight))), ceiling)
	}
	rivals := p.outbids(list, nil)
	limit := ceiling
	if !b.within {
		limit = max(ceiling, total/Share)
	}
	switch {
	case p.outbids(list, b.outbid) > max(rivals, limit):
		return 0, ErrOutbid
	case rivals > max(ceiling, total/Share) && !(urgent && rivals <= most):
		return 0, ErrOutbid
	}
	outbids := p.outbids(list, b.outbid)
	if fee = max(fee, outbids); fee > most && urgent && outbids <= most {
		fee = most // near the deadline, what the value can bear is better than nothing
	}
	if fee > most || fee < least {
		return 0, ErrUneconomic
	}
	return fee, nil
}

// urgent reports whether m's window has begun.
func (p *planner) urgent(m *Member) bool { return m.To > 0 && p.Tip >= m.From }

// risen returns m's rate at the tip: in m's window it rises linearly from the
// estimate to Multiple times the estimate.
func (p *planner) risen(m *Member, estimate wire.SatPerKVB) wire.SatPerKVB {
	switch {
	case !p.urgent(m):
		return estimate
	case p.Tip >= m.To:
		return Multiple * estimate
	}
	return estimate + wire.SatPerKVB(int64(Multiple-1)*int64(estimate)*int64(p.Tip-m.From)/int64(m.To-m.From))
}

// outbids returns the least fee with which list replaces old and its rivals, or
// 0 if there is nothing to replace (BIP125, rules 3 and 4, and a higher rate
// than each of them, which Bitcoin Core requires too).
func (p *planner) outbids(list []Member, old *known) (fee wire.Sat) {
	weight := weigh(list)
	size := contract.VSize(weight)
	beat := func(k *known) {
		if k != nil {
			fee = max(fee, p.outbid(k, size))
		}
	}
	beat(old)
	for _, m := range list {
		beat(read(m.Rival))
	}
	return fee
}

// Outbid returns the least fee with which a transaction of a weight replaces
// old, or 0 if old cannot be decoded: BIP125, rules 3 and 4, and a higher rate.
func (m Market) Outbid(old *contract.Sent, weight int64) wire.Sat {
	m.Increment = cmp.Or(m.Increment, Increment)
	if k := read(old); k != nil {
		return m.outbid(k, contract.VSize(weight))
	}
	return 0
}

func (m *Market) outbid(old *known, size int64) wire.Sat {
	return max(old.sent.Fee+m.Increment.Fee(size), part(old.sent.Fee, size, contract.VSize(old.weight))+1)
}

// fit returns how many of list fit into one transaction of at most limit members.
func (p *planner) fit(list []Member, limit int) (n int) {
	for n = min(len(list), limit); n > 1 && weigh(list[:n]) > MaxWeight; n-- {
	}
	return n
}

// share returns how many of list, densest first, can share a new transaction: as
// many as fit, without those that could hold back the first.
func (p *planner) share(list []Member, limit int) int {
	n := p.fit(list, limit)
	rich := &list[0]
	leaves := rich.Value/Share - p.Increment.Fee(contract.VSize(weigh(list[:1])))
	for i := 1; i < n; i++ {
		// While the poorest is in the transaction, its fee is at most what the
		// poorest pays for its weight.
		if poor := &list[i]; apart(rich, poor) && part(poor.Value, weigh(list[:i+1]), poor.Weight) > leaves {
			return i
		}
	}
	return n
}

// apart reports whether rich has more than Apart times the value per weight of
// poor.
func apart(rich, poor *Member) bool {
	rh, rl := bits.Mul64(uint64(max(rich.Value, 0)), uint64(poor.Weight))
	ph, pl := bits.Mul64(uint64(max(poor.Value, 0)), uint64(rich.Weight)*Apart)
	return rh > ph || rh == ph && rl > pl
}

// weigh returns the weight of a transaction of list, with one output for the
// rest.
func weigh(list []Member) int64 {
	outputs := 1
	var w int64
	for _, m := range list {
		w += m.Weight
		outputs += m.Outputs
	}
	return contract.TxOverheadWeight + contract.P2TROutputWeight + w + contract.CountWeight(len(list)) + contract.CountWeight(outputs)
}

// denser orders by value per weight, the densest first.
func denser(a, b Member) int {
	ah, al := bits.Mul64(uint64(max(a.Value, 0)), uint64(b.Weight))
	bh, bl := bits.Mul64(uint64(max(b.Value, 0)), uint64(a.Weight))
	return cmp.Or(cmp.Compare(bh, ah), cmp.Compare(bl, al), compare(a.At, b.At))
}

// part returns the share n/of of a fee, rounded up.
func part(fee wire.Sat, n, of int64) wire.Sat {
	hi, lo := bits.Mul64(uint64(max(fee, 0)), uint64(n))
	lo, carry := bits.Add64(lo, uint64(of-1), 0)
	if hi += carry; hi >= uint64(of) {
		return wire.MaxSat
	}
	q, _ := bits.Div64(hi, lo, uint64(of))
	return wire.Sat(min(q, uint64(wire.MaxSat)))
}

// known is an earlier transaction.
type known struct {
	sent   *contract.Sent
	weight int64
	inputs []wire.Outpoint
}

// read decodes an earlier transaction. It returns nil if that fails; then it
// cannot be broadcast again either.
func read(s *contract.Sent) *known {
	if s == nil {
		return nil
	}
	tx, err := contract.ReadTx(s.Tx)
	if err != nil {
		return nil
	}
	k := &known{sent: s, weight: contract.Weight(tx)}
	for _, in := range tx.TxIn {
		k.inputs = append(k.inputs, contract.OutpointOf(in.PreviousOutPoint))
	}
	return k
}

// rate returns its fee rate.
func (k *known) rate() wire.SatPerKVB {
	return wire.SatPerKVB(part(k.sent.Fee, 1000, contract.VSize(k.weight)))
}

// slower reports whether it pays a lower rate than a fee for a weight.
func (k *known) slower(fee wire.Sat, weight int64) bool {
	return part(k.sent.Fee, contract.VSize(weight), contract.VSize(k.weight)) < fee
}
