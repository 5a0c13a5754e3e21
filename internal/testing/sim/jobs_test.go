package sim_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/testing/guests"
	"github.com/bitgram/bitgram/internal/testing/sim"
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

// jobStory runs f with a job that is ordered: nodes and standbys, and a buyer.
func jobStory(t *testing.T, seed uint64, standbys int, o sim.Order, before func(*sim.Lab, []*sim.Home), f func(*sim.Lab, *sim.Job)) {
	t.Helper()
	program := steps(t)
	sim.Run(t, seed, func(l *sim.Lab) {
		runner, err := wasm.New(context.Background(), wasm.Config{})
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

// fourAndOne is the usual order: four nodes, a quorum of three.
var fourAndOne = sim.Order{Nodes: 4, Quorum: 3, Threshold: 2, Epochs: 8, Window: 8, Patience: 2, Ahead: 2}

// TestJob: a job runs to its end; its result is verified offline, and every satoshi is
// accounted for.
func TestJob(t *testing.T) {
	jobStory(t, 1, 1, fourAndOne, nil, func(l *sim.Lab, j *sim.Job) {
		j.Begin()
		j.Until("the job is over and paid", 5*time.Minute, func() bool { return j.Paid() })
		e := j.Evidence(2)
		l.T.Logf("%s", e.Output)
		paidEqualsCommitted(l, j)
		j.Close(true)
		l.Balanced(jobPurse)
	})
}

// paidEqualsCommitted: every bank has taken exactly the pennies that are certified.
func paidEqualsCommitted(l *sim.Lab, j *sim.Job) {
	l.T.Helper()
	for i, h := range j.Nodes {
		if h.Node == nil {
			continue
		}
		n, y := j.Node(i), j.Payee(i)
		if n.Held != n.Paid() || y.Count() != n.Paid() {
			l.T.Errorf("%s: %d pennies certified, %d held, %d in the bank", h.Name, n.Paid(), n.Held, y.Count())
		}
	}
}
