package seal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/bitgram/bitgram/wire"
	"github.com/btcsuite/btcd/btcec/v2"
)

func testLeaf(i int) wire.Leaf {
	h := func(s string) wire.Hash { return sha256.Sum256(fmt.Append(nil, s, i)) }
	return wire.Leaf{
		Agent: public(fmt.Sprint("agent ", i)), CopyHash: h("copy"), Size: uint64(1000 + i), Point: public(fmt.Sprint("T ", i)),
		ReleaseHash: h("release"), KEMHash: wire.Hash{}, Key: wire.MessageKey(h("key")),
	}
}

func testLeaves(n int) (out []wire.Hash) {
	for i := range n {
		out = append(out, testLeaf(i).Hash())
	}
	return out
}

// Every field of a leaf is hashed.
func TestLeafHashCoversAll(t *testing.T) {
	seen := map[wire.Hash]bool{testLeaf(0).Hash(): true}
	for i := range reflect.TypeFor[wire.Leaf]().NumField() {
		l := testLeaf(0)
		if !reflect.TypeFor[wire.Leaf]().Field(i).IsExported() {
			continue // the blank field that makes it an array in CBOR
		}
		if f := reflect.ValueOf(&l).Elem().Field(i); f.Kind() == reflect.Uint64 {
			f.SetUint(f.Uint() + 1)
		} else {
			f.Index(31).SetUint(f.Index(31).Uint() ^ 1)
		}
		if seen[l.Hash()] {
			t.Errorf("field %d does not count", i)
		}
		seen[l.Hash()] = true
	}
	l := testLeaf(0)
	l.Agent, l.Point = l.Point, l.Agent
	if seen[l.Hash()] {
		t.Error("agent and point swap")
	}
}

func TestSections(t *testing.T) {
	for n := 1; n <= MaxLeaves; n++ {
		leaves := testLeaves(n)
		r, err := Root(leaves)
		if err != nil {
			t.Fatal(err)
		}
		for i, leaf := range leaves {
			path, err := Section(leaves, i)
			if err != nil {
				t.Fatal(err)
			}
			if !VerifySection(leaf, i, n, path, r) {
				t.Fatalf("leaf %d of %d does not verify", i, n)
			}
			for j := range n {
				if j != i && VerifySection(leaf, j, n, path, r) {
					t.Fatalf("leaf %d of %d verifies as %d", i, n, j)
				}
			}
			bad := func(name string, path []wire.Hash) {
				t.Helper()
				if VerifySection(leaf, i, n, path, r) {
					t.Fatalf("leaf %d of %d verifies with a path %s", i, n, name)
				}
			}
			bad("too long", append(path[:len(path):len(path)], wire.Hash{}))
			if len(path) > 0 {
				bad("too short", path[:len(path)-1])
				bad("without its foot", path[1:])
				for k := range path {
					alt := append([]wire.Hash(nil), path...)
					alt[k][31] ^= 1
					bad("altered", alt)
				}
			}
			if VerifySection(leaf, i, n, path, wire.Hash{}) || VerifySection(wire.Hash{}, i, n, path, r) {
				t.Fatal("zero root or leaf")
			}
		}
		for _, c := range [][2]int{{-1, n}, {n, n}, {0, 0}, {0, -1}, {0, MaxLeaves + 1}, {MaxLeaves, MaxLeaves + 1}} {
			if VerifySection(leaves[0], c[0], c[1], nil, leaves[0]) {
				t.Errorf("index %d of %d", c[0], c[1])
			}
		}
	}
	for _, n := range []int{0, MaxLeaves + 1} {
		if _, err := Root(make([]wire.Hash, n)); !errors.Is(err, ErrLeaves) {
			t.Error(err)
		}
		if _, err := Section(make([]wire.Hash, n), 0); !errors.Is(err, ErrLeaves) {
			t.Error(err)
		}
	}
	for _, i := range []int{-1, 3} {
		if _, err := Section(testLeaves(3), i); !errors.Is(err, ErrLeaves) {
			t.Error(err)
		}
	}
}

// The shape, written out for the odd sizes of RFC 6962's example.
func TestRootShape(t *testing.T) {
	d := testLeaves(7)
	want := map[int]wire.Hash{
		1: d[0],
		3: node(node(d[0], d[1]), d[2]),
		5: node(node(node(d[0], d[1]), node(d[2], d[3])), d[4]),
		7: node(node(node(d[0], d[1]), node(d[2], d[3])), node(node(d[4], d[5]), d[6])),
	}
	for n, w := range want {
		if got, err := Root(d[:n]); err != nil || got != w {
			t.Errorf("%d leaves: %v %v", n, got, err)
		}
	}
}

