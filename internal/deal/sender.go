package deal

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// SenderPhase is the phase of a message as its sender knows it.
type SenderPhase uint8

// The phases of Sender.
const (
	SenderQuoting    SenderPhase = iota // agents are asked
	SenderSealing                       // the chosen agents' copies are hashed
	SenderFunding                       // coins are picked
	SenderPlacing                       // the agents are being given packages and copies
	SenderPublishing                    // the funding is signed and may have been sent
	SenderPublished                     // broadcast; from here on only the chain counts
	SenderFailed                        // given up before anything was paid
)

var senderPhases = []string{"quoting", "sealing", "funding", "placing", "publishing", "published", "failed"}

func (p SenderPhase) String() string { return name(senderPhases, uint8(p)) }

func name(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("phase %d", i)
}

// maxAttempts is how often a message is negotiated if an agent that quoted does
// not accept its copy.
const maxAttempts = 4

// Terms are the terms of a message. They never change.
type Terms struct {
	Recipient   wire.Key
	Ephemeral   wire.Secret // e; E = eG has even y
	PayloadHash wire.Hash   // BLAKE3 of P
	PayloadSize uint64
	Key         wire.MessageKey
	Agents      int
	Shape       wire.Shape
	MaxCost     wire.Sat // of frozen outputs and funding fee together
	Blocks      uint32   // of storage
	Candidates  []Candidate
	Seed        wire.Secret // of sessions and blindings
	RefundKey   wire.Secret // S′
	Subject     string      // for people
	RefundTo    []byte      // script of the refund's output
	Margins     Margins
	Created     int64 // Unix time, for people
}

// Leg is one agent's part in a message.
type Leg struct {
	Candidate Candidate
	Quote     wire.Quote
	CopyHash  wire.Hash
	PreSig    wire.PreSignature
	Vout      uint32
	Held      bool   // the agent's receipt is here
	Refused   string // reason why it did not accept the copy
	Ack       []byte // the recipient's acknowledgement received from it, opened (seal.Ack), or empty
}

// Sender is the sender's side of one message.
type Sender struct {
	Terms     Terms
	Phase     SenderPhase
	Attempt   uint8
	Excluded  []wire.Key // agents that failed in an earlier attempt
	Legs      []Leg
	Frozen    []wire.Frozen // one per output
	Values    []wire.Sat    // of the frozen outputs
	Spends    []*SpendFact  // per output
	Fee       wire.Sat      // of the funding
	Funding   []byte        // without witnesses
	Txid      wire.Hash
	Inputs    []wire.Outpoint // of the funding
	Confirmed *contract.Fact
	Conflict  *contract.Fact // another transaction that took an input
	Refund    *contract.Sent
	Apart     bool             `cbor:",omitempty"` // a joint refund was refused: each output has its own
	Refunds   []*contract.Sent `cbor:",omitempty"` // of each output, if apart
	Left      wire.Height      `cbor:",omitempty"` // tip since which the rest is not worth the fee of a refund, or 0
	Tip       wire.Height      // last block reported
	Failure   string
	Discarded bool
	Waiting   bool   // for coins, while funding
	FailedBy  string // the name of the sentinel error: "price", "agents", "funds", "rejected", "cancelled", "restored"
}

// NewSender starts a message. Its payload must already be encrypted and stored.
func NewSender(t Terms) (Sender, []Effect, error) {
	if t.Agents < 1 || t.Agents > wire.MaxAgents {
		return Sender{}, nil, fmt.Errorf("%w: %d requested, 1 to %d are possible", ErrTooFewAgents, t.Agents, wire.MaxAgents)
	}
	if len(t.Candidates) < t.Agents {
		return Sender{}, nil, fmt.Errorf("%w: %d known, %d wanted", ErrTooFewAgents, len(t.Candidates), t.Agents)
	}
	s := Sender{Terms: t}
	ask, err := s.ask()
	return s, []Effect{ask}, err
}

// E returns the message's ephemeral key.
func (t *Terms) E() (wire.Key, error) {
	k, err := t.Ephemeral.PrivKey()
	if err != nil {
		return wire.Key{}, err
	}
	return wire.XOnly(k.PubKey()), nil
}

// SessionFor returns the session of one agent in one attempt.
func SessionFor(seed wire.Secret, agent wire.Key) wire.Hash {
	return wire.Tagged("session", seed[:], agent[:])
}

// seed returns the current attempt's seed.
func (s *Sender) seed() wire.Secret {
	return wire.Secret(wire.Tagged("attempt", s.Terms.Seed[:], []byte{s.Attempt}))
}

