package web

import (
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/api"
)

// hub sends events to listeners. It never waits for a slow one: a listener with
// much to read gets no progress, and if its backlog is full, its channel is
// closed, so that it knows that it has missed something.
type hub struct {
	mu     sync.Mutex
	list   map[chan any]bool
	closed bool
	told   map[string]time.Time // when progress was last sent, by what
}

// backlog is the number of events that may wait for a listener.
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

// progressEvery is the shortest time between two events of the same progress.
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
