package main

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReadme runs the README's session of two people word for word: its first
// block in one terminal, the others in another.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("processes of a network are slow under the race detector")
	}
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(raw), -1)
	if len(blocks) != 4 {
		t.Fatalf("%d blocks of commands", len(blocks))
	}
	dir := t.TempDir()
	shell := func(text string) *exec.Cmd {
		cmd := exec.Command("sh", "-e", "-c", text)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "BITGRAM_HOME=")
		return cmd
	}
	network := shell("exec " + blocks[0][1])
	out, err := network.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	network.Stderr = os.Stderr
	if err := network.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = network.Process.Signal(os.Interrupt)
		if err := network.Wait(); err != nil {
			t.Error(err)
		}
	}()
	ready := make(chan bool)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "Ready") {
				close(ready)
			}
		}
	}()
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the network is not ready after a minute")
	}
	said, err := shell(blocks[1][1] + blocks[2][1] + blocks[3][1]).CombinedOutput()
	t.Logf("%s", said)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 agents hold it", "hello", "delivered", "signed that it received message", "paid  1000.500 sat of 1000.500 sat"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("%q is not said", want)
		}
	}
}
