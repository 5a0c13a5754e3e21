// Package modules generates WASM programs: for the test that compares engines,
// which wants the operands, constants and branches that compilers treat
// specially. For tests only.
package modules

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// Program is a WASI command of several functions. Its statements can be removed
// one by one, to find the few that matter.
type Program struct {
	funcs []function
	data  string
}

type function struct {
	sig    string
	locals string // types of the locals behind the parameters
	body   []string
	tail   string // the results
}

// Functions of the host that programs import; their own follow.
const imports = 1

// Leb encodes an unsigned number.
func Leb(n uint64) string { return string(binary.AppendUvarint(nil, n)) }

// Sleb encodes a signed number.
func Sleb(n int64) string {
	var b []byte
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return string(append(b, c))
		}
		b = append(b, c|0x80)
	}
}

// I32 is an i32.const.
func I32(n int64) string { return "\x41" + Sleb(int64(int32(n))) }

// I64 is an i64.const.
func I64(n int64) string { return "\x42" + Sleb(n) }

func sized(s string) string { return Leb(uint64(len(s))) + s }

func section(id byte, list []string) string {
	return string([]byte{id}) + sized(Leb(uint64(len(list)))+strings.Join(list, ""))
}

// Types are the letters of value types, as rewrite.Signature has them.
var Types = map[byte]string{'i': "\x7f", 'l': "\x7e", 'f': "\x7d", 'd': "\x7c", 'v': "\x7b"}

func funcType(sig string) string {
	params, results, _ := strings.Cut(sig, ":")
	s := "\x60"
	for _, list := range []string{params, results} {
		s += Leb(uint64(len(list)))
		for _, c := range []byte(list) {
			s += Types[c]
		}
	}
	return s
}

// Globals of every program: four that change, and two that are zero.
var globalTypes = "ilfdil"

// Pages is the size of a program's memory.
const Pages = 2

// tableSize is the number of functions in its table, some of them null.
const tableSize = 16

// Bytes returns the module. Function 0 of its own is _start.
func (p *Program) Bytes() []byte {
	var types, decl, code, globals []string
	index := map[string]int{}
	typ := func(sig string) int {
		if i, ok := index[sig]; ok {
			return i
		}
		index[sig] = len(types)
		types = append(types, funcType(sig))
		return index[sig]
	}
	typ("ii:")
	for _, f := range p.funcs {
		typ(f.sig)
	}
	for _, f := range p.funcs {
		decl = append(decl, Leb(uint64(typ(f.sig))))
		var locals []string
		for _, c := range []byte(f.locals) {
			locals = append(locals, "\x01"+Types[c])
		}
		body := Leb(uint64(len(locals))) + strings.Join(locals, "") + strings.Join(f.body, "") + f.tail + "\x0b"
		// Types of calls through the table are written by name.
		for sig := range index {
			body = strings.ReplaceAll(body, calledType(sig), fmt.Sprintf("\x11%s\x00", Leb(uint64(index[sig]))))
		}
		code = append(code, sized(body))
	}
	zero := map[byte]string{'i': "\x41\x00", 'l': "\x42\x00", 'f': "\x43\x00\x00\x00\x00", 'd': "\x44\x00\x00\x00\x00\x00\x00\x00\x00"}
	for i, c := range []byte(globalTypes) {
		mutable := "\x01"
		if i >= 4 {
			mutable = "\x00"
		}
		globals = append(globals, Types[c]+mutable+zero[c]+"\x0b")
	}
	table := "\x00\x41\x00\x0b" + Leb(uint64(tableSize-3))
	for i := range tableSize - 3 {
		table += Leb(uint64(imports + 1 + i%max(1, len(p.funcs)-1)))
	}
	out := "\x00asm\x01\x00\x00\x00" + section(1, types) +
		section(2, []string{sized("bitgram") + sized("output") + "\x00\x00"}) + section(3, decl) +
		section(4, []string{"\x70\x00" + Leb(tableSize)}) + section(5, []string{"\x00" + Leb(Pages)}) + section(6, globals) +
		section(7, []string{sized("_start") + "\x00" + Leb(imports), sized("memory") + "\x02\x00"})
	if len(p.funcs) > 1 {
		out += section(9, []string{table})
	}
	out += "\x0c\x01\x02" + section(10, code) + section(11, []string{"\x00" + I32(0) + "\x0b" + sized(p.data), "\x01" + sized(p.data[:256])})
	return []byte(out)
}

