package blockname

import (
	"bytes"
	"encoding/binary"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// The grammar again, as regular expressions.
const (
	reLabel = `[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?`
	reName  = `((?:` + reLabel + `\.)*)(` + reLabel + `)`
)

var (
	reHost   = regexp.MustCompile(`\A\*[!+]` + reName + `[0-9a-f]{8}\z`)
	reDomain = regexp.MustCompile(`\A\*\.` + reName + `[0-9a-f]{8}([0-9a-f]{4})\z`)
	reTLD    = regexp.MustCompile(`\A\*#()(` + reLabel + `)\.[0-9a-f]{1,64}[0-9a-f]{8}([0-9a-f]{4})\z`)
	reIP6    = regexp.MustCompile(`\A\*@()(` + reLabel + `)\.[0-9a-f]{1,64}/ip6/([0-9a-f:]+)/(?:tcp/([1-9][0-9]{0,4})|udp/([1-9][0-9]{0,4})/quic-v1)\z`)
	reDNS    = regexp.MustCompile(`\A\*@(` + reLabel + `)\.[0-9a-f]{1,64}/dns[46]?/` + reName + `/(?:tcp/([1-9][0-9]{0,4})|udp/([1-9][0-9]{0,4})/quic-v1)\z`)
	reNumber = regexp.MustCompile(`\A(?:[0-9]+|0x[0-9a-f]*)\z`)
	reXN     = regexp.MustCompile(`(?:\A|\.)..--`)
)

// slowParse reports whether data is a hint by the grammar.
func slowParse(data []byte) bool {
	s := string(data)
	name := func(front, last string) bool {
		return !reNumber.MatchString(last) && !reXN.MatchString(front+last)
	}
	port := func(s ...string) bool {
		n, err := strconv.Atoi(strings.Join(s, ""))
		return err == nil && n <= 65535
	}
	if len(s) > 80 {
		return false
	}
	if m := reHost.FindStringSubmatch(s); m != nil {
		return name(m[1], m[2])
	}
	if m := reDomain.FindStringSubmatch(s); m != nil {
		return name(m[1], m[2]) && m[1] != "" && m[3] != "0000"
	}
	if m := reTLD.FindStringSubmatch(s); m != nil {
		return name(m[1], m[2]) && m[3] != "0000"
	}
	if m := reIP6.FindStringSubmatch(s); m != nil {
		a, err := netip.ParseAddr(m[3])
		return name(m[1], m[2]) && err == nil && a.String() == m[3] && port(m[4:]...)
	}
	if m := reDNS.FindStringSubmatch(s); m != nil {
		return name("", m[1]) && name(m[2], m[3]) && port(m[4:]...)
	}
	return false
}

// FuzzParse checks for panics, against the grammar, and that a hint has one
// form.
func FuzzParse(f *testing.F) {
	for _, x := range examples() {
		f.Add([]byte(x.Text))
	}
	for _, s := range badTexts() {
		f.Add([]byte(s))
	}
	f.Add([]byte("bg\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := Parse(data)
		if want := slowParse(data); want != (err == nil) {
			t.Fatalf("%q: %v, the grammar says %v", data, err, want)
		}
		if err != nil {
			if h != (Hint{}) || errors.Is(err, ErrMalformed) == errors.Is(err, ErrNotHint) {
				t.Fatalf("%+v, %v", h, err)
			}
			return
		}
		if again, err := h.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%q re-encodes as %q, %v", data, again, err)
		}
	})
}

// FuzzEncode checks that an encoded hint parses to the same hint.
func FuzzEncode(f *testing.F) {
	for _, x := range examples() {
		h := x.Hint
		ip := h.Addr.Addr().AsSlice()
		f.Add(byte(h.Kind), h.Name, h.DHT, ip, h.Addr.Port(), h.Multiaddr, binary.BigEndian.Uint32(h.ID[:]))
	}
	f.Fuzz(func(t *testing.T, kind byte, name, dht string, ip []byte, port uint16, multiaddr string, id uint32) {
		h := Hint{Kind: Kind(kind), Name: name, DHT: dht, Multiaddr: multiaddr}
		if a, ok := netip.AddrFromSlice(ip); ok {
			h.Addr = netip.AddrPortFrom(a, port)
		}
		binary.BigEndian.PutUint32(h.ID[:], id)
		b, err := h.Encode()
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if again, err := Parse(b); err != nil || again != h {
			t.Fatalf("%+v comes back from %q as %+v, %v", h, b, again, err)
		}
	})
}

// slowFromScript is FromScript by btcd's tokenizer.
func slowFromScript(script []byte) ([]byte, bool) {
	tok := txscript.MakeScriptTokenizer(0, script)
	if !tok.Next() || tok.Opcode() != txscript.OP_RETURN || !tok.Next() || tok.Opcode() > txscript.OP_PUSHDATA4 {
		return nil, false
	}
	data := tok.Data()
	return data, !tok.Next() && tok.Err() == nil
}

