package bitcoind

import (
	"bytes"
	"encoding/json"
	"sync"
	"testing"
	"time"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

// count counts the calls of methods.
func (p *proxy) count(methods ...string) func(method string) int {
	var mu sync.Mutex
	n := map[string]int{}
	for _, m := range methods {
		p.set(m, func(_ []json.RawMessage, real json.RawMessage) (any, *Error) {
			mu.Lock()
			defer mu.Unlock()
			n[m]++
			if string(real) == "null" {
				return nil, &Error{Code: codeAddressOrKey, Message: "Transaction not in mempool"}
			}
			return real, nil
		})
	}
	return func(method string) int {
		mu.Lock()
		defer mu.Unlock()
		return n[method]
	}
}

// forget drops the blocks that are kept, so that the node is asked again.
func (c *Client) forget() { c.blocks = blocks{} }

// TestBlockOnce: several readers of the chain cost one request per block, also if
// they ask at the same time, or one is a little late.
func TestBlockOnce(t *testing.T) {
	p := startProxy(t)
	calls := p.count("getblock", "getblockheader")
	c := newClient(t, Config{URL: p.URL})
	const blocks = 10
	var refs []chain.BlockRef
	for range blocks {
		refs = append(refs, mine(t, p.node, 1))
	}
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for _, r := range refs {
				b, h, err := c.Block(t.Context(), r.Hash)
				if err != nil || h != r.Height || b.BlockHash() != r.Hash {
					t.Errorf("block %v: height %d, %v", r, h, err)
				}
			}
		})
	}
	readers.Wait()
	if n := calls("getblock"); n != blocks {
		t.Errorf("%d requests for %d blocks", n, blocks)
	}
	if n := calls("getblockheader"); n != blocks {
		t.Errorf("%d requests for %d headers", n, blocks)
	}
}

// TestBlocksKept: the blocks that are kept are bounded, and a failure is not kept.
func TestBlocksKept(t *testing.T) {
	var l blocks
	fetched := 0
	block := btcwire.NewMsgBlock(&btcwire.BlockHeader{})
	var b bytes.Buffer
	conform.Must(t, block.Serialize(&b))
	raw := append(b.Bytes(), make([]byte, keptBytes/4-b.Len())...)
	get := func(i byte, err error) error {
		_, _, got := l.get(t.Context(), [32]byte{i}, func() (*btcwire.MsgBlock, []byte, wire.Height, error) {
			fetched++
			if err != nil {
				return nil, nil, 0, err
			}
			return block, raw, wire.Height(i), nil
		})
		return got
	}
	for i := range byte(20) {
		conform.Must(t, get(i, nil))
		if l.bytes > keptBytes || len(l.list) > 4 {
			t.Fatalf("%d bytes in %d blocks", l.bytes, len(l.list))
		}
	}
	fetched = 0
	conform.Must(t, get(19, nil))
	conform.Must(t, get(16, nil))
	if fetched != 0 {
		t.Error("a kept block is fetched again")
	}
	conform.WantErr(t, get(99, chain.ErrUnavailable), chain.ErrUnavailable)
	conform.Must(t, get(99, nil))
	conform.Must(t, get(1, nil))
	if fetched != 3 {
		t.Errorf("%d fetched", fetched)
	}
}

// TestSentOnce: a transaction that the mempool has is not sent again, until a while
// has passed; one that it has lost is.
func TestSentOnce(t *testing.T) {
	p := startProxy(t)
	calls := p.count("sendrawtransaction", "getmempoolentry")
	c := newClient(t, Config{URL: p.URL})
	const value = 100_000
	at, err := p.node.chain.Faucet(t.Context(), conform.KeyScript(t), value)
	conform.Must(t, err)
	tx := conform.Spend(t, at, value, 2000)
	for range 20 {
		conform.Must(t, c.Broadcast(t.Context(), tx))
	}
	if n := calls("sendrawtransaction"); n != 1 {
		t.Errorf("sent %d times", n)
	}
	if n := calls("getmempoolentry"); n != 19 {
		t.Errorf("asked %d times", n)
	}
	// A node that does not know the request, as btcd.
	p.refuse("getmempoolentry", codeMisc, "Command unimplemented")
	conform.Must(t, c.Broadcast(t.Context(), tx))
	if n := calls("sendrawtransaction"); n != 1 {
		t.Errorf("sent %d times to a node without getmempoolentry", n)
	}
	// It is gone.
	p.refuse("getmempoolentry", codeAddressOrKey, "Transaction not in mempool")
	conform.Must(t, c.Broadcast(t.Context(), tx))
	if n := calls("sendrawtransaction"); n != 2 {
		t.Errorf("sent %d times although it was gone", n)
	}
	// A while has passed.
	p.set("getmempoolentry", nil)
	c.sent.mu.Lock()
	for id := range c.sent.at {
		c.sent.at[id] = time.Now().Add(-resendTime)
	}
	c.sent.mu.Unlock()
	conform.Must(t, c.Broadcast(t.Context(), tx))
	conform.Must(t, c.Broadcast(t.Context(), tx))
	if n := calls("sendrawtransaction"); n != 3 {
		t.Errorf("sent %d times after a while", n)
	}
	// What is remembered is bounded.
	for i := range 3 * maxSent {
		c.sent.add([32]byte{byte(i), byte(i >> 8), 1})
		if len(c.sent.at) > maxSent {
			t.Fatalf("%d are remembered", len(c.sent.at))
		}
	}
}
