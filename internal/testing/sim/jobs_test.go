package sim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/node/computing"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/testing/guests"
	"github.com/bitgram/bitgram/internal/testing/sim"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// steps is the program of the lab's jobs.
func steps(t *testing.T) []byte {
	t.Helper()
	bin, err := sim.Steps()
	if errors.Is(err, guests.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// jobPurse is what the buyer of a job begins with.
const jobPurse = wire.Sat(1_000_000)

// jobLab runs f with a job that is ordered: nodes and standbys, and a buyer. before
// sees the homes before they are opened.
func jobLab(t *testing.T, seed uint64, standbys int, o sim.Order, before func(*sim.Lab, []*sim.Home), f func(*sim.Lab, *sim.Job)) {
	t.Helper()
	program := steps(t)
	cache := t.TempDir()
	sim.Run(t, seed, func(l *sim.Lab) {
		runner, err := wasm.New(context.Background(), wasm.Config{CacheDir: cache})
		if err != nil {
			t.Fatal(err)
		}
		l.OnClose(runner.Close)
		l.Prepare(0)
		var nodes []*sim.Home
		for i := range o.Nodes + standbys {
			nodes = append(nodes, l.Worker(string(rune('a'+i)), runner))
		}
		if before != nil {
			before(l, nodes)
		}
		buyer := l.Home("sender")
		buyer.Open()
		for _, h := range nodes {
			h.Open()
		}
		l.Fund(buyer, jobPurse)
		f(l, l.Order(buyer, nodes, program, o))
	})
}

// liar runs programs and says another state after some epochs.
type liar struct {
	sandbox.Runner
	lies func(epoch uint64) bool
}

func (x liar) Load(ctx context.Context, image io.Reader) (sandbox.Program, error) {
	p, err := x.Runner.Load(ctx, image)
	return lyingProgram{p, x}, err
}

type lyingProgram struct {
	sandbox.Program
	liar liar
}

func (p lyingProgram) Start(ctx context.Context, j *sandbox.Job, from io.Reader) (sandbox.Run, error) {
	r, err := p.Program.Start(ctx, j, from)
	if err != nil {
		return nil, err
	}
	return lyingRun{r, p.liar}, nil
}

type lyingRun struct {
	sandbox.Run
	liar liar
}

func (r lyingRun) Next(ctx context.Context) (*sandbox.Event, error) {
	ev, err := r.Run.Next(ctx)
	if err == nil && r.liar.lies(ev.Epoch) {
		ev.Root[0] ^= 1
	}
	return ev, err
}

// lie makes a home's programs lie in some epochs.
func lie(h *sim.Home, lies func(uint64) bool) { h.Cfg.Runner = liar{h.Cfg.Runner, lies} }

const minutes = 5 * time.Minute

// jobStory is a run of a job and how it ends.
type jobStory struct {
	order    sim.Order
	before   func(l *sim.Lab, nodes []*sim.Home)
	during   func(t *testing.T, l *sim.Lab, j *sim.Job)
	unpaid   []int // parties that need not hold all that they earned
	outcome  job.Outcome
	together bool // the buyer closes with the payees
}

// steady is the usual order: four nodes, a quorum of three.
var steady = sim.Order{Nodes: 4, Quorum: 3, Threshold: 2, Epochs: 8, Window: 8, Patience: 2, Ahead: 2}

func with(f func(*sim.Order)) sim.Order {
	o := steady
	f(&o)
	return o
}

// jobStories are what may happen to a job, by the invariant that each is about.
var jobStories = map[string]jobStory{
	// A bank has taken exactly the pennies that are certified; the buyer closes with the
	// payees.
	"PaidEqualsCommitted": {order: steady, together: true},
	// A node dies for good: the standby takes its seat, and the job ends.
	"OneDeathFinishes": {order: with(func(o *sim.Order) { o.Epochs = 16 }), during: func(t *testing.T, l *sim.Lab, j *sim.Job) {
		j.Until("epoch 2", minutes, func() bool { return j.Node(0).Epoch() >= 2 })
		j.Nodes[1].Kill()
		j.Until("the standby is paid", minutes, func() bool { return j.Node(4).Paid() > 0 })
	}, unpaid: []int{1}},
	// A node is away for a while, and comes back.
	"NodeReturns": {order: steady, during: func(t *testing.T, l *sim.Lab, j *sim.Job) {
		j.Until("epoch 2", minutes, func() bool { return j.Node(0).Epoch() >= 2 })
		j.Nodes[2].Kill()
		j.Until("epoch 4", minutes, func() bool { return j.Node(0).Epoch() >= 4 })
		j.Nodes[2].Open()
	}},
	// A node that lies is named by a proof that anyone can verify.
	"LiarNamed": {order: steady, before: func(l *sim.Lab, nodes []*sim.Home) {
		lie(nodes[3], func(e uint64) bool { return e == 4 })
	}, during: func(t *testing.T, l *sim.Lab, j *sim.Job) {
		j.Until("the job is over", minutes, func() bool { return j.Node(0).Over() })
		named := false
		for i := range 3 {
			for _, p := range j.Proofs(i) {
				who, err := p.Against(&j.Terms)
				if err != nil || who != (job.Culprit{Party: 3}) {
					t.Errorf("%v, %v", who, err)
				}
				named = true
			}
		}
		if !named {
			t.Error("nobody names the liar")
		}
	}},
	// The buyer is away: the job goes on as long as shares are dealt, works for nothing
	// beyond, and goes on when the buyer is back.
	"NodeLoss": {order: with(func(o *sim.Order) { o.Window = 2 }), during: func(t *testing.T, l *sim.Lab, j *sim.Job) {
		j.Until("epoch 1", minutes, func() bool { return j.Node(0).Epoch() >= 1 })
		j.Away = true
		time.Sleep(10 * time.Second)
		if n := j.Node(0); n.Over() || n.Ran > n.Paid()+n.Terms.Ahead {
			t.Errorf("%d epochs were run, %d paid", n.Ran, n.Paid())
		}
		j.Away = false
	}},
	// A reorg drops the funding: nobody works, until it confirms again.
	"ReorgUndo": {order: steady, during: func(t *testing.T, l *sim.Lab, j *sim.Job) {
		j.Until("epoch 2", minutes, func() bool { return j.Node(0).Epoch() >= 2 })
		l.Reorg(int(j.Terms.Depth), j.Terms.Funding)
		time.Sleep(time.Second)
		at := j.Node(0).Epoch()
		time.Sleep(4 * time.Second)
		if n := j.Node(0); n.Epoch() != at || n.Running != 0 || n.Over() {
			t.Errorf("epoch %d after %d, running %d, without a funding", n.Epoch(), at, n.Running)
		}
		l.Mine(int(j.Terms.Depth) + 1)
	}},
	// A program that fails is certified like any other result, and paid.
	"FailureCertified": {order: with(func(o *sim.Order) { o.FailsIn = 7 }), outcome: job.Failed},
	// A home restored from a backup signs nothing, and is still paid for what it earned.
	"RestoredNodePaid": {order: steady, during: func(t *testing.T, l *sim.Lab, j *sim.Job) {
		j.Until("epoch 2", minutes, func() bool { return j.Node(2).Epoch() >= 2 && j.Node(2).Held >= 1 })
		j.Nodes[2].Save()
		j.Until("epoch 4", minutes, func() bool { return j.Node(2).Epoch() >= 4 })
		j.Nodes[2].Restore()
		if !j.Node(2).Muted {
			t.Error("it signs")
		}
	}},
	// The network is cut into two halves, of which neither has a quorum, and heals.
	"PartitionHeals": {order: steady, during: func(t *testing.T, l *sim.Lab, j *sim.Job) {
		j.Until("epoch 2", minutes, func() bool { return j.Node(0).Epoch() >= 2 })
		l.Split(j.Nodes[:2], j.Nodes[2:4])
		time.Sleep(2 * time.Second)
		at := j.Node(0).Epoch()
		time.Sleep(8 * time.Second)
		if e := j.Node(0).Epoch(); e != at {
			t.Errorf("epoch %d was certified by half of the nodes", e)
		}
		l.Net.Heal()
	}},
}

// play plays the story to its end, and checks the books.
func (s jobStory) play(t *testing.T, seed uint64) {
	jobLab(t, seed, 1, s.order, s.before, func(l *sim.Lab, j *sim.Job) {
		j.Begin()
		if s.during != nil {
			s.during(t, l, j)
		}
		j.Until("the job is over and paid", minutes, func() bool { return j.Paid(s.unpaid...) })
		finished(t, l, j, s)
	})
}

// finished checks a job that is over: its evidence, that everybody is paid what is
// certified, that all banks are closed and no satoshi is missing, and that its files
// are gone.
func finished(t *testing.T, l *sim.Lab, j *sim.Job, s jobStory) {
	t.Helper()
	outcome := job.Done
	if s.outcome != 0 {
		outcome = s.outcome
	}
	at := slices.IndexFunc(j.Nodes, func(h *sim.Home) bool { return h.Node != nil && j.HasEnd(slices.Index(j.Nodes, h)) })
	if at < 0 {
		t.Fatal("no node has the result")
	}
	e := j.Evidence(at)
	if last := e.Chain[len(e.Chain)-1].Body; last.Outcome != outcome {
		t.Errorf("outcome %d", last.Outcome)
	}
	if n := strings.Count(string(e.Output), "\n"); outcome == job.Done && n != s.order.Epochs {
		t.Errorf("an output of %d lines:\n%s", n, e.Output)
	}
	// PaidEqualsCommitted
	for i, h := range j.Nodes {
		if h.Node == nil || slices.Contains(s.unpaid, i) {
			continue
		}
		n, y := j.Node(i), j.Payee(i)
		if n.Held != n.Paid() || y.Count() != n.Paid() {
			t.Errorf("%s: %d pennies certified, %d held, %d in the bank", h.Name, n.Paid(), n.Held, y.Count())
		}
	}
	// Conservation
	for _, h := range j.Nodes {
		if h.Node == nil {
			h.Open() // its books count too
		}
	}
	j.Close(s.together)
	l.Balanced(jobPurse)
	for i := range j.Nodes {
		if files := j.Files(i); len(files) > 0 {
			t.Errorf("left of the job: %v", files)
		}
	}
}

// TestJobs plays what may happen to a job, over a network that delays: every story in
// the nightly tier, a sample in the full one, and a short job in the short one.
func TestJobs(t *testing.T) {
	names := slices.Sorted(maps.Keys(jobStories))
	if tier.Short() {
		jobStory{order: with(func(o *sim.Order) { o.Epochs = 3 }), together: true}.play(t, 1)
		return
	}
	for _, i := range tier.NewSample(t).Choose(len(names), tier.Pick(0, 3, 0)) {
		t.Run(names[i], func(t *testing.T) {
			t.Parallel()
			jobStories[names[i]].play(t, 1)
		})
	}
}

// TestRandomJobs plays jobs with liars and deaths at random, chosen by a seed: at most
// one node of a roster is wrong at a time, and the job ends.
func TestRandomJobs(t *testing.T) {
	tier.NotShort(t)
	for _, seed := range tier.NewSample(t).Choose(100, tier.Pick(0, 1, 0)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			randomJob(t, uint64(seed))
		})
	}
}

