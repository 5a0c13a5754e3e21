package rewrite

import "fmt"

// charge is a point of a function at which fuel is subtracted, before the
// instruction with that number, for all instructions that then run.
type charge struct {
	at   int
	cost uint64
	// touches are loads and stores, which cost more in a large memory.
	touches uint64
	// check says that the fuel is checked here.
	check bool
	// calls is how many calls came before it, level how many other charges of
	// the function are in force with it at most.
	calls, level int
	// behind counts those of its loads and stores that come after a call.
	behind int
}

// plan is the result of analyse for a function.
type plan struct {
	typ    funcType
	locals []byte // types, parameters first
	code   []instr
	// charges are in order of at.
	charges []charge
	// canon lists the instructions after which a NaN is made canonical.
	canon []nan
	// guards are the orderings whose right operand is made opaque, in order.
	guards []int
	// calls says that it calls a function, recurses that this may lead back to
	// it.
	calls, recurses bool
	loops           bool // it has a loop that is repeated
	tightLoops      bool // one of them calls nothing
	simd            bool
	touches         bool   // it loads or stores
	cost            uint64 // of all its instructions, once
	weight          uint32 // of its frame, in slots of 8 bytes
	work            uint64 // for a compiler, in units of about 1 µs
}

// frame is an open block.
type frame struct {
	op              code
	params, results int
	height          int // of the operands beneath it
	cur             int // the charge that the next instruction joins; -1: a new one
	head            int // of a loop: the charge of its body
	calls           int // before a loop
	level           int // of a charge that begins here
	sets            int // before the block
	repeated        bool
	dead            bool // nothing reaches the rest of it
}

// The origin of an operand's value: an instruction whose NaN would have to be
// made canonical, or one of these.
const (
	fromFixed  = -1 // its bits are the same everywhere
	fromNumber = -2 // not a NaN
)

// analysis is one pass over a function.
type analysis struct {
	m       *module
	p       *plan
	frames  []frame
	stack   []int32
	lazy    []bool // locals that hold uncanonicalised results of arithmetic
	spoiled bool   // a lazy local was given another value
	calls   int
	enters  int // calls that can lead to memory.grow
	sets    int
	spill   int // number of operands known to live in memory
	slots   uint64
	nested  int // blocks within dead code
	wide    int // of the largest call
	// cleared says that the frames from here up to the one below the top have
	// no charge in force, so that branches need not clear them again.
	cleared int
	ways    uint64 // blocks, branches, labels and calls
	carried uint64 // values of blocks and of branches to them
	headers uint64 // loops
	// replaced are instructions that are written in several steps.
	replaced uint64
	// traps are instructions of which a compiler makes several blocks, because they
	// may trap, and trapValues are the values that it keeps for them.
	traps, trapValues uint64
	err               error
}

// analyse plans what is added to a function. code is its instructions.
func (m *module) analyse(b *body, typ funcType, code []instr) (*plan, error) {
	p := &plan{typ: typ, code: code, locals: append([]byte(nil), typ.params...), simd: b.simd}
	r := &reader{b: b.decl}
	for range b.groups {
		n, t := r.u32(), r.byte()
		for range n {
			p.locals = append(p.locals, t)
		}
	}
	p.canon = make([]nan, len(code))
	a := &analysis{m: m, p: p, lazy: make([]bool, len(p.locals))}
	for i, t := range p.locals {
		a.lazy[i] = i >= len(typ.params) && (t == typeF32 || t == typeF64)
	}
	// A local found to hold more than arithmetic is not lazy, which may affect
	// others. After a few rounds the undecided ones are not lazy.
	for round := 0; ; round++ {
		if round == 4 {
			clear(a.lazy)
		}
		a.walk(b)
		if a.err != nil {
			return nil, a.err
		}
		if !a.spoiled {
			break
		}
	}
	p.guards = m.guards(code, len(p.locals))
	a.weigh()
	if p.weight > maxFrame {
		return nil, fmt.Errorf("%w: a frame of %d slots, at most %d are allowed", ErrTooLarge, p.weight, maxFrame)
	}
	return p, a.measure()
}

