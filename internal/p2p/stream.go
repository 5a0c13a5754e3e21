package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bitgram/bitgram/wire"
)

// A stream carries one request after another. The client keeps it open for a
// while; the server waits for the next request somewhat longer, and counts it
// only once it arrives.
const (
	keepIdle = 5 * time.Second
	maxIdle  = 64 // streams that a client keeps open in total
)

// idle contains the open streams without a request in progress.
type idle struct {
	mu   sync.Mutex
	list map[route][]kept
	n    int
}

type route struct {
	peer peer.ID
	id   protocol.ID
}

type kept struct {
	st    network.Stream
	timer *time.Timer // closes it
}

// take returns an idle stream, or nil.
func (i *idle) take(r route) network.Stream {
	i.mu.Lock()
	defer i.mu.Unlock()
	for list := i.list[r]; len(list) > 0; list = i.list[r] {
		k := list[len(list)-1]
		i.drop(r, len(list)-1)
		if k.timer.Stop() && !k.st.Conn().IsClosed() {
			return k.st
		}
	}
	return nil
}

// drop removes a stream from the list; mu is held.
func (i *idle) drop(r route, n int) {
	list := i.list[r]
	if i.list[r] = append(list[:n:n], list[n+1:]...); len(list) == 1 {
		delete(i.list, r)
	}
	i.n--
}

// keep keeps a stream for the next request.
func (i *idle) keep(r route, st network.Stream) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.n >= maxIdle || st.SetDeadline(time.Time{}) != nil {
		_ = st.Close()
		return
	}
	if i.list == nil {
		i.list = map[route][]kept{}
	}
	i.n++
	i.list[r] = append(i.list[r], kept{st, time.AfterFunc(keepIdle, func() {
		i.mu.Lock()
		for n, k := range i.list[r] {
			if k.st == st {
				i.drop(r, n)
				break
			}
		}
		i.mu.Unlock()
		_ = st.Close()
	})})
}

// stream is call for a peer whose addresses are known. When f returns nil, the
// stream must be between two requests.
func (s *Host) stream(ctx context.Context, p peer.ID, id protocol.ID, f func(network.Stream) error) error {
	r := route{p, id}
	if st := s.idle.take(r); st != nil {
		// The peer may have closed it. Then it sent no answer, and we sent no
		// body, because a body waits for an answer.
		heard := &listener{Stream: st}
		err := s.request(ctx, r, heard, f)
		if err == nil || heard.any || ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	dial, cancel := context.WithTimeout(dialNow(ctx), s.limit.Frame)
	defer cancel()
	st, err := s.h.NewStream(dial, p, id)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return s.request(ctx, r, st, f)
}

// listener records whether anything was read.
type listener struct {
	network.Stream
	any bool
}

func (l *listener) Read(b []byte) (int, error) {
	n, err := l.Stream.Read(b)
	l.any = l.any || n > 0
	return n, err
}

// request runs f on a stream, and keeps the stream if f succeeds.
func (s *Host) request(ctx context.Context, r route, st network.Stream, f func(network.Stream) error) error {
	// A cancelled context ends a blocked read or write.
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	if err := st.SetDeadline(time.Now().Add(s.limit.Frame)); err != nil {
		stop()
		_ = st.Reset()
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	err := f(st)
	if whole := stop(); err == nil && whole && keeps[r.id] {
		if l, ok := st.(*listener); ok {
			st = l.Stream
		}
		s.idle.keep(r, st)
		return nil
	}
	var refused *Refused
	if err == nil || errors.As(err, &refused) {
		// The answer has arrived. Over QUIC, closing fails if the peer has
		// closed its side first.
		_ = st.Close()
		return err
	}
	_ = st.Reset()
	return s.failure(ctx, err)
}

// failure returns the error of a request: a refusal and what a peer sent wrongly
// as they are, anything else as ErrUnreachable.
func (s *Host) failure(ctx context.Context, err error) error {
	var refused *Refused
	switch {
	case err == nil || errors.As(err, &refused) || errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooBig) || errors.Is(err, errLocal):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// keeps are the protocols whose streams carry several requests.
var keeps = map[protocol.ID]bool{protoQuote: true, protoStore: true, protoRelease: true, protoAck: true, protoStatus: true,
	protoTransfer: true, protoRoute: true, protoComputeQuote: true}

// handle registers f, which serves one request, with the limits that apply to
// every request.
func (s *Host) handle(id protocol.ID, f func(context.Context, network.Stream) error) {
	s.h.SetStreamHandler(id, func(st network.Stream) {
		leave, ok := s.open.enter(st.Conn())
		if !ok {
			_ = wire.WriteFrame(st, &wire.Reply{Code: wire.Busy})
			_ = st.Close()
			return
		}
		defer leave()
		err := s.serveOne(id, st, s.limit.Frame, f)
		for err == nil {
			err = s.serveOne(id, st, 2*keepIdle, f)
		}
		if err == io.EOF || err == errRefused {
			_ = st.Close()
			return
		}
		s.log.Debug("request not served", "protocol", string(id), "peer", st.Conn().RemotePeer().String(), "err", err)
		_ = st.Reset()
	})
}

// serveOne waits for a request for the given time, and serves it. It returns
// io.EOF if the stream ends between two requests.
func (s *Host) serveOne(id protocol.ID, st network.Stream, wait time.Duration, f func(context.Context, network.Stream) error) error {
	_ = st.SetDeadline(time.Now().Add(wait))
	in := &begun{Stream: st}
	if keeps[id] {
		if _, err := io.ReadFull(st, in.first[:]); err != nil {
			return err
		}
		in.left = true
	}
	_ = st.SetDeadline(time.Now().Add(s.limit.Frame))
	leave, ok := s.guard.enter(st.Conn())
	if !ok {
		_ = wire.WriteFrame(st, &wire.Reply{Code: wire.Busy})
		return errRefused
	}
	defer leave()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := f(ctx, in); err != nil || keeps[id] {
		return err
	}
	return io.EOF
}

// begun is a stream whose first byte has been read.
type begun struct {
	network.Stream
	first [1]byte
	left  bool // it must be read again
}

func (b *begun) Read(p []byte) (int, error) {
	if b.left && len(p) > 0 {
		b.left = false
		p[0] = b.first[0]
		return 1, nil
	}
	return b.Stream.Read(p)
}
