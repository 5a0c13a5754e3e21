package api

import "net/http"

// Error is the body of every answer with a status of 400 or more. It says what
// went wrong, not which command helps: a client maps Code to its own advice.
type Error struct {
	Status  int    `json:"-"` // the HTTP status
	Code    Code   `json:"code" doc:"names the kind of failure"`
	Message string `json:"message" doc:"for people; may change between versions"`
	// Payment and Key are set for CodeOrdered: what continues, and the
	// idempotency key under which the request can be repeated.
	Payment string `json:"payment_id,omitempty" doc:"of a payment that continues although the request failed"`
	Key     string `json:"idempotency_key,omitempty" doc:"with which the request can be repeated without paying again"`
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// GetStatus returns the HTTP status, as the server's library asks for it.
func (e *Error) GetStatus() int { return e.Status }

// Code names a kind of failure. Scripts may rely on codes; a code is never
// given another meaning.
type Code string

// Codes of failures, and the HTTP status each is answered with.
const (
	// CodeFailed is every failure that has no code of its own.
	CodeFailed Code = "failed"

	// The request.

	CodeRequest        Code = "request"         // a parameter is missing, unknown or out of range
	CodeToken          Code = "token"           // the token is wrong, or the request comes from a web page
	CodeWrongNetwork   Code = "wrong_network"   // an address or node of another network
	CodeAddress        Code = "address"         // not a Bitgram address, npub or public key
	CodeBitcoinAddress Code = "bitcoin_address" // not a bitcoin address of this network
	CodeAmount         Code = "amount"          // an amount that cannot be sent
	CodeEmpty          Code = "empty"           // the message has no bytes
	CodeTooLarge       Code = "too_large"       // the message is larger than 4 GiB
	CodeAmbiguous      Code = "ambiguous"       // several IDs begin with these digits

	// The daemon, its machine and its Bitcoin node.

	CodeStarting    Code = "starting"    // the daemon is not ready yet
	CodeSyncing     Code = "syncing"     // the daemon or its Bitcoin node is behind the chain
	CodeTimeout     Code = "timeout"     // nobody answered in time
	CodeDiskFull    Code = "disk_full"   // no space left
	CodeDamaged     Code = "damaged"     // a file of the home is damaged
	CodeNewerHome   Code = "newer_home"  // a newer version wrote the home
	CodeNoChain     Code = "no_chain"    // the Bitcoin node does not answer
	CodeCredentials Code = "credentials" // the Bitcoin node refuses the credentials
	CodePruned      Code = "pruned"      // the Bitcoin node has deleted a block that is needed
	CodeRejected    Code = "rejected"    // the network refuses a transaction
	CodeNoData      Code = "no_data"     // the Bitcoin node does not relay OP_RETURN outputs
	CodeZMQ         Code = "zmq"         // the ZMQ publisher publishes no blocks

	// Peers.

	CodeUnknownAgent Code = "unknown_agent" // not in the DHT
	CodeUnreachable  Code = "unreachable"   // a peer does not answer
	CodeRefused      Code = "refused"       // a peer refuses what it was asked for
	CodeCheated      Code = "cheated"       // a peer broke the protocol; the proof is kept

	// Messages.

	CodeUnknownMessage Code = "unknown_message" // no message has this ID
	CodeUnread         Code = "unread"          // the message's content is not in this home
	CodePrice          Code = "price"           // the message costs more than allowed
	CodeFunds          Code = "funds"           // the wallet does not hold enough
	CodeAgents         Code = "agents"          // too few agents take the message
	CodeCancelled      Code = "cancelled"       // the user took it back
	CodeRestored       Code = "restored"        // given up after a restore: it may have been done since the backup
	CodeTooLate        Code = "too_late"        // the message is signed for, or was received
	CodeTooEarly       Code = "too_early"       // the message is still under way
	CodeNoProof        Code = "no_proof"        // there is no proof of delivery
	CodeBadProof       Code = "bad_proof"       // a proof that proves nothing

	// The wallet.

	CodeUnknownTx   Code = "unknown_tx"   // not a transaction of this wallet
	CodeAlreadySent Code = "already_sent" // a payment that nodes have cannot be abandoned
	CodeNotBumpable Code = "not_bumpable" // the fee cannot be raised

	// Names.

	CodeNoNames    Code = "no_names"   // the daemon does not read names
	CodeNoHint     Code = "no_hint"    // the text is not a hint
	CodeBadHint    Code = "bad_hint"   // the hint is malformed
	CodeHintLost   Code = "hint_lost"  // the agent's own hint is not on the chain
	CodeOutbid     Code = "outbid"     // another hint burned as much or more
	CodeRegistered Code = "registered" // the hint is on the chain already

	// Penny banks.

	CodeUnknownBank       Code = "unknown_bank"        // no bank or payment has this ID
	CodeNoPayee           Code = "no_payee"            // the daemon accepts no banks
	CodeNoRoute           Code = "no_route"            // no bank leads to the payee
	CodeTooSmall          Code = "too_small"           // the bank's value does not cover its fees
	CodeLadder            Code = "ladder"              // no bank has this many rungs and pennies
	CodeFee               Code = "fee"                 // fees are above the limit
	CodeBankEmpty         Code = "bank_empty"          // not enough pennies left
	CodeBankNotOpen       Code = "bank_not_open"       // the bank takes no pennies
	CodeBankFundingSigned Code = "bank_funding_signed" // the bank can no longer be cancelled
	CodeUnacknowledged    Code = "unacknowledged"      // an earlier step through this banker is not acknowledged
	CodeEnded             Code = "ended"               // the payment has ended
	CodeOrder             Code = "order"               // amount, step or fee do not fit together
	CodeNoRung            Code = "no_rung"             // nothing is paid that a close could claim
	CodeOrdered           Code = "ordered"             // the payment is stored and continues: do not order it again
	CodePenny             Code = "penny"               // the amount is not payable in whole pennies
	CodeNoReceipt         Code = "no_receipt"          // the payee has signed nothing for the payment
	CodeBadReceipt        Code = "bad_receipt"         // a receipt that proves nothing
	CodeKey               Code = "key"                 // the idempotency key belongs to another request
)

// statuses holds the HTTP status of each code; the others are 500.
var statuses = map[Code]int{
	CodeRequest: http.StatusBadRequest, CodeWrongNetwork: http.StatusBadRequest, CodeAddress: http.StatusBadRequest, CodeBitcoinAddress: http.StatusBadRequest,
	CodeAmount: http.StatusBadRequest, CodeEmpty: http.StatusBadRequest, CodeTooLarge: http.StatusBadRequest, CodeAmbiguous: http.StatusBadRequest,
	CodeBadProof: http.StatusBadRequest, CodeCredentials: http.StatusBadRequest, CodeNoHint: http.StatusBadRequest, CodeBadHint: http.StatusBadRequest,
	CodeTooSmall: http.StatusBadRequest, CodeLadder: http.StatusBadRequest, CodeOrder: http.StatusBadRequest,
	CodeKey: http.StatusBadRequest, CodeBadReceipt: http.StatusBadRequest, CodePenny: http.StatusBadRequest,

	CodeToken: http.StatusUnauthorized,

	CodePrice: http.StatusPaymentRequired, CodeFunds: http.StatusPaymentRequired, CodeOutbid: http.StatusPaymentRequired,
	CodeFee: http.StatusPaymentRequired, CodeBankEmpty: http.StatusPaymentRequired,

	CodeUnknownMessage: http.StatusNotFound, CodeUnknownTx: http.StatusNotFound, CodeUnknownBank: http.StatusNotFound, CodeUnknownAgent: http.StatusNotFound,

	CodeTooLate: http.StatusConflict, CodeTooEarly: http.StatusConflict, CodeAlreadySent: http.StatusConflict, CodeBankFundingSigned: http.StatusConflict,
	CodeUnread: http.StatusConflict, CodeNoProof: http.StatusConflict, CodeNoReceipt: http.StatusConflict, CodeStarting: http.StatusConflict,

	CodeCheated: http.StatusBadGateway,

	CodeAgents: http.StatusGatewayTimeout, CodeTimeout: http.StatusGatewayTimeout, CodeSyncing: http.StatusGatewayTimeout,
	CodeNoChain: http.StatusGatewayTimeout, CodeNoRoute: http.StatusGatewayTimeout, CodeUnreachable: http.StatusGatewayTimeout,
	CodeOrdered: http.StatusGatewayTimeout,
}

// Status returns the HTTP status that an error with this code is answered with.
func (c Code) Status() int {
	if s := statuses[c]; s != 0 {
		return s
	}
	return http.StatusInternalServerError
}