// measure estimates what a compiler takes for the function, and refuses what is
// beyond a limit, with what to change.
func (a *analysis) measure() error {
	p, locals := a.p, uint64(len(a.p.locals))
	replaced := a.replaced
	for _, k := range p.canon {
		if k != nanNone {
			replaced++
		}
	}
	lines, byLocals, byValues := uint64(len(p.code))+(replacedLines-1)*replaced, a.ways*(locals+8), a.carried*carriedValues
	if values := lines + byLocals + byValues + a.trapValues; values > maxValues {
		why := fmt.Sprintf("%d blocks, branches, calls and bulk operations among %d locals: split it, or use fewer locals", a.ways, locals)
		if byValues > byLocals {
			why = fmt.Sprintf("%d values of blocks and branches: keep them in locals, or split it", a.carried)
		}
		if a.trapValues > max(byLocals, byValues) {
			why = fmt.Sprintf("%d instructions that may trap, such as loads, stores and divisions: split it", a.traps)
		}
		if lines > max(byLocals, byValues, a.trapValues) {
			why = fmt.Sprintf("%d instructions, of which %d are written in several steps or give results whose NaN is made canonical: split it", len(p.code), replaced)
		}
		return fmt.Errorf("%w: a compiler would keep %d values for it, at most %d are allowed, because it has %s", ErrTooLarge, values, maxValues, why)
	}
	byPaths, byLoops, byTraps := a.ways*a.ways/pathShare, a.headers*a.ways/loopShare, trapWork*a.traps+a.traps*a.traps/trapShare
	if p.work = 2*lines + (byLocals+byValues)/4 + byPaths + byLoops + byTraps; p.work > maxFunctionWork {
		why := fmt.Sprintf("%d blocks, branches, calls and bulk operations", a.ways)
		if byLoops > byPaths {
			why = fmt.Sprintf("%d loops", a.headers)
		}
		return fmt.Errorf("%w: it takes a compiler %d units of work, at most %d are allowed, because it has %s: split it", ErrTooLarge, p.work, maxFunctionWork, why)
	}
	return nil
}

func (a *analysis) walk(b *body) {
	p := a.p
	p.charges, p.calls, p.recurses, p.loops, p.tightLoops, p.touches, p.cost = p.charges[:0], false, false, false, false, false, 0
	clear(p.canon)
	a.frames, a.stack = a.frames[:0], a.stack[:0]
	a.spoiled, a.calls, a.sets, a.spill, a.slots, a.nested, a.wide, a.cleared, a.ways, a.carried, a.headers = false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
	a.enters, a.replaced, a.traps, a.trapValues = 0, 0, 0, 0
	a.frames = append(a.frames, frame{op: opBlock, results: len(p.typ.results), cur: 0, head: -1})
	p.charges = append(p.charges, charge{check: true})
	for n := range p.code {
		i := &p.code[n]
		if a.top().dead && !a.revives(i) {
			continue
		}
		a.expands(i.c)
		a.step(n, i, b)
		if a.err != nil {
			return
		}
	}
}

// expands counts what an instruction without a block becomes: several instructions,
// or a check of the fuel and, in wazero, a loop.
func (a *analysis) expands(c code) {
	if n := trapValues(c); n > 0 {
		a.traps++
		a.trapValues += n
	}
	switch c {
	case prefixed(prefixMisc, miscMemoryInit), prefixed(prefixMisc, miscMemoryCopy):
		a.ways += 5
	case prefixed(prefixMisc, miscMemoryFill):
		a.ways += 10
		a.headers++
	case prefixed(prefixSIMD, simdPopcnt):
		a.replaced++ // twice as long as the others
	}
	if inSteps(c) != nil {
		a.replaced++
	}
}

// trapValues is the number of values, besides one for the instruction, that a compiler
// keeps for the blocks in which an instruction without a branch traps.
func trapValues(c code) uint64 {
	switch {
	case c >= opI32TruncF32S && c <= opI32TruncF64U, c >= opI64TruncF32S && c <= opI64TruncF64U:
		return truncValues
	case c >= opI32DivS && c <= opI32RemU, c >= opI64DivS && c <= opI64RemU, c == opCallIndirect:
		return divValues
	}
	if i := c.row().imm; i == immMem || i == immMemL {
		return memoryValues
	}
	return 0
}

func (a *analysis) top() *frame { return &a.frames[len(a.frames)-1] }

// revives reports whether an instruction in dead code ends it.
func (a *analysis) revives(i *instr) bool {
	switch i.c {
	case opBlock, opLoop, opIf:
		a.nested++
	case opElse:
		return a.nested == 0
	case opEnd:
		if a.nested == 0 {
			return true
		}
		a.nested--
	}
	return false
}

