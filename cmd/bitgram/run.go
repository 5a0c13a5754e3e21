package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/sandbox/process"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
)

// runOptions holds the flags of run.
type runOptions struct {
	input, output, seed, memory    string
	maxOutput, maxState            string
	checkpoint, resume             string
	at                             uint64
	env                            []string
	time                           uint32
	fuel, epochs                   uint64
	compare, interpreter, cacheOff bool
	isolated                       bool
}

func (a *app) runCommand() *cobra.Command {
	l := sandbox.DefaultLimits()
	var o runOptions
	c := &cobra.Command{
		Use:   "run PROGRAM [ARGS]",
		Short: "Run a program here, exactly as nodes would",
		Long: "Runs a WASM program (a WASI command from any toolchain) with the given arguments. The run is metered and\n" +
			"deterministic: it has the same fuel, state roots and output as on every node. The program's standard\n" +
			"output is the output; its standard error is shown. The program has no files, no network, no environment\n" +
			"and no time of day except what the flags give it.\n\n" +
			"The exit code is the program's own, if it is from 1 to 255; --json has it as exit in the summary.\n" +
			"Put the program's own flags after --. To resume a checkpoint, pass the same program, arguments and flags;\n" +
			"the figures at the end are those of the whole run. They belong to the SHA-256 that is shown as module:\n" +
			"to reproduce published figures, build the program with -trimpath -buildvcs=false.",
		Example: "  bitgram run primes.wasm 3000000\n" +
			"  bitgram run primes.wasm 3000000 --checkpoint-at 1\n" +
			"  bitgram run primes.wasm 3000000 --resume primes.1.checkpoint\n" +
			"  bitgram run raytrace.wasm -o picture.png",
		Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return a.runProgram(c.Context(), args, &o) },
	}
	f := c.Flags()
	f.BoolVar(&o.compare, "compare", false, "run it twice compiled and once interpreted, and compare the runs")
	f.Uint64Var(&o.at, "checkpoint-at", 0, "stop at this sync event, counted from 1, and write a checkpoint")
	f.StringVar(&o.checkpoint, "checkpoint", "", "file for the checkpoint (default: PROGRAM.EVENT.checkpoint in this directory)")
	f.StringVar(&o.resume, "resume", "", "resume from this checkpoint")
	f.StringVarP(&o.input, "input", "i", "", "input file for the program; - is standard input")
	f.StringVarP(&o.output, "output", "o", "", "write the output to this file")
	f.StringVar(&o.seed, "seed", "", "seed for its random numbers: any text, or 64 hex digits")
	f.StringArrayVar(&o.env, "env", nil, "environment variable for the program, NAME=VALUE (repeatable)")
	f.Uint32Var(&o.time, "time", 0, "start of its clock, in seconds since 1970")
	f.StringVar(&o.memory, "memory", humanize.IBytes(l.Memory), "limit on memory")
	f.Uint64Var(&o.fuel, "fuel", l.Fuel, "limit on fuel per epoch")
	f.Uint64Var(&o.epochs, "epochs", l.Epochs, "limit on epochs")
	f.StringVar(&o.maxOutput, "max-output", humanize.IBytes(l.Output), "limit on output")
	f.StringVar(&o.maxState, "max-state", humanize.IBytes(l.State), "limit on the state passed to sync")
	f.BoolVar(&o.interpreter, "interpreter", false, "interpret the program instead of compiling it")
	f.BoolVar(&o.cacheOff, "no-cache", false, "do not cache compiled code")
	f.BoolVar(&o.isolated, "isolated", false, "run it in a process of its own, with a limit on memory")
	return c
}

// job builds the job from the flags.
func (a *app) job(args []string, o *runOptions) (*sandbox.Job, error) {
	l := sandbox.DefaultLimits()
	l.Fuel, l.Epochs = o.fuel, o.epochs
	for _, f := range []struct {
		name, text string
		to         *uint64
	}{{"memory", o.memory, &l.Memory}, {"max-output", o.maxOutput, &l.Output}, {"max-state", o.maxState, &l.State}} {
		n, err := bytesOf(f.name, f.text)
		if err != nil {
			return nil, err
		}
		*f.to = n
	}
	j := &sandbox.Job{Args: append([]string{filepath.Base(args[0])}, args[1:]...), Env: o.env, Time: o.time, Limits: l}
	for _, e := range o.env {
		if i := strings.IndexByte(e, '='); i < 1 {
			return nil, fmt.Errorf("%w: --env %q: must be NAME=VALUE", errUsage, e)
		}
	}
	if b, err := hex.DecodeString(o.seed); err == nil && len(b) == len(j.Seed) {
		copy(j.Seed[:], b)
	} else if o.seed != "" {
		j.Seed = sha256.Sum256([]byte(o.seed))
	}
	var err error
	if j.Input, err = a.readInput(o.input); err != nil {
		return nil, err
	}
	j.Log = a.err
	if terminal(a.err) {
		j.Log = &plainWriter{a.err}
	}
	return j, j.Check()
}

const maxRunInput int64 = 1 << 32

