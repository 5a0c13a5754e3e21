package wasm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox/wasm"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

var update = flag.Bool("update", false, "write spec/fuel.md anew")

// TestFuelPage: spec/fuel.md is what the code charges.
func TestFuelPage(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Fuel\n\nWritten by the code (`make vectors`), which a test compares. How it is charged: [runtime.md](runtime.md) §2. One fuel is one `i32.add`.\n\n")
	rewrite.PrintCosts(&b)
	b.WriteString("\n## Calls to the host\n\nTypes are those of parameters and results, a letter for each: i `i32`, l `i64`.\n")
	wasm.PrintHost(&b)
	const path = root + "/spec/fuel.md"
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page, b.Bytes()) {
		t.Error("spec/fuel.md is not what the code charges: 'make vectors', and another CostVersion")
	}
}

// TestVersion: what a module is rewritten to has changed only if its version
// has: caches and nodes go by it.
func TestVersion(t *testing.T) {
	h := sha256.New()
	list := hostiles()
	slices.SortFunc(list, func(a, b hostile) int { return strings.Compare(a.name, b.name) })
	for _, s := range list {
		m, err := rewrite.Rewrite(s.m.bytes(), wasm.HostFunction)
		if err != nil {
			t.Fatal(s.name, err)
		}
		h.Write(m.Binary)
	}
	got := hex.EncodeToString(h.Sum(nil))[:16]
	want := map[string]string{"1": "225500551ed7167f"}[rewrite.Version]
	if got != want {
		t.Errorf("version %s rewrites to %s, it stands for %q: change rewrite.Version", rewrite.Version, got, want)
	}
}

// TestWazeroVersion: what is compiled is kept under the version that did it.
func TestWazeroVersion(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != wasm.WazeroVersion {
		t.Errorf("go.mod has wazero %s, the cache is named for %s", got, wasm.WazeroVersion)
	}
}