func (s *Sender) ask() (Effect, error) {
	e, err := s.Terms.E()
	if err != nil {
		return nil, err
	}
	a := AskQuotes{Seed: s.seed(), E: e, Size: seal.SealedSize(s.Terms.PayloadSize), Shape: s.Terms.Shape,
		Blocks: s.Terms.Blocks, Slack: s.Terms.Margins.Slack}
	for _, c := range s.Terms.Candidates {
		if !slices.Contains(s.Excluded, c.Agent) {
			a.Candidates = append(a.Candidates, c)
		}
	}
	return a, nil
}

// Step is the sender's transition function.
func (s Sender) Step(ev Event) (Sender, []Effect, error) {
	s.Legs = slices.Clone(s.Legs)
	s.Spends, s.Refunds = slices.Clone(s.Spends), slices.Clone(s.Refunds)
	switch ev := ev.(type) {
	case Quoted:
		return s.quoted(ev)
	case CopiesSealed:
		return s.sealed(ev)
	case NoCoins:
		if s.Phase != SenderFunding {
			return s, nil, nil
		}
		if ev.Need <= ev.Soon {
			s.Waiting = true // each block asks again
			return s, nil, nil
		}
		return s.fail("funds", fmt.Errorf("%w: %v needed, %v there", ErrNoFunds, ev.Need, ev.Have))
	case CoinsLocked:
		return s.fund(ev)
	case Placed:
		return s.placed(ev)
	case NotPlaced:
		return s.notPlaced(ev)
	case Broadcasted:
		return s.broadcasted(ev)
	case AckArrived:
		return s.acked(ev)
	case NothingNew:
		return s, nil, nil
	case Restored:
		// Since the backup, agents may have been asked again and the message
		// paid for; a second funding would pay twice. A funding that was built
		// may have been published: it stays watched, and its frozen outputs are
		// refunded.
		if s.Phase < SenderPublishing {
			n, effects, err := s.fail("restored", ErrRestored)
			n.Funding = s.Funding
			return n, effects, err
		}
		return s, nil, nil
	case CoinsFreed:
		if s.Phase == SenderFunding && s.Waiting {
			return s.again()
		}
		return s, nil, nil
	case Cancelled:
		if s.Phase >= SenderPublishing {
			return s, nil, fmt.Errorf("%w: its funding is signed and may have been sent", ErrTooLate)
		}
		return s.fail("cancelled", ErrCancelled)
	case Discarded:
		if !s.Interest().Done && (s.Left == 0 || s.mayRevive()) {
			return s, nil, fmt.Errorf("%w: it is not finished, or its money is not back", ErrTooEarly)
		}
		s.Discarded = true
		return s, nil, nil
	case Connected:
		return s.connected(ev)
	case Disconnected:
		return s.disconnected(ev)
	}
	return s, nil, fmt.Errorf("%w: %T to a sender", ErrWrongPhase, ev)
}

func (s Sender) fail(by string, err error) (Sender, []Effect, error) {
	if s.Phase < SenderPublishing {
		s.Funding = nil // never signed: nothing to watch for
	}
	s.Phase, s.FailedBy, s.Failure = SenderFailed, by, wire.Clean(err.Error())
	return s, []Effect{UnlockCoins{}, DropPayload{}}, nil
}

// quoted selects the best agents with valid quotes.
func (s Sender) quoted(ev Quoted) (Sender, []Effect, error) {
	if s.Phase != SenderQuoting {
		return s, nil, nil
	}
	var good []wire.Quote
	why := ev.Why
	for _, q := range ev.Quotes {
		if err := s.checkQuote(&q, ev.Height); err != nil {
			why = append(why, fmt.Sprintf("%s: %v", short(q.Agent), err))
			continue
		}
		dup := func(o wire.Quote) bool { return o.Agent == q.Agent || o.Point == q.Point }
		if !slices.ContainsFunc(good, dup) {
			good = append(good, q)
		}
	}
	if len(good) < s.Terms.Agents {
		return s.fail("agents", fmt.Errorf("%w: %d of %d agents gave a usable quote %q", ErrTooFewAgents, len(good), s.Terms.Agents, why))
	}
	var offers []choose.Offer
	for _, q := range good {
		offers = append(offers, choose.Offer{Agent: q.Agent, Value: q.Value, Prefix: s.candidate(q.Agent).Prefix})
	}
	price := func(picked []int) (total wire.Sat) {
		if s.Terms.Shape == wire.PerAgent {
			return choose.Sum(offers, picked)
		}
		for _, i := range picked {
			total = max(total, offers[i].Value) // the largest: every agent must get its price
		}
		return total
	}
	picked := choose.Pick(offers, s.Terms.Agents, wire.Hash(s.seed()), func(p []int) bool { return price(p) <= s.Terms.MaxCost })
	total := price(picked)
	s.Legs, s.Values = nil, nil
	for i, n := range picked {
		q := good[n]
		leg := Leg{Candidate: *s.candidate(q.Agent), Quote: q}
		if s.Terms.Shape == wire.PerAgent {
			leg.Vout = uint32(i)
			s.Values = append(s.Values, q.Value)
		}
		s.Legs = append(s.Legs, leg)
	}
	if s.Terms.Shape == wire.OneOfMany {
		s.Values = []wire.Sat{total}
	}
	if total > s.Terms.MaxCost {
		return s.fail("price", fmt.Errorf("%w: the agents ask for %v, the cap is %v", ErrPrice, total, s.Terms.MaxCost))
	}
	seal := SealCopies{Ephemeral: s.Terms.Ephemeral, Key: s.Terms.Key}
	for _, l := range s.Legs {
		seal.Legs = append(seal.Legs, SealFor{Agent: l.Candidate.Agent, Point: l.Quote.Point})
	}
	s.Phase = SenderSealing
	return s, []Effect{seal}, nil
}

