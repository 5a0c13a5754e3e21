package rewrite

import (
	"encoding/binary"
	"math"
)

// wazero v1.12.0's register allocator for amd64 stores a spilled value once, behind the
// last instruction that makes it, and an instruction that changes a register in place
// does not count. So a temporary that is made in several steps is wrong if an operand is
// fetched back from the stack in between, which may take its register even if others
// are free. It also ignores the branches within a sequence for one instruction: what one
// arm fetches from the stack, it takes to be in its register after the other arm, too.
// The sequences that wazero emits for these instructions fetch an operand behind such a
// step or in such an arm. They are written as instructions that take one step each.

// inSteps returns what writes an instruction in steps, or nil if it stays as it is.
func inSteps(c code) func(*emitter) {
	switch c {
	case opF32Copysign:
		return func(e *emitter) { e.sign(typeF32) }
	case opF64Copysign:
		return func(e *emitter) { e.sign(typeF64) }
	case opF32OfU64:
		return func(e *emitter) { e.convertU64(typeF32) }
	case opF64OfU64:
		return func(e *emitter) { e.convertU64(typeF64) }
	}
	if c.prefix() != prefixSIMD {
		return nil
	}
	switch c.sub() {
	case simdBitselect:
		return (*emitter).bits
	case simdConvertLow:
		return (*emitter).convertLow
	case simdPopcnt:
		return (*emitter).popcnt
	case simdI64x2Mul:
		return (*emitter).mul64
	case simdF32x4Min:
		return func(e *emitter) { e.least(simdF32x4PMin) }
	case simdF64x2Min:
		return func(e *emitter) { e.least(simdF64x2PMin) }
	case simdF32x4Max:
		return func(e *emitter) { e.most(simdF32x4PMax, simdF32x4Ne) }
	case simdF64x2Max:
		return func(e *emitter) { e.most(simdF64x2PMax, simdF64x2Ne) }
	}
	return nil
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
	e.simd(simdExtendLow)
	e.twice(two52)
	e.simd(simdOr)
	e.twice(two52)
	e.simd(simdF64x2Sub)
}

// twice writes a vector of two equal halves.
func (e *emitter) twice(half uint64) {
	e.simd(simdConst)
	e.out = binary.LittleEndian.AppendUint64(e.out, half)
	e.out = binary.LittleEndian.AppendUint64(e.out, half)
}

// operands takes two vectors from the stack. The function that it returns writes both
// in their order, and if swapped in the other order.
func (e *emitter) operands() func(swapped bool) {
	first, second := e.temp(typeV128), e.temp(typeV128Too)
	e.with(opLocalSet, second)
	e.with(opLocalSet, first)
	return func(swapped bool) {
		if swapped {
			e.with(opLocalGet, second)
			e.with(opLocalGet, first)
			return
		}
		e.with(opLocalGet, first)
		e.with(opLocalGet, second)
	}
}

// least writes the minimum of floats. pmin is one operand or the other: in both orders
// it is the same one, but for equal ones and a NaN, in which case it is the first. The
// bits of both together are -0 for zeros of both signs, and a NaN if one is a NaN, which
// is made canonical like every result of vector arithmetic.
func (e *emitter) least(pmin uint32) {
	both := e.operands()
	both(false)
	e.simd(pmin)
	both(true)
	e.simd(pmin)
	e.simd(simdOr)
}

// most writes the maximum of floats, likewise: the bits that both have are +0 for zeros
// of both signs. Only if one is a NaN they are unequal, and all bits are set.
func (e *emitter) most(pmax, ne uint32) {
	both := e.operands()
	both(false)
	e.simd(pmax)
	both(true)
	e.simd(pmax)
	both = e.operands()
	both(false)
	e.simd(simdAnd)
	both(false)
	e.simd(ne)
	e.simd(simdOr)
}

// mul64 writes i64x2.mul as two multiplications of integers.
func (e *emitter) mul64() {
	first, second := e.temp(typeV128), e.temp(typeV128Too)
	e.with(opLocalSet, second)
	e.with(opLocalSet, first)
	product := func(lane byte) {
		for _, v := range []uint32{first, second} {
			e.with(opLocalGet, v)
			e.simd(simdI64x2Extract)
			e.op(lane)
		}
		e.op(opI64Mul)
	}
	product(0)
	e.simd(simdI64x2Splat)
	product(1)
	e.simd(simdI64x2Replace)
	e.op(1)
}

// popcnt writes i8x16.popcnt: the bits are counted in pairs, in fours and in bytes. A
// shift of 16 bits moves bits into the lower byte, where the masks clear them.
func (e *emitter) popcnt() {
	const pairs, fours, bytes = 0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f
	v := e.temp(typeV128)
	shifted := func(n int32) {
		e.with(opLocalGet, v)
		e.i32(n)
		e.simd(simdI16x8ShrU)
	}
	and := func(mask uint64) {
		e.twice(mask)
		e.simd(simdAnd)
	}
	e.with(opLocalTee, v)
	shifted(1)
	and(pairs)
	e.simd(simdI8x16Sub)
	e.with(opLocalTee, v)
	and(fours)
	shifted(2)
	and(fours)
	e.simd(simdI8x16Add)
	e.with(opLocalTee, v)
	shifted(4)
	e.simd(simdI8x16Add)
	and(bytes)
}

// convertU64 writes f32.convert_i64_u or f64.convert_i64_u. Of a number x with the
// highest bit s, (x >> s) | (x & s) is one that convert_i64_s takes, with a lowest bit
// that is set if the half is rounded down, so that it is rounded like x. The result is
// times 1 or 2, a float whose exponent has s added.
func (e *emitter) convertU64(t byte) {
	x := e.temp(typeI64)
	sign := func() {
		e.with(opLocalGet, x)
		e.i64(63)
		e.op(opI64ShrU)
	}
	e.with(opLocalTee, x)
	sign()
	e.op(opI64ShrU)
	e.with(opLocalGet, x)
	sign()
	e.op(opI64And)
	e.op(opI64Or)
	if t == typeF32 {
		e.op(opF32OfS64)
		sign()
		e.op(opI32Wrap)
		e.i32(23)
		e.op(opI32Shl)
		e.i32(0x3f800000)
		e.op(opI32Add)
		e.op(opF32OfI32)
		e.op(opF32Mul)
		return
	}
	e.op(opF64OfS64)
	sign()
	e.i64(52)
	e.op(opI64Shl)
	e.i64(0x3ff0000000000000)
	e.op(opI64Add)
	e.op(opF64OfI64)
	e.op(opF64Mul)
}
