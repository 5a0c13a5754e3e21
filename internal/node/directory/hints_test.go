package directory

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/p2p"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHintQuota: hints that name one network do not make a node ask it as often as
// they like, nor keep others from being asked.
func TestHintQuota(t *testing.T) {
	calls, err := p2p.New(p2p.Config{})
	must(t, err)
	defer calls.Close()
	d := &Directory{calls: calls}
	q := &quota{limit: 3, of: map[string]int{}}
	refused := 0
	for port := range 10 {
		hint := blockname.Hint{Kind: blockname.Seed, Name: TLD, DHT: "ab", Multiaddr: "/ip4/127.0.0.1/tcp/" + string(rune('1'+port%9))}
		if _, err := d.prove(t.Context(), hint, q); errors.Is(err, errQuota) {
			refused++
		}
	}
	if refused != 7 {
		t.Errorf("%d of 10 refused", refused)
	}
	q.of["victim.example"] = 3
	hint := blockname.Hint{Kind: blockname.Seed, Name: TLD, DHT: "ab", Multiaddr: "/dns4/a.victim.example/tcp/1"}
	if _, err := d.prove(t.Context(), hint, q); !errors.Is(err, errQuota) {
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
