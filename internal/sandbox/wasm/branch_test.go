package wasm_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
	"github.com/bitgram/bitgram/internal/testing/modules"
)

// TestBranchOnMask: a branch on an ordering of zero and the result of an `and` goes
// the right way, on either side, for every condition, however the operands arrive.
func TestBranchOnMask(t *testing.T) {
	var data, want strings.Builder
	locals := []group{{4, 0x7f}, {4, 0x7e}}
	funcs := []fn{{}}
	n := 0
	operands := [][2]int64{{1, 1}, {0, 1}, {-1, math.MinInt32}, {-1, math.MinInt64}, {-1, 5}}
	get := func(l int) string { return "\x20" + leb(l) }
	put := func(l int) string { return "\x21" + leb(l) }
	for _, wide := range []bool{false, true} {
		typ, load, and, or, shl, first, local := "i", "\x28\x00", "\x71", "\x72", "\x74", 0x46, 0
		zero := i32(0)
		if wide {
			typ, load, and, or, shl, first, local = "l", "\x29\x00", "\x83", "\x84", "\x86", 0x51, 4
			zero = "\x42\x00"
		}
		a, b, masked, never := get(local), get(local+1), put(local+2)+get(local+2), get(local+3)
		and = a + b + and
		for _, right := range []bool{false, true} {
			for _, form := range [][2]string{
				{zero, and}, {never, and}, {zero, and + masked}, {zero, and + zero + shl}, {never, and + masked + never + shl}, {zero + never + shl, and},
				{zero + put(local+2) + get(local+2), and}, {zero, "\x02" + modules.Types[typ[0]] + and + "\x0b"}, {zero, and + zero + or},
			} {
				var code strings.Builder
				x, y := form[0], form[1]
				if right {
					x, y = y, x
				}
				for c := range 10 {
					for _, v := range operands {
						for use := range 3 {
							code.WriteString(i32(0) + load + leb(1024+16*n) + put(local) + i32(0) + load + leb(1032+16*n) + put(local+1))
							s := x + y + string([]byte{byte(first + c)})
							switch use {
							case 0:
								s += "\x04\x7f" + i32(49) + "\x05" + i32(48) + "\x0b"
							case 1:
								s = "\x02\x7f" + i32(49) + s + "\x0d\x00\x1a" + i32(48) + "\x0b"
							case 2:
								s = i32(49) + i32(48) + s + "\x1b"
							}
							code.WriteString(i32(0) + s + "\x3a\x00" + leb(600_000+n))
							data.WriteString(string([]byte{}) + le64(v[0]) + le64(v[1]))
							want.WriteString(map[bool]string{true: "1", false: "0"}[masksBranch(wide, right, c, v)])
							n++
						}
					}
				}
				funcs[0].code += "\x10" + leb(len(funcs)+1)
				funcs = append(funcs, fn{locals: locals, code: code.String()})
			}
		}
	}
	funcs[0].code += i32(600_000) + i32(n) + "\x10\x00"
	m := moduleSpec{types: []string{"ii:"}, imports: [][3]string{imported(bitgramMod, "output", 1)}, pages: [2]int{16, 16},
		funcs: funcs, data: []string{strings.Repeat("\x00", 1024) + data.String()}}
	for i, e := range bothEngines(t) {
		job := hostileJob()
		out, err := outcome(t, e, m.bytes(), job)
		if err != nil {
			t.Fatal(err)
		}
		if hex := fmt.Sprintf("%x", want.String()); !strings.Contains(out, hex) {
			t.Errorf("engine %d: a branch goes wrong: %d cases, %.200s", i, n, out)
		}
	}
}

func le64(v int64) string {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
	return string(b)
}

// masksBranch compares v[0] & v[1] with zero, as condition c of the binary format's order.
func masksBranch(wide, maskLeft bool, c int, v [2]int64) bool {
	x := v[0] & v[1]
	if !wide {
		x = int64(int32(x))
	}
	l, r := int64(0), x
	if maskLeft {
		l, r = r, l
	}
	ul, ur := uint64(l), uint64(r)
	return []bool{l == r, l != r, l < r, ul < ur, l > r, ul > ur, l <= r, ul <= ur, l >= r, ul >= ur}[c]
}

// TestMemoryBelow2GiB: no program has a memory in which wazero would take a constant
// address for a negative one. The limit may go when wazero no longer does that.
func TestMemoryBelow2GiB(t *testing.T) {
	job := hostileJob()
	if job.Limits.Memory = 2 << 30; job.Check() != nil {
		t.Error("2 GiB are refused")
	}
	if job.Limits.Memory += sandbox.PageSize; job.Check() == nil {
		t.Error("more than 2 GiB are allowed")
	}
	address := i32(-(1 << 30)) // 3 GiB
	m := func(pages int) moduleSpec {
		return moduleSpec{types: []string{":i"}, pages: [2]int{pages, 1 << 16}, exports: []string{sized("f") + "\x00\x02"}, funcs: []fn{
			{}, {}, {typ: 1, locals: []group{{1, 0x7f}}, code: address + "\x21\x00\x20\x00" + i32(7) + "\x36\x00\x00\x10\x01\x20\x00\x28\x00\x00"}}}
	}
	if _, err := rewrite.Rewrite(m(1<<15+1).bytes(), anyImport); err == nil {
		t.Error("a module that begins with more than 2 GiB is taken")
	}
	r, err := rewrite.Rewrite(m(1).bytes(), anyImport)
	if err != nil || r.MaxPages != rewrite.MaxPages {
		t.Errorf("at most %d pages, %v", r.MaxPages, err)
	}
}
