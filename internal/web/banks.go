package web

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Bank is one side of a penny bank.
type Bank struct {
	ID         string    `json:"bank_id"`
	Side       string    `json:"side" enum:"payer,payee"`
	State      string    `json:"state" enum:"opening,open,stopped,closing,closed,refunded,failed"`
	Peer       string    `json:"peer,omitempty" doc:"the payee's address; a payee does not know its payer"`
	Memo       string    `json:"memo,omitempty"`
	Pair       string    `json:"pair,omitempty" doc:"the bank the other way, of which the payee asked for this one"`
	Value      wire.Sat  `json:"value_sat"`
	Rungs      uint32    `json:"rungs"`
	Pennies    uint32    `json:"pennies" doc:"all there are"`
	Penny      wire.Msat `json:"penny_msat" doc:"worth of a penny, rounded down"`
	Paid       uint32    `json:"paid_pennies" doc:"a payer's that may have left; a payee's that it holds"`
	PaidMsat   wire.Msat `json:"paid_msat"`
	Acked      uint32    `json:"acknowledged_pennies" doc:"that the payee holds durably"`
	Assigned   wire.Msat `json:"assigned_msat" doc:"of what was paid: used by payments"`
	Rung       uint32    `json:"rung" doc:"the highest that is reached"`
	Expiry     uint32    `json:"expiry_height" doc:"from here on the payer can take back what nobody closed"`
	LastPenny  uint32    `json:"stop_height" doc:"from here on no penny is taken, and the payee closes"`
	Funding    string    `json:"funding_txid,omitempty"`
	Depth      uint32    `json:"confirmations"`
	Conf       uint32    `json:"confirmations_wanted"`
	Close      string    `json:"close_txid,omitempty"`
	Why        string    `json:"why,omitempty" doc:"why it failed, or takes no pennies"`
	Stopped    IfStopped `json:"if_stopped" doc:"what each side gets if everything stopped now"`
	Together   *Together `json:"together,omitempty" doc:"what each side gets where both close; none where that is not possible"`
	FundingFee wire.Sat  `json:"funding_fee_sat,omitempty"`
}

// Together is what each side of a bank gets where both close it.
type Together struct {
	Payee wire.Sat `json:"payee_sat" doc:"after the fee"`
	Payer wire.Sat `json:"payer_sat"`
	Fee   wire.Sat `json:"fee_sat"`
}

// IfStopped is what each side of a bank gets if everything stopped now.
type IfStopped struct {
	Payee   wire.Sat  `json:"payee_sat" doc:"after the fee of a close alone"`
	Payer   wire.Sat  `json:"payer_sat"`
	Fee     wire.Sat  `json:"fee_sat"`
	Between wire.Msat `json:"between_rungs_msat" doc:"paid, and of no rung yet"`
	Text    string    `json:"text"`
}

func showOutcome(o bank.Outcome) IfStopped {
	return IfStopped{o.Payee, o.Payer, o.Fee, o.Between, o.Text}
}

// ours fills in what both sides have.
func (v *Bank) ours(o *bank.Ours, count uint32, rate wire.SatPerKVB) {
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
		v.Together = &Together{payee, payer, fee}
	}
}

func (s *Server) showPayer(p *bank.Payer, rate wire.SatPerKVB) Bank {
	v := Bank{ID: p.Bank.String(), Side: "payer", State: p.State(), Peer: wire.EncodeAddress(s.cfg.Network, p.Terms.Peer.Key), Memo: p.Terms.Memo,
		Acked: p.Acked, Assigned: p.Assigned, Why: p.Failure, FundingFee: p.Fee}
	if p.Terms.Pair != (bank.ID{}) {
		v.Pair = p.Terms.Pair.String()
	}
	v.ours(&p.Ours, p.Target, rate)
	if v.State == bank.StateFailed {
		v.Stopped = IfStopped{Payer: v.Value, Text: "It was given up before anything was paid."}
	}
	if v.Close == "" && p.CloseTxid != (wire.Hash{}) {
		v.Close = displayed(p.CloseTxid)
	}
	if v.Why == "" {
		v.Why = p.PayeeWhy
	}
	return v
}

