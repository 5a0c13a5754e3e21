package web

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/sse"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Config of a Server.
type Config struct {
	Version string
	Network wire.Network
	Token   string
	// Backup writes an encrypted copy of the home.
	Backup func(ctx context.Context, w io.Writer, snapshot func(context.Context, string) error) error
	// Health is nil where the Bitcoin node serves well.
	Health func(context.Context) error
	Log    *slog.Logger
}

// Server is the API of one node.
type Server struct {
	cfg     Config
	started time.Time
	mux     *http.ServeMux
	hub     hub
	margins deal.Margins

	mu   sync.Mutex
	node *node.Node // nil until Attach

	asked struct { // the Bitcoin node, how it is
		mu  sync.Mutex
		at  time.Time
		err error
	}
}

// New makes a server. It answers only once it has a node; its Observe, Tip and
// Progress are for that node's configuration.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, started: time.Now(), mux: http.NewServeMux(), margins: deal.MarginsFor(cfg.Network)}
	conf := huma.DefaultConfig("Bitgram", cfg.Version)
	conf.Info.Description = "The daemon's local API. Every request carries 'Authorization: Bearer TOKEN', with the token that stands in api.token in the home. Amounts are satoshi."
	conf.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	conf.Security = []map[string][]string{{"token": {}}}
	conf.DocsPath, conf.SchemasPath = "", ""
	conf.RejectUnknownQueryParameters = true
	conf.CreateHooks = nil // no $schema links in answers
	s.routes(humago.New(s.mux, conf))
	s.metrics()
	return s
}

// Attach gives the server its node.
func (s *Server) Attach(n *node.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node = n
}

func (s *Server) get() (*node.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.node == nil {
		return nil, ErrStarting
	}
	return s.node, nil
}

// Observe passes on what happens to messages.
func (s *Server) Observe(c engine.Change) {
	switch after := c.State.(type) {
	case deal.Sender:
		if before, ok := c.Before.(deal.Sender); !ok || before.State() != after.State() || before.Phase != after.Phase {
			s.hub.send(s.sent(after))
		}
	case deal.Recipient:
		if before, ok := c.Before.(deal.Recipient); after.Phase != deal.RecipientDiscarded && (!ok || before.Phase != after.Phase) {
			s.hub.send(s.received(nil, engine.Ref{}, after)) // its file is not opened here
		}
	case bank.Payer:
		if before, ok := c.Before.(bank.Payer); !ok || before.State() != after.State() || before.Phase != after.Phase {
			s.hub.send(s.showPayer(&after, s.rate()))
		}
	case bank.Payee:
		if before, ok := c.Before.(bank.Payee); !ok || before.State() != after.State() {
			s.hub.send(s.showPayee(&after, s.rate()))
		}
	case bank.Sending:
		s.hub.send(s.showPayment(&after))
	}
}

// rate is the node's estimate, 0 before there is a node.
func (s *Server) rate() wire.SatPerKVB {
	n, err := s.get()
	if err != nil {
		return 0
	}
	return n.Engine().FeeRate()
}

// Tip passes on a new tip.
func (s *Server) Tip(at chain.BlockRef) {
	s.hub.send(api.Tip{Height: uint32(at.Height), Hash: at.Hash.String()})
}

// Progress passes on how far long work is.
func (s *Server) Progress(what string, done, total uint64) {
	s.hub.progress(api.Progress{What: what, Done: done, Total: total})
}

// Limits of the API's server.
const (
	headerTime = 10 * time.Second
	maxHeader  = 64 << 10
	stopTime   = 3 * time.Second
	maxConns   = 256
)

// Serve answers on l until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s, ReadHeaderTimeout: headerTime, MaxHeaderBytes: maxHeader, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		s.hub.close()
		end, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		if srv.Shutdown(end) != nil {
			_ = srv.Close()
		}
	}()
	err := srv.Serve(netutil.LimitListener(l, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}

// ServeHTTP admits who has the token and does not come from a web page: the
// name in Host must be an address, so that no foreign name leads here (DNS
// rebinding), and browsers send Origin.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	known := subtle.ConstantTimeCompare([]byte(token), []byte(s.cfg.Token)) == 1
	switch {
	case r.Header.Get("Origin") != "" || net.ParseIP(strings.Trim(host, "[]")) == nil && host != "localhost":
		s.deny(w, http.StatusForbidden, "this API is not for web pages")
	case r.URL.Path == "/health":
		hurry(w)
		s.health(w, r, known)
	case !known:
		w.Header().Set("WWW-Authenticate", "Bearer")
		s.deny(w, http.StatusUnauthorized, ErrToken.Error())
	default:
		s.mux.ServeHTTP(w, r)
	}
}

