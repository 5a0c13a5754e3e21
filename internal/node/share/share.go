// Package share lets contracts of one kind share transactions, as package batch
// plans them. It maintains an index of the contracts that may share one,
// collects the members of a transaction, and builds what the plan says.
package share

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/bits"
	"slices"
	"sync"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// Engine is what sharing needs of the engine: the tip, and what transactions pay.
type Engine interface {
	Position() chain.BlockRef
	FeeRate() wire.SatPerKVB
	Fees() chain.Fees
}

// Coins has addresses of the wallet; *coins.Coins does.
type Coins interface {
	PeekScript(tx engine.Tx, branch uint32) ([]byte, error)
	UseScript(tx engine.Tx, script []byte) error
}

// Sharing is how contracts of one kind share transactions: S is their state, I
// their input of package contract.
type Sharing[S, I any] struct {
	Engine Engine
	Coins  Coins
	Log    *slog.Logger

	Kind  engine.Kind
	Limit int // members of a transaction
	// Bucket is the index of the contracts that may share a transaction: the
	// txid of the contract's transaction ‖ id → nothing. Those that are Ready and in
	// no transaction are in Bucket + "/waiting", by value per weight, highest first;
	// older versions wrote them to Bucket with a txid of zeros, and both also if they
	// were not Ready. Bucket + "/lost"
	// contains the txids of transactions that cannot confirm, because an input is
	// spent otherwise, as long as they have members.
	Bucket string
	// Sent returns the contract's transaction, or nil.
	Sent func(*S) *contract.Sent
	// Spent returns the confirmed spend of the contract's output, or nil.
	Spent func(*S) *contract.Fact
	// Worth returns the value and the weight of the contract's input.
	Worth func(*S) (wire.Sat, int64)
	// Solo says that a contract must have a transaction of its own.
	Solo func(*S) bool
	// Open says that a contract can be in a transaction; Ready, which implies
	// Open, that it must be in one now.
	Open, Ready func(*S) bool
	// Build builds a transaction; Built, Failed and Told return the events for
	// its members.
	Build  func(list []I, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error)
	Built  func(sent contract.Sent, broadcast bool) engine.Event
	Failed func(why error) engine.Event
	Told   func(Answer) engine.Event

	looked looked
}

// Answer is the network's answer to a broadcast.
type Answer struct {
	Err    string // empty, or the reason to refuse it
	Txid   wire.Hash
	TooLow bool // the fee is the reason
	Own    bool // for the member that broadcast it; the others only learn of it
}

// Member is a contract that may share a transaction.
type Member[S any] struct {
	Ref   engine.Ref
	State S
}

// Input is a member as it is planned, and its input of the transaction.
type Input[I any] struct {
	Plan batch.Member
	Ref  engine.Ref
	In   I
}

// key returns the contract's place in the index, or "" if it has none. One that is
// paused has none, so that what a plan costs does not depend on their number.
func (h *Sharing[S, I]) key(ref engine.Ref, state any) (bucket string, key []byte) {
	if bucket, key = h.place(ref, state); bucket == h.waiting() {
		if s := state.(S); !h.Ready(&s) {
			return "", nil
		}
	}
	return bucket, key
}

// place is key for a contract that may be paused.
func (h *Sharing[S, I]) place(ref engine.Ref, state any) (bucket string, key []byte) {
	s, ok := state.(S)
	if !ok || h.Solo(&s) || !h.Open(&s) {
		return "", nil
	}
	if txid := h.in(&s); txid != (wire.Hash{}) {
		return h.Bucket, append(txid[:], ref.ID[:]...)
	}
	return h.waiting(), append(order(h.Worth(&s)), ref.ID[:]...)
}

