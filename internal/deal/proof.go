package deal

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Proof is an offline proof for third parties that a recipient acknowledged a
// message: the recipient signed the root and a leaf, the leaf names the message
// and the agent that served it, and the funding transaction commits to the
// root. (A claim on the chain proves delivery only to the sender, because the
// sender knows σ too.)
type Proof struct {
	Version   int          `json:"bitgram_proof"`
	Network   wire.Network `json:"network"`
	MessageID string       `json:"message_id"`
	Recipient string       `json:"recipient"`   // address
	Agent     string       `json:"agent"`       // public key
	Funding   string       `json:"funding_tx"`  // without witnesses, hex
	Section   string       `json:"section"`     // the agent's leaf and its path to the root: CBOR, hex
	Ack       string       `json:"acknowledge"` // BIP340 signature by the recipient, hex
}

const proofVersion = 2 // version 1 signed the agent instead of its leaf

// Errors of proofs.
var (
	// ErrNoProof means that there is no acknowledgement.
	ErrNoProof = errors.New("no proof of delivery")
	// ErrBadReceipt means that a proof does not verify.
	ErrBadReceipt = errors.New("this proves no delivery")
)

// Proof returns the proof of an acknowledged message, or ErrNoProof.
func (s *Sender) Proof(n wire.Network) (*Proof, error) {
	for i, l := range s.Legs {
		if len(l.Ack) == 0 {
			continue
		}
		sec, err := seal.FromSender(s.Terms.Ephemeral, s.Terms.Recipient)
		if err != nil {
			return nil, err
		}
		leaves, hashes := s.leaves(sec)
		sect, err := section(leaves, hashes, i)
		if err != nil {
			return nil, err
		}
		raw, err := wire.Marshal(&sect)
		if err != nil {
			return nil, err
		}
		p := &Proof{Version: proofVersion, Network: n, MessageID: s.Terms.Key.ID().String(), Recipient: wire.EncodeAddress(n, s.Terms.Recipient),
			Agent: l.Candidate.Agent.String(), Funding: hex.EncodeToString(s.Funding), Section: hex.EncodeToString(raw), Ack: hex.EncodeToString(l.Ack)}
		_, err = p.Verify()
		return p, err
	}
	return nil, fmt.Errorf("%w: the recipient has not acknowledged it (yet)", ErrNoProof)
}

// maxProofPart is the maximum size of each part of a proof, in bytes.
const maxProofPart = 1 << 20

// Verify verifies a proof and returns the funding's txid, or ErrBadReceipt. The
// caller must check that the transaction is on the chain.
func (p *Proof) Verify() (funding wire.Hash, err error) {
	bad := func(what string, err error) (wire.Hash, error) {
		return wire.Hash{}, fmt.Errorf("%w: %s: %v", ErrBadReceipt, what, err)
	}
	if p.Version != proofVersion || p.Network.HRP() == "" {
		return bad("version or network", errors.New("unknown"))
	}
	var parts [3][]byte
	for i, s := range []string{p.Funding, p.Section, p.Ack} {
		if len(s) > 2*maxProofPart {
			return bad("size", errors.New("too large"))
		}
		if parts[i], err = hex.DecodeString(s); err != nil {
			return bad("hex", err)
		}
	}
	recipient, err := wire.ParseRecipient(p.Network, p.Recipient)
	if err != nil {
		return bad("recipient", err)
	}
	tx, err := contract.DecodeTx(parts[0])
	if err != nil {
		return bad("funding", err)
	}
	data, ok := contract.Marker(tx)
	if !ok {
		return bad("funding", errors.New("no marker in it"))
	}
	m, err := seal.DecodeMarker(data)
	if err != nil {
		return bad("marker", err)
	}
	var s wire.Section
	if err := wire.Unmarshal(parts[1], &s); err != nil {
		return bad("section", err)
	}
	switch {
	case s.Check() != nil:
		return bad("section", s.Check())
	case !underRoot(&s, m.Root):
		return bad("section", errors.New("not under the funding's root"))
	case s.Leaf.Agent.String() != p.Agent:
		return bad("agent", errors.New("not the section's"))
	case s.Leaf.Key.ID().String() != p.MessageID:
		return bad("message", errors.New("not the section's"))
	case len(parts[2]) != len(seal.Ack{}):
		return bad("acknowledgement", errors.New("wrong size"))
	}
	if err := seal.VerifyAck(seal.Ack(parts[2]), recipient, m.E, m.Root, s.Leaf.Hash()); err != nil {
		return bad("acknowledgement", err)
	}
	return contract.Txid(tx), nil
}
