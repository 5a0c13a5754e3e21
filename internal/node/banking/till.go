package banking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Service answers the payers of the node's banks. It is a p2p.Banks.
type Service struct{ *Banks }

// payeeKey returns the secret of the payee's key in a bank. It derives from the
// identity, so a quote need not be stored.
func (y *Service) payeeKey(id bank.ID) wire.Secret {
	return wire.Secret(wire.Tagged("bank-payee", y.cfg.Identity[:], id[:]))
}

// known turns a missing bank into a refusal.
func knownBank(err error) error {
	if errors.Is(err, engine.ErrNoContract) {
		return errNoSuchBank
	}
	return err
}

var errNoSuchBank = wire.Refuse(wire.Unknown, "no such bank")

func (y *Banks) payee(ctx context.Context, id bank.ID) (bank.Payee, error) {
	s, err := y.cfg.Engine.State(ctx, payeeRef(id))
	if err != nil {
		return bank.Payee{}, knownBank(err)
	}
	return s.(bank.Payee), nil
}

// Terms implements p2p.Banks.
func (y *Service) Terms(ctx context.Context, r *wire.BankRequest) (*wire.BankQuote, error) {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	if err := bank.Takes(r, y.cfg.Policy.Policy, y.margins, y.cfg.Engine.Position().Height, y.cfg.Engine.FeeRate()); err != nil {
		return nil, err
	}
	key, err := y.payeeKey(r.Bank).PrivKey()
	if err != nil {
		return nil, err
	}
	return &wire.BankQuote{Payee: wire.XOnly(key.PubKey()), Conf: y.margins.ConfFor(r.Value)}, nil
}

// again answers a payer that did not receive the first answer.
func (y *Service) again(ctx context.Context, old *bank.Payee, o *wire.BankOpen) error {
	p, err := y.paper(ctx, payeeRef(old.Bank), old.At)
	if err != nil {
		return err
	}
	tx, err := contract.DecodeTx(o.Funding)
	if err != nil {
		return wire.Refuse(wire.BadRequest, "%w", err)
	}
	at := wire.Outpoint{Txid: contract.Txid(tx), Vout: o.Vout}
	if old.At != at || wire.DigestOf("bank-terms", &p.Terms) != wire.DigestOf("bank-terms", &o.Terms) {
		return wire.Refuse(wire.BadRequest, "another bank has this id")
	}
	return nil
}

// Admit implements p2p.Banks. A bank that does not exist is refused in the same
// words as a false proof.
func (y *Service) Admit(ctx context.Context, h *wire.BankHello, self, from peer.ID) error {
	payer, err := y.payerKeyOf(ctx, h.Bank)
	if err != nil {
		return err
	}
	a := admission{h.Bank, payer, from, h.Proof}
	if _, ok := y.admitted.Get(a); ok {
		return nil
	}
	if payer.Verify(wire.BankHelloDigest(h.Bank, []byte(from), []byte(self)), h.Proof) != nil {
		return errNoSuchBank
	}
	y.admitted.Add(a, struct{}{})
	return nil
}

// admission is a proof that was verified.
type admission struct {
	bank  bank.ID
	payer wire.Key
	from  peer.ID
	proof wire.Signature
}

// payerKeyOf returns the payer's key in a bank. It never changes while the bank
// exists; under the lock, the cached key is not that of a bank before it, which
// was never funded.
func (y *Service) payerKeyOf(ctx context.Context, id bank.ID) (wire.Key, error) {
	if k, ok := y.payerKeys.Get(id); ok {
		return k, nil
	}
	unlock, err := y.lockPayee(ctx, id)
	if err != nil {
		return wire.Key{}, err
	}
	defer unlock()
	s, err := y.payee(ctx, id)
	if err != nil {
		return wire.Key{}, err
	}
	y.payerKeys.Add(id, s.Payer)
	return s.Payer, nil
}

