package banking

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// Order is what a user ordered under an idempotency key: pennies, a payment, or
// a bank. A request with a known key repeats nothing: it returns the same order.
type Order struct {
	_       struct{} `cbor:",toarray"`
	What    orderKind
	Of      wire.Hash // the bank that pays, the payment, or the bank that is opened
	Terms   wire.Hash // of the request: another one with this key is a mistake
	Pennies uint32    // of an order of pennies
	Target  uint32    // count at which the bank has paid them
	At      int64     // Unix time of the order
}

// orderKind is the kind of an Order.
type orderKind uint8

const (
	orderPennies orderKind = iota
	orderPayment
	orderBank
	orderCharge
)

// Errors of orders.
var (
	// ErrOrdered means that a payment is stored, and continues in the
	// background, although its request failed. It must not be ordered again.
	ErrOrdered = errors.New("ordered, and not acknowledged yet: the payment continues")
	// ErrKey means that an idempotency key was used for another request.
	ErrKey = errors.New("this idempotency key belongs to another request")
)

// Orders are stored under the tagged hash of their key, and again under time ‖
// hash to be forgotten in this order.
const (
	bucketOrder    = "bank/order"
	bucketOrderAge = "bank/order-age"
)

// orderTime is how long a key is known.
const orderTime = 30 * 24 * time.Hour

// MaxKey is the maximum length of an idempotency key in bytes.
const MaxKey = 128

// OrderID identifies what was ordered under a key.
func OrderID(key string) wire.Hash { return wire.Tagged("bank-order", []byte(key)) }

// orderIn returns an order, or nil.
func orderIn(tx engine.Tx, id wire.Hash) (*Order, error) {
	raw, err := tx.Get(bucketOrder, id[:])
	if raw == nil || err != nil {
		return nil, err
	}
	o := new(Order)
	return o, wire.Unmarshal(raw, o)
}

// keep stores an order. It returns ErrKey if the key has one: then the whole
// transaction must be undone.
func (o *Order) keep(tx engine.Tx, key string) error {
	if key == "" {
		return nil
	}
	id := OrderID(key)
	if old, err := orderIn(tx, id); err != nil {
		return err
	} else if old != nil {
		return ErrKey
	}
	raw, err := wire.Marshal(o)
	if err != nil {
		return err
	}
	if err := tx.Put(bucketOrder, id[:], raw); err != nil {
		return err
	}
	age := func(at int64, id []byte) []byte { return append(binary.BigEndian.AppendUint64(nil, uint64(at)), id...) }
	if err := tx.Put(bucketOrderAge, age(o.At, id[:]), []byte{}); err != nil {
		return err
	}
	// Two are forgotten for each that is added, so they never pile up.
	var old [][]byte
	if err := tx.Scan(bucketOrderAge, nil, 2, func(k, _ []byte) error {
		if int64(binary.BigEndian.Uint64(k)) < o.At-int64(orderTime/time.Second) {
			old = append(old, append([]byte(nil), k...))
		}
		return nil
	}); err != nil {
		return err
	}
	for _, k := range old {
		if err := errors.Join(tx.Delete(bucketOrderAge, k), tx.Delete(bucketOrder, k[8:])); err != nil {
			return err
		}
	}
	return nil
}

// once locks a key and returns what was ordered under it, or nil. The order must
// be of this kind and have these terms; otherwise it returns ErrKey. Without a
// key nothing is locked or known.
func (b *Banks) once(ctx context.Context, key string, what orderKind, terms wire.Hash) (o *Order, unlock func(), err error) {
	if key == "" {
		return nil, func() {}, nil
	}
	if len(key) > MaxKey {
		return nil, nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrKey, len(key), MaxKey)
	}
	unlock, err = b.lock(ctx, OrderID(key))
	if err != nil {
		return nil, nil, err
	}
	err = b.cfg.Store.View(ctx, func(tx engine.Tx) error {
		o, err = orderIn(tx, OrderID(key))
		return err
	})
	if err == nil && o != nil && (o.What != what || o.Terms != terms) {
		err = ErrKey
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return o, unlock, nil
}

// Ordered is an order of pennies and the bank that pays it.
type Ordered struct {
	ID    wire.Hash
	Order Order
	Payer bank.Payer
}

// State returns the displayed state of an order of pennies, as a payment's.
func (o *Ordered) State() string {
	switch p := &o.Payer; {
	case p.Acked >= o.Order.Target:
		return "paid"
	case p.Spend != nil || p.PayeeWhy != "":
		return "ended"
	}
	return "paying"
}

// Amounts returns the worth of the order, and of the part of it that the payee
// has acknowledged.
func (o *Ordered) Amounts() (total, paid wire.Msat) {
	l := &o.Payer.Ladder
	from := o.Order.Target - o.Order.Pennies
	before := l.Paid(from)
	return l.Paid(o.Order.Target) - before, l.Paid(min(max(o.Payer.Acked, from), o.Order.Target)) - before
}

// OrderedPennies returns the order of pennies under a key, or ErrNoBank.
func (b *Banks) OrderedPennies(ctx context.Context, key string) (*Ordered, error) {
	return b.findOrder(ctx, OrderID(key).String())
}

// findOrder returns the order of pennies whose id begins with these digits, or
// ErrNoBank.
func (b *Banks) findOrder(ctx context.Context, prefix string) (found *Ordered, err error) {
	start, err := hex.DecodeString(prefix[:min(len(prefix), 64)/2*2])
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoBank, prefix)
	}
	if err := b.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Scan(bucketOrder, start, 0, func(k, raw []byte) error {
			id := wire.Hash(k)
			var o Order
			if err := wire.Unmarshal(raw, &o); err != nil || o.What != orderPennies || !strings.HasPrefix(id.String(), prefix) {
				return err
			}
			if found != nil {
				return fmt.Errorf("%w: %s", engine.ErrAmbiguous, prefix)
			}
			found = &Ordered{ID: id, Order: o}
			return nil
		})
	}); err != nil {
		return nil, err
	}
	if found == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoBank, prefix)
	}
	found.Payer, err = b.payer(ctx, found.Order.Of)
	return found, err
}

// ErrPenny means that an amount cannot be paid in whole pennies without paying
// much more.
var ErrPenny = errors.New("not payable in whole pennies")

// A payment may exceed its amount by maxOver, or by a hundredth if that is more,
// because a bank pays only whole pennies.
const maxOver = wire.Msat(1000)

// PlanPennies returns the number of pennies of a bank that pay an amount, and
// their worth. If that is much more than the amount, it returns ErrPenny with the
// amounts that can be paid, unless roundUp is set. It may return bank.ErrEmpty.
func PlanPennies(p *bank.Payer, amount wire.Msat, roundUp bool) (n uint32, worth wire.Msat, err error) {
	l := &p.Ladder
	n, ok := l.CountFor(amount)
	if !ok || n > l.N()-p.Target {
		return 0, 0, fmt.Errorf("%w: %v requested, %v left", bank.ErrEmpty, amount, l.Paid(l.N())-l.Paid(p.Target))
	}
	worth = l.Paid(n)
	if over := worth - amount; !roundUp && over > 0 && (amount < l.Paid(1) || over > max(maxOver, amount/100)) {
		if n == 1 {
			return 0, 0, fmt.Errorf("%w: %v requested; the smallest amount that this bank can pay is one penny, %v", ErrPenny, amount, worth)
		}
		return 0, 0, fmt.Errorf("%w: %v requested; a penny of this bank is %v, so it can pay %v or %v", ErrPenny, amount, l.Paid(1), l.Paid(n-1), worth)
	}
	return n, worth, nil
}
