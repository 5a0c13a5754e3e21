package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
	"github.com/bitgram/bitgram/internal/testing/modules"
)

// search looks for programs that take long for their fuel: it changes a program at
// random, and goes on from what took longer. It starts again from a random program
// when nothing has got worse for a while. It prints the median over random programs,
// the worst that it found and of what that is made.
func search(ctx context.Context, w io.Writer, limit time.Duration, seed uint64) error {
	runtime.LockOSThread() // threadTime is one thread's
	defer runtime.UnlockOSThread()
	s := &searcher{Rand: rand.New(rand.NewPCG(seed, 0)), ctx: ctx}
	fmt.Fprintf(w, "seed %d\n", seed)
	const samples = 60
	var all []float64
	for range samples {
		t, err := s.measure(s.random(), 1)
		if err != nil {
			return err
		}
		all = append(all, t)
	}
	middle := median(all)
	fmt.Fprintf(w, "median of %d random programs: %.3f ns a fuel\n", samples, middle)
	var worst float64
	var tried int
	for began := time.Now(); time.Since(began) < limit; {
		best := s.random()
		t, err := s.measure(best, 1)
		if err != nil {
			return err
		}
		for idle := 0; idle < 60 && time.Since(began) < limit; idle++ {
			next := s.mutate(best)
			got, err := s.measure(next, 1)
			if err != nil {
				return err
			}
			if tried++; got > t {
				best, t, idle = next, got, 0
			}
		}
		if t > worst*0.9 {
			if t, err = s.measure(best, 5); err != nil { // without others' noise
				return err
			}
		}
		if t > worst {
			worst = t
			fmt.Fprintf(w, "%v, %d programs: %.3f ns a fuel, %.1f times the median: %s\n", time.Since(began).Round(time.Second), tried, worst, worst/middle, best)
		}
	}
	row(w, fmt.Sprintf("a fuel, over %d programs of a search: most, of the median", tried), fmt.Sprintf("%.1f (%.3f ns)", worst/middle, worst), "≤ 8")
	return nil
}

// genome is a program: pieces of code in a loop, with a memory of some size.
type genome struct {
	pages  int
	pieces []piece
	sync   bool // an epoch ends after a few rounds
}

// piece is a step of the program: what it does, and how it finds its operands.
type piece struct {
	kind, op, where int
	size            int64
}

// memories are the sizes of memory that are tried, in pages: of every cache, and of
// none.
var memories = []int{2, 16, 64, 256, 600, 1536}

// Kinds of pieces.
const (
	pieceOp = iota
	pieceLoad
	pieceStore
	pieceBranch
	pieceTable
	pieceIndirect
	pieceCopy
	pieceFill
	pieceGrow
	pieceHost
	pieceKinds
)

var pieceNames = []string{"op", "load", "store", "branch", "br_table", "call_indirect", "memory.copy", "memory.fill", "memory.grow", "host"}

// Where an address comes from.
const (
	fixed = iota
	striding
	random
	dependent // on what was loaded last
	wheres
)

func (g *genome) String() string {
	var list []string
	for _, p := range g.pieces {
		what := pieceNames[p.kind]
		switch p.kind {
		case pieceOp:
			what = operations[p.op%len(operations)].Name
		case pieceHost:
			what = hostCalls[p.op%len(hostCalls)].name
		}
		list = append(list, fmt.Sprintf("%s %s %d", what, []string{"fixed", "striding", "random", "dependent"}[p.where], p.size))
	}
	return fmt.Sprintf("%d pages, sync %v: %s", g.pages, g.sync, strings.Join(list, "; "))
}

var operations = slices.DeleteFunc(rewrite.Instructions(), func(i rewrite.Instruction) bool {
	_, results, _ := strings.Cut(string(i.Sig), ":")
	return i.Imm == rewrite.MemoryAddress || i.Imm == rewrite.MemoryLane || len(results) != 1 || strings.Contains(string(i.Sig), "r") ||
		strings.Contains(i.Name, ".trunc_f") || strings.Contains(i.Name, ".div_") || strings.Contains(i.Name, ".rem_")
})

// hostCall is a call of the host; its code uses local addr and a size.
type hostCall struct {
	name, module, sig string
	args              func(size int64) string
}

const (
	// Locals of the program, two of each type, and its own.
	localI, localL, localF, localD, localV = 0, 2, 4, 6, 8
	localAt, localSeed, localRound         = 10, 11, 12
	functions                              = 512 // that call_indirect chooses from
)

func get(l int) string { return "\x20" + modules.Leb(uint64(l)) }
func set(l int) string { return "\x21" + modules.Leb(uint64(l)) }

