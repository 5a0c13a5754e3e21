package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := wire.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// TestKindsComplete checks that every message type of the package is listed in
// kinds and has a fuzz target.
func TestKindsComplete(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	fuzzed := map[string]bool{}
	var types []string
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if name, ok := strings.CutPrefix(fn.Name.Name, "Fuzz"); ok {
				fuzzed[name] = true
			}
			if fn.Recv != nil && fn.Name.Name == "MaxSize" && !strings.HasSuffix(path, "_test.go") {
				types = append(types, fn.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name)
			}
		}
	}
	if len(types) != len(kinds) {
		t.Errorf("%d types, %d in kinds", len(types), len(kinds))
	}
	for _, name := range types {
		if !slices.ContainsFunc(kinds, func(k kind) bool { return k.name == name }) {
			t.Errorf("%s is not tested", name)
		}
		if !fuzzed[name] {
			t.Errorf("%s is not fuzzed", name)
		}
	}
}

// TestMaxSize checks that the largest message fits, that MaxSize is not much
// larger than needed, and that both ends of a frame agree.
func TestMaxSize(t *testing.T) {
	for _, k := range kinds {
		for _, m := range []wire.Limited{k.small, k.large} {
			b := marshal(t, m)
			if len(b) > m.MaxSize() {
				t.Errorf("%s of %d bytes, MaxSize %d", k.name, len(b), m.MaxSize())
			}
			var buf bytes.Buffer
			if err := wire.WriteFrame(&buf, m); err != nil {
				t.Errorf("%s: %v", k.name, err)
				continue
			}
			if !bytes.Equal(buf.Bytes(), frame(b)) {
				t.Errorf("%s: frame", k.name)
			}
			got := k.empty()
			if err := wire.ReadFrame(&buf, got); err != nil {
				t.Errorf("%s: %v", k.name, err)
			} else if !bytes.Equal(marshal(t, got), b) {
				t.Errorf("%s: read back as another", k.name)
			}
			// Fields of a reused message must not remain.
			reused := k.empty()
			if err := wire.Unmarshal(marshal(t, k.large), reused); err != nil {
				t.Fatal(err)
			}
			if err := wire.Unmarshal(b, reused); err != nil || !bytes.Equal(marshal(t, reused), b) {
				t.Errorf("%s: decoding into one in use: %v", k.name, err)
			}
		}
		if n := len(marshal(t, k.large)); k.large.MaxSize() > 2*n+64 {
			t.Errorf("%s: MaxSize %d for at most %d bytes", k.name, k.large.MaxSize(), n)
		}
	}
}

