package rewrite

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// TestExact: charging by the block takes the same fuel as charging each
// instruction for itself, wherever a function returns.
func TestExact(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "internal/integration_test/spectest/v2/testdata/*.0.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer rt.Close(ctx)
	returned, trapped := 0, 0
	for _, f := range files {
		if tier.Short() && !strings.HasSuffix(f, "block.0.wasm") && !strings.HasSuffix(f, "loop.0.wasm") {
			continue
		}
		bin, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		r, n := exactModule(ctx, t, rt, filepath.Base(f), bin)
		returned, trapped = returned+r, trapped+n
	}
	t.Logf("%d calls returned, %d trapped", returned, trapped)
	if !tier.Short() && (returned < 1500 || trapped < 20) {
		t.Error("too few to tell anything")
	}
}

func noImport(string, string) (Signature, bool) { return "", false }

// exactModule calls every function of a module that takes numbers.
func exactModule(ctx context.Context, t *testing.T, rt wazero.Runtime, name string, bin []byte) (returned, trapped int) {
	var mods []api.Module
	var exports map[string]Signature
	for _, single := range []bool{false, true} {
		m, err := decode(bin)
		if err != nil {
			return 0, 0
		}
		m.single = single
		rewritten, err := m.rewrite(noImport)
		if err != nil {
			return 0, 0
		}
		exports = rewritten.Functions
		mod, err := rt.InstantiateWithConfig(ctx, rewritten.Binary, wazero.NewModuleConfig().WithName("").WithStartFunctions())
		if err != nil {
			return 0, 0
		}
		defer mod.Close(ctx)
		mod.ExportedGlobal(PagesExport).(api.MutableGlobal).Set(100)
		mods = append(mods, mod)
	}
	names := make([]string, 0, len(exports))
	for n := range exports {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		params, _, _ := strings.Cut(string(exports[n]), ":")
		if strings.ContainsAny(string(exports[n]), "vr") {
			continue
		}
		for _, arg := range []uint64{0, 1, 3, 7} {
			args := slices.Repeat([]uint64{arg}, len(params))
			var used [2]int64
			var failed [2]bool
			for i, mod := range mods {
				const fuel = 1 << 24
				g := mod.ExportedGlobal(FuelExport).(api.MutableGlobal)
				g.Set(fuel)
				_, err := mod.ExportedFunction(n).Call(ctx, args...)
				used[i], failed[i] = fuel-int64(g.Get()), err != nil
				mod.ExportedGlobal(DepthExport).(api.MutableGlobal).Set(DepthBudget)
			}
			switch {
			case failed[0] != failed[1]:
				t.Errorf("%s: %s(%d): one of the two traps", name, n, arg)
			case failed[0]:
				trapped++
			case used[0] != used[1]:
				t.Errorf("%s: %s(%d) takes %d fuel by the block, %d each for itself", name, n, arg, used[0], used[1])
			default:
				returned++
			}
		}
	}
	return returned, trapped
}
