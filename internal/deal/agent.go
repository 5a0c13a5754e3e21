package deal

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// AgentPhase is the phase of an agent's part in one message.
type AgentPhase uint8

// The phases of Agent. They are derived from the agent's record and from what
// the chain shows now, so a reorg that withdraws a block also withdraws its
// phase.
const (
	AgentQuoted   AgentPhase = iota // T is out; nothing is held
	AgentHeld                       // package verified, copy stored, funding awaited
	AgentCached                     // funded: the message is served
	AgentReleased                   // σ is here: the agent can claim
	AgentClaimed                    // the claim is confirmed
	AgentClosed                     // ended without pay: not funded, not fetched in time, or refunded
)

var agentPhases = []string{"quoted", "held", "cached", "released", "claimed", "closed"}

func (p AgentPhase) String() string { return name(agentPhases, uint8(p)) }

// Policy contains the limits and prices set by an agent's operator.
type Policy struct {
	Rate      wire.Psat // per byte-day
	MaxSize   uint64    // of a sealed copy
	MaxBlocks uint32    // of storage
	ValidFor  uint32    // blocks within which a quote must be funded
	Patience  uint32    // blocks that a claim waits for others to share its transaction
	OneOfMany bool      // take part in 1-of-many, in which a sibling can outbid the claim
	// MaxStored and MaxUnfunded limit the bytes of all copies, and of those
	// whose funding never confirmed; 0 means no limit.
	MaxStored, MaxUnfunded uint64
}

// Agent is an agent's side of one message, identified by its point T.
type Agent struct {
	Margins   Margins
	Patience  uint32
	Quote     wire.Quote
	Tau       wire.Secret
	ClaimKey  wire.Secret
	Package   *wire.Package
	Index     int // of the own claim leaf
	At        wire.Outpoint
	Value     wire.Sat
	Confirmed *contract.Fact
	Funded    bool   // was confirmed once: a reorg alone does not end the deal
	FundingTx []byte // with witnesses, once seen: broadcast again if a reorg drops it
	Spend     *SpendFact
	Sigma     *wire.Secret
	ReleaseAt wire.Height // when σ came
	Claim     *contract.Sent
	Ack       []byte
	Tip       wire.Height
	Dropped   bool // the copy is deleted
	Void      bool // the quote is no longer valid
	// NextTry is the height before which a claim that is not worth its fee is not
	// tried again; 0 if the last claim was built.
	NextTry wire.Height `cbor:",omitempty"`
}

// Phase returns the deal's phase as of the last block reported.
func (a *Agent) Phase() AgentPhase {
	switch {
	case a.Package == nil && (a.Void || a.Tip > a.Quote.ValidUntil):
		return AgentClosed
	case a.Package == nil:
		return AgentQuoted
	case a.Spend != nil && a.Spend.Claim == a.Index:
		return AgentClaimed
	case a.Spend != nil:
		return AgentClosed
	case a.Sigma != nil && a.worthless():
		return AgentClosed
	case a.Sigma != nil:
		return AgentReleased
	case a.Tip >= before(a.Quote.Expiry, a.Margins.Release):
		return AgentClosed // no σ came in time; it is no longer accepted
	case a.funded(a.Margins.CacheConf):
		return AgentCached
	case !a.Funded && a.Tip > a.Quote.ValidUntil:
		return AgentClosed
	}
	return AgentHeld
}

// Fresh contains the random secrets of a new quote.
type Fresh struct{ Tau, ClaimKey wire.Secret }

// Reserve is the part of a quote's value, in sat, that pays for the chain: the
// frozen output stays spendable alone, by its agent or by the sender, even if
// the fee rate doubles (spec/delivery.md, Negotiate).
func Reserve(rate wire.SatPerKVB, expiry wire.Height, shape wire.Shape) wire.Sat {
	n := 1
	if shape == wire.OneOfMany {
		n = wire.MaxAgents
	}
	return contract.FrozenReserve(2*max(rate, contract.MinFeeRate), expiry, n)
}

