package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/wire"
	"github.com/btcsuite/btcd/btcec/v2"
	"pgregory.net/rapid"
)

// derived returns every value that the two ends of a message share, by name.
func derived(s *Secrets, agents ...wire.Key) map[string][]byte {
	out := map[string][]byte{"ss0": s.ss0[:], "ss": s.ss[:]}
	put := func(name string, v wire.Secret) { out[name] = v[:] }
	tag, mask := s.Tag(Outpoint{}), s.Mask(wire.Locator{})
	out["tag"], out["mask"] = tag[:], mask[:]
	put("content", s.contentKey())
	for i, a := range agents {
		n := fmt.Sprint(" ", i)
		put("fetch"+n, s.FetchKey(a))
		put("release"+n, s.ReleaseSecret(a))
		put("sender"+n, s.SenderKey(a))
		put("nonce"+n, s.NonceKey(a))
		put("ack"+n, s.AckKey(a))
	}
	return out
}

func TestBothEndsDeriveTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, r := drawSecret(t, "e"), drawSecret(t, "r")
		a, err := FromSender(e, publicOf(r))
		if err != nil {
			t.Fatal(err)
		}
		b, err := FromRecipient(r, publicOf(e))
		if err != nil {
			t.Fatal(err)
		}
		agent := publicOf(drawSecret(t, "agent"))
		x, y := derived(a, agent), derived(b, agent)
		for name := range x {
			if string(x[name]) != string(y[name]) {
				t.Fatalf("%s differs", name)
			}
		}
		l := wire.Locator{1, 2, 3}
		if a.Mask(l) == l || a.Mask(b.Mask(l)) != l {
			t.Fatal("mask is not its own inverse")
		}
	})
}

