package choose

import "net/netip"

// special lists the prefixes whose addresses do not belong to one publicly
// reachable machine (IANA's registries of special-purpose addresses, RFC 6890),
// and those of IPv6 that lead to IPv4 addresses of any kind.
var special = func() (list []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"64:ff9b::/32",  // NAT64, RFC 6052 and 8215
		"2001::/23",     // Teredo, RFC 4380, and other protocols
		"2001:db8::/32", // examples
		"2002::/16",     // 6to4, RFC 3056
		"3fff::/20",     // examples
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

// unicast is the part of IPv6 that IANA allocates.
var unicast = netip.MustParsePrefix("2000::/3")

// Public reports whether an address can be one machine's on the public network.
func Public(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsValid() || ip.Is6() && !unicast.Contains(ip) {
		return false
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}
