package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// key is the point of the scalar n.
func key(n byte) wire.Key {
	var s wire.Secret
	s[31] = n
	k, err := s.PrivKey()
	if err != nil {
		panic(err)
	}
	return wire.XOnly(k.PubKey())
}

// notKey is no x coordinate of a curve point.
var notKey = wire.Key(bytes.Repeat([]byte{0xff}, 32))

func frozen(n int) wire.Frozen {
	f := wire.Frozen{Blinding: wire.Secret{1}, Expiry: wire.MaxHeight, RefundKey: key(1)}
	for range n {
		f.Claims = append(f.Claims, wire.ClaimLeaf{ReleaseHash: wire.Hash{255}, SenderKey: key(2), ClaimKey: key(3)})
	}
	return f
}

func section() wire.Section {
	return wire.Section{Leaf: wire.Leaf{Agent: key(1), CopyHash: wire.Hash{1}, Size: wire.MaxPayload, Point: key(2), Key: wire.MessageKey{3}},
		Index: 15, Count: 16, Path: make([]wire.Hash, 4)}
}

// largest is a valid message of each type with every field as large as it may
// be.
func largest() []wire.Limited {
	var proofs wire.Proofs
	for range wire.MaxProofs {
		proofs.Proofs = append(proofs.Proofs, wire.Proof{Outpoint: wire.Outpoint{Vout: math.MaxUint32}, Frozen: frozen(wire.MaxAgents), Section: section()})
	}
	return []wire.Limited{
		&wire.QuoteRequest{E: key(1), Size: wire.MaxPayload, StoreUntil: wire.MaxHeight - 1, Expiry: wire.MaxHeight, Shape: wire.OneOfMany},
		&wire.Quote{Agent: key(1), E: key(2), Point: key(3), ClaimKey: key(4), Size: wire.MaxPayload, From: wire.MaxHeight - 2, StoreUntil: wire.MaxHeight - 1,
			Expiry: wire.MaxHeight, ValidUntil: wire.MaxHeight, Shape: wire.OneOfMany, Rate: wire.MaxRate, Reserve: wire.MaxSat, Value: wire.MaxSat},
		&wire.Package{Funding: make([]byte, wire.MaxFunding), Vout: math.MaxUint32, Frozen: frozen(wire.MaxAgents), Section: section()},
		&wire.Receipt{Agent: key(1)},
		&wire.Ask{},
		&proofs,
		&wire.Token{}, &wire.Release{}, &wire.Reveal{},
		&wire.Acknowledge{Blob: make([]byte, wire.MaxAck)},
		&wire.Done{},
		&wire.StatusRequest{},
		&wire.Status{State: 255, Ack: make([]byte, wire.MaxAck)},
		&wire.Reply{Code: wire.Internal, Text: strings.Repeat("x", 256)},
	}
}

func name(m wire.Limited) string { return reflect.TypeOf(m).Elem().Name() }

func TestLargestFits(t *testing.T) {
	for _, m := range largest() {
		var b bytes.Buffer
		if err := wire.WriteFrame(&b, m); err != nil {
			t.Errorf("%s: %v", name(m), err)
			continue
		}
		back := reflect.New(reflect.TypeOf(m).Elem()).Interface().(wire.Limited)
		if err := wire.ReadFrame(&b, back); err != nil {
			t.Errorf("%s: %v", name(m), err)
		}
		again, err := wire.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		if first, _ := wire.Marshal(m); !bytes.Equal(first, again) {
			t.Errorf("%s came back as something else", name(m))
		}
	}
}

