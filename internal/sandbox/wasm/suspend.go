package wasm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// A module processed by asyncify (binaryen) can unwind all its frames at a call
// and rewind them later. At sync it is unwound; its frames are removed from its
// memory, so that the memory is as the program left it. To continue, in this
// process or another one, it is rewound in the same way.

// Functions that asyncify exports.
const (
	startUnwind = "asyncify_start_unwind"
	stopUnwind  = "asyncify_stop_unwind"
	startRewind = "asyncify_start_rewind"
	stopRewind  = "asyncify_stop_rewind"
)

// suspends reports whether the module can be suspended.
func suspends(m *rewrite.Module) bool {
	return m.Functions[startUnwind] == "i:" && m.Functions[startRewind] == "i:" && m.Functions[stopUnwind] == ":" && m.Functions[stopRewind] == ":"
}

// suspended is the position of a suspended program.
type suspended struct {
	stack []byte // the frames, as asyncify wrote them
	depth uint64 // of the calls at that position
}

// Asyncify writes frames into the program's own memory, after two words with
// the current position and the end of the room. The area is the end of the
// memory; its content is saved and restored.
const (
	frameRoom   = 1 << 20
	frameHeader = 16
)

// room returns the area for frames.
func (in *instance) room() (at uint32, size uint32) {
	total := in.mod.Memory().Size()
	size = min(frameRoom, total/2)
	return total - size, size
}

// unwind is called at sync and returns into the program, which then unwinds.
func (r *run) unwind(ctx context.Context, h *host) {
	at, size := r.inst.room()
	b := h.must("frames", at, size)
	h.kept = &keep{at: at, was: bytes.Clone(b)}
	h.next = &suspended{depth: r.inst.depth.Get()}
	r.inst.words(at, at+frameHeader, at+size)
	h.phase = unwinding
	r.asyncify(ctx, h, startUnwind, uint64(at))
}

// keep is the saved content of the area for frames.
type keep struct {
	at  uint32
	was []byte
}

func (in *instance) words(at, from, to uint32) {
	m := in.mod.Memory()
	m.WriteUint32Le(at, from)
	m.WriteUint32Le(at+4, to)
}

// asyncify calls one of its functions. They are the program's own, so they take its
// fuel like all of its code.
func (r *run) asyncify(ctx context.Context, h *host, name string, args ...uint64) {
	depth := r.inst.depth.Get()
	if _, err := r.inst.mod.ExportedFunction(name).Call(ctx, args...); err != nil {
		if int64(r.inst.fuel.Get()) < 0 || ctx.Err() != nil {
			panic(errFuel)
		}
		trap, ok := trapOf(err)
		if !ok {
			panic(&callError{fmt.Errorf("the engine failed in %s: %w", name, err)})
		}
		h.fail(sandbox.ErrSuspend, "%s: %s", name, trap)
	}
	r.inst.depth.Set(depth)
}

// unwound is called when the program has unwound and returned.
func (r *run) unwound(ctx context.Context, h *host) (err error) {
	defer caught(&err)
	r.asyncify(ctx, h, stopUnwind)
	end, ok := r.inst.mod.Memory().ReadUint32Le(h.kept.at)
	if !ok || end < h.kept.at+frameHeader || uint64(end) > uint64(h.kept.at)+uint64(len(h.kept.was)) {
		return &callError{fmt.Errorf("%w: its frames end at %d", sandbox.ErrSuspend, end)}
	}
	h.next.stack = bytes.Clone(h.must("frames", h.kept.at+frameHeader, end-h.kept.at-frameHeader))
	r.settle(h.kept, h.globals)
	h.left = int64(r.inst.fuel.Get())
	h.phase = synced
	return nil
}

// caught turns what ended a call of the host's into an error.
func caught(err *error) {
	switch e := recover(); e := e.(type) {
	case nil:
	case *callError:
		*err = e
	default:
		if e != any(errFuel) {
			panic(e)
		}
		*err = errFuel
	}
}

// settle restores memory and globals to their values at sync.
func (r *run) settle(k *keep, globals []uint64) {
	r.inst.mod.Memory().Write(k.at, k.was)
	for i, g := range r.inst.globals {
		g.Set(globals[i])
	}
}

// rewind calls into the program, which returns to its position.
func (r *run) rewind(ctx context.Context, h *host) (err error) {
	defer caught(&err)
	at, size := r.inst.room()
	if uint64(len(r.kept.stack))+frameHeader > uint64(size) {
		return &callError{fmt.Errorf("%w: frames of %d bytes", sandbox.ErrSuspend, len(r.kept.stack))}
	}
	h.kept = &keep{at: at, was: bytes.Clone(h.must("frames", at, size))}
	r.inst.mod.Memory().Write(at+frameHeader, r.kept.stack)
	r.inst.words(at, at+frameHeader+uint32(len(r.kept.stack)), at+size)
	h.phase = rewinding
	r.asyncify(ctx, h, startRewind, uint64(at))
	return r.main(ctx, h)
}

// rewound is called from sync when the program has returned to it.
func (r *run) rewound(ctx context.Context, h *host) {
	r.asyncify(ctx, h, stopRewind)
	if d := r.inst.depth.Get(); d != r.kept.depth {
		h.fail(sandbox.ErrSuspend, "it came back over other frames: not all of it was processed by asyncify")
	}
	r.settle(h.kept, r.header.Globals)
	h.phase = running
}

// restore creates an instance from a full checkpoint.
func (r *run) restore(c *sandbox.Checkpoint) error {
	if err := r.instantiate(context.Background()); err != nil {
		return err
	}
	m := r.inst.mod.Memory()
	if len(c.Memory) > len(r.inst.arena.all) {
		return fmt.Errorf("%w: a memory of %d bytes, the program can have %d", sandbox.ErrCheckpoint, len(c.Memory), len(r.inst.arena.all))
	}
	populate(r.inst.arena.all[:len(c.Memory)])
	if now, want := m.Size(), uint32(len(c.Memory)); want < now {
		return fmt.Errorf("%w: a memory of %d bytes, the program begins with %d", sandbox.ErrCheckpoint, want, now)
	} else if _, ok := m.Grow((want - now) / sandbox.PageSize); !ok || !m.Write(0, c.Memory) {
		return fmt.Errorf("%w: a memory of %d bytes, which the program cannot have", sandbox.ErrCheckpoint, want)
	}
	for i, g := range r.inst.globals {
		g.Set(c.Globals[i])
	}
	r.kept = &suspended{stack: c.Stack, depth: c.Depth}
	r.snap.Restore(c)
	return nil
}
