package blockname

// The longest name and label of DNS. A hint has no room for the former.
const (
	maxName  = 253
	maxLabel = 63
)

// CheckName returns an error that wraps ErrMalformed if name is not a valid
// host name. A name is one or more labels separated by dots, at most 253 bytes.
// A label has 1 to 63 characters of a to z, 0 to 9 and the hyphen. A hyphen
// must not be first or last, nor both third and fourth, which marks encodings
// such as xn--, so a name is exactly what it shows. The last label must not be
// a number, decimal or 0x with hex digits, that could be taken for a part of an
// IPv4 address.
func CheckName(name string) error {
	_, err := labels(name)
	return err
}

// nameBytes are the bytes of labels.
var nameBytes = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789-") {
		t[c] = true
	}
	return t
}()

// labels returns the number of labels of a valid name.
func labels(name string) (n int, err error) {
	if len(name) > maxName {
		return 0, malformed("name longer than 253 bytes")
	}
	start := 0
	for i := 0; ; i++ {
		if i < len(name) && name[i] != '.' {
			if !nameBytes[name[i]] {
				return 0, malformed("a byte in the name that is not a to z, 0 to 9, hyphen or dot")
			}
			continue
		}
		switch l := i - start; {
		case l == 0:
			return 0, malformed("empty name or label")
		case l > maxLabel:
			return 0, malformed("label longer than 63 bytes")
		case name[start] == '-' || name[i-1] == '-':
			return 0, malformed("label with a hyphen first or last")
		case l >= 4 && name[start+2] == '-' && name[start+3] == '-':
			return 0, malformed("label with hyphens third and fourth")
		}
		n++
		if i == len(name) {
			break
		}
		start = i + 1
	}
	if number(name, start) {
		return 0, malformed("the last label is a number")
	}
	return n, nil
}

// number reports whether the label from start on reads as a number: all digits,
// or 0x and zero or more hex digits.
func number(name string, start int) bool {
	base := byte(10)
	if len(name)-start >= 2 && name[start] == '0' && name[start+1] == 'x' {
		start, base = start+2, 16
	}
	for ; start < len(name); start++ {
		if nibble(name[start]) >= base {
			return false
		}
	}
	return true
}

// checkDomain checks a name of at least two labels.
func checkDomain(name string) error {
	n, err := labels(name)
	if err == nil && n < 2 {
		err = malformed("a domain has at least two labels")
	}
	return err
}

// checkPlace checks a TLD and a DHT prefix.
func checkPlace(tld, dht string) error {
	n, err := labels(tld)
	if err != nil {
		return err
	}
	if n != 1 {
		return malformed("a TLD has one label")
	}
	if len(dht) < 1 || len(dht) > MaxDHT {
		return malformed("a DHT prefix has 1 to 64 digits")
	}
	for i := range len(dht) {
		if nibble(dht[i]) > 15 {
			return malformed("a DHT prefix is lower-case hex")
		}
	}
	return nil
}
