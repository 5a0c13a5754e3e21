package banking

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

func relayRef(in bank.ID, payment wire.Hash) engine.Ref {
	return engine.Ref{Kind: bank.KindRelay, ID: bank.RelayID(in, payment)}
}

func receivedRef(payment wire.Hash) engine.Ref {
	return engine.Ref{Kind: bank.KindRelay, ID: bank.ReceivedID(payment)}
}

// relayRefs are where the payment of a step is stored: at its final payee for all
// banks together, in older versions for each.
func relayRefs(t *wire.Transfer) []engine.Ref {
	if len(t.Hops) > 0 {
		return []engine.Ref{relayRef(t.Bank, t.ID)}
	}
	return []engine.Ref{receivedRef(t.ID), relayRef(t.Bank, t.ID)}
}

// relayOf returns the payment of a step, which created reports to be stored.
func (y *Service) relayOf(ctx context.Context, t *wire.Transfer) (ref engine.Ref, r bank.Relay, created bool, err error) {
	refs := relayRefs(t)
	for _, ref := range refs {
		s, err := y.cfg.Engine.State(ctx, ref)
		if errors.Is(err, engine.ErrNoContract) {
			continue
		}
		if err != nil {
			return ref, r, false, err
		}
		if r := s.(bank.Relay); len(t.Hops) > 0 || r.Out == (bank.ID{}) {
			return ref, r, true, nil
		}
	}
	return refs[0], bank.NewRelay(t.Bank, t.ID), false, nil
}

