package blockname

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const (
	// MaxSize is the maximum size of a hint in bytes, the usual relay limit of
	// an OP_RETURN output's data.
	MaxSize = 80
	// MaxOriginalSize is the largest hint that the reference writes.
	MaxOriginalSize = 40
	// MaxDHT is the largest DHT prefix in hex digits.
	MaxDHT = 64
)

var (
	// ErrMalformed means that data begins like a hint but does not follow the
	// grammar.
	ErrMalformed = errors.New("malformed hint")
	// ErrNotHint means that data does not begin with * and the byte of a kind.
	ErrNotHint = errors.New("not a hint")
)

// malformed is an error about a hint; it wraps ErrMalformed. It is a string, so
// a block full of bad hints does not allocate for each.
type malformed string

func (m malformed) Error() string { return ErrMalformed.Error() + ": " + string(m) }
func (malformed) Unwrap() error   { return ErrMalformed }

// Kind is the second byte of a hint.
type Kind byte

// The kinds (spec/blockname.md §2).
const (
	Host      Kind = '!' // name → IPv4 address
	Domain    Kind = '.' // name → its name server's IPv4 address and port
	TLD       Kind = '#' // TLD, DHT prefix → a seed's IPv4 address and port
	Authority Kind = '+' // name → a notary's id
	Seed      Kind = '@' // TLD, DHT prefix → a seed's multiaddr
)

// String returns host, domain, tld, authority or seed.
func (k Kind) String() string {
	switch k {
	case Host:
		return "host"
	case Domain:
		return "domain"
	case TLD:
		return "tld"
	case Authority:
		return "authority"
	case Seed:
		return "seed"
	}
	return fmt.Sprintf("unknown kind %q", byte(k))
}

func (k Kind) known() bool {
	return k == Host || k == Domain || k == TLD || k == Authority || k == Seed
}

// AddsUp reports whether hints of kind k have a DHT prefix, under which burns
// add up.
func (k Kind) AddsUp() bool { return k == TLD || k == Seed }

// Hint is one hint. Fields that its kind does not have are zero. Hints are
// equal (==) if and only if their texts are.
type Hint struct {
	Kind Kind
	// Name is the host, domain or authority name, or the one label of the TLD.
	Name string
	// DHT is the hex prefix of the SHA-256 of the seed's peer ID (TLD, Seed).
	DHT string
	// Addr is an IPv4 address, with a port for Domain and TLD and port 0 for
	// Host.
	Addr netip.AddrPort
	// Multiaddr is the address of a Seed.
	Multiaddr string
	// ID is an Authority's notary.
	ID [4]byte
}

// Parse reads the data of an OP_RETURN push. The error is ErrNotHint or wraps
// ErrMalformed.
func Parse(data []byte) (Hint, error) {
	if !begins(data) {
		return Hint{}, ErrNotHint
	}
	if len(data) > MaxSize {
		return Hint{}, malformed("longer than 80 bytes")
	}
	return parse(string(data))
}

// begins reports whether data begins like a hint.
func begins(data []byte) bool { return len(data) >= 2 && data[0] == '*' && Kind(data[1]).known() }

// parse parses text that begins like a hint and is not too long. The hint's
// strings share text's memory.
func parse(text string) (h Hint, err error) {
	kind, body := Kind(text[1]), text[2:]
	switch kind {
	case Host, Authority:
		var b [4]byte
		if body, err = cutHex(body, b[:]); err != nil {
			return Hint{}, err
		}
		h = Hint{Kind: kind, Name: body}
		if kind == Authority {
			h.ID = b
		} else {
			h.Addr = netip.AddrPortFrom(netip.AddrFrom4(b), 0)
		}
		err = CheckName(body)
	case Domain, TLD:
		var b [6]byte
		if body, err = cutHex(body, b[:]); err != nil {
			return Hint{}, err
		}
		h = Hint{Kind: kind, Name: body, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(b[4])<<8|uint16(b[5]))}
		if h.Addr.Port() == 0 {
			return Hint{}, malformed("port 0")
		}
		if kind == Domain {
			err = checkDomain(body)
		} else {
			err = h.setPlace(body)
		}
	case Seed:
		i := max(0, strings.IndexByte(body, '/'))
		h = Hint{Kind: kind, Multiaddr: body[i:]}
		if err = h.setPlace(body[:i]); err == nil {
			err = checkMultiaddr(h.Multiaddr)
		}
	}
	if err != nil {
		return Hint{}, err
	}
	return h, nil
}

// cutHex splits len(dst) bytes in hex off the end of body.
func cutHex(body string, dst []byte) (front string, err error) {
	n := len(body) - 2*len(dst)
	if n < 0 {
		return "", malformed("too short")
	}
	for i := range dst {
		hi, lo := nibble(body[n+2*i]), nibble(body[n+2*i+1])
		if hi|lo > 15 {
			return "", malformed("the address, port or id at the end is not lower-case hex")
		}
		dst[i] = hi<<4 | lo
	}
	return body[:n], nil
}

