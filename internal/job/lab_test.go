package job

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// lab is a job played by real machines over a network that delays, repeats, loses
// and reorders, all from one seed.
type lab struct {
	t              testing.TB
	rng            *rand.Rand
	deal           *deal
	peers          []*peer
	wires          []parcel
	queue          []task
	dealt          [][][][]Dealt // by bank, window, holder, sheet
	looked         uint32        // the epoch that the buyer has seen the job right up to
	lose           int           // percent of messages
	twice          int           // percent of messages and tasks that come again
	certs          map[uint32]*Certificate
	proofs         []Culprit
	paused         int
	judged         int // epochs that referees ran
	ticks          int
	steps          int
	gives          []*Give             // right ones that left a holder
	gaveTo         map[[2]uint8]uint32 // by holder and receiver: up to which penny
	ends           uint32              // the epoch that the program ends with; 0 for never
	salts          map[Ran]int
	away           bool // the buyer is offline: only who stands by is a referee
	trusting       bool // sheets are not verified
	fails          bool // the program fails at its end
	mute           bool // no referee says anything
	liarsMayBePaid bool
	crash          int  // the step that a peer crashes at; −1 never
	gather         bool // peers have an Inbox
	measures       bool // the size of states
}

// peer is one machine and how its owner cheats.
type peer struct {
	node       Node
	inbox      *Inbox
	at         *uint8 // of the state that the inbox has
	steps      int    // committed
	bytes      int    // of states
	twin       int    // second machine of the same party, or −1
	party      uint8
	dead       bool
	lies       func(epoch uint32) bool // runs something else
	stingy     func(k uint32) bool     // gives no such share
	spoils     bool                    // gives false ones
	hides      int                     // percent of its messages that each other party never gets
	certs      map[uint32]*Certificate
	earned     map[uint32]bool
	later      []task // of a dead one
	writtenOff uint32
	rush       bool
	filter     func(Message) bool
}

type parcel struct {
	from, to int // peers
	msg      Message
}

type task struct {
	peer int
	e    Effect
}

func newLab(t testing.TB, seed uint64, d *deal) *lab {
	l := &lab{t: t, rng: rand.New(rand.NewPCG(seed, 1)), deal: d, certs: map[uint32]*Certificate{}, salts: map[Ran]int{}, gaveTo: map[[2]uint8]uint32{}, crash: -1, gather: seed%2 == 1}
	for i := range d.terms.Parties {
		l.join(uint8(i))
	}
	for i := range d.terms.Parties {
		var list [][][]Dealt
		for first := uint32(1); first <= d.terms.Epochs; first += d.terms.Window {
			list = append(list, d.window(t, uint8(i), first))
		}
		l.dealt = append(l.dealt, list)
	}
	return l
}

func (l *lab) join(party uint8) *peer {
	n, err := NewNode(l.deal.terms, party, l.deal.keys[party])
	must(l.t, err)
	p := &peer{node: n, twin: -1, party: party, certs: map[uint32]*Certificate{}, earned: map[uint32]bool{}}
	l.peers = append(l.peers, p)
	return p
}

// double gives a party a second machine with the same key: an equivocator.
func (l *lab) double(party uint8) {
	p := l.join(party)
	p.twin, l.peers[party].twin = int(party), len(l.peers)-1
	p.hides, l.peers[party].hides = 50, 50
}

// revive brings a dead party back with what it had to do.
func (l *lab) revive(i int) {
	p := l.peers[i]
	l.queue = append(l.queue, p.later...)
	p.dead, p.later = false, nil
}

func (p *peer) honest() bool {
	return !p.dead && p.twin < 0 && p.lies == nil && p.stingy == nil && !p.spoils && p.hides == 0
}

func (l *lab) rootOf(e uint32) wire.Hash { return wire.Hash(secretOf("state %d", e)) }

