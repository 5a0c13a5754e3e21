package job

import (
	"flag"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

var worldHash = maphash.MakeSeed()

var worldJobs = flag.Int("world.jobs", 0, "jobs that TestWorld plays; 0 lets the tier choose")

// world is a lab in which everybody may do wrong.
type world struct {
	*lab
	r       *rand.Rand
	evil    uint8 // the party that lies, on the roster at first
	soup    []parcel
	backup  map[int]Node
	muted   int // the honest node that was restored from a backup, or −1
	buyer   int // what the buyer does: 0 is honest, 1 vanishes, 2 deals falsely
	states  map[uint64]bool
	entries map[string]int
}

// TestWorld plays whole jobs of four nodes and a standby in which, at random:
//
//   - one party of the roster is two machines with one key that tell different
//     parties different things, lies about results, withholds messages, opens late,
//     proposes at once, gives false shares or none, and signs votes, locks, changes
//     and commits for whatever it has seen;
//   - the standby calls for attempts at any time, with any number;
//   - the buyer vanishes, or deals false shares, or calls for attempts;
//   - any message is lost, delayed, repeated, or replayed much later;
//   - any honest node crashes: it comes back from its stored state, its messages are
//     lost and its effects are carried out again; one comes back from an old backup;
//   - any node's view of the chain loses the funding and gets it back;
//   - a second node stops for good.
//
// Held after every step, in every run: one certificate of each epoch, of the right
// state; at most n counters rise, each by one, and only of members; nobody works more
// than D epochs unpaid; no honest party is named by a proof, so none signs two values
// in one slot, and the buyer only if it dealt falsely; no share is given of a penny
// that is not certified. The space cannot be exhausted: these are random walks from a printed
// seed, which report how many different states of machines they have seen.
func TestWorld(t *testing.T) {
	t.Parallel()
	r := tier.NewSample(t).Rand()
	total, steps, epochs, entries := map[uint64]bool{}, 0, 0, map[string]int{}
	runs := *worldJobs
	if runs == 0 {
		runs = tier.Pick(1, 8, 2000)
	}
	for range runs {
		w := newWorld(t, r.Uint64())
		w.run()
		for s := range w.states {
			total[s] = true
		}
		for k, n := range w.entries {
			entries[k] += n
		}
		steps, epochs = steps+w.steps, epochs+len(w.certs)
	}
	t.Logf("%d runs, %d steps, %d different states of machines, %d epochs certified; %v", runs, steps, len(total), epochs, entries)
	if epochs < runs {
		t.Error("too little was reached")
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 7))
	w := &world{lab: newLab(t, seed, standard(t, 8)), r: r, evil: uint8(r.IntN(4)), backup: map[int]Node{}, muted: -1, states: map[uint64]bool{}, entries: map[string]int{}}
	w.liarsMayBePaid = true // in the epochs in which they do not lie
	w.lose, w.twice = r.IntN(15), r.IntN(20)
	e := w.peers[w.evil]
	switch r.IntN(5) {
	case 0:
		w.double(w.evil)
	case 1:
		lies := map[uint32]bool{}
		e.lies = func(epoch uint32) bool {
			if _, ok := lies[epoch]; !ok {
				lies[epoch] = r.IntN(2) == 0
			}
			return lies[epoch]
		}
	case 2:
		e.rush = true
		e.filter = func(m Message) bool { _, ok := m.(*Opened); return ok && r.IntN(3) > 0 }
	case 3:
		e.spoils = true
	case 4:
		e.stingy = func(k uint32) bool { return k%3 == 0 }
	}
	e.hides = max(e.hides, r.IntN(60))
	if w.buyer = r.IntN(4); w.buyer == 2 {
		node := r.IntN(5)
		list := w.dealt[node][0]
		w.deal.recommit(t, list, func() {
			for j := range list {
				for i := range list[j] {
					list[j][i].Shares[1][3] ^= byte(1 + j) // no two of them fit
				}
			}
		})
	}
	w.away = r.IntN(2) == 0
	return w
}

func (w *world) run() {
	w.start()
	w.play(300, func() bool {
		w.remember()
		if w.r.IntN(40) == 0 {
			w.event()
		}
		w.check()
		return w.finished() || w.steps > 20_000
	})
}

// remember keeps what was said, and counts states.
func (w *world) remember() {
	if n := len(w.wires); n > 0 && w.r.IntN(4) == 0 {
		w.soup = append(w.soup, w.wires[w.r.IntN(n)])
	}
	p := w.peers[w.r.IntN(len(w.peers))]
	b, err := wire.Marshal(&p.node)
	must(w.t, err)
	w.states[maphash.Bytes(worldHash, b)] = true
}

