package rewrite

// Instruction is an instruction without control flow that modules may use. It is
// for what generates modules: tests and the search for what is undercharged.
type Instruction struct {
	Name string
	// Code is the opcode with its prefix, without immediates.
	Code []byte
	Imm  Immediate
	// Sig are its operands and results.
	Sig  Signature
	Fuel uint32
}

// Immediate says what follows an instruction's code.
type Immediate uint8

const (
	NoImmediate   Immediate = iota
	MemoryAddress           // alignment and offset
	Lane                    // one byte
	MemoryLane              // alignment, offset and lane
	Bytes16                 // a vector, or sixteen lanes
)

// Instructions returns all of them whose type does not depend on immediates.
func Instructions() (list []Instruction) {
	kinds := map[imm]Immediate{immNone: NoImmediate, immMem: MemoryAddress, immLane: Lane, immMemL: MemoryLane, imm16: Bytes16}
	for _, t := range []struct {
		prefix byte
		rows   []opcode
	}{{0, core[:]}, {prefixMisc, misc[:]}, {prefixSIMD, simd[:]}} {
		for c, o := range t.rows {
			kind, ok := kinds[o.imm]
			if o.name == "" || o.refused != "" || !ok || len(o.sig) < 2 {
				continue
			}
			code := []byte{byte(c)}
			if t.prefix != 0 {
				code = appendU32([]byte{t.prefix}, uint32(c))
			}
			list = append(list, Instruction{o.name, code, kind, Signature(o.sig), o.fuel})
		}
	}
	return list
}