// setPlace parses the TLD and the DHT prefix. Neither can contain a dot, so the
// first dot separates them.
func (h *Hint) setPlace(s string) error {
	tld, dht, ok := strings.Cut(s, ".")
	if !ok {
		return malformed("no dot between the TLD and the DHT prefix")
	}
	h.Name, h.DHT = tld, dht
	return checkPlace(tld, dht)
}

// Encode returns the hint's text, for the single push of an OP_RETURN output.
// It returns an error that wraps ErrMalformed if Parse would not accept the
// text.
func (h Hint) Encode() ([]byte, error) { return h.append(nil) }

func (h Hint) append(b []byte) ([]byte, error) {
	// Fields that the kind does not have must be zero.
	only := Hint{Kind: h.Kind, Name: h.Name}
	var err error
	switch h.Kind {
	case Host:
		only.Addr = netip.AddrPortFrom(h.Addr.Addr(), 0)
		err = CheckName(h.Name)
	case Authority:
		only.ID = h.ID
		err = CheckName(h.Name)
	case Domain:
		only.Addr = h.Addr
		err = checkDomain(h.Name)
	case TLD:
		only.Addr, only.DHT = h.Addr, h.DHT
		err = checkPlace(h.Name, h.DHT)
	case Seed:
		only.DHT, only.Multiaddr = h.DHT, h.Multiaddr
		if err = checkPlace(h.Name, h.DHT); err == nil {
			err = checkMultiaddr(h.Multiaddr)
		}
	default:
		return nil, malformed("unknown kind")
	}
	if err != nil {
		return nil, err
	}
	if h != only {
		return nil, malformed("a field that the kind does not have")
	}
	if h.Kind == Host || h.Kind == Domain || h.Kind == TLD {
		if !h.Addr.Addr().Is4() {
			return nil, malformed("not an IPv4 address")
		}
		if h.Kind != Host && h.Addr.Port() == 0 {
			return nil, malformed("port 0")
		}
	}
	start := len(b)
	b = append(b, '*', byte(h.Kind))
	b = append(b, h.Name...)
	if h.Kind.AddsUp() {
		b = append(b, '.')
		b = append(b, h.DHT...)
	}
	switch h.Kind {
	case Seed:
		b = append(b, h.Multiaddr...)
	case Authority:
		b = hex.AppendEncode(b, h.ID[:])
	default:
		ip := h.Addr.Addr().As4()
		b = hex.AppendEncode(b, ip[:])
		if p := h.Addr.Port(); p != 0 {
			b = hex.AppendEncode(b, []byte{byte(p >> 8), byte(p)})
		}
	}
	if len(b)-start > MaxSize {
		return nil, malformed("longer than 80 bytes")
	}
	return b, nil
}

// nibble returns the value of a lower-case hex digit, or 255.
func nibble(c byte) byte { return nibbles[c] }

const hexDigits = "0123456789abcdef"

var nibbles = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
	}
	for i, c := range []byte(hexDigits) {
		t[c] = byte(i)
	}
	return t
}()

// checkMultiaddr checks a seed's address: /ip6/, /dns/, /dns4/ or /dns6/, then
// /tcp/PORT or /udp/PORT/quic-v1, in canonical form.
func checkMultiaddr(s string) error {
	rest, ok := strings.CutPrefix(s, "/")
	if !ok {
		return malformed("no multiaddr")
	}
	proto, rest, _ := strings.Cut(rest, "/")
	where, rest, _ := strings.Cut(rest, "/")
	switch proto {
	case "ip6":
		a, err := netip.ParseAddr(where)
		var text [64]byte
		if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" || string(a.AppendTo(text[:0])) != where {
			return malformed("not an IPv6 address in canonical form")
		}
	case "dns", "dns4", "dns6":
		if err := CheckName(where); err != nil {
			return err
		}
	default:
		return malformed("the multiaddr must begin with ip6, dns, dns4 or dns6")
	}
	port, ok := strings.CutPrefix(rest, "tcp/")
	if !ok {
		if port, ok = strings.CutPrefix(rest, "udp/"); ok {
			port, ok = strings.CutSuffix(port, "/quic-v1")
		}
		if !ok {
			return malformed("the multiaddr must end in tcp/PORT or udp/PORT/quic-v1")
		}
	}
	n := 0
	for i := range len(port) {
		if c := port[i]; c < '0' || c > '9' || i == 5 {
			return malformed("port out of range")
		}
		n = 10*n + int(port[i]-'0')
	}
	if n < 1 || n > 65535 || port[0] == '0' {
		return malformed("port out of range or with a leading zero")
	}
	return nil
}
