package rewrite

// CostVersion is the version of the table of fuel. The nodes of a job must
// agree on it: any change of a cost, or of what a program is charged or refused
// for, needs a new version.
const CostVersion = 2

// Version is the version of Rewrite's output. It must change with every change
// of the output, even if no fuel changes.
const Version = "3"

// Reasons why instructions are refused.
const (
	refThreads   = "threads race, so two runs can differ"
	refException = "exceptions leave a function without updating its counters"
	refTail      = "tail calls leave a function without updating its counters"
	refTable     = "tables are not part of the state, so they must not be written"
	refRelaxed   = "relaxed SIMD differs between processors"
	refSegment   = "dropped segments are not part of the state"
	refTyped     = "typed references are not supported"
	refFunc      = "wazero keeps memory for every execution of it; put the function into a table"
)

// Costs, in units of one i32.add: what was measured, rounded up, so that nothing
// takes longer per fuel than spec/runtime.md §2 states. Calls and br_table are
// priced for code that no cache holds.
// Instructions that only structure the code cost nothing; every branch, call
// and value costs something, so nothing repeats for free.
const (
	costNone    = 0
	costOne     = 1
	costMemory  = 2
	costMul     = 2
	costBranch  = 2
	costTable   = 24
	costCall    = 48
	costCallInd = 96
	costDiv     = 16
	costFloat   = 3
	costFloatD  = 12
	costRound   = 6
	costMinMax  = 8
	costTrunc   = 8
	costConvert = 4
	costVector  = 3
	costVecMul  = 6
	costVecSlow = 12
	costVecDiv  = 24
	costBulk    = 128
	costElement = 128
	costGlobal  = 64
)

// What depends on a size, in fuel.
const (
	// BulkShift: memory.copy, memory.fill and memory.init cost costBulk and one
	// fuel for each 1<<BulkShift bytes.
	BulkShift = 3
	// PageCost is the cost of each page of 64 KiB in a memory's initial size or
	// growth: for its first use, and for its hash when the program ends.
	PageCost = 65_536
	// StartBase is the cost of each start of a program, for its instance.
	StartBase = 262_144
	// Every load and store costs one more for each 1<<farShift pages of the
	// memory, at most maxFar: the more memory, the farther away it can be.
	farShift = 4
	maxFar   = 96
)

// Far is what each load and store costs in addition in a memory of that many pages.
func Far(pages uint32) uint64 { return min(uint64(pages)>>farShift, maxFar) }

