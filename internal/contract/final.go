package contract

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// MaxFinalBanks is the maximum number of banks in a funding and a final
// transaction: a job's nodes and standbys.
const MaxFinalBanks = 16

// FundBanks builds the unsigned funding of several banks in one transaction:
// output i is bank i, then change unless it is nil. All inputs must be segwit,
// so that the txid is final before they are signed. Equal outputs are refused,
// so each party can find its bank.
func FundBanks(banks []*Bank, inputs []wire.Outpoint, change wire.Sat, changeScript []byte) (*btcwire.MsgTx, error) {
	if len(banks) < 1 || len(banks) > MaxFinalBanks {
		return nil, fmt.Errorf("%d banks to fund, of 1 to %d", len(banks), MaxFinalBanks)
	}
	tx := btcwire.NewMsgTx(TxVersion)
	for _, in := range inputs {
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: OutPoint(in), Sequence: Sequence})
	}
	for i, b := range banks {
		if slices.ContainsFunc(banks[:i], func(o *Bank) bool { return string(o.pkScript) == string(b.pkScript) }) {
			return nil, fmt.Errorf("bank %d occurs twice", i)
		}
		tx.AddTxOut(btcwire.NewTxOut(int64(b.terms.Value), b.pkScript))
	}
	if change > 0 {
		tx.AddTxOut(btcwire.NewTxOut(int64(change), changeScript))
	}
	return tx, nil
}

// BanksFundingWeight is the weight of the funding of banks with BIP86 inputs and,
// with change, one P2TR output of it.
func BanksFundingWeight(inputs, banks int, change bool) int64 {
	w := TxOverheadWeight + int64(inputs)*KeySpendInputWeight + int64(banks)*P2TROutputWeight
	if change {
		w += P2TROutputWeight
	}
	return w
}

// FinalPart is one bank in a final transaction, as its parties agree on it.
type FinalPart struct {
	Bank *Bank
	At   wire.Outpoint
	// Paid is the number of pennies that the payee holds. Without the buyer
	// only whole rungs count, and at least one is required.
	Paid uint32
	// Payout is the key of the payee's output, which is delayed by a block.
	Payout wire.Key
	// PaysFee is set for the payees that pay the fee in equal parts. The
	// remainder of the division is added to the first one's part.
	PaysFee bool
}

// rung returns the highest rung reached by the part's pennies.
func (p *FinalPart) rung() uint32 { return p.Bank.ladder.Rung(p.Paid) }

// Final closes several banks in one transaction (spec/job.md §7). Every payee
// signs its own input with DEFAULT and so signs all outputs. Each payee's
// output is delayed by a block, so nobody can pin the transaction. An absent
// payee is left out: any subset of the banks is a valid final transaction.
//
// Without the buyer, input i is bank i at its rung, and output i is the payer's
// change of that rung, at the input's own index, because its signature is
// SINGLE|ANYONECANPAY; then come the payees' outputs in order. With the buyer,
// input i is bank i through the together leaf, output 0 is the buyer's whole
// part, and then come the outputs of the payees that have any.
//
// Every party builds it from the same list and gets the same bytes; no party
// relies on another's transaction.
type Final struct {
	parts    []FinalPart
	together bool
	tx       *btcwire.MsgTx
	prev     *txscript.MultiPrevOutFetcher
	hashes   *txscript.TxSigHashes
	payouts  []wire.Sat
	fee      wire.Sat
}

// ErrFinal means that no final transaction can be built from these parts.
var ErrFinal = errors.New("no such final transaction")

// NewFinal builds the final transaction without the buyer, with a fee at rate.
// It returns ErrFinal if a bank has no whole rung paid, occurs twice, or no
// payee pays the fee, and ErrUneconomic if a payee's output would be dust.
func NewFinal(parts []FinalPart, rate wire.SatPerKVB) (*Final, error) {
	return newFinal(parts, rate, false)
}

// NewFinalTogether builds the final transaction with the buyer, exact to the
// penny. A payee without pennies has no output and pays no fee. A payee whose
// output would be dust must be left out. The errors are NewFinal's.
func NewFinalTogether(parts []FinalPart, rate wire.SatPerKVB) (*Final, error) {
	return newFinal(parts, rate, true)
}

