package wasm_test

import (
	"encoding/binary"
	"strings"
)

// moduleSpec is a module that a test writes by hand: sections are made of it in
// their order, each only where there is something in it.
type moduleSpec struct {
	types    []string // "ii:i"
	imports  [][3]string
	funcs    []fn
	tables   [][2]int // elements at least, at most
	pages    [2]int   // at least, at most; none at all where both are 0
	globals  []string // raw
	exports  []string // raw, besides _start and memory
	start    int      // function; 0: none (function 0 is _start)
	elements []int    // functions in table 0 from 0 on
	data     []string // active, at 0
	sections []string // raw, at the end
	raw9     string   // element segments, instead of elements
	n9       int      // how many
}

// fn is a function with its type, the groups of its locals and its code, which
// gets an end.
type fn struct {
	typ    int
	locals []group
	code   string
}

type group struct {
	n   int
	typ byte
}

func leb(n int) string { return string(binary.AppendUvarint(nil, uint64(n))) }

func sleb(n int64) string {
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

func i32(n int) string { return "\x41" + sleb(int64(int32(n))) }

func sized(s string) string { return leb(len(s)) + s }

func section(id byte, list []string) string {
	return string([]byte{id}) + sized(leb(len(list))+strings.Join(list, ""))
}

var letters = map[rune]string{'i': "\x7f", 'l': "\x7e", 'f': "\x7d", 'd': "\x7c", 'v': "\x7b"}

func (m moduleSpec) bytes() []byte {
	out := "\x00asm\x01\x00\x00\x00"
	add := func(id byte, list []string) {
		if len(list) > 0 {
			out += section(id, list)
		}
	}
	var list []string
	for _, sig := range append([]string{":"}, m.types...) {
		s, n, part := "\x60", 0, ""
		for _, c := range sig + ":" {
			if c == ':' {
				s, n, part = s+leb(n)+part, 0, ""
				continue
			}
			n, part = n+1, part+letters[c]
		}
		list = append(list, s)
	}
	add(1, list)
	list = nil
	for _, i := range m.imports {
		list = append(list, sized(i[0])+sized(i[1])+i[2])
	}
	add(2, list)
	var decl, code []string
	for _, f := range m.funcs {
		decl = append(decl, leb(f.typ))
		locals := leb(len(f.locals))
		for _, g := range f.locals {
			locals += leb(g.n) + string([]byte{g.typ})
		}
		code = append(code, sized(locals+f.code+"\x0b"))
	}
	add(3, decl)
	list = nil
	for _, t := range m.tables {
		list = append(list, "\x70\x01"+leb(t[0])+leb(t[1]))
	}
	add(4, list)
	if m.pages != [2]int{} {
		add(5, []string{"\x01" + leb(m.pages[0]) + leb(m.pages[1])})
	}
	add(6, m.globals)
	exports := m.exports
	if len(m.funcs) > 0 {
		exports = append(exports, sized("_start")+"\x00"+leb(len(m.imports)))
	}
	if m.pages != [2]int{} {
		exports = append(exports, sized("memory")+"\x02\x00")
	}
	add(7, exports)
	if m.start != 0 {
		out += "\x08" + sized(leb(m.start))
	}
	if len(m.elements) > 0 {
		s := "\x00\x41\x00\x0b" + leb(len(m.elements))
		for _, f := range m.elements {
			s += leb(f)
		}
		add(9, []string{s})
	}
	if m.n9 > 0 {
		out += "\x09" + sized(leb(m.n9)+m.raw9)
	}
	add(10, code)
	list = nil
	for _, d := range m.data {
		list = append(list, "\x00\x41\x00\x0b"+sized(d))
	}
	add(11, list)
	for _, s := range m.sections {
		out += s
	}
	return []byte(out)
}

// imported names a function of the host's with its type, in the form of
// moduleSpec.imports.
func imported(module, name string, typ int) [3]string {
	return [3]string{module, name, "\x00" + leb(typ)}
}
