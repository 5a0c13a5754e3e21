// Package process implements sandbox.Runner in processes of their own: each run of
// a program has a child process, which runs an engine (Serve) and speaks a framed
// protocol over its standard input and output.
//
// Compiled programs cannot be interrupted by Go, and a program that takes too much
// memory takes its process with it. Here this costs a child and not the node: the
// parent limits the child's memory and time, and ends it. Whatever comes from the
// child is checked and bounded before it is used. What happens to the child is never
// a program's failure: it is sandbox.ErrLost, and the run goes on from its last
// checkpoint in another child.
package process

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// Config configures a Runner.
type Config struct {
	// Command is the child's program and arguments; it calls Serve. See Self.
	Command []string
	// Memory is the most that a child may take, in bytes; 0 means no limit. On
	// Linux a child above it is ended within a tenth of a second, and it cannot
	// reserve much more at all (RLIMIT_DATA); elsewhere there is no limit.
	Memory uint64
	// Nice is the niceness of the child's threads, on Unix, if this process does not
	// have more.
	Nice int
	// Load and Epoch are the most that loading a program and running an epoch may
	// take. 0 means ten minutes for Load, and no limit for Epoch.
	Load, Epoch time.Duration
	// Stall is how long a child may be silent otherwise; 0 means a minute.
	Stall time.Duration
	// Grace is how long a child has to stop a program before it is ended; 0 means
	// two seconds.
	Grace time.Duration
}

// Need returns a limit on memory, in bytes, within which every program with an image
// of this size can be loaded and every job with these limits can run: what loading
// may take (spec/runtime.md §2), or the job's memory, its copy, and what it hands out.
func Need(image int, l *sandbox.Limits, input int) uint64 {
	load := 3<<29 + 40*uint64(image)
	run := 2*l.Memory + 4*(l.State+l.Output+l.Notices) + 3*uint64(input)
	return 256<<20 + max(load, run)
}

// Runner is a sandbox.Runner.
type Runner struct{ c Config }

var _ sandbox.Runner = (*Runner)(nil)

// New returns a runner; it starts no process.
func New(c Config) *Runner {
	for _, d := range []struct {
		to    *time.Duration
		value time.Duration
	}{{&c.Load, 10 * time.Minute}, {&c.Stall, time.Minute}, {&c.Grace, 2 * time.Second}} {
		if *d.to == 0 {
			*d.to = d.value
		}
	}
	return &Runner{c}
}

// Close does nothing: programs and runs have the processes.
func (*Runner) Close() error { return nil }

// maxImage is more than an engine accepts, so that the engine refuses it.
const maxImage = 64<<20 + 1

