// Package penny implements the hash chain in which one preimage is a payment:
// pence, their negotiation in sets, their safe value, and the ladder of rungs
// of a penny bank (quartzjer/pennybank; spec/pence.md, spec/bank.md). The
// package is pure: it uses no clock, random source or I/O.
package penny
