package main

import (
	"context"
	"errors"
	"syscall"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/demo"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // wrong usage or bad input
	exitUnknown     = 3 // no such message, name, bank or job
	exitMoney       = 4 // not enough
	exitNobody      = 5 // nobody answered in time
	exitCheated     = 6 // a peer cheated; the proof is kept
	exitInterrupted = 130
)

// errUsage marks what the user typed wrong.
var errUsage = errors.New("wrong usage")

// errInterrupted is what a signal makes of any command.
var errInterrupted = errors.New("interrupted")

// errInput marks a file that cannot be read.
var errInput = errors.New("cannot read the input")

// errorTable is the one place that says what an error means to a user: the
// first row that matches counts.
var errorTable = []struct {
	is   error
	code string
	exit int
	hint string
}{
	{errInterrupted, "interrupted", exitInterrupted, "run it again; nothing is left half-written"},
	{errUsage, "usage", exitUsage, "see 'bitgram help'"},
	{errInput, "input", exitUsage, "check the path and that the file can be read"},
	{wire.ErrWrongNetwork, "wrong_network", exitUsage, "ask the recipient for an address of this network, or pass --network"},
	{wire.ErrBadAddress, "address", exitUsage, "an address begins with bg1, tbg1 or bgrt1; an npub or 64 hex digits work too"},
	{demo.ErrOutput, "output", exitUsage, "choose a file in a directory that exists and can be written to"},
	{demo.ErrAgents, "usage", exitUsage, "see 'bitgram demo --help'"},
	{demo.ErrScenario, "scenario", exitUsage, "'bitgram demo --help' lists the scenarios"},
	{node.ErrEmpty, "empty", exitUsage, "give a file with something in it"},
	{seal.ErrEmpty, "empty", exitUsage, "give a file with something in it"},
	{seal.ErrTooLarge, "too_large", exitUsage, "a message has at most 4 GiB: split the file"},
	{deal.ErrPrice, "price", exitMoney, "allow more, or store for a shorter time"},
	{deal.ErrNoFunds, "funds", exitMoney, "send money to the wallet, or ask fewer agents"},
	{deal.ErrTooFewAgents, "agents", exitNobody, "run or find more agents, or ask for fewer"},
	{syscall.ENOSPC, "disk_full", exitFailed, "make room, or point TMPDIR at a larger disk"},
	{context.DeadlineExceeded, "timeout", exitNobody, "try again"},
	{store.ErrNewer, "newer_home", exitFailed, "upgrade bitgram, or use another home"},
}

// explain finds what err means: its code, exit code and hint.
func explain(err error) (code string, exit int, hint string) {
	var failed *demo.Failed
	if errors.As(err, &failed) {
		for _, r := range errorTable {
			if r.code == failed.By {
				return r.code, r.exit, r.hint
			}
		}
	}
	for _, r := range errorTable {
		if errors.Is(err, r.is) {
			return r.code, r.exit, r.hint
		}
	}
	return "failed", exitFailed, "run it again with --verbose for the log"
}
