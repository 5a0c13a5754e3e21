package wasm_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox"
)

const weightDir = "testdata/weight"

// weights are programs of weight in C, their sources in modules that
// testdata/weight/go.mod names.
var weights = []struct {
	name, module string
	flags        []string
	// sources are the module's own; nil: all but those of another build.
	sources []string
	args    []string
	script  bool
	output  string
}{
	{name: "sql", module: "github.com/mattn/go-sqlite3", sources: []string{"sqlite3-binding.c"}, args: []string{"6000"},
		flags: []string{"-DSQLITE_OS_OTHER=1", "-DSQLITE_THREADSAFE=0", "-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_OMIT_WAL", "-DSQLITE_OMIT_LOCALTIME", "-DSQLITE_TEMP_STORE=3"},
		output: "5143|"},
	{name: "js", module: "gopkg.in/olebedev/go-duktape.v3", sources: []string{"duktape.c"}, flags: []string{"-I."}, script: true, output: "10946\n"},
	{name: "compress", module: "github.com/DataDog/zstd", args: []string{"96"}, flags: []string{"-DDEBUGLEVEL=0", "-DZSTD_LEGACY_SUPPORT=0", "-DZSTD_NO_TRACE"},
		sources: strings.Fields("debug.c entropy_common.c error_private.c fse_compress.c fse_decompress.c hist.c huf_compress.c huf_decompress.c xxhash.c zstd_common.c zstd_compress.c " +
			"zstd_compress_literals.c zstd_compress_sequences.c zstd_compress_superblock.c zstd_ddict.c zstd_decompress.c zstd_decompress_block.c zstd_double_fast.c zstd_fast.c zstd_lazy.c zstd_ldm.c zstd_opt.c zstd_preSplit.c"),
		output: "level 13: 98304 to "},
}

// weight compiles one, which takes up to a minute: it is kept in the user's
// cache, under the hash of what it was made of.
func weight(t testing.TB, i int) []byte {
	need(t, "clang", "wasm-ld")
	w := weights[i]
	return kept(t, w.name, func() (string, *exec.Cmd) {
		list := exec.Command("go", "mod", "download", "-json", w.module)
		list.Dir = weightDir
		raw, err := list.Output()
		if err != nil {
			t.Fatalf("%s: %v", w.module, err)
		}
		var m struct{ Dir, Sum string }
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"--target=wasm32-wasi", "-O2", "-w", "-I", m.Dir}, w.flags...)
		args = append(args, w.name+".c")
		for _, s := range w.sources {
			args = append(args, filepath.Join(m.Dir, s))
		}
		c := exec.Command("clang", args...)
		c.Dir = weightDir
		version, err := exec.Command("clang", "--version").Output()
		if err != nil {
			t.Fatal(err)
		}
		ours, err := os.ReadFile(filepath.Join(weightDir, w.name+".c"))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(string(version), m.Sum, w.flags, w.sources, string(ours)), c
	})
}

// kept builds what is not in the cache yet. key is all that it depends on.
func kept(t testing.TB, name string, how func() (key string, build *exec.Cmd)) []byte {
	t.Helper()
	key, build := how()
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	sum := sha256.Sum256([]byte(key))
	path := filepath.Join(dir, "bitgram-guests", name+"-"+hex.EncodeToString(sum[:8])+".wasm")
	if b, err := os.ReadFile(path); err == nil {
		return b
	}
	return built(t, "kept:"+name, func(out string) *exec.Cmd {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		// Appears whole or not at all.
		script := `"$@" -o "$0" && cp "$0" "$KEEP.new" && mv "$KEEP.new" "$KEEP"`
		c := exec.Command("sh", append([]string{"-c", script, out}, build.Args...)...)
		c.Dir, c.Env = build.Dir, append(os.Environ(), "KEEP="+path)
		return c
	})
}

// TestWeight: programs of weight run the same in both engines and on a second
// run, and put out what they ought to.
func TestWeight(t *testing.T) {
	if testing.Short() {
		t.Skip("interpreting a SQL engine is slow under the race detector")
	}
	compiler, interpreter := newEngine(t, false), newEngine(t, true)
	for i, w := range weights {
		t.Run(w.name, func(t *testing.T) {
			bin := weight(t, i)
			job := &sandbox.Job{Args: append([]string{w.name}, w.args...), Limits: sandbox.DefaultLimits()}
			if w.script {
				job.Input = file(weightDir + "/script.js")(t)
			}
			p := load(t, compiler, bin)
			first := follow(t, p, job, nil, forever)
			if !strings.Contains(string(first.output), w.output) {
				t.Errorf("it puts out %q, wanted %q", first.output, w.output)
			}
			if again := follow(t, p, job, nil, forever); !slices.Equal(first.Lines, again.Lines) {
				t.Error(differ(first.Lines, again.Lines))
			}
			if w.script {
				job.Input = []byte("var n = 0; for (var i = 0; i < 3000; i++) n += Math.sqrt(i) % 3; print(n);")
				first = follow(t, p, job, nil, forever)
			}
			if i := follow(t, load(t, interpreter, bin), job, nil, forever); !slices.Equal(first.Lines, i.Lines) {
				t.Error(differ(first.Lines, i.Lines))
			}
		})
	}
}
