package p2p

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bitgram/bitgram/wire"
)

// The protocols of penny banks.
const (
	protoBankTerms protocol.ID = "/bitgram/bank-terms/1" // BankRequest → Reply, BankQuote
	protoBankOpen  protocol.ID = "/bitgram/bank-open/1"  // BankOpen → Reply, Done
	protoPennies   protocol.ID = "/bitgram/pennies/2"    // → Reply; PayerFrame …, PayeeFrame …
	protoCloseAsk  protocol.ID = "/bitgram/bank-close/1" // BankHello → Reply, CloseOffer
	protoCloseSign protocol.ID = "/bitgram/bank-sign/1"  // CloseSign → Reply, CloseDone
	protoPair      protocol.ID = "/bitgram/bank-pair/1"  // PairRequest → Reply, PairOpened
	protoTransfer  protocol.ID = "/bitgram/transfer/1"   // Transfer → Reply, TransferAck
	protoRoute     protocol.ID = "/bitgram/route/1"      // RouteRequest → Reply, Route
)

// Banks is the service of a payee of penny banks. Errors are handled as those
// of Service.
type Banks interface {
	Terms(ctx context.Context, req *wire.BankRequest) (*wire.BankQuote, error)
	Open(ctx context.Context, from Caller, o *wire.BankOpen) error
	Till(ctx context.Context, bank wire.Hash) (Till, error)
	OfferClose(ctx context.Context, bank wire.Hash) (*wire.CloseOffer, error)
	SignClose(ctx context.Context, s *wire.CloseSign) (*wire.CloseDone, error)
	Pair(ctx context.Context, r *wire.PairRequest) (*wire.PairOpened, error)
	Transfer(ctx context.Context, t *wire.Transfer) (*wire.TransferAck, error)
	Route(ctx context.Context, r *wire.RouteRequest) (*wire.Route, error)
}

func (s *Host) handleBanks(b Banks) {
	handle(s, protoBankTerms, func(ctx context.Context, _ network.Stream, req *wire.BankRequest) (*wire.BankQuote, error) {
		return b.Terms(ctx, req)
	})
	handle(s, protoBankOpen, func(ctx context.Context, st network.Stream, o *wire.BankOpen) (*wire.Done, error) {
		return &wire.Done{}, b.Open(ctx, s.caller(st), o)
	})
	handle(s, protoCloseAsk, func(ctx context.Context, _ network.Stream, h *wire.BankHello) (*wire.CloseOffer, error) {
		return b.OfferClose(ctx, h.Bank)
	})
	handle(s, protoCloseSign, func(ctx context.Context, _ network.Stream, c *wire.CloseSign) (*wire.CloseDone, error) {
		return b.SignClose(ctx, c)
	})
	handle(s, protoPair, func(ctx context.Context, _ network.Stream, r *wire.PairRequest) (*wire.PairOpened, error) {
		return b.Pair(ctx, r)
	})
	handle(s, protoTransfer, func(ctx context.Context, st network.Stream, t *wire.Transfer) (*wire.TransferAck, error) {
		// The answer needs the time of all following hops.
		most := transferTime(len(t.Hops), s.limit.Frame)
		_ = st.SetDeadline(time.Now().Add(most))
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
		defer cancel()
		return b.Transfer(ctx, t)
	})
	handle(s, protoRoute, func(ctx context.Context, _ network.Stream, r *wire.RouteRequest) (*wire.Route, error) {
		return b.Route(ctx, r)
	})
	s.handle(protoPennies, s.servePennies(b))
}

// handle registers f for requests with one frame in each direction.
func handle[Q, A any, PQ interface {
	*Q
	wire.Limited
}, PA interface {
	*A
	wire.Limited
}](s *Host, id protocol.ID, f func(context.Context, network.Stream, PQ) (PA, error)) {
	s.handle(id, func(ctx context.Context, st network.Stream) error {
		req := PQ(new(Q))
		if err := wire.ReadFrame(st, req); err != nil {
			return err
		}
		// The caller has given up after that, so stop working and waiting for
		// locks.
		ctx, cancel := context.WithTimeout(ctx, s.limit.Frame)
		defer cancel()
		a, err := f(ctx, st, req)
		if err != nil {
			return s.reply(st, nil, err)
		}
		return s.reply(st, a, nil)
	})
}

// transferTime returns the time limit of a transfer over this many further
// hops.
func transferTime(hops int, frame time.Duration) time.Duration {
	return time.Duration(hops+1) * frame
}

// BankTerms asks a payee for the terms of a bank.
func (s *Host) BankTerms(ctx context.Context, to wire.Peer, req *wire.BankRequest) (*wire.BankQuote, error) {
	a := new(wire.BankQuote)
	return a, s.ask(ctx, to, protoBankTerms, req, a)
}

// OpenBank sends a bank to its payee.
func (s *Host) OpenBank(ctx context.Context, to wire.Peer, o *wire.BankOpen) error {
	return s.ask(ctx, to, protoBankOpen, o, new(wire.Done))
}

// AskClose asks a payee for a cooperative close.
func (s *Host) AskClose(ctx context.Context, to wire.Peer, id wire.Hash) (*wire.CloseOffer, error) {
	a := new(wire.CloseOffer)
	return a, s.ask(ctx, to, protoCloseAsk, &wire.BankHello{Bank: id}, a)
}

// SignClose sends the payer's signature to the payee.
func (s *Host) SignClose(ctx context.Context, to wire.Peer, c *wire.CloseSign) (*wire.CloseDone, error) {
	a := new(wire.CloseDone)
	return a, s.ask(ctx, to, protoCloseSign, c, a)
}

// Pair asks for a reverse bank.
func (s *Host) Pair(ctx context.Context, to wire.Peer, r *wire.PairRequest) (*wire.PairOpened, error) {
	a := new(wire.PairOpened)
	return a, s.ask(ctx, to, protoPair, r, a)
}

// Transfer forwards a step of a payment.
func (s *Host) Transfer(ctx context.Context, to wire.Peer, t *wire.Transfer) (*wire.TransferAck, error) {
	a := new(wire.TransferAck)
	return a, s.call(ctx, to, protoTransfer, func(st network.Stream) error {
		_ = st.SetDeadline(time.Now().Add(transferTime(len(t.Hops)+1, s.limit.Frame)))
		if err := wire.WriteFrame(st, t); err != nil {
			return err
		}
		return answer(st, a)
	})
}

// Route asks a banker for a route to a payee.
func (s *Host) Route(ctx context.Context, to wire.Peer, r *wire.RouteRequest) (*wire.Route, error) {
	a := new(wire.Route)
	return a, s.ask(ctx, to, protoRoute, r, a)
}
