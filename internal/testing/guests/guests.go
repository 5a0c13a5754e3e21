// Package guests builds the programs for tests and benchmarks of the runtimes:
// the examples, others from three toolchains, and large real programs. For
// tests and benchmarks only.
package guests

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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

type result struct {
	bin []byte
	err error
}

// once keeps what was built, by name, for the whole process.
var once sync.Map

// built runs a command in dir that writes to the file behind its -o.
func built(name, dir string, stdin []byte, env []string, args ...string) ([]byte, error) {
	f, _ := once.LoadOrStore(name, sync.OnceValue(func() (r result) {
		root, err := Root()
		if err != nil {
			return result{err: err}
		}
		tmp, err := os.MkdirTemp("", "bitgram-guest-")
		if err != nil {
			return result{err: err}
		}
		defer os.RemoveAll(tmp)
		out := filepath.Join(tmp, "program.wasm")
		i := len(args)
		for k, a := range args {
			if a == "-o" {
				i = k + 1
			}
		}
		c := exec.Command(args[0], append(append(append([]string{}, args[1:i]...), out), args[i:]...)...)
		c.Dir, c.Stdin, c.Env = filepath.Join(root, dir), bytes.NewReader(stdin), append(os.Environ(), env...)
		if said, err := c.CombinedOutput(); err != nil {
			return result{err: fmt.Errorf("%s: %w: %s", name, err, said)}
		}
		r.bin, r.err = os.ReadFile(out)
		return r
	}))
	r := f.(func() result)()
	return r.bin, r.err
}

// Go builds a package of this module for wasip1.
func Go(dir string) ([]byte, error) {
	return built("go "+dir, ".", nil, []string{"GOOS=wasip1", "GOARCH=wasm"},
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "./"+dir)
}

// C compiles a source, from the root of the module, for WASI.
func C(source string, flags ...string) ([]byte, error) {
	if err := need("clang", "wasm-ld"); err != nil {
		return nil, err
	}
	args := append([]string{"clang", "--target=wasm32-wasi", "-O2", "-I", "guest/c", source}, flags...)
	return built("c "+source+strings.Join(flags, " "), ".", nil, nil, append(args, "-o")...)
}

// Rust compiles a source for WASI with Debian's compiler, which is not always
// the first in the path.
func Rust(source string) ([]byte, error) {
	const rustc = "/usr/bin/rustc"
	if err := need(rustc, "wasm-ld"); err != nil {
		return nil, err
	}
	return built("rust "+source, ".", nil, nil, rustc, "--target", "wasm32-wasi", "-O", source, "-o")
}

// Asyncify processes a module with asyncify.
func Asyncify(bin []byte) ([]byte, error) {
	if err := need("wasm-opt"); err != nil {
		return nil, err
	}
	return built(fmt.Sprintf("asyncify %x", sha256.Sum256(bin)), ".", bin, nil, "wasm-opt", "-O1", "--asyncify", "-", "-o")
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

// Build compiles it, which takes up to a minute. The result is stored in the
// user's cache, under the hash of its inputs.
func (w Weight) Build() ([]byte, error) {
	if err := need("clang", "wasm-ld"); err != nil {
		return nil, err
	}
	root, err := Root()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, WeightDir)
	list := exec.Command("go", "mod", "download", "-json", w.module)
	list.Dir = dir
	raw, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.module, err)
	}
	var m struct{ Dir, Sum string }
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	version, err := exec.Command("clang", "--version").Output()
	if err != nil {
		return nil, err
	}
	ours, err := os.ReadFile(filepath.Join(dir, w.Name+".c"))
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	sum := sha256.Sum256(fmt.Append(nil, string(version), m.Sum, w.flags, w.sources, string(ours)))
	path := filepath.Join(cache, "bitgram-guests", w.Name+"-"+hex.EncodeToString(sum[:8])+".wasm")
	if b, err := os.ReadFile(path); err == nil {
		return b, nil
	}
	args := append([]string{"clang", "--target=wasm32-wasi", "-O2", "-w", "-I", m.Dir, w.Name + ".c"}, w.flags...)
	for _, s := range w.sources {
		args = append(args, filepath.Join(m.Dir, s))
	}
	b, err := built("weight "+w.Name, WeightDir, nil, nil, append(args, "-o")...)
	if err != nil {
		return nil, err
	}
	return b, keep(path, b)
}

// keep writes a file atomically.
func keep(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
