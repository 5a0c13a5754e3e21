package sim_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/sim"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

const purse = wire.Sat(1_000_000)

// Liars, as services between the network and the agent's own.

// silent takes σ and gives no τ; wrong gives another.
type silent struct {
	p2p.Service
	wrong bool
}

func (s silent) Release(ctx context.Context, r *wire.Release) (*wire.Reveal, error) {
	reveal, err := s.Service.Release(ctx, r)
	if err != nil {
		return nil, err
	}
	if s.wrong {
		reveal.Tau[0] ^= 1
		return reveal, nil
	}
	return nil, errors.New("silence")
}

// garbles hands out altered copies.
type garbles struct{ p2p.Service }

func (g garbles) Copy(ctx context.Context, t *wire.Token, nonce wire.Hash, self, from peer.ID) (io.ReadCloser, uint64, error) {
	f, size, err := g.Service.Copy(ctx, t, nonce, self, from)
	if err != nil {
		return nil, 0, err
	}
	raw, err := io.ReadAll(f)
	if err != nil {
		return nil, 0, err
	}
	raw[len(raw)/2] ^= 1
	return struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(raw), f}, size, nil
}

// refuses takes no copies.
type refuses struct{ p2p.Service }

func (refuses) Store(context.Context, *wire.Package, func() (io.Reader, error)) (*wire.Receipt, error) {
	return nil, &wire.Refusal{Code: wire.Full, Err: errors.New("no room")}
}

// story is a run of the lab and how it has to end.
type story struct {
	shape  wire.Shape
	agents int // 3 unless set
	// serve makes a liar of the i-th agent.
	serve  func(i int, s p2p.Service) p2p.Service
	absent bool
	// during happens once the message is stored and its funding confirmed.
	during func(l *sim.Lab, m *sim.Message)
	want   string
	// restored is whose home is made anew of a backup, and lossy whether that
	// may know nothing of a funding.
	restored string
	lossy    bool
}

var stories = map[string]story{
	"happy":               {want: "delivered"},
	"one-of-many":         {shape: wire.OneOfMany, want: "delivered"},
	"absent-recipient":    {absent: true, want: "refunded"},
	"absent, one-of-many": {absent: true, shape: wire.OneOfMany, want: "refunded"},
	"silent-agent":        {serve: func(_ int, s p2p.Service) p2p.Service { return silent{Service: s} }, want: "delivered"},
	"wrong τ":             {serve: func(_ int, s p2p.Service) p2p.Service { return silent{Service: s, wrong: true} }, want: "delivered"},
	"wrong copies": {serve: func(i int, s p2p.Service) p2p.Service {
		if i == 0 {
			return s
		}
		return garbles{s}
	}, want: "delivered"},
	"all copies wrong": {serve: func(_ int, s p2p.Service) p2p.Service { return garbles{s} }, want: "refunded"},
	"an agent refuses": {agents: 4, serve: func(i int, s p2p.Service) p2p.Service {
		if i == 0 {
			return refuses{s}
		}
		return s
	}, want: "delivered"},
	"agents die": {during: func(l *sim.Lab, m *sim.Message) {
		l.Home("agent-0").Close()
		l.Home("agent-1").Close()
	}, want: "delivered"},
	"all agents die": {during: func(l *sim.Lab, m *sim.Message) {
		for _, h := range l.Homes() {
			if h.Agent() {
				h.Close()
			}
		}
	}, want: "refunded"},
	"the fetched copy is deleted": {during: func(l *sim.Lab, m *sim.Message) {
		l.Settle()
		copies, err := filepath.Glob(filepath.Join(m.To.Cfg.Dir, "incoming", "*.sealed"))
		if err != nil || len(copies) == 0 {
			l.T.Errorf("%d copies, %v", len(copies), err)
		}
		for _, path := range copies {
			if err := os.Remove(path); err != nil {
				l.T.Error(err)
			}
		}
	}, want: "delivered"},
	"the network is cut for hours": {during: func(l *sim.Lab, m *sim.Message) {
		l.Cut(m.To)
		l.Mine(2)
		time.Sleep(3 * time.Hour)
		l.Net.Heal()
	}, want: "delivered"},
}

