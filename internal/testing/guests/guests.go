// Package guests builds the programs that tests and benchmarks of the runtimes
// run: the examples, others from three toolchains, and programs of weight. What is
// built is kept in the user's cache, by the content of what it is built of: a second
// run builds nothing. For tests and benchmarks only.
package guests

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrMissing is wrapped by the errors of builds whose tool is not installed;
// .ci/run installs them all.
var ErrMissing = errors.New("not installed")

// Root is the directory of this module.
var Root = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
})

func need(tools ...string) error {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s: %w", tool, ErrMissing)
		}
	}
	return nil
}

// A build is a command that writes to the file behind its -o, and all that its
// output depends on: nothing else may change it.
type build struct {
	name    string
	dir     string   // to run in, from the root of the module
	env     []string // besides the process's
	args    []string
	stdin   []byte
	sources []string   // files, absolute or from the root of the module
	inputs  []string   // anything else
	tools   [][]string // commands that print the versions of the toolchain
}

type result struct {
	bin []byte
	err error
}

// once keeps what was built, by name, for the whole process.
var once sync.Map

func (b build) run() ([]byte, error) {
	f, _ := once.LoadOrStore(b.name, sync.OnceValue(func() (r result) {
		path, err := b.path()
		if err != nil {
			return result{err: err}
		}
		if r.bin, err = os.ReadFile(path); err == nil {
			now := time.Now()
			_ = os.Chtimes(path, now, now) // what is used stays
			return r
		}
		if r.bin, r.err = b.make(); r.err == nil {
			_ = keep(path, r.bin) // a cache that cannot be written has nothing
		}
		return r
	}))
	r := f.(func() result)()
	return r.bin, r.err
}

// path is where the output is kept: in the user's cache, under the hash of what it is
// made of.
func (b build) path() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %x %q", b.dir, b.args, b.env, sha256.Sum256(b.stdin), b.inputs)
	for _, tool := range b.tools {
		v, err := version(strings.Join(tool, " "))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q", v)
	}
	for _, name := range b.sources {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(root, name)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %x", name, sha256.Sum256(text))
	}
	file, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(b.name), filepath.Ext(b.name)), " ")
	return filepath.Join(Cache(), file+"-"+hex.EncodeToString(h.Sum(nil)[:16])+".wasm"), nil
}

// Cache is the directory in the user's cache for what tests of runtimes keep.
func Cache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "bitgram-guests")
}

var versions sync.Map

func version(command string) (string, error) {
	f, _ := versions.LoadOrStore(command, sync.OnceValues(func() (string, error) {
		args := strings.Fields(command)
		out, err := exec.Command(args[0], args[1:]...).Output()
		return string(out), err
	}))
	return f.(func() (string, error))()
}

func (b build) make() ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "bitgram-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "program.wasm")
	i := slices.Index(b.args, "-o") + 1
	c := exec.Command(b.args[0], slices.Insert(slices.Clone(b.args[1:]), i-1, out)...)
	c.Dir, c.Stdin, c.Env = filepath.Join(root, b.dir), bytes.NewReader(b.stdin), append(os.Environ(), b.env...)
	if said, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", b.name, err, said)
	}
	return os.ReadFile(out)
}

// Go builds a package of this module for wasip1.
func Go(dir string) ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(mod), "\n")
	b := build{name: "go " + dir, env: []string{"GOOS=wasip1", "GOARCH=wasm"}, sources: []string{"go.mod", "go.sum"},
		args:  []string{"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "./" + dir},
		tools: [][]string{{"go", "env", "GOVERSION", "GOFLAGS", "GOWASM", "GOEXPERIMENT"}}}
	if err := b.addGo(root, strings.TrimPrefix(first, "module ")+"/", dir); err != nil {
		return nil, err
	}
	return b.run()
}

