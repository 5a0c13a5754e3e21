package p2p

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bitgram/bitgram/wire"
)

// The protocols of penny banks.
const (
	protoBankTerms protocol.ID = "/bitgram/bank-terms/1" // BankRequest → Reply, BankQuote
	protoBankOpen  protocol.ID = "/bitgram/bank-open/2"  // BankOpen → Reply, Done
	protoPennies   protocol.ID = "/bitgram/pennies/3"    // → Reply; PayerFrame …, PayeeFrame …
	protoCloseAsk  protocol.ID = "/bitgram/bank-close/3" // BankHello, CloseAsk → Reply, CloseOffer
	protoLost      protocol.ID = "/bitgram/bank-lost/1"  // BankHello → Reply, Done
	protoCloseSign protocol.ID = "/bitgram/bank-sign/2"  // BankHello, CloseSign → Reply, CloseDone
	protoPair      protocol.ID = "/bitgram/bank-pair/2"  // BankHello, PairRequest → Reply, PairOpened
	protoTransfer  protocol.ID = "/bitgram/transfer/2"   // BankHello, Transfer, Note → Reply, TransferAck
	protoRoute     protocol.ID = "/bitgram/route/2"      // BankHello, RouteRequest → Reply, Route
)

// Banks is the service of a payee of penny banks. Errors are handled as those
// of Service. Every request about an existing bank is admitted before it is
// served, so the other methods need not ask who the peer is.
type Banks interface {
	// Admit returns nil if the peer at the other end of the channel has proved
	// that it is the bank's payer. A stranger must not learn whether there is
	// such a bank.
	Admit(ctx context.Context, h *wire.BankHello, self, from peer.ID) error
	Terms(ctx context.Context, req *wire.BankRequest) (*wire.BankQuote, error)
	Open(ctx context.Context, from Caller, o *wire.BankOpen) error
	Till(ctx context.Context, bank wire.Hash) (Till, error)
	// Lost says that the payer has acknowledgements of pennies that the payee does
	// not hold.
	Lost(ctx context.Context, bank wire.Hash) error
	// OfferClose offers a cooperative close. unused is the credit that the payer
	// says it has not used.
	OfferClose(ctx context.Context, bank wire.Hash, unused wire.Msat) (*wire.CloseOffer, error)
	SignClose(ctx context.Context, s *wire.CloseSign) (*wire.CloseDone, error)
	Pair(ctx context.Context, r *wire.PairRequest) (*wire.PairOpened, error)
	Transfer(ctx context.Context, t *wire.Transfer, note *wire.Note) (*wire.TransferAck, error)
	Route(ctx context.Context, bank wire.Hash, r *wire.RouteRequest) (*wire.Route, error)
}

func (s *Host) handleBanks(b Banks) {
	handle(s, protoBankTerms, func(ctx context.Context, _ network.Stream, req *wire.BankRequest) (*wire.BankQuote, error) {
		return b.Terms(ctx, req)
	})
	handle(s, protoBankOpen, func(ctx context.Context, st network.Stream, o *wire.BankOpen) (*wire.Done, error) {
		return &wire.Done{}, b.Open(ctx, s.caller(st), o)
	})
	s.admit(b, protoLost, func(ctx context.Context, st network.Stream, bank wire.Hash) error {
		ctx, cancel := context.WithTimeout(ctx, s.limit.Frame)
		defer cancel()
		return s.reply(st, &wire.Done{}, b.Lost(ctx, bank))
	})
	admitted(s, b, protoCloseAsk, func(ctx context.Context, _ network.Stream, bank wire.Hash, a *wire.CloseAsk) (*wire.CloseOffer, error) {
		return b.OfferClose(ctx, bank, a.Unused)
	})
	admitted(s, b, protoCloseSign, func(ctx context.Context, _ network.Stream, bank wire.Hash, c *wire.CloseSign) (*wire.CloseDone, error) {
		if c.Bank != bank {
			return nil, errOtherBank
		}
		return b.SignClose(ctx, c)
	})
	admitted(s, b, protoPair, func(ctx context.Context, _ network.Stream, bank wire.Hash, r *wire.PairRequest) (*wire.PairOpened, error) {
		if r.Bank != bank {
			return nil, errOtherBank
		}
		return b.Pair(ctx, r)
	})
	admitted(s, b, protoTransfer, func(ctx context.Context, st network.Stream, bank wire.Hash, t *wire.Transfer) (*wire.TransferAck, error) {
		if t.Bank != bank {
			return nil, errOtherBank
		}
		var note wire.Note
		if err := wire.ReadFrame(st, &note); err != nil {
			return nil, wire.Refuse(wire.BadRequest, "%w", err)
		}
		// The answer needs the time of all following hops.
		most := transferTime(len(t.Hops), s.limit.Frame)
		_ = st.SetDeadline(time.Now().Add(most))
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
		defer cancel()
		return b.Transfer(ctx, t, &note)
	})
	admitted(s, b, protoRoute, func(ctx context.Context, _ network.Stream, bank wire.Hash, r *wire.RouteRequest) (*wire.Route, error) {
		return b.Route(ctx, bank, r)
	})
	s.handle(protoPennies, s.servePennies(b))
}

// errOtherBank refuses a request about another bank than the one that its
// payer proved.
var errOtherBank = wire.Refuse(wire.BadRequest, "the request is about another bank than its proof")

