package wire_test

import (
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/wire"
)

// TestBIP340 runs the BIP's vectors. It skips messages that do not have 32
// bytes, because this package signs only digests.
func TestBIP340(t *testing.T) {
	file, err := os.Open("testdata/bip340.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 20 {
		t.Fatalf("%d rows", len(rows))
	}
	var good, bad int
	for _, row := range rows[1:] {
		field := func(i int) []byte {
			b, err := hex.DecodeString(row[i])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if len(field(4)) != 32 {
			continue
		}
		k, digest, sig := wire.Key(field(2)), wire.Hash(field(4)), wire.Signature(field(5))
		err := k.Verify(digest, sig)
		switch row[6] {
		case "TRUE":
			good++
			if err != nil {
				t.Errorf("%s: %v", row[0], err)
			}
		case "FALSE":
			bad++
			if !errors.Is(err, wire.ErrBadSignature) {
				t.Errorf("%s (%s): %v", row[0], row[7], err)
			}
		default:
			t.Fatalf("result %q", row[6])
		}
		if row[1] == "" {
			continue
		}
		secret := wire.Secret(field(1))
		priv, err := secret.PrivKey()
		if err != nil || wire.XOnly(priv.PubKey()) != k {
			t.Errorf("%s: public key, %v", row[0], err)
		}
		// Our nonce differs from the BIP's, so only check that the signature
		// verifies.
		ours, err := wire.Sign(secret, digest)
		if err != nil || k.Verify(digest, ours) != nil {
			t.Errorf("%s: our signature: %v", row[0], err)
		}
		if again, _ := wire.Sign(secret, digest); again != ours {
			t.Errorf("%s: not deterministic", row[0])
		}
	}
	if good != 5 || bad != 10 {
		t.Errorf("%d good and %d bad vectors", good, bad)
	}
}

func TestVerifyRejects(t *testing.T) {
	secret := wire.Secret{31: 9}
	k, _ := secret.PrivKey()
	P, digest := wire.XOnly(k.PubKey()), wire.Hash{1, 2, 3}
	sig, err := wire.Sign(secret, digest)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, (64+32+32)*8-1).Draw(t, "bit")
		k, d, s := P, digest, sig
		switch b := byte(1) << (i % 8); {
		case i/8 < 64:
			s[i/8] ^= b
		case i/8 < 96:
			d[i/8-64] ^= b
		default:
			k[i/8-96] ^= b
		}
		if err := k.Verify(d, s); !errors.Is(err, wire.ErrBadSignature) || !errors.Is(err, wire.ErrMalformed) {
			t.Fatalf("bit %d: %v", i, err)
		}
	})
	for _, bad := range []wire.Secret{{}, wire.Secret(order())} {
		if _, err := wire.Sign(bad, digest); !errors.Is(err, wire.ErrBadKey) {
			t.Errorf("signing with %x: %v", bad[:], err)
		}
		if _, err := bad.PrivKey(); !errors.Is(err, wire.ErrBadKey) {
			t.Errorf("private key %x: %v", bad[:], err)
		}
	}
}

// order is the group's order n.
func order() []byte {
	b, err := hex.DecodeString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
	if err != nil {
		panic(err)
	}
	return b
}

// TestPrivKeyEven checks that a key and its negation are the same identity.
func TestPrivKeyEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret")
		s := wire.Secret(raw)
		p, err := s.PrivKey()
		if err != nil {
			return
		}
		if p.PubKey().SerializeCompressed()[0] != 2 {
			t.Fatal("odd point")
		}
		q := p.Key
		q.Negate()
		neg, err := wire.Secret(q.Bytes()).PrivKey()
		if err != nil || wire.SecretOf(neg) != wire.SecretOf(p) {
			t.Fatal("the negation is another key", err)
		}
	})
	if _, err := offCurve.Point(); !errors.Is(err, wire.ErrBadKey) {
		t.Error(err)
	}
}