// Transfer implements p2p.Banks. It forwards a step of a payment, or accepts it
// as its final payee.
func (y *Service) Transfer(ctx context.Context, t *wire.Transfer, note *wire.Note) (*wire.TransferAck, error) {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	unlock, err := y.lock(ctx, relayRefs(t)[0].ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	in, err := y.payee(ctx, t.Bank)
	if err != nil {
		return nil, err
	}
	ref, r, created, err := y.relayOf(ctx, t)
	if err != nil {
		return nil, err
	}
	step := passing{Banks: y.Banks, ref: ref, relay: r, created: created, in: &in, t: t, note: note}
	step.recall(ctx)
	if step.fresh, err = step.relay.Fresh(t); err != nil {
		return nil, err
	}
	if !step.fresh && step.relay.Ack != nil {
		return step.relay.Ack, nil
	}
	if !created && t.Amount < minPayment {
		return nil, wire.Refuse(wire.NoCredit, "a first step of %v; the minimum is %v", t.Amount, minPayment)
	}
	if len(t.Hops) == 0 {
		return step.take(ctx)
	}
	return step.pass(ctx)
}

// minPayment is the minimum first step of a payment, because its record is
// stored.
const minPayment = wire.Msat(1000)

// passing is one step at one hop.
type passing struct {
	*Banks
	ref     engine.Ref
	relay   bank.Relay
	created bool
	fresh   bool // false if it was accepted before, and its acknowledgement is missing
	in      *bank.Payee
	t       *wire.Transfer
	note    *wire.Note
	// answered is the answer to the step before, if it is not stored yet.
	answered *answer
}

// commit accepts the step, together with list, in one commit, and returns the
// states after list.
func (s *passing) commit(ctx context.Context, list ...engine.Delivery) ([]any, error) {
	var create []engine.Creation
	if !s.created {
		create = append(create, engine.Creation{Ref: s.ref, State: s.relay})
	}
	all := list
	if s.answered != nil {
		all = append([]engine.Delivery{{Ref: s.ref, Event: bank.Answered{Ack: s.answered.ack, Verified: s.answered.verified}}}, list...)
	}
	states, err := s.cfg.Engine.CreateAndTell(ctx, create, all)
	if err != nil {
		return nil, err
	}
	s.answers.drop(s.ref, s.answered)
	return states[len(all)-len(list):], nil
}

// take accepts the step as its final payee.
func (s *passing) take(ctx context.Context) (*wire.TransferAck, error) {
	ack := wire.TransferAck{Index: s.t.Index, Total: s.t.Total}
	var err error
	if ack.Sig, err = wire.Sign(s.cfg.Identity, wire.TransferDigest(s.t.ID, ack.Index, ack.Total, s.cfg.Self)); err != nil {
		return nil, err
	}
	if s.fresh {
		text, rerr := s.readNote(&s.relay, s.t, s.note)
		if rerr != nil {
			return nil, rerr
		}
		_, err = s.commit(ctx,
			engine.Delivery{Ref: payeeRef(s.t.Bank), Event: bank.Passed{Amount: s.t.Amount}},
			engine.Delivery{Ref: s.ref, Event: bank.Relayed{Step: *s.t, Text: text, At: time.Now().Unix()}},
			engine.Delivery{Ref: s.ref, Event: bank.Answered{Ack: ack}})
	}
	return &ack, err
}

// pass forwards the step as a banker: it uses the payer's credit and assigns
// credit on its own bank with the next hop in one commit, and answers with the
// final payee's acknowledgement.
func (s *passing) pass(ctx context.Context) (*wire.TransferAck, error) {
	fees, next := s.cfg.Policy.Fees, s.t.Hops[0]
	if fees == nil {
		return nil, wire.Refuse(wire.NoRoute, "this payee does not forward payments")
	}
	if kept, want := s.t.Amount-next.Amount, fees.Of(next.Amount); s.fresh && kept < want {
		return nil, wire.Refuse(wire.NoCredit, "a fee of %v; this banker requires %v", kept, want)
	}
	if s.fresh {
		// Who has no credit learns nothing of the bank with the next hop.
		if credit := s.in.Credit(true, s.reserve(s.in)); s.t.Amount > credit {
			return nil, wire.Refuse(wire.NoCredit, "%v requested, the credit is %v", s.t.Amount, credit)
		}
		if err := s.mayAsk(s.t.Bank); err != nil {
			return nil, err
		}
	}
	out, err := s.outgoing(ctx, next)
	if err != nil {
		return nil, err
	}
	if s.fresh {
		// Use none of the payer's credit before the next hop has answered.
		var st wire.BankState
		if !s.answeredNow(out) {
			if st, err = s.cfg.Calls.BankState(ctx, out.Terms.Peer, s.as(out)); err != nil || st.Code != wire.OK ||
				len(s.t.Hops) > 1 && st.Reserve > s.mostReserve(out) {
				s.decline(s.t.Bank)
				return nil, errNoWay
			}
		}
		states, err := s.commit(ctx,
			engine.Delivery{Ref: payeeRef(s.t.Bank), Event: bank.Passed{Amount: s.t.Amount, Banker: true, Reserve: s.reserve(s.in)}},
			engine.Delivery{Ref: payerRef(out.Bank), Event: bank.Assigned{ID: s.t.ID, Index: s.t.Index, Amount: next.Amount, Banker: len(s.t.Hops) > 1, Reserve: st.Reserve, Relayed: true}},
			engine.Delivery{Ref: s.ref, Event: bank.Relayed{Step: *s.t, Out: out.Bank, At: time.Now().Unix()}})
		if err != nil {
			if errors.Is(err, bank.ErrEmpty) || errors.Is(err, bank.ErrNotOpen) {
				s.cfg.Log.Info("a step is not forwarded", "bank", out.Bank, "err", err)
				s.decline(s.t.Bank)
				return nil, errNoWay
			}
			return nil, err
		}
		ordered := states[1].(bank.Payer)
		out = &ordered
	}
	a, err := s.forward(ctx, out)
	if err != nil {
		return nil, err
	}
	s.keepAnswer(a)
	return &a.ack, nil
}

// answerTime is how long a next hop's answer to a step shows that it is there, and
// after which the answer is stored if no further step did that.
const answerTime = time.Second

// answers are the acknowledgements that a banker has passed on and not stored yet:
// the payment's next step stores them in its own commit. A banker promises nothing
// with them. If it crashes, it asks the next hop again, which answers a repeated
// step with the same.
type answers struct {
	mu   sync.Mutex
	list map[engine.Ref]*answer
}

type answer struct {
	ack      wire.TransferAck
	verified bank.VerifiedAck
	at       time.Time
}

func (a *answers) get(ref engine.Ref) *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list[ref]
}

