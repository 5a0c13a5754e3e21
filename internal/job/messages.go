package job

import (
	"errors"
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/wire"
)

// Rounds of an epoch. In each of two stages a proposer names a value, a quorum
// votes for it, and a quorum locks what was voted for. The first stage decides
// which commits count, the second what they opened to.
const (
	VoteSet uint8 = iota
	LockSet
	VoteCert
	LockCert
	rounds
)

// Vote is a party's signature in a round of a view. A party must sign at most
// one value in each; two are a proof against it. Sig is over H[job-vote](job ‖
// u32 epoch ‖ u32 attempt ‖ u32 view ‖ u8 round ‖ value).
type Vote struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32
	Attempt uint32
	View    uint32
	Round   uint8
	Party   uint8
	Value   wire.Hash
	Sig     wire.Signature
}

func (v *Vote) digest(t *Terms) wire.Hash {
	return wire.Tagged("job-vote", t.job(), u32(v.Epoch), u32(v.Attempt), u32(v.View), u8(v.Round), v.Value[:])
}

// Commit binds a party to its program's result before it knows the others'
// results. Sig is over H[job-commit](job ‖ u32 epoch ‖ u32 attempt ‖ hash ‖ u8 seen).
type Commit struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32
	Attempt uint32
	Party   uint8
	Hash    wire.Hash // Committed to by commitment
	Seen    uint8     // a bit for each party: on the bench, it said lately that it can work; on the roster, in later attempts, its opening of the first set is here
	Sig     wire.Signature
}

func (c *Commit) digest(t *Terms) wire.Hash {
	return wire.Tagged("job-commit", t.job(), u32(c.Epoch), u32(c.Attempt), c.Hash[:], u8(c.Seen))
}

// commitment returns H[commit](job ‖ epoch ‖ prev ‖ state ‖ outcome ‖ salt ‖
// key). prev is the digest of the certificate before; the outcome is one byte.
func commitment(t *Terms, epoch uint32, prev, state wire.Hash, outcome Outcome, salt wire.Secret, party uint8) wire.Hash {
	return wire.Tagged("commit", t.job(), u32(epoch), prev[:], state[:], u8(uint8(outcome)), salt[:], t.Parties[party].Key[:])
}

// Reveal opens a commit. It needs no signature, because nobody else could open
// it.
type Reveal struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32
	Attempt uint32
	Party   uint8
	State   wire.Hash // root of the sync event
	Outcome Outcome
	Salt    wire.Secret
}

// Signer is one signature of a quorum.
type Signer struct {
	_     struct{} `cbor:",toarray"`
	Party uint8
	Sig   wire.Signature
}

// Quorum is a value that q members of the roster signed in one round of one
// view. Round, epoch and attempt follow from the message that contains it.
type Quorum struct {
	_     struct{} `cbor:",toarray"`
	View  uint32
	Value wire.Hash
	Sigs  []Signer // by party, ascending
}

// Content is the content of a value: a set of commits, by party; in the second
// stage also the quorum that froze it, and the reveals.
type Content struct {
	_       struct{} `cbor:",toarray"`
	Set     []Commit
	Frozen  Quorum
	Reveals []Reveal
	// The frozen set of the first attempt and what was opened of it, in later ones.
	First        []Commit
	FirstFrozen  Quorum
	FirstReveals []Reveal
}

// First is the frozen set of an epoch's first attempt, with its reveals by party. In
// later attempts only those are paid whose commit in it opens to the certified
// result, because from then on the results can be copied.
type First struct {
	Set     []Commit
	Frozen  Quorum
	Reveals []*Reveal
}

// with returns f with more reveals.
func (f *First) with(list []Reveal) *First {
	next := *f
	next.Reveals = slices.Clone(f.Reveals)
	for i := range list {
		if r := list[i]; next.Reveals[r.Party] == nil {
			next.Reveals[r.Party] = &r
		}
	}
	return &next
}