// play plays a story to its end and checks it.
func (s story) play(l *sim.Lab, before func(l *sim.Lab)) {
	l.T.Helper()
	n := s.agents
	if n == 0 {
		n = 3
	}
	l.Prepare(n)
	for i, h := range l.Homes()[:n] {
		if s.serve != nil {
			h.Cfg.Serve = func(svc p2p.Service) p2p.Service { return s.serve(i, svc) }
		}
	}
	if before != nil {
		before(l)
	}
	for _, h := range l.Homes() {
		h.Open()
	}
	from, to := l.Home("sender"), l.Home("recipient")
	l.Fund(from, purse)
	if s.absent {
		to.Close()
	}
	m := l.Send(from, to, []byte("a letter"), s.shape)
	if s.during != nil {
		if !s.absent {
			to.Close()
		}
		l.Mine(1)
		if !s.absent {
			to.Open()
		}
		s.during(l, m)
	}
	end := l.Follow(m)
	if s.restored != "" {
		// A sender gives up what it had not paid for; a recipient may find that
		// nobody has the message any more, and agents that they have no copy.
		switch end.State() {
		case "delivered", "refunded", "failed":
		default:
			l.T.Errorf("it ends %s: %s", end.State(), end.Failure)
		}
		l.Mine(10)
		l.Skip(3 * sim.StoreBlocks)
		l.Mine(10)
		if !s.absent && end.State() == "delivered" {
			if got := l.Read(to); !bytes.Equal(got, m.Body) {
				l.T.Errorf("read %q", got)
			}
		}
		if lost := l.Missing(purse); lost < 0 || lost > 0 && !s.lossy || lost > sim.MaxCost {
			l.T.Errorf("%v are missing", lost)
		}
		return
	}
	if end.State() != s.want {
		l.T.Errorf("%s, wanted %s: %s", end.State(), s.want, end.Failure)
	}
	if s.want == "delivered" {
		if got := l.Read(to); !bytes.Equal(got, m.Body) {
			l.T.Errorf("read %q", got)
		}
	}
	for _, h := range l.Homes() {
		if h.Node == nil {
			h.Open() // its books count too
		}
	}
	l.Settle()
	l.Balanced(purse)
}

// TestStories plays what may happen to a message over a network that delays, and
// over one that also loses packets: each story with each, or a sample of both.
func TestStories(t *testing.T) {
	names := slices.Sorted(maps.Keys(stories))
	for _, i := range tier.NewSample(t).Choose(2*len(names), tier.Pick(1, 4, 0)) {
		name, loss := names[i/2], []float64{0, 0.05}[i%2]
		t.Run(fmt.Sprintf("%s/loss=%v", name, loss), func(t *testing.T) {
			t.Parallel()
			sim.Run(t, 1, func(l *sim.Lab) {
				l.Net.Set(50*time.Millisecond, loss)
				stories[name].play(l, nil)
			})
		})
	}
}

// effects are all that a role asks for, but for those that are carried out in
// the commit that asks for them.
var effects = map[string][]string{
	"sender":    {"deal.AskQuotes", "deal.SealCopies", "deal.Place", "deal.Publish", "deal.Poll", "deal.Broadcast", "deal.DropPayload"},
	"agent":     {"deal.ClaimDue", "deal.Broadcast", "deal.DropPayload"},
	"recipient": {"deal.Locate", "deal.Fetch", "deal.Release", "deal.Open", "deal.LeaveAck", "deal.DropPayload"},
}

// point is where the parties of a role are killed: at their N-th effect of a
// type, before the deed or after it.
type point struct {
	who    string
	effect string // as %T prints it
	n      int
	after  bool
}

func (p point) String() string { return fmt.Sprintf("%s-%s-%d-%v", p.who, p.effect, p.n, p.after) }

// pointsOf are the points of each role, in one order: every type of effect, the
// first times that it comes, before the deed and after it.
func pointsOf(effects map[string][]string, times int) map[string][]point {
	points := map[string][]point{}
	for who, list := range effects {
		for _, e := range list {
			for n := range times {
				for _, after := range []bool{false, true} {
					points[who] = append(points[who], point{who, e, n + 1, after})
				}
			}
		}
	}
	return points
}

