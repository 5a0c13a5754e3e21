// Package sim runs many real nodes, with their stores, engines, wallets and
// libp2p hosts, in one process, on the embedded chain, over a network of
// simulated packets. The clock jumps to the next event when all goroutines wait
// (testing/synctest). A day of waiting takes no time, and retries and timeouts
// are free, but the code is the real code.
//
//	sim.Run(t, seed, func(l *sim.Lab) {
//		l.Prepare(3)
//		for _, h := range l.Homes() {
//			h.Open()
//		}
//		l.Fund(l.Home("sender"), 1_000_000)
//		m := l.Send(l.Home("sender"), l.Home("recipient"), body, wire.PerAgent)
//		l.Follow(m)
//	})
//
// Faults are set on the network (Net, Cut) and on nodes (Home.Plan, Cfg.Serve);
// reorgs on the lab. All randomness derives from the seed, except the order in
// which goroutines run.
package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/books"
	"github.com/bitgram/bitgram/internal/testing/packets"
	"github.com/bitgram/bitgram/wire"
)

// Lab is a chain, a network and the nodes on it.
type Lab struct {
	T     *testing.T
	Rand  *rand.Rand
	Net   *packets.Net
	Chain *devchain.Chain

	dir   string
	miner []byte
	homes []*Home // in order of their names' first use
	ends  []func() error
}

// Home is one node, which may be killed and opened again from its files.
type Home struct {
	Name string
	Node *node.Node // nil while it is down
	Cfg  node.Config
	// Plan, if set, kills the node at an effect.
	Plan *Plan
	// Backup, if set, makes a backup, and later restores the home from it.
	Backup *Backup
	lab    *Lab
	ips    []string // of its hosts, in order of creation
}

// epoch is the start time of a lab: btcd's clock must be past its blocks'.
var epoch = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// Run runs f in a new lab.
func Run(t *testing.T, seed uint64, f func(*Lab)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(epoch))
		l := &Lab{T: t, Rand: rand.New(rand.NewPCG(seed, 1)), dir: dir, miner: append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...)}
		l.Net = packets.New(seed)
		var err error
		l.Chain, err = devchain.Open(filepath.Join(dir, "chain"))
		l.must(err)
		defer func() {
			for _, h := range l.homes {
				if h.Node != nil {
					l.must(h.Node.Close())
				}
			}
			for _, end := range slices.Backward(l.ends) {
				l.must(end())
			}
			l.must(l.Chain.Close())
			l.Net.Close()
		}()
		f(l)
	})
}

// OnClose runs f at the lab's end, once all nodes are closed.
func (l *Lab) OnClose(f func() error) { l.ends = append(l.ends, f) }

func (l *Lab) must(err error) {
	l.T.Helper()
	if err != nil {
		l.T.Fatal(err)
	}
}

// Policy is the policy of the lab's agents.
var Policy = deal.Policy{Rate: 20_000_000, MaxSize: 1 << 30, MaxBlocks: 1008, ValidFor: 12, Patience: 4, OneOfMany: true,
	MaxStored: 1 << 30, MaxUnfunded: 1 << 28}

// Prepare creates n agents, a sender and a recipient, none of them open yet.
func (l *Lab) Prepare(n int) {
	for i := range n {
		p := Policy
		p.Rate += wire.Psat(i)
		l.home(fmt.Sprintf("agent-%d", i), &p)
	}
	l.home("sender", nil)
	l.home("recipient", nil)
}

// Home returns the node with a name.
func (l *Lab) Home(name string) *Home {
	l.T.Helper()
	i := slices.IndexFunc(l.homes, func(h *Home) bool { return h.Name == name })
	if i < 0 {
		l.T.Fatalf("no home is called %s", name)
	}
	return l.homes[i]
}

// Homes are all nodes, agents first.
func (l *Lab) Homes() []*Home { return l.homes }

