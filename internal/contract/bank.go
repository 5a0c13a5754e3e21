package contract

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/crypto/ripemd160" //lint:ignore SA1019 OP_HASH160 has it

	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// RungHashType is the hash type of the payer's signature of a rung,
// SINGLE|ANYONECANPAY. It commits to the change at the same index and to no
// other output or input, so the payee can add inputs and outputs and set the
// fee.
const RungHashType = txscript.SigHashSingle | txscript.SigHashAnyOneCanPay

// RungScript returns the tapscript of a rung, 91 bytes:
//
//	HASH160 <h_g> EQUALVERIFY <payer> CHECKSIGVERIFY <payee> CHECKSIG
func RungScript(lock [20]byte, payer, payee wire.Key) []byte {
	return build(txscript.NewScriptBuilder().
		AddOp(txscript.OP_HASH160).AddData(lock[:]).AddOp(txscript.OP_EQUALVERIFY).
		AddData(payer[:]).AddOp(txscript.OP_CHECKSIGVERIFY).
		AddData(payee[:]).AddOp(txscript.OP_CHECKSIG))
}

// TogetherScript returns the tapscript of a cooperative close, 68 bytes.
func TogetherScript(payer, payee wire.Key) []byte {
	return build(txscript.NewScriptBuilder().
		AddData(payer[:]).AddOp(txscript.OP_CHECKSIGVERIFY).
		AddData(payee[:]).AddOp(txscript.OP_CHECKSIG))
}

// ChangeScript returns the tapscript of the payer's change, 37 bytes. It delays
// the spend by a block, so the change cannot be used to pin the close.
func ChangeScript(payer wire.Key) []byte {
	return build(txscript.NewScriptBuilder().
		AddInt64(1).AddOp(txscript.OP_CHECKSEQUENCEVERIFY).AddOp(txscript.OP_DROP).
		AddData(payer[:]).AddOp(txscript.OP_CHECKSIG))
}

// Lock returns a rung's h_g, the HASH160 of its penny's secret.
func Lock(secret []byte) (h [20]byte) {
	sum := sha256.Sum256(secret)
	r := ripemd160.New()
	_, _ = r.Write(sum[:]) // never fails
	copy(h[:], r.Sum(nil))
	return h
}

// Bank is a penny bank's output with its script tree: the rungs in order,
// together, refund.
type Bank struct {
	terms    wire.BankTerms
	ladder   penny.Ladder
	leaves   []txscript.TapLeaf
	control  [][]byte
	pkScript []byte

	changeLeaf    txscript.TapLeaf
	changeControl []byte
	changeScript  []byte
}

// NewBank computes the output of terms. Errors wrap wire.ErrMalformed,
// wire.ErrBadKey or penny.ErrLadder.
func NewBank(b wire.BankTerms) (*Bank, error) {
	if err := b.Check(); err != nil {
		return nil, err
	}
	o := &Bank{terms: b, ladder: penny.Ladder{Value: b.Value, Rungs: uint32(len(b.Locks)), PerRung: b.PerRung}}
	if err := o.ladder.Check(); err != nil {
		return nil, err
	}
	internal, err := InternalKey(b.Blinding)
	if err != nil {
		return nil, err
	}
	for _, h := range b.Locks {
		o.leaves = append(o.leaves, txscript.NewBaseTapLeaf(RungScript(h, b.Payer, b.Payee)))
	}
	o.leaves = append(o.leaves, txscript.NewBaseTapLeaf(TogetherScript(b.Payer, b.Payee)),
		txscript.NewBaseTapLeaf(RefundScript(b.Expiry, b.Payer)))
	if o.pkScript, o.control, err = assemble(internal, o.leaves); err != nil {
		return nil, err
	}
	return o, o.setChange(internal)
}

func (b *Bank) setChange(internal *btcec.PublicKey) error {
	b.changeLeaf = txscript.NewBaseTapLeaf(ChangeScript(b.terms.Payer))
	script, control, err := assemble(internal, []txscript.TapLeaf{b.changeLeaf})
	if err == nil {
		b.changeScript, b.changeControl = script, control[0]
	}
	return err
}

// Terms returns the terms of the output.
func (b *Bank) Terms() wire.BankTerms { return b.terms }

