package node

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// advertiser is a town with an agent that has money, and somebody else.
func advertiser(t *testing.T) (w *town, agent, other *home) {
	w = emptyTown(t)
	genesis := wire.Height(0)
	w.hints = &genesis
	agent = w.openApart("agent", &deal.Policy{Rate: 20_000_000, MaxSize: 1 << 30, MaxBlocks: 1008, ValidFor: 12, Patience: 4, MaxStored: 1 << 30, MaxUnfunded: 1 << 28})
	other = w.openApart("other", nil)
	for _, h := range []*home{agent, other} {
		w.fund(h, 1_000_000)
	}
	agent.node.cfg.Advertise = &Advertise{MaxBurn: 10_000}
	return w, agent, other
}

// once is advertiseOnce when the wallet and the index have read the chain.
func (h *home) once() error {
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := h.node.advertiseOnce(h.town.t.Context()); !errors.Is(err, errApart) || time.Now().After(end) {
			return err
		}
	}
}

// hinting is how many unconfirmed transactions of the wallet pay for the hint.
func (h *home) hinting() (n int) {
	h.town.t.Helper()
	hint := hintOf(h.town.t, h)
	script, err := HintScript(hint)
	must(h.town.t, err)
	must(h.town.t, h.node.store.View(h.town.t.Context(), func(tx engine.Tx) error {
		txs, err := h.node.wallet.Unconfirmed(tx)
		for _, t := range txs {
			for _, o := range t.TxOut {
				if string(o.PkScript) == string(script) {
					n++
				}
			}
		}
		return err
	}))
	return n
}

// TestAdvertiseOnce: an agent pays once for its hint, whatever becomes of the
// payment: it waits, is bumped, the home is closed, a block has it, a reorg takes
// it away.
func TestAdvertiseOnce(t *testing.T) {
	w, agent, _ := advertiser(t)
	balance := func() wire.Sat {
		b, err := agent.node.Balance(t.Context())
		must(t, err)
		return b.Confirmed + b.Pending
	}
	full := balance()
	must(t, agent.once())
	var txid wire.Hash
	must(t, agent.node.store.View(t.Context(), func(tx engine.Tx) error {
		txs, err := agent.node.wallet.Unconfirmed(tx)
		txid = contract.Txid(txs[0])
		return err
	}))
	must(t, agent.once())
	if n := agent.hinting(); n != 1 {
		t.Fatalf("%d payments", n)
	}
	_, err := agent.node.Bump(t.Context(), txid, 5_000)
	must(t, err)
	must(t, agent.once())
	if n := agent.hinting(); n != 1 {
		t.Fatalf("%d payments after a bump", n)
	}
	agent.cfg.Listen = agent.node.Addrs()
	must(t, agent.node.Close())
	agent.start()
	agent.node.cfg.Advertise = &Advertise{MaxBurn: 10_000}
	must(t, agent.once())
	if n := agent.hinting(); n != 1 {
		t.Fatalf("%d payments after a restart", n)
	}
	w.mine(1)
	must(t, agent.once())
	paid := full - balance()
	if n := agent.hinting(); n != 0 || paid <= 0 || paid > 5_000 {
		t.Fatalf("%d payments wait when one is confirmed, %v paid", n, paid)
	}
	if _, err := agent.node.Register(t.Context(), hintOf(t, agent), 0, 0); !errors.Is(err, ErrStands) {
		t.Errorf("registered again: %v", err)
	}
	must(t, w.chain.Reorg(t.Context(), 1, w.miner))
	w.mine(1)
	must(t, agent.once())
	if got := full - balance(); got != paid {
		t.Errorf("%v paid after a reorg, %v before", got, paid)
	}
}

