package blockname

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"
	ma "github.com/multiformats/go-multiaddr"
)

func v4(s string) netip.AddrPort {
	if !strings.Contains(s, ":") {
		s += ":0"
	}
	return netip.MustParseAddrPort(s)
}

type example struct {
	Text string
	Hint Hint
}

// The reference's examples, from its README (the last two by its formats), and
// ours.
func examples() []example {
	return []example{
		{"*!test.domain.tldc0a80001", Hint{Kind: Host, Name: "test.domain.tld", Addr: v4("192.168.0.1")}},
		{"*!test.name01020304", Hint{Kind: Host, Name: "test.name", Addr: v4("1.2.3.4")}},
		{"*!some.host.jeremie.comd044a3fb", Hint{Kind: Host, Name: "some.host.jeremie.com", Addr: v4("208.68.163.251")}},
		{"*!host.name.com11223344", Hint{Kind: Host, Name: "host.name.com", Addr: v4("17.34.51.68")}},
		{"*.domain.tldc0a800010035", Hint{Kind: Domain, Name: "domain.tld", Addr: v4("192.168.0.1:53")}},
		{"*.test.name010203040506", Hint{Kind: Domain, Name: "test.name", Addr: v4("1.2.3.4:1286")}},
		{"*.jeremie.comd044a3fb0035", Hint{Kind: Domain, Name: "jeremie.com", Addr: v4("208.68.163.251:53")}},
		{"*#tld.d010203040506", Hint{Kind: TLD, Name: "tld", DHT: "d", Addr: v4("1.2.3.4:1286")}},
		{"*+notary.example0a0b0c0d", Hint{Kind: Authority, Name: "notary.example", ID: [4]byte{10, 11, 12, 13}}},

		{"*!a01020304", Hint{Kind: Host, Name: "a", Addr: v4("1.2.3.4")}},
		// The address is the last 8 or 12 bytes, whatever precedes them.
		{"*!abcdef.deadbeef00000000", Hint{Kind: Host, Name: "abcdef.deadbeef", Addr: v4("0.0.0.0")}},
		{"*!test.name0102030", Hint{Kind: Host, Name: "test.nam", Addr: v4("224.16.32.48")}},
		{"*!xffffffff", Hint{Kind: Host, Name: "x", Addr: v4("255.255.255.255")}},
		{"*!1.2.3.4.abcdef0102030405", Hint{Kind: Host, Name: "1.2.3.4.abcdef01", Addr: v4("2.3.4.5")}},
		{"*.a.b000000000001", Hint{Kind: Domain, Name: "a.b", Addr: v4("0.0.0.0:1")}},
		{"*.x.a.bffffffffffff", Hint{Kind: Domain, Name: "x.a.b", Addr: v4("255.255.255.255:65535")}},
		{"*#bitgram.1a2b3c7f0000010fa1", Hint{Kind: TLD, Name: "bitgram", DHT: "1a2b3c", Addr: v4("127.0.0.1:4001")}},
		{"*#b." + strings.Repeat("0123456789abcdef", 4) + "7f0000010fa1", Hint{Kind: TLD, Name: "b", DHT: strings.Repeat("0123456789abcdef", 4), Addr: v4("127.0.0.1:4001")}},
		{"*@bitgram.1a2b3c/ip6/2001:db8::1/tcp/4001", Hint{Kind: Seed, Name: "bitgram", DHT: "1a2b3c", Multiaddr: "/ip6/2001:db8::1/tcp/4001"}},
		{"*@bitgram.0/ip6/::/udp/65535/quic-v1", Hint{Kind: Seed, Name: "bitgram", DHT: "0", Multiaddr: "/ip6/::/udp/65535/quic-v1"}},
		{"*@bitgram.f/dns/seed.example.com/tcp/1", Hint{Kind: Seed, Name: "bitgram", DHT: "f", Multiaddr: "/dns/seed.example.com/tcp/1"}},
		{"*@bitgram.00/dns4/a/udp/443/quic-v1", Hint{Kind: Seed, Name: "bitgram", DHT: "00", Multiaddr: "/dns4/a/udp/443/quic-v1"}},
		{"*@b-1.abc/dns6/a.b/tcp/443", Hint{Kind: Seed, Name: "b-1", DHT: "abc", Multiaddr: "/dns6/a.b/tcp/443"}},
		{"*!" + strings.Repeat("a", 63) + ".bcdefg01020304", Hint{Kind: Host, Name: strings.Repeat("a", 63) + ".bcdefg", Addr: v4("1.2.3.4")}},
	}
}

