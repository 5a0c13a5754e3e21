package bank_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// TestOpensThatRace explores the opening of a bank in every order: each effect of
// the honest payer is carried out now, later, or twice, because its first answer is
// lost; the payee refuses, and forgets what is not funded; the user cancels, before
// the funding is sent or after; another payer offers a bank with the same id and
// funds it; the funding, what takes its coin back, and the other's funding confirm
// in any block, also after the offer has ended, or never. Held in every state:
//
//   - the payee counts only confirmed banks as open, and the two sides of a bank
//     whose id the other payer has are not the same;
//   - while the payee was not asked for the room, a bank that is open to its payer is
//     open to its payee: nothing is ordered that will be refused, and the money does
//     not wait for T;
//   - coins are unlocked only if the funding was never sent, or cannot confirm;
//   - a payer whose funding is confirmed has not given up, and takes it back from T on.
func TestOpensThatRace(t *testing.T) {
	t.Parallel()
	m := newOpens(t, tier.Pick(3, 5, 8))
	m.explore(opening{payer: m.start, pending: m.effects, room: true})
	t.Logf("%d states, %d endings", len(m.seen), m.ended)
	for _, what := range []string{"open", "late and open", "failed", "cancelled", "withdrawn", "rival open"} {
		if m.covered[what] == 0 && !tier.Short() {
			t.Errorf("not covered: %s", what)
		}
	}
}

// opening is a state of it.
type opening struct {
	payer   bank.Payer
	payee   *bank.Payee // nil if the payee has no bank with this id
	pending []bank.Effect
	height  wire.Height // above modelStart
	at      wire.Height // of the block with the funding, or 0
	spoilt  wire.Height // of the block with the transaction that takes the coin back, or 0
	other   wire.Height // of the block with the rival's funding, or 0
	sent    bool        // the funding is with the network
	back    bool        // so is what takes its coin back
	freed   bool        // the coins are unlocked
	room    bool        // the payee was not asked for its room
	users   int         // what the user and others have done
}

type opens struct {
	t       *testing.T
	start   bank.Payer
	effects []bank.Effect
	margins bank.Margins
	key     wire.Secret // the payee's
	root    wire.Secret
	coin    wire.Outpoint
	script  []byte
	own     *wire.BankOpen // once it is prepared
	funding contract.Tx
	spoiler contract.Tx // takes the coin back
	rival   *wire.BankOpen
	rivalTx contract.Tx
	last    wire.Height // up to which it may confirm
	seen    map[[32]byte]bool
	covered map[string]int
	ended   int
	run     []string
}

func newOpens(t *testing.T, blocks int) *opens {
	m := &opens{t: t, margins: modelMargins, last: wire.Height(blocks), seen: map[[32]byte]bool{}, covered: map[string]int{}}
	m.margins.BlocksPerDay = 1
	w := newWorld(t, 11)
	a, b := w.house("a"), w.house("b")
	m.key, m.root, m.coin = b.secret, wire.Secret(w.hash()), wire.Outpoint{Txid: w.hash()}
	id, expiry := w.hash(), modelStart+wire.Height(blocks)+wire.Height(m.margins.Stop)+2
	var err error
	m.start, m.effects, err = bank.NewPayer(id, bank.Terms{Peer: bank.Peer{Key: b.key}, Value: modelLadder.Value, Rungs: 2, PerRung: 2, Expiry: expiry, MaxFee: 1000, Margins: m.margins})
	must(t, err)
	m.script = a.script
	m.spoiler = btcwire.NewMsgTx(contract.TxVersion)
	m.spoiler.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(m.coin)})
	m.spoiler.AddTxOut(btcwire.NewTxOut(5000, a.script))
	prep := bank.Prepare{Root: wire.Secret(w.hash()), Payee: keyOf(t, m.key), Expiry: expiry, Ladder: modelLadder, Inputs: []wire.Outpoint{{Txid: w.hash()}}}
	terms, built, tx, _, err := bank.Build(&prep)
	must(t, err)
	m.rival = m.offer(id, terms, built, tx, prep.Root)
	m.rivalTx = tx
	return m
}

func (m *opens) offer(id bank.ID, terms wire.BankTerms, built *contract.Bank, tx contract.Tx, root wire.Secret) *wire.BankOpen {
	sigs, err := built.SignRungs(wire.Outpoint{Txid: contract.Txid(tx)}, bank.PayerKey(root))
	must(m.t, err)
	return &wire.BankOpen{Bank: id, Terms: terms, Funding: contract.EncodeTx(tx), Sigs: sigs}
}

