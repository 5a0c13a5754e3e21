package seal

import (
	"fmt"

	"github.com/bitgram/bitgram/wire"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
)

// signatureSize is that of a BIP340 signature.
const signatureSize = 64

// sign makes the BIP340 signature of digest with 32 zero bytes as auxiliary
// data: no random source, the same bytes from any BIP340 signer.
func sign(priv *btcec.PrivateKey, digest wire.Hash) (out [signatureSize]byte, err error) {
	sig, err := schnorr.Sign(priv, digest[:], schnorr.CustomNonce([32]byte{}))
	if err != nil {
		return out, fmt.Errorf("sign: %w", err)
	}
	copy(out[:], sig.Serialize())
	return out, nil
}

// verify checks a BIP340 signature of digest under key.
func verify(key wire.Key, digest wire.Hash, sig []byte) error {
	if len(sig) != signatureSize {
		return fmt.Errorf("%w: %d bytes", ErrSignature, len(sig))
	}
	p, err := key.Point()
	if err != nil {
		return fmt.Errorf("%w: signer: %w", ErrSignature, err)
	}
	// ParseSignature of btcec v2.5.0 reduces s modulo n, although BIP340
	// rejects s >= n. Without this check a third party could produce a second
	// valid signature.
	var s btcec.ModNScalar
	if s.SetByteSlice(sig[32:]) {
		return fmt.Errorf("%w: s out of range", ErrSignature)
	}
	parsed, err := schnorr.ParseSignature(sig)
	if err != nil || !parsed.Verify(digest[:], p) {
		return ErrSignature
	}
	return nil
}
