package bitcoind

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bitgram/bitgram/internal/chain"
)

// Everything that nodes tell only in words. An error is recognised by its code
// where codes suffice; these are the cases in which one code has several
// meanings. The texts are in lower case. Bitcoin Core returns a fixed reason
// (validation.cpp), btcd a sentence (mempool.go, policy.go).
var (
	saidOutOfRange = []string{"out of range"} // a height above the tip
	saidBurn       = []string{"maxburnamount"}
	saidPruned     = []string{"pruned"} // a block that was deleted
	// a transaction with an OP_RETURN output that is too long, or not wanted:
	// Bitcoin Core since v30, before, and btcd
	saidData = []string{"datacarrier", "scriptpubkey", "non-standard script form"}

	saidKnown = []string{"txn-already-in-mempool", "txn-already-known", "already in block chain", "already in utxo set", // Bitcoin Core
		"already have transaction in mempool", "transaction already exists in blockchain"} // btcd
	saidReplacement = []string{"insufficient fee", "replacement-failed", "too many potential replacements", // Bitcoin Core
		"insufficient fee rate", "insufficient absolute fee"} // btcd
	saidFeeTooLow = []string{"min relay fee not met", "mempool min fee not met", "mempool full", // Bitcoin Core
		"under the required amount", "insufficient priority", "due to low fees"} // btcd
	saidConflict = []string{"missing inputs", "inputs missing or spent", "missingorspent", "txn-mempool-conflict", // Bitcoin Core
		"orphan transaction", "either does not exist or has already been spent", "already spent in mempool"} // btcd
)

// said reports whether the node's message contains one of these texts.
func (e *Error) said(list []string) bool {
	text := strings.ToLower(e.Message)
	for _, s := range list {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// refusal converts a node's answer to sendrawtransaction to an error of
// chain.Backend.
func refusal(err error) error {
	var node *Error
	if !errors.As(err, &node) {
		return err
	}
	switch node.Code {
	case codeKnown:
		return nil
	case codeDecode, codeTransaction, codeRejected:
	default:
		return err
	}
	switch {
	case node.said(saidKnown):
		return nil
	case node.said(saidReplacement):
		return fmt.Errorf("%w: %s", chain.ErrReplacement, node.Message)
	case node.said(saidFeeTooLow):
		return fmt.Errorf("%w: %s", chain.ErrFeeTooLow, node.Message)
	case node.said(saidConflict):
		return fmt.Errorf("%w: %s", chain.ErrConflict, node.Message)
	}
	return fmt.Errorf("%w: %s", chain.ErrRejected, node.Message)
}