// TestSecretHides checks that no fmt verb and no encoder prints a secret.
func TestSecretHides(t *testing.T) {
	s := wire.Secret{0: 0xab, 31: 0xcd}
	in := struct{ S wire.Secret }{s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "% X", "%#x", "%d", "%q", "%s", "%c", "%064s", "%-70v"} {
		for _, v := range []any{s, &s} {
			if out := fmt.Sprintf(verb, v); out != "(secret)" {
				t.Errorf("%s prints %s", verb, out)
			}
		}
	}
	if out := fmt.Sprintln(s, s.String(), s.GoString(), in); out != "(secret) (secret) (secret) {(secret)}\n" {
		t.Error(out)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%d", "%q", "%s", "%08b", "%o", "%U"} {
		for _, v := range []any{s, &s, in, []wire.Secret{s}, map[string]wire.Secret{"a": s}} {
			out := strings.ToLower(fmt.Sprintf(verb, v))
			if strings.Contains(out, "abcd") || strings.Contains(out, "171") || strings.Contains(out, "ab00") || strings.Contains(out, "253") && verb == "%o" {
				t.Errorf("%s prints %s", verb, out)
			}
		}
	}
	for _, v := range []any{s, &s, in, []wire.Secret{s}, &wire.Release{Sigma: s}} {
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("%T as JSON: %s", v, b)
		}
	}
}

func TestIdentifiers(t *testing.T) {
	var k wire.MessageKey
	for i := range k {
		k[i] = byte(i)
	}
	if k.Locator().String() != "0001020304050607" || k.ID().String() != "000102030405060708090a0b0c0d0e0f" {
		t.Error(k.Locator(), k.ID())
	}
	// H[tag] is BIP340's with our prefix: the separation of parts does not
	// matter, the tag does.
	if wire.Tagged("a", []byte("bc")) != wire.Tagged("a", []byte("b"), []byte("c")) || wire.Tagged("ab") == wire.Tagged("a", []byte("b")) {
		t.Error("tagged hash")
	}
}

func TestCodes(t *testing.T) {
	seen := map[string]bool{}
	for c := wire.OK; c <= wire.NoRoute; c++ {
		s := c.String()
		if s == "" || seen[s] || strings.HasPrefix(s, "code ") {
			t.Errorf("code %d prints %q", c, s)
		}
		seen[s] = true
	}
	if wire.Code(255).String() != "code 255" || (wire.NoRoute+1).String() != "code 16" {
		t.Error(wire.Code(255), wire.NoRoute+1)
	}
	if wire.PerAgent.String() != "per-agent" || wire.OneOfMany.String() != "one-of-many" {
		t.Error(wire.PerAgent, wire.OneOfMany)
	}
}

// TestMACsSeparate checks that a proof or token is valid only for its own pair
// of peers, outpoint and point.
func TestMACsSeparate(t *testing.T) {
	phi, at := wire.Secret{1}, wire.Outpoint{Txid: wire.Hash{5}, Vout: 1}
	type args struct {
		nonce         wire.Hash
		agent, client string
		at            wire.Outpoint
		point         wire.Key
	}
	base := args{wire.Hash{2}, "agent", "client", at, key(1)}
	other := []args{base, base, base, base, base, base, base}
	other[1].nonce[31]++
	other[2].agent, other[2].client = "agen", "tclient" // the boundary moves
	other[3].agent, other[3].client = base.client, base.agent
	other[4].at.Vout++
	other[5].at.Txid[0]++
	other[6].point = key(2)
	proofs, macs := map[wire.Hash]int{}, map[wire.Hash]int{}
	for i, a := range other {
		p := wire.ProofDigest(a.nonce, []byte(a.agent), []byte(a.client), a.at, a.point)
		m := wire.TokenMAC(phi, a.nonce, []byte(a.agent), []byte(a.client), a.at, a.point)
		if j, ok := proofs[p]; ok {
			t.Errorf("proofs %d and %d are the same", i, j)
		}
		if j, ok := macs[m]; ok {
			t.Errorf("tokens %d and %d are the same", i, j)
		}
		proofs[p], macs[m] = i, i
	}
	if wire.TokenMAC(wire.Secret{2}, base.nonce, []byte(base.agent), []byte(base.client), base.at, base.point) ==
		wire.TokenMAC(phi, base.nonce, []byte(base.agent), []byte(base.client), base.at, base.point) {
		t.Error("φ is not in the token")
	}
	if wire.AckMAC(phi, key(1), []byte("x")) == wire.AckMAC(phi, key(2), []byte("x")) || wire.AckMAC(phi, key(1), []byte("x")) == wire.AckMAC(phi, key(1), []byte("y")) {
		t.Error("AckMAC")
	}
}

