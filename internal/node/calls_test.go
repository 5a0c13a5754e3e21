package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain/bitcoind"
	"github.com/bitgram/bitgram/internal/chain/corerpc"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// calls counts the requests that pass it, by method and first parameter.
type calls struct {
	mu sync.Mutex
	n  map[string]map[string]int
}

func (c *calls) of(method string) (all, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.n[method] {
		all, most = all+n, max(most, n)
	}
	return all, most
}

// counted serves a chain like a Bitcoin node, and counts what a client asks it.
func counted(t *testing.T, c *devchain.Chain) (*bitcoind.Client, *calls) {
	cookie := filepath.Join(t.TempDir(), "cookie")
	server, err := corerpc.Listen(corerpc.Config{Node: c, Listen: "127.0.0.1:0", CookieFile: cookie})
	must(t, err)
	t.Cleanup(func() { server.Close() })
	to, err := url.Parse(server.URL())
	must(t, err)
	seen := &calls{n: map[string]map[string]int{}}
	pass := httputil.NewSingleHostReverseProxy(to)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var req struct {
			Method string
			Params []json.RawMessage
		}
		if json.Unmarshal(body, &req) == nil {
			first := ""
			if len(req.Params) > 0 {
				first = string(req.Params[0])
			}
			seen.mu.Lock()
			if seen.n[req.Method] == nil {
				seen.n[req.Method] = map[string]int{}
			}
			seen.n[req.Method][first]++
			seen.mu.Unlock()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	client, err := bitcoind.New(bitcoind.Config{URL: proxy.URL, CookieFile: cookie, Network: wire.Regtest})
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return client, seen
}

// TestRPCCalls: over a run, a node asks its Bitcoin node for each block once, and
// sends each unconfirmed transaction once: a payment and the funding of a bank.
func TestRPCCalls(t *testing.T) {
	t.Parallel()
	w := emptyTown(t, devchain.WithPolicy(devchain.Policy{Relay: 1000, Increment: 1000, Market: 5000}))
	h := w.home("payer", nil)
	client, seen := counted(t, w.chain)
	var from wire.Height
	h.cfg.Chain, h.cfg.Hints = client, &from
	h.start()
	t.Cleanup(func() { // before its client
		delete(w.homes, "payer")
		must(t, h.node.Close())
	})
	to := w.payee("payee", nil)
	w.mine(1)
	w.fund(h, 1_000_000)
	tip, err := w.chain.Tip(t.Context())
	must(t, err)
	addr, _, err := to.node.Coins.NewAddress(t.Context())
	must(t, err)
	_, err = h.node.Coins.Pay(t.Context(), addr, 10_000, wallet.Fee{Rate: 1000})
	must(t, err)
	id, err := h.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 200_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000})
	must(t, err)
	w.settle()
	blocks := tier.Pick(4, 8, 20)
	for range blocks {
		w.mine(1)
	}
	if p := w.payer(h, id); p.State() != bank.StateOpening || p.Confirmed != nil || p.Phase != bank.PayerPublished {
		t.Fatalf("the bank is %s: its funding should be unconfirmed", p.State())
	}
	if all, most := seen.of("getblock"); most > 1 || all < blocks || all > int(tip.Height)+blocks+1 {
		t.Errorf("%d requests for blocks, up to %d for one", all, most)
	}
	if all, most := seen.of("sendrawtransaction"); all != 2 || most != 1 {
		t.Errorf("%d transactions are sent, one %d times; want 2, once each", all, most)
	}
	seen.mu.Lock()
	var list []string
	total := 0
	for method, by := range seen.n {
		n := 0
		for _, one := range by {
			n += one
		}
		total += n
		list = append(list, fmt.Sprintf("%s %d", method, n))
	}
	seen.mu.Unlock()
	t.Logf("%d requests in %d blocks: %s", total, blocks, strings.Join(list, ", "))
}
