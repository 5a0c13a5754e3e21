package bank_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// TestFeesThatMove explores a close by the payee alone, from T−Stop to T, and a
// refund, from T on, in markets that move and that the node's estimate follows
// late: miners take what pays their rate, which is one of three, 20 and 50 times
// apart, and changes up to four times (nightly: five), in any block, and leave it out
// of two blocks (three) in any case; the estimate is the rate of some blocks ago. The machines and the plans of package batch are
// the real ones; nodes replace as BIP125 asks. Held in every state:
//
//   - when the estimate is not below the rate of the next block, that block
//     confirms it unless it leaves it out; from T−Close on, when a tenth of the rate is not above the estimate;
//   - no fee exceeds what the highest estimate so far asks, before T−Bump and for
//     refunds; after it, ten times as much or half of the value;
//   - while the estimate stays, so does the transaction, before T−Bump and for
//     refunds.
func TestFeesThatMove(t *testing.T) {
	t.Parallel()
	changes, skips := tier.Pick(2, 4, 5), tier.Pick(1, 2, 3)
	for _, side := range []string{"close", "refund"} {
		for _, lag := range tier.Pick([]int{1}, []int{0, 1, 4, 12}, []int{0, 1, 2, 3, 4, 5, 6, 12}) {
			t.Run(fmt.Sprintf("%s, estimated %d blocks late", side, lag), func(t *testing.T) {
				t.Parallel()
				m := &markets{t: t, lag: lag, seen: map[[32]byte]bool{}, built: map[wire.Sat]contract.Tx{}}
				m.open(side == "refund")
				first := place{height: m.from, left: changes, skips: skips, rates: slices.Repeat([]wire.SatPerKVB{marketRates[0]}, lag+1), most: marketRates[0]}
				first.payer, first.payee = m.payer, m.payee
				m.explore(first)
				t.Logf("%d states, %d of them confirmed", len(m.seen), m.ended)
			})
		}
	}
}

var marketRates = []wire.SatPerKVB{1_000, 20_000, 50_000}

// markets is an exploration.
type markets struct {
	t     *testing.T
	lag   int
	back  bool // a refund
	payer bank.Payer
	payee bank.Payee
	paper bank.Paper
	bank  *contract.Bank
	house *house
	from  wire.Height // the last block before the first that matters
	seen  map[[32]byte]bool
	built map[wire.Sat]contract.Tx // by fee
	ended int
}

// place is a state of it.
type place struct {
	payer  bank.Payer
	payee  bank.Payee
	height wire.Height
	rates  []wire.SatPerKVB // of the last lag+1 blocks, the next one's last
	left   int              // changes
	skips  int              // blocks that may leave it out
	most   wire.SatPerKVB   // the highest estimate so far
	pool   *contract.Sent   // what nodes have
}

// open opens a bank, pays from it, and takes it to where its end begins.
func (m *markets) open(back bool) {
	w := newTown(m.t, nil)
	w.a.pour(1_000_000)
	id := w.a.opened(w.c, penny.Ladder{Value: 200_000, Rungs: 3, PerRung: 10}, shortLife)
	m.house, m.back = w.a, back
	paid := uint32(10) // a rung
	if back {
		paid = 5
	}
	must(m.t, w.a.pays(id, paid))
	w.a.away = true
	m.payer, m.payee = w.a.payer(id), w.c.payee(id)
	m.paper = w.c.papers[ref{payee, id}]
	var err error
	m.bank, err = contract.NewBank(m.paper.Terms)
	must(m.t, err)
	if m.from = m.payee.Expiry - wire.Height(m.payee.Margins.Stop) - 1; back {
		m.from = m.payee.Expiry - 1
	}
	if !back {
		m.house = w.c
	}
}

// estimate is the node's, in a block and until the next.
func (p *place) estimate() wire.SatPerKVB { return p.rates[0] }

func (m *markets) sent(p *place) *contract.Sent {
	if m.back {
		return p.payer.Refund
	}
	return p.payee.Alone
}

// member is what is planned.
func (m *markets) member(p *place) batch.Member {
	if m.back {
		return batch.Member{At: p.payer.At, Value: p.payer.Ladder.Value, In: p.payer.Refund,
			Weight: contract.BankRefundInputWeight(p.payer.Expiry, int(p.payer.Ladder.Rungs))}
	}
	y := &p.payee
	return batch.Member{At: y.At, Value: y.Ladder.Share(y.Rung()), Outputs: 1, In: y.Alone,
		Weight: contract.RungInputWeight(int(y.Rung())-1, int(y.Ladder.Rungs)) + contract.P2TROutputWeight,
		From:   y.Expiry - wire.Height(y.Margins.Bump), To: y.Expiry - wire.Height(y.Margins.Close)}
}

func (m *markets) build(p *place, fee wire.Sat) contract.Tx {
	tx := m.built[fee]
	if tx == nil {
		var err error
		if m.back {
			tx, _, err = contract.BuildBankRefund([]contract.BankRefund{p.payer.Back(m.bank)}, m.house.script, 0, fee)
		} else {
			var c contract.BankClose
			c, err = p.payee.Closing(&m.paper)
			must(m.t, err)
			tx, _, err = contract.BuildClose([]contract.BankClose{c}, nil, m.house.script, 0, fee)
		}
		must(m.t, err)
		m.built[fee] = tx
	}
	return tx
}

