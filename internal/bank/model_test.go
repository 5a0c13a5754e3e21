package bank_test

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// TestModel explores the life of one bank of two rungs of two pennies from its
// funding's broadcast to the end: every order of everything that its two sides can
// do, over a chain that is nothing but heights and the rules of the leaves. The
// honest side is the real machine. Its user may order, close, and lose all since a
// backup, knowingly or not (a home that is put back by copy), at any step; the dishonest side may at each moment do nothing, for one
// block or for ever (stop, withhold); send any penny that there is and false ones,
// again and out of order (replay); answer anything (lie); ask for a close, sign it
// or not; and put into the next block what the leaves let it spend. Blocks come and,
// two at a time, go; an honest transaction is left out of one block in all, a close
// by both of as many as there are (pinned). Held in every state:
//
//   - MonotoneRungs: what a payee holds never gets less, and no penny that it
//     holds, or a false one, changes anything;
//   - RungLockChecked: it never counts a rung whose lock the penny does not open;
//   - CloseStopsAcceptance: no penny is taken once a close was offered, signed or
//     broadcast by any side;
//   - PayerLoss: no close takes more of the payer than the pennies that its user
//     ordered, and no more than that ever leaves; the rest is back in the end;
//   - PayeeLoss: the payee gets all that it gave credit for, less one rung, before
//     T−Close, and what its backup held where it was restored; and it never gives
//     credit for more pennies than there are;
//   - in the end both sides are done.
//
// Fees are not in this world (TestPayeeLoss, TestPayerLoss on the real chain).
//
// The short tier explores one of the twelve worlds; the full one those in which nobody
// is restored, and a sample of the others; the nightly one all.
func TestModel(t *testing.T) {
	t.Parallel()
	old := debug.SetGCPercent(800) // maps of a million states
	t.Cleanup(func() { debug.SetGCPercent(old) })
	sample := tier.NewSample(t)
	for _, c := range []config{
		{name: "both honest", reorg: true},
		{name: "both honest, the payer restored", restorePayer: true},
		{name: "both honest, the payee restored", restorePayee: true},
		{name: "bad payer", badPayer: true, reorg: true},
		{name: "bad payer, a false lock at rung 2", badPayer: true, badLock: 2},
		{name: "bad payer, a false lock at rung 1", badPayer: true, badLock: 1},
		{name: "bad payer, the payee restored", badPayer: true, restorePayee: true},
		{name: "bad payee", badPayee: true, reorg: true},
		{name: "bad payee, the payer restored", badPayee: true, restorePayer: true},
		{name: "both honest, the payer put back by copy", restorePayer: true, copied: true},
		{name: "both honest, the payee put back by copy", restorePayee: true, copied: true},
		{name: "bad payee, the payer put back by copy", badPayee: true, restorePayer: true, copied: true},
	} {
		restored := c.restorePayer || c.restorePayee
		if chosen := sample.Of(0, 3); restored && !chosen || tier.Short() && c.badLock != 2 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newModel(t, c)
			m.explore()
			t.Logf("%d states, %d endings", len(m.runs), m.ended)
		})
	}
}

type config struct {
	name                       string
	badPayer, badPayee         bool
	restorePayer, restorePayee bool
	copied                     bool // the home is put back by copy, and does not know it
	reorg                      bool
	badLock                    uint32
}

const (
	modelStart  = wire.Height(100)
	modelExpiry = modelStart + 10
	modelLast   = modelExpiry + 11
	modelBlocks = int(modelLast-modelStart) + 1
	modelSlack  = 1 // blocks from which an honest transaction is left out
	modelLost   = 2 // blocks that a backup is old at most
)

var (
	modelMargins = bank.Margins{Conf: 3, ConfLarge: 3, LargeSat: 100_000, MinLife: 1, MaxLife: 100, Stop: 5, Bump: 4, Close: 2,
		Patience: 1, Final: 3, ValidFor: 3, Again: 1, BlocksPerDay: 10}
	modelLadder = penny.Ladder{Value: 10_330, Rungs: 2, PerRung: 2}
)

const modelPennies = 4

// what a block holds of this bank.
type content uint8

const (
	nothing content = iota
	funding
	refund
	returned              // the change
	conflict              // the funding's coin, spent otherwise
	alone    content = 10 // +g: closed at rung g
	together content = 20 // +c: by both, c pennies
)

