package p2p

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/bitgram/bitgram/wire"
)

// postbox is a Jobs that keeps what comes. Letters of jobs that begin with 9 are
// refused.
type postbox struct {
	mu   sync.Mutex
	got  []string
	from []wire.Key
}

func (p *postbox) Call(_ context.Context, _ Caller, kind uint8, body []byte) ([]byte, error) {
	if kind == 9 {
		return nil, wire.Refuse(wire.Unknown, "no such job")
	}
	return append([]byte{kind}, body...), nil
}

func (p *postbox) Letter(from wire.Key, job wire.Hash, body []byte) error {
	if job[0] == 9 {
		return errors.New("no such job")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got, p.from = append(p.got, string(body)), append(p.from, from)
	return nil
}

func (p *postbox) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got)
}

// worker is a host that works for jobs.
func worker(t world, id byte, l Limits) (*Host, *postbox, wire.Peer) {
	t.Helper()
	box := &postbox{}
	h := newHost(t, Config{Identity: secret(id), Listen: []string{overTCP}, Jobs: box, Limits: l})
	return h, box, wire.Peer{Key: keyOf(secret(id)), Addrs: h.Addrs()}
}

// until waits until f is true.
func (w world) until(what string, f func() bool) {
	w.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not after a minute: %s", what)
		}
	}
}

// letterStreams counts the open streams of letters.
func letterStreams(h *Host) (n int) {
	for _, c := range h.h.Network().Conns() {
		for _, st := range c.GetStreams() {
			if st.Protocol() == protoLetters {
				n++
			}
		}
	}
	return n
}

func TestJobCall(t *testing.T) {
	inWorld(t, func(t world) {
		_, _, to := worker(t, 1, t.quick())
		c := newHost(t, Config{})
		a, err := c.JobCall(t.Context(), to, 3, []byte("body"))
		if err != nil || string(a) != "\x03body" {
			t.Error(a, err)
		}
		_, err = c.JobCall(t.Context(), to, 9, nil)
		var refused *Refused
		if !errors.As(err, &refused) || refused.Code != wire.Unknown {
			t.Error(err)
		}
		if _, err := c.JobCall(t.Context(), to, 0, make([]byte, wire.MaxJobBody+1)); !errors.Is(err, wire.ErrMalformed) {
			t.Error(err)
		}
	})
}

// TestLettersCross: both nodes open a stream at once, and one survives, on which
// everything comes in order.
func TestLettersCross(t *testing.T) {
	inWorld(t, func(t world) {
		a, boxA, peerA := worker(t, 1, t.quick())
		b, boxB, peerB := worker(t, 2, t.quick())
		must(t, a.Link(peerB, 1))
		must(t, b.Link(peerA, 1))
		send := func(n int) {
			for i := range n {
				must(t, a.Letter(peerB.Key, wire.Hash{1}, []byte{byte(i)}))
				must(t, b.Letter(peerA.Key, wire.Hash{1}, []byte{byte(i)}))
			}
		}
		send(1)
		time.Sleep(2 * time.Second)
		if n, m := letterStreams(a), letterStreams(b); n != 1 || m != 1 {
			t.Errorf("%d and %d streams", n, m)
		}
		x, y := boxA.count(), boxB.count()
		send(50)
		t.until("all letters", func() bool { return boxA.count() == x+50 && boxB.count() == y+50 })
		for i, s := range boxB.got[y:] {
			if s[0] != byte(i) || boxB.from[y+i] != peerA.Key {
				t.Fatalf("letter %d: %q of %v", i, s, boxB.from[y+i])
			}
		}
		// No job in common any more.
		must(t, a.Link(peerB, 0))
		t.until("the stream ends", func() bool { return letterStreams(a) == 0 && letterStreams(b) == 0 })
		must(t, a.Letter(peerB.Key, wire.Hash{1}, nil))
	})
}

// TestLettersRestart: letters come again after a node was away.
func TestLettersRestart(t *testing.T) {
	inWorld(t, func(t world) {
		a, _, peerA := worker(t, 1, t.quick())
		ip := ""
		if t.net != nil {
			ip = t.net.NewIP()
		}
		open := func() (*Host, *postbox, wire.Peer) {
			if t.net == nil {
				return worker(t, 2, t.quick())
			}
			box := &postbox{}
			h, err := New(Config{Identity: secret(2), Listen: t.addrs([]string{""}, ip), Transports: t.net.Transports(ip), Jobs: box, Limits: t.quick()})
			must(t, err)
			return h, box, wire.Peer{Key: keyOf(secret(2)), Addrs: h.Addrs()}
		}
		b, box, peerB := open()
		must(t, a.Link(peerB, 1))
		must(t, b.Link(peerA, 1))
		must(t, a.Letter(peerB.Key, wire.Hash{}, []byte("first")))
		t.until("the first", func() bool { return box.count() == 1 })
		must(t, b.Close())
		time.Sleep(time.Second)
		must(t, a.Letter(peerB.Key, wire.Hash{}, []byte("lost or late")))
		time.Sleep(time.Second)
		b, box, peerB = open()
		defer b.Close()
		must(t, a.Link(peerB, 1))
		must(t, b.Link(peerA, 1))
		t.until("letters after the restart", func() bool {
			must(t, a.Letter(peerB.Key, wire.Hash{}, []byte("second")))
			return box.count() > 0
		})
	})
}

