package seal

import (
	"fmt"
	"sync/atomic"

	"github.com/bitgram/bitgram/wire"
	"github.com/btcsuite/btcd/btcec/v2"
)

// Outpoint is 36 bytes as serialised in a transaction: the txid in its internal
// (little-endian) order, then the output index, little-endian.
type Outpoint [36]byte

// Secrets is everything that the sender and the recipient of one message share,
// from one Diffie-Hellman exchange: both sides derive the same values. It is
// safe for concurrent use and prints as "(secret)". Its zero value is no use.
type Secrets struct {
	e, r  wire.Key    // E and R
	ss0   wire.Secret // what the recipient has from the chain alone
	ss    wire.Secret // what opens the message
	spent uint32      // set by the first Encrypt
}

// FromSender derives the secrets of the message with ephemeral scalar e, fresh
// for this message, to recipient. A key that is not on the curve or a scalar
// outside [1, n) is wire.ErrBadKey.
func FromSender(e wire.Secret, recipient wire.Key) (*Secrets, error) {
	priv, err := e.PrivKey()
	if err != nil {
		return nil, fmt.Errorf("ephemeral secret: %w", err)
	}
	p, err := recipient.Point()
	if err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	return newSecrets(wire.XOnly(priv.PubKey()), recipient, &priv.Key, p), nil
}

// FromRecipient derives the secrets of the message with ephemeral key E from
// the recipient's secret r. Errors are those of FromSender.
func FromRecipient(r wire.Secret, E wire.Key) (*Secrets, error) {
	priv, err := r.PrivKey()
	if err != nil {
		return nil, fmt.Errorf("recipient secret: %w", err)
	}
	p, err := E.Point()
	if err != nil {
		return nil, fmt.Errorf("ephemeral key: %w", err)
	}
	return newSecrets(E, wire.XOnly(priv.PubKey()), &priv.Key, p), nil
}

func newSecrets(e, r wire.Key, k *btcec.ModNScalar, p *btcec.PublicKey) *Secrets {
	s := &Secrets{e: e, r: r, ss0: sharedX(k, p)}
	s.finish()
	return s
}

// sharedX is ss₀.
func sharedX(k *btcec.ModNScalar, p *btcec.PublicKey) wire.Secret {
	x := ecdh(k, p)
	return extract("ss0", x[:])
}

// finish derives ss. A later version with contact cards appends the KEM's
// shared secret to the input here and nowhere else.
func (s *Secrets) finish() { s.ss = extract("ss", s.ss0[:]) }

// derive is a 32-byte value under prk for role and, where there is one, a peer.
func (s *Secrets) derive(prk *wire.Secret, role string, peer ...byte) (out wire.Secret) {
	expand(prk, out[:], role, s.e[:], s.r[:], peer)
	return out
}

// Tag is the view tag of the message in a transaction whose first input spends
// outpoint. It is bound to the outpoint, so that a copied tag matches nothing.
func (s *Secrets) Tag(outpoint Outpoint) (tag [4]byte) {
	expand(&s.ss0, tag[:], roleTag, s.e[:], s.r[:], outpoint[:])
	return tag
}

// Mask hides a locator in the marker, and shows it again: it is its own
// inverse. One message masks one locator; two under one E would show their
// difference.
func (s *Secrets) Mask(l wire.Locator) wire.Locator {
	var pad wire.Locator
	expand(&s.ss0, pad[:], roleMask, s.e[:], s.r[:])
	for i := range l {
		l[i] ^= pad[i]
	}
	return l
}

// FetchKey is φ: the key of the MAC by which the recipient shows agent that the
// message is its own.
func (s *Secrets) FetchKey(agent wire.Key) wire.Secret {
	return s.derive(&s.ss0, roleFetch, agent[:]...)
}

// HoldingKey is the scalar under whose public key the i-th agent of the message
// says in the DHT that it holds it. The sender grants it to the agent; the
// recipient, who knows it from the chain alone, finds the agent by it. Its
// public key has even y.
func (s *Secrets) HoldingKey(i uint8) wire.Secret {
	var index [32]byte // as long as a peer's key, see the roles
	index[31] = i
	var b [48]byte
	expand(&s.ss0, b[:], roleHolding, s.e[:], s.r[:], index[:])
	return scalar(&b)
}

// ReleaseSecret is σ, which the recipient gives agent for its τ. The chain
// holds ReleaseHash(σ).
func (s *Secrets) ReleaseSecret(agent wire.Key) wire.Secret {
	return s.derive(&s.ss, roleRelease, agent[:]...)
}

// SenderKey is s″, the scalar of the sender's key S″ in agent's claim leaf. Its
// public key has even y. The recipient derives it too: it authenticates
// nothing between the two.
func (s *Secrets) SenderKey(agent wire.Key) wire.Secret {
	var b [48]byte
	expand(&s.ss, b[:], roleSender, s.e[:], s.r[:], agent[:])
	return scalar(&b)
}

// NonceKey keys the nonce of the adaptor pre-signature for agent. It is no
// nonce by itself: the digest that is signed goes in beside it.
func (s *Secrets) NonceKey(agent wire.Key) wire.Secret {
	return s.derive(&s.ss, roleNonce, agent[:]...)
}

// AckKey encrypts the acknowledgement that travels through agent.
func (s *Secrets) AckKey(agent wire.Key) wire.Secret {
	return s.derive(&s.ss, roleAck, agent[:]...)
}

func (s *Secrets) contentKey() wire.Secret { return s.derive(&s.ss, roleContent) }

// spend reports whether this is the first call.
func (s *Secrets) spend() bool { return atomic.CompareAndSwapUint32(&s.spent, 0, 1) }

// Format hides the secrets from every verb of fmt, which would otherwise read
// unexported fields past their own Format.
func (Secrets) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret)")) }