func (c content) spends() bool { return c == refund || c >= alone }

// node is a state of the world. Machines are numbers in their pools.
type node struct {
	height       uint8 // above modelStart
	payer, payee int32 // −1: dishonest
	blocks       [modelBlocks]content
	out          bool  // the funding is broadcast
	dead         bool  // its coin went elsewhere
	pool         uint8 // honest transactions that wait, a bit for each
	joint        uint8 // the closes by both that the payee can broadcast, a bit for each count
	late         uint8
	ordered      uint8 // pennies, by the payer's user
	shown        uint8 // pennies that have left
	goods        uint8 // pennies that the payee gave credit for
	asked        bool  // a dishonest payee is asked for a close
	stream       bool  // and is sent pennies, which it may acknowledge
	sync         bool  // and what it holds
	reorgs       uint8
	snap         int32 // of the side that may be restored; −1 none
	snapAt       uint8
	snapGoods    uint8 // what it held then
	restored     bool
}

const (
	poolRefund uint8 = 1 << iota
	poolChange
	poolAlone1
	poolAlone2
	poolJoint
)

// event names a bank.Event, comparably.
type event struct {
	kind   string
	a, b   int8
	height wire.Height
	block  content
}

func (e event) String() string {
	return fmt.Sprintf("%d: %s %d %d %d", e.height, e.kind, e.a, e.b, e.block)
}

type stepKey struct {
	id int32
	ev event
}

type stepped struct {
	next    int32
	effects []bank.Effect
	err     error
}

// pool numbers the states of one machine and remembers its steps.
type pool struct {
	m      *model
	states []any
	ids    map[[32]byte]int32
	steps  map[stepKey]stepped
}

func (p *pool) id(s any) int32 {
	key := sha256.Sum256(encoded(p.m.t, s))
	id, ok := p.ids[key]
	if !ok {
		id = int32(len(p.states))
		p.states, p.ids[key] = append(p.states, s), id
	}
	return id
}

func (p *pool) step(id *int32, ev event) stepped {
	key := stepKey{*id, ev}
	r, ok := p.steps[key]
	if !ok {
		made, ok := p.m.events[ev]
		if !ok {
			made = p.m.event(ev)
			p.m.events[ev] = made
		}
		s := p.states[*id]
		b, block := made.(bank.Connected)
		u, undo := made.(bank.Disconnected)
		if block && !wants(interest(s), b) || undo && interest(s).Top < u.Height {
			r = stepped{next: *id}
		} else {
			next, effects, err := step(s, made)
			r = stepped{next: *id, effects: effects, err: err}
			switch same := reflect.DeepEqual(next, s); {
			case err == nil && !same:
				r.next = p.id(next)
			case !same:
				p.m.t.Fatalf("%v refuses %v, and is changed all the same", p.m.c.name, ev)
			}
		}
		p.steps[key] = r
	}
	*id = r.next
	return r
}

type model struct {
	t      *testing.T
	c      config
	events map[event]bank.Event
	payers *pool
	payees *pool
	start  [2]int32
	paper  bank.Paper
	bank   *contract.Bank
	root   wire.Secret
	key    wire.Secret // the payee's
	at     wire.Outpoint
	funds  []byte
	script []byte
	txs    map[content]contract.Tx

	seen  map[node]bool
	runs  []reachedNode
	stack []int
	now   int
	cur   node
	deaf  map[int32]bool
	ended int
}

type reachedNode struct {
	node
	from int
	ev   event
}

