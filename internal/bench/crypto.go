package main

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/zeebo/blake3"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// each returns the duration of one call of f: the median of several rounds.
func each(n int, f func()) time.Duration {
	var list []time.Duration
	for range 5 {
		began := time.Now()
		for range n {
			f()
		}
		list = append(list, time.Since(began)/time.Duration(n))
	}
	return median(list)
}

type bareTimes struct{ sha, ecdh, sign, verify, aead, blake, fsync time.Duration }

const chunk = 64 << 10

func bareRates() (b bareTimes, err error) {
	secret, point := randomSecret(), randomKey()
	sum := [32]byte{}
	b.sha = each(10_000, func() { sum = sha256.Sum256(sum[:]) })
	b.ecdh = each(200, func() { ecdh(secret, point) })
	var sig wire.Signature
	own := keyOf(secret)
	b.sign = each(200, func() { sig, err = wire.Sign(secret, sum) })
	if err != nil {
		return b, err
	}
	b.verify = each(200, func() { err = own.Verify(sum, sig) })
	if err != nil {
		return b, err
	}
	aead, buf := newAEAD(), make([]byte, chunk, chunk+16)
	nonce := make([]byte, aead.NonceSize())
	b.aead = each(500, func() { aead.Seal(buf[:0], nonce, buf[:chunk], nil) })
	h := blake3.New()
	b.blake = each(500, func() { _, _ = h.Write(buf[:chunk]) })
	f, err := os.CreateTemp("", "bitgram-fsync-")
	if err != nil {
		return b, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	b.fsync = each(20, func() {
		if _, werr := f.Write(buf[:4096]); werr != nil {
			err = werr
		}
		if serr := f.Sync(); serr != nil {
			err = serr
		}
	})
	return b, err
}

func (b bareTimes) print(w io.Writer) {
	mbs := func(d time.Duration) string { return fmt.Sprintf("%.2f GB/s", chunk/d.Seconds()/1e9) }
	us := func(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1000) }
	row(w, "SHA-256 of 32 bytes", fmt.Sprintf("%d ns", b.sha.Nanoseconds()))
	row(w, "ChaCha20-Poly1305, 64 KiB chunks", mbs(b.aead))
	row(w, "BLAKE3, 64 KiB writes", mbs(b.blake))
	row(w, "ECDH (lift, multiply, affine)", us(b.ecdh))
	row(w, "Schnorr sign", us(b.sign))
	row(w, "Schnorr verify", us(b.verify))
	row(w, "write of 4 KiB and fsync", us(b.fsync))
}

func randomSecret() (s wire.Secret) {
	for {
		_, _ = rand.Read(s[:]) // never fails (crypto/rand)
		if k, err := s.PrivKey(); err == nil {
			return wire.SecretOf(k)
		}
	}
}

func keyOf(s wire.Secret) wire.Key {
	k, err := s.PrivKey()
	if err != nil {
		panic(err) // randomSecret's are valid
	}
	return wire.XOnly(k.PubKey())
}

func randomKey() wire.Key { return keyOf(randomSecret()) }

func ecdh(s wire.Secret, k wire.Key) {
	priv, _ := s.PrivKey()
	p, err := k.Point()
	if err != nil {
		panic(err)
	}
	bareECDH(&priv.Key, p)
}

func bareECDH(k *btcec.ModNScalar, p *btcec.PublicKey) {
	var point, out btcec.JacobianPoint
	p.AsJacobian(&point)
	btcec.ScalarMultNonConst(k, &point, &out)
	out.ToAffine()
}

func newAEAD() cipher.AEAD {
	a, err := chacha20poly1305.New(make([]byte, 32))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	return a
}

