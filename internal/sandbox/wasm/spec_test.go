package wasm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	_ "github.com/bitgram/bitgram/internal/sandbox/wasm" // for the interpreter's ceiling
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

// specDir is where wazero's module keeps the WebAssembly specification's tests
// in binary form.
var specDir = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	return filepath.Join(strings.TrimSpace(string(out)), "internal/integration_test/spectest"), err
})

type specValue struct {
	Type  string `json:"type"`
	Lane  string `json:"lane_type"`
	Value any    `json:"value"`
}

type specCommand struct {
	Type     string `json:"type"`
	Line     int    `json:"line"`
	Name     string `json:"name"`
	Filename string `json:"filename"`
	Kind     string `json:"module_type"`
	Text     string `json:"text"`
	Action   struct {
		Type   string      `json:"type"`
		Field  string      `json:"field"`
		Module string      `json:"module"`
		Args   []specValue `json:"args"`
	} `json:"action"`
	Expected []specValue `json:"expected"`
}

// specEngine is one engine with the module that stands.
type specEngine struct {
	rt  wazero.Runtime
	mod api.Module
}

func specImports(module, name string) (rewrite.Signature, bool) {
	s, ok := map[string]rewrite.Signature{"print": ":", "print_i32": "i:", "print_i64": "l:", "print_f32": "f:", "print_f64": "d:", "print_i32_f32": "if:", "print_f64_f64": "dd:"}[name]
	return s, ok && module == "spectest"
}

func newSpecEngine(ctx context.Context, t *testing.T, c wazero.RuntimeConfig) *specEngine {
	t.Helper()
	rt := wazero.NewRuntimeWithConfig(ctx, c.WithMemoryLimitPages(1<<16))
	b := rt.NewHostModuleBuilder("spectest")
	for _, name := range []string{"print", "print_i32", "print_i64", "print_f32", "print_f64", "print_i32_f32", "print_f64_f64"} {
		sig, _ := specImports("spectest", name)
		var params []api.ValueType
		for _, c := range strings.TrimSuffix(string(sig), ":") {
			params = append(params, map[rune]api.ValueType{'i': api.ValueTypeI32, 'l': api.ValueTypeI64, 'f': api.ValueTypeF32, 'd': api.ValueTypeF64}[c])
		}
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) {}), params, nil).Export(name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close(ctx) })
	return &specEngine{rt: rt}
}

const specFuel = 1 << 40

// load instantiates a rewritten module and runs its start function.
func (e *specEngine) load(ctx context.Context, m *rewrite.Module) error {
	if e.mod != nil {
		e.mod.Close(ctx)
		e.mod = nil
	}
	mod, err := e.rt.InstantiateWithConfig(ctx, m.Binary, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return err
	}
	e.mod = mod
	e.set(rewrite.FuelExport, specFuel)
	e.set(rewrite.PagesExport, uint64(m.MaxPages))
	if m.Start {
		_, err = mod.ExportedFunction(rewrite.StartExport).Call(ctx)
	}
	return err
}

func (e *specEngine) set(name string, v uint64) {
	e.mod.ExportedGlobal(name).(api.MutableGlobal).Set(v)
}

func (e *specEngine) fuel() int64 { return int64(e.mod.ExportedGlobal(rewrite.FuelExport).Get()) }

// call returns the results and the fuel used; after a trap the depth is set
// back, as a real host would not go on at all.
func (e *specEngine) call(ctx context.Context, field string, args []uint64) ([]uint64, int64, error) {
	f := e.mod.ExportedFunction(field)
	if f == nil {
		return nil, 0, fmt.Errorf("no function %q", field)
	}
	before := e.fuel()
	out, err := f.Call(ctx, args...)
	if err != nil {
		e.set(rewrite.DepthExport, rewrite.DepthBudget)
	} else if d := e.mod.ExportedGlobal(rewrite.DepthExport).Get(); d != rewrite.DepthBudget {
		return nil, 0, fmt.Errorf("the depth is %d afterwards", int32(d))
	}
	return out, before - e.fuel(), err
}

func (v specValue) bits() ([]uint64, error) {
	one := func(s, typ string) (uint64, error) {
		bits := 64
		if strings.HasSuffix(typ, "32") {
			bits = 32
		} else if strings.HasSuffix(typ, "16") {
			bits = 16
		} else if strings.HasSuffix(typ, "i8") {
			bits = 8
		}
		switch {
		case strings.HasPrefix(s, "nan:"):
			// What is canonical here is so after any arithmetic.
			if bits == 32 {
				return 0x7fc00000, nil
			}
			return 0x7ff8000000000000, nil
		case strings.HasPrefix(s, "-"):
			n, err := strconv.ParseInt(s, 10, 64)
			return uint64(n) & (math.MaxUint64 >> (64 - bits)), err
		}
		return strconv.ParseUint(s, 10, bits)
	}
	if v.Type == "v128" {
		if v.Value == nil {
			return []uint64{0, 0}, nil // of a trap
		}
		lanes := v.Value.([]any)
		out := make([]uint64, 2)
		width := 128 / len(lanes)
		for i, l := range lanes {
			n, err := one(l.(string), v.Lane)
			if err != nil {
				return nil, err
			}
			out[i*width/64] |= n << (i * width % 64)
		}
		return out, nil
	}
	s, _ := v.Value.(string)
	if s == "" || s == "null" {
		return []uint64{0}, nil
	}
	if v.Type == "externref" {
		n, err := strconv.ParseUint(s, 10, 64)
		return []uint64{n + 1}, err
	}
	n, err := one(s, v.Type)
	return []uint64{n}, err
}

