package corerpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

type served struct {
	*Server
	chain  *devchain.Chain
	cookie string
}

func start(tb testing.TB) *served {
	tb.Helper()
	dir := tb.TempDir()
	c, err := devchain.Open(filepath.Join(dir, "chain"))
	conform.Must(tb, err)
	tb.Cleanup(func() { c.Close() })
	s := &served{chain: c, cookie: filepath.Join(dir, ".cookie")}
	s.Server, err = Listen(Config{Node: c, Listen: "127.0.0.1:0", CookieFile: s.cookie})
	conform.Must(tb, err)
	tb.Cleanup(func() { s.Close() })
	return s
}

// post sends body with the cookie's credentials.
func (s *served) post(tb testing.TB, body string) (status int, answer string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, s.URL(), strings.NewReader(body))
	conform.Must(tb, err)
	raw, err := os.ReadFile(s.cookie)
	conform.Must(tb, err)
	name, password, _ := strings.Cut(string(raw), ":")
	req.SetBasicAuth(name, password)
	resp, err := http.DefaultClient.Do(req)
	conform.Must(tb, err)
	defer resp.Body.Close()
	raw, err = io.ReadAll(resp.Body)
	conform.Must(tb, err)
	return resp.StatusCode, string(raw)
}

// try calls a method with params, a list in JSON.
func (s *served) try(tb testing.TB, method, params string) (result json.RawMessage, code int, message string) {
	tb.Helper()
	status, raw := s.post(tb, fmt.Sprintf(`{"jsonrpc":"1.0","id":7,"method":%q,"params":%s}`, method, params))
	var a struct {
		Result json.RawMessage
		Error  *failure
		ID     int
	}
	if err := json.Unmarshal([]byte(raw), &a); err != nil || a.ID != 7 {
		tb.Fatalf("%s %s: answer %q", method, params, raw)
	}
	if (a.Error == nil) != (status == http.StatusOK) {
		tb.Errorf("%s %s: status %d for %s", method, params, status, raw)
	}
	if a.Error != nil {
		return nil, a.Error.Code, a.Error.Message
	}
	return a.Result, 0, ""
}

// get calls a method that must do it, and reads its result.
func get[T any](tb testing.TB, s *served, method, params string) (v T) {
	tb.Helper()
	raw, code, message := s.try(tb, method, params)
	if code != 0 {
		tb.Fatalf("%s %s: %d %s", method, params, code, message)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		tb.Fatalf("%s %s: %v in %s", method, params, err, raw)
	}
	return v
}

// own is the address of conform's key.
func own(tb testing.TB) string {
	key := schnorr.SerializePubKey(txscript.ComputeTaprootKeyNoScript(conform.Key.PubKey()))
	a, err := address.NewAddressTaproot(key, &chaincfg.RegressionNetParams)
	conform.Must(tb, err)
	return a.EncodeAddress()
}

func txHex(tb testing.TB, tx *btcwire.MsgTx) string {
	var b bytes.Buffer
	conform.Must(tb, tx.Serialize(&b))
	return hex.EncodeToString(b.Bytes())
}

// TestCurl: what everybody's first steps with a node are.
func TestCurl(t *testing.T) {
	tier.NotShort(t)
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl")
	}
	s := start(t)
	cookie, err := os.ReadFile(s.cookie)
	conform.Must(t, err)
	out, err := exec.Command(curl, "-q", "--noproxy", "*", "-s", "--user", string(cookie), "-H", "content-type: text/plain;", "--data-binary",
		`{"jsonrpc":"1.0","id":"curltest","method":"getblockcount","params":[]}`, s.URL()).Output()
	conform.Must(t, err)
	if got := string(out); got != `{"result":0,"error":null,"id":"curltest"}`+"\n" {
		t.Errorf("curl got %q", got)
	}
}