// NewAgent answers a request with a signed quote, and the state to be stored
// before the quote is sent. A request that the policy does not allow returns a
// *wire.Refusal.
func NewAgent(req *wire.QuoteRequest, identity wire.Secret, fresh Fresh, p Policy, m Margins, tip wire.Height, rate wire.SatPerKVB) (Agent, error) {
	if err := req.Check(); err != nil {
		return Agent{}, wire.Refuse(wire.BadRequest, "%w", err)
	}
	switch {
	case req.Size > p.MaxSize:
		return Agent{}, wire.Refuse(wire.TooBig, "%d bytes, this agent accepts at most %d", req.Size, p.MaxSize)
	case req.Shape == wire.OneOfMany && !p.OneOfMany:
		return Agent{}, wire.Refuse(wire.BadRequest, "this agent does not accept one-of-many")
	case req.StoreUntil <= tip:
		return Agent{}, wire.Refuse(wire.TooLate, "storage until %d, the chain is at %d", req.StoreUntil, tip)
	case uint32(req.StoreUntil-tip) > p.MaxBlocks:
		return Agent{}, wire.Refuse(wire.TooLong, "%d blocks of storage, this agent accepts at most %d", req.StoreUntil-tip, p.MaxBlocks)
	case uint32(req.Expiry-req.StoreUntil) < m.Slack || uint32(req.Expiry-req.StoreUntil) > 2*m.Slack:
		return Agent{}, wire.Refuse(wire.BadRequest, "expiry %d blocks after storage, must be %d to %d", req.Expiry-req.StoreUntil, m.Slack, 2*m.Slack)
	}
	price, err := wire.StoragePrice(p.Rate, req.Size, uint32(req.StoreUntil-tip), m.BlocksPerDay)
	if err != nil {
		return Agent{}, wire.Refuse(wire.TooBig, "%w", err)
	}
	self, err := identity.PrivKey()
	if err != nil {
		return Agent{}, err
	}
	tau, err := fresh.Tau.PrivKey()
	if err != nil {
		return Agent{}, err
	}
	claim, err := fresh.ClaimKey.PrivKey()
	if err != nil {
		return Agent{}, err
	}
	q := wire.Quote{Agent: wire.XOnly(self.PubKey()), Session: req.Session, E: req.E, Point: wire.XOnly(tau.PubKey()),
		ClaimKey: wire.XOnly(claim.PubKey()), Size: req.Size, From: tip, StoreUntil: req.StoreUntil, Expiry: req.Expiry,
		ValidUntil: min(tip+wire.Height(p.ValidFor), req.StoreUntil), Shape: req.Shape, Rate: p.Rate,
		Reserve: Reserve(rate, req.Expiry, req.Shape)}
	q.Value = price.Sat() + q.Reserve
	if q.Knowledge, err = wire.Sign(fresh.Tau, wire.KnowledgeDigest(q.Agent, q.E, q.Session, q.Point)); err != nil {
		return Agent{}, err
	}
	if q.Sig, err = wire.Sign(identity, q.Digest()); err != nil {
		return Agent{}, err
	}
	return Agent{Margins: m, Patience: p.Patience, Quote: q, Tau: fresh.Tau, ClaimKey: fresh.ClaimKey, Tip: tip}, nil
}

// Step is the agent's transition function. If a peer caused the error, it is a
// *wire.Refusal.
func (a Agent) Step(ev Event) (Agent, []Effect, error) {
	switch ev := ev.(type) {
	case Offered:
		return a.offered(ev)
	case Released:
		return a.released(ev)
	case Restored:
		return a.restored(ev)
	case Acked:
		return a.acked(ev)
	case ClaimBuilt:
		if a.Phase() != AgentReleased {
			return a, nil, nil
		}
		a.Claim, a.NextTry = &ev.Sent, 0
		if ev.Broadcast {
			return a, []Effect{Broadcast{Tx: ev.Sent.Tx}}, nil
		}
		return a, nil, nil
	case ClaimFailed:
		if ev.Pause {
			a.NextTry = a.Tip + 1
			if bump := before(a.Quote.Expiry, a.Margins.Bump); a.Tip < bump {
				a.NextTry = min(a.Tip+wire.Height(a.Margins.BlocksPerDay), bump)
			}
		}
		return a, nil, nil // otherwise the next block tries again
	case Broadcasted:
		return a.broadcasted(ev)
	case Connected:
		return a.connected(ev)
	case Disconnected:
		return a.disconnected(ev)
	}
	return a, nil, fmt.Errorf("%w: %T to an agent", ErrWrongPhase, ev)
}

