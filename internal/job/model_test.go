package job

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

var (
	modelStates = flag.Int("model.states", 0, "states of the model to visit in each of eight configurations; 0 lets the tier choose")
	modelSeed   = flag.Uint64("model.seed", 1, "seed of the model's walks")
)

// TestModel samples the states of one epoch of a job of four nodes, three of them
// the real machine and one an equivocator, over two views of each stage. It does not
// visit all states: it walks at random, from a fixed seed, until it has seen
// modelStates of them in each configuration; a walk ends if nothing more can happen.
// There is no buyer, standby, crash, lost message, second attempt or share in it. All
// that was ever said can be brought to any honest node at any time, or never. The
// equivocator commits twice, proposes any of four sets where it is its turn, to each
// what it likes, votes for and locks everything, hides its locks, reveals or not, and
// shows of the changes to a view whichever make a quorum. Any honest node may run out
// of patience in any state. Held in every state:
//
//   - OneCertPerEpoch: of what honest nodes have signed, no two sets can be frozen and
//     no two certificates made, whatever the equivocator adds;
//   - PaidEqualsCommitted: a certificate pays for the honest state, to those who are in
//     the frozen set and opened to it;
//   - NoExclusion: no honest node votes for a set without a commit that it holds,
//     unless there is a lock;
//   - CrashEquivalence: no honest node ever signs two values in one slot, or is named
//     by a proof.
//
// Votes are brought only if they make a quorum: fewer change nothing that anybody
// sees. The equivocator's two commits go to different nodes. The second stage begins
// with a set that all have frozen.
//
// Two states of a machine are one only if their encodings are, and two messages
// likewise: all that a machine will ever do follows from its encoding.
func TestModel(t *testing.T) {
	t.Parallel()
	states := *modelStates
	if states == 0 {
		states = tier.Pick(300, 2_000, 25_000)
	}
	t.Logf("walks chosen by -model.seed=%d", *modelSeed)
	for stage := range 2 {
		for evil := range uint8(4) {
			t.Run(fmt.Sprintf("stage %d, party %d", stage, evil), func(t *testing.T) {
				t.Parallel()
				m := newModel(t, evil, stage)
				m.explore(states)
				t.Logf("views are proposed by %d, %d: %d states, %d of machines, %d messages, %d sets frozen, %d certificates, %d walks",
					m.start.proposer(0), m.start.proposer(1), len(m.seen), len(m.nodes), len(m.msgs), len(m.frozen), len(m.certs), m.walks)
				if stage == 0 && len(m.frozen) == 0 || stage == 1 && len(m.certs) == 0 {
					t.Error("too little was reached")
				}
			})
		}
	}
}

const modelMsgs = 1024

// modelSoup is a set of messages, those that were said.
type modelSoup [modelMsgs / 64]uint64

func (s *modelSoup) has(i int) bool { return s[i/64]>>(i%64)&1 == 1 }
func (s *modelSoup) add(i int)      { s[i/64] |= 1 << (i % 64) }

// modelState is a state of the world.
type modelState struct {
	nodes [3]int32
	soup  modelSoup
}

type modelStep struct {
	next int32
	said modelSoup
}

// modelWhere is where a node is, and what can be brought to it.
type modelWhere struct {
	node int32
	soup modelSoup
}

// modelMove is a message that can be brought, and its encoding's hash.
type modelMove struct {
	msg Message
	key wire.Hash
}

type modelKey struct {
	node int32
	act  string
}

type model struct {
	t       *testing.T
	d       *deal
	evil    uint8
	stage   int
	honest  []uint8
	start   *Node
	nodes   []Node
	ids     map[wire.Hash]int32
	msgs    []modelMove
	msgIDs  map[wire.Hash]int
	steps   map[modelKey]modelStep
	lists   map[modelWhere][]modelStep
	all     map[modelSoup][]modelMove // what can be brought, by what was said
	checked map[modelSoup]bool
	seen    map[modelState]bool
	first   modelState
	walks   int
	honests []*Commit // by party
	commits [2]Commit // the equivocator's
	reveals [2]Reveal
	frozen  map[wire.Hash]bool
	certs   map[wire.Hash]bool
}

