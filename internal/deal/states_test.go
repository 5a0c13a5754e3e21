package deal_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

var update = flag.Bool("update", false, "write spec/states.md instead of comparing")

// transition is one row of a state table.
type transition struct{ role, from, event, to, effects string }

func (r transition) row() string {
	return fmt.Sprintf("| %s | %s | %s | %s |\n", r.from, r.event, r.to, r.effects)
}

func (w *world) record(role string, from fmt.Stringer, ev deal.Event, to fmt.Stringer, effects []deal.Effect) {
	if w.seen == nil {
		return
	}
	var names []string
	for _, e := range effects {
		if n := strings.TrimPrefix(fmt.Sprintf("%T", e), "deal."); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	w.seen[transition{role, from.String(), strings.TrimPrefix(fmt.Sprintf("%T", ev), "deal."), to.String(), strings.Join(names, ", ")}] = true
}

// fixedStories are runs in which agents and recipients fail in every way that
// the tests know, blocks are reorganised, and messages come late. About one in ten is
// on devchain, in the nightly tier all; the short tier plays one in five, on ledgers.
func fixedStories(t *testing.T, play func(seed uint64, s story)) {
	sample, n := tier.NewSample(t), 0
	one := func(seed uint64, s story) {
		if n++; tier.Short() && n%5 != 0 {
			return
		}
		s.real = sample.Of(0, 10)
		play(seed, s)
	}
	for fault := range 9 {
		for _, shape := range []wire.Shape{wire.PerAgent, wire.OneOfMany} {
			one(uint64(fault), story{shape: shape, faults: []int{fault, fault, 0, 0}, late: 3 * fault, reorgAt: 7 * (fault % 3), depth: 1 + fault%6, drop: true})
			one(uint64(fault), story{shape: shape, faults: []int{fault, fault, fault, fault}, late: 1, reorgAt: 30 + fault, depth: 1 + fault%6, drop: fault%2 == 0})
		}
	}
	one(100, story{faults: make([]int, 4), absent: true, reorgAt: 57, depth: 4})
	one(101, story{faults: make([]int, 4), late: 50})
	one(102, story{faults: make([]int, 4), late: 1, reorgAt: 1, depth: 6, drop: true})
}

// TestStateTables plays a fixed set of stories and holds spec/states.md
// against every transition that they show. In the short tier, which plays few of
// them, each transition has to be on the page, and others may be.
func TestStateTables(t *testing.T) {
	t.Parallel()
	if *update && tier.Short() {
		t.Fatal("the page is not written from a part of the stories: leave -short out")
	}
	seen := map[transition]bool{}
	fixedStories(t, func(seed uint64, s story) {
		s.seen = seen
		s.play(t, seed)
	})

	var rows []transition
	for r := range seen {
		rows = append(rows, r)
	}
	order := []string{"quoting", "sealing", "funding", "placing", "publishing", "published", // Sender
		"quoted", "held", "cached", "released", "claimed", "closed", // Agent
		"found", "fetching", "holding", "releasing", "opening", "read", "lost"} // Recipient
	slices.SortFunc(rows, func(a, b transition) int {
		key := func(r transition) string {
			return fmt.Sprintf("%02d %s %02d %s", slices.Index(order, r.from)+1, r.event, slices.Index(order, r.to)+1, r.effects)
		}
		return strings.Compare(key(a), key(b))
	})
	var b bytes.Buffer
	b.WriteString("# State tables\n\nWritten by `make vectors` from the machines themselves: every transition that a fixed set of runs shows, in which agents and recipients fail in every way that the tests know, blocks are reorganised, and messages come late. A test compares. `Connected` and `Disconnected` are blocks that join and leave the active chain; [machines.md](machines.md) has the conditions, and the transitions that no run takes. An agent's phase is derived from what it did and what the chain shows.\n")
	for _, role := range []string{"Sender", "Agent", "Recipient"} {
		fmt.Fprintf(&b, "\n## %s\n\n| phase | event | → phase | effects |\n|---|---|---|---|\n", role)
		for _, r := range rows {
			if r.role == role {
				b.WriteString(r.row())
			}
		}
	}
	const path = "../../spec/states.md"
	if *update {
		must(t, os.WriteFile(path, b.Bytes(), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if tier.Short() {
		for _, r := range rows {
			if !bytes.Contains(want, []byte(r.row())) {
				t.Errorf("%s: spec/states.md has no %s", r.role, r.row())
			}
		}
		return
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Error("spec/states.md is not what the machines do: run 'make vectors' and read the difference")
	}
}
