package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/books"
	"github.com/bitgram/bitgram/internal/testing/ledger"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// market is one buyer and its candidates over a chain in memory: real machines of the
// buyer, of both sides of every bank, and of every side of the close. What the nodes
// agree on is made up: certificates with real signatures, and pennies for them.
type market struct {
	t       testing.TB
	rng     *rand.Rand
	chain   blockchain
	margins bank.Margins
	rate    wire.SatPerKVB
	miner   []byte
	shops   []*shop // the buyer, then the candidates
	letters []letter
	lose    int // percent of letters
	order   Order
	id      wire.Hash
	cert    *Certificate
	certs   map[uint32]*Certificate
	roots   map[[2]uint32]wire.Hash // by bank and first: the window as holders have it
	lies    uint32                  // epoch that is certified with a false state
	refuse  func(tx *btcwire.MsgTx) bool
	poured  wire.Sat
	told    []Verdict
	strike  *strike
	log     []string
	checked int
	all     bool // the standby works too
	undo    bool // every block is undone and told again
	undone  int
}

// blockchain is what a market needs of a chain.
type blockchain interface {
	Tip(context.Context) (chain.BlockRef, error)
	HashAt(context.Context, wire.Height) (chainhash.Hash, error)
	Block(context.Context, chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error)
	Broadcast(context.Context, *btcwire.MsgTx) error
	Mine(ctx context.Context, n int, script []byte) ([]chain.BlockRef, error)
	Reorg(ctx context.Context, depth int, script []byte, without ...wire.Hash) error
	Faucet(context.Context, []byte, wire.Sat) (wire.Outpoint, error)
}

// strike says at which chore its shop goes down, before it or after it.
type strike struct {
	at    int
	after bool
	down  wire.Height
	list  []string
	who   *shop
	back  wire.Height
}

// place names a machine.
type place struct {
	kind string
	id   wire.Hash
}

type chore struct {
	place
	e any
}

type letter struct {
	from, to uint8
	msg      FinalMessage
}

// shop is one home.
type shop struct {
	*market
	n       int // 0 is the buyer's
	secret  wire.Secret
	key     wire.Key
	script  []byte
	states  map[place]any
	order   []place
	papers  map[place]bank.Paper
	funds   map[place][]byte
	chores  []chore
	told    []chainhash.Hash
	coins   []*purseCoin
	windows map[uint8]uint32 // by bank: shares stored up to this penny

	dead      bool
	away      bool
	asks      func() error // what it says to a request for terms
	takes     func() error // and to an offer
	noFinal   bool         // answers nothing in a close
	spoils    bool         // gives false signatures in a close
	wants     uint32       // offers this many pennies more than it has
	silent    bool         // signs, and never tells the others
	forgetful bool         // the bank does not stop: it goes on to take pennies
	job       *taken
}

// taken is the job as a node has it.
type taken struct {
	terms Terms
	party uint8
	bank  wire.Hash
	banks []wire.BankTerms
}

type purseCoin struct {
	at     wire.Outpoint
	value  wire.Sat
	locked bool
	used   bool
}

func quickMargins() bank.Margins {
	m := bank.MarginsFor(wire.Regtest)
	m.MinLife, m.Stop, m.Bump, m.Close, m.Patience, m.Final, m.ValidFor, m.Again = 30, 20, 14, 6, 8, 3, 12, 6
	return m
}

const marketLife = 60

func newMarket(t testing.TB, seed uint64, epochs, window uint32, candidates int) *market {
	return newMarketOn(t, ledger.New(), seed, epochs, window, candidates)
}

func newMarketOn(t testing.TB, c blockchain, seed uint64, epochs, window uint32, candidates int) *market {
	m := &market{t: t, rng: rand.New(rand.NewPCG(seed, 20)), chain: c, margins: quickMargins(), rate: 1000, certs: map[uint32]*Certificate{},
		roots: map[[2]uint32]wire.Hash{}, miner: []byte{txscript.OP_1, 32, 31: 0, 33: 7}}
	for i := range candidates + 1 {
		s := &shop{market: m, n: i, secret: secretOf("market %d shop %d", seed, i), states: map[place]any{}, papers: map[place]bank.Paper{}, funds: map[place][]byte{}, windows: map[uint8]uint32{}}
		s.key = keyOf(t, s.secret)
		k, err := s.secret.PrivKey()
		must(t, err)
		s.script, err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(k.PubKey()))
		must(t, err)
		m.shops = append(m.shops, s)
	}
	m.buyer().pour(400_000)
	m.settle()
	tip := m.tip()
	m.id = wire.Hash(secretOf("market %d job", seed))
	m.order = Order{File: wire.Hash(secretOf("market job file")), N: 4, Q: 3, T: 2, Standbys: 1, Ahead: 2, Patience: 2, Epochs: epochs, Window: window,
		Expiry: tip + marketLife, Stop: tip + marketLife - wire.Height(m.margins.Stop) - 6, MaxFee: 5_000, Sample: 2,
		Margins: BuyerMargins{Final: m.margins.Final, Deep: m.margins.Deep(), ValidFor: m.margins.ValidFor}}
	for _, s := range m.shops[1:] {
		m.order.Candidates = append(m.order.Candidates, Candidate{Peer: wire.Peer{Key: s.key}, Value: 20_000})
	}
	return m
}

