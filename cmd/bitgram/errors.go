package main

import (
	"context"
	"errors"
	"syscall"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/daemon"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/demo"
	"github.com/bitgram/bitgram/internal/devnet"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/internal/web"
	"github.com/bitgram/bitgram/penny"
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

// errMaybe: the daemon was asked for something that is not to be asked for twice.
var errMaybe = errors.New("interrupted before the daemon had answered: it may have been done")

// maybe is errMaybe where a request was interrupted.
func maybe(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errMaybe
	}
	return err
}

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
	{errMaybe, "interrupted", exitInterrupted, "look at 'bitgram wallet history' and 'bitgram sent' before you run it again"},
	{errBankGoesOn, "interrupted", exitInterrupted, "'bitgram bank show ID' follows it; 'bitgram bank cancel ID' takes it back before it is paid for"},
	{errPaymentGoesOn, "interrupted", exitInterrupted, "'bitgram bank payments' follows it; 'bitgram bank end PAYMENT' ends it"},
	{errGoesOn, "interrupted", exitInterrupted, "'bitgram status ID' follows it; 'bitgram cancel ID' takes it back before it is paid for"},
	{errNameGoesOn, "interrupted", exitInterrupted, "the payment goes on: 'bitgram name register --dry-run' says what stands there"},
	{errUsage, "usage", exitUsage, "see 'bitgram help'"},
	{errInput, "input", exitUsage, "check the path and that the file can be read"},
	{wire.ErrWrongNetwork, "wrong_network", exitUsage, "ask the recipient for an address of this network, or pass --network"},
	{wire.ErrBadAddress, "address", exitUsage, "an address begins with bg1, tbg1 or bgrt1; an npub or 64 hex digits work too"},
	{demo.ErrOutput, "output", exitUsage, "choose a file in a directory that exists and can be written to"},
	{demo.ErrAgents, "usage", exitUsage, "see 'bitgram demo --help'"},
	{demo.ErrBankScenario, "scenario", exitUsage, "'bitgram demo bank --help' lists the scenarios"},
	{demo.ErrPennies, "usage", exitUsage, "see 'bitgram demo bank --help'"},
	{demo.ErrWindow, "usage", exitUsage, "see 'bitgram demo bank --help'"},
	{demo.ErrScenario, "scenario", exitUsage, "'bitgram demo --help' lists the scenarios"},
	{node.ErrEmpty, "empty", exitUsage, "give a file with something in it"},
	{seal.ErrEmpty, "empty", exitUsage, "give a file with something in it"},
	{seal.ErrTooLarge, "too_large", exitUsage, "a message has at most 4 GiB: split the file"},
	{deal.ErrPrice, "price", exitMoney, "allow more, or store for a shorter time"},
	{deal.ErrNoFunds, "funds", exitMoney, "send money to an address of 'bitgram wallet address', or ask for less"},
	{deal.ErrTooFewAgents, "agents", exitNobody, "run or find more agents, or ask for fewer"},
	{syscall.ENOSPC, "disk_full", exitFailed, "make room, or point TMPDIR at a larger disk"},
	{context.DeadlineExceeded, "timeout", exitNobody, "try again"},
	{errPassphrase, "passphrase", exitUsage, "set BITGRAM_PASSPHRASE or pass --passphrase-file; 'init --no-passphrase' does without"},
	{home.ErrPassphrase, "passphrase", exitUsage, "try again; without it only the 24 words help ('init --restore')"},
	{home.ErrNone, "no_home", exitUsage, "create one with 'bitgram init', or choose another with --home"},
	{home.ErrExists, "home_exists", exitUsage, "choose another with --home"},
	{home.ErrOpen, "open_home", exitUsage, "choose another with --home, or take it from others: chmod 700"},
	{home.ErrInUse, "in_use", exitFailed, "speak to that daemon, or choose another home with --home"},
	{home.ErrNoDaemon, "no_daemon", exitFailed, "start it with 'bitgram up'"},
	{web.ErrRequest, "request", exitUsage, "the API is described at /openapi.json"},
	{web.ErrToken, "token", exitUsage, "the token stands in api.token in the daemon's home"},
	{web.ErrStarting, "starting", exitFailed, "ask again in a moment"},
	{home.ErrDamaged, "damaged", exitFailed, "restore the home from a backup"},
	{home.ErrBackup, "backup", exitUsage, "take another copy of the backup"},
	{deal.ErrRestored, "restored", exitFailed, "look whether it arrived, and send it again if it did not"},
	{home.ErrNewer, "newer_home", exitFailed, "upgrade bitgram, or use another home"},
	{errConfig, "config", exitUsage, "'bitgram up --help' lists the keys and what they take"},
	{mail.ErrNotMIME, "not_mime", exitFailed, "pass --mime to have it as it came"},
	{errBinary, "binary", exitUsage, "pass -o FILE, or pipe it to a program"},
	{errOutput, "output", exitUsage, "choose a place that exists and can be written to"},
	{errAmount, "amount", exitUsage, "give a whole number of satoshi"},
	{daemon.ErrNotLoopback, "usage", exitUsage, "pass --api 127.0.0.1:PORT"},
	{devnet.ErrAgents, "usage", exitUsage, "see 'bitgram devnet --help'"},
	{chain.ErrCredentials, "credentials", exitUsage, "pass --rpc-cookie, or --rpc-user and --rpc-password"},
	{chain.ErrWrongNetwork, "wrong_network", exitUsage, "point --rpc at a node of the home's network"},
	{chain.ErrPruned, "pruned", exitFailed, "the Bitcoin node has deleted blocks that this home has to read: use one that has them"},
	{chain.ErrSyncing, "syncing", exitNobody, "wait until the Bitcoin node has all blocks"},
	{chain.ErrUnavailable, "no_chain", exitNobody, "look whether the Bitcoin node runs, and --rpc is right"},
	{daemon.ErrNoChain, "no_chain", exitUsage, "pass --rpc URL, or put it into config.toml"},
	{wallet.ErrBadMnemonic, "mnemonic", exitUsage, "12 or 24 words in one line, as they were written down"},
	{wallet.ErrNoFunds, "funds", exitMoney, "send money to an address of 'bitgram wallet address'"},
	{wallet.ErrAddress, "address", exitUsage, "a bitcoin address of the home's network is wanted, not a bitgram one"},
	{wallet.ErrUnknownTx, "unknown_tx", exitUnknown, "'bitgram wallet history' lists the wallet's transactions"},
	{wallet.ErrOut, "too_late", exitFailed, "'bitgram wallet bump' makes it confirm sooner"},
	{wallet.ErrNotBumpable, "not_bumpable", exitFailed, "wait for it"},
	{wallet.ErrAmount, "amount", exitUsage, "it must be more than dust and less than the wallet holds"},
	{node.ErrNoMessage, "unknown_message", exitUnknown, "'bitgram inbox' and 'bitgram sent' list the messages"},
	{node.ErrAmbiguous, "ambiguous", exitUsage, "give more digits of the ID"},
	{node.ErrUnread, "unread", exitFailed, "'bitgram status ID' says how it stands"},
	{node.ErrSyncing, "syncing", exitNobody, "wait; 'bitgram status' says how far it is"},
	{deal.ErrTooLate, "too_late", exitFailed, "what nobody picks up is refunded"},
	{deal.ErrTooEarly, "too_early", exitFailed, "wait until it is delivered or refunded"},
	{deal.ErrNoProof, "no_proof", exitFailed, "wait until the recipient has read it"},
	{deal.ErrBadReceipt, "bad_proof", exitUsage, "do not trust whoever showed it"},
	{deal.ErrCancelled, "cancelled", exitFailed, ""},
	{chain.ErrRejected, "rejected", exitFailed, "'bitgram wallet balance' shows what can be spent"},
	{blockname.ErrNotHint, "no_hint", exitUsage, "a hint begins with *! *. *# *+ or *@ (spec/blockname.md)"},
	{blockname.ErrMalformed, "bad_hint", exitUsage, "names have a to z, 0 to 9 and hyphens, in lower case (spec/blockname.md)"},
	{node.ErrOutbid, "outbid", exitMoney, "'bitgram name register --dry-run' says what it takes"},
	{node.ErrHintLost, "hint_lost", exitFailed, "raise --max-burn, or put money into the agent's wallet"},
	{node.ErrStands, "registered", exitFailed, "nothing to do, but to burn more for it with --burn"},
	{node.ErrNoNames, "no_names", exitFailed, "start the daemon with --names"},
	{errNoName, "unknown_name", exitUnknown, "'bitgram name list' shows what there is"},
	{node.ErrNoBank, "unknown_bank", exitUnknown, "'bitgram bank list' and 'bitgram bank payments' show what there is"},
	{node.ErrNoRoute, "no_route", exitNobody, "open a bank with the payee, or with a banker that has one with it"},
	{node.ErrNoPayee, "no_payee", exitFailed, "start the daemon with --bank"},
	{bank.ErrTooSmall, "too_small", exitUsage, "open a larger bank, or one of fewer rungs"},
	{penny.ErrLadder, "ladder", exitUsage, "change --rungs, --pennies, --ttl or the value"},
	{bank.ErrRefused, "refused", exitFailed, "ask another payee, or open it otherwise"},
	{bank.ErrNoFunds, "funds", exitMoney, "send money to an address of 'bitgram wallet address', or ask for less"},
	{bank.ErrFee, "fee", exitMoney, "allow more with --max-fee, or wait until fees fall"},
	{bank.ErrEmpty, "bank_empty", exitMoney, "open another bank, or pay less"},
	{bank.ErrNotOpen, "bank_not_open", exitFailed, "'bitgram bank show ID' says how it stands"},
	{bank.ErrUnacked, "unacknowledged", exitFailed, "'bitgram bank resume PAYMENT' tries its last step again"},
	{bank.ErrBadAck, "cheated", exitCheated, "do not use that banker any more"},
	{bank.ErrBadBank, "cheated", exitCheated, "do not use that payee any more"},
	{bank.ErrTooEarly, "too_late", exitFailed, "wait until it is open, and close it"},
	{bank.ErrStopped, "ended", exitFailed, "'bitgram bank payments' says how it stands"},
	{bank.ErrRestored, "restored", exitFailed, "look whether it was paid, and go on with 'bitgram bank resume PAYMENT'"},
	{bank.ErrOrder, "order", exitUsage, "pay 1 sat or more, in steps of a part of it"},
	{bank.ErrNoRung, "no_rung", exitFailed, "wait for more pennies, or for its end"},
	{errPennies, "interrupted", exitInterrupted, "what was ordered goes on: 'bitgram bank show ID' says what is paid; do not run it again"},
	{errPayment, "payment", exitFailed, "'bitgram bank resume PAYMENT' goes on with it"},
	{p2p.ErrNotFound, "unknown_agent", exitUnknown, "'bitgram agents' lists those that were met"},
	{p2p.ErrRefused, "refused", exitFailed, "ask another, or for something else"},
	{p2p.ErrListen, "listen", exitFailed, "another program may have the port: choose another with --listen"},
	{syscall.EADDRINUSE, "listen", exitFailed, "another program has the port: choose another, or 0 for any"},
	{p2p.ErrUnreachable, "unreachable", exitNobody, "look whether the network is up, and the --seed right"},
	{penny.ErrMalformed, "bad_penny", exitUsage, "a penny is its number in 6 hex digits and its secret; 28 bytes with the ID of its pence in front"},
	{penny.ErrFalse, "false_penny", exitUsage, "whoever gave it has not paid; look whether the nonce is that of these pence"},
	{penny.ErrSpent, "spent_penny", exitUsage, "spending goes down: a penny is worth something below the last that is known"},
	{errFalseSet, "false_set", exitCheated, "keep the offer and what was opened: they prove it"},
	{errPicked, "picked", exitUsage, "a second opening would tell the secret of the pence in use: make a new set"},
	{errWork, "too_much_work", exitUsage, "use shorter secrets, or allow more with --limit"},
	{sandbox.ErrProgram, "program", exitUsage, "a WASM module is wanted that is a WASI command (spec/runtime.md §1)"},
	{sandbox.ErrJob, "usage", exitUsage, "see 'bitgram run --help'"},
	{sandbox.ErrCheckpoint, "checkpoint", exitUsage, "take another copy of it, or an earlier one"},
	{sandbox.ErrWrongProgram, "wrong_program", exitUsage, "take the very program that the checkpoint was made of"},
	{sandbox.ErrWrongJob, "wrong_job", exitUsage, "pass the arguments and flags with which the checkpoint was made"},
	{sandbox.ErrFuel, "fuel", exitFailed, "let the program call sync more often, or pass more --fuel"},
	{sandbox.ErrEpochs, "epochs", exitFailed, "let the program call sync less often, or pass more --epochs"},
	{sandbox.ErrMemory, "memory", exitFailed, "pass more --memory"},
	{sandbox.ErrOutput, "too_much_output", exitFailed, "pass more --max-output"},
	{sandbox.ErrState, "state_size", exitFailed, "pass more --max-state"},
	{sandbox.ErrNotices, "too_many_events", exitFailed, "let the program announce less in an epoch"},
	{sandbox.ErrDepth, "depth", exitFailed, "let the program recurse less"},
	{sandbox.ErrSuspend, "suspend", exitFailed, "put the whole program through asyncify, without asyncify-ignore-indirect"},
	{sandbox.ErrTrap, "crash", exitFailed, "build the program with its names (no -s) to see where"},
	{sandbox.ErrCall, "bad_call", exitFailed, "spec/runtime.md §3 says what can be asked for"},
	{errDiffer, "differ", exitFailed, "this is a bug of bitgram: please report it with the program"},
	{errProgramExit, "program_exit", exitFailed, ""},
	{store.ErrCorrupt, "damaged", exitFailed, "restore the home from a backup"},
	{store.ErrNewer, "newer_home", exitFailed, "upgrade bitgram, or use another home"},
}

// explain finds what err means: its code, exit code and hint.
func explain(err error) (code string, exit int, hint string) {
	var by string // a code that came from elsewhere
	var played *demo.Failed
	var sent *failedMessage
	var told *web.Error
	switch {
	case errors.As(err, &played):
		by = played.By
	case errors.As(err, &sent):
		by = sent.by
	case errors.As(err, &told):
		by = told.Code
	}
	for _, r := range errorTable {
		if by != "" && r.code == by {
			return r.code, r.exit, r.hint
		}
	}
	if told != nil {
		return told.Code, map[bool]int{true: exitUsage, false: exitFailed}[told.Status < 500], told.Hint
	}
	for _, r := range errorTable {
		if errors.Is(err, r.is) {
			return r.code, r.exit, r.hint
		}
	}
	return "failed", exitFailed, "run it again with --verbose for the log"
}
