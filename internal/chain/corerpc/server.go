// Package corerpc serves a chain over HTTP like Bitcoin Core's JSON-RPC: the
// part that wallets, explorers, scripts and curl need. Names, fields, units and
// error codes are Core's; help lists the methods.
//
// It listens on loopback only and has one user, whose password is new at each
// start and is in the cookie file.
package corerpc

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/net/netutil"

	"github.com/bitgram/bitgram/internal/chain"
)

const (
	// maxBody is the maximum size of a request in bytes. The largest standard
	// transaction has 400 kB, twice that in hex.
	maxBody    = 1 << 20
	maxHeaders = 16 << 10
	maxConns   = 64
	// maxBatch is the maximum number of requests in a batch; their answers are
	// sent one by one, as they are ready.
	maxBatch    = 100
	readTimeout = 30 * time.Second
	// answerTimeout limits a whole answer; maxWait, of waitfornewblock, is
	// below it.
	answerTimeout = 2 * time.Minute
	maxWait       = time.Minute
	idleTimeout   = 2 * time.Minute
	closeTimeout  = time.Second

	user = "__cookie__"
)

// Config says what to serve and where.
type Config struct {
	Node Node
	// Listen is a loopback address and a port: 127.0.0.1:18443; port 0: any.
	Listen string
	// CookieFile receives user and password, readable by its owner only. Close
	// removes it.
	CookieFile string
	Log        *slog.Logger // nil: nothing is logged
}

// Server is a listening server.
type Server struct {
	node   Node
	start  time.Time
	cookie string // user:password
	file   string
	log    *slog.Logger
	at     net.Addr
	http   *http.Server
	life   context.Context // ends with Close
	end    context.CancelFunc
	served chan struct{} // closed when the server accepts no more connections
}

// Listen writes the cookie and serves until Close.
func Listen(cfg Config) (*Server, error) {
	at, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("RPC is served on loopback only, as 127.0.0.1:18443, not on %q", cfg.Listen)
	}
	s := &Server{node: cfg.Node, start: time.Now(), file: cfg.CookieFile, log: cfg.Log, served: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var secret [32]byte
	rand.Read(secret[:])
	s.cookie = user + ":" + hex.EncodeToString(secret[:])
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return nil, err
	}
	if err := writeCookie(s.file, s.cookie); err != nil {
		l.Close()
		return nil, err
	}
	s.at = l.Addr()
	s.life, s.end = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaders,
		BaseContext:       func(net.Listener) context.Context { return s.life },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(netutil.LimitListener(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("RPC is no longer served", "err", err)
		}
	}()
	return s, nil
}

// URL returns the server's URL.
func (s *Server) URL() string { return "http://" + s.at.String() }

// Close ends the server and running calls, and removes the cookie. It may be
// called repeatedly.
func (s *Server) Close() error {
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close() // connections that do not read their answers
	}
	<-s.served
	// A later server may have written its own cookie.
	if raw, e := os.ReadFile(s.file); e == nil && string(raw) == s.cookie {
		err = errors.Join(err, os.Remove(s.file))
	}
	return err
}