// seen returns a bit for each party whose reveal is here.
func (f *First) seen() (b uint8) {
	if f == nil {
		return 0
	}
	for p, r := range f.Reveals {
		if r != nil {
			b |= 1 << p
		}
	}
	return b
}

// commitOf returns a party's commit in a set, or nil.
func commitOf(set []Commit, p uint8) *Commit {
	if at := slices.IndexFunc(set, func(c Commit) bool { return c.Party == p }); at >= 0 {
		return &set[at]
	}
	return nil
}

// Proposal is a proposer's proposal. From view 1 on it carries a quorum of
// changes to its view, without their contents. If one of them contains a lock,
// the proposal must name the content of the highest lock.
type Proposal struct {
	_       struct{} `cbor:",toarray"`
	Vote    Vote     // the proposer's own, in VoteSet or VoteCert
	Content Content
	Changes []Change
}

// Change says that a party has left all views below View, and states the
// highest lock that it knows. Sig is over H[job-change](job ‖ u32 epoch ‖ u32
// attempt ‖ u8 stage ‖ u32 view ‖ encoding of the lock). It covers all of these
// together, so a proposer cannot misquote it.
type Change struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32
	Attempt uint32
	Stage   uint8
	View    uint32
	Party   uint8
	Lock    Quorum // of VoteSet or VoteCert; no signatures means no lock
	Content Content
	Sig     wire.Signature
}

func (c *Change) digest(t *Terms) wire.Hash {
	l := digestOf("job-lock", t, &c.Lock)
	return wire.Tagged("job-change", t.job(), u32(c.Epoch), u32(c.Attempt), u8(c.Stage), u32(c.View), l[:])
}

// Opened is a reveal together with the frozen set that permits it.
type Opened struct {
	_      struct{} `cbor:",toarray"`
	Set    []Commit
	Frozen Quorum
	Reveal Reveal
}

// Verdict requests a new attempt at an epoch on which no quorum agrees. It
// comes from a referee: the buyer, or a party that is not on the roster. Nobody
// relies on its state; it shows who should look for a fault in its own machine.
// Sig is over H[job-verdict](job ‖ u32 epoch ‖ u32 attempt ‖ state ‖ u8 outcome).
type Verdict struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32
	Attempt uint32 // the new one
	State   wire.Hash
	Outcome Outcome
	Buyer   bool
	Party   uint8 // if it is not the buyer
	Sig     wire.Signature
}

func (v *Verdict) digest(t *Terms) wire.Hash {
	return wire.Tagged("job-verdict", t.job(), u32(v.Epoch), u32(v.Attempt), v.State[:], u8(uint8(v.Outcome)))
}

// Status asks for the certificates after an epoch, and for shares that the
// other party has given before, of our own pennies from Got+1 on, because they
// were lost.
type Status struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32
	Attempt uint32
	Got     uint32
	Flags   uint8
}

// Flags of a Status.
const (
	statusSign  uint8 = 1 << iota // sign the shares that you give: one was wrong
	statusStuck                   // no quorum of openings agrees in this attempt
	statusIdle                    // this party does not work: it was restored, or has no money
)

// Message is a message between parties. The set of types is closed.
type Message interface {
	wire.Limited
	epoch() uint32
}

// Sizes: a signature with the fields that belong to it has at most 136 bytes.
const (
	maxOne     = 136
	maxQuorum  = 64 + MaxParties*80
	maxContent = 2 * (maxQuorum + MaxParties*(maxOne+maxOne))
	maxChange  = maxOne + maxQuorum + maxContent
)

// MaxSize implements wire.Limited.
func (*Vote) MaxSize() int        { return maxOne }
func (*Commit) MaxSize() int      { return maxOne }
func (*Change) MaxSize() int      { return maxChange }
func (*Proposal) MaxSize() int    { return maxOne + maxContent + MaxParties*(maxOne+maxQuorum) }
func (*Opened) MaxSize() int      { return maxOne + maxQuorum + MaxParties*maxOne }
func (*Verdict) MaxSize() int     { return maxOne }
func (*Status) MaxSize() int      { return 24 }
func (*Certificate) MaxSize() int { return 1024 + maxQuorum }