func TestChain(t *testing.T) {
	s := start(t)
	hashes := get[[]string](t, s, "generatetoaddress", fmt.Sprintf(`[12, %q]`, own(t)))
	if len(hashes) != 12 {
		t.Fatalf("%d blocks", len(hashes))
	}
	if n := get[int](t, s, "getblockcount", "[]"); n != 12 {
		t.Errorf("height %d", n)
	}
	tip := get[string](t, s, "getbestblockhash", "[]")
	if tip != hashes[11] || get[string](t, s, "getblockhash", "[12]") != tip {
		t.Errorf("tip %s of %v", tip, hashes)
	}
	info := get[map[string]any](t, s, "getblockchaininfo", "[]")
	if info["chain"] != "regtest" || info["blocks"] != 12.0 || info["bestblockhash"] != tip || info["initialblockdownload"] != false ||
		info["chainwork"] != fmt.Sprintf("%064x", 26) { // two for each block
		t.Errorf("getblockchaininfo: %v", info)
	}
	h := get[header](t, s, "getblockheader", fmt.Sprintf(`[%q]`, hashes[3]))
	if h.Hash != hashes[3] || h.Height != 4 || h.Confirmations != 9 || h.Previous != hashes[2] || h.Next != hashes[4] || h.NTx != 1 ||
		h.MedianTime > h.Time || h.Bits != "207fffff" || h.Difficulty > 4.7e-10 || h.Difficulty < 4.6e-10 {
		t.Errorf("getblockheader: %+v", h)
	}
	raw := get[string](t, s, "getblock", fmt.Sprintf(`[%q, 0]`, hashes[3]))
	if head := get[string](t, s, "getblockheader", fmt.Sprintf(`[%q, false]`, hashes[3])); head != raw[:160] {
		t.Errorf("header %s of block %s", head, raw)
	}
	if get[string](t, s, "getblock", fmt.Sprintf(`[%q, false]`, hashes[3])) != raw {
		t.Error("verbosity false is not 0")
	}
	b := get[struct {
		Height, Size int
		Tx           []string
	}](t, s, "getblock", fmt.Sprintf(`{"blockhash": %q}`, hashes[3]))
	if b.Height != 4 || 2*b.Size != len(raw) || len(b.Tx) != 1 {
		t.Errorf("getblock: %+v", b)
	}
	full := get[struct{ Tx []transaction }](t, s, "getblock", fmt.Sprintf(`[%q, 2]`, hashes[3]))
	if len(full.Tx) != 1 || full.Tx[0].Txid != b.Tx[0] || full.Tx[0].Vin[0].Coinbase == "" {
		t.Fatalf("getblock 2: %+v", full)
	}
	if out := full.Tx[0].Vout[0].ScriptPubKey; out.Address != own(t) || out.Type != "witness_v1_taproot" {
		t.Errorf("output %+v", out)
	}
	stale := tip
	conform.Must(t, s.chain.Reorg(t.Context(), 2, []byte{0x51}))
	if h := get[header](t, s, "getblockheader", fmt.Sprintf(`[%q]`, stale)); h.Confirmations != -1 || h.Height != 12 || h.Next != "" {
		t.Errorf("stale block: %+v", h)
	}
	if first := get[header](t, s, "getblockheader", fmt.Sprintf(`[%q]`, get[string](t, s, "getblockhash", "[0]"))); first.Height != 0 || first.Previous != "" {
		t.Errorf("genesis block: %+v", first)
	}
}

func (b *btc) UnmarshalJSON(raw []byte) error {
	whole, digits, _ := strings.Cut(string(raw), ".")
	if len(digits) != 8 {
		return fmt.Errorf("%s has not 8 digits", raw)
	}
	n, err := strconv.ParseInt(whole+digits, 10, 64)
	*b = btc(n)
	return err
}

