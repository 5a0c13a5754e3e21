// Package choose selects the providers for a job. Every selection is made here;
// for now by a price under the cap and by distinct networks.
package choose

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/bitgram/bitgram/wire"
)

// Offer is a provider's offer.
type Offer struct {
	Agent  wire.Key
	Value  wire.Sat
	Prefix string // of the network from which it was reached; empty if unknown
}

// Pick returns the indices of the n best offers, the best first, or of all if
// there are fewer: the cheapest of distinct network prefixes, and only then
// others, so that one operator's machines in one place do not hold every copy.
// If their sum does not fit, it returns the n cheapest of all. Equal values are
// ordered by salt, which providers cannot know in advance, so grinding a key
// gains nothing.
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

// Sum returns the total of the picked offers.
func Sum(offers []Offer, picked []int) (sum wire.Sat) {
	for _, i := range picked {
		sum = min(sum+offers[i].Value, wire.MaxSat+1) // cannot overflow: each is at most MaxSat+1
	}
	return sum
}

// Prefix returns the network of a multiaddr: /16 of IPv4, /32 of IPv6.
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
