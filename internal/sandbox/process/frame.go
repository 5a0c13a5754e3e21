package process

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// A frame is u8 kind ‖ u32 length ‖ body, at most maxFrame bytes. Requests and their
// answers alternate, but for log frames and stop. A stream is any number of data
// frames and an end.
type kind byte

const (
	// From the parent.
	askLoad       kind = 'L' // then a stream: the image
	askStart      kind = 'J' // startMessage, then a stream: the input; if it resumes, another: the checkpoint
	askNext       kind = 'N'
	askStop       kind = 'X' // ends the epoch that runs
	askCheckpoint kind = 'C'
	askProof      kind = 'P' // proofMessage
	// From the child.
	sendLog    kind = 'O' // some of the program's standard error
	sendEvent  kind = 'V' // eventMessage; then pages of the state and an end, and two streams: output, notices
	sendPage   kind = 'G' // u32 index ‖ a page of the state that has changed
	sendAnswer kind = 'R' // answerMessage
	// From both.
	sendData kind = 'D'
	sendEnd  kind = 'E'
)

const (
	// maxFrame is more than the largest job has in arguments and variables.
	maxFrame = 2 << 20
	// chunk is the size of the frames in a stream.
	chunk = 256 << 10
	// maxText and maxTrace are the most that is kept of an error's texts.
	maxText  = 16 << 10
	maxTrace = 32 << 10
)

// errProtocol means that the other side sent something that it must not send.
var errProtocol = errors.New("invalid message")

type startMessage struct {
	Args, Env []string
	Seed      [32]byte
	Time      uint32
	Limits    sandbox.Limits
	Log       bool
	Resume    bool
}

type proofMessage struct {
	Part sandbox.Part
	Page uint32
}

// eventMessage is an event without what the streams behind it carry.
type eventMessage struct {
	Epoch           uint64
	StateSize       uint64
	Root            sandbox.Digest
	Fuel, TotalFuel uint64
	OutputSize      uint64
	OutputSHA256    [32]byte
	Done            bool
	Exit            uint32
}

// answerMessage ends a request.
type answerMessage struct {
	Error *errorMessage `cbor:",omitempty"`
	// Root is that of a run that started.
	Root  sandbox.Digest
	Proof *sandbox.Proof `cbor:",omitempty"`
}

type errorMessage struct {
	Code byte // index in sentinels; 0 for none of them
	Text string
	// Kind is set for a program's failure.
	Kind  sandbox.FailureKind
	Epoch uint64
	Trace string
}

// sentinels are the errors that a caller tells apart, but for those of failures.
var sentinels = []error{nil, sandbox.ErrProgram, sandbox.ErrJob, sandbox.ErrCheckpoint, sandbox.ErrWrongProgram, sandbox.ErrWrongJob,
	sandbox.ErrNoState, sandbox.ErrStopped, sandbox.ErrMemory}

func messageOf(err error) *errorMessage {
	m := &errorMessage{Text: cut(err.Error(), maxText)}
	for i, s := range sentinels {
		if s != nil && errors.Is(err, s) {
			m.Code = byte(i)
			break
		}
	}
	if f := new(sandbox.Failure); errors.As(err, &f) {
		m.Code, m.Text, m.Kind, m.Epoch, m.Trace = 0, cut(f.Err.Error(), maxText), f.Kind, f.Epoch, cut(f.Trace, maxTrace)
	}
	return m
}

func cut(s string, most int) string { return s[:min(len(s), most)] }

// remoteError is an error of the child's.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error { return e.is }

// err returns an error that is not a failure.
func (m *errorMessage) err() error {
	e := &remoteError{text: cut(m.Text, maxText)}
	if int(m.Code) < len(sentinels) {
		e.is = sentinels[m.Code]
	}
	return e
}

var decoding = func() cbor.DecMode {
	// Arguments are any bytes, and so are a program's names, of which errors tell.
	m, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid, MaxNestedLevels: 8, MaxArrayElements: 1 << 20, MaxMapPairs: 64, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func decode(b []byte, v any) error {
	if err := decoding.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	return nil
}

// writer writes frames; the first error is kept.
type writer struct {
	b   *bufio.Writer
	err error
}

func newWriter(w io.Writer) *writer { return &writer{b: bufio.NewWriterSize(w, 64<<10)} }

func (w *writer) frame(k kind, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > maxFrame && w.err == nil {
		w.err = fmt.Errorf("a message of %d bytes, at most %d are possible", n, maxFrame)
	}
	var head [5]byte
	head[0] = byte(k)
	binary.BigEndian.PutUint32(head[1:], uint32(n))
	w.write(head[:])
	for _, p := range parts {
		w.write(p)
	}
	return w.err
}

func (w *writer) write(b []byte) {
	if w.err == nil {
		_, w.err = w.b.Write(b)
	}
}

func (w *writer) message(k kind, v any) error {
	b, err := cbor.Marshal(v)
	if err != nil {
		return err
	}
	return w.frame(k, b)
}

// Write writes a part of a stream.
func (w *writer) Write(b []byte) (int, error) {
	n := len(b)
	for ; len(b) > chunk; b = b[chunk:] {
		w.frame(sendData, b[:chunk])
	}
	if len(b) > 0 {
		w.frame(sendData, b)
	}
	return n, w.err
}

func (w *writer) flush() error {
	if w.err == nil {
		w.err = w.b.Flush()
	}
	return w.err
}

// reader reads frames. The body is valid until the next call.
type reader struct {
	r   io.Reader
	buf []byte
}

func (r *reader) frame() (kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", errProtocol, n)
	}
	if uint32(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	if _, err := io.ReadFull(r.r, r.buf[:n]); err != nil {
		return 0, nil, err
	}
	return kind(head[0]), r.buf[:n], nil
}

// changed calls send for each page of next that is not in prev, which counts as
// zeros behind its end.
func changed(prev, next []byte, send func(i int, page []byte) error) error {
	for i := range sandbox.Pages(len(next)) {
		from := i * sandbox.PageSize
		page := next[from:min(from+sandbox.PageSize, len(next))]
		var was []byte
		if from < len(prev) {
			was = prev[from:min(from+sandbox.PageSize, len(prev))]
		}
		if !sameZeroed(was, page) {
			if err := send(i, page); err != nil {
				return err
			}
		}
	}
	return nil
}

// sameZeroed reports whether was, cut or filled with zeros to page's length, is page.
func sameZeroed(was, page []byte) bool {
	n := min(len(was), len(page))
	if string(was[:n]) != string(page[:n]) {
		return false
	}
	for _, b := range page[n:] {
		if b != 0 {
			return false
		}
	}
	return true
}

// resize returns b with n bytes; new ones are zeros.
func resize(b []byte, n int) []byte {
	if n <= len(b) {
		return b[:n]
	}
	if n <= cap(b) {
		old := len(b)
		b = b[:n]
		clear(b[old:])
		return b
	}
	next := make([]byte, n)
	copy(next, b)
	return next
}