func (a *answers) put(ref engine.Ref, n *answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.list == nil {
		a.list = map[engine.Ref]*answer{}
	}
	a.list[ref] = n
}

// drop forgets an answer, but no later one.
func (a *answers) drop(ref engine.Ref, n *answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n != nil && a.list[ref] == n {
		delete(a.list, ref)
	}
}

// keepAnswer keeps the answer to a step.
func (s *passing) keepAnswer(n *answer) {
	b, ref := s.Banks, s.ref
	b.answers.put(ref, n)
	time.AfterFunc(answerTime, func() {
		if b.answers.get(ref) != n {
			return
		}
		if _, err := b.cfg.Engine.Tell(context.Background(), ref, bank.Answered{Ack: n.ack, Verified: n.verified}); err != nil {
			b.cfg.Log.Info("an answer is not stored: the next hop will be asked again", "payment", ref, "err", err)
		}
		b.answers.drop(ref, n)
	})
}

// Close stores the answers that no further step has stored. It must be called when
// the node serves no more.
func (b *Banks) Close(ctx context.Context) error {
	b.answers.mu.Lock()
	var list []engine.Delivery
	for ref, a := range b.answers.list {
		list = append(list, engine.Delivery{Ref: ref, Event: bank.Answered{Ack: a.ack, Verified: a.verified}})
	}
	b.answers.list = nil
	b.answers.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	_, err := b.cfg.Engine.TellEach(ctx, list)
	return err
}

// recall finds the answer to the step before a new one if it is not stored.
func (s *passing) recall(ctx context.Context) {
	if s.relay.Index == 0 || s.relay.Ack != nil || len(s.relay.Last.Hops) == 0 {
		return
	}
	if a := s.answers.get(s.ref); a != nil && a.ack.Index == s.relay.Index {
		s.relay.Ack, s.answered = &a.ack, a
		return
	}
	if s.t.Index <= s.relay.Index {
		return // it is forwarded again
	}
	out, err := s.payer(ctx, s.relay.Out)
	if err != nil {
		return
	}
	last := passing{Banks: s.Banks, ref: s.ref, t: &s.relay.Last, note: &wire.Note{}}
	if a, err := last.forward(ctx, &out); err == nil {
		s.relay.Ack, s.answered = &a.ack, a
	}
}

// answeredNow reports whether a final next hop has just answered the step before.
func (s *passing) answeredNow(out *bank.Payer) bool {
	return s.answered != nil && time.Since(s.answered.at) < answerTime && s.relay.Out == out.Bank && len(s.t.Hops) == 1
}

// outgoing returns the bank on which the step continues: the same one as
// before, if the step was accepted before.
func (s *passing) outgoing(ctx context.Context, next wire.Hop) (*bank.Payer, error) {
	if !s.fresh {
		p, err := s.payer(ctx, s.relay.Out)
		return &p, err
	}
	p, err := s.bankWith(ctx, next.Key, coarse(next.Amount)) // as Route answers
	if errors.Is(err, ErrNoBank) {
		s.decline(s.t.Bank)
		return nil, errNoWay
	}
	return p, err
}

// forward streams the pennies and asks the next hop.
func (s *passing) forward(ctx context.Context, out *bank.Payer) (*answer, error) {
	if out.Acked < out.Target {
		if err := s.streamPennies(ctx, payerRef(out.Bank)); err != nil {
			return nil, err
		}
	}
	t, last := s.t, s.t.Hops[len(s.t.Hops)-1].Key
	ack, err := s.cfg.Calls.Transfer(ctx, out.Terms.Peer, s.as(out), &wire.Transfer{ID: t.ID, Index: t.Index, Bank: out.Bank, Amount: t.Hops[0].Amount, Total: t.Total, Hops: t.Hops[1:]}, s.note)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNextHop, err)
	}
	verified, err := bank.VerifyAck(t.ID, last, *ack)
	if err != nil || ack.Index != t.Index || ack.Total != t.Total {
		return nil, fmt.Errorf("%w: %w", errNextHop, bank.ErrBadAck)
	}
	return &answer{*ack, verified, time.Now()}, nil
}

// errNextHop means that the step is paid for but the next hop gives no valid
// acknowledgement.
var errNextHop = errors.New("the next hop")

