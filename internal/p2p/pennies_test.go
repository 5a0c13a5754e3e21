package p2p

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/wire"
)

// memoTill keeps the last number that was checked. The number 9 is false.
type memoTill struct {
	banks *memoBanks
	mu    sync.Mutex
	seq   uint32
}

func (*memoTill) State() *wire.BankState { return &wire.BankState{Credit: 7} }

func (t *memoTill) Check(list []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; len(list) > 0; list = list[wire.EncodedPenny:] {
		n := uint32(list[0])<<16 | uint32(list[1])<<8 | uint32(list[2])
		if n == 9 {
			return wire.Refuse(wire.WrongSecret, "false")
		}
		t.seq = n
	}
	return nil
}

func (t *memoTill) Keep(context.Context) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seq, nil
}

func (*memoTill) Close() {}

func (t *memoTill) KeepTogether(ctx context.Context, tills []Till) []Kept {
	t.banks.commits.Add(1)
	time.Sleep(time.Millisecond)
	list := make([]Kept, len(tills))
	for i, o := range tills {
		list[i].Seq, list[i].Err = o.Keep(ctx)
	}
	return list
}

// memoBanks knows every bank but the one of zeros, and counts.
type memoBanks struct {
	Banks
	tills, commits atomic.Int64
}

func (b *memoBanks) Till(_ context.Context, id wire.Hash) (Till, error) {
	if id == (wire.Hash{}) {
		return nil, wire.Refuse(wire.Unknown, "no such bank")
	}
	b.tills.Add(1)
	return &memoTill{banks: b}, nil
}

// Admit knows payers by their key.
func (b *memoBanks) Admit(_ context.Context, h *wire.BankHello, self, from peer.ID) error {
	return keyOf(wire.Secret{31: 9}).Verify(wire.BankHelloDigest(h.Bank, []byte(from), []byte(self)), h.Proof)
}

func onePenny(n uint32) *wire.Pennies {
	p := make([]byte, wire.EncodedPenny)
	p[0], p[1], p[2] = byte(n>>16), byte(n>>8), byte(n)
	return &wire.Pennies{List: p}
}

// TestPennyLanes: all banks of a payer with a payee share a stream; each is told
// of its own pennies only, a refused one does not disturb the others, commits
// are shared, and the stream is closed when it is not needed.
func TestPennyLanes(t *testing.T) { inWorld(t, pennyLanes) }

