package seal

import (
	"fmt"

	"github.com/bitgram/bitgram/wire"
)

// AckSize is the size of a sealed acknowledgement.
const AckSize = signatureSize + tagSize

// Ack is the recipient's signature that it read the message of a leaf: agent,
// copy and message key in one. It convinces third parties: VerifyAck.
type Ack [signatureSize]byte

func ackDigest(E, R wire.Key, root, leaf wire.Hash) wire.Hash {
	return wire.Tagged("ack", E[:], R[:], root[:], leaf[:])
}

// ackStream encrypts one acknowledgement. Its key is that of this very
// statement, so that the same AckKey under two roots never repeats a keystream.
func ackStream(ackKey wire.Secret, E, R wire.Key, root, leaf wire.Hash) stream {
	var key wire.Secret
	expand(&ackKey, key[:], roleAckBox, E[:], R[:], root[:], leaf[:])
	return newStream(key)
}

// SealAck is the acknowledgement by the recipient with secret identity that the
// message with ephemeral key E, whose leaf hashes to leaf under root, was read,
// AckSize bytes that only the sender can read. The payload's key must be the
// leaf's (CheckKey): a sender could show another message otherwise. ackKey is
// Secrets.AckKey of the leaf's agent. Errors are wire.ErrBadKey.
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

// OpenAck returns the acknowledgement in sealed, verified to be recipient's for
// exactly this E, root and leaf. ErrCorrupt is one that does not decrypt or
// has another size, ErrSignature one that recipient did not sign.
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

// VerifyAck checks an opened acknowledgement: nil or ErrSignature.
func VerifyAck(a Ack, recipient, E wire.Key, root, leaf wire.Hash) error {
	return verify(recipient, ackDigest(E, recipient, root, leaf), a[:])
}