// TestMultiaddrs checks that libp2p accepts a seed's multiaddr in the same
// form.
func TestMultiaddrs(t *testing.T) {
	for _, x := range examples() {
		if x.Hint.Kind != Seed {
			continue
		}
		a, err := ma.NewMultiaddr(x.Hint.Multiaddr)
		if err != nil || a.String() != x.Hint.Multiaddr {
			t.Errorf("%s: %v, %v", x.Hint.Multiaddr, a, err)
		}
	}
}

// Data that begins like a hint but is malformed.
func badTexts() []string {
	long := strings.Repeat("a", 64)
	return []string{
		"*!", "*.", "*#", "*+", "*@", "*!01020304", "*!0102030", "*+01020304",
		"*!.name01020304", "*!name.01020304", "*!a..b01020304", "*!-a01020304", "*!a-01020304", "*!a.-b01020304", "*!a-.b01020304",
		"*!Test.name01020304", "*!te_st01020304", "*!te st01020304", "*!tést01020304", "*!t\u0435st01020304", "*!a/b01020304", "*!a\x00b01020304", "*!a\xff01020304",
		"*!xn--e1afmkfd01020304", "*!a.xn--p1ai01020304",
		"*!test.name0102030G", "*!test.name0102030A", "*!test.nameC0A80001",
		"*!1.2.3.401020304", "*!1.2.3.0x0401020304", "*!0x7f00000101020304", "*!a.0x01020304", "*!12301020304",
		"*!" + long + "01020304", "*!" + strings.Repeat("a.", 35) + "a01020304",
		"*.a010203040035", "*..a010203040035", "*.a.b010203040000", "*.a.b01020304003", "*.a.b01020304003A", "*.a.9010203040035", "*.010203040035",
		"*#tld010203040506", "*#.d010203040506", "*#tld.010203040506", "*#tld.g010203040506", "*#tld.D010203040506", "*#a.b.c010203040506", "*#tld.d010203040000", "*#7.d010203040506", "*#tld.d.010203040506",
		"*#t." + strings.Repeat("0", 65) + "010203040506",
		"*+Name01020304", "*+name0102030g",
		"*@tld.d", "*@tld.d/", "*@tld/ip6/::1/tcp/1", "*@tld./ip6/::1/tcp/1", "*@.d/ip6/::1/tcp/1", "*@a.b.c/ip6/::1/tcp/1", "*@tld.x/ip6/::1/tcp/1",
		"*@tld.d/ip6/::1/tcp/0", "*@tld.d/ip6/::1/tcp/01", "*@tld.d/ip6/::1/tcp/65536", "*@tld.d/ip6/::1/tcp/100000", "*@tld.d/ip6/::1/tcp/", "*@tld.d/ip6/::1/tcp", "*@tld.d/ip6/::1/tcp/+1", "*@tld.d/ip6/::1/tcp/1/",
		"*@tld.d/ip6/::1/udp/1", "*@tld.d/ip6/::1/udp/1/quic", "*@tld.d/ip6/::1/udp/1/quic-v1/", "*@tld.d/ip6/::1/udp//quic-v1", "*@tld.d/ip6/::1/tcp/1/quic-v1", "*@tld.d/ip6/::1/tcp/1/ws",
		"*@tld.d/ip6/0::1/tcp/1", "*@tld.d/ip6/2001:DB8::1/tcp/1", "*@tld.d/ip6/2001:db8:0:0:0:0:0:1/tcp/1", "*@tld.d/ip6/::ffff:1.2.3.4/tcp/1", "*@tld.d/ip6/fe80::1%eth0/tcp/1", "*@tld.d/ip6/[::1]/tcp/1", "*@tld.d/ip6/1.2.3.4/tcp/1", "*@tld.d/ip6//tcp/1",
		"*@tld.d/ip4/1.2.3.4/tcp/1", "*@tld.d/dnsaddr/a.b/tcp/1", "*@tld.d/dns/A.b/tcp/1", "*@tld.d/dns/1.2.3.4/tcp/1", "*@tld.d/dns//tcp/1", "*@tld.d//dns/a/tcp/1",
		"*@tld.d/dns/" + strings.Repeat("a", 62) + ".bb/tcp/1",
	}
}

