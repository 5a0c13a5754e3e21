package banking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// stepsOf is the default number of steps of a payment through bankers.
const stepsOf = 10

// PlanPayment returns the route of a payment: its legs, each with the bank of the
// first hop and the bankers. It may return ErrNoRoute or bank.ErrEmpty.
func (b *Banks) PlanPayment(ctx context.Context, p Payment) (*bank.Order, error) {
	return b.planPayment(ctx, &p)
}

// planPayment takes one bank if one has enough left, and several together if not.
// Banks with the payee come first.
func (b *Banks) planPayment(ctx context.Context, p *Payment) (*bank.Order, error) {
	if p.Amount < minPayment {
		return nil, fmt.Errorf("%w: of %v; the minimum is %v", bank.ErrOrder, p.Amount, minPayment)
	}
	o := &bank.Order{Payee: p.To, Total: p.Amount, Step: p.Step, MaxFee: p.MaxFee, Memo: wire.Clean(p.Private), Created: time.Now().Unix()}
	direct, err := b.bankWith(ctx, p.To, p.Amount)
	if err == nil {
		o.Bank, o.Step = direct.Bank, cmp.Or(p.Step, p.Amount)
		return o, nil
	}
	if !errors.Is(err, ErrNoBank) {
		return nil, err
	}
	sources, err := b.direct(ctx, p.To, nil)
	if err != nil {
		return nil, err
	}
	if legs, all := split(sources, 0, o.Total, o.Total); all == o.Total {
		o.Step = cmp.Or(p.Step, p.Amount)
		*o = o.Reroute(legs)
		return o, nil
	}
	o.Step = min(cmp.Or(p.Step, max(p.Amount/stepsOf, 1)), p.Amount)
	routes, err := b.routes(ctx, p.To, o.Step, 1)
	if errors.Is(err, ErrNoRoute) && !errors.Is(err, errNobody) {
		// A banker can be a block behind, and its bank with the payee just open.
		select {
		case <-time.After(routeAgain):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		routes, err = b.routes(ctx, p.To, o.Step, 1)
	}
	switch {
	case errors.Is(err, ErrNoRoute) && len(sources) == 0:
		return nil, err
	case err != nil && !errors.Is(err, ErrNoRoute):
		return nil, err
	}
	for _, r := range routes {
		l := bank.Leg{Bankers: r.Bankers}
		via, err := b.bankerWith(ctx, r.Bankers[0].Key, o.Total+l.Fees(o.Total, o.Step))
		if err == nil {
			o.Bank, o.Bankers = via, r.Bankers
			return o, nil
		}
		if !errors.Is(err, ErrNoBank) {
			return nil, err
		}
	}
	if sources, err = b.through(ctx, sources, routes, nil); err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("%w: of the bankers that reach it, none says its reserve for closing, or it is too large", ErrNoRoute)
	}
	legs, all := split(sources, 0, o.Total, o.Step)
	if all < o.Total {
		return nil, notEnough(sources, o.Total, all)
	}
	*o = o.Reroute(legs)
	return o, nil
}

// replan returns the legs of what is not paid yet of a payment, or nil if there is
// no way now. Banks on which a step is not acknowledged are left out. A payment that
// was to be paid at once, without bankers, goes over bankers in smaller steps. If its
// next hop is mute, the banks with that hop are left out.
func (b *Banks) replan(ctx context.Context, s *bank.Sending, mute bool) (*bank.Rerouted, error) {
	var away wire.Key
	if mute {
		p, err := b.payer(ctx, s.Current().Bank)
		if err != nil {
			return nil, err
		}
		away = p.Terms.Peer.Key
	}
	free := func(p *bank.Payer) bool { return p.Outstanding == nil && (!mute || p.Terms.Peer.Key != away) }
	sources, err := b.direct(ctx, s.Order.Payee, free)
	if err != nil {
		return nil, err
	}
	step, rest := s.Order.Step, s.Order.Total-s.Asked
	legs, all := split(sources, s.Asked, s.Order.Total, step)
	if all == s.Order.Total {
		return &bank.Rerouted{Legs: legs}, nil
	}
	if step == s.Order.Total && !slices.ContainsFunc(s.Order.Legs(), func(l bank.Leg) bool { return len(l.Bankers) > 0 }) {
		step = min(step, max(rest/stepsOf, minPayment))
	}
	routes, err := b.routes(ctx, s.Order.Payee, min(step, rest), 1)
	if err != nil && !errors.Is(err, ErrNoRoute) {
		return nil, err
	}
	if sources, err = b.through(ctx, sources, routes, free); err != nil {
		return nil, err
	}
	if legs, all = split(sources, s.Asked, s.Order.Total, step); all < s.Order.Total {
		return nil, nil
	}
	return &bank.Rerouted{Legs: legs, Step: step}, nil
}

