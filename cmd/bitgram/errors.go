package main

import (
	"cmp"
	"errors"
	"net/http"
	"syscall"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/daemon"
	"github.com/bitgram/bitgram/internal/demo"
	"github.com/bitgram/bitgram/internal/devnet"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/internal/web"
	"github.com/bitgram/bitgram/penny"
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

// errUsage marks a mistake on the command line.
var errUsage = errors.New("wrong usage")

// errorTable is the one place that says what an error means to a user: its
// code, its exit code and what to do next. A row with an error is for what a
// command finds itself; a row without one is for a code that the daemon answers
// with, or that package web gives an error of the node's packages. The first
// row that matches counts.
var errorTable = []errorRow{
	{errInterrupted, "interrupted", exitInterrupted, "run it again: no half-written file is left"},
	{errMaybe, "interrupted", exitInterrupted, "check 'bitgram wallet history' and 'bitgram sent' before you run it again"},
	{errNoPair, api.CodeRefused, exitFailed, "the bank itself is open; 'bitgram bank pair ID SATOSHI' asks for a reverse bank again"},
	{errBankGoesOn, "interrupted", exitInterrupted, "follow it with 'bitgram bank show ID'; until it is funded, 'bitgram bank cancel ID' takes it back"},
	{errPaymentGoesOn, "interrupted", exitInterrupted, "follow it with 'bitgram bank payments'; 'bitgram bank end PAYMENT' ends it"},
	{errPennies, "interrupted", exitInterrupted, "the payment continues; run the same command with this --key to wait for it, which pays nothing more"},
	{errKeyed, "interrupted", exitInterrupted, "run the same command with this --key: what was done is not done again"},
	{errNoAnswer, "no_answer", exitNobody, "run the same command with this --key: what was done is not done again"},
	{errGoesOn, "interrupted", exitInterrupted, "follow it with 'bitgram status ID'; until it is paid for, 'bitgram cancel ID' takes it back"},
	{errNameGoesOn, "interrupted", exitInterrupted, "the payment continues; 'bitgram name register --dry-run' shows the present holder"},
	{errUsage, "usage", exitUsage, seeHelp},
	{errInput, "input", exitUsage, "check the path and that the file can be read"},
	{errProgramFile, "program_file", exitUsage, "check the path of the program and that the file can be read"},
	{syscall.ENOSPC, api.CodeDiskFull, exitFailed, "free some space, or set TMPDIR to a directory on a larger disk"},
	{demo.ErrOutput, "output", exitUsage, "choose a file in a directory that exists and that you can write to"},
	{demo.ErrAgents, "usage", exitUsage, seeHelp},
	{demo.ErrPennies, "usage", exitUsage, seeHelp},
	{demo.ErrWindow, "usage", exitUsage, seeHelp},
	{demo.ErrBankScenario, "scenario", exitUsage, "'bitgram demo bank --help' lists the scenarios"},
	{demo.ErrScenario, "scenario", exitUsage, "'bitgram demo --help' lists the scenarios"},
	{errPassphrase, "passphrase", exitUsage, "set BITGRAM_PASSPHRASE or pass --passphrase-file; 'bitgram init --no-passphrase' creates a home without one"},
	{home.ErrPassphrase, "passphrase", exitUsage, "try again; if the passphrase is lost, restore the home from its 24 words ('bitgram init --restore')"},
	{home.ErrNone, "no_home", exitUsage, "create one with 'bitgram init', or choose another with --home"},
	{home.ErrExists, "home_exists", exitUsage, "choose another directory with --home"},
	{home.ErrOpen, "open_home", exitUsage, "choose another directory with --home, or make this one private: chmod 700"},
	{home.ErrInUse, "in_use", exitFailed, "use the daemon that is running, or choose another home with --home"},
	{home.ErrNoDaemon, "no_daemon", exitFailed, "start it with 'bitgram up'"},
	{home.ErrBackup, "backup", exitUsage, "try another copy of the backup"},
	{home.ErrNewer, api.CodeNewerHome, exitFailed, "upgrade bitgram, or use another home"},
	{errHomeNetwork, api.CodeWrongNetwork, exitUsage, "leave out --network, or choose another home with --home"},
	{errConfig, "config", exitUsage, "'bitgram up --help' lists the keys and their values"},
	{mail.ErrNotMIME, "not_mime", exitFailed, "pass --mime to get the bytes as they came"},
	{errBinary, "binary", exitUsage, "pass -o FILE, or pipe the output to a program"},
	{errOutput, "output", exitUsage, "choose a place that exists and that you can write to"},
	{errAmount, api.CodeAmount, exitUsage, "give a whole number of satoshi, such as 20000 or 20_000"},
	{errMsat, api.CodeAmount, exitUsage, "give an amount in satoshi with at most three decimals, such as 20 or 0.125"},
	{daemon.ErrNotLoopback, "usage", exitUsage, "pass --api 127.0.0.1:PORT"},
	{daemon.ErrNoChain, api.CodeNoChain, exitUsage, "pass --rpc URL, or set rpc in config.toml"},
	{devnet.ErrAgents, "usage", exitUsage, seeHelp},
	{wallet.ErrBadMnemonic, "mnemonic", exitUsage, "give the 12 or 24 words on one line, in the order in which you wrote them down"},
	{errNoName, "unknown_name", exitUnknown, "'bitgram name list' shows the names on the chain"},
	{errPayment, "payment", exitFailed, "'bitgram bank resume PAYMENT' continues it"},
	{p2p.ErrListen, "listen", exitFailed, "another program may be using the port: choose another with --listen"},
	{syscall.EADDRINUSE, "listen", exitFailed, "another program is using the port: choose another, or 0 for any free one"},
	{penny.ErrMalformed, "bad_penny", exitUsage, "write a penny as its number in 6 hex digits and its secret, optionally with the 20-byte ID of its pence in front"},
	{penny.ErrFalse, "false_penny", exitUsage, "this penny pays nothing; check that --nonce is the nonce of these pence"},
	{penny.ErrSpent, "spent_penny", exitUsage, "pennies are spent in descending order: only one below the last known penny has value"},
	{errFalseSet, "false_set", exitCheated, "keep the offer and the opened secrets: together they are the proof"},
	{errPicked, "picked", exitUsage, "a second opening would reveal the secret of the pence in use: make a new set"},
	{errWork, "too_much_work", exitUsage, "use shorter secrets, or allow more time with --limit"},
	{sandbox.ErrProgram, "program", exitUsage, "pass a WASM module that is a WASI command (spec/runtime.md §1)"},
	{sandbox.ErrJob, "usage", exitUsage, seeHelp},
	{sandbox.ErrCheckpoint, "checkpoint", exitUsage, "try another copy of the checkpoint, or an earlier one"},
	{sandbox.ErrWrongProgram, "wrong_program", exitUsage, "pass exactly the program that wrote the checkpoint"},
	{sandbox.ErrWrongJob, "wrong_job", exitUsage, "pass the arguments and flags with which the checkpoint was made"},
	{sandbox.ErrHostMemory, "host_memory", exitFailed, "run it on a machine with more memory; nothing is wrong with the program"},
	{sandbox.ErrLost, "lost", exitFailed, "run it again, or resume its last checkpoint; nothing is wrong with the program"},
	{sandbox.ErrFuel, "fuel", exitFailed, "call sync more often in the program, or raise --fuel"},
	{sandbox.ErrEpochs, "epochs", exitFailed, "call sync less often in the program, or raise --epochs"},
	{sandbox.ErrMemory, "memory", exitFailed, "raise --memory"},
	{sandbox.ErrOutput, "too_much_output", exitFailed, "raise --max-output"},
	{sandbox.ErrState, "state_size", exitFailed, "raise --max-state"},
	{sandbox.ErrNotices, "too_many_events", exitFailed, "announce fewer events in an epoch"},
	{sandbox.ErrDepth, "depth", exitFailed, "reduce the depth of recursion in the program"},
	{sandbox.ErrSuspend, "suspend", exitFailed, "pass the whole program through asyncify, without asyncify-ignore-indirect"},
	{sandbox.ErrTrap, "crash", exitFailed, "build the program with its symbol names (no -s) to see where"},
	{sandbox.ErrCall, "bad_call", exitFailed, "spec/runtime.md §3 lists what a program may ask for"},
	{errDiffer, "differ", exitFailed, "this is a bug in bitgram: please report it with the program"},
	{errProgramExit, "program_exit", exitFailed, ""},

	{nil, api.CodeRequest, exitUsage, seeHelp},
	{nil, api.CodeToken, exitUsage, "read the token from api.token in the daemon's home directory"},
	{nil, api.CodeWrongNetwork, exitUsage, "use an address, or a Bitcoin node, of this home's network"},
	{nil, api.CodeAddress, exitUsage, "a Bitgram address begins with bg1, tbg1 or bgrt1; an npub or a public key in 64 hex digits also works"},
	{nil, api.CodeBitcoinAddress, exitUsage, "give a bitcoin address of this home's network, not a Bitgram address"},
	{nil, api.CodeAmount, exitUsage, "the amount must exceed the dust limit and be less than the wallet's balance"},
	{nil, api.CodeEmpty, exitUsage, "give a file that is not empty"},
	{nil, api.CodeTooLarge, exitUsage, "a message holds at most 4 GiB: split the file"},
	{nil, api.CodeAmbiguous, exitUsage, "use a longer ID prefix"},
	{nil, api.CodeStarting, exitFailed, "try again in a moment"},
	{nil, api.CodeSyncing, exitNobody, "wait until it has caught up; 'bitgram status' shows how far it is"},
	{nil, api.CodeTimeout, exitNobody, "try again"},
	{nil, api.CodeDamaged, exitFailed, "restore the home from a backup"},
	{nil, api.CodeNewerHome, exitFailed, "upgrade bitgram, or use another home"},
	{nil, api.CodeNoChain, exitNobody, "check that the Bitcoin node is running and that --rpc is correct"},
	{nil, api.CodeCredentials, exitUsage, "pass --rpc-cookie, or --rpc-user and --rpc-password"},
	{nil, api.CodePruned, exitFailed, "use a Bitcoin node that still has the blocks this home must read"},
	{nil, api.CodeRejected, exitFailed, "the message has the Bitcoin node's reason; if the fee is too low, raise it with --rate"},
	{nil, api.CodeNoData, exitFailed, "set datacarriersize=83 or more in bitcoin.conf, remove datacarrier=0, and restart the Bitcoin node; or use another node"},
	{nil, api.CodeZMQ, exitFailed, "set zmqpubhashblock in bitcoin.conf to the address of --rpc-zmq, or leave --rpc-zmq out"},
	{nil, api.CodeUnknownAgent, exitUnknown, "'bitgram agents' lists the agents this node has met"},
	{nil, api.CodeUnreachable, exitNobody, "check that the network is up and that --seed is correct"},
	{nil, api.CodeRefused, exitFailed, "ask another peer, or for different terms"},
	{nil, api.CodeCheated, exitCheated, "stop using this peer"},
	{nil, api.CodeUnknownMessage, exitUnknown, "'bitgram inbox' and 'bitgram sent' list the messages"},
	{nil, api.CodeUnread, exitFailed, "'bitgram status ID' shows its state"},
	{nil, api.CodePrice, exitMoney, "allow more with --max-sat, or store for a shorter time with --ttl"},
	{nil, api.CodeFunds, exitMoney, "send money to an address from 'bitgram wallet address', or ask for less"},
	{nil, api.CodeAgents, exitNobody, "ask for fewer with --agents, or store for a shorter time with --ttl: most agents store for at most 30 days"},
	{nil, api.CodeCancelled, exitFailed, ""},
	{nil, api.CodeRestored, exitFailed, "check whether it took effect before the restore, and repeat it only if it did not"},
	{nil, api.CodeTooLate, exitFailed, "if nobody picks it up, it is refunded"},
	{nil, api.CodeTooEarly, exitFailed, "wait until it is delivered or refunded"},
	{nil, api.CodeNoProof, exitFailed, "wait until the recipient has read the message"},
	{nil, api.CodeBadProof, exitUsage, "do not trust this proof or the person who showed it"},
	{nil, api.CodeUnknownTx, exitUnknown, "'bitgram wallet history' lists the wallet's transactions"},
	{nil, api.CodeAlreadySent, exitFailed, "'bitgram wallet bump' makes it confirm sooner"},
	{nil, api.CodeNotBumpable, exitFailed, "wait until it confirms"},
	{nil, api.CodeNoNames, exitFailed, "start the daemon with --names"},
	{nil, api.CodeNoHint, exitUsage, "a hint begins with *! *. *# *+ or *@ (spec/blockname.md)"},
	{nil, api.CodeBadHint, exitUsage, "use only a to z, 0 to 9 and hyphens, in lower case (spec/blockname.md)"},
	{nil, api.CodeHintLost, exitFailed, "raise --max-burn, or put money into the agent's wallet"},
	{nil, api.CodeOutbid, exitMoney, "'bitgram name register --dry-run' shows how much to burn"},
	{nil, api.CodeRegistered, exitFailed, "nothing to do; to protect it against a higher bid, burn more with --burn"},
	{nil, api.CodeUnknownBank, exitUnknown, "'bitgram bank list' and 'bitgram bank payments' list banks and payments"},
	{nil, api.CodeNoPayee, exitFailed, "start the daemon with --bank"},
	{nil, api.CodeNoRoute, exitNobody, "open a bank with the payee, or with a banker that has one with the payee"},
	{nil, api.CodeTooSmall, exitUsage, "open a larger bank, or one with fewer rungs"},
	{nil, api.CodeLadder, exitUsage, "change --rungs, --pennies, --ttl or the value"},
	{nil, api.CodeFee, exitMoney, "allow more with --max-fee, or wait until fees fall"},
	{nil, api.CodeBankEmpty, exitMoney, "open another bank, or pay less"},
	{nil, api.CodeBankNotOpen, exitFailed, "'bitgram bank show ID' shows its state"},
	{nil, api.CodeBankFundingSigned, exitFailed, "wait until it is open, then close it"},
	{nil, api.CodeUnacknowledged, exitFailed, "'bitgram bank resume PAYMENT' retries its last step"},
	{nil, api.CodeEnded, exitFailed, "'bitgram bank payments' shows its state"},
	{nil, api.CodeOrder, exitUsage, "pay at least 1 sat, in steps no larger than the amount"},
	{nil, api.CodeOrdered, exitNobody, "do not order it again: run the same command with the --key in the message to wait for this payment, or 'bitgram bank payments ID' to see it"},
	{nil, api.CodePenny, exitUsage, "pay one of these amounts, or pass --round-up to pay the next whole penny"},
	{nil, api.CodeNoReceipt, exitFailed, "'bitgram bank payments ID' shows its state; the payee signs with the first step"},
	{nil, api.CodeBadReceipt, exitUsage, "do not trust this receipt or the person who showed it"},
	{nil, api.CodeKey, exitUsage, "use a new --key for each payment, and the same one only to repeat a request"},
	{nil, api.CodeNoRung, exitFailed, "wait for more pennies, or until the bank expires"},
	{nil, api.CodeFailed, exitFailed, "run it again with --verbose for the log"},
}

// errorRow holds the code, exit code and hint of one error, or of one code.
type errorRow struct {
	is   error // nil: the row is for the code
	code api.Code
	exit int
	hint string
}

// seeHelp is the hint for wrong usage; COMMAND becomes the command that ran.
const seeHelp = "see 'COMMAND --help'"

// commandError is an error with the command that returned it.
type commandError struct {
	error
	command string // with its parents: "bitgram bank open"
}

// Unwrap returns the error alone.
func (e *commandError) Unwrap() error { return e.error }

// explain finds what err means: its code, exit code and hint.
func explain(err error) (code api.Code, exit int, hint string) {
	r := rowOf(err)
	hint = r.hint
	if hint == seeHelp {
		command := "bitgram"
		var in *commandError
		if errors.As(err, &in) {
			command = in.command
		}
		hint = "see '" + command + " --help'"
	}
	return r.code, r.exit, hint
}

// rowOf finds the row of an error.
func rowOf(err error) errorRow {
	var played *demo.Failed
	var sent *failure
	var told *api.Error
	switch {
	case errors.As(err, &played):
		return rowFor(api.Code(played.By), http.StatusInternalServerError)
	case errors.As(err, &sent):
		return rowFor(sent.by, http.StatusInternalServerError)
	case errors.As(err, &told):
		return rowFor(told.Code, told.Status)
	}
	for _, r := range errorTable {
		if r.is != nil && errors.Is(err, r.is) {
			return r
		}
	}
	return rowFor(web.CodeOf(err), http.StatusInternalServerError)
}

// rowFor finds the row of a code: one without an error of its own, if there is
// one. A code that a newer daemon knows and this program does not is judged by
// its HTTP status.
func rowFor(code api.Code, status int) errorRow {
	for _, local := range []bool{false, true} {
		for _, r := range errorTable {
			if r.code == code && (r.is != nil) == local {
				return r
			}
		}
	}
	if code != "" && status < http.StatusInternalServerError {
		return errorRow{code: code, exit: exitUsage}
	}
	return errorRow{code: cmp.Or(code, api.CodeFailed), exit: exitFailed}
}
