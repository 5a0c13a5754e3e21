package main

import (
	"errors"
	"strings"
	"testing"
)

// TestShowText: a stranger's text cannot act on the terminal that shows it.
func TestShowText(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain\n\ttext\r\n": "plain\n\ttext\n", "grüße, 世界 🙂": "grüße, 世界 🙂",
		"\x1b]0;title\x07 \x1b[2J\u009b31m \u202eevil": "·]0;title· ·[2J·31m ·evil",
		strings.Repeat("ä", 5000) + "\xff\x1b":         strings.Repeat("ä", 5000) + "\ufffd·",
	} {
		var out strings.Builder
		if n, err := showText(&out, strings.NewReader(text)); err != nil || int(n) != len(text) || out.String() != want {
			t.Errorf("%.40q: %.40q, %d bytes, %v", text, out.String(), n, err)
		}
	}
	for _, data := range []string{"\x00", "PK\x03\x04\x00\x00", "\xff\xd8\xff\xe0 JFIF", strings.Repeat("a", 4000) + "\xff" + strings.Repeat("b", 4000)} {
		var out strings.Builder
		if _, err := showText(&out, strings.NewReader(data)); !errors.Is(err, errBinary) || out.Len() > 0 {
			t.Errorf("%.20q: %q, %v", data, out.String(), err)
		}
	}
}