// tell steps the machine and does what it asks for.
func (m *markets) tell(p *place, ev bank.Event) {
	var effects []bank.Effect
	var err error
	if m.back {
		p.payer, effects, err = p.payer.Step(ev)
	} else {
		p.payee, effects, err = p.payee.Step(ev)
	}
	must(m.t, err)
	for _, e := range effects {
		switch e := e.(type) {
		case bank.CloseDue, bank.RefundDue:
			m.plan(p)
		case bank.Broadcast:
			tx, err := contract.ReadTx(e.Tx)
			must(m.t, err)
			m.broadcast(p, contract.Txid(tx))
		}
	}
}

func (m *markets) plan(p *place) {
	plan := batch.Make(batch.Market{Tip: p.height, Estimate: p.estimate()}, 50, []batch.Member{m.member(p)})
	built := func(s contract.Sent) {
		if m.back {
			m.tell(p, bank.RefundBuilt{Sent: s, Broadcast: true})
		} else {
			m.tell(p, bank.CloseBuilt{Sent: s, Broadcast: true})
		}
	}
	for _, t := range plan.Txs {
		if t.Again != nil {
			built(*t.Again)
			continue
		}
		s := *contract.NewSent(m.build(p, t.Fee), t.Fee, p.height)
		s.Before = t.Replaces
		built(s)
	}
	if len(plan.Left) > 0 {
		m.t.Fatalf("it is not worth its fee: %+v", p)
	}
}

// broadcast is what nodes do: a replacement pays more, also for its own size.
func (m *markets) broadcast(p *place, txid wire.Hash) {
	s := m.sent(p)
	answer := bank.Broadcasted{Txid: txid, Own: true}
	switch {
	case p.pool != nil && p.pool.Txid == txid:
	case p.pool != nil && (s.Fee < p.pool.Fee+batch.Increment.Fee(m.size(p, s)) || s.Rate() <= p.pool.Rate()):
		answer.Err, answer.TooLow = "insufficient fee", true
	default:
		p.pool = s
	}
	m.tell(p, answer)
}

func (m *markets) size(p *place, s *contract.Sent) int64 {
	return contract.VSize(contract.Weight(m.build(p, s.Fee)))
}

// explore visits all blocks that may come after a place.
func (m *markets) explore(p place) {
	state := any(p.payee)
	if m.back {
		state = p.payer
	}
	var pool wire.Hash
	if p.pool != nil {
		pool = p.pool.Txid
	}
	key := sha256.Sum256(append(encoded(m.t, state), fmt.Sprint(p.height, p.rates, p.left, p.skips, p.most, pool)...))
	if m.seen[key] {
		return
	}
	m.seen[key] = true
	if p.height >= m.from+21 { // T, or long after it
		return
	}
	now := p.rates[len(p.rates)-1]
	for _, rate := range marketRates {
		if rate != now && p.left == 0 {
			continue
		}
		next := p
		next.rates = append(slices.Clone(p.rates), rate)
		if rate != now {
			next.left--
		}
		m.block(&p, next, false)
		if next.skips > 0 && p.pool != nil && p.pool.Rate() >= rate {
			next.skips--
			m.block(&p, next, true)
		}
	}
}

// block mines the next block at the last of the rates, which may leave it out.
func (m *markets) block(was *place, p place, skip bool) {
	known, rate := was.estimate(), p.rates[len(p.rates)-1]
	p.height++
	p.rates = p.rates[1:]
	if p.most = max(p.most, p.estimate()); was.pool != nil && !skip {
		if was.pool.Rate() >= rate {
			m.ended++
			return
		}
		deadline := was.payee.Expiry - wire.Height(was.payee.Margins.Close)
		if known >= rate || !m.back && was.height >= deadline && 10*known >= rate {
			m.t.Fatalf("at %d, T is %d: %d sat/kvB are paid, the estimate is %d, and the next block takes %d: %v",
				was.height, was.payee.Expiry, was.pool.Rate(), known, rate, was.rates)
		}
	} else if m.sent(was) != nil && !skip {
		m.t.Fatalf("at %d: it is built, and no node has it", was.height)
	}
	before := m.sent(was)
	m.tell(&p, bank.Connected{Block: contract.Block{Height: p.height, FeeRate: p.estimate()}})
	s := m.sent(&p)
	if s == nil || p.pool == nil {
		m.t.Fatalf("at %d: nothing is sent", p.height)
	}
	calm := m.back || p.height <= m.member(&p).From
	size := m.size(&p, s)
	asked := p.most.Fee(size)
	if !calm {
		asked = max(asked, min(10*asked, m.member(&p).Value/2))
	}
	if s.Fee > asked+2*batch.Increment.Fee(size) {
		m.t.Fatalf("at %d: a fee of %v, with estimates of up to %d", p.height, s.Fee, p.most)
	}
	if calm && before != nil && p.estimate() == known && s.Txid != before.Txid {
		m.t.Fatalf("at %d: a fee of %v after %v, and the estimate stays", p.height, s.Fee, before.Fee)
	}
	m.explore(p)
}
