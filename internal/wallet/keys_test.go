package wallet

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/bitgram/bitgram/wire"
)

func load(t *testing.T, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

// TestBIP39 runs the published English vectors.
func TestBIP39(t *testing.T) {
	var vectors [][4]string
	load(t, "bip39.json", &vectors)
	if len(vectors) != 24 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for i, v := range vectors {
		entropy, err := hex.DecodeString(v[0])
		if err != nil {
			t.Fatal(err)
		}
		words, err := NewMnemonic(entropy)
		if err != nil || words != v[1] {
			t.Errorf("%d: mnemonic %q, %v", i, words, err)
		}
		seed, err := Seed(v[1], "TREZOR")
		if err != nil || hex.EncodeToString(seed) != v[2] {
			t.Errorf("%d: seed %x, %v", i, seed, err)
		}
		root, err := hdkeychain.NewMaster(seed, &chaincfg.MainNetParams)
		if err != nil || root.String() != v[3] {
			t.Errorf("%d: root key, %v", i, err)
		}
		// One wrong word or none of a dozen: never another wallet in silence.
		split := strings.Fields(v[1])
		for _, bad := range []string{strings.Join(split[1:], " "), v[1] + " abandon", v[1] + "x",
			strings.Replace(v[1], split[0], "bitgram", 1), ""} {
			if _, err := Seed(bad, ""); !errors.Is(err, ErrBadMnemonic) {
				t.Errorf("%d: %q passes: %v", i, bad, err)
			}
		}
	}
}

// TestBIP86 runs the BIP's vectors through the account.
func TestBIP86(t *testing.T) {
	var v struct {
		Mnemonic, Rootpriv string
		Addresses          []struct {
			Path, Script, Address string
			InternalKey           string `json:"internal_key"`
			OutputKey             string `json:"output_key"`
		}
	}
	load(t, "bip86.json", &v)
	seed, err := Seed(v.Mnemonic, "")
	if err != nil {
		t.Fatal(err)
	}
	root, err := hdkeychain.NewMaster(seed, &chaincfg.MainNetParams)
	if err != nil || root.String() != v.Rootpriv {
		t.Fatalf("root key: %v", err)
	}
	a, err := newAccount(seed, &chaincfg.MainNetParams)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Addresses) != 3 {
		t.Fatalf("%d addresses", len(v.Addresses))
	}
	for _, want := range v.Addresses {
		var p path
		if _, err := fmt.Sscanf(want.Path, "m/86'/0'/0'/%d/%d", &p.Branch, &p.Index); err != nil {
			t.Fatal(err)
		}
		k, err := a.key(p)
		if err != nil || wire.XOnly(k.PubKey()).String() != want.InternalKey {
			t.Errorf("%s: internal key, %v", want.Path, err)
		}
		s, err := a.script(p)
		if err != nil || hex.EncodeToString(s) != want.Script || want.Script != "5120"+want.OutputKey {
			t.Errorf("%s: script %x, %v", want.Path, s, err)
		}
		addr, err := address.NewAddressTaproot(s[2:], &chaincfg.MainNetParams)
		if err != nil || addr.String() != want.Address {
			t.Errorf("%s: address %v, %v", want.Path, addr, err)
		}
	}
	other, err := newAccount(seed, &chaincfg.RegressionNetParams)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := a.script(path{})
	y, _ := other.script(path{})
	if bytes.Equal(x, y) {
		t.Error("regtest has mainnet's keys")
	}
}

// TestIdentityKey: stable, even, and no key of the account.
func TestIdentityKey(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, 64)
	id, err := IdentityKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	again, err := IdentityKey(seed)
	if err != nil || id != again {
		t.Fatal("not stable", err)
	}
	k, err := id.PrivKey()
	if err != nil || wire.SecretOf(k) != id {
		t.Error("not normalised to an even point")
	}
	if other, _ := IdentityKey(bytes.Repeat([]byte{8}, 64)); other == id {
		t.Error("two seeds, one identity")
	}
	a, err := newAccount(seed, &chaincfg.MainNetParams)
	if err != nil {
		t.Fatal(err)
	}
	for b := range uint32(2) {
		for i := range uint32(20) {
			if c, err := a.key(path{b, i}); err != nil || wire.XOnly(c.PubKey()) == wire.XOnly(k.PubKey()) {
				t.Errorf("identity holds coins at %d/%d (%v)", b, i, err)
			}
		}
	}
}
