package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/testing/books"
	"github.com/bitgram/bitgram/wire"
)

// town is a chain and some nodes over real sockets and files.
type town struct {
	t     testing.TB
	dir   string
	chain *devchain.Chain
	miner []byte
	homes map[string]*home
	seeds []string
	hints *wire.Height // from where homes read them; nil for not at all
}

// home is one node, which may be closed and opened again.
type home struct {
	town *town
	cfg  Config
	node *Node
}

func newTown(t testing.TB, agents int, opts ...devchain.Option) *town {
	w := emptyTown(t, opts...)
	for i := range agents {
		h := w.open(fmt.Sprintf("agent-%d", i), &deal.Policy{Rate: 20_000_000 + wire.Psat(i), MaxSize: 1 << 30, MaxBlocks: 1008, ValidFor: 12, Patience: 4,
			OneOfMany: true, MaxStored: 1 << 30, MaxUnfunded: 1 << 28})
		// The same addresses after a restart.
		h.cfg.Listen = h.node.Addrs()
		w.seeds = append(w.seeds, h.node.Seed()...)
	}
	for _, name := range []string{"sender", "recipient"} {
		w.open(name, nil)
	}
	return w
}

// emptyTown is a chain without nodes.
func emptyTown(t testing.TB, opts ...devchain.Option) *town {
	dir := t.TempDir()
	chain, err := devchain.Open(filepath.Join(dir, "chain"), opts...)
	must(t, err)
	w := &town{t: t, dir: dir, chain: chain, miner: append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...), homes: map[string]*home{}}
	t.Cleanup(func() {
		for _, h := range w.homes {
			must(t, h.node.Close())
		}
		must(t, chain.Close())
	})
	return w
}

// What rooms keep below a home, and in its database.
const (
	dirOutgoing, dirIncoming, dirCopies = "outgoing", "incoming", "copies"

	bucketPoints = "sender/points"
	bucketFind   = "agent/find"
	bucketCopies = "agent/copies"
	bucketPaper  = "bank/paper"

	maxSmall = 16 << 10 // up to which a copy is kept in the database
)

func agentRef(point wire.Key) engine.Ref {
	return engine.Ref{Kind: deal.KindAgent, ID: wire.Hash(point)}
}
func payerRef(id bank.ID) engine.Ref { return engine.Ref{Kind: bank.KindPayer, ID: id} }
func payeeRef(id bank.ID) engine.Ref { return engine.Ref{Kind: bank.KindPayee, ID: id} }
func sendingRef(id wire.Hash) engine.Ref {
	return engine.Ref{Kind: bank.KindSending, ID: id}
}

// service is what a payee's node answers to payers.
func service(h *home) *banking.Service { return &banking.Service{Banks: h.node.Banks} }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *town) open(name string, p *deal.Policy) *home {
	h := w.openApart(name, p)
	must(w.t, h.node.Directory.WaitNetwork(w.t.Context()))
	return h
}

// openApart opens a node that may have no way into the DHT yet.
func (w *town) openApart(name string, p *deal.Policy) *home {
	h := w.home(name, p)
	h.start()
	return h
}

// home is of a node that does not run yet.
func (w *town) home(name string, p *deal.Policy) *home {
	seed := make([]byte, 64)
	_, _ = rand.Read(seed)
	h := &home{town: w, cfg: Config{Dir: filepath.Join(w.dir, name), Network: wire.Regtest, Seed: seed, Chain: w.chain, Policy: p, Seeds: slices.Clone(w.seeds), Hints: w.hints}}
	if p != nil {
		h.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	}
	w.homes[name] = h
	return h
}

func (h *home) start() {
	h.town.t.Helper()
	n, err := Open(h.cfg)
	must(h.town.t, err)
	h.node = n
	n.Start()
}

func (h *home) open() {
	h.town.t.Helper()
	h.start()
	n := h.node
	must(h.town.t, n.Directory.WaitNetwork(h.town.t.Context()))
}