// calledType marks a call_indirect of a type, which Bytes replaces. No other code
// contains it: no instruction has opcode 0x06.
func calledType(sig string) string { return "\x11\x06\x06{" + sig + "}" }

// Statements returns the number of statements of all functions.
func (p *Program) Statements() (n int) {
	for _, f := range p.funcs {
		n += len(f.body)
	}
	return n
}

// Without returns the program without its statements from n to n+count-1.
func (p *Program) Without(n, count int) *Program {
	out := &Program{data: p.data}
	for _, f := range p.funcs {
		from, to := min(max(n, 0), len(f.body)), min(max(n+count, 0), len(f.body))
		n -= len(f.body)
		f.body = append(slices.Clone(f.body[:from]), f.body[to:]...)
		out.funcs = append(out.funcs, f)
	}
	return out
}

// Minimise removes statements as long as the program remains bad.
func (p *Program) Minimise(bad func(*Program) bool) *Program {
	for size := max(1, p.Statements()/2); size > 0; size /= 2 {
		for n := 0; n < p.Statements(); {
			if less := p.Without(n, size); bad(less) {
				p = less
			} else {
				n += size
			}
		}
	}
	return p
}

// generator writes one function of a program.
type generator struct {
	*rand.Rand
	sigs  []string
	self  int
	types string // of all locals, parameters first
	// counters are locals that only loops use; busy are in use.
	counters, busy int
	budget         int // expressions that may still be written
}

// New makes a program from r.
func New(r *rand.Rand) *Program {
	p := &Program{}
	n := 2 + r.IntN(4)
	sigs := []string{":"}
	for range n {
		sigs = append(sigs, randomTypes(r, 4)+":"+randomTypes(r, 2))
	}
	for i, sig := range sigs {
		g := &generator{Rand: r, sigs: sigs, self: i, counters: 3, budget: 300 + r.IntN(600)}
		params, results, _ := strings.Cut(sig, ":")
		locals := "iiiillfd" + randomTypes(r, 16)
		g.types = params + locals + "iii"
		f := function{sig: sig, locals: locals + "iii"}
		crowded := g.one(2)
		if crowded {
			f.body = append(f.body, g.fill())
		}
		for range 2 + r.IntN(8) {
			f.body = append(f.body, g.statement(3))
		}
		if crowded {
			f.body = append(f.body, g.spill())
		}
		if i == 0 {
			for k := 1; k < len(sigs); k++ {
				f.body = append(f.body, g.call(k))
			}
			f.tail = I32(0) + I32(512) + "\x10\x00"
		}
		for _, c := range []byte(results) {
			f.tail += g.expr(c, 3)
		}
		p.funcs = append(p.funcs, f)
	}
	data := make([]byte, 2048)
	for i := range data {
		data[i] = byte(r.Uint32() >> r.IntN(25))
	}
	p.data = string(data)
	return p
}

var load = map[byte]string{'i': "\x28\x00", 'l': "\x29\x00", 'f': "\x2a\x00", 'd': "\x2b\x00", 'v': "\xfd\x00\x00"}

// fill gives all locals values of the memory, and spill stores them, so that more
// values live in between than a processor has registers.
func (g *generator) fill() (s string) {
	for l := range len(g.types) - g.counters {
		s += I32(int64(g.IntN(2000))) + load[g.types[l]] + Leb(0) + "\x21" + Leb(uint64(l))
	}
	return s
}