// TestOutOfRange puts each field out of its range, alone.
func TestOutOfRange(t *testing.T) {
	all := map[string]wire.Limited{}
	for _, m := range largest() {
		all[name(m)] = m
	}
	for _, c := range []struct {
		what   string
		change func()
	}{
		{"QuoteRequest size 0", func() { all["QuoteRequest"].(*wire.QuoteRequest).Size = 0 }},
		{"QuoteRequest size", func() { all["QuoteRequest"].(*wire.QuoteRequest).Size = wire.MaxPayload + 1 }},
		{"QuoteRequest height 0", func() { all["QuoteRequest"].(*wire.QuoteRequest).StoreUntil = 0 }},
		{"QuoteRequest expiry first", func() { all["QuoteRequest"].(*wire.QuoteRequest).Expiry = wire.MaxHeight - 1 }},
		{"QuoteRequest expiry", func() { all["QuoteRequest"].(*wire.QuoteRequest).Expiry = wire.MaxHeight + 1 }},
		{"QuoteRequest shape", func() { all["QuoteRequest"].(*wire.QuoteRequest).Shape = 2 }},
		{"QuoteRequest E", func() { all["QuoteRequest"].(*wire.QuoteRequest).E = notKey }},
		{"Quote size", func() { all["Quote"].(*wire.Quote).Size = 0 }},
		{"Quote from", func() { all["Quote"].(*wire.Quote).From = wire.MaxHeight - 1 }},
		{"Quote too long", func() { all["Quote"].(*wire.Quote).From = wire.MaxHeight - 2 - wire.MaxStoreBlocks }},
		{"Quote expiry", func() { all["Quote"].(*wire.Quote).Expiry = wire.MaxHeight + 1 }},
		{"Quote valid until", func() { all["Quote"].(*wire.Quote).ValidUntil = wire.MaxHeight - 3 }},
		{"Quote valid after expiry", func() { all["Quote"].(*wire.Quote).ValidUntil = wire.MaxHeight + 1 }},
		{"Quote shape", func() { all["Quote"].(*wire.Quote).Shape = 2 }},
		{"Quote rate", func() { all["Quote"].(*wire.Quote).Rate = wire.MaxRate + 1 }},
		{"Quote reserve", func() { all["Quote"].(*wire.Quote).Reserve = -1 }},
		{"Quote reserve over value", func() { all["Quote"].(*wire.Quote).Value = wire.MaxSat - 1 }},
		{"Quote value", func() { all["Quote"].(*wire.Quote).Value = wire.MaxSat + 1 }},
		{"Quote agent", func() { all["Quote"].(*wire.Quote).Agent = notKey }},
		{"Quote point", func() { all["Quote"].(*wire.Quote).Point = notKey }},
		{"Quote claim key", func() { all["Quote"].(*wire.Quote).ClaimKey = wire.Key{} }},
		{"Package funding empty", func() { all["Package"].(*wire.Package).Funding = nil }},
		{"Package funding", func() { all["Package"].(*wire.Package).Funding = make([]byte, wire.MaxFunding+1) }},
		{"Package no claims", func() { all["Package"].(*wire.Package).Frozen.Claims = nil }},
		{"Package claims", func() { all["Package"].(*wire.Package).Frozen = frozen(wire.MaxAgents + 1) }},
		{"Package expiry", func() { all["Package"].(*wire.Package).Frozen.Expiry = 0 }},
		{"Package refund key", func() { all["Package"].(*wire.Package).Frozen.RefundKey = notKey }},
		{"Package sender key", func() { all["Package"].(*wire.Package).Frozen.Claims[3].SenderKey = notKey }},
		{"Package index", func() { all["Package"].(*wire.Package).Section.Index = 16 }},
		{"Package count", func() { all["Package"].(*wire.Package).Section.Count = 17 }},
		{"Package count 0", func() { all["Package"].(*wire.Package).Section.Count = 0 }},
		{"Package path", func() { all["Package"].(*wire.Package).Section.Path = make([]wire.Hash, 5) }},
		{"Package size", func() { all["Package"].(*wire.Package).Section.Leaf.Size = 0 }},
		{"Package point", func() { all["Package"].(*wire.Package).Section.Leaf.Point = notKey }},
		{"Receipt agent", func() { all["Receipt"].(*wire.Receipt).Agent = notKey }},
		{"Proofs count", func() {
			p := all["Proofs"].(*wire.Proofs)
			p.Proofs = append(p.Proofs, p.Proofs[0])
		}},
		{"Proofs frozen", func() { all["Proofs"].(*wire.Proofs).Proofs[7].Frozen.Claims = nil }},
		{"Proofs section", func() { all["Proofs"].(*wire.Proofs).Proofs[7].Section.Leaf.Agent = notKey }},
		{"Acknowledge empty", func() { all["Acknowledge"].(*wire.Acknowledge).Blob = nil }},
		{"Acknowledge", func() { all["Acknowledge"].(*wire.Acknowledge).Blob = make([]byte, wire.MaxAck+1) }},
		{"Status", func() { all["Status"].(*wire.Status).Ack = make([]byte, wire.MaxAck+1) }},
		{"Reply code", func() { all["Reply"].(*wire.Reply).Code = wire.Internal + 1 }},
		{"Reply text", func() { all["Reply"].(*wire.Reply).Text = strings.Repeat("x", 257) }},
	} {
		for _, m := range largest() {
			all[name(m)] = m
		}
		c.change()
		m := all[strings.Fields(c.what)[0]]
		if err := m.Check(); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", c.what, err)
		}
		if err := wire.WriteFrame(io.Discard, m); err == nil {
			t.Errorf("%s: is sent", c.what)
		}
		// Nor does a peer that sends it anyway get through.
		raw, err := wire.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...)
		back := reflect.New(reflect.TypeOf(m).Elem()).Interface().(wire.Limited)
		if err := wire.ReadFrame(bytes.NewReader(frame), back); err == nil {
			t.Errorf("%s: is read", c.what)
		}
	}
}

