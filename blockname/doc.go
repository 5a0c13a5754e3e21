// Package blockname reads and writes hints: short texts in OP_RETURN outputs
// that say where a name, or a seed of a TLD's DHT, can be reached. It also
// keeps their index over the chain as pure state transitions. It holds values
// only: no clock, no network, no database. The formats and rules are normative
// in spec/blockname.md.
//
// # Use
//
// A block's hints are found, applied, and taken back when the block goes:
//
//	block, err := blockname.ScanRaw(raw)               // or Scan(transactions)
//	changes, undo, err := blockname.Apply(get, height, block)
//	// put the changes and undo into the database, in one transaction
//	changes, err = blockname.Revert(undo)              // a reorg: put these
//
// Lookup, Largest and Closest answer from what was put.
//
// # What a burn buys
//
// An output's value is burned with it. A host, domain or authority name
// belongs to the hint that burned most; an equal one never replaces it. The
// hints of a TLD stand beside one another, each (TLD, DHT prefix) for itself,
// so that no burn buys a whole TLD; under one prefix the burns for one address
// add up, and the address with the larger sum comes first.
//
// # Compatibility
//
// The kinds *! *. *# and *+ are those of the reference, telehash/blockname,
// byte for byte; *@ is ours. No hint has two forms: what Parse takes, Encode
// makes. vectors/blockname.json pins hints, keys, entries and undo.
package blockname