func bad(format string, a ...any) error {
	return fmt.Errorf("%w: %w: %s", wire.ErrMalformed, ErrMessage, fmt.Sprintf(format, a...))
}

// Check implements wire.Limited.
func (v *Vote) Check() error {
	if v.Round >= rounds || v.Party >= MaxParties {
		return bad("a vote in round %d of party %d", v.Round, v.Party)
	}
	return nil
}

// Check implements wire.Limited.
func (c *Commit) Check() error {
	if c.Party >= MaxParties {
		return bad("party %d", c.Party)
	}
	return nil
}

func (q *Quorum) check() error {
	if len(q.Sigs) > MaxParties {
		return bad("%d signatures", len(q.Sigs))
	}
	return nil
}

func (c *Content) check() error {
	if len(c.Set) > MaxParties || len(c.Reveals) > MaxParties || len(c.First) > MaxParties || len(c.FirstReveals) > MaxParties {
		return bad("%d commits, %d reveals", len(c.Set), len(c.Reveals))
	}
	for _, list := range [][]Commit{c.Set, c.First} {
		if err := checkSet(list); err != nil {
			return err
		}
	}
	for _, list := range [][]Reveal{c.Reveals, c.FirstReveals} {
		for i := range list {
			if err := list[i].check(); err != nil {
				return err
			}
		}
	}
	if err := c.FirstFrozen.check(); err != nil {
		return err
	}
	return c.Frozen.check()
}