var hostCalls = []hostCall{
	{"random_get", "wasi_snapshot_preview1", "ii:i", func(n int64) string { return get(localAt) + modules.I32(n) }},
	{"args_sizes_get", "wasi_snapshot_preview1", "ii:i", func(int64) string { return modules.I32(0) + modules.I32(8) }},
	{"args_get", "wasi_snapshot_preview1", "ii:i", func(int64) string { return modules.I32(0) + modules.I32(32768) }},
	{"clock_time_get", "wasi_snapshot_preview1", "ili:i", func(int64) string { return modules.I32(0) + modules.I64(0) + modules.I32(8) }},
	{"sched_yield", "wasi_snapshot_preview1", ":i", func(int64) string { return "" }},
	{"fd_write", "wasi_snapshot_preview1", "iiii:i", func(n int64) string {
		return modules.I32(2) + modules.I32(60_000) + modules.I32(n%512) + modules.I32(0)
	}},
	{"fd_read", "wasi_snapshot_preview1", "iiii:i", func(n int64) string {
		return modules.I32(0) + modules.I32(60_000) + modules.I32(n%512) + modules.I32(0)
	}},
	{"poll_oneoff", "wasi_snapshot_preview1", "iiii:i", func(n int64) string {
		return modules.I32(0) + modules.I32(20_000) + modules.I32(1+n%100) + modules.I32(40_000)
	}},
	{"input", "bitgram", "lii:i", func(n int64) string { return modules.I64(0) + get(localAt) + modules.I32(n) }},
	{"epoch", "bitgram", ":l", func(int64) string { return "" }},
}

type searcher struct {
	*rand.Rand
	ctx context.Context
}

func (s *searcher) piece() piece {
	p := piece{kind: s.IntN(pieceKinds), op: s.IntN(1 << 20), where: s.IntN(wheres), size: int64(1) << s.IntN(14)}
	if s.IntN(2) == 0 {
		p.kind = s.IntN(3)
	}
	return p
}

func (s *searcher) random() *genome {
	g := &genome{pages: memories[s.IntN(len(memories))], sync: s.IntN(10) == 0}
	for range 1 + s.IntN(8) {
		g.pieces = append(g.pieces, s.piece())
	}
	return g
}

func (s *searcher) mutate(g *genome) *genome {
	m := &genome{g.pages, slices.Clone(g.pieces), g.sync}
	switch i := s.IntN(len(m.pieces)); s.IntN(7) {
	case 0:
		m.pages = memories[s.IntN(len(memories))]
	case 1:
		if len(m.pieces) < 16 {
			m.pieces = append(m.pieces, s.piece())
		}
	case 2:
		if len(m.pieces) > 1 {
			m.pieces = slices.Delete(m.pieces, i, i+1)
		}
	case 3:
		m.pieces[i].where = s.IntN(wheres)
	case 4:
		m.pieces[i].size = int64(1) << s.IntN(17)
	case 5:
		m.pieces[i] = m.pieces[s.IntN(len(m.pieces))]
	default:
		m.pieces[i] = s.piece()
	}
	if s.IntN(20) == 0 {
		m.sync = !m.sync
	}
	return m
}

// address leaves an address that allows access to room bytes in localAt.
func (g *genome) address(p piece, room int64) string {
	mask := int64(1)
	for mask*2 <= int64(g.pages)*sandbox.PageSize-room {
		mask *= 2
	}
	s := ""
	switch p.where {
	case fixed:
		return modules.I32(1024) + set(localAt)
	case striding:
		s = get(localAt) + modules.I32(4096+64) + "\x6a"
	case random:
		s = get(localSeed) + modules.I32(1664525) + "\x6c" + modules.I32(1013904223) + "\x6a\x22" + modules.Leb(localSeed) + modules.I32(7) + "\x78"
	case dependent:
		s = get(localI) + get(localAt) + "\x6a" + modules.I32(1664525) + "\x6c" + modules.I32(1013904223) + "\x6a"
	}
	return s + modules.I32(mask-1) + "\x71" + set(localAt)
}

func (g *genome) code(p piece) string {
	locals := map[byte]int{'i': localI, 'l': localL, 'f': localF, 'd': localD, 'v': localV}
	switch p.kind {
	case pieceOp:
		i := operations[p.op%len(operations)]
		params, results, _ := strings.Cut(string(i.Sig), ":")
		s := ""
		for k, c := range []byte(params) {
			s += get(locals[c] + k%2)
		}
		s += string(i.Code)
		switch i.Imm {
		case rewrite.Lane:
			s += "\x00"
		case rewrite.Bytes16:
			s += strings.Repeat("\x07", 16)
		}
		return s + set(locals[results[0]])
	case pieceLoad:
		return g.address(p, 16) + get(localAt) + "\x28\x00\x00" + set(localI)
	case pieceStore:
		return g.address(p, 16) + get(localAt) + get(localI) + "\x36\x00\x00"
	case pieceBranch:
		return g.address(piece{where: random}, 16) + "\x02\x40" + get(localAt) + modules.I32(64) + "\x71\x0d\x00" + get(localI) + modules.I32(1) + "\x6a" + set(localI) + "\x0b"
	case pieceTable:
		const ways = 64
		s := g.address(piece{where: random}, 16) + strings.Repeat("\x02\x40", ways) + get(localAt) + modules.I32(ways-1) + "\x71\x0e" + modules.Leb(ways-1)
		for k := range uint64(ways) {
			s += modules.Leb(k)
		}
		for range ways {
			s += "\x0b" + get(localI) + modules.I32(1) + "\x6a" + set(localI)
		}
		return s
	case pieceIndirect:
		return g.address(piece{where: random}, 16) + get(localI) + get(localAt) + modules.I32(functions-1) + "\x71\x11\x01\x00" + set(localI)
	case pieceCopy:
		n := min(p.size, 1<<15)
		return g.address(p, n) + get(localAt) + g.address(piece{where: random}, n) + get(localAt) + modules.I32(n) + "\xfc\x0a\x00\x00"
	case pieceFill:
		n := min(p.size, 1<<15)
		return g.address(p, n) + get(localAt) + modules.I32(1) + modules.I32(n) + "\xfc\x0b\x00"
	case pieceGrow:
		return modules.I32(0) + "\x40\x00" + set(localI)
	}
	k := p.op % len(hostCalls)
	n := min(p.size, 1<<15)
	return g.address(p, n) + hostCalls[k].args(n) + "\x10" + modules.Leb(uint64(k+1)) + "\x1a"
}

