package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// errBinary refuses to show binary data on a terminal.
var errBinary = errors.New("not a text message")

// showText copies text, with the control characters that a terminal would act on
// replaced. It returns errBinary if the data does not begin like text.
func showText(w io.Writer, r io.Reader) (n int64, err error) {
	in, out := bufio.NewReaderSize(r, 4096), bufio.NewWriter(w)
	start, _ := in.Peek(4096)
	for len(start) > 0 {
		c, size := utf8.DecodeRune(start)
		if c == 0 || c == utf8.RuneError && size == 1 && len(start) > utf8.UTFMax {
			return 0, errBinary
		}
		start = start[size:]
	}
	for {
		c, size, err := in.ReadRune()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return n, errors.Join(err, out.Flush())
		}
		n += int64(size)
		s := string(c)
		if c != '\n' && c != '\t' {
			s = printable(s)
		}
		if c == '\r' {
			s = ""
		}
		if _, err := out.WriteString(s); err != nil {
			return n, err
		}
	}
}

// showOutput writes a program's output, made safe if a terminal shows it.
func (a *app) showOutput(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if terminal(a.out) {
		_, err := showText(a.out, bytes.NewReader(b))
		return err
	}
	if _, err := a.out.Write(b); err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}

// plainWriter makes a stranger's text safe for a terminal.
type plainWriter struct{ w io.Writer }

func (p *plainWriter) Write(b []byte) (int, error) {
	var out []string
	for line := range strings.SplitSeq(string(b), "\n") {
		out = append(out, printable(strings.ReplaceAll(line, "\t", "    ")))
	}
	_, err := io.WriteString(p.w, strings.Join(out, "\n"))
	return len(b), err
}

// printable replaces the characters of a stranger's text that a terminal would
// act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '·'
		}
		return r
	}, s)
}

// short abbreviates an address to fit into a line.
func short(address string) string {
	if len(address) > 20 {
		return address[:12] + "…" + address[len(address)-6:]
	}
	return address
}

// shorten cuts user input that an error quotes to 100 bytes.
func shorten(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