func checkSet(set []Commit) error {
	for i := range set {
		if err := set[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reveal) check() error {
	if r.Party >= MaxParties || r.Outcome >= outcomes {
		return bad("a reveal of party %d with outcome %d", r.Party, r.Outcome)
	}
	return nil
}

// Check implements wire.Limited.
func (c *Change) Check() error {
	if c.Stage > 1 || c.Party >= MaxParties || c.View == 0 {
		return bad("a change of stage %d by party %d", c.Stage, c.Party)
	}
	if err := c.Lock.check(); err != nil {
		return err
	}
	return c.Content.check()
}

// Check implements wire.Limited.
func (p *Proposal) Check() error {
	if r := p.Vote.Round; r != VoteSet && r != VoteCert || p.Vote.Party >= MaxParties || len(p.Changes) > MaxParties {
		return bad("a proposal in round %d with %d changes", r, len(p.Changes))
	}
	for i := range p.Changes {
		if err := p.Changes[i].Check(); err != nil {
			return err
		}
		if len(p.Changes[i].Content.Set) > 0 {
			return bad("the content of a change")
		}
	}
	return p.Content.check()
}

// Check implements wire.Limited.
func (o *Opened) Check() error {
	if len(o.Set) > MaxParties {
		return bad("%d commits", len(o.Set))
	}
	if err := checkSet(o.Set); err != nil {
		return err
	}
	if err := o.Reveal.check(); err != nil {
		return err
	}
	return o.Frozen.check()
}

// Check implements wire.Limited.
func (v *Verdict) Check() error {
	if v.Attempt == 0 || v.Attempt >= MaxAttempts || v.Party >= MaxParties || v.Outcome >= outcomes {
		return bad("attempt %d", v.Attempt)
	}
	return nil
}

// Check implements wire.Limited.
func (s *Status) Check() error { return nil }

func (v *Vote) epoch() uint32        { return v.Epoch }
func (c *Commit) epoch() uint32      { return c.Epoch }
func (c *Change) epoch() uint32      { return c.Epoch }
func (p *Proposal) epoch() uint32    { return p.Vote.Epoch }
func (o *Opened) epoch() uint32      { return o.Reveal.Epoch }
func (v *Verdict) epoch() uint32     { return v.Epoch }
func (s *Status) epoch() uint32      { return s.Epoch }
func (c *Certificate) epoch() uint32 { return c.Body.Epoch }
func (g *Give) epoch() uint32        { return 0 }

// attemptOf returns the attempt that a message belongs to; one that belongs to none
// counts as the last.
func attemptOf(m Message) uint32 {
	switch m := m.(type) {
	case *Vote:
		return m.Attempt
	case *Proposal:
		return m.Vote.Attempt
	case *Change:
		return m.Attempt
	}
	return MaxAttempts
}

// setValue returns the value under which a set of commits is voted on:
// H[job-set](job ‖ u32 epoch ‖ u32 attempt ‖ (u8 party ‖ hash ‖ u8 seen) of
// each, by party).
func setValue(t *Terms, epoch, attempt uint32, set []Commit) wire.Hash {
	parts := [][]byte{t.job(), u32(epoch), u32(attempt)}
	for i := range set {
		parts = append(parts, u8(set[i].Party), set[i].Hash[:], u8(set[i].Seen))
	}
	return wire.Tagged("job-set", parts...)
}

// Body is the content of a certificate.
type Body struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32
	Attempt uint32
	Prev    wire.Hash // digest of the body before; zeros before the first
	Set     wire.Hash // value of the frozen set
	State   wire.Hash
	Outcome Outcome
	Paid    []uint32 // by party: the pennies that it has earned so far
	Missed  []uint8  // by party: consecutive epochs, up to this, that it was on the roster and not paid
	Roster  []uint8  // of this epoch, by seat
	Next    []uint8  // of the following one
	Bench   []uint8  // the standbys after this epoch, the next replacement first
}

func (b *Body) digest(t *Terms) wire.Hash { return digestOf("job-certificate", t, b) }

// Certificate is a body that a quorum of its roster signed, in the round LockCert.
type Certificate struct {
	_      struct{} `cbor:",toarray"`
	Body   Body
	Signed Quorum
}

// Check implements wire.Limited.
func (c *Certificate) Check() error {
	b := &c.Body
	if n := len(b.Paid); n > MaxParties || len(b.Missed) != n || len(b.Roster) > n || len(b.Next) != len(b.Roster) || len(b.Bench) > n || b.Outcome >= outcomes {
		return bad("a certificate of %d parties", n)
	}
	return c.Signed.check()
}

// quorum verifies that q members of a roster signed in a round, or returns
// ErrMessage.
func (t *Terms) quorum(q *Quorum, epoch, attempt uint32, round uint8, roster []uint8, check checker) error {
	if len(q.Sigs) < int(t.Q) || len(q.Sigs) > int(t.N) {
		return fmt.Errorf("%w: %d signatures, of %d", ErrMessage, len(q.Sigs), t.Q)
	}
	v := Vote{Epoch: epoch, Attempt: attempt, View: q.View, Round: round, Value: q.Value}
	digest := v.digest(t)
	for i, s := range q.Sigs {
		if i > 0 && s.Party <= q.Sigs[i-1].Party || int(s.Party) >= len(t.Parties) || !slices.Contains(roster, s.Party) {
			return fmt.Errorf("%w: a signature of party %d", ErrMessage, s.Party)
		}
	}
	for _, s := range q.Sigs {
		if check(t.Parties[s.Party].Key, digest, s.Sig) != nil {
			return fmt.Errorf("%w: the signature of party %d", ErrMessage, s.Party)
		}
	}
	return nil
}

// start returns the roster of the first epoch, and the standbys.
func (t *Terms) start() (roster, bench []uint8) {
	for i := range t.Parties {
		if i < int(t.N) {
			roster = append(roster, uint8(i))
		} else {
			bench = append(bench, uint8(i))
		}
	}
	return roster, bench
}

// Verify verifies a certificate against the last known one (nil before the
// first): a quorum of the roster that the known one names signed it, and it
// follows. Certificates between may be missing as long as the roster is the
// same. Otherwise it returns ErrCert.
func (c *Certificate) Verify(t *Terms, known *Certificate) error {
	return c.verify(t, known, verify)
}

func (c *Certificate) verify(t *Terms, known *Certificate, check checker) error {
	if err := c.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrCert, err)
	}
	b, before := &c.Body, t.before(known)
	switch {
	case len(b.Paid) != len(t.Parties) || b.Epoch <= before.Epoch || b.Epoch > t.Epochs || before.Outcome != Running:
		return fmt.Errorf("%w: epoch %d after %d", ErrCert, b.Epoch, before.Epoch)
	case !slices.Equal(b.Roster, before.Next):
		return fmt.Errorf("%w: roster %v, not %v", ErrCert, b.Roster, before.Next)
	case b.Epoch == before.Epoch+1 && b.Prev != t.prev(known):
		return fmt.Errorf("%w: it follows another", ErrCert)
	case c.Signed.Value != b.digest(t):
		return fmt.Errorf("%w: signed is another body", ErrCert)
	}
	for i, p := range b.Paid {
		if p < before.Paid[i] || p-before.Paid[i] > b.Epoch-before.Epoch {
			return fmt.Errorf("%w: party %d from %d to %d pennies", ErrCert, i, before.Paid[i], p)
		}
	}
	// The next roster and bench together contain every party once.
	seen := make([]bool, len(t.Parties))
	for _, p := range slices.Concat(b.Next, b.Bench) {
		if int(p) >= len(seen) || seen[p] {
			return fmt.Errorf("%w: party %d", ErrCert, p)
		}
		seen[p] = true
	}
	if slices.Contains(seen, false) || len(b.Next) != int(t.N) {
		return fmt.Errorf("%w: a roster of %d", ErrCert, len(b.Next))
	}
	if err := t.quorum(&c.Signed, b.Epoch, b.Attempt, LockCert, b.Roster, check); err != nil {
		return fmt.Errorf("%w: %w", ErrCert, err)
	}
	return nil
}