// candidate returns the candidate with this key, or nil if it was not asked.
func (s *Sender) candidate(agent wire.Key) *Candidate {
	return &s.Terms.Candidates[slices.IndexFunc(s.Terms.Candidates, func(c Candidate) bool { return c.Agent == agent })]
}

func (s *Sender) checkQuote(q *wire.Quote, height wire.Height) error {
	e, err := s.Terms.E()
	if err != nil {
		return err
	}
	if err := q.Check(); err != nil {
		return err
	}
	t := &s.Terms
	asked := func(c Candidate) bool { return c.Agent == q.Agent }
	switch {
	case !slices.ContainsFunc(t.Candidates, asked) || slices.Contains(s.Excluded, q.Agent):
		return fmt.Errorf("%w: from an agent that was not asked", ErrBadQuote)
	case q.Session != SessionFor(s.seed(), q.Agent) || q.E != e:
		return fmt.Errorf("%w: for another message", ErrBadQuote)
	case q.Size != seal.SealedSize(t.PayloadSize) || q.Shape != t.Shape:
		return fmt.Errorf("%w: for another size or shape", ErrBadQuote)
	case q.StoreUntil != height+wire.Height(t.Blocks) || q.Expiry != q.StoreUntil+wire.Height(t.Margins.Slack):
		return fmt.Errorf("%w: for other heights", ErrBadQuote)
	case q.ValidUntil < height+wire.Height(2*t.Margins.RevealConf):
		return fmt.Errorf("%w: not valid for long enough", ErrBadQuote)
	}
	price, err := wire.StoragePrice(q.Rate, q.Size, uint32(q.StoreUntil-q.From), t.Margins.BlocksPerDay)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadQuote, err)
	}
	if least := Reserve(contract.MinFeeRate, q.Expiry, q.Shape); q.Reserve < least {
		return fmt.Errorf("%w: a reserve of %v, at least %v is needed to claim or refund the output", ErrBadQuote, q.Reserve, least)
	}
	if q.Value != price.Sat()+q.Reserve {
		return fmt.Errorf("%w: value is not price and reserve", ErrBadQuote)
	}
	if err := q.Point.Verify(wire.KnowledgeDigest(q.Agent, q.E, q.Session, q.Point), q.Knowledge); err != nil {
		return fmt.Errorf("%w: point without knowledge of τ", ErrBadQuote)
	}
	if err := q.Agent.Verify(q.Digest(), q.Sig); err != nil {
		return fmt.Errorf("%w: %w", ErrBadQuote, err)
	}
	return nil
}

func (s Sender) sealed(ev CopiesSealed) (Sender, []Effect, error) {
	if s.Phase != SenderSealing {
		return s, nil, nil
	}
	if len(ev.Hashes) != len(s.Legs) {
		return s, nil, fmt.Errorf("%w: %d hashes for %d legs", ErrWrongPhase, len(ev.Hashes), len(s.Legs))
	}
	for i := range s.Legs {
		s.Legs[i].CopyHash = ev.Hashes[i]
	}
	s.Phase = SenderFunding
	return s, []Effect{LockCoins{Amount: s.amount(), Frozen: len(s.Values)}}, nil
}

func (s *Sender) amount() (sum wire.Sat) {
	for _, v := range s.Values {
		sum += v
	}
	return sum
}