// counter counts the pennies of one bank as they arrive. All streams of the bank
// share it, so a payer gains nothing by sending the same pennies on several
// streams: each is hashed once.
type counter struct {
	y     *Service
	bank  bank.ID
	users int // streams; Banks.mu

	keep sync.Mutex // one commit at a time

	mu    sync.Mutex
	paper *bank.Paper // nil if it is gone, and no penny is accepted
	held  bank.Payee  // as of the last commit
	known penny.Penny // checked, and not below what is held
	// marks are checked pennies below what is held, the last of them known, at
	// most maxStep apart: Keep stores one after another, and need not hash to
	// find a penny in between.
	marks []penny.Penny
}

// till accepts the pennies of one stream.
type till struct {
	*counter
	first wire.BankState
	done  sync.Once
}

// falsePause is how long a bank pauses after a false penny, on all of its
// streams.
const falsePause = 2 * time.Second

// paused refuses if a false penny came to a bank a moment ago.
func (y *Service) paused(id bank.ID) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	if at, ok := y.wrong[id]; ok && time.Since(at) < falsePause {
		return wire.Refuse(wire.Busy, "a false penny came a moment ago")
	}
	return nil
}

// pause makes a bank pause after a false penny.
func (y *Service) pause(id bank.ID) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for id, at := range y.wrong {
		if time.Since(at) >= falsePause {
			delete(y.wrong, id)
		}
	}
	y.wrong[id] = time.Now()
}

// Till implements p2p.Banks.
func (y *Service) Till(ctx context.Context, id bank.ID) (p2p.Till, error) {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	if err := y.paused(id); err != nil {
		return nil, err
	}
	s, err := y.payee(ctx, id)
	if err != nil {
		return nil, err
	}
	paper, err := y.paper(ctx, payeeRef(id), s.At)
	if err != nil && s.Taking() == nil {
		return nil, err
	}
	y.mu.Lock()
	c := y.counters[id]
	if c == nil {
		c = &counter{y: y, bank: id, held: s, known: s.Known}
		y.counters[id] = c
	}
	c.users++
	y.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held.At != s.At || c.known.Seq > s.Known.Seq { // the id is that of another bank now
		c.held, c.known, c.marks = s, s.Known, nil
	} else if s.Known.Seq <= c.held.Known.Seq {
		c.held = s
	}
	if err == nil {
		c.paper = paper
	}
	return &till{counter: c, first: y.bankState(&s)}, nil
}

// Close implements p2p.Till.
func (t *till) Close() {
	t.done.Do(func() {
		t.y.mu.Lock()
		defer t.y.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(t.y.counters, t.bank)
		}
	})
}

// bankState returns a bank's state for its payer.
func (y *Service) bankState(s *bank.Payee) wire.BankState {
	out := wire.BankState{}
	c := s.Chain()
	copy(out.Known[:], c.Encode(nil, s.Known))
	banker := y.cfg.Policy.Fees != nil
	if banker {
		out.Reserve = y.reserve(s)
	}
	out.Credit = s.Credit(banker, out.Reserve)
	var refusal *wire.Refusal
	if errors.As(s.Taking(), &refusal) {
		out.Code, out.Text = refusal.Code, wire.Clean(refusal.Err.Error())
	}
	return out
}

// reserve returns a banker's reserve in a bank: its closing cost at twice the
// fee rate.
func (y *Banks) reserve(s *bank.Payee) wire.Sat {
	return bank.CloseCost(s.Ladder.Rungs, 2*y.cfg.Engine.FeeRate())
}

// State implements p2p.Till.
func (t *till) State() *wire.BankState { return &t.first }

// Check implements p2p.Till. A penny is refused unhashed if it is too far below
// the one before it, so a byte costs at most wire.MaxSkip hashes for every
// wire.EncodedPenny of them.
func (t *till) Check(list []byte) error {
	if err := t.y.paused(t.bank); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.held.Taking(); err != nil && t.held.Stop != bank.StopRestored || t.paper == nil {
		return err
	}
	c := t.held.Chain()
	was := t.known
	mark := func() {
		if t.known != was {
			t.marks, was = append(t.marks, t.known), t.known
		}
	}
	defer mark() // also of those before a false one: they are paid
	for ; len(list) > 0; list = list[min(len(list), wire.EncodedPenny):] {
		p, err := c.Decode(list[:min(len(list), wire.EncodedPenny)])
		if err != nil {
			return wire.Refuse(wire.BadRequest, "%w", err)
		}
		if p.Seq < t.known.Seq && t.known.Seq-p.Seq > wire.MaxSkip {
			return wire.Refuse(wire.TooBig, "%d pennies at once, at most %d are accepted", t.known.Seq-p.Seq, wire.MaxSkip)
		}
		switch err := c.Verify(t.known, p); {
		case errors.Is(err, penny.ErrSpent):
			return wire.Refuse(wire.BadRequest, "%w", err)
		case err != nil:
			t.y.pause(t.bank)
			return wire.Refuse(wire.WrongSecret, "%w", err)
		}
		if was.Seq-p.Seq > maxStep/2 {
			mark()
		}
		t.known = p
	}
	return nil
}

