package node

import (
	"errors"
	"slices"
	"sync"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// maxClaims bounds one claim transaction well under the 400,000 weight units
// that nodes relay.
const maxClaims = 250

// maxGroup is how many banks share one transaction: few enough that it replaces no
// more than 100 others (BIP125, rule 5) and that each member can keep a copy.
const maxGroup = 50

// The indexes of what may share a transaction: the txid of the one that a bank is
// in, or zeros ‖ id → nothing.
const (
	bucketClosable   = "bank/closable"
	bucketRefundable = "bank/refundable"
)

// sharing is how contracts of one kind share transactions: S is their state, I
// their input of package contract.
type sharing[S, I any] struct {
	bucket string
	kind   engine.Kind
	limit  int // members of a transaction
	sent   func(*S) *contract.Sent
	solo   func(*S) bool
	ready  func(*S) bool
	build  func(list []I, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error)
	built  func(sent contract.Sent, broadcast bool) engine.Event
	failed func(why error) engine.Event
}

// member is a contract that may share a transaction.
type member[S any] struct {
	ref   engine.Ref
	state S
}

// input is a member as it is planned, and its input of the transaction.
type input[I any] struct {
	batch.Member
	ref engine.Ref
	in  I
}

var (
	claiming = sharing[deal.Agent, contract.Claim]{
		bucketClaimable, deal.KindAgent, maxClaims,
		func(a *deal.Agent) *contract.Sent { return a.Claim },
		func(a *deal.Agent) bool { return a.Quote.Shape != wire.PerAgent },
		(*deal.Agent).Claimable,
		contract.BuildClaim,
		func(s contract.Sent, b bool) engine.Event { return deal.ClaimBuilt{Sent: s, Broadcast: b} },
		func(why error) engine.Event { return deal.ClaimFailed{Why: why.Error()} },
	}
	closing = sharing[bank.Payee, contract.BankClose]{
		bucketClosable, bank.KindPayee, maxGroup,
		func(y *bank.Payee) *contract.Sent { return y.Alone },
		func(y *bank.Payee) bool { return y.Solo },
		(*bank.Payee).Due,
		func(list []contract.BankClose, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
			return contract.BuildClose(list, nil, script, rate, minFee)
		},
		func(s contract.Sent, b bool) engine.Event { return bank.CloseBuilt{Sent: s, Broadcast: b} },
		func(error) engine.Event { return bank.CloseFailed{} },
	}
	refunding = sharing[bank.Payer, contract.BankRefund]{
		bucketRefundable, bank.KindPayer, maxGroup,
		func(p *bank.Payer) *contract.Sent { return p.Refund },
		func(p *bank.Payer) bool { return p.Solo },
		(*bank.Payer).Refundable,
		contract.BuildBankRefund,
		func(s contract.Sent, b bool) engine.Event { return bank.RefundBuilt{Sent: s, Broadcast: b} },
		func(error) engine.Event { return bank.RefundFailed{} },
	}
)

// shared is the members of an earlier transaction, or of none.
func (h *sharing[S, I]) shared(tx engine.Tx, txid wire.Hash) (refs []engine.Ref, err error) {
	err = tx.Scan(h.bucket, txid[:], h.limit, func(key, _ []byte) error {
		refs = append(refs, engine.Ref{Kind: h.kind, ID: wire.Hash(key[len(txid):])})
		return nil
	})
	return refs, err
}

// group is the members that share first's earlier transaction, or are in none as
// first is; first comes first. What cannot be read is in nobody's way.
func (h *sharing[S, I]) group(x *executor, tx engine.Tx, first member[S]) (list []member[S], err error) {
	list = []member[S]{first}
	if h.solo(&first.state) {
		return list, nil
	}
	refs, err := h.shared(tx, sentOr(h.sent(&first.state)).Txid)
	if err != nil {
		return nil, err
	}
	for _, r := range refs {
		if r == first.ref || len(list) >= h.limit {
			continue
		}
		m := member[S]{ref: r}
		raw, err := tx.State(r)
		if err == nil {
			err = wire.Unmarshal(raw, &m.state)
		}
		if err != nil {
			x.log.Warn("a contract that cannot be read is left out of a transaction", "contract", r, "err", err)
		} else if h.ready(&m.state) {
			list = append(list, m)
		}
	}
	return list, nil
}

// join plans the members of a group, one of which is ref's, and builds what is to
// be built. It runs in the transaction that ends the effect, so two plans never
// compete.
func (h *sharing[S, I]) join(x *executor, tx engine.Tx, ref engine.Ref, list []input[I], rate wire.SatPerKVB) (out []engine.Delivery, err error) {
	at := map[wire.Outpoint]*input[I]{}
	var members []batch.Member
	for i := range list {
		at[list[i].At] = &list[i]
		members = append(members, list[i].Member)
	}
	market := batch.Market{Tip: x.engine.Position().Height, Estimate: max(rate, x.engine.FeeRate())}
	plan := batch.Make(market, h.limit, members)
	for _, l := range plan.Left {
		if at[l.At].ref != ref {
			continue // it asks for itself
		}
		x.log.Debug("a contract is in no transaction", "contract", ref, "err", l.Why)
		out = append(out, engine.Delivery{Ref: ref, Event: h.failed(l.Why)})
	}
	for _, t := range plan.Txs {
		sender := at[t.Members[0]].ref // one of the members broadcasts it
		if slices.ContainsFunc(t.Members, func(o wire.Outpoint) bool { return at[o].ref == ref }) {
			sender = ref
		}
		sent, why, err := h.transaction(x, tx, &t, at, market.Tip)
		switch {
		case err != nil:
			return nil, err
		case why == nil:
			for _, o := range t.Members {
				out = append(out, engine.Delivery{Ref: at[o].ref, Event: h.built(*sent, at[o].ref == sender)})
			}
			continue
		case why == errAgain || t.Replaces != nil: // that one can still confirm
			out = append(out, engine.Delivery{Ref: sender, Event: h.built(*sent, true)})
			continue
		}
		x.log.Error("a transaction cannot be built", "contract", sender, "members", len(t.Members), "err", why)
		switch own := slices.IndexFunc(list, func(i input[I]) bool { return i.ref == ref }); {
		case sender != ref:
		case len(t.Members) == 1:
			out = append(out, engine.Delivery{Ref: ref, Event: h.failed(why)})
		default: // another member may be at fault
			alone, err := h.join(x, tx, ref, []input[I]{list[own]}, rate)
			if err != nil {
				return nil, err
			}
			out = append(out, alone...)
		}
	}
	return out, nil
}

// errAgain: nothing is built; the earlier transaction is sent again.
var errAgain = errors.New("sent again")

// transaction builds a planned transaction. why tells why there is none: sent is then the
// earlier one, if any.
func (h *sharing[S, I]) transaction(x *executor, tx engine.Tx, t *batch.Tx, at map[wire.Outpoint]*input[I], tip wire.Height) (sent *contract.Sent, why, err error) {
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
	} else if script, err = x.wallet.PeekScript(tx, wallet.External); err != nil {
		return nil, nil, err
	}
	var inputs []I
	for _, o := range t.Members {
		inputs = append(inputs, at[o].in)
	}
	built, fee, why := h.build(inputs, script, 0, t.Fee)
	if why != nil {
		return t.Replaces, why, nil
	}
	return contract.NewSent(built, fee, tip), nil, x.wallet.UseScript(tx, script)
}

// window is when a fee rises: from n blocks before a deadline until m before it.
func window(t wire.Height, n, m uint32) (from, to wire.Height) {
	return t - min(t, wire.Height(n)), t - min(t, wire.Height(m))
}

// looked remembers which contract looked after each shared transaction at a
// height.
type looked struct {
	mu     sync.Mutex
	height wire.Height
	by     map[look]engine.Ref
}

type look struct {
	txid   wire.Hash
	urgent bool
}

// firstOf reports whether a contract is the one that looks after its transaction
// in this block: one of a batch is enough.
func (a *agent) firstOf(txid wire.Hash, urgent bool, ref engine.Ref, tip wire.Height) bool {
	l := &a.looked
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

func sentOr(s *contract.Sent) contract.Sent {
	if s == nil {
		return contract.Sent{}
	}
	return *s
}