// writeCookie replaces the file atomically.
func writeCookie(path, cookie string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(cookie)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// The codes of errors (Bitcoin Core's rpc/protocol.h).
const (
	codeMisc           = -1
	codeType           = -3
	codeAddressOrKey   = -5
	codeParameter      = -8
	codeDecode         = -22
	codeTransaction    = -25
	codeRejected       = -26
	codeKnown          = -27
	codeWarmup         = -28
	codeInvalidRequest = -32600
	codeNoMethod       = -32601
	codeInternal       = -32603
	codeParse          = -32700
)

// failure is an error as sent to the caller.
type failure struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (f *failure) Error() string { return f.Message }

func fail(code int, format string, args ...any) *failure {
	return &failure{code, fmt.Sprintf(format, args...)}
}

type request struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

// response has the form of JSON-RPC 1.0, which Core uses unless 2.0 is
// requested.
type response struct {
	Result any             `json:"result"`
	Error  *failure        `json:"error"`
	ID     json.RawMessage `json:"id"`
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "JSONRPC server handles only POST requests", http.StatusMethodNotAllowed)
		return
	}
	name, password, _ := r.BasicAuth()
	if subtle.ConstantTimeCompare([]byte(name+":"+password), []byte(s.cookie)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="jsonrpc"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
		return
	} else if err != nil {
		return // the caller is gone
	}
	out := bufio.NewWriterSize(w, 64<<10)
	defer out.Flush()
	w.Header().Set("Content-Type", "application/json")
	var one request
	var batch []json.RawMessage
	switch {
	case json.Unmarshal(body, &batch) == nil:
		s.serveBatch(r.Context(), out, batch)
	case json.Unmarshal(body, &one) == nil:
		status, answer := s.answer(r.Context(), one)
		w.WriteHeader(status)
		send(out, answer)
	case json.Valid(body):
		w.WriteHeader(http.StatusBadRequest)
		send(out, response{Error: fail(codeInvalidRequest, "Invalid Request object")})
	default:
		w.WriteHeader(http.StatusInternalServerError)
		send(out, response{Error: fail(codeParse, "Parse error")})
	}
}

func (s *Server) serveBatch(ctx context.Context, out *bufio.Writer, batch []json.RawMessage) {
	if batch == nil { // null
		send(out, response{Error: fail(codeInvalidRequest, "Invalid Request object")})
		return
	}
	if len(batch) > maxBatch {
		send(out, response{Error: fail(codeInvalidRequest, "batch of %d requests, at most %d are answered", len(batch), maxBatch)})
		return
	}
	out.WriteByte('[')
	for i, raw := range batch {
		if i > 0 {
			out.WriteByte(',')
		}
		var one request
		if json.Unmarshal(raw, &one) != nil {
			send(out, response{Error: fail(codeInvalidRequest, "Invalid Request object")})
			continue
		}
		_, answer := s.answer(ctx, one)
		send(out, answer)
	}
	out.WriteString("]\n")
}

// send writes one answer and a newline. Errors are ignored, because the caller
// is gone then.
func send(out *bufio.Writer, answer any) {
	raw, err := json.Marshal(answer)
	if err != nil { // of ours
		raw, _ = json.Marshal(response{Error: fail(codeInternal, "%v", err)})
	}
	out.Write(raw)
	out.WriteByte('\n')
}

// answer carries out one request; status is the HTTP status if it is not part
// of a batch.
func (s *Server) answer(ctx context.Context, req request) (status int, answer any) {
	result, f := s.call(ctx, req)
	if req.JSONRPC == "2.0" {
		v2 := map[string]any{"jsonrpc": req.JSONRPC, "id": req.ID, "result": result}
		if f != nil {
			v2["error"] = f
			delete(v2, "result")
		}
		return http.StatusOK, v2
	}
	status = http.StatusOK
	if f != nil {
		result = nil
		switch f.Code {
		case codeNoMethod:
			status = http.StatusNotFound
		case codeInvalidRequest:
			status = http.StatusBadRequest
		default:
			status = http.StatusInternalServerError
		}
	}
	return status, response{result, f, req.ID}
}

func (s *Server) call(ctx context.Context, req request) (any, *failure) {
	m, ok := methods[req.Method]
	if !ok {
		return nil, fail(codeNoMethod, "Method not found")
	}
	args, f := m.arguments(req.Params)
	if f != nil {
		return nil, f
	}
	result, err := m.run(s, ctx, args)
	if err == nil {
		return result, nil
	}
	if errors.As(err, &f) {
		return nil, f
	}
	if errors.Is(err, chain.ErrSyncing) {
		return nil, fail(codeWarmup, "%v", err)
	}
	return nil, fail(codeInternal, "%v", err)
}
