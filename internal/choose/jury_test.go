package choose_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

func seedOf(n int) (h wire.Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(n))
	return h
}

func keyOf(n int) (k wire.Key) {
	binary.BigEndian.PutUint64(k[:], uint64(n)+1)
	return k
}

func candidates(t *rapid.T, most int) (list []choose.Candidate) {
	for i := range rapid.IntRange(0, most).Draw(t, "candidates") {
		c := choose.Candidate{Key: keyOf(i), Price: wire.Msat(rapid.IntRange(0, 100).Draw(t, "price"))}
		if n := rapid.IntRange(0, 4).Draw(t, "net"); n > 0 {
			c.Prefix = fmt.Sprint("ip4/10.", n)
		}
		if n := rapid.IntRange(0, 6).Draw(t, "operator"); n > 3 {
			c.Operator = fmt.Sprint("op", n)
		}
		list = append(list, c)
	}
	return list
}

func draw(t rapid.TB, seed wire.Hash, list []choose.Candidate, trusted []wire.Key, size int) choose.Jury {
	j, err := choose.Draw(seed, list, trusted, 100, size)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func keys(list []choose.Candidate, at []int) (k []wire.Key) {
	for _, i := range at {
		k = append(k, list[i].Key)
	}
	return k
}

// groups numbers the groups of candidates by plain repetition.
func groups(list []choose.Candidate) []int {
	g := make([]int, len(list))
	for i := range g {
		g[i] = i
	}
	for range list {
		for i, a := range list {
			for k, b := range list {
				if a.Prefix == b.Prefix || a.Operator != "" && a.Operator == b.Operator {
					g[i] = min(g[i], g[k])
					g[k] = g[i]
				}
			}
		}
	}
	return g
}

// mostOf counts as Jury.Most does.
func mostOf(g []int, parties []int, trusted map[int]bool) (most int) {
	count, drawn := map[int]int{}, map[int]bool{}
	for _, p := range parties {
		count[g[p]]++
		drawn[g[p]] = drawn[g[p]] || !trusted[p]
	}
	for n := range drawn {
		if drawn[n] {
			most = max(most, count[n])
		}
	}
	return most
}

// TestDraw: the trusted are in, everybody is there once, the order of the
// candidates does not matter, and no other choice has fewer parties of one group.
func TestDraw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := candidates(t, 9)
		size := rapid.IntRange(0, len(list)).Draw(t, "size")
		trusted := map[int]bool{}
		var names []wire.Key
		for range rapid.IntRange(0, size).Draw(t, "trusted") {
			i := rapid.IntRange(0, len(list)-1).Draw(t, "who")
			trusted[i], names = true, append(names, keyOf(i))
		}
		seed := seedOf(rapid.Int().Draw(t, "seed"))
		j := draw(t, seed, list, names, size)
		all := slices.Sorted(slices.Values(slices.Concat(j.Parties, j.Reserve)))
		if len(j.Parties) != size || len(all) != len(list) || len(slices.Compact(all)) != len(list) {
			t.Fatalf("%+v", j)
		}
		for i := range trusted {
			if !slices.Contains(j.Parties[:len(trusted)], i) {
				t.Fatalf("%d is trusted: %+v", i, j)
			}
		}
		back := slices.Clone(list)
		slices.Reverse(back)
		again := draw(t, seed, back, names, size)
		if !slices.Equal(keys(back, again.Parties), keys(list, j.Parties)) || !slices.Equal(keys(back, again.Reserve), keys(list, j.Reserve)) {
			t.Fatal("the order of the candidates decides")
		}
		g := groups(list)
		if got := mostOf(g, j.Parties, trusted); got != j.Most {
			t.Fatalf("%d of a group, not %d", got, j.Most)
		}
		for set := range uint(1) << len(list) {
			if bits.OnesCount(set) != size {
				continue
			}
			var parties []int
			missing := len(trusted)
			for i := range list {
				if set>>i&1 == 1 {
					parties = append(parties, i)
					if trusted[i] {
						missing--
					}
				}
			}
			if missing == 0 && mostOf(g, parties, trusted) < j.Most {
				t.Fatalf("%v has at most %d of a group, %v has %d", parties, mostOf(g, parties, trusted), j.Parties, j.Most)
			}
		}
	})
}