// hurry keeps a caller without a token from holding the connection by a body
// that never comes.
func hurry(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
}

func (s *Server) deny(w http.ResponseWriter, status int, text string) {
	hurry(w)
	writeJSON(w, status, &api.Error{Code: api.CodeToken, Message: text})
}

// health tells whoever asks whether all is well and, as a code, what is not; and
// the rest to who has the token.
func (s *Server) health(w http.ResponseWriter, r *http.Request, known bool) {
	type health struct {
		OK     bool     `json:"ok"`
		Code   api.Code `json:"code,omitempty"`
		Reason string   `json:"reason,omitempty"`

		Warnings []api.Code `json:"warnings,omitempty"`
	}
	n, err := s.get()
	if err == nil {
		trouble := n.Engine().Trouble()
		if trouble == nil {
			ask := s.oldHealth
			if known {
				ask = s.nodeHealth
			}
			trouble = ask(r.Context())
		}
		if !n.Engine().Synced() {
			err = node.ErrSyncing
		}
		select {
		case <-n.Ended():
			err = errors.Join(ErrEnded, err)
		default:
		}
		err = errors.Join(err, trouble)
	}
	if err != nil {
		h := health{Code: CodeOf(err)}
		if known {
			h.Reason = err.Error()
		}
		writeJSON(w, http.StatusServiceUnavailable, h)
		return
	}
	h := health{OK: true}
	if n.HintTrouble() != nil {
		h.Warnings = append(h.Warnings, api.CodeHintLost)
	}
	writeJSON(w, http.StatusOK, h)
}

// healthTime is how long the Bitcoin node has to say how it is.
const healthTime = 5 * time.Second

// nodeHealth asks the Bitcoin node, which may be stalled.
func (s *Server) nodeHealth(ctx context.Context) error {
	if s.cfg.Health == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	err := s.cfg.Health(ctx)
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: no answer within %v", chain.ErrUnavailable, healthTime)
	}
	return err
}

// oldHealth is nodeHealth for callers without a token, asked once a second at
// most.
func (s *Server) oldHealth(ctx context.Context) error {
	s.asked.mu.Lock()
	defer s.asked.mu.Unlock()
	if time.Since(s.asked.at) >= time.Second {
		s.asked.err = s.nodeHealth(context.WithoutCancel(ctx)) // the answer is others' too
		s.asked.at = time.Now()
	}
	return s.asked.err
}

// out wraps an answer's body.
type out[T any] struct{ Body T }

// on registers an operation on the node.
func on[I, T any](s *Server, to huma.API, method, path, summary string, f func(context.Context, *node.Node, *I) (T, error)) {
	op := huma.Operation{OperationID: strings.ToLower(method) + strings.NewReplacer("/", "-", "{", "", "}", "").Replace(path),
		Method: method, Path: "/v1" + path, Summary: summary, MaxBodyBytes: 64 << 10}
	huma.Register(to, op, func(ctx context.Context, in *I) (*out[T], error) {
		n, err := s.get()
		if err != nil {
			return nil, s.answer(err)
		}
		v, err := f(ctx, n, in)
		if err != nil {
			return nil, s.answer(err)
		}
		return &out[T]{v}, nil
	})
}

type none struct{}

type byID struct {
	ID string `path:"id" doc:"a message ID, or its first digits (4 or more)"`
}

type page struct {
	Limit  int `query:"limit" default:"1000" minimum:"1" maximum:"100000"`
	Offset int `query:"offset" minimum:"0" doc:"how many of the newest to leave out"`
}