func (g *generator) spill() (s string) {
	for l := range len(g.types) - g.counters {
		s += I32(int64(16*l)) + "\x20" + Leb(uint64(l)) + store[g.types[l]] + Leb(5000)
	}
	return s
}

func randomTypes(r *rand.Rand, most int) string {
	s := make([]byte, r.IntN(most+1))
	for i := range s {
		s[i] = "iiiilllfdv"[r.IntN(10)]
	}
	return string(s)
}

func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

// call calls a function and stores its results.
func (g *generator) call(k int) string {
	params, results, _ := strings.Cut(g.sigs[k], ":")
	s := ""
	for _, c := range []byte(params) {
		s += g.expr(c, 3)
	}
	s += "\x10" + Leb(uint64(imports+k))
	for _, c := range slices.Backward([]byte(results)) {
		if l := g.local(c); l >= 0 {
			s += "\x21" + Leb(uint64(l))
		} else {
			s += "\x1a"
		}
	}
	return s
}

// local is a local of that type which no loop counts with; there always is one,
// except for vectors.
func (g *generator) local(c byte) int {
	var list []int
	for i := range len(g.types) - g.counters {
		if g.types[i] == c {
			list = append(list, i)
		}
	}
	if len(list) == 0 {
		return -1
	}
	return list[g.IntN(len(list))]
}

func (g *generator) statements(d int) (s string) {
	for range 1 + g.IntN(3) {
		s += g.statement(d)
	}
	return s
}

var store = map[byte]string{'i': "\x36\x00", 'l': "\x37\x00", 'f': "\x38\x00", 'd': "\x39\x00", 'v': "\xfd\x0b\x00"}

// statement leaves nothing on the stack.
func (g *generator) statement(d int) string {
	kind := g.IntN(17)
	if d == 0 || g.budget <= 0 {
		kind = g.IntN(6)
	}
	switch c := "iiillfdv"[g.IntN(8)]; kind {
	case 0, 1, 2:
		if l := g.local(c); l >= 0 {
			return g.expr(c, 1+g.IntN(5)) + "\x21" + Leb(uint64(l))
		}
		return ""
	case 3:
		if g.one(3) {
			name := []string{"\x3a\x00", "\x3b\x00"}[g.IntN(2)]
			return g.address() + g.expr('i', 3) + name + g.offset()
		}
		return g.address() + g.expr(c, 3) + store[c] + g.offset()
	case 4:
		k := g.IntN(4)
		return g.expr(globalTypes[k], 3) + "\x24" + Leb(uint64(k))
	case 5:
		return g.expr(c, 3) + "\x1a"
	case 6, 7, 8:
		s := g.condition(3) + "\x04\x40" + g.statements(d-1)
		if g.one(2) {
			s += "\x05" + g.statements(d-1)
		}
		return s + "\x0b"
	case 9, 10:
		return "\x02\x40" + g.statements(d-1) + g.condition(3) + "\x0d\x00" + g.statements(d-1) + "\x0b"
	case 11, 12:
		return g.loop(d)
	case 13:
		return "\x02\x40\x02\x40\x02\x40" + g.expr('i', 3) + "\x0e\x03\x00\x01\x02\x00\x0b" + g.statements(d-1) + "\x0c\x01\x0b" + g.statements(d-1) + "\x0b"
	case 14:
		return g.bulk()
	case 15:
		if k := g.self + 1 + g.IntN(len(g.sigs)); k < len(g.sigs) {
			return g.call(k)
		}
		return g.indirect()
	default:
		_, results, _ := strings.Cut(g.sigs[g.self], ":")
		s := g.condition(3) + "\x04\x40"
		for _, c := range []byte(results) {
			s += g.expr(c, 2)
		}
		return s + "\x0f\x0b"
	}
}

