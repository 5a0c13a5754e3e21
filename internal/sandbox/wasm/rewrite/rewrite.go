// Package rewrite makes a WASM module deterministic and metered: it maps bytes
// to bytes, and gives the same result everywhere (spec/runtime.md §2,
// spec/fuel.md). Any engine that conforms to the WASM specification can run the
// rewritten module, which counts in its own globals.
//
// Everything is validated before anything is built, because modules come from
// strangers.
package rewrite

import (
	"fmt"
	"slices"
	"strings"
)

// Names under which the rewritten module exports what its host needs.
const (
	// FuelExport is a mutable i64 with the remaining fuel. Its initial value is
	// 0, so nothing runs before the host sets it; below 0 the program must end.
	FuelExport = reserved + "fuel"
	// DepthExport is a mutable i32 with the rest of DepthBudget; below 0 calls
	// are nested too deep.
	DepthExport = reserved + "depth"
	// PagesExport is a mutable i32 with the maximum number of pages of the
	// memory.
	PagesExport = reserved + "pages"
	// FarExport is a mutable i64, what each load and store costs in addition: Far of
	// the memory's size. Its initial value is 0; the host sets it at the start, and
	// memory.grow keeps it current.
	FarExport = reserved + "far"
	// StopExport is a mutable i64, 0 at first: the program ends at its next
	// check if its fuel is below it. A host stops a program by setting it to
	// its largest value.
	StopExport = reserved + "stop"
	// MemoryExport is the memory, if there is one.
	MemoryExport = reserved + "memory"
	// StartExport is the module's start function, which the host must call.
	StartExport = reserved + "start"
)

// GlobalExport returns the export name of one of the module's own mutable
// globals.
func GlobalExport(i uint32) string { return fmt.Sprintf("%sglobal%d", reserved, i) }

// Signature is the type of an imported function: parameters and results, one
// letter each (i i32, l i64, f f32, d f64), separated by ':'.
type Signature string

// Imports returns the signature of a function that a module may import, if it
// exists.
type Imports func(module, name string) (Signature, bool)

// Module is a rewritten module.
type Module struct {
	Binary []byte
	// MinPages and MaxPages are the limits of the module's memory, in pages of
	// 64 KiB; both are 0 without a memory.
	MinPages, MaxPages uint32
	HasMemory          bool
	// Globals are the indices of the mutable globals, which are part of the
	// state.
	Globals []uint32
	// StartCost is charged before the program starts: for its pages, its data
	// and its tables.
	StartCost uint64
	// Start says that it has a start function, exported as StartExport.
	Start bool
	// Functions are the exported functions, with their signatures.
	Functions map[string]Signature
	// SIMD says that it uses vectors.
	SIMD bool
}

type rewriter struct {
	m                             *module
	fuel, depth, pages, stop, far uint32 // globals
	grow                          uint32 // function
	usesGrow                      bool
	types                         []funcType // with those added
	scratch                       []byte
}

// Rewrite validates and rewrites a module. Errors wrap ErrNotWASM,
// ErrMalformed, ErrTooLarge, ErrRefused or ErrImport, and name the function or
// section and the offset.
//
// The result is not fully validated: the engine checks the types of operands
// anyway.
func Rewrite(bin []byte, imports Imports) (*Module, error) {
	m, err := decodeFor(bin, imports)
	if err != nil {
		return nil, err
	}
	return m.rewrite(imports)
}

func (m *module) rewrite(imports Imports) (*Module, error) {
	if err := m.checkImports(imports); err != nil {
		return nil, err
	}
	n := uint32(len(m.globals))
	r := &rewriter{m: m, fuel: n, depth: n + 1, pages: n + 2, stop: n + 3, far: n + 4, grow: uint32(len(m.imports) + len(m.funcs)), types: slices.Clip(m.types)}
	code, simd, err := r.functions()
	if err != nil {
		return nil, err
	}
	out := &Module{Functions: map[string]Signature{}, Start: m.start >= 0, SIMD: simd}
	if m.memory != nil {
		out.MinPages, out.MaxPages, out.HasMemory = m.memory.min, m.memory.max, true
	}
	for i, g := range m.globals {
		if g.mutable {
			out.Globals = append(out.Globals, uint32(i))
		}
	}
	for _, e := range m.exports {
		if e.kind == kindFunc {
			out.Functions[e.name] = signature(m.typeOf(e.index))
		}
	}
	out.StartCost = m.startCost()
	out.Binary = r.module(code)
	return out, nil
}

