package computing

import (
	"fmt"
	"slices"

	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/wire"
)

// The kinds of requests about jobs (spec/job.md §10).
const (
	CallOffer   uint8 = iota // Signed Offer → nothing
	CallSheets               // Sheets → nothing
	CallStatus               // Signed Ask → Status
	CallRead                 // Signed Ask → Chunk
	CallVerdict              // Signed Verdict → nothing
	CallProofs               // Signed Ask → Proofs
)

// Signed is a request of a job's buyer to one node. Sig is over H[job-call](job ‖ u8
// kind ‖ the node's identity ‖ body). A party of the job, whose identity the channel
// proves, may leave it out where it may ask at all.
type Signed struct {
	_    struct{} `cbor:",toarray"`
	Job  wire.Hash
	Body []byte
	Sig  wire.Signature
}

// CallDigest is what the buyer signs of a request.
func CallDigest(id wire.Hash, kind uint8, to wire.Key, body []byte) wire.Hash {
	return wire.Tagged("job-call", id[:], []byte{kind}, to[:], body)
}

// Offer offers a node a part in a job.
type Offer struct {
	_     struct{} `cbor:",toarray"`
	Terms job.Terms
	File  []byte // encoding of the job.File
	Party uint8
	Bank  wire.Hash   // id of the bank that pays this party
	Peers []wire.Peer // identities and addresses of all parties
}

// Sheets are some sheets of shares for one node. The buyer's signature of their
// windows is all the proof that they need.
type Sheets struct {
	_    struct{} `cbor:",toarray"`
	Job  wire.Hash
	List []job.Dealt
}

// Part is what is read of a job.
type Part uint8

// The parts. State is the checkpoint of the certified epoch Ask.Epoch, Prefix the
// output before it; Output is the certified output so far, and End an encoded End.
const (
	PartState Part = iota
	PartPrefix
	PartOutput
	PartEnd
	parts
)

// Ask asks for certificates from an epoch on, or for a piece of a part.
type Ask struct {
	_     struct{} `cbor:",toarray"`
	Epoch uint32
	State wire.Hash // of the certificate of Epoch
	Part  Part
	From  uint64 // offset of the piece
}

// Chunk is a piece of a part.
type Chunk struct {
	_     struct{}  `cbor:",toarray"`
	Block wire.Hash // that the job's seed comes from
	Total uint64    // bytes of the whole part
	Data  []byte
}

// Status is where a job is on a node.
type Status struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32   // certified
	Attempt uint32
	Paused  bool
	Held    uint32   // pennies of its own bank
	Dealt   []uint32 // by party: its shares of the pennies up to this one are here
	Output  uint64   // bytes of certified output that are here
	Certs   []job.Certificate
}

// Proofs are proofs against parties or the buyer, as job.Letter.Proof decodes them.
type Proofs struct {
	_    struct{} `cbor:",toarray"`
	List []job.Letter
}

// End is how a program ended: a page of the last state, or the failure.
type End struct {
	_      struct{} `cbor:",toarray"`
	Epoch  uint32
	Proof  []ProofOf   // one, unless it failed
	Failed []FailureOf // or one
}

// ProofOf is a sandbox.Proof.
type ProofOf struct {
	_      struct{} `cbor:",toarray"`
	Header []byte
	Part   uint8
	Page   uint32
	Data   []byte
	Path   []wire.Hash
	Other  wire.Hash
}

// FailureOf is what a failure's root binds, without what follows from the job.
type FailureOf struct {
	_      struct{} `cbor:",toarray"`
	Before wire.Hash
	Kind   uint8
}

// Sizes of these messages, and of a piece.
const (
	maxPeer   = 512
	maxSheets = 16
	maxChunk  = 128 << 10
	maxCerts  = 32
)

// MaxSize implements wire.Limited.
func (*Signed) MaxSize() int { return wire.MaxJobBody }
func (*Offer) MaxSize() int {
	return 128 + new(job.Terms).MaxSize() + new(job.File).MaxSize() + job.MaxParties*maxPeer
}
func (*Sheets) MaxSize() int { return 48 + maxSheets*new(job.Dealt).MaxSize() }
func (*Ask) MaxSize() int    { return 64 }
func (*Chunk) MaxSize() int  { return 64 + maxChunk }
func (*Status) MaxSize() int {
	return 128 + job.MaxParties*5 + maxCerts*new(job.Certificate).MaxSize()
}
func (*Proofs) MaxSize() int { return wire.MaxJobBody }
func (*End) MaxSize() int    { return 1 << 19 }

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: %s", wire.ErrMalformed, fmt.Sprintf(format, a...))
}

