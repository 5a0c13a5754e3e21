package p2p

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/wire"
)

// line is the payer's end of a stream of pennies: all banks with one payee share
// it, each on a lane of its own. Frames that are sent at the same time go out in
// one write.
type line struct {
	host *Host
	peer peer.ID
	st   network.Stream
	wake chan struct{} // the writer's
	dead chan struct{} // closed at the end, after err is set

	mu    sync.Mutex
	err   error
	lanes map[uint32]*PennyStream
	next  uint32
	out   []byte        // frames to write
	room  chan struct{} // if set, closed once they are written
	said  uint64        // frames sent
	heard uint64        // and received
	idle  *time.Timer   // closes a line without lanes
}

// lines are the lines of a host, at most one for each peer.
type lines struct {
	mu   sync.Mutex
	open map[peer.ID]*lineTo
}

// lineTo is the line to a peer. busy is full while one is opened.
type lineTo struct {
	busy chan struct{}
	line *line
}

func (l *lines) to(p peer.ID) *lineTo {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = map[peer.ID]*lineTo{}
	}
	if l.open[p] == nil {
		l.open[p] = &lineTo{busy: make(chan struct{}, 1)}
	}
	return l.open[p]
}

// lineWith returns the line to a peer whose addresses are known. fresh is true
// if it was opened for this.
func (s *Host) lineWith(ctx context.Context, p peer.ID) (l *line, fresh bool, err error) {
	to := s.lines.to(p)
	select {
	case to.busy <- struct{}{}:
		defer func() { <-to.busy }()
	case <-ctx.Done():
		return nil, false, fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
	}
	if to.line != nil && to.line.alive() {
		return to.line, false, nil
	}
	dial, cancel := context.WithTimeout(dialNow(ctx), s.limit.Frame)
	defer cancel()
	st, err := s.h.NewStream(dial, p, protoPennies)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	in := bufio.NewReaderSize(st, pennyBuffer)
	if err = st.SetDeadline(time.Now().Add(s.limit.Frame)); err == nil {
		if err = answer(in, nil); err == nil {
			err = st.SetDeadline(time.Time{})
		}
	}
	if err != nil || !stop() {
		_ = st.Reset()
		return nil, false, s.failure(ctx, errors.Join(err, ctx.Err()))
	}
	l = &line{host: s, peer: p, st: st, wake: make(chan struct{}, 1), dead: make(chan struct{}), lanes: map[uint32]*PennyStream{}}
	l.idle = time.AfterFunc(keepIdle, l.rest)
	to.line = l
	go l.read(in)
	go l.write()
	return l, true, nil
}

func (l *line) alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return !l.st.Conn().IsClosed()
	}
}

// errIdle ends a line that has had no lanes for a while.
var errIdle = errors.New("the stream was idle")

// rest closes a line that has no lanes.
func (l *line) rest() {
	l.mu.Lock()
	busy := len(l.lanes) > 0
	l.mu.Unlock()
	if !busy {
		l.end(errIdle)
	}
}

// end ends a line and all its lanes.
func (l *line) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err, l.out = err, nil
	l.idle.Stop()
	close(l.dead)
	if err == errIdle {
		_ = l.st.Close()
	} else {
		_ = l.st.Reset()
	}
}

// maxUnwritten is how many bytes of frames wait to be written before a sender
// waits.
const maxUnwritten = 64 << 10

// write writes what has been sent.
func (l *line) write() {
	var spare []byte
	for {
		select {
		case <-l.wake:
		case <-l.dead:
			return
		}
		runtime.Gosched() // so that others that can run send their frames as well
		l.mu.Lock()
		out, room := l.out, l.room
		l.out, l.room = spare[:0], nil
		l.mu.Unlock()
		if room != nil {
			close(room)
		}
		err := l.st.SetWriteDeadline(time.Now().Add(l.host.limit.Frame))
		if err == nil {
			_, err = l.st.Write(out)
		}
		if err != nil {
			l.end(err)
			return
		}
		spare = out
	}
}

