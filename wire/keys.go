package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
)

// Key is a 32-byte x-only secp256k1 public key (BIP340). It may be off the
// curve; use Point to check.
type Key [32]byte

// Hash is a 32-byte digest.
type Hash [32]byte

// Secret is a 32-byte big-endian secret scalar, or another 32-byte secret. It
// is never printed.
type Secret [32]byte

// MessageKey is K = H[key](hash(P) ‖ ν), which identifies a message.
type MessageKey [32]byte

// Locator is L = K[0:8], which determines the message's place in the DHT.
type Locator [8]byte

// MessageID is K[0:16], the identifier of a message for people and scripts. It
// is the same at both ends.
type MessageID [16]byte

// Locator returns the first 8 bytes of k.
func (k MessageKey) Locator() (l Locator) { copy(l[:], k[:]); return }

// ID returns the first 16 bytes of k.
func (k MessageKey) ID() (id MessageID) { copy(id[:], k[:]); return }

func (k Key) String() string        { return hex.EncodeToString(k[:]) }
func (h Hash) String() string       { return hex.EncodeToString(h[:]) }
func (k MessageKey) String() string { return hex.EncodeToString(k[:]) }
func (l Locator) String() string    { return hex.EncodeToString(l[:]) }
func (id MessageID) String() string { return hex.EncodeToString(id[:]) }

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// GoString hides the secret.
func (Secret) GoString() string { return "(secret)" }

// Format hides the secret from every verb of fmt.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret)")) }

// MarshalJSON returns an error, because a secret must not appear in JSON.
func (Secret) MarshalJSON() ([]byte, error) {
	return nil, errors.New("a secret is not printed as JSON")
}

// ErrBadKey means that 32 bytes are not the x coordinate of a curve point, or
// not a scalar in [1, n).
var ErrBadKey = errors.New("not a valid secp256k1 key")

// Point returns the even-y curve point of k (BIP340 lift_x), or an error that
// wraps ErrBadKey.
func (k Key) Point() (*btcec.PublicKey, error) {
	p, err := schnorr.ParsePubKey(k[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %x", ErrBadKey, k[:])
	}
	return p, nil
}

// XOnly returns the x coordinate of p.
func XOnly(p *btcec.PublicKey) (k Key) {
	copy(k[:], schnorr.SerializePubKey(p))
	return
}

// PrivKey returns the private key of s, negated if needed to give its point an
// even y, so that its public key equals its x-only form.
func (s Secret) PrivKey() (*btcec.PrivateKey, error) {
	var k btcec.ModNScalar
	if overflow := k.SetBytes((*[32]byte)(&s)); overflow != 0 || k.IsZero() {
		return nil, fmt.Errorf("%w: scalar out of range", ErrBadKey)
	}
	p := btcec.PrivKeyFromScalar(&k)
	if p.PubKey().SerializeCompressed()[0] == 3 {
		k.Negate()
		p = btcec.PrivKeyFromScalar(&k)
	}
	return p, nil
}

// SecretOf returns the scalar of p.
func SecretOf(p *btcec.PrivateKey) (s Secret) { return Secret(p.Key.Bytes()) }

// Tagged returns H[tag](parts…), the BIP340 tagged hash with the tag "bitgram/"
// + tag.
func Tagged(tag string, parts ...[]byte) (h Hash) {
	t := sha256.Sum256([]byte("bitgram/" + tag))
	s := sha256.New()
	s.Write(t[:])
	s.Write(t[:])
	for _, p := range parts {
		s.Write(p)
	}
	s.Sum(h[:0])
	return
}