// crashes runs f with the points at which one run kills. In the nightly tier
// each point has a run of its own, in each story; every effect has to be met. In
// the others a run has one point of each role, chosen by the sample's seed, and
// only some runs are played.
func crashes(t *testing.T, effects map[string][]string, times int, names []string, runs int, f func(t *testing.T, name string, points []point) (killed []point)) {
	var mu sync.Mutex
	hit, met := map[string]bool{}, 0
	t.Cleanup(func() {
		t.Logf("%d points", met)
		if t.Failed() {
			return
		}
		if met == 0 {
			t.Error("nobody was killed")
		}
		for who, list := range effects {
			for _, e := range list {
				if tier.Nightly && !hit[who+" "+e] {
					t.Errorf("no %s was killed at %s", who, e)
				}
			}
		}
	})
	play := func(name string, points ...point) {
		title := name
		for _, p := range points {
			title += "/" + p.String()
		}
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			killed := f(t, name, points)
			if t.Failed() {
				t.Logf("killed at %v", killed)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, p := range killed {
				met++
				hit[p.who+" "+p.effect] = true
			}
		})
	}
	all := pointsOf(effects, times)
	roles := slices.Sorted(maps.Keys(all))
	if tier.Nightly {
		for _, name := range names {
			for _, who := range roles {
				for _, p := range all[who] {
					play(name, p)
				}
			}
		}
		return
	}
	sample := tier.NewSample(t)
	chosen := map[string][]int{}
	for _, who := range roles {
		chosen[who] = sample.Choose(len(all[who]), runs)
	}
	for i := range runs {
		var points []point
		for _, who := range roles {
			p := all[who][chosen[who][i]]
			if i == 0 {
				p.n = 1 // the first story has every effect of some role once, so somebody is killed
			}
			points = append(points, p)
		}
		play(names[i%len(names)], points...)
	}
}

// TestCrashEquivalence kills the parties at their effects, before the deed and
// after it, and opens them again from their files: the end is that of the
// undisturbed run. The points are enumerated: every type of effect, the first
// time that it comes and the second; later ones come from the same state a block
// later.
func TestCrashEquivalence(t *testing.T) {
	crashes(t, effects, 2, []string{"happy", "one-of-many", "absent-recipient"}, tier.Pick(1, 3, 0), func(t *testing.T, name string, points []point) (killed []point) {
		sim.Run(t, 1, func(l *sim.Lab) {
			at := map[*sim.Plan]point{}
			stories[name].play(l, func(l *sim.Lab) {
				for _, p := range points {
					for _, h := range l.Homes() {
						if h.Name == p.who || p.who == "agent" && h.Agent() {
							h.Plan = &sim.Plan{Effect: p.effect, N: p.n, After: p.after}
							at[h.Plan] = p
						}
					}
				}
			})
			for plan, p := range at {
				if plan.Killed() && !slices.Contains(killed, p) {
					killed = append(killed, p)
				}
			}
		})
		return killed
	})
}

// witness sees what passes between senders and agents, and fails the test where
// a secret serves twice: a point for two messages (PointOnce), a nonce for two
// digests (NonceOnce), or an ephemeral key for two fundings.
type witness struct {
	t        *testing.T
	mu       sync.Mutex
	points   map[wire.Key]wire.Hash // T → session of its quote
	packages map[wire.Key]wire.Hash // T → package
	nonces   map[wire.Key]wire.Hash // nonce point of a pre-signature → package
	fundings map[wire.Key]wire.Hash // E → funding
}

type witnessed struct {
	p2p.Service
	*witness
}

func once(t *testing.T, m map[wire.Key]wire.Hash, what string, k wire.Key, v wire.Hash) {
	if old, ok := m[k]; ok && old != v {
		t.Errorf("a %s serves twice: %v", what, k)
	}
	m[k] = v
}

func (w witnessed) Quote(ctx context.Context, from p2p.Caller, r *wire.QuoteRequest) (*wire.Quote, error) {
	q, err := w.Service.Quote(ctx, from, r)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		once(w.t, w.points, "point", q.Point, q.Session)
	}
	return q, err
}