func newModel(t *testing.T, evil uint8, stage int) *model {
	m := &model{t: t, d: standard(t, 4), evil: evil, stage: stage, ids: map[wire.Hash]int32{}, msgIDs: map[wire.Hash]int{}, steps: map[modelKey]modelStep{}, lists: map[modelWhere][]modelStep{},
		all: map[modelSoup][]modelMove{}, checked: map[modelSoup]bool{}, seen: map[modelState]bool{}, frozen: map[wire.Hash]bool{}, certs: map[wire.Hash]bool{}}
	m.d.set(func(t *Terms) { t.Ahead = 1 })
	var s modelState
	var nodes []Node
	var commits []*Commit
	for i := range uint8(4) {
		state, salt := wire.Hash(secretOf("state 1")), secretOf("model salt %d", i)
		if i == evil {
			for v := range m.commits {
				if v == 1 {
					state = wire.Hash(secretOf("lie"))
				}
				salt = secretOf("evil salt %d", v)
				m.reveals[v] = Reveal{Epoch: 1, Party: i, State: state, Salt: salt}
				m.commits[v] = Commit{Epoch: 1, Party: i, Hash: commitment(&m.d.terms, 1, wire.Hash{}, state, Running, salt, i)}
				m.commits[v].Sig, _ = sign(m.d.keys[i], m.commits[v].digest(&m.d.terms))
			}
			continue
		}
		n, err := NewNode(m.d.terms, i, m.d.keys[i])
		must(t, err)
		for _, ev := range append(m.d.opening(t), Ran{Epoch: 1, State: state, Salt: salt}) {
			n, _, err = n.Step(ev)
			must(t, err)
		}
		nodes, commits, m.honest = append(nodes, n), append(commits, n.Commits[i]), append(m.honest, i)
	}
	for i := range nodes {
		var err error
		for _, c := range commits {
			if c.Party != nodes[i].Me {
				nodes[i], _, err = nodes[i].Step(Received{From: c.Party, Msg: c})
				must(t, err)
			}
		}
	}
	m.honests = nodes[0].Commits
	for i := range nodes {
		if stage == 1 {
			nodes[i] = m.freeze(&s, nodes[i])
		}
		s.nodes[i] = m.id(nodes[i])
	}
	m.start = &nodes[0]
	m.first = s
	m.push(s)
	return m
}

// freeze is a node after all four have locked the set with the equivocator's first
// commit.
func (m *model) freeze(at *modelState, n Node) Node {
	t := &m.d.terms
	next := n.clone()
	s := &step{Node: &next}
	var set []Commit
	for p := range uint8(4) {
		if p == m.evil {
			set = append(set, m.commits[0])
		} else {
			set = append(set, *m.honests[p])
		}
	}
	q := &Quorum{Value: setValue(t, 1, 0, set)}
	v := Vote{Epoch: 1, Round: LockSet, Value: q.Value}
	for p := range t.Q {
		sig, err := sign(m.d.keys[p], v.digest(t))
		must(m.t, err)
		q.Sigs = append(q.Sigs, Signer{Party: p, Sig: sig})
	}
	s.freeze(q, set)
	s.advance()
	for _, e := range s.out {
		if b, ok := e.(Broadcast); ok {
			at.soup.add(m.msg(b.Msg))
		}
	}
	return next
}

// over: what happens to the node next belongs to the other stage, or epoch.
func (m *model) over(n *Node) bool {
	return n.cur() > 1 || m.stage == 0 && n.Frozen != nil
}

// id of a machine's state. What all states of a party share is left out.
func (m *model) id(n Node) int32 {
	short := n
	short.Terms, short.Key = Terms{}, wire.Secret{}
	k := m.hash("", &short)
	id, ok := m.ids[k]
	if !ok {
		id = int32(len(m.nodes))
		m.ids[k], m.nodes = id, append(m.nodes, n)
	}
	return id
}

func (m *model) hash(kind string, x any) wire.Hash {
	b, err := wire.Marshal(x)
	must(m.t, err)
	return sha256.Sum256(append([]byte(kind), b...))
}

func (m *model) move(x Message) modelMove { return modelMove{x, m.hash(fmt.Sprintf("%T", x), x)} }

// msg is a message's place in a soup.
func (m *model) msg(x Message) int {
	v := m.move(x)
	id, ok := m.msgIDs[v.key]
	if !ok {
		if id = len(m.msgs); id >= modelMsgs {
			m.t.Fatal("too many messages")
		}
		m.msgIDs[v.key], m.msgs = id, append(m.msgs, v)
	}
	return id
}

