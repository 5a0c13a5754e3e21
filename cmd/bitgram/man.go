package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manPage writes a command's page of section 1. (cobra's own generator comes with a
// renderer of Markdown, which takes 3 ms of each command's start.)
func manPage(c *cobra.Command, date time.Time) []byte {
	c.InitDefaultHelpFlag()
	var b bytes.Buffer
	name := manName(c)
	fmt.Fprintf(&b, ".TH \"%s\" \"1\" \"%s\" \"bitgram %s\" \"Bitgram manual\"\n.nh\n", roff(strings.ToUpper(name)), date.Format("Jan 2006"), roff(version()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fP\n", roff(c.UseLine()))
	text := c.Long
	if text == "" {
		text = c.Short
	}
	b.WriteString(".SH DESCRIPTION\n" + strings.ReplaceAll(roff(text), "\n\n", "\n.PP\n") + "\n")
	manFlags(&b, "OPTIONS", c.NonInheritedFlags())
	manFlags(&b, "OPTIONS OF ALL COMMANDS", c.InheritedFlags())
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n.nf\n" + roff(c.Example) + "\n.fi\n")
	}
	var others []string
	if c.HasParent() {
		others = append(others, "\\fB"+roff(manName(c.Parent()))+"\\fP(1)")
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			others = append(others, "\\fB"+roff(manName(sub))+"\\fP(1)")
		}
	}
	if len(others) > 0 {
		b.WriteString(".SH SEE ALSO\n" + strings.Join(others, ",\n") + "\n")
	}
	return b.Bytes()
}

// manName is the name of a command's page.
func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func manFlags(b *bytes.Buffer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	b.WriteString(".SH " + title + "\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		b.WriteString(".TP\n")
		if f.Shorthand != "" {
			b.WriteString("\\fB\\-" + f.Shorthand + "\\fP, ")
		}
		kind, usage := pflag.UnquoteUsage(f)
		if b.WriteString("\\fB" + roff("--"+f.Name) + "\\fP"); kind != "" {
			b.WriteString(" \\fI" + roff(kind) + "\\fP")
		}
		b.WriteString("\n" + roff(usage))
		if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "false" {
			b.WriteString(roff(" (default " + f.DefValue + ")"))
		}
		b.WriteString("\n")
	})
}

// roff escapes text: a backslash, a hyphen that must stay one, and a line that would
// be a request.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	for _, c := range []string{".", "'"} {
		if strings.HasPrefix(s, c) {
			s = `\&` + s
		}
		s = strings.ReplaceAll(s, "\n"+c, "\n\\&"+c)
	}
	return s
}