// source is a bank and what a payment can take from it, including fees.
type source struct {
	bank.Leg
	room wire.Msat
	busy int // 1 if it takes no step now
}

// split divides what is not paid yet of a total between sources in their order,
// and returns the part of the total that they reach. A hop accepts no first step
// under minPayment, so no leg is smaller, except that the final payee, who has the
// payment already, takes any rest.
func split(sources []source, from, total, step wire.Msat) (legs []bank.Leg, reached wire.Msat) {
	reached = from
	for _, s := range sources {
		left := total - reached
		n := min(s.Most(s.room, step), left)
		if rest := left - n; rest > 0 && rest < minPayment {
			n -= min(n, minPayment-rest)
		}
		if n == 0 || n < minPayment && (n < left || len(s.Bankers) > 0) {
			continue
		}
		legs = append(legs, bank.Leg{From: reached, Bank: s.Bank, Bankers: s.Bankers})
		if reached += n; reached == total {
			break
		}
	}
	return legs, reached
}

// largest sorts sources so that few are needed, and those that take no step now come
// last.
func largest(list []source) {
	slices.SortStableFunc(list, func(a, c source) int { return cmp.Or(a.busy-c.busy, cmp.Compare(c.room, a.room)) })
}

// direct returns the open banks with a payee that have something left.
func (b *Banks) direct(ctx context.Context, payee wire.Key, which func(*bank.Payer) bool) (list []source, err error) {
	banks, err := b.banksWith(ctx, payee)
	for i := range banks {
		if p := &banks[i]; p.Spendable() == nil && p.Left() > 0 && (which == nil || which(p)) {
			list = append(list, source{bank.Leg{Bank: p.Bank}, p.Left(), busy(p)})
		}
	}
	largest(list)
	return list, err
}

// through appends the open banks with the bankers of routes, in the routes' order.
// A banker that does not tell its reserve is left out.
func (b *Banks) through(ctx context.Context, list []source, routes []*wire.Route, which func(*bank.Payer) bool) ([]source, error) {
	for _, r := range routes {
		banks, err := b.banksWith(ctx, r.Bankers[0].Key)
		if err != nil {
			return nil, err
		}
		var more []source
		for i := range banks {
			p := &banks[i]
			if p.Spendable() != nil || p.Left() == 0 || which != nil && !which(p) {
				continue
			}
			wait, cancel := context.WithTimeout(ctx, routeTime)
			st, err := b.cfg.Calls.BankState(wait, p.Terms.Peer, b.as(p))
			cancel()
			if err != nil || st.Code != wire.OK || st.Reserve > b.mostReserve(p) {
				continue
			}
			more = append(more, source{bank.Leg{Bank: p.Bank, Bankers: r.Bankers}, p.Closable(st.Reserve), busy(p)})
		}
		largest(more)
		list = append(list, more...)
	}
	return list, ctx.Err()
}

// bankerWith returns the bank with a banker that bankWith would take, if it has
// enough left beyond the banker's reserve as we estimate it.
func (b *Banks) bankerWith(ctx context.Context, peer wire.Key, amount wire.Msat) (bank.ID, error) {
	p, err := b.bankWith(ctx, peer, amount)
	if err != nil {
		return bank.ID{}, err
	}
	if p.Closable(bank.CloseCost(p.Ladder.Rungs, 2*b.cfg.Engine.FeeRate())) < amount {
		return bank.ID{}, ErrNoBank
	}
	return p.Bank, nil
}