// maxStep is the maximum number of pennies in one commit, which needs as many
// hashes.
const maxStep = wire.MaxJump

// next returns the lowest checked penny that one commit can store, and how many
// marks it includes; the counter's mu is held.
func (c *counter) next() (p penny.Penny, n int) {
	p = c.held.Known
	for _, m := range c.marks {
		if m.Seq < c.held.Known.Seq {
			if c.held.Known.Seq-m.Seq > maxStep {
				break
			}
			p = m
		}
		n++
	}
	return p, n
}

// deliver returns the event for the next pennies, and how many marks it
// includes; or nil if there is nothing to store. mu is held.
func (t *till) deliver() (*engine.Delivery, int, error) {
	held := &t.held
	p, n := t.next()
	if n == 0 || p.Seq >= held.Known.Seq {
		return nil, 0, nil
	}
	from, to := held.Rung(), held.Ladder.Rung(held.Ladder.N()-p.Seq)
	if int(to) > len(t.paper.Terms.Locks) {
		return nil, 0, fmt.Errorf("bank %v: its paper has %d rungs", held.Bank, len(t.paper.Terms.Locks))
	}
	return &engine.Delivery{Ref: payeeRef(held.Bank), Event: bank.Paid{Height: t.y.cfg.Engine.Position().Height, Penny: p, Locks: t.paper.Terms.Locks[from:to]}}, n, nil
}

// delivered takes note of what a delivery with n marks has stored. It returns
// why the bank takes no more pennies.
func (t *till) delivered(now bank.Payee, n int) error {
	t.mu.Lock()
	t.held, t.marks = now, slices.Delete(t.marks, 0, n)
	t.mu.Unlock()
	if err := now.Taking(); err != nil && (now.Stop != bank.StopRestored || t.first.Code == wire.OK) {
		return err // a false lock, or a restored payee that did not say yet that it gives no credit
	}
	return nil
}

// Keep implements p2p.Till.
func (t *till) Keep(ctx context.Context) (uint32, error) {
	t.keep.Lock()
	defer t.keep.Unlock()
	for {
		t.mu.Lock()
		seq := t.held.Known.Seq
		d, n, err := t.deliver()
		t.mu.Unlock()
		if d == nil {
			return seq, err
		}
		s, err := t.y.cfg.Engine.Tell(ctx, d.Ref, d.Event)
		if err != nil {
			return seq, knownBank(err)
		}
		now := s.(bank.Payee)
		if err := t.delivered(now, n); err != nil {
			return now.Known.Seq, err
		}
	}
}

// KeepTogether implements p2p.KeepsTogether: the next pennies of all tills are
// one commit. What that leaves is kept one by one: pennies for which one commit
// is not enough, a bank that another stream is keeping, and failures.
func (t *till) KeepTogether(ctx context.Context, tills []p2p.Till) []p2p.Kept {
	kept := make([]p2p.Kept, len(tills))
	list := make([]engine.Delivery, 0, len(tills))
	type part struct{ i, n int }
	parts := make([]part, 0, len(tills)) // of each delivery: the till and its marks
	for i, other := range tills {
		o := other.(*till)
		if !o.keep.TryLock() { // waiting for it while others are held could be a deadlock
			continue
		}
		o.mu.Lock()
		d, n, err := o.deliver()
		o.mu.Unlock()
		if d == nil || err != nil {
			o.keep.Unlock()
			continue
		}
		list, parts = append(list, *d), append(parts, part{i, n})
	}
	if len(list) > 0 {
		told, err := t.y.cfg.Engine.TellEach(ctx, list)
		for k, p := range parts {
			o := tills[p.i].(*till)
			if err == nil && told[k].Err == nil {
				now := told[k].State.(bank.Payee)
				kept[p.i].Err = o.delivered(now, p.n)
			}
			o.keep.Unlock()
		}
	}
	for i, other := range tills {
		o := other.(*till)
		o.mu.Lock()
		kept[i].Seq = o.held.Known.Seq
		more := len(o.marks) > 0
		o.mu.Unlock()
		if kept[i].Err == nil && more {
			kept[i].Seq, kept[i].Err = o.Keep(ctx)
		}
	}
	return kept
}