func TestAck(t *testing.T) {
	root, leaf, agent, E := wire.Hash{1}, wire.Hash{3}, public("agent"), public("ephemeral")
	ack, err := SealAck(recipient(t).AckKey(agent), key("recipient"), E, root, leaf)
	if err != nil || len(ack) != AckSize {
		t.Fatal(len(ack), err)
	}
	ackKey := sender(t).AckKey(agent)
	a, err := OpenAck(ack, ackKey, public("recipient"), E, root, leaf)
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyAck(a, public("recipient"), E, root, leaf); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() (Ack, error){
		"leaf":      func() (Ack, error) { return OpenAck(ack, ackKey, public("recipient"), E, root, root) },
		"root":      func() (Ack, error) { return OpenAck(ack, ackKey, public("recipient"), E, wire.Hash{2}, leaf) },
		"E":         func() (Ack, error) { return OpenAck(ack, ackKey, public("recipient"), agent, root, leaf) },
		"recipient": func() (Ack, error) { return OpenAck(ack, ackKey, public("stranger"), E, root, leaf) },
		"key":       func() (Ack, error) { return OpenAck(ack, key("x"), public("recipient"), E, root, leaf) },
		"nil":       func() (Ack, error) { return OpenAck(nil, ackKey, public("recipient"), E, root, leaf) },
		"short":     func() (Ack, error) { return OpenAck(ack[:79], ackKey, public("recipient"), E, root, leaf) },
		"long":      func() (Ack, error) { return OpenAck(append(ack, 0), ackKey, public("recipient"), E, root, leaf) },
	} {
		if _, err := f(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	for i := range ack {
		b := bytes.Clone(ack)
		b[i] ^= 1
		if _, err := OpenAck(b, ackKey, public("recipient"), E, root, leaf); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	// A party that has the key but is not R: another signer under R's key.
	st := ackStream(ackKey, E, public("recipient"), root, leaf)
	priv, err := key("stranger").PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := sign(priv, ackDigest(E, public("recipient"), root, leaf))
	if err != nil {
		t.Fatal(err)
	}
	forged := st.seal(append(sig[:], make([]byte, tagSize)...), signatureSize, true)
	if _, err := OpenAck(forged, ackKey, public("recipient"), E, root, leaf); !errors.Is(err, ErrSignature) {
		t.Errorf("forged: %v", err)
	}
	// The same key under two roots does not repeat a keystream.
	other, err := SealAck(ackKey, key("recipient"), E, wire.Hash{2}, leaf)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenAck(other, ackKey, public("recipient"), E, wire.Hash{2}, leaf)
	if err != nil {
		t.Fatal(err)
	}
	same := true
	for i := range a {
		same = same && ack[i]^other[i] == a[i]^b[i]
	}
	if same {
		t.Error("keystream repeated")
	}
}

// CheckKey accepts the payload's key under any allowed nonce, and no other key.
func TestCheckKey(t *testing.T) {
	p := wire.Hash{1}
	for _, nonce := range []uint64{0, 1, 77, MaxNonce} {
		if err := CheckKey(MessageKey(p, nonce), p); err != nil {
			t.Errorf("nonce %d: %v", nonce, err)
		}
	}
	for name, k := range map[string]wire.MessageKey{"none": {}, "another": MessageKey(wire.Hash{2}, 0), "far": MessageKey(p, MaxNonce+1)} {
		if err := CheckKey(k, p); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMarker(t *testing.T) {
	m := Marker{Root: wire.Hash{1}, E: public("ephemeral"), MaskedLocator: wire.Locator{2}, Tag: [4]byte{3}}
	b := m.Encode()
	got, err := DecodeMarker(b[:])
	if err != nil || got != m {
		t.Fatal(got, err)
	}
	for n := range MarkerSize {
		if _, err := DecodeMarker(b[:n]); !errors.Is(err, ErrMarker) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := DecodeMarker(append(b[:], 0)); !errors.Is(err, ErrMarker) {
		t.Error(err)
	}
	for i, want := range []error{ErrMarker, ErrMarker, ErrVersion} {
		c := b
		c[i] ^= 1
		if _, err := DecodeMarker(c[:]); !errors.Is(err, want) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// The release hash is what OP_SHA256 makes of σ.
func TestReleaseHash(t *testing.T) {
	s := sender(t).ReleaseSecret(public("agent"))
	if ReleaseHash(s) != sha256.Sum256(s[:]) || len(s) != 32 {
		t.Error("not SHA256")
	}
	if sk := sender(t).SenderKey(public("agent")); evenY(sk) != 2 {
		t.Error("odd sender key")
	}
}

func evenY(s wire.Secret) byte {
	_, pub := btcec.PrivKeyFromBytes(s[:])
	return pub.SerializeCompressed()[0]
}
