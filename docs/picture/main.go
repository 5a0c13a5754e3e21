// Command picture runs README's session on a devnet of its own and draws what a
// terminal shows as an SVG:
//
//	go run ./docs/picture -o docs/session.svg
//
// Nothing in the picture is typed by hand: the commands are those of the README,
// the rest is what they printed.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"html"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

func main() {
	out := flag.String("o", "docs/session.svg", "where the picture goes")
	program := flag.String("bitgram", "", "the program; by default it is built")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *program); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		stop()
		os.Exit(1)
	}
}

// line is one line of the terminal; typed is what the user wrote.
type line struct {
	text  string
	typed bool
}

func run(ctx context.Context, out, program string) (err error) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		return fmt.Errorf("run it in the root of the repository: %w", err)
	}
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		return errors.New("README.md has no session")
	}
	dir, err := os.MkdirTemp("", "picture")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if program == "" {
		program = filepath.Join(dir, "bin", "bitgram")
		build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/bitgram")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return err
		}
	}
	if program, err = filepath.Abs(program); err != nil {
		return err
	}
	env := append(os.Environ(), "HOME="+dir, "BITGRAM_HOME=", "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	end, err := devnet(ctx, program, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()

	// One shell for all of it, as at a terminal. It says where each command's
	// output ends.
	const mark = "\x00"
	script := "exec 2>&1\n"
	commands := strings.Split(strings.TrimSpace(string(block[1])), "\n")
	for _, c := range commands {
		script += c + "\nprintf '\\0'\n"
	}
	shell := exec.CommandContext(ctx, "bash", "-e", "-c", script)
	shell.Env = env
	said, err := shell.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	outputs := strings.Split(string(said), mark)
	var lines []line
	for i, c := range commands {
		for j, l := range wrap("$ " + c) {
			if j > 0 {
				l = "  " + l
			}
			lines = append(lines, line{l, true})
		}
		for _, l := range strings.Split(strings.TrimRight(outputs[i], "\n"), "\n") {
			if l == "" {
				continue
			}
			for _, l := range wrap(l) {
				lines = append(lines, line{l, false})
			}
		}
	}
	return os.WriteFile(out, draw(lines), 0o644)
}

// devnet starts one and waits until it is ready.
func devnet(ctx context.Context, program string, env []string) (end func() error, err error) {
	c := exec.Command(program, "devnet")
	c.Env = env
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	end = func() error {
		_ = c.Process.Signal(os.Interrupt)
		return c.Wait()
	}
	ready := make(chan bool, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "Ready") {
				ready <- true
			}
		}
	}()
	select {
	case <-ready:
		return end, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(2 * time.Minute):
		err = errors.New("the devnet is not ready after two minutes")
	}
	return nil, errors.Join(err, end())
}

// Shape of the terminal, in characters and in the picture's units.
const (
	columns    = 96
	charWidth  = 8.4
	lineHeight = 20
	margin     = 18
	bar        = 34 // the window's title bar
)

// wrap breaks a line as a terminal does, but between words if there are any.
func wrap(s string) (lines []string) {
	for utf8.RuneCountInString(s) > columns {
		r := []rune(s)
		n := columns - 2
		if i := strings.LastIndex(string(r[:n]), " "); i > columns/2 {
			n = utf8.RuneCountInString(s[:i+1])
		}
		lines = append(lines, strings.TrimRight(string(r[:n]), " "))
		s = "  " + string(r[n:])
	}
	return append(lines, s)
}

func draw(lines []line) []byte {
	var b bytes.Buffer
	width, height := columns*charWidth+2*margin, float64(bar+len(lines)*lineHeight+margin)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img">`+"\n", width, height, width, height)
	b.WriteString("<title>A session with Bitgram on a devnet</title>\n")
	b.WriteString(`<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#c9d1d9;white-space:pre}.typed{fill:#7ee787}</style>` + "\n")
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" rx="8" fill="#0d1117"/>`+"\n", width, height)
	for i, colour := range []string{"#ff5f56", "#ffbd2e", "#27c93f"} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="17" r="6" fill="%s"/>`+"\n", 20+i*20, colour)
	}
	for i, l := range lines {
		class := ""
		if l.typed {
			class = ` class="typed"`
		}
		// textLength keeps the columns whatever font there is.
		text := strings.TrimRight(l.text, " ")
		fmt.Fprintf(&b, `<text x="%d" y="%d"%s textLength="%.1f" lengthAdjust="spacingAndGlyphs" xml:space="preserve">%s</text>`+"\n",
			margin, bar+(i+1)*lineHeight-5, class, float64(utf8.RuneCountInString(text))*charWidth, html.EscapeString(text))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
