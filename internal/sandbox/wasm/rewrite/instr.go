package rewrite

import "fmt"

// instr is one instruction of a body.
type instr struct {
	c       code
	at, end uint32 // its bytes in the body
	arg     uint32 // index, label, block type; of a constant whether it is a NaN, or not zero
}

// blockVoid and up: what arg of a block says other than the index of a type.
const (
	blockVoid  = 1 << 31
	blockValue = 1<<31 | 1<<30 // with the value type in the low byte
)

// scan decodes the instructions of a body into list and checks every index
// against the original module, so that nothing can refer to what the rewriter
// adds.
func (m *module) scan(b *body, typ funcType, list []instr) ([]instr, error) {
	r := &reader{b: b.code, base: b.base}
	locals := uint32(len(typ.params) + b.locals)
	depth := 1
	for depth > 0 {
		if r.end() {
			r.fail("it ends within a function")
		}
		if len(list) == maxFunctionOp {
			return nil, fmt.Errorf("%w: more than %d instructions", ErrTooLarge, maxFunctionOp)
		}
		i := instr{at: uint32(r.pos)}
		i.c = code(r.byte())
		if i.c >= prefixGC && i.c <= prefixAtomic {
			sub := r.u32()
			if sub > 0xfff {
				r.fail("no instruction %#x %d", uint32(i.c), sub)
			}
			i.c = prefixed(byte(i.c), sub)
		}
		if r.err != nil {
			return nil, r.err
		}
		row := i.c.row()
		switch {
		case row.name == "":
			r.pos = int(i.at)
			r.fail("no instruction: %v", i.c)
			return nil, r.err
		case row.refused != "":
			return nil, fmt.Errorf("%s at offset %d: %w: %s", row.name, b.base+int(i.at), ErrRefused, row.refused)
		}
		m.immediate(r, row.imm, &i, locals)
		switch i.c {
		case opBlock, opLoop, opIf:
			if depth++; depth > maxNesting {
				return nil, fmt.Errorf("%w: blocks nested deeper than %d", ErrTooLarge, maxNesting)
			}
		case opEnd:
			depth--
		case opBr, opBrIf:
			if r.err == nil && int64(i.arg) >= int64(depth) {
				r.fail("no label %d", i.arg)
			}
		}
		if r.err != nil {
			return nil, r.err
		}
		i.end = uint32(r.pos)
		list = append(list, i)
	}
	if !r.end() {
		r.fail("%d bytes behind the end of a function", r.left())
		return nil, r.err
	}
	return list, nil
}

// immediate reads the immediates of an opcode.
func (m *module) immediate(r *reader, kind imm, i *instr, locals uint32) {
	index := func(what string, n int) {
		if i.arg = r.u32(); r.err == nil && int64(i.arg) >= int64(n) {
			r.fail("%v of %s %d, which is not there", i.c, what, i.arg)
		}
	}
	memory := func() {
		if r.err == nil && m.memory == nil {
			r.fail("%v without a memory", i.c)
		}
	}
	zero := func() {
		if z := r.byte(); r.err == nil && z != 0 {
			r.refuse(i.c.String()+" of another memory", "a state has one")
		}
	}
	switch kind {
	case immBlock:
		i.arg = m.blockType(r)
	case immLabel:
		i.arg = r.u32()
	case immLabels:
		for range r.count("labels", 1, maxLabels) {
			r.u32()
		}
		r.u32()
	case immFunc:
		index("function", len(m.imports)+len(m.funcs))
		if r.err == nil && i.c == opRefFunc && !m.declared[i.arg] {
			r.fail("ref.func of function %d, which is neither exported nor in a table", i.arg)
		}
	case immCall:
		index("type", len(m.types))
		if table := r.u32(); r.err == nil && int64(table) >= int64(len(m.tables)) {
			r.fail("call_indirect of table %d, which is not there", table)
		}
	case immLocal:
		index("local", int(locals))
	case immGlobal:
		index("global", len(m.globals))
	case immTable:
		index("table", len(m.tables))
	case immMem, immMemL:
		memory()
		if align := r.u32(); r.err == nil && align > 4 {
			r.refuse(i.c.String()+" with flags", "a state has one memory")
		}
		r.u32()
		if kind == immMemL {
			r.byte()
		}
	case immLane:
		r.byte()
	case immZero, immZeros:
		memory()
		zero()
		if kind == immZeros {
			zero()
		}
	case immI32, immI64:
		bits := 32
		if kind == immI64 {
			bits = 64
		}
		if r.signed(bits) != 0 {
			i.arg = 1
		}
	case imm4:
		i.arg = 0
		if b := r.take(4); b != nil && b[3]&0x7f == 0x7f && b[2]&0x80 != 0 && (b[2]&0x7f|b[1]|b[0]) != 0 {
			i.arg = 1 // a NaN
		}
	case imm8:
		if b := r.take(8); b != nil && b[7]&0x7f == 0x7f && b[6]&0xf0 == 0xf0 && (b[6]&0x0f|b[5]|b[4]|b[3]|b[2]|b[1]|b[0]) != 0 {
			i.arg = 1
		}
	case imm16:
		r.take(16)
	case immTypes:
		if n := r.u32(); r.err == nil && n != 1 {
			r.fail("select of %d types", n)
		}
		r.valueType()
	case immRef:
		r.refType()
	case immData:
		memory()
		m.dataIndex(r, i)
		zero()
	case immSeg:
		m.dataIndex(r, i)
	}
}

func (m *module) dataIndex(r *reader, i *instr) {
	i.arg = r.u32()
	switch {
	case r.err != nil:
	case !m.counted:
		r.fail("%v without a data count section", i.c)
	case i.arg >= m.nData:
		r.fail("%v of data segment %d, which is not there", i.c, i.arg)
	}
}

func (m *module) blockType(r *reader) uint32 {
	if r.end() {
		r.fail("it ends too early")
		return 0
	}
	switch b := r.b[r.pos]; {
	case b == 0x40:
		r.pos++
		return blockVoid
	case b&0xc0 == 0x40:
		return blockValue | uint32(r.valueType())
	}
	i := r.signed(33)
	if r.err == nil && (i < 0 || i >= int64(len(m.types))) {
		r.fail("no type %d", i)
	}
	return uint32(i)
}

// blockSig returns the numbers of parameters and results of a block type.
func (m *module) blockSig(arg uint32) (params, results int) {
	switch {
	case arg == blockVoid:
		return 0, 0
	case arg&blockValue == blockValue:
		return 0, 1
	}
	t := &m.types[arg]
	return len(t.params), len(t.results)
}
