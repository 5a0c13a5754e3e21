package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
	"github.com/zeebo/blake3"
	"pgregory.net/rapid"
)

// edges are body sizes around the boundaries of the framing.
var edges = []int{
	1, 2, 412, 413, 414, 511, 512, 4096,
	lastCount - 1, lastCount, lastCount + 1,
	fullCount - 1, fullCount, fullCount + 1, ChunkSize - 1, ChunkSize, ChunkSize + 1,
	fullCount + lastCount, fullCount + lastCount + 1, 2 * fullCount, 2*fullCount + 1, 200_000, 1<<20 + 7,
}

func TestRoundTrip(t *testing.T) {
	for _, n := range edges {
		body := pattern(n)
		p := encrypt(t, body)
		var out bytes.Buffer
		m, err := recipient(t).Decrypt(&out, bytes.NewReader(p))
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if !bytes.Equal(out.Bytes(), body) || m.Sender != public("sender") || m.Size != uint64(n) || m.Hash != blake3.Sum256(body) {
			t.Fatalf("%d: another message: %+v", n, m)
		}
		// The sender can open it too.
		if _, err := sender(t).Decrypt(io.Discard, bytes.NewReader(p)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRoundTripAny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, r, from := drawSecret(t, "e"), drawSecret(t, "r"), drawSecret(t, "from")
		n := rapid.OneOf(rapid.IntRange(1, 2000), rapid.SampledFrom(edges)).Draw(t, "size")
		body := pattern(n)
		a, err := FromSender(e, publicOf(r))
		if err != nil {
			t.Fatal(err)
		}
		var p, sealed, opened, out bytes.Buffer
		// The output does not depend on how the input is split into reads.
		info, err := a.Encrypt(&p, iotest.HalfReader(bytes.NewReader(body)), from)
		if err != nil {
			t.Fatal(err)
		}
		if info.Hash != blake3.Sum256(p.Bytes()) {
			t.Fatal("hash of the payload")
		}
		tau, agent, K := drawSecret(t, "tau"), publicOf(drawSecret(t, "agent")), MessageKey(info.Hash, 3)
		kappa, err := SealKey(e, publicOf(tau), agent, K)
		if err != nil {
			t.Fatal(err)
		}
		si, err := SealTo(&sealed, iotest.DataErrReader(bytes.NewReader(p.Bytes())), kappa)
		if err != nil {
			t.Fatal(err)
		}
		if si.Hash != blake3.Sum256(sealed.Bytes()) || si.Size != SealedSize(info.Size) || si.Size != uint64(sealed.Len()) {
			t.Fatal("sealed info")
		}
		if again, err := io.ReadAll(SealReader(bytes.NewReader(p.Bytes()), kappa)); err != nil || !bytes.Equal(again, sealed.Bytes()) {
			t.Fatal("the reader seals differently")
		}
		kappa, err = UnsealKey(tau, publicOf(e), agent, K)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := Unseal(&opened, iotest.HalfReader(&sealed), kappa); err != nil || size != info.Size || !bytes.Equal(opened.Bytes(), p.Bytes()) {
			t.Fatalf("unseal: %v", err)
		}
		b, err := FromRecipient(r, publicOf(e))
		if err != nil {
			t.Fatal(err)
		}
		m, err := b.Decrypt(&out, &opened)
		if err != nil || m.Sender != publicOf(from) || !bytes.Equal(out.Bytes(), body) {
			t.Fatalf("decrypt: %v", err)
		}
	})
}

// Encrypt writes exactly the specified layout.
func TestEncryptIsFrame(t *testing.T) {
	for _, n := range edges {
		body := pattern(n)
		plain := openAll(t, encrypt(t, body))
		if !bytes.Equal(plain, frame(body, plain[len(plain)-trailerSize:])) {
			t.Fatalf("%d: another layout", n)
		}
		got, _, err := deframe(plain)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d: %v", n, err)
		}
	}
}

// openAll is the plaintext of the fixed message's payload p.
func openAll(t testing.TB, p []byte) []byte {
	t.Helper()
	var plain bytes.Buffer
	if _, err := Unseal(&plain, bytes.NewReader(p[headerSize:]), sender(t).contentKey()); err != nil {
		t.Fatal(err)
	}
	return plain.Bytes()
}

// sealAll returns the payload of the fixed message with any plaintext.
func sealAll(t testing.TB, plain []byte) []byte {
	t.Helper()
	p := bytes.NewBufferString(payloadMagic + string(rune(payloadVersion)))
	if _, err := SealTo(p, bytes.NewReader(plain), sender(t).contentKey()); err != nil {
		t.Fatal(err)
	}
	return p.Bytes()
}