func randomJob(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	s := jobStory{order: with(func(o *sim.Order) {
		o.Epochs, o.Window, o.Ahead, o.Patience = 6+rng.IntN(6), uint32(4+rng.IntN(8)), uint32(1+rng.IntN(3)), uint8(1+rng.IntN(3))
		if rng.IntN(4) == 0 {
			o.FailsIn = 1 + rng.IntN(o.Epochs)
		}
	})}
	if s.order.FailsIn > 0 {
		s.outcome = job.Failed
	}
	bad := rng.IntN(5) // who lies, dies, or both
	lies := map[uint64]bool{}
	if rng.IntN(3) > 0 {
		for range 1 + rng.IntN(3) {
			lies[uint64(1+rng.IntN(s.order.Epochs))] = true
		}
	}
	s.before = func(l *sim.Lab, nodes []*sim.Home) {
		l.Net.Set(time.Duration(1+rng.IntN(40))*time.Millisecond, float64(rng.IntN(2))*0.03)
		lie(nodes[bad], func(e uint64) bool { return lies[e] })
	}
	s.unpaid = []int{bad}
	s.during = func(t *testing.T, l *sim.Lab, j *sim.Job) {
		other := (bad + 1) % 4
		for range rng.IntN(4) {
			at := j.Node(other).Epoch() + uint32(rng.IntN(3))
			j.Until("some epoch", 2*minutes, func() bool { return j.Node(other).Epoch() >= at || j.Node(other).Over() })
			switch h := j.Nodes[bad]; {
			case h.Node == nil:
				h.Open()
			case rng.IntN(2) == 0:
				h.Kill()
			default:
				h.Kill()
				h.Open()
			}
			j.Away = rng.IntN(4) == 0
			time.Sleep(time.Duration(rng.IntN(10)) * time.Second)
			j.Away = false
		}
	}
	s.play(t, seed)
}