// fund builds the frozen outputs, the root, the funding transaction and every
// pre-signature, and gives each agent its package. No input of the funding is
// signed before all agents hold their copies.
func (s Sender) fund(ev CoinsLocked) (Sender, []Effect, error) {
	if s.Phase != SenderFunding {
		return s, nil, nil
	}
	s.Waiting = false
	if total := s.amount() + ev.Fee; total > s.Terms.MaxCost {
		return s.fail("price", fmt.Errorf("%w: %v with the funding's fee, the cap is %v", ErrPrice, total, s.Terms.MaxCost))
	}
	if len(ev.Inputs) == 0 {
		return s, nil, fmt.Errorf("%w: no inputs", ErrWrongPhase)
	}
	sec, err := seal.FromSender(s.Terms.Ephemeral, s.Terms.Recipient)
	if err != nil {
		return s, nil, err
	}
	e, err := s.Terms.E()
	if err != nil {
		return s, nil, err
	}
	refund, err := s.Terms.RefundKey.PrivKey()
	if err != nil {
		return s, nil, err
	}
	leaves, hashes := s.leaves(sec)
	var claims []wire.ClaimLeaf
	for i, l := range s.Legs {
		sender, err := sec.SenderKey(l.Candidate.Agent).PrivKey()
		if err != nil {
			return s, nil, err
		}
		claims = append(claims, wire.ClaimLeaf{ReleaseHash: leaves[i].ReleaseHash, SenderKey: wire.XOnly(sender.PubKey()), ClaimKey: l.Quote.ClaimKey})
	}
	s.Frozen = nil
	for i := range s.Values {
		seed := s.seed()
		f := wire.Frozen{Blinding: wire.Secret(wire.Tagged("blinding", seed[:], []byte{byte(i)})),
			Expiry: s.Legs[0].Quote.Expiry, RefundKey: wire.XOnly(refund.PubKey()), Claims: claims}
		if s.Terms.Shape == wire.PerAgent {
			f.Claims = claims[i : i+1]
		}
		s.Frozen = append(s.Frozen, f)
	}
	outputs, err := s.outputs()
	if err != nil {
		return s, nil, err
	}
	var frozen []*btcwire.TxOut
	for i, o := range outputs {
		frozen = append(frozen, btcwire.NewTxOut(int64(s.Values[i]), o.PkScript()))
	}
	root, err := seal.Root(hashes)
	if err != nil {
		return s, nil, err
	}
	marker := seal.Marker{Root: root, E: e, MaskedLocator: sec.Mask(s.Terms.Key.Locator()), Tag: sec.Tag(seal.Outpoint(ev.Inputs[0].Bytes()))}.Encode()
	var change *btcwire.TxOut
	if ev.Change > 0 {
		change = btcwire.NewTxOut(int64(ev.Change), ev.ChangeScript)
	}
	tx, err := contract.Funding(ev.Inputs, frozen, marker[:], change)
	if err != nil {
		return s, nil, err
	}
	s.Funding, s.Txid, s.Fee, s.Inputs = contract.EncodeTx(tx), contract.Txid(tx), ev.Fee, ev.Inputs
	s.Spends = make([]*SpendFact, len(s.Values))
	s.Phase = SenderPlacing
	var effects []Effect
	for i := range s.Legs {
		l := &s.Legs[i]
		agent := l.Candidate.Agent
		digest, err := outputs[l.Vout].ClaimDigest(s.claimIndex(i), s.outpoint(l.Vout), s.Values[l.Vout])
		if err != nil {
			return s, nil, err
		}
		if l.PreSig, err = contract.PreSign(sec.SenderKey(agent), sec.NonceKey(agent), l.Quote.Point, digest); err != nil {
			return s, nil, err
		}
		section, err := section(leaves, hashes, i)
		if err != nil {
			return s, nil, err
		}
		grant, err := grant(sec, i, agent)
		if err != nil {
			return s, nil, err
		}
		effects = append(effects, Place{Candidate: l.Candidate, Ephemeral: s.Terms.Ephemeral, Package: wire.Package{
			Session: l.Quote.Session, Funding: s.Funding, Vout: l.Vout, Frozen: s.Frozen[l.Vout],
			Section: section, PreSig: l.PreSig, FetchKey: sec.FetchKey(agent), Grant: grant}})
	}
	return s, effects, nil
}

// leaves returns the leaves under the root, one for each leg, with their
// hashes.
func (s *Sender) leaves(sec *seal.Secrets) (leaves []wire.Leaf, hashes []wire.Hash) {
	for _, l := range s.Legs {
		sigma := sec.ReleaseSecret(l.Candidate.Agent)
		leaf := wire.Leaf{Agent: l.Candidate.Agent, CopyHash: l.CopyHash, Size: l.Quote.Size, Point: l.Quote.Point,
			ReleaseHash: wire.Hash(sha256.Sum256(sigma[:])), Key: s.Terms.Key}
		leaves, hashes = append(leaves, leaf), append(hashes, leaf.Hash())
	}
	return leaves, hashes
}

// section leads from leaf i to the root.
func section(leaves []wire.Leaf, hashes []wire.Hash, i int) (wire.Section, error) {
	path, err := seal.Section(hashes, i)
	return wire.Section{Leaf: leaves[i], Index: uint8(i), Count: uint8(len(leaves)), Path: path}, err
}

