package seal

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/bitgram/bitgram/wire"
)

// MessageKey is K = H[key](hash(P) ‖ ν), the nonce ν in 8 bytes big-endian.
func MessageKey(payload wire.Hash, nonce uint64) wire.MessageKey {
	return wire.MessageKey(wire.Tagged("key", payload[:], binary.BigEndian.AppendUint64(nil, nonce)))
}

// ReleaseHash is SHA256(σ), as the claim script checks it.
func ReleaseHash(sigma wire.Secret) wire.Hash { return sha256.Sum256(sigma[:]) }
