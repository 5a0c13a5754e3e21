package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/api"
)

// printer shows a command's progress and result: as text for people, or as one
// JSON object per line for scripts.
type printer interface {
	// line shows one of several results: an object with that type, or text.
	line(kind string, fields any, text func(io.Writer))
	// event shows something that happened during a command.
	event(party, text string)
	// summary ends a command that succeeded. fields marshal to a JSON object;
	// text writes the same for people.
	summary(fields any, text func(io.Writer))
	// fail ends a command that failed.
	fail(err error)
	// progress shows how far long work is. The next progress overwrites it, and it
	// is shown only if standard error is a terminal. It may be called from any
	// goroutine.
	progress(what string, done, total uint64)
	// working is progress that is not counted in bytes: a line of text.
	working(text string)
}

type jsonPrinter struct {
	mu  sync.Mutex
	out io.Writer
}

// line writes v as one line with "type" in front.
func (p *jsonPrinter) line(kind string, v any, _ func(io.Writer)) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // every type that is printed marshals
	}
	head, _ := json.Marshal(kind)
	p.mu.Lock()
	defer p.mu.Unlock()
	if string(body) == "{}" {
		fmt.Fprintf(p.out, "{\"type\":%s}\n", head)
		return
	}
	fmt.Fprintf(p.out, "{\"type\":%s,%s\n", head, body[1:])
}

func (p *jsonPrinter) event(party, text string) {
	p.line("event", struct {
		Party string `json:"party"`
		Text  string `json:"text"`
	}{party, text}, nil)
}

func (p *jsonPrinter) summary(fields any, _ func(io.Writer)) { p.line("summary", fields, nil) }

func (p *jsonPrinter) fail(err error) {
	code, _, hint := explain(err)
	var told api.Error
	if e := new(api.Error); errors.As(err, &e) {
		told = *e
	}
	p.line("error", struct {
		Code    api.Code `json:"code"`
		Message string   `json:"message"`
		Hint    string   `json:"hint"`
		Payment string   `json:"payment_id,omitempty"`
		Key     string   `json:"idempotency_key,omitempty"`
	}{code, err.Error(), hint, told.Payment, told.Key}, nil)
}

func (p *jsonPrinter) progress(string, uint64, uint64) {}

func (p *jsonPrinter) working(string) {}

type textPrinter struct {
	out, err io.Writer
	tty      bool // standard error is a terminal
	start    time.Time

	mu    sync.Mutex
	last  time.Time // of the bar
	shown bool
}

func (p *textPrinter) event(party, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.out, "%5.2fs  %-10s %s\n", time.Since(p.start).Seconds(), party, text)
}

func (p *textPrinter) summary(_ any, text func(io.Writer)) { p.line("", nil, text) }

func (p *textPrinter) line(_ string, _ any, text func(io.Writer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	text(p.out)
}

func (p *textPrinter) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	_, _, hint := explain(err)
	fmt.Fprintf(p.err, "bitgram: %v\n", err)
	if hint != "" {
		fmt.Fprintf(p.err, "  hint: %s\n", hint)
	}
}

func (p *textPrinter) progress(what string, done, total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Short work needs no bar, and a few updates per second are enough.
	if now := time.Now(); !p.tty || total < progressFrom || now.Sub(p.last) < 100*time.Millisecond {
		return
	} else {
		p.last = now
	}
	const width = 30
	full := int(min(done, total) * width / total)
	fmt.Fprintf(p.err, "\r\x1b[K%s [%s%s] %d of %d MiB", what, strings.Repeat("#", full), strings.Repeat(".", width-full), done>>20, total>>20)
	p.shown = true
}

func (p *textPrinter) working(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.tty && now.Sub(p.last) >= 100*time.Millisecond {
		p.last, p.shown = now, true
		fmt.Fprintf(p.err, "\r\x1b[K%s", text)
	}
}

// progressFrom is the size in bytes from which work shows a bar.
const progressFrom = 8 << 20

// clear removes the bar. The caller holds mu.
func (p *textPrinter) clear() {
	if p.shown {
		fmt.Fprint(p.err, "\r\x1b[K")
		p.shown = false
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	s, err := f.Stat()
	return err == nil && s.Mode()&os.ModeCharDevice != 0
}
