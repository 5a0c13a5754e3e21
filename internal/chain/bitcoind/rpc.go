package bitcoind

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/btcsuite/btcd/blockchain"

	"github.com/bitgram/bitgram/internal/chain"
)

const (
	// maxAnswer is the maximum size of an answer in bytes: a block in hex, and
	// its envelope.
	maxAnswer = 2*blockchain.MaxBlockWeight + 64<<10
	maxCookie = 1 << 10
	// maxText is the maximum length in bytes of a node's text that is shown.
	maxText = 500
	// callTimeout limits a call whose context has no deadline. A node that
	// connects a block can delay answers for seconds.
	callTimeout = time.Minute
	dialTimeout = 10 * time.Second
	// idleTimeout is below the 30 s after which Bitcoin Core closes a
	// connection.
	idleTimeout = 20 * time.Second
	// busyFirst and busyLast are the first and the last pause before a request is
	// made again that the node is too busy to take.
	busyFirst, busyLast = 50 * time.Millisecond, 2 * time.Second
	// maxConns is well below btcd's limit of 10 clients.
	maxConns = 4
)

// Error codes of the RPC (Bitcoin Core's rpc/protocol.h).
const (
	codeMisc         = -1
	codeAddressOrKey = -5 // also: no such block
	codeParameter    = -8
	codeDecode       = -22
	codeTransaction  = -25
	codeRejected     = -26
	codeKnown        = -27
	codeWarmup       = -28
	codeNoMethod     = -32601
	codeParams       = -32602
	codeInternal     = -32603
)

// Error is an error answer of the node.
type Error struct {
	Method  string
	Code    int
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: the Bitcoin node says %q (%d)", e.Method, e.Message, e.Code)
}

// rpc speaks JSON-RPC 1.0 over HTTP.
type rpc struct {
	url        string
	cookieFile string
	http       *http.Client

	mu             sync.Mutex
	user, password string
}

func (r *rpc) init(cfg Config) error {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return errors.New("the URL of the Bitcoin node cannot be read") // err shows it, maybe with a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("the Bitcoin node's URL must be like http://127.0.0.1:8332, not %q", u.Redacted())
	case u.User != nil:
		return errors.New("user and password do not belong in the Bitcoin node's URL")
	case cfg.CookieFile != "" && cfg.User+cfg.Password != "":
		return errors.New("give a cookie file or user and password for the Bitcoin node, not both")
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CACert != "" {
		pem, err := os.ReadFile(cfg.CACert)
		if err != nil {
			return err
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s: no certificate in it", cfg.CACert)
		}
	}
	r.url, r.cookieFile, r.user, r.password = u.String(), cfg.CookieFile, cfg.User, cfg.Password
	r.http = &http.Client{
		Transport: &http.Transport{ // without a proxy: the node is ours
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig:        secure,
			TLSHandshakeTimeout:    dialTimeout,
			IdleConnTimeout:        idleTimeout,
			MaxConnsPerHost:        maxConns,
			MaxIdleConnsPerHost:    maxConns,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // otherwise the size limit would apply to the compressed bytes
		},
		// Do not follow redirects: they would get the credentials.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// call calls method and decodes its result, unless result is nil. The node may
// answer null only if result points to a pointer. An *Error is
// the node's own answer; any other error wraps chain.ErrUnavailable or
// chain.ErrCredentials.
func (r *rpc) call(ctx context.Context, result any, method string, params []any) error {
	if params == nil {
		params = []any{} // null is not accepted as a list
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "1.0", "id": "bitgram", "method": method, "params": params})
	if err != nil {
		return err
	}
	user, password := r.credentials()
	status, raw, err := r.post(ctx, body, user, password)
	for wait := busyFirst; err == nil && busy(status, raw) && wait <= busyLast; wait *= 2 {
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-ctx.Done():
		}
		status, raw, err = r.post(ctx, body, user, password)
	}
	if err == nil && status == http.StatusUnauthorized && r.readCookie() {
		user, password = r.credentials()
		status, raw, err = r.post(ctx, body, user, password)
	}
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL once more
		}
		return fmt.Errorf("%w: %s: %s: %w", chain.ErrUnavailable, r.url, method, err)
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden: // the latter: not from this address
		return fmt.Errorf("%w: %s: %s", chain.ErrCredentials, r.url, http.StatusText(status))
	}
	var answer struct {
		Result json.RawMessage
		Error  *struct {
			Code    int
			Message string
		}
	}
	err = json.Unmarshal(raw, &answer)
	switch {
	case status != http.StatusOK && (err != nil || answer.Error == nil):
		return fmt.Errorf("%w: %s: %s: HTTP status %d %q", chain.ErrUnavailable, r.url, method, status, clean(string(raw)))
	case err != nil:
		return fmt.Errorf("%w: %s: %s: not an answer: %w", chain.ErrUnavailable, r.url, method, err)
	case answer.Error != nil:
		return &Error{Method: method, Code: answer.Error.Code, Message: clean(answer.Error.Message)}
	case result == nil:
		return nil
	case answer.Result == nil || string(answer.Result) == "null" && reflect.TypeOf(result).Elem().Kind() != reflect.Pointer:
		return fmt.Errorf("%w: %s: %s: an answer without a result", chain.ErrUnavailable, r.url, method)
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return fmt.Errorf("%w: %s: %s: %w", chain.ErrUnavailable, r.url, method, err)
	}
	return nil
}

// busy reports whether the node's queue of requests is full (-rpcworkqueue).
func busy(status int, raw []byte) bool {
	return status == http.StatusServiceUnavailable && len(raw) <= maxText && bytes.Contains(bytes.ToLower(raw), []byte("work queue"))
}

func (r *rpc) post(ctx context.Context, body []byte, user, password string) (status int, raw []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// All calls may be repeated. This key, which is not sent, tells net/http
	// so: it retries if the node closed an idle connection.
	req.Header["Idempotency-Key"] = []string{}
	if user+password != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(raw) > maxAnswer {
		err = fmt.Errorf("more than %d bytes", maxAnswer)
	}
	return resp.StatusCode, raw, err
}

// credentials returns the current ones; those of the cookie once it has been
// read.
func (r *rpc) credentials() (user, password string) {
	r.mu.Lock()
	first := r.cookieFile != "" && r.user == ""
	r.mu.Unlock()
	if first {
		r.readCookie()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.user, r.password
}

// readCookie reports whether the cookie file contains other credentials than
// the current ones. There is no file if the node does not run.
func (r *rpc) readCookie() bool {
	if r.cookieFile == "" {
		return false
	}
	f, err := os.Open(r.cookieFile)
	if err != nil {
		return false
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCookie))
	if err != nil {
		return false
	}
	user, password, ok := strings.Cut(strings.TrimSpace(string(raw)), ":")
	r.mu.Lock()
	defer r.mu.Unlock()
	if !ok || (user == r.user && password == r.password) {
		return false
	}
	r.user, r.password = user, password
	return true
}

// clean makes a node's text safe for one line of a log.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?")))
}
