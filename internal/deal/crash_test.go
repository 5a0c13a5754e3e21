package deal_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/testing/ledger"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// crashStories are the stories that TestCrashEquivalence disturbs. Blocks alone
// finish each of them once the message is sent.
var crashStories = []crashStory{
	{name: "happy", paid: 1},
	{name: "refused", paid: 1, refused: true},
	{name: "silent agent", paid: 2, fault: func(w *town) { w.first().silent = true }},
	{name: "wrong copy", paid: 1, fault: func(w *town) { w.first().garbles = true }},
	{name: "wrong τ", paid: 2, fault: func(w *town) { w.first().wrongTau = true }},
	{name: "absent recipient", fault: func(w *town) { w.present = false }},
	{name: "one of many", paid: 1, shape: wire.OneOfMany},
	{name: "reorg of funding", paid: 1, drop: func(w *town) (wire.Hash, bool) {
		return w.sender.Txid, w.recipient != nil && w.recipient.Phase == deal.RecipientRead
	}},
	{name: "reorg of claim", paid: 1, drop: func(w *town) (txid wire.Hash, ok bool) {
		a := w.first()
		if ok = a.state != nil && a.state.Spend != nil; ok {
			txid = a.state.Spend.Txid
		}
		return txid, ok
	}},
}

type crashStory struct {
	name    string
	shape   wire.Shape
	refused bool                          // an agent does not accept its copy
	paid    int                           // outputs that agents claim in the end
	fault   func(*town)                   // of a party, once the message is sent; nil for none
	drop    func(*town) (wire.Hash, bool) // says when a reorg drops a transaction, and which; nil for never
}

// TestCrashEquivalence: if a party crashes at any effect, before it is carried
// out or after it but before its result is stored, and returns at once or two
// blocks later, the outcome is the same as without the crash, and no nonce and
// no point is used twice. On its return a party is told of the blocks that it
// missed, and then carries out its pending effects, as the engine does.
func TestCrashEquivalence(t *testing.T) {
	t.Parallel()
	sample := tier.NewSample(t)
	crashes, seen := 0, map[string]bool{}
	for i, s := range crashStories {
		if tier.Short() && i%4 != 0 {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			calm := newTown(t, &crash{at: -1}, s)
			// forks are the undisturbed town before each of its blocks.
			forks := []*town{calm.fork(&crash{at: -1})}
			for calm.tip() < calm.last {
				calm.next()
				forks = append(forks, calm.fork(&crash{at: -1}))
			}
			want := calm.outcome()
			t.Logf("%d effects, %+v", calm.crash.n, want)
			read := s.paid > 0
			if want.read != read || want.delivered != read || strings.Count(want.coins, "claimed") != s.paid || want.watching != "" || want.reused || calm.dropped != (s.drop != nil) {
				t.Fatal("undisturbed, it does not end as it should")
			}
			// A run begins at the last block before its crash.
			run := func(c crash) (*town, outcome) {
				var w *town
				if at := sort.Search(len(forks), func(i int) bool { return forks[i].crash.n > c.at }); at > 0 {
					w = forks[at-1].fork(&c)
				} else {
					w = newTown(t, &c, s) // while the message is sent
				}
				w.end()
				return w, w.outcome()
			}
			for at, what := range calm.crash.list {
				if seen[what] = true; !sample.Of(40, 12) {
					continue
				}
				for _, after := range []bool{false, true} {
					for _, down := range []wire.Height{0, 2} {
						w, got := run(crash{at: at, after: after, down: down})
						if got != want {
							t.Errorf("crash at effect %d (%s), after it %v, down for %d blocks: %+v, undisturbed %+v\n%s",
								at, what, after, down, got, want, strings.Join(w.crash.list, "\n"))
						}
						crashes++
					}
				}
			}
		})
	}
	for _, what := range []string{"S AskQuotes", "S SealCopies", "S LockCoins", "S UnlockCoins", "S Place", "S Publish", "S Broadcast",
		"S Poll", "S DropPayload", "A ClaimDue", "A Broadcast", "A DropPayload", "R Locate", "R Fetch", "R Release", "R Open", "R LeaveAck", "R DropPayload"} {
		if !seen[what] && !tier.Short() {
			t.Errorf("no story has the effect %s", what)
		}
		delete(seen, what)
	}
	if len(seen) > 0 {
		t.Errorf("effects missing from the list above: %v", seen)
	}
	t.Logf("%d crashes", crashes)
}

