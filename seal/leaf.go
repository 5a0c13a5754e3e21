package seal

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/bitgram/bitgram/wire"
)

// MaxNonce is the largest ν of a message key that recipients accept.
const MaxNonce = 255

// MessageKey is K = H[key](hash(P) ‖ ν), the nonce ν in 8 bytes big-endian.
func MessageKey(payload wire.Hash, nonce uint64) wire.MessageKey {
	return wire.MessageKey(wire.Tagged("key", payload[:], binary.BigEndian.AppendUint64(nil, nonce)))
}

// CheckKey returns nil if K is the key, under a nonce up to MaxNonce, of the
// payload with this BLAKE3 hash, and ErrKey otherwise. Only then does K
// identify what was read.
func CheckKey(K wire.MessageKey, payload wire.Hash) error {
	for nonce := range uint64(MaxNonce + 1) {
		if MessageKey(payload, nonce) == K {
			return nil
		}
	}
	return ErrKey
}

// ReleaseHash is SHA256(σ), as the claim script checks it.
func ReleaseHash(sigma wire.Secret) wire.Hash { return sha256.Sum256(sigma[:]) }
