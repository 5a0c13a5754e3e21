// Package wasm implements sandbox.Runner for WASM modules: WASI preview 1
// commands from any toolchain, rewritten (package rewrite) and run by wazero.
package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

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
	kept   *rewritten

	mu     sync.Mutex
	shared *machine // of programs without one of their own; nil before the first
}

// machine is a runtime of wazero's with the host's functions.
type machine struct {
	rt    wazero.Runtime
	cache wazero.CompilationCache
}

func (m *machine) close() error {
	ctx := context.Background()
	err := m.rt.Close(ctx)
	if m.cache != nil {
		err = errors.Join(err, m.cache.Close(ctx))
	}
	return err
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
	if !e.keeps() {
		_, err = e.common(ctx)
	}
	return e, err
}

// common returns the machine of programs without one of their own. It is made at its
// first use, because no program needs it that is in the cache.
func (e *Engine) common(ctx context.Context) (*machine, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shared != nil {
		return e.shared, nil
	}
	m := &machine{rt: wazero.NewRuntimeWithConfig(ctx, e.settings())}
	if err := addHost(ctx, m.rt); err != nil {
		return nil, errors.Join(err, m.close())
	}
	e.shared = m
	return m, nil
}

// settings are those of a runtime.
func (e *Engine) settings() wazero.RuntimeConfig {
	rc := wazero.NewRuntimeConfigCompiler()
	if e.config.Interpreter {
		// Only the interpreter checks the context while a program runs;
		// compiled code is stopped through a global (watch).
		rc = wazero.NewRuntimeConfigInterpreter().WithCloseOnContextDone(true)
	}
	return rc.WithDebugInfoEnabled(false).WithCoreFeatures(api.CoreFeaturesV2)
}

// keeps says that compiled programs are kept.
func (e *Engine) keeps() bool { return e.config.CacheDir != "" && !e.config.Interpreter }

// Close frees the engine.
func (e *Engine) Close() error {
	var err error
	if e.shared != nil {
		err = e.shared.close()
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
	machine  *machine
	own      bool // the machine is this program's
	// suspends says that the program was processed by asyncify, so it can be
	// suspended with its memory.
	suspends bool

	mu     sync.Mutex
	runs   int // that are open
	closed bool
}

// startFunction is the entry point of a WASI command.
const startFunction = "_start"

// Load implements sandbox.Runner. An image is a WASM module of at most
// rewrite.MaxModule bytes. One that can seek is not held in memory if the program
// was compiled before.
func (e *Engine) Load(ctx context.Context, image io.Reader) (sandbox.Program, error) {
	if s, ok := image.(io.ReadSeeker); ok && e.keeps() {
		if start, err := s.Seek(0, io.SeekCurrent); err == nil {
			h := blake3.New()
			if _, err := io.Copy(h, io.LimitReader(s, rewrite.MaxModule+1)); err != nil {
				return nil, err
			}
			if p := e.fromShell(ctx, sandbox.Digest(h.Sum(nil))); p != nil {
				return p, nil
			}
			if _, err := s.Seek(start, io.SeekStart); err != nil {
				return nil, err
			}
		}
	}
	var buf bytes.Buffer
	if sized, ok := image.(interface{ Len() int }); ok {
		buf.Grow(min(sized.Len(), rewrite.MaxModule) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(image, rewrite.MaxModule+1)); err != nil {
		return nil, err
	}
	id := sandbox.Digest(blake3.Sum256(buf.Bytes()))
	m, err := e.rewrite(id, buf.Bytes())
	if err != nil {
		return nil, err
	}
	p, err := e.compile(ctx, id, m)
	if err != nil {
		if invalid(ctx, m.Binary) {
			err = fmt.Errorf("%w: %w", sandbox.ErrProgram, err)
		}
		return nil, err
	}
	m.Binary = nil
	return p, nil
}

// invalid reports whether a module that could not be compiled is itself the reason,
// on every machine: the interpreter, which needs neither a cache nor memory for
// machine code, refuses it too.
func invalid(ctx context.Context, bin []byte) bool {
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithDebugInfoEnabled(false).WithCoreFeatures(api.CoreFeaturesV2))
	defer rt.Close(ctx)
	_, err := rt.CompileModule(ctx, bin)
	return err != nil && ctx.Err() == nil
}

// rewrite returns the rewritten module, from the cache if possible.
func (e *Engine) rewrite(id sandbox.Digest, bin []byte) (*rewrite.Module, error) {
	if m := e.kept.load(id); m != nil {
		return m, nil
	}
	m, err := rewrite.Rewrite(bin, HostFunction)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", sandbox.ErrProgram, err)
	}
	if err := checkCommand(m); err != nil {
		return nil, err
	}
	e.kept.store(id, m)
	return m, nil
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

// errClosed is returned for a run of a program that is closed.
var errClosed = errors.New("the program is closed")

// open counts a run, and leave takes it off again.
func (p *program) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	p.runs++
	return nil
}

func (p *program) leave() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs--
	return p.free()
}

// Close implements sandbox.Program.
func (p *program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return p.free()
}

// free frees a closed program when its last run is closed: runs have its code, and
// memories that are closed with its machine.
func (p *program) free() error {
	if !p.closed || p.runs > 0 {
		return nil
	}
	err := p.compiled.Close(context.Background())
	if p.own {
		err = errors.Join(err, p.machine.close())
	}
	return err
}

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
	var c *sandbox.Checkpoint
	if from != nil {
		var err error
		if c, err = sandbox.ReadCheckpoint(from, p.id, job); err != nil {
			return nil, err
		}
	}
	if err := p.open(); err != nil {
		return nil, err
	}
	if c != nil {
		if err := r.resume(c); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}