func newFinal(parts []FinalPart, rate wire.SatPerKVB, together bool) (*Final, error) {
	if len(parts) < 1 || len(parts) > MaxFinalBanks {
		return nil, fmt.Errorf("%w: %d banks, of 1 to %d", ErrFinal, len(parts), MaxFinalBanks)
	}
	if rate < 0 || rate > MaxFinalRate {
		return nil, fmt.Errorf("%w: a fee rate of %d sat/kvB", ErrFinal, rate)
	}
	f := &Final{parts: slices.Clone(parts), together: together, tx: btcwire.NewMsgTx(TxVersion),
		prev: txscript.NewMultiPrevOutFetcher(nil), payouts: make([]wire.Sat, len(parts))}
	var buyer wire.Sat
	payers := 0
	for i := range f.parts {
		p := &f.parts[i]
		share, err := p.share(together)
		if err != nil {
			return nil, fmt.Errorf("bank %d: %w", i, err)
		}
		op := OutPoint(p.At)
		if f.prev.FetchPrevOutput(op) != nil {
			return nil, fmt.Errorf("%w: bank %d occurs twice", ErrFinal, i)
		}
		f.prev.AddPrevOut(op, btcwire.NewTxOut(int64(p.Bank.terms.Value), p.Bank.pkScript))
		f.tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: op, Sequence: Sequence})
		f.payouts[i] = share
		buyer += p.Bank.terms.Value - share
		p.PaysFee = p.PaysFee && share > 0
		if p.PaysFee {
			payers++
		}
		if !together {
			f.tx.AddTxOut(p.Bank.Change(p.rung()))
		}
	}
	if payers == 0 {
		return nil, fmt.Errorf("%w: no payee pays the fee", ErrFinal)
	}
	if together {
		if buyer > wire.MaxSat {
			return nil, fmt.Errorf("%w: %v to the buyer", ErrFinal, buyer)
		}
		f.tx.AddTxOut(btcwire.NewTxOut(int64(buyer), f.parts[0].Bank.changeScript))
	}
	f.fee = rate.Fee(VSize(finalWeight(f.parts, together)))
	if err := f.pay(wire.Sat(payers)); err != nil {
		return nil, err
	}
	f.hashes = txscript.NewTxSigHashes(f.tx, f.prev)
	return f, nil
}

// MaxFinalRate is the maximum fee rate that parties may agree on: 0.1 BTC/kvB,
// far above any rate that blocks ever required, and far below an overflow.
const MaxFinalRate = wire.MaxFeeRate

// share returns the payee's part before fees.
func (p *FinalPart) share(together bool) (wire.Sat, error) {
	l := p.Bank.ladder
	switch {
	case p.Paid > l.N():
		return 0, fmt.Errorf("%w: %d pennies, of %d", ErrFinal, p.Paid, l.N())
	case together:
		// Rounded down; at most the share of the rung that they have begun.
		return l.Paid(p.Paid).Whole(), nil
	case p.rung() == 0:
		return 0, fmt.Errorf("%w: %d pennies reach no rung", ErrFinal, p.Paid)
	}
	return l.Share(p.rung()), nil
}

// pay adds the payees' outputs, less each one's part of the fee.
func (f *Final) pay(payers wire.Sat) error {
	rest := f.fee % payers
	for i := range f.parts {
		p := &f.parts[i]
		if f.payouts[i] == 0 {
			continue
		}
		if p.PaysFee {
			f.payouts[i] -= f.fee/payers + rest
			rest = 0
		}
		if f.payouts[i] < Dust {
			return fmt.Errorf("%w: %v are left for bank %d", ErrUneconomic, f.payouts[i], i)
		}
		script, _, _, err := p.Bank.payout(p.Payout)
		if err != nil {
			return err
		}
		f.tx.AddTxOut(btcwire.NewTxOut(int64(f.payouts[i]), script))
	}
	return nil
}

// payout returns the delayed output of a payee. It has the form of the payer's
// change, with another key.
func (b *Bank) payout(key wire.Key) (script []byte, leaf txscript.TapLeaf, control []byte, err error) {
	if _, err := key.Point(); err != nil {
		return nil, leaf, nil, fmt.Errorf("payout: %w", err)
	}
	internal, err := InternalKey(b.terms.Blinding)
	if err != nil {
		return nil, leaf, nil, err
	}
	leaf = txscript.NewBaseTapLeaf(ChangeScript(key))
	script, list, err := assemble(internal, []txscript.TapLeaf{leaf})
	if err != nil {
		return nil, leaf, nil, err
	}
	return script, leaf, list[0], nil
}