func TestTransactions(t *testing.T) {
	s := start(t)
	const value = 100_000
	coin, err := s.chain.Faucet(t.Context(), conform.KeyScript(t), value)
	conform.Must(t, err)
	get[[]string](t, s, "generatetoaddress", fmt.Sprintf(`[1, %q]`, own(t)))
	good := conform.Spend(t, coin, value, 1000)
	refused := func(tx *btcwire.MsgTx, want int, reason string) {
		t.Helper()
		_, code, message := s.try(t, "sendrawtransaction", fmt.Sprintf(`[%q]`, txHex(t, tx)))
		if code != want || !strings.Contains(message, reason) {
			t.Errorf("got %d %q, want %d %q", code, message, want, reason)
		}
		verdict := get[[]struct {
			Allowed bool
			Reason  string `json:"reject-reason"`
		}](t, s, "testmempoolaccept", fmt.Sprintf(`[[%q]]`, txHex(t, tx)))
		if verdict[0].Allowed {
			t.Errorf("%s: allowed", reason)
		}
	}
	refused(conform.Spend(t, coin, value, 0), codeRejected, "min relay fee not met")
	refused(conform.Spend(t, wire.Outpoint{Txid: wire.Hash{1}}, value, 1000), codeTransaction, "missingorspent")
	refused(conform.Spend(t, coin, value, value-200), codeRejected, "dust")
	burn := btcwire.NewMsgTx(2)
	burn.AddTxIn(&btcwire.TxIn{PreviousOutPoint: good.TxIn[0].PreviousOutPoint, Sequence: 0xffffffff})
	burn.AddTxOut(btcwire.NewTxOut(value-3000, conform.KeyScript(t)))
	burn.AddTxOut(btcwire.NewTxOut(2000, []byte{txscript.OP_RETURN, 1, 'b'}))
	conform.SignInput(t, burn, value)
	for _, limit := range []string{"", ", 0", ", 0, 0.00001999"} {
		if _, code, message := s.try(t, "sendrawtransaction", fmt.Sprintf(`[%q%s]`, txHex(t, burn), limit)); code != codeTransaction || !strings.Contains(message, "maxburnamount") {
			t.Errorf("a burn of 2,000 sat with %q: %d %q", limit, code, message)
		}
	}
	if v := get[[]map[string]any](t, s, "testmempoolaccept", fmt.Sprintf(`[[%q]]`, txHex(t, good))); v[0]["allowed"] != true || v[0]["txid"] != good.TxHash().String() {
		t.Errorf("testmempoolaccept: %v", v)
	}
	if list := get[[]string](t, s, "getrawmempool", "[]"); len(list) != 0 {
		t.Errorf("mempool of %v", list)
	}
	for range 2 { // the second time it is known
		if id := get[string](t, s, "sendrawtransaction", fmt.Sprintf(`[%q, 0]`, txHex(t, good))); id != good.TxHash().String() {
			t.Errorf("txid %s", id)
		}
	}
	if list := get[[]string](t, s, "getrawmempool", "[false]"); len(list) != 1 || list[0] != good.TxHash().String() {
		t.Errorf("mempool of %v", list)
	}
	refused(conform.Spend(t, coin, value, 1050), codeRejected, "insufficient fee, rejecting replacement")
	hashes := get[[]string](t, s, "generatetoaddress", fmt.Sprintf(`[1, %q]`, own(t)))
	refused(good, codeKnown, "already in utxo set")
	full := get[struct{ Tx []transaction }](t, s, "getblock", fmt.Sprintf(`[%q, 2]`, hashes[0]))
	if tx := full.Tx[1]; tx.Txid != good.TxHash().String() || tx.Hex != txHex(t, good) || tx.Vout[0].Value != value-1000 ||
		*tx.Vin[0].Vout != coin.Vout || len(tx.Vin[0].Witness) != 1 {
		t.Errorf("transaction %+v", tx)
	}

	pool := get[struct{ MempoolMinFee btc }](t, s, "getmempoolinfo", "[]")
	network := get[struct{ RelayFee btc }](t, s, "getnetworkinfo", "[]")
	smart := get[struct {
		FeeRate btc
		Blocks  int
	}](t, s, "estimatesmartfee", "[6]")
	if pool.MempoolMinFee != 1000 || network.RelayFee != 1000 || smart.FeeRate < 1000 || smart.Blocks != 6 {
		t.Errorf("fees: %v %v %v", pool, network, smart)
	}
}

