package blockname

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Reader reads the index.
type Reader interface {
	// Get returns the value under key, or nil if there is none.
	Get(key []byte) ([]byte, error)
	// Scan calls f for the first limit keys with prefix, in ascending order. An
	// error of f ends the scan and is returned. Scan must not read much more
	// than limit keys, because anyone who pays fees can put any number of seeds
	// in a TLD.
	Scan(prefix []byte, limit int, f func(key, value []byte) error) error
}

// Lookup returns the entry of a name (dht is empty), or of a TLD and a DHT
// prefix. It returns an empty entry if there is none.
func Lookup(r Reader, kind Kind, name, dht string) (Entry, error) {
	key := Key(kind, name, dht)
	value, err := r.Get(key)
	if err != nil {
		return nil, fmt.Errorf("blockname index: %w", err)
	}
	return DecodeEntry(key, value)
}

// Largest returns the n entries of a TLD, TLD and seed hints together, whose
// best bids burned most, the largest first.
func Largest(r Reader, tld string, n int) ([]Entry, error) {
	prefix := rankPrefix(tld)
	var keys [][]byte
	if err := r.Scan(prefix, n, func(key, _ []byte) error {
		if len(key) <= len(prefix)+8 {
			return ErrCorrupt
		}
		rest := key[len(prefix)+8:]
		keys = append(keys, Key(Kind(rest[0]), tld, string(rest[1:])))
		return nil
	}); err != nil {
		return nil, fmt.Errorf("blockname index: %w", err)
	}
	entries := make([]Entry, 0, len(keys))
	for _, key := range keys {
		value, err := r.Get(key)
		if err != nil {
			return nil, fmt.Errorf("blockname index: %w", err)
		}
		e, err := DecodeEntry(key, value)
		if err != nil || len(e) == 0 {
			return nil, fmt.Errorf("entry %q: %w", key, ErrCorrupt)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Closest returns the n entries of a TLD, TLD and seed hints together, that are
// closest to a place in the DHT, the closest first. place has 64 lower-case hex
// digits. The distance is the exclusive or; that of a DHT prefix is the
// distance of the farthest place that begins with it. Of equal distances, the
// longer prefix comes first, then the larger burn, then the TLD hint.
func Closest(r Reader, tld, place string, n int) ([]Entry, error) {
	if len(place) != MaxDHT || strings.Trim(place, hexDigits) != "" {
		return nil, fmt.Errorf("%w: a place has 64 lower-case hex digits", ErrMalformed)
	}
	w := walk{r: r, place: place, n: n}
	var all []Entry
	for _, kind := range []Kind{TLD, Seed} {
		w.found = nil
		if err := w.visit(Key(kind, tld, "")); err != nil && !errors.Is(err, errEnough) {
			return nil, fmt.Errorf("blockname index: %w", err)
		}
		all = append(all, w.found...)
	}
	slices.SortStableFunc(all, func(a, b Entry) int {
		return cmp.Or(compareDistance(place, a[0].Hint.DHT, b[0].Hint.DHT), cmp.Compare(b[0].Burned, a[0].Burned))
	})
	return all[:min(n, len(all))], nil
}

// compareDistance compares the distances of two DHT prefixes from a place. If
// they are equal, the longer prefix comes first.
func compareDistance(place, a, b string) int {
	for i := range len(place) {
		x, y := byte(15), byte(15)
		if i < len(a) {
			x = nibble(a[i]) ^ nibble(place[i])
		}
		if i < len(b) {
			y = nibble(b[i]) ^ nibble(place[i])
		}
		if x != y {
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(b), len(a))
}

// walk collects the entries of one kind and TLD, closest first.
type walk struct {
	r     Reader
	place string
	n     int
	found []Entry
}

var errEnough = errors.New("enough")

// fewSeeds is the maximum number of entries that are read and sorted at once.
const fewSeeds = 64

// visit collects the entries whose keys begin with prefix, the closest first,
// until there are n: all at once if they are few, digit by digit otherwise. So
// it reads at most fewSeeds + 1 entries for each of 16 digits, 64 levels deep,
// and for each entry that it returns, however many exist.
func (w *walk) visit(prefix []byte) error {
	digits := len(prefix) - bytes.IndexByte(prefix, 0) - 1
	var some []Entry
	var whole Entry // of the prefix itself
	count := 0
	if err := w.r.Scan(prefix, fewSeeds+1, func(key, value []byte) error {
		e, err := DecodeEntry(key, value)
		if err != nil || len(e) == 0 {
			return fmt.Errorf("entry %q: %w", key, ErrCorrupt)
		}
		if len(key) == len(prefix) {
			whole = e
		}
		some = append(some, e)
		count++
		return nil
	}); err != nil {
		return err
	}
	if count <= fewSeeds {
		slices.SortFunc(some, func(a, b Entry) int { return compareDistance(w.place, a[0].Hint.DHT, b[0].Hint.DHT) })
		for _, e := range some {
			if err := w.take(e); err != nil {
				return err
			}
		}
		return nil
	}
	for x := range byte(16) {
		if err := w.visit(append(prefix[:len(prefix):len(prefix)], hexDigits[x^nibble(w.place[digits])])); err != nil {
			return err
		}
	}
	// The distance of the prefix itself is that of the farthest place below it.
	if whole != nil {
		return w.take(whole)
	}
	return nil
}

func (w *walk) take(e Entry) error {
	if len(w.found) == w.n {
		return errEnough
	}
	w.found = append(w.found, e)
	return nil
}