// TestStrict checks that exactly one form of every message is accepted.
func TestStrict(t *testing.T) {
	type pair struct {
		_ struct{} `cbor:",toarray"`
		N uint64
		B []byte
	}
	good := []byte{0x82, 0x05, 0x41, 0xaa}
	var p pair
	if err := wire.Unmarshal(good, &p); err != nil || p.N != 5 || !bytes.Equal(p.B, []byte{0xaa}) {
		t.Fatal(err, p)
	}
	for name, b := range map[string][]byte{
		"nothing":                   {},
		"long integer":              {0x82, 0x18, 0x05, 0x41, 0xaa},
		"eight-byte integer":        {0x82, 0x1b, 0, 0, 0, 0, 0, 0, 0, 5, 0x41, 0xaa},
		"long length":               {0x82, 0x05, 0x58, 0x01, 0xaa},
		"long array head":           {0x98, 0x02, 0x05, 0x41, 0xaa},
		"trailing byte":             {0x82, 0x05, 0x41, 0xaa, 0x00},
		"cut":                       {0x82, 0x05, 0x41},
		"indefinite array":          {0x9f, 0x05, 0x41, 0xaa, 0xff},
		"indefinite string":         {0x82, 0x05, 0x5f, 0x41, 0xaa, 0xff},
		"tag":                       {0xc2, 0x82, 0x05, 0x41, 0xaa},
		"tagged integer":            {0x82, 0xc1, 0x05, 0x41, 0xaa},
		"bignum":                    {0x82, 0xc2, 0x41, 0x05, 0x41, 0xaa},
		"null for bytes":            {0x82, 0x05, 0xf6},
		"null for integer":          {0x82, 0xf6, 0x41, 0xaa},
		"undefined":                 {0x82, 0xf7, 0x41, 0xaa},
		"text for bytes":            {0x82, 0x05, 0x61, 0x61},
		"array for bytes":           {0x82, 0x05, 0x81, 0x18, 0xaa},
		"float for integer":         {0x82, 0xf9, 0x45, 0x00, 0x41, 0xaa},
		"negative":                  {0x82, 0x24, 0x41, 0xaa},
		"bool":                      {0x82, 0xf5, 0x41, 0xaa},
		"an element less":           {0x81, 0x05},
		"an element more":           {0x83, 0x05, 0x41, 0xaa, 0x00},
		"map for the struct":        {0xa2, 0x61, 'N', 0x05, 0x61, 'B', 0x41, 0xaa},
		"null for the struct":       {0xf6},
		"reserved head":             {0x82, 0x1c, 0x41, 0xaa},
		"huge array":                {0x9a, 0xff, 0xff, 0xff, 0xff},
		"huge string":               {0x82, 0x05, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"negative length in int64":  {0x82, 0x05, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"simple value in two bytes": {0x82, 0xf8, 0x20, 0x41, 0xaa},
	} {
		var p pair
		if err := wire.Unmarshal(b, &p); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}

	var m map[string]uint64
	for name, b := range map[string][]byte{
		"duplicate key":   {0xa2, 0x61, 'a', 0x01, 0x61, 'a', 0x01},
		"keys unsorted":   {0xa2, 0x61, 'b', 0x01, 0x61, 'a', 0x01},
		"indefinite map":  {0xbf, 0x61, 'a', 0x01, 0xff},
		"key not UTF-8":   {0xa1, 0x61, 0xff, 0x01},
		"key of integers": {0xa1, 0x01, 0x01},
	} {
		m = nil
		if err := wire.Unmarshal(b, &m); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := wire.Unmarshal([]byte{0xa2, 0x61, 'a', 0x01, 0x61, 'b', 0x02}, &m); err != nil || len(m) != 2 {
		t.Error(m, err)
	}

	// A fixed-size array accepts only a string of exactly its length.
	for n := range 70 {
		b := marshal(t, make([]byte, n))
		var k wire.Key
		var s wire.Signature
		var l wire.Locator
		if err := wire.Unmarshal(b, &k); (err == nil) != (n == 32) {
			t.Errorf("key from %d bytes: %v", n, err)
		}
		if err := wire.Unmarshal(b, &s); (err == nil) != (n == 64) {
			t.Errorf("signature from %d bytes: %v", n, err)
		}
		if err := wire.Unmarshal(b, &l); (err == nil) != (n == 8) {
			t.Errorf("locator from %d bytes: %v", n, err)
		}
	}
	ints := append([]byte{0x98, 32}, make([]byte, 32)...)
	var k wire.Key
	if err := wire.Unmarshal(ints, &k); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("key from 32 integers: %v", err)
	}

	// An empty list has one form, whether the program holds it as nil or empty.
	a, b := marshal(t, &wire.Status{}), marshal(t, &wire.Status{Ack: []byte{}})
	if !bytes.Equal(a, b) {
		t.Errorf("no acknowledgement: %x and %x", a, b)
	}
}

// TestStrictMessages damages every message in each way that could apply to it.
func TestStrictMessages(t *testing.T) {
	for _, k := range kinds {
		b := marshal(t, k.small)
		head := b[0]
		if head&0xe0 != 0x80 {
			t.Fatalf("%s is no array", k.name)
		}
		bad := map[string][]byte{
			"trailing byte": append(slices.Clone(b), 0),
			"tag":           append([]byte{0xc1}, b...),
			"indefinite":    append(append([]byte{0x9f}, b[1:]...), 0xff),
			"long head":     append([]byte{0x98, head & 0x1f}, b[1:]...),
			"extra element": append(append([]byte{head + 1}, b[1:]...), 0),
			"null":          {0xf6},
			"map":           {0xa0},
			"empty":         {},
		}
		if len(b) > 1 {
			bad["cut"] = b[:len(b)-1]
			bad["an element less"] = append([]byte{head - 1}, b[1:]...)
		}
		for name, x := range bad {
			if err := wire.ReadFrame(bytes.NewReader(frame(x)), k.empty()); !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooBig) {
				t.Errorf("%s, %s: %v", k.name, name, err)
			}
		}
	}
}

// untouched is a reader that fails the test if it is read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body of a frame that is too big was read")
	return 0, io.EOF
}