func TestHints(t *testing.T) {
	for _, x := range examples() {
		h, err := Parse([]byte(x.Text))
		if err != nil || h != x.Hint {
			t.Errorf("%s: %+v, %v", x.Text, h, err)
		}
		if b, err := x.Hint.Encode(); err != nil || string(b) != x.Text {
			t.Errorf("%s encodes as %s, %v", x.Text, b, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, s := range badTexts() {
		if h, err := Parse([]byte(s)); !errors.Is(err, ErrMalformed) || errors.Is(err, ErrNotHint) || h != (Hint{}) {
			t.Errorf("%q: %+v, %v", s, h, err)
		}
	}
	for _, s := range []string{"", "*", "!", "**a01020304", "*?a01020304", " *!a01020304", "bg\x01", "*\x00a01020304", "#*a01020304"} {
		if _, err := Parse([]byte(s)); !errors.Is(err, ErrNotHint) || errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// No hint is longer than 80 bytes, and each kind can be that long.
func TestMaxSize(t *testing.T) {
	pad := func(n int) string { return (strings.Repeat("a", 20) + "." + strings.Repeat("b", 63))[:n] }
	for _, h := range []func(n int) Hint{
		func(n int) Hint { return Hint{Kind: Host, Name: pad(n - 10), Addr: v4("1.2.3.4")} },
		func(n int) Hint { return Hint{Kind: Authority, Name: pad(n - 10)} },
		func(n int) Hint { return Hint{Kind: Domain, Name: pad(n - 14), Addr: v4("1.2.3.4:5")} },
		func(n int) Hint {
			return Hint{Kind: TLD, Name: "abc", DHT: strings.Repeat("0", n-18), Addr: v4("1.2.3.4:5")}
		},
		func(n int) Hint {
			return Hint{Kind: Seed, Name: "abc", DHT: "0", Multiaddr: "/dns/" + pad(n-18) + "/tcp/1"}
		},
	} {
		b, err := h(MaxSize).Encode()
		if err != nil || len(b) != MaxSize {
			t.Errorf("%v: %q, %v", h(0).Kind, b, err)
		}
		if again, err := Parse(b); err != nil || again != h(MaxSize) {
			t.Errorf("%q: %+v, %v", b, again, err)
		}
		if b, err := h(MaxSize + 1).Encode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q, %v", b, err)
		}
	}
}

// A hint without a valid text is not encoded.
func TestEncodeRefuses(t *testing.T) {
	for _, h := range []Hint{
		{},
		{Kind: 'x', Name: "a"},
		{Kind: Host, Name: "a"},
		{Kind: Host, Name: "a", Addr: v4("1.2.3.4:5")},
		{Kind: Host, Name: "a", Addr: v4("[::1]:0")},
		{Kind: Host, Name: "a", Addr: v4("[::ffff:1.2.3.4]:0")},
		{Kind: Host, Name: "a", Addr: v4("1.2.3.4"), DHT: "0"},
		{Kind: Host, Name: "a", Addr: v4("1.2.3.4"), ID: [4]byte{1}},
		{Kind: Host, Name: "A", Addr: v4("1.2.3.4")},
		{Kind: Domain, Name: "a", Addr: v4("1.2.3.4:5")},
		{Kind: Domain, Name: "a.b", Addr: v4("1.2.3.4:0")},
		{Kind: Domain, Name: "a.b", Addr: v4("[::1]:5")},
		{Kind: TLD, Name: "a.b", DHT: "0", Addr: v4("1.2.3.4:5")},
		{Kind: TLD, Name: "a", Addr: v4("1.2.3.4:5")},
		{Kind: TLD, Name: "a", DHT: "0", Addr: v4("1.2.3.4:5"), Multiaddr: "/ip6/::1/tcp/1"},
		{Kind: Authority, Name: "a", Addr: v4("1.2.3.4")},
		{Kind: Seed, Name: "a", DHT: "0", Multiaddr: "/ip4/1.2.3.4/tcp/1"},
		{Kind: Seed, Name: "a", DHT: "0", Multiaddr: "/ip6/::1/tcp/1", Addr: v4("1.2.3.4:5")},
		{Kind: Seed, Name: "a", DHT: "0"},
	} {
		if b, err := h.Encode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%+v encodes as %q, %v", h, b, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	label := strings.Repeat("a", 63)
	longest := strings.Join([]string{label, label, label, label[:61]}, ".")
	for _, s := range []string{"a", "9.a", "a-b", "a--b", "ab-c--d", "0x.a", "0xg", "a.1b", label, longest} {
		if err := CheckName(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", ".", "a.", ".a", "9", "a.9", "0x", "a.0xff", "ab--c", label + "a", longest + "a", "a\n", "ａ"} {
		if err := CheckName(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// Neither scripts without a hint nor malformed hints allocate.
func TestAllocations(t *testing.T) {
	bad := append([]byte{opReturn, 12}, "*!A.b0102030"...)
	other := append([]byte{opReturn, 4}, "abcd"...)
	tx := btcwire.NewMsgTx(2)
	for range 1000 {
		tx.AddTxOut(&btcwire.TxOut{PkScript: bad})
		tx.AddTxOut(&btcwire.TxOut{PkScript: other})
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := FromScript(bad); !ok {
			t.Fatal("no data")
		}
	}); n != 0 {
		t.Errorf("FromScript: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if b := Scan([]*btcwire.MsgTx{tx}); b.Malformed != 1000 || len(b.Hints) != 0 {
			t.Fatal(b)
		}
	}); n > 3 {
		t.Errorf("%v allocations", n)
	}
}
