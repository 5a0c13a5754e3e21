package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// ErrUneconomic means that a transaction's fee leaves less than dust.
var ErrUneconomic = errors.New("not worth its fee")

// Funding builds the unsigned funding transaction: the frozen outputs in
// order, then the OP_RETURN with marker, then change unless it is nil. All
// inputs must be segwit, so that the txid is final before they are signed.
func Funding(inputs []wire.Outpoint, frozen []*btcwire.TxOut, marker []byte, change *btcwire.TxOut) (*btcwire.MsgTx, error) {
	tx := btcwire.NewMsgTx(TxVersion)
	for _, in := range inputs {
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: OutPoint(in), Sequence: Sequence})
	}
	for _, o := range frozen {
		tx.AddTxOut(o)
	}
	data, err := txscript.NullDataScript(marker)
	if err != nil {
		return nil, err
	}
	tx.AddTxOut(btcwire.NewTxOut(0, data))
	if change != nil {
		tx.AddTxOut(change)
	}
	return tx, nil
}

// Marker returns the data of tx's bitgram OP_RETURN; ok is false if there is
// none or several.
func Marker(tx *btcwire.MsgTx) (data []byte, ok bool) {
	for _, o := range tx.TxOut {
		s := o.PkScript
		if len(s) != 3+MarkerSize || s[0] != txscript.OP_RETURN || s[1] != txscript.OP_PUSHDATA1 ||
			s[2] != MarkerSize || s[3] != 'b' || s[4] != 'g' {
			continue
		}
		if ok {
			return nil, false
		}
		data, ok = s[3:], true
	}
	return data, ok
}

// EncodeTx serialises tx without witnesses.
func EncodeTx(tx *btcwire.MsgTx) []byte {
	var b bytes.Buffer
	_ = tx.SerializeNoWitness(&b) // a bytes.Buffer does not fail
	return b.Bytes()
}

// DecodeTx decodes a transaction from its canonical serialisation without
// witnesses. Errors wrap wire.ErrMalformed. A transaction without inputs is
// refused, because its bytes would parse as the start of one with witnesses.
func DecodeTx(b []byte) (*btcwire.MsgTx, error) {
	if !plausible(b) {
		return nil, fmt.Errorf("%w: transaction: counts exceed its length", wire.ErrMalformed)
	}
	tx := btcwire.NewMsgTx(TxVersion)
	r := bytes.NewReader(b)
	if err := tx.DeserializeNoWitness(r); err != nil {
		return nil, fmt.Errorf("%w: transaction: %v", wire.ErrMalformed, err)
	}
	if r.Len() != 0 || !bytes.Equal(EncodeTx(tx), b) {
		return nil, fmt.Errorf("%w: transaction: trailing or non-canonical bytes", wire.ErrMalformed)
	}
	return tx, nil
}

// plausible reports whether b is long enough for the inputs and outputs that it
// announces. btcd allocates for a count before it reads on: 150 MB for ten
// bytes.
func plausible(b []byte) bool {
	const minInput, minOutput = 36 + 1 + 4, 8 + 1
	if len(b) < 4 {
		return false
	}
	r := bytes.NewReader(b[4:])
	inputs, err := btcwire.ReadVarInt(r, 0)
	if err != nil || inputs == 0 || inputs > uint64(r.Len()/minInput) {
		return false
	}
	for range inputs {
		if _, err = r.Seek(36, io.SeekCurrent); err != nil {
			return false
		}
		script, err := btcwire.ReadVarInt(r, 0)
		if err != nil || script > uint64(r.Len()) {
			return false
		}
		if _, err = r.Seek(int64(script)+4, io.SeekCurrent); err != nil {
			return false
		}
	}
	outputs, err := btcwire.ReadVarInt(r, 0)
	return err == nil && outputs <= uint64(r.Len()/minOutput)
}

// ReadTx decodes a transaction with witnesses.
func ReadTx(b []byte) (*btcwire.MsgTx, error) {
	tx := btcwire.NewMsgTx(TxVersion)
	if err := tx.Deserialize(bytes.NewReader(b)); err != nil {
		return nil, fmt.Errorf("%w: transaction: %v", wire.ErrMalformed, err)
	}
	return tx, nil
}

