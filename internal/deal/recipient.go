package deal

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// RecipientPhase is the phase of a message found on the chain.
type RecipientPhase uint8

// The phases of Recipient.
const (
	RecipientFound     RecipientPhase = iota // the tag matches; agents are being located
	RecipientFetching                        // a copy is downloaded
	RecipientHolding                         // a verified copy is here; waiting for confirmations
	RecipientReleasing                       // σ was sent, or is being sent, to one agent
	RecipientOpening                         // τ is known
	RecipientRead                            // decrypted, the sender's signature right
	RecipientLost                            // no agent gave it in time, or it does not open
	RecipientDiscarded                       // the user removed it
)

var recipientPhases = []string{"found", "fetching", "holding", "releasing", "opening", "read", "lost", "discarded"}

func (p RecipientPhase) String() string { return name(recipientPhases, uint8(p)) }

// Source is an agent that proved that it holds the message.
type Source struct {
	Candidate Candidate
	Outpoint  wire.Outpoint
	Frozen    wire.Frozen
	Index     int // of its claim leaf
	Leaf      wire.Leaf
	Value     wire.Sat
	PreSig    wire.PreSignature // recomputed, never received
	Failed    bool              // did not give its copy; will be asked again
	Bad       bool              // gave a wrong copy, or one that does not open
	Held      bool              // its copy is here
	Released  wire.Height       // tip when σ was released to it, or 0
	Silent    bool              // took σ and gave no τ
}

// Seen is a confirmed spend of an output of the funding. Spends are recorded
// from the first block on, even before any agent says which outputs are frozen.
type Seen struct {
	contract.Fact
	Vout    uint32
	Witness [][]byte // empty if larger than the witness of any leaf of ours
}

// maxWatched is the maximum number of watched outputs of one funding; a frozen
// output is among the first wire.MaxAgents.
const maxWatched = wire.MaxAgents + 2

// maxSeenWitness is more than the witness of a claim of the deepest leaf.
const maxSeenWitness = 1024

// Recipient is the recipient's side of one message.
type Recipient struct {
	Phase     RecipientPhase
	Margins   Margins
	E         wire.Key
	Identity  wire.Key // R
	Shared    wire.Secret
	Root      wire.Hash
	Locator   wire.Locator
	Funding   []byte // without witnesses
	Txid      wire.Hash
	Outputs   int  // of the funding
	Looking   bool // a Locate is running; at most one at a time
	Confirmed *contract.Fact
	Seen      []Seen
	Sources   []Source
	Current   int         // index of the source in use
	FetchedAt wire.Height // tip when its fetch began
	Tau       wire.Secret
	Key       wire.MessageKey
	Sender    wire.Key
	Size      uint64
	Acked     bool
	Tip       wire.Height
	Failure   string
}

// NewRecipient starts from a funding transaction whose tag matches; sec are the
// secrets that the scan derived.
func NewRecipient(identity wire.Key, sec *seal.Secrets, m seal.Marker, tx contract.Tx, height wire.Height, margins Margins) (Recipient, []Effect) {
	r := Recipient{Margins: margins, E: m.E, Identity: identity, Shared: sec.Root(), Root: m.Root, Locator: sec.Mask(m.MaskedLocator),
		Funding: contract.EncodeTx(tx), Txid: contract.Txid(tx), Outputs: min(len(tx.TxOut), maxWatched), Tip: height,
		Confirmed: &contract.Fact{Height: height, Txid: contract.Txid(tx)}}
	effects := r.locate(false)
	return r, effects
}

func (r *Recipient) secrets() *seal.Secrets { return seal.FromRoot(r.Shared, r.E, r.Identity) }