func (m *market) buyer() *shop { return m.shops[0] }

func (m *market) note(format string, a ...any) { m.log = append(m.log, fmt.Sprintf(format, a...)) }

func (m *market) tip() wire.Height {
	ref, err := m.chain.Tip(m.t.Context())
	must(m.t, err)
	return ref.Height
}

func (m *market) hashAt(h wire.Height) chainhash.Hash {
	x, err := m.chain.HashAt(m.t.Context(), h)
	must(m.t, err)
	return x
}

func (m *market) block(h wire.Height) *btcwire.MsgBlock {
	b, _, err := m.chain.Block(m.t.Context(), m.hashAt(h))
	must(m.t, err)
	return b
}

func (s *shop) pour(value wire.Sat) {
	at, err := s.chain.Faucet(s.t.Context(), s.script, value)
	must(s.t, err)
	s.coins = append(s.coins, &purseCoin{at: at, value: value})
	s.poured += value
}

func (m *market) mine(n int) {
	for range n {
		_, err := m.chain.Mine(m.t.Context(), 1, m.miner)
		must(m.t, err)
		m.settle()
	}
}

func (m *market) reorg(depth int, without ...wire.Hash) {
	must(m.t, m.chain.Reorg(m.t.Context(), depth, m.miner, without...))
	m.settle()
}

// start orders the job.
func (m *market) start() {
	b := m.buyer()
	s, effects, err := NewBuyer(m.id, m.order, b.jobKey("job-buyer"), b.jobKey("job-deal"))
	must(m.t, err)
	b.create(place{KindBuyer, m.id}, s, anys(effects))
	m.settle()
}

func (s *shop) jobKey(tag string) wire.Secret {
	return wire.Secret(wire.Tagged(tag, s.secret[:], s.id[:]))
}

// job is the buyer's state.
func (m *market) job() Buyer { return m.buyer().states[place{KindBuyer, m.id}].(Buyer) }

func anys[T any](list []T) (all []any) {
	for _, e := range list {
		all = append(all, e)
	}
	return all
}

func (s *shop) create(r place, state any, effects []any) {
	if _, ok := s.states[r]; ok {
		s.t.Fatalf("%v exists", r)
	}
	s.order = append(s.order, r)
	s.keep(r, state)
	s.carry(r, effects)
}

// keep stores a state as the engine does.
func (s *shop) keep(r place, state any) {
	raw, err := wire.Marshal(state)
	must(s.t, err)
	p := reflect.New(reflect.TypeOf(state))
	must(s.t, wire.Unmarshal(raw, p.Interface()))
	if again, err := wire.Marshal(p.Interface()); err != nil || string(again) != string(raw) {
		s.t.Fatalf("%v is read back as another: %v", r, err)
	}
	s.states[r] = p.Elem().Interface()
	if b, ok := state.(Buyer); ok {
		s.bound(&b)
	}
}

// bound checks CoalitionBound: of no bank is more dealt than two windows beyond the
// counter that the buyer has inspected.
func (m *market) bound(b *Buyer) {
	body := b.Terms.before(b.Checked)
	for i, d := range b.Dealt {
		most := body.Paid[i] + 2*b.Terms.Window
		if !slices.Contains(body.Next, uint8(i)) {
			most = body.Paid[i] + 3*b.Terms.Window/2
		}
		if body.Epoch == 0 && i >= int(b.Terms.N) {
			most = b.Terms.Window
		}
		if d > most {
			m.t.Fatalf("CoalitionBound: %d pennies of party %d are dealt, %d are inspected", d, i, body.Paid[i])
		}
	}
	if b.Phase == BuyerPublished {
		m.checked++
	}
}

// tell gives a machine an event.
func (s *shop) tell(r place, ev any) error {
	var next any
	var effects []any
	switch x := s.states[r].(type) {
	case Buyer:
		n, e, err := x.Step(ev.(BuyerEvent))
		if err != nil {
			return err
		}
		next, effects = n, anys(e)
	case Closing:
		n, e, err := x.Step(ev.(CloseEvent))
		if err != nil {
			return err
		}
		next, effects = n, anys(e)
	case bank.Payer:
		n, e, err := x.Step(ev.(bank.Event))
		if err != nil {
			return err
		}
		next, effects = n, anys(e)
	case bank.Payee:
		n, e, err := x.Step(ev.(bank.Event))
		if err != nil {
			return err
		}
		next, effects = n, anys(e)
	default:
		return fmt.Errorf("no machine %v", r)
	}
	s.keep(r, next)
	s.carry(r, effects)
	return nil
}

