package bitcoind

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// startNode is startDevnode on a chain with a policy.
func startNode(t *testing.T, p devchain.Policy) *devnode {
	t.Helper()
	dir := t.TempDir()
	n := &devnode{cookie: filepath.Join(dir, ".cookie")}
	var err error
	n.chain, err = devchain.Open(filepath.Join(dir, "chain"), devchain.WithPolicy(p))
	conform.Must(t, err)
	t.Cleanup(func() { n.chain.Close() })
	n.serve(t, "127.0.0.1:0")
	n.client = newClient(t, Config{URL: n.server.URL(), CookieFile: n.cookie})
	return n
}

// TestDataRefused: that a node does not relay OP_RETURN outputs, or only short
// ones, is known before money moves, and is the reason of a refusal.
func TestDataRefused(t *testing.T) {
	for _, size := range []int{seal.MarkerSize, blockname.MaxSize} {
		script, err := txscript.NullDataScript(make([]byte, size))
		conform.Must(t, err)
		if len(script) > chain.DataScript {
			t.Errorf("a script of %d bytes, more than %d", len(script), chain.DataScript)
		}
	}
	for _, c := range []struct {
		name   string
		policy devchain.Policy
		want   error
	}{
		{"default", devchain.Policy{}, nil},
		{"small", devchain.Policy{Data: 42}, chain.ErrNoData},
		{"none", devchain.Policy{NoData: true}, chain.ErrNoData},
		{"Bitcoin Core 30", devchain.Policy{Data: 100_000}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.policy.Relay, c.policy.Increment, c.policy.Market = 1000, 1000, 1000
			n := startNode(t, c.policy)
			list := n.client.Advise(t.Context())
			if len(list) > 1 || errors.Join(list...) != nil != (c.want != nil) {
				t.Fatalf("advice: %v", list)
			}
			conform.WantErr(t, errors.Join(list...), c.want)
			const value = 100_000
			at, err := n.chain.Faucet(t.Context(), conform.KeyScript(t), value)
			conform.Must(t, err)
			tx := conform.Spend(t, at, value, 2000)
			data, err := txscript.NullDataScript(make([]byte, seal.MarkerSize))
			conform.Must(t, err)
			tx.AddTxOut(btcwire.NewTxOut(0, data))
			conform.SignInput(t, tx, value)
			conform.WantErr(t, n.client.Broadcast(t.Context(), tx), c.want)
		})
	}
}

// TestDataRefusedBy: the reasons of Bitcoin Core and btcd.
func TestDataRefusedBy(t *testing.T) {
	p := startProxy(t)
	c := newClient(t, Config{URL: p.URL})
	for reason, want := range map[string]error{
		"datacarrier": chain.ErrNoData, "scriptpubkey": chain.ErrNoData, // Bitcoin Core 30, and before
		"-22: transaction output 0: non-standard script form": chain.ErrNoData, // btcd
		"missing-inputs":                  nil,
		"bad-txns-inputs-missingorspent":  nil,
		"min relay fee not met, 0 < 1000": nil,
	} {
		p.set("testmempoolaccept", func(params []json.RawMessage, _ json.RawMessage) (any, *Error) {
			return []map[string]any{{"txid": "", "allowed": false, "reject-reason": reason}}, nil
		})
		conform.WantErr(t, errors.Join(c.Advise(t.Context())...), want)
	}
	p.refuse("testmempoolaccept", codeNoMethod, "Method not found")
	conform.Must(t, errors.Join(c.Advise(t.Context())...))
}

// logged collects a log.
type logged struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *logged) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.String(), s)
}