// crash says at which effect a party crashes. A nil crash means none.
type crash struct {
	at    int // number of the effect
	after bool
	down  wire.Height // blocks

	n       int      // effects so far
	list    []string // and what they were
	who     string   // is down, or catches up
	away    bool     // hears nothing
	pending []func()
	used    map[[32]byte]wire.Hash // nonces and points, and the package in which each was used
	reused  bool
}

// deaf reports whether who is down.
func (c *crash) deaf(who string) bool { return c != nil && c.away && c.who == who }

func (c *crash) perform(who string, e deal.Effect, do func(deal.Effect)) {
	if who == c.who {
		c.pending = append(c.pending, func() { c.perform(who, e, do) })
		return
	}
	n := c.n
	c.n++
	c.list = append(c.list, who[:1]+" "+strings.TrimPrefix(fmt.Sprintf("%T", e), "deal."))
	if n == c.at {
		c.who, c.away = who, true
		c.pending = append(c.pending, func() { c.perform(who, e, do) })
		if !c.after {
			return
		}
	}
	if p, ok := e.(deal.Place); ok {
		for _, once := range [][32]byte{[32]byte(p.Package.PreSig[1:33]), p.Package.Section.Leaf.Point} {
			if old, ok := c.used[once]; ok && old != p.Package.Digest() {
				c.reused = true
			}
			c.used[once] = p.Package.Digest()
		}
	}
	do(e)
}

// town is a world in which a party may crash. Each party follows the chain on
// its own.
type town struct {
	*world
	story   crashStory
	dropped bool // what the story drops
	parties []string
	told    map[string][]chainhash.Hash // the blocks that each party was told of, by height
	back    wire.Height                 // when the crashed party returns
	last    wire.Height                 // by when all is over
}

// newTown is a town in which the message has been sent.
func newTown(t *testing.T, c *crash, s crashStory) *town {
	n := 3
	if s.refused {
		n = 4
	}
	w := &town{world: newWorldOn(t, ledger.New(), 1, n), story: s, told: map[string][]chainhash.Hash{}}
	c.used = map[[32]byte]wire.Hash{}
	w.crash = c
	// Short margins for which two blocks do not matter: no party misses a
	// deadline, and a recipient that turns away from a silent agent does so
	// before that agent claims.
	w.margins.Turn, w.margins.Slack, w.margins.Release, w.margins.Claim, w.margins.Bump = 4, 16, 8, 4, 3
	w.policy.Patience = 9
	var known []chainhash.Hash
	for h := wire.Height(0); h <= w.tip(); h++ {
		known = append(known, w.hash(h))
	}
	w.parties = []string{"S"}
	for _, a := range w.agents {
		w.parties = append(w.parties, a.name)
	}
	w.parties = append(w.parties, "R")
	for _, p := range w.parties {
		w.told[p] = slices.Clone(known)
	}
	if s.refused { // by the agent that is certainly chosen
		first := slices.MinFunc(w.agents, func(a, b *agent) int {
			return bytes.Compare(a.key[:], b.key[:])
		})
		first.refuses = true
	}
	const blocks = 8
	w.last = w.tip() + blocks + wire.Height(w.margins.Slack+w.margins.Final) + 6
	w.send(3, s.shape, blocks)
	w.settle()
	if s.fault != nil {
		s.fault(w)
	}
	return w
}

// fork is the same town, with another crash still to come.
func (w *town) fork(c *crash) *town {
	inner := *w.world
	f := *w
	inner.chain, inner.crash, inner.copies, inner.log = w.chain.(*ledger.Ledger).Clone(), c, maps.Clone(w.copies), slices.Clone(w.log)
	src := *w.src
	inner.src, inner.rng = &src, rand.New(&src)
	inner.agents = nil
	for _, a := range w.agents {
		b := *a
		b.world, b.quotes = &inner, maps.Clone(a.quotes)
		inner.agents = append(inner.agents, &b)
	}
	f.world, f.told = &inner, map[string][]chainhash.Hash{}
	for p, known := range w.told {
		f.told[p] = slices.Clone(known)
	}
	c.n, c.list, c.used = w.crash.n, slices.Clone(w.crash.list), maps.Clone(w.crash.used)
	return &f
}

func (w *town) hash(h wire.Height) chainhash.Hash {
	hash, err := w.chain.HashAt(w.t.Context(), h)
	must(w.t, err)
	return hash
}

// first returns the agent that the recipient asks first.
func (w *town) first() *agent {
	key := func(a *agent) wire.Secret {
		sec, err := seal.FromSender(w.sender.Terms.Ephemeral, w.sender.Terms.Recipient)
		must(w.t, err)
		return sec.FetchKey(a.key)
	}
	return slices.MinFunc(w.agents, func(a, b *agent) int {
		x, y := key(a), key(b)
		return bytes.Compare(x[:], y[:])
	})
}

