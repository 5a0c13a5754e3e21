package banking

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
		return wire.Refuse(wire.Unknown, "no such bank")
	}
	return err
}

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

// Limits on unfunded banks: in total, and per network or peer.
const (
	maxUnfunded     = 256
	maxUnfundedFrom = 64
)

// asker is the caller that asked for an unfunded bank, and the time.
type asker struct {
	p2p.Caller
	at time.Time
}

// openTime is the maximum time between a request for a bank and its opening.
const openTime = time.Minute

// Open implements p2p.Banks.
func (y *Service) Open(ctx context.Context, from p2p.Caller, o *wire.BankOpen) error {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return err
	}
	unlock, err := y.lock(ctx, o.Bank)
	if err != nil {
		return err
	}
	defer unlock()
	if old, err := y.payee(ctx, o.Bank); err == nil {
		return y.again(ctx, &old, o)
	}
	if err := y.room(ctx, o.Bank, from); err != nil {
		return err
	}
	state, effects, err := bank.NewPayee(o, y.payeeKey(o.Bank), y.cfg.Policy.Policy, y.margins, y.cfg.Engine.Position().Height, y.cfg.Engine.FeeRate())
	if err != nil {
		return err
	}
	return y.cfg.Engine.Create(ctx, engine.Creation{Ref: payeeRef(o.Bank), State: state, Effects: engine.EffectsOf(effects)})
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

// room refuses if there are too many banks.
func (y *Service) room(ctx context.Context, id bank.ID, from p2p.Caller) error {
	all, unfunded := 0, map[bank.ID]bool{}
	if err := y.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(bank.KindPayee, false, func(ref engine.Ref, raw []byte) error {
			var s bank.Payee
			if err := wire.Unmarshal(raw, &s); err != nil {
				return nil // it is not counted
			}
			all++
			unfunded[ref.ID] = !s.Funded
			return nil
		})
	}); err != nil {
		return err
	}
	b := y.Banks
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for old, c := range b.askers {
		if !unfunded[old] && now.Sub(c.at) > openTime {
			delete(b.askers, old)
		}
	}
	mine, waiting := 0, len(b.askers)
	for id, c := range b.askers {
		if _, there := unfunded[id]; there && !unfunded[id] {
			waiting-- // funded since
		} else if c.Peer == from.Peer || c.Network != "" && c.Network == from.Network {
			mine++
		}
	}
	for id, u := range unfunded {
		if _, known := b.askers[id]; u && !known {
			waiting++ // of before the daemon's start
		}
	}
	switch {
	case all >= y.cfg.Policy.MaxBanks:
		return wire.Refuse(wire.Full, "this payee has %d banks and accepts no more", all)
	case waiting >= maxUnfunded || mine >= maxUnfundedFrom:
		return wire.Refuse(wire.Full, "there are too many unfunded banks")
	}
	b.askers[id] = asker{from, now}
	return nil
}

// till accepts the pennies of one stream.
type till struct {
	y     *Service
	paper *bank.Paper
	first wire.BankState

	mu    sync.Mutex
	held  bank.Payee  // as of the last commit of this stream
	known penny.Penny // checked, and not below what is held
}

// falsePause is how long a bank pauses after a false penny, because each costs
// hashes.
const falsePause = 2 * time.Second