// loop runs a few times, with its counter in a local of its own.
func (g *generator) loop(d int) string {
	if g.busy == g.counters {
		return ""
	}
	l := Leb(uint64(len(g.types) - g.counters + g.busy))
	g.busy++
	defer func() { g.busy-- }()
	n := int64(1 + g.IntN(6))
	if g.one(2) {
		return I32(n) + "\x21" + l + "\x03\x40" + g.statements(d-1) + "\x20" + l + I32(1) + "\x6b\x22" + l + "\x0d\x00\x0b"
	}
	// Upwards, with an ordering at its end or in its middle.
	s := I32(0) + "\x21" + l + "\x02\x40\x03\x40" + g.statements(d-1) + "\x20" + l + I32(1) + "\x6a\x22" + l
	if g.one(2) {
		return s + I32(n) + "\x4f\x0d\x01" + g.statements(d-1) + "\x0c\x00\x0b\x0b"
	}
	return s + I32(n) + "\x48\x0d\x00" + g.statements(d-1) + "\x0b\x0b"
}

func (g *generator) bulk() string {
	to, n := g.address(), g.expr('i', 1)+I32(255)+"\x71"
	switch g.IntN(4) {
	case 0:
		return to + g.address() + n + "\xfc\x0a\x00\x00"
	case 1:
		return to + g.expr('i', 2) + n + "\xfc\x0b\x00"
	case 2:
		return to + I32(int64(g.IntN(32))) + I32(int64(g.IntN(200))) + "\xfc\x08\x01\x00"
	default:
		return I32(int64(g.IntN(2))) + "\x40\x00\x21" + Leb(uint64(g.local('i')))
	}
}

func (g *generator) indirect() string {
	k := g.self + 1 + g.IntN(len(g.sigs))
	if k >= len(g.sigs) {
		return ""
	}
	params, results, _ := strings.Cut(g.sigs[k], ":")
	s := ""
	for _, c := range []byte(params) {
		s += g.expr(c, 2)
	}
	// The table holds the functions in turn, so most calls have the right type.
	i := int64(k - 1)
	s += I32(i)
	if g.one(100) {
		s += g.expr('i', 1) + I32(15) + "\x71\x6a"
	}
	s += calledType(g.sigs[k])
	for range results {
		s += "\x1a"
	}
	return s
}

// address is mostly one within the memory.
func (g *generator) address() string {
	switch g.IntN(200) {
	case 0:
		return g.expr('i', 2)
	case 1, 2, 3, 4, 5, 6, 7, 8, 9:
		return I32(int64(g.IntN(60000)))
	}
	return g.expr('i', 2) + I32(0xfff) + "\x71"
}

func (g *generator) offset() string {
	return Leb([]uint64{0, 0, 0, 1, 4, 8, 64, 1000, 4095, 4096, 32000}[g.IntN(11)])
}

var integers = []int64{0, 0, 0, 0, 1, -1, -1, 2, 3, 4, 7, 8, 10, -10, 15, 16, 31, 32, 33, 63, 64, 100, 127, 128, 205, 255, 256, 1000, 2047, 2048, 4095, 4096, 0xfff000,
	65535, 65536, math.MaxInt32, math.MinInt32, math.MaxUint32, 1 << 32, -1 << 32, math.MinInt32 - 1, -4095, -4096, -4097, 1 << 62, math.MaxInt64, math.MinInt64, 3600, 86400}

func (g *generator) constant(c byte) string {
	switch c {
	case 'i', 'l':
		n := integers[g.IntN(len(integers))]
		if g.one(6) {
			n = int64(g.Uint64()) >> g.IntN(64)
		}
		if c == 'i' {
			return I32(n)
		}
		return I64(n)
	case 'f':
		return "\x43" + string(binary.LittleEndian.AppendUint32(nil, g.float32()))
	case 'd':
		return "\x44" + string(binary.LittleEndian.AppendUint64(nil, g.float64()))
	}
	b := make([]byte, 16)
	for i := range b {
		b[i] = byte(g.Uint32() >> g.IntN(25))
	}
	return "\xfd\x0c" + string(b)
}

