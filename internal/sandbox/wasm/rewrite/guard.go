package rewrite

// wazero v1.12.0 lowers a branch on a comparison of zero with the result of an
// `and` to one instruction that only sets flags, and then uses the condition as
// if the `and` stood on the left:
//
//   - on amd64 (TEST) and arm64 (ANDS), an ordering with the zero on the left is
//     evaluated with its operands exchanged: 0 < (x & y) becomes (x & y) < 0;
//   - on arm64, ANDS clears the carry where a comparison with zero sets it, so
//     an unsigned ordering is wrong with the zero on the right as well.
//
// Both operands may arrive through locals, blocks and shifts by zero, because
// the compiler works on values and not on the code's form. So an ordering is
// guarded (x becomes x | 0, which is neither a constant nor an `and`) unless one
// operand is certainly no `and` or the other is certainly not zero. That a value
// is an `and` matters only within the basic block that computes it.

// origin is what guards knows about the value of an operand or local.
type origin uint8

const (
	maybeZero origin = iota // it may be the constant 0; it is not an `and`
	masked                  // it may be the result of an `and` of this basic block
	other                   // it is neither
)

// guards returns the numbers of the orderings whose right operand must be made
// opaque.
func (m *module) guards(code []instr, locals int) (list []int) {
	g := guarding{m: m, locals: make([]origin, locals)}
	for n := range code {
		if g.step(&code[n]) {
			list = append(list, n)
		}
	}
	return list
}

type guarding struct {
	m *module
	// stack are the topmost operands; those beneath are maybeZero.
	stack  []origin
	locals []origin
	set    []uint32 // locals that are not maybeZero
}

func (g *guarding) pop() origin {
	n := len(g.stack)
	if n == 0 {
		return maybeZero
	}
	o := g.stack[n-1]
	g.stack = g.stack[:n-1]
	return o
}

func (g *guarding) push(o origin) { g.stack = append(g.stack, o) }

// begin forgets everything, at the beginning of a basic block.
func (g *guarding) begin() {
	g.stack = g.stack[:0]
	for _, i := range g.set {
		g.locals[i] = maybeZero
	}
	g.set = g.set[:0]
}

func (g *guarding) assign(i uint32, o origin) {
	if g.locals[i] == maybeZero && o != maybeZero {
		g.set = append(g.set, i)
	}
	g.locals[i] = o
}

// step follows one instruction and reports whether it must be guarded.
func (g *guarding) step(i *instr) bool {
	switch i.c {
	case opLoop, opIf, opElse, opEnd, opBr, opBrIf, opBrTable, opReturn, opUnreachable:
		g.begin()
	case opCall, opCallIndirect:
		g.stack = g.stack[:0]
	case opBlock, 0x01: // nop
	case opLocalGet:
		g.push(g.locals[i.arg])
	case opLocalSet:
		g.assign(i.arg, g.pop())
	case opLocalTee:
		o := g.pop()
		g.assign(i.arg, o)
		g.push(o)
	case opGlobalGet:
		g.push(maybeZero) // the compiler remembers what was last set
	case opGlobalSet, opDrop:
		g.pop()
	case opSelect, opSelectT:
		g.pop()
		g.pop()
		g.pop()
		g.push(other)
	case opI32Const, opI64Const:
		g.push(other)
		if i.arg == 0 {
			g.stack[len(g.stack)-1] = maybeZero
		}
	case opF32Const, opF64Const, opRefNull:
		g.push(other)
	case opI32And, opI64And:
		g.pop()
		g.pop()
		g.push(masked)
	case opI32Shl, opI32ShrS, opI32ShrU, opI64Shl, opI64ShrS, opI64ShrU:
		g.pop() // a shift by zero is its operand
	default:
		return g.plain(i)
	}
	return false
}

// plain follows an instruction whose result is a new value.
func (g *guarding) plain(i *instr) bool {
	row := i.c.row()
	guard := false
	if unsigned, ok := ordering(i.c); ok {
		right, left := g.pop(), g.pop()
		guard = right == masked && left != other || unsigned && left == masked && right != other
	} else {
		for range row.pops() {
			g.pop()
		}
	}
	for range row.pushes() {
		g.push(other)
	}
	return guard
}

// ordering reports whether an opcode compares integers by their order, and
// whether without a sign.
func ordering(c code) (unsigned, ok bool) {
	switch {
	case c >= opI32LtS && c <= opI32GeU:
		return (c-opI32LtS)&1 == 1, true
	case c >= opI64LtS && c <= opI64GeU:
		return (c-opI64LtS)&1 == 1, true
	}
	return false, false
}
