package process

import (
	"bytes"
	"io"
	"os"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// Kill kills a run's child as anybody could.
func Kill(r sandbox.Run) { _ = r.(*run).c.cmd.Process.Kill() }

// CloseInput ends the child's standard input, as if this process had died.
func CloseInput(r sandbox.Run) { _ = r.(*run).c.in.Close() }

// MeasuresMemory reports whether the system tells how much memory a process takes.
func MeasuresMemory() bool {
	_, ok := memoryOf(os.Getpid())
	return ok
}

// Event, Failed, Answer, Data, Page, Log and End are frames.
type Event = eventMessage

func frames(f func(w *writer)) string {
	var b bytes.Buffer
	w := newWriter(&b)
	f(w)
	_ = w.flush()
	return b.String()
}

func (e eventMessage) Frame() string { return frames(func(w *writer) { _ = w.message(sendEvent, e) }) }

func Failed(k sandbox.FailureKind, epoch uint64) string {
	return frames(func(w *writer) {
		_ = w.message(sendAnswer, answerMessage{Error: &errorMessage{Text: "text", Kind: k, Epoch: epoch}})
	})
}

func Answer() string { return frames(func(w *writer) { _ = w.message(sendAnswer, answerMessage{}) }) }

func Proven(p *sandbox.Proof) string {
	return frames(func(w *writer) { _ = w.message(sendAnswer, answerMessage{Proof: p}) })
}

func Frame(k byte, body string) string {
	return frames(func(w *writer) { _ = w.frame(kind(k), []byte(body)) })
}

// Follow reads the frames of one whole request and returns its kind.
func Follow(r io.Reader) (byte, error) {
	f := &reader{r: r}
	first, body, err := f.frame()
	if err != nil {
		return 0, err
	}
	streams := map[kind]int{askLoad: 1, askStart: 1}[first]
	if first == askStart {
		var m startMessage
		if err := decode(body, &m); err != nil {
			return 0, err
		}
		if m.Resume {
			streams++
		}
	}
	for streams > 0 {
		k, _, err := f.frame()
		if err != nil {
			return 0, err
		}
		if k == sendEnd {
			streams--
		}
	}
	return byte(first), nil
}

// Signal sends a signal to a run's child.
func Signal(r sandbox.Run, s os.Signal) { _ = r.(*run).c.cmd.Process.Signal(s) }
