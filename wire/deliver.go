package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Limits of delivery messages. They are part of the protocol: peers must reject
// messages that exceed them.
const (
	MaxAgents      = 16                    // agents of one message
	MaxPayload     = 5 << 30               // bytes of one sealed copy
	MaxFunding     = 100_000               // bytes of a funding transaction, the limit of relay policy
	MaxStoreBlocks = 52_560                // a year of storage
	MaxHeight      = 499_999_999           // CLTV reads 500,000,000 and above as a time
	MaxRate        = 1_000_000_000_000_000 // 1,000 sat per byte-day
	MaxProofs      = 8                     // proofs in one answer to Ask
	MaxAck         = 512
	maxPath        = 4 // ⌈log₂ MaxAgents⌉
	maxText        = 256
)

// Signature is a BIP340 signature.
type Signature [64]byte

// PreSignature is an adaptor pre-signature: 0x02 or 0x03 (the parity of R) ‖
// R.x ‖ s′ (spec/delivery.md).
type PreSignature [65]byte

// Shape is how the agents of a message are paid.
type Shape uint8

// The two shapes of frozen outputs (spec/delivery.md §4).
const (
	PerAgent  Shape = 0 // one output per agent
	OneOfMany Shape = 1 // one output with every agent's claim leaf
)

func (s Shape) String() string {
	if s == OneOfMany {
		return "one-of-many"
	}
	return "per-agent"
}

// QuoteRequest asks an agent for its price and a fresh point.
type QuoteRequest struct {
	_          struct{} `cbor:",toarray"`
	Session    Hash     // fresh random; identifies this negotiation, known only to S and this agent
	E          Key      // the message's ephemeral key
	Size       uint64   // bytes of the sealed copy
	StoreUntil Height   // end of storage
	Expiry     Height   // the refund's CLTV height T
	Shape      Shape
}

// MaxSize implements Limited.
func (*QuoteRequest) MaxSize() int { return 128 }

// Check implements Limited.
func (q *QuoteRequest) Check() error {
	switch {
	case q.Size == 0 || q.Size > MaxPayload:
		return malformed("size %d", q.Size)
	case q.StoreUntil == 0 || q.Expiry <= q.StoreUntil || q.Expiry > MaxHeight:
		return malformed("storage to %d, expiry %d", q.StoreUntil, q.Expiry)
	case q.Shape > OneOfMany:
		return malformed("shape %d", q.Shape)
	}
	return checkKeys(q.E)
}

// Quote is an agent's signed offer. Value is the value that its frozen output
// must have: the storage price rounded up to whole satoshi, plus Reserve for
// the fee of the claim.
type Quote struct {
	_          struct{} `cbor:",toarray"`
	Agent      Key
	Session    Hash
	E          Key
	Point      Key       // T = τG, fresh
	Knowledge  Signature // by τ over KnowledgeDigest
	ClaimKey   Key       // A′, the agent's key in the claim leaf
	Size       uint64
	From       Height // the agent's tip; storage is paid from this height
	StoreUntil Height
	Expiry     Height
	ValidUntil Height // last height at which the funding may confirm
	Shape      Shape
	Rate       Psat // per byte-day
	Reserve    Sat
	Value      Sat
	Sig        Signature // by Agent over Digest
}

// MaxSize implements Limited.
func (*Quote) MaxSize() int { return 512 }

// Check implements Limited.
func (q *Quote) Check() error {
	switch {
	case q.Size == 0 || q.Size > MaxPayload:
		return malformed("size %d", q.Size)
	case q.From >= q.StoreUntil || q.StoreUntil-q.From > MaxStoreBlocks || q.Expiry <= q.StoreUntil || q.Expiry > MaxHeight:
		return malformed("heights %d, %d, %d", q.From, q.StoreUntil, q.Expiry)
	case q.ValidUntil < q.From || q.ValidUntil > q.Expiry:
		return malformed("valid until %d", q.ValidUntil)
	case q.Shape > OneOfMany:
		return malformed("shape %d", q.Shape)
	case q.Rate > MaxRate:
		return malformed("rate %d", q.Rate)
	case q.Reserve < 0 || q.Reserve > MaxSat || q.Value < 0 || q.Value > MaxSat || q.Value < q.Reserve:
		return malformed("value %d, reserve %d", q.Value, q.Reserve)
	}
	return checkKeys(q.Agent, q.E, q.Point, q.ClaimKey)
}