// Step is the recipient's transition function.
func (r Recipient) Step(ev Event) (Recipient, []Effect, error) {
	if r.Phase == RecipientDiscarded {
		switch ev.(type) {
		case Fetched, Opened: // was on its way
			return r, []Effect{DropPayload{}, DropMessage{}}, nil
		}
		return r, nil, nil
	}
	r.Sources, r.Seen = slices.Clone(r.Sources), slices.Clone(r.Seen)
	switch ev := ev.(type) {
	case Located:
		return r.located(ev)
	case Fetched:
		return r.fetched(ev)
	case NotFetched:
		if r.Phase != RecipientFetching || r.source().Candidate.Agent != ev.Agent {
			return r, nil, nil
		}
		r.source().Failed, r.source().Bad, r.Failure = true, ev.Wrong, wire.Clean(ev.Why)
		r.Tip = max(r.Tip, ev.Height)
		return r.next()
	case Revealed:
		return r.revealed(ev)
	case NotRevealed:
		return r.notRevealed(ev)
	case Opened:
		if r.Phase != RecipientOpening {
			return r, nil, nil
		}
		r.Phase, r.Sender, r.Size, r.Failure = RecipientRead, ev.Sender, ev.Size, ""
		return r, []Effect{DropPayload{}, r.ack()}, nil
	case NotOpened:
		if r.Phase != RecipientOpening {
			return r, nil, nil
		}
		// The copy was the one to which the sender committed, and τ was right,
		// so the content is the sender's fault. Another agent may have a better
		// one.
		r.source().Bad, r.Failure = true, wire.Clean(fmt.Errorf("%w: %s", ErrBadMessage, ev.Why).Error())
		r.Phase = RecipientFound
		n, effects, err := r.next()
		hope := func(s Source) bool { return !s.Bad }
		if err == nil && len(effects) == 0 && !slices.ContainsFunc(n.Sources, hope) {
			n.Phase = RecipientLost
			effects = []Effect{DropPayload{}}
		}
		return n, effects, err
	case Restored:
		return r.restored()
	case Discarded:
		// The remaining record keeps the message from being found again.
		r.Phase, r.Sources, r.Current, r.Seen = RecipientDiscarded, nil, 0, nil
		return r, []Effect{DropPayload{}, DropMessage{}}, nil
	case AckLeft:
		r.Acked = r.Acked || ev.OK
		return r, nil, nil
	case Connected:
		return r.connected(ev)
	case Disconnected:
		return r.disconnected(ev)
	}
	return r, nil, fmt.Errorf("%w: %T to a recipient", ErrWrongPhase, ev)
}

// locate requests a Locate unless one is running: lookups are slow, and a
// recipient that was away is told of many blocks at once.
func (r *Recipient) locate(wide bool) []Effect {
	if r.Looking {
		return nil
	}
	r.Looking = true
	return []Effect{Locate{Locator: r.Locator, E: r.E, Wide: wide}}
}

func (r *Recipient) ack() Effect {
	s := r.source()
	return LeaveAck{Candidate: s.Candidate, E: r.E, Root: r.Root, Leaf: s.Leaf,
		FetchKey: r.secrets().FetchKey(s.Candidate.Agent)}
}

func (r *Recipient) source() *Source { return &r.Sources[r.Current] }

// spent returns the spend of a source's output, or nil.
func (r *Recipient) spent(s *Source) *Seen {
	for i := range r.Seen {
		if r.Seen[i].Vout == s.Outpoint.Vout {
			return &r.Seen[i]
		}
	}
	return nil
}

// claimedTau reads τ from the claim of a source whose copy is here. A claim
// always reveals τ, whatever the agent answered, and no matter who gave it σ
// (invariant ClaimImpliesTau).
func (r *Recipient) claimedTau(s *Source) (wire.Secret, bool) {
	seen := r.spent(s)
	if seen == nil || !s.Held || s.Bad {
		return wire.Secret{}, false
	}
	out, err := contract.NewOutput(s.Frozen)
	if err != nil {
		return wire.Secret{}, false
	}
	spend, err := out.ReadSpend(seen.Witness)
	if err != nil || spend.Claim != s.Index {
		return wire.Secret{}, false
	}
	tau, err := contract.ExtractTau(s.PreSig, spend.SenderSig, s.Leaf.Point)
	return tau, err == nil
}

