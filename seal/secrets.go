package seal

import (
	"fmt"
	"sync/atomic"

	"github.com/bitgram/bitgram/wire"
	"github.com/btcsuite/btcd/btcec/v2"
)

// Outpoint is an outpoint as serialised in a transaction, 36 bytes: the txid in
// its internal (little-endian) byte order, then the output index,
// little-endian.
type Outpoint [36]byte

// Secrets contains all secrets that the sender and the recipient of one message
// share. Both sides derive the same values from one Diffie-Hellman exchange. It
// is safe for concurrent use and prints as "(secret)". The zero value is not
// usable.
type Secrets struct {
	e, r  wire.Key    // E and R
	ss0   wire.Secret // the recipient derives it from the chain alone
	ss    wire.Secret // what opens the message
	spent uint32      // set by the first Encrypt
}

// FromSender derives the secrets of the message to recipient with ephemeral
// scalar e, which must be fresh for this message. It returns wire.ErrBadKey if
// the key is off the curve or the scalar outside [1, n).
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

// sharedX returns ss0.
func sharedX(k *btcec.ModNScalar, p *btcec.PublicKey) wire.Secret {
	x := ecdh(k, p)
	return extract("ss0", x[:])
}

// finish derives ss. A later version with contact cards appends the KEM's
// shared secret to the input here and nowhere else.
func (s *Secrets) finish() { s.ss = extract("ss", s.ss0[:]) }

// derive returns a 32-byte value under prk for role and, if given, a peer.
func (s *Secrets) derive(prk *wire.Secret, role string, peer ...byte) (out wire.Secret) {
	expand(prk, out[:], role, s.e[:], s.r[:], peer)
	return out
}

// Tag returns the message's view tag for a transaction whose first input spends
// outpoint. It commits to the outpoint, so a copied tag matches nothing.
func (s *Secrets) Tag(outpoint Outpoint) (tag [4]byte) {
	expand(&s.ss0, tag[:], roleTag, s.e[:], s.r[:], outpoint[:])
	return tag
}

// Mask masks a locator for the marker, or unmasks it; it is its own inverse.
// Mask only one locator per message, because two under one E would reveal their
// difference.
func (s *Secrets) Mask(l wire.Locator) wire.Locator {
	var pad wire.Locator
	expand(&s.ss0, pad[:], roleMask, s.e[:], s.r[:])
	for i := range l {
		l[i] ^= pad[i]
	}
	return l
}

// FetchKey returns φ, the MAC key with which the recipient proves to agent that
// the message is its own.
func (s *Secrets) FetchKey(agent wire.Key) wire.Secret {
	return s.derive(&s.ss0, roleFetch, agent[:]...)
}

// HoldingKey returns the secret key under which the i-th agent of the message
// publishes in the DHT that it holds it. The sender grants the key's use to the
// agent. The recipient derives it from the chain alone and finds the agent by
// it. Its public key has even y.
func (s *Secrets) HoldingKey(i uint8) wire.Secret {
	var index [32]byte // padded to the length of a peer's key; see the roles
	index[31] = i
	var b [48]byte
	expand(&s.ss0, b[:], roleHolding, s.e[:], s.r[:], index[:])
	return scalar(&b)
}

// ReleaseSecret returns σ, which the recipient gives to agent in exchange for
// τ. The chain contains ReleaseHash(σ).
func (s *Secrets) ReleaseSecret(agent wire.Key) wire.Secret {
	return s.derive(&s.ss, roleRelease, agent[:]...)
}

// SenderKey returns s″, the secret key of the sender's key S″ in agent's claim
// leaf. Its public key has even y. The recipient can derive it too, so it
// authenticates neither to the other.
func (s *Secrets) SenderKey(agent wire.Key) wire.Secret {
	var b [48]byte
	expand(&s.ss, b[:], roleSender, s.e[:], s.r[:], agent[:])
	return scalar(&b)
}

// NonceKey returns the key from which the nonce of the adaptor pre-signature
// for agent is derived. The derivation must also include the digest that is
// signed.
func (s *Secrets) NonceKey(agent wire.Key) wire.Secret {
	return s.derive(&s.ss, roleNonce, agent[:]...)
}

// AckKey returns the key that encrypts the acknowledgement sent through agent.
func (s *Secrets) AckKey(agent wire.Key) wire.Secret {
	return s.derive(&s.ss, roleAck, agent[:]...)
}

func (s *Secrets) contentKey() wire.Secret { return s.derive(&s.ss, roleContent) }

// spend reports whether this is the first call.
func (s *Secrets) spend() bool { return atomic.CompareAndSwapUint32(&s.spent, 0, 1) }

// Format hides the secrets from every verb of fmt, which would otherwise read
// unexported fields past their own Format.
func (Secrets) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret)")) }
