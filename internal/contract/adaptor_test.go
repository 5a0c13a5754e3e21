package contract_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// TestAdaptorRoundTrip: pre-sign, verify, complete, verify by BIP340, extract.
func TestAdaptorRoundTrip(t *testing.T) {
	var parities [2]int
	rounds := tier.Pick(100, 1000, 1000)
	for i := range rounds {
		key, nonce, tau := secret("key %d", i%7), secret("nonce %d", i%5), secret("tau %d", i)
		P, T, digest := public(key), public(tau), wire.Hash(secret("digest %d", i))
		ps, err := contract.PreSign(key, nonce, T, digest)
		if err != nil {
			t.Fatal(err)
		}
		parities[ps[0]-2]++
		if err := contract.VerifyPreSignature(ps, P, T, digest); err != nil {
			t.Fatal(i, err)
		}
		sig, err := contract.Complete(ps, tau)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := schnorr.ParseSignature(sig[:])
		if err != nil {
			t.Fatal(err)
		}
		pub, _ := P.Point()
		if !parsed.Verify(digest[:], pub) {
			t.Fatalf("round %d: the completed signature does not verify", i)
		}
		got, err := contract.ExtractTau(ps, sig, T)
		if err != nil || got != tau {
			t.Fatalf("round %d: extracted another τ (%v)", i, err)
		}
		// Incomplete, it is not a valid signature in either form.
		for _, half := range []wire.Signature{wire.Signature(ps[1:])} {
			if P.Verify(digest, half) == nil {
				t.Fatalf("round %d: the pre-signature is a signature", i)
			}
			if _, err := contract.ExtractTau(ps, half, T); !errors.Is(err, contract.ErrForeignSignature) {
				t.Fatalf("round %d: τ from nothing: %v", i, err)
			}
		}
	}
	if parities[0] < rounds*2/5 || parities[1] < rounds*2/5 {
		t.Errorf("parities of R: %v", parities)
	}
}

// TestVerifyPreSignatureRejects flips every bit of every argument.
func TestVerifyPreSignatureRejects(t *testing.T) {
	for round := range 4 { // both parities
		key, tau := secret("key"), secret("tau %d", round)
		P, T, digest := public(key), public(tau), wire.Hash(secret("digest"))
		ps, err := contract.PreSign(key, secret("nonce"), T, digest)
		if err != nil {
			t.Fatal(err)
		}
		verify := func(ps wire.PreSignature, P, T wire.Key, d wire.Hash) bool {
			return contract.VerifyPreSignature(ps, P, T, d) == nil
		}
		if !verify(ps, P, T, digest) {
			t.Fatal("the untouched one")
		}
		for i := range ps {
			for bit := range 8 {
				bad := ps
				bad[i] ^= 1 << bit
				if verify(bad, P, T, digest) {
					t.Errorf("byte %d bit %d of the pre-signature", i, bit)
				}
			}
		}
		for i := range 32 {
			k, p, d := P, T, digest
			k[i] ^= 1
			p[i] ^= 1
			d[i] ^= 1
			if verify(ps, k, T, digest) || verify(ps, P, p, digest) || verify(ps, P, T, d) {
				t.Errorf("byte %d of key, point or digest", i)
			}
		}
		// s′ + n is the same scalar in different bytes.
		var order [32]byte
		copy(order[:], btcec.S256().N.Bytes())
		big := ps
		copy(big[33:], order[:])
		if verify(big, P, T, digest) {
			t.Error("s′ = n")
		}
	}
	if err := contract.VerifyPreSignature(wire.PreSignature{0: 2}, public(secret("key")), public(secret("tau")), wire.Hash{}); err == nil {
		t.Error("zeros")
	}
}

// TestVerifyPreSignatureParity: if a sender encodes the wrong parity of R,
// every equation of its pre-signature holds except the last. The completed
// signature would be invalid, and the agent would work for nothing.
func TestVerifyPreSignatureParity(t *testing.T) {
	key, tau := secret("key"), secret("tau")
	P, T, digest := public(key), public(tau), wire.Hash(secret("digest"))
	priv, _ := key.PrivKey()
	point, _ := T.Point()
	for _, parity := range []byte{2, 3} {
		var seen [2]bool
		for i := 0; !seen[0] || !seen[1]; i++ {
			k, _ := secret("k %d", i).PrivKey()
			var kG, tt, R btcec.JacobianPoint
			k.PubKey().AsJacobian(&kG)
			point.AsJacobian(&tt)
			if parity == 3 { // T is subtracted instead
				tt.Y.Negate(1).Normalize()
			}
			btcec.AddNonConst(&kG, &tt, &R)
			R.ToAffine()
			ps := wire.PreSignature{parity}
			R.X.PutBytesUnchecked(ps[1:33])
			e := challengeOf(ps[1:33], P, digest)
			s := priv.Key
			s.Mul(&e).Add(&k.Key)
			s.PutBytesUnchecked(ps[33:])
			err := contract.VerifyPreSignature(ps, P, T, digest)
			sig, cerr := contract.Complete(ps, tau)
			if cerr != nil {
				t.Fatal(cerr)
			}
			// What verifies is what completes, and nothing else.
			if valid := P.Verify(digest, sig) == nil; valid != (err == nil) || valid == R.Y.IsOdd() {
				t.Fatalf("parity %d, R odd %v: pre-signature %v, completed valid %v", parity, R.Y.IsOdd(), err, valid)
			}
			if R.Y.IsOdd() {
				seen[1] = true
			} else {
				seen[0] = true
			}
		}
	}
}

