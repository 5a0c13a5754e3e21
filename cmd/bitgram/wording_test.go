package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// notYet lists the packages whose texts are not in plain English yet. A package
// leaves the list when its texts are; none is added.
var notYet []string

// avoid lists wordings that a reader has to decode, each with a better one.
var avoid = []struct{ pattern, better string }{
	{`by (itself|themselves)`, "alone, automatically, or: by default"},
	{`so (many|much) (?:that )?`, "this many, or: how many"},
	{`who(m)?ever`, "a user who, the peer that, anyone who"},
	{`stand(s|ing)?`, "is"},
	{`(is|are) no [a-z]+`, "is not a"}, // "there is no" is fine
	{`takes? in`, "accept, receive"},
	{`all in all`, "in total"},
	{`leans? on`, "depend on"},
	{`tells? of`, "report"},
	{`how (it|the [a-z]+|a [a-z]+|all) (does|stands)`, "state, status"},
	{`(is|are) to be`, "must be, or: the caller does it"},
	{`anew`, "again, new"},
	{`the other way`, "reverse"},
	{`comes? to (its end|their end|nothing)|came to nothing`, "end, fail"},
	{`where (there|none|nobody|nothing|no)`, "if"},
	{`where (it|they|that|this|one) (is|are|was|has|have|had|can|cannot|does|did)`, "if"},
	{`(by|for|to|from|than|of) who`, "a user who"},
	{`counts more`, "takes precedence"},
}

// allowed are uses of these words that are right.
var allowed = []string{
	"there is no ", "there are no ",
	"is no longer", "are no longer", "is no more than",
}

type wording struct {
	re     *regexp.Regexp
	better string
}

func wordings() (list []wording) {
	for _, w := range avoid {
		list = append(list, wording{regexp.MustCompile(`(?i)\b(?:` + w.pattern + `)\b`), w.better})
	}
	return list
}

// found returns what a text should say otherwise.
func found(list []wording, text string) (bad []string) {
	text = strings.Join(strings.Fields(text), " ")
	for _, w := range list {
		for _, at := range w.re.FindAllStringIndex(text, -1) {
			around := strings.ToLower(text[max(at[0]-10, 0):min(at[1]+10, len(text))])
			if slices.ContainsFunc(allowed, func(ok string) bool { return strings.Contains(around, ok) }) {
				continue
			}
			bad = append(bad, fmt.Sprintf("%q in %q: better %q", text[at[0]:at[1]], text[max(at[0]-40, 0):min(at[1]+40, len(text))], w.better))
		}
	}
	return bad
}

// TestWording: what users and readers see is in plain English: the help, the
// errors and hints, every other text in the code, and comments.
func TestWording(t *testing.T) {
	list := wordings()
	complain := func(at, text string) {
		for _, b := range found(list, text) {
			t.Errorf("%s: %s", at, b)
		}
	}
	// The help has texts that are put together from several literals. The demo's
	// scenarios are in its package.
	each(newRoot(), func(c *cobra.Command) {
		long := c.Long
		if slices.Contains(notYet, "internal/demo") {
			long, _, _ = strings.Cut(long, "Scenarios:")
		}
		for _, text := range []string{c.Short, long, c.Example} {
			complain(c.CommandPath(), text)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { complain(c.CommandPath()+" --"+f.Name, f.Usage) })
	})
	for _, r := range errorTable {
		complain("hint of "+string(r.code), r.hint)
	}
	files := 0
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := path.Base(name); name != "." && (strings.HasPrefix(base, ".") || base == "testdata") || slices.Contains(notYet, name) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		eachText(t, name, func(line int, text string) { complain(fmt.Sprintf("%s:%d", name, line), text) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 90 {
		t.Errorf("%d files were looked at", files)
	}
	for _, name := range notYet {
		if _, err := os.Stat("../../" + name); err != nil {
			t.Logf("%s is gone: remove it from notYet", name)
		}
	}
}

// eachText calls f for every string literal with a space in it, every text in a
// doc tag and every comment of a file of this repository, with its line.
func eachText(t *testing.T, name string, f func(line int, text string)) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "../../"+name, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[*ast.BasicLit]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			if n.Tag != nil {
				tags[n.Tag] = true
				if tag, err := strconv.Unquote(n.Tag.Value); err == nil {
					f(fset.Position(n.Pos()).Line, reflect.StructTag(tag).Get("doc"))
				}
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil && !tags[n] && strings.Contains(text, " ") {
				f(fset.Position(n.Pos()).Line, text)
			}
		}
		return true
	})
	for _, c := range file.Comments {
		f(fset.Position(c.Pos()).Line, c.Text())
	}
}

// TestWordingFinds: the gate finds what it is for, and lets the rest pass.
func TestWordingFinds(t *testing.T) {
	list := wordings()
	for _, text := range []string{
		"a tenth of the amount by itself", "the bank has not so many pennies left", "Whoever\nhas the file", "it stands in api.token",
		"--disk x is no size", "How the daemon does", "where there is none", "it is to be closed", "each flag can stand in config.toml", "for who has lost it",
	} {
		if len(found(list, text)) == 0 {
			t.Errorf("not found: %q", text)
		}
	}
	for _, text := range []string{
		"There is no daemon.", "a standard address", "the directory where backups are kept", "it is no longer true", "I understand", "as many as you like", "how much is paid",
	} {
		if bad := found(list, text); len(bad) > 0 {
			t.Errorf("%q: %v", text, bad)
		}
	}
}
