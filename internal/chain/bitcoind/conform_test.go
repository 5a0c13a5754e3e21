package bitcoind

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/chain/corerpc"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/wire"
)

// testPoll is fast enough for the suite's patience.
const testPoll = 20 * time.Millisecond

// miner is a script that anybody may be paid to in these tests.
var miner = []byte{0x51}

// devnode is a devchain behind corerpc, and a client of it.
type devnode struct {
	chain  *devchain.Chain
	server *corerpc.Server
	client *Client
	cookie string
}

func startDevnode(t *testing.T) *devnode {
	t.Helper()
	dir := t.TempDir()
	n := &devnode{cookie: filepath.Join(dir, ".cookie")}
	var err error
	n.chain, err = devchain.Open(filepath.Join(dir, "chain"))
	conform.Must(t, err)
	t.Cleanup(func() { n.chain.Close() })
	n.serve(t, "127.0.0.1:0")
	n.client = newClient(t, Config{URL: n.server.URL(), CookieFile: n.cookie})
	return n
}

func (n *devnode) serve(t *testing.T, at string) {
	t.Helper()
	var err error
	n.server, err = corerpc.Listen(corerpc.Config{Node: n.chain, Listen: at, CookieFile: n.cookie})
	conform.Must(t, err)
	t.Cleanup(func() { n.server.Close() })
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.Network == "" {
		cfg.Network = wire.Regtest
	}
	if cfg.Poll == 0 {
		cfg.Poll = testPoll
	}
	c, err := New(cfg)
	conform.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestConformanceDevchain(t *testing.T) {
	conform.Backend(t, func(t *testing.T) *conform.ChainHarness {
		n := startDevnode(t)
		return &conform.ChainHarness{
			Backend: n.client,
			Mine: func(blocks int) {
				_, err := n.chain.Mine(t.Context(), blocks, miner)
				conform.Must(t, err)
			},
			Fund: func(script []byte, a wire.Sat) wire.Outpoint {
				o, err := n.chain.Faucet(t.Context(), script, a)
				conform.Must(t, err)
				return o
			},
			Reorg:   func(depth int) { conform.Must(t, n.chain.Reorg(t.Context(), depth, miner)) },
			FullRBF: true,
			Close: func() {
				n.client.Close()
				n.server.Close()
				n.chain.Close()
			},
		}
	})
}
