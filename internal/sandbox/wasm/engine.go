// Package wasm implements sandbox.Runner for WASM modules: WASI preview 1
// commands from any toolchain, rewritten (package rewrite) and run by wazero.
package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// Config configures an engine. No setting changes a result.
type Config struct {
	// Interpreter runs programs without compiling them. It is much slower, and
	// an independent check of the result.
	Interpreter bool
	// CacheDir is the directory for compiled programs; "" disables the cache.
	// Only the owner may have access, because its content is executed.
	CacheDir string
}

// Engine is a sandbox.Runner.
type Engine struct {
	config Config
	rt     wazero.Runtime
	cache  wazero.CompilationCache
	kept   *rewritten
}

var _ sandbox.Runner = (*Engine)(nil)

// New makes an engine; errors are the machine's.
func New(ctx context.Context, c Config) (e *Engine, err error) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		c.Interpreter = true // wazero compiles for no other processor
	}
	e = &Engine{config: c, kept: &rewritten{dir: c.CacheDir}}
	if c.CacheDir != "" {
		e.kept.prune(cacheLimit)
	}
	rc := wazero.NewRuntimeConfigCompiler()
	if c.Interpreter {
		// Only the interpreter checks the context while a program runs;
		// compiled code is stopped through a global (watch).
		rc = wazero.NewRuntimeConfigInterpreter().WithCloseOnContextDone(true)
	}
	rc = rc.WithDebugInfoEnabled(false).WithCoreFeatures(api.CoreFeaturesV2)
	if c.CacheDir != "" && !c.Interpreter {
		if e.cache, err = wazero.NewCompilationCacheWithDir(filepath.Join(c.CacheDir, "wazero-"+WazeroVersion)); err != nil {
			return nil, fmt.Errorf("cache of compiled programs: %w", err)
		}
		rc = rc.WithCompilationCache(e.cache)
	}
	e.rt = wazero.NewRuntimeWithConfig(ctx, rc)
	if err := e.addHost(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Close frees the engine.
func (e *Engine) Close() error {
	ctx := context.Background()
	err := e.rt.Close(ctx)
	if e.cache != nil {
		err = errors.Join(err, e.cache.Close(ctx))
	}
	if e.kept.wrote.Load() {
		e.kept.prune(cacheLimit)
	}
	return err
}

// WazeroVersion separates the compiled code of different versions, because
// wazero's own version string is the same in all builds without version
// information, such as tests.
const WazeroVersion = "v1.12.0"

// program is a compiled module.
type program struct {
	e        *Engine
	id       sandbox.Digest
	module   *rewrite.Module
	compiled wazero.CompiledModule
	// suspends says that the program was processed by asyncify, so it can be
	// suspended with its memory.
	suspends bool
}

// startFunction is the entry point of a WASI command.
const startFunction = "_start"

// Load implements sandbox.Runner. An image is a WASM module of at most
// rewrite.MaxModule bytes. One that can seek is not held in memory if the cache
// has its rewritten module.
func (e *Engine) Load(ctx context.Context, image io.Reader) (sandbox.Program, error) {
	m, id, err := e.rewrite(image)
	if err != nil {
		return nil, err
	}
	p := &program{e: e, id: id, module: m, suspends: suspends(m)}
	if p.compiled, err = e.rt.CompileModule(ctx, m.Binary); err != nil {
		return nil, fmt.Errorf("%w: %w", sandbox.ErrProgram, err)
	}
	m.Binary = nil
	return p, nil
}

// rewrite reads an image and returns the rewritten module, from the cache if
// possible, and the image's hash.
func (e *Engine) rewrite(image io.Reader) (*rewrite.Module, sandbox.Digest, error) {
	if s, ok := image.(io.ReadSeeker); ok && e.config.CacheDir != "" {
		if start, err := s.Seek(0, io.SeekCurrent); err == nil {
			h := blake3.New()
			if _, err := io.Copy(h, io.LimitReader(s, rewrite.MaxModule+1)); err != nil {
				return nil, sandbox.Digest{}, err
			}
			id := sandbox.Digest(h.Sum(nil))
			if m := e.kept.load(id); m != nil {
				return m, id, nil
			}
			if _, err := s.Seek(start, io.SeekStart); err != nil {
				return nil, sandbox.Digest{}, err
			}
		}
	}
	var buf bytes.Buffer
	if sized, ok := image.(interface{ Len() int }); ok {
		buf.Grow(min(sized.Len(), rewrite.MaxModule) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(image, rewrite.MaxModule+1)); err != nil {
		return nil, sandbox.Digest{}, err
	}
	bin := buf.Bytes()
	id := sandbox.Digest(blake3.Sum256(bin))
	m, err := rewrite.Rewrite(bin, HostFunction)
	if err != nil {
		return nil, id, fmt.Errorf("%w: %w", sandbox.ErrProgram, err)
	}
	if err := checkCommand(m); err != nil {
		return nil, id, err
	}
	e.kept.store(id, m)
	return m, id, nil
}

// checkCommand returns the reason why a module is not a command.
func checkCommand(m *rewrite.Module) error {
	sig, ok := m.Functions[startFunction]
	switch {
	case !ok:
		if _, reactor := m.Functions["_initialize"]; reactor {
			return fmt.Errorf("%w: it is a library (it exports _initialize), not a command, which exports _start", sandbox.ErrProgram)
		}
		return fmt.Errorf("%w: it exports no function _start, as WASI commands do", sandbox.ErrProgram)
	case sig != ":":
		return fmt.Errorf("%w: its _start has the type %q; it must have no parameters or results", sandbox.ErrProgram, sig)
	case !m.HasMemory:
		return fmt.Errorf("%w: it has no memory", sandbox.ErrProgram)
	}
	return nil
}

func (p *program) ID() sandbox.Digest { return p.id }

func (p *program) Close() error { return p.compiled.Close(context.Background()) }

// Start implements sandbox.Program.
func (p *program) Start(_ context.Context, job *sandbox.Job, from io.Reader) (sandbox.Run, error) {
	if err := job.Check(); err != nil {
		return nil, err
	}
	if pages := job.Limits.Pages(); p.module.MinPages > pages {
		return nil, fmt.Errorf("%w: the program begins with %d pages of 64 KiB, the job allows %d", sandbox.ErrMemory, p.module.MinPages, pages)
	}
	r := &run{p: p, job: job, output: sandbox.NewOutput(job.Limits.Output)}
	r.header.Program, r.header.Job = p.id, job.Digest()
	if from == nil {
		return r, nil
	}
	c, err := sandbox.ReadCheckpoint(from, p.id, job)
	if err != nil {
		return nil, err
	}
	return r, r.resume(c)
}
