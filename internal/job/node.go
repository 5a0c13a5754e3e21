package job

import (
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Waiting times, in ticks.
const (
	gatherTicks = 2 // to wait for all commits or reveals, once there is a quorum of them
	viewTicks   = 4 // for a view; each view waits one more, up to maxWait
	maxWait     = 12
	stuckTicks  = 6  // for reveals that may still form a quorum
	freshTicks  = 3  // for which it counts that another is stuck
	settleTicks = 20 // to ask at the end of a job for shares beside those that it took
	silent      = 8  // after which a party on the bench counts as dead
)

// Result is an epoch's result on this node, and the salt of its commit.
type Result struct {
	Epoch   uint32
	State   wire.Hash
	Outcome Outcome
	Salt    wire.Secret
}

// Stage is the state of one of the two agreements of an attempt at an epoch.
// The lists are by party.
type Stage struct {
	View     uint32
	Proposal *Proposal // of View, checked
	Votes    []*Vote   // the last seen of each
	Locks    []*Vote
	Voted    uint32 // 1 + the last view in which it voted; 0 for none
	Lock     *Quorum
	Content  *Content // of Lock
	Changes  []*Change
	Since    uint32   // ticks since a quorum's messages are here
	Ticks    uint32   // in View, after that time to gather
	Spoiled  []uint32 // 1 + the last view whose proposer signed nonsense, by party
}

// Node is one party's part in a job, on the roster or as a standby. Step never
// modifies its receiver.
type Node struct {
	Terms Terms
	Me    uint8
	Key   wire.Secret
	On    bool // the job has started
	Chain Chain
	Muted bool // was restored: signs nothing

	Last          *Certificate // the highest known
	Base          uint32       // the highest epoch with a stored state, without a gap from a certified one
	Running       uint32       // the epoch for which Run was requested; 0 for none
	Ran           uint32       // epochs worked, without those written off
	Forgiven      uint32       // of them, those that pennies have made up for
	Counted       uint32       // the highest of them
	Pace, Elapsed uint32       // ticks that the last epoch took, and the running one so far
	Turn          uint32       // how often running results became void
	Results       []Result     // of epochs after Last, in order
	Dealt         []uint32     // by party: shares of its pennies are held up to this one

	Attempt  uint32
	Verdicts []Verdict // that led to it
	Called   *Verdict  // for the next, not followed yet
	Moved    []uint32  // by party: an attempt that it is in
	First    *First    // the first frozen set of this epoch, once there is another attempt
	Commits  []*Commit // by party, of the epoch after Last
	Early    []*Commit // and of the one after that
	Set      []Commit  // the frozen one
	Frozen   *Quorum
	Reveals  []*Reveal
	Stages   [2]Stage
	Paused   bool
	Age      uint32   // ticks in this attempt
	Claims   []uint32 // by party: 1 + the Age at which it last said that it is stuck
	Answered []bool   // this tick, by party: was sent certificates or asked for them
	Quiet    []uint8  // by party: ticks since it last said that it can work, at most silent

	Judging uint32   // the epoch for which Judge was requested, on the bench
	Judged  *Judged  // its result
	Ruling  *Verdict // ours

	Held    uint32        // own pennies that are here
	Known   penny.Penny   // the last of them
	Shares  []Give        // for the next ones
	Windows []Window      // of its pennies, known to be the buyer's
	Tried   uint8         // this many shares do not make the next penny
	Gave    []uint32      // by party: shares of its pennies given to it
	Due     []uint32      // by party: shares that it must have given before the next
	Got     []uint32      // by party: shares of our pennies that it gave
	Doubted []uint8       // parties that gave a wrong share without a signature
	Cheats  []bool        // by party: a proof against it was published
	Cheat   bool          // and against the buyer
	Rosters []Certificate // after which another roster works, at most one more than a proof has
}

// NewNode returns a party's machine before the job starts. Errors wrap
// ErrTerms.
func NewNode(t Terms, me uint8, key wire.Secret) (Node, error) {
	if err := t.Check(); err != nil {
		return Node{}, err
	}
	priv, err := key.PrivKey()
	if err != nil {
		return Node{}, err
	}
	if int(me) >= len(t.Parties) || wire.XOnly(priv.PubKey()) != t.Parties[me].Key {
		return Node{}, fmt.Errorf("%w: not the key of party %d", ErrTerms, me)
	}
	p := len(t.Parties)
	t.id = wire.Hash{}
	t.id = t.ID()
	n := Node{Terms: t, Me: me, Key: key, Known: t.first(me), Early: make([]*Commit, p), Answered: make([]bool, p),
		Dealt: make([]uint32, p), Gave: make([]uint32, p), Due: make([]uint32, p), Got: make([]uint32, p), Cheats: make([]bool, p)}
	for range p {
		n.Quiet = append(n.Quiet, silent)
	}
	n.fresh()
	return n, nil
}

// fresh starts an attempt.
func (n *Node) fresh() {
	p := len(n.Terms.Parties)
	n.Commits, n.Reveals = make([]*Commit, p), make([]*Reveal, p)
	n.Set, n.Frozen, n.Paused, n.Age, n.Moved, n.Claims = nil, nil, false, 0, make([]uint32, p), make([]uint32, p)
	for s := range n.Stages {
		n.Stages[s] = Stage{Votes: make([]*Vote, p), Locks: make([]*Vote, p), Changes: make([]*Change, p), Spoiled: make([]uint32, p)}
	}
}

// clone copies every list into which a step writes. Data behind pointers are
// never modified.
func (n Node) clone() Node {
	n.Quiet = slices.Clone(n.Quiet)
	for _, l := range []*[]uint32{&n.Dealt, &n.Gave, &n.Due, &n.Got, &n.Claims} {
		*l = slices.Clone(*l)
	}
	for _, l := range []*[]bool{&n.Answered, &n.Cheats} {
		*l = slices.Clone(*l)
	}
	n.Commits, n.Early, n.Reveals = slices.Clone(n.Commits), slices.Clone(n.Early), slices.Clone(n.Reveals)
	n.Results, n.Shares = slices.Clone(n.Results), slices.Clone(n.Shares)
	for s := range n.Stages {
		g := &n.Stages[s]
		g.Votes, g.Locks, g.Changes = slices.Clone(g.Votes), slices.Clone(g.Locks), slices.Clone(g.Changes)
	}
	return n
}

// step collects the effects of a transition.
type step struct {
	*Node
	out  []Effect
	memo *memo // nil if nothing is known
}

// check verifies a signature.
func (s *step) check(key wire.Key, digest wire.Hash, sig wire.Signature) error {
	if s.memo == nil {
		return verify(key, digest, sig)
	}
	return s.memo.verify(key, digest, sig)
}

// sign signs with the node's key.
func (s *step) sign(digest wire.Hash) (wire.Signature, error) {
	if s.memo == nil {
		return sign(s.Key, digest)
	}
	return s.memo.sign(s.Key, s.Terms.Parties[s.Me].Key, digest)
}

func (s *step) do(e ...Effect) { s.out = append(s.out, e...) }

// Step is the transition function. An error says why a peer's message changes
// nothing, or that the event is not a result of any requested effect.
func (n Node) Step(ev Event) (Node, []Effect, error) {
	if g, ok := ev.(Gathered); ok {
		next, effects, err := g.step(n)
		if err != nil {
			return n, nil, err
		}
		return next, effects, nil
	}
	return n.take(ev, nil)
}

// take is Step of one event.
func (n Node) take(ev Event, m *memo) (Node, []Effect, error) {
	was, next := n, n.clone()
	next.Terms.id = n.Terms.ID() // not stored
	s := &step{Node: &next, memo: m}
	if err := s.event(ev); err != nil {
		return was, nil, err
	}
	s.advance()
	return next, s.out, nil
}

func (s *step) event(ev Event) error {
	switch ev := ev.(type) {
	case Connected:
		s.connected(ev.Block)
		return nil
	case Disconnected:
		s.disconnected(ev.Undo)
		return nil
	case Ended:
		s.Chain.Ended = true
		return nil
	case Ran:
		return s.ran(ev)
	case DealtTo:
		if err := ev.Window.verify(&s.Terms, s.check); err != nil {
			return err
		}
		if w := &ev.Window; w.First == s.Dealt[w.Node]+1 {
			s.Dealt[w.Node] = w.Last()
		} else if w.Last() > s.Dealt[w.Node] {
			return fmt.Errorf("%w: the window of party %d from %d, held is up to %d", ErrEarly, w.Node, w.First, s.Dealt[w.Node])
		}
		return nil
	case Received:
		return s.received(ev)
	case Tick:
		s.tick()
		return nil
	case Loaded:
		if s.Last != nil && s.Running == 0 && s.Base < s.cur()-1 && ev.Epoch == s.Last.Body.Epoch && ev.State == s.Last.Body.State {
			s.Base = ev.Epoch
		}
		return nil
	case Judged:
		if ev.Epoch == s.Judging && ev.Epoch == s.cur() && s.Judged == nil {
			s.Judged = &ev
		}
		return nil
	case Released:
		return s.released(ev)
	case WrittenOff:
		s.Forgiven += min(ev.Epochs, s.Ran-s.Forgiven-min(s.Held, s.Ran-s.Forgiven))
		return nil
	case Restored:
		s.Muted = true
		return nil
	}
	return fmt.Errorf("%w: %T", ErrMessage, ev)
}

// before returns the body of Last, or the initial one.
func (n *Node) before() *Body { return n.Terms.before(n.Last) }

// Certified returns the body of the highest known certificate, or the initial one. It
// must not be modified.
func (n *Node) Certified() *Body { return n.before() }

// cur returns the epoch to be agreed on.
func (n *Node) cur() uint32 { return n.before().Epoch + 1 }

// roster returns that epoch's roster.
func (n *Node) roster() []uint8 { return n.before().Next }

// Member reports whether this party is on the roster of the next epoch.
func (n *Node) Member() bool { return slices.Contains(n.roster(), n.Me) }

// Paid returns the number of pennies that this party has earned, as certified;
// it holds Held of them.
func (n *Node) Paid() uint32 { return n.before().Paid[n.Me] }

// Over reports whether the program ended, or the last epoch is certified.
func (n *Node) Over() bool { b := n.before(); return b.Outcome != Running || b.Epoch >= n.Terms.Epochs }

// Idle reports whether a tick changes nothing: the job has not started, or is over, this
// party holds what it earned, and nobody was answered since the last tick.
func (n *Node) Idle() bool {
	return !n.On || n.Over() && n.Held >= n.Paid() && !n.Muted && n.Age > settleTicks && !slices.Contains(n.Answered, true)
}

// active reports whether the node takes part in the agreement.
func (n *Node) active() bool { return n.On && n.Member() && !n.Over() }

// advance does everything that is possible now.
func (s *step) advance() {
	for s.On {
		e := s.cur()
		s.combine()
		s.give()
		s.run()
		if !s.active() {
			s.referee()
			return
		}
		s.commit()
		for g := range s.Stages {
			s.propose(g)
			s.count(g)
		}
		if s.cur() == e {
			return
		}
	}
}

// run requests the next epoch. A node works at most Ahead unpaid epochs in
// total (invariant NodeLoss), and none whose shares are not dealt.
func (s *step) run() {
	x := s.Base + 1
	b := s.before()
	if !s.Funded() {
		if s.Running != 0 {
			s.Running, s.Turn = 0, s.Turn+1
			s.do(Cancel{})
		}
		return
	}
	switch {
	case s.Muted || s.Running != 0 || !s.Member() || s.Over() || s.Base < b.Epoch || x > s.Terms.Epochs || x-b.Epoch > s.Terms.Ahead:
		return
	case len(s.Results) > 0 && s.Results[len(s.Results)-1].Outcome != Running:
		return
	case slices.ContainsFunc(s.roster(), func(p uint8) bool { return p != s.Me && b.Paid[p]+x-b.Epoch > s.Dealt[p] }):
		return
	}
	if x > s.Counted {
		if s.Ran-s.Forgiven+1 > s.Held+s.Terms.Ahead {
			return
		}
		s.Ran, s.Counted = s.Ran+1, x
	}
	s.Running, s.Elapsed = x, 0
	s.do(Run{Epoch: x, Turn: s.Turn})
}

func (s *step) ran(ev Ran) error {
	if ev.Epoch != s.Running || ev.Turn != s.Turn {
		return nil // from a state that is void, or repeated
	}
	s.Running, s.Base, s.Pace, s.Elapsed = 0, ev.Epoch, s.Elapsed, 0
	if b := s.before(); ev.Epoch <= b.Epoch {
		if ev.State != b.State || ev.Outcome != b.Outcome {
			s.fetch()
		}
		return nil // certified before it was run
	}
	s.Results = append(s.Results, Result{Epoch: ev.Epoch, State: ev.State, Outcome: ev.Outcome, Salt: ev.Salt})
	return nil
}

// fetch requests the certified state.
func (s *step) fetch() {
	s.void(0)
	if s.Member() && !s.Over() {
		s.do(Fetch{Epoch: s.Last.Body.Epoch, State: s.Last.Body.State})
	}
}

// void drops the results of epochs run ahead.
func (s *step) void(base uint32) {
	s.Results, s.Running, s.Base = nil, 0, min(s.Base, base)
	s.Turn++
}

// commit signs the epoch's result on this node. The salt was stored with the
// result.
func (s *step) commit() {
	if s.Muted || s.Commits[s.Me] != nil || len(s.Results) == 0 {
		return
	}
	r := &s.Results[0]
	if r.Epoch != s.cur() {
		return
	}
	c := &Commit{Epoch: r.Epoch, Attempt: s.Attempt, Party: s.Me, Seen: s.First.seen() | s.alive(),
		Hash: commitment(&s.Terms, r.Epoch, s.Terms.prev(s.Last), r.State, r.Outcome, r.Salt, s.Me)}
	var err error
	if c.Sig, err = s.sign(c.digest(&s.Terms)); err != nil {
		return // the key was checked: impossible
	}
	s.Commits[s.Me] = c
	s.do(Broadcast{c})
}

// alive returns a bit for each party on the bench that said lately that it can work.
func (s *step) alive() (b uint8) {
	for _, p := range s.before().Bench {
		if s.Quiet[p] < silent {
			b |= 1 << p
		}
	}
	return b
}

// vote signs a value in a round of a stage.
func (s *step) vote(round uint8, view uint32, value wire.Hash) *Vote {
	v := &Vote{Epoch: s.cur(), Attempt: s.Attempt, View: view, Round: round, Party: s.Me, Value: value}
	v.Sig, _ = s.sign(v.digest(&s.Terms)) // the key was checked
	return v
}

// proposer returns the proposer of a view. It changes with the epoch, the attempt
// and the view. Who was not paid for the last epoch, because it is dead, lied or
// did not open, proposes only after all others.
func (n *Node) proposer(view uint32) uint8 {
	b := n.before()
	var order, last []uint8
	for i := range b.Next {
		p := b.Next[(uint64(n.cur())+uint64(n.Attempt)+uint64(i))%uint64(len(b.Next))]
		if b.Missed[p] == 0 {
			order = append(order, p)
		} else {
			last = append(last, p)
		}
	}
	order = append(order, last...)
	return order[view%uint32(len(order))]
}

// open reports whether a stage is in progress: the second follows the first.
func (n *Node) open(g int) bool { return (g == 1) == (n.Frozen != nil) }

// propose proposes a value if it is this node's turn.
func (s *step) propose(g int) {
	st := &s.Stages[g]
	if s.Muted || !s.open(g) || st.Proposal != nil || s.proposer(st.View) != s.Me {
		return
	}
	p := &Proposal{}
	var content *Content
	if st.View > 0 {
		own := st.Changes[s.Me]
		if own == nil || own.View != st.View {
			return // it came here by a lock, without leaving the view before
		}
		others := 0
		for _, c := range st.Changes { // by party
			if c == nil || c.View != st.View || c.Party != s.Me && others+1 >= int(s.Terms.Q) {
				continue
			}
			if c.Party != s.Me {
				others++
			}
			short := *c
			short.Content = Content{}
			p.Changes = append(p.Changes, short)
		}
		if len(p.Changes) < int(s.Terms.Q) {
			return
		}
		if l := highest(p.Changes); l != nil {
			for _, c := range st.Changes {
				if c != nil && c.View == st.View && c.Lock.View == l.View && c.Lock.Value == l.Value && len(c.Lock.Sigs) > 0 {
					content = &c.Content
				}
			}
			if content == nil {
				return // impossible: changes are stored with their contents
			}
		}
	}
	if content == nil {
		if content = s.gathered(g, st.View > 0 || s.waited(g)); content == nil {
			return
		}
	}
	value, ok := s.valueOf(g, content)
	if carried := highest(p.Changes); !ok || st.against(value, carried) {
		return
	}
	// The proposal is the proposer's vote.
	p.Content, p.Vote = *content, *s.vote(VoteSet+2*uint8(g), st.View, value)
	st.Proposal, st.Voted, st.Votes[s.Me] = p, st.View+1, &p.Vote
	s.do(Broadcast{p})
}

// against reports whether a vote for a value would be against the node's lock: a
// locked node votes for another value only if the proposal carries a higher lock.
func (st *Stage) against(value wire.Hash, carried *Quorum) bool {
	return st.Lock != nil && st.Lock.Value != value && (carried == nil || carried.View <= st.Lock.View)
}

// waited reports whether this node has given the others their time, since it has held
// a quorum's messages; and for commits, since the certificate before, twice as long as
// its own program took, so that a node of half the speed is in the set.
func (s *step) waited(g int) bool {
	return s.Stages[g].Since >= gatherTicks && (g == 1 || s.Age >= 2*s.Pace+gatherTicks)
}

// gathered returns the content of a new proposal: everything held. It waits for
// the other parties' messages, unless hurry is set.
func (s *step) gathered(g int, hurry bool) *Content {
	c := &Content{}
	if g == 0 {
		for _, x := range s.Commits {
			if x != nil {
				c.Set = append(c.Set, *x)
			}
		}
		if len(c.Set) < int(s.Terms.Q) || !hurry && len(c.Set) < int(s.Terms.N) {
			return nil
		}
		return c
	}
	c.Set, c.Frozen = s.Set, *s.Frozen
	for _, x := range s.Reveals {
		if x != nil {
			c.Reveals = append(c.Reveals, *x)
		}
	}
	if !hurry && len(c.Reveals) < len(c.Set) {
		return nil
	}
	if s.Attempt > 0 {
		if s.First == nil {
			return nil // another proposes
		}
		c.First, c.FirstFrozen = s.First.Set, s.First.Frozen
		for _, x := range s.First.Reveals {
			if x != nil {
				c.FirstReveals = append(c.FirstReveals, *x)
			}
		}
	}
	return c
}

// valueOf verifies a content and returns the value under which it is voted on.
func (s *step) valueOf(g int, c *Content) (v wire.Hash, ok bool) {
	t, e := &s.Terms, s.cur()
	if len(c.Set) < int(t.Q) || len(c.Set) > int(t.N) || !s.allOf(s.Attempt, c.Set) {
		return v, false
	}
	set := setValue(t, e, s.Attempt, c.Set)
	if g == 0 {
		return set, len(c.Reveals) == 0 && len(c.Frozen.Sigs) == 0 && len(c.First) == 0 && len(c.FirstReveals) == 0
	}
	if c.Frozen.Value != set || !s.isFrozen(set) && t.quorum(&c.Frozen, e, s.Attempt, LockSet, s.roster(), s.check) != nil || !s.openings(c.Set, c.Reveals) {
		return v, false
	}
	if (s.Attempt > 0) != (len(c.First) > 0) {
		return v, false
	}
	if s.Attempt > 0 && (c.FirstFrozen.Value != setValue(t, e, 0, c.First) || t.quorum(&c.FirstFrozen, e, 0, LockSet, s.roster(), s.check) != nil || !s.allOf(0, c.First) || !s.openings(c.First, c.FirstReveals)) {
		return v, false
	}
	b, ok := t.body(s.Last, s.Attempt, set, c)
	if !ok {
		return v, false
	}
	return b.digest(t), true
}

// isFrozen reports whether this is the value of the frozen set. Another quorum that
// froze it need not be verified: withFrozen puts ours in its place.
func (s *step) isFrozen(value wire.Hash) bool { return s.Frozen != nil && s.Frozen.Value == value }

func (s *step) withFrozen(c Content) Content {
	if s.isFrozen(c.Frozen.Value) {
		c.Frozen = *s.Frozen
	}
	return c
}

// openings reports whether each of the reveals, by party, opens a commit of the set.
func (s *step) openings(set []Commit, reveals []Reveal) bool {
	prev := s.Terms.prev(s.Last)
	for i := range reveals {
		x := &reveals[i]
		at := slices.IndexFunc(set, func(y Commit) bool { return y.Party == x.Party })
		if i > 0 && x.Party <= reveals[i-1].Party || at < 0 || !s.Terms.opens(x, &set[at], prev) {
			return false
		}
	}
	return true
}

// signed verifies a commit's signature, unless the same commit is held already.
func (s *step) signed(c *Commit) bool {
	if !slices.Contains(s.roster(), c.Party) {
		return false
	}
	if h := s.Commits[c.Party]; h != nil && *h == *c {
		return true
	}
	return s.check(s.Terms.Parties[c.Party].Key, c.digest(&s.Terms), c.Sig) == nil
}

// highest returns the highest lock among changes, or nil.
func highest(list []Change) (l *Quorum) {
	for i := range list {
		if q := &list[i].Lock; len(q.Sigs) > 0 && (l == nil || q.View > l.View) {
			l = q
		}
	}
	return l
}

// freeze stores the set that a quorum locked.
func (s *step) freeze(q *Quorum, set []Commit) {
	if s.Frozen != nil {
		return
	}
	s.Frozen, s.Set = q, set
	for i := range set {
		s.keepCommit(&set[i])
	}
	// Reveal the node's own state only now (spec/job.md §3).
	at := slices.IndexFunc(set, func(c Commit) bool { return c.Party == s.Me })
	if at < 0 || s.Muted || s.Commits[s.Me] == nil || len(s.Results) == 0 || *s.Commits[s.Me] != set[at] {
		return
	}
	r := &s.Results[0]
	s.Reveals[s.Me] = &Reveal{Epoch: r.Epoch, Attempt: s.Attempt, Party: s.Me, State: r.State, Outcome: r.Outcome, Salt: r.Salt}
	s.do(Broadcast{&Opened{Set: s.Set, Frozen: *s.Frozen, Reveal: *s.Reveals[s.Me]}})
}

// proposed verifies a proposal and enters its view.
func (s *step) proposed(from uint8, p *Proposal) error {
	if err := p.Check(); err != nil {
		return err
	}
	v := &p.Vote
	g := int(v.Round / 2)
	st := &s.Stages[g]
	if v.View < st.View {
		return nil
	}
	if v.Party != from || v.View+1 <= st.Spoiled[from] {
		return nil // only from the proposer, and once if it signs nonsense
	}
	if v.Party != s.proposer(v.View) {
		return fmt.Errorf("%w: party %d does not propose in view %d", ErrMessage, v.Party, v.View)
	}
	if st.Proposal != nil && v.View == st.View && st.Proposal.Vote.Value == v.Value {
		return nil // again
	}
	old := st.Votes[v.Party]
	if old == nil || *old != *v {
		if err := s.verify(v); err != nil {
			return err
		}
	}
	if old != nil && old.View == v.View && old.Value != v.Value {
		s.convict(v.Party, &TwoVotes{A: *old, B: *v})
		return nil
	}
	if err := s.accept(g, p); err != nil {
		// The step is kept: a view's proposer costs this once.
		st.Spoiled = slices.Clone(st.Spoiled)
		st.Spoiled[v.Party] = v.View + 1
		return nil
	}
	return nil
}

// accept verifies a proposal's content, which its proposer has signed, and votes.
func (s *step) accept(g int, p *Proposal) error {
	v, st := &p.Vote, &s.Stages[g]
	if g == 1 && s.Frozen == nil {
		set := &Content{Set: p.Content.Set}
		value, ok := s.valueOf(0, set)
		if !ok || p.Content.Frozen.Value != value || s.Terms.quorum(&p.Content.Frozen, s.cur(), s.Attempt, LockSet, s.roster(), s.check) != nil {
			return fmt.Errorf("%w: a certificate of no frozen set", ErrMessage)
		}
		s.freeze(&p.Content.Frozen, p.Content.Set)
	}
	if g == 0 && s.Frozen != nil {
		return nil
	}
	value, ok := s.valueOf(g, &p.Content)
	if !ok || value != v.Value {
		return fmt.Errorf("%w: a proposal that is not its value", ErrMessage)
	}
	if err := s.justified(g, p); err != nil {
		return err
	}
	if v.View > st.View {
		st.View, st.Ticks = v.View, 0
	}
	kept := *p
	kept.Content = s.withFrozen(p.Content)
	st.Proposal = &kept
	if old := st.Votes[v.Party]; old == nil || old.View < v.View {
		st.Votes[v.Party] = &kept.Vote
	}
	for i := range p.Content.Set {
		s.keepCommit(&p.Content.Set[i])
	}
	for i := range p.Content.Reveals {
		r := p.Content.Reveals[i]
		if s.Reveals[r.Party] == nil {
			s.Reveals[r.Party] = &r
		}
	}
	if c := &p.Content; len(c.First) > 0 {
		if s.First == nil {
			s.First = &First{Set: c.First, Frozen: c.FirstFrozen, Reveals: make([]*Reveal, len(s.Terms.Parties))}
		}
		s.First = s.First.with(c.FirstReveals)
	}
	s.consider(g)
	return nil
}

// justified verifies the justification of a proposal in a later view: changes
// of a quorum, and the highest lock among them as its value.
func (s *step) justified(g int, p *Proposal) error {
	if p.Vote.View == 0 {
		return nil
	}
	if len(p.Changes) < int(s.Terms.Q) {
		return fmt.Errorf("%w: %d changes to view %d", ErrMessage, len(p.Changes), p.Vote.View)
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		if i > 0 && c.Party <= p.Changes[i-1].Party || c.View != p.Vote.View || int(c.Stage) != g {
			return fmt.Errorf("%w: change %d", ErrMessage, i)
		}
		if err := s.changeSigned(c); err != nil {
			return err
		}
	}
	if l := highest(p.Changes); l != nil && l.Value != p.Vote.Value {
		return fmt.Errorf("%w: a proposal that leaves a lock", ErrMessage)
	}
	return nil
}

// changeSigned verifies a change and its lock, without its content.
func (s *step) changeSigned(c *Change) error {
	if c.Epoch != s.cur() || c.Attempt != s.Attempt || !slices.Contains(s.roster(), c.Party) {
		return fmt.Errorf("%w: a change of party %d", ErrMessage, c.Party)
	}
	if h := s.Stages[c.Stage].Changes[c.Party]; h != nil && h.View == c.View && h.Sig == c.Sig && h.digest(&s.Terms) == c.digest(&s.Terms) {
		return nil
	}
	if s.check(s.Terms.Parties[c.Party].Key, c.digest(&s.Terms), c.Sig) != nil {
		return fmt.Errorf("%w: the signature of a change", ErrMessage)
	}
	if len(c.Lock.Sigs) == 0 {
		return nil
	}
	if c.Lock.View >= c.View {
		return fmt.Errorf("%w: a lock of view %d before view %d", ErrMessage, c.Lock.View, c.View)
	}
	return s.Terms.quorum(&c.Lock, c.Epoch, c.Attempt, VoteSet+2*c.Stage, s.roster(), s.check)
}

// consider votes for the view's proposal, or answers with what is missing. A
// node does not vote for a proposal that omits what it holds (invariant
// NoExclusion), unless it carries a lock; a locked node votes for another value
// only if the proposal carries a higher lock.
func (s *step) consider(g int) {
	st := &s.Stages[g]
	p := st.Proposal
	if s.Muted || p == nil || !s.open(g) || st.Voted > st.View {
		return
	}
	carried := highest(p.Changes)
	if st.against(p.Vote.Value, carried) {
		return
	}
	if carried == nil && st.Lock == nil {
		if omitted := s.omitted(g, &p.Content); len(omitted) > 0 {
			for _, m := range omitted {
				s.do(Broadcast{m}) // the refusal carries it
			}
			s.change(g, st.View+1)
			return
		}
		// Voters gather too: a proposer that is in a hurry excludes nobody.
		if full := g == 0 && len(p.Content.Set) == int(s.Terms.N) || g == 1 && len(p.Content.Reveals) == len(p.Content.Set); !full && !s.waited(g) {
			return
		}
	}
	st.Voted = st.View + 1
	v := s.vote(VoteSet+2*uint8(g), st.View, p.Vote.Value)
	st.Votes[s.Me] = v
	s.do(Broadcast{v})
}

// omitted returns the valid commits, or reveals, that a content lacks.
func (s *step) omitted(g int, c *Content) (list []Message) {
	if g == 0 {
		for _, x := range s.Commits {
			if x != nil && !slices.ContainsFunc(c.Set, func(y Commit) bool { return y.Party == x.Party }) {
				list = append(list, x)
			}
		}
		return list
	}
	for _, x := range s.Reveals {
		if x != nil && !slices.ContainsFunc(c.Reveals, func(y Reveal) bool { return y.Party == x.Party }) {
			list = append(list, &Opened{Set: s.Set, Frozen: *s.Frozen, Reveal: *x})
		}
	}
	if s.First != nil {
		for _, x := range s.First.Reveals {
			if x != nil && !slices.ContainsFunc(c.FirstReveals, func(y Reveal) bool { return y.Party == x.Party }) {
				list = append(list, &Opened{Set: s.First.Set, Frozen: s.First.Frozen, Reveal: *x})
			}
		}
	}
	return list
}

// change leaves all views below view.
func (s *step) change(g int, view uint32) {
	st := &s.Stages[g]
	if s.Muted || view <= st.View {
		return
	}
	st.View, st.Proposal, st.Ticks = view, nil, 0
	c := &Change{Epoch: s.cur(), Attempt: s.Attempt, Stage: uint8(g), View: view, Party: s.Me}
	if st.Lock != nil {
		c.Lock, c.Content = *st.Lock, *st.Content
	}
	c.Sig, _ = s.sign(c.digest(&s.Terms)) // the key was checked
	st.Changes[s.Me] = c
	s.do(Broadcast{c})
}

// changed stores a change. It follows once at least one honest party must have
// changed.
func (s *step) changed(c *Change) error {
	if err := c.Check(); err != nil {
		return err
	}
	g := int(c.Stage)
	st := &s.Stages[g]
	if !slices.Contains(s.roster(), c.Party) || !s.open(g) {
		return nil
	}
	if old := st.Changes[c.Party]; old != nil && old.View >= c.View {
		return nil
	}
	if err := s.changeSigned(c); err != nil {
		return err
	}
	if len(c.Lock.Sigs) > 0 {
		if v, ok := s.valueOf(g, &c.Content); !ok || v != c.Lock.Value {
			return fmt.Errorf("%w: a lock of another content", ErrMessage)
		}
		for i := range c.Content.Set {
			s.keepCommit(&c.Content.Set[i])
		}
	} else if len(c.Content.Set) > 0 || len(c.Content.Reveals) > 0 || len(c.Content.Frozen.Sigs) > 0 {
		return fmt.Errorf("%w: a content without a lock", ErrMessage)
	}
	kept := *c
	kept.Content = s.withFrozen(c.Content)
	st.Changes[c.Party] = &kept
	var above []uint32
	for _, x := range st.Changes {
		if x != nil && x.View > st.View && x.Party != s.Me {
			above = append(above, x.View)
		}
	}
	if some := int(s.Terms.N-s.Terms.Q) + 1; len(above) >= some {
		slices.Sort(above)
		s.change(g, above[len(above)-some])
	}
	return nil
}

// voted stores a peer's vote.
func (s *step) voted(v *Vote) error {
	if err := v.Check(); err != nil {
		return err
	}
	if !slices.Contains(s.roster(), v.Party) {
		return fmt.Errorf("%w: a vote of party %d in round %d", ErrMessage, v.Party, v.Round)
	}
	g := v.Round / 2
	st := &s.Stages[g]
	list := st.Votes
	if v.Round%2 == 1 {
		list = st.Locks
	}
	old := list[v.Party]
	switch {
	case old != nil && (*old == *v || old.View > v.View), g == 0 && s.Frozen != nil:
		return nil
	case v.Round%2 == 0 && st.Lock != nil && (v.View < st.Lock.View || v.View == st.Lock.View && v.Value == st.Lock.Value):
		return nil // one more than the lock needed
	}
	if err := s.verify(v); err != nil {
		return err
	}
	if old != nil && old.View == v.View {
		if old.Value != v.Value {
			s.convict(v.Party, &TwoVotes{A: *old, B: *v})
		}
		return nil
	}
	list[v.Party] = v
	return nil
}

func (s *step) verify(v *Vote) error {
	if s.check(s.Terms.Parties[v.Party].Key, v.digest(&s.Terms), v.Sig) != nil {
		return fmt.Errorf("%w: the signature of a vote", ErrMessage)
	}
	return nil
}

// tally returns the quorum among votes of the highest view that has one.
func (s *step) tally(list []*Vote) (best *Quorum) {
	for _, v := range list {
		if v == nil || best != nil && v.View <= best.View {
			continue
		}
		q := &Quorum{View: v.View, Value: v.Value}
		for _, x := range list { // by party
			if x != nil && x.View == v.View && x.Value == v.Value && len(q.Sigs) < int(s.Terms.Q) {
				q.Sigs = append(q.Sigs, Signer{Party: x.Party, Sig: x.Sig})
			}
		}
		if len(q.Sigs) >= int(s.Terms.Q) {
			best = q
		}
	}
	return best
}

// count locks what a quorum voted for, and ends the stage with what a quorum
// locked.
func (s *step) count(g int) {
	st := &s.Stages[g]
	if !s.open(g) {
		return
	}
	if q := s.tally(st.Votes); q != nil && (st.Lock == nil || q.View > st.Lock.View) {
		if c := s.contentOf(g, q.Value); c != nil {
			st.Lock, st.Content = q, c
			if q.View > st.View {
				st.View, st.Proposal, st.Ticks = q.View, nil, 0
			}
		}
	}
	// Sign only in the current view: a node that left it has said so, together
	// with its lock at that time.
	if l := st.Lock; l != nil && l.View == st.View && !s.Muted && (st.Locks[s.Me] == nil || st.Locks[s.Me].View < st.View) {
		v := s.vote(LockSet+2*uint8(g), st.View, l.Value)
		st.Locks[s.Me] = v
		s.do(Broadcast{v})
	}
	q := s.tally(st.Locks)
	if q == nil {
		return
	}
	c := s.contentOf(g, q.Value)
	if c == nil {
		return // a peer sends it again
	}
	if g == 0 {
		s.freeze(q, c.Set)
		return
	}
	if b, ok := s.Terms.body(s.Last, s.Attempt, s.Frozen.Value, c); ok && b.digest(&s.Terms) == q.Value {
		cert := &Certificate{Body: *b, Signed: *q}
		s.adopt(cert)
		s.do(Broadcast{cert})
	}
}

// contentOf returns the content of a value, if known.
func (s *step) contentOf(g int, value wire.Hash) *Content {
	st := &s.Stages[g]
	if st.Proposal != nil && st.Proposal.Vote.Value == value {
		return &st.Proposal.Content
	}
	if st.Lock != nil && st.Lock.Value == value {
		return st.Content
	}
	for _, c := range st.Changes {
		if c != nil && len(c.Lock.Sigs) > 0 && c.Lock.Value == value {
			return &c.Content
		}
	}
	return nil
}

// keepCommit stores a signed commit; a second, different one convicts its
// party.
func (s *step) keepCommit(c *Commit) {
	switch old := s.Commits[c.Party]; {
	case old == nil:
		x := *c
		s.Commits[c.Party] = &x
	case old.Hash != c.Hash || old.Seen != c.Seen:
		s.convict(c.Party, &TwoCommits{A: *old, B: *c})
	}
}

// differs convicts a party that opened to different results in two attempts.
func (s *step) differs(p uint8) {
	if s.First == nil || s.Frozen == nil {
		return
	}
	a, b := s.First.Reveals[p], s.Reveals[p]
	x, y := commitOf(s.First.Set, p), commitOf(s.Set, p)
	if a != nil && b != nil && x != nil && y != nil && (a.State != b.State || a.Outcome != b.Outcome) {
		s.convict(p, &TwoOpenings{Prev: s.Terms.prev(s.Last), A: Opening{Commit: *x, Reveal: *a}, B: Opening{Commit: *y, Reveal: *b}})
	}
}

// liars convicts the parties that opened to another result than the certified one
// (invariant LiarNamed).
func (s *step) liars(c *Certificate) {
	if len(s.Rosters) > maxRosters {
		return
	}
	name := func(set []Commit, reveals []*Reveal) {
		for _, r := range reveals {
			if r == nil || r.State == c.Body.State && r.Outcome == c.Body.Outcome {
				continue
			}
			if x := commitOf(set, r.Party); x != nil && r.Party != s.Me {
				s.convict(r.Party, &FalseState{Rosters: s.Rosters, Certificate: *c, Opening: Opening{Commit: *x, Reveal: *r}})
			}
		}
	}
	name(s.Set, s.Reveals)
	if s.First != nil {
		name(s.First.Set, s.First.Reveals)
	}
}

// convict publishes a proof against a party, once.
func (s *step) convict(p uint8, proof Proof) {
	if !s.Cheats[p] {
		s.Cheats[p] = true
		s.do(Publish{proof})
	}
}

// adopt accepts a certificate and continues with the next epoch.
func (s *step) adopt(c *Certificate) {
	next := c.Body.Epoch == s.cur()
	if next {
		s.liars(c)
	}
	s.Last = c
	if !slices.Equal(c.Body.Roster, c.Body.Next) && len(s.Rosters) <= maxRosters {
		s.Rosters = append(slices.Clone(s.Rosters), *c)
	}
	s.do(KeepCert{*c})
	early := s.Early
	s.Judged, s.Ruling = nil, nil
	s.Attempt, s.Verdicts, s.Called, s.First, s.Early = 0, nil, nil, nil, make([]*Commit, len(early))
	s.fresh()
	// Results of epochs run ahead continue from the certified state, or are
	// void.
	for len(s.Results) > 0 && s.Results[0].Epoch < c.Body.Epoch {
		s.Results = s.Results[1:]
	}
	if len(s.Results) > 0 && s.Results[0].Epoch == c.Body.Epoch && s.Results[0].State == c.Body.State && s.Results[0].Outcome == c.Body.Outcome {
		s.Results = s.Results[1:]
	} else if len(s.Results) > 0 || s.Running != c.Body.Epoch { // or it is being run yet
		s.fetch()
	}
	for _, e := range early {
		if next && e != nil && e.Epoch == s.cur() && slices.Contains(s.roster(), e.Party) {
			s.Commits[e.Party] = e
		}
	}
}

// tick handles the passing of time: it sends again what may have been lost, and
// gives up what takes too long.
func (s *step) tick() {
	clear(s.Answered)
	s.Age++
	for p := range s.Quiet {
		s.Quiet[p] = min(s.Quiet[p]+1, silent)
	}
	if s.Running != 0 {
		s.Elapsed++
	}
	if s.Idle() {
		return
	}
	if s.referees() {
		if s.Frozen != nil {
			s.Stages[1].Since++
		}
		if s.Ruling != nil {
			s.do(Broadcast{s.Ruling})
		}
	}
	asks := !s.active() || s.Muted || s.stuck() || s.Commits[s.Me] == nil || s.Held < s.Paid()
	for _, p := range s.Terms.others(s.Me) {
		if asks || s.Got[p] < s.Due[p] { // or a share was lost, and nothing is given to p meanwhile
			s.do(Send{To: p, Msg: s.status(p)})
		}
	}
	if !s.active() || s.Muted {
		return
	}
	if c := s.Commits[s.Me]; c != nil {
		s.do(Broadcast{c})
	}
	for i := range s.Verdicts {
		s.do(Broadcast{&s.Verdicts[i]})
	}
	if s.Last != nil && s.Running == 0 && s.Base < s.Last.Body.Epoch {
		s.do(Fetch{Epoch: s.Last.Body.Epoch, State: s.Last.Body.State})
	}
	g := 0
	if s.Frozen != nil {
		g = 1
		if l := s.Stages[0].Locks[s.Me]; l != nil && s.Reveals[s.Me] == nil {
			s.do(Broadcast{l}) // others may need it to freeze, and get no opening from here
		}
		for _, r := range s.Reveals { // others may lack one that was not sent to them
			if r != nil {
				s.do(Broadcast{&Opened{Set: s.Set, Frozen: *s.Frozen, Reveal: *r}})
			}
		}
	}
	st := &s.Stages[g]
	if p := st.Proposal; p != nil && p.Vote.Party == s.Me {
		s.do(Broadcast{p})
	} else if v := st.Votes[s.Me]; v != nil && v.View == st.View {
		s.do(Broadcast{v})
	}
	if v := st.Locks[s.Me]; v != nil && v.View == st.View {
		s.do(Broadcast{v})
	}
	if c := st.Changes[s.Me]; c != nil && c.View == st.View {
		s.do(Broadcast{c})
	}
	if g == 0 && s.gathered(0, true) == nil {
		return // nothing to agree on yet
	}
	st.Since++
	if g == 1 && !s.agree() {
		if s.stuck() {
			if !s.Paused {
				s.Paused = true
				s.do(Pause{Epoch: s.cur(), Attempt: s.Attempt})
			}
			if s.Called != nil {
				s.follow(s.Called)
			}
		}
		return
	}
	if !s.waited(g) {
		return
	}
	st.Ticks++
	s.consider(g)
	if st.Ticks >= min(viewTicks+st.View, maxWait) {
		s.change(g, st.View+1)
	}
}

// agree reports whether a quorum of the reveals has the same result.
func (s *step) agree() bool {
	var list []Reveal
	for _, r := range s.Reveals {
		if r != nil {
			list = append(list, *r)
		}
	}
	return slices.ContainsFunc(list, func(r Reveal) bool { return agreeing(list, &r) >= int(s.Terms.Q) })
}

// received processes a peer's message.
func (s *step) received(ev Received) error {
	if int(ev.From) >= len(s.Terms.Parties) || ev.From == s.Me || ev.Msg == nil {
		return fmt.Errorf("%w: from party %d", ErrMessage, ev.From)
	}
	switch m := ev.Msg.(type) {
	case *Give:
		return s.given(ev.From, m)
	case *Status:
		s.asked(ev.From, m)
		return nil
	case *Certificate:
		if m.Body.Epoch <= s.before().Epoch {
			return nil
		}
		if err := m.verify(&s.Terms, s.Last, s.check); err != nil {
			// The roster may have changed between.
			s.answer(ev.From, Send{To: ev.From, Msg: s.status(ev.From)})
			return nil
		}
		s.adopt(m)
		return nil
	}
	e, cur := ev.Msg.epoch(), s.cur()
	if c, ok := ev.Msg.(*Commit); ok && e == cur+1 && s.active() {
		return s.early(c)
	}
	switch {
	case e+1 == cur && s.Age == 0 && !s.Over():
		return nil // it crossed the certificate, which was sent to all
	case e < cur:
		s.answer(ev.From, SendCerts{To: ev.From, From: e})
		return nil
	case e > cur:
		s.answer(ev.From, Send{To: ev.From, Msg: s.status(ev.From)})
		return nil
	case s.referees():
		if o, ok := ev.Msg.(*Opened); ok && (s.Age > 0 || o.Reveal.Attempt > 0) { // an epoch that ends within a tick needs no referee
			return s.witnessed(o)
		}
		return nil
	case !s.active():
		return nil
	case attemptOf(ev.Msg) < s.Attempt:
		s.tell(ev.From)
		return nil
	}
	switch m := ev.Msg.(type) {
	case *Commit:
		if err := m.Check(); err != nil {
			return err
		}
		if m.Attempt < s.Attempt {
			s.tell(ev.From)
			return nil
		}
		if !s.signed(m) {
			return fmt.Errorf("%w: the signature of a commit", ErrMessage)
		}
		if m.Attempt > s.Attempt {
			s.Moved[m.Party] = m.Attempt
			if s.Called != nil {
				s.follow(s.Called)
			}
			return nil
		}
		s.keepCommit(m)
	case *Proposal:
		if m.Vote.Attempt == s.Attempt {
			return s.proposed(ev.From, m)
		}
	case *Vote:
		if m.Attempt == s.Attempt {
			return s.voted(m)
		}
	case *Change:
		if m.Attempt == s.Attempt {
			return s.changed(m)
		}
	case *Opened:
		switch {
		case m.Reveal.Attempt == s.Attempt:
			return s.opened(m)
		case m.Reveal.Attempt == 0:
			return s.openedFirst(m)
		}
	case *Verdict:
		return s.verdict(m)
	default:
		return fmt.Errorf("%w: %T", ErrMessage, m)
	}
	return nil
}

func (s *step) status(to uint8) *Status {
	return &Status{Epoch: s.before().Epoch, Attempt: s.Attempt, Got: s.Got[to], Flags: s.flags(to)}
}

func (s *step) flags(to uint8) (f uint8) {
	if slices.Contains(s.Doubted, to) {
		f |= statusSign
	}
	if s.active() && s.stuck() {
		f |= statusStuck
	}
	if s.Muted || !s.Funded() {
		f |= statusIdle
	}
	return f
}

// asked answers a Status: it gives again what was given before, a limited
// amount at a time.
func (s *step) asked(from uint8, m *Status) {
	if m.Flags&statusIdle == 0 {
		s.Quiet[from] = 0
	}
	if m.Flags&statusStuck != 0 && m.Epoch == s.before().Epoch && m.Attempt == s.Attempt {
		s.Claims[from] = s.Age + 1
	}
	var list []Effect
	for k := m.Got; k < s.Gave[from] && len(list) < MaxAhead; k++ {
		list = append(list, GiveShare{To: from, K: k + 1, Signed: m.Flags&statusSign != 0})
	}
	if s.Got[from] < s.Due[from] { // a share was lost: nothing more is given before it comes
		list = append(list, Send{To: from, Msg: s.status(from)})
	}
	switch b := s.before(); {
	case m.Epoch < b.Epoch:
		list = append(list, SendCerts{To: from, From: m.Epoch + 1})
	case m.Epoch > b.Epoch:
		list = append(list, Send{To: from, Msg: s.status(from)})
	case m.Attempt < s.Attempt:
		list = append(list, s.verdicts(from)...)
	}
	s.answer(from, list...)
}

// verdicts are those that led to this attempt, after what was opened in the first;
// tell sends them.
func (s *step) verdicts(to uint8) (list []Effect) {
	if s.First != nil {
		for _, r := range s.First.Reveals {
			if r != nil {
				list = append(list, Send{To: to, Msg: &Opened{Set: s.First.Set, Frozen: s.First.Frozen, Reveal: *r}})
			}
		}
	}
	for i := range s.Verdicts {
		list = append(list, Send{To: to, Msg: &s.Verdicts[i]})
	}
	return list
}

func (s *step) tell(to uint8) { s.answer(to, s.verdicts(to)...) }

// answer sends effects to a peer that is ahead or behind, once per tick.
func (s *step) answer(to uint8, e ...Effect) {
	if len(e) > 0 && !s.Answered[to] {
		s.Answered[to] = true
		s.do(e...)
	}
}

// early stores the commit of a party that already has the next certificate.
// Whether the party is on that roster is checked later.
func (s *step) early(c *Commit) error {
	if err := c.Check(); err != nil {
		return err
	}
	if int(c.Party) >= len(s.Early) || c.Attempt != 0 || s.Early[c.Party] != nil {
		return nil
	}
	if s.check(s.Terms.Parties[c.Party].Key, c.digest(&s.Terms), c.Sig) != nil {
		return fmt.Errorf("%w: the signature of a commit", ErrMessage)
	}
	s.Early[c.Party] = c
	return nil
}

// opened accepts a reveal, and with it the frozen set.
func (s *step) opened(o *Opened) error {
	if err := o.Check(); err != nil {
		return err
	}
	if s.Frozen == nil {
		value, ok := s.valueOf(0, &Content{Set: o.Set})
		if !ok || o.Frozen.Value != value || s.Terms.quorum(&o.Frozen, s.cur(), s.Attempt, LockSet, s.roster(), s.check) != nil {
			return fmt.Errorf("%w: a reveal of no frozen set", ErrMessage)
		}
		s.freeze(&o.Frozen, o.Set)
	}
	r := o.Reveal
	at := slices.IndexFunc(s.Set, func(c Commit) bool { return c.Party == r.Party })
	if at < 0 || !s.Terms.opens(&r, &s.Set[at], s.Terms.prev(s.Last)) {
		return fmt.Errorf("%w: a reveal that opens nothing", ErrMessage)
	}
	if s.Reveals[r.Party] == nil {
		s.Reveals[r.Party] = &r
		s.differs(r.Party)
	}
	return nil
}

// openedFirst accepts a reveal of the first frozen set in a later attempt.
func (s *step) openedFirst(o *Opened) error {
	if err := o.Check(); err != nil {
		return err
	}
	e := s.cur()
	first := s.First
	if first == nil {
		if o.Frozen.Value != setValue(&s.Terms, e, 0, o.Set) || s.Terms.quorum(&o.Frozen, e, 0, LockSet, s.roster(), s.check) != nil || !s.allOf(0, o.Set) {
			return fmt.Errorf("%w: a reveal of no frozen set", ErrMessage)
		}
		first = &First{Set: o.Set, Frozen: o.Frozen, Reveals: make([]*Reveal, len(s.Terms.Parties))}
	}
	if !s.openings(first.Set, []Reveal{o.Reveal}) {
		return fmt.Errorf("%w: a reveal that opens nothing", ErrMessage)
	}
	s.First = first.with([]Reveal{o.Reveal})
	s.differs(o.Reveal.Party)
	return nil
}

// stuck reports whether this attempt has no agreement to come: a set is frozen, and
// its reveals had time to become a quorum's. Without a frozen set another attempt has
// no first one, and a quorum that agrees needs only another view.
func (s *step) stuck() bool {
	return s.Frozen != nil && !s.agree() && (s.Paused || s.Stages[1].Since >= stuckTicks)
}

// deadlocked reports whether this attempt has no agreement to come for a quorum: q − 1
// others have said lately that they are stuck, too. If a node is locked on a
// certificate, q have voted for it. The honest ones among them have openings of a
// quorum that agree, and pass them on. The others are fewer than q, so nobody leaves a
// locked node behind because it lacks an opening.
func (s *step) deadlocked() bool {
	if !s.stuck() {
		return false
	}
	stuck := 1
	for _, p := range s.roster() {
		if at := s.Claims[p]; p != s.Me && at > 0 && s.Age-(at-1) <= freshTicks {
			stuck++
		}
	}
	return stuck >= int(s.Terms.Q)
}

// verdict accepts a call for a new attempt: the next one, but for the buyer, which
// may skip some. It is kept and passed on, so that all hear of it, and followed as
// soon as this node is stuck or others have followed that cannot all lie.
func (s *step) verdict(v *Verdict) error {
	if err := v.Check(); err != nil {
		return err
	}
	if v.Attempt <= s.Attempt || v.Attempt > s.Attempt+1 && !v.Buyer || s.Called != nil && s.Called.Attempt >= v.Attempt && s.Called.Buyer == v.Buyer {
		return nil
	}
	key := s.Terms.Buyer
	if !v.Buyer {
		if !slices.Contains(s.before().Bench, v.Party) {
			return fmt.Errorf("%w: party %d is not a referee", ErrMessage, v.Party)
		}
		key = s.Terms.Parties[v.Party].Key
	}
	if s.check(key, v.digest(&s.Terms), v.Sig) != nil {
		return fmt.Errorf("%w: the signature of a verdict", ErrMessage)
	}
	s.Called = v
	s.follow(v)
	return nil
}

// follow starts the attempt that a verdict calls for, if this one cannot end. A node
// locked on a certificate does not follow, because the certificate may exist already.
func (s *step) follow(v *Verdict) {
	moved := 0
	for _, a := range s.Moved {
		if a > s.Attempt {
			moved++
		}
	}
	if s.Stages[1].Lock != nil || !s.deadlocked() && moved <= int(s.Terms.N-s.Terms.Q) {
		return
	}
	if s.Attempt == 0 && s.Frozen != nil && s.First == nil {
		s.First = &First{Set: s.Set, Frozen: *s.Frozen, Reveals: slices.Clone(s.Reveals)}
	}
	s.Attempt, s.Called = v.Attempt, nil
	s.Verdicts = append(slices.Clone(s.Verdicts), *v)
	s.void(s.before().Epoch)
	s.fresh()
	s.do(Broadcast{v})
}

// allOf reports whether all commits of a set are of this epoch and an attempt, by
// party, and signed.
func (s *step) allOf(attempt uint32, set []Commit) bool {
	for i := range set {
		if x := &set[i]; i > 0 && x.Party <= set[i-1].Party || x.Epoch != s.cur() || x.Attempt != attempt || !s.signed(x) {
			return false
		}
	}
	return true
}