func (a *analysis) fail(b *body, i *instr, format string, args ...any) {
	a.err = fmt.Errorf("%w at offset %d: %v: %s", ErrMalformed, b.base+int(i.at), i.c, fmt.Sprintf(format, args...))
}

// pay adds cost to the charge in force, or starts one before instruction n.
func (a *analysis) pay(n int, cost uint32) {
	f := a.top()
	if cost == 0 {
		return
	}
	if f.cur < 0 || a.m.single {
		a.begin(f, n)
	}
	a.p.charges[f.cur].cost += uint64(cost)
	a.p.cost += uint64(cost)
}

// begin starts a charge before instruction n, which is in force in f.
func (a *analysis) begin(f *frame, n int) {
	f.cur = len(a.p.charges)
	a.p.charges = append(a.p.charges, charge{at: n, calls: a.enters, level: f.level})
}

// touch pays for a load or store. What a charge takes for those behind a call is
// priced for the memory before the call, which may let it grow. So a charge covers
// few of them: all charges of a frame that are in force at once cover less than
// minFrame, which memory.grow charges for each frame.
func (a *analysis) touch(n int, cost uint32) {
	f := a.top()
	if f.cur >= 0 {
		if c := &a.p.charges[f.cur]; a.enters > c.calls {
			if c.behind++; c.behind > (minFrame/2)>>c.level {
				f.cur = -1
			}
		}
	}
	a.pay(n, cost)
	a.p.charges[f.cur].touches++
	a.p.touches = true
}

// branch records a possible branch to a label: what follows in the blocks left,
// and in the target, may not run.
func (a *analysis) branch(label uint32) bool {
	if int64(label) >= int64(len(a.frames)) {
		return false
	}
	t := len(a.frames) - 1 - int(label)
	for j := t; j < a.cleared; j++ {
		a.frames[j].cur = -1
	}
	a.cleared = min(a.cleared, t)
	a.top().cur = -1
	if f := &a.frames[t]; f.op == opLoop {
		f.repeated = true
		a.p.charges[f.head].check = true
		a.p.loops = true
	}
	return true
}

// settle ends all charges: what follows has another price.
func (a *analysis) settle() {
	for j := range a.cleared {
		a.frames[j].cur = -1
	}
	a.cleared = 0
	a.top().cur = -1
}

// arity returns the number of values that a branch to the label carries.
func (a *analysis) arity(label uint32) int {
	f := &a.frames[len(a.frames)-1-int(label)]
	if f.op == opLoop {
		return f.params
	}
	return f.results
}

func (a *analysis) push(from int32) {
	const registers = 12
	if a.stack = append(a.stack, from); len(a.stack)-a.top().height > registers {
		a.slots++
	}
}

// pop pops n operands and returns their origins, the lowest first.
func (a *analysis) pop(n int) ([]int32, bool) {
	if len(a.stack)-a.top().height < n {
		return nil, false
	}
	taken := a.stack[len(a.stack)-n:]
	a.stack = a.stack[:len(a.stack)-n]
	a.spill = min(a.spill, len(a.stack))
	return taken, true
}

// show makes the origins of these operands canonical, because their bits become
// visible.
func (a *analysis) show(list []int32) {
	for k, from := range list {
		if from >= 0 {
			c := a.p.code[from].c
			if a.p.canon[from] = c.row().nan; c == opLocalGet {
				a.p.canon[from] = nanF32
				if a.p.locals[a.p.code[from].arg] == typeF64 {
					a.p.canon[from] = nanF64
				}
			} else if a.p.canon[from] == nanKeep {
				// abs and neg of what is not canonical.
				a.p.canon[from] = nanF32
				if c >= opF64Abs {
					a.p.canon[from] = nanF64
				}
			}
			list[k] = fromFixed
		}
	}
}

// opF64Abs is the first of f64's arithmetic.
const opF64Abs = 0x99

// carry shows the n topmost operands and leaves them on the stack.
func (a *analysis) carry(n int) bool {
	if len(a.stack)-a.top().height < n {
		return false
	}
	a.show(a.stack[len(a.stack)-n:])
	return true
}

const tooFew = "too few operands"