// grant authorises the agent of leg i to publish in the DHT that it holds the
// message.
func grant(sec *seal.Secrets, i int, agent wire.Key) (g wire.Grant, err error) {
	key := sec.HoldingKey(uint8(i))
	owner, err := key.PrivKey()
	if err != nil {
		return g, err
	}
	g = wire.Grant{Owner: wire.XOnly(owner.PubKey()), Agent: agent}
	g.Sig, err = wire.Sign(key, g.Digest())
	return g, err
}

// claimIndex returns the index of leg i's claim leaf in its output.
func (s *Sender) claimIndex(i int) int {
	if s.Terms.Shape == wire.OneOfMany {
		return i
	}
	return 0
}

func (s *Sender) outputs() (outs []*contract.Output, err error) {
	for _, f := range s.Frozen {
		o, err := contract.NewOutput(f)
		if err != nil {
			return nil, err
		}
		outs = append(outs, o)
	}
	return outs, nil
}

func (s *Sender) outpoint(vout uint32) wire.Outpoint {
	return wire.Outpoint{Txid: s.Txid, Vout: vout}
}

func (s *Sender) leg(agent wire.Key) *Leg {
	for i := range s.Legs {
		if s.Legs[i].Candidate.Agent == agent {
			return &s.Legs[i]
		}
	}
	return nil
}

func (s Sender) placed(ev Placed) (Sender, []Effect, error) {
	l := s.leg(ev.Receipt.Agent)
	if s.Phase != SenderPlacing || l == nil || l.Held {
		return s, nil, nil
	}
	l.Held = true
	s.Tip = max(s.Tip, ev.Height)
	return s.allAnswered()
}

func (s Sender) notPlaced(ev NotPlaced) (Sender, []Effect, error) {
	l := s.leg(ev.Agent)
	if s.Phase != SenderPlacing || l == nil || l.Held || l.Refused != "" {
		return s, nil, nil
	}
	l.Refused = cmp.Or(wire.Clean(ev.Why), "no answer")
	return s.allAnswered()
}

// publishUntil returns the height from which the funding would confirm too late
// for some quote.
func (s *Sender) publishUntil() wire.Height {
	until := wire.Height(wire.MaxHeight)
	for _, l := range s.Legs {
		until = min(until, before(l.Quote.ValidUntil, s.Terms.Margins.RevealConf-1))
	}
	return until
}

// allAnswered publishes once every agent holds its copy. Otherwise it starts
// again without the agents that do not; their points are never used again.
func (s Sender) allAnswered() (Sender, []Effect, error) {
	var why []string
	until := s.publishUntil()
	for i := range s.Legs {
		l := &s.Legs[i]
		if l.Held && s.Tip >= until && l.Quote.ValidUntil < s.Tip+wire.Height(2*s.Terms.Margins.RevealConf) {
			l.Refused = "its quote expired while others were slow"
		}
		switch {
		case l.Refused != "":
			why = append(why, fmt.Sprintf("%s: %s", short(l.Candidate.Agent), l.Refused))
		case !l.Held:
			return s, nil, nil
		}
	}
	if len(why) == 0 {
		s.Phase = SenderPublishing
		return s, []Effect{Publish{Tx: s.Funding, RefundTo: s.Terms.RefundTo, Until: until}}, nil
	}
	for _, l := range s.Legs {
		if l.Refused != "" {
			s.Excluded = append(slices.Clone(s.Excluded), l.Candidate.Agent)
		}
	}
	if s.Attempt++; s.Attempt >= maxAttempts || len(s.Terms.Candidates)-len(s.Excluded) < s.Terms.Agents {
		return s.fail("agents", fmt.Errorf("%w: %q", ErrTooFewAgents, why))
	}
	return s.restart()
}

// restart asks for quotes again, in a new attempt. No funding may be signed.
func (s Sender) restart() (Sender, []Effect, error) {
	s.Phase, s.Legs, s.Frozen, s.Values, s.Spends, s.Funding, s.Txid = SenderQuoting, nil, nil, nil, nil, nil, wire.Hash{}
	s.Fee, s.Inputs = 0, nil
	ask, err := s.ask()
	return s, []Effect{UnlockCoins{}, ask}, err
}

func (s Sender) broadcasted(ev Broadcasted) (Sender, []Effect, error) {
	if s.Phase != SenderPublishing {
		return s.refundTold(ev)
	}
	if ev.Err == "" || s.Confirmed != nil {
		s.Phase = SenderPublished
		return s, nil, nil
	}
	if ev.TooLow && s.Attempt+1 < maxAttempts {
		// Nothing is signed: start again, with quotes and a fee of the moment.
		// The agents' points are never used again.
		s.Attempt++
		return s.restart()
	}
	// The funding stays watched: if it confirms after all, the message
	// continues.
	return s.fail("rejected", fmt.Errorf("%w: %s", ErrRejected, ev.Err))
}

