package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/bitgram/bitgram/internal/web"
	"github.com/bitgram/bitgram/wire"
)

// generateCommand writes what packages and docs/reference are made of. It is
// hidden: only "make docs" and "make release" need it.
func (a *app) generateCommand() *cobra.Command {
	var man, completions, reference string
	c := &cobra.Command{
		Use:    "generate",
		Short:  "Write man pages, shell completions and the reference",
		Hidden: true,
		Args:   usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if man == "" && completions == "" && reference == "" {
				return fmt.Errorf("%w: pass --man, --completions or --reference", errUsage)
			}
			for _, g := range []struct {
				dir   string
				files func() (map[string][]byte, error)
			}{
				{man, func() (map[string][]byte, error) { return manPages(a.plainRoot(), buildDate()) }},
				{completions, func() (map[string][]byte, error) { return completionScripts(a.plainRoot()) }},
				{reference, func() (map[string][]byte, error) { return referencePages(a.plainRoot()) }},
			} {
				if g.dir == "" {
					continue
				}
				files, err := g.files()
				if err == nil {
					err = writeFiles(g.dir, files)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&man, "man", "", "write man pages to this directory")
	c.Flags().StringVar(&completions, "completions", "", "write completion scripts for bash, zsh and fish to this directory")
	c.Flags().StringVar(&reference, "reference", "", "write the pages of docs/reference to this directory")
	return c
}

// plainRoot is the command tree as a new process has it, with the commands that
// cobra adds.
func (a *app) plainRoot() *cobra.Command {
	root := (&app{ctx: a.ctx, in: a.in, out: a.out, err: a.err}).root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.DisableAutoGenTag = true
	return root
}

// buildDate is SOURCE_DATE_EPOCH, so that a page built twice is the same; now if
// it is not set.
func buildDate() time.Time {
	var s int64
	if _, err := fmt.Sscan(os.Getenv("SOURCE_DATE_EPOCH"), &s); err != nil {
		return time.Now().UTC()
	}
	return time.Unix(s, 0).UTC()
}

func writeFiles(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("%w: %w", errOutput, err)
		}
	}
	return nil
}

// visible calls f for c and every command below it that help shows, parents
// first, in the order of help.
func visible(c *cobra.Command, f func(*cobra.Command) error) error {
	if err := f(c); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := visible(sub, f); err != nil {
			return err
		}
	}
	return nil
}

