package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

type byID struct {
	ID string `path:"id" doc:"message ID, or at least its first 4 digits"`
}

type page struct {
	Limit  int `query:"limit" default:"1000" minimum:"1" maximum:"100000"`
	Offset int `query:"offset" minimum:"0" doc:"number of the newest messages to skip"`
}

func (s *Server) messageRoutes(to huma.API) {
	on(s, to, "GET", "/inbox", "List received messages", s.inbox)
	on(s, to, "GET", "/sent", "List sent messages", s.listSent)
	on(s, to, "GET", "/messages/{id}", "Get a message", func(ctx context.Context, n *node.Node, in *byID) (api.Message, error) {
		m, _, err := s.find(ctx, n, in.ID, deal.KindSender, deal.KindRecipient)
		return m, err
	})
	on(s, to, "POST", "/messages/{id}/cancel", "Take a message back before it is paid for", func(ctx context.Context, n *node.Node, in *byID) (api.Message, error) {
		m, ref, err := s.find(ctx, n, in.ID, deal.KindSender, deal.KindRecipient)
		if err != nil {
			return m, err
		}
		if m.Direction != "sent" {
			return m, fmt.Errorf("%w: this message was received", deal.ErrTooLate)
		}
		if err := n.Delivery.Cancel(ctx, ref); err != nil {
			return m, err
		}
		m, _, err = s.find(ctx, n, in.ID, deal.KindSender)
		return m, err
	})
	on(s, to, "DELETE", "/messages/{id}", "Delete a received message, or a sent one that is delivered, refunded or failed", func(ctx context.Context, n *node.Node, in *byID) (api.Message, error) {
		m, ref, err := s.find(ctx, n, in.ID, deal.KindRecipient, deal.KindSender)
		if err != nil {
			return m, err
		}
		return m, n.Delivery.Discard(ctx, ref)
	})
	on(s, to, "GET", "/messages/{id}/proof", "Get a proof of delivery that anyone can check offline", func(ctx context.Context, n *node.Node, in *byID) (*deal.Proof, error) {
		_, state, err := n.Delivery.Find(ctx, in.ID, deal.KindSender, deal.KindRecipient)
		if err != nil {
			return nil, err
		}
		sent, ok := state.(deal.Sender)
		if !ok {
			return nil, fmt.Errorf("%w: only the sender of a message has one", deal.ErrNoProof)
		}
		return sent.Proof(s.cfg.Network)
	})
	on(s, to, "POST", "/estimate", "Estimate the cost of a message", func(ctx context.Context, n *node.Node, in *struct {
		TermsQuery
		Bytes uint64 `query:"bytes" required:"true" doc:"size of the body and attachments, in bytes"`
	}) (api.Estimate, error) {
		return s.estimate(ctx, n, &in.TermsQuery, in.Bytes)
	})

	huma.Register(to, huma.Operation{OperationID: "post-messages", Method: "POST", Path: "/v1/messages", Summary: "Send a message",
		Description: "The body is the message's bytes. If the query names attachments, it is multipart/form-data: first the message, then the attachments in the order of their names. The answer comes when the message is queued.",
	}, func(ctx context.Context, in *sending) (*out[api.Message], error) {
		n, err := s.get()
		if err != nil {
			return nil, s.answer(err)
		}
		m, err := s.send(ctx, n, in)
		if err != nil {
			return nil, s.answer(err)
		}
		return &out[api.Message]{m}, nil
	})
	// Described here, not by the library, which would then read the body itself.
	to.OpenAPI().Paths["/v1/messages"].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}},
		"multipart/form-data":      {Schema: &huma.Schema{Type: "object"}}}}
	huma.Register(to, huma.Operation{OperationID: "get-message-content", Method: "GET", Path: "/v1/messages/{id}/content", Summary: "Get the MIME message of a received message",
		Responses: map[string]*huma.Response{"200": {Description: "the MIME message", Content: map[string]*huma.MediaType{"message/rfc822": {}}}},
	}, func(ctx context.Context, in *byID) (*huma.StreamResponse, error) {
		n, err := s.get()
		if err != nil {
			return nil, s.answer(err)
		}
		ref, state, err := n.Delivery.Find(ctx, in.ID, deal.KindRecipient, deal.KindSender)
		if err != nil {
			return nil, s.answer(err)
		}
		if _, ok := state.(deal.Recipient); !ok {
			return nil, s.answer(fmt.Errorf("%w: a sender keeps no copy", delivery.ErrUnread))
		}
		f, err := n.Delivery.Message(ref)
		if err != nil {
			return nil, s.answer(err)
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			defer f.Close()
			c.SetHeader("Content-Type", "message/rfc822")
			if st, err := f.Stat(); err == nil {
				c.SetHeader("Content-Length", strconv.FormatInt(st.Size(), 10))
			}
			_, _ = io.Copy(c.BodyWriter(), f)
		}}, nil
	})
}

