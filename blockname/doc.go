// Package blockname reads and writes hints: short texts in OP_RETURN outputs
// with the address of a name, or of a seed of a TLD's DHT. It also computes
// their index over the chain as pure state transitions, without clock, network
// or database. spec/blockname.md specifies formats and rules.
//
// # Use
//
// Find a block's hints and apply them; revert them when the block is
// disconnected:
//
//	block, err := blockname.ScanRaw(raw)               // or Scan(transactions)
//	changes, undo, err := blockname.Apply(get, height, block)
//	// put the changes and undo into the database, in one transaction
//	changes, err = blockname.Revert(undo)              // a reorg: put these
//
// Lookup, Largest and Closest read the index from the database.
//
// # What a burn buys
//
// A hint's output burns its value. A host, domain or authority name belongs to
// the hint that burned most; an equal one never replaces it. The hints of a TLD
// coexist, one entry for each (TLD, DHT prefix), so no burn buys a whole TLD.
// Under one prefix the burns for one address add up, and the address with the
// larger sum comes first.
//
// # Compatibility
//
// The kinds *! *. *# and *+ are those of the reference, telehash/blockname,
// byte for byte; *@ is an addition. A hint has exactly one form: Encode
// reproduces whatever Parse accepts. spec/vectors/blockname.json pins hints,
// keys, entries and undo records.
package blockname
