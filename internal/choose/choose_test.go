package choose_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/wire"
)

func offer(n byte, value wire.Sat, addrs ...string) choose.Offer {
	return choose.Offer{Agent: wire.Key{n}, Value: value, Addrs: addrs}
}

func TestPick(t *testing.T) {
	offers := []choose.Offer{
		offer(1, 10, "/ip4/1.2.3.4/tcp/1"), offer(2, 11, "/ip4/1.2.9.9/tcp/1"), offer(3, 30, "/ip4/1.3.3.4/tcp/1"),
		offer(4, 20, "/ip6/2001:db8::1/udp/1/quic-v1"), offer(5, 12, "/ip6/2001:db8:1::/tcp/1", "/ip4/9.9.9.9/tcp/1"), offer(6, 40, "/ip4/9.9.1.1/tcp/1"),
	}
	for n, want := range [][]int{{}, {0}, {0, 4}, {0, 4, 2}, {0, 4, 2, 1}, {0, 4, 2, 1, 3}, {0, 4, 2, 1, 3, 5}, {0, 4, 2, 1, 3, 5}} {
		if got := choose.Pick(offers, n); !slices.Equal(got, want) {
			t.Errorf("%d of them: %v, wanted %v", n, got, want)
		}
	}
	if sum, ok := choose.Cost(offers, 3); sum != 52 || !ok {
		t.Errorf("three cost %v, %v", sum, ok)
	}
	if _, ok := choose.Cost(offers, 7); ok {
		t.Error("seven of six")
	}
	if _, ok := choose.Cost([]choose.Offer{offer(1, wire.MaxSat+1)}, 1); ok {
		t.Error("more than there is")
	}
}

// TestPickProperties: exactly as many as there can be, each once, whatever the
// addresses say, and the same whatever the order of what has distinct values.
func TestPickProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var offers []choose.Offer
		for i := range rapid.IntRange(0, 12).Draw(t, "offers") {
			o := offer(byte(i), wire.Sat(i+100*rapid.IntRange(0, 5).Draw(t, "value")))
			for range rapid.IntRange(0, 2).Draw(t, "addrs") {
				o.Addrs = append(o.Addrs, rapid.OneOf(rapid.String(), rapid.Just(fmt.Sprintf("/ip4/10.%d.0.1/tcp/1", i%3))).Draw(t, "addr"))
			}
			offers = append(offers, o)
		}
		n := rapid.IntRange(0, 14).Draw(t, "n")
		got := choose.Pick(offers, n)
		if len(got) != min(n, len(offers)) {
			t.Fatalf("%d of %d, wanted %d", len(got), len(offers), n)
		}
		sorted := slices.Sorted(slices.Values(got))
		if len(slices.Compact(sorted)) != len(got) {
			t.Fatalf("one twice: %v", got)
		}
		back := slices.Clone(offers)
		slices.Reverse(back)
		for i, j := range choose.Pick(back, n) {
			if back[j].Agent != offers[got[i]].Agent {
				t.Fatal("the order of the offers decides")
			}
		}
	})
}