// Lost implements p2p.Banks. From here on the bank gives no credit, and the payee
// closes it once its payer has had time to show its pennies again.
func (y *Service) Lost(ctx context.Context, id bank.ID) error {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return err
	}
	if s, err := y.payee(ctx, id); err != nil || s.Confirmed == nil || s.Stop != bank.NotStopped {
		return err // it gives no credit already, or has none
	}
	y.cfg.Log.Warn("a payer shows pennies that this home has acknowledged and does not hold: is the home an old copy?", "bank", payeeRef(id))
	_, err := y.cfg.Engine.Tell(ctx, payeeRef(id), bank.Lost{})
	return knownBank(err)
}

// OfferClose implements p2p.Banks.
func (y *Service) OfferClose(ctx context.Context, id bank.ID, unused wire.Msat) (*wire.CloseOffer, error) {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	s, err := y.payee(ctx, id)
	if err != nil {
		return nil, err
	}
	if y.cfg.Policy.Fees == nil {
		unused = 0 // a payee that forwards nothing keeps what it is paid
	}
	// Payments through a banker leave at most a rung and its reserve unused. The rest
	// was paid for something else, of which only the payer's own state knows.
	unused = min(unused, s.Ladder.Paid(s.Ladder.PerRung)+(2*y.reserve(&s)).Msat())
	ask := bank.CloseAsked{Unused: unused, Fee: bank.TogetherCost(s.Ladder.Rungs, y.cfg.Engine.FeeRate())}
	if s.Offer == nil {
		if err := y.cfg.Store.Update(ctx, func(tx engine.Tx) error {
			ask.Script, err = y.cfg.Coins.PeekScript(tx, wallet.External)
			return err
		}); err != nil {
			return nil, err
		}
	}
	now, err := y.cfg.Engine.Tell(ctx, payeeRef(id), ask)
	if err != nil {
		return nil, knownBank(err)
	}
	s = now.(bank.Payee)
	o := s.Offered()
	out := &wire.CloseOffer{Payer: o.Payer, Fee: o.Fee, Script: o.Script}
	c := s.Chain()
	copy(out.Known[:], c.Encode(nil, s.Known))
	return out, nil
}

// SignClose implements p2p.Banks.
func (y *Service) SignClose(ctx context.Context, r *wire.CloseSign) (*wire.CloseDone, error) {
	s, err := y.payee(ctx, r.Bank)
	if err != nil {
		return nil, err
	}
	if s.Joined != nil {
		return &wire.CloseDone{Txid: s.Joined.Txid}, nil
	}
	if s.Spend != nil && s.Spend.Together {
		return &wire.CloseDone{Txid: s.Spend.Txid}, nil
	}
	paper, err := y.paper(ctx, payeeRef(r.Bank), s.At)
	if err != nil {
		return nil, err
	}
	sent, err := s.Join(paper, r.Sig)
	if err != nil {
		return nil, err
	}
	now, err := y.cfg.Engine.TellWith(ctx, payeeRef(r.Bank), bank.CloseSigned{Sent: *sent}, func(tx engine.Tx) error {
		return y.cfg.Coins.UseScript(tx, s.Offer.Script)
	})
	if err != nil {
		return nil, knownBank(err)
	}
	if s = now.(bank.Payee); s.Joined == nil || s.Joined.Txid != sent.Txid {
		return nil, wire.Refuse(wire.Closed, "the bank is %s", s.State()) // changed meanwhile
	}
	return &wire.CloseDone{Txid: sent.Txid}, nil
}
