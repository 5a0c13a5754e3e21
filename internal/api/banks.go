package api

import (
	"context"
	"net/url"
	"strconv"

	"github.com/bitgram/bitgram/wire"
)

// Bank is one side of a penny bank.
type Bank struct {
	ID         string    `json:"bank_id"`
	Side       string    `json:"side" enum:"payer,payee"`
	State      string    `json:"state" enum:"opening,open,stopped,closing,closed,refunded,expired,failed"`
	Peer       string    `json:"peer,omitempty" doc:"address of the payee; a payee does not know its payer"`
	Memo       string    `json:"memo,omitempty"`
	Pair       string    `json:"pair,omitempty" doc:"ID of the reverse bank: the one for which the payee asked for this one, or the one that the payee opens in return"`
	PairWanted wire.Sat  `json:"pair_sat,omitempty" doc:"value of the reverse bank that was ordered with this one"`
	PairWhy    string    `json:"pair_why,omitempty" doc:"why the payee opens no reverse bank"`
	Value      wire.Sat  `json:"value_sat"`
	Rungs      uint32    `json:"rungs"`
	Pennies    uint32    `json:"pennies" doc:"number of pennies in the bank"`
	Penny      wire.Msat `json:"penny_msat" doc:"value of a penny, rounded down"`
	Paid       uint32    `json:"paid_pennies" doc:"for a payer: pennies that may have been sent; for a payee: pennies it holds"`
	PaidMsat   wire.Msat `json:"paid_msat"`
	Acked      uint32    `json:"acknowledged_pennies" doc:"pennies that the payee holds durably"`
	Assigned   wire.Msat `json:"assigned_msat" doc:"part of paid_msat that payments have used or, at the payee, that its owner has charged"`
	Unused     wire.Msat `json:"unused_msat" doc:"part of paid_msat that is credit for payments and not used: a close by both returns it, a payee that closes alone keeps what its rungs contain of it"`
	Rung       uint32    `json:"rung" doc:"highest rung reached"`
	Expiry     uint32    `json:"expiry_height" doc:"height from which the payer can take back a bank that nobody closed"`
	LastPenny  uint32    `json:"stop_height" doc:"height from which no penny is accepted, and the payee closes"`
	Funding    string    `json:"funding_txid,omitempty"`
	Depth      uint32    `json:"confirmations"`
	Conf       uint32    `json:"confirmations_wanted"`
	Close      string    `json:"close_txid,omitempty"`
	Why        string    `json:"why,omitempty" doc:"why the bank failed, or accepts no pennies"`
	FailedBy   Code      `json:"failed_by,omitempty" doc:"error code of the failure"`
	Stopped    IfStopped `json:"if_stopped" doc:"what each side would get if everything stopped now"`
	Together   *Together `json:"together,omitempty" doc:"what each side would get if both close; absent if that is not possible"`
	FundingFee wire.Sat  `json:"funding_fee_sat,omitempty"`
	Published  bool      `json:"published" doc:"the payee has accepted the bank, and the network its funding"`
	Payment    *Pennies  `json:"payment,omitempty" doc:"what this request has paid"`
	PaymentID  string    `json:"payment_id,omitempty" doc:"of that payment"`
	Key        string    `json:"idempotency_key,omitempty" doc:"with which the request can be repeated without paying again"`
}

// Pennies is a payment of pennies from a bank, or the plan of one.
type Pennies struct {
	Pennies uint32    `json:"pennies"`
	Amount  wire.Msat `json:"amount_msat" doc:"worth of the pennies"`
	Penny   wire.Msat `json:"penny_msat" doc:"value of a penny, rounded down: the smallest amount that can be paid"`
}

// Together holds the amounts that each side of a bank gets if both close it.
type Together struct {
	Payee wire.Sat `json:"payee_sat" doc:"after the fee"`
	Payer wire.Sat `json:"payer_sat"`
	Fee   wire.Sat `json:"fee_sat"`
}