// Till implements p2p.Banks.
func (y *Service) Till(ctx context.Context, id bank.ID) (p2p.Till, error) {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	y.mu.Lock()
	for id, at := range y.wrong {
		if time.Since(at) >= falsePause {
			delete(y.wrong, id)
		}
	}
	_, paused := y.wrong[id]
	y.mu.Unlock()
	if paused {
		return nil, wire.Refuse(wire.Busy, "a false penny came a moment ago")
	}
	s, err := y.payee(ctx, id)
	if err != nil {
		return nil, err
	}
	t := &till{y: y, held: s, known: s.Known}
	if t.paper, err = y.paper(ctx, payeeRef(id), s.At); err != nil && s.Taking() == nil {
		return nil, err
	}
	t.first = y.bankState(&s)
	return t, nil
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

// Check implements p2p.Till.
func (t *till) Check(list []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.held.Taking(); err != nil && t.held.Stop != bank.StopRestored || t.paper == nil {
		return err
	}
	c := t.held.Chain()
	for ; len(list) > 0; list = list[wire.EncodedPenny:] {
		p, err := c.Decode(list[:wire.EncodedPenny])
		if err != nil {
			return wire.Refuse(wire.BadRequest, "%w", err)
		}
		if p.Seq < t.known.Seq && t.known.Seq-p.Seq > wire.MaxJump {
			return wire.Refuse(wire.TooBig, "%d pennies at once, at most %d are accepted", t.known.Seq-p.Seq, wire.MaxJump)
		}
		switch err := c.Verify(t.known, p); {
		case errors.Is(err, penny.ErrSpent):
			return wire.Refuse(wire.BadRequest, "%w", err)
		case err != nil:
			t.y.mu.Lock()
			t.y.wrong[t.held.Bank] = time.Now()
			t.y.mu.Unlock()
			return wire.Refuse(wire.WrongSecret, "%w", err)
		}
		t.known = p
	}
	return nil
}

// maxStep is the maximum number of pennies in one commit, which needs as many
// hashes.
const maxStep = wire.MaxJump

// KeepTogether implements p2p.KeepsTogether: the tills' next pennies are one
// commit. What that leaves is kept one by one.
func (t *till) KeepTogether(ctx context.Context, tills []p2p.Till) []p2p.Kept {
	kept := make([]p2p.Kept, len(tills))
	list := make([]engine.Delivery, 0, len(tills))
	at := make([]int, 0, len(tills)) // of each delivery
	for i, other := range tills {
		o := other.(*till)
		o.mu.Lock()
		d, err := o.next()
		kept[i] = p2p.Kept{Seq: o.held.Known.Seq, Err: err}
		o.mu.Unlock()
		if d != nil {
			list, at = append(list, *d), append(at, i)
		}
	}
	told, err := t.y.cfg.Engine.TellEach(ctx, list)
	for n, i := range at {
		o := tills[i].(*till)
		if err == nil && told[n].Err == nil {
			now := told[n].State.(bank.Payee)
			o.mu.Lock()
			o.held = now
			more := o.known.Seq < now.Known.Seq
			o.mu.Unlock()
			if kept[i] = (p2p.Kept{Seq: now.Known.Seq, Err: now.Taking()}); kept[i].Err != nil || !more {
				continue
			}
		}
		kept[i].Seq, kept[i].Err = o.Keep(ctx)
	}
	return kept
}

// next returns the event for the next pennies that are checked and not kept, or
// nil; mu is held.
func (t *till) next() (*engine.Delivery, error) {
	held, p := &t.held, t.known
	if p.Seq >= held.Known.Seq {
		return nil, nil
	}
	if held.Known.Seq-p.Seq > maxStep {
		c := held.Chain()
		p = c.Forward(p, held.Known.Seq-maxStep)
	}
	from, to := held.Rung(), held.Ladder.Rung(held.Ladder.N()-p.Seq)
	if int(to) > len(t.paper.Terms.Locks) {
		return nil, fmt.Errorf("bank %v: its paper has %d rungs", held.Bank, len(t.paper.Terms.Locks))
	}
	return &engine.Delivery{Ref: payeeRef(held.Bank), Event: bank.Paid{Height: t.y.cfg.Engine.Position().Height, Penny: p, Locks: t.paper.Terms.Locks[from:to]}}, nil
}

// Keep implements p2p.Till.
func (t *till) Keep(ctx context.Context) (uint32, error) {
	for {
		t.mu.Lock()
		held := t.held
		d, err := t.next()
		t.mu.Unlock()
		if d == nil || err != nil {
			return held.Known.Seq, err
		}
		s, err := t.y.cfg.Engine.Tell(ctx, d.Ref, d.Event)
		if errors.Is(err, bank.ErrWrongPhase) {
			// Another stream of this bank was faster.
			now, err := t.y.payee(ctx, held.Bank)
			if err != nil {
				return 0, err
			}
			if now.Known.Seq >= held.Known.Seq {
				return 0, fmt.Errorf("bank %v does not move", held.Bank)
			}
			t.mu.Lock()
			t.held = now
			t.mu.Unlock()
			continue
		}
		if err != nil {
			return held.Known.Seq, knownBank(err)
		}
		now := s.(bank.Payee)
		t.mu.Lock()
		t.held = now
		t.mu.Unlock()
		if err := now.Taking(); err != nil {
			return now.Known.Seq, err // a false lock, or a restored payee, which gives no credit
		}
	}
}

// OfferClose implements p2p.Banks.
func (y *Service) OfferClose(ctx context.Context, id bank.ID) (*wire.CloseOffer, error) {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	s, err := y.payee(ctx, id)
	if err != nil {
		return nil, err
	}
	ask := bank.CloseAsked{Fee: bank.TogetherCost(s.Ladder.Rungs, y.cfg.Engine.FeeRate())}
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
	paper, err := y.paper(ctx, payeeRef(r.Bank), s.At)
	if err != nil {
		return nil, err
	}
	sent, err := s.Join(paper, r.Sig)
	if err != nil {
		return nil, err
	}
	_, err = y.cfg.Engine.TellWith(ctx, payeeRef(r.Bank), bank.CloseSigned{Sent: *sent}, func(tx engine.Tx) error {
		return y.cfg.Coins.UseScript(tx, s.Offer.Script)
	})
	return &wire.CloseDone{Txid: sent.Txid}, err
}