func (s *Server) routes(to huma.API) {
	on(s, to, "GET", "/status", "How the daemon does", s.status)
	on(s, to, "GET", "/id", "Who this home is", func(_ context.Context, n *node.Node, _ *none) (api.Identity, error) { return s.identity(n) })
	on(s, to, "GET", "/chain/difficulty", "What the last block took and brought", func(ctx context.Context, n *node.Node, _ *none) (api.Difficulty, error) {
		m, err := n.Mining(ctx)
		return api.Difficulty{Height: uint32(m.Height), Bits: fmt.Sprintf("%08x", m.Bits), Difficulty: penny.Difficulty(m.Target()), Subsidy: m.Subsidy}, err
	})
	on(s, to, "GET", "/inbox", "Messages received", s.inbox)
	on(s, to, "GET", "/sent", "Messages sent", s.listSent)
	on(s, to, "GET", "/messages/{id}", "One message", func(ctx context.Context, n *node.Node, in *byID) (api.Message, error) {
		m, _, err := s.find(ctx, n, in.ID, deal.KindSender, deal.KindRecipient)
		return m, err
	})
	on(s, to, "POST", "/messages/{id}/cancel", "Take a message back before it is paid for", func(ctx context.Context, n *node.Node, in *byID) (api.Message, error) {
		m, ref, err := s.find(ctx, n, in.ID, deal.KindSender, deal.KindRecipient)
		if err != nil {
			return m, err
		}
		if m.Direction != "sent" {
			return m, fmt.Errorf("%w: it was received", deal.ErrTooLate)
		}
		if err := n.Cancel(ctx, ref); err != nil {
			return m, err
		}
		m, _, err = s.find(ctx, n, in.ID, deal.KindSender)
		return m, err
	})
	on(s, to, "DELETE", "/messages/{id}", "Delete a message that was received, or else one that was sent and has come to its end", func(ctx context.Context, n *node.Node, in *byID) (api.Message, error) {
		m, ref, err := s.find(ctx, n, in.ID, deal.KindRecipient, deal.KindSender)
		if err != nil {
			return m, err
		}
		return m, n.Discard(ctx, ref)
	})
	on(s, to, "GET", "/messages/{id}/proof", "A proof of delivery that anybody can check offline", func(ctx context.Context, n *node.Node, in *byID) (*deal.Proof, error) {
		_, state, err := n.Find(ctx, in.ID, deal.KindSender, deal.KindRecipient)
		if err != nil {
			return nil, err
		}
		sent, ok := state.(deal.Sender)
		if !ok {
			return nil, fmt.Errorf("%w: only its sender has one", deal.ErrNoProof)
		}
		return sent.Proof(s.cfg.Network)
	})
	on(s, to, "POST", "/estimate", "What a message would cost", func(ctx context.Context, n *node.Node, in *struct {
		TermsQuery
		Bytes uint64 `query:"bytes" required:"true" doc:"of the message's body and attachments"`
	}) (api.Estimate, error) {
		return s.estimate(ctx, n, &in.TermsQuery, in.Bytes)
	})
	on(s, to, "GET", "/agents", "Agents that this node has met in the DHT", func(_ context.Context, n *node.Node, _ *none) (list struct {
		Agents []api.Agent `json:"agents"`
	}, err error) {
		list.Agents = []api.Agent{}
		for _, ad := range n.Roster() {
			list.Agents = append(list.Agents, s.agent(ad))
		}
		return list, nil
	})
	on(s, to, "GET", "/agents/{key}", "One agent, asked for in the DHT", func(ctx context.Context, n *node.Node, in *struct {
		Key string `path:"key" doc:"its public key or address"`
	}) (api.Agent, error) {
		k, err := wire.ParseRecipient(s.cfg.Network, in.Key)
		if err != nil {
			return api.Agent{}, err
		}
		ad, err := n.FindAgent(ctx, k)
		if err != nil {
			return api.Agent{}, err
		}
		return s.agent(*ad), nil
	})
	s.walletRoutes(to)
	s.nameRoutes(to)
	s.bankRoutes(to)

	huma.Register(to, huma.Operation{OperationID: "post-messages", Method: "POST", Path: "/v1/messages", Summary: "Send a message",
		Description: "The body is the message's bytes; or, where the query names attachments, multipart/form-data with the message first and the attachments behind it in their order. It answers when the message is queued.",
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
	// Described behind the library's back, which would read the body itself.
	to.OpenAPI().Paths["/v1/messages"].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}},
		"multipart/form-data":      {Schema: &huma.Schema{Type: "object"}}}}
	huma.Register(to, huma.Operation{OperationID: "get-message-content", Method: "GET", Path: "/v1/messages/{id}/content", Summary: "The MIME message, as it was read",
		Responses: map[string]*huma.Response{"200": {Description: "the message", Content: map[string]*huma.MediaType{"message/rfc822": {}}}},
	}, func(ctx context.Context, in *byID) (*huma.StreamResponse, error) {
		n, err := s.get()
		if err != nil {
			return nil, s.answer(err)
		}
		ref, state, err := n.Find(ctx, in.ID, deal.KindRecipient, deal.KindSender)
		if err != nil {
			return nil, s.answer(err)
		}
		if _, ok := state.(deal.Recipient); !ok {
			return nil, s.answer(fmt.Errorf("%w: a sender keeps no copy", node.ErrUnread))
		}
		f, err := n.Message(ref)
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
	sse.Register(to, huma.Operation{OperationID: "get-events", Method: "GET", Path: "/v1/events", Summary: "What happens from now on"},
		map[string]any{"changed": api.Message{}, "bank": api.Bank{}, "payment": api.BankPayment{}, "tip": api.Tip{}, "progress": api.Progress{}, "ready": api.Ready{}},
		func(ctx context.Context, _ *none, send sse.Sender) {
			events, leave := s.hub.join()
			defer leave()
			if send.Data(api.Ready{}) != nil {
				return
			}
			for {
				select {
				case e, ok := <-events:
					if !ok || send.Data(e) != nil {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		})
}

// TermsQuery is Terms as the query has them.
type TermsQuery struct {
	To        string   `query:"to" required:"true" doc:"an address, npub or public key"`
	Subject   string   `query:"subject" maxLength:"998"`
	Filename  string   `query:"filename" maxLength:"255" doc:"base name of the file that the body is"`
	Attach    []string `query:"attach,explode" maxItems:"100" doc:"base names of the attachments"`
	Days      float64  `query:"days" default:"7" exclusiveMinimum:"0" maximum:"365" doc:"how long it is kept for the recipient"`
	Agents    int      `query:"agents" default:"3" minimum:"1" maximum:"16"`
	MaxSat    int64    `query:"max_sat" default:"100000" minimum:"1" doc:"what it may cost at most"`
	OneOfMany bool     `query:"one_of_many" doc:"one frozen output for all agents instead of one each"`
	Size      uint64   `query:"size" doc:"of the body, bytes, for progress; 0 where it is not known"`
}

func (s *Server) letter(t *TermsQuery) (l node.Letter, err error) {
	l = node.Letter{Subject: t.Subject, Filename: t.Filename, Agents: t.Agents, MaxCost: wire.Sat(t.MaxSat), Size: t.Size}
	if t.OneOfMany {
		l.Shape = wire.OneOfMany
	}
	if l.Agents > wire.MaxAgents {
		return l, fmt.Errorf("%w: at most %d agents", ErrRequest, wire.MaxAgents)
	}
	// No quote is taken that does not hold for two depths of confirmation.
	l.Blocks = max(3*s.margins.RevealConf, uint32(t.Days*float64(s.margins.BlocksPerDay)))
	l.To, err = wire.ParseRecipient(s.cfg.Network, t.To)
	return l, err
}

// sending is a request to send, with its body as a stream.
type sending struct {
	TermsQuery
	contentType string
	body        io.Reader
}

// Resolve implements huma.Resolver: it takes the body as it comes.
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
			return m, fmt.Errorf("%w: attachments come as multipart/form-data", ErrRequest)
		}
		parts := &parts{r: multipart.NewReader(in.body, params["boundary"])}
		l.Body = parts.next()
		for _, name := range in.Attach {
			l.Attachments = append(l.Attachments, mail.File{Name: name, Body: parts.next()})
		}
	}
	ref, err := n.Send(ctx, l)
	if err != nil {
		return m, err
	}
	state, err := n.Engine().State(ctx, ref)
	if err != nil {
		return m, err
	}
	return s.sent(state.(deal.Sender)), nil
}

// parts hands out the parts of a request one behind another.
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
	if err := n.Synced(ctx); err != nil {
		return e, err
	}
	if size > wire.MaxPayload {
		return e, fmt.Errorf("%w: %d bytes", seal.ErrTooLarge, size)
	}
	est, err := n.Estimate(ctx, l, size+envelope)
	if err != nil {
		return e, err
	}
	b, err := n.Balance(ctx)
	e = api.Estimate{Frozen: est.Frozen, Fee: est.Fee, Total: est.Frozen + est.Fee, Blocks: l.Blocks, Balance: b.Spendable(), Agents: hexes(est.Agents)}
	return e, err
}

