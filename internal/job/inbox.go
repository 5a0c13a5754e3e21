package job

import (
	"fmt"
	"slices"
	"sync"

	"github.com/bitgram/bitgram/wire"
)

// Gathered is several messages in the order in which they came, and the event, if any,
// that followed them. An Inbox makes it, so that many messages are one step. A message
// that changes nothing is passed over.
type Gathered struct {
	list []Received
	then Event
	memo *memo
}

func (Gathered) event() {}

// step takes the messages one after another.
func (g Gathered) step(n Node) (Node, []Effect, error) {
	var all []Effect
	for _, r := range g.list {
		if next, effects, err := n.take(r, g.memo); err == nil {
			n, all = next, append(all, effects...)
		}
	}
	if g.then == nil {
		return n, all, nil
	}
	next, effects, err := n.take(g.then, g.memo)
	return next, append(all, effects...), err
}

// memo remembers which signatures were verified and made, so that a step in the store's
// transaction does not repeat what was done before it. Nothing gets into it but what
// this package has verified or signed.
type memo struct {
	mu               sync.Mutex
	now, old         map[proven]struct{}
	made             map[wire.Hash]wire.Signature // by digest: the key is always the node's
	verified, signed int                          // how often it was really done
}

// proven is a signature that was verified.
type proven struct {
	key    wire.Key
	digest wire.Hash
	sig    wire.Signature
}

// Sizes of a memo: some epochs of the largest jury.
const (
	maxProven = 512
	maxMade   = 64
)

func newMemo() *memo {
	return &memo{now: map[proven]struct{}{}, made: map[wire.Hash]wire.Signature{}}
}

func (m *memo) verify(key wire.Key, digest wire.Hash, sig wire.Signature) error {
	p := proven{key, digest, sig}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.now[p]; ok {
		return nil
	}
	if _, ok := m.old[p]; !ok {
		m.verified++
		if err := verify(key, digest, sig); err != nil {
			return err
		}
	}
	m.keep(p)
	return nil
}

func (m *memo) keep(p proven) {
	if len(m.now) >= maxProven {
		m.old, m.now = m.now, map[proven]struct{}{}
	}
	m.now[p] = struct{}{}
}

// sign signs with the node's key, whose public half is pub.
func (m *memo) sign(key wire.Secret, pub wire.Key, digest wire.Hash) (wire.Signature, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.made[digest]; ok {
		return s, nil
	}
	m.signed++
	s, err := sign(key, digest)
	if err != nil {
		return s, err
	}
	if len(m.made) >= maxMade {
		clear(m.made)
	}
	m.made[digest] = s
	m.keep(proven{pub, digest, s})
	return s, nil
}

// Bounds of what one peer can cause between two ticks, or two certificates: MaxWork
// verified signatures, not counting those of its last message, and MaxWaiting messages
// that wait. What is beyond is dropped, like any message that is lost.
const (
	MaxWork    = 128
	MaxWaiting = 32
)

// Inbox is between a node's peers and its machine. It holds messages back, in
// memory, until they make the machine do something, and then all of them are one step:
// a message that leads to no effect is not worth a commit, because if a crash loses it,
// it is as if the network had lost it. Pennies wait for the next step too, but for
// those at the end. Signatures are verified here, once, outside of the store's
// transaction. It is safe for concurrent use.
type Inbox struct {
	mu    sync.Mutex
	last  Node // as committed
	ahead Node // after what waits
	wait  []Received
	due   bool
	memo  *memo
	spent []int // by peer: signatures verified for it since the last tick or certificate
	held  []int // by peer: messages that wait
}

// NewInbox returns the inbox of a machine in its committed state.
func NewInbox(n Node) *Inbox {
	p := len(n.Terms.Parties)
	return &Inbox{last: n, ahead: n, memo: newMemo(), spent: make([]int, p), held: make([]int, p)}
}

// Add takes a message. It reports whether the machine is due for a step: Take. The
// error says why a message was dropped.
func (b *Inbox) Add(r Received) (due bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if int(r.From) >= len(b.spent) {
		return b.due, fmt.Errorf("%w: from party %d", ErrMessage, r.From)
	}
	if b.spent[r.From] >= MaxWork || b.held[r.From] >= MaxWaiting {
		return b.due, fmt.Errorf("%w: party %d says too much", ErrEarly, r.From)
	}
	was := b.memo.verified
	err = b.try(r)
	b.spent[r.From] += b.memo.verified - was
	return b.due, err
}

// try steps the state ahead.
func (b *Inbox) try(r Received) error {
	next, effects, err := b.ahead.take(r, b.memo)
	if err != nil {
		return err
	}
	b.ahead, b.wait = next, append(b.wait, r)
	b.held[r.From]++
	b.due = b.due || slices.ContainsFunc(effects, func(e Effect) bool { _, penny := e.(Earned); return !penny || next.Over() })
	return nil
}

// Take returns all messages that wait, as one event for the machine.
func (b *Inbox) Take() Event { return b.With(nil) }

// With returns all messages that wait and an event that follows them, as one event
// for the machine. Ticks must come in this way: they end what bounds a peer.
func (b *Inbox) With(then Event) Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := Gathered{list: b.wait, then: then, memo: b.memo}
	b.wait, b.due = nil, false
	clear(b.held)
	if _, ok := then.(Tick); ok {
		clear(b.spent)
	}
	return g
}

// Reset says what was committed, by whatever event. Messages that wait stay. It
// reports whether the machine is due for a step.
func (b *Inbox) Reset(n Node) (due bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n.cur() > b.last.cur() {
		clear(b.spent)
	}
	list := b.wait
	b.last, b.ahead, b.wait, b.due = n, n, nil, false
	clear(b.held)
	for _, r := range list {
		_ = b.try(r) // one that is of no use any more is dropped
	}
	return b.due
}