func signature(t funcType) Signature {
	letters := map[byte]byte{typeI32: 'i', typeI64: 'l', typeF32: 'f', typeF64: 'd', typeV128: 'v', typeFuncref: 'r', typeExternref: 'r'}
	var s []byte
	for _, p := range t.params {
		s = append(s, letters[p])
	}
	s = append(s, ':')
	for _, p := range t.results {
		s = append(s, letters[p])
	}
	return Signature(s)
}

// checkImports returns an error that names everything that the module imports and
// that does not exist, grouped by the module that it should come from.
func (m *module) checkImports(imports Imports) error {
	missing := map[string][]string{}
	var modules []string
	add := func(module, what string) {
		if missing[module] == nil {
			modules = append(modules, module)
		}
		missing[module] = append(missing[module], what)
	}
	for _, i := range m.foreign {
		add(i.module, fmt.Sprintf("%s %.100q", i.kind, i.name))
	}
	for _, i := range m.imports {
		if _, ok := imports(i.module, i.name); !ok {
			add(i.module, fmt.Sprintf("function %.100q", i.name))
		}
	}
	if len(modules) > 0 {
		var parts []string
		for _, name := range modules {
			parts = append(parts, fmt.Sprintf("%s of %.100q", strings.Join(missing[name], ", "), name))
		}
		why := ""
		if len(m.foreign) > 0 {
			why = ": only functions can be imported"
		}
		return fmt.Errorf("%w: %s%s", ErrImport, strings.Join(parts, "; "), why)
	}
	for _, i := range m.imports {
		want, _ := imports(i.module, i.name)
		if got := signature(m.types[i.typ]); got != want {
			return fmt.Errorf("%w: function %q of %q is %q, the module expects %q", ErrImport, i.name, i.module, want, got)
		}
	}
	return nil
}

// startCost returns the cost of initialising memory and tables.
func (m *module) startCost() uint64 {
	cost := uint64(StartBase)
	if m.memory != nil {
		cost += uint64(m.memory.min) * PageCost
	}
	for _, d := range m.data {
		cost += costBulk + uint64(d.size)>>BulkShift
	}
	for _, t := range m.tables {
		cost += uint64(t.min)
	}
	for _, e := range m.elements {
		cost += costBulk + costElement*uint64(len(e.funcs)+len(e.exprs))
	}
	return cost + costGlobal*uint64(len(m.globals))
}

// functions rewrites all bodies, and returns the code section.
func (r *rewriter) functions() (code []byte, simd bool, err error) {
	m := r.m
	var list []instr
	var work uint64
	for k := range m.bodies {
		b := &m.bodies[k]
		index := uint32(len(m.imports) + k)
		typ := m.typeOf(index)
		if list, err = m.scan(b, typ, list[:0]); err != nil {
			return nil, false, fmt.Errorf("function %s: %w", m.name(index), err)
		}
		p, err := m.analyse(b, typ, list)
		if err != nil {
			return nil, false, fmt.Errorf("function %s: %w", m.name(index), err)
		}
		if work += p.work; work > maxWork {
			return nil, false, fmt.Errorf("%w: its functions together take more than %d units of a compiler's work (spec/runtime.md §2): leave out what the program does not use", ErrTooLarge, maxWork)
		}
		simd = simd || p.simd
		code = r.function(code, b, p)
	}
	n := uint32(len(m.bodies))
	if r.usesGrow {
		code = append(code, r.growFunction()...)
		n++
	}
	return append(appendU32(nil, n), code...), simd, nil
}

