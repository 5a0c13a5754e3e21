package contract

import (
	"encoding/binary"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/bitgram/bitgram/wire"
)

// TestVerifyAll: signatures verify together exactly if each verifies alone.
func TestVerifyAll(t *testing.T) {
	secret := wire.Secret{31: 7}
	priv, err := secret.PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	key := wire.XOnly(priv.PubKey())
	for _, n := range []int{1, 2, 14, 255, 256, 300} {
		digests, sigs := make([]wire.Hash, n), make([]wire.Signature, n)
		for i := range sigs {
			digests[i] = wire.Tagged("test", binary.BigEndian.AppendUint32(nil, uint32(i)))
			if sigs[i], err = wire.Sign(secret, digests[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !verifyAll(key, digests, sigs) {
			t.Errorf("%d true signatures do not verify", n)
		}
		at := n / 2
		good := sigs[at]
		order := btcec.S256().N.FillBytes(make([]byte, 32))
		for what, f := range map[string]func(*wire.Signature){
			"R":        func(s *wire.Signature) { s[5]++ },
			"s":        func(s *wire.Signature) { s[40]++ },
			"last bit": func(s *wire.Signature) { s[63] ^= 1 },
			"s of n":   func(s *wire.Signature) { copy(s[32:], order) },
			"zeros":    func(s *wire.Signature) { *s = wire.Signature{} },
			"negated": func(s *wire.Signature) { // with −s the point has the same x, and odd y
				var x btcec.ModNScalar
				x.SetByteSlice(s[32:])
				x.Negate()
				x.PutBytesUnchecked(s[32:])
			},
		} {
			sigs[at] = good
			f(&sigs[at])
			if key.Verify(digests[at], sigs[at]) == nil {
				t.Fatalf("%s: it verifies alone", what)
			}
			if verifyAll(key, digests, sigs) {
				t.Errorf("of %d signatures one is false (%s), and they verify together", n, what)
			}
		}
		sigs[at] = good
		if n > 1 { // errors that cancel each other without factors
			a, b := sigs[0], sigs[1]
			for i, d := range []int{1, -1} {
				var x, one btcec.ModNScalar
				x.SetByteSlice(sigs[i][32:])
				if one.SetInt(1); d < 0 {
					one.Negate()
				}
				x.Add(&one)
				x.PutBytesUnchecked(sigs[i][32:])
			}
			if verifyAll(key, digests, sigs) {
				t.Error("two false signatures cancel each other")
			}
			sigs[0], sigs[1] = b, a
			if verifyAll(key, digests, sigs) {
				t.Error("swapped signatures verify")
			}
			sigs[0], sigs[1] = a, b
		}
		if other := wire.Key(digests[0]); verifyAll(other, digests, sigs) {
			t.Error("for another key")
		}
	}
}
