package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

func server(t *testing.T) *Server {
	return New(Config{Version: "test", Network: wire.Regtest, Token: "secret", Log: slog.New(slog.DiscardHandler)})
}

func ask(s *Server, method, path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:1"
	r.Header.Set("Authorization", "Bearer secret")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// serving is a server with a node, on a chain of its own and in no network.
func serving(t *testing.T) *Server {
	t.Helper()
	c, err := devchain.Open(filepath.Join(t.TempDir(), "chain"))
	if err != nil {
		t.Fatal(err)
	}
	s := server(t)
	s.cfg.Backup = func(_ context.Context, w io.Writer, _ func(context.Context, string) error) error {
		_, err := w.Write([]byte("backup"))
		return err
	}
	n, err := node.Open(node.Config{Dir: t.TempDir(), Network: wire.Regtest, Seed: bytes.Repeat([]byte{7}, 64), Chain: c, Observe: s.Observe, Tip: s.Tip, Progress: s.Progress})
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	s.Attach(n)
	t.Cleanup(func() {
		s.Attach(nil)
		if err := errors.Join(n.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := n.Coins.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// briefly ends a request that would wait for the network.
func briefly(r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 100*time.Millisecond)
	context.AfterFunc(ctx, cancel)
	*r = *r.WithContext(ctx)
}

// TestAdmission: without the token, from a web page or under a foreign name
// nothing is answered, whatever is asked.
func TestAdmission(t *testing.T) {
	s := server(t)
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"right":       {func(*http.Request) {}, 200},
		"localhost":   {func(r *http.Request) { r.Host = "localhost:80" }, 200},
		"IPv6":        {func(r *http.Request) { r.Host = "[::1]:80" }, 200},
		"no token":    {func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		"wrong token": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer secreT") }, 401},
		"longer":      {func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret ") }, 401},
		"rebinding":   {func(r *http.Request) { r.Host = "evil.example:1" }, 403},
		"page":        {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
	} {
		for _, path := range []string{"/openapi.json", "/metrics"} {
			if w := ask(s, "GET", path, "", c.change); w.Code != c.status {
				t.Errorf("%s, %s: %d, want %d", name, path, w.Code, c.status)
			}
		}
		if w := ask(s, "GET", "/v1/id", "", c.change); (c.status == 200) != (w.Code == http.StatusConflict) {
			t.Errorf("%s, /v1/id: %d", name, w.Code)
		}
	}
	if w := ask(s, "GET", "/health", "", func(r *http.Request) { r.Header.Del("Authorization") }); w.Code != 503 || strings.Contains(w.Body.String(), "reason") || !strings.Contains(w.Body.String(), `"code":"starting"`) {
		t.Errorf("health: %d, %s", w.Code, w.Body)
	}
	if w := ask(s, "GET", "/health", "", nil); w.Code != 503 || !strings.Contains(w.Body.String(), ErrStarting.Error()) {
		t.Errorf("health: %d, %s", w.Code, w.Body)
	}
}

// TestDescribed: every route is in the OpenAPI description, and what stands
// there is answered.
func TestDescribed(t *testing.T) {
	s := serving(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct{ Summary string }
	}
	if err := json.Unmarshal(ask(s, "GET", "/openapi.json", "", nil).Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.") || len(doc.Paths) < 15 {
		t.Fatalf("OpenAPI %q with %d paths", doc.OpenAPI, len(doc.Paths))
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if op.Summary == "" {
				t.Errorf("%s %s has no summary", method, path)
			}
			if path == "/v1/events" {
				continue // it never ends
			}
			at := strings.NewReplacer("{id}", "abcd", "{key}", "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").Replace(path)
			w := ask(s, strings.ToUpper(method), at, "", briefly)
			var e api.Error
			known := w.Code < 400 || json.Unmarshal(w.Body.Bytes(), &e) == nil && e.Code != "" // not the mux's own
			if w.Code == 405 || !known || path != "/v1/wallet/backup" && !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
}

// TestErrors: an answer has the code of its error and no advice, which is the
// client's to give; a client reads it back with its status.
func TestErrors(t *testing.T) {
	s := serving(t)
	for path, want := range map[string]api.Error{
		"/v1/messages/abcd":                 {Status: 404, Code: api.CodeUnknownMessage},
		"/v1/banks/abcd":                    {Status: 404, Code: api.CodeUnknownBank},
		"/v1/agents/x":                      {Status: 400, Code: api.CodeAddress},
		"/v1/inbox?limit=0":                 {Status: 422, Code: api.CodeRequest},
		"/v1/names/offer?hint=x":            {Status: 400, Code: api.CodeNoHint},
		"/v1/names/offer?hint=*!UPc0a80001": {Status: 400, Code: api.CodeBadHint},
	} {
		w := ask(s, "GET", path, "", nil)
		got := api.Error{Status: w.Code}
		d := json.NewDecoder(w.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil || got.Code != want.Code || got.Status != want.Status || got.Message == "" {
			t.Errorf("%s: %+v, %v, want %+v", path, got, err, want)
		}
	}
	// A wrapped error keeps its code, and one of the API's own sentinels too.
	for err, want := range map[error]api.Code{
		fmt.Errorf("x: %w", bank.ErrTooEarly): api.CodeBankFundingSigned, wallet.ErrOut: api.CodeAlreadySent, wallet.ErrAddress: api.CodeBitcoinAddress,
		ErrTakesNone: api.CodeRefused, ErrEnded: api.CodeFailed, errors.New("x"): api.CodeFailed,
	} {
		if got := CodeOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

// TestDifficulty: regtest's, of its tip.
func TestDifficulty(t *testing.T) {
	w := ask(serving(t), "GET", "/v1/chain/difficulty", "", nil)
	var d api.Difficulty
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 {
		t.Fatal(w.Code, w.Body, err)
	}
	if d.Bits != "207fffff" || d.Subsidy != 50*100_000_000 || d.Difficulty < 4.6e-10 || d.Difficulty > 4.7e-10 {
		t.Errorf("%+v", d)
	}
}

// TestMalformed: whatever comes, the answer is JSON with a message, or the
// mux's refusal, and never a panic.
func TestMalformed(t *testing.T) {
	s := serving(t)
	random := rand.New(rand.NewPCG(1, 2))
	junk := func() string {
		b := make([]byte, random.IntN(60))
		for i := range b {
			b[i] = byte(33 + random.IntN(94))
		}
		return strings.NewReplacer("#", "", "%", "%25", "?", "", " ", "").Replace(string(b))
	}
	paths := []string{"/v1/messages", "/v1/messages/abcd", "/v1/messages/abcd/cancel", "/v1/inbox", "/v1/estimate", "/v1/wallet/send", "/v1/wallet/bump", "/v1/agents/x"}
	keys := []string{"to", "days", "agents", "max_sat", "bytes", "limit", "offset", "amount_sat", "txid", "attach", "nonsense"}
	answered := 0
	for range 3000 {
		path := paths[random.IntN(len(paths))]
		var q []string
		for range random.IntN(5) {
			q = append(q, keys[random.IntN(len(keys))]+"="+junk())
		}
		if random.IntN(4) == 0 {
			path += "/" + junk()
		}
		method := []string{"GET", "POST", "DELETE", "PUT", "HEAD"}[random.IntN(5)]
		w := ask(s, method, path+"?"+strings.Join(q, "&"), junk(), func(r *http.Request) {
			r.Header.Set("Content-Type", junk())
			briefly(r)
		})
		var e api.Error
		if w.Code == 404 || w.Code == 405 || w.Code == 307 || w.Code == 301 || method == "HEAD" {
			continue // the mux itself
		}
		if method == "GET" && w.Code == 200 && json.Valid(w.Body.Bytes()) {
			answered++
			continue
		}
		if w.Code < 400 || json.Unmarshal(w.Body.Bytes(), &e) != nil || e.Message == "" {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	if answered == 0 {
		t.Error("nothing was right by chance")
	}
}

// TestParts: the parts of a request come one behind another, whole, and one that
// is missing is an error.
func TestParts(t *testing.T) {
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	want := []string{"first", "", strings.Repeat("x", 100_000)}
	for _, text := range want {
		part, err := form.CreateFormField("x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, text); err != nil {
			t.Fatal(err)
		}
	}
	form.Close()
	p := &parts{r: multipart.NewReader(&b, form.Boundary())}
	var readers []io.Reader
	for range len(want) + 1 {
		readers = append(readers, p.next())
	}
	for i, text := range want {
		if got, err := io.ReadAll(readers[i]); err != nil || string(got) != text {
			t.Errorf("part %d: %d bytes, %v", i, len(got), err)
		}
	}
	if _, err := io.ReadAll(readers[len(want)]); !errors.Is(err, ErrRequest) {
		t.Errorf("a part that is not there: %v", err)
	}
}

// TestHub: a listener that does not listen keeps nobody waiting; one that leaves
// is forgotten; all end with the server.
func TestHub(t *testing.T) {
	var h hub
	slow, leave := h.join()
	fast, leaveFast := h.join()
	for i := range 3 * backlog {
		h.send(i)
		<-fast
	}
	if len(slow) != backlog {
		t.Errorf("%d wait for the slow one", len(slow))
	}
	leave()
	h.send(1)
	<-fast
	h.close()
	h.send(2) // to nobody
	if _, ok := <-fast; ok {
		t.Error("told after the end")
	}
	leaveFast()
	late, _ := h.join()
	if _, ok := <-late; ok {
		t.Error("joined after the end")
	}
}

// TestServe: it stops within a moment although somebody listens to events and
// somebody else says nothing.
func TestServe(t *testing.T) {
	s := server(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	url := "http://" + l.Addr().String()
	req, err := http.NewRequest("GET", url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 64)
	if n, err := resp.Body.Read(buf); err != nil || !strings.Contains(string(buf[:n]), "ready") {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	mute, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	fmt.Fprintf(mute, "GET /v1/id HTTP/1.1\r\n")
	cancel()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	case <-time.After(2 * stopTime):
		t.Error("it does not stop")
	}
}

// TestAdvice: what is wrong with the Bitcoin node's settings is in status, with the
// reason, and in /health, where only callers with the token would get a reason; the
// node is not asked in every request.
func TestAdvice(t *testing.T) {
	s := serving(t)
	asked := 0
	s.cfg.Advise = func(context.Context) []error {
		asked++
		return []error{fmt.Errorf("%w: scriptpubkey", chain.ErrNoData), fmt.Errorf("%w: refused", chain.ErrZMQ)}
	}
	var st api.Status
	if err := json.Unmarshal(ask(s, "GET", "/v1/status", "", nil).Body.Bytes(), &st); err != nil {
		t.Fatal(err)
	}
	if len(st.Warnings) != 2 || st.Warnings[0].Code != api.CodeNoData || !strings.Contains(st.Warnings[0].Message, "scriptpubkey") || st.Warnings[1].Code != api.CodeZMQ {
		t.Errorf("status warns of %v", st.Warnings)
	}
	for _, known := range []bool{true, false} {
		w := ask(s, "GET", "/health", "", func(r *http.Request) {
			if !known {
				r.Header.Del("Authorization")
			}
		})
		if body := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(body, `"warnings":["no_data","zmq"]`) || strings.Contains(body, "scriptpubkey") {
			t.Errorf("health, token %v: %d %s", known, w.Code, body)
		}
	}
	if asked != 1 {
		t.Errorf("the node is asked %d times", asked)
	}
}
