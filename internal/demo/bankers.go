package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// BankScenarios are the stories about penny banks. RunBank plays the first,
// RunBankers the others.
var BankScenarios = []struct{ Name, Help string }{
	{"alone", "pennies are streamed one by one, the payer vanishes, the payee settles alone"},
	{"bankers", "a payment goes over two bankers, step by step, each with the payee's signature"},
	{"thief", "a banker keeps the fourth step and forwards nothing: it gains that step and no more"},
}

// ErrBankScenario means that there is no story about penny banks with this
// name.
var ErrBankScenario = errors.New("no such scenario of penny banks")

// The amount paid through bankers, and the step at which the thief steals.
const (
	payment   wire.Msat = 40_000_000
	stepSize  wire.Msat = 4_000_000
	lastGood            = 3 // steps that the thief passes on
	bankSize  wire.Sat  = 100_000
	beginning wire.Sat  = 300_000
)

// bankerFees are each banker's fees for a step.
var bankerFees = wire.Fees{Base: 1000, PPM: 1000}

// BankersResult is the result of a payment through bankers. Amounts of pennies
// are in msat, those on the chain in satoshi.
type BankersResult struct {
	Scenario     string    `json:"scenario"`
	State        string    `json:"state"`
	Pennies      uint32    `json:"pennies"` // that the payer gave to the first banker
	Ordered      wire.Msat `json:"ordered_msat"`
	Step         wire.Msat `json:"step_msat"`
	Steps        uint32    `json:"steps"`
	Paid         wire.Msat `json:"paid_msat"` // signed for by the payee
	Fees         wire.Msat `json:"banker_fees_msat"`
	Lost         wire.Msat `json:"lost_msat"`  // asked for, and never signed for
	Taken        wire.Msat `json:"taken_msat"` // by the thief: that step, and what it asked for to cover its close
	Settled      wire.Sat  `json:"settled_sat"`
	FundingTxids []string  `json:"funding_txids"`
	CloseTxids   []string  `json:"close_txids"`
	CloseTxid    string    `json:"close_txid"` // of the payee's bank
	RefundTxids  []string  `json:"refund_txids"`
	Books
	Height uint32 `json:"height"`
}

// bankersStory is a chain of parties, each with a bank to the next.
type bankersStory struct {
	*world
	thief   bool
	parties []*node.Node // payer, two bankers, payee
	ids     []bank.ID    // of the bank from each to the next
	asked   chan struct{}
	once    sync.Once
}

var partyNames = []string{"payer", "banker-1", "banker-2", "payee"}