// masks are the bits of each result that count: an engine may leave anything
// above an i32.
func masks(list []specValue) (out []uint64) {
	for _, v := range list {
		switch v.Type {
		case "v128":
			out = append(out, math.MaxUint64, math.MaxUint64)
		case "i32", "f32":
			out = append(out, math.MaxUint32)
		default:
			out = append(out, math.MaxUint64)
		}
	}
	return out
}

func allBits(list []specValue) (out []uint64, err error) {
	for _, v := range list {
		b, err := v.bits()
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

// TestSpec runs the WebAssembly specification's tests through the rewriter, in
// both engines: results as the specification wants them, every NaN of
// arithmetic canonical, and the same fuel. The nightly tier runs all files, the full
// one a sample.
func TestSpec(t *testing.T) {
	t.Parallel()
	tier.NotShort(t)
	if tier.Race {
		t.Skip("two engines over thousands of modules are slow under the race detector")
	}
	dir, err := specDir()
	if err != nil {
		t.Fatal(err)
	}
	var total specCount
	files, err := filepath.Glob(filepath.Join(dir, "v2/testdata/*.json"))
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files in %s (%v)", len(files), dir, err)
	}
	sample := tier.NewSample(t)
	for _, i := range sample.Choose(len(files), 15) {
		f := files[i]
		t.Run(strings.TrimSuffix(filepath.Base(f), ".json"), func(t *testing.T) { total.add(specFile(t, f)) })
	}
	t.Logf("%d modules, %d calls, %d refused to be wrong, %d modules that import or write what is not taken", total.modules, total.calls, total.invalid, total.refused)
	if !tier.Nightly {
		return
	}
	if total.modules < 900 || total.calls < 20_000 || total.invalid < 1500 || total.refused > 400 {
		t.Error("fewer than the specification has")
	}
}

type specCount struct{ modules, calls, invalid, refused int }

func (c *specCount) add(d specCount) {
	c.modules, c.calls, c.invalid, c.refused = c.modules+d.modules, c.calls+d.calls, c.invalid+d.invalid, c.refused+d.refused
}

func specFile(t *testing.T, path string) (n specCount) {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Commands []specCommand }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	engines := []*specEngine{newSpecEngine(ctx, t, wazero.NewRuntimeConfigCompiler()), newSpecEngine(ctx, t, wazero.NewRuntimeConfigInterpreter())}
	stands := false // the last module is one of ours
	for _, c := range file.Commands {
		at := fmt.Sprintf("%s:%d", filepath.Base(path), c.Line)
		var bin []byte
		if strings.HasSuffix(c.Filename, ".wasm") {
			if bin, err = os.ReadFile(filepath.Join(filepath.Dir(path), c.Filename)); err != nil {
				t.Fatal(err)
			}
		}
		switch c.Type {
		case "module":
			m, err := rewrite.Rewrite(bin, specImports)
			if stands = err == nil; !stands {
				if !errors.Is(err, rewrite.ErrRefused) && !errors.Is(err, rewrite.ErrImport) && !errors.Is(err, rewrite.ErrTooLarge) {
					t.Errorf("%s: %v", at, err)
				}
				n.refused++
				continue
			}
			n.modules++
			for _, e := range engines {
				if err := e.load(ctx, m); err != nil {
					t.Errorf("%s: %v", at, err)
					stands = false
				}
			}
		case "assert_invalid", "assert_malformed":
			if bin == nil {
				continue // text
			}
			m, err := rewrite.Rewrite(bin, specImports)
			if err == nil {
				_, err = engines[0].rt.CompileModule(ctx, m.Binary)
			}
			if err == nil {
				t.Errorf("%s: %s is taken", at, c.Text)
			}
			n.invalid++
		case "assert_return", "action", "assert_trap", "assert_exhaustion":
			if !stands || c.Action.Type != "invoke" || c.Action.Module != "" {
				continue
			}
			n.calls++
			specCall(ctx, t, at, &c, engines)
		}
	}
	return n
}

func specCall(ctx context.Context, t *testing.T, at string, c *specCommand, engines []*specEngine) {
	t.Helper()
	args, err := allBits(c.Action.Args)
	if err != nil {
		t.Fatal(at, err)
	}
	want, err := allBits(c.Expected)
	if err != nil {
		t.Fatal(at, err)
	}
	mask := masks(c.Expected)
	var fuels []int64
	for i, e := range engines {
		got, fuel, err := e.call(ctx, c.Action.Field, args)
		fuels = append(fuels, fuel)
		if trap := strings.HasPrefix(c.Type, "assert_trap") || c.Type == "assert_exhaustion"; trap != (err != nil) {
			t.Errorf("%s: engine %d: %s: %v, wanted a trap: %v (%s)", at, i, c.Action.Field, err, trap, c.Text)
			continue
		}
		if c.Type == "assert_return" {
			for k := range got {
				// neg turns a canonical NaN's sign, which the specification leaves open.
				diff := (got[k] ^ want[k]) & mask[k]
				if diff != 0 && (diff != 1<<63 || !strings.HasSuffix(c.Action.Field, "neg_canon")) {
					t.Errorf("%s: engine %d: %s(%x) = %x, wanted %x", at, i, c.Action.Field, args, got, want)
					break
				}
			}
		}
	}
	if fuels[0] != fuels[1] {
		t.Errorf("%s: %s: fuel %d compiled, %d interpreted", at, c.Action.Field, fuels[0], fuels[1])
	}
}
