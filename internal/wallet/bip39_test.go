package wallet

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// TestBIP39 runs the vectors that BIP39 refers to.
func TestBIP39(t *testing.T) {
	raw, err := os.ReadFile("testdata/bip39.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ English [][]string }
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.English) < 20 {
		t.Fatalf("only %d vectors", len(v.English))
	}
	for _, c := range v.English {
		entropy, err := hex.DecodeString(c[0])
		if err != nil {
			t.Fatal(err)
		}
		if words, err := NewMnemonic(entropy); err != nil || words != c[1] {
			t.Errorf("%s: %q %v", c[0], words, err)
		}
		if seed, err := Seed(c[1], "TREZOR"); err != nil || hex.EncodeToString(seed) != c[2] {
			t.Errorf("%s: seed %x %v", c[0], seed, err)
		}
	}
	for _, bad := range []string{"", "abandon", strings.Repeat("abandon ", 12), strings.Repeat("zzz ", 12)} {
		if _, err := Seed(bad, ""); !errors.Is(err, ErrBadMnemonic) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
