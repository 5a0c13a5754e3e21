package wire

import (
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
)

// Sign returns the BIP340 signature of digest by key. It is deterministic (a
// nonce in the style of RFC 6979 from key and digest), so it needs no random
// source.
func Sign(key Secret, digest Hash) (sig Signature, err error) {
	priv, err := key.PrivKey()
	if err != nil {
		return sig, err
	}
	s, err := schnorr.Sign(priv, digest[:])
	if err != nil {
		return sig, err
	}
	copy(sig[:], s.Serialize())
	return sig, nil
}

// ErrBadSignature means that a signature does not verify.
var ErrBadSignature = fmt.Errorf("%w: bad signature", ErrMalformed)

// Verify returns nil if sig is k's BIP340 signature of digest. Otherwise the
// error wraps ErrBadSignature.
func (k Key) Verify(digest Hash, sig Signature) error {
	p, err := k.Point()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	// btcec's parser accepts s ≥ n; BIP340 does not.
	var s btcec.ModNScalar
	if s.SetByteSlice(sig[32:]) {
		return ErrBadSignature
	}
	parsed, err := schnorr.ParseSignature(sig[:])
	if err != nil || !parsed.Verify(digest[:], p) {
		return ErrBadSignature
	}
	return nil
}