// Indexed reports what is wrong with the index: f calls its argument for each
// contract with its state.
func (h *Sharing[S, I]) Indexed(tx engine.Tx, each func(func(engine.Ref, S) error) error) (errs []error, err error) {
	want := map[string]bool{}
	if err := each(func(ref engine.Ref, s S) error {
		if bucket, key := h.key(ref, s); key != nil {
			want[bucket+string(key)] = true
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for _, bucket := range []string{h.Bucket, h.waiting()} {
		if err := tx.Scan(bucket, nil, 0, func(key, _ []byte) error {
			if !want[bucket+string(key)] {
				errs = append(errs, fmt.Errorf("%x is in %s", key, bucket))
			}
			delete(want, bucket+string(key))
			return nil
		}); err != nil {
			return nil, err
		}
	}
	for key := range want {
		errs = append(errs, fmt.Errorf("%x is not in the index", key))
	}
	return errs, nil
}

func (h *Sharing[S, I]) waiting() string { return h.Bucket + "/waiting" }
func (h *Sharing[S, I]) lost() string    { return h.Bucket + "/lost" }

// order returns 8 bytes that sort by value per weight, the highest first.
func order(value wire.Sat, weight int64) []byte {
	hi, lo := bits.Mul64(uint64(max(value, 0)), 1<<20)
	q := uint64(math.MaxUint64)
	if w := uint64(max(weight, 1)); hi < w {
		q, _ = bits.Div64(hi, lo, w)
	}
	return binary.BigEndian.AppendUint64(nil, ^q)
}

// Account updates the index in the transaction that changes a contract.
func (h *Sharing[S, I]) Account(tx engine.Tx, c engine.Change) error {
	_, indexed := h.key(c.Ref, c.Before)
	to, after := h.key(c.Ref, c.State)
	// An older version gave paused contracts places, too.
	from, before := h.place(c.Ref, c.Before)
	next, place := h.place(c.Ref, c.State)
	if bytes.Equal(indexed, after) && from == next && bytes.Equal(before, place) {
		return nil
	}
	if before != nil {
		if err := tx.Delete(from, before); err != nil {
			return err
		}
	}
	if from == h.waiting() {
		if err := tx.Delete(h.Bucket, append(make([]byte, len(wire.Hash{})), c.Ref.ID[:]...)); err != nil {
			return err
		}
	}
	if after != nil {
		if err := tx.Put(to, after, []byte{}); err != nil {
			return err
		}
	}
	if from != h.Bucket {
		return nil
	}
	return h.left(tx, wire.Hash(before[:len(wire.Hash{})]), c)
}

// left updates what is known of a transaction that a contract has left.
func (h *Sharing[S, I]) left(tx engine.Tx, txid wire.Hash, c engine.Change) error {
	rest, err := h.members(tx, txid, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return tx.Delete(h.lost(), txid[:])
	}
	old, now := c.Before.(S), c.State.(S)
	if by := h.Spent(&now); by != nil && h.Spent(&old) == nil && by.Txid != txid {
		return tx.Put(h.lost(), txid[:], []byte{})
	}
	return nil
}

// Due plans the contract that asks, together with all others that share its
// transaction, or that are due and in none, and tells every contract in a
// planned transaction. input returns a member's part; a member whose part cannot
// be built is left out.
func (h *Sharing[S, I]) Due(tx engine.Tx, ref engine.Ref, input func(*Member[S]) (I, batch.Member, error)) ([]engine.Delivery, error) {
	raw, err := tx.State(ref)
	if err != nil {
		return nil, err
	}
	first := Member[S]{Ref: ref}
	if err := wire.Unmarshal(raw, &first.State); err != nil {
		return nil, err
	}
	if !h.Ready(&first.State) {
		return nil, nil // spent meanwhile, or planned and left out in this block
	}
	own, plan, err := input(&first)
	if err != nil {
		return nil, err
	}
	tip := h.Engine.Position().Height
	sent := h.Sent(&first.State)
	asked := plan.Least > 0 && sent.Rate() < plan.Least // by its owner, who does not wait for the next block
	if txid := h.in(&first.State); !asked && (txid != (wire.Hash{}) && !h.looked.firstOf(txid, ref, tip) || h.looked.isLeft(ref, tip)) {
		return nil, nil // another member was here first, or it was planned in vain
	}
	gone := false
	if sent.Live() {
		mark, err := tx.Get(h.lost(), sent.Txid[:])
		if err != nil {
			return nil, err
		}
		gone = mark != nil
	}
	group, err := h.Group(tx, first)
	if err != nil {
		return nil, err
	}
	var list []Input[I]
	for i := range group {
		m := &group[i]
		in, plan, err := own, plan, error(nil)
		if m.Ref != ref {
			in, plan, err = input(m)
		}
		if err != nil {
			h.Log.Error("a contract is left out of a transaction", "contract", m.Ref, "err", err)
			continue
		}
		plan.Alone, plan.In = h.Solo(&m.State), h.Sent(&m.State)
		if gone {
			plan.In = plan.In.Lost()
		}
		list = append(list, Input[I]{plan, m.Ref, in})
	}
	return h.join(tx, ref, list)
}

// Members returns the members of an earlier transaction, or those of none, the
// ones with the most value per weight first.
func (h *Sharing[S, I]) Members(tx engine.Tx, txid wire.Hash) (refs []engine.Ref, err error) {
	return h.members(tx, txid, 0)
}

func (h *Sharing[S, I]) members(tx engine.Tx, txid wire.Hash, limit int) (refs []engine.Ref, err error) {
	add := func(id []byte) error {
		refs = append(refs, engine.Ref{Kind: h.Kind, ID: wire.Hash(id)})
		return nil
	}
	if txid == (wire.Hash{}) {
		if err := tx.Scan(h.waiting(), nil, limit, func(key, _ []byte) error { return add(key[8:]) }); err != nil {
			return nil, err
		}
	}
	err = tx.Scan(h.Bucket, txid[:], limit, func(key, _ []byte) error { return add(key[len(txid):]) })
	return refs, err
}

// Group returns the members that share first's earlier transaction, or that are
// due and in none if first is in none; first comes first. Contracts that cannot
// be read are skipped.
func (h *Sharing[S, I]) Group(tx engine.Tx, first Member[S]) (list []Member[S], err error) {
	list = []Member[S]{first}
	if h.Solo(&first.State) {
		return list, nil
	}
	refs, err := h.Members(tx, h.in(&first.State))
	if err != nil {
		return nil, err
	}
	for _, r := range refs {
		if len(list) >= h.Limit {
			break
		}
		if r == first.Ref {
			continue
		}
		m := Member[S]{Ref: r}
		raw, err := tx.State(r)
		if err == nil {
			err = wire.Unmarshal(raw, &m.State)
		}
		if err != nil {
			h.Log.Warn("a contract that cannot be read is left out of a transaction", "contract", r, "err", err)
		} else if h.Ready(&m.State) {
			list = append(list, m)
		}
	}
	return list, nil
}

// Paused reports whether a member that was left out for a reason waits a while
// before it is planned again.
func Paused(why error) bool {
	return errors.Is(why, batch.ErrUneconomic) || errors.Is(why, batch.ErrTooLarge)
}

// join plans the members of a group, one of which is ref's, and builds what the
// plan says. It runs in the transaction that ends the effect, so two plans
// never compete.
func (h *Sharing[S, I]) join(tx engine.Tx, ref engine.Ref, list []Input[I]) (out []engine.Delivery, err error) {
	at := map[wire.Outpoint]*Input[I]{}
	var members []batch.Member
	for i := range list {
		at[list[i].Plan.At] = &list[i]
		members = append(members, list[i].Plan)
	}
	fees := h.Engine.Fees()
	market := batch.Market{Tip: h.Engine.Position().Height, Estimate: h.Engine.FeeRate(), Relay: fees.Least(), Increment: fees.Increment}
	plan := batch.Make(market, h.Limit, members)
	for _, l := range plan.Left {
		m := at[l.At].Ref
		if m != ref && !Paused(l.Why) {
			continue // it asks for itself
		}
		h.Log.Debug("a contract is in no transaction", "contract", m, "err", l.Why)
		h.looked.leave(m, market.Tip)
		if in := at[l.At].Plan.In; errors.Is(l.Why, batch.ErrUneconomic) && in != nil && in.Gone && !in.Low && in.Before == nil {
			// What a transaction that cannot confirm has left behind, and what is not
			// worth its fee alone, shares one with others from now on.
			out = append(out, engine.Delivery{Ref: m, Event: h.Told(Answer{Err: "it cannot confirm: " + l.Why.Error(), Txid: in.Txid, TooLow: true})})
		}
		out = append(out, engine.Delivery{Ref: m, Event: h.Failed(l.Why)})
	}
	for _, t := range plan.Txs {
		sender := at[t.Members[0]].Ref // one of the members broadcasts it
		if slices.ContainsFunc(t.Members, func(o wire.Outpoint) bool { return at[o].Ref == ref }) {
			sender = ref
		}
		sent, why, err := h.transaction(tx, &t, at, market.Tip)
		switch {
		case err != nil:
			return nil, err
		case why == nil:
			h.looked.firstOf(sent.Txid, sender, market.Tip)
			for _, o := range t.Members {
				out = append(out, engine.Delivery{Ref: at[o].Ref, Event: h.Built(*sent, at[o].Ref == sender)})
			}
			continue
		case why == errAgain || t.Replaces != nil: // that one can still confirm
			out = append(out, engine.Delivery{Ref: sender, Event: h.Built(*sent, true)})
			continue
		}
		h.Log.Error("a transaction cannot be built", "contract", sender, "members", len(t.Members), "err", why)
		switch own := slices.IndexFunc(list, func(i Input[I]) bool { return i.Ref == ref }); {
		case sender != ref:
		case len(t.Members) == 1:
			out = append(out, engine.Delivery{Ref: ref, Event: h.Failed(why)})
		default: // another member may be at fault
			alone, err := h.join(tx, ref, []Input[I]{list[own]})
			if err != nil {
				return nil, err
			}
			out = append(out, alone...)
		}
	}
	return out, nil
}

// Broadcaster sends the network a transaction; *coins.Coins does.
type Broadcaster interface {
	Broadcast(context.Context, *btcwire.MsgTx) (why string, tooLow bool, err error)
}

// Broadcast broadcasts a transaction for one of its members, and returns what ends
// that effect: the answer for that member, and for the others if it is new to
// them, because a transaction that they share is refused or replaces another.
func (h *Sharing[S, I]) Broadcast(ctx context.Context, net Broadcaster, ref engine.Ref, raw []byte) (func(engine.Tx) ([]engine.Delivery, error), error) {
	t, err := contract.ReadTx(raw)
	if err != nil {
		return nil, err
	}
	why, tooLow, err := net.Broadcast(ctx, t)
	if err != nil || ctx.Err() != nil {
		return nil, cmp.Or(err, ctx.Err())
	}
	a := Answer{Err: why, Txid: contract.Txid(t), TooLow: tooLow, Own: true}
	return func(tx engine.Tx) ([]engine.Delivery, error) {
		list := []engine.Delivery{{Ref: ref, Event: h.Told(a)}}
		if why == "" {
			var own S
			if raw, err := tx.State(ref); err != nil || wire.Unmarshal(raw, &own) != nil {
				return list, err
			}
			if sent := h.Sent(&own); sent == nil || sent.Txid != a.Txid || sent.Before == nil && !sent.Gone {
				return list, nil
			}
		}
		refs, err := h.Members(tx, a.Txid)
		others := a
		others.Own = false
		for _, r := range refs {
			if r != ref {
				list = append(list, engine.Delivery{Ref: r, Event: h.Told(others)})
			}
		}
		return list, err
	}, nil
}

// errAgain means that nothing is built because the earlier transaction is
// broadcast again.
var errAgain = errors.New("sent again")

// transaction builds a planned transaction. why says why there is none; sent is
// then the earlier one, if any.
func (h *Sharing[S, I]) transaction(tx engine.Tx, t *batch.Tx, at map[wire.Outpoint]*Input[I], tip wire.Height) (sent *contract.Sent, why, err error) {
	if t.Again != nil {
		return t.Again, errAgain, nil
	}
	var script []byte
	if t.Pays != nil { // to the same address
		old, err := contract.ReadTx(t.Pays.Tx)
		if err != nil {
			return nil, nil, err
		}
		script = old.TxOut[len(old.TxOut)-1].PkScript
	} else if script, err = h.Coins.PeekScript(tx, wallet.External); err != nil {
		return nil, nil, err
	}
	var inputs []I
	for _, o := range t.Members {
		inputs = append(inputs, at[o].In)
	}
	built, fee, why := h.Build(inputs, script, 0, t.Fee)
	if why != nil {
		return t.Replaces, why, nil
	}
	sent = contract.NewSent(built, fee, tip)
	if t.Replaces != nil {
		before := *t.Replaces
		before.Before = nil
		sent.Before = &before
	}
	return sent, nil, h.Coins.UseScript(tx, script)
}

// Window returns the window in which a fee rises: from n blocks before a
// deadline to m before it.
func Window(t wire.Height, n, m uint32) (from, to wire.Height) {
	return t - min(t, wire.Height(n)), t - min(t, wire.Height(m))
}

// looked remembers what was planned at a height, so that one plan in each block
// is enough for the members of a transaction, and for those that are left out.
type looked struct {
	mu     sync.Mutex
	height wire.Height
	by     map[wire.Hash]engine.Ref
	left   map[engine.Ref]bool
}

// at begins a new height; the lock is held.
func (l *looked) at(tip wire.Height) {
	if l.height != tip || l.by == nil {
		l.height, l.by, l.left = tip, map[wire.Hash]engine.Ref{}, map[engine.Ref]bool{}
	}
}

// firstOf reports whether a contract is the one to handle its transaction in
// this block: the first that asks.
func (l *looked) firstOf(txid wire.Hash, ref engine.Ref, tip wire.Height) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at(tip)
	if _, ok := l.by[txid]; !ok {
		l.by[txid] = ref
	}
	return l.by[txid] == ref
}

// leave says that a contract was left out of the plan of this block.
func (l *looked) leave(ref engine.Ref, tip wire.Height) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at(tip)
	l.left[ref] = true
}

// isLeft reports whether a contract was left out of the plan of this block.
func (l *looked) isLeft(ref engine.Ref, tip wire.Height) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at(tip)
	return l.left[ref]
}

// in returns the txid of the contract's transaction, or zeros if it is in none, or
// in one that was refused because of its fee: then it may share another.
func (h *Sharing[S, I]) in(s *S) wire.Hash {
	if sent := h.Sent(s); sent != nil && !sent.Low {
		return sent.Txid
	}
	return wire.Hash{}
}
