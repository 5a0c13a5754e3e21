// Package soak attacks the program as its users run it: real bitgram processes
// and a chain in one of its own, which are killed, cut off, starved and lied to.
// For tests only.
//
//	go test ./internal/testing/soak                              a seeded minute
//	go test ./internal/testing/soak -run TestKills -soak.time 2h -soak.seed 0 -timeout 0
//
// A seed of 0 is a fresh one; it is printed.
package soak