// step gives a machine an event and queues what it wants.
func (l *lab) step(i int, ev Event) error {
	p := l.peers[i]
	if p.dead {
		return nil
	}
	l.steps++
	if p.rush {
		p.node = p.node.clone()
		p.node.Stages[0].Since, p.node.Age = 1<<20, 1<<20
	}
	if l.gather {
		if p.inbox == nil {
			p.inbox = NewInbox(p.node)
		}
		if at := &p.node.Quiet[0]; p.at != at { // stepped, or changed from outside
			p.at = at
			p.inbox.Reset(p.node)
		}
		if r, ok := ev.(Received); ok {
			if due, err := p.inbox.Add(r); err != nil || !due {
				if l.crash == l.steps {
					p.inbox, p.at = nil, nil // what waits is lost
				}
				return err
			}
			ev = p.inbox.Take()
		} else if _, ok := ev.(Gathered); ok {
			ev = p.inbox.Take()
		} else {
			ev = p.inbox.With(ev)
		}
	}
	next, effects, err := p.node.Step(ev)
	if err != nil {
		return err
	}
	p.steps++
	if l.measures {
		b, err := wire.Marshal(&next)
		must(l.t, err)
		p.bytes += len(b)
	}
	crashed := l.crash == l.steps
	if crashed {
		// It comes back from what was committed; messages are lost, all else is done
		// again, though it may have been done.
		b, err := wire.Marshal(&next)
		must(l.t, err)
		next = Node{}
		must(l.t, wire.Unmarshal(b, &next))
		p.inbox = nil
		for _, t := range slices.Clone(l.queue) {
			if t.peer == i {
				l.queue = append(l.queue, t)
			}
		}
	}
	p.node = next
	if p.twin < 0 && p.node.Ran > p.node.Forgiven+p.node.Held+p.node.Terms.Ahead || p.node.Forgiven > p.node.Held+p.writtenOff {
		l.t.Fatalf("NodeLoss: party %d worked for %d epochs and holds %d pennies", p.party, p.node.Ran, p.node.Held)
	}
	for _, e := range effects {
		switch e := e.(type) {
		case Broadcast:
			if crashed {
				continue
			}
			for to := range l.peers {
				l.send(i, to, e.Msg)
			}
		case Send:
			if !crashed {
				for to, q := range l.peers {
					if q.party == e.To {
						l.send(i, to, e.Msg)
					}
				}
			}
		case GiveShare:
			if !crashed {
				l.give(p, e)
			}
		case KeepCert: // in the commit that asks for it
			l.certified(p, &e.Cert)
		default:
			l.queue = append(l.queue, task{i, e})
			if crashed {
				l.queue = append(l.queue, task{i, e})
			}
		}
	}
	return nil
}

func (l *lab) chance(percent int) bool { return percent > 0 && l.rng.IntN(100) < percent }

func (l *lab) send(from, to int, m Message) {
	if l.peers[to].party == l.peers[from].party || l.chance(l.lose) || l.chance(l.peers[from].hides) {
		return
	}
	if f := l.peers[from].filter; f != nil && f(m) {
		return
	}
	if b, err := wire.Marshal(m); err != nil || len(b) > m.MaxSize() {
		l.t.Fatalf("%T of %d bytes, %d allowed: %v", m, len(b), m.MaxSize(), err)
	}
	must(l.t, m.Check())
	l.wires = append(l.wires, parcel{from, to, m})
	if l.chance(l.twice) {
		l.wires = append(l.wires, parcel{from, to, m})
	}
}