// signedTrailer is the genuine trailer for body.
func signedTrailer(t testing.TB, body []byte) []byte {
	t.Helper()
	priv, err := key("sender").PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := sign(priv, sender(t).messageDigest(blake3.Sum256(body), uint64(len(body))))
	if err != nil {
		t.Fatal(err)
	}
	k := public("sender")
	return append(k[:], sig[:]...)
}

// Even a sender that knows the key can encode a body in one way only.
func TestNotCanonical(t *testing.T) {
	reject := func(name string, plain []byte, want error) {
		t.Helper()
		_, err := recipient(t).Decrypt(io.Discard, bytes.NewReader(sealAll(t, plain)))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	small := pattern(100)
	ok := frame(small, signedTrailer(t, small))
	if _, err := recipient(t).Decrypt(io.Discard, bytes.NewReader(sealAll(t, ok))); err != nil {
		t.Fatal(err)
	}
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(ok)) }
	for i := countSize + len(small); i < len(ok)-trailerSize; i++ {
		reject("padding", edit(func(b []byte) []byte { b[i] = 1; return b }), ErrCorrupt)
	}
	pad := func(n int) []byte { // moves the trailer n bytes further
		b := make([]byte, len(ok)+n)
		copy(b, ok[:len(ok)-trailerSize])
		copy(b[len(b)-trailerSize:], ok[len(ok)-trailerSize:])
		return b
	}
	for _, n := range []int{1, 32, ChunkSize - len(ok), ChunkSize, ChunkSize + 2048} {
		reject("longer", pad(n), ErrCorrupt)
	}
	reject("shorter", append(bytes.Clone(ok[:countSize+100]), ok[len(ok)-trailerSize:]...), ErrCorrupt)
	reject("count over the chunk", edit(func(b []byte) []byte { putCount(b, 414); return b }), ErrCorrupt)
	reject("count over all", edit(func(b []byte) []byte { putCount(b, 1<<24-1); return b }), ErrCorrupt)
	reject("shorter count", edit(func(b []byte) []byte { putCount(b, 99); return b }), ErrCorrupt)
	reject("longer count", edit(func(b []byte) []byte { putCount(b, 101); return b }), ErrSignature)
	reject("no trailer", ok[:98], ErrCorrupt)
	reject("count only", ok[:3], ErrCorrupt)
	reject("one byte", ok[:1], ErrCorrupt)
	reject("empty body", frame(nil, signedTrailer(t, nil)), ErrCorrupt)
	for i := len(ok) - trailerSize; i < len(ok); i++ {
		reject("trailer", edit(func(b []byte) []byte { b[i] ^= 1; return b }), ErrSignature)
	}

	// Two chunks: content must fill the first.
	two := pattern(fullCount + 50)
	plain := frame(two, signedTrailer(t, two))
	putCount(plain, fullCount-1)
	plain[ChunkSize-1] = 0
	reject("gap between chunks", plain, ErrCorrupt)
	plain = frame(two, signedTrailer(t, two))
	putCount(plain, fullCount+1)
	reject("full count over the chunk", plain, ErrCorrupt)

	far := make([]byte, plainSize(uint64(ChunkSize))) // one step of padding, 2 KiB wide
	copy(far, frame(pattern(ChunkSize), signedTrailer(t, pattern(ChunkSize))))
	for i := ChunkSize + countSize + 3; i < len(far)-trailerSize; i += 97 {
		alt := bytes.Clone(far)
		alt[i] = 0x80
		reject("padding of a later chunk", alt, ErrCorrupt)
	}
	hole := make([]byte, 3*ChunkSize) // a whole chunk of padding, except for one bit
	hole[70] = 1
	if zero(hole) || !zero(hole[71:]) || !zero(nil) {
		t.Error("zero")
	}

	// Signed by someone for something else.
	for name, digest := range map[string]wire.Hash{
		"other recipient": (&Secrets{e: public("ephemeral"), r: public("stranger")}).messageDigest(blake3.Sum256(small), 100),
		"other E":         (&Secrets{e: public("stranger"), r: public("recipient")}).messageDigest(blake3.Sum256(small), 100),
		"other length":    sender(t).messageDigest(blake3.Sum256(small), 101),
	} {
		priv, err := key("sender").PrivKey()
		if err != nil {
			t.Fatal(err)
		}
		sig, err := sign(priv, digest)
		if err != nil {
			t.Fatal(err)
		}
		k := public("sender")
		reject(name, frame(small, append(k[:], sig[:]...)), ErrSignature)
	}
}

