package api

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/home"
)

// File is an attachment of a message to be sent.
type File struct {
	Name string // base name
	Body io.Reader
}

// Client talks to a home's daemon. Its methods may be called concurrently, and
// return an *Error for an answer with a status of 400 or more, and
// home.ErrNoDaemon if the daemon does not answer.
type Client struct {
	at   home.Endpoint
	http *http.Client
}

// Dial returns a client for the daemon of a home, or home.ErrNoDaemon if none is
// running.
func Dial(h home.Home) (*Client, error) {
	at, err := h.Endpoint()
	if err != nil {
		return nil, err
	}
	// Requests to the daemon go through no proxy.
	t := &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, IdleConnTimeout: 30 * time.Second}
	return &Client{at: at, http: &http.Client{Transport: t}}, nil
}

// PID is the daemon's process ID.
func (c *Client) PID() int { return c.at.PID }

// maxAnswer is the largest answer in JSON that is read, in bytes.
const maxAnswer = 256 << 20

// do makes a request and returns the answer's body, which the caller closes.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader) (io.ReadCloser, error) {
	return c.doWith(ctx, method, path, query, map[string]string{"Content-Type": contentType}, body)
}

// doWith is do with other headers; empty ones are left out.
func (c *Client) doWith(ctx context.Context, method, path string, query url.Values, headers map[string]string, body io.Reader) (io.ReadCloser, error) {
	u := c.at.URL + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.at.Token)
	for name, value := range headers {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			err = fmt.Errorf("%w: no answer: %w", home.ErrNoDaemon, err)
		}
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	e := &Error{Status: resp.StatusCode}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(raw, e) != nil || e.Message == "" {
		return nil, fmt.Errorf("the daemon answered %s", resp.Status)
	}
	return nil, e
}

// callOnce is a POST with an idempotency key, if there is one.
func (c *Client) callOnce(ctx context.Context, path string, query url.Values, key string, v any) error {
	body, err := c.doWith(ctx, "POST", path, query, map[string]string{"Idempotency-Key": key}, nil)
	if err != nil {
		return err
	}
	return decode(body, v)
}

// call makes a request and decodes the answer's JSON into v.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, v any) error {
	body, err := c.do(ctx, method, path, query, "", nil)
	if err != nil {
		return err
	}
	return decode(body, v)
}

func decode(body io.ReadCloser, v any) error {
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("the daemon's answer: %w", err)
	}
	return nil
}

// Status is GET /v1/status.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, "GET", "/v1/status", nil, &s)
}

// ID is GET /v1/id.
func (c *Client) ID(ctx context.Context) (id Identity, err error) {
	return id, c.call(ctx, "GET", "/v1/id", nil, &id)
}

// Difficulty is GET /v1/chain/difficulty.
func (c *Client) Difficulty(ctx context.Context) (d Difficulty, err error) {
	return d, c.call(ctx, "GET", "/v1/chain/difficulty", nil, &d)
}

// List is GET /v1/inbox or /v1/sent. It returns at most limit messages, newest
// first, and how many there are.
func (c *Client) List(ctx context.Context, box string, limit int) (list []Message, total int, err error) {
	var m Messages
	err = c.call(ctx, "GET", "/v1/"+box, url.Values{"limit": {strconv.Itoa(limit)}}, &m)
	return m.Messages, m.Total, err
}

func message(id, rest string) string { return "/v1/messages/" + url.PathEscape(id) + rest }

// Message is GET /v1/messages/{id}.
func (c *Client) Message(ctx context.Context, id string) (m Message, err error) {
	return m, c.call(ctx, "GET", message(id, ""), nil, &m)
}

// Cancel is POST /v1/messages/{id}/cancel.
func (c *Client) Cancel(ctx context.Context, id string) (m Message, err error) {
	return m, c.call(ctx, "POST", message(id, "/cancel"), nil, &m)
}

// Delete is DELETE /v1/messages/{id}.
func (c *Client) Delete(ctx context.Context, id string) (m Message, err error) {
	return m, c.call(ctx, "DELETE", message(id, ""), nil, &m)
}