func (m *opens) fail(format string, a ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\n%s", fmt.Sprintf(format, a...), strings.Join(m.run, "\n"))
}

func (o *opening) tip() wire.Height { return modelStart + o.height }

// deep reports whether what confirmed at a height has n confirmations.
func (o *opening) deep(at wire.Height, n uint32) bool {
	return at > 0 && o.height+1 >= at+wire.Height(n)
}

// ours reports whether the payee's bank is the honest payer's.
func (o *opening) ours() bool { return o.payee != nil && o.payee.At == o.payer.At }

// tell steps the payer, and carries out what needs only its home.
func (m *opens) tell(o *opening, ev bank.Event) error {
	next, effects, err := o.payer.Step(ev)
	if err != nil {
		return err
	}
	o.payer = next
	for _, e := range effects {
		switch e.(type) {
		case bank.LockCoins:
			if err := m.tell(o, bank.CoinsLocked{Height: o.tip(), Inputs: []wire.Outpoint{m.coin}, Change: 5000, ChangeScript: m.script, Fee: 300, Root: m.root}); err != nil {
				return err
			}
		case bank.UnlockCoins:
			o.freed = true
		case bank.DropPaper, bank.Prune, bank.RefundDue:
		default:
			o.pending = append(slices.Clone(o.pending), e)
		}
	}
	return nil
}

// toPayee steps the payee.
func (m *opens) toPayee(o *opening, ev bank.Event) {
	next, _, err := o.payee.Step(ev)
	must(m.t, err)
	if o.payee = &next; next.Interest().Forget {
		o.payee = nil
	}
}

// open is the payee's answer to an offer.
func (m *opens) open(o *opening, offer *wire.BankOpen) error {
	if y := o.payee; y != nil {
		tx, err := contract.DecodeTx(offer.Funding)
		must(m.t, err)
		if y.At.Txid != contract.Txid(tx) {
			return wire.Refuse(wire.BadRequest, "another bank has this id")
		}
		return nil
	}
	y, _, err := bank.NewPayee(offer, m.key, bank.Policy{MinValue: 1, MaxRungs: 100}, m.margins, o.tip(), 1000)
	if err == nil {
		o.payee = &y
	}
	return err
}

// do carries an effect out, and returns all answers that it may have.
func (m *opens) do(o *opening, e bank.Effect) (answers []bank.Event) {
	switch e := e.(type) {
	case bank.AskTerms:
		return []bank.Event{bank.Quoted{Height: o.tip(), Payee: keyOf(m.t, m.key), Conf: 3}, bank.NotQuoted{Why: "no"}}
	case bank.Prepare:
		if m.own == nil {
			terms, built, tx, _, err := bank.Build(&e)
			must(m.t, err)
			m.funding, m.own = tx, m.offer(m.start.Bank, terms, built, tx, e.Root)
		}
		return []bank.Event{bank.Prepared{Funding: m.own.Funding, At: wire.Outpoint{Txid: contract.Txid(m.funding)}}}
	case bank.Offer:
		if err := m.open(o, m.own); err != nil {
			return []bank.Event{bank.NotAccepted{Why: err.Error()}}
		}
		return []bank.Event{bank.Accepted{Height: o.tip()}}
	case bank.Publish:
		if !o.sent && o.tip() > e.Until {
			return []bank.Event{bank.Broadcasted{Err: "too late"}}
		}
		o.sent = true
		return []bank.Event{bank.Broadcasted{}}
	}
	m.fail("no way to carry out %T", e)
	return nil
}