// do carries out one effect; false where it has to be tried again.
func (l *lab) do(t task) bool {
	p := l.peers[t.peer]
	if p.dead {
		p.later = append(p.later, t)
		return true
	}
	switch e := t.e.(type) {
	case Cancel:
	case Run:
		ev := Ran{Epoch: e.Epoch, Turn: e.Turn, State: l.rootOf(e.Epoch), Outcome: l.outcomeOf(e.Epoch)}
		if p.lies != nil && p.lies(e.Epoch) || p.twin >= 0 && l.chance(30) {
			ev.State = wire.Hash(secretOf("lie %d %d", t.peer, e.Epoch))
		}
		l.salts[ev]++ // never the same twice, and else the same in every run: signatures are remembered
		ev.Salt = secretOf("salt %d %d %d %d", t.peer, e.Epoch, e.Turn, l.salts[ev])
		must(l.t, l.step(t.peer, ev))
	case Fetch:
		must(l.t, l.step(t.peer, Loaded(e)))
	case Earned:
		if e.Secret != l.deal.secret(p.party, e.K) {
			l.t.Fatalf("party %d earns a false penny %d", p.party, e.K)
		}
		p.earned[e.K] = true
	case SendCerts:
		var list []uint32
		for at := range p.certs {
			if at >= e.From {
				list = append(list, at)
			}
		}
		slices.Sort(list)
		for _, at := range list {
			for to, q := range l.peers {
				if q.party == e.To {
					l.send(t.peer, to, p.certs[at])
				}
			}
		}
	case Judge:
		l.judged++
		if !l.mute {
			must(l.t, l.step(t.peer, Judged{Epoch: e.Epoch, State: l.rootOf(e.Epoch), Outcome: l.outcomeOf(e.Epoch)}))
		}
	case Pause:
		l.paused++
		v := &Verdict{Epoch: e.Epoch, Attempt: e.Attempt + 1, State: l.rootOf(e.Epoch), Buyer: true}
		if l.mute || l.away || v.Attempt >= MaxAttempts {
			return true // whoever is on the bench is a referee
		}
		v.Sig, _ = sign(l.deal.buyer, v.digest(&l.deal.terms))
		for to := range l.peers {
			from := 0
			if to == 0 {
				from = 1
			}
			l.wires = append(l.wires, parcel{from, to, v})
		}
	case Publish:
		c, err := e.Proof.Against(&l.deal.terms)
		must(l.t, err)
		l.proofs = append(l.proofs, c)
	}
	return true
}

// give sends a share, like any message.
func (l *lab) give(p *peer, e GiveShare) {
	if p.stingy != nil && p.stingy(e.K) {
		return
	}
	g, err := e.Give(&l.deal.terms, l.sheet(e.To, p.party, e.K), p.node.Key)
	must(l.t, err)
	if p.spoils {
		g.Share.Share[7] ^= 1
		if e.Signed {
			g.Sig, _ = sign(p.node.Key, g.digest(&l.deal.terms))
		}
	} else {
		l.gives = append(l.gives, g)
		at := [2]uint8{p.party, e.To}
		l.gaveTo[at] = max(l.gaveTo[at], e.K)
	}
	for to, q := range l.peers {
		if q.party == e.To {
			l.send(slices.Index(l.peers, p), to, g)
		}
	}
}

// certified checks OneCertPerEpoch and PaidEqualsCommitted.
func (l *lab) certified(p *peer, c *Certificate) {
	if p.twin >= 0 {
		return
	}
	b := &c.Body
	p.certs[b.Epoch] = c
	if old := l.certs[b.Epoch]; old != nil {
		if old.Body.digest(&l.deal.terms) != b.digest(&l.deal.terms) {
			l.t.Fatalf("OneCertPerEpoch: two of epoch %d:\n%+v\n%+v", b.Epoch, old.Body, *b)
		}
		return
	}
	l.certs[b.Epoch] = c
	if b.State != l.rootOf(b.Epoch) {
		l.t.Fatalf("epoch %d is certified with a lie", b.Epoch)
	}
	before := l.deal.terms.before(l.certs[b.Epoch-1])
	rose := 0
	for i := range b.Paid {
		switch b.Paid[i] - before.Paid[i] {
		case 0:
		case 1:
			rose++
			if !slices.Contains(b.Roster, uint8(i)) {
				l.t.Fatalf("PaidEqualsCommitted: party %d is paid for epoch %d, and not on %v", i, b.Epoch, b.Roster)
			}
			if !l.liarsMayBePaid && l.peers[i].lies != nil && l.peers[i].lies(b.Epoch) {
				l.t.Fatalf("PaidEqualsCommitted: party %d lied in epoch %d", i, b.Epoch)
			}
		default:
			l.t.Fatalf("party %d from %d to %d", i, before.Paid[i], b.Paid[i])
		}
	}
	if b.Attempt == 0 && rose < int(l.deal.terms.Q) || rose > int(l.deal.terms.N) {
		l.t.Fatalf("%d counters rise", rose)
	}
}

