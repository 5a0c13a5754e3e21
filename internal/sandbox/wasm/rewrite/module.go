package rewrite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Errors. Each is wrapped with the reason and position.
var (
	// ErrNotWASM means that the bytes do not begin like a WASM module.
	ErrNotWASM = errors.New("not a WASM module")
	// ErrMalformed means that the module is truncated or violates the binary
	// format.
	ErrMalformed = errors.New("malformed module")
	// ErrTooLarge means that a count or size exceeds its limit.
	ErrTooLarge = errors.New("module too large")
	// ErrRefused means that the module uses something that is not
	// deterministic, cannot be metered, or would not be part of the state.
	ErrRefused = errors.New("not supported")
	// ErrImport means that the module imports something that does not exist.
	ErrImport = errors.New("unknown import")
)

// Limits of a module. They limit the cost of loading, rewriting and compiling
// it.
const (
	MaxModule     = 64 << 20
	maxTypes      = 1 << 16
	maxArity      = 256
	maxImports    = 1 << 12
	maxFunctions  = 1 << 16
	maxTypeValues = 1 << 18 // parameters and results of all types
	maxTables     = 16
	maxElements   = 1 << 20 // of all tables
	maxSegmented  = 1 << 18 // elements of all segments
	maxGlobals    = 1 << 14
	maxExports    = 1 << 16
	maxSegments   = 1 << 17
	maxLocals     = 10_000 // of a function, with its parameters
	maxAllLocals  = 4 << 20
	maxBody       = 2 << 20
	maxNesting    = 1 << 14
	maxPages      = 1 << 16 // that the binary format allows
	maxLabels     = 1 << 16 // of one br_table
	maxFunctionOp = 1 << 20 // instructions of a function
	maxFrame      = 1 << 17 // slots of a function's frame

	// While a compiler works on a function, it keeps values: one for each
	// instruction, for each local on each path, and for each value that a block or
	// branch carries. A value takes at most about 400 bytes. They are gone when the
	// function is compiled, so they are limited for each function and not for all.
	maxValues     = 4 << 20
	carriedValues = 4 // for each value of a block or branch
	replacedLines = 8 // for one written in several steps, or a NaN made canonical
	memoryValues  = 14
	divValues     = 16
	truncValues   = 24

	// The time grows with the values, with the squares of the paths and of the
	// instructions that may trap, and with loops times paths. A unit of work is what takes about 1 µs. The largest functions of
	// Go programs of 40 MB have 30 million units, all their functions 100 million.
	maxFunctionWork = 64_000_000
	maxWork         = 256_000_000
	pathShare       = 350
	loopShare       = 110
	trapWork        = 3
	trapShare       = 13_000
)

// MaxPages is the maximum size of a memory in pages: 2 GiB. wazero v1.12.0
// extends the sign of a constant address from 2 GiB up where the address was
// checked before a call and is used after it, which reads or writes memory that is
// not the program's. Below 2 GiB there is no such address that passes the check.
const MaxPages = 1 << 15

// reserved is the prefix of export names that the rewriter adds.
const reserved = "bitgram:"

// Value types of the binary format.
const (
	typeI32       = 0x7f
	typeI64       = 0x7e
	typeF32       = 0x7d
	typeF64       = 0x7c
	typeV128      = 0x7b
	typeFuncref   = 0x70
	typeExternref = 0x6f
)

func typeName(t byte) string {
	names := map[byte]string{typeI32: "i32", typeI64: "i64", typeF32: "f32", typeF64: "f64", typeV128: "v128", typeFuncref: "funcref", typeExternref: "externref"}
	if n := names[t]; n != "" {
		return n
	}
	return fmt.Sprintf("type %#x", t)
}

type funcType struct{ params, results []byte }

