package p2p

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/bitgram/bitgram/wire"
)

// Till accepts the pennies of one lane.
type Till interface {
	State() *wire.BankState
	// Check verifies each penny of a list against the one before. It may run
	// concurrently with Keep. The pennies before a false one count.
	Check(list []byte) error
	// Keep makes the last checked penny durable, and returns its number.
	Keep(ctx context.Context) (seq uint32, err error)
	// Close ends the lane.
	Close()
}

// Kept is the result of one till's Keep.
type Kept struct {
	Seq uint32
	Err error
}

// KeepsTogether is implemented by tills that can be kept in one commit with
// others of the same service. The results are in the order of the tills.
type KeepsTogether interface {
	Till
	KeepTogether(ctx context.Context, tills []Till) []Kept
}

// pennyIdle is how long a stream of pennies may pause.
const pennyIdle = 2 * time.Minute

// noLane is how long a stream may have no lane, at its beginning and later,
// whatever it sends. The client closes it after half of that.
const noLane = 2 * keepIdle

// pennyBuffer is how much of a stream of pennies is read at once.
const pennyBuffer = 16 << 10

// desk is the payee's end of a stream of pennies, with a lane for each bank. One
// goroutine reads and verifies; another one stores what is verified, all lanes
// in one commit, and acknowledges it in one write. While a commit runs, more
// pennies are read, and are part of the next commit.
type desk struct {
	host  *Host
	st    network.Stream
	banks Banks

	writing chan struct{} // full while frames are written
	over    atomic.Bool   // nothing more can be written

	mu    sync.Mutex
	lanes map[uint32]*lane
	dirty []*lane // with pennies that are not stored, or a reason to end
	wake  chan struct{}
}

// lane is a bank on a stream.
type lane struct {
	number uint32
	till   Till
	leave  func() // of the guard

	// Of the desk's mu.
	dirty bool
	why   error // ends the lane, once its pennies are stored
	over  bool  // it has ended

	said uint32 // of the keeper: the last number that the payer was told
}

// servePennies serves a stream of pennies.
func (s *Host) servePennies(b Banks) func(context.Context, network.Stream) error {
	return func(ctx context.Context, st network.Stream) error {
		d := &desk{host: s, st: st, banks: b, lanes: map[uint32]*lane{}, wake: make(chan struct{}, 1), writing: make(chan struct{}, 1)}
		if err := s.reply(st, nil, nil); err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- d.keep(ctx) }()
		err := d.read(ctx)
		close(d.wake)
		if kerr := <-ended; kerr != nil {
			err = kerr
		}
		for _, l := range d.lanes {
			d.end(l)
		}
		return err
	}
}

// read reads frames until the stream ends.
func (d *desk) read(ctx context.Context) error {
	in := bufio.NewReaderSize(d.st, pennyBuffer)
	var empty time.Time // since when there is no lane
	for {
		until := time.Now().Add(pennyIdle)
		if d.lanesOpen() {
			empty = time.Time{}
		} else {
			// Without a bank, a stream takes a place of others' requests.
			if empty.IsZero() {
				empty = time.Now()
			}
			if until = empty.Add(noLane); !time.Now().Before(until) {
				return nil
			}
		}
		if in.Buffered() == 0 {
			if err := d.st.SetReadDeadline(until); err != nil {
				return err
			}
		}
		if d.over.Load() { // after the deadline was set, which may have undone the keeper's
			return nil
		}
		var f wire.PayerFrame // a new one, because decoding into an old one appends
		if err := wire.ReadFrame(in, &f); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		switch {
		case len(f.Hello) > 0:
			if err := d.open(ctx, f.Lane, &f.Hello[0]); err != nil {
				return err
			}
		case len(f.Pennies) > 0:
			d.check(f.Lane, f.Pennies[0].List)
		default:
			d.close(f.Lane)
		}
	}
}

// open opens a lane and says what the payee holds, or refuses.
func (d *desk) open(ctx context.Context, number uint32, hello *wire.BankHello) error {
	d.mu.Lock()
	again := d.lanes[number] != nil
	d.mu.Unlock()
	if again {
		return wire.ErrMalformed
	}
	leave, ok := d.host.lanes.enter(d.st.Conn())
	if !ok {
		return d.write(&wire.PayeeFrame{Lane: number, Taken: []wire.Taken{{Code: wire.Busy}}})
	}
	ctx, cancel := context.WithTimeout(ctx, d.host.limit.Frame)
	defer cancel()
	var till Till
	err := d.banks.Admit(ctx, hello, d.host.h.ID(), d.st.Conn().RemotePeer())
	if err == nil {
		till, err = d.banks.Till(ctx, hello.Bank)
	}
	if err != nil {
		leave()
		code, text := d.host.refusal(err)
		return d.write(&wire.PayeeFrame{Lane: number, Taken: []wire.Taken{{Code: code, Text: text}}})
	}
	d.mu.Lock()
	d.lanes[number] = &lane{number: number, till: till, leave: leave, said: till.State().Known.Seq()}
	d.mu.Unlock()
	return d.write(&wire.PayeeFrame{Lane: number, State: []wire.BankState{*till.State()}})
}

