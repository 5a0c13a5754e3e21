// Package share lets contracts of one kind share transactions, as package batch
// plans them. It maintains an index of the contracts that may share one,
// collects the members of a transaction, and builds what the plan says.
package share

import (
	"bytes"
	"errors"
	"log/slog"
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
	// txid of the contract's transaction, or zeros ‖ id → nothing.
	Bucket string
	// Sent returns the contract's transaction, or nil.
	Sent func(*S) *contract.Sent
	// Solo says that a contract must have a transaction of its own.
	Solo func(*S) bool
	// Open says that a contract can be in a transaction; Ready, which implies
	// Open, that it must be in one now.
	Open, Ready func(*S) bool
	// Build builds a transaction; Built and Failed return the events for its
	// members.
	Build  func(list []I, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error)
	Built  func(sent contract.Sent, broadcast bool) engine.Event
	Failed func(why error) engine.Event

	looked looked
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

// Key returns the contract's key in the index, or nil if it is not in it.
func (h *Sharing[S, I]) Key(ref engine.Ref, state any) []byte {
	s, ok := state.(S)
	if !ok || h.Solo(&s) || !h.Open(&s) {
		return nil
	}
	txid := h.in(&s)
	return append(txid[:], ref.ID[:]...)
}

// Account updates the index in the transaction that changes a contract.
func (h *Sharing[S, I]) Account(tx engine.Tx, c engine.Change) error {
	before, after := h.Key(c.Ref, c.Before), h.Key(c.Ref, c.State)
	if bytes.Equal(before, after) {
		return nil
	}
	if before != nil {
		if err := tx.Delete(h.Bucket, before); err != nil {
			return err
		}
	}
	if after != nil {
		return tx.Put(h.Bucket, after, []byte{})
	}
	return nil
}

// Due joins the contract that asks, at the given fee rate or above, and all
// others that are due into one transaction, and tells every contract in it.
// input returns a member's part; a member whose part cannot be built is left
// out.
func (h *Sharing[S, I]) Due(tx engine.Tx, ref engine.Ref, urgent bool, rate wire.SatPerKVB, input func(*Member[S]) (I, batch.Member, error)) ([]engine.Delivery, error) {
	raw, err := tx.State(ref)
	if err != nil {
		return nil, err
	}
	first := Member[S]{Ref: ref}
	if err := wire.Unmarshal(raw, &first.State); err != nil {
		return nil, err
	}
	if !h.Open(&first.State) {
		return nil, nil // spent meanwhile
	}
	if prev := h.Sent(&first.State); prev != nil && !h.looked.firstOf(prev.Txid, urgent, ref, h.Engine.Position().Height) {
		return nil, nil // another member was here first
	}
	group, err := h.Group(tx, first)
	if err != nil {
		return nil, err
	}
	var list []Input[I]
	for i := range group {
		m := &group[i]
		in, plan, err := input(m)
		if err != nil && m.Ref == ref {
			return nil, err
		} else if err != nil {
			h.Log.Error("a contract is left out of a transaction", "contract", m.Ref, "err", err)
			continue
		}
		plan.Alone, plan.In = h.Solo(&m.State), h.Sent(&m.State)
		list = append(list, Input[I]{plan, m.Ref, in})
	}
	return h.join(tx, ref, list, rate)
}

// Members returns the members of an earlier transaction, or those of none.
func (h *Sharing[S, I]) Members(tx engine.Tx, txid wire.Hash) (refs []engine.Ref, err error) {
	err = tx.Scan(h.Bucket, txid[:], h.Limit, func(key, _ []byte) error {
		refs = append(refs, engine.Ref{Kind: h.Kind, ID: wire.Hash(key[len(txid):])})
		return nil
	})
	return refs, err
}

// Group returns the members that share first's earlier transaction, or that are
// in none if first is in none; first comes first. Contracts that cannot be read
// are skipped.
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
		if r == first.Ref || len(list) >= h.Limit {
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

// join plans the members of a group, one of which is ref's, and builds what the
// plan says. It runs in the transaction that ends the effect, so two plans
// never compete.
func (h *Sharing[S, I]) join(tx engine.Tx, ref engine.Ref, list []Input[I], rate wire.SatPerKVB) (out []engine.Delivery, err error) {
	at := map[wire.Outpoint]*Input[I]{}
	var members []batch.Member
	for i := range list {
		at[list[i].Plan.At] = &list[i]
		members = append(members, list[i].Plan)
	}
	market := batch.Market{Tip: h.Engine.Position().Height, Estimate: max(rate, h.Engine.FeeRate())}
	plan := batch.Make(market, h.Limit, members)
	for _, l := range plan.Left {
		if at[l.At].Ref != ref {
			continue // it asks for itself
		}
		h.Log.Debug("a contract is in no transaction", "contract", ref, "err", l.Why)
		out = append(out, engine.Delivery{Ref: ref, Event: h.Failed(l.Why)})
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
			alone, err := h.join(tx, ref, []Input[I]{list[own]}, rate)
			if err != nil {
				return nil, err
			}
			out = append(out, alone...)
		}
	}
	return out, nil
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
	if t.Replaces != nil { // to the same address
		old, err := contract.ReadTx(t.Replaces.Tx)
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
	return contract.NewSent(built, fee, tip), nil, h.Coins.UseScript(tx, script)
}

// Window returns the window in which a fee rises: from n blocks before a
// deadline to m before it.
func Window(t wire.Height, n, m uint32) (from, to wire.Height) {
	return t - min(t, wire.Height(n)), t - min(t, wire.Height(m))
}

// looked remembers which contract handles each shared transaction at a height.
type looked struct {
	mu     sync.Mutex
	height wire.Height
	by     map[look]engine.Ref
}

type look struct {
	txid   wire.Hash
	urgent bool
}

// firstOf reports whether a contract is the one to handle its transaction in
// this block: one per batch is enough.
func (l *looked) firstOf(txid wire.Hash, urgent bool, ref engine.Ref, tip wire.Height) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.height != tip || l.by == nil {
		l.height, l.by = tip, map[look]engine.Ref{}
	}
	k := look{txid, urgent}
	if _, ok := l.by[k]; !ok {
		l.by[k] = ref
	}
	return l.by[k] == ref
}

// in returns the txid of the contract's transaction, or zeros.
func (h *Sharing[S, I]) in(s *S) wire.Hash {
	if sent := h.Sent(s); sent != nil {
		return sent.Txid
	}
	return wire.Hash{}
}