// located keeps the proofs that agree with the chain and with the recipient's
// own secrets.
func (r Recipient) located(ev Located) (Recipient, []Effect, error) {
	r.Tip, r.Looking = max(r.Tip, ev.Height), false
	for _, f := range ev.Found {
		known := func(s Source) bool { return s.Candidate.Agent == f.Candidate.Agent }
		if slices.ContainsFunc(r.Sources, known) {
			continue
		}
		if src, err := r.checkProof(f); err == nil {
			r.Sources = append(r.Sources, *src)
			r.Key = src.Leaf.Key
		} else {
			r.Failure = wire.Clean(fmt.Sprintf("agent %s: %v", short(f.Candidate.Agent), err))
		}
	}
	switch {
	case r.Phase == RecipientFound && len(r.Sources) == 0 && !ev.Wide:
		// Agents that crowd the place of L must not delay the message.
		effects := r.locate(true)
		return r, effects, nil
	case r.Phase == RecipientFound, r.Phase == RecipientReleasing && r.waited():
		return r.next()
	}
	return r, nil, nil
}

// checkProof accepts an agent only if its leaf is under the funding's root, its
// release hash and the sender key are the derived ones, and the recomputed
// output equals the funding's byte for byte (invariants
// NoDisclosureBeforeProof, OnlyTemplateLeaves).
func (r *Recipient) checkProof(f Located1) (*Source, error) {
	bad := func(format string, a ...any) (*Source, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrBadProof}, a...)...)
	}
	p, agent := &f.Proof, f.Candidate.Agent
	leaf := &p.Section.Leaf
	sec := r.secrets()
	sigma := sec.ReleaseSecret(agent)
	senderKey, err := sec.SenderKey(agent).PrivKey()
	if err != nil {
		return bad("%w", err)
	}
	switch {
	case leaf.Agent != agent:
		return bad("leaf of another agent")
	case !underRoot(&p.Section, r.Root):
		return bad("leaf is not under the root")
	case leaf.ReleaseHash != wire.Hash(sha256.Sum256(sigma[:])):
		return bad("not the derived release secret")
	case leaf.Key.Locator() != r.Locator:
		return bad("another locator")
	case leaf.KEMHash != (wire.Hash{}):
		return bad("KEM ciphertext without a contact card")
	case p.Outpoint.Txid != r.Txid || int64(p.Outpoint.Vout) >= int64(r.Outputs):
		return bad("another funding, or an output that is not watched")
	case len(r.Sources) > 0 && (leaf.Key != r.Sources[0].Leaf.Key || p.Frozen.Expiry != r.Sources[0].Frozen.Expiry):
		return bad("not the same message as the other agents'")
	}
	index := -1
	for i, c := range p.Frozen.Claims {
		if c.ReleaseHash != leaf.ReleaseHash && c.SenderKey != wire.XOnly(senderKey.PubKey()) {
			continue
		}
		// There are two matching leaves, or one matches half: it is unknown
		// which the agent would use.
		if index >= 0 || c.ReleaseHash != leaf.ReleaseHash || c.SenderKey != wire.XOnly(senderKey.PubKey()) {
			return bad("claim leaf does not match the leaf")
		}
		index = i
	}
	if index < 0 {
		return bad("no claim leaf for this agent")
	}
	out, err := contract.NewOutput(p.Frozen)
	if err != nil {
		return bad("%w", err)
	}
	tx, err := contract.DecodeTx(r.Funding)
	if err != nil {
		return bad("%w", err)
	}
	value, err := out.ValueIn(tx, p.Outpoint.Vout)
	if err != nil {
		return bad("%w", err)
	}
	digest, err := out.ClaimDigest(index, p.Outpoint, value)
	if err != nil {
		return bad("%w", err)
	}
	pre, err := contract.PreSign(sec.SenderKey(agent), sec.NonceKey(agent), leaf.Point, digest)
	if err != nil {
		return bad("%w", err)
	}
	return &Source{Candidate: f.Candidate, Outpoint: p.Outpoint, Frozen: p.Frozen, Index: index, Leaf: *leaf,
		Value: value, PreSig: pre}, nil
}