func TestErrors(t *testing.T) {
	s := start(t)
	nowhere := strings.Repeat("ab", 32)
	for _, c := range []struct {
		method, params string
		want           int
	}{
		{"getbalance", "[]", codeNoMethod},
		{"getblockcount", "[1]", codeMisc},
		{"getblockhash", "[]", codeMisc},
		{"getblockhash", "[null]", codeMisc},
		{"getblockhash", `["1"]`, codeType},
		{"getblockhash", "[1]", codeParameter},
		{"getblockhash", "[-1]", codeParameter},
		{"getblockhash", "[4294967296]", codeParameter},
		{"getblockhash", `{"hash": 1}`, codeParameter},
		{"getblockhash", "7", codeInvalidRequest},
		{"getblock", fmt.Sprintf(`[%q]`, nowhere), codeAddressOrKey},
		{"getblock", `["ab"]`, codeParameter},
		{"getblock", fmt.Sprintf(`[%q]`, strings.Repeat("xy", 32)), codeParameter},
		{"getblockheader", fmt.Sprintf(`[%q]`, nowhere), codeAddressOrKey},
		{"getrawmempool", "[true]", codeParameter},
		{"sendrawtransaction", `["00"]`, codeDecode},
		{"sendrawtransaction", `["not hex"]`, codeDecode},
		{"testmempoolaccept", "[[]]", codeParameter},
		{"estimatesmartfee", "[0]", codeParameter},
		{"estimatesmartfee", "[1009]", codeParameter},
		{"generatetoaddress", `[1, "nowhere"]`, codeAddressOrKey},
		{"generatetoaddress", `[1, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"]`, codeAddressOrKey}, // mainnet's
		{"generatetoaddress", fmt.Sprintf(`[1001, %q]`, own(t)), codeParameter},
		{"waitfornewblock", "[-1]", codeMisc},
	} {
		if _, code, message := s.try(t, c.method, c.params); code != c.want {
			t.Errorf("%s %s: %d %q, want %d", c.method, c.params, code, message, c.want)
		}
	}
	for body, want := range map[string]struct {
		status int
		answer string
	}{
		"{":                          {500, `{"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null}` + "\n"},
		"":                           {500, `{"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null}` + "\n"},
		"7":                          {400, `{"result":null,"error":{"code":-32600,"message":"Invalid Request object"},"id":null}` + "\n"},
		`{"method":7}`:               {400, `{"result":null,"error":{"code":-32600,"message":"Invalid Request object"},"id":null}` + "\n"},
		`{"method":"getblockcount"}`: {200, `{"result":0,"error":null,"id":null}` + "\n"},
		"[]":                         {200, "[]\n"},
		`[{"id":1,"method":"getblockcount"},7,{"id":[2],"method":"nothing"}]`: {200, `[{"result":0,"error":null,"id":1}
,{"result":null,"error":{"code":-32600,"message":"Invalid Request object"},"id":null}
,{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":[2]}
]
`},
		`{"jsonrpc":"2.0","id":1,"method":"getblockcount"}`: {200, `{"id":1,"jsonrpc":"2.0","result":0}` + "\n"},
		`{"jsonrpc":"2.0","id":1,"method":"nothing"}`:       {200, `{"error":{"code":-32601,"message":"Method not found"},"id":1,"jsonrpc":"2.0"}` + "\n"},
	} {
		if status, answer := s.post(t, body); status != want.status || answer != want.answer {
			t.Errorf("%s: %d %q, want %d %q", body, status, answer, want.status, want.answer)
		}
	}
	large := "[" + strings.Repeat(`{"method":"uptime"},`, maxBatch) + `{"method":"uptime"}]`
	if _, answer := s.post(t, large); !strings.Contains(answer, "batch of 101") || strings.Count(answer, "{") > 2 {
		t.Errorf("large batch: %.200s", answer)
	}
	if status, _ := s.post(t, `{"method":"`+strings.Repeat("x", maxBody)+`"}`); status != http.StatusRequestEntityTooLarge {
		t.Errorf("large body: status %d", status)
	}
}

// syncing is a node that has not caught up.
type syncing struct{ Node }

func (syncing) Tip(context.Context) (ref chain.BlockRef, err error) { return ref, chain.ErrSyncing }

func TestWarmup(t *testing.T) {
	s := start(t)
	s.node = syncing{s.chain}
	if _, code, _ := s.try(t, "getblockcount", "[]"); code != codeWarmup {
		t.Errorf("code %d", code)
	}
}