func (g *generator) float32() uint32 {
	special := []uint32{0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7fa00000, 1, 0x4f000000, 0xcf000000, 0x5f000000, 0x4b800000}
	if g.one(4) {
		return g.Uint32()
	}
	return special[g.IntN(len(special))]
}

func (g *generator) float64() uint64 {
	special := []float64{0, math.Copysign(0, -1), 1, -1, math.Inf(1), math.Inf(-1), 1 << 31, -(1 << 31), 1 << 32, 1 << 63, -(1 << 63), 0.5, 1.5, 2.5, 1e300, 5e-324, math.MaxInt32}
	switch g.IntN(6) {
	case 0:
		return g.Uint64()
	case 1:
		return []uint64{0x7ff8000000000000, 0xfff8000000000000, 0x7ff0000000000001, 0xffffffffffffffff}[g.IntN(4)]
	}
	return math.Float64bits(special[g.IntN(len(special))])
}

// leaf is an expression without operands.
func (g *generator) leaf(c byte) string {
	if g.one(3) {
		return g.constant(c)
	}
	if c != 'v' && g.one(6) {
		for i := range len(globalTypes) {
			if globalTypes[i] == c && g.one(2) {
				return "\x23" + Leb(uint64(i))
			}
		}
	}
	if l := g.local(c); l >= 0 {
		return "\x20" + Leb(uint64(l))
	}
	return g.constant(c)
}

// expr leaves one value of that type.
func (g *generator) expr(c byte, d int) string {
	g.budget--
	if d <= 0 || g.budget <= 0 {
		return g.leaf(c)
	}
	switch g.IntN(14) {
	case 0:
		return g.leaf(c)
	case 1:
		if l := g.local(c); l >= 0 {
			return g.expr(c, d-1) + "\x22" + Leb(uint64(l))
		}
	case 2:
		if c == 'v' {
			return g.expr(c, d-1) + g.expr(c, d-1) + g.condition(d-1) + "\x1c\x01\x7b"
		}
		return g.expr(c, d-1) + g.expr(c, d-1) + g.condition(d-1) + "\x1b"
	case 3:
		return g.condition(d-1) + "\x04" + Types[c] + g.expr(c, d-1) + "\x05" + g.expr(c, d-1) + "\x0b"
	case 4:
		return "\x02" + Types[c] + g.expr(c, d-1) + g.condition(d-1) + "\x0d\x00\x1a" + g.expr(c, d-1) + "\x0b"
	case 5, 6:
		switch c {
		case 'i':
			if g.one(2) {
				return g.condition(d)
			}
			return g.masked(c, d-1)
		case 'l':
			return g.masked(c, d-1)
		}
	}
	list := byResult[c]
	return g.operation(&list[g.IntN(len(list))], d)
}

// masked is an `and`, or what compilers see through.
func (g *generator) masked(c byte, d int) string {
	and, shl := "\x71", "\x74\x75\x76"
	if c == 'l' {
		and, shl = "\x83", "\x86\x87\x88"
	}
	s := g.expr(c, d-1) + g.expr(c, d-1) + and
	switch g.IntN(6) {
	case 0:
		zero := []int64{0, 32, 64}[g.IntN(3)]
		n := I32(zero)
		if c == 'l' {
			n = I64(zero)
		}
		s += n + shl[g.IntN(3):][:1]
	case 1:
		if l := Leb(uint64(g.local(c))); g.one(2) {
			s += "\x21" + l + "\x20" + l
		} else {
			s += "\x22" + l
		}
	}
	return s
}

