package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// TestWrap: paragraphs flow, what is indented stays, and no word is lost.
func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text    string
		columns int
		indent  string
		want    string
	}{
		{"", 10, "", ""},
		{"one two three", 7, "", "one two\nthree"},
		{"one\ntwo\n\nthree", 20, "", "one two\n\nthree"},
		{"one\n  as it   is\ntwo", 20, "", "one\n  as it   is\ntwo"},
		{"one two", 9, "    ", "    one\n    two"},
		{"überaus lang", 7, "", "überaus\nlang"},
		{"longerthanthat x", 5, "", "longerthanthat\nx"},
	} {
		if got := wrap(c.text, c.columns, c.indent); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// each calls f for a command and all below it.
func each(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		each(sub, f)
	}
}

// TestHelp: every command shows its own name, has a group where its parent has
// groups, and its help fits into 80 columns but for examples and formulas.
func TestHelp(t *testing.T) {
	root := newRoot()
	commands := 0
	each(root, func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		commands++
		if n := utf8.RuneCountInString(c.Short); n == 0 || n > 64 && c.HasParent() || strings.HasSuffix(c.Short, ".") && c.HasParent() {
			t.Errorf("%s: %d characters in the short help %q", c.CommandPath(), n, c.Short)
		}
		if c.Parent() == root && c.GroupID == "" && c.Name() != "version" && c.Name() != "help" {
			t.Errorf("%s is in no group", c.CommandPath())
		}
		var out bytes.Buffer
		c.SetOut(&out)
		if err := c.Help(); err != nil || !strings.Contains(out.String(), c.CommandPath()) {
			t.Errorf("%s: %v, %s", c.CommandPath(), err, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimRight(line, "\n"); utf8.RuneCountInString(line) > defaultWidth && !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: %q", c.CommandPath(), line)
			}
		}
	})
	if commands < 60 {
		t.Errorf("%d commands", commands)
	}
}
