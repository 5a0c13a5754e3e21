package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/node/coins"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Errors of the API itself.
var (
	// ErrRequest: a parameter is missing, unknown or out of range.
	ErrRequest = errors.New("bad request")
	// ErrToken: the request carries no token, or the wrong one.
	ErrToken = errors.New("wrong API token")
	// ErrStarting: the node is not open yet; ask again in a moment.
	ErrStarting = errors.New("the daemon is still starting")
	// ErrEnded: the node has stopped after an error, and the daemon is about to.
	ErrEnded = errors.New("the node has stopped")
	// ErrTakesNone: a peer that accepts no penny banks.
	ErrTakesNone = errors.New("this agent accepts no penny banks")
)

// codes maps errors to codes. The first row that matches counts.
var codes = []struct {
	is   error
	code api.Code
}{
	{wire.ErrWrongNetwork, api.CodeWrongNetwork},
	{wire.ErrBadAddress, api.CodeAddress},
	{delivery.ErrEmpty, api.CodeEmpty},
	{seal.ErrEmpty, api.CodeEmpty},
	{seal.ErrTooLarge, api.CodeTooLarge},
	{deal.ErrPrice, api.CodePrice},
	{deal.ErrNoFunds, api.CodeFunds},
	{deal.ErrTooFewAgents, api.CodeAgents},
	{banking.ErrOrdered, api.CodeOrdered}, // before what it wraps
	{banking.ErrKey, api.CodeKey},
	{banking.ErrPenny, api.CodePenny},
	{bank.ErrNoReceipt, api.CodeNoReceipt},
	{bank.ErrReceipt, api.CodeBadReceipt},
	{syscall.ENOSPC, api.CodeDiskFull},
	{context.DeadlineExceeded, api.CodeTimeout},
	{ErrRequest, api.CodeRequest},
	{ErrToken, api.CodeToken},
	{ErrStarting, api.CodeStarting},
	{ErrTakesNone, api.CodeRefused},
	{home.ErrDamaged, api.CodeDamaged},
	{deal.ErrRestored, api.CodeRestored},
	{chain.ErrCredentials, api.CodeCredentials},
	{chain.ErrWrongNetwork, api.CodeWrongNetwork},
	{chain.ErrPruned, api.CodePruned},
	{chain.ErrSyncing, api.CodeSyncing},
	{chain.ErrBehind, api.CodeSyncing},
	{chain.ErrZMQ, api.CodeZMQ},
	{chain.ErrUnavailable, api.CodeNoChain},
	{wallet.ErrNoFunds, api.CodeFunds},
	{wallet.ErrAddress, api.CodeBitcoinAddress},
	{wallet.ErrUnknownTx, api.CodeUnknownTx},
	{wallet.ErrOut, api.CodeAlreadySent},
	{wallet.ErrNotBumpable, api.CodeNotBumpable},
	{wallet.ErrAmount, api.CodeAmount},
	{wallet.ErrFee, api.CodeFee},
	{delivery.ErrNoMessage, api.CodeUnknownMessage},
	{engine.ErrAmbiguous, api.CodeAmbiguous},
	{delivery.ErrUnread, api.CodeUnread},
	{coins.ErrSyncing, api.CodeSyncing},
	{deal.ErrTooLate, api.CodeTooLate},
	{deal.ErrTooEarly, api.CodeTooEarly},
	{deal.ErrNoProof, api.CodeNoProof},
	{deal.ErrBadReceipt, api.CodeBadProof},
	{deal.ErrCancelled, api.CodeCancelled},
	{chain.ErrNoData, api.CodeNoData},
	{chain.ErrRejected, api.CodeRejected},
	{blockname.ErrNotHint, api.CodeNoHint},
	{blockname.ErrMalformed, api.CodeBadHint},
	{directory.ErrHintLost, api.CodeHintLost},
	{directory.ErrOutbid, api.CodeOutbid},
	{directory.ErrStands, api.CodeRegistered},
	{directory.ErrNoNames, api.CodeNoNames},
	{banking.ErrNoBank, api.CodeUnknownBank},
	{banking.ErrNoRoute, api.CodeNoRoute},
	{banking.ErrNoPayee, api.CodeNoPayee},
	{bank.ErrTooSmall, api.CodeTooSmall},
	{penny.ErrLadder, api.CodeLadder},
	{bank.ErrRefused, api.CodeRefused},
	{bank.ErrNoFunds, api.CodeFunds},
	{bank.ErrFee, api.CodeFee},
	{bank.ErrEmpty, api.CodeBankEmpty},
	{bank.ErrNotOpen, api.CodeBankNotOpen},
	{bank.ErrUnacked, api.CodeUnacknowledged},
	{bank.ErrBadAck, api.CodeCheated},
	{bank.ErrBadBank, api.CodeCheated},
	{bank.ErrTooEarly, api.CodeBankFundingSigned},
	{bank.ErrStopped, api.CodeEnded},
	{bank.ErrRestored, api.CodeRestored},
	{bank.ErrCancelled, api.CodeCancelled},
	{bank.ErrRejected, api.CodeRejected},
	{bank.ErrOrder, api.CodeOrder},
	{bank.ErrNoRung, api.CodeNoRung},
	{p2p.ErrNotFound, api.CodeUnknownAgent},
	{p2p.ErrRefused, api.CodeRefused},
	{p2p.ErrUnreachable, api.CodeUnreachable},
	{store.ErrCorrupt, api.CodeDamaged},
	{store.ErrNewer, api.CodeNewerHome},
}

// orderedError is an error after which a payment continues.
type orderedError struct {
	error
	id, key string
}

func (o *orderedError) Error() string { return fmt.Sprintf("payment %s: %v", o.id, o.error) }

// Unwrap returns the error alone.
func (o *orderedError) Unwrap() error { return o.error }

// CodeOf returns the code of an error that a node or the API returned, and
// api.CodeFailed for one that has none.
func CodeOf(err error) api.Code {
	for _, c := range codes {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return api.CodeFailed
}

// answer turns an error into the API's, and logs one that is the daemon's own
// fault; nil stays nil.
func (s *Server) answer(err error) error {
	if err == nil {
		return nil
	}
	code := CodeOf(err)
	e := &api.Error{Status: code.Status(), Code: code, Message: err.Error()}
	var o *orderedError
	if errors.As(err, &o) {
		e.Payment, e.Key = o.id, o.key
	}
	if e.Status >= http.StatusInternalServerError {
		s.cfg.Log.Warn("request failed", "err", err)
	}
	return e
}

func init() {
	// What the library finds wrong with a request is answered in the same form.
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		var text []string
		for _, err := range errs {
			var d *huma.ErrorDetail
			if errors.As(err, &d) {
				text = append(text, d.Location+": "+d.Message) // without the value, which may be a message
			} else if err != nil {
				text = append(text, err.Error())
			}
		}
		if len(text) > 0 {
			msg += ": " + strings.Join(text, "; ")
		}
		e := &api.Error{Status: status, Code: api.CodeRequest, Message: msg}
		if status >= http.StatusInternalServerError {
			e.Code = api.CodeFailed
		}
		return e
	}
}
