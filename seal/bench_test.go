package seal

import (
	"bytes"
	"io"
	"testing"

	"github.com/bitgram/bitgram/wire"
	"github.com/zeebo/blake3"
	"golang.org/x/crypto/chacha20poly1305"
)

// The benchmarks are in pairs: the package's function, and BenchmarkBare… with
// the same cryptographic passes over memory without framing, copying or
// padding. The first must reach at least 0.8 of the second's rate.

const benchSize = 16 << 20

// reuse clears the one-shot mark. Only tests may do that.
func (s *Secrets) reuse() *Secrets { s.spent = 0; return s }

func BenchmarkBareECDH(b *testing.B) {
	r, err := key("recipient").PrivKey()
	if err != nil {
		b.Fatal(err)
	}
	E := public("ephemeral")
	for b.Loop() {
		p, err := E.Point()
		if err != nil {
			b.Fatal(err)
		}
		ecdh(&r.Key, p)
	}
}

func BenchmarkScan(b *testing.B) {
	c, err := NewScanner(key("recipient"))
	if err != nil {
		b.Fatal(err)
	}
	E := public("ephemeral")
	for b.Loop() {
		if _, ok := c.Match(E, Outpoint{}, [4]byte{}); ok {
			b.Fatal("matched")
		}
	}
}

// bare runs AEAD and BLAKE3 over chunks of data in place. hashes is the number
// of BLAKE3 passes.
func bare(b *testing.B, open bool, hashes int) {
	aead, err := chacha20poly1305.New(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	var nonce [12]byte
	data := make([]byte, benchSize+benchSize/ChunkSize*tagSize)
	for i := 0; i < len(data); i += ChunkSize + tagSize {
		aead.Seal(data[i:i], nonce[:], data[i:i+ChunkSize], nil)
	}
	work := make([]byte, ChunkSize+tagSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		h := [2]*blake3.Hasher{blake3.New(), blake3.New()}
		for i := 0; i < len(data); i += ChunkSize + tagSize {
			if open {
				// Do not decrypt in place, so that the input remains valid.
				if _, err := aead.Open(work[:0], nonce[:], data[i:i+ChunkSize+tagSize], nil); err != nil {
					b.Fatal(err)
				}
			} else {
				aead.Seal(work[:0], nonce[:], data[i:i+ChunkSize], nil)
			}
			for j := range hashes {
				_, _ = h[j].Write(work[:ChunkSize])
			}
		}
	}
}

func BenchmarkBareEncrypt(b *testing.B) { bare(b, false, 2) } // AEAD, body hash, hash(P)
func BenchmarkBareDecrypt(b *testing.B) { bare(b, true, 1) }  // AEAD, body hash
func BenchmarkBareSeal(b *testing.B)    { bare(b, false, 1) } // AEAD, copy hash
func BenchmarkBareUnseal(b *testing.B)  { bare(b, true, 0) }  // AEAD

func BenchmarkEncrypt(b *testing.B) {
	s := sender(b)
	// Choose a body that needs no padding, so that both count the same bytes.
	body := make([]byte, benchSize/ChunkSize*fullCount-trailerSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		if _, err := s.reuse().Encrypt(io.Discard, bytes.NewReader(body), key("sender")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecrypt(b *testing.B) {
	var p bytes.Buffer
	body := make([]byte, benchSize/ChunkSize*fullCount-trailerSize)
	if _, err := sender(b).Encrypt(&p, bytes.NewReader(body), key("sender")); err != nil {
		b.Fatal(err)
	}
	s := recipient(b)
	b.SetBytes(benchSize)
	for b.Loop() {
		if _, err := s.Decrypt(io.Discard, bytes.NewReader(p.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	payload := make([]byte, benchSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		if _, err := SealTo(io.Discard, bytes.NewReader(payload), wire.Secret{1}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnseal(b *testing.B) {
	var p bytes.Buffer
	if _, err := SealTo(&p, bytes.NewReader(make([]byte, benchSize)), wire.Secret{1}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchSize)
	for b.Loop() {
		if _, err := Unseal(io.Discard, bytes.NewReader(p.Bytes()), wire.Secret{1}); err != nil {
			b.Fatal(err)
		}
	}
}