func (a *analysis) step(n int, i *instr, b *body) {
	row := i.c.row()
	if i.c.prefix() == prefixSIMD {
		a.p.simd = true
	}
	switch i.c {
	case opBlock, opLoop, opIf:
		a.open(n, i, b)
	case opElse, opEnd:
		a.shut(n, i, b)
	case opUnreachable:
		a.stop()
	case opBr, opBrIf, opBrTable, opReturn:
		a.jump(n, i, b)
	case opCall, opCallIndirect:
		a.call(n, i, b)
	default:
		if i.c == opMemoryGrow {
			a.p.calls = true
			a.calls++
		}
		if row.imm == immMem || row.imm == immMemL {
			a.touch(n, row.fuel)
		} else {
			a.pay(n, row.fuel)
		}
		if i.c == opMemoryGrow {
			a.settle()
		}
		if !a.operate(n, i, row) {
			a.fail(b, i, tooFew)
		}
	}
}

// stop marks the rest of this block as unreachable.
func (a *analysis) stop() {
	f := a.top()
	f.dead = true
	a.stack = a.stack[:f.height]
	a.spill = min(a.spill, f.height)
}

func (a *analysis) open(n int, i *instr, b *body) {
	params, results := a.m.blockSig(i.arg)
	a.ways += 3
	a.carried += uint64(params + results)
	if i.c == opLoop {
		a.headers++
	}
	a.pay(n, i.c.row().fuel)
	if i.c == opIf {
		if _, ok := a.pop(1); !ok {
			a.fail(b, i, tooFew)
			return
		}
	}
	if !a.carry(params) {
		a.fail(b, i, tooFew)
		return
	}
	out := a.top()
	f := frame{op: i.c, params: params, results: results, height: len(a.stack) - params, cur: -1, head: -1, calls: a.calls, sets: a.sets}
	if i.c == opBlock && out.cur < 0 {
		a.begin(out, n)
	}
	if f.level = out.level; out.cur >= 0 {
		f.level = a.p.charges[out.cur].level + 1
	}
	switch i.c {
	case opBlock:
		f.cur = out.cur
	case opLoop:
		a.begin(&f, n+1)
		f.head = f.cur
	}
	if a.top().cur >= 0 {
		a.cleared = len(a.frames)
	}
	a.frames = append(a.frames, f)
}

// shut ends a block, or the first arm of an if.
func (a *analysis) shut(n int, i *instr, b *body) {
	f := a.top()
	if i.c == opElse && f.op != opIf {
		a.fail(b, i, "without if")
		return
	}
	if !f.dead {
		if len(a.stack) != f.height+f.results {
			a.fail(b, i, "%d values where %d are given", len(a.stack)-f.height, f.results)
			return
		}
		a.carry(f.results)
	}
	a.stack = a.stack[:f.height]
	a.spill = min(a.spill, f.height)
	if i.c == opElse {
		for range f.params {
			a.stack = append(a.stack, fromFixed)
		}
		f.op, f.cur, f.dead = opElse, -1, false
		return
	}
	if f.op == opLoop && f.repeated && f.calls == a.calls {
		a.p.tightLoops = true
	}
	a.slots += uint64(min(len(a.p.locals), a.sets-f.sets)) + uint64(f.results)
	results := f.results
	a.frames = a.frames[:len(a.frames)-1]
	a.cleared = min(a.cleared, len(a.frames)-1)
	if len(a.frames) == 0 {
		return // the function's own
	}
	for range results {
		a.push(fromFixed)
	}
}

func (a *analysis) jump(n int, i *instr, b *body) {
	a.pay(n, i.c.row().fuel)
	if i.c == opBrIf || i.c == opBrTable {
		if _, ok := a.pop(1); !ok {
			a.fail(b, i, tooFew)
			return
		}
	}
	labels := []uint32{i.arg}
	switch i.c {
	case opReturn:
		labels[0] = uint32(len(a.frames) - 1)
	case opBrTable:
		labels = labelsOf(b, i)
	}
	a.ways += 4 * uint64(len(labels))
	for _, l := range labels {
		if int64(l) < int64(len(a.frames)) {
			a.carried += uint64(a.arity(l))
		}
	}
	for k, l := range labels {
		if k > 0 && l == labels[k-1] {
			continue
		}
		if int64(l) >= int64(len(a.frames)) {
			a.fail(b, i, "no label %d", l)
			return
		}
		if !a.carry(a.arity(l)) {
			a.fail(b, i, tooFew)
			return
		}
	}
	// All blocks between here and the farthest target may be left.
	far := uint32(0)
	for k, l := range labels {
		if far = max(far, l); k > 0 && l == labels[k-1] {
			continue
		}
		if f := &a.frames[len(a.frames)-1-int(l)]; f.op == opLoop {
			a.branch(l)
		}
	}
	a.branch(far)
	if i.c != opBrIf {
		a.stop()
	}
}

