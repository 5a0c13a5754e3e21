package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// Values with which a host function panics to end a call into a program; wazero
// passes them to the caller.
var (
	errSync = errors.New("sync")
	errExit = errors.New("exit")
)

// run implements sandbox.Run. Each epoch of an ordinary program is a new
// instance that starts with the last state; a program that can be suspended
// keeps its instance.
type run struct {
	p      *program
	job    *sandbox.Job
	header sandbox.Header // of the last event
	output *sandbox.Output
	snap   sandbox.Snapshot
	root   sandbox.Digest
	over   bool
	closed bool

	state []byte // handed to the last sync
	inst  *instance
	kept  *suspended // where a suspended program continues
}

// instance is an instantiated module with its memory.
type instance struct {
	mod   api.Module
	arena *arena
	fuel  api.MutableGlobal
	stop  api.MutableGlobal
	depth api.MutableGlobal
	far   api.MutableGlobal
	// globals are the module's own mutable globals.
	globals []api.MutableGlobal
}

func (r *run) Root() sandbox.Digest { return r.root }

func (r *run) Close() error {
	if r.closed {
		return nil
	}
	r.over, r.closed = true, true
	return errors.Join(r.drop(), r.p.leave())
}

// drop ends the instance and frees its memory.
func (r *run) drop() error {
	if r.inst == nil {
		return nil
	}
	r.snap.Forget()
	err := r.inst.mod.Close(context.Background())
	r.inst = nil
	return err
}

// Next implements sandbox.Run.
func (r *run) Next(ctx context.Context) (*sandbox.Event, error) {
	if r.over {
		return nil, fmt.Errorf("%w: the run is over", sandbox.ErrStopped)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", sandbox.ErrStopped, err)
	}
	h := &host{run: r, job: r.job, epoch: r.header.Epoch + 1, output: r.output, state: r.state,
		clock: r.header.Clock, notices: r.header.Notices, chain: r.header.NoticeChain}
	mark := r.output.Mark()
	ev, err := r.epoch(ctx, h)
	if err != nil {
		r.over = true
		err = errors.Join(err, r.drop())
	} else if ev.Done {
		r.over = true // Close drops what may still be proven
	}
	if err != nil {
		r.output.Back(mark) // the last event still has its checkpoint
		return nil, err
	}
	return ev, nil
}

// fail returns the failure of the epoch that runs. An err that is none of a
// program's failures is the machine's.
func (r *run) fail(err error, trace string) error {
	f, ok := sandbox.Fail(r.p.id, r.header.Job, r.header.Epoch+1, r.root, err)
	if !ok {
		return err
	}
	f.Trace = trace
	return f
}

func (r *run) epoch(ctx context.Context, h *host) (*sandbox.Event, error) {
	l := &r.job.Limits
	if h.epoch > l.Epochs {
		return nil, r.fail(fmt.Errorf("%w: it did not end after %d epochs", sandbox.ErrEpochs, l.Epochs), "")
	}
	budget := int64(l.Fuel)
	if !r.p.suspends { // the last epoch's memory was kept for proofs
		if err := r.drop(); err != nil {
			return nil, err
		}
	}
	if r.inst == nil && r.kept == nil { // it begins
		budget -= int64(min(r.p.module.StartCost, math.MaxInt64))
	}
	if budget < 0 {
		return nil, r.fail(fmt.Errorf("%w: initialising its memory costs %d, the epoch has %d", sandbox.ErrFuel, r.p.module.StartCost, l.Fuel), "")
	}
	if r.inst == nil {
		if err := r.instantiate(ctx); err != nil {
			return nil, err
		}
	}
	h.inst = r.inst
	r.inst.fuel.Set(uint64(budget))
	err := r.enter(ctx, h)
	if err = r.outcome(ctx, h, err); err != nil {
		return nil, err
	}
	return r.event(h)
}

// maxCopied is the largest memory of which a copy is kept, so that only changed
// pages are hashed at the next event. A larger one is not moved until the next
// epoch begins, and all of it is hashed.
const maxCopied = 32 << 20

// populated is the number of initial pages that are allocated at once, because
// most programs use them.
const populated = 64

// The engine's errors have no exported values (wazero's internal/wasmruntime), so
// these texts are all there is to tell them apart. TestHostile holds them to what
// the engine says.
const (
	saysError       = "wasm error: "
	saysOutOfBounds = "out of bounds"
	saysTrace       = "wasm stack trace:\n"
)