// Ladder returns the ladder that divides the bank's value.
func (b *Bank) Ladder() penny.Ladder { return b.ladder }

// Chain returns the parameters of the bank's hash chain.
func (b *Bank) Chain() penny.Chain {
	return penny.Chain{Nonce: b.terms.Nonce, Size: wire.PennySize}
}

// Last returns the bank's public penny p_N.
func (b *Bank) Last() penny.Penny {
	p := penny.Penny{Seq: b.ladder.N()}
	copy(p.Secret[:], b.terms.Last[:])
	return p
}

// PkScript returns the output's script.
func (b *Bank) PkScript() []byte { return b.pkScript }

// Parties returns the keys by which the bank's spends are recognised.
func (b *Bank) Parties() *BankParties {
	return &BankParties{Payer: b.terms.Payer, Payee: b.terms.Payee, Expiry: b.terms.Expiry, Ladder: b.ladder}
}

// Change returns the payer's output of a close at rung g.
func (b *Bank) Change(g uint32) *btcwire.TxOut {
	return btcwire.NewTxOut(int64(b.ladder.Change(g)), b.changeScript)
}

// Funding builds the unsigned funding transaction: the bank, then change unless
// it is nil. All inputs must be segwit, so that the txid is final before they
// are signed.
func (b *Bank) Funding(inputs []wire.Outpoint, change wire.Sat, changeScript []byte) *btcwire.MsgTx {
	tx := btcwire.NewMsgTx(TxVersion)
	for _, in := range inputs {
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: OutPoint(in), Sequence: Sequence})
	}
	tx.AddTxOut(btcwire.NewTxOut(int64(b.terms.Value), b.pkScript))
	if change > 0 {
		tx.AddTxOut(btcwire.NewTxOut(int64(change), changeScript))
	}
	return tx
}

// BankFundingWeight is the weight of a bank's funding without inputs and change.
const BankFundingWeight = TxOverheadWeight + P2TROutputWeight

// together and refund return the indices of the leaves after the rungs.
func (b *Bank) together() int { return len(b.terms.Locks) }
func (b *Bank) refund() int   { return len(b.terms.Locks) + 1 }

// ErrNotIn means that a transaction's output does not match the terms.
var ErrNotIn = errors.New("not the output of these terms")

// In checks that output vout of tx is this bank, with the same script and
// value. Otherwise it returns ErrNotIn.
func (b *Bank) In(tx Tx, vout uint32) error {
	if uint64(vout) >= uint64(len(tx.TxOut)) {
		return fmt.Errorf("%w: no output %d", ErrNotIn, vout)
	}
	if out := tx.TxOut[vout]; !bytes.Equal(out.PkScript, b.pkScript) || out.Value != int64(b.terms.Value) {
		return ErrNotIn
	}
	return nil
}

// Opens reports whether a penny's secret opens the lock of rung g; the first
// rung is 1.
func (b *Bank) Opens(g uint32, secret []byte) bool {
	return g >= 1 && g <= b.ladder.Rungs && Lock(secret) == b.terms.Locks[g-1]
}

// RungDigest returns the BIP341 digest that the payer signs for rung g. It
// commits to the outpoint, the value, the leaf, version, locktime, sequence and
// the change.
func (b *Bank) RungDigest(g uint32, at wire.Outpoint) (wire.Hash, error) {
	if g < 1 || g > b.ladder.Rungs {
		return wire.Hash{}, fmt.Errorf("no rung %d", g)
	}
	tx := btcwire.NewMsgTx(TxVersion)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: OutPoint(at), Sequence: Sequence})
	tx.AddTxOut(b.Change(g))
	prev := txscript.NewCannedPrevOutputFetcher(b.pkScript, int64(b.terms.Value))
	d, err := txscript.CalcTapscriptSignaturehash(txscript.NewTxSigHashes(tx, prev), RungHashType, tx, 0, prev, b.leaves[g-1])
	return wire.Hash(d), err
}

