// Package web serves the daemon's local API: HTTP with JSON, described by OpenAPI
// at /openapi.json, with server-sent events for what happens meanwhile. Its
// types, error codes and client are package api. Every request but /health
// carries the home's token.
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
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/sse"
	"golang.org/x/net/netutil"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Config configures a Server.
type Config struct {
	Version string
	Network wire.Network
	Token   string
	// Backup writes an encrypted backup of the home.
	Backup func(ctx context.Context, w io.Writer, snapshot func(context.Context, string) error) error
	// Health returns an error if the Bitcoin node is unusable; nil for a chain
	// without one.
	Health func(context.Context) error
	// Advise returns what is wrong with the Bitcoin node's settings; nil for a chain
	// of our own.
	Advise func(context.Context) []error
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

	advised struct { // last answer of Advise
		mu   sync.Mutex
		at   time.Time
		list []error
	}
	asked struct { // last answer of Health
		mu  sync.Mutex
		at  time.Time
		err error
	}
}

// New returns a server. Until Attach gives it a node, it answers with ErrStarting.
// Observe, Tip and Progress go into that node's configuration.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, started: time.Now(), mux: http.NewServeMux(), margins: deal.MarginsFor(cfg.Network)}
	conf := huma.DefaultConfig("Bitgram", cfg.Version)
	conf.Info.Description = "The daemon's local API. Every request must carry 'Authorization: Bearer TOKEN', with the token from the file api.token in the home. Amounts are integers whose name ends in the unit."
	conf.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	conf.Security = []map[string][]string{{"token": {}}}
	conf.DocsPath, conf.SchemasPath = "", ""
	conf.RejectUnknownQueryParameters = true
	conf.CreateHooks = nil // no $schema links in answers
	s.routes(humago.New(s.mux, conf))
	s.metrics()
	return s
}

// Attach gives the server its node; nil takes it away.
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