// next continues with the first agent, in the order derived from the message,
// that has not failed and was not given σ.
func (r Recipient) next() (Recipient, []Effect, error) {
	best := -1
	var bestKey wire.Secret
	for i, s := range r.Sources {
		if s.Failed || s.Bad || s.Released != 0 && s.Held || r.spent(&s) != nil || r.Tip >= before(s.Frozen.Expiry, r.Margins.Release) {
			continue
		}
		key := r.secrets().FetchKey(s.Candidate.Agent)
		if best < 0 || bytes.Compare(key[:], bestKey[:]) < 0 {
			best, bestKey = i, key
		}
	}
	if best < 0 {
		if r.Phase != RecipientReleasing {
			r.Phase = RecipientFound // the next block looks again
		}
		return r, nil, nil
	}
	r.Current, r.Phase, r.FetchedAt = best, RecipientFetching, r.Tip
	s := r.source()
	if s.Held {
		r.Phase = RecipientHolding
		return r.release()
	}
	return r, []Effect{Fetch{Candidate: s.Candidate, Outpoint: s.Outpoint, Leaf: s.Leaf,
		FetchKey: r.secrets().FetchKey(s.Candidate.Agent)}}, nil
}

// restored starts again, because a backup contains no copies. The record of
// which agents have σ is kept, and they are asked for their copies again.
func (r Recipient) restored() (Recipient, []Effect, error) {
	if r.Phase >= RecipientRead {
		return r, nil, nil
	}
	r.Phase, r.Looking = RecipientFound, false
	for i := range r.Sources {
		r.Sources[i].Held, r.Sources[i].Failed = false, false
	}
	effects := r.locate(true)
	return r, effects, nil
}

// fetched records a copy, even one that arrives after the recipient turned to
// another agent.
func (r Recipient) fetched(ev Fetched) (Recipient, []Effect, error) {
	r.Tip = max(r.Tip, ev.Height)
	i := slices.IndexFunc(r.Sources, func(s Source) bool { return s.Candidate.Agent == ev.Agent })
	switch {
	case i < 0:
		return r, nil, nil
	case r.Phase >= RecipientRead:
		return r, []Effect{DropPayload{}}, nil // too late to be of use
	}
	if s := &r.Sources[i]; !s.Held {
		s.Held, s.Bad = true, false // whatever an earlier answer brought
	}
	if r.Phase != RecipientFetching || i != r.Current {
		return r, nil, nil
	}
	r.Phase = RecipientHolding
	return r.release()
}

// release sends σ if the copy is here and the chain allows it: the funding has
// enough confirmations, the output is unspent, expiry is far away (invariant
// ReleaseBeforeDeadline). The release is recorded before σ is sent.
func (r Recipient) release() (Recipient, []Effect, error) {
	s := r.source()
	switch {
	case r.spent(s) != nil || r.Tip >= before(s.Frozen.Expiry, r.Margins.Release):
		return r.next() // next skips this source, unless a reorg changes it
	case r.Confirmed.Depth(r.Tip) < r.Margins.reveal(s.Value):
		return r, nil, nil // a later block
	}
	s.Released, r.Phase = r.Tip, RecipientReleasing
	return r, []Effect{r.releaseTo(s)}, nil
}

func (r *Recipient) releaseTo(s *Source) Effect {
	return Release{Candidate: s.Candidate, Point: s.Leaf.Point, Sigma: r.secrets().ReleaseSecret(s.Candidate.Agent)}
}

func (r Recipient) revealed(ev Revealed) (Recipient, []Effect, error) {
	i := slices.IndexFunc(r.Sources, func(s Source) bool { return s.Candidate.Agent == ev.Agent })
	if i < 0 || r.Phase >= RecipientOpening || r.Sources[i].Released == 0 || !r.Sources[i].Held {
		return r, nil, nil // its copy is missing, after a restore: ask again once it is here
	}
	if contract.CheckTau(ev.Tau, r.Sources[i].Leaf.Point) != nil {
		r.Sources[i].Silent = true
		r.Failure = "the agent answered with a wrong secret; waiting for its claim"
		return r, nil, nil
	}
	return r.open(i, ev.Tau)
}

func (r Recipient) open(i int, tau wire.Secret) (Recipient, []Effect, error) {
	r.Current, r.Tau, r.Phase = i, tau, RecipientOpening
	return r, []Effect{Open{Leaf: r.Sources[i].Leaf, E: r.E, Tau: tau}}, nil
}