// TestSilentPublisher: a ZMQ publisher that does not publish blocks is a warning,
// as soon as that is known: when it cannot be reached, when the node says that it
// publishes none, or when a block comes that was not published. A publisher that
// publishes is none, also after blocks that came while it was away.
func TestSilentPublisher(t *testing.T) {
	t.Parallel()
	advice := func(what string, c *Client, want error) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			err := errors.Join(c.Advise(t.Context())...)
			if errors.Is(err, chain.ErrZMQ) == (want != nil) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: advice: %v, want %v", what, err, want)
			}
		}
	}
	p := startProxy(t)
	publishes := func(list ...map[string]any) {
		p.set("getzmqnotifications", func([]json.RawMessage, json.RawMessage) (any, *Error) {
			return append([]map[string]any{}, list...), nil
		})
	}
	pub := publish(t, "127.0.0.1:0")
	var log logged
	publishes()
	c := newClient(t, Config{URL: p.URL, ZMQ: "tcp://" + pub.Addr().String(), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	advice("nothing offered", c, chain.ErrZMQ) // by what the node says
	publishes(map[string]any{"type": "pubhashblock", "address": "tcp://0.0.0.0:1"})
	advice("offered, not connected", c, nil)
	news := c.Watch(t.Context())
	signal(t, news)
	conn := pub.accept()
	mine(t, p.node, 1)
	pub.send(conn, hashblock)
	signal(t, news)
	publishes()
	advice("published", c, nil) // it has published one
	time.Sleep(zmqGrace + zmqGrace/2)
	advice("published, a while ago", c, nil)
	c.published.Store(false) // no slow poll
	mine(t, p.node, 1)
	signal(t, news)
	advice("not published", c, chain.ErrZMQ)
	if !log.has("did not publish a block") {
		t.Errorf("the log says %q", log.String())
	}
	mine(t, p.node, 1)
	pub.send(conn, hashblock)
	advice("published again", c, nil)
	pub.Close()
	conn.Close()
	advice("away", c, chain.ErrZMQ)
}

// TestSlowLook: a block that was published is not taken for one that was not if the
// node answers slowly, be it the poll that finds the block or the one before.
func TestSlowLook(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	pub := publish(t, "127.0.0.1:0")
	c := newClient(t, Config{URL: p.URL, ZMQ: "tcp://" + pub.Addr().String(), Poll: time.Hour})
	c.grace = 300 * time.Millisecond
	answers := make(chan struct{}, 100)
	var delay atomic.Int64
	p.set("getbestblockhash", func(_ []json.RawMessage, real json.RawMessage) (any, *Error) {
		answers <- struct{}{}
		time.Sleep(time.Duration(delay.Load()))
		return real, nil
	})
	news := c.Watch(t.Context())
	signal(t, news)
	conn := pub.accept()
	signal(t, answers)
	signal(t, answers) // after the connection
	quiet := func(what string) {
		t.Helper()
		for end := time.Now().Add(3 * c.grace); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			c.zmqState.mu.Lock()
			silent := c.zmqState.silent
			c.zmqState.mu.Unlock()
			if silent {
				t.Fatalf("%s: the publisher counts as silent", what)
			}
		}
	}
	quiet("before")
	delay.Store(int64(2 * c.grace))
	mine(t, p.node, 1)
	pub.send(conn, hashblock)
	signal(t, news)
	quiet("the poll that finds the block is slow")
	for len(answers) > 0 {
		<-answers
	}
	delay.Store(int64(4 * c.grace))
	c.look()
	signal(t, answers) // it says that there is no block
	mine(t, p.node, 1)
	pub.send(conn, hashblock)
	signal(t, news)
	quiet("the poll before is slow")
	delay.Store(0)
	mine(t, p.node, 1)
	c.look()
	for end := time.Now().Add(20 * time.Second); !errors.Is(errors.Join(c.Advise(t.Context())...), chain.ErrZMQ); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a block that was not published is not noticed")
		}
	}
}

// TestDownload: a node that stays in its initial download is waited for. If its
// last block is new, it counts as the tip after a while, so that deadlines are met;
// if it is old, that is said.
func TestDownload(t *testing.T) {
	p := startProxy(t)
	mine(t, p.node, 3)
	p.pretend(&chaincfg.SigNetParams)
	p.fields("getblockchaininfo", map[string]any{"initialblockdownload": true})
	tipAge := func(d time.Duration) {
		p.fields("getblockheader", map[string]any{"time": time.Now().Add(-d).Unix()})
	}
	var log logged
	c := newClient(t, Config{URL: p.URL, Network: wire.Signet, Log: slog.New(slog.NewTextHandler(&log, nil))})
	c.patience = time.Hour
	later := func(d time.Duration) {
		c.mu.Lock()
		c.download.since = c.download.since.Add(-d)
		c.mu.Unlock()
	}
	tip := func(want error) {
		t.Helper()
		_, err := c.Tip(t.Context())
		conform.WantErr(t, err, want)
	}
	tipAge(time.Minute)
	tip(chain.ErrSyncing)
	later(59 * time.Minute)
	tip(chain.ErrSyncing)
	later(time.Minute)
	tip(nil)
	conform.WantErr(t, c.Health(t.Context()), chain.ErrBehind)
	if !log.has("counts as the tip") {
		t.Errorf("the log says %q", log.String())
	}
	p.fields("getblockchaininfo", map[string]any{"headers": 100, "initialblockdownload": true})
	tip(chain.ErrSyncing) // it lacks blocks
	p.fields("getblockchaininfo", map[string]any{"initialblockdownload": false})
	tip(nil)
	conform.Must(t, c.Health(t.Context()))
	p.fields("getblockchaininfo", map[string]any{"initialblockdownload": true})
	tipAge(2 * maxTipAge)
	tip(chain.ErrSyncing)
	later(time.Hour)
	tip(chain.ErrSyncing)
	err := c.Health(t.Context())
	conform.WantErr(t, err, chain.ErrSyncing)
	if !strings.Contains(err.Error(), "old") || !log.has("nothing can be claimed or refunded") {
		t.Errorf("%v; the log says %q", err, log.String())
	}
}