// Claim is one frozen output to claim.
type Claim struct {
	Output   *Output
	Index    int // of the claim leaf
	At       wire.Outpoint
	Value    wire.Sat
	PreSig   wire.PreSignature
	Sigma    wire.Secret
	Tau      wire.Secret
	ClaimKey wire.Secret
}

// BuildClaim builds and signs one transaction that pays all claims to script,
// at rate or at a fee of at least minFee. It returns the fee, or ErrUneconomic
// if the output would be dust.
func BuildClaim(claims []Claim, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
	weight := int64(TxOverheadWeight) + P2TROutputWeight
	tx := btcwire.NewMsgTx(TxVersion)
	prev := txscript.NewMultiPrevOutFetcher(nil)
	var total wire.Sat
	for _, c := range claims {
		op := OutPoint(c.At)
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: op, Sequence: Sequence})
		prev.AddPrevOut(op, btcwire.NewTxOut(int64(c.Value), c.Output.pkScript))
		weight += ClaimInputWeight(c.Index, len(c.Output.frozen.Claims))
		total += c.Value
	}
	fee, err := payRest(tx, script, total, weight, rate, minFee)
	if err != nil {
		return nil, 0, err
	}
	hashes := txscript.NewTxSigHashes(tx, prev)
	for n, c := range claims {
		agentSig, err := signLeaf(tx, hashes, prev, n, c.Output.leaves[c.Index], c.ClaimKey)
		if err != nil {
			return nil, 0, err
		}
		senderSig, err := Complete(c.PreSig, c.Tau)
		if err != nil {
			return nil, 0, err
		}
		tx.TxIn[n].Witness = btcwire.TxWitness{
			agentSig,
			append(senderSig[:], byte(SenderHashType)),
			append([]byte(nil), c.Sigma[:]...),
			c.Output.leaves[c.Index].Script,
			c.Output.control[c.Index],
		}
	}
	return tx, fee, nil
}

// Refund is one frozen output to refund.
type Refund struct {
	Output *Output
	At     wire.Outpoint
	Value  wire.Sat
	Key    wire.Secret
}

// Weight returns the weight of the refund's input.
func (r *Refund) Weight() int64 {
	return RefundInputWeight(r.Output.frozen.Expiry, len(r.Output.frozen.Claims))
}

// BuildRefund builds and signs one transaction that pays all refunds to script,
// at rate or at a fee of at least minFee. It is final from the block after the
// highest expiry. It returns ErrUneconomic if the output would be dust.
func BuildRefund(refunds []Refund, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
	weight := int64(TxOverheadWeight) + P2TROutputWeight
	tx := btcwire.NewMsgTx(TxVersion)
	prev := txscript.NewMultiPrevOutFetcher(nil)
	var total wire.Sat
	for _, r := range refunds {
		op := OutPoint(r.At)
		tx.LockTime = max(tx.LockTime, uint32(r.Output.frozen.Expiry))
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: op, Sequence: Sequence})
		prev.AddPrevOut(op, btcwire.NewTxOut(int64(r.Value), r.Output.pkScript))
		weight += r.Weight()
		total += r.Value
	}
	fee, err := payRest(tx, script, total, weight, rate, minFee)
	if err != nil {
		return nil, 0, err
	}
	hashes := txscript.NewTxSigHashes(tx, prev)
	for n, r := range refunds {
		i := len(r.Output.leaves) - 1
		sig, err := signLeaf(tx, hashes, prev, n, r.Output.leaves[i], r.Key)
		if err != nil {
			return nil, 0, err
		}
		tx.TxIn[n].Witness = btcwire.TxWitness{sig, r.Output.leaves[i].Script, r.Output.control[i]}
	}
	return tx, fee, nil
}

// payRest sets tx's single output: total less the fee.
func payRest(tx *btcwire.MsgTx, script []byte, total wire.Sat, weight int64, rate wire.SatPerKVB, minFee wire.Sat) (wire.Sat, error) {
	if len(tx.TxIn) == 0 {
		return 0, errors.New("no inputs")
	}
	weight += CountWeight(len(tx.TxIn))
	fee := max(rate.Fee(VSize(weight)), minFee)
	if total-fee < Dust {
		return 0, fmt.Errorf("%w: %v of inputs, %v of fee", ErrUneconomic, total, fee)
	}
	tx.AddTxOut(btcwire.NewTxOut(int64(total-fee), script))
	return fee, nil
}