func newModel(t *testing.T, c config) *model {
	m := &model{t: t, c: c, events: map[event]bank.Event{}, txs: map[content]contract.Tx{}, seen: map[node]bool{}, deaf: map[int32]bool{}}
	m.payers = &pool{m: m, ids: map[[32]byte]int32{}, steps: map[stepKey]stepped{}}
	m.payees = &pool{m: m, ids: map[[32]byte]int32{}, steps: map[stepKey]stepped{}}
	w := newWorld(t, 7)
	a, b := w.house("a"), w.house("b")
	m.root, m.key, m.script = wire.Secret(w.hash()), b.secret, a.script
	terms := bank.Terms{Peer: bank.Peer{Key: b.key}, Value: modelLadder.Value, Rungs: 2, PerRung: 2, Expiry: modelExpiry, MaxFee: 1000, Margins: modelMargins}
	p, _, err := bank.NewPayer(w.hash(), terms)
	must(t, err)
	var effects []bank.Effect
	step := func(ev bank.Event) {
		p, effects, err = p.Step(ev)
		must(t, err)
	}
	step(bank.Quoted{Height: modelStart, Payee: keyOf(t, m.key), Conf: 3})
	step(bank.CoinsLocked{Height: modelStart, Inputs: []wire.Outpoint{{Txid: w.hash()}}, Change: 5000, ChangeScript: m.script, Fee: 300, Root: m.root})
	prep := effects[0].(bank.Prepare)
	built, _, tx, _, err := bank.Build(&prep)
	must(t, err)
	if c.badLock > 0 {
		built.Locks[c.badLock-1][3] ^= 1
		bb, err := contract.NewBank(built)
		must(t, err)
		tx = bb.Funding(prep.Inputs, prep.Change, prep.ChangeScript)
	}
	m.bank, err = contract.NewBank(built)
	must(t, err)
	m.at, m.funds = wire.Outpoint{Txid: contract.Txid(tx)}, contract.EncodeTx(tx)
	sigs, err := m.bank.SignRungs(m.at, bank.PayerKey(m.root))
	must(t, err)
	m.paper = bank.Paper{Terms: built, Sigs: sigs}
	m.txs[funding] = tx
	other := m.bank.Funding(prep.Inputs, 0, nil)
	other.TxOut[0].PkScript = m.script
	m.txs[conflict] = other
	step(bank.Prepared{Funding: m.funds, At: m.at})
	y, _, err := bank.NewPayee(&wire.BankOpen{Bank: p.Bank, Terms: built, Funding: m.funds, Sigs: sigs}, m.key,
		bank.Policy{MinValue: 1, MaxRungs: 100}, modelMargins, modelStart, 1000)
	must(t, err)
	step(bank.Accepted{Height: modelStart})
	step(bank.Broadcasted{})
	m.start = [2]int32{m.payers.id(p), m.payees.id(y)}
	if c.badPayer {
		m.start[0] = -1
	}
	if c.badPayee {
		m.start[1] = -1
	}
	return m
}

// penny of a count; of a false chain where count is above what there is.
func (m *model) penny(count int) penny.Penny {
	c := bank.Pence(m.root, modelPennies)
	p := c.Forward(penny.Penny{Secret: c.P0}, uint32(modelPennies-count%10))
	if count >= 10 {
		p.Secret[2] ^= 1
	}
	return p
}

// tx is the transaction of a content.
func (m *model) tx(c content) contract.Tx {
	if tx := m.txs[c]; tx != nil {
		return tx
	}
	var tx contract.Tx
	var err error
	switch {
	case c == refund:
		tx, _, err = contract.BuildBankRefund([]contract.BankRefund{{Bank: m.bank, At: m.at, Payer: bank.PayerKey(m.root)}}, m.script, 1000, 0)
	case c >= together:
		count := uint32(c - together)
		o := bank.CloseOffered{Count: count, Payer: modelLadder.Value - modelLadder.Paid(count).Whole(), Fee: 200, Script: m.script}
		if tx, err = o.Together(m.bank, m.at); err == nil {
			m.bank.Join(tx, wire.Signature{}, wire.Signature{}) // nobody looks
		}
	case c >= alone:
		g := uint32(c - alone)
		s := m.penny(int(g) * 2).Secret
		b := *m.bank
		if m.c.badLock == g {
			m.t.Fatal("a close at the rung with the false lock")
		}
		tx, _, err = contract.BuildClose([]contract.BankClose{{Bank: &b, At: m.at, Rung: g, Sig: m.paper.Sigs[g-1], Secret: s[:wire.PennySize], Payee: m.key}}, nil, m.script, 1000, 0)
	}
	must(m.t, err)
	m.txs[c] = tx
	return tx
}

func (m *model) sent(c content, h wire.Height) contract.Sent {
	return *contract.NewSent(m.tx(c), 200, h)
}

