package rewrite

import (
	"encoding/binary"
	"math"
)

// wazero v1.12.0's register allocator for amd64 stores a spilled value once, behind the
// last instruction that makes it, and an instruction that changes a register in place
// does not count. So a temporary that is made in several steps is wrong if an operand is
// fetched back from the stack in between, which may take its register even if others
// are free. Of the sequences that wazero emits for one instruction, those for
// v128.bitselect, copysign and f64x2.convert_low_i32x4_u fetch an operand behind such a
// step. They are written as instructions that take one step each.

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

// sign writes f32.copysign or f64.copysign, of the bits as integers.
func (e *emitter) sign(t byte) {
	toBits, and, or, back := byte(opI32OfF32), byte(opI32And), byte(opI32Or), byte(opF32OfI32)
	sign := func() { e.i32(math.MinInt32) }
	rest := func() { e.i32(math.MaxInt32) }
	if t == typeF64 {
		toBits, and, or, back = opI64OfF64, opI64And, opI64Or, opF64OfI64
		sign = func() { e.i64(math.MinInt64) }
		rest = func() { e.i64(math.MaxInt64) }
	}
	second := e.temp(t)
	e.with(opLocalSet, second)
	e.op(toBits)
	rest()
	e.op(and)
	e.with(opLocalGet, second)
	e.op(toBits)
	sign()
	e.op(and)
	e.op(or)
	e.op(back)
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
