package banking

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Policy is a node's policy as the payee of penny banks.
type Policy struct {
	bank.Policy
	// Fees, if set, make it a banker: it forwards payments.
	Fees *wire.Fees
	// Back is the maximum total that it puts into reverse banks requested by
	// payers.
	Back wire.Sat
	// OfferPause is the pause after which a peer may offer one more bank, once it
	// has offered offersBurst at once; 0 means offersPause.
	OfferPause time.Duration
}

// lock serialises work on something. It is held across network requests, so
// waiting for it ends with ctx.
func (b *Banks) lock(ctx context.Context, id wire.Hash) (unlock func(), err error) {
	b.mu.Lock()
	c := b.locks[id]
	if c == nil {
		c = make(chan struct{}, 1)
		b.locks[id] = c
	}
	b.users[id]++
	b.mu.Unlock()
	leave := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.users[id]--; b.users[id] == 0 {
			delete(b.users, id)
			delete(b.locks, id)
		}
	}
	select {
	case c <- struct{}{}:
		return func() { <-c; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// lockPayee is lock for a bank of which this node is payee. Strangers choose such
// ids, so they must not be those of other locks.
func (b *Banks) lockPayee(ctx context.Context, id bank.ID) (unlock func(), err error) {
	return b.lock(ctx, wire.Tagged("bank-lock-payee", id[:]))
}

func payerRef(id bank.ID) engine.Ref { return engine.Ref{Kind: bank.KindPayer, ID: id} }
func payeeRef(id bank.ID) engine.Ref { return engine.Ref{Kind: bank.KindPayee, ID: id} }
func sendingRef(payment wire.Hash) engine.Ref {
	return engine.Ref{Kind: bank.KindSending, ID: payment}
}

// ErrNoBank means that there is no such bank or payment.
var ErrNoBank = errors.New("no such bank or payment")

// bucketPaper stores the papers of banks: role ‖ id → paper.
const bucketPaper = "bank/paper"

// bucketFunding stores the confirmed fundings of banks of others, under the keys
// of bucketPaper.
const bucketFunding = "bank/funding"

func paperKey(ref engine.Ref) []byte {
	role := byte('r')
	if ref.Kind == bank.KindPayee {
		role = 'e'
	}
	return append([]byte{role}, ref.ID[:]...)
}

func keepPaper(tx engine.Tx, ref engine.Ref, p *bank.Paper) error {
	raw, err := wire.Marshal(p)
	if err != nil {
		return err
	}
	return tx.Put(bucketPaper, paperKey(ref), raw)
}

// paperIn returns the paper of the bank at an outpoint, which never changes. An
// id may be reused after a bank that was never funded; an outpoint cannot.
func (b *Banks) paperIn(tx engine.Tx, ref engine.Ref, at wire.Outpoint) (*bank.Paper, error) {
	cached := cachedPaper(ref, at)
	if p, ok := b.papers.Get(cached); ok {
		return p, nil
	}
	raw, err := tx.Get(bucketPaper, paperKey(ref))
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, fmt.Errorf("%w: the paper of %v is gone", ErrNoBank, ref)
	}
	p := new(bank.Paper)
	if err := wire.Unmarshal(raw, p); err != nil {
		return nil, err
	}
	b.papers.Add(cached, p)
	return p, nil
}

// cachedPaper is a paper's key in the cache.
func cachedPaper(ref engine.Ref, at wire.Outpoint) string {
	return string(append(at.Bytes(), paperKey(ref)...))
}

func (b *Banks) paper(ctx context.Context, ref engine.Ref, at wire.Outpoint) (p *bank.Paper, err error) {
	if p, ok := b.papers.Get(cachedPaper(ref, at)); ok {
		return p, nil
	}
	err = b.cfg.Store.View(ctx, func(tx engine.Tx) error {
		p, err = b.paperIn(tx, ref, at)
		return err
	})
	return p, err
}

func (b *Banks) payer(ctx context.Context, id bank.ID) (bank.Payer, error) {
	s, err := b.cfg.Engine.State(ctx, payerRef(id))
	if errors.Is(err, engine.ErrNoContract) {
		return bank.Payer{}, ErrNoBank
	}
	if err != nil {
		return bank.Payer{}, err
	}
	return s.(bank.Payer), nil
}

// as makes requests about a bank as its payer. Signatures are cached: there is
// one for each channel, that is for each bank and run of the daemon.
func (b *Banks) as(p *bank.Payer) *p2p.Payer {
	return &p2p.Payer{Bank: p.Bank, Sign: func(digest wire.Hash) (wire.Signature, error) {
		if sig, ok := b.proofs.Get(digest); ok {
			return sig, nil
		}
		sig, err := wire.Sign(bank.PayerKey(p.Root), digest)
		if err == nil {
			b.proofs.Add(digest, sig)
		}
		return sig, err
	}}
}

// Terms are the terms of a bank.
type Terms struct {
	Peer    bank.Peer
	Value   wire.Sat
	Rungs   uint32
	PerRung uint32
	Blocks  uint32 // of life
	MaxFee  wire.Sat
	Memo    string
	Pair    bank.ID // the reverse bank, if it was requested
	// Back is the value of a reverse bank that the payee is asked for once this one is
	// open; 0 for none.
	Back wire.Sat
	// Key, if set, is an idempotency key: a repeated request opens nothing, and
	// returns the same bank.
	Key string
}

// digest identifies the request.
func (t *Terms) digest() wire.Hash {
	text := fmt.Appendf(nil, "%v %d %d %d %d %d %q %v", t.Peer.Key, t.Value, t.Rungs, t.PerRung, t.Blocks, t.MaxFee, t.Memo, t.Pair)
	if t.Back > 0 {
		text = fmt.Appendf(text, " %d", t.Back)
	}
	return wire.Tagged("bank-order-open", text)
}

// OpenedBank returns the bank that was opened under the idempotency key of a
// request, or nil. Unlike OpenBank it needs neither the payee's addresses nor the
// chain. It may return ErrKey.
func (b *Banks) OpenedBank(ctx context.Context, t Terms) (*bank.ID, error) {
	known, unlock, err := b.once(ctx, t.Key, orderBank, t.digest())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if known == nil {
		return nil, nil
	}
	return &known.Of, nil
}

// OpenBank starts to open a bank. When it returns, the engine does the rest. It
// may return ErrKey.
func (b *Banks) OpenBank(ctx context.Context, t Terms) (bank.ID, error) {
	if err := b.cfg.Coins.Synced(ctx); err != nil {
		return bank.ID{}, err
	}
	var id bank.ID
	if _, err := rand.Read(id[:]); err != nil {
		return id, err
	}
	known, unlock, err := b.once(ctx, t.Key, orderBank, t.digest())
	if err != nil {
		return id, err
	}
	defer unlock()
	if known != nil {
		return known.Of, nil
	}
	if t.Back > 0 && (b.cfg.Policy == nil || b.host == nil) {
		return id, ErrNoPayee
	}
	m := b.margins
	if t.Blocks < m.MinLife+uint32(m.Conf) || t.Blocks > m.MaxLife {
		return id, fmt.Errorf("%w: a bank of %d blocks, of %d to %d", penny.ErrLadder, t.Blocks, m.MinLife+uint32(m.Conf), m.MaxLife)
	}
	if _, err := bank.Small(penny.Ladder{Value: t.Value, Rungs: t.Rungs, PerRung: t.PerRung}, b.cfg.Engine.FeeRate()); err != nil {
		return id, err
	}
	// Add a margin: the payee's tip may be ahead of ours.
	p, effects, err := bank.NewPayer(id, bank.Terms{Peer: t.Peer, Value: t.Value, Rungs: t.Rungs, PerRung: t.PerRung,
		Expiry: b.cfg.Engine.Position().Height + wire.Height(t.Blocks), MaxFee: t.MaxFee, Memo: wire.Clean(t.Memo), Pair: t.Pair, Back: t.Back, Created: time.Now().Unix(), Margins: m})
	if err != nil {
		return id, err
	}
	order := Order{What: orderBank, Of: id, Terms: t.digest(), At: time.Now().Unix()}
	return id, b.cfg.Engine.CreateWith(ctx, func(tx engine.Tx) (engine.Creation, error) {
		return engine.Creation{Ref: payerRef(id), State: p, Effects: engine.EffectsOf(effects)}, order.keep(tx, t.Key)
	})
}

// Quote is the cost of opening and closing a bank at the current fee rate.
type Quote struct {
	Ladder  penny.Ladder
	Funding wire.Sat // fee of the funding with one input and change
	Close   wire.Sat // fee of the payee's close alone
	Warning string
}

// QuoteBank returns the cost of a bank. It may return bank.ErrTooSmall or
// penny.ErrLadder.
func (b *Banks) QuoteBank(l penny.Ladder) (q Quote, err error) {
	if err := l.Check(); err != nil {
		return q, err
	}
	rate := b.cfg.Engine.FeeRate()
	q = Quote{Ladder: l, Close: bank.CloseCost(l.Rungs, rate)}
	q.Funding = rate.Fee(contract.VSize(contract.BankFundingWeight + contract.KeySpendInputWeight + contract.P2TROutputWeight))
	q.Warning, err = bank.Small(l, rate)
	return q, err
}

// Payers lists the banks of this node as payer, and Payees as payee, oldest first.
func (b *Banks) Payers(ctx context.Context, f func(bank.Payer) error) error {
	return engine.Each(ctx, b.cfg.Store, bank.KindPayer, func(_ engine.Ref, p bank.Payer) error { return f(p) })
}

// Payees lists the banks of this node as payee, oldest first.
func (b *Banks) Payees(ctx context.Context, f func(bank.Payee) error) error {
	return engine.Each(ctx, b.cfg.Store, bank.KindPayee, func(_ engine.Ref, y bank.Payee) error { return f(y) })
}

// Sendings lists this node's payments, oldest first.
func (b *Banks) Sendings(ctx context.Context, f func(bank.Sending) error) error {
	return engine.Each(ctx, b.cfg.Store, bank.KindSending, func(_ engine.Ref, s bank.Sending) error { return f(s) })
}

// Relays lists the payments that this node passed on or received, oldest first.
func (b *Banks) Relays(ctx context.Context, f func(bank.Relay) error) error {
	return engine.Each(ctx, b.cfg.Store, bank.KindRelay, func(_ engine.Ref, r bank.Relay) error { return f(r) })
}

// minPrefix is the minimum number of digits of an ID.
const minPrefix = 4

// FindBank finds a bank, a payment, or an order of pennies, by its ID or the
// first digits of it. The state is a bank.Payer, bank.Payee, bank.Sending or
// Ordered. It returns ErrNoBank or
// engine.ErrAmbiguous.
func (b *Banks) FindBank(ctx context.Context, prefix string) (state any, err error) {
	prefix = strings.ToLower(prefix)
	if len(prefix) < minPrefix {
		return nil, fmt.Errorf("%w: %q has fewer than %d digits", ErrNoBank, prefix, minPrefix)
	}
	var found wire.Hash
	err = b.cfg.Store.View(ctx, func(tx engine.Tx) error {
		for _, kind := range []struct {
			engine.Kind
			read func([]byte) (any, error)
		}{{bank.KindPayer, stateOf[bank.Payer]}, {bank.KindPayee, stateOf[bank.Payee]}, {bank.KindSending, stateOf[bank.Sending]}} {
			// Only what is asked for is decoded: another contract that cannot be read
			// does not matter.
			if err := tx.Each(kind.Kind, true, func(ref engine.Ref, raw []byte) (err error) {
				if !strings.HasPrefix(ref.ID.String(), prefix) {
					return nil
				}
				if state != nil && found != ref.ID {
					return fmt.Errorf("%w: %s", engine.ErrAmbiguous, prefix)
				}
				if state == nil {
					found = ref.ID
					if state, err = kind.read(raw); err != nil {
						return fmt.Errorf("%s: %w", ref, err)
					}
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && state == nil {
		o, err := b.findOrder(ctx, prefix)
		if err != nil {
			return nil, err
		}
		return *o, nil
	}
	return state, err
}

// stateOf decodes a contract's state.
func stateOf[S any](raw []byte) (any, error) {
	var s S
	err := wire.Unmarshal(raw, &s)
	return s, err
}

// Streaming is how pennies go out.
type Streaming struct {
	Each   bool   // one by one; otherwise one penny pays for up to wire.MaxSkip
	Window uint32 // messages, or with Each pennies, in flight
	// Key, if set, is an idempotency key: pennies are ordered under it once,
	// however often they are requested.
	Key string
	// Progress, if set, is called with the count that the payee holds.
	Progress func(count, target uint32)
}

// PayPennies orders pennies and streams them. When it returns nil, the payee
// holds all that were ordered. If it returns ErrOrdered, the order is stored and
// continues in the background: a request that is repeated without the same key
// would pay again. It may return ErrKey.
func (b *Banks) PayPennies(ctx context.Context, id bank.ID, pennies uint32, s Streaming) (bank.Payer, error) {
	terms := wire.Tagged("bank-order-pennies", id[:], binary.BigEndian.AppendUint32(nil, pennies))
	known, unlockKey, err := b.once(ctx, s.Key, orderPennies, terms)
	if err != nil {
		return bank.Payer{}, err
	}
	defer unlockKey()
	if known != nil {
		if p, err := b.payer(ctx, id); err != nil || p.Acked >= known.Target {
			return p, err
		}
	}
	unlock, err := b.lock(ctx, id) // before the order's own effect
	if err != nil && known != nil {
		err = fmt.Errorf("%w: %w", ErrOrdered, err)
	}
	if err != nil {
		return bank.Payer{}, err
	}
	defer unlock()
	if known == nil {
		if known, err = b.orderPennies(ctx, id, pennies, terms, s.Key); err != nil {
			return bank.Payer{}, err
		}
	}
	p, err := b.stream(ctx, id, s)
	switch {
	case p.Acked >= known.Target:
		return p, nil // whatever happened to the stream afterwards
	case err != nil && !endsStream(&p, err):
		return p, fmt.Errorf("%w: %w", ErrOrdered, err)
	case err == nil:
		return p, fmt.Errorf("%w: it is %s, with %d of %d pennies acknowledged", bank.ErrNotOpen, p.State(), p.Acked, known.Target)
	}
	return p, err
}

// orderPennies stores an order.
func (b *Banks) orderPennies(ctx context.Context, id bank.ID, pennies uint32, terms wire.Hash, key string) (*Order, error) {
	o := Order{What: orderPennies, Of: id, Terms: terms, Pennies: pennies, At: time.Now().Unix()}
	state, err := b.cfg.Engine.TellWith(ctx, payerRef(id), bank.Ordered{Pennies: pennies}, func(tx engine.Tx) error {
		if key == "" {
			return nil
		}
		// The step's result, because a payment may have ordered meanwhile.
		raw, err := tx.State(payerRef(id))
		if err != nil {
			return err
		}
		var p bank.Payer
		if err := wire.Unmarshal(raw, &p); err != nil {
			return err
		}
		o.Target = p.Target
		return o.keep(tx, key)
	})
	if errors.Is(err, engine.ErrNoContract) {
		err = ErrNoBank
	}
	if err != nil {
		return nil, err
	}
	o.Target = state.(bank.Payer).Target
	return &o, nil
}

// endsStream reports whether a bank's order is given up: the payee accepts no
// more, or has another bank.
func endsStream(p *bank.Payer, err error) bool {
	var refused *p2p.Refused
	return p.PayeeWhy != "" || p.Spend != nil || p.Buried() || errors.Is(err, bank.ErrBadBank) || errors.Is(err, ErrNoBank) ||
		errors.As(err, &refused) && refused.Code == wire.Unknown
}

// purse gives a bank's pennies; its lock is held.
func (b *Banks) purse(p *bank.Payer) *penny.Purse {
	if u, ok := b.purses.Get(p.Bank); ok {
		return u
	}
	u := penny.NewPurse(bank.Pence(p.Root, p.Ladder.N()))
	b.purses.Add(p.Bank, u)
	return u
}

// countOf returns the count of the penny with which a payee proves what it
// holds, or bank.ErrBadBank if the penny is not this bank's.
func countOf(p *bank.Payer, u *penny.Purse, known wire.OnePenny) (uint32, error) {
	c := p.Chain()
	y, err := c.Decode(known[:])
	if err != nil || y.Seq > p.Ladder.N() || u.At(y.Seq) != y {
		return 0, fmt.Errorf("%w: the payee shows a penny that is not this bank's", bank.ErrBadBank)
	}
	return p.Ladder.N() - y.Seq, nil
}

// stream sends what was ordered. The bank's lock must be held.
func (b *Banks) stream(ctx context.Context, id bank.ID, opt Streaming) (bank.Payer, error) {
	p, err := b.payer(ctx, id)
	if err != nil || p.Acked >= p.Target || p.Spend != nil {
		return p, err
	}
	u := b.purse(&p)
	count := p.Acked
	err = untilConfirmed(ctx, func() error { return b.streamOnce(ctx, &p, u, &count, opt) })
	var refused *p2p.Refused
	why := ""
	if errors.As(err, &refused) && (refused.Code == wire.Closed || refused.Code == wire.Spent || refused.Code == wire.Unknown && p.Acked == 0) {
		why = cmp.Or(refused.Text, refused.Code.String())
	}
	if err != nil && why == "" && count == p.Acked {
		return p, err
	}
	state, terr := b.cfg.Engine.Tell(context.WithoutCancel(ctx), payerRef(id), bank.Streamed{Count: count, Why: why})
	if terr != nil {
		return p, errors.Join(err, terr)
	}
	return state.(bank.Payer), err
}

// A payee may see the block that opens a bank a little later than its payer.
const confirmedTries, confirmedWait = 10, 300 * time.Millisecond

// untilConfirmed retries if the other side has not seen the last block yet.
func untilConfirmed(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		var refused *p2p.Refused
		if n == confirmedTries || !errors.As(err, &refused) || refused.Code != wire.NotConfirmed {
			return err
		}
		select {
		case <-time.After(confirmedWait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errTold means that the payee learnt that its home is an old copy. On the next
// stream it takes the pennies that it had.
var errTold = errors.New("the payee holds fewer pennies than it has acknowledged")

// streamOnce opens a stream and sends what was ordered on it.
func (b *Banks) streamOnce(ctx context.Context, p *bank.Payer, u *penny.Purse, count *uint32, opt Streaming) error {
	err := b.streamOn(ctx, p, u, count, opt)
	if errors.Is(err, errTold) {
		err = b.streamOn(ctx, p, u, count, opt)
	}
	return err
}

func (b *Banks) streamOn(ctx context.Context, p *bank.Payer, u *penny.Purse, count *uint32, opt Streaming) error {
	return b.cfg.Calls.Pennies(ctx, p.Terms.Peer, b.as(p), func(s *p2p.PennyStream) error {
		held, err := countOf(p, u, s.State.Known)
		if err != nil {
			return err
		}
		if held > p.Target {
			if _, err := b.cfg.Engine.Tell(ctx, payerRef(p.Bank), bank.Synced{Count: held}); err != nil {
				return err
			}
		}
		*count = held
		if held < p.Acked {
			// The payee's home is an old copy. The pennies that it had are its
			// own, though it must give nothing for them any more, because it may
			// have given it before. So it is told before it sees them.
			if s.State.Code == wire.OK {
				if err := b.cfg.Calls.Lost(ctx, p.Terms.Peer, b.as(p)); err != nil {
					return err
				}
				return errTold
			}
			if err := showAgain(s, p, u); err != nil {
				return err
			}
			*count = p.Acked
		}
		if s.State.Code != wire.OK {
			return &p2p.Refused{Code: s.State.Code, Text: s.State.Text}
		}
		return sendPennies(s, p, u, count, opt)
	})
}

// showAgain sends a payee the last penny that it had acknowledged.
func showAgain(s *p2p.PennyStream, p *bank.Payer, u *penny.Purse) error {
	c, to := p.Chain(), p.Ladder.N()-p.Acked
	known, err := c.Decode(s.State.Known[:])
	if err != nil {
		return err
	}
	var list wire.Pennies
	for seq := known.Seq; seq > to; {
		for list.List = list.List[:0]; seq > to && len(list.List) < wire.MaxPennies*wire.EncodedPenny; {
			seq -= min(wire.MaxSkip, seq-to)
			list.List = c.Encode(list.List, u.At(seq))
		}
		if err := s.Send(&list); err != nil {
			return err
		}
		var refused *p2p.Refused
		if _, err := s.Receive(); err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	return nil
}

// sendPennies sends pennies from a count to the target, and counts what is
// acknowledged.
func sendPennies(s *p2p.PennyStream, p *bank.Payer, u *penny.Purse, count *uint32, opt Streaming) error {
	c, all := p.Chain(), p.Ladder.N()
	step, window := uint32(wire.MaxSkip), min(max(opt.Window, 1), defaultWindow)
	if opt.Each {
		step, window = 1, max(opt.Window, 1)
	}
	var list wire.Pennies
	sent, flying := *count, []uint32(nil) // counts of pennies, or of messages' last ones
	for *count < p.Target {
		list.List = list.List[:0]
		for sent < p.Target && uint32(len(flying)) < window && len(list.List) < wire.MaxPennies*wire.EncodedPenny {
			sent += min(step, p.Target-sent)
			list.List = c.Encode(list.List, u.At(all-sent))
			if opt.Each {
				flying = append(flying, sent)
			}
		}
		if len(list.List) > 0 {
			if err := s.Send(&list); err != nil {
				return err
			}
			if !opt.Each {
				flying = append(flying, sent)
			}
			if uint32(len(flying)) < window && sent < p.Target {
				continue
			}
		}
		seq, err := s.Receive()
		if err != nil {
			return err
		}
		got := all - min(seq, all)
		if got > sent || got <= *count { // repeated acknowledgements must not delay the stream
			return fmt.Errorf("%w: %d pennies acknowledged after %d, of %d sent", bank.ErrBadBank, got, *count, sent)
		}
		*count = got
		flying = slices.DeleteFunc(flying, func(f uint32) bool { return f <= got })
		if opt.Progress != nil {
			opt.Progress(got, p.Target)
		}
	}
	return nil
}

// CloseBank closes a bank: as payer by asking the payee for a cooperative
// close, as payee alone. It returns bank.ErrNotOpen, or bank.ErrNoRung if a
// payee has no rung to close at and would only stop accepting pennies.
func (b *Banks) CloseBank(ctx context.Context, ref engine.Ref) error {
	if ref.Kind == bank.KindPayee {
		y, err := b.payee(ctx, ref.ID)
		if err == nil && y.Spend == nil && y.Rung() == 0 {
			return fmt.Errorf("%w: there is nothing to close for; the payer can refund it from block %d on", bank.ErrNoRung, y.Expiry)
		}
	}
	_, err := b.cfg.Engine.Tell(ctx, ref, bank.CloseWanted{})
	return err
}

// CancelBank cancels a bank before its funding is confirmed. A funding that was
// published is replaced by a transaction that takes its coins back; if the funding
// confirms first, the bank is open after all. It returns bank.ErrTooEarly if the
// funding is being published, and bank.ErrNotOpen if it is confirmed.
func (b *Banks) CancelBank(ctx context.Context, id bank.ID) error {
	p, err := b.payer(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case p.Phase != bank.PayerPublished:
		_, err = b.cfg.Engine.Tell(ctx, payerRef(id), bank.Cancelled{})
		return err
	case p.Confirmed != nil || p.Spend != nil:
		return fmt.Errorf("%w: its funding is confirmed", bank.ErrNotOpen)
	}
	if _, err := b.cfg.Coins.Cancel(ctx, p.At.Txid, wallet.Fee{}); err != nil {
		return err
	}
	_, err = b.cfg.Engine.Tell(context.WithoutCancel(ctx), payerRef(id), bank.Withdrawn{})
	return err
}

// BumpBank raises the fee of a bank's unconfirmed transaction: of a funding with a
// child that spends its change, of a close or refund by replacing it, with the
// other banks in it. Without a rate it pays twice as much as before, within the
// ceiling, and at least the estimate. It returns wallet.ErrFee above the ceiling, and bank.ErrTooEarly if there is nothing to bump.
func (b *Banks) BumpBank(ctx context.Context, ref engine.Ref, fee wallet.Fee) error {
	state, err := b.cfg.Engine.State(ctx, ref)
	if err != nil {
		return err
	}
	var sent *contract.Sent
	switch s := state.(type) {
	case bank.Payer:
		if s.Phase == bank.PayerPublished && s.Confirmed == nil && s.Spend == nil {
			_, err := b.cfg.Coins.Bump(ctx, s.At.Txid, fee)
			return err
		}
		sent = s.Refund
	case bank.Payee:
		if sent = s.Alone; !sent.Live() && s.Joined != nil {
			sent = s.Joined
		}
	}
	estimate := b.cfg.Engine.FeeRate()
	if fee.Rate == 0 {
		fee.Rate = max(min(2*sent.Rate(), wallet.MaxRate(estimate)), estimate)
	}
	if err := fee.CheckRate(estimate); err != nil {
		return err
	}
	_, err = b.cfg.Engine.Tell(ctx, ref, bank.Bumped{Rate: min(fee.Rate, batch.MaxRate)})
	return err
}

// RefOf names the contract of a bank's state.
func RefOf(state any) engine.Ref {
	switch s := state.(type) {
	case bank.Payer:
		return payerRef(s.Bank)
	case bank.Payee:
		return payeeRef(s.Bank)
	case bank.Sending:
		return sendingRef(s.ID)
	}
	return engine.Ref{}
}