func (t funcType) String() string {
	list := func(types []byte) string {
		var names []string
		for _, v := range types {
			names = append(names, typeName(v))
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return list(t.params) + " → " + list(t.results)
}

// foreignImport is an import of another kind than a function, which is refused.
type foreignImport struct{ module, name, kind string }

type importedFunc struct {
	module, name string
	typ          uint32
}

type tableDef struct {
	elem    byte
	min     uint32
	max     uint32
	bounded bool
}

type globalDef struct {
	typ     byte
	mutable bool
	init    []byte // with its end
}

type export struct {
	name  string
	kind  byte
	index uint32
}

// element is an element segment: its header and its functions.
type element struct {
	head  []byte // flags to the element kind or type
	funcs []uint32
	exprs [][]byte // instead of funcs, if it has expressions
}

type dataSegment struct {
	raw  []byte // the segment as it was
	size uint32
}

type body struct {
	decl   []byte // the groups of locals, without their count
	groups uint32
	locals int  // how many, without the parameters
	simd   bool // a parameter, result or local is a v128
	code   []byte
	base   int // offset in the module, for messages
}

// module is a decoded module with undecoded instructions.
type module struct {
	types    []funcType
	imports  []importedFunc
	known    Imports // that it may import
	foreign  []foreignImport
	funcs    []uint32 // type indices of the functions that it defines
	tables   []tableDef
	memory   *memoryDef
	globals  []globalDef
	exports  []export
	start    int64 // -1: none
	elements []element
	data     []dataSegment
	counted  bool // it has a data count section
	nData    uint32
	bodies   []body
	locals   int // of all of them
	// segmented is the number of elements of all segments.
	segmented int
	// single charges each instruction separately (a test compares).
	single   bool
	declared map[uint32]bool   // functions that ref.func may refer to: exported, or in a table
	names    map[uint32]string // of functions, from the name section and the exports
}

type memoryDef struct{ min, max uint32 }

const (
	kindFunc = iota
	kindTable
	kindMemory
	kindGlobal
)

var sectionNames = []string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "data count", "tag"}

// order is the order of the sections: data count is before code, tags are after
// memory.
var sectionOrder = []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 11, 6}

// decode decodes a module, whatever functions it imports.
func decode(bin []byte) (*module, error) {
	return decodeFor(bin, func(string, string) (Signature, bool) { return "", true })
}

// decodeFor decodes a module that may import these functions. Which it may not is
// checked here only if it imports something else as well.
func decodeFor(bin []byte, known Imports) (*module, error) {
	switch {
	case len(bin) > MaxModule:
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, len(bin), MaxModule)
	case len(bin) < 4 || string(bin[:4]) != "\x00asm":
		return nil, fmt.Errorf("%w: it does not begin with \\0asm", ErrNotWASM)
	case len(bin) < 8:
		return nil, fmt.Errorf("%w: it ends within its header", ErrMalformed)
	case string(bin[4:8]) == "\x0d\x00\x01\x00":
		return nil, fmt.Errorf("%w: it is a component, not a core module (use wasip1, not wasip2)", ErrNotWASM)
	case string(bin[4:8]) != "\x01\x00\x00\x00":
		return nil, fmt.Errorf("%w: version % x, version 1 is wanted", ErrNotWASM, bin[4:8])
	}
	m := &module{start: -1, known: known, names: map[uint32]string{}, declared: map[uint32]bool{}}
	r := &reader{b: bin, pos: 8}
	last := 0
	var nameSection []byte
	for !r.end() {
		at := r.pos
		id := int(r.byte())
		size := r.u32()
		s := &reader{base: r.pos}
		s.b = r.take(size)
		if r.err != nil {
			return nil, r.err
		}
		if id >= len(sectionNames) {
			return nil, fmt.Errorf("%w at offset %d: no section %d", ErrMalformed, at, id)
		}
		if id == 0 {
			if name := s.name(); s.err == nil && name == "name" {
				nameSection = s.b[s.pos:]
			}
			if s.err != nil {
				return nil, s.err
			}
			continue
		}
		if sectionOrder[id] <= last {
			return nil, fmt.Errorf("%w at offset %d: the %s section is repeated or out of order", ErrMalformed, at, sectionNames[id])
		}
		last = sectionOrder[id]
		m.section(id, s)
		if s.err == nil && !s.end() {
			s.fail("%d bytes too many", s.left())
		}
		if s.err != nil {
			return nil, fmt.Errorf("%s section: %w", sectionNames[id], s.err)
		}
	}
	if len(m.bodies) != len(m.funcs) {
		return nil, fmt.Errorf("%w: %d functions with %d bodies", ErrMalformed, len(m.funcs), len(m.bodies))
	}
	if m.counted && int(m.nData) != len(m.data) {
		return nil, fmt.Errorf("%w: %d data segments where %d were announced", ErrMalformed, len(m.data), m.nData)
	}
	m.nameFunctions(nameSection)
	return m, nil
}