// addGo adds the files of a package, and of those of this module that it imports; the
// others are in go.sum.
func (b *build) addGo(root, module, dir string) error {
	files, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(dir, f.Name())
		if f.IsDir() || strings.HasSuffix(name, "_test.go") || slices.Contains(b.sources, name) {
			continue
		}
		b.sources = append(b.sources, name)
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range file.Imports {
			if path, ok := strings.CutPrefix(strings.Trim(i.Path.Value, "`\""), module); ok {
				if err := b.addGo(root, module, path); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// clang are the commands that tell which compiler, linker and C library there is.
var clang = [][]string{{"clang", "--version"}, {"wasm-ld", "--version"}}

// libc is the path of the C library that clang links.
func libc() (string, error) {
	path, err := version("clang --target=wasm32-wasi -print-file-name=libc.a")
	return strings.TrimSpace(path), err
}

// C compiles a source, from the root of the module, for WASI.
func C(source string, flags ...string) ([]byte, error) {
	if err := need("clang", "wasm-ld"); err != nil {
		return nil, err
	}
	lib, err := libc()
	if err != nil {
		return nil, err
	}
	args := append([]string{"clang", "--target=wasm32-wasi", "-O2", "-I", "guest/c", source}, flags...)
	return build{name: "c " + source + strings.Join(flags, " "), args: append(args, "-o"), tools: clang,
		sources: []string{source, "guest/c/bitgram.h", lib}}.run()
}

// Rust compiles a source for WASI with Debian's compiler, which is not always
// the first in the path.
func Rust(source string) ([]byte, error) {
	const rustc = "/usr/bin/rustc"
	if err := need(rustc, "wasm-ld"); err != nil {
		return nil, err
	}
	return build{name: "rust " + source, args: []string{rustc, "--target", "wasm32-wasi", "-O", source, "-o"},
		tools: [][]string{{rustc, "-vV"}, {"wasm-ld", "--version"}}, sources: []string{source, "guest/rust/bitgram.rs"}}.run()
}

// Asyncify processes a module with asyncify.
func Asyncify(bin []byte) ([]byte, error) {
	if err := need("wasm-opt"); err != nil {
		return nil, err
	}
	return build{name: fmt.Sprintf("asyncify %x", sha256.Sum256(bin)), stdin: bin, args: []string{"wasm-opt", "-O1", "--asyncify", "-", "-o"},
		tools: [][]string{{"wasm-opt", "--version"}}}.run()
}

// WeightDir contains large programs in C, and the module that names the rest of
// their sources.
const WeightDir = "internal/sandbox/wasm/testdata/weight"

// A Weight is a large real program.
type Weight struct {
	Name    string
	module  string
	flags   []string
	sources []string
}

// Weights lists all of them.
var Weights = []Weight{
	{"sql", "github.com/mattn/go-sqlite3", []string{"-DSQLITE_OS_OTHER=1", "-DSQLITE_THREADSAFE=0", "-DSQLITE_OMIT_LOAD_EXTENSION",
		"-DSQLITE_OMIT_WAL", "-DSQLITE_OMIT_LOCALTIME", "-DSQLITE_TEMP_STORE=3"}, []string{"sqlite3-binding.c"}},
	{"js", "gopkg.in/olebedev/go-duktape.v3", []string{"-I."}, []string{"duktape.c"}},
	{"compress", "github.com/DataDog/zstd", []string{"-DDEBUGLEVEL=0", "-DZSTD_LEGACY_SUPPORT=0", "-DZSTD_NO_TRACE"},
		strings.Fields("debug.c entropy_common.c error_private.c fse_compress.c fse_decompress.c hist.c huf_compress.c huf_decompress.c xxhash.c zstd_common.c zstd_compress.c " +
			"zstd_compress_literals.c zstd_compress_sequences.c zstd_compress_superblock.c zstd_ddict.c zstd_decompress.c zstd_decompress_block.c zstd_double_fast.c zstd_fast.c zstd_lazy.c zstd_ldm.c zstd_opt.c zstd_preSplit.c")},
}

// Build compiles it, which takes up to a minute the first time.
func (w Weight) Build() ([]byte, error) {
	if err := need("clang", "wasm-ld"); err != nil {
		return nil, err
	}
	root, err := Root()
	if err != nil {
		return nil, err
	}
	list := exec.Command("go", "mod", "download", "-json", w.module)
	list.Dir = filepath.Join(root, WeightDir)
	raw, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.module, err)
	}
	var m struct{ Dir, Sum string }
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	lib, err := libc()
	if err != nil {
		return nil, err
	}
	args := append([]string{"clang", "--target=wasm32-wasi", "-O2", "-w", "-I", m.Dir, w.Name + ".c"}, w.flags...)
	for _, s := range w.sources {
		args = append(args, filepath.Join(m.Dir, s))
	}
	return build{name: "weight " + w.Name, dir: WeightDir, args: append(args, "-o"), tools: clang, inputs: []string{m.Sum},
		sources: []string{filepath.Join(WeightDir, w.Name+".c"), filepath.Join(WeightDir, "setjmp.h"), lib}}.run()
}

// unused is how long what nobody asks for is kept.
const unused = 30 * 24 * time.Hour

// keep writes a file that appears whole or not at all, and removes old ones.
func keep(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if old, err := os.ReadDir(filepath.Dir(path)); err == nil {
		for _, f := range old {
			if s, err := f.Info(); err == nil && !s.IsDir() && time.Since(s.ModTime()) > unused {
				_ = os.Remove(filepath.Join(filepath.Dir(path), f.Name()))
			}
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
