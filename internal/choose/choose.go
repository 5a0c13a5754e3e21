// Package choose says which providers get the work. All who choose come here;
// for now a price under the cap and distinct networks decide.
package choose

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/bitgram/bitgram/wire"
)

// Offer is what a provider would do the work for.
type Offer struct {
	Agent  wire.Key
	Value  wire.Sat
	Prefix string // of the network in which it was reached; empty where nobody knows
}

// Pick returns the indices of the n best offers, the best first, or of all
// where there are fewer: the cheapest of distinct network prefixes, and only
// then others, so that one operator's machines in one place do not hold every
// copy. Where the sum of these does not fit, it returns the n cheapest of all.
// Equal values are ordered by salt, which no provider can know before: nobody
// grinds a key to be first.
func Pick(offers []Offer, n int, salt wire.Hash, fits func(picked []int) bool) []int {
	order := make([]int, len(offers))
	ties := make([]wire.Hash, len(offers))
	for i := range order {
		order[i], ties[i] = i, wire.Tagged("choose", salt[:], offers[i].Agent[:])
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(offers[a].Value, offers[b].Value), bytes.Compare(ties[a][:], ties[b][:]))
	})
	var picked, rest []int
	taken := map[string]bool{"": false}
	for _, i := range order {
		p := offers[i].Prefix
		if len(picked) == n || taken[p] {
			rest = append(rest, i)
			continue
		}
		picked = append(picked, i)
		taken[p] = p != ""
	}
	picked = append(picked, rest[:min(len(rest), n-len(picked))]...)
	if fits == nil || fits(picked) {
		return picked
	}
	return order[:min(n, len(order))]
}

// Sum is what some offers take together.
func Sum(offers []Offer, picked []int) (sum wire.Sat) {
	for _, i := range picked {
		sum = min(sum+offers[i].Value, wire.MaxSat+1) // no overflow: each is at most MaxSat+1
	}
	return sum
}

// Prefix is the network that a multiaddr lies in: /16 of IPv4, /32 of IPv6.
func Prefix(addr string) string {
	parts := strings.Split(addr, "/")
	if len(parts) < 3 {
		return ""
	}
	sep := ""
	switch parts[1] {
	case "ip4":
		sep = "."
	case "ip6":
		sep = ":"
	default:
		return ""
	}
	groups := strings.SplitN(parts[2], sep, 3)
	if len(groups) < 3 {
		return ""
	}
	return parts[1] + "/" + groups[0] + sep + groups[1]
}
