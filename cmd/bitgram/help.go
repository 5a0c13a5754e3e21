package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// helpCommand is cobra's, but a command that does not exist is an error.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		ValidArgsFunction: func(_ *cobra.Command, args []string, toComplete string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			c, _, err := root.Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), toComplete) {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				if c == nil {
					c = root
				}
				return noSuchCommand(c, append(rest, args...))
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// noSuchCommand refuses arguments of a command that only has subcommands, and
// suggests those that are spelled alike.
func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	like := c.SuggestionsFor(args[0])
	for i := range like {
		like[i] = "'" + c.CommandPath() + " " + like[i] + "'"
	}
	question := ""
	if len(like) > 0 {
		question = "; did you mean " + strings.Join(like, " or ") + "?"
	}
	return fmt.Errorf("%w: unknown command %q for %q%s", errUsage, shorten(args[0]), c.CommandPath(), question)
}

// Widths of the help, in columns: that of the terminal within limits.
const (
	minWidth     = 40
	defaultWidth = 80
	maxWidth     = 100
)

// width returns the number of columns for the help on out.
func width(out io.Writer) int {
	if f, ok := out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			return min(max(w, minWidth), maxWidth)
		}
	}
	return defaultWidth
}

// printHelp shows the help of a command, wrapped to the terminal.
func (a *app) printHelp(c *cobra.Command, _ []string) {
	out, columns := c.OutOrStdout(), width(c.OutOrStdout())
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(out, "%s\n\nUsage:\n", wrap(text, columns, ""))
	if c.Runnable() && !c.HasAvailableSubCommands() || !c.HasParent() {
		fmt.Fprintf(out, "  %s\n", c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(out, "  %s COMMAND\n", c.CommandPath())
	}
	if c.HasExample() {
		fmt.Fprintf(out, "\nExamples:\n%s\n", c.Example)
	}
	printCommands(out, c, columns)
	for _, f := range []struct {
		title string
		set   *pflag.FlagSet
	}{{"Flags:", c.LocalFlags()}, {"Global flags:", c.InheritedFlags()}} {
		if f.set.HasAvailableFlags() {
			fmt.Fprintf(out, "\n%s\n%s\n", f.title, strings.TrimRight(f.set.FlagUsagesWrapped(columns), "\n"))
		}
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(out, "\nUse \"%s COMMAND --help\" for more about a command.\n", c.CommandPath())
	}
}

// printCommands lists the subcommands under the headings of their groups, in
// the order in which they were added.
func printCommands(out io.Writer, c *cobra.Command, columns int) {
	longest := 0
	for _, sub := range c.Commands() {
		longest = max(longest, len(sub.Name()))
	}
	section := func(title, group string) {
		for _, sub := range c.Commands() {
			if sub.GroupID != group || !sub.IsAvailableCommand() && sub.Name() != "help" {
				continue
			}
			if title != "" {
				fmt.Fprintf(out, "\n%s\n", title)
				title = ""
			}
			name := fmt.Sprintf("  %-*s  ", longest, sub.Name())
			fmt.Fprintf(out, "%s%s\n", name, strings.TrimLeft(wrap(sub.Short, columns, strings.Repeat(" ", len(name))), " "))
		}
	}
	for _, g := range c.Groups() {
		section(g.Title, g.ID)
	}
	if len(c.Groups()) > 0 {
		section("Other commands:", "")
	} else {
		section("Commands:", "")
	}
}

// wrap breaks text at spaces so that no line has more columns than that, each
// with indent in front. Lines of a paragraph flow together; a line that is
// indented itself stays as it is, and so does an empty one.
func wrap(text string, columns int, indent string) string {
	var lines []string
	line := ""
	flush := func() {
		if line != "" {
			lines = append(lines, indent+line)
		}
		line = ""
	}
	for l := range strings.SplitSeq(text, "\n") {
		if l == "" || strings.HasPrefix(l, " ") {
			flush()
			lines = append(lines, strings.TrimRight(indent+l, " "))
			continue
		}
		for word := range strings.FieldsSeq(l) {
			if line != "" && utf8.RuneCountInString(indent+line)+1+utf8.RuneCountInString(word) > columns {
				flush()
			}
			if line != "" {
				line += " "
			}
			line += word
		}
	}
	flush()
	return strings.Join(lines, "\n")
}