// envelope is about what a MIME header and the encryption add.
const envelope = 600

func hexes(keys []wire.Key) []string {
	list := make([]string, 0, len(keys))
	for _, k := range keys {
		list = append(list, k.String())
	}
	return list
}

func (s *Server) identity(n *node.Node) (api.Identity, error) {
	id, err := p2p.PeerID(n.Key())
	return api.Identity{Address: n.Address(), Pubkey: n.Key().String(), PeerID: id.String(), Network: s.cfg.Network}, err
}

func (s *Server) status(ctx context.Context, n *node.Node, _ *none) (st api.Status, err error) {
	if st.Identity, err = s.identity(n); err != nil {
		return st, err
	}
	at := n.Engine().Position()
	st.Version, st.Uptime = s.cfg.Version, int64(time.Since(s.started)/time.Second)
	st.Chain = api.Chain{Height: uint32(at.Height), Hash: at.Hash.String(), Synced: n.Engine().Synced()}
	if err := n.Engine().Trouble(); err != nil {
		st.Chain.Error = err.Error()
	} else if err := s.nodeHealth(ctx); err != nil {
		st.Chain.Error = err.Error()
	}
	st.Joined, st.Peers = n.Joined(), n.Known()
	st.Listen, st.Seeds = n.Addrs(), n.Seed()
	if st.Balance, err = balance(ctx, n); err != nil {
		return st, err
	}
	if n.IsAgent() {
		stored, err := n.Stored(ctx)
		if err != nil {
			return st, err
		}
		st.Agent = &api.Stored{Quotes: stored.Quotes, Messages: stored.Messages, Bytes: stored.Bytes, Unpaid: stored.Unpaid, Claims: stored.Claims, Earned: stored.Earned, Pending: stored.Pending}
	}
	if err := n.HintTrouble(); err != nil {
		st.Warnings = append(st.Warnings, api.Warning{Code: api.CodeHintLost, Message: err.Error()})
	}
	return st, nil
}