func (w witnessed) Store(ctx context.Context, p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
	r, err := w.Service.Store(ctx, p, proceed)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		once(w.t, w.packages, "point", p.Section.Leaf.Point, p.Digest())
		once(w.t, w.nonces, "nonce", wire.Key(p.PreSig[1:33]), p.Digest())
		tx, err := contract.DecodeTx(p.Funding)
		if err != nil {
			return nil, err
		}
		data, _ := contract.Marker(tx)
		m, err := seal.DecodeMarker(data)
		if err != nil {
			return nil, err
		}
		once(w.t, w.fundings, "ephemeral key", m.E, contract.Txid(tx))
	}
	return r, err
}

// TestRestore loses each party's disk after each kind of effect and of answer,
// at once or blocks later, and makes the home anew of a backup from before it:
// nothing serves twice, and the books balance. What a backup cannot know is a
// funding that was built after it; then no more is missing than that froze.
func TestRestore(t *testing.T) {
	tier.NotShort(t)
	var mu sync.Mutex
	hit := map[string]bool{}
	type loss struct {
		who, at string
		later   wire.Height
	}
	var losses []loss
	for who, list := range map[string][]string{
		"sender":    effects["sender"],
		"agent":     append([]string{"Quote", "Store", "Release", "Acknowledge"}, effects["agent"]...),
		"recipient": effects["recipient"],
	} {
		for _, at := range list {
			losses = append(losses, loss{who, at, 0}, loss{who, at, 3})
		}
	}
	slices.SortFunc(losses, func(a, b loss) int { return cmp.Or(cmp.Compare(a.who, b.who), cmp.Compare(a.at, b.at)) })
	t.Cleanup(func() {
		for _, l := range losses {
			if !hit[l.who+" "+l.at] && tier.Nightly && !t.Failed() {
				t.Errorf("no %s was restored from before %s", l.who, l.at)
			}
		}
	})
	for _, i := range tier.NewSample(t).Choose(len(losses), 3) {
		l := losses[i]
		t.Run(fmt.Sprintf("%s/%s/later=%d", l.who, l.at, l.later), func(t *testing.T) {
			t.Parallel()
			name := "happy"
			if l.who == "sender" && l.at == "deal.Broadcast" {
				name = "absent-recipient"
			}
			if restore(t, stories[name], l.who, l.at, l.later) {
				mu.Lock()
				hit[l.who+" "+l.at] = true
				mu.Unlock()
			}
		})
	}
}

// restore plays a story in which the parties of a role, of agents the first,
// are made anew of a backup, and reports whether it came to that.
func restore(t *testing.T, s story, who, at string, later wire.Height) (restored bool) {
	sim.Run(t, 1, func(l *sim.Lab) {
		w := &witness{t: t, points: map[wire.Key]wire.Hash{}, packages: map[wire.Key]wire.Hash{}, nonces: map[wire.Key]wire.Hash{}, fundings: map[wire.Key]wire.Hash{}}
		s.serve = func(_ int, svc p2p.Service) p2p.Service { return witnessed{svc, w} }
		s.restored = who
		// The funding is built when the copies are sealed and the coins locked.
		s.lossy = who == "sender" && (at == "deal.AskQuotes" || at == "deal.SealCopies")
		var backups []*sim.Backup
		s.play(l, func(l *sim.Lab) {
			for _, h := range l.Homes() {
				if h.Name == who || who == "agent" && h.Agent() {
					h.Backup = &sim.Backup{At: at, N: 1, Later: later}
					backups = append(backups, h.Backup)
				}
			}
		})
		for _, b := range backups {
			restored = restored || b.Restored()
		}
	})
	return restored
}