func (s *shop) must(r place, ev any) {
	s.t.Helper()
	if err := s.tell(r, ev); err != nil {
		s.t.Fatalf("shop %d, %v: %T: %v\n%s", s.n, r.kind, ev, err, strings.Join(s.log, "\n"))
	}
}

// stored passes an effect through the store.
func stored[E any](t testing.TB, c contract.Effects[E], e E) E {
	name, body, err := c.Encode(e)
	must(t, err)
	back, err := c.Decode(name, body)
	must(t, err)
	return back
}

// carry carries out what happens in the transaction of a step, and keeps the rest.
func (s *shop) carry(r place, effects []any) {
	for _, e := range effects {
		switch x := e.(type) {
		case BuyerEffect:
			e = stored(s.t, BuyerEffects, x)
		case CloseEffect:
			e = stored(s.t, CloseEffects, x)
		case bank.Effect:
			e = stored(s.t, bank.Effects, x)
		}
		switch x := e.(type) {
		case LockCoins:
			s.must(r, s.lockCoins(x))
		case UnlockCoins:
			for _, c := range s.coins {
				c.locked = false
			}
		case KeepCert:
		case StopBank:
			c := s.states[r].(Closing)
			y := place{bank.KindPayee, s.job.bank}
			if !s.forgetful {
				s.must(y, bank.Leaving{})
			}
			s.must(r, s.stopped(&c, s.states[y].(bank.Payee)))
		case SendFinal:
			s.send(s.states[r].(Closing).Me, x)
		case bank.KeepPaper:
			s.papers[r] = x.Paper
		case bank.KeepFunding:
			s.funds[r] = x.Tx
		case bank.UnlockCoins, bank.DropPaper, bank.Prune:
		default:
			s.chores = append(s.chores, chore{r, e})
		}
	}
}

// stopped is what a stopped bank holds.
func (s *shop) stopped(c *Closing, y bank.Payee) (ev Stopped) {
	if ev.Held = y.Count(); ev.Held == 0 {
		return ev
	}
	copy(ev.Secret[:], y.Known.Secret[:])
	if g := y.Rung(); g > 0 {
		copy(ev.Rung[:], y.Secret(g))
		ev.Sig = s.papers[place{bank.KindPayee, y.Bank}].Sigs[g-1]
	}
	return ev
}

func (s *shop) lockCoins(e LockCoins) BuyerEvent {
	fee := s.rate.Fee(contract.VSize(contract.BanksFundingWeight(1, int(e.Banks), true)))
	ev := NoCoins{Need: e.Amount + fee}
	for _, c := range s.coins {
		switch {
		case c.used || c.value < e.Amount+fee:
		case c.locked:
			ev.Soon += c.value
		default:
			c.locked = true
			return CoinsLocked{Inputs: []wire.Outpoint{c.at}, Change: c.value - e.Amount - fee, ChangeScript: s.script, Fee: fee}
		}
	}
	return ev
}

// up reports whether a home answers.
func (s *shop) up() bool { return !s.dead && !s.away }

// settle tells everybody of the chain, and works until nothing happens any more.
func (m *market) settle() {
	for _, s := range m.shops {
		s.follow()
	}
	for range 400 {
		m.revive()
		busy := m.deliver()
		for _, s := range m.shops {
			busy = s.work() || busy
		}
		if !busy {
			return
		}
	}
	m.t.Fatal("chores without end:\n" + strings.Join(m.log, "\n"))
}

func (m *market) revive() {
	if k := m.strike; k != nil && k.who != nil && m.tip() >= k.back {
		k.who.away = false
		k.who.follow()
		k.who = nil
	}
}

// tick tells every close that some time has passed.
func (m *market) tick(n int) {
	for range n {
		for _, s := range m.shops {
			for _, r := range slices.Clone(s.order) {
				if r.kind == KindClose && s.up() {
					s.must(r, Tick{})
				}
			}
		}
		m.settle()
	}
}

func (s *shop) follow() {
	for s.up() {
		n := wire.Height(len(s.told))
		switch tip := s.tip(); {
		case n > 0 && (n-1 > tip || s.hashAt(n-1) != s.told[n-1]):
			s.told = s.told[:n-1]
			u := contract.Undo{Height: n - 1}
			for _, r := range slices.Clone(s.order) {
				if s.interest(r).Top >= n-1 {
					s.must(r, s.event(r, &u, nil))
				}
			}
		case n <= tip:
			s.told = append(s.told, s.hashAt(n))
			b := contract.Block{Height: n, FeeRate: s.rate, Txs: s.block(n).Transactions}
			for _, r := range slices.Clone(s.order) {
				if wanted(s.interest(r), &b) {
					s.must(r, s.event(r, nil, &b))
					s.again(r, &b)
				}
			}
		default:
			return
		}
	}
}

