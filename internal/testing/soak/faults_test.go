package soak

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// stories are what happens to whole towns.
var stories = map[string]func(*testing.T){
	"the chain is away": chainAway,
	"damaged copies":    damagedCopies,
	"pennies":           penniesKilled,
}

// TestStories plays them all in the nightly tier, and one, chosen by the sample's
// seed, in the full one.
func TestStories(t *testing.T) {
	tier.NotShort(t)
	t.Parallel()
	names := slices.Sorted(maps.Keys(stories))
	for _, i := range tier.NewSample(t).Choose(len(names), 1) {
		t.Run(names[i], stories[names[i]])
	}
}

// fails has a daemon end by itself, and say why.
func (w *town) fails(p *party, exit int, says, hint string) {
	w.t.Helper()
	p.start()
	if code := p.wait(20 * time.Second); code != exit {
		w.t.Errorf("%s ends with exit code %d, wanted %d", p.name, code, exit)
	}
	log := tail(p.log)
	if !strings.Contains(log, says) || !strings.Contains(log, "hint: "+hint) {
		w.t.Errorf("%s does not say %q, or no hint %q:\n%s", p.name, says, hint, log)
	}
}

// TestPortTaken: an agent whose port another program has says so, and starts
// once it is free; and so does the API.
func TestPortTaken(t *testing.T) {
	tier.NotShort(t)
	t.Parallel()
	w := newTown(t, 3, 0, 1)
	a := w.agents[0]
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.port))
	must(t, err)
	w.fails(a, 1, "cannot listen", "another program may be using the port")
	must(t, l.Close())
	a.start()
	w.ready(a)
	a.stop(5 * time.Second)
	l, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	a.args = append(a.args, "--api", l.Addr().String())
	w.fails(a, 1, "--api: cannot listen", "another program is using the port")
}
