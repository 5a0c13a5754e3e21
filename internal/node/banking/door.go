package banking

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// A bank that is verified and not yet funded has a place. There are places for
// banks whose payer has proved that it owns a coin, and others for those without
// proof. If they are full, the oldest bank of the peer, or network, that has most
// of them loses its place: a peer that floods a payee displaces itself.
const (
	provenPlaces   = 512
	unprovenPlaces = 128
	maxLate        = 1024 // whose funding is late; then the oldest is forgotten
)

// The verification of an offered bank takes up to a tenth of a second. Each peer
// may have this many waiting, and offer banks at this rate; a network four times
// as many. One bank of each class is verified at a time.
const (
	maxOffers   = 4
	offersBurst = 20
	offersPause = 2 * time.Second
	perNetwork  = 4
)

// door decides which banks are verified, and which keep a place.
type door struct {
	pause            time.Duration // see Policy.OfferPause
	proven, unproven chan struct{} // held while one is verified

	mu      sync.Mutex
	waiting map[string]int // by peer, and by network
	places  map[bank.ID]place
	rates   *lru.Cache[string, *rate.Limiter]
}

// place is that of a bank without funding.
type place struct {
	from p2p.Caller
	coin wire.Outpoint // proved; or zeros
	at   time.Time
}

func newDoor(p *Policy) *door {
	pause := offersPause
	if p != nil && p.OfferPause > 0 {
		pause = p.OfferPause
	}
	d := &door{pause: pause, proven: make(chan struct{}, 1), unproven: make(chan struct{}, 1), waiting: map[string]int{}, places: map[bank.ID]place{}}
	const remembered = 10_000
	d.rates, _ = lru.New[string, *rate.Limiter](remembered) // fails for sizes below 1
	return d
}

// enter reserves a turn for a caller's offer, or refuses it.
func (d *door) enter(from p2p.Caller) (leave func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := map[string]int{"peer " + string(from.Peer): 1}
	if from.Network != "" {
		names["network "+from.Network] = perNetwork
	}
	for name, times := range names {
		l, ok := d.rates.Get(name)
		if !ok {
			l = rate.NewLimiter(rate.Every(d.pause/time.Duration(times)), offersBurst*times)
			d.rates.Add(name, l)
		}
		if d.waiting[name] >= maxOffers*times || !l.Allow() {
			return nil, wire.Refuse(wire.Busy, "too many banks are offered at once")
		}
	}
	for name := range names {
		d.waiting[name]++
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for name := range names {
			if d.waiting[name]--; d.waiting[name] == 0 {
				delete(d.waiting, name)
			}
		}
	}, nil
}

// turn waits until an offer may be verified.
func (d *door) turn(ctx context.Context, proven bool) (done func(), err error) {
	turns := d.unproven
	if proven {
		turns = d.proven
	}
	select {
	case turns <- struct{}{}:
		return func() { <-turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// take gives a bank a place, and returns the banks that may lose theirs for it,
// the first one first; none if there is room. unfunded are all banks without
// funding.
func (d *door) take(id bank.ID, p place, unfunded map[bank.ID]bool) (losers []bank.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for old := range d.places {
		if !unfunded[old] {
			delete(d.places, old)
		}
	}
	for old := range unfunded {
		if _, known := d.places[old]; !known {
			d.places[old] = place{} // of before the daemon's start
		}
	}
	d.places[id] = p
	class := map[bank.ID]place{}
	peers, networks := map[string]int{}, map[string]int{}
	proven := p.coin != wire.Outpoint{}
	for other, q := range d.places {
		if (q.coin != wire.Outpoint{}) != proven {
			continue
		}
		if proven && q.coin == p.coin && other != id {
			losers = append(losers, other) // a coin has one place
			continue
		}
		class[other] = q
		peers[string(q.from.Peer)]++
		networks[q.from.Network]++
	}
	most := unprovenPlaces
	if proven {
		most = provenPlaces
	}
	if len(class) <= most {
		return losers
	}
	var order []bank.ID
	for other := range class {
		order = append(order, other)
	}
	slices.SortFunc(order, func(a, b bank.ID) int {
		x, y := class[a], class[b]
		return cmp.Or(cmp.Compare(networks[y.from.Network], networks[x.from.Network]), cmp.Compare(peers[string(y.from.Peer)], peers[string(x.from.Peer)]),
			x.at.Compare(y.at))
	})
	return append(losers, order...)
}

// drop takes a place back.
func (d *door) drop(id bank.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.places, id)
}

// Open implements p2p.Banks. A bank is verified before it gets a place.
func (y *Service) Open(ctx context.Context, from p2p.Caller, o *wire.BankOpen) error {
	if err := y.cfg.Coins.Ready(ctx); err != nil {
		return err
	}
	leave, err := y.door.enter(from)
	if err != nil {
		return err
	}
	defer leave()
	unlock, err := y.lockPayee(ctx, o.Bank)
	if err != nil {
		return err
	}
	defer unlock()
	if old, err := y.payee(ctx, o.Bank); err == nil {
		return y.again(ctx, &old, o)
	}
	coin := y.coinOf(ctx, o)
	done, err := y.door.turn(ctx, coin != wire.Outpoint{})
	if err != nil {
		return err
	}
	state, effects, err := bank.NewPayee(o, y.payeeKey(o.Bank), y.cfg.Policy.Policy, y.margins, y.cfg.Engine.Position().Height, y.cfg.Engine.FeeRate())
	done()
	if err != nil {
		return err
	}
	y.making.Lock() // one bank at a time gets a place, and is stored before the next
	defer y.making.Unlock()
	if err := y.room(ctx, o.Bank, place{from, coin, time.Now()}); err != nil {
		return err
	}
	if err := y.cfg.Engine.Create(ctx, engine.Creation{Ref: payeeRef(o.Bank), State: state, Effects: engine.EffectsOf(effects)}); err != nil {
		y.door.drop(o.Bank)
		return err
	}
	y.payerKeys.Add(o.Bank, state.Payer) // in place of that of an older bank with this id
	return nil
}

// room makes room for a verified bank, or refuses it; making is held.
func (y *Service) room(ctx context.Context, id bank.ID, p place) error {
	funded, unfunded := 0, map[bank.ID]bool{}
	var late []bank.Payee
	tip := y.cfg.Engine.Position().Height
	at := map[bank.ID]wire.Outpoint{}
	if err := y.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(bank.KindPayee, false, func(ref engine.Ref, raw []byte) error {
			var s bank.Payee
			if err := wire.Unmarshal(raw, &s); err != nil {
				return nil // it is not counted
			}
			switch {
			case s.Funded:
				funded++
			case s.Late(tip): // kept for its payer, in no place of others
				late = append(late, s)
			default:
				unfunded[ref.ID], at[ref.ID] = true, s.At
			}
			return nil
		})
	}); err != nil {
		return err
	}
	if funded >= y.cfg.Policy.MaxBanks {
		return wire.Refuse(wire.Full, "this payee has %d banks and accepts no more", funded)
	}
	if len(late) >= maxLate {
		if err := y.forgetLate(ctx, late); err != nil {
			return err
		}
	}
	unfunded[id] = true
	for _, loser := range y.door.take(id, p, unfunded) {
		if loser == id {
			break
		}
		if y.seen(ctx, at[loser]) {
			continue // its funding is on its way
		}
		if _, err := y.cfg.Engine.Tell(ctx, payeeRef(loser), bank.Evicted{}); err == nil {
			y.door.drop(loser)
			return nil
		}
	}
	if y.door.full(p) {
		y.door.drop(id)
		return wire.Refuse(wire.Full, "there are too many banks without funding")
	}
	return nil
}