// TestStrict: bytes that mean the same but are not the one encoding.
func TestStrict(t *testing.T) {
	hash := append([]byte{0x58, 32}, make([]byte, 32)...)
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	type pair struct {
		_ struct{} `cbor:",toarray"`
		A wire.Locator
		B wire.Hash
	}
	good := cat([]byte{0x82, 0x48, 1, 2, 3, 4, 5, 6, 7, 8}, hash)
	if err := wire.Unmarshal(good, new(pair)); err != nil {
		t.Fatal(err)
	}
	for what, raw := range map[string][]byte{
		"trailing byte":     cat(good, []byte{0}),
		"truncated":         good[:len(good)-1],
		"empty":             {},
		"indefinite array":  cat([]byte{0x9f}, good[1:], []byte{0xff}),
		"long array header": cat([]byte{0x98, 2}, good[1:]),
		"long bytes header": cat([]byte{0x82, 0x58, 8, 1, 2, 3, 4, 5, 6, 7, 8}, hash),
		"7 bytes":           cat([]byte{0x82, 0x47, 1, 2, 3, 4, 5, 6, 7}, hash),
		"9 bytes":           cat([]byte{0x82, 0x49, 1, 2, 3, 4, 5, 6, 7, 8, 9}, hash),
		"array for bytes":   cat([]byte{0x82, 0x88, 1, 2, 3, 4, 5, 6, 7, 8}, hash),
		"one field less":    cat([]byte{0x81, 0x48, 1, 2, 3, 4, 5, 6, 7, 8}),
		"one field more":    cat([]byte{0x83}, good[1:], []byte{0}),
		"tagged":            cat([]byte{0xc1}, good),
		"text for bytes":    cat([]byte{0x82, 0x68, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'}, hash),
		"map":               {0xa0},
		"null":              {0xf6},
		"null field":        cat([]byte{0x82, 0xf6}, hash),
	} {
		if err := wire.Unmarshal(raw, new(pair)); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, raw := range map[string][]byte{
		"code in two bytes": {0x82, 0x18, 0, 0x60},
		"negative code":     {0x82, 0x20, 0x60},
		"code 256":          {0x82, 0x19, 1, 0, 0x60},
		"float code":        {0x82, 0xf9, 0, 0, 0x60},
		"bytes for text":    {0x82, 0, 0x40},
		"invalid UTF-8":     {0x82, 0, 0x61, 0xff},
	} {
		if err := wire.Unmarshal(raw, new(wire.Reply)); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// endless counts what is asked of it.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	e.n += len(p)
	return len(p), nil
}

func TestFrameLimits(t *testing.T) {
	// Too long: refused on its head alone.
	rest := &endless{}
	head := []byte{0xff, 0xff, 0xff, 0xff}
	if err := wire.ReadFrame(io.MultiReader(bytes.NewReader(head), rest), new(wire.Package)); !errors.Is(err, wire.ErrTooBig) || rest.n != 0 {
		t.Errorf("%v after %d bytes", err, rest.n)
	}
	var b bytes.Buffer
	if err := wire.WriteFrame(&b, &wire.Ask{}); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for n := range whole {
		err := wire.ReadFrame(bytes.NewReader(whole[:n]), new(wire.Ask))
		if n == 0 && err != io.EOF || n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := wire.Secret(bytes.Repeat([]byte{0xab}, 32))
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		if got := fmt.Sprintf(f, s); got != "(secret)" {
			t.Errorf("%s prints %s", f, got)
		}
		if got := fmt.Sprintf(f, struct{ S wire.Secret }{s}); strings.Contains(strings.ToLower(got), "ab") || strings.Contains(got, "171") {
			t.Errorf("%s in a struct prints %s", f, got)
		}
	}
}

// fuzz holds what every decoder owes: what it accepts encodes to the same
// bytes again.
func fuzz[M any, P interface {
	*M
	wire.Limited
}](f *testing.F) {
	for _, m := range largest() {
		raw, err := wire.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		if _, ok := m.(P); ok {
			f.Add(raw)
			f.Add(raw[:len(raw)-1])
		}
	}
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := P(new(M))
		if err := wire.Unmarshal(raw, m); err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%v does not wrap ErrMalformed", err)
			}
			return
		}
		again, err := wire.Marshal(m)
		if err != nil || !bytes.Equal(raw, again) {
			t.Errorf("%x encodes to %x (%v)", raw, again, err)
		}
		if err := m.Check(); err != nil && !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%v does not wrap ErrMalformed", err)
		}
	})
}

func FuzzQuoteRequest(f *testing.F)  { fuzz[wire.QuoteRequest](f) }
func FuzzQuote(f *testing.F)         { fuzz[wire.Quote](f) }
func FuzzPackage(f *testing.F)       { fuzz[wire.Package](f) }
func FuzzReceipt(f *testing.F)       { fuzz[wire.Receipt](f) }
func FuzzAsk(f *testing.F)           { fuzz[wire.Ask](f) }
func FuzzProofs(f *testing.F)        { fuzz[wire.Proofs](f) }
func FuzzToken(f *testing.F)         { fuzz[wire.Token](f) }
func FuzzRelease(f *testing.F)       { fuzz[wire.Release](f) }
func FuzzReveal(f *testing.F)        { fuzz[wire.Reveal](f) }
func FuzzAcknowledge(f *testing.F)   { fuzz[wire.Acknowledge](f) }
func FuzzDone(f *testing.F)          { fuzz[wire.Done](f) }
func FuzzStatusRequest(f *testing.F) { fuzz[wire.StatusRequest](f) }
func FuzzStatus(f *testing.F)        { fuzz[wire.Status](f) }
func FuzzReply(f *testing.F)         { fuzz[wire.Reply](f) }
