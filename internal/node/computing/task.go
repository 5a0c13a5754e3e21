package computing

import (
	"context"
	"log/slog"
	"time"
)

// task is work on one epoch in a goroutine of its own.
type task struct {
	epoch  uint32
	cancel context.CancelFunc
	ended  chan struct{} // closed at the end
	err    error         // then
}

// start runs f, and wakes the party at its end.
func (t *task) start(ctx context.Context, p *party, f func(context.Context) error) {
	ctx, t.cancel = context.WithCancel(ctx)
	t.ended = make(chan struct{})
	go func() {
		t.err = f(ctx)
		close(t.ended)
		p.poke()
	}()
}

// over reports whether the work has ended.
func (t *task) over() bool {
	select {
	case <-t.ended:
		t.cancel()
		return true
	default:
		return false
	}
}

// stop ends the work and waits for its end.
func (t *task) stop() {
	t.cancel()
	<-t.ended
}

// retryPause is the pause after which is tried again what failed.
const retryPause = time.Second

// retry logs why a task failed, and returns when it may be tried again.
func (t *task) retry(p *party, level slog.Level, what string) time.Time {
	p.room.cfg.Log.Log(context.Background(), level, what, "job", p.id, "epoch", t.epoch, "err", t.err)
	time.AfterFunc(retryPause, p.poke)
	return time.Now().Add(retryPause)
}