// notEnough says what several banks have left for a payment.
func notEnough(sources []source, total, all wire.Msat) error {
	most, over := wire.Msat(0), ""
	for _, s := range sources {
		most = max(most, s.room)
		if len(s.Bankers) > 0 {
			over = " or with bankers that reach it"
		}
	}
	if len(sources) == 1 {
		return fmt.Errorf("%w for %v: the bank with this payee%s has %v left", bank.ErrEmpty, total, over, most)
	}
	return fmt.Errorf("%w for %v: %d banks with this payee%s have %v left, the largest %v", bank.ErrEmpty, total, len(sources), over, all, most)
}

// Exposed returns how much of a payment's banks is paid and not used by payments
// now, and at most once the payment is made: what first hops that vanish keep,
// beyond one step. Banks that are history count nothing.
func (b *Banks) Exposed(ctx context.Context, o *bank.Order) (now, after wire.Msat, err error) {
	needs, banker := map[bank.ID]wire.Msat{}, map[bank.ID]bool{}
	for at := wire.Msat(0); at < o.Total; {
		l, end := o.Leg(at)
		needs[l.Bank] += end - at + l.Fees(end-at, o.Step)
		banker[l.Bank] = banker[l.Bank] || len(l.Bankers) > 0
		at = end
	}
	for id, need := range needs {
		p, err := b.payer(ctx, id)
		if errors.Is(err, ErrNoBank) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		now += p.Unused()
		after += p.Exposed(need, banker[id], b.mostReserve(&p))
	}
	return now, after, nil
}

// bankers are the open banks of ours with others than a payee, one for each peer:
// the one that would pay an amount, or any if none has enough left.
func (b *Banks) bankers(ctx context.Context, payee wire.Key, amount wire.Msat) (list []bank.Payer, err error) {
	peers, err := b.peers(ctx)
	if err != nil {
		return nil, err
	}
	for _, peer := range peers {
		if peer == payee {
			continue
		}
		best, err := b.bankWith(ctx, peer, amount)
		if err == nil {
			list = append(list, *best)
			continue
		}
		if !errors.Is(err, ErrNoBank) {
			return nil, err
		}
		banks, err := b.banksWith(ctx, peer)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(banks, func(p bank.Payer) bool { return p.Spendable() == nil }); i >= 0 {
			list = append(list, banks[i])
		}
	}
	return list, nil
}

// routeTime is how long a banker's answer about one further hop may take.
const routeTime = 3 * time.Second

// routeAgain is how long a payment waits before it asks for a route once more.
const routeAgain = 2 * time.Second

// maxAsked is the maximum number of bankers asked for a route.
const maxAsked = 8

// routes asks bankers for routes to a payee, all at once, and returns them with
// the cheapest first, or ErrNoRoute.
func (b *Banks) routes(ctx context.Context, payee wire.Key, amount wire.Msat, depth uint8) (found []*wire.Route, err error) {
	list, err := b.bankers(ctx, payee, amount)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errNobody
	}
	list = list[:min(len(list), maxAsked)]
	ctx, cancel := context.WithTimeout(ctx, time.Duration(depth+1)*routeTime)
	defer cancel()
	type answer struct {
		way  *wire.Route
		mute bool // no answer at all
	}
	answers := make(chan answer, len(list))
	for _, p := range list {
		go func() {
			r, err := b.cfg.Calls.Route(ctx, p.Terms.Peer, b.as(&p), &wire.RouteRequest{Payee: payee, Amount: amount, Depth: depth})
			if err != nil || len(r.Bankers) > int(depth)+1 || r.Bankers[0].Key != p.Terms.Peer.Key {
				r = nil
			}
			var refused *p2p.Refused
			answers <- answer{r, err != nil && !errors.As(err, &refused)}
		}()
	}
	mute := 0
	for range list {
		a := <-answers
		if a.mute {
			mute++
		}
		if a.way != nil {
			found = append(found, a.way)
		}
	}
	cost := func(r *wire.Route) wire.Msat { return (&bank.Leg{Bankers: r.Bankers}).Fee(amount) }
	found = slices.DeleteFunc(found, func(r *wire.Route) bool { return cost(r) >= wire.MaxSat.Msat() })
	slices.SortStableFunc(found, func(a, c *wire.Route) int { return cmp.Compare(cost(a), cost(c)) })
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: %d bankers asked, of which %d did not answer", ErrNoRoute, len(list), mute)
	}
	return found, nil
}