// again undoes a block and tells it again, if the test wants that: the state must be
// the same, but for what follows from the moment.
func (s *shop) again(r place, b *contract.Block) {
	was := lasting(s.states[r])
	if !s.undo || was == nil || s.interest(r).Done {
		return
	}
	s.undone++
	s.must(r, s.event(r, &contract.Undo{Height: b.Height}, nil))
	s.must(r, s.event(r, nil, b))
	if now := lasting(s.states[r]); !same(was, now) {
		s.t.Fatalf("ReorgUndo at %d, %v:\n%+v\n%+v", b.Height, r.kind, was, now)
	}
}

func (s *shop) interest(r place) contract.Interest {
	return s.states[r].(interface{ Interest() contract.Interest }).Interest()
}

func (s *shop) event(r place, u *contract.Undo, b *contract.Block) any {
	if strings.HasPrefix(r.kind, "bank") {
		if u != nil {
			return bank.Disconnected{Undo: *u}
		}
		return bank.Connected{Block: *b}
	}
	if u != nil {
		return Disconnected{Undo: *u}
	}
	return Connected{Block: *b}
}

func wanted(in contract.Interest, b *contract.Block) bool {
	if in.Done {
		return false
	}
	if in.Wake > 0 && in.Wake <= b.Height {
		return true
	}
	for _, tx := range b.Txs {
		if slices.Contains(in.Txids, contract.Txid(tx)) || slices.ContainsFunc(in.Outpoints, func(o wire.Outpoint) bool { return contract.Spends(tx, o) >= 0 }) {
			return true
		}
	}
	return false
}

// work carries out what is pending, and reports whether something was.
func (s *shop) work() (busy bool) {
	if !s.up() {
		return false
	}
	list := s.chores
	s.chores = nil
	for n, c := range list {
		if k := s.strike; k != nil {
			at := len(k.list)
			k.list = append(k.list, fmt.Sprintf("%d %T", s.n, c.e))
			if at == k.at {
				if k.after {
					s.do(c)
				}
				s.away, k.who, k.back = true, s, s.market.tip()+k.down
				s.chores = append(slices.Clone(list[n:]), s.chores...)
				return true
			}
		}
		answers, again := s.do(c)
		if again {
			s.chores = append(s.chores, c)
			continue
		}
		busy = true
		for _, a := range answers {
			if err := s.tell(a.place, a.e); err != nil {
				s.note("shop %d: answer %T refused: %v", s.n, a.e, err)
			}
		}
	}
	return busy
}

func (m *market) find(k wire.Key) *shop {
	for _, s := range m.shops {
		if s.key == k {
			return s
		}
	}
	return nil
}

// seller is the home of a party.
func (m *market) seller(b *Buyer, party uint8) *shop {
	return m.find(b.Order.Candidates[b.Seats[party].Candidate].Peer.Key)
}

func (s *shop) payeeKey(id wire.Hash) wire.Secret {
	return wire.Secret(wire.Tagged("bank-payee", s.secret[:], id[:]))
}
func (s *shop) partyKey(id wire.Hash) wire.Secret {
	return wire.Secret(wire.Tagged("job-party", s.secret[:], id[:]))
}

func (s *shop) bankRoot(id wire.Hash, first wire.Outpoint) wire.Secret {
	return wire.Secret(wire.Tagged("bank-root", s.secret[:], id[:], first.Bytes()))
}