func pennyLanes(t world) {
	id, banks := wire.Secret{31: 7}, &memoBanks{}
	h, c := newHost(t, Config{Identity: id, Listen: []string{overTCP}, Banks: banks}), newHost(t, Config{})
	to := wire.Peer{Key: keyOf(id), Addrs: h.Addrs()}
	const lanes, pennies = 100, 20
	var wg sync.WaitGroup
	for n := range lanes {
		wg.Go(func() {
			err := c.Pennies(t.Context(), to, payerOf(wire.Hash{1, byte(n)}), func(s *PennyStream) error {
				if s.State.Credit != 7 {
					t.Errorf("lane %d: state %+v", n, s.State)
				}
				for i := range uint32(pennies) {
					want := uint32(n)<<8 | i + 10
					if err := s.Send(onePenny(want)); err != nil {
						return err
					}
					if seq, err := s.Receive(); seq != want || err != nil {
						t.Errorf("lane %d: %x, not %x (%v)", n, seq, want, err)
					}
				}
				if n%10 != 3 {
					return nil
				}
				if err := s.Send(onePenny(1)); err != nil {
					return err
				}
				if err := s.Send(onePenny(9)); err != nil {
					return err
				}
				if seq, err := s.Receive(); seq != 1 || err != nil {
					t.Errorf("before a false penny: %d, %v", seq, err)
				}
				_, err := s.Receive()
				return err
			})
			var refused *Refused
			if n%10 == 3 && (!errors.As(err, &refused) || refused.Code != wire.WrongSecret) || n%10 != 3 && err != nil {
				t.Errorf("lane %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	streams := func(h *Host) (n int) {
		for _, c := range h.h.Network().Conns() {
			for _, st := range c.GetStreams() {
				if st.Protocol() == protoPennies {
					n++
				}
			}
		}
		return n
	}
	if n := streams(c); n != 1 {
		t.Errorf("%d streams for %d banks", n, lanes)
	}
	if n := banks.commits.Load(); n > lanes*pennies/5 {
		t.Errorf("%d commits for %d pennies", n, lanes*pennies)
	}
	if banks.tills.Load() != lanes {
		t.Errorf("%d tills", banks.tills.Load())
	}
	if _, err := c.BankState(t.Context(), to, payerOf(wire.Hash{})); err == nil || !errors.Is(err, ErrRefused) {
		t.Errorf("a bank that there is not: %v", err)
	}
	time.Sleep(2 * keepIdle)
	if a, b := streams(c), streams(h); a+b != 0 {
		t.Errorf("%d and %d streams without lanes", a, b)
	}
	h.lanes.mu.Lock()
	if h.lanes.busy != 0 {
		t.Errorf("%d lanes are still counted", h.lanes.busy)
	}
	h.lanes.mu.Unlock()
	if _, err := c.BankState(t.Context(), to, payerOf(wire.Hash{1})); err != nil {
		t.Errorf("on a new stream: %v", err)
	}
}

// TestPennyLaneCancelled: a lane that its payer gives up does not disturb the
// others, and a payee that says nothing ends all of them in time.
func TestPennyLaneCancelled(t *testing.T) { inWorld(t, pennyLaneCancelled) }

func pennyLaneCancelled(t world) {
	id, banks := wire.Secret{31: 7}, &memoBanks{}
	h, c := newHost(t, Config{Identity: id, Listen: []string{overTCP}, Banks: banks}), newHost(t, Config{Limits: t.quick()})
	to := wire.Peer{Key: keyOf(id), Addrs: h.Addrs()}
	if err := c.Pennies(t.Context(), to, payerOf(wire.Hash{1}), func(s *PennyStream) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Pennies(ctx, to, payerOf(wire.Hash{2}), func(*PennyStream) error { return nil }); err == nil {
			t.Error("a cancelled lane opens")
		}
		ctx, cancel = context.WithCancel(t.Context())
		err := c.Pennies(ctx, to, payerOf(wire.Hash{3}), func(s *PennyStream) error {
			cancel()
			_, err := s.Receive()
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if err := s.Send(onePenny(100)); err != nil {
			return err
		}
		if seq, err := s.Receive(); seq != 100 || err != nil {
			t.Errorf("beside a cancelled lane: %d, %v", seq, err)
		}
		began := time.Now()
		if _, err := s.Receive(); err == nil {
			t.Error("an acknowledgement of nothing")
		} else if err := s.Send(onePenny(99)); err == nil {
			t.Error("the line goes on")
		}
		t.within(began, time.Second, "a silent payee")
		return nil
	}); err != nil {
		t.Error(err)
	}
	if _, err := c.BankState(t.Context(), to, payerOf(wire.Hash{1})); err != nil {
		t.Errorf("on a new stream: %v", err)
	}
}

// TestPennyFlood: a payee that answers what was not asked loses its line.
func TestPennyFlood(t *testing.T) { inWorld(t, pennyFlood) }

func pennyFlood(t world) {
	id := wire.Secret{31: 7}
	h, c := newHost(t, Config{Identity: id, Listen: []string{overTCP}}), newHost(t, Config{})
	h.h.SetStreamHandler(protoPennies, func(st network.Stream) {
		_ = wire.WriteFrame(st, &wire.Reply{})
		for i := uint32(0); wire.WriteFrame(st, &wire.PayeeFrame{Lane: i % 3, State: make([]wire.BankState, 1)}) == nil; i++ {
		}
	})
	err := c.Pennies(t.Context(), wire.Peer{Key: keyOf(id), Addrs: h.Addrs()}, payerOf(wire.Hash{1}), func(s *PennyStream) error {
		for {
			if err := s.wait(func() bool { return false }); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, wire.ErrMalformed) {
		t.Error(err)
	}
}