// event makes what ev names.
func (m *model) event(ev event) bank.Event {
	switch ev.kind {
	case "block":
		b := bank.Connected{Block: contract.Block{Height: ev.height, FeeRate: 1000}}
		if ev.block == returned {
			// What closed it is in b; a names it.
			closed := m.tx(content(ev.a))
			tx := m.bank.Funding([]wire.Outpoint{{Txid: contract.Txid(closed)}}, 0, nil)
			b.Txs = append(b.Txs, tx)
		} else if ev.block != nothing {
			b.Txs = append(b.Txs, m.tx(ev.block))
		}
		return b
	case "undo":
		return bank.Disconnected{Undo: contract.Undo{Height: ev.height}}
	case "order":
		return bank.Ordered{Pennies: uint32(ev.a)}
	case "close":
		return bank.CloseWanted{}
	case "lost":
		return bank.Lost{}
	case "restored":
		return bank.Restored{Height: ev.height}
	case "streamed":
		s := bank.Streamed{Count: uint32(ev.a)}
		if ev.b != 0 {
			s.Why = "no more"
		}
		return s
	case "synced":
		return bank.Synced{Count: uint32(ev.a)}
	case "offered": // b: satoshi more or less for the payer
		return bank.CloseOffered{Count: uint32(ev.a), Payer: modelLadder.Value - modelLadder.Paid(uint32(ev.a)).Whole() + wire.Sat(ev.b), Fee: 200, Script: m.script}
	case "refused":
		return bank.CloseRefused{Why: "no"}
	case "sent":
		return bank.CloseSent{Txid: contract.Txid(m.tx(together + content(ev.a)))}
	case "refund built":
		s := m.sent(refund, 0)
		if ev.a != 0 {
			s.Tx = nil
		}
		return bank.RefundBuilt{Sent: s, Broadcast: true}
	case "paid":
		p := m.penny(int(ev.a))
		return bank.Paid{Height: ev.height, Penny: p, Locks: m.paper.Terms.Locks[ev.b:modelLadder.Rung(modelPennies-p.Seq)]}
	case "passed":
		return bank.Passed{Amount: wire.Msat(modelLadder.Paid(uint32(ev.a)) - modelLadder.Paid(uint32(ev.b)))}
	case "close asked":
		return bank.CloseAsked{Fee: 200, Script: m.script}
	case "close signed":
		return bank.CloseSigned{Sent: m.sent(together+content(ev.a), ev.height)}
	case "close built":
		return bank.CloseBuilt{Sent: m.sent(alone+content(ev.a), ev.height), Broadcast: true}
	}
	m.t.Fatalf("no event %v", ev)
	return nil
}

func (m *model) payerOf(n *node) bank.Payer { return m.payers.states[n.payer].(bank.Payer) }
func (m *model) payeeOf(n *node) bank.Payee { return m.payees.states[n.payee].(bank.Payee) }
func (n *node) tip() wire.Height            { return modelStart + wire.Height(n.height) }

// spent is how and when the bank was spent.
func (n *node) spent() (c content, at uint8) {
	for h := uint8(1); h <= n.height; h++ {
		if n.blocks[h].spends() {
			return n.blocks[h], h
		}
	}
	return nothing, 0
}

func (n *node) has(c content) bool { return slices.Contains(n.blocks[:n.height+1], c) }

// toPayer steps an honest payer and does what it wants done; false where it
// refused.
func (m *model) toPayer(n *node, ev event) bool {
	r := m.payers.step(&n.payer, ev)
	for _, e := range r.effects {
		switch e := e.(type) {
		case bank.Stream:
			p := m.payerOf(n)
			n.shown = max(n.shown, uint8(p.Target))
			if n.payee < 0 {
				n.stream = true
				continue
			}
			y := m.payeeOf(n)
			if m.c.copied && y.Count() > p.Target {
				m.toPayer(n, event{kind: "synced", a: int8(y.Count())})
				p = m.payerOf(n)
			}
			why := int8(1)
			switch taking := y.Taking() == nil; {
			case m.c.copied && y.Count() < p.Acked:
				if taking {
					m.toPayee(n, event{kind: "lost"})
				}
				m.pay(n, int8(p.Acked)) // they are the payee's own
			case taking:
				m.pay(n, int8(p.Target))
				why = 0
			}
			y = m.payeeOf(n)
			m.toPayer(n, event{kind: "streamed", a: int8(y.Count()), b: why})
		case bank.Sync:
			if n.payee < 0 {
				n.sync = true
			} else {
				y := m.payeeOf(n)
				m.toPayer(n, event{kind: "synced", a: int8(y.Count())})
			}
		case bank.AskClose:
			if n.payee < 0 {
				n.asked = true
				continue
			}
			if m.toPayee(n, event{kind: "close asked"}) {
				y := m.payeeOf(n)
				o := y.Offered()
				m.toPayer(n, event{kind: "offered", a: int8(o.Count)})
			} else {
				m.toPayer(n, event{kind: "refused"})
			}
		case bank.SignClose:
			n.joint |= 1 << e.Offer.Count
			if worth := modelLadder.Value - modelLadder.Paid(uint32(n.ordered)).Whole(); e.Offer.Payer < worth {
				m.fail(*n, ev, "PayerLoss: signs for %v, of %v that its user did not order", e.Offer.Payer, worth)
			}
			if n.payee >= 0 {
				m.toPayee(n, event{kind: "close signed", a: int8(e.Offer.Count), height: n.tip()})
			}
			m.toPayer(n, event{kind: "sent", a: int8(e.Offer.Count)})
		case bank.RefundDue:
			p := m.payerOf(n)
			if p.Spend != nil {
				n.pool |= poolChange
			} else {
				n.pool |= poolRefund
			}
			m.toPayer(n, event{kind: "refund built"})
		}
	}
	return r.err == nil
}

