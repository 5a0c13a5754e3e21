package seal

import (
	"bytes"
	"encoding/binary"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// What a decoder accepts, the encoder makes: each target re-encodes.

func FuzzMarker(f *testing.F) {
	b := Marker{Root: wire.Hash{1}, E: public("ephemeral"), Tag: [4]byte{9}}.Encode()
	f.Add(b[:])
	f.Add(b[:78])
	f.Add(append(b[:], 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeMarker(data)
		if err != nil {
			return
		}
		if again := m.Encode(); !bytes.Equal(again[:], data) {
			t.Fatalf("%x re-encodes as %x", data, again)
		}
	})
}

// FuzzDecrypt uses data as a payload and, to get past the AEAD and the
// signature, also as a plaintext.
func FuzzDecrypt(f *testing.F) {
	for _, n := range []int{1, 100, 414, lastCount + 1, fullCount + 1} {
		p := encrypt(f, pattern(n))
		f.Add(p)
		f.Add(openAll(f, p))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		if m, err := recipient(t).Decrypt(&out, bytes.NewReader(data)); err == nil {
			if m.Sender != public("sender") {
				t.Fatal("a signature by nobody we know")
			}
			if !bytes.Equal(encrypt(t, out.Bytes()), data) {
				t.Fatal("a payload has two forms")
			}
		}
		body, trailer, err := deframe(data)
		if err == nil && !bytes.Equal(frame(body, trailer), data) {
			t.Fatal("a plaintext has two forms")
		}
		if len(data) < trailerSize {
			return
		}
		// The same plaintext, signed by a sender that signs anything.
		plain := bytes.Clone(data)
		if err == nil {
			copy(plain[len(plain)-trailerSize:], signedTrailer(t, body))
		}
		out.Reset()
		_, opened := recipient(t).Decrypt(&out, bytes.NewReader(sealAll(t, plain)))
		if (err == nil) != (opened == nil) {
			t.Fatalf("framing says %v, Decrypt says %v", err, opened)
		}
		if opened == nil && !bytes.Equal(encrypt(t, out.Bytes()), sealAll(t, plain)) {
			t.Fatal("a payload has two forms")
		}
	})
}

func FuzzUnseal(f *testing.F) {
	kappa := wire.Secret{1}
	for _, n := range []int{1, 536, ChunkSize, ChunkSize + 1, 2*ChunkSize + 5} {
		var out bytes.Buffer
		if _, err := SealTo(&out, bytes.NewReader(pattern(n)), kappa); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
		f.Add(out.Bytes()[:out.Len()-1])
	}
	reseal := func(t *testing.T, p []byte) []byte {
		b, err := io.ReadAll(SealReader(bytes.NewReader(p), kappa))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		if _, err := Unseal(&out, bytes.NewReader(data), kappa); err == nil && !bytes.Equal(reseal(t, out.Bytes()), data) {
			t.Fatal("a sealed copy has two forms")
		}
		if len(data) == 0 {
			return
		}
		out.Reset()
		if _, err := Unseal(&out, bytes.NewReader(reseal(t, data)), kappa); err != nil || !bytes.Equal(out.Bytes(), data) {
			t.Fatal("does not come back: ", err)
		}
	})
}

// FuzzSection: for a tree, a leaf has one path.
func FuzzSection(f *testing.F) {
	for _, n := range []int{1, 2, 3, 7, 64} {
		path, err := Section(testLeaves(n), n-1)
		if err != nil {
			f.Fatal(err)
		}
		var b []byte
		for _, p := range path {
			b = append(b, p[:]...)
		}
		f.Add(n, n-1, n-1, b)
		f.Add(n, 0, n-1, b)
		f.Add(n, n, n+1, b)
	}
	f.Fuzz(func(t *testing.T, n, leaf, index int, data []byte) {
		if n < 1 || n > MaxLeaves || leaf < 0 || leaf >= n || len(data)%32 != 0 {
			return
		}
		leaves := testLeaves(n)
		r, err := Root(leaves)
		if err != nil {
			t.Fatal(err)
		}
		var path []wire.Hash
		for ; len(data) > 0; data = data[32:] {
			path = append(path, wire.Hash(data[:32]))
		}
		if !VerifySection(leaves[leaf], index, n, path, r) {
			return
		}
		want, err := Section(leaves, leaf)
		if err != nil || index != leaf || len(want) != len(path) {
			t.Fatalf("leaf %d of %d accepted at %d with %d hashes", leaf, n, index, len(path))
		}
		for i := range want {
			if want[i] != path[i] {
				t.Fatal("two paths")
			}
		}
	})
}

func FuzzOpenAck(f *testing.F) {
	agent, E := public("agent"), public("ephemeral")
	k := sender(f).AckKey(agent)
	mk := func(t testing.TB, root uint64) []byte {
		b, err := SealAck(k, key("recipient"), E, ackRoot(root), ackRoot(7))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, r := range []uint64{0, 1, 1 << 40} {
		f.Add(mk(f, r), r)
		f.Add(mk(f, r), r+1)
	}
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, root uint64) {
		a, err := OpenAck(data, k, public("recipient"), E, ackRoot(root), ackRoot(7))
		if err != nil {
			return
		}
		if !bytes.Equal(mk(t, root), data) {
			t.Fatal("an acknowledgement has two forms")
		}
		if err := VerifyAck(a, public("recipient"), E, ackRoot(root), ackRoot(7)); err != nil {
			t.Fatal(err)
		}
	})
}

func ackRoot(n uint64) (h wire.Hash) {
	binary.BigEndian.PutUint64(h[:], n)
	return h
}

// A fuzz target without seeds tests nothing in an ordinary run.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	names, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for _, n := range names {
		if !strings.HasSuffix(n.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), n.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			targets++
			seeds := 0
			ast.Inspect(fn, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Add" {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "f" {
						seeds++
					}
				}
				return true
			})
			if seeds == 0 {
				t.Errorf("%s has no seeds", fn.Name.Name)
			}
		}
	}
	if targets != 5 {
		t.Errorf("%d fuzz targets", targets)
	}
}
