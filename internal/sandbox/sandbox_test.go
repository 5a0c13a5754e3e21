package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
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

// TestFrames: the root binds the position of a suspended program. Two stacks or
// two depths never have one root, and a checkpoint is refused if its frames are
// not those of its header.
func TestFrames(t *testing.T) {
	written := func(change func(*Checkpoint)) (c *Checkpoint, b []byte) {
		c, _ = exampleCheckpoint()
		change(c)
		var buf bytes.Buffer
		if err := c.Write(&buf); err != nil {
			t.Fatal(err)
		}
		return c, buf.Bytes()
	}
	_, job := exampleCheckpoint()
	seen := map[Digest]string{}
	for what, change := range map[string]func(*Checkpoint){
		"one":           func(*Checkpoint) {},
		"other frames":  func(c *Checkpoint) { c.Stack = []byte("Frames") },
		"fewer frames":  func(c *Checkpoint) { c.Stack = []byte("frame") },
		"no frames":     func(c *Checkpoint) { c.Stack = nil },
		"another depth": func(c *Checkpoint) { c.Depth++ },
		"not suspended": func(c *Checkpoint) { c.Full = false },
	} {
		c, b := written(change)
		read, err := ReadCheckpoint(bytes.NewReader(b), Digest{}, job)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if read.Root() != c.Root() {
			t.Errorf("%s: root %v, read again %v", what, c.Root(), read.Root())
		}
		if was, ok := seen[c.Root()]; ok {
			t.Errorf("%s has the root of %s", what, was)
		}
		seen[c.Root()] = what
	}
	// The checksum covers what a liar writes, so only the header can tell.
	lie := func(full bool, from, to string) {
		t.Helper()
		_, b := written(func(c *Checkpoint) { c.Full = full })
		body := b[:len(b)-32]
		if bytes.Count(body, []byte(from)) != 1 {
			t.Fatalf("%q is not there once", from)
		}
		body = bytes.Replace(body, []byte(from), []byte(to), 1)
		sum := blake3.Sum256(body)
		if _, err := ReadCheckpoint(bytes.NewReader(append(body, sum[:]...)), Digest{}, job); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%q in place of %q: %v", to, from, err)
		}
	}
	digest, none := FramesDigest([]byte("frames")), Digest{}
	lie(true, "frames", "Frames")
	lie(true, "\x07"+string(digest[:]), "\x07"+string(none[:]))
	lie(false, "\x03"+string(make([]byte, 8+32)), "\x03"+string(make([]byte, 7))+"\x07"+string(none[:]))
	lie(false, "\x03"+string(make([]byte, 8+32)), "\x03"+string(make([]byte, 8))+string(digest[:]))
}

// TestOlderCheckpoint: a checkpoint of the first version is refused and says why.
func TestOlderCheckpoint(t *testing.T) {
	c, job := exampleCheckpoint()
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	old := b.Bytes()
	old[len(checkpointMagic)-1] = 1
	if _, err := ReadCheckpoint(bytes.NewReader(old), Digest{}, job); !errors.Is(err, ErrCheckpoint) || !strings.Contains(err.Error(), "older version") {
		t.Errorf("a checkpoint of version 1: %v", err)
	}
}

