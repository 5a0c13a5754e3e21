package wire_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2/bech32"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/wire"
)

var networks = []wire.Network{wire.Mainnet, wire.Testnet4, wire.Signet, wire.Regtest}

// bech builds an address from its parts, including forms that EncodeAddress
// never produces.
func bech(t testing.TB, hrp string, m bool, version []byte, raw []byte) string {
	t.Helper()
	data, err := bech32.ConvertBits(raw, 8, 5, true)
	if err != nil {
		t.Fatal(err)
	}
	data = append(version, data...)
	encode := bech32.Encode
	if m {
		encode = bech32.EncodeM
	}
	s, err := encode(hrp, data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestNpub parses the example of NIP-19.
func TestNpub(t *testing.T) {
	const npub, raw = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg",
		"7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
	for _, n := range networks {
		for _, s := range []string{npub, raw, " " + npub + "\n", strings.ToUpper(npub), strings.ToUpper(raw), "02" + raw, "03" + raw} {
			k, err := wire.ParseRecipient(n, s)
			if err != nil || k.String() != raw {
				t.Errorf("%s on %s: %v, %v", s, n, k, err)
			}
		}
	}
}

func TestAddresses(t *testing.T) {
	prefix := map[wire.Network]string{wire.Mainnet: "bg1", wire.Testnet4: "tbg1", wire.Signet: "tbg1", wire.Regtest: "bgrt1"}
	rapid.Check(t, func(t *rapid.T) {
		k := key(rapid.ByteRange(0, 250).Draw(t, "key"))
		n := rapid.SampledFrom(networks).Draw(t, "network")
		s := wire.EncodeAddress(n, k)
		if !strings.HasPrefix(s, prefix[n]) {
			t.Fatalf("%s on %s", s, n)
		}
		for _, form := range []string{s, strings.ToUpper(s), "\t" + s + " "} {
			if got, err := wire.ParseRecipient(n, form); err != nil || got != k {
				t.Fatalf("%q: %v", form, err)
			}
		}
		other := rapid.SampledFrom(networks).Draw(t, "other network")
		if _, err := wire.ParseRecipient(other, s); prefix[other] != prefix[n] != errors.Is(err, wire.ErrWrongNetwork) {
			t.Fatalf("%s on %s: %v", s, other, err)
		}
		// The checksum detects any other symbol at any single position.
		const charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
		i := rapid.IntRange(strings.LastIndex(s, "1")+1, len(s)-1).Draw(t, "place")
		c := charset[rapid.IntRange(0, 31).Draw(t, "symbol")]
		if c == s[i] {
			return
		}
		if _, err := wire.ParseRecipient(n, s[:i]+string(c)+s[i+1:]); !errors.Is(err, wire.ErrBadAddress) {
			t.Fatalf("place %d: %v", i, err)
		}
	})

	k := key(1)
	good := wire.EncodeAddress(wire.Mainnet, k)
	for name, s := range map[string]string{
		"nothing":              "",
		"space":                "   ",
		"prefix only":          "bg1",
		"bech32 for bech32m":   bech(t, "bg", false, []byte{0}, k[:]),
		"bech32m npub":         bech(t, "npub", true, nil, k[:]),
		"npub with version":    bech(t, "npub", false, []byte{0}, k[:]),
		"nsec":                 bech(t, "nsec", false, nil, k[:]),
		"bitcoin address":      bech(t, "bc", true, []byte{1}, k[:]),
		"no version":           bech(t, "bg", true, nil, k[:]),
		"version 1":            bech(t, "bg", true, []byte{1}, k[:]),
		"31 bytes":             bech(t, "bg", true, []byte{0}, k[:31]),
		"33 bytes":             bech(t, "bg", true, []byte{0}, append(k[:], 0)),
		"empty data":           bech(t, "bg", true, nil, nil),
		"mixed case":           good[:10] + strings.ToUpper(good[10:]),
		"mixed prefix":         "Bg" + good[2:],
		"cut":                  good[:len(good)-1],
		"longer":               good + "q",
		"inner space":          good[:5] + " " + good[5:],
		"off curve":            wire.EncodeAddress(wire.Mainnet, offCurve),
		"off curve hex":        offCurve.String(),
		"off curve npub":       bech(t, "npub", false, nil, offCurve[:]),
		"zero":                 strings.Repeat("0", 64),
		"31 bytes of hex":      strings.Repeat("01", 31),
		"33 bytes, bad prefix": "04" + k.String(),
		"65 bytes of hex":      "04" + strings.Repeat(k.String(), 2),
		"odd hex":              k.String()[1:],
		"hex with 0x":          "0x" + k.String(),
		"too long":             strings.Repeat("q", 10_000),
		"no ASCII":             "bg1ö" + good[4:],
	} {
		if _, err := wire.ParseRecipient(wire.Mainnet, s); !errors.Is(err, wire.ErrBadAddress) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// 32 bytes leave 4 bits of padding, which must be zero.
	data, err := bech32.ConvertBits(k[:], 8, 5, true)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] |= 1
	padded, err := bech32.EncodeM("bg", append([]byte{0}, data...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ParseRecipient(wire.Mainnet, padded); !errors.Is(err, wire.ErrBadAddress) {
		t.Errorf("padding: %v", err)
	}
	// A name that is not a network has no addresses.
	if _, err := wire.ParseRecipient("moon", good); !errors.Is(err, wire.ErrWrongNetwork) {
		t.Errorf("unknown network: %v", err)
	}
	if h := wire.Network("moon").HRP(); h != "" {
		t.Error(h)
	}
}

func FuzzParseRecipient(f *testing.F) {
	k := key(1)
	for _, n := range networks {
		f.Add(wire.EncodeAddress(n, k))
	}
	f.Add("npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg")
	f.Add(hex.EncodeToString(k[:]))
	f.Add("02" + k.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := wire.ParseRecipient(wire.Mainnet, s)
		if err != nil {
			if !errors.Is(err, wire.ErrBadAddress) && !errors.Is(err, wire.ErrWrongNetwork) {
				t.Fatal(err)
			}
			return
		}
		if _, err := k.Point(); err != nil {
			t.Fatal(err)
		}
		a := wire.EncodeAddress(wire.Mainnet, k)
		if again, err := wire.ParseRecipient(wire.Mainnet, a); err != nil || again != k {
			t.Fatal(err)
		}
		// An address has one spelling, except for case and surrounding space.
		if l := strings.ToLower(strings.TrimSpace(s)); strings.HasPrefix(l, "bg1") && l != a {
			t.Fatalf("%q and %q", l, a)
		}
	})
}
