package conform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// RunnerProgram is the directory of the program that Runner runs, from the
// root of the module.
const RunnerProgram = "internal/testing/conform/testdata/runner"

// Runner is the suite for every sandbox.Runner. image is RunnerProgram, built
// as the engine takes it; other is any other program.
func Runner(t *testing.T, r sandbox.Runner, image, other []byte) {
	ctx := t.Context()
	load := func(b []byte) sandbox.Program {
		p, err := r.Load(ctx, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	s := &runnerSuite{p: load(image), other: load(other), again: func() sandbox.Program { return load(image) }}
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Repeats", s.repeats}, {"Resumes", s.resumes}, {"Damage", s.damage}, {"Wrong", s.wrong}, {"Limits", s.limits}, {"World", s.world},
		{"Proofs", s.proofs}, {"Exit", s.exit}, {"FailureCertified", s.failure}, {"Stop", s.stop}, {"Over", s.over}, {"Many", s.many}, {"Closed", s.closed},
	} {
		t.Run(c.name, c.run)
	}
}

type runnerSuite struct {
	p, other sandbox.Program
	again    func() sandbox.Program // p, loaded once more
}

func runnerJob(args ...string) *sandbox.Job {
	l := sandbox.DefaultLimits()
	l.Memory, l.Fuel, l.Epochs = 64<<20, 2_000_000_000, 100
	return &sandbox.Job{
		Args: append([]string{"program"}, args...), Env: []string{"PLACE=here"}, Input: []byte("some input"),
		Seed: [32]byte{7}, Time: 1_700_000_000, Limits: l,
	}
}

// step is one event, and the checkpoint behind it.
type step struct {
	ev         *sandbox.Event
	checkpoint []byte
}

// play runs a job to its end and keeps every checkpoint.
func play(ctx context.Context, p sandbox.Program, job *sandbox.Job, from []byte) (list []step, err error) {
	var run sandbox.Run
	if from == nil {
		run, err = p.Start(ctx, job, nil)
	} else {
		run, err = p.Start(ctx, job, bytes.NewReader(from))
	}
	if err != nil {
		return nil, err
	}
	defer run.Close()
	for {
		ev, err := run.Next(ctx)
		if err != nil {
			return list, err
		}
		if ev.Root != run.Root() {
			return list, fmt.Errorf("event %d has root %v, the run %v", ev.Epoch, ev.Root, run.Root())
		}
		s := step{ev: ev}
		if !ev.Done {
			var b bytes.Buffer
			if err := run.Checkpoint(&b); err != nil {
				return list, err
			}
			s.checkpoint = b.Bytes()
		}
		if list = append(list, s); ev.Done {
			return list, nil
		}
	}
}

func must(t *testing.T, list []step, err error) []step {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// sameEvent compares all of two events.
func sameEvent(t *testing.T, a, b *sandbox.Event) {
	t.Helper()
	if x, y := fmt.Sprintf("%+v", *a), fmt.Sprintf("%+v", *b); x != y {
		t.Errorf("two runs differ:\n%s\n%s", x, y)
	}
}

const runnerEpochs = 5

func (s *runnerSuite) count(t *testing.T) []step {
	list, err := play(t.Context(), s.p, runnerJob("count", fmt.Sprint(runnerEpochs)), nil)
	return must(t, list, err)
}

// repeats: the same job gives the same events and checkpoints; another seed,
// time or input others.
func (s *runnerSuite) repeats(t *testing.T) {
	a, b := s.count(t), s.count(t)
	if len(a) != runnerEpochs || len(b) != runnerEpochs {
		t.Fatalf("%d and %d epochs", len(a), len(b))
	}
	var total, size uint64
	for i := range a {
		sameEvent(t, a[i].ev, b[i].ev)
		if !bytes.Equal(a[i].checkpoint, b[i].checkpoint) {
			t.Errorf("checkpoint %d differs", i)
		}
		total, size = total+a[i].ev.Fuel, size+uint64(len(a[i].ev.Output))
		if ev := a[i].ev; ev.Epoch != uint64(i+1) || ev.TotalFuel != total || ev.OutputSize != size || ev.Done != (i == runnerEpochs-1) || len(ev.Notices) != 1 {
			t.Errorf("event %d is %+v", i, ev)
		}
		if i > 0 && a[i].ev.Root == a[i-1].ev.Root {
			t.Errorf("events %d and %d have one root", i-1, i)
		}
	}
	for what, change := range map[string]func(*sandbox.Job){
		"seed":  func(j *sandbox.Job) { j.Seed[31]++ },
		"time":  func(j *sandbox.Job) { j.Time++ },
		"input": func(j *sandbox.Job) { j.Input = []byte("other") },
		"fuel":  func(j *sandbox.Job) { j.Limits.Fuel++ },
	} {
		job := runnerJob("count", "2")
		change(job)
		c, err := play(t.Context(), s.p, job, nil)
		if c := must(t, c, err); c[0].ev.Root == a[0].ev.Root {
			t.Errorf("another %s gives the same root", what)
		}
	}
}

// resumes: from every checkpoint the run goes on as if it had not stopped.
func (s *runnerSuite) resumes(t *testing.T) {
	whole := s.count(t)
	job := runnerJob("count", fmt.Sprint(runnerEpochs))
	for i := range whole[:len(whole)-1] {
		run, err := s.p.Start(t.Context(), job, bytes.NewReader(whole[i].checkpoint))
		if err != nil {
			t.Fatal(err)
		}
		if run.Root() != whole[i].ev.Root {
			t.Errorf("checkpoint %d has root %v, its event %v", i, run.Root(), whole[i].ev.Root)
		}
		var again bytes.Buffer
		if err := run.Checkpoint(&again); err != nil || !bytes.Equal(again.Bytes(), whole[i].checkpoint) {
			t.Errorf("checkpoint %d, read and written, differs (%v)", i, err)
		}
		run.Close()
		rest, err := play(t.Context(), s.p, job, whole[i].checkpoint)
		rest = must(t, rest, err)
		if len(rest) != len(whole)-i-1 {
			t.Fatalf("%d epochs after %d", len(rest), i+1)
		}
		for k := range rest {
			sameEvent(t, whole[i+1+k].ev, rest[k].ev)
			if !bytes.Equal(whole[i+1+k].checkpoint, rest[k].checkpoint) {
				t.Errorf("checkpoint %d after %d differs", k, i)
			}
		}
	}
}

// damage: a checkpoint with a changed bit, or truncated or extended, is
// rejected.
func (s *runnerSuite) damage(t *testing.T) {
	good := s.count(t)[0].checkpoint
	job := runnerJob("count", fmt.Sprint(runnerEpochs))
	refused := func(what string, b []byte) {
		t.Helper()
		run, err := s.p.Start(t.Context(), job, bytes.NewReader(b))
		if err == nil {
			run.Close()
		}
		if !errors.Is(err, sandbox.ErrCheckpoint) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		bit := r.IntN(8 * len(good))
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		refused(fmt.Sprintf("bit %d flipped", bit), b)
	}
	for _, n := range []int{0, 1, 7, 40, len(good) / 2, len(good) - 1} {
		refused(fmt.Sprintf("%d bytes", n), good[:n])
	}
	refused("a byte more", append(bytes.Clone(good), 0))
	refused("something else", []byte(strings.Repeat("no checkpoint ", 100)))
}

// wrong: a checkpoint of another program or job is recognised.
func (s *runnerSuite) wrong(t *testing.T) {
	good := s.count(t)[0].checkpoint
	job := runnerJob("count", fmt.Sprint(runnerEpochs))
	if _, err := s.other.Start(t.Context(), job, bytes.NewReader(good)); !errors.Is(err, sandbox.ErrWrongProgram) {
		t.Errorf("another program: %v", err)
	}
	if _, err := s.p.Start(t.Context(), runnerJob("count", "9"), bytes.NewReader(good)); !errors.Is(err, sandbox.ErrWrongJob) {
		t.Errorf("other arguments: %v", err)
	}
	job.Limits.Epochs = 0
	if _, err := s.p.Start(t.Context(), job, nil); !errors.Is(err, sandbox.ErrJob) || !strings.Contains(err.Error(), "epochs") {
		t.Errorf("no epochs: %v", err)
	}
}

// limits: each limit ends a program that exceeds it, with its own error, always
// at the same place.
func (s *runnerSuite) limits(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		set  func(*sandbox.Limits)
		want error
	}{
		{"fuel", []string{"spin"}, func(l *sandbox.Limits) { l.Fuel = 40_000_000 }, sandbox.ErrFuel},
		{"epochs", []string{"forever"}, func(l *sandbox.Limits) { l.Epochs = 3 }, sandbox.ErrEpochs},
		{"output", []string{"output", "5001"}, func(l *sandbox.Limits) { l.Output = 5000 }, sandbox.ErrOutput},
		{"state", []string{"state", "1001"}, func(l *sandbox.Limits) { l.State = 1000 }, sandbox.ErrState},
		{"events", []string{"events", "100"}, func(l *sandbox.Limits) { l.Notices = 164 * 99 }, sandbox.ErrNotices},
		{"memory", []string{"memory", "200000000"}, func(*sandbox.Limits) {}, nil},
		{"memory at first", []string{"count", "1"}, func(l *sandbox.Limits) { l.Memory = sandbox.PageSize }, sandbox.ErrMemory},
		{"depth", []string{"deep", "10000000"}, func(*sandbox.Limits) {}, sandbox.ErrDepth},
		{"crash", []string{"crash"}, func(*sandbox.Limits) {}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			job := runnerJob(c.args...)
			c.set(&job.Limits)
			var said []string
			for range 2 {
				list, err := play(t.Context(), s.p, job, nil)
				if err == nil && c.want == nil && list[len(list)-1].ev.Exit != 0 {
					err = fmt.Errorf("exit %d, root %v", list[len(list)-1].ev.Exit, list[len(list)-1].ev.Root)
				} else if err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Fatalf("%v, wanted %v", err, c.want)
				}
				said = append(said, err.Error())
			}
			if said[0] != said[1] {
				t.Errorf("two runs: %s; %s", said[0], said[1])
			}
		})
	}
	// Staying just within a limit is not a failure.
	job := runnerJob("output", "5000")
	job.Limits.Output = 5000
	if list, err := play(t.Context(), s.p, job, nil); err != nil || list[0].ev.OutputSize != 5000 {
		t.Errorf("all of the output: %v", err)
	}
}

