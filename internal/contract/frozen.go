// Package contract contains Bitgram's Bitcoin scripts and transactions and
// their weights. It is pure; scripts and digests are computed with btcd's code.
//
// A frozen output (spec/delivery.md §4) is P2TR. Its internal key is NUMS +
// r·G, for which nobody can sign and whose r is disclosed. It has only these
// leaves:
//
//	claim i:  SIZE 32 EQUALVERIFY SHA256 <SHA256(σᵢ)> EQUALVERIFY
//	          <S″ᵢ> CHECKSIGVERIFY <A′ᵢ> CHECKSIG
//	refund:   <T> CHECKLOCKTIMEVERIFY DROP <S′> CHECKSIG
//
// It can be spent by agent i, with σᵢ, its own signature and the sender's
// pre-signature completed by τᵢ, at any height; and by the sender alone, from
// height T on.
package contract

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// Fixed fields of every claim; the pre-signature commits to them.
const (
	TxVersion = 2
	// Sequence signals replaceability and disables the relative locktime.
	Sequence = 0xfffffffd
	// SenderHashType is the hash type of S″'s signature, NONE|ANYONECANPAY, so
	// that the agent can batch claims and set the fee.
	SenderHashType = txscript.SigHashNone | txscript.SigHashAnyOneCanPay
)

// numsX is H of BIP341: the x coordinate of a point whose discrete logarithm
// nobody knows.
var numsX = wire.Key{0x50, 0x92, 0x9b, 0x74, 0xc1, 0xa0, 0x49, 0x54, 0xb7, 0x8b, 0x4b, 0x60, 0x35, 0xe9, 0x7a, 0x5e,
	0x07, 0x8a, 0x5a, 0x0f, 0x28, 0xec, 0x96, 0xd5, 0x47, 0xbf, 0xee, 0x9a, 0xce, 0x80, 0x3a, 0xc0}

// InternalKey is NUMS + blinding·G.
func InternalKey(blinding wire.Secret) (*btcec.PublicKey, error) {
	var r btcec.ModNScalar
	if r.SetBytes((*[32]byte)(&blinding)) != 0 || r.IsZero() {
		return nil, fmt.Errorf("blinding: %w", wire.ErrBadKey)
	}
	base, err := numsX.Point()
	if err != nil {
		return nil, err
	}
	var b, rG, sum btcec.JacobianPoint
	base.AsJacobian(&b)
	btcec.ScalarBaseMultNonConst(&r, &rG)
	btcec.AddNonConst(&b, &rG, &sum)
	if isInfinity(&sum) {
		return nil, fmt.Errorf("blinding: %w", wire.ErrBadKey)
	}
	sum.ToAffine()
	return btcec.NewPublicKey(&sum.X, &sum.Y), nil
}

// ClaimScript is the tapscript of one claim leaf, 107 bytes.
func ClaimScript(c wire.ClaimLeaf) []byte {
	return build(txscript.NewScriptBuilder().
		AddOp(txscript.OP_SIZE).AddInt64(32).AddOp(txscript.OP_EQUALVERIFY).
		AddOp(txscript.OP_SHA256).AddData(c.ReleaseHash[:]).AddOp(txscript.OP_EQUALVERIFY).
		AddData(c.SenderKey[:]).AddOp(txscript.OP_CHECKSIGVERIFY).
		AddData(c.ClaimKey[:]).AddOp(txscript.OP_CHECKSIG))
}

// RefundScript is the tapscript of the refund leaf.
func RefundScript(expiry wire.Height, key wire.Key) []byte {
	return build(txscript.NewScriptBuilder().
		AddInt64(int64(expiry)).AddOp(txscript.OP_CHECKLOCKTIMEVERIFY).AddOp(txscript.OP_DROP).
		AddData(key[:]).AddOp(txscript.OP_CHECKSIG))
}

func build(b *txscript.ScriptBuilder) []byte {
	s, err := b.Script()
	if err != nil {
		panic(err) // only over-long scripts fail, and these have fixed size
	}
	return s
}

// Output is a frozen output with its script tree.
type Output struct {
	frozen   wire.Frozen
	internal *btcec.PublicKey
	pkScript []byte
	leaves   []txscript.TapLeaf // claims in order, refund last
	control  [][]byte           // control block of each leaf
}

// NewOutput computes the output of f. Errors wrap wire.ErrMalformed or
// wire.ErrBadKey.
func NewOutput(f wire.Frozen) (*Output, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	internal, err := InternalKey(f.Blinding)
	if err != nil {
		return nil, err
	}
	o := &Output{frozen: f, internal: internal}
	for _, c := range f.Claims {
		o.leaves = append(o.leaves, txscript.NewBaseTapLeaf(ClaimScript(c)))
	}
	o.leaves = append(o.leaves, txscript.NewBaseTapLeaf(RefundScript(f.Expiry, f.RefundKey)))
	o.pkScript, o.control, err = assemble(internal, o.leaves)
	return o, err
}

// assemble computes the P2TR script of internal and leaves, and each leaf's
// control block (BIP341).
func assemble(internal *btcec.PublicKey, leaves []txscript.TapLeaf) (pkScript []byte, control [][]byte, err error) {
	paths := make([][]byte, len(leaves))
	root := merge(leaves, paths).TapHash()
	key := txscript.ComputeTaprootOutputKey(internal, root[:])
	if pkScript, err = txscript.PayToTaprootScript(key); err != nil {
		return nil, nil, err
	}
	odd := key.SerializeCompressed()[0] == 3
	for i, path := range paths {
		cb := txscript.ControlBlock{InternalKey: internal, OutputKeyYIsOdd: odd,
			LeafVersion: leaves[i].LeafVersion, InclusionProof: path}
		raw, err := cb.ToBytes()
		if err != nil {
			return nil, nil, err
		}
		control = append(control, raw)
	}
	return pkScript, control, nil
}