// event is something that goes wrong.
func (w *world) event() {
	i := w.r.IntN(len(w.peers))
	p := w.peers[i]
	what := ""
	switch w.r.IntN(10) {
	case 0, 1, 2:
		what = "forged"
		w.forge()
	case 3, 4:
		if len(w.soup) > 0 {
			what = "replayed"
			m := w.soup[w.r.IntN(len(w.soup))]
			_ = w.step(m.to, Received{From: w.peers[m.from].party, Msg: m.msg})
		}
	case 5:
		what = "crashed"
		b, err := wire.Marshal(&p.node)
		must(w.t, err)
		p.node, p.inbox = Node{}, nil
		must(w.t, wire.Unmarshal(b, &p.node))
		w.wires = slices.DeleteFunc(w.wires, func(m parcel) bool { return m.from == i })
		for _, k := range slices.Clone(w.queue) {
			if k.peer == i {
				w.queue = append(w.queue, k)
			}
		}
	case 6:
		if old, ok := w.backup[i]; ok && w.muted < 0 && p.honest() {
			what = "restored"
			w.muted, p.node = i, old
			must(w.t, w.step(i, Restored{}))
		} else if !ok {
			w.backup[i] = p.node
		}
	case 7:
		what = "reorged"
		if p.node.Funded() {
			must(w.t, w.step(i, Disconnected{contract.Undo{Height: 100}}))
		}
		for _, q := range w.peers { // and back, at some time
			if !q.node.Funded() && w.r.IntN(2) == 0 {
				for _, ev := range w.deal.begun() {
					must(w.t, w.step(slices.Index(w.peers, q), ev))
				}
			}
		}
	case 8:
		if w.r.IntN(20) == 0 {
			what = "dead"
			p.dead = true
		}
	case 9:
		if w.buyer == 1 {
			what = "vanished"
			w.looked = 1 << 30 // deals no more
		}
	}
	if what != "" {
		w.entries[what]++
	}
}

// forge makes something that the liar, the standby or the buyer can sign, from what
// was said, and brings it to some node.
func (w *world) forge() {
	if len(w.soup) == 0 {
		return
	}
	t := &w.deal.terms
	sig := func(h wire.Hash) (s wire.Signature) { s, _ = sign(w.deal.keys[w.evil], h); return s }
	n := &w.peers[w.r.IntN(4)].node
	var out Message
	from := w.evil
	switch m := w.soup[w.r.IntN(len(w.soup))].msg.(type) {
	case *Vote:
		v := *m
		v.Party, v.View = w.evil, v.View+uint32(w.r.IntN(2))
		v.Round |= uint8(w.r.IntN(2)) // a lock for a vote
		v.Sig = sig(v.digest(t))
		out = &v
	case *Change:
		c := *m
		c.Party, c.View = w.evil, c.View+uint32(w.r.IntN(2))
		if w.r.IntN(2) == 0 {
			c.Lock, c.Content = Quorum{}, Content{}
		}
		c.Sig = sig(c.digest(t))
		out = &c
	case *Proposal:
		p := *m
		for v := range uint32(4) {
			if n.proposer(p.Vote.View+v) == w.evil {
				p.Vote.View += v
				break
			}
		}
		p.Vote.Party = w.evil
		if len(p.Content.Set) > int(t.Q) && p.Vote.Round == VoteSet && w.r.IntN(2) == 0 {
			at := w.r.IntN(len(p.Content.Set))
			p.Content.Set = slices.Delete(slices.Clone(p.Content.Set), at, at+1)
			p.Vote.Value = setValue(t, p.Vote.Epoch, p.Vote.Attempt, p.Content.Set)
		}
		p.Vote.Sig = sig(p.Vote.digest(t))
		out = &p
	case *Commit:
		c := *m
		c.Party = w.evil
		c.Hash[0] ^= byte(w.r.IntN(2))
		c.Sig = sig(c.digest(t))
		out = &c
	default:
		v := &Verdict{Epoch: n.cur(), Attempt: 1 + uint32(w.r.IntN(3)), Party: 4, Buyer: w.r.IntN(4) == 0}
		key := w.deal.keys[4]
		if v.Buyer {
			key = w.deal.buyer
		}
		v.Sig, _ = sign(key, v.digest(t))
		out, from = v, 4
	}
	if out.(wire.Limited).Check() != nil {
		return
	}
	for i, q := range w.peers {
		if q.party != from && w.r.IntN(2) == 0 {
			_ = w.step(i, Received{From: from, Msg: out})
		}
	}
}

// check holds what must hold after every step, besides what the lab checks.
func (w *world) check() {
	for _, c := range w.proofs {
		if c.Buyer && w.buyer != 2 || !c.Buyer && c.Party != w.evil {
			w.t.Fatalf("a proof against %v, where party %d lies", c, w.evil)
		}
	}
	paid := make([]uint32, 5)
	for _, p := range w.peers {
		for i, n := range p.node.before().Paid {
			paid[i] = max(paid[i], n)
		}
	}
	for _, c := range w.certs { // who was restored may have been the only one that knew one
		for i, n := range c.Body.Paid {
			paid[i] = max(paid[i], n)
		}
	}
	for at, k := range w.gaveTo {
		if k > paid[at[1]] {
			w.t.Fatalf("CoalitionBound: party %d gives a share of penny %d of party %d, of which %d are certified (%d lies, %d was restored)\n%v", at[0], k, at[1], paid[at[1]], w.evil, w.muted, w.lab)
		}
	}
}
