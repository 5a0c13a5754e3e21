package wire_test

import (
	"encoding/csv"
	"encoding/hex"
	"os"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// TestBIP340 runs BIP340's test-vectors.csv, the failing ones included.
func TestBIP340(t *testing.T) {
	f, err := os.Open("testdata/bip340.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range rows[1:] {
		raw := func(i int) []byte {
			b, err := hex.DecodeString(r[i])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		msg := raw(4)
		if len(msg) != 32 {
			continue // our messages are digests
		}
		n++
		key, sig := wire.Key(raw(2)), wire.Signature(raw(5))
		if got := key.Verify(wire.Hash(msg), sig) == nil; got != (r[6] == "TRUE") {
			t.Errorf("vector %s (%s): verifies %v", r[0], r[7], got)
		}
		if len(raw(1)) == 32 {
			own, err := wire.Sign(wire.Secret(raw(1)), wire.Hash(msg))
			if err != nil {
				t.Fatal(err)
			}
			if err := key.Verify(wire.Hash(msg), own); err != nil {
				t.Errorf("vector %s: own signature: %v", r[0], err)
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d vectors", n)
	}
}