// merge builds the BIP341 tree in RFC 6962 shape: the left side has the largest
// power of two below the number of leaves. It appends to each leaf's path its
// siblings, from the bottom up.
func merge(leaves []txscript.TapLeaf, paths [][]byte) txscript.TapNode {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	l, r := merge(leaves[:k], paths[:k]), merge(leaves[k:], paths[k:])
	lh, rh := l.TapHash(), r.TapHash()
	for i := range paths {
		sibling := rh
		if i >= k {
			sibling = lh
		}
		paths[i] = append(paths[i], sibling[:]...)
	}
	return txscript.NewTapBranch(l, r)
}

// Frozen returns the values from which the output was computed.
func (o *Output) Frozen() wire.Frozen { return o.frozen }

// PkScript returns the output's 34-byte script.
func (o *Output) PkScript() []byte { return o.pkScript }

// ClaimDigest returns the BIP341 digest that S″ of claim i signs. It commits to
// the outpoint, the value, the script and the claim's fixed version, locktime
// and sequence, and to nothing else of the claiming transaction.
func (o *Output) ClaimDigest(i int, at wire.Outpoint, value wire.Sat) (wire.Hash, error) {
	if i < 0 || i >= len(o.frozen.Claims) {
		return wire.Hash{}, fmt.Errorf("no claim leaf %d", i)
	}
	tx := btcwire.NewMsgTx(TxVersion)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: OutPoint(at), Sequence: Sequence})
	prev := txscript.NewCannedPrevOutputFetcher(o.pkScript, int64(value))
	d, err := txscript.CalcTapscriptSignaturehash(txscript.NewTxSigHashes(tx, prev), SenderHashType, tx, 0, prev, o.leaves[i])
	if err != nil {
		return wire.Hash{}, err
	}
	return wire.Hash(d), nil
}

// OutPoint converts to btcd's type.
func OutPoint(o wire.Outpoint) btcwire.OutPoint {
	return btcwire.OutPoint{Hash: [32]byte(o.Txid), Index: o.Vout}
}

// OutpointOf converts from btcd's type.
func OutpointOf(o btcwire.OutPoint) wire.Outpoint {
	return wire.Outpoint{Txid: wire.Hash(o.Hash), Vout: o.Index}
}

// Spend says how a transaction input spent a frozen output.
type Spend struct {
	// Claim is the index of the claim leaf that was used, -1 for the refund.
	Claim     int
	Sigma     wire.Secret    // of a claim
	SenderSig wire.Signature // of a claim: S″'s
}

// ErrNotOurs means a witness that uses no leaf of this output.
var ErrNotOurs = errors.New("witness uses no leaf of this output")

// ReadSpend returns through which leaf a confirmed input spent the output, and
// a claim's secrets. It assumes that the witness is valid, because consensus
// checked it.
func (o *Output) ReadSpend(w btcwire.TxWitness) (Spend, error) {
	// BIP341: a last element that starts with 0x50 is an annex.
	if n := len(w); n >= 2 && len(w[n-1]) > 0 && w[n-1][0] == txscript.TaprootAnnexTag {
		w = w[:n-1]
	}
	if len(w) < 3 {
		return Spend{}, ErrNotOurs
	}
	script, args := w[len(w)-2], w[:len(w)-2]
	for i, l := range o.leaves {
		if !bytes.Equal(l.Script, script) {
			continue
		}
		if i == len(o.frozen.Claims) {
			return Spend{Claim: -1}, nil
		}
		if len(args) != 3 || len(args[2]) != 32 || (len(args[1]) != 65 && len(args[1]) != 64) {
			return Spend{}, ErrNotOurs
		}
		return Spend{Claim: i, Sigma: wire.Secret(args[2]), SenderSig: wire.Signature(args[1][:64])}, nil
	}
	return Spend{}, ErrNotOurs
}

// signLeaf signs input n of tx by a leaf with SIGHASH_DEFAULT.
func signLeaf(tx *btcwire.MsgTx, hashes *txscript.TxSigHashes, prev txscript.PrevOutputFetcher, n int, leaf txscript.TapLeaf, key wire.Secret) ([]byte, error) {
	d, err := txscript.CalcTapscriptSignaturehash(hashes, txscript.SigHashDefault, tx, n, prev, leaf)
	if err != nil {
		return nil, err
	}
	priv, err := key.PrivKey()
	if err != nil {
		return nil, err
	}
	sig, err := schnorr.Sign(priv, d)
	if err != nil {
		return nil, err
	}
	return sig.Serialize(), nil
}

// ValueIn returns the value of output vout of tx, whose script must be this
// frozen output's.
func (o *Output) ValueIn(tx Tx, vout uint32) (wire.Sat, error) {
	if uint64(vout) >= uint64(len(tx.TxOut)) {
		return 0, fmt.Errorf("no output %d", vout)
	}
	out := tx.TxOut[vout]
	if !bytes.Equal(out.PkScript, o.pkScript) {
		return 0, errors.New("output is not the frozen output of these leaves")
	}
	if out.Value < 0 || out.Value > int64(wire.MaxSat) {
		return 0, fmt.Errorf("value %d", out.Value)
	}
	return wire.Sat(out.Value), nil
}
