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
	Agent wire.Key
	Value wire.Sat
	Addrs []string // its multiaddrs, in canonical form
}

// Pick returns the indices of the n best offers, the best first, or of all
// where there are fewer: the cheapest of distinct network prefixes, and only
// then others, so that one operator's machines in one place do not hold every
// copy.
func Pick(offers []Offer, n int) []int {
	order := make([]int, len(offers))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(offers[a].Value, offers[b].Value), bytes.Compare(offers[a].Agent[:], offers[b].Agent[:]))
	})
	var picked, rest []int
	taken := map[string]bool{}
	for _, i := range order {
		prefixes := Prefixes(offers[i].Addrs)
		if len(picked) == n || slices.ContainsFunc(prefixes, func(p string) bool { return taken[p] }) {
			rest = append(rest, i)
			continue
		}
		picked = append(picked, i)
		for _, p := range prefixes {
			taken[p] = true
		}
	}
	return append(picked, rest[:min(len(rest), n-len(picked))]...)
}

// Cost is what the n best offers take together; ok is false where there are
// fewer, or one of them takes more than the most there can be.
func Cost(offers []Offer, n int) (sum wire.Sat, ok bool) {
	best := Pick(offers, n)
	for _, i := range best {
		if offers[i].Value < 0 || offers[i].Value > wire.MaxSat {
			return 0, false
		}
		sum += offers[i].Value
	}
	return sum, len(best) == n
}

// Prefixes are the networks that addresses lie in: /16 of IPv4, /32 of IPv6.
func Prefixes(addrs []string) (list []string) {
	for _, a := range addrs {
		if p := prefix(a); p != "" && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

func prefix(addr string) string {
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
