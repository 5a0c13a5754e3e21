package blockname

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/wire"
)

func place(front string) string { return front + strings.Repeat("0", MaxDHT-len(front)) }

// slowDistance computes the distance of the farthest place below dht, digit by
// digit.
func slowDistance(place, dht string) string {
	var d []byte
	for i := range len(place) {
		x := byte(15)
		if i < len(dht) {
			x = nibble(dht[i]) ^ nibble(place[i])
		}
		d = append(d, hexDigits[x])
	}
	return string(d)
}

// TestClosestAndLargest compares with a search of all entries.
func TestClosestAndLargest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chain{t: t, index: bucket{}}
		digits := rapid.StringOfN(rapid.SampledFrom([]rune("01f")), 1, 6, -1)
		var b Block
		for i := range rapid.IntRange(0, 400).Draw(t, "seeds") {
			h := Hint{Kind: TLD, Name: "bitgram", DHT: digits.Draw(t, "dht"), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}), 1)}
			if rapid.Bool().Draw(t, "seed") {
				h = Hint{Kind: Seed, Name: "bitgram", DHT: h.DHT, Multiaddr: fmt.Sprintf("/ip6/::%x/tcp/1", i+1)}
			}
			b.Hints = append(b.Hints, Found{Hint: h, Value: wire.Sat(rapid.IntRange(0, 9).Draw(t, "value"))})
		}
		b.Hints = append(b.Hints, Found{Hint: Hint{Kind: TLD, Name: "bitgra", DHT: "0", Addr: netip.MustParseAddrPort("1.2.3.4:5")}, Value: 99})
		c.connect(b)
		var all []Entry
		for k, v := range c.index {
			if k[0] == rankByte || strings.Contains(k, "bitgra\x00") {
				continue
			}
			e, err := DecodeEntry([]byte(k), []byte(v))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		n := rapid.IntRange(0, 100).Draw(t, "n")
		where := place(digits.Draw(t, "place"))
		check := func(what string, got []Entry, err error, compare func(a, b Hint) int) {
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(all, func(a, b Entry) int { return compare(a[0].Hint, b[0].Hint) })
			want := all[:min(n, len(all))]
			if !slices.EqualFunc(got, want, func(a, b Entry) bool { return slices.Equal(a, b) }) {
				t.Fatalf("%s:\n%+v\nwant\n%+v", what, got, want)
			}
		}
		burned := map[Hint]wire.Sat{}
		for _, e := range all {
			burned[e[0].Hint] = e[0].Burned
		}
		got, err := Closest(c.index, "bitgram", where, n)
		check("closest", got, err, func(a, b Hint) int {
			return cmp.Or(strings.Compare(slowDistance(where, a.DHT), slowDistance(where, b.DHT)), cmp.Compare(len(b.DHT), len(a.DHT)),
				cmp.Compare(burned[b], burned[a]), cmp.Compare(a.Kind, b.Kind))
		})
		got, err = Largest(c.index, "bitgram", n)
		check("largest", got, err, func(a, b Hint) int {
			return cmp.Or(cmp.Compare(burned[b], burned[a]), cmp.Compare(a.Kind, b.Kind), strings.Compare(a.DHT, b.DHT))
		})
	})
}

// counted counts the rows that are read.
type counted struct {
	keys []string
	bucket
	rows, scans int
}

func (c *counted) Scan(prefix []byte, limit int, f func(key, value []byte) error) error {
	c.scans++
	i, _ := slices.BinarySearch(c.keys, string(prefix))
	for ; i < len(c.keys) && limit > 0 && strings.HasPrefix(c.keys[i], string(prefix)); i, limit = i+1, limit-1 {
		c.rows++
		if err := f([]byte(c.keys[i]), []byte(c.bucket[c.keys[i]])); err != nil {
			return err
		}
	}
	return nil
}

// TestClosestReadsLittle checks that only few entries are read of a TLD with
// very many, spread out or all around the place.
func TestClosestReadsLittle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func() string {
		var b [32]byte
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return fmt.Sprintf("%x", b)
	}
	where := random()
	for name, dht := range map[string]func(i int) string{
		"random": func(int) string { return random()[:58] },
		// On every level, as deep as a hint can be.
		"around": func(i int) string { n := i % 56; return where[:n] + random()[n:58] },
	} {
		c := &chain{t: t, index: bucket{}}
		var b Block
		for i := range 20_000 {
			b.Hints = append(b.Hints, Found{Hint: Hint{Kind: TLD, Name: "m", DHT: dht(i), Addr: v4("1.2.3.4:5")}})
		}
		c.connect(b)
		r := &counted{bucket: c.index}
		for k := range c.index {
			r.keys = append(r.keys, k)
		}
		slices.Sort(r.keys)
		got, err := Closest(r, "m", where, 20)
		if err != nil || len(got) != 20 {
			t.Fatal(len(got), err)
		}
		t.Logf("%s: %d rows in %d scans", name, r.rows, r.scans)
		if r.rows > 64*(fewSeeds+1)+20*(fewSeeds+1) || r.scans > 1100 {
			t.Errorf("%s: %d rows in %d scans", name, r.rows, r.scans)
		}
	}
}

func TestClosestRefuses(t *testing.T) {
	for _, s := range []string{"", "00", place("A"), place("g"), place("") + "0"} {
		if _, err := Closest(bucket{}, "bitgram", s, 1); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, key := range []string{"#m\x00aa", "$m\x00", "$m\x00" + u64(1) + "#aa"} {
		b := bucket{key: "?"}
		_, err := Closest(b, "m", place(""), 1)
		_, err2 := Largest(b, "m", 1)
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err2, ErrCorrupt) {
			t.Errorf("%q: %v, %v", key, err, err2)
		}
	}
}