// pay sends an honest payee a penny; it gives credit for all that it holds.
func (m *model) pay(n *node, count int8) bool {
	y := m.payeeOf(n)
	from := int8(y.Rung())
	if int8(modelLadder.Rung(uint32(count%10))) < from {
		from = int8(modelLadder.Rung(uint32(count % 10)))
	}
	if !m.toPayee(n, event{kind: "paid", a: count, b: from, height: n.tip()}) {
		return false
	}
	y = m.payeeOf(n)
	given, _ := modelLadder.CountFor(y.Assigned)
	if c := int8(y.Count()); m.toPayee(n, event{kind: "passed", a: c, b: int8(given)}) && uint32(c) > given {
		if n.restored && m.c.restorePayee && !m.c.copied {
			m.fail(*n, event{}, "a restored payee gives credit")
		}
		if n.goods += uint8(c) - uint8(given); n.goods > n.shown {
			m.fail(*n, event{}, "PayeeLoss: credit for %d pennies, of %d", n.goods, n.shown)
		}
	}
	return true
}

// toPayee steps an honest payee and does what it wants done; false where it
// refused.
func (m *model) toPayee(n *node, ev event) bool {
	was := m.payeeOf(n)
	r := m.payees.step(&n.payee, ev)
	y := m.payeeOf(n)
	if y.Count() < was.Count() {
		m.fail(*n, ev, "MonotoneRungs: it held %d pennies, and holds %d", was.Count(), y.Count())
	}
	if y.Count() > was.Count() && (was.Offer != nil || was.Joined != nil || was.Alone != nil || was.Spend != nil) {
		m.fail(*n, ev, "CloseStopsAcceptance: it takes a penny")
	}
	if m.c.badLock > 0 && y.Rung() >= m.c.badLock {
		m.fail(*n, ev, "RungLockChecked: it counts rung %d", y.Rung())
	}
	for _, e := range r.effects {
		switch e := e.(type) {
		case bank.CloseDue:
			if y := m.payeeOf(n); y.Closable() {
				m.toPayee(n, event{kind: "close built", a: int8(y.Rung()), height: n.tip()})
			}
		case bank.Rebroadcast:
			n.out = !n.dead
		case bank.Broadcast:
			tx, err := contract.ReadTx(e.Tx)
			must(m.t, err)
			switch {
			case len(tx.TxIn[0].Witness) == 4:
				if n.pool&(poolAlone1|poolAlone2) == 0 {
					n.pool |= poolJoint
				}
			default:
				n.pool &^= poolJoint | poolAlone1 | poolAlone2
				y := m.payeeOf(n)
				n.pool |= poolAlone1 << (y.Rung() - 1)
			}
		}
	}
	return r.err == nil
}

func (m *model) explore() {
	m.visit(node{payer: m.start[0], payee: m.start[1], out: true, snap: -1}, event{})
	for len(m.stack) > 0 {
		m.now = m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		m.cur = m.runs[m.now].node
		if m.missed(&m.cur) {
			continue
		}
		if m.over(&m.cur) {
			m.ended++
			m.end(&m.cur)
			continue
		}
		m.act()
		m.mine()
		if m.c.reorg && m.cur.reorgs == 0 {
			m.undo(1)
			m.undo(2)
		}
	}
}