func (m *module) section(id int, r *reader) {
	each := func(what string, size int, most uint32, f func()) {
		for range r.count(what, size, most) {
			if r.err != nil {
				return
			}
			f()
		}
	}
	switch id {
	case 1:
		values := 0
		each("types", 3, maxTypes, func() {
			t := r.funcType()
			if values += len(t.params) + len(t.results); r.err == nil && values > maxTypeValues {
				r.err = fmt.Errorf("%w: its types have more than %d parameters and results together", ErrTooLarge, maxTypeValues)
			}
			m.types = append(m.types, t)
		})
	case 2:
		each("imports", 4, maxImports, func() { m.importEntry(r) })
		if r.err == nil && len(m.foreign) > 0 {
			r.err = m.checkImports(m.known)
		}
	case 3:
		each("functions", 1, maxFunctions, func() { m.funcs = append(m.funcs, m.typeIndex(r)) })
	case 4:
		each("tables", 3, maxTables, func() { m.table(r) })
	case 5:
		each("memories", 2, maxPages, func() { m.memoryEntry(r) })
	case 6:
		each("globals", 3, maxGlobals, func() { m.global(r) })
	case 7:
		each("exports", 3, maxExports, func() { m.export(r) })
	case 8:
		m.start = int64(m.funcIndex(r))
		if r.err == nil {
			if t := m.typeOf(uint32(m.start)); len(t.params)+len(t.results) != 0 {
				r.fail("the start function is %v", t)
			}
		}
	case 9:
		each("element segments", 2, maxSegments, func() { m.element(r) })
	case 10:
		each("function bodies", 2, maxFunctions, func() { m.body(r) })
	case 11:
		each("data segments", 2, maxSegments, func() { m.dataEntry(r) })
	case 12:
		m.counted, m.nData = true, r.u32()
	case 13:
		r.refuse("the tag section", refException)
	}
}

// refuse fails the reader with ErrRefused.
func (r *reader) refuse(what, why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s at offset %d: %w: %s", what, r.base+r.pos, ErrRefused, why)
	}
	r.pos = len(r.b)
}

func (r *reader) valueType() byte {
	t := r.byte()
	if r.err == nil && !slices.Contains([]byte{typeI32, typeI64, typeF32, typeF64, typeV128, typeFuncref, typeExternref}, t) {
		r.fail("no value type %#x", t)
	}
	return t
}

func (r *reader) refType() byte {
	t := r.byte()
	switch {
	case r.err != nil || t == typeFuncref || t == typeExternref:
	case t == 0x63 || t == 0x64 || t >= 0x65 && t <= 0x6e || t == 0x71 || t == 0x72 || t == 0x73:
		r.refuse(fmt.Sprintf("reference type %#x", t), refTyped)
	default:
		r.fail("no reference type %#x", t)
	}
	return t
}

func (r *reader) funcType() (t funcType) {
	if form := r.byte(); r.err == nil && form != 0x60 {
		if form == 0x4e || form == 0x4f || form == 0x50 || form == 0x5e || form == 0x5f {
			r.refuse("a struct, array or recursive type", gcRow.refused)
		} else {
			r.fail("no form of type %#x", form)
		}
	}
	list := func() (types []byte) {
		for range r.count("parameters or results", 1, maxArity) {
			types = append(types, r.valueType())
		}
		return types
	}
	t.params = list()
	t.results = list()
	return t
}

