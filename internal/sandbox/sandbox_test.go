package sandbox

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"
)

// TestTree: however a memory changes, the root is that of a new tree, only what
// changed is hashed, and every page is proven.
func TestTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var kept Tree
		var data []byte
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			size := rapid.IntRange(0, 5*PageSize+10).Draw(t, "size")
			if rapid.Bool().Draw(t, "whole pages") {
				size -= size % PageSize
			}
			if size > len(data) {
				data = append(data, make([]byte, size-len(data))...)
			}
			data = data[:size]
			touched := 0
			if size > 0 {
				for range rapid.IntRange(0, 3).Draw(t, "writes") {
					data[rapid.IntRange(0, size-1).Draw(t, "at")] = rapid.Byte().Draw(t, "value")
					touched++
				}
			}
			before := len(kept.leaves)
			root, hashed := kept.Update(data)
			if adopted := treeOf(bytes.Clone(data)); adopted.root() != root {
				t.Fatalf("root %v, a tree over it %v", root, adopted.root())
			}
			var fresh Tree
			var shared Tree
			if got := shared.Share(data); got != root {
				t.Fatalf("shared %v, copied %v", got, root)
			}
			if again, _ := shared.Update(data); again != root {
				t.Fatalf("behind a shared one %v, wanted %v", again, root)
			}
			if want, _ := fresh.Update(data); root != want {
				t.Fatalf("root %v, a new tree has %v", root, want)
			}
			if !bytes.Equal(kept.data, data) {
				t.Fatal("the copy differs")
			}
			if most := touched + 1 + max(Pages(size)-before, 0); hashed > most {
				t.Fatalf("%d pages hashed, at most %d have changed", hashed, most)
			}
			for i := range Pages(size) {
				got, ok := climbPath(leafOf(pageOf(data, i), leafHasher()), i, Pages(size), kept.path(i))
				if !ok || got != root {
					t.Fatalf("page %d of %d is not proven", i, Pages(size))
				}
			}
		}
	})
}

// TestOutput: an output that is put down at any size goes on to the same hash,
// and one that goes back is where it was.
func TestOutput(t *testing.T) {
	text := bytes.Repeat([]byte("what a program says "), 20)
	for cut := range len(text) {
		o := NewOutput(1000)
		_, _ = o.Write(text[:cut])
		if cut < 3 {
			m := o.Mark()
			_, _ = o.Write([]byte("not this"))
			o.Back(m)
		}
		r, err := resumeOutput(1000, o.Size(), o.middle())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = r.Write(text[cut:])
		if r.Sum() != sha256.Sum256(text) || r.Size() != uint64(len(text)) {
			t.Errorf("cut at %d: another hash", cut)
		}
	}
	o := NewOutput(3)
	if _, err := o.Write([]byte("four")); !errors.Is(err, ErrOutput) || o.Size() != 0 {
		t.Errorf("above its limit: %v, %d bytes", err, o.Size())
	}
}

func exampleCheckpoint() (*Checkpoint, *Job) {
	job := &Job{Args: []string{"x"}, Limits: DefaultLimits()}
	c := &Checkpoint{State: []byte("state"), Output: NewOutput(1 << 20), Full: true, Memory: make([]byte, 3*PageSize), Stack: []byte("frames"), Depth: 7}
	_, _ = c.Output.Write(make([]byte, 100))
	c.Memory[PageSize] = 1
	var tree Tree
	c.MemoryRoot, _ = tree.Update(c.Memory)
	c.Header = Header{Job: job.Digest(), Epoch: 2, Fuel: 5, Total: 9, OutputSize: 100, OutputSHA256: c.Output.Sum(), StateSize: 5, MemoryPages: 3, Globals: []uint64{1, 2}}
	return c, job
}

// FuzzCheckpoint: what is read is written again as it was; nothing panics.
func FuzzCheckpoint(f *testing.F) {
	c, job := exampleCheckpoint()
	for _, full := range []bool{true, false} {
		c.Full = full
		var b bytes.Buffer
		if err := c.Write(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes()[:b.Len()-32])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := blake3.Sum256(body)
		c, err := ReadCheckpoint(bytes.NewReader(append(bytes.Clone(body), sum[:]...)), Digest{}, job)
		if err != nil {
			if !errors.Is(err, ErrCheckpoint) && !errors.Is(err, ErrWrongProgram) && !errors.Is(err, ErrWrongJob) {
				t.Fatal(err)
			}
			return
		}
		var b bytes.Buffer
		if err := c.Write(&b); err != nil {
			t.Fatal(err)
		}
		if got := b.Bytes()[:b.Len()-32]; !bytes.Equal(got, body) {
			t.Errorf("read and written it is\n%x\n%x", body, got)
		}
	})
}

// FuzzHeader: a header has one encoding.
func FuzzHeader(f *testing.F) {
	c, _ := exampleCheckpoint()
	f.Add(c.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHeader(b)
		if err == nil && !bytes.Equal(h.Encode(), b) {
			t.Errorf("%x becomes %x", b, h.Encode())
		}
	})
}

// TestJobDigest: each part of a job that a program can notice changes its name.
func TestJobDigest(t *testing.T) {
	base := func() *Job { return &Job{Args: []string{"a", "b"}, Env: []string{"A=1"}, Limits: DefaultLimits()} }
	seen := map[Digest]string{base().Digest(): "nothing"}
	for what, change := range map[string]func(*Job){
		"args": func(j *Job) { j.Args = []string{"ab"} }, "more args": func(j *Job) { j.Args = []string{"a", "b", "A=1"}; j.Env = nil },
		"env": func(j *Job) { j.Env = nil }, "input": func(j *Job) { j.Input = []byte{0} }, "seed": func(j *Job) { j.Seed[0] = 1 },
		"time": func(j *Job) { j.Time = 1 }, "memory": func(j *Job) { j.Limits.Memory += PageSize }, "fuel": func(j *Job) { j.Limits.Fuel++ },
		"epochs": func(j *Job) { j.Limits.Epochs++ }, "output": func(j *Job) { j.Limits.Output++ }, "state": func(j *Job) { j.Limits.State++ },
		"events": func(j *Job) { j.Limits.Notices++ },
	} {
		j := base()
		change(j)
		if was, ok := seen[j.Digest()]; ok {
			t.Errorf("%s has the name of %s", what, was)
		}
		seen[j.Digest()] = what
	}
	j := base()
	j.Limits.Log, j.Log = 1, &bytes.Buffer{}
	if seen[j.Digest()] != "nothing" {
		t.Error("the log, which is no part of the result, changes the name")
	}
	j.Args[0] = "a\x00b"
	if err := j.Check(); !errors.Is(err, ErrJob) {
		t.Errorf("a zero byte: %v", err)
	}
}
