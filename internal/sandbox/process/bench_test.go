//go:build unix

package process_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
)

// BenchmarkEpoch compares an epoch in a child with one in this process, in turns in
// one run: the median of each, and their ratio.
func BenchmarkEpoch(b *testing.B) {
	const size = 16 << 20
	b.Run("empty", func(b *testing.B) { epochs(b, syncer(2, 0, nil)) })
	// Of 256 pages, 13 are changed.
	b.Run("16MiB", func(b *testing.B) {
		code := i32(0) + i32(size) + "\x10\x01\x1a"
		for page := range 13 {
			at := i32(page * 20 * sandbox.PageSize)
			code += at + at + "\x28\x02\x00" + i32(1) + "\x6a\x36\x02\x00"
		}
		epochs(b, syncer(size/sandbox.PageSize, size, []byte(code)))
	})
}

// syncer is a program that runs code in each epoch, and syncs the first size bytes of
// its memory.
func syncer(pages, size int, code []byte) []byte {
	return command(pages, string(code)+i32(0)+i32(size)+"\x10\x00")
}

// command is a program that runs code. It can call sync, restore and output, functions
// 0 to 2.
func command(pages int, code string) []byte {
	body := "\x00" + code + "\x0b"
	memory := "\x01\x00" + leb(pages)
	return []byte("\x00asm\x01\x00\x00\x00" + section(1, "\x03\x60\x02\x7f\x7f\x00\x60\x02\x7f\x7f\x01\x7f\x60\x00\x00") +
		section(2, "\x03"+name("bitgram")+name("sync")+"\x00\x00"+name("bitgram")+name("restore")+"\x00\x01"+name("bitgram")+name("output")+"\x00\x00") +
		section(3, "\x01\x02") + section(5, memory) + section(7, "\x02"+name("_start")+"\x00\x03"+name("memory")+"\x02\x00") +
		section(10, "\x01"+leb(len(body))+body))
}

func leb(n int) string                 { return string(binary.AppendUvarint(nil, uint64(n))) }
func name(s string) string             { return leb(len(s)) + s }
func section(id byte, s string) string { return string(id) + leb(len(s)) + s }

// i32 is i32.const n, for n that is not negative.
func i32(n int) string {
	s := "\x41"
	for ; n >= 0x40; n >>= 7 {
		s += string([]byte{byte(n)&0x7f | 0x80})
	}
	return s + string([]byte{byte(n)})
}

func epochs(b *testing.B, bin []byte) {
	e, err := wasm.New(b.Context(), wasm.Config{CacheDir: cache()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close() })
	var runs [2]sandbox.Run
	for i, r := range []sandbox.Runner{e, runner(nil)} {
		runs[i] = begin(b, load(b, r, bin), &sandbox.Job{Limits: sandbox.DefaultLimits()}, nil)
	}
	var took [2][]time.Duration
	for b.Loop() {
		var root [2]sandbox.Digest
		for i, run := range runs {
			began := time.Now()
			ev, err := run.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(began))
			root[i] = ev.Root
		}
		if root[0] != root[1] {
			b.Fatal("the roots differ")
		}
	}
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return list[len(list)/2].Seconds() * 1e3
	}
	here, there := median(took[0]), median(took[1])
	b.ReportMetric(here, "ms-here-p50")
	b.ReportMetric(there, "ms-child-p50")
	b.ReportMetric(there/here, "ratio")
}