// VerifyChain verifies certificates offline: each against its predecessor,
// starting from the job's terms. Those that change the roster must be included.
func VerifyChain(t *Terms, chain []Certificate) error {
	if err := t.Check(); err != nil {
		return err
	}
	var known *Certificate
	for i := range chain {
		if err := chain[i].Verify(t, known); err != nil {
			return err
		}
		known = &chain[i]
	}
	return nil
}

// before returns the known body, or the initial one.
func (t *Terms) before(known *Certificate) *Body {
	if known != nil {
		return &known.Body
	}
	b := &Body{Paid: make([]uint32, len(t.Parties)), Missed: make([]uint8, len(t.Parties))}
	b.Next, b.Bench = t.start()
	return b
}

// prev returns the digest that the next commits and certificate must name.
func (t *Terms) prev(known *Certificate) wire.Hash {
	if known == nil {
		return wire.Hash{}
	}
	return known.Body.digest(t)
}

// opens reports whether a reveal opens the commit of its party.
func (t *Terms) opens(r *Reveal, c *Commit, prev wire.Hash) bool {
	return r.Party == c.Party && r.Epoch == c.Epoch && r.Attempt == c.Attempt &&
		commitment(t, r.Epoch, prev, r.State, r.Outcome, r.Salt, r.Party) == c.Hash
}