// core, misc and simd are the rows of the opcodes without a prefix and with two of
// them. They are arrays, which the linker fills, so they cost nothing at start.
var core = [256]opcode{
	0x00: {name: "unreachable"},
	0x01: {name: "nop", sig: ":"},
	0x02: {name: "block", imm: immBlock},
	0x03: {name: "loop", imm: immBlock},
	0x04: {name: "if", imm: immBlock, fuel: costBranch},
	0x05: {name: "else"},
	0x06: {name: "try", refused: refException},
	0x07: {name: "catch", refused: refException},
	0x08: {name: "throw", refused: refException},
	0x09: {name: "rethrow", refused: refException},
	0x0a: {name: "throw_ref", refused: refException},
	0x18: {name: "delegate", refused: refException},
	0x19: {name: "catch_all", refused: refException},
	0x1f: {name: "try_table", refused: refException},
	0x0b: {name: "end"},
	0x0c: {name: "br", imm: immLabel, fuel: costBranch},
	0x0d: {name: "br_if", imm: immLabel, fuel: costBranch},
	0x0e: {name: "br_table", imm: immLabels, fuel: costTable},
	0x0f: {name: "return", fuel: costBranch},
	0x10: {name: "call", imm: immFunc, fuel: costCall},
	0x11: {name: "call_indirect", imm: immCall, fuel: costCallInd},
	0x12: {name: "return_call", refused: refTail},
	0x13: {name: "return_call_indirect", refused: refTail},
	0x14: {name: "call_ref", refused: refTyped},
	0x15: {name: "return_call_ref", refused: refTyped},
	0xd3: {name: "ref.eq", refused: refTyped},
	0xd4: {name: "ref.as_non_null", refused: refTyped},
	0xd5: {name: "br_on_null", refused: refTyped},
	0xd6: {name: "br_on_non_null", refused: refTyped},
	0x1a: {name: "drop"},
	0x1b: {name: "select", fuel: costMemory},
	0x1c: {name: "select", imm: immTypes, fuel: costMemory},
	0x20: {name: "local.get", imm: immLocal, fuel: costOne},
	0x21: {name: "local.set", imm: immLocal, fuel: costOne},
	0x22: {name: "local.tee", imm: immLocal, fuel: costOne},
	0x23: {name: "global.get", imm: immGlobal, fuel: costMemory},
	0x24: {name: "global.set", imm: immGlobal, fuel: costMemory},
	0x25: {name: "table.get", imm: immTable, sig: "i:r", fuel: costTable},
	0x26: {name: "table.set", refused: refTable},
	0x28: {name: "i32.load", imm: immMem, sig: "i:i", fuel: costMemory},
	0x29: {name: "i64.load", imm: immMem, sig: "i:l", fuel: costMemory},
	0x2a: {name: "f32.load", imm: immMem, sig: "i:f", fuel: costMemory},
	0x2b: {name: "f64.load", imm: immMem, sig: "i:d", fuel: costMemory},
	0x2c: {name: "i32.load8_s", imm: immMem, sig: "i:i", fuel: costMemory},
	0x2d: {name: "i32.load8_u", imm: immMem, sig: "i:i", fuel: costMemory},
	0x2e: {name: "i32.load16_s", imm: immMem, sig: "i:i", fuel: costMemory},
	0x2f: {name: "i32.load16_u", imm: immMem, sig: "i:i", fuel: costMemory},
	0x30: {name: "i64.load8_s", imm: immMem, sig: "i:l", fuel: costMemory},
	0x31: {name: "i64.load8_u", imm: immMem, sig: "i:l", fuel: costMemory},
	0x32: {name: "i64.load16_s", imm: immMem, sig: "i:l", fuel: costMemory},
	0x33: {name: "i64.load16_u", imm: immMem, sig: "i:l", fuel: costMemory},
	0x34: {name: "i64.load32_s", imm: immMem, sig: "i:l", fuel: costMemory},
	0x35: {name: "i64.load32_u", imm: immMem, sig: "i:l", fuel: costMemory},
	0x36: {name: "i32.store", imm: immMem, sig: "ii:", fuel: costMemory},
	0x37: {name: "i64.store", imm: immMem, sig: "il:", fuel: costMemory},
	0x38: {name: "f32.store", imm: immMem, sig: "if:", fuel: costMemory},
	0x39: {name: "f64.store", imm: immMem, sig: "id:", fuel: costMemory},
	0x3a: {name: "i32.store8", imm: immMem, sig: "ii:", fuel: costMemory},
	0x3b: {name: "i32.store16", imm: immMem, sig: "ii:", fuel: costMemory},
	0x3c: {name: "i64.store8", imm: immMem, sig: "il:", fuel: costMemory},
	0x3d: {name: "i64.store16", imm: immMem, sig: "il:", fuel: costMemory},
	0x3e: {name: "i64.store32", imm: immMem, sig: "il:", fuel: costMemory},
	0x3f: {name: "memory.size", imm: immZero, sig: ":i", fuel: costMemory},
	0x40: {name: "memory.grow", imm: immZero, sig: "i:i", fuel: costBulk},
	0x41: {name: "i32.const", imm: immI32, sig: ":i", fuel: costOne},
	0x42: {name: "i64.const", imm: immI64, sig: ":l", fuel: costOne},
	0x43: {name: "f32.const", imm: imm4, sig: ":f", fuel: costOne},
	0x44: {name: "f64.const", imm: imm8, sig: ":d", fuel: costOne},
	0x45: {name: "i32.eqz", sig: "i:i", fuel: costOne},
	0x46: {name: "i32.eq", sig: "ii:i", fuel: costOne},
	0x47: {name: "i32.ne", sig: "ii:i", fuel: costOne},
	0x48: {name: "i32.lt_s", sig: "ii:i", fuel: costOne},
	0x49: {name: "i32.lt_u", sig: "ii:i", fuel: costOne},
	0x4a: {name: "i32.gt_s", sig: "ii:i", fuel: costOne},
	0x4b: {name: "i32.gt_u", sig: "ii:i", fuel: costOne},
	0x4c: {name: "i32.le_s", sig: "ii:i", fuel: costOne},
	0x4d: {name: "i32.le_u", sig: "ii:i", fuel: costOne},
	0x4e: {name: "i32.ge_s", sig: "ii:i", fuel: costOne},
	0x4f: {name: "i32.ge_u", sig: "ii:i", fuel: costOne},
	0x50: {name: "i64.eqz", sig: "l:i", fuel: costOne},
	0x51: {name: "i64.eq", sig: "ll:i", fuel: costOne},
	0x52: {name: "i64.ne", sig: "ll:i", fuel: costOne},
	0x53: {name: "i64.lt_s", sig: "ll:i", fuel: costOne},
	0x54: {name: "i64.lt_u", sig: "ll:i", fuel: costOne},
	0x55: {name: "i64.gt_s", sig: "ll:i", fuel: costOne},
	0x56: {name: "i64.gt_u", sig: "ll:i", fuel: costOne},
	0x57: {name: "i64.le_s", sig: "ll:i", fuel: costOne},
	0x58: {name: "i64.le_u", sig: "ll:i", fuel: costOne},
	0x59: {name: "i64.ge_s", sig: "ll:i", fuel: costOne},
	0x5a: {name: "i64.ge_u", sig: "ll:i", fuel: costOne},
	0x5b: {name: "f32.eq", sig: "ff:i", fuel: costFloat, nan: nanBlind},
	0x5c: {name: "f32.ne", sig: "ff:i", fuel: costFloat, nan: nanBlind},
	0x5d: {name: "f32.lt", sig: "ff:i", fuel: costFloat, nan: nanBlind},
	0x5e: {name: "f32.gt", sig: "ff:i", fuel: costFloat, nan: nanBlind},
	0x5f: {name: "f32.le", sig: "ff:i", fuel: costFloat, nan: nanBlind},
	0x60: {name: "f32.ge", sig: "ff:i", fuel: costFloat, nan: nanBlind},
	0x61: {name: "f64.eq", sig: "dd:i", fuel: costFloat, nan: nanBlind},
	0x62: {name: "f64.ne", sig: "dd:i", fuel: costFloat, nan: nanBlind},
	0x63: {name: "f64.lt", sig: "dd:i", fuel: costFloat, nan: nanBlind},
	0x64: {name: "f64.gt", sig: "dd:i", fuel: costFloat, nan: nanBlind},
	0x65: {name: "f64.le", sig: "dd:i", fuel: costFloat, nan: nanBlind},
	0x66: {name: "f64.ge", sig: "dd:i", fuel: costFloat, nan: nanBlind},
	0x67: {name: "i32.clz", sig: "i:i", fuel: costMul},
	0x68: {name: "i32.ctz", sig: "i:i", fuel: costMul},
	0x69: {name: "i32.popcnt", sig: "i:i", fuel: costMul},
	0x6a: {name: "i32.add", sig: "ii:i", fuel: costOne},
	0x6b: {name: "i32.sub", sig: "ii:i", fuel: costOne},
	0x6c: {name: "i32.mul", sig: "ii:i", fuel: costMul},
	0x6d: {name: "i32.div_s", sig: "ii:i", fuel: costDiv},
	0x6e: {name: "i32.div_u", sig: "ii:i", fuel: costDiv},
	0x6f: {name: "i32.rem_s", sig: "ii:i", fuel: costDiv},
	0x70: {name: "i32.rem_u", sig: "ii:i", fuel: costDiv},
	0x71: {name: "i32.and", sig: "ii:i", fuel: costOne},
	0x72: {name: "i32.or", sig: "ii:i", fuel: costOne},
	0x73: {name: "i32.xor", sig: "ii:i", fuel: costOne},
	0x74: {name: "i32.shl", sig: "ii:i", fuel: costOne},
	0x75: {name: "i32.shr_s", sig: "ii:i", fuel: costOne},
	0x76: {name: "i32.shr_u", sig: "ii:i", fuel: costOne},
	0x77: {name: "i32.rotl", sig: "ii:i", fuel: costOne},
	0x78: {name: "i32.rotr", sig: "ii:i", fuel: costOne},
	0x79: {name: "i64.clz", sig: "l:l", fuel: costMul},
	0x7a: {name: "i64.ctz", sig: "l:l", fuel: costMul},
	0x7b: {name: "i64.popcnt", sig: "l:l", fuel: costMul},
	0x7c: {name: "i64.add", sig: "ll:l", fuel: costOne},
	0x7d: {name: "i64.sub", sig: "ll:l", fuel: costOne},
	0x7e: {name: "i64.mul", sig: "ll:l", fuel: costMul},
	0x7f: {name: "i64.div_s", sig: "ll:l", fuel: costDiv},
	0x80: {name: "i64.div_u", sig: "ll:l", fuel: costDiv},
	0x81: {name: "i64.rem_s", sig: "ll:l", fuel: costDiv},
	0x82: {name: "i64.rem_u", sig: "ll:l", fuel: costDiv},
	0x83: {name: "i64.and", sig: "ll:l", fuel: costOne},
	0x84: {name: "i64.or", sig: "ll:l", fuel: costOne},
	0x85: {name: "i64.xor", sig: "ll:l", fuel: costOne},
	0x86: {name: "i64.shl", sig: "ll:l", fuel: costOne},
	0x87: {name: "i64.shr_s", sig: "ll:l", fuel: costOne},
	0x88: {name: "i64.shr_u", sig: "ll:l", fuel: costOne},
	0x89: {name: "i64.rotl", sig: "ll:l", fuel: costOne},
	0x8a: {name: "i64.rotr", sig: "ll:l", fuel: costOne},
	0x8b: {name: "f32.abs", sig: "f:f", fuel: costFloat, nan: nanKeep},
	0x8c: {name: "f32.neg", sig: "f:f", fuel: costFloat, nan: nanKeep},
	0x8d: {name: "f32.ceil", sig: "f:f", fuel: costRound, nan: nanF32},
	0x8e: {name: "f32.floor", sig: "f:f", fuel: costRound, nan: nanF32},
	0x8f: {name: "f32.trunc", sig: "f:f", fuel: costRound, nan: nanF32},
	0x90: {name: "f32.nearest", sig: "f:f", fuel: costRound, nan: nanF32},
	0x91: {name: "f32.sqrt", sig: "f:f", fuel: costFloatD, nan: nanF32},
	0x92: {name: "f32.add", sig: "ff:f", fuel: costFloat, nan: nanF32},
	0x93: {name: "f32.sub", sig: "ff:f", fuel: costFloat, nan: nanF32},
	0x94: {name: "f32.mul", sig: "ff:f", fuel: costFloat, nan: nanF32},
	0x95: {name: "f32.div", sig: "ff:f", fuel: costFloatD, nan: nanF32},
	0x96: {name: "f32.min", sig: "ff:f", fuel: costMinMax, nan: nanF32},
	0x97: {name: "f32.max", sig: "ff:f", fuel: costMinMax, nan: nanF32},
	0x98: {name: "f32.copysign", sig: "ff:f", fuel: costFloat},
	0x99: {name: "f64.abs", sig: "d:d", fuel: costFloat, nan: nanKeep},
	0x9a: {name: "f64.neg", sig: "d:d", fuel: costFloat, nan: nanKeep},
	0x9b: {name: "f64.ceil", sig: "d:d", fuel: costRound, nan: nanF64},
	0x9c: {name: "f64.floor", sig: "d:d", fuel: costRound, nan: nanF64},
	0x9d: {name: "f64.trunc", sig: "d:d", fuel: costRound, nan: nanF64},
	0x9e: {name: "f64.nearest", sig: "d:d", fuel: costRound, nan: nanF64},
	0x9f: {name: "f64.sqrt", sig: "d:d", fuel: costFloatD, nan: nanF64},
	0xa0: {name: "f64.add", sig: "dd:d", fuel: costFloat, nan: nanF64},
	0xa1: {name: "f64.sub", sig: "dd:d", fuel: costFloat, nan: nanF64},
	0xa2: {name: "f64.mul", sig: "dd:d", fuel: costFloat, nan: nanF64},
	0xa3: {name: "f64.div", sig: "dd:d", fuel: costFloatD, nan: nanF64},
	0xa4: {name: "f64.min", sig: "dd:d", fuel: costMinMax, nan: nanF64},
	0xa5: {name: "f64.max", sig: "dd:d", fuel: costMinMax, nan: nanF64},
	0xa6: {name: "f64.copysign", sig: "dd:d", fuel: costFloat},
	0xa7: {name: "i32.wrap_i64", sig: "l:i", fuel: costOne},
	0xa8: {name: "i32.trunc_f32_s", sig: "f:i", fuel: costTrunc, nan: nanBlind},
	0xa9: {name: "i32.trunc_f32_u", sig: "f:i", fuel: costTrunc, nan: nanBlind},
	0xaa: {name: "i32.trunc_f64_s", sig: "d:i", fuel: costTrunc, nan: nanBlind},
	0xab: {name: "i32.trunc_f64_u", sig: "d:i", fuel: costTrunc, nan: nanBlind},
	0xac: {name: "i64.extend_i32_s", sig: "i:l", fuel: costOne},
	0xad: {name: "i64.extend_i32_u", sig: "i:l", fuel: costOne},
	0xae: {name: "i64.trunc_f32_s", sig: "f:l", fuel: costTrunc, nan: nanBlind},
	0xaf: {name: "i64.trunc_f32_u", sig: "f:l", fuel: costTrunc, nan: nanBlind},
	0xb0: {name: "i64.trunc_f64_s", sig: "d:l", fuel: costTrunc, nan: nanBlind},
	0xb1: {name: "i64.trunc_f64_u", sig: "d:l", fuel: costTrunc, nan: nanBlind},
	0xb2: {name: "f32.convert_i32_s", sig: "i:f", fuel: costConvert, nan: nanNever},
	0xb3: {name: "f32.convert_i32_u", sig: "i:f", fuel: costConvert, nan: nanNever},
	0xb4: {name: "f32.convert_i64_s", sig: "l:f", fuel: costConvert, nan: nanNever},
	0xb5: {name: "f32.convert_i64_u", sig: "l:f", fuel: costTrunc, nan: nanNever},
	0xb6: {name: "f32.demote_f64", sig: "d:f", fuel: costConvert, nan: nanF32},
	0xb7: {name: "f64.convert_i32_s", sig: "i:d", fuel: costConvert, nan: nanNever},
	0xb8: {name: "f64.convert_i32_u", sig: "i:d", fuel: costConvert, nan: nanNever},
	0xb9: {name: "f64.convert_i64_s", sig: "l:d", fuel: costConvert, nan: nanNever},
	0xba: {name: "f64.convert_i64_u", sig: "l:d", fuel: costTrunc, nan: nanNever},
	0xbb: {name: "f64.promote_f32", sig: "f:d", fuel: costConvert, nan: nanF64},
	0xbc: {name: "i32.reinterpret_f32", sig: "f:i", fuel: costOne},
	0xbd: {name: "i64.reinterpret_f64", sig: "d:l", fuel: costOne},
	0xbe: {name: "f32.reinterpret_i32", sig: "i:f", fuel: costOne},
	0xbf: {name: "f64.reinterpret_i64", sig: "l:d", fuel: costOne},
	0xc0: {name: "i32.extend8_s", sig: "i:i", fuel: costOne},
	0xc1: {name: "i32.extend16_s", sig: "i:i", fuel: costOne},
	0xc2: {name: "i64.extend8_s", sig: "l:l", fuel: costOne},
	0xc3: {name: "i64.extend16_s", sig: "l:l", fuel: costOne},
	0xc4: {name: "i64.extend32_s", sig: "l:l", fuel: costOne},
	0xd0: {name: "ref.null", imm: immRef, sig: ":r", fuel: costOne},
	0xd1: {name: "ref.is_null", sig: "r:i", fuel: costOne},
	0xd2: {name: "ref.func", refused: refFunc},
}

