package wallet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestWordList: the list is BIP39's english.txt, and in the order that the search
// needs.
func TestWordList(t *testing.T) {
	if sum := sha256.Sum256([]byte(english)); hex.EncodeToString(sum[:]) != "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda" {
		t.Errorf("SHA-256 %x", sum)
	}
	if l := wordList(); len(l) != 1<<wordBits || !slices.IsSorted(l) {
		t.Errorf("%d words", len(l))
	}
}

// TestMnemonicSizes: entropy of every size comes back, and of all other last words
// only those with the right checksum are accepted.
func TestMnemonicSizes(t *testing.T) {
	r := rand.NewChaCha8([32]byte{1})
	for size := range 40 {
		entropy := make([]byte, size)
		_, _ = r.Read(entropy)
		words, err := NewMnemonic(entropy)
		if ok := size >= 16 && size <= 32 && size%4 == 0; ok != (err == nil) {
			t.Fatalf("%d bytes: %v", size, err)
		} else if !ok {
			continue
		}
		if got, err := Entropy("  " + strings.ToUpper(words)); err != nil || !bytes.Equal(got, entropy) {
			t.Errorf("%q: %x, %v, wanted %x", words, got, err, entropy)
		}
		list, accepted := strings.Fields(words), 0
		for _, w := range wordList() {
			list[len(list)-1] = w
			switch _, err := Entropy(strings.Join(list, " ")); {
			case err == nil:
				accepted++
			case !errors.Is(err, ErrBadMnemonic):
				t.Fatal(err)
			}
		}
		if want := 1 << (wordBits - size/4); accepted != want {
			t.Errorf("%d bytes: %d last words are accepted, not %d", size, accepted, want)
		}
		for _, bad := range []string{strings.ToUpper(words), strings.Replace(words, " ", "  ", 1), words + "\n"} {
			if _, err := Seed(bad, ""); !errors.Is(err, ErrBadMnemonic) {
				t.Errorf("a seed of %q: %v", bad, err)
			}
		}
	}
}