// forgetLate forgets the bank whose funding is latest, of the maxSeen latest that
// whose funding is not on its way.
func (y *Service) forgetLate(ctx context.Context, late []bank.Payee) error {
	slices.SortFunc(late, func(a, b bank.Payee) int { return cmp.Compare(a.ValidUntil, b.ValidUntil) })
	const maxSeen = 16 // requests to the Bitcoin node
	for _, s := range late[:min(len(late), maxSeen)] {
		if y.seen(ctx, s.At) {
			continue
		}
		if _, err := y.cfg.Engine.Tell(ctx, payeeRef(s.Bank), bank.Evicted{}); err != nil && !errors.Is(err, engine.ErrContract) {
			return err
		}
		return nil
	}
	return wire.Refuse(wire.Full, "there are too many banks whose funding is late")
}

// full reports whether there are more banks of a place's class than places.
func (d *door) full(p place) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, most := 0, unprovenPlaces
	if p.coin != (wire.Outpoint{}) {
		most = provenPlaces
	}
	for _, q := range d.places {
		if (q.coin != wire.Outpoint{}) == (p.coin != wire.Outpoint{}) {
			n++
		}
	}
	return n > most
}

// seen reports whether the node knows a bank's output, perhaps unconfirmed. If the
// node does not answer, it may.
func (y *Banks) seen(ctx context.Context, at wire.Outpoint) bool {
	r, ok := y.cfg.Chain.(chain.OutputReader)
	if !ok {
		return false
	}
	_, err := r.Output(ctx, at)
	return !errors.Is(err, chain.ErrNoOutput)
}

// coinOf returns the coin that an offer proves to be its payer's: a P2TR output
// that this node sees unspent, worth at least the smallest bank. It returns zeros
// if there is no proof.
func (y *Service) coinOf(ctx context.Context, o *wire.BankOpen) wire.Outpoint {
	r, ok := y.cfg.Chain.(chain.OutputReader)
	if !ok || o.Coin == (wire.Signature{}) {
		return wire.Outpoint{}
	}
	tx, err := contract.DecodeTx(o.Funding)
	if err != nil || len(tx.TxIn) == 0 {
		return wire.Outpoint{}
	}
	at := contract.OutpointOf(tx.TxIn[0].PreviousOutPoint)
	out, err := r.Output(ctx, at)
	if err != nil || out.Value < int64(y.cfg.Policy.MinValue) || len(out.PkScript) != 34 || out.PkScript[0] != 0x51 || out.PkScript[1] != 32 {
		return wire.Outpoint{}
	}
	owner := wire.Key(out.PkScript[2:])
	if owner.Verify(wire.BankCoinDigest(o.Bank, o.Terms.Payee, at, wire.Outpoint{Txid: contract.Txid(tx), Vout: o.Vout}), o.Coin) != nil {
		return wire.Outpoint{}
	}
	return at
}

// proveCoin proves to a payee that the wallet owns the first coin of a bank's
// funding.
func (b *Banks) proveCoin(ctx context.Context, o *wire.BankOpen, at wire.Outpoint) (wire.Signature, error) {
	tx, err := contract.DecodeTx(o.Funding)
	if err != nil {
		return wire.Signature{}, err
	}
	coin := contract.OutpointOf(tx.TxIn[0].PreviousOutPoint)
	return b.cfg.Coins.Prove(ctx, coin, wire.BankCoinDigest(o.Bank, o.Terms.Payee, coin, at))
}
