package rewrite

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// seeds are modules of the specification's tests, which wazero's module has.
func seeds(f *testing.F) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		f.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "internal/integration_test/spectest/v2/testdata")
	n := 0
	for _, name := range []string{"address.0", "block.0", "br_table.0", "bulk.5", "call_indirect.0", "f32.0", "func.0", "global.1", "if.0", "loop.0", "memory_grow.0", "nop.0",
		"select.0", "simd_f32x4_arith.0", "simd_lane.0", "start.5", "switch.0", "traps.0", "unwind.0"} {
		if b, err := os.ReadFile(filepath.Join(dir, name+".wasm")); err == nil {
			f.Add(b)
			n++
		}
	}
	if n < 15 {
		f.Fatalf("%d seeds", n)
	}
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
}

func anyImport(string, string) (Signature, bool) { return ":", true }

// FuzzRewrite: no bytes make the rewriter panic; what it takes it takes again
// in the same way, and what comes out is a module that it would not take a
// second time, for its own names are in it.
func FuzzRewrite(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, bin []byte) {
		m, err := Rewrite(bin, anyImport)
		if err != nil {
			for _, kind := range []error{ErrNotWASM, ErrMalformed, ErrTooLarge, ErrRefused, ErrImport} {
				if errors.Is(err, kind) {
					return
				}
			}
			t.Fatalf("an error of no kind: %v", err)
		}
		again, err := Rewrite(bin, anyImport)
		if err != nil || !bytes.Equal(again.Binary, m.Binary) {
			t.Fatalf("the second time: %v", err)
		}
		if _, err := decode(m.Binary); !errors.Is(err, ErrRefused) {
			t.Fatalf("what came out: %v", err)
		}
	})
}