// SignRungs returns the payer's signatures of all rungs. They are all that the
// payer ever signs for rung closes.
func (b *Bank) SignRungs(at wire.Outpoint, payer wire.Secret) ([]wire.Signature, error) {
	priv, err := payer.PrivKey()
	if err != nil {
		return nil, err
	}
	if wire.XOnly(priv.PubKey()) != b.terms.Payer {
		return nil, fmt.Errorf("payer: %w", wire.ErrBadKey)
	}
	list := make([]wire.Signature, b.ladder.Rungs)
	err = b.eachRung(func(g uint32) error {
		d, err := b.RungDigest(g, at)
		if err != nil {
			return err
		}
		// The payee verifies all of them, so skip the verification here.
		sig, err := schnorr.Sign(priv, d[:], schnorr.FastSign())
		if err == nil {
			copy(list[g-1][:], sig.Serialize())
		}
		return err
	})
	return list, err
}

// eachRung calls f for every rung, on up to two processors, and returns the
// error of the lowest rung that failed.
func (b *Bank) eachRung(f func(g uint32) error) error {
	const workers = 2
	var errs [workers]error
	var wg sync.WaitGroup
	half := b.ladder.Rungs / workers
	for i, part := range [workers][2]uint32{{1, half}, {half + 1, b.ladder.Rungs}} {
		wg.Go(func() {
			for g := part[0]; g <= part[1] && errs[i] == nil; g++ {
				errs[i] = f(g)
			}
		})
	}
	wg.Wait()
	return cmp.Or(errs[:]...)
}

// ErrRungSignature means that a rung's signature does not verify.
var ErrRungSignature = errors.New("false signature of a rung")

// batchFrom is the number of rungs from which their signatures are verified
// together.
const batchFrom = 8

// VerifyRungs verifies the signatures of all rungs; the payee must do so before
// it accepts a penny. It returns ErrRungSignature.
func (b *Bank) VerifyRungs(at wire.Outpoint, sigs []wire.Signature) error {
	if len(sigs) != len(b.terms.Locks) {
		return fmt.Errorf("%w: %d for %d rungs", ErrRungSignature, len(sigs), len(b.terms.Locks))
	}
	digests := make([]wire.Hash, len(sigs))
	if err := b.eachRung(func(g uint32) (err error) {
		digests[g-1], err = b.RungDigest(g, at)
		return err
	}); err != nil {
		return err
	}
	if len(sigs) >= batchFrom {
		if !verifyAll(b.terms.Payer, digests, sigs) {
			return fmt.Errorf("%w, of %d rungs", ErrRungSignature, len(sigs))
		}
		return nil
	}
	for i, d := range digests {
		if b.terms.Payer.Verify(d, sigs[i]) != nil {
			return fmt.Errorf("%w: rung %d", ErrRungSignature, i+1)
		}
	}
	return nil
}

// BankClose is one bank in a rung close.
type BankClose struct {
	Bank   *Bank
	At     wire.Outpoint
	Rung   uint32
	Sig    wire.Signature // the payer's of that rung
	Secret []byte         // the rung's penny
	Payee  wire.Secret
}

// Coin is an output, locked to a BIP86 key, that pays for a fee.
type Coin struct {
	At  wire.Outpoint
	Out *btcwire.TxOut
}