// refundTold hears what the network said to a refund; of a funding that was sent
// again, the chain shows the outcome. If a replacement is refused, the refund that
// it was to replace counts again. If a joint refund that replaces none is refused
// for another reason than its fee, it may compete with a claim of one output, which
// must not hold up the others.
func (s Sender) refundTold(ev Broadcasted) (Sender, []Effect, error) {
	told := func(sent *contract.Sent) (*contract.Sent, []Effect) {
		next, again, _ := sent.Told(ev.Txid, ev.Err != "", ev.TooLow)
		if again {
			return next, []Effect{Broadcast{Tx: next.Tx}}
		}
		return next, nil
	}
	if s.Refund != nil && s.Refund.Txid == ev.Txid {
		next, effects := told(s.Refund)
		s.Refund = next
		s.Apart = s.Apart || next.Gone && !ev.TooLow
		return s, effects, nil
	}
	for i, r := range s.Refunds {
		if r != nil && r.Txid == ev.Txid {
			next, effects := told(r)
			s.Refunds = slices.Clone(s.Refunds)
			s.Refunds[i] = next
			return s, effects, nil
		}
	}
	return s, nil, nil
}

func (s Sender) acked(ev AckArrived) (Sender, []Effect, error) {
	l := s.leg(ev.Agent)
	if l == nil || len(l.Ack) > 0 || len(s.Frozen) == 0 {
		return s, nil, nil
	}
	sec, err := seal.FromSender(s.Terms.Ephemeral, s.Terms.Recipient)
	if err != nil {
		return s, nil, err
	}
	e, err := s.Terms.E()
	if err != nil {
		return s, nil, err
	}
	root, err := s.root()
	if err != nil {
		return s, nil, err
	}
	_, hashes := s.leaves(sec)
	i := slices.IndexFunc(s.Legs, func(l Leg) bool { return l.Candidate.Agent == ev.Agent })
	ack, err := seal.OpenAck(ev.Blob, sec.AckKey(ev.Agent), s.Terms.Recipient, e, root, hashes[i])
	if err != nil {
		return s, nil, nil // an agent's word alone proves nothing
	}
	l.Ack = ack[:]
	return s, nil, nil
}

// root returns the root from the funding's marker.
func (s *Sender) root() (wire.Hash, error) {
	tx, err := contract.DecodeTx(s.Funding)
	if err != nil {
		return wire.Hash{}, err
	}
	data, _ := contract.Marker(tx)
	m, err := seal.DecodeMarker(data)
	return m.Root, err
}

// mayRevive reports whether a reorg could bring outputs back that are spent now:
// the key to refund them must be kept.
func (s *Sender) mayRevive() bool {
	return slices.ContainsFunc(s.Spends, func(f *SpendFact) bool { return f != nil && f.Depth(s.Tip) < s.Terms.Margins.Final })
}

func (s Sender) connected(ev Connected) (Sender, []Effect, error) {
	s.Tip = max(s.Tip, ev.Height)
	if s.Phase == SenderFunding && s.Waiting {
		return s.again()
	}
	if s.Phase < SenderPublishing || len(s.Frozen) == 0 {
		return s, nil, nil
	}
	outs, err := s.outputs()
	if err != nil {
		return s, nil, err
	}
	var effects []Effect
	for _, tx := range ev.Txs {
		if s.conflicts(tx) {
			s.Conflict = &contract.Fact{Height: ev.Height, Txid: contract.Txid(tx)}
		}
		if contract.Txid(tx) == s.Txid {
			s.Confirmed = &contract.Fact{Height: ev.Height, Txid: s.Txid}
			effects = append(effects, DropPayload{}) // the agents have it
		}
		for i, o := range outs {
			if f := readSpend(o, s.outpoint(uint32(i)), tx, ev.Height); f != nil {
				s.Spends[i] = f
			}
		}
	}
	switch {
	case s.Confirmed == nil && s.Phase == SenderFailed:
		// The funding was refused once and is still watched.
	case s.Confirmed == nil && s.Conflict.Depth(s.Tip) >= s.Terms.Margins.Final:
		n, more, err := s.fail("rejected", fmt.Errorf("%w: its coins were spent by %s", ErrRejected, s.Conflict.Txid))
		return n, append(effects, more...), err
	case s.Confirmed == nil && ev.Height >= s.Frozen[0].Expiry:
		n, more, err := s.fail("rejected", fmt.Errorf("%w: no block included its funding in time", ErrRejected))
		return n, append(effects, more...), err
	case s.Confirmed == nil:
		effects = append(effects, Publish{Tx: s.Funding, RefundTo: s.Terms.RefundTo, Until: s.publishUntil()})
	case ev.Height >= s.Frozen[0].Expiry && slices.Contains(s.Spends, nil):
		refund, err := s.refund(ev)
		if err != nil {
			return s, nil, err
		}
		effects = append(effects, refund...)
	case !s.Delivered():
		effects = append(effects, s.polls()...)
	}
	return s, effects, nil
}