// TestAdvertiseLimit: whoever outbids an agent again and again does not make it
// burn more than its operator allows.
func TestAdvertiseLimit(t *testing.T) {
	tier.NotShort(t)
	w, agent, other := advertiser(t)
	rival := hintOf(t, agent)
	rival.Addr = netip.MustParseAddrPort("127.0.0.1:1")
	bids := 0
	for round := range 20 {
		needed := wire.Sat(0)
		for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			_, err := other.node.Register(t.Context(), rival, needed, 0)
			if err == nil {
				break
			}
			var e blockname.Entry
			if e, needed, err = other.node.Entry(t.Context(), rival); err != nil || time.Now().After(end) {
				t.Fatalf("round %d: %v %v", round, e, err)
			}
			needed = max(needed, 1)
		}
		w.mine(1)
		err := agent.once()
		if errors.Is(err, ErrOutbid) {
			if trouble := agent.node.HintTrouble(); !errors.Is(trouble, ErrHintLost) || !errors.Is(trouble, ErrOutbid) {
				t.Errorf("the hint is lost, and the node says %v", trouble)
			}
			break
		}
		must(t, err)
		must(t, agent.node.HintTrouble())
		bids++
		w.mine(int(deal.MarginsFor(wire.Regtest).BlocksPerDay))
	}
	e, _, err := agent.node.Entry(t.Context(), hintOf(t, agent))
	must(t, err)
	for _, b := range e {
		if b.Hint == hintOf(t, agent) && b.Burned > 10_000 {
			t.Errorf("%v burned", b.Burned)
		}
	}
	if bids < 5 || bids > 14 {
		t.Errorf("%d bids", bids)
	}
}

// TestHintQuota: hints that name one network do not make a node ask it as often as
// they like, nor keep others from being asked.
func TestHintQuota(t *testing.T) {
	w := emptyTown(t)
	h := w.openApart("node", nil)
	q := &quota{limit: 3, of: map[string]int{}}
	refused := 0
	for port := range 10 {
		hint := blockname.Hint{Kind: blockname.Seed, Name: TLD, DHT: "ab", Multiaddr: "/ip4/127.0.0.1/tcp/" + string(rune('1'+port%9))}
		if _, err := h.node.prove(t.Context(), hint, q); errors.Is(err, errQuota) {
			refused++
		}
	}
	if refused != 7 {
		t.Errorf("%d of 10 refused", refused)
	}
	q.of["victim.example"] = 3
	hint := blockname.Hint{Kind: blockname.Seed, Name: TLD, DHT: "ab", Multiaddr: "/dns4/a.victim.example/tcp/1"}
	if _, err := h.node.prove(t.Context(), hint, q); !errors.Is(err, errQuota) {
		t.Errorf("one more name of a domain: %v", err)
	}
	for name, want := range map[string]bool{"router": true, "printer.local": true, "Localhost.": true, "a.home.arpa": true, "a.example": false, "local.example.": false} {
		if local(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// TestHintSeeds: of one network two seeds are used, in the order of the
// candidates, and each as soon as it is proven.
func TestHintSeeds(t *testing.T) {
	h := newHints()
	var order []blockname.Hint
	for i := range 4 {
		order = append(order, blockname.Hint{Kind: blockname.TLD, Name: TLD, DHT: string(rune('a' + i))})
	}
	at := time.Now()
	for i, c := range []struct {
		hint int
		seed string
		want int
	}{{3, "/ip4/1.2.3.4/tcp/1/p2p/d", 1}, {0, "", 1}, {1, "/ip4/1.2.9.9/tcp/1/p2p/b", 2}, {2, "/ip4/1.2.7.7/tcp/1/p2p/c", 2}} {
		h.tell(order[c.hint], tried{at: at, seed: c.seed}, order, false)
		if len(h.seeds) != c.want {
			t.Errorf("%d: %v", i, h.seeds)
		}
	}
	if !strings.HasSuffix(h.seeds[0], "b") || !strings.HasSuffix(h.seeds[1], "c") {
		t.Errorf("seeds %v", h.seeds)
	}
}

// TestHintDue: what fails is tried ever more slowly, also by a node that knows
// nobody.
func TestHintDue(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		tried
		lone bool
		want time.Duration
	}{
		{tried{at, "", 1}, true, 4 * time.Second},
		{tried{at, "", 5}, true, 64 * time.Second},
		{tried{at, "", 1000}, true, 30 * time.Minute},
		{tried{at, "", 1}, false, 30 * time.Minute},
		{tried{at, "seed", 0}, true, 30 * time.Minute},
	} {
		if got := c.due(c.lone).Sub(at); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
