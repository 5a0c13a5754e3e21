package process

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// FuzzOutcome: whatever a child says of its epochs, what is taken of it keeps to the
// job's limits and follows the epoch before.
func FuzzOutcome(f *testing.F) {
	end := Frame('E', "")
	f.Add([]byte(Event{Epoch: 1, Fuel: 5, TotalFuel: 5, OutputSize: 3, StateSize: 4}.Frame() + Frame('G', "\x00\x00\x00\x00four") + end +
		Frame('D', "out") + end + Frame('D', "\x00\x00\x00\x04note") + end +
		Frame('O', "log") + Event{Epoch: 2, Fuel: 1, TotalFuel: 6, OutputSize: 3, StateSize: 2, Done: true}.Frame() + end + end + end))
	f.Add([]byte(Failed(sandbox.FailedTrap, 1)))
	f.Add([]byte(Answer()))
	f.Fuzz(func(t *testing.T, said []byte) {
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		go func() { _, _ = out.Write(said); out.Close() }()
		l := sandbox.Limits{Memory: sandbox.PageSize, Fuel: 100, Epochs: 3, Output: 1000, State: 1 << 17, Notices: 500, Log: 100}
		r := &run{p: &program{}, job: &sandbox.Job{Limits: l, Log: io.Discard}, c: &child{config: &Config{Stall: time.Second}, out: in, r: &reader{r: in}}}
		var size, total uint64
		for epoch := uint64(1); ; epoch++ {
			ev, err := r.outcome(time.Time{})
			if failed := new(sandbox.Failure); errors.As(err, &failed) && (failed.Epoch != epoch || failed.Kind.Err() == nil || failed.Before != r.root) {
				t.Fatalf("epoch %d: %+v", epoch, failed)
			}
			if err != nil {
				return
			}
			size, total = size+uint64(len(ev.Output)), total+ev.Fuel
			if ev.Epoch != epoch || epoch > l.Epochs || ev.Fuel > l.Fuel || ev.TotalFuel != total || ev.OutputSize != size || size > l.Output || uint64(len(ev.State)) > l.State || ev.Root != r.Root() {
				t.Fatalf("epoch %d: %+v", epoch, ev)
			}
		}
	})
}