// instantiate makes a new instance.
func (r *run) instantiate(ctx context.Context) error {
	pages := min(r.job.Limits.Pages(), r.p.module.MaxPages)
	in := &instance{arena: &arena{all: reserve(int(pages) * sandbox.PageSize)}}
	if in.arena.all == nil && pages > 0 {
		return fmt.Errorf("no addresses for a memory of %d pages of 64 KiB", pages)
	}
	populate(in.arena.all[:min(r.p.module.MinPages, populated)*sandbox.PageSize])
	c := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	mod, err := r.p.machine.rt.InstantiateModule(experimental.WithMemoryAllocator(ctx, in.arena), r.p.compiled, c)
	if err != nil {
		in.arena.Free()
		// Only segments outside the memory are the module's fault.
		if strings.Contains(err.Error(), saysOutOfBounds) {
			return r.fail(fmt.Errorf("%w: %w", sandbox.ErrTrap, err), "")
		}
		return err
	}
	in.mod = mod
	global := func(name string) api.MutableGlobal { return mod.ExportedGlobal(name).(api.MutableGlobal) }
	in.fuel, in.stop, in.depth, in.far = global(rewrite.FuelExport), global(rewrite.StopExport), global(rewrite.DepthExport), global(rewrite.FarExport)
	global(rewrite.PagesExport).Set(uint64(r.job.Limits.Pages()))
	for _, i := range r.p.module.Globals {
		in.globals = append(in.globals, global(rewrite.GlobalExport(i)))
	}
	r.inst = in
	return nil
}

// enter calls into the program and returns how the call ended.
func (r *run) enter(ctx context.Context, h *host) error {
	ctx = context.WithValue(ctx, hostKey{}, h)
	r.inst.far.Set(rewrite.Far(r.inst.mod.Memory().Size() / sandbox.PageSize))
	if !r.p.e.config.Interpreter {
		defer r.inst.watch(ctx)()
	}
	if r.kept != nil {
		return r.rewind(ctx, h)
	}
	if r.p.module.Start {
		if _, err := r.inst.mod.ExportedFunction(rewrite.StartExport).Call(ctx); err != nil {
			return err
		}
	}
	return r.main(ctx, h)
}

func (r *run) main(ctx context.Context, h *host) error {
	if _, err := r.inst.mod.ExportedFunction(startFunction).Call(ctx); err != nil {
		return err
	}
	if h.phase == unwinding {
		return r.unwound(ctx, h)
	}
	h.phase = exited
	return nil
}

// watch stops compiled code when ctx ends: the program finds too little fuel at
// its next check. Go cannot interrupt compiled code. A garbage collection that
// starts meanwhile waits for the program's next host call or its end, and the
// rest of the process, including this function, waits with it. So a process
// that runs strangers' programs should do nothing else. The word is written
// while the program reads it, as usual for a flag shared with machine code;
// nothing else depends on it.
func (in *instance) watch(ctx context.Context) func() {
	set := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		in.stop.Set(math.MaxInt64)
		close(set)
	})
	return func() {
		if !end() { // the next epoch of an instance that goes on must not find it
			<-set
			in.stop.Set(0)
		}
	}
}

// outcome interprets the end of a call: nil at a sync event and at the
// program's own end.
func (r *run) outcome(ctx context.Context, h *host, err error) error {
	left := int64(r.inst.fuel.Get())
	var failed *callError
	switch {
	case ctx.Err() != nil && h.phase != synced && h.phase != exited:
		return fmt.Errorf("%w: %w", sandbox.ErrStopped, ctx.Err())
	case errors.As(err, &failed):
		return r.fail(failed.err, trace(err))
	case left < 0:
		return r.fail(fmt.Errorf("%w: %d in epoch %d without a sync event", sandbox.ErrFuel, r.job.Limits.Fuel, h.epoch), trace(err))
	case err == nil, errors.Is(err, errSync), errors.Is(err, errExit):
		return nil
	case int32(r.inst.depth.Get()) < 0:
		return r.fail(fmt.Errorf("%w: frames of more than %d MiB", sandbox.ErrDepth, rewrite.DepthBudget>>17), trace(err))
	}
	trap, ok := trapOf(err)
	if !ok {
		return fmt.Errorf("the engine failed: %w", err)
	}
	return r.fail(fmt.Errorf("%w: %s", sandbox.ErrTrap, trap), trace(err))
}

// traps are the engine's texts for what a program's own instructions can do. Any
// other error is the engine's or the host's, and must not become a result: a panic
// in a host function, and a stack that is full, because the depth counter ends a
// program long before.
var traps = []string{
	"unreachable", "out of bounds memory access", "integer divide by zero", "integer overflow",
	"invalid conversion to integer", "invalid table access", "indirect call type mismatch",
}