// Checked is the result of CheckPackage for a package that pays the agent of a
// quote.
type Checked struct {
	quote wire.Quote
	pack  wire.Hash // Package.Digest
	index int       // of the agent's claim leaf
	at    wire.Outpoint
	value wire.Sat
}

// CheckPackage recomputes everything that pays the agent, byte for byte:
// leaves, output key, root, marker and pre-signature (invariant
// OnlyTemplateLeaves). Errors wrap ErrBadPackage.
func CheckPackage(q *wire.Quote, p *wire.Package) (*Checked, error) {
	bad := func(format string, a ...any) (*Checked, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrBadPackage}, a...)...)
	}
	if err := p.Check(); err != nil {
		return bad("%w", err)
	}
	leaf := &p.Section.Leaf
	switch {
	case p.Session != q.Session || leaf.Agent != q.Agent || leaf.Point != q.Point:
		return bad("for another agent or quote")
	case leaf.Size != q.Size:
		return bad("size %d, quoted %d", leaf.Size, q.Size)
	case leaf.KEMHash != (wire.Hash{}):
		return bad("KEM ciphertext without a contact card")
	case p.Frozen.Expiry != q.Expiry:
		return bad("expiry %d, quoted %d", p.Frozen.Expiry, q.Expiry)
	case p.Grant.Agent != q.Agent:
		return bad("grant for another agent")
	case q.Shape == wire.PerAgent && len(p.Frozen.Claims) != 1:
		return bad("%d claim leaves in an output of its own", len(p.Frozen.Claims))
	}
	if err := p.Grant.Verify(); err != nil {
		return bad("grant: %w", err)
	}
	index := -1
	for i, c := range p.Frozen.Claims {
		if c.ClaimKey != q.ClaimKey {
			continue
		}
		if index >= 0 || c.ReleaseHash != leaf.ReleaseHash {
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
	tx, err := contract.DecodeTx(p.Funding)
	if err != nil {
		return bad("%w", err)
	}
	value, err := out.ValueIn(tx, p.Vout)
	if err != nil {
		return bad("%w", err)
	}
	if value < q.Value {
		return bad("%v frozen, quoted %v", value, q.Value)
	}
	data, ok := contract.Marker(tx)
	if !ok {
		return bad("no bitgram OP_RETURN, or several")
	}
	m, err := seal.DecodeMarker(data)
	if err != nil {
		return bad("%w", err)
	}
	if m.E != q.E {
		return bad("for another message")
	}
	if !underRoot(&p.Section, m.Root) {
		return bad("leaf is not under the root")
	}
	at := wire.Outpoint{Txid: contract.Txid(tx), Vout: p.Vout}
	digest, err := out.ClaimDigest(index, at, value)
	if err != nil {
		return bad("%w", err)
	}
	if err := contract.VerifyPreSignature(p.PreSig, p.Frozen.Claims[index].SenderKey, q.Point, digest); err != nil {
		return bad("%w", err)
	}
	return &Checked{quote: *q, pack: p.Digest(), index: index, at: at, value: value}, nil
}

func (a Agent) offered(ev Offered) (Agent, []Effect, error) {
	if a.Package != nil {
		if !a.Dropped && a.Package.Digest() == ev.Package.Digest() {
			return a, nil, nil // again, after a lost receipt
		}
		return a, nil, wire.Refuse(wire.BadRequest, "this quote was used for another package")
	}
	if ev.Height > a.Quote.ValidUntil {
		return a, nil, wire.Refuse(wire.TooLate, "the quote was valid until %d", a.Quote.ValidUntil)
	}
	ok := ev.Checked
	if ok == nil || ok.quote != a.Quote || ok.pack != ev.Package.Digest() {
		var err error
		if ok, err = CheckPackage(&a.Quote, &ev.Package); err != nil {
			return a, nil, wire.Refuse(wire.BadRequest, "%w", err)
		}
	}
	leaf := &ev.Package.Section.Leaf
	if ev.CopyHash != leaf.CopyHash || ev.Size != leaf.Size {
		return a, nil, wire.Refuse(wire.BadRequest, "%w: the copy is not the one in the leaf", ErrBadPackage)
	}
	a.Package, a.Index, a.At, a.Value, a.Tip = &ev.Package, ok.index, ok.at, ok.value, max(a.Tip, ev.Height)
	return a, nil, nil
}

// funded reports whether the funding is deep enough for n confirmations.
func (a *Agent) funded(n uint32) bool { return a.Confirmed.Depth(a.Tip) >= n }

// released accepts σ. The caller reads the answer from Answer after the state
// is stored.
func (a Agent) released(ev Released) (Agent, []Effect, error) {
	if a.Package == nil {
		return a, nil, wire.Refuse(wire.Unknown, "no message under this point")
	}
	if wire.Hash(sha256.Sum256(ev.Sigma[:])) != a.Package.Section.Leaf.ReleaseHash {
		return a, nil, wire.Refuse(wire.WrongSecret, "not the release secret")
	}
	if a.Sigma != nil {
		return a, nil, nil // again: the same answer
	}
	a.Tip = max(a.Tip, ev.Height)
	switch {
	case a.Spend != nil:
		return a, nil, wire.Refuse(wire.Spent, "the frozen output is spent")
	case !a.funded(a.Margins.reveal(a.Value)):
		return a, nil, wire.Refuse(wire.NotConfirmed, "%d of %d confirmations", a.Confirmed.Depth(a.Tip), a.Margins.reveal(a.Value))
	case a.Tip >= before(a.Quote.Expiry, a.Margins.Release):
		return a, nil, wire.Refuse(wire.TooLate, "too close to the refund at %d", a.Quote.Expiry)
	}
	a.Sigma, a.ReleaseAt = &ev.Sigma, a.Tip
	if a.Quote.Shape == wire.OneOfMany {
		return a, []Effect{ClaimDue{}}, nil // only the claim reveals τ: claim now
	}
	return a, nil, nil
}

// Answer returns τ for a recipient that gave σ. In one-of-many only the claim
// reveals τ: ok is false until the agent's own claim is confirmed.
func (a *Agent) Answer() (tau wire.Secret, ok bool) {
	ok = a.Sigma != nil && (a.Quote.Shape == wire.PerAgent || a.Phase() == AgentClaimed)
	if ok {
		tau = a.Tau
	}
	return tau, ok
}

func (a Agent) acked(ev Acked) (Agent, []Effect, error) {
	if a.Sigma == nil {
		return a, nil, wire.Refuse(wire.Unknown, "nothing was released")
	}
	mac := wire.AckMAC(a.Package.FetchKey, a.Quote.Point, ev.Blob)
	if !hmac.Equal(mac[:], ev.MAC[:]) {
		return a, nil, wire.Refuse(wire.WrongSecret, "not from the recipient")
	}
	a.Ack = ev.Blob
	return a, nil, nil
}

// Claimable reports whether the agent can claim and its claim is not confirmed
// yet.
func (a *Agent) Claimable() bool {
	return a.Phase() == AgentReleased && a.Confirmed != nil
}

// Due reports whether the agent is to claim now.
func (a *Agent) Due() bool { return a.Claimable() && a.Tip >= max(a.claimDue(), a.NextTry) }

// worthless reports whether the agent gives up: the sender can refund the output,
// and no claim of it is out because none is worth its fee.
func (a *Agent) worthless() bool {
	return a.NextTry > a.Quote.Expiry && !a.Claim.Live() // tried at the expiry, or later
}

// broadcasted hears what the network said to a claim. If it was refused, the one
// that it replaces counts again; if there is none, another member may be the
// reason, and the claims are planned again.
func (a Agent) broadcasted(ev Broadcasted) (Agent, []Effect, error) {
	if a.Spend != nil {
		return a, nil, nil
	}
	next, again, plan := a.Claim.Told(ev.Txid, ev.Err != "", ev.TooLow)
	a.Claim = next
	switch {
	case ev.Own && again:
		return a, []Effect{Broadcast{Tx: next.Tx}}, nil
	case ev.Own && plan && a.Due():
		return a, []Effect{ClaimDue{}}, nil
	}
	return a, nil, nil // the next block tries again
}

// claimDue returns the height from which the claim is broadcast.
func (a *Agent) claimDue() wire.Height {
	latest := before(a.Quote.Expiry, a.Margins.Claim)
	if a.Quote.Shape == wire.OneOfMany {
		return a.ReleaseAt
	}
	return min(a.ReleaseAt+wire.Height(a.Patience), latest)
}

func (a Agent) connected(ev Connected) (Agent, []Effect, error) {
	a.Tip = max(a.Tip, ev.Height)
	if a.Package == nil {
		return a, nil, nil
	}
	out, err := contract.NewOutput(a.Package.Frozen)
	if err != nil {
		return a, nil, err
	}
	for _, tx := range ev.Txs {
		if contract.Txid(tx) == a.At.Txid {
			a.Confirmed, a.Funded = &contract.Fact{Height: ev.Height, Txid: a.At.Txid}, true
			a.FundingTx = contract.NewSent(tx, 0, 0).Tx
		}
		if f := readSpend(out, a.At, tx, ev.Height); f != nil {
			a.Spend = f
		}
	}
	switch {
	case a.Due():
		return a, []Effect{ClaimDue{}}, nil
	case a.Sigma != nil && a.Confirmed == nil && len(a.FundingTx) > 0:
		return a, []Effect{Broadcast{Tx: a.FundingTx}}, nil
	case a.over() && !a.Dropped:
		a.Dropped = true
		return a, []Effect{DropPayload{Find: wire.FindKey(a.Package.FetchKey)}}, nil
	}
	return a, nil, nil
}

// over reports whether the deal has ended for good: no reorg within the margins
// can revive it.
func (a *Agent) over() bool {
	if a.Spend != nil {
		return a.Spend.Depth(a.Tip) >= a.Margins.Final
	}
	return a.Phase() == AgentClosed && (!a.Funded || a.Tip >= before(a.Quote.Expiry, a.Margins.Release)+wire.Height(a.Margins.Final))
}

func (a Agent) disconnected(ev Disconnected) (Agent, []Effect, error) {
	if a.Confirmed != nil && a.Confirmed.Height >= ev.Height {
		a.Confirmed = nil
	}
	if a.Spend != nil && a.Spend.Height >= ev.Height {
		a.Spend = nil
	}
	if a.Tip >= ev.Height {
		a.Tip = ev.Height - 1
	}
	return a, nil, nil
}

// restored gives up a quote, which may have been used since the backup, and a
// copy that is not on disk. It still claims what can be claimed.
func (a Agent) restored(ev Restored) (Agent, []Effect, error) {
	if a.Package == nil {
		a.Void = true
		return a, nil, nil
	}
	if ev.CopyHere || a.Dropped {
		return a, nil, nil
	}
	a.Dropped = true
	return a, []Effect{DropPayload{Find: wire.FindKey(a.Package.FetchKey)}}, nil
}

// Serves reports whether the copy may be given to its recipient.
func (a *Agent) Serves() bool {
	p := a.Phase()
	return (p == AgentCached || p == AgentReleased || p == AgentClaimed) && !a.Dropped
}

// Interest implements the engine's view of the contract.
func (a Agent) Interest() contract.Interest {
	in := contract.Interest{Top: a.Tip}
	if a.Package == nil {
		in.Wake = a.Quote.ValidUntil + 1
		in.Done = a.Phase() == AgentClosed
		in.Forget = in.Done // an unused quote: remove it, so that quotes cannot fill the disk
		return in
	}
	in.Txids, in.Outpoints = []wire.Hash{a.At.Txid}, []wire.Outpoint{a.At}
	switch {
	case a.Dropped && a.over(): // a reorg may have revived a claim although the copy is deleted
		in.Done, in.Forget = true, !a.Funded // a deal that was never paid for leaves no record
	case a.Sigma != nil && a.Confirmed == nil:
		in.Wake = 1
	case a.Spend != nil:
		in.Wake = a.Spend.Height + wire.Height(a.Margins.Final) - 1
	case a.Sigma != nil && a.worthless():
		in.Wake = a.Quote.Expiry + wire.Height(a.Margins.Final)
	case a.Sigma != nil:
		in.Wake = max(a.claimDue(), a.NextTry)
	case !a.Funded:
		in.Wake = a.Quote.ValidUntil + 1
	case a.Phase() == AgentHeld && a.Confirmed != nil:
		in.Wake = a.Confirmed.Height + wire.Height(a.Margins.CacheConf) - 1
	default:
		in.Wake = before(a.Quote.Expiry, a.Margins.Release)
	}
	return in
}