// do steps a machine by a named action, and remembers what it comes to.
func (m *model) do(s *modelState, i int, act string, f func(n Node) (Node, []Effect)) {
	k := modelKey{s.nodes[i], act}
	r, ok := m.steps[k]
	if !ok {
		n, effects := f(m.nodes[k.node])
		r.next = m.id(n)
		for _, e := range effects {
			switch e := e.(type) {
			case Broadcast:
				if c, ok := e.Msg.(*Commit); ok && c.Party == n.Me {
					continue
				}
				r.said.add(m.msg(e.Msg))
			case Publish:
				if c, err := e.Proof.Against(&m.d.terms); err != nil || c.Buyer || c.Party != m.evil {
					m.t.Fatalf("a proof against %v, %v", c, err)
				}
			}
		}
		m.steps[k] = r
	}
	at := modelWhere{s.nodes[i], s.soup}
	if r.next != at.node && !slices.Contains(m.lists[at], r) {
		m.lists[at] = append(m.lists[at], r)
	}
}

func (m *model) push(s modelState) {
	if !m.seen[s] {
		m.seen[s] = true
		if !m.checked[s.soup] {
			m.checked[s.soup] = true
			m.check(&s)
		}
	}
}

// check holds what has to hold in every state.
func (m *model) check(s *modelState) {
	type slot struct {
		view  uint32
		value wire.Hash
	}
	var votes [rounds]map[slot]int
	for r := range votes {
		votes[r] = map[slot]int{}
	}
	seen := map[string]wire.Hash{}
	for id, x := range m.msgs {
		if !s.soup.has(id) {
			continue
		}
		v, ok := x.msg.(*Vote)
		if p, is := x.msg.(*Proposal); is {
			v, ok = &p.Vote, true
		}
		if ok {
			votes[v.Round][slot{v.View, v.Value}]++
			at := fmt.Sprint(v.Party, v.Round, v.View)
			if old, ok := seen[at]; ok && old != v.Value {
				m.t.Fatalf("party %d signs two values in round %d of view %d", v.Party, v.Round, v.View)
			}
			seen[at] = v.Value
		}
		if c, ok := x.msg.(*Certificate); ok {
			m.certs[c.Body.digest(&m.d.terms)] = true
			if c.Body.State != wire.Hash(secretOf("state 1")) {
				m.t.Fatal("PaidEqualsCommitted: a lie is certified")
			}
		}
	}
	for _, r := range []uint8{LockSet, LockCert} {
		var made []wire.Hash
		for at, n := range votes[r] {
			if n+1 >= int(m.d.terms.Q) && !slices.Contains(made, at.value) {
				made = append(made, at.value)
			}
		}
		if len(made) > 1 {
			m.t.Fatalf("OneCertPerEpoch: two values of round %d", r)
		}
		if r == LockSet && len(made) == 1 {
			m.frozen[made[0]] = true
		}
	}
}

// brings are actions: messages that are brought to a node one after another.
func brings(list ...modelMove) string {
	var act []byte
	for i := range list {
		act = append(act, list[i].key[:]...)
	}
	return string(act)
}

func (m *model) receive(list ...modelMove) func(n Node) (Node, []Effect) {
	return func(n Node) (Node, []Effect) {
		var all []Effect
		for _, x := range list {
			// Of peers that lie a message may be refused.
			was := n
			next, effects, err := n.Step(Received{From: m.from(n.Me, x.msg), Msg: x.msg})
			if err == nil {
				n, all = next, append(all, effects...)
			}
			m.votes(&was, x.msg, effects)
		}
		return n, all
	}
}

// from is a proposal's proposer, and else some other party: who brings another message
// says nothing.
func (m *model) from(me uint8, x Message) uint8 {
	if p, ok := x.(*Proposal); ok && p.Vote.Party != me {
		return p.Vote.Party
	}
	return (me + 1) % 4
}

// votes holds NoExclusion of what a machine votes for, by a proposal that came or
// that it made.
func (m *model) votes(was *Node, x Message, effects []Effect) {
	p, _ := x.(*Proposal)
	for _, e := range effects {
		b, ok := e.(Broadcast)
		if !ok {
			continue
		}
		v, ok := b.Msg.(*Vote)
		if own, is := b.Msg.(*Proposal); is {
			p, v, ok = own, &own.Vote, true
		}
		if !ok || v.Round != VoteSet || was.Stages[0].Lock != nil || highest(p.Changes) != nil {
			continue
		}
		for _, c := range was.Commits {
			if c != nil && !slices.ContainsFunc(p.Content.Set, func(y Commit) bool { return y.Party == c.Party }) {
				m.t.Fatalf("NoExclusion: party %d votes for a set without party %d", was.Me, c.Party)
			}
		}
	}
}