func TestReadFrameLimits(t *testing.T) {
	for _, k := range kinds {
		limit := uint32(k.empty().MaxSize())
		for _, n := range []uint32{limit + 1, 1 << 31, 1<<32 - 1} {
			head := binary.BigEndian.AppendUint32(nil, n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := wire.ReadFrame(io.MultiReader(bytes.NewReader(head), untouched{t}), k.empty())
			runtime.ReadMemStats(&after)
			if !errors.Is(err, wire.ErrTooBig) {
				t.Errorf("%s of %d bytes: %v", k.name, n, err)
			}
			if d := after.TotalAlloc - before.TotalAlloc; d > 1<<16 {
				t.Errorf("%s of %d bytes: %d allocated", k.name, n, d)
			}
		}
		b := frame(marshal(t, k.small))
		for i := range b {
			err := wire.ReadFrame(bytes.NewReader(b[:i]), k.empty())
			want := io.ErrUnexpectedEOF
			if i == 0 {
				want = io.EOF // the stream ended between frames
			}
			if err != want {
				t.Errorf("%s cut to %d bytes: %v", k.name, i, err)
			}
		}
	}
	// One byte per element, hundreds when decoded: rejected for its length.
	for _, c := range []struct {
		m    wire.Limited
		size int
	}{{new(wire.Proofs), 32_000}, {new(wire.Package), 60_000}} {
		list := append(binary.BigEndian.AppendUint16([]byte{0x99}, uint16(c.size)), bytes.Repeat([]byte{0xf6}, c.size)...)
		b := append([]byte{0x81}, list...)
		if _, ok := c.m.(*wire.Package); ok {
			small := marshal(t, minPackage())
			claims := marshal(t, minFrozen().Claims)
			at := bytes.Index(small, claims)
			b = append(append(slices.Clone(small[:at]), list...), small[at+len(claims):]...)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := wire.ReadFrame(bytes.NewReader(frame(b)), c.m)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%T with %d nulls: %v", c.m, c.size, err)
		}
		if d := after.TotalAlloc - before.TotalAlloc; d > 1<<20 {
			t.Errorf("%T with %d nulls: %d bytes allocated", c.m, c.size, d)
		}
	}
}

// sized is a message with an adjustable limit.
type sized struct {
	_     struct{} `cbor:",toarray"`
	B     []byte
	limit int
}

func (s *sized) MaxSize() int { return s.limit }
func (*sized) Check() error   { return nil }

// TestFrameBoundary checks that a message of exactly its maximum size passes,
// and that one byte more is neither written nor read.
func TestFrameBoundary(t *testing.T) {
	m := &sized{B: make([]byte, 20)}
	b := marshal(t, m)
	m.limit = len(b)
	var buf bytes.Buffer
	if err := wire.WriteFrame(&buf, m); err != nil || !bytes.Equal(buf.Bytes(), frame(b)) {
		t.Errorf("%x, %v", buf.Bytes(), err)
	}
	if err := wire.ReadFrame(bytes.NewReader(frame(b)), &sized{limit: len(b)}); err != nil {
		t.Error(err)
	}
	m.limit--
	buf.Reset()
	if err := wire.WriteFrame(&buf, m); !errors.Is(err, wire.ErrTooBig) || buf.Len() != 0 {
		t.Errorf("%d bytes, %v", buf.Len(), err)
	}
	if err := wire.ReadFrame(bytes.NewReader(frame(b)), &sized{limit: len(b) - 1}); !errors.Is(err, wire.ErrTooBig) {
		t.Error(err)
	}
}

// TestWidths checks that an integer too large for its field is rejected and not
// truncated.
func TestWidths(t *testing.T) {
	reply := func(code ...byte) []byte { return append(append([]byte{0x82}, code...), 0x60) }
	for name, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"largest code":           {reply(byte(wire.NoRoute)), true},
		"code of 256":            {reply(0x19, 1, 0), false},
		"code of 2^32":           {reply(0x1b, 0, 0, 0, 1, 0, 0, 0, 0), false},
		"code of 2^64 as bignum": {reply(0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0), false},
		"code of -1":             {reply(0x20), false},
	} {
		if err := wire.ReadFrame(bytes.NewReader(frame(c.b)), new(wire.Reply)); (err == nil) != c.ok || err != nil && !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Heights have 32 bits, amounts 63.
	q := marshal(t, minQuote())
	height, value := []byte{0x00, 0x01, 0x02, 0x00}, []byte{0x00, 0x00, 0x00, 0x58, 0x40} // from, until, expiry, valid; rate, reserve, value, sig
	for name, c := range map[string]struct{ old, new []byte }{
		"expiry of 2^32+2":  {height, []byte{0x00, 0x01, 0x1b, 0, 0, 0, 1, 0, 0, 0, 2, 0x00}},
		"value of 2^63":     {value, []byte{0x00, 0x00, 0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x58, 0x40}},
		"value of 2^64 - 1": {value, []byte{0x00, 0x00, 0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x58, 0x40}},
	} {
		at := bytes.LastIndex(q, c.old)
		if at < 0 {
			t.Fatal(name)
		}
		b := append(append(slices.Clone(q[:at]), c.new...), q[at+len(c.old):]...)
		if err := wire.ReadFrame(bytes.NewReader(frame(b)), new(wire.Quote)); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteFrameRefuses(t *testing.T) {
	for _, m := range []wire.Limited{&wire.QuoteRequest{}, &wire.Reply{Text: "\xff"}, &wire.Acknowledge{}, &wire.Receipt{Agent: offCurve}} {
		var b bytes.Buffer
		if err := wire.WriteFrame(&b, m); !errors.Is(err, wire.ErrMalformed) || b.Len() != 0 {
			t.Errorf("%T: %v, %d bytes", m, err, b.Len())
		}
	}
}

// TestOutOfRange damages one field at a time of valid messages.
func TestOutOfRange(t *testing.T) {
	type q = *wire.Quote
	quote := func(f func(q)) wire.Limited { m := maxQuote(); f(m); return m }
	request := func(f func(*wire.QuoteRequest)) wire.Limited {
		m := &wire.QuoteRequest{E: key(1), Size: 1, StoreUntil: 1, Expiry: 2}
		f(m)
		return m
	}
	pack := func(f func(*wire.Package)) wire.Limited { m := minPackage(); f(m); return m }
	proofs := func(f func(*wire.Proof)) wire.Limited {
		m := maxProofs()
		f(&m.Proofs[wire.MaxProofs-1])
		return m
	}
	ad := func(f func(*wire.Advertisement)) wire.Limited { m := minAdvertisement(); f(m); return m }
	open := func(f func(*wire.BankOpen)) wire.Limited { m := minOpen(); f(m); return m }
	transfer := func(f func(*wire.Transfer)) wire.Limited { m := maxTransfer(); f(m); return m }
	ask := func(value wire.Sat, rungs, per uint32, expiry wire.Height) wire.Limited {
		return &wire.BankRequest{Value: value, Rungs: rungs, PerRung: per, Expiry: expiry}
	}
	cases := map[string]wire.Limited{
		"bank of nothing":              ask(0, 1, 1, 1),
		"bank of too much":             ask(wire.MaxSat+1, 1, 1, 1),
		"bank without rungs":           ask(1, 0, 1, 1),
		"bank of many rungs":           ask(1, wire.MaxRungs+1, 1, 1),
		"bank without pennies":         ask(1, 1, 0, 1),
		"bank without end":             ask(1, 1, 1, 0),
		"bank that ends late":          ask(1, 1, 1, wire.MaxHeight+1),
		"bank quote without depth":     &wire.BankQuote{Payee: key(1)},
		"bank quote too deep":          &wire.BankQuote{Payee: key(1), Conf: wire.MaxBankConf + 1},
		"bank quote key":               &wire.BankQuote{Payee: offCurve, Conf: 1},
		"opening without funding":      open(func(m *wire.BankOpen) { m.Funding = nil }),
		"opening funding":              open(func(m *wire.BankOpen) { m.Funding = make([]byte, wire.MaxFunding+1) }),
		"opening signatures":           open(func(m *wire.BankOpen) { m.Sigs = nil }),
		"opening terms":                open(func(m *wire.BankOpen) { m.Terms.Payee = m.Terms.Payer }),
		"bank state reserve < 0":       &wire.BankState{Reserve: -1},
		"bank state reserve":           &wire.BankState{Reserve: wire.MaxSat + 1},
		"bank state code":              &wire.BankState{Code: wire.NoRoute + 1},
		"no pennies":                   &wire.Pennies{},
		"half a penny":                 &wire.Pennies{List: make([]byte, wire.EncodedPenny/2)},
		"a large blob":                 &wire.BlobPut{Size: wire.MaxBlob + 1},
		"more than a large blob":       &wire.BlobHave{Bytes: wire.MaxBlob + 1},
		"far into a blob":              &wire.BlobGet{From: wire.MaxBlob + 1},
		"much of a blob":               &wire.BlobGet{Most: wire.MaxBlob + 1},
		"more than the blob":           &wire.BlobPart{Size: 1, Bytes: 2},
		"a part of a large blob":       &wire.BlobPart{Size: wire.MaxBlob + 1},
		"a blob of nobody":             &wire.BlobHello{},
		"offer at a huge rate":         with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Rate = wire.MaxRate + 1 }),
		"offer without an end":         with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Expires = 0 }),
		"offer of nobody":              with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Agent = wire.Key{} }),
		"offer of no memory":           with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Limits.Memory = 1<<16 - 1 }),
		"offer of much memory":         with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Limits.Memory = 2<<30 + 1 }),
		"offer of no fuel":             with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Limits.Fuel = 0 }),
		"offer of much fuel":           with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Limits.Fuel = 1<<62 + 1 }),
		"offer of no disk":             with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Limits.Disk = 0 }),
		"offer of no epochs":           with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Limits.Epochs = 0 }),
		"offer of many epochs":         with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Limits.Epochs = 1 << 24 }),
		"offer of no life":             with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Limits.Blocks = 0 }),
		"offer of a long life":         with(minComputeOffer(), func(o *wire.ComputeOffer) { o.Limits.Blocks = wire.MaxStoreBlocks + 1 }),
		"request without a program":    with(minComputeRequest(), func(r *wire.ComputeRequest) { r.Program = 0 }),
		"request with a large program": with(minComputeRequest(), func(r *wire.ComputeRequest) { r.Program = wire.MaxBlob + 1 }),
		"request with a large input":   with(minComputeRequest(), func(r *wire.ComputeRequest) { r.Input = wire.MaxBlob + 1 }),
		"request with a large output":  with(minComputeRequest(), func(r *wire.ComputeRequest) { r.Output = wire.MaxBlob + 1 }),
		"request with a large state":   with(minComputeRequest(), func(r *wire.ComputeRequest) { r.State = 1<<31 + 1 }),
		"request of no memory":         with(minComputeRequest(), func(r *wire.ComputeRequest) { r.Memory = 0 }),
		"request of no fuel":           with(minComputeRequest(), func(r *wire.ComputeRequest) { r.Fuel = 0 }),
		"request of no epochs":         with(minComputeRequest(), func(r *wire.ComputeRequest) { r.Epochs = 0 }),
		"request of no life":           with(minComputeRequest(), func(r *wire.ComputeRequest) { r.Blocks = 0 }),
		"a quote of too much":          &wire.ComputeQuote{Agent: key(1), Party: key(2), Price: wire.MaxSat.Msat() + 1, ValidUntil: 1},
		"a quote valid never":          &wire.ComputeQuote{Agent: key(1), Party: key(2)},
		"a quote valid for ever":       &wire.ComputeQuote{Agent: key(1), Party: key(2), ValidUntil: wire.MaxHeight + 1},
		"a quote without a party":      &wire.ComputeQuote{Agent: key(1), ValidUntil: 1},
		"too many pennies":             &wire.Pennies{List: make([]byte, (wire.MaxPennies+1)*wire.EncodedPenny)},
		"two frames in one":            &wire.PayerFrame{Hello: make([]wire.BankHello, 1), Pennies: []wire.Pennies{{List: make([]byte, wire.EncodedPenny)}}},
		"two greetings":                &wire.PayerFrame{Hello: make([]wire.BankHello, 2)},
		"a frame of no pennies":        &wire.PayerFrame{Pennies: make([]wire.Pennies, 1)},
		"an empty frame":               &wire.PayeeFrame{},
		"two answers":                  &wire.PayeeFrame{State: make([]wire.BankState, 1), Taken: make([]wire.Taken, 1)},
		"a false state":                &wire.PayeeFrame{State: []wire.BankState{{Reserve: -1}}},
		"a false acknowledgement":      &wire.PayeeFrame{Taken: []wire.Taken{{Code: 255}}},
		"taken text":                   &wire.Taken{Text: "a\x80"},
		"close of less than 0":         &wire.CloseOffer{Payer: -1, Script: []byte{1}},
		"close of too much":            &wire.CloseOffer{Payer: wire.MaxSat + 1, Script: []byte{1}},
		"close fee < 0":                &wire.CloseOffer{Fee: -1, Script: []byte{1}},
		"close to nobody":              &wire.CloseOffer{},
		"close script":                 &wire.CloseOffer{Script: make([]byte, 43)},
		"pair of nothing":              &wire.PairRequest{Key: key(1), Addrs: []string{"a"}, Rungs: 1, PerRung: 1, Expiry: 1},
		"pair without address":         &wire.PairRequest{Key: key(1), Value: 1, Rungs: 1, PerRung: 1, Expiry: 1},
		"pair key":                     &wire.PairRequest{Key: offCurve, Addrs: []string{"a"}, Value: 1, Rungs: 1, PerRung: 1, Expiry: 1},
		"transfer step 0":              transfer(func(m *wire.Transfer) { m.Index = 0 }),
		"transfer of nothing":          transfer(func(m *wire.Transfer) { m.Hops[1].Amount = 0 }),
		"transfer that grows":          transfer(func(m *wire.Transfer) { m.Amount-- }),
		"transfer that grows later":    transfer(func(m *wire.Transfer) { m.Hops[0].Amount-- }),
		"transfer of too much":         transfer(func(m *wire.Transfer) { m.Amount++ }),
		"transfer total":               transfer(func(m *wire.Transfer) { m.Total++ }),
		"transfer of more than all":    transfer(func(m *wire.Transfer) { m.Total-- }),
		"transfer hops":                transfer(func(m *wire.Transfer) { m.Hops = append(m.Hops, m.Hops[1]) }),
		"transfer key":                 transfer(func(m *wire.Transfer) { m.Hops[0].Key = offCurve }),
		"transfer ack":                 &wire.TransferAck{Total: wire.MaxSat.Msat() + 1},
		"route for nothing":            &wire.RouteRequest{Payee: key(1)},
		"route depth":                  &wire.RouteRequest{Payee: key(1), Amount: 1, Depth: wire.MaxHops - 1},
		"route payee":                  &wire.RouteRequest{Payee: offCurve, Amount: 1},
		"route of nobody":              &wire.Route{},
		"route of many":                &wire.Route{Bankers: append(maxRoute().Bankers, maxRoute().Bankers[0])},
		"route banker":                 &wire.Route{Bankers: []wire.RouteHop{{Key: offCurve}}},

		"advertisement of no service":       ad(func(m *wire.Advertisement) { m.Services = 0 }),
		"advertisement rate":                ad(func(m *wire.Advertisement) { m.Rate = wire.MaxRate + 1 }),
		"advertisement size 0":              ad(func(m *wire.Advertisement) { m.Limits.Size = 0 }),
		"advertisement size":                ad(func(m *wire.Advertisement) { m.Limits.Size = wire.MaxPayload + 1 }),
		"advertisement blocks 0":            ad(func(m *wire.Advertisement) { m.Limits.Blocks = 0 }),
		"advertisement blocks":              ad(func(m *wire.Advertisement) { m.Limits.Blocks = wire.MaxStoreBlocks + 1 }),
		"advertisement agent":               ad(func(m *wire.Advertisement) { m.Agent = offCurve }),
		"advertisement of no address":       ad(func(m *wire.Advertisement) { m.Record.Addrs = nil }),
		"advertisement addresses":           ad(func(m *wire.Advertisement) { m.Record.Addrs = append(maxRecord().Addrs, "a") }),
		"advertisement empty address":       ad(func(m *wire.Advertisement) { m.Record.Addrs = []string{""} }),
		"advertisement long address":        ad(func(m *wire.Advertisement) { m.Record.Addrs = []string{strings.Repeat("a", wire.MaxAddr+1)} }),
		"advertisement without expiry":      ad(func(m *wire.Advertisement) { m.Record.Expires = 0 }),
		"advertisement expired before 1970": ad(func(m *wire.Advertisement) { m.Record.Expires = -1 }),
		"holding owner":                     &wire.Holding{Grant: wire.Grant{Owner: offCurve, Agent: key(1)}, Record: minRecord()},
		"holding agent":                     &wire.Holding{Grant: wire.Grant{Owner: key(1), Agent: offCurve}, Record: minRecord()},
		"holding of no address":             &wire.Holding{Grant: wire.Grant{Owner: key(1), Agent: key(1)}, Record: wire.Record{Expires: 1}},
		"request of nothing":                request(func(m *wire.QuoteRequest) { m.Size = 0 }),
		"request too large":                 request(func(m *wire.QuoteRequest) { m.Size = wire.MaxPayload + 1 }),
		"request stored to 0":               request(func(m *wire.QuoteRequest) { m.StoreUntil = 0 }),
		"request expires in storage":        request(func(m *wire.QuoteRequest) { m.Expiry = m.StoreUntil }),
		"request expiry too high":           request(func(m *wire.QuoteRequest) { m.Expiry = wire.MaxHeight + 1 }),
		"request expiry a time":             request(func(m *wire.QuoteRequest) { m.Expiry = 500_000_000 }),
		"request shape":                     request(func(m *wire.QuoteRequest) { m.Shape = 2 }),
		"request E":                         request(func(m *wire.QuoteRequest) { m.E = offCurve }),

		"quote of nothing":      quote(func(m q) { m.Size = 0 }),
		"quote too large":       quote(func(m q) { m.Size = wire.MaxPayload + 1 }),
		"quote without storage": quote(func(m q) { m.From = m.StoreUntil }),
		"quote stored backward": quote(func(m q) { m.From = m.StoreUntil + 1 }),
		"quote stored too long": quote(func(m q) { m.From-- }),
		"quote expires early":   quote(func(m q) { m.ValidUntil, m.Expiry = m.From, m.StoreUntil }),
		"quote expiry too high": quote(func(m q) { m.Expiry = wire.MaxHeight + 1 }),
		"quote valid before":    quote(func(m q) { m.ValidUntil = m.From - 1 }),
		"quote valid too long":  quote(func(m q) { m.ValidUntil = m.Expiry + 1 }),
		"quote shape":           quote(func(m q) { m.Shape = 255 }),
		"quote rate":            quote(func(m q) { m.Rate = wire.MaxRate + 1 }),
		"quote reserve < 0":     quote(func(m q) { m.Reserve = -1 }),
		"quote reserve":         quote(func(m q) { m.Reserve = wire.MaxSat + 1 }),
		"quote value < 0":       quote(func(m q) { m.Value, m.Reserve = -1, -2 }),
		"quote value":           quote(func(m q) { m.Value = wire.MaxSat + 1 }),
		"quote value < reserve": quote(func(m q) { m.Value-- }),
		"quote agent":           quote(func(m q) { m.Agent = offCurve }),
		"quote E":               quote(func(m q) { m.E = offCurve }),
		"quote point":           quote(func(m q) { m.Point = offCurve }),
		"quote claim key":       quote(func(m q) { m.ClaimKey = offCurve }),

		"package without funding":      pack(func(m *wire.Package) { m.Funding = nil }),
		"package funding":              pack(func(m *wire.Package) { m.Funding = make([]byte, wire.MaxFunding+1) }),
		"package no claims":            pack(func(m *wire.Package) { m.Frozen.Claims = nil }),
		"package claims":               pack(func(m *wire.Package) { m.Frozen.Claims = append(maxFrozen().Claims, maxFrozen().Claims[0]) }),
		"package expiry 0":             pack(func(m *wire.Package) { m.Frozen.Expiry = 0 }),
		"package expiry":               pack(func(m *wire.Package) { m.Frozen.Expiry = wire.MaxHeight + 1 }),
		"package refund key":           pack(func(m *wire.Package) { m.Frozen.RefundKey = offCurve }),
		"package sender key":           pack(func(m *wire.Package) { m.Frozen.Claims[0].SenderKey = offCurve }),
		"package claim key":            pack(func(m *wire.Package) { m.Frozen.Claims[0].ClaimKey = offCurve }),
		"package grant owner":          pack(func(m *wire.Package) { m.Grant.Owner = offCurve }),
		"package grant agent":          pack(func(m *wire.Package) { m.Grant.Agent = offCurve }),
		"package section size 0":       pack(func(m *wire.Package) { m.Section.Leaf.Size = 0 }),
		"package section size":         pack(func(m *wire.Package) { m.Section.Leaf.Size = wire.MaxPayload + 1 }),
		"package section count 0":      pack(func(m *wire.Package) { m.Section.Count = 0 }),
		"package section count":        pack(func(m *wire.Package) { m.Section.Count = wire.MaxAgents + 1 }),
		"package section index":        pack(func(m *wire.Package) { m.Section.Index = m.Section.Count }),
		"package section path":         pack(func(m *wire.Package) { m.Section.Path = make([]wire.Hash, 5) }),
		"package section agent":        pack(func(m *wire.Package) { m.Section.Leaf.Agent = offCurve }),
		"package section point":        pack(func(m *wire.Package) { m.Section.Leaf.Point = offCurve }),
		"proof expiry":                 proofs(func(m *wire.Proof) { m.Frozen.Expiry = 0 }),
		"proof section":                proofs(func(m *wire.Proof) { m.Section.Count = 0 }),
		"a proof too many":             &wire.Proofs{Proofs: append(maxProofs().Proofs, maxProofs().Proofs[0])},
		"receipt agent":                &wire.Receipt{Agent: offCurve},
		"acknowledgement empty":        &wire.Acknowledge{},
		"acknowledgement":              &wire.Acknowledge{Blob: make([]byte, wire.MaxAck+1)},
		"status":                       &wire.Status{Ack: make([]byte, wire.MaxAck+1)},
		"reply code":                   &wire.Reply{Code: wire.NoRoute + 1},
		"reply code 255":               &wire.Reply{Code: 255},
		"reply text":                   &wire.Reply{Text: string(make([]byte, 257))},
		"reply text not UTF-8":         &wire.Reply{Text: "a\x80"},
		"reply text not UTF-8 at last": &wire.Reply{Text: "\xc3"},
	}
	for name, m := range cases {
		if err := m.Check(); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(wire.Limited)
		err := wire.ReadFrame(bytes.NewReader(frame(marshal(t, m))), got)
		if !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooBig) {
			t.Errorf("%s, read: %v", name, err)
		}
	}
}

