package wasm_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
	"github.com/bitgram/bitgram/internal/testing/modules"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

// TestPressure: every instruction gives the same result in compiler and interpreter in
// a loop around which more values are alive than there are registers. wazero's sequences
// for an instruction lose values only then, and only if registers are taken in a certain
// order, which generated programs of all instructions together seldom have.
func TestPressure(t *testing.T) {
	if tier.Race {
		t.Skip("the race detector sees nothing of compiled code, and makes the interpreter slow")
	}
	engines, job := bothEngines(t), generatedJob()
	sample, kinds := tier.NewSample(t), 0
	for _, in := range rewrite.Instructions() {
		params, result, _ := strings.Cut(string(in.Sig), ":")
		if strings.Trim(params, "ilfdv") != "" || params == "" || len(result) != 1 || in.Imm == rewrite.MemoryAddress || in.Imm == rewrite.MemoryLane {
			continue
		}
		kinds++
		if !sample.Of(20, 12) {
			continue
		}
		for seed := range tier.Pick(40, 60, 400) {
			bin := underPressure(rand.New(rand.NewPCG(uint64(seed), 1)), in, params, result[0])
			out := both(t, engines, bin, job)
			if out[0] == out[1] && !strings.HasPrefix(out[0], "not run") {
				continue
			}
			path := filepath.Join(os.TempDir(), "pressure-"+in.Name+".wasm")
			if err := os.WriteFile(path, bin, 0o600); err != nil {
				t.Error(err)
			}
			t.Errorf("%s: compiled %s\ninterpreted %s\nin %s", in.Name, out[0], out[1], path)
			break
		}
	}
	if kinds < 250 {
		t.Errorf("only %d instructions", kinds)
	}
}

// underPressure returns a program that keeps 13 to 20 locals of each type that the
// instruction has, uses it on some of them in a loop, and stores all.
func underPressure(r *rand.Rand, in rewrite.Instruction, params string, result byte) []byte {
	access := map[byte][2]string{'i': {"\x28\x02\x00", "\x36\x02\x00"}, 'l': {"\x29\x03\x00", "\x37\x03\x00"}, 'f': {"\x2a\x02\x00", "\x38\x02\x00"},
		'd': {"\x2b\x03\x00", "\x39\x03\x00"}, 'v': {"\xfd\x00\x04\x00", "\xfd\x0b\x04\x00"}}
	vars := 13 + r.IntN(8)
	locals, first := []group{{1, 0x7f}}, map[byte]int{}
	var code strings.Builder
	for _, typ := range []byte(params + string(result)) {
		if _, ok := first[typ]; ok {
			continue
		}
		first[typ] = 1 + vars*len(first)
		locals = append(locals, group{vars, modules.Types[typ][0]})
		for i := range vars {
			code.WriteString(i32(16*i+r.IntN(8)) + access[typ][0] + "\x21" + leb(first[typ]+i))
		}
	}
	order := r.Perm(vars)
	pick := func(typ byte) string { // mostly one that is used late
		i := r.IntN(vars)
		if r.IntN(10) < 6 {
			i = order[vars-1-r.IntN(3)]
		}
		return "\x20" + leb(first[typ]+i)
	}
	to := 1024
	store := func(typ byte, value string) {
		code.WriteString(i32(to) + value + access[typ][1])
		to += 16
	}
	code.WriteString(i32(4) + "\x21\x00\x02\x40\x03\x40\x20\x00" + i32(1) + "\x6b\x22\x00\x45\x0d\x01")
	for range 1 + r.IntN(5) {
		var value strings.Builder
		operand := pick(params[0])
		value.WriteString(operand)
		for _, typ := range []byte(params[1:]) {
			value.WriteString(pick(typ))
		}
		value.Write(in.Code)
		switch in.Imm {
		case rewrite.Lane:
			value.WriteByte(byte(r.IntN(2)))
		case rewrite.Bytes16:
			for range 16 {
				value.WriteByte(byte(r.IntN(32)))
			}
		}
		if r.IntN(4) == 0 {
			code.WriteString(value.String() + "\x21" + leb(first[result]+r.IntN(vars)))
		} else {
			store(result, value.String())
		}
		if r.IntN(2) == 0 {
			store(params[0], operand)
		}
	}
	code.WriteString("\x0c\x00\x0b\x0b")
	for _, typ := range []byte("ilfdv") {
		if at, ok := first[typ]; ok {
			for _, i := range order {
				store(typ, "\x20"+leb(at+i))
			}
		}
	}
	data := make([]byte, 512)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return moduleSpec{pages: onePage, data: []string{string(data)}, funcs: []fn{{locals: locals, code: code.String()}}}.bytes()
}
