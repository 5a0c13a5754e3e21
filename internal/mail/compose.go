// Package mail composes and parses the MIME message inside a payload.
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

// Meta contains the header fields. The sender's identity is proven by the
// payload's signature, not by the header.
type Meta struct {
	From, To string // addresses as bitgram prints them
	Subject  string
	Filename string // base name of the body's file, or empty
	Date     time.Time
}

// File is an attachment.
type File struct {
	Name string // base name, may be empty
	Body io.Reader
}

// maxHeader is the maximum size of a received header, in bytes.
const maxHeader = 64 << 10

// ErrNotMIME means that the received message has no readable MIME header.
var ErrNotMIME = errors.New("not a MIME message")

// Compose returns a reader of the MIME message with body as its only part,
// unencoded (Content-Transfer-Encoding: binary). With attachments it is a
// multipart/mixed message whose first part is body. The reader streams; a
// caller that stops early must Close it.
func Compose(m Meta, body io.Reader, attachments ...File) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(compose(w, m, body, attachments)) }()
	return r
}

func compose(w io.Writer, m Meta, body io.Reader, attachments []File) error {
	var h gomail.Header
	h.SetDate(m.Date)
	h.SetAddressList("From", []*gomail.Address{{Address: m.From + "@bitgram"}})
	h.SetAddressList("To", []*gomail.Address{{Address: m.To + "@bitgram"}})
	h.SetSubject(m.Subject)
	h.Set("MIME-Version", "1.0")
	if len(attachments) == 0 {
		describe(&h.Header, m.Filename)
		return part(func() (*message.Writer, error) { return message.CreateWriter(w, h.Header) }, body)
	}
	h.SetContentType("multipart/mixed", nil)
	mw, err := message.CreateWriter(w, h.Header)
	if err != nil {
		return err
	}
	for _, f := range append([]File{{m.Filename, body}}, attachments...) {
		var ph message.Header
		describe(&ph, f.Name)
		if err := part(func() (*message.Writer, error) { return mw.CreatePart(ph) }, f.Body); err != nil {
			return err
		}
	}
	return mw.Close()
}

// describe writes the fields of one part.
func describe(h *message.Header, filename string) {
	h.SetContentType("application/octet-stream", nil)
	h.Set("Content-Transfer-Encoding", "binary")
	if filename != "" {
		h.SetContentDisposition("attachment", map[string]string{"filename": filename})
	}
}

func part(create func() (*message.Writer, error), body io.Reader) error {
	w, err := create()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, body)
	return errors.Join(err, w.Close())
}

// Message is a received MIME message, to be read from front to back.
type Message struct {
	Meta
	entity *message.Entity
	parts  message.MultipartReader // nil if the message has one part
	done   bool
}

// Read reads the header of a message, or returns ErrNotMIME.
func Read(r io.Reader) (*Message, error) {
	e, err := message.ReadWithOptions(bufio.NewReader(r), &message.ReadOptions{MaxHeaderBytes: maxHeader})
	if err = foreign(err); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNotMIME, err)
	}
	h := gomail.Header{Header: e.Header}
	m := &Message{entity: e, parts: e.MultipartReader()}
	m.Subject, _ = h.Subject()
	m.Date, _ = h.Date()
	m.Filename = filename(&e.Header)
	m.From, m.To = first(h, "From"), first(h, "To")
	return m, nil
}

// foreign ignores errors about unknown character sets or encodings: such a part
// is returned unchanged.
func foreign(err error) error {
	if message.IsUnknownCharset(err) || message.IsUnknownEncoding(err) {
		return nil
	}
	return err
}

// Next returns the next part, unchanged, or io.EOF after the last. A part must
// be read before the next call.
func (m *Message) Next() (File, error) {
	if m.parts == nil {
		if m.done {
			return File{}, io.EOF
		}
		m.done = true
		return File{m.Filename, m.entity.Body}, nil
	}
	e, err := m.parts.NextPart()
	if errors.Is(err, io.EOF) {
		return File{}, io.EOF
	}
	if err = foreign(err); err != nil {
		return File{}, fmt.Errorf("%w: %v", ErrNotMIME, err)
	}
	return File{filename(&e.Header), e.Body}, nil
}

// Extract reads a message and returns its header and first part.
func Extract(r io.Reader) (m Meta, body io.Reader, err error) {
	msg, err := Read(r)
	if err != nil {
		return m, nil, err
	}
	f, err := msg.Next()
	return msg.Meta, f.Body, err
}

func filename(h *message.Header) string {
	_, params, err := h.ContentDisposition()
	if err != nil {
		return ""
	}
	return params["filename"]
}

func first(h gomail.Header, key string) string {
	list, err := h.AddressList(key)
	if err != nil || len(list) == 0 {
		return ""
	}
	name, _, _ := strings.Cut(list[0].Address, "@")
	return name
}