// growFunction grows the memory by its parameter. Beyond the limit it fails
// like memory.grow, without a charge; otherwise it charges for the pages, and for
// loads and stores that the callers have paid for at the price before: one for each
// slot of their frames and each fuel by which the price rises.
func (r *rewriter) growFunction() []byte {
	e := &emitter{r: r}
	pages := func() {
		e.with(opLocalGet, 0)
		e.op(opI64ExtendU)
		e.out = append(e.out, opMemorySize, 0, opI64ExtendU, opI64Add)
	}
	e.out = append(e.out, opBlock, 0x40, opBlock, 0x40)
	pages()
	e.with(opGlobalGet, r.pages)
	e.out = append(e.out, opI64ExtendU, opI64GtU, opIf, 0x40)
	e.i32(-1)
	e.out = append(e.out, opReturn, opEnd)
	// far puts the price in a memory of that size on the stack.
	far := func(size func()) {
		for range 2 {
			size()
			e.i64(farShift)
			e.op(opI64ShrU)
			e.i64(maxFar)
		}
		e.out = append(e.out, opI64LtS, opSelect)
	}
	e.take(func() {
		e.with(opLocalGet, 0)
		e.op(opI64ExtendU)
		e.i64(PageCost)
		e.op(opI64Mul)
		far(pages)
		e.with(opGlobalGet, r.far)
		e.op(opI64Sub)
		e.i32(DepthBudget)
		e.with(opGlobalGet, r.depth)
		e.out = append(e.out, opI32Sub, opI64ExtendU, opI64Mul, opI64Add)
	}, true)
	e.with(opLocalGet, 0)
	e.out = append(e.out, opMemoryGrow, 0)
	far(func() { e.out = append(e.out, opMemorySize, 0, opI64ExtendU) }) // it may have failed
	e.with(opGlobalSet, r.far)
	e.out = append(e.out, opReturn, opEnd, opEnd, opUnreachable, opEnd)
	return append(appendU32(nil, uint32(len(e.out)+1)), append([]byte{0}, e.out...)...)
}

// typeIndex finds a type, or adds it.
func (r *rewriter) typeIndex(t funcType) uint32 {
	for i := len(r.types) - 1; i >= 0; i-- {
		if slices.Equal(r.types[i].params, t.params) && slices.Equal(r.types[i].results, t.results) {
			return uint32(i)
		}
		if i == len(r.m.types) && i > 256 {
			break
		}
	}
	r.types = append(r.types, t)
	return uint32(len(r.types) - 1)
}

// resultBlock returns the block type of the block around a whole function.
func (r *rewriter) resultBlock(results []byte) []byte {
	switch len(results) {
	case 0:
		return []byte{0x40}
	case 1:
		return results
	}
	return appendS64(nil, int64(r.typeIndex(funcType{results: results})))
}