func TestAccess(t *testing.T) {
	s := start(t)
	do := func(edit func(*http.Request)) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL(), strings.NewReader(`{"method":"uptime"}`))
		conform.Must(t, err)
		edit(req)
		resp, err := http.DefaultClient.Do(req)
		conform.Must(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	cookie, err := os.ReadFile(s.cookie)
	conform.Must(t, err)
	name, password, _ := strings.Cut(string(cookie), ":")
	if name != "__cookie__" || len(password) != 64 {
		t.Errorf("cookie %q", cookie)
	}
	if st, err := os.Stat(s.cookie); err != nil || st.Mode() != 0o600 {
		t.Errorf("cookie file: %v, %v", st.Mode(), err)
	}
	right := func(r *http.Request) { r.SetBasicAuth(name, password) }
	for want, edits := range map[int][]func(*http.Request){
		http.StatusOK: {right},
		http.StatusUnauthorized: {
			func(*http.Request) {},
			func(r *http.Request) { r.SetBasicAuth(name, password[1:]) },
			func(r *http.Request) { r.SetBasicAuth("", password) },
			func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+password) },
		},
		http.StatusMethodNotAllowed:            {func(r *http.Request) { right(r); r.Method = http.MethodGet }},
		http.StatusRequestHeaderFieldsTooLarge: {func(r *http.Request) { right(r); r.Header.Set("X", strings.Repeat("x", 2*maxHeaders)) }},
	} {
		for i, edit := range edits {
			if got := do(edit); got != want {
				t.Errorf("%d: status %d, want %d", i, got, want)
			}
		}
	}
	for _, at := range []string{"0.0.0.0:0", ":0", "localhost:0", "192.0.2.1:0", "[::]:0", "127.0.0.1", ""} {
		if other, err := Listen(Config{Node: s.chain, Listen: at, CookieFile: s.cookie}); err == nil {
			other.Close()
			t.Errorf("listens on %q", at)
		}
	}
	if now, err := os.ReadFile(s.cookie); err != nil || !bytes.Equal(now, cookie) {
		t.Errorf("a server that did not start wrote the cookie (%v)", err)
	}
	// A second server has the file now: the first one's end leaves it alone.
	next, err := Listen(Config{Node: s.chain, Listen: "127.0.0.1:0", CookieFile: s.cookie})
	conform.Must(t, err)
	conform.Must(t, s.Close())
	if now, err := os.ReadFile(s.cookie); err != nil || bytes.Equal(now, cookie) {
		t.Errorf("the second server's cookie: %v", err)
	}
	conform.Must(t, next.Close())
	conform.Must(t, next.Close())
	left, err := filepath.Glob(filepath.Join(filepath.Dir(s.cookie), ".cookie*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestWaitForNewBlock(t *testing.T) {
	s := start(t)
	if got := get[struct{ Height int }](t, s, "waitfornewblock", "[1]"); got.Height != 0 {
		t.Errorf("height %d", got.Height)
	}
	done := make(chan int)
	go func() { done <- get[struct{ Height int }](t, s, "waitfornewblock", "[]").Height }()
	time.Sleep(50 * time.Millisecond)
	conform.Must(t, func() error { _, err := s.chain.Mine(t.Context(), 1, []byte{0x51}); return err }())
	if h := <-done; h != 1 {
		t.Errorf("height %d", h)
	}
	// Close does not wait for those who wait.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, code, _ := s.try(t, "waitfornewblock", "[]")
		if code == 0 {
			t.Error("waited to the end")
		}
	}()
	time.Sleep(50 * time.Millisecond)
	conform.Must(t, s.Close())
	<-ended
}

// TestSilentClients: connections that say nothing keep nobody else out, and do
// not hold up Close.
func TestSilentClients(t *testing.T) {
	s := start(t)
	for range maxConns / 2 {
		c, err := net.Dial("tcp", s.at.String())
		conform.Must(t, err)
		defer c.Close()
		_, err = c.Write([]byte("POST / HTTP/1.1\r\n"))
		conform.Must(t, err)
	}
	get[int](t, s, "uptime", "[]")
	begin := time.Now()
	conform.Must(t, s.Close())
	if took := time.Since(begin); took > 3*closeTimeout {
		t.Errorf("Close took %v", took)
	}
}

func TestHelp(t *testing.T) {
	s := start(t)
	text := get[string](t, s, "help", "[]")
	for name := range methods {
		if !strings.Contains(text, name) || !strings.HasPrefix(get[string](t, s, "help", fmt.Sprintf(`[%q]`, name)), name) {
			t.Errorf("no help on %s", name)
		}
	}
	if zmq := get[[]string](t, s, "getzmqnotifications", "[]"); len(zmq) != 0 {
		t.Errorf("publishers: %v", zmq)
	}
}

// FuzzRequest: whatever is posted gets an answer in JSON.
func FuzzRequest(f *testing.F) {
	s := start(f)
	for name := range methods {
		if name != "waitfornewblock" {
			f.Add(fmt.Sprintf(`{"method":%q,"params":["%064x",1]}`, name, 1))
		}
	}
	for _, seed := range []string{"", "{", "[]", "[[]]", "null", `[null]`, `{"method":"getblockhash","params":{"height":0},"id":{"a":[]}}`,
		`{"method":"getblock","params":[null]}`, `{"jsonrpc":"2.0","method":"help","params":["help"]}`, `{"method":"testmempoolaccept","params":[["00"]]}`} {
		f.Add(seed)
	}
	name, password, _ := strings.Cut(s.Server.cookie, ":")
	f.Fuzz(func(t *testing.T, body string) {
		if strings.Contains(strings.ToLower(body), "wait") || strings.Contains(body, `\u`) {
			return // it does wait
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.SetBasicAuth(name, password)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%q: %q", body, w.Body)
		}
	})
}