// jobCrash is the story in which nodes are killed at their effects: b is away for two
// epochs, and d lies in one.
var jobCrash = jobStory{order: with(func(o *sim.Order) { o.Epochs = 10 }), before: func(l *sim.Lab, nodes []*sim.Home) {
	lie(nodes[3], func(e uint64) bool { return e == 7 })
}, during: func(t *testing.T, l *sim.Lab, j *sim.Job) {
	j.Until("epoch 2", minutes, func() bool { return j.Node(2).Epoch() >= 2 })
	if j.Nodes[1].Plan == nil || !j.Nodes[1].Plan.Killed() {
		j.Nodes[1].Kill()
		j.Until("epoch 4", minutes, func() bool { return j.Node(2).Epoch() >= 4 })
		j.Nodes[1].Open()
	}
}}

// jobEffects are what a party of jobCrash asks for in every run.
var jobEffects = map[string][]string{
	"a": {"job.Broadcast", "job.Send", "job.Run", "job.GiveShare", "job.Earned", "job.KeepCert", "job.Publish"},
}

// TestJobCrashEquivalence kills parties of a job at their effects, before the deed and
// after it: the job ends as if nothing had happened.
func TestJobCrashEquivalence(t *testing.T) {
	tier.NotShort(t)
	crashes(t, jobEffects, 1, []string{"job"}, tier.Pick(0, 1, 0), func(t *testing.T, _ string, points []point) (killed []point) {
		var plans []*sim.Plan
		s := jobCrash
		s.before = func(l *sim.Lab, nodes []*sim.Home) {
			jobCrash.before(l, nodes)
			for _, p := range points {
				plan := &sim.Plan{Effect: p.effect, N: p.n, After: p.after}
				l.Home(p.who).Plan = plan
				plans = append(plans, plan)
			}
		}
		s.play(t, 1)
		for i, plan := range plans {
			if plan.Killed() {
				killed = append(killed, points[i])
			}
		}
		return killed
	})
}

