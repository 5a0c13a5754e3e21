package node

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// hintOf is an agent's own hint.
func hintOf(t testing.TB, h *home) blockname.Hint {
	t.Helper()
	hint, err := h.node.Directory.Hint()
	must(t, err)
	return hint
}

// TestOnlyTheChain: agents and two users that know nothing but a chain find
// one another by the hints of four of them, past false ones; each agent is found
// under its own key, and a message is delivered.
func TestOnlyTheChain(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	genesis := wire.Height(0)
	w.hints = &genesis
	agents := tier.Pick(0, 5, 50)
	var list []*home
	for i := range agents {
		h := w.home(fmt.Sprintf("agent-%d", i), &deal.Policy{Rate: 20_000_000, MaxSize: 1 << 30, MaxBlocks: 1008, ValidFor: 12, Patience: 4, MaxStored: 1 << 30, MaxUnfunded: 1 << 28})
		if i == 3 {
			h.cfg.Listen = []string{"/ip6/::1/udp/0/quic-v1"}
			if c, err := net.ListenPacket("udp", "[::1]:0"); err != nil {
				t.Logf("no IPv6 here, and no seed by QUIC: %v", err)
				h.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
			} else {
				must(t, c.Close())
			}
		}
		h.start()
		list = append(list, h)
	}
	rich := w.openApart("rich", nil)
	w.fund(rich, 1_000_000)
	register := func(h blockname.Hint, burn wire.Sat) {
		t.Helper()
		_, err := rich.node.Directory.Register(t.Context(), h, burn, wallet.Fee{})
		must(t, err)
		w.mine(1)
	}
	// Nobody listens there; somebody else does; a name that leads nowhere.
	register(blockname.Hint{Kind: blockname.TLD, Name: directory.TLD, DHT: "00", Addr: netip.MustParseAddrPort("127.0.0.1:1")}, 30_000)
	false1 := hintOf(t, list[0])
	false1.DHT = strings.Repeat("0", 16)
	register(false1, 20_000)
	register(blockname.Hint{Kind: blockname.Seed, Name: directory.TLD, DHT: "ab", Multiaddr: "/dns/nowhere.invalid/tcp/4001"}, 10_000)
	for i, h := range list[:4] {
		register(hintOf(t, h), wire.Sat(i))
	}
	for _, name := range []string{"sender", "recipient"} {
		w.openApart(name, nil)
		must(t, w.homes[name].node.Directory.WaitNetwork(t.Context()))
	}
	w.fund(w.homes["sender"], 1_000_000)
	got := w.homes["sender"].node.Directory.DHT(false).Hinted()
	if len(got) != 4 {
		t.Errorf("hinted: %v", got)
	}
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		found := 0
		for _, h := range list {
			id, err := p2p.PeerID(h.node.Key())
			must(t, err)
			if near, err := w.homes["sender"].node.Directory.Closest(t.Context(), []byte(id)); err == nil && len(near) > 0 && near[0].Ad.Agent == h.node.Key() {
				found++
			}
		}
		if found == agents {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d agents are found under their keys", found, agents)
		}
	}
	body := []byte("from the chain alone")
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, err := w.homes["sender"].node.Delivery.Send(t.Context(), delivery.Letter{To: w.homes["recipient"].node.Key(), Body: bytes.NewReader(body), Agents: 3, MaxCost: 100_000, Blocks: 24})
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	w.settle()
	w.mine(6)
	if got := w.read(); !bytes.Equal(got, body) {
		t.Errorf("read %q", got)
	}
}
