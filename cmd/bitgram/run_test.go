package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tiny is a command whose _start has this code. It may call proc_exit, function 0.
func tiny(code string) []byte {
	body := "\x00" + code + "\x0b"
	return []byte("\x00asm\x01\x00\x00\x00" + "\x01\x08\x02\x60\x01\x7f\x00\x60\x00\x00" +
		"\x02\x24\x01\x16wasi_snapshot_preview1\x09proc_exit\x00\x00" + "\x03\x02\x01\x01" + "\x05\x03\x01\x00\x01" +
		"\x07\x13\x02\x06_start\x00\x01\x06memory\x02\x00" + "\x0a" + string([]byte{byte(len(body) + 2), 1, byte(len(body))}) + body)
}

// TestRunEnds: the command ends with the program's exit code and shows its figures,
// a failure is compared like any other result, and nothing is kept outside the home.
func TestRunEnds(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "user"))
	home := filepath.Join(dir, "home")
	write := func(name, code string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, tiny(code), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	seven, crash, large := write("seven", "\x41\x07\x10\x00"), write("crash", "\x41\x01\x41\x00\x6d\x1a"), write("large", "\x41\x80\x06\x10\x00")
	for _, c := range []struct {
		args []string
		exit int
		says []string
	}{
		{[]string{"run", seven}, 7, []string{"\nfuel     ", "exit code 7"}},
		{[]string{"run", seven, "--json"}, 7, []string{`"type":"summary"`, `"exit":7`, `"fuel":`}},
		{[]string{"run", seven, "--compare"}, 7, []string{"compared 3 runs", "exit code 7"}},
		{[]string{"run", large}, exitFailed, []string{"exit code 768"}},
		{[]string{"run", crash}, exitFailed, []string{"divide by zero"}},
		{[]string{"run", crash, "--compare"}, exitFailed, []string{"divide by zero", "3 runs, compiled and interpreted, are equal"}},
		{[]string{"run", filepath.Join(dir, "nothing")}, exitUsage, []string{"cannot read the program"}},
	} {
		var out bytes.Buffer
		if exit := run(t.Context(), append([]string{"--home", home}, c.args...), strings.NewReader(""), &out, &out); exit != c.exit {
			t.Errorf("%v: exit code %d, wanted %d: %s", c.args, exit, c.exit, &out)
		}
		for _, s := range c.says {
			if !strings.Contains("\n"+out.String(), s) {
				t.Errorf("%v: no %q in %s", c.args, s, &out)
			}
		}
	}
	if kept, _ := filepath.Glob(filepath.Join(home, "cache", "wasm", "modules-*", "*")); len(kept) != 3 {
		t.Errorf("%d programs are kept under the home", len(kept))
	}
	if _, err := os.Stat(filepath.Join(dir, "user")); err == nil {
		t.Error("something is kept in the user's cache")
	}
}
