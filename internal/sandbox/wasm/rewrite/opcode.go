package rewrite

import (
	"fmt"
	"strings"
)

// imm says which immediates follow an opcode.
type imm uint8

const (
	immNone   imm = iota
	immBlock      // block type
	immLabel      // label index
	immLabels     // br_table's vector and default
	immFunc       // function index
	immCall       // type index, table index
	immLocal      // local index
	immGlobal     // global index
	immTable      // table index
	immMem        // alignment and offset
	immLane       // lane index
	immMemL       // alignment, offset and lane
	immZero       // one byte, memory 0
	immZeros      // two of them
	immI32        // signed LEB of 32 bits
	immI64        // signed LEB of 64 bits
	imm4          // 4 bytes
	imm8          // 8 bytes
	imm16         // 16 bytes
	immTypes      // vector of value types
	immRef        // reference type
	immData       // data index, memory 0
	immSeg        // data index
)

// nan says how an instruction treats the bits of a NaN.
type nan uint8

const (
	nanNone  nan = iota // may show its operands' bits; its result is fixed
	nanF32              // f32 arithmetic: may return any NaN, shows no operand's bits
	nanF64              // f64 arithmetic
	nanF32x4            // f32x4 arithmetic
	nanF64x2            // f64x2 arithmetic
	nanKeep             // returns its operand's NaN, perhaps with another sign
	nanNever            // never returns a NaN
	nanBlind            // only distinguishes a NaN from a number: comparison, truncation
)

// opcode is one row of the table: all that the rewriter knows about an
// instruction.
type opcode struct {
	name string
	imm  imm
	// sig is operands ':' results, one letter each: i32 i, i64 l, f32 f, f64 d,
	// v128 v, a reference r. It is empty if it depends on the immediates.
	sig  string
	fuel uint32
	nan  nan
	// refused is the reason why the instruction is refused, or "".
	refused string
}

// pops is the number of operands, pushes that of results; both are 0 if they depend
// on the immediates.
func (o *opcode) pops() int { return max(strings.IndexByte(o.sig, ':'), 0) }
func (o *opcode) pushes() int {
	return max(len(o.sig)-1-strings.IndexByte(o.sig, ':'), 0) * min(len(o.sig), 1)
}

// Prefixes of two-part opcodes.
const (
	prefixMisc   = 0xfc
	prefixSIMD   = 0xfd
	prefixAtomic = 0xfe
	prefixGC     = 0xfb
)

// Opcodes that the rewriter treats individually.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectT      = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32LtS       = 0x48
	opI32GeU       = 0x4f
	opI64LtS       = 0x53
	opI64GtU       = 0x56
	opI64GeU       = 0x5a
	opF32Eq        = 0x5b
	opF64Eq        = 0x61
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI32And       = 0x71
	opI32Or        = 0x72
	opI32DivS      = 0x6d
	opI32RemU      = 0x70
	opI32Shl       = 0x74
	opI32ShrS      = 0x75
	opI32ShrU      = 0x76
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64Mul       = 0x7e
	opI64DivS      = 0x7f
	opI64RemU      = 0x82
	opI64And       = 0x83
	opI64Or        = 0x84
	opI64Shl       = 0x86
	opI64ShrS      = 0x87
	opI64ShrU      = 0x88
	opF32Mul       = 0x94
	opF32Copysign  = 0x98
	opF64Mul       = 0xa2
	opF64Copysign  = 0xa6
	opI32Wrap      = 0xa7
	opI32TruncF32S = 0xa8
	opI32TruncF64U = 0xab
	opI64ExtendU   = 0xad
	opI64TruncF32S = 0xae
	opI64TruncF64U = 0xb1
	opF32OfS64     = 0xb4
	opF32OfU64     = 0xb5
	opF64OfS64     = 0xb9
	opF64OfU64     = 0xba
	opI32OfF32     = 0xbc
	opI64OfF64     = 0xbd
	opF32OfI32     = 0xbe
	opF64OfI64     = 0xbf
	opRefNull      = 0xd0
	opRefFunc      = 0xd2

	miscMemoryInit = 8
	miscMemoryCopy = 10
	miscMemoryFill = 11

	simdConst     = 12
	simdAnd       = 78
	simdOr        = 80
	simdXor       = 81
	simdBitselect = 82
	simdF32x4Eq   = 65
	simdF32x4Ne   = 66
	simdF64x2Eq   = 71
	simdF64x2Ne   = 72
	simdExtendLow = 201 // i64x2.extend_low_i32x4_u
	simdF64x2Sub  = 241

	simdI64x2Splat   = 18
	simdI64x2Extract = 29
	simdI64x2Replace = 30
	simdF64x2Replace = 34
	simdPopcnt       = 98 // i8x16.popcnt
	simdI8x16Add     = 110
	simdI8x16Sub     = 113
	simdI16x8ShrU    = 141
	simdI64x2Mul     = 213
	simdF32x4Min     = 232
	simdF32x4Max     = 233
	simdF32x4PMin    = 234
	simdF32x4PMax    = 235
	simdF64x2Min     = 244
	simdF64x2Max     = 245
	simdF64x2PMin    = 246
	simdF64x2PMax    = 247

	simdConvertLow = 255 // f64x2.convert_low_i32x4_u
)

// code is an opcode with its prefix in the second byte: 0x6a, 0xfc0b, 0xfd0e4.
type code uint32

func (c code) String() string {
	if o := c.row(); o.name != "" {
		return o.name
	}
	if p := c.prefix(); p != 0 {
		return fmt.Sprintf("opcode %#x %d", p, c.sub())
	}
	return fmt.Sprintf("opcode %#x", uint32(c))
}

func (c code) prefix() byte { return byte(c >> 12) }
func (c code) sub() uint32  { return uint32(c) & 0xfff }

func prefixed(prefix byte, sub uint32) code { return code(prefix)<<12 | code(sub) }

// row returns the opcode's row of the table; a row without a name is not an
// opcode.
func (c code) row() *opcode {
	switch sub := c.sub(); c.prefix() {
	case 0:
		return &core[byte(sub)]
	case prefixMisc:
		if sub < uint32(len(misc)) {
			return &misc[sub]
		}
	case prefixSIMD:
		if sub < uint32(len(simd)) {
			return &simd[sub]
		}
	case prefixAtomic:
		return &atomicRow
	case prefixGC:
		return &gcRow
	}
	return &opcode{}
}

var (
	atomicRow = opcode{name: "an atomic instruction", refused: refThreads}
	gcRow     = opcode{name: "a garbage collection instruction", refused: "garbage collected values are not part of the state"}
)