// TestDownloadClock: the time of an initial download begins when the node lacks no
// blocks that it knows of, or gets none of them. Each of the warnings is logged.
func TestDownloadClock(t *testing.T) {
	p := startProxy(t)
	mine(t, p.node, 3)
	p.pretend(&chaincfg.SigNetParams)
	var log logged
	c := newClient(t, Config{URL: p.URL, Network: wire.Signet, Log: slog.New(slog.NewTextHandler(&log, nil))})
	c.patience = time.Hour
	node := func(missing int64, age time.Duration) {
		p.fields("getblockchaininfo", map[string]any{"headers": 3 + missing, "initialblockdownload": true})
		p.fields("getblockheader", map[string]any{"time": time.Now().Add(-age).Unix()})
	}
	later := func(d time.Duration) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, at := range []*time.Time{&c.download.since, &c.lag.first, &c.lag.since} {
			if !at.IsZero() {
				*at = at.Add(-d)
			}
		}
	}
	syncing := func(says string) {
		t.Helper()
		_, err := c.Tip(t.Context())
		conform.WantErr(t, err, chain.ErrSyncing)
		if err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%v, not %q", err, says)
		}
		conform.WantErr(t, c.Health(t.Context()), chain.ErrSyncing)
	}
	quiet := func() {
		t.Helper()
		if log.has("WARN") {
			t.Errorf("the log says %q", log.String())
		}
	}
	const year = 365 * 24 * time.Hour
	node(0, year)
	syncing("more to come") // the headers come
	for missing := int64(100); missing > 50; missing-- {
		later(50 * time.Minute)
		node(missing, year)
		if missing > 98 {
			syncing("of 10") // block 3 of 103
		} else {
			_, err := c.Tip(t.Context())
			conform.WantErr(t, err, chain.ErrSyncing)
			if strings.Contains(err.Error(), "old") {
				t.Fatalf("%d are missing: %v", missing, err)
			}
		}
	}
	quiet()
	// The last blocks come.
	later(50 * time.Minute)
	node(1, time.Minute)
	syncing("more to come")
	later(59 * time.Minute)
	syncing("more to come")
	quiet()
	later(time.Minute)
	_, err := c.Tip(t.Context())
	conform.Must(t, err)
	if !log.has("its last block is new and counts as the tip") {
		t.Errorf("the log says %q", log.String())
	}
	// No more come.
	node(1, 2*maxTipAge)
	syncing("the last that it knows of")
	if !log.has("nothing can be claimed or refunded") {
		t.Errorf("the log says %q", log.String())
	}
	// It knows of more, but gets none.
	log.mu.Lock()
	log.Reset()
	log.mu.Unlock()
	node(50, 2*maxTipAge)
	syncing("of 53")
	later(time.Hour)
	syncing("more to come")
	quiet()
	later(time.Hour)
	syncing("block 3 of 53 is 48h0m0s old")
	if !log.has("nothing can be claimed or refunded") || log.has("counts as the tip") {
		t.Errorf("the log says %q", log.String())
	}
	// Its last block is new: that counts.
	node(50, time.Minute)
	_, err = c.Tip(t.Context())
	conform.Must(t, err)
	conform.WantErr(t, c.Health(t.Context()), chain.ErrBehind)
	if !log.has("whose headers it knows; its last block counts as the tip") {
		t.Errorf("the log says %q", log.String())
	}
}
