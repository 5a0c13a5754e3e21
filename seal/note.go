package seal

import (
	"fmt"

	"github.com/bitgram/bitgram/wire"
)

// NoteOverhead is the number of bytes that a sealed note is longer than its text.
const NoteOverhead = tagSize

// SealNote encrypts a short text to a recipient, for one payment: bankers that
// forward the payment cannot read it. e is the secret of E, and must be fresh for
// each pair of payment and text, or derived from both. Errors wrap
// wire.ErrBadKey.
func SealNote(e wire.Secret, recipient wire.Key, payment wire.Hash, text []byte) (E wire.Key, sealed []byte, err error) {
	priv, err := e.PrivKey()
	if err != nil {
		return E, nil, fmt.Errorf("ephemeral secret: %w", err)
	}
	p, err := recipient.Point()
	if err != nil {
		return E, nil, fmt.Errorf("recipient: %w", err)
	}
	E = wire.XOnly(priv.PubKey())
	st := noteStream(ecdh(&priv.Key, p), E, recipient, payment)
	buf := make([]byte, len(text)+NoteOverhead)
	copy(buf, text)
	return E, st.seal(buf, len(text), true), nil
}

// OpenNote decrypts a note with the recipient's secret. It returns ErrCorrupt if
// it is not for this recipient and payment.
func OpenNote(r wire.Secret, E wire.Key, payment wire.Hash, sealed []byte) ([]byte, error) {
	if len(sealed) < NoteOverhead {
		return nil, fmt.Errorf("%w: a note of %d bytes", ErrCorrupt, len(sealed))
	}
	priv, err := r.PrivKey()
	if err != nil {
		return nil, fmt.Errorf("recipient secret: %w", err)
	}
	p, err := E.Point()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	st := noteStream(ecdh(&priv.Key, p), E, wire.XOnly(priv.PubKey()), payment)
	return st.open(append([]byte(nil), sealed...), true)
}

func noteStream(shared [32]byte, E, R wire.Key, payment wire.Hash) stream {
	return newStream(wire.Secret(wire.Tagged("payment-note", shared[:], E[:], R[:], payment[:])))
}
