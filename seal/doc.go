// Package seal encrypts a message to a recipient and seals the result for the
// agents that carry it. It uses no clock, network or random source.
// spec/seal.md specifies the formats.
//
// # Use
//
// The sender draws a fresh scalar e and publishes E = eG. It derives all secrets
// that it shares with the recipient from one Diffie-Hellman exchange:
//
//	s, err := seal.FromSender(e, recipient)
//	info, err := s.Encrypt(payload, body, identity)      // P and hash(P)
//	key := seal.MessageKey(info.Hash, nonce)             // K, and L = K[0:8]
//	kappa, err := seal.SealKey(e, quote.T, agent, key)   // one key per agent
//	copy, err := seal.SealTo(upload, payload, kappa)     // what the agent keeps
//
// A wire.Leaf commits to one agent's copy, point and release secret; Root
// commits to all leaves; a Marker announces the message in an OP_RETURN output.
//
// The recipient runs a Scanner over markers. A match yields the same Secrets:
// the fetch keys, the release secrets and, given an agent's τ (UnsealKey), the
// payload. SealAck makes the acknowledgement for the sender.
//
// # Key policy
//
// Use an e for one message to one recipient only: the content key depends only
// on e and the recipient, and two bodies encrypted under it would reveal each
// other. Encrypt refuses a second run on one Secrets. Encrypt is deterministic:
// to compute the same payload again, create new Secrets from the same e and
// encrypt the same body.
//
// Keys are x-only (BIP340) and a secret may be given in either parity. Keys of
// different roles, messages, recipients or agents are independent. Secrets and
// Scanner print as "(secret)". Scalar multiplication is that of btcec, whose
// running time depends on the scalar. An attacker who can time the scanner on
// the same machine is out of scope.
//
// # Verification
//
// Decrypt and Unseal authenticate each 64 KiB chunk before they write it. But
// whether all chunks arrived, and who signed them, is known only at the end. So
// write to a temporary file and use it only after a nil error.
//
// # Compatibility
//
// Every derivation starts with the label prefix "bitgram/1/", and payload and
// marker carry the version 1. A new version gets new labels and a new version
// byte. The bytes of version 1 never change; spec/vectors/seal.json pins them.
// Every value has exactly one encoding: re-encoding whatever a decoder accepts
// gives the same bytes.
package seal
