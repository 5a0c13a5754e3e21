package rewrite

import (
	"cmp"
	"encoding/binary"
)

// smallLeaf is the maximum cost of a function without calls and loops that is
// charged without a check; its caller's next check covers it.
const smallLeaf = 128

// emitter writes one rewritten function.
type emitter struct {
	r   *rewriter
	p   *plan
	b   *body
	out []byte

	local   bool // fuel is held in a local while the function runs
	counted bool // it counts the depth of calls
	nest    int  // open blocks of the function itself

	next  uint32 // first free local
	temps []byte // types of those added
	fuel  uint32 // the local that holds it
	far   uint32 // the local with what loads and stores cost in addition
	slot  map[byte]uint32
}

// typeV128Too asks temp for a second local of typeV128.
const typeV128Too = 0

// temp is a scratch local of that type.
func (e *emitter) temp(t byte) uint32 {
	if i, ok := e.slot[t]; ok {
		return i
	}
	i := e.fresh(cmp.Or(t, typeV128))
	e.slot[t] = i
	return i
}

func (e *emitter) fresh(t byte) uint32 {
	e.temps = append(e.temps, t)
	e.next++
	return e.next - 1
}

func (e *emitter) op(o byte) { e.out = append(e.out, o) }

func (e *emitter) with(o byte, index uint32) { e.out = appendU32(append(e.out, o), index) }

func (e *emitter) simd(o uint32) { e.out = appendU32(append(e.out, prefixSIMD), o) }

func (e *emitter) i64(v int64) { e.out = appendS64(append(e.out, opI64Const), v) }

func (e *emitter) i32(v int32) { e.out = appendS64(append(e.out, opI32Const), int64(v)) }

// function returns the body with its size in front.
func (r *rewriter) function(out []byte, b *body, p *plan) []byte {
	e := &emitter{r: r, p: p, b: b, out: r.scratch[:0], next: uint32(len(p.locals)), slot: map[byte]uint32{}}
	small := !p.calls && !p.loops && p.cost <= smallLeaf
	e.local = p.tightLoops
	e.counted = p.recurses
	if e.local {
		e.fuel = e.fresh(typeI64)
		if p.touches {
			e.far = e.fresh(typeI64)
		}
		e.load()
	}
	// Two blocks around the whole function: whatever leaves the function leaves
	// the inner one and passes the instructions after it; whatever must end the
	// program leaves the outer one.
	e.out = append(e.out, opBlock, 0x40, opBlock)
	e.out = append(e.out, r.resultBlock(p.typ.results)...)
	if e.counted {
		e.descend()
	}
	charges, guards := p.charges, p.guards
	for n := range p.code {
		for len(charges) > 0 && charges[0].at == n {
			e.charge(charges[0], small)
			charges = charges[1:]
		}
		if n == len(p.code)-1 {
			break // the function's own end
		}
		if len(guards) > 0 && guards[0] == n {
			e.opaque(p.code[n].c)
			guards = guards[1:]
		}
		e.instr(&p.code[n])
		if p.canon[n] != nanNone {
			e.canonical(p.canon[n])
		}
	}
	e.op(opEnd)
	if e.counted {
		e.ascend()
	}
	if e.local {
		e.store()
	}
	e.op(opReturn)
	e.op(opEnd)
	if e.local {
		e.store()
	}
	e.op(opUnreachable)
	e.op(opEnd)
	r.scratch = e.out
	decl := appendU32(nil, b.groups+uint32(len(e.temps)))
	decl = append(decl, b.decl...)
	for _, t := range e.temps {
		decl = append(decl, 1, t)
	}
	out = appendU32(out, uint32(len(decl)+len(e.out)))
	return append(append(out, decl...), e.out...)
}

// opaque hides from the compiler what the integer on top of the stack is.
func (e *emitter) opaque(ordering code) {
	if ordering < opI64LtS {
		e.i32(0)
		e.op(opI32Or)
		return
	}
	e.i64(0)
	e.op(opI64Or)
}

// load and store copy the fuel between the global and the function's local.
func (e *emitter) load() {
	e.with(opGlobalGet, e.r.fuel)
	e.with(opLocalSet, e.fuel)
	if e.p.touches {
		e.with(opGlobalGet, e.r.far)
		e.with(opLocalSet, e.far)
	}
}

func (e *emitter) store() {
	e.with(opLocalGet, e.fuel)
	e.with(opGlobalSet, e.r.fuel)
}

// take subtracts the i64 that the instructions of cost leave on the stack, and
// leaves nothing on it.
func (e *emitter) take(cost func(), check bool) {
	if e.local {
		e.with(opLocalGet, e.fuel)
		cost()
		e.op(opI64Sub)
		e.with(opLocalSet, e.fuel)
	} else {
		e.with(opGlobalGet, e.r.fuel)
		cost()
		e.op(opI64Sub)
		e.with(opGlobalSet, e.r.fuel)
	}
	if check {
		e.check()
	}
}

