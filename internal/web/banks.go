package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

func showOutcome(o bank.Outcome) api.IfStopped {
	return api.IfStopped{Payee: o.Payee, Payer: o.Payer, Fee: o.Fee, Between: o.Between, Text: o.Text}
}

// ours fills in what both sides of a bank have in common.
func ours(v *api.Bank, o *bank.Ours, count uint32, rate wire.SatPerKVB) {
	l := &o.Ladder
	v.Value, v.Rungs, v.Pennies, v.Penny = l.Value, l.Rungs, l.N(), l.Paid(1)
	v.Paid, v.PaidMsat, v.Rung = count, l.Paid(count), l.Rung(count)
	v.Expiry, v.LastPenny = uint32(o.Expiry), uint32(o.Expiry)-min(o.Margins.Stop, uint32(o.Expiry))
	if o.At != (wire.Outpoint{}) {
		v.Funding = displayed(o.At.Txid)
	}
	v.Depth, v.Conf = o.Depth(), o.Conf
	if o.Spend != nil {
		v.Close = displayed(o.Spend.Txid)
	}
	v.Stopped = showOutcome(o.Outcome(count, rate))
	if payee, payer, fee, ok := o.Together(count, rate); ok {
		v.Together = &api.Together{Payee: payee, Payer: payer, Fee: fee}
	}
}

func (s *Server) showPayer(p *bank.Payer, rate wire.SatPerKVB) api.Bank {
	v := api.Bank{ID: p.Bank.String(), Side: "payer", State: p.State(), Peer: wire.EncodeAddress(s.cfg.Network, p.Terms.Peer.Key), Memo: p.Terms.Memo,
		Acked: p.Acked, Assigned: p.Assigned, Why: p.Failure, FailedBy: api.Code(p.FailedBy), FundingFee: p.Fee, Published: p.Phase == bank.PayerPublished}
	if p.Terms.Pair != (bank.ID{}) {
		v.Pair = p.Terms.Pair.String()
	}
	if p.Reverse != nil {
		v.Pair = p.Reverse.String()
	}
	v.PairWanted, v.PairWhy = p.Terms.Back, p.NoReverse
	ours(&v, &p.Ours, p.Target, rate)
	if v.State == bank.StateFailed {
		v.Stopped = api.IfStopped{Payer: v.Value, Text: "It was given up before anything was paid."}
	}
	if v.Close == "" && p.CloseTxid != (wire.Hash{}) {
		v.Close = displayed(p.CloseTxid)
	}
	if v.Why == "" {
		v.Why = p.PayeeWhy
	}
	v.Unused = p.Unused()
	if v.Why == "" && p.Withdrawn && p.Confirmed == nil {
		v.Why = "it is cancelled once the transaction that takes its coins back confirms"
	}
	return v
}

func (s *Server) showPayee(y *bank.Payee, rate wire.SatPerKVB) api.Bank {
	v := api.Bank{ID: y.Bank.String(), Side: "payee", State: y.State(), Acked: y.Count(), Assigned: y.Assigned, Published: y.Funded}
	ours(&v, &y.Ours, y.Count(), rate)
	for _, sent := range []*contract.Sent{y.Alone, y.Joined} {
		if v.Close == "" && sent != nil {
			v.Close = displayed(sent.Txid)
		}
	}
	if y.Stop != bank.NotStopped {
		v.Why = y.Stop.String()
	}
	if y.IsLate(y.Tip) {
		v.Why = fmt.Sprintf("its close is late, because this daemon was away: from block %d on its payer can take everything back", y.Expiry)
	}
	return v
}