// Check implements wire.Limited.
func (s *Signed) Check() error { return nil }

// Check implements wire.Limited.
func (o *Offer) Check() error {
	if len(o.Peers) != len(o.Terms.Parties) || int(o.Party) >= len(o.Peers) {
		return malformed("%d peers for %d parties, offered to %d", len(o.Peers), len(o.Terms.Parties), o.Party)
	}
	if err := o.Terms.Check(); err != nil {
		return malformed("%v", err)
	}
	for i, p := range o.Peers {
		if _, err := p.Key.Point(); err != nil || len(p.Addrs) > wire.MaxAddrs {
			return malformed("peer %d", i)
		}
		if slices.ContainsFunc(o.Peers[:i], func(q wire.Peer) bool { return q.Key == p.Key }) {
			return malformed("peer %d occurs twice", i)
		}
	}
	return nil
}

// Check implements wire.Limited.
func (s *Sheets) Check() error {
	if len(s.List) < 1 || len(s.List) > maxSheets {
		return malformed("%d sheets", len(s.List))
	}
	for i := range s.List {
		if err := s.List[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// Check implements wire.Limited.
func (a *Ask) Check() error {
	if a.Part >= parts {
		return malformed("part %d", a.Part)
	}
	return nil
}

// Check implements wire.Limited.
func (c *Chunk) Check() error {
	if len(c.Data) > maxChunk {
		return malformed("a piece of %d bytes", len(c.Data))
	}
	return nil
}

// Check implements wire.Limited.
func (s *Status) Check() error {
	if len(s.Dealt) > job.MaxParties || len(s.Certs) > maxCerts {
		return malformed("%d certificates, shares of %d parties", len(s.Certs), len(s.Dealt))
	}
	for i := range s.Certs {
		if err := s.Certs[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// Check implements wire.Limited.
func (p *Proofs) Check() error {
	if len(p.List) > maxProofs {
		return malformed("%d proofs", len(p.List))
	}
	return nil
}

// Check implements wire.Limited.
func (e *End) Check() error {
	if len(e.Proof)+len(e.Failed) != 1 {
		return malformed("%d proofs and %d failures", len(e.Proof), len(e.Failed))
	}
	return nil
}

// Evidence adds the end to a job's evidence, whose terms, file, input and block are
// set. Errors are those of job.Terms.Params.
func (e *End) Evidence(ev *job.Evidence) error {
	if len(e.Failed) > 0 {
		params, err := ev.Terms.Params(&ev.File, ev.Input, ev.Block)
		if err != nil {
			return err
		}
		f := &e.Failed[0]
		ev.Failed = &sandbox.Failure{Program: sandbox.Digest(ev.File.Program), Job: params.Digest(), Epoch: uint64(e.Epoch), Before: sandbox.Digest(f.Before), Kind: sandbox.FailureKind(f.Kind)}
		return nil
	}
	p := &e.Proof[0]
	ev.End = &sandbox.Proof{Header: p.Header, Part: sandbox.Part(p.Part), Page: p.Page, Data: p.Data, Other: sandbox.Digest(p.Other)}
	for _, d := range p.Path {
		ev.End.Path = append(ev.End.Path, sandbox.Digest(d))
	}
	return nil
}

// endOf is how a program ended by a result that is final.
func endOf(run sandbox.Run, r *sandbox.Result) (*End, error) {
	e := &End{Epoch: uint32(r.Epoch)}
	if f := r.Failure; f != nil {
		e.Failed = []FailureOf{{Before: wire.Hash(f.Before), Kind: uint8(f.Kind)}}
		return e, nil
	}
	p, err := run.Prove(sandbox.Memory, 0)
	if err != nil {
		return nil, err
	}
	out := ProofOf{Header: p.Header, Part: uint8(p.Part), Page: p.Page, Data: p.Data, Other: wire.Hash(p.Other)}
	for _, d := range p.Path {
		out.Path = append(out.Path, wire.Hash(d))
	}
	e.Proof = []ProofOf{out}
	return e, nil
}