// KnowledgeDigest returns the digest that the agent signs with τ to prove that
// it knows τ. It is bound to the agent, the message and the session.
func KnowledgeDigest(agent, e Key, session Hash, point Key) Hash {
	return Tagged("point", agent[:], e[:], session[:], point[:])
}

// Digest returns the digest that Agent signs: that of the encoding with a zero
// Sig.
func (q *Quote) Digest() Hash {
	c := *q
	c.Sig = Signature{}
	return DigestOf("quote", &c)
}

// ClaimLeaf is one agent's claim in a frozen output.
type ClaimLeaf struct {
	_           struct{} `cbor:",toarray"`
	ReleaseHash Hash     // SHA256(σ)
	SenderKey   Key      // S″
	ClaimKey    Key      // A′
}

// Frozen contains all values from which a frozen output's script is recomputed.
type Frozen struct {
	_         struct{} `cbor:",toarray"`
	Blinding  Secret   // the internal key is NUMS + Blinding·G
	Expiry    Height   // CLTV of the refund leaf
	RefundKey Key      // S′
	Claims    []ClaimLeaf
}

// Check returns an error for the first field out of range.
func (f *Frozen) Check() error {
	if len(f.Claims) == 0 || len(f.Claims) > MaxAgents {
		return malformed("%d claim leaves", len(f.Claims))
	}
	if f.Expiry == 0 || f.Expiry > MaxHeight {
		return malformed("expiry %d", f.Expiry)
	}
	for _, c := range f.Claims {
		if err := checkKeys(c.SenderKey, c.ClaimKey); err != nil {
			return err
		}
	}
	return checkKeys(f.RefundKey)
}

// Leaf is the leaf under a message's root for one agent (spec/delivery.md §4).
type Leaf struct {
	_           struct{} `cbor:",toarray"`
	Agent       Key
	CopyHash    Hash   // BLAKE3 of the sealed copy
	Size        uint64 // of the sealed copy, bytes
	Point       Key    // T
	ReleaseHash Hash   // SHA256(σ)
	KEMHash     Hash   // hash of the KEM ciphertext; zeros without a contact card
	Key         MessageKey
}

// Hash returns H[leaf] over the fields in their order: 200 bytes, with the size
// in 8 bytes big-endian.
func (l Leaf) Hash() Hash {
	return Tagged("leaf", l.Agent[:], l.CopyHash[:], binary.BigEndian.AppendUint64(nil, l.Size),
		l.Point[:], l.ReleaseHash[:], l.KEMHash[:], l.Key[:])
}

// Section is a leaf with its Merkle path to the root.
type Section struct {
	_     struct{} `cbor:",toarray"`
	Leaf  Leaf
	Index uint8
	Count uint8
	Path  []Hash
}

// Check returns an error for the first field out of range.
func (s *Section) Check() error {
	switch {
	case s.Leaf.Size == 0 || s.Leaf.Size > MaxPayload:
		return malformed("size %d", s.Leaf.Size)
	case s.Count == 0 || s.Count > MaxAgents || s.Index >= s.Count || len(s.Path) > maxPath:
		return malformed("section %d of %d, path of %d", s.Index, s.Count, len(s.Path))
	}
	return checkKeys(s.Leaf.Agent, s.Leaf.Point)
}

// Package precedes a sealed copy. It contains everything that an agent needs to
// verify, byte for byte, that it will be paid.
type Package struct {
	_        struct{} `cbor:",toarray"`
	Session  Hash
	Funding  []byte // the funding transaction, serialised without witnesses
	Vout     uint32
	Frozen   Frozen
	Section  Section
	PreSig   PreSignature
	FetchKey Secret // φ
	Grant    Grant  // authorises a Holding in the DHT
}

// MaxSize implements Limited.
func (*Package) MaxSize() int { return MaxFunding + 4096 }

// Check implements Limited.
func (p *Package) Check() error {
	if len(p.Funding) == 0 || len(p.Funding) > MaxFunding {
		return malformed("funding of %d bytes", len(p.Funding))
	}
	if err := p.Frozen.Check(); err != nil {
		return err
	}
	if err := checkKeys(p.Grant.Owner, p.Grant.Agent); err != nil {
		return err
	}
	return p.Section.Check()
}

// Digest returns the digest that identifies the package in a receipt.
func (p *Package) Digest() Hash { return DigestOf("package", p) }

