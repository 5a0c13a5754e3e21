package wasm

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tetratelabs/wazero"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// A program that was compiled before starts from its shell: wazero decodes and
// validates a module before it looks for the compiled code in its cache, which for
// the whole module takes longer than all the rest. wazero gets the code from
// memory (codeCache), whatever the module: this package chooses the code.
//
// Each program has a directory of its own, which is written once and holds the shell
// and the code. The shell names the code's checksum, which is compared with the very
// bytes that wazero gets: wazero's own covers the machine code, but not where in it
// each function begins. The name of the code's file names the processor's features as
// wazero does, so that code for another processor is not found. When wazero does not
// take the code (another version), it compiles the shell, which is noticed: it adds
// the result to its cache. Then the program is loaded from the whole module.

// shellFile is the shell in a program's directory, codeDir has its code,
// shellsPrefix begins the name of what has the programs' directories.
const (
	shellsPrefix = "compiled-"
	shellFile    = "shell"
	codeDir      = "code"
)

// shellDir is the directory for the compiled program with this id.
func (e *Engine) shellDir(id sandbox.Digest) string {
	kind := rewrite.Version + "-" + WazeroVersion + "-" + runtime.GOARCH + "-" + runtime.GOOS
	return filepath.Join(e.config.CacheDir, shellsPrefix+kind, id.String())
}

// runtime makes a runtime that takes compiled code from c and gives it to c, and has
// the host's functions.
func (e *Engine) runtime(ctx context.Context, c *codeCache) (*machine, error) {
	cache := wazero.NewCompilationCache()
	c.attach(cache)
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
	shell, sum := readModule(filepath.Join(dir, shellFile))
	if shell == nil || sum == nil {
		return nil
	}
	code := &codeCache{dir: filepath.Join(dir, codeDir), sum: sum}
	m, err := e.runtime(ctx, code)
	if err != nil {
		return nil
	}
	p := &program{e: e, id: id, module: shell, suspends: suspends(shell), machine: m, own: true}
	if p.compiled, err = m.rt.CompileModule(ctx, shell.Binary); err != nil || !code.taken {
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

// compile compiles a module and keeps what fromShell needs. If the cache cannot be
// written, it keeps nothing.
func (e *Engine) compile(ctx context.Context, id sandbox.Digest, m *rewrite.Module) (*program, error) {
	p := &program{e: e, id: id, module: m, suspends: suspends(m)}
	if e.keeps() && e.compileKept(ctx, p) == nil {
		return p, nil
	}
	var err error
	if p.machine, err = e.common(ctx); err != nil {
		return nil, err
	}
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
	whole := &codeCache{file: filepath.Join(tmp, "whole")}
	m, err := e.runtime(ctx, whole)
	if err != nil {
		return err
	}
	compiled, err := m.rt.CompileModule(ctx, p.module.Binary)
	if err != nil {
		_ = m.close()
		return err
	}
	p.compiled, p.machine, p.own = compiled, m, true
	e.keepShell(ctx, p, whole, filepath.Join(tmp, "next"))
	return nil
}

// keepShell makes the directory that fromShell reads, in next, and moves it to its
// place.
func (e *Engine) keepShell(ctx context.Context, p *program, whole *codeCache, next string) {
	shell, err := p.module.Shell()
	if err != nil || os.MkdirAll(filepath.Join(next, codeDir), 0o700) != nil {
		return
	}
	var named codeCache // learns under which name wazero looks for the shell's code
	m, err := e.runtime(ctx, &named)
	if err != nil {
		return
	}
	_, err = m.rt.CompileModule(ctx, shell.Binary)
	if m.close() != nil || err != nil {
		return
	}
	to := filepath.Join(next, codeDir, hex.EncodeToString(named.key[:]))
	if os.Rename(whole.file, to) != nil || writeModule(filepath.Join(next, shellFile), shell, whole.sum) != nil {
		return
	}
	e.kept.wrote.Store(true)
	dir := e.shellDir(p.id)
	_ = os.RemoveAll(dir)
	_ = os.Rename(next, dir)
}