func (m *model) visit(n node, ev event) {
	if m.seen[n] {
		return
	}
	m.seen[n] = true
	if len(m.runs) > 1_000_000 {
		m.t.Fatalf("%s: more states than the test has time for", m.c.name)
	}
	m.runs = append(m.runs, reachedNode{n, m.now, ev})
	m.stack = append(m.stack, len(m.runs)-1)
	m.safe(&n, ev)
}

// act visits what every single action makes of cur, blocks aside.
func (m *model) act() {
	cur := m.cur
	try := func(ev event, do func(n *node) bool) {
		n := cur
		if do(&n) && n != cur {
			m.visit(n, ev)
		}
	}
	spent, _ := cur.spent()
	if cur.payer >= 0 {
		if spent == nothing {
			for k := uint8(1); k <= 2; k++ {
				if m.c.badPayee && (cur.ordered > 1 || m.c.restorePayer && cur.ordered > 0 && !cur.restored) {
					break
				}
				ev := event{kind: "order", a: int8(k)}
				try(ev, func(n *node) bool { n.ordered += k; return m.toPayer(n, ev) })
			}
			if p := m.payerOf(&cur); !p.Stopped && (cur.restored || !m.c.badPayee || !m.c.restorePayer) {
				try(event{kind: "close"}, func(n *node) bool { return m.toPayer(n, event{kind: "close"}) })
			}
		}
		if cur.payee < 0 {
			m.badPayee(try)
		}
	}
	if cur.payee >= 0 {
		if y := m.payeeOf(&cur); spent == nothing && y.Stop == bank.NotStopped && !m.c.restorePayee || y.Stop == bank.StopPayer && y.Alone == nil {
			ev := event{kind: "close", a: 1}
			try(ev, func(n *node) bool { return m.toPayee(n, event{kind: "close"}) })
		}
		m.probe()
		if cur.payer < 0 {
			for c := int8(1); c <= modelPennies; c++ {
				if m.c.restorePayee && c == 3 {
					continue // 1 is one between rungs, too
				}
				ev := event{kind: "paid", a: c}
				try(ev, func(n *node) bool { n.shown = max(n.shown, uint8(c)); return m.pay(n, c) })
			}
			ev := event{kind: "close asked"}
			try(ev, func(n *node) bool { return m.toPayee(n, ev) })
			if y := m.payeeOf(&cur); y.Offer != nil {
				ev := event{kind: "close signed", a: int8(y.Count()), height: cur.tip()}
				try(ev, func(n *node) bool { n.joint |= 1 << y.Count(); return m.toPayee(n, ev) })
			}
		}
	}
	m.backup(try)
}

// badPayee does what it likes with an honest payer.
func (m *model) badPayee(try func(event, func(n *node) bool)) {
	cur := m.cur
	to := func(ev event, do func(n *node)) {
		try(ev, func(n *node) bool { do(n); return m.toPayer(n, ev) })
	}
	for c := int8(0); c <= int8(cur.shown); c++ {
		if cur.stream && c == int8(cur.shown) { // less says nothing
			to(event{kind: "streamed", a: c}, func(n *node) { n.stream = false })
			to(event{kind: "streamed", a: c, b: 1}, func(n *node) { n.stream = false })
		}
		if cur.sync {
			to(event{kind: "synced", a: c}, func(n *node) { n.sync = false })
		}
		if cur.asked {
			to(event{kind: "offered", a: c}, func(n *node) { n.asked = false })
			n := cur // one that takes a satoshi too many is not signed
			if m.toPayer(&n, event{kind: "offered", a: c, b: -1}); n.joint != cur.joint {
				m.fail(n, event{}, "PayerLoss: it signs for a satoshi less")
			}
		}
	}
	if cur.asked {
		to(event{kind: "refused"}, func(n *node) { n.asked = false })
	}
}

// probe asks an honest payee, once a state, for all that it must refuse.
func (m *model) probe() {
	if m.deaf[m.cur.payee] {
		return
	}
	m.deaf[m.cur.payee] = true
	y := m.payeeOf(&m.cur)
	closing := y.Offer != nil || y.Joined != nil || y.Alone != nil || y.Spend != nil || y.Stop != bank.NotStopped && y.Stop != bank.StopRestored
	for c := int8(0); c <= modelPennies; c++ {
		for _, count := range []int8{c, c + 10} {
			if count < 10 && uint32(c) > y.Count() && !closing {
				continue // a right one
			}
			n := m.cur
			if m.pay(&n, count) || n != m.cur {
				m.fail(n, event{kind: "paid", a: count}, "it takes what it must refuse, holding %d", y.Count())
			}
		}
	}
}

