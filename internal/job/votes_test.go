package job

import (
	"fmt"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// table is the four nodes of a standard job after epoch 1, with all commits, and what
// parties with their keys can sign.
type table struct {
	t     *testing.T
	d     *deal
	nodes []Node
	c     []*Commit
}

func newTable(t *testing.T) *table {
	x := &table{t: t, d: standard(t, 4)}
	x.nodes, x.c = ready(t, x.d, [][]uint8{{1, 2, 3}, {0, 2, 3}, {0, 1, 3}, {0, 1, 2}})
	return x
}

// set is a set of these parties' commits, and its value.
func (x *table) set(parties ...uint8) (c Content, value wire.Hash) {
	for _, p := range parties {
		c.Set = append(c.Set, *x.c[p])
	}
	return c, setValue(&x.d.terms, 1, 0, c.Set)
}

func (x *table) vote(p, round uint8, view uint32, value wire.Hash) *Vote {
	v := &Vote{Epoch: 1, Round: round, View: view, Party: p, Value: value}
	v.Sig, _ = sign(x.d.keys[p], v.digest(&x.d.terms))
	return v
}

func (x *table) quorum(round uint8, view uint32, value wire.Hash, parties ...uint8) Quorum {
	q := Quorum{View: view, Value: value}
	for _, p := range parties {
		q.Sigs = append(q.Sigs, Signer{Party: p, Sig: x.vote(p, round, view, value).Sig})
	}
	return q
}

func (x *table) change(p, stage uint8, view uint32, lock Quorum, content Content) *Change {
	c := &Change{Epoch: 1, Stage: stage, View: view, Party: p, Lock: lock, Content: content}
	c.Sig, _ = sign(x.d.keys[p], c.digest(&x.d.terms))
	return c
}

// propose is a proposal for the set, with changes.
func (x *table) propose(by uint8, view uint32, c Content, value wire.Hash, changes ...*Change) *Proposal {
	p := &Proposal{Content: c, Vote: *x.vote(by, VoteSet, view, value)}
	for _, m := range changes {
		short := *m
		short.Content = Content{}
		p.Changes = append(p.Changes, short)
	}
	return p
}

// hear gives node i messages, each from the party that signed it, and returns all
// that it says.
func (x *table) hear(i int, list ...Message) (effects []Effect) {
	x.t.Helper()
	for _, m := range list {
		from := uint8(i+1) % 4
		switch m := m.(type) {
		case *Proposal:
			from = m.Vote.Party
		case *Vote:
			from = m.Party
		case *Change:
			from = m.Party
		}
		n, out, err := x.nodes[i].Step(Received{From: from, Msg: m})
		if err != nil {
			x.t.Fatalf("%T: %v", m, err)
		}
		x.nodes[i], effects = n, append(effects, out...)
	}
	return effects
}

// votes are the votes of a round among what is said.
func votes(effects []Effect, round uint8) (list []*Vote) {
	for _, v := range said[*Vote](effects) {
		if v.Round == round {
			list = append(list, v)
		}
	}
	return list
}

// lock brings node 0 to a lock on the set of all four in view 0.
func (x *table) lock() (Content, wire.Hash) {
	x.t.Helper()
	c, a := x.set(0, 1, 2, 3)
	out := x.hear(0, x.propose(1, 0, c, a), x.vote(1, VoteSet, 0, a), x.vote(2, VoteSet, 0, a))
	if len(votes(out, VoteSet)) != 1 || len(votes(out, LockSet)) != 1 || x.nodes[0].Stages[0].Lock == nil {
		x.t.Fatal("not locked")
	}
	return c, a
}

// TestNoLockInViewLeft: a node that has left a view signs no lock of it, nor one for
// its value in the new view, if the votes and the content come later.
func TestNoLockInViewLeft(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	c, a := x.set(0, 1, 2, 3)
	lock := x.quorum(VoteSet, 0, a, 1, 2, 3)
	out := x.hear(0, x.change(1, 0, 1, Quorum{}, Content{}), x.change(3, 0, 1, lock, c))
	if x.nodes[0].Stages[0].View != 1 || len(said[*Change](out)) != 1 {
		t.Fatal("it does not follow two others to view 1")
	}
	out = x.hear(0, x.vote(1, VoteSet, 0, a), x.vote(2, VoteSet, 0, a), x.vote(3, VoteSet, 0, a))
	if l := x.nodes[0].Stages[0].Lock; l == nil || l.View != 0 {
		t.Fatal("it does not learn of the lock")
	}
	if len(votes(out, LockSet)) > 0 {
		t.Error("it signs a lock of a view that it has left")
	}
}

// TestLockedNodeStays: a locked node shows its lock when it leaves a view, votes for
// nothing else without a higher lock, and for that with one.
func TestLockedNodeStays(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	_, a := x.lock()
	out := x.hear(0, x.change(1, 0, 1, Quorum{}, Content{}), x.change(3, 0, 1, Quorum{}, Content{}))
	mine := said[*Change](out)
	if len(mine) != 1 || mine[0].Lock.Value != a || len(mine[0].Lock.Sigs) != 3 || len(mine[0].Content.Set) != 4 {
		t.Fatalf("it hides its lock: %+v", mine)
	}
	// Three others without a lock: one lies, or has not seen the votes.
	other, b := x.set(0, 1, 2)
	none := func(p uint8, view uint32) *Change { return x.change(p, 0, view, Quorum{}, Content{}) }
	if out := x.hear(0, x.propose(2, 1, other, b, none(1, 1), none(2, 1), none(3, 1))); len(votes(out, VoteSet)) > 0 {
		t.Error("it votes against its lock")
	}
	higher := x.quorum(VoteSet, 1, b, 1, 2, 3)
	if out := x.hear(0, x.propose(3, 2, other, b, none(1, 2), none(2, 2), x.change(3, 0, 2, higher, other))); len(votes(out, VoteSet)) != 1 {
		t.Error("it does not vote for a higher lock")
	}
}

// TestHighestLockCarried: a proposal has to name the highest of the locks among its
// changes, in whatever order they are.
func TestHighestLockCarried(t *testing.T) {
	t.Parallel()
	for _, order := range []bool{true, false} {
		x := newTable(t)
		all, a := x.set(0, 1, 2, 3)
		some, b := x.set(0, 1, 2)
		low, high := x.quorum(VoteSet, 0, a, 1, 2, 3), x.quorum(VoteSet, 1, b, 1, 2, 3)
		first, second := x.change(1, 0, 2, low, all), x.change(2, 0, 2, high, some)
		if order {
			first, second = x.change(1, 0, 2, high, some), x.change(2, 0, 2, low, all)
		}
		changes := []*Change{first, second, x.change(3, 0, 2, Quorum{}, Content{})}
		if l := highest([]Change{*first, *second}); l == nil || l.View != 1 {
			t.Error("the highest lock is another")
		}
		was := x.nodes[0]
		if out := x.hear(0, x.propose(3, 2, all, a, changes...)); len(votes(out, VoteSet)) > 0 {
			t.Error("it votes for the lower lock")
		}
		x.nodes[0] = was
		if out := x.hear(0, x.propose(3, 2, some, b, changes...)); len(votes(out, VoteSet)) != 1 {
			t.Error("it does not vote for the higher lock")
		}
	}
}

// TestQuorumIsQ: one signature short of q, one twice, or one of a party that is not
// on the roster make no quorum.
func TestQuorumIsQ(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	_, a := x.set(0, 1, 2, 3)
	roster := []uint8{0, 1, 2, 3}
	for name, list := range map[string][]uint8{"q": {0, 1, 2}, "all": {0, 1, 2, 3}, "short": {0, 1}, "twice": {0, 1, 1}, "disorder": {1, 0, 2}, "a standby": {0, 1, 4}, "none": nil} {
		q := x.quorum(LockSet, 0, a, list...)
		if err := x.d.terms.quorum(&q, 1, 0, LockSet, roster, verify); (err == nil) != (name == "q" || name == "all") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A node counts as many before it locks, freezes and certifies.
	c, a := x.set(0, 1, 2, 3)
	if x.hear(0, x.propose(1, 0, c, a), x.vote(1, VoteSet, 0, a)); x.nodes[0].Stages[0].Lock != nil {
		t.Error("two votes are a lock")
	}
	x.hear(0, x.vote(2, VoteSet, 0, a), x.vote(1, LockSet, 0, a))
	if x.nodes[0].Frozen != nil {
		t.Error("two locks freeze")
	}
	if out := x.hear(0, x.vote(2, LockSet, 0, a)); x.nodes[0].Frozen == nil || len(said[*Opened](out)) != 1 {
		t.Error("three locks do not freeze, or it does not open")
	}
}

// TestOneVotePerView: a node that has voted in a view signs no other vote in it,
// whatever comes and however often the clock ticks.
func TestOneVotePerView(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	c, a := x.set(0, 1, 2, 3)
	x.hear(0, x.propose(1, 0, c, a))
	for range viewTicks - 1 {
		n, out, err := x.nodes[0].Step(Tick{})
		must(t, err)
		x.nodes[0] = n
		if got := votes(out, VoteSet); len(got) > 1 {
			t.Fatalf("%d votes in a tick", len(got))
		}
	}
	other, b := x.set(0, 1, 2)
	if out := x.hear(0, x.propose(1, 0, other, b)); len(votes(out, VoteSet)) > 0 || !x.nodes[0].Cheats[1] {
		t.Error("it votes for a second proposal of one view")
	}
}

// TestFrozenSetOfCertificate: a proposal for a certificate needs the quorum that froze
// its set, and reveals that open the commits of that set.
func TestFrozenSetOfCertificate(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	c, a := x.set(0, 1, 2, 3)
	x.hear(0, x.propose(1, 0, c, a), x.vote(1, VoteSet, 0, a), x.vote(2, VoteSet, 0, a), x.vote(1, LockSet, 0, a), x.vote(2, LockSet, 0, a))
	n := &x.nodes[0]
	if n.Frozen == nil {
		t.Fatal("not frozen")
	}
	c.Frozen = *n.Frozen
	for p := range uint8(4) {
		c.Reveals = append(c.Reveals, Reveal{Epoch: 1, Party: p, State: wire.Hash(secretOf("state 1")), Salt: secretOf("salt %d", p)})
	}
	later := *n
	later.Frozen = nil // it has not seen who froze the set
	s := &step{Node: &later}
	if _, ok := s.valueOf(1, &c); !ok {
		t.Fatal("a right content is refused")
	}
	for what, change := range map[string]func(c *Content){
		"a quorum of votes": func(c *Content) { c.Frozen = x.quorum(VoteSet, 0, a, 0, 1, 2) },
		"too few":           func(c *Content) { c.Frozen = x.quorum(LockSet, 0, a, 0, 1) },
		"no quorum":         func(c *Content) { c.Frozen.Sigs = nil },
		"another set's":     func(c *Content) { c.Set = c.Set[:3]; c.Reveals = c.Reveals[:3] },
		"another set, unsigned": func(c *Content) {
			c.Set = c.Set[:3]
			c.Reveals = c.Reveals[:3]
			c.Frozen.Value = setValue(&x.d.terms, 1, 0, c.Set)
		},
		"another state":          func(c *Content) { c.Reveals = slices.Clone(c.Reveals); c.Reveals[3].State[0] ^= 1 },
		"another outcome":        func(c *Content) { c.Reveals = slices.Clone(c.Reveals); c.Reveals[3].Outcome = Failed },
		"another salt":           func(c *Content) { c.Reveals = slices.Clone(c.Reveals); c.Reveals[3].Salt[0] ^= 1 },
		"one reveal twice":       func(c *Content) { c.Reveals = append(slices.Clone(c.Reveals[:3]), c.Reveals[2]) },
		"a first set in the one": func(c *Content) { c.First = c.Set },
	} {
		bad := c
		change(&bad)
		if _, ok := s.valueOf(1, &bad); ok {
			t.Errorf("%s: accepted", what)
		}
	}
	// Who has frozen the same set need not look at the others' quorum, and passes on its
	// own: nothing false comes from it.
	s.Node, c.Frozen.Sigs = n, nil
	value, _ := s.valueOf(1, &c)
	p := &Proposal{Vote: *x.vote(1, VoteCert, 0, value), Content: c}
	x.hear(0, p)
	if got := n.Stages[1].Proposal; got == nil || len(got.Content.Frozen.Sigs) != 3 {
		t.Error("it keeps a quorum that it has not verified")
	}
	lock := x.quorum(VoteCert, 0, value, 1, 2, 3)
	x.hear(0, x.change(1, 1, 1, lock, c), x.change(2, 1, 1, Quorum{}, Content{}))
	if got := n.Stages[1].Changes[1]; got == nil || len(got.Content.Frozen.Sigs) != 3 || len(n.Stages[1].Changes[0].Lock.Sigs) > 0 {
		t.Error("it keeps a quorum that it has not verified, of a change")
	}
}

// TestLockedNodeIgnoresVerdict: a node that is locked on a certificate does not leave
// its attempt, even if it is stuck otherwise and others have left.
func TestLockedNodeIgnoresVerdict(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	n := &x.nodes[0]
	n.Frozen, n.Paused = &Quorum{}, true // stuck, as others are
	n.Claims = []uint32{0, n.Age + 1, n.Age + 1, 0, 0}
	n.Stages[1].Lock = &Quorum{Value: wire.Hash{1}}
	v := &Verdict{Epoch: 1, Attempt: 1, Party: 4}
	v.Sig, _ = sign(x.d.keys[4], v.digest(&x.d.terms))
	if x.hear(0, v); n.Attempt != 0 {
		t.Error("a locked node follows a verdict")
	}
	n.Frozen, n.Stages[1].Lock, n.Stages[1].View, n.Called = nil, nil, 9, nil
	if x.hear(0, v); n.Attempt != 0 {
		t.Error("a node without a frozen set follows a verdict, and has no first set then")
	}
	n.Frozen = &Quorum{}
	n.Stages[1].Lock, n.Called, n.Claims = nil, nil, []uint32{0, n.Age + 1, 0, 0, 0}
	if x.hear(0, v); n.Attempt != 0 {
		t.Error("a node follows a verdict that nobody else needs")
	}
	n.Claims, n.Called = []uint32{0, n.Age + 1, n.Age + 1, 0, 0}, nil
	if x.hear(0, v); n.Attempt != 1 {
		t.Error("a stuck node does not follow a verdict")
	}
}

// TestForgiven: each penny forgives one epoch that was certified without the node, and
// none if there is none; D is never exceeded.
func TestForgiven(t *testing.T) {
	t.Parallel()
	x := newTable(t)
	n := x.nodes[0]
	last := func(epoch, paid uint32) *Certificate {
		b := *x.d.terms.before(nil)
		b.Epoch, b.Paid = epoch, []uint32{paid, 0, 0, 0, 0}
		return &Certificate{Body: b}
	}
	for _, c := range []struct{ ran, counted, epoch, paid, k, forgiven uint32 }{
		{5, 5, 5, 5, 5, 0}, // paid for all
		{5, 5, 3, 3, 3, 0}, // two are ahead
		{5, 5, 5, 5, 4, 0}, // one penny is due yet
		{5, 5, 5, 3, 3, 1}, // two were certified without it
		{5, 5, 4, 3, 3, 0}, // one ahead, one without it: see below
	} {
		n.Ran, n.Counted, n.Last, n.Forgiven = c.ran, c.counted, last(c.epoch, c.paid), 0
		s := &step{Node: &n}
		s.earned(c.k, [wire.PennySize]byte{})
		want := c.forgiven
		if c.epoch == 4 {
			want = 1 // the one without it
		}
		if n.Forgiven != want {
			t.Errorf("%+v: %d are forgiven", c, n.Forgiven)
		}
	}
}

// TestIDBindsAll: any change of the terms changes the id.
func TestIDBindsAll(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	seen := map[wire.Hash]string{d.terms.ID(): "the terms"}
	for i, change := range []func(x *Terms){
		func(x *Terms) { x.File[0] ^= 1 }, func(x *Terms) { x.Funding[0] ^= 1 }, func(x *Terms) { x.Depth++ }, func(x *Terms) { x.Stop++ },
		func(x *Terms) { x.Buyer[0] ^= 1 }, func(x *Terms) { x.Parties[2].Key[0] ^= 1 }, func(x *Terms) { x.Parties[2].Bank[0] ^= 1 },
		func(x *Terms) { x.Parties[2].Nonce[0] ^= 1 }, func(x *Terms) { x.Parties[2].Pennies++ }, func(x *Terms) { x.Parties[2].Last[0] ^= 1 },
		func(x *Terms) { x.Parties = x.Parties[:4] }, func(x *Terms) { x.N-- }, func(x *Terms) { x.Q-- }, func(x *Terms) { x.T++ }, func(x *Terms) { x.Ahead++ },
		func(x *Terms) { x.Patience++ }, func(x *Terms) { x.Epochs++ }, func(x *Terms) { x.Window++ },
	} {
		y := d.terms
		y.Parties = slices.Clone(y.Parties)
		y.id = wire.Hash{}
		change(&y)
		if old, ok := seen[y.ID()]; ok {
			t.Errorf("change %d: the id of %s", i, old)
		}
		seen[y.ID()] = fmt.Sprint("change ", i)
	}
}

// TestFirstOpenings: in a later attempt a party is paid if its commit of the first set
// opens to the certified result, and n − q + 1 commits say that they had the opening
// in time.
func TestFirstOpenings(t *testing.T) {
	t.Parallel()
	d := standard(t, 4)
	right, wrong := wire.Hash(secretOf("right")), wire.Hash(secretOf("wrong"))
	open := func(attempt uint32, states ...wire.Hash) (list []Reveal) {
		for p, s := range states {
			list = append(list, Reveal{Epoch: 1, Attempt: attempt, Party: uint8(p), State: s})
		}
		return list
	}
	for _, x := range []struct {
		first []wire.Hash
		seen  [4]uint8
		paid  []uint32
	}{
		{[]wire.Hash{right, right, right, right}, [4]uint8{15, 15, 15, 15}, []uint32{1, 1, 1, 1, 0}},
		{[]wire.Hash{wrong, wrong, right, right}, [4]uint8{15, 15, 15, 15}, []uint32{0, 0, 1, 1, 0}}, // copies now
		{[]wire.Hash{right, right, right, right}, [4]uint8{15, 14, 14, 14}, []uint32{0, 1, 1, 1, 0}}, // opened to itself in time
		{[]wire.Hash{right, right, right, right}, [4]uint8{15, 15, 14, 14}, []uint32{1, 1, 1, 1, 0}}, // and to an honest one
		{[]wire.Hash{right, right, right}, [4]uint8{7, 7, 7, 7}, []uint32{1, 1, 1, 0, 0}},
	} {
		c := &Content{Reveals: open(1, right, right, right, right), FirstReveals: open(0, x.first...)}
		for p := range uint8(4) {
			c.Set = append(c.Set, Commit{Epoch: 1, Attempt: 1, Party: p, Seen: x.seen[p]})
		}
		b, ok := d.terms.body(nil, 1, wire.Hash{}, c)
		if !ok || !slices.Equal(b.Paid, x.paid) {
			t.Errorf("%v: paid %v", x, b)
		}
	}
}

// TestProposers: the proposer changes with epoch, attempt and view, and who was not
// paid last proposes last.
func TestProposers(t *testing.T) {
	t.Parallel()
	n := newTable(t).nodes[0]
	order := func() (list []uint8) {
		for v := range uint32(5) {
			list = append(list, n.proposer(v))
		}
		return list
	}
	if got := order(); !slices.Equal(got, []uint8{1, 2, 3, 0, 1}) {
		t.Errorf("%v", got)
	}
	n.Attempt = 1
	if got := order(); !slices.Equal(got, []uint8{2, 3, 0, 1, 2}) {
		t.Errorf("attempt 1: %v", got)
	}
	b := *n.Terms.before(nil)
	b.Epoch, b.Missed = 1, []uint8{0, 0, 1, 0, 0}
	n.Attempt, n.Last = 0, &Certificate{Body: b}
	if got := order(); !slices.Equal(got, []uint8{3, 0, 1, 2, 3}) {
		t.Errorf("party 2 was not paid: %v", got)
	}
}

// TestProposerVotesByProposing: a proposal is its proposer's vote: it shows its own
// change, proposes nothing against a lock that it has learned of, and signs nothing else
// in that round and view; others count it as a vote.
func TestProposerVotesByProposing(t *testing.T) {
	t.Parallel()
	none := func(x *table, p uint8, view uint32) *Change { return x.change(p, 0, view, Quorum{}, Content{}) }
	for _, locked := range []bool{false, true} {
		x := newTable(t)
		all, a := x.set(0, 1, 2, 3)
		some, b := x.set(0, 1, 3)
		n := x.nodes[2].clone() // proposes in view 1
		s := &step{Node: &n}
		s.change(0, 1)
		x.nodes[2] = n
		if locked {
			x.hear(2, x.change(0, 0, 2, x.quorum(VoteSet, 0, b, 0, 1, 3), some), x.vote(0, VoteSet, 0, b), x.vote(1, VoteSet, 0, b), x.vote(3, VoteSet, 0, b))
			if l := x.nodes[2].Stages[0].Lock; l == nil || l.Value != b {
				t.Fatal("it does not learn of the lock")
			}
		} else {
			x.hear(2, none(x, 0, 1))
		}
		got := said[*Proposal](x.hear(2, none(x, 1, 1), none(x, 3, 1)))
		if locked {
			if len(got) > 0 {
				t.Error("it proposes against its lock")
			}
			continue
		}
		if len(got) != 1 || got[0].Vote.Value != a || len(got[0].Changes) != 3 || !slices.ContainsFunc(got[0].Changes, func(c Change) bool { return c.Party == 2 }) {
			t.Fatalf("%+v", got)
		}
		for range 2 * gatherTicks {
			next, out, err := x.nodes[2].Step(Tick{})
			must(t, err)
			if x.nodes[2] = next; len(votes(out, VoteSet)) > 0 {
				t.Error("it votes once more")
			}
		}
		// With it, two votes are a quorum.
		out := x.hear(0, got[0], x.vote(1, VoteSet, 1, a))
		if len(votes(out, VoteSet)) != 1 || len(votes(out, LockSet)) != 1 || len(all.Set) != 4 {
			t.Errorf("a proposal is not counted as a vote: %v", out)
		}
	}
	// Another vote of the proposer in its view convicts it, whichever comes first.
	for _, first := range []bool{true, false} {
		x := newTable(t)
		c, a := x.set(0, 1, 2, 3)
		list := []Message{x.propose(1, 0, c, a), x.vote(1, VoteSet, 0, wire.Hash{1})}
		if !first {
			slices.Reverse(list)
		}
		if x.hear(0, list...); !x.nodes[0].Cheats[1] {
			t.Error("a proposer votes twice, and is not named")
		}
	}
}
