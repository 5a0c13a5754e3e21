package blockname

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

var update = flag.Bool("update", false, "write the vectors instead of comparing")

type hexBytes []byte

func (b hexBytes) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(b)) }

type vectorFile struct {
	Comment   string         `json:"comment"`
	Hints     []vectorHint   `json:"hints"`
	Malformed []vectorBad    `json:"malformed"`
	NotHints  []hexBytes     `json:"not_hints"`
	Scripts   []vectorScript `json:"scripts"`
	Raw       vectorRaw      `json:"raw_block"`
	Index     []vectorBlock  `json:"index"`
	After     []vectorPair   `json:"after"`
	Queries   []vectorQuery  `json:"queries"`
}

type vectorHint struct {
	Text      string   `json:"text"`
	Kind      string   `json:"kind"`
	Name      string   `json:"name"`
	DHT       string   `json:"dht,omitempty"`
	IP        string   `json:"ip,omitempty"`
	Port      uint16   `json:"port,omitempty"`
	Multiaddr string   `json:"multiaddr,omitempty"`
	Notary    hexBytes `json:"notary,omitempty"`
	Key       hexBytes `json:"key"`
}

type vectorBad struct {
	Data hexBytes `json:"data"`
	Text string   `json:"text,omitempty"`
}

type vectorScript struct {
	Script hexBytes  `json:"script"`
	Data   *hexBytes `json:"data"`
}

type vectorRaw struct {
	Block     hexBytes      `json:"block"`
	Hints     []vectorFound `json:"hints"`
	Malformed int           `json:"malformed"`
}

type vectorFound struct {
	Text  string   `json:"text"`
	Value wire.Sat `json:"value_sat"`
	Txid  hexBytes `json:"txid"`
	Vout  uint32   `json:"vout"`
}

type vectorBlock struct {
	Height  wire.Height   `json:"height"`
	Hints   []vectorFound `json:"hints"`
	Changes []vectorPair  `json:"changes"`
	Undo    hexBytes      `json:"undo"`
}

type vectorPair struct {
	Key   hexBytes  `json:"key"`
	Value *hexBytes `json:"value"`
}

type vectorQuery struct {
	TLD     string     `json:"tld"`
	Place   string     `json:"place"`
	N       int        `json:"n"`
	Closest []hexBytes `json:"closest"`
	Largest []hexBytes `json:"largest"`
}

func vectorFounds(t testing.TB, list []Found) (v []vectorFound) {
	for _, f := range list {
		v = append(v, vectorFound{string(must(f.Hint.Encode())(t)), f.Value, f.Out.Txid[:], f.Out.Vout})
	}
	return v
}

func vectorPairs(changes []Change) (v []vectorPair) {
	for _, c := range changes {
		p := vectorPair{Key: c.Key}
		if c.Value != nil {
			p.Value = (*hexBytes)(&c.Value)
		}
		v = append(v, p)
	}
	return v
}