func (m *module) typeIndex(r *reader) uint32 {
	i := r.u32()
	if r.err == nil && int64(i) >= int64(len(m.types)) {
		r.fail("no type %d", i)
	}
	return i
}

func (m *module) funcIndex(r *reader) uint32 {
	i := r.u32()
	if r.err == nil && int64(i) >= int64(len(m.imports)+len(m.funcs)) {
		r.fail("no function %d", i)
	}
	return i
}

// typeOf returns the type of the function with that index, which must exist.
func (m *module) typeOf(i uint32) funcType {
	if int(i) < len(m.imports) {
		return m.types[m.imports[i].typ]
	}
	return m.types[m.funcs[int(i)-len(m.imports)]]
}

func (m *module) importEntry(r *reader) {
	mod, name := r.name(), r.name()
	switch kind := r.byte(); {
	case r.err != nil:
	case kind == kindFunc:
		m.imports = append(m.imports, importedFunc{mod, name, m.typeIndex(r)})
	case kind <= kindGlobal+1:
		what := [...]string{"function", "table", "memory", "global", "tag"}[kind]
		m.foreign = append(m.foreign, foreignImport{mod, name, what})
		m.skipImport(kind, r)
	default:
		r.fail("no kind of import %d", kind)
	}
}

// skipImport reads the type of an import that is refused.
func (m *module) skipImport(kind byte, r *reader) {
	switch kind {
	case kindTable:
		r.refType()
		r.anyLimits()
	case kindMemory:
		r.anyLimits()
	case kindGlobal:
		r.valueType()
		r.byte()
	default: // a tag
		r.byte()
		r.u32()
	}
}

// anyLimits reads limits of any kind.
func (r *reader) anyLimits() {
	flags := r.byte()
	r.signed(64)
	if flags&1 != 0 {
		r.signed(64)
	}
}

// limits reads minimum and maximum; neither may exceed most.
func (r *reader) limits(what string, most uint32) (low, high uint32, bounded bool) {
	flags := r.byte()
	switch {
	case r.err != nil:
		return
	case flags&2 != 0 && flags < 8:
		r.refuse("a shared "+what, refThreads)
		return
	case flags&4 != 0 && flags < 8:
		r.refuse("a 64-bit "+what, "addresses have 32 bits")
		return
	case flags > 1:
		r.fail("flags %#x of a %s", flags, what)
		return
	}
	low, high = r.u32(), most
	if flags == 1 {
		high, bounded = r.u32(), true
		if r.err == nil && high < low {
			r.fail("a %s of at least %d and at most %d", what, low, high)
		}
	}
	return low, high, bounded
}

func (m *module) table(r *reader) {
	if r.pos < len(r.b) && r.b[r.pos] == 0x40 {
		r.refuse("a table with an initial value", refTyped)
		return
	}
	var t tableDef
	t.elem = r.refType()
	t.min, t.max, t.bounded = r.limits("table", 1<<32-1)
	total := uint64(t.min)
	for _, other := range m.tables {
		total += uint64(other.min)
	}
	if r.err == nil && total > maxElements {
		r.err = fmt.Errorf("%w: tables of %d elements, at most %d are allowed", ErrTooLarge, total, maxElements)
	}
	m.tables = append(m.tables, t)
}

func (m *module) memoryEntry(r *reader) {
	if m.memory != nil {
		r.refuse("a second memory", "a state has one")
		return
	}
	low, high, _ := r.limits("memory", maxPages)
	if r.err == nil && (low > maxPages || high > maxPages) {
		r.fail("a memory of %d to %d pages, at most %d are possible", low, high, maxPages)
	}
	if r.err == nil && low > MaxPages {
		r.err = fmt.Errorf("%w: a memory of %d pages of 64 KiB at the start, at most %d are allowed", ErrTooLarge, low, MaxPages)
	}
	m.memory = &memoryDef{low, min(high, MaxPages)}
}