func (a *app) readInput(path string) ([]byte, error) {
	switch path {
	case "":
		return nil, nil
	case "-":
		b, err := io.ReadAll(io.LimitReader(a.in, maxRunInput+1))
		if err == nil && int64(len(b)) > maxRunInput {
			err = fmt.Errorf("more than 4 GiB on standard input")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errInput, err)
		}
		return b, nil
	}
	f, size, err := openInput(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > uint64(maxRunInput) {
		return nil, fmt.Errorf("%w: %s has %d bytes: the limit is 4 GiB", errInput, path, size)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRunInput))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return b, nil
}

func (a *app) runProgram(ctx context.Context, args []string, o *runOptions) error {
	if o.at > 0 && o.checkpoint == "" {
		name := filepath.Base(args[0])
		o.checkpoint = fmt.Sprintf("%s.%d.checkpoint", strings.TrimSuffix(name, filepath.Ext(name)), o.at)
	}
	switch {
	case o.compare && (o.at > 0 || o.resume != ""):
		return fmt.Errorf("%w: --compare works only for a whole run: leave out --checkpoint-at and --resume", errUsage)
	case o.at == 0 && o.checkpoint != "":
		return fmt.Errorf("%w: --checkpoint requires --checkpoint-at", errUsage)
	}
	for _, path := range []string{o.output, o.checkpoint} {
		if err := checkOutput(path, false); err != nil {
			return err
		}
	}
	job, err := a.job(args, o)
	if err != nil {
		return err
	}
	file, err := openProgram(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	var image io.Reader = file
	size := 0
	if o.compare || o.isolated {
		bin, err := file.all()
		if err != nil {
			return err
		}
		if o.compare {
			return a.compareRuns(ctx, bin, job, o)
		}
		image, size = bytes.NewReader(bin), len(bin)
	}
	p, done, err := a.loadProgram(ctx, image, size, job, o, o.interpreter)
	if err != nil {
		return err
	}
	defer done()
	s := newSession(a, o, file.sum.Sum(nil))
	err = s.run(ctx, p, job)
	if err != nil && !errors.Is(err, errProgramExit) {
		return err
	}
	return errors.Join(s.finish(1), err)
}

// programFile is the open file of a program. A program that was compiled before is
// not held in memory.
type programFile struct {
	*os.File
	sum hash.Hash // SHA-256 of what was read since the beginning
}

func openProgram(path string) (*programFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProgramFile, err)
	}
	return &programFile{f, sha256.New()}, nil
}

// Read reads and sums up. Errors but io.EOF wrap errProgramFile.
func (f *programFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	_, _ = f.sum.Write(p[:n])
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errProgramFile, err)
	}
	return n, err
}

// Seek moves to the beginning of the file, or tells the position. A pipe returns an
// error.
func (f *programFile) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 {
		return 0, errors.ErrUnsupported
	}
	at, err := f.File.Seek(0, whence)
	if err == nil && at == 0 {
		f.sum.Reset()
	}
	return at, err
}

// Len is the size of a regular file, by which a buffer for it is made; else 0.
func (f *programFile) Len() int {
	if s, err := f.Stat(); err == nil && s.Mode().IsRegular() {
		return int(min(s.Size(), maxProgram))
	}
	return 0
}

// all reads the whole program.
func (f *programFile) all() ([]byte, error) {
	var b bytes.Buffer
	b.Grow(f.Len() + bytes.MinRead)
	_, err := b.ReadFrom(io.LimitReader(f, maxProgram))
	return b.Bytes(), err
}

// errProgramFile is returned when the program's file cannot be read.
var errProgramFile = errors.New("cannot read the program")

// maxProgram is the most that is read of a program, in bytes. It is more than any
// engine accepts, so that the engine refuses a larger one.
const maxProgram = 1 << 30

// cacheDir is the directory for compiled programs: under the home that was chosen by
// --home or BITGRAM_HOME, or else in the user's cache; "" for none.
func (a *app) cacheDir(o *runOptions) string {
	if o.cacheOff {
		return ""
	}
	var dir string
	if a.dir != "" || os.Getenv("BITGRAM_HOME") != "" {
		h, err := a.at()
		if err != nil {
			return ""
		}
		dir = filepath.Join(h.Dir, "cache", "wasm")
	} else {
		user, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(user, "bitgram", "wasm")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ""
	}
	return dir
}

// loadProgram loads a program in this process, or with --isolated in one of its own,
// whose limit of memory follows from the image's size.
func (a *app) loadProgram(ctx context.Context, image io.Reader, size int, job *sandbox.Job, o *runOptions, interpreter bool) (p sandbox.Program, done func(), err error) {
	var r sandbox.Runner
	if o.isolated {
		args := []string{sandboxName, "--cache", a.cacheDir(o)}
		if interpreter {
			args = append(args, "--interpreter")
		}
		command, err := process.Self(args...)
		if err != nil {
			return nil, nil, err
		}
		r = process.New(process.Config{Command: command, Memory: process.Need(size, &job.Limits, len(job.Input))})
	} else if r, err = wasm.New(ctx, wasm.Config{Interpreter: interpreter, CacheDir: a.cacheDir(o)}); err != nil {
		return nil, nil, err
	}
	if p, err = r.Load(ctx, image); err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	return p, func() { _, _ = p.Close(), r.Close() }, nil
}