var misc = [256]opcode{
	0:  {name: "i32.trunc_sat_f32_s", sig: "f:i", fuel: costTrunc, nan: nanBlind},
	1:  {name: "i32.trunc_sat_f32_u", sig: "f:i", fuel: costTrunc, nan: nanBlind},
	2:  {name: "i32.trunc_sat_f64_s", sig: "d:i", fuel: costTrunc, nan: nanBlind},
	3:  {name: "i32.trunc_sat_f64_u", sig: "d:i", fuel: costTrunc, nan: nanBlind},
	4:  {name: "i64.trunc_sat_f32_s", sig: "f:l", fuel: costTrunc, nan: nanBlind},
	5:  {name: "i64.trunc_sat_f32_u", sig: "f:l", fuel: costTrunc, nan: nanBlind},
	6:  {name: "i64.trunc_sat_f64_s", sig: "d:l", fuel: costTrunc, nan: nanBlind},
	7:  {name: "i64.trunc_sat_f64_u", sig: "d:l", fuel: costTrunc, nan: nanBlind},
	8:  {name: "memory.init", imm: immData, sig: "iii:", fuel: costBulk},
	9:  {name: "data.drop", imm: immSeg, refused: refSegment},
	10: {name: "memory.copy", imm: immZeros, sig: "iii:", fuel: costBulk},
	11: {name: "memory.fill", imm: immZero, sig: "iii:", fuel: costBulk},
	12: {name: "table.init", refused: refTable},
	13: {name: "elem.drop", refused: refTable},
	14: {name: "table.copy", refused: refTable},
	15: {name: "table.grow", refused: refTable},
	17: {name: "table.fill", refused: refTable},
	16: {name: "table.size", imm: immTable, sig: ":i", fuel: costMemory},
}
