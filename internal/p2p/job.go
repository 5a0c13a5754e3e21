package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"

	"github.com/bitgram/bitgram/wire"
)

// The protocols of jobs.
const (
	protoJob     protocol.ID = "/bitgram/job/1"         // JobCall → Reply, JobAnswer
	protoLetters protocol.ID = "/bitgram/job-letters/1" // → Reply; JobLetter … both ways
)

// Jobs is the service of a node that works for jobs. Errors of Call are handled as
// those of Service.
type Jobs interface {
	// Call answers a request. from is who asks, which only a host with an identity
	// proves.
	Call(ctx context.Context, from Caller, kind uint8, body []byte) ([]byte, error)
	// Letter takes a letter of a peer that Link names, whose identity the channel
	// proves. It must not block. An error means that an honest peer does not send
	// this, and costs the peer as much as many letters.
	Letter(from wire.Key, job wire.Hash, body []byte) error
}

// JobCall asks a node about a job.
func (s *Host) JobCall(ctx context.Context, to wire.Peer, kind uint8, body []byte) ([]byte, error) {
	a := new(wire.JobAnswer)
	err := s.ask(ctx, to, protoJob, &wire.JobCall{Kind: kind, Body: body}, a)
	return a.Body, err
}

func (s *Host) handleJobs(j Jobs) {
	handle(s, protoJob, func(ctx context.Context, st network.Stream, c *wire.JobCall) (*wire.JobAnswer, error) {
		b, err := j.Call(ctx, s.caller(st), c.Kind, c.Body)
		return &wire.JobAnswer{Body: b}, err
	})
	s.h.SetStreamHandler(protoLetters, s.serveLetters)
}

// What one peer may send, for each job in common: letters and bytes a second, with
// twice as much at once. A job of which a node agrees on 60 epochs a second takes
// half of it. A peer that sends more is not heard for floodPause.
const (
	letterRate = 2_000
	byteRate   = 4 << 20
	badLetter  = 500 // a letter that an honest peer does not send counts as so many
	floodPause = 30 * time.Second
)

// The letters that wait for a peer that is slow or away; then the oldest is dropped.
const (
	maxWaiting      = 4096
	maxWaitingBytes = 4 << 20
	letterBatch     = 64 << 10 // bytes in one write
)

// A stream is opened again after a pause that grows, and is closed if nothing comes
// for letterIdle.
const (
	firstRedial = 200 * time.Millisecond
	lastRedial  = 30 * time.Second
	letterIdle  = 3 * time.Minute
)

// links are the streams of letters, one for each node with which there are jobs in
// common.
type links struct {
	jobs Jobs
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[peer.ID]*link
}

// link is this end of a stream of letters. It outlives its streams.
type link struct {
	host    *Host
	key     wire.Key
	peer    peer.ID
	stop    context.CancelFunc
	wake    chan struct{} // something to write, or another stream
	letters *rate.Limiter
	bytes   *rate.Limiter

	mu      sync.Mutex
	addrs   []string
	waiting [][]byte // frames
	size    int      // of them
	st      network.Stream
	ours    bool      // we have opened st
	since   time.Time // when
	flooded time.Time // until when the peer is not heard
}

// Link says that this node has a number of jobs in common with another: they share
// a stream of letters, which is opened once there is one to send, or by the other.
// With none, the stream is closed.
func (s *Host) Link(to wire.Peer, jobs int) error {
	p, err := PeerID(to.Key)
	if err != nil {
		return err
	}
	s.links.mu.Lock()
	defer s.links.mu.Unlock()
	l := s.links.open[p]
	switch {
	case s.links.closed:
		return nil
	case jobs == 0:
		if l != nil {
			delete(s.links.open, p)
			l.stop()
		}
		return nil
	case l == nil:
		ctx, stop := context.WithCancel(s.links.ctx)
		l = &link{host: s, key: to.Key, peer: p, stop: stop, wake: make(chan struct{}, 1), letters: rate.NewLimiter(0, 0), bytes: rate.NewLimiter(0, 0)}
		s.links.open[p] = l
		s.links.wg.Go(func() { l.run(ctx) })
	}
	l.mu.Lock()
	l.addrs = to.Addrs
	l.mu.Unlock()
	l.letters.SetLimit(rate.Limit(jobs * letterRate))
	l.letters.SetBurst(2 * jobs * letterRate)
	l.bytes.SetLimit(rate.Limit(jobs * byteRate))
	l.bytes.SetBurst(2 * jobs * byteRate)
	return nil
}