// IfStopped holds the amounts that each side of a bank would get if everything
// stopped now.
type IfStopped struct {
	Payee   wire.Sat  `json:"payee_sat" doc:"after the fee of a close by the payee alone"`
	Payer   wire.Sat  `json:"payer_sat"`
	Fee     wire.Sat  `json:"fee_sat"`
	Between wire.Msat `json:"between_rungs_msat" doc:"paid beyond the highest rung reached"`
	Text    string    `json:"text"`
}

// BankQuote is the cost of opening a bank.
type BankQuote struct {
	Value   wire.Sat  `json:"value_sat"`
	Rungs   uint32    `json:"rungs"`
	Pennies uint32    `json:"pennies"`
	Penny   wire.Msat `json:"penny_msat" doc:"value of a penny, rounded down"`
	Rung    wire.Msat `json:"rung_msat" doc:"value of a rung: the most that can be between two rungs"`
	Funding wire.Sat  `json:"funding_fee_sat" doc:"estimate, for one input"`
	Close   wire.Sat  `json:"close_fee_sat" doc:"fee of a close by the payee alone, at the present fee rate"`
	Warning string    `json:"warning,omitempty"`
}

// BankPayment is a payment to an address, through a bank with its owner or through
// bankers.
type BankPayment struct {
	ID      string    `json:"payment_id"`
	State   string    `json:"state" enum:"planned,paying,paid,ended,unacknowledged"`
	To      string    `json:"to"`
	Bankers []string  `json:"bankers" doc:"addresses of the bankers, in order"`
	Bank    string    `json:"bank_id" doc:"ID of the bank with the first hop"`
	Parts   []Part    `json:"parts,omitempty" doc:"if several banks pay, in order; bank_id and bankers are those of the first"`
	Total   wire.Msat `json:"total_msat"`
	Step    wire.Msat `json:"step_msat"`
	Paid    wire.Msat `json:"paid_msat" doc:"amount for which the payee has signed"`
	Asked   wire.Msat `json:"asked_msat" doc:"paid_msat plus the current step"`
	Fees    wire.Msat `json:"fees_msat"`
	Exposed wire.Msat `json:"exposed_msat" doc:"credit at first hops that is paid and not used: of a planned payment, at most that once it is made"`
	Before  wire.Msat `json:"exposed_before_msat,omitempty" doc:"of a planned payment: the same now"`
	Ref     string    `json:"reference,omitempty" doc:"which the payee is told"`
	Memo    string    `json:"memo,omitempty" doc:"which the payee is told"`
	Note    string    `json:"note,omitempty" doc:"private"`
	Why     string    `json:"why,omitempty"`
	Pennies uint32    `json:"pennies,omitempty" doc:"of an order of pennies from a bank, which has no steps"`
}

// Part is what one bank pays of a payment.
type Part struct {
	Bank    string    `json:"bank_id"`
	Bankers []string  `json:"bankers" doc:"addresses of the bankers, in order"`
	Total   wire.Msat `json:"total_msat" doc:"of this part, without fees"`
}

// Received is a payment that this home received, as its final payee.
type Received struct {
	ID        string    `json:"payment_id"`
	Bank      string    `json:"bank_id" doc:"through which its first step came"`
	Amount    wire.Msat `json:"amount_msat" doc:"received so far, for which this home has signed"`
	Steps     uint32    `json:"steps"`
	Reference string    `json:"reference" doc:"as the payer wrote it"`
	Memo      string    `json:"memo" doc:"as the payer wrote it"`
	Since     int64     `json:"first_time" doc:"Unix time of the first step; 0 in payments of older versions"`
	At        int64     `json:"time" doc:"Unix time of the last step"`
}

