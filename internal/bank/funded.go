package bank

import (
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Funded is a bank that is negotiated and built elsewhere, and funded in one
// transaction with others: one of a job's.
type Funded struct {
	Terms   Terms
	Bank    wire.BankTerms
	Conf    uint32 // confirmations before the payee accepts pennies
	Root    wire.Secret
	Inputs  []wire.Outpoint
	Funding []byte // without witnesses
	Vout    uint32
	Fee     wire.Sat // this bank's part of the funding's
	Tip     wire.Height
}

// NewFunded returns the payer's machine of such a bank. Its funding may be sent from
// then on: Broadcasted says what came of it. The job's buyer locks its coins, and
// its pennies pay for the job alone (Payer.Tied).
func NewFunded(id ID, f Funded) (Payer, []Effect, error) {
	p := Payer{Bank: id, Terms: f.Terms, Phase: PayerPublishing, Tied: true, Root: f.Root, Inputs: f.Inputs, Funding: f.Funding, Fee: f.Fee}
	tx, err := contract.DecodeTx(f.Funding)
	if err != nil {
		return p, nil, err
	}
	b, err := contract.NewBank(f.Bank)
	if err != nil {
		return p, nil, err
	}
	if err := b.In(tx, f.Vout); err != nil {
		return p, nil, err
	}
	key, err := PayerKey(f.Root).PrivKey()
	if err != nil {
		return p, nil, err
	}
	l := penny.Ladder{Value: f.Terms.Value, Rungs: f.Terms.Rungs, PerRung: f.Terms.PerRung}
	if x := wire.XOnly(key.PubKey()); x != f.Bank.Payer || l != b.Ladder() || f.Bank.Expiry != f.Terms.Expiry {
		return p, nil, fmt.Errorf("%w: not the bank of these terms", ErrBadBank)
	}
	p.Ours = Ours{Payer: f.Bank.Payer, Payee: f.Bank.Payee, Expiry: f.Bank.Expiry, Ladder: l, Nonce: f.Bank.Nonce,
		At: wire.Outpoint{Txid: contract.Txid(tx), Vout: f.Vout}, Conf: f.Conf, Margins: f.Terms.Margins, Tip: f.Tip}
	return p, []Effect{KeepPaper{Paper: Paper{Terms: f.Bank}}}, nil
}