// bankWith returns our open bank with a peer that has at least an amount left, or
// ErrNoBank. Of several it takes one that waits for no acknowledgement, then the one
// that orders the fewest pennies for it, because more of it is paid and unused, then
// the one that has paid most, which has to be closed anyway, and then the one that
// has most left.
func (b *Banks) bankWith(ctx context.Context, peer wire.Key, amount wire.Msat) (best *bank.Payer, err error) {
	list, err := b.banksWith(ctx, peer)
	if err != nil {
		return nil, err
	}
	orders := func(p *bank.Payer) wire.Msat {
		return amount - min(amount, p.Unused())
	}
	for i := range list {
		p := &list[i]
		if p.Spendable() != nil || p.Left() < amount {
			continue
		}
		if best == nil || cmp.Or(busy(p)-busy(best), cmp.Compare(orders(p), orders(best)), cmp.Compare(best.Target, p.Target), cmp.Compare(best.Left(), p.Left()), bytes.Compare(p.Bank[:], best.Bank[:])) < 0 {
			best = p
		}
	}
	if best == nil {
		return nil, ErrNoBank
	}
	return best, nil
}

// busy is 1 if a bank waits for the acknowledgement of a step, so that it takes no
// other now, and 0 otherwise.
func busy(p *bank.Payer) int {
	if p.Outstanding != nil {
		return 1
	}
	return 0
}

// ErrNoRoute means that there is no bank with the payee, and no banker that can
// reach it.
var ErrNoRoute = errors.New("no way to that payee")

// errNobody means that there is no open bank with anyone else either.
var errNobody = fmt.Errorf("%w: there is no open bank with a banker", ErrNoRoute)

