package wallet

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// ErrBadMnemonic means that the words are not a BIP39 mnemonic.
var ErrBadMnemonic = errors.New("not a BIP39 mnemonic: check the words, their order and spelling")

// english is BIP39's English list, as published.
//
//go:embed english.txt
var english string

// wordList returns the 2048 words, which are in alphabetical order. They are split at
// their first use: few commands need them.
var wordList = sync.OnceValue(func() []string { return strings.Fields(english) })

// wordBits is the number of bits that a word encodes.
const wordBits = 11

// NewMnemonic encodes 16 or 32 bytes of entropy (also 20, 24 or 28) as 12 or 24 words
// (BIP39).
func NewMnemonic(entropy []byte) (string, error) {
	if n := len(entropy); n < 16 || n > 32 || n%4 != 0 {
		return "", fmt.Errorf("a mnemonic encodes 16 to 32 bytes, not %d", n)
	}
	bits := withChecksum(entropy)
	words := make([]string, len(entropy)/4*3)
	for i := range words {
		n := 0
		for k := i * wordBits; k < (i+1)*wordBits; k++ {
			n = n<<1 | int(bits[k/8]>>(7-k%8)&1)
		}
		words[i] = wordList()[n]
	}
	return strings.Join(words, " "), nil
}

// withChecksum returns the entropy and, after it, the byte of its SHA-256 of which the
// first bits are the checksum: one for each 4 bytes of entropy.
func withChecksum(entropy []byte) []byte {
	sum := sha256.Sum256(entropy)
	return append(slices.Clone(entropy), sum[0])
}

// Entropy decodes the words of a mnemonic, or returns ErrBadMnemonic.
func Entropy(mnemonic string) ([]byte, error) {
	return entropyOf(strings.Fields(strings.ToLower(mnemonic)))
}

func entropyOf(words []string) ([]byte, error) {
	n := len(words)
	if n < 12 || n > 24 || n%3 != 0 {
		return nil, fmt.Errorf("%w (%d words)", ErrBadMnemonic, n)
	}
	bits := make([]byte, (n*wordBits+7)/8)
	for i, w := range words {
		word, ok := slices.BinarySearch(wordList(), w)
		if !ok {
			return nil, fmt.Errorf("%w (the list has no %q)", ErrBadMnemonic, w)
		}
		for b := range wordBits {
			k := i*wordBits + b
			bits[k/8] |= byte(word>>(wordBits-1-b)&1) << (7 - k%8)
		}
	}
	entropy := bits[:n/3*4]
	unused := 8 - n/3 // bits of the checksum's byte
	if withChecksum(entropy)[len(entropy)]>>unused != bits[len(entropy)]>>unused {
		return nil, fmt.Errorf("%w (wrong checksum)", ErrBadMnemonic)
	}
	return entropy, nil
}

// Seed returns the BIP39 seed of a mnemonic, 64 bytes. The words must be in lower case
// with one space between them, because the seed is made of this text.
func Seed(mnemonic, passphrase string) ([]byte, error) {
	if _, err := entropyOf(strings.Split(mnemonic, " ")); err != nil {
		return nil, err
	}
	return pbkdf2.Key(sha512.New, mnemonic, []byte("mnemonic"+passphrase), 2048, 64)
}
