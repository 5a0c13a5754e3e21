package process

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// Serve is the child: it loads one program with an engine and serves one run of it
// to the parent at the other end of in and out. When the parent goes, it returns,
// or ends the process if a request is being served.
func Serve(in io.Reader, out io.Writer, engine sandbox.Runner) error {
	// One thread may be inside a program, where Go cannot interrupt it; another
	// has to read what the parent wants.
	runtime.GOMAXPROCS(2)
	s := &server{engine: engine, out: newWriter(out), requests: make(chan request)}
	go s.read(&reader{r: in})
	return s.serve()
}

// exitGone is the exit code of a child without a parent.
const exitGone = 3

type request struct {
	kind kind
	body []byte
}

type server struct {
	engine   sandbox.Runner
	out      *writer
	requests chan request
	stop     atomic.Pointer[context.CancelFunc] // of the epoch that runs
	busy     atomic.Bool

	program sandbox.Program
	run     sandbox.Run
	state   []byte // what the parent has of the last event's
	tidied  uint64 // what had been allocated at the last collection
}

// read passes requests on, and ends the process with its parent.
func (s *server) read(r *reader) {
	for {
		k, body, err := r.frame()
		switch {
		case err != nil:
			if s.busy.Load() {
				os.Exit(exitGone)
			}
			close(s.requests)
			return
		case k == askStop:
			if stop := s.stop.Load(); stop != nil {
				(*stop)()
			}
		default:
			s.requests <- request{k, bytes.Clone(body)}
		}
	}
}

func (s *server) serve() error {
	for q := range s.requests {
		s.busy.Store(true)
		answer, err := s.answer(q)
		if err != nil {
			if errors.Is(err, errGone) {
				return nil
			}
			answer = &answerMessage{Error: messageOf(err)}
		}
		if answer != nil {
			_ = s.out.message(sendAnswer, answer)
		}
		if err := s.out.flush(); err != nil {
			return err
		}
		s.busy.Store(false)
	}
	return nil
}

// errGone means that the parent is gone.
var errGone = errors.New("the parent is gone")

// answer serves a request. It returns nil if the answer was sent already.
func (s *server) answer(q request) (*answerMessage, error) {
	switch {
	case q.kind == askLoad && s.program == nil:
		var image bytes.Buffer
		if err := s.stream(func(b []byte) { image.Write(b) }); err != nil {
			return nil, err
		}
		p, err := s.engine.Load(context.Background(), bytes.NewReader(image.Bytes()))
		if err != nil {
			return nil, err
		}
		s.program = p
		return &answerMessage{}, nil
	case q.kind == askStart && s.program != nil && s.run == nil:
		return s.start(q.body)
	case s.run == nil:
		return nil, fmt.Errorf("%w: %q out of turn", errProtocol, q.kind)
	case q.kind == askNext:
		return s.next()
	case q.kind == askCheckpoint:
		if err := s.run.Checkpoint(s.out); err != nil {
			return nil, err
		}
		return nil, s.out.frame(sendEnd)
	case q.kind == askProof:
		var m proofMessage
		if err := decode(q.body, &m); err != nil {
			return nil, err
		}
		p, err := s.run.Prove(m.Part, m.Page)
		if err != nil {
			return nil, err
		}
		return &answerMessage{Proof: p}, nil
	}
	return nil, fmt.Errorf("%w: %q", errProtocol, q.kind)
}

// stream reads a whole stream.
func (s *server) stream(take func([]byte)) error {
	for q := range s.requests {
		switch q.kind {
		case sendData:
			take(q.body)
		case sendEnd:
			return nil
		default:
			return fmt.Errorf("%w: %q in a stream", errProtocol, q.kind)
		}
	}
	return errGone
}

func (s *server) start(body []byte) (*answerMessage, error) {
	var m startMessage
	if err := decode(body, &m); err != nil {
		return nil, err
	}
	var input []byte
	if err := s.stream(func(b []byte) { input = append(input, b...) }); err != nil {
		return nil, err
	}
	job := &sandbox.Job{Args: m.Args, Env: m.Env, Input: input, Seed: m.Seed, Time: m.Time, Limits: m.Limits}
	if m.Log {
		job.Log = (*logger)(s.out)
	}
	var from io.Reader
	var rest chan error
	if m.Resume {
		// The engine reads while the stream comes, and may not read to its end.
		r, w := io.Pipe()
		from, rest = r, make(chan error, 1)
		go func() {
			err := s.stream(func(b []byte) { _, _ = w.Write(b) })
			_ = w.CloseWithError(err) // nil is io.EOF
			rest <- err
		}()
		defer r.Close()
	}
	run, err := s.program.Start(context.Background(), job, from)
	if rest != nil {
		_ = from.(*io.PipeReader).Close()
		if gone := <-rest; gone != nil {
			return nil, gone
		}
	}
	if err != nil {
		return nil, err
	}
	s.run = run
	s.tidy(true)
	return &answerMessage{Root: run.Root()}, nil
}

// logger sends a program's standard error at once.
type logger writer

func (l *logger) Write(b []byte) (int, error) {
	w, n := (*writer)(l), len(b)
	for len(b) > 0 {
		k := min(len(b), chunk)
		_ = w.frame(sendLog, b[:k])
		b = b[k:]
	}
	return n, w.flush()
}

func (s *server) next() (*answerMessage, error) {
	s.tidy(false)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.stop.Store(&cancel)
	ev, err := s.run.Next(ctx)
	s.stop.Store(nil)
	if err != nil {
		return nil, err
	}
	_ = s.out.message(sendEvent, eventMessage{ev.Epoch, uint64(len(ev.State)), ev.Root, ev.Fuel, ev.TotalFuel, ev.OutputSize, ev.OutputSHA256, ev.Done, ev.Exit})
	_ = changed(s.state, ev.State, func(i int, page []byte) error {
		return s.out.frame(sendPage, binary.BigEndian.AppendUint32(nil, uint32(i)), page)
	})
	s.state = ev.State
	_ = s.out.frame(sendEnd)
	_, _ = s.out.Write(ev.Output)
	_ = s.out.frame(sendEnd)
	for _, n := range ev.Notices {
		_, _ = s.out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(n))))
		_, _ = s.out.Write(n)
	}
	return nil, s.out.frame(sendEnd)
}

// A collection that begins while a program runs has to wait for it, and everything
// else, such as read, waits with it. So collections run between epochs, and only a
// program that lets its host allocate more than spare starts one in an epoch.
const (
	tidyAfter = 64 << 20
	spare     = 256 << 20
)

func (s *server) tidy(first bool) {
	if first {
		debug.SetGCPercent(-1)
	}
	m := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(m)
	if now := m[0].Value.Uint64(); first || now-s.tidied > tidyAfter {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		debug.SetMemoryLimit(int64(stats.Sys-stats.HeapReleased) + spare)
		s.tidied = now
	}
}