// check ends the program if the fuel is below zero.
func (e *emitter) check() {
	if e.local {
		e.with(opLocalGet, e.fuel)
	} else {
		e.with(opGlobalGet, e.r.fuel)
	}
	e.with(opGlobalGet, e.r.stop)
	e.op(opI64LtS)
	e.with(opBrIf, uint32(e.nest+1))
}

func (e *emitter) charge(c charge, small bool) {
	if c.cost == 0 && !c.check {
		return
	}
	e.take(func() {
		e.i64(int64(c.cost))
		if c.touches == 0 {
			return
		}
		if e.local {
			e.with(opLocalGet, e.far)
		} else {
			e.with(opGlobalGet, e.r.far)
		}
		if c.touches > 1 {
			e.i64(int64(c.touches))
			e.op(opI64Mul)
		}
		e.op(opI64Add)
	}, c.check && !small)
}

// descend and ascend count the frame's weight.
func (e *emitter) descend() {
	e.with(opGlobalGet, e.r.depth)
	e.i32(int32(e.p.weight))
	e.op(opI32Sub)
	e.with(opGlobalSet, e.r.depth)
	e.with(opGlobalGet, e.r.depth)
	e.i32(0)
	e.op(0x48) // i32.lt_s
	e.with(opBrIf, uint32(e.nest+1))
}

func (e *emitter) ascend() {
	e.with(opGlobalGet, e.r.depth)
	e.i32(int32(e.p.weight))
	e.op(opI32Add)
	e.with(opGlobalSet, e.r.depth)
}

// instr writes one of the function's own instructions.
func (e *emitter) instr(i *instr) {
	switch i.c {
	case opBlock, opLoop, opIf:
		e.nest++
	case opEnd:
		e.nest--
	case opReturn:
		e.with(opBr, uint32(e.nest))
		return
	case opCall, opCallIndirect, opMemoryGrow:
		e.call(i)
		return
	case prefixed(prefixMisc, miscMemoryInit), prefixed(prefixMisc, miscMemoryCopy), prefixed(prefixMisc, miscMemoryFill):
		e.bulk()
	}
	if write := inSteps(i.c); write != nil {
		write(e)
		return
	}
	if i.c == prefixed(prefixSIMD, simdF64x2Replace) {
		// wazero v1.12.0 overwrites a half of a register with an instruction that
		// it says makes all of it, as it does with the conditional move.
		e.op(opI64OfF64)
		e.simd(simdI64x2Replace)
		e.op(e.b.code[i.end-1]) // the lane
		return
	}
	e.out = append(e.out, e.b.code[i.at:i.end]...)
}

func (e *emitter) call(i *instr) {
	if e.local {
		e.store()
	}
	if i.c == opMemoryGrow {
		e.r.usesGrow = true
		e.with(opCall, e.r.grow)
	} else {
		e.out = append(e.out, e.b.code[i.at:i.end]...)
	}
	if e.local {
		e.load()
	}
}

// bulk charges for the size on top of the stack.
func (e *emitter) bulk() {
	t := e.temp(typeI32)
	e.with(opLocalTee, t)
	e.take(func() {
		e.with(opLocalGet, t)
		e.op(opI64ExtendU)
		e.i64(BulkShift)
		e.op(opI64ShrU)
	}, true)
}

// canonical replaces a NaN on top of the stack by the canonical one.
func (e *emitter) canonical(k nan) {
	scalar := func(t byte, bits func(), eq byte) {
		v := e.temp(t)
		e.with(opLocalTee, v)
		bits()
		e.with(opLocalGet, v)
		e.with(opLocalGet, v)
		e.op(eq)
		e.op(opSelect)
	}
	f64 := func() {
		e.out = binary.LittleEndian.AppendUint64(append(e.out, opF64Const), canonicalF64)
	}
	f32 := func() {
		e.out = binary.LittleEndian.AppendUint32(append(e.out, opF32Const), canonicalF32)
	}
	vector := func(lo uint64, eq uint32) {
		v := e.temp(typeV128)
		e.with(opLocalTee, v)
		e.out = binary.LittleEndian.AppendUint64(append(e.out, prefixSIMD, simdConst), lo)
		e.out = binary.LittleEndian.AppendUint64(e.out, lo)
		e.with(opLocalGet, v)
		e.with(opLocalGet, v)
		e.out = appendU32(append(e.out, prefixSIMD), eq)
		e.bits()
	}
	switch k {
	case nanF32:
		scalar(typeF32, f32, opF32Eq)
	case nanF64:
		scalar(typeF64, f64, opF64Eq)
	case nanF32x4:
		vector(canonicalF32<<32|canonicalF32, simdF32x4Eq)
	case nanF64x2:
		vector(canonicalF64, simdF64x2Eq)
	}
}

// The canonical NaN: positive, the top bit of the payload set and no other.
const (
	canonicalF32 = 0x7fc00000
	canonicalF64 = 0x7ff8000000000000
)