// TestDigests checks that each signed field changes the digest.
func TestDigests(t *testing.T) {
	q := maxQuote()
	base := q.Digest()
	q.Sig[0] = 1
	if q.Digest() != base {
		t.Error("the signature signs itself")
	}
	q.Sig[0] = 0
	for i, f := range []func(*wire.Quote){
		func(q *wire.Quote) { q.Agent = key(9) }, func(q *wire.Quote) { q.Session[0]++ }, func(q *wire.Quote) { q.E = key(9) },
		func(q *wire.Quote) { q.Point = key(9) }, func(q *wire.Quote) { q.Knowledge[0]++ }, func(q *wire.Quote) { q.ClaimKey = key(9) },
		func(q *wire.Quote) { q.Size-- }, func(q *wire.Quote) { q.From-- }, func(q *wire.Quote) { q.StoreUntil-- },
		func(q *wire.Quote) { q.Expiry-- }, func(q *wire.Quote) { q.ValidUntil-- }, func(q *wire.Quote) { q.Shape-- },
		func(q *wire.Quote) { q.Rate-- }, func(q *wire.Quote) { q.Reserve-- }, func(q *wire.Quote) { q.Value-- },
	} {
		c := maxQuote()
		f(c)
		if c.Digest() == base {
			t.Errorf("field %d of the quote is not signed", i)
		}
	}
	l := maxSection().Leaf
	for i, f := range []func(*wire.Leaf){
		func(l *wire.Leaf) { l.Agent = key(9) }, func(l *wire.Leaf) { l.CopyHash[0]++ }, func(l *wire.Leaf) { l.Size-- },
		func(l *wire.Leaf) { l.Point = key(9) }, func(l *wire.Leaf) { l.ReleaseHash[0]++ }, func(l *wire.Leaf) { l.KEMHash[0]++ },
		func(l *wire.Leaf) { l.Key[0]++ },
	} {
		c := l
		f(&c)
		if c.Hash() == l.Hash() {
			t.Errorf("field %d of the leaf is not in its hash", i)
		}
	}
	k := wire.KnowledgeDigest(key(1), key(2), wire.Hash{3}, key(4))
	for i, o := range []wire.Hash{wire.KnowledgeDigest(key(9), key(2), wire.Hash{3}, key(4)), wire.KnowledgeDigest(key(1), key(9), wire.Hash{3}, key(4)),
		wire.KnowledgeDigest(key(1), key(2), wire.Hash{9}, key(4)), wire.KnowledgeDigest(key(1), key(2), wire.Hash{3}, key(9))} {
		if o == k {
			t.Errorf("argument %d is not in the knowledge digest", i)
		}
	}
	r, p := wire.Receipt{Agent: key(1), Package: wire.Hash{1}}, minPackage()
	if r.Digest() == (&wire.Receipt{Agent: key(1), Package: wire.Hash{2}}).Digest() || p.Digest() == maxPackage().Digest() {
		t.Error("receipt or package")
	}
	if b := (wire.Outpoint{Txid: wire.Hash{1}, Vout: 0x01020304}).Bytes(); len(b) != 36 || b[0] != 1 || b[32] != 4 || b[35] != 1 {
		t.Errorf("outpoint %x", b)
	}
}
