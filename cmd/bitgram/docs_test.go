package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

var updateDocs = flag.Bool("update", false, "write docs/reference anew")

// A block of a Markdown file. What comes after the language says how a block of
// commands is run:
//
//	sh               in the document's session, on a devnet
//	sh devnet        the command that starts the devnet, once for all documents
//	sh repo          in the root of the repository; $SCRATCH is a directory of the test's
//	sh norun REASON  not at all
//	text figures     what the program prints: compared, see TestDocs
type block struct {
	file string
	line int
	info []string
	text string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

func (b block) is(info ...string) bool {
	return slices.Equal(b.info[:min(len(b.info), len(info))], info)
}

const repo = "../.."

// documents are the pages whose commands are run. The reference is written by
// the program: it has usage lines, no sessions.
func documents(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"}
	err := fs.WalkDir(os.DirFS(repo), "docs", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && path == "docs/reference" {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var fence = regexp.MustCompile("^( *)```(.*)$")

func blocks(t *testing.T, file string) (list []block) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(repo, file))
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	for i, line := range strings.Split(string(raw), "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case m != nil && open == nil:
			open = &block{file: file, line: i + 1, info: strings.Fields(m[2])}
		case m != nil:
			list, open = append(list, *open), nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Fatalf("%v: the block is not closed", open)
	}
	return list
}

// TestDocBlocks: every block says what it is, commands and keys exist, and no
// link leads nowhere.
func TestDocBlocks(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(upOptions).flags(flags)
	for _, file := range documents(t) {
		for _, b := range blocks(t, file) {
			switch {
			case len(b.info) == 0 || !slices.Contains([]string{"sh", "json", "toml", "ini", "text"}, b.info[0]):
				t.Errorf("%v: which language? A block of commands begins with ```sh", b)
			case b.is("sh"):
				if len(b.info) > 1 && !slices.Contains([]string{"devnet", "repo", "norun"}, b.info[1]) {
					t.Errorf("%v: sh %s", b, b.info[1])
				}
				if b.is("sh", "norun") && len(b.info) < 4 {
					t.Errorf("%v: norun without a reason", b)
				}
				checkCommands(t, b)
			case b.is("toml"):
				var values map[string]any
				if err := toml.Unmarshal([]byte(b.text), &values); err != nil {
					t.Errorf("%v: %v", b, err)
				}
				for key, v := range values {
					if fl := flags.Lookup(key); fl == nil {
						t.Errorf("%v: no key %q", b, key)
					} else if _, list := v.([]any); !list {
						if err := fl.Value.Set(fmt.Sprint(v)); err != nil {
							t.Errorf("%v: %s: %v", b, key, err)
						}
					}
				}
			case b.is("json"):
				if !json.Valid([]byte(b.text)) {
					t.Errorf("%v: not JSON", b)
				}
			}
		}
	}
}

// checkCommands: the commands and flags of a block exist, also where it is not
// run.
func checkCommands(t *testing.T, b block) {
	t.Helper()
	a := &app{ctx: t.Context(), in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	for _, part := range strings.FieldsFunc(b.text, func(r rune) bool { return strings.ContainsRune("\n|;&()", r) }) {
		words := strings.Fields(part)
		if len(words) > 3 && words[0] == "sudo" && words[1] == "-u" {
			words = words[3:]
		}
		if len(words) == 0 || words[0] != "bitgram" {
			continue
		}
		words = words[1:]
		if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "#") }); i >= 0 {
			words = words[:i]
		}
		root := a.plainRoot()
		c, rest, err := root.Find(words)
		if err != nil || c == root && !slices.Contains(words, "--version") {
			t.Errorf("%v: %q: no such command (%v)", b, strings.TrimSpace(part), err)
			continue
		}
		c.InitDefaultHelpFlag()
		for _, w := range rest {
			name, _, _ := strings.Cut(w, "=")
			if long, ok := strings.CutPrefix(name, "--"); ok && c.Flag(long) == nil {
				t.Errorf("%v: %s has no flag --%s", b, c.CommandPath(), long)
			}
		}
	}
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	code     = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	linked   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	unlinked = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	// A formula such as H[find](φ) looks like a link.
	relative = regexp.MustCompile(`^[\w/.-]*[/.][\w/.-]*(#.*)?$|^#`)
)

// anchor is the fragment that GitHub gives a heading.
func anchor(h string) string {
	h = linked.ReplaceAllString(strings.TrimSpace(h), "$1")
	h = unlinked.ReplaceAllString(strings.ToLower(h), "")
	return strings.ReplaceAll(h, " ", "-")
}