// backup takes a snapshot of the side that may be restored, and restores it.
func (m *model) backup(try func(event, func(n *node) bool)) {
	cur := m.cur
	if !m.c.restorePayer && !m.c.restorePayee || cur.restored {
		return
	}
	side := func(n *node) *int32 {
		if m.c.restorePayer {
			return &n.payer
		}
		return &n.payee
	}
	if cur.snap < 0 {
		if cur.height != 3 && (cur.height != 5 || m.c.badPayer || m.c.badPayee) {
			return // just open, or near the end
		}
		try(event{kind: "backup"}, func(n *node) bool {
			n.snap, n.snapAt = *side(n), n.height
			if m.c.restorePayee {
				y := m.payeeOf(n)
				n.snapGoods = uint8(y.Count())
			}
			return true
		})
		return
	}
	if *side(&cur) == cur.snap || cur.height > cur.snapAt+modelLost || m.c.badPayee && cur.height != cur.snapAt+1 {
		return
	}
	ev := event{kind: "restored", height: cur.tip()}
	try(ev, func(n *node) bool {
		*side(n), n.restored = n.snap, true
		n.pool &^= poolJoint // it is in no state any more, though it may be in a mempool
		switch {
		case m.c.copied:
		case m.c.restorePayer:
			m.toPayer(n, ev)
		default:
			m.payees.step(&n.payee, ev)
		}
		for h := n.snapAt + 1; h <= n.height; h++ {
			b := m.blockEvent(n, h)
			if m.c.restorePayer {
				m.toPayer(n, b)
			} else {
				m.toPayee(n, b)
			}
		}
		return true
	})
}

func (m *model) blockEvent(n *node, h uint8) event {
	ev := event{kind: "block", height: modelStart + wire.Height(h), block: n.blocks[h]}
	if ev.block == returned {
		c, _ := n.spent()
		ev.a = int8(c)
	}
	return ev
}

// mine visits every next block.
func (m *model) mine() {
	n := &m.cur
	spent, _ := n.spent()
	list := []content{nothing}
	switch {
	case n.dead:
	case !n.has(funding):
		if n.out {
			list = append(list, funding)
		}
		if n.payer < 0 {
			list = append(list, conflict)
		}
	case spent == nothing:
		late := n.tip()+1 > modelExpiry
		if late && (n.payer < 0 || n.pool&poolRefund != 0) {
			list = append(list, refund)
		}
		for g := uint8(1); g <= 2; g++ {
			if n.payee < 0 && n.shown >= 2*g || n.payee >= 0 && n.pool&(poolAlone1<<(g-1)) != 0 {
				list = append(list, alone+content(g))
			}
		}
		for c := range uint8(modelPennies + 1) {
			if n.joint&(1<<c) != 0 && (n.payee < 0 || n.pool&poolJoint != 0 || n.restored && m.c.restorePayee) {
				list = append(list, together+content(c))
			}
		}
	case spent != refund && !n.has(returned) && n.pool&poolChange != 0:
		list = append(list, returned)
	}
	for _, c := range list {
		m.connect(c)
	}
}

func (m *model) connect(c content) {
	n := m.cur
	honest := n.pool &^ poolJoint
	if n.out && n.payer >= 0 && !n.has(funding) && c == nothing || c == nothing && honest != 0 {
		if n.late++; n.late > modelSlack || m.c.badPayee && m.c.restorePayer || m.c.badPayer && m.c.restorePayee {
			return
		}
	}
	n.height++
	n.blocks[n.height] = c
	if c == conflict {
		n.dead, n.out = true, false
	}
	switch {
	case c.spends():
		n.pool = 0
	case c == returned:
		n.pool &^= poolChange
	}
	m.tell(n, m.blockEvent(&n, n.height))
}

// tell tells both sides of a block, in either order.
func (m *model) tell(n node, ev event) {
	for _, first := range []bool{true, false} {
		n := n
		if first && n.payer >= 0 {
			m.toPayer(&n, ev)
		}
		if n.payee >= 0 {
			m.toPayee(&n, ev)
		}
		if !first && n.payer >= 0 {
			m.toPayer(&n, ev)
		}
		m.visit(n, ev)
		if n.payer < 0 || n.payee < 0 {
			return
		}
	}
}