// Load implements sandbox.Runner. The first run takes the process over in which the
// program was loaded; other runs load it in theirs. The image is held in memory.
func (r *Runner) Load(ctx context.Context, image io.Reader) (sandbox.Program, error) {
	b, err := io.ReadAll(io.LimitReader(image, maxImage))
	if err != nil {
		return nil, err
	}
	p := &program{r: r, image: b, id: blake3.Sum256(b)}
	if p.spare, err = p.child(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

type program struct {
	r     *Runner
	id    sandbox.Digest
	image []byte

	mu     sync.Mutex
	closed bool
	spare  *child // has loaded the program and runs nothing
}

func (p *program) ID() sandbox.Digest { return p.id }

// Close implements sandbox.Program.
func (p *program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.spare != nil {
		p.spare.close()
		p.spare = nil
	}
	return nil
}

// child starts a process that has loaded the program.
func (p *program) child(ctx context.Context) (*child, error) {
	c, err := start(&p.r.c)
	if err != nil {
		return nil, err
	}
	c.limit(p.r.c.Memory, 0)
	err = c.do(ctx, func() error {
		if err := c.w.frame(askLoad); err != nil {
			return err
		}
		if err := c.send(bytes.NewReader(p.image)); err != nil {
			return err
		}
		_, err := c.answer(time.Now().Add(p.r.c.Load))
		return err
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// take returns the spare child, or else a new one.
func (p *program) take(ctx context.Context) (*child, error) {
	p.mu.Lock()
	c, closed := p.spare, p.closed
	p.spare = nil
	p.mu.Unlock()
	switch {
	case closed:
		return nil, errors.New("the program is closed")
	case c != nil && !c.gone():
		return c, nil
	case c != nil:
		c.close()
	}
	return p.child(ctx)
}

// putBack keeps a child that has loaded the program and runs nothing.
func (p *program) putBack(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.spare != nil || c.gone() {
		c.close()
		return
	}
	p.spare = c
}

// Start implements sandbox.Program.
func (p *program) Start(ctx context.Context, job *sandbox.Job, from io.Reader) (sandbox.Run, error) {
	if err := job.Check(); err != nil {
		return nil, err
	}
	c, err := p.take(ctx)
	if err != nil {
		return nil, err
	}
	c.limit(p.r.c.Memory, job.Limits.Memory)
	r := &run{p: p, c: c, job: job, digest: job.Digest(), resumed: from != nil}
	err = c.do(ctx, func() error {
		m := startMessage{job.Args, job.Env, job.Seed, job.Time, job.Limits, job.Log != nil, from != nil}
		if err := c.w.message(askStart, m); err != nil {
			return err
		}
		if err := c.send(bytes.NewReader(job.Input)); err != nil {
			return err
		}
		if from != nil {
			// One byte more than any checkpoint has is seen to be too much.
			if err := c.send(io.LimitReader(from, job.Limits.MaxCheckpoint()+1)); err != nil {
				return err
			}
		}
		a, err := c.answer(time.Now().Add(p.r.c.Load))
		if err == nil {
			r.root = a.Root
		}
		return err
	})
	switch {
	case err == nil:
		return r, nil
	case refusesJob(err):
		p.putBack(c)
	default:
		c.close()
	}
	return nil, err
}

// refusesJob reports whether a child that is sound answers so. It has read the whole
// request and can serve another.
func refusesJob(err error) bool {
	for _, is := range []error{sandbox.ErrJob, sandbox.ErrCheckpoint, sandbox.ErrWrongProgram, sandbox.ErrWrongJob, sandbox.ErrMemory} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

type run struct {
	p       *program
	c       *child
	job     *sandbox.Job
	digest  sandbox.Digest
	resumed bool
	root    sandbox.Digest
	last    *eventMessage // nil before the first event here
	state   []byte
	over    bool
}

func (r *run) Root() sandbox.Digest { return r.root }

// Close implements sandbox.Run.
func (r *run) Close() error {
	r.over = true
	r.c.close()
	return nil
}

// Next implements sandbox.Run.
func (r *run) Next(ctx context.Context) (ev *sandbox.Event, err error) {
	switch {
	case r.over:
		return nil, fmt.Errorf("%w: the run is over", sandbox.ErrStopped)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", sandbox.ErrStopped, ctx.Err())
	}
	err = r.c.epoch(ctx, func() error {
		ev, err = r.next()
		return err
	})
	if err != nil {
		r.over = true
		return nil, err
	}
	r.over = ev.Done
	return ev, nil
}

func (r *run) next() (*sandbox.Event, error) {
	c := r.c
	if err := c.w.frame(askNext); err != nil {
		return nil, err
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	var end time.Time
	if c.config.Epoch > 0 {
		end = time.Now().Add(c.config.Epoch)
	}
	return r.outcome(end)
}

// outcome reads what a child says of an epoch, up to its end.
func (r *run) outcome(end time.Time) (*sandbox.Event, error) {
	c, l := r.c, &r.job.Limits
	var logged uint64
	for {
		k, body, err := c.read(end)
		if err != nil {
			return nil, err
		}
		switch k {
		case sendLog:
			if logged += uint64(len(body)); len(body) == 0 || r.job.Log == nil || logged > l.Log {
				return nil, fmt.Errorf("%w: %d bytes of standard error, at most %d are possible", errProtocol, logged, l.Log)
			}
			_, _ = r.job.Log.Write(body)
		case sendAnswer:
			return nil, r.failed(body)
		case sendEvent:
			return r.event(body)
		default:
			return nil, fmt.Errorf("%w: %q in an epoch", errProtocol, k)
		}
	}
}

// failed returns the error that ends an epoch.
func (r *run) failed(body []byte) error {
	var a answerMessage
	if err := decode(body, &a); err != nil {
		return err
	}
	m := a.Error
	if m == nil {
		return fmt.Errorf("%w: an epoch without an event", errProtocol)
	}
	if m.Kind == 0 {
		return m.err()
	}
	reason := m.Kind.Err()
	if reason == nil || m.Epoch == 0 || r.last != nil && m.Epoch != r.last.Epoch+1 || r.last == nil && !r.resumed && m.Epoch != 1 {
		return fmt.Errorf("%w: %v in epoch %d", errProtocol, m.Kind, m.Epoch)
	}
	return &sandbox.Failure{Program: r.p.id, Job: r.digest, Epoch: m.Epoch, Before: r.root, Kind: m.Kind,
		Err: &remoteError{cut(m.Text, maxText), reason}, Trace: cut(m.Trace, maxTrace)}
}

// event reads an event. Its sizes are checked against the job's limits before
// anything is read.
func (r *run) event(body []byte) (*sandbox.Event, error) {
	m, l := &eventMessage{}, &r.job.Limits
	if err := decode(body, m); err != nil {
		return nil, err
	}
	ok := m.Epoch >= 1 && m.Epoch <= l.Epochs && m.Fuel <= l.Fuel && m.StateSize <= l.State && m.OutputSize <= l.Output
	if r.last != nil {
		ok = ok && m.Epoch == r.last.Epoch+1 && m.TotalFuel == r.last.TotalFuel+m.Fuel && m.OutputSize >= r.last.OutputSize
	} else if !r.resumed {
		ok = ok && m.Epoch == 1 && m.TotalFuel == m.Fuel
	}
	if !ok {
		return nil, fmt.Errorf("%w: event %+v", errProtocol, *m)
	}
	if err := r.pages(int(m.StateSize)); err != nil {
		return nil, err
	}
	var before uint64
	if r.last != nil {
		before = r.last.OutputSize
	}
	output, err := r.c.receive(m.OutputSize - before)
	if err != nil {
		return nil, err
	}
	if got := uint64(len(output)); got != m.OutputSize-before && (r.last != nil || !r.resumed) {
		return nil, fmt.Errorf("%w: %d bytes of output of %d", errProtocol, got, m.OutputSize-before)
	}
	raw, err := r.c.receive(l.Notices)
	if err != nil {
		return nil, err
	}
	notices, err := split(raw, l.Notices)
	if err != nil {
		return nil, err
	}
	r.last, r.root = m, m.Root
	return &sandbox.Event{Epoch: m.Epoch, State: append([]byte(nil), r.state...), Root: m.Root, Fuel: m.Fuel, TotalFuel: m.TotalFuel,
		Output: output, OutputSize: m.OutputSize, OutputSHA256: m.OutputSHA256, Notices: notices, Done: m.Done, Exit: m.Exit}, nil
}

// pages reads the pages of the state that have changed.
func (r *run) pages(size int) error {
	r.state = resize(r.state, size)
	end := r.c.streamed(uint64(size))
	for next := 0; ; {
		k, body, err := r.c.part(end)
		if err != nil {
			return err
		}
		if k == sendEnd {
			return nil
		}
		if k != sendPage || len(body) < 4 {
			return fmt.Errorf("%w: %q in a state", errProtocol, k)
		}
		i := int(binary.BigEndian.Uint32(body))
		if i < next || i >= sandbox.Pages(size) {
			return fmt.Errorf("%w: page %d of %d bytes", errProtocol, i, size)
		}
		next = i + 1
		page := r.state[i*sandbox.PageSize : min((i+1)*sandbox.PageSize, size)]
		if len(body)-4 != len(page) {
			return fmt.Errorf("%w: a page of %d bytes", errProtocol, len(body)-4)
		}
		copy(page, body[4:])
	}
}

// split returns the notices in a stream of u32 length ‖ bytes, which count as a job's
// limit counts them.
func split(raw []byte, limit uint64) (list [][]byte, err error) {
	var sum uint64
	for len(raw) > 0 {
		if len(raw) < 4 || uint64(len(raw)-4) < uint64(binary.BigEndian.Uint32(raw)) {
			return nil, fmt.Errorf("%w: %d bytes of events", errProtocol, len(raw))
		}
		n := 4 + int(binary.BigEndian.Uint32(raw))
		if sum += uint64(n-4) + 64; sum > limit {
			return nil, fmt.Errorf("%w: events of more than %d bytes", errProtocol, limit)
		}
		list, raw = append(list, raw[4:n:n]), raw[n:]
	}
	return list, nil
}

// Checkpoint implements sandbox.Run. It is written as it comes from the child.
func (r *run) Checkpoint(w io.Writer) error {
	c := r.c
	return c.do(context.Background(), func() error {
		if err := c.w.frame(askCheckpoint); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
		most := r.job.Limits.MaxCheckpoint()
		end := c.streamed(uint64(most))
		var failed error
		for {
			k, body, err := c.part(end)
			switch {
			case err != nil:
				return err
			case k == sendEnd && failed != nil:
				return &localError{failed}
			case k == sendEnd:
				return nil
			case k == sendAnswer:
				return answered(body, nil)
			case k != sendData || len(body) == 0 || int64(len(body)) > most:
				return fmt.Errorf("%w: %q of %d bytes in a checkpoint", errProtocol, k, len(body))
			}
			if most -= int64(len(body)); failed == nil { // the rest has to be read nevertheless
				began := time.Now()
				_, failed = w.Write(body)
				end = end.Add(time.Since(began)) // which is not the child's
			}
		}
	})
}

// Prove implements sandbox.Run. A proof that does not hold is not returned.
func (r *run) Prove(part sandbox.Part, page uint32) (proof *sandbox.Proof, err error) {
	c := r.c
	err = c.do(context.Background(), func() error {
		if err := c.w.message(askProof, proofMessage{part, page}); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
		a, err := c.answer(c.stall())
		if err != nil {
			return err
		}
		if proof = a.Proof; proof == nil || proof.Part != part || proof.Page != page || !proof.Verify(r.root) {
			return fmt.Errorf("%w: a proof that does not hold", errProtocol)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return proof, nil
}

// child is a process. Its methods must not be called concurrently, but for end.
type child struct {
	config *Config
	cmd    *exec.Cmd
	in     *os.File
	out    *os.File
	w      *writer
	r      *reader
	said   head // what it wrote to standard error
	dead   chan struct{}

	mu     sync.Mutex
	reason error // why it was ended from here
}

// start starts a child.
func start(config *Config) (*child, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close())
	}
	c := &child{config: config, in: inW, out: outR, w: newWriter(inW), r: &reader{r: outR}, dead: make(chan struct{})}
	c.cmd = exec.Command(config.Command[0], config.Command[1:]...)
	c.cmd.Env = []string{}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = inR, outW, &c.said
	c.cmd.WaitDelay = time.Second
	isolate(c.cmd)
	err = spawn(c.cmd)
	_ = inR.Close()
	_ = outW.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a process for the program: %w", err), inW.Close(), outR.Close())
	}
	prepare(c.cmd.Process.Pid, config.Nice)
	go func() {
		_ = c.cmd.Wait()
		close(c.dead)
	}()
	return c, nil
}

// limit sets the limit on the child's memory for a program with this limit of its
// own.
func (c *child) limit(memory, program uint64) {
	if memory == 0 {
		return
	}
	limitData(c.cmd.Process.Pid, memory+program+headroom)
	if program == 0 {
		go c.watch(memory)
	}
}

// headroom is what a Go program reserves and does not use.
const headroom = 512 << 20

// watchEvery is how often a child's memory is measured.
const watchEvery = 100 * time.Millisecond

// watch ends the child if it takes too much memory.
func (c *child) watch(limit uint64) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-c.dead:
			return
		case <-t.C:
			if used, ok := memoryOf(c.cmd.Process.Pid); ok && used > limit {
				c.end(fmt.Errorf("%w: %d MiB, the limit is %d MiB", sandbox.ErrHostMemory, used>>20, limit>>20))
			}
		}
	}
}

func (c *child) gone() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// end ends the process for a reason; the first one counts.
func (c *child) end(reason error) {
	c.mu.Lock()
	if c.reason == nil {
		c.reason = reason
	}
	c.mu.Unlock()
	_ = c.cmd.Process.Kill()
}

// close ends the process, which is not needed any more.
func (c *child) close() {
	_ = c.in.Close()
	c.end(sandbox.ErrStopped)
	<-c.dead
	_ = c.out.Close()
}

// stall is when a child that says nothing has stalled.
func (c *child) stall() time.Time { return time.Now().Add(c.config.Stall) }

// streamed is the deadline of a whole stream of at most this many bytes, a second for
// 8 MiB: a child that sends a little at a time for ever has stalled too.
func (c *child) streamed(most uint64) time.Time {
	return c.stall().Add(time.Duration(min(most, 1<<40)>>23) * time.Second)
}

// read reads a frame that has to come before the deadline, if there is one.
func (c *child) read(end time.Time) (kind, []byte, error) {
	_ = c.out.SetReadDeadline(end)
	return c.r.frame()
}

// part reads a frame of a stream that has to end by a deadline.
func (c *child) part(end time.Time) (kind, []byte, error) {
	if stall := c.stall(); stall.Before(end) {
		end = stall
	}
	return c.read(end)
}

func (c *child) flush() error {
	_ = c.in.SetWriteDeadline(c.stall())
	return c.w.flush()
}

// send sends a stream, and everything before it. An error of from is returned as a
// *localError.
func (c *child) send(from io.Reader) error {
	buf := make([]byte, chunk)
	for {
		n, err := io.ReadFull(from, buf)
		if n > 0 {
			_ = c.in.SetWriteDeadline(c.stall())
			if err := c.w.frame(sendData, buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			if err := c.w.frame(sendEnd); err != nil {
				return err
			}
			return c.flush()
		case err != nil:
			return &localError{err}
		}
	}
}

// localError is an error of the caller's reader or writer, which the child has no
// part in.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// receive reads a stream of at most most bytes.
func (c *child) receive(most uint64) (b []byte, err error) {
	end := c.streamed(most)
	for {
		k, body, err := c.part(end)
		switch {
		case err != nil:
			return nil, err
		case k == sendEnd:
			return b, nil
		case k != sendData || len(body) == 0 || uint64(len(body)) > most-uint64(len(b)):
			return nil, fmt.Errorf("%w: %q of %d bytes behind %d, at most %d are possible", errProtocol, k, len(body), len(b), most)
		}
		b = append(b, body...)
	}
}

// answer reads the end of a request.
func (c *child) answer(end time.Time) (*answerMessage, error) {
	k, body, err := c.read(end)
	if err != nil {
		return nil, err
	}
	if k != sendAnswer {
		return nil, fmt.Errorf("%w: %q in place of an answer", errProtocol, k)
	}
	var a answerMessage
	return &a, answered(body, &a)
}

// answered decodes an answer, and returns the error that it carries.
func answered(body []byte, a *answerMessage) error {
	if a == nil {
		a = new(answerMessage)
	}
	if err := decode(body, a); err != nil {
		return err
	}
	if a.Error != nil {
		return a.Error.err()
	}
	return nil
}

// do serves a request; if ctx ends, the child does.
func (c *child) do(ctx context.Context, f func() error) error {
	return c.guard(ctx, func() { c.end(sandbox.ErrStopped) }, f)
}

// epoch runs an epoch; if ctx ends, the child is told to stop it, and ended if it
// does not.
func (c *child) epoch(ctx context.Context, f func() error) error {
	over := make(chan struct{})
	return c.guard(ctx, func() {
		var stop bytes.Buffer
		w := newWriter(&stop)
		_ = w.frame(askStop)
		_ = w.flush()
		grace := time.After(c.config.Grace)
		for { // again, in case the first one came before the epoch
			_ = c.in.SetWriteDeadline(time.Now().Add(c.config.Grace))
			_, _ = c.in.Write(stop.Bytes())
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
			case <-grace:
				c.end(sandbox.ErrStopped)
				return
			}
		}
	}, func() error {
		defer close(over)
		return f()
	})
}

// guard calls f, and stop if ctx ends meanwhile. It makes an error that is not the
// child's own answer into one that wraps sandbox.ErrLost, or sandbox.ErrStopped if
// ctx ended.
func (c *child) guard(ctx context.Context, stop func(), f func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", sandbox.ErrStopped, err)
	}
	if c.gone() {
		return c.lost(nil)
	}
	stopped := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		defer close(stopped)
		stop()
	})
	err := f()
	if !end() {
		<-stopped // so that it does not reach the next request
	}
	var remote *remoteError
	var failure *sandbox.Failure
	var local *localError
	switch {
	case err == nil, errors.As(err, &failure):
		return err
	case errors.As(err, &remote):
		if errors.Is(err, sandbox.ErrStopped) && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", sandbox.ErrStopped, ctx.Err())
		}
		return err
	case errors.As(err, &local):
		// A reader that failed leaves half a request with the child.
		c.end(local.error)
		<-c.dead
		return local.error
	}
	if cause := ctx.Err(); cause != nil {
		c.end(sandbox.ErrStopped)
		<-c.dead
		return fmt.Errorf("%w: %w", sandbox.ErrStopped, cause)
	}
	return c.lost(err)
}