// TermsQuery is api.Terms in a query.
type TermsQuery struct {
	To        string   `query:"to" required:"true" doc:"address, npub or public key of the recipient"`
	Subject   string   `query:"subject" maxLength:"998"`
	Filename  string   `query:"filename" maxLength:"255" doc:"base name of the file, if the body is one"`
	Attach    []string `query:"attach,explode" maxItems:"100" doc:"base names of the attachments"`
	Days      float64  `query:"days" default:"7" exclusiveMinimum:"0" maximum:"365" doc:"days for which agents store the message"`
	Agents    int      `query:"agents" default:"3" minimum:"1" maximum:"16"`
	MaxSat    int64    `query:"max_sat" default:"100000" minimum:"1" doc:"most that the message may cost, fees included"`
	OneOfMany bool     `query:"one_of_many" doc:"freeze one output for all agents instead of one for each"`
	Size      uint64   `query:"size" doc:"size of the body in bytes, for progress; 0 if unknown"`
}

func (s *Server) letter(t *TermsQuery) (l delivery.Letter, err error) {
	l = delivery.Letter{Subject: t.Subject, Filename: t.Filename, Agents: t.Agents, MaxCost: wire.Sat(t.MaxSat), Size: t.Size}
	if t.OneOfMany {
		l.Shape = wire.OneOfMany
	}
	if l.Agents > wire.MaxAgents {
		return l, fmt.Errorf("%w: agents is %d: must be at most %d", ErrRequest, l.Agents, wire.MaxAgents)
	}
	// A quote must hold for two depths of confirmation to be accepted.
	l.Blocks = max(3*s.margins.RevealConf, uint32(t.Days*float64(s.margins.BlocksPerDay)))
	l.To, err = wire.ParseRecipient(s.cfg.Network, t.To)
	return l, err
}

// sending is a request to send a message. Its body is read as a stream.
type sending struct {
	TermsQuery
	contentType string
	body        io.Reader
}

// Resolve implements huma.Resolver: it keeps the body unread.
func (in *sending) Resolve(c huma.Context) []error {
	in.contentType, in.body = c.Header("Content-Type"), c.BodyReader()
	return nil
}

func (s *Server) send(ctx context.Context, n *node.Node, in *sending) (m api.Message, err error) {
	l, err := s.letter(&in.TermsQuery)
	if err != nil {
		return m, err
	}
	l.Body = in.body
	if len(in.Attach) > 0 {
		_, params, err := mime.ParseMediaType(in.contentType)
		if err != nil || params["boundary"] == "" {
			return m, fmt.Errorf("%w: a message with attachments must be multipart/form-data", ErrRequest)
		}
		parts := &parts{r: multipart.NewReader(in.body, params["boundary"])}
		l.Body = parts.next()
		for _, name := range in.Attach {
			l.Attachments = append(l.Attachments, mail.File{Name: name, Body: parts.next()})
		}
	}
	ref, err := n.Delivery.Send(ctx, l)
	if err != nil {
		return m, err
	}
	state, err := n.Engine().State(ctx, ref)
	if err != nil {
		return m, err
	}
	return s.sent(state.(deal.Sender)), nil
}

// parts returns the parts of a multipart request one after the other.
type parts struct {
	r    *multipart.Reader
	at   int
	made int
	cur  *multipart.Part
}

type lazyPart struct {
	p *parts
	n int
}

func (p *parts) next() io.Reader {
	p.made++
	return &lazyPart{p, p.made}
}

func (l *lazyPart) Read(b []byte) (int, error) {
	for l.p.at < l.n {
		part, err := l.p.r.NextRawPart()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: fewer parts than names", ErrRequest)
		}
		if err != nil {
			return 0, err
		}
		l.p.cur = part
		l.p.at++
	}
	if l.p.at > l.n {
		return 0, io.EOF
	}
	return l.p.cur.Read(b)
}

func (s *Server) estimate(ctx context.Context, n *node.Node, t *TermsQuery, size uint64) (e api.Estimate, err error) {
	l, err := s.letter(t)
	if err != nil {
		return e, err
	}
	if err := n.Coins.Synced(ctx); err != nil {
		return e, err
	}
	if size > wire.MaxPayload {
		return e, fmt.Errorf("%w: %d bytes", seal.ErrTooLarge, size)
	}
	est, err := n.Delivery.Estimate(ctx, l, size+envelope)
	if err != nil {
		return e, err
	}
	b, err := n.Coins.Balance(ctx)
	e = api.Estimate{Frozen: est.Frozen, Fee: est.Fee, Total: est.Frozen + est.Fee, Blocks: l.Blocks, Balance: b.Spendable(), Agents: hexes(est.Agents)}
	return e, err
}

// envelope is roughly what a MIME header and the encryption add, in bytes.
const envelope = 600

func hexes(keys []wire.Key) []string {
	list := make([]string, 0, len(keys))
	for _, k := range keys {
		list = append(list, k.String())
	}
	return list
}