// Route implements p2p.Banks. Only the payer of an open bank is answered, with
// yes or no, for a rounded amount, and the number of refusals is limited: so
// nobody learns more of this banker's balances than that they are above or below
// a few powers of two.
func (y *Service) Route(ctx context.Context, id bank.ID, r *wire.RouteRequest) (*wire.Route, error) {
	fees := y.cfg.Policy.Fees
	if fees == nil {
		return nil, wire.Refuse(wire.NoRoute, "this payee does not forward payments")
	}
	in, err := y.payee(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := in.Taking(); err != nil {
		return nil, err
	}
	if err := y.mayAsk(id); err != nil {
		return nil, err
	}
	own := wire.RouteHop{Key: y.cfg.Self, Fees: *fees}
	if _, err := y.bankWith(ctx, r.Payee, coarse(r.Amount)); err == nil {
		return &wire.Route{Bankers: []wire.RouteHop{own}}, nil
	} else if !errors.Is(err, ErrNoBank) {
		return nil, err
	}
	if r.Depth > 0 {
		if list, err := y.routes(ctx, r.Payee, coarse(r.Amount), r.Depth-1); err == nil {
			return &wire.Route{Bankers: append([]wire.RouteHop{own}, list[0].Bankers...)}, nil
		}
	}
	y.decline(id)
	return nil, errNoWay
}

// errNoWay refuses a route in the same words whatever the reason.
var errNoWay = wire.Refuse(wire.NoRoute, "no route for that amount")

// coarse rounds an amount up to three significant binary digits. A banker
// answers for the rounded amount, so answers do not tell its balances.
func coarse(a wire.Msat) wire.Msat {
	shift := max(bits.Len64(uint64(a))-3, 0)
	unit := wire.Msat(1) << shift
	return (a + unit - 1) / unit * unit
}

// A payer may be refused this many routes at once, and one more after each
// pause.
const (
	declinedBurst = 20
	declinedPause = 10 * time.Second
)

func (y *Banks) refusals(id bank.ID) *rate.Limiter {
	l := rate.NewLimiter(rate.Every(declinedPause), declinedBurst)
	if old, ok, _ := y.declined.PeekOrAdd(id, l); ok {
		y.declined.Get(id) // used: it is not the next to be forgotten
		return old
	}
	return l
}

// mayAsk refuses a payer that was refused too many routes lately.
func (y *Banks) mayAsk(id bank.ID) error {
	if y.refusals(id).Tokens() < 1 {
		return wire.Refuse(wire.Busy, "too many routes refused: ask again in %v", declinedPause)
	}
	return nil
}

// decline counts a refused route.
func (y *Banks) decline(id bank.ID) { y.refusals(id).Allow() }

// Payment is what to pay, and how.
type Payment struct {
	To     wire.Key
	Amount wire.Msat
	Step   wire.Msat // 0: all at once without bankers, otherwise a tenth
	MaxFee wire.Msat
	Memo   string // told to the payee, as is
	// Reference of the payee, such as an invoice's number.
	Reference string
	Private   string // a note for the payer alone
	// Key, if set, is an idempotency key: a repeated request pays nothing, and
	// returns the same payment.
	Key string
}

// digest identifies the request.
func (p *Payment) digest() wire.Hash {
	return wire.Tagged("bank-order-payment", fmt.Appendf(nil, "%v %d %d %d %q %q %q", p.To, p.Amount, p.Step, p.MaxFee, p.Memo, p.Reference, p.Private))
}

// PayTo pays an amount through a bank with the payee, or through bankers. When
// it returns, the engine does the rest. It may return ErrNoRoute, bank.ErrFee or
// ErrKey.
func (b *Banks) PayTo(ctx context.Context, p Payment) (wire.Hash, error) {
	var id wire.Hash
	text := &wire.NoteText{Reference: p.Reference, Memo: p.Memo}
	if _, err := rand.Read(text.Salt[:]); err != nil {
		return id, err
	}
	if err := text.Check(); err != nil || !utf8.ValidString(p.Reference) || !utf8.ValidString(p.Memo) {
		return id, fmt.Errorf("%w: a reference has at most %d bytes, a memo %d, both in UTF-8", bank.ErrOrder, wire.MaxReference, wire.MaxMemo)
	}
	id = wire.PaymentID(b.cfg.Network, text)
	known, unlock, err := b.once(ctx, p.Key, orderPayment, p.digest())
	if err != nil {
		return id, err
	}
	defer unlock()
	if known != nil {
		return known.Of, nil
	}
	o, err := b.planPayment(ctx, &p)
	if err != nil {
		return id, err
	}
	o.Text = text
	s, effects, err := bank.NewSending(id, *o)
	if err != nil {
		return id, err
	}
	order := Order{What: orderPayment, Of: id, Terms: p.digest(), At: o.Created}
	return id, b.cfg.Engine.CreateWith(ctx, func(tx engine.Tx) (engine.Creation, error) {
		return engine.Creation{Ref: sendingRef(id), State: s, Effects: engine.EffectsOf(effects)}, order.keep(tx, p.Key)
	})
}

// EndPayment ends a payment after the current step; ResumePayment resumes it.
// They return bank.ErrStopped or ErrNoBank.
func (b *Banks) EndPayment(ctx context.Context, id wire.Hash) error {
	return b.tellPayment(ctx, id, bank.Ended{Why: "by its user"})
}

// ResumePayment resumes a payment that ended before everything was paid.
func (b *Banks) ResumePayment(ctx context.Context, id wire.Hash) error {
	return b.tellPayment(ctx, id, bank.Resumed{})
}

func (b *Banks) tellPayment(ctx context.Context, id wire.Hash, ev bank.Event) error {
	_, err := b.cfg.Engine.Tell(ctx, sendingRef(id), ev)
	if errors.Is(err, engine.ErrNoContract) {
		return ErrNoBank
	}
	return err
}

// Pair implements p2p.Banks: the payer of a bank here requests a reverse bank.
func (y *Service) Pair(ctx context.Context, r *wire.PairRequest) (*wire.PairOpened, error) {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	unlock, err := y.lock(ctx, wire.Tagged("bank-pairs")) // of all: they share a limit
	if err != nil {
		return nil, err
	}
	defer unlock()
	in, err := y.payee(ctx, r.Bank)
	if err != nil {
		return nil, err
	}
	if err := in.Taking(); err != nil {
		return nil, err
	}
	if r.Expiry > in.Expiry || uint64(r.Rungs)*uint64(r.PerRung) > uint64(in.Ladder.N()) {
		return nil, wire.Refuse(wire.TooLong, "a reverse bank must not expire later or have more pennies")
	}
	out := wire.Refuse(wire.Full, "this payee opens no reverse banks")
	if y.cfg.Policy.Back == 0 {
		return nil, out
	}
	held, failed, mine := wire.Sat(0), 0, (*bank.Payer)(nil)
	if err := y.Payers(ctx, func(p bank.Payer) error {
		if p.Terms.Pair == r.Bank && p.State() == bank.StateFailed {
			failed++
		}
		if p.Terms.Pair == (bank.ID{}) || p.State() == bank.StateFailed || p.Spend != nil {
			return nil
		}
		held += p.Ladder.Value
		if p.Terms.Pair == r.Bank {
			mine = &p
		}
		return nil
	}); err != nil {
		return nil, err
	}
	switch {
	case mine != nil:
		return &wire.PairOpened{Bank: mine.Bank}, nil
	case failed >= maxPairTries:
		return nil, wire.Refuse(wire.Full, "it was refused %d times", failed)
	case r.Value > in.Ladder.Value:
		return nil, wire.Refuse(wire.TooBig, "a reverse bank of %v; the maximum is %v", r.Value, in.Ladder.Value)
	case held+r.Value > y.cfg.Policy.Back:
		return nil, wire.Refuse(wire.Full, "%v of at most %v are in reverse banks", held, y.cfg.Policy.Back)
	}
	tip := y.cfg.Engine.Position().Height
	if r.Expiry < tip {
		return nil, wire.Refuse(wire.TooLate, "it would expire at %d", r.Expiry)
	}
	id, err := y.OpenBank(ctx, Terms{Peer: bank.Peer{Key: r.Key, Addrs: r.Addrs}, Value: r.Value, Rungs: r.Rungs, PerRung: r.PerRung,
		Blocks: uint32(r.Expiry - tip), MaxFee: r.Value / 20, Pair: r.Bank})
	if err != nil {
		return nil, wire.Refuse(wire.BadRequest, "%w", err)
	}
	return &wire.PairOpened{Bank: id}, nil
}

// maxPairTries is the number of times that a reverse bank is offered.
const maxPairTries = 3

// askPair asks for the reverse bank that was ordered with a bank. A payee that does
// not answer, or is busy, is asked again.
func (b *Banks) askPair(ctx context.Context, p *bank.Payer, value wire.Sat) (bank.Event, error) {
	id, err := b.AskPair(ctx, p.Bank, value)
	var refused *p2p.Refused
	switch {
	case errors.As(err, &refused) && refused.Code != wire.Busy && refused.Code != wire.Internal && refused.Code != wire.NotConfirmed,
		errors.Is(err, ErrNoPayee), errors.Is(err, bank.ErrNotOpen):
		return bank.Paired{Why: err.Error()}, nil
	case err != nil:
		return nil, err
	}
	return bank.Paired{Bank: id}, nil
}

// AskPair asks the payee of a bank for a reverse bank of the same shape. It may
// return bank.ErrNotOpen or p2p.Refused.
func (b *Banks) AskPair(ctx context.Context, id bank.ID, value wire.Sat) (bank.ID, error) {
	p, err := b.payer(ctx, id)
	if err != nil {
		return bank.ID{}, err
	}
	if b.cfg.Policy == nil || b.host == nil {
		return bank.ID{}, ErrNoPayee
	}
	if state := p.State(); state != bank.StateOpen {
		return bank.ID{}, fmt.Errorf("%w: it is %s", bank.ErrNotOpen, state)
	}
	r := &wire.PairRequest{Bank: id, Key: b.cfg.Self, Addrs: b.host.Public(), Value: value, Rungs: p.Ladder.Rungs, PerRung: p.Ladder.PerRung, Expiry: p.Expiry}
	var o *wire.PairOpened
	if err := untilConfirmed(ctx, func() (err error) {
		o, err = b.cfg.Calls.Pair(ctx, p.Terms.Peer, b.as(&p), r)
		return err
	}); err != nil {
		return bank.ID{}, err
	}
	return o.Bank, nil
}

// ErrNoPayee means that this node accepts no banks.
var ErrNoPayee = errors.New("this daemon accepts no banks")

var _ p2p.Banks = (*Service)(nil)