// Receipt is what the final payee of a payment has signed, with all that is needed
// to verify it offline.
type Receipt struct {
	Network   wire.Network `json:"network"`
	Payment   string       `json:"payment_id"`
	Payee     string       `json:"payee" doc:"address of the payee, who signed"`
	Total     wire.Msat    `json:"total_msat" doc:"what the payee has received in all"`
	Step      uint32       `json:"step" doc:"number of the step for which it signed"`
	Salt      string       `json:"salt"`
	Reference string       `json:"reference"`
	Memo      string       `json:"memo"`
	Signature string       `json:"signature"`
}

// Banker reports the payments that a payee receives and, as a banker, forwards.
type Banker struct {
	Payee    bool      `json:"takes_banks"`
	Banker   bool      `json:"passes_on"`
	Base     wire.Msat `json:"fee_base_msat"`
	PPM      uint32    `json:"fee_ppm"`
	Reach    []string  `json:"reach" doc:"ADDRESS@MULTIADDR for peers that open a bank with this daemon"`
	Incoming int       `json:"incoming_banks" doc:"number of open banks of which this home is the payee"`
	Outgoing int       `json:"outgoing_banks" doc:"number of open banks of which this home is the payer"`
	Held     wire.Msat `json:"held_msat" doc:"amount in pennies of banks that are not settled"`
	Payments int       `json:"payments" doc:"number of payments received or forwarded"`
	Passed   wire.Msat `json:"passed_msat" doc:"amount received for these payments, fees included"`
	Received wire.Msat `json:"received_msat" doc:"part of passed_msat for this home"`
	Earned   wire.Msat `json:"earned_msat" doc:"fees earned by forwarding"`
}

func bankPath(id, rest string) string    { return "/v1/banks/" + url.PathEscape(id) + rest }
func paymentPath(id, rest string) string { return "/v1/payments/" + url.PathEscape(id) + rest }

// Opening holds the terms of a bank to be opened.
type Opening struct {
	Peer    string
	Value   wire.Sat
	Rungs   uint32
	Pennies uint32
	Days    float64
	MaxFee  wire.Sat
	Memo    string
	Pair    wire.Sat // value of a reverse bank to ask the payee for; 0 for none
	// Key, if set, makes it safe to repeat the request: see Client.OpenBank.
	Key string
}