// labelsOf returns the targets of a br_table, its default last.
func labelsOf(b *body, i *instr) []uint32 {
	r := &reader{b: b.code[i.at+1 : i.end]}
	list := make([]uint32, r.u32()+1)
	for k := range list {
		list[k] = r.u32()
	}
	return list
}

func (a *analysis) call(n int, i *instr, b *body) {
	var typ funcType
	extra := 0
	enters := true // a function of the module
	if i.c == opCall {
		typ = a.m.typeOf(i.arg)
		enters = int64(i.arg) >= int64(len(a.m.imports))
	} else {
		typ, extra = a.m.types[i.arg], 1
	}
	a.pay(n, i.c.row().fuel)
	if enters {
		a.p.recurses = true
		a.enters++
	}
	a.p.calls = true
	a.calls++
	a.ways++
	taken, ok := a.pop(len(typ.params) + extra)
	if !ok {
		a.fail(b, i, tooFew)
		return
	}
	a.show(taken)
	// Operands below the arguments live in memory during the call.
	if len(a.stack) > a.spill {
		a.slots += uint64(len(a.stack) - a.spill)
		a.spill = len(a.stack)
	}
	a.wide = max(a.wide, len(typ.params)+len(typ.results))
	for range typ.results {
		a.push(fromFixed)
	}
}

// operate processes an instruction without control flow.
func (a *analysis) operate(n int, i *instr, row *opcode) bool {
	switch i.c {
	case opLocalGet:
		from := int32(fromFixed)
		if a.lazy[i.arg] {
			from = int32(n)
		}
		a.push(from)
		return true
	case opLocalSet, opLocalTee:
		return a.set(i)
	case opGlobalGet:
		a.push(fromFixed)
		return true
	case opGlobalSet:
		list, ok := a.pop(1)
		a.show(list)
		return ok
	case opDrop:
		_, ok := a.pop(1)
		return ok
	case opSelect, opSelectT:
		list, ok := a.pop(3)
		a.show(list)
		a.push(fromFixed)
		return ok
	case opF32Const, opF64Const:
		from := int32(fromNumber)
		if i.arg != 0 {
			from = fromFixed
		}
		a.push(from)
		return true
	}
	list, ok := a.pop(row.pops())
	if !ok {
		return false
	}
	if row.pushes() == 0 {
		a.show(list)
		return true
	}
	a.push(a.result(n, i.c, row, list))
	return true
}

// result returns the origin of the bits of an instruction's result.
func (a *analysis) result(n int, c code, row *opcode, list []int32) int32 {
	switch row.nan {
	case nanNever:
		a.show(list)
		return fromNumber
	case nanBlind:
		return fromFixed
	case nanKeep:
		if list[0] < 0 {
			return list[0]
		}
		return int32(n)
	case nanF32x4, nanF64x2:
		a.p.canon[n] = row.nan
		return fromFixed
	case nanF32, nanF64:
		if row.pops() == 1 && list[0] == fromNumber && !sqrt(c) {
			return fromNumber
		}
		return int32(n)
	}
	a.show(list)
	return fromFixed
}

func sqrt(c code) bool { return c == 0x91 || c == 0x9f }

func (a *analysis) set(i *instr) bool {
	list, ok := a.pop(1)
	if !ok {
		return false
	}
	a.sets++
	from := list[0]
	switch {
	case !a.lazy[i.arg]:
		a.show(list)
		from = fromFixed
	case from == fromFixed:
		a.lazy[i.arg], a.spoiled = false, true
	}
	if i.c == opLocalTee {
		a.push(from)
	}
	return true
}

// weigh returns an upper estimate of the frame that a compiler uses.
func (a *analysis) weigh() {
	p := a.p
	w := 16 + uint64(len(p.locals)+len(p.typ.results)+a.sets+a.wide) + a.slots
	if p.simd {
		w *= 2
	}
	p.weight = uint32(min(max(w, minFrame), DepthBudget))
}