func (s *Server) showPayment(p *bank.Sending) api.BankPayment {
	v := api.BankPayment{ID: p.ID.String(), State: p.State(), To: wire.EncodeAddress(s.cfg.Network, p.Order.Payee),
		Bank: p.Order.Bank.String(), Total: p.Order.Total, Step: p.Order.Step, Paid: p.Acked, Asked: p.Asked, Fees: p.Fees, Note: p.Order.Memo, Why: p.Why}
	if t := p.Order.Text; t != nil {
		v.Ref, v.Memo = t.Reference, t.Memo
	}
	v.Bankers = s.bankers(p.Order.Bankers)
	for at := wire.Msat(0); at < p.Order.Total && len(p.Order.More) > 0; {
		l, end := p.Order.Leg(at)
		v.Parts = append(v.Parts, api.Part{Bank: l.Bank.String(), Bankers: s.bankers(l.Bankers), Total: end - at})
		at = end
	}
	return v
}

// bankers returns addresses.
func (s *Server) bankers(hops []wire.RouteHop) []string {
	list := make([]string, len(hops))
	for i, h := range hops {
		list[i] = wire.EncodeAddress(s.cfg.Network, h.Key)
	}
	return list
}

// showReceived shows a payment of which this home is the final payee.
func showReceived(r *bank.Relay) api.Received {
	v := api.Received{ID: r.ID.String(), Bank: r.In.String(), Amount: r.Total, Steps: r.Index, Since: r.Since, At: r.At}
	if r.Text != nil {
		v.Reference, v.Memo = r.Text.Reference, r.Text.Memo
	}
	return v
}

// showOrder shows an order of pennies as a payment.
func (s *Server) showOrder(o *banking.Ordered) api.BankPayment {
	total, paid := o.Amounts()
	return api.BankPayment{ID: o.ID.String(), State: o.State(), To: wire.EncodeAddress(s.cfg.Network, o.Payer.Terms.Peer.Key), Bankers: []string{},
		Bank: o.Order.Of.String(), Total: total, Step: total, Paid: paid, Asked: total, Pennies: o.Order.Pennies, Why: o.Payer.PayeeWhy}
}

// Keyed is the idempotency key of a request that pays.
type Keyed struct {
	Key string `header:"Idempotency-Key" maxLength:"128" doc:"a request with the key of an earlier one pays nothing, and is answered as that one; a key is known for 30 days"`
}