// TestAdaptorBadKeys: an invalid scalar or point is an error, not a panic.
func TestAdaptorBadKeys(t *testing.T) {
	good, T := secret("key"), public(secret("tau"))
	var zero wire.Secret
	over := wire.Secret(btcec.S256().N.FillBytes(make([]byte, 32)))
	for _, bad := range []wire.Secret{zero, over} {
		if _, err := contract.PreSign(bad, good, T, wire.Hash{}); !errors.Is(err, wire.ErrBadKey) {
			t.Errorf("pre-sign: %v", err)
		}
		ps, err := contract.PreSign(good, good, T, wire.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := contract.Complete(ps, bad); !errors.Is(err, wire.ErrBadKey) {
			t.Errorf("complete: %v", err)
		}
		if err := contract.CheckTau(bad, T); err == nil {
			t.Error("τ out of range")
		}
	}
	if _, err := contract.PreSign(good, good, wire.Key{31: 5}, wire.Hash{}); !errors.Is(err, wire.ErrBadKey) {
		t.Errorf("T off the curve: %v", err)
	}
	if contract.CheckTau(secret("tau"), T) != nil || contract.CheckTau(good, T) == nil {
		t.Error("CheckTau")
	}
}

// nonceOf returns k of the completed signature's R = kG: s = k + e·d.
func nonceOf(sig wire.Signature, e, d *btcec.ModNScalar) (k btcec.ModNScalar) {
	k.SetByteSlice(sig[32:])
	var ed btcec.ModNScalar
	ed.Mul2(e, d)
	k.Add(ed.Negate())
	return
}

func challengeOf(rx []byte, P wire.Key, digest wire.Hash) (e btcec.ModNScalar) {
	h := chainhash.TaggedHash(chainhash.TagBIP0340Challenge, rx, P[:], digest[:])
	e.SetByteSlice(h[:])
	return
}

// TestNonceOnce: no two pre-signatures of different statements share a nonce;
// the same statement gives the same bytes at both ends (invariant NonceOnce).
func TestNonceOnce(t *testing.T) {
	type statement struct {
		key, nonce, tau wire.Secret
		digest          wire.Hash
	}
	// base removes T from the nonce point: R − T (or −R if R.y is odd) is k·G,
	// which must differ too; otherwise two T would share k.
	base := func(ps wire.PreSignature, tau wire.Secret, P wire.Key, digest wire.Hash, key wire.Secret) [32]byte {
		priv, _ := key.PrivKey()
		e := challengeOf(ps[1:33], P, digest)
		var k btcec.ModNScalar
		k.SetByteSlice(ps[33:])
		var ed btcec.ModNScalar
		ed.Mul2(&e, &priv.Key)
		k.Add(ed.Negate())
		if ps[0] == 3 {
			k.Negate()
		}
		return k.Bytes()
	}
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string) int { return rapid.IntRange(0, 3).Draw(t, name) }
		draw := func(n string) statement {
			return statement{secret("key %d", pick(n+" key")), secret("nonce %d", pick(n+" nonce")),
				secret("tau %d", pick(n+" tau")), wire.Hash(secret("digest %d", pick(n+" digest")))}
		}
		a, b := draw("a"), draw("b")
		if rapid.Bool().Draw(t, "a bit of the digest only") {
			b = a
			i := rapid.IntRange(0, 255).Draw(t, "bit")
			b.digest[i/8] ^= 1 << (i % 8)
		}
		sign := func(s statement) wire.PreSignature {
			ps, err := contract.PreSign(s.key, s.nonce, public(s.tau), s.digest)
			if err != nil {
				t.Fatal(err)
			}
			return ps
		}
		pa, pb := sign(a), sign(b)
		if a == b {
			if pa != pb {
				t.Fatal("the same statement, two pre-signatures")
			}
			return
		}
		if [32]byte(pa[1:33]) == [32]byte(pb[1:33]) {
			t.Fatal("R twice")
		}
		if base(pa, a.tau, public(a.key), a.digest, a.key) == base(pb, b.tau, public(b.key), b.digest, b.key) {
			t.Fatal("k twice")
		}
	})

	// The reason: from two signatures by one key with one nonce anyone can
	// compute the key, d = (s₁ − s₂)/(e₁ − e₂). Demonstrated with a nonce that
	// ignores the digest.
	priv, _ := secret("key").PrivKey()
	P := wire.XOnly(priv.PubKey())
	k, _ := secret("a nonce used twice").PrivKey() // even R
	R := wire.XOnly(k.PubKey())
	sign := func(digest wire.Hash) (sig wire.Signature, e btcec.ModNScalar) {
		e = challengeOf(R[:], P, digest)
		s := priv.Key
		s.Mul(&e).Add(&k.Key)
		copy(sig[:], R[:])
		b := s.Bytes()
		copy(sig[32:], b[:])
		if err := P.Verify(digest, sig); err != nil {
			t.Fatal(err)
		}
		return
	}
	s1, e1 := sign(wire.Hash{1})
	s2, e2 := sign(wire.Hash{2})
	var top, s btcec.ModNScalar
	top.SetByteSlice(s1[32:])
	s.SetByteSlice(s2[32:])
	top.Add(s.Negate())
	e1.Add(e2.Negate())
	top.Mul(e1.InverseNonConst())
	if wire.Secret(top.Bytes()) != wire.SecretOf(priv) {
		t.Error("the attack is not the one described")
	}
	// The same computation on two of our signatures gives nothing.
	T := public(secret("tau"))
	var diff [2]wire.PreSignature
	for i := range diff {
		ps, err := contract.PreSign(secret("key"), secret("nonce"), T, wire.Hash{byte(i + 1)})
		if err != nil {
			t.Fatal(err)
		}
		diff[i] = ps
	}
	top.SetByteSlice(diff[0][33:])
	s.SetByteSlice(diff[1][33:])
	top.Add(s.Negate())
	x, y := challengeOf(diff[0][1:33], P, wire.Hash{1}), challengeOf(diff[1][1:33], P, wire.Hash{2})
	x.Add(y.Negate())
	top.Mul(x.InverseNonConst())
	if got := wire.Secret(top.Bytes()); public(got) == P {
		t.Error("the key falls out of two pre-signatures")
	}
}