func (m *opens) explore(o opening) {
	raw := append(encoded(m.t, o.payer), fmt.Sprint(o.height, o.at, o.spoilt, o.other, o.sent, o.back, o.freed, o.room, o.users, o.payee != nil)...)
	for _, e := range o.pending {
		raw = fmt.Appendf(raw, "%T", e)
	}
	if o.payee != nil {
		raw = append(raw, encoded(m.t, *o.payee)...)
	}
	key := sha256.Sum256(raw)
	if m.seen[key] {
		return
	}
	m.seen[key] = true
	m.safe(&o)
	if o.tip() > o.payer.Expiry+2 {
		m.ended++
		m.end(&o)
		return
	}
	try := func(what string, do func(o *opening) bool) {
		next := o
		m.run = append(m.run, fmt.Sprintf("%d: %s", o.height, what))
		if do(&next) {
			m.explore(next)
		}
		m.run = m.run[:len(m.run)-1]
	}
	if o.height <= m.last {
		m.act(&o, try)
	}
	for what, tx := range map[string]contract.Tx{"nothing": nil, "the funding": m.funding, "the coin comes back": m.spoiler, "the rival's funding": m.rivalTx} {
		spent := o.at > 0 || o.spoilt > 0
		switch {
		case what == "nothing":
		case o.height >= m.last,
			what == "the funding" && (!o.sent || spent),
			what == "the coin comes back" && (!o.back || spent),
			what == "the rival's funding" && (o.other > 0 || o.payee == nil || o.ours()):
			continue
		}
		try("a block: "+what, func(o *opening) bool {
			o.height++
			b := contract.Block{Height: o.tip(), FeeRate: 1000}
			switch what {
			case "the funding":
				o.at = o.height
			case "the coin comes back":
				o.spoilt = o.height
			case "the rival's funding":
				o.other = o.height
			}
			if tx != nil {
				b.Txs = append(b.Txs, tx)
			}
			if ev := (bank.Connected{Block: b}); wants(o.payer.Interest(), ev) {
				must(m.t, m.tell(o, ev))
			}
			if ev := (bank.Connected{Block: b}); o.payee != nil && wants(o.payee.Interest(), ev) {
				m.toPayee(o, ev)
			}
			return true
		})
	}
}

// act tries everything that may happen between two blocks.
func (m *opens) act(o *opening, try func(string, func(*opening) bool)) {
	for i, e := range o.pending {
		for n := range m.do(ptr(*o), e) {
			try(fmt.Sprintf("%T, answer %d", e, n), func(o *opening) bool {
				answer := m.do(o, e)[n]
				o.pending = slices.Delete(slices.Clone(o.pending), i, i+1)
				must(m.t, m.tell(o, answer))
				return true
			})
		}
		try(fmt.Sprintf("%T, and its answer is lost", e), func(o *opening) bool { m.do(o, e); return true })
	}
	const most = 2
	if o.users == most {
		return
	}
	try("the user cancels", func(o *opening) bool { o.users++; return m.tell(o, bank.Cancelled{}) == nil })
	if p := &o.payer; p.Phase == bank.PayerPublished && p.Confirmed == nil && !o.back {
		try("the user takes the coins back", func(o *opening) bool {
			o.users++
			o.back = true
			return m.tell(o, bank.Withdrawn{}) == nil
		})
	}
	if o.payee != nil && !o.payee.Funded {
		try("the payee needs the room", func(o *opening) bool {
			o.users++
			o.room = false
			m.toPayee(o, bank.Evicted{})
			return true
		})
	}
	try("the rival offers", func(o *opening) bool { o.users++; return m.open(o, m.rival) == nil })
}

func ptr[T any](v T) *T { return &v }

// safe checks what holds at every moment.
func (m *opens) safe(o *opening) {
	p, y := &o.payer, o.payee
	open := p.Spendable() == nil
	if y != nil && y.Taking() == nil {
		at := o.other
		if o.ours() {
			at = o.at
		} else {
			m.covered["rival open"]++
		}
		if !o.deep(at, m.margins.Conf) {
			m.fail("the payee's bank is open, and not confirmed")
		}
	}
	if open {
		m.covered["open"]++
		if o.at > wire.Height(m.margins.ValidFor) {
			m.covered["late and open"]++
		}
		if o.room && (!o.ours() || y.Taking() != nil) {
			m.fail("the bank is open to its payer, and not to its payee: %+v", y)
		}
	}
	if o.freed && o.sent && !o.deep(o.spoilt, m.margins.Final) {
		m.fail("the coins of a funding that may confirm are unlocked")
	}
	if o.at > 0 && p.Phase == bank.PayerFailed {
		m.fail("the funding is confirmed, and the payer has given up")
	}
	if o.at > 0 && o.tip() >= p.Expiry && !p.Ready() {
		m.fail("nothing is taken back at %d, T is %d", o.tip(), p.Expiry)
	}
}

// end checks an ending.
func (m *opens) end(o *opening) {
	p := &o.payer
	if p.Phase != bank.PayerFailed {
		return
	}
	m.covered["failed"]++
	if p.FailedBy == "cancelled" {
		m.covered["cancelled"]++
		if p.Withdrawn {
			m.covered["withdrawn"]++
		}
	}
	if p.Root != (wire.Secret{}) && !o.freed {
		m.fail("it was given up, and its coins are locked")
	}
}