// trapOf returns the trap that an error of the engine says, if it is one.
func trapOf(err error) (string, bool) {
	text, ok := strings.CutPrefix(firstLine(err.Error()), saysError)
	return text, ok && slices.Contains(traps, text)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// trace returns the stack trace from wazero's error.
func trace(err error) string {
	if err == nil {
		return ""
	}
	_, t, _ := strings.Cut(err.Error(), saysTrace)
	return t
}

// event computes the event of the epoch.
func (r *run) event(h *host) (*sandbox.Event, error) {
	left := h.left
	if h.phase == exited {
		left = int64(r.inst.fuel.Get())
	}
	spent := r.job.Limits.Fuel - uint64(left)
	n := r.header
	n.Epoch, n.Done, n.Exit = h.epoch, h.phase == exited, h.exit
	n.Fuel, n.Total = spent, n.Total+spent
	n.Clock = h.time()
	n.OutputSize, n.OutputSHA256 = r.output.Size(), r.output.Sum()
	n.Notices, n.NoticeChain = h.notices, h.chain
	n.Globals = h.globals
	if n.Done {
		n.Globals = r.inst.values()
	}
	n.Depth, n.Frames = 0, sandbox.Digest{}
	if h.next != nil && !n.Done {
		n.Depth, n.Frames = h.next.depth, sandbox.FramesDigest(h.next.stack)
	}
	r.kept = h.next
	memory, _ := r.inst.mod.Memory().Read(0, r.inst.mod.Memory().Size())
	r.state = h.synced
	// A copy would serve no later event if this one is the first and the last.
	shared := !r.p.suspends && len(memory) > maxCopied || n.Done && !r.snap.Ready()
	if shared {
		r.root = r.snap.SetShared(n, memory, r.state)
	} else {
		r.root = r.snap.Set(n, memory, r.state)
	}
	r.header = r.snap.Header
	if !shared && (!r.p.suspends || n.Done) {
		if err := r.drop(); err != nil {
			return nil, err
		}
	}
	return &sandbox.Event{
		Epoch: n.Epoch, State: append([]byte(nil), r.state...), Root: r.root, Fuel: n.Fuel, TotalFuel: n.Total,
		Output: r.output.Take(), OutputSize: n.OutputSize, OutputSHA256: n.OutputSHA256, Notices: h.announced,
		Done: n.Done, Exit: n.Exit,
	}, nil
}

func (in *instance) values() (list []uint64) {
	for _, g := range in.globals {
		list = append(list, g.Get())
	}
	return list
}

// Checkpoint implements sandbox.Run.
func (r *run) Checkpoint(w io.Writer) error {
	if r.header.Epoch == 0 || r.header.Done {
		return fmt.Errorf("%w: there was no sync event yet", sandbox.ErrNoState)
	}
	c := &sandbox.Checkpoint{Header: r.header, State: r.state, MemoryRoot: r.snap.MemoryRoot(), Output: r.output}
	if r.kept != nil {
		c.Full, c.Memory, c.Stack, c.Depth = true, r.snap.Memory(), r.kept.stack, r.kept.depth
	}
	return c.Write(w)
}

// Prove implements sandbox.Run.
func (r *run) Prove(part sandbox.Part, page uint32) (*sandbox.Proof, error) {
	return r.snap.Prove(part, page)
}

// resume restores the run from a checkpoint.
func (r *run) resume(c *sandbox.Checkpoint) error {
	if c.Full != r.p.suspends {
		return fmt.Errorf("%w: full, but the program cannot be suspended; or not full, and it can", sandbox.ErrCheckpoint)
	}
	if len(c.Globals) != len(r.p.module.Globals) {
		return fmt.Errorf("%w: %d globals of a program with %d", sandbox.ErrCheckpoint, len(c.Globals), len(r.p.module.Globals))
	}
	r.header, r.state, r.output, r.root = c.Header, c.State, c.Output, c.Root()
	if !c.Full {
		r.snap.Restore(c)
		return nil
	}
	return r.restore(c)
}

// hostKey is the context key of a run's host.
type hostKey struct{}

// seedOf returns the source of an epoch's random numbers.
func seedOf(job *sandbox.Job, epoch uint64) *blake3.Digest {
	h := blake3.NewDeriveKey("bitgram random numbers")
	_, _ = h.Write(binary.BigEndian.AppendUint64(job.Seed[:], epoch))
	return h.Digest()
}