// TestReorgUndo: a reorg of every depth to six, after each of the first ten
// blocks of a message's life, that drops funding and claim from the blocks it
// takes back. They come back, and the end is the same.
func TestReorgUndo(t *testing.T) {
	tier.NotShort(t)
	const depths, blocks = 6, 10
	for _, i := range tier.NewSample(t).Choose(depths*blocks, 3) {
		depth, after := 1+i/blocks, 1+i%blocks
		t.Run(fmt.Sprintf("depth=%d/after=%d", depth, after), func(t *testing.T) {
			t.Parallel()
			s := stories["happy"]
			s.during = func(l *sim.Lab, m *sim.Message) {
				l.Mine(after - 1)
				state := m.State()
				without := []wire.Hash{state.Txid}
				for _, f := range state.Spends {
					if f != nil {
						without = append(without, f.Txid)
					}
				}
				l.Reorg(depth, without...)
			}
			sim.Run(t, 1, func(l *sim.Lab) { s.play(l, nil) })
		})
	}
}

var only = flag.Uint64("sim.seed", 0, "play the faults of this seed alone")

// TestFaults plays a message through a bad day: packets are lost, nodes are cut
// off, killed and opened again, blocks reorged, and the clock jumps. However it
// ends, it ends, no satoshi is missing, and the sender has paid no more than it
// froze, and fees.
func TestFaults(t *testing.T) {
	tier.NotShort(t)
	seeds := []uint64{*only}
	if *only == 0 {
		seeds = seeds[:0]
		for _, i := range tier.NewSample(t).Choose(8, 1) {
			seeds = append(seeds, uint64(i+1))
		}
	}
	ends := map[string]int{}
	var mu sync.Mutex
	t.Cleanup(func() { t.Logf("%v", ends) })
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			sim.Run(t, seed, func(l *sim.Lab) {
				end := faults(l)
				mu.Lock()
				defer mu.Unlock()
				ends[end]++
			})
		})
	}
}

func faults(l *sim.Lab) string {
	l.Prepare(4)
	all := l.Homes()
	for _, h := range all {
		h.Open()
	}
	from, to := l.Home("sender"), l.Home("recipient")
	l.Fund(from, purse)
	l.Net.Set(time.Duration(l.Rand.IntN(200))*time.Millisecond, 0.15*l.Rand.Float64())
	shape := wire.Shape(l.Rand.IntN(2))
	m := l.Send(from, to, []byte("through a bad day"), shape)
	for range 14 {
		h := all[l.Rand.IntN(len(all))]
		switch l.Rand.IntN(8) {
		case 0:
			l.Cut(h)
		case 1:
			l.Net.Heal()
		case 2:
			if h.Node != nil && h != from {
				h.Close()
			}
		case 3, 4:
			role := "agent"
			if !h.Agent() {
				role = h.Name
			}
			if h.Node != nil {
				h.Close()
			}
			h.Plan = &sim.Plan{Effect: effects[role][l.Rand.IntN(len(effects[role]))], N: 1, After: l.Rand.IntN(2) == 0}
			h.Open()
		case 5:
			var without []wire.Hash
			if s := m.State(); l.Rand.IntN(2) == 0 && len(s.Funding) > 0 {
				without = append(without, s.Txid)
			}
			l.Reorg(1+l.Rand.IntN(6), without...)
		case 6:
			time.Sleep(time.Hour)
		}
		for _, h := range all {
			if h.Node == nil && l.Rand.IntN(3) == 0 {
				h.Open()
			}
		}
		l.Mine(1)
	}
	l.Net.Heal()
	l.Net.Set(5*time.Millisecond, 0)
	for _, h := range all {
		if h.Node == nil {
			h.Open()
		}
	}
	l.Settle()
	s := l.Follow(m)
	l.Settle()
	l.Balanced(purse)
	b, err := from.Node.Coins.Balance(context.Background())
	if err != nil {
		l.T.Fatal(err)
	}
	frozen := wire.Sat(0)
	for i, f := range s.Spends {
		if f != nil && f.Claim >= 0 {
			frozen += s.Values[i]
		}
	}
	if fees := l.Fees(); b.Confirmed < purse-frozen-fees {
		l.T.Errorf("the sender holds %v of %v, having paid %v to agents and at most %v in fees", b.Confirmed, purse, frozen, fees)
	}
	read := l.Read(to) != nil
	if s.Delivered() && !read {
		l.T.Errorf("delivered, says the sender, and nothing was read")
	}
	return fmt.Sprintf("%s, read: %v", s.State(), read)
}