func (r Recipient) notRevealed(ev NotRevealed) (Recipient, []Effect, error) {
	if r.Phase != RecipientReleasing || r.source().Candidate.Agent != ev.Agent {
		return r, nil, nil
	}
	// σ may have arrived nevertheless. From here on only the chain or a later
	// answer of this agent helps, until connected runs out of patience.
	r.source().Silent = ev.Code != wire.Claiming && ev.Code != wire.NotConfirmed
	r.Failure = wire.Clean(ev.Why)
	return r, nil, nil
}

func (r Recipient) connected(ev Connected) (Recipient, []Effect, error) {
	r.Tip = max(r.Tip, ev.Height)
	for _, tx := range ev.Txs {
		if contract.Txid(tx) == r.Txid && r.Confirmed == nil {
			r.Confirmed = &contract.Fact{Height: ev.Height, Txid: r.Txid}
		}
		for _, in := range tx.TxIn {
			if wire.Hash(in.PreviousOutPoint.Hash) != r.Txid {
				continue
			}
			seen := Seen{Fact: contract.Fact{Height: ev.Height, Txid: contract.Txid(tx)}, Vout: in.PreviousOutPoint.Index}
			if in.Witness.SerializeSize() <= maxSeenWitness {
				seen.Witness = in.Witness
			}
			r.Seen = append(r.Seen, seen)
		}
	}
	if r.Phase < RecipientOpening {
		for i := range r.Sources {
			if tau, ok := r.claimedTau(&r.Sources[i]); ok {
				return r.open(i, tau)
			}
		}
	}
	if r.Phase == RecipientRead {
		if src := r.source(); !r.Acked && r.spent(src) == nil && r.Tip < src.Frozen.Expiry {
			return r, []Effect{r.ack()}, nil
		}
		return r, nil, nil
	}
	if r.Phase >= RecipientOpening {
		return r, nil, nil
	}
	if r.hopeless() {
		r.Phase, r.Failure = RecipientLost, cmp.Or(r.Failure, ErrExpired.Error())
		return r, []Effect{DropPayload{}}, nil
	}
	again := r.releases()
	n, effects, err := r.proceed()
	for _, e := range effects {
		if rel, ok := e.(Release); ok {
			again = slices.DeleteFunc(again, func(e Effect) bool { return e.(Release).Point == rel.Point })
		}
	}
	return n, append(again, effects...), err
}

// releases sends σ again to every agent that was given it and whose output is
// unspent, because σ or the answer may have been lost.
func (r *Recipient) releases() (effects []Effect) {
	for i := range r.Sources {
		if s := &r.Sources[i]; s.Released != 0 && !s.Bad && r.spent(s) == nil {
			effects = append(effects, r.releaseTo(s))
		}
	}
	return effects
}

// proceed handles a block for a message that is not open yet.
func (r Recipient) proceed() (Recipient, []Effect, error) {
	switch r.Phase {
	case RecipientFound:
		if r.Confirmed == nil {
			return r, nil, nil
		}
		for i := range r.Sources {
			r.Sources[i].Failed = false // the network may have been down; ask once per block
		}
		n, effects, err := r.next()
		if len(r.Sources) < wire.MaxAgents {
			effects = append(effects, n.locate(true)...)
		}
		return n, effects, err
	case RecipientFetching:
		// A slow agent must not use up the time in which others could serve.
		s := r.source()
		if r.Tip >= r.turnAt(r.FetchedAt, s) {
			s.Failed = true
			return r.turn()
		}
	case RecipientHolding:
		return r.release()
	case RecipientReleasing:
		// Turn to the next agent, with its own σ. The sender then pays both.
		if r.waited() {
			return r.turn()
		}
	}
	return r, nil, nil
}

// waited reports whether the agent that has σ had enough time to give τ, or can
// no longer give it.
func (r *Recipient) waited() bool {
	s := r.source()
	return r.spent(s) != nil || r.Tip >= r.turnAt(s.Released, s)
}

// turn continues with the next agent. If none is known it locates agents again,
// because one that serves may have been unreachable before.
func (r Recipient) turn() (Recipient, []Effect, error) {
	n, effects, err := r.next()
	if len(effects) == 0 && n.Phase != RecipientHolding && len(n.Sources) < wire.MaxAgents {
		effects = n.locate(true)
	}
	return n, effects, err
}