// follow brings one party to the chain's tip, unless it crashes on the way.
func (w *town) follow(p string) {
	for {
		last := wire.Height(len(w.told[p]) - 1)
		switch {
		case w.crash.deaf(p):
			return
		case last > w.tip() || w.hash(last) != w.told[p][last]:
			w.told[p] = w.told[p][:last]
			w.tellOne(p, last, deal.Disconnected{Undo: contract.Undo{Height: last}})
		case last < w.tip():
			w.told[p] = append(w.told[p], w.hash(last+1))
			w.tellOne(p, last+1, deal.Connected{Block: contract.Block{Height: last + 1, FeeRate: feeRate, Txs: w.block(last + 1).Transactions}})
		default:
			return
		}
	}
}

func (w *town) tellOne(p string, h wire.Height, ev deal.Event) {
	hears := func(in contract.Interest) bool {
		if b, ok := ev.(deal.Connected); ok {
			return wants(in, b)
		}
		return in.Top >= h
	}
	if i := slices.IndexFunc(w.agents, func(a *agent) bool { return a.name == p }); i >= 0 {
		if a := w.agents[i]; a.state != nil && hears(a.state.Interest()) {
			a.step(ev)
		}
		return
	}
	_, connected := ev.(deal.Connected)
	switch {
	case p == "S" && hears(w.sender.Interest()):
		w.stepSender(ev)
	case p == "R" && w.present && w.recipient == nil && connected:
		w.scan(w.block(h), h)
	case p == "R" && w.recipient != nil && hears(w.recipient.Interest()):
		w.stepRecipient(ev)
	}
}

// settle brings every party to the tip, and restarts a party that was down long
// enough.
func (w *town) settle() {
	for _, p := range w.parties {
		w.follow(p)
	}
	c := w.crash
	if !c.away {
		return
	}
	if w.back == 0 {
		w.back = w.tip() + c.down
	}
	if w.tip() < w.back {
		return
	}
	c.away = false
	w.follow(c.who) // effects of these blocks come after the pending ones
	pending := c.pending
	c.who, c.pending = "", nil
	for _, do := range pending {
		do()
	}
}

// next adds a block, or the reorg of the story.
func (w *town) next() {
	if w.story.drop != nil && !w.dropped {
		if txid, ok := w.story.drop(w); ok {
			w.dropped = true
			w.drop(txid)
			return
		}
	}
	_, err := w.chain.Mine(w.t.Context(), 1, w.miner)
	must(w.t, err)
	w.settle()
}

// drop replaces the blocks from that of a transaction on, without the
// transaction.
func (w *town) drop(txid wire.Hash) {
	for depth := 1; ; depth++ {
		for _, tx := range w.block(w.tip() - wire.Height(depth-1)).Transactions {
			if contract.Txid(tx) == txid {
				must(w.t, w.chain.Reorg(w.t.Context(), depth, w.miner, txid))
				w.settle()
				return
			}
		}
	}
}

// end mines until nothing more happens.
func (w *town) end() {
	for w.tip() < w.last {
		w.next()
	}
}

// outcome is the essential result of a run. Coins are listed by owner, without
// fees.
type outcome struct {
	sender, recipient string // as displayed to people
	delivered         bool
	read              bool // what was sent
	coins             string
	watching          string // the parties that still watch the chain
	reused            bool   // a nonce or point
}

func (w *town) outcome() outcome {
	o := outcome{sender: w.sender.State(), delivered: w.sender.Delivered(), read: bytes.Equal(w.read, w.body), reused: w.crash.reused}
	if w.recipient != nil {
		o.recipient = w.recipient.State()
		if !w.recipient.Interest().Done {
			o.watching += "R "
		}
	}
	if !w.sender.Interest().Done {
		o.watching += "S "
	}
	holds, fees := w.holdings()
	total := holds[string(w.change)] + fees
	for _, a := range w.agents {
		total += holds[string(a.script)]
		if a.state != nil && !a.state.Interest().Done {
			o.watching += a.name + " "
		}
		if holds[string(a.script)] > 0 {
			o.coins += a.name + " "
		}
	}
	if total != w.purseHas {
		o.coins += fmt.Sprintf("of %v, %v are accounted for ", w.purseHas, total)
	}
	for i, f := range w.sender.Spends {
		v := w.sender.Values[i]
		switch {
		case f == nil:
			o.coins += fmt.Sprintf("%v locked ", v)
		case f.Claim >= 0:
			o.coins += fmt.Sprintf("%v claimed ", v)
		default:
			o.coins += fmt.Sprintf("%v refunded ", v)
		}
	}
	return o
}