// condition is an i32 that decides a branch: comparisons above all, with the
// operands in which compilers look for something.
func (g *generator) condition(d int) string {
	g.budget--
	if g.one(6) {
		return g.expr('i', d-1)
	}
	c, first := byte('i'), 0x46
	if g.one(2) {
		c, first = 'l', 0x51
	}
	if g.one(8) {
		op := byte(0x5b + g.IntN(6))
		if c = 'f'; g.one(2) {
			c, op = 'd', byte(0x61+g.IntN(6))
		}
		return g.expr(c, d-1) + g.expr(c, d-1) + string([]byte{op})
	}
	operand := func() string {
		switch g.IntN(6) {
		case 0, 1:
			return g.constant(c)
		case 2, 3:
			return g.masked(c, d-1)
		case 4:
			return g.leaf(c)
		}
		return g.expr(c, d-1)
	}
	s := operand() + operand() + string([]byte{byte(first + g.IntN(10))})
	if l := Leb(uint64(g.local('i'))); g.one(8) {
		s += "\x21" + l + "\x20" + l
	}
	for g.one(5) {
		s += "\x45"
	}
	return s
}

// byResult are the instructions that return one value of a type.
var byResult = func() map[byte][]rewrite.Instruction {
	m := map[byte][]rewrite.Instruction{}
	for _, i := range rewrite.Instructions() {
		if _, results, _ := strings.Cut(string(i.Sig), ":"); len(results) == 1 && !strings.ContainsAny(string(i.Sig), "r") {
			m[results[0]] = append(m[results[0]], i)
		}
	}
	return m
}()

// operation writes an instruction with its operands.
func (g *generator) operation(i *rewrite.Instruction, d int) string {
	params, _, _ := strings.Cut(string(i.Sig), ":")
	if strings.Contains(i.Name, ".trunc_f") && !g.one(100) {
		return g.leaf(i.Sig[len(i.Sig)-1])
	}
	memory := i.Imm == rewrite.MemoryAddress || i.Imm == rewrite.MemoryLane
	s := ""
	for k, c := range []byte(params) {
		if k == 0 && memory {
			s += g.address()
		} else {
			s += g.expr(c, d-1)
		}
	}
	if (strings.Contains(i.Name, ".div_") || strings.Contains(i.Name, ".rem_")) && !g.one(200) {
		if s = ""; g.one(2) {
			c := params[0]
			s = g.expr(c, d-1) + g.divisor(c)
		} else if params[0] == 'i' {
			s = g.expr('i', d-1) + g.expr('i', d-1) + I32(1) + "\x72"
		} else {
			s = g.expr('l', d-1) + g.expr('l', d-1) + I64(1) + "\x84"
		}
	}
	s += string(i.Code)
	switch i.Imm {
	case rewrite.MemoryAddress:
		s += "\x00" + g.offset()
	case rewrite.MemoryLane:
		s += "\x00" + g.offset() + string([]byte{byte(g.IntN(Lanes(i.Name)))})
	case rewrite.Lane:
		s += string([]byte{byte(g.IntN(Lanes(i.Name)))})
	case rewrite.Bytes16:
		b := make([]byte, 16)
		for k := range b {
			b[k] = byte(g.IntN(32))
		}
		s += string(b)
	}
	return s
}

func (g *generator) divisor(c byte) string {
	n := []int64{10, 100, 60, 7, 3, 1000, 3600, -10, 1, 2, 16, 86400}[g.IntN(12)]
	if c == 'i' {
		return I32(n)
	}
	return I64(n)
}

// Lanes returns the number of lanes of an instruction that has one as immediate.
func Lanes(name string) int {
	for _, l := range []struct {
		part string
		n    int
	}{{"8x16", 16}, {"16x8", 8}, {"32x4", 4}, {"64x2", 2}, {"8_lane", 16}, {"16_lane", 8}, {"32_lane", 4}, {"64_lane", 2}} {
		if strings.Contains(name, l.part) {
			return l.n
		}
	}
	return 1
}