// Letter sends a letter to a node that Link has named. It does not wait: letters for
// a peer that does not take them are dropped, the oldest first.
func (s *Host) Letter(to wire.Key, job wire.Hash, body []byte) error {
	p, err := PeerID(to)
	if err != nil {
		return err
	}
	var b frameBuffer
	if err := wire.WriteFrame(&b, &wire.JobLetter{Job: job, Body: body}); err != nil {
		return err
	}
	if l := s.links.of(p); l != nil {
		l.add(b)
	}
	return nil
}

// frameBuffer keeps the one slice that a frame is written as.
type frameBuffer []byte

func (b *frameBuffer) Write(p []byte) (int, error) { *b = p; return len(p), nil }

func (l *links) of(p peer.ID) *link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open[p]
}

func (l *link) add(frame []byte) {
	l.mu.Lock()
	l.waiting, l.size = append(l.waiting, frame), l.size+len(frame)
	for len(l.waiting) > maxWaiting || l.size > maxWaitingBytes {
		l.size -= len(l.waiting[0])
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
	}
	l.mu.Unlock()
	l.poke()
}

func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take returns frames to write, if any.
func (l *link) take() (b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) > 0 && (b == nil || len(b)+len(l.waiting[0]) <= letterBatch) {
		b = append(b, l.waiting[0]...)
		l.size -= len(l.waiting[0])
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
	}
	return b
}

func (l *link) stream() network.Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st
}

// use makes st the link's stream, unless another is preferred: of two that both
// nodes have opened at once, the one of the lower peer ID. An older stream is what
// is left of a connection that the other side knows to be broken.
func (l *link) use(st network.Stream, ours bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.flooded) {
		return false
	}
	lower := l.host.h.ID() < l.peer
	if l.st != nil && l.ours != ours && time.Since(l.since) < l.host.limit.Frame && ours != lower {
		return false
	}
	if l.st != nil {
		_ = l.st.Reset()
	}
	l.st, l.ours, l.since = st, ours, time.Now()
	l.poke()
	return true
}

// drop ends a stream.
func (l *link) drop(st network.Stream) {
	_ = st.Reset()
	l.mu.Lock()
	if l.st == st {
		l.st = nil
	}
	l.mu.Unlock()
	l.poke()
}

// run writes what waits, and opens a stream if there is none, until ctx ends.
func (l *link) run(ctx context.Context) {
	defer func() {
		if st := l.stream(); st != nil {
			l.drop(st)
		}
	}()
	var again <-chan time.Time // when to dial, after a failure
	pause := firstRedial
	for {
		st := l.stream()
		l.mu.Lock()
		some, paused := len(l.waiting) > 0, time.Until(l.flooded)
		l.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return
		case st != nil && some:
			pause, again = firstRedial, nil
			_ = st.SetWriteDeadline(time.Now().Add(l.host.limit.Frame))
			if _, err := st.Write(l.take()); err != nil {
				l.drop(st)
				again = time.After(pause)
				pause = min(2*pause, lastRedial)
			}
			continue
		case st == nil && some && again == nil && paused <= 0:
			if err := l.dial(ctx); err != nil {
				l.host.log.Debug("no stream of letters", "peer", l.peer.String(), "err", err)
				again = time.After(pause)
				pause = min(2*pause, lastRedial)
			}
			continue
		case paused > 0 && again == nil:
			again = time.After(paused)
		}
		select {
		case <-l.wake:
		case <-again:
			again = nil
		case <-ctx.Done():
			return
		}
	}
}