// TestNonceFormula recomputes k by the formula of the specification.
func TestNonceFormula(t *testing.T) {
	for i := range 20 {
		key, nonce, tau := secret("key"), secret("nonce"), secret("tau %d", i)
		P, T, digest := public(key), public(tau), wire.Hash(secret("digest"))
		ps, err := contract.PreSign(key, nonce, T, digest)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := contract.Complete(ps, tau)
		if err != nil {
			t.Fatal(err)
		}
		priv, _ := key.PrivKey()
		e := challengeOf(ps[1:33], P, digest)
		r := nonceOf(sig, &e, &priv.Key) // k + τ, negated if R was odd
		if ps[0] == 3 {
			r.Negate()
		}
		want := wire.Tagged("adaptor-nonce", nonce[:], digest[:], P[:], T[:], binary.BigEndian.AppendUint32(nil, 0))
		var k, tt btcec.ModNScalar
		k.SetByteSlice(want[:])
		tt.SetByteSlice(tau[:])
		k.Add(&tt)
		if !k.Equals(&r) {
			t.Fatalf("round %d: nonce differs from the formula", i)
		}
	}
}

// FuzzVerifyPreSignature: no input panics, and only the one pre-signature of
// the fixed statement passes.
func FuzzVerifyPreSignature(f *testing.F) {
	key, tau := secret("key"), secret("tau")
	P, T, digest := public(key), public(tau), wire.Hash(secret("digest"))
	ps, err := contract.PreSign(key, secret("nonce"), T, digest)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ps[:])
	f.Add(make([]byte, 65))
	odd := ps
	odd[0] ^= 1
	f.Add(odd[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != len(ps) {
			return
		}
		in := wire.PreSignature(b)
		if contract.VerifyPreSignature(in, P, T, digest) == nil && in != ps {
			t.Fatalf("forged: %x", b)
		}
		if sig, err := contract.Complete(in, tau); err == nil {
			if got, err := contract.ExtractTau(in, sig, T); err != nil || got != tau {
				t.Fatalf("round trip: %v", err)
			}
		}
	})
}
