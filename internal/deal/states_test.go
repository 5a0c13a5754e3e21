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
	"github.com/bitgram/bitgram/wire"
)

var update = flag.Bool("update", false, "write spec/states.md instead of comparing")

// transition is one row of a state table.
type transition struct{ role, from, event, to, effects string }

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
// the tests know, blocks are reorganised, and messages come late.
func fixedStories(play func(seed uint64, s story)) {
	for fault := range 9 {
		for _, shape := range []wire.Shape{wire.PerAgent, wire.OneOfMany} {
			play(uint64(fault), story{shape: shape, faults: []int{fault, fault, 0, 0}, late: 3 * fault, reorgAt: 7 * (fault % 3), depth: 1 + fault%6, drop: true})
			play(uint64(fault), story{shape: shape, faults: []int{fault, fault, fault, fault}, late: 1, reorgAt: 30 + fault, depth: 1 + fault%6, drop: fault%2 == 0})
		}
	}
	play(100, story{faults: make([]int, 4), absent: true, reorgAt: 57, depth: 4})
	play(101, story{faults: make([]int, 4), late: 50})
	play(102, story{faults: make([]int, 4), late: 1, reorgAt: 1, depth: 6, drop: true})
}

// TestStateTables plays a fixed set of stories and holds spec/states.md
// against every transition that they show.
func TestStateTables(t *testing.T) {
	seen := map[transition]bool{}
	fixedStories(func(seed uint64, s story) {
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
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.from, r.event, r.to, r.effects)
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
	if !bytes.Equal(b.Bytes(), want) {
		t.Error("spec/states.md is not what the machines do: run 'make vectors' and read the difference")
	}
}