func (m *module) global(r *reader) {
	var g globalDef
	g.typ = r.valueType()
	switch b := r.byte(); {
	case r.err != nil:
	case b > 3:
		r.fail("mutability %d", b)
	case b > 1:
		r.refuse("a shared global", refThreads)
	default:
		g.mutable = b == 1
	}
	if g.mutable && slices.Contains([]byte{typeV128, typeFuncref, typeExternref}, g.typ) {
		r.refuse(fmt.Sprintf("global %d, a mutable %s,", len(m.globals), typeName(g.typ)), "a state's globals are numbers of 32 or 64 bits")
	}
	g.init = m.constExpr(r)
	m.globals = append(m.globals, g)
}

// constExpr reads a constant expression with its end.
func (m *module) constExpr(r *reader) []byte {
	from := r.pos
	for r.err == nil {
		switch op := r.byte(); op {
		case opEnd:
			return r.b[from:r.pos]
		case opI32Const:
			r.signed(32)
		case opI64Const:
			r.signed(64)
		case opF32Const:
			r.take(4)
		case opF64Const:
			r.take(8)
		case opRefNull:
			r.refType()
		case prefixSIMD:
			if r.u32() != simdConst {
				r.fail("no constant instruction")
			}
			r.take(16)
		case opRefFunc:
			// Its index changes, and only element segments are rewritten for
			// that.
			r.refuse("ref.func in an initial value", "globals are numbers")
		case opGlobalGet:
			r.fail("a constant expression reads a global that is not imported")
		default:
			r.fail("no constant instruction %#x", op)
		}
	}
	return nil
}

func (m *module) export(r *reader) {
	var e export
	e.name = r.name()
	e.kind = r.byte()
	e.index = r.u32()
	if r.err != nil {
		return
	}
	n := 0
	switch e.kind {
	case kindFunc:
		n = len(m.imports) + len(m.funcs)
	case kindTable:
		n = len(m.tables)
	case kindMemory:
		if m.memory != nil {
			n = 1
		}
	case kindGlobal:
		n = len(m.globals)
	default:
		r.fail("no kind of export %d", e.kind)
		return
	}
	if int64(e.index) >= int64(n) {
		r.fail("export %q is not there", e.name)
	}
	if strings.HasPrefix(e.name, reserved) {
		r.refuse(fmt.Sprintf("export %q", e.name), "such names are reserved for the runtime")
	}
	if e.kind == kindFunc {
		m.declared[e.index] = true
	}
	m.exports = append(m.exports, e)
}

func (m *module) element(r *reader) {
	from := r.pos
	flags := r.u32()
	if r.err == nil && flags > 7 {
		r.fail("flags %d of an element segment", flags)
		return
	}
	if flags&1 == 0 {
		table := uint32(0)
		if flags&2 != 0 {
			table = r.u32()
		}
		if r.err == nil && int64(table) >= int64(len(m.tables)) {
			r.fail("no table %d", table)
		}
		m.constExpr(r)
	}
	if flags&3 != 0 {
		if flags&4 != 0 {
			r.refType()
		} else if kind := r.byte(); r.err == nil && kind != 0 {
			r.fail("no kind of element %d", kind)
		}
	}
	e := element{head: r.b[from:r.pos]}
	n := r.count("elements", 1, maxElements)
	if m.segmented += n; r.err == nil && m.segmented > maxSegmented {
		r.err = fmt.Errorf("%w: its element segments have more than %d elements: use a smaller table", ErrTooLarge, maxSegmented)
	}
	for range n {
		if r.err != nil {
			return
		}
		if flags&4 == 0 {
			e.funcs = append(e.funcs, m.funcIndex(r))
			m.declared[e.funcs[len(e.funcs)-1]] = true
		} else {
			e.exprs = append(e.exprs, m.elementExpr(r))
		}
	}
	m.elements = append(m.elements, e)
}