// dial opens a stream.
func (l *link) dial(ctx context.Context) error {
	l.mu.Lock()
	to := wire.Peer{Key: l.key, Addrs: l.addrs}
	l.mu.Unlock()
	return l.host.reach(ctx, to, func(p peer.ID) error {
		dial, cancel := context.WithTimeout(dialNow(ctx), l.host.limit.Frame)
		defer cancel()
		st, err := l.host.h.NewStream(dial, p, protoLetters)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
		defer stop()
		in := bufio.NewReader(st)
		if err = st.SetDeadline(time.Now().Add(l.host.limit.Frame)); err == nil {
			if err = answer(in, nil); err == nil {
				err = st.SetDeadline(time.Time{})
			}
		}
		if err != nil || !stop() {
			_ = st.Reset()
			return l.host.failure(ctx, errors.Join(err, ctx.Err()))
		}
		if !l.use(st, true) {
			_ = st.Reset() // the other's is used
			return nil
		}
		if !l.host.links.start(func() { l.read(st, in) }) {
			l.drop(st)
		}
		return nil
	})
}

// start runs f in a goroutine for which Close waits; it returns false if the host is
// closed.
func (l *links) start(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Go(f)
	return true
}

// serveLetters accepts a stream of a node with which there are jobs in common.
func (s *Host) serveLetters(st network.Stream) {
	refuse := func(c wire.Code, why string) {
		_ = st.SetDeadline(time.Now().Add(s.limit.Frame))
		_ = wire.WriteFrame(st, &wire.Reply{Code: c, Text: why})
		_ = st.Close()
	}
	leave, ok := s.guard.enter(st.Conn())
	if !ok {
		refuse(wire.Busy, "")
		return
	}
	leave()
	l := s.links.of(st.Conn().RemotePeer())
	if l == nil {
		refuse(wire.Unknown, "no job in common")
		return
	}
	if !l.use(st, false) {
		refuse(wire.Busy, "")
		return
	}
	_ = st.SetWriteDeadline(time.Now().Add(s.limit.Frame))
	if wire.WriteFrame(st, &wire.Reply{}) != nil || !s.links.start(func() { l.read(st, bufio.NewReader(st)) }) {
		l.drop(st)
	}
}

// errFlood ends a stream of which more comes than is heard.
var errFlood = errors.New("too many letters")

// read passes letters on until the stream ends.
func (l *link) read(st network.Stream, in io.Reader) {
	err := l.letter(st, in)
	for err == nil {
		err = l.letter(st, in)
	}
	l.host.log.Debug("a stream of letters ends", "peer", l.peer.String(), "err", err)
	if errors.Is(err, errFlood) || errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooBig) {
		l.mu.Lock()
		l.flooded = time.Now().Add(floodPause)
		l.mu.Unlock()
	}
	l.drop(st)
}

func (l *link) letter(st network.Stream, in io.Reader) error {
	_ = st.SetReadDeadline(time.Now().Add(letterIdle))
	var m wire.JobLetter
	if err := wire.ReadFrame(in, &m); err != nil {
		return err
	}
	now := time.Now()
	if !l.letters.AllowN(now, 1) || !l.bytes.AllowN(now, len(m.Body)+48) {
		return errFlood
	}
	if err := l.host.links.jobs.Letter(l.key, m.Job, m.Body); err != nil {
		l.host.log.Debug("a letter is refused", "peer", l.peer.String(), "job", m.Job.String(), "err", err)
		if !l.letters.AllowN(now, badLetter) {
			return errFlood
		}
	}
	return nil
}

// close ends all streams of letters.
func (l *links) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stop()
}