func vectors(t testing.TB) vectorFile {
	v := vectorFile{Comment: "Bytes are hex; txids are in internal order. In scripts, data null means that the script holds none; in changes, value null means that the key is deleted. " +
		"index is a chain from an empty index, with the changes of each block in order and its undo; after is the whole index behind it."}
	for _, x := range examples() {
		h := vectorHint{Text: x.Text, Kind: x.Hint.Kind.String(), Name: x.Hint.Name, DHT: x.Hint.DHT, Port: x.Hint.Addr.Port(), Multiaddr: x.Hint.Multiaddr, Key: x.Hint.Key()}
		if x.Hint.Addr.IsValid() {
			h.IP = x.Hint.Addr.Addr().String()
		}
		if x.Hint.Kind == Authority {
			h.Notary = x.Hint.ID[:]
		}
		v.Hints = append(v.Hints, h)
	}
	for _, s := range badTexts() {
		bad := vectorBad{Data: hexBytes(s)}
		if strings.Trim(s, " ") == s && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
			bad.Text = s
		}
		v.Malformed = append(v.Malformed, bad)
	}
	for _, s := range []string{"", "*", "**a01020304", "*?a01020304", " *!a01020304", "bg\x01"} {
		v.NotHints = append(v.NotHints, hexBytes(s))
	}
	for _, s := range scripts() {
		x := vectorScript{Script: s}
		if data, ok := FromScript(s); ok {
			x.Data = (*hexBytes)(&data)
		}
		v.Scripts = append(v.Scripts, x)
	}
	texts := []string{"*!test.name01020304", "*!Test.name01020304", "hello", "*.test.name010203040506", "*#tld.d010203040506"}
	v.Raw.Block = rawBlock(t, 2, 3, true, func(i int) []byte { return []byte(texts[i%len(texts)]) })
	b := must(ScanRaw(v.Raw.Block))(t)
	v.Raw.Hints, v.Raw.Malformed = vectorFounds(t, b.Hints), b.Malformed

	c := &chain{t: t, index: bucket{}}
	for i, lines := range [][]string{
		{"0 *!test.name01020304", "0 *#bitgram.1a2b010203040fa1"},
		{"0 *!test.name05060708", "5 *!test.name05060708", "3 *#bitgram.1a2b050607080fa1", "2 *#bitgram.1a2b010203040fa1", "0 *#bitgram.1a2b010203040fa1"},
		{"5 *!test.name01020304"},
		{"2 *#bitgram.1a2b010203040fa1", "0 *#bitgram.1a2b090909090fa1", "0 *#bitgram.1a2b0a0a0a0a0fa1", "0 *#bitgram.1a2b0b0b0b0b0fa1", "1 *@bitgram.1a2b/ip6/2001:db8::1/tcp/4001", "7 *#bitgram.f0010203040fa1"},
		{"1 *#bitgram.1a2b0b0b0b0b0fa1", "9 *.test.name010203040506", "0 *+test.name0a0b0c0d", "4 *#bitgram.1a010203040fa1"},
	} {
		block := burns(t, lines...)
		for j := range block.Hints {
			block.Hints[j].Out.Txid = wire.Hash{byte(i + 1)}
		}
		changes := c.connect(block)
		v.Index = append(v.Index, vectorBlock{wire.Height(i), vectorFounds(t, block.Hints), vectorPairs(changes), c.undo[i]})
	}
	for _, k := range slices.Sorted(maps.Keys(c.index)) {
		v.After = append(v.After, vectorPairs([]Change{{[]byte(k), []byte(c.index[k])}})...)
	}
	for _, front := range []string{"1a2b", "1b", "e"} {
		q := vectorQuery{TLD: "bitgram", Place: place(front), N: 3}
		for _, e := range must(Closest(c.index, q.TLD, q.Place, q.N))(t) {
			q.Closest = append(q.Closest, e[0].Hint.Key())
		}
		for _, e := range must(Largest(c.index, q.TLD, q.N))(t) {
			q.Largest = append(q.Largest, e[0].Hint.Key())
		}
		v.Queries = append(v.Queries, q)
	}
	if got := show(t, c.index, TLD, "bitgram", "1a2b"); got != "4 *#bitgram.1a2b010203040fa1, 3 *#bitgram.1a2b050607080fa1, 1 *#bitgram.1a2b0b0b0b0b0fa1, 0 *#bitgram.1a2b090909090fa1" {
		t.Error(got)
	}
	return v
}

// spec/vectors/blockname.json is what the code makes, byte for byte.
func TestVectors(t *testing.T) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(vectors(t)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("..", "spec", "vectors", "blockname.json")
	if *update {
		if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Fatal("the vectors differ from spec/vectors/blockname.json: a change breaks what others wrote into the chain, or indexes that exist")
	}
}

// The examples that spec/blockname.md works through are what it says.
func TestSpecExamples(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "spec", "blockname.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, line := range strings.Split(string(b), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !strings.HasPrefix(cells[1], " `*") {
			continue
		}
		text, says := strings.Trim(cells[1], " `"), strings.TrimSpace(cells[2])
		h, err := Parse([]byte(text))
		want := "malformed"
		switch {
		case err != nil:
		case h.Kind == Host:
			want = fmt.Sprintf("host `%s` at %s", h.Name, h.Addr.Addr())
		case h.Kind == Domain:
			want = fmt.Sprintf("domain `%s`, name server %s", h.Name, h.Addr)
		case h.Kind == TLD:
			want = fmt.Sprintf("seed of `%s` at `%s…`, %s", h.Name, h.DHT, h.Addr)
		case h.Kind == Authority:
			want = fmt.Sprintf("authority `%s`, notary %x", h.Name, h.ID)
		default:
			want = fmt.Sprintf("seed of `%s` at `%s…`, `%s`", h.Name, h.DHT, h.Multiaddr)
		}
		if got, _, _ := strings.Cut(says, ": "); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		seen++
	}
	if seen < 15 {
		t.Errorf("%d examples", seen)
	}
}