// elementExpr reads ref.null or ref.func, which is reduced to its index.
func (m *module) elementExpr(r *reader) []byte {
	from := r.pos
	switch r.byte() {
	case opRefNull:
		r.refType()
	case opRefFunc:
		m.declared[m.funcIndex(r)] = true
	default:
		r.fail("an element that is neither ref.func nor ref.null")
	}
	if end := r.byte(); r.err == nil && end != opEnd {
		r.fail("an element of more than one instruction")
	}
	if r.err != nil {
		return nil
	}
	return r.b[from:r.pos]
}

func (m *module) dataEntry(r *reader) {
	from := r.pos
	switch flags := r.u32(); {
	case r.err != nil:
		return
	case flags > 2:
		r.fail("flags %d of a data segment", flags)
	case flags == 1:
	default:
		if flags == 2 && r.u32() != 0 || r.err == nil && m.memory == nil {
			r.fail("a data segment for a memory that is not there")
		}
		m.constExpr(r)
	}
	size := r.u32()
	r.take(size)
	m.data = append(m.data, dataSegment{r.b[from:r.pos], size})
}

func (m *module) body(r *reader) {
	size := r.u32()
	if r.err == nil && size > maxBody {
		r.err = fmt.Errorf("%w: function %s has %d bytes, at most %d are allowed", ErrTooLarge, m.name(uint32(len(m.imports)+len(m.bodies))), size, maxBody)
	}
	q := &reader{base: r.base + r.pos}
	q.b = r.take(size)
	if r.err != nil {
		return
	}
	if len(m.bodies) >= len(m.funcs) {
		r.fail("more bodies than functions")
		return
	}
	var b body
	typ := m.types[m.funcs[len(m.bodies)]]
	params := len(typ.params)
	simd := slices.Contains(typ.params, typeV128) || slices.Contains(typ.results, typeV128)
	b.groups = uint32(q.count("groups of locals", 2, maxLocals))
	from := q.pos
	for range b.groups {
		n, t := q.u32(), q.valueType()
		if q.err == nil && uint64(n)+uint64(b.locals+params) > maxLocals {
			q.err = fmt.Errorf("%w: function %s has more than %d locals", ErrTooLarge, m.name(uint32(len(m.imports)+len(m.bodies))), maxLocals)
		}
		if q.err != nil {
			break
		}
		b.locals += int(n)
		simd = simd || t == typeV128
	}
	b.simd = simd
	if m.locals += b.locals; q.err == nil && m.locals > maxAllLocals {
		q.err = fmt.Errorf("%w: its functions have more than %d locals", ErrTooLarge, maxAllLocals)
	}
	if q.err != nil {
		r.err = q.err
		return
	}
	b.decl, b.code, b.base = q.b[from:q.pos], q.b[q.pos:], q.base+q.pos
	m.bodies = append(m.bodies, b)
}

// nameFunctions reads function names, for messages. The name section has no
// meaning for the program, so errors in it are skipped.
func (m *module) nameFunctions(section []byte) {
	const most = 200 // bytes of a name
	r := &reader{b: section}
	for !r.end() {
		id := r.byte()
		s := &reader{b: r.take(r.u32())}
		if id != 1 {
			continue
		}
		for range s.count("names", 2, maxFunctions) {
			i, name := s.u32(), s.name()
			if s.err != nil {
				break
			}
			if int64(i) < int64(len(m.imports)+len(m.funcs)) && len(name) <= most {
				m.names[i] = name
			}
		}
	}
	for _, e := range m.exports {
		if e.kind == kindFunc && m.names[e.index] == "" && len(e.name) <= most {
			m.names[e.index] = e.name
		}
	}
}

// name returns a description of a function.
func (m *module) name(i uint32) string {
	if n := m.names[i]; n != "" {
		return fmt.Sprintf("%d (%s)", i, n)
	}
	return fmt.Sprint(i)
}