// manPages are the pages of section 1, one a command, by file name.
func manPages(root *cobra.Command, date time.Time) (map[string][]byte, error) {
	files := map[string][]byte{}
	return files, visible(root, func(c *cobra.Command) error {
		var b bytes.Buffer
		h := &doc.GenManHeader{Section: "1", Date: &date, Source: "bitgram " + version(), Manual: "Bitgram manual"}
		err := doc.GenMan(c, h, &b)
		files[strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"] = b.Bytes()
		return err
	})
}

// completionScripts are named as the shells' directories want them.
func completionScripts(root *cobra.Command) (map[string][]byte, error) {
	files := map[string][]byte{}
	var errs []error
	for name, write := range map[string]func(io.Writer) error{
		"bitgram.bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"_bitgram":     root.GenZshCompletion,
		"bitgram.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	} {
		var b bytes.Buffer
		errs = append(errs, write(&b))
		files[name] = b.Bytes()
	}
	return files, errors.Join(errs...)
}

// referencePages are the pages of docs/reference that say what the program says.
func referencePages(root *cobra.Command) (map[string][]byte, error) {
	cli, err := cliPage(root)
	if err != nil {
		return nil, err
	}
	spec, err := openAPI()
	if err != nil {
		return nil, err
	}
	api, err := apiPage(spec)
	return map[string][]byte{"cli.md": cli, "exit-codes.md": exitPage(), "config.md": configPage(), "openapi.json": spec, "api.md": api}, err
}

const generated = "<!-- Written by the program: make docs. Do not edit. -->\n\n"

// cliPage is every command's help on one page.
func cliPage(root *cobra.Command) ([]byte, error) {
	var b, body bytes.Buffer
	b.WriteString("# Commands\n\n" + generated)
	b.WriteString("What `bitgram COMMAND --help` prints, on one page. Every command also takes the [global flags](#global-flags).\n\n")
	err := visible(root, func(c *cobra.Command) error {
		path := c.CommandPath()
		if c == root {
			return nil
		}
		fmt.Fprintf(&b, "%s- [%s](#%s): %s\n", strings.Repeat("  ", strings.Count(path, " ")-1), path, strings.ReplaceAll(path, " ", "-"), c.Short)
		var page bytes.Buffer
		if err := doc.GenMarkdownCustom(c, &page, func(s string) string { return s }); err != nil {
			return err
		}
		text := page.String()
		for _, from := range []string{"### Options inherited from parent commands\n", "### SEE ALSO\n"} {
			text, _, _ = strings.Cut(text, from) // the first comes before the second, and both are last
		}
		text = strings.NewReplacer("### Synopsis\n\n", "", "### Options\n\n", "").Replace(text)
		body.WriteString(strings.TrimRight(text, "\n") + "\n\n")
		return nil
	})
	fmt.Fprintf(&b, "\n## Global flags\n\n```\n%s```\n\n", root.PersistentFlags().FlagUsages())
	b.Write(bytes.TrimRight(body.Bytes(), "\n"))
	b.WriteByte('\n')
	return b.Bytes(), err
}

// exitMeanings says what the exit codes tell a script.
var exitMeanings = []struct {
	exit int
	text string
}{
	{exitDone, "done"},
	{exitFailed, "failed"},
	{exitUsage, "wrong usage or bad input"},
	{exitUnknown, "no such message, agent, name, bank or transaction"},
	{exitMoney, "not enough money, or a price above the limit"},
	{exitNobody, "nobody answered in time, or too few agents"},
	{exitCheated, "a peer cheated; the proof is kept"},
	{exitInterrupted, "interrupted"},
}

// exitPage is the table of errors.
func exitPage() []byte {
	var b bytes.Buffer
	b.WriteString("# Exit codes and errors\n\n" + generated)
	b.WriteString("| exit code | meaning |\n|---|---|\n")
	for _, m := range exitMeanings {
		fmt.Fprintf(&b, "| %d | %s |\n", m.exit, m.text)
	}
	b.WriteString("\nAn error says what is wrong and, in a hint, what to do. With `--json` it is the last line:\n\n" +
		"```json\n{\"type\":\"error\",\"code\":\"no_home\",\"message\":\"…\",\"hint\":\"…\"}\n```\n\n" +
		"`go run` replaces every exit code but 0 by 1: build the program to see them.\n\n" +
		"## Codes\n\nThe API uses the same codes; a row without an error is of the daemon, which says what went wrong. Compare the code,\n" +
		"never the message.\n\n" +
		"| code | exit code | error | hint |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace
	var rows []string
	for _, r := range errorTable {
		text := ""
		if r.is != nil {
			text = cell(r.is.Error())
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %d | %s | %s |\n", r.code, r.exit, text, cell(r.hint)))
	}
	slices.Sort(rows)
	rows = slices.Compact(rows)
	b.WriteString(strings.Join(rows, ""))
	return b.Bytes()
}

// configPage is the keys of config.toml.
func configPage() []byte {
	var b bytes.Buffer
	b.WriteString("# config.toml\n\n" + generated)
	b.WriteString("`bitgram init` writes `config.toml` into the home, with every key commented out. The keys are the flags of\n" +
		"`bitgram up`; a flag on the command line takes precedence. An unknown key is an error.\n\n" +
		"| key | type | default | meaning |\n|---|---|---|---|\n")
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SortFlags = false
	new(upOptions).flags(f)
	types := map[string]string{"stringSlice": "list of strings", "float64": "number", "int": "integer", "int64": "integer", "uint32": "integer", "bool": "true or false"}
	f.VisitAll(func(fl *pflag.Flag) {
		if fl.Hidden {
			return
		}
		def := ""
		if fl.DefValue != "" && fl.DefValue != "[]" {
			def = "`" + fl.DefValue + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", fl.Name, cmp.Or(types[fl.Value.Type()], fl.Value.Type()), def, strings.ReplaceAll(fl.Usage, "|", `\|`))
	})
	return b.Bytes()
}

// answer is an http.ResponseWriter that keeps what is written.
type answer struct {
	bytes.Buffer
	status int
	header http.Header
}

func (a *answer) Header() http.Header    { return a.header }
func (a *answer) WriteHeader(status int) { a.status = status }

// openAPI is the daemon's own description of its API.
func openAPI() ([]byte, error) {
	const token = "none"
	s := web.New(web.Config{Version: "v1", Network: wire.Regtest, Token: token, Log: slog.New(slog.DiscardHandler)})
	r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1/openapi.json", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	w := &answer{status: http.StatusOK, header: http.Header{}}
	s.ServeHTTP(w, r)
	if w.status != http.StatusOK {
		return nil, fmt.Errorf("the API's description: status %d: %s", w.status, w.Bytes())
	}
	var b bytes.Buffer
	if err := json.Indent(&b, w.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n'), nil
}

// apiPage lists the operations of an OpenAPI description.
func apiPage(spec []byte) ([]byte, error) {
	var d struct {
		Paths map[string]map[string]struct {
			Summary    string
			Parameters []struct{ Name, In string }
		}
	}
	if err := json.Unmarshal(spec, &d); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("# The daemon's API\n\n" + generated)
	b.WriteString("HTTP with JSON on a loopback port: [programs](../guides/programs.md) has a session with curl. Its address is in\n" +
		"`api.json` in the home, its token in `api.token`. The daemon describes it at `/openapi.json`;\n" +
		"[openapi.json](openapi.json) is that description. Errors have the codes of [exit codes](exit-codes.md#codes).\n\n" +
		"| method | path | query | what it does |\n|---|---|---|---|\n")
	var paths []string
	for p := range d.Paths {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		for _, m := range []string{"get", "post", "put", "patch", "delete"} {
			op, ok := d.Paths[p][m]
			if !ok {
				continue
			}
			var query []string
			for _, q := range op.Parameters {
				if q.In == "query" {
					query = append(query, "`"+q.Name+"`")
				}
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", strings.ToUpper(m), p, strings.Join(query, ", "), op.Summary)
		}
	}
	b.WriteString("| GET | `/metrics` | | Figures for Prometheus |\n| GET | `/health` | | 200 if all is well, 503 if not; needs no token |\n")
	return b.Bytes(), nil
}
