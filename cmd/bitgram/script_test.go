package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// patience is how long a script waits for something that will happen: far longer
// than a slow machine needs.
const patience = 4 * time.Minute

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"bitgram": main,
	})
}

// TestScripts runs the command as its users do; each file is one session.
//
// Of those that need a network of processes the full tier plays one, chosen by
// the sample's seed. What comes after "[!nightly] stop" in a script belongs to
// the nightly tier.
func TestScripts(t *testing.T) {
	tier.NotShort(t)
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	// Those that run networks or compile guests take ten seconds of CPU each.
	long := slices.DeleteFunc(slices.Clone(files), func(f string) bool {
		return slices.Contains([]string{"testdata/errors.txt", "testdata/home.txt"}, f)
	})
	files = slices.DeleteFunc(files, func(f string) bool { return slices.Contains(long, f) })
	for _, i := range tier.NewSample(t).Choose(len(long), 2) {
		files = append(files, long[i])
	}
	condition := func(name string) (bool, error) {
		if name == "nightly" {
			return tier.Nightly, nil
		}
		return false, fmt.Errorf("no condition %q", name)
	}
	testscript.Run(t, testscript.Params{Files: files, Condition: condition, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		// exits CODE COMMAND…: the command ends with this very code.
		"exits": func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) < 2 {
				ts.Fatalf("usage: exits CODE COMMAND [ARG …]")
			}
			err := ts.Exec(args[1], args[2:]...)
			code := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			} else {
				ts.Check(err)
			}
			if strconv.Itoa(code) != args[0] {
				ts.Fatalf("exit %d, wanted %s", code, args[0])
			}
		},
		// eventually PATTERN COMMAND…: sooner or later the command succeeds and
		// prints what the pattern matches.
		"eventually": func(ts *testscript.TestScript, neg bool, args []string) {
			pattern := regexp.MustCompile(args[0])
			var err error
			for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
				if err = ts.Exec(args[1], args[2:]...); err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
					return
				}
			}
			ts.Fatalf("not within %v (%v)", patience, err)
		},
		// guest NAME: builds one of guest/examples as NAME.wasm.
		"guest": func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) != 1 {
				ts.Fatalf("usage: guest NAME")
			}
			c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", ts.MkAbs(args[0]+".wasm"), "../../guest/examples/"+args[0])
			c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
			if out, err := c.CombinedOutput(); err != nil {
				ts.Fatalf("%v: %s", err, out)
			}
		},
		// field NAME KEY: the environment variable is that member of the last
		// line of JSON that was printed.
		"field": func(ts *testscript.TestScript, neg bool, args []string) {
			if len(args) != 2 {
				ts.Fatalf("usage: field NAME KEY")
			}
			lines := strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
			var v map[string]any
			ts.Check(json.Unmarshal([]byte(lines[len(lines)-1]), &v))
			if v[args[1]] == nil {
				ts.Fatalf("no %s in %v", args[1], v)
			}
			ts.Setenv(args[0], fmt.Sprint(v[args[1]]))
		},
	}})
}