// Receipt is an agent's signed statement that it verified and stored a copy.
type Receipt struct {
	_       struct{} `cbor:",toarray"`
	Agent   Key
	Package Hash // Package.Digest
	Sig     Signature
}

// MaxSize implements Limited.
func (*Receipt) MaxSize() int { return 192 }

// Check implements Limited.
func (r *Receipt) Check() error { return checkKeys(r.Agent) }

// Digest returns the digest that Agent signs.
func (r *Receipt) Digest() Hash { return Tagged("receipt", r.Agent[:], r.Package[:]) }

// FindKey returns H[find](φ), by which a recipient asks an agent for a message.
// Only sender, recipient and this agent know φ, so the value tells other agents
// nothing, and nobody can crowd out another's message under it.
func FindKey(fetchKey Secret) Hash { return Tagged("find", fetchKey[:]) }

// Ask asks an agent whether it holds a message. The agent must prove itself
// before it is told more.
type Ask struct {
	_     struct{} `cbor:",toarray"`
	Find  Hash     // FindKey
	Nonce Hash     // fresh
}

// MaxSize implements Limited.
func (*Ask) MaxSize() int { return 96 }

// Check implements Limited.
func (*Ask) Check() error { return nil }

// Proof proves that an agent is the one named by a leaf of a funded message.
type Proof struct {
	_        struct{} `cbor:",toarray"`
	Outpoint Outpoint // the frozen output
	Frozen   Frozen
	Section  Section
	Sig      Signature // by the agent over ProofDigest
}

// Outpoint is a transaction output: the txid in its internal byte order, and
// the index.
type Outpoint struct {
	_    struct{} `cbor:",toarray"`
	Txid Hash
	Vout uint32
}

// Bytes returns the outpoint as serialised in a transaction, 36 bytes.
func (o Outpoint) Bytes() []byte {
	return binary.LittleEndian.AppendUint32(append(make([]byte, 0, 36), o.Txid[:]...), o.Vout)
}

// Proofs answers Ask.
type Proofs struct {
	_      struct{} `cbor:",toarray"`
	Proofs []Proof
}

// MaxSize implements Limited.
func (*Proofs) MaxSize() int { return 64 + MaxProofs*4096 }

// Check implements Limited.
func (p *Proofs) Check() error {
	if len(p.Proofs) > MaxProofs {
		return malformed("%d proofs", len(p.Proofs))
	}
	for i := range p.Proofs {
		if err := p.Proofs[i].Frozen.Check(); err != nil {
			return err
		}
		if err := p.Proofs[i].Section.Check(); err != nil {
			return err
		}
	}
	return nil
}

// ProofDigest returns the digest that an agent signs to prove itself to the
// peer that sent nonce, and to no other. It contains both ends of the
// authenticated channel.
func ProofDigest(nonce Hash, agentPeer, clientPeer []byte, at Outpoint, point Key) Hash {
	return Tagged("proof", nonce[:], prefixed(agentPeer), prefixed(clientPeer), at.Bytes(), point[:])
}

// Token requests the sealed copy of one of the proofs just returned. Its MAC
// under the fetch key φ proves that the requester is the recipient.
type Token struct {
	_     struct{} `cbor:",toarray"`
	Point Key
	MAC   Hash
}

// MaxSize implements Limited.
func (*Token) MaxSize() int { return 96 }

// Check implements Limited.
func (*Token) Check() error { return nil }

// TokenMAC returns HMAC-SHA256, under φ, of the same fields that the agent
// signed.
func TokenMAC(fetchKey Secret, nonce Hash, agentPeer, clientPeer []byte, at Outpoint, point Key) (h Hash) {
	d := Tagged("token", nonce[:], prefixed(agentPeer), prefixed(clientPeer), at.Bytes(), point[:])
	m := hmac.New(sha256.New, fetchKey[:])
	m.Write(d[:])
	m.Sum(h[:0])
	return
}

// Release gives σ to the agent.
type Release struct {
	_     struct{} `cbor:",toarray"`
	Point Key
	Sigma Secret
}

// MaxSize implements Limited.
func (*Release) MaxSize() int { return 96 }

// Check implements Limited.
func (*Release) Check() error { return nil }

// Reveal answers Release with τ.
type Reveal struct {
	_   struct{} `cbor:",toarray"`
	Tau Secret
}

// MaxSize implements Limited.
func (*Reveal) MaxSize() int { return 64 }

