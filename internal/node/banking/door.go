package banking

import (
	"bytes"
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
	maxLate        = 1024 // whose funding is late; then one is forgotten
	maxUnproven    = 128  // of these, without proof
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
	rates   *lru.Cache[string, *rate.Limiter]
}

// bucketPlace contains the places of banks of others, by their ids, until they are
// funded or forgotten. A bank that an earlier version accepted has none, and counts
// as one without proof, of nobody.
const bucketPlace = "bank/place"

// place is that of a bank without funding.
type place struct {
	_       struct{}      `cbor:",toarray"`
	Peer    []byte        // who offered it
	Network string        // its network; or ""
	Coin    wire.Outpoint // proved; or zeros
	At      int64         // Unix time in nanoseconds
}

// proven reports whether its payer has proved that it owns a coin.
func (p *place) proven() bool { return p.Coin != wire.Outpoint{} }

// most returns the number of places of its class.
func (p *place) most() int {
	if p.proven() {
		return provenPlaces
	}
	return unprovenPlaces
}

func newDoor(p *Policy) *door {
	pause := offersPause
	if p != nil && p.OfferPause > 0 {
		pause = p.OfferPause
	}
	d := &door{pause: pause, proven: make(chan struct{}, 1), unproven: make(chan struct{}, 1), waiting: map[string]int{}}
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

// losers returns the banks that may lose their places for a bank that is among
// them, the first one first; none if there is room.
func losers(id bank.ID, places map[bank.ID]place) (list []bank.ID) {
	p := places[id]
	class := map[bank.ID]place{}
	peers, networks := map[string]int{}, map[string]int{}
	for other, q := range places {
		if q.proven() != p.proven() {
			continue
		}
		if p.proven() && q.Coin == p.Coin && other != id {
			list = append(list, other) // a coin has one place
			continue
		}
		class[other] = q
		peers[string(q.Peer)]++
		networks[q.Network]++
	}
	if len(class) <= p.most() {
		return list
	}
	var order []bank.ID
	for other := range class {
		order = append(order, other)
	}
	slices.SortFunc(order, func(a, b bank.ID) int {
		x, y := class[a], class[b]
		return cmp.Or(cmp.Compare(networks[y.Network], networks[x.Network]), cmp.Compare(peers[string(y.Peer)], peers[string(x.Peer)]),
			cmp.Compare(x.At, y.At), bytes.Compare(a[:], b[:]))
	})
	return append(list, order...)
}

// full reports whether there are more banks of a bank's class than places.
func full(id bank.ID, places map[bank.ID]place) bool {
	p, n := places[id], 0
	for _, q := range places {
		if q.proven() == p.proven() {
			n++
		}
	}
	return n > p.most()
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
	p := place{Peer: []byte(from.Peer), Network: from.Network, Coin: coin, At: time.Now().UnixNano()}
	if err := y.room(ctx, o.Bank, p); err != nil {
		return err
	}
	if err := y.cfg.Engine.CreateWith(ctx, func(tx engine.Tx) (engine.Creation, error) {
		raw, err := wire.Marshal(&p)
		if err != nil {
			return engine.Creation{}, err
		}
		return engine.Creation{Ref: payeeRef(o.Bank), State: state, Effects: engine.EffectsOf(effects)}, tx.Put(bucketPlace, o.Bank[:], raw)
	}); err != nil {
		return err
	}
	y.payerKeys.Add(o.Bank, state.Payer) // in place of that of an older bank with this id
	return nil
}

// lateBank is a bank whose funding is late.
type lateBank struct {
	bank.Payee
	place
}

// room makes room for a verified bank, or refuses it; making is held.
func (y *Service) room(ctx context.Context, id bank.ID, p place) error {
	funded, places := 0, map[bank.ID]place{}
	var late []lateBank
	tip := y.cfg.Engine.Position().Height
	at := map[bank.ID]wire.Outpoint{}
	if err := y.cfg.Store.View(ctx, func(tx engine.Tx) error {
		known := map[bank.ID]place{}
		if err := tx.Scan(bucketPlace, nil, 0, func(key, raw []byte) error {
			var q place
			if err := wire.Unmarshal(raw, &q); err != nil || len(key) != len(bank.ID{}) {
				return nil // it counts as one without proof
			}
			known[bank.ID(key)] = q
			return nil
		}); err != nil {
			return err
		}
		return tx.Each(bank.KindPayee, false, func(ref engine.Ref, raw []byte) error {
			var s bank.Payee
			if err := wire.Unmarshal(raw, &s); err != nil {
				return nil // it is not counted
			}
			switch {
			case s.Funded:
				funded++
			case s.Late(tip): // kept for its payer, in no place of others
				late = append(late, lateBank{s, known[ref.ID]})
			default:
				places[ref.ID], at[ref.ID] = known[ref.ID], s.At
			}
			return nil
		})
	}); err != nil {
		return err
	}
	if funded >= y.cfg.Policy.MaxBanks {
		return wire.Refuse(wire.Full, "this payee has %d banks and accepts no more", funded)
	}
	if err := y.forgetLate(ctx, late, &p); err != nil {
		return err
	}
	places[id] = p
	list := losers(id, places)
	if p.proven() && full(id, places) {
		list = append(y.unbacked(ctx, id, places, at), list...)
	}
	for _, loser := range list {
		if loser == id {
			break
		}
		if y.seen(ctx, at[loser]) {
			continue // its funding is on its way
		}
		if _, err := y.cfg.Engine.Tell(ctx, payeeRef(loser), bank.Evicted{}); err == nil {
			return nil
		}
	}
	if full(id, places) {
		return wire.Refuse(wire.Full, "there are too many banks without funding")
	}
	return nil
}

// unbacked returns a bank whose payer no longer has the coin that it proved, though
// no funding has spent it: a transaction that was not confirmed was replaced, or
// the coin spent otherwise. Otherwise one coin, moved again and again, could take
// all places. The node is asked about some banks only, at random.
func (y *Service) unbacked(ctx context.Context, id bank.ID, places map[bank.ID]place, at map[bank.ID]wire.Outpoint) []bank.ID {
	const maxSeen = 16
	asked := 0
	for other, q := range places { // in random order
		if other == id || !q.proven() {
			continue
		}
		if asked++; asked > maxSeen {
			break
		}
		if !y.seen(ctx, q.Coin) && !y.seen(ctx, at[other]) {
			return []bank.ID{other}
		}
	}
	return nil
}

// forgetLate forgets banks whose funding is late, so that there is room for one
// more. A coin has one: only one of several banks that it funds can confirm.
// Of those without proof there are few, and of all many; then the latest whose
// funding is not on its way is forgotten, first of those without proof.
func (y *Service) forgetLate(ctx context.Context, late []lateBank, p *place) error {
	slices.SortFunc(late, func(a, b lateBank) int { return cmp.Compare(a.ValidUntil, b.ValidUntil) })
	forget := func(which func(*lateBank) bool) (bool, error) {
		const maxSeen = 16 // requests to the Bitcoin node, of each kind
		asked := 0
		for i := range late {
			if !which(&late[i]) {
				continue
			}
			if asked++; asked > maxSeen {
				break
			}
			if y.seen(ctx, late[i].Payee.At) {
				continue
			}
			_, err := y.cfg.Engine.Tell(ctx, payeeRef(late[i].Bank), bank.Evicted{})
			if err != nil && !errors.Is(err, engine.ErrContract) {
				return false, err
			}
			late = slices.Delete(late, i, i+1)
			return true, nil
		}
		return false, nil
	}
	unproven := func(b *lateBank) bool { return !b.proven() }
	if p.proven() {
		if _, err := forget(func(b *lateBank) bool { return b.Coin == p.Coin }); err != nil {
			return err
		}
	}
	n := 0
	for i := range late {
		if unproven(&late[i]) {
			n++
		}
	}
	// Several may have become late since the last offer.
	for ; n >= maxUnproven; n-- {
		done, err := forget(unproven)
		if err != nil {
			return err
		}
		if !done && !p.proven() {
			return wire.Refuse(wire.Full, "there are too many banks whose funding is late")
		}
		if !done {
			break
		}
	}
	for len(late) >= maxLate {
		done, err := forget(unproven)
		if !done && err == nil {
			done, err = forget(func(*lateBank) bool { return true })
		}
		if err != nil {
			return err
		}
		if !done {
			return wire.Refuse(wire.Full, "there are too many banks whose funding is late")
		}
	}
	return nil
}

// seen reports whether the node knows an output that is unspent, perhaps
// unconfirmed. If the node does not answer, it may.
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
