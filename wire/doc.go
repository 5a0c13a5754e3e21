// Package wire holds the vocabulary that every part of Bitgram shares: money
// with its unit, keys and identifiers, addresses, the messages that peers
// exchange and the one codec that reads and writes them.
//
// Everything here is pure: no clock, no network, no randomness. What a decoder
// accepts re-encodes to the same bytes, and no decoder allocates more than the
// limit that its message states. The byte layouts are normative in
// spec/wire.md.
package wire