func (o *Opening) query() url.Values {
	q := url.Values{"peer": {o.Peer}, "value_sat": {strconv.FormatInt(int64(o.Value), 10)}, "rungs": {strconv.FormatUint(uint64(o.Rungs), 10)},
		"pennies": {strconv.FormatUint(uint64(o.Pennies), 10)}, "days": {strconv.FormatFloat(o.Days, 'g', -1, 64)}, "max_fee_sat": {strconv.FormatInt(int64(o.MaxFee), 10)}}
	if o.Pair > 0 {
		q.Set("pair_sat", strconv.FormatInt(int64(o.Pair), 10))
	}
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

// OpenBank is POST /v1/banks. With the key of an earlier request it opens
// nothing, and returns that request's bank.
func (c *Client) OpenBank(ctx context.Context, o Opening) (b Bank, err error) {
	return b, c.callOnce(ctx, "/v1/banks", o.query(), o.Key, &b)
}

// PennyPaying is what to pay from a bank: a number of pennies, or an amount.
type PennyPaying struct {
	Pennies uint32
	Amount  wire.Msat
	RoundUp bool // allow to pay much more than the amount, to the next penny
	Each    bool // send every penny
	Key     string
}

func (p *PennyPaying) query() url.Values {
	return url.Values{"pennies": {strconv.FormatUint(uint64(p.Pennies), 10)}, "amount_msat": {strconv.FormatUint(uint64(p.Amount), 10)}, "round_up": {strconv.FormatBool(p.RoundUp)}}
}

// PlanPennies is POST /v1/banks/{id}/plan.
func (c *Client) PlanPennies(ctx context.Context, id string, p PennyPaying) (v Pennies, err error) {
	return v, c.call(ctx, "POST", bankPath(id, "/plan"), p.query(), &v)
}

// PayPennies is POST /v1/banks/{id}/pay. With the key of an earlier request it
// pays nothing, and waits for that request's payment.
func (c *Client) PayPennies(ctx context.Context, id string, p PennyPaying) (b Bank, err error) {
	q := p.query()
	q.Set("each", strconv.FormatBool(p.Each))
	return b, c.callOnce(ctx, bankPath(id, "/pay"), q, p.Key, &b)
}

// CloseBank is POST /v1/banks/{id}/close.
func (c *Client) CloseBank(ctx context.Context, id string) (b Bank, err error) {
	return b, c.call(ctx, "POST", bankPath(id, "/close"), nil, &b)
}

// CancelBank is POST /v1/banks/{id}/cancel.
func (c *Client) CancelBank(ctx context.Context, id string) (b Bank, err error) {
	return b, c.call(ctx, "POST", bankPath(id, "/cancel"), nil, &b)
}

// BumpBank is POST /v1/banks/{id}/bump.
func (c *Client) BumpBank(ctx context.Context, id string, fee Fee) (b Bank, err error) {
	return b, c.call(ctx, "POST", bankPath(id, "/bump"), fee.in(url.Values{}), &b)
}

// ChargeBank is POST /v1/banks/{id}/charge. With the key of an earlier request it
// uses nothing more.
func (c *Client) ChargeBank(ctx context.Context, id string, amount wire.Msat, key string) (b Bank, err error) {
	return b, c.callOnce(ctx, bankPath(id, "/charge"), url.Values{"amount_msat": {strconv.FormatUint(uint64(amount), 10)}}, key, &b)
}

// PairBank is POST /v1/banks/{id}/pair. It returns the ID of the reverse bank.
func (c *Client) PairBank(ctx context.Context, id string, value wire.Sat) (string, error) {
	var v struct {
		ID string `json:"bank_id"`
	}
	err := c.call(ctx, "POST", bankPath(id, "/pair"), url.Values{"value_sat": {strconv.FormatInt(int64(value), 10)}}, &v)
	return v.ID, err
}

// Paying holds the terms of a payment to an address.
type Paying struct {
	To                   string
	Amount, Step, MaxFee wire.Msat
	Reference, Memo      string // which the payee is told
	Note                 string // private
	// Key, if set, makes it safe to repeat the request: see Client.PayTo.
	Key string
}

func (p *Paying) query() url.Values {
	q := url.Values{"to": {p.To}, "amount_msat": {strconv.FormatUint(uint64(p.Amount), 10)}, "step_msat": {strconv.FormatUint(uint64(p.Step), 10)},
		"max_fee_msat": {strconv.FormatUint(uint64(p.MaxFee), 10)}}
	for name, value := range map[string]string{"reference": p.Reference, "memo": p.Memo, "note": p.Note} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// Received is GET /v1/received.
func (c *Client) Received(ctx context.Context) (list []Received, err error) {
	var v struct {
		Received []Received `json:"received"`
	}
	err = c.call(ctx, "GET", "/v1/received", nil, &v)
	return v.Received, err
}

// Receipt is GET /v1/payments/{id}/receipt.
func (c *Client) Receipt(ctx context.Context, id string) (r Receipt, err error) {
	return r, c.call(ctx, "GET", paymentPath(id, "/receipt"), nil, &r)
}

// PlanPayment is POST /v1/payments/plan.
func (c *Client) PlanPayment(ctx context.Context, p Paying) (v BankPayment, err error) {
	return v, c.call(ctx, "POST", "/v1/payments/plan", p.query(), &v)
}

// PayTo is POST /v1/payments. With the key of an earlier request it pays
// nothing, and returns that request's payment.
func (c *Client) PayTo(ctx context.Context, p Paying) (v BankPayment, err error) {
	return v, c.callOnce(ctx, "/v1/payments", p.query(), p.Key, &v)
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

// ResumePayment is POST /v1/payments/{id}/resume.
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