// Check implements Limited.
func (*Reveal) Check() error { return nil }

// Acknowledge leaves the recipient's sealed acknowledgement, for the sender,
// with the agent that served the copy.
type Acknowledge struct {
	_     struct{} `cbor:",toarray"`
	Point Key
	MAC   Hash // AckMAC
	Blob  []byte
}

// MaxSize implements Limited.
func (*Acknowledge) MaxSize() int { return 128 + MaxAck }

// Check implements Limited.
func (a *Acknowledge) Check() error {
	if len(a.Blob) == 0 || len(a.Blob) > MaxAck {
		return malformed("acknowledgement of %d bytes", len(a.Blob))
	}
	return nil
}

// AckMAC returns the MAC under φ that proves that an acknowledgement comes from
// the recipient.
func AckMAC(fetchKey Secret, point Key, blob []byte) (h Hash) {
	d := Tagged("ack-mac", point[:], blob)
	m := hmac.New(sha256.New, fetchKey[:])
	m.Write(d[:])
	m.Sum(h[:0])
	return
}

// Done answers Acknowledge.
type Done struct {
	_ struct{} `cbor:",toarray"`
}

// MaxSize implements Limited.
func (*Done) MaxSize() int { return 8 }

// Check implements Limited.
func (*Done) Check() error { return nil }

// StatusRequest is the sender's request for the state of its message. The
// session is a secret that only the sender and the agent know.
type StatusRequest struct {
	_       struct{} `cbor:",toarray"`
	Session Hash
	Point   Key
}

// MaxSize implements Limited.
func (*StatusRequest) MaxSize() int { return 96 }

// Check implements Limited.
func (*StatusRequest) Check() error { return nil }

// Status answers StatusRequest.
type Status struct {
	_     struct{} `cbor:",toarray"`
	State uint8    // the agent's phase, for people
	Ack   []byte   // the recipient's sealed acknowledgement, or empty
}

// MaxSize implements Limited.
func (*Status) MaxSize() int { return 16 + MaxAck }

// Check implements Limited.
func (s *Status) Check() error {
	if len(s.Ack) > MaxAck {
		return malformed("acknowledgement of %d bytes", len(s.Ack))
	}
	return nil
}

// Code is the reason of a refusal, or OK.
type Code uint8

// The codes of Reply.
const (
	OK           Code = iota
	BadRequest        // a field is wrong; do not ask again
	Unknown           // no such quote or message here
	Busy              // too many at once; ask again later
	TooBig            // over the agent's size limit
	TooLong           // storage or expiry beyond the agent's limit
	TooLate           // past the last height for this request
	NotConfirmed      // the funding has too few confirmations; ask again later
	Spent             // the frozen output is spent
	WrongSecret       // a wrong σ or MAC
	Full              // no room
	Claiming          // σ is accepted; the claim will reveal τ (one-of-many)
	Internal          // a failure inside the agent; ask again later
	Closed            // the bank accepts no more pennies
	NoCredit          // the bank's pennies do not cover this
	NoRoute           // this banker cannot reach that payee
	numCodes
)

var codeText = [numCodes]string{"ok", "bad request", "unknown", "busy", "too big", "too long",
	"too late", "not confirmed", "spent", "wrong secret", "full", "claiming", "internal", "closed", "no credit", "no route"}

func (c Code) String() string {
	if c < numCodes {
		return codeText[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Reply precedes every answer; an answer follows only if Code is OK.
type Reply struct {
	_    struct{} `cbor:",toarray"`
	Code Code
	Text string // informative, at most 256 bytes
}

// MaxSize implements Limited.
func (*Reply) MaxSize() int { return 8 + maxText }

// Check implements Limited.
func (r *Reply) Check() error {
	if r.Code >= numCodes || len(r.Text) > maxText || !utf8.ValidString(r.Text) {
		return malformed("reply code %d with %d bytes of text", r.Code, len(r.Text))
	}
	return nil
}

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, a...)...)
}

func checkKeys(keys ...Key) error {
	for _, k := range keys {
		if _, err := k.Point(); err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
	return nil
}

func prefixed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b))), b...)
}

// DigestOf returns H[tag] of the canonical encoding of v.
func DigestOf(tag string, v any) Hash {
	b, err := Marshal(v)
	if err != nil {
		panic(err) // every message type encodes
	}
	return Tagged(tag, b)
}