// TestLettersStalled: a peer that reads nothing costs its own letters and nothing else.
func TestLettersStalled(t *testing.T) {
	inWorld(t, func(t world) {
		a, _, _ := worker(t, 1, t.quick())
		_, box, peerB := worker(t, 2, t.quick())
		c, _, peerC := worker(t, 3, t.quick())
		c.h.SetStreamHandler(protoLetters, func(st network.Stream) { _ = wire.WriteFrame(st, &wire.Reply{}) })
		must(t, a.Link(peerB, 1))
		must(t, a.Link(peerC, 1))
		b := a.links.of(c.ID())
		body := []byte(strings.Repeat("x", wire.MaxJobLetter))
		before := runtime.NumGoroutine()
		for i := range 20 {
			start := time.Now()
			for range 100 {
				must(t, a.Letter(peerC.Key, wire.Hash{}, body))
			}
			t.within(start, 50*time.Millisecond, "letters to a stalled peer")
			b.mu.Lock()
			if b.size > maxWaitingBytes || len(b.waiting) > maxWaiting {
				t.Fatalf("%d bytes in %d letters wait", b.size, len(b.waiting))
			}
			b.mu.Unlock()
			if i == 10 {
				// The other side lets b in only if it has a job in common.
				must(t, a.Letter(peerB.Key, wire.Hash{}, []byte("to another")))
			}
			time.Sleep(50 * time.Millisecond)
		}
		if box.count() != 0 {
			t.Error("a letter without a job in common")
		}
		if n := runtime.NumGoroutine(); n > before+50 {
			t.Errorf("%d goroutines, %d before", n, before)
		}
	})
}

// TestLettersStranger: who has no job in common is refused, and who sends letters of a
// job that it is no party of, or too many, is not heard for a while.
func TestLettersStranger(t *testing.T) {
	inWorld(t, func(t world) {
		a, box, peerA := worker(t, 1, t.quick())
		b, _, peerB := worker(t, 2, t.quick())
		must(t, b.Link(peerA, 1))
		must(t, b.Letter(peerA.Key, wire.Hash{1}, []byte("stranger")))
		time.Sleep(time.Second)
		if box.count() != 0 {
			t.Fatal("a stranger is heard")
		}
		must(t, a.Link(peerB, 1))
		t.until("it is heard", func() bool {
			must(t, b.Letter(peerA.Key, wire.Hash{1}, []byte("party")))
			return box.count() > 0
		})
		// A few letters of another's job are too many.
		for range 2*letterRate/badLetter + 1 {
			must(t, b.Letter(peerA.Key, wire.Hash{9}, nil))
		}
		time.Sleep(time.Second)
		n := box.count()
		must(t, b.Letter(peerA.Key, wire.Hash{1}, []byte("not heard")))
		time.Sleep(floodPause / 2)
		if m := box.count(); m != n {
			t.Errorf("%d letters were heard of a peer that sends others' letters", m-n)
		}
		t.until("it is heard again", func() bool {
			must(t, b.Letter(peerA.Key, wire.Hash{1}, []byte("party")))
			return box.count() > n
		})
	})
}

// TestLettersFlood: a frame is bounded before it is read, and a flood ends the stream.
func TestLettersFlood(t *testing.T) {
	inWorld(t, func(t world) {
		a, box, _ := worker(t, 1, t.quick())
		b, _, peerB := worker(t, 2, t.quick())
		must(t, a.Link(peerB, 1))
		open := func() network.Stream {
			t.Helper()
			st := raw(t, b, a, protoLetters)
			var r wire.Reply
			_, err := st.Write(nil)
			must(t, err)
			must(t, wire.ReadFrame(st, &r))
			if r.Code != wire.OK {
				t.Fatalf("refused: %v %s", r.Code, r.Text)
			}
			return st
		}
		ended := func(st network.Stream) {
			t.Helper()
			_ = st.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := st.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "deadline") {
				t.Errorf("the stream goes on: %v", err)
			}
		}
		st := open()
		_, _ = st.Write(binary.BigEndian.AppendUint32(nil, 1<<30))
		ended(st)
		time.Sleep(floodPause + time.Second)
		st = open()
		go func() {
			var b frameBuffer
			_ = wire.WriteFrame(&b, &wire.JobLetter{})
			for range 3 * letterRate {
				if _, err := st.Write(b); err != nil {
					return
				}
			}
		}()
		ended(st)
		if n := box.count(); n == 0 || n > 2*letterRate+letterRate {
			t.Errorf("%d letters of a flood were heard", n)
		}
	})
}