// RunBankers pays through two bankers; with thief set, the first one steals.
func RunBankers(ctx context.Context, thief bool, c Common) (res *BankersResult, err error) {
	base, err := newWorld(c)
	if err != nil {
		return nil, err
	}
	w := &bankersStory{world: base, thief: thief, asked: make(chan struct{})}
	w.running = func() []*node.Node { return w.parties }
	defer func() {
		for _, n := range w.parties {
			err = errors.Join(err, n.Close())
		}
		err = errors.Join(err, w.close())
	}()
	for i, name := range partyNames {
		if err := w.party(name, i); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return w.play(ctx)
}

// party adds a party.
func (w *bankersStory) party(name string, i int) error {
	cfg := w.config(name, func(c engine.Change) { w.observe(name, c) })
	if i > 0 {
		cfg.Banking = &banking.Policy{Policy: bank.Policy{MinValue: 1000, MaxRungs: penny.MaxRungs, MaxBanks: 10}}
		cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	}
	if i == 1 || i == 2 {
		cfg.Banking.Fees = &bankerFees
	}
	if i == 1 && w.thief {
		cfg.ServeBanks = func(b p2p.Banks) p2p.Banks { return thief{b, w} }
	}
	n, err := node.Open(cfg)
	if err != nil {
		return err
	}
	n.Start()
	w.parties = append(w.parties, n)
	return nil
}

// thief is a banker that forwards lastGood steps, to gain trust, and keeps the
// next.
type thief struct {
	p2p.Banks
	w *bankersStory
}

func (t thief) Transfer(ctx context.Context, r *wire.Transfer, note *wire.Note) (*wire.TransferAck, error) {
	if r.Index <= lastGood {
		return t.Banks.Transfer(ctx, r, note)
	}
	t.w.once.Do(func() {
		t.w.tell("banker-1", "has the pennies of step %d, and passes nothing on", r.Index)
		close(t.w.asked)
	})
	return nil, errors.New("thank you")
}

func (w *bankersStory) play(ctx context.Context) (*BankersResult, error) {
	for _, n := range w.parties[:3] {
		if err := w.fund(ctx, n, beginning); err != nil {
			return nil, err
		}
	}
	if err := w.mine(ctx); err != nil {
		return nil, err
	}
	w.tell("chain", "a regtest chain of its own, %d blocks high; payer and two bankers hold %v each", w.height(ctx), beginning)
	if err := w.openBanks(ctx); err != nil {
		return nil, err
	}
	s, err := w.pay(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.closeBanks(ctx); err != nil {
		return nil, err
	}
	res := &BankersResult{Scenario: BankScenarios[1].Name, State: s.State(), Ordered: s.Order.Total, Step: s.Order.Step, Steps: s.Index, Paid: s.Acked}
	if w.thief {
		res.Scenario = BankScenarios[2].Name
	}
	if s.Waiting() {
		t := s.Transfer()
		res.Lost = t.Amount
		// The fees of the step that was not forwarded are part of the loss.
		res.Fees = s.Fees - (t.Amount - (s.Asked - s.Acked))
	} else {
		res.Fees = s.Fees
	}
	if err := w.account(ctx, res); err != nil {
		return nil, err
	}
	return res, w.export()
}

// openBanks opens a bank from each party to the next.
func (w *bankersStory) openBanks(ctx context.Context) error {
	m := bank.MarginsFor(wire.Regtest)
	for i, n := range w.parties[:3] {
		to := w.parties[i+1]
		id, err := n.Banks.OpenBank(ctx, banking.Terms{Peer: bank.Peer{Key: to.Key(), Addrs: to.Addrs()}, Value: bankSize, Rungs: bankRungs, PerRung: 10,
			Blocks: m.MinLife + 10*m.Conf, MaxFee: 10_000})
		if err != nil {
			return err
		}
		w.ids = append(w.ids, id)
		w.tell(partyNames[i], "opens a bank of %v with %s", bankSize, partyNames[i+1])
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	return w.mineUntil(ctx, int(2*m.Conf), func() (bool, error) { return w.all(ctx, bank.StateOpen) })
}

// all reports whether all banks are in a state, on both sides.
func (w *bankersStory) all(ctx context.Context, state string) (bool, error) {
	for i, id := range w.ids {
		p, y, err := w.bank(ctx, i)
		if err != nil {
			return false, err
		}
		if p.Phase == bank.PayerFailed {
			return false, fmt.Errorf("bank %v: %s", id, p.Failure)
		}
		if p.State() != state || y.State() != state {
			return false, nil
		}
	}
	return true, nil
}

// bank returns both sides' state of the bank from party i to the next.
func (w *bankersStory) bank(ctx context.Context, i int) (p bank.Payer, y bank.Payee, err error) {
	err = errors.Join(
		w.parties[i].Banks.Payers(ctx, func(s bank.Payer) error {
			if s.Bank == w.ids[i] {
				p = s
			}
			return nil
		}),
		w.parties[i+1].Banks.Payees(ctx, func(s bank.Payee) error {
			if s.Bank == w.ids[i] {
				y = s
			}
			return nil
		}))
	return p, y, err
}

// pay pays the payee through the bankers, until everything is acknowledged or
// the thief has stolen.
func (w *bankersStory) pay(ctx context.Context) (s bank.Sending, err error) {
	payer, to := w.parties[0], w.parties[3]
	w.tell("payer", "pays %v to %s, in steps of %v: no step leaves before the one before it is signed for", payment, to.Address(), stepSize)
	id, err := payer.Banks.PayTo(ctx, banking.Payment{To: to.Key(), Amount: payment, Step: stepSize, MaxFee: payment / 10})
	if err != nil {
		return s, err
	}
	look := func() error {
		state, err := payer.Banks.FindBank(ctx, id.String())
		if err != nil {
			return err
		}
		s = state.(bank.Sending)
		return nil
	}
	patience, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if err := look(); err != nil {
			return s, err
		}
		if s.Ended || s.Done() {
			break
		}
		select {
		case <-w.asked:
			// Send nothing more through this banker; its outstanding step stays
			// open.
			if err := payer.Banks.EndPayment(ctx, id); err != nil {
				return s, err
			}
			w.tell("payer", "has no signature for step %d: nothing more goes through this banker", s.Index)
		case <-time.After(time.Millisecond):
		case <-patience.Done():
			return s, fmt.Errorf("the payment does not end: %w", patience.Err())
		}
	}
	if !w.thief && !s.Done() {
		return s, fmt.Errorf("the payment is %s: %s", s.State(), s.Why)
	}
	return s, w.settle(ctx)
}

// closeBanks closes all banks: cooperatively or, with a thief, by each payee
// alone.
func (w *bankersStory) closeBanks(ctx context.Context) error {
	for i := range w.ids {
		p, y, err := w.bank(ctx, i)
		if err != nil {
			return err
		}
		n, ref := w.parties[i], banking.RefOf(p)
		if w.thief {
			n, ref = w.parties[i+1], banking.RefOf(y)
		}
		if err := n.Banks.CloseBank(ctx, ref); err != nil {
			return fmt.Errorf("closing the bank with %s: %w", partyNames[i+1], err)
		}
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	m := bank.MarginsFor(wire.Regtest)
	return w.mineUntil(ctx, int(m.MinLife), func() (bool, error) {
		for i := range w.ids {
			p, y, err := w.bank(ctx, i)
			if err != nil || !p.Interest().Done || !y.Buried() {
				return false, err
			}
		}
		return true, nil
	})
}

// account closes the books.
func (w *bankersStory) account(ctx context.Context, res *BankersResult) error {
	var ids []wire.Hash
	add := func(list *[]string, id wire.Hash) {
		if text := txid(id); !slices.Contains(*list, text) {
			*list = append(*list, text)
			ids = append(ids, id)
		}
	}
	for i := range w.ids {
		p, y, err := w.bank(ctx, i)
		if err != nil {
			return err
		}
		if i == 0 {
			res.Pennies = y.Count()
			if w.thief {
				res.Taken = y.Ladder.Share(y.Spend.Rung).Msat() - res.Paid - res.Fees
			}
		}
		add(&res.FundingTxids, p.At.Txid)
		add(&res.CloseTxids, p.Spend.Txid)
		if p.Returned != nil {
			add(&res.RefundTxids, p.Returned.Txid)
		}
		res.CloseTxid = txid(p.Spend.Txid)
		how := fmt.Sprintf("at rung %d", p.Spend.Rung)
		if p.Spend.Together {
			how = "by both sides"
		}
		w.tell(partyNames[i+1], "closed its bank with %s %s, %v went back", partyNames[i], how, p.Spend.Change)
	}
	b, err := w.readChain(ctx, ids...)
	if err != nil {
		return err
	}
	for i, n := range w.parties {
		from := beginning
		if i == 3 {
			from = 0
		}
		gained, err := b.wallet(ctx, partyNames[i], n, from)
		if err != nil {
			return err
		}
		res.Settled = gained // the payee's is the last
	}
	b.balance()
	res.Books, res.Height = *b, uint32(w.height(ctx))
	return nil
}

func (w *bankersStory) observe(party string, c engine.Change) {
	switch ev := c.Event.(type) {
	case bank.StepAcked:
		if s, ok := c.State.(bank.Sending); ok {
			w.tell(party, "step %d is signed for by the payee: %v of %v", ev.Ack.Index, s.Acked, s.Order.Total)
		}
	case bank.Relayed:
		if r, ok := c.State.(bank.Relay); ok && r.Index == 1 && len(ev.Step.Hops) > 0 {
			w.tell(party, "has credit for step 1 that it could close on the chain, keeps %v and passes %v on", r.Fees, ev.Step.Hops[0].Amount)
		}
	}
}