// fuzzMessage fuzzes the body of one message type: a message that is decoded
// passes Check and re-encodes to the same bytes. The length prefix is always
// correct, so the fuzzer does not waste inputs on it.
func fuzzMessage[T any, M interface {
	*T
	wire.Limited
}](f *testing.F) {
	seeds := 0
	for _, k := range kinds {
		if _, ok := k.small.(M); !ok {
			continue
		}
		for _, m := range []wire.Limited{k.small, k.large} {
			b := marshal(f, m)
			f.Add(b)
			f.Add(b[:len(b)-1])
			seeds++
		}
	}
	if seeds == 0 {
		f.Fatalf("%T is not in kinds", *new(T))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := M(new(T))
		if err := wire.ReadFrame(bytes.NewReader(frame(b)), m); err != nil {
			return
		}
		if err := m.Check(); err != nil {
			t.Fatalf("passes and does not: %v", err)
		}
		var again bytes.Buffer
		if err := wire.WriteFrame(&again, m); err != nil {
			t.Fatalf("is read and not written: %v", err)
		}
		if !bytes.Equal(again.Bytes(), frame(b)) {
			t.Fatal("re-encodes to other bytes")
		}
	})
}

func FuzzQuoteRequest(f *testing.F)   { fuzzMessage[wire.QuoteRequest](f) }
func FuzzQuote(f *testing.F)          { fuzzMessage[wire.Quote](f) }
func FuzzPackage(f *testing.F)        { fuzzMessage[wire.Package](f) }
func FuzzReceipt(f *testing.F)        { fuzzMessage[wire.Receipt](f) }
func FuzzAsk(f *testing.F)            { fuzzMessage[wire.Ask](f) }
func FuzzProofs(f *testing.F)         { fuzzMessage[wire.Proofs](f) }
func FuzzToken(f *testing.F)          { fuzzMessage[wire.Token](f) }
func FuzzRelease(f *testing.F)        { fuzzMessage[wire.Release](f) }
func FuzzReveal(f *testing.F)         { fuzzMessage[wire.Reveal](f) }
func FuzzAcknowledge(f *testing.F)    { fuzzMessage[wire.Acknowledge](f) }
func FuzzDone(f *testing.F)           { fuzzMessage[wire.Done](f) }
func FuzzStatusRequest(f *testing.F)  { fuzzMessage[wire.StatusRequest](f) }
func FuzzStatus(f *testing.F)         { fuzzMessage[wire.Status](f) }
func FuzzReply(f *testing.F)          { fuzzMessage[wire.Reply](f) }
func FuzzAdvertisement(f *testing.F)  { fuzzMessage[wire.Advertisement](f) }
func FuzzHolding(f *testing.F)        { fuzzMessage[wire.Holding](f) }
func FuzzBankTerms(f *testing.F)      { fuzzMessage[wire.BankTerms](f) }
func FuzzPairRequest(f *testing.F)    { fuzzMessage[wire.PairRequest](f) }
func FuzzPairOpened(f *testing.F)     { fuzzMessage[wire.PairOpened](f) }
func FuzzBankRequest(f *testing.F)    { fuzzMessage[wire.BankRequest](f) }
func FuzzBankQuote(f *testing.F)      { fuzzMessage[wire.BankQuote](f) }
func FuzzBankOpen(f *testing.F)       { fuzzMessage[wire.BankOpen](f) }
func FuzzBankHello(f *testing.F)      { fuzzMessage[wire.BankHello](f) }
func FuzzBlobHello(f *testing.F)      { fuzzMessage[wire.BlobHello](f) }
func FuzzBlobPut(f *testing.F)        { fuzzMessage[wire.BlobPut](f) }
func FuzzBlobHave(f *testing.F)       { fuzzMessage[wire.BlobHave](f) }
func FuzzBlobGet(f *testing.F)        { fuzzMessage[wire.BlobGet](f) }
func FuzzBlobPart(f *testing.F)       { fuzzMessage[wire.BlobPart](f) }
func FuzzComputeOffer(f *testing.F)   { fuzzMessage[wire.ComputeOffer](f) }
func FuzzComputeRequest(f *testing.F) { fuzzMessage[wire.ComputeRequest](f) }
func FuzzComputeQuote(f *testing.F)   { fuzzMessage[wire.ComputeQuote](f) }
func FuzzBankState(f *testing.F)      { fuzzMessage[wire.BankState](f) }
func FuzzPennies(f *testing.F)        { fuzzMessage[wire.Pennies](f) }
func FuzzTaken(f *testing.F)          { fuzzMessage[wire.Taken](f) }
func FuzzPayerFrame(f *testing.F)     { fuzzMessage[wire.PayerFrame](f) }
func FuzzPayeeFrame(f *testing.F)     { fuzzMessage[wire.PayeeFrame](f) }
func FuzzCloseAsk(f *testing.F)       { fuzzMessage[wire.CloseAsk](f) }
func FuzzCloseOffer(f *testing.F)     { fuzzMessage[wire.CloseOffer](f) }
func FuzzCloseSign(f *testing.F)      { fuzzMessage[wire.CloseSign](f) }
func FuzzCloseDone(f *testing.F)      { fuzzMessage[wire.CloseDone](f) }
func FuzzTransfer(f *testing.F)       { fuzzMessage[wire.Transfer](f) }
func FuzzNote(f *testing.F)           { fuzzMessage[wire.Note](f) }
func FuzzNoteText(f *testing.F)       { fuzzMessage[wire.NoteText](f) }
func FuzzTransferAck(f *testing.F)    { fuzzMessage[wire.TransferAck](f) }
func FuzzRouteRequest(f *testing.F)   { fuzzMessage[wire.RouteRequest](f) }
func FuzzRoute(f *testing.F)          { fuzzMessage[wire.Route](f) }
func FuzzJobCall(f *testing.F)        { fuzzMessage[wire.JobCall](f) }
func FuzzJobAnswer(f *testing.F)      { fuzzMessage[wire.JobAnswer](f) }
func FuzzJobLetter(f *testing.F)      { fuzzMessage[wire.JobLetter](f) }

// FuzzUnmarshal decodes any bytes into the type with the most kinds of fields.
func FuzzUnmarshal(f *testing.F) {
	f.Add(marshal(f, maxProofs()))
	f.Add([]byte{0x81, 0x80})
	f.Add([]byte{0x81, 0xf6})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p wire.Proofs
		if wire.Unmarshal(b, &p) == nil && !bytes.Equal(marshal(t, &p), b) {
			t.Fatal("re-encodes to other bytes")
		}
	})
}
