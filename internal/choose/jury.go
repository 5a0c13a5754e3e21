package choose

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/bitgram/bitgram/wire"
)

// Candidate is a node that could take part in a job.
type Candidate struct {
	Key      wire.Key
	Price    wire.Msat // per epoch
	Prefix   string    // of the network from which it was reached; empty if unknown
	Operator string    // who runs it, as far as the caller knows; empty if unknown
}

// Jury is the result of a draw, as indices of the candidates.
type Jury struct {
	// Parties are the nodes and standbys, first those that the buyer trusts.
	Parties []int
	// Reserve are the others under the cap, in the order in which they take the
	// place of parties that refuse.
	Reserve []int
	// Most is the largest number of parties of one group (see Draw) of which some
	// were drawn and not trusted. At a quorum of q, a caller warns or refuses if
	// Most ≥ q: one operator could then agree on anything with itself. No other draw
	// among these candidates has a smaller Most.
	Most int
}

// Errors of Draw.
var (
	// ErrTooFew means that there are not enough candidates under the cap.
	ErrTooFew = errors.New("too few candidates")
	// ErrTrusted means that a trusted node is not a candidate, or not under the cap.
	ErrTrusted = errors.New("a trusted node cannot take part")
)

// Draw draws size parties among the candidates under a cap on their price. The
// cap is all that a price decides. Trusted candidates are always parties.
//
// Networks are drawn, and then a node of each: candidates with a network prefix or
// an operator in common, directly or through others, are one group, and those whose
// network is unknown are one, too. A second node of a group comes after the first
// of every group. So the chance of a seat depends on the number of networks that
// somebody has and not on the number of his keys, which cost nothing. The order of
// groups, and of nodes within one, are hashes with the seed, which the buyer draws
// once the candidates are fixed. The order of the candidates does not matter; of two
// with one key the cheaper counts.
func Draw(seed wire.Hash, list []Candidate, trusted []wire.Key, most wire.Msat, size int) (j Jury, err error) {
	seats := map[wire.Key]int{} // of the trusted
	for _, k := range trusted {
		if _, twice := seats[k]; !twice {
			seats[k] = len(seats)
		}
	}
	if len(seats) > size {
		return j, fmt.Errorf("%w: %d are trusted for %d seats", ErrTrusted, len(seats), size)
	}
	fits := map[wire.Key]int{}
	for i, c := range list {
		if c.Price > most {
			continue
		}
		if o, twice := fits[c.Key]; !twice || less(&c, &list[o]) {
			fits[c.Key] = i
		}
	}
	for k := range seats {
		if _, ok := fits[k]; !ok {
			return j, fmt.Errorf("%w: %s", ErrTrusted, k)
		}
	}
	if len(fits) < size {
		return j, fmt.Errorf("%w: %d under the cap, %d are needed", ErrTooFew, len(fits), size)
	}
	type entry struct {
		index, group, round int
		tie                 wire.Hash
	}
	groups, names := groupsOf(list, fits)
	ties := make([]wire.Hash, len(names))
	for g, name := range names {
		ties[g] = wire.Tagged("draw-group", seed[:], []byte(name))
	}
	order := make([]entry, 0, len(fits))
	for k, i := range fits {
		order = append(order, entry{index: i, group: groups[k], tie: wire.Tagged("draw-node", seed[:], k[:])})
	}
	// Within its group, each node gets a round: those who are trusted the first.
	slices.SortFunc(order, func(a, b entry) int {
		x, y := list[a.index].Key, list[b.index].Key
		return cmp.Or(cmp.Compare(seatOf(seats, x), seatOf(seats, y)), bytes.Compare(a.tie[:], b.tie[:]), bytes.Compare(x[:], y[:]))
	})
	next := make([]int, len(names))
	for n := range order {
		e := &order[n]
		e.round = next[e.group]
		next[e.group]++
	}
	slices.SortStableFunc(order, func(a, b entry) int {
		return cmp.Or(cmp.Compare(seatOf(seats, list[a.index].Key), seatOf(seats, list[b.index].Key)),
			cmp.Compare(a.round, b.round), bytes.Compare(ties[a.group][:], ties[b.group][:]), cmp.Compare(a.group, b.group))
	})
	count, drawn := map[int]int{}, map[int]bool{}
	for n, e := range order {
		if n >= size {
			j.Reserve = append(j.Reserve, e.index)
			continue
		}
		j.Parties = append(j.Parties, e.index)
		count[e.group]++
		if _, ok := seats[list[e.index].Key]; !ok {
			drawn[e.group] = true
		}
	}
	for g := range drawn {
		j.Most = max(j.Most, count[g])
	}
	return j, nil
}

