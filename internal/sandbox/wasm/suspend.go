package wasm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// A module that its publisher ran through asyncify (binaryen) can leave all its
// frames at a call and come back to it. At sync it is unwound; its frames are
// taken out of its memory, so that the memory is as the program left it. To go
// on, in this process or in another one, it is rewound: both ways are one.

// What asyncify exports.
const (
	startUnwind = "asyncify_start_unwind"
	stopUnwind  = "asyncify_stop_unwind"
	startRewind = "asyncify_start_rewind"
	stopRewind  = "asyncify_stop_rewind"
)

// suspends says whether the module can be suspended.
func suspends(m *rewrite.Module) bool {
	return m.Functions[startUnwind] == "i:" && m.Functions[startRewind] == "i:" && m.Functions[stopUnwind] == ":" && m.Functions[stopRewind] == ":"
}

// suspended is where a program waits.
type suspended struct {
	stack []byte // the frames, as asyncify wrote them
	depth uint64 // of calls, where it waits
}

// Asyncify writes frames into the program's own memory, behind two words that
// say from where to where there is room. They go to the memory's end, and what
// was there is put back.
const (
	frameRoom   = 1 << 20
	frameHeader = 16
)

// room is where the frames go.
func (in *instance) room() (at uint32, size uint32) {
	total := in.mod.Memory().Size()
	size = min(frameRoom, total/2)
	return total - size, size
}

// unwind is called at sync, and returns into the program, which leaves.
func (r *run) unwind(h *host) {
	at, size := r.inst.room()
	b := h.must("frames", at, size)
	h.kept = &keep{at: at, was: bytes.Clone(b)}
	h.next = &suspended{depth: r.inst.depth.Get()}
	r.inst.words(at, at+frameHeader, at+size)
	h.phase = unwinding
	r.asyncify(h, startUnwind, uint64(at))
}

// keep is what the frames stand in the place of.
type keep struct {
	at  uint32
	was []byte
}

func (in *instance) words(at, from, to uint32) {
	m := in.mod.Memory()
	m.WriteUint32Le(at, from)
	m.WriteUint32Le(at+4, to)
}

// asyncify calls one of its functions; what that costs nobody pays.
func (r *run) asyncify(h *host, name string, args ...uint64) {
	fuel, depth := r.inst.fuel.Get(), r.inst.depth.Get()
	r.inst.fuel.Set(uint64(r.job.Limits.Fuel))
	if _, err := r.inst.mod.ExportedFunction(name).Call(context.Background(), args...); err != nil {
		h.fail(sandbox.ErrSuspend, "%s: %s", name, firstLine(err.Error()))
	}
	r.inst.fuel.Set(fuel)
	r.inst.depth.Set(depth)
}

// unwound is called when the program has left.
func (r *run) unwound(_ context.Context, h *host) (err error) {
	defer func() {
		if e, ok := recover().(*callError); ok {
			err = e
		}
	}()
	r.asyncify(h, stopUnwind)
	end, ok := r.inst.mod.Memory().ReadUint32Le(h.kept.at)
	if !ok || end < h.kept.at+frameHeader || uint64(end) > uint64(h.kept.at)+uint64(len(h.kept.was)) {
		return &callError{fmt.Errorf("%w: its frames end at %d", sandbox.ErrSuspend, end)}
	}
	h.next.stack = bytes.Clone(h.must("frames", h.kept.at+frameHeader, end-h.kept.at-frameHeader))
	r.settle(h.kept, h.globals)
	h.phase = synced
	return nil
}

// settle makes memory and globals what they were at sync.
func (r *run) settle(k *keep, globals []uint64) {
	r.inst.mod.Memory().Write(k.at, k.was)
	for i, g := range r.inst.globals {
		g.Set(globals[i])
	}
}

// rewind calls into the program, which goes back to where it waits.
func (r *run) rewind(ctx context.Context, h *host) (err error) {
	defer func() {
		if e, ok := recover().(*callError); ok {
			err = e
		}
	}()
	at, size := r.inst.room()
	if uint64(len(r.kept.stack))+frameHeader > uint64(size) {
		return &callError{fmt.Errorf("%w: frames of %d bytes", sandbox.ErrSuspend, len(r.kept.stack))}
	}
	h.kept = &keep{at: at, was: bytes.Clone(h.must("frames", at, size))}
	r.inst.mod.Memory().Write(at+frameHeader, r.kept.stack)
	r.inst.words(at, at+frameHeader+uint32(len(r.kept.stack)), at+size)
	h.phase = rewinding
	r.asyncify(h, startRewind, uint64(at))
	return r.main(ctx, h)
}

// rewound is called from sync, to which the program has come back.
func (r *run) rewound(_ context.Context, h *host) {
	r.asyncify(h, stopRewind)
	if d := r.inst.depth.Get(); d != r.kept.depth {
		h.fail(sandbox.ErrSuspend, "it came back over other frames: it was not put through asyncify as a whole")
	}
	r.settle(h.kept, r.header.Globals)
	r.inst.fuel.Set(uint64(h.budget))
	h.phase = running
}

// restore makes an instance of a full checkpoint.
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
		return fmt.Errorf("%w: a memory of %d bytes", sandbox.ErrMemory, want)
	}
	for i, g := range r.inst.globals {
		g.Set(c.Globals[i])
	}
	r.kept = &suspended{stack: c.Stack, depth: c.Depth}
	r.snap.Restore(c)
	return nil
}
