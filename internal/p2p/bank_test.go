package p2p

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/wire"
)

// slowTill refuses while the next penny is being checked.
type slowTill struct{}

func (slowTill) State() *wire.BankState { return &wire.BankState{} }

func (slowTill) Close() {}

func (slowTill) Check(list []byte) error {
	if list[2] == 2 {
		time.Sleep(300 * time.Millisecond)
	}
	return nil
}

func (slowTill) Keep(context.Context) (uint32, error) {
	time.Sleep(100 * time.Millisecond)
	return 0, wire.Refuse(wire.Closed, "a penny does not open its rung's lock")
}

type slowBanks struct{ Banks }

func (slowBanks) Admit(context.Context, *wire.BankHello, peer.ID, peer.ID) error { return nil }

func (slowBanks) Till(context.Context, wire.Hash) (Till, error) { return slowTill{}, nil }

// payerOf makes requests with a key that only this test's payees know.
func payerOf(bank wire.Hash) *Payer {
	return &Payer{Bank: bank, Sign: func(d wire.Hash) (wire.Signature, error) { return wire.Sign(wire.Secret{31: 9}, d) }}
}

// TestPenniesRefused: a refusal reaches the payer at once, whatever the payee reads
// meanwhile.
func TestPenniesRefused(t *testing.T) { inWorld(t, penniesRefused) }

func penniesRefused(t world) {
	id := wire.Secret{31: 7}
	h, c := newHost(t, Config{Identity: id, Listen: []string{overTCP}, Banks: slowBanks{}}), newHost(t, Config{})
	err := c.Pennies(t.Context(), wire.Peer{Key: keyOf(id), Addrs: h.Addrs()}, payerOf(wire.Hash{1}), func(s *PennyStream) error {
		for i := byte(1); i <= 2; i++ {
			p := make([]byte, wire.EncodedPenny)
			p[2] = i
			if err := s.Send(&wire.Pennies{List: p}); err != nil {
				return err
			}
		}
		_, err := s.Receive()
		return err
	})
	var refused *Refused
	if !errors.As(err, &refused) || refused.Code != wire.Closed {
		t.Error(err)
	}
}

// gatedBanks answers nothing: it counts what passes its door.
type gatedBanks struct {
	Banks
	payer  wire.Key
	passed atomic.Int32
}

func (g *gatedBanks) Admit(_ context.Context, h *wire.BankHello, self, from peer.ID) error {
	if g.payer.Verify(wire.BankHelloDigest(h.Bank, []byte(from), []byte(self)), h.Proof) != nil {
		return wire.Refuse(wire.Unknown, "no such bank")
	}
	return nil
}

func (g *gatedBanks) in() error {
	g.passed.Add(1)
	return wire.Refuse(wire.Closed, "inside")
}

func (g *gatedBanks) Till(context.Context, wire.Hash) (Till, error) { return nil, g.in() }
func (g *gatedBanks) Lost(context.Context, wire.Hash) error         { return g.in() }
func (g *gatedBanks) OfferClose(context.Context, wire.Hash, wire.Msat) (*wire.CloseOffer, error) {
	return nil, g.in()
}
func (g *gatedBanks) SignClose(context.Context, *wire.CloseSign) (*wire.CloseDone, error) {
	return nil, g.in()
}
func (g *gatedBanks) Pair(context.Context, *wire.PairRequest) (*wire.PairOpened, error) {
	return nil, g.in()
}
func (g *gatedBanks) Transfer(context.Context, *wire.Transfer, *wire.Note) (*wire.TransferAck, error) {
	return nil, g.in()
}
func (g *gatedBanks) Route(context.Context, wire.Hash, *wire.RouteRequest) (*wire.Route, error) {
	return nil, g.in()
}

