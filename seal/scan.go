package seal

import (
	"crypto/subtle"
	"fmt"

	"github.com/bitgram/bitgram/wire"
	"github.com/btcsuite/btcd/btcec/v2"
)

// Scanner finds a recipient's messages among markers at the cost of one
// Diffie-Hellman exchange each. It is safe for concurrent use and prints as
// "(secret)".
type Scanner struct {
	k *btcec.ModNScalar
	r wire.Key
}

// NewScanner returns the scanner of the recipient with secret r, or
// wire.ErrBadKey.
func NewScanner(r wire.Secret) (*Scanner, error) {
	priv, err := r.PrivKey()
	if err != nil {
		return nil, fmt.Errorf("recipient secret: %w", err)
	}
	return &Scanner{k: &priv.Key, r: wire.XOnly(priv.PubKey())}, nil
}

// Match reports whether a marker with ephemeral key E and tag, in a transaction
// whose first input spends outpoint, is for this recipient, and returns the
// message's secrets if so. One stranger's marker in 2³² matches by chance: what
// follows has to verify on its own. An E off the curve matches nothing.
func (c *Scanner) Match(E wire.Key, outpoint Outpoint, tag [4]byte) (*Secrets, bool) {
	p, err := E.Point()
	if err != nil {
		return nil, false
	}
	s := Secrets{e: E, r: c.r, ss0: sharedX(c.k, p)}
	want := s.Tag(outpoint)
	if subtle.ConstantTimeCompare(want[:], tag[:]) != 1 {
		return nil, false
	}
	s.finish()
	return &s, true
}

// Format hides the scanner's secret from every verb of fmt.
func (Scanner) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret)")) }
