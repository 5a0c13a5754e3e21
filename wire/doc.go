// Package wire defines the types that all parts of Bitgram share: money with
// its unit, keys and identifiers, addresses, the messages that peers exchange,
// and the codec that reads and writes them.
//
// The package is pure: it uses no clock, network or randomness. Whatever a
// decoder accepts re-encodes to the same bytes, and no decoder allocates more
// than its message's limit. spec/wire.md specifies the byte layouts.
package wire