// finalWeight returns the weight of a final transaction of valid parts.
func finalWeight(parts []FinalPart, together bool) int64 {
	w := int64(TxOverheadWeight)
	if together {
		w += P2TROutputWeight
	}
	for i := range parts {
		p := &parts[i]
		n := len(p.Bank.terms.Locks)
		if !together {
			w += FinalInputWeight(int(p.rung()-1), n)
			continue
		}
		w += TogetherInputWeight(n)
		if p.Bank.ladder.Paid(p.Paid).Whole() > 0 {
			w += P2TROutputWeight
		}
	}
	return w
}

// FinalInputWeight returns the weight that a bank of n rungs, closed through
// leaf i, adds to a final transaction without the buyer: the input, the change
// and the payee's output.
func FinalInputWeight(i, n int) int64 { return RungInputWeight(i, n) + 2*P2TROutputWeight }

// FinalRungs returns a ladder for a job of this many epochs that is cheap to
// close in a final transaction. rungs is a power of two up to 64, so the
// together leaf is at depth 2. The ladder may have more pennies than there are
// epochs.
func FinalRungs(epochs uint32) (rungs, perRung uint32) {
	rungs = 1
	for rungs < 64 && rungs < epochs {
		rungs *= 2
	}
	return rungs, max(1, epochs/rungs+min(epochs%rungs, 1))
}

// Fee returns the miners' fee.
func (f *Final) Fee() wire.Sat            { return f.fee }
func (f *Final) Payout(i int) wire.Sat    { return f.payouts[i] }
func (f *Final) Len() int                 { return len(f.parts) }
func (f *Final) Part(i int) FinalPart     { return f.parts[i] }
func (f *Final) Together() bool           { return f.together }
func (f *Final) Unsigned() *btcwire.MsgTx { return f.tx.Copy() }

// PayoutAt returns the outpoint of payee i's output; ok is false if it has
// none.
func (f *Final) PayoutAt(i int) (wire.Outpoint, bool) {
	if i < 0 || i >= len(f.parts) || f.payouts[i] == 0 {
		return wire.Outpoint{}, false
	}
	n := len(f.parts)
	if f.together {
		n = 1
	}
	for j := range i {
		if f.payouts[j] > 0 {
			n++
		}
	}
	return wire.Outpoint{Txid: Txid(f.tx), Vout: uint32(n)}, true
}

// leaf returns the index of the leaf through which input i is spent.
func (f *Final) leaf(i int) int {
	p := &f.parts[i]
	if f.together {
		return p.Bank.together()
	}
	return int(p.rung() - 1)
}

// Digest returns the digest that payee i signs, and with the buyer also the
// buyer: the BIP341 digest of its input and of all outputs.
func (f *Final) Digest(i int) (wire.Hash, error) {
	if i < 0 || i >= len(f.parts) {
		return wire.Hash{}, fmt.Errorf("%w: no bank %d", ErrFinal, i)
	}
	d, err := txscript.CalcTapscriptSignaturehash(f.hashes, txscript.SigHashDefault, f.tx, i, f.prev, f.parts[i].Bank.leaves[f.leaf(i)])
	return wire.Hash(d), err
}

// Sign signs input i with the key of one side.
func (f *Final) Sign(i int, key wire.Secret) (sig wire.Signature, err error) {
	d, err := f.Digest(i)
	if err != nil {
		return sig, err
	}
	priv, err := key.PrivKey()
	if err != nil {
		return sig, err
	}
	if k, t := wire.XOnly(priv.PubKey()), &f.parts[i].Bank.terms; k != t.Payee && (k != t.Payer || !f.together) {
		return sig, fmt.Errorf("bank %d: %w: not the key of either side", i, wire.ErrBadKey)
	}
	s, err := schnorr.Sign(priv, d[:])
	if err == nil {
		copy(sig[:], s.Serialize())
	}
	return sig, err
}

// FinalSig contains what the parties of one bank contribute to a final
// transaction.
type FinalSig struct {
	_     struct{} `cbor:",toarray"`
	Payee wire.Signature
	// Payer is the buyer's signature: without the buyer that of the rung, made
	// at the opening; with the buyer one of this transaction.
	Payer wire.Signature
	// Secret is the rung's penny. It is zero with the buyer.
	Secret [wire.PennySize]byte
}

