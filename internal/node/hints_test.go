package node

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// seedHint is the hint of an agent's own first TCP address.
func seedHint(t *testing.T, h *home, digits int) blockname.Hint {
	t.Helper()
	id, err := p2p.PeerID(h.node.Key())
	must(t, err)
	for _, a := range h.node.Addrs() {
		parts := strings.Split(a, "/")
		if len(parts) == 5 && parts[1] == "ip4" && parts[3] == "tcp" {
			at, err := netip.ParseAddrPort(parts[2] + ":" + parts[4])
			must(t, err)
			return blockname.Hint{Kind: blockname.TLD, Name: TLD, DHT: PlaceOf(id)[:digits], Addr: at}
		}
	}
	t.Fatalf("no TCP among %v", h.node.Addrs())
	return blockname.Hint{}
}

// TestOnlyTheChain: nodes that know nothing but a chain find one another by the
// hints on it, past false ones, and a message is delivered among them.
func TestOnlyTheChain(t *testing.T) {
	w := emptyTown(t)
	genesis := wire.Height(0)
	w.hints = &genesis
	for i := range 3 {
		w.open(fmt.Sprintf("agent-%d", i), &deal.Policy{Rate: 20_000_000, MaxSize: 1 << 30, MaxBlocks: 1008, ValidFor: 12, Patience: 4, MaxStored: 1 << 30, MaxUnfunded: 1 << 28})
	}
	rich := w.openApart("rich", nil)
	w.fund(rich, 1_000_000)
	register := func(h blockname.Hint, burn wire.Sat) {
		t.Helper()
		_, err := rich.node.Register(t.Context(), h, burn, 0)
		must(t, err)
		w.mine(1)
	}
	// Nobody listens there; somebody else does; a name that leads nowhere.
	register(blockname.Hint{Kind: blockname.TLD, Name: TLD, DHT: "00", Addr: netip.MustParseAddrPort("127.0.0.1:1")}, 30_000)
	false1 := seedHint(t, w.homes["agent-0"], 16)
	false1.DHT = strings.Repeat("0", 16)
	register(false1, 20_000)
	register(blockname.Hint{Kind: blockname.Seed, Name: TLD, DHT: "ab", Multiaddr: "/dns/nowhere.invalid/tcp/4001"}, 10_000)
	for i := range 3 {
		register(seedHint(t, w.homes[fmt.Sprintf("agent-%d", i)], 16), wire.Sat(i))
	}
	for _, name := range []string{"sender", "recipient"} {
		w.openApart(name, nil)
		must(t, w.homes[name].node.WaitNetwork(t.Context()))
	}
	w.fund(w.homes["sender"], 1_000_000)
	got := w.homes["sender"].node.hinted()
	if len(got) != 3 {
		t.Errorf("hinted: %v", got)
	}
	body := []byte("from the chain alone")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_, err := w.homes["sender"].node.Send(t.Context(), Letter{To: w.homes["recipient"].node.Key(), Body: bytes.NewReader(body), Agents: 3, MaxCost: 100_000, Blocks: 24})
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