// again requests coins once more or, if the quotes expire, new quotes.
func (s Sender) again() (Sender, []Effect, error) {
	s.Waiting = false
	for _, l := range s.Legs {
		if s.Tip+wire.Height(2*s.Terms.Margins.RevealConf) > l.Quote.ValidUntil {
			s.Phase, s.Legs, s.Values = SenderQuoting, nil, nil
			ask, err := s.ask()
			return s, []Effect{ask}, err
		}
	}
	return s, []Effect{LockCoins{Amount: s.amount(), Frozen: len(s.Values)}}, nil
}

// conflicts reports whether tx spends a coin that the funding needs.
func (s *Sender) conflicts(tx contract.Tx) bool {
	if contract.Txid(tx) == s.Txid {
		return false
	}
	for _, o := range s.Inputs {
		if contract.Spends(tx, o) >= 0 {
			return true
		}
	}
	return false
}

// polls asks every agent whose output is unspent for an acknowledgement.
func (s *Sender) polls() (effects []Effect) {
	for _, l := range s.Legs {
		if s.Spends[l.Vout] == nil {
			effects = append(effects, Poll{Candidate: l.Candidate,
				Request: wire.StatusRequest{Session: l.Quote.Session, Point: l.Quote.Point}})
		}
	}
	return effects
}

// Unspent returns the outputs that the sender can take back.
func (s *Sender) Unspent() (list []contract.Refund, err error) {
	outs, err := s.outputs()
	if err != nil {
		return nil, err
	}
	for i, o := range outs {
		if s.Spends[i] == nil {
			list = append(list, contract.Refund{Output: o, At: s.outpoint(uint32(i)), Value: s.Values[i], Key: s.Terms.RefundKey})
		}
	}
	return list, nil
}

// refund takes back every unspent output in one transaction, or in one each if a
// joint one was refused. Its fee follows the estimate until it confirms
// (spec/batch.md). What is not worth the fee for a day after the expiry is left
// to be gathered with what other messages have left.
func (s *Sender) refund(ev Connected) (effects []Effect, err error) {
	list, err := s.Unspent()
	if err != nil {
		return nil, err
	}
	if s.Apart && s.Refunds == nil {
		s.Refunds = make([]*contract.Sent, len(s.Values))
	}
	if s.Apart {
		for i := range list {
			tx, err := s.refundOf(list[i:i+1], &s.Refunds[list[i].At.Vout], ev)
			if err != nil {
				return nil, err
			}
			effects = append(effects, tx...)
		}
	} else if effects, err = s.refundOf(list, &s.Refund, ev); err != nil {
		return nil, err
	}
	switch {
	case len(effects) > 0:
		s.Left = 0
	case ev.Height >= s.Frozen[0].Expiry+wire.Height(s.Terms.Margins.BlocksPerDay):
		if s.Left == 0 {
			s.Left = ev.Height
		}
		effects = []Effect{Gather{}}
	}
	return effects, nil
}