func balance(ctx context.Context, n *node.Node) (api.Balance, error) {
	b, err := n.Balance(ctx)
	return api.Balance{Spendable: b.Spendable(), Change: b.Change, Locked: b.Locked, Pending: b.Leaving(), Immature: b.Immature}, err
}

func (s *Server) agent(ad wire.Advertisement) api.Agent {
	id, _ := p2p.PeerID(ad.Agent) // the key was verified
	return api.Agent{Key: ad.Agent.String(), PeerID: id.String(), Rate: ad.Rate, MaxSize: ad.Limits.Size,
		Days: float64(ad.Limits.Blocks) / float64(s.margins.BlocksPerDay), Addrs: ad.Record.Addrs, Expires: ad.Record.Expires}
}

// newest cuts a page out of a list in which the newest comes last.
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
	if err := n.Received(ctx, func(ref engine.Ref, r deal.Recipient) error {
		list = append(list, one{ref, r})
		return nil
	}); err != nil {
		return api.Messages{}, err
	}
	m := api.Messages{Messages: []api.Message{}, Total: len(list)}
	for _, o := range newest(list, p) { // whose files are opened, and no others
		m.Messages = append(m.Messages, s.received(n, o.ref, o.state))
	}
	return m, nil
}

func (s *Server) listSent(ctx context.Context, n *node.Node, p *page) (api.Messages, error) {
	var list []api.Message
	err := n.Sent(ctx, func(_ engine.Ref, st deal.Sender) error {
		list = append(list, s.sent(st))
		return nil
	})
	return api.Messages{Messages: newest(list, p), Total: len(list)}, err
}

func (s *Server) find(ctx context.Context, n *node.Node, id string, kinds ...engine.Kind) (m api.Message, ref engine.Ref, err error) {
	ref, state, err := n.Find(ctx, id, kinds...)
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

// sent shows a message of this sender.
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

// received shows a message of this recipient; its header is read where n is
// given.
func (s *Server) received(n *node.Node, ref engine.Ref, r deal.Recipient) api.Message {
	m := api.Message{Direction: "received", State: r.State(), Phase: r.Phase.String(), To: wire.EncodeAddress(s.cfg.Network, r.Identity), Bytes: r.Size,
		Agents: []string{}, Funding: displayed(r.Txid), Failure: r.Failure, Acked: r.Acked}
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
	if f, err := n.Message(ref); err == nil {
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

// displayed is a txid in the usual order.
func displayed(h wire.Hash) string {
	for i, j := 0, len(h)-1; i < j; i, j = i+1, j-1 {
		h[i], h[j] = h[j], h[i]
	}
	return hex.EncodeToString(h[:])
}

// metrics serves /metrics.
func (s *Server) metrics() {
	reg := prometheus.NewRegistry()
	reg.MustRegister(&collector{s})
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn)}))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked has gone
}