// encryption compares seal's streams with the same passes over memory, and the
// scan with its one ECDH.
func encryption(w io.Writer) error {
	const size = 64 << 20
	body := make([]byte, size)
	_, _ = rand.Read(body)
	identity, recipient, e := randomSecret(), randomSecret(), randomSecret()
	aead := newAEAD()
	buf := make([]byte, chunk, chunk+16)
	// pass processes size bytes like the streams do: through one chunk's
	// buffer.
	pass := func(hashes, aeads int, open bool) {
		hs := make([]*blake3.Hasher, hashes)
		for i := range hs {
			hs[i] = blake3.New()
		}
		nonce := make([]byte, aead.NonceSize())
		sealed := aead.Seal(nil, nonce, buf[:chunk], nil)
		work := make([]byte, len(sealed))
		for off := 0; off < size; off += chunk {
			for range aeads {
				if open {
					copy(work, sealed)
					_, _ = aead.Open(work[:0], nonce, work, nil)
				} else {
					copy(buf[:chunk], body[off:off+chunk])
					aead.Seal(buf[:0], nonce, buf[:chunk], nil)
				}
			}
			for _, h := range hs {
				_, _ = h.Write(buf[:chunk])
			}
		}
	}
	var payload, sealed bytes.Buffer
	payload.Grow(size + size/8)
	sealed.Grow(size + size/8)
	kappa := wire.Secret(wire.Tagged("bench"))
	var fail error
	check := func(err error) {
		if err != nil && fail == nil {
			fail = err
		}
	}
	for _, m := range []struct {
		name  string
		bare  func()
		built func()
	}{
		{"encrypting: BLAKE3, AEAD, BLAKE3", func() { pass(2, 1, false) }, func() {
			sec, err := seal.FromSender(e, keyOf(recipient))
			check(err)
			payload.Reset()
			_, err = sec.Encrypt(&payload, bytes.NewReader(body), identity)
			check(err)
		}},
		{"sealing: AEAD, BLAKE3", func() { pass(1, 1, false) }, func() {
			sealed.Reset()
			_, err := seal.SealTo(&sealed, bytes.NewReader(payload.Bytes()), kappa)
			check(err)
		}},
		{"unsealing: AEAD", func() { pass(0, 1, true) }, func() {
			_, err := seal.Unseal(io.Discard, bytes.NewReader(sealed.Bytes()), kappa)
			check(err)
		}},
		{"decrypting: AEAD, BLAKE3", func() { pass(1, 1, true) }, func() {
			sec, err := seal.FromRecipient(recipient, keyOf(e))
			check(err)
			_, err = sec.Decrypt(io.Discard, bytes.NewReader(payload.Bytes()))
			check(err)
		}},
	} {
		r, speed := ratio(5, m.bare, m.built)
		row(w, m.name, fmt.Sprintf("%.2f of bare, %.2f GB/s", r, size/speed.Seconds()/1e9), "≥ 0.80")
	}
	scanner, err := seal.NewScanner(recipient)
	if err != nil {
		return err
	}
	stranger, at := randomKey(), seal.Outpoint{}
	k, err := recipient.PrivKey()
	if err != nil {
		return err
	}
	const n = 2000
	r, t := ratio(5, func() {
		for range n {
			p, err := stranger.Point()
			check(err)
			bareECDH(&k.Key, p)
		}
	}, func() {
		for range n {
			scanner.Match(stranger, at, [4]byte{})
		}
	})
	row(w, "tag scan, one core", fmt.Sprintf("%.2f of bare ECDH, %.0f a second", r, n/t.Seconds()), "≥ 0.80")
	return fail
}

// ratio returns the bare time divided by the built one, from alternating runs,
// and the built one's median time.
func ratio(rounds int, bare, built func()) (float64, time.Duration) {
	var ratios []float64
	var times []time.Duration
	for i := range rounds + 1 {
		began := time.Now()
		bare()
		b := time.Since(began)
		began = time.Now()
		built()
		t := time.Since(began)
		if i > 0 { // the first warms up
			ratios, times = append(ratios, b.Seconds()/t.Seconds()), append(times, t)
		}
	}
	return median(ratios), median(times)
}

func randomFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.Reader, size); err != nil {
		return err
	}
	return f.Close()
}