// TestJobOffers: a node refuses what it must not work for, strangers learn nothing, and
// the same offer again changes nothing.
func TestJobOffers(t *testing.T) {
	tier.NotShort(t)
	jobLab(t, 1, 1, steady, nil, func(l *sim.Lab, j *sim.Job) {
		refused := func(what string, code wire.Code, err error) {
			t.Helper()
			var r *p2p.Refused
			if !errors.As(err, &r) || r.Code != code {
				t.Errorf("%s: %v", what, err)
			}
		}
		offer := func(change func(*computing.Offer)) error {
			o := j.Offer(0)
			change(o)
			return j.OfferAs(0, o)
		}
		if err := offer(func(*computing.Offer) {}); err != nil {
			t.Errorf("the same offer again: %v", err)
		}
		refused("another job for the bank", wire.BadRequest, offer(func(o *computing.Offer) { o.Terms.Patience++ }))
		refused("another's place", wire.BadRequest, offer(func(o *computing.Offer) { o.Terms.Patience++; o.Party = 1 }))
		refused("another's bank", wire.Unknown, offer(func(o *computing.Offer) { o.Terms.Patience++; o.Bank = j.Banks[1] }))
		refused("other terms of the bank", wire.BadRequest, offer(func(o *computing.Offer) { o.Terms.Parties[0].Bank[0] ^= 1 }))
		refused("too early", wire.BadRequest, offer(func(o *computing.Offer) { o.Terms.Depth = 1 }))
		refused("too late", wire.TooLate, offer(func(o *computing.Offer) { o.Terms.Stop += 100 }))
		refused("another file", wire.BadRequest, offer(func(o *computing.Offer) { o.Terms.File[0] ^= 1 }))
		file := func(change func(*job.File)) func(*computing.Offer) {
			return func(o *computing.Offer) {
				f := j.File
				change(&f)
				raw, err := wire.Marshal(&f)
				if err != nil {
					t.Fatal(err)
				}
				o.File, o.Terms.File = raw, f.Digest()
			}
		}
		refused("too much memory", wire.TooBig, offer(file(func(f *job.File) { f.Memory = 1 << 30 })))
		refused("too cheap", wire.TooBig, offer(file(func(f *job.File) { f.Fuel = 1 << 50 })))
		refused("a program that is not here", wire.Unknown, offer(file(func(f *job.File) { f.Program[0] ^= 1 })))
		refused("impossible limits", wire.BadRequest, offer(file(func(f *job.File) { f.Memory = 0 })))
		o := j.Offer(0)
		o.Peers = o.Peers[:2]
		refused("few peers", wire.BadRequest, j.OfferAs(0, o))

		refused("not the buyer", wire.Unknown, j.AskAs(0, wire.Secret{31: 9}, computing.CallStatus))
		refused("a stranger reads", wire.Unknown, j.AskAs(0, wire.Secret{31: 9}, computing.CallRead))
		if err := j.AskAs(0, j.Key(), computing.CallStatus); err != nil {
			t.Error(err)
		}
		refused("no such request", wire.BadRequest, j.AskAs(0, j.Key(), 77))

		// False sheets.
		d := j.Sheets(1, 0)
		refused("for another", wire.BadRequest, j.SendSheets(2, d))
		d[0].Shares[0][3] ^= 1
		refused("false", wire.BadRequest, j.SendSheets(0, d))
		d = j.Sheets(1, 0)
		if err := j.SendSheets(0, d); err != nil {
			t.Error(err)
		}
		if n := j.Node(0); n.Dealt[1] != 8 {
			t.Errorf("dealt: %v", n.Dealt)
		}
		if err := j.SendSheets(0, d); err != nil {
			t.Error(err)
		}
	})
}

// TestJobBankIsTied: the bank of an accepted job pays for that job alone. Its pennies are
// no credit for payments.
func TestJobBankIsTied(t *testing.T) {
	jobLab(t, 77, 1, steady, nil, func(_ *sim.Lab, j *sim.Job) {
		if !j.Payee(0).Tied {
			t.Error("the bank of an accepted job is not tied")
		}
		j.Begin()
		j.Until("paid", minutes, func() bool { return j.Node(0).Held >= 4 })
		if y := j.Payee(0); y.Count() < 4 || y.Credit(false, 0) != 0 {
			t.Errorf("of %d pennies, %v are credit", y.Count(), y.Credit(false, 0))
		}
	})
}