// body computes the next body from the certificate before and a content, of which
// set is the value; ok is false if no quorum agrees. A party is paid if it is on the
// roster, its commit is in the set, and it opened to the quorum's result (invariant
// PaidEqualsCommitted). In later attempts that commit must be one of the first set,
// and n − q + 1 members, one of them honest, must have had its opening before they
// committed again: who withheld it is not paid. A party that was not paid for
// Patience consecutive epochs is replaced by the first standby that n − q + 1 members
// of the set name as alive; at most one in each epoch.
func (t *Terms) body(known *Certificate, attempt uint32, set wire.Hash, c *Content) (*Body, bool) {
	reveals := c.Reveals
	before := t.before(known)
	b := &Body{Epoch: before.Epoch + 1, Attempt: attempt, Prev: t.prev(known), Set: set, Paid: slices.Clone(before.Paid),
		Missed: slices.Clone(before.Missed), Roster: slices.Clone(before.Next), Next: slices.Clone(before.Next), Bench: slices.Clone(before.Bench)}
	ok := false
	for i := range reveals {
		if agreeing(reveals, &reveals[i]) >= int(t.Q) {
			b.State, b.Outcome, ok = reveals[i].State, reveals[i].Outcome, true
		}
	}
	if !ok {
		return nil, false
	}
	if attempt > 0 {
		reveals = slices.DeleteFunc(slices.Clone(c.FirstReveals), func(r Reveal) bool {
			return seenBy(c.Set, r.Party) <= int(t.N-t.Q)
		})
	}
	worst := -1
	for seat, p := range b.Roster {
		paid := slices.ContainsFunc(reveals, func(r Reveal) bool { return r.Party == p && r.State == b.State && r.Outcome == b.Outcome })
		if paid {
			b.Paid[p]++
			b.Missed[p] = 0
			continue
		}
		b.Missed[p] = min(b.Missed[p], 254) + 1
		if b.Missed[p] >= t.Patience && (worst < 0 || b.Missed[p] > b.Missed[b.Roster[worst]]) {
			worst = seat
		}
	}
	// The first standby that shows life: at least one honest member has heard it lately.
	standby := slices.IndexFunc(b.Bench, func(p uint8) bool { return seenBy(c.Set, p) > int(t.N-t.Q) })
	if worst >= 0 && standby >= 0 && b.Outcome == Running {
		gone := b.Roster[worst]
		b.Next[worst] = b.Bench[standby]
		b.Bench = append(slices.Delete(b.Bench, standby, standby+1), gone)
		b.Missed[gone] = 0
	}
	return b, true
}

// seenBy returns how many commits of a set have a party's bit.
func seenBy(set []Commit, p uint8) (n int) {
	for i := range set {
		n += int(set[i].Seen >> p & 1)
	}
	return n
}

// agreeing returns how many reveals have the same result as r.
func agreeing(reveals []Reveal, r *Reveal) (n int) {
	for i := range reveals {
		if reveals[i].State == r.State && reveals[i].Outcome == r.Outcome {
			n++
		}
	}
	return n
}

// TwoVotes proves that a party signed two values in one round of one view.
type TwoVotes struct {
	_    struct{} `cbor:",toarray"`
	A, B Vote
}

// TwoCommits proves that a party committed to two states in one attempt at an
// epoch.
type TwoCommits struct {
	_    struct{} `cbor:",toarray"`
	A, B Commit
}

// Opening is a signed commit and what opens it.
type Opening struct {
	_      struct{} `cbor:",toarray"`
	Commit Commit
	Reveal Reveal
}

// valid reports whether the commit is signed, and opened, after prev.
func (o *Opening) valid(t *Terms, prev wire.Hash) bool {
	c := &o.Commit
	return int(c.Party) < len(t.Parties) && t.opens(&o.Reveal, c, prev) && verify(t.Parties[c.Party].Key, c.digest(t), c.Sig) == nil
}

// TwoOpenings proves that a party committed to two results of one epoch, in two
// attempts.
type TwoOpenings struct {
	_    struct{}  `cbor:",toarray"`
	Prev wire.Hash // digest of the certificate before
	A, B Opening
}

// FalseState proves that a party committed to another result of an epoch than a
// quorum certified.
type FalseState struct {
	_ struct{} `cbor:",toarray"`
	// Rosters are the certificates before Certificate after which another roster
	// works, in order, so that its quorum is one of members.
	Rosters     []Certificate
	Certificate Certificate
	Opening     Opening
}

// maxRosters is the maximum number of rosters in a proof.
const maxRosters = 32

// MaxSize implements wire.Limited.
func (*TwoVotes) MaxSize() int    { return 8 + 2*maxOne }
func (*TwoCommits) MaxSize() int  { return 8 + 2*maxOne }
func (*TwoOpenings) MaxSize() int { return 64 + 4*maxOne }
func (*FalseState) MaxSize() int {
	return 64 + (maxRosters+1)*new(Certificate).MaxSize() + 2*maxOne
}