// turnAt returns the height at which the recipient turns from an agent to the
// next: after Turn blocks, but in any case while there is time to fetch and be
// answered before T−Release.
func (r *Recipient) turnAt(since wire.Height, s *Source) wire.Height {
	return min(since+wire.Height(r.Margins.Turn), before(s.Frozen.Expiry, r.Margins.Release+r.patience()))
}

// hopeless reports whether nothing can open the message any more. As long as an
// agent that was given σ may still claim, its claim would reveal τ, so the
// recipient keeps watching and keeps the copy.
func (r *Recipient) hopeless() bool {
	if r.Tip < r.lastHope() {
		return false
	}
	for i := range r.Sources {
		s := &r.Sources[i]
		if s.Released == 0 || s.Bad {
			continue
		}
		switch seen := r.spent(s); {
		case seen == nil && r.Tip < s.Frozen.Expiry+wire.MaxStoreBlocks:
			return false
		case seen != nil && seen.Depth(r.Tip) < r.Margins.Final:
			return false
		}
	}
	return true
}

// lastHope returns the height from which no agent can be paid for the message:
// its expiry or, if no agent was ever found, the latest possible expiry for its
// age.
func (r *Recipient) lastHope() wire.Height {
	if len(r.Sources) > 0 {
		return r.Sources[0].Frozen.Expiry
	}
	if r.Confirmed == nil {
		return wire.MaxHeight
	}
	return r.Confirmed.Height + wire.Height(wire.MaxStoreBlocks+2*r.Margins.Slack)
}

// patience returns how many blocks before T−Release a recipient turns to the
// next agent in any case: enough to fetch and be answered.
func (r *Recipient) patience() uint32 { return max(r.Margins.Final, r.Margins.RevealConfLarge) }

func (r Recipient) disconnected(ev Disconnected) (Recipient, []Effect, error) {
	if r.Confirmed != nil && r.Confirmed.Height >= ev.Height {
		r.Confirmed = nil
	}
	r.Seen = slices.DeleteFunc(r.Seen, func(s Seen) bool { return s.Height >= ev.Height })
	if r.Tip >= ev.Height {
		r.Tip = ev.Height - 1
	}
	return r, nil, nil
}

// ID returns the message's ID, or zero until an agent has proven itself.
func (r *Recipient) ID() wire.MessageID { return r.Key.ID() }

// usualDays is the longest time for which most agents store a message.
const usualDays = 30

// Expired reports whether the message's time is over: it expired, finally, and
// nobody opened it; or no agent with it was found in the time for which most
// agents store. It may still be opened, by a late claim of an agent that has σ or
// by an agent that stores for longer.
func (r *Recipient) Expired() bool {
	if r.Phase >= RecipientOpening || r.Confirmed == nil {
		return false
	}
	end := r.Confirmed.Height + wire.Height(usualDays*r.Margins.BlocksPerDay+r.Margins.Slack)
	if len(r.Sources) > 0 {
		end = r.Sources[0].Frozen.Expiry
	}
	return r.Tip >= end+wire.Height(r.Margins.Final)
}

// State returns the displayed state: queued, delivered (read), or failed.
func (r *Recipient) State() string {
	switch {
	case r.Phase == RecipientRead:
		return "delivered"
	case r.Phase == RecipientLost || r.Expired():
		return "failed"
	}
	return "queued"
}

// Interest implements the engine's view of the contract.
func (r Recipient) Interest() contract.Interest {
	in := contract.Interest{Txids: []wire.Hash{r.Txid}, Top: r.Tip}
	for vout := range r.Outputs {
		in.Outpoints = append(in.Outpoints, wire.Outpoint{Txid: r.Txid, Vout: uint32(vout)})
	}
	switch r.Phase {
	case RecipientLost, RecipientDiscarded:
		in.Done = true
	case RecipientRead:
		src := r.source()
		in.Done = r.Acked || r.spent(src) != nil || r.Tip >= src.Frozen.Expiry
		in.Wake = 1
	default:
		in.Wake = 1
	}
	return in
}