// Proof is GET /v1/messages/{id}/proof.
func (c *Client) Proof(ctx context.Context, id string) (p deal.Proof, err error) {
	return p, c.call(ctx, "GET", message(id, "/proof"), nil, &p)
}

// Content is GET /v1/messages/{id}/content, a MIME message. The caller closes it.
func (c *Client) Content(ctx context.Context, id string) (io.ReadCloser, error) {
	return c.do(ctx, "GET", message(id, "/content"), nil, "", nil)
}

func (t *Terms) query() url.Values {
	q := url.Values{"to": {t.To}, "days": {strconv.FormatFloat(t.Days, 'g', -1, 64)}, "agents": {strconv.Itoa(t.Agents)},
		"max_sat": {strconv.FormatInt(int64(t.MaxSat), 10)}}
	for k, v := range map[string]string{"subject": t.Subject, "filename": t.Filename} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if t.OneOfMany {
		q.Set("one_of_many", "true")
	}
	return q
}

// Send is POST /v1/messages. size is that of body in bytes, for progress; 0 if
// unknown.
func (c *Client) Send(ctx context.Context, t Terms, size uint64, body io.Reader, attachments ...File) (m Message, err error) {
	q := t.query()
	q.Set("size", strconv.FormatUint(size, 10))
	contentType := "application/octet-stream"
	if len(attachments) > 0 {
		pr, pw := io.Pipe()
		defer pr.Close()
		form := multipart.NewWriter(pw)
		contentType = form.FormDataContentType()
		message := body
		go func() {
			err := sendPart(form, "message", message)
			for _, a := range attachments {
				if err == nil {
					err = sendPart(form, "attachment", a.Body)
				}
			}
			pw.CloseWithError(errors.Join(err, form.Close()))
		}()
		for _, a := range attachments {
			q.Add("attach", a.Name)
		}
		body = pr
	}
	answer, err := c.do(ctx, "POST", "/v1/messages", q, contentType, body)
	if err != nil {
		return m, err
	}
	return m, decode(answer, &m)
}

func sendPart(form *multipart.Writer, name string, body io.Reader) error {
	w, err := form.CreateFormField(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, body)
	return err
}

// Estimate is POST /v1/estimate.
func (c *Client) Estimate(ctx context.Context, t Terms, size uint64) (e Estimate, err error) {
	q := t.query()
	q.Set("bytes", strconv.FormatUint(size, 10))
	return e, c.call(ctx, "POST", "/v1/estimate", q, &e)
}

// Agents is GET /v1/agents.
func (c *Client) Agents(ctx context.Context) ([]Agent, error) {
	var list struct{ Agents []Agent }
	return list.Agents, c.call(ctx, "GET", "/v1/agents", nil, &list)
}

// Agent is GET /v1/agents/{key}.
func (c *Client) Agent(ctx context.Context, key string) (a Agent, err error) {
	return a, c.call(ctx, "GET", "/v1/agents/"+url.PathEscape(key), nil, &a)
}

// Balance is GET /v1/wallet.
func (c *Client) Balance(ctx context.Context) (b Balance, err error) {
	return b, c.call(ctx, "GET", "/v1/wallet", nil, &b)
}

// NewAddress is POST /v1/wallet/address.
func (c *Client) NewAddress(ctx context.Context) (a Receiving, err error) {
	return a, c.call(ctx, "POST", "/v1/wallet/address", nil, &a)
}

// History is GET /v1/wallet/history.
func (c *Client) History(ctx context.Context) ([]Transaction, error) {
	var list struct{ Transactions []Transaction }
	return list.Transactions, c.call(ctx, "GET", "/v1/wallet/history", nil, &list)
}

// Fee says what a transaction may pay to miners.
type Fee struct {
	Rate int64 // in sat per 1,000 vbytes; 0 for the node's estimate
	Max  int64 // maximum fee in sat, and permission to pay it; 0 for the default ceiling
}

func (f Fee) in(q url.Values) url.Values {
	for name, v := range map[string]int64{"rate_sat_per_kvb": f.Rate, "max_fee_sat": f.Max} {
		q.Set(name, strconv.FormatInt(v, 10))
	}
	return q
}