// sheet is where a holder has its share of a node's k-th penny.
func (l *lab) sheet(node, holder uint8, k uint32) *Dealt {
	w := (k - 1) / l.deal.terms.Window
	return &l.dealt[node][w][holder][(k-1)%l.deal.terms.Window/SheetSize]
}

// start deals the first windows and starts everybody.
func (l *lab) start() {
	l.look()
	for i := range l.peers {
		for _, ev := range l.deal.begun() {
			must(l.t, l.step(i, ev))
		}
	}
}

// look lets the buyer look at what is certified, and deal on.
func (l *lab) look() {
	for e := l.looked + 1; l.certs[e] != nil; e++ {
		l.looked = e
	}
	b := l.deal.terms.before(l.certs[l.looked])
	for node, windows := range l.dealt {
		for _, w := range windows {
			if !MayDeal(&l.deal.terms, windowOf(w).First, b.Paid[node], slices.Contains(b.Next, uint8(node))) {
				break
			}
			for i, p := range l.peers {
				if windowOf(w).First != p.node.Dealt[node]+1 {
					continue
				}
				for s := range w[p.party] {
					if !l.trusting {
						must(l.t, w[p.party][s].Verify(&l.deal.terms))
					}
				}
				must(l.t, l.step(i, DealtTo{windowOf(w)}))
			}
		}
	}
}

// play runs until stop, until most ticks have passed, or until nothing that counts
// has changed in 30 of them.
func (l *lab) play(most int, stop func() bool) {
	idle, was := 0, uint32(0)
	tick := func() {
		l.tick()
		now := uint32(len(l.certs) + len(l.queue))
		for _, p := range l.peers {
			now += p.node.Held + p.node.Ran + p.node.cur()
		}
		if idle++; now != was {
			idle, was = 0, now
		}
	}
	for l.ticks < most && idle < 30 && (stop == nil || !stop()) {
		n := len(l.wires) + len(l.queue)
		if n == 0 || l.rng.IntN(4*n+100) == 0 { // a tick is long against a message
			tick()
			continue
		}
		i := l.rng.IntN(n)
		if i < len(l.wires) {
			m := l.wires[i]
			l.wires[i] = l.wires[len(l.wires)-1]
			l.wires = l.wires[:len(l.wires)-1]
			from := l.peers[m.from]
			if err := l.step(m.to, Received{From: from.party, Msg: m.msg}); err != nil && from.honest() && !errors.Is(err, ErrEarly) {
				l.t.Fatalf("party %d refuses %T of party %d: %v", l.peers[m.to].party, m.msg, from.party, err)
			}
			continue
		}
		i -= len(l.wires)
		t := l.queue[i]
		l.queue = slices.Delete(l.queue, i, i+1)
		if !l.do(t) {
			l.queue = append(l.queue, t)
		}
	}
}

func (l *lab) tick() {
	l.ticks++
	l.look()
	for i, p := range l.peers {
		if !p.node.Idle() {
			must(l.t, l.step(i, Tick{}))
		}
	}
}

// finished reports whether all epochs are certified at every honest party, and
// every honest party holds all that it earned.
func (l *lab) finished() bool {
	for _, p := range l.peers {
		if p.honest() && (!p.node.Over() || p.node.Held < p.node.Paid()) {
			return false
		}
	}
	return true
}

func (l *lab) String() string {
	s := fmt.Sprintf("%d ticks, %d steps, %d certificates, %d wires, %d tasks, paused %d\n", l.ticks, l.steps, len(l.certs), len(l.wires), len(l.queue), l.paused)
	for _, p := range l.peers {
		n := &p.node
		s += fmt.Sprintf("party %d: epoch %d, base %d, ran %d, running %d, paid %d, held %d, frozen %v, views %d %d, attempt %d, roster %v, dealt %d, gave %v got %v due %v\n", p.party, n.cur(), n.Base, n.Ran, n.Running,
			n.Paid(), n.Held, n.Frozen != nil, n.Stages[0].View, n.Stages[1].View, n.Attempt, n.roster(), n.Dealt, n.Gave, n.Got, n.Due)
	}
	return s
}

func (l *lab) outcomeOf(epoch uint32) Outcome {
	if epoch == l.ends && l.fails {
		return Failed
	}
	if epoch == l.ends {
		return Done
	}
	return Running
}