func (s *Server) showPayee(y *bank.Payee, rate wire.SatPerKVB) Bank {
	v := Bank{ID: y.Bank.String(), Side: "payee", State: y.State(), Acked: y.Count(), Assigned: y.Assigned}
	v.ours(&y.Ours, y.Count(), rate)
	for _, sent := range []*contract.Sent{y.Alone, y.Joined} {
		if v.Close == "" && sent != nil {
			v.Close = displayed(sent.Txid)
		}
	}
	if y.Stop != bank.NotStopped {
		v.Why = y.Stop.String()
	}
	return v
}

// BankQuote is what opening a bank costs.
type BankQuote struct {
	Value   wire.Sat  `json:"value_sat"`
	Rungs   uint32    `json:"rungs"`
	Pennies uint32    `json:"pennies"`
	Penny   wire.Msat `json:"penny_msat" doc:"worth of a penny, rounded down"`
	Rung    wire.Msat `json:"rung_msat" doc:"worth of a rung: the most that lies between two"`
	Funding wire.Sat  `json:"funding_fee_sat" doc:"about, with one input"`
	Close   wire.Sat  `json:"close_fee_sat" doc:"of the payee's close alone, at the present rate"`
	Warning string    `json:"warning,omitempty"`
}

// BankPayment is a payment to a key, over a bank with it or over bankers.
type BankPayment struct {
	ID      string    `json:"payment_id"`
	State   string    `json:"state" enum:"planned,paying,paid,ended,unacknowledged"`
	To      string    `json:"to"`
	Bankers []string  `json:"bankers" doc:"addresses, in order"`
	Bank    string    `json:"bank_id" doc:"the bank with the first hop"`
	Total   wire.Msat `json:"total_msat"`
	Step    wire.Msat `json:"step_msat"`
	Paid    wire.Msat `json:"paid_msat" doc:"that the payee has acknowledged by its signature"`
	Asked   wire.Msat `json:"asked_msat" doc:"with the step under way"`
	Fees    wire.Msat `json:"fees_msat"`
	Memo    string    `json:"memo,omitempty"`
	Why     string    `json:"why,omitempty"`
}

func (s *Server) showPayment(p *bank.Sending) BankPayment {
	v := BankPayment{ID: p.ID.String(), State: p.State(), To: wire.EncodeAddress(s.cfg.Network, p.Order.Payee), Bankers: []string{},
		Bank: p.Order.Bank.String(), Total: p.Order.Total, Step: p.Order.Step, Paid: p.Acked, Asked: p.Asked, Fees: p.Fees, Memo: p.Order.Memo, Why: p.Why}
	for _, b := range p.Order.Bankers {
		v.Bankers = append(v.Bankers, wire.EncodeAddress(s.cfg.Network, b.Key))
	}
	return v
}

// Banker reports on what a payee passes on.
type Banker struct {
	Payee    bool      `json:"takes_banks"`
	Banker   bool      `json:"passes_on"`
	Base     wire.Msat `json:"fee_base_msat"`
	PPM      uint32    `json:"fee_ppm"`
	Reach    []string  `json:"reach" doc:"as KEY@MULTIADDR, for those who open a bank with this daemon"`
	Incoming int       `json:"incoming_banks" doc:"open ones, of which this home is the payee"`
	Outgoing int       `json:"outgoing_banks" doc:"open ones, of which it is the payer"`
	Held     wire.Msat `json:"held_msat" doc:"in pennies of banks that are not settled"`
	Payments int       `json:"payments" doc:"received, or passed on"`
	Passed   wire.Msat `json:"passed_msat" doc:"taken for them, fees included"`
	Received wire.Msat `json:"received_msat" doc:"of that, for this home"`
	Earned   wire.Msat `json:"earned_msat" doc:"fees of what was passed on"`
}

