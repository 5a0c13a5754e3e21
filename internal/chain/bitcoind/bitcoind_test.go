package bitcoind

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

// says makes another answer of a real one (nil: the node refused).
type says func(params []json.RawMessage, real json.RawMessage) (result any, err *Error)

// proxy stands before a devnode and can bend its answers.
type proxy struct {
	*httptest.Server
	node *devnode

	mu   sync.Mutex
	bend map[string]says
}

func startProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{node: startDevnode(t), bend: map[string]says{}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Server.Close)
	return p
}

func (p *proxy) set(method string, f says) {
	p.mu.Lock()
	p.bend[method] = f
	p.mu.Unlock()
}

// fields replaces fields of method's result; nil takes one out.
func (p *proxy) fields(method string, list map[string]any) {
	p.set(method, func(_ []json.RawMessage, real json.RawMessage) (any, *Error) {
		all := map[string]any{}
		if err := json.Unmarshal(real, &all); err != nil {
			return nil, &Error{Code: codeMisc, Message: err.Error()}
		}
		for k, v := range list {
			if all[k] = v; v == nil {
				delete(all, k)
			}
		}
		return all, nil
	})
}

// refuse makes the node refuse method.
func (p *proxy) refuse(method string, code int, message string) {
	p.set(method, func([]json.RawMessage, json.RawMessage) (any, *Error) {
		return nil, &Error{Code: code, Message: message}
	})
}