// refundOf builds or repeats one refund; prev is the last one of these outputs.
// It returns nothing if they are not worth the fee.
func (s *Sender) refundOf(list []contract.Refund, prev **contract.Sent, ev Connected) ([]Effect, error) {
	tx, fee, err := contract.BuildRefund(list, s.Terms.RefundTo, min(ev.FeeRate, wire.MaxFeeRate), 0)
	if errors.Is(err, contract.ErrUneconomic) {
		// Left on the chain until fees fall; an earlier refund of the same outputs,
		// at a lower rate, may still confirm.
		if *prev != nil {
			if free, _, err := contract.BuildRefund(list, s.Terms.RefundTo, 0, 0); err == nil && (*prev).Spends(free) {
				return []Effect{Broadcast{Tx: (*prev).Tx}}, nil
			}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The same outputs: replaced once the estimate has risen by what a replacement
	// costs, and the network has answered the last one; or else sent again.
	old := *prev
	same := old != nil && old.Spends(tx)
	if !same || old.Gone || old.Before == nil && fee >= (batch.Market{Increment: ev.Increment}).Outbid(old, contract.Weight(tx)) {
		*prev = contract.NewSent(tx, fee, ev.Height)
		if same && !old.Gone {
			before := *old
			before.Before = nil
			(*prev).Before = &before
		}
	}
	return []Effect{Broadcast{Tx: (*prev).Tx}}, nil
}

// Rest returns the value of the outputs that are not worth the fee of a refund.
func (s *Sender) Rest() (sum wire.Sat) {
	if s.Left == 0 {
		return 0
	}
	for i, f := range s.Spends {
		if f == nil {
			sum += s.Values[i]
		}
	}
	return sum
}

func (s Sender) disconnected(ev Disconnected) (Sender, []Effect, error) {
	if s.Confirmed != nil && s.Confirmed.Height >= ev.Height {
		s.Confirmed = nil
	}
	if s.Conflict != nil && s.Conflict.Height >= ev.Height {
		s.Conflict = nil
	}
	for i, f := range s.Spends {
		if f != nil && f.Height >= ev.Height {
			s.Spends[i] = nil
		}
	}
	if s.Left >= ev.Height {
		s.Left = 0
	}
	if s.Tip >= ev.Height {
		s.Tip = ev.Height - 1
	}
	return s, nil, nil
}

// Receipt reports whether output i was spent by a claim that completes the
// derived pre-signature. Such a claim is a delivery receipt (spec/delivery.md
// §8).
func (s *Sender) Receipt(i int) bool {
	f := s.Spends[i]
	if f == nil || f.Claim < 0 {
		return false
	}
	l := &s.Legs[i]
	if s.Terms.Shape == wire.OneOfMany {
		l = &s.Legs[f.Claim]
	}
	_, err := contract.ExtractTau(l.PreSig, f.Sig, l.Quote.Point)
	return err == nil
}

// Delivered reports whether the recipient has the message: there is a receipt
// on the chain, or its acknowledgement.
func (s *Sender) Delivered() bool {
	for i := range s.Spends {
		if s.Receipt(i) {
			return true
		}
	}
	return slices.ContainsFunc(s.Legs, func(l Leg) bool { return len(l.Ack) > 0 })
}

// Stored returns how many agents hold the message against a confirmed funding.
func (s *Sender) Stored() (n int) {
	for _, l := range s.Legs {
		if l.Held && s.Confirmed != nil && s.Confirmed.Height <= l.Quote.ValidUntil {
			n++
		}
	}
	return n
}

// State returns the displayed state: queued, stored, delivered, refunded,
// failed. A message that was not delivered and of which something is left that is
// not worth the fee of a refund is refunded if anything came back, or else failed.
func (s *Sender) State() string {
	refunded, back := len(s.Spends) > 0, false
	for _, f := range s.Spends {
		refunded = refunded && f != nil && f.Claim == -1
		back = back || f != nil && f.Claim == -1
	}
	switch {
	case s.Delivered():
		return "delivered"
	case refunded || s.Left > 0 && back:
		return "refunded"
	case s.Left > 0:
		return "failed"
	case s.Stored() > 0:
		return "stored"
	case s.Phase == SenderFailed:
		return "failed"
	}
	return "queued"
}

// Interest implements the engine's view of the contract.
func (s Sender) Interest() contract.Interest {
	in := contract.Interest{Top: s.Tip, Done: s.Phase == SenderFailed && len(s.Funding) == 0, Forget: s.Discarded}
	if s.Phase == SenderFunding && s.Waiting {
		in.Wake = 1
	}
	if s.Phase < SenderPublishing || len(s.Funding) == 0 {
		return in
	}
	in.Txids = []wire.Hash{s.Txid}
	if s.Confirmed == nil {
		in.Outpoints = slices.Clone(s.Inputs)
	}
	open, last := false, wire.Height(0)
	for i, f := range s.Spends {
		in.Outpoints = append(in.Outpoints, s.outpoint(uint32(i)))
		if f == nil {
			open = true
			continue
		}
		last = max(last, f.Height)
	}
	final := last + wire.Height(s.Terms.Margins.Final) - 1
	switch {
	case s.Confirmed == nil && s.Phase == SenderFailed:
		// It is over if it can no longer be paid for, or was not in all its
		// time.
		end := s.Frozen[0].Expiry
		if s.Conflict != nil {
			end = s.Conflict.Height
		}
		end += wire.Height(s.Terms.Margins.Final) - 1
		if in.Done = s.Tip >= end; !in.Done {
			in.Wake = end
		}
	case s.Confirmed == nil:
		in.Wake = 1
	case open && s.Left > 0:
		// Once a day, in the same block as other messages.
		day := wire.Height(s.Terms.Margins.BlocksPerDay)
		in.Wake = s.Tip + day - s.Tip%day
	case open && s.Delivered():
		in.Wake = s.Frozen[0].Expiry
	case open:
		in.Wake = s.Confirmed.Height
	case s.Tip >= final:
		in.Done = true
	default:
		in.Wake = final
	}
	return in
}

func short(k wire.Key) string { return k.String()[:8] }
