package bank

import (
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// What is over leaves a line of history: what is shown of it, what its peers may
// still ask for, and the root from which a payer's secrets derive. The paper of a
// bank is dropped at the same time, and also that of a bank that is done because too
// much time has passed: nothing of it can be closed, and a payer can compute it again.

// Pruned says that a contract is over, and that what nobody reads of it any more
// may be dropped. Contracts that are not over ignore it.
type Pruned struct{}

func (Pruned) event() {}

// Prune requests that the payments that came over this bank be pruned.
type Prune struct{}

func (Prune) effect() {}

// over reports whether a bank is done because it is spent.
func (y *Payee) over() bool { return y.Spend != nil && y.Interest().Done }

// line drops what nobody reads of a bank that is over: transactions, and the key,
// which derives from the payee's identity.
func (y Payee) line() Payee {
	y.Key, y.Offer, y.FundingTx = wire.Secret{}, nil, nil
	y.Joined, y.Alone = y.Spend.line(y.Joined), y.Spend.line(y.Alone)
	return y
}

// line drops what nobody reads of a bank that is over: transactions, and the coins
// that funded it.
func (p Payer) line() Payer {
	p.Inputs, p.Funding, p.Refund = nil, nil, lineOf(p.Refund)
	return p
}

// line returns what is kept of a close: what it cost, if it is the one that
// confirmed.
func (f *SpendFact) line(s *contract.Sent) *contract.Sent {
	if s == nil || s.Txid != f.Txid {
		return nil
	}
	return lineOf(s)
}

func lineOf(s *contract.Sent) *contract.Sent {
	if s == nil {
		return nil
	}
	return &contract.Sent{Txid: s.Txid, Fee: s.Fee, Height: s.Height, Tx: []byte{}}
}

// over reports whether a bank is done because of what is on the chain.
func (p *Payer) over() bool {
	return (p.Spend != nil || p.Confirmed == nil && p.Conflict != nil) && p.Interest().Done
}

// line drops what nobody reads of a payment over a bank that is closed. The final
// payee can sign the same acknowledgement again, and a banker keeps it.
func (r Relay) line() Relay {
	if r.Index > 0 && r.Ack == nil {
		return r // the payer may still need what the next hop answers
	}
	r.Over, r.Last = true, wire.Transfer{}
	if r.Out == (ID{}) {
		r.Ack = nil
	}
	return r
}

// repeats reports whether a step is the last one of a payment that was pruned: it
// has the same acknowledgement.
func (r *Relay) repeats(t *wire.Transfer) bool {
	return r.Index > 0 && t.Index == r.Index && t.Total == r.Total && (len(t.Hops) == 0) == (r.Out == ID{})
}