// TestBankRequestsAreAdmitted: no request about a bank is served to a peer that
// does not prove on this very channel that it is the bank's payer: not to one
// that knows the bank's id, nor to one that has seen another channel's proof, nor
// for another bank than the proven one.
func TestBankRequestsAreAdmitted(t *testing.T) { inWorld(t, bankRequestsAreAdmitted) }

func bankRequestsAreAdmitted(t world) {
	id, key := wire.Secret{31: 7}, wire.Secret{31: 9}
	g := &gatedBanks{payer: keyOf(key)}
	h, honest, stranger := newHost(t, Config{Identity: id, Listen: []string{overTCP}, Banks: g}), newHost(t, Config{}), newHost(t, Config{})
	to, bank := wire.Peer{Key: keyOf(id), Addrs: h.Addrs()}, wire.Hash{1}
	var seen wire.Signature // the proof of the honest payer's channel
	as := map[string]*Payer{
		"payer": {Bank: bank, Sign: func(d wire.Hash) (sig wire.Signature, err error) {
			seen, err = wire.Sign(key, d)
			return seen, err
		}},
		"another key":      {Bank: bank, Sign: func(d wire.Hash) (wire.Signature, error) { return wire.Sign(wire.Secret{31: 8}, d) }},
		"no proof":         {Bank: bank, Sign: func(wire.Hash) (wire.Signature, error) { return wire.Signature{}, nil }},
		"a proof replayed": {Bank: bank, Sign: func(wire.Hash) (wire.Signature, error) { return seen, nil }},
	}
	requests := map[string]func(c *Host, p *Payer, bank wire.Hash) error{
		"state": func(c *Host, p *Payer, _ wire.Hash) error {
			_, err := c.BankState(t.Context(), to, p)
			return err
		},
		"lost": func(c *Host, p *Payer, _ wire.Hash) error { return c.Lost(t.Context(), to, p) },
		"close": func(c *Host, p *Payer, _ wire.Hash) error {
			_, err := c.AskClose(t.Context(), to, p, 0)
			return err
		},
		"sign": func(c *Host, p *Payer, bank wire.Hash) error {
			_, err := c.SignClose(t.Context(), to, p, &wire.CloseSign{Bank: bank})
			return err
		},
		"pair": func(c *Host, p *Payer, bank wire.Hash) error {
			_, err := c.Pair(t.Context(), to, p, &wire.PairRequest{Bank: bank, Key: keyOf(id), Addrs: h.Addrs(), Value: 1000, Rungs: 1, PerRung: 1, Expiry: 1})
			return err
		},
		"transfer": func(c *Host, p *Payer, bank wire.Hash) error {
			_, err := c.Transfer(t.Context(), to, p, &wire.Transfer{Index: 1, Bank: bank, Amount: 1, Total: 1}, &wire.Note{})
			return err
		},
		"route": func(c *Host, p *Payer, _ wire.Hash) error {
			_, err := c.Route(t.Context(), to, p, &wire.RouteRequest{Payee: keyOf(id), Amount: 1})
			return err
		},
	}
	code := func(err error) wire.Code {
		var refused *Refused
		if errors.As(err, &refused) {
			return refused.Code
		}
		return wire.OK
	}
	for what, ask := range requests {
		g.passed.Store(0)
		if err := ask(honest, as["payer"], bank); code(err) != wire.Closed || g.passed.Load() != 1 {
			t.Errorf("%s by the payer: %v", what, err)
		}
		for who, p := range as {
			if who == "payer" {
				continue
			}
			if err := ask(stranger, p, bank); code(err) != wire.Unknown || g.passed.Load() != 1 {
				t.Errorf("%s with %s: %v", what, who, err)
			}
		}
	}
	for _, what := range []string{"sign", "pair", "transfer"} {
		g.passed.Store(0)
		if err := requests[what](honest, as["payer"], wire.Hash{2}); code(err) != wire.BadRequest || g.passed.Load() != 0 {
			t.Errorf("%s about another bank: %v", what, err)
		}
	}
}