// settle waits until everybody has seen the tip and has nothing to do.
func (w *town) settle() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer cancel()
	tip, err := w.chain.Tip(ctx)
	must(w.t, err)
	for quiet := 0; quiet < 2; quiet++ {
		for name, h := range w.homes {
			if !h.node.Engine().Idle(tip.Height) {
				quiet = -1
			}
			if ctx.Err() != nil {
				w.t.Fatalf("%s does not come to rest at height %d", name, tip.Height)
			}
		}
		time.Sleep(500 * time.Microsecond)
	}
}

func (w *town) mine(n int) {
	w.t.Helper()
	for range n {
		_, err := w.chain.Mine(w.t.Context(), 1, w.miner)
		must(w.t, err)
		w.settle()
	}
}

func (w *town) fund(h *home, amount wire.Sat) {
	w.t.Helper()
	_, script, err := h.node.Coins.NewAddress(w.t.Context())
	must(w.t, err)
	_, err = w.chain.Faucet(w.t.Context(), script, amount)
	must(w.t, err)
	w.mine(1)
}

func (w *town) send(body []byte, shape wire.Shape) engine.Ref {
	w.t.Helper()
	ref, err := w.homes["sender"].node.Delivery.Send(w.t.Context(), delivery.Letter{To: w.homes["recipient"].node.Key(), Body: bytes.NewReader(body),
		Agents: 3, Shape: shape, MaxCost: 100_000, Blocks: 24})
	must(w.t, err)
	w.settle()
	return ref
}

// follow mines until the sender's deal is over and returns it.
func (w *town) follow(ref engine.Ref) deal.Sender {
	w.t.Helper()
	for i := range 140 {
		if i < 14 {
			w.mine(1)
		} else {
			// Nobody has anything to do before the refund: ten at a time.
			_, err := w.chain.Mine(w.t.Context(), 10, w.miner)
			must(w.t, err)
			w.settle()
		}
		s, err := w.homes["sender"].node.Engine().State(w.t.Context(), ref)
		must(w.t, err)
		if s := s.(deal.Sender); s.Interest().Done {
			w.mine(int(deal.MarginsFor(wire.Regtest).Final))
			return s
		}
	}
	w.t.Fatal("the deal does not end")
	return deal.Sender{}
}

// balanced holds every party's coins against what the funding, the claims and
// the refund paid.
func (w *town) balanced(purse wire.Sat) {
	w.t.Helper()
	total := wire.Sat(0)
	for _, h := range w.homes {
		b, err := h.node.Coins.Balance(w.t.Context())
		must(w.t, err)
		if b.Locked != 0 || b.Pending != 0 {
			w.t.Errorf("%s has %v locked and %v pending", h.cfg.Dir, b.Locked, b.Pending)
		}
		total += b.Confirmed
		w.counted(h.node)
	}
	// The miners hold the rest.
	fees := books.Fees(w.t, w.chain)
	if total+fees != purse {
		w.t.Errorf("of %v, the parties hold %v and miners %v: %v are missing", purse, total, fees, purse-total-fees)
	}
}

// counted requires that an agent's sums are those of its deals, in the database
// and in memory, and that its index has exactly those that can be claimed.
func (w *town) counted(n *Node) {
	w.t.Helper()
	if err := n.agent.Audit(w.t.Context()); err != nil {
		w.t.Errorf("%s: %v", n.cfg.Dir, err)
	}
}

// read returns what the recipient has of its one message.
func (w *town) read() []byte {
	w.t.Helper()
	n := w.homes["recipient"].node
	var raw []byte
	err := n.Delivery.Received(w.t.Context(), func(ref engine.Ref, r deal.Recipient) error {
		if r.Phase != deal.RecipientRead {
			w.t.Fatalf("the message is %v: %s", r.Phase, r.Failure)
		}
		f, err := n.Delivery.Message(ref)
		must(w.t, err)
		defer f.Close()
		_, body, err := mail.Extract(f)
		must(w.t, err)
		raw, err = io.ReadAll(body)
		return err
	})
	must(w.t, err)
	if raw == nil {
		w.t.Fatal("no message")
	}
	return raw
}