func (l *Lab) home(name string, p *deal.Policy) *Home {
	seed := make([]byte, 64)
	for i := range 8 {
		binary.BigEndian.PutUint64(seed[8*i:], l.Rand.Uint64())
	}
	h := &Home{Name: name, lab: l}
	h.Cfg = node.Config{Dir: filepath.Join(l.dir, name), Network: wire.Regtest, Seed: seed, Chain: l.Chain, Policy: p}
	// Each host has an address in a network of its own.
	for range 2 {
		h.ips = append(h.ips, l.Net.NewIP())
	}
	if p != nil {
		h.Cfg.Listen = []string{fmt.Sprintf("/ip4/%s/udp/4001/quic-v1", h.ips[1])}
	}
	l.homes = append(l.homes, h)
	return h
}

// Agent reports whether the home is an agent's.
func (h *Home) Agent() bool { return h.Cfg.Policy != nil }

// Open opens the node from its files, and waits until it is in the DHT.
func (h *Home) Open() {
	h.lab.T.Helper()
	cfg := h.Cfg
	for _, o := range h.lab.homes {
		if o != h && o.Agent() && len(cfg.Seeds) < 3 {
			id, err := p2p.PeerID(o.Key())
			h.lab.must(err)
			cfg.Seeds = append(cfg.Seeds, fmt.Sprintf("%s/p2p/%s", o.Cfg.Listen[0], id))
		}
	}
	made := 0
	cfg.Host = func(c p2p.Config) (*p2p.Host, error) {
		c.Transports = h.lab.Net.Transports(h.ips[made])
		made++
		return p2p.New(c)
	}
	if h.Plan != nil {
		cfg.Intercept = func(e engine.Executor) engine.Executor { return killer{e, h.Plan} }
	}
	if h.Backup != nil {
		h.watch(&cfg)
	}
	n, err := node.Open(cfg)
	h.lab.must(err)
	h.Node = n
	n.Start()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = n.Directory.WaitNetwork(ctx) // if the network is down, the node keeps trying
}

// Cut disconnects homes from the network, until Net.Heal.
func (l *Lab) Cut(homes ...*Home) {
	for _, h := range homes {
		l.Net.Cut(h.ips...)
	}
}

// Close stops the node in good order.
func (h *Home) Close() {
	h.lab.T.Helper()
	h.lab.must(h.Node.Close())
	h.Node = nil
}

// Up returns the running nodes.
func (l *Lab) Up() (list []*Home) {
	for _, h := range l.homes {
		if h.Node != nil {
			list = append(list, h)
		}
	}
	return list
}

// Settle waits until all nodes have seen the tip and have nothing left to do;
// it reopens nodes that a plan has killed. A node that is still busy after an
// hour of the lab's time fails the test.
func (l *Lab) Settle() {
	l.T.Helper()
	tip, err := l.Chain.Tip(context.Background())
	l.must(err)
	for end := time.Now().Add(time.Hour); ; time.Sleep(50 * time.Millisecond) {
		synctest.Wait()
		l.reopen()
		l.restore()
		busy := ""
		for _, h := range l.Up() {
			if !h.Node.Engine().Idle(tip.Height) {
				busy = h.Name
			}
		}
		if busy == "" {
			return
		}
		if time.Now().After(end) {
			l.T.Fatalf("%s does not come to rest at height %d", busy, tip.Height)
		}
	}
}

// Mine mines n blocks one by one, and lets all nodes react to each.
func (l *Lab) Mine(n int) {
	l.T.Helper()
	for range n {
		_, err := l.Chain.Mine(context.Background(), 1, l.miner)
		l.must(err)
		l.Settle()
	}
}

// Skip mines n blocks at once.
func (l *Lab) Skip(n int) {
	l.T.Helper()
	_, err := l.Chain.Mine(context.Background(), n, l.miner)
	l.must(err)
	l.Settle()
}

// Reorg replaces the last depth blocks by one more without some transactions.
func (l *Lab) Reorg(depth int, without ...wire.Hash) {
	l.T.Helper()
	l.must(l.Chain.Reorg(context.Background(), depth, l.miner, without...))
	l.Settle()
}

// Height is the tip's.
func (l *Lab) Height() wire.Height {
	tip, err := l.Chain.Tip(context.Background())
	l.must(err)
	return tip.Height
}

// Fund pays a home from the chain's faucet.
func (l *Lab) Fund(h *Home, amount wire.Sat) {
	l.T.Helper()
	_, script, err := h.Node.Coins.NewAddress(context.Background())
	l.must(err)
	_, err = l.Chain.Faucet(context.Background(), script, amount)
	l.must(err)
	l.Mine(1)
}