func (s *shop) broadcast(tx *btcwire.MsgTx) error {
	if s.refuse != nil && s.refuse(tx) {
		return errors.New("refused")
	}
	err := s.chain.Broadcast(s.t.Context(), tx)
	if err != nil {
		s.note("%d: shop %d: rejected: %v", s.market.tip(), s.n, err)
	}
	return err
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (s *shop) purse(b *Buyer, party uint8) *penny.Purse {
	root := s.bankRoot(b.Seats[party].Bank, b.Inputs[0])
	return penny.NewPurse(bank.Pence(root, b.Terms.Parties[party].Pennies))
}

// do carries out a chore; again reports that somebody does not answer.
func (s *shop) do(c chore) (answers []chore, again bool) {
	say := func(ev any) ([]chore, bool) { return []chore{{c.place, ev}}, false }
	buyer, _ := s.states[c.place].(Buyer)
	switch e := c.e.(type) {
	case Ask:
		to := s.find(e.Peer.Key)
		if !to.up() {
			return say(NotQuoted{Bank: e.Request.Bank, Why: "no answer"})
		}
		if err := bank.Takes(&e.Request, bank.Policy{MaxRungs: 64}, s.margins, wire.Height(len(to.told))-1, s.rate); err != nil {
			return say(NotQuoted{Bank: e.Request.Bank, Why: err.Error()})
		}
		if to.asks != nil {
			if err := to.asks(); err != nil {
				return say(NotQuoted{Bank: e.Request.Bank, Why: err.Error()})
			}
		}
		return say(Quoted{Bank: e.Request.Bank, Height: s.market.tip(), Payee: keyOf(s.t, to.payeeKey(e.Request.Bank)), Key: keyOf(s.t, to.partyKey(e.Request.Bank)), Conf: 3})
	case Build:
		ev := Built{First: e.First}
		var list []*contract.Bank
		for i := range buyer.Seats {
			x := &buyer.Seats[i]
			root := s.bankRoot(x.Bank, buyer.Inputs[0])
			terms, b, _, _, err := bank.Build(&bank.Prepare{Root: root, Payee: x.Payee, Expiry: s.market.order.Expiry, Ladder: buyer.Ladder(uint8(i))})
			must(s.t, err)
			list, ev.Banks, ev.Keys = append(list, b), append(ev.Banks, terms), append(ev.Keys, bank.PayerKey(root))
		}
		tx, err := contract.FundBanks(list, buyer.Inputs, buyer.Change, buyer.ChangeScript)
		must(s.t, err)
		ev.Funding = contract.EncodeTx(tx)
		return say(ev)
	case Offer:
		if s.buyerStale(&buyer, e) {
			return nil, false
		}
		to := s.seller(&buyer, e.Seat)
		if !to.up() {
			return say(NotAccepted{Bank: e.Bank, Why: "no answer"})
		}
		if err := to.offered(s, &buyer, e.Seat); err != nil {
			return say(NotAccepted{Bank: e.Bank, Why: err.Error()})
		}
		return say(Accepted{Bank: e.Bank, Height: s.market.tip()})
	case OpenBanks:
		for i := range buyer.Seats {
			r := place{bank.KindPayer, buyer.Seats[i].Bank}
			if _, ok := s.states[r]; ok {
				continue
			}
			l := buyer.Ladder(uint8(i))
			p, effects, err := bank.NewFunded(r.id, bank.Funded{Terms: bank.Terms{Peer: buyer.Order.Candidates[buyer.Seats[i].Candidate].Peer, Value: l.Value, Rungs: l.Rungs, PerRung: l.PerRung,
				Expiry: buyer.Order.Expiry, Margins: s.margins}, Bank: buyer.Banks[i], Conf: buyer.Seats[i].Conf, Root: s.bankRoot(r.id, buyer.Inputs[0]), Inputs: buyer.Inputs, Funding: buyer.Funding,
				Vout: uint32(i), Tip: wire.Height(len(s.told)) - 1})
			must(s.t, err)
			s.create(r, p, anys(effects))
		}
		return say(BanksOpened{})
	case Fund:
		tx, err := contract.DecodeTx(e.Tx)
		must(s.t, err)
		s.signCoins(tx)
		why := errText(s.broadcast(tx))
		for i := range buyer.Seats {
			answers = append(answers, chore{place{bank.KindPayer, buyer.Seats[i].Bank}, bank.Broadcasted{Err: why, Txid: contract.Txid(tx)}})
		}
		return append(answers, chore{c.place, FundingSent{Err: why}}), false
	case Supply:
		to := s.seller(&buyer, e.Holder)
		if !to.up() || to.job == nil {
			return nil, true
		}
		return say(to.supplied(s, &buyer, e.Holder))
	case Inspect:
		if s.certs[e.To] == nil {
			return nil, true
		}
		ev := Inspected{To: e.To}
		if slices.Contains(e.Epochs, s.lies) {
			ev.False = &FalseEpoch{Epoch: s.lies, Certified: wire.Hash{1}, State: stateAt(s.lies), Signers: []uint8{0, 1, 2}}
		}
		return say(ev)
	case Referee:
		return say(Refereed{Epoch: e.Epoch, Attempt: e.Attempt, State: stateAt(e.Epoch)})
	case Call:
		s.market.told = append(s.market.told, e.Verdict)
		return nil, false
	case BeginClose:
		r := place{KindClose, c.id}
		if _, ok := s.states[r]; ok {
			return []chore{{r, Again{}}}, false
		}
		x, effects, err := NewClosing(buyer.Close(s.margins.Deep(), s.rate))
		must(s.t, err)
		s.create(r, x, anys(effects))
		return nil, false
	}
	return s.doMore(c)
}

// buyerStale reports whether an offer is of an attempt that is over.
func (s *shop) buyerStale(b *Buyer, e Offer) bool {
	return b.Phase != BuyerOffering || int(e.Seat) >= len(b.Seats) || b.Seats[e.Seat].Bank != e.Bank
}

func (s *shop) doMore(c chore) (answers []chore, again bool) {
	say := func(ev any) ([]chore, bool) { return []chore{{c.place, ev}}, false }
	switch e := c.e.(type) {
	case Finished:
		tx, err := contract.ReadTx(e.Sent.Tx)
		must(s.t, err)
		if s.spoils {
			return nil, false
		}
		if s.n > 0 {
			return []chore{{place{bank.KindPayee, s.job.bank}, bank.FinalSigned{Sent: e.Sent}}}, false
		}
		_ = s.broadcast(tx)
		b := s.market.job()
		for i := range b.Seats {
			if contract.Spends(tx, b.Terms.Bank(uint8(i))) >= 0 {
				answers = append(answers, chore{place{bank.KindPayer, b.Seats[i].Bank}, bank.CloseSent{Txid: e.Sent.Txid}})
			}
		}
		return answers, false
	case PayoutDue:
		x := s.states[c.place].(Closing)
		p, err := x.Payouts()
		if err != nil {
			return nil, false
		}
		tx, fee, err := contract.BuildPayouts([]contract.FinalPayout{p}, s.script, s.rate, e.MinFee)
		if err != nil {
			return say(PayoutFailed{})
		}
		return say(PayoutBuilt{Sent: *contract.NewSent(tx, fee, s.market.tip())})
	case SendPayout:
		tx, err := contract.ReadTx(e.Tx)
		must(s.t, err)
		_ = s.broadcast(tx)
		return nil, false
	case bank.RefundDue:
		p := s.states[c.place].(bank.Payer)
		if !p.Refundable() {
			return nil, false
		}
		b, err := contract.NewBank(s.papers[c.place].Terms)
		must(s.t, err)
		least := wire.Sat(0)
		if p.Refund != nil {
			least = p.Refund.Fee + 1
			if p.Refund.Live() {
				tx, err := contract.ReadTx(p.Refund.Tx)
				must(s.t, err)
				_ = s.broadcast(tx)
				return nil, false
			}
		}
		tx, fee, err := contract.BuildBankRefund([]contract.BankRefund{p.Back(b)}, s.script, s.rate, least)
		if err != nil {
			return say(bank.RefundFailed{Pause: true})
		}
		return say(bank.RefundBuilt{Sent: *contract.NewSent(tx, fee, s.market.tip()), Broadcast: true})
	case bank.CloseDue:
		y := s.states[c.place].(bank.Payee)
		if !y.Due() {
			return nil, false
		}
		paper := s.papers[c.place]
		k, err := y.Closing(&paper)
		must(s.t, err)
		least, rate := wire.Sat(0), s.rate
		if y.Joined != nil { // it must replace it
			rate, least = 3*rate, y.Joined.Fee+500
		}
		if y.Alone.Live() {
			tx, err := contract.ReadTx(y.Alone.Tx)
			must(s.t, err)
			_ = s.broadcast(tx)
			return nil, false
		}
		tx, fee, err := contract.BuildClose([]contract.BankClose{k}, nil, s.script, rate, least)
		if err != nil {
			return say(bank.CloseFailed{Pause: true})
		}
		return say(bank.CloseBuilt{Sent: *contract.NewSent(tx, fee, s.market.tip()), Broadcast: true})
	case bank.Broadcast:
		tx, err := contract.ReadTx(e.Tx)
		must(s.t, err)
		return say(bank.Broadcasted{Err: errText(s.broadcast(tx)), Txid: contract.Txid(tx), Own: true})
	case bank.Rebroadcast:
		tx, err := contract.ReadTx(s.funds[c.place])
		must(s.t, err)
		return say(bank.Broadcasted{Err: errText(s.broadcast(tx))})
	case bank.Sync:
		b := s.market.job()
		i := b.seat(c.id)
		if i < 0 {
			return nil, false
		}
		to := s.seller(&b, uint8(i))
		y, ok := to.states[place{bank.KindPayee, c.id}].(bank.Payee)
		if !to.up() || !ok {
			return nil, true
		}
		return say(bank.Synced{Count: y.Count()})
	}
	s.t.Fatalf("no way to carry out %T", c.e)
	return nil, false
}

func (s *shop) signCoins(tx *btcwire.MsgTx) {
	prev := txscript.NewMultiPrevOutFetcher(nil)
	for _, in := range tx.TxIn {
		for _, c := range s.coins {
			if contract.OutPoint(c.at) == in.PreviousOutPoint {
				prev.AddPrevOut(in.PreviousOutPoint, btcwire.NewTxOut(int64(c.value), s.script))
			}
		}
	}
	k, err := s.secret.PrivKey()
	must(s.t, err)
	hashes := txscript.NewTxSigHashes(tx, prev)
	for n, in := range tx.TxIn {
		out := prev.FetchPrevOutput(in.PreviousOutPoint)
		sig, err := txscript.RawTxInTaprootSignature(tx, hashes, n, out.Value, s.script, nil, txscript.SigHashDefault, k)
		must(s.t, err)
		in.Witness = btcwire.TxWitness{sig}
	}
}

// offered is a node's answer to its bank and the job.
func (s *shop) offered(from *shop, b *Buyer, party uint8) error {
	id := b.Seats[party].Bank
	if s.takes != nil {
		if err := s.takes(); err != nil {
			return err
		}
	}
	if err := b.Terms.Check(); err != nil {
		return err
	}
	if b.Terms.Parties[party].Bank != BankDigest(&b.Banks[party]) || b.Terms.Parties[party].Key != keyOf(s.t, s.partyKey(id)) {
		return errors.New("another bank or key")
	}
	if s.states[place{bank.KindPayee, id}] != nil {
		return nil // again
	}
	built, err := contract.NewBank(b.Banks[party])
	must(s.t, err)
	sigs, err := built.SignRungs(b.Terms.Bank(party), b.Keys[party])
	must(s.t, err)
	y, effects, err := bank.NewPayee(&wire.BankOpen{Bank: id, Terms: b.Banks[party], Funding: b.Funding, Vout: uint32(party), Sigs: sigs}, s.payeeKey(id), bank.Policy{MaxRungs: 64}, s.margins, wire.Height(len(s.told))-1, s.rate)
	if err != nil {
		return err
	}
	s.create(place{bank.KindPayee, id}, y, anys(effects))
	s.must(place{bank.KindPayee, id}, bank.Tied{})
	s.job = &taken{terms: b.Terms, party: party, bank: id, banks: b.Banks}
	s.windows = map[uint8]uint32{}
	return nil
}

// supplied verifies and stores the sheets of a holder.
func (s *shop) supplied(from *shop, b *Buyer, holder uint8) Supplied {
	t := s.job.terms
	t.id = t.ID()
	ev := Supplied{Holder: holder, Upto: make([]uint32, len(t.Parties))}
	for i := range t.Parties {
		node := uint8(i)
		for first := s.windows[node] + 1; node != holder && first <= b.Dealt[i]; first = s.windows[node] + 1 {
			purse := from.purse(b, node)
			list, err := b.Deals(node, first, func(k uint32) (x [wire.PennySize]byte) {
				p := purse.At(t.Parties[node].Pennies - k).Secret
				copy(x[:], p[:])
				return x
			})
			must(s.t, err)
			for n := range list[holder] {
				must(s.t, list[holder][n].Verify(&t))
			}
			w := list[holder][0].Window
			at := [2]uint32{uint32(node), first}
			if root, ok := s.roots[at]; ok && root != w.Root {
				s.t.Fatal("TwoWindows convicts the buyer")
			}
			s.roots[at] = w.Root
			s.windows[node] = w.Last()
		}
		ev.Upto[i] = s.windows[node]
	}
	return ev
}

func stateAt(e uint32) wire.Hash { return wire.Hash(secretOf("state %d", e)) }

// certify lets the nodes agree on the next epoch and pay one another for it. It
// reports whether they could: a quorum is alive and holds the shares for it.
func (m *market) certify(outcome Outcome) bool {
	b := m.job()
	if !m.running() {
		return false
	}
	t := b.Terms
	t.id = t.ID()
	before := t.before(m.cert)
	if before.Outcome != Running || before.Epoch >= t.Epochs {
		return false
	}
	var alive []uint8
	works := before.Next
	if m.all {
		works = slices.Concat(before.Next, before.Bench)
	}
	for _, p := range works {
		if s := m.seller(&b, p); s.up() && s.job != nil && m.closingOf(s) == nil {
			alive = append(alive, p)
		}
	}
	for _, h := range alive {
		for _, p := range before.Next {
			if p != h && m.seller(&b, h).windows[p] < before.Paid[p]+1 {
				return false // not dealt
			}
		}
	}
	if len(alive) < int(t.Q) {
		return false
	}
	body := Body{Epoch: before.Epoch + 1, Prev: t.prev(m.cert), State: stateAt(before.Epoch + 1), Outcome: outcome, Paid: slices.Clone(before.Paid), Missed: make([]uint8, len(t.Parties)),
		Roster: before.Next, Next: before.Next, Bench: before.Bench}
	for _, p := range alive {
		body.Paid[p]++
	}
	c := &Certificate{Body: body}
	c.Signed.Value = body.digest(&t)
	v := Vote{Epoch: body.Epoch, Round: LockCert, Value: c.Signed.Value}
	for _, p := range alive[:t.Q] {
		sig, err := sign(m.seller(&b, p).partyKey(b.Seats[p].Bank), v.digest(&t))
		must(m.t, err)
		c.Signed.Sigs = append(c.Signed.Sigs, Signer{Party: p, Sig: sig})
	}
	m.cert, m.certs[body.Epoch] = c, c
	for _, p := range alive {
		m.seller(&b, p).earn(m, &b, body.Paid[p])
	}
	return true
}

// closingOf is a node's side of a close.
func (m *market) closingOf(s *shop) *Closing {
	if s.job == nil {
		return nil
	}
	id := s.job.bank
	if s.n == 0 {
		id = m.id
	}
	if c, ok := s.states[place{KindClose, id}].(Closing); ok {
		return &c
	}
	return nil
}

// earn gives a node's bank its penny of a count.
func (s *shop) earn(m *market, b *Buyer, k uint32) {
	r := place{bank.KindPayee, s.job.bank}
	y := s.states[r].(bank.Payee)
	p := m.buyer().purse(b, s.job.party).At(b.Terms.Parties[s.job.party].Pennies - k)
	var locks [][20]byte
	for g := y.Rung() + 1; g <= y.Ladder.Rung(k); g++ {
		locks = append(locks, b.Banks[s.job.party].Locks[g-1])
	}
	if err := s.tell(r, bank.Paid{Height: s.market.tip(), Penny: p, Locks: locks}); err != nil {
		s.note("%d: shop %d: penny %d: %v", s.market.tip(), s.n, k, err)
	}
}

// look gives the buyer the last certificate.
func (m *market) look() {
	if m.cert != nil && m.buyer().up() && m.job().Phase == BuyerPublished {
		m.buyer().must(place{KindBuyer, m.id}, Certified{Cert: *m.cert})
		m.settle()
	}
}

// until mines until something is so.
func (m *market) until(what string, done func() bool) {
	m.t.Helper()
	for range marketLife + 30 {
		if done() {
			return
		}
		m.mine(1)
	}
	m.t.Fatalf("never %s: %+v\n%s", what, m.job().Failure, strings.Join(m.log, "\n"))
}

func (m *market) running() bool {
	b := m.job()
	return b.Phase == BuyerPublished && b.Confirmed.Depth(m.tip()) >= b.Terms.Depth
}

// end mines until nothing happens any more.
func (m *market) end() {
	for range 2 * marketLife {
		m.mine(1)
	}
}

// holdings reads from the chain what each script holds, and all fees.
func (m *market) holdings() (byScript map[string]wire.Sat, fees wire.Sat) {
	return books.Holdings(m.t, m.chain)
}

// outcome is what matters of an end: who has what, and that all is over.
func (m *market) outcome() string {
	var b strings.Builder
	holds, fees := m.holdings()
	left := m.poured - fees
	job := m.job()
	fmt.Fprintf(&b, "phase %d, failed by %q", job.Phase, job.FailedBy)
	for _, s := range m.shops {
		left -= holds[string(s.script)]
		fmt.Fprintf(&b, "\nshop %d: %v", s.n, holds[string(s.script)])
		for _, r := range s.order {
			if !s.interest(r).Done && s.up() {
				fmt.Fprintf(&b, ", %s not done", r.kind)
			}
		}
	}
	if left != 0 {
		fmt.Fprintf(&b, "\n%v are not accounted for", left)
	}
	return b.String()
}

// send puts a message of a close on its way.
func (s *shop) send(me uint8, e SendFinal) {
	if s.noFinal || s.silent && e.To != BuyerSide {
		return
	}
	m := e.Msg
	switch x := m.(type) {
	case *FinalOffer:
		if s.wants > 0 {
			y := *x
			y.Held += s.wants
			m = &y
		}
	case *FinalShare:
		if s.spoils {
			y := *x
			y.Sig.Payee[5] ^= 1
			m = &y
		}
	}
	b, err := wire.Marshal(m)
	must(s.t, err)
	if len(b) > m.MaxSize() || m.Check() != nil {
		s.t.Fatalf("%T of %d bytes, %d allowed: %v", m, len(b), m.MaxSize(), m.Check())
	}
	s.letters = append(s.letters, letter{me, e.To, m})
}

// deliver delivers the letters that are on their way.
func (m *market) deliver() bool {
	list := m.letters
	m.letters = nil
	for _, l := range list {
		if m.rng.IntN(100) < m.lose {
			continue
		}
		b := m.job()
		to := m.buyer()
		if l.to != BuyerSide {
			to = m.seller(&b, l.to)
		}
		if !to.up() || to.noFinal {
			continue
		}
		r := place{KindClose, m.id}
		if l.to != BuyerSide {
			if to.job == nil {
				continue
			}
			r = place{KindClose, to.job.bank}
			if _, ok := to.states[r]; !ok {
				if l.from != BuyerSide {
					continue // it closes when it sees fit
				}
				to.leave(true)
			}
		}
		if err := to.tell(r, FinalReceived{From: l.from, Msg: l.msg}); err != nil {
			m.note("%d: shop %d refuses %T of side %d: %v", m.tip(), to.n, l.msg, l.from, err)
		}
	}
	return len(list) > 0
}

// leave begins a node's close.
func (s *shop) leave(called bool) {
	if m := s.market; s.job == nil || m.closingOf(s) != nil {
		return
	}
	t := s.job.terms
	x, effects, err := NewClosing(CloseTerms{Terms: t, Me: s.job.party, Banks: s.job.banks, Keys: []wire.Secret{s.payeeKey(s.job.bank)}, Paid: t.before(s.cert).Paid,
		Deep: s.margins.Deep(), Rate: s.rate, Tip: s.market.tip(), Called: called})
	must(s.t, err)
	s.create(place{KindClose, s.job.bank}, x, anys(effects))
}
