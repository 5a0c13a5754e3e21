// Package seal encrypts a message to a recipient and seals the result for the
// agents that carry it. It holds bytes and keys only: no clock, no network, no
// random source. The formats are normative in spec/seal.md.
//
// # Use
//
// The sender draws a fresh scalar e, publishes E = eG and derives everything
// that it shares with the recipient from one Diffie-Hellman exchange:
//
//	s, err := seal.FromSender(e, recipient)
//	info, err := s.Encrypt(payload, body, identity)      // P and hash(P)
//	key := seal.MessageKey(info.Hash, nonce)             // K, and L = K[0:8]
//	kappa, err := seal.SealKey(e, quote.T, agent, key)   // one key per agent
//	copy, err := seal.SealTo(upload, payload, kappa)     // what the agent keeps
//
// A wire.Leaf binds one agent's copy, point and release secret; Root binds all
// leaves; a Marker announces the message in an OP_RETURN output.
//
// The recipient runs a Scanner over markers. What matches gives the same
// Secrets: the fetch keys, the release secrets and, once UnsealKey has taken an
// agent's τ, the payload. SealAck tells the sender that it arrived.
//
// # Key policy
//
// One e serves one message to one recipient and is never used again: the
// content key depends on e and the recipient alone, and two bodies under it
// would give each other away. Encrypt refuses a second run on one Secrets. A
// caller that has to make the same payload again builds new Secrets from the
// same e and feeds the same body: Encrypt is deterministic.
//
// Keys are x-only (BIP340) and a secret may be given in either parity. Keys of
// different roles, messages, recipients or agents are independent. Secrets and
// Scanner print as "(secret)". Scalar multiplication is that of btcec, whose
// running time depends on the scalar: whoever can time the scanner closely on
// the same machine is outside what this package defends against.
//
// # What is checked when
//
// Decrypt and Unseal authenticate each 64 KiB chunk before they write it, but
// whether all chunks came, and who signed them, is known only at the end. Write
// to a temporary place and use it only after a nil error.
//
// # Compatibility
//
// Every derivation starts with the label prefix "bitgram/1/", and payload and
// marker carry the version 1. A new version gets new labels and a new version
// byte; this one's bytes never change, and vectors/seal.json pins them. No
// encoding has two forms: whatever a decoder accepts is what the encoder makes.
package seal