// Check implements wire.Limited.
func (p *TwoVotes) Check() error { return errors.Join(p.A.Check(), p.B.Check()) }

// Check implements wire.Limited.
func (p *TwoCommits) Check() error { return errors.Join(p.A.Check(), p.B.Check()) }

// Check implements wire.Limited.
func (p *TwoOpenings) Check() error { return errors.Join(p.A.check(), p.B.check()) }

// Check implements wire.Limited.
func (p *FalseState) Check() error {
	if len(p.Rosters) > maxRosters {
		return bad("a proof with %d rosters", len(p.Rosters))
	}
	for i := range p.Rosters {
		if err := p.Rosters[i].Check(); err != nil {
			return err
		}
	}
	return errors.Join(p.Certificate.Check(), p.Opening.check())
}

func (o *Opening) check() error { return errors.Join(o.Commit.Check(), o.Reveal.check()) }

// Against implements Proof.
func (p *TwoOpenings) Against(t *Terms) (Culprit, error) {
	a, b := &p.A.Reveal, &p.B.Reveal
	if a.Epoch != b.Epoch || a.Party != b.Party || a.State == b.State && a.Outcome == b.Outcome {
		return Culprit{}, fmt.Errorf("%w: the two do not conflict", ErrNoProof)
	}
	if !p.A.valid(t, p.Prev) || !p.B.valid(t, p.Prev) {
		return Culprit{}, fmt.Errorf("%w: not both are commits", ErrNoProof)
	}
	return Culprit{Party: a.Party}, nil
}

// Against implements Proof.
func (p *FalseState) Against(t *Terms) (Culprit, error) {
	b, r := &p.Certificate.Body, &p.Opening.Reveal
	if len(p.Rosters) > maxRosters || VerifyChain(t, append(slices.Clone(p.Rosters), p.Certificate)) != nil {
		return Culprit{}, fmt.Errorf("%w: no certificate", ErrNoProof)
	}
	if r.Epoch != b.Epoch || r.State == b.State && r.Outcome == b.Outcome || !p.Opening.valid(t, b.Prev) {
		return Culprit{}, fmt.Errorf("%w: the opening does not contradict it", ErrNoProof)
	}
	return Culprit{Party: r.Party}, nil
}

// Against implements Proof.
func (p *TwoVotes) Against(t *Terms) (Culprit, error) {
	a, b := p.A, p.B
	if a.Epoch != b.Epoch || a.Attempt != b.Attempt || a.View != b.View || a.Round != b.Round || a.Party != b.Party || a.Value == b.Value {
		return Culprit{}, fmt.Errorf("%w: the two do not conflict", ErrNoProof)
	}
	if int(a.Party) >= len(t.Parties) || verify(t.Parties[a.Party].Key, a.digest(t), a.Sig) != nil || verify(t.Parties[a.Party].Key, b.digest(t), b.Sig) != nil {
		return Culprit{}, fmt.Errorf("%w: a false signature", ErrNoProof)
	}
	return Culprit{Party: a.Party}, nil
}

// Against implements Proof.
func (p *TwoCommits) Against(t *Terms) (Culprit, error) {
	a, b := p.A, p.B
	if a.Epoch != b.Epoch || a.Attempt != b.Attempt || a.Party != b.Party || a.Hash == b.Hash && a.Seen == b.Seen {
		return Culprit{}, fmt.Errorf("%w: the two do not conflict", ErrNoProof)
	}
	if int(a.Party) >= len(t.Parties) || verify(t.Parties[a.Party].Key, a.digest(t), a.Sig) != nil || verify(t.Parties[a.Party].Key, b.digest(t), b.Sig) != nil {
		return Culprit{}, fmt.Errorf("%w: a false signature", ErrNoProof)
	}
	return Culprit{Party: a.Party}, nil
}