// moved are the states that one move leads to.
func (m *model) moved(s *modelState) (list []modelState) {
	for i := range s.nodes {
		if m.over(&m.nodes[s.nodes[i]]) {
			continue
		}
		at := modelWhere{s.nodes[i], s.soup}
		if _, ok := m.lists[at]; !ok {
			m.lists[at] = nil
			m.moves(s, i)
		}
		for _, r := range m.lists[at] {
			next := *s
			next.nodes[i] = r.next
			for w := range next.soup {
				next.soup[w] |= r.said[w]
			}
			list = append(list, next)
		}
	}
	return list
}

// explore walks from the first state to an end, again and again, until enough states
// were seen: the longest ways are as likely as any.
func (m *model) explore(states int) {
	rng := rand.New(rand.NewPCG(*modelSeed, uint64(m.evil)))
	for len(m.seen) < states {
		s := m.first
		for list := m.moved(&s); len(list) > 0; list = m.moved(&s) {
			s = list[rng.IntN(len(list))]
			m.push(s)
		}
		m.walks++
	}
}

// said is what can be brought: all that honest nodes have said, and what the
// equivocator can make of it.
func (m *model) said(soup modelSoup) []modelMove {
	if list, ok := m.all[soup]; ok {
		return list
	}
	var said []Message
	for id, x := range m.msgs {
		if soup.has(id) {
			said = append(said, x.msg)
		}
	}
	for v := range m.commits {
		said = append(said, &m.commits[v])
	}
	said = append(said, m.changes()...)
	var list []modelMove
	for _, x := range append(said, m.proposals(said)...) {
		list = append(list, m.move(x))
	}
	m.all[soup] = list
	return list
}

// changes of the equivocator, without any lock.
func (m *model) changes() (list []Message) {
	for g := range uint8(2) {
		c := &Change{Epoch: 1, Stage: g, View: 1, Party: m.evil}
		c.Sig, _ = sign(m.d.keys[m.evil], c.digest(&m.d.terms))
		list = append(list, c)
	}
	return list
}

// proposals of the equivocator.
func (m *model) proposals(said []Message) (list []Message) {
	t := &m.d.terms
	all := m.honests
	set := func(parties []uint8, evil int) (c Content) {
		for p := range uint8(4) {
			if p == m.evil && evil >= 0 {
				c.Set = append(c.Set, m.commits[evil])
			} else if slices.Contains(parties, p) {
				c.Set = append(c.Set, *all[p])
			}
		}
		return c
	}
	h := m.honest
	sets := []Content{set(h, -1), set(h, 0), set(h[:2], 0), set(h[1:], 1)}
	propose := func(round uint8, view uint32, value wire.Hash, c Content, changes []Change) {
		p := &Proposal{Vote: Vote{Epoch: 1, View: view, Round: round, Party: m.evil, Value: value}, Content: c, Changes: changes}
		p.Vote.Sig, _ = sign(m.d.keys[m.evil], p.Vote.digest(t))
		list = append(list, p)
	}
	if m.start.proposer(0) == m.evil && m.stage == 0 {
		for _, c := range sets {
			propose(VoteSet, 0, setValue(t, 1, 0, c.Set), c, nil)
		}
	}
	// What can be certified of the frozen set: all that is opened, with and without
	// the own part.
	var certs []Content
	var opened []*Opened
	for _, x := range said {
		if o, ok := x.(*Opened); ok && o.Reveal.Party != m.evil {
			opened = append(opened, o)
		}
	}
	if len(opened) > 0 {
		for with := range 2 {
			c := Content{Set: opened[0].Set, Frozen: opened[0].Frozen}
			for p := range uint8(4) {
				for _, o := range opened {
					if o.Reveal.Party == p {
						c.Reveals = append(c.Reveals, o.Reveal)
						break
					}
				}
				at := slices.IndexFunc(c.Set, func(x Commit) bool { return x.Party == p })
				if p == m.evil && with == 1 && at >= 0 {
					for v := range m.commits {
						if m.commits[v].Hash == c.Set[at].Hash {
							c.Reveals = append(c.Reveals, m.reveals[v])
						}
					}
				}
			}
			certs = append(certs, c)
		}
	}
	value := func(g uint8, c *Content) (wire.Hash, bool) {
		if g == 0 {
			return setValue(t, 1, 0, c.Set), true
		}
		b, ok := t.body(nil, 0, c.Frozen.Value, c)
		if !ok {
			return wire.Hash{}, false
		}
		return b.digest(t), true
	}
	if m.start.proposer(0) == m.evil {
		for i := range certs {
			if v, ok := value(1, &certs[i]); ok {
				propose(VoteCert, 0, v, certs[i], nil)
			}
		}
	}
	if m.start.proposer(1) != m.evil {
		return list
	}
	for g := range uint8(2) {
		if int(g) != m.stage {
			continue
		}
		var changes []Change
		var contents []Content
		for _, x := range said {
			if c, ok := x.(*Change); ok && c.Stage == g && c.View == 1 {
				short := *c
				short.Content = Content{}
				changes, contents = append(changes, short), append(contents, c.Content)
			}
		}
		for choice := range 1 << len(changes) {
			var some []Change
			var held *Content
			for i := range changes {
				if choice>>i&1 == 1 {
					some = append(some, changes[i])
					if len(changes[i].Lock.Sigs) > 0 {
						held = &contents[i]
					}
				}
			}
			slices.SortFunc(some, func(a, b Change) int { return int(a.Party) - int(b.Party) })
			some2 := slices.CompactFunc(slices.Clone(some), func(a, b Change) bool { return a.Party == b.Party })
			if len(some2) != len(some) || len(some) != int(t.Q) {
				continue
			}
			free := sets
			if g == 1 {
				free = certs
			}
			if held != nil {
				free = []Content{*held}
			}
			for i := range free {
				if v, ok := value(g, &free[i]); ok {
					propose(VoteSet+2*g, 1, v, free[i], some)
				}
			}
		}
	}
	return list
}