// Every altered bit and every truncation is detected.
func TestAltered(t *testing.T) {
	p := encrypt(t, pattern(100))
	for i := range p {
		q := bytes.Clone(p)
		q[i] ^= 1 << (i % 8)
		want := ErrCorrupt
		if i == headerSize-1 {
			want = ErrVersion
		}
		if _, err := recipient(t).Decrypt(io.Discard, bytes.NewReader(q)); !errors.Is(err, want) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, err := recipient(t).Decrypt(io.Discard, bytes.NewReader(p[:i])); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := recipient(t).Decrypt(io.Discard, bytes.NewReader(append(bytes.Clone(p), 0))); !errors.Is(err, ErrCorrupt) {
		t.Error("a byte more")
	}
}

// Cuts, repetitions and swaps at and around chunk boundaries.
func TestTruncated(t *testing.T) {
	const whole = ChunkSize + tagSize
	p := encrypt(t, pattern(200_000))
	kappa := wire.Secret{1}
	var sealed bytes.Buffer
	if _, err := SealTo(&sealed, bytes.NewReader(p), kappa); err != nil {
		t.Fatal(err)
	}
	s := sealed.Bytes()
	try := func(name string, p, s []byte) {
		t.Helper()
		if p != nil {
			if _, err := recipient(t).Decrypt(io.Discard, bytes.NewReader(p)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("payload %s: %v", name, err)
			}
		}
		if s != nil {
			if _, err := Unseal(io.Discard, bytes.NewReader(s), kappa); !errors.Is(err, ErrCorrupt) {
				t.Errorf("sealed %s: %v", name, err)
			}
		}
	}
	for at := 0; at <= 4; at++ {
		for d := -20; d <= 20; d++ {
			if n := headerSize + at*whole + d; n >= 0 && n < len(p) {
				try(fmt.Sprint("cut at ", n), p[:n], nil)
			}
			if n := at*whole + d; n >= 0 && n < len(s) {
				try(fmt.Sprint("cut at ", n), nil, s[:n])
			}
		}
	}
	try("cut by 1", p[:len(p)-1], s[:len(s)-1])
	try("more by 1", append(bytes.Clone(p), 0), append(bytes.Clone(s), 0))
	try("more by a chunk", append(bytes.Clone(p), p[headerSize:headerSize+whole]...), append(bytes.Clone(s), s[:whole]...))
	try("twice", append(bytes.Clone(p), p...), append(bytes.Clone(s), s...))
	swap := func(b []byte) []byte {
		return bytes.Join([][]byte{b[whole : 2*whole], b[:whole], b[2*whole:]}, nil)
	}
	try("swapped", append(bytes.Clone(p[:headerSize]), swap(p[headerSize:])...), swap(s))
	try("first chunk gone", append(bytes.Clone(p[:headerSize]), p[headerSize+whole:]...), s[whole:])
	try("nothing", []byte{}, []byte{})
}

func TestWrongKeys(t *testing.T) {
	p := encrypt(t, pattern(1000))
	stranger, err := FromRecipient(key("stranger"), public("ephemeral"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := FromRecipient(key("recipient"), public("ephemeral 2"))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Secrets{"recipient": stranger, "E": other} {
		if _, err := s.Decrypt(io.Discard, bytes.NewReader(p)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	K := wire.MessageKey{1}
	kappa, err := SealKey(key("ephemeral"), public("T"), public("agent"), K)
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	if _, err := SealTo(&sealed, bytes.NewReader(p), kappa); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() (wire.Secret, error){
		"agent": func() (wire.Secret, error) {
			return UnsealKey(key("T"), public("ephemeral"), public("agent 2"), K)
		},
		"swapped T": func() (wire.Secret, error) {
			return UnsealKey(key("T 2"), public("ephemeral"), public("agent"), K)
		},
		"E": func() (wire.Secret, error) {
			return UnsealKey(key("T"), public("ephemeral 2"), public("agent"), K)
		},
		"K": func() (wire.Secret, error) {
			return UnsealKey(key("T"), public("ephemeral"), public("agent"), wire.MessageKey{2})
		},
		"T by the recipient": func() (wire.Secret, error) {
			return UnsealKey(key("recipient"), public("ephemeral"), public("agent"), K)
		},
	} {
		kappa, err := f()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Unseal(io.Discard, bytes.NewReader(sealed.Bytes()), kappa); !errors.Is(err, ErrCorrupt) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
}

// One set of secrets encrypts once, even if the first attempt failed.
func TestEncryptOnce(t *testing.T) {
	s := sender(t)
	boom := errors.New("boom")
	if _, err := s.Encrypt(io.Discard, iotest.ErrReader(boom), key("sender")); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if _, err := s.Encrypt(io.Discard, bytes.NewReader([]byte("x")), key("sender")); !errors.Is(err, ErrSpent) {
		t.Fatal(err)
	}
	if !bytes.Equal(encrypt(t, pattern(9)), encrypt(t, pattern(9))) {
		t.Error("not deterministic")
	}
}

func TestLimits(t *testing.T) {
	if _, err := sender(t).Encrypt(io.Discard, bytes.NewReader(nil), key("sender")); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty body: %v", err)
	}
	if _, err := SealTo(io.Discard, bytes.NewReader(nil), wire.Secret{1}); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty payload: %v", err)
	}
	if _, err := io.ReadAll(SealReader(bytes.NewReader(nil), wire.Secret{1})); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty payload: %v", err)
	}
	// The counters at their limits, without the gigabytes before.
	u := unframer{body: MaxBody - MaxBody%fullCount, total: MaxBody / fullCount * ChunkSize}
	full := make([]byte, ChunkSize)
	putCount(full, fullCount)
	if _, _, err := u.chunk(full, false); !errors.Is(err, ErrTooLarge) {
		t.Errorf("body over the limit: %v", err)
	}
	s := newSealer(iotest.OneByteReader(bytes.NewReader([]byte{1, 2})), wire.Secret{1})
	s.size = MaxPayload - 1
	if _, err := s.chunk(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("payload over the limit: %v", err)
	}
	o := newOpener(bytes.NewReader(make([]byte, 100)), wire.Secret{1}, 99)
	if _, _, err := o.next(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("sealed copy over the limit: %v", err)
	}
}

// A source's own "unexpected EOF" does not end a message, and errors are
// returned.
func TestStreamErrors(t *testing.T) {
	torn := func(n int) io.Reader {
		return io.MultiReader(bytes.NewReader(pattern(n)), iotest.ErrReader(io.ErrUnexpectedEOF))
	}
	p := encrypt(t, pattern(100))
	for _, n := range []int{0, 1, 8, 100, ChunkSize, fullCount + 1, 100_000} {
		if _, err := sender(t).Encrypt(io.Discard, torn(n), key("sender")); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("encrypt %d: %v", n, err)
		}
		if _, err := SealTo(io.Discard, torn(n), wire.Secret{1}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("seal %d: %v", n, err)
		}
	}
	for n := range p {
		in := io.MultiReader(bytes.NewReader(p[:n]), iotest.ErrReader(io.ErrUnexpectedEOF))
		if _, err := recipient(t).Decrypt(io.Discard, in); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("decrypt %d: %v", n, err)
		}
	}
	full := errors.New("disk full")
	w := writer(func(b []byte) (int, error) { return 0, full })
	short := writer(func(b []byte) (int, error) { return len(b) - 1, nil })
	for dst, want := range map[*writer]error{&w: full, &short: io.ErrShortWrite} {
		if _, err := sender(t).Encrypt(dst, bytes.NewReader(p), key("sender")); !errors.Is(err, want) {
			t.Error(err)
		}
		if _, err := recipient(t).Decrypt(dst, bytes.NewReader(p)); !errors.Is(err, want) {
			t.Error(err)
		}
		if _, err := SealTo(dst, bytes.NewReader(p), wire.Secret{1}); !errors.Is(err, want) {
			t.Error(err)
		}
	}
	idle := reader(func([]byte) (int, error) { return 0, nil })
	if _, err := sender(t).Encrypt(io.Discard, idle, key("sender")); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
	liar := reader(func(b []byte) (int, error) { return len(b) + 1, nil })
	if _, err := SealTo(io.Discard, liar, wire.Secret{1}); err == nil {
		t.Error("a reader that counts more than it was given")
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

type reader func([]byte) (int, error)

func (r reader) Read(b []byte) (int, error) { return r(b) }

// source is left bytes of a pattern, made as they are read.
type source struct{ left int }

func (s *source) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), s.left)
	for i := range b[:n] {
		b[i] = byte(i)
	}
	s.left -= n
	return n, nil
}

// TestConstantMemory: a long message goes through the whole chain in constant memory.
func TestConstantMemory(t *testing.T) {
	tier.NotShort(t)
	size := tier.Pick(0, 64<<20, 256<<20)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var most uint64
	before := heap()
	kappa := wire.Secret{1}
	p, pw := io.Pipe()
	q, qw := io.Pipe()
	go func() {
		_, err := sender(t).Encrypt(pw, &source{left: size}, key("sender"))
		pw.CloseWithError(err)
	}()
	go func() {
		_, err := Unseal(qw, SealReader(p, kappa), kappa)
		qw.CloseWithError(err)
	}()
	var got uint64
	m, err := recipient(t).Decrypt(writer(func(b []byte) (int, error) {
		if got>>24 != (got+uint64(len(b)))>>24 { // each 16 MiB
			most = max(most, heap())
		}
		got += uint64(len(b))
		return len(b), nil
	}), q)
	if err != nil || m.Size != uint64(size) || got != uint64(size) {
		t.Fatal(m, err)
	}
	if most > before+16<<20 {
		t.Errorf("the heap grew by %d bytes", most-before)
	}
}
