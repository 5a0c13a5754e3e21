package seal

import (
	"crypto/subtle"
	"fmt"

	"github.com/bitgram/bitgram/wire"
	"github.com/btcsuite/btcd/btcec/v2"
)

// Scanner finds a recipient's messages among markers, with one Diffie-Hellman
// exchange for each. It is safe for concurrent use and prints as "(secret)".
type Scanner struct {
	k *btcec.ModNScalar
	r wire.Key
}

// NewScanner returns a scanner for the recipient with secret r, or
// wire.ErrBadKey.
func NewScanner(r wire.Secret) (*Scanner, error) {
	priv, err := r.PrivKey()
	if err != nil {
		return nil, fmt.Errorf("recipient secret: %w", err)
	}
	return &Scanner{k: &priv.Key, r: wire.XOnly(priv.PubKey())}, nil
}

// Match reports whether a marker with ephemeral key E and tag, in a transaction
// whose first input spends outpoint, is for this recipient. If so, it returns
// the message's secrets. One in 2³² markers for others matches by chance, so
// the caller must verify what follows. An E that is off the curve matches
// nothing.
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