// pretend makes the node one of another network, as far as its genesis block.
func (p *proxy) pretend(n *chaincfg.Params) {
	p.set("getblockhash", func(params []json.RawMessage, real json.RawMessage) (any, *Error) {
		if string(params[0]) == "0" {
			return n.GenesisHash.String(), nil
		}
		return real, nil
	})
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var req struct {
		Method string
		Params []json.RawMessage
	}
	if err := json.Unmarshal(body, &req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	cookie, _ := os.ReadFile(p.node.cookie)
	user, password, _ := strings.Cut(string(cookie), ":")
	_, raw, err := p.node.client.rpc.post(r.Context(), body, user, password)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	p.mu.Lock()
	bend := p.bend[req.Method]
	p.mu.Unlock()
	if bend == nil {
		w.Write(raw)
		return
	}
	var real struct{ Result json.RawMessage }
	if err := json.Unmarshal(raw, &real); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	result, refusal := bend(req.Params, real.Result)
	answer := map[string]any{"result": result, "error": nil, "id": "bitgram"}
	if refusal != nil {
		answer["error"] = map[string]any{"code": refusal.Code, "message": refusal.Message}
		w.WriteHeader(http.StatusInternalServerError)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// each calls all methods that ask the node.
func each(ctx context.Context, c *Client) map[string]error {
	errs := map[string]error{}
	_, errs["Tip"] = c.Tip(ctx)
	_, errs["HashAt"] = c.HashAt(ctx, 1)
	_, _, errs["Block"] = c.Block(ctx, *c.params.GenesisHash)
	_, errs["FeeRate"] = c.FeeRate(ctx, 6)
	_, errs["Fees"] = c.Fees(ctx)
	errs["Broadcast"] = c.Broadcast(ctx, btcwire.NewMsgTx(2))
	errs["Health"] = c.Health(ctx)
	return errs
}

func wantEach(t *testing.T, c *Client, want error) {
	t.Helper()
	for name, err := range each(t.Context(), c) {
		if !errors.Is(err, want) {
			t.Errorf("%s: got error %v, want %v", name, err, want)
		}
	}
}

func mine(t *testing.T, n *devnode, blocks int) chain.BlockRef {
	t.Helper()
	refs, err := n.chain.Mine(t.Context(), blocks, miner)
	conform.Must(t, err)
	return refs[len(refs)-1]
}

// signal waits for news.
func signal(t *testing.T, news <-chan struct{}) {
	t.Helper()
	select {
	case <-news:
	case <-time.After(2 * time.Minute):
		t.Fatal("no signal")
	}
}

func TestConfig(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	conform.Must(t, os.WriteFile(empty, nil, 0o600))
	for name, cfg := range map[string]Config{
		"no URL":          {Network: wire.Regtest},
		"no scheme":       {Network: wire.Regtest, URL: "127.0.0.1:8332"},
		"another scheme":  {Network: wire.Regtest, URL: "ftp://127.0.0.1"},
		"password in URL": {Network: wire.Regtest, URL: "http://me:hunter2@127.0.0.1"},
		"unreadable URL":  {Network: wire.Regtest, URL: "http://me:hunter2@127.0.0.1:x"},
		"no network":      {URL: "http://127.0.0.1"},
		"two credentials": {Network: wire.Regtest, URL: "http://127.0.0.1", User: "me", CookieFile: "x"},
		"no certificate":  {Network: wire.Regtest, URL: "https://127.0.0.1", CACert: filepath.Join(t.TempDir(), "none")},
		"empty pool":      {Network: wire.Regtest, URL: "https://127.0.0.1", CACert: empty},
		"ZMQ":             {Network: wire.Regtest, URL: "http://127.0.0.1", ZMQ: "127.0.0.1:28332"},
	} {
		c, err := New(cfg)
		if err == nil {
			c.Close()
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

func TestUnavailable(t *testing.T) {
	n := startDevnode(t)
	conform.Must(t, n.server.Close())
	wantEach(t, n.client, chain.ErrUnavailable) // and no cookie
	conform.Must(t, n.client.Close())
	wantEach(t, n.client, ErrClosed)
}

func TestCredentials(t *testing.T) {
	n := startDevnode(t)
	for name, cfg := range map[string]Config{
		"none":         {},
		"wrong":        {User: "me", Password: "hunter2"},
		"wrong cookie": {CookieFile: filepath.Join(t.TempDir(), "cookie")},
	} {
		if cfg.CookieFile != "" {
			conform.Must(t, os.WriteFile(cfg.CookieFile, []byte("__cookie__:00"), 0o600))
		}
		cfg.URL = n.server.URL()
		t.Run(name, func(t *testing.T) { wantEach(t, newClient(t, cfg), chain.ErrCredentials) })
	}
	cookie, err := os.ReadFile(n.cookie)
	conform.Must(t, err)
	user, password, _ := strings.Cut(string(cookie), ":")
	conform.Must(t, newClient(t, Config{URL: n.server.URL(), User: user, Password: password}).Health(t.Context()))
}

// restart makes the node's server anew on its port, with another cookie.
func (n *devnode) restart(t *testing.T) {
	t.Helper()
	at := strings.TrimPrefix(n.server.URL(), "http://")
	conform.Must(t, n.server.Close())
	n.serve(t, at)
}

func TestNewCookie(t *testing.T) {
	n := startDevnode(t)
	for range 3 {
		want := mine(t, n, 1)
		if got, err := n.client.Tip(t.Context()); err != nil || got != want {
			t.Errorf("tip %v, %v, want %v", got, err, want)
		}
		n.restart(t)
	}
	// A client that is there before the node finds the cookie later.
	late := filepath.Join(t.TempDir(), "cookie")
	c := newClient(t, Config{URL: n.server.URL(), CookieFile: late})
	conform.WantErr(t, c.Health(t.Context()), chain.ErrCredentials)
	conform.Must(t, os.Symlink(n.cookie, late))
	conform.Must(t, c.Health(t.Context()))
}

// TestGoneAndBack: a node that is away for a while costs errors, no watcher, and
// who watches is told.
func TestGoneAndBack(t *testing.T) {
	n := startDevnode(t)
	news := n.client.Watch(t.Context())
	signal(t, news) // the first look
	mine(t, n, 1)
	signal(t, news)
	at := strings.TrimPrefix(n.server.URL(), "http://")
	conform.Must(t, n.server.Close())
	signal(t, news) // that it is gone
	want := mine(t, n, 2)
	for range 3 {
		_, err := n.client.Tip(t.Context())
		conform.WantErr(t, err, chain.ErrUnavailable)
		time.Sleep(2 * testPoll)
	}
	n.serve(t, at)
	signal(t, news)
	if got, err := n.client.Tip(t.Context()); err != nil || got != want {
		t.Errorf("tip %v, %v, want %v", got, err, want)
	}
	mine(t, n, 1)
	signal(t, news)
}

// TestIdleConnection: a node hangs up connections that it has not heard on for
// long, maybe this moment. No call fails by that.
func TestIdleConnection(t *testing.T) {
	p := startProxy(t)
	c := newClient(t, Config{URL: p.URL})
	for i := range 100 {
		if _, err := c.Tip(t.Context()); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		p.CloseClientConnections()
	}
}

func TestWrongNetwork(t *testing.T) {
	n := startDevnode(t)
	for _, network := range []wire.Network{wire.Mainnet, wire.Testnet4, wire.Signet} {
		wantEach(t, newClient(t, Config{URL: n.server.URL(), CookieFile: n.cookie, Network: network}), chain.ErrWrongNetwork)
	}
	// Another node on the same port is noticed.
	p := startProxy(t)
	c := newClient(t, Config{URL: p.URL})
	conform.Must(t, c.Health(t.Context()))
	p.pretend(&chaincfg.SigNetParams)
	p.refuse("getblockheader", codeWarmup, "starts")
	conform.WantErr(t, c.Health(t.Context()), chain.ErrWrongNetwork)
	// So is one that came while nobody could be reached.
	p = startProxy(t)
	c = newClient(t, Config{URL: p.URL})
	conform.Must(t, c.Health(t.Context()))
	p.set("getblockchaininfo", func([]json.RawMessage, json.RawMessage) (any, *Error) { return "nothing", nil })
	_, err := c.Tip(t.Context())
	conform.WantErr(t, err, chain.ErrUnavailable)
	p.set("getblockchaininfo", nil)
	p.pretend(&chaincfg.SigNetParams)
	_, err = c.Tip(t.Context())
	conform.WantErr(t, err, chain.ErrWrongNetwork)
}

func TestSyncing(t *testing.T) {
	p := startProxy(t)
	mine(t, p.node, 1)
	p.set("getblockheader", func(_ []json.RawMessage, real json.RawMessage) (any, *Error) { return real, nil })
	const info = "getblockchaininfo"
	old := time.Now().Add(-2 * maxTipAge).Unix()
	for _, c := range []struct {
		name             string
		bent             map[string]any
		time             int64 // of the tip; 0: now
		regtest, signet  bool  // syncing
		stalled, refused bool
	}{
		{name: "well"},
		{name: "a block on its way", bent: map[string]any{"headers": 3}},
		{name: "behind", bent: map[string]any{"headers": 4}, regtest: true, signet: true},
		{name: "initial download", bent: map[string]any{"initialblockdownload": true}, signet: true},
		{name: "btcd", bent: map[string]any{"initialblockdownload": nil}},
		{name: "btcd with an old tip", bent: map[string]any{"initialblockdownload": nil}, time: old, signet: true},
		{name: "stalled", time: time.Now().Add(-stallAge - time.Hour).Unix(), stalled: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.fields(info, c.bent)
			if c.time == 0 {
				c.time = time.Now().Unix()
			}
			p.fields("getblockheader", map[string]any{"time": c.time})
			for network, syncing := range map[wire.Network]bool{wire.Regtest: c.regtest, wire.Signet: c.signet} {
				p.set("getblockhash", nil)
				if network == wire.Signet {
					p.pretend(&chaincfg.SigNetParams)
				}
				client := newClient(t, Config{URL: p.URL, Network: network})
				var want error
				if syncing {
					want = chain.ErrSyncing
				}
				_, err := client.Tip(t.Context())
				conform.WantErr(t, err, want)
				if c.stalled && network == wire.Signet {
					want = chain.ErrStalled
				}
				conform.WantErr(t, client.Health(t.Context()), want)
			}
		})
	}
	t.Run("warmup", func(t *testing.T) {
		for _, method := range []string{"getblockhash", info, "getmempoolinfo", "sendrawtransaction", "getblockheader"} {
			p.refuse(method, codeWarmup, "Loading block index…")
		}
		wantEach(t, newClient(t, Config{URL: p.URL}), chain.ErrSyncing)
	})
}

// TestHeadersAhead: a node that never gets the blocks of some headers counts as
// syncing for a while. Then its tip counts, with a warning, so that deadlines are
// met; a node that comes closer is waited for.
func TestHeadersAhead(t *testing.T) {
	p := startProxy(t)
	mine(t, p.node, 3)
	c := newClient(t, Config{URL: p.URL})
	const info = "getblockchaininfo"
	ahead := func(n int64) { p.fields(info, map[string]any{"headers": 3 + n}) }
	tip := func(want error) {
		t.Helper()
		_, err := c.Tip(t.Context())
		conform.WantErr(t, err, want)
	}
	c.patience = time.Hour
	ahead(100)
	tip(chain.ErrSyncing)
	// Waited for, in turn: since it last came closer, and in all.
	c.mu.Lock()
	c.lag.first = c.lag.first.Add(-2 * time.Hour)
	c.lag.since = c.lag.first
	c.mu.Unlock()
	ahead(99)
	tip(chain.ErrSyncing)
	conform.WantErr(t, c.Health(t.Context()), chain.ErrSyncing)
	c.mu.Lock()
	c.lag.since = c.lag.since.Add(-time.Hour)
	c.mu.Unlock()
	tip(nil)
	conform.WantErr(t, c.Health(t.Context()), chain.ErrBehind)
	ahead(98)
	tip(chain.ErrSyncing)
	c.mu.Lock()
	c.lag.first = c.lag.first.Add(-maxBehind * time.Hour)
	c.mu.Unlock()
	ahead(97)
	tip(nil) // it comes closer too slowly
	conform.WantErr(t, c.Health(t.Context()), chain.ErrBehind)
	ahead(0)
	tip(nil)
	conform.Must(t, c.Health(t.Context()))
	ahead(100)
	tip(chain.ErrSyncing)
}

// TestNoEstimate: a node that gives no fee rate any more does not stop the chain.
func TestNoEstimate(t *testing.T) {
	p := startProxy(t)
	p.pretend(&chaincfg.SigNetParams)
	c := newClient(t, Config{URL: p.URL, Network: wire.Signet})
	rate := func(want wire.SatPerKVB) {
		t.Helper()
		if got, err := c.FeeRate(t.Context(), 6); err != nil || got != want {
			t.Errorf("%d, %v, want %d", got, err, want)
		}
	}
	answer := func(v any) {
		p.set("estimatesmartfee", func([]json.RawMessage, json.RawMessage) (any, *Error) { return v, nil })
	}
	answer("nonsense")
	rate(1000)
	answer(map[string]any{"feerate": 0.0001})
	rate(10_000)
	answer("nonsense")
	rate(10_000)
	p.set("getmempoolinfo", func([]json.RawMessage, json.RawMessage) (any, *Error) { return "nonsense", nil })
	rate(10_000)
}

// TestPackage: a transaction goes out with its parent, is refused with the node's
// reason, and a node without packages is known as one.
func TestPackage(t *testing.T) {
	p := startProxy(t)
	ctx := t.Context()
	c := newClient(t, Config{URL: p.URL})
	coin, err := p.node.chain.Faucet(ctx, conform.KeyScript(t), 100_000)
	conform.Must(t, err)
	mine(t, p.node, 1)
	parent := conform.Spend(t, coin, 100_000, 1000)
	child := conform.Spend(t, wire.Outpoint{Txid: wire.Hash(parent.TxHash())}, 99_000, 1000)
	other := conform.Spend(t, coin, 100_000, 1500) // less than both pay
	conform.Must(t, c.BroadcastPackage(ctx, []*btcwire.MsgTx{parent, child}))
	conform.Must(t, c.BroadcastPackage(ctx, []*btcwire.MsgTx{parent, child})) // known
	if n := len(p.node.chain.Mempool()); n != 2 {
		t.Errorf("%d transactions in the mempool", n)
	}
	conform.WantErr(t, c.BroadcastPackage(ctx, []*btcwire.MsgTx{other}), chain.ErrReplacement)
	p.refuse("submitpackage", codeNoMethod, "Method not found")
	conform.WantErr(t, c.BroadcastPackage(ctx, []*btcwire.MsgTx{parent, child}), chain.ErrUnsupported)
	// As Bitcoin Core answers.
	p.set("submitpackage", func([]json.RawMessage, json.RawMessage) (any, *Error) {
		return map[string]any{"package_msg": "transaction failed", "tx-results": map[string]any{
			parent.WitnessHash().String(): map[string]any{"txid": parent.TxHash().String(), "error": "package-not-validated"},
			child.WitnessHash().String():  map[string]any{"txid": child.TxHash().String(), "error": "mempool min fee not met, 100 < 200"}}}, nil
	})
	conform.WantErr(t, c.BroadcastPackage(ctx, []*btcwire.MsgTx{parent, child}), chain.ErrFeeTooLow)
}

// TestBusy: a request that the node is too busy to take is made again.
func TestBusy(t *testing.T) {
	var busy atomic.Int64
	busy.Store(3)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if busy.Add(-1) >= 0 {
			http.Error(w, "Work queue depth exceeded", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"result": 1, "error": null}`))
	})
	var n int
	conform.Must(t, c.call(t.Context(), &n, "getblockcount"))
	if n != 1 || busy.Load() != -1 {
		t.Errorf("%d after %d requests", n, 3-busy.Load())
	}
}

func TestPruned(t *testing.T) {
	p := startProxy(t)
	at := mine(t, p.node, 3)
	c := newClient(t, Config{URL: p.URL})
	block := func() error {
		c.forget()
		_, _, err := c.Block(t.Context(), at.Hash)
		return err
	}
	const info = "getblockchaininfo"
	p.fields(info, map[string]any{"pruned": true, "pruneheight": 4})
	conform.Must(t, c.Health(t.Context())) // nobody asked for what is gone
	if first, err := c.First(t.Context()); err != nil || first != 4 {
		t.Errorf("the first block is %d, %v", first, err)
	}
	p.refuse("getblock", codeMisc, "Block not available (pruned data)")
	h, err := c.Header(t.Context(), at.Hash) // it has that still
	conform.Must(t, err)
	if h.BlockHash() != at.Hash {
		t.Errorf("header %v", h)
	}
	conform.Must(t, c.Health(t.Context()))
	conform.WantErr(t, block(), chain.ErrPruned)
	conform.WantErr(t, block(), chain.ErrNotFound)
	conform.WantErr(t, c.Health(t.Context()), chain.ErrPruned)
	p.fields(info, map[string]any{"pruned": true, "pruneheight": 3})
	conform.Must(t, c.Health(t.Context()))
	p.fields(info, map[string]any{"pruned": true, "pruneheight": 4})
	conform.WantErr(t, c.Health(t.Context()), chain.ErrPruned)
	p.set("getblock", nil) // it was read again
	conform.Must(t, block())
	conform.Must(t, c.Health(t.Context()))

	// btcd has the header, and no word for it.
	p.refuse("getblock", codeAddressOrKey, "Block not found")
	conform.WantErr(t, block(), chain.ErrPruned)
	p.fields(info, map[string]any{"pruned": true, "pruneheight": nil})
	conform.WantErr(t, c.Health(t.Context()), chain.ErrPruned)
	p.set(info, nil)
	if err := block(); !errors.Is(err, chain.ErrNotFound) || errors.Is(err, chain.ErrPruned) {
		t.Errorf("a header without its block: %v", err)
	}
	conform.Must(t, c.Health(t.Context()))
	p.refuse("getblock", codeMisc, "Block not available (not fully downloaded)")
	if err := block(); !errors.Is(err, chain.ErrNotFound) || errors.Is(err, chain.ErrPruned) {
		t.Errorf("a block not yet downloaded: %v", err)
	}
}

// TestBadBlock: what is not the block that was asked for, whole, is none.
func TestBadBlock(t *testing.T) {
	p := startProxy(t)
	ctx := t.Context()
	coin, err := p.node.chain.Faucet(ctx, conform.KeyScript(t), 100_000)
	conform.Must(t, err)
	before := mine(t, p.node, 1)
	tx := conform.Spend(t, coin, 100_000, 1000)
	conform.Must(t, p.node.chain.Broadcast(ctx, tx))
	conform.Must(t, p.node.chain.Broadcast(ctx, conform.Spend(t, wire.Outpoint{Txid: wire.Hash(tx.TxHash())}, 99_000, 1000)))
	at := mine(t, p.node, 1)
	c := newClient(t, Config{URL: p.URL})
	good, _, err := c.Block(ctx, at.Hash)
	conform.Must(t, err)
	other, _, err := c.Block(ctx, before.Hash)
	conform.Must(t, err)
	text := func(b *btcwire.MsgBlock) string {
		var raw bytes.Buffer
		conform.Must(t, b.Serialize(&raw))
		return hex.EncodeToString(raw.Bytes())
	}
	edit := func(f func(*btcwire.MsgBlock)) string {
		b := good.Copy()
		f(b)
		return text(b)
	}
	for name, answer := range map[string]any{
		"another":       text(other),
		"not hex":       "x" + text(good)[1:],
		"truncated":     text(good)[:len(text(good))-2],
		"longer":        text(good) + "00",
		"header":        text(good)[:160],
		"empty":         "",
		"a list":        []string{text(good)},
		"nothing":       nil,
		"no coinbase":   edit(func(b *btcwire.MsgBlock) { b.Transactions = b.Transactions[1:] }),
		"no txs":        edit(func(b *btcwire.MsgBlock) { b.Transactions = nil }),
		"a tx less":     edit(func(b *btcwire.MsgBlock) { b.Transactions = b.Transactions[:1] }),
		"a tx twice":    edit(func(b *btcwire.MsgBlock) { b.Transactions = append(b.Transactions, b.Transactions[2]) }), // with the same roots
		"more subsidy":  edit(func(b *btcwire.MsgBlock) { b.Transactions[0].TxOut[0].Value++ }),
		"another value": edit(func(b *btcwire.MsgBlock) { b.Transactions[1].TxOut[0].Value++ }),
		"another witness": edit(func(b *btcwire.MsgBlock) {
			b.Transactions[1].TxIn[0].Witness = btcwire.TxWitness{{1}}
		}),
		"no witness": edit(func(b *btcwire.MsgBlock) { b.Transactions[1].TxIn[0].Witness = nil }),
		"no nonce":   edit(func(b *btcwire.MsgBlock) { b.Transactions[0].TxIn[0].Witness = nil }),
	} {
		p.set("getblock", func([]json.RawMessage, json.RawMessage) (any, *Error) { return answer, nil })
		c.forget()
		if b, _, err := c.Block(ctx, at.Hash); b != nil || !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.set("getblock", nil)
	for name, height := range map[string]any{"none": nil, "negative": -1, "too high": 1 << 40, "text": "1"} {
		p.fields("getblockheader", map[string]any{"height": height})
		c.forget()
		if _, _, err := c.Block(ctx, at.Hash); !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("height %s: %v", name, err)
		}
	}
	// A node that leads back without end.
	c.forget()
	p.set("getblockheader", func(params []json.RawMessage, real json.RawMessage) (any, *Error) {
		if string(params[1]) == "true" {
			return nil, &Error{Code: codeInternal, Message: "not in the main chain"}
		}
		return real, nil
	})
	if _, _, err := c.Block(ctx, at.Hash); err == nil {
		t.Error("a block that leads nowhere has a height")
	}
}

func TestFeeRate(t *testing.T) {
	p := startProxy(t)
	p.pretend(&chaincfg.SigNetParams)
	c := newClient(t, Config{URL: p.URL, Network: wire.Signet})
	no := says(func([]json.RawMessage, json.RawMessage) (any, *Error) {
		return nil, &Error{Code: -32601, Message: "Method not found"}
	})
	is := func(v any) says {
		return func([]json.RawMessage, json.RawMessage) (any, *Error) { return v, nil }
	}
	estimate := func(v any) says { return is(map[string]any{"feerate": v, "blocks": 6}) }
	type m = map[string]any
	for name, x := range map[string]struct {
		smart, fee, pool, network, info says
		want                            wire.SatPerKVB
	}{
		"estimate":            {smart: estimate(0.00012345), want: 12345},
		"as Core writes it":   {smart: estimate(json.RawMessage("1.2345e-04")), want: 12345},
		"below the minimum":   {smart: estimate(0.00000500), want: 1000},
		"full mempool":        {smart: estimate(0.00012345), pool: is(m{"mempoolminfee": 0.0002, "minrelaytxfee": 0.00001}), want: 20_000},
		"cheap relay":         {smart: estimate(0.0000015), pool: is(m{"mempoolminfee": 0.000001, "minrelaytxfee": 0.000001}), want: 1000},
		"no estimate":         {smart: is(m{"errors": []string{"Insufficient data or no feerate found"}, "blocks": 0}), want: 1000},
		"negative":            {smart: estimate(-1), want: 1000},
		"absurd":              {smart: estimate(21e6), want: 1000},
		"btcd":                {smart: no, fee: is(0.0003), pool: is(m{"size": 1, "bytes": 100}), network: no, info: is(m{"relayfee": 0.00005}), want: 30_000},
		"btcd knows nothing":  {smart: no, fee: no, pool: is(m{"size": 1, "bytes": 100}), network: no, info: is(m{"relayfee": 0.00005}), want: 5000},
		"old Core":            {smart: estimate(0.00002), pool: is(m{"size": 1}), network: is(m{"relayfee": 0.00003}), want: 3000},
		"nobody knows a rate": {smart: no, fee: no, pool: no, network: no, info: no, want: 1000},
	} {
		for method, f := range map[string]says{"estimatesmartfee": x.smart, "estimatefee": x.fee, "getmempoolinfo": x.pool, "getnetworkinfo": x.network, "getinfo": x.info} {
			p.set(method, f)
		}
		if got, err := c.FeeRate(t.Context(), 6); err != nil || got != x.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, x.want)
		}
	}
	var asked []string
	p.set("estimatesmartfee", func(params []json.RawMessage, _ json.RawMessage) (any, *Error) {
		asked = append(asked, string(params[0]))
		return map[string]any{"feerate": 0.00002}, nil
	})
	for _, target := range []int{-5, 0, 1, 1008, 100_000} {
		_, err := c.FeeRate(t.Context(), target)
		conform.Must(t, err)
	}
	if got := strings.Join(asked, " "); got != "1 1 1 1008 1008" {
		t.Errorf("targets %s", got)
	}
}

// TestFees: each node states its fee policy in answers of its own.
func TestFees(t *testing.T) {
	p := startProxy(t)
	c := newClient(t, Config{URL: p.URL})
	type m = map[string]any
	for name, x := range map[string]struct {
		pool, network, info m
		want                chain.Fees
	}{
		"Bitcoin Core": {pool: m{"mempoolminfee": 0.000004, "minrelaytxfee": 0.000001, "incrementalrelayfee": 0.000002},
			network: m{"relayfee": 1, "incrementalfee": 1}, want: chain.Fees{Relay: 100, Mempool: 400, Increment: 200}},
		"before v24": {pool: m{"mempoolminfee": 0.00002, "minrelaytxfee": 0.00001}, network: m{"relayfee": 0.00001, "incrementalfee": 0.00003},
			want: chain.Fees{Relay: 1000, Mempool: 2000, Increment: 3000}},
		"before v0.19": {pool: m{"size": 1}, network: m{"relayfee": 0.00001, "incrementalfee": 0.00003}, want: chain.Fees{Relay: 1000, Increment: 3000}},
		"btcd":         {pool: m{"size": 1}, info: m{"relayfee": 0.00005}, want: chain.Fees{Relay: 5000}},
		"nonsense":     {pool: m{"mempoolminfee": -1, "minrelaytxfee": 22e6, "incrementalrelayfee": 0}},
	} {
		for method, answer := range map[string]m{"getmempoolinfo": x.pool, "getnetworkinfo": x.network, "getinfo": x.info} {
			p.set(method, func([]json.RawMessage, json.RawMessage) (any, *Error) {
				if answer == nil {
					return nil, &Error{Code: -32601, Message: "Method not found"}
				}
				return answer, nil
			})
		}
		if got, err := c.Fees(t.Context()); err != nil || got != x.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, x.want)
		}
	}
}

// TestRefusal: the words of Bitcoin Core 0.21 to 30 and of btcd 0.26.
func TestRefusal(t *testing.T) {
	const id = "d5e6722c3bcc1e4e08fd41302a0f0ca429fbe24e6836226382219e4a17477aaa"
	for _, c := range []struct {
		code int
		text string
		want error
	}{
		{-27, "Transaction already in block chain", nil},
		{-27, "Transaction outputs already in utxo set", nil},
		{-26, "txn-already-in-mempool", nil},
		{-26, "txn-already-known", nil},
		{-25, "bad-txns-inputs-missingorspent", chain.ErrConflict},
		{-25, "Missing inputs", chain.ErrConflict},
		{-26, "txn-mempool-conflict", chain.ErrConflict},
		{-26, "min relay fee not met, 0 < 111", chain.ErrFeeTooLow},
		{-26, "mempool min fee not met, 100 < 222", chain.ErrFeeTooLow},
		{-26, "mempool full", chain.ErrFeeTooLow},
		{-26, "insufficient fee, rejecting replacement " + id + ", less fees than conflicting txs; 0.00001 < 0.00002", chain.ErrFeeTooLow},
		{-26, "insufficient fee, rejecting replacement " + id + "; new feerate 0.00001 BTC/kvB <= old feerate 0.00002 BTC/kvB", chain.ErrFeeTooLow},
		{-26, "replacement-failed, insufficient feerate: does not improve feerate diagram", chain.ErrFeeTooLow},
		{-26, "mandatory-script-verify-flag-failed (Invalid Schnorr signature), input 0 of " + id, chain.ErrRejected},
		{-26, "bad-txns-in-belowout, value in (0.001) < value out (0.002)", chain.ErrRejected},
		{-26, "dust, tx with dust output must be 0-fee", chain.ErrRejected},
		{-26, "scriptpubkey", chain.ErrRejected},
		{-26, "version", chain.ErrRejected},
		{-26, "non-final", chain.ErrRejected},
		{-26, "non-BIP68-final", chain.ErrRejected},
		{-26, "bad-txns-spends-conflicting-tx, " + id + " spends conflicting transaction", chain.ErrRejected},
		{-26, "too-long-mempool-chain, too many unconfirmed ancestors [limit: 25]", chain.ErrRejected},
		{-25, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)", chain.ErrRejected},
		{-22, "TX decode failed. Make sure the tx has at least one input.", chain.ErrRejected},
		{-26, "TX rejected: already have transaction in mempool " + id, nil},
		{-27, "TX rejected: transaction already exists in blockchain", nil},
		{-25, "TX rejected: orphan transaction " + id + " references outputs of unknown or fully-spent transaction " + id, chain.ErrConflict},
		{-25, "TX rejected: output " + id + ":0 referenced from transaction " + id + ":0 either does not exist or has already been spent", chain.ErrConflict},
		{-26, "TX rejected: output already spent in mempool: output=" + id + ":0, tx=" + id, chain.ErrConflict},
		{-26, "TX rejected: transaction " + id + " has insufficient priority (1 <= 57600000)", chain.ErrFeeTooLow},
		{-26, "TX rejected: transaction " + id + " has 10 fees which is under the required amount of 111", chain.ErrFeeTooLow},
		{-26, "TX rejected: transaction " + id + " has been rejected by the rate limiter due to low fees", chain.ErrFeeTooLow},
		{-26, "TX rejected: " + id + ": replacement transaction has an insufficient fee rate: needs more than 2000, has 1000", chain.ErrFeeTooLow},
		{-26, "TX rejected: " + id + ": replacement transaction has an insufficient absolute fee: needs 2000, has 1000", chain.ErrFeeTooLow},
		{-25, "TX rejected: failed to validate input " + id + ":0", chain.ErrRejected},
	} {
		got := refusal(&Error{Method: "sendrawtransaction", Code: c.code, Message: c.text})
		if c.want == nil {
			if got != nil {
				t.Errorf("%q: %v", c.text, got)
			}
			continue
		}
		for _, is := range []error{chain.ErrConflict, chain.ErrFeeTooLow} {
			if errors.Is(got, is) != (c.want == is) {
				t.Errorf("%q: %v", c.text, got)
			}
		}
		conform.WantErr(t, got, chain.ErrRejected)
	}
	// A refusal to replace is one member's fault, a fee under the minimum nobody's.
	for text, want := range map[string]bool{
		"insufficient fee, rejecting replacement 00, not enough additional fees to relay": true,
		"replacement-failed": true,
		"TX rejected: 00: replacement transaction has an insufficient absolute fee: needs 2000, has 1000": true,
		"min relay fee not met, 10 < 110":   false,
		"mempool min fee not met, 10 < 110": false,
	} {
		if got := refusal(&Error{Method: "sendrawtransaction", Code: codeRejected, Message: text}); errors.Is(got, chain.ErrReplacement) != want || !errors.Is(got, chain.ErrFeeTooLow) {
			t.Errorf("%q: %v", text, got)
		}
	}
	for _, other := range []error{&Error{Code: codeInternal, Message: "missing inputs"}, chain.ErrUnavailable, context.Canceled} {
		if got := refusal(other); got != other {
			t.Errorf("%v is no refusal, and became %v", other, got)
		}
	}
}

// serve starts a server of the test's own and a client of it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return newClient(t, Config{URL: s.URL, User: "me", Password: "hunter2"})
}

// A node that does not know maxburnamount is asked again without it.
func TestBurnOnOldNode(t *testing.T) {
	for _, code := range []int{codeMisc, codeParams} { // Bitcoin Core before v25, btcd
		p := startProxy(t)
		c := newClient(t, Config{URL: p.URL, Network: wire.Regtest})
		var asked []int
		p.set("sendrawtransaction", func(params []json.RawMessage, _ json.RawMessage) (any, *Error) {
			if asked = append(asked, len(params)); len(params) > 2 {
				return nil, &Error{Code: code, Message: "wrong number of params"}
			}
			return "00", nil
		})
		tx := conform.Spend(t, wire.Outpoint{Txid: wire.Hash{1}}, 10_000, 1000)
		conform.Must(t, c.Broadcast(t.Context(), tx))
		tx.AddTxOut(btcwire.NewTxOut(500, []byte{txscript.OP_RETURN}))
		conform.Must(t, c.Broadcast(t.Context(), tx))
		if want := []int{2, 3, 2}; !slices.Equal(asked, want) {
			t.Errorf("code %d: parameters %v, want %v", code, asked, want)
		}
	}
}

func TestGarbage(t *testing.T) {
	var status int
	var body string
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	for _, status = range []int{200, 404, 500, 503} {
		for _, body = range []string{"", "{", "{}", "null", "7", `"x"`, "[]", "[{}]", "<html>\x1b[2J</html>", "\x00\xff", `{"result":null,"error":null,"id":"bitgram"}`,
			`{"result":7}`, `{"result":"` + strings.Repeat("0", 63) + `"}`, `{"result":{"blocks":1e99}}`, `{"error":{"code":"x"}}`, `{"error":7}`,
			`{"result":[]}`, strings.Repeat("[", 20_000), `{"result":"` + strings.Repeat("\\u0000", 100) + `"}`} {
			for name, err := range each(t.Context(), c) {
				if !errors.Is(err, chain.ErrUnavailable) || strings.ContainsAny(err.Error(), "\x00\x1b\n") || len(err.Error()) > 2*maxText {
					t.Errorf("%d %.40q: %s: %q", status, body, name, err)
				}
			}
		}
	}
}

func TestTooLarge(t *testing.T) {
	piece := bytes.Repeat([]byte("0"), 1<<20)
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	_, err := c.Tip(t.Context())
	conform.WantErr(t, err, chain.ErrUnavailable)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxAnswer)) {
		t.Errorf("%v does not tell the bound", err)
	}
}

// TestHanging: a node that takes the question and says nothing costs as long
// as the caller wants.
func TestHanging(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the end of the connection is not seen
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for name, err := range each(ctx, c) {
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	time.AfterFunc(50*time.Millisecond, func() { c.Close() })
	news := c.Watch(t.Context())
	_, err := c.Tip(t.Context())
	conform.WantErr(t, err, ErrClosed)
	for range news {
	}
}

// TestCut: a connection that ends within an answer.
func TestCut(t *testing.T) {
	p := startProxy(t)
	want := mine(t, p.node, 1)
	cut := true
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cut {
			conn, out, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = out.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"result\":\"00")
			out.Flush()
			conn.Close()
			return
		}
		p.ServeHTTP(w, r)
	}))
	defer s.Close()
	c := newClient(t, Config{URL: s.URL})
	wantEach(t, c, chain.ErrUnavailable)
	cut = false
	if got, err := c.Tip(t.Context()); err != nil || got != want {
		t.Errorf("tip %v, %v", got, err)
	}
}

// TestRedirect: nobody sends us, and our password, elsewhere.
func TestRedirect(t *testing.T) {
	var visits int
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits++ }))
	defer elsewhere.Close()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	wantEach(t, c, chain.ErrUnavailable)
	if visits > 0 {
		t.Errorf("%d visits elsewhere", visits)
	}
}

// TestSeenByCall: a tip that a call told, and that went again before the next
// look, is news all the same.
func TestSeenByCall(t *testing.T) {
	p := startProxy(t)
	c := newClient(t, Config{URL: p.URL, Poll: time.Hour})
	news := c.Watch(t.Context())
	signal(t, news)
	mine(t, p.node, 1)
	_, err := c.Tip(t.Context())
	conform.Must(t, err)
	signal(t, news)
}

// FuzzAnswer: whatever a server says, nothing panics, and a block is the one
// that was asked for.
func FuzzAnswer(f *testing.F) {
	var mu sync.Mutex
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = w.Write(body)
	}))
	f.Cleanup(s.Close)
	c, err := New(Config{URL: s.URL, Network: wire.Regtest})
	conform.Must(f, err)
	f.Cleanup(func() { c.Close() })
	var raw bytes.Buffer
	conform.Must(f, c.params.GenesisBlock.Serialize(&raw))
	genesis := c.params.GenesisHash
	for _, seed := range []string{"", "{}", `{"result":null}`, `{"result":"` + genesis.String() + `"}`, `{"result":"` + hex.EncodeToString(raw.Bytes()) + `"}`,
		`{"result":{"height":0,"time":1,"blocks":0,"headers":0,"bestblockhash":"` + genesis.String() + `"}}`, `{"error":{"code":-32603,"message":"x"}}`,
		`{"result":{"feerate":0.001,"mempoolminfee":1e-5}}`, `{"result":[{"type":"pubhashblock","address":"tcp://0.0.0.0:1"}]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		mu.Lock()
		body = []byte(answer)
		mu.Unlock()
		c.verified.Store(true)
		ref, err := c.Tip(t.Context())
		if err == nil && ref.Height > wire.MaxHeight {
			t.Errorf("tip %v", ref)
		}
		if r, err := c.FeeRate(t.Context(), 6); err == nil && r < minRate {
			t.Errorf("rate %d", r)
		}
		c.verified.Store(true)
		if b, _, err := c.Block(t.Context(), *genesis); err == nil && b.BlockHash() != *genesis {
			t.Error("another block")
		}
		var said struct{ Result string }
		if json.Unmarshal([]byte(answer), &said) == nil {
			if b, _, err := decodeBlock(said.Result, *genesis); err == nil && b.BlockHash() != *genesis {
				t.Error("another block")
			}
		}
		c.publisher()
	})
}