// send leaves a frame to the writer.
func (l *line) send(ctx context.Context, f *wire.PayerFrame) error {
	var frame bytes.Buffer
	if err := wire.WriteFrame(&frame, f); err != nil {
		return err
	}
	for {
		l.mu.Lock()
		if l.err != nil {
			defer l.mu.Unlock()
			return l.err
		}
		if len(l.out) < maxUnwritten {
			l.out = append(l.out, frame.Bytes()...)
			l.said++
			l.mu.Unlock()
			select {
			case l.wake <- struct{}{}:
			default:
			}
			return nil
		}
		if l.room == nil {
			l.room = make(chan struct{})
		}
		room := l.room
		l.mu.Unlock()
		select {
		case <-room:
		case <-l.dead:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read distributes the payee's frames.
func (l *line) read(in *bufio.Reader) {
	for {
		var f wire.PayeeFrame
		if err := wire.ReadFrame(in, &f); err != nil {
			l.end(err)
			return
		}
		l.mu.Lock()
		l.heard++
		// A payee answers each frame at most once, and may refuse each lane.
		if l.heard > l.said+uint64(l.next) {
			l.mu.Unlock()
			l.end(fmt.Errorf("%w: answers to nothing", wire.ErrMalformed))
			return
		}
		p := l.lanes[f.Lane]
		switch {
		case p == nil:
		case len(f.State) > 0:
			p.state = &f.State[0]
		case f.Taken[0].Code != wire.OK:
			p.refused = &Refused{Code: f.Taken[0].Code, Text: f.Taken[0].Text}
		default:
			p.taken = &f.Taken[0]
		}
		l.mu.Unlock()
		if p != nil {
			select {
			case p.news <- struct{}{}:
			default:
			}
		}
	}
}

// PennyStream is a stream of pennies to a payee. One goroutine may send while
// another receives.
type PennyStream struct {
	// State is the bank's state at the beginning, as reported by the payee.
	State wire.BankState

	ctx  context.Context
	line *line
	lane uint32
	news chan struct{} // something is there

	// Of the line's mu: the state; the last acknowledgement, which says all that
	// earlier ones said; and the refusal, after which none follows.
	state   *wire.BankState
	taken   *wire.Taken
	refused *Refused

	patience *time.Timer // of Receive
}

// enter opens a lane.
func (l *line) enter(ctx context.Context) (*PennyStream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	p := &PennyStream{ctx: ctx, line: l, lane: l.next, news: make(chan struct{}, 1), patience: time.NewTimer(l.host.limit.Frame)}
	l.next++
	l.lanes[p.lane] = p
	l.idle.Stop()
	return p, nil
}

// leave closes a lane.
func (p *PennyStream) leave() {
	p.patience.Stop()
	_ = p.line.send(context.Background(), &wire.PayerFrame{Lane: p.lane}) // if it cannot be sent, the line has ended
	p.line.mu.Lock()
	defer p.line.mu.Unlock()
	if delete(p.line.lanes, p.lane); len(p.line.lanes) == 0 && p.line.err == nil {
		p.line.idle.Reset(keepIdle)
	}
}

// Send sends pennies.
func (p *PennyStream) Send(list *wire.Pennies) error {
	return p.line.send(p.ctx, &wire.PayerFrame{Lane: p.lane, Pennies: []wire.Pennies{*list}})
}

// Receive waits for the next acknowledgement and returns its number. It returns
// a *Refused if the payee accepts no more, after the last acknowledgement.
func (p *PennyStream) Receive() (seq uint32, err error) {
	err = p.wait(func() bool {
		if p.taken == nil {
			return false
		}
		seq, p.taken = p.taken.Seq, nil
		return true
	})
	return seq, err
}

// wait waits until there is what is waited for, or the payee refuses. A payee
// that says nothing for too long is not waited for on any lane. The line's mu
// is held while there is called.
func (p *PennyStream) wait(there func() bool) error {
	p.patience.Reset(p.line.host.limit.Frame)
	for {
		p.line.mu.Lock()
		ok, refused := there(), p.refused
		p.line.mu.Unlock()
		if ok {
			return nil
		}
		if refused != nil {
			return refused
		}
		select {
		case <-p.news:
		case <-p.patience.C:
			p.line.end(os.ErrDeadlineExceeded)
			return os.ErrDeadlineExceeded
		case <-p.ctx.Done():
			return p.ctx.Err()
		case <-p.line.dead:
			return p.line.err
		}
	}
}

// Pennies opens a lane to a payee and runs f on it.
func (s *Host) Pennies(ctx context.Context, to wire.Peer, as *Payer, f func(*PennyStream) error) error {
	hello, err := s.hello(to, as)
	if err != nil {
		return err
	}
	return s.reach(ctx, to, func(p peer.ID) error {
		stream, err := s.lane(ctx, p, hello)
		if err != nil {
			return err
		}
		defer stream.leave()
		return s.failure(ctx, f(stream))
	})
}

// lane opens a lane and reads the bank's state.
func (s *Host) lane(ctx context.Context, p peer.ID, hello *wire.BankHello) (*PennyStream, error) {
	for {
		l, fresh, err := s.lineWith(ctx, p)
		if err != nil {
			return nil, err
		}
		stream, err := l.enter(ctx)
		if err == nil {
			if err = l.send(ctx, &wire.PayerFrame{Lane: stream.lane, Hello: []wire.BankHello{*hello}}); err == nil {
				err = stream.wait(func() bool {
					if stream.state != nil {
						stream.State = *stream.state
					}
					return stream.state != nil
				})
			}
			if err != nil {
				stream.leave()
			}
		}
		var refused *Refused
		switch {
		case err == nil:
			return stream, nil
		case fresh || ctx.Err() != nil || errors.As(err, &refused) || errors.Is(err, os.ErrDeadlineExceeded) || l.alive():
			return nil, s.failure(ctx, err)
		}
		// The peer may have closed the line: once more.
	}
}

// BankState asks a payee for the state of a bank.
func (s *Host) BankState(ctx context.Context, to wire.Peer, as *Payer) (state wire.BankState, err error) {
	err = s.Pennies(ctx, to, as, func(p *PennyStream) error {
		state = p.State
		return nil
	})
	return state, err
}
