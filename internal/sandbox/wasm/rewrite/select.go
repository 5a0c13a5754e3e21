package rewrite

import (
	"encoding/binary"
	"math"
	"slices"
)

// wazero v1.12.0's register allocator for amd64 stores a spilled value once, behind the
// last instruction that makes it, and an instruction that changes a register in place
// does not count. So a temporary that is made in several steps is wrong if an operand is
// fetched back from the stack in between, which may take its register even if others
// are free. Of the sequences that wazero emits for one instruction, these fetch an
// operand behind such a step:
//
//   - a select of floats or vectors, whose conditional move even counts as making a
//     new value: its result is what a register happens to hold;
//   - v128.bitselect, copysign and f64x2.convert_low_i32x4_u.
//
// They are written as instructions that take one step each: floats are selected and get
// their signs as integers, vectors are selected by exclusive ors.

// valueTypes are the value types by the letters of an opcode's signature.
var valueTypes = map[byte]byte{'i': typeI32, 'l': typeI64, 'f': typeF32, 'd': typeF64, 'v': typeV128, 'r': typeFuncref}

// typed walks through a function and keeps the types of all operands.
type typed struct {
	m      *module
	locals []byte
	stack  []byte
	frames []typedFrame
	nested int // blocks within dead code
}

type typedFrame struct {
	params, results []byte
	height          int // of the stack beneath its parameters
	dead            bool
}

// selects returns the types of the operands of each select of floats or vectors,
// by the number of the instruction; nil if there is none. analyse has checked the
// number of operands.
func (m *module) selects(code []instr, typ funcType, locals []byte) map[int]byte {
	if !slices.ContainsFunc(code, func(i instr) bool { return i.c == opSelect || i.c == opSelectT }) {
		return nil
	}
	var found map[int]byte
	t := typed{m: m, locals: locals, frames: []typedFrame{{results: typ.results}}}
	for n := range code {
		i := &code[n]
		if t.top().dead && !t.revives(i) {
			continue
		}
		if i.c == opSelect || i.c == opSelectT {
			if k := t.stack[len(t.stack)-2]; k == typeF32 || k == typeF64 || k == typeV128 {
				if found == nil {
					found = map[int]byte{}
				}
				found[n] = k
			}
		}
		t.step(i)
	}
	return found
}

func (t *typed) top() *typedFrame { return &t.frames[len(t.frames)-1] }

func (t *typed) revives(i *instr) bool {
	switch i.c {
	case opBlock, opLoop, opIf:
		t.nested++
	case opElse:
		return t.nested == 0
	case opEnd:
		if t.nested == 0 {
			return true
		}
		t.nested--
	}
	return false
}

func (t *typed) swap(pops int, pushes ...byte) {
	t.stack = append(t.stack[:len(t.stack)-pops], pushes...)
}

func (t *typed) step(i *instr) {
	switch i.c {
	case opBlock, opLoop, opIf:
		if i.c == opIf {
			t.swap(1)
		}
		params, results := t.m.blockTypes(i.arg)
		t.frames = append(t.frames, typedFrame{params: params, results: results, height: len(t.stack) - len(params)})
	case opElse:
		f := t.top()
		t.stack, f.dead = append(t.stack[:f.height], f.params...), false
	case opEnd:
		f := t.top()
		t.stack = append(t.stack[:f.height], f.results...)
		if len(t.frames) > 1 { // the last one is the function's own
			t.frames = t.frames[:len(t.frames)-1]
		}
	case opUnreachable, opBr, opBrTable, opReturn:
		t.top().dead = true
	case opBrIf, opDrop, opLocalSet, opGlobalSet:
		t.swap(1)
	case opCall:
		typ := t.m.typeOf(i.arg)
		t.swap(len(typ.params), typ.results...)
	case opCallIndirect:
		typ := t.m.types[i.arg]
		t.swap(len(typ.params)+1, typ.results...)
	case opLocalGet:
		t.swap(0, t.locals[i.arg])
	case opLocalTee:
	case opGlobalGet:
		t.swap(0, t.m.globals[i.arg].typ)
	case opSelect, opSelectT:
		t.swap(2)
	default:
		row := i.c.row()
		t.stack = t.stack[:len(t.stack)-row.pops]
		for k := range row.pushes {
			t.stack = append(t.stack, valueTypes[row.sig[row.pops+1+k]])
		}
	}
}

// selected writes the select of two floats or vectors of that type.
func (e *emitter) selected(t byte) {
	if t == typeV128 {
		e.op(opI32Eqz)
		e.i32(1)
		e.op(opI32Sub) // no bit is set if the condition is zero, otherwise all
		e.simd(simdI32x4Splat)
		e.bits()
		return
	}
	from, to := byte(opI32OfF32), byte(opF32OfI32)
	if t == typeF64 {
		from, to = opI64OfF64, opF64OfI64
	}
	condition, second := e.temp(typeI32), e.temp(t)
	e.with(opLocalSet, condition)
	e.with(opLocalSet, second)
	e.op(from)
	e.with(opLocalGet, second)
	e.op(from)
	e.with(opLocalGet, condition)
	e.op(opSelect)
	e.op(to)
}

// bits writes v128.bitselect: of the two vectors below the mask, the first one's bits
// if the mask's are set, otherwise the second one's.
func (e *emitter) bits() {
	mask, second := e.temp(typeV128), e.temp(typeV128Too)
	e.with(opLocalSet, mask)
	e.with(opLocalTee, second)
	e.simd(simdXor)
	e.with(opLocalGet, mask)
	e.simd(simdAnd)
	e.with(opLocalGet, second)
	e.simd(simdXor)
}

// sign writes f32.copysign or f64.copysign.
func (e *emitter) sign(t byte) {
	second := e.temp(t)
	e.with(opLocalSet, second)
	if t == typeF64 {
		e.op(opI64OfF64)
		e.i64(math.MaxInt64)
		e.op(opI64And)
		e.with(opLocalGet, second)
		e.op(opI64OfF64)
		e.i64(math.MinInt64)
		e.op(opI64And)
		e.op(opI64Or)
		e.op(opF64OfI64)
		return
	}
	e.op(opI32OfF32)
	e.i32(math.MaxInt32)
	e.op(opI32And)
	e.with(opLocalGet, second)
	e.op(opI32OfF32)
	e.i32(math.MinInt32)
	e.op(opI32And)
	e.op(opI32Or)
	e.op(opF32OfI32)
}

// convertLow writes f64x2.convert_low_i32x4_u: a number below 2^32 in the low bits of
// 2^52, less 2^52.
func (e *emitter) convertLow() {
	const two52 = 0x4330000000000000
	constant := func() {
		e.simd(simdConst)
		e.out = binary.LittleEndian.AppendUint64(e.out, two52)
		e.out = binary.LittleEndian.AppendUint64(e.out, two52)
	}
	e.simd(simdExtendLow)
	constant()
	e.simd(simdOr)
	constant()
	e.simd(simdF64x2Sub)
}