// newest returns a page, newest first, of a list in which the newest is last.
func newest[T any](list []T, p *page) []T {
	some := []T{}
	for i := len(list) - 1 - p.Offset; i >= 0 && len(some) < p.Limit; i-- {
		some = append(some, list[i])
	}
	return some
}

func (s *Server) inbox(ctx context.Context, n *node.Node, p *page) (api.Messages, error) {
	type one struct {
		ref   engine.Ref
		state deal.Recipient
	}
	var list []one
	if err := n.Delivery.Received(ctx, func(ref engine.Ref, r deal.Recipient) error {
		list = append(list, one{ref, r})
		return nil
	}); err != nil {
		return api.Messages{}, err
	}
	m := api.Messages{Messages: []api.Message{}, Total: len(list)}
	for _, o := range newest(list, p) { // only their files are opened
		m.Messages = append(m.Messages, s.received(n, o.ref, o.state))
	}
	return m, nil
}

func (s *Server) listSent(ctx context.Context, n *node.Node, p *page) (api.Messages, error) {
	var list []api.Message
	err := n.Delivery.Sent(ctx, func(_ engine.Ref, st deal.Sender) error {
		list = append(list, s.sent(st))
		return nil
	})
	return api.Messages{Messages: newest(list, p), Total: len(list)}, err
}

func (s *Server) find(ctx context.Context, n *node.Node, id string, kinds ...engine.Kind) (m api.Message, ref engine.Ref, err error) {
	ref, state, err := n.Delivery.Find(ctx, id, kinds...)
	if err != nil {
		return m, ref, err
	}
	switch state := state.(type) {
	case deal.Sender:
		m = s.sent(state)
	case deal.Recipient:
		m = s.received(n, ref, state)
	}
	return m, ref, nil
}

// sent shows a sent message.
func (s *Server) sent(st deal.Sender) api.Message {
	m := api.Message{ID: st.Terms.Key.ID().String(), Direction: "sent", State: st.State(), Phase: st.Phase.String(), To: wire.EncodeAddress(s.cfg.Network, st.Terms.Recipient),
		Subject: st.Terms.Subject, Bytes: st.Terms.PayloadSize, Created: st.Terms.Created, Agents: []string{}, Failure: st.Failure, FailedBy: api.Code(st.FailedBy)}
	if st.Confirmed != nil {
		m.Height = uint32(st.Confirmed.Height)
	}
	for i := range st.Legs {
		l := &st.Legs[i]
		if l.Held {
			m.Agents = append(m.Agents, l.Candidate.Agent.String())
		}
		m.Acked = m.Acked || len(l.Ack) > 0
	}
	if len(st.Frozen) > 0 {
		m.Expiry = uint32(st.Frozen[0].Expiry)
	}
	if st.Phase >= deal.SenderPublishing && st.Txid != (wire.Hash{}) {
		m.Funding, m.Cost = displayed(st.Txid), st.Fee
		for _, v := range st.Values {
			m.Cost += v
		}
	}
	m.Rest = st.Rest()
	if m.State == "failed" && m.Rest > 0 {
		m.Failure, m.FailedBy = fmt.Sprintf("it expired; %v were not claimed and are not worth the fee of a refund", m.Rest), api.CodeFee
	}
	for _, f := range st.Spends {
		switch {
		case f != nil && f.Claim >= 0:
			m.Claims = append(m.Claims, displayed(f.Txid))
		case f != nil && f.Claim == -1:
			m.Refund = displayed(f.Txid)
		}
	}
	return m
}

// received shows a received message. If n is not nil, the message's header is
// read.
func (s *Server) received(n *node.Node, ref engine.Ref, r deal.Recipient) api.Message {
	m := api.Message{Direction: "received", State: r.State(), Phase: r.Phase.String(), To: wire.EncodeAddress(s.cfg.Network, r.Identity), Bytes: r.Size,
		Agents: []string{}, Funding: displayed(r.Txid), Failure: r.Failure, Acked: r.Acked}
	if r.Expired() && m.Failure == "" {
		m.Failure = deal.ErrExpired.Error()
	}
	if r.Key != (wire.MessageKey{}) {
		m.ID = r.Key.ID().String()
	}
	if r.Confirmed != nil {
		m.Height = uint32(r.Confirmed.Height)
	}
	for i := range r.Sources {
		m.Agents = append(m.Agents, r.Sources[i].Candidate.Agent.String())
		m.Expiry = uint32(r.Sources[i].Frozen.Expiry)
		m.Bytes = max(m.Bytes, r.Sources[i].Leaf.Size)
	}
	if r.Phase != deal.RecipientRead {
		return m
	}
	m.Bytes, m.From, m.Failure = r.Size, wire.EncodeAddress(s.cfg.Network, r.Sender), ""
	if n == nil {
		return m
	}
	if f, err := n.Delivery.Message(ref); err == nil {
		defer f.Close()
		if msg, err := mail.Read(f); err == nil {
			m.Subject, m.Filename = msg.Subject, msg.Filename
			if !msg.Date.IsZero() {
				m.Created = msg.Date.Unix()
			}
		}
	}
	return m
}