// BuildClose builds one transaction that closes banks, each at its rung, and
// pays the payee's part to script, at rate or at a fee of at least minFee. The
// change of each input is at the input's own index. The payee's inputs are
// signed; the inputs of coins, which pay the part of the fee that the banks do
// not, are not. It returns the fee, or ErrUneconomic if the payee's output
// would be dust.
func BuildClose(closes []BankClose, coins []Coin, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
	if len(closes) == 0 {
		return nil, 0, errors.New("no bank to close")
	}
	tx := btcwire.NewMsgTx(TxVersion)
	prev := txscript.NewMultiPrevOutFetcher(nil)
	weight := TxOverheadWeight + P2TROutputWeight + int64(len(coins))*KeySpendInputWeight
	var total wire.Sat
	for _, c := range closes {
		if !c.Bank.Opens(c.Rung, c.Secret) {
			return nil, 0, fmt.Errorf("rung %d: %w", c.Rung, penny.ErrFalse)
		}
		op := OutPoint(c.At)
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: op, Sequence: Sequence})
		tx.AddTxOut(c.Bank.Change(c.Rung))
		prev.AddPrevOut(op, btcwire.NewTxOut(int64(c.Bank.terms.Value), c.Bank.pkScript))
		weight += RungInputWeight(int(c.Rung-1), len(c.Bank.terms.Locks)) + P2TROutputWeight
		total += c.Bank.ladder.Share(c.Rung)
	}
	for _, c := range coins {
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: OutPoint(c.At), Sequence: Sequence})
		prev.AddPrevOut(OutPoint(c.At), c.Out)
		total += wire.Sat(c.Out.Value)
	}
	weight += CountWeight(len(tx.TxOut) + 1)
	fee, err := payRest(tx, script, total, weight, rate, minFee)
	if err != nil {
		return nil, 0, err
	}
	hashes := txscript.NewTxSigHashes(tx, prev)
	for n, c := range closes {
		leaf := int(c.Rung - 1)
		sig, err := signLeaf(tx, hashes, prev, n, c.Bank.leaves[leaf], c.Payee)
		if err != nil {
			return nil, 0, err
		}
		tx.TxIn[n].Witness = btcwire.TxWitness{sig, append(slices.Clone(c.Sig[:]), byte(RungHashType)),
			slices.Clone(c.Secret), c.Bank.leaves[leaf].Script, c.Bank.control[leaf]}
	}
	return tx, fee, nil
}

// Together builds the unsigned cooperative close of a bank: payer sat to the
// payer, delayed by a block, and the rest less the fee to the payee's script.
// It returns ErrUneconomic if an output would be dust or the payer's is below
// its change at rung.
func (b *Bank) Together(at wire.Outpoint, rung uint32, payer wire.Sat, script []byte, fee wire.Sat) (*btcwire.MsgTx, error) {
	rest := b.terms.Value - payer - fee
	if payer < b.ladder.Change(rung) || payer > b.terms.Value || fee < 0 || fee > b.terms.Value || rest < Dust {
		return nil, fmt.Errorf("%w: %v to the payer, %v of fee, %v in the bank", ErrUneconomic, payer, fee, b.terms.Value)
	}
	tx := btcwire.NewMsgTx(TxVersion)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: OutPoint(at), Sequence: Sequence})
	tx.AddTxOut(btcwire.NewTxOut(int64(payer), b.changeScript))
	tx.AddTxOut(btcwire.NewTxOut(int64(rest), script))
	return tx, nil
}

// SignTogether signs a cooperative close for one side.
func (b *Bank) SignTogether(tx Tx, key wire.Secret) (sig wire.Signature, err error) {
	prev := txscript.NewCannedPrevOutputFetcher(b.pkScript, int64(b.terms.Value))
	raw, err := signLeaf(tx, txscript.NewTxSigHashes(tx, prev), prev, 0, b.leaves[b.together()], key)
	copy(sig[:], raw)
	return sig, err
}

// TogetherDigest returns the digest that both sides of a cooperative close
// sign.
func (b *Bank) TogetherDigest(tx Tx) (wire.Hash, error) {
	prev := txscript.NewCannedPrevOutputFetcher(b.pkScript, int64(b.terms.Value))
	d, err := txscript.CalcTapscriptSignaturehash(txscript.NewTxSigHashes(tx, prev), txscript.SigHashDefault, tx, 0, prev, b.leaves[b.together()])
	return wire.Hash(d), err
}

// Join sets the witness of a cooperative close from both signatures.
func (b *Bank) Join(tx Tx, payer, payee wire.Signature) {
	i := b.together()
	tx.TxIn[0].Witness = btcwire.TxWitness{slices.Clone(payee[:]), slices.Clone(payer[:]), b.leaves[i].Script, b.control[i]}
}

// BankRefund is an output that the payer spends back: a bank after its expiry,
// or the change of a close one block after it.
type BankRefund struct {
	Bank   *Bank
	At     wire.Outpoint
	Value  wire.Sat // of a change; for a bank, its own value is used
	Change bool
	Payer  wire.Secret
}