// lost ends the child, and returns why: err is what was noticed first.
func (c *child) lost(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.end(sandbox.ErrHostTime)
	case errors.Is(err, errProtocol):
		c.end(err)
	default: // it has ended, or is ending
		select {
		case <-c.dead:
		case <-time.After(c.config.Grace):
		}
		c.mu.Lock()
		known := c.reason != nil
		c.mu.Unlock()
		if !known {
			c.end(c.ended(err))
		}
	}
	<-c.dead
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Errorf("%w: %w", sandbox.ErrLost, c.reason)
}

// ended says how the process ended.
func (c *child) ended(err error) error {
	said := c.said.String()
	for _, text := range []string{"out of memory", "cannot allocate memory"} {
		if strings.Contains(said, text) { // Go's runtime, whose allocation the system refused
			return fmt.Errorf("%w: %s", sandbox.ErrHostMemory, firstLine(said))
		}
	}
	how := "it closed its output"
	if c.gone() {
		how = c.cmd.ProcessState.String()
	}
	if said != "" {
		how += ": " + firstLine(said)
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New(how)
	}
	return fmt.Errorf("%s (%w)", how, err)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// head keeps the beginning of what is written to it.
type head struct {
	mu sync.Mutex
	b  []byte
}

const maxHead = 16 << 10

func (h *head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, b[:min(len(b), maxHead-len(h.b))]...)
	return len(b), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.b)
}