func FuzzFromScript(f *testing.F) {
	for _, s := range scripts() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		got, ok := FromScript(script)
		if want, yes := slowFromScript(script); ok != yes || (ok && !bytes.Equal(got, want)) {
			t.Fatalf("%x: %x, %v; btcd %x, %v", script, got, ok, want, yes)
		}
	})
}

// scripts are output scripts around a hint.
func scripts() [][]byte {
	hint := []byte("*!test.name01020304")
	n := byte(len(hint))
	join := func(front ...byte) []byte { return append(front, hint...) }
	return [][]byte{
		join(0x6a, n),
		join(0x6a, 0x4c, n),
		join(0x6a, 0x4d, n, 0),
		join(0x6a, 0x4e, n, 0, 0, 0),
		join(0x6a, n-1),
		join(0x6a, n+1),
		join(0x6a, 0x4e, n, 0, 0, 1),
		append(join(0x6a, n), 0x51),
		append(join(0x6a, n), 0),
		join(0x6a, 0, n),
		join(0x6a, 0x51, n),
		join(0x51, 0x6a, n),
		join(0x00, 0x6a, n),
		{0x6a}, {0x6a, 0}, {0x6a, 0x4c}, {0x6a, 0x4c, 0}, {0x6a, 0x4d, 0}, {0x6a, 0x4e, 0, 0, 0}, {0x6a, 0x51}, {0x6a, 0x4f}, {},
	}
}

// slowScanRaw is ScanRaw by way of btcd's decoder.
func slowScanRaw(raw []byte) (Block, bool) {
	var m btcwire.MsgBlock
	r := bytes.NewReader(raw)
	if len(raw) > maxBlock || m.Deserialize(r) != nil || r.Len() != 0 {
		return Block{}, false
	}
	return Scan(m.Transactions), true
}

// FuzzScanRaw compares with btcd: the same blocks are accepted, with the same
// hints, values and txids.
func FuzzScanRaw(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		for _, witness := range []bool{false, true} {
			raw := rawBlock(f, n, 4, witness, func(i int) []byte {
				x := examples()
				return []byte(x[i%len(x)].Text)
			})
			f.Add(raw)
			f.Add(raw[:len(raw)-1])
			f.Add(append(bytes.Clone(raw), 0))
		}
	}
	for _, tail := range [][]byte{
		{0xfd, 0, 0}, {0xfd, 0xfc, 0}, {0xfe, 1, 0, 0, 0}, {0xff, 0, 0, 0, 0, 0, 0, 0, 0x80}, {0xff, 1, 0, 0, 0, 0, 0, 0, 0},
		{1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, {1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0},
	} {
		f.Add(append(make([]byte, 80), tail...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := ScanRaw(raw)
		want, ok := slowScanRaw(raw)
		if ok != (err == nil) {
			t.Fatalf("%v, btcd says %v", err, ok)
		}
		if err != nil && !errors.Is(err, ErrBlock) {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\nbtcd\n%+v", got, want)
		}
	})
}

// FuzzEntry checks that an entry has one form.
func FuzzEntry(f *testing.F) {
	for _, e := range someEntries() {
		b, err := e.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e[0].Hint.Key(), b)
		f.Add(e[0].Hint.Key(), b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, err := DecodeEntry(key, value)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || e != nil {
				t.Fatal(e, err)
			}
			return
		}
		if again, err := e.encode(); err != nil || !bytes.Equal(again, value) {
			t.Fatalf("%x re-encodes as %x, %v", value, again, err)
		}
	})
}

// someEntries returns entries with one bid and with the maximum number.
func someEntries() (list []Entry) {
	for i, x := range examples() {
		list = append(list, Entry{{Hint: x.Hint, Burned: wire.Sat(i), Height: wire.Height(i), Out: wire.Outpoint{Txid: wire.Hash{1}, Vout: 7}}})
	}
	var full Entry
	for i := range MaxBids {
		h := Hint{Kind: TLD, Name: "tld", DHT: "d", Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(i)}), 1)}
		full = append(full, Bid{Hint: h, Burned: wire.MaxSat - wire.Sat(i/2)})
	}
	return append(list, full)
}

// FuzzRevert checks that an undo record has one form.
func FuzzRevert(f *testing.F) {
	var undo []byte
	for _, e := range someEntries() {
		b, err := e.encode()
		if err != nil {
			f.Fatal(err)
		}
		undo = appendChange(undo, Change{e[0].Hint.Key(), b})
		undo = appendChange(undo, Change{e[0].Hint.Key(), nil})
	}
	f.Add(undo)
	f.Add(undo[:len(undo)-1])
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, undo []byte) {
		changes, err := Revert(undo)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || changes != nil {
				t.Fatal(changes, err)
			}
			return
		}
		var again []byte
		for _, c := range changes {
			again = appendChange(again, c)
		}
		if !bytes.Equal(again, undo) {
			t.Fatalf("%x re-encodes as %x", undo, again)
		}
	})
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
	if targets != 6 {
		t.Errorf("%d fuzz targets", targets)
	}
}
