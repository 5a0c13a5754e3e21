// Package penny is the hash chain in which one preimage is a payment: pence,
// their negotiation in sets, what they are worth by work, and the ladder of rungs
// of a penny bank (quartzjer/pennybank; spec/pence.md, spec/bank.md). It is pure: no clock, no
// random source, no I/O.
package penny