// seatOf returns the seat of a trusted node, and one number for all others.
func seatOf(seats map[wire.Key]int, k wire.Key) int {
	if n, ok := seats[k]; ok {
		return n
	}
	return len(seats)
}

// less orders candidates with one key.
func less(a, b *Candidate) bool {
	return cmp.Or(cmp.Compare(a.Price, b.Price), cmp.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Operator, b.Operator)) < 0
}

// groupsOf joins candidates that have a prefix or an operator in common. It returns
// the group of each, and each group's name, the smallest of its prefixes and
// operators.
func groupsOf(list []Candidate, fits map[wire.Key]int) (map[wire.Key]int, []string) {
	root := map[string]string{}
	var find func(string) string
	find = func(s string) string {
		up, ok := root[s]
		if !ok || up == s {
			root[s] = s
			return s
		}
		root[s] = find(up)
		return root[s]
	}
	for _, i := range fits {
		net := "net " + list[i].Prefix
		find(net)
		if o := list[i].Operator; o != "" {
			a, b := find(net), find("run "+o)
			root[max(a, b)] = min(a, b)
		}
	}
	numbers, groups := map[string]int{}, map[wire.Key]int{}
	var names []string
	for _, s := range slices.Sorted(func(yield func(string) bool) {
		for _, i := range fits {
			if !yield(find("net " + list[i].Prefix)) {
				return
			}
		}
	}) {
		if _, known := numbers[s]; !known {
			numbers[s] = len(names)
			names = append(names, s)
		}
	}
	for k, i := range fits {
		groups[k] = numbers[find("net "+list[i].Prefix)]
	}
	return groups, names
}

// Chance returns the probability that at least quorum of drawn nodes lie together,
// if liars of all candidates do and each set of nodes is drawn with the same
// probability (the hypergeometric distribution): then a false result is certified.
// Because Draw draws networks, candidates and liars are counts of networks. For a
// bound that holds whatever standbys replace, drawn includes them; parties that the
// buyer trusts are not drawn. Numbers out of range count as the nearest in range.
func Chance(candidates, liars, drawn, quorum int) float64 {
	candidates = max(candidates, 0)
	liars, drawn = min(max(liars, 0), candidates), min(max(drawn, 0), candidates)
	sum := new(big.Int)
	for k := max(quorum, 0); k <= min(liars, drawn); k++ {
		ways := binomial(liars, k)
		sum.Add(sum, ways.Mul(ways, binomial(candidates-liars, drawn-k)))
	}
	p, _ := new(big.Rat).SetFrac(sum, binomial(candidates, drawn)).Float64()
	return p
}

// binomial returns the number of sets of k of n; 0 if there are none.
func binomial(n, k int) *big.Int {
	if k < 0 || k > n {
		return new(big.Int)
	}
	return new(big.Int).Binomial(int64(n), int64(k))
}

// Liars returns how many of the candidates lie if a share of them does, rounded up.
// The share is in parts per thousand.
func Liars(candidates, perMille int) int {
	return min(candidates, (max(candidates, 0)*max(perMille, 0)+999)/1000)
}
