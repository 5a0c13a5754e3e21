package wasm

import (
	"context"
	"fmt"
	"math"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// phase is the phase of an epoch.
type phase uint8

const (
	running phase = iota
	synced
	exited
	unwinding // towards a suspension
	rewinding // after one
)

// host is the environment of a program for one epoch.
type host struct {
	run   *run
	ctx   context.Context // of the call that runs
	inst  *instance
	job   *sandbox.Job
	epoch uint64
	phase phase

	output *sandbox.Output
	state  []byte // of the last epoch; nil in the first
	read   int    // of the input, by standard input
	random *blake3.Digest
	clock  uint64 // at the epoch's beginning
	slept  uint64
	logged uint64

	notices     uint64
	chain       sandbox.Digest
	announced   [][]byte
	noticeBytes uint64

	// The data of the sync event.
	synced  []byte
	left    int64
	globals []uint64
	kept    *keep // the memory that the frames replace
	next    *suspended
	exit    uint32
}

// callError ends the program because of an invalid host call.
type callError struct{ err error }

func (e *callError) Error() string { return e.err.Error() }

func (h *host) fail(err error, format string, args ...any) {
	panic(&callError{fmt.Errorf("%w: %s", err, fmt.Sprintf(format, args...))})
}

// hostFunc is a function that programs can import.
type hostFunc struct {
	sig rewrite.Signature
	// fuel is the base cost of a call, without the cost of its size.
	fuel uint32
	call func(h *host, a []uint64)
}

// Modules that programs import from.
const (
	bitgramModule = "bitgram"
	wasiModule    = "wasi_snapshot_preview1"
)

var hostModules = map[string]map[string]hostFunc{bitgramModule: bitgramFuncs, wasiModule: wasiFuncs}

// HostFunction returns the type of a host function, if it exists.
func HostFunction(module, name string) (rewrite.Signature, bool) {
	f, ok := hostModules[module][name]
	return f.sig, ok
}

// addHost registers the host functions with a runtime.
func addHost(ctx context.Context, rt wazero.Runtime) error {
	types := map[rune]api.ValueType{'i': api.ValueTypeI32, 'l': api.ValueTypeI64}
	for module, funcs := range hostModules {
		b := rt.NewHostModuleBuilder(module)
		for name, f := range funcs {
			var params, results []api.ValueType
			for list := &params; len(f.sig) > 0; f.sig = f.sig[1:] {
				if c := rune(f.sig[0]); c == ':' {
					list = &results
				} else {
					*list = append(*list, types[c])
				}
			}
			b.NewFunctionBuilder().WithGoModuleFunction(entry(name, f), params, results).Export(name)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return err
		}
	}
	return nil
}

// entry wraps f for the engine.
func entry(name string, f hostFunc) api.GoModuleFunc {
	return func(ctx context.Context, _ api.Module, stack []uint64) {
		h := ctx.Value(hostKey{}).(*host)
		switch h.phase {
		case running:
		case rewinding:
			if name != "sync" {
				h.fail(sandbox.ErrSuspend, "it calls %s on its way back to sync: not all of it was processed by asyncify", name)
			}
			h.run.rewound(ctx, h)
			return
		default:
			h.fail(sandbox.ErrSuspend, "it calls %s on its way out of sync: not all of it was processed by asyncify", name)
		}
		h.ctx = ctx
		h.charge(uint64(f.fuel))
		f.call(h, stack)
	}
}

// charge subtracts fuel, and ends the program if there is too little.
func (h *host) charge(cost uint64) {
	left := int64(h.inst.fuel.Get())
	if cost > math.MaxInt64/2 || left < 0 || int64(cost) > left {
		h.inst.fuel.Set(math.MaxUint64) // -1
		panic(errFuel)
	}
	h.inst.fuel.Set(uint64(left - int64(cost)))
}

// errFuel ends a call if there is too little fuel.
var errFuel = fmt.Errorf("no fuel for a call to the host")

// spent returns the fuel used by this epoch so far.
func (h *host) spent() uint64 {
	left := int64(h.inst.fuel.Get())
	if h.phase == synced {
		left = h.left
	}
	return h.job.Limits.Fuel - uint64(max(left, 0))
}

// time returns the clock: nanoseconds since the job's time.
func (h *host) time() uint64 { return h.clock + h.spent() + h.slept }

// bytes returns a range of the program's memory, not copied.
func (h *host) bytes(ptr, size uint32) ([]byte, bool) { return h.inst.mod.Memory().Read(ptr, size) }

// must is bytes for functions that cannot return an error.
func (h *host) must(what string, ptr, size uint32) []byte {
	b, ok := h.bytes(ptr, size)
	if !ok {
		h.fail(sandbox.ErrCall, "%s of %d bytes at %d, outside of its memory", what, size, ptr)
	}
	return b
}

// Costs of calls, in fuel.
const (
	callCost   = 256
	syncCost   = 16_384
	noticeCost = 1_024
	// For each page of the memory at a sync event, which is compared and
	// hashed.
	syncPageCost = 65_536
	// For each byte.
	copyShift    = 2 // one fuel for 4 bytes copied
	outputCost   = 2 // hashed and kept
	stateCost    = 2
	randomCost   = 2
	noticeBytesX = 4
	// For each argument or variable.
	stringCost = 32
)

// bitgramFuncs are the host functions of this project (spec/runtime.md §3).
var bitgramFuncs = map[string]hostFunc{
	"sync":       {"ii:", syncCost, func(h *host, a []uint64) { h.sync(uint32(a[0]), uint32(a[1])) }},
	"restore":    {"ii:i", callCost, func(h *host, a []uint64) { a[0] = uint64(h.restore(uint32(a[0]), uint32(a[1]))) }},
	"input":      {"lii:i", callCost, func(h *host, a []uint64) { a[0] = uint64(h.input(a[0], uint32(a[1]), uint32(a[2]))) }},
	"input_size": {":l", callCost, func(h *host, a []uint64) { a[0] = uint64(len(h.job.Input)) }},
	"output":     {"ii:", callCost, func(h *host, a []uint64) { h.put(h.must("output", uint32(a[0]), uint32(a[1]))) }},
	"random":     {"ii:", callCost, func(h *host, a []uint64) { h.fill(h.must("random", uint32(a[0]), uint32(a[1]))) }},
	"event":      {"ii:", noticeCost, func(h *host, a []uint64) { h.announce(h.must("event", uint32(a[0]), uint32(a[1]))) }},
	"epoch":      {":l", callCost, func(h *host, a []uint64) { a[0] = h.epoch }},
}

// sync ends the epoch with a state.
func (h *host) sync(ptr, size uint32) {
	b := h.must("sync", ptr, size)
	if limit := h.job.Limits.State; uint64(size) > limit {
		h.fail(sandbox.ErrState, "%d bytes, at most %d are possible", size, limit)
	}
	h.charge(uint64(size)*stateCost + uint64(h.inst.mod.Memory().Size()/sandbox.PageSize)*syncPageCost)
	h.synced = append([]byte{}, b...)
	h.left = int64(h.inst.fuel.Get())
	h.globals = h.inst.values()
	if h.run.p.suspends {
		h.run.unwind(h.ctx, h)
		return
	}
	h.phase = synced
	panic(errSync)
}

// restore copies the state with which the epoch began, up to room bytes, and
// returns its size, or -1 if there is none.
func (h *host) restore(ptr, room uint32) uint32 {
	if h.state == nil {
		return math.MaxUint32
	}
	n := min(room, uint32(len(h.state)))
	h.charge(uint64(n) >> copyShift)
	copy(h.must("restore", ptr, n), h.state)
	return uint32(len(h.state))
}

// input copies input from an offset on and returns how much.
func (h *host) input(from uint64, ptr, room uint32) uint32 {
	if from >= uint64(len(h.job.Input)) {
		return 0
	}
	rest := h.job.Input[from:]
	n := uint32(min(uint64(room), uint64(len(rest)), math.MaxInt32))
	h.charge(uint64(n) >> copyShift)
	copy(h.must("input", ptr, n), rest)
	return n
}

func (h *host) put(b []byte) {
	h.charge(uint64(len(b)) * outputCost)
	if _, err := h.output.Write(b); err != nil {
		panic(&callError{err})
	}
}

// fill writes random numbers from the epoch's own stream.
func (h *host) fill(b []byte) {
	h.charge(uint64(len(b)) * randomCost)
	if h.random == nil {
		h.random = seedOf(h.job, h.epoch)
	}
	_, _ = h.random.Read(b)
}

// announce stores a notice; the chain of all notices is BLAKE3(chain ‖ notice).
func (h *host) announce(b []byte) {
	h.charge(uint64(len(b)) * noticeBytesX)
	h.noticeBytes += uint64(len(b)) + 64
	if limit := h.job.Limits.Notices; h.noticeBytes > limit {
		h.fail(sandbox.ErrNotices, "more than %d bytes in epoch %d, 64 for each with them", limit, h.epoch)
	}
	h.announced = append(h.announced, append([]byte{}, b...))
	h.notices++
	h.chain = blake3.Sum256(append(append([]byte{}, h.chain[:]...), b...))
}

// note writes to the program's log, up to its limit.
func (h *host) note(b []byte) {
	h.charge(uint64(len(b)) >> copyShift)
	if h.job.Log == nil {
		return
	}
	n := min(uint64(len(b)), h.job.Limits.Log-h.logged)
	h.logged += n
	_, _ = h.job.Log.Write(b[:n])
}
