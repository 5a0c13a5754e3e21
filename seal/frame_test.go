package seal

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// Algorithm 1 of the paper in floating point, as published.
func padmePaper(l uint64) uint64 {
	e := math.Floor(math.Log2(float64(l)))
	s := math.Floor(math.Log2(e)) + 1
	z := e - s
	m := uint64(math.Pow(2, z)) - 1
	return (l + m) &^ m
}

func TestPadme(t *testing.T) {
	// 9 → 10 is the paper's example; the rest is by hand from the definition.
	for in, want := range map[uint64]uint64{
		0: 0, 1: 1, 2: 2, 3: 3, 7: 7, 8: 8, 9: 10, 17: 18, 100: 104, 512: 512, 513: 544,
		1000: 1024, 65535: 65536, 65537: 67584, 1_000_000: 1_015_808, 1 << 32: 1 << 32, 1<<32 + 1: 1<<32 + 1<<26,
	} {
		if got := padme(in); got != want {
			t.Errorf("padme(%d) = %d, want %d", in, got, want)
		}
	}
	for n := uint64(4); n < 200_000; n++ {
		if got, want := padme(n), padmePaper(n); got != want {
			t.Fatalf("padme(%d) = %d, want %d", n, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(4, 1<<40).Draw(t, "n")
		p := padme(n)
		if p < n || float64(p) > 1.12*float64(n) || padme(p) != p {
			t.Fatalf("padme(%d) = %d, padme of that %d", n, p, padme(p))
		}
	})
}

// Check what the framing relies on in plainSize, for sizes around every
// boundary.
func TestPlainSize(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, body uint64) {
		n := plainSize(body)
		last := n - (chunks(n)-1)*ChunkSize
		if last < countSize+trailerSize || last > ChunkSize {
			t.Fatalf("body %d: last chunk of %d bytes", body, last)
		}
		if room := (chunks(n)-1)*fullCount + last - countSize - trailerSize; room < body {
			t.Fatalf("body %d: room for %d", body, room)
		}
		if body > 1 && plainSize(body-1) > n {
			t.Fatalf("body %d: smaller than the one before", body)
		}
	}
	for q := uint64(0); q < 70; q++ {
		for d := uint64(0); d < 300; d++ {
			if b := q*fullCount + d; b > 150 {
				check(t, b-150)
			}
		}
	}
	for b := uint64(1); b < 3*ChunkSize; b++ {
		check(t, b)
	}
	check(t, MaxBody)
	rapid.Check(t, func(t *rapid.T) { check(t, rapid.Uint64Range(1, MaxBody).Draw(t, "body")) })

	if PayloadSize(MaxBody) != MaxPayload || SealedSize(MaxPayload) != MaxSealed {
		t.Errorf("limits: %d and %d", PayloadSize(MaxBody), SealedSize(MaxPayload))
	}
	if PayloadSize(0) != 0 || PayloadSize(MaxBody+1) != 0 || SealedSize(0) != 0 || SealedSize(MaxPayload+1) != 0 {
		t.Error("a size where there is none")
	}
	if got := PayloadSize(1); got != 8+512+16 {
		t.Errorf("smallest payload %d", got)
	}
}

// deframe runs an unframer over a whole plaintext.
func deframe(plain []byte) (body, trailer []byte, err error) {
	var u unframer
	for {
		n := min(len(plain), ChunkSize)
		last := n == len(plain)
		content, tr, err := u.chunk(plain[:n], last)
		if err != nil {
			return nil, nil, err
		}
		body = append(body, content...)
		if last {
			return body, tr, nil
		}
		plain = plain[n:]
	}
}

// frame builds the plaintext of body in a different way than Encrypt: the whole
// layout at once.
func frame(body, trailer []byte) []byte {
	plain := make([]byte, plainSize(uint64(len(body))))
	copy(plain[len(plain)-trailerSize:], trailer)
	for at := 0; at < len(plain); at += ChunkSize {
		room := fullCount
		if len(plain)-at <= ChunkSize {
			room = len(plain) - at - countSize - trailerSize
		}
		n := min(room, len(body))
		putCount(plain[at:], n)
		copy(plain[at+countSize:], body[:n])
		body = body[n:]
	}
	if len(body) != 0 {
		panic("no room")
	}
	return plain
}
