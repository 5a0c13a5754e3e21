package wire_test

import (
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2/bech32"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/wire"
)

func TestAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := key(rapid.ByteRange(1, 255).Draw(t, "scalar"))
		n := rapid.SampledFrom([]wire.Network{wire.Mainnet, wire.Signet, wire.Testnet4, wire.Regtest}).Draw(t, "network")
		a := wire.EncodeAddress(n, k)
		if !strings.HasPrefix(a, n.HRP()+"1") {
			t.Errorf("%s on %s", a, n)
		}
		for _, s := range []string{a, " " + strings.ToUpper(a) + "\n", k.String(), "02" + k.String(), "03" + k.String()} {
			if got, err := wire.ParseRecipient(n, s); err != nil || got != k {
				t.Errorf("%q on %s: %v %v", s, n, got, err)
			}
		}
		// A changed symbol, anywhere.
		i := rapid.IntRange(len(n.HRP())+1, len(a)-1).Draw(t, "at")
		c := byte('q')
		if a[i] == c {
			c = 'p'
		}
		if _, err := wire.ParseRecipient(n, a[:i]+string(c)+a[i+1:]); !errors.Is(err, wire.ErrBadAddress) {
			t.Errorf("symbol %d changed: %v", i, err)
		}
	})
	// NIP-19's own example.
	const npub, want = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg", "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
	if k, err := wire.ParseRecipient(wire.Mainnet, npub); err != nil || k.String() != want {
		t.Errorf("npub: %v %v", k, err)
	}
	// One address pinned, so that the format cannot drift.
	if got, want := wire.EncodeAddress(wire.Mainnet, key(1)), "bg1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqek8gd5"; got != want {
		t.Errorf("address of G is %s, was %s", got, want)
	}
}

func encode(t *testing.T, hrp string, m bool, version byte, payload []byte) string {
	data, err := bech32.ConvertBits(payload, 8, 5, true)
	if err != nil {
		t.Fatal(err)
	}
	if version != 99 {
		data = append([]byte{version}, data...)
	}
	enc := bech32.Encode
	if m {
		enc = bech32.EncodeM
	}
	s, err := enc(hrp, data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBadAddresses(t *testing.T) {
	k := key(7)
	good := wire.EncodeAddress(wire.Mainnet, k)
	for what, c := range map[string]struct {
		s    string
		want error
	}{
		"regtest on mainnet": {wire.EncodeAddress(wire.Regtest, k), wire.ErrWrongNetwork},
		"signet on mainnet":  {wire.EncodeAddress(wire.Signet, k), wire.ErrWrongNetwork},
		"bech32":             {encode(t, "bg", false, 0, k[:]), wire.ErrBadAddress},
		"npub as bech32m":    {encode(t, "npub", true, 99, k[:]), wire.ErrBadAddress},
		"version 1":          {encode(t, "bg", true, 1, k[:]), wire.ErrBadAddress},
		"31 bytes":           {encode(t, "bg", true, 0, k[:31]), wire.ErrBadAddress},
		"33 bytes":           {encode(t, "bg", true, 0, append(k[:], 0)), wire.ErrBadAddress},
		"not on the curve":   {encode(t, "bg", true, 0, notKey[:]), wire.ErrBadAddress},
		"hex off the curve":  {notKey.String(), wire.ErrBadAddress},
		"hex of 31 bytes":    {hex.EncodeToString(k[:31]), wire.ErrBadAddress},
		"04 in front":        {"04" + k.String(), wire.ErrBadAddress},
		"another prefix":     {encode(t, "bc", true, 0, k[:]), wire.ErrBadAddress},
		"mixed case":         {strings.ToUpper(good[:10]) + good[10:], wire.ErrBadAddress},
		"empty":              {"", wire.ErrBadAddress},
		"long":               {strings.Repeat("q", 100_000), wire.ErrBadAddress},
		"a bitcoin address":  {"bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr", wire.ErrBadAddress},
		"words":              {"alice@example.org", wire.ErrBadAddress},
	} {
		if _, err := wire.ParseRecipient(wire.Mainnet, c.s); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParseRecipient(f *testing.F) {
	f.Add(wire.EncodeAddress(wire.Regtest, key(1)))
	f.Add(key(2).String())
	f.Add("npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := wire.ParseRecipient(wire.Regtest, s)
		if err != nil {
			if !errors.Is(err, wire.ErrBadAddress) && !errors.Is(err, wire.ErrWrongNetwork) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if back, err := wire.ParseRecipient(wire.Regtest, wire.EncodeAddress(wire.Regtest, k)); err != nil || back != k {
			t.Errorf("%q: %v %v", s, back, err)
		}
	})
}

// TestStoragePrice compares with arithmetic that has no bounds.
func TestStoragePrice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, size := rapid.Uint64().Draw(t, "rate"), rapid.Uint64().Draw(t, "size")
		if rapid.Bool().Draw(t, "small") {
			rate, size = rate>>30, size>>30
		}
		blocks, day := rapid.Uint32().Draw(t, "blocks"), rapid.Uint32Range(1, math.MaxUint32).Draw(t, "day")
		want := new(big.Int).SetUint64(rate)
		want.Mul(want, new(big.Int).SetUint64(size))
		want.Mul(want, big.NewInt(int64(blocks)))
		div := new(big.Int).Mul(big.NewInt(int64(day)), big.NewInt(1_000_000_000))
		want.Add(want, div).Sub(want, big.NewInt(1)).Div(want, div)
		got, err := wire.StoragePrice(wire.Psat(rate), size, blocks, day)
		limit := new(big.Int).Mul(big.NewInt(int64(wire.MaxSat)), big.NewInt(1000))
		switch {
		case err == nil && want.Cmp(new(big.Int).SetUint64(uint64(got))) != 0:
			t.Errorf("%d, wanted %d", got, want)
		case err != nil && !errors.Is(err, wire.ErrOverflow):
			t.Error(err)
		case err != nil && want.Cmp(limit) <= 0 && new(big.Int).Mul(new(big.Int).SetUint64(size), big.NewInt(int64(blocks))).IsUint64():
			t.Errorf("%d overflows: %v", want, err)
		case err == nil && want.Cmp(limit) > 0:
			t.Errorf("%d is more than there is", want)
		}
	})
	if _, err := wire.StoragePrice(1, 1, 1, 0); err == nil {
		t.Error("a day without blocks")
	}
}