// moves are all that can happen to one honest node.
func (m *model) moves(s *modelState, i int) {
	type slot struct {
		round uint8
		view  uint32
		value wire.Hash
	}
	n := &m.nodes[s.nodes[i]]
	var slots []slot // in order: what a seed finds is found again
	votes := map[slot][]modelMove{}
	var reveals, changes []modelMove
	vote := func(v modelMove) {
		x := v.msg.(*Vote)
		k := slot{x.Round, x.View, x.Value}
		if votes[k] == nil {
			slots = append(slots, k)
		}
		votes[k] = append(votes[k], v)
	}
	for _, v := range m.said(s.soup) {
		switch x := v.msg.(type) {
		case *Vote:
			vote(v)
		case *Opened:
			if x.Reveal.Party != m.evil {
				reveals = append(reveals, v)
			}
			for r := range m.reveals[:m.stage] { // in the first stage a freeze is the end
				o := m.move(&Opened{Set: x.Set, Frozen: x.Frozen, Reveal: m.reveals[r]})
				m.do(s, i, brings(o), m.receive(o))
			}
		case *Commit:
			if x.Party == m.evil && m.stage == 0 && (x.Hash == m.commits[0].Hash) == (i < 2) {
				m.do(s, i, brings(v), m.receive(v))
			}
		case *Change:
			if int(x.Stage) == m.stage {
				changes = append(changes, v)
			}
		case *Proposal:
			if x.Vote.Party != m.evil { // its vote can be passed on alone
				vote(m.move(&x.Vote))
			}
			m.do(s, i, brings(v), m.receive(v))
		default:
			m.do(s, i, brings(v), m.receive(v))
		}
	}
	for _, list := range [][]modelMove{reveals, changes} {
		if len(list) > 0 {
			m.do(s, i, brings(list...), m.receive(list...))
		}
	}
	for _, k := range slots {
		list := votes[k]
		v := *list[0].msg.(*Vote)
		v.Party = m.evil
		v.Sig, _ = sign(m.d.keys[m.evil], v.digest(&m.d.terms))
		if len(list)+1 >= int(m.d.terms.Q) {
			list = append(slices.Clone(list), m.move(&v))
			m.do(s, i, brings(list...), m.receive(list...))
		}
	}
	for g := range n.Stages {
		if !n.open(g) {
			continue
		}
		if n.Stages[g].View == 0 {
			m.do(s, i, fmt.Sprint("timeout ", g), func(n Node) (Node, []Effect) {
				next := n.clone()
				s := &step{Node: &next}
				s.change(g, 1)
				s.advance()
				return next, s.out
			})
		}
		if n.Stages[g].Since < gatherTicks {
			m.do(s, i, fmt.Sprint("hurry ", g), func(n Node) (Node, []Effect) {
				next := n.clone()
				next.Stages[g].Since, next.Age = gatherTicks, gatherTicks
				s := &step{Node: &next}
				s.consider(g)
				s.advance()
				return next, s.out
			})
		}
	}
}
