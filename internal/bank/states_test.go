package bank_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
)

var update = flag.Bool("update", false, "write spec/states-bank.md and the vectors instead of comparing")

// transition is one row of a state table.
type transition struct{ role, from, event, to, effects string }

// stateOf is how a machine stands, for people.
func stateOf(s any) string {
	switch s := s.(type) {
	case bank.Payer:
		return s.State()
	case bank.Payee:
		return s.State()
	case bank.Sending:
		return s.State()
	case bank.Relay:
		switch {
		case s.Index == 0:
			return "new"
		case s.Ack == nil:
			return "passing"
		}
		return "acknowledged"
	}
	return ""
}

func (w *world) record(r ref, from any, ev bank.Event, to any, effects []bank.Effect) {
	if w.seen == nil {
		return
	}
	var names []string
	for _, e := range effects {
		if n := strings.TrimPrefix(fmt.Sprintf("%T", e), "bank."); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	w.seen[transition{r.String(), stateOf(from), strings.TrimPrefix(fmt.Sprintf("%T", ev), "bank."), stateOf(to), strings.Join(names, ", ")}] = true
}

// TestStateTables plays the stories and holds spec/states-bank.md against every
// transition that they show.
func TestStateTables(t *testing.T) {
	t.Parallel()
	seen := map[transition]bool{}
	for _, s := range stories {
		w := newTown(t, nil)
		w.seen = seen
		s.play(w)
	}
	var rows []transition
	for r := range seen {
		rows = append(rows, r)
	}
	order := []string{bank.StateOpening, bank.StateOpen, bank.StateStopped, bank.StateClosing, bank.StateClosed, bank.StateRefunded, bank.StateFailed,
		"paying", "unacknowledged", "ended", "paid", "new", "passing", "acknowledged"}
	slices.SortFunc(rows, func(a, b transition) int {
		key := func(r transition) string {
			return fmt.Sprintf("%02d %s %02d %s", slices.Index(order, r.from)+1, r.event, slices.Index(order, r.to)+1, r.effects)
		}
		return strings.Compare(key(a), key(b))
	})
	var b bytes.Buffer
	b.WriteString("# State tables of banks\n\nWritten by `make vectors` from the machines themselves, as [states.md](states.md) is: every transition that a fixed set of runs shows. A test compares. A bank's state is derived from what its side did and what the chain shows; [machines.md](machines.md) has the conditions, and the transitions that no run takes.\n")
	for _, role := range []string{"Payer", "Payee", "Sending", "Relay"} {
		fmt.Fprintf(&b, "\n## %s\n\n| state | event | → state | effects |\n|---|---|---|---|\n", role)
		for _, r := range rows {
			if r.role == role {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.from, r.event, r.to, r.effects)
			}
		}
	}
	const path = "../../spec/states-bank.md"
	if *update {
		must(t, os.WriteFile(path, b.Bytes(), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(b.Bytes(), want) {
		t.Error("spec/states-bank.md is not what the machines do: run 'make vectors' and read the difference")
	}
}