// ErrFinalSignature means that a signature of a final transaction does not
// verify.
var ErrFinalSignature = errors.New("false signature of a final transaction")

// Verify verifies the contribution of bank i. A party that spoils a final
// transaction is thereby identified, and can be left out of the next. It
// returns ErrFinalSignature or penny.ErrFalse.
func (f *Final) Verify(i int, s FinalSig) error {
	d, err := f.Digest(i)
	if err != nil {
		return err
	}
	p := &f.parts[i]
	if p.Bank.terms.Payee.Verify(d, s.Payee) != nil {
		return fmt.Errorf("%w: bank %d, the payee's", ErrFinalSignature, i)
	}
	if !f.together {
		if !p.Bank.Opens(p.rung(), s.Secret[:]) {
			return fmt.Errorf("bank %d, rung %d: %w", i, p.rung(), penny.ErrFalse)
		}
		if d, err = p.Bank.RungDigest(p.rung(), p.At); err != nil {
			return err
		}
	} else if s.Secret != ([wire.PennySize]byte{}) {
		return fmt.Errorf("bank %d: %w: must be zero with the buyer", i, penny.ErrFalse)
	}
	if p.Bank.terms.Payer.Verify(d, s.Payer) != nil {
		return fmt.Errorf("%w: bank %d, the payer's", ErrFinalSignature, i)
	}
	return nil
}

// Assemble verifies all contributions and sets the witnesses. The error is
// Verify's for the first bank that fails.
func (f *Final) Assemble(sigs []FinalSig) (*btcwire.MsgTx, error) {
	if len(sigs) != len(f.parts) {
		return nil, fmt.Errorf("%w: signatures of %d banks, of %d", ErrFinal, len(sigs), len(f.parts))
	}
	tx := f.tx.Copy()
	for i, s := range sigs {
		if err := f.Verify(i, s); err != nil {
			return nil, err
		}
		b, leaf := f.parts[i].Bank, f.leaf(i)
		w := btcwire.TxWitness{slices.Clone(s.Payee[:]), slices.Clone(s.Payer[:])}
		if !f.together {
			w[1] = append(w[1], byte(RungHashType))
			w = append(w, slices.Clone(s.Secret[:]))
		}
		tx.TxIn[i].Witness = append(w, b.leaves[leaf].Script, b.control[leaf])
	}
	return tx, nil
}

// FinalPayout is a payee's output of a final transaction.
type FinalPayout struct {
	Bank  *Bank
	At    wire.Outpoint
	Value wire.Sat
	Key   wire.Secret // of FinalPart.Payout
}

// BuildPayouts builds and signs one transaction that pays payouts to script,
// one block after the final transaction, at rate or at a fee of at least
// minFee. It may return ErrUneconomic.
func BuildPayouts(payouts []FinalPayout, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
	tx := btcwire.NewMsgTx(TxVersion)
	prev := txscript.NewMultiPrevOutFetcher(nil)
	weight := int64(TxOverheadWeight) + P2TROutputWeight + int64(len(payouts))*ChangeInputWeight()
	leaves, controls := make([]txscript.TapLeaf, len(payouts)), make([][]byte, len(payouts))
	var total wire.Sat
	for i, p := range payouts {
		priv, err := p.Key.PrivKey()
		if err != nil {
			return nil, 0, err
		}
		out, leaf, control, err := p.Bank.payout(wire.XOnly(priv.PubKey()))
		if err != nil {
			return nil, 0, err
		}
		leaves[i], controls[i] = leaf, control
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: OutPoint(p.At), Sequence: 1})
		prev.AddPrevOut(OutPoint(p.At), btcwire.NewTxOut(int64(p.Value), out))
		total += p.Value
	}
	fee, err := payRest(tx, script, total, weight, rate, minFee)
	if err != nil {
		return nil, 0, err
	}
	hashes := txscript.NewTxSigHashes(tx, prev)
	for n, p := range payouts {
		sig, err := signLeaf(tx, hashes, prev, n, leaves[n], p.Key)
		if err != nil {
			return nil, 0, err
		}
		tx.TxIn[n].Witness = btcwire.TxWitness{sig, leaves[n].Script, controls[n]}
	}
	return tx, fee, nil
}

// PayoutScript returns the script of the output that a final transaction pays to a
// payee's key.
func (b *Bank) PayoutScript(key wire.Key) ([]byte, error) {
	script, _, _, err := b.payout(key)
	return script, err
}
