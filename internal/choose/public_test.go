package choose_test

import (
	"net/netip"
	"testing"

	manet "github.com/multiformats/go-multiaddr/net"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/choose"
)

func TestPublic(t *testing.T) {
	for s, want := range map[string]bool{
		"1.1.1.1": true, "193.0.14.129": true, "2606:4700:4700::1111": true, "::ffff:8.8.8.8": true,
		"0.0.0.1": false, "127.0.0.1": false, "10.1.2.3": false, "172.31.255.255": false, "100.127.0.1": false, "169.254.169.254": false,
		"192.0.0.1": false, "198.18.0.1": false, "240.0.0.1": false, "255.255.255.255": false, "224.0.0.251": false, "::ffff:192.168.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "64:ff9b::a00:1": false, "2002:a00:1::1": false, "2001::1": false, "::10.0.0.1": false,
	} {
		if got := choose.Public(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
	if choose.Public(netip.Addr{}) {
		t.Error("no address")
	}
}

// TestPublicStricter: what libp2p takes for private is.
func TestPublicStricter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ip, ok := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip"))
		if rapid.Bool().Draw(t, "v6") {
			ip, ok = netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip6"))
		}
		m, err := manet.FromIP(ip.AsSlice())
		if !ok || err != nil {
			t.Fatal(err)
		}
		if choose.Public(ip) && !manet.IsPublicAddr(m) {
			t.Errorf("%s is not public", ip)
		}
	})
}
