// Package mail makes the MIME message that travels inside a payload, and takes
// it apart again.
package mail

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-message"
	gomail "github.com/emersion/go-message/mail"
)

// Meta is what the header says. The sender's identity is proven by the
// payload's signature, not by the header.
type Meta struct {
	From, To string // addresses as bitgram prints them
	Subject  string
	Filename string // base name of the file, or empty
	Date     time.Time
}

// maxHeader bounds a received header, bytes.
const maxHeader = 64 << 10

// ErrNotMIME: what was received has no readable MIME header.
var ErrNotMIME = errors.New("not a MIME message")

// Compose returns a reader of the MIME message with body as its one part, the
// bytes as they are (Content-Transfer-Encoding: binary). It streams; Close
// frees what a reader that stops early leaves behind.
func Compose(m Meta, body io.Reader) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		var h gomail.Header
		h.SetDate(m.Date)
		h.SetAddressList("From", []*gomail.Address{{Address: m.From + "@bitgram"}})
		h.SetAddressList("To", []*gomail.Address{{Address: m.To + "@bitgram"}})
		h.SetSubject(m.Subject)
		h.Set("MIME-Version", "1.0")
		h.SetContentType("application/octet-stream", nil)
		h.Set("Content-Transfer-Encoding", "binary")
		if m.Filename != "" {
			h.SetContentDisposition("attachment", map[string]string{"filename": m.Filename})
		}
		mw, err := message.CreateWriter(w, h.Header)
		if err == nil {
			_, err = io.Copy(mw, body)
			err = errors.Join(err, mw.Close())
		}
		w.CloseWithError(err)
	}()
	return r
}

// Extract reads the header of a message that Compose made and returns a reader
// of its body's exact bytes.
func Extract(r io.Reader) (m Meta, body io.Reader, err error) {
	e, err := message.ReadWithOptions(bufio.NewReader(r), &message.ReadOptions{MaxHeaderBytes: maxHeader})
	if err != nil {
		return m, nil, fmt.Errorf("%w: %v", ErrNotMIME, err)
	}
	h := gomail.Header{Header: e.Header}
	m.Subject, _ = h.Subject()
	m.Date, _ = h.Date()
	if _, params, err := h.ContentDisposition(); err == nil {
		m.Filename = params["filename"]
	}
	m.From, m.To = first(h, "From"), first(h, "To")
	return m, e.Body, nil
}

func first(h gomail.Header, key string) string {
	list, err := h.AddressList(key)
	if err != nil || len(list) == 0 {
		return ""
	}
	name, _, _ := strings.Cut(list[0].Address, "@")
	return name
}