// check verifies pennies. Those of a lane that has ended were on their way
// then, and are ignored.
func (d *desk) check(number uint32, list []byte) {
	d.mu.Lock()
	l := d.lanes[number]
	d.mu.Unlock()
	if l == nil {
		return
	}
	err := l.till.Check(list)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		l.why = err
		delete(d.lanes, number)
	}
	d.note(l)
}

// lanesOpen reports whether the stream has a lane.
func (d *desk) lanesOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.lanes) > 0
}

// note leaves a lane to the keeper; mu is held.
func (d *desk) note(l *lane) {
	if l.dirty || l.over {
		return
	}
	l.dirty = true
	if d.dirty = append(d.dirty, l); len(d.dirty) == 1 {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

// errLeft ends a lane that its payer has closed.
var errLeft = errors.New("the payer has closed the lane")

// close ends a lane.
func (d *desk) close(number uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lanes[number]; l != nil {
		l.why = errLeft
		delete(d.lanes, number)
		d.note(l)
	}
}

// keep stores and acknowledges until the reader has ended.
func (d *desk) keep(ctx context.Context) error {
	var failed error
	for range d.wake {
		if failed == nil {
			failed = d.keepOnce(ctx)
		}
		if failed != nil {
			d.over.Store(true)
			_ = d.st.SetReadDeadline(time.Now()) // the reader may wait for more
		}
	}
	if failed == nil {
		failed = d.keepOnce(ctx) // what was read last
	}
	for _, l := range d.dirty {
		d.end(l)
	}
	return failed
}

// keepOnce stores what is verified, and acknowledges it.
func (d *desk) keepOnce(ctx context.Context) error {
	d.mu.Lock()
	list := d.dirty
	d.dirty = nil
	whys := make([]error, len(list))
	tills := make([]Till, len(list))
	for i, l := range list {
		l.dirty, whys[i], tills[i] = false, l.why, l.till
	}
	d.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	var out bytes.Buffer
	for i, k := range keepAll(ctx, tills) {
		l := list[i]
		if l.over { // it was refused while this was read
			continue
		}
		if k.Seq != l.said { // stored, even if more is not
			l.said = k.Seq
			if whys[i] != errLeft {
				_ = wire.WriteFrame(&out, &wire.PayeeFrame{Lane: l.number, Taken: []wire.Taken{{Seq: k.Seq}}}) // a Buffer does not fail
			}
		}
		why := whys[i]
		if why == nil {
			why = k.Err
		}
		if why == nil {
			continue
		}
		if why != errLeft {
			code, text := d.host.refusal(why)
			_ = wire.WriteFrame(&out, &wire.PayeeFrame{Lane: l.number, Taken: []wire.Taken{{Code: code, Text: text}}})
		}
		d.end(l)
	}
	return d.send(out.Bytes())
}

// end forgets a lane.
func (d *desk) end(l *lane) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	if d.lanes[l.number] == l {
		delete(d.lanes, l.number)
	}
	l.till.Close()
	l.leave()
}

// keepAll keeps tills in one commit, if they can be.
func keepAll(ctx context.Context, tills []Till) []Kept {
	if t, ok := tills[0].(KeepsTogether); ok {
		return t.KeepTogether(ctx, tills)
	}
	list := make([]Kept, len(tills))
	for i, t := range tills {
		list[i].Seq, list[i].Err = t.Keep(ctx)
	}
	return list
}

func (d *desk) write(f *wire.PayeeFrame) error {
	var out bytes.Buffer
	if err := wire.WriteFrame(&out, f); err != nil {
		return err
	}
	return d.send(out.Bytes())
}

// send writes frames.
func (d *desk) send(frames []byte) error {
	if len(frames) == 0 {
		return nil
	}
	d.writing <- struct{}{}
	defer func() { <-d.writing }()
	if err := d.st.SetWriteDeadline(time.Now().Add(d.host.limit.Frame)); err != nil {
		return err
	}
	_, err := d.st.Write(frames)
	return err
}