// The parity of either secret does not matter.
func TestParity(t *testing.T) {
	neg := func(s wire.Secret) wire.Secret {
		var k btcec.ModNScalar
		k.SetBytes((*[32]byte)(&s))
		k.Negate()
		return wire.Secret(k.Bytes())
	}
	want := sender(t)
	for _, e := range []wire.Secret{key("ephemeral"), neg(key("ephemeral"))} {
		s, err := FromSender(e, public("recipient"))
		if err != nil || *s != *want {
			t.Fatal("sender: differs")
		}
	}
	for _, r := range []wire.Secret{key("recipient"), neg(key("recipient"))} {
		s, err := FromRecipient(r, public("ephemeral"))
		if err != nil || *s != *want {
			t.Fatal("recipient: differs")
		}
		c, err := NewScanner(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Match(public("ephemeral"), Outpoint{7}, want.Tag(Outpoint{7})); !ok {
			t.Fatal("scanner: no match")
		}
	}
	K := wire.MessageKey{9}
	a, err := SealKey(neg(key("ephemeral")), public("T"), public("agent"), K)
	if err != nil {
		t.Fatal(err)
	}
	b, err := UnsealKey(neg(key("T")), public("ephemeral"), public("agent"), K)
	if err != nil || a != b {
		t.Fatal("seal key: differs")
	}
}

// No two values of one message, of its agents, or of another message are equal.
func TestRoleSeparation(t *testing.T) {
	seen := map[string]string{}
	other, err := FromSender(key("ephemeral 2"), public("recipient"))
	if err != nil {
		t.Fatal(err)
	}
	third, err := FromSender(key("ephemeral"), public("recipient 2"))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []*Secrets{sender(t), other, third} {
		for name, v := range derived(s, public("agent"), public("agent 2"), s.e, s.r) {
			name = fmt.Sprint("message ", i, ": ", name)
			v := string(v[:4]) // the tag is that short
			if seen[v] != "" {
				t.Errorf("%s equals %s", name, seen[v])
			}
			seen[v] = name
		}
	}
	for _, at := range []struct {
		name  string
		e     wire.Secret
		T, to wire.Key
		K     wire.MessageKey
	}{
		{"seal", key("ephemeral"), public("T"), public("agent"), wire.MessageKey{1}},
		{"seal other e", key("ephemeral 2"), public("T"), public("agent"), wire.MessageKey{1}},
		{"seal other T", key("ephemeral"), public("T 2"), public("agent"), wire.MessageKey{1}},
		{"seal other agent", key("ephemeral"), public("T"), public("agent 2"), wire.MessageKey{1}},
		{"seal other K", key("ephemeral"), public("T"), public("agent"), wire.MessageKey{2}},
		// A point that is the recipient's key gives the same x coordinate.
		{"seal at R", key("ephemeral"), public("recipient"), public("agent"), wire.MessageKey{1}},
	} {
		k, err := SealKey(at.e, at.T, at.to, at.K)
		if err != nil {
			t.Fatal(err)
		}
		v := string(k[:4])
		if seen[v] != "" {
			t.Errorf("%s equals %s", at.name, seen[v])
		}
		seen[v] = at.name
	}
	if len(seen) != 3*(5+4*5)+6 {
		t.Errorf("%d values", len(seen))
	}
}

// Checks the assumption of derive.go that info strings cannot collide.
func TestRolesAreShort(t *testing.T) {
	for _, r := range []string{roleTag, roleMask, roleFetch, roleContent, roleRelease, roleSender, roleNonce, roleAck, roleAckBox, roleCopy} {
		if len(r) == 0 || len(r) >= 32 {
			t.Errorf("role %q", r)
		}
	}
}

// HKDF written out from RFC 5869 gives what derive gives.
func TestDeriveIsHKDF(t *testing.T) {
	mac := func(key []byte, parts ...[]byte) []byte {
		m := hmac.New(sha256.New, key)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	e, err := key("ephemeral").PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	R, err := public("recipient").Point()
	if err != nil {
		t.Fatal(err)
	}
	E, Rx, agent := public("ephemeral"), public("recipient"), public("agent")
	x := btcec.GenerateSharedSecret(e, R)
	ss0 := mac([]byte("bitgram/1/ss0"), x)
	ss := mac([]byte("bitgram/1/ss"), ss0)
	s := sender(t)
	check := func(name string, got, want []byte) {
		t.Helper()
		if string(got) != string(want[:len(got)]) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
	}
	one := []byte{1}
	fetch, release, content := s.FetchKey(agent), s.ReleaseSecret(agent), s.contentKey()
	tag, mask := s.Tag(Outpoint{5}), s.Mask(wire.Locator{})
	op := Outpoint{5}
	check("fetch", fetch[:], mac(ss0, []byte("bitgram/1/fetch"), E[:], Rx[:], agent[:], one))
	check("release", release[:], mac(ss, []byte("bitgram/1/release"), E[:], Rx[:], agent[:], one))
	check("content", content[:], mac(ss, []byte("bitgram/1/content"), E[:], Rx[:], one))
	check("tag", tag[:], mac(ss0, []byte("bitgram/1/tag"), E[:], Rx[:], op[:], one))
	check("mask", mask[:], mac(ss0, []byte("bitgram/1/mask"), E[:], Rx[:], one))

	info := []byte("bitgram/1/sender")
	t1 := mac(ss, info, E[:], Rx[:], agent[:], one)
	t2 := mac(ss, t1, info, E[:], Rx[:], agent[:], []byte{2})
	k := new(big.Int).SetBytes(append(t1, t2[:16]...))
	k.Mod(k, btcec.S256().N)
	sk := s.SenderKey(agent)
	got := new(big.Int).SetBytes(sk[:])
	if got.Cmp(k) != 0 && got.Cmp(new(big.Int).Sub(btcec.S256().N, k)) != 0 {
		t.Error("sender key is not ± the reduced output")
	}
}

func TestScalar(t *testing.T) {
	n := btcec.S256().N
	at := func(v *big.Int) wire.Secret {
		var b [48]byte
		v.FillBytes(b[:])
		return scalar(&b)
	}
	one := at(big.NewInt(1))
	if at(new(big.Int)) != one || at(n) != one || at(new(big.Int).Mul(n, big.NewInt(77))) != one {
		t.Error("zero modulo n is not 1")
	}
	rapid.Check(t, func(t *rapid.T) {
		b := [48]byte(rapid.SliceOfN(rapid.Byte(), 48, 48).Draw(t, "b"))
		want := new(big.Int).Mod(new(big.Int).SetBytes(b[:]), n)
		if want.Sign() == 0 {
			want.SetInt64(1)
		}
		s := scalar(&b)
		got := new(big.Int).SetBytes(s[:])
		if got.Cmp(want) != 0 && got.Cmp(new(big.Int).Sub(n, want)) != 0 {
			t.Fatalf("%v, want ± %v", got, want)
		}
		_, pub := btcec.PrivKeyFromBytes(s[:])
		if pub.SerializeCompressed()[0] != 2 {
			t.Fatal("odd public key")
		}
	})
}

// A tag copied into a transaction with other inputs matches nobody.
func TestReplayedTagIgnored(t *testing.T) {
	c, err := NewScanner(key("recipient"))
	if err != nil {
		t.Fatal(err)
	}
	here := Outpoint{1, 2, 3}
	tag := sender(t).Tag(here)
	s, ok := c.Match(public("ephemeral"), here, tag)
	if !ok || *s != *sender(t) {
		t.Fatal("the genuine marker does not match")
	}
	for i := range here {
		elsewhere := here
		elsewhere[i] ^= 1
		if _, ok := c.Match(public("ephemeral"), elsewhere, tag); ok {
			t.Errorf("matches with byte %d of the outpoint changed", i)
		}
	}
	if _, ok := c.Match(public("ephemeral 2"), here, tag); ok {
		t.Error("matches another ephemeral key")
	}
	if _, ok := c.Match(wire.Key{}, here, tag); ok {
		t.Error("matches a key off the curve")
	}
	stranger, err := NewScanner(key("stranger"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := stranger.Match(public("ephemeral"), here, tag); ok {
		t.Error("matches for a stranger")
	}
}

func TestBadKeys(t *testing.T) {
	off := wire.Key{} // x = 0 is not on the curve
	var n wire.Secret
	btcec.S256().N.FillBytes(n[:])
	good, pub := key("a"), public("b")
	for _, bad := range []wire.Secret{{}, n} {
		for name, f := range map[string]func() error{
			"FromSender":    func() error { _, err := FromSender(bad, pub); return err },
			"FromRecipient": func() error { _, err := FromRecipient(bad, pub); return err },
			"NewScanner":    func() error { _, err := NewScanner(bad); return err },
			"SealKey":       func() error { _, err := SealKey(bad, pub, pub, wire.MessageKey{}); return err },
			"UnsealKey":     func() error { _, err := UnsealKey(bad, pub, pub, wire.MessageKey{}); return err },
			"SealAck":       func() error { _, err := SealAck(good, bad, pub, wire.Hash{}, wire.Hash{}); return err },
			"Encrypt":       func() error { _, err := sender(t).Encrypt(nil, nil, bad); return err },
		} {
			if err := f(); !errors.Is(err, wire.ErrBadKey) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, f := range map[string]func() error{
		"FromSender":    func() error { _, err := FromSender(good, off); return err },
		"FromRecipient": func() error { _, err := FromRecipient(good, off); return err },
		"SealKey":       func() error { _, err := SealKey(good, off, pub, wire.MessageKey{}); return err },
		"UnsealKey":     func() error { _, err := UnsealKey(good, off, pub, wire.MessageKey{}); return err },
		"zero Encrypt":  func() error { _, err := new(Secrets).Encrypt(nil, nil, good); return err },
		"zero Decrypt":  func() error { _, err := new(Secrets).Decrypt(nil, nil); return err },
		"zero SealTo":   func() error { _, err := SealTo(nil, nil, wire.Secret{}); return err },
		"zero Reader":   func() error { _, err := SealReader(nil, wire.Secret{}).Read(make([]byte, 1)); return err },
		"zero Unseal":   func() error { _, err := Unseal(nil, nil, wire.Secret{}); return err },
		"zero SealAck":  func() error { _, err := SealAck(wire.Secret{}, good, pub, wire.Hash{}, wire.Hash{}); return err },
	} {
		if err := f(); !errors.Is(err, wire.ErrBadKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := sender(t)
	c, err := NewScanner(key("recipient"))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, v := range []any{s, *s, c, *c, struct{ S *Secrets }{s}, []Secrets{*s}} {
			out := fmt.Sprintf(verb, v)
			k := key("recipient")
			for _, secret := range [][]byte{s.ss0[:], s.ss[:], k[:]} {
				if strings.Contains(out, hex.EncodeToString(secret[:4])) || strings.Contains(out, fmt.Sprint(secret[:4])[1:]) {
					t.Errorf("%s of %T shows a secret", verb, v)
				}
			}
			if _, inStruct := v.(struct{ S *Secrets }); !inStruct && !strings.Contains(out, "(secret)") {
				t.Errorf("%s of %T: %s", verb, v, out)
			}
		}
	}
}

// BIP340's published test vector 0, whose auxiliary data are zeros as ours.
func TestSignIsBIP340(t *testing.T) {
	priv, err := wire.Secret{31: 3}.PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := sign(priv, wire.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	const want = "e907831f80848d1069a5371b402410364bdf1c5f8307b0084c55f1ce2dca8215" +
		"25f66a4a85ea8b71e482a74f382d2ce5ebeee8fdb2172f477df4900d310536c0"
	if got := hex.EncodeToString(sig[:]); got != want {
		t.Errorf("signature %s", got)
	}
}

// A signature has one encoding: s + n, where it fits 32 bytes, is refused.
func TestVerifyRejectsLargeS(t *testing.T) {
	priv, err := key("sender").PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	var digest wire.Hash
	sig, err := sign(priv, digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(public("sender"), digest, sig[:]); err != nil {
		t.Fatal(err)
	}
	// s < 2²⁵⁶ - n happens once in 2¹²⁸; its failure is that of the range check.
	big := sig
	btcec.S256().N.FillBytes(big[32:])
	for name, s := range map[string][]byte{"s = n": big[:], "nil": nil, "short": sig[:63], "long": append(sig[:], 0)} {
		if err := verify(public("sender"), digest, s); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The range check must reject it, not a failed equation.
	if err := verify(public("sender"), digest, big[:]); err == nil || !strings.Contains(err.Error(), "out of range") {
		t.Errorf("s = n: %v", err)
	}
	if err := verify(wire.Key{}, digest, sig[:]); !errors.Is(err, ErrSignature) {
		t.Errorf("key off the curve: %v", err)
	}
}

func drawSecret(t *rapid.T, label string) wire.Secret {
	return key(rapid.StringN(1, 12, -1).Draw(t, label) + label)
}
