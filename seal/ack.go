package seal

import (
	"fmt"

	"github.com/bitgram/bitgram/wire"
)

// AckSize is the size of a sealed acknowledgement.
const AckSize = signatureSize + tagSize

// Ack is the recipient's signature that it read the message of a leaf, which
// names agent, copy and message key. It is proof for third parties; see
// VerifyAck.
type Ack [signatureSize]byte

func ackDigest(E, R wire.Key, root, leaf wire.Hash) wire.Hash {
	return wire.Tagged("ack", E[:], R[:], root[:], leaf[:])
}

// ackStream encrypts one acknowledgement. The key is derived from this very
// statement, so the same AckKey under two roots never repeats a keystream.
func ackStream(ackKey wire.Secret, E, R wire.Key, root, leaf wire.Hash) stream {
	var key wire.Secret
	expand(&ackKey, key[:], roleAckBox, E[:], R[:], root[:], leaf[:])
	return newStream(key)
}

// SealAck returns the encrypted acknowledgement, AckSize bytes that only the
// sender can open. In it the recipient with secret identity signs that it read
// the message with ephemeral key E whose leaf has the hash leaf under root. The
// caller must first check that the leaf's key is the payload's (CheckKey);
// otherwise a sender could present another message. ackKey is Secrets.AckKey of
// the leaf's agent. Errors wrap wire.ErrBadKey.
func SealAck(ackKey, identity wire.Secret, E wire.Key, root, leaf wire.Hash) ([]byte, error) {
	if err := unset(ackKey); err != nil {
		return nil, err
	}
	priv, err := identity.PrivKey()
	if err != nil {
		return nil, fmt.Errorf("identity secret: %w", err)
	}
	r := wire.XOnly(priv.PubKey())
	sig, err := sign(priv, ackDigest(E, r, root, leaf))
	if err != nil {
		return nil, err
	}
	buf := make([]byte, AckSize)
	copy(buf, sig[:])
	st := ackStream(ackKey, E, r, root, leaf)
	return st.seal(buf, signatureSize, true), nil
}

// OpenAck decrypts an acknowledgement and verifies that it is recipient's for
// exactly this E, root and leaf. It returns ErrCorrupt if sealed has the wrong
// size or does not decrypt, and ErrSignature if recipient did not sign it.
func OpenAck(sealed []byte, ackKey wire.Secret, recipient, E wire.Key, root, leaf wire.Hash) (Ack, error) {
	if len(sealed) != AckSize {
		return Ack{}, fmt.Errorf("%w: acknowledgement of %d bytes", ErrCorrupt, len(sealed))
	}
	buf := append([]byte(nil), sealed...)
	st := ackStream(ackKey, E, recipient, root, leaf)
	sig, err := st.open(buf, true)
	if err != nil {
		return Ack{}, err
	}
	a := Ack(sig)
	if err := VerifyAck(a, recipient, E, root, leaf); err != nil {
		return Ack{}, err
	}
	return a, nil
}

// VerifyAck verifies an opened acknowledgement. It returns nil or ErrSignature.
func VerifyAck(a Ack, recipient, E wire.Key, root, leaf wire.Hash) error {
	return verify(recipient, ackDigest(E, recipient, root, leaf), a[:])
}