// Message is one that a sender of the lab has sent.
type Message struct {
	From, To *Home
	Ref      engine.Ref
	Body     []byte
}

// Terms of the lab's messages.
const (
	StoreBlocks = 24
	MaxCost     = wire.Sat(100_000)
)

// Send sends body through three agents.
func (l *Lab) Send(from, to *Home, body []byte, shape wire.Shape) *Message {
	l.T.Helper()
	priv := to.Key()
	ref, err := from.Node.Delivery.Send(context.Background(), delivery.Letter{To: priv, Body: bytes.NewReader(body), Agents: 3, Shape: shape,
		MaxCost: MaxCost, Blocks: StoreBlocks})
	l.must(err)
	l.Settle()
	return &Message{From: from, To: to, Ref: ref, Body: body}
}

// Key is the identity's, also of one that is down.
func (h *Home) Key() wire.Key {
	k, err := node.KeyOf(h.Cfg.Seed)
	h.lab.must(err)
	return k
}

// State is the sender's side of a message.
func (m *Message) State() deal.Sender {
	m.From.lab.T.Helper()
	s, err := m.From.Node.Engine().State(context.Background(), m.Ref)
	m.From.lab.must(err)
	return s.(deal.Sender)
}

// Follow mines until the sender's deal is over and everything in it is final,
// and returns it.
func (l *Lab) Follow(m *Message) deal.Sender {
	l.T.Helper()
	for i := range 200 {
		if i < 14 {
			l.Mine(1)
		} else {
			l.Skip(10) // nothing happens before the refund
		}
		if s := m.State(); s.Interest().Done {
			l.Mine(int(deal.MarginsFor(wire.Regtest).Final))
			return s
		}
	}
	l.T.Fatal("the deal does not end")
	return deal.Sender{}
}

// Read returns a recipient's only message, or nil if it has not read it.
func (l *Lab) Read(h *Home) []byte {
	l.T.Helper()
	var raw []byte
	l.must(h.Node.Delivery.Received(context.Background(), func(ref engine.Ref, r deal.Recipient) error {
		if r.Phase != deal.RecipientRead {
			return nil
		}
		f, err := h.Node.Delivery.Message(ref)
		l.must(err)
		defer f.Close()
		_, body, err := mail.Extract(f)
		l.must(err)
		raw, err = io.ReadAll(body)
		return err
	}))
	return raw
}

// Balanced checks that the parties' money and the miners' fees add up to the
// purse: no satoshi is lost or created.
func (l *Lab) Balanced(purse wire.Sat) {
	l.T.Helper()
	if missing := l.Missing(purse); missing != 0 {
		l.T.Errorf("of %v, %v are missing", purse, missing)
	}
}

// Missing returns the part of the purse that neither the parties nor the miners
// have.
func (l *Lab) Missing(purse wire.Sat) wire.Sat {
	l.T.Helper()
	ctx := context.Background()
	total := wire.Sat(0)
	for _, h := range l.Up() {
		b, err := h.Node.Coins.Balance(ctx)
		l.must(err)
		if b.Locked != 0 || b.Pending != 0 {
			l.T.Errorf("%s has %v locked and %v pending", h.Name, b.Locked, b.Pending)
		}
		total += b.Confirmed
	}
	return purse - total - l.Fees()
}

// Fees returns the fees of all transactions after the first one, the faucet's.
func (l *Lab) Fees() wire.Sat { return books.Fees(l.T, l.Chain) }

// Banker creates a home that accepts penny banks, and forwards payments if fees
// are set; it is not open yet.
func (l *Lab) Banker(name string, fees *wire.Fees) *Home {
	h := l.home(name, nil)
	h.Cfg.Banking = &banking.Policy{Policy: bank.Policy{MinValue: 1_000, MaxRungs: wire.MaxRungs, MaxBanks: 100}, Fees: fees}
	h.Cfg.Listen = []string{fmt.Sprintf("/ip4/%s/udp/4001/quic-v1", h.ips[1])}
	return h
}

// Peer returns the address of a home that accepts banks, for others.
func (h *Home) Peer() bank.Peer { return bank.Peer{Key: h.Key(), Addrs: h.Cfg.Listen} }