// TestFailureCertified: a failure has a root, which each of its parts changes but
// not what only informs; and an error that is not a program's has none.
func TestFailureCertified(t *testing.T) {
	base := func() *Failure {
		f, ok := Fail(Digest{1}, Digest{2}, 7, Digest{3}, fmt.Errorf("%w: 5 in epoch 7", ErrFuel))
		if !ok {
			t.Fatal("to run out of fuel is no failure")
		}
		return f
	}
	seen := map[Digest]string{base().Root(): "the first"}
	for what, change := range map[string]func(*Failure){
		"program": func(f *Failure) { f.Program[31]++ }, "job": func(f *Failure) { f.Job[0]++ }, "epoch": func(f *Failure) { f.Epoch++ },
		"state": func(f *Failure) { f.Before[9]++ }, "kind": func(f *Failure) { f.Kind = FailedTrap },
	} {
		f := base()
		change(f)
		if was, ok := seen[f.Root()]; ok {
			t.Errorf("another %s has the root of %s", what, was)
		}
		seen[f.Root()] = what
	}
	f := base()
	f.Err, f.Trace = ErrFuel, "trace"
	if seen[f.Root()] != "the first" {
		t.Error("a text changes the root")
	}
	if r := f.Result(); r.Status != Failed || r.Root != f.Root() || r.Event != nil || r.Epoch != 7 {
		t.Errorf("the result is %+v", r)
	}
	for k := FailedProgram; k.Err() != nil; k++ {
		if f, ok := Fail(Digest{}, Digest{}, 1, Digest{}, fmt.Errorf("%w: more", k.Err())); !ok || f.Kind != k || !errors.Is(f, k.Err()) {
			t.Errorf("kind %d becomes %+v", k, f)
		}
	}
	for _, err := range []error{nil, ErrStopped, ErrLost, errors.Join(ErrLost, ErrHostMemory), ErrHostTime, ErrCheckpoint, ErrWrongJob, ErrWrongProgram, ErrJob, ErrNoState, io.ErrUnexpectedEOF, os.ErrPermission} {
		if f, ok := Fail(Digest{}, Digest{}, 1, Digest{}, err); ok {
			t.Errorf("%v becomes %+v", err, f)
		}
		if f, ok := Refused(Digest{}, Digest{}, err); ok {
			t.Errorf("%v becomes %+v", err, f)
		}
	}
	for _, err := range []error{ErrProgram, ErrMemory} {
		if f, ok := Refused(Digest{1}, Digest{2}, err); !ok || f.Epoch != 1 || f.Before != (Digest{}) {
			t.Errorf("%v becomes %+v", err, f)
		}
	}
	if _, ok := Refused(Digest{}, Digest{}, ErrTrap); ok {
		t.Error("a crash while it is loaded")
	}
}

// TestRoots compares spec/vectors/runtime.json with the code.
func TestRoots(t *testing.T) {
	c, _ := exampleCheckpoint()
	c.Program, c.Job, c.Exit, c.Clock, c.Notices, c.NoticeChain = Digest{1}, Digest{2}, 3, 4, 5, Digest{6}
	var written bytes.Buffer
	if err := c.Write(&written); err != nil {
		t.Fatal(err)
	}
	var plain Snapshot
	plain.Set(Header{Program: Digest{1}, Job: Digest{2}, Epoch: 1, Done: true, Globals: []uint64{1}}, c.Memory, nil)
	type failure struct {
		Program Digest      `json:"program"`
		Job     Digest      `json:"job"`
		Epoch   uint64      `json:"epoch"`
		Kind    FailureKind `json:"kind"`
		Reason  string      `json:"reason"`
		Before  Digest      `json:"before"`
		Root    Digest      `json:"root"`
	}
	v := struct {
		Suspended struct {
			Header     string `json:"header"`
			Frames     string `json:"frames"`
			MemoryRoot Digest `json:"memory_root"`
			State      string `json:"state"`
			Root       Digest `json:"root"`
			Checkpoint string `json:"checkpoint_blake3"`
		} `json:"suspended"`
		Ended struct {
			Header     string `json:"header"`
			MemoryRoot Digest `json:"memory_root"`
			Root       Digest `json:"root"`
		} `json:"ended"`
		Failures []failure `json:"failures"`
	}{}
	sum := blake3.Sum256(written.Bytes())
	v.Suspended.Header, v.Suspended.Frames, v.Suspended.MemoryRoot = hex.EncodeToString(c.head().Encode()), hex.EncodeToString(c.Stack), c.MemoryRoot
	v.Suspended.State, v.Suspended.Root, v.Suspended.Checkpoint = hex.EncodeToString(c.State), c.Root(), hex.EncodeToString(sum[:])
	v.Ended.Header, v.Ended.MemoryRoot, v.Ended.Root = hex.EncodeToString(plain.Encode()), plain.MemoryRoot(), plain.Root()
	for k := FailedProgram; k.Err() != nil; k++ {
		f, _ := Fail(Digest{1}, Digest{2}, uint64(k)*1000, plain.Root(), k.Err())
		v.Failures = append(v.Failures, failure{f.Program, f.Job, f.Epoch, f.Kind, f.Kind.String(), f.Before, f.Root()})
	}
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const path = "../../spec/vectors/runtime.json"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the code gives\n%s", got)
	}
}

var update = flag.Bool("update", false, "write spec/vectors/runtime.json anew")