// module is a command with the pieces in an endless loop.
func (g *genome) module() []byte {
	sized := func(s string) string { return modules.Leb(uint64(len(s))) + s }
	section := func(id byte, list ...string) string {
		return string([]byte{id}) + sized(modules.Leb(uint64(len(list)))+strings.Join(list, ""))
	}
	funcType := func(sig string) string {
		params, results, _ := strings.Cut(sig, ":")
		s := "\x60"
		for _, l := range []string{params, results} {
			s += modules.Leb(uint64(len(l)))
			for _, c := range []byte(l) {
				s += modules.Types[c]
			}
		}
		return s
	}
	types := []string{funcType(":"), funcType("i:i"), funcType("ii:")}
	imports := []string{sized("bitgram") + sized("sync") + "\x00\x02"}
	for _, h := range hostCalls {
		imports = append(imports, sized(h.module)+sized(h.name)+"\x00"+modules.Leb(uint64(len(types))))
		types = append(types, funcType(h.sig))
	}
	rounds, code := 4, ""
	for _, p := range g.pieces {
		code += g.code(p)
	}
	loop := "\x03\x40" + strings.Repeat(code, rounds)
	if g.sync {
		loop += get(localRound) + modules.I32(1) + "\x6a\x22" + modules.Leb(localRound) + modules.I32(3) + "\x46\x04\x40" + modules.I32(0) + modules.I32(0) + "\x10\x00\x0b"
	}
	body := "\x06\x02\x7f\x02\x7e\x02\x7d\x02\x7c\x02\x7b\x03\x7f" + modules.I32(7) + set(1) + modules.I64(7) + set(3) +
		"\x43\x00\x00\x80\x3f" + set(5) + "\x44\x00\x00\x00\x00\x00\x00\xf0\x3f" + set(7) + loop + "\x0c\x00\x0b\x0b"
	decl, bodies, elements := []string{"\x00"}, []string{sized(body)}, ""
	for i := range functions {
		decl = append(decl, "\x01")
		f := "\x00" + get(0)
		for k := range 60 { // code of its own, which has to be fetched
			f += modules.I32(int64(i*61+k)) + "\x6a" + modules.I32(int64(k)) + "\x73"
		}
		bodies = append(bodies, sized(f+"\x0b"))
		elements += modules.Leb(uint64(len(imports) + 1 + i))
	}
	return []byte("\x00asm\x01\x00\x00\x00" + section(1, types...) + section(2, imports...) + section(3, decl...) +
		section(4, "\x70\x00"+modules.Leb(functions)) + section(5, "\x00"+modules.Leb(uint64(g.pages))) +
		section(7, sized("_start")+"\x00"+modules.Leb(uint64(len(imports))), sized("memory")+"\x02\x00") +
		section(9, "\x00\x41\x00\x0b"+modules.Leb(functions)+elements) + section(10, bodies...))
}

// measure returns the nanoseconds for each fuel, the least of some runs. The program
// runs until it is out of fuel, or for a few epochs.
func (s *searcher) measure(g *genome, times int) (float64, error) {
	e, p, err := loadWASM(s.ctx, g.module(), "")
	if err != nil {
		return 0, fmt.Errorf("%s: %w", g, err)
	}
	defer e.Close()
	job := &sandbox.Job{Args: make([]string, 2000), Input: make([]byte, 1<<20), Limits: sandbox.DefaultLimits()}
	// Enough to use the memory after it was paid for.
	job.Limits.Fuel = 10_000_000 + uint64(g.pages)*2*rewrite.PageCost
	job.Limits.Epochs = 4
	var list []float64
	for range times {
		var fuel uint64
		t, err := timed(func() error {
			run, err := p.Start(s.ctx, job, nil)
			if err != nil {
				return err
			}
			defer run.Close()
			for {
				ev, err := run.Next(s.ctx)
				if err != nil {
					if run.Root() == (sandbox.Digest{}) || fuel == 0 {
						fuel += job.Limits.Fuel
					}
					return nil // it is out of fuel, or of epochs
				}
				fuel += ev.Fuel
			}
		})
		if err != nil {
			return 0, err
		}
		list = append(list, float64(t.Nanoseconds())/float64(fuel))
	}
	return slices.Min(list), nil
}