// Pay is POST /v1/wallet/send.
func (c *Client) Pay(ctx context.Context, to string, amount int64, fee Fee) (p Payment, err error) {
	return p, c.call(ctx, "POST", "/v1/wallet/send", fee.in(url.Values{"to": {to}, "amount_sat": {strconv.FormatInt(amount, 10)}}), &p)
}

// Abandon is POST /v1/wallet/abandon.
func (c *Client) Abandon(ctx context.Context, txid string) (p Payment, err error) {
	return p, c.call(ctx, "POST", "/v1/wallet/abandon", url.Values{"txid": {txid}}, &p)
}

// Names is GET /v1/names.
func (c *Client) Names(ctx context.Context) (v Scan, err error) {
	return v, c.call(ctx, "GET", "/v1/names", nil, &v)
}

// ListNames is GET /v1/names/list.
func (c *Client) ListNames(ctx context.Context, kind, prefix string, limit int) ([]Bid, error) {
	var v Names
	return v.Names, c.call(ctx, "GET", "/v1/names/list", url.Values{"kind": {kind}, "prefix": {prefix}, "limit": {strconv.Itoa(limit)}}, &v)
}

// Resolve is GET /v1/names/resolve/{name}.
func (c *Client) Resolve(ctx context.Context, name string, agents int, above bool) (v Answer, err error) {
	return v, c.call(ctx, "GET", "/v1/names/resolve/"+url.PathEscape(name), url.Values{"agents": {strconv.Itoa(agents)}, "above": {strconv.FormatBool(above)}}, &v)
}

// OfferName is GET /v1/names/offer.
func (c *Client) OfferName(ctx context.Context, hint string) (v Offer, err error) {
	return v, c.call(ctx, "GET", "/v1/names/offer", url.Values{"hint": {hint}}, &v)
}

// Register is POST /v1/names.
func (c *Client) Register(ctx context.Context, hint string, burn int64, fee Fee) (v Offer, err error) {
	return v, c.call(ctx, "POST", "/v1/names", fee.in(url.Values{"hint": {hint}, "burn_sat": {strconv.FormatInt(burn, 10)}}), &v)
}

// Bump is POST /v1/wallet/bump.
func (c *Client) Bump(ctx context.Context, txid string, fee Fee) (p Payment, err error) {
	return p, c.call(ctx, "POST", "/v1/wallet/bump", fee.in(url.Values{"txid": {txid}}), &p)
}

// Backup is POST /v1/wallet/backup. The caller closes it.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, error) {
	return c.do(ctx, "POST", "/v1/wallet/backup", nil, "", nil)
}

// maxEvent is the longest line of an event stream that is read, in bytes.
const maxEvent = 4 << 20

// Events is GET /v1/events. It calls ready when no later event will be missed, and
// then f with each Message, Bank, BankPayment, Received, Tip and Progress, until f returns
// false, ctx ends or the daemon closes the stream, which it also does to a reader
// that is too slow.
func (c *Client) Events(ctx context.Context, ready func(), f func(any) bool) error {
	body, err := c.do(ctx, "GET", "/v1/events", nil, "", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEvent)
	name := ""
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch key {
		case "event":
			name = value
		case "data":
			var v any
			switch name {
			case "changed":
				v = event[Message](value)
			case "bank":
				v = event[Bank](value)
			case "payment":
				v = event[BankPayment](value)
			case "received":
				v = event[Received](value)
			case "tip":
				v = event[Tip](value)
			case "progress":
				v = event[Progress](value)
			case "ready":
				ready()
			}
			if v != nil && !f(v) {
				return nil
			}
		}
	}
	if err := cmp.Or(lines.Err(), ctx.Err()); err != nil {
		return err
	}
	return fmt.Errorf("%w: it closed the event stream", home.ErrNoDaemon)
}

func event[T any](raw string) any {
	var v T
	if json.Unmarshal([]byte(raw), &v) != nil {
		return nil
	}
	return v
}