// BuildBankRefund builds and signs one transaction that pays refunds to script,
// at rate or at a fee of at least minFee. It is final from the block after the
// highest expiry; changes need one block more. It may return ErrUneconomic.
func BuildBankRefund(refunds []BankRefund, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
	tx := btcwire.NewMsgTx(TxVersion)
	prev := txscript.NewMultiPrevOutFetcher(nil)
	weight := int64(TxOverheadWeight) + P2TROutputWeight
	var total wire.Sat
	for _, r := range refunds {
		in, out := &btcwire.TxIn{PreviousOutPoint: OutPoint(r.At), Sequence: Sequence}, btcwire.NewTxOut(int64(r.Bank.terms.Value), r.Bank.pkScript)
		if r.Change {
			in.Sequence, out = 1, btcwire.NewTxOut(int64(r.Value), r.Bank.changeScript)
			weight += ChangeInputWeight()
		} else {
			tx.LockTime = max(tx.LockTime, uint32(r.Bank.terms.Expiry))
			weight += BankRefundInputWeight(r.Bank.terms.Expiry, len(r.Bank.terms.Locks))
		}
		tx.AddTxIn(in)
		prev.AddPrevOut(in.PreviousOutPoint, out)
		total += wire.Sat(out.Value)
	}
	fee, err := payRest(tx, script, total, weight, rate, minFee)
	if err != nil {
		return nil, 0, err
	}
	hashes := txscript.NewTxSigHashes(tx, prev)
	for n, r := range refunds {
		leaf, control := r.Bank.changeLeaf, r.Bank.changeControl
		if !r.Change {
			leaf, control = r.Bank.leaves[r.Bank.refund()], r.Bank.control[r.Bank.refund()]
		}
		sig, err := signLeaf(tx, hashes, prev, n, leaf, r.Payer)
		if err != nil {
			return nil, 0, err
		}
		tx.TxIn[n].Witness = btcwire.TxWitness{sig, leaf.Script, control}
	}
	return tx, fee, nil
}

// BankSpend says how an input spent a bank.
type BankSpend struct {
	Rung     uint32   // at which it was closed; 0 for the other two
	Secret   []byte   // the rung's penny
	Together bool     // by both sides; the refund otherwise
	Change   wire.Sat // the payer's delayed output, at the input's index
	Value    wire.Sat // of the bank
	// Joint means that both sides closed it in one transaction with a job's other
	// banks (spec/job.md §7): Change, of the first input, is the payer's for all of
	// them, and the other inputs have none.
	Joint bool `cbor:",omitempty"`
}

// BankParties contains the keys by which a bank's spends are recognised.
type BankParties struct {
	Payer, Payee wire.Key
	Expiry       wire.Height
	Ladder       penny.Ladder
}

// ReadSpend returns through which leaf input n of a confirmed transaction spent
// the bank, or ErrNotOurs. It assumes that the input is valid, because
// consensus checked it. So the rung follows from its change, which the payer
// signed.
func (p *BankParties) ReadSpend(tx Tx, n int) (BankSpend, error) {
	w := tx.TxIn[n].Witness
	// BIP341: a last element that starts with 0x50 is an annex.
	if l := len(w); l >= 2 && len(w[l-1]) > 0 && w[l-1][0] == txscript.TaprootAnnexTag {
		w = w[:l-1]
	}
	if len(w) < 3 {
		return BankSpend{}, ErrNotOurs
	}
	out := BankSpend{Value: p.Ladder.Value}
	script, args := w[len(w)-2], w[:len(w)-2]
	if bytes.Equal(script, RefundScript(p.Expiry, p.Payer)) {
		return out, nil
	}
	if n < len(tx.TxOut) {
		out.Change = wire.Sat(tx.TxOut[n].Value)
	}
	if bytes.Equal(script, TogetherScript(p.Payer, p.Payee)) {
		out.Together, out.Joint = true, len(tx.TxIn) > 1
		if out.Joint && n > 0 {
			out.Change = 0
		}
		return out, nil
	}
	if n >= len(tx.TxOut) || len(args) != 3 || !bytes.Equal(script, RungScript(Lock(args[2]), p.Payer, p.Payee)) {
		return out, ErrNotOurs
	}
	out.Secret = slices.Clone(args[2])
	out.Rung = 1 + uint32(sort.Search(int(p.Ladder.Rungs)-1, func(i int) bool { return p.Ladder.Change(uint32(i)+1) <= out.Change }))
	if p.Ladder.Change(out.Rung) != out.Change {
		return out, ErrNotOurs
	}
	return out, nil
}