// undo takes blocks back. What was in them may come again.
func (m *model) undo(depth uint8) {
	n := m.cur
	if n.height < depth {
		return
	}
	n.reorgs++
	var gone []content
	for range depth {
		ev := event{kind: "undo", height: n.tip()}
		gone = append(gone, n.blocks[n.height])
		n.blocks[n.height] = nothing
		n.height--
		if n.payer >= 0 {
			m.toPayer(&n, ev)
		}
		if n.payee >= 0 {
			m.toPayee(&n, ev)
		}
	}
	for _, c := range gone {
		switch {
		case c == funding:
			n.out = true
		case c == conflict:
			n.dead, n.out = false, true
		case c >= together && n.payee >= 0:
			n.pool |= poolJoint
		case c >= alone && n.payee >= 0 && c < together:
			n.pool |= poolAlone1 << (c - alone - 1)
		case c == refund && n.payer >= 0:
			n.pool |= poolRefund
		}
		if c.spends() {
			n.pool &^= poolChange
		}
	}
	m.visit(n, event{kind: "reorg", a: int8(depth), height: n.tip()})
}

// safe checks what holds at every moment.
func (m *model) safe(n *node, ev event) {
	if n.payer >= 0 {
		if n.shown > n.ordered {
			m.fail(*n, ev, "PayerLoss: %d pennies have left, %d were ordered", n.shown, n.ordered)
		}
	}
	spent, _ := n.spent()
	if n.payee >= 0 && n.reorgs == 0 && !n.restored && n.goods >= 2 && n.tip() >= modelExpiry-wire.Height(modelMargins.Close) && spent == nothing {
		m.fail(*n, ev, "PayeeLoss: %d pennies of credit, and no close at T−Close", n.goods)
	}
}

// missed reports whether a run in which somebody is to be restored is past the
// moment for it: others show how it goes on.
func (m *model) missed(n *node) bool {
	if n.restored || !m.c.restorePayer && !m.c.restorePayee {
		return false
	}
	return n.snap < 0 && n.height > 5 || n.snap >= 0 && n.height > n.snapAt+modelLost
}

// over reports whether nothing changes hands any more.
func (m *model) over(n *node) bool { return int(n.height) == modelBlocks-1 }

// end holds an ending against what either side may lose.
func (m *model) end(n *node) {
	spent, at := n.spent()
	funded := n.has(funding)
	if n.payer >= 0 {
		switch {
		case !funded:
		case spent == nothing:
			m.fail(*n, event{}, "PayerLoss: the bank is never spent")
		case spent != refund && !n.has(returned):
			m.fail(*n, event{}, "PayerLoss: the change is not back")
		}
		if g := uint8(spent - alone); spent >= alone && spent < together && 2*g > n.shown {
			m.fail(*n, event{}, "PayerLoss: closed at rung %d with %d pennies", g, n.shown)
		}
		if p := m.payerOf(n); funded && !p.Interest().Done {
			m.fail(*n, event{}, "the payer is not done: %s", p.State())
		}
	}
	if n.payee >= 0 {
		got := uint8(0)
		switch {
		case spent >= together:
			got = uint8(spent - together)
		case spent >= alone:
			got = 2 * uint8(spent-alone)
		}
		goods := n.goods
		if n.restored && m.c.restorePayee {
			goods = min(goods, n.snapGoods)
		}
		if got/2 < goods/2 || spent >= together && got < goods {
			m.fail(*n, event{}, "PayeeLoss: %d pennies of credit, paid for %d", goods, got)
		}
		buried := spent != nothing && uint32(n.height-at)+1 >= modelMargins.Deep() || spent == nothing && n.pool == 0
		if y := m.payeeOf(n); buried && !y.Interest().Done {
			m.fail(*n, event{}, "the payee is not done: %s", y.State())
		}
	}
}

// fail reports a broken bound with the run that leads to it.
func (m *model) fail(n node, ev event, format string, a ...any) {
	m.t.Helper()
	run := []string{ev.String()}
	for r := m.runs[m.now]; ; r = m.runs[r.from] {
		run = append(run, r.ev.String())
		if r.ev == (event{}) {
			break
		}
	}
	slices.Reverse(run)
	m.t.Fatalf("%s: %s\n%+v\n%s", m.c.name, fmt.Sprintf(format, a...), n, strings.Join(run, "\n"))
}