// peerOf reads an address, perhaps with where it is reached: KEY@MULTIADDR,… .
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

// ErrTakesNone: a peer that takes no penny banks.
var ErrTakesNone = fmt.Errorf("%w: it takes no penny banks", bank.ErrRefused)

// reachTime is how long a peer is looked for, again and again.
const reachTime, reachAgain = 30 * time.Second, 500 * time.Millisecond

// reach finds out where a peer listens, unless that was said.
func (s *Server) reach(ctx context.Context, n *node.Node, text string) (bank.Peer, error) {
	p, err := s.peerOf(text)
	if err != nil || len(p.Addrs) > 0 {
		return p, err
	}
	wait, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	if err := n.WaitNetwork(wait); err != nil {
		return p, err
	}
	ad, err := n.FindAgent(wait, p.Key)
	for errors.Is(err, p2p.ErrNotFound) && wait.Err() == nil {
		// One that has just begun is not in the DHT yet.
		select {
		case <-time.After(reachAgain):
			ad, err = n.FindAgent(wait, p.Key)
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

// BankByID names a bank or a payment in a path.
type BankByID struct {
	ID string `path:"id" doc:"a bank's ID, or its first digits (4 or more)"`
}

// bankNow finds a bank and shows it.
func (s *Server) bankNow(ctx context.Context, n *node.Node, id string) (v Bank, state any, err error) {
	if state, err = n.FindBank(ctx, id); err != nil {
		return v, nil, err
	}
	rate := n.Engine().FeeRate()
	switch b := state.(type) {
	case bank.Payer:
		return s.showPayer(&b, rate), state, nil
	case bank.Payee:
		return s.showPayee(&b, rate), state, nil
	}
	return v, nil, fmt.Errorf("%w: %s is a payment", node.ErrNoBank, id)
}

// payerOf is bankNow for what only a payer can do.
func (s *Server) payerOf(ctx context.Context, n *node.Node, id string) (p bank.Payer, err error) {
	_, state, err := s.bankNow(ctx, n, id)
	if err != nil {
		return p, err
	}
	p, ok := state.(bank.Payer)
	if !ok {
		return p, fmt.Errorf("%w: its payer pays, this home is the payee", ErrRequest)
	}
	return p, nil
}

type opening struct {
	Peer    string  `query:"peer" required:"true" doc:"an address, or ADDRESS@MULTIADDR"`
	Value   int64   `query:"value_sat" required:"true" minimum:"1"`
	Rungs   uint32  `query:"rungs" default:"126" minimum:"1" maximum:"1022"`
	Pennies uint32  `query:"pennies" default:"100000" minimum:"1" maximum:"16777215" doc:"rounded up to whole rungs"`
	Days    float64 `query:"days" default:"30" exclusiveMinimum:"0" maximum:"730"`
	MaxFee  int64   `query:"max_fee_sat" default:"10000" minimum:"0" doc:"of the funding"`
	Memo    string  `query:"memo" maxLength:"200"`
}

// terms are what an opening asks for.
func (s *Server) bankTerms(in *opening) node.BankTerms {
	m := bank.MarginsFor(s.cfg.Network)
	per := (in.Pennies + in.Rungs - 1) / in.Rungs
	if per*in.Rungs > penny.MaxSeq {
		per = in.Pennies / in.Rungs
	}
	return node.BankTerms{Value: wire.Sat(in.Value), Rungs: in.Rungs, PerRung: per,
		Blocks: max(m.MinLife+m.Conf+3, uint32(in.Days*float64(m.BlocksPerDay))), MaxFee: wire.Sat(in.MaxFee), Memo: in.Memo}
}

func (s *Server) bankRoutes(api huma.API) {
	on(s, api, "GET", "/banks", "Penny banks, of both sides", func(ctx context.Context, n *node.Node, _ *none) (list struct {
		Banks []Bank `json:"banks" doc:"oldest first"`
	}, err error) {
		list.Banks = []Bank{}
		rate := n.Engine().FeeRate()
		if err = n.Payers(ctx, func(p bank.Payer) error {
			list.Banks = append(list.Banks, s.showPayer(&p, rate))
			return nil
		}); err != nil {
			return list, err
		}
		err = n.Payees(ctx, func(y bank.Payee) error {
			list.Banks = append(list.Banks, s.showPayee(&y, rate))
			return nil
		})
		return list, err
	})
	on(s, api, "GET", "/banks/{id}", "One bank", func(ctx context.Context, n *node.Node, in *BankByID) (Bank, error) {
		v, _, err := s.bankNow(ctx, n, in.ID)
		return v, err
	})
	on(s, api, "POST", "/banks/quote", "What a bank would cost", func(ctx context.Context, n *node.Node, in *opening) (BankQuote, error) {
		t := s.bankTerms(in)
		q, err := n.QuoteBank(penny.Ladder{Value: t.Value, Rungs: t.Rungs, PerRung: t.PerRung})
		l := &q.Ladder
		if err != nil {
			return BankQuote{}, err
		}
		return BankQuote{Value: l.Value, Rungs: l.Rungs, Pennies: l.N(), Penny: l.Paid(1), Rung: l.Paid(l.PerRung), Funding: q.Funding, Close: q.Close, Warning: q.Warning}, nil
	})
	on(s, api, "POST", "/banks", "Open a bank", func(ctx context.Context, n *node.Node, in *opening) (Bank, error) {
		peer, err := s.reach(ctx, n, in.Peer)
		if err != nil {
			return Bank{}, err
		}
		t := s.bankTerms(in)
		t.Peer = peer
		id, err := n.OpenBank(ctx, t)
		if err != nil {
			return Bank{}, err
		}
		v, _, err := s.bankNow(ctx, n, id.String())
		return v, err
	})
	on(s, api, "POST", "/banks/{id}/pay", "Pay pennies, and wait until the payee holds them", func(ctx context.Context, n *node.Node, in *struct {
		BankByID
		Pennies uint32 `query:"pennies" maximum:"16777215" doc:"how many; or amount_msat"`
		Amount  uint64 `query:"amount_msat" maximum:"2100000000000000000" doc:"as many pennies as are worth it"`
		Each    bool   `query:"each" doc:"one by one; else one penny pays for many"`
	}) (Bank, error) {
		p, err := s.payerOf(ctx, n, in.ID)
		if err != nil {
			return Bank{}, err
		}
		pennies := in.Pennies
		if in.Amount > 0 {
			count, ok := p.Ladder.CountFor(wire.Msat(in.Amount))
			if !ok {
				return Bank{}, fmt.Errorf("%w: %v", bank.ErrEmpty, wire.Msat(in.Amount))
			}
			pennies = count
		}
		if pennies == 0 {
			return Bank{}, fmt.Errorf("%w: say how many pennies, or what amount", ErrRequest)
		}
		opt := node.Streaming{Each: in.Each, Window: 4096, Progress: func(count, target uint32) {
			s.hub.progress(Progress{"pennies", uint64(count), uint64(target)})
		}}
		if _, err := n.PayPennies(ctx, p.Bank, pennies, opt); err != nil {
			return Bank{}, err
		}
		v, _, err := s.bankNow(ctx, n, p.Bank.String())
		return v, err
	})
	on(s, api, "POST", "/banks/{id}/close", "Close a bank: as payer by both, as payee alone", func(ctx context.Context, n *node.Node, in *BankByID) (Bank, error) {
		v, state, err := s.bankNow(ctx, n, in.ID)
		if err != nil {
			return v, err
		}
		if err := n.CloseBank(ctx, node.RefOf(state)); err != nil {
			return v, err
		}
		v, _, err = s.bankNow(ctx, n, v.ID)
		return v, err
	})
	on(s, api, "POST", "/banks/{id}/cancel", "Take a bank back before it is paid for", func(ctx context.Context, n *node.Node, in *BankByID) (Bank, error) {
		p, err := s.payerOf(ctx, n, in.ID)
		if err != nil {
			return Bank{}, err
		}
		if err := n.CancelBank(ctx, p.Bank); err != nil {
			return Bank{}, err
		}
		v, _, err := s.bankNow(ctx, n, p.Bank.String())
		return v, err
	})
	on(s, api, "POST", "/banks/{id}/pair", "Ask the payee for a bank the other way", func(ctx context.Context, n *node.Node, in *struct {
		BankByID
		Value int64 `query:"value_sat" required:"true" minimum:"1"`
	}) (out struct {
		ID string `json:"bank_id"`
	}, err error) {
		p, err := s.payerOf(ctx, n, in.ID)
		if err != nil {
			return out, err
		}
		id, err := n.AskPair(ctx, p.Bank, wire.Sat(in.Value))
		out.ID = id.String()
		return out, err
	})
	s.paymentRoutes(api)
}

type paying struct {
	To     string `query:"to" required:"true" doc:"the payee's address"`
	Amount uint64 `query:"amount_msat" required:"true" minimum:"1" maximum:"2100000000000000000"`
	Step   uint64 `query:"step_msat" maximum:"2100000000000000000" doc:"how much at a time over bankers; 0 for a tenth"`
	MaxFee uint64 `query:"max_fee_msat" maximum:"2100000000000000000" doc:"of all bankers"`
	Memo   string `query:"memo" maxLength:"200"`
}

func (s *Server) payment(in *paying) (p node.Payment, err error) {
	p = node.Payment{Amount: wire.Msat(in.Amount), Step: wire.Msat(in.Step), MaxFee: wire.Msat(in.MaxFee), Memo: in.Memo}
	p.To, err = wire.ParseRecipient(s.cfg.Network, in.To)
	return p, err
}

// paymentNow finds a payment and shows it.
func (s *Server) paymentNow(ctx context.Context, n *node.Node, id string) (v BankPayment, state bank.Sending, err error) {
	found, err := n.FindBank(ctx, id)
	if err != nil {
		return v, state, err
	}
	state, ok := found.(bank.Sending)
	if !ok {
		return v, state, fmt.Errorf("%w: %s is a bank", node.ErrNoBank, id)
	}
	return s.showPayment(&state), state, nil
}

func (s *Server) paymentRoutes(api huma.API) {
	on(s, api, "GET", "/payments", "Payments to keys, over banks", func(ctx context.Context, n *node.Node, _ *none) (list struct {
		Payments []BankPayment `json:"payments" doc:"oldest first"`
	}, err error) {
		list.Payments = []BankPayment{}
		err = n.Sendings(ctx, func(p bank.Sending) error {
			list.Payments = append(list.Payments, s.showPayment(&p))
			return nil
		})
		return list, err
	})
	on(s, api, "GET", "/payments/{id}", "One payment", func(ctx context.Context, n *node.Node, in *BankByID) (BankPayment, error) {
		v, _, err := s.paymentNow(ctx, n, in.ID)
		return v, err
	})
	on(s, api, "POST", "/payments/plan", "Which way a payment would go, and for how much", func(ctx context.Context, n *node.Node, in *paying) (BankPayment, error) {
		p, err := s.payment(in)
		if err != nil {
			return BankPayment{}, err
		}
		o, err := n.PlanPayment(ctx, p)
		if err != nil {
			return BankPayment{}, err
		}
		plan := bank.Sending{Order: *o}
		v := s.showPayment(&plan)
		v.ID, v.State, v.Fees = "", "planned", plan.AllFees()
		return v, nil
	})
	on(s, api, "POST", "/payments", "Pay a key, over a bank with it or over bankers", func(ctx context.Context, n *node.Node, in *paying) (BankPayment, error) {
		p, err := s.payment(in)
		if err != nil {
			return BankPayment{}, err
		}
		id, err := n.PayTo(ctx, p)
		if err != nil {
			return BankPayment{}, err
		}
		v, _, err := s.paymentNow(ctx, n, id.String())
		return v, err
	})
	for what, f := range map[string]func(*node.Node, context.Context, wire.Hash) error{"resume": (*node.Node).ResumePayment, "end": (*node.Node).EndPayment} {
		summary := map[string]string{"resume": "Go on with a payment that has ended", "end": "End a payment after the step under way"}[what]
		on(s, api, "POST", "/payments/{id}/"+what, summary, func(ctx context.Context, n *node.Node, in *BankByID) (BankPayment, error) {
			v, p, err := s.paymentNow(ctx, n, in.ID)
			if err != nil {
				return v, err
			}
			if err := f(n, ctx, p.ID); err != nil {
				return v, err
			}
			v, _, err = s.paymentNow(ctx, n, v.ID)
			return v, err
		})
	}
	on(s, api, "GET", "/banker", "What this home takes and passes on", s.banker)
}

func (s *Server) banker(ctx context.Context, n *node.Node, _ *none) (b Banker, err error) {
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
	if err = n.Payees(ctx, func(y bank.Payee) error {
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
	if err = n.Payers(ctx, func(p bank.Payer) error {
		if p.State() == bank.StateOpen {
			b.Outgoing++
		}
		return nil
	}); err != nil {
		return b, err
	}
	err = n.Relays(ctx, func(r bank.Relay) error {
		b.Payments++
		b.Passed += r.Passed
		b.Earned += r.Fees
		if r.Out == (bank.ID{}) {
			b.Received += r.Passed
		}
		return nil
	})
	return b, err
}

func bankPath(id, rest string) string    { return "/v1/banks/" + url.PathEscape(id) + rest }
func paymentPath(id, rest string) string { return "/v1/payments/" + url.PathEscape(id) + rest }

// Opening is what a bank is opened on.
type Opening struct {
	Peer    string
	Value   wire.Sat
	Rungs   uint32
	Pennies uint32
	Days    float64
	MaxFee  wire.Sat
	Memo    string
}

func (o *Opening) query() url.Values {
	q := url.Values{"peer": {o.Peer}, "value_sat": {strconv.FormatInt(int64(o.Value), 10)}, "rungs": {strconv.FormatUint(uint64(o.Rungs), 10)},
		"pennies": {strconv.FormatUint(uint64(o.Pennies), 10)}, "days": {strconv.FormatFloat(o.Days, 'g', -1, 64)}, "max_fee_sat": {strconv.FormatInt(int64(o.MaxFee), 10)}}
	if o.Memo != "" {
		q.Set("memo", o.Memo)
	}
	return q
}

// Banks is GET /v1/banks.
func (c *Client) Banks(ctx context.Context) (list []Bank, err error) {
	var v struct {
		Banks []Bank `json:"banks"`
	}
	err = c.call(ctx, "GET", "/v1/banks", nil, &v)
	return v.Banks, err
}

// Bank is GET /v1/banks/{id}.
func (c *Client) Bank(ctx context.Context, id string) (b Bank, err error) {
	return b, c.call(ctx, "GET", bankPath(id, ""), nil, &b)
}

// QuoteBank is POST /v1/banks/quote.
func (c *Client) QuoteBank(ctx context.Context, o Opening) (q BankQuote, err error) {
	return q, c.call(ctx, "POST", "/v1/banks/quote", o.query(), &q)
}

// OpenBank is POST /v1/banks.
func (c *Client) OpenBank(ctx context.Context, o Opening) (b Bank, err error) {
	return b, c.call(ctx, "POST", "/v1/banks", o.query(), &b)
}

// PayPennies is POST /v1/banks/{id}/pay.
func (c *Client) PayPennies(ctx context.Context, id string, pennies uint32, amount wire.Msat, each bool) (b Bank, err error) {
	q := url.Values{"pennies": {strconv.FormatUint(uint64(pennies), 10)}, "amount_msat": {strconv.FormatUint(uint64(amount), 10)}, "each": {strconv.FormatBool(each)}}
	return b, c.call(ctx, "POST", bankPath(id, "/pay"), q, &b)
}

// CloseBank is POST /v1/banks/{id}/close.
func (c *Client) CloseBank(ctx context.Context, id string) (b Bank, err error) {
	return b, c.call(ctx, "POST", bankPath(id, "/close"), nil, &b)
}

// CancelBank is POST /v1/banks/{id}/cancel.
func (c *Client) CancelBank(ctx context.Context, id string) (b Bank, err error) {
	return b, c.call(ctx, "POST", bankPath(id, "/cancel"), nil, &b)
}

// PairBank is POST /v1/banks/{id}/pair: the ID of the bank the other way.
func (c *Client) PairBank(ctx context.Context, id string, value wire.Sat) (string, error) {
	var v struct {
		ID string `json:"bank_id"`
	}
	err := c.call(ctx, "POST", bankPath(id, "/pair"), url.Values{"value_sat": {strconv.FormatInt(int64(value), 10)}}, &v)
	return v.ID, err
}

// Paying is a payment to a key.
type Paying struct {
	To                   string
	Amount, Step, MaxFee wire.Msat
	Memo                 string
}

func (p *Paying) query() url.Values {
	q := url.Values{"to": {p.To}, "amount_msat": {strconv.FormatUint(uint64(p.Amount), 10)}, "step_msat": {strconv.FormatUint(uint64(p.Step), 10)},
		"max_fee_msat": {strconv.FormatUint(uint64(p.MaxFee), 10)}}
	if p.Memo != "" {
		q.Set("memo", p.Memo)
	}
	return q
}

// PlanPayment is POST /v1/payments/plan.
func (c *Client) PlanPayment(ctx context.Context, p Paying) (v BankPayment, err error) {
	return v, c.call(ctx, "POST", "/v1/payments/plan", p.query(), &v)
}

// PayTo is POST /v1/payments.
func (c *Client) PayTo(ctx context.Context, p Paying) (v BankPayment, err error) {
	return v, c.call(ctx, "POST", "/v1/payments", p.query(), &v)
}

// Payments is GET /v1/payments.
func (c *Client) Payments(ctx context.Context) (list []BankPayment, err error) {
	var v struct {
		Payments []BankPayment `json:"payments"`
	}
	err = c.call(ctx, "GET", "/v1/payments", nil, &v)
	return v.Payments, err
}

// Payment is GET /v1/payments/{id}.
func (c *Client) Payment(ctx context.Context, id string) (v BankPayment, err error) {
	return v, c.call(ctx, "GET", paymentPath(id, ""), nil, &v)
}

// ResumePayment is POST /v1/payments/{id}/resume, EndPayment …/end.
func (c *Client) ResumePayment(ctx context.Context, id string) (v BankPayment, err error) {
	return v, c.call(ctx, "POST", paymentPath(id, "/resume"), nil, &v)
}

// EndPayment is POST /v1/payments/{id}/end.
func (c *Client) EndPayment(ctx context.Context, id string) (v BankPayment, err error) {
	return v, c.call(ctx, "POST", paymentPath(id, "/end"), nil, &v)
}

// Banker is GET /v1/banker.
func (c *Client) Banker(ctx context.Context) (b Banker, err error) {
	return b, c.call(ctx, "GET", "/v1/banker", nil, &b)
}
