package web

import (
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/api"
)

// hub passes events on to whoever listens. Nobody waits for a listener that is
// slow: it gets no progress while it has much to read, and is left, so that it
// knows, where it would miss something.
type hub struct {
	mu     sync.Mutex
	list   map[chan any]bool
	closed bool
	told   map[string]time.Time // of progress, by what
}

// backlog is how many events wait for a listener.
const backlog = 256

func (h *hub) join() (events <-chan any, leave func()) {
	c := make(chan any, backlog)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(c)
		return c, func() {}
	}
	if h.list == nil {
		h.list = map[chan any]bool{}
	}
	h.list[c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.list, c)
	}
}

func (h *hub) send(e any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.list {
		_, progress := e.(api.Progress)
		if progress && len(c) > backlog/2 {
			continue
		}
		select {
		case c <- e:
		default:
			close(c)
			delete(h.list, c)
		}
	}
}

// progressEvery is how often progress of one kind is told.
const progressEvery = 100 * time.Millisecond

func (h *hub) progress(p api.Progress) {
	h.mu.Lock()
	now := time.Now()
	due := len(h.list) > 0 && (now.Sub(h.told[p.What]) >= progressEvery || p.Done == p.Total)
	if due {
		if h.told == nil {
			h.told = map[string]time.Time{}
		}
		h.told[p.What] = now
	}
	h.mu.Unlock()
	if due {
		h.send(p)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c := range h.list {
		close(c)
	}
	h.list = nil
}