// module writes all sections.
func (r *rewriter) module(code []byte) []byte {
	m := r.m
	growType := uint32(0)
	if r.usesGrow {
		growType = r.typeIndex(funcType{[]byte{typeI32}, []byte{typeI32}})
	}
	out := append(make([]byte, 0, len(code)+len(code)/8), "\x00asm\x01\x00\x00\x00"...)
	section := func(id byte, n int, write func(b []byte) []byte) {
		if n > 0 {
			b := write(appendU32(nil, uint32(n)))
			out = append(appendU32(append(out, id), uint32(len(b))), b...)
		}
	}
	section(1, len(r.types), func(b []byte) []byte {
		for _, t := range r.types {
			b = append(appendU32(append(b, 0x60), uint32(len(t.params))), t.params...)
			b = append(appendU32(b, uint32(len(t.results))), t.results...)
		}
		return b
	})
	section(2, len(m.imports), func(b []byte) []byte {
		for _, i := range m.imports {
			b = appendU32(append(appendName(appendName(b, i.module), i.name), kindFunc), i.typ)
		}
		return b
	})
	defined := len(m.funcs)
	if r.usesGrow {
		defined++
	}
	section(3, defined, func(b []byte) []byte {
		for _, t := range m.funcs {
			b = appendU32(b, t)
		}
		if r.usesGrow {
			b = appendU32(b, growType)
		}
		return b
	})
	section(4, len(m.tables), func(b []byte) []byte {
		for _, t := range m.tables {
			b = appendLimits(append(b, t.elem), t.min, t.max, t.bounded)
		}
		return b
	})
	if m.memory != nil {
		section(5, 1, func(b []byte) []byte { return appendLimits(b, m.memory.min, m.memory.max, true) })
	}
	section(6, len(m.globals)+5, r.globals)
	r.exports(section)
	section(9, len(m.elements), func(b []byte) []byte {
		for _, e := range m.elements {
			b = append(b, e.head...)
			b = appendU32(b, uint32(len(e.funcs)+len(e.exprs)))
			for _, f := range e.funcs {
				b = appendU32(b, f)
			}
			for _, x := range e.exprs {
				b = append(b, x...)
			}
		}
		return b
	})
	if m.counted {
		b := appendU32(nil, m.nData)
		out = append(append(out, 12, byte(len(b))), b...)
	}
	if len(m.bodies) > 0 || r.usesGrow {
		out = append(appendU32(append(out, 10), uint32(len(code))), code...)
	}
	section(11, len(m.data), func(b []byte) []byte {
		for _, d := range m.data {
			b = append(b, d.raw...)
		}
		return b
	})
	return r.names(out)
}

func (r *rewriter) globals(b []byte) []byte {
	flag := map[bool]byte{true: 1}
	for _, g := range r.m.globals {
		b = append(append(b, g.typ, flag[g.mutable]), g.init...)
	}
	b = append(b, typeI64, 1, opI64Const, 0, opEnd)
	b = append(appendS64(append(b, typeI32, 1, opI32Const), DepthBudget), opEnd)
	b = append(b, typeI32, 1, opI32Const, 0, opEnd)
	return append(b, typeI64, 1, opI64Const, 0, opEnd, typeI64, 1, opI64Const, 0, opEnd)
}

func (r *rewriter) exports(section func(byte, int, func([]byte) []byte)) {
	m := r.m
	all := slices.Clone(m.exports)
	for i, g := range m.globals {
		if g.mutable {
			all = append(all, export{GlobalExport(uint32(i)), kindGlobal, uint32(i)})
		}
	}
	all = append(all, export{FuelExport, kindGlobal, r.fuel}, export{DepthExport, kindGlobal, r.depth}, export{PagesExport, kindGlobal, r.pages}, export{StopExport, kindGlobal, r.stop}, export{FarExport, kindGlobal, r.far})
	if m.memory != nil {
		all = append(all, export{MemoryExport, kindMemory, 0})
	}
	if m.start >= 0 {
		all = append(all, export{StartExport, kindFunc, uint32(m.start)})
	}
	section(7, len(all), func(b []byte) []byte {
		for _, e := range all {
			b = appendU32(append(appendName(b, e.name), e.kind), e.index)
		}
		return b
	})
}

// names writes a name section with the functions' names, so that a trap's trace
// is readable. The module's own custom sections are dropped.
func (r *rewriter) names(out []byte) []byte {
	var list []uint32
	for i := range r.m.names {
		list = append(list, i)
	}
	if len(list) == 0 {
		return out
	}
	slices.Sort(list)
	sub := appendU32(nil, uint32(len(list)))
	for _, i := range list {
		sub = appendName(appendU32(sub, i), r.m.names[i])
	}
	body := appendName(nil, "name")
	body = append(appendU32(append(body, 1), uint32(len(sub))), sub...)
	return append(appendU32(append(out, 0), uint32(len(body))), body...)
}

func appendLimits(b []byte, low, high uint32, bounded bool) []byte {
	if !bounded {
		return appendU32(append(b, 0), low)
	}
	return appendU32(appendU32(append(b, 1), low), high)
}
