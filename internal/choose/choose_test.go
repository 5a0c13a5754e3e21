package choose_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/wire"
)

func offer(n byte, value wire.Sat, addr string) choose.Offer {
	return choose.Offer{Agent: wire.Key{n}, Value: value, Prefix: choose.Prefix(addr)}
}

func TestPick(t *testing.T) {
	offers := []choose.Offer{
		offer(1, 10, "/ip4/1.2.3.4/tcp/1"), offer(2, 11, "/ip4/1.2.9.9/tcp/1"), offer(3, 30, "/ip4/1.3.3.4/tcp/1"),
		offer(4, 20, "/ip6/2001:db8::1/udp/1/quic-v1"), offer(5, 12, "/ip6/2001:db8:1::/tcp/1"), offer(6, 40, "/dns4/x/tcp/1"), offer(7, 41, ""),
	}
	for n, want := range [][]int{{}, {0}, {0, 4}, {0, 4, 2}, {0, 4, 2, 5}, {0, 4, 2, 5, 6}, {0, 4, 2, 5, 6, 1}, {0, 4, 2, 5, 6, 1, 3}, {0, 4, 2, 5, 6, 1, 3}} {
		if got := choose.Pick(offers, n, wire.Hash{}, nil); !slices.Equal(got, want) {
			t.Errorf("%d of them: %v, wanted %v", n, got, want)
		}
	}
	// Diversity does not make a message fail that can be paid for.
	fits := func(p []int) bool { return choose.Sum(offers, p) <= 40 }
	if got := choose.Pick(offers, 3, wire.Hash{}, fits); !slices.Equal(got, []int{0, 1, 4}) {
		t.Errorf("under 40 sat: %v", got)
	}
	if got := choose.Sum([]choose.Offer{offer(1, wire.MaxSat, ""), offer(2, wire.MaxSat, "")}, []int{0, 1}); got != wire.MaxSat+1 {
		t.Errorf("more than there is: %v", got)
	}
}

// TestPickProperties: exactly as many as there can be, each once, and the same
// whatever the order of the offers; who is first of equals differs by salt.
func TestPickProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var offers []choose.Offer
		for i := range rapid.IntRange(0, 12).Draw(t, "offers") {
			o := offer(byte(i), wire.Sat(rapid.IntRange(0, 5).Draw(t, "value")), rapid.OneOf(rapid.String(),
				rapid.Just(fmt.Sprintf("/ip4/10.%d.0.1/tcp/1", i%3))).Draw(t, "addr"))
			offers = append(offers, o)
		}
		n := rapid.IntRange(0, 14).Draw(t, "n")
		got := choose.Pick(offers, n, wire.Hash{}, nil)
		if len(got) != min(n, len(offers)) {
			t.Fatalf("%d of %d, wanted %d", len(got), len(offers), n)
		}
		sorted := slices.Sorted(slices.Values(got))
		if len(slices.Compact(sorted)) != len(got) {
			t.Fatalf("one twice: %v", got)
		}
		back := slices.Clone(offers)
		slices.Reverse(back)
		for i, j := range choose.Pick(back, n, wire.Hash{}, nil) {
			if back[j].Agent != offers[got[i]].Agent {
				t.Fatal("the order of the offers decides")
			}
		}
	})
	equal := []choose.Offer{offer(1, 1, ""), offer(2, 1, ""), offer(3, 1, "")}
	first := map[int]bool{}
	for i := range byte(50) {
		first[choose.Pick(equal, 1, wire.Hash{i}, nil)[0]] = true
	}
	if len(first) != 3 {
		t.Errorf("of equals, only %v are ever first", first)
	}
}