// world: a program sees its job, and nothing else.
func (s *runnerSuite) world(t *testing.T) {
	list, err := play(t.Context(), s.p, runnerJob("world", "1"), nil)
	out := string(must(t, list, err)[0].ev.Output)
	for _, want := range []string{
		"args [world 1]\n", "env [PLACE=here]\n", "stdin \"some input\" <nil>\n", "input \"e inp\" <nil> of 10\n",
		"file true\n", "time 2023-11-14 22:13:2", "restored false epoch 1\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// proofs: every page of both parts can be shown under the root, and no other.
func (s *runnerSuite) proofs(t *testing.T) {
	run, err := s.p.Start(t.Context(), runnerJob("state", "200001"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if _, err := run.Prove(sandbox.State, 0); !errors.Is(err, sandbox.ErrNoState) {
		t.Errorf("before the first event: %v", err)
	}
	ev, err := run.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for part := sandbox.Memory; part <= sandbox.State; part++ {
		pages := 0
		for ; ; pages++ {
			p, err := run.Prove(part, uint32(pages))
			if errors.Is(err, sandbox.ErrNoState) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if !p.Verify(ev.Root) {
				t.Fatalf("part %d, page %d: the proof does not hold", part, pages)
			}
			for what, change := range map[string]func(*sandbox.Proof){
				"page":   func(p *sandbox.Proof) { p.Page += 1 << 10 },
				"data":   func(p *sandbox.Proof) { p.Data[len(p.Data)/2] ^= 1 },
				"length": func(p *sandbox.Proof) { p.Data = p.Data[1:] },
				"path":   func(p *sandbox.Proof) { p.Path = append(p.Path, sandbox.Digest{}) },
				"part":   func(p *sandbox.Proof) { p.Part = 1 - p.Part },
				"other":  func(p *sandbox.Proof) { p.Other[0] ^= 1 },
				"header": func(p *sandbox.Proof) { p.Header[100] ^= 1 },
			} {
				bad := *p
				bad.Data, bad.Header, bad.Path = bytes.Clone(p.Data), bytes.Clone(p.Header), append([]sandbox.Digest(nil), p.Path...)
				change(&bad)
				if bad.Verify(ev.Root) {
					t.Errorf("part %d, page %d holds with another %s", part, pages, what)
				}
			}
		}
		if want := 4; part == sandbox.State && pages != want {
			t.Errorf("%d pages of the state, wanted %d", pages, want)
		}
	}
}

// exit: a program's exit code is its result.
func (s *runnerSuite) exit(t *testing.T) {
	list, err := play(t.Context(), s.p, runnerJob("exit", "3"), nil)
	if list := must(t, list, err); !list[0].ev.Done || list[0].ev.Exit != 3 {
		t.Errorf("it ended with %+v", list[0].ev)
	}
}

// failure: how a program fails is a result with a root of its own: always the same,
// and another one for another kind, epoch, state before, job or program. An exit
// code is not a failure.
func (s *runnerSuite) failure(t *testing.T) {
	end := func(p sandbox.Program, job *sandbox.Job) *sandbox.Result {
		t.Helper()
		run, err := p.Start(t.Context(), job, nil)
		if f, ok := sandbox.Refused(p.ID(), job.Digest(), err); ok {
			return f.Result()
		} else if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		for epoch := uint64(1); ; epoch++ {
			before := run.Root()
			r, err := sandbox.Step(t.Context(), run)
			if err != nil {
				t.Fatal(err)
			}
			if r.Epoch != epoch || (r.Status == sandbox.Failed) != (r.Failure != nil) || (r.Status == sandbox.Failed) == (r.Event != nil) {
				t.Fatalf("epoch %d: %+v", epoch, r)
			}
			if f := r.Failure; f != nil && (f.Before != before || f.Program != p.ID() || f.Job != job.Digest() || !errors.Is(f, f.Kind.Err()) || run.Root() != before) {
				t.Errorf("%+v, behind %v", f, before)
			}
			if r.Status != sandbox.Running {
				return r
			}
		}
	}
	limited := func(set func(*sandbox.Limits), args ...string) *sandbox.Job {
		job := runnerJob(args...)
		set(&job.Limits)
		return job
	}
	same := func(*sandbox.Limits) {}
	seen := map[sandbox.Digest]string{}
	for _, c := range []struct {
		name string
		job  func() *sandbox.Job
		kind sandbox.FailureKind
	}{
		{"fuel", func() *sandbox.Job { return limited(func(l *sandbox.Limits) { l.Fuel = 40_000_000 }, "spin") }, sandbox.FailedFuel},
		{"other fuel", func() *sandbox.Job { return limited(func(l *sandbox.Limits) { l.Fuel = 40_000_001 }, "spin") }, sandbox.FailedFuel},
		{"epochs", func() *sandbox.Job { return limited(func(l *sandbox.Limits) { l.Epochs = 2 }, "count", "9") }, sandbox.FailedEpochs},
		{"output", func() *sandbox.Job { return limited(func(l *sandbox.Limits) { l.Output = 5000 }, "output", "5001") }, sandbox.FailedOutput},
		{"state", func() *sandbox.Job { return limited(func(l *sandbox.Limits) { l.State = 1000 }, "state", "1001") }, sandbox.FailedState},
		{"events", func() *sandbox.Job {
			return limited(func(l *sandbox.Limits) { l.Notices = 164 * 99 }, "events", "100")
		}, sandbox.FailedNotices},
		{"memory", func() *sandbox.Job {
			return limited(func(l *sandbox.Limits) { l.Memory = sandbox.PageSize }, "count", "1")
		}, sandbox.FailedMemory},
		{"depth", func() *sandbox.Job { return limited(same, "deep", "10000000") }, sandbox.FailedDepth},
		{"exit", func() *sandbox.Job { return limited(same, "exit", "3") }, 0},
		{"crash", func() *sandbox.Job { return limited(same, "crash") }, 0}, // Go's runtime ends with exit code 2
	} {
		a := end(s.p, c.job())
		if c.kind == sandbox.FailedFuel || c.kind == sandbox.FailedEpochs {
			if b := end(s.p, c.job()); a.Root != b.Root || a.Status != b.Status {
				t.Errorf("%s: twice run, the roots are %v and %v", c.name, a.Root, b.Root)
			}
		}
		if was, ok := seen[a.Root]; ok || a.Root == (sandbox.Digest{}) {
			t.Errorf("%s has the root of %s", c.name, was)
		}
		seen[a.Root] = c.name
		switch {
		case c.kind == 0 && (a.Status != sandbox.Done || a.Event.Exit == 0):
			t.Errorf("%s: %+v", c.name, a)
		case c.kind != 0 && (a.Status != sandbox.Failed || a.Failure.Kind != c.kind):
			t.Errorf("%s: %v, %+v", c.name, a.Status, a.Failure)
		}
	}
}

// stop: an endless program is stopped from outside at once, and its previous
// state can still be resumed.
func (s *runnerSuite) stop(t *testing.T) {
	job := runnerJob("spin")
	job.Limits.Fuel = 1 << 38
	run, err := s.p.Start(t.Context(), job, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	// An engine in this process may run code that Go cannot interrupt, for which
	// a collection of garbage would wait, and the timer for that.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if r, err := sandbox.Step(ctx, run); r != nil || !errors.Is(err, sandbox.ErrStopped) || errors.As(err, new(*sandbox.Failure)) {
		t.Errorf("it ended with %+v, %v", r, err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v to stop", took)
	}
}

// over: after an error a run does nothing more, but has its last checkpoint.
func (s *runnerSuite) over(t *testing.T) {
	job := runnerJob("count", "9")
	job.Limits.Epochs = 2
	run, err := s.p.Start(t.Context(), job, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if err := run.Checkpoint(&bytes.Buffer{}); !errors.Is(err, sandbox.ErrNoState) {
		t.Errorf("a checkpoint of nothing: %v", err)
	}
	var before bytes.Buffer
	for range 2 {
		if _, err := run.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		before.Reset()
		if err := run.Checkpoint(&before); err != nil {
			t.Fatal(err)
		}
	}
	var failed *sandbox.Failure
	if _, err := run.Next(t.Context()); !errors.As(err, &failed) || failed.Epoch != 3 {
		t.Errorf("the third of two epochs: %v", err)
	}
	if _, err := run.Next(t.Context()); err == nil {
		t.Error("it went on")
	}
	var after bytes.Buffer
	if err := run.Checkpoint(&after); err != nil || !bytes.Equal(before.Bytes(), after.Bytes()) {
		t.Errorf("the last checkpoint has changed (%v)", err)
	}
}

// many: runs do not disturb one another.
func (s *runnerSuite) many(t *testing.T) {
	want := s.count(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			list, err := play(t.Context(), s.p, runnerJob("count", fmt.Sprint(runnerEpochs)), nil)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range list {
				sameEvent(t, want[i].ev, list[i].ev)
			}
		})
	}
	wg.Wait()
}

// closed: runs outlive their program, which starts no others then.
func (s *runnerSuite) closed(t *testing.T) {
	whole, p := s.count(t), s.again()
	start := func(args ...string) sandbox.Run {
		t.Helper()
		run, err := p.Start(t.Context(), runnerJob(args...), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { run.Close() })
		return run
	}
	next := func(run sandbox.Run) *sandbox.Event {
		t.Helper()
		ev, err := run.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	ended, begun, fresh := start("exit", "3"), start("count", fmt.Sprint(runnerEpochs)), start("count", fmt.Sprint(runnerEpochs))
	end := next(ended)
	sameEvent(t, whole[0].ev, next(begun))
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if run, err := p.Start(t.Context(), runnerJob("exit", "3"), nil); err == nil {
		run.Close()
		t.Error("a program that is closed starts another run")
	}
	if proof, err := ended.Prove(sandbox.Memory, 0); err != nil || !proof.Verify(end.Root) {
		t.Errorf("a proof of the end: %v", err)
	}
	for i := range whole {
		if i > 0 {
			sameEvent(t, whole[i].ev, next(begun))
		}
		sameEvent(t, whole[i].ev, next(fresh))
	}
	// One that is closed twice does not take the program from the others.
	for range 2 {
		if err := fresh.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := begun.Close(); err != nil {
		t.Error(err)
	}
	if proof, err := ended.Prove(sandbox.Memory, 0); err != nil || !proof.Verify(end.Root) {
		t.Errorf("a proof of the end, behind other runs: %v", err)
	}
	if err := ended.Close(); err != nil {
		t.Error(err)
	}
}
