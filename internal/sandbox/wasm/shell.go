package wasm

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// A program that was compiled before starts from its shell: wazero decodes and
// validates a module before it looks for the compiled code in its cache, which for
// the whole module takes longer than all the rest. The code is kept under the name
// that wazero looks for when it is given the shell.
//
// Each program has a directory of its own, which is written once and holds the shell
// and one file of wazero's. The shell names that file's checksum, which is compared
// first: wazero's covers the machine code, but not where in it each function begins,
// and when wazero does not find or does not take the file (another version, another
// processor), it compiles the shell and writes a file of the same form. So only if
// the file is the only one there and the right one before the shell is loaded, and is
// still the same and the only one afterwards, was it the code that wazero took. If
// not, the program is loaded from the whole module.

// shellFile is the shell in a program's directory, codeDir the directory for wazero
// in it, shellsPrefix begins the name of what has the programs' directories.
const (
	shellsPrefix = "compiled-"
	shellFile    = "shell"
	codeDir      = "code"
)

// shellDir is the directory for the compiled program with this id.
func (e *Engine) shellDir(id sandbox.Digest) string {
	return filepath.Join(e.config.CacheDir, shellsPrefix+rewrite.Version+"-"+WazeroVersion, id.String())
}

// runtime makes a runtime that keeps compiled code in dir, and has the host's
// functions.
func (e *Engine) runtime(ctx context.Context, dir string) (*machine, error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, err
	}
	m := &machine{rt: wazero.NewRuntimeWithConfig(ctx, e.settings().WithCompilationCache(cache)), cache: cache}
	if err := addHost(ctx, m.rt); err != nil {
		_ = m.close()
		return nil, err
	}
	return m, nil
}

// fromShell returns a program that was compiled before, or nil.
func (e *Engine) fromShell(ctx context.Context, id sandbox.Digest) *program {
	dir := e.shellDir(id)
	code, before := onlyFile(filepath.Join(dir, codeDir))
	if before == nil {
		return nil
	}
	shell, sum := readModule(filepath.Join(dir, shellFile))
	if shell == nil || sum == nil || !bytes.Equal(sum, sumOf(code)) {
		return nil
	}
	m, err := e.runtime(ctx, filepath.Join(dir, codeDir))
	if err != nil {
		return nil
	}
	p := &program{e: e, id: id, module: shell, suspends: suspends(shell), machine: m, own: true}
	p.compiled, err = m.rt.CompileModule(ctx, shell.Binary)
	if _, after := onlyFile(filepath.Join(dir, codeDir)); err != nil || after == nil || !sameFile(before, after) {
		_ = m.close()
		_ = os.RemoveAll(dir)
		return nil
	}
	shell.Binary = nil
	return p
}

// isShellDir reports whether a directory is one of a program.
func isShellDir(path string) bool {
	return strings.HasPrefix(filepath.Base(filepath.Dir(path)), shellsPrefix)
}

// sameFile reports whether a file was neither replaced nor written.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// sumOf returns the BLAKE3 of a file, or nil if it cannot be read or is larger than
// the whole cache may be.
func sumOf(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	h := blake3.New()
	if n, err := io.Copy(h, io.LimitReader(f, cacheLimit+1)); err != nil || n > cacheLimit {
		return nil
	}
	return h.Sum(nil)
}

// onlyFile returns the only file below dir; nil if there is none or more than one.
func onlyFile(dir string) (path string, info fs.FileInfo) {
	n := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		path = p
		info, err = d.Info()
		return err
	})
	if err != nil || n != 1 {
		return "", nil
	}
	return path, info
}

// compile compiles a module and keeps what fromShell needs. If the cache cannot be
// written, it keeps nothing.
func (e *Engine) compile(ctx context.Context, id sandbox.Digest, m *rewrite.Module) (*program, error) {
	p := &program{e: e, id: id, module: m, suspends: suspends(m), machine: e.shared}
	if e.keeps() && e.compileKept(ctx, p) == nil {
		return p, nil
	}
	var err error
	p.compiled, err = p.machine.rt.CompileModule(ctx, m.Binary)
	return p, err
}

// compileKept compiles a program on a machine of its own. Errors may be the cache's.
func (e *Engine) compileKept(ctx context.Context, p *program) error {
	parent := filepath.Dir(e.shellDir(p.id))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, "new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	m, err := e.runtime(ctx, filepath.Join(tmp, "whole"))
	if err != nil {
		return err
	}
	compiled, err := m.rt.CompileModule(ctx, p.module.Binary)
	if err != nil {
		_ = m.close()
		return err
	}
	p.compiled, p.machine, p.own = compiled, m, true
	e.keepShell(ctx, p.id, p.module, tmp)
	return nil
}

// keepShell makes the directory that fromShell reads, of the code that was compiled
// in tmp.
func (e *Engine) keepShell(ctx context.Context, id sandbox.Digest, whole *rewrite.Module, tmp string) {
	shell, err := whole.Shell()
	if err != nil {
		return
	}
	next := filepath.Join(tmp, "next")
	m, err := e.runtime(ctx, filepath.Join(next, codeDir))
	if err != nil {
		return
	}
	_, err = m.rt.CompileModule(ctx, shell.Binary)
	if m.close() != nil || err != nil {
		return
	}
	from, code := onlyFile(filepath.Join(tmp, "whole"))
	to, empty := onlyFile(filepath.Join(next, codeDir))
	if code == nil || empty == nil {
		return
	}
	sum := sumOf(from)
	if sum == nil || os.Rename(from, to) != nil || writeModule(filepath.Join(next, shellFile), shell, sum) != nil {
		return
	}
	e.kept.wrote.Store(true)
	dir := e.shellDir(id)
	_ = os.RemoveAll(dir)
	_ = os.Rename(next, dir)
}