// TestDocLinks: relative links of all Markdown files lead to files, and their
// fragments to headings.
func TestDocLinks(t *testing.T) {
	read := func(path string) string {
		raw, err := os.ReadFile(filepath.Join(repo, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	var files []string
	err := fs.WalkDir(os.DirFS(repo), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "testdata" || path != "." && strings.HasPrefix(d.Name(), ".") && d.Name() != ".github" || path == "dist") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text := code.ReplaceAllString(read(file), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if !relative.MatchString(m[1]) {
				continue // a formula, or another site
			}
			target, fragment, _ := strings.Cut(m[1], "#")
			to := file
			if target != "" {
				to = filepath.Join(filepath.Dir(file), target)
			}
			if _, err := os.Stat(filepath.Join(repo, to)); err != nil {
				t.Errorf("%s: %s leads nowhere", file, m[1])
				continue
			}
			if fragment == "" || !strings.HasSuffix(to, ".md") {
				continue
			}
			found := false
			for _, h := range heading.FindAllStringSubmatch(read(to), -1) {
				found = found || anchor(h[1]) == fragment
			}
			if !found {
				t.Errorf("%s: %s has no heading #%s", file, to, fragment)
			}
		}
	}
}

// TestReadmeIsShort: whoever opens the door reads it to the end.
func TestReadmeIsShort(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(repo, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Fields(string(raw))); n >= 900 {
		t.Errorf("README.md has %d words; it has to stay under 900", n)
	}
}

// TestReferenceIsCurrent: docs/reference says what the program says. -update
// writes it anew.
func TestReferenceIsCurrent(t *testing.T) {
	a := &app{ctx: t.Context(), in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	files, err := referencePages(a.plainRoot())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(repo, "docs", "reference")
	if *updateDocs {
		if err := writeFiles(dir, files); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/reference/%s is not what the program writes: make docs (%v)", name, err)
		}
	}
	for _, r := range errorTable {
		if !slices.ContainsFunc(exitMeanings, func(m struct {
			exit int
			text string
		}) bool {
			return m.exit == r.exit
		}) {
			t.Errorf("exit code %d has no meaning in docs/reference/exit-codes.md", r.exit)
		}
	}
}

// TestManPages: a page for each command, the same at the same date, that starts
// as a man page does.
func TestManPages(t *testing.T) {
	a := &app{ctx: t.Context(), in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	date := time.Unix(1_700_000_000, 0).UTC()
	pages, err := manPages(a.plainRoot(), date)
	if err != nil {
		t.Fatal(err)
	}
	again, err := manPages(a.plainRoot(), date)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bitgram.1", "bitgram-send.1", "bitgram-bank-open.1"} {
		if !bytes.Contains(pages[name], []byte(".SH SYNOPSIS")) || !bytes.Contains(pages[name], []byte("Nov 2023")) {
			t.Errorf("%s:\n%s", name, pages[name])
		}
	}
	for name := range pages {
		if !bytes.Equal(pages[name], again[name]) {
			t.Errorf("%s differs when it is written twice", name)
		}
	}
	scripts, err := completionScripts(a.plainRoot())
	for name, script := range scripts {
		if err != nil || !bytes.Contains(script, []byte("bitgram")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// shells are those in which README's session runs. In CI all of them have to be
// there.
func shells(t *testing.T) (list []string) {
	for _, sh := range []string{"bash", "zsh", "fish"} {
		if _, err := exec.LookPath(sh); err == nil {
			list = append(list, sh)
		} else if os.Getenv("CI") != "" {
			t.Errorf("%v; in CI README's session runs in it", err)
		} else {
			t.Logf("README's session is not tried in %s: %v", sh, err)
		}
	}
	return list
}

// TestDocs runs the blocks of commands in README.md and docs/ on one devnet, and
// README's session in each shell: twice in bash, and in the nightly tier in all of
// them. In the full tier, README's and those of two other documents run: one that needs
// a devnet, and one that does not.
func TestDocs(t *testing.T) {
	tier.NotShort(t)
	home := t.TempDir()
	env := append(os.Environ(), "HOME="+home, "BITGRAM_HOME=", "ZDOTDIR="+home, "XDG_CONFIG_HOME="+home)
	for _, name := range []string{"GOPATH", "GOMODCACHE", "GOCACHE", "GOENV"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(out)))
	}
	run := func(t *testing.T, dir, sh, text string, more ...string) string {
		t.Helper()
		args := map[string][]string{"bash": {"-e", "-o", "pipefail", "-c"}, "zsh": {"-e", "-o", "pipefail", "-c"}, "fish": {"-c"}}[sh]
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		c := exec.CommandContext(ctx, sh, append(args, text)...)
		c.Dir, c.Env = dir, append(env, more...)
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		err := c.Run()
		t.Logf("%s:\n%s-----\n%s%s", sh, text, out.Bytes(), errs.Bytes())
		if err != nil {
			t.Fatalf("%v", err)
		}
		return out.String()
	}

	var readme, onDevnet, network []block
	anywhere := map[string][]block{} // by file
	for _, file := range documents(t) {
		all := blocks(t, file)
		for i, b := range all {
			switch {
			case b.is("sh", "norun"):
				if out, err := exec.Command("bash", "-n", "-c", b.text).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", b, out)
				}
			case b.is("sh", "devnet"):
				network = append(network, b)
			case b.is("sh", "repo"):
				anywhere[file] = append(anywhere[file], b)
				if i+1 < len(all) && all[i+1].is("text", "figures") {
					anywhere[file] = append(anywhere[file], all[i+1])
				}
			case b.is("sh") && file == "README.md":
				readme = append(readme, b)
			case b.is("sh") && (strings.Contains(b.text, "devnet") || slices.ContainsFunc(onDevnet, func(o block) bool { return o.file == file })):
				onDevnet = append(onDevnet, b)
			case b.is("sh"):
				anywhere[file] = append(anywhere[file], b)
			}
		}
	}
	if len(readme) == 0 || len(network) == 0 {
		t.Fatalf("README has %d blocks to run, and there are %d that start a devnet", len(readme), len(network))
	}
	for _, b := range network {
		if b.text != network[0].text {
			t.Errorf("%v starts another devnet than %v", b, network[0])
		}
	}

	// README's own are always run, one of the other documents' in the full tier.
	sample := tier.NewSample(t)
	var others, chosen []string
	for file := range anywhere {
		if file != "README.md" {
			others = append(others, file)
		}
	}
	slices.Sort(others)
	for _, i := range sample.Choose(len(others), 1) {
		chosen = append(chosen, others[i])
	}
	for file, list := range anywhere {
		if file != "README.md" && !slices.Contains(chosen, file) {
			continue
		}
		t.Run(strings.ReplaceAll(file, "/", "-"), func(t *testing.T) {
			t.Parallel()
			scratch := t.TempDir()
			var said string
			for _, b := range list {
				switch {
				case b.is("text", "figures"):
					// They are those of one version of Go, which the text names.
					if said = comparable(said); strings.TrimSpace(b.text) != said {
						t.Errorf("%v: with %s it prints\n%s", b, runtime.Version(), said)
					}
				case b.is("sh", "repo"):
					said = run(t, repo, "bash", "exec 2>&1\n"+b.text, "SCRATCH="+scratch)
				default:
					said = run(t, scratch, "bash", b.text)
				}
			}
		})
	}

	t.Run("devnet", func(t *testing.T) {
		start(t, "exec "+strings.TrimSpace(network[0].text)+" --block-time 500ms", env)
		text := ""
		for _, b := range readme {
			text += b.text
		}
		for _, sh := range shells(t) {
			times := 1
			if sh == "bash" || tier.Nightly {
				times = 2
			}
			for i := range times {
				said := run(t, home, sh, text)
				if !regexp.MustCompile(`(?m)^state +delivered`).MatchString(said) || !strings.HasSuffix(said, "\nDear Bob, nobody else can read this.\n") {
					t.Errorf("%s, time %d: not delivered, or not read", sh, i+1)
				}
				ids := regexp.MustCompile(`(?m)^([0-9a-f]{32}) |^message +([0-9a-f]{32})$`).FindAllStringSubmatch(said, -1)
				if len(ids) != 2 || ids[0][1] != ids[1][2] {
					t.Errorf("%s, time %d: the message that was sent is not the one that was waited for: %v", sh, i+1, ids)
				}
			}
		}
		var sessions []string
		for _, b := range onDevnet {
			if !slices.Contains(sessions, b.file) {
				sessions = append(sessions, b.file)
			}
		}
		var chosen []string
		for _, i := range sample.Choose(len(sessions), 1) {
			chosen = append(chosen, sessions[i])
		}
		scratch := map[string]string{}
		for _, b := range onDevnet {
			if !slices.Contains(chosen, b.file) {
				continue
			}
			if scratch[b.file] == "" {
				scratch[b.file] = t.TempDir()
			}
			// Each document is one session: its "cd" counts for what follows.
			dir := scratch[b.file]
			said := run(t, dir, "bash", b.text+"\npwd\n")
			lines := strings.Split(strings.TrimSpace(said), "\n")
			scratch[b.file] = lines[len(lines)-1]
		}
	})
}

// comparable drops what differs from run to run: times, and progress.
func comparable(said string) string {
	var kept []string
	for _, line := range strings.Split(said, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// start runs a devnet until the test ends.
func start(t *testing.T, command string, env []string) {
	t.Helper()
	c := exec.Command("sh", "-c", command)
	c.Env = env
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	})
	ready := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "Ready") {
				ready <- nil
			}
		}
		ready <- errors.New("it ended before it was ready")
	}()
	select {
	case err := <-ready:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatalf("the network is not ready after %v", patience)
	}
}

// TestDemoFigures: the summary that docs/guides/demo.md shows has the members
// and the money of a real one.
func TestDemoFigures(t *testing.T) {
	tier.NotShort(t)
	var shown, real map[string]any
	for _, b := range blocks(t, "docs/guides/demo.md") {
		if b.is("json") {
			if err := json.Unmarshal([]byte(b.text), &shown); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"demo", "--json"}, strings.NewReader(""), &out, io.Discard); code != exitDone {
		t.Fatalf("exit code %d: %s", code, out.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &real); err != nil {
		t.Fatal(err)
	}
	for key, v := range shown {
		if _, ok := real[key]; !ok {
			t.Errorf("the summary has no %s", key)
		}
		if n, ok := v.(float64); ok && real[key] != n {
			t.Errorf("%s is %v in the document and %v in the summary", key, n, real[key])
		}
	}
	for key := range real {
		if _, ok := shown[key]; !ok {
			t.Errorf("the document does not show %s", key)
		}
	}
}