// Observe sends an event if a change concerns a message, bank or payment.
func (s *Server) Observe(c engine.Change) {
	switch after := c.State.(type) {
	case deal.Sender:
		if before, ok := c.Before.(deal.Sender); !ok || before.State() != after.State() || before.Phase != after.Phase {
			s.hub.send(s.sent(after))
		}
	case deal.Recipient:
		if before, ok := c.Before.(deal.Recipient); after.Phase != deal.RecipientDiscarded && (!ok || before.Phase != after.Phase) {
			s.hub.send(s.received(nil, engine.Ref{}, after)) // without opening its file
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
	case bank.Relay:
		if before, ok := c.Before.(bank.Relay); after.Out == (bank.ID{}) && after.Index > 0 && (!ok || before.Index != after.Index) {
			s.hub.send(showReceived(&after))
		}
	}
}

// rate returns the node's estimate of the fee rate; 0 before there is a node.
func (s *Server) rate() wire.SatPerKVB {
	n, err := s.get()
	if err != nil {
		return 0
	}
	return n.Engine().FeeRate()
}

// Tip sends the event of a new tip.
func (s *Server) Tip(at chain.BlockRef) {
	s.hub.send(api.Tip{Height: uint32(at.Height), Hash: at.Hash.String()})
}

// Progress sends the event of work that takes long.
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

// Serve answers requests on l until ctx ends.
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

// ServeHTTP answers a request that carries the token and does not come from a web
// page. Browsers send Origin, and Host must be an address or localhost, so that no
// foreign name can be resolved to this server (DNS rebinding).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	known := subtle.ConstantTimeCompare([]byte(token), []byte(s.cfg.Token)) == 1
	switch {
	case r.Header.Get("Origin") != "" || net.ParseIP(strings.Trim(host, "[]")) == nil && host != "localhost":
		s.deny(w, http.StatusForbidden, "requests from web pages are refused")
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

// hurry keeps a caller without a token from holding the connection open by not
// sending a body.
func hurry(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
}

func (s *Server) deny(w http.ResponseWriter, status int, text string) {
	hurry(w)
	writeJSON(w, status, &api.Error{Code: api.CodeToken, Message: text})
}

// out is an answer with this body.
type out[T any] struct{ Body T }

// on registers an operation that needs the node.
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

func (s *Server) routes(to huma.API) {
	on(s, to, "GET", "/status", "Daemon status", s.status)
	on(s, to, "GET", "/id", "Identity of this home", func(_ context.Context, n *node.Node, _ *none) (api.Identity, error) { return s.identity(n) })
	on(s, to, "GET", "/chain/difficulty", "Difficulty and subsidy of the last block", func(ctx context.Context, n *node.Node, _ *none) (api.Difficulty, error) {
		m, err := n.Mining(ctx)
		return api.Difficulty{Height: uint32(m.Height), Bits: fmt.Sprintf("%08x", m.Bits), Difficulty: penny.Difficulty(m.Target()), Subsidy: m.Subsidy}, err
	})
	on(s, to, "GET", "/agents", "Agents that this node knows from the DHT", func(_ context.Context, n *node.Node, _ *none) (list struct {
		Agents []api.Agent `json:"agents"`
	}, err error) {
		list.Agents = []api.Agent{}
		for _, ad := range n.Directory.Roster() {
			list.Agents = append(list.Agents, s.agent(ad))
		}
		return list, nil
	})
	on(s, to, "GET", "/agents/{key}", "Look up an agent in the DHT", func(ctx context.Context, n *node.Node, in *struct {
		Key string `path:"key" doc:"public key or address of the agent"`
	}) (api.Agent, error) {
		k, err := wire.ParseRecipient(s.cfg.Network, in.Key)
		if err != nil {
			return api.Agent{}, err
		}
		ad, err := n.Directory.FindAgent(ctx, k)
		if err != nil {
			return api.Agent{}, err
		}
		return s.agent(*ad), nil
	})
	s.messageRoutes(to)
	s.walletRoutes(to)
	s.nameRoutes(to)
	s.bankRoutes(to)

	sse.Register(to, huma.Operation{OperationID: "get-events", Method: "GET", Path: "/v1/events", Summary: "Events from now on, as server-sent events"},
		map[string]any{"changed": api.Message{}, "bank": api.Bank{}, "payment": api.BankPayment{}, "received": api.Received{}, "tip": api.Tip{}, "progress": api.Progress{}, "ready": api.Ready{}},
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
	st.Joined, st.Peers = n.Directory.Joined(), n.Directory.Known()
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
	if err := n.Directory.HintTrouble(); err != nil {
		st.Warnings = append(st.Warnings, api.Warning{Code: api.CodeHintLost, Message: err.Error()})
	}
	for _, err := range s.advice(ctx) {
		st.Warnings = append(st.Warnings, api.Warning{Code: CodeOf(err), Message: err.Error()})
	}
	return st, nil
}

func balance(ctx context.Context, n *node.Node) (api.Balance, error) {
	b, err := n.Coins.Balance(ctx)
	if err != nil {
		return api.Balance{}, err
	}
	rest, err := n.Delivery.Rest(ctx)
	return api.Balance{Spendable: b.Spendable(), Change: b.Change, Locked: b.Locked, Pending: b.Leaving(), Immature: b.Immature, Rest: rest}, err
}

func (s *Server) agent(ad wire.Advertisement) api.Agent {
	id, _ := p2p.PeerID(ad.Agent) // the key was verified
	return api.Agent{Key: ad.Agent.String(), PeerID: id.String(), Rate: ad.Rate, MaxSize: ad.Limits.Size,
		Days: float64(ad.Limits.Blocks) / float64(s.margins.BlocksPerDay), Addrs: ad.Record.Addrs, Expires: ad.Record.Expires}
}

// displayed is a txid in the usual order.
func displayed(h wire.Hash) string {
	for i, j := 0, len(h)-1; i < j; i, j = i+1, j-1 {
		h[i], h[j] = h[j], h[i]
	}
	return hex.EncodeToString(h[:])
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only if the client is gone
}