// TestPriceIsACap: under the cap prices have no influence, and who is above it is
// out.
func TestPriceIsACap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := candidates(t, 12)
		size := rapid.IntRange(0, len(list)).Draw(t, "size")
		seed := seedOf(rapid.Int().Draw(t, "seed"))
		j := draw(t, seed, list, nil, size)
		other := slices.Clone(list)
		for i := range other {
			other[i].Price = wire.Msat(rapid.IntRange(0, 100).Draw(t, "other"))
		}
		if k := draw(t, seed, other, nil, size); !slices.Equal(k.Parties, j.Parties) || !slices.Equal(k.Reserve, j.Reserve) {
			t.Fatal("a price decides")
		}
		if size == 0 {
			return
		}
		out := rapid.IntRange(0, len(list)-1).Draw(t, "out")
		other[out].Price = 101
		k, err := choose.Draw(seed, other, nil, 100, size)
		if size == len(list) {
			if !errors.Is(err, choose.ErrTooFew) {
				t.Fatal(err)
			}
		} else if err != nil || slices.Contains(k.Parties, out) || slices.Contains(k.Reserve, out) {
			t.Fatalf("%+v with one above the cap, %v", k, err)
		}
		if _, err := choose.Draw(seed, other, []wire.Key{keyOf(out)}, 100, 1); !errors.Is(err, choose.ErrTrusted) {
			t.Fatal(err)
		}
	})
	if _, err := choose.Draw(wire.Hash{}, nil, []wire.Key{keyOf(1)}, 100, 1); !errors.Is(err, choose.ErrTrusted) {
		t.Error(err)
	}
	if _, err := choose.Draw(wire.Hash{}, []choose.Candidate{{Key: keyOf(1)}, {Key: keyOf(2)}}, []wire.Key{keyOf(1), keyOf(2)}, 100, 1); !errors.Is(err, choose.ErrTrusted) {
		t.Error(err)
	}
	// One key at two prices is one candidate, at the lower.
	j, err := choose.Draw(wire.Hash{}, []choose.Candidate{{Key: keyOf(1), Price: 9}, {Key: keyOf(1), Price: 8}}, nil, 100, 1)
	if err != nil || !slices.Equal(j.Parties, []int{1}) || len(j.Reserve) > 0 {
		t.Errorf("%+v, %v", j, err)
	}
}

// TestDrawIsFair: candidates of distinct networks are drawn equally often, whatever
// their keys and prices; many keys in one network get what one gets.
func TestDrawIsFair(t *testing.T) {
	const honest, size = 9, 4
	rounds := tier.Pick(1000, 10_000, 50_000)
	for _, keysOfOne := range []int{1, 50} {
		var list []choose.Candidate
		for i := range honest {
			list = append(list, choose.Candidate{Key: keyOf(i), Price: wire.Msat(100 - i), Prefix: fmt.Sprint("ip4/1.", i)})
		}
		for i := range keysOfOne { // cheap, with keys of their choice
			list = append(list, choose.Candidate{Key: wire.Key{31: byte(i)}, Prefix: "ip4/9.9"})
		}
		count := make([]int, honest+1)
		for n := range rounds {
			j := draw(t, seedOf(n), list, nil, size)
			for _, p := range j.Parties {
				count[min(p, honest)]++
			}
			if j.Most != 1 {
				t.Fatalf("%+v", j)
			}
		}
		// A binomial distribution: 5 standard deviations.
		p := float64(size) / (honest + 1)
		want, limit := p*float64(rounds), 5*math.Sqrt(float64(rounds)*p*(1-p))
		for i, c := range count {
			if math.Abs(float64(c)-want) > limit {
				t.Errorf("%d keys: candidate %d is drawn %d times, not %.0f ± %.0f", keysOfOne, i, c, want, limit)
			}
		}
	}
}

// TestDrawOneOperator: the result says if one operator could be the quorum.
func TestDrawOneOperator(t *testing.T) {
	var list []choose.Candidate
	for i := range 6 {
		list = append(list, choose.Candidate{Key: keyOf(i), Prefix: fmt.Sprint("ip4/1.", i), Operator: "o"})
	}
	if j := draw(t, seedOf(1), list, nil, 5); j.Most != 5 {
		t.Errorf("%+v", j)
	}
	list[0].Operator, list[1].Operator = "", "p"
	if j := draw(t, seedOf(1), list, nil, 5); j.Most != 3 {
		t.Errorf("%+v", j)
	}
	if j := draw(t, seedOf(1), list, nil, 3); j.Most != 1 {
		t.Errorf("%+v", j)
	}
	// Nodes whose network nobody knows may be one operator's.
	unknown := []choose.Candidate{{Key: keyOf(1)}, {Key: keyOf(2)}, {Key: keyOf(3), Prefix: "ip4/1.2"}}
	if j := draw(t, seedOf(1), unknown, nil, 2); j.Most != 1 {
		t.Errorf("%+v", j)
	}
}

// TestChance compares the chance that a lie passes with a count of all draws.
func TestChance(t *testing.T) {
	for candidates := range 9 {
		for liars := range candidates + 1 {
			for drawn := range candidates + 1 {
				for quorum := range drawn + 2 {
					all, pass := 0, 0
					for set := range uint(1) << candidates {
						if bits.OnesCount(set) != drawn {
							continue
						}
						all++
						if bits.OnesCount(set&(1<<liars-1)) >= quorum {
							pass++
						}
					}
					want := float64(pass) / float64(all)
					if got := choose.Chance(candidates, liars, drawn, quorum); math.Abs(got-want) > 1e-12 {
						t.Fatalf("%d candidates, %d liars, %d drawn, quorum %d: %v, not %v", candidates, liars, drawn, quorum, got, want)
					}
				}
			}
		}
	}
	if p := choose.Chance(1000, 100, 4, 3); p < 0.003 || p > 0.004 { // 4·0.1³·0.9 + 0.1⁴ with returning is 0.0037
		t.Errorf("a tenth of liars: %v", p)
	}
	if p := choose.Chance(3, 9, 9, 2); p != 1 {
		t.Errorf("liars only: %v", p)
	}
	for _, c := range [][3]int{{10, 0, 0}, {10, 100, 1}, {10, 101, 2}, {10, 1000, 10}, {10, 2000, 10}, {0, 500, 0}} {
		if got := choose.Liars(c[0], c[1]); got != c[2] {
			t.Errorf("%d‰ of %d: %d", c[1], c[0], got)
		}
	}
}