// admit registers f for requests about a bank: it runs once the peer has proved
// that it is the bank's payer.
func (s *Host) admit(b Banks, id protocol.ID, f func(ctx context.Context, st network.Stream, bank wire.Hash) error) {
	s.handle(id, func(ctx context.Context, st network.Stream) error {
		var h wire.BankHello
		if err := wire.ReadFrame(st, &h); err != nil {
			return err
		}
		if err := b.Admit(ctx, &h, s.h.ID(), st.Conn().RemotePeer()); err != nil {
			return s.reply(st, nil, err)
		}
		return f(ctx, st, h.Bank)
	})
}

// admitted registers f for requests about a bank that have one frame after the
// proof, and one in answer.
func admitted[Q, A any, PQ interface {
	*Q
	wire.Limited
}, PA interface {
	*A
	wire.Limited
}](s *Host, b Banks, id protocol.ID, f func(context.Context, network.Stream, wire.Hash, PQ) (PA, error)) {
	s.admit(b, id, func(ctx context.Context, st network.Stream, bank wire.Hash) error {
		return serve(ctx, s, st, func(ctx context.Context, st network.Stream, req PQ) (PA, error) { return f(ctx, st, bank, req) })
	})
}

// handle registers f for requests with one frame in each direction.
func handle[Q, A any, PQ interface {
	*Q
	wire.Limited
}, PA interface {
	*A
	wire.Limited
}](s *Host, id protocol.ID, f func(context.Context, network.Stream, PQ) (PA, error)) {
	s.handle(id, func(ctx context.Context, st network.Stream) error { return serve(ctx, s, st, f) })
}

// serve reads a request and answers it with what f returns.
func serve[Q, A any, PQ interface {
	*Q
	wire.Limited
}, PA interface {
	*A
	wire.Limited
}](ctx context.Context, s *Host, st network.Stream, f func(context.Context, network.Stream, PQ) (PA, error)) error {
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

// Payer makes requests about a bank as its payer.
type Payer struct {
	Bank wire.Hash
	// Sign signs a digest with the payer's key in the bank.
	Sign func(digest wire.Hash) (wire.Signature, error)
}

// hello returns the proof with which requests about a bank to a peer begin.
func (s *Host) hello(to wire.Peer, as *Payer) (*wire.BankHello, error) {
	id, err := PeerID(to.Key)
	if err != nil {
		return nil, err
	}
	proof, err := as.Sign(wire.BankHelloDigest(as.Bank, []byte(s.h.ID()), []byte(id)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLocal, err)
	}
	return &wire.BankHello{Bank: as.Bank, Proof: proof}, nil
}

// writeAll writes frames in one packet.
func writeAll(st network.Stream, list ...wire.Limited) error {
	var all bytes.Buffer
	for _, m := range list {
		if err := wire.WriteFrame(&all, m); err != nil {
			return err
		}
	}
	_, err := st.Write(all.Bytes())
	return err
}

// askAs makes a request about a bank. The rest follows the proof.
func (s *Host) askAs(ctx context.Context, to wire.Peer, as *Payer, id protocol.ID, a wire.Limited, more time.Duration, rest ...wire.Limited) error {
	h, err := s.hello(to, as)
	if err != nil {
		return err
	}
	return s.call(ctx, to, id, func(st network.Stream) error {
		if more > 0 {
			_ = st.SetDeadline(time.Now().Add(more))
		}
		if err := writeAll(st, append([]wire.Limited{h}, rest...)...); err != nil {
			return err
		}
		return answer(st, a)
	})
}

// Lost tells a payee that it has acknowledged pennies that it does not hold.
func (s *Host) Lost(ctx context.Context, to wire.Peer, as *Payer) error {
	return s.askAs(ctx, to, as, protoLost, &wire.Done{}, 0)
}

// AskClose asks a payee for a cooperative close, and a banker to give back the
// credit that is unused.
func (s *Host) AskClose(ctx context.Context, to wire.Peer, as *Payer, unused wire.Msat) (*wire.CloseOffer, error) {
	a := new(wire.CloseOffer)
	return a, s.askAs(ctx, to, as, protoCloseAsk, a, 0, &wire.CloseAsk{Unused: unused})
}

// SignClose sends the payer's signature to the payee.
func (s *Host) SignClose(ctx context.Context, to wire.Peer, as *Payer, c *wire.CloseSign) (*wire.CloseDone, error) {
	a := new(wire.CloseDone)
	return a, s.askAs(ctx, to, as, protoCloseSign, a, 0, c)
}

// Pair asks for a reverse bank.
func (s *Host) Pair(ctx context.Context, to wire.Peer, as *Payer, r *wire.PairRequest) (*wire.PairOpened, error) {
	a := new(wire.PairOpened)
	return a, s.askAs(ctx, to, as, protoPair, a, 0, r)
}

// Transfer forwards a step of a payment.
func (s *Host) Transfer(ctx context.Context, to wire.Peer, as *Payer, t *wire.Transfer, note *wire.Note) (*wire.TransferAck, error) {
	a := new(wire.TransferAck)
	return a, s.askAs(ctx, to, as, protoTransfer, a, transferTime(len(t.Hops)+1, s.limit.Frame), t, note)
}

// Route asks a banker, with which the caller has a bank, for a route to a payee.
func (s *Host) Route(ctx context.Context, to wire.Peer, as *Payer, r *wire.RouteRequest) (*wire.Route, error) {
	a := new(wire.Route)
	return a, s.askAs(ctx, to, as, protoRoute, a, 0, r)
}
