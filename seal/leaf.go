package seal

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/bitgram/bitgram/wire"
)

// Leaf is what the sender commits to for one agent.
type Leaf struct {
	Agent       wire.Key        // the agent's identity Aᵢ
	CopyHash    wire.Hash       // cᵢ: BLAKE3 of the sealed copy
	Size        uint64          // bytes of the sealed copy
	Point       wire.Key        // Tᵢ
	ReleaseHash wire.Hash       // SHA256(σᵢ)
	KEMHash     wire.Hash       // hash of the KEM ciphertext; zeros without a card
	Key         wire.MessageKey // K
}

// Hash is H[leaf] over the fields in their order, 200 bytes, the size in 8
// bytes big-endian.
func (l Leaf) Hash() wire.Hash {
	return wire.Tagged("leaf", l.Agent[:], l.CopyHash[:],
		binary.BigEndian.AppendUint64(nil, l.Size),
		l.Point[:], l.ReleaseHash[:], l.KEMHash[:], l.Key[:])
}

// MessageKey is K = H[key](hash(P) ‖ ν), the nonce ν in 8 bytes big-endian.
func MessageKey(payload wire.Hash, nonce uint64) wire.MessageKey {
	return wire.MessageKey(wire.Tagged("key", payload[:], binary.BigEndian.AppendUint64(nil, nonce)))
}

// ReleaseHash is SHA256(σ), as the claim script checks it.
func ReleaseHash(sigma wire.Secret) wire.Hash { return sha256.Sum256(sigma[:]) }
