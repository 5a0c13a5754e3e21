package mail

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/mail"
	"strings"
	"testing"
	"time"
)

// bodies are such as a careless writer of MIME would change.
func bodies() [][]byte {
	r := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	return [][]byte{nil, {0}, []byte("\n"), []byte("a\r\nb\n\r\n--\r\n.\r\n"), []byte("no newline"), noise, bytes.Repeat([]byte("x"), 5000),
		[]byte("--boundary\r\nContent-Type: text/html\r\n\r\n"), []byte("\xff\xfeH\x00i\x00")}
}

// TestRoundTrip: whatever goes in as one file, or with attachments, comes out
// byte for byte.
func TestRoundTrip(t *testing.T) {
	all := bodies()
	for i, body := range all {
		for n := range 3 {
			m := Meta{From: "bgrt1a", To: "bgrt1b", Subject: "Grüße =?utf-8?q?x?= \t", Filename: "ä \"b\".bin", Date: time.Unix(1_700_000_000, 0)}
			var files []File
			for j := range n {
				files = append(files, File{Name: "f;" + strings.Repeat("o", j*100), Body: bytes.NewReader(all[(i+j+1)%len(all)])})
			}
			raw, err := io.ReadAll(Compose(m, bytes.NewReader(body), files...))
			if err != nil {
				t.Fatal(err)
			}
			std, err := mail.ReadMessage(bytes.NewReader(raw)) // another reader finds it well-formed
			if err != nil || std.Header.Get("Mime-Version") != "1.0" {
				t.Fatalf("body %d: %v, %v", i, err, std.Header)
			}
			got, err := Read(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if got.Subject != strings.TrimSpace(m.Subject) && got.Subject != m.Subject || got.From != m.From || got.To != m.To || !got.Date.Equal(m.Date) {
				t.Errorf("body %d: header %+v", i, got.Meta)
			}
			for j := 0; ; j++ {
				f, err := got.Next()
				if errors.Is(err, io.EOF) {
					if j != n+1 {
						t.Errorf("%d parts of %d", j, n+1)
					}
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(f.Body)
				if want := all[(i+j)%len(all)]; err != nil || !bytes.Equal(b, want) {
					t.Errorf("body %d, part %d of %d: %d bytes, want %d (%v)", i, j, n+1, len(b), len(want), err)
				}
				if want := m.Filename; j == 0 && f.Name != want || j > 0 && f.Name != "f;"+strings.Repeat("o", (j-1)*100) {
					t.Errorf("part %d is named %q", j, f.Name)
				}
			}
		}
	}
}

// TestForeign: what other programs write is read, also in a character set or an
// encoding that nobody knows here, and without a date.
func TestForeign(t *testing.T) {
	for name, head := range map[string]string{
		"latin 1":  "Content-Type: text/plain; charset=iso-8859-1\r\n",
		"charset":  "Content-Type: text/plain; charset=klingon\r\n",
		"encoding": "Content-Transfer-Encoding: x-klingon\r\n",
		"nothing":  "",
	} {
		for _, multi := range []bool{false, true} {
			raw := "Subject: s\r\n" + head + "\r\nbody"
			if multi {
				raw = "Subject: s\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" + head + "\r\nbody\r\n--x--\r\n"
			}
			m, err := Read(strings.NewReader(raw))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			f, err := m.Next()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if b, err := io.ReadAll(f.Body); err != nil || string(b) != "body" || m.Subject != "s" || !m.Date.IsZero() {
				t.Errorf("%s: %q, %v, %+v", name, b, err, m.Meta)
			}
		}
	}
}

// TestBad: what is no such message is an error, and never more than that.
func TestBad(t *testing.T) {
	for _, raw := range []string{"", "no header", "A: b\r\n" + strings.Repeat("X", maxHeader+10) + ": c\r\n\r\n", "\x00\x01: \r\n\r\n"} {
		if m, err := Read(strings.NewReader(raw)); err == nil {
			if _, err := m.Next(); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, ErrNotMIME) {
				t.Errorf("%.20q: %v", raw, err)
			}
		} else if !errors.Is(err, ErrNotMIME) {
			t.Errorf("%.20q: %v", raw, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, b := range bodies()[:4] {
		raw, _ := io.ReadAll(Compose(Meta{From: "a", To: "b", Filename: "c"}, bytes.NewReader(b), File{"d", bytes.NewReader(b)}))
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Read(bytes.NewReader(raw))
		for err == nil {
			var p File
			if p, err = m.Next(); err == nil {
				_, _ = io.Copy(io.Discard, p.Body)
			}
		}
	})
}
