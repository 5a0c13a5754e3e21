// Package jury brings together the nodes of a job. A node quotes its price for a
// job; a buyer finds candidates, asks them for quotes, and draws among them.
package jury

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// Policy is on what terms a node computes.
type Policy struct {
	Rate   wire.Psat // per 10⁹ units of fuel
	Limits wire.ComputeLimits
	// ValidFor is how many blocks a quote is valid.
	ValidFor uint32
}

// Check returns an error for terms that cannot be advertised.
func (p *Policy) Check() error {
	if p.ValidFor == 0 {
		return errors.New("quotes must be valid for at least one block")
	}
	one := wire.Key{31: 1} // any
	return (&wire.ComputeOffer{Agent: one, Rate: p.Rate, Limits: p.Limits, Expires: 1}).Check()
}

// PartyKey returns the key of a node's identity in the job whose bank is to pay it.
// It is derived, so a backup of the identity is one of the key.
func PartyKey(identity wire.Secret, bank wire.Hash) (wire.Secret, wire.Key, error) {
	s := job.PartyKey(identity, bank)
	priv, err := s.PrivKey() // fails with a probability below 2⁻¹²⁷
	if err != nil {
		return wire.Secret{}, wire.Key{}, err
	}
	return s, wire.XOnly(priv.PubKey()), nil
}

// Quoter answers requests for quotes. It is a p2p.Compute. A quote costs a signature
// and a multiplication, and nothing is stored.
type Quoter struct {
	Identity wire.Secret
	Self     wire.Key // of Identity
	Policy   Policy
	// Height returns the height of the chain.
	Height func() wire.Height
	// Ready, if set, refuses while the node takes no job, with the reason.
	Ready func(ctx context.Context, req *wire.ComputeRequest) error
}

// Quote implements p2p.Compute.
func (q *Quoter) Quote(ctx context.Context, _ p2p.Caller, req *wire.ComputeRequest) (*wire.ComputeQuote, error) {
	price, err := q.price(req)
	if err != nil {
		return nil, err
	}
	if q.Ready != nil {
		if err := q.Ready(ctx, req); err != nil {
			return nil, err
		}
	}
	_, party, err := PartyKey(q.Identity, req.Bank)
	if err != nil {
		return nil, err
	}
	quote := &wire.ComputeQuote{Agent: q.Self, Party: party, Request: req.Digest(), Price: price, ValidUntil: q.Height() + wire.Height(q.Policy.ValidFor)}
	quote.Sig, err = wire.Sign(q.Identity, quote.Digest())
	return quote, err
}

// price returns the price of an epoch, or why the node does not take the job.
func (q *Quoter) price(req *wire.ComputeRequest) (wire.Msat, error) {
	l := &q.Policy.Limits
	for _, x := range []struct {
		what       string
		code       wire.Code
		want, most uint64
	}{
		{"bytes of memory", wire.TooBig, req.Memory, l.Memory},
		{"units of fuel per epoch", wire.TooBig, req.Fuel, l.Fuel},
		{"bytes on the disk", wire.TooBig, req.Disk(), l.Disk},
		{"epochs", wire.TooLong, uint64(req.Epochs), uint64(l.Epochs)},
		{"blocks", wire.TooLong, uint64(req.Blocks), uint64(l.Blocks)},
	} {
		if x.want > x.most {
			return 0, wire.Refuse(x.code, "%d %s, at most %d are possible", x.want, x.what, x.most)
		}
	}
	price, err := wire.ComputePrice(q.Policy.Rate, req.Fuel)
	if err != nil {
		return 0, wire.Refuse(wire.TooBig, "the price of an epoch: %w", err)
	}
	return price, nil
}

// Keeps returns nil if a quote is this node's own for a request, and still valid:
// then the node must keep it. It returns a *wire.Refusal otherwise.
func (q *Quoter) Keeps(quote *wire.ComputeQuote, req *wire.ComputeRequest) error {
	if err := quote.Verify(q.Self, req); err != nil {
		return &wire.Refusal{Code: wire.BadRequest, Err: err}
	}
	if tip := q.Height(); tip > quote.ValidUntil {
		return wire.Refuse(wire.TooLate, "the quote was valid until block %d", quote.ValidUntil)
	}
	return nil
}

// Host asks nodes for quotes, and verifies them; *p2p.Host does.
type Host interface {
	ComputeQuote(ctx context.Context, to wire.Peer, req *wire.ComputeRequest) (*wire.ComputeQuote, error)
}

// Answer is what a candidate said.
type Answer struct {
	Found   p2p.Found
	Request *wire.ComputeRequest
	Quote   *wire.ComputeQuote // verified; nil after an error
	Err     error
}

// Limits of a round of quotes.
const (
	atOnce   = 32
	patience = 10 * time.Second
)

// Ask asks candidates for quotes at once, each with a request of its own, in which
// only the bank differs. A quote that is not valid at height tip is an error of its
// candidate. No candidate can delay the answers for longer than ten seconds.
func Ask(ctx context.Context, h Host, list []p2p.Found, req wire.ComputeRequest, bank func(wire.Key) wire.Hash, tip wire.Height) []Answer {
	answers := make([]Answer, len(list))
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, f := range list {
		own := req
		own.Bank = bank(f.Ad.Agent)
		answers[i] = Answer{Found: f, Request: &own}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			q, err := h.ComputeQuote(ctx, wire.Peer{Key: f.Ad.Agent, Addrs: f.Addrs}, &own)
			if err == nil && q.ValidUntil < tip {
				err = fmt.Errorf("%w: the quote was valid until block %d", wire.ErrMalformed, q.ValidUntil)
			}
			if err != nil {
				answers[i].Err = err
				return
			}
			answers[i].Quote = q
		})
	}
	wg.Wait()
	return answers
}

// Fitting returns the found nodes that, by their offers, take a job at a price of at
// most most per epoch.
func Fitting(found []p2p.Found, req *wire.ComputeRequest, most wire.Msat) []p2p.Found {
	return slices.DeleteFunc(slices.Clone(found), func(f p2p.Found) bool {
		if f.Compute == nil {
			return true
		}
		q := Quoter{Policy: Policy{Rate: f.Compute.Rate, Limits: f.Compute.Limits}}
		price, err := q.price(req)
		return err != nil || price > most
	})
}

// Drawn is a party of a jury.
type Drawn struct {
	Answer
	Trusted bool
}

// Draw draws size parties among the candidates that gave a quote, with those that
// the buyer trusts, and returns the others in the order in which they take the place
// of a party that refuses. most is how many parties share a network
// (choose.Jury.Most). The seed must be drawn after the answers have come.
func Draw(seed wire.Hash, answers []Answer, trusted []wire.Key, cap wire.Msat, size int) (parties, reserve []Drawn, most int, err error) {
	var list []choose.Candidate
	var quoted []Answer
	for _, a := range answers {
		if a.Quote != nil {
			list = append(list, choose.Candidate{Key: a.Found.Ad.Agent, Price: a.Quote.Price, Prefix: a.Found.Prefix})
			quoted = append(quoted, a)
		}
	}
	j, err := choose.Draw(seed, list, trusted, cap, size)
	if err != nil {
		return nil, nil, 0, err
	}
	for _, i := range j.Parties {
		parties = append(parties, Drawn{quoted[i], slices.Contains(trusted, list[i].Key)})
	}
	for _, i := range j.Reserve {
		reserve = append(reserve, Drawn{Answer: quoted[i]})
	}
	return parties, reserve, j.Most, nil
}