// peerOf parses ADDRESS or ADDRESS@MULTIADDR,… .
func (s *Server) peerOf(text string) (p bank.Peer, err error) {
	key, addrs, found := strings.Cut(text, "@")
	if p.Key, err = wire.ParseRecipient(s.cfg.Network, key); err != nil {
		return p, err
	}
	if found {
		p.Addrs = strings.Split(addrs, ",")
		if err := p2p.CheckAddrs(p.Addrs); err != nil {
			return p, fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	return p, nil
}

// reachTime is how long a peer is looked up, and reachAgain the pause between two
// lookups.
const reachTime, reachAgain = 30 * time.Second, 500 * time.Millisecond

// reach parses a peer and, if its multiaddrs are not given, looks them up in the
// DHT.
func (s *Server) reach(ctx context.Context, n *node.Node, text string) (bank.Peer, error) {
	p, err := s.peerOf(text)
	if err != nil || len(p.Addrs) > 0 {
		return p, err
	}
	wait, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	if err := n.Directory.WaitNetwork(wait); err != nil {
		return p, err
	}
	ad, err := n.Directory.FindAgent(wait, p.Key)
	for errors.Is(err, p2p.ErrNotFound) && wait.Err() == nil {
		// An agent that has just started is not in the DHT yet.
		select {
		case <-time.After(reachAgain):
			ad, err = n.Directory.FindAgent(wait, p.Key)
		case <-wait.Done():
		}
	}
	if err != nil {
		return p, err
	}
	if ad.Services&wire.Banking == 0 {
		return p, ErrTakesNone
	}
	p.Addrs = ad.Record.Addrs
	return p, nil
}

// BankByID is the ID of a bank or payment in a path.
type BankByID struct {
	ID string `path:"id" doc:"ID of a bank or payment, or at least its first 4 digits"`
}

// bankNow finds a bank and shows it.
func (s *Server) bankNow(ctx context.Context, n *node.Node, id string) (v api.Bank, state any, err error) {
	if state, err = n.Banks.FindBank(ctx, id); err != nil {
		return v, nil, err
	}
	rate := n.Engine().FeeRate()
	switch b := state.(type) {
	case bank.Payer:
		return s.showPayer(&b, rate), state, nil
	case bank.Payee:
		return s.showPayee(&b, rate), state, nil
	}
	return v, nil, fmt.Errorf("%w: %s is a payment", banking.ErrNoBank, id)
}

// payerOf finds a bank of which this home is the payer.
func (s *Server) payerOf(ctx context.Context, n *node.Node, id string) (p bank.Payer, err error) {
	_, state, err := s.bankNow(ctx, n, id)
	if err != nil {
		return p, err
	}
	p, ok := state.(bank.Payer)
	if !ok {
		return p, fmt.Errorf("%w: this home is the payee of that bank, and only its payer can do this", ErrRequest)
	}
	return p, nil
}

type opening struct {
	Keyed
	Peer    string  `query:"peer" required:"true" doc:"ADDRESS or ADDRESS@MULTIADDR of the payee"`
	Value   int64   `query:"value_sat" required:"true" minimum:"1"`
	Rungs   uint32  `query:"rungs" default:"126" minimum:"1" maximum:"1022"`
	Pennies uint32  `query:"pennies" default:"100000" minimum:"1" maximum:"16777215" doc:"number of pennies, rounded up to whole rungs"`
	Days    float64 `query:"days" default:"30" exclusiveMinimum:"0" maximum:"730"`
	MaxFee  int64   `query:"max_fee_sat" default:"10000" minimum:"0" doc:"most that the funding may cost"`
	Memo    string  `query:"memo" maxLength:"200"`
	Pair    int64   `query:"pair_sat" minimum:"0" doc:"also ask the payee to open a reverse bank of this value, once this one is open; 0 for none"`
}

// bankTerms are the terms that an opening asks for.
func (s *Server) bankTerms(in *opening) banking.Terms {
	m := bank.MarginsFor(s.cfg.Network)
	per := (in.Pennies + in.Rungs - 1) / in.Rungs
	if per*in.Rungs > penny.MaxSeq {
		per = in.Pennies / in.Rungs
	}
	return banking.Terms{Value: wire.Sat(in.Value), Rungs: in.Rungs, PerRung: per,
		Blocks: max(m.MinLife+m.Conf+3, uint32(in.Days*float64(m.BlocksPerDay))), MaxFee: wire.Sat(in.MaxFee), Memo: in.Memo, Back: wire.Sat(in.Pair), Key: in.Key}
}

// PennyPaying is what to pay from a bank.
type PennyPaying struct {
	BankByID
	Pennies uint32 `query:"pennies" maximum:"16777215" doc:"number of pennies; or pass amount_msat"`
	Amount  uint64 `query:"amount_msat" maximum:"2100000000000000000" doc:"amount, rounded up to whole pennies if that is at most 1 sat or 1 % more"`
	RoundUp bool   `query:"round_up" doc:"round up to whole pennies, however much more that is"`
}

// planPennies returns the bank and the number of its pennies to pay.
func (s *Server) planPennies(ctx context.Context, n *node.Node, in *PennyPaying) (p bank.Payer, v api.Pennies, err error) {
	if p, err = s.payerOf(ctx, n, in.ID); err == nil {
		err = p.Spendable()
	}
	if err != nil {
		return p, v, err
	}
	v.Pennies, v.Penny = in.Pennies, p.Ladder.Paid(1)
	if in.Amount > 0 {
		v.Pennies, v.Amount, err = banking.PlanPennies(&p, wire.Msat(in.Amount), in.RoundUp)
	} else {
		v.Amount = p.Ladder.Paid(min(v.Pennies, p.Ladder.N()))
	}
	if err == nil && v.Pennies == 0 {
		err = fmt.Errorf("%w: pass pennies or amount_msat", ErrRequest)
	}
	return p, v, err
}

// newKey draws an idempotency key for a request that has none, so that its caller
// can still ask what became of it.
func newKey() string {
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	return hex.EncodeToString(key[:])
}

func (s *Server) bankRoutes(to huma.API) {
	on(s, to, "GET", "/banks", "List penny banks, as payer and as payee", func(ctx context.Context, n *node.Node, _ *none) (list struct {
		Banks []api.Bank `json:"banks" doc:"oldest first"`
	}, err error) {
		list.Banks = []api.Bank{}
		rate := n.Engine().FeeRate()
		if err = n.Banks.Payers(ctx, func(p bank.Payer) error {
			list.Banks = append(list.Banks, s.showPayer(&p, rate))
			return nil
		}); err != nil {
			return list, err
		}
		err = n.Banks.Payees(ctx, func(y bank.Payee) error {
			list.Banks = append(list.Banks, s.showPayee(&y, rate))
			return nil
		})
		return list, err
	})
	on(s, to, "GET", "/banks/{id}", "Get a bank", func(ctx context.Context, n *node.Node, in *BankByID) (api.Bank, error) {
		v, _, err := s.bankNow(ctx, n, in.ID)
		return v, err
	})
	on(s, to, "POST", "/banks/quote", "Estimate the cost of a bank", func(ctx context.Context, n *node.Node, in *opening) (api.BankQuote, error) {
		t := s.bankTerms(in)
		q, err := n.Banks.QuoteBank(penny.Ladder{Value: t.Value, Rungs: t.Rungs, PerRung: t.PerRung})
		l := &q.Ladder
		if err != nil {
			return api.BankQuote{}, err
		}
		return api.BankQuote{Value: l.Value, Rungs: l.Rungs, Pennies: l.N(), Penny: l.Paid(1), Rung: l.Paid(l.PerRung), Funding: q.Funding, Close: q.Close, Warning: q.Warning}, nil
	})
	on(s, to, "POST", "/banks", "Open a bank", func(ctx context.Context, n *node.Node, in *opening) (api.Bank, error) {
		t := s.bankTerms(in)
		var err error
		if t.Peer, err = s.peerOf(in.Peer); err != nil {
			return api.Bank{}, err
		}
		// The same request again is answered while the payee is away, too.
		old, err := n.Banks.OpenedBank(ctx, t)
		if err != nil {
			return api.Bank{}, err
		}
		if old == nil {
			if t.Peer, err = s.reach(ctx, n, in.Peer); err != nil {
				return api.Bank{}, err
			}
			id, err := n.Banks.OpenBank(ctx, t)
			if err != nil {
				return api.Bank{}, err
			}
			old = &id
		}
		v, _, err := s.bankNow(ctx, n, old.String())
		return v, err
	})
	on(s, to, "POST", "/banks/{id}/plan", "Show what a payment from a bank would take", func(ctx context.Context, n *node.Node, in *PennyPaying) (api.Pennies, error) {
		_, v, err := s.planPennies(ctx, n, in)
		return v, err
	})
	on(s, to, "POST", "/banks/{id}/pay", "Pay pennies, and wait until the payee has acknowledged them", func(ctx context.Context, n *node.Node, in *struct {
		PennyPaying
		Keyed
		Each bool `query:"each" doc:"send every penny; otherwise one penny pays for many"`
	}) (api.Bank, error) {
		var paid api.Pennies
		p, err := s.payerOf(ctx, n, in.ID)
		if err != nil {
			return api.Bank{}, err
		}
		if old, found := n.Banks.OrderedPennies(ctx, in.Key); in.Key != "" && found == nil && old.Order.Of == p.Bank {
			// The same request again: what it would take now is of no concern.
			paid = api.Pennies{Pennies: old.Order.Pennies, Penny: p.Ladder.Paid(1), Amount: p.Ladder.Paid(old.Order.Pennies)}
			want := in.Pennies
			if in.Amount > 0 {
				want, _ = p.Ladder.CountFor(wire.Msat(in.Amount))
			}
			if want != paid.Pennies {
				return api.Bank{}, banking.ErrKey
			}
		} else if p, paid, err = s.planPennies(ctx, n, &in.PennyPaying); err != nil {
			return api.Bank{}, err
		}
		key := cmp.Or(in.Key, newKey())
		id := banking.OrderID(key).String()
		opt := banking.Streaming{Each: in.Each, Window: 4096, Key: key, Progress: func(count, target uint32) {
			s.hub.progress(api.Progress{What: "pennies", Done: uint64(count), Total: uint64(target)})
		}}
		if _, err := n.Banks.PayPennies(ctx, p.Bank, paid.Pennies, opt); errors.Is(err, banking.ErrOrdered) {
			return api.Bank{}, &orderedError{err, id, key}
		} else if err != nil {
			return api.Bank{}, err
		}
		v, _, err := s.bankNow(ctx, n, p.Bank.String())
		v.Payment, v.PaymentID, v.Key = &paid, id, key
		return v, err
	})
	on(s, to, "POST", "/banks/{id}/close", "Close a bank: as its payer together with the payee, as its payee alone", func(ctx context.Context, n *node.Node, in *BankByID) (api.Bank, error) {
		v, state, err := s.bankNow(ctx, n, in.ID)
		if err != nil {
			return v, err
		}
		if err := n.Banks.CloseBank(ctx, banking.RefOf(state)); err != nil {
			return v, err
		}
		v, _, err = s.bankNow(ctx, n, v.ID)
		return v, err
	})
	on(s, to, "POST", "/banks/{id}/cancel", "Take a bank back before its funding is confirmed", func(ctx context.Context, n *node.Node, in *BankByID) (api.Bank, error) {
		p, err := s.payerOf(ctx, n, in.ID)
		if err != nil {
			return api.Bank{}, err
		}
		if err := n.Banks.CancelBank(ctx, p.Bank); err != nil {
			return api.Bank{}, err
		}
		v, _, err := s.bankNow(ctx, n, p.Bank.String())
		return v, err
	})
	on(s, to, "POST", "/banks/{id}/bump", "Raise the fee of a bank's unconfirmed funding, close or refund", func(ctx context.Context, n *node.Node, in *struct {
		BankByID
		Rate int64 `query:"rate_sat_per_kvb" minimum:"0" maximum:"10000000" doc:"fee rate; 0 for twice the rate of before, and at least the node's estimate"`
		Max  int64 `query:"max_fee_sat" minimum:"0" doc:"maximum fee of a child of the funding, and permission to pay it; 0 for the default ceiling"`
	}) (api.Bank, error) {
		v, state, err := s.bankNow(ctx, n, in.ID)
		if err != nil {
			return v, err
		}
		if err := n.Banks.BumpBank(ctx, banking.RefOf(state), wallet.Fee{Rate: wire.SatPerKVB(in.Rate), Max: wire.Sat(in.Max)}); err != nil {
			return v, err
		}
		v, _, err = s.bankNow(ctx, n, v.ID)
		return v, err
	})
	on(s, to, "POST", "/banks/{id}/charge", "Use credit of a bank as its payee, for what its payer bought with pennies that it paid directly", func(ctx context.Context, n *node.Node, in *struct {
		BankByID
		Keyed
		Amount int64 `query:"amount_msat" required:"true" minimum:"1"`
	}) (api.Bank, error) {
		v, state, err := s.bankNow(ctx, n, in.ID)
		if err != nil {
			return v, err
		}
		y, ok := state.(bank.Payee)
		if !ok {
			return v, fmt.Errorf("%w: this home is the payer of that bank, and only its payee can do this", ErrRequest)
		}
		if err := n.Banks.Charge(ctx, y.Bank, wire.Msat(in.Amount), in.Key); err != nil {
			return v, err
		}
		v, _, err = s.bankNow(ctx, n, v.ID)
		return v, err
	})
	on(s, to, "POST", "/banks/{id}/pair", "Ask the payee to open a reverse bank", func(ctx context.Context, n *node.Node, in *struct {
		BankByID
		Value int64 `query:"value_sat" required:"true" minimum:"1"`
	}) (out struct {
		ID string `json:"bank_id"`
	}, err error) {
		p, err := s.payerOf(ctx, n, in.ID)
		if err != nil {
			return out, err
		}
		id, err := n.Banks.AskPair(ctx, p.Bank, wire.Sat(in.Value))
		out.ID = id.String()
		return out, err
	})
	s.paymentRoutes(to)
}

type paying struct {
	Keyed
	To     string `query:"to" required:"true" doc:"address of the payee"`
	Amount uint64 `query:"amount_msat" required:"true" minimum:"1" maximum:"2100000000000000000"`
	Step   uint64 `query:"step_msat" maximum:"2100000000000000000" doc:"amount per step when paying through bankers; 0 for a tenth"`
	MaxFee uint64 `query:"max_fee_msat" maximum:"2100000000000000000" doc:"most that all bankers may take"`
	Ref    string `query:"reference" maxLength:"32" doc:"the payee is told"`
	Memo   string `query:"memo" maxLength:"200" doc:"the payee is told"`
	Note   string `query:"note" maxLength:"200" doc:"private"`
}

func (s *Server) payment(in *paying) (p banking.Payment, err error) {
	p = banking.Payment{Amount: wire.Msat(in.Amount), Step: wire.Msat(in.Step), MaxFee: wire.Msat(in.MaxFee), Reference: in.Ref, Memo: in.Memo, Private: in.Note, Key: in.Key}
	p.To, err = wire.ParseRecipient(s.cfg.Network, in.To)
	return p, err
}

// paymentNow finds a payment and shows it.
func (s *Server) paymentNow(ctx context.Context, n *node.Node, id string) (v api.BankPayment, state bank.Sending, err error) {
	found, err := n.Banks.FindBank(ctx, id)
	if err != nil {
		return v, state, err
	}
	state, ok := found.(bank.Sending)
	if !ok {
		return v, state, fmt.Errorf("%w: %s is a bank", banking.ErrNoBank, id)
	}
	v = s.showPayment(&state)
	v.Exposed, _, err = n.Banks.Exposed(ctx, &state.Order)
	return v, state, err
}

func (s *Server) paymentRoutes(to huma.API) {
	on(s, to, "GET", "/payments", "List payments to addresses", func(ctx context.Context, n *node.Node, _ *none) (list struct {
		Payments []api.BankPayment `json:"payments" doc:"oldest first"`
	}, err error) {
		list.Payments = []api.BankPayment{}
		err = n.Banks.Sendings(ctx, func(p bank.Sending) error {
			list.Payments = append(list.Payments, s.showPayment(&p))
			return nil
		})
		return list, err
	})
	on(s, to, "GET", "/payments/{id}", "Get a payment, or an order of pennies from a bank", func(ctx context.Context, n *node.Node, in *BankByID) (api.BankPayment, error) {
		found, err := n.Banks.FindBank(ctx, in.ID)
		if o, ok := found.(banking.Ordered); ok && err == nil {
			return s.showOrder(&o), nil
		}
		v, _, err := s.paymentNow(ctx, n, in.ID)
		return v, err
	})
	on(s, to, "GET", "/payments/{id}/receipt", "Get what the payee of a payment has signed", func(ctx context.Context, n *node.Node, in *BankByID) (r api.Receipt, err error) {
		_, state, err := s.paymentNow(ctx, n, in.ID)
		if err != nil {
			return r, err
		}
		found, err := n.Banks.Receipt(&state)
		if err != nil {
			return r, err
		}
		return api.Receipt(*found), nil
	})
	on(s, to, "GET", "/received", "List the payments that this home received", func(ctx context.Context, n *node.Node, _ *none) (list struct {
		Received []api.Received `json:"received" doc:"oldest first"`
	}, err error) {
		list.Received = []api.Received{}
		err = n.Banks.Received(ctx, func(r bank.Relay) error {
			list.Received = append(list.Received, showReceived(&r))
			return nil
		})
		return list, err
	})
	on(s, to, "POST", "/payments/plan", "Show the route of a payment and its fees", func(ctx context.Context, n *node.Node, in *paying) (api.BankPayment, error) {
		p, err := s.payment(in)
		if err != nil {
			return api.BankPayment{}, err
		}
		o, err := n.Banks.PlanPayment(ctx, p)
		if err != nil {
			return api.BankPayment{}, err
		}
		plan := bank.Sending{Order: *o}
		v := s.showPayment(&plan)
		v.ID, v.State, v.Fees = "", "planned", plan.AllFees()
		v.Before, v.Exposed, err = n.Banks.Exposed(ctx, o)
		return v, err
	})
	on(s, to, "POST", "/payments", "Pay an address, through banks with its owner or through bankers", func(ctx context.Context, n *node.Node, in *paying) (api.BankPayment, error) {
		p, err := s.payment(in)
		if err != nil {
			return api.BankPayment{}, err
		}
		id, err := n.Banks.PayTo(ctx, p)
		if err != nil {
			return api.BankPayment{}, err
		}
		v, _, err := s.paymentNow(ctx, n, id.String())
		return v, err
	})
	for what, f := range map[string]func(*banking.Banks, context.Context, wire.Hash) error{"resume": (*banking.Banks).ResumePayment, "end": (*banking.Banks).EndPayment} {
		summary := map[string]string{"resume": "Resume a payment that has ended", "end": "End a payment after its current step"}[what]
		on(s, to, "POST", "/payments/{id}/"+what, summary, func(ctx context.Context, n *node.Node, in *BankByID) (api.BankPayment, error) {
			v, p, err := s.paymentNow(ctx, n, in.ID)
			if err != nil {
				return v, err
			}
			if err := f(n.Banks, ctx, p.ID); err != nil {
				return v, err
			}
			v, _, err = s.paymentNow(ctx, n, v.ID)
			return v, err
		})
	}
	on(s, to, "GET", "/banker", "What this home receives, forwards and earns", s.banker)
}

func (s *Server) banker(ctx context.Context, n *node.Node, _ *none) (b api.Banker, err error) {
	b.Reach = []string{}
	if t := n.Banking(); t != nil {
		b.Payee = true
		if t.Fees != nil {
			b.Banker, b.Base, b.PPM = true, t.Fees.Base, t.Fees.PPM
		}
		for _, a := range n.Addrs() {
			b.Reach = append(b.Reach, n.Address()+"@"+a)
		}
	}
	if err = n.Banks.Payees(ctx, func(y bank.Payee) error {
		if y.State() == bank.StateOpen {
			b.Incoming++
		}
		if y.Spend == nil {
			b.Held += y.Ladder.Paid(y.Count())
		}
		return nil
	}); err != nil {
		return b, err
	}
	if err = n.Banks.Payers(ctx, func(p bank.Payer) error {
		if p.State() == bank.StateOpen {
			b.Outgoing++
		}
		return nil
	}); err != nil {
		return b, err
	}
	seen := map[wire.Hash]bool{} // a banker stores a payment for each bank that it came through
	err = n.Banks.Relays(ctx, func(r bank.Relay) error {
		seen[r.ID] = true
		b.Passed += r.Passed
		b.Earned += r.Fees
		if r.Out == (bank.ID{}) {
			b.Received += r.Passed
		}
		return nil
	})
	b.Payments = len(seen)
	return b, err
}
